"""The Chat Completions decoder: real recordings of many vendors, its rules one by one, and what no bytes may do to it."""

from __future__ import annotations

import json
from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxstream import response
from rxstream.aggregate import aggregate
from rxstream.errors import (
    BadRequest,
    Overloaded,
    ProtocolError,
    RateLimited,
    ServerFault,
    StreamError,
    StreamIncomplete,
    ToolCallIncomplete,
)
from rxstream.events import (
    Citation,
    Event,
    EventBase,
    Finished,
    FinishReason,
    Heartbeat,
    Logprobs,
    Media,
    PartEnd,
    Raw,
    RefusalDelta,
    ServerTool,
    Started,
    Status,
    TextDelta,
    ThinkingDelta,
    ThinkingSignature,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UsageReported,
)
from rxstream.providers import PROVIDERS, Quirks, decoder_for
from rxstream.providers.openai_chat._payload import Choice, Chunk, Delta
from rxstream.providers.openai_chat.decode import ChatDecoder
from rxstream.usage import Usage
from rxstream.wire.sse import ServerSentEvent, encode
from tests.support.recordings import Recording, each_local, each_recording, feed_all, recordings, splits

DONE = b"data: [DONE]\n\n"


def sse(payload: Any, event: str = "") -> bytes:
    return encode(ServerSentEvent(event, json.dumps(payload).encode()))


def chunk(delta: Any = None, *, index: Any = 0, finish: Any = None, **fields: Any) -> bytes:
    """One chunk with one choice; `fields` stand beside the choices."""
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return sse({"id": "c1", "model": "m", "choices": [choice], **fields})


def call(arguments: Any = None, **fields: Any) -> dict[str, Any]:
    """A delta with one tool call fragment."""
    name = fields.pop("name", None)
    return {"tool_calls": [{**fields, "function": {"name": name, "arguments": arguments}}]}


def decode(*pieces: bytes, quirks: Quirks = Quirks()) -> list[Event]:  # noqa: B008  # frozen
    """The events of a whole stream, without `Started` and bytes."""
    events, error = feed_all(ChatDecoder(keep_raw=False, quirks=quirks), b"".join(pieces))
    assert error is None, error
    assert events[0] == Started(id="c1", model="m")
    return events[1:]


def content(*deltas: Any, finish: str = "stop") -> list[Event]:
    """The events of a stream of these deltas, without `Started` and `Finished`."""
    return decode(*(chunk(delta) for delta in deltas), chunk({}, finish=finish), DONE)[:-1]


def fails(*pieces: bytes, quirks: Quirks = Quirks()) -> tuple[list[Event], StreamError]:  # noqa: B008  # frozen
    events, error = feed_all(ChatDecoder(keep_raw=False, quirks=quirks), b"".join(pieces))
    assert error is not None
    return events, error


def called(*events: Event) -> list[tuple[str, str, str]]:
    return [(event.id, event.name, event.arguments) for event in events if isinstance(event, ToolCall)]


# Recordings.


def without_nulls(value: Any) -> Any:
    return (
        {key: without_nulls(item) for key, item in value.items() if item is not None}
        if isinstance(value, dict)
        else value
    )


def calls_of(choice: response.Choice | response.Response) -> list[dict[str, Any]]:
    return [{"id": item.id, "name": item.name, "arguments": item.arguments} for item in choice.tool_calls]


def comes_to(recording: Recording) -> dict[str, Any]:
    """What the sidecar expects, where it is not wrong about the bytes."""
    expected = {**recording.expected, "refusal": recording.expected["refusal"] or None}
    for item in expected["tool_calls"]:
        item["arguments"] = item["arguments"] or ""
    expected["usage"] = without_nulls(expected["usage"])
    if recording.id == "compat-snowflake/pydanticai-snowflake-thinking-streaming":
        expected["thinking"] = (
            "15 * 27 = 405"  # its reasoning comes in reasoning_details alone, which the SDK does not join
        )
    return expected


def agrees(recording: Recording, events: list[Event]) -> None:
    """Where a second opinion differs, `expected` is right: it merges choices, shows refusals as text, or loses a part."""
    answer, expected = aggregate(events), comes_to(recording)
    assert answer.text == expected["text"]
    assert answer.thinking == expected["thinking"]
    assert answer.refusal == expected["refusal"]
    assert calls_of(answer) == expected["tool_calls"]
    assert (answer.raw_finish_reason or None) == expected["finish_reason"]
    assert without_nulls(answer.usage.raw) == expected["usage"]
    for choice, wanted in zip(answer.choices, expected.get("choices", ()), strict="choices" in expected):
        assert (choice.index, choice.text, choice.raw_finish_reason) == (
            wanted["index"],
            wanted["text"],
            wanted["finish_reason"],
        )
        assert calls_of(choice) == wanted["tool_calls"]


def row_of(recording: Recording) -> str:
    return {"openai": "openai-chat"}.get(
        recording.vendor, recording.vendor if recording.vendor in PROVIDERS else "compatible"
    )


@each_recording("chat")
@pytest.mark.parametrize("row", ["its own", "compatible"])
def test_recordings(recording: Recording, row: str) -> None:
    """Each recorded answer comes out as the official SDK reads it, whatever row decodes it."""
    name = row_of(recording) if row == "its own" else row
    events, error = feed_all(decoder_for(name), recording.body)
    agrees(recording, events)
    if "stream_error" in recording.expected:
        assert error is not None
        assert error.message in recording.expected["stream_error"]
    else:
        assert error is None
        assert isinstance(events[-1], Finished)
    assert not [event for event in events if isinstance(event, Raw)]
    assert [event for event in events if isinstance(event, Started)] == [
        event for event in events if not isinstance(event, (Heartbeat, Status))
    ][:1]


@each_recording("chat")
def test_recordings_byte_by_byte(recording: Recording) -> None:
    """One byte at a time gives the same events."""
    name = row_of(recording)
    whole, byte_by_byte = (
        feed_all(decoder_for(name), recording.body, cuts) for cuts in ((), range(1, len(recording.body)))
    )
    assert byte_by_byte[0] == whole[0]
    assert str(byte_by_byte[1]) == str(whole[1])


