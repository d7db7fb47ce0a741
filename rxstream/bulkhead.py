"""How many streams may run at once, among all who share the bulkhead.

Rules of this module:

* Streams on any loops and threads share one. Nobody is blocked: who has to wait, awaits, on his own loop.
* First come, first served, whichever loop he is on: a free place is taken by who waits longest, and by nobody who comes later.
* Who is cancelled while he waits has taken nothing. A queue that is full refuses at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from math import inf
from typing import NamedTuple

from rxstream._check import at_least, count
from rxstream._waiter import PATIENCE, Waiter, first, living, wake_first
from rxstream.errors import BulkheadFull
from rxstream.guards import Ticket

__all__ = ["Bulkhead", "BulkheadStatistics"]


class BulkheadStatistics(NamedTuple):
    """What a bulkhead does, and has done."""

    running: int
    """Streams that have a place."""
    waiting: int
    """Streams that wait for one."""
    rejected: int
    """Streams that were refused so far."""


class Bulkhead:
    """At most so many streams at a time: a guard for `rxstream.operators.guard`.

    The name is that of resilience4j's, and of M. Nygard's "Release It!" (2007), after the walls that keep a ship afloat when one
    hold is flooded: a model that has become slow cannot take up every connection.

    Example:
        >>> import rxstream
        >>> from rxstream import operators as rxo
        >>> two_at_a_time = Bulkhead(2)
        >>> answers = [rxstream.from_iterable(["Hello"]).pipe(rxo.guard(two_at_a_time)) for _ in range(5)]
        >>> rxstream.tracks.merge(*answers).pipe(rxo.responses()).run().keys()
        dict_keys(['track-1', 'track-2', 'track-3', 'track-4', 'track-5'])

    Args:
        max_concurrent: Streams that may run at a time, whatever their models.
        max_waiting: Streams that may wait; the next one is refused with `rxstream.errors.BulkheadFull`, and 0 lets none wait.
        max_wait: Seconds after which who still waits is refused; None for as long as it takes.

    Raises:
        ConfigurationError: one of them is not as described.
    """

    def __init__(self, max_concurrent: int, *, max_waiting: int = 1024, max_wait: float | None = None) -> None:
        self.max_concurrent = count("max_concurrent", max_concurrent)
        """Streams that may run at a time."""
        self.max_waiting = count("max_waiting", max_waiting, least=0)
        """Streams that may wait."""
        self.max_wait = None if max_wait is None else at_least("max_wait", max_wait)
        """Seconds that each may."""
        self._lock = threading.Lock()
        self._running: set[Ticket] = set()
        self._waiters: deque[Waiter] = deque()
        self._rejected = 0

    @property
    def statistics(self) -> BulkheadStatistics:
        """How many run, wait, and were refused. From any thread."""
        with self._lock:
            return BulkheadStatistics(len(self._running), len(self._waiters), self._rejected)

    async def enter(self, ticket: Ticket) -> None:
        """Take a place, when all who came before have theirs.

        Raises:
            BulkheadFull: too many wait already, or it has waited `max_wait` seconds.
        """
        waiter = Waiter()
        with self._lock:
            if not living(self._waiters) and self._take(ticket):
                return
            if len(self._waiters) >= self.max_waiting:
                raise BulkheadFull(self._refusal(f"{self.max_waiting} more wait"))
            self._waiters.append(waiter)
        try:
            await self._wait(ticket, waiter)
        finally:
            with self._lock:
                with contextlib.suppress(ValueError):  # it was given up for dead
                    self._waiters.remove(waiter)
                self._call()  # the next, please

    async def _wait(self, ticket: Ticket, waiter: Waiter) -> None:
        time = asyncio.get_running_loop().time
        until = inf if self.max_wait is None else time() + self.max_wait
        while True:
            with self._lock:
                if first(self._waiters) is waiter and self._take(ticket):
                    return
                left = until - time()
                if left <= 0:
                    raise BulkheadFull(self._refusal(f"none has ended within {self.max_wait:g} s"))
            await waiter.sleep(min(left, PATIENCE))

    def leave(self, ticket: Ticket) -> None:
        """Give the place to the next."""
        with self._lock:
            self._running.discard(ticket)
            self._call()

    def _take(self, ticket: Ticket) -> bool:
        if len(self._running) >= self.max_concurrent:
            return False
        self._running.add(ticket)
        return True

    def _call(self) -> None:
        if len(self._running) < self.max_concurrent:
            wake_first(self._waiters)

    def _refusal(self, why: str) -> str:
        self._rejected += 1
        return f"{self.max_concurrent} streams run already, and {why}"

    def __repr__(self) -> str:
        running, waiting, _ = self.statistics
        return f"<Bulkhead {running} of {self.max_concurrent} running, {waiting} waiting>"
