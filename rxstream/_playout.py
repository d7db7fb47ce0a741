"""Playing out text that arrives unevenly: a jitter buffer, without a clock and without I/O.

Rules of this module:

* Nothing waits longer than `lag`: the rate is never less than what the deadlines of all that waits ask for.
* Within that the rate follows what arrives, slowly: it is an average of the last while, leaning to the side where about as
  much waits as the gaps between arrivals call for.
* A burst is one arrival, and a pause is no gap: neither moves the averages by more than a share.

Times are seconds on a clock that stands still while the playout is paused. The delay that is aimed at is the mean gap and four
times its deviation, both exponentially weighted: V. Jacobson, "Congestion avoidance and control" (1988), for TCP's timeout;
R. Ramjee et al., "Adaptive playout mechanisms for packetized audio applications in wide-area networks" (1994), for voice. That
it is played faster or slower, and not cut or stretched at once, is the way of WebRTC's NetEq.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec

from rxstream._units import BYTES_A_TOKEN, Unit, bytes_in, characters_in, text_of
from rxstream.events import Event
from rxstream.segment import characters, split

__all__ = ["Playout"]

_MEMORY = 4
"""Lags over which the averages reach back."""
_LEAST, _MOST = 0.3, 0.7
"""Shares of the lag that are aimed at, at least and at most: there must be something to play, and room for what comes."""
_INSTANT = 1e-6
"""Seconds that are no time."""
_EVENT = 200
"""Bytes of an event, its text left aside."""


class Playout:
    """The events of one track that wait, and when the next piece of text is due.

    Args:
        rate: Units a second; without one it adapts.
        unit: What is counted, and where text is cut.
        lag: Seconds that text may wait, without a `rate`.
        step: Seconds between two pieces, at least.
    """

    def __init__(self, *, rate: float | None, unit: Unit, lag: float, step: float) -> None:
        self.waiting: deque[_Held] = deque()
        self.due = 0.0
        """When to play, if anything waits."""
        self._unit: Unit = unit
        self._measure = bytes_in if unit == "tokens" else characters_in
        self._step = step
        self._units = 0  # that wait
        self._played_at = 0.0
        self._played = 0
        self._plan: _Fixed | _Adaptive
        if rate is None:
            self._plan = _Adaptive(lag, max(step / 2, lag / 32))
        else:  # tokens are counted in bytes, so that a sum is a whole number
            self._plan = _Fixed(rate * (BYTES_A_TOKEN if unit == "tokens" else 1))

    def add(self, event: Event, text: str, now: float) -> int:
        """`event` waits from now on: to play `text`, or if that is empty, for what is before it. The bytes that it takes."""
        units = self._measure(text)
        if units:
            if not self._units:
                self.due = max(self.due, now)
            self._units += units
            self._plan.arrived(now, units)
            if self.due > now + self._step:  # what is heard now was played slowly: may this come sooner?
                soon = max(self._step, self._played / self._plan.cruise())
                self.due = min(self.due, max(now, self._played_at + soon))
        held = _Held(event, units, _EVENT + len(text or text_of(event)), self._unit)
        self.waiting.append(held)
        return held.size

    def play(self, now: float, out: deque[Event]) -> int:
        """Move to `out` what is to be heard now; the bytes that it took."""
        rate = self._plan.rate(now) if self.due <= now + _INSTANT else 0.0
        budget = max(1, math.ceil(rate * self._step - _INSTANT)) if rate else 0
        played = freed = 0
        while self.waiting:
            held = self.waiting[0]
            if held.units and played >= budget:
                break
            before = held.units
            out.append(held.play(budget - played) if before else held.event)
            played += before - held.units
            if held.units:
                break
            freed += held.size
            self.waiting.popleft()
        if played:
            self._units -= played
            self._plan.played(played)
            self._played = played
            self._played_at = max(self.due, now - self._step)  # a little late is made good, no more
            self.due = self._played_at + played / rate
        return freed

    def drain(self, out: deque[Event]) -> None:
        """Move to `out` all that waits."""
        out.extend(held.play(held.units) if held.units else held.event for held in self.waiting)
        self.waiting.clear()


class _Held:
    """An event that waits; of one of text, what is left."""

    __slots__ = ("_pieces", "_unit", "event", "size", "units")

    def __init__(self, event: Event, units: int, size: int, unit: Unit) -> None:
        self.event = event
        self.units = units
        """Units left to play."""
        self.size = size
        self._unit = unit
        self._pieces: deque[str] | None = None

    def play(self, units: int) -> Event:
        """The next `units` of it or a little more; a character or a word at least."""
        if units >= self.units and self._pieces is None:
            self.units = 0
            return self.event
        if self._pieces is None:
            text = text_of(self.event)
            self._pieces = deque(characters(text) if self._unit == "characters" else split(text))
        out: list[str] = []
        stop = max(self.units - units, 0)
        while self.units > stop:
            piece = self._pieces.popleft()
            self.units -= 1 if self._unit == "characters" else bytes_in(piece)
            out.append(piece)
        return msgspec.structs.replace(self.event, text="".join(out))


class _Fixed:
    """Always the same rate.

    Args:
        rate: Units a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def arrived(self, now: float, units: int) -> None:
        """So many units have come."""

    def played(self, units: int) -> None:
        """So many units have gone."""

    def cruise(self) -> float:
        """Units a second, deadlines left aside."""
        return self._rate

    def rate(self, _now: float) -> float:
        """Units a second to play from now on."""
        return self._rate


