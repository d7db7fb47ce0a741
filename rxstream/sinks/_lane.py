"""One handler of one stream: its methods, its policy, its figures, and the queue of one that is not called at once.

Rules of this module:

* All is done on the stream's loop; but plain functions of a handler with a thread of its own run there.
* Calls are made in order, one at a time. An end comes after all that waits, and nothing after it.
* A task lives while something waits, no longer.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import CoroutineType
from typing import Any, Final, NamedTuple

from rxstream._deltas import droppable
from rxstream._outlet import MOST, Mark
from rxstream.errors import ConfigurationError, plain_error
from rxstream.loop import LoopScheduler, call_on
from rxstream.sinks._hooks import Hook, Hooks, StreamMetadata, hooks_of
from rxstream.sinks._policy import HandlerFigures, HandlerPolicy
from rxstream.sinks.callback import call_last
from rxstream.sources._worker import Worker

__all__ = ["Caller", "Lane", "Queue", "TooSlow", "Trouble", "has_coroutines"]

_ENDS: Final = ("on_stream_complete", "on_stream_error")
_LOOSE: Final = ("on_token_received", "on_progress")
"""Calls that a policy that drops may drop; and `on_event`, where it may drop the event."""
_BREATH: Final = 0.005
"""Seconds that calls which do not wait may hold the loop."""
_BURST: Final = 8
"""Calls before it looks at the clock."""
_BATCH: Final = 64
"""Calls a trip to the thread."""

Trouble = Callable[["Lane", BaseException], object]
"""What is to be done about an exception of a handler, or about a queue that is full (`TooSlow`)."""


_NOBODY: Final = Hooks()


class TooSlow(Exception):
    """There is no room in a handler's queue. The call was not made."""


class Lane:
    """A handler that serves one stream."""

    __slots__ = ("calls", "detached", "failures", "handler", "hooks", "id", "over", "policy", "queue", "serves", "told")

    def __init__(self, handler_id: str, handler: Hooks, policy: HandlerPolicy) -> None:
        self.id = handler_id
        self.handler = handler
        self.policy = policy
        self.hooks: dict[str, Hook] = {}
        self.queue: Queue | None = None
        self.calls = 0
        """Made, or put into the queue."""
        self.failures = 0
        self.over = False
        """Whether nothing more is to be told; but the end, if that waits."""
        self.told = False
        """Whether it has been told its end."""
        self.detached = False
        self.serves = False
        """Whether it is known who serves the stream."""

    def open(self, metadata: StreamMetadata, scheduler: LoopScheduler, trouble: Trouble) -> None:
        """Find out who serves the stream, and how.

        Raises:
            ConfigurationError: coroutine functions are to run in a thread.
        """
        self.handler = self.handler.for_stream(metadata)
        hooks = hooks_of(self.handler)
        waits = has_coroutines(hooks, self.policy)
        self.hooks = hooks
        self.serves = True
        if waits or self.policy.thread:
            self._line_up(scheduler, trouble)

    def follow(self, name: str, awaited: Awaitable[object], scheduler: LoopScheduler, trouble: Trouble) -> None:
        """Its function `name` is a plain one, and has returned something to await: so it has a queue from now on."""
        queue = self._line_up(scheduler, trouble) if self.queue is None else self.queue
        queue.put(name, _Returned(awaited))

    def _line_up(self, scheduler: LoopScheduler, trouble: Trouble) -> Queue:
        queue = self.queue = Queue(self, scheduler, trouble)
        self.hooks = {name: partial(queue.put, name, method) for name, method in self.hooks.items()}
        return queue

    def close(self) -> None:
        """Nothing more is told; if the end was not, the handler may let go what it holds."""
        left, handler = self.serves and not self.told, self.handler
        self.over = self.told = True
        self.release()
        if self.queue is not None:
            self.queue.close()
        if left and isinstance(handler, Hooks):  # pyright: ignore[reportUnnecessaryIsInstance]
            call_last(handler.dismissed)

    def release(self) -> None:
        """Nothing will be called any more: let go the handler, whoever keeps its figures."""
        self.handler, self.hooks = _NOBODY, {}

    @property
    def figures(self) -> HandlerFigures:
        """The figures so far."""
        dropped = self.queue.dropped if self.queue is not None else 0
        waiting = self.queue.waiting if self.queue is not None else 0
        return HandlerFigures(
            delivered=self.calls - self.failures - dropped - waiting,
            failures=self.failures,
            dropped=dropped,
            waiting=waiting,
            detached=self.detached,
        )


