"""What is struck out of a tape before it is written.

Rules of this module:

* A rule is named (``keys``, ``prompts``, ``text``), or a function that gets each text of a line and gives what is to stand there.
* ``keys`` are those that this process uses, those of the environment, those that are given, and what looks like one.
* ``prompts`` are fields in which providers say the request back: instructions, messages, prompts.
* ``text`` is what the model says: each letter becomes a dot, so that lengths, times and structure stay.
* Lines stay JSON: what is found in a line is struck out of its texts, not of its JSON.
* A secret that a model spells over several events is not found in any of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from rxstream._secrets import Secrets, keys_in_use
from rxstream.errors import ConfigurationError
from rxstream.providers import PROVIDERS
from rxstream.providers._shared import is_list, is_object

__all__ = ["Redactor", "Rule", "RuleName"]

RuleName = Literal["keys", "prompts", "text"]
Rule: TypeAlias = RuleName | Callable[[str], str]
"""A named rule, or a function of a text that gives what is to stand in its place."""

_STRUCK: Final = "***"
_PROMPTS: Final = ("instructions", "prompt", "messages", "system", "user", "safety_identifier")
"""Fields in which a request comes back."""
_PROMPT_MARKS: Final = tuple(mark for name in _PROMPTS for mark in (f'"{name}"', f'\\"{name}\\"'))
_SAID: Final = frozenset(
    {"text", "content", "arguments", "thinking", "reasoning", "reasoning_content", "partial_json", "delta", "refusal"}
    | {"data", "signature", "cited_text", "transcript", "output_text"}
)
"""Fields in which a model speaks."""
_SIGNS: Final = ("\\", "%", "&", "AIza", "eyJ", "earer ", "EARER ", "rovided")
"""What a text has that may hold a key by its looks, or in another spelling …"""
_PREFIXES: Final = tuple(
    f"{word}{dash}"
    for word in ("sk", "pk", "rk", "xai", "gsk", "pplx", "csk", "nvapi", "hf", "fw", "r8", "tgp")
    for dash in "-_"
)
"""… and, where it has a dash at all, one of these. Words are looked for one by one: that is faster than a pattern of them."""
_GRAM: Final = 6
"""Signs of a piece of a key that is looked for."""
_SHORT: Final = 64
"""Signs of a text all of whose pieces are looked up, rather than each piece of a key in it."""


class Redactor:
    """Strikes out what is not to be written.

    Args:
        rules: Which, in the order in which they are applied; none for everything as it is.
        secrets: Keys besides those of this process and its environment.

    Raises:
        ConfigurationError: a rule is none, or `secrets` no list.
    """

    def __init__(self, rules: Sequence[Rule], secrets: Iterable[str] = ()) -> None:
        if isinstance(rules, str) or not isinstance(rules, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError("redact: must be a list of rules")
        if isinstance(secrets, str) or not isinstance(secrets, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError("secrets: must be a list of keys")
        names, own = list[str](), list[Callable[[str], str]]()
        for rule in rules:
            if callable(rule):
                own.append(rule)
            elif rule in get_args(RuleName):
                names.append(rule)
            else:
                raise ConfigurationError(f"redact: a rule is {', '.join(get_args(RuleName))}, or a function")
        self._own = own
        self._keys, self._prompts, self._text = ("keys" in names, "prompts" in names, "text" in names)
        self._idle = not (names or own)
        self._plain = not (self._text or own)
        self._given = tuple(secrets)
        self._known: frozenset[str] = frozenset()
        self._secrets = Secrets(())
        self._grams: frozenset[str] = frozenset()
        self._short: tuple[str, ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """See which keys there are by now; none is forgotten."""
        if self._keys:
            names = {name for row in PROVIDERS.values() for name in row.api_key_env}
            values = (os.environ.get(name, "").strip() for name in names)
            known = self._known.union((*keys_in_use(), *self._given, *filter(None, values)))
            if known != self._known:
                self._known = known
                self._secrets = Secrets(known)
                self._grams = self._secrets.grams
                self._short = tuple(gram for gram in self._grams if len(gram) < _GRAM)

    def passes(self, text: str) -> bool:
        """Whether nothing is to be struck out of what a model said in an event: then its line may be written as it is."""
        return self._plain and not (self._keys and self._suspect(text))

    def json(self, line: bytes) -> bytes:
        """A line of JSON."""
        if self._idle:
            return line
        text = line.decode()
        prompts = self._prompts and any(mark in text for mark in _PROMPT_MARKS)
        if not prompts and self.passes(text):
            return line
        return msgspec.json.encode(self._value(msgspec.json.decode(line), ""))

    def body(self, data: bytes) -> bytes:
        """Lines of a body of server-sent events; those whose texts stay as they are stay byte for byte."""
        if self._idle:
            return data
        return b"".join(self._body_line(line) for line in data.splitlines(keepends=True))

    def _body_line(self, line: bytes) -> bytes:
        name, _, value = line.partition(b":")
        lead, payload = (b"data: ", value.strip()) if name == b"data" else (b"", line.strip())
        if payload[:1] in (b"{", b"["):
            try:
                before: Any = msgspec.json.decode(payload) if self._wants(payload) else None
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # then it is text
            else:
                after = self._value(before, "")
                if after == before:
                    return line
                return lead + msgspec.json.encode(after) + line[len(line.rstrip(b"\r\n")) :]
        text = line.decode("utf-8", "surrogateescape")
        struck = self._struck(text)
        return line if struck == text else struck.encode("utf-8", "surrogateescape")

    def _wants(self, data: bytes) -> bool:
        text = data.decode("utf-8", "replace")
        return not self.passes(text) or (self._prompts and any(mark in text for mark in _PROMPT_MARKS))

    def _suspect(self, text: str) -> bool:
        for sign in _SIGNS:
            if sign in text:
                return True
        if "-" in text or "_" in text:
            for prefix in _PREFIXES:
                if prefix in text:
                    return True
        if self._grams and len(text) <= _SHORT:
            pieces = [text[at : at + _GRAM] for at in range(len(text) - _GRAM + 1)]
            return not self._grams.isdisjoint(pieces) or any(gram in text for gram in self._short)
        return any(gram in text for gram in self._grams)

    def _value(self, value: Any, name: str) -> Any:
        if self._prompts and value and name in _PROMPTS and isinstance(value, (str, list)):
            return _STRUCK
        if isinstance(value, str):
            if self._text and name in _SAID:
                return "".join("·" if char.isalnum() else char for char in value)
            return self._struck(value)
        if is_object(value):
            return {self._struck(key): self._value(inner, key) for key, inner in value.items()}
        if is_list(value):
            return [self._value(inner, name) for inner in value]
        return value

    def _struck(self, text: str) -> str:
        if self._keys and self._suspect(text):
            text = self._secrets.strike(text)
        for rule in self._own:
            text = rule(text)
        return text
