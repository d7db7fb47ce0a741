"""Whatever handlers do to each other and to their streams: each is told one end, or dismissed, and who waits learns it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rxstream.manager import StreamManager
from rxstream.observable import Stream
from rxstream.response import Response
from rxstream.sinks.buffered import BufferedStreamHandler
from rxstream.sinks.handler import StreamHandler, StreamMetadata
from tests.support.scripted import DONE, Scripted, words
from tests.support.virtual_loop import virtual_time

ACTIONS = ["", "", "", "raise", "cancel self", "cancel all", "pause", "remove", "add", "fail"]
OPTIONS = st.fixed_dictionaries(
    {
        "on_failure": st.sampled_from(["isolate", "raise", "detach"]),
        "failures": st.integers(1, 2),
        "slow": st.sampled_from(["buffer", "hold", "drop_oldest", "latest", "error"]),
        "capacity": st.sampled_from([1, 3, 100]),
    }
)
HANDLER = st.tuples(st.sampled_from(["plain", "later"]), st.lists(st.sampled_from(ACTIONS), max_size=8), OPTIONS)


class Does(StreamHandler):
    """Does at each token what it was given to do; one for each stream."""

    served: list[Does]
    stream_id: str

    def __init__(self, manager: StreamManager, actions: list[str], options: dict[str, Any]) -> None:
        self.manager, self.actions, self.options = manager, actions, options
        self.last = -1
        self.ends = 0
        self.late: list[object] = []

    def for_stream(self, metadata: StreamMetadata) -> Does:
        served = type(self)(self.manager, list(self.actions), self.options)
        served.stream_id, served.served = metadata.stream_id, self.served
        self.served.append(served)
        return served

    def on_token_received(self, token: str, index: int) -> Any:
        if self.ends or index <= self.last:
            self.late.append((token, index))
        self.last = index
        if self.actions:
            self.act(self.actions.pop())

    def act(self, action: str) -> None:
        manager = self.manager
        match action:
            case "raise":
                raise ValueError(self.stream_id)
            case "cancel self":
                manager.cancel_stream(self.stream_id)
            case "cancel all":
                for stream_id in manager.streams():
                    manager.cancel_stream(stream_id)
            case "pause":
                if manager.pause_stream(self.stream_id):
                    asyncio.get_running_loop().call_later(3, manager.resume_stream, self.stream_id)
            case "remove":
                manager.unregister_handler("handler-1")
            case "add":
                added = Does(manager, [], {})
                added.served = self.served
                manager.register_handler(added)
            case "fail":
                manager.session(self.stream_id).fail(KeyError(self.stream_id))
            case _:
                pass

    def on_stream_complete(self, full_response: Response) -> None:
        self.ends += 1

    def on_stream_error(self, error: Exception) -> None:
        self.ends += 1

    def dismissed(self) -> None:
        self.ends += 1


class DoesLater(Does):
    """… in a coroutine function that takes longer than a token does."""

    async def on_token_received(self, token: str, index: int) -> Any:
        await asyncio.sleep(1.5)
        super().on_token_received(token, index)


@settings(max_examples=60, deadline=None)
@given(st.lists(HANDLER, min_size=1, max_size=4), st.integers(1, 3))
def test_each_is_told_one_end(handlers: list[tuple[str, list[str], dict[str, Any]]], most: int) -> None:
    async def run() -> None:
        served: list[Does] = []
        waiting = [BufferedStreamHandler() for _ in range(3)]
        async with StreamManager(max_streams=most) as manager:
            for kind, actions, options in handlers:
                made = (Does if kind == "plain" else DoesLater)(manager, actions, options)
                made.served = served
                manager.register_handler(made, **options)
            for buffered in waiting:
                source = Stream.of(Scripted([*words("to ", "be ", "or ", "not"), DONE]).events())
                manager.start_stream(source, handlers=[buffered])
            await asyncio.sleep(200)
        assert [one.ends for one in served] == [1] * len(served)
        assert [one.late for one in served if one.late] == []
        assert all(map(ended, waiting))

    logging.disable(logging.CRITICAL)
    try:
        virtual_time(run)()
    finally:
        logging.disable(logging.NOTSET)


def ended(buffered: BufferedStreamHandler) -> bool:
    try:
        buffered.get_response(timeout=0)
    except TimeoutError:
        return False
    except Exception:  # noqa: BLE001 - whatever ended it
        return True
    return True
