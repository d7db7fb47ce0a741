"""``segments``: the same text, in whole sentences; the same events, in the same order."""

from __future__ import annotations

import asyncio
import sys
from itertools import groupby
from typing import Any, get_args

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxstream import events as ev
from rxstream.aggregate import aggregate
from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import Event, TextDelta
from rxstream.loop import LoopScheduler
from rxstream.operators import segments
from rxstream.segment import TextUnit, split
from rxstream.usage import Usage
from tests.support.scripted import DONE, Recorder, Scripted, raising
from tests.support.virtual_loop import settle, virtual_time

UNITS: tuple[TextUnit, ...] = get_args(TextUnit)


def through(events: list[Event], by: TextUnit = "sentence", *, limit: int = 65_536) -> list[Event]:
    recorder = Recorder()

    @virtual_time
    async def main() -> None:
        rx.from_iterable(events).pipe(segments(by, limit=limit)).subscribe(
            recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler()
        )
        await settle()

    main()
    assert recorder.completed
    return recorder.items


def shown(events: list[Event]) -> list[str]:
    """Texts, and names of other events."""
    return [event.text if isinstance(event, TextDelta) else type(event).__name__ for event in events]


TEXT = st.text(st.sampled_from(list("ab .!?\n`-#\u0301\u4e2d\u3002")), max_size=8)
TRACKS: dict[str, Any] = {"source": st.sampled_from(["", "b"]), "attempt": st.integers(1, 2)}
DELTAS = st.builds(
    TextDelta, text=TEXT, choice=st.integers(0, 1), part=st.integers(0, 1), seq=st.integers(0, 99), **TRACKS
)
OTHERS = st.one_of(
    st.builds(ev.ThinkingDelta, text=st.just("hm"), **TRACKS),
    st.builds(ev.Heartbeat, **TRACKS),
    st.builds(ev.UsageReported, usage=st.just(Usage()), **TRACKS),
    st.builds(ev.Seam, kind=st.just("resume"), offset=st.just(0), **TRACKS),
    st.builds(ev.PartEnd, **TRACKS),
    st.builds(ev.Finished, reason=st.just("stop"), **TRACKS),
)
RETRACTED = st.builds(ev.Retracted, to_offset=st.integers(0, 20), **TRACKS)


def of_text(event: TextDelta) -> tuple[str, int, int]:
    return event.source, event.attempt, event.choice


def in_order(event: TextDelta) -> bool:
    """There is text, and of one part alone: what is retracted is counted part by part."""
    return bool(event.text) and not event.part


def joined(events: list[Event]) -> dict[tuple[str, int, int], list[tuple[int, str]]]:
    """The text of each choice of each attempt, part by part as they followed each other."""
    deltas = [event for event in events if isinstance(event, TextDelta) and event.text]
    deltas.sort(key=of_text)
    return {
        key: [(part, "".join(delta.text for delta in of_part)) for part, of_part in groupby(of_key, lambda d: d.part)]
        for key, of_key in groupby(deltas, of_text)
    }


@given(st.lists(DELTAS | OTHERS, max_size=20), st.sampled_from(UNITS), st.integers(1, 30))
def test_no_text_is_lost_moved_or_mixed_and_nothing_else_is_touched(
    events: list[Event], by: TextUnit, limit: int
) -> None:
    """Law: of each track, each text is what it was; all other events are there, in order."""
    found = through(events, by, limit=limit)
    assert joined(found) == joined(events)
    assert [event for event in found if not isinstance(event, TextDelta)] == [
        event for event in events if not isinstance(event, TextDelta)
    ]


@given(st.lists(DELTAS.filter(in_order) | OTHERS | RETRACTED, max_size=20), st.sampled_from(UNITS))
def test_the_answer_is_the_same(events: list[Event], by: TextUnit) -> None:
    """Law: who folds the segments gets what he would have got of the deltas, retractions obeyed."""
    of_one_track = [event for event in events if not event.source]
    before, after = aggregate(of_one_track), aggregate(through(of_one_track, by))
    assert (before.text, before.finish_reason) == (after.text, after.finish_reason)


@given(st.lists(TEXT, max_size=12), st.sampled_from(UNITS))
def test_each_is_one_segment(texts: list[str], by: TextUnit) -> None:
    """Law: of one text they are its pieces, however it came."""
    found = through([TextDelta(text=text) for text in texts], by)
    assert shown(found) == split("".join(texts), by)


@given(st.lists(TEXT, max_size=12), st.sampled_from(UNITS))
def test_each_has_the_fields_of_the_event_that_it_begins_in(texts: list[str], by: TextUnit) -> None:
    deltas = [TextDelta(text=text, seq=seq, at=seq / 8) for seq, text in enumerate(texts)]
    begins = [seq for seq, text in enumerate(texts) for _ in text]
    at = 0
    for segment in through(list(deltas), by):
        assert isinstance(segment, TextDelta)
        assert (segment.seq, segment.at) == (begins[at], begins[at] / 8)
        at += len(segment.text)


def test_bytes_are_kept_only_where_they_are_those_of_the_event() -> None:
    whole, half = TextDelta(text="All. ", raw=b"1"), TextDelta(text="So it", raw=b"2")
    found = through([whole, half, TextDelta(text=" is.", raw=b"3")])
    assert found == [whole, TextDelta(text="So it is.")]


