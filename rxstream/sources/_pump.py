"""The pump: one subscription, one request, one task that owns all its I/O.

The only place where loops, tasks, gates and disposal meet. Rules of this module:

* Cold: nothing happens before `subscribe`; each subscription opens its own connection and closes it, whatever happens.
* The gate is asked before every event and before every read. While it is closed, bytes are still read into a bounded
  buffer, so that the connection does not die of a short pause; a source of what is made on demand reads nothing ahead.
* The provider's mark completes the stream, not the end of the body. A body that ends without it is an error.
* Nothing received is lost: what came before an error is delivered first, and the error holds the answer so far.
* A saturated stream lets the loop breathe every few milliseconds.
* No user code runs inside a generator of ours; what an observer raises comes back to it as ``on_error``.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxstream.aggregate import Aggregator
from rxstream.config import Timeouts
from rxstream.errors import Cancelled, ConfigurationError, LimitExceeded, ServerFault, StreamError, TimedOut
from rxstream.events import CONTENT_EVENTS, Event, Phase, ToolCallDelta, ToolCallStart
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler, call_on
from rxstream.sources._watchdog import Watchdog

__all__ = ["Feed", "Source", "pump"]

D = TypeVar("D")
_stamp = msgspec.structs.replace
_CONTENT = frozenset(CONTENT_EVENTS)
_BREATH = 0.005
"""Seconds that a saturated stream may hold the loop."""
_BURST = 64
"""Events that it may emit before it looks at the clock."""


class Feed(Protocol[D]):
    """A `rxstream.typing.Decoder` of any kind of data."""

    @property
    def finished(self) -> bool: ...  # noqa: D102 - as Decoder
    @property
    def failure(self) -> StreamError | None: ...  # noqa: D102
    def feed(self, data: D, /) -> list[Event]: ...  # noqa: D102
    def close(self) -> list[Event]: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Source(Generic[D]):
    """Where events come from: how to open it, how to decode it, and what to call it."""

    open: Callable[[], AbstractAsyncContextManager[AsyncIterator[D]]]
    """Entered once a subscription: sends the request, gives the data, closes the connection."""
    decoder: Callable[[], Feed[D]]
    label: str = ""
    provider: str = ""
    model: str = ""
    timeouts: Timeouts = field(default_factory=Timeouts)
    read_ahead: int = 0
    """How much to read while the gate is closed, in bytes (``len`` of the data); 0 for what is made on demand."""
    max_events: int | None = None
    """How many events one subscription may have, or None for no limit."""
    keep_partial: bool = True
    """Whether errors hold the answer so far; without it memory stays constant however long the stream."""


def pump(source: Source[Any]) -> Observable[Event]:
    """The cold Observable of `source`'s events."""

    def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        on = scheduler if isinstance(scheduler, LoopScheduler) else LoopScheduler()
        return _Pump(source, observer, on.loop, on.gate).start()

    return Observable(subscribe)


