"""Faults by name: what goes wrong with an answer.

Rules of this module:

* A fault is data: a name of `FAULTS` and the few options that it takes. Several may befall one answer; what changes its events
  comes first, then what changes its head, then what cuts or slows it.
* Its place is one of `at`, `event`, `content` and `fraction`; where none is given, after the first event of content.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from rxstream import _check as check
from rxstream._input import hint
from rxstream.errors import ConfigurationError
from rxstream.testing.chaos import _changes as changes
from rxstream.testing.chaos._answer import Answer
from rxstream.testing.chaos._changes import ENDINGS, Options
from rxstream.testing.chaos._errors import ERRORS, FORMS
from rxstream.testing.chaos._steps import CLOSE, END, HALF_CLOSE, RESET, Signal

__all__ = ["FAULTS", "Fault", "Faults", "RandomFaults", "befall", "several"]

_PLACE: Final = ("at", "event", "content", "fraction")
_HALT: Final = ("seconds", "until")
_ONE: Final = re.compile(r"(?:[^+/]|/[^,]*)+")
"""One fault of several that are written with ``+``; a content type, such as ``application/problem+json``, is not cut."""


class _Entry(NamedTuple):
    says: str
    change: Callable[[Answer, Any], None]
    takes: Sequence[str] = ()
    stage: Literal[0, 1, 2] = 0
    """0 the events, 1 the head, 2 cuts and time."""


def _status(code: int, words: str) -> _Entry:
    takes = ("retry_after", "date", "kind")
    return _Entry(f"HTTP {code}, {words}", partial(changes.status, code=code), takes, 1)


_ENTRIES: Final[dict[str, _Entry]] = {
    "refuse": _Entry("the connection is reset before a byte is answered", changes.refuse, (), 2),
    "hang": _Entry("no head comes, for some seconds or for ever", changes.hang, _HALT, 2),
    "400": _status(400, "the request is not valid"),
    "401": _status(401, "the key is not valid"),
    "403": _status(403, "this key may not"),
    "404": _status(404, "no such model"),
    "413": _status(413, "the request is too large"),
    "429": _status(429, "too many requests"),
    "500": _status(500, "the server failed"),
    "502": _status(502, "a gateway's page of HTML"),
    "503": _status(503, "no capacity"),
    "529": _status(529, "overloaded"),
    "html": _Entry("a page of HTML under HTTP 200", changes.html, (), 1),
    "json": _Entry("an error as JSON under HTTP 200", changes.json_error, ("kind",), 1),
    "nothing": _Entry("an event stream without a byte", changes.nothing, (), 1),
    "content_type": _Entry("the good answer under a wrong content type", changes.content_type, ("type",), 1),
    "gzip": _Entry("the body is compressed, unasked", changes.gzip, (), 1),
    "deflate": _Entry("the body is deflated, unasked", changes.deflate, (), 1),
    "stall": _Entry("nothing more comes, or only pings", changes.stall, (*_PLACE, *_HALT, "pings"), 2),
    "drip": _Entry("the body comes in small pieces, slowly", changes.drip, ("size", "every"), 2),
    "split": _Entry("the body comes in two pieces, cut here", changes.split, _PLACE, 2),
    "buffer": _Entry("a proxy gathers the events and passes them on in lumps", changes.buffer, ("size",), 2),
    "reset": _Entry("RST", partial(changes.cut, ending=RESET), _PLACE, 2),
    "close": _Entry("FIN without the body's end", partial(changes.cut, ending=CLOSE), _PLACE, 2),
    "half_close": _Entry("FIN, and the server waits", partial(changes.cut, ending=HALF_CLOSE), _PLACE, 2),
    "end": _Entry("the body ends properly, the answer does not", partial(changes.cut, ending=END), _PLACE, 2),
    "cut_event": _Entry("cut inside the line of an event", changes.cut_event, (*_PLACE, "how"), 2),
    "cut_json": _Entry("cut inside the JSON of an event", changes.cut_json, (*_PLACE, "how"), 2),
    "cut_utf8": _Entry("cut inside a character", changes.cut_utf8, (*_PLACE, "how"), 2),
    "cut_tool": _Entry("cut inside the arguments of a tool", changes.cut_tool, ("how",), 2),
    "endless": _Entry("the text goes on for ever, as fast as it is read", changes.endless, _PLACE, 2),
    "linger": _Entry("the answer is complete, the body does not end", changes.linger, (*_HALT, "pings"), 2),
    "error": _Entry("an error in the midst of the answer, under HTTP 200", changes.error, (*_PLACE, "kind", "form")),
    "duplicate": _Entry("the event before the place comes twice", changes.duplicate, _PLACE),
    "reorder": _Entry("the events before and after the place change places", changes.reorder, _PLACE),
    "null": _Entry("an event whose text is null", changes.null, _PLACE),
    "empty": _Entry("an event whose text is empty, and one without data", changes.empty, _PLACE),
    "unknown": _Entry("an event of a kind that nobody knows", changes.unknown, _PLACE),
    "oversized": _Entry("an event of 16 MiB, or another size", changes.oversized, (*_PLACE, "size")),
    "bad_json": _Entry("an event whose data is no JSON", changes.bad_json, _PLACE),
    "bad_utf8": _Entry("an event whose text is no UTF-8", changes.bad_utf8, _PLACE),
    "bom": _Entry("a byte order mark before the first event", changes.bom),
    "crlf": _Entry("lines end with CR LF", changes.crlf),
    "missing_finish": _Entry("nothing says why the answer ended", changes.missing_finish),
    "missing_end": _Entry("the terminal event is missing", changes.missing_end),
    "missing_usage": _Entry("nothing says what was used", changes.missing_usage),
}

FAULTS: Final[Mapping[str, str]] = MappingProxyType({name: entry.says for name, entry in _ENTRIES.items()})
"""What can go wrong: names, and what happens."""


@dataclass(frozen=True)
class Fault(Options):
    """Something that goes wrong with an answer.

    Args:
        name: One of `FAULTS`.

    The options are those of `Options`; a fault takes a few of them.

    Raises:
        ConfigurationError: there is no such fault, it does not take an option, or an option has a wrong value.
    """

    name: str = field(kw_only=False)

    def __post_init__(self) -> None:
        entry = _ENTRIES.get(str(self.name))
        if entry is None:
            raise ConfigurationError(f"unknown fault {self.name!r}{hint(str(self.name), _ENTRIES)}")
        for option in self.given:
            if option not in entry.takes:
                allowed = ", ".join(entry.takes) or "nothing"
                raise ConfigurationError(f"{option}: the fault {self.name!r} takes {allowed}")
        check.at_most_one(at=self.at, event=self.event, content=self.content, fraction=self.fraction)
        check.at_most_one(seconds=self.seconds, until=self.until)
        for option, value in self.given.items():
            _CHECKS[option](option, value)

    @staticmethod
    def options(name: str) -> Sequence[str]:
        """The options that the fault of this name takes."""
        return _ENTRIES[name].takes

    @property
    def given(self) -> dict[str, Any]:
        """The options that are not left out."""
        values = ((option.name, getattr(self, option.name)) for option in fields(Options))
        return {name: value for name, value in values if value is not None and value is not False}

    def __str__(self) -> str:
        """As `parse` reads it."""
        return ":".join([self.name, ",".join(f"{name}={value}" for name, value in self.given.items())]).rstrip(":")

    @classmethod
    def parse(cls, words: str) -> Fault:
        """The fault that is written ``name`` or ``name:option=value,option=value``.

        Raises:
            ConfigurationError: as for the class.
        """
        name, _, rest = str(words).partition(":")
        options: dict[str, Any] = {}
        for pair in rest.split(",") if rest else ():
            option, equals, value = pair.partition("=")
            if not equals or option not in _PARSERS:
                raise ConfigurationError(f"{words!r}: {pair!r} is no option=value{hint(option, _PARSERS)}")
            try:
                options[option] = _PARSERS[option](value)
            except (KeyError, ValueError):
                wanted = " or ".join(_WORDS) if option == "date" else "number"
                raise ConfigurationError(f"{words!r}: {option}={value} is no {wanted}") from None
        return cls(name, **options)


Faults = str | Fault | Sequence[str | Fault] | None
"""What befalls one answer: a fault, written or made, or several; ``gzip+reset:at=200`` is two, ``none`` is none."""


def _between(name: str, value: float) -> None:
    if check.at_least(name, value) > 1:
        raise ConfigurationError(f"{name}={value!r}: must be at most 1")


_CHECKS: Final[dict[str, Callable[[str, Any], object]]] = {
    **dict.fromkeys(("at", "event", "content"), partial(check.count, least=0)),
    **dict.fromkeys(("seconds", "pings", "every", "retry_after"), check.at_least),
    "fraction": _between,
    "size": check.count,
    "until": lambda name, value: check.instance(name, value, Signal),
    "date": check.flag,
    "kind": lambda name, value: check.one_of(name, value, ERRORS),
    "form": lambda name, value: check.one_of(name, value, FORMS),
    "how": lambda name, value: check.one_of(name, value, ENDINGS),
    "type": lambda name, value: check.instance(name, value, str),
}
_WORDS: Final = {"yes": True, "no": False, "True": True, "False": False}
_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("at", "event", "content", "size"), int),
    **dict.fromkeys(("fraction", "seconds", "pings", "every", "retry_after"), float),
    **dict.fromkeys(("kind", "form", "how", "type"), str),
    "date": _WORDS.__getitem__,
}


class RandomFaults:
    """A fault for some answers, by chance: a plan for `ChaosServer`.

    Args:
        among: A fault, or several, as made or as written; by default all those that need no option and end by themselves.
        probability: The share of answers that fail, from 0 to 1.
        seed: The same seed gives the same faults, in the order of the requests.

    Raises:
        ConfigurationError: an option has a wrong value.
    """

    def __init__(self, among: Faults = None, *, probability: float = 0.2, seed: int | None = None) -> None:
        _between("probability", probability)
        self._faults = several([name for name in FAULTS if name not in _HANGING] if among is None else among)
        if not self._faults:
            raise ConfigurationError("among: there is no fault in it")
        self._probability = probability
        self._random = random.Random(seed)  # noqa: S311 - chance, no secret

    def __call__(self, _: object) -> Fault | None:
        """The next answer's fault."""
        if self._random.random() >= self._probability:
            return None
        return self._random.choice(self._faults)


_HANGING: Final = ("hang", "stall", "half_close", "linger", "endless", "oversized")


def several(faults: Faults) -> Sequence[Fault]:
    """The faults that befall one answer.

    Raises:
        ConfigurationError: one of them is none.
    """
    listed = [faults] if isinstance(faults, (str, Fault)) else faults or ()
    check.instance("faults", listed, Sequence)
    return [fault for given in listed for fault in ([given] if isinstance(given, Fault) else _written(str(given)))]


def _written(words: str) -> list[Fault]:
    return [Fault.parse(one) for one in _ONE.findall(words) or [words] if one != "none"]


def befall(answer: Answer, faults: Iterable[Fault], *, stages: Sequence[int]) -> None:
    """Let those faults happen to the answer whose turn it is: 0 the events, 1 the head, 2 cuts and time."""
    for stage in stages:
        for fault in faults:
            entry = _ENTRIES[fault.name]
            if entry.stage == stage:
                entry.change(answer, fault)
