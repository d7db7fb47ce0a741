"""A stream, written down: all of it, in its order and time, and itself unchanged whatever becomes of its tape."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import reactivex
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import Observable

import rxstream
from rxstream import operators as rxo
from rxstream.errors import (
    AuthError,
    ConfigurationError,
    Disconnected,
    RecordingFailed,
    StreamError,
    StreamIncomplete,
    TimedOut,
)
from rxstream.events import ErrorInfo, Event, Finished, Raw, Started, TextDelta
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.tapes._writer import flush
from rxstream.tapes.convert import of_body
from rxstream.tapes.read import load
from rxstream.testing import DONE, HANG, Recorder, Scripted, numbered, raising, settle, virtual_time, words
from tests.test_events import TYPES, structs


def listen(source: Observable[Any], gate: Gate | None = None) -> tuple[Recorder, Callable[[], None]]:
    recorder = Recorder()
    subscription = source.subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler(gate=gate)
    )
    return recorder, subscription.dispose


@virtual_time
async def test_what_comes_is_written_down_and_passes() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        recorder, _ = listen(Scripted(words("a", "b", every=1.5)).events().pipe(rxo.record(path)))
        await asyncio.sleep(10)
        assert (recorder.texts, recorder.times, recorder.completed) == (["a", "b"], [1.5, 3, 3], True)
        tape = load(path)
        assert tape.events == recorder.items
        assert [line.t for line in tape.lines] == [1.5, 3, 3, 3]
        assert tape.end is not None
        assert tape.end.end == "completed"


@virtual_time
async def test_a_tape_plays_as_it_was() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        await asyncio.sleep(7)  # the tape's clock begins at its own subscription
        listen(Scripted([0.25, "a", 1, ("b", "c"), 0.1, DONE]).events().pipe(rxo.record(path)))
        await asyncio.sleep(10)
        again, _ = listen(rxstream.tape(path))
        await asyncio.sleep(10)
        assert again.texts == ["a", "b", "c"]
        assert again.times == pytest.approx([17.25, 18.25, 18.25, 18.35])
        assert again.completed


@pytest.mark.parametrize(
    "error",
    [
        Disconnected("gone"),
        AuthError("no", status=401, code="bad_key"),
        TimedOut("late", clock="idle", seconds=3),
    ],
    ids=lambda error: type(error).__name__,
)
@virtual_time
async def test_an_error_is_the_end_of_a_tape_and_comes_again_with_its_partial(error: StreamError) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        first, _ = listen(Scripted(["Hel", "lo", 2, error]).events().pipe(rxo.record(path)))
        await asyncio.sleep(10)
        again, _ = listen(rxstream.tape(path))
        await asyncio.sleep(10)
        assert type(again.error) is type(error)
        assert isinstance(again.error, StreamError)
        assert isinstance(first.error, StreamError)
        assert msgspec.structs.replace(again.error.info()) == first.error.info()
        assert again.error.partial is not None
        assert again.error.partial.text == "Hello"
        assert again.ended_at == 12


@virtual_time
async def test_an_error_that_is_none_of_ours_is_told_as_a_fault() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        first, _ = listen(Scripted(["a", raising(ZeroDivisionError("oh"))]).events().pipe(rxo.record(path)))
        await settle()
        assert first.error is not None
        again, _ = listen(rxstream.tape(path, speed="max"))
        await settle()
        assert str(first.error) in str(again.error)


@virtual_time
async def test_a_stream_that_was_cancelled_ends_incomplete_on_its_tape() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        source = Scripted(["a", HANG])
        _, dispose = listen(source.events().pipe(rxo.record(path)))
        await settle()
        dispose()
        await settle()
        assert source.running == 0
        end = load(path).end
        assert end is not None
        assert end.end == "cancelled"
        again, _ = listen(rxstream.tape(path))
        await settle()
        assert again.texts == ["a"]
        assert isinstance(again.error, StreamIncomplete)
        assert "was cancelled" in str(again.error)


@virtual_time
async def test_nothing_passes_while_the_gate_is_closed() -> None:
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate()
        recorder, _ = listen(Scripted(words("a", "b")).events().pipe(rxo.record(Path(folder) / "a.tape")), gate)
        await asyncio.sleep(1.5)
        gate.hold("test")
        await asyncio.sleep(10)
        assert recorder.texts == ["a"]
        gate.release("test")
        await settle()
        assert (recorder.texts, recorder.completed) == (["a", "b"], True)
        assert [line.t for line in load(Path(folder) / "a.tape").lines] == [1, 11.5, 11.5, 11.5]


@settings(max_examples=100)
@given(some=st.lists(st.one_of(*map(structs, TYPES)), max_size=20))
def test_any_event_comes_back_as_it_was(some: list[Event]) -> None:
    """Record and play are inverse: but for the number and the time, which are those of the new stream."""
    events = [*some, Finished(reason="stop")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        asyncio.run(_through(events, rxo.record(path, redact=(), keep_raw=True)))
        assert load(path).events == events
        played = asyncio.run(_through(None, path))
        assert list(map(_bare, played)) == list(map(_bare, events))


async def _through(events: list[Event] | None, what: Any) -> list[Event]:
    recorder = Recorder()
    if events is None:
        source: Observable[Event] = rxstream.tape(what, speed="max")
    else:
        source = reactivex.from_iterable(events).pipe(what)
    done = asyncio.Event()
    source.subscribe(recorder.on_next, lambda _: done.set(), done.set, scheduler=LoopScheduler())
    await done.wait()
    return recorder.items


def _bare(event: Event) -> Event:
    return msgspec.structs.replace(event, seq=0, at=0.0)


@given(cut=st.integers(0, 2000))
def test_whatever_a_crash_leaves_is_readable(cut: int) -> None:
    """Cut at any byte a tape gives the events before, and says that it was cut."""
    whole, count = _whole_tape()
    head = whole.index(b"\n") + 1
    cut = 1 + cut % len(whole)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        path.write_bytes(whole[:cut])
        tape = load(path)
        left = whole[head:cut]
        assert len(tape.lines) == left.count(b"\n")
        assert tape.torn == (cut < head - 1 or bool(left and not left.endswith(b"\n")))
        played = asyncio.run(_through(None, path))
        assert len(played) == min(left.count(b"\n"), count)
        if cut < len(whole):
            with pytest.raises(StreamIncomplete, match="its recording was cut"):
                rxstream.tape(path, speed="max").run()


_made: list[tuple[bytes, int]] = []


def _whole_tape() -> tuple[bytes, int]:
    if not _made:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.tape"
            rxstream.from_iterable(["Grüße ", "☃", "!\n"]).pipe(rxo.record(path)).run()
            assert flush()
            _made.append((path.read_bytes(), len(load(path).events)))
    return _made[0]


# --- when it cannot be written ----------------------------------------------------------------------------------------------


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "rxstream")

    def records() -> list[str]:
        flush()
        return [record.getMessage() for record in caplog.records]

    return records


def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The disk takes so many bytes more."""
    room = after
    write = os.write

    def limited(file: int, data: bytes) -> int:
        nonlocal room
        if not data.startswith(b'{"t') and room == after:
            return write(file, data)
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = write(file, data[:room])
        room -= done
        return done

    monkeypatch.setattr("rxstream.tapes._writer.os.write", limited)


