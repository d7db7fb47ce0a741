"""``on_backpressure_error``: a consumer that does not keep up ends the stream."""

from __future__ import annotations

import asyncio

import pytest

from rxstream.errors import ConfigurationError, LimitExceeded
from rxstream.operators import BufferStatistics, on_backpressure_error
from tests.support.flow import Flow
from tests.support.scripted import Scripted, words
from tests.support.virtual_loop import virtual_time


@virtual_time
async def test_what_comes_in_a_pause_ends_the_stream_when_the_gate_opens() -> None:
    script = Scripted(words(*"abcd"))
    flow = Flow(on_backpressure_error(), script.events())
    asyncio.get_running_loop().call_at(1.5, flow.hold)
    asyncio.get_running_loop().call_at(3.5, flow.gate.release, "consumer")
    await asyncio.sleep(3)
    assert script.running == 0  # it was closed at once
    assert flow.recorder.ended_at is None
    await asyncio.sleep(10)
    assert flow.recorder.texts == ["a"]
    assert isinstance(flow.recorder.error, LimitExceeded)
    assert flow.recorder.ended_at == 3.5


@virtual_time
async def test_so_many_may_wait() -> None:
    figures = BufferStatistics()
    flow = Flow(on_backpressure_error(2, statistics=figures))
    flow.hold()
    flow.send(1, 2)
    await flow.release()
    flow.hold()
    flow.send(3, 4, 5)
    assert (figures.capacity, figures.used, figures.dropped) == (2, 2, 0)
    await flow.release()
    assert flow.items == [1, 2, 3, 4]
    assert isinstance(flow.recorder.error, LimitExceeded)


@virtual_time
async def test_a_pause_in_which_nothing_comes_does_no_harm() -> None:
    flow = Flow(on_backpressure_error())
    flow.send(1)
    flow.hold()
    flow.subject.on_completed()
    await flow.release()
    assert flow.items == [1]
    assert flow.recorder.completed


def test_a_bad_option_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigurationError, match="capacity"):
        on_backpressure_error(-1)
