"""How the model behind a stream can be asked again: anew, from where it was cut, or to go on.

Rules of this module:

* An `Asked` is an Observable of events that knows how. What passes its events on unchanged, request for request, passes this
  on, too (`through`), and so does what asks the model itself, as often as it likes (`repeated`); behind any other operator it
  is not known, for then its events are no longer the provider's.
* A `Conversation` is one answer over several requests: made for each subscription, used on its loop, closed once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from reactivex import Observable, abc, typing

from rxstream.errors import ConfigurationError
from rxstream.events import Event

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = [
    "Asked",
    "Asking",
    "Continuation",
    "Conversation",
    "ModelKey",
    "asking_of",
    "go_on",
    "label_of",
    "repeated",
    "request_of",
    "through",
]


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
    """An Observable of events that knows how to ask its model again, and what its track is called."""

    def __init__(self, subscribe: typing.Subscription[Event], asking: Asking | None, label: str = "") -> None:
        super().__init__(subscribe)
        self.asking = asking
        self.label = label


def asking_of(source: Observable[Any]) -> Asking | None:
    """How the model behind `source` can be asked again; None where that is not known."""
    found: Asking | None = getattr(source, "asking", None)
    return found


def label_of(source: Observable[Any]) -> str:
    """What the track `source` is called; empty where it has no name."""
    return str(getattr(source, "label", ""))


def request_of(source: Observable[Any]) -> Any:
    """The `rxstream.Request` that the model behind `source` is asked; None where there is none."""
    return getattr(asking_of(source), "request", None)


def go_on(conversation: Conversation, said: Response) -> Continuation | str:
    """The request that continues after what was `said`; or, in words, why there is none."""
    other = said.server_tools or said.media or any(part.type != "text" for part in said.parts)
    if other or len(said.choices) > 1:
        return "only plain text can be gone on with"
    return conversation.go_on(said.text)


def through(source: Observable[Event], operator: Callable[[Observable[Event]], Observable[Event]]) -> Asking | None:
    """What is known of the model behind `source`, where all that is asked goes through `operator`."""
    asking = asking_of(source)
    return None if asking is None else _Through(asking, operator)


def repeated(source: Observable[Event], operator: Callable[[Observable[Event]], Observable[Event]]) -> Asking | None:
    """What is known of the model behind `source`, where `operator` asks it: all of its attempts are one request."""
    asking = asking_of(source)
    return None if asking is None else _Repeated(asking, operator, source)


class _Known:
    """Another's asking, asked in another way."""

    def __init__(self, inner: Asking) -> None:
        self._inner = inner

    @property
    def key(self) -> ModelKey:
        return self._inner.key

    @property
    def request(self) -> Any:
        return getattr(self._inner, "request", None)

    @property
    def tokens(self) -> int:
        return self._inner.tokens

    @property
    def total(self) -> float | None:
        return self._inner.total

    @property
    def resumable(self) -> bool:
        return self._inner.resumable


class _Through(_Known):
    """… with an operator behind each request."""

    def __init__(self, inner: Asking, operator: Callable[[Observable[Event]], Observable[Event]]) -> None:
        super().__init__(inner)
        self._operator = operator

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


class _Repeated(_Known):
    """… by an operator that has a conversation of its own for each request. It is its own `Conversation`, for it keeps nothing."""

    def __init__(
        self, inner: Asking, operator: Callable[[Observable[Event]], Observable[Event]], source: Observable[Event]
    ) -> None:
        super().__init__(inner)
        self._operator = operator
        self._source = source

    @property
    def resumable(self) -> bool:
        return False

    def conversation(self, *, resumable: bool) -> Conversation:  # noqa: ARG002 - it is not
        return self

    def ask(self) -> Observable[Event]:
        return self._operator(self._source)

    def resume(self) -> None:
        return None

    def go_on(self, text: str) -> Continuation | str:
        conversation = self._inner.conversation(resumable=False)
        continuation = conversation.go_on(text)
        conversation.close()
        if isinstance(continuation, str):
            return continuation
        events = continuation.events

        def subscribe(
            observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return events.subscribe(observer, scheduler=scheduler)

        rest = Asked(subscribe, _After(self._inner, text), label_of(self._source))
        return Continuation(self._operator(rest), continuation.kind)

    def close(self) -> None:
        pass


class _After(_Known):
    """… to go on after a text: that is its answer's beginning, which it does not give again."""

    def __init__(self, inner: Asking, text: str) -> None:
        super().__init__(inner)
        self._text = text

    def conversation(self, *, resumable: bool) -> Conversation:
        return _ConversationAfter(self._inner.conversation(resumable=resumable), self._text)


class _ConversationAfter:
    def __init__(self, inner: Conversation, text: str) -> None:
        self._inner = inner
        self._text = text

    def ask(self) -> Observable[Event]:
        continuation = self._inner.go_on(self._text)
        if isinstance(continuation, str):  # it could, when it was first asked
            raise ConfigurationError(continuation)
        return continuation.events

    def resume(self) -> Observable[Event] | None:
        return self._inner.resume()

    def go_on(self, text: str) -> Continuation | str:
        return self._inner.go_on(self._text + text)

    def close(self) -> None:
        self._inner.close()
