"""The loop's scheduler, the shared loop thread, and what reaches a source through Rx's own operators."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxstream import loop as module
from rxstream.errors import ConfigurationError
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler, call_on, current_loop, refuse_to_block, shared_loop
from rxstream.operators import text
from tests.support.scripted import DONE, Recorder, Scripted, Step
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

# --- the scheduler --------------------------------------------------------------------------------------------------------


@virtual_time
async def test_now_is_the_loops_clock_and_the_same_for_all_schedulers_of_a_loop() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    first = LoopScheduler()
    begin = first.now
    loop.advance(90)
    assert first.now - begin == timedelta(seconds=90)
    assert LoopScheduler(loop, gate=Gate()).now == first.now


def test_threads_that_ask_first_at_once_agree_on_now() -> None:
    class Still(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return 1.0

    for _ in range(20):
        loop, barrier = Still(), threading.Barrier(4, timeout=10)
        seen: set[Any] = set()

        def ask(loop: Still = loop, barrier: threading.Barrier = barrier, seen: set[Any] = seen) -> None:
            barrier.wait()
            seen.add(LoopScheduler(loop).now)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        loop.close()
        assert len(seen) == 1


@virtual_time
async def test_schedules_at_once_after_a_time_and_at_a_time() -> None:
    loop, scheduler = asyncio.get_running_loop(), LoopScheduler()
    ran: list[tuple[float, object]] = []

    def action(_: abc.SchedulerBase, state: object = None) -> None:
        ran.append((loop.time(), state))

    scheduler.schedule_absolute(scheduler.now + timedelta(seconds=3), action, "absolute")
    scheduler.schedule_relative(2.5, action, "relative")
    scheduler.schedule_relative(timedelta(seconds=1), action, "timedelta")
    scheduler.schedule(action, "now")
    scheduler.schedule_relative(-5, action, "in the past")
    assert ran == []
    await asyncio.sleep(10)
    assert ran == [(0, "now"), (0, "in the past"), (1, "timedelta"), (2.5, "relative"), (3, "absolute")]


@virtual_time
async def test_what_is_disposed_does_not_run_nor_stays_scheduled() -> None:
    scheduler, ran = LoopScheduler(), list[object]()
    scheduler.schedule_relative(1, lambda *_: ran.append(1)).dispose()
    scheduler.schedule(lambda *_: ran.append(2)).dispose()
    timers: list[asyncio.TimerHandle] = vars(asyncio.get_running_loop())["_scheduled"]
    assert all(timer.cancelled() for timer in timers)
    await asyncio.sleep(10)
    assert ran == []


@virtual_time
async def test_disposing_afterwards_disposes_what_the_action_returned() -> None:
    inner = Disposable()
    scheduled = LoopScheduler().schedule(lambda *_: inner)
    await settle()
    assert not inner.is_disposed
    scheduled.dispose()
    assert inner.is_disposed


@virtual_time
async def test_periodic_work_keeps_its_period() -> None:
    loop, times = asyncio.get_running_loop(), list[float]()

    def tick(_: object) -> None:
        times.append(loop.time())

    ticking = LoopScheduler().schedule_periodic(0.5, tick)
    await asyncio.sleep(2.25)
    ticking.dispose()
    await asyncio.sleep(5)
    assert times == pytest.approx([0.5, 1.0, 1.5, 2.0])


@virtual_time
async def test_with_gate_is_the_same_loop_and_another_gate() -> None:
    scheduler = LoopScheduler()
    gate = scheduler.gate.child()
    track = scheduler.with_gate(gate)
    assert (track.loop, track.gate) == (scheduler.loop, gate)
    assert scheduler.gate is not gate


def test_scheduling_from_another_thread_wakes_the_loop() -> None:
    """The loop has nothing else to do: without a wake-up it would sleep for ever."""

    async def main() -> int:
        scheduler, loop = LoopScheduler(), asyncio.get_running_loop()
        ran: asyncio.Future[int] = loop.create_future()

        def action(*_: object) -> None:
            ran.set_result(threading.get_ident())

        threading.Thread(target=scheduler.schedule, args=(action,)).start()
        return await asyncio.wait_for(ran, 10)

    assert asyncio.run(main()) == threading.get_ident()


def test_dispose_never_blocks_wherever_it_is_called() -> None:
    """From a plain thread, from a thread with a loop of its own, while the loop is blocked, and after it is closed."""
    ran: list[object] = []
    disposed = threading.Event()
    scheduled: list[abc.DisposableBase] = []

    async def dispose_on_own_loop() -> None:
        scheduled[1].dispose()

    def other_thread() -> None:
        scheduled[0].dispose()
        asyncio.run(dispose_on_own_loop())
        disposed.set()

    async def main() -> None:
        scheduler = LoopScheduler()
        scheduled.extend(scheduler.schedule_relative(0.01, lambda *_: ran.append(1)) for _ in range(2))
        scheduled.append(scheduler.schedule_relative(3600, lambda *_: ran.append(2)))
        threading.Thread(target=other_thread).start()
        assert disposed.wait(10)  # the loop is blocked by this very wait
        await asyncio.sleep(0.02)

    asyncio.run(main())
    scheduled[2].dispose()
    assert ran == []


def test_on_a_closed_loop_nothing_is_scheduled_and_nothing_raised() -> None:
    loop = asyncio.new_event_loop()
    scheduler = LoopScheduler(loop)
    loop.close()
    scheduler.schedule(lambda *_: None).dispose()
    call_on(loop, lambda: pytest.fail("ran on a closed loop"))


def test_an_error_of_a_called_function_is_not_taken_for_a_closed_loop() -> None:
    async def main() -> None:
        def fail() -> None:
            raise RuntimeError("mine")

        with pytest.raises(RuntimeError, match="mine"):
            call_on(asyncio.get_running_loop(), fail)

    asyncio.run(main())


# --- stock operators of time ----------------------------------------------------------------------------------------------

STREAM: list[Step] = [1, "a", 0.25, "b", 0.25, "c", 2, "d", 3, "e", DONE]


def letters() -> Observable[str]:
    return Scripted(STREAM).events().pipe(text())


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        pytest.param(ops.debounce(0.5), [(2.0, "c"), (4.0, "d"), (6.5, "e")], id="debounce"),
        pytest.param(ops.throttle_first(0.5), [(1.0, "a"), (1.5, "c"), (3.5, "d"), (6.5, "e")], id="throttle_first"),
        pytest.param(ops.sample(0.8), [(1.6, "c"), (4.0, "d"), (7.2, "e")], id="sample"),
        pytest.param(ops.delay(10.0), [(11.0, "a"), (11.25, "b"), (11.5, "c"), (13.5, "d"), (16.5, "e")], id="delay"),
        pytest.param(
            ops.buffer_with_time(2.0),
            [(2.0, ["a", "b", "c"]), (4.0, ["d"]), (6.0, []), (6.5, ["e"])],
            id="buffer_with_time",
        ),
        pytest.param(
            ops.buffer_with_time_or_count(2.0, 2),
            [(1.25, ["a", "b"]), (3.25, ["c"]), (5.25, ["d"]), (6.5, ["e"])],
            id="buffer_with_time_or_count",
        ),
        pytest.param(ops.timeout(10.0), [(1.0, "a"), (1.25, "b"), (1.5, "c"), (3.5, "d"), (6.5, "e")], id="timeout"),
        pytest.param(ops.take_with_time(1.3), [(1.0, "a"), (1.25, "b")], id="take_with_time"),
        pytest.param(ops.skip_with_time(1.3), [(1.5, "c"), (3.5, "d"), (6.5, "e")], id="skip_with_time"),
    ],
)
@virtual_time
async def test_stock_time_operators_are_exact(
    operator: Callable[[Observable[Any]], Observable[Any]], expected: list[tuple[float, object]]
) -> None:
    """Given no scheduler of their own, they take the subscriber's; nothing of it depends on the wall clock."""
    recorder = Recorder()
    letters().pipe(operator).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler()
    )
    await asyncio.sleep(100)
    assert recorder.error is None
    assert recorder.items == [item for _, item in expected]
    assert recorder.times == pytest.approx([at for at, _ in expected])


