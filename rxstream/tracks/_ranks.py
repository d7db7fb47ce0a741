"""Who leads among tracks of different rank, and how much those below it may say meanwhile.

Rules of this module:

* The highest track that has had content in the last `idle` seconds leads. Nobody holds it; nobody leads at first.
* Shares are kept in virtual time, as in fair queueing: an event of who leads takes the time 1/weight. So does an event of
  a lower track, which is then held until that time has come. In a strict order it never comes.
* Who was held for `max_wait` seconds is let go until its next event, however slow the consumer is.
* Who begins while another leads is known by its first event, and held from then on.
* When the leader leaves, the next one that is held leads: nobody knows yet whether it has something to say.
* Idle seconds are counted only while the consumer's gate is open: that nothing is said meanwhile proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rxstream._alarm import Alarm
from rxstream.events import Event, Finished
from rxstream.loop import LoopScheduler, call_on
from rxstream.tracks._lane import CONTENT, Lane

__all__ = ["Ranks"]

_HOLD = "priority"
_ROUNDING = 1e-9
_MOMENT = 1e-6
"""Seconds; an alarm may ring that much early."""


class _Rank:
    """A lane and what it may say."""

    __slots__ = ("due", "free", "held", "index", "lane", "spoke", "step")

    def __init__(self, lane: Lane, step: float) -> None:
        self.index = lane.index
        self.lane = lane
        self.step = step
        """What an event of it costs, in virtual time."""
        self.due = 0.0
        """The virtual time of its next event while it does not lead."""
        self.spoke = -math.inf
        """When its last content came, or when it was let go, in seconds of open gates."""
        self.held = False
        self.free = False
        """Whether it was held for too long, and nothing holds it until it has said something."""


class Ranks:
    """The lanes of a combination, the highest first.

    Args:
        lanes: All of them.
        scheduler: The combination's.
        weights: Of each; None for a strict order.
        idle: Seconds without content after which a lane leads no more.
        max_wait: Seconds that a lane is held at most without an event.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        scheduler: LoopScheduler,
        weights: Sequence[float] | None,
        *,
        idle: float,
        max_wait: float,
    ) -> None:
        self._strict = weights is None
        steps = [1.0] * len(lanes) if weights is None else [max(weights) / weight for weight in weights]
        self._ranks = [_Rank(lane, step) for lane, step in zip(lanes, steps, strict=True)]
        self._leader: _Rank | None = None
        self._virtual = 0.0
        self._held: dict[_Rank, float] = {}  # and since when, the first of them first
        self._next_due = math.inf  # no one of them is due before
        self._idle = idle
        self._max_wait = max_wait
        self._loop = scheduler.loop
        self._time = self._loop.time
        self._gate = scheduler.gate
        self._shut_at: float | None = self._time() if self._gate.closed else None
        self._shut_for = 0.0
        self._alarm = Alarm(self._loop, self._ring)
        self._gate.watch(self._gate_changed)

    # --- what happens -------------------------------------------------------------------------------------------------

    def note(self, lane: Lane, event: Event) -> None:
        """`lane` is about to say `event`."""
        rank, leader = self._ranks[lane.index], self._leader
        if type(event) in CONTENT and (leader is None or rank.index <= leader.index):
            rank.spoke = self._now()
            if rank is not leader:
                self._lead(rank)
            if not self._strict:
                self._virtual += rank.step
                if self._virtual + _ROUNDING >= self._next_due:
                    self._let_go_who_is_due()
        elif leader is not None and rank.index > leader.index:
            if type(event) in CONTENT:
                rank.spoke = self._now()
            if type(event) is not Finished:  # its end follows at once, and needs an open gate
                self._charge(rank)

    def ended(self, lane: Lane) -> None:
        """`lane` has ended."""
        rank = self._ranks[lane.index]
        self._let_go(rank)
        if rank is self._leader:
            self._succeed()

    def close(self) -> None:
        """All is over: hold nobody."""
        self._gate.unwatch(self._gate_changed)
        self._alarm.close()
        self._leader = None
        for rank in list(self._held):
            self._let_go(rank)

    # --- who leads ----------------------------------------------------------------------------------------------------

    def _lead(self, leader: _Rank) -> None:
        self._leader = leader
        leader.free = False
        self._let_go(leader)
        past, self._virtual, self._next_due = self._virtual, 0.0, math.inf
        for rank in self._ranks[leader.index + 1 :]:
            rank.due = math.inf if self._strict else max(0.0, rank.due - past)
            if rank.held:
                self._next_due = min(self._next_due, rank.due)
            elif rank.due > _ROUNDING and rank.lane.status == "active" and not rank.free:
                self._hold(rank)
        self._set_alarm()

    def _succeed(self) -> None:
        """Who led has ended or is idle."""
        assert self._leader is not None  # noqa: S101 - it has just left
        now = self._now()
        for rank in self._ranks[self._leader.index + 1 :]:
            if rank.lane.status != "active":
                continue
            if rank.held:
                rank.spoke = now  # as if: it may have something to say
            if rank.spoke + self._idle > now:
                self._lead(rank)
                return
        self._leader = None  # and nobody is held: one of them would lead now

    # --- who waits ----------------------------------------------------------------------------------------------------

    def _charge(self, rank: _Rank) -> None:
        assert self._leader is not None  # noqa: S101 - who leads pays nothing
        rank.free = False
        now = self._virtual
        if not self._strict:  # what was not used is not saved up, but for one event of the leader
            rank.due = min(max(rank.due, now - self._leader.step), now) + rank.step
        if rank.due > now + _ROUNDING:
            self._hold(rank)

    def _hold(self, rank: _Rank) -> None:
        if rank.held:
            return
        rank.held = True
        self._held[rank] = self._time()
        self._next_due = min(self._next_due, rank.due)
        rank.lane.gate.hold(_HOLD)
        if len(self._held) == 1:
            self._set_alarm()

    def _let_go(self, rank: _Rank) -> None:
        if rank.held:
            rank.held = False
            del self._held[rank]
            rank.lane.gate.release(_HOLD)

    def _let_go_who_is_due(self) -> None:
        now = self._virtual + _ROUNDING
        for rank in [rank for rank in self._held if rank.due <= now]:
            self._let_go(rank)
        self._next_due = min((rank.due for rank in self._held), default=math.inf)

    # --- seconds ------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        """Seconds of open gates."""
        return (self._time() if self._shut_at is None else self._shut_at) - self._shut_for

    def _set_alarm(self) -> None:
        at = min(self._idle_at() + self._shut_for, self._starved_at())
        if at < math.inf:
            self._alarm.set(at)

    def _idle_at(self) -> float:
        """When the leader will have been idle for too long, in seconds of open gates."""
        return math.inf if self._leader is None or self._shut_at is not None else self._leader.spoke + self._idle

    def _starved_at(self) -> float:
        """When the first of those that are held will have been for too long."""
        return next(iter(self._held.values())) + self._max_wait if self._held else math.inf

    def _ring(self) -> None:
        if self._idle_at() <= self._now() + _MOMENT:
            self._succeed()
        while self._starved_at() <= self._time() + _MOMENT:
            starved = next(iter(self._held))
            starved.free = True
            self._let_go(starved)
        self._set_alarm()

    def _gate_changed(self) -> None:
        call_on(self._loop, self._note_gate)

    def _note_gate(self) -> None:
        if self._gate.closed:
            if self._shut_at is None:
                self._shut_at = self._time()
        elif self._shut_at is not None:
            self._shut_for += self._time() - self._shut_at
            self._shut_at = None
            self._set_alarm()
