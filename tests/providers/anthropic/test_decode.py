"""The Messages decoder: real recordings, the rules of its docstring one by one, and what no bytes may do to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxstream.aggregate import aggregate
from rxstream.errors import (
    BadRequest,
    Overloaded,
    ProtocolError,
    ServerFault,
    StreamError,
    StreamIncomplete,
    ToolCallIncomplete,
)
from rxstream.events import (
    Citation,
    Event,
    Finished,
    FinishReason,
    Heartbeat,
    PartEnd,
    Raw,
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
from rxstream.messages import OpaquePart, Part, ThinkingPart
from rxstream.messages import ToolCall as ToolCallPart
from rxstream.providers.anthropic.decode import AnthropicDecoder
from rxstream.response import Response
from rxstream.typing import Decoder
from rxstream.wire.sse import ServerSentEvent, encode
from tests.support.recordings import Recording, each_local, each_recording, feed_all, splits

# The words of the wire, as short as they can be.


def body(*payloads: dict[str, Any]) -> bytes:
    return b"".join(encode(ServerSentEvent(item["type"], json.dumps(item).encode())) for item in payloads)


def begin(content: Any = (), **usage: Any) -> dict[str, Any]:
    message = {"id": "msg_1", "model": "claude", "content": list(content), "usage": usage or None}
    return {"type": "message_start", "message": message}


def start(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": f"{kind}_delta", **fields}}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def text(index: int, said: str) -> dict[str, Any]:
    return delta(index, "text", text=said)


def arguments(index: int, piece: str) -> dict[str, Any]:
    return delta(index, "input_json", partial_json=piece)


def call(index: int, **fields: Any) -> dict[str, Any]:
    return start(index, "tool_use", id=f"toolu_{index}", name="look", input={}, **fields)


def ending(reason: str | None = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage or None}


END: dict[str, Any] = {"type": "message_stop"}


def decoded(*payloads: dict[str, Any]) -> list[Event]:
    """The events of a stream that ends as it should, without the provider's bytes."""
    events, error = feed_all(AnthropicDecoder(keep_raw=False), body(*payloads))
    assert error is None
    return events


def answer(*payloads: dict[str, Any]) -> Response:
    return aggregate(decoded(begin(), *payloads))


def failed(*payloads: dict[str, Any]) -> tuple[list[Event], StreamError]:
    events, error = feed_all(AnthropicDecoder(keep_raw=False), body(*payloads))
    assert error is not None
    return events, error


# Recordings.


def facts(response: Response, events: list[Event]) -> dict[str, Any]:
    """What a recording's sidecar states, of our answer."""
    return {
        "text": response.text,
        "thinking": response.thinking,
        "tool_calls": [(call.id, call.name, call.parse()) for call in response.tool_calls],
        "server_tool_calls": [(tool.id, tool.name, json.loads(tool.arguments)) for tool in response.server_tools],
        "citations": len(response.citations),
        "signatures": sum(isinstance(event, ThinkingSignature) and event.kind == "signature" for event in events),
        "finish_reason": response.raw_finish_reason,
        "stop_sequence": response.stop_sequence,
        "usage": response.usage.raw,
    }


def expected_facts(recording: Recording) -> dict[str, Any]:
    expected = {name: recording.expected[name] for name in facts(Response(), [])}
    for name in ("tool_calls", "server_tool_calls"):
        expected[name] = [(call["id"], call["name"], call["input"]) for call in expected[name]]
    expected["usage"] = {name: count for name, count in expected["usage"].items() if count is not None}
    return expected


@each_recording("anthropic")
def test_a_recording_comes_to_what_its_sidecar_says(recording: Recording) -> None:
    """Whole and byte by byte: the official accumulator's answer, sealed calls, and a usage that is final."""
    events, error = feed_all(AnthropicDecoder(), recording.body)
    assert error is None
    response = aggregate(events)
    assert facts(response, events) == expected_facts(recording)
    assert all(call.complete for call in response.tool_calls)
    assert response.usage.provenance == "reported"
    assert feed_all(AnthropicDecoder(), recording.body, range(1, len(recording.body))) == (events, None)


