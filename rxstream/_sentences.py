"""Cutting a text that arrives in deltas: sentences. The rules are those of `rxstream._cutter`.

A mark ends a sentence when white space follows and then not a small letter. Where the mark is the full stop of an
abbreviation that may stand at an end, too, the next word tells: one of those that often begin a sentence, or not.
"""

# ruff: noqa: RUF001 - the punctuation of other scripts is meant as it stands

from __future__ import annotations

import re
from typing import Final, Literal

from rxstream._blocks import FenceCutter
from rxstream._cutter import after

__all__ = ["SentenceCutter"]


_Rule = Literal["never", "always", "capital", "unless_small", "number", "starter"]
"""When the white space that was read ends a sentence: ``capital`` before anything but a small letter, unless a new line begins;
``unless_small`` before anything but a small letter; ``number`` nor before a digit; ``starter`` only before a word that often begins one."""

_STRONG: Final = "。！？｡．‼⁇⁈⁉।॥؟۔։።፧፨။។៕᠃᠉"
"""Marks that need no white space after them."""
_MARKS: Final = frozenset(".!?…" + _STRONG)
_STOP: Final = re.compile(rf"[.!?…\n{_STRONG}]")
_CLOSERS: Final = frozenset("\"'”’“‘»«)]}*_`~」』】）》〉")
_QUOTED: Final = frozenset("」』")
"""After them と goes on with the sentence: “…”, he said."""
_CITED: Final = re.compile(r"[\d,^–-]*")
_SPACES: Final = re.compile(r"\s*")
_WORD: Final = re.compile(r"\w[\w.'’]*\Z")
_ACRONYM: Final = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")

_MARKER: Final = re.compile(r"(?:[-*+•‣–]|\#{1,6}|(?:\d{1,3}|[a-h])(?:\.?\)|\.))\s|```|~~~|\|")
"""What begins an item of a list, a heading, a fence, a row of a table."""
_MARKER_SO_FAR: Final = re.compile(r"[-*+•‣–]|\#{1,6}|(?:\d{1,3}|[a-h])(?:\.?\)?)|`{1,2}|~{1,2}")
_MARKER_FIRST: Final = frozenset("-*+•‣–#`~|0123456789abcdefgh")


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEVER: Final = _listed(
    "Mr Mrs Ms Mx Dr Prof Gen Sen Rep Rev Hon Capt Lt Col Sgt Maj Cmdr Gov Pres Mt Messrs Mme Mlle Hr Fr Sra Srta Nr Ave "
    "vs e.g i.e cf viz ca approx fig figs vols eq eqs pp resp incl bzw evtl ggf inkl vgl z.b d.h u.a"
)
"""Never end a sentence: a name, a number or an example follows."""
_NUMBERED: Final = _listed("no nos p sec sect ch chap art ed par vol")
"""… before a number."""
_SHORTENED: Final = _listed(
    "St Sr Jr Inc Co Corp Ltd Bros Dept Est Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec "
    "Mon Tue Tues Wed Thu Thurs Fri Sat Sun Blvd Rd etc al ph.d usw"
)
"""May stand at a sentence's end and within one: the next word tells."""
_STARTERS: Final = _listed(
    "a after all also although an and another any are as at because before both but by can could did do does each even every "
    "few finally first for from given had has have he hence her here his how however i if in is it its just later let like "
    "many maybe meanwhile more most my neither never next no nobody not note nothing now of on once one only or other our "
    "please perhaps second she should similarly since so some sometimes soon still such that the their then there therefore "
    "these they this those though thus to today two under unless until we well what when where whether which while who whose "
    "why will with without would yes yet you your"
)
_LONGEST: Final = 12
"""Letters of the longest of them, and some."""


