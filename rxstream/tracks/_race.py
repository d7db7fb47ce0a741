"""``race``: the first track to say something gives the answer."""

from __future__ import annotations

from reactivex import Observable

from rxstream.events import Event
from rxstream.observable import Stream
from rxstream.tracks._answer import Contest, answer_of
from rxstream.tracks._lane import checked

__all__ = ["race"]


def race(*tracks: Observable[Event]) -> Stream[Event]:
    """Ask all tracks; the first to give content gives the answer, and the others are closed at once.

    ::

        a:       --Started------a("Hel")--a("lo")--Finished--|
        b:       ----Started--------------b("Bon")--…
             race(a, b)
        result:  ---------------Started,a("Hel")--a("lo")--Finished--|

    ``amb`` of Rx lets the first *event* decide; here it is the first content: not `Started`, no ping, no empty text. Until
    then nothing of a track is delivered. What the others had used is reported at the decision (`UsageReported`, then
    `Cancelled`), so that the usage of the answer is that of all requests. A track that fails before the decision is an
    event `Failed`; so is one that gives 65 536 events and no content. One that ends properly and has said nothing gives the
    answer only if no other is left. Of tracks whose first content came while the stream was paused, any may win.

    Example:
        >>> import reactivex as rx
        >>> import rxstream
        >>> from rxstream import tracks
        >>> tracks.race(rx.never(), rxstream.from_iterable(["Hel", "lo"])).run().text
        'Hello'

    Args:
        tracks: One at least. Each is asked; each is billed.

    Returns:
        One answer. It fails with the winner's own error after its first content, and with `TracksFailed` if no track
        came to give any.

    Raises:
        ConfigurationError: there is no track, or one is no Observable.
    """
    asked = checked(tracks)
    return answer_of(asked, lambda observer, scheduler: _Race(asked, observer, scheduler))


class _Race(Contest):
    def begin(self) -> None:
        for lane in self.lanes:
            self.open(lane)
