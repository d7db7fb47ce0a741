"""``failover``: the next track is asked when one fails, and not before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx

from rxstream.errors import (
    BadRequest,
    BudgetExceeded,
    Cancelled,
    ConfigurationError,
    Disconnected,
    Overloaded,
    StreamIncomplete,
    TracksFailed,
)
from rxstream.events import Heartbeat
from rxstream.tracks import failover, race
from tests.support.contests import Field, Told, reported, started, watchers
from tests.support.scripted import DONE, HANG, Step, raising
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
    ],
)
def test_what_cannot_be_is_refused_at_once(tracks: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        failover(*tracks, **options)
