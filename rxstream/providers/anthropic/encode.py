"""A request in the words of Anthropic's Messages API.

* System messages at the head of the conversation become ``system``; later ones keep their place.
* Neighbours of one role become one turn, and tool results come first in it: the API wants all results of a turn together.
* Thinking goes back only with its signature, which the API demands; what another provider thought is left out.
* An opaque part goes back as a block of its own, if it is Anthropic's.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from rxstream.config import Request
from rxstream.errors import ConfigurationError
from rxstream.messages import (
    ImagePart,
    OpaquePart,
    Part,
    RefusalPart,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCall,
    ToolResult,
)

__all__ = ["DEFAULT_MAX_TOKENS", "encode"]

DEFAULT_MAX_TOKENS: Final = 4096
"""Sent where the request has no ``max_tokens``, because this API does not go without."""

_ROLES: Final = {"system": "system", "user": "user", "tool": "user", "assistant": "assistant"}
_CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}


def encode(request: Request) -> dict[str, Any]:
    """The JSON body of the request; ``max_tokens`` is 4096 where none is given.

    ``reasoning`` is adaptive thinking with that effort, ``"none"`` disables thinking; older models want
    ``extra={"thinking": …}`` in its place.

    Raises:
        ConfigurationError: it asks for what this API cannot do (``seed``, ``n``, JSON without a schema, minimal
            reasoning), has no turn of the user, or a tool call whose arguments are no JSON object.
    """
    request.refuse("seed", "n", by="Anthropic")
    turns = _turns(request)
    system = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else None
    if not turns:
        raise ConfigurationError("messages: Anthropic wants at least one turn of the user that is not empty")
    optional = {
        "system": system,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop_sequences": request.stop or None,
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request),
        "thinking": _thinking(request),
        "output_config": _output_config(request) or None,
    }
    body = {
        "model": request.model,
        "max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS,
        "messages": turns,
        "stream": True,
    }
    return body | {name: value for name, value in optional.items() if value is not None} | request.extra


def _turns(request: Request) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in request.messages:
        role = _ROLES[message.role]
        blocks = [block for part in message.content if (block := _block(part, request)) is not None]
        if blocks and turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        turn["content"].sort(key=_not_a_result)
    return turns


def _not_a_result(block: dict[str, Any]) -> bool:
    return block.get("type") != "tool_result"


def _block(part: Part, request: Request) -> dict[str, Any] | None:
    match part:
        case TextPart() | RefusalPart():
            return {"type": "text", "text": part.text} if part.text else None  # the API refuses empty ones
        case ImagePart():
            return {"type": "image", "source": _image(part)}
        case ThinkingPart():
            return _thought(part)
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": _input(part)}
        case ToolResult():
            result = {"type": "tool_result", "tool_use_id": part.id, "content": part.content}
            return result | {"is_error": True} if part.is_error else result
        case OpaquePart():
            return dict(part.payload) if part.provider in {"anthropic", request.provider} else None


def _image(part: ImagePart) -> dict[str, Any]:
    if part.url is not None:
        return {"type": "url", "url": part.url}
    return {"type": "base64", "media_type": part.media_type, "data": part.data}


def _thought(part: ThinkingPart) -> dict[str, Any] | None:
    if part.redacted is not None:
        return {"type": "redacted_thinking", "data": part.redacted}
    if part.signature is not None:
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    return None


def _input(call: ToolCall) -> dict[str, Any]:
    try:
        if call.kind == "function":
            return msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        pass
    raise ConfigurationError(f"Anthropic takes only JSON objects as arguments, which the call of {call.name!r} has not")


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.native is not None:
        return dict(tool.native)
    body: dict[str, Any] = {"name": tool.name, "input_schema": {"type": "object"} | tool.parameters}
    if tool.description:
        body["description"] = tool.description
    if tool.strict is not None:
        body["strict"] = tool.strict
    return body


def _tool_choice(request: Request) -> dict[str, Any] | None:
    wanted = request.tool_choice
    if wanted is None and request.parallel_tool_calls is None:
        return None
    word = _CHOICES.get(wanted or "auto")
    choice: dict[str, Any] = {"type": word} if word else {"type": "tool", "name": wanted}
    if request.parallel_tool_calls is not None and word != "none":
        choice["disable_parallel_tool_use"] = not request.parallel_tool_calls
    return choice


def _thinking(request: Request) -> dict[str, Any] | None:
    if request.reasoning == "minimal":
        raise ConfigurationError(
            "reasoning: Anthropic knows 'none', 'low', 'medium', 'high', 'xhigh', 'max', not 'minimal'"
        )
    if request.reasoning is None:
        return None
    return {"type": "disabled" if request.reasoning == "none" else "adaptive"}


def _output_config(request: Request) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if request.reasoning not in {None, "none"}:
        config["effort"] = request.reasoning
    if request.response_format is not None:
        schema = request.response_format.json_schema
        if schema is None:
            raise ConfigurationError("response_format: Anthropic wants a JSON schema, 'json' alone will not do")
        config["format"] = {"type": "json_schema", "schema": schema}
    return config
