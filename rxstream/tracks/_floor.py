"""One track at a time has the floor; the others are read ahead, each into a bounded backlog.

Who has the floor is delivered from its first event to its last: what waits of it, then live. Who has it next is the
combination's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from reactivex import Observable, abc

from rxstream._outlet import Outlet
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from rxstream.tracks._crew import Backlog, Crew
from rxstream.tracks._lane import Lane

__all__ = ["Floor"]


class Floor(Outlet[Event]):
    """Whole tracks, one after the other.

    Args:
        observer: Who is told.
        scheduler: Where it runs.
        tracks: Whose turns it gives.
        ahead: Events of a track that may wait for its turn.
        in_order: Whether turns go in the order of the tracks; else who is first to end, or to fill its backlog, is next.
        most: How many tracks may run at once.
    """

    def __init__(
        self,
        observer: abc.ObserverBase[Event],
        scheduler: LoopScheduler,
        tracks: Sequence[Observable[Event]],
        *,
        ahead: int,
        in_order: bool,
        most: int | None,
    ) -> None:
        super().__init__(observer, scheduler)
        self.crew = Crew(tracks, scheduler, self, on_event=self._hear, on_end=self._ended, most=most)
        lanes = self.crew.lanes
        self._backlogs = [Backlog(lane, ahead) for lane in lanes]
        self._speaker: Lane | None = None
        self._asked = set(lanes) if in_order else set[Lane]()
        self._line = deque(lanes if in_order else ())
        self.pending()  # gives the first of them the floor

    # --- what comes ---------------------------------------------------------------------------------------------------

    def _hear(self, lane: Lane, event: Event) -> None:
        if lane is self._speaker:
            self.on_next(event)
            return
        backlog = self._backlogs[lane.index]
        backlog.add(event)
        if backlog.full:
            self._ask(lane)

    def _keep(self, item: Event) -> None:
        assert self._speaker is not None  # noqa: S101 - only its events come this way
        self._backlogs[self._speaker.index].add(item)
        self.flush()

    def _ended(self, lane: Lane) -> None:
        self._ask(lane)
        self.flush()

    def _ask(self, lane: Lane) -> None:
        if lane not in self._asked:
            self._asked.add(lane)
            self._line.append(lane)
            self.flush()

    # --- what goes ----------------------------------------------------------------------------------------------------

    def pending(self) -> bool:
        """Whether somebody has the floor, or can be given it, and something of it waits."""
        while not self.items and (self._speaker is None or self._speaker.over) and self._line:
            self._speaker = self._line.popleft()
            self.items = self._backlogs[self._speaker.index].items
        return bool(self.items)

    def take(self) -> Event:
        """The next event of who has the floor."""
        assert self._speaker is not None  # noqa: S101 - else nothing is pending
        return self._backlogs[self._speaker.index].take()

    def forget(self) -> None:
        """There is nobody left to take what waits."""
        for backlog in self._backlogs:
            backlog.close()
