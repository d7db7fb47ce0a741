"""Cutting a text that arrives in deltas: sentences. The rules are those of `rxstream._cutter`.

A mark ends a sentence when white space follows and then not a small letter. Where the mark is the full stop of an
abbreviation that may stand at an end, too, the next word tells: one of those that often begin a sentence, or not.
"""

# ruff: noqa: RUF001 - the punctuation of other scripts is meant as it stands

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

from rxstream._blocks import FenceCutter
from rxstream._cutter import after

__all__ = ["SentenceCutter"]


_Rule = Literal["never", "always", "capital", "unless_small", "number", "starter", "ordinal"]
"""When the white space that was read ends a sentence: ``capital`` before anything but a small letter, unless a new line begins;
``unless_small`` before anything but a small letter; ``number`` nor before a digit; ``starter`` only before a word that often begins one;
``ordinal`` nor before a word that such a number goes with."""

_STRONG: Final = "。！？｡．‼⁇⁈⁉।॥؟۔։።፧፨။។៕᠃᠉"
"""Marks that need no white space after them."""
_MARKS: Final = frozenset(".!?…" + _STRONG)
_STOP: Final = re.compile(rf"[.!?…;\u037e\n{_STRONG}]")
_GREEK: Final = re.compile("[\u0370-\u03ff\u1f00-\u1fff]")
"""After such a letter a semicolon is a question mark."""
_CLOSERS: Final = frozenset("\"'”’“‘»«)]}*_`~」』】）》〉")
_QUOTED: Final = frozenset("」』")
"""After them と goes on with the sentence: “…”, he said."""
_DASHES: Final = frozenset("-–—")
_CITED: Final = re.compile(r"[\d,^–-]*")
_SPACES: Final = re.compile(r"\s*")
_WORD: Final = re.compile(r"\w[\w.'’\u0900-\u0dff]*\Z")
_ELIDED: Final = re.compile(r"\A\w['’]")
_COUNTER: Final = re.compile(r"[\s#>*_(-]*(?:\d{1,3}(?:\.\d{1,3})*|[IVX]{1,4})")
"""The number of a heading."""
_ACRONYM: Final = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")

