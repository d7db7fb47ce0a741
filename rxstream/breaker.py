"""A model that fails too often is not asked for a while: a circuit breaker for each model.

Rules of this module:

* A circuit is kept, for good, for each (provider, model, base URL). ``closed`` lets all pass; ``open`` refuses all; ``half_open`` lets one
  through, the probe, and refuses all others until it is known how that went.
* An outcome is taken at the end of an answer, not at its response headers: a stream that is cut, stalls or breaks off has
  failed, although it came under HTTP 200.
* What says nothing of the model's health counts for nothing: a cancellation, a request that was never sent or that the
  provider refuses as it is. A probe that ends so leaves its place to another; so does one of which nothing is heard, because
  it is paused, or its loop is gone: or nobody would ever be let through again.
* Only what was asked in the present state counts: a request from before the circuit opened neither closes it nor keeps it open.
* The lock is held for changes of state, never while anybody is told of them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxstream._check import at_least as not_less
from rxstream._check import count, function, instance, positive
from rxstream._log import facts, log, trace
from rxstream.errors import (
    CircuitOpen,
    ConfigurationError,
    ConnectError,
    Disconnected,
    Overloaded,
    ProtocolError,
    RateLimited,
    SequenceGap,
    ServerFault,
    StreamIncomplete,
    TimedOut,
    UnexpectedContentType,
)
from rxstream.guards import ModelKey, Ticket

__all__ = ["CircuitBreaker", "CircuitChange", "CircuitState"]

CircuitState: TypeAlias = Literal["closed", "open", "half_open"]

_FAILURES: Final = (
    ConnectError,
    Disconnected,
    Overloaded,
    ProtocolError,
    RateLimited,
    SequenceGap,
    ServerFault,
    StreamIncomplete,
    TimedOut,
    UnexpectedContentType,
)
"""What tells of the provider's health; all other errors tell of the request."""


class CircuitChange(NamedTuple):
    """A circuit has changed its state."""

    key: ModelKey
    before: CircuitState
    after: CircuitState
    at: float
    """Seconds of the breaker's clock."""
    reason: str


