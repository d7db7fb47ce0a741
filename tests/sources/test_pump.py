"""The pump: cold, closed in every ending, true to its grammar, paused by its gate; in exact virtual time."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import gc
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reactivex import abc

from rxstream import events as ev
from rxstream.config import Timeouts
from rxstream.errors import (
    BadRequest,
    Cancelled,
    Clock,
    ConfigurationError,
    Disconnected,
    LimitExceeded,
    LoopShutDown,
    Overloaded,
    ServerFault,
    StreamError,
    StreamIncomplete,
    TimedOut,
)
from rxstream.events import Phase
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.sources._pump import pump
from rxstream.sources._source import Source
from tests.support.scripted import DONE, HANG, Piece, Recorder, Scripted, Step, numbered, raising, words
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

PING = ev.Heartbeat()
CALL = ev.ToolCallStart(id="c", name="f")


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


# --- cold, and the good end -----------------------------------------------------------------------------------------------


@virtual_time
async def test_nothing_happens_before_it_is_subscribed() -> None:
    script = Scripted(words("a"))
    observable = script.events()
    await asyncio.sleep(10)
    assert script.opened == 0
    observable.subscribe(scheduler=LoopScheduler())
    await asyncio.sleep(10)
    assert (script.opened, script.closed) == (1, 1)


@virtual_time
async def test_each_subscription_has_a_connection_of_its_own() -> None:
    script = Scripted(words("a", "b"))
    observable = script.events()
    first, second = Recorder(), Recorder()
    observable.subscribe(first.on_next, scheduler=LoopScheduler())
    await asyncio.sleep(0.5)
    observable.subscribe(second.on_next, scheduler=LoopScheduler())
    await asyncio.sleep(10)
    assert (script.opened, script.closed) == (2, 2)
    assert (first.times, second.times) == ([1, 2, 2], [1.5, 2.5, 2.5])


@virtual_time
async def test_without_a_loop_scheduler_it_runs_on_the_running_loop() -> None:
    script, recorder = Scripted(words("a")), Recorder()
    script.events().subscribe(recorder.on_next, recorder.on_error, recorder.on_completed)
    await asyncio.sleep(10)
    assert recorder.times == [1, 1]


@virtual_time
async def test_events_are_numbered_labelled_and_dated() -> None:
    script = Scripted([1, ("a", "b"), 2, PING, 0.5, "c", DONE, 5, "never read"])
    recorder = await outcome(script, label="left")
    assert [event.seq for event in recorder.items] == [0, 1, 2, 3, 4]
    assert [event.at for event in recorder.items] == [1, 1, 3, 3.5, 3.5] == recorder.times
    assert {event.source for event in recorder.items} == {"left"}
    assert recorder.completed
    assert recorder.ended_at == 3.5
    assert script.given == 4


@virtual_time
async def test_completes_on_the_mark_then_drains_then_closes() -> None:
    script = Scripted(words("a"), drain=3)
    recorder, _ = subscribe(script.source())
    await asyncio.sleep(2)
    assert (recorder.ended_at, script.drained, script.closed) == (1, 0, 0)
    await asyncio.sleep(10)
    assert (script.drained, script.closed) == (1, 1)


@virtual_time
async def test_the_subscribers_context_is_seen_by_the_source_and_the_handlers() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")
    script = Scripted([name.get, 1, name.get, "a", DONE], connect=[name.get])
    heard: list[str] = []
    name.set("ann")
    subscribe(script.source(), on_next=lambda _: heard.append(name.get()))
    name.set("bob")
    await asyncio.sleep(10)
    assert script.seen == ["ann", "ann", "ann"]
    assert heard == ["ann", "ann"]


@virtual_time
async def test_nothing_holds_the_observer_once_it_is_over() -> None:
    recorder, subscription = subscribe(Scripted(words("a")).source())
    watched = weakref.ref(recorder)
    await asyncio.sleep(10)
    del recorder, subscription
    gc.collect()
    assert watched() is None


@virtual_time
async def test_a_stream_that_nobody_holds_runs_on_while_paused() -> None:
    """The loop keeps tasks weakly; the pump must not be collected with its gate."""
    script, gate = Scripted(words("a")), Gate()
    gate.hold("user")
    watched = weakref.ref(gate)
    subscribe(script.source(), gate=gate)
    del gate
    await asyncio.sleep(10)
    gc.collect()
    kept = watched()
    assert kept is not None
    kept.release("user")
    await asyncio.sleep(10)
    assert script.closed == 1


# --- disposing ------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_disposed_before_it_opens_it_never_opens() -> None:
    script = Scripted(words("a"))
    recorder, subscription = subscribe(script.source())
    subscription.dispose()
    await asyncio.sleep(10)
    assert (script.opened, recorder.items, recorder.ended_at) == (0, [], None)


@pytest.mark.parametrize(
    ("script", "after"),
    [
        pytest.param(Scripted([], connect=[HANG]), 1, id="while connecting"),
        pytest.param(Scripted([HANG]), 1, id="before the first event"),
        pytest.param(Scripted([1, "a", HANG]), 5, id="between events"),
        pytest.param(Scripted(words("a"), drain=100), 5, id="while draining"),
    ],
)
@virtual_time
async def test_disposed_in_any_phase_it_closes_and_says_no_more(script: Scripted, after: float) -> None:
    recorder, subscription = subscribe(script.source())
    await asyncio.sleep(after)
    said = len(recorder.items)
    subscription.dispose()
    subscription.dispose()
    await asyncio.sleep(200)
    assert (script.opened, script.closed) == (1, 1)
    assert len(recorder.items) == said
    assert recorder.error is None


@virtual_time
async def test_disposed_while_paused_with_what_it_has_read_it_gives_all_back() -> None:
    gate, script = Gate(), Scripted([1, "a", 1, "b", 1, "c", HANG])
    recorder, subscription = subscribe(script.source(read_ahead=10), gate=gate)
    await asyncio.sleep(1.5)
    gate.hold("user")
    await asyncio.sleep(10)
    assert gate.read_ahead == 1  # "c"; "b" is at the gate
    subscription.dispose()
    await settle()
    assert (script.closed, gate.read_ahead, recorder.texts) == (1, 0, ["a"])


@virtual_time
async def test_disposed_by_its_own_handler_nothing_more_comes_and_it_closes_whole() -> None:
    """The connection is closed without being interrupted, though the handler runs inside the task that closes it."""
    script = Scripted([1, ("a", "b", "c"), "d", DONE])
    subscriptions: list[abc.DisposableBase] = []
    recorder, subscription = subscribe(script.source(), on_next=lambda _: subscriptions[0].dispose())
    subscriptions.append(subscription)
    await asyncio.sleep(10)
    assert recorder.texts == ["a"]
    assert (script.closed, recorder.ended_at) == (1, None)


@virtual_time
async def test_disposed_inside_open_it_closes() -> None:
    subscriptions: list[abc.DisposableBase] = []
    script = Scripted([1, "a", HANG], connect=[lambda: [mine.dispose() for mine in subscriptions]])
    recorder, subscription = subscribe(script.source())
    subscriptions.append(subscription)
    await settle()
    assert (script.opened, script.closed, script.reads) == (1, 1, 0)
    assert recorder.items == []


@pytest.mark.parametrize(
    "steps", [[1, HANG], [1, raising(Disconnected("gone"))], [1, BadRequest("no")], [1, "a"]], ids=str
)
@virtual_time
async def test_disposed_again_while_it_closes_it_still_closes_whole(steps: list[Step]) -> None:
    """Whether it closes because of a disposal, an error, a failure or an early end: a second disposal cuts nothing short."""
    script = Scripted(steps)
    recorder, subscription = subscribe(script.source())
    if HANG in steps:
        await asyncio.sleep(1)
        subscription.dispose()
    else:
        await asyncio.sleep(1)
    while script.opened and not script.closed:
        await asyncio.sleep(0)
        subscription.dispose()
    await settle()
    assert script.closed == 1
    assert recorder.error is None


@virtual_time
async def test_an_error_while_closing_is_not_waited_for_at_a_gate_when_disposed() -> None:
    gate = Gate()
    recorder, subscription = subscribe(Source(open=torn, decoder=Scripted([]).source().decoder), gate=gate)
    await asyncio.sleep(1)
    gate.hold("user")
    subscription.dispose()
    await settle()
    assert recorder.error is None  # and the task is gone, or `virtual_time` would complain


@virtual_time
async def test_disposed_while_an_error_waits_at_the_gate_it_is_silent() -> None:
    gate, script = Gate(), Scripted([1, raising(Disconnected("gone"))])
    gate.hold("user")
    recorder, subscription = subscribe(script.source(read_ahead=1), gate=gate)
    await asyncio.sleep(10)
    subscription.dispose()
    await settle()
    gate.release("user")
    await settle()
    assert recorder.error is None


@virtual_time
async def test_disposed_by_another_thread_between_two_events_it_tells_no_more() -> None:
    """Of the bare source: nothing before the observer silences it."""
    recorder = Recorder()

    def dispose() -> None:
        thread = threading.Thread(target=disposable.dispose)
        thread.start()
        thread.join(10)

    script = Scripted(["a", dispose, "b", HANG])
    disposable = script.events()._subscribe_core(recorder, LoopScheduler())  # type: ignore[arg-type]
    await settle()
    assert (recorder.texts, script.closed) == (["a"], 1)
    assert recorder.ended_at is None


def test_disposed_from_other_threads_it_stops_with_at_most_one_event_more() -> None:
    """Many rounds, each disposed from another thread at a random point of an unpaced stream; always closed whole."""

    async def round_(number: int) -> None:
        script, closed = Scripted([*(str(i) for i in range(20_000)), DONE]), asyncio.Event()
        script.on_close = closed.set
        heard, at_dispose = 0, -1
        go = threading.Event()

        def on_next(_: ev.Event) -> None:
            nonlocal heard
            heard += 1
            if heard == number * 7 + 1:
                go.set()

        def other_thread() -> None:
            nonlocal at_dispose
            go.wait(10)
            subscription.dispose()
            at_dispose = heard

        subscription = pump(script.source()).subscribe(on_next, scheduler=LoopScheduler())
        thread = threading.Thread(target=other_thread)
        thread.start()
        await closed.wait()
        thread.join(10)
        assert heard - at_dispose <= 1
        assert (script.opened, script.closed) == (1, 1)

    async def rounds() -> None:
        for number in range(40):
            await round_(number)

    asyncio.run(rounds())


def test_the_loop_going_down_is_told_and_closes() -> None:
    script = Scripted([1, "a", HANG])

    async def main() -> Recorder:
        recorder, _ = subscribe(script.source())
        await asyncio.sleep(5)
        return recorder

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        recorder = runner.run(main())
    assert isinstance(recorder.error, Cancelled)
    assert recorder.error.partial is not None
    assert recorder.error.partial.text == "a"
    assert script.closed == 1


@pytest.mark.parametrize("steps", [[1, "a", HANG], [1, "a", raising(Disconnected("gone"))]], ids=str)
@pytest.mark.parametrize("read_ahead", [0, 10])
def test_the_loop_going_down_does_not_wait_for_a_paused_stream(steps: list[Step], read_ahead: int) -> None:
    script, gate = Scripted(steps), Gate()

    async def main() -> Recorder:
        recorder, _ = subscribe(script.source(read_ahead=read_ahead), gate=gate)
        await asyncio.sleep(0.5)
        gate.hold("user")
        await asyncio.sleep(5)
        return recorder

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        recorder = runner.run(main())
    assert isinstance(recorder.error, StreamError)
    assert (script.closed, gate.read_ahead) == (1, 0)


def test_the_loop_going_down_before_it_has_begun_is_told() -> None:
    """Subscribed in the loop's last round, its task is cancelled before its first step."""
    script = Scripted(["a", DONE])
    recorders: list[Recorder] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: recorders.append(subscribe(script.source(provider="scripted"))[0]))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    [recorder] = recorders
    assert isinstance(recorder.error, LoopShutDown)
    assert recorder.error.partial is not None
    assert recorder.error.provider == "scripted"
    assert script.opened == 0


