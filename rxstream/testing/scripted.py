"""A source that follows a script, and keeps a record of what was done with it.

A script is a list of steps: a number is a wait in seconds; a string is a piece of text; an event is itself; a tuple of
those comes in one piece; a `StreamError` within a piece is the decoder's failure after what stands before it; an
exception that is none, and one from `raising`, is raised by the body; a function is called; `HANG` never comes. A body
that has no more steps has ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn

from reactivex import Observable, abc

from rxstream._check import show
from rxstream.config import Timeouts
from rxstream.errors import ConfigurationError, StreamError, StreamIncomplete
from rxstream.events import Event, EventBase, Finished, TextDelta
from rxstream.loop import running_loop
from rxstream.sources._pump import pump
from rxstream.sources._source import Source

__all__ = ["DONE", "HANG", "Item", "Piece", "Recorder", "Scripted", "Step", "numbered", "raising", "words"]


class _Hang:
    def __repr__(self) -> str:
        return "HANG"


HANG: Final = _Hang()
DONE: Final = Finished(reason="stop")

Item = str | Event | StreamError
Piece = tuple[Item, ...]
Step = float | Item | Piece | BaseException | _Hang | Callable[[], object]


def words(*texts: str, every: float = 1.0) -> list[Step]:
    """The texts, one every so many seconds, and the end with the last."""
    steps: list[Step] = []
    for text in texts:
        steps += [every, text]
    return [*steps, DONE]


def numbered(count: int) -> list[Step]:
    """`count` texts "0 ", "1 " … without any wait, and the end."""
    return [*(f"{number} " for number in range(count)), DONE]


class raising:  # noqa: N801 - a step, written as the others are
    """A step at which the body itself raises `error`."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self) -> NoReturn:
        """Raise it."""
        raise self._error

    def __repr__(self) -> str:
        return f"raising({self._error!r})"


class _Decoder:
    """Pieces are events already."""

    def __init__(self) -> None:
        self.finished = False
        self.failure: StreamError | None = None

    def feed(self, data: Piece, /) -> list[Event]:
        if self.failure is not None:
            raise self.failure
        events: list[Event] = []
        for item in data:
            if isinstance(item, StreamError):
                if not events:
                    raise item
                self.failure = item
                break
            event = TextDelta(text=item) if isinstance(item, str) else item
            self.finished = self.finished or isinstance(event, Finished)
            events.append(event)
        return events

    def close(self) -> list[Event]:
        if not self.finished:
            raise StreamIncomplete("the body ended without its mark")
        return []


