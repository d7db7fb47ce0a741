"""Items at times, from a source that obeys no gate: what operators of time are tried on.

A moment is a time after the subscription and what comes then: an item; an exception, with which it fails; `END`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Final

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from tests.support.scripted import Recorder

__all__ = ["END", "Listener", "Timed", "alarms"]

END: Final = object()


class Timed(Observable[Any]):
    """Cold: each subscription begins at its own time 0."""

    def __init__(self, *moments: tuple[float, object]) -> None:
        super().__init__()
        self.moments: Sequence[tuple[float, object]] = moments
        self.running = 0
        """Subscriptions that are neither over nor disposed."""
        self.gate = Gate()
        """What the last of them was to obey."""

    def _subscribe_core(
        self, observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        on = LoopScheduler.of(scheduler)
        self.gate, loop = on.gate, on.loop
        start = loop.time()
        by_time: dict[float, list[object]] = {}
        for at, what in self.moments:
            by_time.setdefault(at, []).append(what)
        timers = [loop.call_at(start + at, self._come, observer, together) for at, together in by_time.items()]
        self.running += 1

        def dispose() -> None:
            self.running -= 1
            for timer in timers:
                timer.cancel()

        return Disposable(dispose)

    def _come(self, observer: abc.ObserverBase[Any], together: list[object]) -> None:
        for what in together:
            if what is END:
                observer.on_completed()
            elif isinstance(what, Exception):
                observer.on_error(what)
            else:
                observer.on_next(what)


class Listener(Recorder):
    """A subscriber with a gate of its own, which writes down what comes and when."""

    def __init__(self, source: Observable[Any]) -> None:
        super().__init__()
        self._numbers = itertools.count(1)
        self.scheduler = LoopScheduler()
        self.gate: Gate = self.scheduler.gate
        self.subscription = source.subscribe(self.on_next, self.on_error, self.on_completed, scheduler=self.scheduler)

    @property
    def heard(self) -> list[tuple[float, Any]]:
        """When, and what."""
        return list(zip(self.times, self.items, strict=True))

    @property
    def watched(self) -> int:
        """How many still watch its gate."""
        return len(vars(self.gate)["_watchers"])

    def on_next(self, item: Any) -> None:
        assert not self.gate.closed, f"{item!r} came through a closed gate"
        super().on_next(item)

    def pause(self, at: float, until: float) -> None:
        """Hold the gate from one time on the loop's clock to another."""
        loop = asyncio.get_running_loop()
        name = f"test-{next(self._numbers)}"
        loop.call_at(at, self.gate.hold, name)
        loop.call_at(until, self.gate.release, name)


def alarms() -> int:
    """How many operators' timers are set on the running loop."""
    timers: list[asyncio.TimerHandle] = vars(asyncio.get_running_loop())["_scheduled"]
    return sum("Alarm" in repr(timer) for timer in timers if not timer.cancelled())