def test_an_error_that_waits_at_the_gate_when_the_loop_goes_down_is_the_cause_of_what_is_told() -> None:
    """An error that is told through a closed gate would be kept back by those who obey it, for ever."""
    gate, lost = Gate(), Disconnected("gone")
    gate.hold("user")

    async def main() -> Recorder:
        recorder, _ = subscribe(Scripted([], connect=[raising(lost)]).source(), gate=gate)
        await settle()
        assert recorder.ended_at is None
        return recorder

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        recorder = runner.run(main())
    assert isinstance(recorder.error, Cancelled)
    assert recorder.error.partial is not None
    assert recorder.error.__cause__ is lost


def test_subscribed_on_a_closed_loop_it_fails_by_on_error() -> None:
    loop, recorder = asyncio.new_event_loop(), list[Exception]()
    loop.close()
    Scripted(words("a")).events().subscribe(on_error=recorder.append, scheduler=LoopScheduler(loop))
    assert [type(error) for error in recorder] == [ConfigurationError]


# --- errors ---------------------------------------------------------------------------------------------------------------

DEAD = Disconnected("gone")
PHASES: list[tuple[Phase, Scripted, str]] = [
    ("connect", Scripted([], connect=[raising(DEAD)]), ""),
    ("first_event", Scripted([raising(DEAD)]), ""),
    ("first_output", Scripted([PING, raising(DEAD)]), ""),
    ("output", Scripted([PING, "a", "b", raising(DEAD)]), "ab"),
    ("tool_call", Scripted(["a", CALL, ev.ToolCallDelta(arguments="{"), raising(DEAD)]), "a"),
    ("output", Scripted([CALL, ev.ToolCall(id="c", name="f", arguments="{}"), raising(DEAD)]), ""),
    ("finish", Scripted([("a", DONE, DEAD)]), "a"),
]


