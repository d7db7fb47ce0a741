"""``retry_stream`` at work: one subscription, request after request.

Rules of this module:

* At most one request at a time, and no more than were allowed; each is closed.
* Before its first content nothing of an attempt is delivered; if it fails by then, nothing of it ever was.
* A failure is told at once, and what comes next; the last one ends the stream.
* What is asked next is asked by the loop, never within the failure, so that the stack does not grow; and never in a pause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SerialDisposable

from rxstream._alarm import Alarm, Countdown
from rxstream._asking import Asking, Continuation, Conversation, ModelKey, asking_of, go_on, label_of
from rxstream._check import at_least, kind_of
from rxstream._log import facts, log
from rxstream.budget import RetryBudget, shared_budget
from rxstream.errors import (
    BudgetExceeded,
    BulkheadFull,
    Cancelled,
    CircuitOpen,
    ConfigurationError,
    LimitExceeded,
    StreamError,
    StreamIncomplete,
    TimedOut,
    error_info,
)
from rxstream.events import ErrorInfo, Event, Finished, Retrying, Seam, is_content
from rxstream.loop import LoopScheduler, call_on
from rxstream.operators._attempt import Attempt, Delivery

__all__ = ["Options", "Retries"]

_How = Literal["again", "resume", "restart", "continue"]
_FINAL: Final = (Cancelled, BudgetExceeded)
_NOT_ASKED: Final = (CircuitOpen, BulkheadFull)
"""Refusals of a guard: what is asked after one is no further request."""
"""Errors that say that nobody shall be asked any more."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `retry_stream` was told."""

    attempts: int
    after_output: str
    when: Callable[[Exception], bool]
    delay: float
    max_delay: float
    max_retry_after: float
    budget: RetryBudget | Literal["shared"] | None
    jitter: Callable[[float], float]
    most: int


