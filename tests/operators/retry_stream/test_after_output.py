"""``retry_stream`` after the first content: whatever fails, text comes once, and an error holds what stands."""

from __future__ import annotations

import asyncio

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex.subject import Subject

from rxstream.aggregate import aggregate
from rxstream.errors import (
    CircuitOpen,
    ConfigurationError,
    LimitExceeded,
    Overloaded,
    StreamIncomplete,
)
from rxstream.events import (
    Event,
    Finished,
    Heartbeat,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallStart,
)
from tests.support.contests import reported, started
from tests.support.retried import HELLO, Fickle, Model, busy, lost, retry, steps, story
from tests.support.scripted import DONE
from tests.support.virtual_loop import settle, virtual_time

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
