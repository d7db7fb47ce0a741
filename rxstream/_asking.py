"""How the model behind a stream can be asked again: anew, from where it was cut, or to go on.

Rules of this module:

* An `Asked` is an Observable of events that knows how. What passes its events on unchanged, request for request, passes this
  on, too (`through`); behind any other operator it is not known, for then its events are no longer the provider's.
* A `Conversation` is one answer over several requests: made for each subscription, used on its loop, closed once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

from reactivex import Observable, typing

from rxstream.events import Event

__all__ = ["Asked", "Asking", "Continuation", "Conversation", "ModelKey", "asking_of", "through"]


class ModelKey(NamedTuple):
    """Which model, served by whom and where: what breakers, limiters and budgets are kept for."""

    provider: str
    model: str
    base_url: str


class Continuation(NamedTuple):
    """The request by which the model is asked to go on after its own text."""

    events: Observable[Event]
    kind: Literal["prefill", "user_message"]


class Conversation(Protocol):
    """One answer, over one or several requests. The Observables that it gives are cold; at most one is subscribed at a time."""

    def ask(self) -> Observable[Event]:
        """The request from its start, for the first time or anew: with a cursor of its own."""
        ...

    def resume(self) -> Observable[Event] | None:
        """What follows the last event that was given, exactly: no event comes twice, none is missing, parts keep their numbers.

        None where there is no cursor, because the provider has none, or has not given one yet.
        """
        ...

    def go_on(self, text: str) -> Continuation | str:
        """The request that continues after `text`, which is all that was said; or, in words, why there is none."""
        ...

    def close(self) -> None:
        """The answer is complete, or nobody wants it any more: whatever still runs at the provider is cancelled there."""
        ...


class Asking(Protocol):
    """What is known of the model behind a stream."""

    @property
    def key(self) -> ModelKey:
        """Whom the request goes to, as the environment says now."""
        ...

    @property
    def tokens(self) -> int:
        """An estimate, from above, of what the request will use: its input and the most that the model may write."""
        ...

    @property
    def total(self) -> float | None:
        """Seconds that all attempts together may take; None for as long as they like."""
        ...

    @property
    def resumable(self) -> bool:
        """Whether the provider can give the rest of an answer that was cut."""
        ...

    def conversation(self, *, resumable: bool) -> Conversation:
        """A new one; if `resumable`, each request is made such that it can be resumed.

        Its requests keep all clocks but ``total``, which is for all of them.
        """
        ...


class Asked(Observable[Event]):
    """An Observable of events that knows how to ask its model again."""

    def __init__(self, subscribe: typing.Subscription[Event], asking: Asking | None) -> None:
        super().__init__(subscribe)
        self.asking = asking


def asking_of(source: Observable[Any]) -> Asking | None:
    """How the model behind `source` can be asked again; None where that is not known."""
    found: Asking | None = getattr(source, "asking", None)
    return found


def through(source: Observable[Event], operator: Callable[[Observable[Event]], Observable[Event]]) -> Asking | None:
    """What is known of the model behind `source`, where all that is asked goes through `operator`."""
    asking = asking_of(source)
    return None if asking is None else _Through(asking, operator)


class _Through:
    """Another's asking, with an operator behind each request."""

    def __init__(self, inner: Asking, operator: Callable[[Observable[Event]], Observable[Event]]) -> None:
        self._inner = inner
        self._operator = operator

    @property
    def key(self) -> ModelKey:
        return self._inner.key

    @property
    def tokens(self) -> int:
        return self._inner.tokens

    @property
    def total(self) -> float | None:
        return self._inner.total

    @property
    def resumable(self) -> bool:
        return self._inner.resumable

    def conversation(self, *, resumable: bool) -> Conversation:
        return _ConversationThrough(self._inner.conversation(resumable=resumable), self._operator)


class _ConversationThrough:
    def __init__(self, inner: Conversation, operator: Callable[[Observable[Event]], Observable[Event]]) -> None:
        self._inner = inner
        self._operator = operator

    def ask(self) -> Observable[Event]:
        return self._operator(self._inner.ask())

    def resume(self) -> Observable[Event] | None:
        events = self._inner.resume()
        return None if events is None else self._operator(events)

    def go_on(self, text: str) -> Continuation | str:
        continuation = self._inner.go_on(text)
        if isinstance(continuation, str):
            return continuation
        return Continuation(self._operator(continuation.events), continuation.kind)

    def close(self) -> None:
        self._inner.close()
