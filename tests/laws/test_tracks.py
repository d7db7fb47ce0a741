"""What holds for every combination of tracks, whatever comes when, whoever fails or pauses when.

Those that keep every answer: each track's text is whole and in its order. Those that give one answer: it is the answer of one
of the tracks, once, or an error. Nothing comes while the gate is closed; there is one end; and when it is over, every
request is closed and nothing is left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rxstream import tracks
from rxstream.aggregate import Answers
from rxstream.dual import DualTrack
from rxstream.errors import Disconnected, StreamError, TracksFailed
from rxstream.events import Event, Failed, Finished
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.sources._pump import pump
from tests.support.scripted import DONE, Recorder, Scripted, raising
from tests.support.virtual_loop import settle, timers, virtual_time

Combination = Callable[..., Stream[Event]]

EVERY: dict[str, Combination] = {
    "merge": tracks.merge,
    "merge, one at a time": lambda *given: tracks.merge(*given, max_concurrency=1),
    "concat_ordered": tracks.concat_ordered,
    "concat_ordered, two ahead": lambda *given: tracks.concat_ordered(*given, ahead=2),
    "concat_unordered": tracks.concat_unordered,
    "interleave": tracks.interleave,
    "interleave, weighed": lambda *given: tracks.interleave(*given, weights=tuple(range(1, len(given) + 1))),
    "prioritize": tracks.prioritize,
    "prioritize, strict": lambda *given: tracks.prioritize(*given, strict=True),
    "align": tracks.align,
    "a merge of an align": lambda first, *rest: tracks.merge(first, tracks.align(*rest)),
    "an order of interleaves": lambda first, *rest: tracks.prioritize(
        tracks.interleave(*rest), tracks.interleave(first), strict=True
    ),
    "a row of orders": lambda first, *rest: tracks.concat_ordered(tracks.prioritize(*rest), first),
    "side by side": lambda first, second, *rest: tracks.merge(DualTrack(first, second, strategy="side_by_side"), *rest),
}
ONE: dict[str, Combination] = {
    "race": tracks.race,
    "hedge": lambda first, second, *_: tracks.hedge(first, second, after=1.0),
    "failover": tracks.failover,
    "failover, anew": lambda *given: tracks.failover(*given, after_output="restart"),
    "supersede": lambda first, second, *_: tracks.supersede(first, second),
    "supersede at the end": lambda first, second, *_: tracks.supersede(first, second, at="end"),
    "supersede, least edits": lambda first, second, *_: tracks.supersede(first, second, edits="minimal"),
    "best_of": lambda *given: tracks.best_of(*given, score=lambda response: len(response.text)),
    "vote": tracks.vote,
    "a race of a race": lambda first, *rest: tracks.race(first, tracks.race(*rest)),
    "a failover of a hedge": lambda first, second, *rest: tracks.failover(
        tracks.hedge(first, second, after=1.0), *(rest or (second,))
    ),
}

ANOTHER_ANSWERS = ("best_of", "vote")
"""Those that fail only if all their tracks do."""

texts = st.sampled_from(["a", "Hm. ", "wörd ", "日本。", "long " * 9])
script = st.tuples(
    st.lists(st.one_of(st.sampled_from([0.1, 0.7, 3.0]), texts), max_size=8), st.sampled_from(["done", "done", "error"])
)
scripts = st.lists(script, min_size=2, max_size=3)
moves = st.lists(
    st.tuples(st.sampled_from([0.0, 0.05, 0.3, 1.0, 5.0]), st.sampled_from(["hold", "release"])), max_size=6
)
thorough = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


class Trial:
    """One subscription to a combination of scripts, with a gate that is moved."""

    def __init__(self, combination: Combination, given: list[tuple[list[Any], str]]) -> None:
        self.texts = ["".join(step for step in steps if isinstance(step, str)) for steps, _ in given]
        self.failing = [end == "error" for _, end in given]
        self.scripts = [
            Scripted([*steps, DONE if end == "done" else raising(Disconnected("cut"))]) for steps, end in given
        ]
        self.recorder = Recorder()
        self.recorder.and_then = self._check
        self.answers = Answers()
        self.scheduler = LoopScheduler(gate=Gate())
        streams = [
            Stream.of(pump(one.source(label=f"t{number}")), label=f"t{number}")
            for number, one in enumerate(self.scripts)
        ]
        self.subscription = combination(*streams).subscribe(
            self.recorder.on_next, self.recorder.on_error, self.recorder.on_completed, scheduler=self.scheduler
        )

    def _check(self, item: Event) -> None:
        assert not self.scheduler.gate.closed, f"{item!r} came through a closed gate"
        self.answers.add(item)

    async def follow(self, moves: list[tuple[float, str]]) -> None:
        for wait, move in moves:
            await asyncio.sleep(wait)
            getattr(self.scheduler.gate, move)("test")

    async def to_the_end(self, moves: list[tuple[float, str]]) -> None:
        await self.follow(moves)
        self.scheduler.gate.release("test")
        await asyncio.sleep(10_000)
        self.nothing_is_left()
        assert self.recorder.ended_at is not None

    def nothing_is_left(self) -> None:
        assert [one.running for one in self.scripts] == [0 for _ in self.scripts]
        assert self.scheduler.gate.holds == ()
        assert not self.scheduler.gate._watchers
        assert all(not child.holds for child in self.scheduler.gate._children)
        assert timers() == []


@pytest.mark.parametrize("name", EVERY)
@thorough
@given(given=scripts, moves=moves)
def test_every_answer_is_whole_and_in_its_order(name: str, given: Any, moves: Any) -> None:
    @virtual_time
    async def check() -> None:
        trial = Trial(EVERY[name], given)
        await trial.to_the_end(moves)
        assert isinstance(trial.recorder.error, TracksFailed) == all(trial.failing)
        for number, (text, failing) in enumerate(zip(trial.texts, trial.failing, strict=True)):
            own = [event for event in trial.recorder.items if event.source == f"t{number}"]
            assert "".join(getattr(event, "text", "") for event in own) == text
            assert [event.seq for event in own] == list(range(len(own)))
            assert isinstance(own[-1], Failed if failing else Finished)

    check()


def answered_anew(texts: list[str], failing: list[bool]) -> tuple[str, bool]:
    """What `failover` that restarts comes to: the text that stands, and whether it is whole.

    A track that ends without a word has answered, but not where another's text stands: it takes nothing back, and has failed.
    """
    stands = ""
    for text, fails in zip(texts, failing, strict=True):
        if not fails and (text or not stands):
            return text, True
        stands = text or stands
    return stands, False


@pytest.mark.parametrize("name", ONE)
@thorough
@given(given=scripts, moves=moves)
def test_one_answer_is_that_of_one_track_and_whole(name: str, given: Any, moves: Any) -> None:
    @virtual_time
    async def check() -> None:
        trial = Trial(ONE[name], given)
        await trial.to_the_end(moves)
        assert trial.answers.count <= 1
        if trial.recorder.completed:
            response = trial.answers.response()
            whole = [text for text, failing in zip(trial.texts, trial.failing, strict=True) if not failing]
            assert response.text in whole
            assert response.finish_reason == "stop"
            assert isinstance(trial.recorder.items[-1], Finished)
        else:
            assert isinstance(trial.recorder.error, StreamError)
            assert any(trial.failing)
            assert all(trial.failing) or name not in ANOTHER_ANSWERS
            assert any(text.startswith(trial.answers.response().text) for text in trial.texts)
        if name == "failover, anew":
            came = trial.answers.response().text
            assert (came, trial.recorder.completed) == answered_anew(trial.texts, trial.failing)
            if not trial.recorder.completed:
                assert type(trial.recorder.error) is (Disconnected if trial.texts[-1] else TracksFailed)

    check()


@pytest.mark.parametrize("many", ["merge", "concat_unordered", "interleave", "align", "side by side"])
@pytest.mark.parametrize("one", ["race", "failover, anew", "supersede"])
@settings(thorough, max_examples=20)
@given(given=st.lists(script, min_size=3, max_size=3), moves=moves, swapped=st.booleans())
def test_one_answer_among_many_mixes_with_none(one: str, many: str, given: Any, moves: Any, swapped: bool) -> None:
    """Whoever of its tracks speaks, and at whatever attempt."""

    def nested(first: Stream[Event], second: Stream[Event], third: Stream[Event]) -> Stream[Event]:
        answer = ONE[one](first, second)
        return EVERY[many](third, answer) if swapped else EVERY[many](answer, third)

    @virtual_time
    async def check() -> None:
        trial = Trial(nested, given)
        await trial.to_the_end(moves)
        answers = trial.answers.responses()
        assert set(answers) == {"t0 | t1", "t2"}
        assert answers["t2"].text == trial.texts[2]
        if answers["t0 | t1"].finish_reason is not None:
            assert answers["t0 | t1"].text in trial.texts[:2]

    check()


@pytest.mark.parametrize("name", [*EVERY, *ONE])
@thorough
@given(given=scripts, moves=moves)
def test_disposed_at_any_moment_every_request_is_closed(name: str, given: Any, moves: Any) -> None:
    @virtual_time
    async def check() -> None:
        trial = Trial({**EVERY, **ONE}[name], given)
        await trial.follow(moves)
        trial.subscription.dispose()
        came = len(trial.recorder.items)
        trial.scheduler.gate.release("test")
        await settle()
        assert len(trial.recorder.items) == came
        trial.nothing_is_left()

    check()


@pytest.mark.parametrize("name", EVERY)
@virtual_time
async def test_endless_tracks_and_a_consumer_that_has_stopped_come_to_rest(name: str) -> None:
    trial = Trial(EVERY[name], [(["word "] * 100_000, "done"), (["wort "] * 100_000, "done")])
    trial.recorder.and_then = lambda _: trial.scheduler.gate.hold("test")
    await asyncio.sleep(1000)
    at_rest = [one.given for one in trial.scripts]
    await asyncio.sleep(1000)
    assert [one.given for one in trial.scripts] == at_rest
    assert max(at_rest) < 50_000
    trial.subscription.dispose()
    trial.scheduler.gate.release("test")
    await settle()
    trial.nothing_is_left()
