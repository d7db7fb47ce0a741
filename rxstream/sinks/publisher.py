"""A stream at the edge of what counts its demand: Reactive Streams' four roles, in Python spelling.

Rules of this module, with their numbers in the Reactive Streams specification 1.0.4:

* A subscriber gets no more than it has asked for (1.1); what it asks for adds up (3.8), and None is all there is (3.17).
* Its signals come one at a time (1.3), all on one loop, the end after all that waited, asked for or not (2.9, 2.10), and
  nothing after it (1.7) or after `Subscription.cancel` (1.8).
* `Subscription.request` and `Subscription.cancel` may be called from any thread, at any time, in the midst of a signal too;
  they never wait, never raise and never recurse (3.2 to 3.7). What is no demand is told as an error (3.9).
* What a subscriber's own method raises cancels its subscription and goes to its ``on_error`` (2.13).

Demand stays at the edge: counted at the source it would stall as soon as a ``filter`` drops something. Behind it is a
buffer that holds the stream's gate when it is full.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from reactivex import Observable

from rxstream.errors import ConfigurationError
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler, call_on, current_loop
from rxstream.sinks._buffer import HIGH, Buffer, Overflow, refuse_other
from rxstream.sinks.callback import call_last, is_async

__all__ = ["Publisher", "Subscriber", "Subscription"]

A = TypeVar("A")
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
_SIGNALS = ("on_subscribe", "on_next", "on_error", "on_complete")
_BREATH = 0.005
"""Seconds that what waited may hold the loop."""
_BURST = 64
"""Items that it may emit before it looks at the clock."""


class Subscription(Protocol):
    """One subscriber's hold on a publisher."""

    def request(self, n: float | None, /) -> None:
        """Ask for `n` items more: a whole number of at least 1; ``math.inf`` or None for all there is."""
        ...

    def cancel(self) -> None:
        """Want no more: the request is closed, and nothing is told from now on but for the one item on its way."""
        ...


class Subscriber(Protocol[T_contra]):
    """Who asks for items and is told of them."""

    def on_subscribe(self, subscription: Subscription, /) -> None:
        """Called once, before anything else."""
        ...

    def on_next(self, item: T_contra, /) -> None:
        """An item that was asked for."""
        ...

    def on_error(self, error: Exception, /) -> None:
        """It failed; there is nothing more."""
        ...

    def on_complete(self) -> None:
        """There is nothing more."""
        ...


class Publisher(Generic[T]):
    """Any Observable for subscribers that say how much they want.

    ::

        source:         --a--b--c--d--|
                        Publisher(source)
        request(n):     -----2-----------------1--2-------
        on_next:        -----a--b--------------c--d-|

    Each subscriber is a subscription of the source of its own.

    Example:
        >>> import asyncio
        >>> import reactivex as rx
        >>> from rxstream.sinks.publisher import Publisher
        >>> class Two:
        ...     def on_subscribe(self, subscription):
        ...         subscription.request(2)
        ...     def on_next(self, item):
        ...         print(item)
        ...     def on_error(self, error): ...
        ...     def on_complete(self): ...
        >>> async def main():
        ...     Publisher(rx.of(1, 2, 3)).subscribe(Two())
        ...     await asyncio.sleep(0.01)
        >>> asyncio.run(main())
        1
        2

    Args:
        source: Any Observable; one of ours stops at its socket while it is held.
        high: Items that may wait for demand: so many, and the source is held.
        low: Items left at which it is released; by default a quarter of `high`.
        overflow: What is done at `high`; see `rxstream.to_async_iterable`.

    Raises:
        ConfigurationError: `source` is no Observable, or an option is not as described.
    """

    def __init__(
        self, source: Observable[T], *, high: int = HIGH, low: int | None = None, overflow: Overflow = "hold"
    ) -> None:
        refuse_other(source)
        self._source = source
        self._requests = partial(_Requests[T], high=high, low=low, overflow=overflow)
        Buffer[T]("publisher", Gate(), high=high, low=low, overflow=overflow)  # refuses now what it would refuse then

    def subscribe(self, subscriber: Subscriber[T]) -> None:
        """Tell `subscriber` of the items, on the running loop, or the shared one where none is running.

        Raises:
            TypeError: it is no Subscriber.
            ConfigurationError: its methods are coroutine functions; ``async for`` has demand already.
        """
        methods = [getattr(subscriber, name, None) for name in _SIGNALS]
        if not all(callable(method) for method in methods):
            raise TypeError(f"a Subscriber has the methods {', '.join(_SIGNALS)}: {type(subscriber).__name__} has not")
        if is_async(*methods):
            raise ConfigurationError("a Subscriber has plain methods; for coroutines use to_async_iterable()")
        loop = current_loop()
        call_on(loop, partial(self._requests(loop).start, subscriber, self._source))


