"""Handlers: objects that are told what happens in a stream, a method for each thing.

Rules of this module:

* Every method may be left out, and each may be a coroutine function.
* A handler is an observer of Rx, and an observer of Rx is a handler (`as_handler`).
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from reactivex import abc

from rxstream._check import show
from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from rxstream.sinks._hooks import HOOKS, Hook, Hooks, StreamMetadata, set_hooks
from rxstream.sinks._observing import Observing
from rxstream.sinks._policy import HandlerFigures, HandlerPolicy

__all__ = ["HandlerFigures", "HandlerPolicy", "StreamHandler", "StreamMetadata", "as_handler"]

_RX = ("on_next", "on_error", "on_completed")
_SHORT = {"on_start": "on_stream_start", "on_token": "on_token_received", "on_complete": "on_stream_complete"}
"""What a `CallbackStreamHandler` calls them."""
_NEAR = 0.85
"""How alike two names are of which one is misspelt."""


class StreamHandler(Hooks, abc.ObserverBase[Event]):
    """Base of your own handlers: override what you want to be told of, with plain or coroutine functions.

    A stream takes one (``stream.subscribe(handler)``, ``stream.start(handler)``), and so does any other Observable of events,
    one at a time; a `rxstream.StreamManager` takes many. ``super().__init__()`` need not be called. A method whose name is nearly one
    of these is refused when the class is made: it would never be called.

    Example:
        >>> import rxstream
        >>> class Printer(rxstream.StreamHandler):
        ...     def on_token_received(self, token, index):
        ...         print(index, repr(token))
        ...     def on_stream_complete(self, full_response):
        ...         print("all of it:", full_response.text)
        >>> _ = rxstream.from_iterable(["to ", "be"]).start(Printer()).result()
        0 'to '
        1 'be'
        all of it: to be
    """

    _observing: Observing | None = None

    def __init_subclass__(cls) -> None:
        """Refuse a method that would never be called, because it is not called what it should be."""
        super().__init_subclass__()
        for name, method in vars(cls).items():
            if name in HOOKS or name in _RX or name.startswith("_") or not callable(method):
                continue
            near = get_close_matches(name, HOOKS, n=1, cutoff=_NEAR)
            if meant := _SHORT.get(name) or next(iter(near), None):
                raise ConfigurationError(f"{cls.__name__}.{name}: a handler has no such method; do you mean {meant}?")

    def on_next(self, value: Event) -> None:
        """As an observer of Rx: the stream starts, or goes on. What you raise is logged."""
        self._observe(lambda observing: observing.on_next(value))

    def on_error(self, error: Exception) -> None:
        """As an observer of Rx: the stream has failed; you may be subscribed again."""
        self._observe(lambda observing: observing.on_error(error), last=True)

    def on_completed(self) -> None:
        """As an observer of Rx: the stream is complete; you may be subscribed again."""
        self._observe(Observing.on_completed, last=True)

    def _observe(self, tell: Callable[[Observing], object], *, last: bool = False) -> None:
        observing = self._observing
        if observing is None:
            observing = self._observing = Observing(self, StreamMetadata(), LoopScheduler(), policy=HandlerPolicy())
            observing.start()
        if last:
            self._observing = None
        tell(observing)


class _Adapted(StreamHandler):
    """A handler made of somebody's functions."""

    def __init__(self, told: object, methods: dict[str, Hook]) -> None:
        set_hooks(self, methods)
        self._told = told
        self.__name__ = getattr(told, "__name__", type(told).__name__)

    def __repr__(self) -> str:
        return f"as_handler({self._told!r})"


def as_handler(told: object) -> StreamHandler:
    """`told` as a handler; itself if it is one.

    Example:
        >>> import rxstream
        >>> events = []
        >>> handler = as_handler(events.append)
        >>> _ = rxstream.from_iterable(["to be"]).start(handler).result()
        >>> [type(event).__name__ for event in events]
        ['Started', 'TextDelta', 'Finished']

    Args:
        told: A `StreamHandler`; any object that has some of its methods; an observer of Rx, told of events and the end; or a
            function of one event, a plain or a coroutine function.

    Raises:
        ConfigurationError: it is none of these.
    """
    if isinstance(told, StreamHandler):
        return told
    if isinstance(told, type):
        raise ConfigurationError(f"handler={show(told)}: must be an instance, not the class itself")
    methods: dict[str, Hook] = {}
    if all(callable(getattr(told, name, None)) for name in _RX):
        methods.update(_of_observer(told))
    names = ("for_stream", *HOOKS)
    methods.update({name: getattr(told, name) for name in names if callable(getattr(told, name, None))})
    if not methods and callable(told):
        methods["on_event"] = told
    if not methods:
        raise ConfigurationError(
            f"handler={show(told)}: must be a StreamHandler, an object with some of its methods ({', '.join(HOOKS[:4])} …), "
            "an observer of Rx, or a function of an event"
        )
    return _Adapted(told, methods)


def _of_observer(observer: Any) -> dict[str, Hook]:
    def complete(_response: object) -> Any:
        return observer.on_completed()

    return {"on_event": observer.on_next, "on_stream_error": observer.on_error, "on_stream_complete": complete}
