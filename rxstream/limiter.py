"""A limit on how much may happen in a time, kept by all who share it.

Rules of this module:

* One bucket may be used by many streams, on several loops and threads, at once. Nobody is blocked: who has to wait, awaits.
* First come, first served: who waits is overtaken by nobody, however little the other wants.
* Who is cancelled while he waits has taken nothing, and those behind him move up; so they do when his loop was closed.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf

from rxstream._check import finite, positive
from rxstream._waiter import PATIENCE, Waiter, first, living, wake_first
from rxstream.errors import ConfigurationError
from rxstream.typing import Acquire

__all__ = ["TokenBucket", "acquiring"]

_NOW = 1e-6
"""Seconds that are no wait: less than a loop's timers can tell."""


class TokenBucket:
    """A bucket that fills at a steady rate, and from which as much may be taken at once as it holds.

    The average is exact, and in any time there comes at most what the rate allows and one `burst`; but who asks for more
    than `burst` gets it when the bucket is full. It is in debt then, and the next ones wait for it.

    The algorithm is the token bucket of J. Turner, "New directions in communications" (1986).

    Example:
        >>> bucket = TokenBucket(10, burst=2)
        >>> bucket.try_acquire(2)
        0.0
        >>> 0 < bucket.try_acquire() <= 0.1
        True

    Args:
        rate: Units in `per` seconds.
        per: Seconds.
        burst: Units that it holds at most, and at first; `rate` if not given.
        clock: Seconds, of any origin; those of a running loop, ``loop.time``, where a test has its own time.

    Raises:
        ConfigurationError: `rate`, `per` or `burst` is not greater than 0.
    """

    def __init__(
        self,
        rate: float,
        *,
        per: float = 1.0,
        burst: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rate = positive("rate", rate) / positive("per", per)
        """Units a second."""
        self.burst = positive("burst", rate if burst is None else burst)
        """Units that it holds at most."""
        self._clock = clock
        self._lock = threading.Lock()
        self._level = float(self.burst)
        self._filled = clock()
        self._waiters: deque[Waiter] = deque()

    @property
    def available(self) -> float:
        """Units that it holds now; less than nothing if it is in debt."""
        with self._lock:
            return self._fill()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiters)

    def try_acquire(self, amount: float = 1) -> float:
        """Take `amount` units, if they are there and nobody waits for them.

        Returns:
            0.0 if they are taken. Else nothing is taken, and it is how many seconds to wait, as things are now.

        Raises:
            ConfigurationError: `amount` is negative or not finite.
        """
        _check(amount)
        with self._lock:
            if not self._waiters or not living(self._waiters):
                return self._take(amount)
            return max(_NOW, self._delay(amount, sum(waiter.amount for waiter in self._waiters)))

    def delay(self, amount: float = 1, *, before: float = 0) -> float:
        """Seconds until `amount` units can be taken, if nobody but those who wait takes any; 0.0 if they are there.

        Args:
            amount: Units.
            before: Units that others will have taken by then, besides those who wait here.
        """
        with self._lock:
            return self._delay(amount, before + sum(waiter.amount for waiter in self._waiters))

    def charge(self, amount: float) -> None:
        """Take `amount` units at once, whoever waits: it goes into debt where they are not there.

        A negative amount puts units back, up to `burst`: of what was taken and not used.

        Raises:
            ConfigurationError: `amount` is not finite.
        """
        finite("amount", amount)
        with self._lock:
            self._level = min(self._fill() - amount, float(self.burst))
            if amount < 0:
                wake_first(self._waiters)

    async def acquire(self, amount: float = 1) -> None:
        """Take `amount` units, when all who came before have theirs.

        Raises:
            ConfigurationError: `amount` is negative or not finite.
        """
        _check(amount)
        with self._lock:
            if not (self._waiters and living(self._waiters)) and not self._take(amount):
                return
            waiter = Waiter(amount)
            self._waiters.append(waiter)
        try:
            while wait := self._turn(waiter):
                await waiter.sleep(wait)
        finally:
            self._leave(waiter)

    def _turn(self, waiter: Waiter) -> float:
        """Seconds until it is worth asking again; 0.0 when `waiter` has its units."""
        with self._lock:
            return self._take(waiter.amount) if first(self._waiters) is waiter else PATIENCE

    def _leave(self, waiter: Waiter) -> None:
        """`waiter` has its units or wants them no more: the next, please."""
        with self._lock:
            with contextlib.suppress(ValueError):  # it was given up for dead
                self._waiters.remove(waiter)
            wake_first(self._waiters)

    def _delay(self, amount: float, before: float) -> float:
        wait = (before + min(amount, self.burst) - self._fill()) / self.rate if amount else 0.0
        return wait if wait > _NOW else 0.0

    def _take(self, amount: float) -> float:
        level = self._fill()
        if level < amount:
            wait = (min(amount, self.burst) - level) / self.rate if amount else 0.0
            if wait > _NOW:
                return wait
        self._level = level - amount
        return 0.0

    def _fill(self) -> float:
        now = self._clock()
        if now > self._filled:
            level = self._level + (now - self._filled) * self.rate
            self._level = level if level < self.burst else self.burst  # noqa: FURB136 - min() is slow, and every item comes by
            self._filled = now
        return self._level

    def __repr__(self) -> str:
        return f"TokenBucket({self.rate:g} a second, burst={self.burst:g}, available={self.available:g})"


def _check(amount: float) -> None:
    if not 0 <= amount < inf:
        raise ConfigurationError(f"amount={amount!r}: must be a finite number of at least 0")


def acquiring(limiter: Acquire) -> Callable[[int], Awaitable[object]]:
    """The `acquire` of a limiter, made to take an amount: one that takes none is called once for each unit.

    Raises:
        ConfigurationError: it has no coroutine function `acquire`.
    """
    acquire = getattr(limiter, "acquire", None)
    if not inspect.iscoroutinefunction(acquire):
        raise ConfigurationError(f"limiter={limiter!r}: must have a coroutine function acquire")
    try:
        inspect.signature(acquire).bind(1)
    except TypeError:

        async def acquire_each(amount: int) -> None:
            for _ in range(amount):
                await acquire()

        return acquire_each
    return acquire