@pytest.mark.parametrize(("phase", "script", "text"), PHASES, ids=lambda value: value if isinstance(value, str) else "")
@virtual_time
async def test_an_error_says_how_far_it_was_and_has_what_arrived(phase: Phase, script: Scripted, text: str) -> None:
    recorder = await outcome(script, provider="someone", model="some-1")
    error = recorder.error
    assert error is DEAD
    assert (DEAD.phase, DEAD.provider, DEAD.model) == (phase, "someone", "some-1")
    assert DEAD.partial is not None
    assert DEAD.partial.text == text
    assert DEAD.__traceback__ is None
    assert script.closed == script.opened == 1
    DEAD.provider = DEAD.model = ""


@virtual_time
async def test_an_error_that_names_its_provider_keeps_the_name() -> None:
    error = Overloaded("full")
    error.provider, error.model = "behind-the-router", "other-2"
    await outcome(Scripted([raising(error)]), provider="router", model="any")
    assert (error.provider, error.model) == ("behind-the-router", "other-2")


@virtual_time
async def test_events_before_a_failure_are_delivered_first() -> None:
    failure = Overloaded("full")
    recorder = await outcome(Scripted([1, ("a", "b", failure), HANG]))
    assert recorder.texts == ["a", "b"]
    assert (recorder.error, recorder.ended_at) == (failure, 1)
    assert failure.partial is not None
    assert failure.partial.text == "ab"