@each_recording("anthropic")
def test_a_recording_is_read_without_loss(recording: Recording) -> None:
    """Each block is a part, ends once, and is in the turn to send back; only a `fallback` has no type of ours."""
    events, _ = feed_all(AnthropicDecoder(keep_raw=False), recording.body)
    ends = [event for event in events if isinstance(event, PartEnd)]
    blocks = recording.expected["blocks"]
    assert sorted(event.part for event in ends) == list(range(len(blocks)))
    said = {event.part for event in events if isinstance(event, TextDelta)}
    silent = {event.part for event in ends if event.kind == "text" and event.part not in said}
    expected = [block for part, block in enumerate(blocks) if part not in silent]
    assert [block_type(part) for part in aggregate(events).message().content] == expected
    unknown = [event.name for event in events if isinstance(event, Raw)]
    assert unknown == [block for block in blocks if block == "fallback"]


def block_type(part: Part) -> str:
    """What the provider calls it."""
    if isinstance(part, OpaquePart):
        return str(part.payload["type"])
    if isinstance(part, ThinkingPart) and part.redacted:
        return "redacted_thinking"
    return "tool_use" if isinstance(part, ToolCallPart) else part.type


@each_recording("anthropic")
@settings(max_examples=25)
@given(data=st.data())
def test_any_split_gives_the_same_events(recording: Recording, data: st.DataObject) -> None:
    """Where the bytes are cut changes nothing."""
    whole = feed_all(AnthropicDecoder(), recording.body)
    assert feed_all(AnthropicDecoder(), recording.body, data.draw(splits(recording.body))) == whole


@each_recording("anthropic")
def test_a_recording_that_is_cut_is_an_error(recording: Recording) -> None:
    """Without its message_stop no recording completes, though its stop reason was seen; nothing that came is lost."""
    cut = recording.body[: recording.body.rindex(b"message_stop", 0, recording.body.rindex(b"message_stop"))]
    events, error = feed_all(AnthropicDecoder(), cut)
    assert type(error) is StreamIncomplete
    assert aggregate(events).text == recording.expected["text"]
    assert aggregate(events).usage.provenance == "partial"
    assert aggregate(events).finish_reason is None


@each_local("messages")
def test_a_recording_of_llama_cpp_completes_or_says_that_it_was_cut(recording: Recording) -> None:
    """Its open blocks, missing inputs and cache-only counts are read; a body that stops short is an error."""
    events, error = feed_all(AnthropicDecoder(), recording.body)
    assert (error is None) == (b'"message_stop"' in recording.body)
    response = aggregate(events)
    assert not [event for event in events if isinstance(event, Raw)]
    if error is None:
        assert response.parts
        assert response.usage.input_tokens
        assert all(call.parse() for call in response.tool_calls)
    else:
        assert type(error) is StreamIncomplete


# What a stream says.


def test_the_events_of_an_answer() -> None:
    """Started, usage so far, text, the end of the part, the final usage, the end."""
    events = decoded(
        begin(input_tokens=10, output_tokens=1),
        start(0, "text", text=""),
        {"type": "ping"},
        text(0, "Hi"),
        text(0, ""),
        stop(0),
        ending(output_tokens=2),
        END,
    )
    assert [type(event) for event in events] == [
        Started, UsageReported, Heartbeat, TextDelta, PartEnd, UsageReported, Finished,
    ]  # fmt: skip
    assert events[0] == Started(id="msg_1", model="claude", provider="anthropic")
    assert events[3:5] == [TextDelta(text="Hi"), PartEnd(kind="text")]
    assert events[-1] == Finished(reason="stop", raw_reason="end_turn")


def test_raw_bytes_are_kept_unless_declined() -> None:
    """Each event carries its payload, or none."""
    stream = body(begin(), text(0, "Hi"), ending(), END)
    kept, _ = feed_all(AnthropicDecoder(), stream)
    assert json.loads(kept[1].raw or b"") == text(0, "Hi")
    assert {event.raw for event in feed_all(AnthropicDecoder(keep_raw=False), stream)[0]} == {None}


def test_the_type_of_the_payload_decides() -> None:
    """Missing and wrong event names change nothing, nor do unknown fields."""
    payloads = (begin(), text(0, "Hi"), ending(), END)
    unnamed = b"".join(b"data: " + json.dumps({**item, "later": 1}).encode() + b"\n\n" for item in payloads)
    misnamed = unnamed.replace(b"data:", b"event: ping\ndata:")
    for stream in (unnamed, misnamed):
        assert feed_all(AnthropicDecoder(keep_raw=False), stream) == (decoded(*payloads), None)


