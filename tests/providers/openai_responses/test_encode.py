"""Requests in the words of the Responses API."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

from rxstream.aggregate import aggregate
from rxstream.config import Request
from rxstream.errors import ConfigurationError
from rxstream.messages import ImagePart, Message, OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolCall, ToolResult
from rxstream.providers import decoder_for
from rxstream.providers.openai_responses.encode import encode
from rxstream.sources.local import LocalServer
from tests.support.conversations import CALLS, SCHEMA, WEATHER, ask, requests, strings, texts
from tests.support.declared import complaint
from tests.support.genuine import answer
from tests.support.recordings import Recording, each_recording, feed_all


def said(*parts: Any) -> Message:
    return Message(role="assistant", content=list(parts))


def test_the_least_request() -> None:
    """Nothing is kept on the server unless somebody asks for it."""
    assert encode(ask("Hello")) == {
        "model": "m",
        "input": [{"type": "message", "role": "user", "content": "Hello"}],
        "stream": True,
        "store": False,
    }
    assert encode(ask("Hello", extra={"store": True}))["store"] is True


def test_options_go_by_their_own_names() -> None:
    body = encode(ask("Hello", max_tokens=7, temperature=0.5, top_p=0.9, parallel_tool_calls=False))
    assert {key: body[key] for key in body.keys() - {"input", "model", "stream", "store"}} == {
        "max_output_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "parallel_tool_calls": False,
    }


def test_system_messages_keep_their_place() -> None:
    later = Message(role="system", content=[TextPart(text="Now in French.")])
    assert encode(ask("Hello", later, system="Be brief."))["input"] == [
        {"type": "message", "role": "system", "content": "Be brief."},
        {"type": "message", "role": "user", "content": "Hello"},
        {"type": "message", "role": "system", "content": "Now in French."},
    ]


def test_text_and_images_are_one_message() -> None:
    turn = Message(
        role="user",
        content=[
            TextPart(text="This?"),
            ImagePart(url="https://e.org/a.png"),
            ImagePart(data="aGk=", media_type="image/gif"),
        ],
    )
    assert encode(ask(turn))["input"] == [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "This?"},
                {"type": "input_image", "image_url": "https://e.org/a.png", "detail": "auto"},
                {"type": "input_image", "image_url": "data:image/gif;base64,aGk=", "detail": "auto"},
            ],
        }
    ]


def test_calls_and_results_are_items() -> None:
    assert encode(ask(*CALLS))["input"][1:] == [
        {"type": "message", "role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Paris"}'},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": '{"city":"Rome"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"type": "function_call_output", "call_id": "c2", "output": "no such city"},
        {"type": "message", "role": "user", "content": "And?"},
    ]


def test_the_result_of_a_custom_tool_is_of_its_own_kind() -> None:
    call = said(ToolCall(id="1", name="shell", arguments="ls", kind="custom"), ToolCall(id="2", name="now"))
    results = Message(role="tool", content=[ToolResult(id="1", content="a.txt"), ToolResult(id="2", content="noon")])
    assert encode(ask("Hello", call, results))["input"][1:] == [
        {"type": "custom_tool_call", "call_id": "1", "name": "shell", "input": "ls"},
        {"type": "function_call", "call_id": "2", "name": "now", "arguments": "{}"},
        {"type": "custom_tool_call_output", "call_id": "1", "output": "a.txt"},
        {"type": "function_call_output", "call_id": "2", "output": "noon"},
    ]


def test_reasoning_goes_back_encrypted_or_not_at_all() -> None:
    """The order of the turn is kept: reasoning stands before the call that it led to."""
    turn = said(
        ThinkingPart(text="a summary", encrypted="blob", id="rs_1"),
        ToolCall(id="1", name="f"),
        ThinkingPart(encrypted="blob2"),
        ThinkingPart(text="of another provider", signature="sig"),
        TextPart(text="So."),
    )
    body = encode(ask("Hello", turn))
    assert body["input"][1:] == [
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "a summary"}],
            "encrypted_content": "blob",
            "id": "rs_1",
        },
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "reasoning", "summary": [], "encrypted_content": "blob2"},
        {"type": "message", "role": "assistant", "content": "So."},
    ]


def test_a_summary_in_several_parts_is_one_item() -> None:
    """They share the item's id, and the last of them has the blob."""
    first, last = ThinkingPart(text="one", id="rs_1"), ThinkingPart(text="two", id="rs_1", encrypted="blob")
    assert encode(ask("Hello", said(first, last, ThinkingPart(text="three", id="rs_2"))))["input"][1:] == [
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}],
            "encrypted_content": "blob",
            "id": "rs_1",
        }
    ]


def test_encrypted_reasoning_is_asked_for_of_models_that_reason() -> None:
    """Others refuse to be asked; that a model reasons shows in the effort, or in what it thought before."""
    wanted = ["reasoning.encrypted_content"]
    assert "include" not in encode(ask("Hello"))
    assert encode(ask("Hello", reasoning="low"))["include"] == wanted
    assert encode(ask("Hello", said(ThinkingPart(encrypted="blob"))))["include"] == wanted


def test_a_refusal_is_something_that_the_model_said() -> None:
    turn = said(TextPart(text="Well. "), RefusalPart(text="I will not."))
    assert encode(ask("Hello", turn))["input"][1] == {
        "type": "message",
        "role": "assistant",
        "content": "Well. I will not.",
    }


