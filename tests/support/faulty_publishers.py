"""A publisher that keeps every rule, and relatives of its that break one each."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, ClassVar

from reactivex import Observable

from rxstream.sinks.publisher import Publisher
from tests.support.faults import Numbers

__all__ = ["MANY", "FaultyPublisher"]

MANY = 200


class FaultyPublisher:
    """A publisher that keeps every rule, with a subscriber's proxy in between. Subclasses break one.

    It is the proxy of both: of the subscriber to the publisher, and of the subscription to the subscriber.
    """

    rules: ClassVar[tuple[str, ...]] = ()
    """Those that a subclass breaks."""
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
    rules = ("1.1", "3.8")

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            super().request(n + 1 if n else n)


class NeverCompletes(FaultyPublisher):
    rules = ("1.2", "1.5")

    class Proxy(Proxy):
        def on_complete(self) -> None:
            """Not yet."""


class FromThreads(FaultyPublisher):
    rules = ("1.3",)

    class Proxy(Proxy):
        def on_next(self, item: Any) -> None:
            threading.Thread(target=super().on_next, args=(item,), daemon=True).start()


class HidesFailures(FaultyPublisher):
    rules = ("1.4",)

    class Proxy(Proxy):
        def on_error(self, error: Exception) -> None:
            self.on_complete()


class HoldsOn(FaultyPublisher):
    rules = ("1.6",)

    class Proxy(Proxy):
        def on_complete(self) -> None:
            self.outer.numbers.open += 1
            super().on_complete()


class TalksAfterTheEnd(FaultyPublisher):
    rules = ("1.7",)

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            if self.over and not isinstance(self.subscriber, _Nobody):
                self.subscriber.on_next(99)
            super().request(n)


class DeafToCancel(FaultyPublisher):
    rules = ("1.8", "3.5", "3.6", "3.12")

    class Proxy(Proxy):
        def cancel(self) -> None:
            """Not me."""


class SpeaksFirst(FaultyPublisher):
    rules = ("1.9",)

    class Proxy(Proxy):
        def on_subscribe(self, subscription: Any) -> None:
            self.subscriber.on_next(0)
            super().on_subscribe(subscription)


class TakesNobody(FaultyPublisher):
    rules = ("1.9",)

    def subscribe(self, subscriber: Any) -> None:
        super().subscribe(subscriber or _Nobody())


class SecondMisses(FaultyPublisher):
    rules = ("1.11",)

    class Proxy(Proxy):
        def on_next(self, item: Any) -> None:
            if self.number == 1 or item != 5:
                super().on_next(item)


class GivesUnasked(FaultyPublisher):
    rules = ("2.1",)

    class Proxy(Proxy):
        def on_subscribe(self, subscription: Any) -> None:
            super().on_subscribe(subscription)
            self.request(1)


class RaisesAtTheEnd(FaultyPublisher):
    rules = ("2.3", "3.6")

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            if self.over:
                raise RuntimeError("it is over already")
            super().request(n)


class CancelsBoth(FaultyPublisher):
    rules = ("2.5",)

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
    rules = ("2.9", "2.10")

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
    rules = ("2.12",)

    class Proxy(Proxy):
        def on_subscribe(self, subscription: Any) -> None:
            super().on_subscribe(subscription)
            self.loop.call_soon(super().on_subscribe, subscription)


class KillsAll(FaultyPublisher):
    rules = ("2.13",)
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
    rules = ("3.2",)

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
    rules = ("3.3",)

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
    rules = ("3.4",)

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            super().request(n)
            if "experiment" in threading.current_thread().name:
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(3)


class CancelledOnce(FaultyPublisher):
    rules = ("3.5", "3.7")

    class Proxy(Proxy):
        def cancel(self) -> None:
            if self.over:
                raise RuntimeError("cancelled twice")
            super().cancel()


class LastDemandWins(FaultyPublisher):
    rules = ("3.8",)

    class Proxy(Proxy):
        asked = False

        def request(self, n: Any) -> None:
            if not self.asked:
                self.asked = True
                super().request(n)


class NothingIsFine(FaultyPublisher):
    rules = ("3.9",)

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            if n is None or n > 0:
                super().request(n)


class RaisesOnNothing(FaultyPublisher):
    rules = ("3.9",)

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            if n is not None and n <= 0:
                raise ValueError(n)
            super().request(n)


class SpeaksOfTypes(FaultyPublisher):
    rules = ("3.9",)

    class Proxy(Proxy):
        def on_error(self, error: Exception) -> None:
            super().on_error(TypeError("wrong") if isinstance(error, ValueError) else error)


class KeepsSubscribers(FaultyPublisher):
    rules = ("3.13",)

    class Proxy(Proxy):
        def cancel(self) -> None:
            self.outer.numbers.kept.append(self.subscriber)
            super().cancel()


class CannotGiveAll(FaultyPublisher):
    rules = ("3.17",)

    class Proxy(Proxy):
        def request(self, n: Any) -> None:
            super().request(min(n or 7, 7))