def test_thinking_and_its_seal() -> None:
    """Visible thinking, its signature, redacted thinking; an empty signature seals nothing."""
    response = answer(
        start(0, "thinking", thinking="", signature=""),
        delta(0, "thinking", thinking="Hm."),
        delta(0, "thinking", thinking=""),
        delta(0, "signature", signature="c2ln"),
        delta(0, "signature", signature=""),
        stop(0),
        start(1, "redacted_thinking", data="b3BhcXVl"),
        stop(1),
        start(2, "thinking", thinking="So", signature="eQ"),
        ending(),
        END,
    )
    assert [(part.text, part.signature, part.redacted) for part in response.parts if part.type == "thinking"] == [
        ("Hm.", "c2ln", None),
        ("", None, "b3BhcXVl"),
        ("So", "eQ", None),
    ]


@pytest.mark.parametrize(
    ("location", "title", "url"),
    [
        ({"type": "char_location", "document_title": "Doc", "start_char_index": 3, "end_char_index": 9}, "Doc", ""),
        ({"type": "page_location", "document_title": "Doc", "start_page_number": 1}, "Doc", ""),
        ({"type": "content_block_location", "document_title": None, "start_block_index": 0}, "", ""),
        ({"type": "search_result_location", "source": "kb", "title": "Hit"}, "Hit", ""),
        ({"type": "web_search_result_location", "url": "https://a.example", "title": "A"}, "A", "https://a.example"),
    ],
)
def test_citations(location: dict[str, Any], title: str, url: str) -> None:
    """All five kinds; their positions are in the source, not in the answer, and stay in the payload."""
    citation = {**location, "cited_text": "so it is"}
    events = decoded(begin(), start(0, "text", text=""), delta(0, "citations", citation=citation), ending(), END)
    assert events[1] == Citation(kind=location["type"], title=title, url=url, cited_text="so it is", payload=citation)


def test_a_tool_call() -> None:
    """Named at the start, sealed with the text that the model wrote; empty pieces are nothing."""
    events = decoded(
        begin(),
        call(0),
        arguments(0, ""),
        arguments(0, '{"a":'),
        arguments(0, " 1}"),
        stop(0),
        ending("tool_use"),
        END,
    )
    assert events[1:] == [
        ToolCallStart(id="toolu_0", name="look"),
        ToolCallDelta(arguments='{"a":'),
        ToolCallDelta(arguments=" 1}"),
        ToolCall(id="toolu_0", name="look", arguments='{"a": 1}'),
        PartEnd(kind="tool_call"),
        Finished(reason="tool_calls", raw_reason="tool_use"),
    ]


def test_input_that_is_complete_at_the_start() -> None:
    """It is the arguments, unless the model then streams them."""
    given = start(0, "tool_use", id="t", name="look", input={"a": [1, "é"]})
    whole = answer(given, stop(0), ending("tool_use"), END).tool_calls
    assert [(call.arguments, call.complete) for call in whole] == [('{"a":[1,"é"]}', True)]
    streamed = answer(given, arguments(0, '{"a": 2}'), stop(0), ending("tool_use"), END).tool_calls
    assert [(call.arguments, call.complete) for call in streamed] == [('{"a": 2}', True)]
    as_text = answer(start(0, "tool_use", input='{"a": 3}'), stop(0), ending("tool_use"), END).tool_calls
    assert [call.arguments for call in as_text] == ['{"a": 3}']


def test_input_that_came_is_kept_though_the_stream_is_cut() -> None:
    """What the start of the block gave is in the partial answer."""
    events, error = failed(begin(), start(0, "tool_use", id="t", name="look", input={"a": 1}))
    assert type(error) is ToolCallIncomplete
    assert [(call.arguments, call.complete) for call in aggregate(events).tool_calls] == [('{"a":1}', False)]


def test_content_that_is_in_message_start_already() -> None:
    """Calls that a program of the model makes come there, whole, even without arguments."""
    content = (
        {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}},
        {"type": "tool_use", "id": "t2", "name": "list", "input": {}},
        {"type": "text", "text": "Hi", "citations": [{"type": "char_location", "cited_text": "x"}]},
    )
    response = aggregate(decoded(begin(content), start(0, "text", text=" there"), stop(0), ending("tool_use"), END))
    assert [(call.id, call.arguments, call.complete) for call in response.tool_calls] == [
        ("t1", '{"a":1}', True),
        ("t2", "{}", True),
    ]
    assert response.text == "Hi there"
    assert [citation.cited_text for citation in response.citations] == ["x"]


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded", "refusal", "stop_sequence", None])
@pytest.mark.parametrize("written", ["", '{"a": "b'])
def test_a_call_that_the_end_cut_is_not_sealed(reason: str | None, written: str) -> None:
    """The block closes as ever, and only the stop reason tells that the model had not finished it."""
    for closing in ((stop(0),), ()):
        response = answer(call(0), arguments(0, written), *closing, ending(reason), END)
        assert [(call.arguments, call.complete) for call in response.tool_calls] == [(written, False)]
        assert response.finish_reason == {"refusal": "refusal", "stop_sequence": "stop", None: "other"}.get(
            reason, "length"
        )


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", None])
def test_a_call_that_was_whole_before_the_end_is_sealed(reason: str | None) -> None:
    """Whole JSON is whole, whatever cut what came after it, and whether or not its block closed."""
    for closing in ((stop(0),), ()):
        response = answer(call(0), arguments(0, '{"a": 1}'), *closing, text(1, "and"), ending(reason), END)
        assert [call.complete for call in response.tool_calls] == [True]


