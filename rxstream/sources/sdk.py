"""Streams through the official SDKs: they connect, we decode.

Rules of this module:

* An SDK does what it is good at (authentication, proxies, the provider's own headers), through its public methods.
  It parses nothing, retries nothing and times nothing but the making of a connection: the bytes are ours.
* Entering `open_stream` or `open_rest` sends the request and returns when the response is known to be an event stream.
  Leaving it closes the connection, at once; one that was read to its end is used again.
* Everything that leaves here is a `StreamError` or a `ConfigurationError`, and holds no key.
* SDKs are loaded by the first request that needs them.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, cast

from rxstream._secrets import Secrets
from rxstream.config import Limits, Request, Timeouts
from rxstream.errors import ConfigurationError, StreamError
from rxstream.providers import Provider
from rxstream.providers.anthropic import encode as anthropic
from rxstream.providers.openai_chat import encode as openai_chat
from rxstream.providers.openai_responses import encode as openai_responses
from rxstream.sources._address import check_address, check_exposure, check_key, host_of
from rxstream.sources._body import Body
from rxstream.sources._clients import (
    ClientKey,
    Transport,
    close_clients,
    environment_headers,
    lease,
    no_clock,
    pick_transport,
)
from rxstream.sources._response import Origin, event_stream, secret_headers

if TYPE_CHECKING:
    import httpx2
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

__all__ = [
    "Connection",
    "address_of",
    "call_off",
    "check_client",
    "close_clients",
    "encode_for",
    "open_rest",
    "open_stream",
    "sdk_of",
]

_CONNECT_SECONDS: Final = 10.0
_NO_KEY: Final = "no-key"
"""What the SDKs are given for servers that want none; they insist on something."""

_refuse_usage: Final[set[str]] = set()
"""Base URLs of the servers that do not know ``stream_options``."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where requests go, with which key and over what. Made by `to`, which checks all of it.

    It cannot be pickled, and its ``repr`` shows no key.
    """

    provider: Provider
    base_url: str
    transport: Literal["httpx2", "aiohttp"]
    connect_seconds: float = _CONNECT_SECONDS
    max_bytes: int | None = None
    client: Any = field(default=None, repr=False)
    """The user's own AsyncOpenAI or AsyncAnthropic (or a kind of them for Azure, Vertex …), or None for a shared one."""
    _key: str = field(default="", repr=False)

    @classmethod
    def to(
        cls,
        provider: Provider,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        client: AsyncOpenAI | AsyncAnthropic | None = None,
        transport: Transport = "auto",
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
    ) -> Connection:
        """The connection to `provider`; what is not given comes from the environment or from the provider's row.

        Args:
            provider: Its row of the registry.
            base_url: Another server that speaks the same dialect.
            api_key: The key; else the first of the row's environment variables that is set.
            client: An async client of the SDK, used as it is but without its retries and read timeout. It keeps its own
                URL, key and transport, and stays yours to close.
            transport: What carries the bytes.
            timeouts: ``connect`` shortens the 10 seconds that making the connection may take; all else is not ours.
            limits: ``stream_bytes``.

        Raises:
            ConfigurationError: there is no key or no URL, or a client that cannot be used.
            MissingDependency: `transport` needs a package that is not installed.
        """
        seconds = (timeouts or Timeouts()).connect or _CONNECT_SECONDS
        if client is not None:
            check_client(client, provider, alone=base_url is None and api_key is None)
        url = address_of(provider, base_url=base_url, client=client)
        if not url:
            raise ConfigurationError(f"{provider.name} has no URL of its own: give base_url=")
        key = "" if client is not None else _key_for(provider, api_key)
        if client is None:
            check_address(url, named="base_url" if base_url else _first_name(provider.base_url_env, "base_url"))
        if key not in ("", _NO_KEY):
            check_exposure(url, what="the key")
        return cls(
            provider=provider,
            base_url=url,
            transport=pick_transport(transport),
            connect_seconds=min(seconds, _CONNECT_SECONDS),
            max_bytes=(limits or Limits()).stream_bytes,
            client=client,
            _key=key,
        )

    def secrets(self) -> Iterable[object]:
        """What must not be seen in any message: the keys."""
        if self.client is not None:
            yield from secret_headers(self.client.default_headers)
            named = cast("dict[str, Any]", vars(self.client))  # alike: api_key, auth_token, aws_secret_key …
            yield from secret_headers(named)
        else:
            yield from [self._key] if self._key != _NO_KEY else []
            yield from secret_headers(environment_headers(sdk_of(self.provider)))
        proxies = (value for name, value in os.environ.items() if name.lower().endswith("_proxy"))
        yield from (proxy.rpartition("@")[0].rpartition(":")[2] for proxy in proxies)

    def lease(self) -> AbstractAsyncContextManager[Any]:
        """A client for one stream: the user's, or a shared one of the running loop."""
        if self.client is not None:
            return nullcontext(self.client.with_options(max_retries=0))
        sdk = sdk_of(self.provider)
        return lease(ClientKey(sdk=sdk, base_url=self.base_url, api_key=self._key, transport=self.transport))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Connection holds a key and cannot be pickled")


