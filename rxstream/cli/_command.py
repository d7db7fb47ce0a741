"""What the command understands, and what it does: arguments to tracks, tracks to a display, the outcome to an exit code."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.metadata
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol, get_args

from rxstream.cli._demo import demo_tracks
from rxstream.cli._duo import duo_tracks
from rxstream.cli._events import JSONLines
from rxstream.cli._models import local_target, print_models
from rxstream.cli._plain import Plain
from rxstream.cli._track import Track
from rxstream.creation import stream
from rxstream.dual import Strategy
from rxstream.errors import ConfigurationError
from rxstream.sinks.console import printable

__all__ = ["run"]

COMPLETE, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130


class Display(Protocol):
    """How the tracks are shown."""

    def waiting(self, words: str, /) -> AbstractContextManager[None]:
        """Say what takes a moment, before anything is asked."""
        ...

    async def follow(self, tracks: Sequence[Track], /) -> None:
        """Start the tracks, and show them until the last is over."""
        ...


def run(arguments: Sequence[str] | None) -> int:
    """Run the command with `arguments`, by default those of the process, and give its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stderr is None:  # closed by whoever started us: nobody wants to know
        sys.stderr = io.StringIO()
    if sys.stdout is None:
        print("rxstream: the output cannot be written: it is closed", file=sys.stderr)
        return FAILED
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="replace")  # an answer may hold what the terminal's encoding lacks
    try:
        if given[:1] == ["certify"]:
            return int(_loaded("_certify").run_certify(given[1:]))
        if given[:1] == ["tape"]:
            return int(_loaded("_tape").run_tape(given[1:]))
        if given[:1] == ["models"]:
            return print_models(given[1:])
        if given[:1] == ["chaos-server"]:
            return int(_loaded("_chaos").chaos_server(given[1:]))
        if given[:1] == ["demo"]:
            options = _demo_parser().parse_args(given[1:])
            return _carry_out(options, lambda prompt: demo_tracks(prompt, options.model))
        if given[:1] == ["duo"]:
            options = _duo_parser().parse_args(given[1:])
            return _carry_out(options, partial(duo_tracks, options))
        options = _parser().parse_args(given)
        return _carry_out(options, partial(_tracks, options))
    except ConfigurationError as error:
        print(f"rxstream: {printable(str(error))}", file=sys.stderr)
        return UNUSABLE
    except OSError as error:
        _forget_output()
        if not isinstance(error, BrokenPipeError):  # else the reader has gone, and wants no more
            print(f"rxstream: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        return FAILED


def _loaded(name: str) -> Any:
    """A module of the command that is rarely wanted, and slow to load."""
    return importlib.import_module(f"rxstream.cli.{name}")


def _forget_output() -> None:
    """What could not be written must not be tried again when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


# --- arguments --------------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rxstream",
        description="Stream a model's answer. Without -m the local model answers; with several, side by side.",
        epilog="Also: 'rxstream models' lists what can be used here, 'rxstream demo' shows two tracks, 'rxstream duo' "
        "makes one answer of them, 'rxstream tape' shows and plays recorded streams, 'rxstream chaos-server' fails on "
        "demand, 'rxstream certify' tries a client. "
        "A prompt that is one of these words goes behind '--'.",
    )
    parser.add_argument(
        "prompt", nargs="*", help="what to ask; '-', or nothing in a pipe, reads it from standard input"
    )
    parser.add_argument("-m", "--model", action="append", default=[], metavar="PROVIDER:MODEL", help="may be repeated")
    parser.add_argument("-s", "--system", help="instructions for the model")
    parser.add_argument("-t", "--temperature", type=float, metavar="NUMBER")
    parser.add_argument("--max-tokens", type=int, metavar="COUNT")
    parser.add_argument("--base-url", metavar="URL", help="another server that speaks the provider's dialect")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="give up after this time")
    parser.add_argument(
        "--retries",
        type=_times,
        default=0,
        metavar="COUNT",
        help="when it fails before its first word, ask again so often",
    )
    parser.add_argument("--version", action="version", version=f"rxstream {_version()}")
    _add_display(parser)
    return parser


def _times(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number of at least 0")
    return int(text)


def _demo_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rxstream demo", description="Two tracks: the local model beside another.")
    parser.add_argument("prompt", nargs="*", default=["Explain in two sentences why the sky is blue."])
    parser.add_argument(
        "-m",
        "--model",
        metavar="PROVIDER:MODEL",
        help="the other track; by default a cloud model whose key is in the environment",
    )
    _add_display(parser)
    return parser


def _duo_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rxstream duo",
        description="A local and a cloud model as one, by a strategy.",
        epilog="local_first, cloud_first: the other is asked when one fails, or, with --after, is late. race: the first to "
        "speak. hedge: cloud_first, late after 1 s. draft: the local answer until the cloud's takes its place. "
        "side_by_side: both. failover: when the cloud fails in mid-answer, the local model begins anew.",
    )
    parser.add_argument("prompt", nargs="*", default=["Explain in two sentences why the sky is blue."])
    parser.add_argument("--strategy", choices=get_args(Strategy), default="draft", help="by default draft")
    parser.add_argument(
        "--local", metavar="PROVIDER:MODEL", help="the local track; by default the model of 'rxstream[local]'"
    )
    parser.add_argument(
        "-m",
        "--model",
        metavar="PROVIDER:MODEL",
        help="the cloud track; by default a model whose key is in the environment, else a stand-in for one",
    )
    parser.add_argument("--after", type=float, metavar="SECONDS", help="how late is late")
    parser.add_argument("--takeover", choices=("first_output", "first_sentence", "end"), help="of a draft")
    _add_display(parser)
    return parser


def _add_display(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("-p", "--plain", action="store_true", help="plain text, even in a terminal")
    how.add_argument("--events", action="store_true", help="the events as JSON Lines, for scripts")
    parser.add_argument("-q", "--quiet", action="store_true", help="no figures on standard error")


def _version() -> str:
    try:
        return importlib.metadata.version("rxstream")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed: run from its source)"


def _prompt(words: list[str]) -> str:
    text = " ".join(words)
    if text in ("", "-"):
        if sys.stdin is None or (not text and sys.stdin.isatty()):
            raise ConfigurationError('there is no prompt; try: rxstream "Why is the sky blue?"')
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError:
            text = "\udcff"
    if any("\ud800" <= char <= "\udfff" for char in text):  # how Python says that bytes were no text
        raise ConfigurationError(f"the prompt is not {sys.getfilesystemencoding()} text")
    if not text.strip():
        raise ConfigurationError("the prompt is empty")
    return text


# --- what is done ---------------------------------------------------------------------------------------------------------


def _carry_out(options: argparse.Namespace, make: Callable[[str], Sequence[Track]]) -> int:
    prompt = _prompt(options.prompt)
    display = _display(options)
    with display.waiting("getting ready …"):
        tracks = make(prompt)
        for track in tracks:
            track.preload()
    return asyncio.run(_stream(tracks, display))


def _tracks(options: argparse.Namespace, prompt: str) -> list[Track]:
    names: list[str] = options.model or [local_target()]
    return [
        Track(
            stream(
                name,
                prompt,
                system=options.system,
                temperature=options.temperature,
                max_tokens=options.max_tokens,
                base_url=options.base_url,
                timeouts=options.timeout,
                on_error={"action": "retry", "retry": {"attempts": options.retries + 1}} if options.retries else "fail",
                label=name if names.count(name) == 1 else f"{name} #{number}",
                keep_raw=False,
            ),
            target=name,
            base_url=options.base_url,
        )
        for number, name in enumerate(names, 1)
    ]


def _display(options: argparse.Namespace) -> Display:
    if options.events:
        return JSONLines(sys.stdout, sys.stderr)
    if options.plain or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return Plain(sys.stdout, sys.stderr, quiet=options.quiet)
    try:
        display: Display = importlib.import_module("rxstream.cli._show").Live()  # the adapter of rich
    except ImportError:
        print("rxstream: for the live picture: pip install 'rxstream[cli]'", file=sys.stderr)
        return Plain(sys.stdout, sys.stderr, quiet=options.quiet)
    return display


async def _stream(tracks: Sequence[Track], display: Display) -> int:
    following = asyncio.ensure_future(display.follow(tracks))
    try:
        await asyncio.shield(following)
    except asyncio.CancelledError:  # Ctrl-C: close the requests, then show what they had said
        for track in tracks:
            track.cancel("interrupted")
        await following
        return INTERRUPTED
    finally:
        for track in tracks:
            track.cancel("the command ended")
        following.cancel()
    if any(isinstance(track.error, ConfigurationError) for track in tracks):
        return UNUSABLE
    return FAILED if any(track.failed for track in tracks) else COMPLETE