@each_recording("chat")
@settings(max_examples=5)
@given(data=st.data())
def test_recordings_in_any_split(recording: Recording, data: st.DataObject) -> None:
    """So does any other cut."""
    whole, _ = feed_all(decoder_for("compatible"), recording.body)
    assert feed_all(decoder_for("compatible"), recording.body, data.draw(splits(recording.body)))[0] == whole


@each_recording("chat")
@settings(max_examples=5)
@given(data=st.data())
def test_a_cut_recording_is_never_complete(recording: Recording, data: st.DataObject) -> None:
    """Cut anywhere before the first finish_reason, an answer is an error that comes after all that had arrived."""
    finish = recording.body.find(b'"finish_reason":"')
    finish = min(
        place for place in (finish, recording.body.find(b'"finish_reason": "'), len(recording.body)) if place >= 0
    )
    cut = data.draw(st.integers(0, min(finish, max(recording.body.find(b"[DONE]"), 0))))
    events, error = feed_all(decoder_for("compatible"), recording.body[:cut])
    assert isinstance(error, StreamIncomplete)
    whole, _ = feed_all(decoder_for("compatible"), recording.body)
    events = [event for event in events if not isinstance(event, Heartbeat)]  # a comment may be cut
    assert events == [event for event in whole if not isinstance(event, Heartbeat)][: len(events)]


LOCAL: dict[str, tuple[type[StreamError] | None, str, str]] = {
    "cancelled_server_side": (StreamIncomplete, "", "The bicycle stays upright"),
    "empty_messages_accepted": (None, "length", "I'm here to help you"),
    "error_bad_request": (StreamIncomplete, "", ""),  # not a stream: the source looks at its content type
    "error_context_overflow": (StreamIncomplete, "", ""),
    "error_midstream": (ServerFault, "", ""),
    "json_schema": (None, "stop", '{\n  "name": "Ethan'),
    "logprobs": (None, "stop", "The capital of France is Paris."),
    "long": (None, "stop", "The bicycle's stability"),
    "max_tokens": (None, "length", "The bicycle stays upright"),
    "plain": (None, "stop", "The capital of France is Paris."),
    "plain_no_usage": (None, "stop", "The capital of France is Paris."),
    "prompt_progress": (None, "stop", ""),
    "reasoning": (None, "length", "The answer to this question is"),
    "server_killed_midstream": (StreamIncomplete, "", "The bicycle stays upright"),
    "stop_sequence": (None, "stop", "Repeat exactly: one, two, three,"),
    "tool_call_auto": (None, "tool_calls", ""),
    "tool_call_parallel": (None, "tool_calls", ""),
    "tool_result_turn": (None, "stop", "The weather in Paris in Celsius is 18."),
}


@each_local("chat_completions")
@pytest.mark.parametrize("row", ["local", "compatible"])
def test_recordings_of_the_local_server(recording: Recording, row: str) -> None:
    """llama.cpp's own server: good answers end, the cut and the failed ones are errors with the text so far."""
    name = recording.path.stem
    if name not in LOCAL:
        pytest.skip("a new recording")
    wanted, finish, text = LOCAL[name]
    events, error = feed_all(decoder_for(row), recording.body)
    response = aggregate(events)
    assert type(error) is (wanted or type(None))
    assert (response.raw_finish_reason or "") == finish
    assert response.text.startswith(text)
    assert all(item.complete and item.parse() for item in response.tool_calls)
    assert len(response.tool_calls) == {"tool_call_auto": 1, "tool_call_parallel": 2}.get(name, 0)


# The beginning.


def test_it_begins_once_with_the_first_chunk() -> None:
    """`Started` does not wait for content, and later ids and models are other words for the same answer."""
    events, _ = feed_all(ChatDecoder(keep_raw=False), chunk({"role": "assistant"}) + chunk({"content": "a"}, id="c2"))
    assert events == [Started(id="c1", model="m"), TextDelta(text="a")]


