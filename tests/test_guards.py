"""Tickets, and guards made of any limiter."""

from __future__ import annotations

import asyncio

import pytest

from rxstream.errors import ConfigurationError
from rxstream.events import RateLimits
from rxstream.guards import Guard, ModelKey, Ticket, acquired
from rxstream.limiter import TokenBucket
from rxstream.operators import guard
from rxstream.sources._pump import pump
from rxstream.typing import Acquire
from tests.support.scripted import DONE, Recorder, Scripted
from tests.support.virtual_loop import settle, virtual_time

KEY = ModelKey("p", "m", "")


def test_two_tickets_are_never_the_same() -> None:
    assert Ticket(KEY) != Ticket(KEY)
    assert len({Ticket(KEY), Ticket(KEY)}) == 2


def test_all_who_listen_hear_of_limits() -> None:
    ticket, said = Ticket(KEY), RateLimits(tokens_remaining=3)
    heard: list[RateLimits] = []
    ticket.listen(heard.append)
    ticket.listen(heard.append)
    ticket.hear(said)
    assert ticket.rate_limits is said
    assert heard == [said, said]


@virtual_time
async def test_a_bucket_shared_by_streams_spreads_them() -> None:
    loop = asyncio.get_running_loop()
    two_a_second = acquired(TokenBucket(2, burst=1, clock=loop.time))
    recorders = [Recorder() for _ in range(4)]
    for recorder in recorders:
        source = pump(Scripted([DONE]).source()).pipe(guard(two_a_second))
        source.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed)
    await asyncio.sleep(10)
    assert [recorder.ended_at for recorder in recorders] == [0, 0.5, 1, 1.5]


@virtual_time
async def test_an_amount_may_depend_on_the_ticket() -> None:
    bucket = TokenBucket(10, burst=100, clock=asyncio.get_running_loop().time)
    tokens = acquired(bucket, amount=lambda ticket: ticket.tokens)
    ticket = Ticket(KEY, tokens=70)
    await tokens.enter(ticket)
    assert bucket.available == 30
    tokens.leave(ticket)
    assert bucket.available == 30, "a rate is used up by having begun"
    await tokens.enter(ticket)
    assert asyncio.get_running_loop().time() == 4


@virtual_time
async def test_who_is_cancelled_while_he_waits_for_a_bucket_has_taken_nothing() -> None:
    bucket = TokenBucket(1, burst=1, clock=asyncio.get_running_loop().time)
    bucket.try_acquire()
    subscription = pump(Scripted([DONE]).source()).pipe(guard(acquired(bucket))).subscribe()
    await settle()
    assert bucket.waiting == 1
    subscription.dispose()
    await settle()
    assert bucket.waiting == 0
    await asyncio.sleep(1)
    assert bucket.available == 1


@virtual_time
async def test_a_limiter_that_takes_no_amount_is_asked_for_each_unit() -> None:
    class Counting:
        asked = 0

        async def acquire(self) -> None:
            self.asked += 1

    limiter = Counting()
    three: Guard = acquired(limiter, amount=lambda _: 3)
    await three.enter(Ticket(KEY))
    assert limiter.asked == 3


def test_options() -> None:
    class Blocking:
        def acquire(self) -> None: ...

    with pytest.raises(ConfigurationError, match=r"limiter=.*must have a coroutine function acquire"):
        acquired(Blocking())  # type: ignore[arg-type]  # that is the test
    with pytest.raises(ConfigurationError, match=r"limiter=.*has to be released; use Bulkhead"):
        acquired(asyncio.Semaphore(3))
    with pytest.raises(ConfigurationError, match="amount=3"):
        acquired(TokenBucket(1), amount=3)  # type: ignore[arg-type]  # that is the test
    limiter: Acquire = TokenBucket(1)
    assert acquired(limiter)
