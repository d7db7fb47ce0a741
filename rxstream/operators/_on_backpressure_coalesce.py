"""``on_backpressure_coalesce``: let the source run, and join what waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from reactivex import Observable

from rxstream._backlog import BufferStatistics, Merger, buffered
from rxstream._check import count, instance

__all__ = ["on_backpressure_coalesce"]

T = TypeVar("T")


def on_backpressure_coalesce(
    max_bytes: int = 1_048_576, *, statistics: BufferStatistics | None = None
) -> Callable[[Observable[T]], Observable[T]]:
    """Never hold the source: what comes while the consumer is paused or slow waits, joined to few large deltas.

    ::

        gate:    --open--closed--------------open--------|
        source:  --a-----b--c--d--e--|
             on_backpressure_coalesce()
        result:  --a-------------------------bcde|

    It joins as `coalesce` does, which holds the source when much waits. This one lets it run to its end at its own pace, so
    that a long pause costs no connection; more than `max_bytes` that wait are an error, after all that was kept.

    RxJava's ``onBackpressureReduce`` and Akka's ``conflate`` are its relatives.

    Example:
        >>> import reactivex as rx
        >>> from reactivex import operators as ops
        >>> rx.of("Hel", "lo").pipe(on_backpressure_coalesce(), ops.to_list()).run()  # a consumer that keeps up
        ['Hel', 'lo']

    Args:
        max_bytes: Bytes of waiting text (UTF-8; 64 for an item without text) with which no more is taken; also the most
            that is joined to one item.
        statistics: Filled in; its `capacity` is in bytes.

    Raises:
        ConfigurationError: `max_bytes` is less than 1. A subscriber gets `LimitExceeded`.
    """
    count("max_bytes", max_bytes)
    instance("statistics", statistics, BufferStatistics)
    return buffered(
        lambda observer, scheduler: Merger(
            observer, scheduler, capacity=max_bytes, overflow="error", statistics=statistics
        )
    )
