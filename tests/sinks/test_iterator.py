"""``async for`` and ``for`` over an Observable: order, errors, backpressure, and what becomes of the request."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxstream._outlet import MOST
from rxstream.errors import ConfigurationError, Disconnected, LimitExceeded
from rxstream.gate import Gate
from rxstream.loop import shared_loop
from rxstream.operators import text
from rxstream.sinks.iterator import HIGH, LOW, AsyncItems, Items, Overflow, to_async_iterable, to_iterable
from rxstream.sinks.publisher import Publisher
from tests.support.scripted import HANG, Scripted, numbered, raising, words
from tests.support.steps import Signal
from tests.support.virtual_loop import settle, virtual_time


def texts(script: Scripted, **options: Any) -> Observable[str]:
    return script.events(**options).pipe(text())


# --- async for ------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_async_for_gives_the_items_as_they_come() -> None:
    loop, got = asyncio.get_running_loop(), list[tuple[float, str]]()
    script = Scripted(words("a", "b", "c"))
    items = AsyncItems(texts(script))
    assert script.opened == 0
    async for item in items:
        got.append((loop.time(), item))
    assert got == [(1, "a"), (2, "b"), (3, "c")]
    await settle()
    assert script.closed == 1
    assert [item async for item in items] == []


@virtual_time
async def test_async_for_raises_the_error_after_all_items_and_only_once() -> None:
    error, got = Disconnected("gone"), list[str]()
    items = AsyncItems(texts(Scripted([1, ("a", "b"), raising(error)])))

    async def slowly() -> None:
        async for item in items:
            await asyncio.sleep(5)
            got.append(item)

    with pytest.raises(Disconnected) as caught:
        await slowly()
    assert caught.value is error
    assert got == ["a", "b"]
    assert [item async for item in items] == []


@virtual_time
async def test_an_empty_stream_is_no_iteration() -> None:
    assert [item async for item in AsyncItems(rx.empty())] == []


@virtual_time
async def test_a_slow_body_holds_the_source_and_the_buffer_stays_bounded() -> None:
    """At HIGH the gate is held, at LOW released; what is read beyond what is consumed never exceeds HIGH and one."""
    gate, script = Gate(), Scripted(numbered(1000))
    got: list[str] = []
    most, changes = 0, list[int]()
    items = AsyncItems(texts(script), gate=gate)
    gate.watch(lambda: changes.append(len(items._buffer.items)))
    async for item in items:
        got.append(item)
        await settle()
        most = max(most, script.given - len(got))
    assert got == [f"{number} " for number in range(1000)]
    assert HIGH <= most <= HIGH + 1
    assert changes[0] == HIGH
    assert set(changes) == {HIGH, LOW}
    assert not gate.closed


@virtual_time
async def test_a_body_that_keeps_up_never_holds_the_source() -> None:
    gate, changes = Gate(), list[bool]()
    gate.watch(lambda: changes.append(gate.closed))
    async for _ in AsyncItems(texts(Scripted(words(*"abcdefgh"))), gate=gate):
        pass
    assert changes == []


@virtual_time
async def test_another_holds_the_same_gate_and_is_not_undone() -> None:
    gate = Gate()
    gate.hold("user")
    items = AsyncItems(texts(Scripted(words("a"))), gate=gate)
    waiting = asyncio.ensure_future(anext(items))
    await asyncio.sleep(10)
    assert gate.holds == ("user",)
    assert not waiting.done()
    gate.release("user")
    assert await waiting == "a"
    await items.aclose()


async def _break(items: AsyncItems[str]) -> None:
    async for _ in items:
        break


async def _raise(items: AsyncItems[str]) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async for _ in items:
            raise ZeroDivisionError


async def _close(items: AsyncItems[str]) -> None:
    await anext(items)
    await items.aclose()


async def _leave_block(items: AsyncItems[str]) -> None:
    async with items:
        await anext(items)


async def _cancel_the_wait(items: AsyncItems[str]) -> None:
    """And keep the exception, whose traceback holds the iterator."""
    await anext(items)
    waiting = asyncio.ensure_future(anext(items))
    await settle()
    waiting.cancel()
    await asyncio.wait([waiting])
    kept.append(items)


async def _time_out(items: AsyncItems[str]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            async for _ in items:
                pass


kept: list[AsyncItems[str]] = []


@pytest.mark.parametrize("leave", [_break, _raise, _close, _leave_block, _cancel_the_wait, _time_out])
@virtual_time
async def test_leaving_early_closes_the_request_at_once_and_releases_its_hold(
    leave: Callable[[AsyncItems[str]], Any],
) -> None:
    gate, script = Gate(), Scripted([("a",) * (1 if leave in (_cancel_the_wait, _time_out) else 100), HANG])
    subscription = leave(AsyncItems(texts(script), gate=gate))
    await subscription
    del subscription
    await settle()
    assert (script.opened, script.closed) == (1, 1)
    assert not gate.closed
    kept.clear()


@virtual_time
async def test_what_arrived_before_aclose_can_still_be_read_and_nothing_after() -> None:
    script = Scripted([("a", "b", "c"), 1, "d", HANG])
    items = AsyncItems(texts(script))
    assert await anext(items) == "a"
    await items.aclose()
    await asyncio.sleep(10)
    assert [item async for item in items] == ["b", "c"]
    await items.aclose()


@virtual_time
async def test_aclose_wakes_a_task_that_waits() -> None:
    items = AsyncItems(texts(Scripted([HANG])))
    waiting = asyncio.ensure_future(anext(items, "ended"))
    await settle()
    await items.aclose()
    assert await waiting == "ended"


@virtual_time
async def test_closed_before_it_began_it_makes_no_request() -> None:
    script = Scripted([HANG])
    items = AsyncItems(texts(script))
    await items.aclose()
    assert [item async for item in items] == []
    assert script.opened == 0


@virtual_time
async def test_a_forgotten_iterator_closes_its_request() -> None:
    script = Scripted(["a", HANG])
    items = AsyncItems(texts(script))
    await anext(items)
    del items
    gc.collect()
    await settle()
    assert script.closed == 1


@virtual_time
async def test_two_tasks_that_wait_on_one_iterator_are_told_so() -> None:
    items = AsyncItems(texts(Scripted([1, "a", HANG])))
    waiting = asyncio.ensure_future(anext(items))
    await settle()
    with pytest.raises(RuntimeError, match="two tasks"):
        await anext(items)
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_a_second_task_that_is_refused_ends_nothing_for_the_first() -> None:
    subject: Subject[int] = Subject()
    items = AsyncItems(subject)
    waiting = asyncio.ensure_future(anext(items))
    await settle()
    with pytest.raises(RuntimeError, match="two tasks"):
        await anext(items)
    subject.on_next(1)
    assert await waiting == 1


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
async def test_an_error_that_would_pass_for_the_end_does_not(error: type[Exception]) -> None:
    source = rx.concat(rx.of(1), rx.throw(error()))
    items, awaited = Items(source), AsyncItems(source)
    assert await asyncio.to_thread(next, items) == await anext(awaited) == 1
    for asked in (asyncio.to_thread(next, items), anext(awaited)):
        with pytest.raises(RuntimeError, match=error.__name__) as caught:
            await asked
        assert isinstance(caught.value.__cause__, error)


def test_threads_that_share_an_iterator_share_one_request_and_its_items() -> None:
    subscriptions: list[None] = []

    def subscribe(observer: abc.ObserverBase[int], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        subscriptions.append(None)
        time.sleep(0.01)  # so that the others come meanwhile
        threading.Thread(target=rx.range(0, 2000).subscribe, args=(observer,)).start()
        return Disposable()

    items, got = Items(Observable(subscribe)), list[int]()
    takers = [threading.Thread(target=lambda: got.extend(list(items))) for _ in range(4)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(10)
    assert len(subscriptions) == 1
    assert sorted(got) == list(range(2000))


@given(
    st.lists(st.tuples(st.integers(0, 150), st.booleans()), max_size=6),
    st.integers(1, 5),
    st.integers(1, 80),
    st.integers(0, 79),
)
def test_any_pace_gives_every_item_once(bursts: list[tuple[int, bool]], every: int, high: int, low: int) -> None:
    """Law: however the source bursts and the body lags, the items are those of the source, and bounded in between."""
    steps: list[Any] = []
    numbers = itertools.count()
    for count, wait in bursts:
        steps += [1.0] if wait else []
        steps += [f"{next(numbers)}" for _ in range(count)]
    total = next(numbers)
    script = Scripted([*steps, *words()])

    @virtual_time
    async def main() -> None:
        got: list[str] = []
        async for item in AsyncItems(texts(script), high=high, low=min(low, high - 1)):
            got.append(item)
            assert script.given - len(got) <= high + 2
            if len(got) % every == 0:
                await asyncio.sleep(0.3)
        assert got == [str(number) for number in range(total)]

    main()


# --- for ------------------------------------------------------------------------------------------------------------------


def test_for_gives_the_items_and_then_ends() -> None:
    script = Scripted(numbered(1000))
    items = Items(texts(script))
    assert script.opened == 0
    assert list(items) == [f"{number} " for number in range(1000)]
    assert list(items) == []


def test_for_raises_the_error_after_all_items_and_only_once() -> None:
    error, got = Disconnected("gone"), list[str]()
    items = Items(texts(Scripted(["a", "b", raising(error)])))
    with pytest.raises(Disconnected) as caught:
        got.extend(items)
    assert caught.value is error
    assert list(items) == []


def test_a_slow_for_holds_the_source() -> None:
    """While the body does not ask, the source is read to the high mark and no further."""
    gate, script, held = Gate(), Scripted(numbered(1000)), Signal()
    gate.watch(lambda: held.set() if gate.closed else None)
    items = Items(texts(script), gate=gate)
    first = next(items)
    held.wait()
    asyncio.run_coroutine_threadsafe(settle(), shared_loop()).result(10)
    assert script.given <= HIGH + 2
    assert len([first, *items]) == 1000
    assert not gate.closed


@pytest.mark.parametrize("leave", ["break", "raise", "close", "with", "del"])
def test_leaving_a_for_early_closes_the_request_at_once(leave: str) -> None:
    script, closed, gate = Scripted([("a",) * 100, HANG]), Signal(), Gate()
    script.on_close = closed.set

    def run() -> None:
        items = Items(texts(script), gate=gate)
        match leave:
            case "break":
                for _ in items:
                    break
            case "raise":
                with contextlib.suppress(ZeroDivisionError):
                    for _ in items:
                        raise ZeroDivisionError
            case "close":
                next(items)
                items.close()
            case "with":
                with items:
                    next(items)
            case _:
                next(items)
                del items

    run()
    closed.wait()
    assert not gate.closed


def test_close_from_another_thread_wakes_a_waiting_for() -> None:
    script, waiting = Scripted(["a", HANG]), Signal()
    items = Items(texts(script))
    ended: list[list[str]] = []
    next(items)

    def iterate() -> None:
        waiting.set()
        ended.append(list(items))

    thread = threading.Thread(target=iterate)
    thread.start()
    waiting.wait()
    items.close()
    thread.join(10)
    assert ended == [[]]


def test_closed_before_it_began_a_for_makes_no_request() -> None:
    script = Scripted([HANG])
    items = Items(texts(script))
    items.close()
    assert list(items) == []
    assert script.opened == 0


def test_for_works_inside_a_running_loop() -> None:
    """As in a synchronous Jupyter cell: the stream runs on the shared loop's thread."""

    async def main() -> list[str]:
        return list(Items(texts(Scripted(["a", 0.001, "b", *words()]))))

    assert asyncio.run(main()) == ["a", "b"]


