"""Cutting text: nothing is lost, characters stay whole, sentences end where a reader would end them."""

# ruff: noqa: RUF001 - the punctuation of other scripts is meant as it stands

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import ConfigurationError
from rxstream.segment import By, Splitter, characters, split, windows

TRICKY = [
    "\u200d",
    "\u0301",
    "\u094d",
    "क",
    "\r",
    "\n",
    "\r\n",
    "🇩",
    "🇪",
    "👩",
    "🏽",
    "각",
    "ᄀ",
    "ᅡ",
    "ᆨ",
    "ﾞ",
    "。",
    "今",
    "\u0600",
]
TEXTS = st.text() | st.lists(st.sampled_from([*TRICKY, " ", ". ", "No. ", "1. ", "a", "\n\n", "?!", "…", '"'])).map(
    "".join
)


@given(TEXTS, st.sampled_from(["character", "word", "sentence", "line"]))
def test_nothing_is_lost(text: str, by: By) -> None:
    """Joined pieces are the text, and no piece is empty."""
    pieces = split(text, by)
    assert "".join(pieces) == text
    assert all(pieces)


@given(TEXTS, st.text(min_size=1, max_size=3) | st.sampled_from([" ", "\n", "a"]))
def test_nothing_is_lost_at_delimiters(text: str, delimiter: str) -> None:
    """A delimiter stays, and ends its piece."""
    pieces = split(text, "delimiter", delimiter=delimiter)
    assert "".join(pieces) == text
    assert all(piece.endswith(delimiter) for piece in pieces[:-1])
    assert all(pieces)


@given(TEXTS, st.integers(1, 8), st.data())
def test_nothing_is_lost_by_size(text: str, size: int, data: st.DataObject) -> None:
    """Pieces by size make the text once, with or without overlap."""
    overlap = data.draw(st.integers(0, size - 1))
    pieces = split(text, "size", size=size, overlap=overlap)
    assert "".join(pieces) == text
    assert all(len(characters(piece)) <= size for piece in pieces[:1])
    assert all(pieces)


@given(st.text(alphabet="abcdefg", max_size=40), st.integers(1, 8), st.data())
def test_windows_are_pieces_with_what_was_before(text: str, size: int, data: st.DataObject) -> None:
    """A window is the overlap, out of the text so far, and then the piece of the same number."""
    overlap = data.draw(st.integers(0, size - 1))
    pieces, found = split(text, "size", size=size, overlap=overlap), windows(text, size=size, overlap=overlap)
    assert len(found) == len(pieces)
    assert found[:1] == pieces[:1]
    so_far = "".join(pieces[:1])
    for window, piece in zip(found[1:], pieces[1:], strict=True):
        assert window == so_far[len(so_far) - overlap :] + piece
        so_far += piece


def test_windows_share_their_ends() -> None:
    """The shape, by example; the last one may be short, none is within another."""
    assert windows("abcdefghij", size=4, overlap=1) == ["abcd", "defg", "ghij"]
    assert windows("abcdefgh", size=4, overlap=2) == ["abcd", "cdef", "efgh"]
    assert windows("abcdef", size=4, overlap=1) == ["abcd", "def"]
    assert windows("ab", size=4, overlap=3) == ["ab"]
    assert windows("", size=4, overlap=1) == []


@pytest.mark.parametrize(
    "whole",
    [
        "e\u0301",
        "\r\n",
        "🇩🇪",
        "👩\u200d👩\u200d👧",
        "👍🏽",
        "❤\ufe0f",
        "1\ufe0f\u20e3",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "क\u094dष",
        "क\u094d\u093cष",
        "각",
        "\u1100\u1161\u11a8",
        "가\u11a8",
        "각\u11a8",
        "\u1161\u1161",
        "\u1100가",
        "ｶﾞ",
        "\u0600١",
    ],
)
def test_a_character_stays_whole(whole: str) -> None:
    """What a reader takes for one character is never cut, whatever stands about it."""
    assert characters(whole) == [whole]
    assert characters(f"aé{whole}é") == ["a", "é", whole, "é"] or whole[0] == "\u0600"


