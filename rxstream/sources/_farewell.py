"""Telling a provider that an answer is not wanted any more, in a request that nobody waits for.

Rules of this module:

* It outlives the subscription, takes 5 seconds at most, and never fails.
* A loop that shuts down cancels all its tasks: then the request is made once more, within a second, before the clients are
  closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from rxstream.loop import call_on

__all__ = ["said", "say"]

_SECONDS: Final = 5.0
_AT_SHUTDOWN: Final = 1.0
_OVER: Final = "no time is left"
_running: set[asyncio.Task[None]] = set()
"""A loop holds its tasks weakly."""


def say(loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[object]]) -> None:
    """Make `call` on `loop`, in a task of its own. From any thread; nothing where the loop is closed."""

    def start() -> None:
        task = loop.create_task(_say(call))
        _running.add(task)
        task.add_done_callback(_running.discard)

    call_on(loop, start)


async def said() -> None:
    """Return when all of the running loop have been said, within a second."""
    loop = asyncio.get_running_loop()
    mine = [task for task in _running if task.get_loop() is loop]
    if mine:
        _, late = await asyncio.wait(mine, timeout=_AT_SHUTDOWN)
        for task in late:
            task.cancel(_OVER)
        if late:
            await asyncio.wait(late)


async def _say(call: Callable[[], Awaitable[object]]) -> None:
    with suppress(Exception):  # who could be told?
        try:
            async with asyncio.timeout(_SECONDS):
                await call()
        except asyncio.CancelledError as cancelled:
            if _OVER in cancelled.args:
                return
            async with asyncio.timeout(_AT_SHUTDOWN):
                await call()
