"""Outlets emit only while the gate is open; marks hold it while a buffer is full."""

from __future__ import annotations

import asyncio
import sys
import threading
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observer

from rxstream._outlet import Mark, Outlet
from rxstream.errors import Cancelled, LimitExceeded, LoopShutDown
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.operators import on_backpressure_buffer
from tests.support.scripted import Recorder, Scripted, numbered
from tests.support.until import until
from tests.support.virtual_loop import settle, virtual_time


def outlet(recorder: Recorder, *gates: Gate, most: int = 1000) -> tuple[Outlet[Any], LoopScheduler]:
    scheduler = LoopScheduler()
    observer: Observer[Any] = Observer(recorder.on_next, recorder.on_error, recorder.on_completed)
    return Outlet(observer, scheduler, *gates, most=most), scheduler


@virtual_time
async def test_with_the_gate_open_all_goes_straight_through() -> None:
    recorder = Recorder()
    out, _ = outlet(recorder)
    out.on_next(1)
    assert recorder.items == [1]
    out.on_completed()
    assert recorder.completed


@virtual_time
async def test_what_comes_while_the_gate_is_closed_waits_and_goes_out_in_the_next_round() -> None:
    recorder = Recorder()
    out, scheduler = outlet(recorder)
    scheduler.gate.hold("test")
    out.on_next(1)
    out.on_next(2)
    out.on_completed()
    assert recorder.items == []
    scheduler.gate.release("test")
    assert recorder.items == []  # not within the call that opened it
    await settle()
    assert recorder.items == [1, 2]
    assert recorder.completed


@virtual_time
async def test_what_is_new_comes_after_what_waits() -> None:
    recorder = Recorder()
    out, scheduler = outlet(recorder)
    scheduler.gate.hold("test")
    out.on_next(1)
    scheduler.gate.release("test")
    out.on_next(2)
    assert recorder.items == [1, 2]


@virtual_time
async def test_an_error_comes_after_what_waits() -> None:
    recorder = Recorder()
    out, scheduler = outlet(recorder)
    scheduler.gate.hold("test")
    out.on_next(1)
    out.on_error(ValueError("late"))
    assert recorder.error is None
    scheduler.gate.release("test")
    await settle()
    assert recorder.items == [1]
    assert str(recorder.error) == "late"


@virtual_time
async def test_that_the_loop_goes_down_is_told_at_once() -> None:
    """No gate will open any more, and somebody may wait for the end in another thread."""
    recorder = Recorder()
    out, scheduler = outlet(recorder)
    scheduler.gate.hold("test")
    out.on_next(1)
    out.on_error(error := LoopShutDown())
    assert recorder.items == []
    assert recorder.error is error
    assert not scheduler.gate._watchers


@virtual_time
async def test_even_then_what_waits_comes_first_where_the_gate_is_open() -> None:
    recorder = Recorder()
    out, scheduler = outlet(recorder)
    scheduler.gate.hold("test")
    out.on_next(1)
    scheduler.gate.release("test")
    out.on_error(LoopShutDown())
    assert recorder.items == [1]
    assert isinstance(recorder.error, Cancelled)


def test_that_the_loop_goes_down_is_told_of_an_end_that_came_in_its_last_round() -> None:
    recorder = Recorder()

    def end() -> None:
        out, scheduler = outlet(recorder)
        scheduler.gate.hold("test")
        out.on_completed()
        out.outlast()

    async def main() -> None:
        asyncio.get_running_loop().call_soon(end)

    asyncio.run(main())
    assert isinstance(recorder.error, LoopShutDown)


@pytest.mark.parametrize("error", [None, ValueError("late")])
def test_so_it_is_when_the_source_has_ended_before(error: Exception | None) -> None:
    """Its end waits at the gate: nobody else is left to tell."""
    recorder = Recorder()

    async def main() -> None:
        out, scheduler = outlet(recorder)
        scheduler.gate.hold("test")
        out.on_next(1)
        out.on_completed() if error is None else out.on_error(error)
        await settle()
        assert recorder.ended_at is None

    asyncio.run(main())
    assert recorder.items == []
    assert isinstance(recorder.error, Cancelled)


