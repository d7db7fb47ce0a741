"""Requests and tokens a minute: what is taken, what is given back, and whom to believe; in exact time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rxstream.errors import BadRequest, ConfigurationError, Disconnected, Overloaded, RateLimited, StreamError
from rxstream.events import RateLimits, Started, UsageReported
from rxstream.guards import ModelKey, Outcome, Ticket
from rxstream.operators import guard
from rxstream.quota import RateLimiter
from rxstream.usage import Usage
from tests.support.knowing import Knowing
from tests.support.scripted import DONE, Recorder, Scripted
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

KEY = ModelKey("p", "m", "")
OTHER = ModelKey("p", "other", "")


def now() -> float:
    return asyncio.get_running_loop().time()


def limiter(**options: Any) -> RateLimiter:
    return RateLimiter(clock=asyncio.get_running_loop().time, **options)


async def send(mine: RateLimiter, tokens: int = 0, key: ModelKey = KEY) -> Ticket:
    """A request that is let in, and sent."""
    ticket = Ticket(key, tokens=tokens)
    await mine.enter(ticket)
    ticket.sent_at = now()
    return ticket


def end(
    mine: RateLimiter,
    ticket: Ticket,
    outcome: Outcome | Exception = "completed",
    *,
    usage: Usage | None = None,
) -> None:
    ticket.usage = usage
    if isinstance(outcome, Exception):
        ticket.outcome, ticket.error = "failed", outcome
    else:
        ticket.outcome = outcome
    mine.leave(ticket)


def used(total: int) -> Usage:
    return Usage(provenance="reported", total_tokens=total)


async def wait_of(mine: RateLimiter, tokens: int = 0, key: ModelKey = KEY) -> float:
    """Seconds that a request would wait now; it is not made."""
    before, ticket = now(), Ticket(key, tokens=tokens)
    await mine.enter(ticket)
    ticket.outcome = "cancelled"
    mine.leave(ticket)
    return now() - before


# --- our own account --------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_minutes_worth_may_come_at_once_and_then_as_the_minute_goes() -> None:
    mine, times = limiter(requests_per_minute=3), list[float]()
    for _ in range(6):
        await send(mine)
        times.append(now())
    assert times == pytest.approx([0, 0, 0, 20, 40, 60])


@virtual_time
async def test_tokens_are_taken_by_the_estimate() -> None:
    mine = limiter(tokens_per_minute=600)
    await send(mine, 500)
    assert await wait_of(mine, 100) == 0
    assert await wait_of(mine, 400) == pytest.approx(30)
    assert repr(mine) == "RateLimiter(None requests and 600 tokens a minute)"


@virtual_time
async def test_the_scarcer_of_both_is_waited_for() -> None:
    mine = limiter(requests_per_minute=2, tokens_per_minute=60)
    await send(mine, 50)
    assert await wait_of(mine, 20) == pytest.approx(10)
    mine = limiter(requests_per_minute=1, tokens_per_minute=60)
    await send(mine, 50)
    assert await wait_of(mine, 20) == pytest.approx(60)


@virtual_time
async def test_more_tokens_than_a_minute_has_are_given_when_it_is_full() -> None:
    mine = limiter(tokens_per_minute=60)
    await send(mine, 30)
    await send(mine, 120)
    assert now() == pytest.approx(30)
    assert await wait_of(mine, 30) == pytest.approx(90)


@virtual_time
async def test_each_model_has_a_quota_of_its_own() -> None:
    mine = limiter(requests_per_minute=1)
    await send(mine)
    await send(mine, key=OTHER)
    assert now() == 0
    waits = asyncio.create_task(send(mine))
    await settle()
    assert [mine.waiting(key) for key in (KEY, OTHER, ModelKey("", "", ""))] == [1, 0, 0]
    with pytest.raises(ConfigurationError, match="key='openai:m': must be a ModelKey"):
        mine.waiting("openai:m")  # type: ignore[arg-type]  # nobody would wait for it, ever
    await waits
    assert now() == pytest.approx(60)


@pytest.mark.parametrize(
    ("usage", "left"),
    [
        (used(100), 500),  # the rest is given back
        (used(0), 600),
        (used(900), -300),  # and what was used besides is owed
        (Usage(provenance="reported", input_tokens=30, output_tokens=70), 500),
        (Usage(provenance="reported", output_tokens=70), 200),  # not known: the estimate stands
        (Usage(provenance="partial", total_tokens=100), 200),  # cut: there may be more
        (Usage(provenance="partial", total_tokens=500), 100),
        (None, 200),
        (used(-50), 600),  # nobody gets more than he had
    ],
)
@virtual_time
async def test_at_the_end_it_is_what_was_really_used(usage: Usage | None, left: float) -> None:
    mine = limiter(tokens_per_minute=600)
    ticket = await send(mine, 400)
    end(mine, ticket, usage=usage)
    assert await wait_of(mine, 600) == pytest.approx((600 - left) / 10)


@virtual_time
async def test_without_an_estimate_what_was_used_is_owed_and_waited_for() -> None:
    mine = limiter(tokens_per_minute=600)
    end(mine, await send(mine), usage=used(700))
    assert await wait_of(mine) == pytest.approx(10.1)


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (BadRequest("no", status=400), 600),
        (Overloaded("no", status=529), 600),
        (Overloaded("in the stream"), 200),
        (Disconnected("cut"), 200),
        (ZeroDivisionError("no"), 200),
    ],
)
@virtual_time
async def test_what_the_provider_refused_has_used_no_tokens(error: Exception, left: float) -> None:
    mine = limiter(requests_per_minute=600, tokens_per_minute=600)
    end(mine, await send(mine, 400), error)
    assert await wait_of(mine, 600) == pytest.approx((600 - left) / 10)


@virtual_time
async def test_a_refused_request_counts_as_one_and_one_that_was_never_sent_does_not() -> None:
    mine = limiter(requests_per_minute=2, tokens_per_minute=600)
    end(mine, await send(mine, 600), BadRequest("no", status=400))
    unsent = Ticket(KEY, tokens=600)
    await mine.enter(unsent)
    end(mine, unsent, RateLimited("another guard's", retry_after=50))
    assert await wait_of(mine, 600) == 0
    await send(mine)
    assert await wait_of(mine) == pytest.approx(30)


# --- waiting ----------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_who_comes_first_goes_first_however_little_the_next_wants() -> None:
    mine, order = limiter(tokens_per_minute=60), list[tuple[int, float]]()

    async def one(tokens: int) -> None:
        await send(mine, tokens)
        order.append((tokens, now()))

    await send(mine, 60)
    await asyncio.gather(one(30), one(1), one(20))
    assert [tokens for tokens, _ in order] == [30, 1, 20]
    assert [at for _, at in order] == pytest.approx([30, 31, 51])


@virtual_time
async def test_nobody_overtakes_who_has_just_been_called() -> None:
    mine, order = limiter(tokens_per_minute=60), list[str]()
    first = await send(mine, 60)

    async def one(name: str) -> None:
        await send(mine, 10)
        order.append(name)

    waits = asyncio.create_task(one("waits"))
    await settle()
    end(mine, first, usage=used(0))
    late = one("late")
    assert late.send(None) is not None, "there is enough for both, but it is not his turn"
    late.close()
    await waits
    assert order == ["waits"]


@virtual_time
async def test_what_is_given_back_wakes_who_waits() -> None:
    mine = limiter(tokens_per_minute=60)
    first = await send(mine, 60)
    waits = asyncio.create_task(send(mine, 50))
    await asyncio.sleep(3)
    end(mine, first, usage=used(5))
    await settle()
    assert waits.done()
    assert now() == 3


@virtual_time
async def test_who_is_cancelled_while_he_waits_has_taken_nothing_and_the_next_move_up() -> None:
    mine = limiter(requests_per_minute=1, tokens_per_minute=60)
    await send(mine, 60)
    big, small = (asyncio.create_task(send(mine, tokens)) for tokens in (60, 1))
    await asyncio.sleep(30)
    big.cancel()
    await small
    assert now() == pytest.approx(60)
    assert mine.waiting(KEY) == 0


@virtual_time
async def test_who_would_wait_too_long_is_refused_at_once() -> None:
    mine = limiter(tokens_per_minute=60, max_wait=20)
    await send(mine, 60)
    with pytest.raises(RateLimited, match="our own limit for p:m: there is room in 30 s") as caught:
        await send(mine, 30)
    assert caught.value.retry_after == pytest.approx(30)
    assert (now(), caught.value.retryable) == (0, True)
    waits = asyncio.create_task(send(mine, 15))
    await settle()
    with pytest.raises(RateLimited) as caught:
        await send(mine, 10)
    assert caught.value.retry_after == pytest.approx(25), "after who waits already"
    await waits
    assert now() == pytest.approx(15)


@virtual_time
async def test_who_waits_longer_than_it_seemed_is_refused_when_his_time_is_over() -> None:
    mine = limiter(tokens_per_minute=60, max_wait=20)
    first = await send(mine, 60)
    waits = asyncio.create_task(send(mine, 15))
    behind = asyncio.create_task(send(mine, 1))
    await asyncio.sleep(1)
    end(mine, first, usage=used(120))
    for task, wait in ((waits, 55), (behind, 41)):
        with pytest.raises(RateLimited) as caught:
            await task
        assert now() == 20
        assert caught.value.retry_after == pytest.approx(wait)
    assert mine.waiting(KEY) == 0


def test_on_several_loops_no_more_are_sent_than_are_allowed() -> None:
    mine, sent, start = RateLimiter(requests_per_minute=40, max_wait=0), list[Ticket](), threading.Barrier(4)

    async def many() -> None:
        start.wait()
        for _ in range(20):
            ticket = Ticket(KEY)
            try:
                await mine.enter(ticket)
            except RateLimited:
                continue
            sent.append(ticket)

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert 40 <= len(sent) <= 45, "the bucket fills a little while the threads run"


# --- the provider's account -------------------------------------------------------------------------------------------------


def says(**said: Any) -> RateLimits:
    return RateLimits(**said)


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        (says(requests_limit=60, requests_remaining=0, requests_reset=30), 0.5),
        (says(requests_limit=60, requests_remaining=0), 1),  # the period is a minute, mostly
        (says(requests_limit=60, requests_remaining=0, requests_reset=0), 1),  # a wrong clock's
        (says(requests_remaining=0, requests_reset=30), 30),  # how much it gives is not known
        (says(requests_remaining=0), 60),
        (says(requests_limit=60, requests_remaining=1, requests_reset=30), 0),
        (says(requests_limit=60, requests_reset=30), 0),
        (says(tokens_limit=1000, tokens_remaining=0, tokens_reset=10), 5),
        (says(tokens_limit=1000, tokens_remaining=400, tokens_reset=6), 1),
        (says(tokens_limit=400, tokens_remaining=0, tokens_reset=20), 20),  # all that there is
        (says(tokens_remaining=0, tokens_reset=7), 7),
        (says(requests_limit=1, requests_remaining=0, requests_reset=1e300), 86_400),  # more than a day is garbage
        (says(requests_remaining=0, requests_reset=1e300), 86_400),
        (says(tokens_limit=10**308, tokens_remaining=10**308 - 10**292, tokens_reset=1e300), 0),
        (says(), 0),
    ],
)
@virtual_time
async def test_what_the_provider_says_it_has_left_is_believed(said: RateLimits, wait: float) -> None:
    """Also without a number of our own. The wait is that of a request with 500 tokens."""
    for mine in (limiter(), limiter(requests_per_minute=1e6, tokens_per_minute=1e6)):
        ticket = await send(mine, 10)
        ticket.hear(said)
        assert await wait_of(mine, 500) == pytest.approx(wait)


@virtual_time
async def test_what_it_says_last_counts_and_ours_where_it_is_less() -> None:
    mine = limiter(requests_per_minute=2)
    ticket = await send(mine)
    ticket.hear(says(requests_limit=100, requests_remaining=0, requests_reset=1000))
    ticket.hear(says(requests_limit=100, requests_remaining=99, requests_reset=1))
    await send(mine)
    assert now() == 0
    assert await wait_of(mine) == pytest.approx(30)


@virtual_time
async def test_what_is_on_its_way_is_taken_off() -> None:
    """The provider has not seen it when it says what is left."""
    mine = limiter()
    first, second, third = await send(mine, 10), await send(mine, 300), await send(mine, 400)
    end(mine, third, "cancelled")
    first.hear(says(tokens_limit=600, tokens_remaining=590, tokens_reset=1))
    assert await wait_of(mine, 290) == 0
    assert await wait_of(mine, 300) > 0
    second.hear(says(tokens_limit=600, tokens_remaining=290, tokens_reset=31))
    assert await wait_of(mine, 290) == 0


@virtual_time
async def test_of_one_that_does_not_say_how_much_it_gives_nothing_is_known_for_later() -> None:
    mine = limiter()
    ticket = await send(mine)
    ticket.hear(says(tokens_remaining=3, tokens_reset=10))
    await send(mine, 5000)
    await send(mine, 5000)
    assert now() == pytest.approx(10), "a debt to an account of which nothing is known is none"


@virtual_time
async def test_what_the_provider_says_wakes_who_waits() -> None:
    mine = limiter()
    first = await send(mine)
    first.hear(says(requests_limit=1, requests_remaining=0, requests_reset=50))
    waits = asyncio.create_task(send(mine))
    await asyncio.sleep(3)
    first.hear(says(requests_limit=1, requests_remaining=1))
    await settle()
    assert waits.done()


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (RateLimited("no", retry_after=7), 7),
        (Overloaded("no", retry_after=7), 7),
        (RateLimited("no", retry_after=1e9), 120),
        (RateLimited("no"), 0),
        (ZeroDivisionError("no"), 0),
    ],
)
@virtual_time
async def test_nobody_asks_before_the_provider_wants_to_be_asked(error: Exception, wait: float) -> None:
    mine = limiter()
    end(mine, await send(mine), error)
    assert await wait_of(mine, key=OTHER) == 0
    assert await wait_of(mine) == pytest.approx(wait)


@virtual_time
async def test_a_shorter_wait_does_not_end_a_longer_one() -> None:
    mine = limiter()
    first, second = await send(mine), await send(mine)
    end(mine, first, RateLimited("no", retry_after=9))
    end(mine, second, RateLimited("no", retry_after=1))
    assert await wait_of(mine) == pytest.approx(9)


# --- streams ----------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_streams_share_it_and_set_it_right() -> None:
    """An estimate of 100 tokens each, of which 10 are used."""
    mine, recorders = limiter(tokens_per_minute=120), [Recorder() for _ in range(3)]
    reported = UsageReported(usage=used(10))
    for recorder in recorders:
        source = Knowing(Scripted([1, "Hello", reported, DONE])).stream().pipe(guard(mine))
        source.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed)
    await asyncio.sleep(10)
    assert [recorder.ended_at for recorder in recorders] == [1, 2, 3]


@virtual_time
async def test_a_stream_follows_what_the_one_before_was_told() -> None:
    mine, recorders = limiter(), [Recorder() for _ in range(2)]
    said = says(requests_limit=10, requests_remaining=0, requests_reset=50)
    for recorder in recorders:
        source = Knowing(Scripted([1, Started(rate_limits=said), "Hello", DONE])).stream().pipe(guard(mine))
        source.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed)
        await asyncio.sleep(2)
    await asyncio.sleep(20)
    assert [recorder.ended_at for recorder in recorders] == [1, 7]


# --- laws -------------------------------------------------------------------------------------------------------------------


@settings(max_examples=settings().max_examples // 2)
@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 90)), max_size=6), st.integers(1, 5))
def test_no_span_of_time_has_more_than_the_minutes_rate_and_one_minutes_worth(
    asked: list[tuple[float, int]], requests: int
) -> None:
    async def main() -> list[tuple[float, int]]:
        mine, sent = limiter(requests_per_minute=requests, tokens_per_minute=60), list[tuple[float, int]]()

        async def one(tokens: int) -> None:
            await send(mine, tokens)
            sent.append((now(), max(1, tokens)))

        async with asyncio.TaskGroup() as group:
            for later, tokens in asked:
                await asyncio.sleep(later)
                group.create_task(one(tokens))
        return sent

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        sent = runner.run(main())
    assert [tokens for _, tokens in sent] == [max(1, tokens) for _, tokens in asked], "in order, and all of them"
    for first, (start, _) in enumerate(sent):
        total = 0
        for count, (at, tokens) in enumerate(sent[first:], 1):
            assert count <= requests + (at - start) * requests / 60 + 1e-3
            assert total <= 60 + (at - start) + 1e-3, "who asks for more than there ever is, is the last for a while"
            total += tokens


class Account(RuleBasedStateMachine):
    """Our own account, against plain arithmetic; nobody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.mine = RateLimiter(requests_per_minute=6, tokens_per_minute=60, max_wait=0, clock=lambda: self.time)
        self.requests, self.tokens = 6.0, 60.0
        self.running: list[Ticket] = []
        self.closed_until = 0.0

    @rule(seconds=st.sampled_from([0.0, 1.0, 7.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.time += seconds
        self.requests = min(6.0, self.requests + seconds / 10)
        self.tokens = min(60.0, self.tokens + seconds)

    @rule(tokens=st.integers(0, 80))
    def ask(self, tokens: int) -> None:
        ticket, needed = Ticket(KEY, tokens=tokens), max(1, tokens)
        lacking = max((1 - self.requests) * 10, min(needed, 60) - self.tokens, self.closed_until - self.time)
        if lacking > 1e-5:
            with pytest.raises(RateLimited) as caught:
                self.mine.enter(ticket).send(None)
            assert caught.value.retry_after == pytest.approx(lacking)
            return
        with pytest.raises(StopIteration):
            self.mine.enter(ticket).send(None)
        self.requests -= 1
        self.tokens -= needed
        ticket.sent_at = self.time
        self.running.append(ticket)

    @precondition(lambda self: self.running)
    @rule(
        pick=st.integers(0, 9),
        usage=st.none() | st.integers(0, 100).map(used),
        error=st.sampled_from([None, Disconnected("cut"), RateLimited("no", status=429, retry_after=5)]),
    )
    def end(self, pick: int, usage: Usage | None, error: StreamError | None) -> None:
        ticket = self.running.pop(pick % len(self.running))
        needed, real = max(1, ticket.tokens), None if usage is None else usage.total_tokens
        end(self.mine, ticket, error or "completed", usage=usage)
        if error is not None and error.status is not None:
            real, self.closed_until = 0, max(self.closed_until, self.time + 5)
        if real is not None:
            self.tokens = min(60.0, self.tokens + needed - real)

    @precondition(lambda self: self.running)
    @rule()
    def never_sent(self) -> None:
        ticket = self.running.pop()
        ticket.sent_at = None
        end(self.mine, ticket, "cancelled")
        self.requests = min(6.0, self.requests + 1)
        self.tokens = min(60.0, self.tokens + max(1, ticket.tokens))

    @invariant()
    def nobody_waits(self) -> None:
        assert self.mine.waiting(KEY) == 0


TestAccount = Account.TestCase
TestAccount.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=30)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"tokens_per_minute": -1}, "tokens_per_minute"),
        ({"max_wait": -1}, "max_wait"),
        ({"clock": 3}, "clock"),
    ],
)
def test_options(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        RateLimiter(**options)
