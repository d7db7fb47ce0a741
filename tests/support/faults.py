"""A source and a publisher that keep every rule, and relatives of theirs that break one each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import TextDelta
from rxstream.loop import LoopScheduler, call_on
from rxstream.sinks.publisher import Publisher

__all__ = ["FaultyPublisher", "Numbers", "Run", "faults_of"]

MANY = 200


class Numbers:
    """Where sources of numbers are made; `open` is how many are running.

    Args:
        run: What a subscription is.
    """

    def __init__(self, run: type[Run]) -> None:
        self._run = run
        self.open = 0
        self.kept: list[object] = []

    def __call__(self, count: int) -> Observable[Any]:
        return self._source(count, "complete")

    def failing(self) -> Observable[Any]:
        return self._source(5, "fail")

    def endless(self) -> Observable[Any]:
        return self._source(MANY, "hang")

    def _source(self, count: int, end: str) -> Observable[Any]:
        shared: dict[str, Any] = {}

        def subscribe(
            observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            run = self._run(self, count=count, end=end, shared=shared)
            return run.subscribe(observer, LoopScheduler.of(scheduler))

        return Observable(subscribe)


class Run:
    """One subscription: a task that gives a number every turn of the loop. It keeps every rule."""

    breaks: ClassVar[tuple[str, ...]] = ()

    def __init__(self, numbers: Numbers, *, count: int, end: str, shared: dict[str, Any]) -> None:
        self.numbers = numbers
        self.count = count
        self.end = end
        self.shared = shared
        """Between the subscriptions of one source."""
        self.over = False

    def subscribe(self, observer: abc.ObserverBase[Any], scheduler: LoopScheduler) -> abc.DisposableBase:
        self.observer = observer
        self.loop = scheduler.loop
        self.gate = scheduler.gate
        return self.start()

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
        self.numbers.open += 1
        try:
            await self.body()
        except asyncio.CancelledError:
            pass
        finally:
            self.close()

    async def body(self) -> None:
        for number in self.range():
            await self.turn(number)
            self.emit(number)
            if self.over:
                return
        await self.turn(self.count)
        if self.end == "hang":
            await asyncio.Event().wait()
        self.finish()

    def range(self) -> Iterator[int]:
        return iter(range(self.count))

    async def turn(self, number: int) -> None:
        await asyncio.sleep(0)
        await self.gate.wait()

    def emit(self, number: int) -> None:
        if not self.over:
            try:
                self.observer.on_next(self.item(number))
            except Exception as error:  # noqa: BLE001 - the observer's own
                self.over = True
                self.observer.on_error(error)

    def item(self, number: int) -> object:
        return number

    def finish(self) -> None:
        if not self.over:
            self.over = True
            if self.end == "fail":
                self.observer.on_error(Disconnected("gone"))
            else:
                self.observer.on_completed()

    def close(self) -> None:
        self.numbers.open -= 1


# --- what each does wrong -------------------------------------------------------------------------------------------------


class Overlapping(Run):
    breaks = ("1.3",)

    async def body(self) -> None:
        def push() -> None:
            for number in range(self.count):
                self.observer.on_next(number)

        await asyncio.gather(asyncio.to_thread(push), asyncio.to_thread(push))
        self.finish()


class SwallowsFailures(Run):
    breaks = ("1.4",)

    def finish(self) -> None:
        self.end = "complete"
        super().finish()


class FailsTwice(Run):
    breaks = ("1.4", "1.7")

    def finish(self) -> None:
        super().finish()
        self.over = False
        super().finish()


class NeverEmpty(Run):
    breaks = ("1.5",)

    def finish(self) -> None:
        if self.count:
            super().finish()


class CompletesTwice(Run):
    breaks = ("1.5", "1.7")

    def finish(self) -> None:
        super().finish()
        if self.end == "complete":
            self.loop.call_soon(self.observer.on_completed)


class TooFew(Run):
    breaks = ("1.5",)

    def range(self) -> Iterator[int]:
        return iter(range(self.count // 2))


class StaysOpen(Run):
    breaks = ("1.6",)

    def close(self) -> None:
        if self.end == "hang":
            super().close()


class FailsAndStaysOpen(Run):
    breaks = ("1.6",)

    def close(self) -> None:
        if self.end != "fail":
            super().close()


class GoesOnTalking(Run):
    breaks = ("1.7", "2.4")

    def finish(self) -> None:
        super().finish()
        self.gate.watch(self.talk)
        self.loop.call_later(0.005, self.talk)

    def talk(self) -> None:
        self.observer.on_next(99)


class DeafToDispose(Run):
    breaks = ("1.8", "2.6", "2.7", "3.2", "3.5", "3.7", "3.12")

    def dispose(self) -> None:
        """Not me."""


class RaisesOnSubscribe(Run):
    breaks = ("1.9",)

    def start(self) -> abc.DisposableBase:
        if self.end == "fail":
            raise Disconnected("gone")
        return super().start()


class NeedsAnOpenLoop(Run):
    breaks = ("1.9",)

    def start(self) -> abc.DisposableBase:
        self.loop.call_soon(id, None)
        return super().start()


class GivesItemsOnce(Run):
    breaks = ("1.10", "1.11")

    def range(self) -> Iterator[int]:
        numbers: Iterator[int] = self.shared.setdefault("numbers", super().range())
        return numbers


class LateComersMiss(Run):
    breaks = ("1.11",)

    def range(self) -> Iterator[int]:
        first = self.shared.setdefault("running", 0)
        self.shared["running"] += 1
        return iter(range(first, self.count))

    def close(self) -> None:
        self.shared["running"] -= 1
        super().close()


class HogsTheLoop(Run):
    breaks = ("2.2",)

    async def turn(self, number: int) -> None:
        await self.gate.wait()


class FragileAtTheEnd(Run):
    breaks = ("2.3",)

    def dispose(self) -> None:
        if self.over:
            raise RuntimeError("it is over already")
        super().dispose()


class LosesWhileHeld(Run):
    breaks = ("2.7", "2.9", "2.10", "G.1", "G.2")

    async def turn(self, number: int) -> None:
        await asyncio.sleep(0)
        self.lost = self.gate.closed
        await self.gate.wait()

    def emit(self, number: int) -> None:
        if not self.lost:
            super().emit(number)


class EndsWhenHeld(Run):
    breaks = ("2.9", "2.10", "G.2")

    async def turn(self, number: int) -> None:
        await asyncio.sleep(0)
        if self.gate.closed:
            self.finish()


class InAnotherThread(Run):
    breaks = ("2.11",)

    async def body(self) -> None:
        def push() -> None:
            for number in range(self.count):
                self.observer.on_next(number)

        await asyncio.to_thread(push)
        self.finish()


class KillsNeighbours(Run):
    breaks = ("2.13",)

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
    breaks = ("2.13",)

    def emit(self, number: int) -> None:
        try:
            self.observer.on_next(number)
        except Exception as error:  # noqa: BLE001 - the observer's own
            self.loop.call_exception_handler({"message": "an observer raised", "exception": error})


class SlowToLeave(Run):
    breaks = ("3.2",)

    def emit(self, number: int) -> None:
        self.observer.on_next(number)
        if self.over and number % 8 != 7:
            self.emit(number + 1)


class AnswersInTheMidst(Run):
    breaks = ("3.2",)

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
    breaks = ("3.3",)

    async def body(self) -> None:
        await self.gate.wait()
        self.step(0)
        self.finish()

    def step(self, number: int) -> None:
        if number < self.count:
            self.observer.on_next(number)
            self.step(number + 1)


class WaitsForTheLoop(Run):
    breaks = ("3.4",)

    def dispose(self) -> None:
        super().dispose()
        if threading.current_thread() is not threading.main_thread():
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(3)


class DisposedOnce(Run):
    breaks = ("3.5", "3.7")

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
    breaks = ("3.6",)

    def dispose(self) -> None:
        super().dispose()
        self.gate.watch(lambda: self.observer.on_next(99))


class SpeaksWhenDisposedAgain(Run):
    breaks = ("3.7",)

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
    breaks = ("3.12",)

    async def turn(self, number: int) -> None:
        if number % 16 == 0:
            await super().turn(number)

    def dispose(self) -> None:
        call_on(self.loop, super().dispose)


class Remembers(Run):
    breaks = ("3.13",)

    def start(self) -> abc.DisposableBase:
        self.numbers.kept.append(self.observer)
        return super().start()


class OneForAll(Run):
    breaks = ("3.14",)

    def start(self) -> abc.DisposableBase:
        self.shared.setdefault("runs", []).append(self)
        return super().start()

    def dispose(self) -> None:
        for run in self.shared["runs"]:
            Run.dispose(run)


class DeafToTheGate(Run):
    breaks = ("G.1",)

    async def turn(self, number: int) -> None:
        await asyncio.sleep(0)


class CountsDemand(Run):
    """Whoever has held it once is to ask for every eight items more: by a hold and a release."""

    breaks = ("G.3",)
    held = False
    left = 8

    def start(self) -> abc.DisposableBase:
        self.asked = asyncio.Event()
        self.gate.watch(self.changed)
        return super().start()

    async def turn(self, number: int) -> None:
        await super().turn(number)
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


class SkipsNumbers(Run):
    breaks = ("G.4",)

    def item(self, number: int) -> object:
        return TextDelta(text="a", seq=2 * number)


class LeavesATask(Run):
    breaks = ("G.5",)

    def close(self) -> None:
        super().close()
        self.numbers.kept.append(self.loop.create_task(asyncio.sleep(1000)))


class LeavesAWatch(Run):
    breaks = ("G.5",)

    def start(self) -> abc.DisposableBase:
        self.gate.watch(self.heard)
        return super().start()

    def heard(self) -> None:
        """The gate."""


class LeavesAGenerator(Run):
    breaks = ("G.5",)

    async def body(self) -> None:
        async def forever() -> Any:
            while True:
                yield 1

        generator = forever()
        self.numbers.kept.append(generator)
        await anext(generator)
        await super().body()


class RaisesIntoTheLoop(Run):
    breaks = ("1.5",)

    def close(self) -> None:
        super().close()
        raise ZeroDivisionError("nobody caught this")


# --- publishers -----------------------------------------------------------------------------------------------------------


class FaultyPublisher:
    """A publisher that keeps every rule, with a subscriber's proxy in between. Subclasses break one.

    It is the proxy of both: of the subscriber to the publisher, and of the subscription to the subscriber.
    """

    breaks: ClassVar[tuple[str, ...]] = ()
    numbers: ClassVar[Numbers]

    def __init__(self, source: Observable[Any]) -> None:
        self.inner = Publisher(source)
        self.subscribed = 0

    def subscribe(self, subscriber: Any) -> None:
        self.subscribed += 1
        self.inner.subscribe(self.proxy(subscriber))

    def proxy(self, subscriber: Any) -> Any:
        return type(self).Proxy(self, subscriber) if subscriber is not None else None

    class Proxy:
        """Hands on."""

        def __init__(self, outer: FaultyPublisher, subscriber: Any) -> None:
            self.outer = outer
            self.number = outer.subscribed
            self.subscriber = subscriber
            self.loop = asyncio.get_running_loop()
            self.over = False

        def on_subscribe(self, subscription: Any) -> None:
            self.subscription = subscription
            self.subscriber.on_subscribe(self)

        def on_next(self, item: Any) -> None:
            self.subscriber.on_next(item)

        def on_error(self, error: Exception) -> None:
            self.over = True
            self.subscriber.on_error(error)

        def on_complete(self) -> None:
            self.over = True
            self.subscriber.on_complete()

        def request(self, n: Any) -> None:
            self.subscription.request(n)

        def cancel(self) -> None:
            self.over = True
            self.subscriber = _Nobody()
            self.subscription.cancel()


class _Nobody:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


Proxy = FaultyPublisher.Proxy


class GivesOneMore(FaultyPublisher):
    breaks = ("1.1", "3.8")

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            super().request(n + 1 if n else n)


class NeverCompletes(FaultyPublisher):
    breaks = ("1.2", "1.5")

    class Proxy(Proxy):
        def on_complete(self) -> None:
            """Not yet."""


class FromThreads(FaultyPublisher):
    breaks = ("1.3",)

    class Proxy(Proxy):
        def on_next(self, item: Any) -> None:
            threading.Thread(target=super().on_next, args=(item,), daemon=True).start()


class HidesFailures(FaultyPublisher):
    breaks = ("1.4",)

    class Proxy(Proxy):
        def on_error(self, error: Exception) -> None:
            self.on_complete()


class HoldsOn(FaultyPublisher):
    breaks = ("1.6",)

    class Proxy(Proxy):
        def on_complete(self) -> None:
            self.outer.numbers.open += 1
            super().on_complete()


class TalksAfterTheEnd(FaultyPublisher):
    breaks = ("1.7",)

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            if self.over and not isinstance(self.subscriber, _Nobody):
                self.subscriber.on_next(99)
            super().request(n)


class DeafToCancel(FaultyPublisher):
    breaks = ("1.8", "3.5", "3.6", "3.12")

    class Proxy(Proxy):
        def cancel(self) -> None:
            """Not me."""


class SpeaksFirst(FaultyPublisher):
    breaks = ("1.9",)

    class Proxy(Proxy):
        def on_subscribe(self, subscription: Any) -> None:
            self.subscriber.on_next(0)
            super().on_subscribe(subscription)


class TakesNobody(FaultyPublisher):
    breaks = ("1.9",)

    def subscribe(self, subscriber: Any) -> None:
        super().subscribe(subscriber or _Nobody())


class SecondMisses(FaultyPublisher):
    breaks = ("1.11",)

    class Proxy(Proxy):
        def on_next(self, item: Any) -> None:
            if self.number == 1 or item != 5:
                super().on_next(item)


class GivesUnasked(FaultyPublisher):
    breaks = ("2.1",)

    class Proxy(Proxy):
        def on_subscribe(self, subscription: Any) -> None:
            super().on_subscribe(subscription)
            self.request(1)


class RaisesAtTheEnd(FaultyPublisher):
    breaks = ("2.3", "3.6")

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            if self.over:
                raise RuntimeError("it is over already")
            super().request(n)


class CancelsBoth(FaultyPublisher):
    breaks = ("2.5",)

    class Proxy(Proxy):
        last: Any = None

        def on_subscribe(self, subscription: Any) -> None:
            self.before, type(self).last = type(self).last, self
            super().on_subscribe(subscription)

        def cancel(self) -> None:
            super().cancel()
            if self.before is not None:
                Proxy.cancel(self.before)


class EndsOnDemand(FaultyPublisher):
    breaks = ("2.9", "2.10")

    class Proxy(Proxy):
        left = 0.0

        def request(self, n: Any) -> None:
            self.left += n
            super().request(n)

        def on_next(self, item: Any) -> None:
            self.left -= 1
            super().on_next(item)

        def on_complete(self) -> None:
            if self.left > 0:
                super().on_complete()

        def on_error(self, error: Exception) -> None:
            if self.left > 0:
                super().on_error(error)


class SubscribesTwice(FaultyPublisher):
    breaks = ("2.12",)

    class Proxy(Proxy):
        def on_subscribe(self, subscription: Any) -> None:
            super().on_subscribe(subscription)
            self.loop.call_soon(super().on_subscribe, subscription)


class KillsAll(FaultyPublisher):
    breaks = ("2.13",)
    all: ClassVar[list[Any]] = []

    class Proxy(Proxy):
        def on_subscribe(self, subscription: Any) -> None:
            KillsAll.all.append(self)
            super().on_subscribe(subscription)

        def on_next(self, item: Any) -> None:
            try:
                super().on_next(item)
            except Exception:  # noqa: BLE001 - the subscriber's own
                for proxy in KillsAll.all:
                    proxy.cancel()


class IgnoresTheMidst(FaultyPublisher):
    breaks = ("3.2",)

    class Proxy(Proxy):
        inside = False

        def on_next(self, item: Any) -> None:
            self.inside = True
            super().on_next(item)
            self.inside = False

        def request(self, n: Any) -> None:
            if not self.inside:
                super().request(n)


class RecursivePublisher(FaultyPublisher):
    breaks = ("3.3",)

    class Proxy(Proxy):
        given = 0

        def on_next(self, item: Any) -> None:
            """It has its own way of giving."""

        def on_complete(self) -> None:
            """And its own end."""

        def request(self, n: Any) -> None:
            if self.given < MANY:
                self.given += 1
                self.subscriber.on_next(self.given)
            else:
                self.subscriber.on_complete()


class RequestWaits(FaultyPublisher):
    breaks = ("3.4",)

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            super().request(n)
            if "experiment" in threading.current_thread().name:
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(3)


class CancelledOnce(FaultyPublisher):
    breaks = ("3.5", "3.7")

    class Proxy(Proxy):
        def cancel(self) -> None:
            if self.over:
                raise RuntimeError("cancelled twice")
            super().cancel()


class LastDemandWins(FaultyPublisher):
    breaks = ("3.8",)

    class Proxy(Proxy):
        asked = False

        def request(self, n: Any) -> None:
            if not self.asked:
                self.asked = True
                super().request(n)


class NothingIsFine(FaultyPublisher):
    breaks = ("3.9",)

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            if n is None or n > 0:
                super().request(n)


class RaisesOnNothing(FaultyPublisher):
    breaks = ("3.9",)

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            if n is not None and n <= 0:
                raise ValueError(n)
            super().request(n)


class SpeaksOfTypes(FaultyPublisher):
    breaks = ("3.9",)

    class Proxy(Proxy):
        def on_error(self, error: Exception) -> None:
            super().on_error(TypeError("wrong") if isinstance(error, ValueError) else error)


class KeepsSubscribers(FaultyPublisher):
    breaks = ("3.13",)

    class Proxy(Proxy):
        def cancel(self) -> None:
            self.outer.numbers.kept.append(self.subscriber)
            super().cancel()


class CannotGiveAll(FaultyPublisher):
    breaks = ("3.17",)

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            super().request(min(n or 7, 7))


def faults_of(kind: type[Any]) -> list[tuple[str, type[Any]]]:
    """Each rule, and a subclass that breaks it."""
    return [(rule, fault) for fault in kind.__subclasses__() for rule in fault.breaks]
