"""A comparison as a person reads it: a table of plain text, and one of HTML for a notebook.

What a model wrote is shown in excerpts, on one line, without control characters; in HTML it is escaped.
"""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain, takewhile
from typing import TYPE_CHECKING, Final

from rxstream._similarity import common_prefix

if TYPE_CHECKING:
    from rxstream.comparison import Comparison, Divergence, FieldReport, PairReport, TrackReport

__all__ = ["as_html", "as_text"]

_NONE: Final = "–"  # noqa: RUF001 - a dash
_END: Final = "its end"
_MOST_LISTED: Final = 5
_LONGEST: Final = 48
"""Columns of an excerpt."""
_WIDEST: Final = 65
"""Columns of a line about a pair, behind its word: a terminal has 80."""
_SPELT: Final = 8
"""… of one that is spelt out."""


def as_text(comparison: Comparison) -> str:
    """A table with a column for each track, what failed, and a block for each pair; two tracks fit into 80 columns."""
    rows = [("", [_line(track.label) for track in comparison.tracks])]
    rows += [row for row in _rows(comparison) if row[0] != "error"]  # one would be as wide as all the others
    widths = [max(_width(cells[column]) for _, cells in rows) for column in range(len(comparison.tracks))]
    names = max(_width(name) for name, _ in rows)
    table = [
        "  ".join([_padded(name, names), *(_padded(cell, width) for cell, width in zip(cells, widths, strict=True))])
        for name, cells in rows
    ]
    lines = [_headline(comparison), "", *table]
    errors = [f"{_line(track.label)}  {_line(track.error)}" for track in comparison.tracks if track.error]
    if errors:
        lines += ["", *errors]
    for pair in comparison.pairs:
        facts = list(_facts(pair))
        width = max(len(name) for name, _ in facts)
        lines += ["", f"{_line(pair.first)} / {_line(pair.second)}"]
        for name, said in facts:
            head, *rest = said
            lines += [f"  {name:{width}}  {head}", *(f"  {'':{width}}  {line}" for line in rest)]
    return "\n".join(line.rstrip() for line in lines)


def as_html(comparison: Comparison) -> str:
    """The same as tables, in the colours of the page around it."""
    cell = "text-align:left;padding:.15em 1.2em .15em 0;vertical-align:top"
    head = f"{cell};border-bottom:1px solid currentColor"
    name = f"{cell};font-weight:normal;opacity:.65;white-space:nowrap"

    def tag(kind: str, style: str, text: str) -> str:
        return f'<{kind} style="{style}">{html.escape(text)}</{kind}>'

    columns = "".join(tag("th", head, _line(track.label)) for track in comparison.tracks)
    body = "".join(
        f"<tr>{tag('th', name, row)}{''.join(tag('td', cell, text) for text in cells)}</tr>"
        for row, cells in _rows(comparison)
    )
    parts = [
        tag("p", "margin:.3em 0", _headline(comparison)),
        f'<table style="border-collapse:collapse"><tr><th style="{head}"></th>{columns}</tr>{body}</table>',
    ]
    for pair in comparison.pairs:
        parts.append(tag("p", "margin:1em 0 .2em;font-weight:bold", f"{_line(pair.first)} / {_line(pair.second)}"))
        facts = "".join(
            f'<tr>{tag("th", name, fact)}<td style="{cell}">{"<br>".join(map(html.escape, said))}</td></tr>'
            for fact, said in _facts(pair)
        )
        parts.append(f'<table style="border-collapse:collapse">{facts}</table>')
    return f'<div class="tex2jax_ignore mathjax_ignore">{"".join(parts)}</div>'  # dollars are no formulas


# --- what is said -----------------------------------------------------------------------------------------------------------


def _headline(comparison: Comparison) -> str:
    count = len(comparison.tracks)
    running = sum(track.status in ("waiting", "active") for track in comparison.tracks)
    state = "all have ended" if comparison.done else f"{running} still running"
    when = f" after {comparison.elapsed:.1f} s" if comparison.elapsed is not None else ""
    first = ""
    if comparison.first_to_speak is not None:
        lead = f", {_seconds(comparison.lead)} before the next" if _shows(comparison.lead) else ""
        first = f"; {_line(comparison.first_to_speak)} spoke first{lead}"
    return f"{count} tracks{when}, {state}{first}"


def _rows(comparison: Comparison) -> Iterator[tuple[str, list[str]]]:
    """The rows of the table that say something of at least one track."""
    for name, cell in _CELLS.items():
        cells = [cell(track) or _NONE for track in comparison.tracks]
        if any(text != _NONE for text in cells):
            yield name, cells


def _first(track: TrackReport) -> str:
    behind = f" (+{_seconds(track.behind)})" if _shows(track.behind) else ""
    return f"{_seconds(track.first_output)}{behind}" if track.first_output is not None else ""


def _with_rate(number: int | None, rate: float | None) -> str:
    return "" if number is None else _count(number) + (f" ({rate:,.0f}/s)" if rate is not None else "")


def _tokens(track: TrackReport) -> str:
    if track.input_tokens is None and track.output_tokens is None:
        return ""
    known = (_count(track.input_tokens), _count(track.output_tokens))
    return f"{_about(track)}{known[0]} in, {known[1]} out"


