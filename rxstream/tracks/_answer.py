"""One answer made of several tracks: what race, hedge, failover, supersede, best_of and vote have in common.

Rules of this module:

* The tracks' events leave by one outlet; those of a track that is not chosen yet are kept back, and their number is bounded.
* A request that is closed early is closed before anything is said of it, and its words come before the winner's `Finished`.
* What a track says as its last word is for its combination to judge: `failed` decides whether it is an event or the end.
* Each try of each track is an attempt with a number of its own, given when the request is made.
* That a track asks once more is told at once, as that it has failed: it says why nothing comes, and nothing of the answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxstream._outlet import Outlet
from rxstream.errors import LimitExceeded, StreamError, TracksFailed
from rxstream.events import Event, Failed, Retrying, is_content
from rxstream.loop import LoopScheduler, call_on
from rxstream.observable import Stream
from rxstream.tracks._attempts import Attempts
from rxstream.tracks._lane import Labels, Lane, lanes_of
from rxstream.usage import Usage

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["KEPT", "Contest", "OneAnswer", "answer_of"]

KEPT: Final = 65_536
"""Events of one track that may be kept back, where nothing else is said."""


def answer_of(
    tracks: Sequence[Observable[Event]], make: Callable[[abc.ObserverBase[Event], LoopScheduler], OneAnswer]
) -> Stream[Event]:
    """The cold stream of an answer, called after its `tracks` if they have labels; `make` is called for each subscription."""

    def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        return make(observer, LoopScheduler.of(scheduler)).start()

    answer: Stream[Event] = Stream(subscribe)
    labels = dict.fromkeys(track.label if isinstance(track, Stream) else "" for track in tracks)
    if "" not in labels:
        answer.label = " | ".join(labels)
    return answer


class OneAnswer(ABC):
    """Several tracks at work on one answer.

    Args:
        tracks: Whose events; each gets a lane, none is started.
        observer: Who is told.
        scheduler: Whose loop and gate hold.
        most: Events of one track that may be kept back; a track with more has failed.
    """

    def __init__(
        self,
        tracks: Sequence[Observable[Event]],
        observer: abc.ObserverBase[Event],
        scheduler: LoopScheduler,
        *,
        most: int = KEPT,
    ) -> None:
        self.scheduler = scheduler
        self.lanes = lanes_of(tracks, scheduler, on_event=self._hear, on_end=self._end, labels=Labels())
        self.chosen: Lane | None = None
        """Whose events go straight through."""
        self.shown: Lane | None = None
        """Whose text stands although it is not, or no longer, chosen."""
        self._attempts = Attempts()
        self._outlet = Outlet(observer, scheduler, overflowed=self.close_lanes)
        self._kept: dict[int, list[Event]] = {lane.index: [] for lane in self.lanes}
        self._most = most
        self._last_words: dict[int, Failed] = {}

    def start(self) -> abc.DisposableBase:
        """Begin, on the loop."""
        call_on(self.scheduler.loop, self._begin)
        return Disposable(partial(call_on, self.scheduler.loop, self.close))

    # --- what a combination says ------------------------------------------------------------------------------------------

    @abstractmethod
    def begin(self) -> None:
        """Make the first requests."""

    @abstractmethod
    def heard(self, lane: Lane, event: Event) -> None:
        """An event of a lane that is not chosen."""

    @abstractmethod
    def completed(self, lane: Lane) -> None:
        """A lane has come to its proper end."""

    @abstractmethod
    def failed(self, lane: Lane, error: Exception, /) -> None:
        """A lane has failed."""

    # --- what it works with -----------------------------------------------------------------------------------------------

    def open(self, lane: Lane) -> None:
        """Make a lane's request, unless another is chosen already."""
        if lane.status == "waiting" and self.chosen is None:
            self._attempts.number(lane)
            lane.start()

    def emit(self, lane: Lane, event: Event) -> None:
        """Deliver an event of a lane."""
        self._outlet.on_next(self._attempts.stamp(lane, event))

    def emit_all(self, events: Iterable[Event]) -> None:
        """Deliver events that are stamped already; many of them let the loop breathe."""
        self._outlet.items.extend(events)
        self._outlet.flush()

    def keep(self, lane: Lane, event: Event) -> None:
        """Keep an event back; one too many is the lane's failure."""
        kept = self._kept[lane.index]
        kept.append(event)
        if len(kept) > self._most:
            lane.fail(LimitExceeded(f"more than {self._most} events came before the track was chosen"))

    def kept(self, lane: Lane) -> list[Event]:
        """What was kept back of a lane, which is kept no longer."""
        kept, self._kept[lane.index] = self._kept[lane.index], []
        return kept

    def part_with(self, lane: Lane, reason: str) -> list[Event]:
        """Close a lane that is not the answer; what is to be said of it, if it was asked."""
        self.kept(lane)
        if lane.status == "active":
            return self._attempts.settle(lane, reason)
        return self._attempts.bill(lane) if lane.status == "completed" else []

    def give_up(self, lane: Lane) -> None:
        """Tell of a lane's failure, while the others go on."""
        self.kept(lane)
        if isinstance(lane.error, StreamError) and lane.error.partial is not None:
            self._attempts.count_up(lane, lane.error.partial.attempts)
        failed = self._attempts.stamp(lane, self._last_words[lane.index])
        self.emit_all([failed, *self._attempts.bill(lane)])

    def choose(self, lane: Lane, reason: str, *said: Event) -> None:
        """From now on the answer is this lane's: the others are closed; what was kept back of it is delivered, and `said`.

        All at once: if a handler of the first brings about another event, that one comes after the last.
        """
        self.chosen = lane
        words = [word for other in self.lanes if other is not lane for word in self.part_with(other, reason)]
        kept = [self._attempts.stamp(lane, event) for event in (*self.kept(lane), *said)]
        self.emit_all([*kept[:-1], *words, *kept[-1:]])  # the last may be `Finished`

    def finish(self, error: Exception | None = None) -> None:
        """The end of the answer, after all that waits; an error's partial answer counts what all tracks used."""
        self.close_lanes()
        if error is None:
            self._outlet.on_completed()
            return
        if isinstance(error, StreamError):
            error.partial = self.partial(error)
        self._outlet.on_error(error)

    def partial(self, error: StreamError) -> Response | None:
        """The partial answer of an error, with what all tracks used."""
        if error.partial is None:
            return None
        usage = error.partial.usage + self._attempts.spent
        if usage.provenance == "reported":
            usage = msgspec.structs.replace(usage, provenance="partial")
        return error.partial.model_copy(update={"usage": usage, "attempts": self._attempts.count})

    def lost(self) -> TracksFailed:
        """The error of having no track left; what was shown, and stands, is its partial answer."""
        lost = TracksFailed({lane.label: lane.error for lane in self.lanes if lane.error is not None})
        shown = self.shown.error if self.shown is not None else None
        if isinstance(shown, StreamError) and shown.partial is not None:
            lost.partial = shown.partial.model_copy(
                update={"usage": Usage()}
            )  # told already, as that of all that failed
        return lost

    def left(self) -> bool:
        """Whether a lane may still speak."""
        return any(not lane.over for lane in self.lanes)

    def close_lanes(self) -> None:
        """Close every request."""
        for lane in self.lanes:
            lane.close()

    def close(self) -> None:
        """Nobody listens any more."""
        self._outlet.dispose()
        self.close_lanes()

    def _begin(self) -> None:
        if not self._outlet.over:  # else it was disposed before the loop came to this
            self.begin()

    # --- the lanes' side --------------------------------------------------------------------------------------------------

    def _hear(self, lane: Lane, event: Event) -> None:
        if lane is self.chosen and lane.error is None:
            self.emit(lane, event)
        elif lane.error is not None and isinstance(event, Failed):
            self._last_words[lane.index] = event
        elif type(event) is Retrying:
            self.emit(lane, event)
        else:
            self.heard(lane, event)

    def _end(self, lane: Lane) -> None:
        if lane.error is not None:
            self.failed(lane, lane.error)
        else:
            self.completed(lane)


class Contest(OneAnswer):
    """The first lane with content gives the answer; one that ends properly without any, only if no other is left."""

    def heard(self, lane: Lane, event: Event) -> None:
        """Its first content decides; what comes before it is kept back."""
        if is_content(event):
            self.choose(lane, f"{lane.label} was first", event)
        else:
            self.keep(lane, event)

    def completed(self, lane: Lane) -> None:
        """The end, if it is the answer's."""
        if lane is self.chosen:
            self.finish()
        else:
            self.decide()

    def failed(self, lane: Lane, error: Exception, /) -> None:
        """The end, if it is the answer's; else the others go on."""
        if lane is self.chosen:
            self.finish(error)
        else:
            self.give_up(lane)
            self.replace(lane)
            self.decide()

    def replace(self, lane: Lane, /) -> None:
        """Ask another in the place of a lane that has failed; nobody, if this is not overridden."""

    def decide(self) -> None:
        """With no lane left that may speak, one that had nothing to say will do."""
        if self.left() or self.chosen is not None:
            return
        silent = [lane for lane in self.lanes if lane.status == "completed"]
        if silent:
            self.choose(silent[0], "")
            self.finish()
        else:
            self.finish(self.lost())
