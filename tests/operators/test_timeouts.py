"""``timeouts``: the clocks of content, on any stream, in exact virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as ops
from reactivex.subject import Subject

from rxstream import events as ev
from rxstream._asking import asking_of
from rxstream.errors import Clock, ConfigurationError, Disconnected, LoopShutDown, TimedOut
from rxstream.events import Event, Heartbeat, Phase, Retrying, TextDelta
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.operators import timeouts
from rxstream.sources._pump import pump
from rxstream.tracks import failover, merge
from tests.support.contests import Field, Told, reported, started, watchers
from tests.support.knowing import Knowing
from tests.support.scripted import DONE, HANG, Recorder, Scripted, Step, numbered
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

PING = Heartbeat()
PINGS: list[Step] = [1, PING] * 9
EMPTY: list[Step] = [1, TextDelta(text="")] * 9
CALL = ev.ToolCallStart(id="c", name="f")
CLOCKS: tuple[Clock, ...] = ("first_event", "first_output", "idle", "step", "total")
TIMED: list[tuple[Clock, list[Step], float, Phase]] = [
    ("first_event", [HANG], 5, "first_event"),
    ("first_output", [2, started(), 2, PING, HANG], 5, "first_output"),
    ("first_output", [2, TextDelta(text=""), HANG], 5, "first_output"),
    ("idle", [2, "a", 3, "b", *PINGS, HANG], 10, "output"),
    ("idle", [2, "a", 3, "b", *EMPTY, HANG], 10, "output"),
    ("step", [1, "a"] * 9, 5, "output"),
    ("total", [2, CALL, HANG], 5, "tool_call"),
]


def only(clock: Clock, seconds: float) -> Any:
    options: Any = {clock: seconds}
    return timeouts(**options)


@pytest.mark.parametrize(("clock", "steps", "at", "phase"), TIMED)
@virtual_time
async def test_each_clock_runs_out_at_its_time(clock: Clock, steps: list[Step], at: float, phase: Phase) -> None:
    field = Field()
    told = Told(field.track("a", *steps).pipe(only(clock, 5)))
    await asyncio.sleep(100)
    error = told.failure
    assert isinstance(error, TimedOut)
    assert (error.clock, error.seconds, error.phase, told.ended_at) == (clock, 5, phase, at)
    assert error.partial == told.response
    assert field.closed_at["a"] == [at]
    assert await watchers(told.gate) == 0


@virtual_time
async def test_the_error_names_the_model_and_holds_what_arrived() -> None:
    start = ev.Started(id="1", model="some-1", provider="someone")
    told = Told(Field().track("a", start, "Hel", "lo", reported(2), HANG).pipe(timeouts(idle=5)))
    await asyncio.sleep(100)
    error = told.failure
    assert (error.provider, error.model) == ("someone", "some-1")
    assert error.partial is not None
    assert (error.partial.text, error.partial.usage.output_tokens, error.partial.finish_reason) == ("Hello", 2, None)


@pytest.mark.parametrize("clock", CLOCKS)
@virtual_time
async def test_what_comes_in_time_passes_unchanged(clock: Clock) -> None:
    script = Scripted([1, "a", 4, "b", 4, "c", DONE])
    plain, timed = Recorder(), Recorder()
    for source, recorder in ((script.events(), plain), (script.events().pipe(only(clock, 10)), timed)):
        source.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler())
    await asyncio.sleep(100)
    assert (timed.items, timed.times, timed.completed) == (plain.items, plain.times, True)


@pytest.mark.parametrize("clock", CLOCKS)
@virtual_time
async def test_a_pause_is_no_stall(clock: Clock) -> None:
    """What takes 8 s is not 5 s too late if 4 of them were a pause; what takes 9 is."""
    loop = asyncio.get_running_loop()
    for wait, fails in ((8.0, False), (9.5, True)):
        steps: list[Step] = [wait, PING, "a", DONE] if clock == "first_event" else [wait, "a", DONE]
        gate = Gate()
        told = Told(
            Field().track("a", *(["x"] if clock == "idle" else []), *steps).pipe(only(clock, 5)),
            scheduler=LoopScheduler(gate=gate),
        )
        loop.call_later(3, gate.hold, "user")
        loop.call_later(7, gate.release, "user")
        begun = loop.time()
        await asyncio.sleep(50)
        assert (told.error is not None) is fails, (clock, wait)
        assert told.ended_at == begun + (9 if fails else 8)


@virtual_time
async def test_subscribed_in_a_pause_no_clock_runs_before_it_ends() -> None:
    gate = Gate()
    gate.hold("user")
    told = Told(Stream.of(rx.never()).pipe(timeouts(first_event=5)), scheduler=LoopScheduler(gate=gate))
    await asyncio.sleep(100)
    assert told.ended_at is None
    gate.release("user")
    await asyncio.sleep(100)
    assert isinstance(told.failure, TimedOut)
    assert told.ended_at == 105


@virtual_time
async def test_each_attempt_has_the_clocks_to_itself_but_total() -> None:
    failed = Disconnected("gone").info()
    steps: list[Step] = [4, "a", 1, Retrying(error=failed, delay=3.0), 7, TextDelta(text="b", attempt=2), 3, DONE]
    for options, outcome in (
        ({"first_output": 4.5}, None),
        ({"first_event": 4.5}, None),
        ({"first_output": 3.5}, "first_output"),
        ({"step": 7.5}, None),
        ({"step": 6.0}, "step"),
        ({"idle": 4.5}, None),
        ({"total": 14.0}, "total"),
        ({"first_event": 3.9}, "first_event"),
    ):
        chosen: Any = options
        told = Told(Field().track("a", *steps).pipe(timeouts(**chosen)))
        await asyncio.sleep(50)
        assert getattr(told.error, "clock", None) == outcome, options


@virtual_time
async def test_the_source_is_closed_before_the_error_is_told() -> None:
    disposed: list[float] = []
    loop = asyncio.get_running_loop()
    source: Stream[Event] = Stream.of(rx.never().pipe(ops.finally_action(lambda: disposed.append(loop.time()))))
    seen: list[list[float]] = []
    source.pipe(timeouts(total=5)).subscribe(print, lambda _: seen.append(list(disposed)), scheduler=LoopScheduler())
    await asyncio.sleep(100)
    assert seen == [[5.0]]


@virtual_time
async def test_a_source_that_goes_on_when_it_is_closed_is_heard_no_more() -> None:
    subject: Subject[Event] = Subject()
    told = Told(subject.pipe(timeouts(total=5)))
    await asyncio.sleep(10)
    subject.on_next(TextDelta(text="late"))
    subject.on_error(Disconnected("late"))
    await settle()
    assert (told.items, type(told.error)) == ([], TimedOut)


@pytest.mark.parametrize("end", ["complete", "error"])
@virtual_time
async def test_its_own_end_passes_and_stops_the_clocks(end: str) -> None:
    error = Disconnected("gone")
    steps: list[Step] = ["a", DONE] if end == "complete" else ["a", error]
    told = Told(Field().track("a", *steps).pipe(timeouts(total=5, idle=1, first_output=2)))
    await asyncio.sleep(100)
    assert (told.completed, told.error) == ((True, None) if end == "complete" else (False, error))
    assert await watchers(told.gate) == 0


@virtual_time
async def test_a_source_that_ends_at_once_leaves_no_clock() -> None:
    for source in (rx.empty(), rx.throw(Disconnected("gone"))):
        told = Told(source.pipe(timeouts(total=5)))
        await asyncio.sleep(100)
        assert not isinstance(told.error, TimedOut)
        assert await watchers(told.gate) == 0


@pytest.mark.parametrize("at", [0, 0.5, 1, 4.9, 5, 5.1])
@virtual_time
async def test_disposed_at_any_moment_it_leaves_nothing(at: float) -> None:
    field = Field()
    told = Told(field.track("a", 1, "a", HANG).pipe(timeouts(total=5)))
    await asyncio.sleep(at)
    told.subscription.dispose()
    ended = told.ended_at
    await settle()
    assert field.running == []
    await asyncio.sleep(20)
    assert (told.ended_at, await watchers(told.gate)) == (ended, 0)


@virtual_time
async def test_disposed_while_the_error_waits_at_the_gate_it_is_silent() -> None:
    """The gate closes in another thread's hands just as the clock runs out."""
    gate, loop = Gate(), asyncio.get_running_loop()
    told = Told(Stream.of(rx.never()).pipe(timeouts(total=5)), scheduler=LoopScheduler(gate=gate))
    await asyncio.sleep(4)
    for watcher in tuple(gate._watchers):
        gate.unwatch(watcher)
    gate.hold("user")
    await asyncio.sleep(4)
    assert told.ended_at is None
    told.subscription.dispose()
    gate.release("user")
    await asyncio.sleep(4)
    assert (told.ended_at, loop.time()) == (None, 12)


