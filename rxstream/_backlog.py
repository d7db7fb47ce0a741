"""What waits between a source and a consumer that is paused or slow: how much, what gives way, and who is told.

Rules of this module:

* A consumer is ready while its gate is open. Then an item goes straight through and nothing is counted.
* The buffers of the ``on_backpressure`` family and `coalesce` decouple: what is above them obeys a gate beside the
  consumer's. So the source runs on while the consumer is paused or slow; it stops where the buffer holds that gate, at its
  high mark, and goes on at the low one. A pause below reaches the source only through a full buffer. (A valve does not
  decouple: what is above it obeys the consumer's gate as well.)
* ``hold`` loses nothing: what is in flight when the source is held is kept, too. A source that obeys no gate ends in
  `LimitExceeded`, after all that was kept.
* A policy that drops never drops an event whose loss would make an answer wrong (`rxstream._deltas`): it is kept beyond the
  capacity.
* The rule for a full buffer is for a closed gate. What comes while the consumer handles an item, gate open, only waits.
* All is done on the loop; `BufferStatistics` may be read anywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._deltas import droppable, joined, place, size, text_of
from rxstream._outlet import MOST, Mark, Outlet
from rxstream.errors import LimitExceeded
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler

__all__ = ["Backlog", "BufferStatistics", "Merger", "Overflow", "buffered"]

T = TypeVar("T")
Overflow: TypeAlias = Literal["hold", "error", "drop_newest", "drop_oldest"]
"""What to do about an item for which there is no room."""
_FAR = 16
"""So many times its capacity a `Merger` may hold of what a source sends although it is held."""


class BufferStatistics:
    """Figures of a buffer, kept up to date by the operator it is given to. They may be read from any thread.

    They count all subscriptions of that operator together (on one loop); give each its own to tell them apart.
    """

    __slots__ = ("bytes", "capacity", "dropped", "held", "peak", "used")

    def __init__(self) -> None:
        self.capacity = 0
        """What it is meant to hold: items, or bytes where the operator counts these."""
        self.used = 0
        """Items that wait now."""
        self.bytes = 0
        """About the bytes of text in them."""
        self.peak = 0
        """The most items that have waited."""
        self.dropped = 0
        """Items that were dropped."""
        self.held = 0
        """Sources that are held because the buffer is full."""

    @property
    def waiting(self) -> bool:
        """Whether a source is held."""
        return self.held > 0

    def __repr__(self) -> str:
        return (
            f"<BufferStatistics capacity={self.capacity} used={self.used} bytes={self.bytes} peak={self.peak} "
            f"dropped={self.dropped} waiting={self.waiting}>"
        )


class Backlog(Outlet[T]):
    """An outlet that keeps only so much, and has a rule for what is too much.

    Args:
        observer: Who is told.
        scheduler: Whose loop and gate hold.
        capacity: Items that may wait; for a policy that drops, items that may be dropped.
        overflow: What to do about more.
        high: With ``hold``, how much holds the source; by default `capacity`.
        low: … and at how little it is released; by default a quarter of `high`.
        valve: A second gate to obey. With it, `overflow` is the rule while that one is closed.
        statistics: What to fill in.
        on_drop: Called with each item that is dropped.
    """

    def __init__(
        self,
        observer: abc.ObserverBase[T],
        scheduler: LoopScheduler,
        *,
        capacity: int,
        overflow: Overflow,
        high: int | None = None,
        low: int | None = None,
        valve: Gate | None = None,
        statistics: BufferStatistics | None = None,
        on_drop: Callable[[T], object] | None = None,
    ) -> None:
        super().__init__(observer, scheduler, *(() if valve is None else (valve,)))
        high = capacity if high is None else high
        upstream = scheduler.gate.beside() if valve is None else scheduler.gate.child()
        self._above = scheduler.with_gate(upstream)
        self._subscription = SingleAssignmentDisposable()
        self._most = self._far(capacity)
        self._limit = self._most if overflow == "hold" else capacity
        self._overflow = overflow
        self._drops = overflow.startswith("drop")
        self._holds = overflow == "hold"
        self._ruled = scheduler.gate if valve is None else valve
        self._mark = Mark(upstream, "buffer", high=high, low=high // 4 if low is None else low)
        self._statistics = BufferStatistics() if statistics is None else statistics
        self._statistics.capacity = capacity
        self._on_drop = on_drop
        self._passed: deque[T] = deque()  # older than all in `items`: what was dropped stood behind them
        self._used = self._bytes = self._level = 0

    def connect(self, source: Observable[T]) -> abc.DisposableBase:
        """Subscribe to `source`, unless it has failed already; the disposable of it all."""
        if not self._subscription.is_disposed:
            self._subscription.disposable = source.subscribe(
                self.on_next, self.on_error, self.on_completed, scheduler=self._above
            )
        return Disposable(self.dispose)

    def give_up(self, error: Exception) -> None:
        """End with `error`, after what waits and whatever the valve says: nobody may be left to open it."""
        for valve in self._gates[1:]:
            valve.unwatch(self.call)
        self._gates = self._gates[:1]
        self.end(error)

    def end(self, error: Exception) -> None:
        """Leave the source, and end with `error` after what waits."""
        self._subscription.dispose()
        self.on_error(error)

    def dispose(self) -> None:
        """Nobody listens any more: leave the source, forget what waits."""
        super().dispose()
        self._subscription.dispose()

    # --- what waits: to be overridden together ------------------------------------------------------------------------

    @staticmethod
    def _far(capacity: int) -> int:
        """What nothing may go beyond, whatever the rule."""
        return capacity + MOST

    def _weigh(self, item: T) -> int:
        return 1 if not self._drops or droppable(item) else 0

    def _append(self, item: T, weight: int) -> None:
        self.items.append(item)
        self._count(1, size(item), weight)

    def take(self) -> T:
        """The oldest that waits."""
        item = self._passed.popleft() if self._passed else self.items.popleft()
        self._count(-1, -size(item), -self._weigh(item))
        return item

    def forget(self) -> None:
        """There is nobody left to take what waits."""
        super().forget()
        self._passed.clear()
        self._count(-self._used, -self._bytes, -self._level)

    # --- keeping ------------------------------------------------------------------------------------------------------

    def _keep(self, item: T) -> None:
        weight = self._weigh(item)
        if self._used >= self._most or self._level >= self._most:
            self.end(self._too_much())
        elif weight and self._level >= self._limit and self._ruled.closed:
            self._refuse(item)
        else:
            self._append(item, weight)
        if not self.closed:
            self.flush()

    def _refuse(self, item: T) -> None:
        if self._overflow == "error":
            self.give_up(self._too_much())
        else:
            dropped = self._exchange(item) if self._overflow == "drop_oldest" and self._level else item
            self._statistics.dropped += 1
            if self._on_drop is not None:
                try:
                    self._on_drop(dropped)
                except Exception as error:  # noqa: BLE001 - the user's own
                    self.give_up(error)

    def _exchange(self, item: T) -> T:
        """Keep `item` in place of the oldest that may be dropped."""
        while not self._weigh(self.items[0]):
            self._passed.append(self.items.popleft())
        oldest = self.items.popleft()
        self._count(-1, -size(oldest), -1)
        self._append(item, 1)
        return oldest

    def _too_much(self) -> LimitExceeded:
        who = (
            "the valve is closed"
            if self._ruled is not self._gate and self._ruled.closed
            else "the consumer is paused or slow"
        )
        though = " although the source is held" if self._mark.held else ""
        return LimitExceeded(f"{who}, {self._used} items of about {self._bytes} bytes wait, and one more came{though}")

    def _count(self, items: int, octets: int, weight: int) -> None:
        self._used += items
        self._bytes += octets
        self._level += weight
        statistics, mark = self._statistics, self._mark
        statistics.bytes += octets
        statistics.used = used = statistics.used + items
        statistics.peak = max(statistics.peak, used)
        if self._holds and (mark.held or self._level >= mark.high):
            held = mark.held
            mark.level(self._level)
            statistics.held += mark.held - held


class Merger(Backlog[T]):
    """A backlog that joins what waits, where neighbours may be joined. Its capacity is in bytes of text.

    One that becomes as large as the capacity is joined to no more. `items` ends in what is still growing: its text so far
    is in pieces, so that joining takes linear time.
    """

    def __init__(
        self,
        observer: abc.ObserverBase[T],
        scheduler: LoopScheduler,
        *,
        capacity: int,
        overflow: Overflow,
        statistics: BufferStatistics | None,
    ) -> None:
        super().__init__(observer, scheduler, capacity=capacity, overflow=overflow, statistics=statistics)
        self._largest = capacity
        self._sizes: deque[int] = deque()
        self._pieces: list[str] = []
        self._place: object = None  # of the last item, while it waits

    @staticmethod
    def _far(capacity: int) -> int:
        return capacity * _FAR

    def _weigh(self, item: T) -> int:
        return size(item)

    def _append(self, item: T, weight: int) -> None:
        of = place(item)
        if of is not None and of == self._place and self._sizes[-1] + weight <= self._largest:
            if not self._pieces:
                self._pieces.append(text_of(self.items[-1]))
            self._pieces.append(text_of(item))
            self._sizes[-1] += weight
            self._count(0, weight, weight)
        else:
            self._join()
            self._place = of
            self.items.append(item)
            self._sizes.append(weight)
            self._count(1, weight, weight)

    def take(self) -> T:
        """The oldest that waits, with what was joined to it."""
        if len(self.items) == 1:
            self._join()
            self._place = None
        octets = self._sizes.popleft()
        self._count(-1, -octets, -octets)
        return self.items.popleft()

    def forget(self) -> None:
        """There is nobody left to take what waits."""
        super().forget()
        self._sizes.clear()
        self._pieces.clear()
        self._place = None

    def _join(self) -> None:
        if self._pieces:
            self.items[-1] = joined(self.items[-1], self._pieces)
            self._pieces.clear()


def buffered(
    make: Callable[[abc.ObserverBase[T], LoopScheduler], Backlog[T]],
) -> Callable[[Observable[T]], Observable[T]]:
    """An operator that puts what `make` makes, for each subscription, behind its source."""

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            return make(observer, LoopScheduler.of(scheduler)).connect(source)

        return Observable(subscribe)

    return operator