@pytest.mark.parametrize(("written", "sealed"), [("", "{}"), ("not JSON", "not JSON")])
@pytest.mark.parametrize("after", [[call(1)], [ending("tool_use")], [ending("end_turn")], [ending("pause_turn")]])
def test_a_call_is_sealed_as_written_once_the_model_went_on(
    written: str, sealed: str, after: list[dict[str, Any]]
) -> None:
    """A tool without arguments sends none, and some models write JSON that is none: the next block settles it."""
    events = decoded(begin(), call(0), arguments(0, written), stop(0), *after, ending("tool_use"), END)
    assert ToolCall(id="toolu_0", name="look", arguments=sealed) in events


@pytest.mark.parametrize("written", ["", '{"a": "b'])
def test_a_call_of_a_model_that_another_took_over_from_is_not_sealed(written: str) -> None:
    """The fallback block says that the model before it was stopped."""
    response = answer(
        call(0), arguments(0, written), stop(0), start(1, "fallback"), stop(1), text(2, "Hi"), ending(), END
    )
    assert [call.complete for call in response.tool_calls] == [False]


def test_arguments_of_any_depth_are_kept() -> None:
    """Too deep for our parser is not our judgement: the model's text is."""
    deep = '{"a": ' + "[" * 100_000
    response = answer(call(0), arguments(0, deep), stop(0), ending("tool_use"), END)
    assert [(call.arguments, call.complete) for call in response.tool_calls] == [(deep, True)]


def test_calls_that_overlap_are_settled_each_for_itself() -> None:
    """A call that closes whole does not vouch for one that closed before it in the middle."""
    response = answer(
        call(0), call(1), arguments(1, '{"a": "'), arguments(0, "{}"), stop(1), stop(0), ending("max_tokens"), END
    )
    assert [(call.id, call.complete) for call in response.tool_calls] == [("toolu_0", True), ("toolu_1", False)]


def test_a_server_tool() -> None:
    """Start, input, call and result are one record; both blocks are kept to be sent back as they were."""
    used = {"id": "s1", "name": "web_search", "input": {}}
    found = {"tool_use_id": "s1", "content": [{"type": "web_search_result", "url": "https://a.example"}]}
    events = decoded(
        begin(),
        start(0, "server_tool_use", **used),
        arguments(0, '{"query"'),
        arguments(0, ': "x"}'),
        stop(0),
        start(1, "web_search_tool_result", **found),
        stop(1),
        ending("pause_turn"),
        END,
    )
    assert [event.step for event in events if isinstance(event, ServerTool)] == [
        "start", "delta", "delta", "call", "result",
    ]  # fmt: skip
    response = aggregate(events)
    (record,) = response.server_tools
    result = {"type": "web_search_tool_result", **found}
    assert (record.id, record.name, record.arguments, record.result) == ("s1", "web_search", '{"query": "x"}', result)
    assert response.finish_reason == "pause"
    assert response.message().content == [
        OpaquePart(provider="anthropic", payload={"type": "server_tool_use", **used, "input": {"query": "x"}}),
        OpaquePart(provider="anthropic", payload=result),
    ]


@pytest.mark.parametrize("kind", ["mcp", "web_fetch", "code_execution", "tool_search", "advisor", "brand_new"])
def test_a_result_names_its_tool(kind: str) -> None:
    """By the call that it answers; by its own type where that call is not here."""
    use = start(0, f"{kind}_tool_use", id="s1", name="echo", input={"a": 1})
    result = start(1, f"{kind}_tool_result", tool_use_id="s1", content="yes")
    assert [tool.name for tool in answer(use, result, ending(), END).server_tools] == ["echo"]
    assert [tool.name for tool in answer(result, ending(), END).server_tools] == [kind]


