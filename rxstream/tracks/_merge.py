"""``merge``: several tracks at once, each event as it comes."""

from __future__ import annotations

from collections.abc import Sequence

from reactivex import Observable, abc

from rxstream._outlet import Outlet
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.tracks._crew import Crew, combined
from rxstream.tracks._lane import Lane

__all__ = ["merge"]


def merge(*tracks: Observable[Event], max_concurrency: int | None = None) -> Stream[Event]:
    """All tracks at once, each event as soon as it comes, under the label of its track.

    ::

        a:       --a1-----a2--|
        b:       -----b1-----------b2--|
                 merge(a, b)
        result:  --a1-b1--a2-------b2--|

    Nothing waits and nothing is kept. When the consumer is slower than all of them together, each is the first to be heard
    in its turn, and may then say all that the consumer takes; `interleave` shares it out. A track that fails gives the event
    `Failed`, and the others go on.

    Example:
        >>> import rxstream
        >>> from rxstream.operators import responses
        >>> from rxstream.tracks import merge
        >>> left = rxstream.from_iterable(["Hel", "lo"], label="left")
        >>> right = rxstream.from_iterable(["Bon", "jour"], label="right")
        >>> merge(left, right).pipe(responses()).run()["right"].text
        'Bonjour'

    Args:
        tracks: What to merge.
        max_concurrency: How many may run at once: the next begins, in the order given, when one has ended. None for all.

    Raises:
        ConfigurationError: there is no track, or an argument is not as described.

    As Rx's ``merge`` with ``max_concurrent``, and Reactor's ``mergeDelayError``, but for the failures.
    """

    def crew(observer: abc.ObserverBase[Event], scheduler: LoopScheduler, given: Sequence[Observable[Event]]) -> Crew:
        def on_event(_lane: Lane, event: Event) -> None:
            emit(event)

        def overflowed() -> None:
            made.halt()

        outlet = Outlet(observer, scheduler, overflowed=overflowed)
        emit = outlet.on_next
        made = Crew(given, scheduler, outlet, on_event=on_event, most=max_concurrency)
        return made

    return combined(tracks, max_concurrency, crew)
