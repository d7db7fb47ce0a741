"""A lane: one track of a combination at work."""

from __future__ import annotations

import asyncio

import pytest
import reactivex as rx
from reactivex import abc
from reactivex.disposable import Disposable

from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import Event, Failed, Heartbeat, TextDelta, UsageReported
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.tracks._lane import AnswerLabels, Labels, Lane, checked, lanes_of
from rxstream.usage import Usage
from tests.support.scripted import DONE, HANG, Scripted, Step, words
from tests.support.tracks import BROKEN, track
from tests.support.virtual_loop import settle, virtual_time


class Watched:
    """One lane, and what it told."""

    def __init__(self, *steps: Step, label: str = "a") -> None:
        self.script = Scripted(steps)
        self.scheduler = LoopScheduler()
        self.events: list[Event] = []
        self.ended = 0
        (self.lane,) = lanes_of([track(self.script, label)], self.scheduler, on_event=self.hear, on_end=self.end)

    def hear(self, lane: Lane, event: Event) -> None:
        assert lane is self.lane
        assert self.ended == 0
        self.events.append(event)

    def end(self, lane: Lane) -> None:
        assert lane is self.lane
        self.ended += 1


@virtual_time
async def test_it_knows_how_far_it_is() -> None:
    usage = UsageReported(usage=Usage(output_tokens=7))
    watched = Watched(1.0, Heartbeat(), 1.0, "one ", 1.0, "two ", usage, DONE)
    lane = watched.lane
    assert (lane.status, lane.over, lane.spoke_at, lane.outputs) == ("waiting", False, None, 0)
    lane.start()
    assert (lane.status, lane.over) == ("active", False)
    await asyncio.sleep(1.5)
    assert (lane.spoke_at, lane.outputs) == (None, 0)
    await asyncio.sleep(5)
    assert (lane.status, lane.over, lane.error) == ("completed", True, None)
    assert (lane.spoke_at, lane.outputs, lane.usage) == (2.0, 2, Usage(output_tokens=7))
    assert (len(watched.events), watched.ended) == (5, 1)


@virtual_time
async def test_its_failure_is_its_last_event() -> None:
    watched = Watched(1.0, "one", BROKEN)
    watched.lane.start()
    await asyncio.sleep(5)
    failed = watched.events[-1]
    assert isinstance(failed, Failed)
    assert (failed.source, failed.seq, failed.at, failed.error.kind) == ("a", 1, 1.0, "Disconnected")
    assert (watched.lane.status, type(watched.lane.error), watched.ended) == ("failed", Disconnected, 1)


@virtual_time
async def test_it_can_be_failed() -> None:
    """What others find wrong with it ends it as its own errors do, and closes its connection."""
    watched = Watched(1.0, "one", HANG)
    watched.lane.start()
    await asyncio.sleep(2)
    error = Disconnected("as others say")
    watched.lane.fail(error)
    watched.lane.fail(Disconnected("once more"))
    assert (watched.lane.status, watched.lane.error, watched.ended) == ("failed", error, 1)
    assert [type(event) for event in watched.events] == [TextDelta, Failed]
    await settle()
    assert watched.script.running == 0


@virtual_time
async def test_a_closed_lane_says_nothing_more() -> None:
    watched = Watched(*words("one", "two"))
    watched.lane.start()
    await asyncio.sleep(1.5)
    watched.lane.close()
    assert watched.lane.status == "cancelled"
    await settle()
    assert watched.script.running == 0
    await asyncio.sleep(5)
    assert (len(watched.events), watched.ended) == (1, 0)
    farewell = watched.lane.farewell("enough")
    assert (farewell.source, farewell.seq, farewell.reason) == ("a", 1, "enough")


