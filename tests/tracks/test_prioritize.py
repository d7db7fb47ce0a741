"""``prioritize``: several tracks at once, and the higher ones hold the lower ones back at their sources."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import abc
from reactivex.disposable import Disposable

from rxstream.errors import ConfigurationError, Disconnected, LimitExceeded, TracksFailed
from rxstream.events import Event, Heartbeat, TextDelta
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.tracks import prioritize
from tests.support.scripted import DONE, HANG, Step, words
from tests.support.tracks import BROKEN, Combination, Play, Plot, counting, law, plots
from tests.support.virtual_loop import settle, virtual_time


def having(**options: Any) -> Combination:
    def combination(*tracks: Stream[Event]) -> Stream[Event]:
        return prioritize(*tracks, **options)

    return combination


strictly = having(strict=True)


def numbers(play: Play, name: str) -> list[float]:
    """When the texts of a track came."""
    return [time for time, said in play.timed if said[0] == name]


# --- a strict order -----------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_lower_track_waits_at_its_source_until_the_higher_one_has_ended() -> None:
    """It has the time before the higher one's first word; then not one event more, and none is read."""
    play = Play(strictly, [2.25, *counting(5, every=0.5)], counting(20, every=0.5)).start()
    await asyncio.sleep(2.9)
    assert [time for time, _ in play.timed] == [0.5, 1, 1.5, 2, 2.5, 2.75]
    assert not play.gate.closed
    await asyncio.sleep(2)
    assert numbers(play, "a") == [2.75, 3.25, 3.75, 4.25, 4.75, 4.75]
    assert play.scripts[1].given == 6  # one was on its way, and has come to the gate
    await asyncio.sleep(20)
    assert numbers(play, "b")[:7] == [0.5, 1, 1.5, 2, 2.5, 4.75, 5.25]
    assert play.heard.completed
    play.assert_released()


@virtual_time
async def test_a_higher_track_that_is_idle_lets_the_lower_ones_go() -> None:
    """After `idle` seconds; and takes over with its next word."""
    play = Play(having(strict=True, idle=2.0), ["1", 0.5, "2", 6.25, "3", HANG], counting(50, every=1.0)).start()
    await asyncio.sleep(12)
    assert play.timed == [
        (0, "a1"), (0.5, "a2"), (3.5, "b1"), (4.5, "b2"), (5.5, "b3"), (6.5, "b4"), (6.75, "a3"), (8.75, "b5"),
        (9.75, "b6"), (10.75, "b7"), (11.75, "b8"),
    ]  # fmt: skip
    play.leave()
    await settle()
    play.assert_released()


@virtual_time
async def test_only_content_leads() -> None:
    """A track that says only that it lives holds nobody, and stays in the lead no longer."""
    beats: list[Step] = [step for _ in range(20) for step in (0.375, Heartbeat())]
    play = Play(having(strict=True, idle=1.0), [*beats[:2], 0.25, "1", *beats, HANG], counting(9, every=0.5)).start()
    await asyncio.sleep(3.25)
    assert numbers(play, "b") == [0.5, 1.625, 2.125, 2.625, 3.125]
    play.leave()
    await settle()


@virtual_time
async def test_nobody_waits_longer_than_max_wait_for_an_event() -> None:
    play = Play(
        having(strict=True, max_wait=3.0),
        ["0", *counting(40, every=0.5)],
        counting(9),
        [0.25, "1", "2", "3", 1.0, "4", 1.0, "5", HANG],
    ).start()
    await asyncio.sleep(15)
    assert numbers(play, "b") == [3, 6, 9, 12]
    assert numbers(play, "c") == [3.25, 6.25, 9.25, 13.25]
    play.leave()
    await settle()
    play.assert_released()


