"""``buffer_tokens``: lists of so many tokens, or of so much time; joined they are what came."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex.subject import Subject

from rxstream import events as ev
from rxstream.errors import ConfigurationError, Disconnected, LimitExceeded
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from rxstream.operators import buffer_tokens
from rxstream.usage import Usage
from tests.support.scripted import DONE, HANG, Recorder, Scripted, numbered, raising, words
from tests.support.virtual_loop import settle, timers, virtual_time


def shown(items: list[Event]) -> str:
    """Texts, and the initial of other events."""
    return "".join(item.text if isinstance(item, ev.TextDelta) else type(item).__name__[0] for item in items)


async def through(script: Scripted, **options: Any) -> list[tuple[float, str]]:
    """What came when, to the end."""
    recorder = Recorder()
    script.events().pipe(buffer_tokens(**options)).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler()
    )
    await asyncio.sleep(100)
    assert recorder.completed
    return [(at, shown(items)) for at, items in zip(recorder.times, recorder.items, strict=True)]


@virtual_time
async def test_a_list_comes_with_its_last_token() -> None:
    assert await through(Scripted(words(*"abcde")), count=2) == [(2, "ab"), (4, "cd"), (5, "eF")]


@virtual_time
async def test_a_list_comes_so_long_after_its_first_item() -> None:
    script = Scripted([1, "a", 1, "b", 1.5, "c", 5, "d", 0.5, DONE])
    assert await through(script, seconds=2) == [(3, "ab"), (5.5, "c"), (9, "dF")]


@virtual_time
async def test_whichever_is_first() -> None:
    script = Scripted([1, "a", 1, "b", "c", 0.5, "d", 4, "e", "f", "g", 7, DONE])
    assert await through(script, count=3, seconds=2) == [(2, "abc"), (4.5, "d"), (6.5, "efg"), (13.5, "F")]


@virtual_time
async def test_nothing_is_emitted_where_nothing_came() -> None:
    """And no timer waits where there is nothing to emit."""
    recorder, scheduler = Recorder(), LoopScheduler()
    Scripted([1, "a", HANG]).events().pipe(buffer_tokens(seconds=2)).subscribe(
        recorder.on_next, scheduler=scheduler
    ).dispose()
    subscription = (
        Scripted([1, "a", "b", HANG])
        .events()
        .pipe(buffer_tokens(2, seconds=2))
        .subscribe(recorder.on_next, scheduler=scheduler)
    )
    await asyncio.sleep(100)
    assert recorder.times == [1]
    assert timers() == []
    subscription.dispose()
    await settle()


@virtual_time
async def test_events_without_content_ride_along() -> None:
    beat, usage = ev.Heartbeat(), ev.UsageReported(usage=Usage())
    script = Scripted([ev.Started(), "a", beat, usage, "b", beat, "c", DONE])
    assert await through(script, count=2) == [(0, "SaHUb"), (0, "HcF")]


@pytest.mark.parametrize(
    "end",
    [DONE, ev.Cancelled(), ev.Failed(error=ev.ErrorInfo(kind="", message=""))],
    ids=lambda end: type(end).__name__,
)
@virtual_time
async def test_the_end_of_a_track_ends_a_list(end: Event) -> None:
    recorder = Recorder()
    rx.of(ev.TextDelta(text="a"), end, ev.TextDelta(text="b"), ev.TextDelta(text="c")).pipe(buffer_tokens(9)).subscribe(
        recorder.on_next, scheduler=LoopScheduler()
    )
    await settle()
    assert [shown(items) for items in recorder.items] == [f"a{type(end).__name__[0]}", "bc"]


@virtual_time
async def test_tokens_may_be_counted_otherwise() -> None:
    def length(event: Event) -> int:
        return len(event.text) if isinstance(event, ev.TextDelta) else 0

    script = Scripted(["abc", "d", "ef", "ghijklm", ev.ToolCallStart(), "n", DONE])
    assert await through(script, count=4, tokens=length) == [(0, "abcd"), (0, "efghijklm"), (0, "TnF")]


@virtual_time
async def test_what_the_function_raises_ends_the_stream_after_what_is_kept() -> None:
    recorder, script, error = Recorder(), Scripted(["a", "b", 1, "c"]), ValueError("mine")

    def fails(event: Event) -> int:
        if isinstance(event, ev.TextDelta) and event.text == "b":
            raise error
        return 1

    script.events().pipe(buffer_tokens(9, tokens=fails)).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler()
    )
    await asyncio.sleep(5)
    assert ([shown(items) for items in recorder.items], recorder.error) == (["ab"], error)
    assert script.running == 0


@virtual_time
async def test_the_source_is_closed_then_although_the_error_waits_for_the_gate() -> None:
    recorder, scheduler, script = Recorder(), LoopScheduler(), Scripted(["a", 1, "b", 1, "c", HANG])

    def on_next(items: list[Event]) -> None:
        recorder.on_next(items)
        scheduler.gate.hold("test")

    def fails(_event: Event) -> int:
        raise ValueError("mine")

    script.events().pipe(buffer_tokens(2, tokens=fails)).subscribe(on_next, recorder.on_error, scheduler=scheduler)
    await settle()
    assert (len(recorder.items), recorder.error, script.running) == (1, None, 0)
    scheduler.gate.release("test")
    await settle()
    assert isinstance(recorder.error, ValueError)


@virtual_time
async def test_items_that_are_no_events_are_tokens() -> None:
    recorder = Recorder()
    rx.of(1, "a", None, 2.5, [3]).pipe(buffer_tokens(2)).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler()
    )
    await settle()
    assert recorder.items == [[1, "a"], [None, 2.5], [[3]]]
    assert recorder.completed


@virtual_time
async def test_what_is_kept_comes_before_the_error() -> None:
    recorder, error = Recorder(), Disconnected("gone")
    Scripted([1, "a", 1, raising(error)]).events().pipe(buffer_tokens(5, seconds=9)).subscribe(
        recorder.on_next, recorder.on_error, scheduler=LoopScheduler()
    )
    await asyncio.sleep(50)
    assert (shown(recorder.items[0]), recorder.error, recorder.times, recorder.ended_at) == ("a", error, [2], 2)


@virtual_time
async def test_while_the_gate_is_closed_a_list_waits() -> None:
    """Its time runs; it is emitted when the gate opens, before what comes then."""
    recorder, scheduler = Recorder(), LoopScheduler()
    script = Scripted([1, "a", 1, "b", 1, "c", "d", DONE])
    script.events().pipe(buffer_tokens(2, seconds=3)).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler
    )
    await asyncio.sleep(1.5)
    scheduler.gate.hold("test")
    await asyncio.sleep(10)
    assert recorder.items == []
    scheduler.gate.release("test")
    await asyncio.sleep(10)
    assert [shown(items) for items in recorder.items] == ["a", "bc", "dF"]
    assert recorder.times == [11.5, 12.5, 12.5]
    assert recorder.completed


@virtual_time
async def test_a_source_that_cannot_be_held_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, recorder, source = LoopScheduler(), Recorder(), Subject[int]()
    source.pipe(buffer_tokens(1)).subscribe(recorder.on_next, recorder.on_error, scheduler=scheduler)
    scheduler.gate.hold("test")
    for number in range(70_000):
        source.on_next(number)
    assert source.observers == []
    scheduler.gate.release("test")
    await asyncio.sleep(5)
    assert isinstance(recorder.error, LimitExceeded)
    assert recorder.items == [[number] for number in range(65_536)]


@virtual_time
async def test_a_list_has_a_limit() -> None:
    """However few tokens are in it, and however long its time."""
    recorder, source = Recorder(), Subject[Event]()
    source.pipe(buffer_tokens(2, seconds=1000)).subscribe(recorder.on_next, scheduler=LoopScheduler())
    beat = ev.Heartbeat()
    for _ in range(65_537):
        source.on_next(beat)
    assert [len(items) for items in recorder.items] == [65_536]
    source.on_completed()
    assert [len(items) for items in recorder.items] == [65_536, 1]


@given(
    steps=st.lists(st.sampled_from([0.5, 1, "a", "b", ev.Heartbeat(), DONE]), max_size=20),
    count=st.none() | st.integers(1, 4),
    seconds=st.none() | st.sampled_from([0.5, 1.25]),
    closed=st.lists(st.sampled_from([0.25, 0.75, 1.5]), max_size=4),
    dispose=st.none() | st.integers(0, 8),
)
def test_nothing_is_lost_doubled_or_moved(
    steps: list[Any], count: int | None, seconds: float | None, closed: list[float], dispose: int | None
) -> None:
    """Law: joined, the lists are what came; none is empty, too long or late; nothing comes while the gate is closed."""
    if count is None and seconds is None:
        return

    @virtual_time
    async def main() -> None:
        scheduler, recorder = LoopScheduler(), Recorder()
        script = Scripted([step for step in steps if step is not DONE] + [DONE])

        def on_next(items: list[Event]) -> None:
            assert not scheduler.gate.closed
            recorder.on_next(items)

        subscription = (
            script.events()
            .pipe(buffer_tokens(count, seconds=seconds))
            .subscribe(on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler)
        )
        for pause in closed:
            await asyncio.sleep(pause)
            scheduler.gate.hold("test")
            await asyncio.sleep(pause)
            scheduler.gate.release("test")
        await asyncio.sleep(100 if dispose is None else dispose / 4)
        subscription.dispose()
        await settle()
        assert timers() == []
        heard = len(recorder.items)
        await asyncio.sleep(100)
        assert (len(recorder.items), script.running) == (heard, 0)
        assert (scheduler.gate.holds, vars(scheduler.gate)["_watchers"]) == ((), set())
        joined = [event for items in recorder.items for event in items]
        assert [event.seq for event in joined] == list(range(len(joined)))
        if dispose is None:
            assert len(joined) == script.given
        for at, items in zip(recorder.times, recorder.items, strict=True):
            assert items
            tokens = sum(isinstance(event, ev.TextDelta) for event in items)
            assert count is None or tokens <= count
            assert closed or seconds is None or at <= items[0].at + seconds

    main()


@virtual_time
async def test_an_endless_source_waits_for_a_consumer_that_stands_still() -> None:
    scheduler, recorder, script = LoopScheduler(), Recorder(), Scripted(numbered(10_000))

    def on_next(items: list[Event]) -> None:
        recorder.on_next(items)
        scheduler.gate.hold("test")

    subscription = script.events().pipe(buffer_tokens(5)).subscribe(on_next, scheduler=scheduler)
    await settle()
    assert (len(recorder.items), script.given) == (1, 5)
    subscription.dispose()
    await settle()


@pytest.mark.parametrize(
    ("options", "words_"),
    [
        ({}, "count= or seconds="),
        ({"count": 0}, "count=0"),
        ({"count": 1.5}, "count=1.5"),
        ({"seconds": 0}, "seconds=0"),
        ({"count": 1, "seconds": float("nan")}, "seconds=nan"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], words_: str) -> None:
    with pytest.raises(ConfigurationError, match=words_):
        buffer_tokens(**options)


def test_what_counts_is_a_function() -> None:
    with pytest.raises(ConfigurationError, match="tokens=3"):
        buffer_tokens(10, tokens=3)  # type: ignore[arg-type]
