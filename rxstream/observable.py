"""`Stream`: a cold Observable that can also be awaited, iterated and run.

Rules of this module:

* Each subscription is a request of its own, made when it is subscribed and closed when it is disposed.
* `Stream` is an Observable of RxPY: every operator works on it, and what a chain of operators gives is a `Stream` again.
* A subscriber who gives no scheduler gets the loop's. Awaiting and ``async for`` use the running loop; `run` and
  ``for`` block, so they use the shared loop thread and work inside a running loop too (a Jupyter cell).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from reactivex import Observable, Observer, abc
from reactivex.observable import ConnectableObservable

from rxstream._asking import Asking, asking_of
from rxstream._check import function
from rxstream._handled import start_handler, subscribe_handler
from rxstream.aggregate import Answers
from rxstream.chunk import MessageChunk
from rxstream.errors import ConfigurationError, raisable
from rxstream.events import Event, EventBase, Failed
from rxstream.loop import LoopScheduler, call_on, refuse_to_block, shared_loop
from rxstream.operators import chunks, of_type, text
from rxstream.segment import TextUnit
from rxstream.session import StreamSession
from rxstream.sinks.callback import SafeObserver, is_async, subscribe_async
from rxstream.sinks.handler import StreamHandler, as_handler
from rxstream.sinks.iterator import AsyncItems, Items

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["Stream"]

T_co = TypeVar("T_co", covariant=True)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")


class Stream(Observable[T_co]):
    """An Observable of events, or of what operators make of them.

    Made by `rxstream.stream` and its relatives, or from any Observable by `Stream.of`.
    """

    label: str = ""
    """What the track is called; the ``source`` of its events."""
    asking: Asking | None = None
    """How the model behind it can be asked again, where its events are the model's own."""

    @classmethod
    def of(cls, source: Observable[A], *, label: str = "") -> Stream[A]:
        """`source` as a Stream; itself if it is one."""
        if isinstance(source, Stream):
            return source
        # An Observable keeps its subscribe function; the subclasses that override the core have none to share.
        subscribe = source._subscribe if type(source) is Observable else source._subscribe_core
        result: Stream[A] = Stream(subscribe)
        result.label = label
        result.asking = asking_of(source)
        return result

    # --- Observable -------------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        on_next: abc.ObserverBase[T_co] | StreamHandler | Callable[[T_co], Any] | None = None,
        on_error: Callable[[Exception], Any] | None = None,
        on_completed: Callable[[], Any] | None = None,
        *,
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        """Make the request and be told of what comes.

        Callbacks run on the stream's loop and may be coroutine functions. What one of them raises ends this
        subscription and goes to its ``on_error``; without an ``on_error`` errors are logged.

        Args:
            on_next: Called with each item; or an observer or a `rxstream.StreamHandler`, and then nothing else is given.
            on_error: Called at most once, with why the stream ended without its proper end.
            on_completed: Called at most once, at the proper end.
            scheduler: Where to run; by default the running loop, or the shared one where none is running.

        Returns:
            Dispose it to close the request, from any thread.

        Raises:
            ConfigurationError: nothing of it can be called; or other callbacks are given with an observer or a handler.
        """
        handler = _handler_of(on_next, on_error, on_completed)
        if handler is not None:
            return subscribe_handler(self, handler, self.label, scheduler)
        if scheduler is not None:  # an operator, or somebody who knows what he does
            return super().subscribe(cast("Any", on_next), on_error, on_completed, scheduler=scheduler)
        if on_next is not None and hasattr(on_next, "on_next"):
            observer = cast("abc.ObserverBase[T_co]", on_next)
            on_next, on_error, on_completed = observer.on_next, observer.on_error, observer.on_completed
        callback = cast("Callable[[T_co], Any] | None", on_next)
        loop = LoopScheduler()
        if is_async(callback, on_error, on_completed):
            return subscribe_async(self, callback, on_error, on_completed, scheduler=loop)
        safe = SafeObserver(callback, on_error, on_completed)
        safe.subscription.disposable = super().subscribe(safe, scheduler=loop)
        return safe.subscription

    @overload  # type: ignore[override]  # RxPY's gives whatever the last operator gives; ours makes it a Stream
    def pipe(self) -> Stream[T_co]: ...
    @overload
    def pipe(self, op1: Callable[[Observable[T_co]], Observable[A]], /) -> Stream[A]: ...
    @overload
    def pipe(
        self, op1: Callable[[Observable[T_co]], Observable[A]], op2: Callable[[Observable[A]], Observable[B]], /
    ) -> Stream[B]: ...
    @overload
    def pipe(
        self,
        op1: Callable[[Observable[T_co]], Observable[A]],
        op2: Callable[[Observable[A]], Observable[B]],
        op3: Callable[[Observable[B]], Observable[C]],
        /,
    ) -> Stream[C]: ...
    @overload
    def pipe(
        self,
        op1: Callable[[Observable[T_co]], Observable[A]],
        op2: Callable[[Observable[A]], Observable[B]],
        op3: Callable[[Observable[B]], Observable[C]],
        op4: Callable[[Observable[C]], Observable[D]],
        /,
    ) -> Stream[D]: ...
    @overload
    def pipe(
        self,
        op1: Callable[[Observable[T_co]], Observable[A]],
        op2: Callable[[Observable[A]], Observable[B]],
        op3: Callable[[Observable[B]], Observable[C]],
        op4: Callable[[Observable[C]], Observable[D]],
        op5: Callable[[Observable[D]], Observable[E]],
        /,
    ) -> Stream[E]: ...
    @overload
    def pipe(self, *operators: Callable[[Any], Any]) -> Any: ...

    def pipe(self, *operators: Callable[[Any], Any]) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # as said above
        """Apply operators, left to right; an Observable that comes out is a `Stream` again."""
        result: Any = super().pipe(*operators)
        return Stream.of(result, label=self.label) if _is_plain(result) else result

    if TYPE_CHECKING:  # RxPY's fluent methods go through pipe: what they give is a Stream. Here are the most used.

        def map(self, mapper: Callable[[T_co], A] | None = None) -> Stream[A]:
            """See `reactivex.operators.map`."""
            ...

        def filter(self, predicate: Callable[[T_co], bool]) -> Stream[T_co]:
            """See `reactivex.operators.filter`."""
            ...

        def take(self, count: int) -> Stream[T_co]:
            """See `reactivex.operators.take`."""
            ...

    def __add__(self, other: Observable[A]) -> Stream[Any]:
        """This one, then `other`."""
        return Stream.of(super().__add__(cast("Any", other)), label=self.label)

    __iadd__ = __add__

    def __getitem__(self, key: slice | int) -> Stream[T_co]:
        """Some of the items, by their positions."""
        return Stream.of(super().__getitem__(key), label=self.label)

    # --- what people type most --------------------------------------------------------------------------------------------

    def text(self: Stream[Event], by: Literal["delta"] | TextUnit = "delta", *, choice: int = 0) -> Stream[str]:
        """The text of the answer, as it comes or in whole words, sentences …; see `rxstream.operators.text`."""
        return self.pipe(text(by, choice=choice))

    def chunks(self: Stream[Event], *, choice: int = 0) -> Stream[MessageChunk]:
        """The stream as message chunks; see `rxstream.operators.chunks`."""
        return self.pipe(chunks(choice=choice))

    def of_type(self, kind: type[A]) -> Stream[A]:
        """Only the items of type `kind`; see `rxstream.operators.of_type`."""
        return self.pipe(of_type(kind))

    def start(
        self: Stream[Event],
        on_next: abc.ObserverBase[Event] | StreamHandler | Callable[[Event], Any] | None = None,
        on_error: Callable[[Exception], Any] | None = None,
        on_completed: Callable[[], Any] | None = None,
    ) -> StreamSession:
        """Make the request and get the handle: status, pause, resume, cancel, result. See `rxstream.StreamSession`.

        Args:
            on_next: Called with each event; or an observer or a `rxstream.StreamHandler`, and then nothing else is given.
            on_error: As for `subscribe`.
            on_completed: As for `subscribe`.

        Raises:
            ConfigurationError: a callback is a coroutine function; a handler may have some. Or as for `subscribe`.
        """
        handler = _handler_of(on_next, on_error, on_completed)
        if handler is not None:
            return start_handler(self, handler, self.label)
        if on_next is not None and hasattr(on_next, "on_next"):
            observer = cast("abc.ObserverBase[Event]", on_next)
            on_next, on_error, on_completed = observer.on_next, observer.on_error, observer.on_completed
        if is_async(cast("Any", on_next), on_error, on_completed):
            raise ConfigurationError("start() takes plain callbacks; for coroutines use subscribe() or `async for`")
        told: Observer[Event] = Observer(cast("Any", on_next), on_error or _ignore, on_completed)
        return StreamSession(self, told, label=self.label).start()

    # --- its result ---------------------------------------------------------------------------------------------------------

    @overload
    def run(
        self: Stream[Event], scheduler: abc.SchedulerBase | None = None, *, timeout: float | None = None
    ) -> Response: ...
    @overload
    def run(self, scheduler: abc.SchedulerBase | None = None, *, timeout: float | None = None) -> T_co: ...
    def run(self, scheduler: abc.SchedulerBase | None = None, *, timeout: float | None = None) -> Any:
        """Make the request, wait for its end, and give the answer: for plain code and for a Jupyter cell without await.

        Ctrl-C, or running out of time, closes the request.

        Args:
            scheduler: Where to run it; by default, and best, the shared loop's.
            timeout: Seconds to wait at most; None for as long as it takes.

        Returns:
            The `Response` of a stream of events; of any other stream its last item, as Rx has it, or None.

        Raises:
            StreamError: the stream failed; ``partial`` holds what arrived.
            TimeoutError: `timeout` ran out.
            ConfigurationError: called on the shared loop's own thread, where waiting would never end; or the stream holds
                the answers of several tracks (see `rxstream.operators.responses`).
        """
        on = scheduler if isinstance(scheduler, LoopScheduler) else LoopScheduler(shared_loop())
        refuse_to_block(on.loop, "use `await`")
        outcome: Future[Any] = Future()
        subscription = _Collector().collect(self, on, outcome.set_result, outcome.set_exception)
        try:
            return outcome.result(timeout)
        finally:
            subscription.dispose()

    @overload
    def __await__(self: Stream[Event]) -> Generator[Any, None, Response]: ...
    @overload
    def __await__(self) -> Generator[Any, None, T_co]: ...
    def __await__(self) -> Generator[Any, None, Any]:
        """The answer, as `run` gives it. Cancelling the wait closes the request."""
        return self._collect().__await__()

    async def _collect(self) -> Any:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Any] = loop.create_future()

        def settle(tell: Callable[[Any], None], what: Any) -> None:
            call_on(loop, lambda: None if outcome.done() else tell(what))  # operators may end on any thread

        done, failed = partial(settle, outcome.set_result), partial(settle, outcome.set_exception)
        subscription = _Collector().collect(self, LoopScheduler(loop), done, failed)
        try:
            return await outcome
        finally:
            subscription.dispose()

    def __aiter__(self) -> AsyncIterator[T_co]:
        """The items, as they come, with backpressure; leaving the loop closes the request."""
        return AsyncItems(self)

    def __iter__(self) -> Iterator[T_co]:
        """The items, in plain code; leaving the loop closes the request."""
        return Items(self)

    def __repr__(self) -> str:
        return f"<Stream {self.label!r}>" if self.label else "<Stream>"


