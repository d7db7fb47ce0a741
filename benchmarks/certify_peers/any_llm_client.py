"""any-llm: ``acompletion(stream=True)`` for each of its providers, ``aresponses`` for Responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from any_llm import acompletion, aresponses


async def completion(question: Any) -> AsyncIterator[Any]:
    """Chunks as those of Chat Completions."""
    options = {
        "model": question.model,
        "api_key": question.api_key,
        "api_base": question.base_url,
        "client_args": {"timeout": question.timeout, "max_retries": 0},
        "stream": True,
    }
    if question.dialect == "openai-responses":
        tools = [{"type": "function", "strict": False, **tool} for tool in question.tools]
        stream: Any = await aresponses(provider="openai", input_data=question.prompt, tools=tools or None, **options)
        pieces = _responses(stream)
    else:
        provider = "anthropic" if question.dialect == "anthropic" else "openai"
        more = {} if provider == "anthropic" else {"stream_options": {"include_usage": True}}
        tools = [{"type": "function", "function": tool} for tool in question.tools]
        stream = await acompletion(
            provider=provider,
            messages=[{"role": "user", "content": question.prompt}],
            tools=tools or None,
            **more,
            **options,
        )
        pieces = _chunks(stream)
    try:
        async for piece in pieces:
            yield piece
    finally:
        close = getattr(stream, "aclose", None) or stream.close
        await close()


async def _chunks(stream: Any) -> AsyncIterator[Any]:
    calls: dict[int, dict[str, str]] = {}
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


async def _responses(stream: Any) -> AsyncIterator[Any]:
    async for event in stream:
        match event.type:
            case "response.output_text.delta":
                yield event.delta
            case "response.output_item.done" if event.item.type == "function_call":
                yield {"tool_call": {"name": event.item.name, "arguments": event.item.arguments}}
            case "response.completed":
                counts = event.response.usage
                yield {"usage": {"input_tokens": counts.input_tokens, "output_tokens": counts.output_tokens}}
            case "response.failed":
                raise RuntimeError(event.response.error)
            case _:
                pass
