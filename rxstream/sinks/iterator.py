"""Iterate an Observable: ``async for`` on the loop, ``for`` in any thread, with backpressure.

Between the stream and the loop's body stands a buffer. At its high mark it holds the stream's gate, at its low mark it
releases it, so a slow body slows the source and memory stays bounded; or it drops what the body is too slow for, if that
is asked for. Leaving the loop early, by ``break``, an exception or cancellation, disposes the subscription at once: the
iterator goes, and with it the request.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Generic, TypeVar

from reactivex import Observable

from rxstream._blame import because_of
from rxstream.errors import raisable
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler, call_on, refuse_to_block, shared_loop
from rxstream.sinks._buffer import HIGH, LOW, Buffer, Overflow, refuse_other

__all__ = ["HIGH", "LOW", "AsyncItems", "Items", "Overflow", "to_async_iterable", "to_iterable"]

T = TypeVar("T")


def to_async_iterable(
    source: Observable[T], *, high: int = HIGH, low: int | None = None, overflow: Overflow = "hold"
) -> AsyncItems[T]:
    """The items of any Observable, for ``async for``, with backpressure. It is subscribed when the first is asked for.

    ::

        source:  --a--b--c--d--e--|
             async for item in to_async_iterable(source, high=2, low=0): ...
        body:    --a-----b-----c-----d-----e-----|

    Leaving the loop early closes the request. ``async with`` makes sure of it where the iterator is kept.

    Example:
        >>> import asyncio
        >>> import reactivex as rx
        >>> import rxstream
        >>> async def main():
        ...     return [item async for item in rxstream.to_async_iterable(rx.of(1, 2, 3))]
        >>> asyncio.run(main())
        [1, 2, 3]

    Args:
        source: Any Observable; one of ours stops at its socket while it is held.
        high: Items that may wait for the loop's body: so many, and the source is held. With 1, and `low` 0, it goes item by
            item.
        low: Items left at which it is released; by default a quarter of `high`.
        overflow: What is done at `high`: ``hold`` the source; or let it run and ``drop_oldest``, ``drop_newest``, keep
            but the ``latest`` item, or end in an ``error``, `rxstream.errors.LimitExceeded`, after what waits. ``hold``,
            too, ends so when 65 536 items wait of a source that does not stop.

    Raises:
        ConfigurationError: `source` is no Observable, or an option is not as described.
    """
    return AsyncItems(source, high=high, low=low, overflow=overflow)


def to_iterable(
    source: Observable[T], *, high: int = HIGH, low: int | None = None, overflow: Overflow = "hold"
) -> Items[T]:
    """The items of any Observable, for a plain ``for`` in any thread; the stream runs on the shared loop's.

    Example:
        >>> import reactivex as rx
        >>> import rxstream
        >>> list(rxstream.to_iterable(rx.of(1, 2, 3)))
        [1, 2, 3]

    Args:
        source: Any Observable.
        high: As for `to_async_iterable`.
        low: As there.
        overflow: As there.

    Raises:
        ConfigurationError: `source` is no Observable, or an option is not as described.
    """
    return Items(source, high=high, low=low, overflow=overflow)


class _AsyncBuffer(Buffer[T]):
    def __init__(self, gate: Gate, *, high: int, low: int | None, overflow: Overflow) -> None:
        super().__init__("async-iterator", gate, high=high, low=low, overflow=overflow)
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
                self.emptied()
                await self.waiter
        except BaseException:  # cancelled: close the request before anything else
            self.close()
            raise
        finally:
            self.waiter = None


class _SyncBuffer(Buffer[T]):
    def __init__(self, gate: Gate, *, high: int, low: int | None, overflow: Overflow) -> None:
        super().__init__("iterator", gate, high=high, low=low, overflow=overflow)
        self.condition = threading.Condition()

    def wake(self) -> None:
        with self.condition:
            self.condition.notify_all()

    def wait(self) -> None:
        if self.items:
            return
        try:
            with self.condition:
                while not self.items and not self.ended:
                    self.emptied()
                    self.condition.wait()
        except BaseException:  # Ctrl-C: close the request before anything else
            self.close()
            raise


class _Edge(Generic[T]):
    """What both iterators do alike."""

    def __init__(self, source: Observable[T], buffer: Buffer[T]) -> None:
        self._source = source
        self._buffer = buffer
        self._subscribed = False
        refuse_other(source)

    @property
    def dropped(self) -> int:
        """How many items were dropped because the buffer was full."""
        return self._buffer.dropped

    def _subscribe(self, loop: asyncio.AbstractEventLoop) -> None:
        buffer = self._buffer
        if not buffer.ended:
            scheduler = LoopScheduler(loop, gate=buffer.gate)
            buffer.subscription.disposable = self._source.subscribe(
                buffer.on_next, buffer.on_error, buffer.on_completed, scheduler=scheduler
            )
        self._subscribed = True

    def _end(self, proper: Exception) -> Exception:
        """What to raise when there is nothing more."""
        error = self._buffer.end()
        return proper if error is None else raisable(error)

    def __del__(self) -> None:
        if hasattr(self, "_buffer"):  # else its options were refused
            self._buffer.close()


class AsyncItems(_Edge[T]):
    """An async iterator over `source`, subscribed when the first item is asked for.

    Also an async context manager: ``async with`` disposes the subscription at the end of the block in any case.

    Args:
        source: What to iterate.
        gate: The stream's, where somebody else is to hold it, too.
        high: As for `to_async_iterable`.
        low: As there.
        overflow: As there.

    Raises:
        ConfigurationError: `source` is no Observable, or an option is not as described.
        StreamError: while iterating, after all that arrived before it.
    """

    _buffer: _AsyncBuffer[T]

    def __init__(
        self,
        source: Observable[T],
        *,
        gate: Gate | None = None,
        high: int = HIGH,
        low: int | None = None,
        overflow: Overflow = "hold",
    ) -> None:
        gate = gate if gate is not None else Gate()
        super().__init__(source, _AsyncBuffer(gate, high=high, low=low, overflow=overflow))

    def __aiter__(self) -> AsyncItems[T]:
        return self

    async def __anext__(self) -> T:
        buffer = self._buffer
        if not self._subscribed:
            self._subscribe(asyncio.get_running_loop())
        while not buffer.items:
            if buffer.ended and not buffer.items:  # asked again: it may have come from another thread, and the end, too
                raise self._end(StopAsyncIteration())
            await buffer.wait()
        return buffer.take()

    async def aclose(self) -> None:
        """Dispose the subscription. What has arrived can still be read, then the iteration ends."""
        self._buffer.close()

    async def __aenter__(self) -> AsyncItems[T]:
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        with because_of(error):
            await self.aclose()


class Items(_Edge[T]):
    """An iterator over `source` for plain synchronous code; the stream runs on the shared loop thread.

    Several threads may take from one: each item goes to one of them, and an error to the first that comes for it.
    Also a context manager: ``with`` disposes the subscription at the end of the block in any case.

    Args:
        source: What to iterate.
        gate: The stream's, where somebody else is to hold it, too.
        high: As for `to_async_iterable`.
        low: As there.
        overflow: As there.

    Raises:
        StreamError: while iterating, after all that arrived before it.
        ConfigurationError: `source` is no Observable, or an option is not as described; or, while iterating, on the shared loop's own thread, where
            waiting would never end.
    """

    _buffer: _SyncBuffer[T]

    def __init__(
        self,
        source: Observable[T],
        *,
        gate: Gate | None = None,
        high: int = HIGH,
        low: int | None = None,
        overflow: Overflow = "hold",
    ) -> None:
        gate = gate if gate is not None else Gate()
        super().__init__(source, _SyncBuffer(gate, high=high, low=low, overflow=overflow))
        self._starting = threading.RLock()

    def __iter__(self) -> Items[T]:
        return self

    def __next__(self) -> T:
        buffer = self._buffer
        if not self._subscribed:
            refuse_to_block(shared_loop(), "use `async for`")
            with self._starting:
                if not self._subscribed:
                    self._subscribe(shared_loop())
        while not (buffer.ended and not buffer.items):
            buffer.wait()
            try:
                return buffer.take()
            except IndexError:  # another thread was faster
                continue
        raise self._end(StopIteration())

    def close(self) -> None:
        """Dispose the subscription. What has arrived can still be read, then the iteration ends."""
        self._buffer.close()

    def __enter__(self) -> Items[T]:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        with because_of(error):
            self.close()
