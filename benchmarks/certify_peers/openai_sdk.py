"""The official openai SDK, async: its raw streams, as its README shows them, in ``async with``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai


def _client(question: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=question.base_url, api_key=question.api_key, timeout=question.timeout, max_retries=0
    )


async def raw(question: Any) -> AsyncIterator[Any]:
    """``chat.completions.create(stream=True)`` and ``responses.create(stream=True)``."""
    async with _client(question) as client:
        if question.dialect == "openai-chat":
            async for piece in _chat(client, question):
                yield piece
        elif question.dialect == "openai-responses":
            async for piece in _responses(client, question):
                yield piece
        else:
            raise NotImplementedError(question.dialect)


async def _chat(client: openai.AsyncOpenAI, question: Any) -> AsyncIterator[Any]:
    stream = await client.chat.completions.create(
        model=question.model,
        messages=[{"role": "user", "content": question.prompt}],
        tools=[{"type": "function", "function": tool} for tool in question.tools] or openai.omit,
        stream=True,
        stream_options={"include_usage": True},
    )
    calls: dict[int, dict[str, str]] = {}
    async with stream:
        async for chunk in stream:
            if chunk.usage:
                counts = chunk.usage
                yield {"usage": {"input_tokens": counts.prompt_tokens, "output_tokens": counts.completion_tokens}}
            for choice in chunk.choices:
                if choice.delta.content:
                    yield choice.delta.content
                for part in choice.delta.tool_calls or ():
                    call = calls.setdefault(part.index, {"name": "", "arguments": ""})
                    call["name"] += part.function.name or ""
                    call["arguments"] += part.function.arguments or ""
                if choice.finish_reason:
                    yield {"finish": choice.finish_reason}
    for call in calls.values():
        yield {"tool_call": call}


async def _responses(client: openai.AsyncOpenAI, question: Any) -> AsyncIterator[Any]:
    stream = await client.responses.create(
        model=question.model,
        input=question.prompt,
        tools=[{"type": "function", "strict": False, **tool} for tool in question.tools],
        stream=True,
    )
    async with stream:
        async for event in stream:
            for piece in _told(event):
                yield piece


def _told(event: Any) -> list[Any]:
    match event.type:
        case "response.output_text.delta":
            return [event.delta]
        case "response.output_item.done" if event.item.type == "function_call":
            return [{"tool_call": {"name": event.item.name, "arguments": event.item.arguments}}]
        case "response.completed":
            counts = event.response.usage
            return [{"usage": {"input_tokens": counts.input_tokens, "output_tokens": counts.output_tokens}}]
        case "response.failed":
            raise RuntimeError(event.response.error)
        case _:
            return []


async def helper(question: Any) -> AsyncIterator[Any]:
    """``chat.completions.stream()`` and ``responses.stream()``, with the final object at the end."""
    if question.dialect == "anthropic":
        raise NotImplementedError(question.dialect)
    async with _client(question) as client:
        if question.dialect == "openai-chat":
            manager: Any = client.chat.completions.stream(
                model=question.model,
                messages=[{"role": "user", "content": question.prompt}],
                tools=[{"type": "function", "function": tool} for tool in question.tools] or openai.omit,
                stream_options={"include_usage": True},
            )
        else:
            manager = client.responses.stream(
                model=question.model,
                input=question.prompt,
                tools=[{"type": "function", "strict": False, **tool} for tool in question.tools],
            )
        async with manager as stream:
            async for event in stream:
                if event.type in ("content.delta", "response.output_text.delta"):
                    yield event.delta
            for piece in await _final(stream, question):
                yield piece


async def _final(stream: Any, question: Any) -> list[Any]:
    if question.dialect == "openai-chat":
        final = await stream.get_final_completion()
        calls = [call.function for call in final.choices[0].message.tool_calls or ()]
        counts = (final.usage.prompt_tokens, final.usage.completion_tokens) if final.usage else (None, None)
    else:
        final = await stream.get_final_response()
        calls = [item for item in final.output if item.type == "function_call"]
        counts = (final.usage.input_tokens, final.usage.output_tokens) if final.usage else (None, None)
    told: list[Any] = [{"tool_call": {"name": call.name, "arguments": json.loads(call.arguments)}} for call in calls]
    return [*told, {"usage": {"input_tokens": counts[0], "output_tokens": counts[1]}}]
