"""``on_error_complete``: an error becomes an event, and the answer is what arrived."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx

from rxstream.aggregate import aggregate
from rxstream.errors import (
    Cancelled,
    ConfigurationError,
    Disconnected,
    LoopShutDown,
    Overloaded,
    StreamIncomplete,
    TracksFailed,
)
from rxstream.events import Event, Failed
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.operators import on_error_complete
from rxstream.tracks import failover, race
from tests.support.contests import Field, Told, reported, started
from tests.support.scripted import DONE, Step, raising
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_the_failure_is_the_last_event() -> None:
    field = Field()
    told = Told(
        field.track("a", 1, started(), 1, "Hel", reported(1), 1, Disconnected("gone")).pipe(on_error_complete())
    )
    await asyncio.sleep(20)
    assert told.story == [(1, "a1 Started"), (2, "a1 'Hel'"), (2, "a1 Usage 1 reported"), (3, "a1 Failed Disconnected")]
    assert (told.completed, told.ended_at) == (True, 3)
    assert [event.seq for event in told.items] == [0, 1, 2, 3]
    assert told.items[-1].at == 3
    assert told.items[-1].error.phase == "output"


@virtual_time
async def test_a_failure_before_any_event_has_the_streams_label() -> None:
    told = Told(Field().track("a", Overloaded("busy")).pipe(on_error_complete()))
    await asyncio.sleep(1)
    assert told.said == ["a1 Failed Overloaded"]


@virtual_time
async def test_the_response_is_partial_wherever_it_is_asked_for() -> None:
    field = Field()
    track = field.track("a", 1, "Hel", reported(1), StreamIncomplete("cut"))
    stream = track.pipe(on_error_complete())
    session = stream.start()
    awaited = await stream
    given = await session
    assert session.status == "completed"
    told = Told(stream)
    await asyncio.sleep(5)
    for response in (awaited, given, aggregate(told.items), told.response):
        assert (response.text, response.finish_reason) == ("Hel", None)
        assert (response.usage.output_tokens, response.usage.provenance) == (1, "partial")


def test_in_plain_code_too() -> None:
    cut: Stream[Event] = Stream.of(rx.throw(Overloaded("busy")))
    assert cut.pipe(on_error_complete()).run().finish_reason is None


@virtual_time
async def test_an_answer_that_is_whole_passes_unchanged() -> None:
    field = Field()
    plain, told = Told(field.track("a", "a", DONE)), Told(field.track("a", "a", DONE).pipe(on_error_complete()))
    await asyncio.sleep(1)
    assert (told.items, told.completed) == (plain.items, True)


@pytest.mark.parametrize(
    "error",
    [Cancelled("x"), LoopShutDown(), ConfigurationError("x"), ZeroDivisionError()],
    ids=lambda error: type(error).__name__,
)
@virtual_time
async def test_what_is_no_failure_of_the_stream_remains_an_error(error: Exception) -> None:
    told = Told(Stream.of(rx.throw(error)).pipe(on_error_complete()))
    await settle()
    assert (told.items, told.error) == ([], error)


@virtual_time
async def test_the_caller_may_say_for_which() -> None:
    for error, completes in ((Overloaded("x"), True), (Disconnected("x"), False)):
        told = Told(Field().track("a", "a", error).pipe(on_error_complete(when=lambda e: isinstance(e, Overloaded))))
        await settle()
        assert told.completed is completes
        assert told.error is (None if completes else error)


@virtual_time
async def test_what_the_callers_function_raises_is_the_error() -> None:
    mine = ZeroDivisionError()
    told = Told(Field().track("a", Overloaded("x")).pipe(on_error_complete(when=lambda _: raising(mine)())))
    await settle()
    assert told.error is mine


@virtual_time
async def test_the_end_waits_for_the_gate_that_the_event_closed() -> None:
    gate = Gate()
    told = Told(
        Field().track("a", 1, "x", Disconnected("x")).pipe(on_error_complete()), scheduler=LoopScheduler(gate=gate)
    )
    told.and_then = lambda item: gate.hold("user") if isinstance(item, Failed) else None
    await asyncio.sleep(5)
    assert (len(told.items), told.ended_at) == (2, None)
    gate.release("user")
    await settle()
    assert (told.completed, told.ended_at) == (True, 5)


@pytest.mark.parametrize("at", [0, 0.5, 1, 2])
@virtual_time
async def test_disposed_at_any_moment_it_leaves_nothing(at: float) -> None:
    field = Field()
    told = Told(field.track("a", 1, "a", 1, Disconnected("x")).pipe(on_error_complete()))
    await asyncio.sleep(at)
    told.subscription.dispose()
    ended = told.ended_at
    await asyncio.sleep(20)
    assert (field.running, told.ended_at) == ([], ended)


@virtual_time
async def test_disposed_by_the_handler_of_the_failure_it_does_not_complete() -> None:
    told = Told(Field().track("a", 1, "a", Disconnected("x")).pipe(on_error_complete()))
    told.and_then = lambda item: told.subscription.dispose() if isinstance(item, Failed) else None
    await asyncio.sleep(5)
    assert (len(told.items), told.ended_at) == (2, None)


@pytest.mark.parametrize("combine", [failover, race], ids=lambda combine: combine.__name__)
@virtual_time
async def test_of_several_tracks_the_failure_is_the_last_ones(combine: Any) -> None:
    field = Field()
    steps: list[Step] = [1, Overloaded("x")]
    told = Told(combine(field.track("a", *steps), field.track("b", *steps)).pipe(on_error_complete()))
    await asyncio.sleep(5)
    assert told.completed
    assert told.items[-1].error.kind == TracksFailed.__name__
    assert told.response.text == ""


def test_what_cannot_be_is_refused_at_once() -> None:
    wrong: Any = 5
    with pytest.raises(ConfigurationError, match="when"):
        on_error_complete(when=wrong)
