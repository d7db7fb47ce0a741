"""The payload of Chat Completions: the fields that we use, and no more.

A field is typed where its shape decides how it is read; the rest is `Any`, for vendors differ, and a wrong type in one field
must not cost the text in another.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Choice", "Chunk", "Delta"]


class Delta(msgspec.Struct, frozen=True, gc=False):
    """What is new in one choice, or the whole message of servers that send it in one piece."""

    content: Any = None
    tool_calls: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    thinking: Any = None
    reasoning_text: Any = None
    reasoning_details: Any = None
    reasoning_opaque: Any = None
    thinking_blocks: Any = None
    refusal: Any = None
    function_call: Any = None
    audio: Any = None
    images: Any = None
    annotations: Any = None
    executed_tools: Any = None


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One choice of a chunk."""

    delta: Delta | list[Any] | str | None = None
    index: int | float | str | None = 0
    finish_reason: Any = None
    logprobs: Any = None
    message: Delta | list[Any] | str | None = None
    text: Any = None
    usage: Any = None
    error: Any = None
    content_filter_results: Any = None


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """One payload."""

    choices: list[Choice] | dict[str, Any] | str | None = None
    id: Any = None
    model: Any = None
    usage: Any = None
    error: Any = None
    x_groq: Any = None
    citations: Any = None
    search_results: Any = None
    timings: Any = None
    prompt_progress: Any = None
    moderation: Any = None
    prompt_filter_results: Any = None
