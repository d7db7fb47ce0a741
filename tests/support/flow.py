"""An operator of flow control between a source and a consumer whose gate opens and closes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from hypothesis import strategies as st
from reactivex import Observable, Subject

from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from tests.support.scripted import Recorder
from tests.support.virtual_loop import settle

__all__ = ["Act", "Flow", "Operator", "acts"]

Operator = Callable[[Observable[Any]], Observable[Any]]
Act = Literal["send", "hold", "release", "close", "open", "wait"]
"""What may happen: to the consumer's gate, and to a valve's."""

acts = st.lists(st.sampled_from(["send", "send", "send", "hold", "release", "close", "open", "wait"]), max_size=60)
"""Any order of them."""


class Flow:
    """`source`, by default one that obeys no gate, subscribed through `operator`; the consumer is told nothing while it is held."""

    def __init__(self, operator: Operator, source: Observable[Any] | None = None) -> None:
        self.subject: Subject[Any] = Subject()
        self.recorder = Recorder()
        self.out_of_turn: list[Any] = []
        self.scheduler = LoopScheduler()
        self.gate = self.scheduler.gate
        stream = (self.subject if source is None else source).pipe(operator)
        self.subscription = stream.subscribe(
            self._on_next, self.recorder.on_error, self.recorder.on_completed, scheduler=self.scheduler
        )

    def send(self, *items: Any) -> None:
        for item in items:
            self.subject.on_next(item)

    def hold(self) -> None:
        self.gate.hold("consumer")

    async def release(self) -> None:
        self.gate.release("consumer")
        await settle()

    def turn(self, step: str, valve: Gate) -> None:
        """Do what `step` says about the gates."""
        match step:
            case "hold":
                self.hold()
            case "release":
                self.gate.release("consumer")
            case "close":
                valve.hold("test")
            case "open":
                valve.release("test")
            case _:
                pass

    async def follow(self, steps: Sequence[str], valve: Gate, make: Callable[[int], Any] = int) -> list[Any]:
        """Do what `steps` say, then open all and complete; what was sent."""
        sent: list[Any] = []
        for step in steps:
            if step == "send":
                sent.append(make(len(sent)))
                self.send(sent[-1])
            elif step == "wait":
                await settle()
            else:
                self.turn(step, valve)
        valve.release("test")
        await self.release()
        self.subject.on_completed()
        return sent

    @property
    def items(self) -> list[Any]:
        """What came, none of it while the consumer was held."""
        assert not self.out_of_turn
        return self.recorder.items

    def _on_next(self, item: Any) -> None:
        if self.gate.closed:
            self.out_of_turn.append(item)
        self.recorder.on_next(item)
