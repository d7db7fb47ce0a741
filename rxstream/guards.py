"""What may stand before a request: a guard lets it pass, lets it wait, or refuses it, and hears how it went.

Rules of this module:

* A guard is any object with the two methods of `Guard`; nothing is to be inherited. `rxstream.operators.guard` puts guards
  before a stream.
* ``enter`` and ``leave`` are called on the stream's loop. Guards are shared by streams on several loops and threads: one
  that is must lock what it changes, and must not block.
* Whoever has entered is left, exactly once, however the stream ends; who was refused, or cancelled while he waited, has not
  entered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol, TypeAlias

from rxstream._asking import ModelKey
from rxstream._check import function
from rxstream.errors import ConfigurationError
from rxstream.events import RateLimits
from rxstream.limiter import acquiring
from rxstream.typing import Acquire
from rxstream.usage import Usage

__all__ = ["Guard", "ModelKey", "Outcome", "Ticket", "acquired"]

Outcome: TypeAlias = Literal["completed", "failed", "cancelled"]
"""How a request went: ``completed``, with the provider's own mark; ``failed``, of the ticket's ``error``; ``cancelled``, by
whoever wanted it: nothing is known of how it would have gone."""


class Ticket:
    """One request on its way. The stream writes it, guards read it; two are never equal, so it may be a key in a guard's dict.

    Args:
        key: Whom the request goes to.
        tokens: An estimate, from above, of the tokens that it will use; 0 where there is none.
        asked_at: When it came, in seconds of the loop's clock.
    """

    __slots__ = (
        "__weakref__",
        "_listeners",
        "asked_at",
        "error",
        "first_output_after",
        "key",
        "outcome",
        "rate_limits",
        "sent_at",
        "tokens",
        "usage",
    )

    def __init__(self, key: ModelKey, *, tokens: int = 0, asked_at: float = 0.0) -> None:
        self.key = key
        """Provider, model and address. Where they are not known, the model is the stream's label: guards keep what they know by
        it, so there should be few."""
        self.tokens = tokens
        self.asked_at = asked_at
        self.sent_at: float | None = None
        """When all guards had let it pass; None of a request that was never made."""
        self.first_output_after: float | None = None
        """Seconds from there to the first content, those left out in which the stream was paused; None before it."""
        self.usage: Usage | None = None
        """What it has used, as far as the provider has said so."""
        self.rate_limits: RateLimits | None = None
        """What its response headers said."""
        self.outcome: Outcome | None = None
        """None while it runs."""
        self.error: Exception | None = None
        """What it failed of, or what it was refused with by a guard further on."""
        self._listeners: list[Callable[[RateLimits], object]] = []

    def listen(self, hear: Callable[[RateLimits], object]) -> None:
        """Call `hear` with what the response headers say, as soon as they come: long before the end of a long answer."""
        self._listeners.append(hear)

    def hear(self, limits: RateLimits) -> None:
        """The response headers are here."""
        self.rate_limits = limits
        for hear in self._listeners:
            hear(limits)

    def __repr__(self) -> str:
        return f"<Ticket {':'.join(self.key[:2])} {self.outcome or 'open'}>"


class Guard(Protocol):
    """Somebody who is asked before each request, and told how it went."""

    async def enter(self, ticket: Ticket) -> None:
        """Return when the request may be made; until then it waits. It may be cancelled meanwhile: then it has not entered.

        Raises:
            StreamError: it may not; the stream ends with this error, and nothing is sent.
        """
        ...

    def leave(self, ticket: Ticket) -> None:
        """The request that had entered is over: ``ticket.outcome`` says how. What this raises goes to the loop's handler."""
        ...


def acquired(limiter: Acquire, *, amount: Callable[[Ticket], int] | None = None) -> Guard:
    """A guard of any limiter that is awaited with ``acquire``, such as `rxstream.TokenBucket` or aiolimiter's.

    Nothing is given back: what has to be released, such as a semaphore, is for `rxstream.Bulkhead`.

    Example:
        >>> import rxstream
        >>> five_a_second = acquired(rxstream.TokenBucket(5))
        >>> by_tokens = acquired(rxstream.TokenBucket(90_000, per=60), amount=lambda ticket: ticket.tokens)

    Args:
        limiter: Any object with a coroutine function ``acquire(amount)``, or ``acquire()``, which is then called once for each
            unit. What it raises ends the stream.
        amount: How much a request is; 1 if not given.

    Raises:
        ConfigurationError: `limiter` is none, or has to be released; or `amount` is no function.
    """
    if amount is not None:
        function("amount", amount)
    if hasattr(limiter, "release"):
        raise ConfigurationError(f"limiter={limiter!r}: has to be released; use Bulkhead, which is")
    return _Acquired(acquiring(limiter), amount or _one)


def _one(_ticket: Ticket) -> int:
    return 1


class _Acquired:
    def __init__(self, acquire: Callable[[int], Awaitable[object]], amount: Callable[[Ticket], int]) -> None:
        self._acquire = acquire
        self._amount = amount

    async def enter(self, ticket: Ticket) -> None:
        await self._acquire(self._amount(ticket))

    def leave(self, ticket: Ticket) -> None:
        """A rate is used up by having begun."""
