"""Streams as strings: ``"s-a-b-(cu|)"``.

==========  ==============================================================================================
character   what it is
==========  ==============================================================================================
``-``       nothing; like every other character it takes one unit of time
``s``       `Started`
a-z, 0-9    `TextDelta` of that character; but ``s``, ``u`` and ``f`` are something else. So are all capitals but these:
``K``       `ThinkingDelta` ("K")
``T``       `ToolCall`, a sealed one
``u``       `UsageReported`
``H``       `Heartbeat`
``R``       `Retracted`
``X``       `Failed`: a track has failed
``f``       `Finished`, where it is to be seen apart; a source ends with it
``|``       the proper end: `Finished`, if no ``f`` stands before it, and the completion
``#``       the end by an error
``(ab)``    at the same time, that of the ``(``; of a source, in one piece
space       nothing at all, to align diagrams
==========  ==============================================================================================

These are the rules of RxPY's and RxJS's marbles: a group takes as many units as it has characters, brackets counted. A
character may be given another meaning by ``values=``: an event, a text of any length, or, of what is expected, a class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from msgspec.structs import replace

from rxstream._check import instance, kind_of, positive, show
from rxstream.errors import ConfigurationError, Disconnected, StreamError
from rxstream.events import (
    ErrorInfo,
    Event,
    EventBase,
    Failed,
    Finished,
    Heartbeat,
    Retracted,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    UsageReported,
)
from rxstream.observable import Stream
from rxstream.testing.scripted import DONE, HANG, Item, Scripted, Step, raising
from rxstream.usage import Usage

__all__ = ["Mark", "bare", "draw", "fits", "from_marbles", "meanings", "read_marbles"]

T = TypeVar("T")

_EVENTS: Final[Mapping[str, Event]] = {
    "s": Started(id="marbles", model="marbles"),
    "K": ThinkingDelta(text="K"),
    "T": ToolCall(id="call_1", name="tool", arguments="{}", part=1),
    "u": UsageReported(usage=Usage(provenance="reported", input_tokens=7, output_tokens=3)),
    "H": Heartbeat(),
    "R": Retracted(),
    "X": Failed(error=ErrorInfo(kind="Disconnected", message="drawn")),
    "f": DONE,
}
_ENDS: Final = "|#"


@dataclass(frozen=True)
class Mark:
    """One character that means something, and its place."""

    at: int
    """Units of time from the start."""
    sign: str
    place: int = field(default=0, compare=False)
    """Which character of the diagram it is."""


def read_marbles(diagram: str, *, signs: str | None = None) -> tuple[list[Mark], int]:
    """The marks of a diagram, and how many units it is long.

    Args:
        diagram: The string.
        signs: The characters that may stand in it; by default letters, digits and ends.

    Raises:
        ConfigurationError: it holds something else, a bracket without its other half, or something after its end.
    """
    if not isinstance(diagram, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"a diagram must be a string, not {show(diagram)}")
    marks: list[Mark] = []
    at, ended = 0, False
    group: tuple[int, int] | None = None
    for place, sign in enumerate(diagram):
        if sign == " ":
            continue
        if sign == "(":
            if group is not None:
                raise ConfigurationError(_unread(diagram, place, "a bracket is open already"))
            group = at, place
        elif sign == ")":
            if group is None:
                raise ConfigurationError(_unread(diagram, place, "no bracket is open"))
            group = None
        elif sign != "-":
            known = sign.isascii() and (sign.isalnum() or sign in _ENDS) if signs is None else sign in signs
            if not known:
                raise ConfigurationError(_unread(diagram, place, "it means nothing here"))
            if ended:
                raise ConfigurationError(_unread(diagram, place, "it comes after the end"))
            ended = signs is None and sign in _ENDS
            marks.append(Mark(at if group is None else group[0], sign, place))
        elif group is not None:
            raise ConfigurationError(_unread(diagram, place, "no time passes within brackets"))
        at += 1
    if group is not None:
        raise ConfigurationError(_unread(diagram, group[1], "the bracket is not closed"))
    return marks, at


def _unread(diagram: str, place: int, why: str) -> str:
    """What is wrong with a diagram, pointing at the character."""
    shown = "".join(sign if sign.isprintable() else "?" for sign in diagram)
    return f"{diagram[place]!r} at {place}: {why}\n  {shown}\n  {' ' * place}^"


def from_marbles(
    diagram: str,
    *,
    unit: float = 1.0,
    values: Mapping[str, Event | str] | None = None,
    error: StreamError | None = None,
) -> Stream[Event]:
    """A stream as drawn: cold, with numbers and times, obeying the gate. Without an end in the diagram it never ends.

    Args:
        diagram: What comes when; see the table of `rxstream.testing.marbles`.
        unit: Seconds that a character takes.
        values: What characters mean here: an event, or a text of any length.
        error: What ``#`` is; by default `rxstream.errors.Disconnected`.

    Raises:
        ConfigurationError: the diagram cannot be read, or an option is not as described.

    Example:
        >>> from rxstream.testing import from_marbles
        >>> from_marbles("s-a-b-(cu|)", unit=0.001).run().text
        'abc'
    """
    positive("unit", unit)
    marks, length = read_marbles(diagram)
    meaning = dict[str, Event | str](_EVENTS) | dict(meanings(values))
    for sign, value in meaning.items():
        if not isinstance(value, (str, EventBase)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"values: {sign!r} is {kind_of(value)}, not an event or a text")
    instance("error", error, StreamError)
    failure = error if error is not None else Disconnected("as drawn")
    finals = {sign for sign, value in meaning.items() if isinstance(value, Finished)}
    steps: list[Step] = []
    at = 0
    for when in sorted({mark.at for mark in marks}):
        steps.append((when - at) * unit)
        at = when
        steps += _pieces([mark.sign for mark in marks if mark.at == when], meaning, failure, finals)
    ended = next((number for number, mark in enumerate(marks) if mark.sign in finals), len(marks))
    for mark in marks[ended + 1 :]:
        if mark.sign != "|":
            raise ConfigurationError(
                _unread(diagram, mark.place, "after Finished nothing comes: with it a source has ended")
            )
    if not marks or marks[-1].sign not in _ENDS:
        steps += [(length - at) * unit, HANG]
    return Stream.of(Scripted(steps).events())


def meanings(values: Mapping[str, T] | None) -> Mapping[str, T]:
    """What characters mean, none if it is None.

    Raises:
        ConfigurationError: it is no mapping of letters and digits.
    """
    if values is not None and not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"values: must be a dict of characters and what they mean, not {show(values)}")
    for sign in values or {}:
        if not (isinstance(sign, str) and len(sign) == 1 and sign.isascii() and sign.isalnum()):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"values: {sign!r} is no letter and no digit")
    return values or {}


def _pieces(
    signs: Sequence[str], meaning: Mapping[str, Event | str], failure: StreamError, finals: set[str]
) -> list[Step]:
    """The steps of one moment: one piece, or a lone failure."""
    if signs == ["#"]:
        return [raising(failure)]
    piece: list[Item] = []
    for sign in signs:
        if sign == "#":
            piece.append(failure)
        elif sign != "|":
            piece.append(meaning.get(sign, sign))
        elif finals.isdisjoint(signs):
            piece.append(DONE)
    return [tuple(piece)] if piece else []


def fits(sign: str, item: object, values: Mapping[str, object] | None = None) -> bool:
    """Whether `item` is what `sign` stands for. Who sent an event and when, its number and its bytes are not looked at.

    Args:
        sign: The character.
        item: What came.
        values: What characters mean here: a value, a text (of a `TextDelta` or alone), or a class.
    """
    if values is not None and sign in values:
        expected = values[sign]
        if isinstance(expected, type):
            return isinstance(item, expected)
        return bare(item) == bare(expected) or (isinstance(item, TextDelta) and item.text == expected)
    if sign in _EVENTS:
        return type(item) is type(_EVENTS[sign])
    if isinstance(item, TextDelta):
        return item.text == sign
    return not isinstance(item, EventBase) and str(item) == sign


def bare(item: object) -> object:
    """`item`; of an event, what it says, without who sent it and when."""
    if isinstance(item, EventBase):
        return replace(item, source="", attempt=1, seq=0, at=0.0, raw=None)
    if isinstance(item, (list, tuple)):
        return [bare(member) for member in cast("Iterable[Any]", item)]
    return item


def draw(signals: Sequence[tuple[float, object]], values: Mapping[str, object] | None = None) -> str:
    """What came, as a diagram: where it cannot be drawn exactly, as near as it can be.

    Args:
        signals: When, in units, and what: an item; an exception is the end by it, None the completion.
        values: As for `fits`; what no character stands for is ``?``.
    """
    drawn, at = "", 0
    for when in sorted({round(when) for when, _ in signals}):
        signs = "".join(_sign(item, values) for moment, item in signals if round(moment) == when)
        signs = signs.replace("f|", "|")
        drawn += "-" * (when - at) + (f"({signs})" if len(signs) > 1 else signs)
        at = max(at, when) + (len(signs) + 2 if len(signs) > 1 else 1)
    return drawn


def _sign(item: object, values: Mapping[str, object] | None) -> str:
    if item is None or isinstance(item, Exception):
        return "|" if item is None else "#"
    for sign in values or {}:
        if fits(sign, item, values):
            return sign
    if isinstance(item, TextDelta) or not isinstance(item, EventBase):
        text = item.text if isinstance(item, TextDelta) else str(item)
        return text if len(text) == 1 and text.isascii() and text.isalnum() and text not in _EVENTS else "?"
    return next((sign for sign, event in _EVENTS.items() if type(item) is type(event)), "?")
