"""``rxstream duo``: a local and a cloud model as one, by a strategy."""

from __future__ import annotations

import argparse

from reactivex import operators as ops

from rxstream.cli._demo import demo_tracks
from rxstream.cli._track import Track
from rxstream.dual import DualTrack
from rxstream.errors import error_of
from rxstream.events import Event, Failed, Finished
from rxstream.observable import Stream
from rxstream.operators import of_track, share
from rxstream.sinks.console import printable
from rxstream.snapshot import Snapshot
from rxstream.usage import Usage

__all__ = ["duo_tracks"]


def duo_tracks(options: argparse.Namespace, prompt: str) -> list[Track]:
    """What to show: the one answer of both tracks, or, for ``side_by_side``, the answers of both.

    Raises:
        MissingDependency: the local model is not installed; the message has the command.
        ConfigurationError: a model is not known, or the strategy does not take an option.
    """
    here, there = demo_tracks(prompt, options.model, here=options.local)
    dual = DualTrack(
        here.stream, there.stream, strategy=options.strategy, after=options.after, takeover=options.takeover
    )
    if options.strategy == "side_by_side":
        both = dual.pipe(share())
        for track in (here, there):
            track.stream = _alone(both, track.stream.label)
        return [here, there]
    return [_Duo(dual, here, there)]


class _Duo(Track):
    """The one answer, with what each track is doing below it."""

    combined = True

    def __init__(self, dual: DualTrack, here: Track, there: Track) -> None:
        super().__init__(dual, target="local:both", note=there.note)
        self.label = dual.strategy
        self._dual = dual
        self._both = (here, there)

    def preload(self) -> None:
        for track in self._both:
            track.preload()

    def price(self, usage: Usage) -> float | None:  # noqa: ARG002 - of both together, which have not one price
        """What both tracks cost, each at its own price; None where that is not known of one that was asked."""
        costs = [
            track.price(snapshot.usage)
            for track, snapshot in zip(self._both, (self._dual.local, self._dual.cloud), strict=True)
            if snapshot.status != "waiting"
        ]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    def figures(self) -> list[str]:
        """Those of the answer, then those of each track."""
        tracks = (self._dual.local, self._dual.cloud)
        return [*super().figures(), *(_doing(track, over=self.over) for track in tracks)]


def _doing(track: Snapshot, *, over: bool) -> str:
    words: str = "not asked" if over and track.status == "waiting" else track.status
    if track.first_output is not None:
        words += f", first token {track.first_output:.2f} s, ≈{track.outputs} tokens"
    elif track.error is not None:
        words += f", {track.error.kind}"
    return printable(f"[{track.label}: {words}]")


def _alone(both: Stream[Event], label: str) -> Stream[Event]:
    """One track of a combination as the stream it was: it ends when it has finished, and fails of what it failed of."""

    def unless_failed(event: Event) -> Event:
        if isinstance(event, Failed):
            raise error_of(event.error)
        return event

    alone = both.pipe(
        of_track(label),
        ops.map(unless_failed),
        ops.take_while(lambda event: not isinstance(event, Finished), inclusive=True),
    )
    alone.label = label
    return alone
