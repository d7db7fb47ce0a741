"""Each figure, exactly; each ending, once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from reactivex import Observable
from reactivex import operators as ops

import rxstream
from rxstream import events as ev
from rxstream import operators as rxo
from rxstream._asking import asking_of
from rxstream.errors import ConfigurationError, Overloaded
from rxstream.events import Event, TextDelta
from rxstream.guards import acquired
from rxstream.limiter import TokenBucket
from rxstream.loop import LoopScheduler, shared_loop
from rxstream.metrics import Measurement, StreamMetrics, StreamOpened
from rxstream.operators import meter
from rxstream.operators._course import Course
from rxstream.sinks.iterator import to_async_iterable
from rxstream.telemetry.memory import MemorySink
from rxstream.testing.virtual import VirtualLoop, settle, virtual_time
from tests.support.contests import Field, Told, reported, started, watchers
from tests.support.scripted import DONE, HANG, Step


class Sink:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Measurement] = []

    def record(self, measurement: Measurement, /) -> None:
        self.told.append(measurement)

    @property
    def metrics(self) -> StreamMetrics:
        opened, metrics = self.told
        assert isinstance(opened, StreamOpened)
        assert isinstance(metrics, StreamMetrics)
        assert metrics.opened is opened
        return metrics


async def measured(*steps: Step, stall: float = 3.0, seconds: float = 100.0) -> StreamMetrics:
    sink = Sink()
    Told(Field().track("a", *steps).pipe(meter(sink, stall=stall)))
    await asyncio.sleep(seconds)
    return sink.metrics


def near(value: float) -> Any:
    return pytest.approx(value, rel=0.0101)


@virtual_time
async def test_an_answer_is_measured() -> None:
    found = await measured(
        1, started("m-1"), 1, "a", 0.5, "b", 0.25, "c", ("d", "e"), 1, reported(9, input_tokens=4), DONE
    )
    assert (found.outcome, found.duration, found.finish_reason) == ("completed", 3.75, "stop")
    assert (found.first_event, found.first_output, found.speaking) == (1, 2, 0.75)
    assert (found.events, found.outputs, found.output_tokens) == (8, 5, 9)
    assert (found.response_id, found.model, found.opened.label) == ("id-m-1", "m-1", "a")
    assert (found.gaps.count, found.gaps.zeros) == (4, 2)
    assert found.gaps.quantile(1.0) == near(0.5)
    assert found.gaps.quantile(0.75) == near(0.25)
    assert found.rate == 8 / 0.75
    assert found.usage is not None
    assert (found.usage.input_tokens, found.stalls, found.retries, found.pauses, found.queue) == (4, 0, 0, 0, 0)
    assert found.error is None
    assert found.response is None


@virtual_time
async def test_pings_and_empty_texts_are_events_but_no_output() -> None:
    found = await measured(1, ev.Heartbeat(), 1, TextDelta(text=""), 1, "a", 1, ev.Heartbeat(), 1, "b", DONE)
    assert (found.first_event, found.first_output, found.outputs, found.events) == (1, 3, 2, 6)
    assert found.gaps.quantile(0.5) == near(2)


@virtual_time
async def test_a_long_silence_is_a_stall() -> None:
    found = await measured(9, "a", 3, "b", 4, "c", 10, "d", DONE)
    assert (found.stalls, found.stalled, found.gaps.count) == (2, 14, 3)


@virtual_time
async def test_a_pause_is_neither_a_gap_nor_a_stall() -> None:
    """The source reads nothing ahead: what comes in the pause is read after it."""
    sink, loop = Sink(), asyncio.get_running_loop()
    on = LoopScheduler()
    Told(Field().track("a", 1, "a", 1, "b", 1, "c", DONE).pipe(meter(sink)), scheduler=on)
    loop.call_later(1.5, on.gate.hold, "user")
    loop.call_later(11.5, on.gate.release, "user")
    await asyncio.sleep(100)
    found = sink.metrics
    assert (found.pauses, found.paused, found.stalls) == (1, 10, 0)
    assert found.gaps.count == 2
    longest = found.gaps.quantile(1.0)
    assert longest is not None
    assert longest <= 1.02
    assert found.duration >= 12
    assert found.speaking <= 2
    assert await watchers(on.gate) == 0


@virtual_time
async def test_a_silence_that_is_longer_than_the_pause_in_it_counts_without_it() -> None:
    sink, loop = Sink(), asyncio.get_running_loop()
    on = LoopScheduler()
    Told(rx.concat(rx.of(TextDelta(text="a")), late(30), late(1)).pipe(meter(sink)), scheduler=on)
    for start, end in ((5, 7), (10, 13)):
        loop.call_later(start, on.gate.hold, "user")
        loop.call_later(end, on.gate.release, "user")
    await asyncio.sleep(100)
    found = sink.metrics
    assert (found.pauses, found.paused, found.stalls, found.stalled) == (2, 5, 1, 25)
    assert found.speaking == 26


def late(seconds: float) -> Observable[Event]:
    """A piece that says nothing of its time, and so is timed when it comes."""
    return rx.timer(seconds).pipe(ops.map(lambda _: TextDelta(text="x")))


@virtual_time
async def test_what_a_guard_lets_wait_is_queue() -> None:
    bucket = TokenBucket(1, per=4, clock=asyncio.get_running_loop().time)
    sinks = [Sink(), Sink()]
    for sink in sinks:
        Told(Field().track("a", 1, "a", DONE).pipe(rxo.guard(acquired(bucket)), meter(sink)))
    await asyncio.sleep(100)
    assert [sink.metrics.queue for sink in sinks] == [0, 4]
    assert [sink.metrics.first_output for sink in sinks] == [1, 5]


@virtual_time
async def test_the_queue_is_known_through_operators_with_gates_of_their_own() -> None:
    sink, bucket = Sink(), TokenBucket(1, per=4, clock=asyncio.get_running_loop().time)
    await bucket.acquire(1)
    track = Field().track("a", 1, "a", DONE).pipe(rxo.guard(acquired(bucket)), rxo.pace(rate=100))
    Told(rxstream.tracks.merge(track).pipe(meter(sink)))
    await asyncio.sleep(100)
    assert sink.metrics.queue == 4


@virtual_time
async def test_waits_that_overlap_are_counted_once_and_whole() -> None:
    sink, field, clock = Sink(), Field(), asyncio.get_running_loop().time
    buckets = [TokenBucket(1, per=seconds, clock=clock) for seconds in (4, 9, 30)]
    for bucket in buckets:
        await bucket.acquire(1)
    tracks = [
        field.track(label, 1, label, DONE).pipe(rxo.guard(acquired(bucket)))
        for label, bucket in zip("abc", buckets, strict=True)
    ]
    told = Told(rxstream.tracks.merge(*tracks).pipe(meter(sink)))
    await asyncio.sleep(15)
    told.subscription.dispose()
    await settle()
    assert sink.metrics.queue == 15
    assert sink.metrics.outputs == 2


@virtual_time
async def test_the_first_chunk_is_a_models_and_waits_for_nobody_after_it() -> None:
    """The queue of another attempt comes after the failure of the first, which is told, but is no chunk."""
    sink, field = Sink(), Field()
    steps: Iterator[list[Step]] = iter([[1, Overloaded("busy")], [1, started(), 1, "a", DONE]])
    bucket = TokenBucket(1, per=30, clock=asyncio.get_running_loop().time)
    attempt = rx.defer(lambda _: field.track("a", *next(steps))).pipe(rxo.guard(acquired(bucket)))
    Told(attempt.pipe(rxo.retry_stream(), meter(sink)))
    await asyncio.sleep(200)
    found = sink.metrics
    assert (found.first_event, found.first_output) == (1, 32)
    assert found.first_chunk == pytest.approx(2 + found.retried[0].delay)


@virtual_time
async def test_where_nothing_waits_the_first_chunk_is_the_first_event() -> None:
    assert (await measured(1, "a", DONE)).first_chunk == 1
    assert (await measured(1, ev.Heartbeat(), 1, "a", DONE)).first_chunk == 1
    assert (await measured(1, DONE)).first_chunk == 1
    assert (await measured(1, Overloaded("busy"))).first_chunk is None


@virtual_time
async def test_thinking_that_was_streamed_is_known() -> None:
    assert (await measured(1, ev.ThinkingDelta(text="hm"), 1, "a", DONE)).thought
    assert not (await measured(1, "a", DONE)).thought


@virtual_time
async def test_of_several_tracks_all_are_counted() -> None:
    sink, field = Sink(), Field()
    a = field.track("a", 1, started("x"), "a", reported(2), 1, reported(3), DONE)
    b = field.track("b", 1.5, started("y"), 0.25, "b", reported(4), DONE)
    Told(rxstream.tracks.merge(a, b).pipe(meter(sink)))
    await asyncio.sleep(10)
    found = sink.metrics
    assert (found.outcome, found.outputs, found.first_output, found.duration) == ("completed", 2, 1, 2)
    assert found.usage is not None
    assert found.usage.output_tokens == 7
    assert found.gaps.quantile(1.0) == near(0.75)


@virtual_time
async def test_answers_one_after_the_other_of_the_same_source_are_all_counted() -> None:
    sink, field = Sink(), Field()
    rounds = [field.track("a", 1, started(), "a", reported(2), reported(tokens), DONE) for tokens in (3, 4)]
    Told(rx.concat(*rounds).pipe(meter(sink)))
    await asyncio.sleep(10)
    assert sink.metrics.usage is not None
    assert sink.metrics.usage.output_tokens == 7


def test_however_many_answers_a_stream_has_nothing_grows() -> None:
    """All of one source, or each of another."""
    course = Course()
    events: list[Any] = [started(), reported(2), reported(3), ev.Finished(reason="stop")]

    def answer(number: int) -> None:
        for event in events:
            course.note(structs.replace(event, source=f"{number % 2 * number}"), at=0.0)

    answer(0)
    tracemalloc.start()
    try:
        for number in range(5000):
            answer(number)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 50_000
    assert course.usage is not None
    assert course.usage.output_tokens == 15_003


@virtual_time
async def test_who_leaves_a_combination_of_which_one_track_is_done_has_cancelled() -> None:
    field, sinks = Field(), [Sink() for _ in range(4)]
    done = field.track("a", 1, started(), "a", DONE)
    others = [
        field.track("b", 1, started(), "b", HANG),
        field.track("c", 1, started(), "c", Overloaded("busy")).pipe(rxo.on_error_complete()),
        field.track("d", 1, "d", DONE),
        rx.of(ev.Started(source="e"), ev.Cancelled(source="e")),
    ]
    told = [
        Told(rx.merge(done, other, rx.never()).pipe(meter(sink))) for other, sink in zip(others, sinks, strict=True)
    ]
    await asyncio.sleep(10)
    for one in told:
        one.subscription.dispose()
    await settle()
    assert [sink.metrics.outcome for sink in sinks] == ["cancelled"] + ["completed"] * 3


@virtual_time
async def test_who_leaves_after_the_mark_of_the_last_attempt_has_not_cancelled() -> None:
    sink, field = Sink(), Field()
    steps: Iterator[list[Step]] = iter([[1, started(), "a", Overloaded("busy")], [1, started(), "b", DONE]])
    attempt = rx.defer(lambda _: field.track("a", *next(steps))).pipe(rxo.retry_stream(after_output="restart"))
    told = Told(rx.concat(attempt, rx.never()).pipe(meter(sink)))
    await asyncio.sleep(50)
    told.subscription.dispose()
    await settle()
    assert (sink.metrics.outcome, sink.metrics.retries) == ("completed", 1)


@virtual_time
async def test_a_gate_that_closes_while_it_begins_is_one_pause() -> None:
    sink, on = Sink(), LoopScheduler()
    source = Field().track("a", 1, "a", DONE).pipe(meter(sink))
    watch = on.gate.watch

    def watched(changed: Callable[[], object]) -> None:
        watch(changed)
        on.gate.hold("user")

    on.gate.watch = watched  # type: ignore[method-assign]  # as another thread might, just then
    Told(source, scheduler=on)
    on.gate.watch = watch  # type: ignore[method-assign]
    await asyncio.sleep(5)
    on.gate.release("user")
    await asyncio.sleep(5)
    assert (sink.metrics.pauses, sink.metrics.paused) == (1, 5)


@virtual_time
async def test_retries_are_counted_and_their_usage_added() -> None:
    sink, field = Sink(), Field()
    fails = iter([Overloaded("busy", status=529), Overloaded("busy", status=529)])

    def attempt(_: object) -> Observable[Event]:
        error = next(fails, None)
        steps: list[Step] = [1, reported(5), error] if error is not None else [1, "a", reported(2), DONE]
        return field.track("a", *steps)

    source = rx.defer(attempt).pipe(rxo.retry_stream())
    Told(source.pipe(meter(sink)))
    await asyncio.sleep(200)
    found = sink.metrics
    assert (found.outcome, found.retries) == ("completed", 2)
    assert [retried.error.kind for retried in found.retried] == ["Overloaded", "Overloaded"]
    assert found.retried[0].at == 1
    assert found.usage is not None
    assert found.usage.output_tokens == 12


@virtual_time
async def test_a_retraction_is_counted() -> None:
    assert (await measured(1, "a", ev.Retracted(), 1, "b", DONE)).retracted == 1


@virtual_time
async def test_a_failure_says_of_what() -> None:
    found = await measured(1, "a", 1, Overloaded("busy"))
    assert found.error is not None
    assert (found.outcome, found.error.kind, found.duration, found.outputs) == ("failed", "Overloaded", 2, 1)


@virtual_time
async def test_who_leaves_has_cancelled() -> None:
    sink, field = Sink(), Field()
    told = Told(field.track("a", 1, "a", HANG).pipe(meter(sink)))
    await asyncio.sleep(5)
    told.subscription.dispose()
    told.subscription.dispose()
    assert (sink.metrics.outcome, sink.metrics.duration) == ("cancelled", 5)
    assert await watchers(told.gate) == 0


@virtual_time
async def test_who_leaves_after_the_mark_has_not() -> None:
    sink = Sink()
    Told(Field().track("a", 1, "a", DONE).pipe(meter(sink), ops.take(2)))
    await asyncio.sleep(5)
    assert sink.metrics.outcome == "completed"


@virtual_time
async def test_a_session_that_is_cancelled_has_cancelled() -> None:
    sink = Sink()
    session = Field().track("a", 1, "a", HANG).pipe(meter(sink)).start()
    await asyncio.sleep(3)
    session.cancel()
    await settle()
    assert (sink.metrics.outcome, sink.metrics.duration) == ("cancelled", 3)


@virtual_time
async def test_what_a_subscribers_code_raises_is_a_failure_of_its_kind() -> None:
    """Of a callback, a coroutine function, a stock operator, a session's observer, a handler, or in the block of an iterator."""

    def bad(_: object) -> None:
        raise LookupError("mine")

    async def worse(_: object) -> None:
        raise LookupError("mine")

    class Handler(rxstream.StreamHandler):
        def on_token_received(self, token: str, index: int) -> None:
            bad(token)

    async def consumed(stream: rxstream.Stream[Event]) -> None:
        async with to_async_iterable(stream) as events:
            async for event in events:
                bad(event)

    async def leave(stream: rxstream.Stream[Event]) -> None:
        with pytest.raises(LookupError):
            await consumed(stream)

    async def drained(stream: Observable[None]) -> None:
        with pytest.raises(LookupError):
            await anext(to_async_iterable(stream))

    def ignore(*_: object) -> None: ...

    ways: list[Callable[[rxstream.Stream[Event]], object]] = [
        lambda stream: stream.subscribe(bad, ignore),
        lambda stream: stream.subscribe(worse, ignore),
        lambda stream: stream.pipe(ops.map(bad)).subscribe(ignore, ignore),
        lambda stream: stream.pipe(ops.do_action(bad)).start(on_error=ignore),
        lambda stream: stream.start(bad, ignore),
        lambda stream: stream.start(Handler()),
        lambda stream: stream.subscribe(Handler()),
        lambda stream: stream.pipe(ops.do_action(bad)).subscribe(rxstream.StreamHandler()),
        lambda stream: asyncio.ensure_future(leave(stream)),
        lambda stream: asyncio.ensure_future(drained(stream.pipe(ops.map(bad)))),
    ]
    for way in ways:
        sink = Sink()
        kept = way(Field().track("a", 1, "a", HANG).pipe(meter(sink)))
        await asyncio.sleep(5)
        found = sink.metrics
        assert found.error is not None
        assert (found.outcome, found.error.kind, found.duration) == ("failed", "LookupError", found.first_event)
        assert found.error.phase == ("output" if found.outputs else "first_output")
        del kept


