"""``compare``: tracks side by side in figures, while they run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxstream.comparison import Comparison, compare_responses
from rxstream.errors import ConfigurationError
from rxstream.events import UsageReported
from rxstream.loop import LoopScheduler
from rxstream.snapshot import Snapshot
from rxstream.tracks import compare
from rxstream.usage import Usage
from tests.support.scripted import DONE, HANG, Recorder, Scripted, Step, words
from tests.support.tracks import BROKEN, track
from tests.support.virtual_loop import settle, virtual_time


async def heard_of(*scripts: list[Step], seconds: float = 100.0, **options: Any) -> tuple[Recorder, list[Scripted]]:
    made, heard = [Scripted(steps) for steps in scripts], Recorder()
    tracks = (track(script, name) for script, name in zip(made, "abc", strict=False))
    scheduler = LoopScheduler()
    subscription = compare(*tracks, **options).subscribe(
        heard.on_next, heard.on_error, heard.on_completed, scheduler=scheduler
    )
    await asyncio.sleep(seconds)
    subscription.dispose()
    await settle()
    assert [script.running for script in made] == [0] * len(made)
    assert not scheduler.gate._watchers
    return heard, made


@virtual_time
async def test_while_they_run() -> None:
    a = words("The ", "sky ", "is ", "blue.", every=0.5)
    heard, _ = await heard_of(a, [1.25, "The sky ", 1.0, "was blue.", 1.0, DONE], every=1.125)
    assert heard.times == [0.5, 1.625, 2.75, 3.25]
    one, two, three, last = heard.items
    assert [found.elapsed for found in heard.items] == [0.5, 1.625, 2.75, 3.25]
    assert [found.done for found in heard.items] == [False, False, False, True]
    assert (one.first_to_speak, one.lead, one.pairs[0].similarity) == ("a", None, None)
    assert (two.first_to_speak, two.lead, two.track("b").behind) == ("a", 0.75, 0.75)
    assert (two.pairs[0].similarity, two.pairs[0].overlap) == (4 / 5, 1)  # The sky is, The sky
    assert two.pairs[0].divergence is None
    parted = three.pairs[0].divergence
    assert (parted.offset, parted.first, parted.second) == (8, "is blue.", "was blue.")
    assert three.track("a").outputs_per_second == 4 / 1.5
    assert three.track("a").status == "completed"
    assert (last.pairs[0].similarity, last.pairs[0].agreement) == (0.8, 1)
    assert (heard.completed, heard.ended_at) == (True, 3.25)


@virtual_time
async def test_a_track_that_fails_is_in_it_and_all_may() -> None:
    heard, _ = await heard_of([1.0, "x", BROKEN], [2.0, BROKEN])
    assert heard.completed
    last: Comparison = heard.items[-1]
    assert last.done
    assert [one.status for one in last.tracks] == ["failed", "failed"]
    assert [str(one.error).split(":")[0] for one in last.tracks] == ["Disconnected", "Disconnected"]


@virtual_time
async def test_four_times_a_second_if_nothing_is_said() -> None:
    heard, _ = await heard_of(words(*"abcdefgh", every=0.125), [HANG], seconds=50)
    assert heard.times == [0.125, 0.375, 0.625, 0.875, 1.125]


@virtual_time
async def test_a_score_that_raises_ends_it_and_closes_all() -> None:
    def score(state: Snapshot) -> float:
        return 1 / len(state.text)  # there is none yet

    heard, scripts = await heard_of([1.0, "x", HANG], [HANG], score=score)
    assert isinstance(heard.error, ZeroDivisionError)
    assert heard.ended_at == 1
    assert all(script.closed for script in scripts)


@virtual_time
async def test_its_options_are_used() -> None:
    heard, _ = await heard_of(
        ["A b c d.", DONE], ["A b c x.", DONE], score=lambda state: len(state.text), threshold=0.9
    )
    last: Comparison = heard.items[-1]
    assert last.track("b").score == 8
    assert last.pairs[0].agreement == 0


@virtual_time
async def test_two_subscriptions_know_nothing_of_each_other() -> None:
    stream = compare(track(Scripted(words("a", "b")), "a"), track(Scripted(words("a", "b")), "b"))
    first, second = Recorder(), Recorder()
    stream.subscribe(first.on_next, first.on_error, first.on_completed)
    await asyncio.sleep(0.5)
    stream.subscribe(second.on_next, second.on_error, second.on_completed)
    await asyncio.sleep(10)
    assert first.items == second.items
    assert [at + 0.5 for at in first.times] == second.times


@virtual_time
async def test_nothing_comes_while_the_gate_is_closed() -> None:
    scheduler, heard = LoopScheduler(), Recorder()
    scripts = [Scripted(words("a", "b", "c")) for _ in range(2)]
    compare(*map(track, scripts)).subscribe(heard.on_next, heard.on_error, heard.on_completed, scheduler=scheduler)
    await asyncio.sleep(1.5)
    count = len(heard.items)
    scheduler.gate.hold("pause")
    await asyncio.sleep(10)
    assert len(heard.items) == count
    scheduler.gate.release("pause")
    await asyncio.sleep(10)
    assert heard.items[-1].done


@pytest.mark.parametrize(
    ("options", "said"),
    [({"every": 0}, "every=0"), ({"threshold": 2}, "threshold=2"), ({"threshold": -1}, "threshold=-1")],
)
def test_what_is_wrong_is_said_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        compare(rx.empty(), rx.empty(), **options)
    with pytest.raises(ConfigurationError, match="1 tracks were given; at least 2"):
        compare(rx.empty())


_texts = st.lists(st.sampled_from(["The ", "sky", " is blue", ". ", '{"a": ', "1", "}"]), max_size=8)
_waits = st.lists(st.sampled_from([0.0, 0.1, 0.3]), min_size=8, max_size=8)


@given(st.lists(st.tuples(_texts, _waits), min_size=2, max_size=3), st.sampled_from([0.05, 0.25, 1.0]))
def test_in_the_end_it_says_of_the_texts_what_is_said_of_finished_answers(
    tracks: list[tuple[list[str], list[float]]], every: float
) -> None:
    """However they grew, and however often they were compared."""

    @virtual_time
    async def main() -> None:
        scripts: list[list[Step]] = []
        usage = UsageReported(usage=Usage(provenance="reported", input_tokens=1, output_tokens=2))
        for texts, waits in tracks:
            steps: list[Step] = []
            for wait, text in zip(waits, texts, strict=False):
                steps += [wait, text]
            scripts.append([*steps, usage, DONE])
        heard, _ = await heard_of(*scripts, every=every)
        last: Comparison = heard.items[-1]
        responses = {name: await track(Scripted(script), name) for name, script in zip("abc", scripts, strict=False)}
        finished = compare_responses(responses)
        assert last.pairs == finished.pairs
        words_and_tokens = {"characters", "words", "sentences", "output_tokens", "cost", "finish_reason", "status"}
        assert [one.model_dump(include=words_and_tokens) for one in last.tracks] == [
            one.model_dump(include=words_and_tokens) for one in finished.tracks
        ]

    main()
