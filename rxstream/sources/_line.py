"""One answer over several connections: a decoder that is carried over, and how far it has come.

Rules of this module:

* The decoder of the first request goes on with the bytes of the next: parts keep their numbers, half-read data its half.
* An event that was decoded but not given, because its connection's stream failed in between, is given by the next one.
* The end of a body that is no end of the answer is a cut, and leaves the decoder as it was.
* What the provider still works on when nobody wants it any more is called off there.
"""

from __future__ import annotations

import asyncio
import copy
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from reactivex import Observable, abc

from rxstream.config import Request
from rxstream.errors import ConnectError, SequenceGap, StreamError
from rxstream.events import Event, Started
from rxstream.providers.openai_responses.decode import ResponsesDecoder
from rxstream.sources import _farewell
from rxstream.sources._pump import pump
from rxstream.sources._source import Feed, Source
from rxstream.sources.sdk import Connection, call_off, open_rest, open_stream

__all__ = ["ByteLine", "EventLine", "Line"]

_CONVERSATION: Final = "X-Conversation-Id"


class Line(ABC):
    """One answer, however many connections it takes. To each of its pumps it is the decoder.

    Args:
        request: What is asked.
        connect: Gives the connection.
        source: The source of such answers, as it is without a cursor.
    """

    def __init__(self, request: Request, connect: Callable[[], Awaitable[Connection]], source: Source[bytes]) -> None:
        self._request = request
        self._connect = connect
        self._source = source
        self._decoder: Feed[bytes] = source.decoder()
        self._connection: Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun = False  # the provider may be at work on it
        self._opened = False
        self._cut: StreamError | None = None  # the body ended, and the answer did not
        self._bytes = 0  # that the decoder has read
        self._decoded = 0  # events
        self._given = 0
        self._last: list[Event] = []  # the events decoded last
        self._waiting: list[Event] = []  # those of them that were not given

    # --- for those who hold the conversation ------------------------------------------------------------------------

    def first(self) -> Observable[Event]:
        """The answer from its start; to be subscribed once."""
        return self._events(replace(self._source, open=self._open_first, decoder=self._as_decoder))

    def rest(self) -> Observable[Event] | None:
        """The answer from where it was cut; None where it cannot be had."""
        answered = self._opened or self._bytes > 0  # read from a recording, it was opened elsewhere
        if not answered or not self._has_cursor():
            return None
        source = self._source
        left = None if source.max_events is None else max(0, source.max_events - self._given)
        changed = replace(source, open=self._open_rest, decoder=self._as_decoder, prepare=None, max_events=left)
        return self._events(changed)

    def leave(self) -> None:
        """Nobody wants the answer any more."""
        if not self._begun or self._loop is None or self._connection is None or self._decoder.finished:
            return
        call = self._farewell(self._connection)
        if call is not None:
            _farewell.say(self._loop, call)

    # --- what each kind of cursor is --------------------------------------------------------------------------------

    @abstractmethod
    def _asked(self) -> Request:
        """The request, such that its answer is kept."""

    @abstractmethod
    def _has_cursor(self) -> bool:
        """Whether the provider can be asked for the rest."""

    @abstractmethod
    def _remainder(self, connection: Connection) -> tuple[str, dict[str, object]]:
        """Where the rest is: path and query."""

    @abstractmethod
    def _farewell(self, connection: Connection) -> Callable[[], Awaitable[object]] | None:
        """The call that ends the work on the answer; None where there is nothing to end."""

    # --- the source of each request ---------------------------------------------------------------------------------

    def _as_decoder(self) -> Feed[bytes]:
        return self

    def _events(self, source: Source[bytes]) -> Observable[Event]:
        answer = pump(source)

        def subscribe(
            observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            self._take_up()

            def on_next(event: Event) -> None:
                self._given += 1
                observer.on_next(event)

            return answer.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Observable(subscribe)

    def _take_up(self) -> None:
        """Another connection begins."""
        self._cut = None
        missing = self._decoded - self._given
        self._waiting = self._last[len(self._last) - missing :] if missing else []
        self._decoded = self._given

    @asynccontextmanager
    async def _open_first(self) -> AsyncGenerator[AsyncIterator[bytes], None]:
        self._loop = asyncio.get_running_loop()
        self._connection = await self._connect()
        self._begun = True
        try:
            async with open_stream(self._asked(), self._connection) as body:
                self._opened = True
                yield body
        except StreamError as error:
            if not self._opened:
                self._begun = isinstance(error, ConnectError)  # any other is an answer: no
            raise

    @asynccontextmanager
    async def _open_rest(self) -> AsyncGenerator[AsyncIterator[bytes], None]:
        assert self._connection is not None  # noqa: S101 - for type checkers: the first request had one
        if self._decoder.finished:  # all is here
            yield _Nothing()
            return
        most = self._connection.max_bytes
        connection = replace(self._connection, max_bytes=None if most is None else max(0, most - self._bytes))
        path, query = self._remainder(connection)
        async with open_rest(path, query, request=self._request, connection=connection) as body:
            yield body

    # --- the decoder ------------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, and nothing of it waits."""
        return self._decoder.finished and not self._waiting

    @property
    def failure(self) -> StreamError | None:
        """As the decoder's; or that the body was cut."""
        return self._cut or self._decoder.failure

    def feed(self, data: bytes, /) -> list[Event]:
        """The events that `data` completes, after those that wait."""
        self._bytes += len(data)
        try:
            events = self._decoder.feed(data)
        except StreamError:
            if not self._waiting:
                raise
            events = []  # it says so in `failure`, too
        return self._hand_out(events)

    def close(self) -> list[Event]:
        """The body has ended: the last events, if that is the answer's end."""
        if self._decoder.finished:
            return self._hand_out([])
        ending, events = copy.deepcopy(self._decoder), list[Event]()
        try:
            events = ending.close()
            self._cut = ending.failure
        except StreamError as error:
            self._cut = error
        if self._cut is None:
            self._decoder = ending
        elif self._waiting:
            events = []
        else:
            raise self._cut
        return self._hand_out(events)

    def _hand_out(self, events: list[Event]) -> list[Event]:
        if self._waiting:
            events, self._waiting = self._waiting + events, []
        self._decoded += len(events)
        self._last = events
        return events


class ByteLine(Line):
    """llama.cpp's: an answer to which we give a name can be read again from any byte on."""

    def __init__(self, request: Request, connect: Callable[[], Awaitable[Connection]], source: Source[bytes]) -> None:
        super().__init__(request, connect, source)
        self._name = secrets.token_hex(16)

    def _asked(self) -> Request:
        headers = {
            name: value for name, value in self._request.extra_headers.items() if name.lower() != _CONVERSATION.lower()
        }
        return self._request.model_copy(update={"extra_headers": {**headers, _CONVERSATION: self._name}})

    def _has_cursor(self) -> bool:
        return self._decoder.failure is None

    def _remainder(self, connection: Connection) -> tuple[str, dict[str, object]]:
        return _stream_path(connection), {"conv_id": self._name, "from": self._bytes}

    def _farewell(self, connection: Connection) -> Callable[[], Awaitable[object]] | None:
        where, name = _stream_path(connection), {"conv_id": self._name}
        return partial(call_off, "delete", where, name, request=self._request, connection=connection)


class EventLine(Line):
    """OpenAI's: a response that is made in the background can be read again from the event after any other.

    It is stored for that, for about ten minutes: no zero data retention. Its first token takes longer.
    """

    _decoder: Any

    def __init__(self, request: Request, connect: Callable[[], Awaitable[Connection]], source: Source[bytes]) -> None:
        super().__init__(request, connect, source)
        decoder = self._decoder
        assert isinstance(decoder, ResponsesDecoder)  # noqa: S101 - the row of the provider says so
        decoder.strict = True
        self._id = ""

    def _asked(self) -> Request:
        extra = {**self._request.extra, "background": True, "store": True}
        return self._request.model_copy(update={"extra": extra})

    def _has_cursor(self) -> bool:
        failure: StreamError | None = self._decoder.failure
        known = bool(self._id) and self._decoder.cursor is not None
        return known and (failure is None or isinstance(failure, SequenceGap))

    def _take_up(self) -> None:
        super()._take_up()
        self._decoder.reconnect()

    def _hand_out(self, events: list[Event]) -> list[Event]:
        if not self._id:
            self._id = next((event.id for event in events if isinstance(event, Started)), "")
        return super()._hand_out(events)

    @property
    def _path(self) -> str:
        return f"/responses/{quote(self._id, safe='')}"

    def _remainder(self, connection: Connection) -> tuple[str, dict[str, object]]:
        del connection
        return self._path, {"stream": True, "starting_after": self._decoder.cursor}

    def _farewell(self, connection: Connection) -> Callable[[], Awaitable[object]] | None:
        if not self._id:
            return None
        return partial(call_off, "post", f"{self._path}/cancel", {}, request=self._request, connection=connection)


def _stream_path(connection: Connection) -> str:
    """It is below ``/v1``, where the base URL mostly, but not always, is."""
    return "/stream" if connection.base_url.rstrip("/").endswith("/v1") else "/v1/stream"


class _Nothing:
    """A body without a byte."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration
