"""``failover``: the next track when one fails."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxstream._asking import Continuation, Conversation, asking_of, go_on
from rxstream._check import function, one_of
from rxstream.aggregate import Aggregator
from rxstream.errors import (
    BudgetExceeded,
    Cancelled,
    ConfigurationError,
    ContentFiltered,
    LimitExceeded,
    StreamError,
    StreamIncomplete,
)
from rxstream.events import Event, Finished, FinishReason, Seam, is_content
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.tracks._answer import Contest, answer_of
from rxstream.tracks._lane import Lane, checked

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["failover"]

_BAD_ENDS: Final[dict[str, type[StreamError]]] = {
    "length": LimitExceeded,
    "content_filter": ContentFiltered,
    "refusal": ContentFiltered,
    "pause": StreamIncomplete,
    "error": StreamIncomplete,
    "other": StreamIncomplete,
}
"""What a track has failed of that finished for such a reason, where that is to be a failure."""


def failover(
    *tracks: Observable[Event],
    after_output: Literal["fail", "restart", "continue_"] = "fail",
    when: Callable[[Exception], bool] | None = None,
    on_finish: Collection[FinishReason] = (),
) -> Stream[Event]:
    """Ask the first track; when it fails, the next one.

    ::

        a:       --Started--✗
        b:                  --Started--b("Hel")--b("lo")--Finished--|
             failover(a, b)
        result:  -----------Failed--Started,b("Hel")--b("lo")--Finished--|

    Before its first content nothing of a track is delivered: one that fails by then leaves an event `Failed`, what it had
    used, and nothing else (so does one that gives 65 536 events and no content). After it, text is on the screen, and
    `after_output` says what becomes of it:

    * ``fail``: the stream ends with the track's error, whose ``partial`` holds what arrived.
    * ``restart``: the next track answers anew; with its first content what was said before is `Retracted`. One that ends
      without a word takes nothing back: then it has failed, too.
    * ``continue_``: the model of the next track is asked to go on after the text so far, and a `Seam` marks the place. Only
      plain text can be gone on with: not once a tool was called, or reasoning, a refusal or media was given; and only by a
      track that is a model's own stream, or one with guards, clocks, limits or ``retry_stream``. Else it ends as with
      ``fail``; a note on the error says why.

    A track that ends properly has answered, even if it has said nothing; but `on_finish` names reasons for which it has failed
    all the same, all tracks but the last: ``length`` is then a `LimitExceeded`, ``content_filter`` and ``refusal`` a
    `ContentFiltered`, another a `StreamIncomplete`.

    No other is asked once the track has said that its answer is complete, whatever becomes of its connection.

    ``catch`` of Rx does the same with any Observables, but knows nothing of attempts: text would come twice.

    Example:
        >>> import reactivex as rx
        >>> import rxstream
        >>> from rxstream import tracks
        >>> busy = rx.throw(rxstream.errors.Overloaded("try again later"))
        >>> tracks.failover(busy, rxstream.from_iterable(["Hel", "lo"])).run().text
        'Hello'

    Args:
        tracks: One at least, in the order in which they are asked.
        after_output: What becomes of text that was delivered, when its track fails.
        when: For which errors the next one is asked. By default for every `StreamError` but one that says that nobody
            shall be asked any more (`Cancelled`, `BudgetExceeded`).
        on_finish: Reasons of `Finished` that are failures: of ``length``, ``content_filter``, ``refusal``, ``pause``,
            ``error`` and ``other``.

    Returns:
        One answer. Fails with `TracksFailed` if all tracks failed, the last of them before its first content; with a track's
        own error if that came after it and no other track is to be asked, or is not one to go on after. Either way ``partial``
        holds the text that stands.

    Raises:
        ConfigurationError: there is no track, one is no Observable, `after_output` or one of `on_finish` is another word, or
            `when` is no function.
    """
    asked = checked(tracks)
    one_of("after_output", after_output, ("fail", "restart", "continue_"))
    if isinstance(on_finish, str) or not isinstance(on_finish, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"on_finish={on_finish!r}: must be a list of reasons, of {', '.join(_BAD_ENDS)}")
    for reason in on_finish:
        one_of("on_finish", reason, _BAD_ENDS)
    options = _Options(after_output, _is_the_tracks if when is None else when, frozenset[str](on_finish))
    function("when", options.when)
    return answer_of(asked, lambda observer, scheduler: _Failover(asked, observer, scheduler, options))


def _is_the_tracks(error: Exception) -> bool:
    """Whether it is a failure of the track, so that another may do better."""
    return isinstance(error, StreamError) and not isinstance(error, (Cancelled, BudgetExceeded))


@dataclass(frozen=True)
class _Options:
    after_output: str
    when: Callable[[Exception], bool]
    on_finish: frozenset[str]


class _Further(NamedTuple):
    """What the next track is asked in the place of its own request."""

    request: Continuation
    offset: int
    conversation: Conversation


class _Failover(Contest):
    def __init__(
        self,
        tracks: Sequence[Observable[Event]],
        observer: abc.ObserverBase[Event],
        scheduler: LoopScheduler,
        options: _Options,
    ) -> None:
        self._options = options
        self._tracks = tracks
        self._goes_on = options.after_output == "continue_"
        self._further: _Further | None = None
        self._whole = False
        """Whether it was told that the answer is complete."""
        self._said = Aggregator() if self._goes_on or options.on_finish else None
        """What is delivered, where the errors of the tracks do not tell."""
        super().__init__(
            [self._or_further(track) for track in tracks] if self._goes_on else tracks, observer, scheduler
        )

    def begin(self) -> None:
        self.open(self.lanes[0])

    def left(self) -> bool:
        return any(lane.status == "active" for lane in self.lanes)

    # --- what a track says ------------------------------------------------------------------------------------------------

    def heard(self, lane: Lane, event: Event) -> None:
        if not self._ends_badly(lane, event):
            super().heard(lane, event)

    def emit(self, lane: Lane, event: Event) -> None:
        if not self._ends_badly(lane, event):
            self._whole = self._whole or type(event) is Finished
            event = self._attempts.stamp(lane, event)
            if self._said is not None:
                self._said.add(event)
            self._outlet.on_next(event)

    def emit_all(self, events: Iterable[Event]) -> None:
        events = list(events)
        self._note(events)
        super().emit_all(events)

    def choose(self, lane: Lane, reason: str, *said: Event) -> None:
        if self.shown is not None and not self._goes_on:
            retracted = self._attempts.retract(self.shown)
            self._note(retracted)
            self._outlet.items.extend(retracted)
        self.shown = None
        super().choose(lane, reason, *said)

    def _note(self, events: Iterable[Event]) -> None:
        if self._said is not None:
            for event in events:
                self._said.add(event)

    def _ends_badly(self, lane: Lane, event: Event) -> bool:
        """Whether this is an end that is a failure; then the track has failed."""
        if type(event) is not Finished or event.reason not in self._options.on_finish or lane is self.lanes[-1]:
            return False
        error = _BAD_ENDS[event.reason](f"the answer is not whole: it ended with {event.reason}", code=event.raw_reason)
        error.phase = "finish"
        lane.fail(error)
        return True

    # --- what becomes of it -------------------------------------------------------------------------------------------------

    def completed(self, lane: Lane) -> None:
        if lane is not self.chosen and self.shown is not None and not self._goes_on:
            lane.fail(StreamIncomplete("it ended without a word, in place of which the text of another track stands"))
        else:
            super().completed(lane)

    def failed(self, lane: Lane, error: Exception, /) -> None:
        is_chosen = lane is self.chosen
        following = next(iter(self.lanes[lane.index + 1 :]), None)
        if is_chosen and (following is None or self._whole or self._options.after_output == "fail"):
            self.finish(error)
            return
        try:
            goes_on = self._options.when(error)
            refused = self._refusal(following) if goes_on and (is_chosen or self.shown is not None) else ""
        except Exception as raised:  # noqa: BLE001 - the user's own
            self.finish(raised)
            return
        if refused:
            error.add_note(f"It was not continued: {refused}.")
        if not goes_on or (is_chosen and refused):
            self.finish(error)
            return
        if is_chosen:
            self.chosen, self.shown = None, lane
        self.give_up(lane)
        if following is not None and not refused:
            self.open(following)
        self.decide()

    def partial(self, error: StreamError) -> Response | None:
        if self._said is None:
            return super().partial(error)
        partial = self._said.response()
        error.provider, error.model = error.provider or partial.provider, error.model or partial.model
        return partial.model_copy(update={"attempts": self._attempts.count})

    def close_lanes(self) -> None:
        super().close_lanes()
        further, self._further = self._further, None
        if further is not None:
            further.conversation.close()

    # --- going on -----------------------------------------------------------------------------------------------------------

    def _refusal(self, following: Lane | None) -> str:
        """Prepare to ask the model of `following` to go on, if that is to be done; why not, if it cannot."""
        if not self._goes_on or following is None or self._said is None:
            return ""
        said = self._said.response()
        asking = asking_of(self._tracks[following.index])
        if asking is None:
            return f"it is not known how to ask the model of {following.label} to go on"
        conversation = asking.conversation(resumable=False)
        request = go_on(conversation, said)
        if isinstance(request, str):
            conversation.close()
            return request
        self._further = _Further(request, len(said.text), conversation)
        return ""

    def _or_further(self, track: Observable[Event]) -> Stream[Event]:
        """`track`; but if it is to go on when it is asked, that."""

        def subscribe(
            observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            further, self._further = self._further, None
            if further is None:
                return track.subscribe(observer, scheduler=scheduler)
            events = _joined(further.request, further.offset).subscribe(observer, scheduler=scheduler)
            return CompositeDisposable(events, Disposable(further.conversation.close))

        either: Stream[Event] = Stream(subscribe)
        either.label = track.label if isinstance(track, Stream) else ""
        return either


def _joined(request: Continuation, offset: int) -> Observable[Event]:
    """The events of `request`, each attempt with a `Seam` before its first content, or before an end without any."""

    def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        shifts: dict[int, int] = {}  # of the events of each attempt that has its seam

        def on_next(event: Event) -> None:
            attempt = event.attempt
            if type(event) is Seam:  # of a track that asks again itself: its own text is not all
                event = msgspec.structs.replace(event, offset=offset + event.offset)
                shifts.setdefault(attempt, 0)
            elif attempt not in shifts and (is_content(event) or type(event) is Finished):
                shifts[attempt] = 1
                where = {"source": event.source, "attempt": attempt, "seq": event.seq, "at": event.at}
                observer.on_next(msgspec.structs.replace(Seam(kind=request.kind, offset=offset), **where))
            shift = shifts.get(attempt)
            observer.on_next(msgspec.structs.replace(event, seq=event.seq + shift) if shift else event)

        return request.events.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

    return Observable(subscribe)