@pytest.mark.parametrize(
    "two", ["ab", "\n\r", "\n\u0301", "각가", "ac", "🇩a", "é\n", "\u2028\u0301", "\u200bé", "각\u1161"]
)
def test_two_characters_are_two(two: str) -> None:
    """What is not one character is cut."""
    assert characters(two) == list(two)


def test_flags_go_in_pairs() -> None:
    """Four regional indicators are two flags, a fifth stands alone."""
    assert characters("🇩🇪🇫🇷🇮") == ["🇩🇪", "🇫🇷", "🇮"]


@given(TEXTS)
def test_no_mark_begins_a_character(text: str) -> None:
    """A combining mark never stands first, unless nothing stands before it that it could be on."""
    for before, here in pairwise(characters(text)):
        if unicodedata.category(here[0]) in ("Mn", "Me", "Mc"):
            assert unicodedata.category(before[-1]) in ("Cc", "Cf", "Zl", "Zp")


def test_words() -> None:
    """A word has its white space after it; Chinese and Japanese go by characters, punctuation with them."""
    assert split("  Hello,  big\tworld\n", "word") == ["  Hello,  ", "big\t", "world\n"]
    assert split("今日は、ok 元気？", "word") == ["今", "日", "は、", "ok ", "元", "気？"]
    assert split(" \n ", "word") == [" \n "]


def test_lines() -> None:
    """A line has its end, of whatever kind."""
    assert split("a\r\nb\n\nc\rd", "line") == ["a\r\n", "b\n", "\n", "c\r", "d"]


@pytest.mark.parametrize(
    "sentences",
    [
        ["It works. ", "Does it? ", "Yes!  ", "Good"],
        ['"Really?" he asked. ', "She said “No.” ", "Then (at last.) ", "Silence."],
        ["Dr. Smith met Mr. J. R. Jones, e.g. Tom, cf. Fig. 3 and No. 5. ", "No. ", "It was I. ", "Who?"],
        ["It costs 3.14 dollars... or more. ", "Wait… ", "What?! ", "The U.S. ", "Army came at 5 p.m. to us."],
        ["A heading\n\n", "1. One thing.\n  ", "2. Another.\n", "It was in 1999. ", "The end."],
        ["今日は。", "元気？", "「はい。」", "そう！ ", "ok"],
        ["a line\nand another. ", "Next"],
        ["no end\r\n\r\n", "after"],
    ],
)
def test_sentences(sentences: list[str]) -> None:
    """Not after titles, initials, numbers, list numbers, or before a small letter; the white space goes with them."""
    assert split("".join(sentences), "sentence") == sentences


@given(TEXTS, st.sampled_from(["character", "word"]), st.data())
def test_in_deltas_as_in_one(text: str, by: Any, data: st.DataObject) -> None:
    """However the text arrives, the pieces are the same."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    splitter = Splitter(by)
    pieces = [piece for a, b in pairwise([0, *cuts, len(text)]) for piece in splitter.feed(text[a:b])]
    assert [*pieces, *splitter.close()] == split(text, by)
    assert splitter.close() == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "size"}, "size="),
        ({"by": "word", "size": 3}, "only it takes size="),
        ({"by": "word", "overlap": 1}, "overlap="),
        ({"by": "size", "size": 0}, "size=0"),
        ({"by": "size", "size": 3, "overlap": 3}, "overlap=3"),
        ({"by": "size", "size": 3, "overlap": -1}, "overlap=-1"),
        ({"by": "delimiter"}, "delimiter="),
        ({"by": "delimiter", "delimiter": ""}, "not empty"),
        ({"by": "line", "delimiter": "\n"}, "only it takes one"),
        ({"by": "letter"}, "must be one of"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    """An option that is missing, or that would be ignored, is refused."""
    with pytest.raises(ConfigurationError, match=words):
        split("text", **options)
