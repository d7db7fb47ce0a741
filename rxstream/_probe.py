"""Who wants to know where a stream's time goes, told by the places at which it goes.

Rules of this module:

* Probes travel upstream with the scheduler, like the gate: a stream that is started from another's callback has its own.
* A place tells when it begins and ends to wait, on the stream's loop; where there is no probe it costs nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol, TypeAlias

__all__ = ["Place", "Probe", "Turn", "spent_in"]

Place: TypeAlias = Literal["queue", "setup", "network", "provider", "decoding"]
"""``queue`` a guard, or a manager, lets the request wait; ``setup`` what the process does once is done; ``network`` the request is
sent, its headers are awaited; ``provider`` more of the body is awaited; ``decoding`` it is turned into events."""


class Probe(Protocol):
    """Somebody who keeps the time."""

    @property
    def detailed(self) -> bool:
        """Whether each read is to be told, too; else the queue alone is."""
        ...

    def enter(self, place: Place) -> None:
        """It begins to wait here; several places, or the same twice, may be entered at once."""
        ...

    def leave(self, place: Place) -> None:
        """It goes on."""
        ...


class Turn:
    """That a stream had to wait before it was subscribed: until its turn came, in the queue of a manager."""

    __slots__ = ("waited",)

    def __init__(self) -> None:
        self.waited = 0.0
        """Seconds, while it is being subscribed: for who measures it from then. Later, of another attempt, 0."""


@contextmanager
def spent_in(place: Place, probes: Sequence[Probe]) -> Generator[None]:
    """Tell `probes` that this is where the time goes."""
    for probe in probes:
        probe.enter(place)
    try:
        yield
    finally:
        for probe in probes:
            probe.leave(place)
