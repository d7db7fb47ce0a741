"""``rate_limit``: no faster than a limiter permits."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._check import one_of, positive
from rxstream._outlet import MOST, Mark, Outlet, shut_down
from rxstream._units import BYTES_A_TOKEN, bytes_in, characters_in, text_of
from rxstream.errors import ConfigurationError, LimitExceeded
from rxstream.limiter import TokenBucket, acquiring
from rxstream.loop import LoopScheduler, call_on
from rxstream.typing import Acquire

__all__ = ["rate_limit"]

T = TypeVar("T")
_BURST = 64
"""Items that are emitted before the loop may breathe."""


def rate_limit(
    limiter: float | Acquire, *, unit: Literal["events", "tokens", "characters"] = "events"
) -> Callable[[Observable[T]], Observable[T]]:
    """Let each item wait until `limiter` permits it. Nothing is lost, and the order is kept.

    ::

        source:  -abcd-----------|
             rate_limit(TokenBucket(1, per=3, burst=2))
        result:  -ab--c--d-------|

    While an item waits, the source is held at its gate, so that it is the connection that waits and no memory fills. An
    end comes after what waits. When the limiter raises, what waits is emitted, and then its error.

    Name and idea are those of Akka Streams' ``throttle`` and the token bucket; Rx's ``throttle`` drops items.

    Example:
        >>> import rxstream
        >>> from rxstream import operators as rxo
        >>> list(rxstream.from_iterable(["a", "b", "c"]).pipe(rate_limit(100), rxo.text()))
        ['a', 'b', 'c']

    Args:
        limiter: A `TokenBucket`, which streams may share; any other object with a coroutine function
            ``acquire(amount)``, or ``acquire()``, which is then called once for each unit; or a number of units a second,
            for a bucket of each subscription's own, as large as one second's units.
        unit: What is counted: ``events``: every item is one; ``characters``: of text, thinking, refusals and the
            arguments of tool calls, or of strings, as a reader counts them; ``tokens``: four bytes of such text. What
            brings no text then waits only for what came before it.

    Raises:
        ConfigurationError: the number is not greater than 0, the object is no limiter, or `unit` is unknown.
    """
    one_of("unit", unit, ("events", "tokens", "characters"))
    if isinstance(limiter, (int, float)):
        positive("limiter", limiter)
    elif not inspect.iscoroutinefunction(getattr(limiter, "acquire", None)):
        raise ConfigurationError(f"limiter={limiter!r}: must be a number, or have a coroutine function acquire")

    def limited(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            on = LoopScheduler.of(scheduler)
            chosen = TokenBucket(limiter, clock=on.loop.time) if isinstance(limiter, (int, float)) else limiter
            return _Limited(chosen, unit, observer, on).start(source)

        return Observable(subscribe)

    return limited


class _Limited(Generic[T]):
    """One subscription: a queue before the limiter, and a task that waits there while anything is in it."""

    def __init__(self, limiter: Acquire, unit: str, observer: abc.ObserverBase[T], scheduler: LoopScheduler) -> None:
        self._upstream = SingleAssignmentDisposable()
        self._outlet: Outlet[T] = Outlet(observer, scheduler)
        inner = scheduler.gate.child()
        self._mark = Mark(inner, "rate_limit", high=1, low=0)
        self._inner = scheduler.with_gate(inner)
        self._gate = scheduler.gate
        self._loop = scheduler.loop
        self._amount = _amounts(unit)
        self._try = limiter.try_acquire if isinstance(limiter, TokenBucket) else None
        self._acquire = acquiring(limiter)
        self._waiting: deque[tuple[T, int]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._last: tuple[Exception | None] | None = None

    def start(self, source: Observable[T]) -> abc.DisposableBase:
        self._upstream.disposable = source.subscribe(self._next, self._end, self._end, scheduler=self._inner)
        return Disposable(self._dispose)

    def _next(self, item: T) -> None:
        if self._last is not None:  # a source that emits while it is subscribed cannot be stopped
            return
        amount = 1 if self._amount is None else self._amount(item)
        if not (self._waiting or self._gate.closed) and (not amount or (self._try and not self._try(amount))):
            self._outlet.on_next(item)
            return
        self._waiting.append((item, amount))
        self._mark.level(len(self._waiting))
        if len(self._waiting) > MOST:
            self._upstream.dispose()
            self._end(LimitExceeded(f"more than {MOST} items wait for a rate limit, and their source does not stop"))
        if self._task is None:
            call_on(self._loop, self._work)

    def _end(self, error: Exception | None = None) -> None:
        if self._last is None:
            self._last = (error,)
            if self._task is None:
                self._tell()

    def _tell(self) -> None:
        if self._last is not None and not self._waiting:
            error = self._last[0]
            if error is None:
                self._outlet.on_completed()
            else:
                self._outlet.on_error(error)

    def _work(self) -> None:
        if self._task is None and self._waiting:
            self._task = self._loop.create_task(self._serve())

    async def _serve(self) -> None:
        try:
            served = 0
            while self._waiting and await self._permitted(self._waiting[0][1]):
                self._emit()
                served += 1
                if served % _BURST == 0:
                    await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 - the observer's own: it gets it back
            self._waiting.clear()
            self._fail(error)
        except asyncio.CancelledError:
            if not self._outlet.over:
                self._fail(shut_down())
            raise
        finally:
            self._task = None
            self._tell()

    async def _permitted(self, amount: int) -> bool:
        await self._gate.wait()
        if amount and (self._try is None or self._try(amount)):
            try:
                await self._acquire(amount)
            except Exception as error:  # noqa: BLE001 - a limiter may raise anything
                self._fail(error)
                return False
        return not self._outlet.over

    def _fail(self, error: Exception) -> None:
        """Nothing will be permitted any more: let go what waits."""
        self._upstream.dispose()
        self._last = (error,)
        while self._waiting:
            self._emit()

    def _emit(self) -> None:
        item, _ = self._waiting.popleft()
        self._outlet.on_next(item)
        self._mark.level(len(self._waiting))

    def _dispose(self) -> None:
        self._outlet.dispose()
        self._upstream.dispose()
        self._mark.close()
        call_on(self._loop, self._cancel)

    def _cancel(self) -> None:
        self._waiting.clear()
        # Where the task itself emits to whom disposes us, it finds nothing left to do.
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


def _amounts(unit: str) -> Callable[[object], int] | None:
    """How many units an item is of; None if each is one."""
    if unit == "events":
        return None
    if unit == "characters":
        return lambda item: characters_in(text_of(item))
    rest = 0  # bytes that make no token yet: however the text is cut, it has as many

    def tokens(item: object) -> int:
        nonlocal rest
        amount, rest = divmod(rest + bytes_in(text_of(item)), BYTES_A_TOKEN)
        return amount

    return tokens
