"""``concat_unordered``: all tracks at once, delivered whole in the order in which they are ready."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import ConfigurationError, TracksFailed
from rxstream.events import Event
from rxstream.observable import Stream
from rxstream.tracks import concat_unordered
from tests.support.scripted import DONE, HANG, words
from tests.support.tracks import BROKEN, Combination, Play, Plot, counting, law, plots
from tests.support.virtual_loop import settle, virtual_time


def ahead(count: int, most: int | None = None) -> Combination:
    def combination(*tracks: Stream[Event]) -> Stream[Event]:
        return concat_unordered(*tracks, ahead=count, max_concurrency=most)

    return combination


@virtual_time
async def test_they_come_whole_in_the_order_in_which_they_end() -> None:
    play = Play(concat_unordered, words("1", "2", every=2.0), words("1", "2"), words("1", every=3.0)).start()
    await asyncio.sleep(10)
    assert play.timed == [
        (2, "b1"), (2, "b2"), (2, "b."), (3, "c1"), (3, "c."), (4, "a1"), (4, "a2"), (4, "a.")
    ]  # fmt: skip
    assert (play.heard.completed, play.heard.ended_at) == (True, 4)
    play.assert_released()


@virtual_time
async def test_who_fills_its_backlog_first_gets_its_turn_and_flows() -> None:
    """A long track does not wait for its own end, and holds up who ends meanwhile until it has ended."""
    play = Play(ahead(3), words("1", "2", "3", "4", "5"), words("1", "2", every=2.25)).start()
    await asyncio.sleep(10)
    assert play.timed == [
        (3, "a1"), (3, "a2"), (3, "a3"), (4, "a4"), (5, "a5"), (5, "a."), (5, "b1"), (5, "b2"), (5, "b.")
    ]  # fmt: skip


@virtual_time
async def test_two_that_are_longer_than_all_buffers_do_not_lock_each_other_out() -> None:
    play = Play(ahead(2), counting(50), counting(50)).start()
    await asyncio.sleep(1)
    assert [name for name, _ in itertools.groupby(text[0] for text in play.said)] == ["a", "b"]
    assert len(play.said) == 102
    assert play.heard.completed
    play.assert_released()


@virtual_time
async def test_who_waits_for_its_turn_with_a_full_backlog_waits_at_its_source() -> None:
    play = Play(ahead(4), ["1", "2", "3", "4", 10.0, DONE], counting(100)).start()
    await asyncio.sleep(5)
    assert play.said == ["a1", "a2", "a3", "a4"]
    assert play.scripts[1].given <= 5
    await asyncio.sleep(10)
    assert play.said[4:] == ["a.", *(f"b{number}" for number in range(1, 101)), "b."]


@virtual_time
async def test_nobody_has_the_floor_between_two_turns() -> None:
    """When one has ended and no other is ready, the next that is gets its turn."""
    play = Play(ahead(2), words("1"), words("1", "2", "3", every=3.0)).start()
    await asyncio.sleep(20)
    assert play.timed == [(1, "a1"), (1, "a."), (6, "b1"), (6, "b2"), (9, "b3"), (9, "b.")]


@virtual_time
async def test_a_failed_track_gives_what_had_arrived() -> None:
    play = Play(concat_unordered, words("1", "2"), [1.5, "1", BROKEN]).start()
    await asyncio.sleep(10)
    assert play.timed == [(1.5, "b1"), (1.5, "b!"), (2, "a1"), (2, "a2"), (2, "a.")]
    assert play.heard.completed


@virtual_time
async def test_it_fails_when_all_have_failed_after_what_had_arrived() -> None:
    play = Play(concat_unordered, [2.0, "1", BROKEN], ["1", BROKEN]).start()
    await asyncio.sleep(10)
    assert play.said == ["b1", "b!", "a1", "a!"]
    assert isinstance(play.heard.error, TracksFailed)


@virtual_time
async def test_a_pause_in_the_midst_of_a_turn() -> None:
    play = Play(concat_unordered, words("1", "2", every=2.0), counting(3))
    play.heard.room = 2
    play.start()
    await asyncio.sleep(5)
    assert play.said == ["b1", "b2"]
    assert await play.take(3) == ["b3", "b."]
    assert play.heard.ended_at is None
    play.heard.room = 9
    await asyncio.sleep(5)
    assert play.said[4:] == ["a1", "a2", "a."]
    assert not play.heard.intruders
    play.assert_released()


@pytest.mark.parametrize("when", [0.0, 0.5, 1.0, 1.5, 2.5])
@virtual_time
async def test_leaving_closes_all(when: float) -> None:
    play = Play(ahead(2), words("1", "2", "3"), [1.0, "1", "2", "3", HANG]).start()
    await asyncio.sleep(when)
    play.leave()
    count = len(play.said)
    await asyncio.sleep(10)
    assert (len(play.said), play.heard.ended_at) == (count, None)
    play.assert_released()


@virtual_time
async def test_a_stopped_consumer_keeps_memory_bounded() -> None:
    play = Play(ahead(50), *[counting(5000)] * 3)
    play.heard.room = 1
    play.start()
    await asyncio.sleep(100)
    assert len(play.said) == 1
    assert all(script.given <= 51 for script in play.scripts)
    play.leave()
    await settle()
    play.assert_released()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"ahead": 0}, "ahead=0"), ({"ahead": 2.5}, "ahead=2.5"), ({"max_concurrency": -1}, "max_concurrency=-1")],
)
def test_what_is_wrong_is_said_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        concat_unordered(rx.empty(), **options)
    with pytest.raises(ConfigurationError, match="0 tracks"):
        concat_unordered()


@given(plots, st.integers(1, 5), st.none() | st.integers(1, 3))
def test_nothing_is_lost_doubled_or_left_open(plot: Plot, count: int, most: int | None) -> None:
    """And each track comes in one piece."""
    play = law(ahead(count, most), plot)
    turns = [name for name, _ in itertools.groupby(event.source for event in play.heard.items)]
    assert len(turns) == len(set(turns))
