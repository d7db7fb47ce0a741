"""Planted secrets, and everything in which one may be read off a thing.

Rules of this module:

* A canary is a key that no pattern knows: only whoever was given it can strike it out. It has all the signs by which JSON,
  HTML and URLs spell a text otherwise.
* `spilt` gives every text that a person or a program can get of a thing without taking the machine apart: what it says, its
  attributes, its causes, its traceback with all locals, its pickle, its copy, its JSON.
"""

from __future__ import annotations

import base64
import copy
import gc
import html
import json
import pickle
import traceback
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote, quote_plus

import msgspec

from rxstream.errors import StreamError

__all__ = ["FORMS", "HEADER", "KEY", "PASSWORD", "PROMPT", "reached", "spilt", "told"]

KEY: Final = 'cnryKey/9f+3a=&"<\\Zt0042'
HEADER: Final = "cnryHeader~7c?d1%Qp'8810"
PASSWORD: Final = "cnryPassword-5e_Rw6621"  # noqa: S105 - planted
PROMPT: Final = "cnryPrompt: why is the sky 3b blue?"


def _escaped(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in text)


FORMS: Final[dict[str, Callable[[str], str]]] = {
    "as it is": str,
    "in a repr": lambda text: repr(text)[1:-1],
    "in JSON": lambda text: json.dumps(text)[1:-1],
    "in JSON with escaped slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "in JSON, HTML-safe": lambda text: json.dumps(text)[1:-1].replace("<", "\\u003c").replace("&", "\\u0026"),
    "in JSON twice": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "all escaped": _escaped,
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded but for slashes": quote,
    "percent-encoded in lower case": lambda text: quote(text, safe="").replace("%2F", "%2f").replace("%3D", "%3d"),
    "in a form": quote_plus,
    "in HTML": html.escape,
    "in HTML but for quotes": lambda text: html.escape(text, quote=False),
    "in base64": lambda text: base64.b64encode(text.encode()).decode(),
    "in Basic, as the user": lambda text: base64.b64encode(f"{text}:".encode()).decode(),
    "in Basic, as the password": lambda text: base64.b64encode(f":{text}".encode()).decode(),
    "in Basic, behind a user": lambda text: base64.b64encode(f"me:{text}".encode()).decode(),
    "in base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
}
"""The ways in which a server may say a key."""


def told(text: str, secret: str) -> list[str]:
    """The forms in which `secret` stands in `text`, or the most of it, if that is all that there was room for."""
    text = text.lower()
    return [name for name, form in FORMS.items() if form(secret)[: len(form(secret)) * 2 // 3].lower() in text]


def spilt(thing: Any) -> Iterator[str]:
    """Every text that can be got of `thing`."""
    pending: list[Any] = [thing]
    seen: dict[int, Any] = {}
    while pending:
        one = pending.pop()
        if id(one) in seen or isinstance(one, (type, types.ModuleType)):
            continue
        seen[id(one)] = one
        yield from (str(one), repr(one))
        pending += vars(one).values() if hasattr(one, "__dict__") else []
        if isinstance(one, (dict, list, tuple, set, frozenset)):
            pending += gc.get_referents(one)
        if isinstance(one, BaseException):
            pending += [one.__cause__, one.__context__, *one.args, *getattr(one, "__notes__", ())]
            yield "".join(traceback.format_exception(one))
            yield "".join(traceback.TracebackException.from_exception(one, capture_locals=True).format())
            yield from _copies(one)


def _copies(error: BaseException) -> Iterator[str]:
    data = pickle.dumps(error)
    yield data.decode("latin-1")
    yield repr(vars(pickle.loads(data)))  # noqa: S301 - written a line above
    yield repr(vars(copy.copy(error)))
    yield repr(vars(copy.deepcopy(error)))
    if isinstance(error, StreamError):
        yield msgspec.json.encode(error.info()).decode()


def reached(error: BaseException, packages: Iterable[str]) -> list[str]:
    """Objects of these packages that the error keeps alive: through attributes, causes, tracebacks, frames and cycles."""
    foreign: list[str] = []
    pending: list[Any] = [error]
    seen = {id(pending), id(seen_by := foreign)}
    while pending:
        one = pending.pop()
        if id(one) in seen or isinstance(one, (type, types.ModuleType)):
            continue
        seen.add(id(one))
        home = type(one).__module__.partition(".")[0]
        if home in packages:
            foreign.append(f"{type(one).__module__}.{type(one).__qualname__}")
        pending += [next_one for next_one in gc.get_referents(one) if not isinstance(next_one, types.FunctionType)]
    del seen_by
    return foreign
