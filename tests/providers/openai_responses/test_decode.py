"""The Responses decoder, against what real servers sent and against what they might send.

Where the two opinions on a recording differ (``second_opinion``), ours is: reasoning text is thinking, whoever sends it;
the text that the provider restates in the end counts, not the sum of its deltas; a call that is no function of ours
(``shell_call``, ``apply_patch_call``, ``local_shell_call``) is a server tool, whoever runs it.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent

from rxstream import events as ev
from rxstream.aggregate import aggregate
from rxstream.errors import (
    BadRequest,
    ProtocolError,
    RateLimited,
    SequenceGap,
    ServerFault,
    StreamError,
    StreamIncomplete,
    ToolCallIncomplete,
)
from rxstream.events import Event
from rxstream.providers.openai_responses.decode import ResponsesDecoder
from rxstream.response import Response
from tests.support.recordings import Recording, each_local, each_recording, feed_all, splits

FAILURES: dict[str, type[StreamError]] = {"openai-responses/vercelai-error.1": RateLimited}


def frame(payload: Any, *, name: bool = True) -> bytes:
    event = f"event: {payload['type']}\n" if name and isinstance(payload, dict) and "type" in payload else ""
    return f"{event}data: {json.dumps(payload)}\n\n".encode()


def body(*payloads: dict[str, Any]) -> bytes:
    return b"".join(frame(payload) for payload in payloads)


def event(name: str, index: int | None = None, item_id: str | None = None, **fields: Any) -> dict[str, Any]:
    where = {"output_index": index, "item_id": item_id}
    return {"type": name, **{key: value for key, value in where.items() if value is not None}, **fields}


def added(index: int | None, item_id: str, kind: str, **fields: Any) -> dict[str, Any]:
    return event("response.output_item.added", index, item={"id": item_id, "type": kind, **fields})


def done(index: int | None, item_id: str, kind: str, **fields: Any) -> dict[str, Any]:
    return event("response.output_item.done", index, item={"id": item_id, "type": kind, **fields})


def text(index: int | None, item_id: str, delta: str, **fields: Any) -> dict[str, Any]:
    return event("response.output_text.delta", index, item_id, delta=delta, **fields)


def completed(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return event("response.completed", response={"id": "r", "status": "completed", "output": list(output), **fields})


CREATED = event("response.created", response={"id": "r", "model": "m", "status": "in_progress"})
HELLO = [{"type": "output_text", "text": "Hello"}]


def run(*payloads: dict[str, Any]) -> tuple[list[Event], StreamError | None]:
    return feed_all(ResponsesDecoder(keep_raw=False), body(*payloads))


def answer(*payloads: dict[str, Any]) -> Response:
    events, error = run(*payloads)
    assert error is None
    return aggregate(events)


def of(events: Iterable[Event], *kinds: type[Event]) -> list[Event]:
    return [item for item in events if isinstance(item, kinds)]


def grammar(events: list[Event]) -> None:
    """`Started` is first and single, `Finished` last and single, and no part says anything after its end."""
    assert [type(item) for item in events].count(ev.Started) <= 1
    assert all(not isinstance(item, ev.Finished) for item in events[:-1])
    ended: set[int] = set()
    sealed: set[int] = set()
    for item in events:
        part = getattr(item, "part", None)
        assert part not in ended
        if isinstance(item, ev.PartEnd):
            ended.add(item.part)
        if isinstance(item, ev.ToolCall):
            assert item.part not in sealed
            sealed.add(item.part)


# What real servers sent


@each_recording("responses")
def test_a_recording_comes_to_what_is_expected_of_it(recording: Recording) -> None:
    events, error = feed_all(ResponsesDecoder(), recording.body)
    grammar(events)
    expected, got = recording.expected, aggregate(events)
    assert type(error) is FAILURES.get(recording.id, type(None))
    assert got.text == expected["text"]
    assert got.thinking == expected["thinking"]
    calls = [(call.id, call.name, call.arguments) for call in got.tool_calls]
    assert calls == [(call["id"], call["name"], call["arguments"]) for call in expected["tool_calls"]]
    if error is not None:
        assert "stream_error" in expected
        assert error.message in expected["stream_error"]
        return
    assert got.refusal == expected["refusal"]
    assert got.raw_finish_reason == expected["finish_reason"]
    assert got.usage.raw == expected["usage"]
    assert got.usage.provenance == "reported"
    assert len(got.citations) == expected["annotations"]
    assert all(call.complete for call in got.tool_calls) == (expected["incomplete"] is None)
    assert not of(events, ev.Raw)


@each_recording("responses")
def test_a_recording_byte_by_byte_is_the_same(recording: Recording) -> None:
    whole, error = feed_all(ResponsesDecoder(), recording.body)
    pieces, same = feed_all(ResponsesDecoder(), recording.body, range(1, len(recording.body)))
    assert pieces == whole
    assert repr(same) == repr(error)


@each_recording("responses")
@settings(max_examples=10)
@given(st.data())
def test_a_recording_cut_anywhere_is_the_same(recording: Recording, data: st.DataObject) -> None:
    whole, error = feed_all(ResponsesDecoder(), recording.body)
    pieces, same = feed_all(ResponsesDecoder(), recording.body, data.draw(splits(recording.body)))
    assert pieces == whole
    assert repr(same) == repr(error)


@each_recording("responses")
def test_a_recording_cut_short_keeps_what_came_and_fails(recording: Recording) -> None:
    """Without its terminal event no stream completes, and its text is the beginning of the whole one's, or all of it."""
    whole = aggregate(feed_all(ResponsesDecoder(), recording.body)[0])
    for share in (0.1, 0.5, 0.9):
        events, error = feed_all(ResponsesDecoder(), recording.body[: int(len(recording.body) * share)])
        assert isinstance(error, StreamError)
        got = aggregate(events)
        assert got.finish_reason is None
        assert whole.text.startswith(aggregate(of(events, ev.TextDelta)).text) or recording.id.endswith("phase.1")
        assert [call.id for call in got.tool_calls] == [call.id for call in whole.tool_calls][: len(got.tool_calls)]


