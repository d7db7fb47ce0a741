"""Priority: while a higher track flows, the lower one is not read any more, down to its server's socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest

from rxstream.events import Event
from rxstream.tracks import prioritize
from tests.support.asking import GOOD, until
from tests.support.live import TRANSPORTS, Transport, no_task_left, stream_from
from tests.support.server import Exchange, Recorded, ScriptedServer, Signal

READ_AHEAD: Final = 100_000
PIECE: Final = 300_000
"""A read may go over the limit by one piece, which is no larger than this."""


@pytest.fixture(autouse=True)
async def _nothing_goes_on() -> AsyncIterator[None]:
    yield
    await no_task_left()


async def stuck(request: Recorded) -> int:
    """Wait until the kernel has taken nothing of this answer for a tenth of a second; what it has taken in all."""
    before, quiet = -1, 0
    while quiet < 10:
        await asyncio.sleep(0.01)
        before, quiet = (before, quiet + 1) if before == request.written else (request.written, 0)
    return before


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_lower_track_is_slowed_at_its_socket(transport: Transport) -> None:
    """Two servers that never stop of themselves. The lower one's writes block once the buffers on the way are full."""
    speak, stop = Signal(), Signal()
    words, pages = GOOD["compatible"]("word "), GOOD["compatible"]("x" * 20_000, terminal=False)

    async def talk(exchange: Exchange) -> None:
        await exchange.head()
        await speak.wait_async()
        await exchange.send(words[0])
        while not stop.is_set:
            await exchange.send(words[1])
        for frame in words[2:]:
            await exchange.send(frame)
        await exchange.end()

    async def pour(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(pages[0])
        while True:
            await exchange.send(pages[1])

    counts = {"high": 0, "low": 0}

    def note(event: Event) -> None:
        counts[event.source] += 1

    with ScriptedServer(talk) as high, ScriptedServer(pour) as low:
        session = prioritize(
            stream_from(high, "compatible", transport=transport, label="high"),
            stream_from(
                low, "compatible", transport=transport, label="low", limits={"read_ahead_bytes": READ_AHEAD}
            ),
            strict=True,
            idle=30.0,
            max_wait=1000.0,
        ).start(note)  # fmt: skip

        await until(lambda: counts["low"] > 100)
        assert counts["high"] == 0, "the lower one has the time before the higher one's first word"

        speak.set()
        await until(lambda: counts["high"] > 10)
        heard = counts["low"]
        written = await stuck(low.requests[0])
        assert READ_AHEAD <= session.statistics.read_ahead <= READ_AHEAD + PIECE
        further = counts["high"] + 1000
        await until(lambda: counts["high"] > further)
        assert (counts["low"], low.requests[0].written) == (heard, written)

        stop.set()
        await until(lambda: counts["low"] > heard + 1000 and low.requests[0].written > written)
        session.cancel()
        await low.requests[0].left.wait_async()


async def test_a_higher_track_that_falls_silent_lets_the_lower_one_be_read() -> None:
    """And stops it again with its next word."""
    again = Signal()
    words, pages = GOOD["compatible"]("word ", terminal=False), GOOD["compatible"]("x" * 20_000, terminal=False)

    async def talk(exchange: Exchange) -> None:
        await exchange.head()
        for frame in words:
            await exchange.send(frame)
        await again.wait_async()
        await exchange.send(words[1])
        await exchange.hang()

    async def pour(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(pages[0])
        while True:
            await exchange.send(pages[1])

    heard: list[tuple[float, str]] = []
    now = asyncio.get_running_loop().time

    def times(name: str) -> list[float]:
        return [at for at, source in heard if source == name]

    with ScriptedServer(talk) as high, ScriptedServer(pour) as low:
        tracks = (stream_from(server, "compatible", label=name) for name, server in (("high", high), ("low", low)))
        idle = 0.05
        session = prioritize(*tracks, strict=True, idle=idle).start(lambda event: heard.append((now(), event.source)))
        await until(lambda: bool(times("high")) and len(times("low")) > 100)
        again.set()
        before = len(times("high"))
        await until(lambda: len(times("high")) > before)
        last = times("high")[-1]
        await until(lambda: times("low")[-1] > last)
        assert next(at for at in times("low") if at > last) >= last + idle
        session.cancel()
        await low.requests[0].left.wait_async()
        await high.requests[0].left.wait_async()
