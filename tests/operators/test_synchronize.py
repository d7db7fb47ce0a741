"""``synchronize``: several threads emit, one call at a time arrives."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxstream.errors import ConfigurationError, Disconnected, LimitExceeded
from rxstream.loop import LoopScheduler
from rxstream.operators import synchronize
from tests.support.manual import Manual
from tests.support.scripted import Recorder, Scripted, numbered
from tests.support.steps import Signal
from tests.support.until import until
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time


class Busy:
    """An observer that counts how many are in it at once."""

    def __init__(self, *, pause: float = 0.0) -> None:
        self.items: list[Any] = []
        self.ends: list[Exception | None] = []
        self.most = 0
        self._inside = 0
        self._pause = pause
        self._lock = threading.Lock()

    def on_next(self, item: Any) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        time.sleep(self._pause)
        self.items.append(item)
        with self._lock:
            self._inside -= 1

    def on_error(self, error: Exception) -> None:
        self.ends.append(error)

    def on_completed(self) -> None:
        self.ends.append(None)


def listen(source: rx.Observable[Any], observer: Any, scheduler: LoopScheduler) -> abc.DisposableBase:
    return source.subscribe(observer.on_next, observer.on_error, observer.on_completed, scheduler=scheduler)


def together(*works: Callable[[], object]) -> None:
    """Run each in a thread of its own, all from the same moment; return when all are done."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        barrier.wait()
        work()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def feed(subject: Subject[Any], name: int, count: int) -> Callable[[], None]:
    def work() -> None:
        for number in range(count):
            subject.on_next((name, number))

    return work


async def test_without_it_a_subject_that_three_threads_feed_calls_its_observer_several_times_at_once() -> None:
    subject, busy = Subject[Any](), Busy(pause=0.001)
    listen(subject, busy, LoopScheduler())
    together(*(feed(subject, name, 20) for name in range(3)))
    assert busy.most > 1


async def test_with_it_one_at_a_time_in_the_order_of_each_thread() -> None:
    subject, busy = Subject[Any](), Busy(pause=0.001)
    listen(subject.pipe(synchronize()), busy, LoopScheduler())
    together(*(feed(subject, name, 20) for name in range(3)))
    assert busy.most == 1
    assert len(busy.items) == 60
    for name in range(3):
        assert [number for who, number in busy.items if who == name] == list(range(20))


async def test_under_load_nothing_is_lost_or_doubled() -> None:
    subject, busy = Subject[Any](), Busy()
    listen(subject.pipe(synchronize()), busy, LoopScheduler())
    together(*(feed(subject, name, 3000) for name in range(4)))
    await until(lambda: len(busy.items) >= 12_000)
    assert sorted(busy.items) == [(name, number) for name in range(4) for number in range(3000)]
    assert busy.most == 1


async def test_no_thread_waits_for_another_ones_handler() -> None:
    """While one is in its handler, another leaves its item and goes on; the first delivers it."""
    source, entered, leave = Manual(), Signal(), Signal()
    seen: list[tuple[Any, int]] = []

    def on_next(item: Any) -> None:
        seen.append((item, threading.get_ident()))
        if item == "first":
            entered.set()
            leave.wait()

    source.pipe(synchronize()).subscribe(on_next, scheduler=LoopScheduler())
    thread = threading.Thread(target=lambda: source.push("first"))
    thread.start()
    entered.wait()
    source.push("second")  # returns
    assert len(seen) == 1
    leave.set()
    thread.join()
    assert [item for item, _ in seen] == ["first", "second"]
    assert len({ident for _, ident in seen}) == 1


