"""The thread that writes tapes: it outlives what its work raises, waits for nobody, and spoils nothing that is not its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rxstream
from rxstream import operators as rxo
from rxstream.errors import ConfigurationError, RecordingFailed
from rxstream.events import TextDelta
from rxstream.tapes import _writer as writer
from rxstream.tapes import flush, load
from rxstream.tapes.record import Settings, TapeRecorder

PRECIOUS = "# about the rxstream-tape format: not to be lost\n"


@pytest.fixture
def clerk(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A new one."""
    fresh = writer._Clerk()
    monkeypatch.setattr(writer, "_clerk", fresh)
    return fresh


def tape_file(path: Path, failed: Callable[[Exception], None] = lambda error: None, files: int = 1) -> writer.TapeFile:
    return writer.TapeFile(path, files=files, failed=failed)


def recorder(path: Path, failures: list[RecordingFailed], files: int = 1) -> TapeRecorder:
    settings = Settings(
        path,
        kind="events",
        redact=(),
        secrets=(),
        keep_raw=False,
        max_bytes=4096,
        files=files,
        required=True,
        metadata=None,
    )
    return TapeRecorder(settings, lambda: 0.0, failures.append)


def test_what_is_told_raises_and_other_tapes_are_written(
    clerk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))
    wrong = RuntimeError("a log handler's own")

    def raises(_: Exception) -> None:
        raise wrong

    tape_file(tmp_path / "none" / "a.tape", raises).begin(b"x")
    other = tape_file(tmp_path / "b.tape")
    other.begin(b"head\n")
    other.close(b"end\n")
    assert flush()
    assert told == [wrong]
    assert (tmp_path / "b.tape").read_bytes() == b"head\nend\n"


def test_where_no_thread_can_be_had_it_is_written_all_the_same(
    clerk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    file = tape_file(tmp_path / "a.tape")
    file.begin(b"head\n")
    file.write(b"line\n")
    file.close(b"end\n")
    assert flush()
    assert (tmp_path / "a.tape").read_bytes() == b"head\nline\nend\n"


def test_flush_waits_for_what_was_written_by_now_and_not_for_what_comes(clerk: Any) -> None:
    """A service that always records would else be waited for in vain."""
    over = threading.Event()

    def work() -> None:
        if not over.is_set():
            clerk.give(work)

    clerk.give(work)
    assert flush(5)
    over.set()
    assert flush(5)


def test_who_is_told_of_a_failure_does_not_wait_for_himself(clerk: Any, tmp_path: Path) -> None:
    """Such as a handler of log records that shows what there is on the tape."""
    waited: list[bool] = []
    tape_file(tmp_path / "none" / "a.tape", lambda _: waited.append(flush(1000))).begin(b"x")
    assert flush()
    assert waited == [False]


def test_what_closing_says_is_a_failure(clerk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some disks are full only then."""
    failures: list[Exception] = []
    completed: list[bool] = []

    def full(file: int) -> None:
        close(file)
        raise OSError(28, "No space left on device")

    close = os.close
    file = tape_file(tmp_path / "a.tape", failures.append)
    file.begin(b"head\n")
    assert flush()
    with monkeypatch.context() as patch:
        patch.setattr("rxstream.tapes._writer.os.close", full)
        file.close(b"end\n", lambda: completed.append(True))
        assert flush()
    assert [str(error) for error in failures] == ["[Errno 28] No space left on device"]
    assert completed == []


@pytest.mark.parametrize("files", [1, 2])
def test_no_file_stays_open(files: int, tmp_path: Path) -> None:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("no /proc")
    failures: list[RecordingFailed] = []
    (tmp_path / "b.tape.1").mkdir()
    for name in ("a.tape", "b.tape"):
        for _ in range(3):
            tape = recorder(tmp_path / name, failures, files)
            for _ in range(100):
                tape.event(TextDelta(text="x" * 40))
            tape.end("completed")
            assert flush()
    assert not [link for link in folder.iterdir() if str(tmp_path) in str(link.resolve())]


def test_two_recordings_of_one_file_are_told_and_neither_is_spoiled(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    failures: list[RecordingFailed] = []
    first = recorder(path, failures)
    first.event(TextDelta(text="first"))
    assert flush()
    second = recorder(path, failures)
    second.event(TextDelta(text="second"))
    assert flush()
    assert failures == []
    first.event(TextDelta(text="lost"))
    first.end("completed", then=lambda: failures.append(RecordingFailed("completed")))
    second.end("completed")
    assert flush()
    assert len(failures) == 1
    assert "its file was deleted, or another recording took its place" in failures[0].message
    assert rxstream.tape(path, speed="max").run().text == "second"


def test_two_recordings_that_rotate_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    failures: list[RecordingFailed] = []
    first, second = recorder(path, failures, files=3), recorder(path, failures, files=3)
    for number in range(60):
        first.event(TextDelta(text=f"first {number} " + "x" * 40))
        second.event(TextDelta(text=f"second {number} " + "x" * 40))
        assert flush()
    second.end("completed")
    assert flush()
    assert len(failures) == 1
    texts = [event.text[:6] for event in load(path).events if isinstance(event, TextDelta)]
    assert set(texts) == {"second"}


def test_what_is_no_tape_is_not_written_over(tmp_path: Path) -> None:
    """Neither what is there, though it speaks of tapes, nor what comes there before the stream begins."""
    path = tmp_path / "notes.md"
    operator = rxo.record(path, required=True)
    path.write_text(PRECIOUS)
    with pytest.raises(ConfigurationError, match="is no tape"):
        rxo.record(path)
    with pytest.raises(RecordingFailed, match="is no tape"):
        rxstream.from_iterable(["a"]).pipe(operator).run()
    assert path.read_text() == PRECIOUS


@pytest.mark.parametrize("number", [1, 2])
def test_what_is_no_tape_is_not_pushed_out_by_a_rotation(number: int, tmp_path: Path) -> None:
    other = tmp_path / f"a.tape.{number}"
    other.write_text(PRECIOUS)
    failures: list[RecordingFailed] = []
    recorder(tmp_path / "a.tape", failures, files=3).end("completed")
    assert flush()
    assert [f"{other} is no tape" in failure.message for failure in failures] == [True]
    assert other.read_text() == PRECIOUS


@pytest.mark.parametrize("left", [b"", b"{", b'{"tape":"rxstr', b'{"tape":"rxstream-tape"'])
def test_what_a_full_disk_left_of_a_header_is_written_over(left: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    path.write_bytes(left)
    rxstream.from_iterable(["a"]).pipe(rxo.record(path)).run()
    assert rxstream.tape(path, speed="max").run().text == "a"


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
def test_a_path_that_cannot_be_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="path: "):
        rxo.record(path)


SCRIPT = """
import itertools, sys, threading, time
import rxstream
from rxstream import operators as rxo

def words():
    for number in itertools.count():
        yield f"{number} "
        time.sleep(0.001)

session = rxstream.from_iterable(words()).pipe(rxo.record(sys.argv[1])).start()
time.sleep(0.3)
"""


def test_the_process_ends_in_the_midst_of_a_stream(tmp_path: Path) -> None:
    """Soon, and with all on the tape but its end."""
    path = tmp_path / "a.tape"
    command = [sys.executable, "-c", SCRIPT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(load(path).events) > 3
