"""Names that providers and programs give, on their way to a person."""

from __future__ import annotations

from typing import Final

__all__ = ["shown"]

_LONGEST: Final = 100


def shown(*words: str) -> str:
    """``provider:model``, of what there is: one line that no terminal, log or picture reads as anything but a name."""
    name = ":".join(word for word in words if word)
    line = "".join(char if char.isprintable() else "\ufffd" for char in name[:_LONGEST])
    return f"{line}…" if len(name) > _LONGEST else line
