"""What is written down of a body: whole events, when they are whole."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import Disconnected
from rxstream.tapes._writer import flush
from rxstream.tapes.read import Tape, load
from rxstream.tapes.record import Settings, TapeRecorder

OPTIONS: dict[str, Any] = {
    "kind": "bytes",
    "redact": ["keys"],
    "secrets": ["my-own-secret-word"],
    "keep_raw": False,
    "max_bytes": 10_000_000,
    "files": 1,
    "required": False,
    "metadata": None,
}


def recorded(pieces: list[bytes], path: Path, error: Exception | None = None, **options: Any) -> Tape:
    """A tape of a body that came in these pieces, one a second."""
    now = 0.0
    tape = TapeRecorder(Settings(path, **{**OPTIONS, **options}), lambda: now, lambda _: None)
    request = tape.request(provider="openai-chat", model="m", source="s")
    request.answered(None)
    for piece in pieces:
        now += 1.0
        request.data(piece)
    request.end("end" if error is None else "error", error)
    request.end("left")
    tape.end("completed")
    tape.end("cancelled")
    return load(path)


def test_an_event_is_written_when_its_last_byte_has_come(tmp_path: Path) -> None:
    """What has no payload waits for no blank line."""
    pieces = [
        b"data: on",
        b"e\n",
        b"\nda",
        b"ta: two\r\n\r",
        b"\n: ping\n",
        b"data:\n",
        b"data: x\n\nevent: y\n",
        b": bye",
    ]
    tape = recorded(pieces, tmp_path / "a.tape")
    assert [(line.t, line.data) for line in tape.lines if line.data] == [
        (3, b"data: one\n\n"),
        (4, b"data: two\r\n\r"),  # the last CR ends a line, whatever comes
        (5, b"\n"),
        (5, b": ping\n"),
        (7, b"data:\ndata: x\n\n"),
        (7, b"event: y\n"),
        (8, b": bye"),
    ]
    assert [line.body for line in tape.lines if line.body] == ["end"]
    assert tape.end is not None
    assert tape.end.end == "completed"


@given(cuts=st.lists(st.integers(0, 60), max_size=8).map(sorted))
def test_no_secret_is_cut_in_two(cuts: list[int]) -> None:
    body = "data: {}\n\ndata: ☃ my-own-secret-word ☃\n\n: x".encode()
    pieces = [body[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        tape = recorded(pieces, Path(folder) / "a.tape")
    assert tape.requests[0].data.decode() == "data: {}\n\ndata: ☃ *** ☃\n\n: x"


def test_a_long_line_is_kept_until_its_end_has_come(tmp_path: Path) -> None:
    """As one with an image: nothing can be struck out of half a line."""
    said = b'data: {"instructions":"a secret","image":"%b","user":"a secret"}\n' % (b"A" * 5_000_000)
    pieces = [said[at : at + 600_000] for at in range(0, len(said), 600_000)]
    tape = recorded(pieces, tmp_path / "a.tape", redact=["keys", "prompts"])
    data = tape.requests[0].data
    assert len(data) > 5_000_000
    assert b"secret" not in data


def test_a_line_without_an_end_is_not_kept_back_for_ever(tmp_path: Path) -> None:
    tape = recorded([b"x" * 600_000] * 15, tmp_path / "a.tape")
    assert tape.end is not None
    assert (tape.requests[0].data, tape.end.end) == (b"", "cut")


def test_bytes_that_are_no_text_and_an_error(tmp_path: Path) -> None:
    tape = recorded([b"\xff\xfe\n"], tmp_path / "a.tape", Disconnected("my-own-secret-word was there"))
    assert tape.requests[0].data == b"\xff\xfe\n"
    last = tape.requests[0].lines[-1]
    assert last.error is not None
    assert (last.body, last.error.kind, last.error.message) == ("error", "Disconnected", "*** was there")
    flush()
