"""``prioritize``: several tracks at once, and the higher ones hold the lower ones back at their sources."""

from __future__ import annotations

from collections.abc import Sequence

from reactivex import Observable, abc

from rxstream._check import flag, positive
from rxstream._outlet import Outlet
from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.tracks._crew import Crew, combined, weighed
from rxstream.tracks._lane import Lane
from rxstream.tracks._ranks import Ranks

__all__ = ["prioritize"]


def prioritize(
    *tracks: Observable[Event],
    weights: Sequence[float] | None = None,
    strict: bool = False,
    idle: float = 1.0,
    max_wait: float = 10.0,
    max_concurrency: int | None = None,
) -> Stream[Event]:
    """All tracks at once; while a higher one has something to say, the lower ones are held at their sockets.

    ::

        high:    --------h1-h2-h3-h4-|
        low:     --l1-l2-l3-l4-l5-l6-l7-l8-|
                 prioritize(high, low, strict=True)
        result:  --l1-l2-h1-h2-h3-h4-l3-l4-l5-l6-l7-l8-|

    A track leads from its first content on, unless a higher one does, until it ends or has had no content for `idle`
    seconds: waiting for a model's first word, or for a tool, is no reason to hold others. What is below it in the order
    given is slowed at its source: its gate is held, so that nothing more is read of it once the buffers on the way are
    full, and a local model stops.

    * Normally a lower track gets events in the proportion of the weights: of n with content of the one that leads, at most
      (n + 1) · its weight / the leader's, and one. What it does not use is not saved up.
    * `strict`: it gets none. One that begins below the leader shows itself with its first event.

    Nobody starves: after `max_wait` seconds a track that is held is let go for one event. When the leader leaves, the next
    one that it held leads, and has `idle` seconds to say something; those are not counted while the result is paused.
    Nothing waits here and nothing is dropped. A track whose source does not obey its gate is not slowed.

    A track that fails gives the event `Failed`, and the others go on.

    Example:
        >>> import rxstream
        >>> from rxstream.operators import responses
        >>> from rxstream.tracks import prioritize
        >>> answer = rxstream.from_iterable(["Hel", "lo"], label="answer")
        >>> notes = rxstream.from_iterable(["Note", "d"], label="notes")
        >>> prioritize(answer, notes, strict=True).pipe(responses()).run()["notes"].text
        'Noted'

    Args:
        tracks: The highest first.
        weights: Relative rates of the tracks, any numbers above 0; if not given, each has half the rate of the one above.
        strict: Lower tracks wait entirely.
        idle: Seconds without content after which a track leads no more.
        max_wait: Seconds after which a track that is held is let go for one event.
        max_concurrency: How many may run at once: the next begins, in the order given, when one has ended. None for all.

    Raises:
        ConfigurationError: there is no track, or an argument is not as described.

    As ``MergePrioritized`` and ``MergePreferred`` of Akka Streams, which choose among what has come; this one also holds
    back what is still to come.
    """
    if strict and weights is not None:
        raise ConfigurationError("give strict= or weights=, not both: a strict order knows no shares")
    shares = weighed(tracks, weights, lambda number: 0.5**number)
    positive("idle", idle)
    flag("strict", strict)
    positive("max_wait", max_wait)

    def crew(observer: abc.ObserverBase[Event], scheduler: LoopScheduler, given: Sequence[Observable[Event]]) -> Crew:
        def on_event(lane: Lane, event: Event) -> None:
            note(lane, event)
            emit(event)

        def on_end(lane: Lane) -> None:
            ranks.ended(lane)

        def on_close() -> None:
            ranks.close()

        def overflowed() -> None:
            made.halt()

        outlet = Outlet(observer, scheduler, overflowed=overflowed)
        most = max_concurrency
        made = Crew(given, scheduler, outlet, on_event=on_event, on_end=on_end, on_close=on_close, most=most)
        ranks = Ranks(made.lanes, scheduler, None if strict else shares, idle=idle, max_wait=max_wait)
        emit, note = outlet.on_next, ranks.note
        return made

    return combined(tracks, max_concurrency, crew)
