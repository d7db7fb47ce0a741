"""``share``: one request for many subscribers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

from reactivex import Observable

from rxstream._check import count, flag, one_of
from rxstream.operators._hub import End, Hub, Sharing, Window

__all__ = ["share"]

T = TypeVar("T")


def share(
    *,
    slow: Literal["hold", "buffer"] = "hold",
    capacity: int = 1024,
    reset_on_complete: bool = False,
    reset_on_error: bool = False,
) -> Callable[[Observable[T]], Observable[T]]:
    """Let all subscribers have one request: the first makes it, the last that leaves closes it.

    ::

        source:   --a--b--c--|
             share()
        first:    --a--b--c--|
        second:      --b--c--|    subscribed after a
        third:                 |  subscribed after the end: no second request

    **A request that ended is not made again.** Who subscribes later is told the end (or the error) at once, and no item; to see
    what came before, use `share_replay`. Rx's own ``share`` asks again then, and pays again: the ``reset_on_…`` options, with
    RxJS's names, bring that back, for a ``retry`` that stands behind.

    **A request that the last subscriber closed is made again** for the next one, as everywhere in Rx.

    A subscriber that raises, disposes, or whose loop is closed does not disturb the others. Each is told on its own loop, of
    which there may be several; the request itself runs on the first one's, in its context. Sources that emit in several
    threads go through `synchronize` first.

    Example:
        >>> import asyncio, rxstream
        >>> async def both() -> list[rxstream.Response]:
        ...     shared = rxstream.emulate("Hello").pipe(share())
        ...     return await asyncio.gather(shared, shared)
        >>> [answer.text for answer in asyncio.run(both())]
        ['Hello', 'Hello']

    Args:
        slow: What to do about a subscriber that is paused or slow. ``hold``: the source waits for it, and so do the others.
            ``buffer``: the source waits only when all are; what one has not seen yet is kept for it.
        capacity: Items that may wait for one subscriber; at half of them, or 512, it counts as slow. With one more, it alone ends in
            `rxstream.errors.LimitExceeded`, after what waits.
        reset_on_complete: Whether a subscriber that comes after the end makes a new request.
        reset_on_error: … after an error.

    Raises:
        ConfigurationError: an option is out of its range.
    """
    one_of("slow", slow, ("hold", "buffer"))
    count("capacity", capacity)
    flag("reset_on_complete", reset_on_complete)
    flag("reset_on_error", reset_on_error)
    resets = {"left": True, "completed": reset_on_complete, "error": reset_on_error}
    final: frozenset[End] = frozenset(how for how in ("completed", "error") if not resets[how])

    def hub_of(source: Observable[T]) -> Hub[T]:
        return Hub(
            source,
            rule=any if slow == "hold" else all,
            window=Window(events=0),
            most=capacity,
            refcount=True,
            final=final,
        )

    def shared(source: Observable[T]) -> Observable[T]:
        return Observable(Sharing(lambda: hub_of(source)).subscribe)

    return shared
