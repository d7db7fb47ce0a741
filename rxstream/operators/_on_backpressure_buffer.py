"""``on_backpressure_buffer``: a buffer between a fast source and a slow consumer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, get_args

from reactivex import Observable

from rxstream._backlog import Backlog, BufferStatistics, Overflow, buffered
from rxstream._check import count, instance, one_of
from rxstream.errors import ConfigurationError

__all__ = ["on_backpressure_buffer"]

T = TypeVar("T")


def on_backpressure_buffer(
    capacity: int = 1024,
    *,
    high: int | None = None,
    low: int | None = None,
    overflow: Overflow = "hold",
    statistics: BufferStatistics | None = None,
) -> Callable[[Observable[T]], Observable[T]]:
    """Let the source run ahead of a consumer that is paused or slow, as far as the buffer reaches.

    ::

        gate:    --open--closed-----------open-----|
        source:  --a--b--c--d--e--f-----------g----|
             on_backpressure_buffer()
        result:  --a--b-------------------cdef-g---|

    Without it a pause reaches the source at once. Behind it, a paused consumer's source goes on until the buffer has no more
    room; then `overflow` rules:

    * ``hold``: the source is held at `high` and goes on at `low`; nothing is lost. What is in flight by then is kept, too. A
      source that obeys no gate may go 65 536 items over `capacity`; then the stream ends in an error.
    * ``error``: the stream ends in an error, after what was kept.
    * ``drop_newest``, ``drop_oldest``: the item that comes, or the one that has waited longest, is dropped. Of events only
      text, thinking, refusals, log probabilities, status and heartbeats are, and gaps in ``seq`` tell; all others are
      kept in any case, and do not count.

    RxJava and Reactor have ``onBackpressureBuffer``, Akka Streams ``buffer``; their ``DROP_LATEST`` and ``dropNew`` is
    ``drop_newest``, their ``backpressure`` is ``hold``.

    Example:
        >>> import reactivex as rx
        >>> from reactivex import operators as ops
        >>> from rxstream.operators import BufferStatistics
        >>> figures = BufferStatistics()
        >>> rx.of(1, 2, 3).pipe(on_backpressure_buffer(16, statistics=figures), ops.to_list()).run()
        [1, 2, 3]
        >>> figures  # a consumer that keeps up
        <BufferStatistics capacity=16 used=0 bytes=0 peak=0 dropped=0 waiting=False>

    Args:
        capacity: Items that may wait.
        high: With ``hold``, items at which the source is held: by default `capacity`, and at most that.
        low: With ``hold``, items at which it is released: by default a quarter of `high`.
        overflow: What to do about an item for which there is no room.
        statistics: Filled in; may be read from any thread.

    Raises:
        ConfigurationError: an option is not as described. A subscriber gets `LimitExceeded`.
    """
    count("capacity", capacity)
    one_of("overflow", overflow, get_args(Overflow))
    if overflow != "hold" and (high, low) != (None, None):
        raise ConfigurationError(f"high= and low= are marks of overflow='hold', not of {overflow!r}")
    most = capacity if high is None else count("high", high)
    if most > capacity:
        raise ConfigurationError(f"high={high!r}: must be at most capacity={capacity}")
    if low is not None and count("low", low, least=0) >= most:
        raise ConfigurationError(f"low={low!r}: must be less than high={most}")
    instance("statistics", statistics, BufferStatistics)
    return buffered(
        lambda observer, scheduler: Backlog(
            observer,
            scheduler,
            capacity=capacity,
            overflow=overflow,
            high=high,
            low=low,
            statistics=statistics,
        )
    )
