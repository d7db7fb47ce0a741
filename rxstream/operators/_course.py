"""What a stream's own events tell of how it went: who answered, what it used, what was tried again."""

from __future__ import annotations

from collections import Counter
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

    __slots__ = ("_answering", "_answers_of", "_usages", "finished", "retracted", "retried", "retries", "started")

    def __init__(self) -> None:
        self.started: Started | None = None
        """The last that began."""
        self.finished: Finished | None = None
        """The last end."""
        self.retries = self.retracted = 0
        self.retried: list[Retried] = []
        """The first hundred of the retries."""
        self._usages: dict[tuple[str, int, int], Usage] = {}
        """By source, attempt, and how often the source had finished."""
        self._answers_of: Counter[str] = Counter()
        """How often a source has finished."""
        self._answering: dict[str, int] = {}
        """Sources that have begun and not finished, and the attempt of each."""

    @property
    def whole(self) -> bool:
        """Whether all that began has ended properly."""
        return self.finished is not None and not self._answering

    @property
    def usage(self) -> Usage | None:
        """Of all attempts; None where nothing was reported."""
        return sum(self._usages.values(), Usage()) if self._usages else None

    def note(self, event: Telling, at: float) -> None:
        """An event of these kinds came at `at`. In one answer of several sources, who comes later has a higher attempt."""
        match event:
            case UsageReported():
                self._usages[event.source, event.attempt, self._answers_of[event.source]] = event.usage
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
            self._answers_of[event.source] += 1
        elif isinstance(event, Retrying):
            self.retries += 1
            if len(self.retried) < _RETRIES_KEPT:
                self.retried.append(Retried(at=at, error=event.error, delay=event.delay, how=event.how))