def test_a_first_payload_that_names_nothing_is_not_the_beginning() -> None:
    """Azure first tells what its filters say of the prompt."""
    first = sse({"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
    events, _ = feed_all(ChatDecoder(keep_raw=False), first + chunk({"content": "a"}))
    assert events[:2] == [
        Status(status="prompt_filter_results", payload=[{"prompt_index": 0}]),
        Started(id="c1", model="m"),
    ]


def test_wrong_types_of_an_id_cost_nothing() -> None:
    """An id that is a number is no id."""
    events, _ = feed_all(ChatDecoder(keep_raw=False), chunk({"content": "a"}, id=7, model=None))
    assert events == [Started(), TextDelta(text="a")]


# Text, thinking, refusals.


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (None, []),
        ({}, []),
        ([], []),
        ("a", [TextDelta(text="a")]),
        ({"role": "assistant", "content": None, "tool_calls": None, "refusal": None}, []),
        ({"content": ""}, []),
        ({"content": "a"}, [TextDelta(text="a")]),
        ({"content": ["a", "b"]}, [TextDelta(text="a"), TextDelta(text="b")]),
        ({"content": [{"type": "text", "text": "a"}, ""]}, [TextDelta(text="a")]),
        ({"content": {"type": "text", "text": "a"}}, [TextDelta(text="a")]),
        ({"content": 7}, [Raw(name="content", payload=7)]),
        ({"content": [{"type": "new", "x": 1}]}, [Raw(name="new", payload={"type": "new", "x": 1})]),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                    {"type": "text", "text": "a"},
                ]
            },
            [ThinkingDelta(text="t"), TextDelta(text="a", part=1)],
        ),
        ({"content": [{"type": "thinking", "thinking": "t"}]}, [ThinkingDelta(text="t")]),
        (
            {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "t", "signature": "s"}]}]},
            [ThinkingDelta(text="t", kind="summary"), ThinkingSignature(data="s")],
        ),
        (
            {"content": [{"type": "reference", "reference_ids": [1]}]},
            [Citation(kind="reference", payload={"type": "reference", "reference_ids": [1]})],
        ),
        ({"content": [{"type": "refusal", "refusal": "no"}]}, [RefusalDelta(text="no")]),
        ({"refusal": "no"}, [RefusalDelta(text="no")]),
        ({"refusal": True}, [Raw(name="refusal", payload=True)]),
        ({"reasoning_content": "t"}, [ThinkingDelta(text="t")]),
        ({"reasoning": "t"}, [ThinkingDelta(text="t")]),
        ({"thinking": "t"}, [ThinkingDelta(text="t")]),
        ({"reasoning": {"effort": "high"}}, [Raw(name="reasoning", payload={"effort": "high"})]),
        ({"reasoning_content": "t", "content": "a"}, [ThinkingDelta(text="t"), TextDelta(text="a", part=1)]),
        ({"reasoning_content": "t", "reasoning": "t"}, [ThinkingDelta(text="t")]),
        ({"reasoning_content": "t", "reasoning": "u"}, [ThinkingDelta(text="t"), ThinkingDelta(text="u")]),
        (
            {"reasoning": "t", "reasoning_details": [{"type": "reasoning.text", "text": "t", "index": 0}]},
            [ThinkingDelta(text="t")],
        ),
        (
            {
                "reasoning": "tu",
                "reasoning_details": [
                    {"type": "reasoning.summary", "summary": "t", "index": 0},
                    {"type": "reasoning.summary", "summary": "u", "index": 1},
                ],
            },
            [ThinkingDelta(text="t", kind="summary"), ThinkingDelta(text="u", kind="summary", part=1)],
        ),
        (
            {"reasoning": "t", "reasoning_details": [{"type": "reasoning.encrypted", "data": "e"}]},
            [ThinkingSignature(data="e", kind="encrypted"), ThinkingDelta(text="t", part=1)],
        ),
        (
            {"reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "s"}]},
            [ThinkingDelta(text="t"), ThinkingSignature(data="s")],
        ),
        ({"reasoning_text": "t"}, [ThinkingDelta(text="t")]),
        ({"reasoning_opaque": "e"}, [ThinkingSignature(data="e", kind="encrypted")]),
        (
            {"reasoning_content": "t", "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}]},
            [ThinkingDelta(text="t"), ThinkingSignature(data="s")],
        ),
        ({"thinking_blocks": [{"type": "thinking", "thinking": "t"}]}, [ThinkingDelta(text="t")]),
        (
            {"thinking_blocks": [{"type": "redacted_thinking", "data": "r"}]},
            [ThinkingSignature(data="r", kind="redacted")],
        ),
        ({"thinking_blocks": ["x"]}, [Raw(name="thinking_blocks", payload="x")]),
        ({"content": "", "steps": ["s"]}, [Raw(name="steps", payload=["s"])]),
        (
            {"widget": "w", "graph": {"sources": None}, "more": {"x": 1}},
            [Raw(name="widget", payload="w"), Raw(name="more", payload={"x": 1})],
        ),
        ({"role": "assistant", "name": "assistant", "channel": "final", "token_id": 7, "list": []}, []),
        ({"reasoning_details": ["x"]}, [Raw(name="reasoning_details", payload="x")]),
        ({"reasoning_details": {"type": "new"}}, [Raw(name="new", payload={"type": "new"})]),
    ],
)
def test_deltas(delta: Any, expected: list[Event]) -> None:
    """What each shape of a delta means, in the spellings of all vendors."""
    assert content(delta) == expected


def test_text_and_thinking_are_one_part_each() -> None:
    """However they take turns."""
    events = content({"content": "a"}, {"reasoning": "t"}, {"content": "b"}, {"reasoning": "u"})
    assert [(type(event), getattr(event, "part", None)) for event in events] == [
        (TextDelta, 0),
        (ThinkingDelta, 1),
        (TextDelta, 0),
        (ThinkingDelta, 1),
    ]


def test_a_message_counts_only_where_there_is_no_delta() -> None:
    """Some servers repeat the answer so far beside each delta, others send it whole in its place."""
    choice = {"index": 0, "message": {"content": "ab"}, "finish_reason": "stop"}
    whole = sse({"id": "c1", "model": "m", "choices": [choice]})
    assert decode(whole, DONE)[0] == TextDelta(text="ab")
    beside = sse({"id": "c1", "model": "m", "choices": [{**choice, "delta": {"content": "b"}}]})
    assert aggregate(decode(chunk({"content": "a"}), beside, whole, DONE)).text == "ab"
    text = sse({"id": "c1", "model": "m", "choices": [{**choice, "message": None, "text": "ab"}]})
    assert decode(text, DONE)[0] == TextDelta(text="ab")


def test_choices_are_told_apart() -> None:
    """Several answers come in turn; each has parts, calls and a reason of its own."""
    events = decode(
        chunk({"content": "b"}, index=1),
        chunk({"content": "a"}),
        chunk(call("{}", index=0, id="x", name="f"), index=1),
        chunk({}, finish="length"),
        chunk({}, index=1, finish="tool_calls"),
        DONE,
    )
    assert events[:2] == [TextDelta(choice=1, text="b"), TextDelta(text="a")]
    assert [event.choice for event in events if isinstance(event, ToolCall)] == [1]
    assert events[-1] == Finished(reason="length", raw_reason="length", raw_reasons={0: "length", 1: "tool_calls"})


@pytest.mark.parametrize("index", ["0", None, 0.0])
def test_an_odd_index_is_the_first_choice(index: Any) -> None:
    """There is no other."""
    assert decode(chunk({"content": "a"}, index=index), DONE)[0] == TextDelta(text="a")


# Beside the text.


