"""How long something lasted that begins and ends several times."""

from __future__ import annotations

__all__ = ["Spells"]


class Spells:
    """Its seconds; where several overlap, once."""

    __slots__ = ("open", "since", "times", "total")

    def __init__(self) -> None:
        self.open = 0
        """How many have begun and not ended."""
        self.since = self.total = 0.0
        self.times = 0

    def begin(self, now: float) -> None:
        """One more begins."""
        if not self.open:
            self.since = now
            self.times += 1
        self.open += 1

    def end(self, now: float) -> bool:
        """One ends; whether it was the last that was open."""
        if not self.open:
            return False
        self.open -= 1
        if not self.open:
            self.total += now - self.since
        return not self.open

    def close(self, now: float) -> None:
        """All that are open end."""
        self.open = min(self.open, 1)
        self.end(now)
