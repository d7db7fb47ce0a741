"""What a request says was said already: how a model that is asked to go on knows where."""

from __future__ import annotations

import re
from typing import Any, Final

from rxstream._input import is_list, is_mapping

__all__ = ["said_before"]

_GO_ON: Final = re.compile(r"\b(continue|go on)\b", re.IGNORECASE)


def said_before(request: Any, text: str) -> str:
    """The beginning of `text` after which the request asks to go on; empty where it asks anew.

    That is the text of the assistant's turn that is the last, or the last but one before a user's that says "continue" or
    "go on". Any other is the next question of a chat.
    """
    turns = request.get("messages", request.get("input")) if is_mapping(request) else None
    last = [turn for turn in list(turns)[-2:] if is_mapping(turn)] if is_list(turns) else []
    if last and last[-1].get("role") == "user" and _GO_ON.search(_text(last[-1].get("content"))):
        last.pop()
    said = _text(last[-1].get("content")) if last and last[-1].get("role") == "assistant" else ""
    return said if text.startswith(said) else ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in content if is_mapping(part)) if is_list(content) else ""