@each_local("responses")
def test_a_local_server_is_understood(recording: Recording) -> None:
    """No sequence numbers, no output_index, no content_index; comments as pings; a JSON body where the request is refused."""
    events, error = feed_all(ResponsesDecoder(), recording.body)
    grammar(events)
    got = aggregate(events)
    if "response.completed" not in recording.body.decode():
        assert isinstance(error, StreamError)
        return
    assert error is None
    last = json.loads(recording.body.decode().rsplit("data: ", 1)[1])["response"]
    content = [part for item in last["output"] for part in item.get("content", [])]
    assert got.text == "".join(part["text"] for part in content if part["type"] == "output_text")
    assert got.thinking == "".join(part["text"] for part in content if part["type"] == "reasoning_text")
    calls = [item for item in last["output"] if item["type"] == "function_call"]
    assert [(c.id, c.name, c.arguments, c.complete) for c in got.tool_calls] == [
        (c["call_id"], c["name"], c["arguments"], True) for c in calls
    ]
    assert got.usage.output_tokens == last["usage"]["output_tokens"]
    assert not of(events, ev.Raw)


# Identity: which event belongs to which item


def test_items_may_be_interleaved() -> None:
    got = answer(
        CREATED,
        added(0, "a", "message"),
        added(1, "b", "message"),
        text(0, "a", "one "),
        text(1, "b", "three "),
        text(0, "a", "two "),
        text(1, "b", "four"),
        completed(),
    )
    assert got.text == "one two three four"


def test_content_parts_of_a_message_are_parts() -> None:
    got = answer(text(0, "a", "x", content_index=0), text(0, "a", "y", content_index=1), completed())
    assert [part.model_dump()["text"] for part in got.parts] == ["x", "y"]


def test_ids_that_change_from_event_to_event_are_not_believed() -> None:
    item = {"type": "message", "content": HELLO}
    got = answer(
        CREATED,
        added(0, "a1", "message"),
        text(0, "a2", "Hel"),
        text(0, "a3", "lo"),
        event("response.output_text.done", 0, "a4", text="Hello"),
        done(0, "a5", "message", content=HELLO),
        added(1, "b1", "function_call", call_id="c", name="f"),
        event("response.function_call_arguments.delta", 1, "b2", delta="{}"),
        event("response.function_call_arguments.done", 1, "b3", arguments="{}"),
        done(1, "b4", "function_call", call_id="c", name="f", arguments="{}"),
        completed({"id": "a6", **item}, {"id": "b5", "type": "function_call", "call_id": "c", "arguments": "{}"}),
    )
    assert got.text == "Hello"
    assert [(call.id, call.name, call.arguments) for call in got.tool_calls] == [("c", "f", "{}")]


def test_without_output_index_the_item_id_decides() -> None:
    """llama.cpp: calls in parallel, all of them closed in the end."""
    got = answer(
        CREATED,
        added(None, "f1", "function_call", call_id="c1", name="f"),
        event("response.function_call_arguments.delta", None, "f1", delta="[1"),
        added(None, "f2", "function_call", call_id="c2", name="g"),
        event("response.function_call_arguments.delta", None, "f2", delta="[2]"),
        event("response.function_call_arguments.delta", None, "f1", delta="]"),
        done(None, "f1", "function_call", call_id="c1", name="f", arguments="[1]"),
        done(None, "f2", "function_call", call_id="c2", name="g", arguments="[2]"),
        completed(),
    )
    assert [(call.id, call.arguments) for call in got.tool_calls] == [("c1", "[1]"), ("c2", "[2]")]


def test_without_both_an_event_belongs_to_the_item_last_begun() -> None:
    begun = added(None, "", "message")
    got = answer(begun, text(None, "", "a"), text(None, "", "b"), begun, text(None, "", "c"), completed())
    assert [part.model_dump()["text"] for part in got.parts] == ["ab", "c"]


def test_an_output_index_used_again_is_a_new_item() -> None:
    got = answer(
        added(0, "a", "message"),
        text(0, "a", "Hello"),
        done(0, "a", "message", content=HELLO),
        added(0, "f", "function_call", call_id="c", name="f"),
        done(0, "f", "function_call", call_id="c", name="f", arguments="{}"),
        completed(),
    )
    assert got.text == "Hello"
    assert len(got.tool_calls) == 1


def test_a_call_at_the_index_of_a_message_that_is_still_open_is_not_that_message() -> None:
    got = answer(
        text(0, "a", "Hello"),
        event("response.function_call_arguments.delta", 0, None, delta="{}"),
        completed(),
    )
    assert (got.text, got.tool_calls[0].arguments) == ("Hello", "{}")


def test_ids_that_change_without_an_output_index_belong_to_the_item_last_begun() -> None:
    got = answer(
        added(None, "a1", "message"),
        text(None, "a2", "Hel"),
        text(None, "a3", "lo"),
        done(None, "a4", "message", content=HELLO),
        done(None, "b1", "message", content=HELLO),
        completed({"id": "a5", "type": "message", "content": HELLO}),
    )
    assert got.text == "HelloHello"


