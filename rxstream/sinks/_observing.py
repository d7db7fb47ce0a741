"""A handler as the observer of one subscription."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from reactivex import Subject
from reactivex.disposable import SingleAssignmentDisposable

from rxstream._blame import because_of, foreign
from rxstream._check import kind_of
from rxstream.aggregate import Answers
from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.loop import LoopScheduler, call_on
from rxstream.operators import progress
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks._hooks import Hooks, StreamMetadata
from rxstream.sinks._policy import HandlerPolicy
from rxstream.sinks.callback import call_last

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["ALONE", "Observing"]

ALONE = HandlerPolicy(on_failure="raise", slow="hold", capacity=64)
"""How the one handler of a subscription is treated: what it raises ends the subscription, and its slowness holds the stream."""


class Observing:
    """Tells `handler` of one subscription; an observer of Rx.

    Args:
        handler: Who is told.
        metadata: What is known of the stream.
        scheduler: The subscription's.
        policy: How the handler is treated.
        fail: How to end the stream with an error, which then comes back by `on_error`; by default its subscription is
            disposed.
        answer: Gives the answer so far, where somebody else keeps it.
    """

    def __init__(
        self,
        handler: Hooks,
        metadata: StreamMetadata,
        scheduler: LoopScheduler,
        *,
        policy: HandlerPolicy = ALONE,
        fail: Callable[[Exception], object] | None = None,
        answer: Callable[[], Response] | None = None,
    ) -> None:
        self.subscription = SingleAssignmentDisposable()
        """Of the source; disposed when the handler's failure ends it."""
        self._fail = fail or self._leave
        self.dispatch = Dispatch(metadata, scheduler, fail=self._fail)
        own = Answers()
        self._answers = own if answer is None else None
        self._answer = answer or own.response
        self._over = False
        self._measured: Subject[Event] | None = None
        self._scheduler = scheduler
        self.dispatch.add(getattr(handler, "__name__", type(handler).__name__), handler, policy)

    def start(self) -> None:
        """Tell it the start."""
        self.dispatch.start()
        if self.dispatch.wants("on_progress"):
            self._measured = Subject()
            self._measured.pipe(progress()).subscribe(self.dispatch.progress, scheduler=self._scheduler)

    def on_next(self, event: Event) -> None:
        """Tell it what happened; what it raises is its own end."""
        if self._over:
            return
        try:
            if self._answers is not None:
                self._add(self._answers, event)
            self.dispatch.on_next(event)
            if self._measured is not None:
                self._measured.on_next(event)
        except Exception as error:  # noqa: BLE001 - the handler's own: it gets it back
            self._fail(error)

    def on_error(self, error: Exception) -> None:
        """Tell it that the stream has failed."""
        if not self._over:
            self._finish()
            call_last(self.dispatch.on_error, error)
            with because_of(foreign(error)):
                self.subscription.dispose()

    def on_completed(self) -> None:
        """Give it the answer."""
        if self._over:
            return
        try:
            response = self._answer()
        except Exception as error:  # noqa: BLE001 - it is of several tracks; or whatever it is, somebody waits
            self.on_error(error)
        else:
            self._finish()
            self.dispatch.on_completed(response)

    def dispose(self) -> None:
        """It wants no more. From any thread."""
        self.subscription.dispose()
        call_on(self._scheduler.loop, self._forget)

    def _forget(self) -> None:
        self.dispatch.dispose()
        self._finish()

    def _finish(self) -> None:
        if self._measured is not None:
            self._measured.on_completed()
        self._over = True

    def _add(self, answers: Answers, event: Event) -> None:
        try:
            answers.add(event)
        except TypeError:
            what = f"gets {kind_of(event)}, not an event: subscribe it before text() or map()"
            raise ConfigurationError(f"a handler {what}") from None

    def _leave(self, error: Exception) -> None:
        with because_of(error):
            self.subscription.dispose()
        self.on_error(error)
