"""``merge``: several tracks at once, each event as it comes."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

import rxstream
from rxstream.errors import ConfigurationError, Disconnected, LimitExceeded, TracksFailed
from rxstream.events import Event, Failed, TextDelta
from rxstream.observable import Stream
from rxstream.operators import responses
from rxstream.tracks import merge
from tests.support.scripted import HANG, Recorder, Scripted, words
from tests.support.tracks import BROKEN, Play, Plot, counting, law, plots, track
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_each_event_comes_when_it_came() -> None:
    play = Play(merge, words("1", "2", every=2.0), [1.0, "1", 4.0, "2", *counting(0)]).start()
    await asyncio.sleep(10)
    assert play.timed == [(1, "b1"), (2, "a1"), (4, "a2"), (4, "a."), (5, "b2"), (5, "b.")]
    assert (play.heard.completed, play.heard.ended_at) == (True, 5)
    play.assert_released()


@virtual_time
async def test_it_is_a_cold_stream() -> None:
    """Nothing is asked before it is subscribed; each subscription starts afresh."""
    play = Play(merge, counting(2), counting(1))
    await settle()
    assert [script.opened for script in play.scripts] == [0, 0]
    for _ in range(2):
        again = Recorder()
        play.stream.subscribe(again.on_next, again.on_error, again.on_completed)
        await asyncio.sleep(1)
        assert sorted(map(Play.shown, again.items)) == ["a.", "a1", "a2", "b.", "b1"]
        assert again.completed
    assert [script.opened for script in play.scripts] == [2, 2]


@virtual_time
async def test_a_failure_is_an_event_and_the_others_go_on() -> None:
    play = Play(merge, [1.0, "1", BROKEN], words("1", "2", every=1.5)).start()
    await asyncio.sleep(10)
    assert play.timed == [(1, "a1"), (1, "a!"), (1.5, "b1"), (3, "b2"), (3, "b.")]
    failed = play.heard.items[1]
    assert isinstance(failed, Failed)
    assert (failed.error.kind, failed.error.message, failed.seq) == ("Disconnected", "gone", 1)
    assert play.heard.completed


@virtual_time
async def test_it_fails_when_all_have_failed() -> None:
    play = Play(merge, [1.0, "1", BROKEN], [2.0, BROKEN]).start()
    await asyncio.sleep(10)
    assert play.timed == [(1, "a1"), (1, "a!"), (2, "b!")]
    error = play.heard.error
    assert isinstance(error, TracksFailed)
    assert {label: type(each) for label, each in error.errors.items()} == {"a": Disconnected, "b": Disconnected}
    assert error.retryable
    partial = error.errors["a"]
    assert isinstance(partial, Disconnected)
    assert partial.partial is not None
    assert partial.partial.text == "1"


@virtual_time
async def test_pausing_it_pauses_all() -> None:
    play = Play(merge, words("1", "2", "3"), words("1", "2", "3")).start()
    await asyncio.sleep(1.5)
    play.gate.hold("pause")
    await asyncio.sleep(10)
    assert play.said == ["a1", "b1"]
    assert [script.reads for script in play.scripts] == [2, 2]
    play.gate.release("pause")
    await asyncio.sleep(10)
    assert sorted(play.said) == ["a.", "a1", "a2", "a3", "b.", "b1", "b2", "b3"]
    assert not play.heard.intruders


@virtual_time
async def test_the_end_waits_for_the_gate() -> None:
    """A handler that pauses at a track's failure is told of the end only when it goes on."""
    play = Play(merge, [1.0, BROKEN])
    play.heard.room = 1
    play.start()
    await asyncio.sleep(5)
    assert (play.said, play.heard.ended_at) == (["a!"], None)
    play.gate.release("consumer")
    await asyncio.sleep(1)
    assert isinstance(play.heard.error, TracksFailed)
    assert play.heard.ended_at == 5


@pytest.mark.parametrize("when", [0.0, 0.5, 1.0, 1.5, 2.5])
@virtual_time
async def test_leaving_closes_all(when: float) -> None:
    play = Play(merge, words("1", "2", "3"), [1.0, "1", HANG]).start()
    await asyncio.sleep(when)
    play.leave()
    count = len(play.said)
    await asyncio.sleep(10)
    assert len(play.said) == count
    assert play.heard.ended_at is None
    play.assert_released()


@virtual_time
async def test_leaving_from_within_a_handler() -> None:
    play = Play(merge, words("1", "2"), words("1", "2"))
    play.stream.pipe(rx.operators.take(1)).subscribe(play.heard.on_next, scheduler=play.scheduler)
    await asyncio.sleep(10)
    assert play.said == ["a1"]
    play.assert_released()


@virtual_time
async def test_only_so_many_at_once() -> None:
    """They begin in the order given, each when one has ended, however it has."""
    play = Play(
        lambda *tracks: merge(*tracks, max_concurrency=2), words("1", every=3.5), [1.0, BROKEN], *[words("1")] * 3
    )
    play.start()
    await asyncio.sleep(0.5)
    assert [script.opened for script in play.scripts] == [1, 1, 0, 0, 0]
    await asyncio.sleep(20)
    assert play.timed == [
        (1, "b!"), (2, "c1"), (2, "c."), (3, "d1"), (3, "d."), (3.5, "a1"), (3.5, "a."), (4, "e1"), (4, "e.")
    ]  # fmt: skip
    assert play.heard.completed
    play.assert_released()