async def test_of_several_ends_the_first_counts_and_nothing_comes_after_it() -> None:
    busy = Busy()
    observers: list[abc.ObserverBase[Any]] = []

    def subscribe(observer: abc.ObserverBase[Any], _scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        observers.append(observer)
        return Disposable()

    raw: rx.Observable[Any] = rx.Observable(subscribe)
    listen(raw.pipe(synchronize()), busy, LoopScheduler())
    (observer,) = observers
    works = [observer.on_completed, lambda: observer.on_error(Disconnected("gone"))] * 3
    together(*works, *(lambda: observer.on_next(1) for _ in range(3)))
    observer.on_next("late")
    assert len(busy.ends) == 1
    assert "late" not in busy.items


@virtual_time
async def test_what_a_handler_causes_comes_after_what_it_is_told() -> None:
    source, seen = Manual(), list[int]()

    def on_next(item: int) -> None:
        if item < 3000:
            source.push(item + 1)  # no deeper in the stack each time
        seen.append(item)

    source.pipe(synchronize()).subscribe(on_next, scheduler=LoopScheduler())
    source.push(0)
    await settle()
    assert seen == list(range(3001))


@virtual_time
async def test_an_end_within_a_handler_comes_after_what_waits() -> None:
    source, recorder, error = Manual(), Recorder(), Disconnected("gone")

    def on_next(item: int) -> None:
        recorder.on_next(item)
        if item == 1:
            source.push(2, 3)
            source.end(error)
            source.push(4)

    source.pipe(synchronize()).subscribe(on_next, recorder.on_error, scheduler=LoopScheduler())
    source.push(1)
    assert (recorder.items, recorder.error) == ([1, 2, 3], error)


@virtual_time
async def test_nothing_is_emitted_while_the_gate_is_closed() -> None:
    source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()
    listen(source.pipe(synchronize()), recorder, scheduler)
    scheduler.gate.hold("test")
    source.push(1, 2)
    source.end()
    assert (recorder.items, recorder.completed) == ([], False)
    scheduler.gate.release("test")
    assert recorder.items == []
    await settle()
    assert (recorder.items, recorder.completed) == ([1, 2], True)
    assert not scheduler.gate._watchers


@virtual_time
async def test_a_gate_that_opens_and_closes_again_at_once_emits_nothing() -> None:
    source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()
    listen(source.pipe(synchronize()), recorder, scheduler)
    scheduler.gate.hold("test")
    source.push(1)
    scheduler.gate.release("test")
    scheduler.gate.hold("test")
    await settle()
    assert recorder.items == []
    scheduler.gate.release("test")
    source.push(2)  # takes what waits along
    assert recorder.items == [1, 2]


@virtual_time
async def test_a_pause_by_the_handler_stops_after_that_item() -> None:
    source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()

    def on_next(item: int) -> None:
        recorder.on_next(item)
        if item == 1:
            source.push(2, 3)
            scheduler.gate.hold("test")

    source.pipe(synchronize()).subscribe(on_next, on_completed=recorder.on_completed, scheduler=scheduler)
    source.push(1)
    source.end()
    await settle()
    assert (recorder.items, recorder.completed) == ([1], False)
    scheduler.gate.release("test")
    await settle()
    assert (recorder.items, recorder.completed) == ([1, 2, 3], True)


@virtual_time
async def test_a_long_queue_lets_the_loop_breathe() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    source, scheduler, rounds, seen = Manual(), LoopScheduler(), list[int](), list[int]()

    def on_next(item: int) -> None:
        loop.advance(0.0001)
        seen.append(item)

    source.pipe(synchronize()).subscribe(on_next, scheduler=scheduler)
    scheduler.gate.hold("test")
    source.push(*range(1000))
    scheduler.gate.release("test")
    while len(seen) < 1000:
        await asyncio.sleep(0)
        rounds.append(len(seen))
    assert seen == list(range(1000))
    assert 5 < len(rounds) < 20


@virtual_time
async def test_the_source_is_held_while_much_waits() -> None:
    source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()
    listen(source.pipe(synchronize()), recorder, scheduler)
    scheduler.gate.hold("test")
    source.push(*range(63))
    assert list(source.gate.holds) == ["test"]
    source.push(63)
    assert len(list(source.gate.holds)) == 2
    scheduler.gate.release("test")
    await settle()
    assert not list(source.gate.holds)
    assert recorder.items == list(range(64))


@virtual_time
async def test_a_source_that_does_not_stop_ends_in_an_error_after_what_waits() -> None:
    source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()
    listen(source.pipe(synchronize(capacity=3)), recorder, scheduler)
    scheduler.gate.hold("test")
    source.push(*range(10))
    assert source.running == 0
    scheduler.gate.release("test")
    await settle()
    assert recorder.items == [0, 1, 2]
    assert isinstance(recorder.error, LimitExceeded)


@virtual_time
async def test_a_full_queue_whose_gate_has_opened_takes_one_more() -> None:
    source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()
    listen(source.pipe(synchronize(capacity=2)), recorder, scheduler)
    scheduler.gate.hold("test")
    source.push(1, 2)
    scheduler.gate.release("test")
    source.push(3)
    assert (recorder.items, recorder.error) == ([1, 2, 3], None)


@virtual_time
async def test_a_source_that_cannot_be_stopped_yet_when_there_is_too_much() -> None:
    recorder, scheduler = Recorder(), LoopScheduler()

    def subscribe(observer: abc.ObserverBase[int], _scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        for number in range(5):
            observer.on_next(number)
        observer.on_completed()
        return Disposable()

    scheduler.gate.hold("test")
    listen(rx.create(subscribe).pipe(synchronize(capacity=2)), recorder, scheduler)
    scheduler.gate.release("test")
    await settle()
    assert recorder.items == [0, 1]
    assert isinstance(recorder.error, LimitExceeded)


@virtual_time
async def test_what_an_observer_raises_goes_to_who_emitted_and_the_rest_still_comes() -> None:
    source, seen, scheduler = Manual(), list[int](), LoopScheduler()

    def on_next(item: int) -> None:
        seen.append(item)
        if item in (1, 2):
            source.push(item + 1, item + 10)
            raise ValueError(item)

    source.pipe(synchronize()).subscribe(on_next, scheduler=scheduler)
    with pytest.raises(ValueError, match="1"):
        source.push(1)
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.append(context["message"]))
    await settle()
    assert [item for item in seen if isinstance(item, int)] == [1, 2, 11, 3, 12]


@virtual_time
async def test_disposing_forgets_what_waits_and_lets_go() -> None:
    source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()
    subscription = listen(source.pipe(synchronize(capacity=2)), recorder, scheduler)
    scheduler.gate.hold("test")
    source.push(1, 2)
    thread = threading.Thread(target=subscription.dispose)
    thread.start()
    thread.join()
    scheduler.gate.release("test")
    await settle()
    assert (recorder.items, recorder.ended_at, source.running) == ([], None, 0)
    assert not list(source.gate.holds)
    assert not scheduler.gate._watchers


@virtual_time
async def test_a_disposed_subscriber_is_let_go() -> None:
    source, scheduler, recorder = Manual(), LoopScheduler(), Recorder()
    gone = weakref.ref(recorder)
    subscription = listen(source.pipe(synchronize()), recorder, scheduler)
    source.push(1)
    subscription.dispose()
    del subscription, recorder
    gc.collect()
    assert gone() is None


@virtual_time
async def test_a_stream_behind_it_is_the_same_stream() -> None:
    script, recorder = Scripted(numbered(200)), Recorder()
    listen(script.events().pipe(synchronize(), ops.map(lambda event: event)), recorder, LoopScheduler())
    await asyncio.sleep(1)
    assert recorder.texts == [f"{number} " for number in range(200)]
    assert (recorder.completed, script.running) == (True, 0)


def test_a_loop_that_is_closed_is_no_trouble() -> None:
    source, recorder = Manual(), Recorder()
    loop = asyncio.new_event_loop()
    scheduler = LoopScheduler(loop)
    listen(source.pipe(synchronize()), recorder, scheduler)
    scheduler.gate.hold("test")
    source.push(1)
    loop.close()
    scheduler.gate.release("test")
    assert recorder.items == []


def test_a_bad_option_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigurationError, match="capacity=0"):
        synchronize(capacity=0)