@virtual_time
async def test_an_operator_behind_it_that_ends_the_stream_by_an_error_is_a_failure_too() -> None:
    async def bad(_: Event) -> None:
        raise LookupError("mine")

    ways: list[tuple[Any, str]] = [
        (rxo.timeouts(total=2), "TimedOut"),
        (rxo.limit(characters=1), "LimitExceeded"),
        (rxo.map_async(bad), "LookupError"),
    ]
    for op, kind in ways:
        sink = Sink()
        Field().track("a", 1, "abc", HANG).pipe(meter(sink), op).subscribe(lambda _: None, lambda _: None)
        await asyncio.sleep(9)
        assert sink.metrics.error is not None
        assert (sink.metrics.outcome, sink.metrics.error.kind) == ("failed", kind)


@virtual_time
async def test_what_is_left_because_another_source_has_failed_is_cancelled() -> None:
    async def drained(stream: Observable[Event]) -> None:
        with pytest.raises(Overloaded):
            await consumed(stream)

    async def consumed(stream: Observable[Event]) -> None:
        async for _ in to_async_iterable(stream):
            pass

    ways: list[Callable[[rxstream.Stream[Event]], object]] = [
        lambda stream: stream.subscribe(lambda _: None, lambda _: None),
        lambda stream: stream.subscribe(rxstream.StreamHandler()),
        lambda stream: stream.start(on_error=lambda _: None),
        lambda stream: asyncio.ensure_future(drained(stream)),
    ]
    for way in ways:
        bad, good = Sink(), Sink()
        failing = Field().track("a", 1, "a", Overloaded("busy")).pipe(meter(bad))
        kept = way(rxstream.Stream.of(rx.merge(failing, Field().track("b", HANG).pipe(meter(good)))))
        await asyncio.sleep(5)
        assert (bad.metrics.outcome, good.metrics.outcome, good.metrics.error) == ("failed", "cancelled", None)
        del kept


