"""``text``: the answer's text out of the events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxstream._check import count, one_of
from rxstream._pieces import Pieces
from rxstream.events import Event, TextDelta
from rxstream.loop import LoopScheduler
from rxstream.operators._spread import Spread
from rxstream.segment import TextUnit

__all__ = ["text"]

_UNITS: Final = ("delta", "character", "word", "sentence", "line", "paragraph", "code_fence")


def text(
    by: Literal["delta"] | TextUnit = "delta", *, choice: int = 0
) -> Callable[[Observable[Event]], Observable[str]]:
    """The text of the answer: joined, the items are the answer's text, whatever `by` is.

    ::

        source:  --TextDelta("Hel")--TextDelta("lo wor")--TextDelta("ld")--Finished--|
             text(by="word")
        result:  --------------------("Hello ")----------------------------("world")-|

    An item is emitted as soon as what has come says where it ends; what is held back when the answer is finished, or the
    stream fails, is emitted then. What belongs together may come in several parts of the answer, and in two attempts, where
    the second goes on with the first. Of a combination each track has its text cut for itself. What is retracted before
    it was emitted never is. Of an item of more than 65,536 characters it emits parts.

    `segments` does the same and leaves events what they are.

    Example:
        >>> import rxstream
        >>> list(rxstream.from_iterable(["Hel", "lo wor", "ld"]).pipe(text(by="word")))
        ['Hello ', 'world']

    Args:
        by: ``delta``: as the provider sends it, about a token; or a unit, with the white space after it: ``character``, as a
            reader counts them (never half an emoji), ``word``, ``sentence``, ``line``, ``paragraph``, ``code_fence`` (a block
            of code, and between them paragraphs); see `rxstream.segment.TextUnit`.
        choice: Which answer, where several were asked for.

    Raises:
        ConfigurationError: `by` is none of these, or `choice` no whole number of at least 0.
    """
    one_of("by", by, _UNITS)
    count("choice", choice, least=0)

    def texts(source: Observable[Event]) -> Observable[str]:
        def subscribe(
            observer: abc.ObserverBase[str], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            if by != "delta":
                return _Cutting(by, choice, observer, LoopScheduler.of(scheduler)).start(source)

            def on_next(event: Event) -> None:
                if isinstance(event, TextDelta) and event.choice == choice:
                    observer.on_next(event.text)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return texts


class _Cutting:
    """One subscription."""

    def __init__(self, by: TextUnit, choice: int, observer: abc.ObserverBase[str], scheduler: LoopScheduler) -> None:
        self._pieces = Pieces(by, choice)
        self._upstream = SingleAssignmentDisposable()
        self._outlet: Spread[str] = Spread(observer, scheduler, "text", overflowed=self._upstream.dispose)

    def start(self, source: Observable[Event]) -> abc.DisposableBase:
        self._upstream.disposable = source.subscribe(
            self._next, self._fail, self._complete, scheduler=self._outlet.above
        )
        return CompositeDisposable(self._upstream, Disposable(self._outlet.dispose))

    def _next(self, event: Event) -> None:
        self._outlet.give(self._pieces.feed(event))

    def _fail(self, error: Exception) -> None:
        self._outlet.give(self._pieces.close())
        self._outlet.on_error(error)

    def _complete(self) -> None:
        self._outlet.give(self._pieces.close())
        self._outlet.on_completed()
