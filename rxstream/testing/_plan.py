"""What an operator is tried with: what its source gives, when its consumer pauses, and whether all of it came through."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, cast

from msgspec.structs import replace

from rxstream.errors import Disconnected
from rxstream.events import Event, EventBase, TextDelta, ThinkingDelta, ToolCall, UsageReported
from rxstream.testing.marbles import bare
from rxstream.testing.scripted import DONE, Step, raising
from rxstream.usage import Usage

__all__ = ["Plan"]

_WAITS: Final = (0.1, 0.7, 3.0)
_TEXTS: Final = ("a", "Hm. ", "wörd ", "日本。", "long " * 9)
_OTHERS: Final = (
    ThinkingDelta(text="Hm.", part=1),
    ToolCall(id="call_1", name="tool", arguments="{}", part=2),
    UsageReported(usage=Usage(provenance="reported", input_tokens=7, output_tokens=3)),
)
_PAUSES: Final = (0.0, 0.05, 0.3, 1.0, 5.0)


@dataclass(frozen=True)
class Plan:
    """What the source gives, and when its consumer pauses."""

    steps: tuple[float | str | Event, ...]
    end: Literal["done", "error"]
    moves: tuple[tuple[float, bool], ...]

    @classmethod
    def by(cls, chance: random.Random) -> Plan:
        steps = tuple(chance.choice((*_WAITS, *_TEXTS, *_OTHERS)) for _ in range(chance.randint(0, 12)))
        moves = tuple((chance.choice(_PAUSES), chance.random() < 0.5) for _ in range(chance.randint(0, 8)))
        return cls(steps, chance.choice(("done", "error")), moves)

    def __str__(self) -> str:
        moves = (f"after {seconds:g} s it is {'held' if hold else 'released'}" for seconds, hold in self.moves)
        end = "completes" if self.end == "done" else "fails"
        return f"the source gives {_names(self.steps)}, and {end}; the gate: {', '.join(moves) or 'open'}"

    @property
    def script(self) -> list[Step]:
        return [*self.steps, DONE if self.end == "done" else raising(Disconnected("cut"))]

    def told(self, items: Iterable[object]) -> bool:
        """Whether the text of these is the beginning of what the source says."""
        given, due = (
            "".join(item for item in _said(some) if isinstance(item, str)) for some in (_flat(items), self.steps)
        )
        return due.startswith(given)

    def lost(self, items: Iterable[object]) -> str:
        """How these are not all that the source says; empty if they are."""
        given: list[object] = list(_flat(items))
        due: list[object] = [*self.steps, *([DONE] if self.end == "done" else [])]
        if not any(isinstance(item, EventBase) for item in given):  # texts alone
            due = [step for step in due if isinstance(step, str)]
        for what in (_said, _events):
            if (ours := what(given)) != (theirs := what(due)):
                return f"it gives {_names(ours)}, where {_names(theirs)} was due"
        return ""


def _flat(items: Iterable[object]) -> Iterator[object]:
    """The items, those in lists one by one."""
    for item in items:
        if isinstance(item, (list, tuple)):
            yield from _flat(cast("Iterable[object]", item))
        else:
            yield item


def _said(items: Iterable[object]) -> list[object]:
    """What they say, however it is cut: what follows each other and is of one kind is one. Usage may come in the midst of it."""
    said: list[object] = []
    for item in items:
        text = item if isinstance(item, str) else getattr(item, "text", None)
        before = said[-1] if said else None
        if isinstance(item, ThinkingDelta) and isinstance(before, ThinkingDelta):
            said[-1] = replace(before, text=before.text + item.text)
        elif isinstance(item, EventBase) and not isinstance(item, TextDelta):
            said += [] if isinstance(item, UsageReported) else [bare(item)]
        elif isinstance(text, str) and isinstance(before, str):
            said[-1] = before + text
        elif isinstance(text, str):
            said.append(text)
    return said


def _events(items: Iterable[object]) -> list[object]:
    """The events that are no text and cannot be cut, in their order."""
    return [bare(item) for item in items if isinstance(item, EventBase) and not hasattr(item, "text")]


def _names(items: Iterable[object]) -> str:
    """For a message: texts as they are, events by their kind, numbers as the seconds that they are."""
    names = (
        repr(item) if isinstance(item, str) else f"{item:g} s" if isinstance(item, float) else type(item).__name__
        for item in items
    )
    return ", ".join(names) or "nothing"
