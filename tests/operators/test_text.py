"""``text``: joined, its items are the answer's text."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, get_args

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxstream.errors import ConfigurationError, Disconnected, LimitExceeded
from rxstream.events import (
    Cancelled,
    Event,
    Finished,
    Heartbeat,
    RefusalDelta,
    Retracted,
    Seam,
    Started,
    TextDelta,
    ThinkingDelta,
)
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.operators import text
from rxstream.segment import TextUnit, split
from tests.support.scripted import DONE, Recorder, Scripted, numbered, raising
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

UNITS: tuple[TextUnit, ...] = get_args(TextUnit)
BY: tuple[Any, ...] = ("delta", *UNITS)


def through(source: Observable[Event], by: Any, *, choice: int = 0) -> tuple[list[str], list[object]]:
    """What came, and how it ended."""
    items: list[str] = []
    end: list[object] = []

    @virtual_time
    async def main() -> None:
        source.pipe(text(by, choice=choice)).subscribe(
            items.append, end.append, lambda: end.append("end"), scheduler=LoopScheduler()
        )
        await settle()

    main()
    return items, end


def texts(pieces: Sequence[str]) -> Observable[Event]:
    return rx.from_iterable([TextDelta(text=piece) for piece in pieces])


deltas = st.lists(
    st.text(st.sampled_from(list("ab e\u0301.\n\r\U0001f469\u200d\U0001f4bb\u4e2d")), max_size=6), max_size=12
)


@pytest.mark.parametrize("by", BY)
@given(deltas)
def test_joined_the_items_are_the_text(by: Any, pieces: list[str]) -> None:
    """Law: whatever the deltas and whatever the unit, nothing is lost, invented or moved."""
    items, end = through(texts(pieces), by)
    assert "".join(items) == "".join(pieces)
    assert end == ["end"]
    if by == "delta":
        assert items == pieces
    else:
        assert "" not in items


@pytest.mark.parametrize("by", UNITS)
@given(deltas)
def test_the_items_do_not_depend_on_how_the_text_was_cut(by: TextUnit, pieces: list[str]) -> None:
    assert through(texts(pieces), by) == (split("".join(pieces), by), ["end"])


@pytest.mark.parametrize("by", BY)
@given(deltas)
def test_what_is_held_back_comes_before_the_error(by: Any, pieces: list[str]) -> None:
    error = ValueError("mine")
    items, end = through(rx.concat(texts(pieces), rx.throw(error)), by)
    assert "".join(items) == "".join(pieces)
    assert end == [error]


@pytest.mark.parametrize("by", BY)
def test_only_the_text_of_the_chosen_answer_counts(by: Any) -> None:
    events: list[Event] = [
        Started(id="x"),
        ThinkingDelta(text="hm "),
        TextDelta(text="one "),
        TextDelta(text="other ", choice=1),
        RefusalDelta(text="no "),
        TextDelta(text="more"),
        Finished(reason="stop"),
    ]
    assert "".join(through(rx.from_iterable(events), by)[0]) == "one more"
    assert "".join(through(rx.from_iterable(events), by, choice=1)[0]) == "other "


def test_words_keep_the_white_space_after_them() -> None:
    assert through(texts(["Hel", "lo wor", "ld"]), "word")[0] == ["Hello ", "world"]


def test_what_belongs_together_may_come_in_several_parts() -> None:
    """An answer with citations comes so; nothing but text has a say."""
    events: list[Event] = [
        TextDelta(text="So it "),
        Heartbeat(),
        TextDelta(text="is. The", part=1),
        TextDelta(text="n", part=2),
    ]
    assert through(rx.from_iterable(events), "sentence")[0] == ["So it is. ", "Then"]


def test_tracks_are_cut_each_for_itself() -> None:
    events: list[Event] = [
        TextDelta(text="on", source="a"),
        TextDelta(text="tw", source="b"),
        TextDelta(text="e thr", source="a"),
        TextDelta(text="o", source="b"),
        Finished(reason="stop", source="b"),
        Cancelled(source="a"),
        Finished(reason="stop", source="c"),
        TextDelta(text="again", source="b"),
    ]
    assert through(rx.from_iterable(events), "word")[0] == ["one ", "two", "thr", "again"]


@pytest.mark.parametrize(
    ("choice", "to_offset", "rest"),
    [(0, 0, ["b"]), (0, 4, ["b"]), (0, 6, ["tw", "b"]), (0, 99, ["two", "b"]), (1, 6, ["b"])],
)
def test_what_is_retracted_is_not_emitted(choice: int, to_offset: int, rest: list[str]) -> None:
    """As far as it is held: characters are those of the attempt."""
    events: list[Event] = [
        TextDelta(text="one two", choice=choice),
        Retracted(to_offset=0, attempt=2),
        Retracted(to_offset=0, source="other"),
        Retracted(to_offset=to_offset),
        TextDelta(text="b", choice=choice, attempt=2),
    ]
    assert through(rx.from_iterable(events), "word", choice=choice)[0] == ["one ", *rest]


def test_text_goes_on_over_a_seam() -> None:
    events: list[Event] = [
        TextDelta(text="one tw"),
        Seam(kind="resume", offset=6, attempt=2),
        TextDelta(text="o three", attempt=2),
        Retracted(to_offset=3, attempt=2),
    ]
    assert through(rx.from_iterable(events), "word")[0] == ["one ", "two ", "t"]


def test_each_subscription_begins_anew() -> None:
    words = texts(["a b"])
    for _ in range(2):
        assert through(words, "word")[0] == ["a ", "b"]


@pytest.mark.parametrize("by", ["letter", "size", ""])
def test_a_unit_that_is_none_is_refused_when_it_is_built(by: Any) -> None:
    with pytest.raises(ConfigurationError, match="by="):
        text(by)


@virtual_time
async def test_a_delta_is_not_delayed_and_disposing_closes_the_source() -> None:
    script, recorder = Scripted([1, "a", 1, "b", 1, raising(AssertionError("read on"))]), Recorder()
    subscription = script.events().pipe(text()).subscribe(recorder.on_next, scheduler=LoopScheduler())
    await asyncio.sleep(2.5)
    assert list(zip(recorder.times, recorder.items, strict=True)) == [(1, "a"), (2, "b")]
    subscription.dispose()
    await settle()
    assert script.closed == 1


@virtual_time
async def test_an_item_comes_when_its_end_is_known() -> None:
    script, recorder = Scripted([1, "So it", 1, " is.", 1, " ", 1, "Then", 1, " no.", 1, DONE]), Recorder()
    script.events().pipe(text("sentence")).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler()
    )
    await asyncio.sleep(10)
    assert list(zip(recorder.times, recorder.items, strict=True)) == [(4, "So it is. "), (6, "Then no.")]
    assert (recorder.ended_at, recorder.completed) == (6, True)


@virtual_time
async def test_a_closed_gate_stops_it_between_two_items_of_one_delta() -> None:
    scheduler, recorder = LoopScheduler(), Recorder()
    script = Scripted([1, "a b c d", 1, " e f", 1, DONE])

    def on_next(item: str) -> None:
        recorder.on_next(item)
        if item == "b ":
            scheduler.gate.hold("test")

    script.events().pipe(text("word")).subscribe(on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler)
    await asyncio.sleep(20)
    assert (recorder.items, recorder.ended_at) == (["a ", "b "], None)
    scheduler.gate.release("test")
    await asyncio.sleep(20)
    assert list(zip(recorder.times, recorder.items, strict=True)) == [
        *((1, "a "), (1, "b "), (20, "c ")),
        *((21, "d "), (21, "e "), (22, "f")),
    ]
    assert recorder.completed


@virtual_time
async def test_the_error_waits_for_the_gate_and_comes_last() -> None:
    scheduler, recorder, error = LoopScheduler(), Recorder(), Disconnected("gone")
    script = Scripted([1, "a b", raising(error)])
    script.events().pipe(text("word")).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler
    )
    await asyncio.sleep(0.5)
    scheduler.gate.hold("test")
    await asyncio.sleep(5)
    assert recorder.items == []
    scheduler.gate.release("test")
    await settle()
    assert (recorder.items, recorder.error) == (["a ", "b"], error)


@virtual_time
async def test_disposed_in_the_middle_of_a_delta_it_says_no_more_and_lets_go() -> None:
    scheduler, heard = LoopScheduler(), list[str]()
    script = Scripted(["a b c d", 1, DONE])

    def on_next(item: str) -> None:
        heard.append(item)
        if item == "b ":
            subscription.dispose()

    subscription = script.events().pipe(text("word")).subscribe(on_next, scheduler=scheduler)
    await asyncio.sleep(5)
    assert (heard, script.running) == (["a ", "b "], 0)
    assert_released(scheduler.gate)


@virtual_time
async def test_a_delta_of_very_many_items_holds_the_source_and_loses_none() -> None:
    """Not even if the gate is closed in the middle of it."""
    scheduler, recorder, many = LoopScheduler(), Recorder(), 100_000
    script = Scripted(["x " * many, *numbered(50)])

    def on_next(item: str) -> None:
        recorder.on_next(item)
        if len(recorder.items) == 10:
            scheduler.gate.hold("test")

    subscription = (
        script.events()
        .pipe(text("word"))
        .subscribe(on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler)
    )
    await asyncio.sleep(1)
    assert (len(recorder.items), script.reads) == (10, 1)
    scheduler.gate.release("test")
    await asyncio.sleep(1)
    assert (len(recorder.items), recorder.completed) == (many + 50, True)
    subscription.dispose()
    await settle()
    assert_released(scheduler.gate)


@virtual_time
async def test_while_many_items_wait_for_a_slow_consumer_the_source_is_held() -> None:
    """Between two of them the loop breathes, and the source would run on."""
    loop, scheduler, recorder = asyncio.get_running_loop(), LoopScheduler(), Recorder()
    assert isinstance(loop, VirtualLoop)
    script, given = Scripted(["x " * 1000, *numbered(50)]), list[int]()

    def on_next(item: str) -> None:
        recorder.on_next(item)
        given.append(script.given)
        loop.advance(0.001)

    script.events().pipe(text("word")).subscribe(on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler)
    await asyncio.sleep(10)
    assert (len(recorder.items), recorder.completed) == (1050, True)
    assert max(given[:980]) <= 2
    assert scheduler.gate.holds == ()


@virtual_time
async def test_nothing_is_held_when_it_was_disposed_while_items_waited() -> None:
    given: list[abc.SchedulerBase | None] = []

    def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        given.append(scheduler)
        observer.on_next(TextDelta(text="x " * 100))
        return Disposable()

    scheduler = LoopScheduler()
    scheduler.gate.hold("test")
    source: Observable[Event] = Observable(subscribe)
    subscription = source.pipe(text("word")).subscribe(scheduler=scheduler)
    above = LoopScheduler.of(given[0]).gate
    assert [name.partition("-")[0] for name in above.holds] == ["test", "text"]
    subscription.dispose()
    assert list(above.holds) == ["test"]


@virtual_time
async def test_a_source_that_cannot_be_held_ends_in_an_error_before_memory_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rxstream.operators._spread.MOST", 10)
    scheduler, recorder, source = LoopScheduler(), Recorder(), rx.Subject[Event]()
    source.pipe(text("word")).subscribe(recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler)
    scheduler.gate.hold("test")
    for _ in range(200):
        source.on_next(TextDelta(text="x y z "))
    assert len(source.observers) == 0
    scheduler.gate.release("test")
    await settle()
    assert isinstance(recorder.error, LimitExceeded)
    assert 64 < len(recorder.items) < 150
    assert_released(scheduler.gate)


@virtual_time
async def test_an_endless_word_comes_in_parts() -> None:
    recorder = Recorder()
    script = Scripted(["abc" * 1000] * 50)
    script.events().pipe(text("word")).subscribe(recorder.on_next, recorder.on_error, scheduler=LoopScheduler())
    await asyncio.sleep(1)
    assert "".join(recorder.items) == "abc" * 50_000
    assert max(map(len, recorder.items)) < 70_000


def assert_released(gate: Gate) -> None:
    """Nobody holds it, nobody watches it."""
    assert (gate.holds, vars(gate)["_watchers"]) == ((), set())


@pytest.mark.parametrize("choice", [-1, "0", True])
def test_a_choice_that_is_none_is_refused(choice: Any) -> None:
    with pytest.raises(ConfigurationError, match="choice="):
        text(choice=choice)