@virtual_time
async def test_a_failure_without_events_is_told_at_once() -> None:
    failure = Overloaded("full")
    recorder = await outcome(Scripted([1, failure]))
    assert (recorder.items, recorder.error) == ([], failure)


@pytest.mark.parametrize("steps", [[], [1, "a"], [1, PING]], ids=str)
@virtual_time
async def test_a_body_that_ends_without_the_mark_is_incomplete(steps: list[Step]) -> None:
    recorder = await outcome(Scripted(steps))
    assert isinstance(recorder.error, StreamIncomplete)
    assert not recorder.completed


@virtual_time
async def test_what_the_decoder_gives_at_the_end_of_the_body_is_delivered() -> None:
    """For dialects whose body ends without a mark when all is well."""

    class Late:
        finished = False
        failure: StreamError | None = None

        def feed(self, data: Any, /) -> list[ev.Event]:
            return []

        def close(self) -> list[ev.Event]:
            self.finished = True
            return [DONE]

    script = Scripted(["dropped", 2])
    source = Source(open=script.source().open, decoder=Late)
    recorder, _ = subscribe(source)
    await asyncio.sleep(10)
    assert recorder.completed
    assert [type(event) for event in recorder.items] == [ev.Finished]
    assert recorder.times == [2]


@pytest.mark.parametrize("connect", [True, False])
@virtual_time
async def test_what_the_source_raises_otherwise_is_a_server_fault_with_its_cause(connect: bool) -> None:
    cause = ZeroDivisionError("oops")
    script = Scripted([], connect=[raising(cause)]) if connect else Scripted(["a", raising(cause)])
    recorder = await outcome(script)
    assert isinstance(recorder.error, ServerFault)
    assert recorder.error.__cause__ is cause
    assert "ZeroDivisionError: oops" in str(recorder.error)
    assert not recorder.error.retryable
    assert script.closed == 1


