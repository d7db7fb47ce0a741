"""``limit``: exactly so much is delivered, then comes the error and the request is closed."""

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
from rxstream.errors import BudgetExceeded, ConfigurationError, Disconnected, LimitExceeded
from rxstream.events import Event, Heartbeat, TextDelta
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.operators import limit
from rxstream.tracks import failover, merge
from rxstream.usage import Usage
from tests.support.contests import Field, Told, reported, started
from tests.support.knowing import Knowing
from tests.support.scripted import DONE, HANG, Recorder, Scripted, Step
from tests.support.virtual_loop import settle, virtual_time


@pytest.mark.parametrize(
    ("options", "steps", "said", "kind"),
    [
        ({"events": 3}, [started(), "a", "b", "c"], ["Started", "'a'", "'b'"], LimitExceeded),
        ({"events": 1}, [Heartbeat(), Heartbeat()], ["Heartbeat"], LimitExceeded),
        ({"characters": 4}, ["abc", "d", "", "e"], ["'abc'", "'d'", "''"], LimitExceeded),
        ({"characters": 4}, ["abc", "def"], ["'abc'"], LimitExceeded),
        ({"characters": 1}, ["☃", "☃"], ["'☃'"], LimitExceeded),
        ({"characters": 1}, [ev.ThinkingDelta(text="hm")], [], LimitExceeded),
        ({"characters": 2}, [ev.RefusalDelta(text="no"), "x"], ["RefusalDelta"], LimitExceeded),
        (
            {"characters": 2},
            [ev.ToolCallStart(name="f"), ev.ToolCallDelta(arguments="{}"), ev.ToolCallDelta(arguments=" ")],
            ["ToolCallStart", "ToolCallDelta"],
            LimitExceeded,
        ),
        ({"tokens": 2}, ["a", Heartbeat(), "b", "c"], ["'a'", "Heartbeat", "'b'"], BudgetExceeded),
        ({"tokens": 9}, ["a", reported(10), "b"], ["'a'", "Usage 10 reported"], BudgetExceeded),
        (
            {"tokens": 9},
            ["a", reported(9), "b", reported(10)],
            ["'a'", "Usage 9 reported", "'b'", "Usage 10 reported"],
            BudgetExceeded,
        ),
        ({"tokens": 2}, [reported(1), "a", "b", "c"], ["Usage 1 reported", "'a'", "'b'"], BudgetExceeded),
    ],
)
@virtual_time
async def test_what_goes_over_is_not_delivered_and_the_error_holds_the_rest(
    options: Any, steps: list[Step], said: list[str], kind: type[Exception]
) -> None:
    field = Field()
    told = Told(field.track("a", *(step for each in steps for step in (1.0, each)), HANG).pipe(limit(**options)))
    await asyncio.sleep(100)
    assert told.said == [f"a1 {word}" for word in said]
    assert type(told.error) is kind
    [(name, most)] = options.items()
    assert f"the {most} {name}" in str(told.error)
    assert told.failure.partial == told.response
    assert not told.failure.retryable
    last_is_told = kind is BudgetExceeded and "Usage" in said[-1]
    assert field.closed_at["a"] == [told.ended_at] == [len(said) if last_is_told else len(said) + 1]


@pytest.mark.parametrize("options", [{"events": 3}, {"characters": 2}, {"tokens": 2}])
@virtual_time
async def test_just_as_much_as_is_allowed_is_a_whole_answer(options: Any) -> None:
    plain, limited = Recorder(), Recorder()
    script = Scripted(["a", "b", DONE])
    for source, recorder in ((script.events(), plain), (script.events().pipe(limit(**options)), limited)):
        source.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler())
    await asyncio.sleep(1)
    assert (limited.items, limited.completed) == (plain.items, True)


@virtual_time
async def test_what_the_provider_has_not_counted_yet_is_estimated() -> None:
    """Whichever is more: an early report says less than what came since."""
    told = Told(Field().track("a", reported(5), *["x"] * 5, reported(30), "x", DONE).pipe(limit(tokens=30)))
    await asyncio.sleep(1)
    assert told.completed


@virtual_time
async def test_a_report_of_nothing_counts_nothing() -> None:
    told = Told(Field().track("a", "x", ev.UsageReported(usage=Usage()), DONE).pipe(limit(tokens=1)))
    await asyncio.sleep(1)
    assert told.completed


