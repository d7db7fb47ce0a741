"""``on_backpressure_drop``: what a paused or slow consumer cannot take is dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from reactivex import Observable

from rxstream._backlog import Backlog, BufferStatistics, buffered
from rxstream._check import count, function, instance

__all__ = ["on_backpressure_drop"]

T = TypeVar("T")


def on_backpressure_drop(
    capacity: int = 0,
    *,
    on_drop: Callable[[T], object] | None = None,
    statistics: BufferStatistics | None = None,
) -> Callable[[Observable[T]], Observable[T]]:
    """Let the source run, and drop what comes while the consumer is paused or slow.

    ::

        gate:    --open--closed-----open-----|
        source:  --a--b--c--d--e-------f-----|
             on_backpressure_drop()
        result:  --a--b----------------f-----|

    Of events only text, thinking, refusals, log probabilities, status and heartbeats are dropped, and gaps in ``seq`` tell;
    all others wait, whatever `capacity` is.

    A consumer that takes its items from a buffer, as ``async for`` and a coroutine callback do, keeps up until that is full:
    with 64 items. `rxstream.to_async_iterable` takes another number, ``high=1`` for one at a time.

    RxJava's ``onBackpressureDrop``; it has no capacity.

    Example:
        >>> import reactivex as rx
        >>> from reactivex import operators as ops
        >>> rx.of(1, 2).pipe(on_backpressure_drop(on_drop=print), ops.to_list()).run()  # a consumer that keeps up
        [1, 2]

    Args:
        capacity: Items to keep, the first that come, before any is dropped.
        on_drop: Called with each item that is dropped. What it raises ends the stream.
        statistics: Filled in; may be read from any thread.

    Raises:
        ConfigurationError: `capacity` is negative.
    """
    count("capacity", capacity, least=0)
    if on_drop is not None:
        function("on_drop", on_drop)
    instance("statistics", statistics, BufferStatistics)
    return buffered(
        lambda observer, scheduler: Backlog(
            observer,
            scheduler,
            capacity=capacity,
            overflow="drop_newest",
            statistics=statistics,
            on_drop=on_drop,
        )
    )
