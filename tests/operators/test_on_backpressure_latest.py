"""``on_backpressure_latest``: of what comes in a pause the last is kept."""

from __future__ import annotations

import asyncio

from hypothesis import given

from rxstream import events as ev
from rxstream.gate import Gate
from rxstream.operators import BufferStatistics, on_backpressure_latest
from tests.support.flow import Flow, acts
from tests.support.scripted import Scripted, words
from tests.support.virtual_loop import virtual_time


@virtual_time
async def test_the_last_comes_when_the_gate_opens() -> None:
    figures = BufferStatistics()
    flow = Flow(on_backpressure_latest(statistics=figures), Scripted(words(*"abcdef")).events())
    asyncio.get_running_loop().call_at(1.5, flow.hold)
    asyncio.get_running_loop().call_at(4.5, flow.gate.release, "consumer")
    await asyncio.sleep(10)
    assert flow.recorder.texts == ["a", "d", "e", "f"]
    assert flow.recorder.times == [1, 4.5, 5, 6, 6]
    assert (figures.capacity, figures.dropped, figures.peak) == (1, 2, 1)


@virtual_time
async def test_values_that_are_false_are_items_too() -> None:
    flow = Flow(on_backpressure_latest())
    flow.hold()
    flow.send(1, None)
    await flow.release()
    flow.hold()
    flow.send(1, 0)
    await flow.release()
    assert flow.items == [None, 0]


@virtual_time
async def test_what_must_not_be_lost_stays_in_its_place() -> None:
    flow = Flow(on_backpressure_latest())
    flow.hold()
    start, end = ev.Started(id="1"), ev.Finished(reason="stop")
    flow.send(start, ev.TextDelta(text="a"), ev.TextDelta(text="b"), end)
    await flow.release()
    assert flow.items == [start, ev.TextDelta(text="b"), end]


@virtual_time
async def test_disposing_leaves_nothing() -> None:
    flow = Flow(on_backpressure_latest())
    flow.hold()
    flow.send(1)
    flow.subscription.dispose()
    await flow.release()
    assert flow.items == []
    assert not flow.subject.observers


@given(acts)
def test_the_last_is_never_lost(steps: list[str]) -> None:
    @virtual_time
    async def main() -> None:
        figures = BufferStatistics()
        flow = Flow(on_backpressure_latest(statistics=figures))
        sent = await flow.follow(steps, Gate())
        assert flow.items[-1:] == sent[-1:]
        assert flow.items == sorted(set(flow.items))
        assert len(flow.items) + figures.dropped == len(sent)

    main()
