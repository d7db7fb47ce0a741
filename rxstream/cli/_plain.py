"""Plain text for pipes and files: the words to standard output, everything about them to standard error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TextIO

from rxstream.cli._track import Track, explain

__all__ = ["write"]

_PERIOD = 0.05
"""Seconds between two looks at what has come."""


async def write(tracks: Sequence[Track], out: TextIO, err: TextIO, *, quiet: bool = False) -> None:
    """Write the answers to `out`: one as it comes, several one after the other, each under its name."""
    for track in tracks:
        if len(tracks) > 1:
            out.write(f"## {track.label}\n\n")
        await _follow(track, out)
        if track.failed:
            err.write(f"{track.label}: {explain(track.error)}\n")
        if not quiet:
            err.write(" · ".join([track.label, *track.figures()]) + "\n")
        if len(tracks) > 1:
            out.write("\n")
    out.flush()


async def _follow(track: Track, out: TextIO) -> None:
    written = 0
    try:
        while True:
            over = track.over
            if len(track.text) > written:
                out.write(track.text[written:])
                written = len(track.text)
                out.flush()
            if over:
                return
            await asyncio.sleep(_PERIOD)
    finally:
        if written and not track.text.endswith("\n"):
            out.write("\n")
