"""One thread for other people's code that blocks.

All calls of a worker run in the same thread, as generators and C libraries expect, one after another, in the context of
its maker. The thread is a daemon: a call that never returns keeps neither the loop nor the interpreter from ending.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from rxstream.errors import plain_error

__all__ = ["Worker"]

T = TypeVar("T")


class Worker:
    """A thread that begins with the first call and ends with `close`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._context = contextvars.copy_context()
        self._last: Future[Any] | None = None
        self.thread: int | None = None
        """The thread's identity, once it runs."""

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` gives or raises. A caller that is cancelled goes at once; a call that has begun runs on."""
        return await asyncio.wrap_future(self._submit(call))

    async def close(self, last: Callable[[], object]) -> None:
        """Run `last`, then end the thread. Does not wait for it where a call is still at work that nobody waits for."""
        if self._last is None:
            return
        busy = self._last.running()
        closing = self._submit(last)
        self._calls.put(None)
        if not busy:
            await asyncio.shield(asyncio.wrap_future(closing))

    def end(self) -> None:
        """End the thread after the calls that it has been given. Waits for nothing."""
        if self._last is not None:
            self._calls.put(None)

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        if self._last is None:
            threading.Thread(target=self._context.run, args=(self._work,), name=self._name, daemon=True).start()
        future: Future[T] = Future()
        self._last = future
        self._calls.put((future, call))
        return future

    def _work(self) -> None:
        self.thread = threading.get_ident()
        while (item := self._calls.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - told to who waits; SystemExit must not end the loop's thread
                future.set_exception(plain_error(error))
