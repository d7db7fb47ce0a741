"""Streams played from a tape: what was recorded comes again, through the decoder that read it.

Rules of this module:

* It comes when it came, counted from the subscription, divided by the speed. What the reader holds up is not made up for: the
  rest comes as much later. The time by which a timer is late is made up for.
* Events keep their source and attempt; `seq` and `at` are those of the new stream, like every stream's.
* A tape ends as its stream did. The error is of the same type, and holds what arrived. A tape without an end was cut, and so is
  its stream.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from rxstream._check import count, positive, show
from rxstream.errors import ConfigurationError, StreamError, StreamIncomplete, error_of
from rxstream.events import ErrorInfo, Event, RateLimits, Started
from rxstream.providers import decoder_for
from rxstream.sources._source import Source
from rxstream.tapes.format import Line
from rxstream.tapes.read import Recorded, Tape, load

__all__ = ["Speed", "tape"]

Speed = float | Literal["max"]
_LATE: Final = 0.05
"""Seconds that a timer may be late, or a reader busy, and it is made up for; what is longer is a pause."""
_AT_ONCE: Final = 64
"""Events that are handed on together where there is no pace to keep."""


def tape(
    path: str | os.PathLike[str] | Tape,
    *,
    speed: Speed = 1.0,
    request: int | None = None,
    keep_raw: bool = True,
) -> Source[Any]:
    """A recorded stream once more: from a tape that `rxstream.operators.record` wrote. It is read here and now.

    A tape of events gives its events; one of bytes goes through the decoder of its provider, as the bytes did when they came.

    Args:
        path: The file; or a tape that was read already.
        speed: 1 for the pace at which it was recorded, from the request on; 2 for twice as fast; ``"max"`` for as fast as it is
            read.
        request: Which, on a tape of bytes of several requests, counted from 1.
        keep_raw: Keep the bytes on each event, where they are decoded.

    Raises:
        ConfigurationError: it is no tape, cannot be played, or has several requests. A subscriber gets the error in which the
            recorded stream ended, and `rxstream.errors.StreamIncomplete` where the recording itself was cut.
    """
    if speed != "max":
        if not isinstance(speed, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"speed={show(speed)}: must be a number, or 'max'")
        positive("speed", speed)
        if math.isinf(1.0 / speed):
            raise ConfigurationError("speed: is so small that nothing would ever come")
    if request is not None:
        count("request", request)
    played = path if isinstance(path, Tape) else load(path)
    pace = 0.0 if speed == "max" else 1.0 / speed
    if played.header.kind == "events":
        if request is not None:
            raise ConfigurationError("request: a tape of events is played as a whole")
        return _of_events(played, pace)
    return _of_bytes(played, played.request(request), pace, keep_raw=keep_raw)


# --- events -----------------------------------------------------------------------------------------------------------------


def _of_events(played: Tape, pace: float) -> Source[Sequence[Line]]:
    events = played.events
    labels = {event.source for event in events}
    started = next((event for event in events if isinstance(event, Started)), Started())
    return Source(
        open=lambda: _playing(played.lines, pace),
        decoder=lambda: _Events(played),
        label=next(iter(labels)) if len(labels) == 1 else "",
        keep_labels=True,
        keep_partial=len(labels) <= 1,
        provider=started.provider,
        model=started.model,
    )


class _Events:
    """Lines are events already; here is told how they end."""

    def __init__(self, played: Tape) -> None:
        self._tape = played
        self.finished = False
        self.failure: StreamError | None = None

    def feed(self, data: Sequence[Line], /) -> list[Event]:
        last = data[-1]
        if last.end == "completed":
            self.finished = True
        elif last.end == "error":
            self.failure = _error(last.error)
        return [line.e for line in data if line.e is not None]

    def close(self) -> list[Event]:
        raise _cut(self._tape)


def _cut(played: Tape) -> StreamIncomplete:
    """Why a tape that has no end of its stream has none."""
    end = played.end
    if end is not None and end.end == "cancelled":
        return StreamIncomplete("the tape ends here: its stream was cancelled")
    if end is not None and end.end == "completed":
        return StreamIncomplete("the tape ends here: nobody wanted the rest of the answer")
    if end is not None and end.error is not None:
        return StreamIncomplete(end.error.message)
    return StreamIncomplete(
        f"the tape has no end{', and half a last line' if played.torn else ''}: its recording was cut"
    )


def _error(info: ErrorInfo | None) -> StreamError:
    if info is None:
        return StreamIncomplete("the tape does not say in which error its stream ended")
    if info.kind == "ConfigurationError":
        raise ConfigurationError(info.message)
    return error_of(info)


# --- bytes ------------------------------------------------------------------------------------------------------------------


def _of_bytes(played: Tape, recorded: Recorded, pace: float, *, keep_raw: bool) -> Source[bytes]:
    asked, name = recorded.asked, played.spoken(recorded)
    return Source(
        open=lambda: _answering(played, recorded, pace),
        decoder=lambda: decoder_for(name, keep_raw=keep_raw),
        label=asked.source,
        provider=asked.provider,
        model=asked.model,
    )


@asynccontextmanager
async def _answering(played: Tape, recorded: Recorded, pace: float) -> AsyncGenerator[AsyncIterator[bytes]]:
    """One subscription's body: what came before its headers, first."""
    clock = _Clock(pace, recorded.lines[0].t)
    lines = list(recorded.lines[1:])
    body = _Body(played, lines, clock)
    answered = lines[0].answered if lines else None
    if answered is not None:
        await clock.wait(lines.pop(0).t)
        body.rate_limits = answered.rate_limits
    elif not lines or lines[0].data is None:  # a tape that was not made by us may have no line of the headers
        await body.fail()
    yield body


