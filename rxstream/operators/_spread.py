"""The end of an operator that makes several items of one: an outlet that holds the source while many of them wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from reactivex import abc

from rxstream._outlet import MOST, Mark, Outlet, too_many
from rxstream.loop import LoopScheduler

__all__ = ["Spread"]

T = TypeVar("T")


class Spread(Outlet[T]):
    """Emits what one item of the source came to, in order. Subscribe the source with `above`.

    Args:
        observer: Who is told.
        scheduler: Whose loop and gate hold.
        name: What the hold on the source is called.
        overflowed: Called when a source that cannot be held has sent too many: dispose it.
    """

    def __init__(
        self, observer: abc.ObserverBase[T], scheduler: LoopScheduler, name: str, *, overflowed: Callable[[], object]
    ) -> None:
        super().__init__(observer, scheduler)
        inner = scheduler.gate.child()
        self.above = scheduler.with_gate(inner)
        """What the source is to be subscribed with."""
        self._mark = Mark(inner, name, high=64, low=16)
        self._late = 0  # items of the source that came although it was held
        self._dispose_above = overflowed

    def give(self, items: Sequence[T]) -> None:
        """Emit `items`, now or after what waits."""
        if self.items or len(items) != 1:
            if items and not self.over:
                self._add(items)
        else:
            self.on_next(items[0])

    def _add(self, items: Sequence[T]) -> None:
        self._late = self._late + 1 if self._mark.held else 0
        if self._late > MOST:
            self._dispose_above()
            self.on_error(too_many(MOST))
            return
        self.items.extend(items)
        self._mark.level(len(self.items))
        self.flush()

    def take(self) -> T:
        """The next item."""
        item = super().take()
        self._mark.level(len(self.items))
        return item

    def dispose(self) -> None:
        """Nobody listens any more: forget what waits, and hold nothing."""
        self._mark.close()
        super().dispose()
