"""``share_replay``: one request, ever; who comes late sees what came before, and then the rest."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import abc
from reactivex import operators as ops

import rxstream
from rxstream import events as ev
from rxstream.errors import Cancelled, ConfigurationError, Disconnected, LimitExceeded, StreamError
from rxstream.loop import LoopScheduler, shared_loop
from rxstream.observable import Stream
from rxstream.operators import share_replay
from tests.support.manual import Manual
from tests.support.scripted import HANG, Recorder, Scripted, numbered, words
from tests.support.until import until
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time


def listen(source: rx.Observable[Any], recorder: Any, scheduler: LoopScheduler | None = None) -> abc.DisposableBase:
    return source.subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler or LoopScheduler()
    )


def held(source: Manual) -> bool:
    return source.gate.closed


# --- what a late one sees -------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_late_one_sees_what_came_before_and_then_the_rest() -> None:
    script = Scripted(words("a", "b", "c"))
    recorders = [Recorder() for _ in range(3)]
    shared = script.events().pipe(share_replay())
    for recorder, wait in zip(recorders, (1.5, 10, 10), strict=True):
        listen(shared, recorder)
        await asyncio.sleep(wait)
    assert [recorder.texts for recorder in recorders] == [["a", "b", "c"]] * 3
    assert [recorder.times for recorder in recorders] == [[1, 2, 3, 3], [1.5, 2, 3, 3], [11.5] * 4]
    assert all(recorder.completed for recorder in recorders)
    assert (script.opened, script.running) == (1, 0)


@virtual_time
async def test_an_error_is_replayed_like_everything_else() -> None:
    error = Disconnected("gone")
    source, first, late = Manual(), Recorder(), Recorder()
    shared = source.pipe(share_replay())
    listen(shared, first)
    source.push(1, 2)
    source.end(error)
    await settle()
    listen(shared, late)
    assert late.items == []  # in the loop's next round: the subscriber has its subscription by then
    await settle()
    assert (late.items, late.error, first.error) == ([1, 2], error, error)
    assert source.subscribed == 1


@virtual_time
async def test_a_late_one_may_take_a_part() -> None:
    source, late = Manual(), Recorder()
    shared = source.pipe(share_replay())
    listen(shared, Recorder())
    source.push(*range(1000))
    listen(shared.pipe(ops.take(3)), late)
    await settle()
    assert (late.items, late.completed) == ([0, 1, 2], True)


@virtual_time
async def test_what_comes_while_a_late_one_is_replayed_to_comes_after_it() -> None:
    source, late = Manual(), Recorder()
    shared = source.pipe(share_replay())
    listen(shared, Recorder())
    source.push(1, 2)

    def on_next(item: int) -> None:
        late.on_next(item)
        if item == 1:
            source.push(3)

    shared.subscribe(on_next, scheduler=LoopScheduler())
    source.push(4)
    await settle()
    assert late.items == [1, 2, 4, 3]


# --- the request ----------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_it_goes_on_when_all_have_left() -> None:
    script, first, late = Scripted(words("a", "b", "c")), Recorder(), Recorder()
    shared = script.events().pipe(share_replay())
    subscription = listen(shared, first)
    await asyncio.sleep(1.5)
    subscription.dispose()
    await asyncio.sleep(10)
    assert (first.texts, script.running) == (["a"], 0)
    listen(shared, late)
    await settle()
    assert (late.texts, late.completed, script.opened) == (["a", "b", "c"], True, 1)


@virtual_time
async def test_with_refcount_the_last_closes_it_and_late_ones_are_told_so() -> None:
    script, first, late = Scripted(words("a", "b", "c")), Recorder(), Recorder()
    shared = script.events().pipe(share_replay(refcount=True))
    subscription = listen(shared, first)
    await asyncio.sleep(1.5)
    subscription.dispose()
    await settle()
    assert script.running == 0
    listen(shared, late)
    await settle()
    assert (late.texts, type(late.error), script.opened) == (["a"], Cancelled, 1)


@virtual_time
async def test_one_that_leaves_paused_does_not_stop_it() -> None:
    source, paused, late = Manual(), LoopScheduler(), Recorder()
    shared = source.pipe(share_replay())
    subscription = listen(shared, Recorder(), paused)
    paused.gate.hold("test")
    assert held(source)
    subscription.dispose()
    assert not held(source)
    source.push(1)
    listen(shared, late)
    await settle()
    assert late.items == [1]


# --- the answer, as often as it is asked for ------------------------------------------------------------------------------------------


def test_waiting_with_a_timeout_may_be_repeated_and_all_get_the_same() -> None:
    """In plain code, in threads, and one after the other: one request."""
    script = Scripted([ev.Started(id="1"), 0.2, "Hel", "lo", ev.Finished(reason="stop")])
    shared: Stream[ev.Event] = Stream.of(script.events()).pipe(share_replay())
    assert isinstance(shared, Stream)
    with pytest.raises(TimeoutError):
        shared.run(timeout=0.05)
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(shared.run(timeout=30))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.append(shared.run(timeout=30))
    answers.append(asyncio.run(awaited(shared)))
    assert [answer.text for answer in answers] == ["Hello"] * 5
    assert all(answer == answers[0] for answer in answers)
    assert script.opened == 1


async def awaited(stream: Stream[Any]) -> Any:
    return await stream


async def test_coroutines_wait_for_it_too() -> None:
    script = Scripted(numbered(300))
    shared: Stream[ev.Event] = Stream.of(script.events()).pipe(share_replay())
    answers = [*await asyncio.gather(shared, shared), await shared]
    assert {answer.text for answer in answers} == {"".join(f"{number} " for number in range(300))}
    assert [item async for item in shared] == [item async for item in shared]
    assert script.opened == 1


def test_all_are_told_the_same_failure() -> None:
    script = Scripted(["Hel", Disconnected("gone")])
    shared: Stream[ev.Event] = Stream.of(script.events()).pipe(share_replay())
    errors: list[StreamError] = []
    for _ in range(2):
        with pytest.raises(Disconnected) as caught:
            shared.run(timeout=30)
        errors.append(caught.value)
    assert [error.partial.text for error in errors if error.partial is not None] == ["Hel", "Hel"]
    assert script.opened == 1


def test_the_loop_that_it_runs_on_is_the_first_ones() -> None:
    """When that ends, so does the request, and everybody is told."""
    script = Scripted(["Hel", HANG])
    shared: Stream[ev.Event] = Stream.of(script.events()).pipe(share_replay())

    async def main() -> str:
        async for event in shared:
            if isinstance(event, ev.TextDelta):
                return event.text
        return ""

    assert asyncio.run(main()) == "Hel"
    with pytest.raises(Cancelled):
        shared.run(timeout=30)
    assert (script.opened, script.running) == (1, 0)


def test_who_comes_when_that_loop_was_closed_is_told_so() -> None:
    script = Scripted(["Hel", HANG])
    shared: Stream[ev.Event] = Stream.of(script.events()).pipe(share_replay())
    loop, seen = asyncio.new_event_loop(), Recorder()
    shared.subscribe(seen.on_next, scheduler=LoopScheduler(loop))
    loop.run_until_complete(until(lambda: seen.texts == ["Hel"]))
    for task in asyncio.all_tasks(loop):
        setattr(task, "_log_destroy_pending", False)  # noqa: B010 - it is meant to be left behind
    loop.close()
    with pytest.raises(Cancelled, match="shut down"):
        shared.run(timeout=30)
    assert script.opened == 1


# --- pace -------------------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_slow_one_drains_at_its_own_pace_and_holds_nobody_up() -> None:
    script, first, late, paused = Scripted(words(*"abcd")), Recorder(), Recorder(), LoopScheduler()
    shared = script.events().pipe(share_replay())
    listen(shared, first)
    await asyncio.sleep(2.5)

    def on_next(event: Any) -> None:
        late.on_next(event)
        paused.gate.hold("test")

    shared.subscribe(on_next, late.on_error, late.on_completed, scheduler=paused)
    for _ in range(3):
        await asyncio.sleep(1)
        paused.gate.release("test")
    await asyncio.sleep(1)
    assert first.times == [1, 2, 3, 4, 4]
    assert (late.texts, late.times, late.completed) == ([*"abcd"], [2.5, 3.5, 4.5, 5.5], False)
    paused.gate.release("test")
    await settle()
    paused.gate.release("test")
    await settle()
    assert late.completed


@virtual_time
async def test_the_source_is_held_only_while_all_are() -> None:
    source, schedulers = Manual(), [LoopScheduler(), LoopScheduler()]
    shared = source.pipe(share_replay())
    for scheduler in schedulers:
        listen(shared, Recorder(), scheduler)
    schedulers[0].gate.hold("test")
    assert not held(source)
    schedulers[1].gate.hold("test")
    assert held(source)
    schedulers[0].gate.release("test")
    assert not held(source)


@virtual_time
async def test_an_endless_source_stops_for_its_only_subscriber() -> None:
    script, scheduler = Scripted(numbered(10_000)), LoopScheduler()
    recorder = Recorder()
    listen(script.events().pipe(share_replay(events=10)), recorder, scheduler)
    scheduler.gate.hold("test")
    await asyncio.sleep(10)
    assert script.given <= 1
    scheduler.gate.release("test")
    await asyncio.sleep(10)
    assert len(recorder.items) == 10_001


async def test_one_that_lags_on_another_loop_holds_the_source_until_it_has_caught_up() -> None:
    source, seen, leave = Manual(), list[int](), threading.Event()

    def on_next(item: int) -> None:
        leave.wait(30)
        seen.append(item)

    source.pipe(share_replay()).subscribe(on_next, scheduler=LoopScheduler(shared_loop()))
    source.push(*range(511))
    assert not held(source)
    source.push(511, 512)
    assert held(source)
    leave.set()
    await until(lambda: not held(source))
    await until(lambda: len(seen) == 513)
    assert seen == list(range(513))


@virtual_time
async def test_a_long_past_lets_the_loop_breathe() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    source, seen, rounds = Manual(), list[int](), list[int]()
    shared = source.pipe(share_replay())
    listen(shared, Recorder())
    source.push(*range(1000))

    def on_next(item: int) -> None:
        loop.advance(0.0001)
        seen.append(item)

    shared.subscribe(on_next, scheduler=LoopScheduler())
    while len(seen) < 1000:
        await asyncio.sleep(0)
        rounds.append(len(seen))
    assert seen == list(range(1000))
    assert 5 < len(rounds) < 20


# --- bounds -------------------------------------------------------------------------------------------------------------------------


async def seen_late(shared: rx.Observable[Any]) -> list[Any]:
    late = Recorder()
    listen(shared, late)
    await settle()
    return late.items


@virtual_time
async def test_the_last_so_many() -> None:
    source = Manual()
    shared = source.pipe(share_replay(events=3))
    first = Recorder()
    listen(shared, first)
    source.push(*range(2))
    assert await seen_late(shared) == [0, 1]
    source.push(*range(2, 10))
    assert await seen_late(shared) == [7, 8, 9]
    source.end()
    assert await seen_late(shared) == [7, 8, 9]
    assert first.items == list(range(10))


@virtual_time
async def test_the_last_so_many_bytes() -> None:
    source = Manual()
    shared = source.pipe(share_replay(bytes=10))
    listen(shared, Recorder())
    source.push("aaaa", b"bbbb", "cc")
    assert await seen_late(shared) == ["aaaa", b"bbbb", "cc"]
    source.push("d")
    assert await seen_late(shared) == [b"bbbb", "cc", "d"]
    source.push("e" * 11)
    assert await seen_late(shared) == []


@pytest.mark.parametrize(
    ("item", "size"),
    [(ev.TextDelta(text="Hello"), len(ev.encode(ev.TextDelta(text="Hello")))), (1.5, sys.getsizeof(1.5))],
)
@virtual_time
async def test_an_event_counts_as_its_line_of_json_and_anything_else_as_python_has_it(item: object, size: int) -> None:
    source = Manual()
    shared = source.pipe(share_replay(bytes=3 * size))
    listen(shared, Recorder())
    source.push(*[item] * 5)
    assert await seen_late(shared) == [item] * 3


@virtual_time
async def test_the_last_so_many_seconds_even_after_the_end() -> None:
    source = Manual()
    shared = source.pipe(share_replay(seconds=2))
    listen(shared, Recorder())
    for number in range(5):
        source.push(number)
        await asyncio.sleep(1)
    assert await seen_late(shared) == [3, 4]
    source.end()
    await asyncio.sleep(1)
    assert await seen_late(shared) == [4]
    await asyncio.sleep(10)
    assert await seen_late(shared) == []


@virtual_time
async def test_bounds_may_be_combined() -> None:
    source = Manual()
    shared = source.pipe(share_replay(events=3, bytes=100, seconds=1))
    listen(shared, Recorder())
    source.push("a" * 60, "b" * 60)
    assert await seen_late(shared) == ["b" * 60]
    source.push("c", "d", "e")
    assert await seen_late(shared) == ["c", "d", "e"]
    await asyncio.sleep(2)
    assert await seen_late(shared) == []


@virtual_time
async def test_one_that_is_here_loses_nothing_by_the_bounds() -> None:
    source, first, second, paused = Manual(), Recorder(), Recorder(), LoopScheduler()
    shared = source.pipe(share_replay(events=2))
    listen(shared, first)
    listen(shared, second, paused)
    paused.gate.hold("test")
    source.push(*range(100))
    source.end()
    paused.gate.release("test")
    await settle()
    assert second.items == first.items == list(range(100))
    assert second.completed


@virtual_time
async def test_up_to_a_bound_then_it_alone_ends_after_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rxstream.operators._share_replay.MOST", 20)
    source, first, second, paused = Manual(), Recorder(), Recorder(), LoopScheduler()
    shared = source.pipe(share_replay(events=5))
    listen(shared, first)
    listen(shared, second, paused)
    paused.gate.hold("test")
    source.push(*range(50))
    paused.gate.release("test")
    await settle()
    assert first.items == list(range(50))
    assert second.items == list(range(26))  # 20, and the 5 that were kept, and the one that was too much
    assert isinstance(second.error, LimitExceeded)
    assert first.ended_at is None


@virtual_time
async def test_memory_is_that_of_the_window() -> None:
    class Item:
        pass

    source = Manual()
    shared = source.pipe(share_replay(events=10))
    shared.subscribe(scheduler=LoopScheduler())
    alive: weakref.WeakSet[Item] = weakref.WeakSet()
    most = 0
    for _ in range(1000):
        item = Item()
        alive.add(item)
        source.push(item)
        most = max(most, len(alive))
    assert most <= 12


@virtual_time
async def test_a_disposed_subscriber_is_let_go() -> None:
    source, scheduler, recorder = Manual(), LoopScheduler(), Recorder()
    shared = source.pipe(share_replay())
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
    assert not scheduler.gate._watchers


@virtual_time
async def test_a_long_past_is_let_go_without_a_deep_stack() -> None:
    class Item:
        pass

    source, item = Manual(), Item()
    gone = weakref.ref(item)
    shared = source.pipe(share_replay())
    shared.subscribe(scheduler=LoopScheduler())
    source.push(item, *range(300_000))
    source.end()
    del shared, item
    await settle()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"events": 0}, "events=0"),
        ({"bytes": 0}, "bytes=0"),
        ({"seconds": 0}, "seconds=0"),
        ({"events": 1.5}, "events="),
    ],
)
def test_a_bad_option_is_refused_by_its_name(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        share_replay(**options)


def test_a_whole_stream_is_kept() -> None:
    kept = rxstream.emulate("Hello, world").pipe(share_replay())
    assert list(kept) == list(kept)


STEPS = st.lists(
    st.tuples(st.sampled_from(["push", "push", "pause", "resume", "join", "leave", "rest"]), st.integers(0, 2)),
    max_size=40,
)


@given(STEPS, st.none() | st.integers(1, 4), st.sampled_from(["complete", "fail", "go on"]))
def test_whatever_happens_each_sees_what_is_kept_and_the_rest_once_in_order(
    steps: list[tuple[str, int]], events: int | None, end: str
) -> None:
    """With one request, which is held while all are."""

    @virtual_time
    async def main() -> None:
        source = Manual()
        shared = source.pipe(share_replay(events=events))
        schedulers = [LoopScheduler() for _ in range(3)]
        present: dict[int, tuple[Recorder, int, abc.DisposableBase]] = {}
        left: list[tuple[Recorder, list[int]]] = []
        pushed = 0

        def join(who: int) -> None:
            since = 0 if events is None else max(0, pushed - events)
            recorder = Recorder()
            present[who] = (recorder, since, listen(shared, recorder, schedulers[who]))

        for step, who in steps:
            if step == "push":
                source.push(pushed)
                pushed += source.subscribed
            elif step == "rest":
                await settle()
            elif step == "join" and who not in present:
                join(who)
            elif step == "leave" and who in present:
                recorder, since, subscription = present.pop(who)
                subscription.dispose()
                assert recorder.items == list(range(since, pushed))[: len(recorder.items)]
                left.append((recorder, list(recorder.items)))
            elif step in ("pause", "resume"):
                (schedulers[who].gate.hold if step == "pause" else schedulers[who].gate.release)("test")
            closed = [schedulers[who].gate.closed for who in present]
            if source.subscribed:
                assert source.gate.closed == (bool(closed) and all(closed))
        if end != "go on":
            source.end(None if end == "complete" else Disconnected("gone"))
        ended = end != "go on" and source.subscribed == 1
        for who in {0, 1, 2} - set(present):
            if source.subscribed:
                join(who)
        for scheduler in schedulers:
            scheduler.gate.release("test")
        await settle()
        for recorder, since, subscription in present.values():
            assert recorder.items == list(range(since, pushed))
            assert (recorder.ended_at is not None, recorder.completed) == (ended, ended and end == "complete")
            subscription.dispose()
        for recorder, seen in left:
            assert (recorder.items, recorder.ended_at) == (seen, None)
        assert source.subscribed <= 1
        assert [scheduler.gate._watchers for scheduler in schedulers] == [set()] * 3

    main()
