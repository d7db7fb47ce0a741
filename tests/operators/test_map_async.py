"""``map_async``: so many calls at a time, in order or as they are done, and none left behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import abc
from reactivex.disposable import Disposable

import rxstream
from rxstream._outlet import MOST
from rxstream.errors import Cancelled, ConfigurationError, Disconnected, LimitExceeded
from rxstream.events import TextDelta
from rxstream.loop import LoopScheduler
from rxstream.operators import map_async
from tests.support.manual import Manual
from tests.support.scripted import Recorder, Scripted
from tests.support.virtual_loop import settle, virtual_time


class Calls:
    """A coroutine function that takes as long as its argument says, fails if that is negative, and knows what became of each call."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.done: list[Any] = []
        self.cancelled: list[Any] = []
        self.most = 0

    @property
    def flying(self) -> int:
        return len(self.begun) - len(self.done) - len(self.cancelled)

    async def __call__(self, seconds: float) -> str:
        self.begun.append(seconds)
        self.most = max(self.most, self.flying)
        try:
            await asyncio.sleep(abs(seconds))
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # closing takes a round
            self.cancelled.append(seconds)
            raise
        self.done.append(seconds)
        if seconds < 0:
            raise ValueError(seconds)
        return f"<{seconds:g}>"


def listen(source: rx.Observable[Any], recorder: Any, scheduler: LoopScheduler | None = None) -> abc.DisposableBase:
    return source.subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler or LoopScheduler()
    )


@virtual_time
async def test_one_at_a_time_each_takes_its_time() -> None:
    source, calls, recorder = Manual(), Calls(), Recorder()
    listen(source.pipe(map_async(calls)), recorder)
    source.push(1, 2, 3)
    source.end()
    await asyncio.sleep(100)
    assert (recorder.items, recorder.times) == (["<1>", "<2>", "<3>"], [1, 3, 6])
    assert (recorder.completed, recorder.ended_at, calls.most) == (True, 6, 1)


@virtual_time
async def test_several_at_a_time_come_in_order() -> None:
    source, calls, recorder = Manual(), Calls(), Recorder()
    listen(source.pipe(map_async(calls, max_concurrency=2)), recorder)
    source.push(3, 1, 4, 1)
    source.end()
    await asyncio.sleep(100)
    # 3 runs from 0 to 3, 1 from 0 to 1, 4 from 1 to 5, the second 1 from 3 to 4
    assert list(zip(recorder.items, recorder.times, strict=True)) == [("<3>", 3), ("<1>", 3), ("<4>", 5), ("<1>", 5)]
    assert (recorder.ended_at, calls.most) == (5, 2)


@virtual_time
async def test_or_as_they_are_done() -> None:
    source, calls, recorder = Manual(), Calls(), Recorder()
    listen(source.pipe(map_async(calls, max_concurrency=2, ordered=False)), recorder)
    source.push(3, 1, 4, 1)
    source.end()
    await asyncio.sleep(100)
    assert list(zip(recorder.items, recorder.times, strict=True)) == [("<1>", 1), ("<3>", 3), ("<1>", 4), ("<4>", 5)]
    assert (recorder.ended_at, calls.most) == (5, 2)


@pytest.mark.parametrize("ordered", [True, False])
@virtual_time
async def test_without_items_it_only_ends(ordered: bool) -> None:
    source, recorder = Manual(), Recorder()
    listen(source.pipe(map_async(Calls(), ordered=ordered)), recorder)
    source.end()
    assert recorder.completed


@virtual_time
async def test_a_call_that_fails_ends_it_after_the_results_before_and_cancels_those_after() -> None:
    source, calls, recorder = Manual(), Calls(), Recorder()
    listen(source.pipe(map_async(calls, max_concurrency=4)), recorder)
    source.push(5, -1, 3, 9, 2)
    await asyncio.sleep(2)
    assert (sorted(calls.cancelled), source.running, recorder.ended_at) == ([3, 9], 0, None)
    await asyncio.sleep(100)
    assert list(zip(recorder.items, recorder.times, strict=True)) == [("<5>", 5)]
    assert isinstance(recorder.error, ValueError)
    assert (recorder.ended_at, calls.begun) == (5, [5, -1, 3, 9])


@virtual_time
async def test_an_earlier_call_that_fails_later_is_what_it_ends_with() -> None:
    source, calls, recorder = Manual(), Calls(), Recorder()
    listen(source.pipe(map_async(calls, max_concurrency=3)), recorder)
    source.push(1, -5, -2)
    await asyncio.sleep(100)
    assert (recorder.items, recorder.ended_at) == (["<1>"], 5)
    assert str(recorder.error) == "-5"


