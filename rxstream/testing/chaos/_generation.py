"""What the model is making: its events, ready one after the other at a rate, whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rxstream.testing.chaos._frames import Frame

__all__ = ["Generation"]


class Generation:
    """The making of one answer, begun when this is made, on the loop that runs.

    Args:
        frames: The events.
        rate: How many a second; None for all at once.
    """

    def __init__(self, frames: Sequence[Frame], rate: float | None) -> None:
        self.frames = list(frames)
        self._rate = rate
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._last: int | None = None
        self._stopped = asyncio.Event()

    @property
    def made(self) -> int:
        """How many events are ready."""
        if self._last is not None:
            return self._last
        if self._rate is None:
            return len(self.frames)
        return min(len(self.frames), int((self._loop.time() - self._began) * self._rate))

    @property
    def status(self) -> str:
        """How far it is, in OpenAI's words."""
        if self._last is not None:
            return "cancelled"
        return "completed" if self.made == len(self.frames) else "in_progress"

    def cancel(self) -> None:
        """Make no more; what is complete stays so."""
        if self._last is None and self.made < len(self.frames):
            self._last = self.made
            self._stopped.set()

    async def ready(self, number: int) -> bool:
        """Wait until so many events are ready; False if they never will be."""
        while self._last is None and self._rate is not None:
            wait = self._began + number / self._rate - self._loop.time()
            if wait <= 0:
                return True
            try:
                async with asyncio.timeout(wait):
                    await self._stopped.wait()
            except TimeoutError:
                return True
        return self._last is None or number <= self._last
