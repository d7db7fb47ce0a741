"""What `retry_stream` knows of an attempt, and of all that it has delivered.

Rules of this module:

* An attempt is a request and those that resume it; one of several tracks has several numbers of its own.
* Numbers go on from attempt to attempt. Within each number, what is said between its events moves their `seq`, so that it has
  no gaps.
* What was handed to the observer, no more and no less, is an error's partial answer.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from reactivex import abc

from rxstream._outlet import Outlet
from rxstream.aggregate import Answers
from rxstream.errors import ConfigurationError, StreamError
from rxstream.events import CONTENT_EVENTS, Event, EventBase, Finished, Phase, Retracted, Seam, UsageReported
from rxstream.loop import LoopScheduler
from rxstream.usage import Usage, cut_short

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["Attempt", "Delivery"]

E = TypeVar("E", bound=EventBase)
_CONTENT: Final = frozenset(CONTENT_EVENTS)
_stamp = msgspec.structs.replace


class Attempt:
    """One attempt: what it is called, what is kept back of it, and what it has used.

    Args:
        number: Its number.
        source: The label of its events, as long as none has come.
        scheduler: Whose clock its words are stamped with.
    """

    def __init__(self, number: int, source: str, scheduler: LoopScheduler) -> None:
        self.number = number
        """Of its last event."""
        self.committed = False
        """Whether it has given content that was delivered."""
        self.finished = False
        """Whether the model has said that it is done."""
        self.kept: list[Event] = []
        self._base = number - 1
        self._sources = {number: source}
        self._loop = scheduler.loop
        self._inner = 1  # attempt and source of the event before, as they came
        self._source = source
        self._last = -1  # the number of that event, in its request
        self._before = 0  # events of the requests that this one resumes
        self._words = 0  # what was said between the events
        self._others: dict[int, tuple[int, int]] = {}  # the last event, and the words, of its other numbers
        self._moved = number != 1
        self._said = 0
        self._saids: dict[int, int] = {}
        self._usages: dict[int, Usage] = {}

    @property
    def last(self) -> int:
        """The highest number that it has."""
        return max(self._sources)

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        if self.committed:
            return "finish" if self.finished else "output"
        return "first_output" if self._heard else "connect"

    def hear(self, event: Event) -> Event:
        """`event` has come; as it is to be delivered, if it is now.

        Raises:
            AttributeError: it is not an event.
        """
        if event.attempt != self._inner or event.source != self._source:
            self._turn(event)
        self._last = event.seq
        kind = type(event)
        if kind in _CONTENT:
            self._said += 1
        elif isinstance(event, UsageReported):
            self._usages[self.number] = event.usage
        elif kind is Finished:
            self.finished = True
        return self.stamp(event) if self._moved else event

    def stamp(self, event: Event) -> Event:
        """`event`, which is delivered now, with its numbers in the whole."""
        return _stamp(event, attempt=self._base + event.attempt, seq=event.seq + self._before + self._words)

    def keep(self, event: Event) -> None:
        """Keep `event` back, numbered as one of the attempt and not only of its request."""
        self.kept.append(_stamp(event, seq=event.seq + self._before) if self._before else event)

    def release(self) -> list[Event]:
        """What was kept back, to be delivered now: from here on events are delivered as they come."""
        kept, self.kept = self.kept, []
        self.committed = True
        if not self._moved:
            return kept
        words = {number: self._of(number)[1] for number in self._sources}
        numbers = [self._base + event.attempt for event in kept]
        return [
            _stamp(event, attempt=number, seq=event.seq + words[number])
            for number, event in zip(numbers, kept, strict=True)
        ]

    def word(self, event: E, *, number: int | None = None) -> E:
        """`event` as the next that is said of this attempt."""
        number = self.number if number is None else number
        last, words = self._of(number)
        heard = self._before + last + 1 if self.committed else 0
        return self._say(event, heard + words, number)

    def seam(self, seam: Seam, event: Event) -> list[Event]:
        """`seam` and, after it, `event`, which has come just now."""
        word = self._say(seam, event.seq + self._before + self._words, self.number)
        return [word, self.stamp(event)]

    def retract(self) -> list[Event]:
        """The events that take back all that this attempt has said."""
        return [self.word(Retracted(), number=number) for number in self._sources]

    def bill(self) -> list[Event]:
        """What it used, which was cut short: nothing where nothing is known."""
        self._count()
        told: list[Event] = []
        for number in sorted({*self._usages, *self._saids}):
            usage, said = self._usages.get(number), self._saids.get(number, 0)
            if usage is None or number == self.number:
                usage = cut_short(usage, said)
            told.append(self.word(UsageReported(usage=usage), number=number))
        return told

    def resumed(self) -> None:
        """Another request goes on where this one was cut, which was said; its events are numbered from 0."""
        self._before, self._last = self._heard, -1

    @property
    def _heard(self) -> int:
        """Events so far, as they were numbered."""
        return self._before + self._last + 1

    def _of(self, number: int) -> tuple[int, int]:
        """The last event, and how many words, of one of its numbers."""
        return (self._last, self._words) if number == self.number else self._others.get(number, (-1, 0))

    def _say(self, event: E, seq: int, number: int) -> E:
        if number == self.number:
            self._words += 1
        else:
            last, words = self._of(number)
            self._others[number] = last, words + 1
        self._moved = True
        return _stamp(event, source=self._sources[number], attempt=number, seq=seq, at=self._loop.time())

    def _turn(self, event: Event) -> None:
        """`event` is of another source or attempt than the one before."""
        self._count()
        self._inner, self._source = event.attempt, event.source
        number = self._base + event.attempt
        if number != self.number:
            self._others[self.number] = self._last, self._words
            self._last, self._words = self._others.pop(number, (-1, 0))
            self.number = number
        self._sources[self.number] = event.source

    def _count(self) -> None:
        if self._said:
            self._saids[self.number] = self._saids.get(self.number, 0) + self._said
            self._said = 0


class Delivery(abc.ObserverBase[Event]):
    """Between the outlet and the observer: knows what was delivered, and gives it to the error that ends the stream."""

    def __init__(
        self, observer: abc.ObserverBase[Event], scheduler: LoopScheduler, *, overflowed: Callable[[], object]
    ) -> None:
        self.outlet: Outlet[Event] = Outlet(self, scheduler, overflowed=overflowed)
        self.attempts = 1
        """How many there are."""
        self.bare: Exception | None = None
        """The error that shall hold no partial answer, for its source keeps none."""
        self._observer = observer
        self._emit = observer.on_next
        self._answers = Answers()
        self._fold = self._answers.add

    def on_next(self, value: Event) -> None:
        """Deliver it."""
        self._fold(value)
        self._emit(value)

    def on_error(self, error: Exception) -> None:
        """Deliver the error, with what stands."""
        if isinstance(error, StreamError) and error is not self.bare:
            error.partial = self._response(self._answers)
        self._observer.on_error(error)

    def on_completed(self) -> None:
        """Deliver the end."""
        self._observer.on_completed()

    def answer(self) -> Response | None:
        """What is delivered already or waits to be: the one answer so far; None if there are several."""
        answers = self._answers
        if self.outlet.pending():
            answers = deepcopy(answers)
            for event in self.outlet.items:
                answers.add(event)
        return self._response(answers)

    def _response(self, answers: Answers) -> Response | None:
        try:
            response = answers.response()
        except ConfigurationError:  # several answers: none of them is that of the stream
            return None
        return response.model_copy(update={"attempts": max(self.attempts, response.attempts)})