class Retries:
    """One subscription."""

    def __init__(
        self, source: Observable[Event], options: Options, observer: abc.ObserverBase[Event], scheduler: LoopScheduler
    ) -> None:
        self._source = source
        self._options = options
        self._scheduler = scheduler
        self._delivery = Delivery(observer, scheduler, overflowed=self._release)
        self._outlet = self._delivery.outlet
        self._emit = self._outlet.on_next
        self._request = SerialDisposable()
        self._alarm = Alarm(scheduler.loop, self._due)
        self._total: Countdown | None = None
        self._asking: Asking | None = asking_of(source)
        self._conversation: Conversation | None = None
        self._budget: RetryBudget | None = None
        self._key: ModelKey | None = None
        self._label = label_of(source)
        self._attempt = Attempt(1, self._label, scheduler)
        self._stands: Attempt | None = None  # an attempt before this one, whose text was delivered
        self._seam: Seam | None = None  # to come with the next content
        self._asked: Observable[Event] | None = None  # what is asked next
        self._requests = 0
        self._failure: ErrorInfo | None = None  # of the request before
        self._straight = False  # events go straight through
        self._partials = False  # the source keeps partial answers
        self._active = False  # a request is made and has not ended
        self._over = False

    def start(self) -> abc.DisposableBase:
        """Begin, on the loop."""
        call_on(self._scheduler.loop, self._begin)
        return Disposable(partial(call_on, self._scheduler.loop, self._dispose))

    def _begin(self) -> None:
        if self._over:
            return  # disposed before the loop came to this
        try:
            self._prepare()
        except Exception as error:  # noqa: BLE001 - a request that cannot be made, and whatever an `Asking` raises
            self._end(error)
            return
        self._scheduler.gate.watch(self._gate_changed)
        if self._total is not None:
            self._total.start()
        self._ask()

    def _prepare(self) -> None:
        asking, resumable = self._asking, self._options.after_output == "resume"
        if resumable and (asking is None or not asking.resumable):
            raise ConfigurationError(
                "after_output='resume': the rest of an answer that was cut can be had of OpenAI's Responses API and of the "
                "local model, and only where nothing that changes its events stands before retry_stream; "
                "choose 'restart', 'continue_' or 'buffer' instead"
            )
        self._asked = self._source
        budget = self._options.budget
        if asking is not None:
            self._key = asking.key
            self._conversation = asking.conversation(resumable=resumable)
            self._asked = self._conversation.ask()
            if asking.total is not None:
                self._total = Countdown(self._scheduler, asking.total, partial(self._run_out, asking.total))
        self._budget = shared_budget(self._key) if budget == "shared" else budget
        if self._budget is not None:
            self._budget.earn()

    # --- requests ---------------------------------------------------------------------------------------------------------

    def _gate_changed(self) -> None:
        call_on(self._scheduler.loop, self._due)

    def _due(self) -> None:
        if self._alarm.at is None and not self._scheduler.gate.closed:
            self._outlet.guard(self._ask)

    def _ask(self) -> None:
        """Make the next request, if there is one to be made."""
        asked, self._asked = self._asked, None
        if asked is None or self._over:
            return
        self._requests += 1
        self._delivery.attempts = self._attempt.number
        self._active = True
        request = asked.subscribe(self._hear, self._fail, self._complete, scheduler=self._scheduler)
        if self._active:
            self._request.disposable = request
        else:  # it has failed meanwhile
            request.dispose()

    def _hear(self, event: Event) -> None:
        if not self._active:
            return  # the source does not know yet that it is closed
        try:
            heard = self._attempt.hear(event)
        except AttributeError:
            self._refuse(event)
            return
        if self._straight:
            self._emit(heard)
        else:
            self._hear_first(event)

    def _hear_first(self, event: Event) -> None:
        """An event of a request that has not given any content yet."""
        attempt, most = self._attempt, self._options.most
        if attempt.committed:  # this request resumes it
            last = is_content(event) or isinstance(event, Finished)
            self._deliver(self._join(event) if last else [attempt.stamp(event)])
        elif is_content(event) and self._options.after_output != "buffer":
            self._deliver([*self._turn(), *self._join(event)])
        elif len(attempt.kept) < most:
            attempt.keep(event)
        else:
            self._fail(self._own(LimitExceeded(f"more than {most} events had to be kept back")))

    def _refuse(self, item: object) -> None:
        what = kind_of(item)
        self._end(ConfigurationError(f"retry_stream gets {what}, not an event: put it before text() or map()"))

    def _turn(self) -> list[Event]:
        """What is delivered before the first content of an attempt: it takes the place of the one that stood."""
        before = self._stands
        self._stands = None
        retracted = before.retract() if before is not None and self._options.after_output == "restart" else []
        return [*retracted, *self._attempt.release()]

    def _join(self, event: Event) -> list[Event]:
        """`event`, the first content of a request, and before it the seam; what comes now goes straight through."""
        seam, self._seam = self._seam, None
        self._straight = True
        return [self._attempt.stamp(event)] if seam is None else self._attempt.seam(seam, event)

    def _deliver(self, events: list[Event]) -> None:
        """Many events at once, which let the loop breathe."""
        if not self._outlet.over:
            self._outlet.items.extend(events)
            self._outlet.flush()

    # --- ends -------------------------------------------------------------------------------------------------------------

    def _complete(self) -> None:
        if not self._active:
            return
        if not self._attempt.committed:
            if self._stands is not None and self._options.after_output == "restart":
                message = "it ended without a word, in place of which the text of the attempt before it stands"
                self._fail(self._own(StreamIncomplete(message)))
                return
            self._deliver(self._whole())
        self._release()
        self._outlet.on_completed()

    def _whole(self) -> list[Event]:
        """All of an attempt that was kept back to its end."""
        kept = self._attempt.kept
        if self._seam is None or not kept or not isinstance(kept[-1], Finished):
            return self._turn()
        finished = kept.pop()
        return [*self._turn(), *self._join(finished)]

    def _fail(self, error: Exception) -> None:
        if not self._active:
            return
        self._active = self._straight = False
        self._request.disposable = Disposable()
        if isinstance(error, StreamError) and error.partial is not None:
            self._partials = True
        try:
            plan = self._plan(error)
        except Exception as raised:  # noqa: BLE001 - the user's own
            self._end(raised)
            return
        if plan is None:
            before = self._failure
            if before is not None and before.kind != type(error).__name__:  # such as: the rest is kept no longer
                error.add_note(f"The request before it failed of {before.kind}: {before.message}")
            self._end(error, bare=not self._partials)
        else:
            self._retry(error, *plan)

    def _plan(self, error: Exception) -> tuple[float, _How] | None:
        """How long to wait, and how to go on; None if this error is the end."""
        options = self._options
        if not isinstance(error, StreamError) or isinstance(error, _FINAL) or self._requests >= options.attempts:
            return None
        last = self._attempt.finished or options.after_output == "fail"
        if (self._attempt.committed and last) or not options.when(error):
            return None
        delay = self._jitter(min(options.max_delay, options.delay * 2.0 ** min(self._requests - 1, 64)))
        if error.retry_after is not None:
            if error.retry_after > options.max_retry_after:
                most = f"max_retry_after is {options.max_retry_after:g}"
                error.add_note(f"It was not retried: one is asked to wait {error.retry_after:g} s, and {most}.")
                return None
            delay = max(delay, error.retry_after + self._jitter(options.delay))
        if self._total is not None and delay >= self._total.left:
            error.add_note(f"It was not retried: a wait of {delay:g} s is more than the clock 'total' has left.")
            return None
        how = self._how(error)
        if how is None:
            return None
        if self._budget is not None and not isinstance(error, _NOT_ASKED) and not self._budget.take():
            error.add_note("It was not retried: the retry budget is used up.")
            return None
        return delay, how

    def _jitter(self, most: float) -> float:
        return at_least("jitter", self._options.jitter(most))

    def _how(self, error: StreamError) -> _How | None:
        """How to go on, with what is asked then; None, and why, if there is no way."""
        policy, conversation = self._options.after_output, self._conversation
        stands = self._attempt.committed or self._stands is not None
        if policy == "resume" and conversation is not None:
            self._asked = conversation.resume()
            if self._asked is not None:
                return "resume"
        if not stands or policy == "restart":
            self._asked = self._source if conversation is None else conversation.ask()
            return "restart" if stands else "again"
        if policy == "continue_":
            return self._go_on(error)
        if policy == "resume":
            error.add_note("It was not resumed: the provider has ended the answer, or given no place to resume from.")
        return None

    def _go_on(self, error: StreamError) -> _How | None:
        said = self._delivery.answer()
        if self._conversation is None:
            further: Continuation | str = (
                "it is not known how to ask its model to go on; only guard, timeouts and limit may stand between"
            )
        elif said is None:
            further = "several answers were given"
        else:
            further = go_on(self._conversation, said)
            if not isinstance(further, str):
                self._asked = further.events
                self._seam = Seam(kind=further.kind, offset=len(said.text))
                return "continue"
        error.add_note(f"It was not continued: {further}.")
        return None

    def _retry(self, error: Exception, delay: float, how: _How) -> None:
        """Say that the attempt has failed, and make another in `delay` seconds."""
        failed, self._failure = self._attempt, error_info(error)
        words: list[Event] = [failed.word(Retrying(error=self._failure, delay=delay, how=how))]
        if how == "resume":
            self._resume(failed)
        else:
            words += failed.bill()
            self._stands = failed if failed.committed else self._stands
            self._attempt = Attempt(failed.last + 1, self._label, self._scheduler)
        log.info(
            "a request failed and is made again (%s) in %.3g s: %s",
            how,
            delay,
            self._failure.kind,
            extra=facts("retrying", error=error, how=how, delay=delay, attempt=failed.last, label=self._label),
        )
        self._alarm.set(self._scheduler.loop.time() + delay)
        self._outlet.outlast()
        self._deliver(words)

    def _resume(self, attempt: Attempt) -> None:
        attempt.resumed()
        said = self._delivery.answer() if attempt.committed else None
        if said is not None:
            self._seam = Seam(kind="resume", offset=len(said.text), verified=True)

    def _run_out(self, seconds: float) -> None:
        message = f"the stream was not complete within {seconds:g} s (clock 'total')"
        self._outlet.guard(partial(self._end, self._own(TimedOut(message, clock="total", seconds=seconds))))

    def _own(self, error: StreamError) -> StreamError:
        """`error`, which is ours, with what a source would say in it."""
        if self._key is not None:
            error.provider, error.model = self._key.provider, self._key.model
        error.phase = self._attempt.phase
        self._partials = True
        return error

    def _end(self, error: Exception, *, bare: bool = False) -> None:
        """The end, with what is known of the last attempt."""
        if self._over:
            return
        self._release()
        if not self._attempt.committed:
            untouched = self._stands is None and self._options.after_output != "buffer"
            self._deliver(self._attempt.release() if untouched else self._attempt.bill())
        if bare:
            self._delivery.bare = error
        self._outlet.on_error(error)

    def _dispose(self) -> None:
        self._outlet.dispose()
        self._release()

    def _release(self) -> None:
        """It is over: close the request, and what runs at the provider."""
        if self._over:
            return
        self._over, self._active, self._straight = True, False, False
        self._scheduler.gate.unwatch(self._gate_changed)
        self._alarm.close()
        if self._total is not None:
            self._total.close()
        self._request.dispose()
        self._asked = None
        if self._conversation is not None:
            self._conversation.close()