class Scripted:
    """A source that follows steps, and what was done with it.

    Args:
        steps: What the body gives.
        connect: Steps before the response: waits, an exception, `HANG`, functions to call.
        drain: Seconds that the rest of the body takes; None for a body that has no such thing.

    Example:
        >>> from rxstream.observable import Stream
        >>> script = Scripted(["Why ", "not?", DONE])
        >>> Stream.of(script.events()).run().text
        'Why not?'
        >>> script.opened
        1
    """

    def __init__(self, steps: Sequence[Step], *, connect: Sequence[Step] = (), drain: float | None = None) -> None:
        self._steps = steps
        self._connect = connect
        self._drain = drain
        self.opened = 0
        """How often it was opened."""
        self.closed = 0
        """… and closed to the end, without being interrupted at it."""
        self.reads = 0
        """How often a piece was asked for."""
        self.given = 0
        """How many pieces were given."""
        self.drained = 0
        """How often its rest was read to the end."""
        self.seen: list[Any] = []
        """What the functions among the steps returned."""
        self.on_close: Callable[[], object] = _nothing
        """Called when it is closed."""

    def source(
        self,
        *,
        timeouts: Timeouts | None = None,
        read_ahead: int = 0,
        keep_partial: bool = True,
        label: str = "",
        provider: str = "",
        model: str = "",
    ) -> Source[Piece]:
        """What rxstream's pump makes an Observable of; no clock runs unless `timeouts` says so."""
        return Source(
            open=self._open,
            decoder=_Decoder,
            label=label,
            provider=provider,
            model=model,
            timeouts=timeouts if timeouts is not None else _NEVER,
            read_ahead=read_ahead,
            keep_partial=keep_partial,
        )

    def events(self, *, timeouts: Timeouts | None = None, read_ahead: int = 0) -> Observable[Event]:
        """The Observable of a plain source."""
        return pump(self.source(timeouts=timeouts, read_ahead=read_ahead))

    @property
    def running(self) -> int:
        """Connections that are open."""
        return self.opened - self.closed

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[AsyncIterator[Piece]]:
        self.opened += 1
        try:
            for step in self._connect:
                await self._follow(step)
            body = _Body(self, self._steps, self._follow)
            yield body if self._drain is None else _Draining(self, body, self._drain)
        finally:
            await asyncio.sleep(0)  # closing a socket is not done in one go: what interrupts it shows
            await asyncio.sleep(0)
            self.closed += 1
            self.on_close()

    async def _follow(self, step: Step) -> Piece | None:
        match step:
            case float() | int():
                await asyncio.sleep(step)
                return None
            case _Hang():
                await asyncio.Event().wait()
                return None
            case StreamError() | str() | EventBase():
                return (step,)
            case BaseException():
                raise step
            case tuple():
                return step
            case _ if callable(step):
                self.seen.append(step())
                return None
            case _:
                raise ConfigurationError(f"steps: {show(step)} is none; see `rxstream.testing.scripted`")


_NEVER = Timeouts(connect=None, first_event=None, first_output=None, idle=None)


class _Body:
    """What the source reads; it writes down how far."""

    def __init__(
        self, script: Scripted, steps: Sequence[Step], follow: Callable[[Step], Awaitable[Piece | None]]
    ) -> None:
        self._script = script
        self._steps = iter(steps)
        self._follow = follow

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    async def __anext__(self) -> Piece:
        self._script.reads += 1
        for step in self._steps:
            piece = await self._follow(step)
            if piece is not None:
                self._script.given += 1
                return piece
        raise StopAsyncIteration


class _Draining:
    """A body whose rest can be read."""

    def __init__(self, script: Scripted, body: _Body, seconds: float) -> None:
        self._script = script
        self._body = body
        self._seconds = seconds

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    async def __anext__(self) -> Piece:
        return await self._body.__anext__()

    async def drain(self) -> None:
        await asyncio.sleep(self._seconds)
        self._script.drained += 1


class Recorder(abc.ObserverBase[Any]):
    """An observer that writes down what comes, and when: by the loop's clock, or the machine's. After the end it raises."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        """What came."""
        self.times: list[float] = []
        """… and when."""
        self.error: Exception | None = None
        self.completed = False
        self.ended_at: float | None = None
        self.and_then: Callable[[Any], object] = _nothing
        """What else to do with each item."""

    def on_next(self, value: Any) -> None:
        """An item."""
        self._still(value)
        self.items.append(value)
        self.times.append(_now())
        self.and_then(value)

    def on_error(self, error: Exception) -> None:
        """The end."""
        self._still(error)
        self.error, self.ended_at = error, _now()

    def on_completed(self) -> None:
        """The end."""
        self._still("on_completed()")
        self.completed, self.ended_at = True, _now()

    @property
    def texts(self) -> list[str]:
        """The texts of the events that came."""
        return [item.text for item in self.items if isinstance(item, TextDelta)]

    def _still(self, signal: object) -> None:
        if self.ended_at is not None:
            raise AssertionError(f"{signal!r} came after the end")


def _nothing(_item: object = None) -> None:
    """Nothing else to do."""


def _now() -> float:
    loop = running_loop()
    return time.monotonic() if loop is None else loop.time()
