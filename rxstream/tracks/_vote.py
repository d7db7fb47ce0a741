"""``vote``: the answer that most tracks give."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
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

__all__ = ["vote"]


def vote(
    *tracks: Observable[Event],
    key: Callable[[Response], Hashable] | None = None,
    quorum: int | None = None,
    max_events: int = KEPT,
) -> Stream[Event]:
    """Ask all tracks and deliver the answer that most of them give.

    ::

        a:       --a("4")--Finished--|
        b:       ---------b("5")--------Finished--|
        c:       ------c("4")---------------Finished--|
             vote(a, b, c)
        result:  -----------------------------------a("4"),Finished--|

    Also known as self-consistency (X. Wang et al., "Self-consistency improves chain of thought reasoning in language models",
    ICLR 2023). As soon as the vote is certain (`quorum` answers are equal, or no other can catch up) the requests that still
    run are closed. Of answers with as many votes, that of the earliest track counts; what is delivered is the answer of the
    earliest track, among those that have ended, that gave it. Usage is that of all requests.

    Example:
        >>> import rxstream
        >>> from rxstream import tracks
        >>> said = [rxstream.from_iterable([text]) for text in ("four", "five", "four ")]
        >>> tracks.vote(*said).run().text
        'four'

    Args:
        tracks: One at least; may be the same one several times.
        key: What makes two answers equal; by default their text without the white space around it. Called once with each
            complete answer.
        quorum: How many equal answers are enough; by default more than half of the tracks. If no answer comes to so many,
            the most votes count.
        max_events: How many events of a track are kept; one that has more has failed (`LimitExceeded`).

    Returns:
        One answer. A track that fails is an event `Failed` and has no vote; with `TracksFailed` ends what has no answer at
        all, and with what `key` raised, if it did.

    Raises:
        ConfigurationError: there is no track, one is no Observable, `key` no function, or a number less than 1.
    """
    asked = checked(tracks)
    count("max_events", max_events)
    enough = len(asked) // 2 + 1 if quorum is None else count("quorum", quorum)
    say = _text if key is None else key
    function("key", say)
    return answer_of(
        asked,
        lambda observer, scheduler: _Vote(asked, observer, scheduler, key=say, quorum=enough, max_events=max_events),
    )


def _text(response: Response) -> str:
    return response.text.strip()


class _Vote(WholeAnswers):
    def __init__(
        self,
        tracks: Sequence[Observable[Event]],
        observer: abc.ObserverBase[Event],
        scheduler: LoopScheduler,
        *,
        key: Callable[[Response], Hashable],
        quorum: int,
        max_events: int,
    ) -> None:
        super().__init__(tracks, observer, scheduler, most=max_events)
        self._key = key
        self._quorum = quorum
        self._voters: dict[Hashable, list[int]] = {}

    def judge(self, lane: Lane, response: Response) -> None:
        self._voters.setdefault(self._key(response), []).append(lane.index)

    def winner(self) -> Lane | None:
        ranked = sorted(self._voters.values(), key=lambda voters: (-len(voters), min(voters)))
        if not ranked:
            return None
        ahead = len(ranked[0]) - (len(ranked[1]) if ranked[1:] else 0)
        open_votes = sum(not lane.over for lane in self.lanes)
        if len(ranked[0]) >= self._quorum or ahead > open_votes or not open_votes:
            return self.lanes[min(ranked[0])]
        return None
