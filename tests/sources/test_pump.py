"""The pump: cold, true to its grammar, honest of what went wrong; in exact virtual time."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rxstream import events as ev
from rxstream.config import Timeouts
from rxstream.errors import (
    ConfigurationError,
    Disconnected,
    LimitExceeded,
    Overloaded,
    ServerFault,
    StreamError,
    StreamIncomplete,
)
from rxstream.events import Phase
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.sources._source import Source
from tests.support.pumped import CALL, DEAD, PING, outcome, subscribe
from tests.support.scripted import DONE, HANG, Piece, Recorder, Scripted, Step, raising, words
from tests.support.virtual_loop import virtual_time

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


# --- errors ---------------------------------------------------------------------------------------------------------------

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
