"""One subscription above for many below: what `share` and `share_replay` are made of.

Rules of this module:

* Items stand in a chain. Each subscriber has its place in it and goes on from there at its own pace, on its own loop; it sees
  every item from where it began, once, in order. What nobody needs any more is let go.
* What one subscriber does (raises, disposes, stops, dies with its loop) is no other's business.
* A subscriber is *behind* while its gate is closed, or from when 512 items wait for it (or half of `most`, if that is less)
  until a quarter of these do. The source is held while one is behind (``any``), or while all are (``all``).
* One for whom more than `most` items wait that are kept for it alone is ended with `LimitExceeded`, after what waits.
* Subscribing and leaving are safe in any thread. No lock is held while a subscriber is called.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Generic, Literal, TypeVar, cast

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._outlet import Outlet, shut_down, too_many
from rxstream.errors import Cancelled
from rxstream.events import Event, EventBase, encode
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler, call_on, contain, running_loop

__all__ = ["End", "Hub", "Member", "Sharing", "Window"]

T = TypeVar("T")
End = Literal["completed", "error", "left"]
"""How it ended: the source's own two ways, or because everybody had left."""
_HOLD: Final = "subscribers"
_HIGH: Final = 512


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what came is kept for late subscribers; None is all."""

    events: int | None = None
    bytes: int | None = None
    seconds: float | None = None


class _Node(msgspec.Struct, Generic[T]):
    """An item, how many there are up to it, and what came after it."""

    item: T
    number: int = 0
    next: _Node[T] | None = None
    at: float = 0.0
    size: int = 0


class Hub(Generic[T]):
    """One subscription to `source`.

    Args:
        source: What is shared.
        rule: Whether the source is held while ``any`` subscriber is behind, or only while ``all`` are.
        window: What late subscribers see.
        most: Items that may wait for a subscriber beyond the window.
        refcount: Whether the last subscriber that leaves closes the source.
        final: The ends that a new subscriber is told of; after the others it is refused.
    """

    def __init__(
        self,
        source: Observable[T],
        *,
        rule: Callable[[Iterable[bool]], bool],
        window: Window,
        most: int,
        refcount: bool,
        final: frozenset[End],
    ) -> None:
        self.gate = Gate()
        self.most = most
        self.high = max(1, min(_HIGH, most // 2))
        self.low = self.high // 4
        self._source = source
        self._rule = rule
        self._window = window
        self._keeps = "none" if window.events == 0 else "all" if window == Window() else "some"
        self._refcount = refcount
        self._final = final
        self._lock = threading.RLock()
        self._before: _Node[T] = _Node(cast("T", None))
        """The node before the first that is kept."""
        self._last = self._before
        self._bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._members: tuple[Member[T], ...] = ()
        self._connection = SingleAssignmentDisposable()
        self._end: tuple[End, Exception | None] | None = None
        self._held = False

    @property
    def count(self) -> int:
        """Items that have come."""
        return self._last.number

    # --- subscribers, any thread ------------------------------------------------------------------------------------------

    def join(self, observer: abc.ObserverBase[T], scheduler: LoopScheduler) -> Member[T] | None:
        """Show `observer` what is kept and what comes; the first makes the request. None if it came too late for that."""
        self._bury()
        member = Member(self, observer, scheduler)
        with self._lock:
            end = self._end
            refused = end is not None and end[0] not in self._final
            connect = self._loop is None
            if self._loop is None:
                self._loop = scheduler.loop
            if not refused:
                self._trim()
                member.begin(self._before, end)
                self._members += (member,) if end is None else ()
        if refused:
            member.dispose()
            return None
        self.weigh()
        member.call()
        if connect:
            self._connection.disposable = self._source.subscribe(
                self.on_next, self._fail, self._complete, scheduler=scheduler.with_gate(self.gate)
            )
        return member

    def _bury(self) -> None:
        """Who is on a loop that was closed has left; and with nobody left, so has a source that ran on one."""
        for member in self._members:
            if member.gone:
                self.leave(member)
        if self._loop is not None and self._loop.is_closed() and not self._members:
            self._finish("left", shut_down())

    def leave(self, member: Member[T]) -> None:
        """It is not to be told any more. The last one closes the source, with `refcount`."""
        with self._lock:
            self._members = tuple(other for other in self._members if other is not member)
            last = self._refcount and not self._members and self._end is None
            if last:
                self._end = ("left", Cancelled("its last subscriber had left"))
        self.weigh()
        if last:
            self._connection.dispose()

    def weigh(self) -> None:
        """Hold or release the source, as the subscribers want it."""
        with self._lock:
            behind = [member.is_behind(self) for member in self._members]
            held = bool(behind) and self._rule(behind)
            if held != self._held:
                self._held = held
                (self.gate.hold if held else self.gate.release)(_HOLD)

    # --- the source -------------------------------------------------------------------------------------------------------

    def on_next(self, item: T) -> None:
        """Keep `item` and tell everybody."""
        if self._end is not None:
            return
        node = _Node(item, self._last.number + 1)
        self._last.next = node
        self._last = node
        if self._keeps == "none":
            self._before = node
        elif self._keeps == "some":
            with self._lock:
                self._measure(node)
                self._trim()
        here = running_loop()
        for member in self._members:
            if not member.offer(node, here):
                self._look_after(member)

    def _look_after(self, member: Member[T]) -> None:
        """`member` has not seen the last item yet."""
        if member.gone or self._before.number - member.place > self.most:
            self.leave(member)
            member.lose(too_many(self.most))
        elif not member.late and self.count - member.place >= self.high:
            self.weigh()

    def _measure(self, node: _Node[T]) -> None:
        if self._window.seconds is not None and self._loop is not None:
            node.at = self._loop.time()
        if self._window.bytes is not None:
            node.size = _size(node.item)
            self._bytes += node.size

    def _trim(self) -> None:
        """Let go what is beyond the window; the lock is held."""
        window = self._window
        now = self._loop.time() if window.seconds is not None and self._loop is not None else 0.0
        while (node := self._before.next) is not None and (
            (window.events is not None and self.count - self._before.number > window.events)
            or (window.bytes is not None and self._bytes > window.bytes)
            or (window.seconds is not None and node.at < now - window.seconds)
        ):
            self._before = node
            self._bytes -= node.size

    def _complete(self) -> None:
        self._finish("completed", None)

    def _fail(self, error: Exception) -> None:
        self._finish("error", error)

    def _finish(self, how: End, error: Exception | None) -> None:
        with self._lock:
            if self._end is not None:
                return
            self._end = (how, error)
            members = self._members
        for member in members:
            member.finish(error)


class Member(Outlet[T]):
    """A subscriber's place in the chain, and how it is told."""

    def __init__(self, hub: Hub[T], observer: abc.ObserverBase[T], scheduler: LoopScheduler) -> None:
        super().__init__(observer, scheduler)
        self.late = False
        """Whether too many wait for it."""
        self._hub = hub
        self._node: _Node[T] = _Node(cast("T", None))
        self._gate.watch(self._weigh)

    @property
    def place(self) -> int:
        """How many items it has seen, those before its time counted."""
        return self._node.number

    def begin(self, before: _Node[T], end: tuple[End, Exception | None] | None) -> None:
        """Take a place: behind the node `before`; `end` is what was the end already."""
        self._node = before
        if end is not None:
            self._last = (end[1],)

    # --- the source's side, any thread ------------------------------------------------------------------------------------

    def offer(self, node: _Node[T], here: object) -> bool:
        """There is something new. Whether it was seen at once."""
        if here is not self._loop:
            self.call()
        elif self._node.next is node and not (self._busy or self._gate.closed or self.over):
            self._see(node)
        else:
            self.flush()
        return self._node is node

    def finish(self, error: Exception | None) -> None:
        """It is the end, after what waits; at once where it says that our loop goes down."""
        if error is not None and running_loop() is self._loop:
            self.on_error(error)
        else:
            call_on(self._loop, partial(self._end, error))

    def lose(self, error: Exception) -> None:
        """It is the end, after what waits; what comes from now on is not for us."""
        call_on(self._loop, partial(self._lose, error))

    def is_behind(self, hub: Hub[T]) -> bool:
        """Whether the source should wait for us. Asked under the hub's lock."""
        if self.late:
            self.late = hub.count - self.place > hub.low
        elif hub.count - self.place >= hub.high:
            # First this, and then we look again: our loop, which may run in another thread, does the reverse.
            self.late = True
            self.late = hub.count - self.place > hub.low
        return (self.late or self._gate.closed) and not self.gone

    @property
    def gone(self) -> bool:
        """Whether its loop is closed: it will never be told."""
        return self._loop.is_closed()

    # --- on our loop ------------------------------------------------------------------------------------------------------

    def dispose(self) -> None:
        """Nobody listens any more. From any thread."""
        super().dispose()
        self._gate.unwatch(self._weigh)
        self._hub.leave(self)
        if self.gone:
            self.forget()

    def flush(self) -> None:
        """Emit what waits; what the observer raises is its own affair."""
        try:
            super().flush()
        except BaseException as error:  # noqa: BLE001 - the observer's own: it gets it back
            self._raised(contain(error))
        if self.late and self._hub.count - self.place <= self._hub.low:
            self._hub.weigh()

    def pending(self) -> bool:
        """Whether there is an item that it has not seen."""
        return self._node.next is not None or bool(self.items)

    def take(self) -> T:
        """The next item."""
        if self.items:
            return self.items.popleft()
        node = self._node.next
        assert node is not None  # noqa: S101 - asked only if there is one
        self._node = node
        return node.item

    def forget(self) -> None:
        """There is nobody left to take what waits."""
        self._node = _Node(cast("T", None))
        super().forget()

    def _see(self, node: _Node[T]) -> None:
        """Emit the newest item, all others having been seen."""
        self._node = node
        self._busy = True
        try:
            self._emit(node.item)
        except BaseException as error:  # noqa: BLE001 - the observer's own: it gets it back
            self._raised(contain(error))
        finally:
            self._busy = False
        if node.next is not None or self._last is not None:
            self.flush()

    def _raised(self, error: Exception) -> None:
        try:
            if self.over:
                raise error  # noqa: TRY301 - it has been told its end, or has left: there is nobody else to tell
            self._tell(error)
        except BaseException as raised:  # noqa: BLE001 - the observer's own
            message = "an observer of a shared stream raised an exception"
            self._loop.call_exception_handler({"message": message, "exception": contain(raised)})

    def _lose(self, error: Exception) -> None:
        while (node := self._node.next) is not None:
            self.items.append(node.item)
            self._node = node
        self._node = _Node(cast("T", None))
        self._end(error)

    def _weigh(self) -> None:
        """Our gate has changed. (A watcher of our own: two of us may have one gate.)"""
        self._hub.weigh()


class Sharing(Generic[T]):
    """The hub of the moment; `make` makes the next one when a subscriber comes too late for it."""

    def __init__(self, make: Callable[[], Hub[T]]) -> None:
        self._make = make
        self._hub = make()
        self._lock = threading.Lock()

    def subscribe(
        self, observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        """What an Observable is made of."""
        here = LoopScheduler.of(scheduler)
        while (member := (hub := self._hub).join(observer, here)) is None:
            with self._lock:
                if self._hub is hub:
                    self._hub = self._make()
        return Disposable(member.dispose)


def _size(item: object) -> int:
    if isinstance(item, (str, bytes)):
        return len(item)
    return len(encode(cast("Event", item))) if isinstance(item, EventBase) else sys.getsizeof(item)
