"""``manager.events``: every event of every stream, in order, once, for subscribers of any pace."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import defaultdict
from typing import Any

import msgspec
import pytest
import reactivex as rx
from reactivex import operators as ops

import rxstream
from rxstream.errors import Cancelled, LimitExceeded, LoopShutDown
from rxstream.events import Started, TextDelta
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.manager import StreamManager
from rxstream.manager_events import StreamEnded, StreamEvent, StreamPaused, StreamResumed, StreamStarted
from rxstream.observable import Stream
from tests.support.managing import Diary
from tests.support.scripted import DONE, Recorder, Scripted, words
from tests.support.until import until
from tests.support.virtual_loop import settle, virtual_time


def kinds(told: list[StreamEvent]) -> list[str]:
    return [type(one.event).__struct_config__.tag for one in told]  # type: ignore[misc]


@virtual_time
async def test_a_stream_s_life_in_order_with_its_ids() -> None:
    told: list[StreamEvent] = []
    async with StreamManager() as manager:
        manager.events.subscribe(told.append)
        script = Scripted([1, (Started(id="answer-1"),), "a", 1, "b", DONE])
        name = manager.start_stream(Stream.of(script.events()), {"parent_id": "chat", "trace_id": "t"})
        await asyncio.sleep(1.5)
        manager.pause_stream(name)
        await asyncio.sleep(1)
        manager.resume_stream(name)
        await manager.wait(name)
    assert kinds(told) == [
        "stream-started", "started", "text-delta", "stream-paused", "stream-resumed", "text-delta", "finished", "stream-ended",
    ]  # fmt: skip
    assert [one.number for one in told] == list(range(8))
    assert {(one.stream_id, one.parent_id, one.trace_id) for one in told} == {(name, "chat", "t")}
    assert [one.request_id for one in told] == ["", *["answer-1"] * 7]
    first, paused, resumed, last = (told[index].event for index in (0, 3, 4, 7))
    assert isinstance(first, StreamStarted)
    assert (first.at, first.metadata.stream_id, first.queue_time) == (0, name, 0)
    assert (paused, resumed) == (StreamPaused(at=1.5), StreamResumed(at=2.5))
    assert last == StreamEnded(at=2.5, status="completed")


@virtual_time
async def test_of_a_combination_each_event_has_the_id_of_its_own_answer() -> None:
    told: list[StreamEvent] = []
    tracks = [
        Stream.of(Scripted([seconds, (Started(id=f"id-{name}"),), name, 2, name, DONE]).events(), label=name)
        for name, seconds in (("a", 1), ("b", 2))
    ]
    async with StreamManager() as manager:
        manager.events.pipe(ops.filter(has_text)).subscribe(told.append)
        for metadata in ({}, {"request_id": "mine"}):
            await manager.wait(manager.start_stream(rxstream.tracks.merge(*tracks), metadata))
    own = [(one.event.source, one.request_id) for one in told if isinstance(one.event, TextDelta)]
    assert own[:4] == [("a", "id-a"), ("b", "id-b"), ("a", "id-a"), ("b", "id-b")]
    assert {request for _, request in own[4:]} == {"mine"}


@virtual_time
async def test_a_failure_is_data() -> None:
    told: list[StreamEvent] = []
    async with StreamManager(max_streams=1) as manager:
        manager.events.subscribe(told.append)
        name, waits = manager.start_stream(rx.never()), manager.start_stream(["a"])
        for one in (waits, name):
            manager.cancel_stream(one, "enough")
        with pytest.raises(Cancelled):
            await manager.wait(name)
    assert [(one.stream_id, kind) for one, kind in zip(told, kinds(told), strict=True)] == [
        (waits, "stream-ended"), (name, "stream-started"), (name, "stream-ended"),
    ]  # fmt: skip
    last = told[-1].event
    assert isinstance(last, StreamEnded)
    assert last.error is not None
    assert (last.status, last.error.kind) == ("cancelled", "Cancelled")
    assert [msgspec.json.decode(msgspec.json.encode(one), type=StreamEvent) for one in told] == told


def has_text(one: StreamEvent) -> bool:
    return isinstance(one.event, TextDelta)


@virtual_time
async def test_the_same_operators_as_for_any_stream_and_of_one_alone() -> None:
    async with StreamManager() as manager:
        texts: dict[str, list[str]] = defaultdict(list)
        batches: list[int] = []

        def keep(one: StreamEvent) -> None:
            if isinstance(one.event, TextDelta):
                texts[one.stream_id].append(one.event.text)

        manager.events.pipe(ops.filter(has_text)).subscribe(keep)
        manager.events.pipe(ops.buffer_with_time(1.0)).subscribe(lambda batch: batches.append(len(batch)))
        names = [manager.start_stream(Stream.of(Scripted(words("a", "b", every=0.4)).events())) for _ in range(2)]
        for name in names:
            await manager.wait(name)
    assert texts == {name: ["a", "b"] for name in names}
    assert sum(batches) == 10


@virtual_time
async def test_late_subscribers_see_what_is_replayed_and_the_end_of_it_all() -> None:
    async with StreamManager(replay=4) as manager:
        await manager.wait(manager.start_stream(["a", "b"]))
        late = Recorder()
        manager.events.subscribe(late.on_next, late.on_error, late.on_completed)
        await settle()
        assert kinds(late.items) == ["text-delta", "text-delta", "finished", "stream-ended"]
        assert late.ended_at is None
    assert late.completed
    last = Recorder()
    manager.events.subscribe(last.on_next, last.on_error, last.on_completed)
    await settle()
    assert (len(last.items), last.completed) == (4, True)
    async with StreamManager() as manager:
        await manager.wait(manager.start_stream(["a", "b"]))
        late = Recorder()
        manager.events.subscribe(late.on_next, late.on_error, late.on_completed)
        await settle()
        assert (late.items, late.completed) == ([], False)


@virtual_time
async def test_subscribers_are_none_of_each_other_s_business() -> None:
    """One raises, one pauses, one leaves: the fourth hears all, and the streams do not wait."""
    async with StreamManager() as manager:
        good, paused, raised, left = Recorder(), Recorder(), Recorder(), list[StreamEvent]()
        raised.and_then = lambda _: 1 / 0
        gate = Gate()
        gate.hold("reader")
        manager.events.subscribe(raised.on_next, raised.on_error)
        manager.events.subscribe(
            paused.on_next, paused.on_error, scheduler=LoopScheduler(asyncio.get_running_loop(), gate=gate)
        )
        leaving = manager.events.subscribe(left.append)
        manager.events.subscribe(good.on_next)
        first = await manager.wait(manager.start_stream(["a", "b"]))
        leaving.dispose()
        await manager.wait(manager.start_stream(["c"]))
        assert (first.text, len(good.items), len(left), paused.items) == ("ab", 11, 6, [])
        assert (len(raised.items), type(raised.error)) == (1, ZeroDivisionError)
        gate.release("reader")
        await settle()
        assert paused.items == good.items


@virtual_time
async def test_one_that_never_reads_ends_alone_after_what_waits() -> None:
    async with StreamManager() as manager:
        gate, stuck, seen = Gate(), Recorder(), list[StreamEvent]()
        gate.hold("reader")
        manager.events.subscribe(
            stuck.on_next, stuck.on_error, scheduler=LoopScheduler(asyncio.get_running_loop(), gate=gate)
        )
        manager.events.subscribe(seen.append)
        event = TextDelta(text="a")
        await manager.wait(manager.start_stream(rx.from_iterable([event] * 70_000)))
        assert len(seen) == 70_002
        gate.release("reader")
        await settle()
        await until(lambda: stuck.error is not None)
        assert isinstance(stuck.error, LimitExceeded)
        assert stuck.items == seen[: len(stuck.items)]
        assert len(stuck.items) >= 65_536


def test_no_loss_and_no_duplicate_under_load_with_readers_of_any_pace_and_place() -> None:
    """Law: 100 streams, 30 000 events; readers in the loop, in other threads and loops, slow and fast, see all, in order."""
    streams, each = 100, 300
    seen: list[list[StreamEvent]] = [[] for _ in range(3)]
    event = TextDelta(text="a")

    def check(told: list[StreamEvent]) -> None:
        numbers: dict[str, int] = defaultdict(int)
        for one in told:
            assert one.number == numbers[one.stream_id]
            numbers[one.stream_id] += 1
        assert set(numbers.values()) == {each + 2}
        assert len(numbers) == streams

    with StreamManager() as manager:
        here = threading.Event()

        def iterate() -> None:
            items = iter(manager.events)
            here.set()
            seen[2].extend(items)

        def in_its_loop() -> None:
            async def read() -> None:
                ready: Any = manager.events.__aiter__()
                async for one in ready:
                    seen[1].append(one)
                    if len(seen[1]) % 1000 == 0:
                        await asyncio.sleep(0.001)

            asyncio.run(read())

        threads = [threading.Thread(target=target) for target in (iterate, in_its_loop)]
        for thread in threads:
            thread.start()
        manager.events.subscribe(seen[0].append)
        while manager._board.members < 3:
            here.wait(0.01)
        names = [manager.start_stream(rx.from_iterable([event] * each)) for _ in range(streams)]
        for name in names:
            assert manager.get_result(name, timeout=60).text == "a" * each
        while any(len(told) < streams * (each + 2) for told in seen):
            here.wait(0.001)
            threading.Event().wait(0.001)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for told in seen:
        check(told)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_a_subscriber_that_would_end_the_program_harms_nobody_on_the_shared_loop(kind: type[BaseException]) -> None:
    def leave(_told: StreamEvent) -> None:
        raise kind("mine")

    errors: list[Exception] = []
    told: list[StreamEvent] = []
    with StreamManager() as manager:
        manager.events.subscribe(leave, errors.append)
        manager.events.subscribe(told.append)
        assert manager.get_result(manager.start_stream(["a"]), timeout=30).text == "a"
        assert manager.get_result(manager.start_stream(["b"]), timeout=30).text == "b"
    assert [f"{kind.__name__} was raised: mine"] == [str(error) for error in errors]
    assert len(told) == 10


@pytest.mark.parametrize("last", [StreamStarted, TextDelta, StreamEnded])
def test_on_a_loop_of_the_program_it_ends_the_program_and_nobody_waits_in_vain(last: type) -> None:
    made: list[StreamManager] = []
    diary = Diary()

    def leave(told: StreamEvent) -> None:
        if isinstance(told.event, last):
            sys.exit(3)

    async def main() -> None:
        manager = StreamManager()
        made.append(manager)
        manager.events.subscribe(leave)
        await manager.wait(manager.start_stream(["a"], handlers=[diary], stream_id="s"))

    with pytest.raises(SystemExit, match="3"):
        asyncio.run(main())
    [manager] = made
    if last is StreamEnded:
        assert manager.get_result("s", timeout=30).text == "a"
    else:
        with pytest.raises(LoopShutDown):
            manager.get_result("s", timeout=30)
    assert diary.told[-1][0] in ("complete", "error")
    manager.close()
