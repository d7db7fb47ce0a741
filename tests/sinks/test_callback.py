"""What a plain ``subscribe`` does with callbacks: their exceptions, errors that nobody takes, coroutine functions."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
import reactivex as rx
from reactivex import abc
from reactivex.subject import Subject

from rxstream.errors import Disconnected, LoopShutDown
from rxstream.events import Event
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.operators import text
from rxstream.sinks.callback import SafeObserver, call_last, is_async, log_error, subscribe_async
from rxstream.sinks.iterator import HIGH
from tests.support.scripted import HANG, Scripted, Step, numbered, raising, words
from tests.support.virtual_loop import settle, virtual_time


def safe(subject: Subject[int], observer: SafeObserver[Any]) -> abc.DisposableBase:
    observer.subscription.disposable = subject.subscribe(observer)
    return observer.subscription


# --- plain callbacks ------------------------------------------------------------------------------------------------------


def test_an_observer_is_told_all_and_the_end_once() -> None:
    said: list[object] = []
    subject: Subject[int] = Subject()
    observer = SafeObserver(said.append, said.append, lambda: said.append("end"))
    safe(subject, observer)
    subject.on_next(1)
    subject.on_next(2)
    subject.on_completed()
    observer.on_completed()
    observer.on_error(ValueError())
    observer.on_next(3)
    assert said == [1, 2, "end"]


def test_what_a_callback_raises_ends_its_own_subscription_and_no_other() -> None:
    """The others go on, and miss nothing; the producer notices nothing."""
    subject: Subject[int] = Subject()
    raised, first, second = ValueError("mine"), list[object](), list[int]()

    def fail(value: int) -> None:
        first.append(value)
        raise raised

    safe(subject, SafeObserver(fail, first.append, None))
    safe(subject, SafeObserver(second.append, None, None))
    subject.on_next(1)
    subject.on_next(2)
    assert first == [1, raised]
    assert second == [1, 2]
    assert len(subject.observers) == 1


@pytest.mark.parametrize("signal", ["on_error", "on_completed"])
def test_what_a_last_callback_raises_is_logged(signal: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise ValueError("mine")

    observer = SafeObserver[int](None, fail, fail)
    arguments = (OSError("gone"),) if signal == "on_error" else ()
    getattr(observer, signal)(*arguments)
    assert [(record.name, record.levelname) for record in caplog.records] == [("rxstream", "ERROR")]
    assert "ValueError: mine" in caplog.text


def test_call_last_calls_with_its_arguments() -> None:
    said: list[object] = []
    call_last(said.append, 1)
    assert said == [1]


def test_an_error_that_nobody_takes_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    observer = SafeObserver[int](None, None, None)
    observer.on_next(1)
    observer.on_error(Disconnected("gone"))
    observer.on_error(Disconnected("gone again"))
    observer.on_completed()
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("rxstream", "ERROR", "a stream failed and nobody took the error: Disconnected: gone")
    ]


def test_a_loop_that_is_shut_down_is_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_error(LoopShutDown())
    assert [record.levelname for record in caplog.records] == ["INFO"]


# --- coroutine functions --------------------------------------------------------------------------------------------------


class Called:
    async def __call__(self, item: object) -> None: ...


async def coroutine(*_: object) -> None: ...


@pytest.mark.parametrize(
    ("callbacks", "found"),
    [
        ((), False),
        ((None, print, None), False),
        ((None, coroutine), True),
        ((functools.partial(coroutine, 1),), True),
        ((Called(),), True),
        ((Called,), False),
    ],
)
def test_coroutine_functions_are_recognised(callbacks: tuple[Callable[..., Any] | None, ...], found: bool) -> None:
    assert is_async(*callbacks) is found


class Slow:
    """Coroutine callbacks that take their time and write down what they hear."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.said: list[tuple[float, object]] = []
        self.at_once = self.most_at_once = 0
        self._seconds = seconds

    async def on_next(self, item: object) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self._seconds)
        self.at_once -= 1
        self._say(item)

    async def on_error(self, error: Exception) -> None:
        self._say(error)

    async def on_completed(self) -> None:
        self._say("end")

    def _say(self, what: object) -> None:
        self.said.append((asyncio.get_running_loop().time(), what))


def listen(slow: Slow, steps: list[Step], gate: Gate | None = None) -> tuple[Scripted, abc.DisposableBase]:
    script = Scripted(steps)
    scheduler = LoopScheduler(gate=gate)
    source = script.events().pipe(text())
    return script, subscribe_async(source, slow.on_next, slow.on_error, slow.on_completed, scheduler=scheduler)


