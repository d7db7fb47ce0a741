"""One request and its answer, as a script has them in hand.

Rules of this module:

* What is written is counted when the kernel has taken it.
* Keys show in no ``repr``: not those in headers, not one in the address.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from rxstream.testing.chaos._steps import (
    CLOSE,
    END,
    HALF_CLOSE,
    RESET,
    Ending,
    Head,
    Pause,
    Signal,
    Step,
    Tell,
    Wait,
    Wire,
)

__all__ = ["Exchange", "Headers", "Link", "Play", "Recorded"]

_TOGETHER: Final = 65536
"""Bytes that are given to the kernel at once."""
_SECRET: Final = ("authorization", "x-api-key", "api-key", "cookie", "proxy-authorization", "x-goog-api-key")
_KEY: Final = re.compile(r"([?&](?:key|api_key|api-key|token|access_token)=)[^&]*", re.IGNORECASE)


class Headers(dict[str, str]):
    """Headers by their names in lower case; their ``repr`` shows no key."""

    def __repr__(self) -> str:
        return repr({name: "…" if name in _SECRET else value for name, value in self.items()})


@dataclass
class Recorded:
    """One request, and how its answer went."""

    method: str
    path: str = field(repr=False)
    """With its query."""
    headers: Headers
    """Names in lower case."""
    body: bytes = field(repr=False)
    connection: int
    """Number of the TCP connection it came on, from 0."""
    came_at: float = field(default_factory=time.monotonic)
    """`time.monotonic` when it had been read."""
    written: int = 0
    """Bytes of the answer that the kernel took, heads and frames of chunks counted."""
    left_at: float | None = None
    """`time.monotonic` when the client was seen to leave before the answer's end, or on the idle connection after it."""
    left: Signal = field(default_factory=Signal, repr=False)

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)

    @property
    def address(self) -> str:
        """The path as it may be shown: a key in its query is left out."""
        return _KEY.sub(r"\1…", self.path)


class Link(Protocol):
    """The connection as an exchange needs it."""

    async def write(self, data: bytes) -> None:
        """Give bytes to the kernel; return when it has taken them."""
        ...

    def close(self) -> None:
        """FIN, both directions."""
        ...

    def reset(self) -> None:
        """RST."""
        ...

    def half_close(self) -> None:
        """FIN in our direction."""
        ...


class Exchange:
    """One request being answered: what an async script works with."""

    def __init__(self, request: Recorded, link: Link) -> None:
        self.request = request
        self._link = link
        self._chunked = False

    async def wire(self, data: bytes) -> None:
        """Send bytes as they are; returns when the kernel has taken them."""
        for at in range(0, len(data), _TOGETHER):
            piece = data[at : at + _TOGETHER]
            await self._link.write(piece)
            self.request.written += len(piece)

    async def head(self, head: Head | None = None) -> None:
        """The status line and the headers, by default those of an event stream."""
        head = head or Head()
        self._chunked = head.chunked
        lines = [f"HTTP/1.1 {head.status} Scripted"]
        if head.content_type is not None:
            lines.append(f"Content-Type: {head.content_type}")
        lines.append("Transfer-Encoding: chunked" if head.chunked else "Connection: close")
        lines += [f"{name}: {value}" for name, value in head.headers.items()]
        await self.wire("\r\n".join([*lines, "", ""]).encode())

    async def send(self, data: bytes) -> None:
        """A piece of the body: one HTTP chunk if the head said so; an empty one, which would be the end, is not sent."""
        if data:
            await self.wire(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """The body's proper end."""
        if self._chunked:
            await self.wire(b"0\r\n\r\n")
        else:
            self._link.close()

    def close(self) -> None:
        """FIN, both directions."""
        self._link.close()

    def reset(self) -> None:
        """RST."""
        self._link.reset()

    def half_close(self) -> None:
        """FIN in our direction."""
        self._link.half_close()

    async def hang(self) -> None:
        """Wait until the client leaves (which cancels the script)."""
        await asyncio.Event().wait()

    async def finish(self, ending: Ending) -> None:
        """End the answer in this way."""
        if ending is END:
            await self.end()
        elif ending is CLOSE:
            self.close()
        elif ending is RESET:
            self.reset()
        else:
            if ending is HALF_CLOSE:
                self.half_close()
            await self.hang()

    async def play(self, steps: Sequence[Step]) -> None:
        """The steps of a list, as they are: no head and no end are added."""
        for step in steps:
            match step:
                case bytes():
                    await self.send(step)
                case Head():
                    await self.head(step)
                case Wire():
                    await self.wire(step.data)
                case Wait():
                    await step.signal.wait_async()
                case Pause():
                    await asyncio.sleep(step.seconds)
                case Tell():
                    step.signal.set()
                case Ending():
                    await self.finish(step)


Play = Sequence[Step] | Callable[[Exchange], Awaitable[None]]
"""What is answered: a list of steps, or a function that is given the exchange."""