class _Adaptive:
    """The rate at which units arrive, and more where something would else wait longer than `lag`.

    Args:
        lag: Seconds that a unit may wait.
        grain: Seconds within which arrivals are one.
    """

    def __init__(self, lag: float, grain: float) -> None:
        self._lag = lag
        self._grain = grain
        self._came = 0
        self._gone = 0
        self._deadlines: deque[list[float]] = deque()  # when, and how many are to be gone by then
        self._start = -math.inf  # of the last burst
        self._burst = 0
        self._units = 0.0  # decaying sums: units that came, and the seconds in which they did
        self._seconds = 0.0
        self._gap = 0.0
        self._deviation = 0.0

    def arrived(self, now: float, units: int) -> None:
        """So many units have come."""
        self._came += units
        if now - self._start < self._grain:
            self._burst += units
            if self._deadlines:
                self._deadlines[-1][1] = self._came
                return
        else:
            self._count(now)
            self._start, self._burst = now, units
        self._deadlines.append([now + self._lag, self._came])

    def _count(self, now: float) -> None:
        """The last burst is over: take it into the averages."""
        if not self._burst:
            return
        gap = min(now - self._start, self._lag)
        keep = math.exp(-gap / (_MEMORY * self._lag))
        self._units = self._units * keep + self._burst
        self._seconds = self._seconds * keep + gap
        if not self._gap:
            self._gap, self._deviation = gap, gap / 2
            return
        error = gap - self._gap
        self._gap += error / 8
        self._deviation += (abs(error) - self._deviation) / 4

    def played(self, units: int) -> None:
        """So many units have gone."""
        self._gone += units
        while self._deadlines and self._deadlines[0][1] <= self._gone:
            self._deadlines.popleft()

    def cruise(self) -> float:
        """Units a second, deadlines left aside."""
        waiting = self._came - self._gone
        wanted = min(max(self._gap + 4 * self._deviation, self._lag * _LEAST), self._lag * _MOST)
        if not self._seconds:
            return waiting / wanted
        usual = self._units / self._seconds
        return max(usual + (waiting - usual * wanted) / self._lag, waiting / self._lag)

    def rate(self, now: float) -> float:
        """Units a second to play from `now` on."""
        urgent = ((count - self._gone) / max(deadline - now, _INSTANT) for deadline, count in self._deadlines)
        return max(self.cruise(), max(urgent, default=0.0))