@virtual_time
async def test_coroutines_are_awaited_one_after_the_other() -> None:
    slow = Slow(2)
    script, _ = listen(slow, words("a", "b", "c"))
    await asyncio.sleep(100)
    assert slow.said == [(3, "a"), (5, "b"), (7, "c"), (7, "end")]
    assert slow.most_at_once == 1
    assert script.closed == 1


@virtual_time
async def test_a_slow_coroutine_holds_the_source() -> None:
    slow, gate = Slow(1), Gate()
    script, subscription = listen(slow, numbered(500), gate)
    await asyncio.sleep(50)
    assert script.given - len(slow.said) <= HIGH + 2
    await asyncio.sleep(500)
    assert [item for _, item in slow.said] == [*(f"{number} " for number in range(500)), "end"]
    assert not gate.closed
    subscription.dispose()


@virtual_time
async def test_an_error_comes_after_all_items() -> None:
    slow, error = Slow(2), Disconnected("gone")
    listen(slow, [("a", "b"), raising(error)])
    await asyncio.sleep(100)
    assert slow.said == [(2, "a"), (4, "b"), (4, error)]


@virtual_time
async def test_what_a_coroutine_raises_comes_back_to_it_and_closes_the_request() -> None:
    raised, said = ValueError("mine"), list[object]()
    script = Scripted([("a", "b"), HANG])

    async def fail(item: str) -> None:
        said.append(item)
        await asyncio.sleep(1)
        raise raised

    subscribe_async(script.events().pipe(text()), fail, said.append, None, scheduler=LoopScheduler())
    await asyncio.sleep(10)
    assert said == ["a", raised]
    assert script.closed == 1


@pytest.mark.parametrize("steps", [words("a"), ["a", raising(Disconnected("gone"))]], ids=["end", "error"])
@virtual_time
async def test_what_the_last_coroutine_raises_is_logged(steps: list[Step], caplog: pytest.LogCaptureFixture) -> None:
    async def fail(*_: object) -> None:
        raise ValueError("mine")

    subscribe_async(Scripted(steps).events(), None, fail, fail, scheduler=LoopScheduler())
    await asyncio.sleep(10)
    assert [record.getMessage() for record in caplog.records] == ["an observer's last callback raised ValueError"]
    assert "ValueError: mine" in caplog.text


@virtual_time
async def test_plain_functions_may_stand_among_coroutines() -> None:
    said: list[object] = []

    async def on_completed() -> None:
        said.append("end")

    subscribe_async(rx.of(1, 2), said.append, None, on_completed, scheduler=LoopScheduler())
    await asyncio.sleep(1)
    assert said == [1, 2, "end"]


@virtual_time
async def test_disposing_cancels_the_coroutine_that_runs_and_closes() -> None:
    slow = Slow(10)
    script, subscription = listen(slow, [("a", "b"), HANG])
    await asyncio.sleep(5)
    subscription.dispose()
    subscription.dispose()
    await asyncio.sleep(100)
    assert slow.said == []
    assert script.closed == 1


@virtual_time
async def test_disposed_by_its_own_callback_nothing_more_comes_though_it_is_there() -> None:
    subscriptions: list[abc.DisposableBase] = []
    said: list[str] = []
    script = Scripted([("a", "b", "c"), HANG])

    async def on_next(item: str) -> None:
        said.append(item)
        subscriptions[0].dispose()

    subscriptions.append(subscribe_async(script.events().pipe(text()), on_next, None, None, scheduler=LoopScheduler()))
    await asyncio.sleep(10)
    assert said == ["a"]
    assert script.closed == 1


def test_disposed_on_the_loop_before_the_subscription_came_round_it_makes_no_request() -> None:
    """Subscribed in another thread, whose order to begin is still under way."""

    async def main() -> None:
        script, loop = Scripted([HANG]), asyncio.get_running_loop()
        subscriptions: list[abc.DisposableBase] = []

        def other() -> None:
            scheduler = LoopScheduler(loop)
            subscriptions.append(subscribe_async(script.events(), coroutine, None, None, scheduler=scheduler))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(10)  # the loop is blocked meanwhile
        subscriptions[0].dispose()
        await settle()
        assert script.opened == 0

    asyncio.run(main())


@virtual_time
async def test_the_subscribers_context_is_seen_by_coroutines() -> None:
    name: ContextVar[str] = ContextVar("name")
    heard: list[str] = []

    async def on_next(_: Event) -> None:
        heard.append(name.get())

    name.set("ann")
    subscribe_async(Scripted(words("a")).events(), on_next, None, None, scheduler=LoopScheduler())
    name.set("bob")
    await asyncio.sleep(10)
    assert heard == ["ann", "ann"]
