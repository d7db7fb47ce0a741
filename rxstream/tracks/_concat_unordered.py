"""``concat_unordered``: all tracks at once, delivered whole in the order in which they are ready."""

from __future__ import annotations

from collections.abc import Sequence

from reactivex import Observable, abc

from rxstream._check import count
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.tracks._crew import Crew, combined
from rxstream.tracks._floor import Floor

__all__ = ["concat_unordered"]


def concat_unordered(
    *tracks: Observable[Event], max_concurrency: int | None = None, ahead: int = 4096
) -> Stream[Event]:
    """The tracks run at the same time and are delivered one after the other, whole, in the order in which they end.

    ::

        a:       --a1-----------a2--|
        b:       -----b1--b2--|
                 concat_unordered(a, b)
        result:  -------------b1-b2-a1-a2-|

    A track gets its turn when it has ended or when `ahead` events of it wait, whichever comes first: then what waits goes
    out at once, the rest as it comes, and nothing of another track in between. So a track that is longer than `ahead` may
    come before one that ends sooner, and a long track is not held for ever by its own length. One that never ends keeps
    its turn (see `rxstream.Timeouts`). A track that fails gives, in its turn, what had arrived and the event `Failed`.

    Example:
        >>> import rxstream
        >>> from rxstream.events import TextDelta
        >>> from rxstream.tracks import concat_unordered
        >>> answers = [rxstream.from_iterable([name, "? ", name, "! "]) for name in ("Who", "What")]
        >>> said = [event.text for event in concat_unordered(*answers).of_type(TextDelta)]
        >>> sorted([said[:4], said[4:]])
        [['What', '? ', 'What', '! '], ['Who', '? ', 'Who', '! ']]

    Args:
        tracks: What to deliver.
        max_concurrency: How many may run at once: the next begins, in the order given, when one has ended. None for all.
        ahead: Events of a track that may wait for its turn; then it is held at its source until half of them are gone. All
            that can wait is this many for each track.

    Raises:
        ConfigurationError: there is no track, or an argument is not as described.

    As `asyncio.as_completed`, for streams.
    """
    count("ahead", ahead)

    def crew(observer: abc.ObserverBase[Event], scheduler: LoopScheduler, given: Sequence[Observable[Event]]) -> Crew:
        return Floor(observer, scheduler, given, ahead=ahead, in_order=False, most=max_concurrency).crew

    return combined(tracks, max_concurrency, crew)
