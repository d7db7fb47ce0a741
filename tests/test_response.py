"""The answer as a whole: how it is read, kept, and sent back."""

from __future__ import annotations

import pickle

import pytest
from pydantic import ValidationError

from rxstream.messages import Message, RefusalPart, TextPart, ThinkingPart, ToolCall
from rxstream.response import Choice, CitationRecord, MediaRecord, Response, ServerToolCall
from rxstream.usage import Usage

CUT = ToolCall(id="c2", name="look", arguments='{"a', complete=False)
CHOICE = Choice(
    parts=[
        ThinkingPart(text="Hm.", signature="s"),
        TextPart(text="Hel"),
        ToolCall(id="c1", name="look", arguments="{}"),
        CUT,
        TextPart(text="lo"),
        RefusalPart(text="no"),
    ],
    citations=[CitationRecord(url="u")],
    server_tools=[ServerToolCall(id="s")],
    media=[MediaRecord(kind="image")],
)
RESPONSE = Response(
    id="msg_1",
    choices=[CHOICE, Choice(index=1, parts=[TextPart(text="other")])],
    finish_reason="stop",
    usage=Usage(provenance="reported", output_tokens=3, raw={"output": 3}),
)


def test_its_fields_are_those_of_the_first_choice() -> None:
    """What most people ask for, without an index."""
    assert (RESPONSE.text, str(RESPONSE)) == ("Hello", "Hello")
    assert (RESPONSE.thinking, RESPONSE.refusal) == ("Hm.", "no")
    assert [call.id for call in RESPONSE.tool_calls] == ["c1", "c2"]
    for name in ("parts", "citations", "server_tools", "media"):
        assert getattr(RESPONSE, name) == getattr(CHOICE, name)


def test_nothing_came() -> None:
    """An empty answer reads as empty; a refusal that was not given is None, not empty."""
    nothing = Response()
    assert (nothing.text, nothing.thinking, nothing.tool_calls, nothing.parts) == ("", "", [], [])
    assert (nothing.refusal, nothing.finish_reason, nothing.usage) == (None, None, Usage())


def test_the_turn_to_send_back() -> None:
    """All parts but the calls that were cut."""
    kept = [part for part in CHOICE.parts if part != CUT]
    assert RESPONSE.message() == Message(role="assistant", content=kept)


def test_it_can_be_kept_as_json() -> None:
    """And read again, usage included; counts that nobody reported stay unknown."""
    assert Response.model_validate_json(RESPONSE.model_dump_json()) == RESPONSE
    assert RESPONSE.model_dump()["usage"] == {"provenance": "reported", "output_tokens": 3, "raw": {"output": 3}}
    assert Response.model_validate(RESPONSE.model_dump()).usage == RESPONSE.usage


def test_it_can_be_pickled() -> None:
    """An error carries it over process boundaries."""
    assert pickle.loads(pickle.dumps(RESPONSE)) == RESPONSE  # noqa: S301  # our own bytes


def test_nobody_changes_it() -> None:
    """It is a record of what was said."""
    with pytest.raises(ValidationError):
        RESPONSE.id = "other"
