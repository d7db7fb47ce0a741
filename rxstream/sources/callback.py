"""Streams made of code that calls back: engines in this process, event buses, SDKs that push.

Rules of this module:

* What is pushed waits in a bounded buffer. A thread that pushes into a full one is held until there is room; a coroutine
  awaits `Push.send`. Only a plain call on the loop's own thread can do neither: there, a full buffer ends the stream.
* `Push` never raises, for engines swallow what their callbacks raise. It says True when the code should stop.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from rxstream._check import count, function, instance, kind_of
from rxstream._log import facts, log, trace
from rxstream.errors import ConfigurationError, LimitExceeded
from rxstream.events import Finished, FinishReason
from rxstream.loop import call_on
from rxstream.sources._source import Source
from rxstream.sources._worker import Worker
from rxstream.sources.iterable import END, Item, ItemsDecoder, Steps
from rxstream.usage import Usage

__all__ = ["Push", "from_callback"]

T = TypeVar("T")


class Push(Generic[T]):
    """Where the code that calls back puts its items. From any thread."""

    def __init__(self, buffer: int, text: Callable[[T], Item | None] | None) -> None:
        self._buffer = buffer
        self._text = text
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._changed = threading.Condition()
        self._items: deque[Any] = deque()
        self._ended = False
        self._stopped = False
        self._error: Exception | None = None
        self._waiting = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

    def __call__(self, item: T) -> bool:
        """Push one item. A thread waits here while the buffer is full.

        Returns:
            True if nobody wants more: the stream was cancelled, or has ended.
        """
        try:
            shaped: Any = item if self._text is None else self._text(item)
        except Exception as error:  # noqa: BLE001 - told to the subscriber
            self.error(error)
            return True
        with self._changed:
            if shaped and self._await_room():
                self._items.append(shaped)
                self._tell()
            return self._over

    async def send(self, item: T) -> bool:
        """Push one item from a coroutine on the stream's loop, which waits here while the buffer is full.

        Returns:
            True if nobody wants more.
        """
        while self._full and not self._over:
            self._room.clear()
            await self._room.wait()
        return self(item)

    def done(self, reason: FinishReason = "stop") -> None:
        """There is no more. What was pushed is delivered first; what is pushed later is dropped."""
        self._end(Finished(reason=reason))

    def error(self, error: Exception) -> None:
        """It has failed. What was pushed is delivered first."""
        self._end(None, error)

    @property
    def _full(self) -> bool:
        return len(self._items) >= self._buffer

    @property
    def _over(self) -> bool:
        return self._ended or self._stopped

    def _await_room(self) -> bool:
        """Whether an item may be added, once it may; the lock is held."""
        if self._full and not self._over and threading.get_ident() == self._thread:
            self._ended = True
            self._error = LimitExceeded(
                f"more than {self._buffer} items were pushed on the event loop's own thread, which cannot wait for room; "
                "await push.send(), or give buffer= more"
            )
            self._tell()
        while self._full and not self._over:
            self._changed.wait()
        return not self._over

    def _end(self, last: Finished | None, error: Exception | None = None) -> None:
        with self._changed:
            if not self._over:
                self._ended = True
                self._error = error
                if last is not None:
                    self._items.append(last)
                self._tell()

    def _tell(self) -> None:
        """Wake all that wait: the stream, and threads that want room."""
        self._changed.notify_all()
        if self._waiting:
            self._waiting = False
            call_on(self._loop, self._arrived.set)

    # --- the stream's side, on the loop -----------------------------------------------------------------------------------

    async def pop(self) -> Any:
        """The next item, once there is one; `END` after the last."""
        while True:
            with self._changed:
                if self._items:
                    item = self._items.popleft()
                    self._changed.notify()
                    self._room.set()
                    return item
                if self._error is not None:
                    raise self._error
                if self._over:
                    return END
                self._waiting = True
                self._arrived.clear()
            await self._arrived.wait()

    def stop(self) -> None:
        """Nobody wants more."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()
            self._room.set()


def from_callback(
    start: Callable[[Push[T]], Any],
    *,
    text: Callable[[T], Item | None] | None = None,
    buffer: int = 256,
    model: str = "",
    provider: str = "callback",
    id: str = "",  # noqa: A002 - the field's name
    usage: Usage | Callable[[], Usage | None] | None = None,
    label: str = "",
) -> Source[Any]:
    """A source of what `start` pushes, called once a subscription.

    A plain function runs in a thread of its own and may block; a coroutine function runs on the stream's loop. The stream
    ends when it returns, or earlier with ``push.done()`` or ``push.error(…)``. If it returns a function, it has only
    registered itself somewhere: then the stream goes on until one of these, and the function is called at the end, to
    undo that.

    Args:
        start: Takes a `Push`, which is itself the callback to hand on: a call of it with an item says whether to stop.
        text: What to make of an item; None or empty text leaves it out.
        buffer: Items that may wait for the stream.
        model: Name of the model, for `Started`.
        provider: … of who provides it.
        id: … of the answer.
        usage: Token counts, or a function that knows them at the end.
        label: Name of the track.

    Raises:
        ConfigurationError: `buffer` is less than 1, or `start` cannot be called.
    """
    if not callable(start):
        raise ConfigurationError(f"from_callback takes a function that is given a callback, not {kind_of(start)}")
    count("buffer", buffer)
    if text is not None:
        function("text", text)
    instance("label", label, str)
    return Source(
        open=lambda: _listening(start, buffer, text),
        decoder=lambda: ItemsDecoder(model=model, provider=provider, id=id, usage=usage),
        label=label,
        provider=provider,
        model=model,
    )


@asynccontextmanager
async def _listening(
    start: Callable[[Push[Any]], Any], buffer: int, text: Callable[[Any], Item | None] | None
) -> AsyncGenerator[Steps]:
    """One subscription's call of `start`."""
    push: Push[Any] = Push(buffer, text)
    call = _Call(start, push)
    running = asyncio.ensure_future(call.run())
    try:
        yield Steps(push.pop)
    finally:
        push.stop()
        running.cancel()
        await asyncio.wait([running])
        await call.close()


class _Call:
    """The call of `start`, where it belongs, and the undoing of what it did."""

    def __init__(self, start: Callable[[Push[Any]], Any], push: Push[Any]) -> None:
        self._start = start
        self._push = push
        self._on_loop = inspect.iscoroutinefunction(start)
        self._worker = Worker("rxstream-callback")
        self._undo: Any = None

    async def run(self) -> None:
        try:
            if self._on_loop:
                self._undo = await self._start(self._push)
            else:
                await self._worker.run(self._in_thread)
        except Exception as error:  # noqa: BLE001 - told to the subscriber
            self._push.error(error)
        else:
            if not callable(self._undo):
                self._push.done()

    def _in_thread(self) -> None:
        self._undo = self._start(self._push)  # kept, whoever still waits for it
        if inspect.iscoroutine(self._undo):
            self._undo.close()
            raise ConfigurationError("this function gives a coroutine; give the coroutine function itself")

    async def close(self) -> None:
        if self._on_loop:
            undone = self._undone()
            if inspect.isawaitable(undone):
                await undone
        await self._worker.close(self._undone)

    def _undone(self) -> Any:
        try:
            return self._undo() if callable(self._undo) else None
        except Exception as error:  # noqa: BLE001 - the stream has ended, and not because of this
            log.warning(
                "undoing a stream's registration failed", exc_info=trace(error), extra=facts("undo-failed", error=error)
            )