@virtual_time
async def test_an_error_is_blamed_for_what_is_left_because_of_it_alone() -> None:
    """Not for a stream that its last callback begins, nor for a task of that time."""
    sink, other = Sink(), Sink()
    inner = Field().track("b", 1, "b", HANG).pipe(meter(other))
    tasks: list[asyncio.Task[None]] = []

    async def later() -> None:
        subscription = inner.subscribe(lambda _: None)
        await asyncio.sleep(2)
        subscription.dispose()

    def begin() -> None:
        tasks.append(asyncio.ensure_future(later()))

    def bad(_: object) -> None:
        raise LookupError("mine")

    stream = Field().track("a", 1, "a", HANG).pipe(meter(sink), ops.finally_action(begin))
    stream.subscribe(bad, lambda _: None)
    await asyncio.sleep(5)
    assert (sink.metrics.outcome, other.metrics.outcome) == ("failed", "cancelled")


@virtual_time
async def test_each_subscription_is_measured_by_itself() -> None:
    sink = Sink()
    metered = Field().track("a", 1, "a", DONE).pipe(meter(sink))
    Told(metered)
    Told(metered)
    await asyncio.sleep(5)
    ids = [one.id for one in sink.told if isinstance(one, StreamOpened)]
    assert len(set(ids)) == 2
    assert sorted(one.opened.id for one in sink.told if isinstance(one, StreamMetrics)) == ids


