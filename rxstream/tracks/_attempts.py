"""Several tracks that make one answer: each try of each of them is an attempt of that answer, with a number of its own.

So `rxstream.aggregate` keeps their texts apart, adds up what all of them used, and a request that was closed early is
counted too: by what it had reported, else by our estimate.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from rxstream.events import Event, EventBase, UsageReported
from rxstream.tracks._lane import Lane
from rxstream.usage import Usage

__all__ = ["Attempts"]

E = TypeVar("E", bound=EventBase)
_stamp = msgspec.structs.replace


class Attempts:
    """Numbers the attempts of one answer, in the order in which they begin."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, int], int] = {}

    def number(self, lane: Lane, attempt: int = 1) -> int:
        """The number of a lane's own `attempt`."""
        return self._numbers.setdefault((lane.index, attempt), len(self._numbers) + 1)

    def stamp(self, lane: Lane, event: E) -> E:
        """`event` with the number of its attempt."""
        number = self.number(lane, event.attempt)
        return event if number == event.attempt else _stamp(event, attempt=number)

    def settle(self, lane: Lane, reason: str) -> list[Event]:
        """Close `lane` and give the events that say so: what it used, and that it was cancelled.

        A provider that was cut short has often not said what it will bill. Then the output is estimated at a token for
        each piece of content that came; what it reads, and writes before it notices, is not known to anybody here.
        """
        lane.close()
        last = lane.farewell(reason)
        usage = lane.usage or Usage()
        if usage.output_tokens is None or usage.output_tokens < lane.outputs:
            usage = msgspec.structs.replace(
                usage, output_tokens=lane.outputs, total_tokens=None, provenance="estimated"
            )
        elif usage.provenance == "reported":
            usage = msgspec.structs.replace(usage, provenance="partial")
        used = UsageReported(source=last.source, attempt=last.attempt, seq=last.seq, at=last.at, usage=usage)
        return [self.stamp(lane, used), self.stamp(lane, _stamp(last, seq=last.seq + 1))]