def test_a_server_tool_that_was_cut_is_not_sent_back() -> None:
    """Its input is not whole: there is no call to send."""
    use = start(0, "server_tool_use", id="s1", name="web_search", input={})
    response = answer(use, arguments(0, '{"que'), stop(0), ending("max_tokens"), END)
    assert [tool.arguments for tool in response.server_tools] == ['{"que']
    assert response.parts == []


def test_a_compaction_is_kept_whole() -> None:
    """Its block goes back with what its delta added, and is no text of the answer."""
    response = answer(
        start(0, "compaction", content=None, signature="s"),
        delta(0, "compaction", content="the gist", encrypted_content="abc"),
        stop(0),
        ending("compaction"),
        END,
    )
    payload = {"type": "compaction", "content": "the gist", "encrypted_content": "abc", "signature": "s"}
    assert response.parts == [OpaquePart(provider="anthropic", payload=payload)]
    assert (response.text, response.finish_reason, response.raw_finish_reason) == ("", "other", "compaction")


@pytest.mark.parametrize("kind", ["fallback", "container_upload", "mcp_tool_listing", "brand_new"])
def test_a_block_that_we_do_not_know_is_raw_and_kept(kind: str) -> None:
    """Nothing is dropped, nothing becomes text."""
    events = decoded(begin(), start(0, kind, text="not text", extra=[1]), stop(0), ending(), END)
    block = {"type": kind, "text": "not text", "extra": [1]}
    assert events[1:3] == [Raw(name=kind, payload=block), PartEnd(kind=kind, payload=block)]


def test_a_block_that_we_cannot_add_up_is_not_sent_back() -> None:
    """A delta of an unknown kind, or one that does not fit, is `Raw`; the block is then not whole with us."""
    for odd, name in (
        (delta(0, "connector", text="?"), "content_block_delta"),
        (text(0, "?"), "text_delta"),
        (arguments(0, "?"), "input_json_delta"),
    ):
        events = decoded(begin(), start(0, "brand_new"), odd, stop(0), ending(), END)
        assert [event.name for event in events if isinstance(event, Raw)] == ["brand_new", name]
        assert PartEnd(kind="brand_new") in events


# Blocks in disorder.


def test_blocks_may_overlap_and_close_late() -> None:
    """As llama.cpp does it: thinking stays open under the text, and its seal comes after."""
    response = answer(
        start(0, "thinking", thinking=""),
        delta(0, "thinking", thinking="Hm."),
        start(1, "text", text=""),
        text(1, "Hi"),
        delta(0, "signature", signature="s"),
        text(1, "!"),
        stop(1),
        stop(0),
        ending(),
        END,
    )
    assert [part.type for part in response.parts] == ["thinking", "text"]
    assert (response.thinking, response.text) == ("Hm.", "Hi!")


def test_an_index_that_is_used_again_is_a_new_part() -> None:
    """Whether or not the block before it was closed."""
    for closing in ((stop(0),), ()):
        events = decoded(
            begin(), start(0, "text"), text(0, "a"), *closing, call(0), arguments(0, "{}"), *closing, ending(), END
        )
        assert [event.part for event in events if isinstance(event, PartEnd)] == [0, 1]
        assert aggregate(events).text == "a"


def test_blocks_that_never_close_are_closed_by_the_end() -> None:
    """message_stop closes what is open, in order."""
    events = decoded(begin(), start(0, "text"), text(0, "a"), call(5), arguments(5, "{}"), ending("tool_use"), END)
    assert [event.kind for event in events if isinstance(event, PartEnd)] == ["text", "tool_call"]


def test_deltas_without_their_block() -> None:
    """Text, citations, thinking and signatures open a part of their own; input without its call is no call."""
    events = decoded(
        begin(),
        text(0, "Hi"),
        delta(1, "thinking", thinking="Hm."),
        delta(1, "signature", signature="s"),
        delta(2, "citations", citation={"type": "char_location"}),
        arguments(3, '{"a": 1}'),
        delta(4, "compaction", content="x"),
        stop(7),
        ending(),
        END,
    )
    assert aggregate(events).text == "Hi"
    assert aggregate(events).thinking == "Hm."
    assert not aggregate(events).tool_calls
    assert [event.name for event in events if isinstance(event, Raw)] == ["input_json_delta", "compaction_delta"]


