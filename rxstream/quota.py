"""Requests and tokens a minute, of each model: what we may ask by our own account, and by the provider's.

Rules of this module:

* A quota is kept, for good, for each (provider, model, base URL), for so providers count. Streams on any loops and threads share it.
* The estimate of what a request will use is taken before it is sent, and set right when it is over and the provider has said
  what it was. Where it has not, the estimate stands. What was never sent is given back whole, and so are the tokens of what
  the provider refused.
* What the provider says it has left is believed, less what is still on its way to it; what it says of a wait, too.
* First come, first served: who waits is overtaken by nobody, however little the other wants.
* Who is cancelled while he waits has taken nothing, and those behind him move up.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final

from rxstream._check import at_least, function, instance, positive
from rxstream._waiter import PATIENCE, Waiter, first, living, wake_first
from rxstream.errors import RateLimited, StreamError
from rxstream.events import RateLimits
from rxstream.guards import ModelKey, Ticket
from rxstream.limiter import TokenBucket

__all__ = ["RateLimiter"]

_NOW: Final = 1e-6
"""Seconds that are no wait: less than a loop's timers can tell."""
_REFUSED: Final = 400
"""HTTP statuses from here on are refusals: the model has written nothing."""
_MINUTE: Final = 60.0
_LONGEST: Final = 120.0
"""Seconds that a provider may make us wait by one ``retry-after``."""
_DAY: Final = 86_400.0
"""Seconds that it may say its account takes to be full again: some count by the day, and garbage knows no bounds."""


