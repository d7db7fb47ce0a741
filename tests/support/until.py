"""Waiting for what other threads, and code that knows no event, bring about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tests.support.steps import PATIENCE

__all__ = ["until"]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds, and look at it in every turn; TimeoutError if it does not come to hold."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)
            time.sleep(0)  # noqa: ASYNC251 - other threads, such as a server's, get the interpreter
