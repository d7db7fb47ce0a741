"""A tape is read whole, or what is left of it, and what is none is refused by its line."""

from __future__ import annotations

from pathlib import Path

import pytest

import rxstream
from rxstream.errors import ConfigurationError, StreamIncomplete
from rxstream.events import TextDelta
from rxstream.tapes.convert import read_any
from rxstream.tapes.format import FORMAT, VERSION, Answered, Asked, Header, Line, encode_line
from rxstream.tapes.read import Tape, is_tape, load, parse

HEAD = b'{"tape":"rxstream-tape","version":1,"kind":"bytes"}\n'
A = encode_line(Line(t=0.5, e=TextDelta(text="a")))


def test_what_stands_on_it() -> None:
    tape = parse(HEAD + A + encode_line(Line(t=1.0, end="completed")))
    assert tape.events == [TextDelta(text="a")]
    assert tape.end == Line(t=1.0, end="completed")
    assert (tape.seconds, tape.torn, tape.header.kind) == (1.0, False, "bytes")


def test_a_torn_last_line_is_left_out_and_told() -> None:
    for torn in (b'{"t":1', b"\0\0\0\n", A[:-1]):
        tape = parse(HEAD + A + torn)
        assert (tape.events, tape.torn, tape.end) == ([TextDelta(text="a")], True, None)
    assert not parse(HEAD).torn


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"data: {}\n", "does not begin with the header"),
        (A, "does not begin with the header"),
        (HEAD[:-9] + b"\n", "header of the tape cannot be read"),
        (HEAD.replace(b'"version":1', b'"version":9'), "version 9; this rxstream reads version 1"),
        (b'{"tape":"rxstream-tape","version":2,"kind":"video"}\n', "version 2; this rxstream reads version 1"),
        (HEAD + b"nonsense\n" + A, "line 2 of the tape cannot be read"),
        (HEAD + A + b'{"no":"time"}\n' + A, "line 3"),
    ],
)
def test_what_is_no_tape_is_refused(data: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=why):
        parse(data)
    (tmp_path / "a.tape").write_bytes(data)
    with pytest.raises(ConfigurationError, match=r"a\.tape"):
        load(tmp_path / "a.tape")


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load("nothing.tape")
    for path in (None, 3, b"a.tape"):
        with pytest.raises(ConfigurationError, match=r"path: must be a path, not an? "):
            load(path)  # type: ignore[arg-type]  # what it is for


def test_fields_of_a_later_version_are_ignored() -> None:
    assert parse(HEAD[:-2] + b',"colour":"blue"}\n{"t":1,"e":null,"new":[1]}\n').lines == [Line(t=1.0)]


def test_requests_are_told_apart() -> None:
    lines = [
        Line(t=0.0, r=1, asked=Asked(provider="openai")),
        Line(t=0.1, r=1, answered=Answered()),
        Line(t=0.2, r=2, asked=Asked(provider="anthropic")),
        Line(t=0.3, r=1, b="on"),
        Line(t=0.4, r=2, b="two"),
        Line(t=0.5, r=1, b="e"),
        Line(t=0.6, r=3, b="whose?"),
    ]
    first, second = parse(HEAD + b"".join(map(encode_line, lines))).requests
    assert (first.number, first.asked.provider, first.data) == (1, "openai", b"one")
    assert (second.number, second.asked.provider, second.data) == (2, "anthropic", b"two")


def test_files_of_another_recording_are_not_joined(tmp_path: Path) -> None:
    def part(number: int, name: str, text: str) -> bytes:
        head = HEAD.replace(b'"bytes"', b'"events","id":"%b","part":%d' % (name.encode(), number))
        return head + encode_line(Line(t=0.0, e=TextDelta(text=text)))

    (tmp_path / "a").write_bytes(part(3, "x", "c"))
    (tmp_path / "a.1").write_bytes(part(2, "x", "b"))
    (tmp_path / "a.2").write_bytes(part(1, "y", "?"))
    assert load(tmp_path / "a").events == [TextDelta(text="b"), TextDelta(text="c")]
    (tmp_path / "a.2").write_bytes(part(1, "x", "a"))
    assert [event.text for event in load(tmp_path / "a").events if isinstance(event, TextDelta)] == ["a", "b", "c"]


@pytest.mark.parametrize("length", [1, 10, 22, 30, len(HEAD) - 2])
def test_a_torn_header_is_that_of_an_empty_tape(length: int, tmp_path: Path) -> None:
    """What a full disk leaves: nothing stands behind it."""
    path = tmp_path / "a"
    path.write_bytes(HEAD[:length])
    assert read_any(HEAD[:length]) == load(path) == Tape(Header(tape=FORMAT, version=VERSION, kind="events"), [], True)
    with pytest.raises(StreamIncomplete, match="half a last line: its recording was cut"):
        rxstream.tape(path).run()


