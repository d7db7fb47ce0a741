"""Several scripted tracks, and what a subscriber of their combination is told, in short words and with exact times."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from reactivex import Observable, abc

from rxstream.aggregate import Answers
from rxstream.errors import StreamError
from rxstream.events import Event, Failed, Retracted, Started, TextDelta, UsageReported
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.response import Response
from rxstream.sources._pump import pump
from rxstream.usage import Usage
from tests.support.scripted import Recorder, Scripted, Step
from tests.support.virtual_loop import settle

__all__ = ["Field", "Told", "reported", "started", "watchers"]


def started(model: str = "m") -> Started:
    return Started(id=f"id-{model}", model=model)


def reported(output: int, *, input_tokens: int | None = None, total_tokens: int | None = None) -> UsageReported:
    usage = Usage(provenance="reported", output_tokens=output, input_tokens=input_tokens, total_tokens=total_tokens)
    return UsageReported(usage=usage)


class Field:
    """Tracks that follow scripts."""

    def __init__(self) -> None:
        self.scripts: dict[str, Scripted] = {}
        self.closed_at: dict[str, list[float]] = {}

    def track(self, label: str, *steps: Step, connect: Sequence[Step] = ()) -> Stream[Event]:
        script = self.scripts[label] = Scripted(steps, connect=connect)
        times = self.closed_at[label] = []
        script.on_close = lambda: times.append(asyncio.get_running_loop().time())
        return Stream.of(pump(script.source(label=label)), label=label)

    @property
    def running(self) -> list[str]:
        """Tracks whose connection is open."""
        return [label for label, script in self.scripts.items() if script.running]

    @property
    def opened(self) -> dict[str, int]:
        return {label: script.opened for label, script in self.scripts.items()}


class Told(Recorder):
    """A subscriber of a combination.

    Args:
        source: It.
        pauses: Whether it closes its gate for a second after each event.
        scheduler: Whose loop and gate to use; those of the running loop, and a new gate.
    """

    def __init__(
        self, source: Observable[Event], *, pauses: bool = False, scheduler: LoopScheduler | None = None
    ) -> None:
        super().__init__()
        on = scheduler or LoopScheduler()
        self.gate: Gate = on.gate
        self._pauses = pauses
        self.subscription: abc.DisposableBase = source.subscribe(
            self.on_next, self.on_error, self.on_completed, scheduler=on
        )

    def on_next(self, item: Event) -> None:
        assert not self.gate.closed, f"{item!r} came while the gate was closed"
        super().on_next(item)
        if self._pauses:
            self.gate.hold("told")
            asyncio.get_running_loop().call_later(1, self.gate.release, "told")

    @property
    def said(self) -> list[str]:
        """Each event in a word: its source, its attempt, and what it is."""
        return [f"{event.source}{event.attempt} {_word(event)}" for event in self.items]

    @property
    def story(self) -> list[tuple[float, str]]:
        return list(zip(self.times, self.said, strict=True))

    @property
    def response(self) -> Response:
        """The one answer."""
        answers = Answers()
        for event in self.items:
            answers.add(event)
        return answers.response()

    @property
    def failure(self) -> StreamError:
        assert isinstance(self.error, StreamError), f"it ended with {self.error!r}"
        return self.error


def _word(event: Event) -> str:
    match event:
        case TextDelta():
            return repr(event.text)
        case Retracted():
            return f"Retracted {event.to_offset}"
        case UsageReported():
            return f"Usage {event.usage.output_tokens} {event.usage.provenance}"
        case Failed():
            return f"Failed {event.error.kind}"
        case _:
            return type(event).__name__


async def watchers(gate: Gate) -> int:
    """Who still watches a gate, when all that was disposed has gone."""
    await settle()
    return len(gate._watchers)
