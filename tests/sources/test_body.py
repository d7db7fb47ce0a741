"""The bytes of a response: limits, compression, and the drain."""

from __future__ import annotations

import gc
import gzip
import time
import zlib
from collections.abc import Callable
from itertools import pairwise

import pytest

from rxstream import errors
from rxstream.config import Limits
from rxstream.sources.sdk import open_stream
from tests.support.asking import Wire, ask, error_of, link, read
from tests.support.server import HANG, Exchange, Head, Script, ScriptedServer, chat, sse


@pytest.fixture(params=["httpx2", "aiohttp"])
def transport(request: pytest.FixtureRequest) -> Wire:
    chosen: Wire = request.param
    return chosen


async def test_the_bytes_are_limited(transport: Wire) -> None:
    """A stream longer than the limit is an error when it goes over."""
    with ScriptedServer([sse("x" * 100)] * 50) as server:
        connection = link(server, transport=transport, limits=Limits(stream_bytes=2000))
        data, error = await error_of(open_stream(ask(), connection))
    assert isinstance(error, errors.LimitExceeded)
    assert len(data) <= 2000


async def test_the_bytes_are_not_limited_where_there_is_no_limit(transport: Wire) -> None:
    frames = [sse("x" * 1000)] * 50
    with ScriptedServer(frames) as server:
        connection = link(server, transport=transport, limits=Limits(stream_bytes=None))
        assert await read(ask(), connection) == b"".join(frames)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def gzip_twice(data: bytes) -> bytes:
    """Two files, one after the other, as gzip allows."""
    return gzip.compress(data[:100]) + gzip.compress(data[100:])


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate), ("gzip", gzip_twice)],
)
async def test_compressed_all_the_same(encoding: str, pack: Callable[[bytes], bytes], transport: Wire) -> None:
    """A server that compresses although it was not asked to is understood."""
    plain = b"".join(chat(*"Hello"))
    packed = pack(plain)
    pieces = [packed[at : at + 7] for at in range(0, len(packed), 7)]
    with ScriptedServer([Head(headers={"content-encoding": encoding}), *pieces]) as server:
        assert await read(ask(), link(server, transport=transport)) == plain


async def test_compressed_and_cut(transport: Wire) -> None:
    """A compressed body that ends before its own end was cut, even if the HTTP body ends properly."""
    packed = gzip.compress(b"".join(chat(*"Hello")))
    with ScriptedServer([Head(headers={"content-encoding": "gzip"}), packed[:-20]]) as server:
        _, error = await error_of(open_stream(ask(), link(server, transport=transport)))
    assert type(error) is errors.StreamIncomplete


async def test_a_bomb(transport: Wire) -> None:
    """A body that inflates without end is stopped by the limit, 64 KiB at a time."""
    packed = gzip.compress(bytes(50_000_000))
    with ScriptedServer([Head(headers={"content-encoding": "gzip"}), packed]) as server:
        connection = link(server, transport=transport, limits=Limits(stream_bytes=300_000))
        ends = [0]
        data, error = await error_of(open_stream(ask(), connection), lambda data: ends.append(len(data)))
    assert isinstance(error, errors.LimitExceeded)
    assert len(data) <= 300_000
    assert max(end - start for start, end in pairwise(ends)) <= 65536


@pytest.mark.parametrize(("encoding", "content"), [("br", b"\x0b\x02\x80"), ("gzip", b"data: {}\n\n")])
async def test_compressed_in_a_way_that_cannot_be_read(encoding: str, content: bytes, transport: Wire) -> None:
    with ScriptedServer([Head(headers={"content-encoding": encoding}), content]) as server:
        _, error = await error_of(open_stream(ask(), link(server, transport=transport)))
    assert isinstance(error, errors.ProtocolError)


async def test_a_drain_does_not_wait_for_a_server_that_lingers(transport: Wire) -> None:
    """After 0.1 s, or 64 KiB, the connection is closed instead."""

    async def chatter(exchange: Exchange) -> None:
        await exchange.head()
        while True:
            await exchange.send(b": noise\n\n" * 1000)

    scripts: list[Script] = [[Head(), b"data: [DONE]\n\n", HANG], chatter]
    for script in scripts:
        with ScriptedServer(script) as server:
            async with open_stream(ask(), link(server, transport=transport)) as body:
                await anext(body)
                since = time.monotonic()
                await body.drain()
                assert time.monotonic() - since < 1.0
            await server.requests[0].left.wait_async()


async def test_what_is_closed_holds_no_response(transport: Wire) -> None:
    """An error of the subscriber's that somebody keeps holds our frames, and they hold the body."""
    with ScriptedServer([b"data: 1\n\n", HANG]) as server:
        async with open_stream(ask(), link(server, transport=transport)) as body:
            await anext(body)
        kept = [held for held in gc.get_referents(body, *gc.get_referents(body)) if not isinstance(held, type)]
        assert not [held for held in kept if "httpx2" in type(held).__module__ or "aiohttp" in type(held).__module__]
        assert [piece async for piece in body] == []
        await body.aclose()
