"""``rxstream chaos-server``: a server that fails as providers do, for clients of any kind."""

from __future__ import annotations

import argparse
import itertools
import queue
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rxstream.errors import ConfigurationError
from rxstream.sinks.console import printable
from rxstream.testing.chaos import (
    DIALECTS,
    ERRORS,
    FAULTS,
    ChaosServer,
    Fault,
    Faults,
    Plan,
    RandomFaults,
    Script,
    Served,
)
from rxstream.testing.chaos._faults import several

__all__ = ["chaos_server"]

_TEXT = "The sky looks blue because air scatters short waves of light far more than long ones. ☃ So ends the lesson."
_PLACES = ("at", "event", "content", "fraction")
_OPTIONS = {
    "place": "at, event, content or fraction: after so many bytes, events, events of content, or part of the body; "
    "by default content=1",
    "seconds": "how long; by default until the client leaves",
    "pings": "seconds between pings in a stall; 0 floods",
    "every, size": "seconds from piece to piece, and bytes",
    "retry_after, date": "seconds to wait that an HTTP error tells; date=yes tells them as a date",
    "kind": f"of an error: {', '.join(ERRORS)}",
    "form": "of an error within an answer: event, failed, bare",
    "how": "what follows a cut: end, close, reset, half_close, hang",
    "type": "the content type",
}


def chaos_server(arguments: Sequence[str]) -> int:
    """Serve until Ctrl-C, and give the exit code.

    Raises:
        ConfigurationError: an argument has a wrong value, a file cannot be read, or the port cannot be had.
    """
    options = _parser().parse_args(list(arguments))
    if options.list_faults:
        _list_faults()
        return 0
    told: queue.SimpleQueue[Served] = queue.SimpleQueue()
    server = ChaosServer(
        _script(options), faults=_plan(options), rate=options.rate, host=options.host, port=options.port, tell=told.put
    )
    count = 0
    try:
        with _listening(server, options):
            _say_where(server)
            while True:
                line = _line(told.get())
                count += 1
                print(line, flush=True)
    except KeyboardInterrupt:
        print(f"\n{count} requests", flush=True)
    return 0


@contextmanager
def _listening(server: ChaosServer, options: argparse.Namespace) -> Generator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(server)
        except OSError as error:
            why = f"--host {options.host} --port {options.port}: {error.strerror or error}"
            raise ConfigurationError(why) from None
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rxstream chaos-server",
        description="A server that speaks the three dialects and fails on demand. It answers everything with its script.",
        epilog="--fault NAME:option=value,… ; several in one answer: gzip+reset:at=200; 'none' is a good answer. "
        "Given several times, they take turns.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="by default 127.0.0.1, which only this machine reaches")
    parser.add_argument("--port", type=int, default=0, help="by default a free one")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--text", default=_TEXT, help="what the model says, word by word")
    what.add_argument("--script", metavar="FILE", help="what it says: JSON, or events as JSON Lines")
    what.add_argument("--tape", metavar="FILE", help="what it says: a recorded body of server-sent events")
    parser.add_argument("--dialect", choices=sorted(DIALECTS), help="of the tape, where it is not plain")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME[:…]", help="what goes wrong")
    parser.add_argument(
        "--probability", type=float, metavar="SHARE", help="with one of the faults by chance, not in turn"
    )
    parser.add_argument("--seed", type=int, help="the same seed gives the same chance; alone, with a share of 0.2")
    parser.add_argument("--rate", type=float, metavar="EVENTS", help="events a second; by default as fast as can be")
    parser.add_argument("--list-faults", action="store_true", help="what can go wrong")
    return parser


def _list_faults() -> None:
    for name, words in FAULTS.items():
        print(f"{name:<15} {words}{_takes(name)}")
    print("\nOptions:")
    for names, words in _OPTIONS.items():
        print(f"  {names:<18} {words}")


def _takes(name: str) -> str:
    options = [option for option in Fault.options(name) if option not in ("until", *_PLACES[1:])]
    return f" ({', '.join('place' if option in _PLACES else option for option in options)})" if options else ""


def _script(options: argparse.Namespace) -> Script:
    if options.dialect is not None and options.tape is None:
        raise ConfigurationError("--dialect: is that of a --tape; a script is told in all three")
    if options.script is not None:
        return Script.load(options.script)
    if options.tape is None:
        return Script.of_text(options.text)
    try:
        return Script.of_tape(Path(options.tape).read_bytes(), dialect=options.dialect)
    except OSError as error:
        raise ConfigurationError(f"--tape {options.tape}: {error.strerror}") from None


def _plan(options: argparse.Namespace) -> Plan:
    given = [several(words) for words in options.fault]
    if options.seed is not None or options.probability is not None:
        among = list(itertools.chain(*given)) or None
        share = 0.2 if options.probability is None else options.probability
        return RandomFaults(among, probability=share, seed=options.seed)
    turns: Callable[[Served], Faults] = lambda served: given[served.number % len(given)]  # noqa: E731
    return turns if given else None


def _say_where(server: ChaosServer) -> None:
    messages, chat = server.base_url("anthropic"), server.base_url("openai-chat")
    print(
        f"Anthropic Messages       {messages}\n"
        f"OpenAI Chat Completions  {chat}\n"
        f"OpenAI Responses         {chat}\n\n"
        f"Point a client at it:\n"
        f"  export ANTHROPIC_BASE_URL={messages} ANTHROPIC_API_KEY=none\n"
        f"  export OPENAI_BASE_URL={chat} OPENAI_API_KEY=none\n"
        f"  rxstream -m openai:any hello\n\n"
        f"Ctrl-C ends it. What is asked:",
        flush=True,
    )


def _line(served: Served) -> str:
    """One request, in a line."""
    request = served.request
    what = f"{time.strftime('%H:%M:%S')} {request.method} {printable(request.address)}"
    if served.number < 0:  # no question to the model
        return what
    where = f" from character {served.continued}" if served.continued else ""
    fault = " + ".join(served.faults) or "no fault"
    sent = f"{served.events_sent} events, {served.bytes_sent} bytes"
    seen = served.left_at is not None and served.ended in ("left", "hang", "half-close")  # else the answer was over
    left = "" if not seen else f"; the client left in {served.left_phase} after {served.lasted:.3f} s"
    return f"{what}{where} · {fault} · {served.ended} · {sent}{left}"
