"""``best_of``: of several complete answers the one with the best score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from reactivex import Observable, abc

from rxstream._check import count, function
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.tracks._answer import KEPT, answer_of
from rxstream.tracks._lane import Lane, checked
from rxstream.tracks._whole import WholeAnswers

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["best_of"]


def best_of(*tracks: Observable[Event], score: Callable[[Response], float], max_events: int = KEPT) -> Stream[Event]:
    """Ask all tracks, wait for all of them, and deliver the answer with the highest score.

    ::

        a:       --a("Hel")--a("lo")--Finished--|
        b:       -----b("Good morning")--Finished--|
             best_of(a, b, score=lambda answer: len(answer.text))
        result:  ----------------------------------b("Good morning"),Finished--|

    Also known as best-of-n sampling. The answer's events come with the times at which they had arrived. What the other
    tracks used is reported before its end, so that the usage of the answer is that of all requests.

    Example:
        >>> import rxstream
        >>> from rxstream import tracks
        >>> short, long = rxstream.from_iterable(["Hello"]), rxstream.from_iterable(["Good ", "morning"])
        >>> tracks.best_of(short, long, score=lambda answer: len(answer.text)).run().text
        'Good morning'

    Args:
        tracks: One at least.
        score: Called once with each complete answer; of equal scores the first track's counts, and NaN less than any.
        max_events: How many events of a track are kept; one that has more has failed (`LimitExceeded`).

    Returns:
        One answer. A track that fails is an event `Failed`; with `TracksFailed` ends what has no answer at all, and with
        what `score` raised, if it did.

    Raises:
        ConfigurationError: there is no track, one is no Observable, `score` no function, or `max_events` less than 1.
    """
    asked = checked(tracks)
    function("score", score)
    count("max_events", max_events)
    return answer_of(asked, lambda observer, scheduler: _BestOf(asked, observer, scheduler, score, max_events))


class _BestOf(WholeAnswers):
    def __init__(
        self,
        tracks: Sequence[Observable[Event]],
        observer: abc.ObserverBase[Event],
        scheduler: LoopScheduler,
        score: Callable[[Response], float],
        max_events: int,
    ) -> None:
        super().__init__(tracks, observer, scheduler, most=max_events)
        self._score = score
        self._scores: dict[int, float] = {}

    def judge(self, lane: Lane, response: Response) -> None:
        score = float(self._score(response))
        self._scores[lane.index] = -math.inf if math.isnan(score) else score

    def winner(self) -> Lane | None:
        if self.left() or not self._scores:
            return None
        return self.lanes[max(self._scores, key=lambda index: (self._scores[index], -index))]
