"""The events of a body, one by one: what each is, so that a fault can find its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

from rxstream._input import is_mapping
from rxstream.providers.compatible import Dialect
from rxstream.testing.chaos._render import sse

__all__ = ["Frame", "Kind", "frames", "more", "ping", "rewrite"]

Kind = Literal["start", "text", "thinking", "tool", "finish", "usage", "end", "ping", "other"]

_BREAK: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_CONTENT: Final = ("text", "thinking", "tool")


class Frame(NamedTuple):
    """One server-sent event."""

    data: bytes
    """Its bytes, the blank line at its end included."""
    kind: Kind = "other"
    text: str = ""
    """The answer's text in it."""
    due: int = 0
    """How many events the model has made when it is ready."""

    @property
    def is_content(self) -> bool:
        """Whether it is output, or opens a call."""
        return self.kind in _CONTENT

    @property
    def payload(self) -> dict[str, Any]:
        """Its JSON; empty where it is no object."""
        try:
            found: Any = json.loads(_data(self.data))
        except ValueError:
            return {}
        return dict(found) if is_mapping(found) else {}

    @property
    def number(self) -> int | None:
        """Its sequence number, where the dialect has them."""
        found = self.payload.get("sequence_number")
        return found if isinstance(found, int) else None


def frames(body: bytes | Iterable[bytes], dialect: Dialect) -> list[Frame]:
    """The events of a body, or of the pieces that are one each; together they are exactly its bytes."""
    pieces = _split(body) if isinstance(body, bytes) else body
    found: list[Frame] = []
    for due, piece in enumerate(pieces, 1):
        kind, text = _read(Frame(piece), dialect)
        found.append(Frame(piece, kind, text, due))
    return found


def _split(body: bytes) -> list[bytes]:
    ends = [found.end() for found in _BREAK.finditer(body)]
    edges = [0, *ends, *([len(body)] if not ends or ends[-1] < len(body) else [])]
    return [body[start:stop] for start, stop in pairwise(edges) if stop > start]


def _data(frame: bytes) -> bytes:
    lines = frame.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))


def _read(frame: Frame, dialect: Dialect) -> tuple[Kind, str]:
    payload = frame.payload
    if payload:
        return {"anthropic": _messages, "openai-chat": _chat, "openai-responses": _responses}[dialect](payload)
    data = _data(frame.data)
    return ("end" if data == b"[DONE]" else "other" if data else "ping"), ""


def _chat(payload: Mapping[str, Any]) -> tuple[Kind, str]:
    choices: Any = payload.get("choices")
    if not choices:
        return ("usage" if payload.get("usage") else "other"), ""
    delta: Any = choices[0].get("delta") or {}
    if delta.get("tool_calls"):
        return "tool", ""
    if text := delta.get("content"):
        return "text", str(text)
    if delta.get("reasoning_content") or delta.get("reasoning"):
        return "thinking", ""
    return ("finish" if choices[0].get("finish_reason") else "start"), ""


def _messages(payload: Mapping[str, Any]) -> tuple[Kind, str]:
    match payload.get("type"):
        case "message_start":
            return "start", ""
        case "content_block_delta":
            delta: Any = payload.get("delta") or {}
            kinds: dict[Any, Kind] = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "tool"}
            return kinds.get(delta.get("type"), "other"), str(delta.get("text") or "")
        case "content_block_start":
            block: Any = payload.get("content_block") or {}
            return ("tool" if block.get("type") == "tool_use" else "other"), ""
        case "message_delta":
            return "finish", ""
        case "message_stop":
            return "end", ""
        case "ping":
            return "ping", ""
        case _:
            return "other", ""


def _responses(payload: Mapping[str, Any]) -> tuple[Kind, str]:
    match str(payload.get("type")).removeprefix("response."):
        case "created":
            return "start", ""
        case "output_text.delta":
            return "text", str(payload.get("delta") or "")
        case "reasoning_text.delta" | "reasoning_summary_text.delta":
            return "thinking", ""
        case "function_call_arguments.delta" | "custom_tool_call_input.delta":
            return "tool", ""
        case "output_item.added":
            item: Any = payload.get("item") or {}
            return ("tool" if "call" in str(item.get("type")) else "other"), ""
        case "completed" | "incomplete" | "failed" | "cancelled":
            return "end", ""
        case "keepalive":
            return "ping", ""
        case _:
            return "other", ""


# --- further events -------------------------------------------------------------------------------------------------------


def ping(dialect: Dialect) -> bytes:
    """What keeps the connection open while nothing is said."""
    match dialect:
        case "anthropic":
            return sse({"type": "ping"}, "ping")
        case "openai-responses":
            return sse({"type": "keepalive"}, "keepalive")
        case "openai-chat":
            return b": keep-alive\n\n"


def rewrite(frame: Frame, payload: Any) -> Frame:
    """The event with another payload."""
    name = re.search(rb"^event: ?([^\r\n]*)", frame.data, re.MULTILINE)
    return frame._replace(data=sse(payload, name[1].decode() if name else ""))


def more(dialect: Dialect, text: Any, *, like: Frame | None, number: int | None = None) -> Frame:
    """One more event of text, in the place of the event of text `like`.

    Args:
        dialect: How it is said.
        text: What is said; also what is no string.
        like: An event of text; without one it is said in the first block.
        number: Its sequence number, where the dialect has them; by default it has none.
    """
    payload = like.payload if like is not None else _FIRST[dialect]
    match dialect:
        case "openai-chat":
            choice = payload["choices"][0]
            payload = {**payload, "choices": [{**choice, "delta": {"content": text}, "finish_reason": None}]}
        case "anthropic":
            payload = {**payload, "delta": {"type": "text_delta", "text": text}}
        case "openai-responses":
            payload = {**payload, "delta": text, "sequence_number": number}
            if number is None:
                del payload["sequence_number"]
    name = "" if dialect == "openai-chat" else str(payload["type"])
    return Frame(sse(payload, name), "text", text if isinstance(text, str) else "", like.due if like else 0)


_FIRST: Final[dict[Dialect, dict[str, Any]]] = {
    "anthropic": {"type": "content_block_delta", "index": 0},
    "openai-chat": {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [{"index": 0}]},
    "openai-responses": {
        "type": "response.output_text.delta",
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "logprobs": [],
    },
}
