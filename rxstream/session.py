"""A handle on one running stream: what it is doing, pause, resume, cancel, and its result.

The session exists before the request is sent, and every method may be called from any thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import msgspec
from reactivex import Observable, Observer, abc

from rxstream._blame import because_of, foreign
from rxstream._check import kind_of
from rxstream._outlet import Outlet
from rxstream.aggregate import Answers
from rxstream.errors import Cancelled, ConfigurationError, StreamError, plain_error, raisable
from rxstream.events import CONTENT_EVENTS, Event, TextDelta
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler, call_on, contain, current_loop, refuse_to_block, running_loop
from rxstream.sinks.callback import call_last

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["SessionStatus", "Statistics", "StreamSession"]

SessionStatus = Literal["inactive", "active", "paused", "completed", "cancelled", "error"]
"""``inactive`` made, not subscribed yet; ``active`` and ``paused`` running; the others are final."""

_CONTENT = frozenset(CONTENT_EVENTS)
_PAUSE = "pause"
_NOTHING: Final[Observable[Any]] = Observable()
"""In place of a source that is needed no more: who keeps a session does not keep its prompt."""


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a session at one moment; times in seconds since the start, None where it has not come to that."""

    events: int
    outputs: int
    """Events that carry content."""
    characters: int
    """Characters of text that came, those that were taken back later, too."""
    elapsed: float
    """From the start to the end, or to now."""
    time_to_first_event: float | None
    time_to_first_output: float | None
    output_tokens: int | None
    """As the provider reports them; None where that is not known of all tracks that were asked."""
    tokens_per_second: float | None
    """Reported output tokens over the time from the first output to the last."""
    outputs_per_second: float | None
    """Pieces of content over that time; with most providers a piece is about a token."""
    pauses: int
    read_ahead: int
    """Bytes read and held back because the stream is paused or its consumer is slow."""
    holds: tuple[str, ...]
    """Who holds the stream's gate."""


