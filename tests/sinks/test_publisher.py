"""`Publisher`: no more than was asked for, one at a time, and every end in its place. The rules' own tests are the kit's."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxstream._outlet import MOST
from rxstream.errors import ConfigurationError, Disconnected, LimitExceeded
from rxstream.loop import shared_loop
from rxstream.operators import text
from rxstream.sinks.publisher import Publisher, Subscription
from tests.support.scripted import HANG, Scripted, numbered, raising, words
from tests.support.steps import Signal
from tests.support.virtual_loop import settle, virtual_time


class Taker:
    """Writes down what it is told, and when; `react` is called with itself after each item."""

    def __init__(self, ask: float | None = 0, *, react: Callable[[Taker], object] = lambda _taker: None) -> None:
        self.ask = ask
        self.react = react
        self.items: list[Any] = []
        self.times: list[float] = []
        self.ends: list[Exception | None] = []
        self.subscription: Subscription
        self.over = Signal()

    def on_subscribe(self, subscription: Subscription) -> None:
        self.subscription = subscription
        if self.ask != 0:
            subscription.request(self.ask)

    def on_next(self, item: Any) -> None:
        assert not self.ends
        self.items.append(item)
        self.times.append(asyncio.get_running_loop().time())
        self.react(self)

    def on_error(self, error: Exception) -> None:
        self.ends.append(error)
        self.over.set()

    def on_complete(self) -> None:
        self.ends.append(None)
        self.over.set()


def texts(script: Scripted) -> Observable[str]:
    return script.events().pipe(text())


# --- demand ---------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_items_come_when_they_are_asked_for_or_when_they_are_there_whichever_is_later() -> None:
    taker = Taker()
    Publisher(texts(Scripted(words("a", "b", "c", "d")))).subscribe(taker)
    await asyncio.sleep(1.5)
    assert taker.items == []
    taker.subscription.request(2)
    await asyncio.sleep(5)
    assert list(zip(taker.items, taker.times, strict=True)) == [("a", 1.5), ("b", 2)]
    taker.subscription.request(1)
    taker.subscription.request(1)
    await settle()
    assert list(zip(taker.items[2:], taker.times[2:], strict=True)) == [("c", 6.5), ("d", 6.5)]
    assert taker.ends == [None]


@virtual_time
async def test_what_is_asked_for_beforehand_adds_up() -> None:
    taker = Taker(2)
    Publisher(texts(Scripted([1, *numbered(10)]))).subscribe(taker)
    taker.subscription.request(3)
    await asyncio.sleep(2)
    assert len(taker.items) == 5
    assert taker.ends == []


@pytest.mark.parametrize("all_of_it", [None, math.inf, 2**63])
@virtual_time
async def test_all_there_is(all_of_it: float | None) -> None:
    taker = Taker(all_of_it)
    Publisher(texts(Scripted(numbered(300)))).subscribe(taker)
    taker.subscription.request(5)
    await asyncio.sleep(1)
    assert taker.items == [f"{number} " for number in range(300)]
    assert taker.ends == [None]


@pytest.mark.parametrize("n", [0, -1, 0.5, math.nan, -math.inf, True, "2"])
@virtual_time
async def test_what_is_no_demand_is_told_as_an_error_and_closes_the_request(n: Any) -> None:
    script, taker = Scripted([("a",) * 5, HANG]), Taker(1)
    Publisher(texts(script)).subscribe(taker)
    await settle()
    taker.subscription.request(n)
    await settle()
    [error] = taker.ends
    assert isinstance(error, ConfigurationError)
    assert f"request({n!r})" in str(error)
    assert (taker.items, script.closed) == (["a"], 1)
    taker.subscription.request(n)
    taker.subscription.request(1)
    await settle()
    assert len(taker.ends) == len(taker.items) == 1


@virtual_time
async def test_what_is_no_demand_is_told_after_the_item_in_whose_midst_it_was_asked() -> None:
    def react(taker: Taker) -> None:
        taker.subscription.request(0)
        assert taker.ends == []

    taker = Taker(None, react=react)
    Publisher(texts(Scripted(["a", "b", HANG]))).subscribe(taker)
    await settle()
    assert taker.items == ["a"]
    assert [type(error) for error in taker.ends] == [ConfigurationError]


@virtual_time
async def test_what_is_no_demand_at_the_start_makes_no_request_at_all() -> None:
    script, taker = Scripted([HANG]), Taker(-1)
    Publisher(script.events()).subscribe(taker)
    await settle()
    assert [type(error) for error in taker.ends] == [ConfigurationError]
    assert script.opened == 0


# --- bounds ---------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_without_demand_the_source_is_held_at_the_high_mark_and_released_at_the_low_one() -> None:
    script, taker = Scripted(numbered(1000)), Taker()
    Publisher(texts(script), high=8, low=2).subscribe(taker)
    await settle()
    assert 8 <= script.given <= 9
    taker.subscription.request(5)
    await settle()
    assert 8 <= script.given <= 9
    taker.subscription.request(1)
    await settle()
    assert 14 <= script.given <= 15
    taker.subscription.cancel()


@virtual_time
async def test_item_by_item() -> None:
    script, made = Scripted(numbered(100)), list[int]()

    def react(taker: Taker) -> None:
        made.append(script.given)
        taker.subscription.request(1)

    taker = Taker(1, react=react)
    Publisher(texts(script), high=1, low=0).subscribe(taker)
    await asyncio.sleep(1)
    assert taker.ends == [None]
    assert all(given <= number + 2 for number, given in enumerate(made))


@virtual_time
async def test_a_source_that_does_not_stop_when_it_is_held_has_a_limit() -> None:
    taker = Taker()
    Publisher(rx.from_iterable(range(MOST + 5))).subscribe(taker)
    await settle()
    assert taker.ends == []
    taker.subscription.request(None)
    await asyncio.sleep(1)
    assert taker.items == list(range(MOST))
    assert [type(error) for error in taker.ends] == [LimitExceeded]


@virtual_time
async def test_it_may_drop_instead() -> None:
    taker = Taker()
    Publisher(rx.of(1, 2, 3, 4), high=2, overflow="drop_oldest").subscribe(taker)
    await settle()
    taker.subscription.request(None)
    assert (taker.items, taker.ends) == ([3, 4], [None])


@pytest.mark.parametrize(
    ("options", "named"), [({"high": 0}, "high"), ({"low": 64}, "low"), ({"overflow": "x"}, "overflow")]
)
def test_bounds_that_make_no_sense_are_refused_at_once(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{named}="):
        Publisher(rx.never(), **options)


@virtual_time
async def test_a_long_queue_lets_the_loop_breathe() -> None:
    """And what is asked for meanwhile adds to it."""
    loop: Any = asyncio.get_running_loop()
    rounds: list[int] = []
    taker = Taker(react=lambda taker: loop.advance(0.001))
    Publisher(rx.from_iterable(range(1000))).subscribe(taker)
    await settle()
    taker.subscription.request(999)
    taker.subscription.request(1)
    while not taker.ends:
        rounds.append(len(taker.items))
        await asyncio.sleep(0)
    assert rounds == list(range(64, 1000, 64))


@virtual_time
async def test_asking_in_the_handler_never_recurses() -> None:
    """As many items as may wait, each asked for in the midst of the one before, first as they come, then from the buffer."""
    depths: set[int] = set()

    def react(taker: Taker) -> None:
        depths.add(len(traceback.extract_stack(limit=200)) if len(taker.items) % 1000 == 0 else 0)
        taker.subscription.request(1)

    for first in (1, 0):
        taker = Taker(first, react=react)
        Publisher(rx.from_iterable(range(MOST))).subscribe(taker)
        await settle()
        taker.subscription.request(1)
        await asyncio.sleep(10)
        assert len(taker.items) == MOST
    assert max(depths) < 100


# --- ends -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [None, Disconnected("gone")])
@virtual_time
async def test_the_end_comes_after_what_waits_and_needs_no_demand_of_its_own(error: Exception | None) -> None:
    taker = Taker(1)
    script = Scripted(["a", "b", raising(error)] if error else ["a", *words("b")])
    Publisher(texts(script)).subscribe(taker)
    await asyncio.sleep(5)
    assert (taker.items, taker.ends) == (["a"], [])
    taker.subscription.request(1)
    assert (taker.items, taker.ends) == (["a", "b"], [error])


@virtual_time
async def test_an_end_with_nothing_before_it_needs_no_demand() -> None:
    for source, end in ((rx.empty(), type(None)), (rx.throw(Disconnected("gone")), Disconnected)):
        taker = Taker()
        Publisher(source).subscribe(taker)
        await settle()
        assert [type(error) for error in taker.ends] == [end]


@pytest.mark.parametrize("where", ["on_subscribe", "on_next"])
@virtual_time
async def test_what_a_subscriber_raises_closes_its_request_and_comes_back_to_it(where: str) -> None:
    fault, script = ZeroDivisionError("mine"), Scripted(["a", "b", HANG])

    class Raising(Taker):
        def on_subscribe(self, subscription: Subscription) -> None:
            super().on_subscribe(subscription)
            if where == "on_subscribe":
                raise fault

        def on_next(self, item: Any) -> None:
            super().on_next(item)
            raise fault

    taker, other = Raising(None), Taker(None)
    publisher = Publisher(texts(script))
    publisher.subscribe(taker)
    publisher.subscribe(other)
    await settle()
    assert taker.items == ([] if where == "on_subscribe" else ["a"])
    assert taker.ends == [fault]
    assert other.items == ["a", "b"]
    assert script.running == 1
    other.subscription.cancel()


@pytest.mark.parametrize("end", ["on_complete", "on_error"])
@virtual_time
async def test_what_a_last_signal_raises_is_logged(end: str, caplog: pytest.LogCaptureFixture) -> None:
    taker = Taker()

    def last(*_: object) -> None:
        raise ZeroDivisionError

    setattr(taker, end, last)
    with caplog.at_level(logging.ERROR, "rxstream"):
        Publisher(rx.empty() if end == "on_complete" else rx.throw(Disconnected("gone"))).subscribe(taker)
        await settle()
    assert "last callback raised" in caplog.text


# --- cancelling -----------------------------------------------------------------------------------------------------------


@virtual_time
async def test_cancel_closes_the_request_and_nothing_is_told_any_more() -> None:
    script, taker = Scripted([*numbered(200), HANG]), Taker(1)
    Publisher(texts(script)).subscribe(taker)
    await settle()
    for _ in range(1000):
        taker.subscription.cancel()
    taker.subscription.request(None)
    taker.subscription.request(-1)
    await settle()
    assert (len(taker.items), taker.ends, script.running) == (1, [], 0)


@virtual_time
async def test_cancel_in_the_handler() -> None:
    script = Scripted([("a", "b", "c"), HANG])
    taker = Taker(None, react=lambda taker: taker.subscription.cancel())
    Publisher(texts(script)).subscribe(taker)
    await settle()
    assert (taker.items, script.running) == (["a"], 0)


@virtual_time
async def test_cancelled_at_once_it_makes_no_request() -> None:
    class Unwilling(Taker):
        def on_subscribe(self, subscription: Subscription) -> None:
            subscription.cancel()

    script = Scripted([HANG])
    Publisher(script.events()).subscribe(Unwilling())
    await settle()
    assert script.opened == 0


@virtual_time
async def test_a_subscriber_that_has_cancelled_is_held_by_nobody() -> None:
    """Not even by the subscription that it may have given to others."""
    taker = Taker(1)
    Publisher(texts(Scripted(["a", HANG]))).subscribe(taker)
    await settle()
    kept, gone = taker.subscription, weakref.ref(taker)
    kept.cancel()
    del taker
    await settle()
    gc.collect()
    assert gone() is None


# --- threads --------------------------------------------------------------------------------------------------------------


def test_without_a_running_loop_it_runs_on_the_shared_one() -> None:
    class OnLoop(Taker):
        def on_next(self, item: Any) -> None:
            super().on_next(asyncio.get_running_loop() is shared_loop())

    taker = OnLoop(None)
    Publisher(rx.of(1, 2)).subscribe(taker)
    taker.over.wait()
    assert (taker.items, taker.ends) == ([True, True], [None])


def produced_by_threads(count: int, threads: int) -> Observable[int]:
    """What several threads push at once, with no regard for one another: `count` each."""

    def subscribe(observer: abc.ObserverBase[int], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        left = threading.Semaphore(0)

        def produce(first: int) -> None:
            for number in range(first, first + count):
                observer.on_next(number)
            left.release()

        def end() -> None:
            for _ in range(threads):
                left.acquire()
            observer.on_completed()

        for index in range(threads):
            threading.Thread(target=produce, args=(index * count,), daemon=True).start()
        threading.Thread(target=end, daemon=True).start()
        return Disposable()

    return Observable(subscribe)


def test_signals_come_one_at_a_time_however_many_threads_push() -> None:
    inside: list[int] = []

    def react(taker: Taker) -> None:
        inside.append(1)
        assert len(inside) == 1
        inside.pop()

    taker = Taker(None, react=react)
    Publisher(produced_by_threads(2000, 4)).subscribe(taker)
    taker.over.wait()
    assert sorted(taker.items) == list(range(8000))
    assert taker.ends == [None]


def test_asked_from_threads_at_once_all_of_it_is_counted() -> None:
    """Ten threads ask for a hundred each: a thousand come, and not one more."""
    script, taker = Scripted([*numbered(3000)]), Taker()
    Publisher(texts(script)).subscribe(taker)
    asyncio.run_coroutine_threadsafe(settle(), shared_loop()).result(10)

    def ask() -> None:
        for _ in range(100):
            taker.subscription.request(1)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    for _ in range(50):
        asyncio.run_coroutine_threadsafe(settle(), shared_loop()).result(10)
    assert taker.items == [f"{number} " for number in range(1000)]
    taker.subscription.cancel()


def test_cancel_from_a_thread_never_waits_for_the_loop() -> None:
    """Nor is anything told after it but the one item on its way."""
    script, went_on = Scripted([*numbered(100), HANG]), threading.Event()
    closed, busy = Signal(), Signal()
    script.on_close = closed.set

    def react(taker: Taker) -> None:
        busy.set()
        assert went_on.wait(10)

    taker = Taker(None, react=react)
    Publisher(texts(script)).subscribe(taker)
    busy.wait()
    taker.subscription.cancel()
    went_on.set()
    closed.wait()
    assert len(taker.items) == 1


# --- subscribing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [None, object(), rx.never(), Subject[int]()])
def test_who_is_no_subscriber_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match="on_subscribe, on_next, on_error, on_complete"):
        Publisher(rx.never()).subscribe(thing)


def test_coroutines_are_refused() -> None:
    class Async(Taker):
        async def on_next(self, item: Any) -> None: ...  # type: ignore[override]

    subscriber: Any = Async()
    with pytest.raises(ConfigurationError, match="to_async_iterable"):
        Publisher(rx.never()).subscribe(subscriber)


@virtual_time
async def test_each_subscriber_is_a_request_of_its_own() -> None:
    script, first, second = Scripted(numbered(10)), Taker(None), Taker(3)
    publisher = Publisher(texts(script))
    publisher.subscribe(first)
    publisher.subscribe(second)
    await settle()
    assert (len(first.items), len(second.items), script.opened) == (10, 3, 2)
    second.subscription.cancel()


@virtual_time
async def test_demand_goes_through_a_filter() -> None:
    taker = Taker(2)
    numbers: Observable[int] = rx.from_iterable(range(10_000))
    Publisher(numbers.pipe(ops.filter((999, 1999, 2999).__contains__))).subscribe(taker)
    await settle()
    assert taker.items == [999, 1999]


# --- law ------------------------------------------------------------------------------------------------------------------

MOVES = st.lists(
    st.one_of(st.tuples(st.just("ask"), st.integers(1, 30)), st.tuples(st.just("wait"), st.integers(1, 4))), max_size=20
)


@given(st.lists(st.integers(0, 20), max_size=8), MOVES, st.integers(1, 20), st.booleans())
def test_never_more_than_was_asked_for_and_all_of_it_in_order(
    bursts: list[int],
    moves: list[tuple[str, int]],
    high: int,
    fails: bool,
) -> None:
    """Law: however the source bursts and the subscriber asks, it gets min(asked, made), in order; the end comes last."""
    total = sum(bursts)
    numbers = iter(range(total))
    steps: list[Any] = []
    for burst in bursts:
        steps += [1.0, *(str(next(numbers)) for _ in range(burst))]
    steps += [raising(Disconnected("gone"))] if fails else words()

    @virtual_time
    async def main() -> None:
        taker, asked = Taker(), 0
        script = Scripted(steps)
        Publisher(texts(script), high=high).subscribe(taker)
        for move, amount in moves:
            if move == "wait":
                await asyncio.sleep(amount)
            elif not taker.ends:
                taker.subscription.request(amount)
                asked += amount
            assert len(taker.items) <= asked
            assert script.given <= len(taker.items) + high + 2
        await asyncio.sleep(1000)
        taker.subscription.request(None)
        await asyncio.sleep(1000)
        assert taker.items == [str(number) for number in range(total)]
        assert [type(end) for end in taker.ends] == [Disconnected if fails else type(None)]
        assert script.running == 0

    main()