class Caller(NamedTuple):
    """Who does something: the task and the thread that it is done in."""

    task: asyncio.Task[Any] | None
    thread: int

    @classmethod
    def here(cls) -> Caller:
        """Who asks."""
        return cls(_current_task(), threading.get_ident())


_Call = tuple[str, Hook, tuple[Any, ...], bool]
"""The name of a method, it, its arguments, and whether the call may be dropped. No class of its own: that costs as much as the call."""


class _Returned:
    """What a plain function has returned, to be awaited when its turn comes."""

    def __init__(self, awaited: Awaitable[object]) -> None:
        self.awaited = awaited

    def __call__(self, *_arguments: object) -> Awaitable[object]:
        return self.awaited


class Queue:
    """What waits for a handler that is not called at once, and the task that calls it."""

    def __init__(self, lane: Lane, scheduler: LoopScheduler, trouble: Trouble) -> None:
        self.dropped = 0
        self._lane = lane
        self._loop = scheduler.loop
        self._trouble = trouble
        self._calls: deque[_Call] = deque()
        self._loose = 0  # of them
        self._capacity = lane.policy.capacity
        self._drops = lane.policy.slow in ("drop_oldest", "latest")
        self._working = 0  # calls that are made just now
        self._finished = False
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._context = contextvars.copy_context()
        self._worker = Worker(f"rxstream-handler-{lane.id}") if lane.policy.thread else None
        mark = Mark(scheduler.gate, f"handler {lane.id}", high=self._capacity, low=self._capacity // 4)
        self._mark = mark if lane.policy.slow == "hold" else None

    @property
    def waiting(self) -> int:
        """Calls that wait, those at work among them."""
        return len(self._calls) + self._working

    def put(self, name: str, method: Hook, *arguments: Any) -> None:
        """Call `method` when its turn comes."""
        loose = self._drops and (name in _LOOSE or (name == "on_event" and droppable(arguments[0])))
        if loose and self._lane.policy.slow == "latest":
            self._drop_oldest(name)
        if len(self._calls) + self._working >= self._capacity and name not in _ENDS and not self._make_room():
            self.dropped += 1
            _close(method)
            self._trouble(self._lane, TooSlow(f"more than {self._capacity} calls wait for it"))
            return
        self._calls.append((name, method, arguments, loose))
        self._loose += loose
        if self._mark is not None:
            self._mark.level(self.waiting)
        if self._task is None:
            call_on(self._loop, self._begin)  # who puts may be in another thread: an Observable that knows no loop

    async def settled(self) -> None:
        """Wait until nothing waits."""
        await self._idle.wait()

    def calls(self, caller: Caller) -> bool:
        """Whether `caller` is in a call that we make."""
        if self._worker is not None:
            return self._worker.thread == caller.thread
        return self._task is not None and self._task is caller.task

    def clear(self) -> None:
        """Forget what waits."""
        self.dropped += len(self._calls)
        for _, method, _, _ in self._calls:
            _close(method)
        self._calls.clear()
        self._loose = 0

    def finish(self) -> None:
        """No call comes after those that wait."""
        self._finished = True
        if self._task is None and not self._calls:  # else the task does it, which may be on its way to the loop
            self._release()

    def close(self) -> None:
        """Forget what waits, and break off the call at work, unless it is that call which closes."""
        self.clear()
        self.finish()
        if self._mark is not None:
            self._mark.close()
        if self._task is not None and self._task is not _current_task():
            self._task.cancel()

    def _make_room(self) -> bool:
        """Whether there is room for one more after all."""
        match self._lane.policy.slow:
            case "hold":  # it is held by now: what is in flight is kept, too
                return self.waiting < self._capacity + MOST
            case "drop_oldest":
                return self._drop_oldest()
            case _:
                return False

    def _drop_oldest(self, name: str = "") -> bool:
        """Drop the first call that may be dropped, of those to method `name` if it is given."""
        if not self._loose:
            return False
        for position, (called, _, _, loose) in enumerate(self._calls):
            if loose and (not name or called == name):
                del self._calls[position]
                self._loose -= 1
                self.dropped += 1
                return True
        return False

    async def _work(self) -> None:
        made, until = 0, self._loop.time() + _BREATH
        while self._calls:
            if self._worker is None:
                call = self._take()
                try:
                    result = call[1](*call[2])
                    if type(result) is CoroutineType or inspect.isawaitable(result):  # the second is slow
                        await result
                except BaseException as error:
                    if self._broken_off(error):
                        raise
                    self._trouble(self._lane, error)
                finally:
                    self._working = 0
            else:
                await self._call_there(self._worker, [self._take() for _ in range(min(_BATCH, len(self._calls)))])
            if self._mark is not None:
                self._mark.level(self.waiting)
            made += 1
            if made % _BURST == 0 and self._loop.time() > until:
                await asyncio.sleep(0)
                until = self._loop.time() + _BREATH

    def _take(self) -> _Call:
        call = self._calls.popleft()
        self._loose -= call[3]
        self._working += 1
        if call[0] in _ENDS and self._worker is None:
            self._lane.over = self._lane.told = True
        return call

    async def _call_there(self, worker: Worker, calls: list[_Call]) -> None:
        try:
            while calls:
                try:
                    made, error = await worker.run(partial(self._make, calls))
                except RuntimeError as no_thread:  # more can be started
                    made, error = 1, no_thread
                del calls[:made]
                self._working -= made
                if error is not None:
                    self._trouble(self._lane, error)
                if self._lane.over:  # by this failure, or meanwhile
                    break
        finally:
            self.dropped += len(calls)
            self._working -= len(calls)

    def _make(self, calls: list[_Call]) -> tuple[int, Exception | None]:
        """Make calls, in the thread, until one raises: how many were made, and what it raised."""
        for made, (name, method, arguments, _) in enumerate(calls):
            if name in _ENDS:
                self._lane.over = self._lane.told = True
            elif self._lane.over:
                return made, None
            try:
                _refuse_coroutine(method(*arguments))
            except BaseException as error:  # noqa: BLE001 - the handler's own; its thread is not the program
                return made + 1, plain_error(error)
        return len(calls), None

    def _begin(self) -> None:
        if self._task is not None or not self._calls:
            return
        self._idle.clear()
        self._task = self._loop.create_task(self._work(), context=self._context)
        self._task.add_done_callback(self._done)

    def _broken_off(self, error: BaseException) -> bool:
        """Whether `error` comes to us from outside: our task is cancelled, or thrown away with its loop."""
        task = self._task
        if isinstance(error, asyncio.CancelledError):
            return task is not None and task.cancelling() > 0
        return isinstance(error, GeneratorExit) and task is not _current_task()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled() or task.exception() is not None:  # the loop goes down, or the handler ends the program
            self._lane.close()
        if self._calls:  # it came when the task was about to end
            self._begin()
        else:
            self._idle.set()
            if self._finished:
                self._release()

    def _release(self) -> None:
        if self._mark is not None:
            self._mark.close()
        if self._worker is not None:
            self._worker.end()
        self._lane.release()


def has_coroutines(hooks: Mapping[str, Hook], policy: HandlerPolicy) -> bool:
    """Whether some of these methods are coroutine functions.

    Raises:
        ConfigurationError: and they are to run in a thread.
    """
    name = next((name for name, method in hooks.items() if _is_async(method)), None)
    if name is not None and policy.thread:
        raise ConfigurationError(
            f"thread=True is for plain functions, and {name} is a coroutine function: those run on the stream's loop"
        )
    return name is not None


def _is_async(method: Hook) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(type(method).__call__)


def _close(method: Hook) -> None:
    """It will not be called: of a coroutine that it would have given asyncio need not say that nobody awaited it."""
    if isinstance(method, _Returned) and inspect.iscoroutine(method.awaited):
        method.awaited.close()


def _refuse_coroutine(result: object) -> None:
    if inspect.iscoroutine(result):
        result.close()
        raise ConfigurationError("thread=True is for plain functions: this one returned a coroutine")


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