def test_logprobs_follow_their_text() -> None:
    """As the provider's own entries, of the text or of the refusal."""
    choice = {
        "index": 0,
        "delta": {"content": "a"},
        "logprobs": {"content": [{"token": "a"}], "refusal": [{"token": "n"}]},
    }
    assert decode(sse({"id": "c1", "model": "m", "choices": [choice]}), DONE)[:3] == [
        TextDelta(text="a"),
        Logprobs(content=[{"token": "a"}]),
        Logprobs(content=[{"token": "n"}], refusal=True, part=1),
    ]


@pytest.mark.parametrize(
    ("logprobs", "expected"), [({"content": None, "refusal": None}, []), ([0.1], [Raw(name="logprobs", payload=[0.1])])]
)
def test_logprobs_of_other_shapes(logprobs: Any, expected: list[Event]) -> None:
    """None are none, and what is unknown is kept."""
    choice = {"index": 0, "delta": {}, "logprobs": logprobs, "finish_reason": "stop"}
    assert decode(sse({"id": "c1", "model": "m", "choices": [choice]}), DONE)[:-1] == expected


def test_audio_and_its_transcript() -> None:
    """Pieces of one part."""
    assert content({"audio": {"id": "a1", "data": "QUJD"}}, {"audio": {"transcript": "hi", "expires_at": 1}}) == [
        Media(kind="audio", data="QUJD", id="a1"),
        Media(kind="transcript", data="hi"),
    ]


def test_images() -> None:
    """A data address is an image, each a part of its own; another address is kept as it is."""
    far = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    near = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    assert content({"images": [near, far]}, {"content": [near]}) == [
        Media(kind="image", data="QUJD", media_type="image/png"),
        Raw(name="image", payload=far),
        Media(kind="image", data="QUJD", media_type="image/png", part=1),
    ]


def test_annotations_are_citations() -> None:
    """Nested or flat; what is not an object is kept."""
    nested = {
        "type": "url_citation",
        "url_citation": {"url": "u", "title": "t", "start_index": 1, "end_index": 2, "content": "c"},
    }
    flat = {"type": "url_citation", "url": "v"}
    assert content({"annotations": [nested, flat, "w"]}) == [
        Citation(kind="url_citation", url="u", title="t", cited_text="c", start=1, end=2, payload=nested),
        Citation(kind="url_citation", url="v", payload=flat),
        Raw(name="annotations", payload="w"),
    ]


def test_sources_beside_the_choices_are_cited_once() -> None:
    """Perplexity repeats them with every chunk; what it knows of a source comes with it."""
    result = {"url": "v", "title": "V", "snippet": "s"}
    fields: dict[str, Any] = {"citations": ["u", "v"], "search_results": [result]}
    events = decode(chunk({"content": "a"}, **fields), chunk({"content": "b"}, finish="stop", **fields), DONE)
    assert events[:-1] == [
        TextDelta(text="a"),
        Citation(kind="citation", url="u"),
        Citation(kind="search_result", url="v", title="V", cited_text="s", payload=result),
        TextDelta(text="b"),
    ]


def test_tools_that_the_server_runs() -> None:
    """Groq names them first, and tells what came out later."""
    named = {"index": 0, "type": "search", "arguments": '{"q":1}'}
    events = content(
        {"executed_tools": [named]}, {"executed_tools": [{**named, "output": "o"}]}, {"executed_tools": [1]}
    )
    assert events == [
        ServerTool(name="search", step="call", arguments='{"q":1}'),
        ServerTool(name="search", step="result", payload={**named, "output": "o"}),
        Raw(name="executed_tools", payload=1),
    ]


def test_progress_and_moderation_are_a_status() -> None:
    """Also beside choices."""
    body = [
        chunk({}, prompt_progress={"total": 9}),
        chunk({}, finish="stop", timings={"n": 1}),
        sse({"moderation": {"f": 0}}),
    ]
    assert decode(*body, DONE)[:-1] == [
        Status(status="prompt_progress", payload={"total": 9}),
        Status(status="timings", payload={"n": 1}),
        Status(status="moderation", payload={"f": 0}),
    ]


def test_the_filter_of_a_choice_is_told_when_it_changes() -> None:
    """Azure repeats it with every chunk."""
    safe, unsafe = ({"hate": {"filtered": filtered}} for filtered in (False, True))
    body = [
        sse({"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {}, "content_filter_results": result}]})
        for result in ({}, safe, safe, unsafe)
    ]
    assert [event.payload for event in decode(*body, DONE) if isinstance(event, Status)] == [safe, unsafe]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"type": "ping"}, [Raw(name="ping", payload={"type": "ping"})]),
        ({"object": "new", "x": 1}, [Raw(name="new", payload={"object": "new", "x": 1})]),
        (["x"], [Raw(payload=["x"])]),
        ("x", [Raw(payload="x")]),
        ({"choices": [None]}, [Raw(payload={"choices": [None]})]),
        ({"choices": {}}, [Raw(payload={"choices": {}})]),
        ({"choices": []}, []),
    ],
)
def test_unknown_payloads_are_kept(payload: Any, expected: list[Event]) -> None:
    """They become `Raw` and the stream goes on."""
    assert decode(chunk({}, finish="stop"), sse(payload), DONE)[:-1] == expected


def test_an_empty_payload_says_nothing() -> None:
    """And breaks nothing."""
    assert decode(chunk({}, finish="stop"), b"data:  \n\n", DONE)[:-1] == []


def test_a_named_event_that_is_unknown_keeps_its_name() -> None:
    """The name is all that is known of it."""
    assert decode(chunk({}, finish="stop"), sse({}, "metrics"), DONE)[0] == Raw(name="metrics", payload={})


