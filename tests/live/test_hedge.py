"""Combinations on real sockets: who has lost is closed at once."""

from __future__ import annotations

import asyncio
import time

import pytest

from rxstream.events import Cancelled, Event, TextDelta
from rxstream.tracks import hedge, race
from tests.support.live import TRANSPORTS, Transport, no_task_left, stream_from, watch
from tests.support.server import HANG, Head, ScriptedServer, Signal, Step, Tell, Wait, chat

CLOSED_WITHIN = 0.05
"""Seconds from the first content of the winner to the moment at which the loser's server sees its client leave."""
TRIES = 5
"""On a busy machine one try proves nothing; that the best of some is quick does."""

each_transport = pytest.mark.parametrize("transport", TRANSPORTS)


@each_transport
async def test_the_loser_of_a_hedge_is_closed_at_once(transport: Transport) -> None:
    took: list[float] = []
    while not took or min(took) > CLOSED_WITHIN:
        assert len(took) < TRIES, f"the server saw the connection close after {took} s"
        decided: list[float] = []

        def note(event: Event, decided: list[float] = decided) -> None:
            if isinstance(event, TextDelta) and event.text:
                decided.append(time.monotonic())

        with ScriptedServer([Head(), HANG]) as slow, ScriptedServer(chat("Hel", "lo")) as quick:
            first = stream_from(slow, "compatible", transport=transport)
            spare = stream_from(quick, "compatible", transport=transport)
            outcome = await watch(hedge(first, spare, after=0.05), on_next=note)
            await slow.requests[0].left.wait_async()
            took.append(slow.wait_closed(since=decided[0]))
            await no_task_left()
        assert outcome.ends == [None]
        assert outcome.response.text == "Hello"
        assert (len(slow.requests), len(quick.requests)) == (1, 1)


@each_transport
async def test_a_spare_that_is_not_needed_is_not_asked(transport: Transport) -> None:
    with ScriptedServer(chat("Hel", "lo")) as quick, ScriptedServer([HANG]) as never:
        first = stream_from(quick, "compatible", transport=transport)
        outcome = await watch(hedge(first, stream_from(never, "compatible", transport=transport), after=20))
        assert outcome.response.text == "Hello"
        assert never.connections == 0
        await no_task_left()


@each_transport
async def test_the_first_may_win_while_the_spare_is_on_its_way(transport: Transport) -> None:
    asked = Signal()
    script: list[Step] = [Head(), Wait(asked), *chat("Hel", "lo")]
    with ScriptedServer(script) as slow, ScriptedServer([Head(), Tell(asked), HANG]) as spare:
        tracks = [stream_from(server, "compatible", transport=transport) for server in (slow, spare)]
        outcome = await watch(hedge(tracks[0], tracks[1], after=0.01))
        await spare.requests[0].left.wait_async()
        assert outcome.response.text == "Hello"
        await no_task_left()


@each_transport
async def test_all_losers_of_a_race_are_closed(transport: Transport) -> None:
    asked = [Signal() for _ in range(4)]
    losers = [ScriptedServer([Head(), Tell(signal), HANG]) for signal in asked]
    script: list[Step] = [Head(), *(Wait(signal) for signal in asked), *chat("Hel", "lo")]
    with ScriptedServer(script) as winner, losers[0], losers[1], losers[2], losers[3]:
        tracks = [stream_from(server, "compatible", transport=transport) for server in (*losers, winner)]
        outcome = await watch(race(*tracks))
        async with asyncio.timeout(10):
            for loser in losers:
                await loser.requests[0].left.wait_async()
        assert outcome.response.text == "Hello"
        assert sum(isinstance(event, Cancelled) for event in outcome.events) == 4
        assert outcome.response.attempts == 5
        await no_task_left()
