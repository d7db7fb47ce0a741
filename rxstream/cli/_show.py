"""The live picture in a terminal, drawn with rich: one track with its status line, or several side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rxstream.cli._track import Track, explain

__all__ = ["show"]

_PERIOD = 0.1
"""Seconds between two pictures."""


async def show(tracks: Sequence[Track], console: Console) -> None:
    """Draw the running `tracks` until the last is over, then leave their whole text on the screen."""
    picture = _One(tracks[0], console) if len(tracks) == 1 else _Beside(tracks, console)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        try:
            while not all(track.over for track in tracks):
                live.update(picture.now(), refresh=True)
                await asyncio.sleep(_PERIOD)
        finally:
            live.update(Text(), refresh=True)
    picture.leave()
    for track in tracks:
        if track.failed:
            console.print(Text(f"{track.label}: {explain(track.error)}", style="red"))


def _status(track: Track) -> Text:
    words = Text(" · ".join([track.label, *track.figures()]), style="dim", overflow="ellipsis", no_wrap=True)
    if track.failed:
        words.stylize("red")
    return words


class _One:
    """Whole lines go up into the scroll-back; the line being written stays above the status line."""

    def __init__(self, track: Track, console: Console) -> None:
        self._track = track
        self._console = console
        self._printed = 0

    def now(self) -> RenderableType:
        whole = self._track.text.rfind("\n") + 1
        if whole > self._printed:
            self._console.print(Text(self._track.text[self._printed : whole]), end="")
            self._printed = whole
        rest = Text(self._track.text[self._printed :], overflow="fold")
        return Group(_tail(rest, self._console, self._console.width, self._console.height - 2), _status(self._track))

    def leave(self) -> None:
        rest = self._track.text[self._printed :]
        if rest:
            self._console.print(Text(rest))
        self._console.print(_status(self._track))


class _Beside:
    """A column a track, each with its own figures, and who is ahead below."""

    def __init__(self, tracks: Sequence[Track], console: Console) -> None:
        self._tracks = tracks
        self._console = console

    def now(self) -> RenderableType:
        return Group(self._columns(self._console.height - 2), Text(_ahead(self._tracks), style="dim", no_wrap=True))

    def leave(self) -> None:
        self._console.print(self._columns(None))
        self._console.print(Text(_ahead(self._tracks), style="bold"))

    def _columns(self, height: int | None) -> RenderableType:
        grid = Table.grid(expand=True)
        for _ in self._tracks:
            grid.add_column(ratio=1)
        grid.add_row(*(self._panel(track, height) for track in self._tracks))
        return grid

    def _panel(self, track: Track, height: int | None) -> Panel:
        width = self._console.width // len(self._tracks) - 4
        body = Text(track.text, overflow="fold")
        figures = Columns([Text(piece, style="dim") for piece in track.figures()], padding=(0, 2))
        if height is not None:
            body = _tail(body, self._console, width, max(1, height - 5))
        style = "red" if track.failed else "green" if track.over else "cyan"
        return Panel(
            Group(body, Text(), figures),
            title=Text(track.label, overflow="ellipsis"),
            height=height,
            border_style=style,
        )


def _tail(text: Text, console: Console, width: int, rows: int) -> Text:
    """The last `rows` rows of `text`, wrapped."""
    wrapped = text.wrap(console, max(1, width))
    return Text("\n").join(wrapped[-rows:])


def _ahead(tracks: Sequence[Track]) -> str:
    """Which track spoke first, which has more to say, which was done first."""
    words: list[str] = []
    spoke = [
        (stats.time_to_first_output, track)
        for track in tracks
        if (stats := track.session.statistics) and stats.time_to_first_output is not None
    ]
    if spoke:
        first = min(spoke, key=lambda pair: pair[0] or 0.0)
        later = sorted(time or 0.0 for time, _ in spoke)
        lead = f" by {later[1] - later[0]:.2f} s" if len(later) > 1 else ""
        words.append(f"first to speak: {first[1].label}{lead}")
    running = [track for track in tracks if not track.over]
    if running:
        most = max(tracks, key=lambda track: len(track.text))
        words.append(f"ahead: {most.label}" if most.text else "nobody has spoken yet")
    else:
        done = [track for track in tracks if track.session.status == "completed"]
        if done:
            quickest = min(done, key=lambda track: track.session.statistics.elapsed)
            words.append(f"first to finish: {quickest.label} in {quickest.session.statistics.elapsed:.2f} s")
    return " · ".join(words)
