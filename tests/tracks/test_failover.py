"""``failover``: the next track is asked when one fails, and not before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxstream._asking import Continuation, Conversation
from rxstream.errors import (
    BadRequest,
    BudgetExceeded,
    Cancelled,
    ConfigurationError,
    ContentFiltered,
    Disconnected,
    LimitExceeded,
    Overloaded,
    StreamError,
    StreamIncomplete,
    TracksFailed,
)
from rxstream.events import (
    Failed,
    Finished,
    Heartbeat,
    RefusalDelta,
    Seam,
    ServerTool,
    TextDelta,
    ThinkingDelta,
    ToolCallStart,
)
from rxstream.observable import Stream
from rxstream.operators import retry_stream, timeouts
from rxstream.tracks import failover, race
from tests.support.contests import Field, Told, reported, started, watchers
from tests.support.knowing import Knowing
from tests.support.retried import Model, lost, story
from tests.support.scripted import DONE, HANG, Scripted, Step, raising
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_a_failure_before_content_is_an_event_and_the_next_answers() -> None:
    field = Field()
    a = field.track("a", 1, started("bad"), Heartbeat(), reported(0, input_tokens=3), 1, Overloaded("busy"))
    b = field.track("b", 1, started("good"), 1, "Hel", 1, "lo", DONE)
    told = Told(failover(a, b, field.track("c", "never")))
    await asyncio.sleep(20)
    assert told.story == [
        (2, "a1 Failed Overloaded"),
        (2, "a1 Usage 0 partial"),
        (4, "b2 Started"),
        (4, "b2 'Hel'"),
        (5, "b2 'lo'"),
        (5, "b2 Finished"),
    ]
    assert (told.response.text, told.response.model, told.response.usage.input_tokens) == ("Hello", "good", 3)
    assert field.opened == {"a": 1, "b": 1, "c": 0}


@virtual_time
async def test_when_none_is_left_the_error_has_each_ones_own() -> None:
    field = Field()
    a, b = field.track("a", 1, Overloaded("busy")), field.track("b", 1, BadRequest("no"))
    told = Told(failover(a, b))
    await asyncio.sleep(20)
    error = told.failure
    assert isinstance(error, TracksFailed)
    assert {label: type(each) for label, each in error.errors.items()} == {"a": Overloaded, "b": BadRequest}
    assert (told.said, told.ended_at, error.partial) == (["a1 Failed Overloaded", "b2 Failed BadRequest"], 2, None)


@virtual_time
async def test_after_content_it_fails_with_what_arrived() -> None:
    field = Field()
    told = Told(failover(field.track("a", 1, "Hel", 1, Disconnected("gone")), field.track("b", "b", DONE)))
    await asyncio.sleep(20)
    assert isinstance(told.error, Disconnected)
    assert told.error.partial is not None
    assert (told.error.partial.text, told.ended_at, field.opened["b"]) == ("Hel", 2, 0)


@virtual_time
async def test_or_the_next_answers_anew_when_it_has_something_to_say() -> None:
    field = Field()
    a, b = field.track("a", 1, "Hel", 1, Disconnected("gone")), field.track("b", 1, started(), 1, "Bon", "jour", DONE)
    told = Told(failover(a, b, after_output="restart"))
    await asyncio.sleep(20)
    assert told.story == [
        (1, "a1 'Hel'"),
        (2, "a1 Failed Disconnected"),
        (2, "a1 Usage 1 estimated"),
        (4, "a1 Retracted 0"),
        (4, "b2 Started"),
        (4, "b2 'Bon'"),
        (4, "b2 'jour'"),
        (4, "b2 Finished"),
    ]
    assert [event.seq for event in told.items[:4]] == [0, 1, 2, 3]
    assert (told.response.text, told.response.usage.output_tokens) == ("Bonjour", 1)


@virtual_time
async def test_a_restart_may_itself_be_restarted() -> None:
    field = Field()
    tracks = [field.track(label, 1, label, 1, Disconnected("gone")) for label in "abc"]
    told = Told(
        failover(*tracks, field.track("d", Overloaded("busy")), field.track("e", "e", DONE), after_output="restart")
    )
    await asyncio.sleep(20)
    assert told.response.text == "e"
    assert [word for word in told.said if "Retracted" in word] == [
        f"{label} Retracted 0" for label in ("a1", "b2", "c3")
    ]


@virtual_time
async def test_what_stands_when_no_restart_succeeds_is_the_partial_answer() -> None:
    field = Field()
    told = Told(
        failover(
            field.track("a", "Hel", Disconnected("gone")), field.track("b", Overloaded("x")), after_output="restart"
        )
    )
    await asyncio.sleep(20)
    assert isinstance(told.error, TracksFailed)
    assert told.error.partial is not None
    assert told.error.partial.text == told.response.text == "Hel"


@virtual_time
async def test_the_last_one_fails_with_its_own_error() -> None:
    field = Field()
    told = Told(
        failover(field.track("a", Overloaded("x")), field.track("b", "Hel", Disconnected("x")), after_output="restart")
    )
    await asyncio.sleep(20)
    assert isinstance(told.error, Disconnected)
    assert told.error.partial is not None
    assert told.error.partial.text == "Hel"


@virtual_time
async def test_a_combination_that_fails_is_retracted_with_all_its_attempts() -> None:
    field = Field()
    inner = failover(
        field.track("a", "A", Disconnected("x")), field.track("b", "B", Disconnected("x")), after_output="restart"
    )
    told = Told(failover(inner, field.track("c", "C", DONE), after_output="restart"))
    await asyncio.sleep(20)
    assert told.response.text == "C"
    assert told.completed


@virtual_time
async def test_an_empty_answer_is_an_answer() -> None:
    field = Field()
    told = Told(failover(field.track("a", 1, started(), DONE), field.track("b", "b", DONE)))
    await asyncio.sleep(20)
    assert (told.story, told.completed) == ([(1, "a1 Started"), (1, "a1 Finished")], True)
    assert field.opened["b"] == 0


@virtual_time
async def test_a_body_that_ends_without_its_mark_is_a_failure() -> None:
    field = Field()
    told = Told(failover(field.track("a", 1), field.track("b", "b", DONE)))
    await asyncio.sleep(20)
    assert told.said == [f"a1 Failed {StreamIncomplete.__name__}", "b2 'b'", "b2 Finished"]


@pytest.mark.parametrize(
    "error", [Cancelled("x"), BudgetExceeded("x"), ConfigurationError("x")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("said", [[], ["a"]], ids=["before", "after"])
@virtual_time
async def test_some_errors_are_not_the_tracks_fault(error: Exception, said: list[Step]) -> None:
    """Nobody shall be asked any more, or what was asked was wrong."""
    field = Field()
    a = field.track("a", *said, 1, raising(error))
    told = Told(failover(a, field.track("b", "b", DONE), after_output="restart"))
    await asyncio.sleep(20)
    assert (told.error, field.opened["b"]) == (error, 0)


@virtual_time
async def test_the_caller_may_say_for_which_errors() -> None:
    asked: list[Exception] = []

    def when(error: Exception) -> bool:
        asked.append(error)
        return isinstance(error, Overloaded)

    field = Field()
    first, second = Overloaded("busy"), BadRequest("no")
    told = Told(failover(field.track("a", first), field.track("b", second), field.track("c", "c"), when=when))
    await asyncio.sleep(20)
    assert (asked, told.error) == ([first, second], second)
    assert field.opened["c"] == 0


@virtual_time
async def test_what_the_callers_function_raises_is_the_error() -> None:
    field = Field()
    mine = ZeroDivisionError()
    told = Told(failover(field.track("a", Overloaded("x")), field.track("b", "b"), when=raising(mine)))  # type: ignore[arg-type]
    await asyncio.sleep(20)
    assert isinstance(told.error, TypeError)  # it takes no argument
    told = Told(failover(field.track("a", Overloaded("x")), field.track("b", "b"), when=lambda _: raising(mine)()))
    await asyncio.sleep(20)
    assert (told.error, field.opened["b"], field.running) == (mine, 0, [])


@virtual_time
async def test_the_loser_of_a_race_within_is_no_failure() -> None:
    field = Field()
    inner = race(field.track("a", HANG), field.track("b", Overloaded("x")))
    told = Told(race(failover(inner, field.track("c", "c", DONE)), field.track("d", 1, "d", DONE)))
    await asyncio.sleep(20)
    assert (told.response.text, field.running) == ("d", [])


@virtual_time
async def test_a_restart_without_a_word_takes_nothing_back() -> None:
    field = Field()
    a, b = field.track("a", "Hel", Disconnected("x")), field.track("b", started(), 1, DONE)
    told = Told(failover(a, b, after_output="restart"))
    await asyncio.sleep(20)
    assert told.said == ["a1 'Hel'", "a1 Failed Disconnected", "a1 Usage 1 estimated", "b2 Failed StreamIncomplete"]
    error = told.failure
    assert isinstance(error, TracksFailed)
    assert error.partial is not None
    assert (error.partial.text, told.ended_at) == ("Hel", 1)
    field = Field()
    a, b, c = field.track("a", "Hel", Disconnected("x")), field.track("b", DONE), field.track("c", "Bon", DONE)
    told = Told(failover(a, Stream.of(rx.empty()), b, c, after_output="restart"))
    await asyncio.sleep(20)
    assert (told.response.text, told.completed) == ("Bon", True)


# --- reasons to finish that are failures ----------------------------------------------------------------------------------


def ending(reason: Any, raw: str = "") -> Finished:
    return Finished(reason=reason, raw_reason=raw)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("length", LimitExceeded),
        ("content_filter", ContentFiltered),
        ("refusal", ContentFiltered),
        ("pause", StreamIncomplete),
        ("error", StreamIncomplete),
        ("other", StreamIncomplete),
    ],
)
@virtual_time
async def test_who_finishes_for_such_a_reason_has_failed(reason: Any, kind: type[StreamError]) -> None:
    field = Field()
    a = field.track("a", started("bad"), reported(3), ending(reason, "raw"))
    told = Told(failover(a, field.track("b", 1, "b", DONE), on_finish=[reason]))
    await asyncio.sleep(20)
    assert told.said == [f"a1 Failed {kind.__name__}", "a1 Usage 3 reported", "b2 'b'", "b2 Finished"]
    info = told.items[0].error
    assert (info.code, info.phase, info.retryable) == ("raw", "finish", kind is StreamIncomplete)
    assert told.response.usage.output_tokens == 3


@virtual_time
async def test_after_content_such_an_end_fails_with_the_whole_of_it() -> None:
    field = Field()
    a = field.track("a", started("bad"), "Hel", reported(3), ending("length"))
    told = Told(failover(a, field.track("b", "b"), on_finish=["length"]))
    await asyncio.sleep(20)
    error = told.failure
    assert isinstance(error, LimitExceeded)
    assert error.partial is not None
    assert (error.partial.text, error.partial.finish_reason, error.partial.usage.output_tokens) == ("Hel", None, 3)
    assert (error.model, field.opened["b"], field.running) == ("bad", 0, [])


@virtual_time
async def test_or_it_is_answered_anew() -> None:
    field = Field()
    a = field.track("a", "I can", RefusalDelta(text="not"), 1, ending("refusal"))
    told = Told(failover(a, field.track("b", 1, "b", DONE), on_finish=["refusal"], after_output="restart"))
    await asyncio.sleep(20)
    assert [word.split(" ")[1] for word in told.said[2:]] == ["Failed", "Usage", "Retracted", "'b'", "Finished"]
    assert (told.response.text, told.response.refusal) == ("b", None)


@virtual_time
async def test_what_fails_later_has_only_what_stands() -> None:
    field = Field()
    a, b = field.track("a", "a", ending("length")), field.track("b", "b", reported(5), Disconnected("x"))
    told = Told(failover(a, b, on_finish=["length"], after_output="restart"))
    await asyncio.sleep(20)
    partial = told.failure.partial
    assert partial is not None
    assert (partial.text, partial.attempts, partial.usage.output_tokens) == ("b", 2, 6)


@pytest.mark.parametrize("said", [[], ["text"]], ids=["silent", "in words"])
@virtual_time
async def test_the_last_ones_answer_stands_whatever_its_reason(said: list[Step]) -> None:
    field = Field()
    a, b = field.track("a", ending("length")), field.track("b", *said, ending("length"))
    told = Told(failover(a, b, on_finish=["length"]))
    await asyncio.sleep(20)
    assert told.completed
    assert told.response.finish_reason == "length"


@virtual_time
async def test_other_reasons_are_no_failure() -> None:
    field = Field()
    told = Told(failover(field.track("a", "a", DONE), field.track("b"), on_finish=["length", "refusal"]))
    await asyncio.sleep(20)
    assert (told.completed, field.opened["b"]) == (True, 0)


@pytest.mark.parametrize("after_output", ["fail", "restart", "continue_"])
@virtual_time
async def test_nothing_takes_the_place_of_an_answer_that_is_complete(after_output: Any) -> None:
    """Though its stream fails after that."""
    late = Disconnected("late")
    a = Stream.of(rx.concat(rx.of(TextDelta(text="Hel"), Finished(reason="stop", seq=1)), rx.throw(late)), label="a")
    known = Knowing(Scripted(["Bon", DONE]), further=Scripted(["lo", DONE]))
    told = Told(failover(a, known.stream("b"), after_output=after_output))
    await asyncio.sleep(20)
    assert (told.error, told.said, known.texts) == (late, ["a1 'Hel'", "a1 Finished"], [])


# --- going on ---------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_the_next_model_goes_on_after_the_text() -> None:
    field = Field()
    further = Scripted([started("other"), 1, "lo, ", 1, "you", reported(2), DONE])
    known = Knowing(Scripted([]), further=further)
    told = Told(
        failover(
            field.track("a", started("one"), "He", "l", 1, Disconnected("x")),
            known.stream("b"),
            after_output="continue_",
        )
    )
    await asyncio.sleep(20)
    assert told.story == [
        (0, "a1 Started"),
        (0, "a1 'He'"),
        (0, "a1 'l'"),
        (1, "a1 Failed Disconnected"),
        (1, "a1 Usage 2 estimated"),
        (2, "b2 Started"),
        (2, "b2 Seam"),
        (2, "b2 'lo, '"),
        (3, "b2 'you'"),
        (3, "b2 Usage 2 reported"),
        (3, "b2 Finished"),
    ]
    seam = next(event for event in told.items if isinstance(event, Seam))
    assert (seam.kind, seam.offset, seam.verified) == ("prefill", 3, False)
    assert [event.seq for event in told.items] == [*range(5), *range(6)]
    assert (told.response.text, told.response.model, told.response.attempts) == ("Hello, you", "other", 2)
    assert (known.texts, known.closed, further.running) == (["Hel"], 1, 0)


@virtual_time
async def test_before_the_first_content_it_is_simply_asked() -> None:
    known = Knowing(Scripted(["Bon", DONE]))
    told = Told(failover(Field().track("a", Overloaded("x")), known.stream("b"), after_output="continue_"))
    await asyncio.sleep(20)
    assert (told.said, known.texts) == (["a1 Failed Overloaded", "b2 'Bon'", "b2 Finished"], [])


@virtual_time
async def test_it_goes_on_as_often_as_there_are_tracks() -> None:
    field = Field()
    b = Knowing(Scripted([]), further=Scripted(["b", Disconnected("x")]))
    c = Knowing(Scripted([]), further=Scripted([Overloaded("x")]))
    d = Knowing(Scripted([]), further=Scripted(["d", Disconnected("the last")]))
    told = Told(
        failover(
            field.track("a", "a", Disconnected("x")), *(each.stream() for each in (b, c, d)), after_output="continue_"
        )
    )
    await asyncio.sleep(20)
    assert (b.texts, c.texts, d.texts) == (["a"], ["ab"], ["ab"])
    partial = told.failure.partial
    assert partial == told.response.model_copy(update={"attempts": 4})
    assert partial is not None
    assert (partial.text, str(told.failure).partition(" [")[0]) == ("abd", "the last")
    assert [each.closed for each in (b, c, d)] == [1, 1, 1]


class Anew(Model):
    """A model that may be asked in one conversation after the other."""

    def conversation(self, *, resumable: bool) -> Conversation:
        self.closed = 0
        return super().conversation(resumable=resumable)


@pytest.mark.parametrize(
    ("after_output", "faults", "asked", "words"),
    [
        ("fail", [], ["Hel"], ["2.0 Seam prefill 3 False", "2.1 lo"]),
        ("fail", [(0, lost())], ["Hel", "Hel"], ["2.0 Retrying Disconnected 0 again", "3.0 Seam prefill 3 False"]),
        ("resume", [(0, lost())], ["Hel", "Hel"], ["2.0 Retrying Disconnected 0 again", "3.0 Seam prefill 3 False"]),
        ("buffer", [(2, lost())], ["Hel", "Hel"], ["2.0 Retrying Disconnected 0 again", "2.1 Usage 2 estimated"]),
        (
            "restart",
            [(1, lost())],
            ["Hel", "Hel"],
            [
                "2.0 Seam prefill 3 False",
                "2.1 lo",
                "2.2 Retrying Disconnected 0 restart",
                "2.3 Usage 1 estimated",
                "2.4 Retracted 0",
                "3.0 Seam prefill 3 False",
                "3.1 lo",
            ],
        ),
        (
            "continue_",
            [(1, lost()), (1, lost())],
            ["Hel", "Hello", "Hello, "],
            [
                "2.0 Seam prefill 3 False",
                "2.1 lo",
                "2.2 Retrying Disconnected 0 continue",
                "2.3 Usage 1 estimated",
                "3.0 Seam prefill 5 False",
                "3.1 , ",
                "3.2 Retrying Disconnected 0 continue",
                "3.3 Usage 1 estimated",
                "4.0 Seam prefill 7 False",
                "4.1 yo",
            ],
        ),
    ],
)
@virtual_time
async def test_a_track_that_asks_again_does_so_when_it_goes_on(
    after_output: Any, faults: Any, asked: list[str], words: list[str]
) -> None:
    model = Anew("Hello, you", Finished(reason="stop"), faults=faults)
    again = retry_stream(after_output=after_output, attempts=5, delay=0, budget=None)
    b = Stream.of(model.stream, label="b").pipe(timeouts(idle=60), again)
    told = Told(failover(Field().track("a", "Hel", Disconnected("x")), b, after_output="continue_"))
    await asyncio.sleep(60)
    assert [how for _, how in model.asked] == asked
    assert (told.completed, told.response.text, model.running) == (True, "Hello, you", 0)
    said = [word for _, word in story(told)]
    assert said[3 : 3 + len(words)] == words  # after the other's text, its failure and what it used
    assert [event.seq for event in told.items] == [
        seq for attempt in range(1, 9) for seq in range(sum(event.attempt == attempt for event in told.items))
    ]


@virtual_time
async def test_a_model_that_changes_its_mind_says_so() -> None:
    class Moody(Anew):
        def go_on(self, text: str) -> Continuation | str:
            return super().go_on(text) if len(self.conversations) < 2 else "not now"

    again = Moody("Hello", Finished(reason="stop")).stream.pipe(retry_stream())
    told = Told(failover(Field().track("a", "Hel", lost()), again, after_output="continue_"))
    await settle()
    assert (type(told.error), str(told.error)) == (ConfigurationError, "not now")


@virtual_time
async def test_one_that_has_nothing_more_to_say_completes_the_text() -> None:
    known = Knowing(Scripted([]), further=Scripted([started(), DONE]))
    told = Told(failover(Field().track("a", "all", Disconnected("x")), known.stream("b"), after_output="continue_"))
    await asyncio.sleep(20)
    assert told.said[-3:] == ["b2 Started", "b2 Seam", "b2 Finished"]
    assert (told.response.text, told.response.finish_reason, told.completed) == ("all", "stop", True)


@virtual_time
async def test_an_answer_cut_for_its_length_can_be_gone_on_with() -> None:
    known = Knowing(Scripted([]), further=Scripted(["lo", DONE]))
    told = Told(
        failover(
            Field().track("a", "Hel", ending("length")),
            known.stream("b"),
            after_output="continue_",
            on_finish=["length"],
        )
    )
    await asyncio.sleep(20)
    assert (told.response.text, told.response.finish_reason) == ("Hello", "stop")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (["a", ToolCallStart(id="c", name="f", part=1)], "plain text"),
        ([ThinkingDelta(text="hm"), TextDelta(text="a", part=1)], "plain text"),
        ([RefusalDelta(text="no")], "plain text"),
        ([ServerTool(name="search", step="start")], "plain text"),
        (["a", TextDelta(text="b", choice=1)], "plain text"),
        (["a"], "it cannot"),
    ],
)
@virtual_time
async def test_what_cannot_be_gone_on_with_fails_and_says_why(said: list[Step], why: str) -> None:
    error = Disconnected("x")
    known = Knowing(Scripted(["b"]), further="it cannot" if why == "it cannot" else Scripted(["b"]))
    told = Told(failover(Field().track("a", *said, error), known.stream("b"), after_output="continue_"))
    await asyncio.sleep(20)
    assert told.error is error
    assert why in error.__notes__[0]
    assert error.partial == told.response
    assert len(told.items) == len(said)
    assert known.closed == 1


@virtual_time
async def test_a_track_whose_model_is_not_known_cannot_go_on() -> None:
    field, error = Field(), Disconnected("x")
    told = Told(failover(field.track("a", "a", error), field.track("b", "b"), after_output="continue_"))
    await asyncio.sleep(20)
    assert (told.error, field.opened["b"]) == (error, 0)
    assert "the model of b" in error.__notes__[0]


@virtual_time
async def test_what_stands_when_nobody_can_go_on_is_the_partial_answer() -> None:
    known = Knowing(Scripted([]), further=Scripted([Overloaded("x")]))
    field = Field()
    told = Told(
        failover(
            field.track("a", "a", Disconnected("x")), known.stream("b"), field.track("c", "c"), after_output="continue_"
        )
    )
    await asyncio.sleep(20)
    error = told.failure
    assert isinstance(error, TracksFailed)
    assert error.partial is not None
    assert (error.partial.text, [*error.errors], field.opened["c"]) == ("a", ["a", "b"], 0)


@virtual_time
async def test_what_going_on_raises_is_the_error() -> None:
    known, mine = Knowing(Scripted([])), ZeroDivisionError()
    known.go_on = lambda text: raising(mine)()  # type: ignore[method-assign]
    told = Told(failover(Field().track("a", "a", Disconnected("x")), known.stream("b"), after_output="continue_"))
    await asyncio.sleep(20)
    assert told.error is mine


@pytest.mark.parametrize("at", [0.5, 1, 1.5, 2, 2.5, 3])
@virtual_time
async def test_disposed_or_paused_while_it_goes_on_it_leaves_nothing(at: float) -> None:
    for pauses in (False, True):
        field, further = Field(), Scripted([1, "b", 1, "c", HANG])
        known = Knowing(Scripted([]), further=further)
        told = Told(
            failover(field.track("a", "a", 1, Disconnected("x")), known.stream("b"), after_output="continue_"),
            pauses=pauses,
        )
        await asyncio.sleep(at)
        told.subscription.dispose()
        heard = len(told.items)
        await asyncio.sleep(20)
        assert (field.running, further.running, len(told.items)) == ([], 0, heard)
        assert known.closed == len(known.texts)
        assert await watchers(told.gate) == 0


@virtual_time
async def test_disposed_by_the_handler_of_the_failure_nobody_is_asked_to_go_on() -> None:
    known = Knowing(Scripted([]), further=Scripted(["b"]))
    told = Told(failover(Field().track("a", "a", 1, Disconnected("x")), known.stream("b"), after_output="continue_"))
    told.and_then = lambda item: told.subscription.dispose() if isinstance(item, Failed) else None
    await asyncio.sleep(20)
    assert (told.ended_at, known.closed) == (None, 1)


@given(
    pieces=st.lists(st.text("ab\N{SNOWMAN}", min_size=1, max_size=3), min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 8), min_size=1, max_size=3),
    after_output=st.sampled_from(["fail", "restart", "continue_"]),
    held=st.sets(st.integers(0, 9)),
)
def test_no_text_is_doubled_or_lost_by_any_cuts(
    pieces: list[str], cuts: list[int], after_output: Any, held: set[int]
) -> None:
    """Models that go on say exactly the rest; so what is shown at the end is always the beginning of the answer."""

    @virtual_time
    async def main() -> None:
        whole = "".join(pieces)
        errors = [Disconnected(str(number)) for number in range(len(cuts))]
        tracks = [
            Rest(pieces, cut, error).stream(str(number))
            for number, (cut, error) in enumerate(zip(cuts, errors, strict=True))
        ]
        told = Told(failover(*tracks, after_output=after_output))
        told.and_then = lambda _: hold(told) if len(told.items) in held else None
        await asyncio.sleep(100)
        assert told.completed or told.error is not None
        assert whole.startswith(told.response.text)
        if told.completed:
            assert (told.response.text, told.response.finish_reason) == (whole, "stop")
        else:
            assert told.response.finish_reason is None
            assert (told.failure.partial.text if told.failure.partial else "") == told.response.text

    main()


class Rest(Knowing):
    """A model that gives `pieces`, and fails after so many of them; asked to go on, it knows where it was."""

    def __init__(self, pieces: list[str], cut: int, error: Exception) -> None:
        end: list[Step] = [DONE] if cut >= len(pieces) else [raising(error)]
        super().__init__(Scripted([*pieces[:cut], *end]))
        self._pieces, self._cut, self._error = pieces, cut, error

    def go_on(self, text: str) -> Continuation | str:
        """Its cut counts from where it goes on."""
        before, at = "", 0
        while before != text:
            before, at = before + self._pieces[at], at + 1
        rest = self._pieces[at:]
        self._further = Rest(rest, self._cut, self._error)._answer
        return super().go_on(text)


def hold(told: Told) -> None:
    told.gate.hold("user")
    asyncio.get_running_loop().call_later(1, told.gate.release, "user")


@pytest.mark.parametrize("at", [0, 0.5, 1, 1.5, 2, 3])
@virtual_time
async def test_disposed_at_any_moment_it_leaves_nothing(at: float) -> None:
    field = Field()
    told = Told(failover(field.track("a", 1, Overloaded("busy")), field.track("b", 1, "b", 9)))
    await asyncio.sleep(at)
    told.subscription.dispose()
    heard = len(told.items)
    await settle()
    assert field.running == []
    await asyncio.sleep(20)
    assert (len(told.items), told.ended_at, await watchers(told.gate)) == (heard, None, 0)


@virtual_time
async def test_paused_while_it_fails_it_says_so_later() -> None:
    field = Field()
    told = Told(
        failover(field.track("a", "x", 1, Overloaded("busy")), field.track("b", 1, "b", DONE), after_output="restart"),
        pauses=True,
    )
    await asyncio.sleep(20)
    assert told.response.text == "b"
    assert [word.split(" ")[1] for word in told.said] == ["'x'", "Failed", "Usage", "Retracted", "'b'", "Finished"]
    assert told.completed


@pytest.mark.parametrize(
    ("tracks", "options", "said"),
    [
        ((), {}, "at least 1"),
        ((rx.never(),), {"after_output": "go on"}, "after_output"),
        ((rx.never(),), {"when": 5}, "when"),
        ((rx.never(),), {"on_finish": ["stop"]}, "on_finish"),
        ((rx.never(),), {"on_finish": "length"}, "on_finish"),
    ],
)
def test_what_cannot_be_is_refused_at_once(tracks: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        failover(*tracks, **options)