def _cost(track: TrackReport) -> str:
    if not track.cost:
        return "" if track.cost is None else "$0"
    return f"{_about(track)}${track.cost:.6f}"


_CELLS: Final[dict[str, Callable[[TrackReport], str]]] = {
    "model": lambda track: _line(track.model),
    "status": lambda track: track.status + (f" ({track.finish_reason})" if track.finish_reason else ""),
    "error": lambda track: _line(track.error or ""),
    "first output": _first,
    "ended": lambda track: _seconds(track.ended) if track.ended is not None else "",
    "outputs": lambda track: _with_rate(track.outputs, track.outputs_per_second),
    "characters": lambda track: _with_rate(track.characters, track.characters_per_second),
    "words": lambda track: _count(track.words),
    "sentences": lambda track: _count(track.sentences),
    "tokens": _tokens,
    "cost": _cost,
    "score": lambda track: f"{track.score:g}" if track.score is not None else "",
}


def _facts(pair: PairReport) -> Iterator[tuple[str, list[str]]]:
    """What there is to say of a pair: a word, and lines."""
    shorter = f", {pair.overlap:.0%} of the shorter one's" if pair.overlap is not None else ""
    similar = f"{pair.similarity:.0%} of the words{shorter}" if pair.similarity is not None else "no words to compare"
    yield "similar", [similar]
    same = f"the first {_plural(pair.common_prefix, 'character')}" if pair.common_prefix else "no character"
    if pair.divergence is not None:
        yield "begin alike", [same, *_parting(pair.divergence)]
    elif pair.common_prefix:
        yield "begin alike", [f"{same}; they have not parted"]
    if pair.agreement is not None:
        best = sorted(pair.matches, key=lambda match: -match.similarity)
        listed = [
            _filled(f"{match.similarity:.0%}: {_quoted(match.first)}", f"{_NONE} {_quoted(match.second)}")
            for match in best
        ]
        yield "agree", [f"{pair.agreement:.0%} of the sentences", *_shortened(listed)]
    if pair.json_fields is not None:
        yield "JSON", list(_fields(pair.json_fields))


def _parting(parted: Divergence) -> list[str]:
    before, first, second = parted.before, _quoted(parted.first), _quoted(parted.second)
    if unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", second):  # it does not show: spell it out
        at = common_prefix(parted.first, parted.second)
        before += parted.first[:at]
        first, second = (ascii(text[at : at + _SPELT]) if text[at:] else _END for text in (parted.first, parted.second))
    after = [f"after {_quoted(before, end=True)}:"] if before else []
    return _filled(*after, first, f"or {second}")


def _fields(fields: FieldReport) -> Iterator[str]:
    partly = "" if fields.complete else ", so far"
    yield f"{_plural(len(fields.same), 'field')} the same, {len(fields.different)} different{partly}"
    yield from _shortened(
        [_filled(f"{_line(one.path)}:", _value(one.first), f"or {_value(one.second)}") for one in fields.different]
    )
    for name, paths in (("first", fields.only_first), ("second", fields.only_second)):
        if paths:
            *listed, last = _shortened([[_line(path)] for path in paths])
            yield from _filled(f"only in the {name}:", *(f"{path}," for path in listed), last)


# --- words ------------------------------------------------------------------------------------------------------------------


def _about(track: TrackReport) -> str:
    return "" if track.usage_provenance == "reported" else "about "


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _plural(number: int, word: str) -> str:
    return f"{_count(number)} {word}{'' if number == 1 else 's'}"


def _shows(seconds: float | None) -> bool:
    """Whether it is more than nothing when it is shown."""
    return seconds is not None and seconds >= 0.005


def _seconds(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.2f} s"


def _value(value: object) -> str:
    return _line(json.dumps(value, ensure_ascii=False))


def _quoted(text: str, *, end: bool = False) -> str:
    return f"“{_line(text, end=end)}”" if text else _END


def _line(text: str, *, end: bool = False) -> str:
    """`text` on one line that a terminal shows as it is; of a long one the beginning, or the `end`."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    columns = accumulate(max(1, _width(char)) for char in (reversed(line) if end else line))
    fits = sum(1 for _ in takewhile(_LONGEST.__ge__, columns))
    if fits == len(line):
        return line
    return f"…{line[-fits:]}" if end else f"{line[:fits]}…"


def _filled(*pieces: str) -> list[str]:
    """The pieces on one line, or on as many as they need."""
    lines = [pieces[0]]
    for piece in pieces[1:]:
        line = f"{lines[-1]} {piece}"
        if _width(line) <= _WIDEST:
            lines[-1] = line
        else:
            lines.append(piece)
    return lines


def _shortened(items: Sequence[list[str]]) -> list[str]:
    """The lines of the first items."""
    more = len(items) - _MOST_LISTED
    return [*chain(*items[:_MOST_LISTED]), *([f"… and {more} more"] if more > 0 else [])]


def _width(text: str) -> int:
    return sum(
        2 if unicodedata.east_asian_width(char) in "WF" else unicodedata.category(char) not in ("Mn", "Me")
        for char in text
    )


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
