"""The keys of one connection, to be struck out of every text that leaves it.

Rules of this module:

* Servers say keys back in many spellings: escaped for JSON (once or more), for URLs, for HTML, in base64. A text is read
  without these spellings, and what is found there is struck out of it as it stands.
* They say pieces of keys, too, and a text may have been cut: twelve signs of a key in a row are struck out like all of it.
* Text is bounded before it comes here; the time is linear in it.
"""

from __future__ import annotations

import base64
import re
import string
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Final

from rxstream.errors import StreamError
from rxstream.providers._shared import mask

__all__ = ["Secrets", "keys_in_use"]

_SHORTEST: Final = 4
"""Signs of what may be a key at all."""
_GRAM: Final = 12
"""Signs of a longer one that give it away."""
_ENTITIES: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_UNIT: Final = re.compile(
    r"\\+u(?P<json>[0-9a-fA-F]{4})"
    r"|\\+"  # before a quote, a slash, or itself
    r"|%(?:25)*(?P<url>[2-7][0-9a-fA-F])"
    r"|&(?:amp;)*#(?:x(?P<hex>[0-9a-fA-F]{1,6})|(?P<number>\d{1,7}));"
    r"|&(?:amp;)*(?P<name>amp|lt|gt|quot|apos);",
)
_SHORTEST_CODED: Final = 8
"""Signs of base64 that nothing but the key has."""
_CODED: Final = frozenset(f"{string.ascii_letters}{string.digits}+/-_=")
"""The signs of base64."""
_FOR_URLS: Final = str.maketrans("-_", "+/")
"""The other alphabet of base64."""
_TO_URLS: Final = str.maketrans("+/", "-_")


class Secrets:
    """The keys of one connection.

    Args:
        values: The keys; what is no text, or too short for a key, is left out.
    """

    def __init__(self, values: Iterable[object]) -> None:
        self.values = frozenset(value for value in values if isinstance(value, str) and len(value) >= _SHORTEST)
        """Never to be shown."""
        with _lock:
            _in_use.add(self)

    def strike(self, text: str) -> str:
        """`text` without keys."""
        plain, at = _read(text)
        spans = [*_spans(plain, self._plain)]
        spans += [(start, _tail(plain, end)) for start, end in _spans(plain.translate(_FOR_URLS), self._encoded)]
        pieces: list[str] = []
        done = 0
        for start, end in sorted(spans):
            if at[end] <= done:
                continue
            if at[start] > done or not pieces:
                pieces += [text[done : at[start]], "***"]
            done = at[end]
        return mask("".join([*pieces, text[done:]]))

    @property
    def grams(self) -> frozenset[str]:
        """Texts of which one at least stands in whatever holds a key as it is, or in base64: to look for before `strike`."""
        found: set[str] = set()
        coded = list(self._encoded)
        for value in (*self._plain, *coded, *(form.translate(_TO_URLS) for form in coded)):
            size = min(len(value), _GRAM // 2)
            found.update(value[at : at + size] for at in range(0, len(value) - size + 1, size))
        return frozenset(found)

    @property
    def shortest(self) -> int:
        """Signs of the shortest text in which `strike` may find one of the keys."""
        return min((min(len(value), _GRAM) for value in self._plain), default=_GRAM)

    def clean(self, error: StreamError) -> None:
        """Strike the keys out of `error`: providers quote them back, before a stream and in its midst."""
        error.message, error.code, error.body = map(self.strike, (error.message, error.code, error.body))
        error.request_id = self.strike(error.request_id)
        error.args = (error.message,)

    @property
    def _plain(self) -> Iterator[str]:
        return (_read(value)[0] for value in self.values)

    @property
    def _encoded(self) -> Iterator[str]:
        return (form for value in self.values for form in _in_base64(value.encode("utf-8", "surrogatepass")))


_in_use: weakref.WeakSet[Secrets] = weakref.WeakSet()
_lock = threading.Lock()


def keys_in_use() -> frozenset[str]:
    """The keys of all connections that this process holds now: what no record of any stream may say."""
    with _lock:
        return frozenset(value for secrets in tuple(_in_use) for value in secrets.values)


def _read(text: str) -> tuple[str, list[int] | range]:
    """`text` without its spellings; and where each sign of that, and its end, stands in `text`."""
    if not any(sign in text for sign in "\\%&"):
        return text, range(len(text) + 1)
    signs: list[str] = []
    at: list[int] = []
    done = 0
    for unit in _UNIT.finditer(text):
        signs.append(text[done : unit.start()])
        at += range(done, unit.start())
        if (sign := _sign(unit)) not in ("", "\\"):  # a backslash is left out wherever it comes from
            signs.append(sign)
            at.append(unit.start())
        done = unit.end()
    signs.append(text[done:])
    return "".join(signs), [*at, *range(done, len(text) + 1)]


def _sign(unit: re.Match[str]) -> str:
    match unit.lastgroup:
        case None:
            return ""
        case "name":
            return _ENTITIES[unit["name"]]
        case "number":
            code = int(unit["number"])
        case group:
            code = int(unit[group], 16)
    return chr(code) if code < 0x110000 else "\ufffd"


def _in_base64(value: bytes) -> Iterator[str]:
    """What of `value` shows in the base64 of any text that holds it, for each of the three ways in which it may lie there."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + value).decode().rstrip("=")
        form = encoded[(before * 4 + 2) // 3 :][: (len(value) - (3 - before) % 3) * 4 // 3]
        if len(form) >= _SHORTEST_CODED:
            yield form


def _spans(text: str, secrets: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Where `secrets` stand in `text`, or long enough pieces of them."""
    by_size: dict[int, set[str]] = {}
    for secret in secrets:
        size = min(len(secret), _GRAM)
        by_size.setdefault(size, set()).update(secret[at : at + size] for at in range(len(secret) - size + 1))
    for size, grams in by_size.items():
        if size:
            yield from ((at, at + size) for at in range(len(text) - size + 1) if text[at : at + size] in grams)


def _tail(text: str, end: int) -> int:
    """Where base64 ends that goes on at `end`: its last signs depend on what follows the key, too."""
    return next(at for at in range(end, end + 5) if at == end + 4 or text[at : at + 1] not in _CODED)
