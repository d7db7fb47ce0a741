"""Plain text for pipes and files: the words to standard output, everything about them to standard error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

from rxstream.cli._track import Track, explain

__all__ = ["Plain"]

_PERIOD = 0.05
"""Seconds between two looks at what has come."""


class Plain:
    """Writes one answer as it comes, several one after the other, each under its name."""

    def __init__(self, out: TextIO, err: TextIO, *, quiet: bool = False) -> None:
        self._out = out
        self._err = err
        self._quiet = quiet

    def waiting(self, _words: str) -> AbstractContextManager[None]:
        """Says nothing: there may be nobody who waits."""
        return nullcontext()

    async def follow(self, tracks: Sequence[Track]) -> None:
        """Start the tracks, and write until the last is over."""
        for track in tracks:
            track.start()
        for number, track in enumerate(tracks):
            if len(tracks) > 1:
                lead = "\n" if number else ""
                self._out.write(f"{lead}## {track.label}\n\n")
            await self._follow(track)
            if track.failed:
                self._err.write(f"{track.label}: {explain(track.error)}\n")
            if not self._quiet:
                self._err.write(" · ".join([track.label, *track.figures()]) + "\n")
                self._err.write(f"{track.note}\n" if track.note else "")
        self._out.flush()

    async def _follow(self, track: Track) -> None:
        written = told = 0
        try:
            while True:
                over = track.over
                for notice in track.notices[told:] if not self._quiet else ():
                    self._err.write(f"{track.label}: {notice}\n")
                told = len(track.notices)
                text = track.text
                if len(text) > written:
                    self._out.write(text[written:])
                    written = len(text)
                    self._out.flush()
                if over:
                    return
                await asyncio.sleep(_PERIOD)
        finally:
            if written and not track.text.endswith("\n"):
                self._out.write("\n")
                self._out.flush()
