"""``failover``: the next track when one fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from reactivex import Observable, abc

from rxstream._check import function, one_of
from rxstream.errors import BudgetExceeded, Cancelled, StreamError
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.tracks._answer import Contest, answer_of
from rxstream.tracks._lane import Lane, checked

__all__ = ["failover"]


def failover(
    *tracks: Observable[Event],
    after_output: Literal["fail", "restart"] = "fail",
    when: Callable[[Exception], bool] | None = None,
) -> Stream[Event]:
    """Ask the first track; when it fails, the next one.

    ::

        a:       --Started--✗
        b:                  --Started--b("Hel")--b("lo")--Finished--|
             failover(a, b)
        result:  -----------Failed--Started,b("Hel")--b("lo")--Finished--|

    Before its first content nothing of a track is delivered: one that fails by then leaves an event `Failed`, what it had
    used, and nothing else (so does one that gives 65 536 events and no content). After it, text is on the screen, and `after_output` says what becomes of it. A track that ends
    properly has answered, even if it has said nothing.

    ``catch`` of Rx does the same with any Observables, but knows nothing of attempts: text would come twice.

    Example:
        >>> import reactivex as rx
        >>> import rxstream
        >>> from rxstream import tracks
        >>> busy = rx.throw(rxstream.errors.Overloaded("try again later"))
        >>> tracks.failover(busy, rxstream.from_iterable(["Hel", "lo"])).run().text
        'Hello'

    Args:
        tracks: One at least, in the order in which they are asked.
        after_output: When a track fails that has given content: ``fail``, end with its error, whose ``partial`` holds what
            arrived; or ``restart``: the next one answers anew, and with its first content what was said before is
            `Retracted`.
        when: For which errors the next one is asked. By default for every `StreamError` but one that says that nobody
            shall be asked any more (`Cancelled`, `BudgetExceeded`).

    Returns:
        One answer. Fails with `TracksFailed` if all tracks failed, the last of them before its first content; with a track's
        own error if that came after it and no other track is to be asked, or is not one to go on after.

    Raises:
        ConfigurationError: there is no track, one is no Observable, `after_output` is another word, or `when` is no function.
    """
    asked = checked(tracks)
    one_of("after_output", after_output, ("fail", "restart"))
    restart, decides = after_output == "restart", _is_the_tracks if when is None else when
    function("when", decides)
    return answer_of(asked, lambda observer, scheduler: _Failover(asked, observer, scheduler, restart, decides))


def _is_the_tracks(error: Exception) -> bool:
    """Whether it is a failure of the track, so that another may do better."""
    return isinstance(error, StreamError) and not isinstance(error, (Cancelled, BudgetExceeded))


class _Failover(Contest):
    def __init__(
        self,
        tracks: Sequence[Observable[Event]],
        observer: abc.ObserverBase[Event],
        scheduler: LoopScheduler,
        restart: bool,
        when: Callable[[Exception], bool],
    ) -> None:
        super().__init__(tracks, observer, scheduler)
        self._restart = restart
        self._when = when

    def begin(self) -> None:
        self.open(self.lanes[0])

    def left(self) -> bool:
        return any(lane.status == "active" for lane in self.lanes)

    def choose(self, lane: Lane, reason: str, *said: Event) -> None:
        if self.shown is not None:
            self._outlet.items.extend(self._attempts.retract(self.shown))
            self.shown = None
        super().choose(lane, reason, *said)

    def failed(self, lane: Lane, error: Exception, /) -> None:
        is_last = lane is self.lanes[-1]
        if lane is self.chosen and (is_last or not self._restart):
            self.finish(error)
            return
        try:
            goes_on = self._when(error)
        except Exception as raised:  # noqa: BLE001 - the user's own
            self.finish(raised)
            return
        if not goes_on:
            self.finish(error)
            return
        if lane is self.chosen:
            self.chosen, self.shown = None, lane
        super().failed(lane, error)

    def replace(self, lane: Lane, /) -> None:
        for following in self.lanes[lane.index + 1 : lane.index + 2]:
            self.open(following)
