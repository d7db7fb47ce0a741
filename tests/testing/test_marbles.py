"""A diagram says what comes when; what comes is drawn as a diagram."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import ConfigurationError, Disconnected, Overloaded
from rxstream.events import (
    Failed,
    Finished,
    Heartbeat,
    Retracted,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    UsageReported,
)
from rxstream.loop import LoopScheduler
from rxstream.testing.marbles import Mark, bare, draw, fits, from_marbles, read_marbles
from rxstream.testing.scripted import DONE, Recorder
from rxstream.testing.virtual import run_virtual


def played(diagram: str, **options: Any) -> Recorder:
    async def main() -> Recorder:
        recorder = Recorder()
        subscription = from_marbles(diagram, **options).subscribe(
            recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler()
        )
        await asyncio.sleep(100)
        subscription.dispose()
        return recorder

    return run_virtual(main())


@pytest.mark.parametrize(
    ("diagram", "marks", "length"),
    [
        ("", [], 0),
        ("--", [], 2),
        ("a-b", [(0, "a"), (2, "b")], 3),
        ("s-a-b-(cu)|", [(0, "s"), (2, "a"), (4, "b"), (6, "c"), (6, "u"), (10, "|")], 11),
        ("a  - 7#", [(0, "a"), (2, "7"), (3, "#")], 4),
    ],
)
def test_every_character_takes_a_unit_and_a_group_starts_at_its_bracket(
    diagram: str, marks: list[tuple[int, str]], length: int
) -> None:
    assert read_marbles(diagram) == ([Mark(at, sign) for at, sign in marks], length)


@pytest.mark.parametrize(
    ("diagram", "said"),
    [
        ("a?", "'?' at 1: it means nothing"),
        ("(a", "'(' at 0: the bracket is not closed"),
        ("a)", "')' at 1: no bracket is open"),
        ("((a))", "'(' at 1: a bracket is open already"),
        ("(a-b)", "'-' at 2: no time passes"),
        ("|a", "'a' at 1: it comes after the end"),
        ("a||", "'|' at 2: it comes after the end"),
        ("é", "'é' at 0: it means nothing"),
    ],
)
def test_what_cannot_be_read_is_refused(diagram: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match="at") as refused:
        read_marbles(diagram)
    assert said in str(refused.value)


@pytest.mark.parametrize("call", [read_marbles, from_marbles])
@pytest.mark.parametrize(
    ("diagram", "pointing"),
    [
        ("  a - ?b", ["  a - ?b", "      ^"]),
        ("a (b", ["a (b", "  ^"]),
        ("a\n", ["a?", " ^"]),
    ],
)
def test_the_message_points_at_the_character(call: Any, diagram: str, pointing: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        call(diagram)
    assert [line[2:] for line in str(refused.value).splitlines()[1:]] == pointing


def test_signs_may_be_other_ones() -> None:
    assert read_marbles("^-!", signs="^!") == ([Mark(0, "^"), Mark(2, "!")], 3)
    with pytest.raises(ConfigurationError, match="'a' at 0"):
        read_marbles("a", signs="^!")


def test_a_source_gives_each_kind_when_it_is_drawn() -> None:
    recorder = played("sKT(uH)-Rab-(X7)--|", unit=0.5)
    kinds = [
        Started, ThinkingDelta, ToolCall, UsageReported, Heartbeat, Retracted, TextDelta, TextDelta, Failed, TextDelta, Finished,
    ]  # fmt: skip
    assert [type(item) for item in recorder.items] == kinds
    assert recorder.times == [0, 0.5, 1, 1.5, 1.5, 4, 4.5, 5, 6, 6, 9]
    assert recorder.texts == ["a", "b", "7"]
    assert (recorder.completed, recorder.ended_at) == (True, 9)
    assert [item.seq for item in recorder.items] == list(range(11))


@pytest.mark.parametrize("diagram", ["a|", "af|", "a(f|)", "(af)|"])
def test_the_end_has_one_finished_however_it_is_drawn(diagram: str) -> None:
    recorder = played(diagram)
    assert sum(isinstance(item, Finished) for item in recorder.items) == 1
    assert recorder.completed


def test_without_an_end_it_does_not_end() -> None:
    recorder = played("a-b--")
    assert recorder.texts == ["a", "b"]
    assert recorder.ended_at is None


@pytest.mark.parametrize("diagram", ["a-#", "--(a#)"])
def test_it_fails_where_it_is_drawn(diagram: str) -> None:
    recorder = played(diagram)
    assert recorder.texts == ["a"]
    assert type(recorder.error) is Disconnected
    assert recorder.ended_at == 2
    assert type(played(diagram, error=Overloaded("busy")).error) is Overloaded


def test_characters_may_mean_something_else() -> None:
    event = TextDelta(text="event", part=3)
    recorder = played("aBs|", values={"a": "A longer text. ", "B": event, "s": "s"})
    assert recorder.texts == ["A longer text. ", "event", "s"]


def test_what_finishes_is_what_the_character_means() -> None:
    recorder = played("f-|", values={"f": "far "})
    assert (recorder.texts, recorder.ended_at, recorder.error) == (["far "], 2, None)
    recorder = played("a-(bL)|", values={"L": Finished(reason="length")})
    assert [item.reason for item in recorder.items if isinstance(item, Finished)] == ["length"]
    assert (recorder.ended_at, recorder.error) == (2, None)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: from_marbles("a", unit=0), "unit=0"),
        (lambda: from_marbles("a", values={"a": 7}), "'a' is an int"),  # type: ignore[dict-item]
        (lambda: from_marbles("(fa)|"), "after Finished nothing comes"),
        (lambda: from_marbles("f - b|"), "'b' at 4: after Finished nothing comes"),
        (lambda: from_marbles("a-f-#"), "after Finished nothing comes"),
        (lambda: from_marbles("a", values={"ab": "no"}), "'ab' is no letter"),
        (lambda: from_marbles("a", values={"|": "no"}), "'|' is no letter"),
        (lambda: from_marbles("a?"), "means nothing"),
        (lambda: from_marbles(7), "a diagram must be a string, not 7"),  # type: ignore[arg-type]
        (lambda: from_marbles("a", values=["a"]), "values: must be a dict"),  # type: ignore[arg-type]
        (lambda: from_marbles("#", error=ValueError("no")), "error=a ValueError"),  # type: ignore[arg-type]
    ],
)
def test_bad_options_are_told(call: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        call()
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("sign", "item", "values", "fitting"),
    [
        ("a", TextDelta(text="a", seq=7, at=3.0, source="x", attempt=2), None, True),
        ("a", TextDelta(text="b"), None, False),
        ("a", "a", None, True),
        ("1", 1, None, True),
        ("s", Started(id="any"), None, True),
        ("s", TextDelta(text="s"), None, False),
        ("f", Finished(reason="length"), None, True),
        ("a", "long", {"a": "long"}, True),
        ("a", TextDelta(text="long", at=1.0), {"a": "long"}, True),
        ("a", [TextDelta(text="x", seq=9)], {"a": [TextDelta(text="x")]}, True),
        ("a", [TextDelta(text="x")], {"a": [TextDelta(text="y")]}, False),
        ("f", Finished(reason="length"), {"f": Finished(reason="stop")}, False),
        ("a", 3.0, {"a": float}, True),
        ("b", Heartbeat(), None, False),
    ],
)
def test_what_fits(sign: str, item: object, values: dict[str, object] | None, fitting: bool) -> None:
    assert fits(sign, item, values) is fitting


def test_what_no_character_stands_for_is_drawn_as_a_question() -> None:
    signals: list[tuple[float, object]] = [(0, TextDelta(text="long")), (2, "xx"), (3, TextDelta(text="s"))]
    assert draw(signals) == "?-??"
    assert draw(signals, {"a": "long", "x": "xx"}) == "a-x?"
    assert draw([(0, "x"), (1, 7)]) == "x7"


units = st.lists(st.sampled_from(["-", "a", "b7", "s", "K", "T", "H", "uR", "Xab"]), max_size=12)


@given(parts=units, end=st.sampled_from(["", "|", "#", "(f|)"]))
def test_what_is_drawn_comes_and_is_drawn_again_as_it_was(parts: list[str], end: str) -> None:
    diagram = "".join(f"({part})" if len(part) > 1 else part for part in parts) + "-" + end
    recorder = played(diagram)
    signals: list[tuple[float, object]] = list(zip(recorder.times, recorder.items, strict=True))
    if recorder.ended_at is not None:
        signals.append((recorder.ended_at, recorder.error))
    assert draw(signals) == (diagram.replace("(f|)", "|") if end else diagram.rstrip("-"))


@functools.cache
def event_of(sign: str) -> object:
    [event] = played(sign).items
    return event


moments = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.sampled_from("abz09sKTuHRX"), min_size=1, max_size=4)), max_size=8
)


@given(moments=moments, end=st.sampled_from(["done", "error", "none"]))
def test_events_that_are_drawn_come_again_as_they_were(
    moments: list[tuple[int, list[str]]], end: Literal["done", "error", "none"]
) -> None:
    """Those of one moment take as many units as a bracket around them does: closer nothing can be drawn."""
    signals: list[tuple[float, object]] = []
    at = 0
    for pause, signs in moments:
        at += pause
        signals += [(at, event_of(sign)) for sign in signs]
        at += len(signs) + 2 if len(signs) > 1 else 1
    if end != "none":
        signals.append((at, Disconnected("drawn") if end == "error" else None))
    again = played(draw(signals))
    events = [(when, bare(item)) for when, item in signals if item is not None and not isinstance(item, Exception)]
    came = [(when, bare(item)) for when, item in zip(again.times, again.items, strict=True)]
    assert came == [*events, *([(at, bare(DONE))] if end == "done" else [])]
    assert (again.completed, type(again.error)) == (end == "done", Disconnected if end == "error" else type(None))
