"""A request in the words of the Chat Completions API, of OpenAI and of all who speak it.

* Content that is text alone is sent as one string, which every server reads; lists of parts only where there are images.
* Tool results become ``tool`` messages of their own, before what else the turn says. The API has no word for a result
  that is an error: its text must say so.
* Thinking is left out, save where a server wants it back: then it goes into the field that is named.
* An opaque part of this provider is a part of the content, or, in an assistant's turn, fields of the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from rxstream.config import JSONFormat, Request
from rxstream.messages import (
    ImagePart,
    Message,
    OpaquePart,
    Part,
    RefusalPart,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCall,
    ToolResult,
)

__all__ = ["encode"]

_WORDS: Final = frozenset({"auto", "none", "required"})


def encode(
    request: Request,
    *,
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
    thinking_field: str = "",
    usage_option: bool = True,
) -> dict[str, Any]:
    """The JSON body of the request.

    Args:
        request: What is asked.
        max_tokens_field: What the server calls the limit: OpenAI's newer models take only ``max_completion_tokens``,
            most other servers only ``max_tokens``.
        thinking_field: The message field in which the server wants earlier reasoning back (``reasoning_content``);
            empty to leave it out.
        usage_option: Whether the server takes ``stream_options.include_usage``.

    All that a `Request` can hold can be said, so nothing is raised.
    """
    optional = {
        max_tokens_field: request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": request.stop or None,
        "seed": request.seed,
        "n": request.n,
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request.tool_choice),
        "parallel_tool_calls": request.parallel_tool_calls,
        "reasoning_effort": request.reasoning,
        "response_format": None if request.response_format is None else _response_format(request.response_format),
        "stream_options": {"include_usage": True} if request.include_usage and usage_option else None,
    }
    messages = [said for turn in request.messages for said in _messages(turn, request.provider, thinking_field)]
    body = {"model": request.model, "messages": messages, "stream": True}
    return body | {name: value for name, value in optional.items() if value is not None} | request.extra


def _messages(turn: Message, provider: str, thinking_field: str) -> list[dict[str, Any]]:
    parts = [
        part for part in turn.content if not isinstance(part, OpaquePart) or part.provider in {"openai-chat", provider}
    ]
    if turn.role == "assistant":
        return [_assistant(parts, thinking_field)]
    results = [part for part in parts if isinstance(part, ToolResult)]
    said: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": part.id, "content": part.content} for part in results
    ]
    rest = [part for part in parts if not isinstance(part, ToolResult)]
    if rest or not results:
        said.append({"role": turn.role, "content": _content(rest)})
    return said


def _assistant(parts: Sequence[Part], thinking_field: str) -> dict[str, Any]:
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    refusal = "".join(part.text for part in parts if isinstance(part, RefusalPart))
    thinking = "".join(part.text for part in parts if isinstance(part, ThinkingPart))
    calls = [_call(part) for part in parts if isinstance(part, ToolCall)]
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls or refusal else "")}
    if refusal:
        message["refusal"] = refusal
    if thinking and thinking_field:
        message[thinking_field] = thinking
    if calls:
        message["tool_calls"] = calls
    for part in parts:
        if isinstance(part, OpaquePart):
            message |= part.payload
    return message


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    if all(isinstance(part, TextPart) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, TextPart))
    return [_piece(part) for part in parts]


def _piece(part: Part) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return {"type": "image_url", "image_url": {"url": part.link}}
        case OpaquePart():
            return dict(part.payload)
        case _:
            raise AssertionError(part.type)  # a Request lets no others into these turns


def _call(call: ToolCall) -> dict[str, Any]:
    if call.kind == "custom":
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.native is not None:
        return dict(tool.native)
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters}
    if tool.description:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(wanted: str | None) -> str | dict[str, Any] | None:
    if wanted is None or wanted in _WORDS:
        return wanted
    return {"type": "function", "function": {"name": wanted}}


def _response_format(wanted: JSONFormat) -> dict[str, Any]:
    if wanted.json_schema is None:
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": wanted.name, "schema": wanted.json_schema}
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    return {"type": "json_schema", "json_schema": schema}
