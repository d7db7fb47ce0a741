"""What an operator is tried with: what its source gives, when its consumer pauses, and whether all of it came through."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, cast

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
    """What they say, however it is cut: texts that follow each other are one. Usage may come in the middle of one."""
    said: list[object] = []
    for item in items:
        if isinstance(item, EventBase) and not isinstance(item, TextDelta):
            said += [] if isinstance(item, UsageReported) else [bare(item)]
        elif isinstance(text := item if isinstance(item, str) else getattr(item, "text", None), str):
            before = said.pop() if said and isinstance(said[-1], str) else ""
            said.append(f"{before}{text}")
    return said


def _events(items: Iterable[object]) -> list[object]:
    """The events that are no text, in their order."""
    return [bare(item) for item in items if isinstance(item, EventBase) and not isinstance(item, TextDelta)]


def _names(items: Iterable[object]) -> str:
    """For a message: texts as they are, events by their kind, numbers as the seconds that they are."""
    names = (
        repr(item) if isinstance(item, str) else f"{item:g} s" if isinstance(item, float) else type(item).__name__
        for item in items
    )
    return ", ".join(names) or "nothing"
