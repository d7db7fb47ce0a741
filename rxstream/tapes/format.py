"""What a tape is: lines of JSON, the first of which is its header.

Rules of this module:

* A tape is a prefix of the truth: what stands on it was so, in this order. Where something could not be written the tape ends.
* Every line but the header has `Line.t`, seconds since the recording began.
* A tape of ``events`` has a line for each event. A tape of ``bytes`` has, for each request, who was asked, when the response's
  headers came, the body in pieces that are whole events of it, and how the body ended, where it ended before the stream.
* The last line says how the stream ended. A tape without one, or with half a line, is that of a recording that was cut.
* Fields that we do not know are ignored; a version that we do not know is refused.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from rxstream.events import ErrorInfo, Event, RateLimits

__all__ = [
    "FORMAT",
    "HEAD",
    "VERSION",
    "Answered",
    "Asked",
    "BodyEnd",
    "End",
    "Header",
    "Kind",
    "Line",
    "encode_line",
    "is_tape",
    "may_be_tape",
]

FORMAT: Final = "rxstream-tape"
VERSION: Final = 1
HEAD: Final = 64
"""Bytes of a file that show whether it is a tape."""

Kind = Literal["events", "bytes"]
"""What is on a tape: the events that an operator saw, or the bytes that the sources above it read."""
End = Literal["completed", "error", "cancelled", "cut"]
"""How a stream ended: properly; in an error; nobody wanted it any more; or it went on, and only the recording ended."""
BodyEnd = Literal["end", "left", "error"]
"""How a body ended: of itself; it was left, because the answer was complete or nobody wanted it; or in an error."""


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line of a tape."""

    tape: str
    """Always `FORMAT`."""
    version: int
    rxstream: str = ""
    """The version of rxstream that wrote it."""
    kind: Kind
    started: float = 0.0
    """When the recording began, in seconds since 1970."""
    id: str = ""
    """The recording's own name, the same on all of its files."""
    part: int = 1
    """Which of its files this is."""
    dialect: str = ""
    """The dialect of its bytes, where that is known from the beginning."""
    metadata: dict[str, Any] = {}
    """What whoever recorded it wanted to say about it."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whom a request went to. What was asked is on no tape."""

    provider: str = ""
    model: str = ""
    source: str = ""
    """The label of its track."""
    dialect: str = ""


class Answered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The response's headers have come."""

    rate_limits: RateLimits | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Any line but the first. What it is shows in the field that it has."""

    t: float
    """Seconds since the recording began."""
    e: Event | None = None
    """An event."""
    r: int = 0
    """Which request the line belongs to, counted from 1."""
    asked: Asked | None = None
    answered: Answered | None = None
    b: str | None = None
    """Bytes of a body, as the text that they are in UTF-8 …"""
    x: bytes | None = None
    """… or in base64, where they are none."""
    body: BodyEnd | None = None
    end: End | None = None
    error: ErrorInfo | None = None
    """Why, where `body` or `end` is an error or a cut."""

    @property
    def data(self) -> bytes | None:
        """The bytes of a body that the line holds."""
        return self.x if self.b is None else self.b.encode()


_encoder = msgspec.json.Encoder()


def encode_line(line: Header | Line) -> bytes:
    """A line of a tape, with its newline."""
    return _encoder.encode(line) + b"\n"


def is_tape(data: bytes) -> bool:
    """Whether `data` begins as a tape does."""
    return data[:1] == b"{" and f'"tape":"{FORMAT}"'.encode() in data[:HEAD].replace(b" ", b"")


def may_be_tape(head: bytes) -> bool:
    """Whether a file that begins like this may be written over: a tape, or what a full disk left of one, or nothing."""
    return is_tape(head) or f'{{"tape":"{FORMAT}"'.encode().startswith(head)
