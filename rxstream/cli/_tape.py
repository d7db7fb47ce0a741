"""``rxstream tape``: see, play, convert and compare recorded streams.

Exit codes: 0; for ``diff`` 0 where the tapes say the same, else 1; for ``play`` 1 where the recorded stream failed, or was cut; 1 where
the output cannot be written, and 2 where the command cannot be carried out as it was put.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from rxstream.cli._track import explain
from rxstream.conversion import tape as played
from rxstream.errors import ConfigurationError, StreamError
from rxstream.events import RefusalDelta, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta, encode
from rxstream.providers import Dialect
from rxstream.sinks.console import printable
from rxstream.sources.tape import Speed
from rxstream.tapes._writer import flush
from rxstream.tapes.convert import Form, converted, read_any
from rxstream.tapes.diff import differences
from rxstream.tapes.format import HEAD, Line, may_be_tape
from rxstream.tapes.read import Reading, Tape, opened

__all__ = ["run_tape"]

_SHOWN = 76
"""Characters of what a line holds that are shown."""


def run_tape(arguments: Sequence[str]) -> int:
    """Carry out the command, and give its exit code.

    Raises:
        ConfigurationError: it cannot be carried out as it was put.
    """
    options = _parser().parse_args(arguments)
    match options.what:
        case "show":
            with _opened(options.file) as tape:
                _show(tape, options.lines)
            return 0
        case "play":
            return _play(options)
        case "convert":
            return _convert(options)
        case _:
            names, tapes = (options.one, options.other), (_read(options.one), _read(options.other))
            lines = differences(*tapes, exact=options.exact, request=options.request, names=names)
            for line in lines:
                print(_line(line))
            return 1 if lines else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rxstream tape",
        description="Recorded streams: tapes of record(), bodies of server-sent events, events as JSON Lines.",
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="show|play|convert|diff")
    show = commands.add_parser("show", help="what stands on a tape")
    show.add_argument("file")
    show.add_argument(
        "-n", "--lines", type=int, metavar="COUNT", help="no more lines than this; 0 for the summary alone"
    )
    play = commands.add_parser("play", help="the stream once more")
    play.add_argument("file")
    play.add_argument(
        "--speed", default="1", metavar="NUMBER", help="times as fast as it was; 'max' for at once; by default 1"
    )
    play.add_argument("--request", type=int, metavar="NUMBER", help="which, where the tape has several")
    play.add_argument("--events", action="store_true", help="the events as JSON Lines, for scripts")
    convert = commands.add_parser("convert", help="a recording in another form")
    convert.add_argument("file")
    convert.add_argument(
        "--to", choices=get_args(Form), required=True, help="events and bytes are tapes; body, jsonl, text are not"
    )
    convert.add_argument("-o", "--output", metavar="FILE", help="by default standard output")
    convert.add_argument("--request", type=int, metavar="NUMBER", help="which, where the tape has several")
    convert.add_argument("--dialect", choices=get_args(Dialect), help="of a body; by default what it looks like")
    diff = commands.add_parser("diff", help="what two recordings say that is not the same")
    diff.add_argument("one")
    diff.add_argument("other")
    diff.add_argument("--exact", action="store_true", help="also in which pieces it came")
    diff.add_argument("--request", type=int, metavar="NUMBER", help="which, of a tape that has several")
    return parser


def _opened(file: str, dialect: Dialect | None = None) -> AbstractContextManager[Tape | Reading]:
    """The tape in a file, to be read a line at a time, for it may be of any size; or one made of what is in the file."""
    flush()  # it may have been recorded in this process
    try:
        with Path(file).open("rb") as found:
            data = found.read(HEAD)
            is_tape = may_be_tape(data) and (data or not dialect)  # an empty one may be the newest of several files
            if not (is_tape and Path(file).is_file()):  # a pipe is read once
                return nullcontext(read_any(data + found.read(), dialect=dialect))
    except FileNotFoundError:  # it may be just being moved
        return opened(file)
    except (OSError, ValueError) as error:  # of which a ConfigurationError is one
        raise ConfigurationError(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    return opened(file)


def _read(file: str, dialect: Dialect | None = None) -> Tape:
    """All of it."""
    with _opened(file, dialect) as tape:
        return tape if isinstance(tape, Tape) else tape.tape()


# --- show -------------------------------------------------------------------------------------------------------------------


def _show(tape: Tape | Reading, most: int | None) -> None:
    if most is not None and most < 0:
        raise ConfigurationError(f"--lines {most}: must be 0 or more")
    header = tape.header
    when = f", recorded {_when(header.started)}" if header.started else ""
    by = f" by rxstream {header.rxstream}" if header.rxstream else ""
    print(_line(f"a tape of {header.kind}{when}{by}"))
    for name, value in header.metadata.items():
        print(_line(f"  {name}: {value}"))
    count, last = 0, None
    for count, last in enumerate(tape.lines if isinstance(tape, Tape) else tape, 1):
        if most is None or count <= most:
            print(_line(f"{last.t:10.3f}  {_cut(_what(last))}"))
    if most is not None and count > most:
        print(f"{'…':>10}  {count - most} more line{'s' if count - most > 1 else ''}")
    seconds = 0.0 if last is None else last.t
    ended: str | None = None if last is None else last.end
    if ended is None:
        ended = "its recording was cut" if last is None or last.body is None else "how its stream ended is not on it"
    torn = ", half a last line was left out" if tape.torn else ""
    print(f"{count} line{'' if count == 1 else 's'} in {seconds:.3f} s: {ended}{torn}")


def _line(text: str) -> str:
    """`text` on one line: what a tape says must not look like what we say of it."""
    return printable(" ".join(text.splitlines()))


def _when(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, OSError, ValueError):
        return "at a time that cannot be"


def _what(line: Line) -> str:
    """What a line holds, in words."""
    who = f"request {line.r}: " if line.r else ""
    error = "" if line.error is None else f" {line.error.kind}: {line.error.message}"
    if line.asked is not None:
        whom = ":".join(word for word in (line.asked.provider, line.asked.model) if word) or line.asked.dialect
        return f"{who}asks {whom}"
    if line.answered is not None:
        return f"{who}is answered"
    if (data := line.data) is not None:
        return f"{who}{len(data)} bytes {data.decode('utf-8', 'replace')!r}"
    if line.body is not None:
        return f"{who}the body ends: {line.body}{error}"
    if line.end is not None:
        return f"end: {line.end}{error}"
    event = line.e
    if event is None:
        return "something of a later version"
    kind = str(event.__struct_config__.tag)
    match event:
        case TextDelta() | ThinkingDelta() | RefusalDelta():
            return f"{kind} {event.text!r}"
        case ToolCallDelta():
            return f"{kind} {event.arguments!r}"
        case ToolCall():
            return f"{kind} {event.name}({event.arguments})"
        case _:
            return f"{kind} {encode(event).decode()}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


# --- play, convert ------------------------------------------------------------------------------------------------------------


def _play(options: argparse.Namespace) -> int:
    try:
        speed: Speed = "max" if options.speed == "max" else float(options.speed)
    except ValueError:
        raise ConfigurationError(f"--speed {options.speed}: must be a number, or 'max'") from None
    stream = played(_read(options.file), speed=speed, request=options.request, keep_raw=False)
    said = ""
    try:
        for event in stream:
            if options.events:
                print(encode(event).decode(), flush=True)
            elif isinstance(event, (TextDelta, RefusalDelta)):
                said = event.text
                print(printable(said), end="", flush=True)
    except StreamError as error:
        _end_line(said)
        print(explain(error), file=sys.stderr)
        return 1
    _end_line(said)
    return 0


def _end_line(said: str) -> None:
    if said and not said.endswith("\n"):
        print(flush=True)


def _convert(options: argparse.Namespace) -> int:
    data = converted(_read(options.file, options.dialect), options.to, options.request)
    if options.output is not None:
        try:
            with open(options.output, "wb", opener=_owners) as file:
                file.write(data)
        except (OSError, ValueError) as error:
            why = f"{options.output}: {getattr(error, 'strerror', None) or error}"
            if not isinstance(error, OSError) or error.filename is not None:  # it could not be opened
                raise ConfigurationError(why) from None
            print(printable(f"rxstream: {why}"), file=sys.stderr)
            return 1
        return 0
    if sys.stdout.isatty():
        print(printable(data.decode("utf-8", "replace")))
        return 0
    sys.stdout.flush()
    out = getattr(sys.stdout, "buffer", None)
    if out is None:
        sys.stdout.write(data.decode("utf-8", "replace"))
    else:
        out.write(data)
        out.flush()
    return 0


def _owners(path: str, flags: int) -> int:
    """As a tape itself, what is made of one is for its owner alone."""
    return os.open(path, flags, 0o600)
