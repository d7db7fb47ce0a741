"""Streams that somebody else has opened with an official SDK, made ours.

Rules of this module:

* The SDK's object is known by its class's name and package: nothing is imported to look at it.
* We read the response's bytes and decode them ourselves: what an SDK's iterator hides (a cut stream above all) is seen.
  Amazon Bedrock's binary frames are the one exception: there the SDK's events are written out and decoded again.
* A synchronous stream is read by a thread of its own. To close it is to shut its socket down, which wakes the thread.
* An SDK's stream can be read once. A second subscription is told so.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from rxstream._secrets import Secrets
from rxstream.config import Limits
from rxstream.errors import ConfigurationError, StreamError
from rxstream.providers import PROVIDERS, decoder_for
from rxstream.providers.compatible import Dialect
from rxstream.sources._address import host_of
from rxstream.sources._body import Body
from rxstream.sources._response import Origin, event_stream, secret_headers
from rxstream.typing import Decoder
from rxstream.wire.sse import ServerSentEvent, encode

__all__ = ["Adopted", "adopt", "is_sdk_stream"]

_HELPERS: Final[Mapping[str, Dialect]] = {
    "MessageStream": "anthropic",
    "ChatCompletionStream": "openai-chat",
    "ResponseStream": "openai-responses",
}
"""What the SDKs' ``.stream()`` gives once it is entered. Before, its class is named ``…Manager``."""

_ROWS: Final[Mapping[Dialect, str]] = {
    "anthropic": "anthropic",
    "openai-chat": "compatible",
    "openai-responses": "openai",
}
"""The row of the registry for a server that has none of its own."""

_CLOSE_SECONDS: Final = 1.0
"""How long to wait for a thread whose socket was shut down."""


class Adopted(NamedTuple):
    """A stream that was adopted: how to read it, how to decode it, and whose it is."""

    open: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]
    decoder: Callable[[], Decoder]
    provider: str
    """Name of the row of the registry that fits its dialect and its server."""


def is_sdk_stream(value: object) -> bool:
    """Whether `value` is a stream of the openai or the anthropic SDK, in any of its forms."""
    return _shape(value)[0] is not None


def adopt(stream: object, *, keep_raw: bool = True, limits: Limits | None = None) -> Adopted:
    """Make an open stream of an SDK ours.

    Args:
        stream: What ``create(stream=True)`` gave, of the synchronous or the asynchronous client; or what ``.stream()``
            gave, as long as nothing was read from it. It is closed when the subscription ends.
        keep_raw: Keep the provider's bytes on the events.
        limits: ``stream_bytes`` and ``event_bytes``.

    Raises:
        ConfigurationError: it is no such stream, or one of an API that is not read here.
    """
    limits = limits or Limits()
    dialect, row = _identify(stream)
    used = False

    @asynccontextmanager
    async def open_stream() -> AsyncGenerator[Body, None]:
        nonlocal used
        if used:
            raise ConfigurationError("a stream of an SDK can be read once: make a new request for each subscription")
        used = True
        plain = _plain(await _entered(stream, dialect))
        origin = _origin(plain.response, dialect, limits.stream_bytes)
        body = await _body(plain, origin)
        try:
            yield body
        except StreamError as error:  # of who decodes the body: it may quote a key that the provider has quoted
            origin.secrets.clean(error)
            raise
        finally:
            await body.aclose()

    def decoder() -> Decoder:
        return decoder_for(row, keep_raw=keep_raw, max_event_bytes=limits.event_bytes)

    return Adopted(open_stream, decoder, row)


def _shape(value: object) -> tuple[Literal["plain", "helper", "manager"] | None, str, str]:
    """What form of stream it is, of which SDK, and its class's name without ``Async`` and ``Beta``."""
    for base in type(value).__mro__:
        sdk = base.__module__.partition(".")[0]
        if sdk not in ("openai", "anthropic"):
            continue
        name = base.__name__.replace("Async", "").replace("Beta", "").removesuffix("Manager")
        if name == "Stream":
            return "plain", sdk, name
        if name in _HELPERS:
            return "manager" if base.__name__.endswith("Manager") else "helper", sdk, name
    return None, "", ""