class _Requests(Buffer[T]):
    """One subscription: what has arrived, and what was asked for. All but `request`, `cancel` and `wake` is on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, high: int, low: int | None, overflow: Overflow) -> None:
        super().__init__("publisher", Gate(), high=high, low=low, overflow=overflow)
        self._subscriber: Subscriber[T] | None = None
        self._loop = loop
        self._demand: float = 0
        self._broken: Exception | None = None
        self._busy = True  # until it has been told that it is subscribed
        self._called = False

    def start(self, subscriber: Subscriber[T], source: Observable[T]) -> None:
        self._subscriber = subscriber
        self._tell(subscriber.on_subscribe, self)
        self._busy = False
        if not self.ended:
            scheduler = LoopScheduler(self._loop, gate=self.gate)
            self.subscription.disposable = source.subscribe(
                self.on_next, self.on_error, self.on_completed, scheduler=scheduler
            )
        self._drain()

    # --- the subscriber's side, any thread --------------------------------------------------------------------------------

    def request(self, n: float | None, /) -> None:
        call_on(self._loop, partial(self._add, n))

    def cancel(self) -> None:
        self._subscriber = None
        self.ended = True
        call_on(self._loop, self._forget)

    def wake(self) -> None:
        if not self._called:
            self._called = True
            call_on(self._loop, self._drain)

    # --- on the loop ------------------------------------------------------------------------------------------------------

    def _add(self, n: float | None) -> None:
        if self._subscriber is None:
            return
        if n is None or n == math.inf:
            self._demand = math.inf
        elif isinstance(n, int) and not isinstance(n, bool) and n > 0:
            self._demand += n
        else:
            self._break(ConfigurationError(f"request({n!r}): ask for a whole number of at least 1 (rule 3.9)"))
        self.wake()

    def _drain(self) -> None:
        self._called = False
        if self._busy:
            return  # by the subscriber whom we tell: the loop below goes on
        self._busy = True
        emitted, until = 0, self._loop.time() + _BREATH
        try:
            while self._demand and self.items and (subscriber := self._subscriber) is not None:
                self._demand -= 1
                self._tell(subscriber.on_next, self.take())
                emitted += 1
                if emitted % _BURST == 0 and self._loop.time() > until:
                    self._called = True
                    self._loop.call_soon(self._drain)
                    return
        finally:
            self._busy = False
        if self._broken is not None or (self.ended and not self.items):
            self._finish(self._broken or self.end())
        else:
            self.emptied()

    def _tell(self, signal: Callable[[A], object], what: A) -> None:
        try:
            signal(what)
        except Exception as error:  # noqa: BLE001 - the subscriber's own: it gets it back
            self._break(error)

    def _break(self, error: Exception) -> None:
        """The subscriber has broken its side of the rules: it is told so, and of nothing more."""
        self._broken = error
        self._forget()

    def _finish(self, error: Exception | None) -> None:
        subscriber, self._subscriber, self._broken = self._subscriber, None, None
        if subscriber is not None and error is None:
            call_last(subscriber.on_complete)
        elif subscriber is not None:
            call_last(subscriber.on_error, error)

    def _forget(self) -> None:
        self.subscription.dispose()
        self.ended = True
        self.items.clear()
        self.gate.release(self.name)
