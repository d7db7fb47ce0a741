"""Which client serves which stream, and when it is closed."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import warnings
from contextlib import AsyncExitStack
from typing import Any

import pytest

import rxstream
from rxstream.errors import Disconnected, MissingDependency
from rxstream.events import is_content
from rxstream.providers import provider
from rxstream.sources import _clients
from rxstream.sources._clients import ClientKey, close_clients, lease, pick_transport
from rxstream.sources.sdk import Connection, open_stream
from tests.support.asking import DIALECTS, GOOD, KEY, Wire, ask, link, read, until
from tests.support.live import TRANSPORTS, stream_from, watch
from tests.support.server import HANG, Head, Script, ScriptedServer, Signal, Wait, chat, page
from tests.support.server import Wire as OnWire

each_transport = pytest.mark.parametrize("transport", ["httpx2", "aiohttp"])


def key(**other: str) -> ClientKey:
    fields = {"sdk": "openai", "base_url": "http://127.0.0.1:1", "api_key": KEY, "transport": "httpx2"}
    return ClientKey(**(fields | other))  # type: ignore[arg-type]  # the literals are given as strings


async def test_one_client_for_all_who_ask_the_same() -> None:
    """The same SDK, URL, key and transport share a client; anything else does not."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(lease(wanted))
            for wanted in (key(), key(), key(api_key="other"), key(base_url="http://127.0.0.1:2"), key(sdk="anthropic"))
        ]
    assert clients[0] is clients[1]
    assert len({id(client) for client in clients}) == 4


async def test_a_client_of_httpx2_serves_a_hundred_streams() -> None:
    """The next gets a client of its own, and one that is given back is used again; one of aiohttp serves them all."""
    async with AsyncExitStack() as stack:
        first = [await stack.enter_async_context(lease(key())) for _ in range(100)]
        assert len(set(map(id, first))) == 1
        async with lease(key()) as other:
            assert other is not first[0]
        async with lease(key()) as again:
            assert again is other
        many = [await stack.enter_async_context(lease(key(transport="aiohttp"))) for _ in range(101)]
        assert len(set(map(id, many))) == 1
    async with lease(key()) as again:
        assert again is first[0]


@each_transport
async def test_more_than_a_hundred_streams_at_a_time(transport: Wire) -> None:
    """All 130 are open at once: no silent limit of the transport holds one back."""
    go = Signal()
    with ScriptedServer([b"first", Wait(go), *chat("x")]) as server:
        connection = link(server, transport=transport)
        tasks = [asyncio.ensure_future(read(ask(), connection)) for _ in range(130)]
        await until(lambda: len(server.requests) == 130)
        assert server.connections == 130
        go.set()
        assert len(await asyncio.gather(*tasks)) == 130


@each_transport
def test_a_loop_that_ends_closes_its_clients(transport: Wire) -> None:
    """`asyncio.run` leaves no socket open and nothing to warn about."""
    with ScriptedServer(chat("x")) as server:
        for _ in range(2):
            asyncio.run(read(ask(), link(server, transport=transport)))
        server.requests[-1].left.wait()
        assert server.open_connections == 0
        assert server.connections == 2
    assert not [loop for loop in _clients._loops if loop.is_closed()]
    gc.collect()


@each_transport
async def test_closing_by_hand(transport: Wire) -> None:
    """Idle connections are closed; the next request makes a new client; closing twice is nothing."""
    with ScriptedServer(chat("x")) as server:
        await read(ask(), link(server, transport=transport))
        assert server.open_connections == 1
        await close_clients()
        await close_clients()
        await server.requests[0].left.wait_async()
        await read(ask(), link(server, transport=transport))
        assert server.connections == 2


@each_transport
def test_a_loop_that_was_just_closed_is_forgotten(transport: Wire) -> None:
    """A loop closed without the usual shutdown leaves no client behind once another loop asks."""
    with warnings.catch_warnings(), ScriptedServer(chat("x")) as server:
        warnings.simplefilter("ignore", ResourceWarning)  # the careless loop left its idle socket open
        careless = asyncio.new_event_loop()
        careless.run_until_complete(read(ask(), link(server, transport=transport)))
        careless.close()
        assert careless in _clients._loops
        asyncio.run(read(ask(), link(server, transport=transport)))
        assert careless not in _clients._loops
        gc.collect()
        assert not [closed for closed in _clients._read if closed.get_loop() is careless]


