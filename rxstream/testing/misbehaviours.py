"""Sources that break a rule each, by name: does your operator, your consumer stand them?

========================= ==========================================================================================
name                      what it does
========================= ==========================================================================================
``completes_twice``       it completes, and completes again
``emits_after_the_end``   it completes, or fails, and an event comes after that
``emits_in_a_thread``     its events come in another thread than the loop's
``emits_out_of_turn``     it tells an event in the midst of another, from two threads at once
``fails_twice``           it fails, and fails again
``hides_its_failure``     it fails, and completes as if nothing had happened
``hogs_the_loop``         it gives all its events without a turn for anybody else
``ignores_dispose``       it goes on when nobody wants it any more
``ignores_its_gate``      it goes on while it is held
``leaves_a_task``         a task of its own goes on when it is over
``leaves_it_open``        what it had opened stays open
``loses_while_held``      what comes while it is held is lost
``never_ends``            its end does not come
``numbers_with_gaps``     the numbers of its events have gaps
``raises_in_subscribe``   subscribing raises, and no on_error comes
``repeats_after_a_pause`` what came before a pause comes again after it
========================= ==========================================================================================

Each breaks the rule of `rxstream.testing.verify_source` that its `Misbehaviour.breaks` names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxstream._check import one_of
from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import Event, Finished, TextDelta
from rxstream.loop import LoopScheduler, call_on

__all__ = ["MISBEHAVIOURS", "Misbehaviour", "misbehaving"]

_End = Literal["complete", "fail", "hang"]
_MANY: Final = 300
_FEW: Final = 5


class _Run:
    """One subscription: a task that gives an event every turn of the loop. It keeps every rule."""

    breaks: ClassVar[str] = ""

    def __init__(
        self, made: Misbehaviour, count: int, end: _End, observer: abc.ObserverBase[Any], on: LoopScheduler
    ) -> None:
        self.made = made
        self.count = count
        self.end = end
        self.observer = observer
        self.loop = on.loop
        self.gate = on.gate
        self.over = False

    def start(self) -> abc.DisposableBase:
        if self.loop.is_closed():
            self.observer.on_error(ConfigurationError("the loop is closed"))
            return Disposable()
        self.task = self.loop.create_task(self.main())
        return Disposable(self.dispose)

    def dispose(self) -> None:
        self.over = True
        call_on(self.loop, self.task.cancel)

    async def main(self) -> None:
        self.made.open += 1
        try:
            await self.body()
        except asyncio.CancelledError:
            pass
        finally:
            self.close()

    async def body(self) -> None:
        for event in self.events():
            await self.turn()
            self.emit(event)
            if self.over:
                return
        await self.turn()
        if self.end == "hang":
            await asyncio.Event().wait()
        self.finish()

    def events(self) -> Iterator[Any]:
        for number in range(self.count):
            yield TextDelta(text=f"{number} ", seq=number)
        if self.end == "complete":
            yield Finished(reason="stop", seq=self.count)

    async def turn(self) -> None:
        await asyncio.sleep(0)
        await self.gate.wait()

    def emit(self, event: Any) -> None:
        if not self.over:
            try:
                self.observer.on_next(event)
            except Exception as error:  # noqa: BLE001 - the observer's own
                self.over = True
                self.observer.on_error(error)

    def finish(self) -> None:
        if not self.over:
            self.over = True
            self.tell_end()

    def tell_end(self) -> None:
        if self.end == "fail":
            self.observer.on_error(Disconnected("gone"))
        else:
            self.observer.on_completed()

    def close(self) -> None:
        self.made.open -= 1


class _CompletesTwice(_Run):
    breaks = "1.5"

    def tell_end(self) -> None:
        super().tell_end()
        if self.end == "complete":
            self.loop.call_soon(self.observer.on_completed)


class _EmitsAfterTheEnd(_Run):
    breaks = "1.7"

    def tell_end(self) -> None:
        super().tell_end()
        self.loop.call_soon(self.observer.on_next, TextDelta(text="late", seq=self.count + 1))


class _EmitsInAThread(_Run):
    breaks = "2.11"

    async def body(self) -> None:
        await asyncio.to_thread(self.push)
        self.finish()

    def push(self) -> None:
        for event in self.events():
            self.observer.on_next(event)


class _EmitsOutOfTurn(_EmitsInAThread):
    breaks = "1.3"

    async def body(self) -> None:
        await asyncio.gather(asyncio.to_thread(self.push), asyncio.to_thread(self.push))
        self.finish()


class _FailsTwice(_Run):
    breaks = "1.4"

    def tell_end(self) -> None:
        super().tell_end()
        if self.end == "fail":
            super().tell_end()


class _HidesItsFailure(_Run):
    breaks = "1.4"

    def tell_end(self) -> None:
        self.observer.on_completed()


class _HogsTheLoop(_Run):
    breaks = "2.2"

    async def turn(self) -> None:
        await self.gate.wait()


class _IgnoresDispose(_Run):
    breaks = "1.8"

    def dispose(self) -> None:
        """Not me."""


class _IgnoresItsGate(_Run):
    breaks = "G.1"

    async def turn(self) -> None:
        await asyncio.sleep(0)


class _LeavesATask(_Run):
    breaks = "G.5"

    def close(self) -> None:
        super().close()
        self.made.left.append(self.loop.create_task(asyncio.sleep(1000)))


class _LeavesItOpen(_Run):
    breaks = "1.6"

    def close(self) -> None:
        """Not this."""


class _LosesWhileHeld(_Run):
    breaks = "G.1"

    async def turn(self) -> None:
        await asyncio.sleep(0)
        self.lost = self.gate.closed
        await self.gate.wait()

    def emit(self, event: Any) -> None:
        if not self.lost:
            super().emit(event)


class _NeverEnds(_Run):
    breaks = "1.5"

    def finish(self) -> None:
        """Not yet."""


class _NumbersWithGaps(_Run):
    breaks = "G.4"

    def events(self) -> Iterator[Any]:
        return (event for event in super().events() if event.seq % 2 == 0 or isinstance(event, Finished))


class _RaisesInSubscribe(_Run):
    breaks = "1.9"

    def start(self) -> abc.DisposableBase:
        raise Disconnected("gone")


class _RepeatsAfterAPause(_Run):
    breaks = "G.2"

    async def turn(self) -> None:
        await asyncio.sleep(0)
        self.again = self.gate.closed
        await self.gate.wait()

    def emit(self, event: Any) -> None:
        super().emit(event)
        if self.again:
            self.again = False
            super().emit(event)


_RUNS: Final[Mapping[str, type[_Run]]] = {
    "completes_twice": _CompletesTwice,
    "emits_after_the_end": _EmitsAfterTheEnd,
    "emits_in_a_thread": _EmitsInAThread,
    "emits_out_of_turn": _EmitsOutOfTurn,
    "fails_twice": _FailsTwice,
    "hides_its_failure": _HidesItsFailure,
    "hogs_the_loop": _HogsTheLoop,
    "ignores_dispose": _IgnoresDispose,
    "ignores_its_gate": _IgnoresItsGate,
    "leaves_a_task": _LeavesATask,
    "leaves_it_open": _LeavesItOpen,
    "loses_while_held": _LosesWhileHeld,
    "never_ends": _NeverEnds,
    "numbers_with_gaps": _NumbersWithGaps,
    "raises_in_subscribe": _RaisesInSubscribe,
    "repeats_after_a_pause": _RepeatsAfterAPause,
}
MISBEHAVIOURS: Final[Mapping[str, str]] = MappingProxyType({name: run.breaks for name, run in _RUNS.items()})
"""The names, and the rule of `rxstream.testing.verify_source` that each breaks."""


@dataclass(eq=False)
class Misbehaviour:
    """A source that breaks a rule: bare, as Rx's guards do not see it. `misbehaving` makes it."""

    name: str
    breaks: str
    """The rule that it breaks."""

    def __post_init__(self) -> None:
        self.open = 0
        """How many of its subscriptions hold something open."""
        self.left: list[asyncio.Task[None]] = []
        """The tasks that it has left behind."""

    def __call__(self, count: int) -> Observable[Event]:
        """A source of so many texts, and its end; with this a factory for `rxstream.testing.verify_source`."""
        return self._source(count, "complete")

    def failing(self) -> Observable[Event]:
        """A source of a few texts that fails."""
        return self._source(_FEW, "fail")

    def endless(self) -> Observable[Event]:
        """A source of many texts that does not end by itself."""
        return self._source(_MANY, "hang")

    def _source(self, count: int, end: _End) -> Observable[Event]:
        return _Bare(self, count, end)


