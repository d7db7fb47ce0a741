"""``sample``: the latest item, at most once in a while."""

from __future__ import annotations

import asyncio

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as ops
from reactivex.subject import Subject

from rxstream.errors import ConfigurationError, Disconnected, LoopShutDown
from rxstream.events import TextDelta
from rxstream.operators import sample
from tests.support.scripted import Scripted, words
from tests.support.timed import END, Listener, Timed, alarms
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

GONE = Disconnected("gone")


@virtual_time
async def test_the_latest_is_emitted_at_each_look_if_it_is_new() -> None:
    listener = Listener(Timed((1, "a"), (1.5, "b"), (3, "c"), (9, "d"), (11, END)).pipe(sample(2)))
    await asyncio.sleep(20)
    assert listener.heard == [(2, "b"), (4, "c"), (10, "d")]
    assert (listener.completed, listener.ended_at) == (True, 12)


@virtual_time
async def test_it_completes_at_the_next_look_with_the_last_item() -> None:
    listener = Listener(Timed((1, "a"), (5, "b"), (5.5, END)).pipe(sample(2)))
    empty = Listener(Timed((4.5, END)).pipe(sample(2)))
    await asyncio.sleep(20)
    assert (listener.heard, listener.ended_at) == ([(2, "a"), (6, "b")], 6)
    assert (empty.heard, empty.completed, empty.ended_at) == ([], True, 6)


@virtual_time
async def test_it_fails_at_once_and_drops_what_was_not_looked_at() -> None:
    listener = Listener(Timed((1, "a"), (3, "b"), (3.5, GONE)).pipe(sample(2)))
    await asyncio.sleep(20)
    assert (listener.heard, listener.error, listener.ended_at) == ([(2, "a")], GONE, 3.5)


@virtual_time
async def test_what_comes_just_at_a_look_is_seen_by_the_next() -> None:
    listener = Listener(Timed((1, "a"), (2, "b"), (2.5, END)).pipe(sample(2)))
    await asyncio.sleep(20)
    assert (listener.heard, listener.ended_at) == ([(2, "a"), (4, "b")], 4)


@virtual_time
async def test_none_is_an_item() -> None:
    listener = Listener(Timed((1, None), (5, END)).pipe(sample(2)))
    await asyncio.sleep(20)
    assert listener.heard == [(2, None)]


@virtual_time
async def test_the_grid_begins_with_the_subscription() -> None:
    await asyncio.sleep(0.75)
    listener = Listener(Timed((0.5, "a"), (100.5, "b"), (101.5, END)).pipe(sample(2)))
    await asyncio.sleep(200)
    assert listener.heard == [(2.75, "a"), (102.75, "b")]
    assert listener.ended_at == 102.75


@virtual_time
async def test_no_timer_is_set_while_there_is_nothing_to_look_at() -> None:
    source: Subject[str] = Subject()
    listener = Listener(source.pipe(sample(2)))
    timers = vars(asyncio.get_running_loop())["_scheduled"]
    assert not timers
    source.on_next("a")
    await asyncio.sleep(3)
    assert listener.heard == [(2, "a")]
    assert not timers


@virtual_time
async def test_a_busy_loop_looks_late_and_misses_nothing_that_was_due() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    source: Subject[str] = Subject()
    listener = Listener(source.pipe(sample(2)))
    source.on_next("a")
    loop.advance(5)
    source.on_next("b")
    source.on_next("c")
    assert listener.heard == [(5, "a")]
    await asyncio.sleep(5)
    assert listener.heard == [(5, "a"), (6, "c")]


@virtual_time
async def test_all_are_emitted_that_fall_due_while_another_is_heard() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    source: Subject[str] = Subject()
    heard: list[str] = []

    def on_next(item: str) -> None:
        heard.append(item)
        if item == "a":
            for later in "bcd":
                source.on_next(later)
                loop.advance(2)

    source.pipe(sample(2)).subscribe(on_next)
    source.on_next("a")
    await asyncio.sleep(20)
    assert heard == ["a", "b", "c", "d"]


@virtual_time
async def test_a_timer_that_rings_early_is_not_looked_at_twice() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    source: Subject[str] = Subject()
    listener = Listener(source.pipe(sample(2)))
    source.on_next("a")
    loop.advance(2 - 1e-10)  # within the resolution of the loop's clock: its timers of 2.0 go off
    await settle()
    assert listener.items == ["a"]
    source.on_next("b")
    await asyncio.sleep(1)
    assert listener.items == ["a"]
    await asyncio.sleep(1)
    assert listener.items == ["a", "b"]


@virtual_time
async def test_at_a_closed_gate_the_latest_waits() -> None:
    listener = Listener(Timed((1, "a"), (3, "b"), (9, "c"), (9.5, END)).pipe(sample(2)))
    listener.pause(1.5, 7)
    await asyncio.sleep(30)
    assert listener.heard == [(7, "b"), (10, "c")]
    assert listener.ended_at == 10


