"""``guard``: who is asked before a request, in which order, and what each is told; in exact virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxstream import events as ev
from rxstream._asking import ModelKey, asking_of
from rxstream.bulkhead import Bulkhead
from rxstream.errors import (
    BulkheadFull,
    ConfigurationError,
    Disconnected,
    Overloaded,
    StreamError,
)
from rxstream.events import Event, Started, TextDelta, UsageReported
from rxstream.gate import Gate
from rxstream.guards import Ticket
from rxstream.observable import Stream
from rxstream.operators import guard, limit, retry_stream, timeouts
from rxstream.response import Response
from rxstream.usage import Usage
from tests.support.guarded import LEFT, USED, Porter, asked, outcome, subscribe
from tests.support.knowing import Knowing
from tests.support.scripted import DONE, HANG, Recorder, Scripted, Step, words
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

# --- before the request -----------------------------------------------------------------------------------------------------


@virtual_time
async def test_guards_are_asked_in_order_and_left_in_the_opposite_one() -> None:
    journal: list[tuple[float, str]] = []
    script = Scripted(words("Hel", "lo"))
    guards = Porter("a", journal, wait=2), Porter("b", journal, wait=3)
    recorder = await outcome(script.events().pipe(guard(*guards)))
    assert journal == [
        (0, "a asked"),
        (2, "a lets in"),
        (2, "b asked"),
        (5, "b lets in"),
        (7, "b hears completed"),
        (7, "a hears completed"),
    ]
    assert (recorder.texts, recorder.times, recorder.completed) == (["Hel", "lo"], [6, 7, 7], True)


@virtual_time
async def test_nothing_is_asked_of_anyone_before_it_is_subscribed_and_then_anew_each_time() -> None:
    porter, script = Porter(), Scripted(["Hello", DONE])
    source = script.events().pipe(guard(porter))
    await settle()
    assert not porter.journal
    for number in (1, 2):
        await outcome(source)
        assert porter.said == ["asked", "lets in", "hears completed"] * number
    assert script.opened == 2
    assert len({*porter.tickets}) == 2


@virtual_time
async def test_a_refusal_is_the_streams_error_and_nothing_is_sent() -> None:
    journal: list[tuple[float, str]] = []
    script = Scripted(["Hello", DONE])
    refusal = BulkheadFull("too many", retry_after=4)
    guards = Porter("a", journal), Porter("b", journal, wait=3, refuse=refusal), Porter("c", journal)
    recorder = await outcome(asked(script).pipe(guard(*guards)))
    assert [said for _, said in journal] == ["a asked", "a lets in", "b asked", "a hears failed"]
    ticket = guards[0].ticket
    assert (recorder.error, recorder.ended_at, script.opened) == (refusal, 3, 0)
    assert (refusal.provider, refusal.model, refusal.phase) == ("scripted", "scripted-1", "request")
    assert refusal.partial == Response()
    assert (ticket.error, ticket.sent_at, ticket.asked_at) == (refusal, None, 0)


@virtual_time
async def test_a_refusal_keeps_whose_it_says_it_is() -> None:
    refusal = Overloaded("no")
    refusal.provider, refusal.model, refusal.partial = "other", "other-1", Response(id="1")
    recorder = await outcome(asked(Scripted([DONE])).pipe(guard(Porter(refuse=refusal))))
    assert recorder.error is refusal
    assert (refusal.provider, refusal.model, refusal.partial) == ("other", "other-1", Response(id="1"))


@virtual_time
async def test_what_a_guard_raises_that_is_no_refusal_is_told_as_it_is() -> None:
    fault, script = ZeroDivisionError("a guard's own"), Scripted([DONE])
    porter = Porter()
    recorder = await outcome(script.events().pipe(guard(porter, Porter(refuse=fault))))
    assert (recorder.error, script.opened, porter.ticket.error) == (fault, 0, fault)


@virtual_time
async def test_the_clocks_of_the_source_do_not_run_while_it_waits() -> None:
    porter, script = Porter(wait=50), Scripted([3, "Hello", DONE])
    recorder = await outcome(script.events().pipe(timeouts(first_output=5), guard(porter)))
    assert (recorder.times, recorder.completed) == ([53, 53], True)
    assert (porter.ticket.asked_at, porter.ticket.sent_at) == (0, 50)


@virtual_time
async def test_what_the_environment_does_not_say_is_told_to_the_subscriber() -> None:
    """The model's address may only be known when it is asked."""

    class Nowhere(Knowing):
        @property
        def key(self) -> ModelKey:
            raise ConfigurationError("no key")

        @key.setter
        def key(self, _: ModelKey) -> None: ...

    porter = Porter()
    recorder = await outcome(Nowhere(Scripted([DONE])).stream().pipe(guard(porter)))
    assert isinstance(recorder.error, ConfigurationError)
    assert not porter.journal


