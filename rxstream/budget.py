"""How many requests there may be beyond the first ones: so that a provider in trouble is not asked twice as often.

Rules of this module:

* Each call earns a share of a further request; a small reserve, which fills up again, lets a lone script try again.
* What is earned fades: a storm may draw on the calls of its own time, not on those of a quiet day.
* Thread-safe: one budget is meant to be shared, by all streams to one model.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable

from rxstream._check import at_least, function, positive

__all__ = ["RetryBudget", "shared_budget"]

_ONE = 1.0 - 1e-9
"""Ten tenths are one."""


class RetryBudget:
    """A limit on further requests: of retries and hedges; one object for all streams that it is to cover.

    Of n calls made in s seconds at most ``share * n + reserve * (1 + s / refill)`` are followed by a further request.
    The idea is Finagle's ``RetryBudget``; ten in a hundred is what Google's SRE book ("Handling Overload") allows. gRPC's retry
    throttling (proposal A6) serves the same end.

    Example:
        >>> budget = RetryBudget(0.5, reserve=1)
        >>> budget.take(), budget.take()
        (True, False)
        >>> budget.earn()
        >>> budget.earn()
        >>> budget.take()
        True

    Args:
        share: Further requests a call, such as 0.1 for one of ten. What is earned fades in `refill` seconds to 37 %.
        reserve: Further requests that need not be earned.
        refill: Seconds in which a reserve that was used up is there again.
        clock: What gives the time, in seconds.

    Raises:
        ConfigurationError: an option is out of its range.
    """

    def __init__(
        self,
        share: float = 0.1,
        *,
        reserve: float = 10.0,
        refill: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.share = at_least("share", share)
        self.reserve = at_least("reserve", reserve)
        self.refill = positive("refill", refill)
        function("clock", clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._earned = 0.0
        self._left = float(reserve)
        self._at = clock()

    @property
    def available(self) -> float:
        """How many further requests there may be now."""
        with self._lock:
            self._advance()
            return self._earned + self._left

    def earn(self) -> None:
        """A call is made."""
        with self._lock:
            self._advance()
            self._earned += self.share

    def take(self) -> bool:
        """Whether a further request may be made now; if so, it is counted."""
        with self._lock:
            self._advance()
            if self._earned + self._left < _ONE:
                return False
            earned = min(1.0, self._earned)
            self._earned -= earned
            self._left = max(0.0, self._left - (1.0 - earned))
            return True

    def _advance(self) -> None:
        now = max(self._at, self._clock())
        elapsed, self._at = now - self._at, now
        self._earned *= math.exp(-elapsed / self.refill)
        self._left = min(self.reserve, self._left + self.reserve * elapsed / self.refill)


_shared: dict[Hashable, RetryBudget] = {}
_shared_lock = threading.Lock()


def shared_budget(key: Hashable) -> RetryBudget:
    """The budget of this process for all that goes to `key`, such as one model; made when first asked for."""
    with _shared_lock:
        return _shared.setdefault(key, RetryBudget())
