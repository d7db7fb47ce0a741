"""A lane: one track of a combination at work. Each has a label, a gate of its own, and its failure is an event.

Rules of this module:

* A lane's gate is a child of the combination's: held with it, or alone. Holding it stops that track at its source.
* No two lanes give their events the same ``source``: what would collide gets a number.
* The first event of a lane is of attempt 1, also where its track is a combination whose second one spoke first: so an
  answer is told from others by its very first event.
* A failure comes as the event `Failed`, then the lane has ended. It is never an ``on_error`` of the combination.
* A lane that is closed says nothing more; its connection is closed at once.
* All is done on the combination's loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import msgspec
from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from rxstream._check import kind_of
from rxstream.errors import ConfigurationError, error_info
from rxstream.events import CONTENT_EVENTS, Cancelled, Event, EventBase, Failed, Finished, UsageReported
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.usage import Usage

__all__ = ["CONTENT", "AnswerLabels", "Labels", "Lane", "LaneStatus", "checked", "lanes_of"]

CONTENT = frozenset(CONTENT_EVENTS)
E = TypeVar("E", bound=EventBase)
LaneStatus = Literal["waiting", "active", "completed", "failed", "cancelled"]
_stamp = msgspec.structs.replace


class Labels:
    """Which ``source`` the events of a lane carry: their own, made unique among the lanes of one combination."""

    def __init__(self) -> None:
        self._given: dict[tuple[int, str], str] = {}
        self._used: set[str] = set()

    def of(self, lane: int, source: str, *, attempt: int | None = None) -> str:  # noqa: ARG002 - `AnswerLabels` needs it
        """The name for `source` of lane number `lane`; the same for the same pair.

        Args:
            lane: Its number.
            source: What its events, or the lane itself, is called.
            attempt: Which attempt the events are of; None for the lane itself.
        """
        key = (lane, source)
        if key not in self._given:
            base = source or f"track-{lane + 1}"
            name, number = base, 2
            while name in self._used:
                name, number = f"{base}-{number}", number + 1
            self._used.add(name)
            self._given[key] = name
        return self._given[key]


class AnswerLabels(Labels):
    """The same where each lane keeps its answer: all events of one answer carry one name, whoever of its tracks they are of.

    Two sources at the same attempt are two answers (see `rxstream.aggregate.Answers`): the second keeps a name of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[int, str] = {}
        """The name of each lane's first answer …"""
        self._attempts: set[tuple[int, int]] = set()
        """… and its attempts."""

    def of(self, lane: int, source: str, *, attempt: int | None = None) -> str:
        """The name for `source`: that of the lane's first answer, unless it is seen to belong to another."""
        if (lane, source) not in self._given and lane in self._first and (lane, attempt) not in self._attempts:
            self._given[lane, source] = self._first[lane]
        name = super().of(lane, source)
        if source and self._first.setdefault(lane, name) == name and attempt is not None:
            self._attempts.add((lane, attempt))
        return name


