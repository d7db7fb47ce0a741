"""The official anthropic SDK, async: its raw stream and its helper, as its README shows them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic


def _arguments(question: Any) -> dict[str, Any]:
    if question.dialect != "anthropic":
        raise NotImplementedError(question.dialect)
    tools = [
        {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]}
        for tool in question.tools
    ]
    return {
        "model": question.model,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": question.prompt}],
        "tools": tools or anthropic.omit,
    }


def _client(question: Any) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(
        base_url=question.base_url, api_key=question.api_key, timeout=question.timeout, max_retries=0
    )


async def raw(question: Any) -> AsyncIterator[Any]:
    """``messages.create(stream=True)``."""
    arguments = _arguments(question)
    calls: dict[int, dict[str, str]] = {}
    given: int | None = None
    async with _client(question) as client, await client.messages.create(**arguments, stream=True) as stream:
        async for event in stream:
            match event.type:
                case "message_start":
                    given = event.message.usage.input_tokens
                case "content_block_start" if event.content_block.type == "tool_use":
                    calls[event.index] = {"name": event.content_block.name, "arguments": ""}
                case "content_block_delta" if event.delta.type == "text_delta":
                    yield event.delta.text
                case "content_block_delta" if event.delta.type == "input_json_delta":
                    calls[event.index]["arguments"] += event.delta.partial_json
                case "message_delta":
                    yield {"usage": {"input_tokens": given, "output_tokens": event.usage.output_tokens}}
                case _:
                    pass
    for call in calls.values():
        yield {"tool_call": call}


async def helper(question: Any) -> AsyncIterator[Any]:
    """``messages.stream()``: its text, and the final message at the end."""
    arguments = _arguments(question)
    async with _client(question) as client, client.messages.stream(**arguments) as stream:
        async for text in stream.text_stream:
            yield text
        final = await stream.get_final_message()
    for block in final.content:
        if block.type == "tool_use":
            yield {"tool_call": {"name": block.name, "arguments": block.input}}
    yield {"usage": {"input_tokens": final.usage.input_tokens, "output_tokens": final.usage.output_tokens}}
    yield {"finish": final.stop_reason}
