"""Tapes made of other recordings, and other things made of tapes.

Rules of this module:

* What a recording does not say is not made up: a body without times is a tape on which all came at once.
* What is made of a tape says what the tape says. Redaction is the recorder's business; nothing is struck out here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from rxstream.aggregate import Answers
from rxstream.errors import ConfigurationError, StreamError
from rxstream.events import Event, decode, encode
from rxstream.providers import Dialect, decoder_for
from rxstream.tapes.format import FORMAT, HEAD, VERSION, Answered, Asked, Header, Line, encode_line, may_be_tape
from rxstream.tapes.read import Tape, parse

__all__ = ["Form", "converted", "decoded", "dump", "of_body", "of_events", "read_any"]

Form = Literal["events", "bytes", "body", "jsonl", "text"]
"""A tape of events, a tape of bytes, the bytes alone, the events alone as JSON Lines, or the text alone."""

_LOOKS: Final[tuple[tuple[bytes, Dialect], ...]] = (
    (b"message_start", "anthropic"),
    (b'"response.', "openai-responses"),
    (b"event: response.", "openai-responses"),
    (b'"choices"', "openai-chat"),
)


def dump(tape: Tape) -> bytes:
    """The tape as a file has it."""
    return b"".join((encode_line(tape.header), *map(encode_line, tape.lines)))


def of_body(body: bytes, *, dialect: Dialect | None = None) -> Tape:
    """A tape of bytes, of a recorded body of server-sent events. All of it came at once.

    Args:
        body: The bytes.
        dialect: By default what the body looks like.

    Raises:
        ConfigurationError: it looks like none of the dialects.
    """
    spoken = dialect or next((dialect for mark, dialect in _LOOKS if mark in body), None)
    if spoken is None:
        raise ConfigurationError("the body is in none of the dialects anthropic, openai-chat and openai-responses")
    try:
        piece = Line(t=0.0, r=1, b=body.decode())
    except UnicodeDecodeError:
        piece = Line(t=0.0, r=1, x=body)
    lines = [
        Line(t=0.0, r=1, asked=Asked(dialect=spoken)),
        Line(t=0.0, r=1, answered=Answered()),
        *([piece] if body else []),
        Line(t=0.0, r=1, body="end"),
    ]
    return Tape(Header(tape=FORMAT, version=VERSION, kind="bytes", dialect=spoken), lines)


def of_events(events: Iterable[Event]) -> Tape:
    """A tape of events, of events that were kept: as they were delivered, at the times that they say themselves."""
    kept = list(events)
    start = min((event.at for event in kept if event.at), default=0.0)
    now, lines = 0.0, list[Line]()
    for event in kept:
        now = max(now, round(event.at - start, 6))
        lines.append(Line(t=now, e=event))
    if kept and kept[-1].__struct_config__.tag == "finished":
        lines.append(Line(t=now, end="completed"))
    return Tape(Header(tape=FORMAT, version=VERSION, kind="events"), lines)


def read_any(data: bytes, *, dialect: Dialect | None = None) -> Tape:
    """The tape that `data` is, or that is made of it: of a body, or of events as JSON Lines.

    Raises:
        ConfigurationError: it is none of these.
    """
    if data and may_be_tape(data[:HEAD]):
        return parse(data)
    if data.lstrip().startswith(b"{"):
        try:
            return of_events([decode(line) for line in data.splitlines() if line.strip()])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigurationError(f"is neither a tape nor a file of events: {error}") from None
    return of_body(data, dialect=dialect)


def decoded(tape: Tape, request: int | None = None) -> Tape:
    """A tape of bytes as one of events: through the decoder, each event when its last byte had come. One of events is itself.

    Raises:
        ConfigurationError: there is no such request, or several.
    """
    if tape.header.kind == "events":
        return tape
    recorded = tape.request(request)
    decoder = decoder_for(tape.spoken(recorded), keep_raw=False)
    lines: list[Line] = []

    def add(at: float, events: Iterable[Event]) -> None:
        for event in events:
            lines.append(Line(t=at, e=replace(event, source=recorded.asked.source, seq=len(lines), at=at)))

    at = recorded.lines[0].t
    try:
        for line in recorded.lines:
            at = line.t
            if line.data is not None and not decoder.finished:
                add(at, decoder.feed(line.data))
            elif line.body == "end" and not decoder.finished:
                add(at, decoder.close())
        failure = decoder.failure
    except StreamError as error:
        failure = error
    return Tape(
        replace(tape.header, kind="events"),
        [*lines, *_end(tape, recorded.lines[-1], at, failure, finished=decoder.finished)],
        tape.torn,
    )


def _end(tape: Tape, last: Line, at: float, failure: StreamError | None, *, finished: bool) -> list[Line]:
    """How a stream ended whose body's last line is this."""
    if failure is not None:
        return [Line(t=at, end="error", error=failure.info())]
    if finished:
        return [Line(t=at, end="completed")]
    if last.body == "error":
        return [Line(t=last.t, end="error", error=last.error)]
    return [] if tape.end is None else [tape.end]


def converted(tape: Tape, form: Form, request: int | None = None) -> bytes:
    """What `tape` is in another form.

    Raises:
        ConfigurationError: it cannot be: no bytes can be made of events; or there are several requests.
    """
    if form in ("bytes", "body") and tape.header.kind == "events":
        raise ConfigurationError("the tape has events: what bytes they came from is not on it")
    match form:
        case "bytes":
            return dump(tape)
        case "body":
            return tape.request(request).data
        case "events":
            return dump(decoded(tape, request))
        case "jsonl":
            return b"".join(encode(event) + b"\n" for event in decoded(tape, request).events)
        case "text":
            answers = Answers()
            for event in decoded(tape, request).events:
                answers.add(event)
            return "\n".join(answer.text for answer in answers.responses().values()).encode()
