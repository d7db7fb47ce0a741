"""``on_backpressure_error``: a consumer that does not keep up is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from reactivex import Observable

from rxstream._backlog import Backlog, BufferStatistics, buffered
from rxstream._check import count, instance

__all__ = ["on_backpressure_error"]

T = TypeVar("T")


def on_backpressure_error(
    capacity: int = 0, *, statistics: BufferStatistics | None = None
) -> Callable[[Observable[T]], Observable[T]]:
    """Let the source run; when more comes than a paused or slow consumer has room for, close it and end in an error.

    ::

        gate:    --open--closed--------open-----|
        source:  --a--b--c--d--e
             on_backpressure_error(2)
        result:  --a--b----------------cd-X

    The source is closed at once. The consumer is told when its gate opens, after what was kept.

    A consumer that takes its items from a buffer, as ``async for`` and a coroutine callback do, keeps up until that is full:
    with 64 items. `rxstream.to_async_iterable` takes another number, ``high=1`` for one at a time.

    Reactor's ``onBackpressureError``; it has no capacity.

    Example:
        >>> import reactivex as rx
        >>> from reactivex import operators as ops
        >>> rx.of(1, 2).pipe(on_backpressure_error(), ops.to_list()).run()  # a consumer that keeps up
        [1, 2]

    Args:
        capacity: Items that may wait.
        statistics: Filled in; may be read from any thread.

    Raises:
        ConfigurationError: `capacity` is negative. A subscriber gets `LimitExceeded`.
    """
    count("capacity", capacity, least=0)
    instance("statistics", statistics, BufferStatistics)
    return buffered(
        lambda observer, scheduler: Backlog(
            observer, scheduler, capacity=capacity, overflow="error", statistics=statistics
        )
    )
