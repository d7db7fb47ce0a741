"""The stream of a model: who serves it, where, and, for ``local:``, the server of this process that is started for it.

Keys and addresses are read from the environment when the request is made, not when it is described.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from rxstream.config import Limits, Request, Timeouts
from rxstream.errors import ConfigurationError
from rxstream.providers import Provider, decoder_for, provider
from rxstream.sources import local
from rxstream.sources._body import Body
from rxstream.sources._clients import Transport
from rxstream.sources._pump import Source
from rxstream.sources.sdk import Connection, open_stream

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

__all__ = ["model_source"]


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
        server = await asyncio.to_thread(local.shared)
        if request.model != server.model:
            raise ConfigurationError(
                f"the local server has {server.model!r}, not {request.model!r}: ask for local:{server.model}, "
                "or set RXSTREAM_LOCAL_MODEL to the file of another model"
            )
        base_url, api_key = f"{server.url}/v1", server.api_key
    async with open_stream(request, connect(base_url=base_url, api_key=api_key)) as body:
        yield body