def test_text_and_thinking_under_one_index() -> None:
    """Gateways do it: the delta says what it is, and each change begins a new part."""
    response = answer(
        start(0, "text", text=""),
        delta(0, "thinking", thinking="Hm."),
        text(0, "Hi"),
        stop(0),
        ending(),
        END,
    )
    assert [part.type for part in response.parts] == ["thinking", "text"]


@pytest.mark.parametrize(
    "odd", [text(0, "?"), delta(0, "thinking", thinking="?"), delta(0, "signature", signature="?")]
)
def test_a_delta_that_does_not_fit_its_call_is_raw(odd: dict[str, Any]) -> None:
    """It is not lost, and the call goes on."""
    events = decoded(begin(), call(0), odd, arguments(0, "{}"), stop(0), ending("tool_use"), END)
    assert Raw(name=odd["delta"]["type"], payload={"index": 0, "delta": odd["delta"]}) in events
    assert ToolCall(id="toolu_0", name="look", arguments="{}") in events


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "brand_new_event", "text": "?"},
        {"type": "brand_new_error", "error": {"type": "api_error", "message": "of one tool"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": None}},
        {"type": "content_block_start", "index": 0, "content_block": None},
        {"type": "content_block_stop", "index": "first"},
        {"type": "message_start", "message": None},
    ],
)
def test_a_payload_that_we_do_not_know_is_raw(odd: dict[str, Any]) -> None:
    """Whether its type is new or its shape."""
    assert Raw(name=odd["type"], payload=odd) in decoded(begin(), odd, ending(), END)


@pytest.mark.parametrize("data", [b"[1]", b'"text"', b"[DONE]", b"{}"])
def test_json_that_is_no_event_is_raw(data: bytes) -> None:
    """Nor does the terminal mark of another dialect end this one."""
    decoder = AnthropicDecoder(keep_raw=False)
    (event,) = decoder.feed(b"data: " + data + b"\n\n")
    assert isinstance(event, Raw)
    assert not decoder.finished


def test_data_that_is_empty_is_nothing() -> None:
    """An event with an empty data line says nothing."""
    assert AnthropicDecoder().feed(b"event: ping\ndata:\n\n") == []


def test_a_second_message_start_is_not_a_second_start() -> None:
    """A stream has one beginning."""
    events = decoded(begin(), begin(), ending(), END)
    assert [type(event) for event in events] == [Started, Raw, Finished]


def test_a_message_start_of_nulls() -> None:
    """Null stands for nothing wherever it may stand."""
    nulls = {"type": "message_start", "message": dict.fromkeys(("id", "model", "content", "usage"))}
    last = {"type": "message_delta", "delta": None, "usage": None}
    assert decoded(nulls, last, END) == [Started(provider="anthropic"), Finished(reason="other")]


# Usage and the end.


def usages(*payloads: dict[str, Any]) -> list[tuple[Any, ...]]:
    reports = [event.usage for event in decoded(*payloads) if isinstance(event, UsageReported)]
    return [(usage.provenance, usage.input_tokens, usage.output_tokens, usage.total_tokens) for usage in reports]


def test_usage_is_cumulative_and_overwrites() -> None:
    """Later totals replace earlier ones, nulls replace nothing, and what is not restated stays."""
    payloads = (
        begin(input_tokens=10, output_tokens=1, cache_read_input_tokens=5),
        ending(None, output_tokens=7),
        ending(input_tokens=30, output_tokens=9, cache_read_input_tokens=None),
        END,
    )
    assert usages(*payloads) == [("partial", 15, 1, 16), ("partial", 15, 7, 22), ("reported", 35, 9, 44)]
    raw = aggregate(decoded(*payloads)).usage.raw
    assert raw == {"input_tokens": 30, "output_tokens": 9, "cache_read_input_tokens": 5}


def test_input_includes_the_cache_and_output_the_reasoning() -> None:
    """Theirs excludes what the cache gave and took; ours is all of the prompt."""
    usage = aggregate(
        decoded(
            begin(input_tokens=3, cache_read_input_tokens=20, cache_creation_input_tokens=100, output_tokens=1),
            ending(output_tokens=50, output_tokens_details={"thinking_tokens": 40}),
            END,
        )
    ).usage
    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (123, 20, 100)
    assert (usage.output_tokens, usage.reasoning_tokens, usage.total_tokens) == (50, 40, 173)


def test_counts_that_are_missing_are_unknown() -> None:
    """Never zero; nor is what is no number a number."""
    assert usages(begin(cache_read_input_tokens=4, output_tokens="many"), ending(), END) == [
        ("partial", None, None, None)
    ]
    assert usages(begin(), ending(), END) == []


