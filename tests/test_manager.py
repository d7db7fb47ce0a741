"""Many streams in one hand: control from any thread, results, the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from random import Random
from typing import Any

import pytest
import reactivex as rx

from rxstream.errors import (
    BulkheadFull,
    Cancelled,
    ConfigurationError,
    LoopShutDown,
    UnknownStream,
)
from rxstream.manager import StreamManager
from rxstream.manager_events import StreamEvent
from rxstream.observable import Stream
from rxstream.sinks.handler import StreamHandler
from tests.support.managing import Diary, check_order, handler, scripted
from tests.support.scripted import DONE, HANG, Scripted, numbered
from tests.support.until import until
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_ids_and_options_are_checked() -> None:
    for options in ({"max_streams": 0}, {"max_waiting": -1}, {"keep": 1.5}, {"replay": -1}):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            StreamManager(**options)
    async with StreamManager() as manager:
        name = manager.start_stream(["a"], stream_id="question")
        with pytest.raises(ConfigurationError, match="there is a stream of this id"):
            manager.start_stream(["a"], stream_id="question")
        with pytest.raises(UnknownStream, match="did you mean 'question'"):
            manager.get_stream_status("qestion")
        with pytest.raises(UnknownStream, match=r"no stream has the id 'x'$"):
            manager.pause_stream("x")
        with pytest.raises(ConfigurationError, match="label"):
            manager.start_stream(["a"], {"label": 3})
        with pytest.raises(ConfigurationError, match="metadata"):
            manager.start_stream(["a"], 3)  # type: ignore[arg-type]
        await manager.wait(name)


@virtual_time
async def test_the_wait_for_a_result_can_be_given_up() -> None:
    async with StreamManager() as manager:
        name = manager.start_stream(scripted("a", every=10))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await manager.wait(name)
        assert manager.get_stream_status(name) == "active"
        with pytest.raises(ConfigurationError, match=r"await manager\.wait"):
            manager.get_result(name)
        assert (await manager.wait(name)).text == "a"


@virtual_time
async def test_closing_cancels_all_and_leaves_nothing() -> None:
    script = Scripted([1, "a", HANG])
    diary = Diary()
    async with StreamManager(max_streams=2) as manager:
        names = [manager.start_stream(Stream.of(script.events()), handlers=[diary]) for _ in range(4)]
        await asyncio.sleep(1.5)
    assert set(manager.streams().values()) == {"cancelled"}
    assert (script.opened, script.closed, len(asyncio.all_tasks())) == (2, 2, 1)
    assert diary.told.count(("cancel", "its manager was closed")) == 4
    assert set(manager.streams()) == set(names)
    with pytest.raises(ConfigurationError, match="closed"):
        manager.start_stream(["a"])
    await manager.aclose()
    manager.close()


def test_from_plain_code_with_the_shared_loop() -> None:
    threads = threading.active_count()
    with StreamManager() as manager:
        places: list[str] = []
        manager.register_handler(handler(on_token_received=lambda *_: places.append(threading.current_thread().name)))
        name = manager.start_stream(["to ", "be"])
        assert manager.get_result(name, timeout=5).text == "to be"
        assert manager.get_statistics(name).queue_time == 0  # it did not wait
        assert set(places) == {"rxstream-loop"}
        hangs = manager.start_stream(Stream.of(Scripted([HANG]).events()))
        with pytest.raises(TimeoutError, match=r"'stream-2' has not ended after 0\.01 s"):
            manager.get_result(hangs, timeout=0.01)
        for wrong in ("5", -1, float("nan")):
            with pytest.raises(ConfigurationError, match="timeout="):
                manager.get_result(hangs, timeout=wrong)  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError, match="timeout="):
                manager.close(wrong)  # type: ignore[arg-type]
        assert manager.get_stream_status(hangs) == "active"
        late = manager.start_stream(rx.throw(TimeoutError("mine")))
        with pytest.raises(TimeoutError, match="mine"):
            manager.get_result(late, timeout=5)
    assert set(manager.streams().values()) == {"completed", "cancelled", "error"}
    assert threading.active_count() <= threads + 1  # the shared loop's own


def test_a_loop_that_goes_down_ends_its_streams_and_nobody_waits_for_it() -> None:
    diary = Diary()

    async def main() -> tuple[StreamManager, list[str]]:
        manager = StreamManager(max_streams=2)
        names = [manager.start_stream(Stream.of(Scripted([HANG]).events()), handlers=[diary]) for _ in range(2)]
        await settle()
        manager.pause_stream(names[0])
        return manager, names

    manager, names = asyncio.run(main())
    for name in names:
        with pytest.raises(LoopShutDown):
            manager.get_result(name, timeout=5)
    assert set(manager.streams().values()) == {"error"}
    manager.close()


def test_on_a_loop_that_is_closed_nothing_starts() -> None:
    async def main() -> StreamManager:
        return StreamManager()

    manager = asyncio.run(main())
    with pytest.raises(LoopShutDown):
        manager.start_stream(["a"])
    assert manager.streams() == {}
    manager.close()


@pytest.mark.parametrize("thread", [False, True])
def test_a_slow_handler_may_close_its_manager(thread: bool) -> None:
    """It does not wait for itself, and is told the end when it has returned."""
    manager = StreamManager()
    told: list[object] = []
    closed = threading.Event()

    class Closes(StreamHandler):
        def on_token_received(self, token: str, index: int) -> Any:
            return self.close_there() if thread else self.close()

        def close_there(self) -> None:
            manager.close(60)
            told.append("closed")

        async def close(self) -> None:
            await manager.aclose(60)
            told.append("closed")

        def on_stream_error(self, error: Exception) -> None:
            told.append(type(error))
            closed.set()

    manager.register_handler(Closes(), thread=thread)
    stream_id = manager.start_stream(Stream.of(Scripted(["a", HANG]).events()))
    assert closed.wait(30)
    assert told == ["closed", Cancelled]
    assert manager.get_stream_status(stream_id) == "cancelled"
    manager.close()


def test_all_can_be_done_in_any_thread() -> None:
    """Law: whatever many threads do at once, each stream keeps to the legal transitions, and its events to their order."""
    with StreamManager(max_streams=5, max_waiting=1_000) as manager:
        told: list[StreamEvent] = []
        manager.events.subscribe(told.append)

        def work(number: int) -> None:
            for turn in range(8):
                name = manager.start_stream(["a", "b", "c"] * 5, stream_id=f"{number}-{turn}")
                handler = manager.register_handler(Diary())
                for action in (manager.pause_stream, manager.resume_stream) * 3:
                    action(name)
                if turn % 3 == 0:
                    manager.cancel_stream(name)
                manager.unregister_handler(handler)
                manager.resume_stream(name)
                _ = manager.statistics, manager.streams(), manager.get_statistics(name)
                if turn % 3:
                    assert manager.get_result(name, timeout=30).text == "abc" * 5

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    assert set(manager.streams().values()) == {"completed", "cancelled"}
    assert len(manager.streams()) == 48
    check_order(told, 48)


def test_whatever_many_threads_do_while_another_closes_it() -> None:
    """Law: all that was started comes to an end, its events in their order; and nobody hangs, or is told nonsense."""
    manager = StreamManager(max_streams=4, max_waiting=30, keep=20)
    told: list[StreamEvent] = []
    manager.events.subscribe(told.append)
    started: list[str] = []
    faults: list[BaseException] = []
    enough = threading.Event()

    class Slow(StreamHandler):
        async def on_token_received(self, token: str, index: int) -> None:
            await asyncio.sleep(0)

    def work(seed: int) -> None:
        chance = Random(seed)  # noqa: S311 - no secret
        actions = (
            manager.pause_stream, manager.resume_stream, manager.resume_stream, manager.cancel_stream, manager.forget,
            manager.get_statistics, lambda name: manager.session(name).partial, lambda name: manager.get_result(name, 0.001),
        )  # fmt: skip
        while True:
            with contextlib.suppress(BulkheadFull):
                started.append(manager.start_stream(["a"] * chance.randrange(30)))
            if len(started) > 150:
                enough.set()
            registered = manager.register_handler(Slow() if chance.random() < 0.5 else Diary())
            for _ in range(4):
                with contextlib.suppress(UnknownStream, TimeoutError, Cancelled):
                    chance.choice(actions)(chance.choice(started))
            assert manager.unregister_handler(registered)
            _ = manager.statistics, manager.streams(), repr(manager)

    def until_it_is_closed(seed: int) -> None:
        try:
            work(seed)
        except ConfigurationError as closed:
            if str(closed) != "the manager is closed":
                faults.append(closed)
            enough.set()
        except BaseException as fault:  # noqa: BLE001 - whatever it is
            faults.append(fault)
            enough.set()

    threads = [threading.Thread(target=until_it_is_closed, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    assert enough.wait(60)
    manager.close(60)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert faults == []
    assert set(manager.streams().values()) <= {"completed", "cancelled"}
    assert sum(manager.statistics.streams.values()) == len(started)
    check_order(told, len(started))


def test_a_forgotten_stream_is_garbage() -> None:
    async def main() -> None:
        async with StreamManager(keep=0) as manager:
            stream = Stream.of(Scripted(numbered(3)).events())
            there = weakref.ref(stream)
            name = manager.start_stream(stream)
            del stream
            result = await manager.wait(name)
            await settle()
            gc.collect()
            assert (result.text, there()) == ("0 1 2 ", None)

    asyncio.run(main())


def test_closing_waits_no_longer_than_was_said_for_a_loop_that_stands_still_or_goes_down() -> None:
    go_on = threading.Event()
    manager = StreamManager()
    manager.start_stream(rx.never())
    manager.loop.call_soon_threadsafe(go_on.wait, 60)
    manager.close(0.01)
    asyncio.run(manager.aclose(0.01))
    go_on.set()
    manager.close()

    async def main() -> threading.Thread:
        manager = StreamManager()
        closing = threading.Thread(target=manager.close)
        manager.register_handler(never_ready)
        manager.start_stream(["a"])
        await settle()
        closing.start()
        await until(lambda: manager._roster._closed)
        return closing

    async def never_ready(_event: object) -> None:
        await asyncio.Event().wait()

    closing = asyncio.run(main())
    closing.join(30)
    assert not closing.is_alive()


async def test_coroutine_functions_that_are_to_run_in_a_thread_are_refused_at_once() -> None:
    class Later(StreamHandler):
        async def on_pause(self) -> None:
            raise NotImplementedError

    class Chooses(Later):
        def for_stream(self, metadata: object) -> StreamHandler:
            return StreamHandler()

    async with StreamManager() as manager:
        with pytest.raises(ConfigurationError, match="thread=True is for plain functions, and on_pause is"):
            manager.register_handler(Later(), thread=True)
        assert manager.register_handler(Chooses(), thread=True) == "handler-1"


def test_of_a_stream_that_is_over_nothing_is_kept_of_what_was_asked() -> None:
    """A prompt may be large, and many streams are kept."""

    async def main() -> None:
        async with StreamManager(max_streams=1) as manager:
            for status, last in (("completed", DONE), ("cancelled", HANG), ("cancelled", None)):
                if last is None:  # it waits for its turn
                    manager.start_stream(rx.never())
                stream = Stream.of(Scripted(["a", last or DONE]).events())
                there = weakref.ref(stream)
                name = manager.start_stream(stream)
                del stream
                await settle()
                manager.cancel_stream(name)
                await settle()
                gc.collect()
                assert (manager.get_stream_status(name), there()) == (status, None)

    asyncio.run(main())
