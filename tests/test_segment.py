"""Cutting text: nothing is lost, characters stay whole, sentences end where a reader would end them."""

# ruff: noqa: RUF001 - the punctuation of other scripts is meant as it stands

from __future__ import annotations

import time
import unicodedata
from itertools import accumulate, pairwise
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import ConfigurationError
from rxstream.segment import Splitter, TextUnit, characters, split, windows

UNITS: tuple[TextUnit, ...] = get_args(TextUnit)

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
SIGNS = [
    *(" ", "\t", "\n\n", "a", "Z", ". ", "?!", "…", '"', "」", "と", "»", "«", "[1]", "|", "é"),
    *("No. ", "U.S. ", "The ", "etc. ", "1. ", "- ", "# ", "`", "```", "```py\n", "~~~", "    "),
    *("**", "“", "α; ", "– ", "! - ", "5. ", "May ", "Mai ", "(a) ", "1\ufe0f\u20e3", "✅", "!今"),
]
TEXTS = st.text() | st.lists(st.sampled_from([*TRICKY, *SIGNS])).map("".join)
UNIT = st.sampled_from(UNITS)


def pieces_of(by: TextUnit, deltas: list[str]) -> list[str]:
    """What a splitter makes of the deltas."""
    splitter = Splitter(by)
    return [*(piece for delta in deltas for piece in splitter.feed(delta)), *splitter.close()]


@given(TEXTS, UNIT)
def test_nothing_is_lost(text: str, by: TextUnit) -> None:
    """Joined pieces are the text, and no piece is empty."""
    pieces = split(text, by)
    assert "".join(pieces) == text
    assert all(pieces)


@given(TEXTS, UNIT)
def test_no_character_is_cut_in_two(text: str, by: TextUnit) -> None:
    """Pieces of every kind end where a character ends."""
    ends = set(accumulate(map(len, characters(text))))
    assert set(accumulate(map(len, split(text, by)))) <= ends


@given(TEXTS, UNIT, st.data())
def test_in_deltas_as_in_one(text: str, by: TextUnit, data: st.DataObject) -> None:
    """However the text arrives, the pieces are the same."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    assert pieces_of(by, [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]) == split(text, by)
    assert pieces_of(by, list(text)) == split(text, by)


@given(TEXTS, TEXTS, UNIT)
def test_a_splitter_begins_anew_when_it_was_closed(one: str, two: str, by: TextUnit) -> None:
    """What one text left behind does not show in the next."""
    splitter = Splitter(by)
    for text in (one, two):
        assert [*splitter.feed(text), *splitter.close()] == split(text, by)
    assert (splitter.held, splitter.close()) == (0, [])


@given(st.lists(TEXTS, max_size=8), UNIT, st.integers(1, 20))
def test_no_more_is_held_than_the_limit(deltas: list[str], by: TextUnit, limit: int) -> None:
    """A piece that grows beyond it comes in parts; nothing is lost, and what is held is short."""
    splitter = Splitter(by, limit=limit)
    pieces: list[str] = []
    for delta in deltas:
        pieces += splitter.feed(delta)
        assert splitter.held <= max(limit, 64)
    assert "".join([*pieces, *splitter.close()]) == "".join(deltas)
    assert all(pieces)


def test_a_piece_beyond_the_limit_is_cut_between_characters() -> None:
    splitter = Splitter("line", limit=3)
    assert splitter.feed("abc") == []
    assert splitter.feed("de") == ["abcd"]
    assert splitter.feed("\u0301") == []
    assert splitter.feed("xyz\nend") == ["e\u0301xyz\n"]


def test_a_place_that_was_spilt_is_no_end() -> None:
    """The fence begins in what has been given already."""
    splitter = Splitter("code_fence", limit=4)
    assert [splitter.feed(delta) for delta in ("x\n", "```", "pyt", "\n")] == [[], ["x\n``"], [], ["`pyt"]]


@pytest.mark.parametrize("by", UNITS)
@pytest.mark.parametrize(
    "unit",
    ["a", " ", "\n", ".", "`", '"', "Mr. ", "U.S. A", "\u0301", " \u0301", "1.", ".[1", ". »", "。*", "! -", "α;"],
)
def test_time_is_linear(by: TextUnit, unit: str) -> None:
    """Four times as much of what is never complete takes some four times as long, not sixteen."""

    def seconds(length: int) -> float:
        deltas = [(unit * 3)[:3]] * length
        began = time.thread_time()
        pieces_of(by, deltas)
        return time.thread_time() - began

    assert any(seconds(8_000) < 9 * seconds(2_000) for _ in range(5))


@pytest.mark.parametrize(
    ("by", "deltas", "given_"),
    [
        ("character", ["a", "b", "\n", "\r", "\n"], [[], ["a"], ["b", "\n"], [], ["\r\n"]]),
        ("word", ["one", " ", "two", "今", "日"], [[], [], ["one "], ["two"], ["今"]]),
        ("line", ["a", "\n", "b\r", "c"], [[], ["a\n"], [], ["b\r"]]),
        ("sentence", ["It is.", " ", "So", "。", "次"], [[], [], ["It is. "], [], ["So。"]]),
        ("sentence", ["the U.S.", " The", "m", "e ", "End. X"], [[], [], [], [], ["the U.S. Theme End. "]]),
        ("sentence", ["the U.S.", " The", "n", " it"], [[], [], [], ["the U.S. "]]),
        ("sentence", ["see 3", ".", "1", "4", ". ", "A"], [[], [], [], [], [], ["see 3.14. "]]),
        ("sentence", ["So:", "\n", "-", " "], [[], [], [], ["So:\n"]]),
        ("sentence", ["So.", "\n", "-"], [[], [], ["So.\n"]]),
        ("paragraph", ["a\n", "\n ", " b"], [[], [], ["a\n\n"]]),
        ("code_fence", ["a\n```", "py", "\n", "```\n", "b"], [[], [], ["a\n"], [], ["```py\n```\n"]]),
        ("code_fence", ["a\n~~", "~"], [[], ["a\n"]]),
    ],
)
def test_a_piece_comes_as_soon_as_it_is_certain(by: TextUnit, deltas: list[str], given_: list[list[str]]) -> None:
    """With the delta that shows where it ends."""
    splitter = Splitter(by)
    assert [splitter.feed(delta) for delta in deltas] == given_


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
        "น\u0e49\u0e33",
        "ก\u0e33",
        "ກ\u0eb3",
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


@given(st.text("aé 今か가Ａ。–€\x7f\xad\r\n"))
def test_letters_that_join_nothing_are_found_the_same_beside_one_that_may(text: str) -> None:
    """The short way through plain text and the long one agree."""
    assert characters("\U0001f469" + text) == ["\U0001f469", *characters(text)]


def test_words() -> None:
    """A word has its white space after it; Chinese and Japanese go by characters, punctuation with them."""
    assert split("  Hello,  big\tworld\n", "word") == ["  Hello,  ", "big\t", "world\n"]
    assert split("今日は、ok 元気？", "word") == ["今", "日", "は、", "ok ", "元", "気？"]
    assert split(" \n ", "word") == [" \n "]


def test_lines() -> None:
    """A line has its end, of whatever kind."""
    assert split("a\r\nb\n\nc\rd", "line") == ["a\r\n", "b\n", "\n", "c\r", "d"]


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


def test_a_splitter_of_no_unit() -> None:
    """Pieces of a size, or between delimiters, are cut of a whole text."""
    with pytest.raises(ConfigurationError, match="by='size': must be one of character, word"):
        Splitter("size")  # type: ignore[arg-type]  # that is the test
