"""``combine_tracks``: the state of all tracks, whenever one of them changes."""

from __future__ import annotations

from collections.abc import Sequence

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxstream._alarm import Alarm
from rxstream._check import positive
from rxstream._outlet import Outlet
from rxstream.errors import Cancelled, ConfigurationError
from rxstream.events import Event
from rxstream.loop import LoopScheduler, call_on
from rxstream.observable import Stream
from rxstream.snapshot import Snapshot, SnapshotFold, SnapshotStatus
from rxstream.tracks._lane import Lane, checked, lanes_of

__all__ = ["combine_tracks"]


def combine_tracks(*tracks: Observable[Event], every: float | None = None) -> Stream[dict[str, Snapshot]]:
    """The state of all tracks so far, by their labels and in the order given, whenever one of them has changed.

    ::

        a:       --"Hi"-----------"!"--|
        b:       ---------"Yo"---------------x
                 combine_tracks(a, b)
        result:  --1------2-------3----4-----5-|

        1: {a: "Hi", b: waiting}   3: {a: "Hi!", b: "Yo"}   5: {a: completed, b: failed}

    A track that has said nothing yet is there, too, ``waiting``. What a track failed of is in its snapshot; it completes
    when all have ended, and the last state is always emitted. While the consumer's gate is closed, states are not kept: it
    gets the last one when the gate opens.

    It is Rx's ``combine_latest``, of states instead of events, and without its wait for the slowest track.

    Example:
        >>> import rxstream
        >>> from rxstream.tracks import combine_tracks
        >>> states = combine_tracks(rxstream.from_iterable(["Hel", "lo"]), rxstream.from_iterable(["Yo"])).run()
        >>> [(state.label, state.text, state.status) for state in states.values()]
        [('track-1', 'Hello', 'completed'), ('track-2', 'Yo', 'completed')]

    Args:
        tracks: Streams of one answer each; one that holds several, such as a merge, fails.
        every: Seconds that lie between two items at least; the first change is told at once. None: every change.

    Raises:
        ConfigurationError: there is no track, one is no Observable, or `every` is not above 0.
    """
    given = checked(tracks)
    if every is not None:
        positive("every", every)

    def subscribe(
        observer: abc.ObserverBase[dict[str, Snapshot]], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        on = LoopScheduler.of(scheduler)
        states = _States(observer, on, given, every)
        call_on(on.loop, states.begin)
        return Disposable(lambda: call_on(on.loop, states.dispose))

    return Stream(subscribe)


class _States(Outlet[dict[str, Snapshot]]):
    """The last state is what waits."""

    def __init__(
        self,
        observer: abc.ObserverBase[dict[str, Snapshot]],
        scheduler: LoopScheduler,
        tracks: Sequence[Observable[Event]],
        every: float | None,
    ) -> None:
        super().__init__(observer, scheduler)
        self._lanes = lanes_of(tracks, scheduler, on_event=self._hear, on_end=self._ended)
        self._progress = [SnapshotFold(lane.label) for lane in self._lanes]
        self._whose: dict[tuple[int, int], str] = {}
        """Whose each attempt is: a track is one answer."""
        self._left = len(self._lanes)
        self._start = scheduler.loop.time()
        self._every = every
        self._next = self._start
        self._changed = False
        self._alarm = Alarm(scheduler.loop, self.flush)

    def begin(self) -> None:
        """Begin all tracks. On the loop."""
        self._start = self._next = self._loop.time()
        for lane in self._lanes:
            lane.start()

    def dispose(self) -> None:
        """Close all. On the loop."""
        for lane in self._lanes:
            lane.close()
        self._alarm.close()
        super().dispose()

    def pending(self) -> bool:
        """Whether there is a state that was not told, and it is time for it."""
        if not self._changed:
            return False
        if self._every is None or not self._left or self._loop.time() >= self._next:
            return True
        self._alarm.set(self._next)
        return False

    def take(self) -> dict[str, Snapshot]:
        """The state now."""
        self._changed = False
        if self._every is not None:
            self._next = self._loop.time() + self._every
        states = [progress.snapshot() for progress in self._progress]
        return {state.label: state for state in states}

    def _hear(self, lane: Lane, event: Event) -> None:
        if not lane.over and self._whose.setdefault((lane.index, event.attempt), event.source) != event.source:
            lane.fail(
                ConfigurationError(f"{lane.label} holds the answers of several tracks, of which none is its state")
            )
            return
        changed = self._progress[lane.index].add(event, (event.at or self._loop.time()) - self._start)
        if changed and not lane.over:  # of a failure `_ended` tells
            self._changed = True
            self.flush()

    def _ended(self, lane: Lane) -> None:
        at = self._loop.time() - self._start
        status: SnapshotStatus = "completed"
        if lane.error is not None:
            status = "cancelled" if isinstance(lane.error, Cancelled) else "failed"
        self._progress[lane.index].end(status, at)
        self._left -= 1
        self._changed = True
        if self._left:
            self.flush()
        else:
            self.on_completed()
