"""The SDK clients: made when first needed, shared, and closed with the loop that they belong to.

Rules of this module:

* A client costs 23 ms to make, so there is one for each (SDK, base URL, key, transport) and event loop.
* httpx2's connection pool takes quadratic time in open streams, so a client of it serves at most a hundred streams at a
  time, and the next one is made beside it. aiohttp's does not, but is limited to 100 unless told otherwise.
* A loop that shuts down closes its clients, after the last farewell: an async generator of ours stands among those that
  the loop ends.
* Of an answer that is an error no more is read than its head: the SDKs would read all of it, and inflate it.
* No redirect is followed: the other server would get the prompt, and every header that the caller has added.
* Nor does a server get what the environment holds for another: the SDKs would send its headers to any.
* SDKs are imported by the functions that make their clients, nowhere else; the first time in a thread of its own, for
  it takes a second or two, in which the loop would stand still.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import os
import ssl
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from rxstream.errors import Disconnected, MissingDependency
from rxstream.sources._body import Body
from rxstream.sources._farewell import said

if TYPE_CHECKING:
    import httpx2
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

    Client: TypeAlias = AsyncOpenAI | AsyncAnthropic

__all__ = [
    "ClientKey",
    "Transport",
    "close_clients",
    "environment_headers",
    "lease",
    "load",
    "loaded",
    "no_clock",
    "pick_transport",
]

Transport: TypeAlias = Literal["auto", "httpx2", "aiohttp"]
"""What carries the bytes; ``auto`` is aiohttp where it is installed, since it costs half as much, else httpx2."""

_SHARD: Final = 100
"""Streams at a time on one httpx2 client."""

_HEAD_BYTES: Final = 64 * 1024
"""Of an answer that is an error."""

_MOST: Final = 100_000
"""Streams at a time on one aiohttp client; it takes no limit for "100", so one is given that nobody reaches."""


_OWN: Final = {"openai": "https://api.openai.com/", "anthropic": "https://api.anthropic.com/"}
"""Where each SDK is at home."""


@dataclass(frozen=True, kw_only=True)
class ClientKey:
    """What makes two clients the same."""

    sdk: Literal["openai", "anthropic"]
    base_url: str
    api_key: str = field(repr=False)
    transport: Literal["httpx2", "aiohttp"]


class _Shard:
    """One client, and how many streams run on it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.streams = 0


class _Clients:
    """The clients of one loop."""

    def __init__(self) -> None:
        self._shards: dict[ClientKey, list[_Shard]] = {}
        self.keeper = self._keep()

    async def _keep(self) -> AsyncGenerator[None, None]:
        """Waits, once started, among the generators that the loop ends when it shuts down."""
        try:
            yield
        finally:
            await said()
            _loops.pop(asyncio.get_running_loop(), None)
            for shard in [shard for group in self._shards.values() for shard in group]:
                with suppress(Exception):  # the others must be closed, too
                    await shard.client.close()

    def shard(self, key: ClientKey) -> _Shard:
        """A client with room for one stream more."""
        group = self._shards.setdefault(key, [])
        most = _SHARD if key.transport == "httpx2" else _MOST
        for shard in group:
            if shard.streams < most:
                return shard
        group.append(_Shard(_make(key)))
        return group[-1]


_read: weakref.WeakKeyDictionary[asyncio.Future[None], weakref.ref[Any]] = weakref.WeakKeyDictionary()
"""By what tells that a connection of aiohttp is closed: the answer that is, or was, read from it."""

_loops: dict[asyncio.AbstractEventLoop, _Clients] = {}


class lease:  # noqa: N801 - a context manager, used as one
    """A client of the running loop, for one stream.

    No async generator: a loop that goes down closes those that are left in any order, and a farewell uses one until then.
    """

    def __init__(self, key: ClientKey) -> None:
        self._key = key

    async def __aenter__(self) -> Client:
        await loaded(self._key.sdk)
        loop = asyncio.get_running_loop()
        if loop not in _loops:
            for other in [other for other in _loops if other.is_closed()]:
                _loops.pop(other, None)
            _loops[loop] = _Clients()
            await anext(_loops[loop].keeper)
        self._shard = _loops[loop].shard(self._key)
        self._shard.streams += 1
        return self._shard.client

    async def __aexit__(self, *_: object) -> None:
        self._shard.streams -= 1


async def close_clients() -> None:
    """Close all clients of the running loop, and their idle connections; the next request makes new ones.

    Nobody has to call it: a loop that is shut down in the usual way (`asyncio.run`, `asyncio.Runner`) closes its own.
    Dispose of the streams that still run before; this is not the way to end them.
    """
    clients = _loops.get(asyncio.get_running_loop())
    if clients is not None:
        await clients.keeper.aclose()


def pick_transport(wanted: Transport) -> Literal["httpx2", "aiohttp"]:
    """The transport to use where `wanted` is asked for.

    Raises:
        MissingDependency: aiohttp is asked for, and is not installed.
    """
    installed = importlib.util.find_spec("aiohttp") is not None
    if wanted == "aiohttp" and not installed:
        raise MissingDependency("transport='aiohttp' needs aiohttp: pip install 'rxstream[fast]'")
    return "aiohttp" if installed and wanted != "httpx2" else "httpx2"


_HEAVY: Final = {
    "openai": ("openai.resources.chat.completions.completions", "openai.resources.responses.responses"),
    "anthropic": ("anthropic.resources.messages.messages",),
}
"""The modules that make requests; they load all the others."""


_loaded: set[str] = set()


def load(sdk: Literal["openai", "anthropic"]) -> None:
    """Import now what the first request through `sdk` would import: a second or two in which no loop turns."""
    for name in _HEAVY[sdk]:
        importlib.import_module(name)
    _tls()
    _loaded.add(sdk)


