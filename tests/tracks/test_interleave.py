"""``interleave``: several tracks at once, each with its share."""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
from typing import Any, Literal

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import ConfigurationError, TracksFailed
from rxstream.events import Event, Failed, Heartbeat, TextDelta, ToolCallDelta
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.tracks import interleave
from tests.support.scripted import DONE, HANG, Scripted, Step, words
from tests.support.tracks import BROKEN, Combination, Play, Plot, counting, law, plots, track
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time


def having(**options: Any) -> Combination:
    def combination(*tracks: Stream[Event]) -> Stream[Event]:
        return interleave(*tracks, **options)

    return combination


async def stopped(combination: Combination, *scripts: list[Step]) -> Play:
    """Tracks that have been read ahead as far as may be, and a consumer that has taken nothing yet."""
    play = Play(combination, *scripts)
    play.gate.hold("consumer")
    play.start()
    await asyncio.sleep(0.5)
    assert play.said == []
    return play


@virtual_time
async def test_nothing_is_late_for_a_consumer_that_keeps_up() -> None:
    play = Play(having(weights=(5, 1)), words("1", "2", every=2.0), words("1", "2", "3", every=1.5)).start()
    await asyncio.sleep(10)
    assert play.timed == [(1.5, "b1"), (2, "a1"), (3, "b2"), (4, "a2"), (4, "a."), (4.5, "b3"), (4.5, "b.")]
    assert (play.heard.completed, play.heard.ended_at) == (True, 4.5)
    play.assert_released()


@virtual_time
async def test_who_waits_is_served_in_turns() -> None:
    play = await stopped(interleave, counting(9), counting(9), counting(9))
    assert await play.take(7) == ["a1", "b1", "c1", "a2", "b2", "c2", "a3"]
    assert await play.take(3) == ["b3", "c3", "a4"]
    play.leave()


@virtual_time
async def test_by_weight() -> None:
    play = await stopped(having(weights=(1, 0.5)), counting(9), counting(9))
    assert await play.take(7) == ["a1", "a2", "b1", "a3", "a4", "b2", "a5"]
    play.leave()
    play = await stopped(having(weights=(1.5, 1)), counting(9), counting(9))
    assert await play.take(10) == ["a1", "b1", "a2", "a3", "b2", "a4", "b3", "a5", "a6", "b4"]
    play.leave()


@virtual_time
async def test_who_has_nothing_to_say_costs_the_others_nothing() -> None:
    """And earns no right to say it all at once later."""
    play = await stopped(interleave, counting(90), [5.0, *counting(9)])
    assert await play.take(3) == ["a1", "a2", "a3"]
    await asyncio.sleep(5)
    assert await play.take(5) == ["b1", "a4", "b2", "a5", "b3"]
    play.leave()


@virtual_time
async def test_what_is_left_of_a_turn_is_lost_with_nothing_to_say() -> None:
    play = await stopped(having(weights=(5, 1)), ["1", 5.0, *"abcdefghij", HANG], counting(90))
    assert await play.take(3) == ["a1", "b1", "b2"]
    await asyncio.sleep(5)
    assert "".join(text[0] for text in await play.take(9)) == "aaaaabaaa"
    play.leave()


@virtual_time
async def test_the_next_in_turn_follows_who_has_said_all() -> None:
    play = await stopped(interleave, ["1", HANG], counting(9), counting(9))
    assert await play.take(5) == ["a1", "b1", "c1", "b2", "c2"]
    play.leave()


@virtual_time
async def test_by_characters() -> None:
    """A turn is 16 characters of any kind; what is left of it is kept for the next turn."""
    ten: list[Step] = [TextDelta(text=number * 10) for number in "1234"]
    tool: list[Step] = [ToolCallDelta(arguments="x" * 32), Heartbeat()]
    play = await stopped(having(by="characters"), [*ten, DONE], [*tool, DONE])
    await play.take(99)
    shown = [(event.source, type(event).__name__) for event in play.heard.items]
    assert shown == [
        ("a", "TextDelta"), ("a", "TextDelta"), ("a", "TextDelta"), ("b", "ToolCallDelta"), ("a", "TextDelta"),
        ("a", "Finished"), ("b", "Heartbeat"), ("b", "Finished"),
    ]  # fmt: skip