def test_an_item_at_another_s_place_is_not_that_item() -> None:
    """LiteLLM counts ``output_index`` for each kind of item by itself."""
    got = answer(
        added(0, "a", "message"),
        text(0, "a", "Hel"),
        event("response.reasoning_summary_text.delta", 0, "r1", delta="hm", summary_index=0),
        event("response.reasoning_summary_text.delta", 0, "r2", delta="m", summary_index=0),
        done(0, "f", "function_call", call_id="c", name="n", arguments="{}"),
        text(0, "a", "lo"),
        done(0, "a", "message", content=HELLO),
        done(0, "r3", "reasoning", summary=[{"type": "summary_text", "text": "hmm"}]),
        completed({"id": "r4", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hmm"}]}),
    )
    assert (got.text, got.thinking) == ("Hello", "hmm")
    assert [call.id for call in got.tool_calls] == ["c"]


# Restatements


@pytest.mark.parametrize(
    "payloads",
    [
        [event("response.output_text.done", 0, "a", text="Hello")],
        [event("response.content_part.done", 0, "a", part=HELLO[0])],
        [added(0, "a", "message"), done(0, "a", "message", content=HELLO)],
        [done(0, "a", "message", content=HELLO)],
        [],
    ],
    ids=["text.done", "content_part.done", "item.done", "item.done alone", "completed"],
)
def test_text_that_came_without_deltas_is_delivered_once(payloads: list[dict[str, Any]]) -> None:
    events, error = run(CREATED, *payloads, completed({"id": "a", "type": "message", "content": HELLO}))
    assert error is None
    assert [item.text for item in events if isinstance(item, ev.TextDelta)] == ["Hello"]
    assert [item.text for item in events if isinstance(item, ev.PartEnd)] == [None]


def test_a_restatement_that_differs_rules_and_one_that_agrees_is_silent() -> None:
    events, _ = run(
        text(0, "a", "Hel"), event("response.output_text.done", 0, "a", text="Hello"), text(1, "b", "x"), completed()
    )
    assert [item.text for item in events if isinstance(item, ev.PartEnd)] == ["Hello", None]
    assert aggregate(events).text == "Hellox"


def test_an_empty_restatement_wipes_nothing() -> None:
    got = answer(
        text(0, "a", "Hello"),
        event("response.output_text.done", 0, "a", text=""),
        done(0, "a", "message", content=[]),
        completed({"id": "a", "type": "message", "content": [{"type": "output_text", "text": ""}]}),
    )
    assert got.text == "Hello"


def test_a_restatement_after_the_item_is_done_says_nothing_new() -> None:
    events, _ = run(
        added(0, "f", "function_call", call_id="c", name="f"),
        done(0, "f", "function_call", call_id="c", name="f", arguments="{}"),
        event("response.function_call_arguments.done", 0, "f", arguments="{}"),
        event("response.content_part.done", 0, "f", part=HELLO[0]),
        done(0, "f", "function_call", call_id="c", name="f", arguments="{}"),
        completed(),
    )
    grammar(events)
    assert len(of(events, ev.ToolCallStart, ev.ToolCall, ev.PartEnd, ev.TextDelta)) == 3


def test_an_item_restated_under_an_unknown_id_is_not_delivered_again() -> None:
    got = answer(
        added(None, "a", "message"),
        text(None, "a", "Hello"),
        done(None, "a", "message", content=HELLO),
        completed({"id": "other", "type": "message", "content": HELLO}),
    )
    assert got.text == "Hello"


def test_an_open_item_restated_at_its_place_is_finished_by_that() -> None:
    got = answer(
        added(0, "f1", "function_call", call_id="c", name="f"),
        event("response.function_call_arguments.delta", 0, "f2", delta="{"),
        completed({"id": "f3", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
    )
    assert [(call.arguments, call.complete) for call in got.tool_calls] == [("{}", True)]


# Reasoning


def test_reasoning_in_full_and_in_summary_and_its_encrypted_form() -> None:
    events, _ = run(
        added(0, "rs", "reasoning", encrypted_content="early"),
        event("response.reasoning_summary_part.added", 0, "rs", summary_index=0, part={"type": "summary_text"}),
        event("response.reasoning_summary_text.delta", 0, "rs", summary_index=0, delta="sum"),
        event("response.reasoning_summary_text.delta", 0, "rs", summary_index=1, delta="mary"),
        event("response.reasoning_part.added", 0, "rs", content_index=0, part={"type": "reasoning_text"}),
        event("response.reasoning_text.delta", 0, "rs", content_index=0, delta="full"),
        event(
            "response.reasoning_part.done", 0, "rs", content_index=0, part={"type": "reasoning_text", "text": "full"}
        ),
        done(0, "rs", "reasoning", summary=[], content=[], encrypted_content="blob"),
        completed(),
    )
    assert [(e.part, e.text, e.kind) for e in events if isinstance(e, ev.ThinkingDelta)] == [
        (0, "sum", "summary"),
        (1, "mary", "summary"),
        (2, "full", "full"),
    ]
    assert [(e.data, e.kind) for e in events if isinstance(e, ev.ThinkingSignature)] == [("blob", "encrypted")]
    assert {(e.kind, e.id) for e in events if isinstance(e, ev.PartEnd)} == {("thinking", "rs")}
    grammar(events)


def test_text_of_a_reasoning_item_is_reasoning() -> None:
    """That of vLLM is announced as ``output_text``, that of others comes so."""
    part = {"type": "output_text", "text": "hmm"}
    got = answer(
        added(0, "rs", "reasoning"),
        text(0, "rs", "h", content_index=0),
        text(0, "rs", "mm", content_index=0),
        event("response.content_part.done", 0, "rs", content_index=0, part=part),
        done(0, "rs", "reasoning", content=[{"type": "reasoning_text", "text": "hmm"}], summary=[]),
        completed(),
    )
    assert (got.text, got.thinking) == ("", "hmm")


def test_reasoning_that_is_only_encrypted_goes_back_with_its_id() -> None:
    part = answer(done(0, "rs", "reasoning", summary=[], encrypted_content="blob"), completed()).message().content[0]
    assert part.model_dump(exclude_defaults=True) == {"id": "rs", "encrypted": "blob"}


# Calls of our tools


@pytest.mark.parametrize(
    ("item_type", "delta", "field", "kind"),
    [
        ("function_call", "response.function_call_arguments", "arguments", "function"),
        ("custom_tool_call", "response.custom_tool_call_input", "input", "custom"),
    ],
)
def test_a_call_is_announced_and_sealed_once(item_type: str, delta: str, field: str, kind: str) -> None:
    events, _ = run(
        added(0, "f", item_type, call_id="c", name="n"),
        event(f"{delta}.delta", 0, "f", delta="ab"),
        event(f"{delta}.done", 0, "f", **{field: "abc"}),
        done(0, "f", item_type, call_id="c", name="n", **{field: "abc"}),
        completed({"id": "f", "type": item_type, "call_id": "c", "name": "n", field: "abc"}),
    )
    assert of(events, ev.ToolCallStart, ev.ToolCallDelta, ev.ToolCall, ev.PartEnd) == [
        ev.ToolCallStart(id="c", name="n"),
        ev.ToolCallDelta(arguments="ab"),
        ev.ToolCall(id="c", name="n", arguments="abc", kind=typing.cast("typing.Any", kind)),
        ev.PartEnd(kind="tool_call", text="abc", id="f"),
    ]
    assert aggregate(events).finish_reason == "tool_calls"


def test_a_call_that_hit_the_token_limit_is_not_sealed() -> None:
    """Its arguments.done comes all the same; only the item says that it is incomplete."""
    got = answer(
        added(0, "f", "function_call", call_id="c", name="n"),
        event("response.function_call_arguments.delta", 0, "f", delta='{"a": "b'),
        event("response.function_call_arguments.done", 0, "f", arguments='{"a": "b'),
        done(0, "f", "function_call", call_id="c", name="n", arguments='{"a": "b', status="incomplete"),
        event("response.incomplete", response={"incomplete_details": {"reason": "max_output_tokens"}}),
    )
    assert [(call.arguments, call.complete) for call in got.tool_calls] == [('{"a": "b', False)]
    assert (got.finish_reason, got.raw_finish_reason) == ("length", "incomplete:max_output_tokens")


def test_a_call_that_nobody_closed_is_whole_only_if_the_answer_is() -> None:
    begun = (
        added(0, "f", "function_call", call_id="c", name="n"),
        event("response.function_call_arguments.delta", 0, "f", delta="{}"),
    )
    assert [call.complete for call in answer(*begun, completed()).tool_calls] == [True]
    cut = answer(*begun, event("response.incomplete", response={}))
    assert [call.complete for call in cut.tool_calls] == [False]


def test_a_call_that_was_not_announced_is_named_when_it_is_sealed() -> None:
    got = answer(
        event("response.function_call_arguments.delta", 3, "f", delta="{}"),
        done(3, "f", "function_call", call_id="c", name="n", arguments="{}"),
        completed(),
    )
    assert [(call.id, call.name, call.arguments) for call in got.tool_calls] == [("c", "n", "{}")]


def test_arguments_that_are_an_object_become_their_json() -> None:
    got = answer(done(0, "f", "function_call", call_id="c", name="n", arguments={"a": 1}), completed())
    assert got.tool_calls[0].parse() == {"a": 1}


# The provider's tools


def test_a_server_tool_goes_through_its_steps() -> None:
    item = {"id": "ci", "type": "code_interpreter_call", "code": "1+1", "outputs": [], "status": "completed"}
    events, _ = run(
        added(0, "ci", "code_interpreter_call", code="", status="in_progress"),
        event("response.code_interpreter_call.in_progress", 0, "ci"),
        event("response.code_interpreter_call_code.delta", 0, "ci", delta="1+"),
        event("response.code_interpreter_call_code.delta", 0, "ci", delta="1"),
        event("response.code_interpreter_call_code.done", 0, "ci", code="1+1"),
        event("response.code_interpreter_call.interpreting", 0, "ci"),
        event("response.output_item.done", 0, item=item),
        completed(),
    )
    steps = [(e.step, e.arguments, e.status) for e in events if isinstance(e, ev.ServerTool)]
    assert steps == [
        ("start", "", "in_progress"),
        ("status", "", "in_progress"),
        ("delta", "1+", ""),
        ("delta", "1", ""),
        ("call", "1+1", ""),
        ("status", "", "interpreting"),
        ("result", "", "completed"),
    ]
    assert of(events, ev.PartEnd) == [ev.PartEnd(kind="server_tool", id="ci", payload=item)]
    got = aggregate(events)
    assert [(t.name, t.arguments, t.result) for t in got.server_tools] == [("code_interpreter", "1+1", item)]
    assert got.finish_reason == "stop"


@pytest.mark.parametrize(
    ("kind", "fields", "arguments"),
    [
        ("mcp_call", {"name": "ask", "arguments": '{"q": 1}', "output": "yes"}, '{"q": 1}'),
        ("web_search_call", {"action": {"type": "search", "query": "q"}}, '{"type":"search","query":"q"}'),
        ("file_search_call", {"queries": ["a"], "results": None}, '["a"]'),
        ("tool_search_call", {"execution": "server", "arguments": {"paths": ["p"]}}, '{"paths":["p"]}'),
        ("program", {"call_id": "c", "code": "run()"}, "run()"),
        ("mcp_list_tools", {"server_label": "s", "tools": []}, ""),
    ],
)
def test_the_input_of_a_server_tool_is_found(kind: str, fields: dict[str, Any], arguments: str) -> None:
    (tool,) = answer(added(0, "t", kind), done(0, "t", kind, **fields), completed()).server_tools
    assert tool.arguments == arguments
    assert tool.result == {"id": "t", "type": kind, **fields}


@pytest.mark.parametrize("word", ["mcp_call.failed", "mcp_list_tools.failed", "web_search_call.searching"])
def test_progress_of_a_server_tool_is_told(word: str) -> None:
    kind, _, step = word.partition(".")
    events, _ = run(added(0, "t", kind), event(f"response.{word}", 0, "t"), completed())
    assert of(events, ev.ServerTool)[-1] == ev.ServerTool(
        id="t", name=kind.removesuffix("_call"), step="status", status=step
    )


def test_what_is_new_in_a_tool_s_progress_is_kept() -> None:
    events, _ = run(
        added(0, "s", "shell_call_output", call_id="c"),
        event("response.shell_call_output_content.delta", 0, "s", delta={"stdout": "x"}, command_index=0),
        completed(),
    )
    (step,) = [e for e in events if isinstance(e, ev.ServerTool) and e.step == "status"]
    assert (step.status, step.payload) == ("delta", {"delta": {"stdout": "x"}, "command_index": 0})


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("computer_call", {"action": {"type": "click", "x": 1, "y": 2}}),
        ("local_shell_call", {"action": {"type": "exec", "command": ["ls"]}}),
        ("shell_call", {"action": {"commands": ["ls"]}}),
        ("apply_patch_call", {"operation": {"type": "delete_file", "path": "p"}}),
        ("tool_search_call", {"execution": "client", "arguments": {"q": 1}}),
    ],
)
def test_a_call_that_the_client_carries_out_waits_for_it(kind: str, fields: dict[str, Any]) -> None:
    """It is no tool call of ours; its id is what the answer to it must quote, its item is kept to go back."""
    item = {"id": "x", "type": kind, "call_id": "c", "status": "completed", **fields}
    got = answer(added(0, "x", kind, call_id="c"), event("response.output_item.done", 0, item=item), completed())
    assert got.tool_calls == []
    assert got.finish_reason == "tool_calls"
    assert [(tool.id, tool.result) for tool in got.server_tools] == [("c", None)]
    assert got.server_tools[0].arguments
    assert [part.model_dump()["payload"] for part in got.message().content] == [item]


def test_a_call_that_the_provider_answered_itself_waits_for_nobody() -> None:
    output = {"id": "o", "type": "shell_call_output", "call_id": "c", "output": [{"stdout": "x"}]}
    got = answer(
        added(0, "x", "shell_call", call_id="c"),
        done(0, "x", "shell_call", call_id="c", action={"commands": ["ls"]}),
        event("response.output_item.added", 1, item=output),
        event("response.output_item.done", 1, item=output),
        completed(),
    )
    assert got.finish_reason == "stop"
    assert [(tool.name, tool.result) for tool in got.server_tools] == [("shell", output)]


def test_images_partial_and_whole() -> None:
    events, _ = run(
        added(0, "ig", "image_generation_call", status="in_progress"),
        event("response.image_generation_call.partial_image", 0, "ig", partial_image_b64="AAAA", output_format="webp"),
        done(0, "ig", "image_generation_call", status="completed", result="BBBB", output_format="webp"),
        completed(),
    )
    images = [(e.data, e.media_type, e.id) for e in events if isinstance(e, ev.Media)]
    assert images == [("AAAA", "image/webp", "ig"), ("BBBB", "image/webp", "ig")]
    assert [record.data for record in aggregate(events).media] == ["BBBB"]
    assert "result" not in [e for e in events if isinstance(e, ev.ServerTool)][-1].payload


def test_audio_and_its_transcript_are_one_part() -> None:
    events, _ = run(
        CREATED,
        event("response.audio.delta", delta="AAAA"),
        event("response.audio.transcript.delta", delta="hi"),
        event("response.audio.delta", delta="AAAA"),
        event("response.audio.done"),
        event("response.audio.transcript.done"),
        completed(),
    )
    grammar(events)
    (record,) = aggregate(events).media
    assert (record.kind, record.data, record.transcript) == ("audio", "AAAAAAAA", "hi")


def test_an_item_of_a_type_of_its_own_is_kept_whole() -> None:
    item = {"id": "cmp", "type": "compaction", "encrypted_content": "blob"}
    events, _ = run(
        added(0, "cmp", "compaction"),
        event("response.compaction.compacting", 0, "cmp"),
        event("response.output_item.done", 0, item=item),
        completed(),
    )
    assert of(events, ev.Status, ev.PartEnd) == [
        ev.Status(status="compaction.compacting"),
        ev.PartEnd(kind="compaction", id="cmp", payload=item),
    ]


# Annotations and log probabilities


def test_annotations_are_cited_once_wherever_they_come() -> None:
    url = {"type": "url_citation", "url": "u", "title": "t", "start_index": 1, "end_index": 2}
    file = {"type": "file_citation", "file_id": "f", "filename": "n", "index": 0}
    content = [{"type": "output_text", "text": "Hello", "annotations": [url, file]}]
    events, _ = run(
        text(0, "a", "Hello"),
        event("response.output_text.annotation.added", 0, "a", annotation_index=0, annotation=url),
        event("response.content_part.done", 0, "a", part=content[0]),
        done(0, "a", "message", content=content),
        completed({"id": "a", "type": "message", "content": content}),
    )
    assert of(events, ev.Citation) == [
        ev.Citation(kind="url_citation", url="u", title="t", start=1, end=2, payload=url),
        ev.Citation(kind="file_citation", title="n", payload=file),
    ]


def test_an_annotation_for_a_message_that_was_not_announced_is_kept() -> None:
    got = answer(event("response.output_text.annotation.added", 0, "a", annotation="odd"), completed())
    assert [record.payload for record in got.citations] == ["odd"]


def test_log_probabilities_come_with_their_text_or_with_its_restatement() -> None:
    one, two = {"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -2.0}
    content = [{"type": "output_text", "text": "ab", "logprobs": [one, two]}]
    streamed = answer(
        text(0, "a", "a", logprobs=[one]), text(0, "a", "b", logprobs=[two]), done(0, "a", "message", content=content),
        completed(),
    )  # fmt: skip
    restated = answer(done(0, "a", "message", content=content), completed())
    assert streamed.choices[0].logprobs == restated.choices[0].logprobs == [one, two]


# The beginning and the end


def test_started_comes_once_and_states_are_told() -> None:
    events, _ = run(
        event("response.queued", response={"id": "r", "model": "m"}),
        CREATED,
        event("response.in_progress", response={"id": "r"}),
        completed(),
    )
    assert events[:3] == [ev.Started(id="r", model="m"), ev.Status(status="queued"), ev.Status(status="in_progress")]
    grammar(events)


def test_a_resumed_stream_has_no_beginning() -> None:
    got = answer(
        text(0, "a", "lo", sequence_number=7),
        completed({"id": "a", "type": "message", "content": HELLO}, {"id": "b", "type": "message", "content": HELLO}),
    )
    assert (got.text, got.id, got.finish_reason) == ("Hello", "r", "stop")


@pytest.mark.parametrize(
    ("payload", "reason", "raw"),
    [
        (completed(), "stop", "completed"),
        (event("response.done", response={"status": "completed"}), "stop", "completed"),
        (event("response.done", response={}), "stop", "completed"),
        (event("response.cancelled", response={}), "other", "cancelled"),
        (event("response.incomplete", response={}), "other", "incomplete"),
        (
            event("response.incomplete", response={"incomplete_details": {"reason": "content_filter"}}),
            "content_filter",
            "incomplete:content_filter",
        ),
        (
            event("response.incomplete", response={"incomplete_details": {"reason": "steered"}}),
            "other",
            "incomplete:steered",
        ),
    ],
)
def test_the_end_in_our_words_and_theirs(payload: dict[str, Any], reason: str, raw: str) -> None:
    got = answer(CREATED, payload)
    assert (got.finish_reason, got.raw_finish_reason) == (reason, raw)


def test_an_answer_that_is_only_a_refusal_is_one() -> None:
    refused = (
        event("response.refusal.delta", 0, "a", delta="I can't", content_index=0),
        event("response.refusal.done", 0, "a", refusal="I can't", content_index=0),
    )
    got = answer(CREATED, *refused, completed())
    assert (got.refusal, got.finish_reason) == ("I can't", "refusal")
    assert answer(text(1, "b", "but"), *refused, completed()).finish_reason == "stop"


def test_what_comes_after_the_end_is_ignored() -> None:
    decoder = ResponsesDecoder()
    events = decoder.feed(body(CREATED, completed(), text(0, "a", "late")) + b"data: [DONE]\n\n")
    assert isinstance(events[-1], ev.Finished)
    assert decoder.finished
    assert decoder.feed(b"data: garbage\n\n") == decoder.close() == []


def test_done_is_not_the_end() -> None:
    events, error = feed_all(ResponsesDecoder(), body(CREATED) + b"data: [DONE]\n\n" + b"data: \n\n")
    assert len(events) == 1
    assert type(error) is StreamIncomplete


def test_a_stream_cut_in_a_call_says_so_and_keeps_it_as_not_complete() -> None:
    events, error = run(
        CREATED,
        added(0, "f", "function_call", call_id="c", name="n"),
        event("response.function_call_arguments.delta", 0, "f", delta="{"),
    )
    assert type(error) is ToolCallIncomplete
    assert [(call.name, call.complete) for call in aggregate(events).tool_calls] == [("n", False)]


# Failures


@pytest.mark.parametrize(
    ("payload", "error", "code"),
    [
        (event("error", code="rate_limit_exceeded", message="slow down", param=None), RateLimited, "rate_limit_exceeded"),
        (event("error", error={"type": "server_error", "code": "server_error", "message": "slow down"}), ServerFault, "server_error"),
        (event("response.error", error={"code": "invalid_prompt", "message": "slow down"}), BadRequest, "invalid_prompt"),
        ({"error": {"code": 500, "message": "slow down", "type": "server_error"}}, ServerFault, "server_error"),
        ({"error": "slow down"}, ServerFault, ""),
        (event("response.failed", response={"error": {"code": "image_too_small", "message": "slow down"}}), BadRequest, "image_too_small"),
    ],
)  # fmt: skip
def test_a_failure_comes_after_what_was_said_before_it(
    payload: dict[str, Any], error: type[StreamError], code: str
) -> None:
    decoder = ResponsesDecoder()
    events = decoder.feed(body(CREATED, text(0, "a", "Hel"), payload, text(0, "a", "lo"), completed()))
    assert aggregate(events).text == "Hel"
    assert type(decoder.failure) is error
    for call in (decoder.close, decoder.close, lambda: decoder.feed(b"")):
        with pytest.raises(error, match="slow down") as caught:
            call()
        assert caught.value.code == code


def test_the_first_failure_decides() -> None:
    _, error = run(
        event("error", error={"type": "insufficient_quota", "code": "insufficient_quota", "message": "no money"}),
        event("response.failed", response={"error": {"code": "server_error", "message": "other"}}),
    )
    assert isinstance(error, RateLimited)
    assert not error.retryable


def test_a_failed_response_still_reports_its_usage() -> None:
    events, error = run(CREATED, event("response.failed", response={"usage": {"input_tokens": 3}, "error": None}))
    assert isinstance(error, ServerFault)
    assert aggregate(events).usage.input_tokens == 3


# Sequence numbers


def numbered(*pairs: tuple[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**payload, "sequence_number": number} for number, payload in pairs]


def test_an_event_that_was_seen_is_dropped() -> None:
    got = answer(
        *numbered((4, CREATED), (5, text(0, "a", "x")), (6, text(0, "a", "y")), (5, text(0, "a", "x"))),
        *numbered((6, text(0, "a", "y")), (7, text(0, "a", "z")), (7, completed())),
    )
    assert got.text == "xyz"


def test_an_end_is_never_taken_for_a_repeat() -> None:
    counted = numbered((0, CREATED), (1, text(0, "a", "x")), (2, text(0, "a", "y")))
    assert answer(*counted, *numbered((0, completed()))).text == "xy"
    _, error = run(*counted, *numbered((0, event("error", code="server_error", message="m"))))
    assert isinstance(error, ServerFault)


def test_a_resumed_stream_does_not_deliver_what_came_before_it() -> None:
    before = {"id": "b", "type": "message", "content": [{"type": "output_text", "text": "Before"}]}
    item = {"id": "a", "type": "message", "content": HELLO}
    got = answer(*numbered((7, text(1, "a", "Hel")), (9, text(1, "a", "o")), (10, completed(before, item))))
    assert got.text == "Hello"


def test_numbers_that_do_not_count_are_no_numbers() -> None:
    got = answer(*numbered((0, CREATED), (0, text(0, "a", "x")), (0, text(0, "a", "y")), (0, completed())))
    assert got.text == "xy"


def test_a_gap_is_no_fault_where_the_answer_is_restated() -> None:
    item = {"id": "a", "type": "message", "content": HELLO}
    lost = {"id": "b", "type": "message", "content": [{"type": "output_text", "text": " you"}]}
    got = answer(*numbered((0, CREATED), (1, text(0, "a", "Hel")), (9, completed(item, lost))))
    assert (got.text, got.finish_reason) == ("Hello you", "stop")


@pytest.mark.parametrize("ending", [[], [(9, completed())]], ids=["cut", "completed"])
def test_a_gap_is_a_fault_where_nothing_restates_the_answer(ending: list[tuple[int, dict[str, Any]]]) -> None:
    events, error = run(*numbered((0, CREATED), (1, text(0, "a", "Hel")), (4, text(0, "a", "o")), *ending))
    assert isinstance(error, SequenceGap)
    assert "2 to 3" in error.message
    assert error.retryable
    assert aggregate(events).text == "Helo"


# Usage


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
                "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 3},
                "total_tokens": 15,
                "cost_in_usd_ticks": 6_055_500,
            },
            {"input": 10, "output": 5, "total": 15, "read": 4, "write": 2, "reasoning": 3, "cost": 0.00060555},
        ),
        (
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 3},
                "total_tokens": 18,
                "cost": 0.5,
            },
            {"input": 10, "output": 8, "total": 18, "read": None, "write": None, "reasoning": 3, "cost": 0.5},
        ),
        (
            {"input_tokens": 1, "output_tokens": 2, "input_tokens_details": None, "cost": True},
            {"input": 1, "output": 2, "total": 3, "read": None, "write": None, "reasoning": None, "cost": None},
        ),
        (
            {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "cost_in_usd_ticks": 0},
            {"input": 1, "output": 2, "total": 3, "read": None, "write": None, "reasoning": None, "cost": None},
        ),
        (
            {"input_tokens": None, "output_tokens": "2"},
            {
                "input": None,
                "output": None,
                "total": None,
                "read": None,
                "write": None,
                "reasoning": None,
                "cost": None,
            },
        ),
    ],
    ids=["openai and xai", "reasoning apart", "no details", "not billed here", "nothing known"],
)
def test_usage(raw: dict[str, Any], expected: dict[str, Any]) -> None:
    usage = answer(CREATED, completed(usage=raw)).usage
    assert usage.provenance == "reported"
    assert usage.raw == raw
    assert {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "total": usage.total_tokens,
        "read": usage.cache_read_tokens,
        "write": usage.cache_write_tokens,
        "reasoning": usage.reasoning_tokens,
        "cost": usage.cost,
    } == expected


