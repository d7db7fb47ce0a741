"""``rxstream tape`` as a person meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import rxstream
from rxstream import operators as rxo
from rxstream.cli import main
from rxstream.errors import Disconnected
from rxstream.events import Event, Finished, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta
from rxstream.tapes._writer import flush
from rxstream.tapes.convert import dump, of_body, of_events
from rxstream.tapes.read import load
from rxstream.testing import Scripted

BODY = (
    b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"Hi\\u001b[31m"},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)


@pytest.fixture
def tape(tmp_path: Path) -> str:
    path = tmp_path / "a.tape"
    rxstream.from_iterable(["Hel", "lo"]).pipe(rxo.record(path, metadata={"who": "me"})).run()
    assert flush()
    return str(path)


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_show(tape: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tape", "show", tape]) == 0
    out = capsys.readouterr().out
    assert out.startswith("a tape of events, recorded 2")
    assert "  who: me\n" in out
    assert "text-delta 'Hel'\n" in out
    assert "end: completed\n" in out
    assert main(["tape", "show", tape, "-n", "1"]) == 0
    out = capsys.readouterr().out
    assert "4 more lines\n" in out
    assert "Hel" not in out


def test_a_tape_is_shown_a_line_at_a_time(tape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be of any size, and is seen as far as it can be read."""
    head, first, *rest = Path(tape).read_bytes().splitlines(keepends=True)
    assert main(["tape", "show", write(tmp_path / "b.tape", head + first + b"nonsense\n" + b"".join(rest))]) == 2
    told = capsys.readouterr()
    assert "started" in told.out
    assert told.err.startswith(f"rxstream: {tmp_path / 'b.tape'}: line 3 of the tape cannot be read")
    assert main(["tape", "show", write(tmp_path / "c.tape", head[:20])]) == 0
    assert capsys.readouterr().out.endswith(
        "0 lines in 0.000 s: its recording was cut, half a last line was left out\n"
    )


