"""The events of a body, one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.events import TextDelta
from rxstream.providers import decoder_for
from rxstream.testing.chaos import DIALECTS, Call, Script, Thought, render
from rxstream.testing.chaos._frames import Frame, frames, more, ping
from tests.support.recordings import Recording, each_local, each_recording, feed_all

PROTOCOLS: dict[str, Any] = {"anthropic": "anthropic", "chat": "openai-chat", "responses": "openai-responses"}
each_dialect = pytest.mark.parametrize("dialect", DIALECTS)


@each_recording(*PROTOCOLS)
def test_the_events_of_a_recording_are_its_bytes(recording: Recording) -> None:
    """Nothing is lost between them, and their text is the recording's."""
    dialect = PROTOCOLS[recording.meta["protocol"]]
    found = frames(recording.body, dialect)
    assert b"".join(frame.data for frame in found) == recording.body
    assert [frame.due for frame in found] == list(range(1, len(found) + 1))
    events, _ = feed_all(decoder_for(DIALECTS[dialect]), recording.body)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert "".join(frame.text for frame in found) == text


@each_local("chat_completions", "messages", "responses")
def test_a_local_servers_text_is_found(recording: Recording) -> None:
    """The text of the events is what our decoder finds."""
    folder = recording.id.partition("/")[0]
    dialect: Any = {"chat_completions": "openai-chat", "messages": "anthropic"}.get(folder, "openai-responses")
    events, _ = feed_all(decoder_for(DIALECTS[dialect]), recording.body)
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert "".join(frame.text for frame in frames(recording.body, dialect)) == said


@given(st.binary(max_size=300), st.sampled_from(list(DIALECTS)))
def test_any_bytes_are_events(body: bytes, dialect: Any) -> None:
    found = frames(body, dialect)
    assert b"".join(frame.data for frame in found) == body
    assert all(frame.data for frame in found)


@each_dialect
def test_each_event_is_known_for_what_it_is(dialect: Any) -> None:
    """What faults look for: content and its end."""
    script = Script(Thought("hm"), "Hi", Call("weather", ["{}"]))
    kinds = [frame.kind for frame in frames(b"".join(render(script, dialect)), dialect)]
    assert kinds[0] == "start"
    content = [kind for kind in kinds if kind in ("text", "thinking", "tool")]
    assert content == ["thinking", "text", "tool", "tool"]
    assert kinds[-1] == "end"
    assert kinds.count("finish") == (dialect != "openai-responses")


@each_dialect
def test_a_ping_is_one(dialect: Any) -> None:
    [frame] = frames(ping(dialect), dialect)
    assert frame.kind == "ping"


@each_dialect
def test_one_more_event_of_text_goes_where_the_last_one_went(dialect: Any) -> None:
    """Decoded with the rest, its text joins theirs; without an example it makes an event all the same."""
    found = frames(b"".join(render(Script(Thought("x"), "Hi"), dialect)), dialect)
    place = next(place for place, frame in enumerate(found) if frame.text)
    extra = more(dialect, " there", like=found[place])
    body = b"".join(frame.data for frame in [*found[: place + 1], extra])
    events, _ = feed_all(decoder_for(DIALECTS[dialect]), body)
    texts = [event for event in events if isinstance(event, TextDelta)]
    assert [event.text for event in texts] == ["Hi", " there"]
    assert len({event.part for event in texts}) == 1
    assert frames(more(dialect, "alone", like=None).data, dialect)[0].text == "alone"


def test_the_number_of_an_event() -> None:
    """Responses numbers its events; the others do not."""
    numbers = [frame.number for frame in frames(b"".join(render(Script("a"), "openai-responses")), "openai-responses")]
    assert numbers == list(range(len(numbers)))
    assert Frame(b"data: [1]\n\n").number is None
    assert Frame(b'data: {"sequence_number": "x"}\n\n').number is None
