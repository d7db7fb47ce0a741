"""A source that a test plays by hand, in whatever thread it likes, and that knows who subscribed how often."""

from __future__ import annotations

from typing import Any

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxstream.gate import Gate
from rxstream.loop import LoopScheduler

__all__ = ["Manual"]


class Manual(Observable[Any]):
    """Emits what it is told to. It obeys no gate, but shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.subscribed = 0
        """How often it was subscribed to."""
        self.disposed = 0
        """How often that was disposed, or over."""
        self.scheduler: abc.SchedulerBase | None = None
        """The last subscriber's."""
        self._observers: list[abc.ObserverBase[Any]] = []

    @property
    def running(self) -> int:
        """Subscriptions that are not over."""
        return self.subscribed - self.disposed

    @property
    def gate(self) -> Gate:
        """The gate that it should obey."""
        assert isinstance(self.scheduler, LoopScheduler)
        return self.scheduler.gate

    def _subscribe_core(
        self, observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        self.subscribed += 1
        self.scheduler = scheduler
        self._observers.append(observer)

        def dispose() -> None:
            self.disposed += 1
            self._observers.remove(observer)

        return Disposable(dispose)

    def push(self, *items: object) -> None:
        """Emit the items, one after the other."""
        for item in items:
            for observer in tuple(self._observers):
                observer.on_next(item)

    def end(self, error: Exception | None = None) -> None:
        """Complete; or fail of `error`."""
        for observer in tuple(self._observers):
            if error is None:
                observer.on_completed()
            else:
                observer.on_error(error)