def test_the_loop_going_down_is_told_while_the_error_waits() -> None:
    recorder = Recorder()

    async def main() -> None:
        gate = Gate()
        Stream.of(rx.never()).pipe(timeouts(total=5)).subscribe(
            recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler(gate=gate)
        )
        await asyncio.sleep(4)
        for watcher in tuple(gate._watchers):
            gate.unwatch(watcher)
        gate.hold("user")
        await asyncio.sleep(4)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    assert isinstance(recorder.error, LoopShutDown)
    assert isinstance(recorder.error.__cause__, TimedOut)


def test_run_from_plain_code_it_runs_on_the_shared_loop() -> None:
    with pytest.raises(TimedOut):
        Stream.of(rx.never()).pipe(timeouts(first_event=0.01)).run()


@virtual_time
async def test_the_answers_of_several_tracks_are_no_partial_answer() -> None:
    field = Field()
    both = merge(field.track("a", "a", HANG), field.track("b", 1, "b", HANG))
    told = Told(both.pipe(timeouts(idle=5)))
    await asyncio.sleep(100)
    assert (told.ended_at, told.failure.partial, field.running) == (6, None, [])


@virtual_time
async def test_a_track_that_is_too_slow_is_failed_over() -> None:
    field = Field()
    told = Told(failover(field.track("a", HANG).pipe(timeouts(first_output=2)), field.track("b", "b", DONE)))
    await asyncio.sleep(100)
    assert told.said == ["a1 Failed TimedOut", "b2 'b'", "b2 Finished"]


