"""The pump: one subscription, one request, one task that owns all its I/O.

The only place where loops, tasks, gates and disposal meet. Rules of this module:

* Cold: nothing happens before `subscribe`; each subscription opens its own connection and closes it, whatever happens.
* The gate is asked before every event and before every read. While it is closed, bytes are still read into a bounded
  buffer, so that the connection does not die of a short pause; a source of what is made on demand reads nothing ahead.
  The clocks stand still.
* The provider's mark completes the stream, not the end of the body. A body that ends without it is an error.
* Nothing received is lost: what came before an error is delivered first, and the error holds the answer so far.
  So a clock that runs out while something is in hand ends the stream behind it, if that is not the answer's end.
* The task is cancelled at most once, and never while it closes the connection.
* A saturated stream lets the loop breathe every few milliseconds.
* No user code runs inside a generator of ours; what an observer raises comes back to it as ``on_error``.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, NoReturn, TypeVar

from msgspec.structs import replace as _stamp
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxstream._outlet import shut_down
from rxstream._watchdog import Watchdog
from rxstream.aggregate import Aggregator
from rxstream.errors import (
    ConfigurationError,
    LimitExceeded,
    LoopShutDown,
    RxstreamError,
    ServerFault,
    StreamError,
    TimedOut,
)
from rxstream.events import CONTENT_EVENTS, Event, Phase, RateLimits, Started, ToolCallDelta, ToolCallStart
from rxstream.loop import LoopScheduler, call_on, contain
from rxstream.sources._probed import probed
from rxstream.sources._source import Source
from rxstream.sources._tapped import tapped

__all__ = ["pump"]

D = TypeVar("D")
_CONTENT = frozenset(CONTENT_EVENTS)
_BREATH = 0.005
"""Seconds that a saturated stream may hold the loop."""
_BURST = 64
"""Events that it may emit before it looks at the clock."""
_running: set[asyncio.Task[None]] = set()
"""A loop holds its tasks weakly; a subscription runs until it ends or is disposed, whoever forgets it."""


def pump(source: Source[Any]) -> Observable[Event]:
    """The cold Observable of `source`'s events."""

    def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        return _Pump(source, observer, LoopScheduler.of(scheduler)).start()

    return Observable(subscribe)