def test_a_full_disk_costs_the_tape_and_not_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[str]]
) -> None:
    full_disk(monkeypatch, 300)
    path = tmp_path / "a.tape"
    answer = rxstream.from_iterable(["word "] * 500).pipe(rxo.record(path)).run()
    assert len(answer.text) == 2500
    assert told() == [f"the tape {path} ends here: No space left on device; the stream goes on"]
    tape = load(path)
    assert tape.torn
    assert tape.end is None
    assert [event.text for event in tape.events if isinstance(event, TextDelta)] == ["word "] * (len(tape.events) - 1)


@virtual_time
async def test_a_full_disk_ends_a_stream_whose_tape_is_required() -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "a.tape"
        full_disk(patch, 250)
        source = Scripted(["a", "b", "c", HANG])
        recorder, _ = listen(source.events().pipe(rxo.record(path, required=True)))
        await settle()
        flush()
        await settle()
        assert recorder.texts == ["a", "b", "c"]
        assert isinstance(recorder.error, RecordingFailed)
        assert recorder.error.partial is not None
        assert recorder.error.partial.text == "abc"
        assert source.running == 0


@virtual_time
async def test_a_full_tape_ends_a_stream_whose_tape_is_required() -> None:
    """With what was delivered; what is not on the tape is not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        recorder, _ = listen(Scripted(numbered(500)).events().pipe(rxo.record(path, required=True, max_bytes=8192)))
        await settle()
        assert isinstance(recorder.error, RecordingFailed)
        assert recorder.error.partial is not None
        assert recorder.error.partial.text == "".join(recorder.texts)
        assert load(path).events == recorder.items


def test_a_required_tape_is_written_when_its_stream_completes(tmp_path: Path) -> None:
    """Nobody has to wait for it any more."""
    for number in range(20):
        path = tmp_path / f"{number}.tape"
        rxstream.from_iterable(["a"]).pipe(rxo.record(path, required=True)).run()
        assert path.read_bytes().endswith(b'"end":"completed"}\n')


@virtual_time
async def test_a_required_tape_whose_last_line_cannot_be_written_fails_its_stream() -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        full_disk(patch, 1)
        recorder, _ = listen(
            Scripted(["a", DONE]).events().pipe(rxo.record(Path(folder) / "a.tape", required=True)),
        )
        await settle()
        flush()
        await settle()
        assert isinstance(recorder.error, RecordingFailed)
        assert recorder.texts == ["a"]


@virtual_time
async def test_nobody_is_told_who_left_while_a_required_tape_was_written() -> None:
    with tempfile.TemporaryDirectory() as folder:
        recorder, dispose = listen(
            Scripted(["a", DONE]).events().pipe(rxo.record(Path(folder) / "a.tape", required=True))
        )
        said = asyncio.Event()
        recorder.and_then = lambda item: said.set() if item.seq else None
        await said.wait()
        dispose()
        flush()
        await settle()
        assert recorder.error is None


def test_a_tape_has_no_more_than_max_bytes(tmp_path: Path, told: Callable[[], list[str]]) -> None:
    path = tmp_path / "a.tape"
    answer = rxstream.from_iterable(["word "] * 500).pipe(rxo.record(path, max_bytes=8192)).run()
    assert len(answer.text) == 2500
    assert len(told()) == 1
    assert 4096 < path.stat().st_size <= 8192
    tape = load(path)
    assert tape.end is not None
    assert tape.end.end == "cut"
    with pytest.raises(StreamIncomplete, match="max_bytes allows"):
        rxstream.tape(path, speed="max").run()


def test_files_rotate_and_are_read_as_one_tape(tmp_path: Path, told: Callable[[], list[str]]) -> None:
    path = tmp_path / "a.tape"
    rxstream.from_iterable(map(str, range(200))).pipe(rxo.record(path, max_bytes=8192, files=9)).run()
    assert not told()
    assert len(list(tmp_path.iterdir())) > 2
    assert all(file.stat().st_size <= 8192 for file in tmp_path.iterdir())
    assert rxstream.tape(path, speed="max").run().text == "".join(map(str, range(200)))


def test_the_oldest_file_goes_and_what_is_left_still_plays(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    text = "".join(map(str, range(500)))
    rxstream.from_iterable(map(str, range(500))).pipe(rxo.record(path, max_bytes=8192, files=3)).run()
    flush()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tape", "a.tape.1", "a.tape.2"]
    left = rxstream.tape(path, speed="max").run().text
    assert 0 < len(left) < len(text)
    assert text.endswith(left)


def test_another_recording_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    for text in ("one", "two"):
        rxstream.from_iterable([text]).pipe(rxo.record(path)).run()
    assert rxstream.tape(path, speed="max").run().text == "two"
    rxstream.from_iterable(["three"]).pipe(rxo.record(path, files=2)).run()
    assert rxstream.tape(path, speed="max").run().text == "three"
    assert rxstream.tape(tmp_path / "a.tape.1", speed="max").run().text == "two"


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    rxstream.from_iterable(["a"]).pipe(rxo.record(path)).run()
    flush()
    assert path.stat().st_mode & 0o077 == 0


def test_a_tape_of_an_endless_stream_holds_a_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[str]]
) -> None:
    """A disk that stands still: what waits for it is bounded, and the stream goes on."""
    monkeypatch.setattr("rxstream.tapes._writer._clerk.give", lambda job: None)
    monkeypatch.setattr("rxstream.tapes._writer._WAITING", 20_000)
    path = tmp_path / "a.tape"
    answer = rxstream.from_iterable(["word "] * 1000).pipe(rxo.record(path)).run()
    assert len(answer.text) == 5000
    assert told() == [f"the tape {path} ends here: the disk is slower than the stream; the stream goes on"]


@pytest.mark.parametrize("kind", ["events", "bytes"])
def test_a_rule_that_raises_costs_the_tape_and_not_the_stream(
    kind: Any, tmp_path: Path, told: Callable[[], list[str]]
) -> None:
    path = tmp_path / "a.tape"

    def broken(text: str) -> str:
        raise ZeroDivisionError(text)

    body = of_body(
        b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    )
    answer = rxstream.tape(body, speed="max").pipe(rxo.record(path, kind=kind, redact=[broken])).run()
    assert answer.text == "a"
    why = "something cannot be written (ZeroDivisionError)"
    assert told() == [f"the tape {path} ends here: {why}; the stream goes on"]
    end = load(path).end
    assert end is not None
    assert (end.end, end.error) == ("cut", ErrorInfo(kind="RecordingFailed", message=""))


def test_what_json_cannot_say_ends_the_tape(tmp_path: Path, told: Callable[[], list[str]]) -> None:
    path = tmp_path / "a.tape"
    events: list[Event] = [TextDelta(text="a"), Raw(payload=object()), Finished(reason="stop")]
    assert rxstream.replay(events).pipe(rxo.record(path)).run().text == "a"
    assert len(told()) == 1
    assert load(path).events == [TextDelta(text="a", at=load(path).events[0].at)]


def test_an_event_that_is_larger_than_a_file_ends_the_tape(tmp_path: Path, told: Callable[[], list[str]]) -> None:
    path = tmp_path / "a.tape"
    answer = rxstream.from_iterable(["a", "b" * 9000, "c"]).pipe(rxo.record(path, max_bytes=8192, files=3)).run()
    assert len(answer.text) == 9002
    assert len(told()) == 1
    assert all(file.stat().st_size <= 8192 for file in tmp_path.iterdir())


def test_a_process_that_is_killed_leaves_a_readable_tape(tmp_path: Path) -> None:
    """What was said half a second ago is there; and one that ends of itself writes all of it."""
    for how in ("os.kill(os.getpid(), 9)", "pass"):
        path = tmp_path / f"{len(how)}.tape"
        code = f"""
