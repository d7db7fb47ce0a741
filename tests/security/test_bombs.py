"""What a server sends to cost memory or time: bounded, whatever it is."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import openai
import pytest

from rxstream.config import Request
from rxstream.errors import ServerFault, StreamError
from rxstream.providers import provider
from rxstream.sources.sdk import Connection, call_off
from tests.support.live import TRANSPORTS, Transport, everywhere, stream_from, watch
from tests.support.server import HANG, Exchange, Head, Script, ScriptedServer, Wire

MEGABYTE: Final = 1_000_000


async def _endless_error(exchange: Exchange) -> None:
    await exchange.head(Head(500, "text/html"))
    while True:
        await exchange.send(b"<p>" * 20_000)


async def _endless_page(exchange: Exchange) -> None:
    await exchange.head(Head(200, "text/html"))
    while True:
        await exchange.send(b"<p>" * 20_000)


async def _endless_header(exchange: Exchange) -> None:
    await exchange.wire(b"HTTP/1.1 500 No\r\nX-Long: ")
    while True:
        await exchange.wire(b"x" * 60_000)


async def _endless_headers(exchange: Exchange) -> None:
    await exchange.wire(b"HTTP/1.1 500 No\r\n")
    while True:
        await exchange.wire(b"X-Many: x\r\n" * 1000)


async def peak_of(work: Awaitable[None]) -> int:
    """The bytes that `work` takes at the most."""
    tracemalloc.start()
    try:
        await work
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _packed(status: int, encoding: str, pack: Callable[[bytes], bytes]) -> Script:
    return [Head(status, "application/json", {"content-encoding": encoding}), pack(bytes(40 * MEGABYTE)), HANG]


BOMBS: Final[dict[str, Callable[[], Script]]] = {
    "an error packed with gzip": lambda: _packed(500, "gzip", gzip.compress),
    "an error packed with deflate": lambda: _packed(500, "deflate", zlib.compress),
    "an error packed twice": lambda: _packed(500, "gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
    "a redirect packed with gzip": lambda: _packed(302, "gzip", gzip.compress),
    "a page packed with gzip": lambda: _packed(200, "gzip", gzip.compress),
    "an error without end": lambda: _endless_error,
    "a page without end": lambda: _endless_page,
    "a header without end": lambda: _endless_header,
    "headers without end": lambda: _endless_headers,
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_it_costs_no_memory(bomb: str) -> None:
    """One error, and at most a few megabytes for all six of them together."""
    script = BOMBS[bomb]()

    async def check(name: str, transport: Transport) -> None:
        with ScriptedServer(script) as server:
            outcome = await watch(stream_from(server, name, transport=transport, timeouts={"connect": 8.0}))
        assert isinstance(outcome.error, StreamError)
        assert len(outcome.error.message) < 1000

    assert await peak_of(everywhere(check)) < 24 * MEGABYTE


@pytest.mark.parametrize("bomb", ["a page packed with gzip", "a page without end", "an error packed with gzip"])
async def test_nor_does_it_when_an_answer_is_called_off(bomb: str) -> None:
    """Nobody waits for what a provider says to that, so nobody reads it."""
    request = Request.build(provider="openai", model="m", messages="hi")
    script = BOMBS[bomb]()

    async def check(transport: Transport) -> None:
        with ScriptedServer(script) as server:
            connection = Connection.to(provider("openai"), base_url=server.url, api_key="x", transport=transport)
            with suppress(openai.APIStatusError):  # whoever says farewell does not mind
                await call_off("post", "/responses/1/cancel", {}, request=request, connection=connection)
            await server.requests[0].left.wait_async()

    for transport in TRANSPORTS:
        assert await peak_of(check(transport)) < 8 * MEGABYTE


async def test_an_error_that_drips_is_told_by_its_status() -> None:
    """What came of its body within a second has to do; it does not become a silence."""

    async def check(name: str, transport: Transport) -> None:
        with ScriptedServer([Head(500, "text/plain"), b"out of ", HANG]) as server:
            outcome = await watch(stream_from(server, name, transport=transport, timeouts={"connect": 8.0}))
            await server.requests[0].left.wait_async()
        assert type(outcome.error) is ServerFault
        assert outcome.error.status == 500

    await everywhere(check)


async def test_an_error_that_breaks_off_is_told_by_its_status() -> None:
    """The status came; that its body was cut changes nothing."""

    async def check(name: str, transport: Transport) -> None:
        script: Script = [Wire(b"HTTP/1.1 429 No\r\nContent-Length: 900\r\nRetry-After: 3\r\n\r\n{")]
        with ScriptedServer(script) as server:
            outcome = await watch(stream_from(server, name, transport=transport, timeouts={"connect": 8.0}))
        assert (outcome.error.status, outcome.error.retry_after) == (429, 3.0)

    await everywhere(check)
