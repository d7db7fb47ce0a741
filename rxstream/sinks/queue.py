"""A handler that puts a stream's events into a queue, for somebody who takes them at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from typing import TYPE_CHECKING, Any, TypeAlias

from rxstream._check import show
from rxstream.errors import Cancelled, ConfigurationError
from rxstream.events import Event
from rxstream.sinks._hooks import set_hooks
from rxstream.sinks.handler import StreamHandler

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["QueueStreamHandler", "Queued"]

Queued: TypeAlias = "Event | Response | Exception"
"""What is put: every event; last the `Response`, or the error that ended the stream."""
_AGAIN = 0.001
"""Seconds until a full queue is tried again, at first; at most twenty times that."""


class QueueStreamHandler(StreamHandler):
    """Puts every event into `queue`, and last the `Response` or the error.

    If it is removed before the end, the last is `rxstream.errors.Cancelled`; unless the queue is full then. While it serves, a full
    queue is waited for; by default that holds nobody up but this handler (see ``slow`` of `HandlerPolicy`).

    Example:
        >>> import queue, rxstream
        >>> taken = queue.SimpleQueue()
        >>> _ = rxstream.from_iterable(["to ", "be"]).subscribe(rxstream.QueueStreamHandler(taken))
        >>> [type(taken.get(timeout=5)).__name__ for _ in range(5)]
        ['Started', 'TextDelta', 'TextDelta', 'Finished', 'Response']

    Args:
        queue: A ``queue.Queue`` or one of its kind, for another thread; or an ``asyncio.Queue``, of the loop that the stream
            runs on.

    Raises:
        ConfigurationError: it is no such queue.
    """

    def __init__(self, queue: Any) -> None:
        if not callable(getattr(queue, "put_nowait", None)):
            raise ConfigurationError(f"queue={show(queue)}: must be a queue.Queue, queue.SimpleQueue or asyncio.Queue")
        self._queue: Any = queue
        self._async = isinstance(queue, asyncio.Queue)
        bounded = getattr(queue, "maxsize", 0) > 0
        put = self._wait if bounded else queue.put_nowait
        set_hooks(self, dict.fromkeys(("on_event", "on_stream_complete", "on_stream_error"), put))

    def dismissed(self) -> None:
        """Put `rxstream.errors.Cancelled`, if there is room: whoever takes waits for an end."""
        with contextlib.suppress(queue.Full, asyncio.QueueFull):
            self._queue.put_nowait(Cancelled("its handler was removed, or the subscription disposed"))

    async def _wait(self, what: Queued) -> None:
        if self._async:
            await self._queue.put(what)
            return
        delay = _AGAIN
        while True:
            try:
                self._queue.put_nowait(what)
            except queue.Full:
                await asyncio.sleep(delay)
                delay = min(delay * 2, 20 * _AGAIN)
            else:
                return