@virtual_time
async def test_a_configuration_error_passes_through() -> None:
    error = ConfigurationError("no key")
    recorder = await outcome(Scripted([], connect=[raising(error)]))
    assert recorder.error is error


@virtual_time
async def test_without_keep_partial_the_error_holds_none() -> None:
    error = Disconnected("gone")
    await outcome(Scripted(["a", raising(error)]), keep_partial=False)
    assert error.partial is None


@pytest.mark.parametrize(("most", "fails"), [(4, False), (3, False), (2, True)])
@virtual_time
async def test_as_many_events_as_allowed_are_delivered_then_comes_the_error(most: int, fails: bool) -> None:
    script = Scripted(["a", "b", "c"] if fails else ["a", "b", DONE])
    source = script.source()
    recorder, _ = subscribe(Source(open=source.open, decoder=source.decoder, timeouts=source.timeouts, max_events=most))
    await asyncio.sleep(10)
    assert isinstance(recorder.error, LimitExceeded) is fails
    assert recorder.texts == ["a", "b"]


# --- observers that misbehave ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raised", [ValueError("mine"), Disconnected("mine"), ConfigurationError("mine")], ids=repr)
@virtual_time
async def test_what_a_handler_raises_comes_back_to_it_and_closes(raised: Exception) -> None:
    script = Scripted([1, ("a", "b"), HANG])

    def on_next(_: ev.Event) -> None:
        raise raised

    recorder, _ = subscribe(script.source(), on_next=on_next)
    await asyncio.sleep(10)
    assert (recorder.error, recorder.texts, recorder.ended_at) == (raised, ["a"], 1)
    assert script.closed == 1


@pytest.mark.parametrize("last", ["on_completed", "on_error", "none"])
@virtual_time
async def test_what_a_last_callback_raises_is_told_to_the_loop_and_the_connection_closes_whole(last: str) -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    raised, error = ValueError("mine"), Disconnected("gone")
    script = Scripted(words("a") if last == "on_completed" else [raising(error)], drain=1)

    def fail(*_: object) -> None:
        raise raised

    on_error = None if last == "none" else fail
    script.events().subscribe(None, on_error, fail, scheduler=LoopScheduler())
    await asyncio.sleep(10)
    assert told == [error if last == "none" else raised]
    assert script.closed == 1
    assert script.drained == (last == "on_completed")