def test_from_another_thread_it_ends_once() -> None:
    sink = Sink()
    stream = rxstream.Stream.of(rx.never()).pipe(meter(sink))
    subscription = stream.subscribe(lambda _: None)
    threads = [threading.Thread(target=subscription.dispose) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run_coroutine_threadsafe(settle(), shared_loop()).result(5)
    assert sink.metrics.outcome == "cancelled"


@virtual_time
async def test_what_a_sink_raises_changes_nothing() -> None:
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))

    class Bad:
        def record(self, measurement: Measurement, /) -> None:
            raise RuntimeError(type(measurement).__name__)

    sink = Sink()
    told = Told(Field().track("a", 1, "a", DONE).pipe(meter(Bad(), sink)))
    await asyncio.sleep(5)
    assert (told.completed, sink.metrics.outcome) == (True, "completed")
    assert [str(error) for error in raised] == ["StreamOpened", "StreamMetrics"]


class Tracing(Sink):
    wants_response = True

    def __init__(self) -> None:
        super().__init__()
        self.inside = False

    @contextmanager
    def around(self, opened: StreamOpened) -> Iterator[None]:
        self.inside = True
        yield
        self.inside = False


@virtual_time
async def test_a_tracing_sink_that_raises_on_the_way_out_changes_nothing() -> None:
    class Failing(Tracing):
        @contextmanager
        def around(self, opened: StreamOpened) -> Iterator[None]:
            yield
            raise ValueError("on the way out")

    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
    sink = Failing()
    told = Told(Field().track("a", 1, "a", DONE).pipe(meter(sink)))
    await asyncio.sleep(5)
    assert told.completed
    assert [str(error) for error in raised] == ["on the way out"]
    assert sink.metrics.outcome == "completed"


