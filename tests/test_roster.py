"""Which streams run, which wait for their turn, and which are over and still known."""

from __future__ import annotations

import asyncio

import pytest
import reactivex as rx

from rxstream.errors import BulkheadFull, Cancelled, LoopShutDown, UnknownStream
from rxstream.events import TextDelta
from rxstream.manager import StreamManager
from rxstream.observable import Stream
from rxstream.sinks.handler import StreamMetadata
from tests.support.managing import Diary, scripted
from tests.support.scripted import HANG, Scripted, words
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_with_a_maximum_the_others_wait_in_order_and_their_queue_time_is_known() -> None:
    async with StreamManager(max_streams=2, max_waiting=3) as manager:
        names = [manager.start_stream(scripted("a", every=float(seconds))) for seconds in (1, 3, 1, 1)]
        assert list(manager.streams().values()) == ["active", "active", "inactive", "inactive"]
        assert (manager.pause_stream(names[2]), manager.resume_stream(names[2])) == (False, False)
        await asyncio.sleep(1.5)
        assert list(manager.streams().values()) == ["completed", "active", "active", "inactive"]
        assert manager.get_statistics(names[3]).queue_time == 1.5
        assert manager.get_statistics(names[3]).elapsed == 0
        assert manager.get_statistics(names[3]).started_at is None
        await manager.wait(names[3])
        assert [manager.get_statistics(name).queue_time for name in names] == [0, 0, 1, 2]
        assert [manager.get_statistics(name).elapsed for name in names] == [1, 3, 1, 1]
        assert manager.statistics.queue_time == 3


@virtual_time
async def test_the_queue_has_a_bound() -> None:
    async with StreamManager(max_streams=1, max_waiting=1) as manager:
        first, _second = manager.start_stream(scripted("a")), manager.start_stream(scripted("b"))
        with pytest.raises(BulkheadFull, match="1 streams run already, and 1 more wait"):
            manager.start_stream(scripted("c"))
        assert len(manager.streams()) == 2
        await manager.wait(first)
        await settle()
        manager.start_stream(scripted("d"))
        assert list(manager.streams().values()) == ["completed", "active", "inactive"]


@virtual_time
async def test_one_that_waits_can_be_cancelled_and_is_never_asked_for() -> None:
    async with StreamManager(max_streams=1) as manager:
        diary, script = Diary(), Scripted(words("b"))
        first = manager.start_stream(scripted("a"))
        second = manager.start_stream(Stream.of(script.events()), StreamMetadata(started_at=1), handlers=[diary])
        third = manager.start_stream(scripted("c"))
        await asyncio.sleep(0.5)
        assert manager.cancel_stream(second, "not needed")
        with pytest.raises(Cancelled):
            await manager.wait(second)
        assert diary.told == [("start", second), ("cancel", "not needed"), ("error", "Cancelled")]
        assert [(await manager.wait(name)).text for name in (first, third)] == ["a", "c"]
        assert script.opened == 0
        figures = manager.get_statistics(second)
        assert (figures.queue_time, figures.elapsed, figures.started_at) == (0.5, 0, None)


@virtual_time
async def test_a_long_row_of_streams_that_end_at_once() -> None:
    """They do not pile up on the stack."""
    async with StreamManager(max_streams=1, max_waiting=5_000, keep=5_000) as manager:
        names = [manager.start_stream(rx.of(TextDelta(text=str(number)))) for number in range(800)]
        assert (await manager.wait(names[-1])).text == "799"
        assert set(manager.streams().values()) == {"completed"}


@virtual_time
async def test_finished_streams_are_kept_up_to_a_number() -> None:
    async with StreamManager(keep=2) as manager:
        names = [manager.start_stream(["ab"]) for _ in range(3)]
        await asyncio.sleep(1)
        assert list(manager.streams()) == names[1:]
        with pytest.raises(UnknownStream):
            manager.get_result(names[0])
        running = manager.start_stream(scripted("a"))
        assert (manager.forget(names[1]), manager.forget(running)) == (True, False)
        with pytest.raises(UnknownStream):
            manager.forget(names[1])
        await manager.wait(running)
        figures = manager.statistics
        assert (figures.streams, figures.characters, figures.outputs) == ({"completed": 4}, 7, 4)
        assert repr(manager) == "<StreamManager 0 running, 0 waiting, 2 over>"


def test_who_waits_for_a_turn_on_a_loop_that_goes_down_fails_too() -> None:
    async def main() -> tuple[StreamManager, list[str]]:
        manager = StreamManager(max_streams=1)
        names = [manager.start_stream(Stream.of(Scripted([HANG]).events())) for _ in range(500)]
        await settle()
        return manager, names

    manager, names = asyncio.run(main())
    for name in names:
        with pytest.raises(LoopShutDown):
            manager.get_result(name, timeout=5)
    assert list(manager.streams().values()) == ["error"] * 500
    assert repr(manager) == "<StreamManager 0 running, 0 waiting, 500 over>"


@virtual_time
async def test_nobody_overtakes_who_waits() -> None:
    """Neither between an end and the start of who is next, which are not in one round of the loop."""
    async with StreamManager(max_streams=1) as manager:
        first, second = (manager.start_stream(scripted("a")) for _ in range(2))
        late: list[str] = []
        manager._roster.find(first).result.add_done_callback(lambda _done: late.append(manager.start_stream(["c"])))
        await manager.wait(first)
        await manager.wait(second)
        await manager.wait(late[0])
        begun = [manager.get_statistics(name).started_at or 0.0 for name in (first, second, late[0])]
        assert begun == sorted(begun)
        assert list(manager.streams().values()) == ["completed"] * 3


@virtual_time
async def test_a_number_that_is_given_is_nobody_else_s_id() -> None:
    async with StreamManager() as manager:
        names = [manager.start_stream(["a"], stream_id=name) for name in ("stream-2", "", "", "mine", "")]
        assert names == ["stream-2", "stream-1", "stream-3", "mine", "stream-4"]
        for name in names:
            await manager.wait(name)


@virtual_time
async def test_an_unknown_id_is_compared_with_the_newest_alone() -> None:
    """Whoever asks for one that was forgotten does so often."""
    async with StreamManager() as manager:
        for number in range(101):
            manager.start_stream(rx.never(), stream_id=f"question {number}" if number else "answer")
        with pytest.raises(UnknownStream, match=r"did you mean 'question 100'\?"):
            manager.session("question 1000")
        with pytest.raises(UnknownStream, match=r"no stream has the id 'answr'$"):
            manager.session("answr")
