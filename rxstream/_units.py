"""How much text there is: what operators that count and measure out text agree on."""

from __future__ import annotations

from typing import Final, Literal

from rxstream.events import RefusalDelta, TextDelta, ThinkingDelta, ToolCallDelta
from rxstream.segment import characters

__all__ = ["BYTES_A_TOKEN", "Unit", "bytes_in", "characters_in", "text_of"]

Unit = Literal["characters", "tokens"]

BYTES_A_TOKEN: Final = 4
"""The rule of thumb for what providers call a token: four letters of English, and as many bytes of any text's UTF-8."""


def text_of(item: object) -> str:
    """The text that `item` brings: a string's own, a delta's text or arguments, of all else none."""
    if isinstance(item, (TextDelta, ThinkingDelta, RefusalDelta)):
        return item.text
    if isinstance(item, ToolCallDelta):
        return item.arguments
    return item if isinstance(item, str) else ""


def characters_in(text: str) -> int:
    """Characters, as a reader counts them."""
    return len(text) - text.count("\r\n") if text.isascii() else len(characters(text))


def bytes_in(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