# --- what the ticket says ---------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_ticket_says_whom_it_is_for_and_how_it_went() -> None:
    porter = Porter()
    script = Scripted([1, Started(id="1", rate_limits=LEFT), 2, TextDelta(text=""), 3, "Hel", 4, "lo", USED, DONE])
    await outcome(asked(script).pipe(guard(Porter(wait=5), porter)))
    ticket = porter.ticket
    assert ticket.key == ModelKey("scripted", "scripted-1", "http://127.0.0.1")
    assert (ticket.tokens, ticket.asked_at, ticket.sent_at, ticket.first_output_after) == (100, 0, 5, 6)
    assert (ticket.usage, ticket.rate_limits, ticket.outcome, ticket.error) == (USED.usage, LEFT, "completed", None)
    assert repr(ticket) == "<Ticket scripted:scripted-1 completed>"


@virtual_time
async def test_clocks_and_limits_before_it_do_not_take_the_label_away() -> None:
    porter, again = Porter(), Porter("again")
    between = (timeouts(idle=9), limit(events=99), guard(again), retry_stream())
    await outcome(Stream.of(Scripted([DONE]).events(), label="mine").pipe(*between, guard(porter)))
    assert (porter.ticket.key.model, again.ticket.key.model) == ("mine", "mine")


@virtual_time
async def test_a_stream_whose_model_is_not_known_is_known_by_its_label() -> None:
    porter = Porter()
    await outcome(Stream.of(Scripted([DONE]).events(), label="mine").pipe(guard(porter)))
    await outcome(Scripted([DONE]).events().pipe(guard(porter)))
    assert [(ticket.key, ticket.tokens) for ticket in porter.tickets] == [
        (ModelKey("", "mine", ""), 0),
        (ModelKey("", "", ""), 0),
    ]
    assert [(ticket.usage, ticket.first_output_after) for ticket in porter.tickets] == [(None, None)] * 2


@virtual_time
async def test_what_is_left_at_the_provider_is_heard_as_soon_as_it_is_said() -> None:
    journal: list[tuple[float, str]] = []
    porter = Porter(journal=journal)
    script = Scripted([2, Started(rate_limits=LEFT), 3, "Hello", DONE])
    recorder, _ = subscribe(script.events().pipe(guard(porter)))
    await asyncio.sleep(2.5)
    assert (porter.heard, porter.ticket.outcome, repr(porter.ticket)) == ([LEFT], None, "<Ticket : open>")
    await asyncio.sleep(3)
    assert recorder.completed


@virtual_time
async def test_the_usage_of_several_attempts_is_summed_and_the_last_report_of_each_counts() -> None:
    porter = Porter()
    reports = [(1, 5), (2, 10), (2, 20)]
    events: list[Event] = [
        UsageReported(attempt=attempt, usage=Usage(provenance="reported", output_tokens=tokens))
        for attempt, tokens in reports
    ]
    source: Any = rx.from_iterable([*events, DONE])
    await outcome(source.pipe(guard(porter)))
    assert porter.ticket.usage == Usage(provenance="reported", output_tokens=25)


@pytest.mark.parametrize(
    ("pauses", "after"),
    [
        ([], 6),
        ([(1, 3)], 4),  # held from 1 to 3: the first content is delivered at 6
        ([(1, 2), (3, 5)], 3),
        ([(5, 20)], 5),  # it comes at 6 and waits until 20
    ],
)
@virtual_time
async def test_a_pause_makes_no_first_output_late(pauses: list[tuple[float, float]], after: float) -> None:
    porter, gate = Porter(), Gate()
    loop = asyncio.get_running_loop()
    for start, end in pauses:
        loop.call_at(start, gate.hold, "user")
        loop.call_at(end, gate.release, "user")
    subscribe(Scripted([6, "Hello", DONE]).events(read_ahead=10).pipe(guard(porter)), gate=gate)
    await asyncio.sleep(100)
    assert porter.ticket.first_output_after == pytest.approx(after)
    assert not gate._watchers


@virtual_time
async def test_a_gate_that_is_closed_when_it_is_sent_counts_from_its_opening() -> None:
    porter, gate = Porter(), Gate()
    gate.hold("user")
    asyncio.get_running_loop().call_at(7, gate.release, "user")
    subscribe(Scripted(["Hello", 2, DONE]).events().pipe(guard(porter)), gate=gate)
    await asyncio.sleep(100)
    assert porter.ticket.first_output_after == 0


# --- asking again -----------------------------------------------------------------------------------------------------------


@virtual_time
async def test_who_asks_the_model_again_asks_the_guards_again() -> None:
    porter = Porter()
    first, again, further = (Scripted([text, DONE]) for text in ("Hel", "Hello", "lo"))
    known = Knowing(first, again, further)
    asking = asking_of(known.stream().pipe(guard(porter)))
    assert asking is not None
    conversation = asking.conversation(resumable=False)
    assert (await outcome(conversation.ask())).texts == ["Hello"]
    continuation = conversation.go_on("Hel")
    assert not isinstance(continuation, str)
    assert (await outcome(continuation.events)).texts == ["lo"]
    assert porter.said == ["asked", "lets in", "hears completed"] * 2
    assert [(ticket.key, ticket.tokens) for ticket in porter.tickets] == [(known.key, known.tokens)] * 2