# Tool calls.


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        ([call("", index=0, id="a", name="f"), call('{"x"', index=0), call(":1}", index=0)], [("a", "f", '{"x":1}')]),
        ([call('{"x":1}', index=0, id="a", name="f")], [("a", "f", '{"x":1}')]),
        ([call(None, index=0, id="a", name="f")], [("a", "f", "")]),
        ([call({"x": 1}, index=0, id="a", name="f")], [("a", "f", '{"x":1}')]),
        ([call("{", index=1, id="a", name="f"), call("}", index=1)], [("a", "f", "{}")]),
        ([call("{", index="1", id="a", name="f"), call("}", index=1)], [("a", "f", "{}")]),
        # interleaved
        (
            [call("{", index=0, id="a", name="f"), call("[", index=1, id="b", name="g"), call("}", index=0), call("]", index=1)],
            [("a", "f", "{}"), ("b", "g", "[]")],
        ),
        # the index is used again with a new id
        (
            [call("{", index=0, id="a", name="f"), call("}", index=0), call("[]", index=0, id="b", name="g")],
            [("a", "f", "{}"), ("b", "g", "[]")],
        ),
        # … or without ids, with another name
        ([call("{}", index=0, name="f"), call("[]", index=0, name="g")], [("", "f", "{}"), ("", "g", "[]")]),
        # id and name repeated
        ([call("{", index=0, id="a", name="f"), call("}", index=0, id="a", name="f")], [("a", "f", "{}")]),
        ([call("{", index=0, id="a", name="f"), call("}", index=0, id="", name="")], [("a", "f", "{}")]),
        # … and late
        ([call("{", index=0), call("}", index=0, id="a", name="f")], [("a", "f", "{}")]),
        # no index
        ([call("{", id="a", name="f"), call("}")], [("a", "f", "{}")]),
        ([call("{", id="a", name="f"), call("}", id="a")], [("a", "f", "{}")]),
        ([call("{}", id="a", name="f"), call("[]", id="b", name="g")], [("a", "f", "{}"), ("b", "g", "[]")]),
        ([call("{}", name="f"), call("[]", name="f")], [("", "f", "{}"), ("", "f", "[]")]),
        ([call("{", name="f"), call("}", id="a")], [("a", "f", "{}")]),
        ([call("{", id="a", name="f"), call("}", index=0, id="a")], [("a", "f", "{}")]),
        # nothing in it
        ([call(None), call("{}", index=0, id="a", name="f"), call(None, index=0), {"tool_calls": [{}]}], [("a", "f", "{}")]),
        # the older form
        ([{"function_call": {"name": "f", "arguments": "{"}}, {"function_call": {"arguments": "}"}}], [("", "f", "{}")]),
        # … beside the newer one
        ([{**call("{}", index=0, id="a", name="f"), "function_call": {"name": "f", "arguments": "{}"}}], [("a", "f", "{}")]),
        (
            [call("{", index=0, id="a", name="f"), {**call("}", index=0), "function_call": {"arguments": "}"}}, {"function_call": {"arguments": "x"}}],
            [("a", "f", "{}")],
        ),
    ],
)  # fmt: skip
def test_tool_calls(deltas: list[Any], calls: list[tuple[str, str, str]]) -> None:
    """Calls come together from every way in which vendors cut them up, once each."""
    events = content(*deltas, finish="tool_calls")
    assert called(*events) == calls
    assert aggregate(events).tool_calls == aggregate(e for e in events if isinstance(e, ToolCall)).tool_calls
    assert [event.id for event in events if isinstance(event, PartEnd)] == [call_id for call_id, _, _ in calls]


def test_the_events_of_a_call() -> None:
    """It starts once, grows, and is sealed when the choice ends."""
    assert content({"content": "a"}, call("{", index=0, id="x", name="f"), call("}", index=0), finish="tool_calls") == [
        TextDelta(text="a"),
        ToolCallStart(part=1, id="x", name="f"),
        ToolCallDelta(part=1, arguments="{"),
        ToolCallDelta(part=1, arguments="}"),
        ToolCall(part=1, id="x", name="f", arguments="{}"),
        PartEnd(part=1, kind="tool_call", id="x"),
    ]


def test_two_calls_in_one_chunk() -> None:
    """One after the other."""
    both = {"tool_calls": [call("{}", index=n, id=f"c{n}", name="f")["tool_calls"][0] for n in (0, 1)]}
    assert called(*content(both)) == [("c0", "f", "{}"), ("c1", "f", "{}")]


def test_a_late_name_is_told() -> None:
    """A second start of the same part fills in what the first lacked."""
    starts = [
        event
        for event in content(call("{}", index=0), call(None, index=0, id="a", name="f"))
        if isinstance(event, ToolCallStart)
    ]
    assert starts == [ToolCallStart(), ToolCallStart(id="a", name="f")]


def test_a_custom_tool_takes_free_text() -> None:
    """Its input is not JSON."""
    delta = {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "free text"}}]}
    assert ToolCall(id="a", name="f", arguments="free text", kind="custom") in content(delta, finish="tool_calls")


def test_what_must_go_back_with_a_call_is_kept() -> None:
    """Gemini signs the thought behind it."""
    entry = {
        "index": 0,
        "id": "a",
        "function": {"name": "f", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "s"}},
    }
    assert Raw(name="extra_content", payload=entry) in content({"tool_calls": [entry]})


def test_a_fragment_that_is_not_an_object_is_kept() -> None:
    """And a single one outside a list is read."""
    assert content({"tool_calls": ["x"]}) == [Raw(name="tool_calls", payload="x")]
    assert called(*content({"tool_calls": call("{}", id="a", name="f")["tool_calls"][0]})) == [("a", "f", "{}")]


@pytest.mark.parametrize("rest", ['{"y":', '{"y"}', '{"y":1}{', ""])
def test_a_call_cut_by_the_token_limit_is_not_sealed(rest: str) -> None:
    """The answer is complete, the call is not; the one before it is."""
    events = content(call('{"x":1}', index=0, id="a", name="f"), call(rest, index=1, id="b", name="g"), finish="length")
    assert called(*events) == [("a", "f", '{"x":1}')]
    assert [item.complete for item in aggregate(events).tool_calls] == [True, False]