@pytest.mark.parametrize(
    "event",
    [
        ev.Finished(reason="stop"),
        ev.PartEnd(),
        ev.ToolCallStart(),
        ev.ThinkingDelta(text="hm"),
        ev.RefusalDelta(text="no"),
        ev.Citation(),
        ev.Failed(error=ev.ErrorInfo(kind="", message="")),
        ev.Cancelled(),
        ev.Seam(kind="prefill", offset=3, attempt=2),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_ends_a_text_comes_after_it(event: Event) -> None:
    """After that of its own track alone."""
    name = type(event).__name__
    events: list[Event] = [TextDelta(text="So "), TextDelta(text="Or ", source="b"), event, TextDelta(text="then ")]
    found = shown(through(events))
    assert found.index("So ") < found.index(name) < found.index("Or ")
    assert found.index(name) < found.index("then ")


@pytest.mark.parametrize(
    "event",
    [ev.Heartbeat(), ev.Status(status="x"), ev.UsageReported(usage=Usage()), ev.Logprobs(content=[]), ev.Raw()],
    ids=lambda event: type(event).__name__,
)
def test_what_says_nothing_of_the_text_passes_at_once(event: Event) -> None:
    assert shown(through([TextDelta(text="So "), event, TextDelta(text="it is")])) == [type(event).__name__, "So it is"]


def test_another_part_comes_after_the_one_before_it() -> None:
    events: list[Event] = [
        TextDelta(text="One ", part=2),
        TextDelta(text="two ", choice=1),
        TextDelta(text="three", part=3),
    ]
    found = through(events)
    assert [event.text for event in found if isinstance(event, TextDelta) and not event.choice] == ["One ", "three"]


@pytest.mark.parametrize(("to_offset", "kept"), [(0, []), (5, []), (6, ["T"]), (8, ["Two"]), (99, ["Two"])])
def test_what_is_retracted_is_not_emitted(to_offset: int, kept: list[str]) -> None:
    events: list[Event] = [
        TextDelta(text="One. "),
        TextDelta(text="Two"),
        TextDelta(text="another", choice=1),
        TextDelta(text="more", attempt=2),
        ev.Retracted(to_offset=to_offset),
        ev.Retracted(to_offset=0, attempt=3),
        TextDelta(text="x"),
    ]
    assert shown(through(events)) == ["One. ", *kept, "Retracted", "Retracted", "x", "more"]


def test_an_endless_segment_comes_in_parts() -> None:
    found = shown(through([TextDelta(text="abc")] * 10, limit=8))
    assert "".join(found) == "abc" * 10
    assert max(map(len, found)) <= 11


@virtual_time
async def test_what_was_emitted_is_forgotten() -> None:
    """Also where something is always held."""
    source, first = rx.Subject[Event](), TextDelta(text="On")
    known = sys.getrefcount(first)
    source.pipe(segments()).subscribe(scheduler=LoopScheduler())
    source.on_next(first)
    assert sys.getrefcount(first) > known
    for text in ("e. T", "wo. T"):
        source.on_next(TextDelta(text=text))
    assert sys.getrefcount(first) == known


@virtual_time
async def test_a_segment_comes_when_its_end_is_known() -> None:
    script, recorder = Scripted([1, "So it", 1, " is.", 1, " ", 1, "Then", 1, " no.", 1, DONE]), Recorder()
    script.events().pipe(segments()).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler()
    )
    await asyncio.sleep(10)
    assert list(zip(recorder.times, shown(recorder.items), strict=True)) == [
        (4, "So it is. "),
        (6, "Then no."),
        (6, "Finished"),
    ]
    assert [event.seq for event in recorder.items] == [0, 3, 5]
    assert recorder.completed


@virtual_time
async def test_a_closed_gate_stops_it_between_two_segments_of_one_delta() -> None:
    scheduler, recorder = LoopScheduler(), Recorder()
    script = Scripted([1, "One. Two. Three. ", 1, DONE])

    def on_next(event: Event) -> None:
        recorder.on_next(event)
        if len(recorder.items) == 1:
            scheduler.gate.hold("test")

    script.events().pipe(segments()).subscribe(on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler)
    await asyncio.sleep(10)
    assert (shown(recorder.items), script.given) == (["One. "], 1)
    scheduler.gate.release("test")
    await asyncio.sleep(10)
    assert list(zip(recorder.times, shown(recorder.items), strict=True)) == [
        *((1, "One. "), (10, "Two. ")),
        *((11, "Three. "), (11, "Finished")),
    ]


@virtual_time
async def test_what_is_held_comes_before_the_error() -> None:
    error, recorder = Disconnected("gone"), Recorder()
    Scripted(["One. Tw", raising(error)]).events().pipe(segments()).subscribe(
        recorder.on_next, recorder.on_error, scheduler=LoopScheduler()
    )
    await settle()
    assert (shown(recorder.items), recorder.error) == (["One. ", "Tw"], error)


@given(st.integers(0, 7))
def test_disposed_at_any_time_it_says_no_more_and_lets_go(when: int) -> None:
    @virtual_time
    async def main() -> None:
        scheduler, recorder = LoopScheduler(), Recorder()
        script = Scripted(["One. ", 1, "Two. Three. ", 1, "Four", 1, DONE])
        subscription = script.events().pipe(segments()).subscribe(recorder.on_next, scheduler=scheduler)
        scheduler.gate.hold("test") if when % 2 else None
        await asyncio.sleep(when / 2)
        heard = len(recorder.items)
        subscription.dispose()
        scheduler.gate.release("test")
        await asyncio.sleep(10)
        assert (len(recorder.items), script.running) == (heard, 0)
        assert (scheduler.gate.holds, vars(scheduler.gate)["_watchers"]) == ((), set())

    main()


@pytest.mark.parametrize(
    ("options", "name"), [({"by": "delta"}, "by="), ({"limit": 0}, "limit=0"), ({"limit": 1.5}, "limit=")]
)
def test_options_that_do_not_fit(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        segments(**options)
