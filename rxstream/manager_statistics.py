"""Figures of the streams of a manager: of one, and of all that it has had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from rxstream.session import SessionStatus, Statistics
from rxstream.sinks._policy import HandlerFigures

__all__ = ["ManagerStatistics", "StreamStatistics", "Totals"]


class StreamStatistics(Statistics, frozen=True, kw_only=True):
    """Figures of a managed stream at one moment: those of its session, and what the manager knows."""

    status: SessionStatus
    started_at: float | None
    """Seconds since 1970; None as long as it waits."""
    queue_time: float
    """Seconds that it waited, or has waited, for its turn."""
    errors: int
    """What went wrong: attempts that failed, tracks that failed, and the stream itself, if it did."""
    handler_failures: int
    """Exceptions of its handlers."""
    dropped: int
    """Calls of slow handlers that were not made."""
    waiting: int
    """… and calls that wait for them."""
    handlers: Mapping[str, HandlerFigures]
    """Of each handler, by its id."""


class ManagerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of all streams that a manager has had, those that it keeps no more, too."""

    streams: Mapping[SessionStatus, int]
    """How many there are, and were, in each status."""
    events: int
    outputs: int
    """Events that carry content."""
    characters: int
    output_tokens: int
    """As far as the providers report them."""
    errors: int
    handler_failures: int
    dropped: int
    queue_time: float
    """Seconds that they waited for their turn, together."""


class Totals:
    """The sum of what `add` was given."""

    def __init__(self) -> None:
        self._streams: Counter[SessionStatus] = Counter()
        self._sums = dict.fromkeys(_SUMMED, 0)

    def copy(self) -> Totals:
        """As it is now."""
        copy = Totals()
        copy._streams, copy._sums = self._streams.copy(), self._sums.copy()
        return copy

    def add(self, statistics: StreamStatistics) -> None:
        """One stream more."""
        self._streams[statistics.status] += 1
        for name in _SUMMED:
            self._sums[name] += getattr(statistics, name) or 0

    def value(self) -> ManagerStatistics:
        """What it has come to."""
        return ManagerStatistics(streams=dict(self._streams), **self._sums)


_SUMMED = tuple(name for name in ManagerStatistics.__struct_fields__ if name != "streams")
