"""``rate_limit``: no faster than a limiter permits."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxstream import events as ev
from rxstream._outlet import MOST
from rxstream.errors import Cancelled, ConfigurationError, Disconnected, LimitExceeded
from rxstream.events import TextDelta
from rxstream.limiter import TokenBucket
from rxstream.loop import LoopScheduler
from rxstream.operators import _rate_limit as module
from rxstream.operators import rate_limit, text
from tests.support.scripted import DONE, Recorder, Scripted, numbered, raising, words
from tests.support.timed import END, Listener, Timed
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

GONE = Disconnected("gone")


def bucket_here(rate: float, *, burst: float | None = None) -> TokenBucket:
    return TokenBucket(rate, burst=burst, clock=asyncio.get_running_loop().time)


class Leaky:
    """A limiter of somebody else's: one unit every so often."""

    def __init__(self, every: float = 1.0) -> None:
        self._every = every
        self._lock = asyncio.Lock()
        self.asked: list[float] = []
        self.given = 0.0

    async def acquire(self, amount: float = 1) -> None:
        self.asked.append(amount)
        async with self._lock:
            await asyncio.sleep(amount * self._every)
            self.given += amount


class Refusing:
    """A limiter that gives up."""

    def __init__(self, after: int, error: BaseException = GONE) -> None:
        self._left = after
        self._error = error

    async def acquire(self) -> None:
        await asyncio.sleep(0.5)
        self._left -= 1
        if self._left < 0:
            raise self._error


# --- how fast -------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_what_is_permitted_passes_at_once_and_the_rest_waits_its_turn() -> None:
    source = Timed((1, "a"), (1, "b"), (1, "c"), (1, "d"), (1.5, END))
    listener = Listener(source.pipe(rate_limit(bucket_here(2, burst=2))))
    await asyncio.sleep(20)
    assert listener.items == ["a", "b", "c", "d"]
    assert listener.times == pytest.approx([1, 1, 1.5, 2])
    assert listener.completed
    assert listener.ended_at == pytest.approx(2)
    assert (source.running, listener.watched, listener.gate.holds) == (0, 0, ())


@virtual_time
async def test_a_number_is_a_bucket_of_each_subscriptions_own() -> None:
    limited = Timed(*((0, number) for number in range(4)), (9, END)).pipe(rate_limit(2))
    first, second = Listener(limited), Listener(limited)
    await asyncio.sleep(20)
    assert first.times == pytest.approx([0, 0, 0.5, 1])
    assert second.times == pytest.approx([0, 0, 0.5, 1])


@virtual_time
async def test_streams_share_a_bucket_and_take_turns() -> None:
    bucket = bucket_here(1, burst=1)
    source = Timed((0, "a"), (0, "b"), (0, "c"), (0, END))
    first, second = Listener(source.pipe(rate_limit(bucket))), Listener(source.pipe(rate_limit(bucket)))
    await asyncio.sleep(20)
    assert first.times == pytest.approx([0, 1, 3])
    assert second.times == pytest.approx([2, 4, 5])


@pytest.mark.parametrize(
    ("unit", "times"),
    [
        ("events", [0, 1, 2, 3, 4, 5, 6]),
        ("characters", [0, 0, 1, 3, 10, 12, 12]),
        ("tokens", [0, 0, 0, 1, 3, 7, 7]),
    ],
)
@virtual_time
async def test_what_is_counted(unit: Any, times: list[float]) -> None:
    events = [
        ev.Started(id="x"),
        TextDelta(text="a"),
        TextDelta(text="é\r\n"),
        ev.ThinkingDelta(text="abcdefg"),
        ev.RefusalDelta(text="👩‍👩‍👧!"),
        ev.ToolCallDelta(arguments='{"a":1}'),
        DONE,
    ]
    listener = Listener(Timed(*((0, event) for event in events), (0, END)).pipe(rate_limit(bucket_here(1), unit=unit)))
    await asyncio.sleep(100)
    assert listener.items == events
    assert listener.times == pytest.approx(times)


@virtual_time
async def test_strings_are_text_too() -> None:
    source = Timed((0, "ab"), (0, "c"), (0, 5), (0, END))
    listener = Listener(source.pipe(rate_limit(bucket_here(1, burst=1), unit="characters")))
    await asyncio.sleep(100)
    assert listener.heard == [(0, "ab"), (2, "c"), (2, 5)]