@virtual_time
async def test_a_stream_whose_model_is_not_known_stays_so() -> None:
    assert asking_of(Scripted([DONE]).events().pipe(guard(Porter()))) is None


@virtual_time
async def test_guards_before_guards_are_all_asked() -> None:
    journal: list[tuple[float, str]] = []
    inner, outer = Porter("inner", journal), Porter("outer", journal)
    known = Knowing(Scripted(["Hello", DONE]))
    asking = asking_of(known.stream().pipe(guard(inner), timeouts(idle=5), guard(outer)))
    assert asking is not None
    await outcome(asking.conversation(resumable=False).ask())
    assert [said for _, said in journal] == [
        "outer asked",
        "outer lets in",
        "inner asked",
        "inner lets in",
        "inner hears completed",
        "outer hears completed",
    ]
    assert {ticket.key for ticket in inner.tickets + outer.tickets} == {known.key}


def test_who_is_disposed_while_his_loop_stands_still_makes_room_at_once() -> None:
    """That loop may never run again, and others wait for the place."""
    bulkhead, loop = Bulkhead(1), VirtualLoop()

    async def begin() -> list[Any]:
        both = [subscribe(Scripted(["a", HANG]).events().pipe(guard(bulkhead)))[1] for _ in range(2)]
        await settle()
        return both

    running, waiting = loop.run_until_complete(begin())
    assert bulkhead.statistics[:2] == (1, 1)
    running.dispose()
    assert bulkhead.statistics.running == 0
    waiting.dispose()
    loop.run_until_complete(settle())
    assert bulkhead.statistics[:2] == (0, 0)
    loop.close()


# --- options, and the law ---------------------------------------------------------------------------------------------------


def test_options() -> None:
    porter = Porter()
    with pytest.raises(ConfigurationError, match="at least one guard"):
        guard()
    with pytest.raises(ConfigurationError, match="guard 2 is a str: must have the methods enter and leave"):
        guard(porter, "guard")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(ConfigurationError, match="guard 1 is the class Porter: give one of its objects"):
        guard(Porter)  # type: ignore[arg-type]  # that is the test, too
    with pytest.raises(ConfigurationError, match="guard 2 is given twice"):
        guard(porter, porter)


@virtual_time
async def test_a_guard_that_cannot_be_awaited_is_refused_in_words() -> None:
    class Plain:
        def enter(self, ticket: Ticket) -> None: ...
        def leave(self, ticket: Ticket) -> None: ...

    source = Scripted(["a", DONE])
    recorder = await outcome(source.events().pipe(guard(Plain())))  # type: ignore[arg-type]  # that is the test
    assert isinstance(recorder.error, ConfigurationError)
    assert str(recorder.error) == "the method enter of the guard Plain must be async"
    assert source.opened == 0


@virtual_time
async def test_items_that_are_no_events_pass() -> None:
    source: Any = rx.of(1, "two", None)
    recorder = await outcome(source.pipe(guard(Porter())))
    assert (recorder.items, recorder.completed) == ([1, "two", None], True)


@given(
    st.lists(st.sampled_from(["a", "", 0.5, Started(rate_limits=LEFT), USED, ev.Heartbeat()]), max_size=8),
    st.sampled_from([DONE, Disconnected("cut"), None]),
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([None, None, Overloaded("no")])), min_size=1, max_size=3
    ),
    st.none() | st.floats(0, 8),
)
def test_law(
    steps: list[Step], last: Any, porters: list[tuple[float, StreamError | None]], dispose_at: float | None
) -> None:
    """The events are those of the source; who has let it in hears once, before the end; who has not, hears nothing."""
    journal: list[tuple[float, str]] = []
    script = Scripted([*steps, *([] if last is None else [last])])
    guards = [Porter(str(number), journal, wait=wait, refuse=error) for number, (wait, error) in enumerate(porters)]

    async def main() -> Recorder:
        recorder, subscription = subscribe(script.events().pipe(guard(*guards)))
        if dispose_at is not None:
            asyncio.get_running_loop().call_at(dispose_at, subscription.dispose)
        await asyncio.sleep(100)
        return recorder

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        recorder = runner.run(main())
        plain = runner.run(_plain(script))
    entered = [said.split()[0] for _, said in journal if "lets in" in said]
    left = [said.split()[0] for _, said in journal if "hears" in said]
    assert left == entered[::-1]
    assert script.running == 0
    assert _untimed(recorder) == _untimed(plain)[: len(recorder.items)]
    if all(error is None for _, error in porters) and dispose_at is None:
        assert len(recorder.items) == len(plain.items)
        assert (recorder.completed, type(recorder.error)) == (plain.completed, type(plain.error))


async def _plain(script: Scripted) -> Recorder:
    return await outcome(script.events())


def _untimed(recorder: Recorder) -> list[Event]:
    return [msgspec.structs.replace(event, at=0.0) for event in recorder.items]
