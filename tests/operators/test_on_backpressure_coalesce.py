"""``on_backpressure_coalesce``: the source runs to its end, and what waits is joined."""

from __future__ import annotations

import pytest
from hypothesis import given

from rxstream.errors import ConfigurationError, LimitExceeded
from rxstream.gate import Gate
from rxstream.operators import BufferStatistics, on_backpressure_coalesce
from tests.support.flow import Flow, acts
from tests.support.scripted import Scripted, numbered
from tests.support.until import until
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_the_source_runs_to_its_end_in_a_pause() -> None:
    script, figures = Scripted(numbered(5000)), BufferStatistics()
    flow = Flow(on_backpressure_coalesce(statistics=figures), script.events())
    flow.hold()
    await until(lambda: script.closed == 1)
    assert (script.given, figures.used, figures.waiting) == (5001, 2, False)
    await flow.release()
    assert flow.recorder.texts == ["".join(f"{number} " for number in range(5000))]
    assert flow.recorder.completed


@virtual_time
async def test_a_consumer_that_keeps_up_gets_each() -> None:
    flow = Flow(on_backpressure_coalesce(), Scripted(numbered(3)).events())
    await settle()
    assert flow.recorder.texts == ["0 ", "1 ", "2 "]


@virtual_time
async def test_more_than_may_wait_is_an_error_after_what_was_kept() -> None:
    figures = BufferStatistics()
    flow = Flow(on_backpressure_coalesce(10, statistics=figures))
    flow.hold()
    flow.send(*["abc"] * 5)
    assert (figures.bytes, figures.waiting) == (12, False)
    assert not flow.subject.observers
    await flow.release()
    assert flow.items == ["abcabcabc", "abc"]
    assert isinstance(flow.recorder.error, LimitExceeded)


@virtual_time
async def test_disposing_closes_the_request() -> None:
    script = Scripted(numbered(100_000))
    flow = Flow(on_backpressure_coalesce(), script.events())
    flow.hold()
    await settle()
    flow.subscription.dispose()
    await settle()
    assert script.running == 0
    assert not flow.gate._watchers


def test_a_bad_option_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigurationError, match="max_bytes"):
        on_backpressure_coalesce(-1)


@given(acts)
def test_nothing_is_lost_doubled_or_reordered(steps: list[str]) -> None:
    @virtual_time
    async def main() -> None:
        flow = Flow(on_backpressure_coalesce())
        sent = await flow.follow(steps, Gate(), "{:x} ".format)
        assert "".join(flow.items) == "".join(sent)
        assert flow.recorder.completed
        assert "hold" in steps or flow.items == sent

    main()
