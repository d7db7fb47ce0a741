"""What a request says was said already: how a model that is asked to go on knows where."""

from __future__ import annotations

from typing import Any

__all__ = ["said_before"]


def said_before(request: Any, text: str) -> str:
    """The beginning of `text` after which the request asks to go on; empty where it asks anew.

    That is the text of the assistant's turn that is the last, or the last but one before the user's.
    """
    if not isinstance(request, dict):
        return ""
    turns = request.get("messages", request.get("input"))
    if not isinstance(turns, list):
        return ""
    last = [turn for turn in turns[-2:] if isinstance(turn, dict)]
    if last and last[-1].get("role") == "user":
        last.pop()
    said = _text(last[-1].get("content")) if last and last[-1].get("role") == "assistant" else ""
    return said if text.startswith(said) else ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
