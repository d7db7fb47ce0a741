"""``responses``: the answers of a combination, one for each of its tracks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from reactivex import Observable, abc

from rxstream.aggregate import Answers
from rxstream.events import Event

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["responses"]


def responses() -> Callable[[Observable[Event]], Observable[dict[str, Response]]]:
    """At the end, the answers by the labels of the tracks that gave them; of tracks that failed, what had arrived.

    ::

        source:  --a("Hel")--b("Bon")--a("lo")--b("jour")--|
             responses()
        result:  ------------------------------------------({"a": …, "b": …})|

    Example:
        >>> import reactivex as rx
        >>> from rxstream.events import TextDelta
        >>> both = rx.of(TextDelta(source="a", text="Hello"), TextDelta(source="b", text="Bonjour"))
        >>> both.pipe(responses()).run()["b"].text
        'Bonjour'
    """

    def collected(source: Observable[Event]) -> Observable[dict[str, Response]]:
        def subscribe(
            observer: abc.ObserverBase[dict[str, Response]], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            answers = Answers()

            def on_completed() -> None:
                observer.on_next(answers.responses())
                observer.on_completed()

            return source.subscribe(answers.add, observer.on_error, on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return collected
