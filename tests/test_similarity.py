"""How alike two growing texts are: the figures of whole texts, however they grow."""

# ruff: noqa: RUF001 - the punctuation of other scripts is meant as it stands

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream import _similarity
from rxstream._similarity import CommonWords, Growing, Matches, common_prefix
from rxstream.segment import split
from rxstream.snapshot import Said

few = st.lists(st.sampled_from("abcd"), max_size=30)
prose = st.lists(
    st.sampled_from(["The ", "sky", " is", " blue", ". ", "!", " don't", "'", "’s", " 日本", "語。", "\n\n", "é", "_", " 3.14", "नमस्ते "]),
    max_size=30,
)  # fmt: skip


def grown(pieces: Sequence[str]) -> Growing:
    """The text in these pieces, looked at after each, then closed."""
    buffer, growing, length = StringIO(), Growing(), 0
    for piece in pieces:
        length += buffer.write(piece)
        growing.update(Said(buffer, length), closed=False)
    growing.update(Said(buffer, length), closed=True)
    return growing


def of(text: str) -> Growing:
    return grown([text])


# --- words and sentences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The sky's blue, isn’t it?", ["The", "sky's", "blue", ",", "isn’t", "it", "?"]),
        ("don' 'x'", ["don", "'", "'", "x", "'"]),
        ("日本語abc", ["日", "本", "語", "abc"]),
        ("f(a_b) = 3.14", ["f", "(", "a_b", ")", "=", "3", ".", "14"]),
        ("नमस्ते e\u0301", ["नमस्ते", "é"]),
        ("यह ठीक है।", ["यह", "ठीक", "है", "।"]),
        ("مَرحَباً שָׁלוֹם", ["مَرحَباً", "שָׁלוֹם"]),
        (" \n", []),
    ],
)
def test_words_and_marks(text: str, words: list[str]) -> None:
    assert of(text).words == words


def test_what_may_go_on_is_waited_for() -> None:
    buffer, growing = StringIO(), Growing()
    seen: list[tuple[list[str], int]] = []
    for piece in ("The sk", "y", " don", "'", "t. It", ""):
        length = buffer.tell() + len(piece)
        buffer.write(piece)
        growing.update(Said(buffer, length), closed=False)
        seen.append((list(growing.words), len(growing.sentences)))
    assert seen == [
        (["The"], 0),
        (["The"], 0),
        (["The", "sky"], 0),
        (["The", "sky"], 0),
        (["The", "sky", "don't", "."], 1),
        (["The", "sky", "don't", "."], 1),
    ]
    growing.update(Said(buffer, length), closed=True)
    assert (growing.words[-1], growing.word_count, growing.sentence_count) == ("It", 4, 2)
    growing.update(Said(buffer, length), closed=True)
    assert growing.word_count == 4


def test_a_text_that_was_changed_is_read_anew() -> None:
    growing = of("One two. Three.")
    assert growing.generation == 1
    growing.update(Said.of("Four."), closed=False)
    assert (growing.words, growing.generation, growing.closed) == (["Four"], 2, False)
    growing.update(Said.of("Four."), closed=True)
    assert [sentence.text for sentence in growing.sentences] == ["Four."]


@given(prose)
def test_however_a_text_grows_its_words_are_the_same(pieces: list[str]) -> None:
    text = "".join(pieces)
    growing, whole = grown(pieces), of(text)
    assert (growing.words, growing.word_count) == (whole.words, whole.word_count)
    assert growing.sentences == whole.sentences
    assert [sentence.text for sentence in whole.sentences] == [
        piece.strip() for piece in split(text, "sentence") if any(map(_similarity._is_word, of(piece).words))
    ]


def test_beyond_a_limit_it_is_counted_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_similarity, "MOST_WORDS", 5)
    monkeypatch.setattr(_similarity, "MOST_SENTENCES", 2)
    growing = grown(["One two. ", "Three four. Five. ", "Six."])
    assert (growing.words, growing.word_count) == (["One", "two", ".", "Three", "four"], 6)
    assert ([sentence.text for sentence in growing.sentences], growing.sentence_count) == (
        ["One two.", "Three four."],
        4,
    )


