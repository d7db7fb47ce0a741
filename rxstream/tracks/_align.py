"""``align``: several tracks at the pace of the slowest."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal, cast

import msgspec
from reactivex import Observable, abc

from rxstream._check import at_least, count, one_of
from rxstream._outlet import Outlet
from rxstream.errors import ConfigurationError
from rxstream.events import Event, Retracted, TextDelta
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.segment import Splitter
from rxstream.tracks._crew import Backlog, Crew, combined
from rxstream.tracks._lane import Lane

__all__ = ["align"]

_stamp = msgspec.structs.replace
_WAITS_AT = operator.attrgetter("place")


def align(
    *tracks: Observable[Event],
    by: Literal["sentence", "share"] = "sentence",
    within: float | None = None,
    expected: int | Sequence[int] | None = None,
    ahead: int = 64,
) -> Stream[Event]:
    """All tracks at once, and the faster ones wait for the slowest, so that a reader can follow them side by side.

    ::

        a:       --A1.-A2.-A3.-|
        b:       ----------------B1.------B2.-------|
                 align(a, b)
        result:  --A1.-----------B1.------B2.A2.----A3.|

    By sentences: a track goes on with its next sentence when every other track has begun as many, so none has more than
    one whole sentence that another has not. By shares of the expected text: a track goes on while it is at most `within`
    ahead of each other one.

    Only the text of the first choice is measured; all else goes with it, in its track's order, and nothing is lost. A delta
    in which a sentence ends comes as two events, alike but for their text. A track that is ahead is read on a little and
    then held at its source. One that has ended, or failed (the event `Failed`), holds up nobody; one that says nothing does,
    until a clock of its own runs out (see `rxstream.Timeouts`). After a `Retracted` a track stands where it was then.

    Example:
        >>> import rxstream
        >>> from rxstream.events import TextDelta
        >>> from rxstream.tracks import align
        >>> fast = rxstream.from_iterable(["One. Two. ", "Three."])
        >>> slow = rxstream.from_iterable(["Eins. ", "Zwei. ", "Drei."])
        >>> print(*(event.text for event in align(fast, slow).of_type(TextDelta)))
        One.  Eins.  Zwei.  Two.  Drei. Three.

    Args:
        tracks: Streams of one answer each.
        by: What is measured: each ``sentence``, or the ``share`` of the expected text.
        within: How far a track may be ahead of another: in whole sentences, 1 if not given; or in shares, 0.1 if not given.
        expected: For ``share``: characters that the tracks are expected to write, one number for all or one for each. A
            track that writes more counts as done.
        ahead: Events of a track that may wait for the others; then it is held at its source until half of them are gone.

    Raises:
        ConfigurationError: there is no track, or an argument is not as described.
    """
    one_of("by", by, ("sentence", "share"))
    count("ahead", ahead)
    lengths = _lengths(by, expected, len(tracks))
    if by == "sentence":
        reach = 0.0 if within is None else count("within", cast("int", within)) - 1.0
    else:
        reach = 0.1 if within is None else at_least("within", within)

    def crew(observer: abc.ObserverBase[Event], scheduler: LoopScheduler, given: Sequence[Observable[Event]]) -> Crew:
        return _Aligned(observer, scheduler, given, lengths, reach=reach, ahead=ahead).crew

    return combined(tracks, None, crew)


def _lengths(by: str, expected: int | Sequence[int] | None, tracks: int) -> list[int | None]:
    if by == "sentence":
        if expected is not None:
            raise ConfigurationError('expected= is for by="share"')
        return [None] * tracks
    if expected is None:
        raise ConfigurationError('by="share" needs expected=, the characters that the tracks are expected to write')
    given = list(expected) if isinstance(expected, Iterable) else [expected] * tracks
    if len(given) != tracks:
        raise ConfigurationError(f"expected={expected!r}: must be one number, or one for each of the {tracks} tracks")
    return [count("expected", length) for length in given]


class _Ruler(ABC):
    """Measures the text of one track."""

    def __init__(self) -> None:
        self.place = 0.0
        """Where the track is, after all that was measured."""
        self.length: int = 0
        self._begun: dict[int, int] = {}

    def measure(self, event: Event) -> Sequence[tuple[Event, float]]:
        """The event, or the pieces that it has to be cut in, each with the place where it begins."""
        if isinstance(event, TextDelta) and not event.choice:
            self._begun.setdefault(event.attempt, self.length)
            return self.read(event)
        if isinstance(event, Retracted):
            length = self._begun.get(event.attempt, self.length) + event.to_offset
            if length < self.length:
                self.length = length
                self.back()
        return ((event, self.place),)

    @abstractmethod
    def read(self, event: TextDelta) -> Sequence[tuple[Event, float]]:
        """Measure more text."""

    @abstractmethod
    def back(self) -> None:
        """The text is only `length` long."""


class _Sentences(_Ruler):
    """A place is the number of a sentence."""

    def __init__(self) -> None:
        super().__init__()
        self._splitter = Splitter("sentence")
        self._starts = [0]
        self._end = 0  # of the last piece

    def read(self, event: TextDelta) -> Sequence[tuple[Event, float]]:
        """The pieces of different sentences."""
        found = self._splitter.feed(event.text)
        before, self.length = self.length, self.length + len(event.text)
        if not found:
            return ((event, self.place),)
        pieces: list[tuple[Event, float]] = []
        start = 0
        for piece in found:
            self._end += len(piece)
            self._starts.append(self._end)
            end = self._end - before
            if end > start:  # where a sentence ended is sometimes known a little later
                pieces.append((_stamp(event, text=event.text[start:end]), self.place))
                start = end
            self.place += 1
        pieces.append((_stamp(event, text=event.text[start:]), self.place))  # what told that a sentence has ended
        return pieces

    def back(self) -> None:
        """To the sentence that the text ends in now; it goes on as another text."""
        del self._starts[bisect_right(self._starts, self.length) :]
        self.place = len(self._starts) - 1
        self._splitter = Splitter("sentence")
        self._end = self.length


class _Shares(_Ruler):
    """A place is the share of the expected text."""

    def __init__(self, expected: int) -> None:
        super().__init__()
        self._expected = expected

    def read(self, event: TextDelta) -> Sequence[tuple[Event, float]]:
        """The event, uncut."""
        begins = self.place
        self.length += len(event.text)
        self.back()
        return ((event, begins),)

    def back(self) -> None:
        """As it goes forward."""
        self.place = min(1.0, self.length / self._expected)


class _Runner:
    """A lane, what of it waits, and where that stands."""

    __slots__ = ("backlog", "lane", "places", "ruler")

    def __init__(self, lane: Lane, ruler: _Ruler, ahead: int) -> None:
        self.lane = lane
        self.ruler = ruler
        self.backlog = Backlog(lane, ahead)
        self.places: deque[float] = deque()

    def add(self, event: Event, place: float) -> None:
        self.places.append(place)
        self.backlog.add(event)

    def take(self) -> Event:
        self.places.popleft()
        return self.backlog.take()

    @property
    def place(self) -> float:
        """Where the reader of this track is: before what waits of it."""
        if self.places:
            return self.places[0]
        return math.inf if self.lane.over else self.ruler.place


class _Aligned(Outlet[Event]):
    """What waits of all lanes, served from the back."""

    def __init__(
        self,
        observer: abc.ObserverBase[Event],
        scheduler: LoopScheduler,
        tracks: Sequence[Observable[Event]],
        lengths: Sequence[int | None],
        *,
        reach: float,
        ahead: int,
    ) -> None:
        super().__init__(observer, scheduler)
        self.crew = Crew(tracks, scheduler, self, on_event=self._hear, on_end=self._ended)
        rulers = [_Sentences() if length is None else _Shares(length) for length in lengths]
        pairs = zip(self.crew.lanes, rulers, strict=True)
        self._runners = [_Runner(lane, ruler, ahead) for lane, ruler in pairs]
        self._next = self._runners[0]
        self._reach = reach

    def _hear(self, lane: Lane, event: Event) -> None:
        runner = self._runners[lane.index]
        for piece, place in runner.ruler.measure(event):
            if runner.places or self._busy or self._gate.closed or place > self._least() + self._reach:
                runner.add(piece, place)
            else:
                self.on_next(piece)
        for other in self._runners:
            if other.places:
                self.flush()
                break

    def _least(self) -> float:
        """Where the reader of who is furthest back is."""
        return min([runner.place for runner in self._runners])

    def _ended(self, _lane: Lane) -> None:
        self.flush()  # it holds up nobody any more

    def pending(self) -> bool:
        """Whether somebody may go on; of those, who is furthest back is next."""
        if self.items:  # another thread closed the gate when it was about to go
            return True
        waiting = [runner for runner in self._runners if runner.places]
        if not waiting:
            return False
        self._next = min(waiting, key=_WAITS_AT)
        return self._next.place <= self._least() + self._reach

    def take(self) -> Event:
        """The next event of who is furthest back."""
        return self.items.popleft() if self.items else self._next.take()

    def forget(self) -> None:
        """Nobody wants what waits."""
        super().forget()
        for runner in self._runners:
            runner.places.clear()
            runner.backlog.close()
