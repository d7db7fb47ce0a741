"""What the combinations that keep every answer stand on: their lanes at work, and what of a lane waits.

Rules of this module:

* Tracks are begun in the order given, at most so many at once; the next begins when one ends.
* The combination completes when all have ended, and fails with `TracksFailed` only if all have failed; either comes after
  all that waits.
* What waits of a lane is bounded: a full `Backlog` holds the lane at its source. A source that does not stop there fails.
* It is begun and left in any thread; all else is done on the combination's loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxstream._check import count, positive
from rxstream._outlet import MOST, Mark, Outlet
from rxstream.errors import ConfigurationError, LimitExceeded, TracksFailed
from rxstream.events import Event
from rxstream.loop import LoopScheduler, call_on
from rxstream.observable import Stream
from rxstream.tracks._lane import Lane, checked, lanes_of

__all__ = ["Backlog", "Crew", "Deliver", "combined", "weighed"]

Deliver = Callable[[Lane, Event], object]


class Crew:
    """The lanes of one subscription.

    Args:
        tracks: Their sources.
        scheduler: Where it runs.
        outlet: Where events leave, and the end.
        on_event: Called with a lane and its event; a failure is the last of them.
        on_end: Called with a lane that has ended of itself, before the next begins.
        on_close: Called once when it is left, on the loop.
        most: How many tracks may run at once.
    """

    def __init__(
        self,
        tracks: Sequence[Observable[Event]],
        scheduler: LoopScheduler,
        outlet: Outlet[Event],
        *,
        on_event: Deliver,
        on_end: Callable[[Lane], object] | None = None,
        on_close: Callable[[], object] | None = None,
        most: int | None = None,
    ) -> None:
        self.lanes = lanes_of(tracks, scheduler, on_event=on_event, on_end=self._ended)
        self._loop = scheduler.loop
        self._outlet = outlet
        self._on_end = on_end
        self._on_close = on_close
        self._room = len(self.lanes) if most is None else most
        self._waiting = deque(self.lanes)
        self._left = len(self.lanes)
        self._beginning = False

    def begin(self) -> None:
        """Begin as many as may run. On the loop."""
        if self._beginning:
            return  # a track has ended while it was begun: the loop below goes on
        self._beginning = True
        while self._room and self._waiting:
            self._room -= 1
            self._waiting.popleft().start()
        self._beginning = False

    def dispose(self) -> None:
        """Close all, at once: nothing more is said. From any thread."""
        self._outlet.over = True
        call_on(self._loop, self._close)

    def halt(self) -> None:
        """Close the tracks; what waits still goes out."""
        for lane in self.lanes:
            lane.close()

    def _close(self) -> None:
        self.halt()
        if self._on_close is not None:
            self._on_close()
        self._outlet.dispose()

    def _ended(self, lane: Lane) -> None:
        if self._on_end is not None:
            self._on_end(lane)
        self._room += 1
        self._left -= 1
        if self._left:
            self.begin()
            return
        errors = {lane.label: lane.error for lane in self.lanes if lane.error is not None}
        if len(errors) == len(self.lanes):
            self._outlet.on_error(TracksFailed(errors))
        else:
            self._outlet.on_completed()


class Backlog:
    """What waits of one lane, in order.

    Args:
        lane: Held at its source while `ahead` events wait, until half of them are gone.
        ahead: How many.
    """

    __slots__ = ("_ahead", "_lane", "_mark", "items")

    def __init__(self, lane: Lane, ahead: int) -> None:
        self.items: deque[Event] = deque()
        self._lane = lane
        self._ahead = ahead
        self._mark = Mark(lane.gate, "tracks", high=ahead, low=ahead // 2)

    @property
    def full(self) -> bool:
        """Whether the lane is held."""
        return self._mark.held

    def add(self, event: Event) -> None:
        """One more waits."""
        self.items.append(event)
        waiting = len(self.items)
        if waiting >= self._ahead:
            self._mark.level(waiting)
            if waiting > self._ahead + MOST and not self._lane.over:
                self._lane.fail(
                    LimitExceeded(
                        f"{waiting} events wait for their turn, and their source does not stop; "
                        "put an on_backpressure operator behind it"
                    )
                )

    def take(self) -> Event:
        """The first of them, which waits no more."""
        event = self.items.popleft()
        if self._mark.held:
            self._mark.level(len(self.items))
        return event

    def close(self) -> None:
        """Nobody wants them any more."""
        self.items.clear()
        self._mark.close()


def combined(
    tracks: Sequence[Observable[Event]],
    max_concurrency: int | None,
    crew: Callable[[abc.ObserverBase[Event], LoopScheduler, Sequence[Observable[Event]]], Crew],
) -> Stream[Event]:
    """The Stream whose every subscription makes a crew of its own.

    Raises:
        ConfigurationError: there is no track, one is no Observable, or `max_concurrency` is no number of them.
    """
    given = checked(tracks)
    if max_concurrency is not None:
        count("max_concurrency", max_concurrency)

    def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        on = LoopScheduler.of(scheduler)
        made = crew(observer, on, given)
        call_on(on.loop, made.begin)
        return Disposable(made.dispose)

    return Stream(subscribe)


def weighed(tracks: Sequence[object], weights: Sequence[float] | None, default: Callable[[int], float]) -> list[float]:
    """The weight of each track; `default` of its number where none are given.

    Raises:
        ConfigurationError: there are more or fewer than tracks, or one is not above 0.
    """
    if weights is None:
        return [default(number) for number in range(len(tracks))]
    given = list(weights) if isinstance(weights, Iterable) else []  # pyright: ignore[reportUnnecessaryIsInstance]
    if len(given) != len(tracks):
        raise ConfigurationError(f"weights={weights!r}: must be one for each of the {len(tracks)} tracks")
    return [positive(f"weights[{number}]", weight) for number, weight in enumerate(given)]