def test_fragments_after_the_finish_reason_are_not_lost() -> None:
    """The call is sealed once more, whole."""
    events = decode(
        chunk(call('{"x":', index=0, id="a", name="f"), finish="tool_calls"),
        chunk(call("1}", index=0), finish="tool_calls"),
        DONE,
    )
    assert called(*events)[-1] == ("a", "f", '{"x":1}')
    assert [item.arguments for item in aggregate(events).tool_calls] == ['{"x":1}']


def test_a_finish_reason_with_every_fragment_seals_a_call_once() -> None:
    """And not before it is whole: a call that is answered too early is a wrong call."""
    pieces = ("", '{"x":', ' "}', '"}')
    events = decode(*(chunk(call(piece, index=0, id="a", name="f"), finish="tool_calls") for piece in pieces), DONE)
    assert called(*events) == [("a", "f", '{"x": "}"}')]


@pytest.mark.parametrize("arguments", ["", "{oops", '{"x":1} {', '{"x":1}}'])
def test_arguments_that_are_not_json_wait_for_the_end(arguments: str) -> None:
    """The model stopped of its own accord: it wrote what it wrote."""
    *begun, done = (chunk(call(arguments, index=0, id="a", name="f"), finish="tool_calls"), DONE)
    decoder = ChatDecoder(keep_raw=False)
    assert called(*decoder.feed(b"".join(begun))) == []
    assert called(*decoder.feed(done)) == [("a", "f", arguments)]


def test_a_call_that_goes_on_after_its_seal_is_sealed_again_at_the_end() -> None:
    """Once, however many fragments and reasons come."""
    pieces = ["{}", *" " * 5]
    events = decode(*(chunk(call(piece, index=0, id="a", name="f"), finish="stop") for piece in pieces), DONE)
    assert called(*events) == [("a", "f", "{}"), ("a", "f", "{}     ")]


def test_a_call_that_stops_being_json_after_its_seal_is_not_sealed_again_where_it_may_be_cut() -> None:
    """The token limit came in the middle of what nobody can read."""
    events = decode(
        chunk(call("{}", index=0, id="a", name="f"), finish="length"), chunk(call("x", index=0), finish="length"), DONE
    )
    assert called(*events) == [("a", "f", "{}")]


@given(
    st.lists(st.dictionaries(st.text(), st.text() | st.lists(st.text())), min_size=1, max_size=3),
    st.lists(st.integers(1, 9), min_size=1),
    st.booleans(),
)
def test_a_name_that_is_repeated_begins_a_call_only_where_one_is_whole(
    objects: list[dict[str, Any]], lengths: list[int], ascii_only: bool
) -> None:
    """Without index and id, with the name in each fragment, the arguments alone tell the calls apart."""
    texts = [json.dumps(item, ensure_ascii=ascii_only) for item in objects]
    pieces: list[str] = []
    for text in texts:
        rest = text
        for length in cycle(lengths):
            pieces.append(rest[:length])
            rest = rest[length:]
            if not rest:
                break
    events = content(*(call(piece, name="f") for piece in pieces), finish="tool_calls")
    assert [arguments for _, _, arguments in called(*events)] == texts


def test_a_call_after_the_finish_reason_is_another() -> None:
    """The one before it is not sealed again."""
    events = decode(
        chunk(call("{}", index=0, id="a", name="f"), finish="tool_calls"),
        chunk(call("[]", index=0, id="b", name="g"), finish="tool_calls"),
        DONE,
    )
    assert called(*events) == [("a", "f", "{}"), ("b", "g", "[]")]


# The end.


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("STOP", "stop"),
        ("end_turn", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("model_length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("sensitive", "content_filter"),
        ("error", "error"),
        ("network_error", "error"),
        ("insufficient_system_resource", "error"),
        ("brand_new", "other"),
    ],
)
def test_finish_reasons(word: str, reason: FinishReason) -> None:
    """In our vocabulary, with the provider's word beside it."""
    assert decode(chunk({}, finish=word), DONE) == [Finished(reason=reason, raw_reason=word)]


def test_done_without_a_finish_reason_completes_and_invents_nothing() -> None:
    """The reason is not known; an empty word is none."""
    assert decode(chunk({"content": "a"}, finish=""), DONE)[-1] == Finished(reason="other")


def test_a_finish_reason_is_enough_at_the_end_of_the_body() -> None:
    """Many servers send no [DONE]."""
    assert decode(chunk({"content": "a"}, finish="stop"))[-1] == Finished(reason="stop", raw_reason="stop")


def test_the_last_block_may_lack_its_blank_line() -> None:
    """The mark in it counts; and half a payload after the finish_reason is a loss that costs no answer."""
    assert decode(chunk({"content": "a"}), DONE.strip())[-1] == Finished(reason="other")
    assert decode(chunk({}, finish="stop"), b'data: {"usa')[-1] == Finished(reason="stop", raw_reason="stop")


def test_a_finish_reason_may_come_twice() -> None:
    """The last one counts, and there is one end."""
    assert decode(chunk({}, finish="tool_calls"), chunk({"content": ""}, finish="stop"), DONE) == [
        Finished(reason="stop", raw_reason="stop")
    ]


def test_each_choice_must_finish() -> None:
    """One of two answers that was cut is a cut stream."""
    _, error = fails(chunk({"content": "a"}, index=1), chunk({}, finish="stop"))
    assert type(error) is StreamIncomplete


@pytest.mark.parametrize("body", [b"", b": ping\n\n", chunk({"content": "a"}), chunk({"content": "a"})[:-4]])
def test_neither_mark_is_a_cut_stream(body: bytes) -> None:
    """Also an empty body, and one that is cut inside a payload."""
    _, error = fails(body)
    assert type(error) is StreamIncomplete
    assert error.retryable


def test_a_cut_inside_a_tool_call() -> None:
    """It says so, and nothing of the call is sealed."""
    events, error = fails(chunk(call('{"x":1}', index=0, id="a", name="f")))
    assert type(error) is ToolCallIncomplete
    assert called(*events) == []