@virtual_time
async def test_who_was_let_go_keeps_its_event_when_another_takes_the_lead() -> None:
    """The two above take turns, and it needs three seconds for each event, as a model in the process does."""

    def slow(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        async def run() -> None:
            for number in range(20):
                await LoopScheduler.of(scheduler).gate.wait()
                await asyncio.sleep(3.0 if number else 0.0)
                await LoopScheduler.of(scheduler).gate.wait()
                observer.on_next(TextDelta(text=str(number), source="c", seq=number))

        task = asyncio.get_running_loop().create_task(run())

        def cancel() -> None:
            task.cancel()

        return Disposable(cancel)

    def combination(*tracks: Stream[Event]) -> Stream[Event]:
        return prioritize(*tracks, Stream(slow), strict=True, max_wait=10.0)

    play = Play(combination, words(*"a" * 40, every=2.1), words(*"b" * 99, every=0.5)).start()
    await asyncio.sleep(60)
    assert numbers(play, "c") == pytest.approx([0, 10.5, 23.5, 36.5, 49.5])
    play.leave()
    await settle()
    play.assert_released()


@virtual_time
async def test_three_ranks() -> None:
    """When the first leaves, the second has its turn alone before the third."""
    play = Play(
        having(strict=True, idle=1.0), ["1", 0.5, "2", DONE], [0.75, "1", 0.5, "2", DONE], counting(4, every=0.25)
    ).start()
    await asyncio.sleep(20)
    assert play.timed == [
        (0, "a1"), (0.5, "a2"), (0.5, "a."), (1.25, "b1"), (1.75, "b2"), (1.75, "b."), (2, "c1"), (2.25, "c2"),
        (2.5, "c3"), (2.75, "c4"), (2.75, "c."),
    ]  # fmt: skip


@virtual_time
async def test_who_was_held_has_idle_seconds_to_say_something() -> None:
    play = Play(having(strict=True, idle=1.0), ["1", 0.5, "2", DONE], [5.0, "1", DONE], counting(4, every=0.25)).start()
    await asyncio.sleep(20)
    assert numbers(play, "a") == [0, 0.5, 0.5]
    assert numbers(play, "b") == [5.5, 5.5]
    assert numbers(play, "c") == [1.75, 2, 2.25, 2.5, 2.5]


@virtual_time
async def test_when_nobody_leads_any_more_all_go_on() -> None:
    play = Play(
        having(strict=True, idle=1.0), ["1", HANG], [4.0, "1", 2.25, "2", HANG], [1.5, "1", 2.0, "2", 2.0, "3", HANG]
    ).start()
    await asyncio.sleep(20)
    assert play.timed == [(0, "a1"), (3.5, "c1"), (5, "b1"), (6, "c2"), (7.25, "b2"), (8.25, "c3")]
    play.leave()
    await settle()
    play.assert_released()


@virtual_time
async def test_nobody_is_idle_while_it_is_paused() -> None:
    """A consumer that does not take proves nothing about the track that leads. Who waits, waits all the same."""
    play = Play(
        having(strict=True, idle=1.0, max_wait=3.0), ["0", *counting(9, every=0.75)[:-1], HANG], counting(9)
    ).start()
    play.gate.hold("before")
    await asyncio.sleep(10)
    assert play.said == []
    play.gate.release("before")
    await asyncio.sleep(0.5)
    play.gate.hold("pause")
    await asyncio.sleep(50)
    play.gate.release("pause")
    await asyncio.sleep(8)
    assert numbers(play, "a") == [10, 60.5, 61.25, 62, 62.75, 63.5, 64.25, 65, 65.75, 66.5]
    assert numbers(play, "b")[:5] == [10, 60.5, 63.5, 66.5, 67.5], "held for 3 seconds; then the leader is idle"
    play.leave()
    await settle()
    play.assert_released()


@virtual_time
async def test_pauses_from_another_thread_that_come_all_at_once() -> None:
    play = Play(having(strict=True, idle=1.0), ["1", HANG], counting(9)).start()
    await asyncio.sleep(0.5)

    def flutter(*calls: str) -> None:
        thread = threading.Thread(target=lambda: [getattr(play.gate, call)("pause") for call in calls])
        thread.start()
        thread.join()

    flutter("hold", "release")
    await settle()
    flutter("hold", "release", "hold")
    await asyncio.sleep(5)
    flutter("release")
    await asyncio.sleep(2)
    assert play.timed[:2] == [(0, "a1"), (6, "b1")], "half a second before the pause, and half a second after it"
    play.leave()
    await settle()
    play.assert_released()


@virtual_time
async def test_with_a_slow_consumer_the_leader_is_heard_and_nobody_starves() -> None:
    """Its gate is open for moments only; the lower track gets its one event every `max_wait` seconds."""
    play = Play(having(strict=True, max_wait=5.0), [tuple(map(str, range(9999)))], counting(9999))
    play.start()
    for _ in range(80):
        await play.take(3)
    said = "".join(text[0] for text in play.said[3:])
    assert play.heard.times[-1] == 39.5
    assert said.count("b") == 7
    play.leave()
    await settle()


@virtual_time
async def test_who_begins_below_the_leader_says_one_event() -> None:
    play = Play(
        having(strict=True, max_concurrency=2, max_wait=2.0),
        ["0", *counting(40, every=0.5)],
        [DONE],
        counting(3),
        words("1"),
    ).start()
    await asyncio.sleep(3.25)
    assert [script.opened for script in play.scripts] == [1, 1, 1, 0]
    assert [(time, said) for time, said in play.timed if said[0] != "a"] == [(2, "b."), (2, "c1")]
    play.leave()
    await settle()
    play.assert_released()


@virtual_time
async def test_who_has_not_begun_is_not_waited_for() -> None:
    play = Play(having(strict=True, max_concurrency=2), ["1", DONE], [0.25, "1", DONE], ["1", DONE], [HANG]).start()
    await asyncio.sleep(1)
    assert play.timed == [(0, "a1"), (0, "a."), (0, "c1"), (0.25, "b1"), (0.25, "b."), (0.25, "c.")]
    play.leave()
    await settle()


# --- by weight ----------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_lower_track_gets_its_share_of_the_leaders_events() -> None:
    """However much it has to say, and however fast: here one event for every four."""
    play = Play(having(weights=(4, 1)), ["0", *counting(40, every=0.1)], [0.05, *counting(999)]).start()
    await asyncio.sleep(3.95)
    said = "".join(text[0] for text in play.said)
    assert said == "a" + "b" + "aaa" + "baaaa" * 9 + "b"
    await asyncio.sleep(10)
    assert play.heard.completed
    play.assert_released()


@virtual_time
async def test_each_has_half_the_rate_of_the_one_above_by_default() -> None:
    play = Play(
        prioritize,
        ["0", *counting(400, every=0.1)],
        [0.05, *counting(999)],
        [0.06, *counting(999)],
        [0.07, *counting(999)],
    ).start()
    await asyncio.sleep(39.98)
    counts = {name: sum(text[0] == name for text in play.said) for name in "abcd"}
    assert counts == {"a": 400, "b": 201, "c": 101, "d": 51}
    play.leave()
    await settle()
    play.assert_released()


@virtual_time
async def test_what_is_not_used_is_not_saved_up() -> None:
    """A track that was silent for long gets one event at once, and from then on its share."""
    play = Play(having(weights=(2, 1)), ["0", *counting(90, every=0.5)], [20.25, *counting(99)]).start()
    await asyncio.sleep(22.4)
    assert [said for time, said in play.timed if time > 20] == ["b1", "a41", "b2", "a42", "a43", "b3", "a44"]
    play.leave()
    await settle()


@virtual_time
async def test_a_slower_leader_slows_and_a_lower_weight_may_be_the_higher_track() -> None:
    play = Play(having(weights=(1, 3), max_wait=100.0), ["0", *counting(9, every=0.5)], [0.25, *counting(99)]).start()
    await asyncio.sleep(2.4)
    assert "".join(text[0] for text in play.said) == "a" + "bbbb" + "abbbabbbabbbabbb"
    play.leave()
    await settle()


@virtual_time
async def test_what_a_track_owes_it_owes_to_the_next_leader_too() -> None:
    play = Play(
        having(weights=(4, 4, 1)), [0.5, *counting(9, every=0.25)], ["0", 0.375, "1", HANG], [0.125, *counting(99)]
    ).start()
    await asyncio.sleep(1.6)
    assert play.said == ["b0", "c1", "b1", "a1", "a2", "c2", "a3", "a4"]
    play.leave()
    await settle()


@virtual_time
async def test_a_held_track_owes_no_more_than_one_event() -> None:
    """What it got because it had waited too long does not keep it from its share later."""
    steps: list[Step] = ["0", *[step for _ in range(10) for step in (0.9, "slow")], *counting(20, every=0.125)]
    play = Play(having(weights=(4, 1), max_wait=0.5), steps, [0.05, *counting(999)]).start()
    await asyncio.sleep(9.04)
    before = len(play.said)
    assert 15 <= sum(text[0] == "b" for text in play.said) <= 20
    await asyncio.sleep(1.9)
    later = [text[0] for text in play.said[before:]]
    assert later.count("b") >= later.count("a") // 4
    play.leave()
    await settle()


# --- in any order -------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_failure_ends_the_lead() -> None:
    play = Play(having(strict=True), ["1", 0.5, BROKEN], [0.125, *counting(2, every=0.125)]).start()
    await asyncio.sleep(10)
    assert play.timed == [(0, "a1"), (0.5, "a!"), (0.75, "b1"), (0.875, "b2"), (0.875, "b.")]
    assert play.heard.completed
    play = Play(strictly, [1.0, BROKEN], ["1", BROKEN]).start()
    await asyncio.sleep(10)
    assert play.said == ["b1", "b!", "a!"]
    assert isinstance(play.heard.error, TracksFailed)
    play.assert_released()


@pytest.mark.parametrize("combination", [prioritize, strictly])
@pytest.mark.parametrize("when", [0.0, 0.5, 1.0, 1.5, 2.5])
@virtual_time
async def test_leaving_closes_all(combination: Combination, when: float) -> None:
    play = Play(combination, words("1", "2", "3"), counting(9, every=0.25), [1.0, "1", HANG]).start()
    await asyncio.sleep(when)
    play.leave()
    count = len(play.said)
    await asyncio.sleep(30)
    assert (len(play.said), play.heard.ended_at) == (count, None)
    play.assert_released()


@virtual_time
async def test_a_consumer_that_is_stopped_stops_all() -> None:
    play = Play(prioritize, counting(9999), counting(9999))
    play.heard.room = 1
    play.start()
    await asyncio.sleep(100)
    assert len(play.said) == 1
    assert sum(script.given for script in play.scripts) <= 3
    play.leave()
    await settle()
    play.assert_released()


@virtual_time
async def test_a_source_that_knows_no_gate_is_not_slowed() -> None:
    subject = rx.subject.Subject[Event]()
    play = Play(lambda high: prioritize(high, subject, strict=True), ["1", HANG]).start()
    await settle()
    subject.on_next(TextDelta(source="s", text="1"))
    subject.on_next(TextDelta(source="s", text="2"))
    assert play.said == ["a1", "s1", "s2"]
    play.gate.hold("consumer")
    for _ in range(65_537):
        subject.on_next(TextDelta(source="s", text="x"))
    play.gate.release("consumer")
    await settle()
    assert isinstance(play.heard.error, LimitExceeded)
    play.assert_released()


@virtual_time
async def test_one_that_fails_while_it_is_held_is_held_no_more() -> None:
    subject = rx.subject.Subject[Event]()
    play = Play(lambda high: prioritize(high, subject, strict=True), ["1", HANG]).start()
    await settle()
    subject.on_next(TextDelta(source="s", text="1"))
    assert [child.holds for child in play.gate._children] == [(), ("priority",)]
    subject.on_error(Disconnected("gone"))
    assert [child.holds for child in play.gate._children] == [(), ()]
    assert play.said == ["a1", "s1", "s!"]
    play.leave()
    await settle()


@virtual_time
async def test_no_timer_stays_behind() -> None:
    play = Play(strictly, ["1", HANG], ["1", HANG]).start()
    await settle()
    play.leave()
    await settle()
    timers: list[asyncio.TimerHandle] = vars(asyncio.get_running_loop())["_scheduled"]
    assert all(timer.cancelled() for timer in timers)


@virtual_time
async def test_subscribing_again_starts_afresh() -> None:
    play = Play(strictly, counting(1), [1.0, *counting(1)]).start()
    await asyncio.sleep(5)
    play.heard.ended_at = None
    play.start()
    await asyncio.sleep(5)
    assert play.said == ["a1", "a.", "b1", "b."] * 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": (1, 2)}, "weights=.* one for each of the 1 tracks"),
        ({"weights": (-1,)}, r"weights\[0\]=-1"),
        ({"weights": (1,), "strict": True}, "strict= or weights="),
        ({"idle": 0}, "idle=0"),
        ({"max_wait": math.nan}, "max_wait=nan"),
        ({"max_concurrency": 0}, "max_concurrency=0"),
    ],
)
def test_what_is_wrong_is_said_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        prioritize(rx.empty(), **options)
    with pytest.raises(ConfigurationError, match="0 tracks"):
        prioritize()


