"""Several tracks that make one answer: each try of each of them is an attempt of that answer, with a number of its own.

So `rxstream.aggregate` keeps their texts apart, adds up what all of them used, and a request that was closed early is
counted too: by what it had reported, else by our estimate.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from rxstream.events import Event, EventBase, Retracted, UsageReported
from rxstream.tracks._lane import Lane
from rxstream.usage import Usage, cut_short

__all__ = ["Attempts", "parting", "used"]

E = TypeVar("E", bound=EventBase)
_stamp = msgspec.structs.replace


class Attempts:
    """Numbers the attempts of one answer, in the order in which they begin."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, int], int] = {}
        self._last = (-1, -1, 0)  # lane, attempt and number of the event before: mostly those of the next one
        self.spent = Usage()
        """What was told, by `settle` and `bill`, of tracks that do not go on."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._numbers)

    def number(self, lane: Lane, attempt: int = 1) -> int:
        """The number of a lane's own `attempt`."""
        return self._numbers.setdefault((lane.index, attempt), len(self._numbers) + 1)

    def count_up(self, lane: Lane, attempts: int) -> None:
        """`lane` has made so many attempts, also those of which nothing was heard."""
        for attempt in range(1, attempts + 1):
            self.number(lane, attempt)

    def stamp(self, lane: Lane, event: E) -> E:
        """`event` with the number of its attempt."""
        index, attempt, number = self._last
        if index != lane.index or attempt != event.attempt:
            number = self.number(lane, event.attempt)
            self._last = lane.index, event.attempt, number
        return event if number == event.attempt else _stamp(event, attempt=number)

    def take_back(self, lane: Lane, number: int, to_offset: int = 0) -> Event:
        """The event that takes back all of the attempt `number` but so many characters."""
        own = next(attempt for (_, attempt), known in self._numbers.items() if known == number)
        return _stamp(lane.word(Retracted(to_offset=to_offset), attempt=own), attempt=number)

    def retract(self, lane: Lane) -> list[Event]:
        """The events that take back all that `lane` has said."""
        return [self.take_back(lane, number) for (index, _), number in self._numbers.items() if index == lane.index]

    def settle(self, lane: Lane, reason: str) -> list[Event]:
        """Close `lane` and give the events that say so: what it used, and that it was cancelled."""
        return self._tell(lane, parting(lane, reason))

    def bill(self, lane: Lane) -> list[Event]:
        """What `lane`, which has ended of itself, used: nothing where nothing is known."""
        return self._tell(lane, used(lane))

    def _tell(self, lane: Lane, events: list[Event]) -> list[Event]:
        for event in events:
            if isinstance(event, UsageReported):
                self.spent += event.usage
        return [self.stamp(lane, event) for event in events]


def parting(lane: Lane, reason: str) -> list[Event]:
    """Close `lane` and give the events that say so, in its own numbering."""
    lane.close()
    return [*used(lane), lane.farewell(reason)]


def used(lane: Lane) -> list[Event]:
    """What each attempt of `lane` used, which has ended, if it is not known that it was nothing."""
    events: list[Event] = []
    for attempt in sorted({*lane.usages, *lane.said, lane.attempt}):
        cut = lane.status != "completed" and attempt == lane.attempt and not lane.finished
        usage = lane.usages.get(attempt)
        if usage is None or cut:
            usage = cut_short(usage, lane.said.get(attempt, 0))
        if usage.output_tokens or lane.status != "failed" or attempt in lane.usages:
            events.append(lane.word(UsageReported(usage=usage), attempt=attempt))
    return events