@virtual_time
async def test_two_that_are_done_in_one_round_one_of_them_failed() -> None:
    source, recorder = Manual(), Recorder()
    futures = [asyncio.get_running_loop().create_future() for _ in range(3)]

    def fn(index: int) -> asyncio.Future[Any]:
        return futures[index]

    listen(source.pipe(map_async(fn, max_concurrency=3)), recorder)
    source.push(0, 1, 2)
    futures[0].set_result("a")
    futures[1].set_exception(ValueError("no"))
    futures[2].set_result("c")
    await settle()
    assert recorder.items == ["a"]
    assert isinstance(recorder.error, ValueError)


@virtual_time
async def test_unordered_a_call_that_fails_ends_it_at_once() -> None:
    source, calls, recorder = Manual(), Calls(), Recorder()
    listen(source.pipe(map_async(calls, max_concurrency=4, ordered=False)), recorder)
    source.push(5, 1, -2, 9)
    await asyncio.sleep(100)
    assert list(zip(recorder.items, recorder.times, strict=True)) == [("<1>", 1)]
    assert (recorder.ended_at, calls.cancelled, source.running) == (2, [5, 9], 0)


@pytest.mark.parametrize("ordered", [True, False])
@virtual_time
async def test_an_error_of_the_source_comes_after_the_results(ordered: bool) -> None:
    source, calls, recorder, error = Manual(), Calls(), Recorder(), Disconnected("gone")
    listen(source.pipe(map_async(calls, ordered=ordered)), recorder)
    source.push(1, 2)
    source.end(error)
    await asyncio.sleep(100)
    assert (recorder.items, recorder.error, recorder.ended_at) == (["<1>", "<2>"], error, 3)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("error", [ValueError("no"), StopIteration("no")])
@virtual_time
async def test_what_the_function_itself_raises_is_an_error_of_the_stream(ordered: bool, error: Exception) -> None:
    source, recorder = Manual(), Recorder()

    def broken(item: int) -> Awaitable[int]:
        raise error

    listen(source.pipe(map_async(broken, ordered=ordered)), recorder)
    source.push(1, 2)
    assert recorder.error is error or (recorder.error is not None and recorder.error.__cause__ is error)
    assert source.running == 0


