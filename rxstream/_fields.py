"""The fields of a JSON text, as far as it has come: those whose value is whole, by their paths.

Nothing is guessed: a number at the very end may go on, a string may, a member without its value is none. What follows the
JSON is of no interest, nor is a Markdown fence before it. Where it is too deep, too long a path or too many fields, reading
ends: a model wrote it, and a long name with many values in it would be many long paths.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

__all__ = ["Fields", "fields_of"]

_BEGINNING: Final = re.compile(r"\s*(?:```\w*\s*)?(?=[{\[])")
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DEEPEST: Final = 64
"""Levels of nesting that are looked into."""
_LONGEST: Final = 1024
"""Characters of a path."""
_MOST: Final = 4096
"""Fields that are read."""
_AFTER: Final = frozenset(" \t\n\r,]}")
"""What ends a number or a word."""


def _no_json(word: str) -> NoReturn:
    raise ValueError(word)


_scalar = json.JSONDecoder(parse_constant=_no_json).raw_decode


class Fields:
    """What a JSON text has so far."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        """The scalars, and the containers that are empty, by paths such as ``people[0].name``."""
        self.complete = False
        """Whether the text has all of its JSON."""


def fields_of(text: str) -> Fields | None:
    """The fields of `text`; None if it does not begin as a JSON object or array."""
    beginning = _BEGINNING.match(text)
    if beginning is None:
        return None
    reader = _Reader(text)
    try:
        reader.value(beginning.end(), "", 0)
    except ValueError:  # it ends here, or is no JSON from here on
        return reader.fields
    reader.fields.complete = True
    return reader.fields


def _step(name: str) -> str:
    return f".{name}" if name.isidentifier() else f"[{json.dumps(name, ensure_ascii=False)}]"


def _sayable(text: str) -> str:
    """`text` with a lone half of a surrogate pair, which no encoding takes, as JSON writes it."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


class _Reader:
    """Reads values, and leaves by a `ValueError` where the text ends."""

    def __init__(self, text: str) -> None:
        self.fields = Fields()
        self._text = text

    def value(self, at: int, path: str, depth: int) -> int:
        """Read a value; gives the position after it."""
        if depth > _DEEPEST or len(path) > _LONGEST or len(self.fields.values) == _MOST:
            raise ValueError("too much")
        opening = self._text[at : at + 1]
        if opening and opening in "{[":
            return self._container(at + 1, path, depth + 1, "}" if opening == "{" else "]")
        found, end = _scalar(self._text, at)
        if opening != '"' and self._text[end : end + 1] not in _AFTER:
            raise ValueError("it may go on")
        self.fields.values[path] = _sayable(found) if opening == '"' else found
        return end

    def _container(self, at: int, path: str, depth: int, closing: str) -> int:
        at = self._skip(at)
        if self._text[at : at + 1] == closing:
            self.fields.values[path] = {} if closing == "}" else []
            return at + 1
        number = 0
        while True:
            if closing == "}":
                name, at = _scalar(self._text, self._expect('"', at) - 1)
                at = self._skip(self._expect(":", self._skip(at)))
                name = _sayable(name)
                inner = f"{path}{_step(name)}" if path else _step(name).removeprefix(".")
            else:
                inner = f"{path}[{number}]"
                number += 1
            at = self._skip(self.value(at, inner, depth))
            if self._text[at : at + 1] == closing:
                return at + 1
            at = self._skip(self._expect(",", at))

    def _expect(self, mark: str, at: int) -> int:
        if self._text[at : at + 1] != mark:
            raise ValueError(f"no {mark!r}")
        return at + 1

    def _skip(self, at: int) -> int:
        space = _SPACE.match(self._text, at)
        assert space is not None  # noqa: S101 - it matches the empty text, too
        return space.end()
