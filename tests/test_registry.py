"""Handlers come and go, for some streams or all, each with its policy."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from rxstream.errors import UnknownHandler, UnknownStream
from rxstream.manager import StreamManager
from rxstream.observable import Stream
from tests.support.managing import Diary, handler, scripted
from tests.support.scripted import DONE, Scripted, words
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_handlers_come_and_go_in_mid_stream() -> None:
    async with StreamManager() as manager:
        first, second = Diary(), Diary()
        one = manager.register_handler(first)
        name = manager.start_stream(scripted("a", "b", "c"))
        await asyncio.sleep(1.5)
        two = manager.register_handler(second)
        await asyncio.sleep(1)
        assert manager.unregister_handler(one) is True
        assert manager.unregister_handler(one) is False
        await manager.wait(name)
        assert first.told == [("start", name), ("a", 0), ("b", 1)]
        assert [what for what, *_ in second.told] == ["start", "b", "c", "complete"]
        assert set(manager.get_statistics(name).handlers) == {two}
        with pytest.raises(UnknownHandler, match="did you mean 'handler-2'"):
            manager.unregister_handler("handler-3")


@virtual_time
async def test_a_handler_may_be_for_some_streams() -> None:
    async with StreamManager() as manager:
        one = manager.start_stream(scripted("a"))
        two = manager.start_stream(scripted("b"), {"user": 7})
        await settle()
        by_id, by_user, broken = Diary(), Diary(), Diary()
        manager.register_handler(by_id, streams=[one])
        manager.register_handler(by_user, streams=lambda metadata: metadata.extra.get("user") == 7)
        manager.register_handler(broken, streams=lambda metadata: 1 / 0)  # type: ignore[arg-type, return-value]
        with pytest.raises(UnknownStream):
            manager.register_handler(Diary(), streams=["stream-9"])
        assert [(await manager.wait(name)).text for name in (one, two)] == ["a", "b"]
        assert (by_id.told[-1], by_user.told[-1], broken.told) == (("complete", "a"), ("complete", "b"), [])


@virtual_time
async def test_the_policy_of_a_handler_holds() -> None:
    async with StreamManager() as manager:
        diary = Diary()

        def fail(_token: str, _index: int) -> None:
            raise ValueError("mine")

        isolated = manager.register_handler(handler(on_token_received=fail))
        manager.register_handler(diary, by="word")
        name = manager.start_stream(["to b", "e or"])
        assert (await manager.wait(name)).text == "to be or"
        assert diary.told[1:-1] == [("to ", 0), ("be ", 1), ("or", 2)]
        figures = manager.get_statistics(name)
        assert (figures.handler_failures, figures.handlers[isolated].failures, figures.errors) == (2, 2, 0)
        manager.unregister_handler(isolated)
        at_once = manager.register_handler(handler(on_token_received=fail), on_failure="raise")
        name = manager.start_stream(["a", "b"])
        with pytest.raises(ValueError, match="mine"):
            await manager.wait(name)
        assert manager.get_stream_status(name) == "error"
        assert diary.told[-1] == ("error", "ValueError")
        manager.unregister_handler(at_once)

        async def later(token: str, index: int) -> None:
            await asyncio.sleep(0.5)
            raise ValueError("later")

        script = Scripted(words("a", "b", "c"))
        name = manager.start_stream(Stream.of(script.events()), stream_id="slow")
        manager.register_handler(handler(on_token_received=later), on_failure="raise", streams=["slow"])
        with pytest.raises(ValueError, match="later"):
            await manager.wait(name)


@virtual_time
async def test_a_slow_handler_delays_nobody_and_close_waits_for_it() -> None:
    heard: list[str] = []

    async def slow(token: str, _index: int) -> None:
        await asyncio.sleep(2)
        heard.append(token)

    loop = asyncio.get_running_loop()
    async with StreamManager() as manager:
        manager.register_handler(handler(on_token_received=slow))
        await manager.wait(manager.start_stream(["a", "b", "c"]))
        assert (loop.time(), heard) == (0, [])
    assert (loop.time(), heard) == (6, ["a", "b", "c"])
    manager = StreamManager()
    manager.register_handler(handler(on_token_received=slow))
    await manager.wait(manager.start_stream(["d", "e", "f"]))
    await manager.aclose(timeout=3)
    assert (loop.time(), heard) == (9, ["a", "b", "c", "d"])


def test_one_that_is_unregistered_on_its_way_to_the_loop_does_not_serve() -> None:
    """Called on the loop, to unregister is done at once, though to register, in another thread, is still on its way."""
    told: list[object] = []

    async def main() -> None:
        manager = StreamManager()
        stream_id = manager.start_stream(Stream.of(Scripted(["a", 0.01, "b", DONE]).events()))
        await settle()
        registered: list[str] = []
        thread = threading.Thread(target=lambda: registered.append(manager.register_handler(told.append)))
        thread.start()
        thread.join()  # the loop stands still
        manager.unregister_handler(registered[0])
        await manager.wait(stream_id)
        await manager.aclose()

    asyncio.run(main())
    assert told == []


def test_one_that_is_on_its_way_to_the_loop_when_a_stream_begins_serves_it_once() -> None:
    async def main() -> list[tuple[object, ...]]:
        diary = Diary()
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: diary.told.append((context,)))
        async with StreamManager() as manager:
            name = manager.start_stream(["a"])  # it begins in the loop's next round
            thread = threading.Thread(target=manager.register_handler, args=(diary,))
            thread.start()
            thread.join()
            await manager.wait(name)
        return diary.told

    assert asyncio.run(main()) == [("start", "stream-1"), ("a", 0), ("complete", "a")]


def test_what_says_which_streams_it_is_for_may_raise_anything_on_the_shared_loop() -> None:
    with StreamManager() as manager:
        diary = Diary()
        manager.register_handler(diary, streams=lambda _: sys.exit(3))
        assert manager.get_result(manager.start_stream(["a"]), timeout=30).text == "a"
    assert diary.told == []
