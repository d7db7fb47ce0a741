"""The stream of a model: who serves it, where, and, for ``local:``, the server of this process that is started for it.

Keys and addresses are read from the environment when the request is made, not when it is described.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, get_args

from rxstream._check import flag, instance, one_of
from rxstream.config import Limits, Request, Target, Timeouts
from rxstream.errors import ConfigurationError
from rxstream.providers import PROVIDERS, Provider, decoder_for, provider
from rxstream.sources import local
from rxstream.sources._address import check_address, check_key
from rxstream.sources._clients import Transport, load, loaded
from rxstream.sources._conversation import ModelAsking, asked
from rxstream.sources._source import Source
from rxstream.sources.sdk import Connection, address_of, check_client, sdk_of

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

__all__ = ["model_asking", "preload"]


def model_asking(
    request: Request,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    client: AsyncOpenAI | AsyncAnthropic | None = None,
    transport: Transport = "auto",
    timeouts: Timeouts | Mapping[str, float | None] | float | None = None,
    limits: Limits | Mapping[str, int | None] | None = None,
    label: str = "",
    keep_raw: bool = True,
    keep_partial: bool = True,
) -> ModelAsking:
    """A source that makes `request` of its provider, anew for every subscription, and how to ask it again.

    For the options see `rxstream.stream`.

    Raises:
        ConfigurationError: no provider has this name; a clock or a limit is not as described.
    """
    row = provider(request.provider)
    one_of("transport", transport, get_args(Transport))
    instance("label", label, str)
    flag("keep_raw", keep_raw)
    flag("keep_partial", keep_partial)
    if client is not None:
        check_client(client, row, alone=base_url is None and api_key is None)
    if base_url is not None:
        check_address(base_url, named="base_url")
    if api_key is not None:
        check_key(api_key, named="api_key")
    clocks, bounds = Timeouts.of(timeouts), Limits.of(limits)
    to = partial(Connection.to, row, client=client, transport=transport, timeouts=clocks, limits=bounds)
    if row.name == "local" and base_url is None and client is None:
        connect, address = partial(_connect_here, to, request.model), _here
    else:
        connect = partial(_connect, to, base_url, api_key)
        address = partial(address_of, row, base_url=base_url, client=client)
    source = Source(
        open=partial(asked, request, connect),
        prepare=partial(_prepare, row, connect),
        decoder=partial(decoder_for, row.name, keep_raw=keep_raw, max_event_bytes=bounds.event_bytes),
        label=label,
        provider=row.name,
        model=request.model,
        asks=request,
        timeouts=clocks,
        read_ahead=bounds.read_ahead_bytes,
        max_events=bounds.events,
        keep_partial=keep_partial,
    )
    return ModelAsking(request=request, provider=row, connect=connect, address=address, source=source)


async def _prepare(row: Provider, connect: Callable[[], Awaitable[Connection]]) -> None:
    """See whether it can be asked at all, and load what asks."""
    await connect()
    await loaded(sdk_of(row))


async def _connect(to: Callable[..., Connection], base_url: str | None, api_key: str | None) -> Connection:
    """A connection, with what the environment says now."""
    return to(base_url=base_url, api_key=api_key)


async def _connect_here(to: Callable[..., Connection], model: str) -> Connection:
    """A connection to the server of this process; it is started if it does not run."""
    base_url, api_key = await asyncio.to_thread(_serve, model)
    return to(base_url=base_url, api_key=api_key)


def _here() -> str:
    """The address of the server of this process, which has another each time that it is started."""
    return ""


def _serve(model: str) -> tuple[str, str]:
    """Address and key of the server of this process, which has `model`."""
    server = local.shared()
    if model != server.model:
        raise ConfigurationError(
            f"the local server has {server.model!r}, not {model!r}: ask for local:{server.model}, "
            "or set RXSTREAM_LOCAL_MODEL to the file of another model"
        )
    return f"{server.url}/v1", server.api_key


def preload(target: str, *, base_url: str | None = None, api_key: str | None = None) -> None:
    """Do now what the first request to `target` would wait for: load the SDK, start the local model. Sends nothing.

    It blocks for a second or two. Call it before the event loop runs, so that no stream stands still meanwhile, and no
    clock counts it.

    Args:
        target: ``provider:model``, as for `rxstream.stream`.
        base_url: As for `rxstream.stream`.
        api_key: As for `rxstream.stream`.

    Raises:
        ConfigurationError: there is no such provider, no key or no address, or the local server has another model.
        MissingDependency: the local model is not installed; the message has the command.
    """
    where = Target.parse(target, known=PROVIDERS)
    row = provider(where.provider)
    if row.name == "local" and base_url is None:
        base_url, api_key = _serve(where.model)
    Connection.to(row, base_url=base_url, api_key=api_key)
    load(sdk_of(row))
