"""``debounce``: an item that nothing follows for a while."""

from __future__ import annotations

import asyncio

import pytest
import reactivex as rx
from hypothesis import example, given
from hypothesis import strategies as st
from reactivex import operators as ops
from reactivex.subject import Subject

from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import TextDelta
from rxstream.operators import debounce
from tests.support.scripted import Recorder, Scripted, words
from tests.support.timed import END, Listener, Timed, alarms
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

GONE = Disconnected("gone")


@virtual_time
async def test_what_is_followed_too_soon_is_dropped() -> None:
    listener = Listener(Timed((1, "a"), (1.5, "b"), (4, "c"), (9, END)).pipe(debounce(1)))
    await asyncio.sleep(20)
    assert listener.heard == [(2.5, "b"), (5, "c")]
    assert (listener.completed, listener.ended_at) == (True, 9)


@virtual_time
async def test_what_follows_just_when_the_time_is_over_does_not_drop() -> None:
    listener = Listener(Timed((1, "a"), (2, "b"), (3, "c"), (3.5, END)).pipe(debounce(1)))
    await asyncio.sleep(20)
    assert listener.heard == [(2, "a"), (3, "b"), (3.5, "c")]


@virtual_time
async def test_the_last_one_comes_at_completion_and_is_dropped_by_an_error() -> None:
    completed = Listener(Timed((1, "a"), (1.25, END)).pipe(debounce(1)))
    failed = Listener(Timed((1, "a"), (1.25, GONE)).pipe(debounce(1)))
    empty = Listener(Timed((1, END)).pipe(debounce(1)))
    await asyncio.sleep(20)
    assert (completed.heard, completed.completed, completed.ended_at) == ([(1.25, "a")], True, 1.25)
    assert (failed.heard, failed.error, failed.ended_at) == ([], GONE, 1.25)
    assert (empty.heard, empty.ended_at) == ([], 1)


@virtual_time
async def test_none_is_an_item() -> None:
    listener = Listener(Timed((1, None), (5, None), (5.5, END)).pipe(debounce(1)))
    await asyncio.sleep(20)
    assert listener.heard == [(2, None), (5.5, None)]


@virtual_time
async def test_no_time_at_all_is_the_next_round() -> None:
    source: Subject[str] = Subject()
    listener = Listener(source.pipe(debounce(0)))
    source.on_next("a")
    source.on_next("b")
    assert listener.items == ["a"], "nothing followed a for no time"
    await settle()
    assert listener.heard == [(0, "a"), (0, "b")]


@virtual_time
async def test_a_busy_loop_drops_nothing_that_was_due() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    source: Subject[str] = Subject()
    listener = Listener(source.pipe(debounce(1)))
    source.on_next("a")
    loop.advance(5)
    source.on_next("b")
    assert listener.heard == [(5, "a")]
    await asyncio.sleep(2)
    assert listener.heard == [(5, "a"), (6, "b")]


@virtual_time
async def test_an_item_that_comes_of_another_being_heard_is_the_later_one() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    source: Subject[str] = Subject()
    heard: list[str] = []

    def on_next(item: str) -> None:
        heard.append(item)
        if item == "a":
            source.on_next("c")

    source.pipe(debounce(1)).subscribe(on_next)
    source.on_next("a")
    loop.advance(5)
    source.on_next("b")
    await asyncio.sleep(5)
    assert heard == ["a", "c"]


@virtual_time
async def test_at_a_closed_gate_the_last_one_waits() -> None:
    listener = Listener(Timed((1, "a"), (3, "b"), (5.75, "c"), (20, END)).pipe(debounce(1)))
    listener.pause(1.5, 6)
    await asyncio.sleep(30)
    assert listener.heard == [(6, "b"), (6.75, "c")]
    assert listener.ended_at == 20


@virtual_time
async def test_an_end_waits_at_a_closed_gate_with_the_last_one() -> None:
    completed = Listener(Timed((1, "a"), (3, "b"), (3.5, END)).pipe(debounce(1)))
    failed = Listener(Timed((1, "a"), (3, "b"), (3.5, GONE)).pipe(debounce(1)))
    completed.pause(1.5, 6)
    failed.pause(1.5, 6)
    await asyncio.sleep(30)
    assert (completed.heard, completed.ended_at) == ([(6, "b")], 6)
    assert (failed.heard, failed.error, failed.ended_at) == ([(6, "a")], GONE, 6)


@virtual_time
async def test_both_are_emitted_when_one_falls_due_while_the_other_is_heard() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    source: Subject[str] = Subject()
    recorder = Recorder()

    def on_next(item: str) -> None:
        recorder.on_next(item)
        if item == "a":
            source.on_next("b")
            loop.advance(2)
            source.on_next("c")
            source.on_completed()

    source.pipe(debounce(1)).subscribe(on_next, recorder.on_error, recorder.on_completed)
    source.on_next("a")
    await asyncio.sleep(5)
    assert (recorder.items, recorder.completed) == (["a", "b", "c"], True)