def test_where_a_file_is_just_being_made_those_before_it_are_shown(
    tape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, first, *_ = Path(tape).read_bytes().splitlines(keepends=True)
    assert main(["tape", "show", write(tmp_path / "a.tape", b"")]) == 2
    assert "a.tape: is no tape: it is empty" in capsys.readouterr().err
    write(tmp_path / "a.tape.1", head + first)
    assert main(["tape", "show", str(tmp_path / "a.tape")]) == 0
    assert capsys.readouterr().out.endswith("s: its recording was cut\n")
    (tmp_path / "a.tape").unlink()
    assert main(["tape", "show", str(tmp_path / "a.tape")]) == 0
    assert capsys.readouterr().out.endswith("s: its recording was cut\n")


def test_show_bytes_events_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tape", "show", write(tmp_path / "a.sse", BODY)]) == 0
    out = capsys.readouterr().out
    assert "request 1: asks openai-chat\n" in out
    assert "request 1: is answered\n" in out
    assert "request 1: the body ends: end\n" in out
    assert out.endswith(" s: how its stream ended is not on it\n")
    events: list[Event] = [
        ThinkingDelta(text="hm"),
        ToolCallDelta(arguments="{"),
        ToolCall(id="1", name="f", arguments="{}"),
        Finished(reason="stop"),
    ]
    assert main(["tape", "show", write(tmp_path / "b.tape", dump(of_events(events)) + b'{"t":')]) == 0
    out = capsys.readouterr().out
    for said in ("thinking-delta 'hm'", "tool-call-delta '{'", "tool-call f({})", "half a last line was left out"):
        assert said in out


def test_play(tape: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tape", "play", tape]) == 0
    assert capsys.readouterr().out == "Hello\n"
    assert main(["tape", "play", tape, "--speed", "max", "--events"]) == 0
    kinds = [json.loads(line)["type"] for line in capsys.readouterr().out.splitlines()]
    assert kinds == ["started", "text-delta", "text-delta", "finished"]


def test_a_tape_of_a_failure_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.tape"
    source = rxstream.Stream.of(Scripted(["Hel", Disconnected("gone")]).events())
    with pytest.raises(Disconnected):
        source.pipe(rxo.record(path)).run()
    assert main(["tape", "play", str(path)]) == 1
    told = capsys.readouterr()
    assert told.out == "Hel\n"
    assert told.err == "Disconnected: gone (kept: 3 characters that arrived)\n"


def test_what_a_tape_says_moves_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.sse", BODY)
    assert main(["tape", "play", path]) == 0
    assert main(["tape", "show", path]) == 0
    assert main(["tape", "diff", path, write(tmp_path / "b.tape", dump(of_events([TextDelta(text="\x1b")])))]) == 1
    assert "\x1b" not in capsys.readouterr().out


def test_convert(tape: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["tape", "convert", tape, "--to", "text"]) == 0
    assert capsysbinary.readouterr().out == b"Hello"
    body, there = write(tmp_path / "a.sse", BODY), tmp_path / "there.tape"
    assert main(["tape", "convert", body, "--to", "bytes", "-o", str(there), "--dialect", "openai-chat"]) == 0
    assert load(there).request().data == BODY
    assert os.name == "nt" or there.stat().st_mode & 0o777 == 0o600
    assert main(["tape", "convert", str(there), "--to", "body"]) == 0
    assert capsysbinary.readouterr().out == BODY


def test_diff(tape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tape", "diff", tape, tape]) == 0
    assert capsys.readouterr().out == ""
    other = write(tmp_path / "b.tape", dump(of_body(BODY)))
    assert main(["tape", "diff", tape, other, "--request", "1"]) == 1
    assert capsys.readouterr().out.startswith(f"--- {tape}\n+++ {other}\n@@ ")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["show", "nowhere.tape"], "No such file"),
        (["play", "nowhere.tape", "--speed", "fast"], "must be a number, or 'max'"),
        (["convert", "{tape}", "--to", "body"], "has events"),
        (["convert", "{tape}", "--to", "text", "-o", "/"], "directory"),
        (["play", "{tape}", "--speed", "-1"], "greater than 0"),
        (["play", "{tape}", "--speed", "nan"], "finite"),
        (["play", "{tape}", "--speed", "1e-320"], "so small"),
        (["show", "{tape}", "-n", "-3"], "--lines -3: must be 0 or more"),
        (["show", "/"], "directory"),
        (["show", "a\0b"], "null"),
        (["show", "{none}"], "{none}: the body is in none of the dialects"),
        (["show", "{bad}"], "rxstream: {bad}: the header of the tape cannot be read"),
    ],
)
def test_what_cannot_be_done_is_told(
    arguments: list[str], why: str, tape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = write(tmp_path / "none", b"Call me Ishmael.")
    bad = write(tmp_path / "bad", b'{"tape":"rxstream-tape"}\n')
    names = {"tape": tape, "none": none, "bad": bad}
    assert main(["tape", *(word.format(**names) for word in arguments)]) == 2
    told = capsys.readouterr()
    assert why.format(**names) in told.err
    assert told.out == ""


@pytest.mark.parametrize("started", ["1e300", "-1e300", "1e17"])
def test_what_a_tape_says_does_not_look_like_what_is_said_of_it(
    started: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It forges no line, turns no terminal, and has no time at which the command breaks."""
    header = (
        f'{{"tape":"rxstream-tape","version":1,"kind":"events","started":{started},"rxstream":"1\\n1 lines: completed",'
        '"metadata":{"a\\n2 lines: completed":"b\\u2028\\r3 lines\\u001b[2J\\u009b2J"}}\n'
    )
    end = '{"t":1.0,"end":"error","error":{"kind":"X","message":"a\\n     0.000  text-delta\\u202e"}}\n'
    assert main(["tape", "show", write(tmp_path / "a.tape", (header + end).encode())]) == 0
    out = capsys.readouterr().out
    assert [line[:10] for line in out.splitlines()] == ["a tape of ", "  a 2 line", "     1.000", "1 line in "]
    assert not set("\x1b\x9b\u202e\r") & set(out)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk at hand")
def test_what_cannot_be_written_is_told(tape: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tape", "convert", tape, "--to", "text", "-o", "/dev/full"]) == 1
    assert capsys.readouterr().err == "rxstream: /dev/full: No space left on device\n"


def test_a_reader_that_has_seen_enough_is_no_failure_to_tell(tmp_path: Path) -> None:
    """As in ``rxstream tape play answer.tape | head``."""
    told = write(tmp_path / "a.tape", dump(of_events([*[TextDelta(text="word ")] * 30_000, Finished(reason="stop")])))
    command = [sys.executable, "-m", "rxstream", "tape", "play", told, "--speed", "max"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.read(4) == b"word"
        running.stdout.close()
        assert running.wait(60) == 1
        complaint = running.stderr.read()
    assert b"Traceback" not in complaint
    assert b"cannot be written" not in complaint


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_tape_comes_through_a_pipe(tape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As from <(zcat answer.tape.gz): it can be read once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(Path(tape).read_bytes(),), daemon=True)
    writer.start()
    assert main(["tape", "convert", str(pipe), "--to", "jsonl"]) == 0
    writer.join(10)
    assert '"text":"Hel"' in capsys.readouterr().out


def test_converted_text_is_printable_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    for form in ("text", "jsonl", "body"):
        assert main(["tape", "convert", write(tmp_path / "a.sse", BODY), "--to", form]) == 0
        out = capsys.readouterr().out
        assert "Hi" in out
        assert "\x1b" not in out
