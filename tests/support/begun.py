"""An answer that has begun: what the server does next, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from rxstream.errors import StreamError
from rxstream.events import Event, Phase, TextDelta
from tests.support.asking import DIALECTS, GOOD
from tests.support.live import (
    Outcome,
    Transport,
    stream_from,
    watch,
)
from tests.support.server import (
    HANG,
    Head,
    ScriptedServer,
    Signal,
    Step,
    Wait,
)

__all__ = ["Fault", "begun", "each_dialect", "next_text", "play"]

each_dialect = pytest.mark.parametrize("name", DIALECTS)


def begun(name: str) -> list[bytes]:
    """An answer that has said ``Hel`` and goes on."""
    return GOOD[name]("Hel", terminal=False)


def next_text(name: str, text: str) -> bytes:
    """The event with the text that follows ``Hel``."""
    return GOOD[name]("Hel", text, terminal=False)[-1]


@dataclass(frozen=True)
class Fault:
    """A row: what the server does once ``Hel`` has been delivered, and what must come of it."""

    kind: type[StreamError]
    then: Callable[[str], Sequence[Step]]
    """What follows, for each dialect."""
    text: str = "Hel"
    phase: Phase = "output"
    chunked: bool = True
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


async def play(fault: Fault, name: str, transport: Transport) -> tuple[Outcome, ScriptedServer]:
    delivered = Signal()
    script = [Head(chunked=fault.chunked), *begun(name), Wait(delivered), *fault.then(name)]

    def note(event: Event) -> None:
        if isinstance(event, TextDelta):
            delivered.set()

    with ScriptedServer(script) as server:
        outcome = await watch(stream_from(server, name, transport=transport, **fault.options), on_next=note)
        if script[-1] is HANG:
            await server.requests[0].left.wait_async()
    return outcome, server