def test_after_done_everything_is_ignored() -> None:
    """Whatever it is."""
    decoder = ChatDecoder()
    decoder.feed(DONE + chunk({"content": "late"}) + b"data: {broken\n\n")
    assert decoder.finished
    assert decoder.feed(sse({"error": "late"})) == []
    assert decoder.close() == []


def test_rows_say_what_ends_an_answer() -> None:
    """llama.cpp's family says [DONE] when it is interrupted; Ollama's usage report is an end."""
    local, ollama = PROVIDERS["local"].quirks, PROVIDERS["ollama"].quirks
    _, error = fails(chunk({"content": "a"}), DONE, quirks=local)
    assert type(error) is StreamIncomplete
    assert decode(chunk({"content": "a"}, finish="stop"), DONE, quirks=local)[-1] == Finished(
        reason="stop", raw_reason="stop"
    )
    report = sse({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    assert decode(chunk({"content": "a"}), report, quirks=ollama)[-1] == Finished(reason="other")
    _, error = fails(chunk(call("{", index=0, id="a", name="f")), report, quirks=ollama)
    assert type(error) is ToolCallIncomplete


# Errors inside the stream.


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (sse({"error": {"message": "m", "type": "server_error", "code": 500}}), ServerFault, "m"),
        (sse({"error": {"message": "m", "code": "rate_limit_exceeded"}}), RateLimited, "m"),
        (sse({"error": {"message": "m", "code": 502}, "choices": []}), ServerFault, "m"),
        (sse({"error": "Overloaded"}), Overloaded, "Overloaded"),
        (sse({"error": {"message": "m", "type": "invalid_request_error"}}, "error"), BadRequest, "m"),
        (sse({"message": "m", "type": "server_error"}, "error"), ServerFault, "m"),
        (b"event: error\ndata: all went wrong\n\n", ServerFault, "all went wrong"),
        (sse({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}), BadRequest, "m"),
        (sse({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}), Overloaded, "m"),
        (sse({"error": {"message": "m"}, "choices": [None]}), ServerFault, "m"),
        (sse({"choices": [], "x_groq": {"id": "r", "error": "over capacity"}}), Overloaded, "over capacity"),
        (sse({"choices": [{"index": 0, "delta": {}, "error": {"message": "m", "code": 429}}]}), RateLimited, "m"),
    ],
)
def test_an_error_ends_the_stream(body: bytes, kind: type[StreamError], message: str) -> None:
    """In all the shapes it comes in; what had arrived is delivered first, also where a finish_reason had come."""
    for before in (b"", chunk({"content": "a"}), chunk({"content": "a"}, finish="stop")):
        events, error = fails(before, body, DONE)
        assert (type(error), error.message, error.status) == (kind, message, None)
        assert aggregate(events).text == ("a" if before else "")
        assert not any(isinstance(event, Finished) for event in events)


def test_content_beside_an_error_is_delivered_before_it() -> None:
    """OpenRouter puts both into one chunk."""
    decoder = ChatDecoder(keep_raw=False)
    events = decoder.feed(chunk({"content": "a"}, finish="error", error={"code": 502, "message": "m"}))
    assert events == [Started(id="c1", model="m"), TextDelta(text="a")]
    assert isinstance(decoder.failure, ServerFault)
    with pytest.raises(ServerFault):
        decoder.close()


@pytest.mark.parametrize("nothing", [None, "", {}, False])
def test_an_error_field_that_says_nothing_is_none(nothing: Any) -> None:
    """Some servers always have the field."""
    assert decode(chunk({"content": "a"}, finish="stop", error=nothing), DONE)[0] == TextDelta(text="a")


def test_half_a_character_costs_only_itself() -> None:
    """Servers that cut text by UTF-16 split a pair over two chunks; neither half is a character."""
    halves = [b'"x\\ud83d"', b'"\\uDE00 \\\\ud83d \\ud83d\\ude00"', b'"\\ud83d\\n"']
    body = b"".join(b'data: {"choices":[{"delta":{"content":%b}}]}\n\n' % half for half in halves)
    events, error = feed_all(ChatDecoder(), body + DONE)
    assert error is None
    assert aggregate(events).text == "x\ufffd\ufffd \\ud83d \U0001f600\ufffd\n"
    assert events[1].raw == b'{"choices":[{"delta":{"content":"x\\ud83d"}}]}'


@pytest.mark.parametrize("payload", [b"{", b'{"choices":[{"delta":{"content":"\xff"}}]}', b"<html>", b"[" * 100_000])
def test_what_is_not_json_is_a_wrong_protocol(payload: bytes) -> None:
    """The message says what was wrong; the body has the payload's head."""
    _, error = fails(chunk({"content": "a"}), b"data: " + payload + b"\n\n")
    assert isinstance(error, ProtocolError)
    assert error.body[:1] == payload.decode(errors="replace")[:1]
    assert len(error.body) <= 2048


# Usage.


def usage_of(given: dict[str, Any], *, quirks: Quirks = Quirks()) -> Usage:  # noqa: B008  # frozen
    events = decode(chunk({}, finish="stop"), sse({"choices": [], "usage": given}), DONE, quirks=quirks)
    (report,) = [event.usage for event in events if isinstance(event, UsageReported)]
    assert report.raw == given
    return report