class _Collector:
    """The answer of a stream of events; the last item of any other."""

    def __init__(self) -> None:
        self._answers: Answers | None = None
        self._last: Any = None

    def collect(
        self,
        source: Observable[Any],
        scheduler: LoopScheduler,
        settle: Callable[[Any], Any],
        fail: Callable[[Exception], Any],
    ) -> abc.DisposableBase:
        def end() -> None:
            try:
                outcome = self._outcome()
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits
                fail(error)
            else:
                settle(outcome)

        safe: SafeObserver[Any] = SafeObserver(self._add, lambda error: fail(raisable(error)), end)
        safe.subscription.disposable = source.subscribe(safe, scheduler=scheduler)
        return safe.subscription

    def _add(self, item: Any) -> None:
        if isinstance(item, EventBase):
            if self._answers is None:
                self._answers = Answers()
            self._answers.add(cast("Event", item))
            if self._answers.count > 1 and not isinstance(item, Failed):  # all may have failed: then that is told
                self._answers.response()  # says at once, and not after the last token, that there is no one answer
        else:
            self._last = item

    def _outcome(self) -> Any:
        return self._last if self._answers is None else self._answers.response()


def _is_plain(result: Any) -> bool:
    return isinstance(result, Observable) and not isinstance(result, ConnectableObservable)


def _handler_of(on_next: object, on_error: object, on_completed: object) -> StreamHandler | None:
    """`on_next` as a handler, if it is neither a function nor another observer; and the others as they have to be."""
    observes = hasattr(on_next, "on_next")
    for name, callback in (("on_error", on_error), ("on_completed", on_completed)):
        if callback is not None:
            function(name, callback)
            if observes:
                raise ConfigurationError(
                    f"{name}: an observer, or a handler, is told by its own methods; give one or the other"
                )
    if isinstance(on_next, StreamHandler) or not (on_next is None or callable(on_next) or observes):
        return as_handler(on_next)
    return None


def _ignore(_error: Exception) -> None:
    """A session keeps its error: `StreamSession.error`, `result`."""
