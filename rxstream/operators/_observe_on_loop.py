"""``observe_on_loop``: what other threads emit, delivered on the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._check import count
from rxstream._outlet import Mark, Outlet, too_many
from rxstream.errors import ConfigurationError
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler, call_on, running_loop

__all__ = ["observe_on_loop"]

T = TypeVar("T")


def observe_on_loop(
    loop: asyncio.AbstractEventLoop | None = None, *, capacity: int = 1024
) -> Callable[[Observable[T]], Observable[T]]:
    """Deliver on the subscriber's loop what a source emits in other threads or on another loop.

    ::

        source:  --a-b-c--d--|      in any thread
             observe_on_loop()
        result:  ---a-b-c--d--|     on the loop

    The order is kept, the end comes after the items. One wake-up of the loop serves all items that wait by then; what is
    emitted on the loop itself, with nothing waiting, goes straight through.

    A source that obeys the gate (all of ours do) is held while half of `capacity` waits, and goes on when an eighth is
    left. With one that does not stop, and comes to `capacity`, the stream ends in `rxstream.errors.LimitExceeded`, after what
    waits; an ``on_backpressure`` operator behind this one has other answers for a consumer that is slow or paused.

    It is RxPY's ``observe_on``, bounded and for one loop. With a `loop` that is not the subscriber's: the source is subscribed
    with the subscriber's scheduler and runs where it would have run; what stands behind this operator is called on `loop`,
    but its timers are still the subscriber's. So put it last then.

    Example:
        >>> import reactivex as rx
        >>> rx.of(1, 2, 3).pipe(observe_on_loop()).run()
        3

    Args:
        loop: Where to deliver; by default the loop that the subscriber runs on.
        capacity: Items that may wait for the loop, or for a subscriber that is paused.

    Raises:
        ConfigurationError: `capacity` is less than 1, or `loop` is no event loop.
    """
    count("capacity", capacity)
    if loop is not None and not isinstance(loop, asyncio.AbstractEventLoop):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"loop={loop!r}: must be an event loop of asyncio")

    def observed(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            here = LoopScheduler.of(scheduler)
            there = here if loop is None else LoopScheduler(loop, gate=here.gate)
            inner = here.gate.child()
            above = SingleAssignmentDisposable()
            outlet = _Handover(observer, there, inner, capacity=capacity, leave=above.dispose)
            above.disposable = source.subscribe(
                outlet.on_next, outlet.on_error, outlet.on_completed, scheduler=here.with_gate(inner)
            )

            def dispose() -> None:
                outlet.dispose()
                above.dispose()

            return Disposable(dispose)

        return Observable(subscribe)

    return observed


class _Handover(Outlet[T]):
    """An outlet that is filled in any thread; what waits is guarded by a lock."""

    def __init__(
        self,
        observer: abc.ObserverBase[T],
        scheduler: LoopScheduler,
        above: Gate,
        *,
        capacity: int,
        leave: Callable[[], object],
    ) -> None:
        super().__init__(observer, scheduler)
        self._lock = threading.Lock()
        self._capacity = capacity
        self._leave = leave
        self._mark = Mark(above, "observe_on_loop", high=max(1, capacity // 2), low=capacity // 8)
        self._shut = False

    def on_next(self, item: T) -> None:
        """Emit `item`, if we are on the loop and nothing waits; else keep it for the loop."""
        if running_loop() is self._loop:
            super().on_next(item)
        else:
            self._keep(item)

    def on_error(self, error: Exception) -> None:
        """End with `error`, after what waits; at once where it says that our loop goes down."""
        if running_loop() is self._loop:
            super().on_error(error)
        else:
            self._end(error)

    def dispose(self) -> None:
        """Nobody listens any more."""
        super().dispose()
        with self._lock:
            self._shut = True
            self._mark.close()

    def take(self) -> T:
        """The next item; the source goes on when few are left."""
        with self._lock:
            item = self.items.popleft()
            if self._mark.held:
                self._mark.level(len(self.items))
            return item

    def _keep(self, item: T) -> None:
        with self._lock:
            full = len(self.items) >= self._capacity
            if not (full or self._shut):
                self.items.append(item)
                self._mark.level(len(self.items))
            self._shut = self._shut or full
        if full:
            self._leave()
            self._end(too_many(self._capacity))
        else:
            self.call()

    def _end(self, error: Exception | None) -> None:
        call_on(self._loop, partial(super()._end, error))