@virtual_time
async def test_a_source_that_cannot_be_stopped_yet_when_it_fails() -> None:
    recorder, called = Recorder(), list[int]()

    def subscribe(observer: abc.ObserverBase[int], _scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        for number in range(5):
            observer.on_next(number)
        observer.on_completed()
        return Disposable()

    def broken(item: int) -> Awaitable[int]:
        called.append(item)
        raise ValueError(item)

    listen(rx.create(subscribe).pipe(map_async(broken)), recorder)
    assert (called, str(recorder.error)) == ([0], "0")


@virtual_time
async def test_a_function_that_gives_no_awaitable_is_an_error_of_the_stream() -> None:
    source, recorder = Manual(), Recorder()
    plain: Any = str
    listen(source.pipe(map_async(plain)), recorder)
    source.push(1)
    assert isinstance(recorder.error, TypeError)


@virtual_time
async def test_a_call_that_somebody_else_cancels_is_an_error_of_the_stream() -> None:
    source, recorder, tasks = Manual(), Recorder(), list[asyncio.Task[Any]]()

    def fn(item: int) -> asyncio.Task[None]:
        tasks.append(asyncio.ensure_future(asyncio.sleep(item)))
        return tasks[-1]

    listen(source.pipe(map_async(fn)), recorder)
    source.push(5)
    tasks[0].cancel()
    await settle()
    assert isinstance(recorder.error, Cancelled)


class Later:
    """An awaitable that is neither a coroutine nor a future."""

    def __init__(self, item: int) -> None:
        self._item = item

    def __await__(self) -> Any:
        yield from asyncio.sleep(1).__await__()
        return self._item


@virtual_time
async def test_any_awaitable_will_do() -> None:
    source, recorder = Manual(), Recorder()
    listen(source.pipe(map_async(Later)), recorder)
    source.push(1)
    await asyncio.sleep(2)
    assert (recorder.items, recorder.times) == ([1], [1])
    source.end()


@pytest.mark.parametrize("ordered", [True, False])
@virtual_time
async def test_what_is_done_already_costs_no_task_and_no_stack(ordered: bool) -> None:
    source, recorder = Manual(), Recorder()

    def cached(item: int) -> asyncio.Future[int]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(-item)
        return future

    listen(source.pipe(map_async(cached, ordered=ordered)), recorder)
    source.push(*range(3000))
    source.end()
    assert recorder.items == [-item for item in range(3000)]
    assert recorder.completed
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("ordered", [True, False])
@virtual_time
async def test_one_future_may_be_the_result_of_several_items(ordered: bool) -> None:
    source, recorder, future = Manual(), Recorder(), asyncio.get_running_loop().create_future()
    listen(source.pipe(map_async(lambda _: future, max_concurrency=2, ordered=ordered)), recorder)
    source.push(1, 2, 3)
    source.end()
    await settle()
    future.set_result("same")
    await settle()
    assert (recorder.items, recorder.completed) == (["same"] * 3, True)


@virtual_time
async def test_a_function_that_emits_itself() -> None:
    """Its item is called for after it, not within it."""
    source, recorder = Manual(), Recorder()

    def fn(item: int) -> asyncio.Future[int]:
        if item < 3000:
            source.push(item + 1)
        future = asyncio.get_running_loop().create_future()
        future.set_result(item)
        return future

    listen(source.pipe(map_async(fn)), recorder)
    source.push(0)
    assert recorder.items == list(range(3001))


current = contextvars.ContextVar("current", default="unset")


@virtual_time
async def test_each_call_has_the_subscribers_context_to_itself() -> None:
    source, recorder = Manual(), Recorder()

    async def fn(item: int) -> str:
        seen = current.get()
        current.set(f"call {item}")
        await asyncio.sleep(1)
        return f"{seen}, then {current.get()}"

    token = current.set("subscriber")
    listen(source.pipe(map_async(fn, max_concurrency=2)), recorder)
    current.reset(token)
    source.push(1, 2)
    await asyncio.sleep(5)
    assert recorder.items == ["subscriber, then call 1", "subscriber, then call 2"]
    source.end()


@virtual_time
async def test_nor_does_a_plain_function_leave_anything_in_it() -> None:
    source, seen = Manual(), list[str]()

    def fn(item: int) -> Awaitable[None]:
        seen.append(current.get())
        current.set(f"call {item}")
        return asyncio.sleep(0)

    source.pipe(map_async(fn, max_concurrency=2)).subscribe(scheduler=LoopScheduler())
    source.push(1, 2)
    await settle()
    assert seen == ["unset", "unset"]
    source.end()


@pytest.mark.parametrize("ordered", [True, False])
@virtual_time
async def test_nothing_is_emitted_while_the_gate_is_closed(ordered: bool) -> None:
    source, calls, recorder, scheduler = Manual(), Calls(), Recorder(), LoopScheduler()
    listen(source.pipe(map_async(calls, max_concurrency=3, ordered=ordered)), recorder, scheduler)
    source.push(1, 2, 3)
    source.end()
    await asyncio.sleep(1.5)
    scheduler.gate.hold("test")
    await asyncio.sleep(8.5)
    assert (recorder.items, recorder.ended_at) == (["<1>"], None)
    scheduler.gate.release("test")
    await settle()
    assert (recorder.items, recorder.times, recorder.ended_at) == (["<1>", "<2>", "<3>"], [1, 10, 10], 10)


@pytest.mark.parametrize("ordered", [True, False])
@virtual_time
async def test_the_source_is_held_while_much_waits(ordered: bool) -> None:
    source, calls, recorder = Manual(), Calls(), Recorder()
    listen(source.pipe(map_async(calls, max_concurrency=2, ordered=ordered)), recorder)
    held: list[bool] = []

    def look() -> None:
        held.append(source.gate.closed)

    source.push(*[1] * 65)
    look()
    source.push(1)
    look()
    await asyncio.sleep(23.5)  # two a second: 20 are left
    look()
    await asyncio.sleep(1)
    look()
    assert held == [False, True, True, False]
    await asyncio.sleep(100)
    assert (len(recorder.items), calls.most) == (66, 2)
    source.end()


@pytest.mark.parametrize("ordered", [True, False])
@virtual_time
async def test_results_that_wait_for_the_gate_hold_the_source_as_well(ordered: bool) -> None:
    source, recorder, scheduler, held = Manual(), Recorder(), LoopScheduler(), list[tuple[str, ...]]()
    listen(source.pipe(map_async(Calls(), ordered=ordered)), recorder, scheduler)
    scheduler.gate.hold("test")
    source.push(*[0] * 65)
    await asyncio.sleep(1)
    held.append(source.gate.holds)
    scheduler.gate.release("test")
    held.append(source.gate.holds)
    await settle()
    held.append(source.gate.holds)
    assert [len(holds) for holds in held] == [2, 1, 0]
    assert len(recorder.items) == 65
    source.end()


@virtual_time
async def test_a_slow_function_slows_a_stream() -> None:
    script, recorder = Scripted([*(f"{number}" for number in range(500))]), Recorder()

    async def slow(event: Any) -> str:
        await asyncio.sleep(1)
        return str(event.text)

    listen(script.events().pipe(map_async(slow)), recorder)
    await asyncio.sleep(10.5)
    assert len(recorder.items) == 10
    assert script.given < 80
    await asyncio.sleep(1000)
    assert recorder.items == [str(number) for number in range(500)]
    assert script.running == 0


@virtual_time
async def test_a_source_that_does_not_stop_ends_in_an_error() -> None:
    source, calls, recorder = Manual(), Calls(), Recorder()
    listen(source.pipe(map_async(calls)), recorder)
    source.push(*[0] * (MOST + 3))
    assert source.running == 0
    await asyncio.sleep(1)
    assert len(recorder.items) == MOST + 1
    assert isinstance(recorder.error, LimitExceeded)


@pytest.mark.parametrize("ordered", [True, False])
@virtual_time
async def test_nor_may_results_pile_up_before_a_closed_gate(ordered: bool) -> None:
    source, recorder, scheduler = Manual(), Recorder(), LoopScheduler()
    done = asyncio.get_running_loop().create_future()
    done.set_result("x")

    def cached(_item: int) -> asyncio.Future[str]:
        return done

    listen(source.pipe(map_async(cached, ordered=ordered)), recorder, scheduler)
    scheduler.gate.hold("test")
    source.push(*range(MOST + 10))
    assert source.running == 0
    scheduler.gate.release("test")
    await asyncio.sleep(1)
    assert len(recorder.items) == MOST + 1
    assert isinstance(recorder.error, LimitExceeded)


@pytest.mark.parametrize("ordered", [True, False])
@virtual_time
async def test_disposing_cancels_the_calls_and_sees_them_to_their_end(ordered: bool) -> None:
    source, calls, recorder, scheduler = Manual(), Calls(), Recorder(), LoopScheduler()
    subscription = listen(source.pipe(map_async(calls, max_concurrency=2, ordered=ordered)), recorder, scheduler)
    source.push(1, 5, 7)
    await asyncio.sleep(2)
    thread = threading.Thread(target=subscription.dispose)
    thread.start()
    thread.join()
    gc.collect()
    await settle()
    assert (calls.cancelled, calls.flying, source.running) == ([5, 7], 0, 0)
    assert (recorder.items, recorder.ended_at) == (["<1>"], None)
    assert source.gate.holds == ()
    assert not scheduler.gate._watchers


@virtual_time
async def test_a_call_that_closes_something_slowly_is_not_forgotten() -> None:
    source, closing, closed = Manual(), list[weakref.ref[Any]](), list[bool]()

    async def fn(item: int) -> None:
        try:
            await asyncio.sleep(item)
        finally:
            waiting = asyncio.get_running_loop().create_future()  # nobody else knows of it
            closing.append(weakref.ref(waiting))
            await waiting
            closed.append(True)

    subscription = source.pipe(map_async(fn)).subscribe(scheduler=LoopScheduler())
    source.push(5)
    await settle()
    subscription.dispose()
    del subscription
    await settle()
    gc.collect()
    waiting = closing[0]()
    assert waiting is not None
    waiting.set_result(None)
    del waiting
    await settle()
    assert closed == [True]


@virtual_time
async def test_a_call_that_fails_while_it_is_cancelled_is_not_heard_of() -> None:
    source, recorder, told = Manual(), Recorder(), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))

    async def fn(item: int) -> None:
        try:
            await asyncio.sleep(item)
        finally:
            raise ValueError

    subscription = listen(source.pipe(map_async(fn)), recorder)
    source.push(5)
    await settle()
    subscription.dispose()
    await settle()
    gc.collect()
    assert (told, recorder.ended_at) == ([], None)


