"""What all dialects share: the frame of a decoder, the numbering of parts, and the reading of failures.

Rules of this module:

* `SSEDialect` keeps the promises of `rxstream.typing.Decoder` once for all dialects. A dialect writes down what one
  payload means (`SSEDialect._payload`) and how a stream may end (`SSEDialect._end`), and nothing else.
* Nothing that a provider sends raises anything but a `StreamError`, and no key leaves through one.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from itertools import accumulate
from typing import Any, Final, TypeGuard

import msgspec

from rxstream.errors import ProtocolError, SequenceGap, StreamError
from rxstream.events import Event, Heartbeat
from rxstream.wire.sse import DEFAULT_MAX_EVENT_BYTES, ServerSentEvent, SSEDecoder

__all__ = ["PartNumbers", "SSEDialect", "head", "is_deep", "is_list", "is_object", "mask", "mend", "retry_after"]

_KEY: Final = re.compile(
    r"\b(?:sk|pk|rk|xai|gsk|pplx|csk|nvapi|hf|fw|r8|tgp)[-_][\w*.-]{6,}"  # with the prefixes that providers give them
    r"|\bAIza[\w-]{8,}|(?<![\w-])eyJ[\w-]+\.[\w-]+\.[\w-]+"
    r"|(?i:(?<=bearer )|(?<=api key provided: ))[\w*.+/=-]*[\w*+/=]"  # … and where they are named
)


_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a whole pair
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"  # half of one
    rb"|\\."
)
_DEEPEST: Final = 128
"""Levels of nesting in a payload. What is deeper could be read, but neither copied nor shown."""
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BUT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS: Final = tuple(1 if byte in b"[{" else -1 for byte in range(256))
_NOT_READABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class PartNumbers:
    """The numbers of one choice's parts, given in order of first appearance, from 0."""

    def __init__(self) -> None:
        self._open: dict[Hashable, int] = {}
        self._next = 0

    def number(self, key: Hashable) -> int:
        """The part that the dialect's `key`, such as ``("tool", 1)``, stands for now."""
        part = self._open.get(key)
        if part is None:
            part = self._open[key] = self._next
            self._next += 1
        return part

    def end(self, key: Hashable) -> None:
        """The part is over: the same key stands for a new one from here on."""
        self._open.pop(key, None)


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a decoded JSON value is an object."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether a decoded JSON value is a list."""
    return isinstance(value, list)


def mask(text: str) -> str:
    """`text` without what looks like a key: providers quote wrong ones back."""
    return _KEY.sub("***", text)


def mend(data: bytes) -> bytes:
    """JSON text in which the halves of a character that was cut in two, as servers do that count in UTF-16, say U+FFFD."""
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], data)


def head(body: bytes, limit: int = 2048) -> str:
    """The first `limit` characters of a body, for an error to show, without keys."""
    return mask(body[: 4 * limit].decode("utf-8", "replace"))[:limit]