@virtual_time
async def test_an_end_waits_at_a_closed_gate_with_what_was_looked_at() -> None:
    completed = Listener(Timed((1, "a"), (3, "b"), (3.5, END)).pipe(sample(2)))
    failed = Listener(Timed((1, "a"), (3, "b"), (3.5, GONE)).pipe(sample(2)))
    completed.pause(1.5, 7)
    failed.pause(1.5, 7)
    await asyncio.sleep(30)
    assert (completed.heard, completed.ended_at) == ([(7, "b")], 7)
    assert (failed.heard, failed.error, failed.ended_at) == ([(7, "a")], GONE, 7)


@pytest.mark.parametrize("at", [0.5, 1.5, 2.5, 3, 5.25, 9])
@virtual_time
async def test_when_it_is_disposed_nothing_comes_and_nothing_is_left(at: float) -> None:
    source = Timed((1, "a"), (2.25, "b"), (5, "c"), (5.125, END))
    listener = Listener(source.pipe(sample(2)))
    listener.pause(3.5, 5)
    await asyncio.sleep(at)
    heard = list(listener.items)
    listener.subscription.dispose()
    assert alarms() == 0
    await asyncio.sleep(20)
    assert listener.items == heard
    assert (source.running, listener.watched) == (0, 0)


@virtual_time
async def test_it_holds_the_request_and_lets_it_go() -> None:
    script = Scripted(words("a", "b", "c", every=2))
    listener = Listener(script.events().pipe(sample(1.5)))
    await asyncio.sleep(20)
    assert listener.texts == ["a", "b"]  # the last is followed by what ends the answer
    assert (listener.times, listener.completed, script.running) == ([3, 4.5, 7.5], True, 0)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "1", None])
def test_a_time_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="seconds"):
        sample(seconds)


def test_without_a_loop_of_its_own_it_works_too() -> None:
    assert rx.of(1, 2, 3).pipe(sample(0.01)).run() == 3


gaps = st.lists(st.integers(0, 24), max_size=12)


@given(gaps, st.sampled_from([1.0, 1.5, 3.0]), st.sampled_from(["end", "fail", "never"]), st.integers(0, 30))
def test_it_is_rxs(between: list[int], seconds: float, end: str, later: int) -> None:
    """The same items at the same times as RxPY's, wherever RxPY's says which of two things at one time comes first."""

    @virtual_time
    async def main() -> None:
        ticks = [sum(between[: n + 1]) for n in range(len(between))]
        times = [(tick + 1 / 3) * 16 / 61 for tick in ticks]  # never just at a look
        steps: list[tuple[float, object]] = [(at, number) for number, at in enumerate(times)]
        if end != "never":
            steps.append(((times[-1] if times else 0.25) + later * 16 / 61, END if end == "end" else GONE))
        ours = Listener(Timed(*steps).pipe(sample(seconds)))
        stock = Listener(Timed(*steps).pipe(ops.sample(seconds)))
        await asyncio.sleep(200)
        assert [item for _, item in ours.heard] == [item for _, item in stock.heard]
        assert ours.times == pytest.approx(stock.times)  # RxPY's clock counts microseconds
        assert (ours.error, ours.completed) == (stock.error, stock.completed)
        assert ours.ended_at == (stock.ended_at if stock.ended_at is None else pytest.approx(stock.ended_at))
        ours.subscription.dispose()
        stock.subscription.dispose()

    main()


@given(gaps, st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)), max_size=3), st.integers(0, 200))
def test_whatever_the_gate_does_the_order_is_kept_and_the_last_one_comes(
    between: list[int], pauses: list[tuple[int, int]], until: int
) -> None:
    @virtual_time
    async def main() -> None:
        loop = asyncio.get_running_loop()
        times = [sum(between[: n + 1]) / 7 for n in range(len(between))]
        steps = [(at, TextDelta(text=str(number))) for number, at in enumerate(times)]
        source = Timed(*steps, (300 / 7, END))
        listener = Listener(source.pipe(sample(1)))
        for at, span in pauses:
            listener.pause(at / 5, (at + span) / 5)
        stop = loop.call_at(until / 4, listener.subscription.dispose)
        await asyncio.sleep(100)
        numbers = [int(text) for text in listener.texts]
        assert numbers == sorted(set(numbers))
        if until / 4 > 44:
            assert listener.completed
            assert numbers[-1:] == [len(times) - 1][: len(times)]
        assert (listener.watched, source.running) == (0, 0)
        stop.cancel()

    main()


@virtual_time
async def test_what_a_listener_raises_comes_back_to_it() -> None:
    said: list[Exception] = []
    source = Timed((1, "a"), (7, "b"), (50, END))

    def on_next(_: object) -> None:
        raise ValueError("no")

    source.pipe(sample(3)).subscribe(on_next, said.append)
    await asyncio.sleep(100)
    assert [type(error) for error in said] == [ValueError]
    assert (source.running, alarms()) == (0, 0)


def test_that_the_loop_goes_down_before_the_last_look_is_told() -> None:
    said: list[Exception] = []

    async def main() -> None:
        rx.of(1).pipe(sample(1000)).subscribe(on_error=said.append)
        await settle()

    asyncio.run(main())
    assert [type(error) for error in said] == [LoopShutDown]
