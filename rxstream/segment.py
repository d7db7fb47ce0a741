"""Cutting text into pieces without losing any of it."""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["Splitter"]


class Splitter:
    """The pieces of a text that arrives in deltas; the last one is held back until it is known to be whole."""

    def __init__(self, by: Literal["character", "word"]) -> None:
        self._pattern = re.compile(r".", re.S) if by == "character" else re.compile(r"\s*\S+\s*|\s+")
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """The pieces that `text` completes."""
        pieces = self._pattern.findall(self._held + text)
        self._held = pieces.pop() if pieces else ""
        return pieces

    def close(self) -> list[str]:
        """The last piece."""
        held, self._held = self._held, ""
        return [held] if held else []
