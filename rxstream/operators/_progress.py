"""``progress``: how far each track is, how fast, and how long it will still take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxstream._alarm import Alarm
from rxstream._check import count, one_of, positive
from rxstream._outlet import Outlet
from rxstream._units import Unit, text_of
from rxstream.events import (
    CONTENT_EVENTS,
    Cancelled,
    Event,
    Failed,
    Finished,
    Media,
    Retracted,
    ServerTool,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    UsageReported,
)
from rxstream.loop import LoopScheduler

__all__ = ["Progress", "progress"]

_CONTENT: Final = frozenset(CONTENT_EVENTS)
_ENDS: Final = frozenset((Finished, Failed, Cancelled))


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a track is. What was retracted is not counted, but in `events` and the rates."""

    source: str
    """Which track."""
    events: int
    """Events received."""
    tokens: int
    """Pieces of content received: text, thinking, refusals, tool calls, media. With most providers one is about a token."""
    reported: int | None
    """Output tokens that the provider has reported so far; None if none."""
    characters: int
    """Characters (code points) received: text, thinking, refusals, arguments of tool calls, transcripts."""
    elapsed: float
    """Seconds since the subscription."""
    rate: float | None
    """Units received a second of late (see `progress`); None with the first output."""
    mean: float | None
    """Units a second since the first output; of tokens the reported ones, where they are more. None with the first output."""
    share: float | None
    """How much of the limit is used, 0 to 1; None without a limit."""
    remaining: float | None
    """Seconds until the limit is reached at `rate`: it takes no longer, and may end before. None where that is not known, 0
    at the end."""
    done: bool
    """Whether the track has ended, well or not."""


