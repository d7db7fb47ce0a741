"""Combinations at play: scripted tracks, a consumer with a gate, and the laws that all combinations that keep every answer obey.

A track is called a, b, c … What was said reads ``a1`` for the text "1" of track a, ``a.`` for its `Finished`, ``a!`` for its
`Failed`.
"""

from __future__ import annotations

import asyncio
import string
from collections.abc import Callable, Sequence
from typing import NoReturn

from hypothesis import strategies as st
from reactivex import abc

from rxstream.errors import Disconnected, TracksFailed
from rxstream.events import Event, Failed, Finished, TextDelta
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.sources._pump import pump
from tests.support.scripted import DONE, Recorder, Scripted, Step
from tests.support.virtual_loop import settle, virtual_time

__all__ = ["BROKEN", "Combination", "Play", "Plot", "counting", "law", "plots", "track"]

Combination = Callable[..., Stream[Event]]


def BROKEN() -> NoReturn:  # noqa: N802 - it stands among the steps as `DONE` and `HANG` do
    """A step at which a track fails."""
    raise Disconnected("gone")


def counting(count: int, *, every: float = 0.0) -> list[Step]:
    """Texts "1" to `count`, each after a wait, and the end."""
    steps: list[Step] = []
    for number in range(1, count + 1):
        steps += [every, str(number)] if every else [str(number)]
    return [*steps, DONE]


def track(script: Scripted, label: str = "", *, read_ahead: int = 0) -> Stream[Event]:
    """The stream of a script."""
    return Stream.of(pump(script.source(label=label, read_ahead=read_ahead)), label=label)


class _Consumer(Recorder):
    """Takes so many at a time, then closes its gate; notes whatever comes while that is closed."""

    def __init__(self, play: Play) -> None:
        super().__init__()
        self._play = play
        self.room: float = float("inf")
        self.intruders: list[object] = []

    def on_next(self, item: Event) -> None:
        self._look(item)
        super().on_next(item)
        self.room -= 1
        if self.room <= 0:
            self._play.gate.hold("consumer")

    def on_error(self, error: Exception) -> None:
        self._look(error)
        super().on_error(error)

    def on_completed(self) -> None:
        self._look("completed")
        super().on_completed()

    def _look(self, what: object) -> None:
        if self._play.gate.closed or self._play.left:
            self.intruders.append(what)


class Play:
    """A combination of scripts, subscribed by `start`.

    Args:
        combination: Makes it.
        scripts: The steps of each track.
    """

    def __init__(self, combination: Combination, *scripts: Sequence[Step]) -> None:
        self.scripts = [Scripted(steps) for steps in scripts]
        self.stream = combination(*(track(script, name) for script, name in zip(self.scripts, _names(), strict=False)))
        self.scheduler = LoopScheduler()
        self.gate = self.scheduler.gate
        self.heard = _Consumer(self)
        self.left = False
        self._subscription: abc.DisposableBase | None = None

    def start(self) -> Play:
        heard = self.heard
        self._subscription = self.stream.subscribe(
            heard.on_next, heard.on_error, heard.on_completed, scheduler=self.scheduler
        )
        return self

    def leave(self) -> None:
        """Dispose the subscription."""
        assert self._subscription is not None
        self.left = self.heard.ended_at is None
        self._subscription.dispose()

    async def take(self, count: int) -> list[str]:
        """What comes when the consumer's gate is opened for `count` events, and half a second."""
        before = len(self.heard.items)
        self.heard.room = count
        self.gate.release("consumer")
        await asyncio.sleep(0.5)
        return [self.shown(item) for item in self.heard.items[before:]]

    @staticmethod
    def shown(event: Event) -> str:
        match event:
            case TextDelta():
                return f"{event.source}{event.text}"
            case Finished():
                return f"{event.source}."
            case Failed():
                return f"{event.source}!"
            case _:
                return f"{event.source}?{type(event).__name__}"

    @property
    def said(self) -> list[str]:
        """All that came."""
        return [self.shown(item) for item in self.heard.items]

    @property
    def timed(self) -> list[tuple[float, str]]:
        """All that came, and when."""
        return list(zip(self.heard.times, self.said, strict=True))

    def assert_released(self) -> None:
        """Nothing is left behind."""
        assert [script.running for script in self.scripts] == [0] * len(self.scripts)
        assert not self.gate._watchers
        assert [name for name in _held(self.gate) if name != "consumer"] == []