def test_for_inside_for() -> None:
    inner = Scripted(numbered(70))
    got = [(one, two) for one in Items(texts(Scripted(numbered(3)))) for two in Items(texts(inner))]
    assert len(got) == 210
    assert inner.opened == 3


def test_for_on_the_shared_loops_own_thread_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(ConfigurationError, match="use `async for`"):
            next(Items(texts(Scripted([HANG]))))

    asyncio.run_coroutine_threadsafe(main(), shared_loop()).result(10)


# --- producers in other threads -------------------------------------------------------------------------------------------


def in_a_thread(count: int, gate: Gate) -> Observable[int]:
    """A source that pushes from a thread of its own as fast as it can, and obeys the gate between items."""

    def subscribe(observer: abc.ObserverBase[int], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        opened = threading.Event()
        opened.set()

        def changed() -> None:
            if gate.closed:
                opened.clear()
            else:
                opened.set()

        def produce() -> None:
            gate.watch(changed)
            for number in range(count):
                observer.on_next(number)
                assert opened.wait(10), "the gate was never opened again"
            observer.on_completed()

        threading.Thread(target=produce, daemon=True).start()
        return Disposable()

    return Observable(subscribe)


@pytest.mark.parametrize("round_", range(3))
def test_no_wake_up_is_lost_between_threads(round_: int) -> None:
    """An eager producer in another thread, an eager consumer on a loop and in a thread: everything arrives, bounded."""

    async def main() -> int:
        gate, expected = Gate(), 0
        items = AsyncItems(in_a_thread(5000, gate), gate=gate)
        async with asyncio.timeout(30):
            async for number in items:
                assert number == expected
                expected += 1
                assert len(items._buffer.items) <= HIGH + 1
        return expected

    assert asyncio.run(main()) == 5000
    gate = Gate()
    assert list(Items(in_a_thread(5000, gate), gate=gate)) == list(range(5000))


@virtual_time
async def test_a_hold_that_comes_after_the_buffer_was_emptied_is_released() -> None:
    """A producer in another thread counted to the high mark, and holds only when everything has been taken."""
    gate = Gate()
    items = AsyncItems(texts(Scripted(["a", 1, "b", HANG])), gate=gate)
    assert await anext(items) == "a"
    gate.hold(items._buffer.name)
    assert await anext(items) == "b"
    assert not gate.closed
    await items.aclose()


def test_a_hold_that_comes_after_a_for_has_emptied_the_buffer_is_released() -> None:
    gate = Gate()
    items = Items(texts(Scripted(["a", 0.001, "b", HANG])), gate=gate)
    assert next(items) == "a"
    gate.hold(items._buffer.name)
    assert next(items) == "b"
    assert not gate.closed


def test_an_iterator_closed_in_the_moment_before_a_hold_leaves_none() -> None:
    class LateGate(Gate):
        """Another thread closes the iterator when the mark is reached and the hold not yet made."""

        def hold(self, name: str) -> None:
            items.close()
            super().hold(name)

    gate, subject, go = LateGate(), Subject[int](), Signal()
    items = Items(rx.merge(subject, Scripted([go.set, HANG]).events().pipe(ops.ignore_elements())), gate=gate)
    ended: list[list[int]] = []
    thread = threading.Thread(target=lambda: ended.append([next(items)]))
    thread.start()
    go.wait()
    for number in range(HIGH + 1):
        subject.on_next(number)
    thread.join(10)
    assert not gate.closed


def test_items_that_come_in_the_very_moment_of_closing_leave_no_hold() -> None:
    for _ in range(50):
        gate, subject = Gate(), Subject[int]()
        barrier = threading.Barrier(2, timeout=10)
        items = Items(subject, gate=gate)

        def produce(barrier: threading.Barrier = barrier, subject: Subject[int] = subject) -> None:
            while not subject.observers:
                pass
            for number in range(HIGH - 1):
                subject.on_next(number)
            barrier.wait()
            subject.on_next(HIGH)
            subject.on_next(HIGH)

        thread = threading.Thread(target=produce)
        thread.start()
        next(items)
        barrier.wait()
        items.close()
        thread.join(10)
        assert not gate.closed


def test_for_over_what_another_scheduler_emits() -> None:
    assert list(Items(rx.from_iterable(range(200)).pipe(ops.filter(bool)))) == list(range(1, 200))


# --- bounds ---------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_in_lock_step_the_next_item_is_made_when_the_last_was_taken() -> None:
    script, made = Scripted(numbered(100)), list[int]()
    async for _ in to_async_iterable(texts(script), high=1, low=0):
        await settle()
        made.append(script.given)
    assert made == [min(number + 2, 101) for number in range(100)]  # the one in the buffer; the last with the end


def test_in_lock_step_between_threads() -> None:
    gate = Gate()
    assert list(Items(in_a_thread(2000, gate), gate=gate, high=1, low=0)) == list(range(2000))


@virtual_time
async def test_the_low_mark_is_a_quarter_unless_it_is_given() -> None:
    for high, low, released in ((8, None, 2), (3, None, 0), (8, 7, 7)):
        script, gate, changes = Scripted(numbered(100)), Gate(), list[int]()
        items = AsyncItems(texts(script), gate=gate, high=high, low=low)
        gate.watch(lambda items=items, changes=changes: changes.append(len(items._buffer.items)))  # type: ignore[misc]
        async for _ in items:
            await settle()
        assert set(changes) == {high, released}


@pytest.mark.parametrize(
    ("overflow", "left", "dropped"),
    [("drop_oldest", [0, 4, 5, 6], 3), ("drop_newest", [0, 1, 2, 3], 3), ("latest", [0, 6], 5)],
)
@virtual_time
async def test_what_a_full_buffer_drops_and_that_it_counts_it(
    overflow: Overflow, left: list[int], dropped: int
) -> None:
    """The source runs on: nobody holds it."""
    gate, source = Gate(), Subject[int]()
    items = AsyncItems(source, gate=gate, high=3, overflow=overflow)
    first = asyncio.ensure_future(anext(items))
    await settle()
    source.on_next(0)
    got = [await first]
    for number in range(1, 7):
        source.on_next(number)
    assert not gate.closed
    source.on_completed()
    assert [*got, *[item async for item in items]] == left
    assert items.dropped == dropped


def test_a_for_drops_too() -> None:
    items = to_iterable(rx.from_iterable(range(1000)), high=10, overflow="drop_newest")
    got = list(items)
    assert got[:10] == list(range(10))
    assert len(got) + items.dropped == 1000


@virtual_time
async def test_an_error_drops_nothing_that_waits() -> None:
    error, source = Disconnected("gone"), Subject[int]()
    items = AsyncItems(source, high=1, overflow="latest")
    first = asyncio.ensure_future(anext(items))
    await settle()
    for number in range(3):
        source.on_next(number)
    source.on_error(error)
    assert await first == 2
    with pytest.raises(Disconnected):
        await anext(items)


@virtual_time
async def test_a_buffer_that_may_not_be_full_ends_in_an_error_after_what_waits_and_closes_the_request() -> None:
    script = Scripted([("a",) * 3, 1, ("b",) * 4, HANG])
    items = to_async_iterable(texts(script), high=3, overflow="error")
    assert await anext(items) == "a"
    await asyncio.sleep(2)
    assert script.closed == 1
    assert [await anext(items) for _ in range(3)] == ["a", "a", "b"]
    with pytest.raises(LimitExceeded, match="more than 3 items"):
        await anext(items)
    assert [item async for item in items] == []


def test_a_source_that_does_not_stop_when_it_is_held_has_a_limit() -> None:
    items, got = to_iterable(rx.from_iterable(range(MOST + 100))), list[int]()
    got.append(next(items))
    while not items._buffer.ended:
        time.sleep(0.001)
    with pytest.raises(LimitExceeded, match="slower than the stream"):
        got.extend(items)
    assert got == list(range(len(got)))
    assert MOST <= len(got) <= MOST + 1


@pytest.mark.parametrize("make", [to_async_iterable, to_iterable, AsyncItems, Items])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"high": 0}, "high=0"),
        ({"high": 2.5}, "high=2.5"),
        ({"low": -1}, "low=-1"),
        ({"low": 64}, "low=64: must be less than high=64"),
        ({"high": 4, "low": 4}, "low=4"),
        ({"overflow": "drop"}, "overflow='drop'"),
    ],
)
def test_bounds_that_make_no_sense_are_refused_by_name(
    make: Callable[..., object], options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make(rx.never(), **options)


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise")
@pytest.mark.parametrize("wait", ["for item in kept: pass", "Stream.of(script.events()).run()"])
def test_ctrl_c_while_waiting_closes_the_request(wait: str) -> None:
    """The iterator is kept by the module and by the traceback, and the request is closed all the same."""
    code = f"""
        import os, signal, threading
        from rxstream.observable import Stream
        from tests.support.scripted import HANG, Scripted
        from tests.support.steps import Signal
        closed = Signal()
        script = Scripted([0.05, "a", lambda: os.kill(os.getpid(), signal.SIGINT), HANG])
        script.on_close = closed.set
        kept = iter(Stream.of(script.events()))
        try:
            {wait}
        except KeyboardInterrupt as error:
            closed.wait(5)
            print("interrupted and closed")
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted and closed\n", "", 0)


@pytest.mark.parametrize("make", [to_iterable, to_async_iterable, Publisher])
def test_what_is_no_observable_is_refused(make: Callable[[Any], object]) -> None:
    with pytest.raises(ConfigurationError, match="source is a list, not a Stream"):
        make([1, 2])
