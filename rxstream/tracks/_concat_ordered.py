"""``concat_ordered``: all tracks at once, delivered whole in the order given."""

from __future__ import annotations

from collections.abc import Sequence

from reactivex import Observable, abc

from rxstream._check import count
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.tracks._crew import Crew, combined
from rxstream.tracks._floor import Floor

__all__ = ["concat_ordered"]


def concat_ordered(*tracks: Observable[Event], max_concurrency: int | None = None, ahead: int = 4096) -> Stream[Event]:
    """The tracks run at the same time and are delivered one after the other, whole, in the order given.

    ::

        a:       --a1-----a2--|
        b:       -----b1-----------b2--|
                 concat_ordered(a, b)
        result:  --a1-----a2--b1---b2--|

    The first flows as it comes. The others are read ahead; when a track's turn comes, what waits of it goes out at once,
    and the rest as it comes. So the last answer is complete when the slowest is, not after the sum of their times. A track
    that fails gives, in its turn, what had arrived and the event `Failed`.

    Example:
        >>> import rxstream
        >>> from rxstream.events import TextDelta
        >>> from rxstream.tracks import concat_ordered
        >>> chapters = [rxstream.from_iterable([f"Chapter {number}:", "…"]) for number in (1, 2)]
        >>> print(*(event.text for event in concat_ordered(*chapters).of_type(TextDelta)))
        Chapter 1: … Chapter 2: …

    Args:
        tracks: What to deliver, in this order.
        max_concurrency: How many may run at once: the next begins when one has ended. None for all; 1 is Rx's ``concat``.
        ahead: Events of a track that may wait for its turn; then it is held at its source until half of them are gone. All
            that can wait is this many for each track.

    Raises:
        ConfigurationError: there is no track, or an argument is not as described.

    As ``concatEager`` of RxJava and ``flatMapSequential`` of Reactor.
    """
    count("ahead", ahead)

    def crew(observer: abc.ObserverBase[Event], scheduler: LoopScheduler, given: Sequence[Observable[Event]]) -> Crew:
        return Floor(observer, scheduler, given, ahead=ahead, in_order=True, most=max_concurrency).crew

    return combined(tracks, max_concurrency, crew)
