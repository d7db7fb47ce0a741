"""Text on its way to a terminal.

A model's words may hold anything: terminal escapes, whole or split over deltas, or signs that turn the direction of text, so
that a person reads another one. `printable` works on single characters, so there is nothing that a split could hide.
"""

from __future__ import annotations

from typing import Final

__all__ = ["printable"]

_KEPT: Final = "\n\t"
_PICTURES: Final[dict[int, str | None]] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in _KEPT},
    0x0D: None,  # of CR LF, the LF is enough; alone it would write over the line
    0x7F: "\u2421",
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
    **{code: f"<U+{code:04X}>" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},  # what turns text around
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),  # lone surrogates: no encoding takes them
}


def printable(text: str) -> str:
    r"""`text` with its control characters made visible: a terminal shows it and obeys nothing in it.

    Newlines and tabs stay, carriage returns go, ESC becomes ``␛``, an override of the direction ``<U+202E>``.

    Example:
        >>> printable("red: \x1b[31m")
        'red: ␛[31m'
    """
    return text.translate(_PICTURES)
