"""The pump and time: six clocks, all of which a pause stops, and turns for everybody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from reactivex import abc

from rxstream import events as ev
from rxstream.config import Timeouts
from rxstream.errors import (
    Clock,
    Disconnected,
    LoopShutDown,
    Overloaded,
    TimedOut,
)
from rxstream.events import Phase
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.sources._pump import pump
from rxstream.sources._source import Source
from tests.support.pumped import CALL, PING, holding, outcome, subscribe, torn
from tests.support.scripted import DONE, HANG, Recorder, Scripted, Step, raising
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

# --- the clocks -----------------------------------------------------------------------------------------------------------

OFF: Any = dict.fromkeys(("connect", "first_event", "first_output", "idle", "step", "total"))
TIMED: list[tuple[Clock, Scripted, float, Phase]] = [
    ("connect", Scripted([], connect=[HANG]), 5, "connect"),
    ("first_event", Scripted([HANG], connect=[2.0]), 7, "first_event"),
    ("first_output", Scripted([2, PING, HANG], connect=[1.0]), 5, "first_output"),
    ("idle", Scripted([2, "a", 3, "b", 1, PING, 1, PING, 1, PING, 1, PING, 1, PING, HANG]), 10, "output"),
    ("step", Scripted([*(step for _ in range(9) for step in (1, "a"))]), 5, "output"),
    ("total", Scripted([2, CALL, HANG]), 5, "tool_call"),
]


@pytest.mark.parametrize(("clock", "script", "at", "phase"), TIMED, ids=[row[0] for row in TIMED])
@virtual_time
async def test_each_clock_ends_the_stream_at_its_time(clock: Clock, script: Scripted, at: float, phase: Phase) -> None:
    recorder = await outcome(script, timeouts=Timeouts(**{**OFF, clock: 5}), provider="someone")
    error = recorder.error
    assert isinstance(error, TimedOut)
    assert (error.clock, error.phase, error.provider, recorder.ended_at) == (clock, phase, "someone", at)
    assert error.partial is not None
    assert error.__traceback__ is None
    assert script.closed == 1


@pytest.mark.parametrize(
    ("clock", "connect", "steps"),
    [
        ("connect", [8.0], [1, "a", DONE]),
        ("first_event", [], [8, "a", DONE]),
        ("first_output", [], [1, PING, 7, "a", DONE]),
        ("idle", [], [1, "a", 8, "b", DONE]),
        ("step", [], [1, "a", 8, "b", DONE]),
        ("total", [], [1, "a", 8, "b", DONE]),
    ],
)
@virtual_time
async def test_a_pause_stops_every_clock_wherever_the_stream_is(
    clock: str, connect: list[Step], steps: list[Step]
) -> None:
    """What takes 8 s is not 5 s too late if 4 of them were a pause, nor 4 s of waiting at the gate itself."""
    gate, loop = Gate(), asyncio.get_running_loop()
    script = Scripted(steps, connect=connect)
    loop.call_later(3, gate.hold, "user")
    loop.call_later(7, gate.release, "user")
    timeouts = Timeouts(**{**OFF, clock: 6})
    recorder, _ = subscribe(script.source(timeouts=timeouts), gate=gate)
    await asyncio.sleep(100)
    assert recorder.completed, recorder.error


@virtual_time
async def test_a_pause_within_a_piece_does_not_make_the_next_output_late() -> None:
    gate = Gate()
    script = Scripted(["a", 9, ("b", "c"), 9, "d", 9, "e", DONE])
    recorder, _ = subscribe(
        script.source(timeouts=Timeouts(**{**OFF, "idle": 10})),
        gate=gate,
        on_next=holding(gate, 1),
    )
    await asyncio.sleep(1009)
    gate.release("user")
    await asyncio.sleep(100)
    assert recorder.completed, recorder.error


@virtual_time
async def test_what_was_read_in_a_pause_re_arms_idle_when_it_is_delivered() -> None:
    gate = Gate()
    script = Scripted(["a", 6, "b", 1008, "c", DONE])
    timeouts = Timeouts(**{**OFF, "idle": 10})
    recorder, _ = subscribe(script.source(timeouts=timeouts, read_ahead=9), gate=gate)
    await asyncio.sleep(5)
    gate.hold("user")
    await asyncio.sleep(1000)
    gate.release("user")
    await asyncio.sleep(100)
    assert recorder.completed, recorder.error
    assert recorder.times == [0, 1005, 1014, 1014]


@virtual_time
async def test_a_clock_of_a_held_stream_runs_on_after_the_release() -> None:
    gate, script = Gate(), Scripted([1, "a", HANG])
    recorder, _ = subscribe(script.source(timeouts=Timeouts(**{**OFF, "idle": 10}), read_ahead=9), gate=gate)
    await asyncio.sleep(2)
    gate.hold("user")
    await asyncio.sleep(1000)
    assert recorder.ended_at is None
    gate.release("user")
    await asyncio.sleep(1000)
    assert isinstance(recorder.error, TimedOut)
    assert recorder.ended_at == 1011


@virtual_time
async def test_a_clock_that_fires_as_the_subscriber_disposes_is_silent() -> None:
    for order in (0, 1):
        script, loop = Scripted([HANG]), asyncio.get_running_loop()
        subscriptions: list[abc.DisposableBase] = []
        if order:
            loop.call_later(5, lambda mine: mine[0].dispose(), subscriptions)
        recorder, subscription = subscribe(script.source(timeouts=Timeouts(**{**OFF, "total": 5})))
        await settle()
        subscriptions.append(subscription)
        if not order:
            loop.call_later(5, lambda mine: mine[0].dispose(), subscriptions)
        await asyncio.sleep(20)
        assert recorder.error is None
        assert script.closed == 1


@virtual_time
async def test_a_clock_that_fires_while_an_error_closes_the_connection_does_not_replace_it() -> None:
    error = Disconnected("gone")

    @asynccontextmanager
    async def slow_to_close() -> AsyncIterator[AsyncIterator[Any]]:
        async with Scripted([1, raising(error)]).source().open() as body:
            try:
                yield body
            finally:
                await asyncio.sleep(20)

    source = Scripted([]).source()
    recorder, _ = subscribe(
        Source(open=slow_to_close, decoder=source.decoder, timeouts=Timeouts(**{**OFF, "total": 5}))
    )
    await asyncio.sleep(100)
    assert (recorder.error, recorder.ended_at) == (error, 21)


@virtual_time
async def test_a_source_that_raises_when_a_clock_stops_it_does_not_hide_the_clock() -> None:
    recorder, _ = subscribe(
        Source(open=torn, decoder=Scripted([]).source().decoder, timeouts=Timeouts(**{**OFF, "total": 5}))
    )
    await asyncio.sleep(10)
    assert isinstance(recorder.error, TimedOut)


# --- fairness -------------------------------------------------------------------------------------------------------------


def slow(seconds: float) -> Callable[[ev.Event], None]:
    """An observer that holds the loop up so long with each event."""

    def on_next(_: ev.Event) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.advance(seconds)

    return on_next


BURST = tuple(str(number) for number in range(500))


@pytest.mark.parametrize("clock", ["step", "total"])
@virtual_time
async def test_what_was_decoded_when_a_clock_runs_out_comes_before_the_error(clock: Clock) -> None:
    script = Scripted([BURST, HANG])
    source = script.source(timeouts=Timeouts(connect=None, first_event=None, first_output=None, **{clock: 1}))
    recorder, _ = subscribe(source, on_next=slow(0.1))
    await asyncio.sleep(1000)
    assert recorder.texts == list(BURST)
    assert isinstance(recorder.error, TimedOut)
    assert recorder.error.clock == clock
    assert recorder.error.partial is not None
    assert recorder.error.partial.text == "".join(BURST)
    assert recorder.ended_at == pytest.approx(50)
    assert script.closed == 1


@virtual_time
async def test_an_answer_that_is_all_there_when_a_clock_runs_out_is_complete() -> None:
    recorder, _ = subscribe(Scripted([(*BURST, DONE)]).source(timeouts=Timeouts(step=1, total=2)), on_next=slow(0.1))
    await asyncio.sleep(1000)
    assert recorder.completed


@virtual_time
async def test_what_the_provider_failed_of_before_a_clock_ran_out_is_told() -> None:
    script = Scripted([(*BURST, Overloaded("busy")), HANG])
    recorder, _ = subscribe(script.source(timeouts=Timeouts(step=1)), on_next=slow(0.1))
    await asyncio.sleep(1000)
    assert recorder.texts == list(BURST)
    assert isinstance(recorder.error, Overloaded)


@virtual_time
async def test_a_slow_observer_is_no_silence_of_the_provider() -> None:
    """The clock ``idle`` begins when it is done with what there was."""
    script = Scripted([BURST, 0.5, "then", 2, "late"])
    recorder, _ = subscribe(script.source(timeouts=Timeouts(idle=1)), on_next=slow(0.1))
    await asyncio.sleep(1000)
    assert recorder.texts == [*BURST, "then"]
    assert isinstance(recorder.error, TimedOut)


@pytest.mark.parametrize("clock", ["first_output", "idle"])
@virtual_time
async def test_a_loop_that_was_held_up_hears_first_what_has_come(clock: Clock) -> None:
    """The clock ran out meanwhile, and the content was there in time."""
    script = Scripted([*(["a"] if clock == "idle" else []), 0.5, "b", 0.5, DONE])
    recorder, _ = subscribe(script.source(timeouts=Timeouts(**{clock: 1})))
    await asyncio.sleep(0.2)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.advance(5)
    await asyncio.sleep(10)
    assert recorder.texts[-1] == "b"
    assert recorder.completed


@virtual_time
async def test_what_was_read_ahead_comes_before_a_clock_that_runs_out_behind_the_pause() -> None:
    """And nothing further is read, also where it is paused once more."""
    gate = Gate()
    script = Scripted(["a", BURST, "b", 1, "c", HANG])

    def on_next(event: ev.Event) -> None:
        if isinstance(event, ev.TextDelta) and event.text == "400":
            gate.hold("again")
        slow(0.1)(event)

    recorder, _ = subscribe(script.source(timeouts=Timeouts(step=10), read_ahead=3), gate=gate, on_next=on_next)
    gate.hold("user")
    await asyncio.sleep(0.5)
    gate.release("user")
    await asyncio.sleep(100)
    assert recorder.ended_at is None
    gate.release("again")
    await asyncio.sleep(100)
    assert recorder.texts == ["a", *BURST, "b"]
    assert isinstance(recorder.error, TimedOut)
    assert (script.closed, gate.read_ahead) == (1, 0)


def test_the_loop_going_down_after_a_clock_ran_out_in_a_burst() -> None:
    """It is told, though the gate is closed: none will open any more."""
    gate = Gate()

    def on_next(event: ev.Event) -> None:
        slow(0.1)(event)
        if isinstance(event, ev.TextDelta) and event.text == "200":
            gate.hold("user")

    async def main() -> Recorder:
        source = Scripted([BURST, HANG]).source(timeouts=Timeouts(step=1))
        recorder, _ = subscribe(source, gate=gate, on_next=on_next)
        await asyncio.sleep(100)
        return recorder

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        recorder = runner.run(main())
    assert isinstance(recorder.error, LoopShutDown)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("silent", [False, True])
@virtual_time
async def test_a_saturated_stream_lets_the_loop_breathe(size: int, silent: bool) -> None:
    """Events of 50 µs each, unpaced, or as many pieces without any event: others run at least every 9 ms."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    turns, done = 0, False

    async def other() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    def costly(_: object) -> None:
        loop.advance(5e-5)

    count = 20_000 // size
    piece: Any = (lambda: costly(None), ()) if silent else (("x",) * size,)
    script = Scripted([*(step for _ in range(count) for step in piece), DONE])
    running = asyncio.ensure_future(other())
    finished = asyncio.Event()
    pump(script.source()).subscribe(costly, on_completed=finished.set, scheduler=LoopScheduler())
    await finished.wait()
    done = True
    await running
    assert turns >= (count if silent else 20_000) * 5e-5 / 0.009
    assert turns < 5000  # and not after every event


def test_many_events_do_not_grow_the_stack(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        heard = 0

        def on_next(_: ev.Event) -> None:
            nonlocal heard
            heard += 1

        done = asyncio.Event()
        Scripted([("x",) * 100_000, DONE]).events().subscribe(on_next, on_completed=done.set, scheduler=LoopScheduler())
        await done.wait()
        return heard

    with caplog.at_level(logging.DEBUG):
        assert asyncio.run(main()) == 100_001