def test_an_opaque_part_goes_back_to_its_own_provider_alone() -> None:
    item = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    turn = said(
        TextPart(text="I look."),
        OpaquePart(provider="openai", payload=item),
        OpaquePart(provider="anthropic", payload={"type": "compaction"}),
        TextPart(text="So."),
    )
    assert encode(ask("Hello", turn, provider="openai"))["input"][1:] == [
        {"type": "message", "role": "assistant", "content": "I look."},
        item,
        {"type": "message", "role": "assistant", "content": "So."},
    ]


def test_tools_are_described_in_its_shape_and_strict_only_if_asked() -> None:
    """This API is strict unless told otherwise; the same tool must mean the same with every provider."""
    native = {"type": "web_search"}
    body = encode(ask("Hello", tools=[WEATHER | {"strict": True}, {"name": "now"}, native]))
    assert body["tools"] == [
        {"type": "function", **WEATHER, "strict": True},
        {"type": "function", "name": "now", "parameters": {"type": "object", "properties": {}}, "strict": False},
        native,
    ]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("weather", {"type": "function", "name": "weather"}),
    ],
)
def test_tool_choice_in_its_words(wanted: str | None, expected: object) -> None:
    assert encode(ask("Hello", tools=[WEATHER], tool_choice=wanted)).get("tool_choice") == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("json", {"type": "json_object"}),
        (SCHEMA, {"type": "json_schema", "name": "answer", "schema": SCHEMA}),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
            {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True},
        ),
    ],
)
def test_response_formats_in_its_words(wanted: Any, expected: object) -> None:
    assert encode(ask("Hello", response_format=wanted))["text"] == {"format": expected}


def test_reasoning_is_an_effort() -> None:
    assert encode(ask("Hello", reasoning="minimal"))["reasoning"] == {"effort": "minimal"}


@pytest.mark.parametrize(("name", "value"), [("stop", ["END"]), ("seed", 1), ("n", 2)])
def test_what_the_api_cannot_do_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: the Responses API has no such parameter; leave it out$"):
        encode(ask("Hello", **{name: value}))


def test_extra_fields_win() -> None:
    body = encode(ask("Hello", reasoning="low", extra={"reasoning": {"effort": "low", "summary": "auto"}}))
    assert body["reasoning"] == {"effort": "low", "summary": "auto"}


def test_the_body_is_what_the_sdk_declares() -> None:
    body = encode(
        ask(
            *CALLS,
            said(
                ThinkingPart(text="hm", encrypted="blob", id="rs_1"),
                RefusalPart(text="No."),
                ToolCall(id="x", name="shell", arguments="ls", kind="custom"),
            ),
            Message(role="tool", content=[ToolResult(id="x", content="a.txt")]),
            Message(role="user", content=[TextPart(text="This?"), ImagePart(data="aGk=")]),
            system="Be brief.",
            tools=[WEATHER],
            tool_choice="weather",
            parallel_tool_calls=False,
            max_tokens=5,
            temperature=1,
            top_p=1,
            response_format=SCHEMA,
            reasoning="xhigh",
        )
    )
    assert complaint(body, ResponseCreateParamsStreaming) is None


@given(requests)
def test_any_conversation_is_said_whole_or_refused(request: Request) -> None:
    """No text is lost, and nothing but a `ConfigurationError` is raised."""
    try:
        body = encode(request)
    except ConfigurationError:
        return
    everything = strings(body)
    assert all(text in everything for text in texts(request))


@each_recording("responses")
def test_a_recorded_answer_can_be_sent_back(recording: Recording) -> None:
    """As a turn of the next request: declared by the SDK, and nothing that was said is lost."""
    events, error = feed_all(decoder_for("openai"), recording.body)
    turn = aggregate(events).message()
    if error is not None or not turn.content:
        pytest.skip("the recording holds no whole answer")
    body = encode(ask("Hello", turn, "And?", provider="openai"))
    assert all(text in strings(body) for text in texts(ask(turn)))
    if recording.vendor != "xai":  # its items have fields that the SDK does not declare; they go back as they came
        assert complaint(body, ResponseCreateParamsStreaming) is None


@pytest.mark.local
def test_a_server_that_is_not_ours_reads_it(local_server: LocalServer) -> None:
    """llama.cpp takes tools, calls and results, and calls the tool when asked to."""
    question = "What is the weather in Paris?"
    body = encode(ask(question, system="Be brief.", tools=[WEATHER], tool_choice="auto", max_tokens=40, temperature=0))
    first = answer(local_server, "/v1/responses", body, provider="openai")
    assert [call.name for call in first.tool_calls] == ["weather"]
    results = [ToolResult(id=call.id, content="21 degrees, sunny") for call in first.tool_calls]
    turns: list[Message | str] = [question, first.message(), Message(role="tool", content=results), "And?"]
    second = answer(
        local_server, "/v1/responses", encode(ask(*turns, tools=[WEATHER], max_tokens=4)), provider="openai"
    )
    assert second.usage.input_tokens is not None
    assert first.usage.input_tokens is not None
    assert second.usage.input_tokens > first.usage.input_tokens
