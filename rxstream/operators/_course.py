"""What a stream's own events tell of how it went: who answered, what it used, what was tried again."""

from __future__ import annotations

from typing import Final, TypeAlias, get_args

from rxstream.events import Cancelled, Failed, Finished, Retracted, Retrying, Started, UsageReported
from rxstream.metrics import Retried
from rxstream.usage import Usage

__all__ = ["TELLING", "Course", "Telling"]

Telling: TypeAlias = Started | Finished | Failed | Cancelled | Retracted | Retrying | UsageReported
"""The events that say how it goes."""
TELLING: Final = frozenset(get_args(Telling))
_RETRIES_KEPT: Final = 100


class Course:
    """Of one stream, or of several in a combination."""

    __slots__ = ("_answering", "_used", "_using", "finished", "retracted", "retried", "retries", "started")

    def __init__(self) -> None:
        self.started: Started | None = None
        """The last that began."""
        self.finished: Finished | None = None
        """The last end."""
        self.retries = self.retracted = 0
        self.retried: list[Retried] = []
        """The first hundred of the retries."""
        self._using: dict[tuple[str, int], Usage] = {}
        """By source and attempt, of answers that have not finished: a report is of all that this attempt has used."""
        self._used: Usage | None = None
        """Of all that have."""
        self._answering: dict[str, int] = {}
        """Sources that have begun and not finished, and the attempt of each."""

    @property
    def whole(self) -> bool:
        """Whether all that began has ended properly."""
        return self.finished is not None and not self._answering

    @property
    def usage(self) -> Usage | None:
        """Of all attempts; None where nothing was reported."""
        return self._used if not self._using else sum(self._using.values(), self._used or Usage())

    def note(self, event: Telling, at: float) -> None:
        """An event of these kinds came at `at`. In one answer of several sources, who comes later has a higher attempt."""
        match event:
            case UsageReported():
                self._using[event.source, event.attempt] = event.usage
            case Started():
                self.started = event
                self._answering = {who: attempt for who, attempt in self._answering.items() if attempt >= event.attempt}
                self._answering[event.source] = event.attempt
            case Retracted():
                self.retracted += 1
            case Finished() | Failed() | Cancelled() | Retrying():
                self._answering.pop(event.source, None)
                self._ended(event, at)

    def _ended(self, event: Finished | Failed | Cancelled | Retrying, at: float) -> None:
        if isinstance(event, Finished):
            self.finished = event
            for key in [key for key in self._using if key[0] == event.source]:
                self._used = (self._used or Usage()) + self._using.pop(key)
        elif isinstance(event, Retrying):
            self.retries += 1
            if len(self.retried) < _RETRIES_KEPT:
                self.retried.append(Retried(at=at, error=event.error, delay=event.delay, how=event.how))
