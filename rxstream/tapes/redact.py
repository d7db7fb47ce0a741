"""What is struck out of a tape before it is written.

Rules of this module:

* A rule is named (``keys``, ``prompts``, ``text``), or a function that gets each text of a line and gives what is to stand there.
* ``keys`` are those that this process uses, those of the environment, those that are given, and what looks like one.
* ``prompts`` are fields in which providers say the request back: instructions, messages, prompts, tools, schemas, who asked. Of a
  Responses object only what is known to be the answer stays. What an error's message quotes is no field, and stays.
* ``text`` is what the model says: each letter becomes a dot, so that lengths, times and structure stay.
* Lines stay JSON: what is found in a line is struck out of its texts, not of its JSON.
* Words of the format itself stay where they stand for themselves, though a key, or a rule, be like one: a tape can be read.
* A secret that a model spells over several events is not found in any of them.
"""

from __future__ import annotations

import os
import re
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
_PROMPTS: Final = frozenset(
    {"instructions", "prompt", "system", "system_prompt", "system_instruction", "messages", "input_messages"}
    | {"chat_history", "prompt_text", "prompt_token_ids", "prompt_logprobs", "prompt_cache_key", "flagged_input"}
    | {"tools", "functions", "response_format", "json_schema", "grammar", "generation_settings"}
    | {"user", "safety_identifier", "metadata"}
)
"""Fields in which a request comes back …"""
_HOLD_PROMPTS: Final = {"input": list, "text": dict, "tool_choice": dict}
"""… and those that are one where they hold this: else they say something of the answer."""
_ANSWER: Final = frozenset(
    {"id", "object", "model", "status", "error", "incomplete_details", "output", "output_text", "usage", "tool_usage"}
    | {"service_tier", "reasoning", "truncation", "content_filters", "moderation", "previous_response_id"}
)
"""Fields of an object ``response`` that are no request's, besides numbers."""
_MARKS: Final = tuple(
    f'"{name}'
    for name in sorted(
        {"instructions", "prompt", 'system"', "system\\", "system_prompt", "system_inst", "messages", "input_m"}
        | {"chat_h", "flagged_input", "tools", "functions", "response_f", "json_schema", "grammar", "generation_s"}
        | {"metadata", 'user"', "user\\", "safety_identifier", 'input"', "input\\", "format", "tool_choice"}
        | {'response"', "response\\"}
    )
)
"""One of these is in every line that has such a field: a quote, and how its name begins. A text may hold JSON, too."""
_SAID: Final = frozenset(
    {"text", "content", "arguments", "thinking", "reasoning", "reasoning_content", "partial_json", "delta", "refusal"}
    | {"data", "signature", "cited_text", "transcript", "output_text", "token", "tokens", "query", "queries", "logs"}
    | {"input", "output", "result", "partial_image_b64", "b64_json"}
)
"""Fields in which a model speaks."""
_SAID_BELOW: Final = ("input", "parsed")
"""… in all that stands below them: the arguments of a call."""
_SIGNS: Final = ("\\", "%", "&", "AIza", "eyJ", "earer ", "EARER ", "rovided", "ROVIDED")
"""What a text has that may hold a key by its looks, or in another spelling …"""
_PREFIXED: Final = re.compile(
    r"[-_](?:(?<=[spr]k.)|(?<=xai.)|(?<=lx.)|(?<=pi.)|(?<=hf.)|(?<=fw.)|(?<=r8.)|(?<=gp.))[\w*.-]{6}"
)
"""… and how one of their prefixes ends. To look for each sign by itself is faster than for all at once."""
_LEAST: Final = 8
"""Signs of the shortest text that may hold a key by its looks: ``bearer x``."""
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
        self._least = _LEAST
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
                self._least = min(_LEAST, self._secrets.shortest)

    def passes(self, text: str) -> bool:
        """Whether nothing is to be struck out of what a model said in an event: then its line may be written as it is."""
        return self._plain and (len(text) < self._least or not (self._keys and self._suspect(text)))

    def json(self, line: bytes) -> bytes:
        """A line of JSON."""
        if self._idle or not self._wants(line.decode()):
            return line
        return msgspec.json.encode(self._value(msgspec.json.decode(line), ""))

    def body(self, data: bytes) -> bytes:
        """A piece of a body of server-sent events, whole events of it; those whose texts stay as they are stay byte for byte."""
        if self._idle or not self._wants(data.decode("utf-8", "surrogateescape")):
            return data
        out: list[bytes] = []
        event: list[bytes] = []
        for line in data.splitlines(keepends=True):
            event.append(line)
            if not line.strip(b"\r\n"):
                out += self._event(event)
                event.clear()
        return b"".join((*out, *self._event(event)))

    def payload(self, data: bytes) -> bytes:
        """The payload of such an event: the JSON of all its lines."""
        payload = data.strip()
        if self._idle or payload == b"[DONE]":
            return data
        text = data.decode("utf-8", "surrogateescape")
        if payload[:1] in (b"{", b"["):
            if not self._wants(text):
                return data
            try:
                before: Any = msgspec.json.decode(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                text = self._half(text)  # what is a prompt in it cannot be told
            else:
                after = self._value(before, "")
                return data if after == before else msgspec.json.encode(after)
        elif self._tells(text):
            text = self._half(text)
        return self._struck(text).encode("utf-8", "surrogateescape")

    def _event(self, lines: list[bytes]) -> list[bytes]:
        """The lines of an event: its payload may stand on several."""
        at = [number for number, line in enumerate(lines) if _field(line)[0] == b"data"]
        out = [line if _field(line)[0] == b"data" else self._line(line) for line in lines]
        before = b"\n".join(_field(lines[number])[1] for number in at)
        if at and (after := self.payload(before)) != before:
            for number in at:
                out[number] = b""
            out[at[-1]] = _replaced(lines[at[-1]], b"data: " + after)
        return out

    def _line(self, line: bytes) -> bytes:
        """A line that is no payload."""
        before = line.rstrip(b"\r\n")
        after = self.payload(before) if before else before
        return line if after == before else _replaced(line, after)

    def _half(self, text: str) -> str:
        """Without what may be a prompt, or said, in JSON that has no end."""
        at = (
            min((text.find(mark) for mark in _MARKS if mark in text), default=len(text)) if self._prompts else len(text)
        )
        kept = text[:at] + (_STRUCK if at < len(text) else "")
        if self._text:
            lead, brace, rest = kept.partition("{")
            kept = lead + brace + "".join("·" if char.isalnum() else char for char in rest)
        return kept

    @property
    def idle(self) -> bool:
        """Whether all stays as it is."""
        return self._idle

    def _wants(self, text: str) -> bool:
        return not self.passes(text) or self._tells(text)

    def _tells(self, text: str) -> bool:
        """Whether the request may come back in it."""
        if self._prompts:
            for mark in _MARKS:
                if mark in text:
                    return True
        return False

    def _suspect(self, text: str) -> bool:
        for sign in _SIGNS:
            if sign in text:
                return True
        if self._grams and len(text) <= _SHORT:
            pieces = [text[at : at + _GRAM] for at in range(len(text) - _GRAM + 1)]
            if not self._grams.isdisjoint(pieces) or any(gram in text for gram in self._short):
                return True
        else:
            for gram in self._grams:
                if gram in text:
                    return True
        return _PREFIXED.search(text) is not None

    def _value(self, value: Any, name: str, *, said: bool = False) -> Any:
        if self._prompts and _asks(name, value):
            return _STRUCK
        if isinstance(value, str):
            if self._text and (said or name in _SAID):
                return "".join("·" if char.isalnum() else char for char in value)
            if name in _SAID or value not in _words():
                value = self._struck(value, raw=name == "raw")
                if name not in _SAID and value[:1] in ("{", "[") and self._tells(value):
                    value = self.payload(value.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
            return value
        if is_object(value):
            below = said or (name in _SAID_BELOW)
            words = _words()
            answer = self._prompts and value.get("object") == "response"
            return {
                key if key in words else self._struck(key): _STRUCK
                if answer and key not in _ANSWER and inner and isinstance(inner, (str, list, dict))
                else self._value(inner, key, said=below or (key == "code" and "message" not in value))
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


def _asks(name: str, value: Any) -> bool:
    """Whether a field of this name is one of the request."""
    if not value or not isinstance(value, (str, list, dict)):
        return False
    return name in _PROMPTS or (name in _HOLD_PROMPTS and isinstance(value, _HOLD_PROMPTS[name]))


def _field(line: bytes) -> tuple[bytes, bytes]:
    """The name of a line of server-sent events, and its value."""
    name, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
    return name, value.strip()


def _replaced(line: bytes, text: bytes) -> bytes:
    """`text` as one line that ends as `line` does."""
    return b" ".join(text.splitlines()) + line[len(line.rstrip(b"\r\n")) :]


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
