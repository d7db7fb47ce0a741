"""A server that keeps its answers and cuts them where it is told, and a caller who takes them up again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from reactivex import Observable

import rxstream
from rxstream._asking import Asking, Conversation, asking_of
from rxstream.errors import Disconnected, StreamError
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from tests.support.asking import KEY
from tests.support.server import Exchange, Head, chat, responses

__all__ = ["KEPT", "Keeper", "Told", "asking", "bare", "from_memory", "listen", "take_up"]

KEPT: Final[dict[str, Callable[..., list[bytes]]]] = {"llamacpp": chat, "openai": responses}
"""Providers that keep answers, and answers of theirs."""


def asking(name: str, url: str, **options: Any) -> Asking:
    """What is known of the model of the provider `name`, served at `url`."""
    prompt = options.pop("prompt", "hello")
    key = options.pop("api_key", KEY)
    stream = rxstream.stream(f"{name}:scripted-1", prompt, base_url=f"{url}/v1", api_key=key, **options)
    found = asking_of(stream)
    assert found is not None
    return found


@dataclass
class Told:
    """What came of one request of a conversation."""

    events: list[Event] = field(default_factory=list[Event])
    error: Exception | None = None


async def listen(events: Observable[Event]) -> Told:
    """Subscribe to one request, and wait for its end."""
    told, ended = Told(), asyncio.Event()

    def end(error: Exception | None = None) -> None:
        told.error = error
        ended.set()

    events.subscribe(told.events.append, end, end, scheduler=LoopScheduler())
    async with asyncio.timeout(10):
        await ended.wait()
    return told


async def take_up(conversation: Conversation, *, most: int = 20) -> tuple[list[Event], Exception | None]:
    """Ask, and resume after each failure, as long as that is possible: all events, and the error at the end."""
    told = await listen(conversation.ask())
    events = told.events
    for _ in range(most):
        rest = conversation.resume() if told.error is not None else None
        if rest is None:
            break
        told = await listen(rest)
        events += told.events
    return events, told.error


def bare(events: Sequence[Event]) -> list[Event]:
    """The events without what tells when they came, and over which connection."""
    return [msgspec.structs.replace(event, at=0.0, seq=0) for event in events]


class Keeper:
    """The script of a `ScriptedServer` that keeps one answer, and cuts each response that has a number in `cuts`.

    For llama.cpp the number is of bytes of that response. A response that is not cut is whole.
    """

    def __init__(self, frames: Sequence[bytes], *, cuts: Sequence[int] = (), clean: bool = False) -> None:
        self.frames = list(frames)
        self.body = b"".join(frames)
        self.cuts = list(cuts)
        self.clean = clean
        self.left: list[str] = []
        """The farewells: method and path with its query."""
        self.statuses: list[int] = []
        """Statuses with which the next requests for the rest are refused."""

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        where = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(where.query).items()}
        if request.method == "DELETE" or where.path.endswith("/cancel"):
            self.left.append(f"{request.method} {request.path}")
            await exchange.wire(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
        elif request.method == "GET" and self.statuses:
            status = self.statuses.pop(0)
            body = b'{"error": {"message": "gone, says Bearer %b"}}' % KEY.encode()
            await exchange.head(Head(status, "application/json"))
            await exchange.send(body)
            await exchange.end()
        elif "from" in query:
            await self._send(exchange, self.body[int(query["from"]) :])
        elif "starting_after" in query:
            assert query["stream"] == "true"
            await self._send(exchange, b"".join(self.frames[int(query["starting_after"]) + 1 :]))
        else:
            await self._send(exchange, self.body)

    async def _send(self, exchange: Exchange, data: bytes) -> None:
        cut = self.cuts.pop(0) if self.cuts else None
        await exchange.head(Head())
        await exchange.send(data[:cut])
        if cut is None or self.clean:
            await exchange.end()
        else:
            exchange.close()


class _Piece:
    """A body in memory: its pieces, then an error, or its end."""

    def __init__(self, pieces: Sequence[bytes], error: StreamError | None) -> None:
        self._pieces = list(pieces)
        self._error = error

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration


def from_memory(
    patch: pytest.MonkeyPatch, frames: Sequence[bytes], cuts: Sequence[int], *, size: int = 1 << 20
) -> None:
    """Let kept answers come from memory in place of a socket, each response cut after as many bytes as `cuts` says.

    The complement of a number (``~17``) cuts with a clean end. `size` is how much is read at a time.
    """
    left = list(cuts)
    body = b"".join(frames)

    def answer(data: bytes) -> _Piece:
        cut = left.pop(0) if left else None
        if cut is not None:
            data = data[: cut if cut >= 0 else ~cut]
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        return _Piece(pieces, Disconnected("cut") if cut is not None and cut >= 0 else None)

    @asynccontextmanager
    async def first(*_: object) -> AsyncIterator[AsyncIterator[bytes]]:
        yield answer(body)

    @asynccontextmanager
    async def rest(_: str, query: dict[str, int], **__: object) -> AsyncIterator[AsyncIterator[bytes]]:
        if "from" in query:
            yield answer(body[query["from"] :])
        else:
            yield answer(b"".join(frames[query["starting_after"] + 1 :]))

    patch.setattr("rxstream.sources._line.open_stream", first)
    patch.setattr("rxstream.sources._line.open_rest", rest)
