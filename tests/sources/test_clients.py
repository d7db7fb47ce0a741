"""Which client serves which stream, and when it is closed."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import warnings
from contextlib import AsyncExitStack

import pytest

from rxstream.errors import MissingDependency
from rxstream.providers import provider
from rxstream.sources import _clients
from rxstream.sources._clients import ClientKey, close_clients, lease, pick_transport
from rxstream.sources.sdk import Connection, open_stream
from tests.support.asking import KEY, Wire, ask, link, read, until
from tests.support.server import ScriptedServer, Signal, Wait, chat

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


async def test_no_organization_of_openai_is_told_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK reads it from the environment for whatever server it talks to."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    with ScriptedServer(chat("x")) as server:
        await read(ask(), link(server))
    assert not [name for name in server.requests[0].headers if name.startswith("openai-")]


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