def test_behind_a_file_whose_header_is_torn_is_the_recording_that_went_on_there(tmp_path: Path) -> None:
    def part(number: int, *lines: Line) -> bytes:
        head = HEAD.replace(b'"bytes"', b'"events","id":"x","part":%d' % number)
        return head + b"".join(map(encode_line, lines))

    said = [Line(t=float(number), e=TextDelta(text=str(number))) for number in range(3)]
    (tmp_path / "a").write_bytes(HEAD[:20])
    (tmp_path / "a.1").write_bytes(part(2, said[2]))
    (tmp_path / "a.2").write_bytes(part(1, *said[:2]))
    tape = load(tmp_path / "a")
    assert (tape.lines, tape.torn) == (said, True)
    (tmp_path / "a.1").write_bytes(part(2, said[2], Line(t=3.0, end="completed")))  # that was another one
    assert load(tmp_path / "a").lines == []
    (tmp_path / "a.1").write_bytes(HEAD[:20])
    assert load(tmp_path / "a").lines == []


def test_half_a_line_is_a_fault_where_another_file_follows(tmp_path: Path) -> None:
    head = HEAD.replace(b'"bytes"', b'"events","id":"x","part":%d')
    (tmp_path / "a").write_bytes(head % 2)
    (tmp_path / "a.1").write_bytes(head % 1 + A[:-4])
    with pytest.raises(ConfigurationError, match=r"a: line 2 of the tape cannot be read"):
        load(tmp_path / "a")


def test_a_recording_that_goes_on_to_a_new_file_meanwhile_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def part(number: int) -> bytes:
        head = HEAD.replace(b'"bytes"', b'"events","id":"x","part":%d' % number)
        return head + encode_line(Line(t=0.0, e=TextDelta(text=str(number))))

    def rotate() -> int:
        for number in range(len(list(tmp_path.iterdir())) - 1, -1, -1):
            (tmp_path / (f"a.{number}" if number else "a")).rename(tmp_path / f"a.{number + 1}")
        return (tmp_path / "a").write_bytes(part(len(list(tmp_path.iterdir())) + 1))

    (tmp_path / "a").write_bytes(part(1))
    rotate()
    stat, rotations = Path.stat, iter([rotate, rotate])
    monkeypatch.setattr(Path, "stat", lambda path: (next(rotations, int)(), stat(path))[1])
    assert [event.text for event in load(tmp_path / "a").events if isinstance(event, TextDelta)] == ["1", "2", "3", "4"]
    monkeypatch.setattr(Path, "stat", lambda path: (rotate(), stat(path))[1])
    with pytest.raises(ConfigurationError, match="goes on to a new file faster"):
        load(tmp_path / "a")


def test_files_that_are_just_being_moved_are_read_whole(tmp_path: Path) -> None:
    """At each moment of it: the oldest is moved first, then the newest, then a file is made, then it has a header. A crash may leave it so."""

    def part(number: int) -> bytes:
        head = HEAD.replace(b'"bytes"', b'"events","id":"x","part":%d' % number)
        return head + encode_line(Line(t=0.0, e=TextDelta(text=str(number))))

    def said() -> list[str]:
        return [event.text for event in load(tmp_path / "a").events if isinstance(event, TextDelta)]

    for number, name in enumerate(("a.2", "a.1", "a"), 1):
        (tmp_path / name).write_bytes(part(number))
    for number in (2, 1):
        older, newer = tmp_path / f"a.{number + 1}", tmp_path / f"a.{number}"
        older.write_bytes(newer.read_bytes())
        assert said() == ["1", "2", "3"]  # it was moved after it was read
        newer.unlink()
        assert said() == ["1", "2", "3"]
    (tmp_path / "a").rename(tmp_path / "a.1")
    assert said() == ["1", "2", "3"]
    (tmp_path / "a").touch()
    assert said() == ["1", "2", "3"]
    (tmp_path / "a").write_bytes(part(4))
    assert said() == ["1", "2", "3", "4"]
    (tmp_path / "a.2").unlink()
    (tmp_path / "a.3").rename(tmp_path / "a.4")
    assert said() == ["3", "4"]  # two that are missing are no move
    (tmp_path / "a.1").write_bytes(part(3) + encode_line(Line(t=1.0, end="completed")))
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="a: is no tape: it is empty"):  # another recording begins
        load(tmp_path / "a")
    (tmp_path / "a").unlink()
    with pytest.raises(ConfigurationError, match="a: No such file"):
        load(tmp_path / "a")


def test_whether_it_is_one() -> None:
    assert is_tape(HEAD)
    assert is_tape(b'{"tape": "rxstream-tape", "version": 1}')
    assert not is_tape(b'{"type":"text-delta","text":"rxstream-tape"}')


@pytest.mark.parametrize("deep", [b'{"t":1,"e":{"type":"status","status":"x","payload":%b}}', b'{"t":1,"later":%b}'])
def test_a_line_that_is_nested_too_deeply_is_none(deep: bytes) -> None:
    line = deep % (b"[" * 50_000 + b"]" * 50_000)
    with pytest.raises(ConfigurationError, match="line 2 of the tape cannot be read"):
        parse(b'{"tape":"rxstream-tape","version":1,"kind":"events"}\n' + line + b'\n{"t":1}\n')
    with pytest.raises(ConfigurationError, match="neither a tape nor a file of events"):
        read_any(b'{"type":"status","status":"x","payload":' + b"[" * 50_000 + b"]" * 50_000 + b"}")
