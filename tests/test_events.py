"""The events: plain, frozen data, and JSON Lines."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream import events
from rxstream.events import (
    CONTENT_EVENTS,
    ErrorInfo,
    Event,
    EventBase,
    Failed,
    Raw,
    Started,
    TextDelta,
    UsageReported,
    decode,
    encode,
)
from rxstream.usage import Usage

TYPES: tuple[type[EventBase], ...] = get_args(Event)
TAGS = {kind: kind.__struct_config__.tag for kind in TYPES}

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_by_type: dict[Any, st.SearchStrategy[Any]] = {
    Any: _json,
    str: st.text(),
    int: st.integers(0, 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    bytes: st.binary(),
    type(None): st.none(),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field, from its type: a new type of field needs a line in `_by_type`, or the tests fail."""
    if kind in _by_type:
        return _by_type[kind]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return structs(kind)
    arguments = get_args(kind)
    if getattr(kind, "__origin__", None) is list:
        return st.lists(values(arguments[0]), max_size=3)
    if getattr(kind, "__origin__", None) is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if arguments and not isinstance(arguments[0], str):
        return st.one_of(*map(values, arguments))
    return st.sampled_from(arguments)


def structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{field.name: values(field.type) for field in msgspec.structs.fields(kind)})


def test_the_union_is_complete() -> None:
    """Every public event of the module is in it, and none twice."""
    defined = {
        value
        for name, value in vars(events).items()
        if isinstance(value, type)
        and issubclass(value, EventBase)
        and not name.startswith("_")
        and value is not EventBase
    }
    assert set(TYPES) == defined
    assert len(TYPES) == len(defined)


def test_tags_are_distinct_words() -> None:
    """They are what a tape says; those of the field's common vocabulary are as everybody writes them."""
    assert len(set(TAGS.values())) == len(TYPES)
    assert all(isinstance(tag, str) and tag == tag.lower() for tag in TAGS.values())
    assert {"text-delta", "tool-call", "finished"} <= set(TAGS.values())


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_what_is_written_is_read_again(kind: type[EventBase], data: st.DataObject) -> None:
    """Every type, every field, on one line."""
    event = data.draw(structs(kind))
    line = encode(event)
    assert b"\n" not in line
    assert decode(line) == decode(line.decode()) == event
    assert type(decode(line)) is kind


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_an_event_is_frozen_and_keyword_only(kind: type[EventBase]) -> None:
    """Nobody changes one, and nobody guesses at the order of its fields."""
    event = msgspec.convert({"type": TAGS[kind], **_required(kind)}, kind)
    with pytest.raises(AttributeError):
        event.seq = 1  # type: ignore[misc]  # what it is for
    with pytest.raises(TypeError):
        kind("text")  # type: ignore[call-arg]  # what it is for
    assert (event.source, event.attempt, event.seq, event.at, event.raw) == ("", 1, 0, 0.0, None)


def _required(kind: type[EventBase]) -> dict[str, Any]:
    """Something for each field without a default."""
    some = {"step": "start", "kind": "audio", "reason": "stop", "content": [], "offset": 0, "usage": {}}
    some["error"] = {"kind": "ServerFault", "message": "no"}
    if kind is events.Seam:
        some["kind"] = "prefill"
    return {field.name: some.get(field.name, "") for field in msgspec.structs.fields(kind) if field.required}


def test_defaults_are_not_written() -> None:
    """A tape is short."""
    assert json.loads(encode(TextDelta(text="Hi"))) == {"type": "text-delta", "text": "Hi"}
    assert json.loads(encode(Started())) == {"type": "started"}


def test_nested_records_are_written_whole() -> None:
    """Usage and errors are data, too."""
    usage = UsageReported(usage=Usage(provenance="reported", output_tokens=1, raw={"a": [None]}))
    failed = Failed(error=ErrorInfo(kind="RateLimited", message="slow", retry_after=1.5))
    assert [decode(encode(event)) for event in (usage, failed)] == [usage, failed]


@pytest.mark.parametrize("line", [b'{"type": "brand-new"}', b'{"text": "no type"}', b'{"type": "text-delta"}', b"[]"])
def test_json_that_is_no_event_is_refused(line: bytes) -> None:
    """With msgspec's own error, as documented."""
    with pytest.raises(msgspec.ValidationError):
        decode(line)


@pytest.mark.parametrize("line", [b"", b"{", b"text"])
def test_what_is_not_json_is_refused(line: bytes) -> None:
    """With msgspec's own error, as documented."""
    with pytest.raises(msgspec.DecodeError):
        decode(line)


def test_content_is_output() -> None:
    """Not what announces, ends, counts or explains: only what a user waits for."""
    assert {TAGS[kind] for kind in CONTENT_EVENTS} == {
        "text-delta", "thinking-delta", "refusal-delta", "tool-call-start", "tool-call-delta", "tool-call",
        "server-tool", "media",
    }  # fmt: skip


def test_raw_holds_any_payload() -> None:
    """JSON as Python values, or text."""
    assert [Raw(payload=payload).payload for payload in ({"a": 1}, "text", None)] == [{"a": 1}, "text", None]
