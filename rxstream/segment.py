"""Cutting text into pieces: the law is that joined pieces are the text, whatever it holds.

Rules of this module:

* Nothing is lost, changed or doubled: white space stays, at the end of its piece; so do delimiters.
* A character is what a reader takes for one: a letter with its accents, an emoji of several code points, a flag, a line
  end of CR and LF. `characters` may take two for one in rare scripts, and never cuts one in two.
"""

# ruff: noqa: RUF001 - the punctuation of other scripts is meant as it stands

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from itertools import pairwise
from typing import Final, Literal, TypeAlias

from rxstream.errors import ConfigurationError

__all__ = ["By", "Splitter", "characters", "split", "windows"]

By: TypeAlias = Literal["character", "word", "sentence", "line", "size", "delimiter"]
"""How to cut: see `split`."""


def split(
    text: str, by: By = "word", *, size: int | None = None, overlap: int = 0, delimiter: str | None = None
) -> list[str]:
    """`text` in pieces that make `text` when joined. No piece is empty; an empty text has none.

    Args:
        text: Any text.
        by: ``character``; ``word``: a word, or one character of Chinese or Japanese, with the white space after it;
            ``sentence``, with the white space after it; ``line``, with its end; ``size``: `size` characters at a time;
            ``delimiter``: up to each `delimiter`, which ends its piece.
        size: Characters a piece, for ``size``.
        overlap: For ``size``: all pieces but the first have this many characters less, so that each of the `windows` of
            the same size and overlap is a piece, and before it the end of the text so far.
        delimiter: For ``delimiter``.

    Raises:
        ConfigurationError: an option is missing, does not belong to `by`, or is out of its range.
    """
    _check(by, size, overlap, delimiter)
    if by == "size":
        assert size is not None  # noqa: S101 - checked
        return _cut(characters(text), size, overlap)
    if by == "delimiter":
        assert delimiter is not None  # noqa: S101 - checked
        *whole, rest = text.split(delimiter)
        return [*(piece + delimiter for piece in whole), *([rest] if rest else [])]
    return _CUTTERS[by](text)


def windows(text: str, *, size: int, overlap: int) -> list[str]:
    """`text` as windows of `size` characters, each beginning with the last `overlap` characters of the one before.

    The last one may be shorter; none lies wholly within another. For pieces of ``split(text, "size", …)`` of the same
    size and overlap: the first window is the first piece, any other is its overlap and then the piece.

    Raises:
        ConfigurationError: `size` is less than 1, or `overlap` is less than 0 or not less than `size`.
    """
    _check("size", size, overlap, None)
    whole = characters(text)
    step = size - overlap
    starts = range(0, max(len(whole) - overlap, 1), step) if whole else ()
    return ["".join(whole[start : start + size]) for start in starts]


class Splitter:
    """The pieces of a text that arrives in deltas; the last one is held back until it is known to be whole."""

    def __init__(self, by: Literal["character", "word"]) -> None:
        self._cut = characters if by == "character" else _words
        self._plain = re.compile(r"(?!)" if by == "character" else rf"\s*[^\s{_CJK}]+")
        self._held: list[str] = []
        self._in_word = False

    def feed(self, text: str) -> list[str]:
        """The pieces that `text` completes."""
        if self._in_word and not text[:1].isspace() and self._plain.fullmatch(text):
            self._held.append(text)  # a long word grows without being looked at again and again
            return []
        pieces = self._cut("".join(self._held) + text)
        self._held = pieces[-1:]
        self._in_word = bool(pieces) and self._plain.fullmatch(pieces[-1]) is not None
        return pieces[:-1]

    def close(self) -> list[str]:
        """The last piece."""
        held, self._held = "".join(self._held), []
        return [held] if held else []


def _check(by: str, size: int | None, overlap: int, delimiter: str | None) -> None:
    if by not in ("size", "delimiter", *_CUTTERS):
        raise ConfigurationError(f"by={by!r}: must be one of {', '.join(('size', 'delimiter', *_CUTTERS))}")
    if (size is not None) != (by == "size") or (overlap and by != "size"):
        raise ConfigurationError('by="size" needs size=, and only it takes size= and overlap=')
    if bool(delimiter) != (by == "delimiter"):
        raise ConfigurationError('by="delimiter" needs delimiter=, a text that is not empty, and only it takes one')
    if size is not None and not 0 <= overlap < size:
        raise ConfigurationError(f"overlap={overlap} must be at least 0 and less than size={size}")


def _cut(whole: list[str], size: int, overlap: int) -> list[str]:
    bounds = [0, *range(size, len(whole), size - overlap), len(whole)] if whole else []
    return ["".join(whole[start:end]) for start, end in pairwise(bounds)]


# --- characters -------------------------------------------------------------------------------------------------------------


def characters(text: str) -> list[str]:
    """The characters of `text`, as a reader counts them."""
    if text.isascii():
        return re.findall(r"\r\n|.", text, re.DOTALL)
    found: list[str] = []
    start = 0
    flags = 0  # regional indicators in a row: two make a flag
    linked = False  # a virama joins the consonants about it, whatever marks stand between
    for index in range(1, len(text)):
        before, here = text[index - 1], text[index]
        flags = flags + 1 if "\U0001f1e6" <= before <= "\U0001f1ff" else 0
        linked = before >= "\u0300" and (unicodedata.combining(before) == 9 or (linked and _is_mark(before)))
        if not (
            _belongs(before, here)
            or (linked and here.isalpha())
            or (flags % 2 and "\U0001f1e6" <= here <= "\U0001f1ff")
        ):
            found.append(text[start:index])
            start = index
    return [*found, text[start:]]