@virtual_time
async def test_its_model_can_still_be_asked_again_and_then_is_timed_too() -> None:
    known = Knowing(Scripted([HANG]), Scripted([HANG]), Scripted(["on", HANG]))
    timed = Stream.of(known.stream()).pipe(timeouts(idle=5, first_output=3))
    asking = asking_of(timed)
    assert asking is not None
    assert asking.key == known.key
    conversation = asking.conversation(resumable=False)
    continuation = conversation.go_on("so far")
    assert not isinstance(continuation, str)
    for events, at in ((conversation.ask(), 3), (continuation.events, 105)):
        told = Told(events)
        await asyncio.sleep(100)
        assert (type(told.error), told.ended_at) == (TimedOut, at)
    assert asking_of(rx.never().pipe(timeouts(idle=1))) is None


@given(
    waits=st.lists(st.integers(1, 12), max_size=12),
    pings=st.lists(st.booleans(), min_size=12, max_size=12),
    idle=st.integers(2, 9),
)
def test_idle_is_the_longest_silence_that_is_borne(waits: list[int], pings: list[bool], idle: int) -> None:
    """Against a model of a line: pieces at given times, pings in any of the gaps."""

    @virtual_time
    async def main() -> None:
        steps: list[Step] = ["0"]
        for number, (wait, ping) in enumerate(zip(waits, pings, strict=False), 1):
            steps += [wait / 2, PING, wait / 2] if ping else [wait]
            steps.append(str(number))
        told = Told(Field().track("a", *steps, DONE).pipe(timeouts(idle=idle + 0.5)))
        await asyncio.sleep(1000)
        borne = next((number for number, wait in enumerate(waits) if wait > idle), len(waits))
        assert told.texts == [str(number) for number in range(borne + 1)]
        assert told.completed is (borne == len(waits))
        if not told.completed:
            assert (told.failure.partial, told.ended_at) == (told.response, sum(waits[:borne]) + idle + 0.5)

    main()


@virtual_time
async def test_a_stream_that_never_stops_ends_at_its_total() -> None:
    script = Scripted([step for _ in range(500) for step in (0.01, "x")])
    told = Told(pump(script.source()).pipe(timeouts(total=2)))
    await asyncio.sleep(100)
    assert told.ended_at == 2
    assert 195 <= len(told.items) <= 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "first_event="),
        ({"idle": 0}, "idle"),
        ({"total": -1}, "total"),
        ({"step": float("nan")}, "step"),
        ({"first_event": "soon"}, "first_event"),
        ({"first_output": True}, "first_output"),
    ],
)
def test_what_cannot_be_is_refused_at_once(options: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        timeouts(**options)


@virtual_time
async def test_what_the_observer_raises_comes_back_to_it() -> None:
    script, raised = Scripted(numbered(5)), ZeroDivisionError()
    recorder = Recorder()

    def fail(_: Event) -> None:
        raise raised

    script.events().pipe(timeouts(total=5)).subscribe(fail, recorder.on_error, scheduler=LoopScheduler())
    await asyncio.sleep(100)
    assert (recorder.error, script.running) == (raised, 0)


@virtual_time
async def test_what_is_no_event_is_refused_and_its_source_closed() -> None:
    items: Subject[Any] = Subject()
    told = Told(items.pipe(timeouts(idle=5)))
    items.on_next("Hello")
    items.on_next("again")
    await asyncio.sleep(20)
    assert (type(told.error), told.items, items.observers) == (ConfigurationError, [], [])
    assert str(told.error).startswith("timeouts gets a str, not an event")
    assert not told.gate._watchers
