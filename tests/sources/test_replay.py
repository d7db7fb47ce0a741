"""Recorded events come again: the same ones, at once or in their rhythm, and whole or not as they were."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxstream
from rxstream import events as ev
from rxstream.errors import ConfigurationError, StreamIncomplete
from rxstream.events import Event, TextDelta
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.sources._pump import pump
from rxstream.sources.replay import replay
from tests.support.scripted import DONE, Recorder, Scripted, words
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time


def text(said: str, at: float = 0.0, source: str = "") -> Event:
    return TextDelta(text=said, at=at, source=source)


def done(at: float = 0.0, source: str = "") -> Event:
    return ev.Finished(reason="stop", at=at, source=source)


def listen(events: Iterable[Event], speed: float | None = None, scheduler: LoopScheduler | None = None) -> Recorder:
    recorder = Recorder()
    pump(replay(events, speed=speed)).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler or LoopScheduler()
    )
    return recorder


@virtual_time
async def test_what_was_recorded_comes_again() -> None:
    first = Recorder()
    Scripted(words("a", "b")).events().subscribe(first.on_next, scheduler=LoopScheduler())
    await asyncio.sleep(10)
    again = listen(first.items, speed=1)
    await asyncio.sleep(10)
    assert again.texts == ["a", "b"]
    assert (again.times, again.completed) == ([10, 11, 11], True)


@virtual_time
async def test_at_once_if_no_speed_is_given() -> None:
    recorder = listen([text("a", 5), text("b", 500), done(1000)])
    await settle()
    assert (recorder.texts, recorder.times, recorder.completed) == (["a", "b"], [0, 0, 0], True)


@pytest.mark.parametrize(("speed", "times"), [(1, [0, 2, 2, 5]), (2, [0, 1, 1, 2.5]), (0.5, [0, 4, 4, 10])])
@virtual_time
async def test_in_the_rhythm_of_the_recording(speed: float, times: list[float]) -> None:
    recorder = listen([text("a", 100), text("b", 102), text("c", 102), done(105)], speed)
    await asyncio.sleep(50)
    assert recorder.times == times
    assert [event.at for event in recorder.items] == times  # of this stream, not of the recording
    assert [event.seq for event in recorder.items] == [0, 1, 2, 3]


@virtual_time
async def test_events_without_a_time_or_that_go_back_come_with_the_one_before() -> None:
    tape = [text("a"), text("b", 10), text("c"), text("d", 9), text("e", 12), done()]
    recorder = listen(tape, 1)
    await asyncio.sleep(50)
    assert recorder.times == [0, 0, 0, 0, 2, 2]


@virtual_time
async def test_what_is_held_up_is_not_made_up_for() -> None:
    scheduler = LoopScheduler()
    recorder = listen([text("a", 1), text("b", 2), text("c", 3), text("d", 4), done(5)], 1, scheduler)
    await asyncio.sleep(0.5)
    scheduler.gate.hold("test")
    await asyncio.sleep(10)
    assert recorder.texts == ["a"]
    scheduler.gate.release("test")
    await asyncio.sleep(50)
    assert recorder.times == [0, 10.5, 10.5, 11.5, 12.5]  # what was on its way, what was due, and on from there


@virtual_time
async def test_a_slow_handler_does_not_slow_the_rhythm() -> None:
    loop, times = asyncio.get_running_loop(), list[float]()
    assert isinstance(loop, VirtualLoop)

    def on_next(_event: Event) -> None:
        times.append(loop.time())
        loop.advance(0.25)

    tape = [text("a", 1), text("b", 2), text("c", 3), done(4)]
    pump(replay(tape, speed=1)).subscribe(on_next, scheduler=LoopScheduler())
    await asyncio.sleep(50)
    assert times == [0, 1, 2, 3]


@virtual_time
async def test_events_keep_source_attempt_and_bytes() -> None:
    tape: list[Event] = [
        TextDelta(text="a", source="left", attempt=2, seq=7, raw=b"{}"),
        TextDelta(text="b", source="right", attempt=3),
        done(source="left"),
        done(source="right"),
    ]
    recorder = listen(tape)
    await settle()
    assert [(event.source, event.attempt) for event in recorder.items] == [
        ("left", 2), ("right", 3), ("left", 1), ("right", 1),
    ]  # fmt: skip
    assert recorder.items[0].raw == b"{}"
    assert recorder.completed


def test_a_stream_is_called_as_its_events_are_if_they_have_one_name() -> None:
    assert replay([text("a", source="left"), done(source="left")]).label == "left"
    assert replay([text("a", source="left"), done(source="right")]).label == ""
    assert rxstream.replay([text("a", source="left")]).label == "left"


CUT: list[list[Event]] = [
    [],
    [text("a")],
    [text("a", source="left"), done(source="left"), text("b", source="right")],
    [text("a"), ev.Failed(error=ev.ErrorInfo(kind="Disconnected", message="gone"))],
]


@pytest.mark.parametrize("tape", CUT, ids=["nothing", "no end", "another track goes on", "only a failure"])
@virtual_time
async def test_a_recording_that_was_cut_ends_as_a_cut_stream_does(tape: list[Event]) -> None:
    recorder = listen(tape)
    await settle()
    assert len(recorder.items) == len(tape)
    assert isinstance(recorder.error, StreamIncomplete)


@virtual_time
async def test_the_error_holds_what_came_and_says_whose_it_was() -> None:
    recorder = listen([ev.Started(model="some-1", provider="someone"), text("Hel")])
    await settle()
    error = recorder.error
    assert isinstance(error, StreamIncomplete)
    assert error.partial is not None
    assert (error.partial.text, error.model, error.provider) == ("Hel", "some-1", "someone")


@virtual_time
async def test_of_several_tracks_there_is_no_one_answer_to_hold() -> None:
    recorder = listen([text("a", source="left"), text("b", source="right")])
    await settle()
    assert isinstance(recorder.error, StreamIncomplete)
    assert recorder.error.partial is None


@pytest.mark.parametrize(
    "last", [ev.Cancelled(source="b"), ev.Failed(source="b", error=ev.ErrorInfo(kind="x", message="y"))]
)
@virtual_time
async def test_a_combination_is_whole_when_its_last_track_has_ended(last: Event) -> None:
    recorder = listen([text("a", source="a"), text("b", source="b"), done(source="a"), last])
    await settle()
    assert recorder.completed


@virtual_time
async def test_each_subscription_is_a_stream_of_its_own_and_disposing_ends_it() -> None:
    events = pump(replay(iter([text("a", 1), text("b", 2), done(3)]), speed=1))
    first, second = Recorder(), Recorder()
    subscription = events.subscribe(first.on_next, scheduler=LoopScheduler())
    await asyncio.sleep(0.5)
    events.subscribe(second.on_next, on_completed=second.on_completed, scheduler=LoopScheduler())
    subscription.dispose()
    await asyncio.sleep(50)
    assert (first.texts, second.texts, second.times) == (["a"], ["a", "b"], [0.5, 1.5, 2.5])


def test_the_same_answer_comes_of_it() -> None:
    stream = rxstream.emulate("The sky is blue.", model="some-1")
    tape = list(stream)
    again = rxstream.replay(tape)
    assert isinstance(again, Stream)
    assert again.run(timeout=30) == stream.run(timeout=30)


@pytest.mark.parametrize("speed", [0, -1, float("inf"), "fast"])
def test_a_bad_speed_is_refused(speed: Any) -> None:
    with pytest.raises(ConfigurationError, match="speed="):
        replay([DONE], speed=speed)


@pytest.mark.parametrize(
    ("events", "said"),
    [("tape", r"events\[0\] is a str"), (None, "not a NoneType"), ([DONE, 1], r"events\[1\] is an int")],
)
def test_what_is_no_event_is_refused(events: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        replay(events)


TAPES = st.lists(st.tuples(st.text(max_size=3), st.floats(0, 100), st.sampled_from(["", "a", "b"])), max_size=200)


@given(TAPES, st.none() | st.floats(0.1, 10), st.lists(st.floats(0, 50), max_size=5))
def test_all_of_it_comes_once_in_order_and_never_too_early(
    tape: list[tuple[str, float, str]], speed: float | None, pauses: list[float]
) -> None:
    """Whatever pauses there are."""

    @virtual_time
    async def main() -> None:
        scheduler = LoopScheduler()
        events: list[Event] = [*(text(*event) for event in tape), done()]
        recorder = listen(events, speed, scheduler)
        for pause in pauses:
            await asyncio.sleep(pause)
            scheduler.gate.hold("test")
            before = len(recorder.items)
            await asyncio.sleep(pause)
            assert len(recorder.items) == before
            scheduler.gate.release("test")
        await asyncio.sleep(100_000)
        assert [(event.source, getattr(event, "text", None)) for event in recorder.items] == [
            (event.source, getattr(event, "text", None)) for event in events
        ]
        assert recorder.completed
        known = [event.at for event in events if event.at]
        if speed is not None and known:
            assert recorder.times[-1] - recorder.times[0] >= (max(known) - known[0]) / speed - 0.001

    main()
