"""Text on its way to a terminal: shown, never obeyed."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from rxstream.sinks.console import printable

ANY = st.text(alphabet=st.characters(codec=None, exclude_categories=()))


@given(ANY)
def test_nothing_in_it_is_a_control_character(text: str) -> None:
    """No C0, no C1, no DEL, no half of a surrogate pair; newline and tab are layout and stay."""
    kept = [char for char in printable(text) if unicodedata.category(char) in ("Cc", "Cs")]
    assert set(kept) <= {"\n", "\t"}


@given(ANY, st.integers(0, 100))
def test_a_split_hides_nothing(text: str, at: int) -> None:
    """Piece by piece is the same as at once, so an escape split over deltas is seen, too."""
    assert printable(text[:at]) + printable(text[at:]) == printable(text)


TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(st.text(alphabet=st.characters(exclude_categories=("Cc", "Cs"), exclude_characters=TURNS)))
def test_all_other_text_stays(text: str) -> None:
    """Every language, every emoji."""
    assert printable(text) == text


def test_what_turns_text_around_is_made_visible() -> None:
    """What is shown is in the order in which it was written: ``eli.exe`` does not pass for ``exe.ile``."""
    assert printable("a\u202eexe.eli") == "a<U+202E>exe.eli"
    assert not set(printable(TURNS)) & set(TURNS)


def test_controls_are_made_visible() -> None:
    """A person sees that something was there."""
    assert printable("\x1b[31m\x07\x00\x7f\x9b1m\r\n\tok") == "␛[31m␇␀␡�1m\n\tok"
