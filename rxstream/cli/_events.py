"""The events as JSON Lines, for scripts: all tracks in one stream of lines, ``source`` says whose each is.

A track that fails or is cut short ends with a ``failed`` or ``cancelled`` event, so the end of a track is always a line.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

from rxstream.cli._track import Track, explain
from rxstream.errors import Cancelled, error_info
from rxstream.events import Cancelled as CancelledEvent
from rxstream.events import Event, Failed, encode

__all__ = ["JSONLines"]

_PERIOD = 0.05
"""Seconds between two looks at what has come."""
_UNSEEN = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What JSON lets stand as it is, and a terminal or a reader of lines may obey."""


class JSONLines:
    """Writes events to `out`, one a line, in the order in which they come; errors in words to `err`."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err

    def waiting(self, _words: str) -> AbstractContextManager[None]:
        """Says nothing: there may be nobody who waits."""
        return nullcontext()

    async def follow(self, tracks: Sequence[Track]) -> None:
        """Start the tracks, and write until the last is over."""
        arrived: list[Event] = []
        for track in tracks:
            track.start(tell=arrived.append)
        while True:
            over = all(track.over for track in tracks)
            for event in arrived:
                self._write(event)
            arrived.clear()
            if over:
                break
            self._out.flush()
            await asyncio.sleep(_PERIOD)
        for track in tracks:
            if track.error is not None:
                self._write(_last(track.label, track.error))
            if track.failed:
                self._err.write(f"{track.label}: {explain(track.error)}\n")
        self._out.flush()

    def _write(self, event: Event) -> None:
        line = encode(event).decode()
        self._out.write(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", line) + "\n")


def _last(label: str, error: Exception) -> Event:
    if isinstance(error, Cancelled):
        return CancelledEvent(source=label, reason=error.reason)
    return Failed(source=label, error=error_info(error))
