"""``best_of``: all answers are waited for, the best one is delivered, all are paid."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
import reactivex as rx

from rxstream.errors import ConfigurationError, LimitExceeded, Overloaded, TracksFailed
from rxstream.response import Response
from rxstream.tracks import best_of
from tests.support.contests import Field, Told, reported, started, watchers
from tests.support.scripted import DONE, HANG, numbered, words
from tests.support.virtual_loop import settle, virtual_time


def length(answer: Response) -> float:
    return len(answer.text)


@virtual_time
async def test_the_best_answer_is_delivered_when_all_are_complete() -> None:
    field = Field()
    a = field.track("a", started(), *words("short"))
    b = field.track("b", started("best"), 2, "the long", reported(4, input_tokens=9), 1, "est", reported(6), DONE)
    c = field.track("c", 4, "middle", reported(3), DONE)
    told = Told(best_of(a, b, c, score=length))
    await asyncio.sleep(3.9)
    assert told.items == []
    await asyncio.sleep(10)
    assert told.story == [
        (4, "b2 Started"),
        (4, "b2 'the long'"),
        (4, "b2 Usage 4 reported"),
        (4, "b2 'est'"),
        (4, "b2 Usage 6 reported"),
        (4, "a1 Usage 1 estimated"),
        (4, "c3 Usage 3 reported"),
        (4, "b2 Finished"),
    ]
    assert [event.at for event in told.items[:4]] == [0, 2, 2, 3]
    assert (told.response.text, told.response.model, told.response.usage.output_tokens) == ("the longest", "best", 10)
    assert told.completed


@virtual_time
async def test_it_is_asked_once_for_each_whole_answer() -> None:
    asked: list[tuple[str, str | None, float]] = []

    def score(answer: Response) -> float:
        asked.append((answer.text, answer.finish_reason, asyncio.get_running_loop().time()))
        return 0

    field = Field()
    told = Told(best_of(field.track("a", *words("b", "c")), field.track("b", *words("a")), score=score))
    await asyncio.sleep(10)
    assert asked == [("a", "stop", 1), ("bc", "stop", 2)]
    assert told.response.text == "bc"  # of equal scores the first track's


@pytest.mark.parametrize("scores", [{"a": math.nan, "b": -5.0}, {"a": -math.inf, "b": 0.0}, {"a": False, "b": True}])
@virtual_time
async def test_any_number_is_a_score(scores: dict[str, float]) -> None:
    field = Field()
    tracks = [field.track(label, *words(label)) for label in "ab"]
    told = Told(best_of(*tracks, score=lambda answer: scores[answer.text]))
    await asyncio.sleep(10)
    assert told.response.text == "b"


@virtual_time
async def test_a_track_that_fails_is_an_event_and_what_it_said_is_paid() -> None:
    field = Field()
    a, b = field.track("a", 1, "very long text", 1, Overloaded("busy")), field.track("b", *words("b", every=3))
    told = Told(best_of(a, b, score=length))
    await asyncio.sleep(10)
    assert told.story == [(2, "a1 Failed Overloaded"), (2, "a1 Usage 1 estimated"), (3, "b2 'b'"), (3, "b2 Finished")]


@virtual_time
async def test_when_all_fail_it_fails() -> None:
    field = Field()
    told = Told(best_of(field.track("a", Overloaded("x")), field.track("b", "b", Overloaded("y")), score=length))
    await asyncio.sleep(10)
    assert isinstance(told.error, TracksFailed)
    assert (list(told.error.errors), told.error.partial) == (["a", "b"], None)


@pytest.mark.parametrize("score", [lambda _: 1 / 0, lambda _: "much", lambda _: None], ids=["raises", "text", "none"])
@virtual_time
async def test_what_the_callers_function_raises_is_the_error_and_the_others_are_closed(score: Any) -> None:
    field = Field()
    told = Told(best_of(field.track("a", *words("a")), field.track("b", HANG), score=score))
    await asyncio.sleep(10)
    assert isinstance(told.error, (ZeroDivisionError, ValueError, TypeError))
    assert (told.ended_at, field.closed_at["b"]) == (1, [1])


@virtual_time
async def test_a_track_that_is_too_long_has_failed() -> None:
    field = Field()
    tracks = (field.track("a", *numbered(11)), field.track("b", "b", DONE))
    told = Told(best_of(*tracks, score=length, max_events=10))
    await asyncio.sleep(10)
    assert told.said == ["a1 Failed LimitExceeded", "a1 Usage 11 estimated", "b2 'b'", "b2 Finished"]
    assert told.items[0].error.kind == LimitExceeded.__name__
    told = Told(best_of(*tracks, score=length, max_events=12))
    await asyncio.sleep(10)
    assert told.response.text.startswith("0 1 2")


@virtual_time
async def test_a_long_answer_lets_the_loop_breathe_and_obeys_the_gate() -> None:
    field = Field()
    told = Told(best_of(field.track("a", *numbered(5)), field.track("b", 1, "b", DONE), score=length), pauses=True)
    await asyncio.sleep(100)
    assert (told.response.text, told.times) == ("0 1 2 3 4 ", [1, 2, 3, 4, 5, 6, 7])
    assert told.completed


@pytest.mark.parametrize("at", [0, 1, 2, 3])
@virtual_time
async def test_disposed_at_any_moment_it_leaves_nothing(at: float) -> None:
    field = Field()
    told = Told(best_of(field.track("a", *words("a")), field.track("b", *words("b", "c", every=2)), score=length))
    await asyncio.sleep(at)
    told.subscription.dispose()
    await settle()
    assert field.running == []
    await asyncio.sleep(20)
    assert (told.items, told.ended_at, await watchers(told.gate)) == ([], None, 0)


def test_what_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        best_of(score=length)
    with pytest.raises(ConfigurationError, match="max_events"):
        best_of(rx.never(), score=length, max_events=0)
    with pytest.raises(ConfigurationError, match="score=None"):
        best_of(rx.never(), score=None)  # type: ignore[arg-type]
