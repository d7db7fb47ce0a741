"""``synchronize``: one call at a time, whatever the number of threads that call."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._check import count
from rxstream._outlet import MOST, Mark, too_many
from rxstream.errors import LoopShutDown
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler, running_loop

__all__ = ["synchronize"]

T = TypeVar("T")
_HIGH: Final = 64
_LOW: Final = 16
_BREATH: Final = 0.005
"""Seconds that a long queue may hold the loop."""
_BURST: Final = 64
"""Items that it may emit before it looks at the clock."""


def synchronize(*, capacity: int = MOST) -> Callable[[Observable[T]], Observable[T]]:
    """Make calls of several threads one sequence: Rx's contract, restored.

    ::

        thread 1:  --a-----c--|
        thread 2:  --b-----d---
             synchronize()
        result:    --a-b---c-d|     one at a time

    A thread that comes while another one emits leaves its item to that one and goes: no lock is held while the observer is
    called, and no thread waits. So an item may be emitted by another thread than its own, but never before what its own
    thread gave earlier. What the observer itself causes to be emitted comes after what it is being told.

    The first end counts and comes after all that waits; what follows it is dropped. What waits for a closed gate is emitted
    on the subscriber's loop when it opens. A source that obeys the gate is held while 64 items wait.

    It is RxJava's ``serialize``; a `reactivex.Subject` that three threads feed calls its observers three times at once. To have
    the items on the loop, `observe_on_loop` alone is enough.

    Example:
        >>> import reactivex as rx
        >>> rx.of(1, 2, 3).pipe(synchronize()).run()
        3

    Args:
        capacity: Items that may wait for the thread that emits; one more, and the stream ends in
            `rxstream.errors.LimitExceeded`, after them.

    Raises:
        ConfigurationError: `capacity` is less than 1.
    """
    count("capacity", capacity)

    def synchronized(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            here = LoopScheduler.of(scheduler)
            inner = here.gate.child()
            above = SingleAssignmentDisposable()
            serial = _Serial(observer, here, inner, capacity=capacity, leave=above.dispose)
            above.disposable = source.subscribe(
                serial.on_next, serial.on_error, serial.on_completed, scheduler=here.with_gate(inner)
            )

            def dispose() -> None:
                serial.dispose()
                above.dispose()

            return Disposable(dispose)

        return Observable(subscribe)

    return synchronized


class _Serial(Generic[T]):
    """One emitter at a time: whoever finds nobody at it. Its state is guarded by a lock, which it never holds while emitting."""

    def __init__(
        self,
        observer: abc.ObserverBase[T],
        scheduler: LoopScheduler,
        above: Gate,
        *,
        capacity: int,
        leave: Callable[[], object],
    ) -> None:
        self._observer = observer
        self._emit = observer.on_next
        self._loop = scheduler.loop
        self._gate = scheduler.gate
        self._capacity = capacity
        self._leave = leave
        self._lock = threading.Lock()
        self._items: deque[T] = deque()
        self._mark = Mark(above, "synchronize", high=min(_HIGH, capacity), low=min(_LOW, capacity // 4))
        self._busy = False
        self._over = False
        self._last: tuple[Exception | None] | None = None
        self._gate.watch(self._call)

    def on_next(self, item: T) -> None:
        """Emit `item` and what comes meanwhile; or leave it to the thread that emits."""
        with self._lock:
            if self._last is not None or self._over:
                return
            mine = not (self._busy or self._gate.closed)
            full = not mine and len(self._items) >= self._capacity
            straight = mine and not self._items
            if straight:
                self._busy = True
            elif not full:
                self._items.append(item)
                self._mark.level(len(self._items))
                self._busy = self._busy or mine
        if straight:
            self._work(item)
        elif full:
            self._leave()
            self._end(too_many(self._capacity))
        elif mine:
            self._drain()

    def on_error(self, error: Exception) -> None:
        """End with `error`, after what waits; at once where it says that the loop goes down: no gate will open any more."""
        self._end(error)
        if isinstance(error, LoopShutDown):
            with self._lock:
                mine = not (self._busy or self._over)
                self._over = self._over or mine
            if mine:
                self._tell(error)

    def on_completed(self) -> None:
        """End, after what waits."""
        self._end(None)

    def dispose(self) -> None:
        """Nobody listens any more: forget what waits."""
        self._close()
        with self._lock:
            self._items.clear()

    def _end(self, error: Exception | None) -> None:
        with self._lock:
            if self._last is None:
                self._last = (error,)
        self._come()

    # --- emitting -------------------------------------------------------------------------------------------------------

    def _call(self) -> None:
        """Emit what waits in the loop's next round. Called by the gate, whose lock is held: so it takes none."""
        if not (self._gate.closed or self._over):
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(self._come)

    def _come(self) -> None:
        with self._lock:
            if self._busy or self._over or self._gate.closed:
                return
            self._busy = True
        self._drain()

    def _work(self, item: T) -> None:
        try:
            self._emit(item)
        except BaseException:
            self._rest()
            raise
        self._drain()

    def _drain(self) -> None:
        """Emit what waits. We are the one that does."""
        until: float | None = None
        emitted = 0
        try:
            while taken := self._take():
                self._emit(taken[0])
                emitted += 1
                if emitted % _BURST == 0 and running_loop() is self._loop:
                    if until is not None and self._loop.time() > until:
                        self._rest()
                        return
                    until = until or self._loop.time() + _BREATH
        except BaseException:
            self._rest()
            raise

    def _take(self) -> tuple[T] | None:
        """What to emit next. With None it has been the end, or others go on."""
        with self._lock:
            if self._items and not (self._over or self._gate.closed):
                item = self._items.popleft()
                self._mark.level(len(self._items))
                return (item,)
            self._busy = False
            last = None if self._items or self._over or self._gate.closed else self._last
            if last is not None:
                self._over = True
        if last is not None:
            self._tell(last[0])
        return None

    def _rest(self) -> None:
        with self._lock:
            self._busy = False
        self._call()

    def _tell(self, error: Exception | None) -> None:
        self._close()
        if error is None:
            self._observer.on_completed()
        else:
            self._observer.on_error(error)

    def _close(self) -> None:
        self._over = True
        self._gate.unwatch(self._call)
        with self._lock:
            self._mark.close()
