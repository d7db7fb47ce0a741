"""rxstream itself as a client that can be certified: as short as any other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Literal

from rxstream.creation import stream
from rxstream.events import Finished, TextDelta, ToolCall, UsageReported
from rxstream.sinks.iterator import to_async_iterable
from rxstream.sources.sdk import close_clients
from rxstream.testing.certify._client import Piece, Question
from rxstream.testing.certify._target import FunctionTarget
from rxstream.testing.chaos._script import DIALECTS

__all__ = ["itself"]

Transport = Literal["httpx2", "aiohttp"]


async def _answer(question: Question, *, transport: Transport) -> AsyncGenerator[Piece]:
    """One streamed answer."""
    names: tuple[str, ...] = ("connect", "first_event", "first_output", "idle")
    clocks: dict[str, float | None] = dict.fromkeys(names, question.timeout)
    answer = stream(
        f"{DIALECTS[question.dialect]}:{question.model}",
        question.prompt,
        base_url=question.base_url,
        api_key=question.api_key,
        tools=question.tools,
        transport=transport,
        timeouts=clocks,
    )
    async with to_async_iterable(answer) as events:
        async for event in events:
            match event:
                case TextDelta():
                    yield event.text
                case ToolCall():
                    yield {"tool_call": {"id": event.id, "name": event.name, "arguments": event.arguments}}
                case UsageReported():
                    usage = event.usage
                    yield {"usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}}
                case Finished():
                    yield {"finish": event.reason}
                case _:
                    pass


def itself(transport: Transport) -> FunctionTarget:
    """The library over one of its transports."""
    return FunctionTarget(partial(_answer, transport=transport), name=f"rxstream {transport}", last=close_clients)