@virtual_time
async def test_what_an_observer_raises_is_told_to_the_loop_and_the_rest_still_comes() -> None:
    source, calls, seen, told = Manual(), Calls(), list[str](), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))

    def on_next(item: str) -> None:
        seen.append(item)
        if item == "<1>":
            raise ValueError

    source.pipe(map_async(calls)).subscribe(on_next, on_completed=lambda: seen.append("|"), scheduler=LoopScheduler())
    source.push(1, 2)
    source.end()
    await asyncio.sleep(10)
    assert (seen, [type(error) for error in told]) == (["<1>", "<2>", "|"], [ValueError])


@virtual_time
async def test_a_call_may_dispose_its_own_subscription() -> None:
    source, calls, scheduler = Manual(), list[int](), LoopScheduler()

    async def fn(item: int) -> int:
        calls.append(item)
        subscription.dispose()
        await asyncio.sleep(1)
        calls.append(-item)
        return item

    def at_once(item: int) -> Awaitable[int]:
        calls.append(item)
        other.dispose()
        return fn(item)

    subscription = source.pipe(map_async(fn)).subscribe(scheduler=scheduler)
    source.push(1, 2)
    await asyncio.sleep(5)
    assert (calls, source.running) == ([1], 0)
    other = source.pipe(map_async(at_once)).subscribe(scheduler=scheduler)
    source.push(3)
    await asyncio.sleep(5)
    assert (calls, source.running) == ([1, 3], 0)


