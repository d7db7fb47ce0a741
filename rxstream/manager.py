"""Many streams in one hand: `StreamManager`, and `APIModelManager`, which asks models.

Rules of this module:

* A manager has one loop: that which runs where it is made, else the shared one. All its streams, handlers and events are on it.
* Every method may be called from any thread, and none but `StreamManager.get_result` and `StreamManager.close` waits. Those that
  change a stream return whether they did: only legal transitions happen, and what is over stays as it is.
* Nothing grows without a bound: streams that have ended are kept up to a number, and so are those that wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from msgspec.structs import replace
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxstream._check import at_least, count, instance
from rxstream._intake import handlers_of, ids_of, metadata_of, stream_of, token_of
from rxstream._managed import Board, Managed
from rxstream._registry import Registered, Registry, Wanted
from rxstream._rests import Rest, Rests
from rxstream._roster import Roster
from rxstream.errors import LoopShutDown
from rxstream.loop import LoopScheduler, call_on, current_loop, running_loop
from rxstream.manager_events import StreamEvent
from rxstream.manager_statistics import ManagerStatistics, StreamStatistics
from rxstream.observable import Stream
from rxstream.segment import TextUnit
from rxstream.session import SessionStatus, StreamSession
from rxstream.sinks._lane import Caller
from rxstream.sinks._policy import HandlerPolicy, OnFailure, Slow
from rxstream.sinks.handler import StreamMetadata, as_handler
from rxstream.stream_config import StreamConfig

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["StreamManager"]

_PATIENCE: Final = 0.25
"""Seconds more than what was allowed for the loop to say that it is closed."""


class StreamManager:
    """Runs many streams: starts, pauses, resumes and cancels them, tells handlers, and knows how each of them is.

    Example:
        >>> import rxstream
        >>> told = []
        >>> with rxstream.StreamManager() as manager:
        ...     handler_id = manager.register_handler(lambda event: told.append(type(event).__name__))
        ...     stream_id = manager.start_stream(["to ", "be"])
        ...     manager.get_result(stream_id, timeout=5).text, manager.get_stream_status(stream_id)
        ('to be', 'completed')
        >>> told
        ['Started', 'TextDelta', 'TextDelta', 'Finished']

    Args:
        config: Its ``handlers`` are registered, for tokens as its ``mode`` says; its ``max_concurrent`` and ``max_waiting`` are the
            defaults of what follows. Its ``backpressure`` is about the one consumer of a stream, and no policy of a handler.
        max_streams: Streams that may run at a time; None for any number. Others wait, ``inactive``, and begin in their order.
        max_waiting: Streams that may wait, by default 1024; the next one is refused with `rxstream.errors.BulkheadFull`.
        keep: Streams that have ended whose status, result and figures are kept; the oldest are forgotten.
        replay: Events that a late subscriber of `events` sees.

    Raises:
        ConfigurationError: one of them is not as described.
    """

    def __init__(
        self,
        config: StreamConfig | None = None,
        *,
        max_streams: int | None = None,
        max_waiting: int | None = None,
        keep: int = 1000,
        replay: int = 0,
    ) -> None:
        instance("config", config, StreamConfig)
        known = config or StreamConfig()
        self.loop = current_loop()
        self._lock = threading.Lock()
        self._registry = Registry()
        self._roster = Roster(
            max_streams=known.max_concurrent if max_streams is None else max_streams,
            max_waiting=known.max_waiting if max_waiting is None else max_waiting,
            keep=keep,
        )
        self._rests = Rests()
        self._board = Board(self.loop, replay=count("replay", replay, least=0))
        self.events: Stream[StreamEvent] = Stream.of(Observable(self._listen), label="manager")
        """Everything that happens in all streams, hot, in order, to each subscriber at its own pace: it holds up nobody, and if more
        than 65 536 events wait for it, it alone ends in `rxstream.errors.LimitExceeded`, after those."""
        for handler in known.handlers:
            self.register_handler(handler, by=token_of(known))

    # --- handlers ---------------------------------------------------------------------------------------------------------

    def register_handler(
        self,
        handler: object,
        *,
        on_failure: OnFailure = "isolate",
        failures: int = 3,
        slow: Slow = "buffer",
        capacity: int = 100_000,
        thread: bool = False,
        by: Literal["delta"] | TextUnit = "delta",
        streams: Wanted = None,
    ) -> str:
        """Tell `handler` of all streams that run, from now on, and of all that will be started.

        Args:
            handler: Whatever `rxstream.sinks.handler.as_handler` takes. Where it is to keep several streams apart it overrides
                ``for_stream``.
            on_failure: See `rxstream.HandlerPolicy`, for all that follows.
            failures: After how many of them it is detached from a stream.
            slow: What happens when too many calls wait for it.
            capacity: How many may.
            thread: Whether its plain functions run in a thread of their own.
            by: What a token is.
            streams: The streams that it is for: their ids, or a function of their metadata; None is all.

        Returns:
            Its id, for `unregister_handler`.

        Raises:
            ConfigurationError: it is no handler, or an option is not as described.
        """
        told = as_handler(handler)
        policy = HandlerPolicy(
            on_failure=on_failure, failures=failures, slow=slow, capacity=capacity, thread=thread, by=by
        )
        if not (streams is None or callable(streams)):
            streams = [self._roster.find(stream_id).id for stream_id in ids_of(streams)]
        with self._lock:
            registered = self._registry.add(told, policy, streams)
        call_on(self.loop, lambda: self._serve(registered))
        return registered.id

    def unregister_handler(self, handler_id: str) -> bool:
        """Tell it nothing more, of any stream.

        Returns:
            Whether it was registered until now.

        Raises:
            UnknownHandler: this id was never given.
        """
        with self._lock:
            removed = self._registry.remove(handler_id)
        self._each(lambda managed: managed.remove(handler_id))
        return removed

    def _each(self, change: Callable[[Managed], None]) -> None:
        call_on(self.loop, lambda: [*map(change, self._roster.running)])

    def _serve(self, registered: Registered) -> None:
        if registered in self._handlers():  # it may have been unregistered on the way here
            for managed in self._roster.running:
                managed.add(registered)

    def _handlers(self) -> list[Registered]:
        with self._lock:
            return self._registry.all()

    # --- streams ----------------------------------------------------------------------------------------------------------

    def start_stream(
        self,
        source: object,
        metadata: StreamMetadata | Mapping[str, Any] | None = None,
        *,
        handlers: Iterable[object] = (),
        stream_id: str | None = None,
    ) -> str:
        """Run a stream; or have it wait for its turn.

        Args:
            source: A `rxstream.Stream`, any Observable of events, a stream that an SDK has opened, or what
                `rxstream.from_iterable` takes: an iterable or an asynchronous one, of events or pieces of text, or a function
                that makes one.
            metadata: What is known of it: a `rxstream.StreamMetadata`, or a dict of its fields, in which what is none goes
                into ``extra``. A label, and a trace (that of the parent stream, if that is one of ours), are made up where
                there are none.
            handlers: Handlers for this stream alone, told after the registered ones.
            stream_id: What to call it; by default a number is given.

        Returns:
            Its id.

        Raises:
            ConfigurationError: `source` is none of these, `stream_id` is taken, or the manager is closed.
            BulkheadFull: as many streams run, and wait, as may.
            LoopShutDown: the manager's loop was shut down.
        """
        return self._start(source, metadata, handlers, stream_id).id

    def _start(self, source: object, metadata: Any, handlers: Iterable[object], stream_id: str | None) -> Managed:
        if self.loop.is_closed():
            raise LoopShutDown("the event loop of its manager was shut down")
        events = stream_of(source)
        told = handlers_of(handlers)
        known = metadata_of(metadata, events, stream_id)

        def make(name: str, find: Callable[[str], Managed | None]) -> Managed:
            own = [Registered.own(f"{name}/{number}", handler) for number, handler in enumerate(told, 1)]
            parent = find(known.parent_id)
            trace_id = known.trace_id or (parent.metadata.trace_id if parent else uuid.uuid4().hex)
            return Managed(
                events,
                replace(known, stream_id=name, label=known.label or name, trace_id=trace_id),
                loop=self.loop,
                board=self._board,
                handlers=lambda: self._handlers() + own,
                ended=self._ended,
            )

        managed, runs = self._roster.enter(known.stream_id, make)
        if runs:
            managed.start(at_once=True)
        return managed

    def pause_stream(self, stream_id: str) -> bool:
        """Hold it; see `rxstream.StreamSession.pause`.

        Returns:
            Whether this did it: only an active stream can be paused.

        Raises:
            UnknownStream: there is none of this id.
        """
        return self._roster.find(stream_id).session.pause()

    def resume_stream(self, stream_id: str) -> bool:
        """Let it go on, where it was paused.

        Returns:
            Whether this did it: only a paused stream can be resumed.

        Raises:
            UnknownStream: there is none of this id.
        """
        return self._roster.find(stream_id).session.resume()

    def cancel_stream(self, stream_id: str, reason: str = "") -> bool:
        """Close its request now; its handlers get ``on_cancel``, then ``on_stream_error``.

        Returns:
            Whether this did it: what is over stays as it is.

        Raises:
            UnknownStream: there is none of this id.
        """
        return self._roster.find(stream_id).session.cancel(reason)

    def forget(self, stream_id: str) -> bool:
        """Keep nothing of it any more; its figures stay in `statistics`.

        Returns:
            Whether this did it: a stream that is not over is kept.

        Raises:
            UnknownStream: there is none of this id.
        """
        return self._roster.forget(stream_id)

    # --- how they are -----------------------------------------------------------------------------------------------------

    def streams(self) -> dict[str, SessionStatus]:
        """The status of each stream that it has, in the order in which they were given to it."""
        return self._roster.statuses

    def get_stream_status(self, stream_id: str) -> SessionStatus:
        """``inactive`` while it waits for its turn, ``active``, ``paused``, ``completed``, ``cancelled`` or ``error``.

        Raises:
            UnknownStream: there is none of this id.
        """
        return self._roster.find(stream_id).session.status

    def session(self, stream_id: str) -> StreamSession:
        """Its handle: what it says so far, its error, its gate.

        Raises:
            UnknownStream: there is none of this id.
        """
        return self._roster.find(stream_id).session

    def get_statistics(self, stream_id: str) -> StreamStatistics:
        """Its figures so far.

        Raises:
            UnknownStream: there is none of this id.
        """
        return self._roster.find(stream_id).statistics

    @property
    def statistics(self) -> ManagerStatistics:
        """The figures of all streams so far, forgotten ones, too."""
        return self._roster.statistics

    # --- results ----------------------------------------------------------------------------------------------------------

    def get_result(self, stream_id: str, timeout: float | None = None) -> Response:
        """Wait, at most `timeout` seconds, for its end, and give the answer; handlers with plain functions know it by then.

        Of a combination of tracks it has a choice for each track; see `rxstream.StreamSession.responses`, too.

        Raises:
            UnknownStream: there is none of this id.
            StreamError: the stream failed or was cancelled; ``partial`` holds what arrived.
            TimeoutError: it has not ended yet; it goes on.
            ConfigurationError: called on the manager's own loop; await `wait` there. Or `timeout` is no number of seconds.
        """
        return self._roster.find(stream_id).answer(timeout)

    async def wait(self, stream_id: str) -> Response:
        """`get_result` for coroutines, on any loop. Cancelling the wait does not cancel the stream.

        Raises:
            UnknownStream: there is none of this id.
            StreamError: the stream failed or was cancelled; ``partial`` holds what arrived.
        """
        return await self._roster.find(stream_id).wait()

    # --- the end ----------------------------------------------------------------------------------------------------------

    def close(self, timeout: float = 10.0) -> None:
        """Cancel all streams, those that wait, too, and complete `events`. Nothing can be started any more.

        It waits until all requests are closed and slow handlers have been told all (but for one that calls this), at most `timeout`
        seconds: what waits for them then is forgotten. On the manager's own loop it does not wait; there, await `aclose`.
        """
        closing = self._close(timeout)
        if closing is not None and running_loop() is not self.loop:
            with contextlib.suppress(TimeoutError, CancelledError):  # the loop stands still, or goes down meanwhile
                closing.result(timeout + _PATIENCE)

    async def aclose(self, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - it ends otherwise then, and raises nothing
        """`close` for coroutines, on any loop."""
        closing = self._close(timeout)
        if closing is not None:
            await asyncio.wait([asyncio.wrap_future(closing)], timeout=timeout + _PATIENCE)

    def _close(self, timeout: float) -> Future[None] | None:
        at_least("timeout", timeout)
        for managed in self._roster.close():
            managed.session.cancel("its manager was closed")
        if self.loop.is_closed() or not self.loop.is_running():
            return None
        return asyncio.run_coroutine_threadsafe(self._settle(timeout, Caller.here()), self.loop)

    async def _settle(self, timeout: float, caller: Caller) -> None:  # noqa: ASYNC109 - see aclose
        self._board.close()
        await self._rests.settled(timeout, caller)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._roster!r}>"

    # --- on the loop ------------------------------------------------------------------------------------------------------

    def _ended(self, managed: Managed, rest: Rest) -> None:
        """All have been told that it is over."""
        self._rests.add(rest)
        if isinstance(managed.session.error, LoopShutDown):  # no turn will come
            for waiting in self._roster.abandon():
                waiting.session.fail(LoopShutDown())
        if self._roster.ended(managed, managed.statistics):
            self.loop.call_soon(self._start_next)  # not here: a row of streams that end at once would pile up

    def _start_next(self) -> None:
        if (managed := self._roster.next()) is not None:
            managed.start()

    def _listen(
        self, observer: abc.ObserverBase[StreamEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        member = self._board.join(observer, LoopScheduler.of(scheduler))
        return Disposable(member.dispose if member is not None else None)