@virtual_time
async def test_stock_timeout_fails_on_time_and_closes() -> None:
    script, recorder = Scripted(STREAM), Recorder()
    script.events().pipe(ops.timeout(1.5)).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler()
    )
    await asyncio.sleep(100)
    assert (recorder.texts, recorder.ended_at) == (["a", "b", "c"], 3.0)
    assert recorder.error is not None
    assert script.closed == 1


@virtual_time
async def test_stock_time_interval_is_exact() -> None:
    recorder = Recorder()
    letters().pipe(ops.time_interval()).subscribe(recorder.on_next, scheduler=LoopScheduler())
    await asyncio.sleep(100)
    assert [item.interval.total_seconds() for item in recorder.items] == pytest.approx([1, 0.25, 0.25, 2, 3])


# --- what reaches the source ----------------------------------------------------------------------------------------------


def probe(seen: list[abc.SchedulerBase | None]) -> Observable[Any]:
    """Writes down which scheduler it is subscribed with, gives 1 and 2, and completes."""

    def subscribe(observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        seen.append(scheduler)
        observer.on_next(1)
        observer.on_next(2)
        observer.on_completed()
        return Disposable()

    return Observable(subscribe)


def failing(error: Exception) -> Observable[Any]:
    return rx.throw(error)


def _retried(source: Observable[Any]) -> Observable[Any]:
    tries = iter((True, False))

    def fail_once(item: object) -> object:
        if next(tries, False):
            raise ValueError(item)
        return item

    return source.pipe(ops.map(fail_once), ops.retry(2))


Build = Callable[[Observable[Any]], Observable[Any]]
BUILDS: dict[str, tuple[int, Build]] = {
    "map": (1, ops.map(lambda x: x)),
    "filter": (1, ops.filter(bool)),
    "scan": (1, ops.scan(lambda a, b: a + b, 0)),
    "reduce": (1, ops.reduce(lambda a, b: a + b, 0)),
    "take": (1, ops.take(1)),
    "skip": (1, ops.skip(1)),
    "take_while": (1, ops.take_while(bool)),
    "distinct_until_changed": (1, ops.distinct_until_changed()),
    "do_action": (1, ops.do_action(lambda _: None)),
    "start_with": (1, ops.start_with(0)),
    "pairwise": (1, ops.pairwise()),
    "materialize": (1, lambda s: s.pipe(ops.materialize(), ops.dematerialize())),
    "to_list": (1, ops.to_list()),
    "buffer_with_count": (1, ops.buffer_with_count(2)),
    "finally_action": (1, ops.finally_action(lambda: None)),
    "observe_on": (1, lambda s: s.pipe(ops.observe_on(LoopScheduler()))),
    "default_if_empty": (1, ops.default_if_empty(0)),
    "merge": (2, lambda s: rx.merge(s, s)),
    "merge op": (2, lambda s: s.pipe(ops.merge(s))),
    "concat": (2, lambda s: rx.concat(s, s)),
    "concat op": (2, lambda s: s.pipe(ops.concat(s))),
    "flat_map": (3, lambda s: s.pipe(ops.flat_map(lambda _: s))),
    "concat_map": (3, lambda s: s.pipe(ops.concat_map(lambda _: s))),
    "switch_latest": (3, lambda s: s.pipe(ops.map(lambda _: s), ops.switch_latest())),
    "merge_all": (3, lambda s: s.pipe(ops.map(lambda _: s), ops.merge_all())),
    "combine_latest": (2, lambda s: rx.combine_latest(s, s)),
    "with_latest_from": (2, lambda s: s.pipe(ops.with_latest_from(s))),
    "zip": (2, lambda s: rx.zip(s, s)),
    "amb": (1, lambda s: s.pipe(ops.amb(rx.never()))),
    "fork_join": (2, lambda s: rx.fork_join(s, s)),
    "catch": (1, lambda s: failing(ValueError()).pipe(ops.catch(s))),
    "catch handler": (1, lambda s: failing(ValueError()).pipe(ops.catch(lambda *_: s))),
    "on_error_resume_next": (1, lambda s: failing(ValueError()).pipe(ops.on_error_resume_next(s))),
    "retry": (2, _retried),
    "repeat": (2, ops.repeat(2)),
    "take_until": (2, lambda s: s.pipe(ops.take_until(s))),
    "skip_until": (2, lambda s: s.pipe(ops.skip_until(s))),
    "sequence_equal": (2, lambda s: s.pipe(ops.sequence_equal(s))),
    "defer": (1, lambda s: rx.defer(lambda _: s)),
    "using": (1, lambda s: rx.using(Disposable, lambda _: s)),
    "if_then": (1, lambda s: rx.if_then(lambda: True, s)),
    "group_by": (1, lambda s: s.pipe(ops.group_by(lambda x: x), ops.merge_all())),
    "window": (1, lambda s: s.pipe(ops.window_with_count(1), ops.merge_all())),
    "share": (1, ops.share()),
    "timeout": (1, ops.timeout(100.0)),
    "delay": (1, ops.delay(1.0)),
    "delay_subscription": (1, ops.delay_subscription(1.0)),
    "debounce": (1, ops.debounce(1.0)),
    "throttle_first": (1, ops.throttle_first(1.0)),
    "sample": (1, ops.sample(1.0)),
    "buffer_with_time": (1, ops.buffer_with_time(1.0)),
    "window_with_time": (1, lambda s: s.pipe(ops.window_with_time(1.0), ops.merge_all())),
    "timestamp": (1, ops.timestamp()),
    "time_interval": (1, ops.time_interval()),
}


@pytest.mark.parametrize("name", BUILDS)
@virtual_time
async def test_the_subscribers_scheduler_and_gate_reach_the_source_through(name: str) -> None:
    times, build = BUILDS[name]
    seen: list[abc.SchedulerBase | None] = []
    scheduler = LoopScheduler()
    build(probe(seen)).subscribe(on_error=lambda error: pytest.fail(repr(error)), scheduler=scheduler)
    await asyncio.sleep(100)
    assert len(seen) == times
    assert all(isinstance(one, LoopScheduler) and one.gate is scheduler.gate for one in seen)


# --- which loop, which thread ---------------------------------------------------------------------------------------------


async def _running() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_the_current_loop_is_the_running_one_else_the_shared_one() -> None:
    assert current_loop() is shared_loop()

    async def main() -> None:
        assert current_loop() is asyncio.get_running_loop()
        assert LoopScheduler().loop is asyncio.get_running_loop()

    asyncio.run(main())
    assert LoopScheduler().loop is shared_loop()


def test_there_is_one_shared_loop_running_in_a_daemon_thread() -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    barrier = threading.Barrier(4, timeout=10)

    def ask() -> None:
        barrier.wait()
        loops.append(shared_loop())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(map(id, loops))) == 1
    assert asyncio.run_coroutine_threadsafe(_running(), loops[0]).result(10) is loops[0]
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "rxstream-loop"] == [True]