class StreamSession:
    """One running stream. Made by `rxstream.Stream.start`.

    Args:
        source: The events.
        observer: Who is told of them.
        label: What to call it.
        loop: Where to run, whichever thread it is started in; by default the running loop, or the shared one.
        changed: Called when it becomes active or paused, in the thread that did it, with its lock held: it must be quick,
            never raise, and call nobody.
    """

    def __init__(
        self,
        source: Observable[Event],
        observer: abc.ObserverBase[Event],
        *,
        label: str = "",
        loop: asyncio.AbstractEventLoop | None = None,
        changed: Callable[[SessionStatus], object] | None = None,
    ) -> None:
        self.label = label
        self.loop = current_loop() if loop is None else loop
        self.gate = Gate()
        self._elsewhere = loop is not None
        self._changed = changed
        self._source = source
        self._observer = observer
        self._lock = threading.RLock()
        self._status: SessionStatus = "inactive"
        self._answers = Answers()
        self._outcome: Response | Exception | None = None  # until the observer has been told
        self._result: Future[Response] = Future()
        self._subscription: abc.DisposableBase | None = None
        self._scheduler = LoopScheduler(self.loop, gate=self.gate)
        told = Observer(self._on_next, self._on_error, self._on_completed)
        # Operators with a timer stand between the gate and us: what they send in a pause waits here.
        self._outlet: Outlet[Event] = Outlet(told, self._scheduler, overflowed=self._leave)
        self._error: Exception | None = None
        self._started: float | None = None
        self._ended: float | None = None
        self._first_event: float | None = None
        self._first_output: float | None = None
        self._last_output: float | None = None
        self._events = self._outputs = self._characters = self._pauses = 0

    # --- control, any thread --------------------------------------------------------------------------------------------

    def start(self, *, waited: float = 0.0) -> StreamSession:
        """Subscribe; called by `rxstream.Stream.start`. A second call changes nothing.

        Args:
            waited: Seconds that it had to wait for this, which are in what is measured of it (`rxstream.operators.meter`).
        """
        with self._lock:
            if self._status != "inactive":
                return self
            self._started = self.loop.time()
            self._scheduler.turn.waited = waited
            self._go("active")
        if self._elsewhere:
            call_on(self.loop, self._subscribe)
        else:
            self._subscribe()
        return self

    def pause(self) -> bool:
        """Hold the stream. Called on the stream's own loop, nothing more is delivered once it returns; called from
        another thread, at most the one event that is on its way. The provider is not stopped by this; `cancel` does that.

        Returns:
            Whether this did it: only an active session can be paused.
        """
        with self._lock:
            if self._status != "active":
                return False
            self._pauses += 1
            self.gate.hold(_PAUSE)  # first: who is told may resume it at once
            self._go("paused")
            return True

    def resume(self) -> bool:
        """Go on where `pause` stopped: nothing is lost, nothing comes twice.

        Returns:
            Whether this did it: only a paused session can be resumed.
        """
        with self._lock:
            if self._status != "paused":
                return False
            self.gate.release(_PAUSE)
            self._go("active")
            return True

    def cancel(self, reason: str = "") -> bool:
        """Close the request now. The observer gets ``on_error`` with `rxstream.errors.Cancelled`, which holds what arrived.

        Returns:
            Whether this did it: cancelling a session that is over changes nothing.
        """
        return self._break_off("cancelled", Cancelled(reason))

    def fail(self, error: Exception) -> bool:
        """Close the request now, because of `error`, of which the observer is told: for what goes wrong outside the stream.

        Returns:
            Whether this did it: a session that is over stays as it is.
        """
        return self._break_off("error", error)

    # --- what it is doing -------------------------------------------------------------------------------------------------

    @property
    def status(self) -> SessionStatus:
        """What the session is doing."""
        return self._status

    @property
    def error(self) -> Exception | None:
        """Why it ended, if it did not complete."""
        return self._error

    @property
    def partial(self) -> Response:
        """The answer so far.

        Raises:
            ConfigurationError: the stream holds the answers of several tracks; see `responses`.
        """
        with self._lock:
            if self._outcome is None or isinstance(self._outcome, Exception):
                return self._answers.response()
            return self._outcome

    @property
    def responses(self) -> dict[str, Response]:
        """The answers so far, by the labels of their tracks; of a stream that is no combination, its one."""
        with self._lock:
            return self._answers.responses()

    @property
    def statistics(self) -> Statistics:
        """The figures so far."""
        with self._lock:
            end = self.loop.time() if self._ended is None else self._ended
            span = (self._last_output or 0.0) - (self._first_output or 0.0)
            usage = self._answers.total_usage()
            tokens = None if usage.provenance == "estimated" else usage.output_tokens
            return Statistics(
                events=self._events,
                outputs=self._outputs,
                characters=self._characters,
                elapsed=0.0 if self._started is None else end - self._started,
                time_to_first_event=self._since_start(self._first_event),
                time_to_first_output=self._since_start(self._first_output),
                output_tokens=tokens,
                tokens_per_second=tokens / span if tokens and span > 0 else None,
                outputs_per_second=self._outputs / span if span > 0 else None,
                pauses=self._pauses,
                read_ahead=self.gate.read_ahead,
                holds=self.gate.holds,
            )

    # --- its result -------------------------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> Response:
        """Wait, at most `timeout` seconds, for the end, and give the answer; the observer's plain functions know it by then.

        Raises:
            StreamError: the stream failed or was cancelled; ``partial`` holds what arrived.
            TimeoutError: it has not ended yet; it goes on.
            ConfigurationError: called on the stream's own loop; await the session there. Or the stream holds the answers
                of several tracks; see `responses`.
        """
        if running_loop() is self.loop:  # in the observer's last callback it is known
            self._settle()
        if not self._result.done():
            refuse_to_block(self.loop, "use `await session`")
        return self._result.result(timeout)

    def __await__(self) -> Generator[Any, None, Response]:
        """The answer; raises as `result`. Cancelling the wait does not cancel the stream."""
        waiting = asyncio.wrap_future(self._result)
        waiting.add_done_callback(_look_at)
        return asyncio.shield(waiting).__await__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.cancel("left its block")

    def __repr__(self) -> str:
        return f"<StreamSession {self.label!r} {self._status}, {self._events} events>"

    # --- the stream's side, on its loop -------------------------------------------------------------------------------------

    def _go(self, status: SessionStatus) -> None:
        """Become active or paused; the lock is held."""
        self._status = status
        if self._changed is not None:
            self._changed(status)

    def _subscribe(self) -> None:
        if self._status in ("cancelled", "error"):  # on the way here
            return
        outlet, source, self._source = self._outlet, self._source, _NOTHING  # it is asked once
        try:
            subscription = source.subscribe(
                outlet.on_next, outlet.on_error, outlet.on_completed, scheduler=self._scheduler
            )
        except BaseException as raised:  # noqa: BLE001 - the source's own; what is no exception comes through Rx
            self.fail(plain_error(raised))
            contain(raised)
            return
        self._scheduler.turn.waited = 0.0
        with self._lock:
            self._subscription = subscription
        if self._over:
            with because_of(self._error):
                subscription.dispose()

    @property
    def _over(self) -> bool:
        return self._status in ("completed", "cancelled", "error")

    def _on_next(self, event: Event) -> None:
        try:
            with self._lock:
                if self._over:
                    return
                self._add(event)
            self._observer.on_next(event)
        except BaseException as raised:  # noqa: BLE001 - the observer's own: it gets it back
            error = contain(raised)
            if self._end("error", error):
                self._dispose()
                self._tell_last(self._observer.on_error, error)

    def _add(self, event: Event) -> None:
        try:
            self._answers.add(event)
        except TypeError:
            what = f"gets {kind_of(event)}, not an event: start() before text() or map(), or subscribe()"
            raise ConfigurationError(f"a session {what}") from None
        self._count(event)

    def _on_error(self, error: Exception) -> None:
        if self._end("error", error):
            self._leave(foreign(error))
            self._tell_last(self._observer.on_error, error)

    def _on_completed(self) -> None:
        if self._end("completed", None):
            self._tell_last(self._observer.on_completed)

    def _tell_last(self, callback: Callable[..., Any], *arguments: Exception) -> None:
        """The end; who waits for the result in another thread goes on after that."""
        try:
            call_last(callback, *arguments)
        finally:
            self._settle()

    def _count(self, event: Event) -> None:
        now = event.at or self.loop.time()
        self._events += 1
        if self._first_event is None:
            self._first_event = now
        kind = type(event)
        if kind in _CONTENT:
            self._outputs += 1
            self._last_output = now
            if self._first_output is None:
                self._first_output = now
        if isinstance(event, TextDelta):
            self._characters += len(event.text)

    def _end(self, status: SessionStatus, error: Exception | None) -> bool:
        """Whether this call is the one that ended it."""
        with self._lock:
            if self._over:
                return False
            self._status, self._error, self._ended = status, error, self.loop.time()
            self._source = _NOTHING
        try:
            response = self._answers.response()
        except Exception as failed:  # noqa: BLE001 - it is of several tracks; or whatever it is, somebody waits
            self._outcome = raisable(error or failed)
        else:
            if isinstance(error, StreamError) and error.partial is None:
                error.partial = response
            self._outcome = response if error is None else raisable(error)
        self.gate.release(_PAUSE)
        return True

    def _break_off(self, status: SessionStatus, error: Exception) -> bool:
        if not self._end(status, error):
            return False
        self._dispose()
        try:
            call_on(self.loop, partial(call_last, self._observer.on_error, error))
        finally:
            self._settle()  # in another thread at once: the loop may never come round to telling
        return True

    def _settle(self) -> None:
        """The result is there, if the stream is over."""
        with self._lock:
            outcome, self._outcome = self._outcome, None
            if isinstance(outcome, Exception):
                self._result.set_exception(outcome)
            elif outcome is not None:
                self._result.set_result(outcome)

    def _dispose(self) -> None:
        self._outlet.dispose()
        self._leave(self._error)

    def _leave(self, error: Exception | None = None) -> None:
        if self._subscription is not None:
            with because_of(error):
                self._subscription.dispose()

    def _since_start(self, at: float | None) -> float | None:
        return None if at is None or self._started is None else at - self._started


def _look_at(outcome: asyncio.Future[Response]) -> None:
    """So that asyncio does not say that nobody took its error: the wait may have been given up."""
    if not outcome.cancelled():
        outcome.exception()
