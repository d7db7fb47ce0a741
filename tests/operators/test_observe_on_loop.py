"""``observe_on_loop``: from any thread onto the loop, in order, bounded, and never while the gate is closed."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import abc
from reactivex import operators as ops

import rxstream
from rxstream.errors import ConfigurationError, Disconnected, LimitExceeded, LoopShutDown
from rxstream.loop import LoopScheduler, shared_loop
from rxstream.operators import observe_on_loop
from tests.support.manual import Manual
from tests.support.scripted import Recorder, Scripted, numbered
from tests.support.steps import Signal
from tests.support.until import until
from tests.support.virtual_loop import settle, virtual_time


def listen(source: rx.Observable[Any], recorder: Any, scheduler: LoopScheduler) -> abc.DisposableBase:
    return source.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler)


def in_thread(*works: Callable[[], object]) -> None:
    """Run them in a thread, one after the other and to their end, while this one stands still."""
    thread = threading.Thread(target=lambda: [work() for work in works])
    thread.start()
    thread.join()


def pushes(source: Manual, *items: object) -> Callable[[], object]:
    return partial(source.push, *items)


class Placed(Recorder):
    """Remembers in which threads it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def on_error(self, error: Exception) -> None:
        self.threads.add(threading.get_ident())
        super().on_error(error)

    def on_next(self, item: Any) -> None:
        self.threads.add(threading.get_ident())
        super().on_next(item)


@virtual_time
async def test_what_a_thread_emits_is_delivered_on_the_loop_and_the_end_after_it() -> None:
    source, recorder = Manual(), Placed()
    listen(source.pipe(observe_on_loop()), recorder, LoopScheduler())
    in_thread(pushes(source, 1, 2, 3), source.end)
    assert recorder.items == []
    await settle()
    assert (recorder.items, recorder.completed) == ([1, 2, 3], True)
    assert recorder.threads == {threading.get_ident()}
    assert source.running == 0


@virtual_time
async def test_an_error_comes_after_the_items() -> None:
    source, recorder, error = Manual(), Recorder(), Disconnected("gone")
    listen(source.pipe(observe_on_loop()), recorder, LoopScheduler())
    in_thread(pushes(source, 1, 2), partial(source.end, error))
    await settle()
    assert (recorder.items, recorder.error) == ([1, 2], error)


@virtual_time
async def test_that_the_sources_loop_goes_down_is_told_on_ours_after_the_items() -> None:
    source, recorder, scheduler = Manual(), Placed(), LoopScheduler()
    listen(source.pipe(observe_on_loop()), recorder, scheduler)
    scheduler.gate.hold("test")
    in_thread(pushes(source, 1, 2), partial(source.end, LoopShutDown()))
    await settle()
    assert (recorder.items, recorder.error) == ([], None)
    scheduler.gate.release("test")
    await settle()
    assert (recorder.items, type(recorder.error)) == ([1, 2], LoopShutDown)
    assert recorder.threads == {threading.get_ident()}


@virtual_time
async def test_what_is_emitted_on_the_loop_goes_straight_through_but_not_past_what_waits() -> None:
    source, recorder = Manual(), Recorder()
    listen(source.pipe(observe_on_loop()), recorder, LoopScheduler())
    source.push(1)
    assert recorder.items == [1]
    in_thread(pushes(source, 2))
    source.push(3)
    await settle()
    assert recorder.items == [1, 2, 3]
    source.end()
    assert recorder.completed


