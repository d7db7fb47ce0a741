"""The token bucket: how much, how soon, and in which order; on one loop and on many."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import ConfigurationError
from rxstream.limiter import TokenBucket
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time


class Hand:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def bucket_here(rate: float, *, per: float = 1.0, burst: float | None = None) -> TokenBucket:
    return TokenBucket(rate, per=per, burst=burst, clock=asyncio.get_running_loop().time)


# --- without waiting ----------------------------------------------------------------------------------------------------


def test_what_is_there_is_taken_and_else_it_says_how_long_to_wait() -> None:
    clock = Hand()
    bucket = TokenBucket(10, burst=3, clock=clock)
    assert [bucket.try_acquire() for _ in range(3)] == [0, 0, 0]
    assert bucket.try_acquire() == pytest.approx(0.1)
    assert bucket.try_acquire(2) == pytest.approx(0.2)
    assert bucket.available == 0
    clock.now = 0.1
    assert bucket.try_acquire() == 0
    assert bucket.try_acquire() == pytest.approx(0.1)


def test_it_fills_up_to_its_burst() -> None:
    clock = Hand()
    bucket = TokenBucket(10, burst=3, clock=clock)
    bucket.try_acquire(3)
    clock.now = 100
    assert bucket.available == 3


def test_a_clock_that_goes_back_takes_nothing_away() -> None:
    clock = Hand()
    clock.now = 50
    bucket = TokenBucket(10, burst=3, clock=clock)
    clock.now = 40
    assert bucket.available == 3


def test_the_rate_is_so_many_in_so_long_and_as_many_may_come_at_once() -> None:
    bucket = TokenBucket(90, per=60)
    assert (bucket.rate, bucket.burst, bucket.available) == (1.5, 90, 90)
    assert repr(bucket) == "TokenBucket(1.5 a second, burst=90, available=90)"


def test_more_than_it_ever_holds_is_given_when_it_is_full_and_paid_for_by_the_next() -> None:
    clock = Hand()
    bucket = TokenBucket(10, burst=5, clock=clock)
    bucket.try_acquire(1)
    assert bucket.try_acquire(25) == pytest.approx(0.1)
    clock.now = 0.1
    assert bucket.try_acquire(25) == 0
    assert bucket.available == -20
    assert bucket.try_acquire(1) == pytest.approx(2.1)


def test_nothing_is_always_there() -> None:
    bucket = TokenBucket(1, burst=1, clock=Hand())
    bucket.try_acquire(9)
    assert bucket.try_acquire(0) == 0


@pytest.mark.parametrize(
    ("rate", "per", "burst", "name"),
    [
        (0, 1, None, "rate"),
        (-1, 1, None, "rate"),
        (1, 0, None, "per"),
        (1, 1, 0, "burst"),
        (float("inf"), 1, 1, "rate"),
    ],
)
def test_a_bucket_that_is_none_is_refused(rate: float, per: float, burst: float | None, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        TokenBucket(rate, per=per, burst=burst)


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf")])
def test_an_amount_that_is_none_is_refused(amount: float) -> None:
    bucket = TokenBucket(1)
    with pytest.raises(ConfigurationError, match="amount"):
        bucket.try_acquire(amount)
    with pytest.raises(ConfigurationError, match="amount"):
        asyncio.run(bucket.acquire(amount))
    assert bucket.available == 1


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1)), max_size=40), st.floats(0.1, 30), st.floats(0.5, 20))
def test_no_span_of_time_has_more_than_the_rate_and_one_burst(
    asked: list[tuple[float, float]], rate: float, burst: float
) -> None:
    clock = Hand()
    bucket = TokenBucket(rate, burst=burst, clock=clock)
    taken: list[tuple[float, float]] = []
    for later, share in asked:
        clock.now += later
        if not bucket.try_acquire(share * burst):
            taken.append((clock.now, share * burst))
    for first, (start, _) in enumerate(taken):
        total = 0.0
        for at, amount in taken[first:]:
            total += amount
            assert total <= (at - start) * rate + burst + 1e-3


def test_what_was_not_used_is_put_back_up_to_the_burst_and_what_was_used_besides_is_owed() -> None:
    clock = Hand()
    bucket = TokenBucket(10, burst=5, clock=clock)
    bucket.try_acquire(4)
    bucket.charge(-2)
    assert bucket.available == 3
    bucket.charge(-20)
    assert bucket.available == 5
    bucket.charge(15)
    assert bucket.available == -10
    assert bucket.try_acquire() == pytest.approx(1.1)
    with pytest.raises(ConfigurationError, match="amount"):
        bucket.charge(float("nan"))


def test_how_long_it_will_take_is_told_without_taking_any() -> None:
    clock = Hand()
    bucket = TokenBucket(10, burst=5, clock=clock)
    assert [bucket.delay(), bucket.delay(5), bucket.delay(5, before=1), bucket.delay(9)] == pytest.approx(
        [0, 0, 0.1, 0]
    )
    assert bucket.delay(0, before=100) == 0
    bucket.charge(10)
    assert [bucket.delay(1), bucket.delay(9), bucket.delay(1, before=4)] == pytest.approx([0.6, 1.0, 1.0])
    assert bucket.available == -5


@virtual_time
async def test_what_is_put_back_wakes_who_waits() -> None:
    bucket = bucket_here(1, burst=10)
    bucket.try_acquire(10)
    waits = asyncio.create_task(bucket.acquire(8))
    await settle()
    assert bucket.delay(1) == pytest.approx(9), "after who waits already"
    bucket.charge(-9)
    await settle()
    assert waits.done()
    assert asyncio.get_running_loop().time() == 0


# --- waiting --------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_who_comes_first_is_served_first_however_little_the_next_wants() -> None:
    bucket = bucket_here(10, burst=10)
    served: list[tuple[str, float]] = []

    async def want(name: str, amount: float) -> None:
        await bucket.acquire(amount)
        served.append((name, asyncio.get_running_loop().time()))

    await bucket.acquire(10)
    async with asyncio.TaskGroup() as group:
        for name, amount in (("big", 8), ("small", 1), ("bigger", 6)):
            group.create_task(want(name, amount))
        await settle()
        assert bucket.waiting == 3
        assert bucket.try_acquire(1) == pytest.approx(1.6), "nobody overtakes"
        assert bucket.available == 0
        await asyncio.sleep(0.8)
        await settle()
        assert bucket.try_acquire(0.5) == pytest.approx(0.75), "there is enough for nobody else"
    assert [name for name, _ in served] == ["big", "small", "bigger"]
    assert [at for _, at in served] == pytest.approx([0.8, 0.9, 1.5])
    assert bucket.waiting == 0


@virtual_time
async def test_what_is_there_does_not_wait_a_round() -> None:
    bucket = bucket_here(10)
    waited = bucket.acquire(10)
    with pytest.raises(StopIteration):
        waited.send(None)


@virtual_time
async def test_who_is_cancelled_has_taken_nothing_and_the_next_move_up() -> None:
    bucket = bucket_here(10, burst=10)
    await bucket.acquire(10)
    first, second, third = (asyncio.create_task(bucket.acquire(amount)) for amount in (10, 5, 5))
    await asyncio.sleep(0.5)
    first.cancel()
    await settle()
    assert (first.cancelled(), second.done(), third.done()) == (True, True, False)
    assert bucket.available == 0
    third.cancel()
    await settle()
    assert bucket.waiting == 0
    await asyncio.sleep(0.5)
    assert bucket.available == 5


@virtual_time
async def test_one_in_the_middle_may_leave() -> None:
    bucket = bucket_here(10, burst=10)
    await bucket.acquire(10)
    tasks = [asyncio.create_task(bucket.acquire(5)) for _ in range(3)]
    await asyncio.sleep(0.1)
    tasks[1].cancel()
    await asyncio.sleep(0.9)
    await settle()
    assert [task.done() for task in tasks] == [True, True, True]
    assert bucket.available == pytest.approx(0)


@virtual_time
async def test_a_debt_is_waited_for() -> None:
    bucket = bucket_here(10, burst=5)
    await bucket.acquire(25)
    assert asyncio.get_running_loop().time() == 0
    await bucket.acquire(1)
    assert asyncio.get_running_loop().time() == pytest.approx(2.1)


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0.1, 12), st.one_of(st.none(), st.floats(0, 2))), min_size=1, max_size=15
    )
)
def test_whoever_comes_and_goes_the_rest_are_served_in_order_and_as_soon_as_can_be(
    wants: list[tuple[float, float, float | None]],
) -> None:
    @virtual_time
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bucket = bucket_here(10, burst=6)
        served: list[tuple[int, float]] = []

        async def want(number: int, amount: float) -> None:
            await bucket.acquire(amount)
            served.append((number, loop.time()))

        tasks: list[asyncio.Task[None]] = []
        for number, (later, amount, patience) in enumerate(wants):
            await asyncio.sleep(later)
            tasks.append(asyncio.create_task(want(number, amount)))
            if patience is not None:
                loop.call_later(patience, tasks[-1].cancel)
        await asyncio.sleep(200)
        numbers = [number for number, _ in served]
        assert numbers == sorted(numbers)
        assert all(task.done() for task in tasks)
        assert {number for number, task in enumerate(tasks) if not task.cancelled()} == set(numbers)
        assert (bucket.waiting, bucket.available) == (0, 6)
        level, at = 6.0, 0.0
        for number, when in served:
            level = min(6, level + (when - at) * 10) - wants[number][1]
            at = when
            assert level + wants[number][1] >= min(wants[number][1], 6) - 1e-3, "it came too soon"

    main()


# --- several loops and threads ------------------------------------------------------------------------------------------


def test_threads_with_loops_of_their_own_share_it() -> None:
    bucket = TokenBucket(2000, burst=20)
    taken: list[int] = []
    start = time.monotonic()

    async def worker() -> None:
        for _ in range(50):
            await bucket.acquire()
            taken.append(1)

    threads = [threading.Thread(target=asyncio.run, args=(worker(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    took = time.monotonic() - start
    assert len(taken) == 400
    assert took >= (400 - 20) / 2000 - 0.001
    assert bucket.waiting == 0


def test_one_loop_wakes_another() -> None:
    bucket = TokenBucket(1, per=1000, burst=1)
    bucket.try_acquire()
    waits, goes = threading.Event(), threading.Event()
    left: list[asyncio.AbstractEventLoop] = []

    async def first() -> None:
        waiting = asyncio.create_task(bucket.acquire())
        await asyncio.sleep(0)
        left.append(asyncio.get_running_loop())
        waits.set()
        await asyncio.to_thread(goes.wait, 30)
        bucket._level = 1.0  # as if the time had come
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting

    async def second() -> None:
        await asyncio.wait_for(bucket.acquire(), 30)

    one = threading.Thread(target=asyncio.run, args=(first(),))
    one.start()
    assert waits.wait(30)
    other = threading.Thread(target=asyncio.run, args=(second(),))
    other.start()
    while bucket.waiting < 2:
        time.sleep(0.001)
    goes.set()
    one.join(30)
    other.join(30)
    assert not one.is_alive()
    assert not other.is_alive()
    assert bucket.waiting == 0


def test_a_loop_that_was_closed_with_somebody_waiting_keeps_nobody_else_from_it() -> None:
    bucket = TokenBucket(1, per=1000, burst=1)
    bucket.try_acquire()
    loops = [asyncio.new_event_loop() for _ in range(2)]
    tasks = [loop.create_task(bucket.acquire()) for loop in loops]
    for loop in loops:
        loop.run_until_complete(asyncio.sleep(0))
    assert bucket.waiting == 2
    loops[1].close()

    async def late() -> None:
        bucket._level = 1.0
        await asyncio.wait_for(bucket.acquire(), 30)

    ours = asyncio.new_event_loop()
    waiting = ours.create_task(late())
    ours.run_until_complete(asyncio.sleep(0))
    tasks[0].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        loops[0].run_until_complete(tasks[0])
    ours.run_until_complete(waiting)
    loops[0].close()
    ours.close()
    assert bucket.waiting == 0
    setattr(tasks[1], "_log_destroy_pending", False)  # noqa: B010 - it is meant to be left behind


@pytest.mark.parametrize("when", ["before", "while"])
def test_nor_does_one_who_was_the_first_of_those_that_wait(when: str) -> None:
    bucket = TokenBucket(1000, burst=1)
    bucket.try_acquire(100)
    dead = asyncio.new_event_loop()
    task = dead.create_task(bucket.acquire())
    dead.run_until_complete(asyncio.sleep(0))

    async def late() -> None:
        if when == "while":
            asyncio.get_running_loop().call_later(0.01, dead.close)
        await asyncio.wait_for(bucket.acquire(), 5)

    if when == "before":
        dead.close()
    asyncio.run(late())
    assert bucket.waiting == 0
    setattr(task, "_log_destroy_pending", False)  # noqa: B010 - it is meant to be left behind


def test_who_only_asks_does_not_stand_behind_the_dead() -> None:
    clock = Hand()
    bucket = TokenBucket(1, burst=1, clock=clock)
    bucket.try_acquire()
    dead = asyncio.new_event_loop()
    task = dead.create_task(bucket.acquire())
    dead.run_until_complete(asyncio.sleep(0))
    dead.close()
    clock.now = 1
    assert bucket.try_acquire() == 0
    setattr(task, "_log_destroy_pending", False)  # noqa: B010 - it is meant to be left behind


def test_who_waits_on_a_loop_that_stands_still_holds_up_nobody_and_has_his_turn() -> None:
    now = 0.0
    bucket, still = TokenBucket(1, clock=lambda: now), VirtualLoop()

    async def begin() -> asyncio.Task[None]:
        await bucket.acquire()
        waits = asyncio.create_task(bucket.acquire())
        await settle()
        return waits

    waits = still.run_until_complete(begin())
    now = 1.0
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(asyncio.wait_for(bucket.acquire(), 0.1))
    assert not waits.done()
    now = 2.0
    still.run_until_complete(waits)
    assert bucket.available == 0
    still.close()
