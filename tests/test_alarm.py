"""The alarm: one timer that is moved."""

from __future__ import annotations

import asyncio
import threading

from hypothesis import given
from hypothesis import strategies as st

from rxstream._alarm import Alarm, Countdown
from rxstream.loop import LoopScheduler
from tests.support.virtual_loop import VirtualLoop, timers, virtual_time


def alarm() -> tuple[Alarm, list[float]]:
    """An alarm, and when it rang."""
    loop = asyncio.get_running_loop()
    rang: list[float] = []
    return Alarm(loop, lambda: rang.append(loop.time())), rang


@virtual_time
async def test_rings_once_at_its_time() -> None:
    one, rang = alarm()
    one.set(2.0)
    assert one.at == 2.0
    await asyncio.sleep(10)
    assert rang == [2.0]
    assert one.at is None


@virtual_time
async def test_moved_to_a_later_time_rings_then_only() -> None:
    one, rang = alarm()
    one.set(1.0)
    one.set(2.0)
    await asyncio.sleep(1.5)
    one.set(3.0)
    await asyncio.sleep(10)
    assert rang == [3.0]


@virtual_time
async def test_moved_to_an_earlier_time_rings_then_only() -> None:
    one, rang = alarm()
    one.set(5.0)
    one.set(1.0)
    await asyncio.sleep(10)
    assert rang == [1.0]


@virtual_time
async def test_cleared_does_not_ring_and_can_be_set_again() -> None:
    one, rang = alarm()
    one.set(1.0)
    one.clear()
    await asyncio.sleep(2)
    assert rang == []
    one.set(3.0)
    await asyncio.sleep(10)
    assert rang == [3.0]


@virtual_time
async def test_cleared_and_set_again_before_its_old_time() -> None:
    one, rang = alarm()
    one.set(5.0)
    one.clear()
    one.set(2.0)
    await asyncio.sleep(10)
    assert rang == [2.0]


@virtual_time
async def test_a_time_that_has_passed_rings_at_once() -> None:
    await asyncio.sleep(5)
    one, rang = alarm()
    one.set(1.0)
    await asyncio.sleep(1)
    assert rang == [5.0]


@virtual_time
async def test_may_be_set_while_it_rings() -> None:
    loop = asyncio.get_running_loop()
    rang: list[float] = []

    def ring() -> None:
        rang.append(loop.time())
        if len(rang) < 3:
            one.set(loop.time() + 1)

    one = Alarm(loop, ring)
    one.set(1.0)
    await asyncio.sleep(10)
    assert rang == [1.0, 2.0, 3.0]


@virtual_time
async def test_closed_leaves_no_timer_behind() -> None:
    one, rang = alarm()
    one.set(1000.0)
    one.close()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    assert timers() == []
    await asyncio.sleep(2000)
    assert rang == []


async def test_may_be_set_from_another_thread() -> None:
    """It rings on its own loop."""
    loop = asyncio.get_running_loop()
    rang: asyncio.Future[int] = loop.create_future()
    one = Alarm(loop, lambda: rang.set_result(threading.get_ident()))
    setting = threading.Thread(target=one.set, args=(loop.time(),))
    setting.start()
    assert await asyncio.wait_for(rang, 10) == threading.get_ident()
    setting.join()


@given(moves=st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 9))), max_size=8))
def test_rings_when_a_plain_timer_would(moves: list[tuple[int, int | None]]) -> None:
    """At waits, it is set so many seconds ahead, or cleared: the last word counts."""

    @virtual_time
    async def check() -> None:
        loop = asyncio.get_running_loop()
        one, rang = alarm()
        plain: list[float] = []
        timer: asyncio.TimerHandle | None = None
        for wait, ahead in moves:
            await asyncio.sleep(wait + 0.5)
            if timer is not None:
                timer.cancel()
            if ahead is None:
                one.clear()
            else:
                one.set(loop.time() + ahead + 0.25)
                timer = loop.call_at(loop.time() + ahead + 0.25, lambda: plain.append(loop.time()))
        await asyncio.sleep(100)
        assert rang == plain

    check()


# --- the countdown --------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_countdown_stands_still_while_the_gate_is_closed() -> None:
    scheduler, rang = LoopScheduler(), list[float]()
    countdown = Countdown(scheduler, 5.0, lambda: rang.append(scheduler.loop.time()))
    scheduler.gate.hold("before it begins")
    countdown.start()
    await asyncio.sleep(10)
    assert countdown.left == 5.0
    scheduler.gate.release("before it begins")
    await asyncio.sleep(2)
    assert countdown.left == 3.0
    scheduler.gate.hold("user")
    await asyncio.sleep(50)
    assert (countdown.left, rang) == (3.0, [])
    scheduler.gate.release("user")
    await asyncio.sleep(50)
    assert (countdown.left, rang) == (0.0, [65.0])
    countdown.close()
    assert not scheduler.gate._watchers


@virtual_time
async def test_a_countdown_that_is_closed_does_not_ring() -> None:
    scheduler, rang = LoopScheduler(), list[int]()
    for paused in (True, False):
        countdown = Countdown(scheduler, 5.0, lambda: rang.append(1))
        countdown.start()
        if paused:
            scheduler.gate.hold("user")
        countdown.close()
        scheduler.gate.release("user")
        await asyncio.sleep(50)
        assert (countdown.left, rang) == (0.0, [])
