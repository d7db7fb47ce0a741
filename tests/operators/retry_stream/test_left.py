"""``retry_stream``, left: in every phase, from threads, by its loop; nothing is asked any more, and nothing is held."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex.disposable import BooleanDisposable
from reactivex.subject import Subject

from rxstream import operators as rxo
from rxstream.errors import (
    ConfigurationError,
    LimitExceeded,
    LoopShutDown,
)
from rxstream.events import (
    Event,
    Finished,
    Retrying,
    Started,
    TextDelta,
)
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from tests.support.contests import Told, started, watchers
from tests.support.retried import Fickle, Model, busy, lost, retry, story
from tests.support.scripted import DONE
from tests.support.until import until
from tests.support.virtual_loop import settle, virtual_time

POLICIES = ["fail", "resume", "restart", "continue_", "buffer"]


@pytest.mark.parametrize("policy", POLICIES)
@virtual_time
async def test_disposed_at_any_moment_it_leaves_nothing(policy: str) -> None:
    for tenths in range(110):
        model = Model(started(), "Hel", "lo", DONE, faults=[(0, busy()), (2, lost())], total=50)
        told = retry(model.stream, after_output=policy)
        await asyncio.sleep(tenths / 10)
        told.subscription.dispose()
        before = (len(told.items), told.error)
        await settle()
        assert all(timer.cancelled() for timer in vars(asyncio.get_running_loop())["_scheduled"])
        assert (model.running, model.closed, await watchers(told.gate)) == (0, 1, 0)
        await asyncio.sleep(20)
        assert (len(told.items), told.error) == before


@virtual_time
async def test_disposed_at_once_it_asks_nothing() -> None:
    source = Fickle(["a", DONE])
    told = retry(source.stream)
    told.subscription.dispose()
    await asyncio.sleep(10)
    assert (told.items, source.running) == ([], 0)


@pytest.mark.parametrize("policy", POLICIES)
@virtual_time
async def test_a_handler_may_dispose_at_any_event(policy: str) -> None:
    for at in range(9):
        model = Model(started(), "Hel", "lo", DONE, faults=[(0, busy()), (2, lost())])
        told = retry(model.stream, after_output=policy)

        def stop(_: Event, at: int = at, told: Told = told) -> None:
            if len(told.items) == at:
                told.subscription.dispose()

        told.and_then = stop
        await asyncio.sleep(50)
        assert (model.running, model.closed, await watchers(told.gate)) == (0, 1, 0)
        assert len(told.items) == at or (told.ended_at is not None and (at == 0 or len(told.items) < at))


@virtual_time
async def test_subscribed_in_another_thread_it_runs_on_its_loop() -> None:
    source = Fickle([busy()], ["a", DONE])
    scheduler = LoopScheduler(asyncio.get_running_loop())
    stream = source.stream.pipe(rxo.retry_stream(budget=None))
    told = await asyncio.to_thread(Told, stream, scheduler=scheduler)
    await asyncio.sleep(10)
    assert (told.texts, told.completed) == (["a"], True)


def test_that_the_loop_goes_down_in_a_delay_is_told() -> None:
    told: list[Told] = []

    @virtual_time
    async def run() -> None:
        told.append(retry(Fickle(["Hel", lost()]).stream, after_output="restart", delay=10))
        await asyncio.sleep(1)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await settle()

    run()
    error = told[0].failure
    assert isinstance(error, LoopShutDown)
    assert error.partial is not None
    assert error.partial.text == "Hel"


@virtual_time
async def test_a_source_that_does_not_stop_for_a_pause_is_stopped() -> None:
    source: Subject[Event] = Subject()
    told = retry(source)
    source.on_next(TextDelta(text="a"))
    told.gate.hold("user")
    for seq in range(65_538):
        source.on_next(TextDelta(text="b", seq=seq + 1))
    assert not source.observers
    told.gate.release("user")
    await until(lambda: told.ended_at is not None)
    assert (type(told.error), len(told.items)) == (LimitExceeded, 65_537)


@pytest.mark.parametrize("ends", [True, False])
@virtual_time
async def test_a_source_that_does_not_know_yet_that_it_failed_is_not_heard(ends: bool) -> None:
    def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        for seq in range(10):
            observer.on_next(TextDelta(text="too many", seq=seq))
        if ends:
            observer.on_completed()
        return closed

    closed = BooleanDisposable()
    requests = iter([Observable(subscribe), Fickle(["a", DONE]).stream])
    told = retry(
        rx.defer(lambda _: next(requests)),
        after_output="buffer",
        max_buffered=5,
        when=lambda error: not closed.is_disposed,
    )
    await settle()
    assert closed.is_disposed
    await asyncio.sleep(10)
    assert story(told) == [
        (0, "1.0 Retrying LimitExceeded 0.5 again"),
        (0, "1.1 Usage 6 estimated"),
        (0.5, "2.0 a"),
        (0.5, "2.1 Finished"),
    ]


@virtual_time
async def test_a_thousand_attempts_do_not_grow_the_stack() -> None:
    told = retry(rx.throw(busy()), attempts=1000, delay=0)
    await asyncio.sleep(1)
    assert (len(told.items), str(told.error)) == (999, "busy")
    assert [event.attempt for event in told.items] == list(range(1, 1000))


@virtual_time
async def test_what_a_handler_raises_ends_the_stream_and_closes_the_request() -> None:
    for at in (Retrying, Started, TextDelta, Finished):
        raised: list[Exception] = []
        model = Model(started(), "a", DONE, faults=[(1, busy())])

        def on_next(event: Event, at: type[Event] = at) -> None:
            if isinstance(event, at):
                raise ZeroDivisionError

        Stream.of(model.stream.pipe(rxo.retry_stream(budget=None))).subscribe(on_next, raised.append)
        await asyncio.sleep(20)
        assert [type(error) for error in raised] == [ZeroDivisionError]
        assert (model.running, model.closed) == (0, 1)


@virtual_time
async def test_what_cannot_be_asked_ends_the_stream() -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ConfigurationError("no key")

    for name in ("conversation", "ask"):
        model = Model(DONE)
        setattr(model, name, fail)
        told = retry(model.stream)
        await settle()
        assert str(told.error) == "no key"
        assert await watchers(told.gate) == 0
