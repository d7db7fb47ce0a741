"""Asking a `ScriptedServer` through the SDKs: the request, the connection, and reading the body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from rxstream.config import Limits, Request
from rxstream.errors import RxstreamError
from rxstream.providers import provider
from rxstream.sources.sdk import Connection, open_stream
from tests.support.server import ScriptedServer, chat, messages, responses
from tests.support.until import until

__all__ = ["DIALECTS", "GOOD", "KEY", "Wire", "ask", "error_of", "link", "read", "until"]

KEY = "sk-planted-0123456789-canary"
DIALECTS = {"compatible": "/v1", "anthropic": "", "openai": "/v1"}
"""A provider of each dialect, and the path that its base URL ends with."""
GOOD: dict[str, Callable[..., list[bytes]]] = {"compatible": chat, "anthropic": messages, "openai": responses}

Wire = Literal["auto", "httpx2", "aiohttp"]


def ask(name: str = "compatible", **more: Any) -> Request:
    """A small request."""
    return Request.build(provider=name, model="scripted-1", messages="hello", **more)


def link(
    server: ScriptedServer, name: str = "compatible", *, transport: Wire = "auto", limits: Limits | None = None
) -> Connection:
    """A connection to the server that speaks the dialect of the provider `name`."""
    url = server.url + DIALECTS[name]
    return Connection.to(provider(name), base_url=url, api_key=KEY, transport=transport, limits=limits)


async def read(request: Request, connection: Connection) -> bytes:
    """The whole body, drained and closed."""
    async with asyncio.timeout(10), open_stream(request, connection) as body:
        data = b"".join([piece async for piece in body])
        await body.drain()
    return data


async def error_of(
    opened: AbstractAsyncContextManager[AsyncIterator[bytes]],
    each: Callable[[bytes], object] = len,
) -> tuple[bytes, RxstreamError]:
    """What comes of a stream that is to fail: the bytes before the failure, and the error.

    `each` is called with all that came so far, after each piece.
    """
    data = bytearray()
    try:
        async with asyncio.timeout(10), opened as body:
            async for piece in body:
                data += piece
                each(bytes(data))
    except RxstreamError as error:
        return bytes(data), error
    raise AssertionError(f"it did not fail, and gave {bytes(data)!r}")