class SentenceCutter(FenceCutter):
    """Sentences with the white space after them. A heading, an item of a list, a row of a table and a fence begin anew."""

    def __init__(self) -> None:
        super().__init__(self._space)
        self._full = False
        self._rule: _Rule = "never"
        self._first = ""  # of the marks
        self._closer = ""  # the last one
        self._lines = 1  # new lines in the white space
        self._heading = False
        self._prefix = ""  # what may be a marker
        self._is_cut = False  # whether a piece begins with it
        self._word = ""

    def close(self) -> list[str]:
        """The sentence that was held; then a new text may come."""
        self._full = self._heading = False
        self._rule, self._lines, self.column = "never", 1, 0
        return super().close()

    def prose(self, text: str, at: int) -> int:
        """Up to a mark, or the end of the line."""
        found = _STOP.search(text, at)
        if found is None:
            return len(text)
        self._first, self._closer = found[0], ""
        if self._first == "\n":
            self._white("never")
            return found.start()
        self._rule = self._rule_of(found.start())
        self.state = self._marks
        return found.end()

    def _rule_of(self, at: int) -> _Rule:
        """What the mark at `at` means, if it stands alone."""
        if self._first != ".":
            return "capital" if self._first in "!?" else "unless_small" if self._first == "…" else "always"
        near = self.behind(at, 24).rpartition(" ")[2]
        found = _WORD.search(near)
        word = found[0] if found is not None else ""
        spelt = {word, word.lower()}
        if spelt & _NEVER:
            return "never"
        if spelt & _NUMBERED:
            return "number"
        return "starter" if spelt & _SHORTENED or _ACRONYM.fullmatch(word) else "unless_small"

    def _marks(self, text: str, at: int) -> int:
        """More marks."""
        char = text[at]
        if char not in _MARKS:
            self.state = self._closing_signs
            return at
        if char in _STRONG:
            self._rule = "always"
        elif self._first == ".":
            self._rule = "unless_small"
        return at + 1

    def _closing_signs(self, text: str, at: int) -> int:
        """Quotes, brackets and Markdown's signs that close with the sentence, and numbers of sources."""
        char = text[at]
        if char in _CLOSERS:
            self._closer = char
            return at + 1
        if char == "[":
            self.state = self._citation
            return at + 1
        if char.isspace():
            self._white(self._rule)
            return at
        if self._rule == "always" and not (self._first == "．" and char.isdigit()):
            self._white(self._rule)
            return self._decide(char, at)
        self.state = self.prose
        return at

    def _citation(self, text: str, at: int) -> int:
        at = after(_CITED, text, at)
        if at == len(text):
            return at
        self.state = self._closing_signs if text[at] == "]" else self.prose
        return at + (text[at] == "]")

    def _white(self, rule: _Rule) -> None:
        self._rule, self._lines, self.column = rule, 0, 0
        self.state = self._space

    def _space(self, text: str, at: int) -> int:
        """White space, after a mark or a line."""
        end = after(_SPACES, text, at)
        lines = text.count("\n", at, end)
        if lines:
            self._lines += lines
            at = text.rindex("\n", at, end) + 1
            self.column = 0
            if self._heading or self._lines > 1:
                self._rule = "always"
            self._heading = False
        self.column += end - at + 3 * text.count("\t", at, end)
        return end if end == len(text) else self._decide(text[end], end)

    def _decide(self, char: str, at: int) -> int:
        """What begins with `char` is a sentence, or goes on with this one; or more must be seen."""
        if char == "»" and self._full and not self._lines:
            self.mark = at
            self.state = self._guillemet
            return at + 1
        if self._full and not self.is_between(at):
            self.state = self.prose
            return at
        self._is_cut = not self._full or self._ends_before(char)
        if self._full and self._is_cut:
            self.cut(at)
        self._full, self.mark = True, at
        if char in _MARKER_FIRST and (self._lines or self._is_cut):
            self._prefix = ""
            self.state = self._marker
        elif self._rule == "starter" and not self._is_cut and char.isupper():
            self._word = ""
            self.state = self._next_word
        else:
            self.state = self.prose
        return at

    def _guillemet(self, text: str, at: int) -> int:
        """A » after white space closes a quotation in French, and opens one in German."""
        if text[at].isspace():
            self._white(self._rule)
        else:
            if self._ends_before("»"):
                self.cut(self.mark)
            self.state = self.prose
        return at

    def _ends_before(self, char: str) -> bool:
        if char in _MARKS and self._rule != "always":
            return False
        match self._rule:
            case "always":
                return char != "と" or self._closer not in _QUOTED
            case "capital":
                return self._lines > 0 or not char.islower()
            case "unless_small":
                return not char.islower()
            case "number":
                return not (char.islower() or char.isdigit())
            case "starter":
                return char in "\"“‘'«„"
            case "never":
                return False

    def _next_word(self, text: str, at: int) -> int:
        """The word after an abbreviation: does it begin a sentence?"""
        char = text[at]
        if char.isalpha() and len(self._word) < _LONGEST:
            self._word += char
            return at + 1
        if char != "." and self._word.lower() in _STARTERS:
            self.cut(self.mark)
        self.state = self.prose
        return at

    def _marker(self, text: str, at: int) -> int:
        """A line, or a sentence, that may begin as an item of a list does."""
        so_far = self._prefix + text[at]
        if _MARKER_SO_FAR.fullmatch(so_far):
            self._prefix = so_far
            return at + 1
        self.state = self.prose
        if not _MARKER.fullmatch(so_far):
            return at
        if not self._is_cut:
            self.cut(self.mark)
        self._heading = so_far[0] == "#" and self._lines > 0
        if so_far[0] in "`~" and self._lines > 0 and self.column < 4:
            self.begin_fence(so_far[0])
            self._width = 2
        return at

    def closed(self, at: int) -> None:
        """What follows the fence is another sentence."""
        self._white("always")
        self._lines, self.mark = 1, at
