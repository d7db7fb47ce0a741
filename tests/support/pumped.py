"""Subscribers of the pump, and what becomes of a script that it reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from reactivex import abc

from rxstream import events as ev
from rxstream.errors import Disconnected
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.sources._pump import pump
from rxstream.sources._source import Source
from tests.support.scripted import HANG, Recorder, Scripted

__all__ = ["CALL", "DEAD", "PING", "holding", "outcome", "subscribe", "torn"]

PING = ev.Heartbeat()
CALL = ev.ToolCallStart(id="c", name="f")
DEAD = Disconnected("gone")


def subscribe(
    source: Source[Any], *, gate: Gate | None = None, on_next: Callable[[ev.Event], object] | None = None
) -> tuple[Recorder, abc.DisposableBase]:
    """Subscribe a recorder; `on_next` is called after it has written an event down."""
    recorder = Recorder()

    def both(event: ev.Event) -> None:
        recorder.on_next(event)
        if on_next is not None:
            on_next(event)

    scheduler = LoopScheduler(gate=gate)
    return recorder, pump(source).subscribe(both, recorder.on_error, recorder.on_completed, scheduler=scheduler)


def holding(gate: Gate, seq: int) -> Callable[[ev.Event], None]:
    """A handler that holds the gate at event `seq`."""

    def on_next(event: ev.Event) -> None:
        if event.seq == seq:
            gate.hold("user")

    return on_next


async def outcome(script: Scripted, **options: Any) -> Recorder:
    """What becomes of `script` within a day."""
    recorder, _ = subscribe(script.source(**options))
    await asyncio.sleep(86400)
    return recorder


@asynccontextmanager
async def torn() -> AsyncIterator[AsyncIterator[Any]]:
    """Says nothing, and fails to close."""
    try:
        async with Scripted([HANG]).source().open() as body:
            yield body
    finally:
        raise OSError("closing failed")