# --- the gate -------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_after_a_hold_on_the_loop_nothing_is_delivered() -> None:
    gate, script = Gate(), Scripted([1, ("a", "b", "c"), 1, "d", DONE])
    recorder, _ = subscribe(script.source(), gate=gate, on_next=holding(gate, 1))
    await asyncio.sleep(10)
    assert recorder.texts == ["a", "b"]
    gate.release("user")
    await asyncio.sleep(10)
    assert recorder.texts == ["a", "b", "c", "d"]
    assert recorder.times == [1, 1, 10, 11, 11]
    assert [event.seq for event in recorder.items] == [0, 1, 2, 3, 4]


@virtual_time
async def test_a_hold_right_behind_a_release_lets_nothing_through() -> None:
    """However many rounds of the loop lie between the two."""
    for rounds in range(8):
        gate = Gate()
        gate.hold("user")
        recorder, subscription = subscribe(Scripted(["a", HANG]).source(), gate=gate)
        await asyncio.sleep(1)
        gate.release("user")
        for _ in range(rounds):
            await asyncio.sleep(0)
        before = list(recorder.texts)
        gate.hold("user")
        await asyncio.sleep(1)
        assert recorder.texts == before
        subscription.dispose()


@pytest.mark.parametrize(("steps", "last"), [(["a", "b", DONE], 0), ([("a", DONE)], 1)])
@virtual_time
async def test_a_hold_right_behind_a_release_keeps_the_end_back_and_reads_nothing(steps: list[Step], last: int) -> None:
    """As above, where the pump waits for the gate between pieces, and before the end."""
    for rounds in range(8):
        gate, script = Gate(), Scripted(steps)
        recorder, subscription = subscribe(script.source(), gate=gate, on_next=holding(gate, last))
        await asyncio.sleep(1)
        gate.release("user")
        for _ in range(rounds):
            await asyncio.sleep(0)
        before = (script.reads, recorder.completed)
        gate.hold("user")
        await asyncio.sleep(1)
        assert (script.reads, recorder.completed) == before
        subscription.dispose()
        await settle()


@virtual_time
async def test_a_source_made_on_demand_is_not_advanced_while_the_gate_is_closed() -> None:
    gate, script = Gate(), Scripted(["a", "b", "c", DONE])
    recorder, _ = subscribe(script.source(), gate=gate, on_next=holding(gate, 1))
    await asyncio.sleep(10)
    assert (recorder.texts, script.reads, gate.read_ahead) == (["a", "b"], 2, 0)
    gate.release("user")
    await asyncio.sleep(1)
    assert recorder.completed


@virtual_time
async def test_read_ahead_is_bounded_and_visible_and_goes_back_to_nothing() -> None:
    gate, script = Gate(), Scripted(numbered(20))
    child = gate.child()
    recorder, _ = subscribe(script.source(read_ahead=5), gate=child, on_next=holding(child, 2))
    await asyncio.sleep(10)
    assert (script.given, gate.read_ahead, child.read_ahead) == (8, 5, 5)
    child.release("user")
    await asyncio.sleep(1)
    assert recorder.texts == [f"{number} " for number in range(20)]
    assert (gate.read_ahead, recorder.completed) == (0, True)


@virtual_time
async def test_bytes_are_counted_as_bytes() -> None:
    """One piece may pass the bound: it is a network read."""

    class Bytes:
        finished, failure = False, None

        def feed(self, data: bytes, /) -> list[ev.Event]:
            self.finished = data == b"end"
            return [ev.TextDelta(text=data.decode())]

        def close(self) -> list[ev.Event]:
            return []

    @asynccontextmanager
    async def open_() -> AsyncIterator[AsyncIterator[bytes]]:
        async def body() -> AsyncIterator[bytes]:
            for piece in (b"123456", b"78", b"90", b"end"):
                yield piece

        yield body()

    gate = Gate()
    gate.hold("user")
    recorder, _ = subscribe(Source(open=open_, decoder=Bytes, read_ahead=7), gate=gate)
    await asyncio.sleep(1)
    assert gate.read_ahead == 8
    gate.release("user")
    await asyncio.sleep(1)
    assert (recorder.texts, gate.read_ahead) == (["123456", "78", "90", "end"], 0)


