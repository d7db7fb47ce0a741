"""How much text there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream import events as ev
from rxstream._units import bytes_in, characters_in, text_of
from rxstream.segment import characters


@given(st.one_of(st.text(), st.text("a \r\n\u0301\u200d👩é")))
def test_characters_are_as_many_as_it_can_be_cut_into(text: str) -> None:
    assert characters_in(text) == len(characters(text))


@given(st.text(st.characters(categories=("L", "Cs", "So"))))
def test_bytes_are_those_of_utf_8_whatever_the_text_holds(text: str) -> None:
    assert bytes_in(text) == len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (ev.TextDelta(text="a"), "a"),
        (ev.ThinkingDelta(text="b"), "b"),
        (ev.RefusalDelta(text="c"), "c"),
        (ev.ToolCallDelta(arguments="d"), "d"),
        ("e", "e"),
        (ev.ToolCall(id="x", name="y", arguments="said before"), ""),
        (ev.Heartbeat(comment="no"), ""),
        (5, ""),
        (None, ""),
    ],
)
def test_text_is_what_an_item_adds_to_it(item: object, text: str) -> None:
    assert text_of(item) == text
