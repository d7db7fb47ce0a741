"""``share_replay``: one request for many subscribers, also for those that come late."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from reactivex import Observable

from rxstream._check import count, flag, positive
from rxstream._outlet import MOST
from rxstream.operators._hub import Hub, Sharing, Window

__all__ = ["share_replay"]

T = TypeVar("T")


def share_replay(
    *,
    events: int | None = None,
    bytes: int | None = None,  # noqa: A002 - beside events= and seconds= there is no clearer name
    seconds: float | None = None,
    refcount: bool = False,
) -> Callable[[Observable[T]], Observable[T]]:
    """Let all subscribers have one request, and a late one see from the beginning what came before it, and then the rest.

    ::

        source:   --a--b--c--|
             share_replay()
        first:    --a--b--c--|
        second:        ab-c--|    subscribed after b
        third:                 (abc|)

    **There is never a second request**, whatever happens: the end, and an error, are replayed like everything else. The
    request begins with the first subscriber and **goes on when all have left**, as in RxJS: a wait that ran out of time can be
    repeated, and an answer that has been begun, and whose prompt is paid for, is there for whoever comes next. It also means
    that leaving does not stop the bill. Where it should, say ``refcount=True``: the last subscriber that leaves closes the
    request, and late ones see what had come and then `rxstream.errors.Cancelled`.

    Each subscriber is told at its own pace, on its own loop; a slow one, or one that replays, holds nobody up. Only when all
    are paused or slow is the source held.

    Without bounds the whole stream is kept; with some, what is beyond any of them is let go, and a late subscriber begins with
    what is kept. A slow one that is here loses nothing by that; what only it still needs is kept for it, up to 65 536 items,
    and with one more it alone ends in `rxstream.errors.LimitExceeded`, after those. The request runs on the first subscriber's
    loop, in its context, and ends with that loop. Sources that emit in several threads go through `synchronize` first.

    Example:
        >>> import rxstream
        >>> kept = rxstream.emulate("Hello").pipe(share_replay())
        >>> kept.run(timeout=5) == kept.run(timeout=5)
        True

    Args:
        events: How many of the last items to keep.
        bytes: How many bytes of the last items to keep. Text and bytes count by their length, an event by that of its line of
            JSON, anything else by ``sys.getsizeof``.
        seconds: How long to keep an item.
        refcount: Whether the last subscriber that leaves closes the request.

    Raises:
        ConfigurationError: a bound is out of its range.
    """
    for name, bound in (("events", events), ("bytes", bytes)):
        if bound is not None:
            count(name, bound)
    if seconds is not None:
        positive("seconds", seconds)
    flag("refcount", refcount)

    window = Window(events=events, bytes=bytes, seconds=seconds)

    def hub_of(source: Observable[T]) -> Hub[T]:
        return Hub(
            source,
            rule=all,
            window=window,
            most=MOST,
            refcount=refcount,
            final=frozenset(("completed", "error", "left")),
        )

    def shared(source: Observable[T]) -> Observable[T]:
        return Observable(Sharing(lambda: hub_of(source)).subscribe)

    return shared
