"""How a model is asked again: what `rxstream.stream` knows of the model behind it.

Rules of this module:

* A conversation's requests have all of the stream's clocks but ``total``, which is for all of them together.
* Asked anew, the answer that was begun before is left: at the provider, too, where it would run on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from reactivex import Observable, abc

from rxstream._asking import Continuation, Conversation, ModelKey
from rxstream.config import Request
from rxstream.events import Event
from rxstream.providers import Cursor, Provider
from rxstream.sources._body import Body
from rxstream.sources._continuation import continued, tokens_of
from rxstream.sources._line import ByteLine, EventLine, Line
from rxstream.sources._pump import pump
from rxstream.sources._source import Source
from rxstream.sources.sdk import Connection, open_stream

__all__ = ["ModelAsking", "asked"]

_LINES: Final[dict[Cursor, type[Line]]] = {"bytes": ByteLine, "events": EventLine}


@dataclass(frozen=True, kw_only=True)
class ModelAsking:
    """What is known of one request to one model. See `rxstream._asking.Asking`."""

    request: Request
    provider: Provider
    connect: Callable[[], Awaitable[Connection]] = field(repr=False)
    """Gives the connection, with what the environment says then."""
    address: Callable[[], str] = field(repr=False)
    """Its base URL; empty for the server of this process."""
    source: Source[bytes]
    """The answer to the request, asked once."""

    @property
    def key(self) -> ModelKey:
        """Who is asked; without what may be a key in the URL."""
        return ModelKey(self.provider.name, self.request.model, _public(self.address()))

    @property
    def tokens(self) -> int:
        """What the request may use at the most, estimated."""
        return tokens_of(self.request, self.provider)

    @property
    def total(self) -> float | None:
        """The clock for all attempts together."""
        return None if self.source.timeouts is None else self.source.timeouts.total

    @property
    def resumable(self) -> bool:
        """Whether the provider keeps answers, and the request does not forbid it."""
        forbids = any(self.request.extra.get(name) is False for name in ("background", "store"))
        return self.provider.cursor == "bytes" or (self.provider.cursor == "events" and not forbids)

    def conversation(self, *, resumable: bool) -> Conversation:
        """A new one."""
        return _Conversation(self, _LINES[self.provider.cursor] if resumable and self.provider.cursor else None)


class _Conversation:
    def __init__(self, asking: ModelAsking, line: type[Line] | None) -> None:
        self._asking = asking
        self._kind = line
        self._line: Line | None = None
        clocks = asking.source.timeouts
        one = None if clocks is None else clocks.model_copy(update={"total": None})
        self._source = replace(asking.source, timeouts=one)

    def ask(self) -> Observable[Event]:
        self.close()
        return self._answer(self._asking.request)

    def resume(self) -> Observable[Event] | None:
        return None if self._line is None else self._line.rest()

    def go_on(self, text: str) -> Continuation | str:
        request = continued(self._asking.request, self._asking.provider, text)
        if isinstance(request, str):
            return request
        self.close()
        return Continuation(self._answer(request[0]), request[1])

    def close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.leave()

    def _answer(self, request: Request) -> Observable[Event]:
        connect, kind, source = self._asking.connect, self._kind, replace(self._source, asks=request)
        if kind is None:
            return pump(replace(source, open=partial(asked, request, connect)))

        def subscribe(
            observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            self.close()  # of a subscription before this one
            self._line = kind(request, connect, source)
            return self._line.first().subscribe(observer, scheduler=scheduler)

        return Observable(subscribe)


@asynccontextmanager
async def asked(request: Request, connect: Callable[[], Awaitable[Connection]]) -> AsyncGenerator[Body]:
    """The body of the answer to `request`."""
    async with open_stream(request, await connect()) as body:
        yield body


def _public(url: str) -> str:
    """The URL without a user, a password, and what follows its path."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")
