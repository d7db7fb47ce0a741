"""``retry_stream``: whatever fails, and when, text comes once."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex.disposable import BooleanDisposable
from reactivex.subject import Subject

from rxstream import operators as rxo
from rxstream.aggregate import aggregate
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
    StreamIncomplete,
    TimedOut,
)
from rxstream.events import (
    Event,
    Finished,
    Heartbeat,
    Retrying,
    Started,
    Status,
    TextDelta,
    ThinkingDelta,
    ToolCallStart,
)
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.usage import Usage
from tests.support.contests import Told, reported, started, watchers
from tests.support.retried import Fickle, Model, busy, lost, most, steps, story
from tests.support.scripted import DONE
from tests.support.until import until
from tests.support.virtual_loop import settle, virtual_time

HELLO = (started(), "Hel", "lo", DONE)


def retry(source: Observable[Event], **options: Any) -> Told:
    """A subscriber of it, without jitter and without a budget where nothing else is said."""
    return Told(source.pipe(rxo.retry_stream(**{"jitter": most, "budget": None, **options})))


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


# --- after it: fail, restart, buffer --------------------------------------------------------------------------------------


@virtual_time
async def test_by_default_text_that_was_delivered_is_the_last() -> None:
    source = Fickle(steps(busy()), steps(started(), "Hel", reported(5), lost()))
    told = retry(source.stream)
    await asyncio.sleep(100)
    assert [text for _, text in story(told)] == [
        "1.0 Retrying Overloaded 0.5 again",
        "2.0 Started",
        "2.1 Hel",
        "2.2 Usage 5 reported",
    ]
    assert told.failure.partial == aggregate(told.items)
    assert (told.failure.partial.text, told.failure.partial.attempts) == ("Hel", 2)
    assert source.asked_at == [0, 1.5]


@virtual_time
async def test_restart_takes_back_what_was_said_once_there_is_something_in_its_place() -> None:
    source = Fickle(steps("Hel", lost()), steps(started(), busy()), steps(*HELLO))
    told = retry(source.stream, after_output="restart")
    await asyncio.sleep(100)
    assert story(told) == [
        (1, "1.0 Hel"),
        (2, "1.1 Retrying Disconnected 0.5 restart"),
        (2, "1.2 Usage 1 estimated"),
        (4.5, "2.0 Retrying Overloaded 1 restart"),
        (7.5, "1.3 Retracted 0"),
        (7.5, "3.0 Started"),
        (7.5, "3.1 Hel"),
        (8.5, "3.2 lo"),
        (9.5, "3.3 Finished"),
    ]
    assert (told.response.text, told.completed) == ("Hello", True)


@virtual_time
async def test_what_was_said_stands_when_there_is_nothing_in_its_place() -> None:
    source = Fickle(steps("Hel", lost()), steps(started("other"), busy()))
    told = retry(source.stream, after_output="restart")
    await asyncio.sleep(100)
    assert [text for _, text in story(told)][-1] == "2.0 Retrying Overloaded 1 restart"
    assert (type(told.error), source.asked_at) == (Overloaded, [0, 2.5, 5.5])
    assert told.failure.partial is not None
    assert (told.failure.partial.text, told.failure.partial.model) == ("Hel", "")
    assert told.failure.partial == aggregate(told.items).model_copy(update={"attempts": 3})


@virtual_time
async def test_an_empty_answer_takes_no_place() -> None:
    """As of another model in `failover`: a restart without a word retracts nothing, and has failed."""
    told = retry(Fickle(["Hel", lost()], [DONE], [DONE]).stream, after_output="restart")
    await asyncio.sleep(100)
    assert [text for _, text in story(told)][-1] == "2.0 Retrying StreamIncomplete 1 restart"
    assert isinstance(told.error, StreamIncomplete)
    assert told.failure.partial is not None
    assert told.failure.partial.text == "Hel"


@virtual_time
async def test_of_an_empty_answer_another_is_asked_for() -> None:
    told = retry(Fickle(["Hel", lost()], [DONE], HELLO).stream, after_output="restart")
    await asyncio.sleep(100)
    assert (told.response.text, told.completed) == ("Hello", True)


@virtual_time
async def test_buffer_delivers_whole_attempts_only() -> None:
    source = Fickle(steps(*HELLO[:3], reported(2, input_tokens=5), lost()), steps(*HELLO))
    told = retry(source.stream, after_output="buffer")
    await asyncio.sleep(100)
    assert story(told) == [
        (5, "1.0 Retrying Disconnected 0.5 again"),
        (5, "1.1 Usage 2 partial"),
        (9.5, "2.0 Started"),
        (9.5, "2.1 Hel"),
        (9.5, "2.2 lo"),
        (9.5, "2.3 Finished"),
    ]
    assert told.completed


@virtual_time
async def test_buffer_says_nothing_of_an_answer_that_it_never_got() -> None:
    told = retry(Fickle([*HELLO[:3], lost()]).stream, after_output="buffer", attempts=2)
    await asyncio.sleep(100)
    assert [text for _, text in story(told)] == [
        "1.0 Retrying Disconnected 0.5 again",
        "1.1 Usage 2 estimated",
        "2.0 Usage 2 estimated",
    ]
    assert told.failure.partial == aggregate(told.items)
    assert told.failure.partial.usage.output_tokens == 4


@virtual_time
async def test_a_buffer_has_a_bound() -> None:
    told = retry(Fickle([("a", "b", "c", DONE)]).stream, after_output="buffer", max_buffered=3)
    await settle()
    assert (type(told.error), told.texts) == (LimitExceeded, [])
    assert told.failure.partial == aggregate(told.items)
    told = retry(Fickle([("a", "b", DONE)]).stream, after_output="buffer", max_buffered=3)
    await settle()
    assert (told.texts, told.completed) == (["a", "b"], True)


@virtual_time
async def test_what_has_ended_properly_is_not_asked_again_whatever_comes_then() -> None:
    source: Subject[Event] = Subject()
    told = retry(source, after_output="restart")
    for event in (TextDelta(text="a"), Finished(reason="stop", seq=1)):
        source.on_next(event)
    source.on_error(lost())
    assert ([type(event) for event in told.items], str(told.error)) == ([TextDelta, Finished], "lost")


@virtual_time
async def test_a_source_that_completes_without_a_finish_has_completed() -> None:
    told = retry(rx.of(Started(), TextDelta(text="a", seq=1)))
    await settle()
    assert (len(told.items), told.completed) == (2, True)
    told = retry(rx.of(Started()))
    await settle()
    assert (len(told.items), told.completed) == (1, True)


# --- after it: continue ---------------------------------------------------------------------------------------------------


@virtual_time
async def test_continue_goes_on_after_all_that_was_said() -> None:
    model = Model(started(), "Hel", "lo wor", "ld", DONE, faults=[(2, lost()), (0, busy()), (1, lost()), (2, lost())])
    told = retry(model.stream, after_output="continue_", attempts=9)
    await asyncio.sleep(100)
    assert [text for _, text in story(told)] == [
        "1.0 Started",
        "1.1 Hel",
        "1.2 Retrying Disconnected 0.5 continue",
        "1.3 Usage 1 estimated",
        "2.0 Retrying Overloaded 1 continue",
        "3.0 Seam prefill 3 False",
        "3.1 lo",
        "3.2 Retrying Disconnected 2 continue",
        "3.3 Usage 1 estimated",
        "4.0 Seam prefill 5 False",
        "4.1  w",
        "4.2 or",
        "4.3 Retrying Disconnected 4 continue",
        "4.4 Usage 2 estimated",
        "5.0 Seam prefill 9 False",
        "5.1 ld",
        "5.2 Finished",
    ]
    assert [how for _, how in model.asked] == ["ask", "Hel", "Hel", "Hello", "Hello wor"]
    assert (told.response.text, told.response.attempts) == ("Hello world", 5)
    assert (model.closed, model.running, model.conversations) == (1, 0, [False])


@virtual_time
async def test_before_any_text_continue_asks_anew() -> None:
    model = Model("a", DONE, faults=[(0, busy())])
    told = retry(model.stream, after_output="continue_")
    await asyncio.sleep(100)
    assert [how for _, how in model.asked] == ["ask", "ask"]
    assert told.response.text == "a"


@virtual_time
async def test_what_comes_with_a_continuation_stands_before_the_seam() -> None:
    model = Model("Hel", "lo", DONE, faults=[(1, lost())])
    model.go_on = lambda text: Model.go_on(model, text)._replace(  # type: ignore[method-assign,union-attr]
        events=Fickle(steps(started(), Heartbeat(), "lo", DONE)).stream
    )
    told = retry(model.stream, after_output="continue_")
    await asyncio.sleep(100)
    assert [text for _, text in story(told)][3:] == [
        "2.0 Started",
        "2.1 Heartbeat",
        "2.2 Seam prefill 3 False",
        "2.3 lo",
        "2.4 Finished",
    ]


@virtual_time
async def test_a_continuation_with_nothing_to_add_ends_the_answer() -> None:
    model = Model("Hello", DONE, faults=[(1, lost())])
    told = retry(model.stream, after_output="continue_")
    await asyncio.sleep(100)
    assert [text for _, text in story(told)][-2:] == ["2.0 Seam prefill 5 False", "2.1 Finished"]
    assert (told.response.text, told.completed) == ("Hello", True)


@pytest.mark.parametrize(
    "other",
    [
        ToolCallStart(part=1, id="c", name="f"),
        ThinkingDelta(text="hm", part=1),
        TextDelta(text="second", choice=1),
    ],
)
@virtual_time
async def test_only_plain_text_is_gone_on_with(other: Event) -> None:
    model = Model("Hel", other, "lo", DONE, faults=[(2, lost())])
    told = retry(model.stream, after_output="continue_")
    await asyncio.sleep(100)
    assert told.failure.__notes__ == ["It was not continued: only plain text can be gone on with."]
    assert told.failure.partial == aggregate(told.items)
    assert (len(model.asked), len(told.items), model.closed) == (1, 2, 1)


@virtual_time
async def test_a_model_that_cannot_go_on_says_why() -> None:
    model = Model("Hel", "lo", DONE, faults=[(1, lost())], refuses="it will not")
    told = retry(model.stream, after_output="continue_")
    await asyncio.sleep(100)
    assert (told.failure.__notes__, told.texts) == (["It was not continued: it will not."], ["Hel"])
    told = retry(Fickle(["Hel", lost()]).stream, after_output="continue_")
    await asyncio.sleep(100)
    [note] = told.failure.__notes__
    assert note.startswith("It was not continued: it is not known how to ask its model to go on; only guard, timeouts")


@virtual_time
async def test_what_still_waits_for_a_paused_consumer_counts_as_said() -> None:
    source: Subject[Event] = Subject()
    model = Model("Hello ", "world", DONE, faults=[(2, lost())])
    model.ask = lambda: source  # type: ignore[method-assign]
    told = retry(model.stream, after_output="continue_", attempts=2)
    source.on_next(TextDelta(text="Hel"))
    told.gate.hold("user")
    source.on_next(TextDelta(text="lo", seq=1))
    source.on_error(lost())
    await asyncio.sleep(10)
    assert (told.texts, model.asked) == (["Hel"], [])
    told.gate.release("user")
    await asyncio.sleep(100)
    assert [how for _, how in model.asked] == ["Hello"]
    assert told.failure.partial == aggregate(told.items)
    assert told.failure.partial.text == "Hello wor"


# --- after it: resume -----------------------------------------------------------------------------------------------------


@virtual_time
async def test_resume_gives_the_rest_and_nothing_else() -> None:
    model = Model(started(), "Hel", Heartbeat(), "lo", DONE, faults=[(2, lost()), (1, lost()), (0, busy())])
    told = retry(model.stream, after_output="resume", attempts=4)
    await asyncio.sleep(100)
    assert [text for _, text in story(told)] == [
        "1.0 Started",
        "1.1 Hel",
        "1.2 Retrying Disconnected 0.5 resume",
        "1.3 Heartbeat",
        "1.4 Retrying Disconnected 1 resume",
        "1.5 Retrying Overloaded 2 resume",
        "1.6 Seam resume 3 True",
        "1.7 lo",
        "1.8 Finished",
    ]
    assert [how for _, how in model.asked] == ["ask", "resume", "resume", "resume"]
    assert (told.response.text, told.response.attempts) == ("Hello", 1)
    assert (model.closed, model.running, model.conversations) == (1, 0, [True])


@virtual_time
async def test_resume_before_the_first_content_keeps_what_was_kept_back() -> None:
    model = Model(started(), Heartbeat(), "Hel", "lo", DONE, faults=[(1, lost()), (1, lost())])
    told = retry(model.stream, after_output="resume")
    await asyncio.sleep(100)
    assert [text for _, text in story(told)] == [
        "1.0 Retrying Disconnected 0.5 resume",
        "1.1 Retrying Disconnected 1 resume",
        "1.2 Started",
        "1.3 Heartbeat",
        "1.4 Hel",
        "1.5 lo",
        "1.6 Finished",
    ]
    assert told.response.text == "Hello"


@virtual_time
async def test_resume_without_a_cursor_asks_anew_as_long_as_nothing_was_said() -> None:
    model = Model("Hel", "lo", DONE, faults=[(0, busy()), (1, lost())])
    told = retry(model.stream, after_output="resume")
    await asyncio.sleep(100)
    assert [how for _, how in model.asked] == ["ask", "ask", "resume"]
    assert [text for _, text in story(told)] == [
        "1.0 Retrying Overloaded 0.5 again",
        "2.0 Hel",
        "2.1 Retrying Disconnected 1 resume",
        "2.2 Seam resume 3 True",
        "2.3 lo",
        "2.4 Finished",
    ]


@virtual_time
async def test_without_a_cursor_what_was_said_is_the_last() -> None:
    model = Model("Hel", "lo", DONE, faults=[(1, lost())])
    model.resume = lambda: None  # type: ignore[method-assign]
    told = retry(model.stream, after_output="resume")
    await asyncio.sleep(100)
    assert told.failure.__notes__ == [
        "It was not resumed: the provider has ended the answer, or given no place to resume from."
    ]
    assert (told.failure.partial, model.closed) == (aggregate(told.items), 1)


@virtual_time
async def test_a_resumed_answer_may_have_nothing_more_to_say() -> None:
    model = Model("Hello", DONE, faults=[(1, lost())])
    told = retry(model.stream, after_output="resume")
    await asyncio.sleep(100)
    assert [text for _, text in story(told)][1:] == [
        "1.1 Retrying Disconnected 0.5 resume",
        "1.2 Seam resume 5 True",
        "1.3 Finished",
    ]


@pytest.mark.parametrize("source", [rx.never(), Model(DONE, resumable=False).stream])
@virtual_time
async def test_what_cannot_be_resumed_is_refused(source: Observable[Event]) -> None:
    told = retry(source, after_output="resume")
    await settle()
    assert isinstance(told.error, ConfigurationError)
    assert "'restart', 'continue_' or 'buffer'" in str(told.error)


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


# --- partial answers ------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_source_that_keeps_no_partial_answer_has_none_in_its_error() -> None:
    told = retry(Fickle(["Hel", lost()], keep_partial=False).stream, after_output="restart", attempts=2)
    await asyncio.sleep(100)
    assert told.failure.partial is None
    told = retry(rx.throw(busy()))
    await asyncio.sleep(100)
    assert told.failure.partial is None


@virtual_time
async def test_an_error_that_comes_from_nowhere_holds_what_stands() -> None:
    source = Fickle(["Hel", lost()])
    requests = iter([source.stream, rx.throw(CircuitOpen("it failed too often"))])
    told = retry(rx.defer(lambda _: next(requests)), after_output="restart", attempts=2)
    await asyncio.sleep(100)
    assert (type(told.error), told.failure.partial and told.failure.partial.text) == (CircuitOpen, "Hel")


@virtual_time
async def test_a_failover_in_it_keeps_its_attempts_apart() -> None:
    def events(*items: Event) -> Observable[Event]:
        return rx.concat(rx.of(*items), rx.throw(lost()))

    x, y = TextDelta(text="a", source="x"), TextDelta(text="b", source="y", attempt=2, seq=1)
    first = events(x, y, Heartbeat(source="x", seq=2))
    last: list[Event] = [TextDelta(text="c", source="x"), Finished(reason="stop", source="x", seq=1)]
    second = rx.of(*last)
    requests = iter([first, second])
    told = retry(rx.defer(lambda _: next(requests)), after_output="restart")
    await asyncio.sleep(100)
    assert told.said == [
        "x1 'a'",
        "y2 'b'",
        "x1 Heartbeat",
        "x1 Retrying",
        "x1 Usage 1 estimated",
        "y2 Usage 1 estimated",
        "x1 Retracted 0",
        "y2 Retracted 0",
        "x3 'c'",
        "x3 Finished",
    ]
    assert told.response.text == "c"


@virtual_time
async def test_the_answers_of_several_tracks_have_no_partial_answer() -> None:
    both = rx.of(TextDelta(text="a", source="x"), TextDelta(text="b", source="y"))
    error = lost()
    error.partial = aggregate([])
    told = retry(rx.concat(both, rx.throw(error)))
    await asyncio.sleep(100)
    assert (told.failure.partial, len(told.items)) == (None, 2)


# --- disposal, threads, loops ---------------------------------------------------------------------------------------------


POLICIES = ["fail", "resume", "restart", "continue_", "buffer"]


@pytest.mark.parametrize("policy", POLICIES)
@virtual_time
async def test_disposed_at_any_moment_it_leaves_nothing(policy: str) -> None:
    for tenths in range(110):
        model = Model(started(), "Hel", "lo", DONE, faults=[(0, busy()), (2, lost())], total=50)
        told = retry(model.stream, after_output=policy)
        await asyncio.sleep(tenths / 10)
        told.subscription.dispose()
        before = (len(told.items), told.error)
        await settle()
        assert all(timer.cancelled() for timer in vars(asyncio.get_running_loop())["_scheduled"])
        assert (model.running, model.closed, await watchers(told.gate)) == (0, 1, 0)
        await asyncio.sleep(20)
        assert (len(told.items), told.error) == before


@virtual_time
async def test_disposed_at_once_it_asks_nothing() -> None:
    source = Fickle(["a", DONE])
    told = retry(source.stream)
    told.subscription.dispose()
    await asyncio.sleep(10)
    assert (told.items, source.running) == ([], 0)


@pytest.mark.parametrize("policy", POLICIES)
@virtual_time
async def test_a_handler_may_dispose_at_any_event(policy: str) -> None:
    for at in range(9):
        model = Model(started(), "Hel", "lo", DONE, faults=[(0, busy()), (2, lost())])
        told = retry(model.stream, after_output=policy)

        def stop(_: Event, at: int = at, told: Told = told) -> None:
            if len(told.items) == at:
                told.subscription.dispose()

        told.and_then = stop
        await asyncio.sleep(50)
        assert (model.running, model.closed, await watchers(told.gate)) == (0, 1, 0)
        assert len(told.items) == at or (told.ended_at is not None and (at == 0 or len(told.items) < at))


@virtual_time
async def test_subscribed_in_another_thread_it_runs_on_its_loop() -> None:
    source = Fickle([busy()], ["a", DONE])
    scheduler = LoopScheduler(asyncio.get_running_loop())
    stream = source.stream.pipe(rxo.retry_stream(budget=None))
    told = await asyncio.to_thread(Told, stream, scheduler=scheduler)
    await asyncio.sleep(10)
    assert (told.texts, told.completed) == (["a"], True)


def test_that_the_loop_goes_down_in_a_delay_is_told() -> None:
    told: list[Told] = []

    @virtual_time
    async def run() -> None:
        told.append(retry(Fickle(["Hel", lost()]).stream, after_output="restart", delay=10))
        await asyncio.sleep(1)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await settle()

    run()
    error = told[0].failure
    assert isinstance(error, LoopShutDown)
    assert error.partial is not None
    assert error.partial.text == "Hel"


@virtual_time
async def test_a_source_that_does_not_stop_for_a_pause_is_stopped() -> None:
    source: Subject[Event] = Subject()
    told = retry(source)
    source.on_next(TextDelta(text="a"))
    told.gate.hold("user")
    for seq in range(65_538):
        source.on_next(TextDelta(text="b", seq=seq + 1))
    assert not source.observers
    told.gate.release("user")
    await until(lambda: told.ended_at is not None)
    assert (type(told.error), len(told.items)) == (LimitExceeded, 65_537)


@pytest.mark.parametrize("ends", [True, False])
@virtual_time
async def test_a_source_that_does_not_know_yet_that_it_failed_is_not_heard(ends: bool) -> None:
    def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        for seq in range(10):
            observer.on_next(TextDelta(text="too many", seq=seq))
        if ends:
            observer.on_completed()
        return closed

    closed = BooleanDisposable()
    requests = iter([Observable(subscribe), Fickle(["a", DONE]).stream])
    told = retry(
        rx.defer(lambda _: next(requests)),
        after_output="buffer",
        max_buffered=5,
        when=lambda error: not closed.is_disposed,
    )
    await settle()
    assert closed.is_disposed
    await asyncio.sleep(10)
    assert story(told) == [
        (0, "1.0 Retrying LimitExceeded 0.5 again"),
        (0, "1.1 Usage 6 estimated"),
        (0.5, "2.0 a"),
        (0.5, "2.1 Finished"),
    ]


@virtual_time
async def test_a_thousand_attempts_do_not_grow_the_stack() -> None:
    told = retry(rx.throw(busy()), attempts=1000, delay=0)
    await asyncio.sleep(1)
    assert (len(told.items), str(told.error)) == (999, "busy")
    assert [event.attempt for event in told.items] == list(range(1, 1000))


@virtual_time
async def test_what_a_handler_raises_ends_the_stream_and_closes_the_request() -> None:
    for at in (Retrying, Started, TextDelta, Finished):
        raised: list[Exception] = []
        model = Model(started(), "a", DONE, faults=[(1, busy())])

        def on_next(event: Event, at: type[Event] = at) -> None:
            if isinstance(event, at):
                raise ZeroDivisionError

        Stream.of(model.stream.pipe(rxo.retry_stream(budget=None))).subscribe(on_next, raised.append)
        await asyncio.sleep(20)
        assert [type(error) for error in raised] == [ZeroDivisionError]
        assert (model.running, model.closed) == (0, 1)


@virtual_time
async def test_what_cannot_be_asked_ends_the_stream() -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ConfigurationError("no key")

    for name in ("conversation", "ask"):
        model = Model(DONE)
        setattr(model, name, fail)
        told = retry(model.stream)
        await settle()
        assert str(told.error) == "no key"
        assert await watchers(told.gate) == 0


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
