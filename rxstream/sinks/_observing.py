"""A handler as the observer of one subscription."""

from __future__ import annotations

from reactivex.disposable import SingleAssignmentDisposable

from rxstream.aggregate import Answers
from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.loop import LoopScheduler, call_on
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks._hooks import Hooks, StreamMetadata
from rxstream.sinks._policy import HandlerPolicy
from rxstream.sinks.callback import call_last

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
    """

    def __init__(
        self, handler: Hooks, metadata: StreamMetadata, scheduler: LoopScheduler, *, policy: HandlerPolicy = ALONE
    ) -> None:
        self.subscription = SingleAssignmentDisposable()
        """Of the source; disposed when the handler's failure ends it."""
        self.dispatch = Dispatch(metadata, scheduler, fail=self._fail)
        self.dispatch.add(metadata.stream_id or "alone", handler, policy)
        self._loop = scheduler.loop
        self._answers = Answers()
        self._over = False
        self.dispatch.start()

    def on_next(self, event: Event) -> None:
        """Tell it what happened; what it raises is its own end."""
        if self._over:
            return
        try:
            self._add(event)
            self.dispatch.on_next(event)
        except Exception as error:  # noqa: BLE001 - the handler's own: it gets it back
            self._fail(error)

    def on_error(self, error: Exception) -> None:
        """Tell it that the stream has failed."""
        if not self._over:
            self._over = True
            call_last(self.dispatch.on_error, error)

    def on_completed(self) -> None:
        """Give it the answer."""
        if self._over:
            return
        try:
            response = self._answers.response()
        except ConfigurationError as several:
            self.on_error(several)
        else:
            self._over = True
            self.dispatch.on_completed(response)

    def dispose(self) -> None:
        """It wants no more. From any thread."""
        self._over = True
        self.subscription.dispose()
        call_on(self._loop, self.dispatch.dispose)

    def _add(self, event: Event) -> None:
        try:
            self._answers.add(event)
        except TypeError:
            what = f"gets a {type(event).__name__}, not an event: subscribe it before text() or map()"
            raise ConfigurationError(f"a handler {what}") from None

    def _fail(self, error: Exception) -> None:
        self.subscription.dispose()
        self.on_error(error)
