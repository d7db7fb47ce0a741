"""The handler that sends strings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import Event, Failed, Finished, TextDelta, decode
from rxstream.observable import Stream
from rxstream.sinks.sender import SenderStreamHandler
from tests.support.scripted import Scripted, Step, words
from tests.support.virtual_loop import virtual_time


def stream(*steps: Step) -> Stream[Event]:
    return Stream.of(Scripted(steps).events())


class Socket:
    """Sends slowly, by a method of the name that a library gives it."""

    def __init__(self, name: str) -> None:
        self.sent: list[str] = []
        setattr(self, name, self._send)

    async def _send(self, data: str) -> None:
        await asyncio.sleep(2)
        self.sent.append(data)


@pytest.mark.parametrize("name", ["send_text", "send_str", "send"])
@virtual_time
async def test_a_socket_is_sent_the_text(name: str) -> None:
    socket = Socket(name)
    stream(*words("to ", "be")).subscribe(SenderStreamHandler(socket))
    await asyncio.sleep(10)
    assert socket.sent == ["to ", "be"]


@virtual_time
async def test_or_every_event_and_the_error() -> None:
    sent: list[str] = []
    stream(*words("to ")).subscribe(SenderStreamHandler(sent.append, what="events"))
    stream("a", 1.0, Disconnected("cut")).subscribe(SenderStreamHandler(sent.append, what="events"))
    await asyncio.sleep(5)
    events = [decode(line) for line in sent]
    assert [type(event) for event in events] == [TextDelta, TextDelta, Finished, Failed]


@virtual_time
async def test_a_socket_that_is_gone_ends_its_stream() -> None:
    class Gone:
        def send(self, data: str) -> Any:
            raise ConnectionError("gone")

    script = Scripted(words("a", "b", "c"))
    Stream.of(script.events()).subscribe(SenderStreamHandler(Gone()))
    await asyncio.sleep(1.5)
    assert script.running == 0


@pytest.mark.parametrize(("send", "what", "name"), [(3, "text", "send"), (print, "bytes", "what")])
def test_what_cannot_send_is_refused(send: object, what: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}="):
        SenderStreamHandler(send, what=what)


@virtual_time
async def test_a_plain_function_that_returns_a_coroutine() -> None:
    sent: list[str] = []

    async def later(text: str) -> None:
        await asyncio.sleep(2)
        sent.append(text)

    def send(text: str) -> Any:
        return later(text)

    stream(*words("to ", "be")).start(SenderStreamHandler(send))
    await asyncio.sleep(10)
    assert sent == ["to ", "be"]
