"""Where each millisecond of a stream went.

Rules of this module:

* Every moment from the subscription to the end belongs to one place, so the places add up to the whole.
* Where several things happen at once, it is what the stream cannot go on without: the consumer before decoding, decoding before
  the model, the model before the network, the network before the queue. What none of them explains is the operators'.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._asking import label_of
from rxstream._check import instance
from rxstream._probe import Place
from rxstream.events import Event, EventBase, is_content
from rxstream.loop import LoopScheduler, call_on
from rxstream.observable import Stream

__all__ = ["Explained", "Explanation", "explain"]

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

_Where: TypeAlias = Place | Literal["operators", "consumer"]

_PLACES: Final[tuple[_Where, ...]] = ("queue", "setup", "network", "provider", "decoding", "operators", "consumer")
_WORDS: Final = {
    "queue": "waiting for guards, or its turn",
    "setup": "loading the SDK, starting the local model",
    "network": "request sent, until the response's headers",
    "provider": "waiting for the model's next bytes",
    "decoding": "bytes into events",
    "operators": "between the source and the consumer",
    "consumer": "its callbacks, and while it held the stream",
}
_BAR: Final = 30


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, from the subscription to the end; the seven places add up to `total`."""

    total: float
    queue: float = 0.0
    """Guards let the request wait, or the stream waited for its turn in a manager."""
    setup: float = 0.0
    """What a process does once: loading an SDK, starting the local model."""
    network: float = 0.0
    """From sending the request to the headers of the response: connecting, both ways, and what the provider takes to admit it."""
    provider: float = 0.0
    """The next bytes were awaited: the model, and what is between it and us."""
    decoding: float = 0.0
    operators: float = 0.0
    """What stands between the source and the consumer: its work, its waits (`pace`, the delay before a retry), and the loop's other work."""
    consumer: float = 0.0
    """Its callbacks, and the time in which it held the stream: a pause, a buffer that was full."""
    first_output: float | None = None
    """Seconds to the first content, as the consumer got it."""
    events: int = 0
    """Items, whatever they are."""

    def __str__(self) -> str:
        """A table with bars."""
        first = "no output" if self.first_output is None else f"first output after {self.first_output:.3f} s"
        lines = [f"{self.total:.3f} s, {self.events} events, {first}"]
        for place in _PLACES:
            seconds: float = getattr(self, place)
            share = seconds / self.total if self.total else 0.0
            bar = "█" * round(share * _BAR)
            lines.append(f"{place:<9} {seconds:9.3f} s {share:5.0%}  {bar:<{_BAR}}  {_WORDS[place]}".rstrip())
        return "\n".join(lines)


class Explained(Stream[T_co]):
    """A stream that knows, when it is over, where its time went."""

    explanation: Explanation | None = None
    """Of the subscription that ended last, however it ended; None before the first end."""


def explain(stream: Observable[T]) -> Explained[T]:
    """`stream`, to be consumed as ever; its ``explanation`` says afterwards where each millisecond went.

    What is upstream of here is told apart by places; what comes after is the consumer. So put it where you consume. A ``for`` or
    ``async for`` reads behind a buffer of 64 items: its body is the consumer's time only while that is full.

    Example:
        >>> import rxstream
        >>> explained = rxstream.explain(rxstream.from_iterable(["to ", "be"]))
        >>> explained.run().text
        'to be'
        >>> print(str(explained.explanation).split(", ")[1])
        4 events

    Args:
        stream: Any stream: of events, of what operators make of them; a combination.

    Raises:
        ConfigurationError: `stream` is no Observable.
    """
    instance("stream", stream, Observable)

    def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        return _Timeline(explained, observer, LoopScheduler.of(scheduler)).start(stream)

    explained: Explained[T] = Explained(subscribe)
    explained.label = label_of(stream)
    return explained


def _is_output(item: Any) -> bool:
    """Of what is no event, all but an empty text, or a chunk of one."""
    if isinstance(item, EventBase):
        return is_content(cast("Event", item))
    text = getattr(item, "content", item)
    return not isinstance(text, str) or text != ""  # of an array, say, a comparison is no truth value


class _Timeline:
    """One subscription, as a probe of what is above it and an observer of what comes."""

    detailed = True

    def __init__(self, told: Explained[Any], observer: abc.ObserverBase[Any], on: LoopScheduler) -> None:
        self._told, self._observer, self._on = told, observer, on
        self._emit = observer.on_next
        self._time = on.loop.time
        self._upstream = SingleAssignmentDisposable()
        self._since = self._time()
        self._begun = self._since - on.turn.waited
        self._spent: dict[_Where, float] = dict.fromkeys(_PLACES, 0.0)
        self._spent["queue"] = on.turn.waited
        self._open: dict[Place, int] = {}
        self._held = on.gate.closed
        self._asked = self._inside = self._over = False
        self._events = 0
        self._first_output: float | None = None

    def start(self, source: Observable[Any]) -> abc.DisposableBase:
        self._on.gate.watch(self._gate_changed)
        self._upstream.disposable = source.subscribe(
            self.on_next, self._fail, self._complete, scheduler=self._on.with_probe(self)
        )
        return Disposable(self._leave)

    # --- the places -----------------------------------------------------------------------------------------------------------

    def enter(self, place: Place) -> None:
        self._account()
        self._asked = True
        self._open[place] = self._open.get(place, 0) + 1

    def leave(self, place: Place) -> None:
        self._account()
        self._open[place] -= 1

    def _account(self) -> None:
        now = self._time()
        self._spent[self._where()] += now - self._since
        self._since = now

    def _where(self) -> _Where:
        if self._inside:
            return "consumer"
        if self._open.get("decoding"):
            return "decoding"
        if self._held:
            return "consumer"
        for place in ("provider", "network", "setup", "queue"):
            if self._open.get(place):
                return place
        return "operators" if self._asked else "provider"  # a source that tells of nothing is all there is to wait for

    def _gate_changed(self) -> None:
        call_on(self._on.loop, self._set_held)

    def _set_held(self) -> None:
        self._account()
        self._held = self._on.gate.closed

    # --- events -----------------------------------------------------------------------------------------------------------------

    def on_next(self, event: Any) -> None:
        self._events += 1
        self._account()
        if self._first_output is None and _is_output(event):
            self._first_output = self._since - self._begun
        within, self._inside = self._inside, True  # a callback may have made the source emit
        try:
            self._emit(event)
        finally:
            self._account()
            self._inside = within

    def _fail(self, error: Exception) -> None:
        self._end()
        self._observer.on_error(error)

    def _complete(self) -> None:
        self._end()
        self._observer.on_completed()

    def _leave(self) -> None:
        """Any thread."""
        if self._on.loop.is_running():
            call_on(self._on.loop, self._dispose)
        else:
            self._dispose()  # there is no loop to do it on

    def _dispose(self) -> None:
        self._end()
        self._upstream.dispose()

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        self._on.gate.unwatch(self._gate_changed)
        self._account()
        self._told.explanation = Explanation(
            total=self._since - self._begun,
            first_output=self._first_output,
            events=self._events,
            **self._spent,
        )