STEPS = st.lists(st.sampled_from(["push", "push2", "pause", "resume", "rest"]), max_size=40)


@given(STEPS, st.sampled_from(["complete", "fail", "dispose"]))
def test_whatever_happens_the_order_is_kept_and_nothing_is_lost(steps: list[str], end: str) -> None:
    @virtual_time
    async def main() -> None:
        source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()
        counter = iter(range(1000))
        given_: list[int] = []

        def on_next(item: tuple[int, bool]) -> None:
            recorder.on_next(item[0])
            if item[1]:  # the handler itself emits
                push(again=False)

        def push(*, again: bool) -> None:
            given_.append(next(counter))
            source.push((given_[-1], again))

        subscription = source.pipe(synchronize()).subscribe(
            on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler
        )
        for step in steps:
            before = len(recorder.items)
            if step.startswith("push"):
                push(again=step == "push2")
            elif step == "rest":
                await settle()
            else:
                (scheduler.gate.hold if step == "pause" else scheduler.gate.release)("test")
            assert not scheduler.gate.closed or len(recorder.items) == before
        before_the_end = list(given_)
        if end == "dispose":
            subscription.dispose()
        else:
            source.end(None if end == "complete" else Disconnected("gone"))
        scheduler.gate.release("test")
        await settle()
        assert (not scheduler.gate._watchers, source.running) == (True, 0)
        if end == "dispose":
            assert recorder.ended_at is None
            assert recorder.items == before_the_end[: len(recorder.items)]
        else:
            assert recorder.items == before_the_end
            assert recorder.completed == (end == "complete")

    main()
