"""A request in the words of OpenAI's Responses API.

* Nothing is kept on the server (``store: false``): the conversation is in our hands, and so are its round trips. Whoever
  wants it stored says ``extra={"store": True}``.
* Each part becomes an item of ``input``, in order; neighbouring text and images are one message. System messages are
  items too, so that they keep their place. Every item names its ``type``: llama.cpp does not guess it.
* Reasoning goes back only in its encrypted form, without which the server could not find it; it is asked for
  (``include``) where the request shows that the model reasons, for other models refuse to be asked.
* An opaque part goes back as an item, if it is this provider's. The API has no word for a tool result that is an error:
  its text must say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rxstream.config import JSONFormat, Request
from rxstream.messages import (
    ImagePart,
    OpaquePart,
    RefusalPart,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCall,
    ToolResult,
)

__all__ = ["encode"]

_WORDS: Final = frozenset({"auto", "none", "required"})


def encode(request: Request) -> dict[str, Any]:
    """The JSON body of the request.

    Raises:
        ConfigurationError: it asks for what this API cannot do (``stop``, ``seed``, ``n``).
    """
    request.refuse("stop", "seed", "n", by="the Responses API")
    items = _items(request)
    reasons = request.reasoning is not None or any(item.get("type") == "reasoning" for item in items)
    optional = {
        "max_output_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request.tool_choice),
        "parallel_tool_calls": request.parallel_tool_calls,
        "reasoning": None if request.reasoning is None else {"effort": request.reasoning},
        "include": ["reasoning.encrypted_content"] if reasons else None,
        "text": None if request.response_format is None else {"format": _format(request.response_format)},
    }
    body = {"model": request.model, "input": items, "stream": True, "store": False}
    return body | {name: value for name, value in optional.items() if value is not None} | request.extra


def _items(request: Request) -> list[dict[str, Any]]:
    custom = {
        part.id
        for message in request.messages
        for part in message.content
        if isinstance(part, ToolCall) and part.kind == "custom"
    }
    items: list[dict[str, Any]] = []
    for message in request.messages:
        thoughts = [part for part in message.content if isinstance(part, ThinkingPart)]
        said: list[TextPart | RefusalPart | ImagePart] = []
        for part in message.content:
            if isinstance(part, (TextPart, RefusalPart, ImagePart)):
                said.append(part)
                continue
            items += _message(message.role, said)
            said = []
            if (item := _item(part, request.provider, custom, thoughts)) is not None:
                items.append(item)
        items += _message(message.role, said)
    return items


def _message(role: str, said: Sequence[TextPart | RefusalPart | ImagePart]) -> list[dict[str, Any]]:
    if not said:
        return []
    if not any(isinstance(part, ImagePart) for part in said):
        return [
            {
                "type": "message",
                "role": role,
                "content": "".join(part.text for part in said if not isinstance(part, ImagePart)),
            }
        ]
    content: list[dict[str, Any]] = [
        {"type": "input_image", "image_url": part.link, "detail": "auto"}
        if isinstance(part, ImagePart)
        else {"type": "input_text", "text": part.text}
        for part in said
    ]
    return [{"type": "message", "role": role, "content": content}]


def _item(
    part: ThinkingPart | ToolCall | ToolResult | OpaquePart,
    provider: str,
    custom: set[str],
    thoughts: Sequence[ThinkingPart],
) -> dict[str, Any] | None:
    match part:
        case ThinkingPart():
            return _reasoning(part, thoughts)
        case ToolCall(kind="custom"):
            return {"type": "custom_tool_call", "call_id": part.id, "name": part.name, "input": part.arguments}
        case ToolCall():
            arguments = part.arguments or "{}"
            return {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": arguments}
        case ToolResult():
            kind = "custom_tool_call_output" if part.id in custom else "function_call_output"
            return {"type": kind, "call_id": part.id, "output": part.content}
        case OpaquePart():
            return dict(part.payload) if part.provider in {"openai", "openai-responses", provider} else None


def _reasoning(part: ThinkingPart, thoughts: Sequence[ThinkingPart]) -> dict[str, Any] | None:
    if part.encrypted is None:
        return None
    # The summary of one item comes in several parts of its id, the last of which has the blob.
    summary = [each.text for each in thoughts if each.text and (each is part or (part.id and each.id == part.id))]
    item: dict[str, Any] = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": text} for text in summary],
        "encrypted_content": part.encrypted,
    }
    return item | {"id": part.id} if part.id else item


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.native is not None:
        return dict(tool.native)
    # This API is strict unless told otherwise; ours means the same with every provider: strict if asked.
    body = {"type": "function", "name": tool.name, "parameters": tool.parameters, "strict": bool(tool.strict)}
    return body | {"description": tool.description} if tool.description else body


def _tool_choice(wanted: str | None) -> str | dict[str, Any] | None:
    if wanted is None or wanted in _WORDS:
        return wanted
    return {"type": "function", "name": wanted}


def _format(wanted: JSONFormat) -> dict[str, Any]:
    if wanted.json_schema is None:
        return {"type": "json_object"}
    form: dict[str, Any] = {"type": "json_schema", "name": wanted.name, "schema": wanted.json_schema}
    return form | {"strict": wanted.strict} if wanted.strict is not None else form
