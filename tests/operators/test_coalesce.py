"""``coalesce``: what waits is joined; what need not wait is not touched."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream import events as ev
from rxstream.aggregate import Answers
from rxstream.errors import ConfigurationError, Disconnected, LimitExceeded
from rxstream.events import Event
from rxstream.gate import Gate
from rxstream.observable import Stream
from rxstream.operators import BufferStatistics, coalesce
from rxstream.sinks.iterator import to_async_iterable
from tests.support.flow import Flow, acts
from tests.support.scripted import DONE, Scripted, Step, numbered, raising, words
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_a_consumer_that_keeps_up_gets_each_delta_as_it_was() -> None:
    event = ev.TextDelta(text="a", raw=b"{}")
    flow = Flow(coalesce(), Scripted([1, event, 1, "b", DONE]).events())
    await asyncio.sleep(10)
    assert flow.recorder.times == [1, 2, 2]
    assert flow.recorder.texts == ["a", "b"]
    assert flow.items[0].raw == b"{}"


@virtual_time
async def test_what_waits_is_joined_and_comes_at_the_moment_of_opening() -> None:
    flow = Flow(coalesce(), Scripted(words(*"abcdef")).events())
    asyncio.get_running_loop().call_at(2.5, flow.hold)
    asyncio.get_running_loop().call_at(5.5, flow.gate.release, "consumer")
    await asyncio.sleep(10)
    assert flow.recorder.texts == ["a", "b", "cde", "f"]
    assert flow.recorder.times == [1, 2, 5.5, 6, 6]
    assert flow.recorder.completed
    joined = flow.items[2]
    assert (joined.seq, joined.at, joined.raw) == (2, 3, None)  # of its first


@virtual_time
async def test_strings_are_joined() -> None:
    flow = Flow(coalesce())
    flow.hold()
    flow.send("a", "b", 1, "c", "d")
    await flow.release()
    assert flow.items == ["ab", 1, "cd"]


TEXT = ev.TextDelta(text="a", source="x", choice=1, part=1)


@pytest.mark.parametrize(
    "other",
    [
        ev.TextDelta(text="b", source="y", choice=1, part=1),
        ev.TextDelta(text="b", source="x", choice=1, part=1, attempt=2),
        ev.TextDelta(text="b", source="x", choice=0, part=1),
        ev.TextDelta(text="b", source="x", choice=1, part=2),
        ev.ThinkingDelta(text="b", source="x", choice=1, part=1),
        ev.RefusalDelta(text="b", source="x", choice=1, part=1),
        ev.ToolCallDelta(arguments="b", source="x", choice=1, part=1),
        ev.Heartbeat(source="x"),
        ev.Retracted(source="x"),
        ev.Seam(source="x", kind="prefill", offset=1),
    ],
    ids=lambda event: type(event).__name__,
)
@virtual_time
async def test_only_neighbours_of_one_text_are_joined(other: Event) -> None:
    flow = Flow(coalesce())
    flow.hold()
    flow.send(TEXT, other, TEXT, TEXT)
    await flow.release()
    twice = ev.TextDelta(text="aa", source="x", choice=1, part=1)
    assert flow.items == [TEXT, other, twice]


@virtual_time
async def test_what_comes_while_the_consumer_is_busy_is_joined() -> None:
    flow = Flow(coalesce())
    flow.recorder.and_then = lambda item: flow.send("b", "c") if item == "a" else None
    flow.send("a")
    assert flow.items == ["a", "bc"]


@virtual_time
async def test_what_comes_while_the_last_that_waited_is_handled_waits_for_itself() -> None:
    """It is not joined to what has gone."""
    flow = Flow(coalesce())
    flow.hold()
    flow.send("a", "b")
    flow.recorder.and_then = lambda item: flow.send("c", "d") if item == "ab" else None
    await flow.release()
    assert flow.items == ["ab", "cd"]


@virtual_time
async def test_the_source_is_held_when_much_waits() -> None:
    script, figures = Scripted(numbered(50)), BufferStatistics()
    flow = Flow(coalesce(10, statistics=figures), script.events())
    flow.hold()
    await settle()
    assert script.given == 5  # of two bytes each
    assert (figures.capacity, figures.bytes, figures.used, figures.waiting) == (10, 10, 1, True)
    await flow.release()
    assert "".join(flow.recorder.texts) == "".join(f"{number} " for number in range(50))
    assert flow.recorder.texts[0] == "0 1 2 3 4 "
    assert flow.recorder.completed
    assert (figures.bytes, figures.used, figures.waiting) == (0, 0, False)


@virtual_time
async def test_none_that_is_joined_is_larger_than_the_limit() -> None:
    flow = Flow(coalesce(4))
    flow.hold()
    flow.send("abc", "d", "e", "f", "ghijk", "l")
    await flow.release()
    assert flow.items == ["abcd", "ef", "ghijk", "l"]


@virtual_time
async def test_bytes_are_counted_not_characters() -> None:
    figures = BufferStatistics()
    flow = Flow(coalesce(6, statistics=figures))
    flow.hold()
    flow.send("€", "€", "€")
    assert (figures.used, figures.bytes) == (2, 9)
    await flow.release()
    assert flow.items == ["€€", "€"]


@virtual_time
async def test_a_source_that_obeys_no_gate_ends_in_an_error_after_what_was_kept() -> None:
    flow = Flow(coalesce(10))
    flow.hold()
    flow.send(*["x"] * 1000)
    assert not flow.subject.observers
    await flow.release()
    assert "".join(flow.items) == "x" * 160
    assert isinstance(flow.recorder.error, LimitExceeded)


@virtual_time
async def test_empty_pieces_have_a_limit_too() -> None:
    flow = Flow(coalesce(10))
    flow.hold()
    flow.send(*[""] * 1000)
    assert not flow.subject.observers
    flow.subscription.dispose()


@virtual_time
async def test_a_million_pieces_are_joined_in_linear_time() -> None:
    """One joined at a time would copy two gigabytes for the first half million."""
    flow = Flow(coalesce(1_000_000))
    flow.hold()
    flow.send(*["x"] * 200_000)
    await flow.release()
    assert flow.items == ["x" * 200_000]


@pytest.mark.parametrize("error", [None, Disconnected("gone")])
@virtual_time
async def test_an_end_comes_after_what_waits(error: Disconnected | None) -> None:
    steps: list[Step] = ["a", "b", DONE if error is None else raising(error)]
    flow = Flow(coalesce(), Scripted(steps).events())
    flow.hold()
    await settle()
    await flow.release()
    assert flow.recorder.texts == ["ab"]
    assert (flow.recorder.completed, flow.recorder.error) == (error is None, error)


@virtual_time
async def test_disposing_forgets_what_waits_and_closes_the_request() -> None:
    script, figures = Scripted(numbered(1000)), BufferStatistics()
    flow = Flow(coalesce(10, statistics=figures), script.events())
    flow.hold()
    await settle()
    flow.subscription.dispose()
    await settle()
    assert script.running == 0
    assert (figures.used, figures.bytes, figures.waiting) == (0, 0, False)
    await flow.release()
    assert flow.items == []
    assert not flow.gate._watchers


@virtual_time
async def test_a_slow_loop_gets_fewer_and_larger_deltas() -> None:
    """What comes during a turn is joined, but for the first of it, which waits in the iterator."""
    stream = Stream.of(Scripted(words(*"abcdefghij")).events()).pipe(coalesce())
    got: list[str] = []
    async with to_async_iterable(stream, high=1) as items:
        async for item in items:
            if isinstance(item, ev.TextDelta):
                got.append(item.text)
                await asyncio.sleep(3.25)
    assert got == ["a", "b", "cd", "efg", "hij"]


@virtual_time
async def test_a_paused_session_gets_few_deltas_and_the_whole_text() -> None:
    session = Stream.of(Scripted(numbered(100)).events()).pipe(coalesce()).start()
    session.pause()
    await settle()
    await settle()
    session.resume()
    response = await session
    assert response.text == "".join(f"{number} " for number in range(100))
    assert session.statistics.events == 2


def test_a_bad_option_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigurationError, match="max_bytes"):
        coalesce(0)


def piece(number: int) -> Event:
    """Pieces of several texts and tracks, runs of them, and something else now and then."""
    source, attempt = ("x", 1) if number % 11 < 8 else ("y", 2)
    match number // 3 % 4:
        case 0 | 1:
            return ev.TextDelta(text=f"{number}é", seq=number, source=source, attempt=attempt)
        case 2:
            return ev.ThinkingDelta(text=f"{number}", part=1, seq=number, source=source, attempt=attempt)
        case _ if number % 5:
            return ev.ToolCallDelta(arguments=f"{number}", part=2, seq=number, source=source, attempt=attempt)
        case _:
            return ev.Heartbeat(seq=number, source=source, attempt=attempt)


@given(acts, st.integers(1, 30))
def test_joined_or_not_it_is_the_same_answer(steps: list[str], max_bytes: int) -> None:
    @virtual_time
    async def main() -> None:
        figures = BufferStatistics()
        flow = Flow(coalesce(max_bytes + 1000, statistics=figures))
        sent = await flow.follow(steps, Gate(), piece)
        assert answers(flow.items) == answers(sent)
        assert all(one.seq < other.seq for one, other in pairwise(flow.items))
        assert flow.recorder.completed
        assert (figures.used, figures.bytes, figures.dropped) == (0, 0, 0)
        assert "hold" in steps or flow.items == sent

    main()


def answers(events: list[Any]) -> Any:
    fold = Answers()
    for event in events:
        fold.add(event)
    return fold.responses()


@given(acts, st.integers(2, 9))
def test_of_strings_nothing_is_lost_doubled_or_reordered(steps: list[str], max_bytes: int) -> None:
    @virtual_time
    async def main() -> None:
        flow = Flow(coalesce(max_bytes))
        sent = await flow.follow(steps, Gate(), "{:x} ".format)
        assert "".join(flow.items) == "".join(sent)
        assert all(len(item) <= max(max_bytes, 3) for item in flow.items)

    main()