@virtual_time
async def test_an_event_far_above_a_turn_does_not_lock_the_loop() -> None:
    """The rounds in which nobody could say anything are skipped."""
    huge = [TextDelta(text="x" * 50_000_000), TextDelta(text="x" * 100_000_000)]
    play = await stopped(having(by="characters"), [huge[1], DONE], [huge[0], DONE])
    calls = 0

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(called)
    try:
        await play.take(99)
    finally:
        sys.setprofile(None)
    assert calls < 10_000  # of three million rounds
    assert [event.source for event in play.heard.items] == ["b", "b", "a", "a"]


@virtual_time
async def test_a_track_waits_at_its_source_when_it_is_far_ahead() -> None:
    play = await stopped(having(ahead=10), counting(1000), counting(1000))
    assert all(10 <= script.given <= 11 for script in play.scripts)
    assert len(await play.take(8)) == 8
    assert all(10 <= script.given <= 11 for script in play.scripts)
    assert len(await play.take(2)) == 2  # half of what waited is gone: it is filled up
    assert all(15 <= script.given <= 16 for script in play.scripts)
    play.leave()
    await settle()
    play.assert_released()


@virtual_time
async def test_a_pause_lets_tracks_be_read_ahead_but_nothing_out() -> None:
    play = Play(having(ahead=3), words("1", "2", "3", "4", "5"), words("1", "2")).start()
    await asyncio.sleep(1.5)
    play.gate.hold("pause")
    await asyncio.sleep(20)
    assert play.said == ["a1", "b1"]
    assert play.scripts[0].given == 4
    play.gate.release("pause")
    await asyncio.sleep(10)
    assert play.timed[2:7] == [(21.5, "a2"), (21.5, "b2"), (21.5, "a3"), (21.5, "b."), (21.5, "a4")]
    assert play.timed[7:] == [(22.5, "a5"), (22.5, "a.")]
    assert not play.heard.intruders


@virtual_time
async def test_what_sources_have_read_ahead_is_seen_at_its_gate() -> None:
    scripts = [Scripted(counting(100)), Scripted(counting(100))]
    scheduler = LoopScheduler()
    scheduler.gate.hold("pause")
    tracks = (track(script, read_ahead=7) for script in scripts)
    subscription = interleave(*tracks, ahead=3).subscribe(scheduler=scheduler)
    await asyncio.sleep(1)
    assert scheduler.gate.read_ahead == 14
    assert [script.given for script in scripts] == [10, 10]
    subscription.dispose()
    await settle()
    assert scheduler.gate.read_ahead == 0


@virtual_time
async def test_a_failure_comes_after_what_waits_of_the_track() -> None:
    play = await stopped(interleave, ["1", "2", BROKEN], counting(2))
    assert await play.take(99) == ["a1", "b1", "a2", "b2", "a!", "b."]
    assert play.heard.completed


@virtual_time
async def test_it_fails_when_all_have_failed_after_what_waits() -> None:
    play = await stopped(interleave, ["1", BROKEN], [BROKEN])
    assert play.heard.ended_at is None
    assert await play.take(3) == ["a1", "b!", "a!"]
    assert play.heard.ended_at is None
    play.gate.release("consumer")
    await settle()
    assert isinstance(play.heard.error, TracksFailed)


