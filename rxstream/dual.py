"""Two tracks in one line: a local model and one in the cloud.

Rules of this module:

* A strategy is one of the combinations of `rxstream.tracks`, chosen by name; nothing here combines anything.
* The status is that of the tracks themselves, also of one whose events are held back or never delivered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, get_args

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxstream._check import one_of
from rxstream.errors import ConfigurationError, error_info
from rxstream.events import Event, Failed
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.snapshot import Snapshot, SnapshotFold
from rxstream.tracks import failover, hedge, merge, race, supersede
from rxstream.tracks._lane import checked

if TYPE_CHECKING:
    from rxstream.latency import LatencyQuantile

__all__ = ["DualTrack", "Strategy"]

Strategy = Literal["local_first", "cloud_first", "race", "hedge", "draft", "side_by_side", "failover"]
"""See `DualTrack`."""
_LATE = 1.0
"""Seconds without a word after which ``hedge`` asks the other track, if nothing else is said."""


class DualTrack(Stream[Event]):
    """A local and a cloud stream as one; it is a `rxstream.Stream` of the combination's events.

    =================  ===============================================================================================
    ``local_first``    The local model answers. The cloud is asked when it has failed before its first content, or, with
                       `after`, when it is late with it; then the first to speak goes on.
    ``cloud_first``    The same, the other way round.
    ``race``           Both are asked; the first to speak goes on, the other is closed.
    ``hedge``          ``cloud_first`` with an `after`: 1 second, if nothing else is said.
    ``draft``          The local model speaks at once, and the cloud's answer takes its place (see `takeover`).
    ``side_by_side``   Both answers, the events of each with its label.
    ``failover``       The cloud answers. When it fails, even in mid-answer, what it said is withdrawn and the local
                       model answers anew.
    =================  ===============================================================================================

    ::

        local:        --a--b--c--d--|
        cloud:        ------A--B--C--|
             DualTrack(local, cloud, strategy="draft")
        result:       --a--b(-ab A)-B--C--|      -ab: `Retracted`

    Args:
        local: The track nearby.
        cloud: The track far away.
        strategy: How they go together.
        after: Seconds without content after which the other track is asked, too, or a `rxstream.LatencyQuantile` that has learned
            them; for ``local_first``, ``cloud_first`` and ``hedge``.
        takeover: When the cloud's answer takes over, for ``draft``: at its first content, its first whole sentence (the
            default), or its end.

    Raises:
        ConfigurationError: a track is no Observable, or the strategy is unknown, or does not take an option that was given.
    """

    def __init__(
        self,
        local: Observable[Event],
        cloud: Observable[Event],
        *,
        strategy: Strategy = "local_first",
        after: float | LatencyQuantile | None = None,
        takeover: Literal["first_output", "first_sentence", "end"] | None = None,
    ) -> None:
        checked((local, cloud))
        one_of("strategy", strategy, get_args(Strategy))
        if after is not None and strategy not in ("local_first", "cloud_first", "hedge"):
            raise ConfigurationError(f"after= is for local_first, cloud_first and hedge, not for strategy={strategy!r}")
        if takeover is not None and strategy != "draft":
            raise ConfigurationError(f"takeover= is for strategy='draft', not for strategy={strategy!r}")
        self.strategy: Strategy = strategy
        self._local = _Watched(local, "local")
        self._cloud = _Watched(cloud, "cloud")
        here, there = self._local.stream, self._cloud.stream
        first = after if after is not None or strategy != "hedge" else _LATE
        combinations: dict[str, Callable[[], Stream[Event]]] = {
            "local_first": lambda: _first(here, there, first),
            "cloud_first": lambda: _first(there, here, first),
            "race": lambda: race(here, there),
            "hedge": lambda: _first(there, here, first),
            "draft": lambda: supersede(here, there, at=takeover or "first_sentence"),
            "side_by_side": lambda: merge(here, there),
            "failover": lambda: failover(there, here, after_output="restart"),
        }
        combined = combinations[strategy]()
        super().__init__(
            lambda observer, scheduler: combined.subscribe(observer, scheduler=LoopScheduler.of(scheduler))
        )
        if strategy != "side_by_side":  # which are two answers, with a label each
            self.label = f"{here.label} | {there.label}"

    @property
    def local(self) -> Snapshot:
        """What the local track has come to, in the latest subscription; ``waiting`` if it was not asked."""
        return self._local.snapshot

    @property
    def cloud(self) -> Snapshot:
        """What the cloud track has come to, in the latest subscription; ``waiting`` if it was not asked."""
        return self._cloud.snapshot


def _first(track: Stream[Event], other: Stream[Event], after: float | LatencyQuantile | None) -> Stream[Event]:
    return failover(track, other) if after is None else hedge(track, other, after=after)


class _Watched:
    """A track, and what it is doing."""

    def __init__(self, source: Observable[Event], name: str) -> None:
        label: str = source.label if isinstance(source, Stream) else ""
        self._source = source
        self.stream: Stream[Event] = Stream(self._subscribe)
        self.stream.label = label or name
        self._latest = SnapshotFold(self.stream.label)

    @property
    def snapshot(self) -> Snapshot:
        return self._latest.snapshot()

    def _subscribe(
        self, observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        on = LoopScheduler.of(scheduler)
        running = _Running(self.stream.label, on, observer)
        self._latest = running.progress
        subscription = self._source.subscribe(running.on_next, running.on_error, running.on_completed, scheduler=on)
        return CompositeDisposable(Disposable(running.cancel), subscription)


class _Running:
    """One subscription of a track, folded on its way through."""

    def __init__(self, label: str, scheduler: LoopScheduler, observer: abc.ObserverBase[Event]) -> None:
        self.progress = SnapshotFold(label)
        self._now = scheduler.loop.time
        self._observer = observer
        self._asked = self._now()
        self._over = False

    def on_next(self, event: Event) -> None:
        self.progress.add(event, (event.at or self._now()) - self._asked)
        self._observer.on_next(event)

    def on_error(self, error: Exception) -> None:
        failed = Failed(error=error_info(error))
        self.progress.add(failed, self._now() - self._asked)
        self._end("failed")
        self._observer.on_error(error)

    def on_completed(self) -> None:
        self._end("completed")
        self._observer.on_completed()

    def cancel(self) -> None:
        if not self._over:
            self._end("cancelled")

    def _end(self, status: Literal["completed", "failed", "cancelled"]) -> None:
        self._over = True
        self.progress.end(status, self._now() - self._asked)