@virtual_time
async def test_a_tracing_sink_is_around_the_subscription_alone_and_may_have_the_answer() -> None:
    sink, seen = Tracing(), []
    track = Field().track("a", 1, "Hel", "lo", DONE)

    def subscribed() -> Observable[Event]:
        seen.append(sink.inside)
        return track

    Told(rx.defer(lambda _: subscribed()).pipe(ops.do_action(lambda _: seen.append(sink.inside)), meter(sink)))
    await asyncio.sleep(5)
    assert seen == [True, False, False, False]
    assert sink.metrics.response is not None
    assert sink.metrics.response.text == "Hello"


@pytest.mark.parametrize("offset", [-1e6, 1e6])
@virtual_time
async def test_what_has_the_time_of_another_clock_is_timed_when_it_comes(offset: float) -> None:
    sink = Sink()
    await asyncio.sleep(10)

    def event(number: int) -> Event:
        at = offset + number
        return ev.Heartbeat(at=at) if number == 0 else TextDelta(text="x", at=at)

    def late_event(number: int) -> Observable[Event]:
        return rx.timer(2).pipe(ops.map(lambda _: event(number)))

    Told(rx.concat(*map(late_event, range(4))).pipe(meter(sink)))
    await asyncio.sleep(100)
    found = sink.metrics
    assert (found.first_event, found.first_output, found.speaking, found.stalls) == (2, 4, 4, 0)
    assert found.gaps.quantile(0.0) == near(2)


