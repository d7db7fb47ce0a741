"""Server-sent events, on bytes.

Rules of this module:

* The WHATWG rules hold (LF, CR and CRLF, a byte order mark, several ``data`` lines, comments, unknown fields), with three
  differences that a client of models needs: a last block without its blank line is delivered by `SSEDecoder.close`,
  comments are delivered, and an event's ``id`` is its own, not the last one seen.
* Data stays bytes: a character split over two reads is nobody's problem, and JSON is decoded from bytes anyway.
* Any way of cutting the bytes gives the same events. Time and memory are linear: pieces are listed and joined once.
* An open event is bounded by ``max_event_bytes``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from rxstream.errors import LimitExceeded

__all__ = ["DEFAULT_MAX_EVENT_BYTES", "SSEDecoder", "ServerSentEvent", "encode"]

DEFAULT_MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
"""Default limit on one event, in bytes."""

_BOM: Final = b"\xef\xbb\xbf"
_CR: Final = 13
_BLANK: Final = [b"", b""]  # what follows the last line of a whole event


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One event, or one comment line, which is an item of its own with `comment` set and all else empty."""

    event: str = ""
    """Its name; empty where it has none (the standard's ``message``)."""
    data: bytes = b""
    """Its ``data`` lines, joined with LF."""
    id: str = ""
    retry: int | None = None
    """The reconnection time that it asks for, in milliseconds."""
    comment: str | None = None
    """The text of a comment line; None for an event."""


class SSEDecoder:
    """Cuts a byte stream into events.

    Like every decoder of ours, `feed` never raises while it has events in hand: it returns them, shows the error in
    `failure`, and the next call raises it.

    Args:
        max_event_bytes: limit on one event: its lines with their line ends, in bytes.
    """

    def __init__(self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self.failure: LimitExceeded | None = None
        """The error that the next call will raise, or None."""
        self._max = max_event_bytes
        self._start: bytes | None = b""  # what may be the beginning of a BOM, or None once the stream has begun
        self._after_cr = False  # the last byte was a CR: an LF that follows belongs to it
        self._tail: list[bytes] = []  # pieces of the unfinished line
        self._tail_size = 0
        self._size = 0  # of the finished lines of the open event
        self._data: list[bytes] = []
        self._named = False  # the open event has one of these:
        self._event = self._id = ""
        self._retry: int | None = None

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events and comments that `data` completes.

        Raises:
            LimitExceeded: an event is longer than ``max_event_bytes``.
        """
        if self.failure is not None:
            raise self.failure
        if self._start is not None:
            data = self._begin(data)
        if not (self._size or self._tail_size or self._after_cr) and len(data) <= self._max and _CR not in data:
            event = _only_event(data)
            if event is not None:
                return [event]
        if self._after_cr or _CR in data:
            data = self._line_feeds(data)
        out: list[ServerSentEvent] = []
        may_exceed = self._size + self._tail_size + len(data) > self._max
        lines = data.split(b"\n")
        rest = lines.pop()
        if self._tail and lines:
            self._tail.append(lines[0])
            lines[0] = b"".join(self._tail)
            self._tail.clear()
            self._tail_size = 0
        if rest:
            self._tail.append(rest)
            self._tail_size += len(rest)
        if may_exceed:
            self.failure = self._bound(lines)
        self._read(lines, out)
        if self.failure is not None and not out:
            raise self.failure
        return out

    def close(self) -> list[ServerSentEvent]:
        """The body has ended: the event whose blank line is missing, if there is one.

        Raises:
            LimitExceeded: as `feed`.
        """
        if self.failure is not None:
            raise self.failure
        out: list[ServerSentEvent] = []
        self._read([b"".join(self._tail), b""], out)
        self._tail.clear()
        return out

    def _begin(self, data: bytes) -> bytes:
        """`data` with what was held back, without a byte order mark; empty while that is undecided."""
        data = (self._start or b"") + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(_BOM)

    def _line_feeds(self, data: bytes) -> bytes:
        """`data` with LF for every line end. A CR at its end counts at once, and the LF that may follow it is dropped."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if _CR in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return data

    def _read(self, lines: list[bytes], out: list[ServerSentEvent]) -> None:
        """Takes whole lines. This is the hot path: nearly all of them are one ``data`` line and the blank one after it."""
        data = self._data
        for line in lines:
            if line:
                if line[:6] == b"data: ":
                    data.append(line[6:])
                else:
                    self._field(line, out)
                continue
            if data:  # without data it is not an event
                payload = data[0] if len(data) == 1 else b"\n".join(data)
                out.append(ServerSentEvent(self._event, payload, self._id, self._retry))
                data.clear()
            if self._named:
                self._named = False
                self._event = self._id = ""
                self._retry = None
        self._size = _open_size(lines, self._size)

    def _field(self, line: bytes, out: list[ServerSentEvent]) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._named = True
            self._event = value.decode("utf-8", "replace")
        elif not name:
            out.append(ServerSentEvent(comment=value.decode("utf-8", "replace")))
        elif name == b"id":
            if b"\0" not in value:
                self._named = True
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 16:
            self._named = True
            self._retry = int(value)

    def _bound(self, lines: list[bytes]) -> LimitExceeded | None:
        """Cuts `lines` off at the one with which its event exceeds the limit, if one does."""
        size = self._size
        for number, line in enumerate(lines):
            size = size + len(line) + 1 if line else 0
            if size > self._max:
                del lines[number:]
                break
        if size + self._tail_size <= self._max:
            return None
        return LimitExceeded(f"a server-sent event is longer than {self._max} bytes")


def _only_event(data: bytes) -> ServerSentEvent | None:
    """The event that a piece is, if it is exactly one and of the usual form: how most pieces come from a socket."""
    lines = data.split(b"\n")
    if lines[-2:] != _BLANK:
        return None
    if len(lines) == 3 and lines[0][:6] == b"data: ":
        return ServerSentEvent("", lines[0][6:])
    if len(lines) == 4 and lines[0][:7] == b"event: " and lines[1][:6] == b"data: ":
        return ServerSentEvent(lines[0][7:].decode("utf-8", "replace"), lines[1][6:])
    return None


def _open_size(lines: list[bytes], before: int) -> int:
    """Bytes of the lines after the last blank one, or of all and those `before`."""
    size = 0
    for line in reversed(lines):
        if not line:
            return size
        size += len(line) + 1
    return before + size


def encode(event: ServerSentEvent) -> bytes:
    """The event, or the comment, as bytes: what `SSEDecoder` turns back into it. A CR in the data becomes an LF.

    Raises:
        ValueError: a name, an id or a comment holds a line break, or an id a NUL: they cannot be written.
    """
    for word in (event.event, event.id, event.comment or ""):
        if "\n" in word or "\r" in word:
            raise ValueError(f"a line break cannot be written here: {word!r}")
    if "\0" in event.id:
        raise ValueError("an id cannot hold a NUL")
    if event.comment is not None:
        return f": {event.comment}\n\n".encode()
    head = f"event: {event.event}\n" if event.event else ""
    if event.id:
        head += f"id: {event.id}\n"
    if event.retry is not None:
        head += f"retry: {event.retry}\n"
    lines = event.data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return head.encode() + b"".join(b"data: %b\n" % line for line in lines) + b"\n"
