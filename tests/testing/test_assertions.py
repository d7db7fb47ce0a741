"""A stream that is as drawn passes; whatever is otherwise is told, with both diagrams."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops

from rxstream import operators as rxo
from rxstream.errors import ConfigurationError, Disconnected, TimedOut
from rxstream.events import TextDelta, ToolCall
from rxstream.limiter import TokenBucket
from rxstream.testing import assert_stream, from_marbles
from rxstream.tracks import merge


@pytest.mark.parametrize(
    "diagram", ["s-a-b-(cu)|", "s-a-b-(cu|)", "a#", "(a#)", "|", "#", "---", "a-b", "a(f|)", "af|"]
)
def test_what_is_drawn_is_as_drawn(diagram: str) -> None:
    assert_stream(from_marbles(diagram), diagram if diagram != "af|" else "a(f|)")


def test_operators_do_as_they_are_drawn() -> None:
    assert_stream(from_marbles("s-a-b-c-|").pipe(rxo.text()), "--a-b-c-|")
    assert_stream(from_marbles("a-----|").pipe(rxo.timeouts(idle=3)), "a--#", error=TimedOut)
    assert_stream(from_marbles("a-b-(cu|)").pipe(ops.take(2)), "a-(b|)")
    assert_stream(rx.of(1, 2, 3), "(123|)")
    assert_stream(rx.never(), "-----")
    assert_stream(rx.timer(2.0), "--(0|)")


def test_tracks_do_as_they_are_drawn() -> None:
    one, two = from_marbles("a---c|"), from_marbles("--b---d|")
    assert_stream(merge(one, two).pipe(rxo.text()), "a-b-c-d|")


def test_a_pause_a_late_comer_and_a_leaving_are_drawn_beside_it() -> None:
    assert_stream(
        from_marbles("a-b-c-|"),
        "a----b-c-|",
        during="^h---r",
    )
    assert_stream(
        from_marbles("a-b-c-d|"),
        "a-b--",
        during="^--!",
    )
    assert_stream(
        from_marbles("a-b-c|"),
        "--a-b-c|",
        during="--^",
    )


def test_what_needs_the_loop_is_made_on_it() -> None:
    def make() -> Observable[Any]:
        bucket = TokenBucket(0.5, burst=1, clock=asyncio.get_running_loop().time)
        return from_marbles("(abc|)").pipe(rxo.rate_limit(bucket), rxo.text())

    assert_stream(make, "a-b-c-|")


def test_units_are_seconds_as_said() -> None:
    assert_stream(from_marbles("a-b|", unit=0.1), "a-b|", unit=0.1)
    assert_stream(from_marbles("a-b|", unit=30.0), "a-b|", unit=30.0)
    assert_stream(from_marbles("a-b|", unit=2.0), "a---b-|")


def test_values_may_be_texts_events_and_classes() -> None:
    whole = from_marbles("a-T-|", values={"a": "Hello. "})
    assert_stream(whole, "a-T-|", values={"a": "Hello. ", "T": ToolCall})
    assert_stream(whole, "a-T-|", values={"a": TextDelta(text="Hello. ")})


@pytest.mark.parametrize(
    ("stream", "diagram", "said"),
    [
        ("a-b|", "a-c|", 'at 2, \'c\' was to come, not {"type":"text-delta","text":"b"}'),
        ("a-b|", "a--b|", "'b' was to come at 3, and came at 2"),
        ("a-b|", "a-b--|", "'|' was to come at 5, and came at 3"),
        ("a-b|", "a-b#", "at 3, '#' was to come, not the completion"),
        ("a-b#", "a-b|", "at 3, '|' was to come, not Disconnected("),
        ("a-b|", "a--|", "at 3, '|' was to come, not"),
        ("a---", "a-b|", "at 2, 'b' was to come, and nothing did"),
        ("ab--", "a---", 'at 1, nothing was to come, and there was {"type":"text-delta","text":"b"}'),
        ("a|", "a----", "at 1, nothing was to come, and there was"),
        ("a|", "af|", "'|' was to come at 2, and came at 1"),
    ],
)
def test_what_is_otherwise_is_told(stream: str, diagram: str, said: str) -> None:
    with pytest.raises(AssertionError) as failed:
        assert_stream(from_marbles(stream), diagram)
    assert said in str(failed.value)


def test_the_message_shows_both_diagrams_and_all_that_came() -> None:
    with pytest.raises(AssertionError) as failed:
        assert_stream(from_marbles("s-a-(bu|)"), "s-a--(bu|)")
    assert str(failed.value).splitlines()[1:3] == ["  drawn: s-a--(bu|)", "  came:  s-a-(bu|)"]
    assert '    2: {"type":"text-delta","text":"a"}' in str(failed.value)


def test_an_error_of_another_kind_is_not_what_was_drawn() -> None:
    assert_stream(from_marbles("#"), "#", error=Disconnected)
    with pytest.raises(AssertionError, match="'#' was to come, not Disconnected"):
        assert_stream(from_marbles("#"), "#", error=TimedOut)


def test_what_comes_too_late_is_seen() -> None:
    with pytest.raises(AssertionError, match="'b' was to come at 1, and came at 6"):
        assert_stream(from_marbles("a-----b|"), "ab|")


def test_a_task_that_is_left_behind_fails_it() -> None:
    left: list[asyncio.Task[None]] = []

    def subscribe(observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        left.append(asyncio.ensure_future(asyncio.sleep(1000)))
        return rx.never().subscribe(observer, scheduler=scheduler)

    with pytest.raises(AssertionError, match="tasks are left behind"):
        assert_stream(Observable(subscribe), "--")


async def test_within_a_loop_it_is_refused() -> None:
    with pytest.raises(AssertionError, match="call it where none is running"):
        assert_stream(from_marbles("a|"), "a|")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"unit": -1}, "unit=-1"),
        ({"during": "^a"}, "'a' at 1"),
        ({"during": "--"}, "must have one ^"),
        ({"during": "^-^"}, "must have one ^"),
        ({"diagram": "(a"}, "not closed"),
        ({"diagram": 7}, "must be a string"),
        ({"values": 7}, "values: must be a dict"),
        ({"error": ValueError()}, "error: must be a class of exceptions, not a ValueError"),
        ({"stream": "a|"}, "stream: must be an Observable"),
        ({"stream": list}, "stream: must be an Observable, or a function that makes one, not a list"),
    ],
)
def test_bad_options_are_told(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        assert_stream(**{"stream": from_marbles("a|"), "diagram": "a|", **options})
    assert said in str(refused.value)
