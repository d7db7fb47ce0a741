"""The handlers of one stream, as tests have them: one that writes down, one that is slow, one that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rxstream.aggregate import aggregate
from rxstream.events import Event, Finished, TextDelta
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks.handler import StreamHandler, StreamMetadata

__all__ = ["DONE", "META", "Fails", "Says", "Slow", "dispatch", "text"]

META = StreamMetadata(stream_id="s1")


DONE = aggregate([TextDelta(text="whole"), Finished(reason="stop")])


def text(word: str) -> Event:
    return TextDelta(text=word)


def dispatch(gate: Gate | None = None, fail: Callable[[Exception], object] | None = None) -> Dispatch:
    return Dispatch(META, LoopScheduler(asyncio.get_running_loop(), gate=gate), fail=fail)


class Says(StreamHandler):
    """Writes into a list what it is told."""

    def __init__(self, name: str = "", said: list[Any] | None = None) -> None:
        self.name = name
        self.said: list[Any] = [] if said is None else said

    def say(self, *what: Any) -> None:
        self.said.append((self.name, *what) if self.name else what)

    def on_stream_start(self, metadata: StreamMetadata) -> Any:
        self.say("start", metadata.stream_id)

    def on_token_received(self, token: str, index: int) -> Any:
        self.say(index, token)

    def on_stream_complete(self, full_response: Any) -> Any:
        self.say("complete", full_response.text)

    def on_stream_error(self, error: Exception) -> Any:
        self.say("error", type(error))


class Slow(Says):
    """Takes a second for a token."""

    async def on_token_received(self, token: str, index: int) -> Any:
        await asyncio.sleep(1)
        self.say(index, token, asyncio.get_running_loop().time())


class Fails(Says):
    """Raises at each token."""

    def on_token_received(self, token: str, index: int) -> Any:
        self.say(index, token)
        raise ValueError(token)
