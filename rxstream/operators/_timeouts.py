"""``timeouts``: clocks on any stream of events."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc

from rxstream._asking import Asked, label_of, through
from rxstream._check import at_least_one, positive
from rxstream._cut import Cut
from rxstream._watchdog import Clocks, Watchdog
from rxstream.events import Event, Retrying, is_content
from rxstream.loop import LoopScheduler, call_on

__all__ = ["timeouts"]


def timeouts(
    *,
    first_event: float | None = None,
    first_output: float | None = None,
    idle: float | None = None,
    step: float | None = None,
    total: float | None = None,
) -> Callable[[Observable[Event]], Asked]:
    """Fail with `TimedOut` when a stream of events is too slow: by the clocks of `rxstream.Timeouts`, on any Observable.

    ::

        source:  --Started--"Hel"--"lo"------------------…
             timeouts(idle=5)
        result:  --Started--"Hel"--"lo"-----✗             TimedOut, clock idle

    ``timeout`` of Rx counts every item; here pings keep no clock of content from running out. While the subscriber's gate is
    closed the clocks stand still: a pause is not a stall. The source is closed before the error is told; its ``partial`` holds
    what arrived, all of which was delivered.

    Before ``retry_stream`` each request has these clocks to itself. Behind it, or behind another operator that makes
    attempts, a `Retrying` starts all of them anew, after its delay, but `total`. In a combination of several answers
    whatever comes of any of them counts.

    What was said is kept for the error, so memory grows with the answer; nothing else is.

    Example:
        >>> import reactivex as rx
        >>> import rxstream
        >>> rxstream.Stream.of(rx.never()).pipe(timeouts(first_event=0.01)).run()
        Traceback (most recent call last):
            ...
        rxstream.errors.TimedOut: no event within 0.01 s (clock 'first_event')

    Args:
        first_event: Seconds to any event, from the subscription.
        first_output: … to the first content, from the subscription.
        idle: … between two pieces of content.
        step: … for one attempt.
        total: … for all of it.

    Raises:
        ConfigurationError: no clock is given, or one is not greater than 0.
    """
    clocks = Clocks(first_event=first_event, first_output=first_output, idle=idle, step=step, total=total)
    at_least_one(**clocks._asdict())
    for name, seconds in clocks._asdict().items():
        if seconds is not None:
            positive(name, seconds)

    def timed(source: Observable[Event]) -> Asked:
        def subscribe(
            observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Timed(clocks, observer, LoopScheduler.of(scheduler)).subscribe(source)

        return Asked(subscribe, through(source, timed), label_of(source))

    return timed


class _Timed(Cut):
    """One subscription: the clocks, and what has come."""

    def __init__(self, clocks: Clocks, observer: abc.ObserverBase[Event], scheduler: LoopScheduler) -> None:
        super().__init__(observer, scheduler)
        self._watchdog = Watchdog(scheduler.loop, clocks, self.cut)
        self._time = scheduler.loop.time
        self._waits_for_event = self._waits_for_output = True

    def begin(self) -> None:
        self.scheduler.gate.watch(self._gate_changed)
        self._watchdog.start()
        self._watchdog.connected()
        self._set_clocks()

    def on_next(self, event: Event) -> None:
        if is_content(event):
            self._watchdog.last_output = self._time()
            if self._waits_for_output:
                self._waits_for_output = False
                self._watchdog.first_output()
        if self._waits_for_event:
            self._waits_for_event = False
            self._watchdog.first_event()
        if type(event) is Retrying:
            self._watchdog.again(event.delay)
            self._waits_for_event = self._waits_for_output = True
        try:
            self.fold(event)
        except TypeError:
            self.refuse(event, "timeouts")
            return
        self.emit(event)

    def release(self) -> None:
        self.scheduler.gate.unwatch(self._gate_changed)
        self._watchdog.stop()

    def _gate_changed(self) -> None:
        call_on(self.scheduler.loop, self._set_clocks)

    def _set_clocks(self) -> None:
        if not self.over:
            self._watchdog.set_pause(on=self.scheduler.gate.closed)