def test_without_usage_there_is_none() -> None:
    assert answer(CREATED, completed(usage=None)).usage.provenance == "absent"


# Tolerance


def test_what_we_do_not_know_is_raw() -> None:
    later = event("response.brand_new.delta", 0, "a", delta="x")
    part = {"type": "output_hologram", "data": 1}
    events, _ = run(
        CREATED, later, event("response.mcp_call.failed", 5, "nobody"), {"type": "odd"},
        added(0, "a", "message"), event("response.content_part.done", 0, "a", part=part),
        done(0, "a", "message", content=[part]), completed(),
    )  # fmt: skip
    assert [(e.name, e.payload) for e in events if isinstance(e, ev.Raw)] == [
        ("response.brand_new.delta", later),
        ("response.mcp_call.failed", event("response.mcp_call.failed", 5, "nobody")),
        ("odd", {"type": "odd"}),
        ("output_hologram", part),
    ]


@pytest.mark.parametrize("payload", [5, "text", [1], None, {}])
def test_json_that_is_no_event_is_raw(payload: Any) -> None:
    """Even under the name of an event that we know: a number under ``response.completed`` completes nothing."""
    data = b"event: response.completed\n" + frame(payload)
    events, error = feed_all(ResponsesDecoder(keep_raw=False), body(CREATED) + data)
    assert events[1:] == [ev.Raw(name="response.completed", payload=payload)]
    assert type(error) is StreamIncomplete