@asynccontextmanager
async def open_stream(request: Request, connection: Connection) -> AsyncGenerator[Body, None]:
    """Send `request` and give the body of the answer: an async iterator of bytes, as they come.

    ``await body.drain()`` after the provider's last mark lets the connection be used again.

    Raises:
        ConfigurationError: the provider cannot be asked this. Nothing was sent.
        ConnectError: no connection, or it broke before the response headers.
        UnexpectedContentType: the answer is not an event stream.
        StreamError: what the provider answered in place of a stream, by its own type and code.
    """
    async with _opened(_Question(request, connection)) as body:
        yield body


@asynccontextmanager
async def open_rest(
    path: str, query: Mapping[str, object], *, request: Request, connection: Connection
) -> AsyncGenerator[Body, None]:
    """The body of what the provider keeps of the answer to `request`: ``GET path?query``, below the base URL.

    Raises:
        StreamError: as `open_stream`; `BadRequest` where it is kept no longer.
    """
    async with _opened(_Rest(path, query, request, connection)) as body:
        yield body


async def call_off(
    method: Literal["post", "delete"],
    path: str,
    query: Mapping[str, object],
    *,
    request: Request,
    connection: Connection,
) -> None:
    """Tell the provider that the answer to `request` is not wanted any more. Whatever goes wrong is raised as it is.

    What it answers is not read, however long it is.
    """
    import httpx2  # noqa: PLC0415 - loaded by now

    headers = {
        **_headers(request, connection),
        "X-Stainless-Raw-Response": "stream",
    }  # what `with_streaming_response` sends
    options = {"params": query, "headers": headers, "timeout": no_clock(connect=_CONNECT_SECONDS)}
    async with connection.lease() as client:
        response: httpx2.Response = await getattr(client, method)(path, cast_to=httpx2.Response, options=options)
        await response.aclose()


@asynccontextmanager
async def _opened(exchange: _Exchange) -> AsyncGenerator[Body, None]:
    async with AsyncExitStack() as stack:
        body = await exchange.open(stack)
        stack.push_async_callback(body.aclose)
        try:
            yield body
        except StreamError as error:  # of who decodes the body: it may quote a key that the provider has quoted
            exchange.origin.secrets.clean(error)
            raise


class _Exchange(ABC):
    """One request, up to the response headers."""

    def __init__(self, request: Request, connection: Connection) -> None:
        self._request = request
        self._connection = connection
        self._headers = _headers(request, connection)
        hidden = [*secret_headers(request.extra_headers)]
        if hidden and connection.client is None:
            check_exposure(connection.base_url, what="a key in extra_headers")
        self.origin = Origin(
            host=host_of(connection.base_url),
            dialect=connection.provider.dialect,
            secrets=Secrets([*connection.secrets(), *hidden]),
            max_bytes=connection.max_bytes,
        )

    @abstractmethod
    async def _send(self, client: Any) -> httpx2.Response:
        """The response, unread."""

    async def open(self, stack: AsyncExitStack) -> Body:
        response = await self._ask(stack)
        pieces = cast("AsyncIterable[bytes]", response.stream)  # a microsecond a piece less than through aiter_raw()
        return await event_stream(response, self.origin, pieces=aiter(pieces), close=response.aclose)

    async def _ask(self, stack: AsyncExitStack) -> httpx2.Response:
        try:
            client = await stack.enter_async_context(self._connection.lease())
            return await self._send(client)
        except Exception as exc:  # noqa: BLE001 - the SDKs' own errors hold keys: none may leave
            error = self.origin.not_connected(exc)
        raise error