class _Pump(Generic[D]):
    """One subscription at work."""

    def __init__(
        self, source: Source[D], observer: abc.ObserverBase[Event], loop: asyncio.AbstractEventLoop, gate: Gate
    ) -> None:
        self._source = source
        self._observer = observer
        self._loop = loop
        self._gate = gate
        self._decoder = source.decoder()
        self._aggregator = Aggregator() if source.keep_partial else None
        self._watchdog = Watchdog(loop, source.timeouts, self._expire)
        self._task: asyncio.Task[None] | None = None
        self._disposed = False
        self._over = False
        self._timed_out: TimedOut | None = None
        self._seq = 0
        self._phase: Phase = "request"
        self._last_content: type | None = None
        self._breathed = 0.0
        self._ahead: deque[D] = deque()
        self._reading: asyncio.Task[D | None] | None = None

    # --- the subscriber's side, any thread -------------------------------------------------------------------------

    def start(self) -> abc.DisposableBase:
        if self._loop.is_closed():
            self._raise(ConfigurationError("the event loop to run the stream on is closed; subscribe on a running one"))
        context = contextvars.copy_context()

        def create() -> None:
            if not self._disposed:
                self._task = self._loop.create_task(self._run(), context=context)

        call_on(self._loop, create)
        return Disposable(self.dispose)

    def dispose(self) -> None:
        self._disposed = True
        call_on(self._loop, self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self._over:
            self._task.cancel()

    def _expire(self, error: TimedOut) -> None:
        self._timed_out = error
        self._cancel()

    # --- the task ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            self._watchdog.start()
            self._phase = "connect"
            async with self._source.open() as body:
                self._phase = "first_event"
                self._watchdog.connected()
                try:
                    await self._read_to_end(body)
                    await self._open_gate(body)
                    self._complete()
                    await _drain(body)
                finally:
                    await self._stop_reading()
        except asyncio.CancelledError:
            await self._cancelled()
        except StreamError as error:
            await self._fail(error)
        except ConfigurationError as error:
            self._raise(error)
        except Exception as error:  # noqa: BLE001 - the source's own code, or the observer's on_completed
            await self._fail(_fault(error))
        finally:
            self._watchdog.stop()

    async def _read_to_end(self, body: AsyncIterator[D]) -> None:
        decoder, gate = self._decoder, self._gate
        while not decoder.finished:
            if gate.closed:
                await self._open_gate(body)
            data = await self._next(body)
            events = decoder.close() if data is None else decoder.feed(data)
            if events:
                await self._deliver(events, body)
            if data is None or decoder.failure is not None:
                break
        if decoder.failure is not None:
            raise decoder.failure

    async def _deliver(self, events: list[Event], body: AsyncIterator[D]) -> None:
        """Hand `events` on as long as the gate is open, and let the loop breathe."""
        if self._phase == "first_event":
            self._phase = "first_output"
            self._watchdog.first_event()
        at = self._loop.time()
        done = self._emit(events, 0, at)
        while True:
            if self._loop.time() - self._breathed > _BREATH:
                await asyncio.sleep(0)
                self._breathed = self._loop.time()
            if done == len(events):
                break
            if self._gate.closed:
                await self._open_gate(body)
            done = self._emit(events, done, at)
        self._check_count()

    def _emit(self, events: list[Event], start: int, at: float) -> int:
        """Emit from `start` until the gate closes or the loop wants its turn; the index of the first that is left."""
        gate, on_next = self._gate, self._observer.on_next
        add = None if self._aggregator is None else self._aggregator.add
        label, seq = self._source.label, self._seq
        stop = min(len(events), start + _BURST)
        for index in range(start, stop):
            if gate.closed:
                return index
            event = events[index]
            kind = type(event)
            if kind in _CONTENT:
                self._watchdog.last_output = at
                if self._last_content is None:
                    self._watchdog.first_output()
                self._last_content = kind
            stamped = _stamp(event, source=label, seq=seq, at=at)
            self._seq = seq = seq + 1
            if add is not None:
                add(stamped)
            try:
                on_next(stamped)
            except Exception as error:  # noqa: BLE001 - the observer's own: it gets it back
                self._raise(error)
            if self._disposed:
                raise asyncio.CancelledError
        return stop

    def _check_count(self) -> None:
        most = self._source.max_events
        if most is not None and self._seq > most and not self._decoder.finished:
            raise LimitExceeded(f"more than {most} events (limits: events)")

    # --- reading, and waiting -----------------------------------------------------------------------------------------

    async def _next(self, body: AsyncIterator[D]) -> D | None:
        """The next data, first what was read ahead; None at the end of the body."""
        if self._ahead:
            data = self._ahead.popleft()
            self._gate.ahead -= _size(data)
            return data
        if self._reading is not None:
            reading, self._reading = self._reading, None
            return await reading
        try:
            return await body.__anext__()
        except StopAsyncIteration:
            return None

    async def _open_gate(self, body: AsyncIterator[D]) -> None:
        """Wait until the gate is open, reading ahead meanwhile as far as the bound allows."""
        if not self._gate.closed:
            return
        self._watchdog.pause()
        opened = asyncio.ensure_future(self._gate.wait())
        try:
            while not opened.done():
                await asyncio.wait(self._awaited(opened, body), return_when=asyncio.FIRST_COMPLETED)
                self._keep_what_was_read()
        finally:
            opened.cancel()
            self._watchdog.resume()

    def _awaited(self, opened: asyncio.Future[None], body: AsyncIterator[D]) -> list[asyncio.Future[Any]]:
        room = self._gate.ahead < self._source.read_ahead and not self._decoder.finished
        if self._reading is None and room:
            self._reading = asyncio.ensure_future(_read(body))
        return [opened] if self._reading is None or self._reading.done() else [opened, self._reading]

    def _keep_what_was_read(self) -> None:
        reading = self._reading
        if reading is None or not reading.done() or reading.cancelled() or reading.exception() is not None:
            return  # an error waits for its turn behind what was read before it
        data = reading.result()
        if data is not None:  # the end waits for its turn, too
            self._ahead.append(data)
            self._gate.ahead += _size(data)
            self._reading = None

    async def _stop_reading(self) -> None:
        """Nobody wants what was read ahead any more; the body may be closed only when nothing reads it."""
        self._gate.ahead -= sum(map(_size, self._ahead))
        self._ahead.clear()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
            if not self._reading.cancelled():
                self._reading.exception()  # seen: nobody is left to be told

    # --- endings ------------------------------------------------------------------------------------------------------

    def _complete(self) -> None:
        self._over = True
        self._watchdog.stop()
        if not self._disposed:
            self._observer.on_completed()

    async def _cancelled(self) -> None:
        """Disposed by the subscriber: silence. A clock ran out: its error. Else the loop is going down: say so."""
        if self._disposed or self._over:
            return
        if self._timed_out is not None:
            await self._fail(self._timed_out)
        else:
            await self._fail(Cancelled("the event loop that it ran on was shut down"))

    async def _fail(self, error: StreamError) -> None:
        """Tell the observer once the gate is open: the error, what arrived, and how far we were."""
        if self._over:  # on_completed has been called, and what it raised is its own
            _report(self._loop, error)
            return
        self._watchdog.stop()
        error.provider = error.provider or self._source.provider
        error.model = error.model or self._source.model
        error.phase = self._how_far()
        if self._aggregator is not None:
            error.partial = self._aggregator.response()
        with contextlib.suppress(asyncio.CancelledError):
            await self._gate.wait()
        self._raise(error)

    def _how_far(self) -> Phase:
        if self._decoder.finished:
            return "finish"
        if self._last_content is None:
            return self._phase
        return "tool_call" if self._last_content in (ToolCallStart, ToolCallDelta) else "output"

    def _raise(self, error: Exception) -> None:
        self._over = True
        if self._disposed:
            return
        self._disposed = True
        if isinstance(error, StreamError):
            error.__traceback__ = None  # our frames tell nothing, and hold the request
        try:
            self._observer.on_error(error)
        except Exception as raised:  # noqa: BLE001 - an observer without on_error, or one whose on_error fails
            _report(self._loop, raised)


async def _read(body: AsyncIterator[D]) -> D | None:
    try:
        return await body.__anext__()
    except StopAsyncIteration:
        return None


async def _drain(body: object) -> None:
    """Let a body that can, read the little that follows the provider's mark, so that the connection is used again."""
    drain = getattr(body, "drain", None)
    if drain is not None:
        await drain()


def _size(data: object) -> int:
    return len(data) if isinstance(data, (bytes, str)) else 1


def _fault(error: Exception) -> StreamError:
    fault = ServerFault(f"the source raised {type(error).__name__}: {error}", retryable=False)
    fault.__cause__ = error
    return fault


def _report(loop: asyncio.AbstractEventLoop, error: Exception) -> None:
    loop.call_exception_handler({"message": "an observer of a stream raised an exception", "exception": error})