class Lane:
    """One track at work.

    Args:
        index: Its number, from 0.
        source: Its events.
        scheduler: The combination's.
        labels: The combination's, shared by its lanes.
        on_event: Called with the lane and each of its events, labelled; a failure is the last of them.
        on_end: Called once with the lane when it has ended of itself; not when it was closed.
    """

    def __init__(
        self,
        index: int,
        source: Observable[Event],
        scheduler: LoopScheduler,
        *,
        labels: Labels,
        on_event: Callable[[Lane, Event], object],
        on_end: Callable[[Lane], object],
    ) -> None:
        own: str = source.label if isinstance(source, Stream) else ""
        self.index = index
        self.label = labels.of(index, own)
        """What the track is called, in its events and in reports."""
        self.gate: Gate = scheduler.gate.child()
        self.status: LaneStatus = "waiting"
        self.error: Exception | None = None
        """What it failed of."""
        self.attempt = 1
        """The attempt that its last event was of."""
        self.spoke_at: float | None = None
        """When its first content came, in seconds of the loop's clock."""
        self.finished = False
        """Whether its model has said that it is done."""
        self.outputs = 0
        """Events with content so far; with most providers one is about a token."""
        self.usage: Usage | None = None
        """The last usage it reported."""
        self.usages: dict[int, Usage] = {}
        """… by its attempts: a lane that is a combination itself may have several."""
        self.sources: dict[int, str] = {1: self.label}
        """Which ``source`` the events of each attempt carry."""
        self._labels = labels
        self._source = source
        self._scheduler = scheduler.with_gate(self.gate)
        self._on_event = on_event
        self._on_end = on_end
        self._subscription = SingleAssignmentDisposable()
        self._seq = 0
        self._said: dict[int, int] = {}
        self._counted = 0
        self._from: tuple[str, int] | None = None  # source and attempt of the event before, as its track had them
        self._first = 1
        self._as = self.label

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.status not in ("waiting", "active")

    @property
    def said(self) -> dict[int, int]:
        """Events with content so far, by attempts."""
        if self.outputs > self._counted:
            self._said[self.attempt] = self._said.get(self.attempt, 0) + self.outputs - self._counted
            self._counted = self.outputs
        return self._said

    def start(self) -> None:
        """Make the request. A lane that was closed before stays closed."""
        if self.status == "waiting":
            self.status = "active"
            self._subscription.disposable = self._source.subscribe(
                self._next, self._fail, self._complete, scheduler=self._scheduler
            )

    def close(self) -> None:
        """Close the request now; the lane is ``cancelled`` unless it is over."""
        if not self.over:
            self.status = "cancelled"
        self._subscription.dispose()

    def word(self, event: E, *, attempt: int | None = None) -> E:
        """`event` as the next that this lane says, of its last attempt or of another."""
        attempt = self.attempt if attempt is None else attempt
        source, at = self.sources.get(attempt, self._as), self._scheduler.loop.time()
        self._seq += 1
        return _stamp(event, source=source, attempt=attempt, seq=self._seq - 1, at=at)

    def farewell(self, reason: str) -> Cancelled:
        """The event that says that this lane was closed, and why."""
        return self.word(Cancelled(reason=reason))

    def _next(self, event: Event) -> None:
        if self.status != "active":
            return
        try:
            if self._from != (event.source, event.attempt):
                self._turn(event)
        except AttributeError:
            what = kind_of(event)
            self.fail(ConfigurationError(f"a track gives {what}, not events: combine first, then take text() or map()"))
            return
        if self._as != event.source or self.attempt != event.attempt:
            event = _stamp(event, source=self._as, attempt=self.attempt)
        self._seq = event.seq + 1
        kind = type(event)
        if kind in CONTENT:
            self.outputs += 1
            if self.spoke_at is None:
                self.spoke_at = event.at or self._scheduler.loop.time()
        elif isinstance(event, UsageReported):
            self.usage = self.usages[event.attempt] = event.usage
        elif kind is Finished:
            self.finished = True
        self._on_event(self, event)

    def fail(self, error: Exception) -> None:
        """Close the request: the lane has failed of `error`, even if its end was a proper one."""
        self._subscription.dispose()
        if self.status == "completed":
            self.status = "active"
        self._fail(error)

    def _turn(self, event: Event) -> None:
        """`event` is of another source or attempt than the one before."""
        _ = self.said  # what was said so far counts for the attempt before
        if self._from is None:
            self._first = event.attempt
        self._from = event.source, event.attempt
        self.attempt = {self._first: 1, 1: self._first}.get(event.attempt, event.attempt)
        self._as = self._labels.of(self.index, event.source, attempt=self.attempt) if event.source else self.label
        self.sources[self.attempt] = self._as

    def _fail(self, error: Exception) -> None:
        if self.status == "active":
            self.status, self.error = "failed", error
            self._on_event(self, self.word(Failed(error=error_info(error))))
            self._on_end(self)

    def _complete(self) -> None:
        if self.status == "active":
            self.status = "completed"
            self._on_end(self)


def checked(tracks: Sequence[Observable[Event]], *, least: int = 1) -> tuple[Observable[Event], ...]:
    """The tracks, when they are what a combination can be made of.

    Raises:
        ConfigurationError: there are too few, or one is no Observable.
    """
    if len(tracks) < least:
        raise ConfigurationError(f"{len(tracks)} tracks were given; at least {least} are needed")
    for number, track in enumerate(tracks, 1):
        if not isinstance(track, Observable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"track {number} is {kind_of(track)}, not a Stream or another Observable of events"
            )
    return tuple(tracks)


def lanes_of(
    tracks: Sequence[Observable[Event]],
    scheduler: LoopScheduler,
    *,
    on_event: Callable[[Lane, Event], object],
    on_end: Callable[[Lane], object],
    labels: Labels | None = None,
) -> list[Lane]:
    """A lane for each track, none of them started; each keeps its answer, unless other `labels` say otherwise."""
    labels = AnswerLabels() if labels is None else labels
    return [
        Lane(index, track, scheduler, labels=labels, on_event=on_event, on_end=on_end)
        for index, track in enumerate(tracks)
    ]