def progress(
    *, every: float = 0.25, limit: int | None = None, unit: Unit = "tokens", window: float = 5.0
) -> Callable[[Observable[Event]], Observable[Progress]]:
    """Tell how far the answer is: with its first output, then at most once `every` so many seconds, and at its end.

    ::

        source:  --Started--a-b-c-------d-----Finished|
             progress(every=4)
        result:  -----------1---3-------4-----(4 done)|

    (The numbers are `Progress.tokens`.) Of a combination each track has values of its own, told apart by `Progress.source`.
    A timer is set only when there is news; a model that is silent costs nothing and says nothing. With the end of a track,
    or of the stream, comes a last value with `Progress.done`. While the subscriber's gate is closed the latest value of each
    track waits.

    Example:
        >>> import rxstream
        >>> told = rxstream.from_iterable(["to ", "be"]).pipe(progress(limit=4))
        >>> [(value.tokens, value.characters, value.share, value.done) for value in told]
        [(1, 3, 0.25, False), (2, 5, 0.5, True)]

    Args:
        every: Seconds between two values of a track, at least.
        limit: The most that may come, in `unit`; the request's ``max_tokens``, for example.
        unit: What the rates, the share and the limit are in: ``tokens``, those reported or the pieces received, whichever are
            more; or ``characters``.
        window: Seconds that `Progress.rate` looks back.

    Raises:
        ConfigurationError: an option is out of its range.
    """
    positive("every", every)
    if limit is not None:
        count("limit", limit)
    one_of("unit", unit, ("tokens", "characters"))
    positive("window", window)

    def measured(source: Observable[Event]) -> Observable[Progress]:
        def subscribe(
            observer: abc.ObserverBase[Progress], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            make = partial(_Track, by_tokens=unit == "tokens", limit=limit, window=window)
            return _Meter(make, every, observer, LoopScheduler.of(scheduler)).start(source)

        return Observable(subscribe)

    return measured


class _Count:
    """What one attempt gave."""

    __slots__ = ("calls", "other_characters", "other_tokens", "reported", "text_characters", "text_tokens")

    def __init__(self) -> None:
        self.text_tokens = self.text_characters = 0
        self.other_tokens = self.other_characters = 0
        self.reported: int | None = None
        self.calls: set[tuple[int, int]] = set()
        """Tool calls whose arguments come in pieces."""

    def add(self, event: Event) -> None:
        """Content that is no text."""
        length = len(text_of(event))
        match event:
            case ToolCallDelta():
                self.calls.add((event.choice, event.part))
            case ToolCall():
                if (event.choice, event.part) in self.calls:
                    return  # it says again what has come
                length = len(event.arguments)
            case ServerTool(step="delta"):
                length = len(event.arguments)
            case Media(kind="transcript"):
                length = len(event.data)
            case _:
                pass
        self.other_tokens += 1
        self.other_characters += length

    def retract(self, to_offset: int) -> None:
        self.reported = None
        if to_offset <= 0:
            self.other_tokens = self.other_characters = 0
        if to_offset < self.text_characters:
            kept = max(0, to_offset)
            self.text_tokens = -(-self.text_tokens * kept // self.text_characters)
            self.text_characters = kept


class _Track:
    """What one track gave, and when."""

    def __init__(self, source: str, started: float, *, by_tokens: bool, limit: int | None, window: float) -> None:
        self.source = source
        self.events = 0
        self.spoke = False
        """Whether there was output."""
        self.done = False
        self.due = 0.0
        """When the next value may be told."""
        self.news = False
        """Whether the alarm is set for it."""
        self.attempt = 0
        self.count = _Count()
        """Of the latest attempt."""
        self._started = started
        self._by_tokens = by_tokens
        self._limit = limit
        self._window = window
        self._counts: dict[int, _Count] = {}
        self._lost = 0
        """Units that were retracted."""
        self._told: deque[tuple[float, int]] = deque()
        """When a value was told, and how many units had been received: those of the window, and one before it."""
        self._first: tuple[float, int] | None = None

    def of(self, attempt: int) -> _Count:
        """The counts of `attempt`, which is now the latest."""
        self.attempt = attempt
        self.count = self._counts.setdefault(attempt, _Count())
        return self.count

    def retract(self, event: Retracted) -> None:
        before = self._pieces()
        self.of(event.attempt).retract(event.to_offset)
        self._lost += before - self._pieces()

    def _tokens(self) -> int:
        return sum(count.text_tokens + count.other_tokens for count in self._counts.values())

    def _characters(self) -> int:
        return sum(count.text_characters + count.other_characters for count in self._counts.values())

    def _pieces(self) -> int:
        return self._tokens() if self._by_tokens else self._characters()

    def value(self, now: float) -> Progress:
        known = [count.reported for count in self._counts.values() if count.reported is not None]
        reported = sum(known) if known else None
        pieces = self._pieces()
        amount = max(pieces, reported or 0) if self._by_tokens else pieces
        received = pieces + self._lost
        if self._first is None and self.spoke:
            self._first = (now, received)
        self._told.append((now, received))
        while len(self._told) > 2 and self._told[1][0] <= now - self._window:
            self._told.popleft()
        rate = _rate(self._told[0], now, received)
        share = remaining = None
        if self._limit is not None:
            share = min(1.0, amount / self._limit)
            remaining = max(0, self._limit - amount) / rate if rate else None
        return Progress(
            source=self.source,
            events=self.events,
            tokens=self._tokens(),
            reported=reported,
            characters=self._characters(),
            elapsed=now - self._started,
            rate=rate,
            mean=None if self._first is None else _rate(self._first, now, max(received, amount)),
            share=share,
            remaining=0.0 if self.done else remaining,
            done=self.done,
        )


def _rate(since: tuple[float, int], now: float, amount: int) -> float | None:
    return (amount - since[1]) / (now - since[0]) if now > since[0] else None


class _Meter:
    """One subscription: the tracks, and an alarm for each."""

    def __init__(
        self,
        make: Callable[[str, float], _Track],
        every: float,
        observer: abc.ObserverBase[Progress],
        scheduler: LoopScheduler,
    ) -> None:
        self._make = make
        self._every = every
        self._scheduler = scheduler
        self._time = scheduler.loop.time
        self._started = self._time()
        self._tracks: dict[str, tuple[_Track, Alarm]] = {}
        self._upstream = SingleAssignmentDisposable()
        self._outlet: Outlet[Progress] = Outlet(observer, scheduler, overflowed=self._upstream.dispose)

    def start(self, source: Observable[Event]) -> abc.DisposableBase:
        self._upstream.disposable = source.subscribe(self._next, self._fail, self._complete, scheduler=self._scheduler)
        return CompositeDisposable(self._upstream, Disposable(self._dispose))

    def _next(self, event: Event) -> None:
        found = self._tracks.get(event.source)
        track, alarm = found if found is not None else self._begin(event.source)
        track.events += 1
        kind = type(event)
        if kind in _CONTENT:
            counted = track.count if event.attempt == track.attempt else track.of(event.attempt)
            if isinstance(event, TextDelta):
                counted.text_tokens += 1
                counted.text_characters += len(event.text)
            else:
                counted.add(event)
            track.spoke, track.done = True, False
        elif kind in _ENDS:
            track.done = True
            self._tell(track, alarm)
            return
        elif isinstance(event, UsageReported):
            track.of(event.attempt).reported = event.usage.output_tokens
        elif isinstance(event, Retracted):
            track.retract(event)
        else:
            return
        if track.spoke and not track.news:
            self._news(track, alarm)

    def _begin(self, source: str) -> tuple[_Track, Alarm]:
        track = self._make(source, self._started)
        alarm = Alarm(self._scheduler.loop, lambda: self._tell(track, alarm))
        self._tracks[source] = (track, alarm)
        return track, alarm

    def _news(self, track: _Track, alarm: Alarm) -> None:
        if self._time() >= track.due:
            self._tell(track, alarm)
        else:
            track.news = True
            alarm.set(track.due)

    def _tell(self, track: _Track, alarm: Alarm) -> None:
        now = self._time()
        alarm.clear()
        track.news, track.due = False, now + self._every
        if self._outlet.closed:  # what waits at a closed gate is no longer the latest
            for old in [value for value in self._outlet.items if value.source == track.source]:
                self._outlet.items.remove(old)
        self._outlet.on_next(track.value(now))

    def _fail(self, error: Exception) -> None:
        self._end()
        self._outlet.on_error(error)

    def _complete(self) -> None:
        self._end()
        self._outlet.on_completed()

    def _end(self) -> None:
        for track, alarm in self._tracks.values():
            if not track.done:
                track.done = True
                self._tell(track, alarm)

    def _dispose(self) -> None:
        for _, alarm in self._tracks.values():
            alarm.close()
        self._outlet.dispose()
