"""``on_backpressure_drop``: what a consumer that is not ready cannot take is dropped, and counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream import events as ev
from rxstream.errors import ConfigurationError
from rxstream.gate import Gate
from rxstream.operators import BufferStatistics, on_backpressure_drop
from tests.support.flow import Flow, acts
from tests.support.scripted import Scripted, words
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_what_comes_in_a_pause_is_dropped_and_the_source_runs_on() -> None:
    figures = BufferStatistics()
    script = Scripted(words(*"abcdef"))
    flow = Flow(on_backpressure_drop(statistics=figures), script.events())
    asyncio.get_running_loop().call_at(2.5, flow.hold)
    asyncio.get_running_loop().call_at(4.5, flow.gate.release, "consumer")
    await asyncio.sleep(10)
    assert flow.recorder.texts == ["a", "b", "e", "f"]
    assert flow.recorder.times == [1, 2, 5, 6, 6]
    assert flow.recorder.completed
    assert (figures.capacity, figures.dropped, figures.peak) == (0, 2, 0)


@virtual_time
async def test_the_first_that_come_are_kept_up_to_the_capacity_and_the_others_are_told() -> None:
    dropped: list[int] = []
    flow = Flow(on_backpressure_drop(2, on_drop=dropped.append))
    flow.hold()
    flow.send(*range(5))
    await flow.release()
    assert (flow.items, dropped) == ([0, 1], [2, 3, 4])


@virtual_time
async def test_events_whose_loss_would_make_the_answer_wrong_are_kept() -> None:
    flow = Flow(on_backpressure_drop())
    flow.hold()
    call, end = ev.ToolCallDelta(arguments="{}"), ev.Finished(reason="stop")
    flow.send(ev.TextDelta(text="a"), call, ev.Heartbeat(), ev.TextDelta(text="b"), end)
    await flow.release()
    assert flow.items == [call, end]


@virtual_time
async def test_what_on_drop_raises_ends_the_stream_after_what_waits() -> None:
    error = ValueError("not that one")

    def on_drop(_: Any) -> None:
        raise error

    flow = Flow(on_backpressure_drop(1, on_drop=on_drop))
    flow.hold()
    flow.send(1, 2, 3)
    assert not flow.subject.observers
    await flow.release()
    assert flow.items == [1]
    assert flow.recorder.error is error


@virtual_time
async def test_disposing_leaves_nothing() -> None:
    dropped: list[int] = []
    flow = Flow(on_backpressure_drop(on_drop=dropped.append))
    flow.hold()
    flow.subscription.dispose()
    flow.send(1)
    await flow.release()
    assert (flow.items, dropped) == ([], [])
    assert not flow.gate._watchers


def test_a_bad_option_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigurationError, match="capacity"):
        on_backpressure_drop(-1)


@given(acts, st.integers(0, 3))
def test_what_is_kept_and_what_is_dropped_are_what_was_sent(steps: list[str], capacity: int) -> None:
    @virtual_time
    async def main() -> None:
        dropped: list[int] = []
        figures = BufferStatistics()
        flow = Flow(on_backpressure_drop(capacity, on_drop=dropped.append, statistics=figures))
        sent = await flow.follow(steps, Gate())
        await settle()
        assert flow.items == sorted(flow.items)
        assert sorted([*flow.items, *dropped]) == sent
        assert figures.dropped == len(dropped)
        assert flow.recorder.completed

    main()