def test_a_loop_that_goes_down_ends_it_too() -> None:
    sink = Sink()

    async def leave() -> None:
        Field().track("a", 0.0, "a", HANG).pipe(meter(sink)).subscribe(lambda _: None, lambda _: None)
        await asyncio.sleep(0.01)

    asyncio.run(leave())
    assert sink.metrics.error is not None
    assert (sink.metrics.outcome, sink.metrics.error.kind) == ("cancelled", "LoopShutDown")


def test_the_end_of_the_program_ends_it_too() -> None:
    program = """
import asyncio, rxstream
from rxstream import operators as rxo

async def words():
    yield "to "
    await asyncio.Event().wait()

class Sink:
    def record(self, told):
        print(getattr(told, "outcome", "opened"))

rxstream.from_iterable(words()).pipe(rxo.meter(Sink())).subscribe(lambda event: None, lambda error: None)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == ["opened", "cancelled"]


@virtual_time
async def test_what_is_no_event_is_refused() -> None:
    told: Told = Told(Field().track("a", 1, "a", DONE).pipe(rxo.text(), meter(Sink())))
    await asyncio.sleep(5)
    assert isinstance(told.error, ConfigurationError)
    assert "put it before text()" in str(told.error)


def test_nonsense_is_refused() -> None:
    class Awaited:
        async def record(self, measurement: Measurement, /) -> None: ...

    class Shy:
        def __repr__(self) -> str:
            raise LookupError("mine")

    wrong: list[tuple[Callable[[], object], str]] = [
        (meter, "at least one sink"),
        (lambda: meter(MemorySink), "sink 1, the class MemorySink: must be an object"),  # type: ignore[arg-type]
        (lambda: meter(MemorySink(), print), "sink 2"),  # type: ignore[arg-type]
        (lambda: meter(Shy()), "sink 1, a Shy: "),  # type: ignore[arg-type]
        (lambda: meter(MemorySink(), stall=0), "stall"),
        (lambda: meter(Awaited()), "plain function"),  # type: ignore[arg-type]
    ]
    for call, words in wrong:
        with pytest.raises(ConfigurationError, match=words):
            call()


@virtual_time
async def test_when_it_began_is_the_worlds_time_also_where_the_loops_clock_stood_still() -> None:
    """A machine that slept: its monotonic clock did not run meanwhile."""
    sink, on = Sink(), LoopScheduler()
    assert abs(on.now.timestamp() - time.time()) < 60
    await asyncio.sleep(3600)
    Told(Field().track("a", 1, "a", DONE).pipe(meter(sink)), scheduler=on)
    await asyncio.sleep(5)
    assert abs(sink.metrics.opened.started_at - time.time()) < 60


def test_it_knows_who_is_asked_and_passes_that_on() -> None:
    stream = rxstream.stream("openai:gpt-x", "hi", base_url="http://127.0.0.1:9/v1", api_key="k")
    sink = Sink()
    metered = stream.pipe(meter(sink, label="mine"))
    assert asking_of(metered) is not None
    metered.pipe(rxo.retry_stream(attempts=1), rxo.on_error_complete()).run()
    opened = sink.metrics.opened
    assert (opened.provider, opened.model, opened.label) == ("openai", "gpt-x", "mine")
    assert opened.base_url.startswith("http://127.0.0.1:9")
    assert opened.request.model == "gpt-x"
    assert sink.metrics.error is not None
    assert sink.metrics.error.kind == "ConnectError"


GAPS = st.lists(
    st.floats(min_value=0.001, max_value=50).filter(lambda gap: abs(gap - 3) > 1e-6), min_size=1, max_size=30
)


@given(GAPS)
def test_the_gaps_are_those_of_the_script(gaps: list[float]) -> None:
    """Laws: a gap less than outputs; their sum is the time spoken; stalls are those that are longer."""

    async def run() -> None:
        steps: list[Step] = []
        for gap in gaps:
            steps += [gap, "x"]
        found = await measured(*steps, DONE, seconds=3000)
        assert (found.outputs, found.gaps.count) == (len(gaps), len(gaps) - 1)
        assert found.speaking == pytest.approx(sum(gaps[1:]))
        assert found.first_output == pytest.approx(gaps[0])
        assert found.stalls == sum(gap > 3 for gap in gaps[1:])
        if len(gaps) > 1:
            assert found.gaps.quantile(1.0) == near(max(gaps[1:]))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
