"""The bulkhead: how many run, who comes next, and that no place is ever lost; on one loop and on many."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rxstream.bulkhead import Bulkhead, BulkheadStatistics
from rxstream.errors import BulkheadFull, ConfigurationError
from rxstream.guards import ModelKey, Ticket
from rxstream.operators import guard
from rxstream.sources._pump import pump
from tests.support.scripted import DONE, HANG, Recorder, Scripted
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

KEY = ModelKey("p", "m", "")


def now() -> float:
    return asyncio.get_running_loop().time()


async def run(bulkhead: Bulkhead, seconds: float, told: list[tuple[str, float]], name: str) -> None:
    """Take a place for some seconds, and write down when."""
    ticket = Ticket(KEY)
    await bulkhead.enter(ticket)
    told.append((name, now()))
    try:
        await asyncio.sleep(seconds)
    finally:
        bulkhead.leave(ticket)


@virtual_time
async def test_no_more_run_than_there_are_places_and_the_first_to_come_is_the_first_to_go() -> None:
    bulkhead, told = Bulkhead(2), list[tuple[str, float]]()
    async with asyncio.TaskGroup() as group:
        for name, seconds in (("a", 3), ("b", 1), ("c", 1), ("d", 9), ("e", 1)):
            group.create_task(run(bulkhead, seconds, told, name))
        await settle()
        assert bulkhead.statistics == BulkheadStatistics(running=2, waiting=3, rejected=0)
        assert repr(bulkhead) == "<Bulkhead 2 of 2 running, 3 waiting>"
    assert told == [("a", 0), ("b", 0), ("c", 1), ("d", 2), ("e", 3)]
    assert bulkhead.statistics == BulkheadStatistics(0, 0, 0)


@virtual_time
async def test_who_finds_a_place_does_not_wait_a_round() -> None:
    waited = Bulkhead(1).enter(Ticket(KEY))
    with pytest.raises(StopIteration):
        waited.send(None)


@virtual_time
async def test_nobody_overtakes_who_has_just_been_called() -> None:
    bulkhead, told, first = Bulkhead(1), list[tuple[str, float]](), Ticket(KEY)
    await bulkhead.enter(first)
    waits = asyncio.create_task(run(bulkhead, 2, told, "waits"))
    await settle()
    bulkhead.leave(first)
    late = asyncio.create_task(run(bulkhead, 1, told, "late"))
    late_at_once = run(bulkhead, 1, told, "at once")
    assert late_at_once.send(None) is not None, "the place is free, but it is not his"
    late_at_once.close()
    await asyncio.gather(waits, late)
    assert told == [("waits", 0), ("late", 2)]


@virtual_time
async def test_a_full_queue_refuses_at_once() -> None:
    bulkhead, told = Bulkhead(1, max_waiting=1), list[tuple[str, float]]()
    tasks = [asyncio.create_task(run(bulkhead, 5, told, str(number))) for number in range(2)]
    await settle()
    for _ in range(2):
        with pytest.raises(BulkheadFull, match="1 streams run already, and 1 more wait") as caught:
            await bulkhead.enter(Ticket(KEY))
        assert caught.value.retry_after is None
        assert caught.value.retryable
    assert bulkhead.statistics == BulkheadStatistics(1, 1, 2)
    await asyncio.gather(*tasks)
    assert told == [("0", 0), ("1", 5)]


@virtual_time
async def test_none_may_wait() -> None:
    bulkhead, ticket = Bulkhead(1, max_waiting=0), Ticket(KEY)
    await bulkhead.enter(ticket)
    with pytest.raises(BulkheadFull):
        await bulkhead.enter(Ticket(KEY))
    bulkhead.leave(ticket)
    await bulkhead.enter(Ticket(KEY))


@pytest.mark.parametrize("most", [0, 0.5, 2.5])
@virtual_time
async def test_who_has_waited_long_enough_is_refused(most: float) -> None:
    bulkhead, told = Bulkhead(1, max_wait=most), list[tuple[str, float]]()
    runs = asyncio.create_task(run(bulkhead, 3, told, "runs"))
    await settle()
    with pytest.raises(BulkheadFull, match=f"none has ended within {most:g} s"):
        await bulkhead.enter(Ticket(KEY))
    assert (now(), bulkhead.statistics) == (most, BulkheadStatistics(1, 0, 1))
    await runs
    await run(bulkhead, 0, told, "next")
    assert told == [("runs", 0), ("next", 3)]


@virtual_time
async def test_who_is_cancelled_while_he_waits_takes_no_place_not_even_one_he_was_called_to() -> None:
    bulkhead, told, first = Bulkhead(1), list[tuple[str, float]](), Ticket(KEY)
    await bulkhead.enter(first)
    tasks = [asyncio.create_task(run(bulkhead, 1, told, str(number))) for number in range(3)]
    await settle()
    tasks[1].cancel()
    await settle()
    assert bulkhead.statistics.waiting == 2
    bulkhead.leave(first)
    tasks[0].cancel()  # he is called, and has not come yet
    await asyncio.gather(*tasks, return_exceptions=True)
    assert told == [("2", 0)]
    assert bulkhead.statistics == BulkheadStatistics(0, 0, 0)


@virtual_time
async def test_who_is_left_twice_or_has_never_entered_frees_no_second_place() -> None:
    bulkhead, ticket = Bulkhead(1), Ticket(KEY)
    await bulkhead.enter(ticket)
    bulkhead.leave(Ticket(KEY))
    assert bulkhead.statistics.running == 1
    bulkhead.leave(ticket)
    bulkhead.leave(ticket)
    await bulkhead.enter(ticket)
    assert bulkhead.statistics.running == 1


@virtual_time
async def test_streams_share_it() -> None:
    bulkhead, recorders = Bulkhead(2), [Recorder() for _ in range(5)]
    script = Scripted([1, "Hello", DONE])
    for recorder in recorders:
        source = pump(script.source()).pipe(guard(bulkhead))
        source.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed)
    most = 0
    for _ in range(8):
        await asyncio.sleep(0.5)
        most = max(most, script.running)
    assert most == 2
    assert [recorder.ended_at for recorder in recorders] == [1, 1, 2, 2, 3]


@virtual_time
async def test_a_stream_that_is_disposed_makes_room() -> None:
    bulkhead = Bulkhead(1)
    hangs, waits = Scripted([HANG]), Scripted(["Hello", DONE])
    first = pump(hangs.source()).pipe(guard(bulkhead)).subscribe()
    recorder = Recorder()
    source = pump(waits.source()).pipe(guard(bulkhead))
    source.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed)
    await asyncio.sleep(3)
    assert waits.opened == 0
    first.dispose()
    await settle()
    assert (recorder.completed, hangs.running, bulkhead.statistics.running) == (True, 0, 0)


# --- several loops ----------------------------------------------------------------------------------------------------------


def test_on_several_loops_at_once_no_more_run_than_there_are_places_and_all_have_their_turn() -> None:
    bulkhead, lock = Bulkhead(3), threading.Lock()
    running, most, served = 0, 0, 0

    async def one() -> None:
        nonlocal running, most, served
        ticket = Ticket(KEY)
        await bulkhead.enter(ticket)
        with lock:
            running += 1
            most = max(most, running)
        await asyncio.sleep(0)
        with lock:
            running -= 1
            served += 1
        bulkhead.leave(ticket)

    async def many() -> None:
        await asyncio.gather(*(one() for _ in range(50)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (served, bulkhead.statistics) == (200, BulkheadStatistics(0, 0, 0))
    assert 1 <= most <= 3


def test_who_waits_longest_comes_next_whichever_loop_he_is_on() -> None:
    bulkhead, order = Bulkhead(1), list[str]()
    ticket = Ticket(KEY)
    asyncio.run(bulkhead.enter(ticket))

    async def wait(name: str) -> None:
        mine = Ticket(KEY)
        await bulkhead.enter(mine)
        order.append(name)
        bulkhead.leave(mine)

    threads: list[threading.Thread] = []
    for number in range(6):
        thread = threading.Thread(target=asyncio.run, args=(wait(str(number)),))
        threads.append(thread)
        thread.start()
        _wait_for(bulkhead, waiting=number + 1)
    bulkhead.leave(ticket)
    for thread in threads:
        thread.join(30)
    assert order == [str(number) for number in range(6)]


def _wait_for(bulkhead: Bulkhead, *, waiting: int) -> None:
    reached = threading.Event()
    for _ in range(30_000):
        if bulkhead.statistics.waiting == waiting:
            return
        reached.wait(0.001)
    raise AssertionError(f"never {waiting} wait: {bulkhead}")


def test_who_waits_on_a_loop_that_was_closed_is_passed_over() -> None:
    bulkhead, ticket, told = Bulkhead(1), Ticket(KEY), list[tuple[str, float]]()
    gone = VirtualLoop()
    gone.set_exception_handler(lambda *_: None)  # that a task is lost with its loop is what is wanted here
    gone.run_until_complete(bulkhead.enter(ticket))
    waiting = gone.create_task(bulkhead.enter(Ticket(KEY)))
    gone.run_until_complete(settle())
    gone.close()
    assert bulkhead.statistics.waiting == 1

    async def main() -> None:
        waits = asyncio.create_task(run(bulkhead, 1, told, "next"))
        await settle()
        bulkhead.leave(ticket)
        await waits

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    assert told == [("next", 0)]
    assert not waiting.done()


def test_who_waits_on_a_loop_that_stands_still_holds_up_nobody_and_keeps_his_place() -> None:
    bulkhead, ticket, still = Bulkhead(1), Ticket(KEY), VirtualLoop()

    async def begin() -> asyncio.Task[None]:
        await bulkhead.enter(ticket)
        waits = asyncio.create_task(bulkhead.enter(Ticket(KEY)))
        await settle()
        return waits

    waits = still.run_until_complete(begin())
    told: list[tuple[str, float]] = []

    async def main() -> None:
        others = [asyncio.create_task(run(bulkhead, 3, told, name)) for name in ("a", "b")]
        await settle()
        bulkhead.leave(ticket)
        await asyncio.gather(*others)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    assert told == [("a", 0), ("b", 3)]
    assert not waits.done()
    still.run_until_complete(waits)
    assert bulkhead.statistics[:2] == (1, 0)
    still.close()


# --- any order --------------------------------------------------------------------------------------------------------------


class Places(RuleBasedStateMachine):
    """Against a list of those who run and one of those who wait."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.bulkhead = Bulkhead(2, max_waiting=3)
        self.running: list[Ticket] = []
        self.waiting: list[tuple[Ticket, asyncio.Task[None]]] = []
        self.rejected = 0

    def settle(self) -> None:
        self.loop.run_until_complete(settle())

    @rule()
    def enter(self) -> None:
        ticket = Ticket(KEY)
        task = self.loop.create_task(self.bulkhead.enter(ticket))
        self.settle()
        if len(self.running) < 2:
            self.running.append(ticket)
        elif len(self.waiting) < 3:
            self.waiting.append((ticket, task))
            return
        else:
            self.rejected += 1
            assert isinstance(task.exception(), BulkheadFull)
            return
        assert task.done()
        assert task.exception() is None

    @precondition(lambda self: self.running)
    @rule(pick=st.integers(0, 9))
    def leave(self, pick: int) -> None:
        self.bulkhead.leave(self.running.pop(pick % len(self.running)))
        self.settle()
        self._move_up()

    @precondition(lambda self: self.waiting)
    @rule(pick=st.integers(0, 9))
    def cancel(self, pick: int) -> None:
        _, task = self.waiting.pop(pick % len(self.waiting))
        task.cancel()
        self.settle()
        assert task.cancelled()

    @precondition(lambda self: self.waiting and self.running)
    @rule()
    def leave_and_cancel_who_is_called(self) -> None:
        self.bulkhead.leave(self.running.pop(0))
        _, task = self.waiting.pop(0)
        task.cancel()
        self.settle()
        assert task.cancelled()
        self._move_up()

    def _move_up(self) -> None:
        while self.waiting and len(self.running) < 2:
            ticket, task = self.waiting.pop(0)
            assert task.done()
            self.running.append(ticket)

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @invariant()
    def as_counted(self) -> None:
        counted = BulkheadStatistics(len(self.running), len(self.waiting), self.rejected)
        assert self.bulkhead.statistics == counted
        assert not any(task.done() for _, task in self.waiting)

    def teardown(self) -> None:
        for _, task in self.waiting:
            task.cancel()
        self.settle()
        self.loop.close()


TestPlaces = Places.TestCase
TestPlaces.settings = settings(max_examples=settings().max_examples // 3, stateful_step_count=25)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"max_concurrent": 1.5}, "max_concurrent"),
        ({"max_waiting": -1}, "max_waiting"),
        ({"max_wait": -1}, "max_wait"),
        ({"max_wait": float("nan")}, "max_wait"),
    ],
)
def test_options(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Bulkhead(**{"max_concurrent": 1, **options})
