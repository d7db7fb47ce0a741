"""What we read of the payloads of the Messages API.

Rules of this module:

* A payload is typed by its ``type``, and only the fields that we use are decoded: the rest costs nothing.
* What may be null or absent in the field may be so here. What does not fit is the caller's business, as plain JSON.
"""

from __future__ import annotations

from typing import Any, Final, TypeGuard, cast

import msgspec

from rxstream.providers._shared import is_deep
from rxstream.usage import Provenance, Usage

__all__ = [
    "BlockDelta",
    "BlockStart",
    "BlockStop",
    "Citations",
    "Compaction",
    "InputJson",
    "Message",
    "MessageDelta",
    "MessageStart",
    "MessageStop",
    "Payload",
    "Ping",
    "Signature",
    "Text",
    "ThinkingText",
    "decode",
    "is_list",
    "is_object",
    "known",
    "object_of",
    "text",
    "usage",
]


class Payload(msgspec.Struct, tag_field="type", gc=False, omit_defaults=True):
    """The base of what we read of a payload; all else in it is skipped."""


class Text(Payload, tag="text_delta"):
    text: str


class InputJson(Payload, tag="input_json_delta"):
    partial_json: str


class ThinkingText(Payload, tag="thinking_delta"):
    thinking: str
    estimated_tokens: Any = None


class Signature(Payload, tag="signature_delta"):
    signature: str


class Citations(Payload, tag="citations_delta"):
    citation: dict[str, Any]


class Compaction(Payload, tag="compaction_delta"):
    content: str | None = None
    encrypted_content: str | None = None


class BlockDelta(Payload, tag="content_block_delta"):
    delta: Text | InputJson | ThinkingText | Signature | Citations | Compaction
    index: int = 0


class BlockStart(Payload, tag="content_block_start"):
    content_block: dict[str, Any]
    index: int = 0


class BlockStop(Payload, tag="content_block_stop"):
    index: int = 0


class Message(msgspec.Struct, gc=False, omit_defaults=True):
    id: str | None = None
    model: str | None = None
    content: list[dict[str, Any]] | None = None
    usage: dict[str, Any] | None = None
    stop_reason: Any = None
    stop_sequence: Any = None
    stop_details: Any = None
    container: Any = None
    context_management: Any = None
    diagnostics: Any = None
    input_transformations: Any = None


class MessageStart(Payload, tag="message_start"):
    message: Message


class MessageDelta(Payload, tag="message_delta"):
    delta: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    context_management: Any = None
    input_transformations: Any = None


class MessageStop(Payload, tag="message_stop"):
    pass


class Ping(Payload, tag="ping"):
    pass


decode: Final = msgspec.json.Decoder(
    BlockDelta | BlockStart | BlockStop | MessageStart | MessageDelta | MessageStop | Ping
).decode


def usage(fields: dict[str, Any], provenance: Provenance) -> Usage:
    """Their counts as ours: their input excludes what came from the cache and what went to it, ours does not."""
    fresh, output = _count(fields, "input_tokens"), _count(fields, "output_tokens")
    read, written = _count(fields, "cache_read_input_tokens"), _count(fields, "cache_creation_input_tokens")
    total_input = None if fresh is None else fresh + (read or 0) + (written or 0)
    return Usage(
        provenance=provenance,
        input_tokens=total_input,
        output_tokens=output,
        total_tokens=None if total_input is None or output is None else total_input + output,
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=_count(object_of(fields.get("output_tokens_details")), "thinking_tokens"),
        raw=dict(fields),
    )


def known(fields: dict[str, Any]) -> dict[str, Any]:
    """Without nulls: what is not restated stays as it was."""
    return {key: value for key, value in fields.items() if value is not None}


def is_object(text: str) -> bool:
    """Whether the text is one whole JSON object, such as can be kept."""
    if is_deep(text.encode()):
        return False
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def object_of(value: Any) -> dict[str, Any]:
    """The JSON object that it is, or an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether it is a JSON array."""
    return isinstance(value, list)


def text(value: Any) -> str:
    """The string that it is, or an empty one."""
    return value if isinstance(value, str) else ""


def _count(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    return value if type(value) is int else None
