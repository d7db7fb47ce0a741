"""One stream of a manager: its session, its handlers, and what is told of it.

Rules of this module:

* All is told on the manager's loop, in one order for everybody: the board first (the manager's `events`), then the handlers.
* Nothing is told within something else's telling: what a handler does to its own stream is told when all have been told what it
  was told. What was done in another thread is told before the next event.
* The result is there when the handlers have been told; one that is slow may still have calls that wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import operator
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import reduce
from typing import Final

import msgspec
from msgspec.structs import replace
from reactivex import Observable, Subject, abc

from rxstream._check import at_least
from rxstream._log import facts, log, trace
from rxstream._outlet import MOST
from rxstream._registry import Registered
from rxstream._rests import Rest
from rxstream.errors import ConfigurationError, error_info, raisable
from rxstream.events import Event, Failed, Retrying, Started
from rxstream.loop import LoopScheduler, contain, refuse_to_block
from rxstream.manager_events import (
    Lifecycle,
    StreamEnded,
    StreamEvent,
    StreamPaused,
    StreamResumed,
    StreamStarted,
)
from rxstream.manager_statistics import StreamStatistics
from rxstream.operators import progress
from rxstream.operators._hub import Hub, Window
from rxstream.response import Response
from rxstream.session import SessionStatus, StreamSession
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks._policy import HandlerFigures
from rxstream.sinks.handler import StreamMetadata
from rxstream.usage import Usage

__all__ = ["LEGAL", "Board", "Managed"]

LEGAL: Final[Mapping[SessionStatus, frozenset[SessionStatus]]] = {
    "inactive": frozenset({"active", "cancelled", "error"}),
    "active": frozenset({"paused", "completed", "cancelled", "error"}),
    "paused": frozenset({"active", "cancelled", "error"}),
    "completed": frozenset(),
    "cancelled": frozenset(),
    "error": frozenset(),
}
"""Which status may follow which. An inactive stream fails only of the end of its loop, a paused one of
what no pause can hold back: that, or a handler."""


class Board(Hub[StreamEvent]):
    """The events of all streams, for any number of subscribers, none of which holds up the others or the streams.

    Args:
        loop: The manager's.
        replay: How many of the last events a late subscriber sees.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, replay: int) -> None:
        super().__init__(
            Observable(),
            rule=lambda _behind: False,
            window=Window(events=replay),
            most=MOST,
            refcount=False,
            final=frozenset(("completed",)),
        )
        self._loop = loop  # known from the start: nobody has to be subscribed, it is told by us
        self._replay = replay

    @property
    def members(self) -> int:
        """How many subscribers there are."""
        return len(self._members)

    @property
    def wanted(self) -> bool:
        """Whether anybody listens, or may later."""
        return bool(self._members) or self._replay > 0

    def close(self) -> None:
        """There will be no more."""
        self._finish("completed", None)


