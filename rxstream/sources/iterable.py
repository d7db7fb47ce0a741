"""Streams made of what you have: an iterator, an asynchronous one, a function that makes one, a function that calls back.

Rules of this module:

* Pull: an item is asked for when the stream wants it, and not while its gate is closed. A model that computes in its
  iterator stops computing.
* Code that may block runs in a thread of its own, one a subscription, the same for all steps of an iterator.
* Push: what is pushed waits in a bounded buffer. A thread that pushes into a full one is held until there is room.
* Whatever way a stream ends, its iterator is closed, in the thread that ran it.
* An item is text, an event, or anything that your ``text=`` function makes one of these from. Empty text is left out.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar, cast

from rxstream._check import function, instance, kind_of
from rxstream._log import facts, log, trace
from rxstream.errors import ConfigurationError, ProtocolError
from rxstream.events import Event, EventBase, Finished, Started, TextDelta, UsageReported
from rxstream.loop import contain
from rxstream.sources._source import Source
from rxstream.sources._worker import Worker
from rxstream.usage import Usage

__all__ = ["END", "Item", "Items", "ItemsDecoder", "Maker", "Steps", "from_iterable"]

T = TypeVar("T")
Item: TypeAlias = str | Event
"""What a text source gives."""
Items: TypeAlias = Iterable[T] | AsyncIterable[T]
Maker: TypeAlias = Callable[[], Items[T] | Awaitable[Items[T]]]

END: Final = object()
"""Stands for the end where an exception cannot."""


class ItemsDecoder:
    """Turns text and events into a whole stream of events, with a beginning and an end.

    Args:
        model: Name of the model, for `Started`.
        provider: … of who provides it.
        id: … of the answer.
        usage: Token counts, or a function that knows them at the end; reported before `Finished`.
    """

    def __init__(
        self,
        *,
        model: str = "",
        provider: str = "iterable",
        id: str = "",  # noqa: A002 - the field's name
        usage: Usage | Callable[[], Usage | None] | None = None,
    ) -> None:
        self.finished = False
        self.failure: None = None
        self._started = Started(id=id, model=model, provider=provider)
        self._usage = usage
        self._begun = False

    def feed(self, data: Item, /) -> list[Event]:
        """The events that `data` is; nothing after the end.

        Raises:
            ProtocolError: it is neither text nor an event.
        """
        if self.finished:
            return []
        events: list[Event]
        if isinstance(data, str):
            events = [TextDelta(text=data)] if data else []
        elif isinstance(data, Finished):
            events = self._end(data)
        else:
            events = [_checked(data)]
        return self._begin(events) if events and not self._begun else events

    def close(self) -> list[Event]:
        """There is no more: the end, if it has not come."""
        return self.feed(Finished(reason="stop"))

    def _begin(self, events: list[Event]) -> list[Event]:
        self._begun = True
        return events if isinstance(events[0], Started) else [self._started, *events]

    def _end(self, end: Finished) -> list[Event]:
        self.finished = True
        usage = self._usage if self._usage is None or isinstance(self._usage, Usage) else self._usage()
        return [end] if usage is None else [UsageReported(usage=usage), end]


def _checked(item: object) -> Event:
    if not isinstance(item, EventBase):
        raise ProtocolError(
            f"the source gave {kind_of(item)}, which is neither text nor an event; text= takes a function that makes it one"
        )
    return cast("Event", item)


def from_iterable(
    source: Items[T] | Maker[T],
    *,
    text: Callable[[T], Item | None] | None = None,
    model: str = "",
    provider: str = "iterable",
    id: str = "",  # noqa: A002 - the field's name
    usage: Usage | Callable[[], Usage | None] | None = None,
    label: str = "",
) -> Source[Any]:
    """A source of what an iterator gives.

    A function is called anew for every subscription, and what it made is closed at the end. A sequence is read as it is;
    any other synchronous iterable, and a function that is no coroutine function, runs in a thread of its own.

    Args:
        source: An iterable or asynchronous iterable, or a function, coroutine or not, that makes one. An iterator can be
            subscribed to once.
        text: What to make of an item; None or empty text leaves it out.
        model: Name of the model, for `Started`.
        provider: … of who provides it.
        id: … of the answer.
        usage: Token counts, or a function that knows them at the end.
        label: Name of the track.

    Raises:
        ConfigurationError: `source` is none of these. A subscriber gets it, too, where a function gave none of these, or
            an iterator is subscribed to again.
    """
    if text is not None:
        function("text", text)
    if not isinstance(usage, Usage) and usage is not None:
        function("usage", usage)
    instance("label", label, str)
    given: Any = source
    if isinstance(given, str) or not (callable(given) or isinstance(given, (Iterable, AsyncIterable))):
        raise ConfigurationError(_refusal(given))
    if isinstance(given, (Iterator, AsyncIterator)):
        given = _Once(given)
    return Source(
        open=lambda: _reading(given, text),
        decoder=lambda: ItemsDecoder(model=model, provider=provider, id=id, usage=usage),
        label=label,
        provider=provider,
        model=model,
    )


def _refusal(source: object) -> str:
    if isinstance(source, str):
        return "a string is a complete answer, not an iterable of pieces: use emulate()"
    return f"cannot make a stream of {kind_of(source)}: give an iterable, or a function that makes one"


class _Once:
    """Gives an iterator away, once."""

    def __init__(self, iterator: Any) -> None:
        self._left = [iterator]

    async def __call__(self) -> Any:
        try:
            return self._left.pop()
        except IndexError:
            raise ConfigurationError(
                "this iterator was read by an earlier subscription; give a function that makes a new one each time"
            ) from None


@asynccontextmanager
async def _reading(source: Any, text: Callable[[Any], Item | None] | None) -> AsyncGenerator[Steps]:
    """One subscription's reading of an iterable."""
    worker = Worker("rxstream-iterator")
    held: list[Any] = []
    try:
        items = await _items(source, worker, held)
        yield Steps(await _stepper(items, text, worker, held))
    finally:
        await worker.close(lambda: _close_all(held))
        await _aclose_all(held)


