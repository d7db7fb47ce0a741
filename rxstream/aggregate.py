"""The fold from events to the answer as a whole.

Rules of this module:

* Pure: no clock, no I/O, no provider. `Aggregator.add` never fails on an event, `Aggregator.response` may be asked at any time.
* Within a choice, parts stand in the order of their numbers.
* `Retracted` is obeyed, and the text of an attempt that goes on where another was cut is joined to it.
* What needs pydantic, `Response`, is loaded by the first `Aggregator`: importing must stay cheap, and an answer can be asked
  for when the interpreter is going down and imports nothing any more.

`Aggregator` takes the events of one answer. `Answers` takes those of a combination, too, and tells its answers apart.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from functools import reduce
from typing import TYPE_CHECKING

from rxstream._fold import Fold
from rxstream.errors import ConfigurationError
from rxstream.events import Event, Finished
from rxstream.usage import Usage

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["Aggregator", "Answers", "aggregate"]


def aggregate(events: Iterable[Event]) -> Response:
    """The answer that `events` come to; partial if they do not reach their `Finished`.

    Raises:
        TypeError: one of `events` is not an event.
    """
    aggregator = Aggregator()
    for event in events:
        aggregator.add(event)
    return aggregator.response()


class Aggregator(Fold):
    """Folds events, one at a time, into a `Response`."""

    def __init__(self) -> None:
        from rxstream._assemble import assemble  # noqa: PLC0415 - see the rules above

        super().__init__()
        self._assemble = assemble

    def response(self) -> Response:
        """The answer so far."""
        return self._assemble(self)


class Answers:
    """Folds the events of a stream, or of several that were combined: an answer for each track that gives one.

    An attempt belongs to one track. As long as that holds, the tracks make one answer together, as in a race; a track
    whose attempt is another's already gives an answer of its own.
    """

    def __init__(self) -> None:
        self._all: list[_Answer] = []
        self._of: dict[str, _Answer] = {}
        self._last: _Answer = _Answer("")
        self._source: str | None = None  # of the event before
        self._attempt: int | None = None

    def add(self, event: Event) -> None:
        """Takes the next event.

        Raises:
            TypeError: it is not an event.
        """
        try:
            another = event.attempt != self._attempt or event.source != self._source
        except AttributeError:
            raise TypeError(f"not an event: {event!r}") from None
        if another:
            self._source, self._attempt = event.source, event.attempt
            self._last = self._find(event.source, event.attempt)
        if type(event) is Finished:
            self._last.label = event.source
        self._last.add(event)

    def _find(self, source: str, attempt: int) -> _Answer:
        answer = self._of.get(source)
        if answer is None:
            fits = [answer for answer in self._all[:1] if answer.owners.get(attempt, source) == source]
            answer = fits[0] if fits else _Answer(source)
            self._of[source] = answer
            if not fits:
                self._all.append(answer)
        answer.owners.setdefault(attempt, source)
        return answer

    @property
    def count(self) -> int:
        """How many answers there are so far."""
        return len(self._all)

    def response(self) -> Response:
        """The answer so far.

        Raises:
            ConfigurationError: there are several.
        """
        if len(self._all) > 1:
            labels = ", ".join(answer.label for answer in self._all)
            raise ConfigurationError(
                f"the stream holds the answers of several tracks ({labels}); take them apart with the operator "
                "responses(), or one of them with of_track(label)"
            )
        return (self._all or [self._last])[0].response()

    def responses(self) -> dict[str, Response]:
        """The answers so far, by the label of the track that gave, or gives, them."""
        return {answer.label: answer.response() for answer in self._all}

    def total_usage(self) -> Usage:
        """Of all tracks and all their attempts; final only if all is known."""
        return reduce(operator.add, (answer.total_usage() for answer in self._all), Usage())


class _Answer(Aggregator):
    """One of several answers."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label
        self.owners: dict[int, str] = {}
        """Whose each attempt is."""
