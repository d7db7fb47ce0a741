"""``text``: joined, its items are the answer's text."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable
from reactivex.scheduler import ImmediateScheduler

from rxstream.events import Event, Finished, RefusalDelta, Started, TextDelta, ThinkingDelta
from rxstream.loop import LoopScheduler
from rxstream.operators import text
from tests.support.scripted import Recorder, Scripted, raising
from tests.support.virtual_loop import settle, virtual_time

By = Literal["delta", "character", "word"]
BY: tuple[By, ...] = ("delta", "character", "word")


def through(source: Observable[Event], by: By, *, choice: int = 0) -> tuple[list[str], list[object]]:
    """What came, and how it ended."""
    items: list[str] = []
    end: list[object] = []
    source.pipe(text(by, choice=choice)).subscribe(
        items.append, end.append, lambda: end.append("end"), scheduler=ImmediateScheduler()
    )
    return items, end


deltas = st.lists(
    st.text(st.sampled_from(list("ab e\u0301.\n\r\U0001f469\u200d\U0001f4bb\u4e2d")), max_size=6), max_size=12
)


@pytest.mark.parametrize("by", BY)
@given(deltas)
def test_joined_the_items_are_the_text(by: By, pieces: list[str]) -> None:
    """Law: whatever the deltas and whatever the unit, nothing is lost, invented or moved."""
    source: Observable[Event] = rx.from_iterable([TextDelta(text=piece) for piece in pieces])
    items, end = through(source, by)
    assert "".join(items) == "".join(pieces)
    assert end == ["end"]
    if by == "delta":
        assert items == pieces
    else:
        assert "" not in items


@pytest.mark.parametrize("by", BY[1:])
@given(deltas)
def test_the_items_do_not_depend_on_how_the_text_was_cut(by: By, pieces: list[str]) -> None:
    whole: Observable[Event] = rx.of(TextDelta(text="".join(pieces)))
    cut: Observable[Event] = rx.from_iterable([TextDelta(text=piece) for piece in pieces])
    assert through(cut, by) == through(whole, by)


@pytest.mark.parametrize("by", BY)
@given(deltas)
def test_what_is_held_back_comes_before_the_error(by: By, pieces: list[str]) -> None:
    error = ValueError("mine")
    events: Observable[Event] = rx.from_iterable([TextDelta(text=piece) for piece in pieces])
    items, end = through(rx.concat(events, rx.throw(error)), by)
    assert "".join(items) == "".join(pieces)
    assert end == [error]


@pytest.mark.parametrize("by", BY)
def test_only_the_text_of_the_chosen_answer_counts(by: By) -> None:
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
    source: Observable[Event] = rx.from_iterable([TextDelta(text=piece) for piece in ("Hel", "lo wor", "ld")])
    assert through(source, "word")[0] == ["Hello ", "world"]


def test_each_subscription_begins_anew() -> None:
    source: Observable[Event] = rx.of(TextDelta(text="a b"))
    words = source.pipe(text("word"))
    for _ in range(2):
        heard: list[str] = []
        words.subscribe(heard.append, scheduler=ImmediateScheduler())
        assert heard == ["a ", "b"]


@virtual_time
async def test_a_delta_is_not_delayed_and_disposing_closes_the_source() -> None:
    script, recorder = Scripted([1, "a", 1, "b", 1, raising(AssertionError("read on"))]), Recorder()
    subscription = script.events().pipe(text()).subscribe(recorder.on_next, scheduler=LoopScheduler())
    await asyncio.sleep(2.5)
    assert list(zip(recorder.times, recorder.items, strict=True)) == [(1, "a"), (2, "b")]
    subscription.dispose()
    await settle()
    assert script.closed == 1