@virtual_time
async def test_one_wake_up_serves_all_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    source, recorder = Manual(), Recorder()
    loop = asyncio.get_running_loop()
    called = 0
    plain = loop.call_soon_threadsafe

    def counting(*args: Any, **kwargs: Any) -> asyncio.Handle:
        nonlocal called
        called += 1
        return plain(*args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
    listen(source.pipe(observe_on_loop()), recorder, LoopScheduler())
    in_thread(pushes(source, *range(500)))
    await settle()
    assert recorder.items == list(range(500))
    assert called == 1


@virtual_time
async def test_nothing_is_emitted_while_the_gate_is_closed() -> None:
    source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()
    listen(source.pipe(observe_on_loop()), recorder, scheduler)
    scheduler.gate.hold("test")
    in_thread(pushes(source, 1, 2), source.end)
    source.push(3)  # after the end
    await settle()
    assert (recorder.items, recorder.completed) == ([], False)
    in_thread(lambda: scheduler.gate.release("test"))
    await settle()
    assert (recorder.items, recorder.completed) == ([1, 2], True)


@virtual_time
async def test_a_pause_by_the_handler_stops_after_that_item() -> None:
    source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()

    def on_next(item: int) -> None:
        recorder.on_next(item)
        if item == 2:
            scheduler.gate.hold("test")

    source.pipe(observe_on_loop()).subscribe(on_next, scheduler=scheduler)
    in_thread(pushes(source, 1, 2, 3, 4))
    await settle()
    assert recorder.items == [1, 2]
    scheduler.gate.release("test")
    await settle()
    assert recorder.items == [1, 2, 3, 4]


@virtual_time
async def test_the_source_is_held_at_half_the_capacity_and_released_at_an_eighth() -> None:
    source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()
    held: list[bool] = []

    def look() -> None:
        held.append(source.gate.closed)

    def on_next(item: int) -> None:
        look()
        recorder.on_next(item)

    source.pipe(observe_on_loop(capacity=16)).subscribe(on_next, scheduler=scheduler)
    in_thread(pushes(source, *range(7)), look)
    in_thread(pushes(source, 7), look)
    assert not scheduler.gate.closed  # it is the source's alone
    await settle()
    assert held == [False, True, True, True, True, True, True, False, False, False]
    assert recorder.items == list(range(8))


@pytest.mark.parametrize("on_loop", [False, True])
@virtual_time
async def test_a_source_that_does_not_stop_ends_in_an_error_after_what_waits(on_loop: bool) -> None:
    source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()
    listen(source.pipe(observe_on_loop(capacity=3)), recorder, scheduler)
    scheduler.gate.hold("test")
    push = pushes(source, *range(10))
    if on_loop:
        push()
    else:
        in_thread(push)
    assert source.running == 0
    await settle()
    assert recorder.error is None
    scheduler.gate.release("test")
    await settle()
    assert recorder.items == [0, 1, 2]
    assert isinstance(recorder.error, LimitExceeded)


@virtual_time
async def test_disposing_in_another_thread_ends_it_and_lets_go() -> None:
    source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()
    subscription = listen(source.pipe(observe_on_loop(capacity=2)), recorder, scheduler)
    in_thread(pushes(source, 1), subscription.dispose, pushes(source, 2), source.end)
    assert source.running == 0
    assert not source.gate.closed
    await settle()
    assert (recorder.items, recorder.ended_at) == ([], None)
    assert not scheduler.gate._watchers


@virtual_time
async def test_disposing_within_a_handler() -> None:
    source, seen = Manual(), list[int]()
    scheduler = LoopScheduler()

    def on_next(item: int) -> None:
        seen.append(item)
        if item == 2:
            subscription.dispose()

    subscription = source.pipe(observe_on_loop()).subscribe(on_next, scheduler=scheduler)
    in_thread(pushes(source, 1, 2, 3))
    await settle()
    assert seen == [1, 2]
    assert source.running == 0


@virtual_time
async def test_a_stream_behind_it_is_the_same_stream() -> None:
    script, recorder = Scripted(numbered(1000)), Recorder()
    listen(script.events().pipe(observe_on_loop()), recorder, LoopScheduler())
    await settle()
    await asyncio.sleep(1)
    assert recorder.texts == [f"{number} " for number in range(1000)]
    assert (recorder.completed, script.running) == (True, 0)


async def test_another_loop_is_delivered_to_while_the_source_runs_here() -> None:
    there = shared_loop()
    script, recorder = Scripted(numbered(2000)), Placed()
    scheduler = LoopScheduler()
    listen(
        script.events().pipe(ops.do_action(lambda _: on.add(threading.get_ident())), observe_on_loop(there)),
        recorder,
        scheduler,
    )
    on = set[int]()
    await until(lambda: recorder.completed)
    assert recorder.texts == [f"{number} " for number in range(2000)]
    assert on == {threading.get_ident()}
    ident = asyncio.run_coroutine_threadsafe(_thread(), there)
    assert recorder.threads == {await asyncio.wrap_future(ident)}


async def _thread() -> int:
    return threading.get_ident()


async def test_a_slow_loop_holds_a_stream_of_another_one() -> None:
    """The source, on this loop, reads on only as far as half of the capacity and what is on its way."""
    seen: list[Any] = []
    opened = threading.Event()
    script = Scripted(numbered(500))

    def slow(event: Any) -> None:
        opened.wait(30)
        seen.append(event)

    done = Signal()
    script.events().pipe(observe_on_loop(shared_loop(), capacity=16)).subscribe(
        slow, on_completed=done.set, scheduler=LoopScheduler()
    )
    for _ in range(200):
        await asyncio.sleep(0)
    assert script.given <= 10
    opened.set()
    await until(lambda: done.is_set)
    assert len(seen) == 501


async def test_many_threads_keep_the_order_of_each() -> None:
    source, recorder = Manual(), Placed()
    listen(source.pipe(observe_on_loop(capacity=100_000)), recorder, LoopScheduler())
    start = threading.Barrier(4)

    def work(name: int) -> None:
        start.wait()
        for number in range(2000):
            source.push((name, number))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    await until(lambda: len(recorder.items) == 8000)
    for name in range(4):
        assert [number for who, number in recorder.items if who == name] == list(range(2000))
    assert recorder.threads == {threading.get_ident()}
    for thread in threads:
        thread.join()


async def test_a_thread_that_looks_at_the_gate_never_comes_to_the_capacity() -> None:
    source, recorder = Manual(), Recorder()
    listen(source.pipe(observe_on_loop(capacity=64)), recorder, LoopScheduler())

    def work() -> None:
        for number in range(20_000):
            while source.gate.closed:
                time.sleep(0)
            source.push(number)
        source.end()

    thread = threading.Thread(target=work)
    thread.start()
    await until(lambda: recorder.ended_at is not None)
    thread.join()
    assert recorder.error is None
    assert recorder.items == list(range(20_000))
    assert not source.gate.closed


def test_a_loop_that_is_closed_is_no_trouble() -> None:
    source, recorder = Manual(), Recorder()
    loop = asyncio.new_event_loop()
    subscription = listen(source.pipe(observe_on_loop()), recorder, LoopScheduler(loop))
    source.push(1)
    loop.close()
    source.push(2)
    source.end()
    subscription.dispose()
    assert recorder.items == []


@virtual_time
async def test_a_disposed_subscriber_is_let_go() -> None:
    source, scheduler = Manual(), LoopScheduler()
    recorder = Recorder()
    gone = weakref.ref(recorder)
    subscription = listen(source.pipe(observe_on_loop()), recorder, scheduler)
    in_thread(pushes(source, 1))
    subscription.dispose()
    del subscription, recorder
    await settle()
    gc.collect()
    assert gone() is None


def test_it_is_usable_without_a_loop() -> None:
    assert rxstream.from_iterable(["a", "b"]).pipe(observe_on_loop()).run(timeout=30).text == "ab"


@pytest.mark.parametrize(
    ("options", "name"), [({"capacity": 0}, "capacity=0"), ({"capacity": 1.5}, "capacity="), ({"loop": "x"}, "loop=")]
)
def test_a_bad_option_is_refused_by_its_name(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        observe_on_loop(**options)


STEPS = st.lists(st.sampled_from(["here", "there", "pause", "resume", "rest"]), max_size=40)


@given(STEPS, st.sampled_from(["complete", "fail", "dispose"]), st.integers(1, 8))
def test_whatever_happens_the_order_is_kept_and_nothing_is_lost(steps: list[str], end: str, capacity: int) -> None:
    """Of what was emitted, all is delivered, once, in order; on overflow and disposal a beginning of it."""

    @virtual_time
    async def main() -> None:
        source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()
        subscription = listen(source.pipe(observe_on_loop(capacity=capacity)), recorder, scheduler)
        emitted: list[int] = []
        for step in steps:
            before = len(recorder.items)
            if step in ("here", "there"):
                emitted.append(len(emitted))
                if step == "here":
                    source.push(emitted[-1])
                else:
                    in_thread(pushes(source, emitted[-1]))
            elif step == "rest":
                await settle()
            else:
                (scheduler.gate.hold if step == "pause" else scheduler.gate.release)("test")
            assert not scheduler.gate.closed or len(recorder.items) == before
        if end == "dispose":
            subscription.dispose()
        else:
            source.end(None if end == "complete" else Disconnected("gone"))
        scheduler.gate.release("test")
        await settle()
        assert recorder.items == emitted[: len(recorder.items)]
        assert not scheduler.gate._watchers
        assert source.running == 0
        if end == "dispose":
            assert recorder.ended_at is None or isinstance(recorder.error, LimitExceeded)
        elif not isinstance(recorder.error, LimitExceeded):
            assert recorder.items == emitted
            assert recorder.completed == (end == "complete")

    main()