@virtual_time
async def test_a_handler_that_is_slow_is_shared_out_too() -> None:
    """It never closes its gate; it takes the loop's time instead."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    play = Play(having(weights=(3, 1)), counting(1000), counting(1000))

    def slow(event: Event) -> None:
        loop.advance(0.002)
        play.heard.on_next(event)

    play.stream.pipe(rx.operators.take(400)).subscribe(slow, scheduler=play.scheduler)
    await asyncio.sleep(100)
    share = sum(event.source == "a" for event in play.heard.items[:400])
    assert 270 <= share <= 330


@virtual_time
async def test_what_a_handler_brings_about_comes_after_it() -> None:
    subject = rx.subject.Subject[Event]()
    heard: list[str] = []

    def hear(event: Event) -> None:
        assert isinstance(event, TextDelta)
        if event.text == "1":
            subject.on_next(TextDelta(text="2"))
            subject.on_completed()
        heard.append(event.text)

    interleave(subject).subscribe(hear, None, lambda: heard.append("end"))
    subject.on_next(TextDelta(text="1"))
    await settle()
    assert heard == ["1", "2", "end"]


@virtual_time
async def test_a_source_that_does_not_stop_fails_alone() -> None:
    subject = rx.subject.Subject[Event]()
    play = await stopped(lambda other: interleave(subject, other, ahead=10), counting(1))
    for number in range(70_000):
        subject.on_next(TextDelta(source="s", text=str(number)))
    play.gate.release("consumer")
    await asyncio.sleep(1)
    failed = [event for event in play.heard.items if isinstance(event, Failed)]
    assert [event.error.kind for event in failed] == ["LimitExceeded"]
    assert len(play.said) == 65_536 + 11 + 1 + 2
    assert play.heard.completed


@pytest.mark.parametrize("when", [0.0, 0.5, 1.0, 1.5, 2.5])
@virtual_time
async def test_leaving_closes_all(when: float) -> None:
    play = Play(having(ahead=2), words("1", "2", "3"), ["0", 1.0, "1", "2", "3", HANG])
    play.heard.room = 2
    play.start()
    await asyncio.sleep(when)
    play.leave()
    count = len(play.said)
    await asyncio.sleep(10)
    assert (len(play.said), play.heard.ended_at) == (count, None)
    play.assert_released()


@virtual_time
async def test_leaving_from_within_a_handler() -> None:
    play = Play(interleave, counting(9), counting(9))
    play.stream.pipe(rx.operators.take(3)).subscribe(play.heard.on_next, scheduler=play.scheduler)
    await asyncio.sleep(1)
    assert len(play.said) == 3
    play.assert_released()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": (1, 2)}, "weights=.* one for each of the 1 tracks"),
        ({"weights": 2}, "weights=2: must be one for each of the 1 tracks"),
        ({"weights": (0,)}, r"weights\[0\]=0"),
        ({"weights": (math.inf,)}, r"weights\[0\]=inf"),
        ({"by": "words"}, "by='words': must be one of events, characters"),
        ({"ahead": 0}, "ahead=0"),
        ({"max_concurrency": 0}, "max_concurrency=0"),
    ],
)
def test_what_is_wrong_is_said_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        interleave(rx.empty(), **options)
    with pytest.raises(ConfigurationError, match="0 tracks"):
        interleave()


@given(plots, st.integers(1, 5), st.none() | st.integers(1, 3), st.sampled_from(["events", "characters"]))
def test_nothing_is_lost_doubled_or_left_open(plot: Plot, ahead: int, most: int | None, by: str) -> None:
    weights = [number + 0.5 for number in range(len(plot.tracks))]
    law(having(ahead=ahead, max_concurrency=most, by=by, weights=weights), plot)


@given(
    weights=st.lists(st.sampled_from([0.1, 0.3, 1.0, 1.5, 2.0, 7.0]), min_size=2, max_size=4),
    by=st.sampled_from(["events", "characters"]),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=7),
    sips=st.lists(st.integers(1, 15), min_size=3, max_size=12),
)
def test_the_bound_of_unfairness(
    weights: list[float], by: Literal["events", "characters"], sizes: list[int], sips: list[int]
) -> None:
    """Of tracks that always have something waiting, over any stretch of what comes."""

    @virtual_time
    async def main() -> None:
        endless: list[Step] = [TextDelta(text="x" * size) for size in sizes * 1000]
        play = await stopped(having(weights=weights, by=by), *[endless for _ in weights])
        for sip in sips:
            await play.take(sip)
        play.leave()
        turn, largest = (1, 1) if by == "events" else (16, max(sizes))
        shares = {name: weight / min(weights) for name, weight in zip("abcd", weights, strict=False)}
        given: dict[str, list[float]] = {name: [0.0] for name in shares}
        for event in play.heard.items:
            assert isinstance(event, TextDelta)
            for name, so_far in given.items():
                size = 0 if name != event.source else 1 if by == "events" else len(event.text)
                so_far.append(so_far[-1] + size / shares[name])
        for one, other in itertools.combinations(shares, 2):
            apart = [a - b for a, b in zip(given[one], given[other], strict=True)]
            assert max(apart) - min(apart) <= turn + largest / shares[one] + largest / shares[other] + 1e-9

    main()
