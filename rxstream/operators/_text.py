"""``text``: the answer's text out of the events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from reactivex import Observable, abc

from rxstream.events import Event, TextDelta
from rxstream.segment import Splitter

__all__ = ["text"]


def text(
    by: Literal["delta", "character", "word"] = "delta", *, choice: int = 0
) -> Callable[[Observable[Event]], Observable[str]]:
    """The text of the answer: joined, the items are the answer's text, whatever `by` is.

    ::

        source:  --TextDelta("Hel")--TextDelta("lo wor")--TextDelta("ld")--Finished--|
             text(by="word")
        result:  --------------------("Hello ")----------------------------("world")-|

    A character or a word is emitted when the next one has begun, or at the end: only then is it known to be whole. What
    is held back when the stream fails is emitted before the error.

    Example:
        >>> import reactivex as rx
        >>> from reactivex import operators as ops
        >>> from rxstream.events import TextDelta
        >>> deltas = rx.of(TextDelta(text="Hel"), TextDelta(text="lo wor"), TextDelta(text="ld"))
        >>> deltas.pipe(text(by="word"), ops.to_list()).run()
        ['Hello ', 'world']

    Args:
        by: ``delta``: as the provider sends it, about a token; ``character``: as a reader counts them (never half an emoji);
            ``word``: a word with the white space after it.
        choice: Which answer, where several were asked for.
    """

    def texts(source: Observable[Event]) -> Observable[str]:
        def subscribe(
            observer: abc.ObserverBase[str], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            splitter = None if by == "delta" else Splitter(by)

            def on_next(event: Event) -> None:
                if not isinstance(event, TextDelta) or event.choice != choice:
                    return
                if splitter is None:
                    observer.on_next(event.text)
                    return
                for piece in splitter.feed(event.text):
                    observer.on_next(piece)

            def rest() -> None:
                for piece in splitter.close() if splitter is not None else ():
                    observer.on_next(piece)

            def on_error(error: Exception) -> None:
                rest()
                observer.on_error(error)

            def on_completed() -> None:
                rest()
                observer.on_completed()

            return source.subscribe(on_next, on_error, on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return texts