class Steps(AsyncIterator[Any]):
    """The iterator that the pump wants, of a coroutine function that gives an item, or `END`."""

    def __init__(self, step: Callable[[], Awaitable[Any]]) -> None:
        self._step = step

    async def __anext__(self) -> Any:
        item = await self._step()
        if item is END:
            raise StopAsyncIteration
        return item


async def _items(source: Any, worker: Worker, held: list[Any]) -> Iterable[Any] | AsyncIterable[Any]:
    """What `source` is, or makes. What it makes is held as soon as it is there, whoever still waits for it."""
    if isinstance(source, (Iterable, AsyncIterable)):
        return cast("Iterable[Any]", source)
    if inspect.iscoroutinefunction(source) or inspect.isasyncgenfunction(source) or isinstance(source, _Once):
        held.append(source())
    else:
        await worker.run(lambda: held.append(source()))
    if inspect.isawaitable(held[-1]):
        held.append(await held[-1])
    made: Any = held[-1]
    if isinstance(made, str) or not isinstance(made, (Iterable, AsyncIterable)):
        raise ConfigurationError(_refusal(made))
    return cast("Iterable[Any]", made)


async def _stepper(
    items: Iterable[Any] | AsyncIterable[Any],
    text: Callable[[Any], Item | None] | None,
    worker: Worker,
    held: list[Any],
) -> Callable[[], Awaitable[Any]]:
    """What gives the next item."""

    def shaped(item: Any) -> Any:
        return item if text is None or item is END else text(item) or ""

    if isinstance(items, AsyncIterable):
        source = aiter(items)
        held.append(source)

        async def step() -> Any:
            try:
                return shaped(await anext(source))
            except StopAsyncIteration:
                return END
            except (asyncio.CancelledError, SystemExit, KeyboardInterrupt) as raised:
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # it is we who are left
                    raise
                raise contain(raised) from raised

        return step

    if isinstance(items, Sequence):
        sequence = iter(items)

        async def step_here() -> Any:
            return shaped(next(sequence, END))

        return step_here

    await worker.run(lambda: held.append(iter(items)))
    iterator: Iterator[Any] = held[-1]
    return lambda: worker.run(lambda: shaped(next(iterator, END)))


def _close_all(held: list[Any]) -> None:
    """In the worker's thread: close what is closed by a plain call, the last first."""
    for thing in reversed(held):
        if not _is_async(thing) and (close := getattr(thing, "close", None)) is not None:
            try:
                close()
            except Exception as error:  # noqa: BLE001 - the stream has ended, and not because of this
                log.warning(
                    "closing a stream's iterator failed",
                    exc_info=trace(error),
                    extra=facts("close-failed", error=error),
                )


async def _aclose_all(held: list[Any]) -> None:
    """On the loop: close what is asynchronous; an SDK's stream has a coroutine ``close`` and no ``aclose``."""
    for thing in reversed(held):
        if _is_async(thing):
            close = getattr(thing, "aclose", None) or getattr(thing, "close", None)
            try:
                closed = None if close is None else close()
                if inspect.isawaitable(closed):
                    await closed
            except Exception as error:  # noqa: BLE001 - the stream has ended, and not because of this
                log.warning(
                    "closing a stream's iterator failed",
                    exc_info=trace(error),
                    extra=facts("close-failed", error=error),
                )


def _is_async(thing: object) -> bool:
    return isinstance(thing, AsyncIterable)