def test_fields_of_the_wrong_type_are_absent() -> None:
    got = answer(
        {**CREATED, "sequence_number": "0"},
        event("response.output_text.delta", None, "a", output_index="0", delta="x", logprobs=None, content_index=None),
        event("response.output_text.delta", 0, "a", delta=None),
        event("response.output_text.delta", 0, "a", delta="y", logprobs={}),
        event("response.output_item.done", 0, item=None),
        completed(usage=[], incomplete_details=7),
    )
    assert got.text == "xy"


def test_the_name_of_the_event_stands_in_for_a_missing_type() -> None:
    data = b'event: response.output_text.delta\ndata: {"output_index": 0, "delta": "x"}\n\n'
    events, _ = feed_all(ResponsesDecoder(keep_raw=False), data)
    assert events == [ev.TextDelta(text="x")]


def test_keepalives_and_comments_are_heartbeats() -> None:
    data = b": ping\n\n" + body(event("keepalive", sequence_number=2), completed())
    events, error = feed_all(ResponsesDecoder(keep_raw=False), data)
    assert error is None
    assert of(events, ev.Heartbeat) == [ev.Heartbeat(comment="ping"), ev.Heartbeat(comment="keepalive")]


def test_bytes_that_are_not_json_are_a_protocol_error_after_what_came_before() -> None:
    events, error = feed_all(
        ResponsesDecoder(), body(CREATED, text(0, "a", "x")) + b"data: {oops\n\n" + body(completed())
    )
    assert aggregate(events).text == "x"
    assert isinstance(error, ProtocolError)
    assert error.body == "{oops"


