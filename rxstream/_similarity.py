"""How alike two texts are, while both are still being written.

Rules of this module:

* A text that grows is not compared again: what is known of two beginnings is carried on. So the work on two whole texts is
  the same whether they come at once or word by word, and however often one asks in between.
* Every figure is symmetric, depends on the texts alone and not on the order in which they grew, and lies in 0 to 1.
* Of a text `MOST_WORDS` words and `MOST_SENTENCES` sentences are compared; all are counted, and a common beginning has no
  limit.

With n and m words the longest common subsequence costs n·m/64 machine steps in all (Hyyrö's bit-vectors, as Python's
integers, carried on in both directions); sentences are each compared with each.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

from rxstream.segment import Splitter
from rxstream.snapshot import Said

__all__ = ["MOST_SENTENCES", "MOST_WORDS", "CommonWords", "Growing", "Matches", "Sentence", "around", "common_prefix"]

MOST_WORDS: Final = 16_384
MOST_SENTENCES: Final = 512

_ALONE: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARKS: Final = "\u0300-\u036f\u0591-\u05bd\u05c1\u05c2\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u109f"
"""Accents and vowels that are characters of their own, and do not end a word."""
_LETTER: Final = rf"(?:(?![{_ALONE}])[\w{_MARKS}])"
_WORD: Final = re.compile(rf"{_LETTER}+(?:['’]{_LETTER}+)*|[{_ALONE}]|[^\w\s]")  # noqa: RUF001 - an apostrophe, too
_APOSTROPHES: Final = ("'", "’")  # noqa: RUF001 - they may go on a word

_AROUND: Final = 50
"""Characters shown before and after the place where two texts part."""
_BEGUN: Final = re.compile(r"(?:\A|(?<=\s))\S{1,24}\Z")
"""What there is of the last word, if that is not long."""


class Sentence(NamedTuple):
    """A sentence, and the words that it has."""

    text: str
    words: frozenset[str]


class Growing:
    """The words and sentences of one text as it grows. A mark is a word; so is a character of Chinese or Japanese."""

    def __init__(self) -> None:
        self.generation = 0
        """How often the text was changed, not only continued: what was known of it then is void."""
        self._begin(Said.of(""))

    def _begin(self, said: Said) -> None:
        self.words: list[str] = []
        self.word_count = 0
        """All words, the marks not counted."""
        self.sentences: list[Sentence] = []
        """Those that have words."""
        self.sentence_count = 0
        self.closed = False
        self._said = said
        self._seen = 0
        self._rest = ""
        self._splitter = Splitter("sentence")

    def update(self, said: Said, *, closed: bool) -> None:
        """The text is now `said`. Unless it is `closed`, its last word and sentence may go on and are waited for."""
        if not said.grown_from(self._said):
            self.generation += 1
            self._begin(said)
        self._said = said
        if self.closed or (len(said) == self._seen and not closed):
            return
        new = str(said)[self._seen :]
        self._seen = len(said)
        self.closed = closed
        self._take_words(new)
        pieces = self._splitter.feed(new)
        for piece in [*pieces, *self._splitter.close()] if closed else pieces:
            self._take_sentence(piece)

    def _take_words(self, new: str) -> None:
        text = self._rest + new
        found = list(_WORD.finditer(text))
        self._rest = ""
        if found and found[-1].end() == len(text) and not self.closed:
            last = found.pop()
            if last[0] in _APOSTROPHES and found and found[-1].end() == last.start():
                last = found.pop()
            self._rest = text[last.start() :]
        words = [_same(match[0]) for match in found]
        self.words += words[: MOST_WORDS - len(self.words)]
        self.word_count += sum(map(_is_word, words))

    def _take_sentence(self, piece: str) -> None:
        words = frozenset(_same(word).casefold() for word in _WORD.findall(piece) if _is_word(word))
        self.sentence_count += bool(words)
        if words and len(self.sentences) < MOST_SENTENCES:
            self.sentences.append(Sentence(piece.strip(), words))


def _same(word: str) -> str:
    """One spelling of `word`: an accent may be a character of its own, or not."""
    return word if word.isascii() else unicodedata.normalize("NFC", word)


def _is_word(word: str) -> bool:
    return word[0].isalnum() or word[0] == "_" or len(word) > 1


class CommonWords:
    """The length of the longest common subsequence of two lists of words that grow.

    Of the table of lengths only the last row and the last column are kept, as bits that say where the length goes up by
    one. A new word on one side is one step over the whole of the other side's bits; what is carried out of it is a new
    bit on its own side.
    """

    def __init__(self) -> None:
        self.length = 0
        self._counts = [0, 0]
        self._rises = [0, 0]
        """For each side, where the length goes up along it, at the end of the other side."""
        self._places: tuple[dict[str, int], dict[str, int]] = ({}, {})
        """For each side, where each word stands, as bits."""

    def update(self, first: Sequence[str], second: Sequence[str]) -> None:
        """The lists are now these: what they were, and more."""
        self._add(0, first[self._counts[0] :])
        self._add(1, second[self._counts[1] :])

    def _add(self, side: int, words: Sequence[str]) -> None:
        other = 1 - side
        mine, theirs = self._places[side], self._places[other]
        rises, across = self._rises[side], self._rises[other]
        end = 1 << self._counts[other]
        here = 1 << self._counts[side]
        flat = across ^ (end - 1)  # where the length does not go up: Hyyrö's vector
        for word in words:
            mine[word] = mine.get(word, 0) | here
            matches = flat & theirs.get(word, 0)
            total = flat + matches
            if total & end:
                rises |= here
                self.length += 1
            flat = (total | (flat - matches)) & (end - 1)
            here <<= 1
        self._counts[side] += len(words)
        self._rises[side], self._rises[other] = rises, flat ^ (end - 1)

    @property
    def similarity(self) -> float | None:
        """Of all words of both, the share in the common subsequence; None for two empty lists."""
        return 2 * self.length / sum(self._counts) if any(self._counts) else None

    @property
    def overlap(self) -> float | None:
        """… of the words of the shorter one; None where it has none."""
        shorter = min(self._counts)
        return self.length / shorter if shorter else None


class Matches:
    """For each sentence of two texts that grow, the one of the other text that is most like it."""

    def __init__(self) -> None:
        self.best: tuple[list[tuple[float, int]], list[tuple[float, int]]] = ([], [])
        """For each side, of each sentence the likeness of its best match and the number of that; the first of equals."""

    def update(self, first: Sequence[Sentence], second: Sequence[Sentence]) -> None:
        """The sentences are now these: what they were, and more."""
        self._add(0, first, second[: len(self.best[1])])
        self._add(1, second, first)

    def _add(self, side: int, all_mine: Sequence[Sentence], theirs: Sequence[Sentence]) -> None:
        mine, others = self.best[side], self.best[1 - side]
        for number in range(len(mine), len(all_mine)):
            words = all_mine[number].words
            size = len(words)
            best = (0.0, -1)
            for other, sentence in enumerate(theirs):
                alike = 2 * len(words & sentence.words) / (size + len(sentence.words))
                if alike > best[0]:
                    best = (alike, other)
                if alike > others[other][0]:
                    others[other] = (alike, number)
            mine.append(best)

    def agreement(self, threshold: float) -> float | None:
        """Of all sentences of both, the share that has a match of at least `threshold`; None if one text has none."""
        if not all(self.best):
            return None
        found = sum(alike >= threshold for side in self.best for alike, _ in side)
        return found / sum(map(len, self.best))


def common_prefix(first: str, second: str, known: int = 0) -> int:
    """How many characters the texts have in common at their beginning; `known` are known to be."""
    low, high = known, min(len(first), len(second))
    if first[low:high] == second[low:high]:
        return high
    while low + 1 < high:  # equal up to low, different before high
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low


def around(first: str, second: str, offset: int) -> tuple[str, str, str]:
    """Where two texts part: what stands before the word in which they do, and how each goes on from there."""
    begin = max(0, offset - _AROUND)
    before = first[begin:offset]
    word = _BEGUN.search(before)
    start = offset - len(word[0]) if word is not None else offset
    return first[begin:start], first[start : offset + _AROUND], second[start : offset + _AROUND]
