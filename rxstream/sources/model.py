"""The stream of a model: who serves it, where, and, for ``local:``, the server of this process that is started for it.

Keys and addresses are read from the environment when the request is made, not when it is described.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from rxstream.config import Limits, Request, Target, Timeouts
from rxstream.errors import ConfigurationError
from rxstream.providers import PROVIDERS, Provider, decoder_for, provider
from rxstream.sources import local
from rxstream.sources._body import Body
from rxstream.sources._clients import Transport, load
from rxstream.sources._pump import Source
from rxstream.sources.sdk import Connection, open_stream

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

__all__ = ["model_source", "preload"]


def model_source(
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
) -> Source[bytes]:
    """A source that makes `request` of its provider, anew for every subscription. For the options see `rxstream.stream`.

    Raises:
        ConfigurationError: no provider has this name; a clock or a limit is not as described.
    """
    row = provider(request.provider)
    clocks, bounds = Timeouts.of(timeouts), Limits.of(limits)
    connect = partial(Connection.to, row, client=client, transport=transport, timeouts=clocks, limits=bounds)
    return Source(
        open=partial(_open, request, row, connect, base_url, api_key, here=base_url is None and client is None),
        decoder=partial(decoder_for, row.name, keep_raw=keep_raw, max_event_bytes=bounds.event_bytes),
        label=label,
        provider=row.name,
        model=request.model,
        timeouts=clocks,
        read_ahead=bounds.read_ahead_bytes,
        max_events=bounds.events,
        keep_partial=keep_partial,
    )


@asynccontextmanager
async def _open(
    request: Request,
    row: Provider,
    connect: Callable[..., Connection],
    base_url: str | None,
    api_key: str | None,
    *,
    here: bool,
) -> AsyncGenerator[Body]:
    """The answer's bytes; for ``local:`` without an address, from the server of this process."""
    if here and row.name == "local":
        base_url, api_key = await asyncio.to_thread(_serve, request.model)
    async with open_stream(request, connect(base_url=base_url, api_key=api_key)) as body:
        yield body


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
    load("anthropic" if row.dialect == "anthropic" else "openai")
