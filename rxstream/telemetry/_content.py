"""Prompts and answers as OpenTelemetry's conventions write them down: JSON, by their schema of messages and parts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rxstream.messages import ImagePart, RefusalPart, TextPart, ThinkingPart, ToolCall, ToolResult

if TYPE_CHECKING:
    from rxstream.config import Request
    from rxstream.response import Response

__all__ = ["asked", "instructed", "offered", "said"]


def asked(request: Request) -> str:
    """The messages of `request` but the system's."""
    messages = [
        {"role": "tool" if _is_result(message.content) else message.role, "parts": _parts(message.content)}
        for message in request.messages
        if message.role != "system"
    ]
    return _json(messages)


def instructed(request: Request) -> str:
    """What the system says in `request`; empty where it says nothing."""
    parts = [part for message in request.messages if message.role == "system" for part in _parts(message.content)]
    return _json(parts) if parts else ""


def offered(request: Request) -> str:
    """The tools that `request` lets the model call; empty where it names none. Of those that the provider runs, the kind: there may
    be keys in the rest.
    """
    tools = [
        {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}
        if tool.native is None
        else {"type": str(tool.native.get("type", "native")), "name": tool.name}
        for tool in request.tools
    ]
    return _json(tools) if tools else ""


def said(response: Response) -> str:
    """The choices of `response`."""
    reason = response.finish_reason or "error"
    return _json(
        [{"role": "assistant", "parts": _parts(one.parts), "finish_reason": reason} for one in response.choices]
    )


def _is_result(parts: Iterable[Any]) -> bool:
    return all(isinstance(part, ToolResult) for part in parts)


def _parts(parts: Iterable[Any]) -> list[dict[str, Any]]:
    return [_part(part) for part in parts]


def _part(part: Any) -> dict[str, Any]:
    match part:
        case TextPart() | RefusalPart():
            return {"type": "text", "content": part.text}
        case ThinkingPart():
            return {"type": "reasoning", "content": part.text}
        case ToolCall():
            return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": part.arguments}
        case ToolResult():
            return {"type": "tool_call_response", "id": part.id, "response": part.content}
        case ImagePart():
            return {"type": "uri", "modality": "image", "uri": part.url} if part.url else _left_out("image")
        case _:
            return _left_out(part.type)


def _left_out(kind: str) -> dict[str, Any]:
    """Bytes, and what only its provider understands, are no matter of a trace."""
    return {"type": kind, "content": "left out"}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