class _Body:
    """The bytes of a recorded body, each piece when it is due."""

    rate_limits: RateLimits | None = None

    def __init__(self, played: Tape, lines: list[Line], clock: _Clock) -> None:
        self._tape = played
        self._lines = lines
        self._clock = clock
        self._next = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while self._next < len(self._lines):
            line = self._lines[self._next]
            data = line.data
            if data is None:
                break
            await self._clock.wait(line.t)
            self._next += 1
            return data
        await self.fail()
        raise StopAsyncIteration

    async def fail(self) -> None:
        """What there is after the last piece: the body's proper end, or an error."""
        line = self._lines[self._next] if self._next < len(self._lines) else None
        if line is None or line.body == "left":  # the error, if it is one, is not the body's
            line = self._tape.end
            if line is None or line.end != "error":
                raise _cut(self._tape)
        await self._clock.wait(line.t)
        if line.error is not None:
            raise _error(line.error)


# --- time -------------------------------------------------------------------------------------------------------------------


class _Clock:
    """When what is on a tape is due."""

    def __init__(self, pace: float, start: float = 0.0) -> None:
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._origin = self._loop.time() - start * pace

    async def wait(self, at: float) -> None:
        """Until the second `at` of the tape."""
        if not self._pace:
            return
        now = self._loop.time()
        due = self._origin + at * self._pace
        if due > now:
            await asyncio.sleep(due - now)
        elif now - due > _LATE:
            self._origin += now - due  # the reader held it up


@asynccontextmanager
async def _playing(lines: Sequence[Line], pace: float) -> AsyncGenerator[AsyncIterator[Sequence[Line]]]:
    """One subscription's player; there is nothing to close."""
    yield _Player(lines, _Clock(pace), once=1 if pace else _AT_ONCE)


class _Player(AsyncIterator[Sequence[Line]]):
    """Gives the lines: some at a time, or each when it is due."""

    def __init__(self, lines: Sequence[Line], clock: _Clock, *, once: int) -> None:
        self._lines = lines
        self._clock = clock
        self._once = once
        self._next = 0

    async def __anext__(self) -> Sequence[Line]:
        start = self._next
        if start == len(self._lines):
            raise StopAsyncIteration
        await self._clock.wait(self._lines[start].t)
        self._next = min(start + self._once, len(self._lines))
        return self._lines[start : self._next]
