"""Cutting a text that arrives in deltas: characters, words, lines, and what all cutters share.

Rules of this module:

* However the text arrives, the pieces are the same; joined they are the text.
* A piece is given as soon as what has come says for certain where it ends.
* Time is linear: what is held is never looked at again but for its last few characters.
* No character is cut in two.

A cutter is a machine: its state is the method that reads on. A state reads a run of characters, or leaves them to the next
state; it may look back (`Cutter.behind`), never ahead. So a delta's end can change nothing.
"""

# ruff: noqa: RUF001 - the punctuation of other scripts is meant as it stands

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final, TypeAlias

__all__ = ["CharacterCutter", "Cutter", "LineCutter", "State", "WordCutter", "after", "characters"]

State: TypeAlias = Callable[[str, int], int]
"""Reads the delta on from a position; gives the position after what it has read."""
_NEAR = 64
"""How far to look back for the beginning of a character."""


class Cutter:
    """The pieces of a text that arrives in deltas.

    Args:
        state: Of a subclass: what reads the beginning.
    """

    def __init__(self, state: State) -> None:
        self.held = 0
        """Characters of the piece that has begun, before this delta."""
        self.state = state
        self.mark = 0
        """A position that is remembered, in this delta, or before it, where it is negative."""
        self._begin = state
        self._parts: list[str] = []
        self._text = ""
        self._start = 0
        self._pieces: list[str] = []

    def feed(self, text: str) -> list[str]:
        """The pieces that `text` completes."""
        self._text, self._start, self._pieces = text, 0, []
        at, end = 0, len(text)
        while at < end:
            at = self.state(text, at)
        self.hold(text[self._start :])
        self.mark -= end
        return self._pieces

    def close(self) -> list[str]:
        """The piece that was held; then a new text may come."""
        rest = self.spill(0)
        self.state = self._begin
        return rest

    def spill(self, keep: int = 1) -> list[str]:
        """What is held, as a piece although it is not whole, but for its last `keep` characters (0 or 1)."""
        whole = "".join(self._parts)
        last = characters(whole[-_NEAR:])[-1] if keep and whole else ""
        piece = whole[: len(whole) - len(last)]
        self._parts, self.held = [last], len(last)
        self.mark = max(self.mark, -len(last))
        return [piece] if piece else []

    def hold(self, text: str) -> None:
        """`text` begins a piece, or goes on with it."""
        if text:
            self._parts.append(text)
            self.held += len(text)

    def take(self, begin: str = "") -> str:
        """What was held; now `begin` is."""
        whole = "".join(self._parts)
        self._parts, self.held = [begin], len(begin)
        return whole

    def cut(self, at: int) -> None:
        """A piece ends before `at`."""
        whole = "".join(self._parts)
        if at < 0:
            at += len(whole)
            piece, self._parts = whole[:at], [whole[at:]]
            self.held = len(whole) - at
        else:
            piece, self._parts = whole + self._text[self._start : at], []
            self.held, self._start = 0, at
        if piece:
            self._pieces.append(piece)

    def behind(self, at: int, most: int) -> str:
        """The last characters of this piece before `at`, at most so many."""
        near = self._text[max(self._start, at - most) : at]
        for part in reversed(self._parts):
            if len(near) >= most:
                break
            near = part[-(most - len(near)) :] + near
        return near

    def is_between(self, at: int) -> bool:
        """Whether a character ends before `at`."""
        here = self._text[at]
        before = self._text[at - 1] if at > self._start else self.behind(at, 1)
        if here < "\u0300" and before < "\u0300":
            return True  # a line end of CR and LF is all white space, and nothing cuts that
        if _is_mark(here):
            return _is_control(before)
        if not (_is_mark(before) or before in _PREPENDED):
            return True
        return characters(self.behind(at, _NEAR) + here)[-1] == here


# --- characters -------------------------------------------------------------------------------------------------------------

_LETTERS: Final = "\0-\u02ff\u0370-\u0482\u048a-\u0590\u1e00-\u1fff\u2010-\u2027\u2030-\u205e\u20a0-\u20bf\u2100-\u218b"
"""Letters and signs of which none joins another, but for CR and LF; no Chinese or Japanese."""
_ALONE: Final = re.compile(
    f"[{_LETTERS}\u3000-\u3029\u3041-\u3096\u309b-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uff01-\uff9d]*"
)
_EACH: Final = re.compile(r"\r\n|.", re.DOTALL)


def characters(text: str) -> list[str]:
    """The characters of `text`, as a reader counts them."""
    if _ALONE.fullmatch(text):
        return _EACH.findall(text)
    cutter = CharacterCutter()
    return [*cutter.feed(text), *cutter.close()]


