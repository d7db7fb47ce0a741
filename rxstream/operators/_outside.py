"""What is current for whoever gets a stream's events, though the stream runs where something else is."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar

__all__ = ["Outside"]

T = TypeVar("T")


class Outside:
    """Calls in the midst of a changed context as if it had not been changed.

    A source runs in the context in which it was subscribed, and calls its observer there. What was set for the subscription
    alone, a span say, is set back for the time of such a call; all else is as it is.

    Args:
        before: A copy of the context from before the change; it is compared with the one that is current.
    """

    __slots__ = ("_values",)

    def __init__(self, before: Context) -> None:
        changed = [var for var, value in copy_context().items() if var not in before or before[var] is not value]
        self._values = [(var, value) for var in changed for value in _values(before, var)]

    def around(self, tell: Callable[[T], object]) -> Callable[[T], object]:
        """A function that calls `tell` so, for every event: where one value is to be set back, as a rule, it takes half the time."""
        if len(self._values) != 1:
            return partial(self, tell) if self._values else tell
        ((var, value),) = self._values

        def told(item: T) -> None:
            token = var.set(value)
            try:
                tell(item)
            finally:
                var.reset(token)

        return told

    def __call__(self, tell: Callable[..., object], *given: object) -> None:
        """Call `tell`."""
        tokens = [(var, var.set(value)) for var, value in self._values]
        try:
            tell(*given)
        finally:
            for var, token in reversed(tokens):
                var.reset(token)


def _values(context: Context, var: ContextVar[Any]) -> list[Any]:
    """Its value there, or its default; nothing where it has neither."""
    try:
        return [context.run(var.get)]
    except LookupError:
        return []
