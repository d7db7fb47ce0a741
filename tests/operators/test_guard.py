"""``guard``: who is asked before a request, in which order, and that each hears once how it went; in exact virtual time."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import msgspec
import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable
from reactivex.subject import Subject

from rxstream import events as ev
from rxstream._asking import ModelKey, asking_of
from rxstream.bulkhead import Bulkhead
from rxstream.errors import (
    BulkheadFull,
    Cancelled,
    ConfigurationError,
    Disconnected,
    LoopShutDown,
    Overloaded,
    StreamError,
)
from rxstream.events import Event, RateLimits, Started, TextDelta, UsageReported
from rxstream.gate import Gate
from rxstream.guards import Outcome, Ticket
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.operators import guard, limit, retry_stream, timeouts
from rxstream.response import Response
from rxstream.usage import Usage
from tests.support.knowing import Knowing
from tests.support.scripted import DONE, HANG, Recorder, Scripted, Step, words
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

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


# --- how it ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (["Hel", DONE], "completed"),
        (["Hel"], "failed"),
        (["Hel", Disconnected("cut")], "failed"),
        (["Hel", Cancelled("enough")], "cancelled"),
    ],
)
@virtual_time
async def test_each_guard_hears_once_how_it_went(steps: list[Step], said: Outcome) -> None:
    porters = Porter(), Porter()
    recorder = await outcome(asked(Scripted(steps)).pipe(guard(*porters)))
    for porter in porters:
        assert porter.said == ["asked", "lets in", f"hears {said}"]
        assert porter.ticket.error is recorder.error
    assert recorder.texts == ["Hel"]


@virtual_time
async def test_it_is_left_before_the_end_is_told_so_that_who_asks_again_finds_the_place_free() -> None:
    porter = Porter()
    seen: list[list[str]] = []
    source = Scripted(["Hel", Overloaded("full")]).events().pipe(guard(porter))
    source.subscribe(on_error=lambda _: seen.append(porter.said), scheduler=LoopScheduler())
    await settle()
    assert seen == [["asked", "lets in", "hears failed"]]


@virtual_time
async def test_where_the_model_is_known_its_mark_is_the_end_whatever_is_held_after_it() -> None:
    porter, gate = Porter(), Gate()
    recorder, subscription = subscribe(asked(Scripted(["Hello", DONE])).pipe(guard(porter)), gate=gate)
    recorder.and_then = lambda item: gate.hold("user") if isinstance(item, ev.Finished) else None
    await settle()
    assert porter.said[-1] == "hears completed"
    assert not recorder.completed
    subscription.dispose()
    await settle()
    assert len(porter.said) == 3


@virtual_time
async def test_where_it_is_not_known_there_may_be_several_answers() -> None:
    """The end of the first is not that of the stream; but who leaves at it has what he wanted."""
    porter: Porter = Porter()
    events: Subject[Event] = Subject()
    _, subscription = subscribe(events.pipe(guard(porter)))
    await settle()
    events.on_next(ev.Finished(source="a", reason="stop"))
    assert porter.ticket.outcome is None
    subscription.dispose()
    assert porter.ticket.outcome == "completed"


@pytest.mark.parametrize("after", [0, 1, 2.5, 4, 6, 7.5, 9])
@virtual_time
async def test_disposed_at_any_moment_all_is_closed_and_each_is_left_once(after: float) -> None:
    journal: list[tuple[float, str]] = []
    guards = Porter("a", journal, wait=2), Porter("b", journal, wait=3)
    script = Scripted([1, Started(), 2, "Hel", HANG])
    recorder, subscription = subscribe(script.events().pipe(guard(*guards)))
    await asyncio.sleep(after)
    subscription.dispose()
    subscription.dispose()
    told = len(recorder.items)
    await asyncio.sleep(100)
    assert (len(recorder.items), recorder.ended_at, script.running) == (told, None, 0)
    for porter in guards:
        said = [said for _, said in journal if said.startswith(porter.name)]
        assert said.count(f"{porter.name} lets in") == said.count(f"{porter.name} hears cancelled")
    if after >= 5:
        assert [said for _, said in journal][-2:] == ["b hears cancelled", "a hears cancelled"]


@virtual_time
async def test_disposed_by_the_guard_that_lets_it_in_it_is_left_and_nothing_is_sent() -> None:
    class Spiteful(Porter):
        async def enter(self, ticket: Ticket) -> None:
            await super().enter(ticket)
            subscription.dispose()

    porter, script = Spiteful(), Scripted([DONE])
    recorder, subscription = subscribe(script.events().pipe(guard(porter, Porter("never"))))
    await settle()
    assert porter.said == ["asked", "lets in", "hears cancelled"]
    assert (script.opened, recorder.ended_at) == (0, None)


@virtual_time
async def test_a_guard_that_swallows_being_cancelled_is_left_all_the_same() -> None:
    class Stubborn(Porter):
        async def enter(self, ticket: Ticket) -> None:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                await super().enter(ticket)

    porter, script = Stubborn(), Scripted([DONE])
    _, subscription = subscribe(script.events().pipe(guard(porter)))
    await asyncio.sleep(1)
    subscription.dispose()
    await settle()
    assert porter.said == ["asked", "lets in", "hears cancelled"]
    assert script.opened == 0


@virtual_time
async def test_what_a_guard_raises_when_nobody_waits_any_more_is_told_to_the_loop() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    class Sour(Porter):
        async def enter(self, ticket: Ticket) -> None:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                raise ZeroDivisionError from None

    porter = Porter()
    recorder, subscription = subscribe(Scripted([DONE]).events().pipe(guard(porter, Sour())))
    await asyncio.sleep(1)
    subscription.dispose()
    await settle()
    gc.collect()
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]
    assert (recorder.ended_at, porter.said[-1]) == (None, "hears cancelled")


@virtual_time
async def test_a_source_that_says_more_than_its_end_is_not_heard() -> None:
    """And its end is told once, whichever comes first."""
    porter = Porter()

    def subscribe_to(observer: Any, _scheduler: Any = None) -> Any:
        for _ in range(2):
            observer.on_completed()
            observer.on_error(Disconnected("too late"))

    recorder = await outcome(Observable(subscribe_to).pipe(guard(porter)))
    assert recorder.completed
    assert porter.said == ["asked", "lets in", "hears completed"]


@virtual_time
async def test_disposed_by_its_own_handler_it_is_left_at_once() -> None:
    porter, script = Porter(), Scripted(["Hel", "lo", DONE])
    recorder, subscription = subscribe(script.events().pipe(guard(porter)))
    recorder.and_then = lambda _: subscription.dispose()
    await settle()
    assert (recorder.texts, porter.said[-1], script.running) == (["Hel"], "hears cancelled", 0)


@virtual_time
async def test_disposed_by_the_handler_of_a_source_that_emits_at_once() -> None:
    porter = Porter()
    source: Any = rx.of(TextDelta(text="Hel"), DONE)
    recorder, subscription = subscribe(source.pipe(guard(porter)))
    recorder.and_then = lambda _: subscription.dispose()
    await settle()
    assert (recorder.texts, recorder.completed, porter.said[-1]) == (["Hel"], False, "hears cancelled")


@virtual_time
async def test_what_a_guard_raises_when_it_is_left_changes_nothing_for_the_stream() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    porters = Porter("a"), Porter("b", fails=True)
    recorder = await outcome(Scripted(["Hello", DONE]).events().pipe(guard(*porters)))
    assert recorder.completed
    assert porters[0].said[-1] == "hears completed"
    assert [str(context["exception"]) for context in told] == ["b is angry"]


@virtual_time
async def test_what_a_guard_raises_when_it_hears_of_limits_changes_nothing_for_the_stream() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    class Deaf(Porter):
        async def enter(self, ticket: Ticket) -> None:
            ticket.listen(lambda _: 1 / 0)

    recorder = await outcome(Scripted([Started(rate_limits=LEFT), "Hello", DONE]).events().pipe(guard(Deaf())))
    assert recorder.completed
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]


@virtual_time
async def test_what_a_handler_raises_comes_back_to_it_and_is_a_cancellation() -> None:
    porter, errors, script = Porter(), list[Exception](), Scripted(["Hello", HANG])

    def angry(_: Event) -> None:
        raise ZeroDivisionError

    Stream.of(script.events()).pipe(guard(porter)).subscribe(angry, errors.append)
    await settle()
    assert [type(error) for error in errors] == [ZeroDivisionError]
    assert (porter.said[-1], script.running) == ("hears cancelled", 0)


@pytest.mark.parametrize("raised", [ZeroDivisionError("no"), Disconnected("no")])
@virtual_time
async def test_a_source_that_cannot_be_subscribed_has_failed(raised: Exception) -> None:
    def subscribe_to(_observer: Any, _scheduler: Any = None) -> Any:
        raise raised

    porter = Porter()
    recorder = await outcome(Observable(subscribe_to).pipe(guard(porter)))
    assert (recorder.error, porter.said[-1], porter.ticket.error) == (raised, "hears failed", raised)


# --- gates, loops and threads -----------------------------------------------------------------------------------------------


@virtual_time
async def test_a_refusal_waits_for_the_gate() -> None:
    gate = Gate()
    gate.hold("user")
    recorder, _ = subscribe(Scripted([DONE]).events().pipe(guard(Porter(wait=2, refuse=Overloaded("no")))), gate=gate)
    await asyncio.sleep(5)
    assert recorder.ended_at is None
    gate.release("user")
    await settle()
    assert isinstance(recorder.error, Overloaded)
    assert recorder.ended_at == 5.0


@virtual_time
async def test_disposed_while_a_refusal_waits_for_the_gate_it_is_silent() -> None:
    gate = Gate()
    gate.hold("user")
    source = Scripted([DONE]).events().pipe(guard(Porter(refuse=Overloaded("no"))))
    recorder, subscription = subscribe(source, gate=gate)
    await asyncio.sleep(5)
    subscription.dispose()
    gate.release("user")
    await settle()
    assert recorder.ended_at is None
    assert not gate._watchers


@virtual_time
async def test_a_pause_reaches_the_source() -> None:
    gate = Gate()
    script = Scripted(words("a", "b", "c"))
    recorder, _ = subscribe(script.events().pipe(guard(Porter())), gate=gate)
    recorder.and_then = lambda item: gate.hold("user") if getattr(item, "text", "") == "a" else None
    await asyncio.sleep(50)
    assert recorder.texts == ["a"]
    gate.release("user")
    await asyncio.sleep(50)
    assert (recorder.texts, recorder.completed) == (["a", "b", "c"], True)


@pytest.mark.parametrize("wait", [0.0, 100.0])
def test_that_its_loop_goes_down_is_told_and_each_is_left(wait: float) -> None:
    recorder, script = Recorder(), Scripted([1, "Hel", HANG])
    first, second = Porter(), Porter(wait=wait)

    async def main() -> None:
        scheduler = LoopScheduler()
        script.events().pipe(guard(first, second)).subscribe(
            recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler
        )
        await asyncio.sleep(5)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    assert isinstance(recorder.error, LoopShutDown)
    assert (first.said[-1], script.running) == ("hears cancelled", 0)


@virtual_time
async def test_that_its_loop_goes_down_before_it_has_begun_is_told() -> None:
    porter = Porter()
    recorder, _ = subscribe(Scripted([DONE]).events().pipe(guard(porter)))
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()  # as a loop does that is shut down
    await settle()
    assert isinstance(recorder.error, LoopShutDown)
    assert not porter.journal


def test_disposed_from_another_thread_it_is_left_on_its_own_loop() -> None:
    threads: list[int] = []

    class Watching(Porter):
        def leave(self, ticket: Ticket) -> None:
            super().leave(ticket)
            threads.append(threading.get_ident())
            asyncio.get_running_loop().call_soon(left.set)

    async def main() -> None:
        _, subscription = subscribe(Scripted([HANG]).events().pipe(guard(porter)))
        await settle()
        await asyncio.to_thread(subscription.dispose)
        await asyncio.wait_for(left.wait(), 10)

    porter, left = Watching(), asyncio.Event()
    asyncio.run(main())
    assert (porter.said[-1], threads) == ("hears cancelled", [threading.get_ident()])


@virtual_time
async def test_disposed_before_its_loop_comes_round_it_asks_nobody() -> None:
    porter, loop = Porter(), asyncio.get_running_loop()

    def elsewhere() -> None:
        Scripted([DONE]).events().pipe(guard(porter)).subscribe(scheduler=LoopScheduler(loop)).dispose()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    await settle()
    assert not porter.journal


def test_disposed_when_its_loop_is_closed_it_is_left_for_the_sake_of_others() -> None:
    class Quiet:
        def __init__(self) -> None:
            self.left: list[Outcome | None] = []

        async def enter(self, ticket: Ticket) -> None:
            pass

        def leave(self, ticket: Ticket) -> None:
            self.left.append(ticket.outcome)

    porter, events = Quiet(), Subject[Event]()
    loop = VirtualLoop()

    async def main() -> Any:
        _, subscription = subscribe(events.pipe(guard(porter)))
        await settle()
        return subscription

    subscription = loop.run_until_complete(main())
    loop.close()
    subscription.dispose()
    assert porter.left == ["cancelled"]


@virtual_time
async def test_who_waits_does_so_although_nobody_holds_it() -> None:
    recorder, _ = subscribe(Scripted(["Hello", DONE]).events().pipe(guard(Porter(wait=10))))
    del _
    await asyncio.sleep(5)
    gc.collect()
    await asyncio.sleep(6)
    assert recorder.completed


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
