"""``interleave``: several tracks at once, each with its share."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from reactivex import Observable, abc

from rxstream._check import count, one_of
from rxstream._outlet import Outlet
from rxstream.events import Event, RefusalDelta, TextDelta, ThinkingDelta, ToolCallDelta
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.tracks._crew import Backlog, Crew, combined, weighed
from rxstream.tracks._lane import Lane

__all__ = ["interleave"]

_QUANTUM = {"events": 1, "characters": 16}
"""What a track of the lowest weight may say in a turn."""


def interleave(
    *tracks: Observable[Event],
    weights: Sequence[float] | None = None,
    by: Literal["events", "characters"] = "events",
    max_concurrency: int | None = None,
    ahead: int = 64,
) -> Stream[Event]:
    """All tracks at once, and each gets its share when the consumer is slower than all of them together.

    ::

        a:       --a1-a2-a3-a4--|
        b:       --b1-b2-b3-b4--|
                 interleave(a, b, weights=(2, 1))      (a consumer that takes one at a time)
        result:  --a1-a2-b1-a3-a4-b2-b3-b4-|

    What comes goes out in the loop's next round. Where more comes than goes out, a little of each track waits, and the
    tracks that have something waiting are served in turns; one that has nothing to say costs the others nothing.

    The bound: while both of two tracks have something waiting, what each has been given, divided by its weight (the lowest
    of all being 1), differs by at most a turn, which is one event or 16 characters, and the largest event of each, divided
    by its weight. A track that would run further ahead of its share waits at its source.

    A track is read `ahead` while the result is paused, too. A track that fails gives the event `Failed`, after what waits
    of it, and the others go on.

    Example:
        >>> import rxstream
        >>> from rxstream.operators import responses
        >>> from rxstream.tracks import interleave
        >>> left = rxstream.from_iterable(["Hel", "lo"], label="left")
        >>> right = rxstream.from_iterable(["Bon", "jour"], label="right")
        >>> interleave(left, right, weights=(2, 1)).pipe(responses()).run()["left"].text
        'Hello'

    Args:
        tracks: What to interleave.
        weights: The share of each, any numbers above 0; equal if not given.
        by: Whether shares are of ``events`` or of ``characters`` of text, thinking and arguments; an event without any
            counts as one.
        max_concurrency: How many may run at once: the next begins, in the order given, when one has ended. None for all.
        ahead: Events of a track that may wait; then it is held at its source until half of them are gone.

    Raises:
        ConfigurationError: there is no track, or an argument is not as described.

    It is deficit round robin (Shreedhar and Varghese, "Efficient fair queuing using deficit round robin", 1995).
    """
    shares = weighed(tracks, weights, lambda _number: 1.0)
    size = _one if one_of("by", by, _QUANTUM) == "events" else _characters
    quanta = [_QUANTUM[by] * share / min(shares) for share in shares]
    count("ahead", ahead)

    def crew(observer: abc.ObserverBase[Event], scheduler: LoopScheduler, given: Sequence[Observable[Event]]) -> Crew:
        return _Turns(observer, scheduler, given, quanta, size=size, ahead=ahead, most=max_concurrency).crew

    return combined(tracks, max_concurrency, crew)


def _one(_event: Event) -> int:
    return 1


def _characters(event: Event) -> int:
    if isinstance(event, (TextDelta, ThinkingDelta, RefusalDelta)):
        return len(event.text)
    return len(event.arguments) if isinstance(event, ToolCallDelta) else 1


class _Flow:
    """A lane, and what it may say."""

    __slots__ = ("backlog", "credit", "items", "quantum")

    def __init__(self, backlog: Backlog, quantum: float) -> None:
        self.backlog = backlog
        self.items = backlog.items
        self.quantum = quantum
        self.credit = 0.0


class _Turns(Outlet[Event]):
    """What waits of all lanes, served in turns."""

    def __init__(
        self,
        observer: abc.ObserverBase[Event],
        scheduler: LoopScheduler,
        tracks: Sequence[Observable[Event]],
        quanta: Sequence[float],
        *,
        size: Callable[[Event], int],
        ahead: int,
        most: int | None,
    ) -> None:
        super().__init__(observer, scheduler)
        # Not held with the consumer's gate: what each has to say must be known before the gate opens, to share out fairly.
        beside = scheduler.with_gate(scheduler.gate.beside())
        self.crew = Crew(tracks, beside, self, on_event=self._hear, most=most)
        self._flows = [
            _Flow(Backlog(lane, ahead), quantum) for lane, quantum in zip(self.crew.lanes, quanta, strict=True)
        ]
        self._ring = deque[_Flow]()
        self._size = size

    def _hear(self, lane: Lane, event: Event) -> None:
        flow = self._flows[lane.index]
        if not flow.items:
            if not self._ring:
                flow.credit = flow.quantum
            self._ring.append(flow)
        flow.backlog.add(event)
        if not (self._called or self._busy):
            self.call()

    def pending(self) -> bool:
        """Whether anything waits."""
        return bool(self._ring)

    def take(self) -> Event:
        """The next event of the first whose credit is worth it; a flow gets credit when its turn comes."""
        ring, size, passed = self._ring, self._size, 0
        flow = ring[0]
        cost = size(flow.items[0])
        while flow.credit < cost:
            ring.rotate(-1)
            flow = ring[0]
            flow.credit += flow.quantum
            cost = size(flow.items[0])
            passed += 1
            if passed == len(ring) and flow.credit < cost:
                self._skip()
        flow.credit -= cost
        event = flow.backlog.take()
        if not flow.items:
            ring.popleft()
            flow.credit = 0.0
            if ring:
                ring[0].credit += ring[0].quantum
        return event

    def _skip(self) -> None:
        """Nobody could speak in a whole round: grant the rounds in which nobody could yet."""
        lacking = ((self._size(flow.items[0]) - flow.credit) / flow.quantum for flow in self._ring)
        rounds = math.ceil(min(lacking)) - 1
        for flow in self._ring:
            flow.credit += rounds * flow.quantum

    def forget(self) -> None:
        """There is nobody left to take what waits."""
        self._ring.clear()
        for flow in self._flows:
            flow.backlog.close()
