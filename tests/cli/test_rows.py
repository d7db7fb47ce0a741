"""Rows of a terminal, wrapped as the text comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from rxstream.cli._rows import Rows, wrapped
from rxstream.segment import characters

TEXT = st.text(alphabet=st.sampled_from("ab  \t\né日本。👍\u200d👩🇩🇪\u0301"), max_size=80)
WIDTH = st.integers(1, 20)


@given(TEXT, WIDTH)
def test_rows_are_the_line_and_fit(text: str, width: int) -> None:
    """Joined they are the line; none is wider than it may be, but for one character that is itself."""
    line = text.replace("\n", "")
    rows = wrapped(line, width)
    assert "".join(rows) == line.replace("\t", "    ")
    assert all(cell_len(row.rstrip()) <= width or len(characters(row.strip())) == 1 for row in rows)


@given(st.lists(TEXT), WIDTH)
def test_a_text_that_grows_loses_nothing(pieces: list[str], width: int) -> None:
    """Rows that are complete, and the one being written, are the text whatever its pieces."""
    rows = Rows(width)
    done = [row for piece in pieces for row in rows.feed(piece)]
    text = "".join(pieces).replace("\t", "    ")
    assert "".join([*done, rows.last]) == text.replace("\n", "")


def test_words_stay_whole_where_they_fit() -> None:
    """Broken at white space; a word that is too long is cut; Chinese breaks anywhere but before its punctuation."""
    assert wrapped("the quick brown", 9) == ["the quick ", "brown"]
    assert wrapped("abcdefgh i", 5) == ["abcde", "fgh i"]
    assert wrapped("日本語。好", 6) == ["日本", "語。好"]
    assert wrapped("", 5) == [""]


def test_a_word_that_grows_moves_to_the_next_row() -> None:
    """What was complete stays as it was."""
    rows = Rows(8)
    assert rows.feed("one two") == []
    assert rows.last == "one two"
    assert rows.feed("fold") == ["one "]
    assert rows.last == "twofold"
    assert rows.feed("\n\n") == ["twofold", ""]
    assert rows.last == ""
