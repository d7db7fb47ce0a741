"""The gate: a source reads on only while nobody holds it.

Rules of this module:

* A hold has a name. The gate is open when there are no holds, so two parties that hold it never undo each other.
* Anyone may hold and release, from any thread, at once and without blocking.
* A gate can have children (one a track): a child is closed while it, or any gate above it, is held.

A user's pause is a hold; a full buffer is a hold at its high mark and a release at its low mark. Counting demand item
by item (``request(n)``) belongs to the edges: counted at the source it stalls as soon as a ``filter`` drops something.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from functools import partial

__all__ = ["Gate"]


class Gate:
    """Named holds on everything above it.

    Example:
        >>> gate = Gate()
        >>> gate.hold("user")
        >>> gate.hold("buffer")
        >>> gate.release("user")
        >>> gate.closed, gate.holds
        (True, ('buffer',))
    """

    def __init__(self, *, parent: Gate | None = None) -> None:
        self._lock: threading.RLock = threading.RLock() if parent is None else parent._lock
        self._parent = parent
        self._holds: dict[str, None] = {}
        self._children: weakref.WeakKeyDictionary[Gate, None] = weakref.WeakKeyDictionary()  # a set in order
        self._openings = 0
        self._watchers: set[Callable[[], object]] = set()
        self.closed = False
        """Whether anything is held, here or above. Read by the source before every event."""
        self.ahead = 0
        """What the sources of this very gate have read and not delivered; kept by them, on their loop."""
        if parent is not None:
            with self._lock:
                parent._children[self] = None
                self.closed = parent.closed

    @property
    def holds(self) -> tuple[str, ...]:
        """Names of the holds on this gate and those above it, oldest first, the outermost gate's first."""
        with self._lock:
            above = self._parent.holds if self._parent is not None else ()
            return above + tuple(self._holds)

    @property
    def read_ahead(self) -> int:
        """Bytes that the sources above have read and not yet delivered because the gate is closed."""
        with self._lock:
            return self.ahead + sum(child.read_ahead for child in self._children)

    @property
    def watched(self) -> bool:
        """Whether anybody obeys it, or a gate below: sources do until they have closed what they opened."""
        with self._lock:
            return bool(self._watchers) or any(child.watched for child in self._children)

    def child(self) -> Gate:
        """A gate of one track: held with this one, or alone."""
        return Gate(parent=self)

    def beside(self) -> Gate:
        """A gate that is not held with this one, of a source that is read ahead of it; what it has read counts here."""
        gate = Gate()
        gate._lock = self._lock  # our changes ask it, too
        with self._lock:
            self._children[gate] = None
        return gate

    def hold(self, name: str) -> None:
        """Close the gate in the name of `name`; a second hold of the same name changes nothing."""
        with self._lock:
            self._holds[name] = None
            self._refresh()

    def release(self, name: str) -> None:
        """Give up the hold `name`, if there is one; the gate opens when it was the last."""
        with self._lock:
            self._holds.pop(name, None)
            self._refresh()

    def watch(self, changed: Callable[[], object]) -> None:
        """Call `changed` whenever `closed` has changed, in the thread that did it; it must be quick and never raise."""
        with self._lock:
            self._watchers.add(changed)

    def unwatch(self, changed: Callable[[], object]) -> None:
        """Call `changed` no more."""
        with self._lock:
            self._watchers.discard(changed)

    async def wait(self) -> None:
        """Return when the gate is open."""
        while self.closed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            wake = partial(_wake, waiter)
            self.watch(wake)
            try:
                if self.closed:
                    await waiter
            finally:
                self.unwatch(wake)

    def _refresh(self) -> None:
        closed = bool(self._holds) or (self._parent is not None and self._parent.closed)
        if closed == self.closed:
            return
        self.closed = closed
        for changed in tuple(self._watchers):
            changed()
        children = tuple(self._children)
        self._openings += not closed
        first = self._openings % (
            len(children) or 1
        )  # who wakes first may take all that the consumer takes: take turns
        for child in children[first:] + children[:first]:
            child._refresh()

    def __repr__(self) -> str:
        state = f"held by {', '.join(self.holds)}" if self.closed else "open"
        return f"<Gate {state}>"


def _wake(waiter: asyncio.Future[None]) -> None:
    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
        waiter.get_loop().call_soon_threadsafe(wake)