async def loaded(sdk: Literal["openai", "anthropic"]) -> None:
    """Return when `sdk` is loaded; the loop turns meanwhile."""
    if sdk not in _loaded:
        await asyncio.to_thread(load, sdk)


def _make(key: ClientKey) -> Client:
    return _make_openai(key) if key.sdk == "openai" else _make_anthropic(key)


def _make_openai(key: ClientKey) -> AsyncOpenAI:
    from openai import AsyncOpenAI, DefaultAioHttpClient, DefaultAsyncHttpxClient, Omit  # noqa: PLC0415 - a second to load

    http = DefaultAioHttpClient if key.transport == "aiohttp" else DefaultAsyncHttpxClient
    left_out: Any = {name: Omit() for name in _not_for(key)}
    return AsyncOpenAI(
        base_url=key.base_url,
        api_key=key.api_key,
        max_retries=0,
        default_headers=left_out,
        http_client=_asks_once(http(**_options(key))),
    )


def _make_anthropic(key: ClientKey) -> AsyncAnthropic:
    from anthropic import AsyncAnthropic, DefaultAioHttpClient, DefaultAsyncHttpxClient, Omit  # noqa: PLC0415 - as long

    http = DefaultAioHttpClient if key.transport == "aiohttp" else DefaultAsyncHttpxClient
    left_out: Any = {name: Omit() for name in _not_for(key)}
    return AsyncAnthropic(
        base_url=key.base_url,
        api_key=key.api_key,
        max_retries=0,
        open_telemetry=False,
        default_headers=left_out,
        http_client=_asks_once(http(**_options(key))),
    )


def _asks_once(http: Any) -> Any:
    """`http`, without the second request that aiohttp makes of itself for a GET which was not answered: ours are counted.

    aiohttp has a private switch alone for it; the transport of the SDKs takes a function that makes its session.
    """
    for transport in (http._transport, *http._mounts.values()):
        make = getattr(transport, "get_client", None)
        if make is not None:
            transport.client = partial(_session, transport, make)
    return http


def _session(transport: Any, make: Callable[[], Any]) -> Any:
    transport.client = None
    session = make()
    session._retry_connection = False
    return session


def environment_headers(sdk: Literal["openai", "anthropic"]) -> dict[str, str]:
    """The headers that `sdk` reads from the environment and sends to whatever server it talks to, by their names."""
    pairs = (line.partition(":") for line in os.environ.get(f"{sdk.upper()}_CUSTOM_HEADERS", "").split("\n"))
    return {name.strip(): value.strip() for name, sign, value in pairs if sign}


def _not_for(key: ClientKey) -> list[str]:
    """The headers of the environment that are not meant for this server: it is neither the SDK's own nor the environment's."""
    if f"{key.base_url.rstrip('/')}/".startswith(_OWN[key.sdk]):
        return []
    if key.base_url == os.environ.get(f"{key.sdk.upper()}_BASE_URL", "").strip():
        return []
    return [*environment_headers(key.sdk), "OpenAI-Organization", "OpenAI-Project"]


def _options(key: ClientKey) -> dict[str, Any]:
    """What every client is made with."""
    import httpx2  # noqa: PLC0415 - as heavy

    most = _SHARD if key.transport == "httpx2" else _MOST
    return {
        "limits": httpx2.Limits(max_connections=most, max_keepalive_connections=_SHARD),
        "verify": _tls(),
        "follow_redirects": False,
        "event_hooks": {"response": [_answered]},
    }


async def _answered(response: httpx2.Response) -> None:
    """Leave of an answer that is no success only the head of its body, inflated."""
    import httpx2  # noqa: PLC0415 - as heavy

    whole = response.stream
    _tell_when_lost(whole)
    if response.is_success or not isinstance(whole, httpx2.AsyncByteStream):
        return
    encoding = response.headers.pop("content-encoding", "")
    body = Body(aiter(whole), encoding=encoding, max_bytes=None, torn=_broken, close=whole.aclose)
    try:
        head = await body.head(_HEAD_BYTES)
    finally:
        await body.aclose()
    response.stream = httpx2.ByteStream(head)


def _tell_when_lost(stream: Any) -> None:
    """See that whoever reads `stream` is told when its connection is lost.

    aiohttp closes the connection where a chunk has no proper size, but leaves the reader of the body waiting.
    """
    answer = getattr(getattr(stream, "_stream", stream), "_aiohttp_response", None)
    protocol = getattr(getattr(answer, "connection", None), "protocol", None)
    if answer is None or protocol is None:
        return  # of httpx2; or it has arrived as a whole
    closed: asyncio.Future[None] | None = protocol.closed
    if closed is None:
        _tell(answer)
        return
    if closed not in _read:
        closed.add_done_callback(_lost)
    _read[closed] = weakref.ref(answer)


def _lost(closed: asyncio.Future[None]) -> None:
    closed.exception()  # somebody has to take it
    if (answer := _read.pop(closed)()) is not None:
        _tell(answer)


def _tell(answer: Any) -> None:
    content = answer.content
    if not content.is_eof() and content.exception() is None:
        content.set_exception(ConnectionError("what came was not HTTP"))


def _broken(exc: Exception) -> Disconnected:
    return Disconnected(type(exc).__name__)


def no_clock(*, connect: float) -> httpx2.Timeout:
    """The SDK times the making of a connection, in seconds, and nothing else: the clocks are ours."""
    import httpx2  # noqa: PLC0415 - as heavy

    return httpx2.Timeout(None, connect=connect)


@functools.cache
def _tls() -> ssl.SSLContext:
    """Most of what a client costs; as good for all."""
    import httpx2  # noqa: PLC0415 - as heavy

    return httpx2.create_ssl_context()
