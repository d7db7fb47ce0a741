"""Which operator a word for backpressure stands for, with a buffer that is counted in a unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, TypeVar

from reactivex import Observable, abc

from rxstream._backlog import Backlog, Overflow, buffered
from rxstream._deltas import droppable, size
from rxstream._units import text_of
from rxstream.events import CONTENT_EVENTS, EventBase
from rxstream.loop import LoopScheduler
from rxstream.operators import coalesce, on_backpressure_buffer, on_backpressure_latest

__all__ = ["Backpressure", "BufferUnit", "relieved"]

T = TypeVar("T")

Backpressure: TypeAlias = Literal["hold", "buffer", "drop_oldest", "drop_newest", "latest", "coalesce", "error"]
BufferUnit: TypeAlias = Literal["events", "tokens", "characters", "bytes"]

_OVERFLOW: Final[dict[str, Overflow]] = {
    "buffer": "hold",
    "drop_oldest": "drop_oldest",
    "drop_newest": "drop_newest",
    "error": "error",
}
_DEFAULT: Final = 1024
_JOINED: Final = 1_048_576


def relieved(
    policy: Backpressure, buffer: int | None, unit: BufferUnit
) -> Callable[[Observable[Any]], Observable[Any]] | None:
    """The operator of `policy`; None where the source is simply held, which needs none."""
    match policy:
        case "hold":
            return None
        case "latest":
            return on_backpressure_latest()
        case "coalesce":
            return coalesce(_JOINED if buffer is None else buffer)
        case _:
            capacity, overflow = _DEFAULT if buffer is None else buffer, _OVERFLOW[policy]
    if unit == "events":
        return on_backpressure_buffer(capacity, overflow=overflow)

    def weighed(observer: abc.ObserverBase[Any], scheduler: LoopScheduler) -> Backlog[Any]:
        backlog = _Weighed(observer, scheduler, capacity=capacity, overflow=overflow)
        backlog.weight = _WEIGHTS[unit]
        return backlog

    return buffered(weighed)


def _tokens(item: object) -> int:
    """As `rxstream.operators.buffer_tokens` counts: with most providers a piece of content is about a token."""
    return int(not isinstance(item, EventBase) or isinstance(item, CONTENT_EVENTS))


def _characters(item: object) -> int:
    return len(text_of(item))


_WEIGHTS: Final[dict[str, Callable[[object], int]]] = {"tokens": _tokens, "characters": _characters, "bytes": size}


class _Weighed(Backlog[T]):
    """A backlog whose capacity is not in items. The last item may go over it; one of no weight does not count."""

    weight: Callable[[object], int]

    def _weigh(self, item: T) -> int:
        return self.weight(item) if not self._drops or droppable(item) else 0

    def _exchange(self, item: T) -> T:
        """Keep `item` in place of so many of the oldest that there is room for it."""
        while True:
            while not self._weigh(self.items[0]):
                self._passed.append(self.items.popleft())
            oldest = self.items.popleft()
            self._count(-1, -size(oldest), -self._weigh(oldest))
            if self._level < self._limit:
                break
            self._statistics.dropped += 1
        self._append(item, self._weigh(item))
        return oldest
