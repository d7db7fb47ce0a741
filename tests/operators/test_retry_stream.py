"""``retry_stream``: what is asked again, when, how often, and what its end says."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
import reactivex as rx

from rxstream import operators as rxo
from rxstream.budget import RetryBudget
from rxstream.errors import (
    BadRequest,
    BudgetExceeded,
    BulkheadFull,
    Cancelled,
    CircuitOpen,
    ConfigurationError,
    LimitExceeded,
    LoopShutDown,
    Overloaded,
    TimedOut,
)
from rxstream.events import (
    Event,
    Heartbeat,
    Retrying,
    Status,
)
from rxstream.usage import Usage
from tests.support.contests import Told, reported, started, watchers
from tests.support.retried import HELLO, Fickle, Model, busy, lost, retry, steps, story
from tests.support.scripted import DONE
from tests.support.virtual_loop import settle, virtual_time

# --- before the first content ---------------------------------------------------------------------------------------------


@virtual_time
async def test_a_failure_before_the_first_content_leaves_no_trace_in_the_text() -> None:
    source = Fickle(steps(started(), busy()), steps(busy()), steps(*HELLO))
    told = retry(source.stream)
    await asyncio.sleep(100)
    assert story(told) == [
        (2, "1.0 Retrying Overloaded 0.5 again"),
        (3.5, "2.0 Retrying Overloaded 1 again"),
        (6.5, "3.0 Started"),
        (6.5, "3.1 Hel"),
        (7.5, "3.2 lo"),
        (8.5, "3.3 Finished"),
    ]
    assert (source.asked_at, told.completed, source.running) == ([0, 2.5, 4.5], True, 0)
    assert (told.response.text, told.response.attempts) == ("Hello", 3)
    assert await watchers(told.gate) == 0


@virtual_time
async def test_what_comes_before_the_content_comes_with_it_in_order() -> None:
    source = Fickle(steps(started(), Status(status="queued"), Heartbeat(), "", "a", DONE))
    told = retry(source.stream)
    await asyncio.sleep(100)
    assert story(told) == [
        (5, "1.0 Started"),
        (5, "1.1 Status"),
        (5, "1.2 Heartbeat"),
        (5, "1.3 "),
        (5, "1.4 a"),
        (6, "1.5 Finished"),
    ]
    assert [event.at for event in told.items] == [1, 2, 3, 4, 5, 6]


@virtual_time
async def test_an_answer_without_content_comes_at_its_end() -> None:
    told = retry(Fickle(steps(started(), DONE)).stream)
    await asyncio.sleep(100)
    assert (story(told), told.completed) == ([(2, "1.0 Started"), (2, "1.1 Finished")], True)


@virtual_time
async def test_a_stream_that_does_not_fail_is_not_changed() -> None:
    source = Fickle(steps(*HELLO))
    plain, told = Told(source.stream), retry(source.stream)
    await asyncio.sleep(100)
    assert told.items == plain.items
    assert told.items[1] is not None
    assert told.completed


@virtual_time
async def test_with_one_attempt_a_failure_is_not_changed_either() -> None:
    for script in (steps(started(), Status(status="queued"), lost()), steps(*HELLO[:2], lost()), steps(busy())):
        source = Fickle(script)
        plain = Told(source.stream)
        told = retry(source.stream, attempts=1, when=lambda _: pytest.fail("it was asked for nothing"))
        await asyncio.sleep(100)
        assert told.items == plain.items
        assert told.failure.partial == plain.failure.partial
        assert (told.ended_at, str(told.error)) == (plain.ended_at, str(plain.error))


@virtual_time
async def test_what_an_attempt_used_before_its_content_is_counted() -> None:
    source = Fickle(steps(reported(0, input_tokens=9), busy()), steps("Hello", reported(2, input_tokens=9), DONE))
    told = retry(source.stream)
    await asyncio.sleep(100)
    assert story(told)[:2] == [(2, "1.0 Retrying Overloaded 0.5 again"), (2, "1.1 Usage 0 partial")]
    assert told.response.usage == Usage(provenance="partial", input_tokens=18, output_tokens=2)


@virtual_time
async def test_an_attempt_that_keeps_too_much_back_has_failed() -> None:
    many = (Status(status="queued"),) * 65_537
    told = retry(Fickle([many, "never"], steps("a", DONE)).stream, when=lambda error: isinstance(error, LimitExceeded))
    await asyncio.sleep(100)
    assert [text for _, text in story(told)] == ["1.0 Retrying LimitExceeded 0.5 again", "2.0 a", "2.1 Finished"]
    told = retry(Fickle([many[1:], "a", DONE]).stream)
    await asyncio.sleep(100)
    assert (len(told.items), told.completed) == (65_538, True)


# --- how long it waits ----------------------------------------------------------------------------------------------------


@virtual_time
async def test_the_delay_doubles_up_to_a_most() -> None:
    source = Fickle([busy()])
    told = retry(source.stream, attempts=7, delay=1, max_delay=5)
    await asyncio.sleep(100)
    assert source.asked_at == [0, 1, 3, 7, 12, 17, 22]
    assert told.failure.partial is not None
    assert told.failure.partial.attempts == 7


@virtual_time
async def test_by_default_the_delay_is_any_up_to_it() -> None:
    source = Fickle([busy()])
    told = Told(source.stream.pipe(rxo.retry_stream(attempts=500, delay=1, max_delay=1, budget=None)))
    await asyncio.sleep(1000)
    delays = [event.delay for event in told.items]
    assert all(0 <= delay <= 1 for delay in delays)
    assert 0.4 < sum(delays) / len(delays) < 0.6
    assert (min(delays) < 0.1, max(delays) > 0.9) == (True, True)
    assert [b - a for a, b in zip(source.asked_at, source.asked_at[1:], strict=False)] == pytest.approx(delays)


@virtual_time
async def test_what_the_provider_asks_for_is_waited_and_a_little_more() -> None:
    source = Fickle([busy(retry_after=30)], [busy(retry_after=0)], steps("a", DONE))
    retry(source.stream, delay=2)
    await asyncio.sleep(100)
    assert source.asked_at == [0, 32, 36]


@virtual_time
async def test_a_provider_that_asks_for_too_long_is_not_asked_again() -> None:
    told = retry(Fickle([busy(retry_after=120.1)]).stream)
    await settle()
    assert (told.items, type(told.error), told.ended_at) == ([], Overloaded, 0)
    assert told.failure.__notes__ == ["It was not retried: one is asked to wait 120.1 s, and max_retry_after is 120."]
    source = Fickle([busy(retry_after=120)], ["a", DONE])
    retry(source.stream)
    await asyncio.sleep(200)
    assert source.asked_at == [0, 120.5]


@virtual_time
async def test_no_request_is_made_in_a_pause() -> None:
    source = Fickle([busy()], ["a", DONE])
    told = retry(source.stream, delay=2)
    await asyncio.sleep(1)
    told.gate.hold("user")
    await asyncio.sleep(9)
    assert source.asked_at == [0]
    told.gate.release("user")
    await settle()
    assert (source.asked_at, told.completed) == ([0, 10], True)


@virtual_time
async def test_a_pause_does_not_make_the_delay_longer_or_shorter() -> None:
    source = Fickle([busy()], ["a", DONE])
    told = retry(source.stream, delay=8)
    for at in (1, 2, 3):
        await asyncio.sleep(at)
        told.gate.hold("user")
        told.gate.release("user")
    await asyncio.sleep(100)
    assert source.asked_at == [0, 8]


@virtual_time
async def test_a_handler_that_pauses_at_the_failure_does_not_hasten_the_next_request() -> None:
    source = Fickle([busy()], ["a", DONE])
    told = retry(source.stream, delay=8)

    def pause(event: Event) -> None:
        if isinstance(event, Retrying):
            told.gate.hold("user")
            told.gate.release("user")

    told.and_then = pause
    await asyncio.sleep(100)
    assert source.asked_at == [0, 8]


# --- which errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [BadRequest("no"), Cancelled("user"), BudgetExceeded("too dear"), ConfigurationError("wrong"), ValueError("a bug")],
)
@virtual_time
async def test_it_asks_again_only_where_that_may_help(error: Exception) -> None:
    told = retry(rx.throw(error))
    await asyncio.sleep(100)
    assert (told.items, told.error) == ([], error)


@pytest.mark.parametrize(
    ("error", "asked"), [(BadRequest("no"), True), (Cancelled(), False), (LoopShutDown(), False), (ValueError(), False)]
)
@virtual_time
async def test_when_decides_but_not_what_nobody_may_decide(error: Exception, asked: bool) -> None:
    seen: list[Exception] = []

    def when(error: Exception) -> bool:
        seen.append(error)
        return True

    told = retry(rx.throw(error), when=when, attempts=2)
    await asyncio.sleep(100)
    assert (bool(seen), len(told.items), told.error) == (asked, int(asked), error)


@virtual_time
async def test_what_when_raises_ends_the_stream() -> None:
    source = Fickle(["Hel", lost()])
    told = retry(source.stream, when=lambda error: 1 / 0, after_output="restart")
    await asyncio.sleep(100)
    assert (type(told.error), source.asked_at, source.running) == (ZeroDivisionError, [0], 0)


@virtual_time
async def test_what_jitter_raises_ends_the_stream() -> None:
    told = retry(Fickle([busy()]).stream, jitter=lambda most: 1 / 0)
    await asyncio.sleep(100)
    assert type(told.error) is ZeroDivisionError


@virtual_time
async def test_what_ends_it_says_what_it_began_with() -> None:
    told = retry(Fickle([lost()], [BadRequest("kept no longer")]).stream, delay=0)
    await asyncio.sleep(100)
    assert type(told.error) is BadRequest
    assert told.error.__notes__ == ["The request before it failed of Disconnected: lost"]


@pytest.mark.parametrize("after", [None, 3.0])
@pytest.mark.parametrize("delay", [math.nan, math.inf, -1.0, None, "1"])
@virtual_time
async def test_what_jitter_returns_is_a_time_that_can_be_waited(delay: Any, after: float | None) -> None:
    told = retry(Fickle([busy(after)]).stream, jitter=lambda most: delay)
    await asyncio.sleep(100)
    assert isinstance(told.error, ConfigurationError)
    assert str(told.error).startswith("jitter=")


@virtual_time
async def test_a_source_of_something_else_is_refused() -> None:
    told = retry(rx.of("text"))  # type: ignore[arg-type]
    await settle()
    assert isinstance(told.error, ConfigurationError)
    assert "gets a str" in str(told.error)


# --- the total clock ------------------------------------------------------------------------------------------------------


@virtual_time
async def test_the_total_clock_is_for_all_attempts() -> None:
    model = Model("Hel", "lo", DONE, faults=[(0, busy()), (1, lost())], total=5)
    told = retry(model.stream, after_output="restart")
    await asyncio.sleep(100)
    error = told.failure
    assert isinstance(error, TimedOut)
    assert (error.clock, error.seconds, told.ended_at) == ("total", 5, 5)
    assert (error.phase, error.provider, error.model) == ("connect", "scripted", "scripted-1")
    assert error.partial is not None
    assert (error.partial.text, told.texts) == ("Hel", ["Hel"])
    assert (model.closed, model.running) == (1, 0)


@pytest.mark.parametrize(("every", "phase", "text"), [(2.0, "output", "Hel"), (9.0, "connect", "")])
@virtual_time
async def test_it_runs_out_in_the_middle_of_an_attempt(every: float, phase: str, text: str) -> None:
    model = Model("Hel", "lo", DONE, total=3, every=every)
    told = retry(model.stream)
    await asyncio.sleep(100)
    assert told.failure.partial is not None
    assert (told.ended_at, told.failure.phase, told.failure.partial.text) == (3, phase, text)
    assert model.running == 0


@virtual_time
async def test_it_stands_still_in_a_pause() -> None:
    model = Model("Hel", "lo", DONE, total=5, every=2)
    told = retry(model.stream)
    await asyncio.sleep(3)
    told.gate.hold("user")
    await asyncio.sleep(50)
    told.gate.release("user")
    await asyncio.sleep(100)
    assert (type(told.error), told.ended_at) == (TimedOut, 55)
    assert await watchers(told.gate) == 0


@virtual_time
async def test_no_attempt_is_made_that_would_come_too_late() -> None:
    model = Model("Hel", DONE, faults=[(0, busy(retry_after=9))], total=10)
    told = retry(model.stream)
    await asyncio.sleep(100)
    assert (type(told.error), told.ended_at, told.items) == (Overloaded, 1, [])
    assert told.failure.__notes__ == ["It was not retried: a wait of 9.5 s is more than the clock 'total' has left."]
    model = Model("Hel", DONE, faults=[(1, busy(retry_after=900))], total=10)
    told = retry(model.stream)
    await asyncio.sleep(100)
    assert not hasattr(told.failure, "__notes__")  # it was the text that forbade it, not the time
    model = Model("Hel", DONE, faults=[(0, busy(retry_after=8))], total=10)
    told = retry(model.stream)
    await asyncio.sleep(100)
    assert (type(told.error), told.ended_at, len(model.asked)) == (TimedOut, 210, 2)


# --- budgets --------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_budget_that_is_used_up_ends_the_stream_with_the_error_that_it_had() -> None:
    budget = RetryBudget(0.1, reserve=1, clock=lambda: 0.0)
    told = retry(Fickle([busy()]).stream, budget=budget)
    await asyncio.sleep(100)
    assert (len(told.items), str(told.error)) == (1, "busy")
    assert told.failure.__notes__ == ["It was not retried: the retry budget is used up."]


@virtual_time
async def test_who_was_not_asked_costs_no_budget() -> None:
    budget = RetryBudget(0, reserve=1, clock=lambda: 0.0)
    told = retry(
        Fickle([CircuitOpen("open")], [BulkheadFull("full")], [busy()], HELLO).stream, budget=budget, attempts=4
    )
    await asyncio.sleep(100)
    assert (told.response.text, told.completed) == ("Hello", True)
    assert not budget.take()


@virtual_time
async def test_a_storm_is_bounded() -> None:
    budget = RetryBudget(0.1, reserve=10, clock=asyncio.get_running_loop().time)
    sources = [Fickle([0.5, busy()]) for _ in range(1000)]
    told = [retry(source.stream, budget=budget, attempts=5) for source in sources]
    await asyncio.sleep(60)
    assert all(isinstance(each.error, Overloaded) for each in told)
    requests = sum(len(source.asked_at) for source in sources)
    assert 1100 <= requests <= 1000 + 100 + 20


@virtual_time
async def test_streams_of_one_model_share_a_budget_and_those_of_another_have_their_own() -> None:
    def model(name: str) -> Model:
        return Model(DONE, faults=[(0, busy())] * 30, name=name)

    spent, other = model("spent"), model("other")
    for each in (spent, other):
        told = Told(each.stream.pipe(rxo.retry_stream(attempts=30, delay=0)))
        await asyncio.sleep(100)
        assert told.failure.__notes__ == ["It was not retried: the retry budget is used up."]
        assert len(each.asked) == 11
    again = model("spent")
    Told(again.stream.pipe(rxo.retry_stream(attempts=30, delay=0)))
    await asyncio.sleep(100)
    assert len(again.asked) == 1


# --- options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"after_output": "continue"},
        {"when": 5},
        {"delay": -1},
        {"delay": math.nan},
        {"max_delay": -1},
        {"max_retry_after": math.inf},
        {"budget": "none"},
        {"budget": 0.1},
        {"jitter": 0.5},
        {"max_buffered": 0},
    ],
)
def test_an_option_out_of_its_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        rxo.retry_stream(**options)
