"""What is struck out of a tape before it is written.

Rules of this module:

* A rule is named (``keys``, ``prompts``, ``text``), or a function that gets each text of a line and gives what is to stand there.
* ``keys`` are those that this process uses, those of the environment, those that are given, and what looks like one.
* ``prompts`` are fields in which providers say the request back: instructions, messages, prompts.
* ``text`` is what the model says: each letter becomes a dot, so that lengths, times and structure stay.
* Lines stay JSON: what is found in a line is struck out of its texts, not of its JSON.
* Words of the format itself stay where they stand for themselves, though a key, or a rule, be like one: a tape can be read.
* A secret that a model spells over several events is not found in any of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from rxstream._secrets import Secrets, keys_in_use
from rxstream.errors import ConfigurationError
from rxstream.providers import PROVIDERS
from rxstream.providers._shared import is_list, is_object
from rxstream.tapes.format import Line

__all__ = ["Redactor", "Rule", "RuleName"]

RuleName = Literal["keys", "prompts", "text"]
Rule: TypeAlias = RuleName | Callable[[str], str]
"""A named rule, or a function of a text that gives what is to stand in its place."""

_STRUCK: Final = "***"
_SHORTEST: Final = 4
"""Signs of a key: shorter ones stand in every second word."""
_PROMPTS: Final = ("instructions", "prompt", "messages", "system", "user", "safety_identifier")
"""Fields in which a request comes back."""
_PROMPT_MARKS: Final = tuple(mark for name in _PROMPTS for mark in (f'"{name}"', f'\\"{name}\\"'))
_SAID: Final = frozenset(
    {"text", "content", "arguments", "thinking", "reasoning", "reasoning_content", "partial_json", "delta", "refusal"}
    | {"data", "signature", "cited_text", "transcript", "output_text", "token", "tokens", "query", "queries", "logs"}
    | {"input", "output", "result", "partial_image_b64", "b64_json"}
)
"""Fields in which a model speaks."""
_SAID_BELOW: Final = ("input", "parsed")
"""… in all that stands below them: the arguments of a call."""
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
        given = tuple(secrets)
        if any(not isinstance(key, str) or len(key) < _SHORTEST for key in given):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"secrets: a key is a text of {_SHORTEST} signs or more")
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
        self._given = given
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
                if payload != b"[DONE]":  # half a line, or none of JSON: what is a prompt in it cannot be told
                    line = self._half(line)
            else:
                after = self._value(before, "")
                if after == before:
                    return line
                return lead + msgspec.json.encode(after) + line[len(line.rstrip(b"\r\n")) :]
        text = line.decode("utf-8", "surrogateescape")
        struck = self._struck(text)
        return line if struck == text else struck.encode("utf-8", "surrogateescape")

    def _half(self, line: bytes) -> bytes:
        """Without what may be a prompt, or said, in JSON that has no end."""
        text = line.decode("utf-8", "surrogateescape")
        body = text.rstrip("\r\n")
        at = min((body.find(mark) + len(mark) for mark in _PROMPT_MARKS if mark in body), default=len(body))
        kept = body[:at] + (_STRUCK if at < len(body) else "") if self._prompts else body
        if self._text:
            lead, brace, rest = kept.partition("{")
            kept = lead + brace + "".join("·" if char.isalnum() else char for char in rest)
        return (kept + text[len(body) :]).encode("utf-8", "surrogateescape")

    @property
    def idle(self) -> bool:
        """Whether all stays as it is."""
        return self._idle

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

    def _value(self, value: Any, name: str, *, said: bool = False) -> Any:
        if self._prompts and value and name in _PROMPTS and isinstance(value, (str, list, dict)):
            return _STRUCK
        if isinstance(value, str):
            if self._text and (said or name in _SAID):
                return "".join("·" if char.isalnum() else char for char in value)
            return value if name not in _SAID and value in _words() else self._struck(value, raw=name == "raw")
        if is_object(value):
            below = said or (name in _SAID_BELOW)
            words = _words()
            return {
                key if key in words else self._struck(key): self._value(
                    inner, key, said=below or (key == "code" and "message" not in value)
                )
                for key, inner in value.items()
            }
        if is_list(value):
            if self._text and name == "bytes":  # of a token
                return []
            return [self._value(inner, name, said=said) for inner in value]
        return value

    def _struck(self, text: str, *, raw: bool = False) -> str:
        if self._keys and self._suspect(text):
            text = self._secrets.strike(text)
        if not raw:  # bytes in base64, which the rules have seen as text
            for rule in self._own:
                text = rule(text)
        return text


@cache
def _words() -> frozenset[str]:
    """Names of fields and of kinds: what stands for itself in a line."""
    _, parts = msgspec.json.schema_components([Line])
    return frozenset(_named(parts))


def _named(schema: Any) -> Iterator[str]:
    if is_object(schema):
        for key, value in schema.items():
            if key == "properties":
                yield from value
            if key in ("enum", "const"):
                yield from (word for word in (value if is_list(value) else [value]) if isinstance(word, str))
            yield from _named(value)
    elif is_list(schema):
        for value in schema:
            yield from _named(value)
