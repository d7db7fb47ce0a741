"""``race``: the first content decides, at its very moment."""

from __future__ import annotations

import asyncio

import pytest
import reactivex as rx

from rxstream import events as ev
from rxstream.errors import ConfigurationError, Disconnected, LimitExceeded, Overloaded, TracksFailed
from rxstream.events import Event, Heartbeat, Status, TextDelta
from rxstream.tracks import race
from rxstream.tracks._answer import KEPT
from tests.support.contests import Field, Told, reported, started, watchers
from tests.support.scripted import DONE, HANG, Step, numbered, words
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_the_first_content_decides_and_what_came_before_it_is_delivered_then() -> None:
    field = Field()
    a = field.track("a", 1, started("left"), 3, "never")
    b = field.track("b", 2, started("right"), 1, "Hel", 1, "lo", DONE)
    told = Told(race(a, b))
    await asyncio.sleep(3)
    await settle()
    assert field.running == ["b"]
    assert field.closed_at["a"] == [3]
    await asyncio.sleep(10)
    assert told.story == [
        (3, "b2 Started"),
        (3, "a1 Usage 0 estimated"),
        (3, "a1 Cancelled"),
        (3, "b2 'Hel'"),
        (4, "b2 'lo'"),
        (4, "b2 Finished"),
    ]
    assert told.items[2].reason == "b was first"
    assert (told.completed, told.ended_at) == (True, 4)
    assert (told.response.text, told.response.model, told.response.attempts) == ("Hello", "right", 2)


@pytest.mark.parametrize(
    "event",
    [started(), Heartbeat(), Status(status="queued"), TextDelta(text=""), ev.ThinkingDelta(text=""), reported(1)],
    ids=lambda event: type(event).__name__,
)
@virtual_time
async def test_what_is_no_content_does_not_decide(event: Event) -> None:
    field = Field()
    told = Told(race(field.track("a", 1, event, HANG), field.track("b", 2, "b", DONE)))
    await asyncio.sleep(10)
    assert told.response.text == "b"
    assert told.times[0] == 2
    assert field.running == []


@pytest.mark.parametrize(
    "event",
    [
        TextDelta(text="x"),
        ev.ThinkingDelta(text="hm"),
        ev.RefusalDelta(text="no"),
        ev.ToolCallStart(name="f"),
        ev.ToolCallDelta(arguments="{"),
        ev.ServerTool(step="start"),
        ev.Media(kind="audio"),
    ],
    ids=lambda event: type(event).__name__,
)
@virtual_time
async def test_any_content_decides(event: Event) -> None:
    field = Field()
    told = Told(race(field.track("a", 1, event, 5, DONE), field.track("b", 2, "b", DONE)))
    await asyncio.sleep(10)
    assert type(told.items[-2]) is type(event)
    assert told.times[-2] == 1
    assert field.closed_at["b"] == [1]


@virtual_time
async def test_what_all_requests_used_is_the_usage_of_the_answer() -> None:
    field = Field()
    a = field.track("a", reported(0, input_tokens=10), 5, "late")
    b = field.track("b", reported(1, input_tokens=20), 1, "Hello", reported(4, input_tokens=20), DONE)
    c = field.track("c", HANG)
    told = Told(race(a, b, c))
    await asyncio.sleep(10)
    usage = told.response.usage
    assert (usage.input_tokens, usage.output_tokens, usage.provenance) == (30, 4, "estimated")
    assert told.said[1:5] == ["a1 Usage 0 partial", "a1 Cancelled", "c3 Usage 0 estimated", "c3 Cancelled"]


@virtual_time
async def test_a_track_that_fails_is_an_event_and_the_others_go_on() -> None:
    field = Field()
    a = field.track("a", started(), reported(0, input_tokens=7), 1, Overloaded("busy"))
    told = Told(race(a, field.track("b", 2, "b", DONE)))
    await asyncio.sleep(10)
    assert told.story == [
        (1, "a1 Failed Overloaded"),
        (1, "a1 Usage 0 partial"),
        (2, "b2 'b'"),
        (2, "b2 Finished"),
    ]
    assert told.response.usage.input_tokens == 7
    assert told.completed


