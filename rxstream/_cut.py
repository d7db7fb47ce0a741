"""What an operator needs that passes events on as they come and may end the stream by an error of its own.

Rules of this module:

* What passes through is folded, so that the error holds what was delivered.
* The source is closed before the error is told; while the gate is closed the error waits.
* What the source emits goes straight through: it obeys the gate itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._blame import because_of
from rxstream._check import kind_of
from rxstream._outlet import Outlet
from rxstream.aggregate import Answers
from rxstream.errors import ConfigurationError, StreamError
from rxstream.events import Event, Phase
from rxstream.loop import LoopScheduler, call_on

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["Cut"]


class Cut(ABC):
    """One subscription of such an operator.

    Args:
        observer: Who is told.
        scheduler: Whose loop and gate hold.
    """

    def __init__(self, observer: abc.ObserverBase[Event], scheduler: LoopScheduler) -> None:
        self.scheduler = scheduler
        self.over = False
        """Whether the end was told, or nobody listens any more."""
        self._observer = observer
        self._answers = Answers()
        self.fold = self._answers.add
        self.emit = observer.on_next
        self._upstream = SingleAssignmentDisposable()
        self._outlet: Outlet[Event] | None = None

    def subscribe(self, source: Observable[Event]) -> abc.DisposableBase:
        """Begin, on the loop, and be told of the events of `source`."""
        call_on(self.scheduler.loop, self._begin)
        self._upstream.disposable = source.subscribe(
            self.on_next, self._on_error, self._on_completed, scheduler=self.scheduler
        )
        return Disposable(partial(call_on, self.scheduler.loop, self._dispose))

    # --- to be overridden -------------------------------------------------------------------------------------------------

    def begin(self) -> None:  # noqa: B027 - not every operator has something to begin
        """The source is about to be subscribed."""

    @abstractmethod
    def on_next(self, event: Event) -> None:
        """The next event of the source: to be given to `fold`, then to `emit`."""

    def release(self) -> None:  # noqa: B027 - … or to give back
        """It is over: give back what you hold."""

    # --- endings ----------------------------------------------------------------------------------------------------------

    def cut(self, error: StreamError) -> None:
        """Close the source, and end with `error`, which gets to know how far the stream was and what it had said."""
        if self.over:
            return
        error.phase = _how_far([*self._answers.responses().values()])
        if self._answers.count < 2:  # of several, none is the answer of the stream
            error.partial = self._answers.response()
            error.provider, error.model = error.partial.provider, error.partial.model
        self._close(error)

    def refuse(self, item: object, name: str) -> None:
        """Close the source: it gives an `item` that is no event, which `fold` does not take. `name` is the operator's."""
        what = kind_of(item)
        self._close(ConfigurationError(f"{name} gets {what}, not an event: put it before text() or map()"))

    def _close(self, error: Exception) -> None:
        self._end()
        with because_of(error):
            self._upstream.dispose()
        self._outlet = Outlet(self._observer, self.scheduler)
        self._outlet.on_error(error)

    def _on_error(self, error: Exception) -> None:
        self._end()
        self._observer.on_error(error)

    def _on_completed(self) -> None:
        self._end()
        self._observer.on_completed()

    def _begin(self) -> None:
        if not self.over:
            self.begin()

    def _end(self) -> None:
        if not self.over:
            self.over = True
            call_on(self.scheduler.loop, self.release)

    def _dispose(self) -> None:
        self._end()
        self._upstream.dispose()
        if self._outlet is not None:
            self._outlet.dispose()


def _how_far(answers: list[Response]) -> Phase:
    """The phase of a stream that has said so much."""
    if not answers:
        return "first_event"
    choices = [choice for answer in answers for choice in answer.choices]
    parts = [part for choice in choices for part in choice.parts]
    if parts and parts[-1].type == "tool_call" and not parts[-1].complete:
        return "tool_call"
    return "output" if parts or any(choice.media or choice.server_tools for choice in choices) else "first_output"