@virtual_time
async def test_attempts_and_tracks_count_together() -> None:
    field = Field()
    a = field.track("a", "1", "2", reported(4), Disconnected("gone"))
    tokens = failover(a, field.track("b", "3", "4", DONE), after_output="restart").pipe(limit(tokens=5))
    told = Told(tokens)
    await asyncio.sleep(1)
    assert type(told.error) is BudgetExceeded
    assert told.texts == ["1", "2", "3"]
    field = Field()
    both = merge(field.track("a", *["x"] * 9, HANG), field.track("b", *["y"] * 9, HANG))
    told = Told(both.pipe(limit(tokens=10)))
    await asyncio.sleep(1)
    assert len(told.texts) == 10
    assert (told.failure.partial, field.running) == (None, [])


@virtual_time
async def test_a_source_that_goes_on_when_it_is_closed_is_heard_no_more() -> None:
    told = Told(rx.of(*(TextDelta(text=text) for text in "abc")).pipe(limit(characters=1)))
    await settle()
    assert (told.texts, type(told.error)) == (["a"], LimitExceeded)
    subject: Subject[Event] = Subject()
    told = Told(subject.pipe(limit(events=1)))
    for _ in range(3):
        subject.on_next(TextDelta(text="a"))
    subject.on_error(Disconnected("late"))
    assert (told.texts, type(told.error)) == (["a"], LimitExceeded)


@virtual_time
async def test_the_error_behind_a_report_waits_for_the_gate() -> None:
    gate = Gate()
    told = Told(Field().track("a", "x", reported(9), HANG).pipe(limit(tokens=5)), scheduler=LoopScheduler(gate=gate))
    told.and_then = lambda item: gate.hold("user") if isinstance(item, ev.UsageReported) else None
    await asyncio.sleep(5)
    assert (len(told.items), told.ended_at) == (2, None)
    gate.release("user")
    await settle()
    assert (type(told.error), told.ended_at) == (BudgetExceeded, 5)


@virtual_time
async def test_disposed_by_the_handler_of_the_last_report_it_is_silent() -> None:
    told = Told(Field().track("a", 1, "x", reported(9), HANG).pipe(limit(tokens=5)))
    told.and_then = lambda item: told.subscription.dispose() if isinstance(item, ev.UsageReported) else None
    await asyncio.sleep(5)
    assert (len(told.items), told.ended_at) == (2, None)


@pytest.mark.parametrize("at", [0, 0.5, 1, 2])
@virtual_time
async def test_disposed_at_any_moment_it_leaves_nothing(at: float) -> None:
    field = Field()
    told = Told(field.track("a", 1, "a", 1, "b", HANG).pipe(limit(characters=1)))
    await asyncio.sleep(at)
    told.subscription.dispose()
    ended = told.ended_at
    await asyncio.sleep(20)
    assert (field.running, told.ended_at) == ([], ended)


@virtual_time
async def test_its_model_can_still_be_asked_again_and_then_is_limited_too() -> None:
    asking = asking_of(Knowing(Scripted(["abc"]), Scripted(["abc", "d"])).stream().pipe(limit(characters=3)))
    assert asking is not None
    told = Told(asking.conversation(resumable=False).ask())
    await settle()
    assert (told.texts, type(told.error)) == (["abc"], LimitExceeded)


@given(pieces=st.lists(st.text(max_size=4), max_size=12), most=st.integers(1, 20))
def test_the_longest_beginning_that_fits_is_delivered(pieces: list[str], most: int) -> None:
    @virtual_time
    async def main() -> None:
        told = Told(Field().track("a", *pieces, DONE).pipe(limit(characters=most)))
        await settle()
        fitting = [text for at, text in enumerate(pieces, 1) if len("".join(pieces[:at])) <= most]
        assert told.texts == fitting
        assert told.completed is (fitting == pieces)

    main()


@pytest.mark.parametrize(
    ("options", "said"),
    [({}, "events="), ({"events": 0}, "events"), ({"tokens": 1.5}, "tokens"), ({"characters": True}, "characters")],
)
def test_what_cannot_be_is_refused_at_once(options: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        limit(**options)


@virtual_time
async def test_what_is_no_event_is_refused_and_its_source_closed() -> None:
    items: Subject[Any] = Subject()
    told = Told(items.pipe(limit(events=9)))
    items.on_next("Hello")
    items.on_next("again")
    await asyncio.sleep(20)
    assert (type(told.error), told.items, items.observers) == (ConfigurationError, [], [])
    assert str(told.error).startswith("limit gets a str, not an event")
    assert not told.gate._watchers


def test_a_source_that_does_not_stop_while_it_is_subscribed_is_heard_no_more() -> None:
    events: list[Event] = []
    source = rx.from_iterable([TextDelta(text=letter) for letter in "abcdef"])
    with pytest.raises(LimitExceeded):
        Stream.of(source).pipe(limit(characters=2), ops.do_action(events.append)).run()
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["a", "b"]
