"""The protocols that rxstream's parts meet at. Write a class of the same shape; nothing here is to be inherited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from rxstream.errors import StreamError
    from rxstream.events import Event

__all__ = ["Acquire", "Decoder"]


@runtime_checkable
class Decoder(Protocol):
    """Turns a provider's bytes into events. No I/O, no clock, no Rx.

    Any way of cutting the bytes gives the same events. Neither method raises anything but a `StreamError`, and `feed`
    never raises while it has events in hand: it returns them, shows the error in `failure`, and the next call of either
    method raises it.
    """

    @property
    def finished(self) -> bool:
        """Whether the provider's terminal mark was seen: the stream is complete, whatever else may come."""
        ...

    @property
    def failure(self) -> StreamError | None:
        """The error that the next call will raise, or None."""
        ...

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. After `finished` more bytes are ignored.

        Raises:
            StreamError: the bytes held an error of the provider, or were not its protocol.
        """
        ...

    def close(self) -> list[Event]:
        """The body has ended: the last events.

        Raises:
            StreamIncomplete: there was no mark that ends an answer.
            StreamError: as `feed`.
        """
        ...


class Acquire(Protocol):
    """A limiter: whoever is about to do something awaits its permission first.

    `acquire` is a coroutine function, called with how much is wanted, or, where it takes no argument, once for each unit.
    `rxstream.limiter.TokenBucket` is one, and so are the limiter of aiolimiter and ``asyncio.Semaphore``, which somebody
    else has to release.
    """

    @property
    def acquire(self) -> Callable[..., Awaitable[object]]:
        """Returns when it may be done; raises if it may never."""
        ...
