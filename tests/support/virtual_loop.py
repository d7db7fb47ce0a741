"""Virtual time, where most tests look for it."""

from __future__ import annotations

import asyncio

from rxstream.testing.virtual import VirtualLoop, settle, virtual_time

__all__ = ["VirtualLoop", "settle", "timers", "virtual_time"]


def timers() -> list[float]:
    """The times of the timers that are set on the running loop, which is a virtual one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.timers