class RateLimiter:
    """At most so many requests and tokens a minute to each model: a guard for `rxstream.operators.guard`.

    Each budget is a token bucket of a minute's worth, as Anthropic documents its own ("Rate limits"); who asks for more tokens than that gets
    them when it is full. Besides, it follows what the provider's response headers say (`rxstream.events.Started`, ``rate_limits``),
    and after an error with a ``retry-after`` asks nothing before that is over, two minutes at most. Without any number of its own
    it does only that.

    Example:
        >>> import rxstream
        >>> from rxstream import operators as rxo
        >>> mine = RateLimiter(requests_per_minute=50, tokens_per_minute=30_000)
        >>> rxstream.from_iterable(["Hello"]).pipe(rxo.guard(mine)).run().text
        'Hello'

    Args:
        requests_per_minute: Requests that each model may be sent; None for as many as the provider permits.
        tokens_per_minute: Tokens, of input and output, that it may use; None for as many as the provider permits.
        max_wait: Seconds that a stream may wait. Who would wait longer, as things are, is refused at once with
            `rxstream.errors.RateLimited`, whose ``retry_after`` says how long; None for as long as it takes. How many may wait is not limited: put a `rxstream.Bulkhead` before it.
        clock: Seconds, of any origin; those of a running loop, ``loop.time``, where a test has its own time.

    Raises:
        ConfigurationError: one of them is not greater than 0, or `max_wait` is less than 0.
    """

    def __init__(
        self,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_wait: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        function("clock", clock)
        self.requests_per_minute = (
            None if requests_per_minute is None else positive("requests_per_minute", requests_per_minute)
        )
        self.tokens_per_minute = None if tokens_per_minute is None else positive("tokens_per_minute", tokens_per_minute)
        self.max_wait = None if max_wait is None else at_least("max_wait", max_wait)
        self._clock = clock
        self._lock = threading.Lock()
        self._quotas: dict[ModelKey, _Quota] = {}

    def waiting(self, key: ModelKey) -> int:
        """How many streams wait to ask a model. From any thread.

        Raises:
            ConfigurationError: `key` is no `rxstream.guards.ModelKey`.
        """
        instance("key", key, ModelKey)
        with self._lock:
            quota = self._quotas.get(key)
            return 0 if quota is None else len(quota.waiters)

    async def enter(self, ticket: Ticket) -> None:
        """Take one request and the ticket's tokens, when all who came before have theirs.

        Raises:
            RateLimited: it would have to wait longer than `max_wait`. Nothing was sent.
        """
        with self._lock:
            quota = self._quotas.get(ticket.key)
            if quota is None:
                quota = self._quotas[ticket.key] = self._quota()
            needed, waiter = _needed(ticket), None
            if not living(quota.waiters) and not quota.wait(needed):
                quota.take(ticket)
            elif self.max_wait is not None and (wait := quota.delay(needed)) > self.max_wait:
                raise RateLimited(_refusal(ticket, wait), retry_after=wait)
            else:
                waiter = Waiter(needed)
                quota.waiters.append(waiter)
        if waiter is not None:
            await self._wait(quota, ticket, waiter)
        ticket.listen(lambda limits: self._hear(quota, ticket, limits))

    async def _wait(self, quota: _Quota, ticket: Ticket, waiter: Waiter) -> None:
        now = asyncio.get_running_loop().time
        until = inf if self.max_wait is None else now() + self.max_wait
        try:
            while True:
                with self._lock:
                    wait = quota.wait(waiter.amount) if first(quota.waiters) is waiter else PATIENCE
                    if not wait:
                        quota.take(ticket)
                        return
                    left = until - now()
                    if left <= 0:  # it takes longer than it seemed
                        wait = quota.delay(waiter.amount, waiter)
                        raise RateLimited(_refusal(ticket, wait), retry_after=wait)
                await waiter.sleep(min(wait, left))
        finally:
            with self._lock:
                with contextlib.suppress(ValueError):  # it was given up for dead
                    quota.waiters.remove(waiter)
                quota.call()  # the next, please

    def leave(self, ticket: Ticket) -> None:
        """Set right what was taken."""
        with self._lock:
            self._quotas[ticket.key].settle(ticket)

    def _hear(self, quota: _Quota, ticket: Ticket, limits: RateLimits) -> None:
        with self._lock:
            quota.follow(ticket, limits)

    def _quota(self) -> _Quota:
        budgets = (self.requests_per_minute, self.tokens_per_minute)
        own = [None if most is None else TokenBucket(most, per=_MINUTE, clock=self._clock) for most in budgets]
        return _Quota(_Budget(own[0], self._clock), _Budget(own[1], self._clock), self._clock)

    def __repr__(self) -> str:
        return f"RateLimiter({self.requests_per_minute} requests and {self.tokens_per_minute} tokens a minute)"


def _refusal(ticket: Ticket, wait: float) -> str:
    name = ":".join(word for word in ticket.key[:2] if word) or "the model"
    return f"our own limit for {name}: there is room in {wait:.3g} s"


def _needed(ticket: Ticket) -> float:
    """Tokens to take for it: some, even where there is no estimate, or it would not wait for those who had too many."""
    return max(1, ticket.tokens)


def _used(ticket: Ticket) -> float:
    """Tokens that it has used; what was taken where nobody has said, and no less where it was cut."""
    if isinstance(ticket.error, StreamError) and (ticket.error.status or 0) >= _REFUSED:
        return 0
    taken, usage = _needed(ticket), ticket.usage
    if usage is None:
        return taken
    total = usage.total_tokens
    if total is None and usage.input_tokens is not None and usage.output_tokens is not None:
        total = usage.input_tokens + usage.output_tokens
    if total is None or usage.provenance != "reported":
        return max(taken, total or 0)
    return max(0, total)


class _Budget:
    """What may be used of one thing: the least of our own account and the provider's."""

    def __init__(self, own: TokenBucket | None, clock: Callable[[], float]) -> None:
        self._own = own
        self._clock = clock
        self._told: TokenBucket | None = None
        self._told_until = inf

    def delay(self, amount: float, before: float) -> float:
        """Seconds until `amount` may be used, after `before` has been."""
        own = 0.0 if self._own is None else self._own.delay(amount, before=before)
        if self._told is None:
            return own
        return max(own, min(self._told.delay(amount, before=before), self._told_until - self._clock()))

    def take(self, amount: float) -> None:
        for bucket in (self._own, self._told):
            if bucket is not None:
                bucket.charge(amount)

    def settle(self, taken: float, used: float) -> None:
        """It was `used`, and not what had been `taken`. The provider's account is for the provider to set right."""
        if self._own is not None:
            self._own.charge(used - taken)

    def follow(self, limit: int | None, remaining: int | None, reset: float | None, on_its_way: float) -> None:
        """The provider says that it has so much left, and in how many seconds it will have all of it again."""
        if remaining is None:
            return
        most = max(limit or 0, remaining, 1)
        missing = most - remaining
        reset = min(reset or 0.0, _DAY)
        per = min(reset * (most / missing), sys.float_info.max) if reset and missing else _MINUTE
        self._told = TokenBucket(most, per=per, clock=self._clock)
        self._told.charge(missing + on_its_way)
        # Of one that does not say how much it gives, nothing is known for later.
        self._told_until = inf if limit else self._clock() + (reset or _MINUTE)


class _Quota:
    """The quota of one model. All is done under the limiter's lock."""

    def __init__(self, requests: _Budget, tokens: _Budget, clock: Callable[[], float]) -> None:
        self.waiters: deque[Waiter] = deque()
        self._requests = requests
        self._tokens = tokens
        self._clock = clock
        self._closed_until = -inf
        self._unheard: set[Ticket] = set()
        """What is on its way: the provider's account may not have it yet."""

    def delay(self, tokens: float, waiter: Waiter | None = None) -> float:
        """Seconds that `waiter`, or one who comes now, will have to wait, as things are."""
        ahead = [other.amount for other in itertools.takewhile(lambda other: other is not waiter, living(self.waiters))]
        return self.wait(tokens, after=len(ahead), after_tokens=sum(ahead))

    def wait(self, tokens: float, *, after: float = 0, after_tokens: float = 0) -> float:
        """Seconds until one request with so many tokens may be made, after others with theirs."""
        closed = self._closed_until - self._clock()
        wait = max(self._requests.delay(1, after), self._tokens.delay(tokens, after_tokens), closed)
        return wait if wait > _NOW else 0.0

    def take(self, ticket: Ticket) -> None:
        self._requests.take(1)
        self._tokens.take(_needed(ticket))
        self._unheard.add(ticket)

    def settle(self, ticket: Ticket) -> None:
        """The request is over."""
        self._unheard.discard(ticket)
        if ticket.sent_at is None:
            self._requests.take(-1)
            self._tokens.take(-_needed(ticket))
        else:
            self._tokens.settle(_needed(ticket), _used(ticket))
            if isinstance(ticket.error, StreamError) and ticket.error.retry_after is not None:
                until = self._clock() + min(ticket.error.retry_after, _LONGEST)
                self._closed_until = max(self._closed_until, until)
        self.call()

    def follow(self, ticket: Ticket, said: RateLimits) -> None:
        """The provider's account, which has this request in it, but not those that it has not answered yet."""
        self._unheard.discard(ticket)
        requests, tokens = len(self._unheard), sum(_needed(other) for other in self._unheard)
        self._requests.follow(said.requests_limit, said.requests_remaining, said.requests_reset, requests)
        self._tokens.follow(said.tokens_limit, said.tokens_remaining, said.tokens_reset, tokens)
        self.call()

    def call(self) -> None:
        """Something has changed: let the first who waits look."""
        wake_first(self.waiters)
