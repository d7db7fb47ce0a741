"""The events of a body, one by one: what each is, so that a fault can find its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

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
    def payload(self) -> Any:
        """Its JSON; None where it has none."""
        try:
            return json.loads(_data(self.data))
        except ValueError:
            return None

    @property
    def number(self) -> int | None:
        """Its sequence number, where the dialect has them."""
        payload = self.payload
        found = payload.get("sequence_number") if isinstance(payload, dict) else None
        return found if isinstance(found, int) else None


def frames(body: bytes | Iterable[bytes], dialect: Dialect) -> list[Frame]:
    """The events of a body, or of the pieces that are one each; together they are exactly its bytes."""
    pieces = _split(body) if isinstance(body, bytes) else body
    return [Frame(piece, *_read(piece, dialect), due=place) for place, piece in enumerate(pieces, 1)]


def _split(body: bytes) -> list[bytes]:
    ends = [found.end() for found in _BREAK.finditer(body)]
    edges = [0, *ends, *([len(body)] if not ends or ends[-1] < len(body) else [])]
    return [body[start:stop] for start, stop in pairwise(edges) if stop > start]


def _data(frame: bytes) -> bytes:
    lines = frame.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))


def _read(frame: bytes, dialect: Dialect) -> tuple[Kind, str]:
    data = _data(frame)
    if data == b"[DONE]":
        return "end", ""
    if not data:
        return "ping", ""
    try:
        payload = json.loads(data)
    except ValueError:
        return "other", ""
    if not isinstance(payload, dict):
        return "other", ""
    return {"anthropic": _messages, "openai-chat": _chat, "openai-responses": _responses}[dialect](payload)


def _chat(payload: Mapping[str, Any]) -> tuple[Kind, str]:
    choices = payload.get("choices")
    if not choices:
        return ("usage" if payload.get("usage") else "other"), ""
    delta = choices[0].get("delta") or {}
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
            delta = payload.get("delta") or {}
            kinds: dict[Any, Kind] = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "tool"}
            return kinds.get(delta.get("type"), "other"), str(delta.get("text") or "")
        case "content_block_start":
            return ("tool" if (payload.get("content_block") or {}).get("type") == "tool_use" else "other"), ""
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
            return ("tool" if "call" in str((payload.get("item") or {}).get("type")) else "other"), ""
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
    payload = dict(like.payload) if like is not None else _FIRST[dialect]
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