class CharacterCutter(Cutter):
    """One character a piece."""

    def __init__(self) -> None:
        super().__init__(self._read)
        self._before = ""
        self._flags = 0  # regional indicators in a row: two make a flag
        self._linked = False  # a virama joins the consonants about it, whatever marks stand between

    def feed(self, text: str) -> list[str]:
        """The pieces that `text` completes."""
        if not (text and _ALONE.fullmatch(text) and _ALONE.fullmatch(self._before)):
            return super().feed(text)
        found: list[str] = _EACH.findall(text)
        if self._before == "\r" and text[0] == "\n":
            found[0] = self.take() + "\n"
        elif self._before:
            found.insert(0, self.take())
        self._before = "" if _ends(found[-1][-1]) else found[-1]
        if self._before:
            self.hold(found.pop())
        return found

    def close(self) -> list[str]:
        """The last character; then a new text may come."""
        self._before, self._flags, self._linked = "", 0, False
        return super().close()

    def _read(self, text: str, at: int) -> int:
        before, flags, linked = self._before, self._flags, self._linked
        for index in range(at, len(text)):
            here = text[index]
            flags = flags + 1 if "\U0001f1e6" <= before <= "\U0001f1ff" else 0
            linked = before >= "\u0300" and (unicodedata.combining(before) == 9 or (linked and _is_mark(before)))
            if before and not (
                _belongs(before, here)
                or (linked and here.isalpha())
                or (flags % 2 and "\U0001f1e6" <= here <= "\U0001f1ff")
            ):
                self.cut(index)
            before = here
        if _ends(before):
            self.cut(len(text))
            before = ""
        self._before, self._flags, self._linked = before, flags, linked
        return len(text)


def _ends(char: str) -> bool:
    """Whether nothing can belong to a character that ends with `char`."""
    return char != "\r" and _is_control(char)


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
    return char >= "\u0300" and (char in _EXTENDING or unicodedata.category(char) in ("Mn", "Mc", "Me"))


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") and char not in _EXTENDING and char not in _PREPENDED


_EXTENDING: Final = frozenset(
    ["\u200c", "\u200d", "\uff9e", "\uff9f", "\u0e33", "\u0eb3"]  # the last two: the vowel am of Thai and Lao
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


# --- words and lines ----------------------------------------------------------------------------------------------------------

_CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_PLAIN: Final = re.compile(f"[{_LETTERS}]*")
_IDEOGRAPH: Final = re.compile(f"[{_CJK}]")
_SHUTTING: Final = frozenset("。、，！？：；）」』】")
_WORD: Final = re.compile(r"\S+\s*")
_REST: Final = re.compile(r"\S*\s*")
_RUN: Final = re.compile(rf"[^\s{_CJK}]*")
_SPACES: Final = re.compile(r"\s*")
_BREAK: Final = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


class WordCutter(Cutter):
    """A word, or one character of Chinese or Japanese with the punctuation after it, and the white space that follows."""

    def __init__(self) -> None:
        super().__init__(self._lead)

    def feed(self, text: str) -> list[str]:
        """The pieces that `text` completes."""
        if self.state == self._lead:
            begin = after(_SPACES, text, 0) + 1
            super().feed(text[:begin])
            text = text[begin:]
        if self.state == self._run:
            goes_on = _REST
        elif self.state == self._space:
            goes_on = _SPACES
        else:
            goes_on = None
        if goes_on is None or not (text and _PLAIN.fullmatch(text)):
            return super().feed(text)
        end = after(goes_on, text, 0)
        found: list[str] = _WORD.findall(text, end)
        if found:
            found.insert(0, self.take(found.pop()) + text[:end])
        else:
            self.hold(text)
        self.state = self._space if text[-1].isspace() else self._run
        return found

    def _lead(self, text: str, at: int) -> int:
        """White space before the first word."""
        at = after(_SPACES, text, at)
        return at if at == len(text) else self._word(text, at)

    def _word(self, text: str, at: int) -> int:
        self.state = self._ideograph if _IDEOGRAPH.match(text, at) else self._run
        return at + 1

    def _run(self, text: str, at: int) -> int:
        at = after(_RUN, text, at)
        if at == len(text):
            return at
        if text[at].isspace():
            self.state = self._space
            return at + 1
        return self._next(text, at)

    def _ideograph(self, text: str, at: int) -> int:
        char = text[at]
        if char.isspace():
            self.state = self._space
        elif char not in _SHUTTING and not _is_mark(char):
            return self._next(text, at)
        return at + 1

    def _space(self, text: str, at: int) -> int:
        at = after(_SPACES, text, at)
        return at if at == len(text) else self._next(text, at)

    def _next(self, text: str, at: int) -> int:
        if self.is_between(at):
            self.cut(at)
        return self._word(text, at)


class LineCutter(Cutter):
    """A line and its end, of whatever kind."""

    def __init__(self) -> None:
        super().__init__(self._line)

    def _line(self, text: str, at: int) -> int:
        found = _BREAK.search(text, at)
        if found is None:
            return len(text)
        if found[0] == "\r":
            self.state = self._return
        else:
            self.cut(found.end())
        return found.end()

    def _return(self, text: str, at: int) -> int:
        at += text[at] == "\n"
        self.cut(at)
        self.state = self._line
        return at


def after(pattern: re.Pattern[str], text: str, at: int) -> int:
    """The position after what `pattern`, which matches the empty text, too, matches at `at`."""
    found = pattern.match(text, at)
    return at if found is None else found.end()
