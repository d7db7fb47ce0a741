"""Other recordings become tapes, tapes become other things, and what is said stays what it is."""

from __future__ import annotations

import contextlib
import json

import msgspec
import pytest

import rxstream
from rxstream.errors import ConfigurationError, StreamError
from rxstream.events import ErrorInfo, Event, Finished, Started, TextDelta, encode
from rxstream.providers import decoder_for
from rxstream.tapes.convert import Form, converted, decoded, dump, of_body, of_events, read_any
from rxstream.tapes.format import FORMAT, Answered, Asked, Header, Line
from rxstream.tapes.read import Tape, parse
from rxstream.tapes.redact import Redactor
from tests.support.recordings import Recording, each_recording, feed_all

EVENTS: list[Event] = [
    Started(model="m", at=100.0),
    TextDelta(text="Hel", at=100.5, seq=1),
    TextDelta(text="lo", seq=2),
    Finished(reason="stop", at=102.0, seq=3),
]
DELTA = 'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
END = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


@each_recording("chat", "responses", "anthropic")
def test_recorded_bodies_become_tapes_that_play_to_what_is_expected(recording: Recording) -> None:
    """The text that the official SDKs make of the same bytes is in the sidecars."""
    spoken = {"chat": "compatible", "responses": "openai", "anthropic": "anthropic"}[recording.meta["protocol"]]
    tape = read_any(recording.body)
    assert tape.spoken(tape.request()) == spoken
    events, error = feed_all(decoder_for(spoken, keep_raw=False), recording.body)
    played: list[Event] = []
    session = rxstream.tape(parse(dump(tape)), speed="max", keep_raw=False).start(
        lambda event: played.append(msgspec.structs.replace(event, seq=0, at=0.0))
    )
    with contextlib.suppress(StreamError):
        session.result()
    assert played == events
    assert type(session.error) is type(error)
    assert converted(tape, "body") == recording.body
    text = recording.expected.get("text")
    if text is not None and len({event.choice for event in played if isinstance(event, TextDelta)}) < 2:
        assert converted(tape, "text").decode() == text
    kept = Redactor(["keys", "prompts"]).body(recording.body)
    if kept != recording.body:  # without the request that is said back, it is the same answer
        without = decoded(of_body(kept))
        assert list(map(type, without.events)) == list(map(type, played))
        assert converted(without, "text") == converted(tape, "text")


def test_kept_events_become_a_tape_with_the_times_that_they_say() -> None:
    tape = read_any(b"".join(encode(event) + b"\n" for event in EVENTS))
    assert tape.events == EVENTS
    assert [line.t for line in tape.lines] == [0, 0.5, 0.5, 2, 2]
    assert rxstream.tape(tape, speed="max").run().text == "Hello"
    assert of_events(EVENTS[:2]).end is None


def test_bytes_become_events_at_their_times() -> None:
    tape = bytes_at((1.0, DELTA % "a" + "data: "), (2.0, (DELTA % "b")[6:]), (3.0, END), end="completed")
    events = decoded(tape)
    texts = [(line.t, line.e.text) for line in events.lines if isinstance(line.e, TextDelta)]
    assert texts == [(1.0, "a"), (2.0, "b")]
    assert [event.seq for event in events.events] == list(range(len(events.events)))
    assert events.end == Line(t=3.0, end="completed")
    assert decoded(events) is events


def bytes_at(*pieces: tuple[float, str], end: str, error: ErrorInfo | None = None) -> Tape:
    lines = [
        Line(t=0.0, r=1, asked=Asked(provider="openai-chat", source="s")),
        Line(t=0.5, r=1, answered=Answered()),
        *(Line(t=at, r=1, b=text) for at, text in pieces),
        msgspec.convert({"t": 9.0, "end": end, "error": error}, Line, from_attributes=True),
    ]
    return Tape(Header(tape=FORMAT, version=1, kind="bytes"), lines)


@pytest.mark.parametrize(
    ("tape", "end"),
    [
        (bytes_at((1.0, DELTA % "a"), end="cancelled"), ("cancelled", "")),
        (
            bytes_at((1.0, DELTA % "a"), end="error", error=ErrorInfo(kind="TimedOut", message="late")),
            ("error", "TimedOut"),
        ),
        (bytes_at((1.0, 'data: {"error":{"message":"no"}}\n\n'), end="cut"), ("error", "ServerFault")),
    ],
)
def test_a_converted_tape_ends_as_it_did(tape: Tape, end: tuple[str, str]) -> None:
    last = decoded(tape).end
    assert last is not None
    assert (last.end, "" if last.error is None else last.error.kind) == end


@pytest.mark.parametrize(
    ("form", "gives"),
    [
        ("text", b"ab"),
        ("body", (DELTA % "a" + DELTA % "b" + END).encode()),
    ],
)
def test_forms(form: Form, gives: bytes) -> None:
    tape = bytes_at((1.0, DELTA % "a"), (2.0, DELTA % "b"), (3.0, END), end="completed")
    assert converted(tape, form) == gives
    assert parse(converted(tape, "bytes")).lines == tape.lines
    assert parse(converted(tape, "events")).lines == decoded(tape).lines
    lines = converted(tape, "jsonl").splitlines()
    assert [json.loads(line)["type"] for line in lines][1:3] == ["text-delta", "text-delta"]


def test_what_cannot_be_converted_is_refused() -> None:
    for form in ("bytes", "body"):
        with pytest.raises(ConfigurationError, match="has events"):
            converted(of_events(EVENTS), form)
    with pytest.raises(ConfigurationError, match="none of the dialects"):
        read_any(b"data: hello\n\n")
    with pytest.raises(ConfigurationError, match="neither a tape nor"):
        read_any(b'{"what": "is this?"}')
    assert of_body(b"\xff", dialect="anthropic").request().data == b"\xff"
