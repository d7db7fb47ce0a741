"""`Attempts`: each try has a number of its own, and what a closed one used is told as well as it is known."""

from __future__ import annotations

import asyncio

import pytest

from rxstream.events import Cancelled, Event, Retracted, Started, TextDelta, UsageReported
from rxstream.loop import LoopScheduler
from rxstream.tracks import failover
from rxstream.tracks._attempts import Attempts
from rxstream.tracks._lane import Labels, Lane, lanes_of
from rxstream.usage import Usage
from tests.support.contests import Field, reported
from tests.support.scripted import DONE, HANG, Step
from tests.support.virtual_loop import settle, virtual_time


def lane_of(*steps: Step) -> tuple[Lane, list[Event]]:
    """One lane at work on a script, and what comes of it."""
    heard: list[Event] = []
    track = Field().track("a", *steps)
    (lane,) = lanes_of([track], LoopScheduler(), on_event=lambda _, event: heard.append(event), on_end=lambda _: None)
    lane.start()
    return lane, heard


def usage_of(events: list[Event]) -> Usage:
    (usage,) = (event.usage for event in events if isinstance(event, UsageReported))
    return usage


@virtual_time
async def test_numbers_are_given_in_the_order_in_which_they_are_asked_for() -> None:
    first, second = lane_of(HANG)[0], lane_of(HANG)[0]
    second.index = 1
    attempts = Attempts()
    assert [attempts.number(second), attempts.number(first), attempts.number(first, 2)] == [1, 2, 3]
    assert [attempts.number(first, 2), attempts.number(second, 1)] == [3, 1]
    event = TextDelta(text="x")
    assert attempts.stamp(second, event) is event
    assert attempts.stamp(first, event) == TextDelta(text="x", attempt=2)
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([HANG], Usage(provenance="estimated", output_tokens=0)),
        (["a", "b", HANG], Usage(provenance="estimated", output_tokens=2)),
        ([reported(0, input_tokens=7), "a", HANG], Usage(provenance="estimated", input_tokens=7, output_tokens=1)),
        ([reported(9, input_tokens=7, total_tokens=16), "a", HANG],
         Usage(provenance="partial", input_tokens=7, output_tokens=9, total_tokens=16)),
        ([UsageReported(usage=Usage(provenance="reported", input_tokens=7, total_tokens=7)), "a", HANG],
         Usage(provenance="estimated", input_tokens=7, output_tokens=1)),
    ],
    ids=["silent", "unreported", "behind", "ahead", "input alone"],
)  # fmt: skip
@virtual_time
async def test_what_a_closed_lane_used(steps: list[Step], expected: Usage) -> None:
    lane, heard = lane_of(1, *steps)
    await asyncio.sleep(2)
    used, cancelled = Attempts().settle(lane, "enough")
    assert isinstance(used, UsageReported)
    assert used.usage == expected
    assert isinstance(cancelled, Cancelled)
    assert (cancelled.source, cancelled.reason, cancelled.at) == ("a", "enough", 2)
    assert [used.seq, cancelled.seq] == [len(heard), len(heard) + 1]
    assert lane.status == "cancelled"


@virtual_time
async def test_what_a_completed_lane_used_is_what_it_reported() -> None:
    """Even if that is less than the pieces it came in."""
    lane, _ = lane_of("a", "b", reported(1), DONE)
    await settle()
    assert usage_of(Attempts().bill(lane)) == Usage(provenance="reported", output_tokens=1)
    unreported, _ = lane_of("a", "b", DONE)
    await settle()
    assert usage_of(Attempts().bill(unreported)) == Usage(provenance="estimated", output_tokens=2)


@virtual_time
async def test_a_request_that_was_refused_used_nothing() -> None:
    lane, _ = lane_of(Started())
    await settle()
    assert lane.status == "failed"
    assert Attempts().bill(lane) == []


@virtual_time
async def test_a_lane_of_several_attempts_is_billed_and_taken_back_attempt_by_attempt() -> None:
    field, heard = Field(), list[Event]()
    inner = failover(
        field.track("a", reported(1), "x", 1),
        field.track("b", "y", reported(1), "z", HANG),
        after_output="restart",
    )
    (lane,) = lanes_of(
        [inner], LoopScheduler(), on_event=lambda _, event: heard.append(event), on_end=id, labels=Labels()
    )
    lane.start()
    attempts = Attempts()
    attempts.number(Lane(7, inner, LoopScheduler(), labels=lane._labels, on_event=print, on_end=print))
    await asyncio.sleep(5)
    for event in heard:
        attempts.stamp(lane, event)
    assert lane.said == {1: 1, 2: 2}
    words = attempts.settle(lane, "enough")
    told = [
        (event.source, event.attempt, event.usage.output_tokens) for event in words if isinstance(event, UsageReported)
    ]
    assert told == [("a", 2, 1), ("b", 3, 2)]
    assert (words[-1].source, words[-1].attempt) == ("b", 3)
    back = [event for event in attempts.retract(lane) if isinstance(event, Retracted)]
    assert [(event.source, event.attempt, event.to_offset) for event in back] == [("a", 2, 0), ("b", 3, 0)]
    some = attempts.take_back(lane, 3, 4)
    assert isinstance(some, Retracted)
    assert (some.source, some.attempt, some.to_offset) == ("b", 3, 4)
