"""The handler that keeps the answer."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from reactivex.subject import Subject

import rxstream
from rxstream.errors import Cancelled, ConfigurationError, Disconnected, LoopShutDown
from rxstream.events import Event, Finished, Retracted, TextDelta
from rxstream.observable import Stream
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks.buffered import BufferedStreamHandler
from rxstream.sinks.handler import StreamMetadata
from tests.support.scripted import DONE, Scripted, Step, words
from tests.support.virtual_loop import virtual_time


def stream(*steps: Step) -> Stream[Event]:
    return Stream.of(Scripted(steps).events())


@virtual_time
async def test_it_has_the_text_so_far_and_the_answer() -> None:
    handler = BufferedStreamHandler()
    stream(*words("to ", "be")).subscribe(handler)
    assert handler.text == ""
    await asyncio.sleep(1.5)
    assert (handler.text, handler.response) == ("to ", None)
    with pytest.raises(ConfigurationError, match="block"):
        handler.get_response()
    await asyncio.sleep(2)
    assert handler.get_response() == "to be"
    assert handler.response is not None
    assert handler.response.finish_reason == "stop"


@virtual_time
async def test_what_is_retracted_is_not_in_it() -> None:
    handler = BufferedStreamHandler()
    retry: list[Step] = [TextDelta(text="to be"), Retracted(to_offset=3), TextDelta(text="see", attempt=1), DONE]
    stream(*retry).subscribe(handler)
    await asyncio.sleep(1)
    assert handler.get_response() == handler.text == "to see"


@virtual_time
async def test_of_a_failure_it_has_what_arrived() -> None:
    handler = BufferedStreamHandler()
    stream("to ", 1.0, Disconnected("cut")).subscribe(handler)
    await asyncio.sleep(2)
    with pytest.raises(Disconnected):
        handler.get_response()
    assert handler.response is not None
    assert handler.response.text == handler.text == "to "


def test_any_thread_may_wait_for_it() -> None:
    handler = BufferedStreamHandler()
    with pytest.raises(TimeoutError):
        handler.get_response(timeout=0.01)
    got: list[str] = []
    waiting = threading.Thread(target=lambda: got.append(handler.get_response(timeout=20)))
    waiting.start()
    rxstream.from_iterable(["to ", "be"]).subscribe(handler)
    waiting.join(20)
    assert got == ["to be"]


@virtual_time
async def test_one_stream_at_a_time() -> None:
    handler = BufferedStreamHandler()
    first, second = (Dispatch(StreamMetadata(), rxstream.LoopScheduler()) for _ in range(2))
    first.add("h", handler)
    first.on_next(TextDelta(text="one"))
    second.add("h", handler)
    second.on_next(TextDelta(text="two"))
    assert handler.text == "one"
    assert second.figures()["h"].detached
    first.on_error(Disconnected("cut"))
    third = Dispatch(StreamMetadata(), rxstream.LoopScheduler())
    third.add("h", handler)
    third.on_next(TextDelta(text="three"))
    assert handler.text == "three"


@virtual_time
async def test_of_several_tracks_there_is_no_one_text() -> None:
    handler = BufferedStreamHandler()
    for source in "xy":
        handler.on_event(TextDelta(text="a", source=source))
        handler.on_event(Finished(reason="stop", source=source))
    with pytest.raises(ConfigurationError, match="several tracks"):
        _ = handler.text


@virtual_time
async def test_who_waits_learns_that_it_was_removed_and_it_is_free_again() -> None:
    handler = BufferedStreamHandler()
    subscription = stream(*words("to ", "be")).subscribe(handler)
    await asyncio.sleep(1.5)
    subscription.dispose()
    with pytest.raises(Cancelled, match="removed"):
        handler.get_response()
    assert handler.response is not None
    assert handler.response.text == handler.text == "to "
    stream(*words("or ", "not")).subscribe(handler)
    await asyncio.sleep(5)
    assert handler.get_response() == "or not"


@virtual_time
async def test_so_it_is_where_a_manager_has_it() -> None:
    handler = BufferedStreamHandler()
    async with rxstream.StreamManager() as manager:
        handler_id = manager.register_handler(handler)
        first = manager.start_stream(stream(*words("to ", "be")))
        await asyncio.sleep(1.5)
        manager.unregister_handler(handler_id)
        with pytest.raises(Cancelled):
            handler.get_response()
        second = manager.start_stream(stream(*words("or ", "not")), handlers=[handler])
        await manager.wait(second)
        await manager.wait(first)
        assert handler.get_response() == "or not"


async def test_before_its_stream_has_begun_it_blocks_no_loop() -> None:
    handler = BufferedStreamHandler()
    async with rxstream.StreamManager() as manager:
        stream_id = manager.start_stream(["a"], handlers=[handler])
        with pytest.raises(ConfigurationError, match="block"):
            handler.get_response(timeout=5)
        await manager.wait(stream_id)
        assert handler.get_response() == "a"


def test_who_waits_learns_that_the_loop_was_closed_under_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word to anybody: what ran on it was not cancelled."""
    monkeypatch.setattr("rxstream.sinks.buffered._LOOK", 0.01)
    handler, loop = BufferedStreamHandler(), asyncio.new_event_loop()
    emitted = Subject[Event]()

    async def begin() -> None:
        Stream.of(emitted).subscribe(handler)
        emitted.on_next(TextDelta(text="to "))

    loop.run_until_complete(begin())
    with pytest.raises(TimeoutError, match="goes on"):
        handler.get_response(timeout=0.02)
    loop.close()
    for _ in range(2):
        with pytest.raises(LoopShutDown) as raised:
            handler.get_response()
        assert raised.value.partial is not None
        assert raised.value.partial.text == "to "
    rxstream.from_iterable(["be"]).subscribe(handler)  # it is free
    assert handler.get_response(timeout=20) == "be"


@pytest.mark.parametrize("timeout", ["5", float("nan"), float("inf")])
def test_a_timeout_that_is_no_number_is_refused(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^timeout="):
        BufferedStreamHandler().get_response(timeout)
