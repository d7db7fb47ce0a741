"""The command ``rxstream``: stream an answer in the terminal, from one model or from several side by side.

Exit codes: 0 every answer is complete; 1 a stream failed; 2 the command cannot be carried out as it was put; 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from rxstream.cli._demo import demo_tracks
from rxstream.cli._models import print_models
from rxstream.cli._plain import write
from rxstream.cli._track import Track
from rxstream.config import Target
from rxstream.creation import stream
from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.observable import Stream
from rxstream.providers import PROVIDERS

__all__ = ["main"]

LOCAL = "local:smollm2"
FAILED, UNUSABLE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments`, by default those of the process, and give its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["models"]:
            return print_models(given[1:])
        if given[:1] == ["demo"]:
            return _run(_demo_parser().parse_args(given[1:]), demo=True)
        return _run(_parser().parse_args(given), demo=False)
    except ConfigurationError as error:
        print(f"rxstream: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: so do we
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        print(f"rxstream: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rxstream",
        description="Stream a model's answer. Without -m the local model answers; with several, side by side.",
        epilog="Also: 'rxstream models' lists what can be used here, 'rxstream demo' shows two tracks. "
        "A prompt that is one of these words goes behind '--'.",
    )
    parser.add_argument(
        "prompt", nargs="*", help="what to ask; '-', or nothing in a pipe, reads it from standard input"
    )
    parser.add_argument("-m", "--model", action="append", default=[], metavar="PROVIDER:MODEL", help="may be repeated")
    parser.add_argument("-s", "--system", help="instructions for the model")
    parser.add_argument("-t", "--temperature", type=float)
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--base-url", help="another server that speaks the provider's dialect")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="give up after this time")
    _display(parser)
    return parser


def _demo_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rxstream demo", description="Two tracks: the local model beside another.")
    parser.add_argument("prompt", nargs="*", default=["Explain in two sentences why the sky is blue."])
    parser.add_argument(
        "-m", "--model", help="the other track; by default a cloud model whose key is in the environment"
    )
    _display(parser)
    return parser


def _display(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-p", "--plain", action="store_true", help="plain text, even in a terminal")
    parser.add_argument("-q", "--quiet", action="store_true", help="no figures on standard error")


def _run(options: argparse.Namespace, *, demo: bool) -> int:
    prompt = _prompt(options.prompt)
    tracks = demo_tracks(prompt, options.model) if demo else _tracks(options, prompt)
    return asyncio.run(_stream(tracks, plain=options.plain, quiet=options.quiet))


def _prompt(words: list[str]) -> str:
    text = " ".join(words)
    if text in ("", "-"):
        if not text and sys.stdin.isatty():
            raise ConfigurationError('there is no prompt; try: rxstream "Why is the sky blue?"')
        text = sys.stdin.read()
    if not text.strip():
        raise ConfigurationError("the prompt is empty")
    return text


def _tracks(options: argparse.Namespace, prompt: str) -> list[Track]:
    names: list[str] = options.model or [LOCAL]
    return [
        track(
            stream(
                name,
                prompt,
                system=options.system,
                temperature=options.temperature,
                max_tokens=options.max_tokens,
                base_url=options.base_url,
                timeouts=options.timeout,
                label=name if names.count(name) == 1 else f"{name} #{number}",
            ),
            name,
        )
        for number, name in enumerate(names, 1)
    ]


def track(source: Stream[Event], name: str) -> Track:
    """The track of the model `name`."""
    target = Target.parse(name, known=PROVIDERS)
    return Track(source, provider=target.provider, model=target.model)


async def _stream(tracks: Sequence[Track], *, plain: bool, quiet: bool) -> int:
    for one in tracks:
        one.start()
    display = asyncio.ensure_future(_display_tracks(tracks, plain=plain, quiet=quiet))
    try:
        await asyncio.shield(display)
    except asyncio.CancelledError:  # Ctrl-C: close the requests, then show what they had said
        for one in tracks:
            one.session.cancel("interrupted")
        await display
        return INTERRUPTED
    finally:
        for one in tracks:
            one.session.cancel("the command ended")
        display.cancel()
    if any(isinstance(one.error, ConfigurationError) for one in tracks):
        return UNUSABLE
    return FAILED if any(one.failed for one in tracks) else 0


async def _display_tracks(tracks: Sequence[Track], *, plain: bool, quiet: bool) -> None:
    if plain or not sys.stdout.isatty():
        await write(tracks, sys.stdout, sys.stderr, quiet=quiet)
        return
    try:
        from rich.console import Console  # noqa: PLC0415 - an optional package

        from rxstream.cli._show import show  # noqa: PLC0415 - needs it
    except ImportError:
        await write(tracks, sys.stdout, sys.stderr, quiet=quiet)
        print("rxstream: for the live picture: pip install 'rxstream[cli]'", file=sys.stderr)
        return
    await show(tracks, Console(highlight=False, markup=False, emoji=False))
