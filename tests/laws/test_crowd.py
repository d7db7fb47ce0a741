"""Two thousand streams at a time on one loop, over real sockets, with faults: each ends as it must, and nothing is left.

All of them have begun, and are open at the same moment, before the first of them may go on. Then some fail, some are paused for a
while, some are cancelled, and every third is asked again when it fails.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

import rxstream
from rxstream import errors
from rxstream.events import Event, TextDelta
from rxstream.operators import retry_stream
from rxstream.session import StreamSession
from rxstream.sources._clients import load
from rxstream.sources.sdk import close_clients
from tests.support.crowd import DIALECTS, WORDS, CrowdServer, allow_files, crowd_server, fault_of, place_of
from tests.support.leaks import needs_proc, sockets
from tests.support.live import Transport, no_task_left

PATIENCE: Final = 180.0
WAVE: Final = 250
"""How many come at a time: a busy server takes longer to accept more of them than an SDK waits for a connection."""
TEXT: Final = "".join(WORDS)
ERRORS: Final[dict[str, type[errors.StreamError]]] = {
    "close": errors.Disconnected,
    "end": errors.StreamIncomplete,
    "error": errors.StreamError,
    "cut_json": errors.StreamIncomplete,
    "reset": errors.Disconnected,
    "429": errors.RateLimited,
    "529": errors.Overloaded,
    "refuse": errors.ConnectError,
}
KIB_A_STREAM: Final = 100
"""What a stream may cost, its socket's buffers in our process and the SDK's objects counted; about twice what it does."""


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Member:
    """One of the crowd."""

    def __init__(self, number: int, server: CrowdServer, transport: Transport) -> None:
        self.number = number
        self.fault = fault_of(number)
        self.again = number % 3 == 0
        self.cancelled = number % 17 == 0
        self.paused = number % 10 == 6
        self.texts: list[str] = []
        self.ends: list[Exception | None] = []
        dialect = list(DIALECTS)[number % len(DIALECTS)]
        stream = rxstream.stream(
            f"{DIALECTS[dialect]}:crowd-1",
            f"stream {number}",
            base_url=server.urls[dialect],
            api_key="-",
            transport=transport,
            timeouts={"connect": PATIENCE, "first_event": PATIENCE, "first_output": PATIENCE, "idle": PATIENCE},
        )
        again = retry_stream(after_output="restart", delay=0, budget=None)
        self._stream = stream.pipe(again) if self.again else stream
        self.session: StreamSession

    def start(self) -> None:
        self.session = self._stream.start(self._on_next, self.ends.append, lambda: self.ends.append(None))

    def _on_next(self, event: Event) -> None:
        assert not self.ends
        if isinstance(event, TextDelta):
            self.texts.append(event.text)

    @property
    def holds_on(self) -> bool:
        """Whether it begins and then waits for the word, if only when it is asked again."""
        return self.fault not in ("429", "529", "refuse")

    def verify(self) -> None:
        assert len(self.ends) == 1
        [error] = self.ends
        text = self.session.partial.text
        if not self.again:
            assert "".join(self.texts) == text
        if self.cancelled and self.holds_on:
            assert isinstance(error, errors.Cancelled)
            assert text == WORDS[0]
        elif not self.fault or self.again:
            assert error is None
            assert text == TEXT
        else:
            assert isinstance(error, ERRORS[self.fault])
            assert error.partial is not None
            assert error.partial.text == text
            said = "".join(WORDS[: place_of(self.number)]) if self.holds_on else ""
            assert text == said if self.fault != "reset" else said.startswith(text)


@needs_proc
@pytest.mark.parametrize(("transport", "count"), [("httpx2", 500), ("aiohttp", 2000)])
async def test_a_crowd(transport: Transport, count: int) -> None:
    if not allow_files():
        pytest.skip("too few files may be open")
    load("openai")
    load("anthropic")
    with crowd_server() as server:
        await Crowd(server, transport, count).run()


def have_begun(members: list[Member]) -> bool:
    return all(member.texts or not member.holds_on for member in members)


class Crowd:
    """All of them."""

    def __init__(self, server: CrowdServer, transport: Transport, count: int) -> None:
        self._server = server
        self.members = [Member(number, server, transport) for number in range(count)]
        self._before = sockets()

    async def run(self) -> None:
        gc.collect()
        memory = resident()
        for first in range(0, len(self.members), WAVE):
            wave = self.members[first : first + WAVE]
            for member in wave:
                member.start()
            await self._come_to(partial(have_begun, wave))
        waiting = [member for member in self.members if member.holds_on]
        assert self._server.open_connections() >= len(waiting) > len(self.members) // 2
        self._assert_bounded(memory)
        await self._let_go()
        self._assert_bounded(memory)
        for member in self.members:
            try:
                member.verify()
            except AssertionError as error:
                error.add_note(f"stream {member.number}, {member.fault!r}, {member.session!r}, {member.ends!r}")
                raise
        await no_task_left()
        await close_clients()
        await self._come_to(lambda: sockets() == self._before)
        await self._come_to(lambda: not self._server.open_connections())

    def _assert_bounded(self, before: int) -> None:
        cost = (resident() - before) / len(self.members) / 1024
        assert cost < KIB_A_STREAM, f"{cost:.0f} KiB a stream"

    async def _let_go(self) -> None:
        paused = [member for member in self.members if member.paused]
        for member in paused:
            member.session.pause()
        for member in self.members:
            if member.cancelled and member.holds_on:
                member.session.cancel()
        counts = [len(member.texts) for member in paused]
        self._server.go()
        await self._come_to(lambda: all(member.ends for member in self.members if not member.paused))
        assert counts == [len(member.texts) for member in paused]
        for member in paused:
            member.session.resume()
        await self._come_to(lambda: all(member.ends for member in self.members))

    async def _come_to(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - what another process has counted
                await asyncio.sleep(0.02)
