"""The stream of a model: who serves it, where, and, for ``local:``, the server of this process that is started for it.

Keys and addresses are read from the environment when the request is made, not when it is described.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rxstream.config import Limits, Request, Timeouts
from rxstream.errors import ConfigurationError
from rxstream.providers import Provider
from rxstream.sources import local
from rxstream.sources._body import Body
from rxstream.sources._clients import Transport
from rxstream.sources.sdk import Connection, open_stream

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

__all__ = ["open_model"]


@asynccontextmanager
async def open_model(
    request: Request,
    row: Provider,
    *,
    base_url: str | None,
    api_key: str | None,
    client: AsyncOpenAI | AsyncAnthropic | None,
    transport: Transport,
    timeouts: Timeouts,
    limits: Limits,
) -> AsyncIterator[Body]:
    """Make `request` of the provider `row`, and give the answer's bytes. The options are those of `Connection.to`.

    Raises:
        ConfigurationError: there is no key or no address, or the local server has another model.
        StreamError: as `rxstream.sources.sdk.open_stream`.
    """
    if row.name == "local" and base_url is None and client is None:
        server = await asyncio.to_thread(local.shared)
        if request.model != server.model:
            raise ConfigurationError(
                f"the local server has {server.model!r}, not {request.model!r}: ask for local:{server.model}, "
                "or set RXSTREAM_LOCAL_MODEL to the file of another model"
            )
        base_url, api_key = f"{server.url}/v1", server.api_key
    connection = Connection.to(
        row,
        base_url=base_url,
        api_key=api_key,
        client=client,
        transport=transport,
        timeouts=timeouts,
        limits=limits,
    )
    async with open_stream(request, connection) as body:
        yield body
