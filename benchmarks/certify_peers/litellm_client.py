"""litellm: ``acompletion(stream=True)``, with what `stream_chunk_builder` makes of the chunks at the end."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

os.environ.setdefault(
    "LITELLM_LOCAL_MODEL_COST_MAP", "True"
)  # else it asks the internet for prices when it is imported

import litellm

litellm.suppress_debug_info = True
litellm.telemetry = False


async def completion(question: Any) -> AsyncIterator[Any]:
    """Chat Completions and Messages through its one function."""
    if question.dialect == "openai-responses":
        raise NotImplementedError(question.dialect)
    provider = "anthropic" if question.dialect == "anthropic" else "openai"
    messages = [{"role": "user", "content": question.prompt}]
    stream: Any = await litellm.acompletion(
        model=f"{provider}/{question.model}",
        messages=messages,
        api_base=question.base_url,
        api_key=question.api_key,
        tools=[{"type": "function", "function": tool} for tool in question.tools] or None,
        timeout=question.timeout,
        num_retries=0,
        max_retries=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = []
    try:
        async for chunk in stream:
            chunks.append(chunk)
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content
    finally:
        await stream.aclose()
    if question.model.startswith("burst"):
        return
    whole: Any = litellm.stream_chunk_builder(chunks, messages=messages)
    for call in whole.choices[0].message.tool_calls or ():
        yield {"tool_call": {"name": call.function.name, "arguments": call.function.arguments}}
    yield {"usage": {"input_tokens": whole.usage.prompt_tokens, "output_tokens": whole.usage.completion_tokens}}
    yield {"finish": whole.choices[0].finish_reason}