def counts(usage: Usage) -> dict[str, Any]:
    return {
        name: value
        for name in ("input_tokens", "output_tokens", "total_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cost")
        if (value := getattr(usage, name)) is not None
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5}, {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}),
        ({"input_tokens": 10, "output_tokens": 5}, {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}),
        ({"prompt_tokens": 10, "completion_tokens": None}, {"input_tokens": 10}),
        ({"prompt_tokens": -1, "completion_tokens": True, "total_tokens": "9"}, {}),
        (
            {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2}},
            {"input_tokens": 10, "cache_read_tokens": 4, "cache_write_tokens": 2},
        ),
        ({"prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 6}, {"cache_read_tokens": 4}),
        ({"cached_tokens": 4}, {"cache_read_tokens": 4}),
        (
            {"cache_read_input_tokens": 4, "cache_creation_input_tokens": 2},
            {"cache_read_tokens": 4, "cache_write_tokens": 2},
        ),
        # reasoning within the output
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "completion_tokens_details": {"reasoning_tokens": 3}},
            {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "reasoning_tokens": 3},
        ),
        # … beside it, as the total shows
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 18, "completion_tokens_details": {"reasoning_tokens": 3}},
            {"input_tokens": 10, "output_tokens": 8, "total_tokens": 18, "reasoning_tokens": 3},
        ),
        # … beside it, as it is more
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "reasoning_tokens": 25},
            {"input_tokens": 9, "output_tokens": 27, "total_tokens": 11, "reasoning_tokens": 25},
        ),
        ({"cost": 0.25}, {"cost": 0.25}),
        ({"cost": 0}, {"cost": 0.0}),
        ({"cost": {"total_cost": 0.5, "input_tokens_cost": 0.25}}, {"cost": 0.5}),
        ({"cost": "free"}, {}),
        ({"cost_in_usd_ticks": 37756000}, {"cost": 0.0037756}),
        ({"cost_in_usd_ticks": 0}, {}),
    ],
)  # fmt: skip
def test_usage(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """In our terms, from all spellings; what is not reported, or not a count, is not known."""
    usage = usage_of(given)
    assert counts(usage) == expected
    assert usage.provenance == "reported"


def test_a_row_says_where_reasoning_is_counted_if_the_numbers_do_not() -> None:
    """With xAI it comes on top of the output."""
    given = {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}
    assert usage_of(given).output_tokens == 9
    assert usage_of(given, quirks=PROVIDERS["xai"].quirks).output_tokens == 13


def test_the_last_usage_counts() -> None:
    """Each report replaces the one before; null is no report, and the same again is no news."""
    first, last = {"prompt_tokens": 1}, {"prompt_tokens": 2}
    events = decode(
        chunk({"content": "a"}, usage=first),
        chunk({"content": "b"}, usage=first),
        chunk({}, finish="stop", usage=last),
        sse({"choices": [], "usage": None}),
        sse({"choices": [], "usage": last}),
        DONE,
    )
    reports = [event.usage for event in events if isinstance(event, UsageReported)]
    assert [(report.provenance, report.raw) for report in reports] == [("partial", first), ("reported", last)]


def test_a_usage_that_came_early_is_final_at_the_end() -> None:
    """It is reported once more, as what it turned out to be."""
    events = decode(chunk({"content": "a"}, usage={"prompt_tokens": 1}), chunk({}, finish="stop"), DONE)
    assert [event.usage.provenance for event in events if isinstance(event, UsageReported)] == ["partial", "reported"]
    assert isinstance(events[-1], Finished)


def test_a_usage_of_a_cut_stream_stays_partial() -> None:
    """What was used after it, nobody told."""
    events, _ = fails(chunk({"content": "a"}, usage={"prompt_tokens": 1}))
    assert aggregate(events).usage.provenance == "partial"


def test_usage_in_other_places() -> None:
    """Groq has it in x_groq, Moonshot in the choice; what is not an object is kept."""
    assert UsageReported(usage=Usage(provenance="reported", input_tokens=1, raw={"prompt_tokens": 1})) in decode(
        chunk({}, finish="stop", x_groq={"usage": {"prompt_tokens": 1}}), DONE
    )
    choice = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 1}}
    assert aggregate(decode(sse({"id": "c1", "model": "m", "choices": [choice]}), DONE)).usage.input_tokens == 1
    assert Raw(name="usage", payload=7) in decode(chunk({}, finish="stop", usage=7), DONE)


# Bytes.


def test_raw_bytes_are_kept_or_dropped() -> None:
    """Each event has the payload that it was made from; comments have none."""
    body = b": ping\n\n" + chunk({"content": "a"}) + DONE
    kept, _ = feed_all(ChatDecoder(), body)
    assert [event.raw for event in kept] == [None, *[chunk({"content": "a"})[6:-2]] * 2, b"[DONE]"]
    dropped, _ = feed_all(ChatDecoder(keep_raw=False), body)
    assert [event.raw for event in dropped] == [None] * 4


NAMES = [*Chunk.__struct_fields__, *Choice.__struct_fields__, *Delta.__struct_fields__]
NAMES += [
    "function",
    "name",
    "arguments",
    "custom",
    "input",
    "url",
    "image_url",
    "summary",
    "signature",
    "data",
    "cost",
]
NAMES += ["prompt_tokens", "completion_tokens", "type", "object"]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["", "a", "error", "text", "reasoning.text"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
NAMES
        ),
        inner,
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(JSON, max_size=4), st.lists(JSON, max_size=4))
def test_payloads_of_any_shape_raise_stream_errors_only(payloads: list[Any], deltas: list[Any]) -> None:
    """Any JSON under any of the names that we read."""
    body = b"".join(sse(item) for item in payloads) + b"".join(chunk(item) for item in deltas)
    events, error = feed_all(ChatDecoder(), body + DONE)
    assert (error is None) == bool(events and isinstance(events[-1], Finished))
    assert all(isinstance(event, EventBase) for event in events)


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_raise_stream_errors_only(noise: bytes) -> None:
    """Noise alone, and noise in a payload."""
    for body in (noise, b"data: " + noise + b"\n\n", b'data: {"choices":[' + noise + b"]}\n\n"):
        feed_all(ChatDecoder(), body)


@settings(max_examples=200)
@given(st.data())
def test_mutated_recordings_raise_stream_errors_only(data: st.DataObject) -> None:
    """A real stream with some bytes replaced, left out or doubled."""
    bodies = [recording.body for recording in recordings("chat") if len(recording.body) < 20_000]
    body = bytearray(data.draw(st.sampled_from(bodies)) if bodies else chunk({"content": "a"}) + DONE)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=3))
        if not body:
            break
    feed_all(ChatDecoder(), bytes(body))