@virtual_time
async def test_a_disposed_subscriber_is_let_go() -> None:
    source, calls, recorder = Manual(), Calls(), Recorder()
    gone = weakref.ref(recorder)
    subscription = listen(source.pipe(map_async(calls)), recorder)
    source.push(5)
    await settle()
    subscription.dispose()
    del subscription, recorder
    await settle()
    gc.collect()
    assert gone() is None


def test_a_stream_is_mapped_in_plain_code() -> None:
    async def shout(event: Any) -> str:
        await asyncio.sleep(0)
        return event.text.upper() if isinstance(event, TextDelta) else ""

    shouted = rxstream.from_iterable(["a", "b"]).pipe(map_async(shout))
    assert "".join(shouted) == "AB"


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: map_async(Calls(), max_concurrency=0), "max_concurrency=0"),
        (lambda: map_async("x"), "fn='x'"),  # type: ignore[arg-type]  # the point of it
    ],
)
def test_a_bad_option_is_refused_by_its_name(make: Callable[[], object], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        make()


STEPS = st.lists(
    st.sampled_from(["pause", "resume", "wait", "fail"]) | st.sampled_from([0.0, 0.5, 1.0, 2.5]), max_size=30
)


@given(STEPS, st.integers(1, 4), st.booleans(), st.sampled_from(["complete", "fail", "dispose"]))
def test_whatever_happens_every_result_comes_once(steps: list[Any], most: int, ordered: bool, end: str) -> None:
    """In order if ordered; up to the first failure; and no call is left behind."""

    @virtual_time
    async def main() -> None:
        source, calls, recorder, scheduler = Manual(), Calls(), Recorder(), LoopScheduler()
        subscription = listen(source.pipe(map_async(calls, max_concurrency=most, ordered=ordered)), recorder, scheduler)
        given_: list[float] = []
        for step in steps:
            before = len(recorder.items)
            if step == "wait":
                await asyncio.sleep(0.75)
            elif step in ("pause", "resume"):
                (scheduler.gate.hold if step == "pause" else scheduler.gate.release)("test")
            else:
                given_.append(-1 if step == "fail" else step)
                source.push(given_[-1])
            assert not scheduler.gate.closed or len(recorder.items) == before
        if end == "dispose":
            subscription.dispose()
            scheduler.gate.release("test")
            await settle()
            assert recorder.ended_at is None or isinstance(recorder.error, ValueError)
        else:
            source.end(None if end == "complete" else Disconnected("gone"))
            scheduler.gate.release("test")
            await asyncio.sleep(1000)
            assert recorder.ended_at is not None
        assert (calls.flying, source.running, not scheduler.gate._watchers) == (0, 0, True)
        assert calls.most <= most
        good = [f"<{seconds:g}>" for seconds in (given_[: given_.index(-1)] if -1 in given_ else given_)]
        if ordered:
            assert recorder.items == good[: len(recorder.items)]
        if end != "dispose" and -1 not in given_:
            assert sorted(recorder.items) == sorted(good)
            assert recorder.completed == (end == "complete")
        elif end != "dispose":
            assert isinstance(recorder.error, ValueError)
            assert not ordered or recorder.items == good

    main()