@pytest.mark.parametrize("name", DIALECTS)
async def test_what_the_environment_holds_for_one_server_is_told_to_no_other(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDKs read it for whatever server they talk to; with headers of one's own, too, for which a client is copied."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    sdk = "ANTHROPIC" if name == "anthropic" else "OPENAI"
    monkeypatch.setenv(f"{sdk}_CUSTOM_HEADERS", "X-Corporate-Token: planted-1\nX-Team:a:b\nnothing")
    for headers in ({}, {"X-Mine": "1"}):
        await close_clients()
        with ScriptedServer(GOOD[name]("Hello")) as server:
            url = server.url + DIALECTS[name]
            options: dict[str, Any] = {"api_key": "k", "extra_headers": headers}
            await watch(rxstream.stream(f"{name}:m", "hi", base_url=url, **options))
            monkeypatch.setenv(f"{sdk}_BASE_URL", url)
            await close_clients()
            own = {"compatible": "openai"}.get(name, name)
            await watch(rxstream.stream(f"{own}:m", "hi", api_key="k", extra_headers=headers))
        told, meant = [set(request.headers) for request in server.requests]
        assert not told & {"openai-organization", "openai-project", "x-corporate-token", "x-team"}
        assert {"x-corporate-token", "x-team"} <= meant
        assert {name.lower() for name in headers} <= told & meant
    await close_clients()


async def test_a_header_of_the_environment_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """If its name says so: the provider may say it back."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team-Token: planted-0042\nX-Team: words")
    with ScriptedServer(page(400, "no planted-0042 in words", content_type="text/plain")) as server:
        outcome = await watch(rxstream.stream("compatible:m", "hi", base_url=server.url, api_key="k"))
    assert outcome.error.message == "no *** in words"


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("said", [b"zz bad\r\n", b"5\r\nHelloHello\r\n"])
async def test_a_body_that_stops_being_http_is_told_at_once(said: bytes, transport: Wire) -> None:
    """The parser of aiohttp closes such a connection, and leaves whoever reads it waiting."""

    async def check(name: str) -> None:
        arrived = Signal()
        script: Script = [Head(), *GOOD[name]("Hel", terminal=False), Wait(arrived), OnWire(said), HANG]
        with ScriptedServer(script) as server:
            stream = stream_from(server, name, transport=transport)
            outcome = await watch(stream, on_next=lambda event: arrived.set() if is_content(event) else None)
        assert type(outcome.error) is Disconnected
        assert outcome.text == "Hel"

    for name in DIALECTS:
        await check(name)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nothing_is_kept_of_what_was_read(transport: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """A connection, used many times, holds one body at most; and where it breaks off later nobody hears of it."""
    with ScriptedServer(*[chat("x")] * 20) as server:
        for _ in range(20):
            await read(ask(), link(server, transport=transport))
        assert len(_clients._read) < 5  # one, or a few where a connection was not free at once
    await close_clients()
    gc.collect()
    assert not caplog.records


def test_aiohttp_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (pick_transport("auto"), pick_transport("httpx2"), pick_transport("aiohttp")) == (
        "aiohttp",
        "httpx2",
        "aiohttp",
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert pick_transport("auto") == "httpx2"
    with pytest.raises(MissingDependency, match=r"pip install 'rxstream\[fast\]'"):
        Connection.to(provider("local"), transport="aiohttp")


async def test_nothing_is_left_running() -> None:
    """A stream owns no tasks."""
    before = asyncio.all_tasks()
    with ScriptedServer(chat("x")) as server:
        async with open_stream(ask(), link(server)) as body:
            await anext(body)
            assert asyncio.all_tasks() == before
        assert asyncio.all_tasks() == before
