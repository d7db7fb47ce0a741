"""``guard``: however it ends, and wherever, each guard hears it once."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex.subject import Subject

from rxstream import events as ev
from rxstream.errors import (
    Cancelled,
    Disconnected,
    LoopShutDown,
    Overloaded,
)
from rxstream.events import Event, Started, TextDelta
from rxstream.gate import Gate
from rxstream.guards import Outcome, Ticket
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.operators import guard
from tests.support.guarded import LEFT, Porter, asked, outcome, subscribe
from tests.support.scripted import DONE, HANG, Recorder, Scripted, Step, words
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

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
