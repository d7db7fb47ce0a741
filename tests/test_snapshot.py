"""Snapshots: what a track has come to, as a value."""

from __future__ import annotations

import time
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream import aggregate, snapshot
from rxstream import events as ev
from rxstream.events import ErrorInfo, Event
from rxstream.snapshot import Said, Snapshot, SnapshotFold, SnapshotStatus
from rxstream.usage import Usage


def told(*events: Event) -> Snapshot:
    progress = SnapshotFold("a")
    for at, event in enumerate(events, 1):
        progress.add(event, float(at))
    return progress.snapshot()


def test_before_anything_has_come_a_track_waits() -> None:
    state = SnapshotFold("a").snapshot()
    assert state == Snapshot(label="a", said=Said.of(""))
    assert (state.status, state.text, state.over) == ("waiting", "", False)
    assert (state.first_output, state.last_output, state.ended, state.finish_reason) == (None, None, None, None)


def test_it_says_who_answers_what_when_and_why_it_stopped() -> None:
    usage = Usage(provenance="reported", input_tokens=3, output_tokens=2)
    state = told(
        ev.Started(model="m", provider="p"),
        ev.ThinkingDelta(text="hm"),
        ev.TextDelta(text="Hel"),
        ev.TextDelta(text="lo"),
        ev.UsageReported(usage=usage),
        ev.Finished(reason="length"),
    )
    assert (state.model, state.provider, state.text, state.finish_reason) == ("m", "p", "Hello", "length")
    assert (state.outputs, state.first_output, state.last_output) == (3, 2, 4)
    assert (state.usage.output_tokens, state.usage.provenance) == (2, "reported")
    assert state.status == "active"


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_an_end_has_its_time_and_its_error(status: SnapshotStatus) -> None:
    progress = SnapshotFold("a")
    progress.add(ev.TextDelta(text="x"), 1.0)
    progress.add(ev.Failed(error=ErrorInfo(kind="Disconnected", message="gone")), 2.0)
    progress.end(status, 2.5)
    state = progress.snapshot()
    assert (state.status, state.ended, state.over) == (status, 2.5, True)
    assert state.error is not None
    assert state.error.kind == "Disconnected"


def test_what_a_track_within_the_track_failed_of_is_not_its_own() -> None:
    """Such as one of a race that another one won."""
    progress = SnapshotFold("a")
    progress.add(ev.Failed(error=ErrorInfo(kind="Disconnected", message="gone")), 1.0)
    assert progress.snapshot().error is None
    progress.end("completed", 2.0)
    assert progress.snapshot().error is None


def test_it_tells_whether_an_event_changed_anything() -> None:
    progress = SnapshotFold("a")
    assert progress.add(ev.Heartbeat(), 0.0)  # it was waiting
    first = progress.snapshot()
    assert not progress.add(ev.Heartbeat(), 1.0)
    assert not progress.add(ev.Status(status="queued"), 1.0)
    assert not progress.add(ev.PartEnd(kind="text"), 1.0)
    assert progress.snapshot() is first
    assert progress.add(ev.ToolCallStart(name="f"), 1.0)
    assert progress.snapshot() is not first


def test_a_snapshot_stays_as_it_was() -> None:
    progress = SnapshotFold("a")
    taken: list[Snapshot] = []
    for event in (
        ev.TextDelta(text="Hel"),
        ev.TextDelta(text="lo"),
        ev.Retracted(to_offset=1),
        ev.TextDelta(text="ey"),
        ev.PartEnd(kind="text", text="Hey!"),
        ev.TextDelta(text="!"),
    ):
        progress.add(event, 0.0)
        taken.append(progress.snapshot())
    assert [state.text for state in taken] == ["Hel", "Hello", "H", "Hey", "Hey!", "Hey!!"]
    assert [len(state.said) for state in taken] == [3, 5, 1, 3, 4, 5]


def test_whether_a_text_has_only_grown() -> None:
    progress = SnapshotFold("a")
    progress.add(ev.TextDelta(text="ab"), 0.0)
    first = progress.snapshot().said
    progress.add(ev.TextDelta(text="c"), 0.0)
    second = progress.snapshot().said
    progress.add(ev.Retracted(to_offset=3), 0.0)
    third = progress.snapshot().said
    assert second.grown_from(first)
    assert second.grown_from(second)
    assert not first.grown_from(second)
    assert not third.grown_from(second)
    assert third == second  # the text is the same, whatever became of it
    assert hash(third) == hash(second)
    assert third != "abc"


def test_a_long_text_is_shown_in_short() -> None:
    assert repr(Said.of("abc")) == "'abc'"
    assert repr(Said.of("a" * 50)) == repr("a" * 39 + "…")


def test_a_part_that_stands_before_another_and_other_choices() -> None:
    state = told(
        ev.TextDelta(text="world", part=2),
        ev.TextDelta(text="another answer", choice=1),
        ev.TextDelta(text="Hello ", part=1),
        ev.TextDelta(text="!", part=2),
    )
    assert state.text == "Hello world!"


_events = st.one_of(
    st.builds(ev.TextDelta, text=st.text(max_size=3), attempt=st.integers(1, 2), part=st.integers(0, 2), choice=st.integers(0, 1)),
    st.builds(ev.Retracted, attempt=st.integers(1, 2), to_offset=st.integers(0, 5)),
    st.builds(ev.PartEnd, text=st.none() | st.text(max_size=3), kind=st.just("text"), attempt=st.integers(1, 2), part=st.integers(0, 2)),
)  # fmt: skip


@given(st.lists(_events, max_size=20))
def test_its_text_is_that_of_the_answer(events: list[Event]) -> None:
    assert told(*events).text == aggregate.aggregate(events).text
    assert told(*events).usage == aggregate.aggregate(events).usage


def test_asked_in_another_thread_while_it_changes_it_is_not_out_of_date_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was made of the state before is not kept for that after it."""
    fold = SnapshotFold("a")
    fold.add(ev.TextDelta(text="all"), 1.0)

    def meanwhile(buffer: StringIO, length: int) -> Said:
        monkeypatch.undo()
        fold.end("completed", 2.0)
        return Said(buffer, length)

    monkeypatch.setattr(snapshot, "Said", meanwhile)
    fold.snapshot()
    assert fold.snapshot().status == "completed"
    assert fold.snapshot() is fold.snapshot()


def test_many_snapshots_of_a_long_text_cost_no_more_than_few() -> None:
    """They copy nothing: 20 000 states of a text of 2 MB would be 20 GB."""
    progress = SnapshotFold("a")
    before = time.process_time()
    states: list[Snapshot] = []
    for _ in range(20_000):
        progress.add(ev.TextDelta(text="x" * 100), 0.0)
        states.append(progress.snapshot())
    assert time.process_time() - before < 2
    assert len(states[10_000].text) == 1_000_100