@given(st.lists(st.text("ab \U0001f600é", max_size=9), max_size=12), st.data())
def test_however_text_is_cut_it_has_as_many_tokens(texts: list[str], data: st.DataObject) -> None:
    whole = "".join(texts)
    cut = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    other = [whole[start:end] for start, end in itertools.pairwise([0, *cut, len(whole)])]
    sums: list[int] = []
    for pieces in (texts, other):
        tokens = module._amounts("tokens")
        assert tokens is not None
        sums.append(sum(map(tokens, pieces)))
    assert sums == [len(whole.encode()) // 4] * 2


# --- other limiters -------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_limiter_that_takes_an_amount_is_asked_once_an_item() -> None:
    limiter = Leaky()
    source = Timed((0, TextDelta(text="abc")), (0, DONE), (0, TextDelta(text="de")), (0, END))
    listener = Listener(source.pipe(rate_limit(limiter, unit="characters")))
    await asyncio.sleep(20)
    assert limiter.asked == [3, 2]
    assert (listener.times, listener.ended_at) == ([3, 3, 5], 5)


@virtual_time
async def test_one_that_takes_none_is_asked_once_a_unit() -> None:
    permits = asyncio.Semaphore(2)
    listener = Listener(Timed((0, "ab"), (0, "cde"), (0, END)).pipe(rate_limit(permits, unit="characters")))
    await asyncio.sleep(1)
    assert listener.items == ["ab"]
    for _ in range(3):
        permits.release()
    await asyncio.sleep(1)
    assert (listener.heard, listener.completed) == ([(0, "ab"), (1, "cde")], True)
    assert permits.locked()


@pytest.mark.parametrize("limiter", [threading.Semaphore(), object(), "5", None])
def test_what_is_no_limiter_is_refused(limiter: Any) -> None:
    with pytest.raises(ConfigurationError, match="limiter"):
        rate_limit(limiter)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), True])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ConfigurationError, match="limiter"):
        rate_limit(rate)


def test_a_unit_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="unit"):
        rate_limit(1, unit="words")  # type: ignore[arg-type]


# --- ends -----------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_an_error_comes_after_what_waits() -> None:
    listener = Listener(Timed((0, "a"), (0, "b"), (0, "c"), (0, GONE)).pipe(rate_limit(1)))
    await asyncio.sleep(20)
    assert listener.heard == [(0, "a"), (1, "b"), (2, "c")]
    assert (listener.error, listener.ended_at) == (GONE, 2)


@virtual_time
async def test_an_end_with_nothing_waiting_is_told_at_once() -> None:
    completed = Listener(Timed((0, "a"), (0.25, END)).pipe(rate_limit(1)))
    failed = Listener(Timed((0, "a"), (0.25, GONE)).pipe(rate_limit(1)))
    await asyncio.sleep(20)
    assert (completed.ended_at, failed.ended_at, failed.error) == (0.25, 0.25, GONE)


@virtual_time
async def test_what_the_limiter_raises_is_the_streams_error_and_nothing_is_lost() -> None:
    script = Scripted([*numbered(3)[:-1], 100, "late", DONE])
    listener = Listener(script.events().pipe(rate_limit(Refusing(1))))
    await asyncio.sleep(20)
    assert listener.texts == ["0 ", "1 "]
    assert (listener.error, listener.ended_at) == (GONE, 1)
    assert (script.running, listener.watched, listener.gate.holds) == (0, 0, ())


@virtual_time
async def test_a_cancelled_wait_that_nobody_disposed_is_an_error() -> None:
    listener = Listener(Timed((0, "a"), (0, "b"), (50, END)).pipe(rate_limit(Refusing(0, asyncio.CancelledError()))))
    await asyncio.sleep(20)
    assert listener.items == ["a", "b"]
    assert isinstance(listener.error, Cancelled)


# --- gates, disposal, bounds ----------------------------------------------------------------------------------------------


@virtual_time
async def test_while_something_waits_the_source_is_held() -> None:
    script = Scripted(numbered(5))
    listener = Listener(script.events().pipe(rate_limit(1)))
    await asyncio.sleep(2.5)
    assert len(listener.items) == 3
    assert script.given <= 4
    assert listener.gate.holds == (), "the subscriber's gate is its own"
    await asyncio.sleep(20)
    assert listener.texts == ["0 ", "1 ", "2 ", "3 ", "4 "]
    assert listener.times == pytest.approx([0, 1, 2, 3, 4, 5])
    assert (listener.completed, script.running) == (True, 0)


