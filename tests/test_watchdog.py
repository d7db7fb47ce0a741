"""The six clocks, in exact virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rxstream._watchdog import Watchdog
from rxstream.config import Timeouts
from rxstream.errors import Clock, TimedOut
from tests.support.virtual_loop import VirtualLoop, virtual_time

OFF: dict[str, None] = dict.fromkeys(("connect", "first_event", "first_output", "idle", "step", "total"))


class Watched:
    """A watchdog, and what it said when."""

    def __init__(self, **seconds: float | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.errors: list[tuple[float, TimedOut]] = []
        settings: Any = {**OFF, **seconds}
        self.watchdog = Watchdog(self.loop, Timeouts(**settings), self._expired)

    def _expired(self, error: TimedOut) -> None:
        self.errors.append((self.loop.time(), error))

    def output(self) -> None:
        self.watchdog.last_output = self.loop.time()

    @property
    def fired(self) -> list[tuple[float, Clock]]:
        return [(at, error.clock) for at, error in self.errors]


def reach(watched: Watched, clock: Clock) -> None:
    """Go, at this moment, to where `clock` runs."""
    watched.watchdog.start()
    if clock in ("first_event", "idle"):
        watched.watchdog.connected()
    if clock == "idle":
        watched.watchdog.first_event()
        watched.output()
        watched.watchdog.first_output()


CLOCKS: tuple[Clock, ...] = ("connect", "first_event", "first_output", "idle", "step", "total")


@pytest.mark.parametrize("clock", CLOCKS)
@virtual_time
async def test_each_clock_fires_once_at_its_time_and_says_which(clock: Clock) -> None:
    watched = Watched(**{clock: 2.5})
    await asyncio.sleep(1)
    reach(watched, clock)
    await asyncio.sleep(100)
    assert watched.fired == [(3.5, clock)]
    error = watched.errors[0][1]
    assert error.seconds == 2.5
    assert f"2.5 s (clock '{clock}')" in str(error)


@pytest.mark.parametrize("clock", CLOCKS)
@virtual_time
async def test_a_clock_that_is_none_never_fires(clock: Clock) -> None:
    watched = Watched()
    reach(watched, clock)
    await asyncio.sleep(1e6)
    assert watched.fired == []


@pytest.mark.parametrize("clock", CLOCKS)
@virtual_time
async def test_stopped_clocks_never_fire(clock: Clock) -> None:
    watched = Watched(**{clock: 2.5})
    reach(watched, clock)
    watched.watchdog.stop()
    await asyncio.sleep(100)
    assert watched.fired == []


@pytest.mark.parametrize("clock", CLOCKS)
@virtual_time
async def test_the_time_of_a_pause_does_not_count(clock: Clock) -> None:
    watched = Watched(**{clock: 5})
    reach(watched, clock)
    await asyncio.sleep(2)
    watched.watchdog.pause()
    watched.watchdog.pause()  # a second one changes nothing
    await asyncio.sleep(1000)
    watched.watchdog.resume()
    watched.watchdog.resume()
    await asyncio.sleep(1)
    watched.watchdog.pause()
    await asyncio.sleep(500)
    watched.watchdog.resume()
    await asyncio.sleep(100)
    assert watched.fired == [(1505, clock)]


@virtual_time
async def test_the_first_event_clock_starts_in_a_pause_when_the_headers_come_in_one() -> None:
    watched = Watched(first_event=5)
    watched.watchdog.start()
    watched.watchdog.pause()
    await asyncio.sleep(10)
    watched.watchdog.connected()
    await asyncio.sleep(10)
    watched.watchdog.resume()
    await asyncio.sleep(100)
    assert watched.fired == [(25, "first_event")]


@virtual_time
async def test_the_connect_clock_is_off_once_the_headers_are_here() -> None:
    watched = Watched(connect=5)
    watched.watchdog.start()
    await asyncio.sleep(4)
    watched.watchdog.connected()
    await asyncio.sleep(100)
    assert watched.fired == []


@virtual_time
async def test_the_first_event_clock_is_off_once_there_is_one_and_first_output_runs_on() -> None:
    watched = Watched(first_event=2, first_output=10)
    watched.watchdog.start()
    await asyncio.sleep(4)
    watched.watchdog.connected()
    await asyncio.sleep(1)
    watched.watchdog.first_event()
    await asyncio.sleep(100)
    assert watched.fired == [(10, "first_output")]


@virtual_time
async def test_output_re_arms_idle_and_nothing_else_does() -> None:
    watched = Watched(idle=3, total=100)
    reach(watched, "idle")
    for _ in range(4):
        await asyncio.sleep(2)
        watched.output()
    await asyncio.sleep(100)
    assert watched.fired == [(11, "idle")]


@virtual_time
async def test_step_and_total_are_not_re_armed_by_output() -> None:
    watched = Watched(idle=3, step=7)
    reach(watched, "idle")
    for _ in range(10):
        await asyncio.sleep(1)
        watched.output()
    assert watched.fired == [(7, "step")]


@pytest.mark.parametrize(("clock", "at"), [("first_event", 18), ("first_output", 18), ("step", 18), ("total", 10)])
@virtual_time
async def test_another_attempt_has_clocks_of_its_own_but_one_total(clock: Clock, at: float) -> None:
    watched = Watched(idle=3, **{clock: 10})
    reach(watched, "idle")
    await asyncio.sleep(2)
    watched.watchdog.again(6)
    await asyncio.sleep(100)
    assert watched.fired == [(at, clock)]


@virtual_time
async def test_another_attempt_that_is_told_of_in_a_pause_begins_after_it() -> None:
    watched = Watched(step=10)
    watched.watchdog.start()
    await asyncio.sleep(2)
    watched.watchdog.pause()
    await asyncio.sleep(50)
    watched.watchdog.again(6)
    await asyncio.sleep(50)
    watched.watchdog.resume()
    await asyncio.sleep(100)
    assert watched.fired == [(118, "step")]


@virtual_time
async def test_the_earliest_deadline_wins() -> None:
    watched = Watched(connect=4, first_output=3, step=9, total=2)
    watched.watchdog.start()
    await asyncio.sleep(100)
    assert watched.fired == [(2, "total")]


@virtual_time
async def test_a_loop_that_was_blocked_hears_of_it_late_but_hears_of_it() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    watched = Watched(total=2)
    watched.watchdog.start()
    loop.advance(50)
    await asyncio.sleep(1)
    assert watched.fired == [(50, "total")]
