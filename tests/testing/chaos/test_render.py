"""Scripts on the wire: each dialect says exactly the script, in the shapes that providers use."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.aggregate import aggregate
from rxstream.events import Finished, TextDelta, ToolCallStart, UsageReported
from rxstream.providers import decoder_for
from rxstream.response import Response
from rxstream.testing.chaos import DIALECTS, Call, Script, Thought, render
from tests.support.recordings import Recording, each_recording, feed_all, recordings, splits

each_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def decoded(script: Script, dialect: Any, cuts: list[int] | None = None) -> Response:
    """What our decoder makes of the script."""
    events, error = feed_all(decoder_for(DIALECTS[dialect]), b"".join(render(script, dialect)), cuts or [])
    assert error is None
    assert isinstance(events[-1], Finished)
    return aggregate(events)


pieces = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)
calls = st.builds(
    lambda name, number, cut: Call(name, [f'{{"n":{number}'[:cut], f'{{"n":{number}'[cut:], "}"]),
    st.from_regex(r"[a-z_]{1,9}", fullmatch=True),
    st.integers(0, 999),
    st.integers(1, 5),
)
scripts = st.builds(
    lambda thoughts, texts, called, woven: Script(*thoughts, *texts, *called, interleaved=woven, usage=(11, 5)),
    st.lists(st.builds(Thought, pieces), max_size=3),
    st.lists(pieces, max_size=5),
    st.lists(calls, max_size=3),
    st.booleans(),
)


@given(script=scripts, dialect=st.sampled_from(list(DIALECTS)), data=st.data())
def test_a_script_is_decoded_to_itself(script: Script, dialect: Any, data: st.DataObject) -> None:
    """Text, thinking, calls, usage and the reason, wherever the bytes are cut."""
    body = b"".join(render(script, dialect))
    response = decoded(script, dialect, data.draw(splits(body)))
    assert response.text == script.text
    assert response.thinking == "".join(part.text for part in script.parts if isinstance(part, Thought))
    told = [(call.name, call.arguments) for call in response.tool_calls]
    assert told == [(call.name, "".join(call.arguments)) for call in script.parts if isinstance(call, Call)]
    assert (response.usage.input_tokens, response.usage.output_tokens) == (11, 5)
    assert response.finish_reason == ("tool_calls" if told else "stop")


@each_dialect
@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_the_reason_is_said_in_the_dialects_words(dialect: Any, reason: Any) -> None:
    response = decoded(Script("so far", finish=reason), dialect)
    refused = dialect == "anthropic" and reason == "content_filter"
    assert response.finish_reason == ("refusal" if refused else reason)


@each_dialect
def test_a_script_may_report_no_usage(dialect: Any) -> None:
    events, _ = feed_all(decoder_for(DIALECTS[dialect]), b"".join(render(Script("a", usage=None), dialect)))
    assert not any(isinstance(event, UsageReported) for event in events)


@each_dialect
def test_interleaved_calls_take_turns(dialect: Any) -> None:
    """The first piece of the second call comes before the last of the first."""
    script = Script(Call("one", ['{"a"', ":1}"]), Call("two", ['{"b"', ":2}"]), interleaved=True)
    body = b"".join(render(script, dialect))
    assert body.index(rb"{\"a\"") < body.index(rb"{\"b\"") < body.index(b'":1}"') < body.index(b'":2}"')
    assert [call.arguments for call in decoded(script, dialect).tool_calls] == ['{"a":1}', '{"b":2}']


def test_lifecycle_events_can_be_left_out() -> None:
    """A ping in Messages, progress in Responses."""
    marks: dict[Any, bytes] = {"anthropic": b"event: ping", "openai-responses": b"response.in_progress"}
    for dialect, mark in marks.items():
        with_them = render(Script("a"), dialect)
        without = render(Script("a", lifecycle=False), dialect)
        assert mark in b"".join(with_them)
        assert mark not in b"".join(without)
        assert len(with_them) == len(without) + 1


def shapes(body: bytes) -> dict[str, set[str]]:
    """For each type of event, the fields that it has."""
    found: dict[str, set[str]] = {}
    for line in body.splitlines():
        if line.startswith(b"data: {"):
            payload = json.loads(line[6:])
            choice: Any = (payload.get("choices") or [{}])[0]
            found.setdefault(str(payload.get("type", sorted(choice))), set()).update(payload)
            inner: Any = payload.get("delta") or choice.get("delta") or {}
            if isinstance(inner, dict):
                found.setdefault(f"{payload.get('type')} delta {inner.get('type')}", set()).update(inner)
    return found


@pytest.mark.parametrize(
    ("dialect", "protocol", "folder"),
    [
        ("anthropic", "anthropic", "anthropic/"),
        ("openai-chat", "chat", ("openai-chat/", "compat-deepseek/")),  # OpenAI tells no thinking in Chat Completions
        ("openai-responses", "responses", "openai-responses/"),
    ],
)
def test_every_event_has_the_shape_of_recorded_ones(dialect: Any, protocol: str, folder: str | tuple[str, ...]) -> None:
    """All that we say of an event, the provider was seen to say of one of its type."""
    known: dict[str, set[str]] = {}
    for recording in recordings(protocol):
        if recording.id.startswith(folder):
            for kind, names in shapes(recording.body).items():
                known.setdefault(kind, set()).update(names)
    if not known:
        pytest.skip("no recordings")
    script = Script(Thought("hm"), "Hi", Call("weather", ['{"a"', ":1}"]))
    for kind, names in shapes(b"".join(render(script, dialect))).items():
        assert names <= known.get(kind, set()), kind


PROTOCOLS: dict[str, Any] = {"anthropic": "anthropic", "chat": "openai-chat", "responses": "openai-responses"}


@each_recording(*PROTOCOLS)
def test_a_tape_says_the_same_in_every_dialect(recording: Recording) -> None:
    """In its own it stays as it is; in the others its text and its calls are said anew."""
    vendor = PROTOCOLS[recording.meta["protocol"]]
    events, _ = feed_all(decoder_for(DIALECTS[vendor]), recording.body)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    calls = [event for event in events if isinstance(event, ToolCallStart)]
    script = Script.of_tape(recording.body, dialect=vendor)
    assert script.tape == (vendor, recording.body)
    for dialect in DIALECTS:
        said = decoded(script, dialect)
        assert said.text == text
        assert len(said.tool_calls) == len(calls)