def test_raw_bytes_are_kept_unless_they_are_not_wanted() -> None:
    payload = text(0, "a", "x")
    kept = ResponsesDecoder().feed(body(payload))
    assert kept == [ev.TextDelta(text="x", raw=json.dumps(payload).encode())]
    assert ResponsesDecoder(keep_raw=False).feed(body(payload)) == [ev.TextDelta(text="x")]


def known_types() -> list[str]:
    union = typing.get_args(typing.get_args(ResponseStreamEvent)[0])
    return sorted(typing.get_args(member.model_fields["type"].annotation)[0] for member in union)


def test_every_event_of_the_official_sdk_is_known() -> None:
    """None of them becomes `Raw`, where the item that it belongs to was announced."""
    tools = ("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call")
    items = (*tools, "mcp_list_tools", "shell_call_output", "shell_call")
    types = known_types()
    assert len(types) > 50
    for name in types:
        kind = next((item for item in items if item in name), "message")
        if "error" in name or "failed" in name.removeprefix("response.mcp"):
            continue
        events, _ = run(added(0, "i", kind), event(name, 0, "i", delta="x", response={"id": "r"}, item={"id": "i"}))
        assert not of(events, ev.Raw), name


# Laws

PIECES = [
    CREATED,
    event("response.in_progress", response={"id": "r"}),
    added(0, "rs", "reasoning"),
    event("response.reasoning_summary_text.delta", 0, "rs", summary_index=0, delta="Ünï"),
    done(0, "rs", "reasoning", summary=[{"type": "summary_text", "text": "Ünï"}], encrypted_content="blob"),
    added(1, "ws", "web_search_call", status="in_progress"),
    event("response.web_search_call.searching", 1, "ws"),
    done(1, "ws", "web_search_call", action={"query": "q"}),
    added(2, "a", "message"),
    text(2, "a", "Héllo 🌍", content_index=0, logprobs=[]),
    text(2, "a", "!", content_index=0),
    event("response.output_text.done", 2, "a", content_index=0, text="Héllo 🌍!"),
    added(3, "f", "function_call", call_id="c", name="n"),
    event("response.function_call_arguments.delta", 3, "f", delta='{"a"'),
    event("response.function_call_arguments.delta", 3, "f", delta=": 1}"),
    done(3, "f", "function_call", call_id="c", name="n", arguments='{"a": 1}'),
    {"type": "keepalive"},
    event("response.failed", response={"error": {"code": "server_error", "message": "x"}}),
    {"error": {"message": "y"}},
    completed({"id": "a", "type": "message", "content": HELLO}, usage={"input_tokens": 1, "output_tokens": 2}),
]
WHOLE = body(*PIECES[:17], PIECES[-1])


