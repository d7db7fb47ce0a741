"""Waiting for what other threads, and code that knows no event, bring about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.support.steps import PATIENCE

__all__ = ["until"]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds; TimeoutError if it does not come to hold."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the condition is anything
            await asyncio.sleep(0)
