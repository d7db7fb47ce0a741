"""``buffer_tokens``: items in lists of so many tokens, or of so much time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxstream._alarm import Alarm
from rxstream._check import count as checked_count
from rxstream._check import function, positive
from rxstream._outlet import MOST, Outlet
from rxstream.errors import ConfigurationError
from rxstream.events import CONTENT_EVENTS, Cancelled, EventBase, Failed, Finished
from rxstream.loop import LoopScheduler

__all__ = ["buffer_tokens"]

T = TypeVar("T")
_ENDS: Final[frozenset[type[Any]]] = frozenset((Finished, Failed, Cancelled))


class _Weights(dict[type[Any], int]):
    """How many tokens an item of a type is: an event without content none, anything else one."""

    def __missing__(self, kind: type[Any]) -> int:
        counted = issubclass(kind, CONTENT_EVENTS) or not issubclass(kind, EventBase)
        return self.setdefault(kind, int(counted))


def buffer_tokens(
    count: int | None = None, *, seconds: float | None = None, tokens: Callable[[T], int] | None = None
) -> Callable[[Observable[T]], Observable[list[T]]]:
    """Collect items in lists: a list is emitted with its `count`-th token, or `seconds` after its first item.

    ::

        source:  -a-b-c-d-----e----------|
             buffer_tokens(3, seconds=5)
        result:  -----[abc]--[d]----[e]--|

    Whichever is first. A token is an event with content (with most providers one is about a token) or, in any other stream,
    an item; events without content ride along, uncounted. A list ends early with the event that ends a track (`Finished`,
    `Failed`, `Cancelled`), which is its last item, and when 65,536 items are in it. What is kept when the source completes or
    fails is emitted before its end. No list is empty.

    RxPY's ``buffer_with_count`` and ``buffer_with_time_or_count`` do the same without tokens, at 5 µs an item; RxPY's timer
    also goes off where there is nothing to emit.

    Example:
        >>> import reactivex as rx
        >>> rx.of("a", "b", "c").pipe(buffer_tokens(2)).run()
        ['c']

    Args:
        count: Tokens in a list.
        seconds: From its first item to its emission.
        tokens: How many tokens an item is, 0 or more; for example ``lambda event: len(event.text) // 4``. What it raises ends
            the stream, after what is kept.

    Raises:
        ConfigurationError: neither `count` nor `seconds` is given, or one is not greater than 0; or `tokens` cannot be called.
    """
    if count is None and seconds is None:
        raise ConfigurationError("give count= or seconds=, or both")
    most = math.inf if count is None else checked_count("count", count)
    if seconds is not None:
        positive("seconds", seconds)
    if tokens is not None:
        function("tokens", tokens)

    def buffered(source: Observable[T]) -> Observable[list[T]]:
        def subscribe(
            observer: abc.ObserverBase[list[T]], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Buffer(most, seconds, tokens, observer, LoopScheduler.of(scheduler)).start(source)

        return Observable(subscribe)

    return buffered


class _Buffer(Generic[T]):
    """One subscription: the list that is being filled."""

    def __init__(
        self,
        count: float,
        seconds: float | None,
        tokens: Callable[[T], int] | None,
        observer: abc.ObserverBase[list[T]],
        scheduler: LoopScheduler,
    ) -> None:
        self._count = count
        self._seconds = seconds
        self._tokens = tokens
        self._weights = _Weights()
        self._items: list[T] = []
        self._weight = 0
        self._scheduler = scheduler
        self._alarm = Alarm(scheduler.loop, self._flush)
        self._upstream = SingleAssignmentDisposable()
        self._outlet: Outlet[list[T]] = Outlet(observer, scheduler, overflowed=self._upstream.dispose)

    def start(self, source: Observable[T]) -> abc.DisposableBase:
        self._upstream.disposable = source.subscribe(self._next, self._fail, self._complete, scheduler=self._scheduler)
        return CompositeDisposable(self._upstream, Disposable(self._dispose))

    def _next(self, item: T) -> None:
        items = self._items
        items.append(item)
        kind = type(item)
        if self._tokens is None:
            self._weight += self._weights[kind]
        else:
            try:
                self._weight += self._tokens(item)
            except Exception as error:  # noqa: BLE001 - the user's function may raise anything
                self._upstream.dispose()
                self._fail(error)
                return
        if self._weight >= self._count or kind in _ENDS or len(items) >= MOST:
            self._flush()
        elif len(items) == 1 and self._seconds is not None:
            self._alarm.set(self._scheduler.loop.time() + self._seconds)

    def _flush(self) -> None:
        if self._items:
            items, self._items, self._weight = self._items, [], 0
            self._outlet.on_next(items)

    def _fail(self, error: Exception) -> None:
        self._flush()
        self._outlet.on_error(error)

    def _complete(self) -> None:
        self._flush()
        self._outlet.on_completed()

    def _dispose(self) -> None:
        self._alarm.close()
        self._outlet.dispose()
        self._items = []
