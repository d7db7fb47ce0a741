"""``pace``: text at an even speed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._alarm import Alarm
from rxstream._check import count, flag, one_of, positive
from rxstream._outlet import MOST, Mark, Outlet, too_many
from rxstream._playout import Playout
from rxstream._units import Unit, text_of
from rxstream.errors import LoopShutDown
from rxstream.events import Event, RefusalDelta, TextDelta, ThinkingDelta
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler, call_on

__all__ = ["pace"]


def pace(
    rate: float | None = None,
    *,
    unit: Unit = "characters",
    lag: float = 0.3,
    step: float = 0.03,
    thinking: bool = False,
    buffer: int = 65_536,
) -> Callable[[Observable[Event]], Observable[Event]]:
    """Play text out evenly, as it is read: a jitter buffer.

    ::

        source:  -("Hello")-------------Finished|
             pace(2)
        result:  -("H")-("e")-("l")-("l")-("o")Finished|

    Text comes from a network in lumps. Here it is cut into small pieces (between characters, or between words for ``tokens``),
    and they are emitted one after the other, at a `rate`; without one at the speed at which the text arrives. That is
    estimated, and the playout leans on it only so far that no text is delayed by more than `lag` seconds: a model however fast
    is kept up with, a pause of the model is bridged for as long, and at its end what waits is out within `lag`. The steadier
    the text arrives the less it is delayed.

    Joined, the text is the same, and the order of a track's events is kept: what is no text waits for the text before it, and
    passes at once where none waits. A piece carries the fields of the event that it was cut from. The tracks of a combination
    are paced each for itself. While the subscriber's gate is closed the playout stands still, `lag` and all; it goes on at its
    speed.

    These are the playout buffers of voice over packets: Ramjee et al., "Adaptive playout mechanisms" (1994), with the estimate of
    Jacobson, "Congestion avoidance and control" (1988), and WebRTC's NetEq, which plays faster or slower rather than cutting.

    Example:
        >>> import rxstream
        >>> from rxstream import operators as rxo
        >>> list(rxstream.from_iterable(["to be or not"]).pipe(pace(100), rxo.text()))
        ['to ', 'be ', 'or ', 'not']

    Args:
        rate: Units a second; without one the playout adapts.
        unit: What `rate` counts and where text is cut: ``characters``, as a reader counts them, never half an emoji; or
            ``tokens``, of four bytes of UTF-8, cut between words.
        lag: Seconds that text may be delayed, without a `rate`.
        step: Seconds between two pieces of a track, at least.
        thinking: Whether thinking is paced too; else it passes like what is no text.
        buffer: Bytes that may wait, of all tracks, 200 for an event and its text; the gate of the source is held while there are
            more.

    Raises:
        ConfigurationError: an option is out of its range.
    """
    if rate is not None:
        positive("rate", rate)
    one_of("unit", unit, ("characters", "tokens"))
    positive("lag", lag)
    flag("thinking", thinking)
    positive("step", step)
    count("buffer", buffer)
    kinds = (TextDelta, RefusalDelta, ThinkingDelta) if thinking else (TextDelta, RefusalDelta)
    new_track = partial(Playout, rate=rate, unit=unit, lag=lag, step=step)

    def paced(source: Observable[Event]) -> Observable[Event]:
        def subscribe(
            observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Player(new_track, kinds, buffer, observer, LoopScheduler.of(scheduler)).start(source)

        return Observable(subscribe)

    return paced


class _Clock:
    """The loop's time, less the time that the gate was closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, gate: Gate, opened: Callable[[], object]) -> None:
        self.away = 0.0
        """Seconds that the gate was closed so far."""
        self._loop = loop
        self._gate = gate
        self._opened = opened
        self._closed_at = loop.time() if gate.closed else None
        gate.watch(self._turn)

    def now(self) -> float:
        return (self._loop.time() if self._closed_at is None else self._closed_at) - self.away

    def close(self) -> None:
        self._gate.unwatch(self._turn)

    def _turn(self) -> None:
        if self._gate.closed:
            self._closed_at = self._loop.time()
        elif self._closed_at is not None:
            self.away += self._loop.time() - self._closed_at
            self._closed_at = None
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._opened)


class _Player:
    """One subscription: the playout of each track, and one alarm for all."""

    def __init__(
        self,
        new_track: Callable[[], Playout],
        kinds: tuple[type[Event], ...],
        buffer: int,
        observer: abc.ObserverBase[Event],
        scheduler: LoopScheduler,
    ) -> None:
        self._upstream = SingleAssignmentDisposable()
        self._outlet: Outlet[Event] = Outlet(observer, scheduler)
        self._gate = scheduler.gate
        inner = self._gate.child()
        self._inner = scheduler.with_gate(inner)
        self._mark = Mark(inner, "pace", high=buffer, low=buffer / 2)
        play = partial(self._outlet.guard, self._play)
        self._alarm = Alarm(scheduler.loop, play)
        self._clock = _Clock(scheduler.loop, self._gate, play)
        self._new_track = new_track
        self._kinds = frozenset(kinds)
        self._tracks: dict[str, Playout] = {}
        self._size = 0
        self._last: tuple[Exception | None] | None = None

    def start(self, source: Observable[Event]) -> abc.DisposableBase:
        self._upstream.disposable = source.subscribe(self._next, self._end, self._end, scheduler=self._inner)
        return Disposable(self._dispose)

    def _next(self, event: Event) -> None:
        if self._last is not None:  # a source that emits while it is subscribed cannot be stopped
            return
        track = self._tracks.get(event.source)
        text = text_of(event) if type(event) in self._kinds else ""
        if not text and (track is None or not track.waiting) and not self._gate.closed:
            self._outlet.on_next(event)
            return
        if track is None:
            track = self._tracks[event.source] = self._new_track()
        now = self._clock.now()
        self._size += track.add(event, text, now)
        if track.due <= now:
            self._play()
        else:
            self._mark.level(self._size)
            self._wake_at(track.due)
        if len(track.waiting) > MOST:
            self._upstream.dispose()
            self._end(too_many(MOST))

    def _play(self) -> None:
        """Emit what is due, and see when the next is."""
        if self._gate.closed or self._outlet.over:
            return
        now, out = self._clock.now(), self._outlet.items
        for track in self._tracks.values():
            self._size -= track.play(now, out)
        self._mark.level(self._size)
        dues = [track.due for track in self._tracks.values() if track.waiting]
        if dues:
            self._wake_at(min(dues))
        self._outlet.flush()
        self._tell()

    def _wake_at(self, due: float) -> None:
        at = due + self._clock.away
        if not self._gate.closed and (self._alarm.at is None or at < self._alarm.at):
            self._alarm.set(at)

    def _end(self, error: Exception | None = None) -> None:
        if isinstance(error, LoopShutDown):  # the loop goes down: there is no time left to play
            for track in self._tracks.values():
                track.drain(self._outlet.items)
            self._outlet.on_error(error)
        elif self._last is None:
            self._last = (error,)
            self._tell()
            self._outlet.outlast()

    def _tell(self) -> None:
        if self._last is None or any(track.waiting for track in self._tracks.values()):
            return
        error = self._last[0]
        if error is None:
            self._outlet.on_completed()
        else:
            self._outlet.on_error(error)

    def _dispose(self) -> None:
        self._outlet.dispose()
        self._upstream.dispose()
        self._clock.close()
        self._alarm.close()
        self._mark.close()
        call_on(self._inner.loop, self._tracks.clear)  # not here: the loop may be playing them
