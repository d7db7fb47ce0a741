"""``compare``: tracks side by side in figures, while they run."""

from __future__ import annotations

from reactivex import Observable, abc

from rxstream._check import function
from rxstream.comparison import Comparer, Comparison, Score
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.snapshot import Snapshot
from rxstream.tracks._combine_tracks import combine_tracks
from rxstream.tracks._lane import checked

__all__ = ["compare"]


def compare(
    *tracks: Observable[Event], every: float = 0.25, score: Score | None = None, threshold: float = 0.6
) -> Stream[Comparison]:
    """How the tracks compare so far: who spoke first, how fast, how long, how dear, and how alike their texts are.

    ::

        a:       --"The sky"-----" is blue."-----|
        b:       --------"The sky is"-----" grey."---|
                 compare(a, b)
        result:  --1-----2-------3--------4------5---6-|

        1: a spoke first   2: b is 1.2 s behind   4: 73 % of the words are the same, "blue" or "grey"   6: done

    Every track is in it, also one that failed. The last item has ``done=True``; `Comparison.report` is a text to print.
    What is known of two texts is carried on and never computed again: for two answers of 20 KB all comparisons together
    cost less than a tenth of a second, four a second for as long as they take.

    Example:
        >>> import rxstream
        >>> from rxstream.tracks import compare
        >>> blue = rxstream.from_iterable(["The sky ", "is blue."], label="a")
        >>> grey = rxstream.from_iterable(["The sky ", "is grey."], label="b")
        >>> found = compare(blue, grey).run()
        >>> found.done, found.tracks[0].words, found.pairs[0].similarity, found.pairs[0].divergence.first
        (True, 4, 0.8, 'blue.')

    Args:
        tracks: Streams of one answer each, at least two.
        every: Seconds that lie between two comparisons at least.
        score: A figure of yours for the state of a track, higher where you like it better; asked whenever it has changed.
        threshold: How alike two sentences have to be, in the share of words that both have, to agree: above 0, at most 1.

    Raises:
        ConfigurationError: there are fewer than two tracks, one is no Observable, or a number is out of its range.
    """
    states = combine_tracks(*checked(tracks, least=2), every=every)
    if score is not None:
        function("score", score)
    Comparer(score=score, threshold=threshold)  # says at once what is wrong

    def subscribe(
        observer: abc.ObserverBase[Comparison], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        on = LoopScheduler.of(scheduler)
        comparer = Comparer(score=score, threshold=threshold)
        start = on.loop.time()

        def on_next(state: dict[str, Snapshot]) -> None:
            try:
                comparison = comparer.compare(state, elapsed=on.loop.time() - start)
            except Exception as error:  # noqa: BLE001 - the score's own: its owner gets it back
                observer.on_error(error)
            else:
                observer.on_next(comparison)

        return states.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=on)

    return Stream(subscribe)
