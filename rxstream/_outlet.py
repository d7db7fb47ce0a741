"""The end of an operator that keeps things back: it emits only while its observer's gate is open, in order, one at a time.

Rules of this module:

* With nothing waiting and the gates open an item goes straight through; else it waits its turn.
* An end comes after all that waits; but that the loop goes down is told at once, for no gate will open any more.
* While a gate is closed nothing is emitted, whoever calls; when it opens, what waits goes out in the loop's next round,
  before anything new, and no deeper in the stack however much it is.
* A long queue lets the loop breathe.
* All is done on the loop, but gates open in any thread.

Every operator that emits at another time than its source does ends in an `Outlet`. `Mark` is the other half: a buffer
that holds the gate of what is above it when it is full.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from reactivex import abc

from rxstream.errors import LimitExceeded, LoopShutDown
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler, call_on

__all__ = ["MOST", "Mark", "Outlet", "shut_down", "too_many"]

T = TypeVar("T")
MOST = 65_536
"""Items that may wait for an observer whose gate is closed, when what is above does not obey the gate."""
_BREATH = 0.005
"""Seconds that a long queue may hold the loop."""
_BURST = 8
"""Items that it may emit before it looks at the clock."""
_numbers = itertools.count(1)


def too_many(most: int) -> LimitExceeded:
    """What a stream ends in when its source does not stop for a consumer that is paused or slow."""
    return LimitExceeded(
        f"more than {most} items wait for a consumer that is paused or slow, and their source does not stop; "
        "put an on_backpressure operator behind it"
    )


def shut_down(before: Exception | None = None) -> LoopShutDown:
    """What a stream ends in when its loop goes down, in place of an error `before` that could not be told."""
    error = LoopShutDown()
    error.__cause__ = before
    return error


class Outlet(Generic[T]):
    """Emits to `observer`, in order, while the scheduler's gate and all `gates` are open.

    Subclass it to keep what waits in another way: `pending` and `take` are asked for the next item, `forget` drops all.

    Args:
        observer: Who is told.
        scheduler: Whose loop and gate hold.
        gates: More gates to obey.
        most: How many items may wait in `items`; one more, and the stream ends in `LimitExceeded`, after them.
        overflowed: Called then, at once: dispose what is above.
    """

    def __init__(
        self,
        observer: abc.ObserverBase[T],
        scheduler: LoopScheduler,
        *gates: Gate,
        most: int = MOST,
        overflowed: Callable[[], object] | None = None,
    ) -> None:
        self.items: deque[T] = deque()
        self.over = False
        """Whether the end was told, or nobody listens any more."""
        self._emit = observer.on_next
        self._observer = observer
        self._loop = scheduler.loop
        self._gates = (scheduler.gate, *gates)
        self._gate = scheduler.gate
        self._several = bool(gates)
        self._most = most
        self._overflowed = overflowed
        self._busy = False
        self._called = False
        self._last: tuple[Exception | None] | None = None
        self._vigil: asyncio.Task[None] | None = None
        for gate in self._gates:
            gate.watch(self.call)

    # --- the operator's side ------------------------------------------------------------------------------------------

    def on_next(self, item: T) -> None:
        """Emit `item`, now or after what waits."""
        if not (self._gate.closed or self._busy or self.items or self.over or (self._several and self.closed)):
            self._busy = True
            try:
                self._emit(item)
            finally:
                self._busy = False
            if self.items or self._last is not None:
                self.flush()
        elif not self.over and self._last is None:
            self._keep(item)

    def on_error(self, error: Exception) -> None:
        """End with `error`, after what waits; at once where it says that the loop goes down: no gate will open any more."""
        if not isinstance(error, LoopShutDown):
            self._end(error)
            return
        self.flush()
        if not self.over:
            self._tell(error)

    def on_completed(self) -> None:
        """End, after what waits."""
        self._end(None)

    def dispose(self) -> None:
        """Nobody listens any more: forget what waits. From any thread."""
        self.over = True
        for gate in self._gates:
            gate.unwatch(self.call)
        call_on(self._loop, self._retire)  # not here: the loop may be about to take one

    @property
    def closed(self) -> bool:
        """Whether a gate is closed."""
        return any(gate.closed for gate in self._gates) if self._several else self._gate.closed

    # --- what waits: to be overridden together ------------------------------------------------------------------------

    def pending(self) -> bool:
        """Whether there is an item to emit."""
        return bool(self.items)

    def take(self) -> T:
        """The next item; asked for only if there is one."""
        return self.items.popleft()

    def forget(self) -> None:
        """There is nobody left to take what waits."""
        self.items.clear()

    # --- emitting -----------------------------------------------------------------------------------------------------

    def call(self) -> None:
        """`flush` in the loop's next round. From any thread."""
        if not (self._called or self.over or self.closed):
            self._called = True
            try:
                self._loop.call_soon_threadsafe(self._come)
            except RuntimeError:  # the loop is closed: nobody is left to be told
                self._called = False

    def _come(self) -> None:
        self._called = False
        self.guard(self.flush)

    def guard(self, work: Callable[[], object]) -> None:
        """Do `work`, which emits and which only the loop called: what the observer raises it gets back, as its end."""
        try:
            work()
        except Exception as error:
            if self.over:
                raise
            self._tell(error)

    def flush(self) -> None:
        """Emit what waits, as far as the gates let it, and then the end, if it has come. On the loop."""
        if self._busy:
            return  # by the observer of what we emit: the loop below goes on
        self._busy = True
        emitted, until = 0, self._loop.time() + _BREATH
        try:
            while not self.over and not self.closed and self.pending():
                self._emit(self.take())
                emitted += 1
                if emitted % _BURST == 0 and self._loop.time() > until:
                    break
        finally:
            self._busy = False
        if self.over:
            return
        if self.closed or self.pending():
            self.call()
            if self._last is not None:
                self.outlast()
        elif self._last is not None:
            self._tell(self._last[0])

    def _end(self, error: Exception | None) -> None:
        if self._last is None and not self.over:
            self._last = (error,)
            self.flush()

    def outlast(self) -> None:
        """From now on it is for us to tell that the loop goes down: the source, which would, has ended or is waited for."""
        if self._vigil is None:
            call_on(self._loop, self._outlast)

    def _outlast(self) -> None:
        if self._vigil is None and not self.over:
            self._vigil = self._loop.create_task(_for_ever())
            self._vigil.add_done_callback(self._end_vigil)

    def _end_vigil(self, _: object) -> None:  # not done by the task: it may be cancelled before it has begun
        if not self.over:
            self._tell(shut_down(self._last and self._last[0]))

    def _retire(self) -> None:
        self.forget()
        if self._vigil is not None:
            self._vigil.cancel()

    def _tell(self, error: Exception | None) -> None:
        self.dispose()
        if error is None:
            self._observer.on_completed()
        else:
            self._observer.on_error(error)

    def _keep(self, item: T) -> None:
        if len(self.items) < self._most:
            self.items.append(item)
            self.flush()
            return
        if self._overflowed is not None:
            self._overflowed()
        self._end(too_many(self._most))


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


class Mark:
    """Holds `gate` while a buffer is full: from its high mark until it is down to its low mark.

    Args:
        gate: Of what fills the buffer.
        name: What the hold is called in ``gate.holds``; a number is added.
        high: The level at which to hold.
        low: The level at which to release.
    """

    __slots__ = ("_closed", "_gate", "_name", "held", "high", "low")

    def __init__(self, gate: Gate, name: str, *, high: float, low: float) -> None:
        self.high = high
        self.low = low
        self.held = False
        self._closed = False
        self._gate = gate
        self._name = f"{name}-{next(_numbers)}"

    def level(self, level: float) -> None:
        """The buffer now holds so much."""
        if self.held:
            if level <= self.low:
                self.held = False
                self._gate.release(self._name)
        elif level >= self.high and not self._closed:
            self.held = True
            self._gate.hold(self._name)

    def close(self) -> None:
        """Hold no more."""
        self._closed = True
        if self.held:
            self.held = False
            self._gate.release(self._name)