@virtual_time
async def test_a_closed_gate_stops_it_and_no_burst_comes_after() -> None:
    listener = Listener(Timed(*((0, number) for number in range(5)), (0, END)).pipe(rate_limit(1)))
    listener.pause(1.5, 7.25)
    await asyncio.sleep(20)
    assert listener.items == [0, 1, 2, 3, 4]
    assert listener.times == pytest.approx([0, 1, 7.25, 7.25, 8.25])
    assert listener.ended_at == pytest.approx(8.25)


@virtual_time
async def test_what_comes_at_a_closed_gate_takes_no_permit_before_it_opens() -> None:
    bucket = bucket_here(1, burst=5)
    source: Subject[str] = Subject()
    listener = Listener(source.pipe(rate_limit(bucket)))
    listener.gate.hold("test")
    source.on_next("a")
    source.on_next("b")
    await settle()
    assert (listener.items, bucket.available) == ([], 5)
    listener.gate.release("test")
    await settle()
    assert (listener.items, bucket.available) == (["a", "b"], 3)
    listener.subscription.dispose()


@virtual_time
async def test_a_listener_that_closes_the_gate_gets_no_more_until_it_opens() -> None:
    source: Subject[int] = Subject()
    recorder, scheduler = Recorder(), LoopScheduler()

    def on_next(item: int) -> None:
        assert not scheduler.gate.closed
        recorder.on_next(item)
        if item in (1, 3):
            scheduler.gate.hold("test")

    source.pipe(rate_limit(2)).subscribe(on_next, on_completed=recorder.on_completed, scheduler=scheduler)
    for number in range(5):
        source.on_next(number)
    source.on_completed()
    assert recorder.items == [0, 1]
    for heard, at in ((4, 10), (5, 20)):
        await asyncio.sleep(10)
        assert not recorder.completed
        scheduler.gate.release("test")
        await settle()
        assert (len(recorder.items), recorder.times[-1]) == (heard, at)
    assert recorder.completed


@pytest.mark.parametrize("at", [0, 0.5, 1, 1.5, 3, 3.75, 9])
@virtual_time
async def test_when_it_is_disposed_nothing_comes_and_nothing_is_left(at: float) -> None:
    bucket = bucket_here(1, burst=1)
    script = Scripted(words("a", "b", "c", "d", every=0.25))
    listener = Listener(script.events().pipe(rate_limit(bucket)))
    listener.pause(2.75, 3.5)
    await asyncio.sleep(at)
    await settle()
    heard = list(listener.items)
    listener.subscription.dispose()
    await asyncio.sleep(20)
    assert listener.items == heard
    assert (script.running, listener.watched, bucket.waiting, bucket.available) == (0, 0, 0, 1)


@virtual_time
async def test_when_it_is_disposed_while_something_waits_the_source_is_let_go() -> None:
    source = Timed((0, "a"), (0, "b"), (9, END))
    listener = Listener(source.pipe(rate_limit(1)))
    await asyncio.sleep(0.5)
    assert source.gate.closed
    listener.subscription.dispose()
    assert not source.gate.closed


@virtual_time
async def test_it_may_be_disposed_by_who_hears_it() -> None:
    script = Scripted(numbered(9))
    listener = Listener(script.events().pipe(rate_limit(1), ops.take(3)))
    await asyncio.sleep(20)
    assert listener.texts == ["0 ", "1 ", "2 "]
    assert (listener.completed, script.running, listener.watched) == (True, 0, 0)


@virtual_time
async def test_it_may_be_disposed_by_the_limiter() -> None:
    class Disposing:
        async def acquire(self) -> None:
            listener.subscription.dispose()

    source = Timed((1, "a"), (9, END))
    listener = Listener(source.pipe(rate_limit(Disposing())))
    await asyncio.sleep(20)
    assert (listener.items, listener.error, source.running, listener.watched) == ([], None, 0, 0)


@virtual_time
async def test_what_comes_of_an_item_being_heard_comes_after_it() -> None:
    source: Subject[int] = Subject()
    heard: list[int] = []

    def on_next(item: int) -> None:
        if item < 5:
            source.on_next(item + 1)
        heard.append(item)

    source.pipe(rate_limit(2)).subscribe(on_next)
    source.on_next(0)
    await asyncio.sleep(20)
    assert heard == [0, 1, 2, 3, 4, 5]


@virtual_time
async def test_an_endless_source_waits_in_no_memory() -> None:
    script = Scripted([*(f"{number} " for number in range(10_000)), DONE])
    listener = Listener(script.events().pipe(rate_limit(1)))
    await asyncio.sleep(50.5)
    assert len(listener.items) == 51
    assert script.given <= 53
    listener.subscription.dispose()