def is_deep(data: bytes) -> bool:
    """Whether JSON is nested deeper than any provider's is."""
    if data.count(b"[") + data.count(b"{") <= _DEEPEST:
        return False
    brackets = _STRING.sub(b"", data).translate(None, _BUT_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > _DEEPEST


def retry_after(headers: Mapping[str, str]) -> float | None:
    """How long a response asks us to wait, in seconds, or None.

    From ``retry-after-ms``, or ``retry-after`` in seconds or as a date, which is measured against the response's own ``date``.
    """
    fields = {name.lower(): value.strip() for name, value in headers.items()}
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(fields[name]) / scale
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        then, now = (parsedate_to_datetime(fields[name]) for name in ("retry-after", "date"))
        return max(0.0, (then - now).total_seconds())
    except (KeyError, ValueError, TypeError, OverflowError):  # TypeError: one of the two has no time zone
        return None


class SSEDialect(ABC):
    """A decoder of server-sent events. See `rxstream.typing.Decoder` for what it promises.

    Args:
        keep_raw: keep each payload's bytes on the events made from it, as ``raw``.
        max_event_bytes: limit on one server-sent event.
    """

    def __init__(self, *, keep_raw: bool = True, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self.finished = False
        """Whether the terminal mark was seen. The dialect sets it."""
        self.failure: StreamError | None = None
        """The error that the next call will raise, or None."""
        self.provider = ""
        """Who serves the stream, for `rxstream.events.Started` to tell; the registry sets it."""
        self._frames = SSEDecoder(max_event_bytes=max_event_bytes)
        self._max_event_bytes = max_event_bytes
        self._keep_raw = keep_raw
        self._closed = False

    @abstractmethod
    def _payload(self, event: str, data: bytes, raw: bytes | None, out: list[Event]) -> None:
        """Appends the events that one payload holds to `out`, each with ``raw=raw``.

        May raise a `StreamError` at any point, and what `msgspec` raises on wrong JSON: it becomes a `ProtocolError`.
        What was appended before is delivered first.
        """

    @abstractmethod
    def _end(self, out: list[Event]) -> None:
        """The body ended without the terminal mark: appends the last events, or raises `StreamIncomplete`."""

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. After `finished` more bytes are ignored.

        Raises:
            StreamError: the bytes held an error of the provider, or were not its protocol.
        """
        if self.failure is not None:
            raise self.failure
        out: list[Event] = []
        if self.finished or self._closed:
            return out
        try:
            self._read(self._frames.feed(data), out)
        except StreamError as error:
            self.failure = _alone(error)
        if self._frames.failure is not None and not self.finished:
            self.failure = self.failure or self._frames.failure
        if self.failure is not None and not out:
            raise self.failure
        return out

    def close(self) -> list[Event]:
        """The body has ended: the last events.

        Raises:
            StreamIncomplete: there was no mark that ends an answer.
            StreamError: as `feed`.
        """
        if self.failure is not None:
            raise self.failure
        out: list[Event] = []
        if self.finished or self._closed:
            return out
        self._closed = True
        try:
            with suppress(ProtocolError):  # the last block has no blank line: it was cut, which is for `_end` to judge
                self._read(self._frames.close(), out)
            if not self.finished:
                self._end(out)
        except StreamError as error:
            self.failure = _alone(error)
        if self.failure is not None and not out:
            raise self.failure
        return out

    def reconnect(self) -> None:
        """What follows comes over another connection, from the beginning of an event: one that was half read comes again.

        A `SequenceGap` is forgotten: what was missing comes now.
        """
        self._frames = SSEDecoder(max_event_bytes=self._max_event_bytes)
        if isinstance(self.failure, SequenceGap):
            self.failure = None

    def _read(self, frames: Iterable[ServerSentEvent], out: list[Event]) -> None:
        for frame in frames:
            if frame.comment is not None:
                out.append(Heartbeat(comment=frame.comment))
                continue
            data = frame.data
            raw = data if self._keep_raw else None
            if len(data) > 2 * _DEEPEST and is_deep(data):
                raise ProtocolError(f"a payload is nested deeper than {_DEEPEST} levels", body=head(data))
            try:
                self._payload(frame.event, data, raw, out)
            except _NOT_READABLE as fault:
                self._mend(frame, fault, out)
            if self.finished:
                return

    def _mend(self, frame: ServerSentEvent, fault: Exception, out: list[Event]) -> None:
        """A payload that could not be read: once more, if half a character was all that was wrong with it."""
        data = mend(frame.data)
        try:
            if data == frame.data:
                raise fault
            self._payload(frame.event, data, frame.data if self._keep_raw else None, out)
        except _NOT_READABLE as error:
            raise ProtocolError(f"not the provider's protocol: {error}", body=head(frame.data)) from None


def _alone(error: StreamError) -> StreamError:
    """`error` without what it came from: that would keep the whole payload, with all that a provider may say back in it."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error
