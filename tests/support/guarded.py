"""A guard that writes down what it is told, and subscribers of what it guards."""

from __future__ import annotations

import asyncio
from typing import Any

from reactivex import Observable

from rxstream.events import Event, RateLimits, UsageReported
from rxstream.gate import Gate
from rxstream.guards import Ticket
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.usage import Usage
from tests.support.knowing import Knowing
from tests.support.scripted import Recorder, Scripted

__all__ = ["LEFT", "USED", "Porter", "asked", "outcome", "subscribe"]

USED = UsageReported(usage=Usage(provenance="reported", input_tokens=3, output_tokens=4))
LEFT = RateLimits(requests_remaining=7)


class Porter:
    """A guard that writes down what it is told.

    Args:
        journal: Where to.
        wait: Seconds until it lets anyone in.
        refuse: What it refuses with.
        fails: Whether it raises when it is left.
    """

    def __init__(
        self,
        name: str = "porter",
        journal: list[tuple[float, str]] | None = None,
        *,
        wait: float = 0.0,
        refuse: Exception | None = None,
        fails: bool = False,
    ) -> None:
        self.name = name
        self.journal = [] if journal is None else journal
        self.tickets: list[Ticket] = []
        self.heard: list[RateLimits] = []
        self._wait = wait
        self._refuse = refuse
        self._fails = fails

    def write(self, what: str) -> None:
        self.journal.append((asyncio.get_running_loop().time(), f"{self.name} {what}"))

    async def enter(self, ticket: Ticket) -> None:
        self.write("asked")
        if self._wait:
            await asyncio.sleep(self._wait)
        if self._refuse is not None:
            raise self._refuse
        self.write("lets in")
        ticket.listen(self.heard.append)
        self.tickets.append(ticket)

    def leave(self, ticket: Ticket) -> None:
        self.write(f"hears {ticket.outcome}")
        if self._fails:
            raise RuntimeError(f"{self.name} is angry")

    @property
    def ticket(self) -> Ticket:
        [ticket] = self.tickets
        return ticket

    @property
    def said(self) -> list[str]:
        return [said.removeprefix(f"{self.name} ") for _, said in self.journal]


def subscribe(source: Observable[Event], *, gate: Gate | None = None) -> tuple[Recorder, Any]:
    recorder = Recorder()
    scheduler = LoopScheduler(gate=gate)
    return recorder, source.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler)


async def outcome(source: Observable[Event]) -> Recorder:
    recorder, _ = subscribe(source)
    await asyncio.sleep(1000)
    return recorder


def asked(script: Scripted) -> Stream[Event]:
    """The script's events, as those of a model that can be asked."""
    return Knowing(script).stream()
