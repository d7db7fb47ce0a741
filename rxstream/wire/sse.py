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
        self._open = False  # lines, or part of a line, of an event are in hand
        self._size = 0  # of the open event
        self._tail: list[bytes] = []  # pieces of its unfinished line
        self._data: list[bytes] = []
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
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        out: list[ServerSentEvent] = []
        if self._open or len(data) > self._max:
            data = self._by_line(data, out)
        if data:
            self._by_block(data, out)
        return self._hand_over(out)

    def close(self) -> list[ServerSentEvent]:
        """The body has ended: the event whose blank line is missing, if there is one.

        Raises:
            LimitExceeded: as `feed`.
        """
        if self.failure is not None:
            raise self.failure
        out: list[ServerSentEvent] = []
        if self._tail:
            self._field(b"".join(self._tail), out)
        self._dispatch(out)
        return out

    def _begin(self, data: bytes) -> bytes:
        """`data` with what was held back, without a byte order mark; empty while that is undecided."""
        data = (self._start or b"") + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(_BOM)

    def _by_block(self, data: bytes, out: list[ServerSentEvent]) -> None:
        """The fast path: no event is open and none in `data` can exceed the limit."""
        blocks = data.split(b"\n\n")
        rest = blocks.pop()
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                out.append(ServerSentEvent("", block[6:]))
                continue
            name, separator, line = block.partition(b"\ndata: ")
            if separator and name.startswith(b"event: ") and b"\n" not in name and b"\n" not in line:
                out.append(ServerSentEvent(name[7:].decode("utf-8", "replace"), line))
                continue
            for line in block.split(b"\n"):
                self._field(line, out)
            self._dispatch(out)
        if rest:
            self._by_line(rest, out)

    def _by_line(self, data: bytes, out: list[ServerSentEvent]) -> bytes:
        """Line by line: to the end of the open event, or of all where one may exceed the limit. Returns what is left."""
        whole = len(data) > self._max
        position = 0
        while position < len(data):
            if position and not self._open and not whole:
                break
            end = data.find(b"\n", position)
            stop = len(data) if end < 0 else end + 1
            if end == position and not self._tail:
                self._dispatch(out)
            elif self._grow(stop - position):
                self._tail.append(data[position : stop if end < 0 else end])
                if end >= 0:
                    line = b"".join(self._tail)
                    self._tail.clear()
                    self._field(line, out)
            else:
                return b""
            position = stop
        return data[position:]

    def _grow(self, size: int) -> bool:
        """Counts bytes into the open event; False if that is too many."""
        self._open = True
        self._size += size
        if self._size <= self._max:
            return True
        self._tail.clear()
        self._data.clear()
        self.failure = LimitExceeded(f"a server-sent event is longer than {self._max} bytes")
        return False

    def _field(self, line: bytes, out: list[ServerSentEvent]) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif not name:
            if line:
                out.append(ServerSentEvent(comment=value.decode("utf-8", "replace")))
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 16:
            self._retry = int(value)

    def _dispatch(self, out: list[ServerSentEvent]) -> None:
        """A blank line: the open event is whole. One without data is not an event."""
        if self._data:
            out.append(ServerSentEvent(self._event, b"\n".join(self._data), self._id, self._retry))
        self._open = False
        self._size = 0
        self._tail.clear()
        self._data.clear()
        self._event = self._id = ""
        self._retry = None

    def _hand_over(self, out: list[ServerSentEvent]) -> list[ServerSentEvent]:
        if self.failure is not None and not out:
            raise self.failure
        return out


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