def _held(gate: Gate) -> list[str]:
    """All holds on it and on its children."""
    return [*gate._holds, *(name for child in gate._children for name in _held(child))]


def _names() -> list[str]:
    return [*string.ascii_lowercase, *(f"t{number}-" for number in range(200))]


class Plot:
    """Random scripts, and what the consumer does meanwhile.

    Args:
        tracks: For each its waits before each text, and whether it fails in the end.
        pauses: When the gate is closed, and for how long.
        sips: How many events the consumer takes before it closes its gate for a while; None for all.
        leave_at: When the subscription is disposed; None for never.
    """

    def __init__(
        self,
        tracks: Sequence[tuple[Sequence[float], bool]],
        pauses: Sequence[tuple[float, float]],
        sips: int | None,
        leave_at: float | None,
    ) -> None:
        self.tracks = tracks
        self.pauses = pauses
        self.sips = sips
        self.leave_at = leave_at

    def __repr__(self) -> str:
        return f"Plot({self.tracks!r}, {self.pauses!r}, {self.sips!r}, {self.leave_at!r})"

    def scripts(self) -> list[list[Step]]:
        made: list[list[Step]] = []
        for waits, fails in self.tracks:
            steps: list[Step] = []
            for number, wait in enumerate(waits, 1):
                steps += [wait, str(number)] if wait else [str(number)]
            made.append([*steps, BROKEN if fails else DONE])
        return made


_waits = st.sampled_from([0.0, 0.0, 0.25, 1.0, 3.0])
_times = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 5.0])
_lengths = st.sampled_from([0.25, 0.5, 1.0, 3.0])
plots = st.builds(
    Plot,
    st.lists(st.tuples(st.lists(_waits, max_size=8), st.booleans()), min_size=1, max_size=5),
    st.lists(st.tuples(_times, _lengths), max_size=3),
    st.none() | st.integers(1, 5),
    st.none() | _times,
)
"""Random plots."""


def law(combination: Combination, plot: Plot) -> Play:
    """Play the plot; whatever the combination, each track is heard in order, once and whole; there is one end; all is closed."""
    played: list[Play] = []

    @virtual_time
    async def main() -> None:
        play = Play(combination, *plot.scripts())
        played.append(play)
        loop = asyncio.get_running_loop()
        for number, (at, length) in enumerate(plot.pauses):
            loop.call_at(at, play.gate.hold, f"pause{number}")
            loop.call_at(at + length, play.gate.release, f"pause{number}")
        if plot.leave_at is not None:
            loop.call_at(plot.leave_at, play.leave)
        play.start()
        for _ in range(100):
            if plot.sips is not None:
                play.heard.room = plot.sips
                play.gate.release("consumer")
            await asyncio.sleep(1)
        await settle()
        _check(play, plot)

    main()
    return played[0]


def _check(play: Play, plot: Plot) -> None:
    heard = play.heard
    assert not heard.intruders
    for name, (waits, fails) in zip(_names(), plot.tracks, strict=False):
        events = [event for event in heard.items if event.source == name]
        whole = [*(f"{name}{number}" for number in range(1, len(waits) + 1)), f"{name}!" if fails else f"{name}."]
        got = [play.shown(event) for event in events]
        assert got == whole[: len(got)]
        assert play.left or got == whole
        assert [event.seq for event in events] == list(range(len(events)))
    all_failed = all(fails for _, fails in plot.tracks)
    if play.left:
        assert heard.ended_at is None
    elif all_failed:
        assert isinstance(heard.error, TracksFailed)
        assert list(heard.error.errors) == _names()[: len(plot.tracks)]
    else:
        assert heard.completed
    play.assert_released()