def test_usage_is_final_once_the_end_is_known() -> None:
    """Counts before the stop reason are final if no later ones came."""
    early = (begin(), ending(None, input_tokens=1, output_tokens=2))
    assert usages(*early, END) == [("partial", 1, 2, 3), ("reported", 1, 2, 3)]
    assert usages(*early, ending(), END) == [("partial", 1, 2, 3), ("reported", 1, 2, 3)]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("compaction", "other"),
        ("brand_new", "other"),
    ],
)
def test_stop_reasons(theirs: str, ours: FinishReason) -> None:
    """In our words, and theirs beside it."""
    assert decoded(begin(), ending(theirs), END)[-1] == Finished(reason=ours, raw_reason=theirs)


def test_what_else_is_said_of_the_end() -> None:
    """The stop sequence, why it was refused, the container, what was edited out of the context."""
    details = {"stop_details": {"type": "refusal", "category": "bio"}, "container": {"id": "c"}}
    last = {
        "type": "message_delta",
        "delta": {"stop_reason": "refusal", "stop_sequence": "###", **details},
        "context_management": {"applied_edits": []},
        "input_transformations": [],
    }
    edits = {"context_management": {"applied_edits": []}, "input_transformations": []}
    assert decoded(begin(), last, ending(None), END)[-1] == Finished(
        reason="refusal", raw_reason="refusal", stop_sequence="###", details={**details, **edits}
    )


def test_what_the_beginning_says_of_the_end_stands_until_it_is_said_anew() -> None:
    """Gateways that hold the whole answer say all of it at once; nulls and empty lists say nothing."""
    said: dict[str, Any] = {
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "container": {"id": "c"},
        "input_transformations": [],
    }
    message = {"type": "message_start", "message": {"id": "msg_1", "model": "claude", "content": [], **said}}
    assert decoded(message, END)[-1] == Finished(
        reason="length", raw_reason="max_tokens", details={"container": {"id": "c"}}
    )
    assert decoded(message, ending("end_turn"), END)[-1] == Finished(
        reason="stop", raw_reason="end_turn", details={"container": {"id": "c"}}
    )


def test_thinking_that_is_not_shown_tells_how_far_it_is() -> None:
    """The text is empty; the estimate is progress."""
    events = decoded(
        begin(),
        start(0, "thinking", thinking=""),
        delta(0, "thinking", thinking="", estimated_tokens=50),
        delta(0, "thinking", thinking="", estimated_tokens=None),
        delta(0, "signature", signature="s"),
        stop(0),
        ending(),
        END,
    )
    assert [event for event in events if isinstance(event, Status)] == [
        Status(status="thinking", payload={"estimated_tokens": 50})
    ]


def test_an_end_without_a_reason_invents_none() -> None:
    """message_stop ends an answer; why it ended, nobody said."""
    assert decoded(begin(), text(0, "a"), END)[-1] == Finished(reason="other")


def test_nothing_is_read_after_the_end() -> None:
    """Neither an error nor garbage that follows message_stop takes back what is complete."""
    decoder: Decoder = AnthropicDecoder()
    events = decoder.feed(body(begin(), ending(), END) + b'data: {"type":"error"}\n\ndata: ~~~\n\n')
    assert isinstance(events[-1], Finished)
    assert decoder.finished
    assert (decoder.feed(b"data: ~~~\n\n"), decoder.close(), decoder.failure) == ([], [], None)


# Failure.


@pytest.mark.parametrize("last", [[], [ending("tool_use")], [stop(0)], [stop(0), ending(None)]])
def test_a_body_that_ends_in_a_call(last: list[dict[str, Any]]) -> None:
    """It is an error of its own, stop reason or not, and the call is marked as cut."""
    events, error = failed(begin(), call(0), arguments(0, '{"a"'), *last)
    if any(item["type"] == "content_block_stop" for item in last) or not last:
        assert type(error) is ToolCallIncomplete
    assert isinstance(error, StreamIncomplete)
    assert [call.complete for call in aggregate(events).tool_calls] == [False]


def test_a_body_that_ends_after_a_call_was_sealed() -> None:
    """It is cut, but not in the call."""
    _, error = failed(begin(), call(0), arguments(0, "{}"), stop(0), ending("tool_use"))
    assert type(error) is StreamIncomplete


