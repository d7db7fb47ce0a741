"""A chaos server in a process of its own, for a crowd of streams: it holds all answers after their first word until it is told.

What befalls an answer is told by the number in its prompt, so that both sides know it. Who asks with a number for the second
time is answered well.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Final

from rxstream.providers.compatible import Dialect
from rxstream.testing.chaos import ChaosServer, Fault, Faults, Script, Served, Signal

__all__ = [
    "BEFALLS",
    "DIALECTS",
    "FILES",
    "WORDS",
    "CrowdServer",
    "allow_files",
    "crowd_server",
    "fault_of",
    "place_of",
]

WORDS: Final = [f"word{number} " for number in range(10)]
DIALECTS: Final[dict[Dialect, str]] = {
    "openai-chat": "openai-chat",
    "anthropic": "anthropic",
    "openai-responses": "openai",
}
BEFALLS: Final = ("", "close", "end", "error", "cut_json", "reset", "", "429", "529", "refuse")
"""What befalls the streams, in turns; the first of them their text, the last of them all of it."""
FILES: Final = 8_192


def fault_of(number: int) -> str:
    """What befalls the stream of this number."""
    return BEFALLS[number % len(BEFALLS)]


def place_of(number: int) -> int:
    """After how many words."""
    return 2 + number % (len(WORDS) - 2)


class CrowdServer:
    """The address of the server, and the word on which it goes on."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.urls: dict[str, str] = pipe.recv()

    def go(self) -> None:
        self._pipe.send("go")

    def open_connections(self) -> int:
        self._pipe.send("open")
        count: int = self._pipe.recv()
        return count


@contextmanager
def crowd_server() -> Iterator[CrowdServer]:
    """The server."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield CrowdServer(ours)
    finally:
        ours.send("stop")
        process.join(20)
        process.close()
        ours.close()
        theirs.close()


def allow_files() -> bool:
    """Whether this process may have as many files open as a crowd needs; it is allowed what can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    return hard >= FILES


def _serve(pipe: Connection) -> None:
    allow_files()
    go = _Word()
    with ChaosServer(Script(*WORDS), faults=_Plan(go)) as server:
        pipe.send({dialect: server.base_url(dialect) for dialect in DIALECTS})
        while (word := pipe.recv()) != "stop":
            if word == "go":
                go.set()
            else:
                pipe.send(server.open_connections)


class _Word(Signal):
    """A signal that is waited for however long a crowd takes to come together."""

    async def wait_async(self) -> None:
        await asyncio.shield(asyncio.wrap_future(self._future))


class _Plan:
    def __init__(self, go: Signal) -> None:
        self._go = go
        self._seen: set[int] = set()

    def __call__(self, served: Served) -> Faults:
        found = re.search(r"stream (\d+)", json.dumps(served.json))
        assert found is not None
        number = int(found[1])
        if number in self._seen:
            return None
        self._seen.add(number)
        name = fault_of(number)
        if name in ("429", "529", "refuse"):
            return name
        wait = Fault("stall", content=1, until=self._go)
        return [wait, Fault(name, content=place_of(number))] if name else wait
