"""One request to the chaos server: what was asked, what went wrong on purpose, what was sent, when the client left."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

from rxstream.events import Phase
from rxstream.providers.compatible import Dialect
from rxstream.testing.chaos._exchange import Headers, Recorded
from rxstream.testing.chaos._frames import Frame
from rxstream.testing.chaos._steps import Signal

__all__ = ["Outcome", "Served"]

Outcome = Literal[
    "", "complete", "end", "close", "reset", "half-close", "hang", "refused", "cancelled", "left", "stopped"
]
"""How an answer ended: ``""`` it has not; ``complete`` properly; ``end`` as if it were complete; ``close``, ``reset``,
``half-close`` and ``hang`` as these faults have it; ``refused`` with an HTTP error; ``cancelled`` the model was told to stop;
``left`` the client went first; ``stopped`` the server did."""


@dataclass(eq=False)
class Served:
    """A request, and how its answer went; filled in as it goes, for every thread to read."""

    request: Recorded
    number: int
    """Which request for a stream it is, from 0; -1 for all others."""
    dialect: Dialect | None
    """None for what is no question to the model."""
    faults: tuple[str, ...] = ()
    """What went wrong on purpose, in the words in which it was asked for."""
    continued: int = 0
    """Characters of the script that the request says were said already."""
    phase: Phase = "connect"
    """How far it came, as the client may know: what was sent, not what it has read."""
    outcome: Outcome = field(default="", repr=False)
    """As `ended`, but for the client's leaving."""
    events_sent: int = 0
    """Events sent whole."""
    body_sent: int = 0
    """Bytes of the body sent, before any compression."""
    text: list[str] = field(default_factory=list[str], repr=False)
    """The pieces of text in the events sent whole; what an endless answer repeats is left out."""

    @property
    def path(self) -> str:
        """What was asked for, with its query."""
        return self.request.path

    @property
    def headers(self) -> Headers:
        """The request's headers, by names in lower case; their ``repr`` shows no key."""
        return self.request.headers

    @property
    def json(self) -> Any:
        """The request's JSON."""
        return self.request.json

    @property
    def ended(self) -> Outcome:
        """How the answer ended; empty as long as it goes on."""
        return self.outcome or ("" if self.left_at is None else "left")

    @property
    def text_sent(self) -> str:
        """The text in the events sent whole."""
        return "".join(self.text)

    @property
    def bytes_sent(self) -> int:
        """Bytes that the kernel took, the head and the frames of HTTP counted."""
        return self.request.written

    @property
    def lasted(self) -> float:
        """Seconds from the request to the client's leaving, or until now."""
        return (self.left_at or time.monotonic()) - self.request.came_at

    @property
    def left(self) -> Signal:
        """Set when the client is seen to leave."""
        return self.request.left

    @property
    def left_at(self) -> float | None:
        """`time.monotonic` when the client was seen to leave, before the answer's end or after it."""
        return self.request.left_at

    @property
    def left_phase(self) -> Phase | None:
        """How far the answer was when the client left; None while it is there."""
        return None if self.left_at is None else self.phase

    def sent(self, frame: Frame) -> None:
        """An event was sent whole."""
        self.events_sent += 1
        if frame.text:
            self.text.append(frame.text)
        if frame.kind in ("text", "thinking"):
            self.phase = "output"
        elif frame.kind == "tool":
            self.phase = "tool_call"
        elif frame.kind in ("finish", "usage", "end"):
            self.phase = "finish"
        elif self.phase == "first_event":
            self.phase = "first_output"
