"""``coalesce``: fewer, larger deltas for a slow consumer; each of them for a fast one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from reactivex import Observable

from rxstream._backlog import BufferStatistics, Merger, buffered
from rxstream._check import count, instance

__all__ = ["coalesce"]

T = TypeVar("T")


def coalesce(
    max_bytes: int = 65_536, *, statistics: BufferStatistics | None = None
) -> Callable[[Observable[T]], Observable[T]]:
    """Join the deltas that wait for this subscriber, and only these: nothing is lost, nothing comes later than it could.

    ::

        gate:    --open---------closed-----------open--------|
        source:  --a--b---------c--d--e----------f-----------|
             coalesce()
        result:  --a--b--------------------------cde--f------|

    While the consumer keeps up, each item goes straight through. While its gate is closed, or it is busy with an item, what
    comes waits; of that, neighbours are joined where they are pieces of one text: text, thinking of one kind, a refusal or
    the arguments of a tool call, of the same source, attempt, choice and part; and strings. Anything else stands between
    them as it is. What is joined has the fields of its first piece (so the next ``seq`` is more than one higher) and no
    ``raw``.

    The source runs on meanwhile, also in a pause. With `max_bytes` waiting it is held, until a quarter of that is left; a
    source that cannot be held ends in an error when 16 times as much waits. `on_backpressure_coalesce` never holds it.

    A consumer that takes its items from a buffer, as ``async for`` and a coroutine callback do, keeps up until that is full.
    For one that is to get fewer and larger items at once, `rxstream.to_async_iterable` takes ``high=1``: then what comes
    during a turn of the loop, but for the first of it, is joined.

    Akka Streams knows this as ``batchWeighted``.

    Example:
        >>> import reactivex as rx
        >>> from reactivex import operators as ops
        >>> rx.of("Hel", "lo").pipe(coalesce(), ops.to_list()).run()  # a consumer that keeps up
        ['Hel', 'lo']

    Args:
        max_bytes: Bytes of waiting text (UTF-8; 64 for an item without text) at which the source is held; also the most
            that is joined to one item.
        statistics: Filled in; its `capacity` is in bytes.

    Raises:
        ConfigurationError: `max_bytes` is less than 1. A subscriber gets `LimitExceeded`.
    """
    count("max_bytes", max_bytes)
    instance("statistics", statistics, BufferStatistics)
    return buffered(
        lambda observer, scheduler: Merger(
            observer, scheduler, capacity=max_bytes, overflow="hold", statistics=statistics
        )
    )
