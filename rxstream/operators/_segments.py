"""``segments``: events whose texts are whole words, sentences, paragraphs …"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxstream._check import count, one_of
from rxstream.events import (
    Cancelled,
    Event,
    Failed,
    Finished,
    Heartbeat,
    Logprobs,
    Raw,
    Retracted,
    Seam,
    Status,
    TextDelta,
    UsageReported,
)
from rxstream.loop import LoopScheduler
from rxstream.operators._spread import Spread
from rxstream.segment import Splitter, TextUnit

__all__ = ["segments"]

_UNITS: Final = ("character", "word", "sentence", "line", "paragraph", "code_fence")
_PASSING: Final = frozenset((Heartbeat, Status, UsageReported, Logprobs, Raw))
"""They may come in the middle of a sentence, and say nothing of where it ends."""
_ENDS: Final = frozenset((Finished, Failed, Cancelled))


def segments(by: TextUnit = "sentence", *, limit: int = 65_536) -> Callable[[Observable[Event]], Observable[Event]]:
    """Cut the text anew: each `TextDelta` is a word, a sentence, a paragraph …; joined, the text is the same.

    ::

        source:  --("Hi. I ")--("am")--(" Joe. B")------("ye")--Finished-----|
             segments("sentence")
        result:  --("Hi. ")------------("I am Joe. ")---------("Bye")Finished|

    A segment is emitted as soon as what has come says where it ends, and carries the fields of the event that it begins in;
    ``raw`` only where it is that very event. Texts are kept apart by source, attempt, choice and part.

    All other events pass, in order: one that ends a text, or stands between two (a tool call, thinking, the end of a part,
    `Finished` …), comes after what is held of its own source and attempt. A heartbeat, a status, usage, log probabilities and
    what we do not know (`Raw`) pass at once. Of text that is retracted nothing is emitted any more.

    When the source fails, what is held is emitted before the error.

    Example:
        >>> import rxstream
        >>> from rxstream import operators as rxo
        >>> answer = rxstream.from_iterable(["Hi. I ", "am", " Joe. B", "ye"])
        >>> list(answer.pipe(segments("sentence"), rxo.text()))
        ['Hi. ', 'I am Joe. ', 'Bye']

    Args:
        by: What a segment is, with the white space after it: ``character``, ``word``, ``sentence``, ``line``, ``paragraph``, or
            ``code_fence`` (a block of code, and between them paragraphs); see `rxstream.segment.TextUnit`.
        limit: Characters of one text that are held; a longer segment comes in parts.

    Raises:
        ConfigurationError: an option is out of its range.
    """
    one_of("by", by, _UNITS)
    count("limit", limit)

    def segmented(source: Observable[Event]) -> Observable[Event]:
        def subscribe(
            observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Segmenter(by, limit, observer, LoopScheduler.of(scheduler)).start(source)

        return Observable(subscribe)

    return segmented


class _Segmenter:
    """One subscription: what is held of each text."""

    def __init__(self, by: TextUnit, limit: int, observer: abc.ObserverBase[Event], scheduler: LoopScheduler) -> None:
        self._by: TextUnit = by
        self._limit = limit
        self._attempts: dict[tuple[str, int], dict[int, _Text]] = {}
        self._upstream = SingleAssignmentDisposable()
        self._outlet: Spread[Event] = Spread(observer, scheduler, "segments", overflowed=self._upstream.dispose)

    def start(self, source: Observable[Event]) -> abc.DisposableBase:
        self._upstream.disposable = source.subscribe(
            self._next, self._fail, self._complete, scheduler=self._outlet.above
        )
        return CompositeDisposable(self._upstream, Disposable(self._outlet.dispose))

    def _next(self, event: Event) -> None:
        if type(event) is TextDelta:
            found = self._cut(event)
            if found:
                self._outlet.give(found)
        elif type(event) in _PASSING:
            self._outlet.give((event,))
        else:
            self._outlet.give([*self._before(event), event])

    def _cut(self, event: TextDelta) -> list[Event]:
        key = (event.source, event.attempt)
        choices = self._attempts.get(key)
        if choices is None:
            choices = self._attempts[key] = {}
        text = choices.get(event.choice)
        if text is None:
            text = choices[event.choice] = _Text(Splitter(self._by, limit=self._limit))
        if text.part == event.part:
            return text.cut(event)
        found = text.rest()
        text.part = event.part
        return found + text.cut(event)

    def _before(self, event: Event) -> list[Event]:
        """What is held and comes before `event`."""
        if isinstance(event, Seam):  # the text of another attempt goes on
            return self._rest([key for key in self._attempts if key[0] == event.source])
        key = (event.source, event.attempt)
        if key not in self._attempts:
            return []
        if isinstance(event, Retracted):
            texts = self._attempts[key].items()
            return [kept for choice, text in texts for kept in text.retract(0 if choice else event.to_offset)]
        found = self._rest([key])
        if type(event) in _ENDS:
            del self._attempts[key]
        return found

    def _rest(self, keys: list[tuple[str, int]]) -> list[Event]:
        return [event for key in keys for text in self._attempts[key].values() for event in text.rest()]

    def _fail(self, error: Exception) -> None:
        self._outlet.give(self._rest([*self._attempts]))
        self._outlet.on_error(error)

    def _complete(self) -> None:
        self._outlet.give(self._rest([*self._attempts]))
        self._outlet.on_completed()


class _Text:
    """What is held of one choice's text in one attempt: it is all of one part."""

    __slots__ = ("_at", "_cut", "_deltas", "_end", "_starts", "part")

    def __init__(self, splitter: Splitter) -> None:
        self.part = 0
        self._cut = splitter
        self._deltas: list[TextDelta] = []  # of which something is held
        self._starts: list[int] = []  # where each begins in the text
        self._at = 0  # where what is held begins
        self._end = 0  # … and ends

    def cut(self, event: TextDelta) -> list[Event]:
        """The segments that `event` completes."""
        if event.text:
            self._deltas.append(event)
            self._starts.append(self._end)
            self._end += len(event.text)
        pieces = self._cut.feed(event.text)
        return self._made(pieces) if pieces else []

    def rest(self) -> list[Event]:
        """What is held, as the last segment of its part."""
        return self._made(self._cut.close())

    def retract(self, to_offset: int) -> list[Event]:
        """What is held of the first characters of the attempt; the rest is forgotten."""
        self._end = max(self._at, min(self._end, to_offset))
        kept = "".join(self._cut.close())[: self._end - self._at]
        return self._made([kept] if kept else [])

    def _made(self, pieces: list[str]) -> list[Event]:
        found: list[Event] = []
        for piece in pieces:
            first = self._deltas[bisect_right(self._starts, self._at) - 1]
            found.append(first if first.text == piece else replace(first, text=piece, raw=None))
            self._at += len(piece)
        if self._at == self._end:
            self._deltas.clear()
            self._starts.clear()
        else:
            gone = bisect_right(self._starts, self._at) - 1
            del self._deltas[:gone], self._starts[:gone]
        return found