class CircuitBreaker:
    """Refuses requests to a model that failed too often of late: a guard for `rxstream.operators.guard`.

    A circuit opens when a share of `failures`, or more, of the outcomes that it remembers are failures: those of the last `of`
    requests that ended `within` so many seconds, if they are `at_least` so many. An open circuit refuses with
    `rxstream.errors.CircuitOpen`; after `open_for` seconds the next request is the probe. If it succeeds the circuit closes, and
    has forgotten all; if it fails it is open for twice as long, up to `max_open_for`. One that is not over after `max_open_for`
    seconds, because it is paused, say, counts no more, and the next request is the probe.

    The pattern is that of M. Nygard, "Release It!" (2007); states and rules are those of resilience4j's CircuitBreaker:
    `failures` is its failureRateThreshold, `of` its slidingWindowSize, `at_least` its minimumNumberOfCalls, `open_for`
    its waitDurationInOpenState. Its defaults are for thousands of calls a minute; answers of models are few, slow and
    dear. So here the fifth outcome may open a circuit, and what is older than ten minutes is not held against a model
    that is asked now and then. Two failures among many successes never do.

    `changes` is an Observable of every `CircuitChange`.

    Failures are an overloaded or failing provider, a 429, a connection that cannot be made or breaks, an answer that is cut or no
    protocol, and every clock that runs out; and a complete answer whose first content came later than `slow_after`. Silence is known
    when a clock has run out: ten minutes hold five times the 120 s that a model may be silent by default.

    Example:
        >>> import rxstream
        >>> from rxstream import operators as rxo
        >>> breaker = CircuitBreaker(open_for=10)
        >>> changes = breaker.changes.subscribe(print)
        >>> rxstream.from_iterable(["Hello"]).pipe(rxo.guard(breaker)).run().text
        'Hello'

    Args:
        failures: Share of failures, more than 0 and at most 1.
        of: Outcomes to remember.
        within: Seconds to remember them; None for as long as they are among the last.
        at_least: Outcomes without which nothing is decided.
        slow_after: Seconds from the request to the first content; None to call nothing slow.
        open_for: Seconds until the first probe.
        max_open_for: Seconds that these may grow to, and that a probe may take.
        clock: Seconds, of any origin; those of a running loop, ``loop.time``, where a test has its own time.

    Raises:
        ConfigurationError: one of them is not as described.
    """

    def __init__(
        self,
        *,
        failures: float = 0.5,
        of: int = 20,
        within: float | None = 600.0,
        at_least: int = 5,
        slow_after: float | None = None,
        open_for: float = 30.0,
        max_open_for: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if positive("failures", failures) > 1:
            raise ConfigurationError(f"failures={failures!r}: a share, at most 1")
        if count("at_least", at_least) > count("of", of):
            raise ConfigurationError(f"at_least={at_least!r}: more than the {of} outcomes that are remembered")
        function("clock", clock)
        self.failures = failures
        self.of = of
        self.within = None if within is None else positive("within", within)
        self.at_least = at_least
        self.slow_after = None if slow_after is None else positive("slow_after", slow_after)
        self.open_for = positive("open_for", open_for)
        self.max_open_for = not_less("max_open_for", max_open_for, open_for)
        self.clock = clock
        self._lock = threading.Lock()
        self._circuits: dict[ModelKey, _Circuit] = {}
        self._observers: list[abc.ObserverBase[CircuitChange]] = []
        self._changes: deque[CircuitChange] = deque()  # not told yet
        self._telling = False
        self.changes: Observable[CircuitChange] = Observable(self._subscribe)
        """Every change of a circuit from now on, in order and one at a time, in the thread in which it comes about. It never
        ends. For work on a loop of one's own put ``observe_on_loop`` behind it."""

    def state(self, key: ModelKey) -> CircuitState:
        """The state of a model's circuit. An open one becomes half open when it is time and somebody asks.

        Raises:
            ConfigurationError: `key` is no `rxstream.guards.ModelKey`.
        """
        instance("key", key, ModelKey)
        with self._lock:
            circuit = self._circuits.get(key)
            return "closed" if circuit is None else circuit.state

    @property
    def states(self) -> dict[ModelKey, CircuitState]:
        """The states of all circuits: of each model that was asked so far."""
        with self._lock:
            return {key: circuit.state for key, circuit in self._circuits.items()}

    async def enter(self, ticket: Ticket) -> None:
        """Let the request pass, if its model's circuit does. It never waits.

        Raises:
            CircuitOpen: the circuit is open, or half open and the probe is under way.
        """
        with self._lock:
            circuit = self._circuits.get(ticket.key)
            if circuit is None:
                circuit = self._circuits[ticket.key] = _Circuit(self, ticket.key, self._changes.append)
            refusal = circuit.admit(ticket)
        self._tell()
        if refusal is not None:
            raise refusal

    def leave(self, ticket: Ticket) -> None:
        """Take the outcome."""
        with self._lock:
            circuit = self._circuits.get(ticket.key)
            if circuit is not None:
                circuit.note(ticket, self._failed(ticket))
        self._tell()

    def _failed(self, ticket: Ticket) -> bool | None:
        """Whether the model failed; None where nothing is known of it."""
        if ticket.sent_at is None:
            return None
        if ticket.outcome == "failed":
            return True if isinstance(ticket.error, _FAILURES) else None
        after = ticket.first_output_after
        slow = self.slow_after is not None and after is not None and after > self.slow_after
        return slow if ticket.outcome == "completed" else None

    # --- telling --------------------------------------------------------------------------------------------------------

    def _subscribe(
        self, observer: abc.ObserverBase[CircuitChange], _scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        with self._lock:
            self._observers.append(observer)

        def dispose() -> None:
            with self._lock:
                self._observers.remove(observer)

        return Disposable(dispose)

    def _tell(self) -> None:
        """Tell of what has changed, unless another thread, or our caller, is at it: then that does."""
        with self._lock:
            if self._telling:
                return
            self._telling = True
        try:
            while (change := self._next_change()) is not None:
                _write_down(change)
                for observer in tuple(self._observers):
                    self._tell_one(observer, change)
        except BaseException:
            self._telling = False  # an interrupt: the next one who tells goes on
            raise

    def _tell_one(self, observer: abc.ObserverBase[CircuitChange], change: CircuitChange) -> None:
        """What it raises is its own end, and no more: the model's requests go on."""
        try:
            observer.on_next(change)
        except Exception as error:  # noqa: BLE001 - the observer's own
            try:
                observer.on_error(error)
            except Exception as fault:  # noqa: BLE001 - there is no on_error, or it raises, too
                told = facts("callback-raised", error=fault)
                log.error("an observer of a circuit breaker raised", exc_info=trace(fault), extra=told)

    def _next_change(self) -> CircuitChange | None:
        with self._lock:
            if self._changes:
                return self._changes.popleft()
            self._telling = False
            return None


class _Circuit:
    """The circuit of one model. All is done under the breaker's lock."""

    def __init__(self, breaker: CircuitBreaker, key: ModelKey, changed: Callable[[CircuitChange], object]) -> None:
        self.state: CircuitState = "closed"
        self._breaker = breaker
        self._key = key
        self._changed = changed
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=breaker.of)  # when, and whether it failed
        self._asked: set[Ticket] = set()  # in the present state
        self._open_for = breaker.open_for
        self._since = 0.0  # when it opened, or when the last probe was let through

    def admit(self, ticket: Ticket) -> CircuitOpen | None:
        """None where it may be asked, else why not."""
        now = self._breaker.clock()
        if self.state == "open":
            left = self._since + self._open_for - now
            if left > 0:
                return self._refusal(f"it is asked again in {left:.3g} s", retry_after=left)
            self._become("half_open", f"{self._open_for:g} s are over")
        if self.state == "half_open":
            if self._asked and now < self._since + self._breaker.max_open_for:
                return self._refusal("whether it is well again is just being tried", retry_after=None)
            self._asked.clear()
            self._since = now
        self._asked.add(ticket)
        return None

    def _refusal(self, when: str, *, retry_after: float | None) -> CircuitOpen:
        name = ":".join(word for word in self._key[:2] if word) or "the model"
        return CircuitOpen(f"{name} failed too often of late; {when}", retry_after=retry_after)

    def note(self, ticket: Ticket, failed: bool | None) -> None:
        if ticket not in self._asked:
            return  # it was asked in an earlier state
        self._asked.remove(ticket)
        if failed is None:
            return
        what = type(ticket.error).__name__ if ticket.error is not None else "slow"
        if self.state == "half_open":
            self._probed(what if failed else None)
            return
        now = self._breaker.clock()
        self._outcomes.append((now, failed))
        while self._breaker.within is not None and self._outcomes[0][0] < now - self._breaker.within:
            self._outcomes.popleft()
        bad, known = sum(failure for _, failure in self._outcomes), len(self._outcomes)
        if failed and known >= self._breaker.at_least and bad >= self._breaker.failures * known:
            self._become("open", f"{bad} of {known} failed, the last one: {what}")

    def _probed(self, failure: str | None) -> None:
        if failure is None:
            self._open_for = self._breaker.open_for
            self._become("closed", "the probe succeeded")
        else:
            self._open_for = min(2 * self._open_for, self._breaker.max_open_for)
            self._become("open", f"the probe failed: {failure}")

    def _become(self, state: CircuitState, reason: str) -> None:
        now = self._breaker.clock()
        self._changed(CircuitChange(self._key, self.state, state, now, reason))
        self.state = state
        self._since = now
        self._asked.clear()
        self._outcomes.clear()


def _write_down(change: CircuitChange) -> None:
    """In the log."""
    provider, model, _ = change.key
    log.info(
        "the circuit of %s:%s is %s",
        provider,
        model,
        change.after,
        extra=facts("circuit-changed", provider=provider, model=model, before=change.before, after=change.after),
    )
