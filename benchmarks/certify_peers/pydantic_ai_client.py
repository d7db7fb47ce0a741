"""pydantic-ai: its direct ``model_request_stream``, in ``async with``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import ModelRequest, PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition


def _model(question: Any) -> Any:
    options = {
        "base_url": question.base_url, "api_key": question.api_key, "timeout": question.timeout, "max_retries": 0,
    }  # fmt: skip
    if question.dialect == "anthropic":
        client = anthropic.AsyncAnthropic(**options)
        return AnthropicModel(question.model, provider=AnthropicProvider(anthropic_client=client))
    kind = OpenAIChatModel if question.dialect == "openai-chat" else OpenAIResponsesModel
    return kind(question.model, provider=OpenAIProvider(openai_client=openai.AsyncOpenAI(**options)))


async def direct(question: Any) -> AsyncIterator[Any]:
    """Its events, and the response that it made of them."""
    tools = [
        ToolDefinition(name=tool["name"], description=tool["description"], parameters_json_schema=tool["parameters"])
        for tool in question.tools
    ]
    async with model_request_stream(
        _model(question),
        [ModelRequest.user_text_prompt(question.prompt)],
        # Its setting for servers that count as they go, as the certifier's does.
        model_settings={"openai_continuous_usage_stats": True} if question.dialect == "openai-chat" else None,
        model_request_parameters=ModelRequestParameters(function_tools=tools, allow_text_output=True),
    ) as stream:
        async for event in stream:
            match event:
                case PartStartEvent(part=TextPart(content=text)) if text:
                    yield text
                case PartDeltaEvent(delta=TextPartDelta(content_delta=text)) if text:
                    yield text
                case _:
                    pass
        whole = stream.response if hasattr(stream, "response") else stream.get()
    for part in whole.parts:
        if part.part_kind == "tool-call":
            yield {"tool_call": {"name": part.tool_name, "arguments": part.args}}
    yield {"usage": {"input_tokens": whole.usage.input_tokens, "output_tokens": whole.usage.output_tokens}}
    yield {"finish": whole.finish_reason}
