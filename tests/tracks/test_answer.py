"""Combinations that give one answer: the laws that all of them keep, whatever their tracks do, and when."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
import reactivex as rx
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex.subject import Subject

from rxstream.errors import Disconnected, StreamError, TracksFailed
from rxstream.events import Cancelled, Event, Finished, Heartbeat, Started, TextDelta, UsageReported
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.tracks import best_of, failover, hedge, race, supersede, vote
from tests.support.contests import Field, Told, reported, watchers
from tests.support.scripted import DONE, Step
from tests.support.virtual_loop import settle, virtual_time

Make = Callable[[Sequence[Stream[Event]]], Stream[Event]]

MAKES: dict[str, Make] = {
    "race": lambda tracks: race(*tracks),
    "hedge": lambda tracks: hedge(tracks[0], tracks[1], after=2),
    "failover": lambda tracks: failover(*tracks),
    "failover, restart": lambda tracks: failover(*tracks, after_output="restart"),
    "supersede, first output": lambda tracks: supersede(tracks[0], tracks[1], at="first_output"),
    "supersede, sentence": lambda tracks: supersede(tracks[0], tracks[1], at="first_sentence", edits="minimal"),
    "supersede, end": lambda tracks: supersede(tracks[0], tracks[1], at="end"),
    "best_of": lambda tracks: best_of(*tracks, score=lambda answer: len(answer.text)),
    "vote": lambda tracks: vote(*tracks),
    "of each other": lambda tracks: race(failover(tracks[0], tracks[1]), *tracks[2:]),
}
STEADY = ("failover", "failover, restart", "supersede, end", "best_of", "vote")
"""Whose answer does not depend on when things come."""


_EVENTS: dict[str, Event] = {
    "empty": TextDelta(text=""),
    "start": Started(model="m"),
    "ping": Heartbeat(),
    "usage": reported(2),
}


@dataclass
class Script:
    """A track: waits, what it says, and how it ends."""

    steps: list[tuple[int, str]]
    end: str
    pieces: list[Event] = field(default_factory=list[Event])

    def follow(self, name: str) -> list[Step]:
        steps: list[Step] = []
        self.pieces = []
        for number, (wait, kind) in enumerate(self.steps):
            event: Event = _EVENTS[kind] if kind != "text" else TextDelta(text=f"{name}{number}. ")
            steps += [wait, event]
            self.pieces.append(event)
        if self.end == "done":
            steps.append(DONE)
        elif self.end == "fail":
            steps += [1, Disconnected("gone")]
        return steps

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.pieces if isinstance(event, TextDelta))

    def used(self, given: int, *, is_answer: bool) -> int:
        """Tokens, as they are told of a request of which so many pieces came."""
        came = self.pieces[:given]
        said = sum(isinstance(event, TextDelta) for event in came)
        counts = [event.usage.output_tokens or 0 for event in came if isinstance(event, UsageReported)]
        is_whole = self.end == "done" and given > len(self.pieces)
        if is_answer or (is_whole and counts):
            return counts[-1] if counts else 0
        return max([said, *counts[-1:]])


KINDS = st.sampled_from(["text", "text", "text", "empty", "start", "ping", "usage"])
SCRIPTS = st.lists(
    st.builds(
        Script,
        steps=st.lists(st.tuples(st.integers(0, 3), KINDS), max_size=5),
        end=st.sampled_from(["done", "done", "fail", "cut"]),
    ),
    min_size=2,
    max_size=4,
)
PAUSES = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 5)), max_size=3)


def run(make: Make, scripts: Sequence[Script], pauses: Sequence[tuple[int, int]]) -> tuple[Told, Field]:
    """To its end, with the gate closed at these times for so long."""
    kept: list[tuple[Told, Field]] = []

    @virtual_time
    async def main() -> None:
        tracks = Field()
        told = Told(
            make([tracks.track(f"t{number}", *each.follow(f"t{number}")) for number, each in enumerate(scripts)])
        )
        loop = asyncio.get_running_loop()
        for number, (start, length) in enumerate(pauses):
            loop.call_at(start, told.gate.hold, f"pause-{number}")
            loop.call_at(start + length, told.gate.release, f"pause-{number}")
        await asyncio.sleep(300)
        assert told.ended_at is not None
        assert tracks.running == []
        assert await watchers(told.gate) == 0
        kept.append((told, tracks))

    main()
    return kept[0]


def text_of(scripts: Sequence[Script], source: str) -> str:
    return scripts[int(source.removeprefix("t"))].text


@pytest.mark.parametrize("name", MAKES)
@settings(max_examples=60)
@given(SCRIPTS, PAUSES)
def test_the_answer_is_exactly_one_tracks_text_or_an_error(
    name: str, scripts: list[Script], pauses: list[tuple[int, int]]
) -> None:
    told, _ = run(MAKES[name], scripts, pauses)
    finished = [index for index, event in enumerate(told.items) if isinstance(event, Finished)]
    if told.completed:
        assert finished == [len(told.items) - 1]
        assert told.response.text == text_of(scripts, told.items[-1].source)
        assert scripts[int(told.items[-1].source[1:])].end == "done"
        return
    assert finished == []
    assert isinstance(told.error, StreamError)
    if isinstance(told.error, TracksFailed) or told.error.partial is not None:
        partial = told.error.partial
        assert told.response.text == ("" if partial is None else partial.text)
        if partial is not None and name != "of each other":
            assert (partial.usage.output_tokens, partial.attempts) == (
                told.response.usage.output_tokens,
                told.response.attempts,
            )


@pytest.mark.parametrize(
    "name", [name for name in MAKES if name != "of each other"]
)  # it keeps to itself what it kept back
@settings(max_examples=60)
@given(SCRIPTS)
def test_the_usage_is_that_of_all_requests(name: str, scripts: list[Script]) -> None:
    told, tracks = run(MAKES[name], scripts, [])
    if not told.completed:
        return
    answer = told.items[-1].source
    expected = {
        label: scripts[int(label[1:])].used(script.given, is_answer=label == answer)
        for label, script in tracks.scripts.items()
    }
    assert (told.response.usage.output_tokens or 0) == sum(expected.values()), expected


@pytest.mark.parametrize("name", STEADY)
@settings(max_examples=60)
@given(SCRIPTS, PAUSES)
def test_pauses_change_nothing_but_the_times(name: str, scripts: list[Script], pauses: list[tuple[int, int]]) -> None:
    if name.startswith("supersede"):
        scripts = [replace(script, end="done") for script in scripts]  # else it matters who fails first
    steady, _ = run(MAKES[name], scripts, [])
    paused, _ = run(MAKES[name], scripts, pauses)
    assert (paused.completed, type(paused.error)) == (steady.completed, type(steady.error))
    assert paused.response.text == steady.response.text
    if name.startswith("failover"):
        assert paused.said == steady.said


@pytest.mark.parametrize("name", MAKES)
@settings(max_examples=30)
@given(SCRIPTS, st.integers(0, 12), st.booleans())
def test_disposed_at_any_moment_it_leaves_nothing(name: str, scripts: list[Script], at: int, paused: bool) -> None:
    @virtual_time
    async def main() -> None:
        tracks = Field()
        told = Told(
            MAKES[name]([tracks.track(f"t{number}", *each.follow(f"t{number}")) for number, each in enumerate(scripts)])
        )
        await asyncio.sleep(at / 2)
        if paused:
            told.gate.hold("test")
            await asyncio.sleep(3)
        told.subscription.dispose()
        heard, over = len(told.items), told.ended_at
        await settle()
        assert tracks.running == []
        told.gate.release("test")
        await asyncio.sleep(100)
        assert (len(told.items), told.ended_at) == (heard, over)
        assert await watchers(told.gate) == 0

    main()


@pytest.mark.parametrize("name", MAKES)
@settings(max_examples=30)
@given(SCRIPTS)
def test_numbers_grow_within_an_attempt_and_those_of_the_answer_have_no_gap(name: str, scripts: list[Script]) -> None:
    told, _ = run(MAKES[name], scripts, [])
    for number in {event.attempt for event in told.items}:
        mine = [event for event in told.items if event.attempt == number]
        seqs = [event.seq for event in mine]
        assert seqs == sorted(set(seqs))
        if any(isinstance(event, Finished) for event in mine):
            assert seqs == list(range(len(seqs)))
        assert len({event.source for event in mine}) == 1
        closed = [index for index, event in enumerate(mine) if isinstance(event, Cancelled)]
        assert all(not isinstance(event, TextDelta) for index in closed for event in mine[index:])


@pytest.mark.parametrize("name", MAKES)
@virtual_time
async def test_subscribed_in_another_thread_it_runs_on_the_loop(name: str) -> None:
    tracks, told = Field(), list[Told]()
    make = MAKES[name]([tracks.track(f"t{number}", 1, "x", DONE) for number in range(3)])
    scheduler, gate = LoopScheduler(), Gate()

    def subscribe() -> None:
        told.append(Told(make, scheduler=scheduler.with_gate(gate)))
        told.append(Told(make, scheduler=scheduler))

    thread = threading.Thread(target=subscribe)
    thread.start()
    thread.join()
    told[0].subscription.dispose()  # before the loop has come to it
    await asyncio.sleep(10)
    assert (told[0].items, await watchers(gate)) == ([], 0)
    assert told[1].response.text == "x"
    assert max(tracks.opened.values()) == 1


@pytest.mark.parametrize("name", MAKES)
@virtual_time
async def test_an_endless_answer_stops_with_its_reader(name: str) -> None:
    """Nothing piles up: the winner's source is held at its socket."""
    tracks = Field()
    endless: list[Step] = [step for _ in range(1000) for step in (0.125, "x. ")]
    told = Told(MAKES[name]([tracks.track("t0", *endless), tracks.track("t1", 9, DONE), tracks.track("t2", 9, DONE)]))
    told.gate.hold("full")
    await asyncio.sleep(0.5)
    assert tracks.scripts["t0"].given == 0
    told.gate.release("full")
    asyncio.get_running_loop().call_at(3, told.gate.hold, "full")
    await asyncio.sleep(3)
    given, heard = tracks.scripts["t0"].given, len(told.items)
    await asyncio.sleep(10)
    assert tracks.scripts["t0"].given <= given + 1
    assert len(told.items) == heard
    told.subscription.dispose()
    await settle()
    assert tracks.running == []


