"""The streams of a manager: which run, which wait for their turn, and which are over and still known.

Every method may be called from any thread; nobody is called while the lock is held.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable

from rxstream._check import count, show
from rxstream._managed import Managed
from rxstream._registry import nearest
from rxstream.errors import BulkheadFull, ConfigurationError, UnknownStream
from rxstream.manager_statistics import ManagerStatistics, StreamStatistics, Totals
from rxstream.session import SessionStatus

__all__ = ["Roster"]


class Roster:
    """Streams by their ids.

    Args:
        max_streams: How many may run; None for any number.
        max_waiting: How many may wait.
        keep: How many that are over are kept.

    Raises:
        ConfigurationError: one of them is not as described.
    """

    def __init__(self, *, max_streams: int | None, max_waiting: int, keep: int) -> None:
        self._max_streams = None if max_streams is None else count("max_streams", max_streams)
        self._max_waiting = count("max_waiting", max_waiting, least=0)
        self._keep = count("keep", keep, least=0)
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._all: dict[str, Managed] = {}
        self._running: dict[Managed, None] = {}
        self._waiting: OrderedDict[Managed, None] = OrderedDict()
        self._over: dict[Managed, None] = {}
        self._totals = Totals()
        self._closed = False

    def enter(
        self, stream_id: str, make: Callable[[str, Callable[[str], Managed | None]], Managed]
    ) -> tuple[Managed, bool]:
        """The stream that `make` makes of its id and a look at others, and whether it runs; otherwise it waits.

        An id that is empty is a number that nobody has.

        Raises:
            ConfigurationError: the id is taken, or the roster is closed.
            BulkheadFull: as many run, and wait, as may.
        """
        with self._lock:
            if self._closed:
                raise ConfigurationError("the manager is closed")
            if stream_id in self._all:
                raise ConfigurationError(f"stream_id={show(stream_id)}: there is a stream of this id")
            runs = self._has_room and not self._waiting  # who waits is before it
            if not runs and len(self._waiting) >= self._max_waiting:
                raise BulkheadFull(f"{self._max_streams} streams run already, and {self._max_waiting} more wait")
            name = stream_id or next(free for n in self._numbers if (free := f"stream-{n}") not in self._all)
            managed = self._all[name] = make(name, self._all.get)
            if runs:
                self._running[managed] = None
            else:
                self._waiting[managed] = None
            return managed, runs

    def find(self, stream_id: str) -> Managed:
        """The stream of this id.

        Raises:
            UnknownStream: there is none.
        """
        with self._lock:
            if (managed := self._all.get(stream_id)) is not None:
                return managed
            known = list(reversed(self._all))
        raise UnknownStream(f"no stream has the id {show(stream_id)}{nearest(stream_id, known)}")

    def next(self) -> Managed | None:
        """The one whose turn it is: from now on it runs."""
        with self._lock:
            if not self._waiting or not self._has_room:
                return None
            managed, _ = self._waiting.popitem(last=False)
            self._running[managed] = None
            return managed

    def abandon(self) -> list[Managed]:
        """Those that wait for a turn that will not come: nobody waits any more."""
        with self._lock:
            waiting = list(self._waiting)
            self._running.update(self._waiting)
            self._waiting.clear()
            return waiting

    def ended(self, managed: Managed, statistics: StreamStatistics) -> bool:
        """It is over. Whether others wait."""
        with self._lock:
            if managed in self._running:
                del self._running[managed]
            else:
                del self._waiting[managed]
            self._totals.add(statistics)
            self._over[managed] = None
            while len(self._over) > self._keep:
                oldest = next(iter(self._over))
                del self._over[oldest], self._all[oldest.id]
            return bool(self._waiting)

    def forget(self, stream_id: str) -> bool:
        """Whether it was over, and is forgotten now.

        Raises:
            UnknownStream: there is none.
        """
        with self._lock:
            managed = self.find(stream_id)
            if managed not in self._over:
                return False
            del self._over[managed], self._all[stream_id]
            return True

    def close(self) -> list[Managed]:
        """Nothing more enters; those that are not over, last who waits first, so that none gets its turn."""
        with self._lock:
            self._closed = True
            return [*reversed(self._waiting), *self._running]

    @property
    def running(self) -> list[Managed]:
        """Those that run."""
        with self._lock:
            return list(self._running)

    @property
    def statuses(self) -> dict[str, SessionStatus]:
        """How all are, in the order in which they came."""
        with self._lock:
            return {name: managed.session.status for name, managed in self._all.items()}

    @property
    def statistics(self) -> ManagerStatistics:
        """The figures of all so far, forgotten ones, too."""
        with self._lock:
            totals = self._totals.copy()
            for managed in (*self._running, *self._waiting):
                totals.add(managed.statistics)
            return totals.value()

    @property
    def _has_room(self) -> bool:
        return self._max_streams is None or len(self._running) < self._max_streams

    def __repr__(self) -> str:
        with self._lock:
            return f"{len(self._running)} running, {len(self._waiting)} waiting, {len(self._over)} over"
