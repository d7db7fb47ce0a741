"""``concat_ordered``: all tracks at once, delivered whole in the order given."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import ConfigurationError, TracksFailed
from rxstream.events import Event, Failed, TextDelta
from rxstream.observable import Stream
from rxstream.tracks import concat_ordered
from tests.support.scripted import DONE, HANG, words
from tests.support.tracks import BROKEN, Combination, Play, Plot, counting, law, plots
from tests.support.virtual_loop import settle, virtual_time


def ahead(count: int, most: int | None = None) -> Combination:
    def combination(*tracks: Stream[Event]) -> Stream[Event]:
        return concat_ordered(*tracks, ahead=count, max_concurrency=most)

    return combination


@virtual_time
async def test_the_first_flows_and_the_others_wait_for_their_turn() -> None:
    play = Play(concat_ordered, words("1", "2", every=2.0), words("1", "2", "3", every=1.5), words("1")).start()
    await asyncio.sleep(10)
    assert play.timed == [
        (2, "a1"), (4, "a2"), (4, "a."), (4, "b1"), (4, "b2"), (4.5, "b3"), (4.5, "b."), (4.5, "c1"), (4.5, "c.")
    ]  # fmt: skip
    assert (play.heard.completed, play.heard.ended_at) == (True, 4.5)
    play.assert_released()


@virtual_time
async def test_all_begin_at_once() -> None:
    play = Play(concat_ordered, [HANG], counting(1), counting(1)).start()
    await settle()
    assert [script.opened for script in play.scripts] == [1, 1, 1]
    assert play.said == []
    play.leave()
    await settle()
    play.assert_released()


@virtual_time
async def test_one_at_a_time_is_concat() -> None:
    play = Play(ahead(5, most=1), words("1"), words("1")).start()
    await asyncio.sleep(0.5)
    assert [script.opened for script in play.scripts] == [1, 0]
    await asyncio.sleep(10)
    assert play.timed == [(1, "a1"), (1, "a."), (2, "b1"), (2, "b.")]


@virtual_time
async def test_a_full_track_waits_at_its_source() -> None:
    """It is held at `ahead` events, and let go when half of them are gone."""
    play = Play(ahead(10), [1.0, "1", DONE], counting(1000)).start()
    await asyncio.sleep(0.5)
    held = play.scripts[1]
    assert 10 <= held.given <= 11
    assert not play.gate.closed
    play.heard.room = 4
    await asyncio.sleep(5)
    assert play.said == ["a1", "a.", "b1", "b2"]
    assert held.given <= 11
    assert await play.take(2) == ["b3", "b4"]
    assert held.given <= 11
    assert await play.take(1) == ["b5"]  # half of them are gone: it is let go, but the consumer's gate holds it, too
    assert held.given <= 11
    play.gate.release("consumer")
    play.heard.room = 1e9
    await asyncio.sleep(1)
    assert play.said[2:] == [*(f"b{number}" for number in range(1, 1001)), "b."]
    play.assert_released()


@virtual_time
async def test_a_failed_track_gives_in_its_turn_what_had_arrived() -> None:
    play = Play(concat_ordered, words("1", "2"), [0.5, "1", BROKEN], [BROKEN]).start()
    await asyncio.sleep(10)
    assert play.timed == [(1, "a1"), (2, "a2"), (2, "a."), (2, "b1"), (2, "b!"), (2, "c!")]
    assert play.heard.completed


@virtual_time
async def test_it_fails_when_all_have_failed_after_what_had_arrived() -> None:
    play = Play(concat_ordered, [2.0, "1", BROKEN], ["1", BROKEN]).start()
    await asyncio.sleep(10)
    assert play.said == ["a1", "a!", "b1", "b!"]
    assert isinstance(play.heard.error, TracksFailed)
    assert play.heard.ended_at == 2


@virtual_time
async def test_a_pause_in_the_midst_of_what_waited() -> None:
    play = Play(concat_ordered, words("1"), counting(5))
    play.heard.room = 4
    play.start()
    await asyncio.sleep(5)
    assert play.said == ["a1", "a.", "b1", "b2"]
    assert await play.take(2) == ["b3", "b4"]
    assert await play.take(9) == ["b5", "b."]
    assert (play.heard.ended_at, play.heard.intruders) == (5.5, [])
    play.assert_released()


@virtual_time
async def test_what_comes_while_it_is_paused_keeps_its_place() -> None:
    """Of a source that knows no gate, too, and from within a handler."""
    subject = rx.subject.Subject[Event]()
    play = Play(lambda first: concat_ordered(first, subject), words("1"))

    def again(event: Event) -> None:
        play.heard.on_next(event)
        if isinstance(event, TextDelta) and event.text == "2":
            subject.on_next(TextDelta(source="s", text="from within"))

    play.stream.subscribe(again, play.heard.on_error, play.heard.on_completed, scheduler=play.scheduler)
    play.gate.hold("pause")
    subject.on_next(TextDelta(source="s", text="1"))
    await asyncio.sleep(2)
    play.gate.release("pause")
    subject.on_next(TextDelta(source="s", text="2"))
    await asyncio.sleep(2)
    play.gate.hold("pause")
    subject.on_next(TextDelta(source="s", text="3"))
    await settle()
    assert play.said == ["a1", "a.", "s1", "s2", "sfrom within"]
    play.gate.release("pause")
    subject.on_next(TextDelta(source="s", text="4"))
    subject.on_completed()
    await settle()
    assert play.said[5:] == ["s3", "s4"]
    assert play.heard.completed


@virtual_time
async def test_a_source_that_does_not_stop_fails_alone() -> None:
    """What came of it until then is delivered, in its turn, and the others go on."""
    subject = rx.subject.Subject[Event]()
    play = Play(lambda first, last: concat_ordered(first, subject, last, ahead=10), words("1"), words("1")).start()
    for number in range(65_536 + 20):
        subject.on_next(TextDelta(source="s", text=str(number)))
    await asyncio.sleep(5)
    count = 65_536 + 11
    assert play.said == ["a1", "a.", *(f"s{number}" for number in range(count)), "s!", "b1", "b."]
    failed = next(event for event in play.heard.items if isinstance(event, Failed))
    assert failed.error.kind == "LimitExceeded"
    assert play.heard.completed
    assert not subject.observers


@virtual_time
async def test_so_does_the_one_whose_turn_it_is_if_the_consumer_is_stopped() -> None:
    subject = rx.subject.Subject[Event]()
    play = Play(lambda last: concat_ordered(subject, last, ahead=10), words("1")).start()
    play.gate.hold("consumer")
    for number in range(70_000):
        subject.on_next(TextDelta(source="s", text=str(number)))
    play.gate.release("consumer")
    await asyncio.sleep(5)
    assert play.said == [*(f"s{number}" for number in range(65_536 + 11)), "s!", "a1", "a."]


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
    play = Play(ahead(50), [HANG], *[counting(5000)] * 3).start()
    await asyncio.sleep(100)
    assert all(script.given <= 51 for script in play.scripts)
    play.leave()
    await settle()


@virtual_time
async def test_subscribing_again_starts_afresh() -> None:
    play = Play(concat_ordered, counting(1), counting(1)).start()
    await settle()
    play.heard.ended_at = None
    play.start()
    await settle()
    assert play.said == ["a1", "a.", "b1", "b."] * 2


@pytest.mark.parametrize(
    ("options", "said"),
    [({"ahead": 0}, "ahead=0"), ({"ahead": 2.5}, "ahead=2.5"), ({"max_concurrency": -1}, "max_concurrency=-1")],
)
def test_what_is_wrong_is_said_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        concat_ordered(rx.empty(), **options)
    with pytest.raises(ConfigurationError, match="0 tracks"):
        concat_ordered()


@given(plots, st.integers(1, 5), st.none() | st.integers(1, 3))
def test_nothing_is_lost_doubled_or_left_open(plot: Plot, count: int, most: int | None) -> None:
    """And the tracks come one after the other, in their order."""
    play = law(ahead(count, most), plot)
    sources = [event.source for event in play.heard.items]
    assert sources == sorted(sources)
