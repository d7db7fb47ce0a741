"""``share``: one request, whoever listens; each told on its own loop, none disturbed by another."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any, Literal

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import abc
from reactivex import operators as ops
from reactivex.disposable import Disposable

import rxstream
from rxstream.errors import ConfigurationError, Disconnected, LimitExceeded
from rxstream.loop import LoopScheduler, shared_loop
from rxstream.observable import Stream
from rxstream.operators import share
from tests.support.manual import Manual
from tests.support.scripted import DONE, Recorder, Scripted, numbered, words
from tests.support.steps import Signal
from tests.support.until import until
from tests.support.virtual_loop import settle, virtual_time


def listen(source: rx.Observable[Any], recorder: Any, scheduler: LoopScheduler | None = None) -> abc.DisposableBase:
    return source.subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler or LoopScheduler()
    )


def held(source: Manual) -> bool:
    return source.gate.closed


# --- one request --------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_all_have_one_request_each_sees_what_comes_from_when_it_subscribed() -> None:
    script, first, second = Scripted(words("a", "b", "c")), Recorder(), Recorder()
    shared = script.events().pipe(share())
    listen(shared, first)
    await asyncio.sleep(1.5)
    listen(shared, second)
    await asyncio.sleep(100)
    assert (first.texts, second.texts) == (["a", "b", "c"], ["b", "c"])
    assert (first.times, second.times) == ([1, 2, 3, 3], [2, 3, 3])
    assert (first.completed, second.completed, script.opened, script.running) == (True, True, 1, 0)


@virtual_time
async def test_nothing_is_asked_before_somebody_subscribes() -> None:
    script = Scripted(words("a"))
    script.events().pipe(share())
    await settle()
    assert script.opened == 0


@pytest.mark.parametrize("error", [None, Disconnected("gone")])
@virtual_time
async def test_after_the_end_one_is_told_the_end_and_no_second_request_is_made(error: Exception | None) -> None:
    source, first, late, scheduler = Manual(), Recorder(), Recorder(), LoopScheduler()
    shared = source.pipe(share())
    listen(shared, first)
    source.push(1)
    source.end(error)
    scheduler.gate.hold("test")
    listen(shared, late, scheduler)
    await settle()
    assert late.ended_at is None  # not while its gate is closed
    scheduler.gate.release("test")
    await settle()
    assert (late.items, late.completed, late.error) == ([], error is None, error)
    assert source.subscribed == 1


@pytest.mark.parametrize("error", [None, Disconnected("gone")])
@virtual_time
async def test_unless_it_was_asked_for(error: Exception | None) -> None:
    source, recorders = Manual(), [Recorder() for _ in range(2)]
    shared = source.pipe(share(reset_on_complete=error is None, reset_on_error=error is not None))
    for recorder in recorders:
        listen(shared, recorder)
        source.push(1)
        source.end(error)
        await settle()
        assert (recorder.items, recorder.error) == ([1], error)
    assert source.subscribed == 2


@virtual_time
async def test_a_retry_behind_it_asks_again_where_errors_reset() -> None:
    scripts = [Scripted(["a", Disconnected("gone")]), Scripted(words("b"))]
    opened = iter(scripts)
    recorder = Recorder()
    source: rx.Observable[Any] = rx.defer(lambda _: next(opened).events())
    listen(source.pipe(share(reset_on_error=True), ops.retry(2)), recorder)
    await asyncio.sleep(10)
    assert (recorder.texts, recorder.completed) == (["a", "b"], True)


@virtual_time
async def test_the_last_that_leaves_closes_the_request_and_the_next_makes_a_new_one() -> None:
    script, first, second, third = Scripted(words("a", "b", "c")), Recorder(), Recorder(), Recorder()
    shared = script.events().pipe(share())
    leaving = [listen(shared, first), listen(shared, second)]
    await asyncio.sleep(1.5)
    leaving[0].dispose()
    await settle()
    assert script.running == 1
    leaving[1].dispose()
    await settle()
    assert (script.opened, script.running) == (1, 0)
    listen(shared, third)
    await asyncio.sleep(10)
    assert (first.texts, third.texts, script.opened) == (["a"], ["a", "b", "c"], 2)


@virtual_time
async def test_a_subscriber_that_takes_enough_leaves() -> None:
    script, recorder = Scripted(words("a", "b", "c")), Recorder()
    listen(script.events().pipe(share(), ops.take(1)), recorder)
    await asyncio.sleep(1.5)
    assert (recorder.texts, recorder.ended_at, script.running) == (["a"], 1, 0)


@virtual_time
async def test_a_source_that_emits_while_it_is_subscribed_to() -> None:
    recorder = Recorder()

    def subscribe(observer: abc.ObserverBase[int], _scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        observer.on_next(1)
        observer.on_completed()
        return Disposable()

    listen(rx.create(subscribe).pipe(share()), recorder)
    await settle()
    assert (recorder.items, recorder.completed) == ([1], True)


@virtual_time
async def test_a_source_that_cannot_be_stopped_yet_when_the_last_leaves() -> None:
    """It emits while it is being subscribed to; the first subscriber raises."""
    subscribed, first, second = 0, Recorder(), Recorder()

    def subscribe(observer: abc.ObserverBase[int], _scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        nonlocal subscribed
        subscribed += 1
        for number in range(5):
            observer.on_next(number)
        observer.on_completed()
        return Disposable()

    def broken(item: int) -> None:
        first.on_next(item)
        raise ValueError(item)

    shared = rx.create(subscribe).pipe(share())
    shared.subscribe(broken, first.on_error, first.on_completed, scheduler=LoopScheduler())
    listen(shared, second)
    await settle()
    assert (first.items, str(first.error), subscribed) == ([0], "0", 2)
    assert (second.items, second.completed) == (list(range(5)), True)


# --- none disturbs another ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paused", [False, True])
@virtual_time
async def test_one_that_raises_gets_it_back_and_the_others_go_on(paused: bool) -> None:
    source, broken, good, scheduler = Manual(), Recorder(), Recorder(), LoopScheduler()

    def on_next(item: int) -> None:
        broken.on_next(item)
        raise ValueError(item)

    shared = source.pipe(share())
    shared.subscribe(on_next, broken.on_error, scheduler=scheduler)
    listen(shared, good)
    if paused:
        scheduler.gate.hold("test")
    source.push(1, 2)
    scheduler.gate.release("test")
    await settle()
    assert (broken.items, str(broken.error)) == ([1], "1")
    assert (good.items, source.running) == ([1, 2], 1)
    assert not held(source)


@virtual_time
async def test_what_a_last_callback_raises_is_told_to_the_loop() -> None:
    source, good, told = Manual(), Recorder(), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))

    def broken() -> None:
        raise ValueError

    shared = source.pipe(share())
    shared.subscribe(on_completed=broken, scheduler=LoopScheduler())
    listen(shared, good)
    source.end()
    assert good.completed
    assert [type(error) for error in told] == [ValueError]


@virtual_time
async def test_one_that_leaves_and_then_raises_is_told_to_the_loop() -> None:
    source, good, told = Manual(), Recorder(), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))

    def broken(_item: int) -> None:
        subscription.dispose()
        raise ValueError

    shared = source.pipe(share())
    subscription = shared.subscribe(broken, scheduler=LoopScheduler())
    listen(shared, good)
    source.push(1, 2)
    assert (good.items, len(told)) == ([1, 2], 1)


@virtual_time
async def test_one_that_subscribes_or_leaves_in_a_handler() -> None:
    source, first, second, third = Manual(), Recorder(), Recorder(), Recorder()
    shared = source.pipe(share())

    def on_next(item: int) -> None:
        first.on_next(item)
        if item == 1:
            listen(shared, third)
            leaving.dispose()

    shared.subscribe(on_next, scheduler=LoopScheduler())
    leaving = listen(shared, second)
    source.push(1, 2)
    await settle()
    assert (first.items, second.items, third.items) == ([1, 2], [], [2])


@virtual_time
async def test_a_handler_that_emits_disorders_nobody() -> None:
    """With a plain Subject the second would see 2 before 1."""
    source, first, second = Manual(), Recorder(), Recorder()
    shared = source.pipe(share())

    def on_next(item: int) -> None:
        first.on_next(item)
        if item == 1:
            source.push(2)
            source.end()

    shared.subscribe(on_next, first.on_error, first.on_completed, scheduler=LoopScheduler())
    listen(shared, second)
    source.push(1)
    assert (first.items, second.items) == ([1, 2], [1, 2])
    assert (first.completed, second.completed) == (True, True)


@virtual_time
async def test_a_handler_that_emits_is_not_called_within_itself() -> None:
    source, seen = Manual(), list[int]()

    def on_next(item: int) -> None:
        if item < 3000:
            source.push(item + 1)
        seen.append(item)

    source.pipe(share()).subscribe(on_next, scheduler=LoopScheduler())
    source.push(0)
    assert seen == list(range(3001))


# --- the gate ---------------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_the_slowest_holds_the_source_and_so_the_others() -> None:
    script, first, second = Scripted(words(*"abcd")), Recorder(), Recorder()
    paused = LoopScheduler()
    shared = script.events().pipe(share())
    listen(shared, first)
    listen(shared, second, paused)
    await asyncio.sleep(1.5)
    paused.gate.hold("test")
    await asyncio.sleep(10)
    assert (first.texts, second.texts, script.given) == (["a"], ["a"], 2)  # the one that was being read
    paused.gate.release("test")
    await asyncio.sleep(10)
    assert (first.texts, second.texts, script.running) == ([*"abcd"], [*"abcd"], 0)


@virtual_time
async def test_one_that_comes_paused_holds_the_source_until_it_leaves() -> None:
    source, first, second, paused = Manual(), Recorder(), Recorder(), LoopScheduler()
    shared = source.pipe(share())
    listen(shared, first)
    paused.gate.hold("test")
    subscription = listen(shared, second, paused)
    assert held(source)
    source.push(1)
    subscription.dispose()
    assert not held(source)
    paused.gate.release("test")
    await settle()
    assert (first.items, second.items) == ([1], [])
    assert not paused.gate._watchers


@virtual_time
async def test_two_may_have_one_gate() -> None:
    source, scheduler = Manual(), LoopScheduler()
    recorders = [Recorder(), Recorder()]
    shared = source.pipe(share())
    subscriptions = [listen(shared, recorder, scheduler) for recorder in recorders]
    scheduler.gate.hold("test")
    source.push(1)
    subscriptions[0].dispose()
    assert held(source)
    scheduler.gate.release("test")
    assert not held(source)
    await settle()
    assert [recorder.items for recorder in recorders] == [[], [1]]


@virtual_time
async def test_buffered_a_slow_one_waits_alone() -> None:
    source, first, second, paused = Manual(), Recorder(), Recorder(), LoopScheduler()
    shared = source.pipe(share(slow="buffer"))
    listen(shared, first)
    listen(shared, second, paused)
    paused.gate.hold("test")
    assert not held(source)
    source.push(*range(100))
    assert (len(first.items), len(second.items)) == (100, 0)
    source.end()
    assert first.completed
    paused.gate.release("test")
    await settle()
    assert (second.items, second.completed) == (list(range(100)), True)


@virtual_time
async def test_buffered_the_source_waits_when_all_do() -> None:
    source, schedulers = Manual(), [LoopScheduler(), LoopScheduler()]
    shared = source.pipe(share(slow="buffer"))
    for scheduler in schedulers:
        listen(shared, Recorder(), scheduler)
    schedulers[0].gate.hold("test")
    assert not held(source)
    schedulers[1].gate.hold("test")
    assert held(source)
    schedulers[0].gate.release("test")
    assert not held(source)


@pytest.mark.parametrize("slow", ["hold", "buffer"])
@virtual_time
async def test_with_too_much_before_it_one_ends_after_that_and_alone(slow: Literal["hold", "buffer"]) -> None:
    source, first, second, paused = Manual(), Recorder(), Recorder(), LoopScheduler()
    shared = source.pipe(share(slow=slow, capacity=4))
    listen(shared, first)
    listen(shared, second, paused)
    paused.gate.hold("test")
    source.push(*range(10))
    assert not held(source)  # it has been given up
    paused.gate.release("test")
    await settle()
    source.push(10)
    assert first.items == list(range(11))
    assert second.items == list(range(5))
    assert isinstance(second.error, LimitExceeded)
    assert source.running == 1


@virtual_time
async def test_memory_is_bounded_while_one_is_stopped() -> None:
    class Item:
        pass

    source, first, paused = Manual(), list[int](), LoopScheduler()
    shared = source.pipe(share(slow="buffer", capacity=10))
    shared.subscribe(lambda _: first.append(1), scheduler=LoopScheduler())
    stopped = listen(shared, Recorder(), paused)
    paused.gate.hold("test")
    alive: weakref.WeakSet[Item] = weakref.WeakSet()
    most = 0
    for _ in range(1000):
        item = Item()
        alive.add(item)
        source.push(item)
        most = max(most, len(alive))
    assert len(first) == 1000
    assert 10 < most < 15
    stopped.dispose()


# --- loops and threads ------------------------------------------------------------------------------------------------------------


class Placed(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def on_next(self, item: Any) -> None:
        self.threads.add(threading.get_ident())
        super().on_next(item)


async def test_each_is_told_on_its_own_loop() -> None:
    source, here, there = Manual(), Placed(), Placed()
    shared = source.pipe(share())
    listen(shared, here)
    listen(shared, there, LoopScheduler(shared_loop()))
    for number in range(1000):
        source.push(number)
        if source.gate.closed:
            await until(lambda: not source.gate.closed)
    source.end()
    await until(lambda: here.completed and there.completed)
    assert here.items == there.items == list(range(1000))
    assert here.threads == {threading.get_ident()}
    assert len(there.threads) == 1
    assert here.threads != there.threads


async def test_one_that_is_slow_on_another_loop_holds_the_source() -> None:
    source, slow, leave = Manual(), list[int](), Signal()
    shared = source.pipe(share(capacity=64))

    def on_next(item: int) -> None:
        leave.wait()
        slow.append(item)

    shared.subscribe(on_next, scheduler=LoopScheduler(shared_loop()))
    source.push(*range(31))
    assert not held(source)
    source.push(31, 32)  # one may be with it already
    assert held(source)
    leave.set()
    await until(lambda: len(slow) == 33)
    await until(lambda: not held(source))
    assert slow == list(range(33))


async def test_one_whose_loop_is_closed_has_left() -> None:
    source, here = Manual(), Recorder()
    shared = source.pipe(share(capacity=64))
    loop = asyncio.new_event_loop()
    dead = listen(shared, Recorder(), LoopScheduler(loop))
    listen(shared, here)
    loop.close()
    source.push(*range(40))  # at 32 it would be held
    assert here.items == list(range(40))
    assert not held(source)
    dead.dispose()
    assert source.running == 1


@virtual_time
async def test_nor_does_it_hold_the_source_when_it_was_paused() -> None:
    source, here = Manual(), Recorder()
    shared = source.pipe(share())
    loop = asyncio.new_event_loop()
    paused = LoopScheduler(loop)
    listen(shared, here)
    listen(shared, Recorder(), paused)
    paused.gate.hold("test")
    assert held(source)
    loop.close()
    listen(shared, Recorder())
    assert not held(source)
    assert source.running == 1


def test_when_everybodys_loop_was_closed_the_next_one_makes_a_new_request() -> None:
    script = Scripted([0.1, "a", DONE])
    shared = Stream.of(script.events()).pipe(share())
    loop = asyncio.new_event_loop()
    listen(shared, Recorder(), LoopScheduler(loop))
    loop.run_until_complete(asyncio.sleep(0))
    for task in asyncio.all_tasks(loop):
        setattr(task, "_log_destroy_pending", False)  # noqa: B010 - it is meant to be left behind
    loop.close()
    assert shared.run(timeout=30).text == "a"
    assert script.opened == 2


async def test_threads_that_come_and_go_make_one_request_at_a_time() -> None:
    source = Manual()
    most = 0
    lock = threading.Lock()
    shared = source.pipe(ops.do_action(lambda _: None), share())
    scheduler = LoopScheduler(shared_loop())

    def work() -> None:
        nonlocal most
        for _ in range(100):
            subscription = shared.subscribe(scheduler=scheduler)
            with lock:
                most = max(most, source.running)
            subscription.dispose()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert source.running == 0
    assert most >= 1
    recorder = Recorder()
    listen(shared, recorder)
    source.push(1)
    await settle()
    assert recorder.items == [1]


def test_it_is_a_stream_still() -> None:
    shared = rxstream.emulate("Hello").pipe(share())
    assert isinstance(shared, Stream)
    assert shared.run(timeout=30).text == "Hello"
    assert shared.run(timeout=30) is None  # the end, and no second request


@virtual_time
async def test_a_disposed_subscriber_is_let_go() -> None:
    source, scheduler, recorder = Manual(), LoopScheduler(), Recorder()
    shared = source.pipe(share())
    listen(shared, Recorder())
    gone = weakref.ref(recorder)
    subscription = listen(shared, recorder, scheduler)
    source.push(1)
    scheduler.gate.hold("test")
    source.push(2)
    subscription.dispose()
    del recorder, subscription
    await settle()
    gc.collect()
    assert gone() is None


@virtual_time
async def test_a_subscription_that_is_kept_after_its_end_keeps_no_items() -> None:
    class Item:
        pass

    source, scheduler = Manual(), LoopScheduler()
    shared = source.pipe(share())
    shared.subscribe(scheduler=LoopScheduler())
    subscription = shared.subscribe(scheduler=scheduler)
    scheduler.gate.hold("test")
    item = Item()
    waiting = weakref.ref(item)
    source.push(item)
    subscription.dispose()
    del item
    source.push(1)
    gc.collect()
    assert waiting() is None


# --- options and laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "name"), [({"slow": "drop"}, "slow='drop'"), ({"capacity": 0}, "capacity=0")])
def test_a_bad_option_is_refused_by_its_name(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        share(**options)


STEPS = st.lists(
    st.tuples(st.sampled_from(["push", "pause", "resume", "join", "leave", "rest"]), st.integers(0, 2)), max_size=40
)


@given(STEPS, st.sampled_from(["hold", "buffer"]), st.booleans())
def test_whatever_happens_each_sees_all_from_its_time_on_once_in_order(
    steps: list[tuple[str, int]], slow: Literal["hold", "buffer"], end: bool
) -> None:
    """And the source is held when it should be, and subscribed to while anybody is there."""

    @virtual_time
    async def main() -> None:
        source = Manual()
        shared = source.pipe(share(slow=slow))
        schedulers = [LoopScheduler() for _ in range(3)]
        present: dict[int, tuple[Recorder, int, abc.DisposableBase]] = {}
        pushed = 0
        left: list[tuple[Recorder, list[int]]] = []
        for step, who in steps:
            if step == "push":
                source.push(pushed)
                pushed += len(present) > 0
            elif step == "rest":
                await settle()
            elif step == "join" and who not in present:
                recorder = Recorder()
                present[who] = (recorder, pushed, listen(shared, recorder, schedulers[who]))
            elif step == "leave" and who in present:
                recorder, since, subscription = present.pop(who)
                subscription.dispose()
                left.append((recorder, list(recorder.items)))
                assert recorder.items == list(range(since, pushed))[: len(recorder.items)]
            elif step in ("pause", "resume"):
                (schedulers[who].gate.hold if step == "pause" else schedulers[who].gate.release)("test")
            closed = [schedulers[who].gate.closed for who in present]
            assert source.running == (1 if present else 0)
            if present:
                assert source.gate.closed == (any(closed) if slow == "hold" else all(closed))
        if end:
            source.end()
        for scheduler in schedulers:
            scheduler.gate.release("test")
        await settle()
        for recorder, since, _ in present.values():
            assert recorder.items == list(range(since, pushed))
            assert recorder.completed == end
        for recorder, seen in left:
            assert (recorder.items, recorder.ended_at) == (seen, None)
        for _, _, subscription in present.values():
            subscription.dispose()
        assert (source.running, [scheduler.gate._watchers for scheduler in schedulers]) == (0, [set()] * 3)

    main()


def test_a_stream_of_many_events_is_shared_by_plain_code_and_coroutines() -> None:
    script = Scripted(numbered(500))
    shared: Stream[Any] = Stream.of(script.events()).pipe(share())

    async def main() -> list[Any]:
        return [*await asyncio.gather(shared, shared, shared)]

    answers = asyncio.run(main())
    assert {answer.text for answer in answers} == {"".join(f"{number} " for number in range(500))}
    assert script.opened == 1
