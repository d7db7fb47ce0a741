"""Iterate an Observable: ``async for`` on the loop, ``for`` in any thread, with backpressure.

Between the stream and the loop's body stands a buffer. At its high mark it holds the stream's gate, at its low mark it
releases it, so a slow body slows the source and memory stays bounded. Leaving the loop early, by ``break``, an
exception or cancellation, disposes the subscription at once: the iterator goes, and with it the request.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from typing import Generic, TypeVar

from reactivex import Observable, abc

from rxstream.gate import Gate
from rxstream.loop import LoopScheduler, call_on, refuse_to_block, shared_loop

__all__ = ["HIGH", "LOW", "AsyncItems", "Items"]

T = TypeVar("T")
HIGH, LOW = 64, 16
"""Items in the buffer at which the stream is held, and released again."""
_numbers = itertools.count(1)


class _Buffer(Generic[T]):
    """What has arrived and was not asked for yet. Knows nothing of its iterator, so that the iterator can go."""

    def __init__(self, name: str, gate: Gate) -> None:
        self.name = f"{name}-{next(_numbers)}"
        self.gate = gate
        self.items: deque[T] = deque()
        self.error: Exception | None = None
        self.ended = False

    def on_next(self, item: T) -> None:
        if self.ended:
            return
        self.items.append(item)
        if len(self.items) == HIGH:
            self.hold()
        self.wake()

    def hold(self) -> None:
        self.gate.hold(self.name)
        if self.ended:  # in this very moment, by another thread
            self.gate.release(self.name)

    def on_error(self, error: Exception) -> None:
        self.error = error
        self.on_completed()

    def on_completed(self) -> None:
        self.ended = True
        self.gate.release(self.name)
        self.wake()

    def wake(self) -> None:
        """Tell the iterator, from any thread."""
        raise NotImplementedError

    def take(self) -> T:
        item = self.items.popleft()
        if len(self.items) == LOW:
            self.gate.release(self.name)
        return item

    def end(self) -> Exception | None:
        """The error to raise, once; None at the proper end."""
        error, self.error = self.error, None
        return error


class _AsyncBuffer(_Buffer[T]):
    def __init__(self, gate: Gate) -> None:
        super().__init__("async-iterator", gate)
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        waiter = self.waiter
        if waiter is not None:
            call_on(waiter.get_loop(), lambda: None if waiter.done() else waiter.set_result(None))

    async def wait(self) -> None:
        if self.waiter is not None:
            raise RuntimeError("two tasks wait for the next item of one iterator")
        self.waiter = asyncio.get_running_loop().create_future()
        try:
            if not self.items and not self.ended:
                self.gate.release(self.name)  # a producer in another thread may have held it after we had emptied it
                await self.waiter
        finally:
            self.waiter = None


class _SyncBuffer(_Buffer[T]):
    def __init__(self, gate: Gate) -> None:
        super().__init__("iterator", gate)
        self.condition = threading.Condition()

    def wake(self) -> None:
        with self.condition:
            self.condition.notify_all()

    def wait(self) -> None:
        with self.condition:
            while not self.items and not self.ended:
                self.gate.release(self.name)  # the loop's thread may have held it after we had emptied it
                self.condition.wait()


class _Edge(Generic[T]):
    """What both iterators do alike."""

    def __init__(self, source: Observable[T], buffer: _Buffer[T]) -> None:
        self._source = source
        self._buffer = buffer
        self._subscription: abc.DisposableBase | None = None

    def _subscribe(self, loop: asyncio.AbstractEventLoop) -> None:
        buffer = self._buffer
        if not buffer.ended:
            scheduler = LoopScheduler(loop, gate=buffer.gate)
            self._subscription = self._source.subscribe(
                buffer.on_next, buffer.on_error, buffer.on_completed, scheduler=scheduler
            )

    def _close(self) -> None:
        if self._subscription is not None:
            self._subscription.dispose()
        self._buffer.on_completed()

    def __del__(self) -> None:
        self._close()


class AsyncItems(_Edge[T]):
    """An async iterator over `source`, subscribed when the first item is asked for.

    Also an async context manager: ``async with`` disposes the subscription at the end of the block in any case.

    Raises:
        StreamError: while iterating, after all that arrived before it.
    """

    _buffer: _AsyncBuffer[T]

    def __init__(self, source: Observable[T], *, gate: Gate | None = None) -> None:
        super().__init__(source, _AsyncBuffer(gate if gate is not None else Gate()))

    def __aiter__(self) -> AsyncItems[T]:
        return self

    async def __anext__(self) -> T:
        buffer = self._buffer
        if self._subscription is None:
            self._subscribe(asyncio.get_running_loop())
        while not buffer.items:
            if buffer.ended:
                raise buffer.end() or StopAsyncIteration
            try:
                await buffer.wait()
            except BaseException:  # cancelled: close the request before anything else
                self._close()
                raise
        return buffer.take()

    async def aclose(self) -> None:
        """Dispose the subscription. What has arrived can still be read, then the iteration ends."""
        self._close()

    async def __aenter__(self) -> AsyncItems[T]:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


class Items(_Edge[T]):
    """An iterator over `source` for plain synchronous code; the stream runs on the shared loop thread.

    Also a context manager: ``with`` disposes the subscription at the end of the block in any case.

    Raises:
        StreamError: while iterating, after all that arrived before it.
        ConfigurationError: on the shared loop's own thread, where waiting would never end.
    """

    _buffer: _SyncBuffer[T]

    def __init__(self, source: Observable[T], *, gate: Gate | None = None) -> None:
        super().__init__(source, _SyncBuffer(gate if gate is not None else Gate()))

    def __iter__(self) -> Items[T]:
        return self

    def __next__(self) -> T:
        buffer = self._buffer
        if self._subscription is None:
            refuse_to_block(shared_loop(), "use `async for`")
            self._subscribe(shared_loop())
        if not buffer.items:
            try:
                buffer.wait()
            except BaseException:  # Ctrl-C: close the request before anything else
                self.close()
                raise
        if buffer.items:
            return buffer.take()
        raise buffer.end() or StopIteration

    def close(self) -> None:
        """Dispose the subscription. What has arrived can still be read, then the iteration ends."""
        self._close()

    def __enter__(self) -> Items[T]:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