@virtual_time
async def test_when_all_fail_the_error_has_each_ones_own() -> None:
    field = Field()
    told = Told(race(field.track("a", 2, Overloaded("busy")), field.track("b", 1, Disconnected("gone"))))
    await asyncio.sleep(10)
    assert told.story == [(1, "b2 Failed Disconnected"), (2, "a1 Failed Overloaded")]
    error = told.failure
    assert isinstance(error, TracksFailed)
    assert {label: type(each) for label, each in error.errors.items()} == {"a": Overloaded, "b": Disconnected}
    assert told.ended_at == 2


@virtual_time
async def test_after_its_first_content_the_winners_error_is_the_end() -> None:
    field = Field()
    error = Disconnected("gone")
    told = Told(race(field.track("a", 1, "Hel", 1, error), field.track("b", HANG)))
    await asyncio.sleep(10)
    assert told.error is error
    assert error.partial is not None
    assert error.partial.text == "Hel"
    assert told.ended_at == 2
    assert not any(isinstance(event, ev.Failed) for event in told.items)


@pytest.mark.parametrize("first", ["a", "b"])
@virtual_time
async def test_an_empty_answer_wins_only_if_no_other_is_left(first: str) -> None:
    field = Field()
    empty = field.track("a", 1 if first == "a" else 3, started("empty"), DONE)
    told = Told(race(empty, field.track("b", 2, "b", DONE)))
    await asyncio.sleep(10)
    assert told.response.text == "b"
    assert told.times[0] == 2


@virtual_time
async def test_an_empty_answer_is_an_answer_when_the_others_have_failed() -> None:
    field = Field()
    a = field.track("a", 1, started(), reported(0), DONE)
    told = Told(race(a, field.track("b", 2, Overloaded("busy")), field.track("c", 2, DONE)))
    await asyncio.sleep(10)
    assert told.story == [
        (2, "b2 Failed Overloaded"),
        (2, "a1 Started"),
        (2, "a1 Usage 0 reported"),
        (2, "c3 Usage 0 estimated"),
        (2, "a1 Finished"),
    ]
    assert (told.completed, told.ended_at) == (True, 2)


@virtual_time
async def test_one_track_is_a_race_too() -> None:
    field = Field()
    told = Told(race(field.track("a", *words("Hel", "lo"))))
    await asyncio.sleep(10)
    assert told.story == [(1, "a1 'Hel'"), (2, "a1 'lo'"), (2, "a1 Finished")]


@virtual_time
async def test_who_has_won_before_another_is_asked_has_asked_for_nothing_else() -> None:
    """A source that speaks while it is being subscribed; the second one is never asked, and never billed."""
    field = Field()

    def at_once(observer: rx.abc.ObserverBase[Event], _: object = None) -> rx.abc.DisposableBase:
        observer.on_next(TextDelta(source="now", text="x"))
        return rx.disposable.Disposable()

    told = Told(race(rx.Observable(at_once), field.track("b", "b", DONE)))
    await settle()
    assert told.said == ["now1 'x'"]
    assert field.opened == {"b": 0}
    told.subscription.dispose()


@virtual_time
async def test_plain_observables_may_run_and_are_one_answer() -> None:
    """Their events carry names that are not the tracks' own; the words about the loser carry its events' name."""
    a = rx.concat(rx.of(ev.Started(source="x")), rx.never())
    b = rx.timer(1.0).pipe(rx.operators.map(lambda _: TextDelta(source="y", text="b")))
    told = Told(race(a, b))
    await asyncio.sleep(10)
    assert told.said == ["x1 Usage 0 estimated", "x1 Cancelled", "y2 'b'"]
    assert (told.response.text, told.completed) == ("b", True)


@virtual_time
async def test_a_race_of_races_is_one_answer() -> None:
    field = Field()
    inner = race(field.track("a", HANG), field.track("b", 2, "b", 5, "late", DONE))
    told = Told(race(inner, field.track("c", 3, "c", DONE)))
    await asyncio.sleep(10)
    a, c = (["a1 Usage 0 estimated", "a1 Cancelled"], ["c2 Usage 0 estimated", "c2 Cancelled"])
    assert told.said == [*a, *c, "b3 'b'", "b3 'late'", "b3 Finished"]
    assert (told.response.text, told.response.attempts) == ("blate", 3)