@virtual_time
async def test_a_track_that_has_not_begun_is_not_asked_after_all_is_left() -> None:
    play = Play(lambda *tracks: merge(*tracks, max_concurrency=1), words("1"), words("1")).start()
    await asyncio.sleep(0.5)
    play.leave()
    await asyncio.sleep(10)
    assert [script.opened for script in play.scripts] == [1, 0]


@virtual_time
async def test_hundreds_of_tracks_that_end_at_once_need_no_deep_stack() -> None:
    def subscribe(observer: Any, _scheduler: Any = None) -> Any:
        observer.on_completed()

    recorder = Recorder()
    merge(*[rx.Observable[Event](subscribe)] * 2000, max_concurrency=1).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed
    )
    await settle()
    assert recorder.completed


@virtual_time
async def test_tracks_keep_their_labels_and_no_two_share_one() -> None:
    scripts = [Scripted(counting(1)) for _ in range(3)]
    recorder = Recorder()
    inner = merge(track(scripts[0], "x"), track(scripts[1], "x"))
    merge(inner, track(scripts[2])).subscribe(recorder.on_next, recorder.on_error, recorder.on_completed)
    await settle()
    assert sorted({event.source for event in recorder.items}) == ["track-2", "x", "x-2"]


@virtual_time
async def test_the_answers_can_be_taken_apart() -> None:
    play = Play(merge, words("Hel", "lo"), words("Bon", "jour"))
    answers = await play.stream.pipe(responses())
    assert {label: answer.text for label, answer in answers.items()} == {"a": "Hello", "b": "Bonjour"}


@virtual_time
async def test_a_consumer_that_is_stopped_stops_endless_tracks() -> None:
    play = Play(merge, counting(10_000), counting(10_000)).start()
    play.gate.hold("consumer")
    await asyncio.sleep(5)
    assert play.said == []
    assert sum(script.given for script in play.scripts) <= 2
    play.leave()
    await settle()
    play.assert_released()


@virtual_time
async def test_a_slow_consumer_hears_all_of_them() -> None:
    """Even where one alone has enough to fill every gap: the tracks take turns to be first."""
    play = Play(merge, *[[tuple(map(str, range(5000)))]] * 3)
    play.gate.hold("consumer")
    play.start()
    await asyncio.sleep(1)
    taken = [await play.take(20) for _ in range(6)]
    assert ["".join({text[0] for text in gap}) for gap in taken] == [*"bcabca"]
    play.leave()
    await settle()


@virtual_time
async def test_a_source_that_knows_no_gate_waits_and_at_last_fails() -> None:
    """What it says while the consumer is stopped is kept, up to a bound; then it all ends, after what is kept."""
    subject = rx.subject.Subject[Event]()
    play = Play(lambda other: merge(other, subject), [HANG]).start()
    play.gate.hold("consumer")
    for number in range(65_537):
        subject.on_next(TextDelta(text=str(number), source="s"))
    assert play.said == []
    play.gate.release("consumer")
    await settle()
    assert len(play.said) == 65_536
    assert isinstance(play.heard.error, LimitExceeded)
    await asyncio.sleep(1)
    play.assert_released()


def test_it_runs_and_is_left_from_another_thread() -> None:
    """`run` subscribes in the caller's thread, and the tracks run in the loop's."""
    tracks = [rxstream.from_iterable([str(number)] * 50, label=f"t{number}") for number in range(20)]
    answers = merge(*tracks, max_concurrency=3).pipe(responses()).run()
    assert {label: answer.text for label, answer in answers.items()} == {f"t{n}": str(n) * 50 for n in range(20)}

    heard = threading.Event()
    endless = rxstream.from_iterable(iter(lambda: "x", ""))
    subscription = merge(endless).subscribe(lambda _event: heard.set())
    heard.wait(10)
    subscription.dispose()


@pytest.mark.parametrize(
    ("tracks", "options", "said"),
    [
        ([], {}, "0 tracks"),
        (["a"], {}, "track 1 is a str"),
        ([rx.empty()], {"max_concurrency": 0}, "max_concurrency=0"),
        ([rx.empty()], {"max_concurrency": 1.5}, "max_concurrency=1.5"),
    ],
)
def test_what_is_wrong_is_said_at_once(tracks: list[Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        merge(*tracks, **options)


def test_it_is_a_stream() -> None:
    assert isinstance(merge(rx.empty()), Stream)


@virtual_time
async def test_a_plain_observer_without_our_scheduler() -> None:
    heard: list[Event] = []
    rx.Observable(merge(rx.of(TextDelta(text="1", source="a")))._subscribe).subscribe(heard.append)
    await settle()
    assert [event.source for event in heard] == ["a"]


@given(plots, st.none() | st.integers(1, 3))
def test_nothing_is_lost_doubled_or_left_open(plot: Plot, most: int | None) -> None:
    law(lambda *tracks: merge(*tracks, max_concurrency=most), plot)
