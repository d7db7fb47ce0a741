"""Who waits in a queue that several loops and threads share: woken there, waiting here.

A queue of these is first come, first served: only its first may take what has become free, and does so himself, on his own
loop. So nothing is given to somebody who is just being cancelled, and whose loop was closed is passed over. Whose loop stands
still, for it may never run again, keeps his place, but holds up nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TypeVar

__all__ = ["PATIENCE", "Waiter", "first", "living", "wake_first"]

PATIENCE = 1.0
"""Seconds after which who waits behind others looks whether they are still alive."""


class Waiter:
    """Somebody in a queue, on his own loop.

    Args:
        amount: How much he wants.
    """

    __slots__ = ("_loop", "_woken", "amount")

    def __init__(self, amount: float = 1) -> None:
        self.amount = amount
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`, or when woken since the last time."""
        timer = self._loop.call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
            self._woken.clear()
        finally:
            timer.cancel()

    def wake(self) -> None:
        """Let `sleep` return, from any thread."""
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self._loop.call_soon_threadsafe(self._woken.set)

    @property
    def dead(self) -> bool:
        """Whether there is no loop any more to wake it on."""
        return self._loop.is_closed()

    @property
    def running(self) -> bool:
        """Whether its loop runs, so that it can take what has become free."""
        return self._loop.is_running()


W = TypeVar("W", bound=Waiter)


def living(waiters: deque[W]) -> deque[W]:
    """`waiters`, the first being alive."""
    while waiters and waiters[0].dead:
        waiters.popleft()
    return waiters


def first(waiters: deque[W]) -> W | None:
    """Whose turn it is: the first of `waiters` whose loop runs."""
    return next((waiter for waiter in living(waiters) if waiter.running), None)


def wake_first(waiters: deque[W]) -> None:
    """Let whose turn it is look; where no loop runs, the first, when his does."""
    if living(waiters):
        (first(waiters) or waiters[0]).wake()