@given(splits(WHOLE))
def test_any_split_gives_the_same_events(cuts: list[int]) -> None:
    assert feed_all(ResponsesDecoder(), WHOLE, cuts) == feed_all(ResponsesDecoder(), WHOLE)


@given(st.lists(st.sampled_from(PIECES)), st.data())
def test_events_in_any_order_keep_the_grammar_however_they_are_cut(pieces: list[Any], data: st.DataObject) -> None:
    whole = body(*pieces)
    events, error = feed_all(ResponsesDecoder(), whole)
    grammar(events)
    assert (error is None) == (bool(events) and isinstance(events[-1], ev.Finished))
    aggregate(events)
    again, same = feed_all(ResponsesDecoder(), whole, data.draw(splits(whole)))
    assert again == events
    assert repr(same) == repr(error)


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(max_size=3)), min_size=1, max_size=8))
def test_damaged_bytes_raise_nothing_but_stream_errors(damage: list[tuple[int, bytes]]) -> None:
    data = bytearray(WHOLE)
    for place, junk in damage:
        data[place : place + len(junk)] = junk
    events, error = feed_all(ResponsesDecoder(), bytes(data))  # lets only StreamErrors be
    assert error is not None or isinstance(events[-1], ev.Finished)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.data()), max_size=12), st.data())
