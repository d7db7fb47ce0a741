"""Cutting text into pieces: the law is that joined pieces are the text, whatever it holds.

Rules of this module:

* Nothing is lost, changed or doubled: white space stays, at the end of its piece; so do delimiters.
* A character is what a reader takes for one: a letter with its accents, an emoji of several code points, a flag, a line
  end of CR and LF. `characters` may take two for one in rare scripts, and never cuts one in two. Neither does any `TextUnit`.
* A `Splitter` gives, of a text that arrives in deltas, the pieces that `split` gives of the whole, each as soon as its end
  is certain. It takes linear time, however long a piece grows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Final, Literal, TypeAlias

from rxstream._blocks import BlockCutter
from rxstream._check import one_of
from rxstream._cutter import CharacterCutter, Cutter, LineCutter, WordCutter, characters
from rxstream._sentences import SentenceCutter
from rxstream.errors import ConfigurationError

__all__ = ["By", "Splitter", "TextUnit", "characters", "split", "windows"]

TextUnit: TypeAlias = Literal["character", "word", "sentence", "line", "paragraph", "code_fence"]
"""What a text consists of:

* ``character``: as a reader counts them.
* ``word``: a word, or one character of Chinese or Japanese with the punctuation after it, and the white space after it.
* ``sentence``: a sentence. An abbreviation, an initial or a number does not end one where the text goes on. An empty line
  does, a heading, an item of a list, a row of a table; a wrapped line does not. A fenced block is a piece.
* ``line``: a line with its end.
* ``paragraph``: a block with the empty lines after it. A fenced block is never cut, and belongs to the paragraph that it
  stands in: no empty line, no cut.
* ``code_fence``: a fenced block; what stands between them comes in paragraphs.
"""

By: TypeAlias = TextUnit | Literal["size", "delimiter"]
"""How to cut: see `split`."""

_UNITS: Final[dict[str, Callable[[], Cutter]]] = {
    "character": CharacterCutter,
    "word": WordCutter,
    "sentence": SentenceCutter,
    "line": LineCutter,
    "paragraph": partial(BlockCutter, apart=False),
    "code_fence": partial(BlockCutter, apart=True),
}
_WAYS: Final = (*_UNITS, "size", "delimiter")


def split(
    text: str, by: By = "word", *, size: int | None = None, overlap: int = 0, delimiter: str | None = None
) -> list[str]:
    """`text` in pieces that make `text` when joined. No piece is empty; an empty text has none.

    Args:
        text: Any text.
        by: A `TextUnit`; ``size``: `size` characters at a time; ``delimiter``: up to each `delimiter`, which ends its piece.
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
    cutter = _UNITS[by]()
    return [*cutter.feed(text), *cutter.close()]


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
    """The pieces of a text that arrives in deltas; what may go on is held back.

    Args:
        by: What a piece is.
        limit: Characters that may be held. A piece that is longer comes in several, cut where the limit was passed: at which
            character that is depends on the deltas. None: what a piece needs.

    Raises:
        ConfigurationError: `by` is no unit.
    """

    def __init__(self, by: TextUnit, *, limit: int | None = None) -> None:
        self._cutter = _UNITS[one_of("by", by, _UNITS)]()
        self._limit = limit

    @property
    def held(self) -> int:
        """How many characters are held back."""
        return self._cutter.held

    def feed(self, text: str) -> list[str]:
        """The pieces that `text` completes."""
        pieces = self._cutter.feed(text)
        if self._limit is not None and self._cutter.held > self._limit:
            pieces += self._cutter.spill()
        return pieces

    def close(self) -> list[str]:
        """What was held, if there is something; then another text may come."""
        return self._cutter.close()


def _check(by: str, size: int | None, overlap: int, delimiter: str | None) -> None:
    one_of("by", by, _WAYS)
    if (size is not None) != (by == "size") or (overlap and by != "size"):
        raise ConfigurationError('by="size" needs size=, and only it takes size= and overlap=')
    if bool(delimiter) != (by == "delimiter"):
        raise ConfigurationError('by="delimiter" needs delimiter=, a text that is not empty, and only it takes one')
    if size is not None and not 0 <= overlap < size:
        raise ConfigurationError(f"overlap={overlap} must be at least 0 and less than size={size}")


def _cut(whole: list[str], size: int, overlap: int) -> list[str]:
    bounds = [0, *range(size, len(whole), size - overlap), len(whole)] if whole else []
    return ["".join(whole[start:end]) for start, end in pairwise(bounds)]
