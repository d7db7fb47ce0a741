"""Cutting a text that arrives in deltas: paragraphs and fenced blocks of code. The rules are those of `rxstream._cutter`.

A fenced block is Markdown's: three or more back-ticks or tildes, indented by three spaces at most, and as many or more of the
same on the line that ends it. It is never cut. One that is not closed lasts to the end of the text.
"""

from __future__ import annotations

import re
from typing import Final

from rxstream._cutter import Cutter, State

__all__ = ["BlockCutter", "FenceCutter"]


class FenceCutter(Cutter):
    """What a fence is. A subclass knows the lines about it: it finds the mark of one, and is told when it was one."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.column = 0
        """Of the line's first character that is no white space."""
        self._sign = ""
        self._width = 0
        self._closing = 0

    def begin_fence(self, sign: str) -> None:
        """Here, perhaps, a fence of `sign` begins."""
        self._sign, self._width = sign, 0
        self.state = self._opening

    def prose(self, text: str, at: int) -> int:
        """It was none; or we are within a line."""
        raise NotImplementedError

    def opened(self) -> None:
        """It is one."""

    def closed(self, at: int) -> None:
        """It has ended, with its line; the next one begins at `at`."""
        raise NotImplementedError

    def _opening(self, text: str, at: int) -> int:
        if text[at] == self._sign:
            self._width += 1
            if self._width == 3 and self._sign == "~":
                self.opened()
            return at + 1
        self.state = self.prose if self._width < 3 else self._info
        return at

    def _info(self, text: str, at: int) -> int:
        """The rest of the opening line, which may hold no back-tick if the fence is made of them."""
        found = (_INFO if self._sign == "`" else _NEWLINE).search(text, at)
        if found is None:
            return len(text)
        if found[0] == "`":
            self.state = self.prose
            return found.start()
        if self._sign == "`":
            self.opened()
        return self._next_line(found.end())

    def _next_line(self, at: int) -> int:
        self.state, self.column, self._closing = self._inside, 0, 0
        return at

    def _inside(self, text: str, at: int) -> int:
        """The beginning of a line within the fence: it may close it."""
        char = text[at]
        if char == self._sign and self.column < 4:
            self._closing += 1
        elif char == "\n":
            if self._closing < self._width:
                return self._next_line(at + 1)
            self.closed(at + 1)
        elif not char.isspace():
            self.state = self._line_inside
        elif self._closing:
            self.column = 4  # nothing may follow but white space
        else:
            self.column += 4 if char == "\t" else 1
        return at + 1

    def _line_inside(self, text: str, at: int) -> int:
        found = text.find("\n", at)
        return len(text) if found < 0 else self._next_line(found + 1)


_INFO: Final = re.compile(r"[`\n]")
_NEWLINE: Final = re.compile(r"\n")


class BlockCutter(FenceCutter):
    """Blocks with the empty lines after them; a fence is within its paragraph, or a block of its own.

    Args:
        apart: Whether a fence is a piece of its own.
    """

    def __init__(self, *, apart: bool) -> None:
        super().__init__(self._white)
        self._apart = apart
        self._full = False  # whether there is more than white space before this line
        self._empty = False  # an empty line has ended the piece: it ends where the next line begins that is not empty

    def close(self) -> list[str]:
        """The piece that was held; then a new text may come."""
        self._full = self._empty = False
        self.column = 0
        return super().close()

    def opened(self) -> None:
        """The fence is a piece."""
        if self._apart and self._full:
            self.cut(self.mark)
        self._full = True

    def closed(self, at: int) -> None:
        """What follows is another."""
        self._empty = self._apart
        self._new_line(at)

    def prose(self, text: str, at: int) -> int:
        """Up to the end of the line."""
        found = text.find("\n", at)
        if found < 0:
            return len(text)
        self._full = True
        self._new_line(found + 1)
        return found + 1

    def _new_line(self, at: int) -> None:
        self.mark, self.column = at, 0
        self.state = self._white

    def _white(self, text: str, at: int) -> int:
        """White space at the beginning of a line."""
        char = text[at]
        if char == "\n":
            self._empty = self._full
            self._new_line(at + 1)
        elif char.isspace():
            self.column += 4 if char == "\t" else 1
        else:
            return self._begin_line(char, at)
        return at + 1

    def _begin_line(self, char: str, at: int) -> int:
        if self._empty:
            self.cut(self.mark)
            self._empty = self._full = False
        if char in "`~" and self.column < 4:
            self.begin_fence(char)
        else:
            self.state = self.prose
        return at