@given(plots, st.none() | st.integers(1, 3), st.booleans(), st.sampled_from([0.5, 2.0]), st.sampled_from([0.5, 2.0]))
def test_nothing_is_lost_doubled_or_left_open(
    plot: Plot, most: int | None, strict: bool, idle: float, max_wait: float
) -> None:
    law(having(max_concurrency=most, strict=strict, idle=idle, max_wait=max_wait), plot)


@given(
    share=st.sampled_from([1, 2, 4, 8]),
    high=st.lists(st.sampled_from([0.125, 0.25, 0.5]), min_size=10, max_size=60),
    low=st.lists(st.sampled_from([0.0, 0.0, 0.125, 1.0]), min_size=10, max_size=60),
)
def test_the_bound_of_what_a_lower_track_gets(share: int, high: list[float], low: list[float]) -> None:
    """Of n events of the leader in a row, at most (n + 1) / share + 1, whatever either of them does."""

    @virtual_time
    async def main() -> None:
        scripts: list[list[Step]] = [
            [step for wait in waits for step in ([wait, "x"] if wait else ["x"])] for waits in (["0"] and high, low)
        ]
        play = Play(
            having(weights=(share, 1), max_wait=1000.0), ["first", *scripts[0], HANG], [0.05, *scripts[1], HANG]
        )
        play.start()
        await asyncio.sleep(sum(high))
        said = [text[0] for text in play.said]
        for start in range(len(said)):
            for end in range(start, len(said)):
                stretch = said[start : end + 1]
                assert stretch.count("b") <= (stretch.count("a") + 1) / share + 1
        play.leave()

    main()
