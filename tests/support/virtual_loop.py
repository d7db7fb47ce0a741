"""An asyncio loop in virtual time: where nothing is left to do but to wait, its clock jumps to the next timer.

``@virtual_time`` on a test that is a coroutine function runs it on such a loop, from time 0; seconds cost nothing and
every time is exact. It also fails a test that leaves a task behind, or that waits for what can never come.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

__all__ = ["VirtualLoop", "settle", "virtual_time"]

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE = 10.0
"""Real seconds that the loop waits for another thread when it has no timer; then it is stuck."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while there is work, and jumps over every wait."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass while code runs, as a slow handler does."""
        self._now += seconds

    def jump(self) -> None:
        """To the next timer."""
        timers: list[asyncio.TimerHandle] = vars(self)["_scheduled"]
        self._now = max(self._now, timers[0].when())


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(_PATIENCE if timeout is None else 0)
        if not ready and timeout is None:
            raise AssertionError("the loop waits for what can never come: no timer is set and no thread has called")
        if not ready and timeout:
            self._loop.jump()
        return ready


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run the test on a `VirtualLoop` of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(_alone(test(*args, **kwargs)))

    return run


async def _alone(test: Awaitable[None]) -> None:
    await test
    await settle()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks are left behind: {left}"


async def settle() -> None:
    """Let everything happen that needs no time."""
    for _ in range(20):
        await asyncio.sleep(0)