@virtual_time
async def test_what_is_read_ahead_keeps_the_time_at_which_it_was_read() -> None:
    gate, script = Gate(), Scripted(words("a", "b", "c"))
    recorder, _ = subscribe(script.source(read_ahead=10), gate=gate, on_next=holding(gate, 0))
    await asyncio.sleep(100)
    gate.release("user")
    await asyncio.sleep(1)
    assert recorder.times == [1, 100, 100, 100]
    assert [event.at for event in recorder.items] == [1, 2, 3, 3]


@pytest.mark.parametrize("read_ahead", [0, 10])
@pytest.mark.parametrize(
    ("last", "error"), [(DONE, None), (raising(DEAD), DEAD), (DEAD, DEAD), (("b", DEAD), DEAD)], ids=str
)
@virtual_time
async def test_an_end_that_comes_in_a_pause_waits_its_turn(
    last: Step, error: Exception | None, read_ahead: int
) -> None:
    gate, script = Gate(), Scripted([1, "a", 1, last])
    recorder, _ = subscribe(script.source(read_ahead=read_ahead), gate=gate)
    await asyncio.sleep(0.5)
    gate.hold("user")
    await asyncio.sleep(50)
    assert (recorder.items, recorder.ended_at) == ([], None)
    gate.release("user")
    await asyncio.sleep(10)
    assert recorder.texts == ["a", "b"][: 1 + isinstance(last, tuple)]
    assert (recorder.error, recorder.completed) == (error, error is None)


@virtual_time
async def test_the_end_itself_waits_when_the_last_event_closed_the_gate() -> None:
    gate, script = Gate(), Scripted(["a", DONE])
    recorder, _ = subscribe(script.source(read_ahead=9), gate=gate, on_next=holding(gate, 1))
    await asyncio.sleep(10)
    assert (len(recorder.items), recorder.completed, script.reads) == (2, False, 2)
    gate.release("user")
    await settle()
    assert recorder.completed


def test_a_hold_from_another_thread_lets_at_most_one_event_through() -> None:
    async def main() -> None:
        gate = Gate()
        heard = 0

        def on_next(_: ev.Event) -> None:
            nonlocal heard
            heard += 1

        script = Scripted([*(str(i) for i in range(50_000)), DONE])
        subscription = pump(script.source()).subscribe(on_next, scheduler=LoopScheduler(gate=gate))

        def hammer() -> int:
            worst = 0
            for _ in range(50):
                gate.hold("thread")
                before = heard
                for _ in range(200):
                    worst = max(worst, heard - before)
                gate.release("thread")
            return worst

        assert await asyncio.to_thread(hammer) <= 1
        subscription.dispose()
        await settle()
        assert script.closed == 1

    asyncio.run(main())


pieces = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.0, 0.5, 1.0)), st.lists(st.sampled_from(("x", "yy", PING)), min_size=1, max_size=4)
    ),
    max_size=12,
)
actions = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.25, 0.5, 1.0, 3.0)), st.sampled_from(("hold a", "hold b", "release a", "release b"))
    ),
    max_size=12,
)