class Managed(abc.ObserverBase[Event]):
    """One stream of a manager.

    Args:
        source: Its events.
        metadata: What is known of it.
        loop: The manager's.
        board: Where its events are told.
        handlers: Gives the handlers that there are when it begins, those of other streams among them.
        ended: Called on the loop when everybody has been told that it is over.
    """

    def __init__(
        self,
        source: Observable[Event],
        metadata: StreamMetadata,
        *,
        loop: asyncio.AbstractEventLoop,
        board: Board,
        handlers: Callable[[], list[Registered]],
        ended: Callable[[Managed, Rest], object],
    ) -> None:
        self.metadata = metadata
        self.session = StreamSession(source, self, label=metadata.label, loop=loop, changed=self._changed)
        self.result: Future[Response] = Future()
        """The answer, once the handlers have been told of it."""
        self.dispatch: Dispatch | None = None
        """Its handlers, once it has begun. On the loop."""
        self._loop = loop
        self._board = board
        self._handlers = handlers
        self._ended = ended
        self._serving: set[str] = set()
        self._progress: Subject[Event] | None = None
        self._inbox: deque[tuple[SessionStatus, float] | Event] = deque()
        self._busy = self._over = False
        self._end: tuple[Exception | None] | None = None
        self._number = 0
        self._request_id = metadata.request_id
        self._requests: dict[str, str] = {}  # by the source of the events: a combination has several
        self._errors = 0
        self._queued = loop.time()
        self._begun: float | None = None
        self._context = contextvars.copy_context()  # of whoever starts it: it may wait for its turn

    # --- any thread -------------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Its id."""
        return self.metadata.stream_id

    def start(self, *, at_once: bool = False) -> None:
        """Its turn has come, or there was no need to wait for one."""
        self._begun = self._queued if at_once else self._loop.time()
        self.metadata = replace(self.metadata, started_at=time.time())
        context, self._context = self._context, contextvars.Context()
        context.run(self.session.start, waited=self._queue_time)

    def answer(self, timeout: float | None) -> Response:
        """Its result, waited for in another thread than the loop's.

        Raises:
            TimeoutError: it has not ended in `timeout` seconds.
            ConfigurationError: `timeout` is no number of seconds, or we are on the loop.
        """
        if timeout is not None:
            at_least("timeout", timeout)
        if not self.result.done():
            refuse_to_block(self._loop, "use `await manager.wait(stream_id)`")
        try:
            return self.result.result(timeout)
        except TimeoutError:
            if self.result.done():  # the stream's own
                raise
            raise TimeoutError(f"stream {self.id!r} has not ended after {timeout} s") from None

    async def wait(self) -> Response:
        """Its result, for coroutines on any loop; to give up the wait changes nothing."""
        outcome = asyncio.wrap_future(self.result)
        outcome.add_done_callback(lambda done: done.cancelled() or done.exception())  # looked at, if nobody else does
        return await asyncio.shield(outcome)

    @property
    def statistics(self) -> StreamStatistics:
        """The figures so far."""
        figures: Mapping[str, HandlerFigures] = self.dispatch.figures() if self.dispatch is not None else {}
        session = self.session.statistics
        return StreamStatistics(
            **msgspec.structs.asdict(session),
            status=self.session.status,
            started_at=self.metadata.started_at or None,
            queue_time=self._queue_time,
            errors=self._errors,
            handler_failures=sum(figure.failures for figure in figures.values()),
            dropped=sum(figure.dropped for figure in figures.values()),
            waiting=sum(figure.waiting for figure in figures.values()),
            handlers=figures,
        )

    @property
    def _queue_time(self) -> float:
        return (self._loop.time() if self._begun is None else self._begun) - self._queued

    def _changed(self, status: SessionStatus) -> None:
        """The session, under its lock: it is told in the order in which it happened, in the loop's next round."""
        self._inbox.append((status, self._loop.time()))
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self._go_on)

    # --- on the loop ------------------------------------------------------------------------------------------------------

    def add(self, registered: Registered) -> None:
        """A handler more, if it wants this stream and is not there; of a stream that has not begun it learns then."""
        if self.dispatch is not None:
            self._serve(self.dispatch, registered)

    def remove(self, handler_id: str) -> None:
        """A handler less."""
        if self.dispatch is not None:
            self.dispatch.remove(handler_id)

    def on_next(self, value: Event) -> None:
        """The session's: an event."""
        if self._inbox:
            self._go_on()
        if self._busy:  # a handler makes the source emit
            self._inbox.append(value)
        elif not self._over:
            self._busy = True
            try:
                self._deliver(value)
            finally:
                self._busy = False
                if self._inbox or self._end is not None:  # also if one handler raised and another cancelled the stream
                    self._go_on()

    def on_error(self, error: Exception) -> None:
        """The session's: the end, and not a good one."""
        self._errors += self.session.status == "error"
        self._end = (error,)
        self._go_on()

    def on_completed(self) -> None:
        """The session's: the proper end."""
        self._end = (None,)
        self._go_on()

    def _deliver(self, event: Event) -> None:
        if isinstance(event, Started):
            if not self.metadata.request_id:
                self._request_id = self._requests[event.source] = event.id
        elif isinstance(event, (Retrying, Failed)):
            self._errors += 1
        self._tell(event, event.source)
        if self.dispatch is not None:
            self.dispatch.on_next(event)
        if self._progress is not None:
            self._progress.on_next(event)

    def _go_on(self) -> None:
        """Tell what has happened, in order; not within something else's telling."""
        if self._busy:
            return
        self._busy = True
        try:
            while not self._over and (self._inbox or self._end is not None):
                if not self._inbox and self._end is not None:
                    self._finish(self._end[0])
                elif isinstance(what := self._inbox.popleft(), tuple):
                    self._change(*what)
                else:
                    self._deliver_late(what)
        finally:
            self._busy = False

    def _deliver_late(self, event: Event) -> None:
        try:
            self._deliver(event)
        except Exception as error:  # noqa: BLE001 - of a handler whose policy is that this ends the stream
            self.session.fail(error)

    def _change(self, status: SessionStatus, at: float) -> None:
        if self.dispatch is None:
            self._tell(StreamStarted(at=at, metadata=self.metadata, queue_time=self._queue_time))
            self._begin()
        elif status == "paused":
            self._tell(StreamPaused(at=at))
            self.dispatch.paused()
        else:
            self._tell(StreamResumed(at=at))
            self.dispatch.resumed()

    def _begin(self) -> Dispatch:
        scheduler = LoopScheduler(self._loop, gate=self.session.gate)
        self.dispatch = Dispatch(self.metadata, scheduler, fail=self.session.fail)
        handlers = self._handlers()
        self._handlers = list[Registered]  # it is asked once: who keeps the stream does not keep its handlers
        for registered in handlers:
            self._serve(self.dispatch, registered)
        self.dispatch.start()
        if self.dispatch.wants("on_progress"):
            self._progress = Subject()
            measured = self._progress.pipe(progress())
            measured.subscribe(self.dispatch.progress, lambda _error: None, scheduler=scheduler)
        return self.dispatch

    def _serve(self, dispatch: Dispatch, registered: Registered) -> None:
        if registered.id in self._serving or self._over:
            return
        try:
            wanted = registered.wants(self.metadata)
        except BaseException as raised:  # noqa: BLE001 - the user's own function
            error = contain(raised)
            told = facts("callback-raised", error=error, handler=registered.id)
            log.error("what says which streams %s is for raised", registered.id, exc_info=trace(error), extra=told)
            return
        if wanted:
            self._serving.add(registered.id)
            dispatch.add(registered.id, registered.handler, registered.policy)

    def _finish(self, error: Exception | None) -> None:
        dispatch = self.dispatch or self._begin()  # who waits for the stream learns that it will not come
        self._over = True
        self._begun = self._loop.time() if self._begun is None else self._begun  # it waits no more
        response = None
        if error is None:
            try:
                response = _whole(self.session)
            except Exception as failed:  # noqa: BLE001 - whatever it is, somebody waits
                error = failed
        with contextlib.ExitStack() as rest:  # the last first, and each, also if one ends the program
            rest.callback(self._give, response, error)
            rest.callback(lambda: self._ended(self, Rest.of(self.session.gate, dispatch)))
            rest.callback(self._tell_end, dispatch, response, error)
            told = None if error is None else error_info(error)
            self._tell(StreamEnded(at=self._loop.time(), status=self.session.status, error=told))

    def _tell_end(self, dispatch: Dispatch, response: Response | None, error: Exception | None) -> None:
        if self._progress is not None:
            self._progress.on_completed() if error is None else self._progress.on_error(error)
        if response is not None:
            dispatch.on_completed(response)
        elif error is not None:
            dispatch.on_error(error)

    def _give(self, response: Response | None, error: Exception | None) -> None:
        if response is not None:
            self.result.set_result(response)
        elif error is not None:
            self.result.set_exception(raisable(error))

    def _tell(self, event: Event | Lifecycle, source: str = "") -> None:
        number = self._number
        self._number = number + 1
        if self._board.wanted:
            metadata = self.metadata
            self._board.on_next(
                StreamEvent(
                    stream_id=metadata.stream_id,
                    number=number,
                    event=event,
                    request_id=metadata.request_id or self._requests.get(source, "" if source else self._request_id),
                    parent_id=metadata.parent_id,
                    trace_id=metadata.trace_id,
                )
            )


def _whole(session: StreamSession) -> Response:
    """The answer; of a combination of tracks all of theirs, each as one choice, in the order in which they began."""
    try:
        return session.partial
    except ConfigurationError:  # of several tracks
        answers = session.responses
    choices = [answer.choices[0] for answer in answers.values() if answer.choices]
    return Response(
        choices=[choice.model_copy(update={"index": number}) for number, choice in enumerate(choices)],
        usage=reduce(operator.add, (answer.usage for answer in answers.values()), Usage()),
        attempts=sum(answer.attempts for answer in answers.values()),
    )
