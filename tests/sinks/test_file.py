"""The handler that writes events into a file."""

from __future__ import annotations

from pathlib import Path

import pytest

import rxstream
from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import Event, Failed, Finished, Started, TextDelta, decode
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks.file import FileStreamHandler
from rxstream.sinks.handler import HandlerPolicy, StreamHandler, StreamMetadata
from tests.support.virtual_loop import virtual_time

EVENTS: list[Event] = [
    TextDelta(text="to\n", seq=0),
    TextDelta(text="b\u00ea \U0001f600", seq=1),
    Finished(reason="stop", seq=2),
]


def read(path: Path) -> list[Event]:
    return [decode(line) for line in path.read_bytes().splitlines()]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stream(handler: StreamHandler, policy: HandlerPolicy | None = None, stream_id: str = "") -> Dispatch:
    made = Dispatch(StreamMetadata(stream_id=stream_id), rxstream.LoopScheduler())
    made.add("h", handler, policy or HandlerPolicy(on_failure="raise"))
    return made


@virtual_time
async def test_every_event_is_there_as_soon_as_it_has_come(tmp_path: Path) -> None:
    path = tmp_path / "new" / "it.jsonl"
    run = stream(FileStreamHandler(path))
    for number, event in enumerate(EVENTS):
        run.on_next(event)
        assert read(path) == EVENTS[: number + 1]
    run.on_completed(rxstream.Response())
    assert read(path) == EVENTS


@virtual_time
async def test_a_failure_is_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "it.jsonl"
    run = stream(FileStreamHandler(path))
    run.on_next(EVENTS[0])
    run.on_error(Disconnected("cut"))
    *before, last = read(path)
    assert before == EVENTS[:1]
    assert isinstance(last, Failed)
    assert (last.error.kind, last.error.message) == ("Disconnected", "cut")


@virtual_time
async def test_it_may_wait_for_more_and_loses_nothing_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "it.jsonl"
    run = stream(FileStreamHandler(path, flush=100))
    run.on_next(EVENTS[0])
    assert read(path) == []
    for _ in range(2):
        run.on_next(EVENTS[0])
    assert len(read(path)) == 3
    run.on_next(EVENTS[1])
    run.on_error(Disconnected("cut"))
    assert len(read(path)) == 5


@virtual_time
async def test_each_stream_has_its_own_or_all_have_one(tmp_path: Path) -> None:
    own, one = FileStreamHandler(tmp_path / "{stream_id}.jsonl"), FileStreamHandler(tmp_path / "all.jsonl")
    runs = [stream(handler, stream_id=name) for name in ("a", "../b") for handler in (own, one)]
    for run in runs:
        run.on_next(EVENTS[0])
    for run in runs:
        run.on_completed(rxstream.Response())
    assert names_in(tmp_path) == ["__b.jsonl", "a.jsonl", "all.jsonl"]
    assert read(tmp_path / "a.jsonl") == EVENTS[:1]
    assert read(tmp_path / "all.jsonl") == EVENTS[:1] * 2


@virtual_time
async def test_one_that_is_removed_closes_its_file(tmp_path: Path) -> None:
    """It is told nothing; it goes, and the file with it, at once."""
    path = tmp_path / "it.jsonl"
    run = stream(FileStreamHandler(path, flush=1000))
    run.on_next(EVENTS[0])
    run.remove("h")
    assert read(path) == EVENTS[:1]


@virtual_time
async def test_streams_that_append_to_one_file_cut_no_line_of_another(tmp_path: Path) -> None:
    """However much waits to be written."""
    path = tmp_path / "all.jsonl"
    handler = FileStreamHandler(path, flush=10_000)
    runs = [stream(handler) for _ in range(2)]
    events = [TextDelta(text=letter * length, seq=length) for length in (900, 2_000, 12_000) * 5 for letter in "ab"]
    for number, event in enumerate(events):
        runs[number % 2].on_next(event)
    for run in runs:
        run.on_completed(rxstream.Response())
    assert sorted(read(path), key=lambda event: (event.seq, str(event))) == sorted(
        events, key=lambda event: (event.seq, str(event))
    )


@virtual_time
async def test_a_class_made_of_it_serves_streams_too(tmp_path: Path) -> None:
    class Mine(FileStreamHandler):
        def __init__(self) -> None:
            super().__init__(tmp_path / "{stream_id}.jsonl")

        def on_event(self, event: Event) -> None:
            if not isinstance(event, Finished):
                super().on_event(event)

    handler = Mine()
    runs = [stream(handler, stream_id=name) for name in "ab"]
    for run in runs:
        for event in EVENTS:
            run.on_next(event)
        run.on_completed(rxstream.Response())
    assert [read(tmp_path / f"{name}.jsonl") for name in "ab"] == [EVENTS[:2]] * 2


@virtual_time
async def test_a_field_that_is_empty_moves_no_file(tmp_path: Path) -> None:
    run = stream(FileStreamHandler(tmp_path / "{provider}{model}" / "{label}.jsonl"))
    run.on_next(EVENTS[0])
    run.dispose()
    assert read(tmp_path / "__" / "_.jsonl") == EVENTS[:1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full is a file of Linux")
def test_a_disk_that_is_full_is_told() -> None:
    with pytest.raises(OSError, match="No space left"):
        rxstream.from_iterable(["to be"]).start(FileStreamHandler("/dev/full")).result(20)


@virtual_time
async def test_in_a_thread_it_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "it.jsonl"
    run = stream(FileStreamHandler(path), HandlerPolicy(thread=True))
    for event in EVENTS:
        run.on_next(event)
    run.on_completed(rxstream.Response())
    await run.settled()
    assert read(path) == EVENTS


def test_it_observes_any_observable(tmp_path: Path) -> None:
    handler = FileStreamHandler(tmp_path / "it.jsonl")
    session = rxstream.from_iterable(["to ", "be"]).start(handler)
    session.result(20)
    assert handler.path == tmp_path / "it.jsonl"
    assert [type(event) for event in read(handler.path)] == [Started, TextDelta, TextDelta, Finished]


@pytest.mark.parametrize(("path", "flush"), [("{no}.jsonl", 0), ("{}.jsonl", 0), ("{stream_id", 0), ("it", -1)])
def test_what_cannot_be_is_refused(path: str, flush: int) -> None:
    with pytest.raises(ConfigurationError, match=r"^(path|flush)"):
        FileStreamHandler(path, flush=flush)