def test_a_body_without_anything() -> None:
    """Nothing is not an answer."""
    assert type(feed_all(AnthropicDecoder(), b"")[1]) is StreamIncomplete


@pytest.mark.parametrize(
    ("payload", "kind", "code"),
    [
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"},
            Overloaded,
            "overloaded_error",
        ),
        (
            {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}},
            BadRequest,
            "invalid_request_error",
        ),
        ({"type": "server_error", "code": 500, "message": "peg"}, ServerFault, "server_error"),
        ({"error": {"message": "from a gateway", "code": 502}}, ServerFault, ""),
        ({"type": "error"}, ServerFault, ""),
    ],
)
def test_an_error_in_mid_stream(payload: dict[str, Any], kind: type[StreamError], code: str) -> None:
    """What came before it is delivered first; then it is raised, and raised again."""
    decoder = AnthropicDecoder(keep_raw=False)
    data = b"event: error\ndata: " + json.dumps(payload).encode() + b"\n\n"
    events = decoder.feed(body(begin(), text(0, "Hi")) + data + body(ending(), END))
    assert aggregate(events).text == "Hi"
    for again in (decoder.feed, lambda _: decoder.close()):
        with pytest.raises(StreamError) as caught:
            again(b"")
        assert caught.value is decoder.failure
        assert (type(caught.value), caught.value.code) == (kind, code)
        assert caught.value.status is None


@pytest.mark.parametrize("data", [b"{", b"<html>", b'{"type": "ping"', b'{"type":"\xff"}', b"[" * 100_000])
def test_what_is_not_json_is_a_protocol_error(data: bytes) -> None:
    """Its head is shown."""
    with pytest.raises(ProtocolError) as caught:
        AnthropicDecoder().feed(b"data: " + data + b"\n\n")
    assert caught.value.body[:6] == data[:6].decode("utf-8", "replace")


# Laws.

_inputs: tuple[Any, ...] = ({}, 7)
_words: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        *(begin(), begin(input_tokens=1), ending(), ending("max_tokens"), END, {"type": "ping"}, {"type": "new"}),
        *(
            delta(0, "thinking", thinking="h"),
            delta(0, "signature", signature="s"),
            delta(0, "compaction", content="c"),
        ),
        *(word for i in (0, 1) for word in (text(i, "a"), arguments(i, "{"), arguments(i, "}"), stop(i))),
        *(start(i, f"server_tool_{kind}", id="s", tool_use_id="s") for i in (0, 1) for kind in ("use", "result")),
        *(start(i, kind, input=value) for i in (0, 1) for kind in ("text", "tool_use", "new") for value in _inputs),
        {"type": "error", "error": {"type": "api_error"}},
    ]
)


@given(st.lists(_words, max_size=12), st.data())
def test_any_order_of_payloads_is_read(payloads: list[dict[str, Any]], data: st.DataObject) -> None:
    """Whatever comes, in any split: text once and in order, parts that end at most once, and one end."""
    stream = body(*payloads)
    events, error = feed_all(AnthropicDecoder(), stream)
    assert feed_all(AnthropicDecoder(), stream, data.draw(splits(stream)))[0] == events
    assert (error is None) == isinstance(events[-1] if events else None, Finished)
    ends = [event.part for event in events if isinstance(event, PartEnd)]
    assert len(ends) == len(set(ends))
    sealed = [event.part for event in events if isinstance(event, ToolCall)]
    assert len(sealed) == len(set(sealed))
    response = aggregate(events)
    assert response.text == "".join(event.text for event in events if isinstance(event, TextDelta))
    assert response.thinking == "".join(event.text for event in events if isinstance(event, ThinkingDelta))


_STREAM = body(
    begin(input_tokens=1), start(0, "text", text=""), text(0, "Hé"), stop(0), call(1), arguments(1, '{"a":1}'),
    stop(1), ending("tool_use", output_tokens=2), END,
)  # fmt: skip


@given(st.data())
def test_broken_bytes_raise_nothing_but_stream_errors(data: st.DataObject) -> None:
    """Bytes changed, dropped or put in anywhere: events, or a `StreamError`."""
    stream = bytearray(_STREAM)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(stream) - 1))
        stream[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    feed_all(AnthropicDecoder(), bytes(stream), data.draw(splits(bytes(stream))))


@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_raise_nothing_but_stream_errors(noise: bytes, framed: bool) -> None:
    """Never a complete answer out of noise."""
    _, error = feed_all(AnthropicDecoder(), b"data: " + noise + b"\n\n" if framed else noise)
    assert error is not None