class _Pump(Generic[D]):
    """One subscription at work."""

    def __init__(self, source: Source[D], observer: abc.ObserverBase[Event], on: LoopScheduler) -> None:
        self._source = source = probed(tapped(source, on.taps), on.probes)
        self._observer = observer
        self._loop = loop = on.loop
        self._gate = on.gate
        self._decoder = source.decoder()
        self._aggregator = Aggregator() if source.keep_partial else None
        self._watchdog = Watchdog(loop, source.timeouts, self._expire)
        self._task: asyncio.Task[None] | None = None
        self._over = False  # nothing more is said: all is said, or nobody listens
        self._leaving = False  # closing the connection: a cancellation now would cut that short
        self._in_hand = False  # something is read or decoded, and not delivered
        self._overdue: TimedOut | None = None  # to be told after it
        self._timed_out: TimedOut | None = None
        self._seq = 0
        self._most = sys.maxsize if source.max_events is None else source.max_events
        self._phase: Phase = "connect"
        self._fresh = True  # no event yet, or not the one that is to carry `_rate_limits`
        self._rate_limits: RateLimits | None = None
        self._last_content: type | None = None
        self._breathed = self._read_at = 0.0
        self._ahead: deque[tuple[float, D]] = deque()  # when it was read, and what
        self._reading: asyncio.Task[D | None] | None = None

    # --- the subscriber's side, any thread -------------------------------------------------------------------------

    def start(self) -> abc.DisposableBase:
        if self._loop.is_closed():
            self._tell(ConfigurationError("the event loop to run the stream on is closed; subscribe on a running one"))
        context = contextvars.copy_context()

        def create() -> None:
            if not self._over:
                self._task = self._loop.create_task(self._run(), context=context)
                _running.add(self._task)
                self._task.add_done_callback(self._done)

        call_on(self._loop, create)
        return Disposable(self.dispose)

    def dispose(self) -> None:
        self._over = True
        call_on(self._loop, self._cancel)

    def _cancel(self) -> None:
        if self._task is None or self._leaving:
            return
        if asyncio.current_task() is self._task:
            self._loop.call_soon(self._cancel)  # a handler is left by `_leave`; whatever else we may be in, like this
        else:
            self._leaving = True
            self._task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        _running.discard(task)
        _ = task.cancelled() or task.exception()  # of who ends the program: he need not hear that nobody looked at it
        if not self._over:  # the loop went down before the task had begun
            self._end(shut_down())

    def _expire(self, error: TimedOut) -> None:
        if self._in_hand:
            self._overdue = error
        else:
            self._timed_out = error
            self._cancel()

    def _gate_changed(self) -> None:
        call_on(self._loop, self._set_clocks)

    def _set_clocks(self) -> None:
        self._watchdog.set_pause(on=self._gate.closed)

    # --- the task ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._gate.watch(self._gate_changed)
        try:
            if self._source.prepare is not None:
                await self._source.prepare()
            self._watchdog.start()
            self._set_clocks()
            await self._stream()
        except asyncio.CancelledError:  # disposed; or a clock ran out; or the loop is shut down, and no gate will open
            await self._fail(self._timed_out or shut_down())
        except ConfigurationError as error:
            self._tell(error)
        except Exception as error:  # noqa: BLE001 - the source's own code may raise anything
            fault = error if isinstance(error, StreamError) else _fault(error)
            await self._fail(self._timed_out or (shut_down(fault) if self._task and self._task.cancelling() else fault))
        finally:
            self._gate.unwatch(self._gate_changed)
            self._watchdog.stop()

    async def _stream(self) -> None:
        async with self._source.open() as body:
            self._phase = "first_event"
            self._rate_limits = getattr(body, "rate_limits", None)
            self._watchdog.connected()
            try:
                if self._over:
                    self._leave()
                await self._read_to_end(body)
                self._watchdog.stop()
                await self._open_gate(body)
                self._complete()
                drain = getattr(body, "drain", None)
                if drain is not None:  # it reads the little that follows the mark: the connection is used again
                    await drain()
            finally:
                self._leaving = True
                self._watchdog.stop()
                await self._stop_reading()

    async def _read_to_end(self, body: AsyncIterator[D]) -> None:
        decoder, gate, time, pull = self._decoder, self._gate, self._loop.time, body.__anext__
        while not decoder.finished:
            if gate.closed:
                await self._open_gate(body)
            if self._in_hand:
                self._in_hand = bool(self._ahead)
                if self._overdue is not None and not self._ahead:
                    raise self._overdue
            if self._ahead or self._reading is not None:
                data = await self._next_read_ahead()
            else:
                try:
                    data = await pull()
                except StopAsyncIteration:
                    data = None
                self._read_at = time()
            events = decoder.close() if data is None else decoder.feed(data)
            if events and self._fresh:
                self._note_first(events)
            done = self._emit(events, 0)
            if done < len(events) or self._read_at - self._breathed > _BREATH:
                await self._deliver(events, done, body)
            if data is None or decoder.failure is not None:
                break
        if decoder.failure is not None:
            raise decoder.failure

    async def _deliver(self, events: list[Event], done: int, body: AsyncIterator[D]) -> None:
        """Let the loop breathe, and hand on what is left of `events`, as long as the gate is open."""
        self._in_hand = True
        while True:
            if self._loop.time() - self._breathed > _BREATH:
                await asyncio.sleep(0)
                self._breathed = self._loop.time()
            if done == len(events):
                return
            if self._gate.closed:
                await self._open_gate(body)
            done = self._emit(events, done)

    def _note_first(self, events: list[Event]) -> None:
        """`events` are the first, or come before the one that says what the response's headers said."""
        if self._phase == "first_event":
            self._phase = "first_output"
            self._watchdog.first_event()
        kinds = [type(event) for event in events]
        if self._rate_limits is not None and Started in kinds:
            index = kinds.index(Started)
            events[index] = _stamp(events[index], rate_limits=self._rate_limits)
        self._fresh = self._rate_limits is not None and Started not in kinds and _CONTENT.isdisjoint(kinds)

    def _emit(self, events: list[Event], start: int) -> int:
        """Emit from `start` until the gate closes or the loop wants its turn; the index of the first that is left."""
        gate, on_next = self._gate, self._observer.on_next
        add = None if self._aggregator is None else self._aggregator.add
        label, seq, at, keep_labels = self._source.label, self._seq, self._read_at, self._source.keep_labels
        content: type | None = None
        stop = min(len(events), start + _BURST, start + self._most - seq)
        if self._over:
            self._leave()  # by another thread, since the last event
        if stop == start < len(events):
            raise LimitExceeded(f"the stream has more than the {seq} events that limits.events allows")
        for index in range(start, stop):
            if gate.closed:
                stop = index
                break
            event = events[index]
            kind = type(event)
            if kind in _CONTENT:
                content = kind
            stamped = _stamp(event, source=event.source if keep_labels else label, seq=seq, at=at)
            self._seq = seq = seq + 1
            if add is not None:
                add(stamped)
            try:
                on_next(stamped)
            except BaseException as error:  # noqa: BLE001 - the observer's own: it gets it back
                self._tell(contain(error))
            if self._over:
                self._leave()
        if content is not None:
            self._note_content(content)
        return stop

    def _note_content(self, kind: type) -> None:
        """Content was delivered: for the clocks that is now, however long its observer took."""
        self._watchdog.last_output = self._loop.time()
        if self._last_content is None:
            self._watchdog.first_output()
        self._last_content = kind

    def _leave(self) -> NoReturn:
        """Nobody listens any more: go and close the connection."""
        self._leaving = True
        raise asyncio.CancelledError

    # --- reading, and waiting -----------------------------------------------------------------------------------------

    async def _next_read_ahead(self) -> D | None:
        """The next of what was read while the gate was closed; None at the end of the body."""
        if self._ahead:
            self._read_at, data = self._ahead.popleft()
            self._gate.ahead -= _size(data)
            return data
        reading, self._reading = self._reading, None
        assert reading is not None  # noqa: S101 - asked only if there is one
        read = await reading
        self._read_at = self._loop.time()
        return read

    async def _open_gate(self, body: AsyncIterator[D]) -> None:
        """Wait until the gate is open, reading ahead meanwhile as far as the bound allows."""
        while self._gate.closed:  # asked again: it may be closed in the rounds that it takes us to wake up
            opened = asyncio.ensure_future(self._gate.wait())
            try:
                while not opened.done():
                    await asyncio.wait(self._awaited(opened, body), return_when=asyncio.FIRST_COMPLETED)
                    self._keep_what_was_read()
            finally:
                opened.cancel()

    def _awaited(self, opened: asyncio.Future[None], body: AsyncIterator[D]) -> list[asyncio.Future[Any]]:
        room = self._gate.ahead < self._source.read_ahead and not self._decoder.finished and self._overdue is None
        if self._reading is None and room:
            self._reading = asyncio.ensure_future(_read(body))
        return [opened] if self._reading is None or self._reading.done() else [opened, self._reading]

    def _keep_what_was_read(self) -> None:
        reading = self._reading
        if reading is None or not reading.done() or reading.cancelled() or reading.exception() is not None:
            return  # an error waits for its turn behind what was read before it
        data = reading.result()
        if data is not None:  # the end waits for its turn, too
            self._in_hand = True
            self._ahead.append((self._loop.time(), data))
            self._gate.ahead += _size(data)
            self._reading = None

    async def _stop_reading(self) -> None:
        """Nobody wants what was read ahead any more; the body may be closed only when nothing reads it."""
        self._gate.ahead -= sum(_size(data) for _, data in self._ahead)
        self._ahead.clear()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)  # nobody is left to be told of any

    # --- endings ------------------------------------------------------------------------------------------------------

    def _complete(self) -> None:
        self._leaving = True
        if not self._over:
            self._over = True
            self._signal(self._observer.on_completed)

    async def _fail(self, error: StreamError) -> None:
        """End with `error` once the gate is open."""
        if self._over:
            return
        self._leaving = False  # the connection is closed
        if not isinstance(error, LoopShutDown):
            try:
                await self._gate.wait()
            except asyncio.CancelledError:  # disposed; or no gate will open any more
                error = shut_down(error)
        self._end(error)

    def _end(self, error: StreamError) -> None:
        """Tell, unless it is told: the error, what arrived, and how far we were."""
        if self._over:
            return
        error.provider = error.provider or self._source.provider
        error.model = error.model or self._source.model
        error.phase = self._how_far()
        if self._aggregator is not None:
            error.partial = self._aggregator.response()
        self._tell(error)

    def _how_far(self) -> Phase:
        if self._decoder.finished:
            return "finish"
        if self._last_content is None:
            return self._phase
        return "tool_call" if self._last_content in (ToolCallStart, ToolCallDelta) else "output"

    def _tell(self, error: Exception) -> None:
        if not self._over:
            self._over = self._leaving = True
            if isinstance(error, RxstreamError):
                error.__traceback__ = None  # our frames tell nothing, and hold the request
            self._signal(self._observer.on_error, error)

    def _signal(self, last: Callable[..., None], *arguments: Exception) -> None:
        """Nobody is left to be told of what the last callback raises, or that there is no ``on_error``: the loop is."""
        try:
            last(*arguments)
        except Exception as raised:  # noqa: BLE001 - the observer's own
            message = "an observer of a stream raised an exception"
            self._loop.call_exception_handler({"message": message, "exception": raised})


async def _read(body: AsyncIterator[D]) -> D | None:
    try:
        return await body.__anext__()
    except StopAsyncIteration:
        return None


def _size(data: object) -> int:
    return len(data) if isinstance(data, (bytes, str)) else 1


def _fault(error: Exception) -> StreamError:
    fault = ServerFault(f"the source raised {type(error).__name__}: {error}", retryable=False)
    fault.__cause__ = error
    return fault
