"""Tracks that ask again, in combinations: their attempts are told apart, their texts kept apart, and all that they used counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import reactivex as rx

from rxstream.aggregate import Answers
from rxstream.dual import DualTrack
from rxstream.errors import ConfigurationError, Disconnected, Overloaded, TracksFailed
from rxstream.events import Event, Failed, Retrying, TextDelta
from rxstream.observable import Stream
from rxstream.operators import of_track, on_error_complete, responses, retry_stream, timeouts
from rxstream.sources._pump import pump
from rxstream.tracks import best_of, failover, hedge, merge, race, supersede, vote
from tests.support.contests import Told, reported
from tests.support.knowing import Knowing
from tests.support.scripted import DONE, HANG, Scripted, Step
from tests.support.virtual_loop import virtual_time

BUSY: Sequence[Step] = [1, Overloaded("busy")]
CUT: Sequence[Step] = [1, "half", reported(1), Disconnected("gone")]


def whole(text: str, *, after: float = 1) -> Sequence[Step]:
    return [after, text, reported(2), DONE]


class Track:
    """A model that follows one script after the other, asked again by `retry_stream`."""

    def __init__(self, label: str, *scripts: Sequence[Step]) -> None:
        self.scripts = [Scripted(steps) for steps in scripts]
        self.asked = 0
        answer: Stream[Event] = Stream.of(rx.defer(lambda _: self._ask(label)), label=label)
        again = retry_stream(delay=2, jitter=float, budget=None, after_output="restart")
        self.stream: Stream[Event] = answer.pipe(again)

    def _ask(self, label: str) -> Any:
        self.asked += 1
        return pump(self.scripts[self.asked - 1].source(label=label))

    @property
    def running(self) -> int:
        return sum(script.running for script in self.scripts)


MAKES: dict[str, Callable[[Stream[Event], Stream[Event]], Stream[Event]]] = {
    "race": race,
    "hedge": lambda a, b: hedge(a, b, after=0.5),
    "failover": failover,
    "failover, restart": lambda a, b: failover(a, b, after_output="restart"),
    "supersede": lambda a, b: supersede(a, b, at="end"),
    "best_of": lambda a, b: best_of(a, b, score=lambda answer: len(answer.text)),
    "vote": vote,
    "cloud_first": lambda a, b: DualTrack(b, a, strategy="cloud_first"),
    "draft": lambda a, b: DualTrack(a, b, strategy="draft"),
}


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("pauses", [False, True])
@virtual_time
async def test_the_one_answer_is_whole_and_each_attempt_is_of_one_track(make: str, pauses: bool) -> None:
    a, b = Track("a", BUSY, whole("answer")), Track("b", CUT, BUSY, whole("answer"))
    told = Told(MAKES[make](a.stream, b.stream), pauses=pauses)
    await asyncio.sleep(200)
    assert told.completed, told.error
    answers = Answers()
    for event in told.items:
        answers.add(event)
    assert answers.count == 1
    assert (answers.response().text, answers.response().finish_reason) == ("answer", "stop")
    owners: dict[int, str] = {}
    for event in told.items:
        assert owners.setdefault(event.attempt, event.source) == event.source
    assert (a.running, b.running) == (0, 0)


@virtual_time
async def test_that_a_track_asks_again_is_told_at_once() -> None:
    a, b = Track("a", BUSY, whole("a")), Track("b", BUSY, BUSY, whole("b"))
    told = Told(race(a.stream, b.stream))
    await asyncio.sleep(50)
    assert [(at, word) for at, word in told.story if "Retrying" in word] == [(1, "a1 Retrying"), (1, "b2 Retrying")]
    assert told.story[2:5] == [(4, "b2 Usage 0 estimated"), (4, "b2 Cancelled"), (4, "a3 'a'")]


@virtual_time
async def test_the_next_track_is_asked_when_asking_again_has_not_helped() -> None:
    a, b = Track("a", BUSY, BUSY, BUSY), Track("b", BUSY, whole("b"))
    told = Told(failover(a.stream, b.stream))
    await asyncio.sleep(50)
    kinds = [type(event) for event in told.items if isinstance(event, (Retrying, Failed, TextDelta))]
    assert kinds == [Retrying, Retrying, Failed, Retrying, TextDelta]
    assert (a.asked, b.asked, told.response.text, told.response.attempts) == (3, 2, "b", 5)


@pytest.mark.parametrize("after_output", ["restart", "buffer"])
@virtual_time
async def test_a_combination_that_is_asked_again_numbers_the_events_of_each_track(after_output: Any) -> None:
    """Also where several of its tracks have spoken in one attempt: each has its own numbers, without gaps."""
    scripts = {"a": [CUT, CUT, CUT], "b": [CUT, CUT, whole("answer")]}

    def track(label: str) -> Stream[Event]:
        asked = rx.defer(lambda _: pump(Scripted(scripts[label].pop(0)).source(label=label)))
        return Stream.of(asked, label=label)

    both = failover(track("a"), track("b"), after_output="restart")
    again = retry_stream(delay=2, jitter=float, budget=None, after_output=after_output, when=lambda _: True)
    told = Told(both.pipe(again))
    await asyncio.sleep(80)
    assert (told.completed, told.response.text) == (True, "answer")
    for attempt in range(1, 7):
        own = [event.seq for event in told.items if event.attempt == attempt]
        assert own == list(range(len(own))), told.said


def twice(model: Knowing, after_output: Any) -> Told:
    """One that asks again behind another that does."""
    first = retry_stream(attempts=2, delay=2, jitter=float, budget=None)
    second = retry_stream(attempts=2, delay=8, jitter=float, budget=None, after_output=after_output)
    return Told(model.stream().pipe(first, timeouts(idle=60), second))


@virtual_time
async def test_who_asks_again_behind_another_asks_it_anew() -> None:
    model = Knowing(Scripted(BUSY))
    told = twice(model, "restart")
    await asyncio.sleep(80)
    assert told.story == [(4, "1 Retrying"), (16, "2 Retrying")]  # the other's are kept back, as all of an attempt is
    assert (told.ended_at, type(told.error)) == (16, Overloaded)


@virtual_time
async def test_who_asks_again_behind_another_goes_on_with_its_text_but_resumes_nothing() -> None:
    able = Knowing(Scripted([]), Scripted([1, "Hel", Disconnected("x")]), Scripted([1, "lo", DONE]))
    unable = Knowing(Scripted([]), Scripted([1, "Hel", Disconnected("x")]), "it cannot")
    told, refused, resumed = twice(able, "continue_"), twice(unable, "continue_"), twice(able, "resume")
    await asyncio.sleep(80)
    assert (told.completed, told.response.text, able.texts) == (True, "Hello", ["Hel", "Hel"])
    assert refused.failure.__notes__ == ["It was not continued: it cannot."]
    assert isinstance(resumed.error, ConfigurationError)


@virtual_time
async def test_when_nothing_helped_what_was_shown_last_is_kept() -> None:
    a = Track("a", CUT, CUT, CUT)
    b = Track("b", BUSY, BUSY, BUSY)
    told = Told(failover(a.stream, b.stream, after_output="restart").pipe(on_error_complete()))
    await asyncio.sleep(80)
    assert told.completed
    assert told.items[-1].error.kind == TracksFailed.__name__
    assert (told.response.text, told.response.usage.output_tokens) == ("half", 3)


@virtual_time
async def test_of_many_answers_each_has_its_own_attempts() -> None:
    both = [Track("a", CUT, whole("one")), Track("b", BUSY, CUT, whole("two"))]
    told = Told(merge(*(track.stream for track in both)))
    await asyncio.sleep(50)
    answers = Answers()
    for event in told.items:
        answers.add(event)
    found = answers.responses()
    assert {label: (answer.text, answer.attempts) for label, answer in found.items()} == {
        "a": ("one", 2),
        "b": ("two", 3),
    }
    assert {label: answer.usage.output_tokens for label, answer in found.items()} == {"a": 3, "b": 3}


@virtual_time
async def test_one_of_them_can_be_taken_out_whole() -> None:
    def make() -> Stream[Event]:
        tracks = [Track("a", CUT, whole("one")), Track("b", BUSY, CUT, whole("two"))]
        return merge(*(track.stream for track in tracks))

    assert {label: answer.text for label, answer in (await make().pipe(responses())).items()} == {
        "a": "one",
        "b": "two",
    }
    assert (await make().pipe(of_track("b"))).text == "two"


@virtual_time
async def test_a_loser_that_waits_to_ask_again_never_does() -> None:
    a, b = Track("a", BUSY, whole("a")), Track("b", whole("b", after=2))
    told = Told(race(a.stream, b.stream))
    await asyncio.sleep(50)
    assert (told.response.text, a.asked) == ("b", 1)


@pytest.mark.parametrize("at", [0.5, 1, 2, 3, 3.5, 4])
@pytest.mark.parametrize("make", ["race", "failover", "supersede"])
@virtual_time
async def test_disposed_at_any_moment_nothing_is_asked_any_more(make: str, at: float) -> None:
    a, b = Track("a", BUSY, [2, "a", HANG], BUSY), Track("b", BUSY, CUT, [HANG])
    told = Told(MAKES[make](a.stream, b.stream))
    await asyncio.sleep(at)
    told.subscription.dispose()
    heard, asked = len(told.items), (a.asked, b.asked)
    await asyncio.sleep(50)
    assert (len(told.items), (a.asked, b.asked), a.running + b.running) == (heard, asked, 0)
