"""The six clocks, on one timer.

The timer is armed for the earliest deadline and looks again when it fires: an event on the hot path only notes the time
(150 ns, where a timer of its own for every event costs 4 µs). Only output re-arms ``idle``; pings never do. While the
gate is closed the clocks stand still: a pause is not a stall. What came while the loop was held up is heard first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rxstream.errors import Clock, TimedOut

if TYPE_CHECKING:
    from rxstream.config import Timeouts

__all__ = ["Clocks", "Watchdog"]

_WHAT: dict[Clock, str] = {
    "connect": "no response headers",
    "first_event": "no event",
    "first_output": "no content",
    "idle": "no further content",
    "step": "the answer was not complete",
    "total": "the stream was not complete",
}


class Clocks(NamedTuple):
    """What clocks are set to, in seconds, where `rxstream.Timeouts`, which needs pydantic, would be too much."""

    first_event: float | None = None
    first_output: float | None = None
    idle: float | None = None
    step: float | None = None
    total: float | None = None


class Watchdog:
    """Calls `expired` once, with the error, when a clock of `timeouts` runs out; without any, never."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeouts: Timeouts | Clocks | None,
        expired: Callable[[TimedOut], None],
    ) -> None:
        self._loop = loop
        self._timeouts = timeouts
        self._expired = expired
        self._timer: asyncio.Handle | None = None
        self._paused_at: float | None = None
        self._since: dict[Clock, float] = {}
        self.last_output = 0.0
        """When the last content was delivered; written by the source, read here when the timer fires."""

    def start(self) -> None:
        """The request goes out."""
        now = self._loop.time()
        self._since = {"connect": now, "first_output": now, "step": now, "total": now}
        self._arm()

    def connected(self) -> None:
        """The response headers are here."""
        self._since.pop("connect", None)
        self._since["first_event"] = self._loop.time() if self._paused_at is None else self._paused_at
        self._arm()

    def first_event(self) -> None:
        """The first event of any kind is here."""
        self._since.pop("first_event", None)
        self._arm()

    def first_output(self) -> None:
        """The first content is here; from now on `last_output` is kept."""
        self._since.pop("first_output", None)
        self._since["idle"] = self.last_output
        self._arm()

    def again(self, delay: float) -> None:
        """The attempt has failed, and another one is made in `delay` seconds: all its clocks start anew then."""
        start = (self._loop.time() if self._paused_at is None else self._paused_at) + delay
        self._since = {"total": self._since["total"], **dict.fromkeys(("first_event", "first_output", "step"), start)}
        self._arm()

    def set_pause(self, *, on: bool) -> None:
        """The gate is closed, or open."""
        if on:
            self.pause()
        else:
            self.resume()

    def pause(self) -> None:
        """The gate has closed."""
        if self._paused_at is None:
            self._paused_at = self._loop.time()
            self._disarm()

    def resume(self) -> None:
        """The gate is open again: every deadline moves by the time that it was closed."""
        if self._paused_at is None:
            return
        pause = self._loop.time() - self._paused_at
        self._paused_at = None
        self.last_output += pause
        self._since = {clock: since + pause for clock, since in self._since.items()}
        self._arm()

    def stop(self) -> None:
        """The attempt is over; nothing of it is kept."""
        self._since.clear()
        self._expired = _nobody
        self._disarm()

    def _deadlines(self) -> list[tuple[float, Clock, float]]:
        found: list[tuple[float, Clock, float]] = []
        for clock, since in self._since.items():
            seconds: float | None = getattr(self._timeouts, clock, None)
            if seconds is not None:
                start = max(since, self.last_output) if clock == "idle" else since
                found.append((start + seconds, clock, seconds))
        return found

    def _arm(self) -> None:
        self._disarm()
        if self._paused_at is None and (deadlines := self._deadlines()):
            self._timer = self._loop.call_at(min(deadlines)[0], self._look)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """The timer has gone off: a round later it counts, for what has come may be in this one."""
        late = min(self._deadlines())[0] <= self._loop.time()
        self._timer = None
        if late:
            self._timer = self._loop.call_soon(self._judge)
        else:
            self._arm()

    def _judge(self) -> None:
        self._timer = None
        deadline, clock, seconds = min(self._deadlines())
        if deadline > self._loop.time():
            self._arm()
            return
        expired = self._expired
        self.stop()
        expired(TimedOut(f"{_WHAT[clock]} within {seconds:g} s (clock {clock!r})", clock=clock, seconds=seconds))


def _nobody(_: TimedOut) -> None:
    """Who is told when it is over."""
