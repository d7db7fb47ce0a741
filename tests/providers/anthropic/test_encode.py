"""Requests in the words of Anthropic's Messages API."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from hypothesis import given

from rxstream.aggregate import aggregate
from rxstream.config import Request
from rxstream.errors import ConfigurationError
from rxstream.messages import ImagePart, Message, OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolCall, ToolResult
from rxstream.providers import decoder_for
from rxstream.providers.anthropic.encode import DEFAULT_MAX_TOKENS, encode
from rxstream.sources.local import LocalServer
from tests.support.conversations import CALLS, SCHEMA, WEATHER, ask, requests, strings, texts
from tests.support.declared import complaint
from tests.support.genuine import answer
from tests.support.recordings import Recording, each_recording, feed_all


def said(*parts: Any) -> Message:
    return Message(role="assistant", content=list(parts))


def test_the_least_request() -> None:
    """``max_tokens`` is always there, for the API does not go without."""
    assert encode(ask("Hello")) == {
        "model": "m",
        "max_tokens": DEFAULT_MAX_TOKENS,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        "stream": True,
    }


def test_options_go_by_their_own_names() -> None:
    body = encode(ask("Hello", max_tokens=7, stop="END", temperature=0.5, top_p=0.9))
    assert {key: body[key] for key in body.keys() - {"messages", "model", "stream"}} == {
        "max_tokens": 7,
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "top_p": 0.9,
    }


def test_system_at_the_head_is_apart_and_later_ones_keep_their_place() -> None:
    later = Message(role="system", content=[TextPart(text="Now in French.")])
    body = encode(ask("Hello", later, system="Be brief."))
    assert body["system"] == [{"type": "text", "text": "Be brief."}]
    assert [turn["role"] for turn in body["messages"]] == ["user", "system"]


def test_results_in_a_row_are_one_turn_and_come_first_in_it() -> None:
    """The API wants the results of all calls together, before anything else that the user says."""
    assert encode(ask(*CALLS))["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Paris"}},
                {"type": "tool_use", "id": "c2", "name": "weather", "input": {"city": "Rome"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "sun"},
                {"type": "tool_result", "tool_use_id": "c2", "content": "no such city", "is_error": True},
                {"type": "text", "text": "And?"},
            ],
        },
    ]
    mixed = Message(role="user", content=[TextPart(text="And?"), ToolResult(id="c1", content="sun")])
    assert [block["type"] for block in encode(ask(mixed))["messages"][0]["content"]] == ["tool_result", "text"]


def test_images_go_by_url_or_as_data() -> None:
    turn = Message(
        role="user",
        content=[
            ImagePart(url="https://example.org/a.png"),
            ImagePart(data="aGk=", media_type="image/jpeg"),
            ImagePart(url="data:image/gif;base64,aGk="),
        ],
    )
    assert [block["source"] for block in encode(ask(turn))["messages"][0]["content"]] == [
        {"type": "url", "url": "https://example.org/a.png"},
        {"type": "base64", "media_type": "image/jpeg", "data": "aGk="},
        {"type": "base64", "media_type": "image/gif", "data": "aGk="},
    ]


def test_thinking_goes_back_only_with_its_seal() -> None:
    turn = said(
        ThinkingPart(text="hm", signature="sig"),
        ThinkingPart(redacted="blob"),
        ThinkingPart(text="unsigned"),
        ThinkingPart(text="summary", encrypted="of another provider"),
        TextPart(text="So."),
        RefusalPart(text="No."),
    )
    assert encode(ask("Hello", turn))["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "blob"},
        {"type": "text", "text": "So."},
        {"type": "text", "text": "No."},
    ]


def test_an_opaque_part_goes_back_to_its_own_provider_alone() -> None:
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    turn = said(OpaquePart(provider="anthropic", payload=block), OpaquePart(provider="openai", payload={"type": "x"}))
    assert encode(ask("Hello", turn, provider="anthropic"))["messages"][1]["content"] == [block]


def test_empty_texts_are_left_out_for_the_api_refuses_them() -> None:
    body = encode(ask("Hello", said(TextPart(text="")), "you"))
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": word} for word in ("Hello", "you")]}
    ]


@pytest.mark.parametrize("messages", [[""], [Message(role="system", content=[TextPart(text="Be brief.")])]])
def test_a_request_without_a_turn_is_refused(messages: list[Any]) -> None:
    with pytest.raises(ConfigurationError, match="at least one turn of the user"):
        encode(ask(*messages))


@pytest.mark.parametrize("arguments", ["[1]", '{"a": ', "words", "1e999", "[" * 100_000])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    with pytest.raises(ConfigurationError, match="only JSON objects as arguments, which the call of 'f' has not"):
        encode(ask("Hello", said(ToolCall(id="1", name="f", arguments=arguments))))


def test_a_call_of_a_custom_tool_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="only JSON objects"):
        encode(ask("Hello", said(ToolCall(id="1", name="f", arguments="{}", kind="custom"))))


def test_a_call_without_arguments_is_a_call_with_none() -> None:
    body = encode(ask("Hello", said(ToolCall(id="1", name="f"))))
    assert body["messages"][1]["content"][0]["input"] == {}


def test_tools_are_described_in_its_shape() -> None:
    native = {"type": "web_search_20250305", "name": "web_search"}
    body = encode(ask("Hello", tools=[WEATHER | {"strict": True}, {"name": "now", "parameters": {}}, native]))
    assert body["tools"] == [
        {
            "name": "weather",
            "description": WEATHER["description"],
            "input_schema": WEATHER["parameters"],
            "strict": True,
        },
        {"name": "now", "input_schema": {"type": "object"}},
        native,
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "weather"}, {"type": "tool", "name": "weather"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"tool_choice": "required", "parallel_tool_calls": True},
            {"type": "any", "disable_parallel_tool_use": False},
        ),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
    ],
)
def test_tool_choice_in_its_words(options: dict[str, Any], expected: object) -> None:
    assert encode(ask("Hello", tools=[WEATHER], **options)).get("tool_choice") == expected


def test_a_schema_is_an_output_format() -> None:
    body = encode(ask("Hello", response_format=SCHEMA))
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}


def test_reasoning_is_an_effort() -> None:
    body = encode(ask("Hello", reasoning="high"))
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "high"})
    body = encode(ask("Hello", reasoning="none"))
    assert body["thinking"] == {"type": "disabled"}
    assert "output_config" not in body


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 0}, "seed: Anthropic has no such parameter; leave it out"),
        ({"n": 2}, "n: Anthropic has no such parameter"),
        ({"response_format": "json"}, "response_format: Anthropic wants a JSON schema"),
        ({"reasoning": "minimal"}, "reasoning: Anthropic knows"),
    ],
)
def test_what_the_api_cannot_do_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        encode(ask("Hello", **options))


def test_one_answer_is_what_it_gives_anyway() -> None:
    assert "n" not in encode(ask("Hello", n=1))


def test_extra_fields_win() -> None:
    body = encode(ask("Hello", reasoning="high", extra={"thinking": {"type": "disabled"}, "top_k": 5}))
    assert (body["thinking"], body["top_k"]) == ({"type": "disabled"}, 5)


@pytest.mark.parametrize("extra", [{}, {"metadata": {"user_id": "u"}}])
def test_the_body_is_what_the_sdk_declares(extra: dict[str, Any]) -> None:
    """``temperature`` and ``top_p``, which the SDK declares no more, are for older models."""
    body = encode(
        ask(
            *CALLS,
            said(ThinkingPart(text="hm", signature="s"), ThinkingPart(redacted="r"), TextPart(text="Well.")),
            Message(role="user", content=[ImagePart(url="https://e.org/a.png"), ImagePart(data="aGk=")]),
            Message(role="system", content=[TextPart(text="Now in French.")]),
            system="Be brief.",
            tools=[WEATHER | {"strict": False}],
            tool_choice="weather",
            parallel_tool_calls=False,
            max_tokens=5,
            stop=["END"],
            response_format=SCHEMA,
            reasoning="max",
            extra=extra,
        )
    )
    assert complaint(body, MessageCreateParamsStreaming) is None


@given(requests)
def test_any_conversation_is_said_whole_or_refused(request: Request) -> None:
    """No text is lost, and nothing but a `ConfigurationError` is raised."""
    try:
        body = encode(request)
    except ConfigurationError:
        return
    everything = strings(body)
    assert all(text in everything for text in texts(request))
    assert complaint(body, MessageCreateParamsStreaming) is None


@each_recording("anthropic")
def test_a_recorded_answer_can_be_sent_back(recording: Recording) -> None:
    """As a turn of the next request: declared by the SDK, and nothing that was said is lost."""
    events, error = feed_all(decoder_for("anthropic"), recording.body)
    turn = aggregate(events).message()
    if error is not None or not turn.content:
        pytest.skip("the recording holds no whole answer")
    body = encode(ask("Hello", turn, "And?", provider="anthropic"))
    assert all(text in strings(body) for text in texts(ask(turn)))
    beta = {"fallback", "mcp_tool_use", "mcp_tool_result"}  # blocks that the SDK declares elsewhere
    body["messages"][1]["content"] = [block for block in body["messages"][1]["content"] if block["type"] not in beta]
    assert complaint(body, MessageCreateParamsStreaming) is None


@pytest.mark.local
def test_a_server_that_is_not_ours_reads_it(local_server: LocalServer) -> None:
    """llama.cpp takes tools, calls and results, and calls the tool when asked to."""
    question = "What is the weather in Paris?"
    body = encode(ask(question, system="Be brief.", tools=[WEATHER], tool_choice="auto", max_tokens=40, temperature=0))
    first = answer(local_server, "/v1/messages", body, provider="anthropic")
    assert [call.name for call in first.tool_calls] == ["weather"]
    results = [ToolResult(id=call.id, content="21 degrees, sunny") for call in first.tool_calls]
    turns: list[Message | str] = [question, first.message(), Message(role="tool", content=results), "And?"]
    second = answer(
        local_server, "/v1/messages", encode(ask(*turns, tools=[WEATHER], max_tokens=4)), provider="anthropic"
    )
    assert second.usage.input_tokens is not None
    assert first.usage.input_tokens is not None
    assert second.usage.input_tokens > first.usage.input_tokens
