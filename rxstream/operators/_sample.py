"""``sample``: the latest item, at most once in a while."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar, cast

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxstream._alarm import Alarm
from rxstream._check import positive
from rxstream._outlet import Outlet
from rxstream.loop import LoopScheduler

__all__ = ["sample"]

T = TypeVar("T")


def sample(seconds: float) -> Callable[[Observable[T]], Observable[T]]:
    """Look every `seconds`, counted from the subscription, and emit the latest item if there is a new one.

    ::

        source:  --ab-----cd-e-----|
             sample(4)
        result:  ----b-------d---e---|

    As with RxPY's operator, the result completes at the next look after the source has, with the last item; it fails at
    once, and what was not looked at is dropped. While the subscriber's gate is closed what was looked at waits, and of several
    the last.

    It is Rx's operator, for a time; to look when another Observable emits, take RxPY's. RxPY's timer goes off for ever and
    slips by what each look costs; this one is set only when there is something to look at, and keeps to its grid.

    Example:
        >>> import reactivex as rx
        >>> rx.of("a", "b", "c").pipe(sample(0.01)).run()
        'c'

    Args:
        seconds: From one look to the next.

    Raises:
        ConfigurationError: `seconds` is not greater than 0.
    """
    positive("seconds", seconds)

    def sampled(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            on = LoopScheduler.of(scheduler)
            looker = _Looker(seconds, observer, on)
            upstream = source.subscribe(looker.on_next, looker.on_error, looker.on_completed, scheduler=on)
            return CompositeDisposable(Disposable(looker.dispose), upstream)

        return Observable(subscribe)

    return sampled


class _Looker(Generic[T]):
    """One subscription: the latest item, and when to look."""

    def __init__(self, seconds: float, observer: abc.ObserverBase[T], scheduler: LoopScheduler) -> None:
        self._seconds = seconds
        self._time = scheduler.loop.time
        self._start = self._time()
        self._looked = self._start
        self._outlet: Outlet[T] = Outlet(observer, scheduler)
        self._alarm = Alarm(scheduler.loop, partial(self._outlet.guard, self._ring))
        self._new = False
        self._latest: T | None = None
        self._completed = False

    def on_next(self, item: T) -> None:
        now, due = self._time(), self._alarm.at
        if due is not None and now < due:
            self._new, self._latest = True, item
            return
        new, before = self._new, self._latest
        self._new, self._latest = True, item
        self._look_after(now)
        if new:  # the loop was too busy to ring
            self._emit(before)

    def on_error(self, error: Exception) -> None:
        self._alarm.clear()
        self._outlet.on_error(error)

    def on_completed(self) -> None:
        self._completed = True
        if self._alarm.at is None:
            self._look_after(self._time())
        self._outlet.outlast()

    def dispose(self) -> None:
        self._alarm.close()
        self._outlet.dispose()
        self._latest = None

    def _look_after(self, now: float) -> None:
        """Set the alarm to the grid's next point."""
        at = self._start + ((now - self._start) // self._seconds + 1) * self._seconds
        if at <= max(now, self._looked):  # a timer may ring a little early
            at += self._seconds
        self._looked = at
        self._alarm.set(at)

    def _ring(self) -> None:
        if self._new:
            self._new, latest, self._latest = False, self._latest, None
            self._emit(latest)
        if self._completed:
            self._outlet.on_completed()

    def _emit(self, item: T | None) -> None:
        if self._outlet.closed:
            self._outlet.items.clear()  # what waits at a closed gate is no longer the latest
        self._outlet.on_next(cast("T", item))