@virtual_time
async def test_an_end_that_waited_leaves_nothing_behind_when_it_is_told_or_nobody_listens() -> None:
    """The test fails if a task is left."""
    for leave in (False, True):
        recorder = Recorder()
        out, scheduler = outlet(recorder)
        scheduler.gate.hold("test")
        out.on_completed()
        await settle()
        if leave:
            await asyncio.to_thread(out.dispose)
        scheduler.gate.release("test")
        await settle()
        assert recorder.completed == (not leave)


@virtual_time
async def test_every_gate_must_be_open() -> None:
    recorder, other = Recorder(), Gate()
    out, scheduler = outlet(recorder, other)
    other.hold("test")
    scheduler.gate.hold("test")
    out.on_next(1)
    scheduler.gate.release("test")
    await settle()
    assert recorder.items == []
    other.release("test")
    await settle()
    assert recorder.items == [1]


@virtual_time
async def test_the_observer_may_close_the_gate_in_the_middle() -> None:
    """Nothing more comes before it opens again."""
    recorder = Recorder()
    out, scheduler = outlet(recorder)
    scheduler.gate.hold("test")
    for number in range(4):
        out.on_next(number)
    recorder.and_then = lambda item: scheduler.gate.hold("observer") if item == 1 else None
    scheduler.gate.release("test")
    await settle()
    assert recorder.items == [0, 1]
    scheduler.gate.release("observer")
    await settle()
    assert recorder.items == [0, 1, 2, 3]


@virtual_time
async def test_what_its_observer_causes_comes_after_and_no_deeper() -> None:
    """An emission from within an emission is not nested, however long the chain."""
    got: list[int] = []
    depths: list[int] = []

    def on_next(number: int) -> None:
        got.append(number)
        depths.append(_depth())
        if number < 10_000:
            out.on_next(number + 1)

    out: Outlet[int] = Outlet(Observer(on_next), LoopScheduler(), most=10)
    out.on_next(0)
    await until(lambda: len(got) == 10_001)
    assert got == list(range(10_001))
    assert max(depths) - min(depths) < 10


def _depth() -> int:
    frame: types.FrameType | None = sys._getframe()
    depth = 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


async def test_a_long_queue_lets_the_loop_breathe() -> None:
    """Other callbacks have their turn long before it is empty."""
    rounds = 0
    got: list[int] = []

    def other() -> None:
        nonlocal rounds
        rounds += 1
        if len(got) < 100_000:
            loop.call_soon(other)

    loop = asyncio.get_running_loop()
    scheduler = LoopScheduler()
    out: Outlet[int] = Outlet(Observer(got.append), scheduler, most=100_000)
    scheduler.gate.hold("test")
    for number in range(100_000):
        out.on_next(number)
    loop.call_soon(other)
    scheduler.gate.release("test")
    await until(lambda: len(got) == 100_000)
    assert got == list(range(100_000))
    assert rounds > 3


@virtual_time
async def test_nothing_comes_after_disposal() -> None:
    recorder = Recorder()
    out, scheduler = outlet(recorder)
    scheduler.gate.hold("test")
    out.on_next(1)
    out.dispose()
    out.on_next(2)
    out.on_completed()
    scheduler.gate.release("test")
    await settle()
    assert recorder.items == []
    assert recorder.ended_at is None
    assert not scheduler.gate._watchers


async def test_another_thread_may_dispose_between_the_question_and_the_answer() -> None:
    """At most the one item that is on its way comes, and nothing fails."""
    got: list[int] = []

    class Disposed(Outlet[int]):
        def pending(self) -> bool:
            there_is = super().pending()
            thread = threading.Thread(target=self.dispose)
            thread.start()
            thread.join()
            return there_is

    out = Disposed(Observer(got.append), LoopScheduler())
    out.items.extend([1, 2, 3])
    out.flush()
    assert got in ([], [1])
    await settle()
    assert not out.items


@virtual_time
async def test_too_many_that_wait_end_the_stream_after_them() -> None:
    recorder, stopped = Recorder(), []
    scheduler = LoopScheduler()
    out: Outlet[int] = Outlet(
        Observer(recorder.on_next, recorder.on_error, recorder.on_completed),
        scheduler,
        most=3,
        overflowed=lambda: stopped.append(True),
    )
    scheduler.gate.hold("test")
    for number in range(6):
        out.on_next(number)
    assert stopped == [True]
    scheduler.gate.release("test")
    await settle()
    assert recorder.items == [0, 1, 2]
    assert isinstance(recorder.error, LimitExceeded)
    assert "on_backpressure" in str(recorder.error)


