"""``debounce``: an item that nothing follows for a while."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar, cast

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxstream._alarm import Alarm
from rxstream._check import at_least
from rxstream._outlet import Outlet
from rxstream.loop import LoopScheduler

__all__ = ["debounce"]

T = TypeVar("T")


def debounce(seconds: float) -> Callable[[Observable[T]], Observable[T]]:
    """Emit an item when nothing has followed it for `seconds`; drop what was followed sooner.

    ::

        source:  --ab-c------d--|
             debounce(3)
        result:  --------c------d|

    The last one is emitted when the source completes; one that still waits when the source fails is dropped, as Rx does. While
    the subscriber's gate is closed what is due waits, and of several the last.

    It is Rx's operator. RxPY's sets a timer for every item, which costs 5 µs; this one has one timer that is moved. An item
    is never dropped because the loop was busy when its time had come.

    Example:
        >>> import reactivex as rx
        >>> rx.of("a", "b", "c").pipe(debounce(0.1)).run()
        'c'

    Args:
        seconds: How long nothing must follow.

    Raises:
        ConfigurationError: `seconds` is negative.
    """
    at_least("seconds", seconds)

    def debounced(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            on = LoopScheduler.of(scheduler)
            quiet = _Quiet(seconds, observer, on)
            upstream = source.subscribe(quiet.on_next, quiet.on_error, quiet.on_completed, scheduler=on)
            return CompositeDisposable(Disposable(quiet.dispose), upstream)

        return Observable(subscribe)

    return debounced


class _Quiet(Generic[T]):
    """One subscription: the last item, and when it is due."""

    def __init__(self, seconds: float, observer: abc.ObserverBase[T], scheduler: LoopScheduler) -> None:
        self._seconds = seconds
        self._time = scheduler.loop.time
        self._outlet: Outlet[T] = Outlet(observer, scheduler)
        self._alarm = Alarm(scheduler.loop, partial(self._outlet.guard, self._ring))
        self._last: T | None = None

    def on_next(self, item: T) -> None:
        now = self._time()
        due, before, self._last = self._alarm.at, self._last, item
        self._alarm.set(now + self._seconds)
        if due is not None and due <= now:  # the loop was too busy to ring
            self._emit(before)

    def on_error(self, error: Exception) -> None:
        self._alarm.clear()
        self._outlet.on_error(error)

    def on_completed(self) -> None:
        if self._alarm.at is not None:
            self._alarm.clear()
            self._ring()
        self._outlet.on_completed()

    def dispose(self) -> None:
        self._alarm.close()
        self._outlet.dispose()
        self._last = None

    def _ring(self) -> None:
        last, self._last = self._last, None
        self._emit(last)

    def _emit(self, item: T | None) -> None:
        if self._outlet.closed:
            self._outlet.items.clear()  # what waits at a closed gate has been followed
        self._outlet.on_next(cast("T", item))
