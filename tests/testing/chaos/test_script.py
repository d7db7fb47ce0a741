"""What the model says: parts, rests, tapes and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import ConfigurationError
from rxstream.events import encode
from rxstream.providers import decoder_for
from rxstream.tapes.convert import converted, decoded, dump, of_body
from rxstream.testing.chaos import DIALECTS, Call, Script, Thought, chat, render
from tests.support.recordings import feed_all

WHOLE = Script(Thought("hm"), "Hel", "lo", Call("weather", ['{"a"', ":1}"], "c1"), finish="tool_calls", usage=(5, 2))


def test_neighbours_of_one_kind_are_a_block() -> None:
    """A call is a block of its own."""
    script = Script("a", "b", Call("x"), Call("y"), Thought("c"), "d")
    told = [(block.kind, list(block.pieces)) for block in script.blocks]
    assert told == [("text", ["a", "b"]), ("tool", ["{}"]), ("tool", ["{}"]), ("thinking", ["c"]), ("text", ["d"])]
    assert script.text == "abd"


@given(st.text(max_size=40), st.integers(0, 40))
def test_the_rest_is_what_was_not_said(text: str, cut: int) -> None:
    """Wherever it is cut; thinking is left out, a call is not."""
    script = Script(Thought("hm"), *Script.of_text(text).parts, Call("x"))
    rest = script.rest(text[:cut])
    assert rest.text == text[cut:]
    assert Call("x") in rest.parts
    assert Thought("hm") not in rest.parts


@given(st.text(max_size=60))
def test_a_text_comes_word_by_word(text: str) -> None:
    script = Script.of_text(text)
    assert script.text == text
    assert all(isinstance(part, str) and part for part in script.parts)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_events_of_ours_are_a_script(dialect: Any) -> None:
    """What was rendered and decoded is the script again, pieces and all."""
    events, _ = feed_all(decoder_for(DIALECTS[dialect]), b"".join(render(WHOLE, dialect, model="m")))
    script = Script.of_events(events)
    assert (script.text, script.finish, script.usage, script.model) == ("Hello", "tool_calls", (5, 2), "m")
    [call] = [part for part in script.parts if isinstance(part, Call)]
    assert (call.name, list(call.arguments), call.id) == ("weather", ['{"a"', ":1}"], "c1")
    assert [part for part in script.parts if isinstance(part, str)] == ["Hel", "lo"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_tape_is_recognised(dialect: Any) -> None:
    body = b"".join(render(WHOLE, dialect))
    assert Script.of_tape(body).tape == (dialect, body)
    assert Script.of_tape(body).text == "Hello"


def test_a_tape_in_no_dialect_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the tape is in none of the dialects"):
        Script.of_tape(b"data: hello\n\n")


def test_the_recording_of_a_failure_says_what_came_before() -> None:
    """And it is sent as it is."""
    body = b"".join(chat("so far", terminal=False))
    assert Script.of_tape(body).text == "so far"


# --- files ----------------------------------------------------------------------------------------------------------------


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_a_file_of_json(tmp_path: Path) -> None:
    parts = [{"thought": "hm"}, "Hel", "lo", {"call": "weather", "arguments": ['{"a"', ":1}"], "id": "c1"}]
    written = {"parts": parts, "finish": "tool_calls", "usage": [5, 2]}
    assert Script.load(write(tmp_path / "script.json", json.dumps(written))) == WHOLE
    assert Script.load(write(tmp_path / "wide.json", json.dumps(written, indent=2))) == WHOLE
    broken = '{"parts": ["a", {"call": "x"}\n, "b"]}'
    assert Script.load(write(tmp_path / "broken.json", broken)).parts == ("a", Call("x", ["{}"]), "b")
    alone = Script.load(write(tmp_path / "one.json", '{"parts": [{"call": "x", "arguments": "{}"}]}'))
    assert alone.parts == (Call("x", ["{}"]),)


def test_a_file_of_events(tmp_path: Path) -> None:
    events, _ = feed_all(decoder_for("anthropic", keep_raw=False), b"".join(render(WHOLE, "anthropic")))
    lines = b"".join(encode(event) + b"\n" for event in events)
    assert Script.load(write(tmp_path / "events.jsonl", lines)) == Script.of_events(events)


def test_a_file_that_is_a_tape(tmp_path: Path) -> None:
    body = b"".join(render(WHOLE, "openai-chat"))
    assert Script.load(write(tmp_path / "tape.sse", body)).tape == ("openai-chat", body)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("{", "truncated"),
        ('{"parts": [1]}', "Expected"),
        ('{"parts": [], "more": 1}', "unknown field `more`"),
        ('{"parts": [{"shout": "x"}]}', "is no part"),
        ('{"parts": [{"call": "x", "arguments": 5}]}', r"Expected `str \| array`, got `int`"),
        ('{"parts": [{"call": "x", "args": "{}"}]}', "unknown field `args`"),
        ('{"parts": [{"thought": null}]}', "Expected `str`"),
        ('{"type": "started"}\n{"type": "nonsense"}\n', "nonsense"),
        ("hello", "none of the dialects"),
    ],
)
def test_a_file_that_is_no_script_is_refused(tmp_path: Path, written: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"script: .*{why}"):
        Script.load(write(tmp_path / "script", written))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        Script.load(tmp_path / "nowhere")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_recorded_tape_is_sent_as_it_was(dialect: Any, tmp_path: Path) -> None:
    """One of bytes byte for byte; one of events says the same anew."""
    body = b"".join(render(WHOLE, dialect))
    tape = of_body(body, dialect=dialect)
    script = Script.load(write(tmp_path / "bytes.tape", dump(tape)))
    assert script == Script.of_tape(body)
    assert script.tape == (dialect, body)
    assert Script.load(write(tmp_path / "events.tape", converted(tape, "events"))) == Script.of_events(
        decoded(tape).events
    )
