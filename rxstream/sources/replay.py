"""Streams made of recorded events: what came once comes again, at once or in its rhythm.

Rules of this module:

* Events keep their source and attempt; `seq` and `at` are those of the new stream, like every stream's.
* The rhythm is that of the recording's `at`. What the reader holds up is not made up for: the next event comes at once, and
  the rhythm goes on from there. Events without a time, or that go back in it, come with the one before.
* A recording is whole if it ends with the end of a track and has a `Finished`; else its own stream was cut, and so is this.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from rxstream._check import kind_of, positive
from rxstream.errors import ConfigurationError, StreamIncomplete
from rxstream.events import Cancelled, Event, EventBase, Failed, Finished, Started
from rxstream.sources._source import Source

__all__ = ["replay"]

_AT_ONCE: Final = 64
"""Events that are handed on together where there is no rhythm to keep."""


def replay(events: Iterable[Event], *, speed: float | None = None) -> Source[Sequence[Event]]:
    """A source of recorded events, to each subscription anew. Its label is theirs, if they have but one.

    Args:
        events: A whole stream, as it was delivered; it is read here and now.
        speed: None for as fast as they are read; 1 for the rhythm in which they came, 2 for twice as fast.

    Raises:
        ConfigurationError: `events` holds something else, or `speed` is not more than 0. A subscriber gets
            `rxstream.errors.StreamIncomplete` at the end of a recording that has none.

    Example:
        >>> import rxstream
        >>> from rxstream.events import Finished, TextDelta
        >>> tape = [TextDelta(text="Hel"), TextDelta(text="lo"), Finished(reason="stop")]
        >>> rxstream.replay(tape).run().text
        'Hello'
    """
    if speed is not None:
        positive("speed", speed)
    if not isinstance(events, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"replay takes recorded events, not {kind_of(events)}")
    tape = tuple(events)
    for number, event in enumerate(tape):
        if not isinstance(event, EventBase):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"events[{number}] is {kind_of(event)}, not an event of rxstream")
    gaps = [] if speed is None else _gaps(tape, speed)
    labels = {event.source for event in tape}
    started = next((event for event in tape if isinstance(event, Started)), Started())
    return Source(
        open=lambda: _playing(tape, gaps),
        decoder=lambda: _Tape(tape),
        label=next(iter(labels)) if len(labels) == 1 else "",
        keep_labels=True,
        keep_partial=len(labels) <= 1,
        provider=started.provider,
        model=started.model,
    )


def _gaps(tape: Sequence[Event], speed: float) -> list[float]:
    """Seconds to wait before each event."""
    gaps: list[float] = []
    last = math.inf
    for event in tape:
        gaps.append(max(0.0, event.at - last) / speed if event.at else 0.0)
        if event.at:
            last = event.at if last == math.inf else max(last, event.at)
    return gaps


class _Tape:
    """Events are events already; here is told whether they were all."""

    def __init__(self, tape: Sequence[Event]) -> None:
        self.finished = False
        self.failure: None = None
        self._whole = _is_whole(tape)

    def feed(self, data: Sequence[Event], /) -> list[Event]:
        return list(data)

    def close(self) -> list[Event]:
        if not self._whole:
            raise StreamIncomplete("the recording has no end: its own stream was cut")
        self.finished = True
        return []


def _is_whole(tape: Sequence[Event]) -> bool:
    return (
        bool(tape)
        and isinstance(tape[-1], (Finished, Failed, Cancelled))
        and any(isinstance(event, Finished) for event in tape)
    )


@asynccontextmanager
async def _playing(tape: Sequence[Event], gaps: Sequence[float]) -> AsyncGenerator[AsyncIterator[Sequence[Event]]]:
    """One subscription's player; there is nothing to close."""
    yield _Player(tape, gaps)


class _Player(AsyncIterator[Sequence[Event]]):
    """Gives the events: some at a time, or each when it is due."""

    def __init__(self, tape: Sequence[Event], gaps: Sequence[float]) -> None:
        self._tape = tape
        self._gaps = gaps
        self._next = 0
        self._due = 0.0

    async def __anext__(self) -> Sequence[Event]:
        start = self._next
        if start == len(self._tape):
            raise StopAsyncIteration
        if self._gaps:
            await self._wait(self._gaps[start])
        self._next = min(start + (1 if self._gaps else _AT_ONCE), len(self._tape))
        return self._tape[start : self._next]

    async def _wait(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        self._due = max(self._due + seconds, now)
        if self._due > now:
            await asyncio.sleep(self._due - now)
