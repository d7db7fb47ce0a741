"""Message chunks as values."""

from __future__ import annotations

import msgspec
import pytest

from rxstream.chunk import ChunkMetadata, MessageChunk, ToolCallChunk

METADATA = ChunkMetadata(model="m", provider="p", timestamp=1.5, latency=0.5, source="left", attempt=1, seq=3)


def test_a_chunk_is_frozen_and_compared_by_value() -> None:
    chunk = MessageChunk(id="x", content="a", metadata=METADATA)
    assert chunk == MessageChunk(id="x", content="a", metadata=METADATA)
    with pytest.raises(AttributeError):
        setattr(chunk, "content", "b")  # noqa: B010 - a type checker would refuse the plain form


def test_what_a_chunk_does_not_carry_is_empty() -> None:
    chunk = MessageChunk(id="x", metadata=METADATA)
    assert (chunk.content, chunk.thinking, chunk.refusal, chunk.tool_calls) == ("", "", "", ())
    assert chunk.finish_reason is None
    assert chunk.usage is None
    assert ToolCallChunk(part=0) == ToolCallChunk(part=0, id="", name="", arguments="")


def test_a_chunk_survives_json() -> None:
    calls = (ToolCallChunk(part=1, id="c", name="f", arguments="{"),)
    chunk = MessageChunk(id="x", tool_calls=calls, finish_reason="tool_calls", metadata=METADATA)
    assert msgspec.json.decode(msgspec.json.encode(chunk), type=MessageChunk) == chunk
