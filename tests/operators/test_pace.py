"""``pace``: text at an even speed."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
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
from rxstream.events import ErrorInfo, Event, TextDelta
from rxstream.loop import LoopScheduler
from rxstream.operators import pace
from rxstream.segment import characters
from rxstream.usage import Usage
from tests.support.scripted import DONE, HANG, Recorder, Scripted, words
from tests.support.timed import END, Listener, Timed, alarms
from tests.support.until import until
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

GONE = Disconnected("gone")


def said(listener: Recorder) -> list[tuple[float, str]]:
    """When, and which text."""
    return [
        (round(at, 6), item.text)
        for at, item in zip(listener.times, listener.items, strict=True)
        if hasattr(item, "text")
    ]


# --- at a rate ------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_at_a_rate_one_character_comes_after_the_other_and_the_rest_behind_them() -> None:
    source = Timed((1, TextDelta(text="Hello", seq=7, at=1, choice=2, part=3)), (1.25, DONE), (1.5, END))
    listener = Listener(source.pipe(pace(2)))
    await asyncio.sleep(20)
    assert listener.heard == [
        *((1 + number / 2, TextDelta(text=char, seq=7, at=1, choice=2, part=3)) for number, char in enumerate("Hello")),
        (3, DONE),
    ]
    assert (listener.completed, listener.ended_at) == (True, 3)
    assert (source.running, listener.watched, listener.gate.holds) == (0, 0, ())


@virtual_time
async def test_at_a_high_rate_pieces_are_larger_and_not_more() -> None:
    listener = Listener(Timed((0, TextDelta(text="x" * 100)), (0, END)).pipe(pace(1000, step=0.02)))
    await asyncio.sleep(20)
    assert said(listener) == [(0.02 * number, "x" * 20) for number in range(5)]


@virtual_time
async def test_an_event_that_need_not_be_cut_is_itself() -> None:
    events = [TextDelta(text="abc", raw=b"x"), TextDelta(text="de"), ev.RefusalDelta(text="fghij"), DONE]
    listener = Listener(Timed(*((0, event) for event in events), (0, END)).pipe(pace(100, step=0.07)))
    await asyncio.sleep(20)
    assert [item is event for item, event in zip(listener.items, events, strict=True)] == [True] * 4
    assert listener.times == pytest.approx([0, 0.03, 0.03, 0.03])


@virtual_time
async def test_a_character_is_never_cut() -> None:
    family, flag, accented = "👩‍👩‍👧", "🇸🇪", "e\u0301"
    text = f"{family}\r\n{flag}{accented}!"
    listener = Listener(Timed((0, TextDelta(text=text)), (0, END)).pipe(pace(10)))
    await asyncio.sleep(20)
    assert said(listener) == [(0, family), (0.1, "\r\n"), (0.2, flag), (0.3, accented), (0.4, "!")]


@virtual_time
async def test_tokens_are_four_bytes_and_words_stay_whole() -> None:
    listener = Listener(Timed((0, TextDelta(text="four to wonderful é")), (0, END)).pipe(pace(1, unit="tokens")))
    await asyncio.sleep(20)
    assert said(listener) == [(0, "four "), (1.25, "to "), (2, "wonderful "), (4.5, "é")]


@virtual_time
async def test_what_is_no_text_passes_at_once_where_no_text_waits() -> None:
    started, beat, usage = ev.Started(id="x"), ev.Heartbeat(), ev.UsageReported(usage=Usage(output_tokens=1))
    steps = [(0, started), (0.5, beat), (1, TextDelta(text="ab")), (1.5, usage), (2.5, beat), (3, DONE), (3, END)]
    listener = Listener(Timed(*steps).pipe(pace(1)))
    await asyncio.sleep(20)
    assert listener.heard == [
        (0, started),
        (0.5, beat),
        (1, TextDelta(text="a")),
        (2, TextDelta(text="b")),
        (2, usage),
        (2.5, beat),
        (3, DONE),
    ]


@virtual_time
async def test_after_a_silence_it_starts_anew_and_makes_nothing_good() -> None:
    steps = [(0, TextDelta(text="ab")), (10, TextDelta(text="cd")), (10.5, TextDelta(text="e")), (11, END)]
    listener = Listener(Timed(*steps).pipe(pace(10)))
    await asyncio.sleep(20)
    assert said(listener) == [(0, "a"), (0.1, "b"), (10, "c"), (10.1, "d"), (10.5, "e")]


@virtual_time
async def test_text_that_comes_soon_after_the_last_keeps_the_rate() -> None:
    steps = [(0, TextDelta(text="a")), (0.25, TextDelta(text="b")), (0.25, END)]
    listener = Listener(Timed(*steps).pipe(pace(1)))
    await asyncio.sleep(20)
    assert said(listener) == [(0, "a"), (1, "b")]


@virtual_time
async def test_a_busy_loop_makes_no_burst() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    listener = Listener(Timed((0, TextDelta(text="x" * 30)), (0, END)).pipe(pace(10)))
    loop.call_at(0.95, loop.advance, 5)
    await asyncio.sleep(20)
    assert all(len(text) == 1 for _, text in said(listener))
    gaps = [after - before for before, after in pairwise(listener.times)]
    assert max(gaps) == pytest.approx(5.05)
    assert min(gaps) == pytest.approx(0.07), "a step of it is made good, no more"
    assert sorted(gaps)[1] == pytest.approx(0.1)


@virtual_time
async def test_thinking_passes_unless_it_is_to_be_paced() -> None:
    steps = [(0, ev.ThinkingDelta(text="hmm")), (0, TextDelta(text="ab")), (0, ev.ThinkingDelta(text="cd")), (0, END)]
    passed, paced = Listener(Timed(*steps).pipe(pace(1))), Listener(Timed(*steps).pipe(pace(1, thinking=True)))
    await asyncio.sleep(20)
    assert said(passed) == [(0, "hmm"), (0, "a"), (1, "b"), (1, "cd")]
    assert said(paced) == [(number, char) for number, char in enumerate("hmmabcd")]


@virtual_time
async def test_empty_text_is_an_event_like_others() -> None:
    for operator in (pace(1), pace()):
        empty = TextDelta(text="")
        start = asyncio.get_running_loop().time()
        listener = Listener(
            Timed((0, empty), (0, TextDelta(text="ab")), (0, empty), (9, empty), (9, END)).pipe(operator)
        )
        await asyncio.sleep(20)
        assert listener.texts in (["", "a", "b", "", ""], ["", "ab", "", ""])
        assert listener.times[0] == start
        assert listener.ended_at == start + 9


@virtual_time
async def test_tracks_are_paced_each_for_itself() -> None:
    steps = [
        (0, TextDelta(source="a", text="abc")),
        (0.5, TextDelta(source="b", text="xyz")),
        (0.6, ev.Failed(source="b", error=ErrorInfo(kind="Disconnected", message="gone"))),
        (0.7, ev.Heartbeat(source="c")),
        (0.8, ev.Cancelled(source="a")),
        (1, END),
    ]
    listener = Listener(Timed(*steps).pipe(pace(1)))
    await asyncio.sleep(20)
    heard = [(at, item.source, getattr(item, "text", type(item).__name__)) for at, item in listener.heard]
    assert heard == [
        (0, "a", "a"),
        (0.5, "b", "x"),
        (0.7, "c", "Heartbeat"),
        (1, "a", "b"),
        (1.5, "b", "y"),
        (2, "a", "c"),
        (2, "a", "Cancelled"),
        (2.5, "b", "z"),
        (2.5, "b", "Failed"),
    ]
    assert listener.ended_at == 2.5


@virtual_time
async def test_an_error_comes_after_the_text() -> None:
    listener = Listener(Timed((0, TextDelta(text="abc")), (0.5, GONE)).pipe(pace(1)))
    await asyncio.sleep(20)
    assert said(listener) == [(0, "a"), (1, "b"), (2, "c")]
    assert (listener.error, listener.ended_at) == (GONE, 2)


# --- gates, disposal, bounds ----------------------------------------------------------------------------------------------


@virtual_time
async def test_it_stands_still_at_a_closed_gate_and_goes_on_at_its_speed() -> None:
    listener = Listener(Timed((0, TextDelta(text="abcd")), (0, END)).pipe(pace(1)))
    listener.pause(1.25, 7.5)
    await asyncio.sleep(20)
    assert said(listener) == [(0, "a"), (1, "b"), (8.25, "c"), (9.25, "d")]
    assert listener.ended_at == 9.25


@virtual_time
async def test_what_comes_at_a_closed_gate_waits_its_turn_when_it_opens() -> None:
    listener = Listener(Timed((1, DONE), (2, TextDelta(text="ab")), (3, DONE), (4, END)).pipe(pace(1)))
    listener.pause(0.5, 7)
    await asyncio.sleep(20)
    assert listener.heard == [(7, DONE), (7, TextDelta(text="a")), (8, TextDelta(text="b")), (8, DONE)]
    assert listener.ended_at == 8


@virtual_time
async def test_it_may_be_subscribed_at_a_closed_gate() -> None:
    scheduler, recorder = LoopScheduler(), Recorder()
    scheduler.gate.hold("test")
    source = Timed((0, TextDelta(text="ab")), (1, END))
    source.pipe(pace(1)).subscribe(recorder.on_next, on_completed=recorder.on_completed, scheduler=scheduler)
    await asyncio.sleep(5)
    assert recorder.items == []
    scheduler.gate.release("test")
    assert recorder.items == [], "in the loop's next round, not within the release"
    await asyncio.sleep(5)
    assert (said(recorder), recorder.ended_at) == ([(5, "a"), (6, "b")], 6)


@virtual_time
async def test_what_is_no_text_passes_at_once_when_the_gate_opens() -> None:
    steps = [(0, TextDelta(text="a")), (0.25, ev.Heartbeat()), (0.25, TextDelta(text="b")), (0.25, END)]
    listener = Listener(Timed(*steps).pipe(pace(1)))
    listener.pause(0.125, 5)
    await asyncio.sleep(20)
    assert listener.heard == [(0, TextDelta(text="a")), (5, ev.Heartbeat()), (5.875, TextDelta(text="b"))]


@virtual_time
async def test_a_loop_that_is_closed_is_told_nothing() -> None:
    scheduler = LoopScheduler(asyncio.new_event_loop())
    scheduler.gate.hold("test")
    never: Observable[Event] = rx.never()
    never.pipe(pace()).subscribe(scheduler=scheduler)
    scheduler.loop.close()
    scheduler.gate.release("test")


@virtual_time
async def test_a_listener_may_close_the_gate_in_the_middle_of_a_step() -> None:
    recorder, scheduler = Recorder(), LoopScheduler()

    def on_next(event: Event) -> None:
        assert not scheduler.gate.closed
        recorder.on_next(event)
        scheduler.gate.hold("test")
        asyncio.get_running_loop().call_later(1, scheduler.gate.release, "test")

    source = Timed((0, TextDelta(text="ab")), (0, TextDelta(text="cdef")), (0, DONE), (0, END))
    source.pipe(pace(100)).subscribe(on_next, on_completed=recorder.on_completed, scheduler=scheduler)
    await asyncio.sleep(20)
    assert recorder.items[-1] is DONE
    assert said(recorder) == [(0, "ab"), (1.02, "cde"), (2.05, "f")]
    assert recorder.completed


@pytest.mark.parametrize("operator", [pace(1), pace(lag=3)], ids=["rate", "adaptive"])
@pytest.mark.parametrize("at", [0, 0.5, 1, 1.5, 2.75, 3.25, 9])
@virtual_time
async def test_when_it_is_disposed_nothing_comes_and_nothing_is_left(
    operator: Callable[[Observable[Event]], Observable[Event]], at: float
) -> None:
    script = Scripted(words("abc", "def", "g", every=0.25))
    listener = Listener(script.events().pipe(operator))
    listener.pause(2.5, 3)
    await asyncio.sleep(at)
    await settle()
    heard = list(listener.items)
    listener.subscription.dispose()
    assert alarms() == 0
    await asyncio.sleep(20)
    assert listener.items == heard
    assert (script.running, listener.watched, listener.gate.holds) == (0, 0, ())


@virtual_time
async def test_when_it_is_disposed_with_a_full_buffer_the_source_is_let_go() -> None:
    source = Timed((0, TextDelta(text="x" * 100)), (9, END))
    listener = Listener(source.pipe(pace(1, buffer=50)))
    await asyncio.sleep(1)
    assert source.gate.closed
    listener.subscription.dispose()
    assert not source.gate.closed


@virtual_time
async def test_it_may_be_disposed_by_who_hears_it() -> None:
    script = Scripted(words("abc", "def", every=0.25))
    listener = Listener(script.events().pipe(pace(1), ops.take(3)))
    await asyncio.sleep(20)
    assert said(listener) == [(0.25, "a"), (1.25, "b"), (2.25, "c")]
    assert (listener.completed, script.running, listener.watched) == (True, 0, 0)


@virtual_time
async def test_a_full_buffer_holds_the_source_until_it_is_half_empty() -> None:
    script, turns = Scripted([*("x" * 800 for _ in range(100)), DONE]), list[bool]()

    def subscribe(observer: abc.ObserverBase[Event], on: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        gate = LoopScheduler.of(on).gate
        gate.watch(lambda: turns.append(gate.closed))
        return script.events().subscribe(observer, scheduler=on)

    listener = Listener(Observable(subscribe).pipe(pace(1000, buffer=10_000)))
    given: list[int] = []
    for _ in range(20):
        await asyncio.sleep(1)
        waits = script.given * 1000 - len(listener.items)
        given.append(script.given)
        assert listener.gate.holds == (), "the subscriber's gate is its own"
        assert waits > 0
    assert given[0] <= 12
    assert all(0 <= later - sooner <= 6 for sooner, later in pairwise(given)), given
    assert given[-1] <= 20_000 / 800 + 12
    assert len(turns) <= 12, "not at every step"
    await asyncio.sleep(100)
    assert len("".join(listener.texts)) == 80_000
    assert (listener.completed, script.running) == (True, 0)


@virtual_time
async def test_an_endless_source_waits_in_no_memory() -> None:
    script = Scripted([*("x" * 800 for _ in range(3000)), DONE])
    listener = Listener(script.events().pipe(pace(1000)))
    listener.pause(10, 900)
    await asyncio.sleep(900)
    assert script.given <= 85
    listener.subscription.dispose()


def flood(observer: abc.ObserverBase[Event], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
    for number in range(MOST + 100):
        observer.on_next(TextDelta(text="x", seq=number))
    observer.on_completed()
    return Disposable()


@virtual_time
async def test_what_is_no_text_waits_at_a_closed_gate_and_not_without_bound() -> None:
    source: Subject[Event] = Subject()
    listener = Listener(source.pipe(pace()))
    listener.gate.hold("test")
    for number in range(MOST + 100):
        source.on_next(ev.Heartbeat(seq=number))
    assert not source.observers
    listener.gate.release("test")
    await asyncio.sleep(2)
    assert [item.seq for item in listener.items] == list(range(MOST + 1))
    assert isinstance(listener.error, LimitExceeded)


@pytest.mark.parametrize("source", [Subject[Event](), Observable(flood)], ids=["hot", "while it is subscribed"])
@virtual_time
async def test_one_that_does_not_stop_ends_in_an_error_after_what_waits(source: Observable[Event]) -> None:
    scheduler, recorder = LoopScheduler(), Recorder()
    scheduler.gate.hold("test")
    source.pipe(pace(1e6)).subscribe(recorder.on_next, recorder.on_error, scheduler=scheduler)
    if isinstance(source, Subject):
        for number in range(MOST + 100):
            source.on_next(TextDelta(text="x", seq=number))
        assert not source.observers
    scheduler.gate.release("test")
    await asyncio.sleep(2)
    assert [event.seq for event in recorder.items] == list(range(MOST + 1))
    assert isinstance(recorder.error, LimitExceeded)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"unit": "words"}, "unit"),
        ({"lag": 0}, "lag"),
        ({"step": -1}, "step"),
        ({"buffer": 0}, "buffer"),
    ],
)
def test_options_out_of_their_range_are_refused(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        pace(**options)


def test_without_a_loop_of_its_own_it_works_too() -> None:
    assert (
        rx.of(TextDelta(text="abc")).pipe(pace(1000, step=0.001), ops.map(lambda e: getattr(e, "text", ""))).run()
        == "c"
    )


# --- adaptive -------------------------------------------------------------------------------------------------------------

Arrivals = Sequence[tuple[float, int]]


def steady(rate: float, seconds: float, *, size: int = 4) -> Arrivals:
    return [(number / rate, size) for number in range(int(rate * seconds))]


def bursts(seed: int, *, every: float, jitter: float, tokens: int, count: int) -> Arrivals:
    """Many tokens in one read, now and then: a provider that batches, a proxy that buffers."""
    rng, at, found = random.Random(seed), 0.0, list[tuple[float, int]]()  # noqa: S311 - the same each time
    for _ in range(count):
        at += max(0.01, rng.gauss(every, jitter))
        found += [(at, rng.randint(1, 8)) for _ in range(tokens)]
    return found


async def played(arrivals: Arrivals, **options: Any) -> Listener:
    steps: list[tuple[float, object]] = [(at, TextDelta(text="x" * size, at=at)) for at, size in arrivals]
    last = arrivals[-1][0]
    listener = Listener(Timed(*steps, (last, END)).pipe(pace(**options)))
    await asyncio.sleep(last + 10)
    assert listener.completed
    assert sum(map(len, listener.texts)) == sum(size for _, size in arrivals)
    return listener


def delays(listener: Listener) -> list[float]:
    return [at - item.at for at, item in listener.heard]


def unevenness(amounts: Arrivals, *, window: float = 0.1) -> float:
    """The coefficient of variation of how much came in each tenth of a second."""
    start, end = amounts[0][0], amounts[-1][0]
    sums = [0] * (int((end - start) / window) + 1)
    for at, size in amounts:
        sums[int((at - start) / window)] += size
    return statistics.pstdev(sums) / statistics.mean(sums)


def gap_variation(times: Sequence[float]) -> float:
    """The coefficient of variation of the time between one item and the next."""
    gaps = [after - before for before, after in pairwise(times)]
    return statistics.pstdev(gaps) / statistics.mean(gaps)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("every", "jitter", "tokens"),
    [(0.25, 0.0, 12), (0.25, 0.05, 12), (0.15, 0.05, 40), (0.2, 0.0, 1)],
    ids=["bursts", "uneven bursts", "fast bursts", "slow"],
)
@virtual_time
async def test_it_is_smoother_than_what_comes(every: float, jitter: float, tokens: int, seed: int) -> None:
    arrivals = bursts(seed, every=every, jitter=jitter, tokens=tokens, count=int(10 / every))
    listener = await played(arrivals)
    out = [(at, len(text)) for at, text in zip(listener.times, listener.texts, strict=True)]
    assert unevenness(out) < unevenness(arrivals) / 2
    if tokens > 1:
        assert gap_variation(listener.times) < gap_variation([at for at, _ in arrivals]) * 0.6
    assert max(delays(listener)) <= 0.3 + 1e-6


@pytest.mark.parametrize("rate", [5, 50, 500])
@virtual_time
async def test_a_steady_model_is_followed_closely(rate: float) -> None:
    listener = await played(steady(rate, 20))
    late = delays(listener)
    assert max(late) <= max(0.11, 1 / rate + 0.06)
    assert listener.ended_at is not None
    assert listener.ended_at - listener.items[-1].at <= 0.3


@virtual_time
async def test_the_first_character_comes_at_once() -> None:
    listener = await played([(1, 40)])
    assert listener.times[0] == 1
    assert len(listener.times) > 5


@virtual_time
async def test_a_model_that_becomes_fast_is_kept_up_with() -> None:
    slow, fast = steady(5, 4), [(4 + number / 500, 4) for number in range(4000)]
    listener = await played([*slow, *fast])
    assert max(delays(listener)) <= 0.3 + 1e-6
    assert max(delay for delay, item in zip(delays(listener), listener.items, strict=True) if item.at > 9) <= 0.12


@virtual_time
async def test_after_a_pause_it_knows_how_fast_the_model_was() -> None:
    before = bursts(3, every=0.05, jitter=0.01, tokens=5, count=100)
    shift = before[-1][0] + 30
    listener = await played([*before, *((at + shift, size) for at, size in before)])
    late = [delay for delay, item in zip(delays(listener), listener.items, strict=True) if item.at > shift]
    assert max(late) <= 0.25


@virtual_time
async def test_many_pieces_in_one_read_are_one_arrival() -> None:
    def arrivals(size: int) -> Arrivals:
        return [(0.25 * burst, size) for burst in range(20) for _ in range(48 // size)]

    def characters_at(listener: Listener) -> list[float]:
        return [round(at, 6) for at, text in zip(listener.times, listener.texts, strict=True) for _ in text]

    whole, pieces = await played(arrivals(48)), await played(arrivals(4))
    start = pieces.items[0].at - pieces.times[0]
    assert [at + start for at in characters_at(pieces)][48:] == pytest.approx(characters_at(whole)[48:], abs=0.03)


@virtual_time
async def test_what_comes_after_slow_text_does_not_wait_for_it() -> None:
    listener = await played([(0, 1), (1, 1), (2, 1), (2.01, 60)], lag=2)
    at = next(at for at, item in listener.heard if item.at == 2.01)
    assert at <= 2.1


@pytest.mark.parametrize("lag", [0.1, 0.3, 1.0])
@virtual_time
async def test_a_stall_does_not_empty_it_at_once(lag: float) -> None:
    before = bursts(1, every=lag / 2, jitter=0.0, tokens=20, count=40)
    last = before[-1][0]
    listener = await played([*before, (last + 5, 4)], lag=lag, step=0.01)
    bridged = [at - last for at in listener.times if last <= at < last + 2]
    assert max(bridged) >= lag / 3
    gaps = [after - sooner for sooner, after in pairwise(sorted(set(bridged)))]
    assert max(gaps) < lag / 5, "no hole before the last of it"


@virtual_time
async def test_at_the_finish_what_waits_is_out_within_the_lag_and_not_at_once() -> None:
    arrivals = bursts(2, every=0.25, jitter=0.02, tokens=20, count=20)
    listener = await played(arrivals, lag=0.5)
    last = arrivals[-1][0]
    rest = [at for at in listener.times if at >= last]
    assert listener.ended_at is not None
    assert 0.15 < listener.ended_at - last <= 0.5
    assert len(set(rest)) >= 5


arrival = st.one_of(
    st.just(0.0),  # in the same read
    st.floats(0, 0.004),  # 500 tokens a second
    st.floats(0.01, 0.05),
    st.floats(0.1, 0.4),  # slow
    st.floats(0.5, 5),  # a pause
)


@given(
    st.lists(st.tuples(arrival, st.one_of(st.integers(1, 8), st.integers(1, 300))), min_size=1, max_size=60),
    st.sampled_from([0.05, 0.3, 1.0]),
    st.sampled_from([0.01, 0.03, 0.1]),
    st.sampled_from(["characters", "tokens"]),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 5)), max_size=2),
)
def test_no_character_is_delayed_by_more_than_the_lag(
    arrivals: list[tuple[float, int]], lag: float, step: float, unit: Any, pauses: list[tuple[float, float]]
) -> None:
    @virtual_time
    async def main() -> None:
        loop = asyncio.get_running_loop()
        times = [sum(gap for gap, _ in arrivals[: n + 1]) for n in range(len(arrivals))]
        texts = [("abc de" * size)[:size] for _, size in arrivals]
        steps = [(at, TextDelta(text=text, at=at)) for at, text in zip(times, texts, strict=True)]
        listener = Listener(Timed(*steps, (times[-1], END)).pipe(pace(unit=unit, lag=lag, step=step)))
        closed: list[tuple[float, float]] = []
        end = 0.0
        for at, span in sorted(pauses):
            start, end = max(at, end), max(at + span, end)
            if start < end:
                listener.pause(start, end)
                closed.append((start, end))
        await asyncio.sleep(times[-1] + 40)
        assert "".join(listener.texts) == "".join(texts)
        assert listener.completed
        for at, item in listener.heard:
            paused = sum(max(0.0, min(at, end) - max(item.at, start)) for start, end in closed)
            assert at - item.at - paused <= lag + 1e-5
        assert loop.time() > 0

    main()


# --- nothing lost ---------------------------------------------------------------------------------------------------------

source_names = st.sampled_from(["", "a", "b"])
texts = st.text("ab \n\r\u0301\u200dé👩👧🇸🇪", max_size=12)
some_event = st.one_of(
    st.builds(TextDelta, source=source_names, text=texts, part=st.integers(0, 1), choice=st.integers(0, 1)),
    st.builds(ev.ThinkingDelta, source=source_names, text=texts),
    st.builds(ev.RefusalDelta, source=source_names, text=texts),
    st.builds(ev.ToolCallDelta, source=source_names, arguments=texts),
    st.builds(ev.Retracted, source=source_names, to_offset=st.integers(0, 5)),
    st.builds(ev.Seam, source=source_names, kind=st.just("resume"), offset=st.just(3)),
    st.builds(ev.Heartbeat, source=source_names),
)


def rejoined(events: list[Any]) -> dict[str, list[Any]]:
    """The events by their tracks, the pieces of one put together again; `seq` tells what is of one."""
    tracks: dict[str, list[Any]] = {}
    for event in events:
        track = tracks.setdefault(event.source, [])
        if track and track[-1].seq == event.seq:
            assert type(track[-1]) is type(event)
            whole = [piece for part in (track[-1].text, event.text) for piece in characters(part)]
            assert whole == characters(track[-1].text + event.text), "a character was cut"
            event = msgspec.structs.replace(track[-1], text=track[-1].text + event.text)  # noqa: PLW2901
            track.pop()
        track.append(event)
    return tracks


@given(
    steps=st.lists(st.tuples(st.floats(0, 0.5), some_event), max_size=20),
    rate=st.sampled_from([None, 5, 60]),
    unit=st.sampled_from(["characters", "tokens"]),
    thinking=st.booleans(),
    pauses=st.lists(st.tuples(st.floats(0, 12), st.floats(0.1, 6)), max_size=3),
    until=st.one_of(st.none(), st.floats(0, 20)),
)
def test_nothing_is_lost_doubled_cut_or_put_out_of_order(
    *,
    steps: list[tuple[float, Event]],
    rate: float | None,
    unit: Any,
    thinking: bool,
    pauses: list[tuple[float, float]],
    until: float | None,
) -> None:
    @virtual_time
    async def main() -> None:
        loop = asyncio.get_running_loop()
        events = [msgspec.structs.replace(event, seq=number) for number, (_, event) in enumerate(steps)]
        times = [sum(gap for gap, _ in steps[: n + 1]) for n in range(len(steps))]
        source = Timed(*zip(times, events, strict=True), (20, END))
        listener = Listener(source.pipe(pace(rate, unit=unit, thinking=thinking)))
        for at, span in pauses:
            listener.pause(at, at + span)
        if until is not None:
            loop.call_at(until, listener.subscription.dispose)
        await asyncio.sleep(200)
        heard, sent = rejoined(listener.items), rejoined(events)
        if until is None:
            assert (heard, listener.completed) == (sent, True)
        for label, track in heard.items():
            *whole, last = track
            assert whole == sent[label][: len(whole)]
            assert getattr(sent[label][len(whole)], "text", "").startswith(getattr(last, "text", ""))
        assert (source.running, listener.watched, listener.gate.holds) == (0, 0, ())

    main()


@virtual_time
async def test_what_a_listener_raises_comes_back_to_it() -> None:
    said: list[Exception] = []
    source = Timed((1, TextDelta(text="abc")), (50, END))

    def on_next(event: Any) -> None:
        if event.text == "b":
            raise ValueError("no")

    source.pipe(pace(1)).subscribe(on_next, said.append)
    await asyncio.sleep(100)
    assert [type(error) for error in said] == [ValueError]
    assert (source.running, alarms()) == (0, 0)


def test_when_the_loop_goes_down_what_waits_is_heard_before_that_is_told() -> None:
    recorder, script = Recorder(), Scripted(["abc", HANG])

    async def main() -> None:
        script.events().pipe(pace(0.1)).subscribe(recorder.on_next, recorder.on_error)
        await until(lambda: recorder.texts == ["a"])

    asyncio.run(main())
    assert recorder.texts == ["a", "bc"]
    assert isinstance(recorder.error, Cancelled)
