"""The handler made of functions."""

from __future__ import annotations

from typing import Any

import pytest

import rxstream
from rxstream.errors import Cancelled, ConfigurationError
from rxstream.events import TextDelta, ToolCall, UsageReported
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks.callbacks import CallbackStreamHandler
from rxstream.sinks.handler import StreamMetadata
from rxstream.usage import Usage
from tests.support.virtual_loop import settle, virtual_time

NAMES = ("start", "token", "complete", "error", "event", "usage", "tool_call", "progress", "pause", "resume", "cancel")


@virtual_time
async def test_each_function_is_called_for_its_own() -> None:
    said: list[str] = []
    functions: dict[str, Any] = {f"on_{name}": lambda *_, name=name: said.append(name) for name in NAMES}
    for ending in ("complete", "error"):
        stream = Dispatch(StreamMetadata(), rxstream.LoopScheduler())
        stream.add("h", CallbackStreamHandler(**functions))
        stream.on_next(TextDelta(text="a"))
        stream.on_next(UsageReported(usage=Usage()))
        stream.on_next(ToolCall(id="1", name="f", arguments=""))
        stream.paused()
        stream.resumed()
        stream.progress(None)
        if ending == "error":
            stream.on_error(Cancelled("enough"))
        else:
            stream.on_completed(rxstream.Response())
    one = ["start", "event", "token", "event", "usage", "event", "tool_call", "pause", "resume", "progress"]
    assert said == [*one, "complete", *one, "cancel", "error"]


@virtual_time
async def test_coroutine_functions_are_awaited() -> None:
    said: list[str] = []

    async def later(token: str, _index: int) -> None:
        await settle()
        said.append(token)

    rxstream.from_iterable(["to ", "be"]).subscribe(
        CallbackStreamHandler(on_token=later, on_complete=lambda response: said.append(response.text))
    )
    for _ in range(10):
        await settle()
    assert said == ["to ", "be", "to be"]


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^on_token="):
        CallbackStreamHandler(on_token=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="on_start="):
        CallbackStreamHandler()
