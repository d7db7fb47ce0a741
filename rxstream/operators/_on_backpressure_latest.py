"""``on_backpressure_latest``: for a paused or slow consumer, only the latest item is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from reactivex import Observable

from rxstream._backlog import Backlog, BufferStatistics, buffered
from rxstream._check import instance

__all__ = ["on_backpressure_latest"]

T = TypeVar("T")


def on_backpressure_latest(*, statistics: BufferStatistics | None = None) -> Callable[[Observable[T]], Observable[T]]:
    """Let the source run; of what comes while the consumer is paused or slow, keep the latest.

    ::

        gate:    --open--closed-----open-----|
        source:  --a--b--c--d--e-------f-----|
             on_backpressure_latest()
        result:  --a--b-------------e--f-----|

    For items each of which replaces the one before: the state so far, statistics, a rendered page. Of events only text,
    thinking, refusals, log probabilities, status and heartbeats are dropped, and gaps in ``seq`` tell; all others are kept.

    A consumer that takes its items from a buffer, as ``async for`` and a coroutine callback do, keeps up until that is full:
    with 64 items. `rxstream.to_async_iterable` takes another number, ``high=1`` for one at a time.

    RxJava's ``onBackpressureLatest``.

    Example:
        >>> import reactivex as rx
        >>> from reactivex import operators as ops
        >>> rx.of(1, 2).pipe(on_backpressure_latest(), ops.to_list()).run()  # a consumer that keeps up
        [1, 2]

    Args:
        statistics: Filled in; may be read from any thread.

    Raises:
        ConfigurationError: `statistics` is something else.
    """
    instance("statistics", statistics, BufferStatistics)
    return buffered(
        lambda observer, scheduler: Backlog(
            observer, scheduler, capacity=1, overflow="drop_oldest", statistics=statistics
        )
    )
