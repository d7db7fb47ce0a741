"""The live picture in a terminal, drawn with rich: one track with its status line, or several side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from rich import live
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rxstream.cli._rows import Rows, wrapped
from rxstream.cli._track import Track, explain

__all__ = ["Live", "leave"]

_PERIOD = 0.1
"""Seconds between two pictures."""
_NARROW = 30
"""Cells that a column has at least; where there is no room for it, tracks stand below each other."""
_FRAME = 4
"""Cells that a panel's frame takes of its width."""


class Live:
    """Draws the tracks while they run, then leaves their whole text on the screen."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, emoji=False)

    @contextmanager
    def waiting(self, words: str) -> Generator[None]:
        """Show `words` meanwhile."""
        with live.Live(Text(words, style="dim"), console=self._console, auto_refresh=False, transient=True):
            yield

    async def follow(self, tracks: Sequence[Track]) -> None:
        """Start the tracks, and draw them until the last is over."""
        for track in tracks:
            track.rewrites = track.combined
            track.start()
        alone = len(tracks) == 1 and not tracks[0].rewrites  # rows that went up into the scroll-back stay as they are
        await (_one(tracks[0], self._console) if alone else _beside(tracks, self._console))
        for track in tracks:
            if track.failed:
                self._console.print(Text(f"{track.label}: {explain(track.error)}", style="red"))
            if track.note:
                self._console.print(Text(track.note, style="dim"))


# --- one track --------------------------------------------------------------------------------------------------------------


async def _one(track: Track, console: Console) -> None:
    """Rows go up into the scroll-back when they are complete; the one being written stays above the status line."""
    rows = Rows(console.width)
    shown = 0
    with live.Live(console=console, auto_refresh=False, transient=True) as picture:
        while True:
            over, text = track.over, track.text
            rows.width = console.width
            for row in rows.feed(text[shown:]):
                _print(row, console)
            shown = len(text)
            if over:
                break
            picture.update(Group(_row(rows.last), _status(track)) if text else _status(track), refresh=True)
            await asyncio.sleep(_PERIOD)
    if rows.last:
        _print(rows.last, console)
    for line in _joined([track.label, *track.figures()], console.width):
        console.print(Text(line, style=_style(track)))


def _print(row: str, console: Console) -> None:
    console.print(Text(row.rstrip()), no_wrap=True, overflow="ignore", crop=False)


def _row(text: str) -> Text:
    return Text(text.rstrip(), no_wrap=True, overflow="ignore")


def _status(track: Track) -> Text:
    words = " · ".join([track.label, *track.figures()])
    return Text(words, style=_style(track), overflow="ellipsis", no_wrap=True)


def _style(track: Track) -> str:
    return "red" if track.failed else "dim"


# --- several ----------------------------------------------------------------------------------------------------------------


async def _beside(tracks: Sequence[Track], console: Console) -> None:
    """Panels on a screen of their own, where a change of its size leaves no traces; then all of it on the usual one."""
    panels = [_Panel(track) for track in tracks]
    with live.Live(console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as picture:
        while not all(track.over for track in tracks):
            grid = _grid(panels, console.width, console.height - 1)
            picture.update(Group(grid, _row(" · ".join(_summary(tracks)))), refresh=True)
            await asyncio.sleep(_PERIOD)
    leave(tracks, console)


def leave(tracks: Sequence[Track], console: Console) -> None:
    """Print the whole of several `tracks` that are over."""
    console.print(_grid([_Panel(track) for track in tracks], console.width, None))
    for line in _joined(_summary(tracks), console.width):
        console.print(Text(line, style="bold"))


class _Panel:
    """One track in its frame: the text, and the figures below it."""

    def __init__(self, track: Track) -> None:
        self._track = track
        self._rows = Rows(0)
        self._done: list[str] = []
        self._shown = 0
        self._rewritten = 0

    def rows(self, width: int) -> list[str]:
        """The text, wrapped."""
        if width != self._rows.width or self._track.rewritten != self._rewritten:
            self._rows, self._done, self._shown = Rows(width), [], 0
            self._rewritten = self._track.rewritten
        text = self._track.text
        self._done += self._rows.feed(text[self._shown :])
        self._shown = len(text)
        return [*self._done, self._rows.last] if self._rows.last else self._done

    def draw(self, width: int, height: int) -> Panel:
        """The panel, with the last rows of the text if it has too many."""
        figures = _joined(self._track.figures(), width - _FRAME)
        rows = self.rows(width - _FRAME)
        room = max(0, height - 2 - len(figures))
        text = max(1, room - 1)  # an empty row between text and figures, but where there is hardly any room
        rows = rows[-text:]
        rows += [""] * (room - len(rows))
        body = Group(*(_row(row) for row in rows), *(Text(line, style="dim") for line in figures))
        title = Text(self._track.label, overflow="ellipsis", no_wrap=True)
        return Panel(body, title=title, width=width, height=max(2, height), border_style=self._colour())

    def height(self, width: int) -> int:
        """Rows that all of it takes."""
        return len(self.rows(width - _FRAME)) + 1 + len(_joined(self._track.figures(), width - _FRAME)) + 2

    def _colour(self) -> str:
        if self._track.failed:
            return "red"
        if self._track.error is not None:
            return "yellow"
        return "green" if self._track.over else "cyan"


def _grid(panels: Sequence[_Panel], width: int, height: int | None) -> RenderableType:
    """As many panels abreast as there is room for, the others below; `height` rows in all, or as many as they take."""
    abreast = max(1, min(len(panels), width // _NARROW))
    bands = [panels[start : start + abreast] for start in range(0, len(panels), abreast)]
    each = width // abreast
    grids: list[Table] = []
    for band in bands:
        high = height // len(bands) if height is not None else max(panel.height(each) for panel in band)
        grid = Table.grid()
        grid.add_row(*(panel.draw(each, high) for panel in band))
        grids.append(grid)
    return Group(*grids)


def _joined(pieces: Sequence[str], width: int) -> list[str]:
    """`pieces` in as few lines as they take, broken between two pieces where that can be."""
    lines: list[str] = []
    for piece in pieces:
        if lines and cell_len(together := f"{lines[-1]} · {piece}") <= width:
            lines[-1] = together
        else:
            lines.append(piece)
    return [row for line in lines for row in wrapped(line, width)]


def _summary(tracks: Sequence[Track]) -> list[str]:
    """Which track spoke first, and which is ahead or was done first; of one alone there is nothing to say."""
    if len(tracks) == 1:
        return []
    figures = {track: track.session.statistics for track in tracks}
    words: list[str] = []
    spoke = sorted((at, track.label) for track in tracks if (at := figures[track].time_to_first_output) is not None)
    if len(spoke) > 1 and (lead := spoke[1][0] - spoke[0][0]) >= 0.01:
        words.append(f"first to speak: {spoke[0][1]}, by {lead:.2f} s")
    done = sorted((figures[track].elapsed, track.label) for track in tracks if track.session.status == "completed")
    if done:
        words.append(f"first to finish: {done[0][1]}, in {done[0][0]:.2f} s")
    elif spoke and not all(track.over for track in tracks):
        most = max(tracks, key=lambda track: len(track.text))
        words.append(f"ahead: {most.label}")
    return words