import os, time, rxstream
from rxstream import operators as rxo
for event in rxstream.from_iterable(["a", "b", "c"]).pipe(rxo.record({str(path)!r})):
    if getattr(event, "text", "") == "b":
        rxstream.tapes.flush()
        {how}
"""
        done = subprocess.run([sys.executable, "-c", "import rxstream.tapes" + code], check=False)
        assert done.returncode == (0 if how == "pass" else -9)
        text = "".join(event.text for event in load(path).events if isinstance(event, TextDelta))
        assert text in (("abc",) if how == "pass" else ("ab", "abc"))


# --- how it is built --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kind": "sounds"}, "kind"),
        ({"redact": "keys"}, "redact"),
        ({"redact": ["keyz"]}, "redact"),
        ({"max_bytes": 10}, "max_bytes"),
        ({"files": 0}, "files"),
        ({"required": 1}, "required"),
        ({"keep_raw": "no"}, "keep_raw"),
        ({"metadata": {"a": object()}}, "metadata"),
        ({"metadata": {"a": "x" * 4096}, "max_bytes": 4096}, "metadata"),
        ({"path": 3}, "path"),
        ({"path": "/nowhere/at/all.tape"}, "no such folder"),
    ],
)
def test_a_bad_option_is_refused_at_once(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        rxo.record(**{"path": tmp_path / "a.tape", **options})


def test_what_is_no_tape_is_not_written_over(tmp_path: Path) -> None:
    novel = tmp_path / "novel.txt"
    novel.write_text("Call me Ishmael.")
    with pytest.raises(ConfigurationError, match="is no tape"):
        rxo.record(novel)
    with pytest.raises(ConfigurationError, match="is no file"):
        rxo.record(tmp_path)
    assert novel.read_text() == "Call me Ishmael."


@virtual_time
async def test_what_is_no_event_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = rxstream.from_iterable(["a"]).text()
        recorder, _ = listen(source.pipe(rxo.record(Path(folder) / "a.tape")))
        await settle()
        assert isinstance(recorder.error, ConfigurationError)
        assert "record gets a str" in str(recorder.error)
        assert flush()


def test_raw_bytes_are_left_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    events: list[Event] = [Started(raw=b"{}"), TextDelta(text="a", raw=b'{"a":1}'), Finished(reason="stop")]
    for keep, raws in ((False, [None, None, None]), (True, [b"{}", b'{"a":1}', None])):
        path = tmp_path / f"{keep}.tape"
        rxstream.replay(events).pipe(rxo.record(path, keep_raw=keep)).run()
        assert [event.raw for event in load(path).events] == raws


@virtual_time
async def test_a_recorded_stream_can_be_asked_again() -> None:
    """It stands between a model and retry_stream, so that each request has a tape of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        source = Scripted(numbered(3))
        recorder, _ = listen(source.events().pipe(rxo.record(path, files=5), rxo.retry_stream()))
        await settle()
        assert recorder.completed
        assert load(path).end is not None
