"""The steps that an answer is made of, and the `Signal` at which tests and answers meet."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = [
    "CLOSE",
    "END",
    "HALF_CLOSE",
    "HANG",
    "PATIENCE",
    "RESET",
    "Ending",
    "Head",
    "Pause",
    "Signal",
    "Step",
    "Tell",
    "Wait",
    "Wire",
]

PATIENCE: Final = 30.0
"""Seconds after which a wait for something that should happen at once has failed."""


class Signal:
    """Set once; waited for by threads and by coroutines of any loop."""

    def __init__(self) -> None:
        self._future: concurrent.futures.Future[None] = concurrent.futures.Future()

    def set(self) -> None:
        """Let everyone who waits go on. From any thread, any number of times."""
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            self._future.set_result(None)

    @property
    def is_set(self) -> bool:
        """Whether it was set."""
        return self._future.done()

    def wait(self, timeout: float = PATIENCE) -> None:
        """Block until it is set.

        Raises:
            TimeoutError: it was not, for `timeout` seconds.
        """
        self._future.result(timeout)

    async def wait_async(self) -> None:
        """As `wait`, for coroutines."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.shield(asyncio.wrap_future(self._future))


@dataclass(frozen=True)
class Head:
    """The status line and the headers; the body that follows is chunked, or ends with the connection."""

    status: int = 200
    content_type: str | None = "text/event-stream; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    chunked: bool = True


@dataclass(frozen=True)
class Wire:
    """Bytes put on the wire as they are, in no frame."""

    data: bytes


@dataclass(frozen=True)
class Wait:
    """Go on when the test sets the signal."""

    signal: Signal


@dataclass(frozen=True)
class Pause:
    """Go on after this time."""

    seconds: float


@dataclass(frozen=True)
class Tell:
    """Set the signal: all before it was given to the kernel."""

    signal: Signal


@dataclass(frozen=True)
class Ending:
    """How an answer ends."""

    name: str


END: Final = Ending("end")
"""The proper end of the body: the last chunk; the connection stays open for the next request."""
CLOSE: Final = Ending("close")
"""FIN without the last chunk: for a chunked body a cut, for one that ends with the connection a clean end."""
RESET: Final = Ending("reset")
"""RST."""
HALF_CLOSE: Final = Ending("half-close")
"""FIN in our direction; we go on reading until the client leaves."""
HANG: Final = Ending("hang")
"""Nothing more is sent, the connection stays open until the client leaves."""

Step = bytes | Head | Wire | Wait | Pause | Tell | Ending