@virtual_time
async def test_what_a_beaten_combination_used_is_billed_attempt_by_attempt() -> None:
    field = Field()
    inner = race(field.track("a", reported(0, input_tokens=5), HANG), field.track("b", 1, "b", 9, DONE))
    stuck = field.track("c", HANG)
    told = Told(race(stuck, inner))
    await asyncio.sleep(20)
    assert told.response.text == "b"
    assert told.response.usage.input_tokens == 5
    assert told.completed


@virtual_time
async def test_while_the_gate_is_closed_no_track_is_read_and_nothing_is_said() -> None:
    field = Field()
    told = Told(race(field.track("a", 1, "a", 1, "b", *numbered(100)), field.track("b", 1.5, "x")))
    told.gate.hold("test")
    await asyncio.sleep(10)
    assert (told.items, field.running) == ([], ["a", "b"])
    told.gate.release("test")
    await asyncio.sleep(1.1)
    told.gate.hold("test")
    given, heard = field.scripts["a"].given, len(told.items)
    await asyncio.sleep(10)
    assert (field.scripts["a"].given - given <= 1, len(told.items)) == (True, heard)
    told.gate.release("test")
    await asyncio.sleep(10)
    assert told.response.text == "ab" + "".join(f"{number} " for number in range(100))
    assert told.completed
    assert await watchers(told.gate) == 0


@pytest.mark.parametrize("at", [0, 0.5, 1, 1.5, 2, 2.5, 3, 4])
@virtual_time
async def test_disposed_at_any_moment_it_leaves_nothing(at: float) -> None:
    field = Field()
    steps: list[Step] = [1, started(), 1, "a", 1, "b", 9, DONE]
    told = Told(race(field.track("a", *steps), field.track("b", 2.5, "b"), field.track("c", 1, Overloaded("busy"))))
    await asyncio.sleep(at)
    told.subscription.dispose()
    heard = len(told.items)
    await settle()
    assert field.running == []
    await asyncio.sleep(20)
    assert (len(told.items), told.ended_at) == (heard, None)
    assert (told.gate.holds, await watchers(told.gate)) == ((), 0)


@virtual_time
async def test_each_subscription_is_a_race_of_its_own() -> None:
    field = Field()
    once = race(field.track("a", 1, "a", DONE), field.track("b", 2, "b", DONE))
    told = [Told(once), Told(once)]
    await asyncio.sleep(10)
    assert [each.response.text for each in told] == ["a", "a"]
    assert field.opened == {"a": 2, "b": 2}


@virtual_time
async def test_a_track_that_never_comes_to_the_point_fails() -> None:
    """What is kept back is bounded."""
    chatter = rx.from_iterable([Heartbeat(source="a")] * (KEPT + 5))
    field = Field()
    told = Told(race(chatter, field.track("b", 1, "b", DONE)))
    await asyncio.sleep(10)
    assert told.said == ["a1 Failed LimitExceeded", "b2 'b'", "b2 Finished"]
    assert told.items[0].error.kind == LimitExceeded.__name__


@virtual_time
async def test_a_consumer_that_is_paused_by_its_own_handler_gets_the_rest_in_order() -> None:
    field = Field()
    told = Told(race(field.track("a", started(), "x", "y", DONE), field.track("b", HANG)), pauses=True)
    await asyncio.sleep(20)
    assert [word.split(" ")[1] for word in told.said] == ["Started", "Usage", "Cancelled", "'x'", "'y'", "Finished"]
    assert told.times == [0, 1, 2, 3, 4, 5]
    assert told.completed


@virtual_time
async def test_a_session_controls_all_tracks() -> None:
    field = Field()
    session = race(field.track("a", 1, "a", 1, "b", 9, DONE), field.track("b", 50, "x")).start()
    await asyncio.sleep(0.5)
    assert field.running == ["a", "b"]
    session.pause()
    await asyncio.sleep(10)
    assert session.statistics.events == 0
    session.resume()
    await asyncio.sleep(0.5)
    assert (session.partial.text, field.running) == ("a", ["a"])
    session.cancel()
    await settle()
    assert (session.status, field.running) == ("cancelled", [])


def test_what_cannot_race_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        race()
    with pytest.raises(ConfigurationError, match="track 2 is a str"):
        race(rx.never(), "openai:gpt")  # type: ignore[arg-type]
