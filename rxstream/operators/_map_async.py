"""``map_async``: a coroutine function for each item, several at a time."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._blame import because_of
from rxstream._check import count, flag, function
from rxstream._outlet import MOST, Mark, Outlet, too_many
from rxstream.errors import Cancelled, plain_error
from rxstream.loop import LoopScheduler

__all__ = ["map_async"]

A = TypeVar("A")
B = TypeVar("B")
_HIGH: Final = 64
_LOW: Final = 16
"""Items beyond the calls in flight at which the source is held, and released again."""
_calls: set[asyncio.Future[Any]] = set()
"""A loop holds its tasks weakly; a call runs until it ends, whoever forgets it."""


def map_async(
    fn: Callable[[A], Awaitable[B]], *, max_concurrency: int = 1, ordered: bool = True
) -> Callable[[Observable[A]], Observable[B]]:
    """Await `fn` of each item and emit what it gives.

    ::

        source:  --a--b--c-----------|
             map_async(fn, max_concurrency=2)
        result:  -------A--B--C------|

    At most `max_concurrency` calls are in flight, each in the subscriber's context. What more comes waits, and at 64 items
    the source is held. An awaitable that is done already, such as a future out of a cache, costs no task.

    What a call raises ends the stream: the others are cancelled and the source is closed; with `ordered` the results of what
    came before it are awaited and emitted first. When the source ends, with or without an error, the calls of what it gave
    are finished first. Disposing cancels the calls.

    In Rx terms it is ``concat_map`` (ordered, one at a time), ``concat_map_eager`` (ordered) or ``flat_map`` of a future; Akka
    calls it ``mapAsync`` and ``mapAsyncUnordered``.

    Example:
        >>> import asyncio
        >>> import reactivex as rx
        >>> async def double(number: int) -> int:
        ...     await asyncio.sleep(0.001 * (4 - number))
        ...     return 2 * number
        >>> from reactivex import operators as ops
        >>> rx.of(1, 2, 3).pipe(map_async(double, max_concurrency=3), ops.to_list()).run()
        [2, 4, 6]

    Args:
        fn: Called with an item, on the subscriber's loop; what it gives is awaited.
        max_concurrency: Calls in flight.
        ordered: Whether results come in the order of the items, or as they are done.

    Raises:
        ConfigurationError: `max_concurrency` is less than 1, or `fn` cannot be called.
    """
    count("max_concurrency", max_concurrency)
    function("fn", fn)
    flag("ordered", ordered)

    def mapped(source: Observable[A]) -> Observable[B]:
        def subscribe(observer: abc.ObserverBase[B], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            return _Calls(fn, max_concurrency, ordered, observer, LoopScheduler.of(scheduler)).start(source)

        return Observable(subscribe)

    return mapped


class _Calls(Outlet[B], Generic[A, B]):
    """The calls of one subscription. In `items` are their futures: from when they begin if ordered, else once they are done."""

    items: deque[Any]

    def __init__(
        self,
        fn: Callable[[A], Awaitable[B]],
        max_concurrency: int,
        ordered: bool,
        observer: abc.ObserverBase[B],
        scheduler: LoopScheduler,
    ) -> None:
        super().__init__(observer, scheduler)
        self._fn = fn
        self._max = max_concurrency
        self._ordered = ordered
        self._context = contextvars.copy_context()
        self._upstream = SingleAssignmentDisposable()
        inner = scheduler.gate.child()
        self._inner = scheduler.with_gate(inner)
        self._mark = Mark(inner, "map_async", high=max_concurrency + _HIGH, low=max_concurrency + _LOW)
        self._waiting: deque[A] = deque()
        self._flying: dict[asyncio.Future[B], None] = {}
        self._starting = False
        self._ending: tuple[Exception | None] | None = None

    def start(self, source: Observable[A]) -> abc.DisposableBase:
        self._upstream.disposable = source.subscribe(self._next, self._finish, self._finish, scheduler=self._inner)
        return Disposable(self.dispose)

    def dispose(self) -> None:
        """Nobody listens any more. From any thread."""
        super().dispose()
        self._upstream.dispose()
        self._mark.close()

    # --- the source's side ----------------------------------------------------------------------------------------------

    def _next(self, item: A) -> None:
        """Call the function with `item`, now or when it is its turn."""
        if self._ending is not None or self.over:
            return
        if self._kept >= MOST + self._max:
            self._upstream.dispose()
            self._finish(too_many(MOST))
            return
        self._waiting.append(item)
        self._proceed()

    def _finish(self, error: Exception | None = None) -> None:
        """No more items: the calls of those that came are finished first."""
        if self._ending is None:
            self._ending = (error,)
            self._proceed()

    # --- calls ------------------------------------------------------------------------------------------------------------

    def _proceed(self) -> None:
        """Start as many calls as there may be; end when there are none left."""
        if self._starting:
            return  # a call gave its result at once: the loop below goes on
        self._starting = True
        try:
            while self._waiting and len(self._flying) < self._max and not self.over:
                self._start(self._waiting.popleft())
        finally:
            self._starting = False
        self._mark.level(self._kept)
        if self._ending is not None and not self._waiting and not self._flying:
            error = self._ending[0]
            if error is None:
                self.on_completed()
            else:
                self.on_error(error)

    def _start(self, item: A) -> None:
        future: asyncio.Future[B]
        try:
            future = self._context.copy().run(lambda: asyncio.ensure_future(self._fn(item), loop=self._loop))
        except Exception as error:  # noqa: BLE001 - the user's own
            self._fail(plain_error(error), [] if self._ordered else list(self._flying))
            return
        if future in self._flying:
            future = asyncio.shield(future)  # the same one, for another item
        self._flying[future] = None
        if self._ordered:
            self.items.append(future)
        if future.done():
            self._done(future)
        else:
            _calls.add(future)
            future.add_done_callback(self._landed)
            self.outlast()  # a call that is cancelled does not say whether the loop goes down
        if self.over:  # disposed by the function, or by who was told of its result
            self.forget()

    def _landed(self, future: asyncio.Future[B]) -> None:
        _calls.discard(future)
        try:
            self._done(future)
        finally:  # the observer may raise: that is told to the loop, and the others go on
            self._proceed()

    def _done(self, future: asyncio.Future[B]) -> None:
        error = _error_of(future)  # asked for in any case: asyncio logs errors that nobody has seen
        if future not in self._flying:
            return  # it was cancelled
        del self._flying[future]
        if error is None:
            if not self._ordered:
                self.items.append(future)
            self.flush()
        elif self._ordered:  # the results of what came before it are awaited
            first = self.items.index(future)
            self._fail(error, [self.items.pop() for _ in range(len(self.items) - first)])
        else:
            self._fail(error, list(self._flying))

    def _fail(self, error: Exception, others: list[asyncio.Future[B]]) -> None:
        """End with `error`, without `others`."""
        with because_of(error):
            self._upstream.dispose()
        self._ending = (error,)
        self._waiting.clear()
        self._cancel(others)

    def _cancel(self, futures: list[asyncio.Future[B]]) -> None:
        for future in futures:
            self._flying.pop(future, None)
            future.cancel()

    # --- results ----------------------------------------------------------------------------------------------------------

    def pending(self) -> bool:
        """Whether the next result is there."""
        return bool(self.items) and self.items[0].done() and _error_of(self.items[0]) is None

    def take(self) -> B:
        """The next result."""
        result: B = self.items.popleft().result()
        self._mark.level(self._kept)
        return result

    def forget(self) -> None:
        """There is nobody left to take the results."""
        self._cancel(list(self._flying))
        self._waiting.clear()
        super().forget()

    @property
    def _kept(self) -> int:
        """Items that have come and whose results have not been emitted."""
        return len(self._waiting) + len(self.items) + (0 if self._ordered else len(self._flying))


def _error_of(future: asyncio.Future[Any]) -> Exception | None:
    if future.cancelled():
        return Cancelled("a call of map_async was cancelled")
    error = future.exception()
    return None if error is None else plain_error(error)
