"""An asyncio loop in virtual time: where nothing is left to do but to wait, its clock jumps to the next timer.

Seconds cost nothing, and every time is exact. `virtual_time` runs a test so; `run_virtual` runs any coroutine.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from rxstream.loop import running_loop

__all__ = ["VirtualLoop", "run_virtual", "settle", "virtual_time"]

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE = 10.0
"""Real seconds that the loop waits for another thread when it has no timer; then it is stuck."""
_ROUNDS = 20


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while there is work, and jumps over every wait. It starts at 0."""

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
        """Go to the next timer; without one, stay."""
        if timers := self._timers():
            self._now = max(self._now, timers[0].when())

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - asyncio's
        """Wait for its threads without asyncio's limit, which in virtual time would be over at once."""
        await super().shutdown_default_executor()

    @property
    def timers(self) -> list[float]:
        """The times of the timers that are set and not cancelled, in order: what is forgotten shows here."""
        return sorted(timer.when() for timer in self._timers() if not timer.cancelled())

    def _timers(self) -> list[asyncio.TimerHandle]:
        return list(vars(self)["_scheduled"])


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


def run_virtual(main: Awaitable[T]) -> T:
    """Run `main` on a `VirtualLoop` of its own, from time 0, and give its result.

    Args:
        main: A coroutine.

    Raises:
        AssertionError: it left a task behind, or waited for what can never come; or a loop is running already.
        TypeError: `main` is no coroutine.

    Example:
        >>> import asyncio
        >>> async def main() -> float:
        ...     await asyncio.sleep(3600)
        ...     return asyncio.get_running_loop().time()
        >>> run_virtual(main())
        3600.0
    """
    __tracebackhide__ = True
    if not isinstance(main, Awaitable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a coroutine is needed, not {main!r}: call an `async def` function, and give what that gives")
    if running_loop() is not None:
        if isinstance(main, Coroutine):
            main.close()
        raise AssertionError("a loop is running here, and virtual time has one of its own: call it where none is")
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_alone(main))


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make of a coroutine function a test that runs on a `VirtualLoop` of its own.

    Args:
        test: The test. It fails, too, if it leaves a task behind or waits for what can never come.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        __tracebackhide__ = True
        run_virtual(test(*args, **kwargs))

    return run


async def _alone(main: Awaitable[T]) -> T:
    result = await main
    await settle()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        raise AssertionError(f"tasks are left behind: {left}")
    return result


async def settle() -> None:
    """Let everything happen that needs no time."""
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
