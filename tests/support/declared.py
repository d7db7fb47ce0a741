"""Checks a JSON body against the `TypedDict` with which an SDK declares it, nested ones included.

Pydantic will not do: it leaves ``Iterable`` fields unread, and drops keys that are not declared.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from typing_extensions import is_typeddict

__all__ = ["complaint"]

_NUMBERS = {float: (int, float), int: (int,)}


def complaint(value: Any, declared: Any, where: str = "body") -> str | None:
    """The first thing about `value` that is not as declared, or None."""
    origin, arguments = get_origin(declared), get_args(declared)
    if declared in {Any, object}:
        return None
    if origin in {Required, NotRequired}:
        return complaint(value, arguments[0], where)
    if origin in {Union, types.UnionType}:
        complaints = [complaint(value, member, where) for member in arguments]
        return None if None in complaints else max((text or "" for text in complaints), key=_depth)
    if origin is Literal:
        return None if value in arguments else f"{where}: {value!r} is none of {arguments}"
    if is_typeddict(declared):
        return _typed_dict(value, declared, where)
    if origin is dict:
        return None if isinstance(value, dict) else f"{where}: {value!r} is no dict"
    if origin is not None:  # Iterable, list, Sequence
        if not isinstance(value, list):
            return f"{where}: {value!r} is no list"
        found = (complaint(item, arguments[0], f"{where}[{number}]") for number, item in enumerate(value))
        return next((text for text in found if text), None)
    kinds = _NUMBERS.get(declared, (declared,))
    fits = isinstance(value, kinds) and not (isinstance(value, bool) and declared is not bool)
    return None if fits else f"{where}: {value!r} is no {declared}"


def _typed_dict(value: Any, declared: Any, where: str) -> str | None:
    if not isinstance(value, Mapping):
        return f"{where}: {value!r} is no {declared.__name__}"
    hints = get_type_hints(declared, include_extras=True)
    open_ended = getattr(declared, "__pydantic_config__", {}).get("extra") == "allow"
    for key, item in value.items():
        if key not in hints:
            if open_ended:
                continue
            return f"{where}.{key}: not declared by {declared.__name__}"
        if text := complaint(item, hints[key], f"{where}.{key}"):
            return text
    missing = sorted(declared.__required_keys__ - value.keys())
    return f"{where}: {declared.__name__} needs {missing}" if missing else None


def _depth(text: str) -> int:
    return len(text.partition(": ")[0])
