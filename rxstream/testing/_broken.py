"""Bytes that are broken as networks, proxies and providers break them; and ways to cut them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final

__all__ = ["broken", "cut", "cuttings"]

_VALUE: Final = re.compile(rb'"(?:[^"\\\n]|\\.)*"(?!\s*:)|-?\d+(?:\.\d+)?|true|false|null')
"""A value in JSON, not a name."""
_VALUES: Final = (b"null", b"[]", b"{}", b'""', b"-1", b"1e400", b"true", b'[{"a":[null]}]', rb'"\ud800"', b"9" * 400)
_LINES: Final = (
    b"data: {\n\n",
    b"data: null\n\n",
    b"data: 7\n\n",
    b"data: []\n\n",
    b"data: {}\n\n",
    b"data: " + b"[" * 2000 + b"]" * 2000 + b"\n\n",
    b"data: \xff\xfe\n\n",
    b"event: \x00\ndata: x\n\n",
    b"<html>502 Bad Gateway</html>",
    b"\r\r\n\n",
    b": \xf0\x9f\n",
)
_BYTEWISE: Final = 20_000


def broken(sample: bytes, chance: random.Random) -> bytes:
    """`sample`, damaged in one way or several."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        sample = chance.choice(_DAMAGES)(sample, chance)
    return sample


def _truncated(sample: bytes, chance: random.Random) -> bytes:
    return sample[: chance.randint(0, len(sample))]


def _shortened(sample: bytes, chance: random.Random) -> bytes:
    start, stop = _slice(sample, chance)
    return sample[:start] + sample[stop:]


def _doubled(sample: bytes, chance: random.Random) -> bytes:
    start, stop = _slice(sample, chance)
    return sample[:stop] + sample[start:]


def _flipped(sample: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(sample) + 1)
    return sample[:at] + bytes([chance.randrange(256)]) + sample[at + 1 :]


def _another_value(sample: bytes, chance: random.Random) -> bytes:
    values = list(_VALUE.finditer(sample))
    if not values:
        return sample
    place = chance.choice(values)
    return sample[: place.start()] + chance.choice(_VALUES) + sample[place.end() :]


def _another_line(sample: bytes, chance: random.Random) -> bytes:
    ends = [0, *(place.end() for place in re.finditer(rb"\n\n|\n", sample))]
    at = chance.choice(ends)
    return sample[:at] + chance.choice(_LINES) + sample[at:]


_DAMAGES: Final[Sequence[Callable[[bytes, random.Random], bytes]]] = (
    _truncated,
    _shortened,
    _doubled,
    _flipped,
    _another_value,
    _another_value,
    _another_value,
    _another_line,
)


def _slice(sample: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randint(0, len(sample))
    return start, min(len(sample), start + chance.choice((1, 7, 60, 400)))


def cuttings(body: bytes, chance: random.Random, *, ways: int) -> Iterator[list[bytes]]:
    """Ways to cut `body`: every byte alone, if it is not very long; then so many at random."""
    if len(body) <= _BYTEWISE:
        yield [body[at : at + 1] for at in range(len(body))]
    for _ in range(ways):
        yield cut(body, sorted(chance.randint(0, len(body)) for _ in range(chance.choice((1, 1, 2, 5, 20)))))


def cut(body: bytes, places: Sequence[int]) -> list[bytes]:
    """The pieces between these places."""
    return [body[start:stop] for start, stop in pairwise((0, *places, len(body)))]
