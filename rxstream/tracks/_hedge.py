"""``hedge``: a second request when the first is slow."""

from __future__ import annotations

from collections.abc import Sequence

from reactivex import Observable, abc

from rxstream._alarm import Countdown
from rxstream._check import at_least
from rxstream.budget import RetryBudget
from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.latency import LatencyQuantile
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.tracks._answer import Contest, answer_of
from rxstream.tracks._lane import Lane, checked

__all__ = ["hedge"]


def hedge(
    track: Observable[Event],
    spare: Observable[Event] | None = None,
    *,
    after: float | LatencyQuantile,
    budget: RetryBudget | None = None,
) -> Stream[Event]:
    """Ask `track`; if it has given no content after a while, ask `spare` too, and let the first content decide.

    ::

        track:   --Started----------------------…
        spare:                 --Started--b("Hel")--b("lo")--Finished--|
             hedge(track, spare, after=1.5)
        result:  -------------------------Started,b("Hel")--b("lo")--Finished--|

    Most requests of a slow minute are not slow themselves: they wait in the wrong queue. A second one to the same model,
    sent when the first is later than 95 of 100, cuts the longest waits for 5 more requests in 100 (J. Dean and L. Barroso,
    "The Tail at Scale", CACM 56, 2013). It decides, closes and bills as `race` does. The spare is asked at once when the
    track fails before its first content; that is no extra request, and no budget is asked.

    A `LatencyQuantile` learns from the first requests of all calls that share it. One that was overtaken counts as having
    taken the time until then, which is too little but long; one that failed, had nothing to say, or was paused, teaches
    nothing. Time in which the stream is paused does not count towards `after`.

    Example:
        >>> import reactivex as rx
        >>> import rxstream
        >>> from rxstream import tracks
        >>> tracks.hedge(rx.never(), rxstream.from_iterable(["Hel", "lo"]), after=0.01).run().text
        'Hello'

    Args:
        track: What is asked first.
        spare: What is asked second; the same once more, if it is not given.
        after: Seconds without content after which the second request is made; or a `LatencyQuantile`, which gives them. As
            long as it has no value the first request is given all the time it takes.
        budget: What limits second requests, over all calls that share it; None for one a call.

    Returns:
        One answer, as `race` gives it.

    Raises:
        ConfigurationError: `after` or `budget` is not what it must be, or a track is no Observable.
    """
    asked = checked((track, track if spare is None else spare))
    if not isinstance(after, LatencyQuantile):
        at_least("after", after)
    if budget is not None and not isinstance(budget, RetryBudget):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"budget={budget!r}: must be a RetryBudget")
    return answer_of(asked, lambda observer, scheduler: _Hedge(asked, observer, scheduler, after, budget))


class _Hedge(Contest):
    def __init__(
        self,
        tracks: Sequence[Observable[Event]],
        observer: abc.ObserverBase[Event],
        scheduler: LoopScheduler,
        after: float | LatencyQuantile,
        budget: RetryBudget | None,
    ) -> None:
        super().__init__(tracks, observer, scheduler)
        self._first, self._spare = self.lanes
        self._learned = after if isinstance(after, LatencyQuantile) else None
        seconds = after.value if isinstance(after, LatencyQuantile) else after
        self._patience = None if seconds is None else Countdown(scheduler, seconds, self._late)
        self._budget = budget
        self._began = scheduler.loop.time()
        self._paused = False

    def begin(self) -> None:
        if self._budget is not None:
            self._budget.earn()
        self._paused = self.scheduler.gate.closed
        self.scheduler.gate.watch(self._note_pause)
        if self._patience is not None:
            self._patience.start()
        self.open(self._first)

    def left(self) -> bool:
        return any(lane.status == "active" for lane in self.lanes)

    def replace(self, _lane: Lane, /) -> None:
        self.open(self._spare)

    def choose(self, lane: Lane, reason: str, *said: Event) -> None:
        if self._learned is not None and not self._paused and self._first.status == "active":
            self._learned.observe(self.scheduler.loop.time() - self._began)
        self._stop_clock()
        super().choose(lane, reason, *said)

    def close_lanes(self) -> None:
        self._stop_clock()
        super().close_lanes()

    def _note_pause(self) -> None:
        self._paused = True

    def _stop_clock(self) -> None:
        self.scheduler.gate.unwatch(self._note_pause)
        if self._patience is not None:
            self._patience.close()

    def _late(self) -> None:
        if self._spare.status == "waiting" and (self._budget is None or self._budget.take()):
            self.open(self._spare)