class _Question(_Exchange):
    """What the model is asked."""

    def __init__(self, request: Request, connection: Connection) -> None:
        super().__init__(request, connection)
        self._payload = encode_for(request, connection.provider)

    async def _ask(self, stack: AsyncExitStack) -> httpx2.Response:
        if self._connection.base_url in _refuse_usage:
            self._payload.pop("stream_options", None)
        try:
            return await super()._ask(stack)
        except StreamError as error:
            if not self._is_about_usage(error):
                raise
        _refuse_usage.add(self._connection.base_url)
        del self._payload["stream_options"]
        return await super()._ask(stack)

    def _is_about_usage(self, error: StreamError) -> bool:
        words = error.message + error.body
        return error.status in (400, 422) and "stream_options" in self._payload and "stream_options" in words

    async def _send(self, client: Any) -> httpx2.Response:
        named: tuple[str, ...]
        headers = self._headers
        match self._connection.provider.dialect:
            case "anthropic":
                if self._request.extra_headers:  # the SDK logs those of a request, but not those of a client
                    client, headers = client.with_options(default_headers=headers), {}
                named, resource = ("model", "messages", "max_tokens"), client.messages
            case "openai-chat":
                named, resource = ("model", "messages"), client.chat.completions
            case "openai-responses":
                named, resource = ("model", "input"), client.responses
        response = await resource.with_streaming_response.create(
            **{name: self._payload[name] for name in named},
            stream=True,
            extra_body={name: value for name, value in self._payload.items() if name not in (*named, "stream")},
            extra_headers=headers,
            timeout=no_clock(connect=self._connection.connect_seconds),
        ).__aenter__()
        raw: httpx2.Response = response.http_response
        return raw


class _Rest(_Exchange):
    """What follows of an answer that the provider keeps. Only OpenAI's SDK has such a thing."""

    def __init__(self, path: str, query: Mapping[str, object], request: Request, connection: Connection) -> None:
        super().__init__(request, connection)
        self._path = path
        self._query = query

    async def _send(self, client: Any) -> httpx2.Response:
        from openai import AsyncStream  # noqa: PLC0415 - loaded by now

        options = {
            "params": self._query,
            "headers": {"Accept": "text/event-stream", **self._headers},
            "timeout": no_clock(connect=self._connection.connect_seconds),
        }
        opened = await client.get(
            self._path, cast_to=object, options=options, stream=True, stream_cls=AsyncStream[object]
        )
        raw: httpx2.Response = opened.response
        return raw


def _headers(request: Request, connection: Connection) -> dict[str, str]:
    once = {} if connection.provider.quirks.keeps_connections else {"Connection": "close"}
    return {"Accept-Encoding": "identity", **once, **request.extra_headers}


def address_of(
    provider: Provider, *, base_url: str | None = None, client: AsyncOpenAI | AsyncAnthropic | None = None
) -> str:
    """Where requests to `provider` go, as the environment says now; empty where only the caller can know."""
    if client is not None:
        return str(client.base_url)
    return base_url or _first_set(provider.base_url_env) or provider.base_url


def encode_for(request: Request, provider: Provider) -> dict[str, Any]:
    """The JSON body with which `provider` is asked.

    Raises:
        ConfigurationError: it cannot be asked this.
    """
    match provider.dialect:
        case "anthropic":
            return anthropic.encode(request)
        case "openai-responses":
            return openai_responses.encode(request)
        case "openai-chat":
            quirks = provider.quirks
            return openai_chat.encode(
                request,
                max_tokens_field=quirks.max_tokens,
                thinking_field=quirks.reasoning_field,
                usage_option=quirks.ask_usage,
            )


def sdk_of(provider: Provider) -> Literal["openai", "anthropic"]:
    """The SDK that asks this provider."""
    return "anthropic" if provider.dialect == "anthropic" else "openai"


def check_client(client: Any, provider: Provider, *, alone: bool) -> None:
    """Refuse what is not an async client of the SDK that the provider's dialect needs, or what was not given `alone`.

    Raises:
        ConfigurationError: it is none; or a URL or a key was given beside it.
    """
    if not alone:
        raise ConfigurationError("give either client= or base_url= and api_key=: a client has its own")
    sdk = sdk_of(provider)
    wanted = "AsyncAnthropic" if sdk == "anthropic" else "AsyncOpenAI"
    names = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(client).__mro__}
    if f"{sdk}.SyncAPIClient" in names:
        raise ConfigurationError(f"client: {type(client).__name__} blocks; give {wanted} with the same arguments")
    if f"{sdk}.AsyncAPIClient" not in names:
        raise ConfigurationError(f"client: {provider.name} needs an {wanted}, not {type(client).__name__}")


def _key_for(provider: Provider, given: str | None) -> str:
    named = "api_key" if given else _first_name(provider.api_key_env, "api_key")
    if key := check_key(given or _first_set(provider.api_key_env), named=named):
        return key
    if not provider.key_required:
        return _NO_KEY
    raise ConfigurationError(f"no key for {provider.name}: set {' or '.join(provider.api_key_env)}, or give api_key=")


def _first_set(names: Iterable[str]) -> str:
    return os.environ.get(_first_name(names, ""), "").strip()


def _first_name(names: Iterable[str], otherwise: str) -> str:
    """The first of these variables that is set, else `otherwise`."""
    return next((name for name in names if os.environ.get(name, "").strip()), otherwise)
