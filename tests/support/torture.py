"""Torture, as curl does it: count what can fail in a good run, then run once for each with that one failing.

A `Plan` counts the points that a run comes to, and does something at one of them. A `TortureLoop` leads two kinds of points
to it: every await of every task that is made on it while it has a plan, and every operation of the sockets that are made on
it while `socket.socket` is `TorturedSocket`. So nothing in the library knows that it is tortured, and no point has to be
named to be found.
"""

from __future__ import annotations

import asyncio
import errno
import selectors
import socket
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Literal

from rxstream.loop import running_loop

__all__ = ["AWAITS", "BREAKS", "Break", "Plan", "TortureLoop", "TorturedSocket", "Where", "fault"]

Where = Literal["await", "socket"]


class Plan:
    """What happens at the point number `at`, counted from 0, of those of the kind `where`.

    Args:
        where: Which points count.
        at: The number; None is never, to count them only.
        act: Called there with the name of the point. What it raises is raised there; what it returns a socket's
            operation returns in place of its own; None lets it go on.
    """

    def __init__(self, where: Where, at: int | None, act: Callable[[str], object] = lambda _: None) -> None:
        self.where = where
        self.count = 0
        self.struck = ""
        """The point at which it happened; empty if it did not."""
        self._at = at
        self.act = act

    def reach(self, where: Where, what: str) -> object:
        """A run has come to a point."""
        if where != self.where:
            return None
        self.count += 1
        if self.count - 1 != self._at:
            return None
        self.struck = f"{where} {self._at}, {what}"
        return self.act(what)


class TortureLoop(asyncio.SelectorEventLoop):
    """A loop whose tasks and sockets come to the points of `plan`."""

    def __init__(self) -> None:
        self._idle: list[Callable[[], object]] = []
        self._at_work = 0
        super().__init__(_WatchedSelector(self))
        self.plan: Plan | None = None
        self.reports: list[str] = []
        """What was said to its exception handler."""
        self.set_task_factory(_make_task)
        self.set_exception_handler(lambda _, context: self.reports.append(f"{context}"))

    def when_idle(self, call: Callable[[], object]) -> None:
        """Call it once, when there is nothing left to do but to wait, here and for those `at_work`. From any thread."""
        self.call_soon_threadsafe(self._idle.append, call)

    def at_work(self, more: int) -> None:
        """So many more, or fewer, of other threads are about to send something. From any thread."""

        def change() -> None:
            self._at_work += more

        self.call_soon_threadsafe(change)

    def tell_idle(self) -> bool:
        """Whether anybody wanted to know."""
        if self._at_work > 0:
            return False
        waiting = self._idle.copy()
        self._idle.clear()
        for call in waiting:
            call()
        return bool(waiting)

    def reach(self, where: Where, what: str) -> object:
        return None if self.plan is None else self.plan.reach(where, what)


class _WatchedSelector(selectors.DefaultSelector):
    """Tells the loop when nothing is ready."""

    def __init__(self, loop: TortureLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        return super().select(0 if self._loop.tell_idle() else timeout)


class TorturedSocket(socket.socket):
    """A socket whose operations are points, if a `TortureLoop` makes it.

    Closing is none: asyncio does not let it fail. Nor is ``setsockopt``: where that fails asyncio leaves to the garbage
    collector what it has half made.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        loop = running_loop()
        self._loop = loop if isinstance(loop, TortureLoop) else None
        self._reach("socket")
        super().__init__(*args, **kwargs)

    def _reach(self, what: str) -> object:
        return None if self._loop is None else self._loop.reach("socket", what)

    def connect(self, address: Any) -> None:
        self._reach("connect")
        super().connect(address)

    def getsockopt(self, *args: Any) -> Any:
        self._reach("getsockopt")
        return super().getsockopt(*args)

    def recv(self, *args: Any) -> bytes:
        done = self._reach("recv")
        return done if isinstance(done, bytes) else super().recv(*args)

    def recv_into(self, buffer: Any, *args: Any) -> int:
        done = self._reach("recv_into")
        if isinstance(done, bytes):
            buffer[: len(done)] = done
            return len(done)
        return super().recv_into(buffer, *args)

    def send(self, *args: Any) -> int:
        self._reach("send")
        return super().send(*args)

    def sendmsg(self, *args: Any) -> int:
        self._reach("sendmsg")
        return super().sendmsg(*args)

    def shutdown(self, how: int) -> None:
        self._reach("shutdown")
        super().shutdown(how)


def _make_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **options: Any
) -> asyncio.Task[Any]:
    """The loop's task factory."""
    assert isinstance(loop, TortureLoop)
    assert isinstance(work, Coroutine)
    return asyncio.Task(work if loop.plan is None else _Steps(loop, work), loop=loop, **options)


class _Steps(Coroutine[Any, Any, Any]):
    """A coroutine that comes to a point whenever what it awaited is done."""

    def __init__(self, loop: TortureLoop, work: Coroutine[Any, Any, Any]) -> None:
        self._loop = loop
        self._work = work
        self._begun = False
        self.cr_code = getattr(work, "cr_code", None)  # asyncio shows it
        self.cr_running = False
        self.cr_frame = None

    def send(self, value: Any) -> Any:
        if (error := self._fault()) is not None:
            return self._work.throw(error)
        return self._work.send(value)

    def throw(self, *exc: Any) -> Any:
        """The await was cancelled, or what it awaited has failed; it may fail of something else at that very moment."""
        return self._work.throw(self._fault() or (exc[0] if len(exc) == 1 else exc[1]))

    def _fault(self) -> Exception | None:
        """What the innermost await is to raise."""
        begun, self._begun = self._begun, True
        if begun:
            try:
                self._loop.reach("await", getattr(self._work, "__qualname__", "?"))
            except Exception as error:  # noqa: BLE001 - it may be any
                return error
        return None

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()


class Unheard(Exception):
    """A kind of error that no library knows."""


def fault(error: Exception | Callable[[], Exception]) -> Callable[[str], None]:
    """What raises `error` at a point."""

    def act(_: str) -> None:
        raise error if isinstance(error, Exception) else error()

    return act


AWAITS: Final[dict[str, Callable[[], Exception]]] = {
    "reset": lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    "no buffers": lambda: OSError(errno.ENOBUFS, "No buffer space available"),
    "timeout": lambda: TimeoutError("timed out"),
    "no memory": MemoryError,
    "a value": lambda: ValueError("nobody knows why"),
    "unheard of": lambda: Unheard("nobody knows why"),
}
"""What an await may raise."""

Break = Callable[[str], object]


def _end_of_stream(what: str) -> bytes:
    if what in ("recv", "recv_into"):
        return b""
    raise BrokenPipeError(errno.EPIPE, "Broken pipe")


BREAKS: Final[dict[str, Break]] = {
    "reset": fault(AWAITS["reset"]),
    "end": _end_of_stream,
    "timed out": fault(lambda: TimeoutError(errno.ETIMEDOUT, "Connection timed out")),
    "unreachable": fault(lambda: OSError(errno.EHOSTUNREACH, "No route to host")),
    "no memory": fault(MemoryError),
}
"""What an operation of a socket may do."""
