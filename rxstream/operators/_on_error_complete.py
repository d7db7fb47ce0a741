"""``on_error_complete``: what arrived, and that it was cut, in place of an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxstream._asking import label_of
from rxstream._check import function
from rxstream._outlet import Outlet
from rxstream.errors import Cancelled, StreamError, error_info
from rxstream.events import Event, Failed
from rxstream.loop import LoopScheduler, call_on

__all__ = ["on_error_complete"]


def on_error_complete(
    *, when: Callable[[Exception], bool] | None = None
) -> Callable[[Observable[Event]], Observable[Event]]:
    """Complete where the stream fails: the error becomes the event `Failed`, and the answer is what arrived.

    ::

        source:  --Started--"Hel"--✗
             on_error_complete()
        result:  --Started--"Hel"--Failed|

    As ``onErrorComplete`` of RxJava; but the error is told, as an event. There is no `Finished`, so the `Response` says by its
    ``finish_reason``, which is None, that it is partial.

    Example:
        >>> import reactivex as rx
        >>> import rxstream
        >>> cut = rx.concat(rxstream.from_iterable(["Hel"]), rx.throw(rxstream.errors.Disconnected("gone")))
        >>> rxstream.Stream.of(cut).pipe(on_error_complete()).run().text
        'Hel'

    Args:
        when: For which errors; others pass. By default for every `StreamError` but `Cancelled`, which is no failure: that
            somebody cancelled, or the loop was shut down, what was asked wrongly and errors of your own code remain errors.

    Raises:
        ConfigurationError: `when` is no function.
    """
    decides = _is_a_failure if when is None else when
    function("when", decides)

    def completing(source: Observable[Event]) -> Observable[Event]:
        def subscribe(
            observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Completing(decides, label_of(source), observer, LoopScheduler.of(scheduler)).subscribe(source)

        return Observable(subscribe)

    return completing


def _is_a_failure(error: Exception) -> bool:
    return isinstance(error, StreamError) and not isinstance(error, Cancelled)


class _Completing:
    """One subscription: the last event, which says whose failure it is; before any, the source's `label` does."""

    def __init__(
        self, when: Callable[[Exception], bool], label: str, observer: abc.ObserverBase[Event], scheduler: LoopScheduler
    ) -> None:
        self._when = when
        self._label = label
        self._observer = observer
        self._emit = observer.on_next
        self._scheduler = scheduler
        self._last: Event | None = None
        self._outlet: Outlet[Event] | None = None

    def subscribe(self, source: Observable[Event]) -> abc.DisposableBase:
        upstream = source.subscribe(
            self._on_next, self._on_error, self._observer.on_completed, scheduler=self._scheduler
        )
        return CompositeDisposable(Disposable(partial(call_on, self._scheduler.loop, self._dispose)), upstream)

    def _on_next(self, event: Event) -> None:
        self._last = event
        self._emit(event)

    def _on_error(self, error: Exception) -> None:
        try:
            completes = self._when(error)
        except Exception as raised:  # noqa: BLE001 - the user's own
            completes, error = False, raised
        if not completes:
            self._observer.on_error(error)
            return
        failed = Failed(source=self._label, error=error_info(error), at=self._scheduler.loop.time())
        if (last := self._last) is not None:
            failed = msgspec.structs.replace(failed, source=last.source, attempt=last.attempt, seq=last.seq + 1)
        self._outlet = Outlet(self._observer, self._scheduler)  # the event may close the gate before the end
        self._outlet.on_next(failed)
        self._outlet.on_completed()

    def _dispose(self) -> None:
        self._last = None
        if self._outlet is not None:
            self._outlet.dispose()
