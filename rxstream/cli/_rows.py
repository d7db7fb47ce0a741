"""Text as the rows of a terminal, wrapped as it comes.

Rules of this module:

* A row that is complete never changes: it can be written once and forgotten, so a long text costs no more a piece.
* Rows are counted in cells: a Chinese character and most emoji take two. No character is cut in two.
* A row keeps the white space that it was broken at; whoever shows it may strip it.
"""

from __future__ import annotations

from rich.cells import cell_len

from rxstream.segment import characters, split

__all__ = ["Rows", "wrapped"]

_TAB = "    "


class Rows:
    """The rows of a text that grows.

    Args:
        width: Cells a row. It may be changed at any time, for what is not complete yet.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.last = ""
        """The row being written."""

    def feed(self, text: str) -> list[str]:
        """The rows that `text` completes."""
        rows: list[str] = []
        *whole, rest = (self.last + text).split("\n")
        for line in whole:
            rows += wrapped(line, self.width)
        *more, self.last = wrapped(rest, self.width)
        return rows + more


def wrapped(line: str, width: int) -> list[str]:
    """`line`, which has no line end, in rows of at most `width` cells, the white space at their ends not counted.

    Joined, they are the line, its tabs made spaces. A character wider than `width` has a row of its own.
    """
    rows: list[str] = []
    row = ""
    used = 0
    for word in split(line.replace("\t", _TAB), "word"):
        needed = cell_len(word.rstrip())
        if row and used + needed > width:
            rows.append(row)
            row, used = "", 0
        for piece in [word] if needed <= width else characters(word):
            if row and used + cell_len(piece.rstrip()) > width and not piece.isspace():
                rows.append(row)
                row, used = "", 0
            row, used = row + piece, used + cell_len(piece)
    return [*rows, row]
