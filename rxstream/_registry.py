"""The handlers of a manager: in the order of their registration, each with its id, its policy, and the streams it is for."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from rxstream._check import show
from rxstream.errors import UnknownHandler
from rxstream.sinks._hooks import Hooks, hooks_of
from rxstream.sinks._lane import has_coroutines
from rxstream.sinks._policy import HandlerPolicy
from rxstream.sinks.handler import StreamHandler, StreamMetadata

__all__ = ["Registered", "Registry", "Wanted", "nearest"]

_LOOKED_AT: Final = 100
"""Ids that are compared: a hundred take a few milliseconds."""

Wanted: TypeAlias = Collection[str] | Callable[[StreamMetadata], bool] | None
"""The streams that a handler is for: their ids, or a function of their metadata; None is all."""


class Registered(NamedTuple):
    """A handler as it was registered."""

    id: str
    handler: StreamHandler
    policy: HandlerPolicy
    wants: Callable[[StreamMetadata], bool]

    @classmethod
    def own(cls, id: str, handler: StreamHandler) -> Registered:  # noqa: A002 - the field's name
        """A handler that a stream has for itself."""
        return cls(id, handler, HandlerPolicy(), _wants(None))


class Registry:
    """Handlers by their ids. Whoever uses it holds the manager's lock."""

    def __init__(self) -> None:
        self._handlers: dict[str, Registered] = {}
        self._given = 0

    def add(
        self,
        handler: StreamHandler,
        policy: HandlerPolicy,
        streams: Wanted,
    ) -> Registered:
        """Register it.

        Raises:
            ConfigurationError: its coroutine functions are to run in a thread.
        """
        if getattr(handler.for_stream, "__func__", None) is Hooks.for_stream:  # it serves itself
            has_coroutines(hooks_of(handler), policy)
        self._given += 1
        id = f"handler-{self._given}"  # noqa: A001 - the field's name
        self._handlers[id] = Registered(id, handler, policy, _wants(streams))
        return self._handlers[id]

    def remove(self, id: str) -> bool:  # noqa: A002 - the field's name
        """Whether it was registered until now.

        Raises:
            UnknownHandler: there never was one of this id.
        """
        if self._handlers.pop(id, None) is not None:
            return True
        if id in (f"handler-{number}" for number in range(1, self._given + 1)):
            return False
        raise UnknownHandler(f"no handler has the id {show(id)}{nearest(id, reversed(self._handlers))}")

    def all(self) -> list[Registered]:
        """The handlers, in their order."""
        return list(self._handlers.values())


def _wants(streams: Wanted) -> Callable[[StreamMetadata], bool]:
    if streams is None:
        return lambda _metadata: True
    if callable(streams):
        return streams
    ids = frozenset(streams)
    return lambda metadata: metadata.stream_id in ids


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown id: the nearest of the first hundred `known`, if one is near."""
    near = difflib.get_close_matches(str(word), islice(known, _LOOKED_AT), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