def _identify(stream: Any) -> tuple[Dialect, str]:
    """The dialect of a stream, and the row of the registry that fits best."""
    shape, sdk, name = _shape(stream)
    if shape is None:
        raise ConfigurationError(
            "must be a target such as 'anthropic:claude-haiku-4-5', or a stream that the openai or the anthropic SDK has "
            f"opened: {type(stream).__name__} is not a stream of the openai or the anthropic SDK"
        )
    if shape == "manager":
        if not hasattr(stream, "__aenter__"):
            raise ConfigurationError(f"enter the {type(stream).__name__} with `with` and give what that yields")
        return _HELPERS[name], _ROWS[_HELPERS[name]]
    url = urlsplit(str(_plain(stream).response.request.url))
    dialect = "anthropic" if sdk == "anthropic" else _openai_dialect(url.path)
    for row in PROVIDERS.values():
        if row.dialect == dialect and url.hostname == urlsplit(row.base_url).hostname and not row.local:
            return dialect, row.name
    return dialect, _ROWS[dialect]


def _openai_dialect(path: str) -> Dialect:
    if path.endswith("/chat/completions"):
        return "openai-chat"
    if "/responses" in path:
        return "openai-responses"
    raise ConfigurationError(f"a stream of {path} cannot be adopted: only Chat Completions, Responses and Messages can")


def _plain(stream: Any) -> Any:
    """The SDK's plain stream: itself, or what the helper wraps."""
    return getattr(stream, "_raw_stream", stream)


async def _entered(stream: Any, dialect: Dialect) -> Any:
    """What a ``.stream()`` that was not entered yet gives: this sends its request."""
    if _shape(stream)[0] != "manager":
        return stream
    try:
        return await stream.__aenter__()
    except Exception as exc:  # noqa: BLE001 - the SDKs' own errors hold keys: none may leave
        origin = Origin(host="the server", dialect=dialect, secrets=Secrets(_secrets_of(exc)), max_bytes=None)
        error = origin.not_connected(exc)
    raise error


def _secrets_of(exc: Any) -> Iterator[str]:
    request = getattr(exc, "request", None)
    if request is not None:
        yield from secret_headers(request.headers)


def _origin(response: Any, dialect: Dialect, max_bytes: int | None) -> Origin:
    return Origin(
        host=host_of(str(response.request.url)),
        dialect=dialect,
        secrets=Secrets(secret_headers(response.request.headers)),
        max_bytes=max_bytes,
    )


async def _body(stream: Any, origin: Origin) -> Body:
    response: Any = stream.response
    if response.is_stream_consumed or response.is_closed:
        raise ConfigurationError("the stream was read or closed before: its bytes are gone")
    binary = "eventstream" in response.headers.get("content-type", "")
    if hasattr(stream, "__aiter__"):
        pieces = _rewritten_async(stream) if binary else response.aiter_raw()
        close = response.aclose
    else:
        pieces = _Thread(_rewritten(stream) if binary else response.iter_raw(), response)
        close = pieces.aclose
    return await event_stream(response, origin, pieces=pieces, close=close, decoded=binary)


def _rewrite(event: Any) -> bytes:
    data: str = event.to_json(indent=None)
    return encode(ServerSentEvent(event=event.type, data=data.encode()))


def _rewritten(stream: Any) -> Iterator[bytes]:
    for event in stream:
        yield _rewrite(event)


async def _rewritten_async(stream: Any) -> AsyncIterator[bytes]:
    async for event in stream:
        yield _rewrite(event)


class _Thread:
    """A synchronous response, read by a thread of its own."""

    def __init__(self, pieces: Iterator[bytes], response: Any) -> None:
        self._pieces = pieces
        self._response = response
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rxstream-adopt")
        self._ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        loop = asyncio.get_running_loop()
        piece: bytes | None = await loop.run_in_executor(self._thread, next, self._pieces, None)
        if piece is None:
            self._ended = True
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Wake the thread if it reads, close the response, and let the thread go."""
        if not self._ended:
            with suppress(KeyError, AttributeError, OSError):  # no socket to be had, or closed already
                wire: socket.socket = self._response.extensions["network_stream"].get_extra_info("socket")
                wire.shutdown(socket.SHUT_RDWR)
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._response.close)
        self._thread.shutdown(wait=False)
        await asyncio.wait_for(asyncio.shield(closing), _CLOSE_SECONDS)