@given(pieces, actions, st.integers(0, 5), st.sampled_from(("end", "fail", "dispose")), st.floats(0, 20))
def test_any_pauses_lose_and_repeat_nothing(
    made: list[tuple[float, list[Any]]],
    pauses: list[tuple[float, str]],
    read_ahead: int,
    ending: str,
    disposed_at: float,
) -> None:
    """Law: pieces, pauses by two parties, resumes and a disposal, in any interleaving: each event once, in order, and
    never while the gate is closed; what was read ahead is bounded; the connection is closed; nothing is left.
    """
    expected = [event for _, piece in made for event in piece]
    last: list[Step] = [DONE] if ending != "fail" else [raising(Disconnected("gone"))]
    script = Scripted([step for wait, piece in made for step in (wait, tuple(piece))] + last)
    gate = Gate()

    def never_closed(_: ev.Event) -> None:
        assert not gate.closed

    @virtual_time
    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder, subscription = subscribe(script.source(read_ahead=read_ahead), gate=gate, on_next=never_closed)
        if ending == "dispose":
            loop.call_later(disposed_at, subscription.dispose)
        for wait, action in pauses:
            await asyncio.sleep(wait)
            what, name = action.split()
            (gate.hold if what == "hold" else gate.release)(name)
            assert gate.read_ahead <= read_ahead
        await asyncio.sleep(30)
        gate.release("a")
        gate.release("b")
        await asyncio.sleep(30)
        said = [event for event in recorder.items if not isinstance(event, ev.Finished)]
        texts = [event.text if isinstance(event, ev.TextDelta) else PING for event in said]
        assert texts == expected[: len(texts)]
        assert [event.seq for event in recorder.items] == list(range(len(recorder.items)))
        if ending != "dispose":
            assert texts == expected
            assert recorder.completed is (ending == "end")
        assert script.closed == script.opened
        assert gate.read_ahead == 0

    main()


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


# --- before the clocks ----------------------------------------------------------------------------------------------------


def prepared(script: Scripted, prepare: Callable[[], Awaitable[None]], **options: Any) -> Source[Any]:
    return dataclasses.replace(script.source(**options), prepare=prepare)


@virtual_time
async def test_no_clock_counts_the_preparation() -> None:
    """Loading an SDK or a local model is not the provider's time."""
    source = prepared(
        Scripted(words("a")), lambda: asyncio.sleep(1000), timeouts=Timeouts(connect=1, first_output=2, total=3)
    )
    recorder, _ = subscribe(source)
    await asyncio.sleep(86400)
    assert (recorder.texts, recorder.error) == (["a"], None)
    assert recorder.times[0] == 1001


@virtual_time
async def test_disposed_while_it_prepares_it_never_opens() -> None:
    script = Scripted(words("a"))
    recorder, subscription = subscribe(prepared(script, lambda: asyncio.sleep(1000)))
    await asyncio.sleep(1)
    subscription.dispose()
    await asyncio.sleep(86400)
    assert (script.opened, recorder.texts, recorder.error) == (0, [], None)


@virtual_time
async def test_what_the_preparation_raises_is_told() -> None:
    async def prepare() -> None:
        raise ConfigurationError("no key")

    script = Scripted(words("a"))
    recorder, _ = subscribe(prepared(script, prepare))
    await asyncio.sleep(1)
    assert isinstance(recorder.error, ConfigurationError)
    assert script.opened == 0


# --- what the response's headers said ---------------------------------------------------------------------------------------


class _WithHeaders(Scripted):
    """Its response says how much is left."""

    limits = ev.RateLimits(requests_remaining=7)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[AsyncIterator[Piece]]:
        async with super()._open() as body:
            vars(body)["rate_limits"] = self.limits
            yield body


@pytest.mark.parametrize(
    "steps",
    [
        [(ev.Started(id="1"), "Hel"), (DONE,)],
        [ev.Heartbeat(), ev.Heartbeat(), (ev.Status(status="queued"), ev.Started(id="1")), "Hel", DONE],
    ],
)
@virtual_time
async def test_what_the_headers_say_of_limits_is_told_by_the_first_event_that_names_the_answer(
    steps: list[Step],
) -> None:
    recorder = await outcome(_WithHeaders([*steps[:-1], ev.Started(id="2"), DONE]))
    told = [event.rate_limits for event in recorder.items if isinstance(event, ev.Started)]
    assert told == [_WithHeaders.limits, None]
    assert recorder.completed


@virtual_time
async def test_an_answer_that_goes_on_names_none() -> None:
    """What comes after content is not the beginning."""
    recorder = await outcome(_WithHeaders(["Hel", ev.Started(id="2"), DONE]))
    assert [event.rate_limits for event in recorder.items if isinstance(event, ev.Started)] == [None]
