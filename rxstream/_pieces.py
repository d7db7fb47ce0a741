"""The text of an answer, cut: what `text`, and a handler that wants words or sentences, agree on."""

from __future__ import annotations

from typing import Final

from rxstream.events import Cancelled, Event, Failed, Finished, Retracted, TextDelta
from rxstream.segment import Splitter, TextUnit

__all__ = ["Pieces"]

_LIMIT: Final = 65_536
_ENDS: Final = frozenset((Finished, Failed, Cancelled))


class Pieces:
    """The text of one choice in units, each as soon as its end is certain; of a combination each track for itself.

    What is retracted before its piece is whole is forgotten. Of a piece of more than 65,536 characters it gives parts.

    Args:
        by: The unit.
        choice: Which answer, where several were asked for.
    """

    def __init__(self, by: TextUnit, choice: int = 0) -> None:
        self._by: TextUnit = by
        self._choice = choice
        self._tracks: dict[str, _Track] = {}

    def feed(self, event: Event) -> list[str]:
        """The pieces that `event` completes."""
        if isinstance(event, TextDelta):
            if event.choice != self._choice:
                return []
            track = self._tracks.get(event.source)
            if track is None:
                track = self._tracks[event.source] = _Track(Splitter(self._by, limit=_LIMIT))
            return track.cut(event)
        if type(event) in _ENDS:
            track = self._tracks.pop(event.source, None)
            return track.splitter.close() if track is not None else []
        if isinstance(event, Retracted):
            track = self._tracks.get(event.source)
            if track is not None and track.attempt == event.attempt:
                return track.retract(0 if self._choice else event.to_offset)
        return []

    def close(self) -> list[str]:
        """What was held, of all tracks."""
        held = [piece for track in self._tracks.values() for piece in track.splitter.close()]
        self._tracks.clear()
        return held


class _Track:
    """What is held of one track's text, and how much of its attempt has come."""

    __slots__ = ("attempt", "came", "splitter")

    def __init__(self, splitter: Splitter) -> None:
        self.splitter = splitter
        self.attempt = 0
        self.came = 0

    def cut(self, event: TextDelta) -> list[str]:
        if event.attempt != self.attempt:
            self.attempt, self.came = event.attempt, 0
        self.came += len(event.text)
        return self.splitter.feed(event.text)

    def retract(self, to_offset: int) -> list[str]:
        """What is held of the first characters of the attempt; the rest is forgotten."""
        keep = self.splitter.held - max(0, self.came - to_offset)
        self.came = min(self.came, to_offset)
        kept = "".join(self.splitter.close())[: max(0, keep)]
        return [kept] if kept else []
