"""The pump, paused: nothing comes through a closed gate, and nothing is lost or doubled by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream import events as ev
from rxstream.errors import (
    Disconnected,
)
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.sources._pump import pump
from rxstream.sources._source import Source
from tests.support.pumped import DEAD, PING, holding, subscribe
from tests.support.scripted import DONE, HANG, Scripted, Step, numbered, raising, words
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_after_a_hold_on_the_loop_nothing_is_delivered() -> None:
    gate, script = Gate(), Scripted([1, ("a", "b", "c"), 1, "d", DONE])
    recorder, _ = subscribe(script.source(), gate=gate, on_next=holding(gate, 1))
    await asyncio.sleep(10)
    assert recorder.texts == ["a", "b"]
    gate.release("user")
    await asyncio.sleep(10)
    assert recorder.texts == ["a", "b", "c", "d"]
    assert recorder.times == [1, 1, 10, 11, 11]
    assert [event.seq for event in recorder.items] == [0, 1, 2, 3, 4]


@virtual_time
async def test_a_hold_right_behind_a_release_lets_nothing_through() -> None:
    """However many rounds of the loop lie between the two."""
    for rounds in range(8):
        gate = Gate()
        gate.hold("user")
        recorder, subscription = subscribe(Scripted(["a", HANG]).source(), gate=gate)
        await asyncio.sleep(1)
        gate.release("user")
        for _ in range(rounds):
            await asyncio.sleep(0)
        before = list(recorder.texts)
        gate.hold("user")
        await asyncio.sleep(1)
        assert recorder.texts == before
        subscription.dispose()


@pytest.mark.parametrize(("steps", "last"), [(["a", "b", DONE], 0), ([("a", DONE)], 1)])
@virtual_time
async def test_a_hold_right_behind_a_release_keeps_the_end_back_and_reads_nothing(steps: list[Step], last: int) -> None:
    """As above, where the pump waits for the gate between pieces, and before the end."""
    for rounds in range(8):
        gate, script = Gate(), Scripted(steps)
        recorder, subscription = subscribe(script.source(), gate=gate, on_next=holding(gate, last))
        await asyncio.sleep(1)
        gate.release("user")
        for _ in range(rounds):
            await asyncio.sleep(0)
        before = (script.reads, recorder.completed)
        gate.hold("user")
        await asyncio.sleep(1)
        assert (script.reads, recorder.completed) == before
        subscription.dispose()
        await settle()


@virtual_time
async def test_a_source_made_on_demand_is_not_advanced_while_the_gate_is_closed() -> None:
    gate, script = Gate(), Scripted(["a", "b", "c", DONE])
    recorder, _ = subscribe(script.source(), gate=gate, on_next=holding(gate, 1))
    await asyncio.sleep(10)
    assert (recorder.texts, script.reads, gate.read_ahead) == (["a", "b"], 2, 0)
    gate.release("user")
    await asyncio.sleep(1)
    assert recorder.completed


@virtual_time
async def test_read_ahead_is_bounded_and_visible_and_goes_back_to_nothing() -> None:
    gate, script = Gate(), Scripted(numbered(20))
    child = gate.child()
    recorder, _ = subscribe(script.source(read_ahead=5), gate=child, on_next=holding(child, 2))
    await asyncio.sleep(10)
    assert (script.given, gate.read_ahead, child.read_ahead) == (8, 5, 5)
    child.release("user")
    await asyncio.sleep(1)
    assert recorder.texts == [f"{number} " for number in range(20)]
    assert (gate.read_ahead, recorder.completed) == (0, True)


@virtual_time
async def test_bytes_are_counted_as_bytes() -> None:
    """One piece may pass the bound: it is a network read."""

    class Bytes:
        finished, failure = False, None

        def feed(self, data: bytes, /) -> list[ev.Event]:
            self.finished = data == b"end"
            return [ev.TextDelta(text=data.decode())]

        def close(self) -> list[ev.Event]:
            return []

    @asynccontextmanager
    async def open_() -> AsyncIterator[AsyncIterator[bytes]]:
        async def body() -> AsyncIterator[bytes]:
            for piece in (b"123456", b"78", b"90", b"end"):
                yield piece

        yield body()

    gate = Gate()
    gate.hold("user")
    recorder, _ = subscribe(Source(open=open_, decoder=Bytes, read_ahead=7), gate=gate)
    await asyncio.sleep(1)
    assert gate.read_ahead == 8
    gate.release("user")
    await asyncio.sleep(1)
    assert (recorder.texts, gate.read_ahead) == (["123456", "78", "90", "end"], 0)


@virtual_time
async def test_what_is_read_ahead_keeps_the_time_at_which_it_was_read() -> None:
    gate, script = Gate(), Scripted(words("a", "b", "c"))
    recorder, _ = subscribe(script.source(read_ahead=10), gate=gate, on_next=holding(gate, 0))
    await asyncio.sleep(100)
    gate.release("user")
    await asyncio.sleep(1)
    assert recorder.times == [1, 100, 100, 100]
    assert [event.at for event in recorder.items] == [1, 2, 3, 3]


@pytest.mark.parametrize("read_ahead", [0, 10])
@pytest.mark.parametrize(
    ("last", "error"), [(DONE, None), (raising(DEAD), DEAD), (DEAD, DEAD), (("b", DEAD), DEAD)], ids=str
)
@virtual_time
async def test_an_end_that_comes_in_a_pause_waits_its_turn(
    last: Step, error: Exception | None, read_ahead: int
) -> None:
    gate, script = Gate(), Scripted([1, "a", 1, last])
    recorder, _ = subscribe(script.source(read_ahead=read_ahead), gate=gate)
    await asyncio.sleep(0.5)
    gate.hold("user")
    await asyncio.sleep(50)
    assert (recorder.items, recorder.ended_at) == ([], None)
    gate.release("user")
    await asyncio.sleep(10)
    assert recorder.texts == ["a", "b"][: 1 + isinstance(last, tuple)]
    assert (recorder.error, recorder.completed) == (error, error is None)


@virtual_time
async def test_the_end_itself_waits_when_the_last_event_closed_the_gate() -> None:
    gate, script = Gate(), Scripted(["a", DONE])
    recorder, _ = subscribe(script.source(read_ahead=9), gate=gate, on_next=holding(gate, 1))
    await asyncio.sleep(10)
    assert (len(recorder.items), recorder.completed, script.reads) == (2, False, 2)
    gate.release("user")
    await settle()
    assert recorder.completed


def test_a_hold_from_another_thread_lets_at_most_one_event_through() -> None:
    async def main() -> None:
        gate = Gate()
        heard = 0

        def on_next(_: ev.Event) -> None:
            nonlocal heard
            heard += 1

        script = Scripted([*(str(i) for i in range(50_000)), DONE])
        subscription = pump(script.source()).subscribe(on_next, scheduler=LoopScheduler(gate=gate))

        def hammer() -> int:
            worst = 0
            for _ in range(50):
                gate.hold("thread")
                before = heard
                for _ in range(200):
                    worst = max(worst, heard - before)
                gate.release("thread")
            return worst

        assert await asyncio.to_thread(hammer) <= 1
        subscription.dispose()
        await settle()
        assert script.closed == 1

    asyncio.run(main())


pieces = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.0, 0.5, 1.0)), st.lists(st.sampled_from(("x", "yy", PING)), min_size=1, max_size=4)
    ),
    max_size=12,
)
actions = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.25, 0.5, 1.0, 3.0)), st.sampled_from(("hold a", "hold b", "release a", "release b"))
    ),
    max_size=12,
)


@given(pieces, actions, st.integers(0, 5), st.sampled_from(("end", "fail", "dispose")), st.floats(0, 20))
def test_any_pauses_lose_and_repeat_nothing(
    made: list[tuple[float, list[Any]]],
    pauses: list[tuple[float, str]],
    read_ahead: int,
    ending: str,
    disposed_at: float,
) -> None:
    """Law: pieces, pauses by two parties, resumes and a disposal, in any interleaving: each event once, in order, and
    never while the gate is closed; what was read ahead is bounded; the connection is closed; nothing is left.
    """
    expected = [event for _, piece in made for event in piece]
    last: list[Step] = [DONE] if ending != "fail" else [raising(Disconnected("gone"))]
    script = Scripted([step for wait, piece in made for step in (wait, tuple(piece))] + last)
    gate = Gate()

    def never_closed(_: ev.Event) -> None:
        assert not gate.closed

    @virtual_time
    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder, subscription = subscribe(script.source(read_ahead=read_ahead), gate=gate, on_next=never_closed)
        if ending == "dispose":
            loop.call_later(disposed_at, subscription.dispose)
        for wait, action in pauses:
            await asyncio.sleep(wait)
            what, name = action.split()
            (gate.hold if what == "hold" else gate.release)(name)
            assert gate.read_ahead <= read_ahead
        await asyncio.sleep(30)
        gate.release("a")
        gate.release("b")
        await asyncio.sleep(30)
        said = [event for event in recorder.items if not isinstance(event, ev.Finished)]
        texts = [event.text if isinstance(event, ev.TextDelta) else PING for event in said]
        assert texts == expected[: len(texts)]
        assert [event.seq for event in recorder.items] == list(range(len(recorder.items)))
        if ending != "dispose":
            assert texts == expected
            assert recorder.completed is (ending == "end")
        assert script.closed == script.opened
        assert gate.read_ahead == 0

    main()
