"""A stream as chunks, for people who think of a message that arrives in pieces rather than of events."""

from __future__ import annotations

import msgspec

from rxstream.events import FinishReason
from rxstream.usage import Usage

__all__ = ["ChunkMetadata", "MessageChunk", "ToolCallChunk"]


class ToolCallChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a tool call: `id` and `name` come with the first, `arguments` is what is new."""

    part: int
    """Which call: the same number in all its pieces."""
    id: str = ""
    name: str = ""
    arguments: str = ""


class ChunkMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chunk comes from, and when."""

    model: str
    provider: str
    timestamp: float
    """When its bytes were read: seconds since 1970, UTC."""
    latency: float
    """Seconds since the subscription."""
    source: str
    """The track's label."""
    attempt: int
    seq: int
    """Number of the event behind the chunk."""


class MessageChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of a message. Joining `content` over all chunks gives the text."""

    id: str
    """The provider's id of the message: the same in all its chunks."""
    content: str = ""
    thinking: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCallChunk, ...] = ()
    finish_reason: FinishReason | None = None
    """Set in the last chunk."""
    usage: Usage | None = None
    """The counts so far, where the event was a report of them."""
    metadata: ChunkMetadata
