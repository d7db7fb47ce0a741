"""``limit``: an end to what goes on too long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter

from reactivex import Observable, abc

from rxstream._asking import Asked, label_of, through
from rxstream._check import at_least_one, count
from rxstream._cut import Cut
from rxstream.errors import BudgetExceeded, LimitExceeded
from rxstream.events import Event, RefusalDelta, TextDelta, ThinkingDelta, ToolCallDelta, UsageReported
from rxstream.loop import LoopScheduler

__all__ = ["limit"]

_WRITTEN: dict[type[Event], Callable[[Event], str]] = {
    TextDelta: attrgetter("text"),
    ThinkingDelta: attrgetter("text"),
    RefusalDelta: attrgetter("text"),
    ToolCallDelta: attrgetter("arguments"),
}
"""What counts as written, and where it is: a getter in C costs less than a function, and every event comes by."""


def limit(
    *, events: int | None = None, tokens: int | None = None, characters: int | None = None
) -> Callable[[Observable[Event]], Asked]:
    """End a stream that goes over a limit: with `LimitExceeded`, or, where it is one on tokens, with `BudgetExceeded`.

    ::

        source:  --Started--"Hel"--"lo"--", you"--…
             limit(characters=5)
        result:  --Started--"Hel"--"lo"--✗         LimitExceeded

    All up to the limit is delivered, the event that goes over it is not; the request is closed at once, and the error's
    ``partial`` holds what was delivered. (``take`` of Rx ends a stream as if it were complete.) To let the model itself stop,
    set ``max_tokens``: this is for what does not obey, and for combinations.

    Tokens are counted as the provider reports them while it writes. Most report at the end only: until then each piece of
    text, thinking, refusal or arguments counts as one token, which is an estimate, and from below where a provider sends
    several at a time. A report that shows that the limit was passed is delivered, then comes the error.

    Before ``retry_stream`` it holds for each request; behind it, or behind a combination, for all attempts and tracks
    together, what was retracted included.

    Example:
        >>> import rxstream
        >>> rxstream.from_iterable(["Hel", "lo", ", you"]).pipe(limit(characters=5)).run()
        Traceback (most recent call last):
            ...
        rxstream.errors.LimitExceeded: the stream has more than the 5 characters that its limit allows [iterable]

    Args:
        events: How many events there may be.
        tokens: … output tokens, reasoning included.
        characters: … characters of text, thinking, refusals and arguments of tools.

    Raises:
        ConfigurationError: no limit is given, or one is no whole number of at least 1.
    """
    limits = {"events": events, "tokens": tokens, "characters": characters}
    at_least_one(**limits)
    for name, most in limits.items():
        if most is not None:
            count(name, most)

    def limited(source: Observable[Event]) -> Asked:
        def subscribe(
            observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            meter = _Meter(limits, observer, LoopScheduler.of(scheduler))
            return meter.subscribe(source)

        return Asked(subscribe, through(source, limited), label_of(source))

    return limited


class _Meter(Cut):
    """One subscription: how much has come."""

    def __init__(
        self, limits: Mapping[str, int | None], observer: abc.ObserverBase[Event], scheduler: LoopScheduler
    ) -> None:
        super().__init__(observer, scheduler)
        self._most_events = limits["events"]
        self._most_characters = limits["characters"]
        self._most_tokens = limits["tokens"]
        self._events = self._characters = 0
        self._tokens = _Tokens()

    def on_next(self, event: Event) -> None:
        if self.over:
            return
        self._events += 1
        if self._most_events is not None and self._events > self._most_events:
            self.cut(LimitExceeded(_more_than(self._most_events, "events")))
            return
        kind = type(event)
        written = _WRITTEN.get(kind)
        if written is not None and (length := len(written(event))):
            self._characters += length
            if self._most_characters is not None and self._characters > self._most_characters:
                self.cut(LimitExceeded(_more_than(self._most_characters, "characters")))
                return
            if self._most_tokens is not None and self._tokens.piece(event) > self._most_tokens:
                self.cut(BudgetExceeded(_more_than(self._most_tokens, "tokens")))
                return
        try:
            self.fold(event)
        except TypeError:
            self.refuse(event, "limit")
            return
        self.emit(event)
        if (
            written is None
            and self._most_tokens is not None
            and isinstance(event, UsageReported)
            and self._tokens.report(event) > self._most_tokens
        ):
            self.cut(BudgetExceeded(_more_than(self._most_tokens, "tokens")))


class _Tokens:
    """Output tokens of all attempts: as reported, or one for each piece that came, whichever is more."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, int], tuple[int, int]] = {}
        self._source, self._attempt = "", 0
        self._pieces = self._reported = self._elsewhere = 0

    def piece(self, event: Event) -> int:
        """How many there are with this piece."""
        if event.attempt != self._attempt or event.source != self._source:
            self._turn(event)
        self._pieces = pieces = self._pieces + 1
        return self._elsewhere + (pieces if pieces > self._reported else self._reported)  # noqa: FURB136 - max() is slow

    def report(self, event: UsageReported) -> int:
        """How many there are with what is reported of this attempt."""
        if event.attempt != self._attempt or event.source != self._source:
            self._turn(event)
        self._reported = event.usage.output_tokens or 0
        return self._elsewhere + max(self._pieces, self._reported)

    def _turn(self, event: Event) -> None:
        """`event` is of another attempt than the one before."""
        self._all[self._source, self._attempt] = self._pieces, self._reported
        self._source, self._attempt = event.source, event.attempt
        self._pieces, self._reported = self._all.pop((event.source, event.attempt), (0, 0))
        self._elsewhere = sum(map(max, self._all.values()))


def _more_than(most: int, what: str) -> str:
    return f"the stream has more than the {most} {what} that its limit allows"
