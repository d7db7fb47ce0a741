"""``combine_tracks``: the state of all tracks, whenever one of them changes."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import abc

from rxstream.conversion import from_iterable
from rxstream.errors import Cancelled, ConfigurationError
from rxstream.events import Event, Finished, Heartbeat, Retracted, Started, TextDelta, ThinkingDelta, UsageReported
from rxstream.loop import LoopScheduler
from rxstream.snapshot import Snapshot
from rxstream.tracks import combine_tracks, merge
from rxstream.usage import Usage
from tests.support.scripted import DONE, HANG, Recorder, Scripted, Step, raising, words
from tests.support.tracks import BROKEN, counting, track
from tests.support.virtual_loop import settle, virtual_time

States = dict[str, Snapshot]


class Watched:
    """A combination of scripts, subscribed."""

    def __init__(self, *scripts: list[Step], every: float | None = None) -> None:
        self.scripts = [Scripted(steps) for steps in scripts]
        tracks = (track(script, name) for script, name in zip(self.scripts, "abc", strict=False))
        self.stream = combine_tracks(*tracks, every=every)
        self.scheduler = LoopScheduler()
        self.gate = self.scheduler.gate
        self.heard = Recorder()
        self.intruders: list[object] = []

    def start(self) -> Watched:
        self.subscription: abc.DisposableBase = self.stream.subscribe(
            self._hear, self.heard.on_error, self.heard.on_completed, scheduler=self.scheduler
        )
        return self

    def _hear(self, states: States) -> None:
        if self.gate.closed:
            self.intruders.append(states)
        self.heard.on_next(states)

    @property
    def timed(self) -> list[tuple[float, str]]:
        """When, and the text of each track."""
        texts = ("|".join(state.text for state in states.values()) for states in self.heard.items)
        return list(zip(self.heard.times, texts, strict=True))

    @property
    def last(self) -> States:
        last: States = self.heard.items[-1]
        return last

    def assert_released(self) -> None:
        assert [script.running for script in self.scripts] == [0] * len(self.scripts)
        assert not self.gate._watchers
        assert self.gate.holds == ()


@virtual_time
async def test_the_state_of_all_whenever_one_changes() -> None:
    watched = Watched([1.0, "Hi", 2.0, "!", DONE], [2.0, "Yo", 2.5, BROKEN]).start()
    await asyncio.sleep(10)
    assert watched.timed == [(1, "Hi|"), (2, "Hi|Yo"), (3, "Hi!|Yo"), (3, "Hi!|Yo"), (3, "Hi!|Yo"), (4.5, "Hi!|Yo")]
    statuses = [tuple(state.status for state in states.values()) for states in watched.heard.items]
    assert statuses == [
        ("active", "waiting"),
        *[("active", "active")] * 3,
        ("completed", "active"),
        ("completed", "failed"),
    ]
    assert [states["a"].finish_reason for states in watched.heard.items] == [None, None, None, "stop", "stop", "stop"]
    a, b = watched.last.values()
    assert (a.label, a.first_output, a.last_output, a.ended, a.outputs) == ("a", 1, 3, 3, 2)
    assert (b.label, b.first_output, b.last_output, b.ended, b.outputs) == ("b", 2, 2, 4.5, 1)
    assert b.error is not None
    assert (a.error, b.error.kind) == (None, "Disconnected")
    assert (watched.heard.completed, watched.heard.ended_at) == (True, 4.5)
    watched.assert_released()


@virtual_time
async def test_times_are_those_since_the_subscription() -> None:
    await asyncio.sleep(100)
    watched = Watched([1.0, "x", 0.5, DONE]).start()
    await asyncio.sleep(10)
    assert (watched.last["a"].first_output, watched.last["a"].ended) == (1, 1.5)


@virtual_time
async def test_what_is_no_change_makes_no_item() -> None:
    usage = UsageReported(usage=Usage(provenance="partial", output_tokens=1))
    watched = Watched([Heartbeat(), Heartbeat(), Started(model="m"), ThinkingDelta(text="?"), usage, HANG]).start()
    await asyncio.sleep(1)
    assert [
        (state["a"].model, state["a"].outputs, state["a"].usage.output_tokens) for state in watched.heard.items
    ] == [
        ("", 0, None),
        ("m", 0, None),
        ("m", 1, None),
        ("m", 1, 1),
    ]
    watched.subscription.dispose()


@virtual_time
async def test_what_is_taken_back_is_gone_and_earlier_states_have_it() -> None:
    watched = Watched(["Hello", Retracted(to_offset=1), TextDelta(text="i", attempt=2), DONE]).start()
    await settle()
    assert [text for _, text in watched.timed][:3] == ["Hello", "H", "Hi"]


@virtual_time
async def test_at_most_so_often_the_first_at_once_and_the_last_in_the_end() -> None:
    watched = Watched(words("1", "2", "3", "4", "5", "6", every=0.5), [0.75, "x", HANG], every=1.125).start()
    await asyncio.sleep(10)
    assert watched.timed == [(0.5, "1|"), (1.625, "123|x"), (2.75, "12345|x"), (3.875, "123456|x")]
    assert [states["a"].status for states in watched.heard.items] == ["active", "active", "active", "completed"]
    watched.subscription.dispose()


@virtual_time
async def test_the_end_waits_for_no_clock() -> None:
    watched = Watched(words("1", "2", every=0.25), every=60.0).start()
    await asyncio.sleep(1)
    assert watched.timed == [(0.25, "1"), (0.5, "12")]
    assert watched.last["a"].status == "completed"
    assert watched.heard.ended_at == 0.5


@virtual_time
async def test_silence_makes_no_items() -> None:
    watched = Watched([1.0, "x", 50.0, "y", HANG], every=0.5).start()
    await asyncio.sleep(100)
    assert watched.timed == [(1, "x"), (51, "xy")]
    watched.subscription.dispose()


@virtual_time
async def test_while_the_gate_is_closed_tracks_wait_and_the_last_state_is_enough() -> None:
    subject = rx.subject.Subject[Event]()
    script, heard = Scripted(counting(9, every=1.0)), Recorder()
    scheduler = LoopScheduler()
    combine_tracks(subject, track(script, "b")).subscribe(
        heard.on_next, heard.on_error, heard.on_completed, scheduler=scheduler
    )
    await asyncio.sleep(1.5)
    scheduler.gate.hold("pause")
    for _ in range(1000):
        subject.on_next(TextDelta(text="x"))
    subject.on_completed()
    await asyncio.sleep(100)
    assert len(heard.items) == 1
    assert script.given <= 2
    scheduler.gate.release("pause")
    await settle()
    assert len(heard.items[1]["track-1"].text) == 1000
    assert heard.items[1]["track-1"].status == "completed"
    await asyncio.sleep(100)
    assert heard.completed
    assert heard.items[-1]["b"].text == "123456789"


@virtual_time
async def test_a_clock_that_rings_while_the_gate_is_closed() -> None:
    watched = Watched(words("1", "2", every=0.4), every=1.0).start()
    await asyncio.sleep(0.5)
    watched.gate.hold("pause")
    await asyncio.sleep(5)
    assert watched.timed == [(0.4, "1")]
    watched.gate.release("pause")
    await asyncio.sleep(5)
    assert watched.timed[-1][1] == "12"
    assert not watched.intruders
    assert watched.heard.completed
    watched.assert_released()


@virtual_time
async def test_a_track_that_somebody_cancelled_and_all_that_fail() -> None:
    """The combination completes: what became of each is in its state."""
    watched = Watched([1.0, raising(Cancelled("enough"))], [2.0, BROKEN]).start()
    await asyncio.sleep(10)
    assert [state.status for state in watched.last.values()] == ["cancelled", "failed"]
    assert watched.heard.completed


@virtual_time
async def test_labels_that_are_the_same() -> None:
    heard: list[States] = []
    combine_tracks(track(Scripted([DONE]), "x"), track(Scripted([DONE]), "x"), rx.empty()).subscribe(heard.append)
    await settle()
    assert list(heard[-1]) == ["x", "x-2", "track-3"]


def timers() -> list[asyncio.TimerHandle]:
    """What the loop will still call one day."""
    scheduled: list[asyncio.TimerHandle] = vars(asyncio.get_running_loop())["_scheduled"]
    return [timer for timer in scheduled if not timer.cancelled()]


@pytest.mark.parametrize("every", [None, 0.5])
@pytest.mark.parametrize("when", [0.0, 0.5, 1.0, 1.6, 2.5])
@virtual_time
async def test_leaving_closes_all(when: float, every: float | None) -> None:
    watched = Watched(words("1", "2", "3", every=0.75), [0.5, "x", HANG], every=every).start()
    await asyncio.sleep(when)
    watched.subscription.dispose()
    count = len(watched.heard.items)
    await settle()
    assert timers() == []
    await asyncio.sleep(10)
    assert (len(watched.heard.items), watched.heard.ended_at) == (count, None)
    watched.assert_released()


@virtual_time
async def test_nothing_comes_once_another_thread_has_left() -> None:
    """Not even what the loop does before it hears of it."""
    subject = rx.subject.Subject[Event]()
    heard: list[States] = []
    subscription = combine_tracks(subject).subscribe(heard.append)
    subject.on_next(TextDelta(text="1"))
    thread = threading.Thread(target=subscription.dispose)
    thread.start()
    thread.join()
    subject.on_next(TextDelta(text="2"))
    await settle()
    assert [states["track-1"].text for states in heard] == ["1"]
    assert not subject.observers


@virtual_time
async def test_a_failure_is_one_change() -> None:
    watched = Watched([1.0, BROKEN]).start()
    await asyncio.sleep(10)
    assert [state["a"].status for state in watched.heard.items] == ["failed"]


@virtual_time
async def test_leaving_from_within_a_handler() -> None:
    watched = Watched(counting(9), counting(9))
    watched.stream.pipe(rx.operators.take(3)).subscribe(watched.heard.on_next, scheduler=watched.scheduler)
    await settle()
    assert len(watched.heard.items) == 3
    watched.assert_released()


@virtual_time
async def test_a_track_that_ends_at_once_lets_the_others_begin() -> None:
    heard: list[States] = []
    combine_tracks(rx.create(_at_once), rx.create(_at_once)).pipe(rx.operators.take(1)).subscribe(heard.append)
    await settle()
    assert [state.text for state in heard[0].values()] == ["x", ""]
    heard.clear()
    combine_tracks(rx.create(_at_once), rx.create(_at_once)).subscribe(heard.append)
    await settle()
    assert [state.text for state in heard[-1].values()] == ["x", "x"]


def _at_once(observer: abc.ObserverBase[Event], _scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
    observer.on_next(TextDelta(text="x"))
    observer.on_next(Finished(reason="stop"))
    observer.on_completed()
    return rx.disposable.Disposable()


@pytest.mark.parametrize("every", [0, -1.0, float("nan"), True])
def test_what_is_wrong_is_said_at_once(every: Any) -> None:
    with pytest.raises(ConfigurationError, match="every="):
        combine_tracks(rx.empty(), every=every)
    with pytest.raises(ConfigurationError, match="0 tracks"):
        combine_tracks()


_waits = st.sampled_from([0.0, 0.0, 0.25, 1.0, 3.0])


@given(
    st.lists(st.tuples(st.lists(_waits, max_size=6), st.booleans()), min_size=1, max_size=3),
    st.sampled_from([None, 0.5, 2.0]),
    st.lists(st.tuples(_waits, st.sampled_from([0.3, 1.0, 5.0])), max_size=3),
    st.none() | st.sampled_from([0.0, 0.25, 1.0, 2.5]),
)
def test_each_state_goes_on_from_the_one_before_and_the_last_is_whole(
    tracks: list[tuple[list[float], bool]],
    every: float | None,
    pauses: list[tuple[float, float]],
    leave_at: float | None,
) -> None:
    @virtual_time
    async def main() -> None:
        scripts: list[list[Step]] = []
        for waits, fails in tracks:
            steps: list[Step] = []
            for number, wait in enumerate(waits):
                steps += [wait, f"{number} "]
            scripts.append([*steps, BROKEN if fails else DONE])
        watched = Watched(*scripts, every=every).start()
        loop = asyncio.get_running_loop()
        for at, length in pauses:
            loop.call_at(at, watched.gate.hold, f"pause{at}")
            loop.call_at(at + length, watched.gate.release, f"pause{at}")
        if leave_at is not None:
            loop.call_at(leave_at, watched.subscription.dispose)
        await asyncio.sleep(100)
        heard = watched.heard
        assert not watched.intruders
        for before, after in zip(heard.items, heard.items[1:], strict=False):
            assert before != after
            assert all(after[label].text.startswith(before[label].text) for label in before)
        if every is not None:
            gaps = [after - before for before, after in zip(heard.times, heard.times[1:], strict=False)]
            assert all(gap >= every - 1e-9 for gap in (gaps[:-1] if heard.completed else gaps))
        if heard.completed:
            for (waits, fails), state in zip(tracks, watched.last.values(), strict=True):
                assert state.text == "".join(f"{number} " for number in range(len(waits)))
                assert state.status == ("failed" if fails else "completed")
        else:
            assert leave_at is not None
        watched.assert_released()

    main()


@virtual_time
async def test_a_track_of_several_answers_fails_and_mixes_nothing() -> None:
    """The others go on."""
    both = merge(from_iterable(["a"], label="a"), from_iterable(["b"], label="b"))
    states = await combine_tracks(both, from_iterable(["c"], label="c"))
    assert [(state.status, state.text) for state in states.values()] == [("failed", "a"), ("completed", "c")]
    error = next(iter(states.values())).error
    assert error is not None
    assert "several tracks" in error.message