# --- common words -------------------------------------------------------------------------------------------------------------


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """By its definition."""

    @functools.cache
    def length(a: int, b: int) -> int:
        if not a or not b:
            return 0
        if first[a - 1] == second[b - 1]:
            return length(a - 1, b - 1) + 1
        return max(length(a - 1, b), length(a, b - 1))

    return length(len(first), len(second))


@given(few, few, st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=20))
def test_however_two_lists_grow_the_common_subsequence_is_the_longest(
    first: list[str], second: list[str], growth: list[tuple[int, int]]
) -> None:
    common = CommonWords()
    a = b = 0
    for more_a, more_b in [*growth, (99, 99)]:
        a, b = min(a + more_a, len(first)), min(b + more_b, len(second))
        common.update(first[:a], second[:b])
        assert common.length == longest_common_subsequence(first[:a], second[:b])


@given(few, few)
def test_similarity_is_symmetric_between_0_and_1_and_1_for_equals(first: list[str], second: list[str]) -> None:
    common, reverse, same = CommonWords(), CommonWords(), CommonWords()
    common.update(first, second)
    reverse.update(second, first)
    same.update(first, first)
    assert common.similarity == reverse.similarity
    assert common.overlap == reverse.overlap
    assert (same.similarity, same.overlap) == ((1, 1) if first else (None, None))
    if common.similarity is not None:
        assert 0 <= common.similarity <= 1
        assert (common.similarity == 1) == (first == second)
        assert common.overlap is None or common.similarity <= common.overlap <= 1


def test_two_answers_of_20_kb_cost_little_however_often_one_looks() -> None:
    """A comparison from the beginning at each of 4000 words would take minutes."""
    words = [f"word{number % 700}" for number in range(4000)]
    others = [f"word{number * 7 % 900}" for number in range(4000)]
    common = CommonWords()
    before = time.process_time()
    for number in range(1, 4001):
        common.update(words[:number], others[:number])
    assert time.process_time() - before < 1
    assert 0 < common.length < 4000


# --- sentences ----------------------------------------------------------------------------------------------------------------


def matched(first: str, second: str) -> Matches:
    matches = Matches()
    matches.update(of(first).sentences, of(second).sentences)
    return matches


def test_the_best_match_of_each_sentence() -> None:
    matches = matched("The sky is blue. I am here. Nothing of it.", "I was here. THE SKY, is blue!")
    assert matches.best == ([(1, 1), (2 / 3, 0), (0, -1)], [(2 / 3, 1), (1, 0)])
    assert matches.agreement(0.6) == 4 / 5
    assert matches.agreement(0.7) == 2 / 5


def test_of_equals_the_first() -> None:
    assert matched("A b.", "A b. A b.").best == ([(1, 0)], [(1, 0), (1, 0)])


def test_without_sentences_nothing_is_known() -> None:
    assert matched("", "A b.").agreement(0.5) is None
    assert matched("A b.", "…").agreement(0.5) is None


sentences = st.lists(st.sampled_from(["A b. ", "A b c. ", "B c d. ", "X. ", "C d e f. ", "!! "]), max_size=8)


@given(sentences, sentences, st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=8))
def test_however_two_texts_grow_the_matches_are_the_same(
    first: list[str], second: list[str], growth: list[tuple[int, int]]
) -> None:
    mine, theirs = of("".join(first)).sentences, of("".join(second)).sentences
    matches, whole, reverse = Matches(), Matches(), Matches()
    a = b = 0
    for more_a, more_b in [*growth, (99, 99)]:
        a, b = a + more_a, b + more_b
        matches.update(mine[:a], theirs[:b])
    whole.update(mine, theirs)
    reverse.update(theirs, mine)
    assert matches.best == whole.best == reverse.best[::-1]


# --- a common beginning -------------------------------------------------------------------------------------------------------


@given(st.text("ab", max_size=40), st.text("ab", max_size=40), st.integers(0, 40))
def test_the_common_beginning(first: str, second: str, look: int) -> None:
    expected = len([*itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))])
    assert common_prefix(first, second) == expected
    assert common_prefix(first, first + second) == len(first)
    known = common_prefix(first[:look], second[:look])
    assert common_prefix(first, second, known) == expected
