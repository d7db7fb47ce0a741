"""Pieces of a text: which may be joined, which may be dropped, how large they are.

Rules of this module:

* Two pieces may be joined when an aggregator cannot tell the sum from the two: same type, same part of the same answer.
* What is joined has the fields of its first piece; of the provider's bytes it has none.
* Only what a reader watches go by may be dropped: text, thinking, a refusal, token probabilities, progress. What a program
  acts on may not: a dropped piece of a tool call, of audio or of usage would make the answer wrong and nobody would see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeVar, cast

import msgspec

from rxstream.events import (
    EventBase,
    Heartbeat,
    Logprobs,
    Media,
    RefusalDelta,
    ServerTool,
    Status,
    TextDelta,
    ThinkingDelta,
    ThinkingSignature,
    ToolCall,
    ToolCallDelta,
)

__all__ = ["droppable", "joined", "place", "size", "text_of"]

T = TypeVar("T")

_FIELD: dict[type, str] = {TextDelta: "text", ThinkingDelta: "text", RefusalDelta: "text", ToolCallDelta: "arguments"}
"""The events that are pieces, and the field that the pieces are in."""
_PLACE: dict[type, Callable[[Any], object]] = {
    **dict.fromkeys(_FIELD, attrgetter("__class__", "source", "attempt", "choice", "part")),
    ThinkingDelta: attrgetter("__class__", "source", "attempt", "choice", "part", "kind"),
    str: attrgetter("__class__"),
}
_TEXT: dict[type, Callable[[Any], str]] = {
    **{kind: attrgetter(field) for kind, field in _FIELD.items()},
    **dict.fromkeys((ToolCall, ServerTool), attrgetter("arguments")),
    **dict.fromkeys((Media, ThinkingSignature), attrgetter("data")),
    str: str,
}
_LOOSE = frozenset({TextDelta, ThinkingDelta, RefusalDelta, Logprobs, Status, Heartbeat})
_FLAT = 64
"""What an item without text is reckoned at."""


def place(item: object) -> object:
    """What `item` is a piece of: neighbours of the same place may be joined. None for one that is no piece."""
    of = _PLACE.get(type(item))
    return None if of is None else of(item)


def text_of(item: object) -> str:
    """The text of an item that has a `place`."""
    return _TEXT[type(item)](item)


def joined(first: T, pieces: Sequence[str]) -> T:
    """`first`, with all of `pieces` for its text."""
    text: Any = "".join(pieces)
    if isinstance(first, str):
        return cast("T", text)
    changes: dict[str, Any] = {_FIELD[type(first)]: text, "raw": None}
    return cast("T", msgspec.structs.replace(cast("msgspec.Struct", first), **changes))


def droppable(item: object) -> bool:
    """Whether a policy that drops may drop it. What is no event is the user's own: it may."""
    return type(item) in _LOOSE or not isinstance(item, EventBase)


def size(item: object) -> int:
    """Bytes of the item's text in UTF-8, at least 1; a flat 64 for an item that has none."""
    read = _TEXT.get(type(item))
    if read is None:
        return len(item) if isinstance(item, (bytes, bytearray)) else _FLAT
    text = read(item)
    return (len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))) or 1