_MARKER: Final = re.compile(
    r"(?:[-*+•‣–→·]|\#{1,6}|(?:\d{1,3}|[a-hA-H])(?:\.?\)|\.)|\((?:\d{1,3}|[a-hA-H])\))\s|\d\ufe0f?\u20e3|```|~~~|\|"
)
"""What begins an item of a list, a heading, a fence, a row of a table."""
_MARKER_SO_FAR: Final = re.compile(r"[-*+•‣–→·]|\#{1,6}|\(?(?:\d{1,3}|[a-hA-H])(?:\.?\)?)|\d\ufe0f|\(|`{1,2}|~{1,2}")
_MARKER_FIRST: Final = frozenset("-*+•‣–→·#`~|(0123456789abcdefghABCDEFGH")


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEVER: Final = _listed(
    "Mr Mrs Ms Mx Dr Prof Gen Sen Rep Rev Hon Capt Lt Col Sgt Maj Cmdr Gov Pres Mt Messrs Mme Mlle MM Hr Fr Sra Srta Dra Dña "
    "Nr Ave Av Bd EE vs e.g i.e cf viz ca approx fig figs vols eq eqs pp resp incl bzw evtl ggf inkl vgl z.b d.h u.a "
    "проф акад ул डॉ"
)
"""Never end a sentence: a name, a number or an example follows."""
_NUMBERED: Final = _listed(
    "no nos p sec sect ch chap art ed par vol ref refs tel max min avg abb abs bd pág págs núm рис стр табл гл"
)
"""… before a number."""
_SHORTENED: Final = _listed(
    "St Sr Jr Inc Co Corp Ltd Bros Dept Est Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec "
    "Mon Tue Tues Wed Thu Thurs Fri Sat Sun Blvd Rd ft lb lbs oz etc al ph.d usw Mio Mrd Jh Chr"
)
"""May stand at a sentence's end and within one: the next word tells."""
_STARTERS: Final = _listed(
    "a after all also although an and another any are as at because before both but by can could did do does each even every "
    "few finally first for from given had has have he hence her here his how however i if in is it its just later let like "
    "many maybe meanwhile more most my neither never next no nobody not note nothing now of on once one only or other our "
    "please perhaps second she should similarly since so some sometimes soon still such that the their then there therefore "
    "these they this those though thus to today two under unless until we well what when where whether which while who whose "
    "why will with without would yes yet you your "
    "aber auch da das dann der die dies diese dieser ein eine er es ich sie und wenn wir ce ces cela elle elles et il ils la le "
    "les nous on un une vous el ella ellos esta este esto los las y в это этот он она они мы но и а как если что для при потом"
)
_ORDINALS: Final = _listed(
    "Januar Jänner Februar März April Mai Juni Juli August September Oktober November Dezember "
    "Jahrhundert Jahrhunderts Jh Auflage Weltkrieg Weltkriegs"
)
"""What goes on after an ordinal number in German."""
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
        if found[0] == ";" and not _GREEK.match(self.behind(found.start(), 1)):
            return found.end()
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
            return "capital" if self._first in "!?;\u037e" else "unless_small" if self._first == "…" else "always"
        near = self.behind(at, 24)
        if _COUNTER.fullmatch(near):
            return "never"
        found = _WORD.search(near.rpartition(" ")[2])
        word = found[0] if found is not None else ""
        spelt = {word, word.lower(), _ELIDED.sub("", word)}
        if spelt & _NEVER:
            return "never"
        if spelt & _NUMBERED:
            return "number"
        if word.isdigit() and len(word) < 3:
            return "ordinal"
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
        if char in _CLOSERS and not (self._rule == "always" and self._opens(char, at)):
            self._closer = char
            return at + 1
        if char == "[":
            self.state = self._citation
            return at + 1
        if char.isspace():
            self._white(self._rule)
            return at
        if self._rule == "capital" and "\u3040" <= char <= "\u9fff":  # Chinese or Japanese with ASCII's marks
            self._rule = "always"
        if self._rule == "always" and not (self._first == "．" and char.isdigit()):
            self._white(self._rule)
            return self._decide(char, at)
        self.state = self.prose
        return at

    def _opens(self, char: str, at: int) -> bool:
        """Whether `char`, which no white space sets apart, begins a quotation or an emphasis."""
        if char in "\"'*_`~":
            near = self.behind(at, 256)
            return not near.endswith(char) and len(re.findall(re.escape(char) + "+", near)) % 2 == 0
        return char in "“‘"

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
        if self._full and not self._lines and (char == "»" or char in _DASHES):
            self.mark = at
            self.state = self._guillemet if char == "»" else self._dash
            return at + 1
        if self._full and not self.is_between(at):
            self.state = self.prose
            return at
        self._is_cut = not self._full or self._ends_before(char) or (self._lines > 0 and _is_symbol(char))
        if self._full and self._is_cut:
            self.cut(at)
        self._full, self.mark = True, at
        if char in _MARKER_FIRST and (self._lines or self._is_cut):
            self._prefix = ""
            self.state = self._marker
        elif self._rule in ("starter", "ordinal") and not self._is_cut and char.isupper():
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

    def _dash(self, text: str, at: int) -> int:
        """What is after the dash tells: “Stop!” — he said."""
        if text[at] in " \xa0" or text[at] in _DASHES:
            return at + 1
        if self._ends_before(text[at]):
            self.cut(self.mark)
        self.state = self.prose
        return at

    def _ends_before(self, char: str) -> bool:
        if (char in _MARKS and self._rule != "always") or (char == "|" and not self._lines):
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
            case "ordinal":
                return not (char.islower() or char.isupper())
            case "starter":
                return char in "\"“‘'«„"
            case "never":
                return False

    def _next_word(self, text: str, at: int) -> int:
        """The word after an abbreviation or a number: does it begin a sentence?"""
        char = text[at]
        if char.isalpha() and len(self._word) < _LONGEST:
            self._word += char
            return at + 1
        if self._word not in _ORDINALS if self._rule == "ordinal" else char != "." and self._word.lower() in _STARTERS:
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


def _is_symbol(char: str) -> bool:
    return char > "\u2000" and unicodedata.category(char) == "So"