@pytest.mark.parametrize("at", [0.5, 1.5, 2, 2.5, 9])
@virtual_time
async def test_when_it_is_disposed_nothing_comes_and_nothing_is_left(at: float) -> None:
    source = Timed((1, "a"), (2, "b"), (5, "c"), (9, END))
    listener = Listener(source.pipe(debounce(1)))
    await asyncio.sleep(at)
    heard = list(listener.items)
    listener.subscription.dispose()
    assert alarms() == 0
    await asyncio.sleep(20)
    assert listener.items == heard
    assert (source.running, listener.watched) == (0, 0)


@virtual_time
async def test_when_it_is_disposed_at_a_closed_gate_what_waits_is_forgotten() -> None:
    source = Timed((1, "a"), (9, END))
    listener = Listener(source.pipe(debounce(1)))
    listener.pause(1.5, 6)
    await asyncio.sleep(4)
    listener.subscription.dispose()
    await asyncio.sleep(20)
    assert (listener.items, source.running, listener.watched) == ([], 0, 0)


@virtual_time
async def test_it_holds_the_request_and_lets_it_go() -> None:
    script = Scripted(words("a", "b", "c", every=2))
    listener = Listener(script.events().pipe(debounce(1)))
    await asyncio.sleep(20)
    assert listener.texts == ["a", "b"]  # the last is followed by what ends the answer
    assert (listener.times, listener.completed, script.running) == ([3, 5, 6], True, 0)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "1", None])
def test_a_time_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="seconds"):
        debounce(seconds)


def test_without_a_loop_of_its_own_it_works_too() -> None:
    assert rx.of(1, 2, 3).pipe(debounce(60)).run() == 3


moments = st.lists(st.integers(0, 24), max_size=12).map(lambda gaps: [sum(gaps[: n + 1]) for n in range(len(gaps))])


@given(moments, st.sampled_from([1.0, 1.5, 3.0]), st.sampled_from(["end", "fail", "never"]), st.integers(0, 30))
@example([4, 8], 1.0, "end", 2)
def test_it_is_rxs(ticks: list[int], seconds: float, end: str, later: int) -> None:
    """The same items at the same times as RxPY's, wherever RxPY's says which of two things at one time comes first."""

    @virtual_time
    async def main() -> None:
        # 61 of our ticks make no multiple of the seconds: nothing is due just when something comes
        times = [tick * 16 / 61 for tick in ticks]
        steps: list[tuple[float, object]] = [(at, number) for number, at in enumerate(times)]
        if end != "never":
            steps.append(((times[-1] if times else 0) + (later + 0.5) * 16 / 61, END if end == "end" else GONE))
        ours = Listener(Timed(*steps).pipe(debounce(seconds)))
        stock = Listener(Timed(*steps).pipe(ops.debounce(seconds)))
        await asyncio.sleep(1000)
        assert (ours.heard, ours.error, ours.completed) == (stock.heard, stock.error, stock.completed)
        assert ours.ended_at == stock.ended_at
        assert ours.watched == (1 if end == "never" else 0)
        ours.subscription.dispose()
        stock.subscription.dispose()

    main()


@given(moments, st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)), max_size=3), st.integers(0, 200))
def test_whatever_the_gate_does_the_order_is_kept_and_the_last_one_comes(
    ticks: list[int], pauses: list[tuple[int, int]], until: int
) -> None:
    @virtual_time
    async def main() -> None:
        items = [TextDelta(text=str(number)) for number in range(len(ticks))]
        source = Timed(*((tick / 7, item) for tick, item in zip(ticks, items, strict=True)), (300 / 7, END))
        listener = Listener(source.pipe(debounce(1)))
        for at, span in pauses:
            listener.pause(at / 5, (at + span) / 5)
        loop = asyncio.get_running_loop()
        stop = loop.call_at(until / 4, listener.subscription.dispose)
        await asyncio.sleep(100)
        numbers = [int(text) for text in listener.texts]
        assert numbers == sorted(set(numbers))
        if until / 4 > 44:
            assert listener.completed
            assert numbers[-1:] == [len(ticks) - 1][: len(ticks)]
        assert listener.watched == 0
        assert source.running == 0
        stop.cancel()

    main()


@virtual_time
async def test_what_a_listener_raises_comes_back_to_it() -> None:
    said: list[Exception] = []
    source = Timed((1, "a"), (7, "b"), (50, END))

    def on_next(_: object) -> None:
        raise ValueError("no")

    source.pipe(debounce(3)).subscribe(on_next, said.append)
    await asyncio.sleep(100)
    assert [type(error) for error in said] == [ValueError]
    assert (source.running, alarms()) == (0, 0)