class _Bare(Observable[Event]):
    """An Observable without RxPY's guard, which would silence most of what is wrong here."""

    def __init__(self, made: Misbehaviour, count: int, end: _End) -> None:
        super().__init__()
        self._made = made
        self._count = count
        self._end: _End = end

    def subscribe(
        self,
        on_next: Any = None,
        on_error: Any = None,
        on_completed: Any = None,
        *,
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        """Subscribe what is given, as it is."""
        observer = on_next if hasattr(on_next, "on_next") else _Functions(on_next, on_error, on_completed)
        return self._subscribe_core(observer, scheduler)

    def _subscribe_core(
        self, observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        run = _RUNS[self._made.name]
        return run(self._made, self._count, self._end, observer, LoopScheduler.of(scheduler)).start()


class _Functions(abc.ObserverBase[Event]):
    """Three functions as an observer that knows no end."""

    def __init__(self, on_next: Any, on_error: Any, on_completed: Any) -> None:
        self._functions = (on_next, on_error, on_completed)

    def on_next(self, value: Event) -> None:
        if self._functions[0] is not None:
            self._functions[0](value)

    def on_error(self, error: Exception) -> None:
        if self._functions[1] is not None:
            self._functions[1](error)

    def on_completed(self) -> None:
        if self._functions[2] is not None:
            self._functions[2]()


def misbehaving(name: str) -> Misbehaviour:
    """The misbehaviour of this name: call it with a number of events to have a source.

    Args:
        name: One of `MISBEHAVIOURS`.

    Raises:
        ConfigurationError: there is none of that name.

    Example:
        >>> from rxstream.testing import misbehaving
        >>> misbehaving("completes_twice").breaks
        '1.5'
    """
    one_of("name", name, _RUNS)
    return Misbehaviour(name, MISBEHAVIOURS[name])
