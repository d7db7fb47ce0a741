"""Sources that break a rule each, beside those of `rxstream.testing.misbehaving`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final, cast

from reactivex import Observable, abc

from rxstream.errors import Disconnected
from rxstream.loop import LoopScheduler, call_on
from rxstream.testing.misbehaviours import Misbehaviour, _End, _Run

__all__ = ["ALSO_BROKEN", "Numbers", "Run", "faults_of"]

ALSO_BROKEN: Final[Mapping[str, tuple[str, ...]]] = {
    "completes_twice": ("1.7",),
    "fails_twice": ("1.7",),
    "ignores_dispose": ("2.6", "2.7", "3.2", "3.5", "3.7", "3.12"),
    "loses_while_held": ("2.7", "2.9", "2.10", "G.2"),
}
"""Rules that misbehaviours break besides the one that they name."""


class Numbers(Misbehaviour):
    """Where sources of numbers are made; `open` is how many are running.

    Args:
        run: What a subscription is.
    """

    def __init__(self, run: type[Run]) -> None:
        super().__init__("numbers", "")
        self._run = run
        self.kept: list[object] = []

    def _source(self, count: int, end: _End) -> Observable[Any]:
        shared: dict[str, Any] = {}

        def subscribe(
            observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            run = self._run(self, count, end, observer, LoopScheduler.of(scheduler))
            run.shared = shared
            return run.start()

        return Observable(subscribe)


class Run(_Run):
    """One subscription: a task that gives a number every turn of the loop. It keeps every rule."""

    rules: ClassVar[tuple[str, ...]] = ()
    """Those that a subclass breaks."""

    shared: dict[str, Any]
    """Between the subscriptions of one source."""

    @property
    def numbers(self) -> Numbers:
        return cast("Numbers", self.made)

    def events(self) -> Iterator[Any]:
        return self.range()

    def range(self) -> Iterator[int]:
        return iter(range(self.count))


# --- what each does wrong -------------------------------------------------------------------------------------------------


class NeverEmpty(Run):
    rules = ("1.5",)

    def finish(self) -> None:
        if self.count:
            super().finish()


class TooFew(Run):
    rules = ("1.5",)

    def range(self) -> Iterator[int]:
        return iter(range(self.count // 2))


class FailsAndStaysOpen(Run):
    rules = ("1.6",)

    def close(self) -> None:
        if self.end != "fail":
            super().close()


class GoesOnTalking(Run):
    rules = ("1.7", "2.4")

    def finish(self) -> None:
        super().finish()
        self.gate.watch(self.talk)
        self.loop.call_later(0.005, self.talk)

    def talk(self) -> None:
        self.observer.on_next(99)


class RaisesOnSubscribe(Run):
    rules = ("1.9",)

    def start(self) -> abc.DisposableBase:
        if self.end == "fail":
            raise Disconnected("gone")
        return super().start()


class NeedsAnOpenLoop(Run):
    rules = ("1.9",)

    def start(self) -> abc.DisposableBase:
        self.loop.call_soon(id, None)
        return super().start()


class GivesItemsOnce(Run):
    rules = ("1.10", "1.11")

    def range(self) -> Iterator[int]:
        numbers: Iterator[int] = self.shared.setdefault("numbers", super().range())
        return numbers


class LateComersMiss(Run):
    rules = ("1.11",)

    def range(self) -> Iterator[int]:
        first = self.shared.setdefault("running", 0)
        self.shared["running"] += 1
        return iter(range(first, self.count))

    def close(self) -> None:
        self.shared["running"] -= 1
        super().close()


class FragileAtTheEnd(Run):
    rules = ("2.3",)

    def dispose(self) -> None:
        if self.over:
            raise RuntimeError("it is over already")
        super().dispose()


class EndsWhenHeld(Run):
    rules = ("2.9", "2.10", "G.2")

    async def turn(self) -> None:
        await asyncio.sleep(0)
        if self.gate.closed:
            self.finish()


class KillsNeighbours(Run):
    rules = ("2.13",)

    def start(self) -> abc.DisposableBase:
        self.shared.setdefault("runs", []).append(self)
        return super().start()

    def emit(self, number: int) -> None:
        try:
            self.observer.on_next(number)
        except Exception:  # noqa: BLE001 - the observer's own
            for run in self.shared["runs"]:
                run.dispose()


class KeepsTellingARaiser(Run):
    rules = ("2.13",)

    def emit(self, number: int) -> None:
        try:
            self.observer.on_next(number)
        except Exception as error:  # noqa: BLE001 - the observer's own
            self.loop.call_exception_handler({"message": "an observer raised", "exception": error})


class SlowToLeave(Run):
    rules = ("3.2",)

    def emit(self, number: int) -> None:
        self.observer.on_next(number)
        if self.over and number % 8 != 7:
            self.emit(number + 1)


class AnswersInTheMidst(Run):
    rules = ("3.2",)

    def start(self) -> abc.DisposableBase:
        self.gate.watch(self.changed)
        return super().start()

    def close(self) -> None:
        self.gate.unwatch(self.changed)
        super().close()

    def changed(self) -> None:
        if self.end == "complete" and not self.gate.closed:
            self.emit(99)


class Recursive(Run):
    rules = ("3.3",)

    async def body(self) -> None:
        await self.gate.wait()
        self.step(0)
        self.finish()

    def step(self, number: int) -> None:
        if number < self.count:
            self.observer.on_next(number)
            self.step(number + 1)


class WaitsForTheLoop(Run):
    rules = ("3.4",)

    def dispose(self) -> None:
        super().dispose()
        if threading.current_thread() is not threading.main_thread():
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(3)


class DisposedOnce(Run):
    rules = ("3.5", "3.7")

    def start(self) -> abc.DisposableBase:
        inner = super().start()

        class Once(abc.DisposableBase):
            def dispose(self) -> None:
                if outer.over:
                    raise RuntimeError("disposed twice")
                inner.dispose()

        outer = self
        return Once()


class SpeaksWhenReleased(Run):
    rules = ("3.6",)

    def dispose(self) -> None:
        super().dispose()
        self.gate.watch(lambda: self.observer.on_next(99))


class SpeaksWhenDisposedAgain(Run):
    rules = ("3.7",)

    def start(self) -> abc.DisposableBase:
        super().start()

        class Again(abc.DisposableBase):
            def dispose(self) -> None:
                if outer.over:
                    outer.observer.on_completed()
                outer.dispose()

        outer = self
        return Again()


class LeavesInItsOwnTime(Run):
    rules = ("3.12",)

    at = 0

    async def turn(self) -> None:
        if self.at % 16 == 0:
            await super().turn()
        self.at += 1

    def dispose(self) -> None:
        call_on(self.loop, super().dispose)


class Remembers(Run):
    rules = ("3.13",)

    def start(self) -> abc.DisposableBase:
        self.numbers.kept.append(self.observer)
        return super().start()


class OneForAll(Run):
    rules = ("3.14",)

    def start(self) -> abc.DisposableBase:
        self.shared.setdefault("runs", []).append(self)
        return super().start()

    def dispose(self) -> None:
        for run in self.shared["runs"]:
            Run.dispose(run)


class CountsDemand(Run):
    """Whoever has held it once is to ask for every eight items more: by a hold and a release."""

    rules = ("G.3",)
    held = False
    left = 8

    def start(self) -> abc.DisposableBase:
        self.asked = asyncio.Event()
        self.gate.watch(self.changed)
        return super().start()

    async def turn(self) -> None:
        await super().turn()
        self.left -= self.held
        if not self.left:
            self.asked.clear()
            await self.asked.wait()

    def changed(self) -> None:
        self.held = True
        self.left = 8
        if not self.gate.closed:
            self.asked.set()

    def close(self) -> None:
        self.gate.unwatch(self.changed)
        super().close()


class LeavesAWatch(Run):
    rules = ("G.5",)

    def start(self) -> abc.DisposableBase:
        self.gate.watch(self.heard)
        return super().start()

    def heard(self) -> None:
        """The gate."""


class LeavesAGenerator(Run):
    rules = ("G.5",)

    async def body(self) -> None:
        async def forever() -> Any:
            while True:
                yield 1

        generator = forever()
        self.numbers.kept.append(generator)
        await anext(generator)
        await super().body()


class RaisesIntoTheLoop(Run):
    rules = ("1.5",)

    def close(self) -> None:
        super().close()
        raise ZeroDivisionError("nobody caught this")


def faults_of(kind: type[Any]) -> list[tuple[str, type[Any]]]:
    """Each rule, and a subclass that breaks it."""
    return [(rule, fault) for fault in kind.__subclasses__() for rule in fault.rules]
