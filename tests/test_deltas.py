"""Pieces of a text: which may be joined, which may be dropped, how large they are."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream import events as ev
from rxstream._deltas import droppable, joined, place, size, text_of
from rxstream.aggregate import aggregate
from rxstream.events import Event
from rxstream.usage import Usage

PIECES: list[Any] = [
    ev.TextDelta(text="a"),
    ev.ThinkingDelta(text="a"),
    ev.RefusalDelta(text="a"),
    ev.ToolCallDelta(arguments="a"),
    "a",
]
OTHERS: list[Any] = [
    ev.Started(),
    ev.ThinkingSignature(data="x"),
    ev.ToolCallStart(),
    ev.ToolCall(id="c", name="f", arguments="{}"),
    ev.ServerTool(step="delta", arguments="{"),
    ev.Citation(),
    ev.Media(kind="audio", data="xx"),
    ev.Logprobs(content=[]),
    ev.PartEnd(),
    ev.UsageReported(usage=Usage()),
    ev.Finished(reason="stop"),
    ev.Status(status="queued"),
    ev.Heartbeat(),
    ev.Retracted(),
    ev.Seam(kind="prefill", offset=0),
    ev.Failed(error=ev.ErrorInfo(kind="x", message="y")),
    ev.Retrying(error=ev.ErrorInfo(kind="x", message="y")),
    ev.Cancelled(),
    ev.Raw(),
    7,
    b"a",
]


def name(item: object) -> str:
    return type(item).__name__


def test_every_event_is_in_the_tables() -> None:
    """One that is added must be given its place here."""
    assert {type(item) for item in [*PIECES, *OTHERS]} >= set(get_args(Event))


@pytest.mark.parametrize("piece", PIECES, ids=name)
def test_a_piece_has_a_place_of_its_own(piece: Any) -> None:
    assert [other for other in PIECES if place(other) == place(piece)] == [piece]


@pytest.mark.parametrize("other", OTHERS, ids=name)
def test_what_is_no_piece_has_no_place(other: Any) -> None:
    assert place(other) is None


@pytest.mark.parametrize("field", ["source", "attempt", "choice", "part", "kind"])
def test_pieces_of_different_texts_have_different_places(field: str) -> None:
    one = ev.ThinkingDelta(text="a", source="x", attempt=1, choice=0, part=0, kind="full")
    changed: dict[str, Any] = {"source": "y", "attempt": 2, "choice": 1, "part": 1, "kind": "summary"}
    other = ev.ThinkingDelta(**{**{name: getattr(one, name) for name in ("text", *changed)}, field: changed[field]})
    assert place(one) != place(other)
    again = ev.ThinkingDelta(text="b", source="x", seq=9, at=3.0, raw=b"{}")
    assert place(one) == place(again)


def test_what_is_joined_has_the_fields_of_its_first_piece_but_for_the_providers_bytes() -> None:
    first = ev.TextDelta(text="a", source="x", attempt=2, choice=1, part=3, seq=5, at=1.5, raw=b"{}")
    sum_of_them = joined(first, ["a", "b"])
    assert sum_of_them == ev.TextDelta(text="ab", source="x", attempt=2, choice=1, part=3, seq=5, at=1.5)
    assert joined("a", ["a", "b", "c"]) == "abc"
    assert joined(ev.ToolCallDelta(arguments="{"), ["{", "}"]) == ev.ToolCallDelta(arguments="{}")


@given(st.lists(st.text(max_size=4), min_size=1, max_size=6), st.sampled_from(PIECES[:4]))
def test_an_aggregator_cannot_tell(texts: list[str], kind: Any) -> None:
    field = "arguments" if isinstance(kind, ev.ToolCallDelta) else "text"
    events = [type(kind)(**{field: text}) for text in texts]
    assert aggregate([joined(events[0], [text_of(event) for event in events])]) == aggregate(events)


@pytest.mark.parametrize("item", [*PIECES, *OTHERS], ids=name)
def test_only_what_a_reader_watches_go_by_may_be_dropped(item: Any) -> None:
    loose = {"TextDelta", "ThinkingDelta", "RefusalDelta", "Logprobs", "Status", "Heartbeat", "str", "int", "bytes"}
    assert droppable(item) == (name(item) in loose)


@pytest.mark.parametrize(
    ("item", "octets"),
    [
        ("abc", 3),
        ("", 1),
        ("é", 2),
        ("\ud800", 3),  # half of a pair, which a tokenizer may leave
        (b"abcd", 4),
        (ev.TextDelta(text="€"), 3),
        (ev.ThinkingDelta(text="ab"), 2),
        (ev.ToolCallDelta(arguments='{"a"'), 4),
        (ev.ToolCall(id="c", name="f", arguments="{}"), 2),
        (ev.Media(kind="audio", data="x" * 100), 100),
        (ev.ThinkingSignature(data="xyz"), 3),
        (ev.ServerTool(step="delta", arguments="12345"), 5),
        (ev.Finished(reason="stop"), 64),
        (object(), 64),
    ],
    ids=lambda value: name(value) if not isinstance(value, int) else str(value),
)
def test_size(item: Any, octets: int) -> None:
    assert size(item) == octets