def flood(observer: abc.ObserverBase[int], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
    for number in range(MOST + 100):
        observer.on_next(number)
    return Disposable()


@pytest.mark.parametrize("source", [Subject[int](), Observable(flood)], ids=["hot", "while it is subscribed"])
@virtual_time
async def test_one_that_does_not_stop_ends_in_an_error_after_what_waits(source: Observable[int]) -> None:
    scheduler, recorder = LoopScheduler(), Recorder()
    scheduler.gate.hold("test")
    limited = source.pipe(rate_limit(1e6))
    limited.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler)
    if isinstance(source, Subject):
        for number in range(MOST + 100):
            source.on_next(number)
        assert not source.observers
    scheduler.gate.release("test")
    await asyncio.sleep(1)
    assert recorder.items == list(range(MOST + 1))
    assert isinstance(recorder.error, LimitExceeded)


@virtual_time
async def test_a_long_queue_lets_the_loop_breathe() -> None:
    source: Subject[int] = Subject()
    listener = Listener(source.pipe(rate_limit(bucket_here(1, burst=10_000))))
    listener.gate.hold("test")
    for number in range(5000):
        source.on_next(number)
    listener.gate.release("test")
    await settle()
    assert 0 < len(listener.items) < 5000
    await asyncio.sleep(1)
    assert len(listener.items) == 5000
    listener.subscription.dispose()


@virtual_time
async def test_an_observer_that_raises_gets_it_back_and_is_left_alone() -> None:
    said: list[Exception] = []
    source = Timed(*((0, number) for number in range(5)), (50, END))
    heard: list[int] = []

    def on_next(item: int) -> None:
        heard.append(item)
        if item == 1:
            raise ValueError("no")

    source.pipe(rate_limit(1)).subscribe(on_next, said.append)
    await asyncio.sleep(20)
    assert heard == [0, 1]
    assert source.running == 0
    assert [type(error) for error in said] == [ValueError]


def test_without_a_loop_of_its_own_it_works_too() -> None:
    seen: list[int] = []
    limited = rx.of(1, 2, 3, 4, 5).pipe(rate_limit(TokenBucket(1000, burst=1)), ops.do_action(seen.append))
    assert limited.run() == 5
    assert seen == [1, 2, 3, 4, 5]


@virtual_time
async def test_it_stands_before_other_operators() -> None:
    script = Scripted([*"abc", raising(GONE)])
    listener = Listener(script.events().pipe(rate_limit(1, unit="characters"), text()))
    await asyncio.sleep(20)
    assert (listener.items, listener.times, listener.error) == (["a", "b", "c"], [0, 1, 2], GONE)


@given(
    st.lists(st.tuples(st.floats(0, 1.5), st.integers(0, 6)), max_size=15),
    st.lists(st.tuples(st.floats(0, 12), st.floats(0.1, 6)), max_size=3),
    st.one_of(st.none(), st.floats(0, 20)),
    st.booleans(),
)
def test_nothing_is_lost_or_doubled_and_it_is_never_too_fast(
    gaps: list[tuple[float, int]], pauses: list[tuple[float, float]], until: float | None, foreign: bool
) -> None:
    @virtual_time
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        times = [sum(gap for gap, _ in gaps[: n + 1]) for n in range(len(gaps))]
        items = [TextDelta(text="x" * length, seq=number) for number, (_, length) in enumerate(gaps)]
        limiter = Leaky(0.25) if foreign else bucket_here(4, burst=3)
        source = Timed(*zip(times, items, strict=True), (30, END))
        listener = Listener(source.pipe(rate_limit(limiter, unit="characters")))
        for at, span in pauses:
            listener.pause(at, at + span)
        if until is not None:
            loop.call_at(until, listener.subscription.dispose)
        await asyncio.sleep(200)
        assert listener.items == items[: len(listener.items)]
        if until is None:
            assert (listener.items, listener.completed) == (items, True)
        assert (source.running, listener.watched, listener.gate.holds) == (0, 0, ())
        if isinstance(limiter, TokenBucket):
            assert (limiter.waiting, limiter.available) == (0, 3)
        for first, start in enumerate(listener.times):
            amounts = [len(item.text) for item in listener.items[first:]]
            for last, at in enumerate(listener.times[first:], 1):  # a burst, a debt, and one that a pause kept
                assert sum(amounts[:last]) <= (at - start) * 4 + 3 + 3 + 6 + 1e-6

    main()