def test_fields_of_any_type_raise_nothing_but_stream_errors(chosen: list[Any], data: st.DataObject) -> None:
    payloads = []
    for piece, _ in chosen:
        field = data.draw(st.sampled_from([*piece, "delta", "output_index", "item_id", "sequence_number"]))
        payload = {**piece, field: data.draw(json_values)}
        for holder in ("item", "response", "part"):
            if isinstance(payload.get(holder), dict):
                inner = data.draw(
                    st.sampled_from([*payload[holder], "content", "summary", "usage", "status", "output"])
                )
                payload[holder] = {**payload[holder], inner: data.draw(json_values)}
        payloads.append(payload)
    events, _ = run(*payloads)
    grammar(events)
    for item in events:
        assert ev.decode(ev.encode(item)) == item
    aggregate(events)


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_stream_errors(data: bytes) -> None:
    _, error = feed_all(ResponsesDecoder(), data)
    assert isinstance(error, StreamError)


@pytest.mark.parametrize("cut", range(len(PIECES[:17])))
def test_a_stream_cut_between_any_two_events_has_a_prefix_of_the_events(cut: int) -> None:
    whole = ResponsesDecoder().feed(WHOLE)
    events, error = feed_all(ResponsesDecoder(), body(*PIECES[:cut]))
    assert isinstance(error, StreamIncomplete)
    assert events == whole[: len(events)]
