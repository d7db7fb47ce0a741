"""What can be certified, and how it is run, told to stop, and left behind if it hangs; here, what is a function.

An async function runs on an event loop in a thread of its own, every other function in a thread for each question, a command
(`rxstream.testing.certify._command`) as a process. So nothing that a client does can keep the certifier waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol

from rxstream.testing.certify._client import Question, Told

__all__ = ["FunctionTarget", "Run", "Target"]

_GRACE: Final = 1.0
"""Seconds for what is left behind to end."""


class Run(Protocol):
    """A client at work on one question."""

    early: bool
    """Whether it can be told to stop while it waits; otherwise it stops by itself when it has told enough."""

    def stop(self) -> None:
        """Tell it to stop."""
        ...

    def abandon(self) -> None:
        """End it, by force if need be."""
        ...


class Target(Protocol):
    """A client."""

    name: str

    def start(self, question: Question, told: Told) -> Run:
        """Ask it."""
        ...

    def close(self) -> None:
        """No more questions."""
        ...


class FunctionTarget:
    """A Python callable.

    Args:
        function: Takes a `Question`; a generator function, an async one, or one that gives an iterator.
        name: What to call it.
        last: Awaited on the clients' event loop when no more will be asked.
    """

    def __init__(
        self,
        function: Callable[[Question], Any],
        *,
        name: str = "",
        last: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self.name = name or getattr(function, "__qualname__", repr(function))
        self._function = function
        self._asynchronous = any(
            inspect.isasyncgenfunction(called) or inspect.iscoroutinefunction(called)
            for called in (function, getattr(function, "__call__", None))  # noqa: B004 - its code is wanted
        )
        self._last = last
        self._loop: _LoopThread | None = None

    def start(self, question: Question, told: Told) -> Run:
        """Ask it."""
        if not self._asynchronous:
            return _ThreadRun(self._function, question, told)
        if self._loop is None or self._loop.stuck:
            self._loop = _LoopThread()
        return _TaskRun(self._function, question, told, self._loop)

    def close(self) -> None:
        """Await what was to be done last, and end the loop."""
        if self._loop is not None:
            self._loop.close(self._last)


class _LoopThread:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.stuck = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="certified-client", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(function)

    def start(self, work: Coroutine[Any, Any, None], made: Callable[[asyncio.Task[None]], None]) -> None:
        self.call(lambda: made(self._loop.create_task(work)))

    def close(self, last: Callable[[], Awaitable[object]] | None) -> None:
        async def finish() -> None:
            with contextlib.suppress(Exception):
                if last is not None:
                    await last()
                await self._loop.shutdown_asyncgens()
            self._loop.stop()

        if not self.stuck:
            asyncio.run_coroutine_threadsafe(finish(), self._loop)
            self._thread.join(_GRACE)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()


class _TaskRun:
    """An async function, in a task: told to stop, it is cancelled."""

    early = True

    def __init__(
        self, function: Callable[[Question], Any], question: Question, told: Told, thread: _LoopThread
    ) -> None:
        self._told = told
        self._thread = thread
        self._task: asyncio.Task[None] | None = None
        thread.start(self._consume(function, question), self._made)

    def stop(self) -> None:
        self._told.stop()
        self._thread.call(self._cancel)

    def abandon(self) -> None:
        self._thread.call(self._cancel)
        if not self._told.over.wait(_GRACE):
            self._thread.stuck = True

    def _made(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _consume(self, function: Callable[[Question], Any], question: Question) -> None:
        told = self._told
        try:
            given = function(question)
            await _each(await given if inspect.isawaitable(given) else given, told)
        except BaseException as error:  # noqa: BLE001 - also its cancellation: how it ended is what we want to know
            told.fail(error)
        finally:
            told.over.set()


async def _each(items: AsyncIterator[Any], told: Told) -> None:
    if not hasattr(items, "__aiter__"):
        told.misuse = f"it gave {items!r:.80}, which is no async iterator"
        return
    iterator = aiter(items)
    try:
        async for piece in iterator:
            told.add(piece)
    finally:
        if (close := getattr(iterator, "aclose", None)) is not None:
            await close()


class _ThreadRun:
    """Any other function, in a thread: it can be stopped where it has just given something."""

    early = False

    def __init__(self, function: Callable[[Question], Any], question: Question, told: Told) -> None:
        self._told = told
        self._enough = threading.Event()
        threading.Thread(target=self._consume, args=(function, question), name="certified-client", daemon=True).start()

    def stop(self) -> None:
        self._enough.set()

    def abandon(self) -> None:
        self._enough.set()  # if it waits, it ends with its connection, which the server closes

    def _consume(self, function: Callable[[Question], Any], question: Question) -> None:
        told = self._told
        try:
            given = function(question)
            if not hasattr(given, "__iter__"):
                told.misuse = f"it gave {given!r:.80}, which is no iterator; an async one is given by an async function"
                return
            iterator = iter(given)
            try:
                for piece in iterator:
                    told.add(piece)
                    if self._enough.is_set() or told.reached.is_set():
                        told.stop()
                        break
            finally:
                if (close := getattr(iterator, "close", None)) is not None:
                    close()
        except BaseException as error:  # noqa: BLE001 - how it ended is what we want to know
            told.fail(error)
        finally:
            told.over.set()