def test_call_on_calls_at_once_there_and_by_a_wake_up_from_elsewhere() -> None:
    loop = shared_loop()
    called: Future[bool] = Future()

    def there() -> None:
        inner: list[int] = []
        call_on(loop, lambda: inner.append(1))
        called.set_result(inner == [1])

    call_on(loop, there)
    assert called.result(10)


def test_waiting_for_a_loop_on_its_own_thread_is_refused() -> None:
    refuse_to_block(shared_loop(), "wait elsewhere")

    async def main() -> None:
        with pytest.raises(ConfigurationError, match=r"would block .*; wait elsewhere"):
            refuse_to_block(asyncio.get_running_loop(), "wait elsewhere")
        refuse_to_block(shared_loop(), "wait elsewhere")

    asyncio.run(main())


def script(code: str, *, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Run `code` in an interpreter of its own, with a source named ``events`` that says "a" and then nothing."""
    prelude = """
        import asyncio, os, signal, sys, threading
        asyncio.base_events.logger.setLevel("ERROR")  # in dev mode a busy machine is told of as slow callbacks
        from tests.support.scripted import DONE, HANG, Scripted, words
        from rxstream.observable import Stream
        from rxstream.gate import Gate
        from rxstream.loop import LoopScheduler, shared_loop
        hanging = Scripted(["a", HANG])
        events = Stream.of(hanging.events())
    """
    whole = textwrap.dedent(prelude) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", whole],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        cwd=Path(__file__).parent.parent,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_a_loop_of_its_own_and_leaves_its_parents_alone() -> None:
    done = script(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads: that is what is tested
        session = events.start()
        parents = shared_loop()
        child = os.fork()
        if child == 0:
            alive = shared_loop() is not parents and Stream.of(Scripted(words("b", every=0.0)).events()).run().text == "b"
            sys.exit(0 if alive else 3)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), Stream.of(Scripted(words("c", every=0.0)).events()).run().text, session.status)
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0 c active\n", "", 0)


@pytest.mark.parametrize(
    "running",
    [
        "events.subscribe()",
        "events.subscribe(lambda event: None, lambda error: None)",
        "events.start()",
        "session = events.start(); session.pause()",
        "items = iter(events); next(items)",
        "items = events; next(iter(items)); kept = iter(events); next(kept)",
        "session = Stream.of(Scripted([0.01, OSError()]).events()).start(); session.pause()",
        "events.subscribe(lambda event: None, lambda error: None); next(iter(events))",
        "asyncio.run_coroutine_threadsafe(events._collect(), shared_loop())",
    ],
)
def test_the_interpreter_ends_quietly_with_streams_running(running: str) -> None:
    done = script(f"{running}\nprint('end')")
    assert (done.stdout, done.stderr, done.returncode) == ("end\n", "", 0)


def test_the_interpreter_closes_what_runs_on_the_shared_loop_before_it_ends() -> None:
    done = script(
        """
        import atexit
        items = iter(events)
        next(items)
        hanging.on_close = lambda: print("closed")
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("closed\n", "", 0)


def test_stopping_a_stopped_loop_thread_changes_nothing() -> None:
    thread = module._LoopThread()
    asyncio.run_coroutine_threadsafe(_running(), thread.loop).result(10)
    thread.stop()
    thread.thread.join(10)
    assert thread.loop.is_closed()
    thread.stop()


def test_subjects_of_another_thread_reach_the_loop_by_observe_on() -> None:
    """A handler behind ``observe_on(LoopScheduler)`` runs on the loop's thread, whoever emits."""
    subject: Subject[int] = Subject()
    heard: Future[str] = Future()
    subject.pipe(ops.observe_on(LoopScheduler(shared_loop()))).subscribe(
        lambda _: heard.set_result(threading.current_thread().name)
    )
    subject.on_next(1)
    assert heard.result(10) == "rxstream-loop"


def test_a_callback_that_would_end_the_program_does_not_end_the_shared_loop() -> None:
    thread = module._LoopThread()
    told: list[object] = []
    thread.loop.set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    failure = SystemExit(3)

    def leave() -> None:
        raise failure

    thread.loop.call_soon_threadsafe(leave)
    assert asyncio.run_coroutine_threadsafe(_running(), thread.loop).result(10) is thread.loop
    assert told == [failure]
    thread.stop()
    assert thread.loop.is_closed()
