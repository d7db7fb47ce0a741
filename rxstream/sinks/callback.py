"""Callbacks at the end of a stream: what a plain `subscribe` takes, made safe.

Rules of this module:

* What a callback raises disposes the subscription and goes to its own ``on_error``; it never reaches another observer.
* An error that nobody takes is logged once, to the logger ``rxstream``.
* Coroutine functions are awaited one after the other; a bounded buffer in between holds the stream's gate.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._blame import because_of, foreign
from rxstream._log import facts, log, trace, words
from rxstream.errors import Cancelled
from rxstream.loop import LoopScheduler, call_on, contain
from rxstream.sinks.iterator import AsyncItems

__all__ = ["SafeObserver", "call_last", "is_async", "log_error", "subscribe_async"]

T = TypeVar("T")
_tasks: set[asyncio.Task[None]] = set()
"""A loop holds its tasks weakly."""


def log_error(error: Exception) -> None:
    """What becomes of an error when the subscriber gave no ``on_error``; that a loop was shut down is no alarm."""
    level = logging.INFO if isinstance(error, Cancelled) else logging.ERROR
    told = facts("error-unhandled", error=error)
    log.log(level, "a stream failed and nobody took the error: %s", words(error), extra=told)


def call_last(callback: Callable[..., Any], *arguments: Any) -> None:
    """Call an ``on_error`` or ``on_completed``. What it raises is logged: there is nobody left to be told."""
    try:
        callback(*arguments)
    except BaseException as raised:  # noqa: BLE001 - the observer's own
        _log_raised(contain(raised))


def _log_raised(error: Exception) -> None:
    told = facts("callback-raised", error=error)
    log.error("an observer's last callback raised %s", type(error).__name__, exc_info=trace(error), extra=told)


class SafeObserver(abc.ObserverBase[T], Generic[T]):
    """An observer whose own exceptions end its own subscription, and nothing else."""

    def __init__(
        self,
        on_next: Callable[[T], Any] | None,
        on_error: Callable[[Exception], Any] | None,
        on_completed: Callable[[], Any] | None,
    ) -> None:
        self.subscription = SingleAssignmentDisposable()
        self._next = on_next
        self._error = on_error or log_error
        self._completed = on_completed
        self._stopped = False

    def on_next(self, value: T) -> None:
        """Hand on, unless it is over."""
        if self._stopped or self._next is None:
            return
        try:
            self._next(value)
        except BaseException as raised:  # noqa: BLE001 - the observer's own: it gets it back
            error = contain(raised)
            with because_of(error):
                self.subscription.dispose()
            self.on_error(error)

    def on_error(self, error: Exception) -> None:
        """Hand on, once; what the callback itself raises is logged."""
        if not self._stopped:
            self._stopped = True
            call_last(self._error, error)
            with because_of(foreign(error)):
                self.subscription.dispose()  # which holds us

    def on_completed(self) -> None:
        """Hand on, once; what the callback itself raises is logged."""
        if not self._stopped:
            self._stopped = True
            if self._completed is not None:
                call_last(self._completed)
            self.subscription.dispose()


def is_async(*callbacks: Callable[..., Any] | None) -> bool:
    """Whether any of the callbacks is a coroutine function."""
    functions = [*callbacks, *(type(callback).__call__ for callback in callbacks if callback is not None)]
    return any(inspect.iscoroutinefunction(function) for function in functions)


def subscribe_async(
    source: Observable[T],
    on_next: Callable[[T], Any] | None,
    on_error: Callable[[Exception], Any] | None,
    on_completed: Callable[[], Any] | None,
    *,
    scheduler: LoopScheduler,
) -> abc.DisposableBase:
    """Subscribe callbacks of which some are coroutine functions: each is awaited before the next is called."""

    async def consume() -> None:
        try:
            async with AsyncItems(source, gate=scheduler.gate) as items:
                async for item in items:
                    await _maybe(on_next, item)
                    if running.is_disposed:  # by the callback itself
                        return
        except BaseException as raised:  # the stream's, or the observer's own
            if _is_left(raised):
                raise
            await _last(on_error or log_error, contain(raised))
        else:
            await _last(on_completed)

    context = contextvars.copy_context()
    running = SingleAssignmentDisposable()

    def start() -> None:
        task = scheduler.loop.create_task(consume(), context=context)
        _tasks.add(task)
        task.add_done_callback(_done)
        # This cancels at once if it is disposed by now.
        running.disposable = Disposable(lambda: call_on(scheduler.loop, task.cancel))

    call_on(scheduler.loop, start)
    return running


def _done(task: asyncio.Task[None]) -> None:
    _tasks.discard(task)
    _ = task.cancelled() or task.exception()  # of who ends the program: he need not hear that nobody looked at it


async def _last(callback: Callable[..., Awaitable[Any] | Any] | None, *arguments: Any) -> None:
    try:
        await _maybe(callback, *arguments)
    except BaseException as raised:  # the observer's own
        if _is_left(raised):
            raise
        _log_raised(contain(raised))


def _is_left(raised: BaseException) -> bool:
    """Whether it is our task that is cancelled, or thrown away with its loop; any other cancellation is a callback's error."""
    if isinstance(raised, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(raised, GeneratorExit)


async def _maybe(callback: Callable[..., Awaitable[Any] | Any] | None, *arguments: Any) -> None:
    result = None if callback is None else callback(*arguments)
    if inspect.isawaitable(result):
        await result
