"""``hedge``: the second request is made when, and only when, the first is late."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest
import reactivex as rx

from rxstream.budget import RetryBudget
from rxstream.errors import ConfigurationError, Disconnected, Overloaded, TracksFailed
from rxstream.latency import LatencyQuantile
from rxstream.tracks import hedge
from tests.support.contests import Field, Told, started, watchers
from tests.support.scripted import DONE, HANG, Step
from tests.support.virtual_loop import settle, virtual_time


def learned(*times: float, quantile: float = 0.5) -> LatencyQuantile:
    known = LatencyQuantile(quantile, min_samples=5)
    for seconds in times:
        known.observe(seconds)
    return known


@virtual_time
async def test_a_late_track_gets_a_second_and_the_first_content_decides() -> None:
    field = Field()
    slow = field.track("slow", 1, started(), 9, "slow", DONE)
    told = Told(hedge(slow, field.track("spare", 2, "Hel", 1, "lo", DONE), after=1.5))
    await asyncio.sleep(1.4)
    assert field.opened == {"slow": 1, "spare": 0}
    await asyncio.sleep(0.1)
    await settle()
    assert field.opened == {"slow": 1, "spare": 1}
    await asyncio.sleep(20)
    assert told.story == [
        (3.5, "slow1 Usage 0 estimated"),
        (3.5, "slow1 Cancelled"),
        (3.5, "spare2 'Hel'"),
        (4.5, "spare2 'lo'"),
        (4.5, "spare2 Finished"),
    ]
    assert field.closed_at["slow"] == [3.5]


@virtual_time
async def test_the_first_may_still_win() -> None:
    field = Field()
    told = Told(hedge(field.track("slow", 2, "slow", 5, DONE), field.track("spare", 2, "x"), after=1))
    await asyncio.sleep(20)
    assert told.response.text == "slow"
    assert told.said[:2] == ["spare2 Usage 0 estimated", "spare2 Cancelled"]
    assert field.closed_at["spare"] == [2]


@virtual_time
async def test_a_track_in_time_is_asked_alone() -> None:
    field = Field()
    told = Told(hedge(field.track("quick", 1, "a", 9, "b", DONE), field.track("spare", "x"), after=1.5))
    await asyncio.sleep(20)
    assert (told.said, field.opened) == (["quick1 'a'", "quick1 'b'", "quick1 Finished"], {"quick": 1, "spare": 0})
    assert await watchers(told.gate) == 0


@virtual_time
async def test_without_a_spare_the_same_track_is_asked_again() -> None:
    field = Field()
    track = field.track("same", 3, "text", DONE)
    told = Told(hedge(track, after=1))
    await asyncio.sleep(20)
    assert field.opened == {"same": 2}
    assert told.said == ["same-22 Usage 0 estimated", "same-22 Cancelled", "same1 'text'", "same1 Finished"]
    assert told.response.text == "text"


@virtual_time
async def test_a_track_that_fails_is_replaced_at_once() -> None:
    field = Field()
    budget = RetryBudget(0.1, reserve=1)
    assert budget.take()  # nothing is left; it is not asked
    a, b = field.track("a", 1, Overloaded("busy")), field.track("b", 1, "b", DONE)
    told = Told(hedge(a, b, after=5, budget=budget))
    await asyncio.sleep(20)
    assert told.story == [(1, "a1 Failed Overloaded"), (2, "b2 'b'"), (2, "b2 Finished")]


@virtual_time
async def test_when_both_fail_the_error_has_both() -> None:
    field = Field()
    told = Told(hedge(field.track("a", 1, Overloaded("busy")), field.track("b", 1, Disconnected("x")), after=9))
    await asyncio.sleep(20)
    error = told.failure
    assert isinstance(error, TracksFailed)
    assert (list(error.errors), told.ended_at) == (["a", "b"], 2)


@virtual_time
async def test_when_the_spare_fails_the_first_goes_on_alone() -> None:
    field = Field()
    told = Told(hedge(field.track("a", 5, "a", DONE), field.track("b", 1, Overloaded("busy")), after=1))
    await asyncio.sleep(20)
    assert told.story == [(2, "b2 Failed Overloaded"), (5, "a1 'a'"), (5, "a1 Finished")]


@virtual_time
async def test_an_empty_answer_in_time_is_the_answer() -> None:
    field = Field()
    told = Told(hedge(field.track("a", 1, DONE), field.track("b", "b", DONE), after=2))
    await asyncio.sleep(20)
    assert (told.story, told.completed, field.opened["b"]) == ([(1, "a1 Finished")], True, 0)


@virtual_time
async def test_time_in_which_it_is_paused_does_not_count() -> None:
    field = Field()
    told = Told(hedge(field.track("a", HANG), field.track("b", 1, "b", DONE), after=2))
    await asyncio.sleep(1)
    told.gate.hold("test")
    await asyncio.sleep(10)
    assert field.opened["b"] == 0
    told.gate.release("test")
    await asyncio.sleep(0.9)
    assert field.opened["b"] == 0
    await asyncio.sleep(0.2)
    assert field.opened["b"] == 1
    told.gate.hold("test")
    told.gate.release("test")
    await asyncio.sleep(5)
    assert (told.response.text, told.times[-1]) == ("b", 13)


@virtual_time
async def test_a_pause_of_no_time_changes_nothing() -> None:
    field = Field()
    told = Told(hedge(field.track("a", HANG), field.track("b", 1, "b", DONE), after=2))
    for _ in range(3):
        await asyncio.sleep(0.5)
        told.gate.hold("test")
        told.gate.release("test")
    await asyncio.sleep(10)
    assert told.times == [3, 3, 3, 3]


@virtual_time
async def test_a_pause_from_another_thread_that_the_loop_has_not_seen_changes_nothing() -> None:
    field = Field()
    told = Told(hedge(field.track("a", HANG), field.track("b", 1, "b", DONE), after=2))
    await asyncio.sleep(1)

    def pause() -> None:
        told.gate.hold("test")
        told.gate.release("test")

    thread = threading.Thread(target=pause)
    thread.start()
    thread.join()
    await asyncio.sleep(10)
    assert told.times == [3, 3, 3, 3]


@pytest.mark.parametrize("at", [0, 0.5, 1, 2, 2.5, 3, 4])
@virtual_time
async def test_disposed_at_any_moment_it_leaves_nothing(at: float) -> None:
    field = Field()
    told = Told(hedge(field.track("a", 3, "a", 9), field.track("b", 9, "b"), after=2))
    await asyncio.sleep(at)
    told.subscription.dispose()
    heard = len(told.items)
    await settle()
    assert field.running == []
    await asyncio.sleep(20)
    assert (len(told.items), told.ended_at, field.opened["b"]) == (heard, None, int(at >= 2))
    assert await watchers(told.gate) == 0


# --- learned times ----------------------------------------------------------------------------------------------------------


@virtual_time
async def test_the_wait_may_be_learned() -> None:
    field = Field()
    told = Told(hedge(field.track("a", 9, "a", DONE), field.track("b", 1, "b", DONE), after=learned(*[2.0] * 5)))
    await asyncio.sleep(20)
    assert told.times[-1] == 3
    assert told.response.text == "b"


@virtual_time
async def test_as_long_as_nothing_is_known_it_waits_and_learns() -> None:
    times = LatencyQuantile(0.5, min_samples=5)
    field = Field()
    a, b = field.track("a", 4, "a", DONE), field.track("b", "b", DONE)
    for known in range(5):
        assert (times.samples, times.value) == (known, None)
        Told(hedge(a, b, after=times))
        await asyncio.sleep(10)
    assert (times.value, field.opened["b"]) == (4, 0)
    assert LatencyQuantile(fallback=1.0).value == 1.0


@virtual_time
async def test_one_that_was_overtaken_counts_as_slow_and_one_that_failed_or_was_paused_not_at_all() -> None:
    field = Field()
    times = learned(*[2.0] * 5)
    Told(hedge(field.track("a", HANG), field.track("b", 1, "b", DONE), after=times))
    await asyncio.sleep(10)
    assert times.samples == 6
    for _ in range(6):
        times.observe(3.0)
    assert times.value is not None
    assert times.value >= 2.0
    known = times.samples
    Told(hedge(field.track("c", 1, Overloaded("busy")), field.track("d", 1, "d", DONE), after=times))
    paused = Told(hedge(field.track("e", 1, "e", DONE), after=times))
    paused.gate.hold("test")
    await asyncio.sleep(10)
    paused.gate.release("test")
    unknown = LatencyQuantile()
    waiting = Told(hedge(field.track("f", 1, "f", DONE), after=unknown))
    waiting.gate.hold("test")
    waiting.gate.release("test")
    await asyncio.sleep(10)
    assert (paused.response.text, waiting.response.text) == ("e", "f")
    assert (times.samples, unknown.samples) == (known, 0)


@pytest.mark.parametrize("spare", [[HANG], [1.5, "spare", DONE]], ids=["alone", "with a spare"])
@virtual_time
async def test_one_that_had_nothing_to_say_teaches_nothing(spare: list[Step]) -> None:
    times = LatencyQuantile(0.5, min_samples=5, fallback=1.0 if len(spare) > 1 else 50.0)
    field = Field()
    told = Told(hedge(field.track("silent", 2, DONE), field.track("spare", *spare), after=times))
    await asyncio.sleep(10)
    assert (told.completed, times.samples) == (True, 0)


# --- the budget -------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_budget_limits_second_requests() -> None:
    field = Field()
    budget = RetryBudget(0.25, reserve=1, clock=lambda: 0.0)
    slow, spare = field.track("slow", 5, "slow", DONE), field.track("spare", 1, "spare", DONE)
    told: list[Told] = []
    for _ in range(9):
        told.append(Told(hedge(slow, spare, after=1, budget=budget)))
        await asyncio.sleep(10)
    hedged = [each.response.text == "spare" for each in told]
    assert hedged == [True, False, False, True, False, False, False, True, False]
    assert field.opened == {"slow": 9, "spare": 3}


@pytest.mark.parametrize("options", [{"after": -1}, {"after": math.nan}, {"after": None}, {"after": 1, "budget": 0.1}])
def test_an_option_out_of_its_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="budget" if "budget" in options else "after"):
        hedge(rx.never(), **options)


def test_a_track_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="track 2 is an int"):
        hedge(rx.never(), 5, after=1)  # type: ignore[arg-type]