@pytest.mark.parametrize("name", ["race", "hedge", "failover", "supersede, first output", "of each other"])
@virtual_time
async def test_what_a_handler_brings_about_comes_after_what_had_come(name: str) -> None:
    """The first content and what was kept back before it are one: nothing gets between them."""
    source: Subject[Event] = Subject()
    first = Stream.of(source, label="t0")
    told = Told(MAKES[name]([first, Stream.of(rx.never(), label="t1"), Stream.of(rx.never(), label="t2")]))

    def bring(event: Event) -> None:
        if isinstance(event, Started):
            source.on_next(TextDelta(text="two", seq=2))

    told.and_then = bring
    source.on_next(Started())
    source.on_next(TextDelta(text="one", seq=1))
    assert told.texts == ["one", "two"]
    told.subscription.dispose()


@virtual_time
async def test_the_usage_of_an_answer_that_failed_is_never_final() -> None:
    """Also where all that is known of it was reported, by another track."""
    tracks = Field()
    silent, winner = tracks.track("a", reported(3), DONE), tracks.track("b", 1, "b", 1, Disconnected("gone"))
    told = Told(race(silent, winner))
    await asyncio.sleep(9)
    partial = told.failure.partial
    assert partial is not None
    assert (partial.text, partial.attempts) == ("b", 2)
    assert (partial.usage.output_tokens, partial.usage.provenance) == (3, "partial")
    assert partial.usage == told.response.usage
