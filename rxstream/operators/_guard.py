"""``guard``: nothing is asked before all guards let it pass."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._asking import Asked, Asking, ModelKey, asking_of, label_of, through
from rxstream._check import kind_of
from rxstream._outlet import Outlet, shut_down
from rxstream._probe import spent_in
from rxstream.aggregate import Aggregator
from rxstream.errors import Cancelled, ConfigurationError, StreamError
from rxstream.events import Event, Finished, Started, UsageReported, is_content
from rxstream.guards import Guard, Outcome, Ticket
from rxstream.loop import LoopScheduler, call_on, running_loop
from rxstream.usage import Usage

__all__ = ["guard"]

T = TypeVar("T")
_NOTED: Final = frozenset({Started, UsageReported, Finished})
_running: set[asyncio.Task[None]] = set()
"""A loop holds its tasks weakly; who waits does so until it is let in or disposed, whoever forgets it."""


def guard(*guards: Guard) -> Callable[[Observable[Event]], Asked]:
    """Ask `guards`, one after the other, before the request is made, and tell them how it went.

    ::

        source:           --a--b--|
             guard(bulkhead)          waits for four frames
        result:  ------------a--b--|

    Each guard lets the request pass, lets it wait, or refuses it: then nothing is sent, and the stream ends with the guard's
    error. They are left in the opposite order, at the mark by which the model says that it is done, or else at the end, be it
    a completion, an error or a disposal. While it waits, no clock of the source runs.

    Put before ``retry_stream``, it asks the guards for each attempt; behind it, once for all of them.

    The names are those of resilience4j's decorators: `CircuitBreaker`, `Bulkhead` and `RateLimiter` are guards, and so is
    any object with the two methods of `rxstream.guards.Guard`. Give the breaker last: then who has waited for a place while
    the circuit opened is not sent all the same; what the others gave him they get back.

    Example:
        >>> import rxstream
        >>> from rxstream import operators as rxo
        >>> from rxstream.guards import acquired
        >>> ten_a_second = acquired(rxstream.TokenBucket(10))
        >>> rxstream.from_iterable(["Hel", "lo"]).pipe(guard(ten_a_second)).run().text
        'Hello'

    Args:
        guards: In the order in which they are asked. Streams that are to share a guard are given the same object.

    Raises:
        ConfigurationError: there is none, one is no guard, or one is given twice.
    """
    if not guards:
        raise ConfigurationError("guard() needs at least one guard")
    for number, one in enumerate(guards, 1):
        if isinstance(one, type):
            raise ConfigurationError(f"guard {number} is the class {one.__name__}: give one of its objects")
        if not (callable(getattr(one, "enter", None)) and callable(getattr(one, "leave", None))):
            raise ConfigurationError(f"guard {number} is {kind_of(one)}: must have the methods enter and leave")
        if any(one is other for other in guards[: number - 1]):
            raise ConfigurationError(f"guard {number} is given twice: it would wait for itself")

    def guarded(source: Observable[Event]) -> Asked:
        asking, label = asking_of(source), label_of(source)

        def admitted(request: Observable[Event]) -> Asked:
            def subscribe(
                observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
            ) -> abc.DisposableBase:
                return _Guarded(guards, asking, label, observer, LoopScheduler.of(scheduler)).start(request)

            return Asked(subscribe, through(source, admitted), label)

        return admitted(source)

    return guarded


def _entering(one: Guard, ticket: Ticket) -> Awaitable[None]:
    entering = one.enter(ticket)
    if not inspect.isawaitable(entering):
        raise ConfigurationError(f"the method enter of the guard {type(one).__name__} must be async")
    return entering


class _Guarded:
    """One request: it waits for its guards, runs, and tells them."""

    def __init__(
        self,
        guards: Sequence[Guard],
        asking: Asking | None,
        label: str,
        observer: abc.ObserverBase[Event],
        scheduler: LoopScheduler,
    ) -> None:
        self._guards = guards
        self._asking = asking
        self._label = label
        self._observer = observer
        self._emit = observer.on_next
        self._scheduler = scheduler
        self._loop = scheduler.loop
        self._upstream = SingleAssignmentDisposable()
        self._stopwatch = _Stopwatch(scheduler)
        self._ticket = Ticket(ModelKey("", "", label))
        self._entered: list[Guard] = []
        self._task: asyncio.Task[None] | None = None
        self._outlet: Outlet[Event] | None = None
        self._silent = True  # no content yet
        self._finished = False
        self._over = False
        self._usages: dict[tuple[str, int], Usage] = {}  # by attempts: a source may have made several

    def start(self, source: Observable[Event]) -> abc.DisposableBase:
        def create() -> None:
            if not self._over:
                self._task = self._loop.create_task(self._enter(source))
                _running.add(self._task)
                self._task.add_done_callback(self._done)

        call_on(self._loop, create)
        return Disposable(self._dispose)

    # --- before ---------------------------------------------------------------------------------------------------------

    async def _enter(self, source: Observable[Event]) -> None:
        try:
            self._ticket = self._write()
            with spent_in("queue", self._scheduler.probes):
                for one in self._guards:
                    await _entering(one, self._ticket)
                    self._entered.append(one)
                    if self._over:  # while it was let in
                        self._leave("cancelled")
                        return
            self._begin(source)
        except Exception as error:
            if self._over:
                raise
            self._refuse(error)

    def _done(self, task: asyncio.Task[None]) -> None:
        _running.discard(task)
        if task.cancelled():
            self._refuse(shut_down())  # unless it was disposed; where the loop goes down the task may never have begun

    def _write(self) -> Ticket:
        now, asking = self._loop.time(), self._asking
        if asking is None:
            return Ticket(ModelKey("", self._label, ""), asked_at=now)
        return Ticket(asking.key, tokens=asking.tokens, asked_at=now)

    def _begin(self, source: Observable[Event]) -> None:
        self._ticket.sent_at = self._loop.time()
        self._stopwatch.start()
        self._upstream.disposable = source.subscribe(self._next, self._fail, self._complete, scheduler=self._scheduler)

    def _refuse(self, error: Exception) -> None:
        """It ends before it has begun: that is told when the subscriber's gate is open."""
        if self._over:
            return
        self._over = True
        self._leave(_outcome(error), error)
        if isinstance(error, StreamError):
            error.provider = error.provider or self._ticket.key.provider
            error.model = error.model or self._ticket.key.model
            error.partial = error.partial or Aggregator().response()
            error.__traceback__ = None  # of our frames, which would keep the stream, and its loop
        self._outlet = Outlet(self._observer, self._scheduler)
        self._outlet.on_error(error)

    # --- while it runs ----------------------------------------------------------------------------------------------------

    def _next(self, event: Event) -> None:
        if self._silent or type(event) in _NOTED:
            self._note(event)
        self._emit(event)

    def _note(self, event: Event) -> None:
        if self._silent and is_content(event):
            self._silent = False
            self._ticket.first_output_after = self._stopwatch.stop()
        elif isinstance(event, Started):
            if event.rate_limits is not None:
                self._tell(self._ticket.hear, event.rate_limits)
        elif isinstance(event, UsageReported):
            self._usages[event.source, event.attempt] = event.usage
        elif isinstance(event, Finished):
            self._finished = True
            if self._asking is not None:  # else there may be several answers, and this is the end of the first
                self._leave("completed")

    def _fail(self, error: Exception) -> None:
        if not self._over:
            self._over = True
            self._leave(_outcome(error), error)
            self._observer.on_error(error)

    def _complete(self) -> None:
        if not self._over:
            self._over = True
            self._leave("completed")
            self._observer.on_completed()

    # --- after ------------------------------------------------------------------------------------------------------------

    def _leave(self, outcome: Outcome, error: Exception | None = None) -> None:
        ticket = self._ticket
        if ticket.outcome is None:
            self._stopwatch.stop()
            ticket.outcome, ticket.error = outcome, error
            ticket.usage = sum(self._usages.values(), Usage()) if self._usages else None
        while self._entered:
            self._tell(self._entered.pop().leave, ticket)

    def _tell(self, hear: Callable[[T], object], what: T) -> None:
        """What a guard makes of what it hears changes nothing for the stream."""
        try:
            hear(what)
        except Exception as raised:  # noqa: BLE001 - the guard's own
            self._loop.call_exception_handler({"message": "a guard raised an exception", "exception": raised})

    def _dispose(self) -> None:
        self._over = True
        self._upstream.dispose()
        if not self._loop.is_running() or running_loop() is self._loop:
            self._retire()  # also where no loop is there to do it on: others wait for the place
        else:
            call_on(self._loop, self._retire)

    def _retire(self) -> None:
        self._leave("completed" if self._finished else "cancelled")
        if self._outlet is not None:
            self._outlet.dispose()
        task = self._task
        if task is not None and not self._loop.is_closed() and task is not asyncio.current_task(self._loop):
            task.cancel()


def _outcome(error: Exception) -> Outcome:
    return "cancelled" if isinstance(error, Cancelled) else "failed"


class _Stopwatch:
    """Seconds since `start`, those left out in which the gate was closed."""

    def __init__(self, scheduler: LoopScheduler) -> None:
        self._gate = scheduler.gate
        self._time = scheduler.loop.time
        self._running = False
        self._since = 0.0
        self._closed_at: float | None = None

    def start(self) -> None:
        self._running = True
        self._since = self._time()
        self._closed_at = self._since if self._gate.closed else None
        self._gate.watch(self._changed)

    def stop(self) -> float:
        if self._running:
            self._running = False
            self._gate.unwatch(self._changed)
        return max(0.0, self._time() - self._since)

    def _changed(self) -> None:
        """From any thread, but one at a time: the gate sees to it."""
        now = self._time()
        if self._gate.closed:
            self._closed_at = now
        elif self._closed_at is not None:
            self._since += now - self._closed_at
            self._closed_at = None