async def test_opened_by_another_thread_it_emits_on_its_loop() -> None:
    loop = asyncio.get_running_loop()
    came: asyncio.Future[bool] = loop.create_future()
    scheduler = LoopScheduler()
    out: Outlet[int] = Outlet(Observer(lambda _: came.set_result(asyncio.get_running_loop() is loop)), scheduler)
    scheduler.gate.hold("test")
    out.on_next(1)
    await asyncio.to_thread(scheduler.gate.release, "test")
    assert await asyncio.wait_for(came, 10)


def test_a_gate_that_opens_when_the_loop_is_closed_disturbs_nobody() -> None:
    loop = asyncio.new_event_loop()
    scheduler = LoopScheduler(loop)
    out: Outlet[int] = Outlet(Observer(), scheduler)
    scheduler.gate.hold("test")
    loop.close()
    scheduler.gate.release("test")
    assert not out.over


@virtual_time
async def test_what_the_observer_raises_when_nobody_emits_comes_back_to_it() -> None:
    """And with it the end: RxPY's own observer then disposes what is above."""
    script, recorder = Scripted(numbered(100)), Recorder()

    def no(_: object) -> None:
        if len(recorder.items) == 3:
            raise ValueError("no")

    recorder.and_then = no
    scheduler = LoopScheduler()
    scheduler.gate.hold("test")
    script.events().pipe(on_backpressure_buffer()).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler
    )
    await settle()
    scheduler.gate.release("test")
    await settle()
    assert str(recorder.error) == "no"
    assert len(recorder.items) == 3
    assert script.running == 0


@virtual_time
async def test_what_the_observer_raises_reaches_who_emits() -> None:
    """As it does with Rx's own operators; what comes later is not kept from it."""
    got: list[int] = []

    def on_next(item: int) -> None:
        if item == 1:
            raise ValueError("no")
        got.append(item)

    out: Outlet[int] = Outlet(Observer(on_next), LoopScheduler())
    with pytest.raises(ValueError, match="no"):
        out.on_next(1)
    out.on_next(2)
    assert got == [2]


@given(
    steps=st.lists(
        st.sampled_from(["item", "hold", "release", "hold2", "release2", "wait", "end"]), min_size=1, max_size=40
    )
)
def test_order_is_kept_and_nothing_lost_however_gates_move(steps: list[str]) -> None:
    @virtual_time
    async def check() -> None:
        recorder, second = Recorder(), Gate()
        out, scheduler = outlet(recorder, second)
        sent, ended = 0, False

        def only_while_open(_: int) -> None:
            assert not scheduler.gate.closed
            assert not second.closed

        recorder.and_then = only_while_open
        for step in steps:
            match step:
                case "item" if not ended:
                    out.on_next(sent)
                    sent += 1
                case "hold":
                    scheduler.gate.hold("test")
                case "release":
                    scheduler.gate.release("test")
                case "hold2":
                    second.hold("test")
                case "release2":
                    second.release("test")
                case "end":
                    ended = True
                    out.on_completed()
                case _:
                    await settle()
        scheduler.gate.release("test")
        second.release("test")
        await settle()
        assert recorder.items == list(range(sent))
        assert recorder.completed == ended

    check()


# --- marks ------------------------------------------------------------------------------------------------------------------


def test_a_mark_holds_from_high_to_low() -> None:
    gate = Gate()
    mark = Mark(gate, "buffer", high=4, low=1)
    closed = []
    for level in (1, 3, 4, 5, 4, 2, 1, 2, 3, 4, 0):
        mark.level(level)
        closed.append(gate.closed)
    assert closed == [False, False, True, True, True, True, False, False, False, True, False]


def test_marks_of_one_name_do_not_undo_each_other() -> None:
    gate = Gate()
    one, two = Mark(gate, "buffer", high=1, low=0), Mark(gate, "buffer", high=1, low=0)
    one.level(1)
    two.level(1)
    one.level(0)
    assert gate.closed
    two.level(0)
    assert not gate.closed


def test_a_closed_mark_lets_go_and_holds_no_more() -> None:
    gate = Gate()
    mark = Mark(gate, "buffer", high=1, low=0)
    mark.level(1)
    mark.close()
    assert not gate.closed
    mark.level(2)
    assert not gate.closed