def _belongs(before: str, here: str) -> bool:
    """Whether `here` goes on the character that `before` is part of: the rules of UAX 29, a little widened."""
    if before == "\r":
        return here == "\n"
    if before == "\u200d" or before in _PREPENDED:  # an emoji that is joined; a sign about the letter after it
        return not _is_control(here)
    if here < "\u0300" or _is_control(before):
        return False
    return _is_mark(here) or _is_hangul(before, here)


def _is_mark(char: str) -> bool:
    return char in _EXTENDING or unicodedata.category(char) in ("Mn", "Mc", "Me")


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") and char not in _EXTENDING and char not in _PREPENDED


_EXTENDING: Final = frozenset(
    ["\u200c", "\u200d", "\uff9e", "\uff9f"]
    + [chr(code) for code in range(0x1F3FB, 0x1F400)]  # skin tones
    + [chr(code) for code in range(0xE0020, 0xE0080)]  # tags of the flags of regions
)
_PREPENDED: Final = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd\U000111c2\U000111c3"
    "\U000113d1\U0001193f\U00011941\U00011a3a\U00011a84\U00011a85\U00011a86\U00011a87\U00011a88\U00011a89\U00011d46\U00011f02"
)


def _is_hangul(before: str, here: str) -> bool:
    """Whether two Korean letters or syllables make one syllable."""
    if "\u1160" <= here <= "\u11a7" or "\ud7b0" <= here <= "\ud7c6":  # a vowel
        return _is_lead(before) or _is_vowel(before) or (_is_syllable(before) and not _has_tail(before))
    if "\u11a8" <= here <= "\u11ff" or "\ud7cb" <= here <= "\ud7fb":  # a tail
        return (
            _is_vowel(before)
            or _is_syllable(before)
            or "\u11a8" <= before <= "\u11ff"
            or "\ud7cb" <= before <= "\ud7fb"
        )
    return (_is_lead(here) or _is_syllable(here)) and _is_lead(before)


def _is_lead(char: str) -> bool:
    return "\u1100" <= char <= "\u115f" or "\ua960" <= char <= "\ua97c"


def _is_vowel(char: str) -> bool:
    return "\u1160" <= char <= "\u11a7" or "\ud7b0" <= char <= "\ud7c6"


def _is_syllable(char: str) -> bool:
    return "\uac00" <= char <= "\ud7a3"


def _has_tail(syllable: str) -> bool:
    return (ord(syllable) - 0xAC00) % 28 != 0


# --- words, sentences, lines ----------------------------------------------------------------------------------------------------

_CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARKS: Final = "\u0300-\u036f\u200d\u3099\u309a\ufe00-\ufe0f\U000e0100-\U000e01ef"
_WORD: Final = re.compile(rf"\s*(?:[{_CJK}][{_MARKS}]*[。、，！？：；）」』】]*|[^\s{_CJK}]+)\s*|\s+")


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


_END: Final = re.compile(
    r"""(?<![.!?…])(?P<mark>[.!?…]++)["'”’»)\]}]*+\s+  # a mark, what closes with it, and white space
      | [。！？｡．]+["'”’」』】）》〉]*\s*                 # marks of scripts without white space
      | \n[ \t\r]*\n\s*                              # an empty line
    """,
    re.VERBOSE,
)
_TITLES: Final = frozenset(
    {
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "st",
        "sr",
        "jr",
        "vs",
        "e.g",
        "i.e",
        "cf",
        "viz",
        "ca",
        "gen",
        "sen",
        "rep",
        "rev",
    }
    | {"hon", "capt", "lt", "col", "sgt", "mt"}
)
_NUMBERED: Final = frozenset(
    {"no", "nos", "fig", "figs", "vol", "pp", "p", "eq", "eqs", "sec", "ch", "chap", "art", "ed"}
)


def _sentences(text: str) -> list[str]:
    pieces: list[str] = []
    start = 0
    for end in _END.finditer(text):
        if end["mark"] is None or _is_end(text, start, end):
            pieces.append(text[start : end.end()])
            start = end.end()
    return [*pieces, text[start:]] if start < len(text) else pieces


def _is_end(text: str, start: int, end: re.Match[str]) -> bool:
    """Whether a full stop and white space end a sentence: not after a title, an initial or a list's number."""
    follows = text[end.end() : end.end() + 1]
    if end["mark"][0] in "!?":
        return not follows.islower() or "\n" in end[0]
    if follows.islower():
        return False
    if end["mark"] != ".":
        return True
    word = re.search(r"[\w.]*$", text[max(start, end.start() - 12) : end.start()])
    assert word is not None  # noqa: S101 - it matches the empty word, too
    before = word[0].lower()
    if before in _TITLES or (before in _NUMBERED and follows.isdigit()):
        return False
    is_initial = len(before) == 1 and word[0].isupper() and before != "i"
    return not (is_initial or (before.isdigit() and _is_first_in_line(text, end.start() - len(before))))


def _is_first_in_line(text: str, at: int) -> bool:
    line = text[max(0, at - 20) : at].rpartition("\n")[2]
    return not line.strip() and len(line) < 20


_CUTTERS: Final[dict[str, Callable[[str], list[str]]]] = {
    "character": characters,
    "word": _words,
    "sentence": _sentences,
    "line": _lines,
}
