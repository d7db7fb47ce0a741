"""Guards before real requests: a server that fails is left in peace, and what its headers say is obeyed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from rxstream import Bulkhead, CircuitBreaker, RateLimiter
from rxstream.errors import CircuitOpen, Overloaded, RateLimited
from rxstream.events import RateLimits, Started
from rxstream.guards import ModelKey
from rxstream.operators import guard, retry_stream
from tests.support.asking import DIALECTS, GOOD, until
from tests.support.live import Transport, everywhere, no_task_left, stream_from, watch
from tests.support.server import HANG, Head, ScriptedServer, Step, page

LEFT = {"X-RateLimit-Limit-Requests": "60", "X-RateLimit-Remaining-Requests": "7", "X-RateLimit-Reset-Requests": "53s"}
OVERLOADED: Sequence[Step] = page(529, '{"type":"error","error":{"type":"overloaded_error","message":"full"}}')
each_dialect = pytest.mark.parametrize("name", DIALECTS)


def good(name: str, **headers: str) -> list[Step]:
    return [Head(headers=headers), *GOOD[name]("Hello")]


async def test_what_the_headers_say_is_told_with_started() -> None:
    async def check(name: str, transport: Transport) -> None:
        with ScriptedServer([Head(headers=LEFT), *GOOD[name]("Hello")]) as server:
            outcome = await watch(stream_from(server, name, transport=transport))
        outcome.assert_complete()
        told = [event.rate_limits for event in outcome.events if isinstance(event, Started)]
        assert told == [RateLimits(requests_limit=60, requests_remaining=7, requests_reset=53)]

    await everywhere(check)
    await no_task_left()


@each_dialect
async def test_a_server_that_fails_is_asked_no_more_until_the_one_probe_finds_it_well(name: str) -> None:
    clock = 0.0
    breaker = CircuitBreaker(at_least=3, open_for=30, clock=lambda: clock)
    with ScriptedServer(*[OVERLOADED] * 3, [*GOOD[name]("Hel", terminal=False), HANG], good(name)) as server:
        stream = stream_from(server, name).pipe(guard(breaker))
        for _ in range(3):
            assert isinstance((await watch(stream)).error, Overloaded)
        for _ in range(5):
            refused = (await watch(stream)).error
            assert isinstance(refused, CircuitOpen)
            assert (refused.provider, refused.model, refused.phase) == (name, "scripted-1", "request")
        assert len(server.requests) == 3
        [key] = breaker.states
        assert key == ModelKey(name, "scripted-1", server.url + DIALECTS[name])
        clock = 30.0
        probe = stream.start()
        await until(lambda: probe.statistics.events > 0)
        outcomes = await asyncio.gather(*(watch(stream) for _ in range(8)))
        assert all(isinstance(outcome.error, CircuitOpen) for outcome in outcomes)
        assert len(server.requests) == 4
        probe.cancel()
        await until(lambda: len(server.requests) == 4 and server.requests[-1].left.is_set)
        (await watch(stream)).assert_complete()
        assert (breaker.state(key), len(server.requests)) == ("closed", 5)
    await no_task_left()


async def test_each_attempt_is_asked_of_the_breaker() -> None:
    breaker = CircuitBreaker(at_least=2, of=2)
    with ScriptedServer(OVERLOADED) as server:
        outcome = await watch(
            stream_from(server, "anthropic").pipe(guard(breaker), retry_stream(attempts=3, delay=0.01, budget=None))
        )
        assert len(server.requests) == 2
    assert set(breaker.states.values()) == {"open"}
    assert isinstance(outcome.error, CircuitOpen)
    await no_task_left()


@each_dialect
async def test_limits_in_headers_are_followed(name: str) -> None:
    """None is left, and there is one every tenth of a second."""
    said = {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
    }
    with ScriptedServer(good(name, **said)) as server:
        stream, start = stream_from(server, name).pipe(guard(RateLimiter())), time.monotonic()
        for _ in range(3):
            (await watch(stream)).assert_complete()
    assert time.monotonic() - start >= 0.19


async def test_after_a_429_nobody_asks_before_its_time() -> None:
    refusal = page(429, '{"error":{"message":"slowly","type":"rate_limit"}}', retry_after="60")
    with ScriptedServer(refusal) as server:
        stream = stream_from(server, "compatible").pipe(guard(RateLimiter(max_wait=1)))
        assert (await watch(stream)).error.status == 429
        ours = (await watch(stream)).error
        assert isinstance(ours, RateLimited)
        assert ours.status is None
        assert 50 < (ours.retry_after or 0) <= 60
        assert len(server.requests) == 1


async def test_no_more_connections_are_open_than_the_bulkhead_has_places() -> None:
    bulkhead = Bulkhead(2)
    with ScriptedServer([*GOOD["compatible"]("Hel", terminal=False), HANG]) as server:
        stream = stream_from(server, "compatible").pipe(guard(bulkhead))
        sessions = [stream.start() for _ in range(5)]
        await until(lambda: len(server.requests) == 2)
        assert bulkhead.statistics == (2, 3, 0)
        sessions[0].cancel()
        await until(lambda: len(server.requests) == 3)
        for session in sessions:
            session.cancel()
        await no_task_left()
        assert bulkhead.statistics == (0, 0, 0)