@virtual_time
async def test_events_that_come_to_a_closed_lane_are_dropped() -> None:
    """A source that does not stop when it is disposed changes nothing."""
    observers: list[abc.ObserverBase[Event]] = []

    def subscribe(observer: abc.ObserverBase[Event], _scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        observers.append(observer)
        return Disposable()

    source = rx.Observable(subscribe)
    told: list[object] = []
    (lane,) = lanes_of([source], LoopScheduler(), on_event=lambda *said: told.append(said), on_end=told.append)
    lane.start()
    lane.status = "cancelled"
    observers[0].on_next(TextDelta(text="late"))
    observers[0].on_completed()
    assert (told, lane.status) == ([], "cancelled")


@virtual_time
async def test_what_was_closed_before_it_began_is_never_begun() -> None:
    watched = Watched("one")
    watched.lane.close()
    watched.lane.start()
    await settle()
    assert (watched.script.opened, watched.lane.status) == (0, "cancelled")


@virtual_time
async def test_closing_what_has_ended_changes_nothing() -> None:
    watched = Watched("one", DONE)
    watched.lane.start()
    await settle()
    watched.lane.close()
    assert watched.lane.status == "completed"


@virtual_time
async def test_its_gate_holds_it_alone_and_is_held_with_the_others() -> None:
    watched = Watched(*words("one", "two", "three"))
    watched.lane.start()
    await asyncio.sleep(1.5)
    watched.lane.gate.hold("test")
    assert not watched.scheduler.gate.closed
    await asyncio.sleep(5)
    assert len(watched.events) == 1
    watched.scheduler.gate.hold("all")
    watched.lane.gate.release("test")
    await asyncio.sleep(5)
    assert len(watched.events) == 1
    watched.scheduler.gate.release("all")
    await asyncio.sleep(5)
    assert (len(watched.events), watched.ended) == (4, 1)


def test_labels_are_given_once() -> None:
    labels = Labels()
    assert [labels.of(0, "x"), labels.of(1, "x"), labels.of(2, "x")] == ["x", "x-2", "x-3"]
    assert [labels.of(0, "x"), labels.of(1, "x")] == ["x", "x-2"]
    assert [labels.of(3, ""), labels.of(4, "track-4")] == ["track-4", "track-4-2"]


def test_all_of_one_answer_has_one_name() -> None:
    labels = AnswerLabels()
    assert [labels.of(0, "a | b"), labels.of(1, "c")] == ["a | b", "c"]
    assert [labels.of(0, "a", attempt=1), labels.of(0, "b", attempt=2)] == ["a | b", "a | b"]
    assert [labels.of(0, "c", attempt=2), labels.of(0, "c", attempt=3)] == ["c-2", "c-2"]
    assert [labels.of(2, ""), labels.of(2, "d", attempt=1), labels.of(2, "e", attempt=2)] == ["track-3", "d", "d"]


@virtual_time
async def test_its_first_attempt_is_the_first_that_speaks() -> None:
    source = rx.of(
        *(TextDelta(text=str(attempt), source="ab"[attempt % 2], attempt=attempt) for attempt in (3, 1, 2, 3))
    )
    told: list[tuple[str, str, int]] = []
    (lane,) = lanes_of(
        [source],
        LoopScheduler(),
        on_event=lambda _, event: told.append((getattr(event, "text", ""), event.source, event.attempt)),
        on_end=id,
    )
    lane.start()
    await settle()
    assert told == [("3", "b", 1), ("1", "b", 3), ("2", "b", 2), ("3", "b", 1)]


@virtual_time
async def test_what_gives_no_events_is_no_track() -> None:
    told: list[Lane] = []
    (lane,) = lanes_of([rx.of("text", "more")], LoopScheduler(), on_event=lambda *_: None, on_end=told.append)  # type: ignore[arg-type]
    lane.start()
    await settle()
    assert isinstance(lane.error, ConfigurationError)
    assert "gives a str, not events" in str(lane.error)
    assert told == [lane]


@virtual_time
async def test_events_without_a_label_get_the_lanes() -> None:
    script, events = Scripted(["one", DONE]), list[Event]()
    source = rx.Observable(track(script)._subscribe)
    lanes = lanes_of([source], LoopScheduler(), on_event=lambda _lane, event: events.append(event), on_end=id)
    lanes[0].start()
    await settle()
    assert lanes[0].label == "track-1"
    assert {event.source for event in events} == {"track-1"}


def test_tracks_are_observables() -> None:
    assert checked([rx.empty(), Stream.of(rx.empty())], least=2)
    with pytest.raises(ConfigurationError, match="1 tracks were given; at least 2"):
        checked([rx.empty()], least=2)
    with pytest.raises(ConfigurationError, match="track 2 is an int"):
        checked([rx.empty(), 5])  # type: ignore[list-item]
