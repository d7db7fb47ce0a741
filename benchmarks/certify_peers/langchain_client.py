"""langchain-openai and langchain-anthropic: ``astream``, and the sum of its chunks at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI


def _model(question: Any) -> Any:
    common = {"model": question.model, "api_key": question.api_key, "timeout": question.timeout, "max_retries": 0}
    if question.dialect == "anthropic":
        return ChatAnthropic(base_url=question.base_url, **common)
    responses = question.dialect == "openai-responses"
    return ChatOpenAI(base_url=question.base_url, stream_usage=True, use_responses_api=responses, **common)


async def astream(question: Any) -> AsyncIterator[Any]:
    """``model.astream(prompt)``."""
    model = _model(question)
    if question.tools:
        model = model.bind_tools([{"type": "function", "function": tool} for tool in question.tools])
    whole: Any = None
    async with aclosing(model.astream(question.prompt)) as stream:
        async for chunk in stream:
            if text := str(chunk.text):
                yield text
            if chunk.tool_call_chunks or chunk.usage_metadata or chunk.response_metadata.get("finish_reason"):
                whole = chunk if whole is None else whole + chunk  # text need not be added up
    if whole is None:
        return
    for call in [*whole.tool_calls, *whole.invalid_tool_calls]:
        yield {"tool_call": {"name": call["name"], "arguments": call["args"]}}
    if usage := whole.usage_metadata:
        yield {"usage": {"input_tokens": usage["input_tokens"], "output_tokens": usage["output_tokens"]}}
    yield {"finish": whole.response_metadata.get("finish_reason") or whole.response_metadata.get("stop_reason")}
