"""Conversations for the tests of all three encoders: one that has everything, and any at all."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from rxstream.config import Request
from rxstream.messages import (
    ImagePart,
    Message,
    OpaquePart,
    Part,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolResult,
)

__all__ = ["CALLS", "SCHEMA", "WEATHER", "ask", "requests", "strings", "texts"]

WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "The weather somewhere.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}

CALLS: list[Message] = [
    Message(role="user", content=[TextPart(text="Paris and Rome?")]),
    Message(
        role="assistant",
        content=[
            TextPart(text="I look."),
            ToolCall(id="c1", name="weather", arguments='{"city":"Paris"}'),
            ToolCall(id="c2", name="weather", arguments='{"city":"Rome"}'),
        ],
    ),
    Message(role="tool", content=[ToolResult(id="c1", content="sun")]),
    Message(role="tool", content=[ToolResult(id="c2", content="no such city", is_error=True)]),
    Message(role="user", content=[TextPart(text="And?")]),
]
"""Two calls at once, one of which fails."""


def ask(*messages: Message | str, provider: str = "openai", **options: Any) -> Request:
    """A request, as `Request.build` makes it."""
    return Request.build(provider=provider, model="m", messages=list(messages), **options)


_words = st.text(max_size=8)
_texts = st.builds(TextPart, text=_words)
_json_objects = st.dictionaries(_words, st.one_of(st.integers(), _words), max_size=2).map(json.dumps)
_parts: dict[str, st.SearchStrategy[Part]] = {
    "system": _texts,
    "user": st.one_of(
        _texts,
        st.builds(ImagePart, url=st.just("https://example.org/a.png")),
        st.builds(ImagePart, data=st.just("aGk="), media_type=st.just("image/jpeg")),
        st.builds(ToolResult, id=_words, content=_words, is_error=st.booleans()),
        st.builds(OpaquePart, provider=_words, payload=st.just({"type": "text", "text": "opaque"})),
    ),
    "assistant": st.one_of(
        _texts,
        st.builds(RefusalPart, text=_words),
        st.builds(
            ThinkingPart,
            text=_words,
            signature=st.none() | _words,
            redacted=st.none() | _words,
            encrypted=st.none() | _words,
            id=_words,
        ),
        st.builds(ToolCall, id=_words, name=_words, arguments=st.one_of(_json_objects, _words)),
        st.builds(ToolCall, id=_words, name=_words, arguments=_words, kind=st.just("custom")),
    ),
    "tool": st.builds(ToolResult, id=_words, content=_words),
}
_turns = st.sampled_from(sorted(_parts)).flatmap(
    lambda role: st.builds(Message, role=st.just(role), content=st.lists(_parts[role], max_size=4))
)

requests = st.builds(
    Request,
    provider=st.sampled_from(["openai", "anthropic", "deepseek"]),
    model=st.just("m"),
    messages=st.lists(_turns, min_size=1, max_size=5),
    max_tokens=st.none() | st.integers(1, 9),
    stop=st.sampled_from([[], [], [], ["END"]]),
    seed=st.sampled_from([None, None, None, 1]),
    n=st.sampled_from([None, 1, 1, 2]),
    reasoning=st.sampled_from([None, "none", "minimal", "high"]),
    parallel_tool_calls=st.none() | st.booleans(),
)
"""Any request that passes the checks."""


def texts(request: Request) -> list[str]:
    """Everything said in a request, reasoning left out."""
    said: list[str] = []
    for message in request.messages:
        for part in message.content:
            match part:
                case TextPart() | RefusalPart():
                    said.append(part.text)
                case ToolResult():
                    said.append(part.content)
                case ToolCall():
                    said.append(part.name)
                case _:
                    pass
    return said


def strings(body: Any) -> str:
    """All strings in a JSON body, joined by a sign that no text has."""
    if isinstance(body, str):
        return body
    if isinstance(body, dict):
        return "\0".join(strings(value) for value in body.values())
    return "\0".join(strings(item) for item in body) if isinstance(body, list) else ""
