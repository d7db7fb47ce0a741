"""What can be started, and what is known of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import reactivex as rx

import rxstream
from rxstream.errors import ConfigurationError
from rxstream.events import TextDelta
from rxstream.manager import StreamManager
from rxstream.sinks.handler import StreamHandler, StreamMetadata
from tests.support.managing import handler, scripted
from tests.support.scripted import DONE
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_anything_that_gives_events_is_a_stream() -> None:
    async def pieces() -> Any:
        for text in ("to ", "be"):
            yield text

    events = [TextDelta(text="to "), TextDelta(text="be"), DONE]
    async with StreamManager() as manager:
        sources: list[Any] = [
            scripted("to ", "be"),
            rx.from_iterable(events),
            ["to ", "be"],
            events,
            pieces(),
            pieces,
            lambda: ["to ", "be"],
        ]
        for source in sources:
            assert (await manager.wait(manager.start_stream(source))).text == "to be"
        iterated: Iterator[str] = iter(["to ", "be"])
        assert (await manager.wait(manager.start_stream(iterated))).text == "to be"


@virtual_time
async def test_what_gives_none_is_refused() -> None:
    async with StreamManager() as manager:
        for source in ("a whole answer", 3, None):
            with pytest.raises(ConfigurationError):
                manager.start_stream(source)
        assert manager.streams() == {}
        name = manager.start_stream(rx.of("text", "without events"))
        with pytest.raises(ConfigurationError, match="not an event"):
            await manager.wait(name)
        assert manager.get_stream_status(name) == "error"


@virtual_time
async def test_metadata_is_what_was_given_and_what_is_known() -> None:
    known: list[StreamMetadata] = []

    class Known(StreamHandler):
        def on_stream_start(self, metadata: StreamMetadata) -> None:
            known.append(metadata)

    async with StreamManager() as manager:
        manager.register_handler(Known())
        question = manager.start_stream(rxstream.from_iterable(["a"], label="left"), {"user": 7, "request_id": "r"})
        child = manager.start_stream(["a"], StreamMetadata(parent_id=question, stream_id="mine", extra={"n": 1}))
        other = manager.start_stream(["a"], {"trace_id": "t", "extra": {"a": 1}, "b": 2}, stream_id="given")
        for name in (question, child, other):
            await manager.wait(name)
    first, second, third = known
    assert (first.label, first.request_id, first.extra, len(first.trace_id)) == ("left", "r", {"user": 7}, 32)
    assert (second.stream_id, second.label, second.extra) == ("mine", "mine", {"n": 1})
    assert second.trace_id == first.trace_id
    assert (third.stream_id, third.trace_id, third.extra) == ("given", "t", {"a": 1, "b": 2})
    assert all(abs(one.started_at - time.time()) < 3600 for one in known)


@virtual_time
async def test_a_model_s_stream_tells_its_provider_and_model() -> None:
    async with StreamManager() as manager:
        diary: list[StreamMetadata] = []
        answer = rxstream.stream("openai:gpt-x", "hello", api_key="k", base_url="http://127.0.0.1:1/v1")
        name = manager.start_stream(answer, handlers=[handler(on_stream_start=diary.append)])
        await settle()
        manager.cancel_stream(name)
        await settle()
        assert [(each.provider, each.model, each.label) for each in diary] == [("openai", "gpt-x", "openai:gpt-x")]


def test_what_is_no_list_is_refused_by_name() -> None:
    with StreamManager() as manager:
        one: Any = StreamHandler()
        with pytest.raises(ConfigurationError, match="handlers="):
            manager.start_stream(["a"], handlers=one)
        with pytest.raises(ConfigurationError, match="extra=5"):
            manager.start_stream(["a"], {"extra": 5})
        with pytest.raises(ConfigurationError, match="metadata=0"):
            manager.start_stream(["a"], 0)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="stream_id=5"):
            manager.start_stream(["a"], stream_id=5)  # type: ignore[arg-type]
        stream_id = manager.start_stream(["a"])
        for wrong in (stream_id, 7):
            with pytest.raises(ConfigurationError, match="streams="):
                manager.register_handler(one, streams=wrong)  # type: ignore[arg-type]
