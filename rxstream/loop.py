"""One loop, one scheduler: where a stream's events, timers and handlers run.

Rules of this module:

* A stream runs on one asyncio loop: the caller's where one is running, else one shared daemon thread's.
* `LoopScheduler` may be used from any thread. Scheduling never waits, disposing never waits.
* RxPY's own default, ``TimeoutScheduler``, starts an OS thread for every item; nothing in rxstream uses it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from reactivex import abc, typing
from reactivex.disposable import Disposable, MultipleAssignmentDisposable
from reactivex.scheduler.periodicscheduler import PeriodicScheduler

from rxstream._probe import Probe, Turn
from rxstream._tap import Tap
from rxstream.errors import ConfigurationError, plain_error
from rxstream.gate import Gate

__all__ = ["LoopScheduler", "call_on", "contain", "current_loop", "refuse_to_block", "running_loop", "shared_loop"]

_S = TypeVar("_S")


class LoopScheduler(PeriodicScheduler):
    """Schedules on an asyncio loop, by the loop's own clock, from any thread.

    It carries the `gate` of the subscription: Rx hands the subscriber's scheduler to its sources, so whoever subscribes
    with one can hold all that is above.

    Args:
        loop: Where to run; the running loop, or the shared one, if not given.
        gate: What the sources above obey; a new one if not given.
        probes: Who is to be told where the time of the streams above goes.
        taps: Who is to see the bytes that the sources above read.
        turn: How long it had to wait for its turn.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        gate: Gate | None = None,
        probes: tuple[Probe, ...] = (),
        taps: tuple[Tap, ...] = (),
        turn: Turn | None = None,
    ) -> None:
        super().__init__()
        self.loop = loop if loop is not None else current_loop()
        self.gate = gate if gate is not None else Gate()
        self.probes = probes
        self.taps = taps
        self.turn = turn if turn is not None else Turn()

    @classmethod
    def of(cls, scheduler: abc.SchedulerBase | None) -> LoopScheduler:
        """`scheduler` if it is one of ours; else one of the current loop, with a gate that nobody holds."""
        return scheduler if isinstance(scheduler, LoopScheduler) else cls()

    @property
    def now(self) -> datetime:
        """The wall-clock time when the loop was first seen, plus what its clock has run since: it never jumps."""
        return _epoch(self.loop) + timedelta(seconds=self.loop.time())

    def with_gate(self, gate: Gate) -> LoopScheduler:
        """The same loop with another gate, for one track of a combination."""
        return LoopScheduler(self.loop, gate=gate, probes=self.probes, taps=self.taps, turn=self.turn)

    def with_probe(self, probe: Probe) -> LoopScheduler:
        """The same loop and gate with one more who is told where the time goes."""
        return LoopScheduler(self.loop, gate=self.gate, probes=(*self.probes, probe), taps=self.taps, turn=self.turn)

    def with_tap(self, tap: Tap) -> LoopScheduler:
        """The same loop and gate with one more who sees what the sources above read."""
        return LoopScheduler(self.loop, gate=self.gate, probes=self.probes, taps=(*self.taps, tap), turn=self.turn)

    def schedule(self, action: typing.ScheduledAction[_S], state: _S | None = None) -> abc.DisposableBase:
        """Run `action` in the loop's next round."""
        return self.schedule_relative(0.0, action, state)

    def schedule_relative(
        self, duetime: typing.RelativeTime, action: typing.ScheduledAction[_S], state: _S | None = None
    ) -> abc.DisposableBase:
        """Run `action` after `duetime` seconds of the loop's clock."""
        seconds = self.to_seconds(duetime)
        result = MultipleAssignmentDisposable()
        handles: list[asyncio.Handle] = []

        def run() -> None:
            if not result.is_disposed:
                result.disposable = self.invoke_action(action, state=state)

        def start() -> None:
            if not result.is_disposed:
                handles.append(self.loop.call_later(seconds, run) if seconds > 0 else self.loop.call_soon(run))

        def cancel() -> None:
            for handle in handles:
                handle.cancel()

        result.disposable = Disposable(lambda: call_on(self.loop, cancel))
        call_on(self.loop, start)
        return result

    def schedule_absolute(
        self, duetime: typing.AbsoluteTime, action: typing.ScheduledAction[_S], state: _S | None = None
    ) -> abc.DisposableBase:
        """Run `action` when `now` has reached `duetime`."""
        return self.schedule_relative(self.to_datetime(duetime) - self.now, action, state)


_epochs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, datetime] = weakref.WeakKeyDictionary()


def _epoch(loop: asyncio.AbstractEventLoop) -> datetime:
    known = _epochs.get(loop)
    return known or _epochs.setdefault(loop, datetime.now(UTC) - timedelta(seconds=loop.time()))


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> None:
    """Call `function` on `loop`: now if we are there, else as soon as it comes round; never if it is closed."""
    if running_loop() is loop:
        function()
        return
    with contextlib.suppress(RuntimeError):  # the loop is closed: what ran on it is over
        loop.call_soon_threadsafe(function)


def current_loop() -> asyncio.AbstractEventLoop:
    """The loop running in this thread, else the shared one."""
    return running_loop() or shared_loop()


def refuse_to_block(loop: asyncio.AbstractEventLoop, instead: str) -> None:
    """Refuse a call that would wait for `loop` on `loop`'s own thread, and so for ever.

    Raises:
        ConfigurationError: we are on that thread.
    """
    if running_loop() is loop:
        raise ConfigurationError(f"this call would block the event loop that the stream runs on; {instead}")


def contain(raised: BaseException) -> Exception:
    """What somebody's function raised, as an error of his.

    What ends a program goes on its way, as asyncio has it; but not on the shared loop, whose thread is not the program.

    Raises:
        BaseException: `raised` ends the program.
    """
    shared = _shared is not None and running_loop() is _shared.loop
    if isinstance(raised, (SystemExit, KeyboardInterrupt)) and not shared:
        raise raised
    return plain_error(raised)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop running in this thread, if any."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _LoopThread:
    """A daemon thread that runs a loop until the interpreter ends."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._main, name="rxstream-loop", daemon=True)
        self.thread.start()
        atexit.register(self.stop)

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self._run():
                pass
        finally:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def _run(self) -> bool:
        """Whether the loop was stopped; a callback that raises SystemExit ends neither it nor other people's streams."""
        try:
            self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            self.loop.call_exception_handler({"message": "a callback would end the shared loop", "exception": error})
            return False
        return True

    def stop(self) -> None:
        """Cancel what still runs and wait up to two seconds for sockets to close."""
        if self.pid == os.getpid() and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(2.0)


_shared: _LoopThread | None = None
_shared_lock = threading.Lock()
_orphans: list[_LoopThread] = []
"""Of a forked child: the parent's, which must neither run nor be destroyed here."""


def _after_fork() -> None:
    global _shared, _shared_lock  # the lock, too: another thread of the parent may have held it
    if _shared is not None:
        _shared.loop.set_exception_handler(lambda _loop, _context: None)  # its tasks will not end: the parent's do
        _orphans.append(_shared)
    _shared, _shared_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def shared_loop() -> asyncio.AbstractEventLoop:
    """The loop of the one daemon thread that serves plain scripts and synchronous calls; started when first needed.

    A forked child starts its own.
    """
    global _shared  # noqa: PLW0603 - the one thread of the process
    with _shared_lock:
        if _shared is None:
            _shared = _LoopThread()
        return _shared.loop
