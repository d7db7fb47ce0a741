"""Requests in the words of the Chat Completions API."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from rxstream.aggregate import aggregate
from rxstream.config import Request
from rxstream.messages import ImagePart, Message, OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolCall, ToolResult
from rxstream.providers import decoder_for
from rxstream.providers.openai_chat.encode import encode
from rxstream.sources.local import LocalServer
from tests.support.conversations import CALLS, SCHEMA, WEATHER, ask, requests, strings, texts
from tests.support.declared import complaint
from tests.support.genuine import answer
from tests.support.recordings import Recording, each_recording, feed_all


def said(*parts: Any) -> Message:
    return Message(role="assistant", content=list(parts))


def test_the_least_request() -> None:
    """Usage is asked for, since it does not come unasked."""
    assert encode(ask("Hello")) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_usage_is_not_asked_for_where_nobody_wants_it_or_the_server_refuses() -> None:
    assert "stream_options" not in encode(ask("Hello", include_usage=False))
    assert "stream_options" not in encode(ask("Hello"), usage_option=False)


def test_options_go_by_their_own_names() -> None:
    body = encode(
        ask("Hello", max_tokens=7, stop="END", temperature=0.5, top_p=0.9, seed=0, n=2, reasoning="low"),
    )
    assert {key: body[key] for key in body.keys() - {"messages", "model", "stream", "stream_options"}} == {
        "max_tokens": 7,
        "stop": ["END"],
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 0,
        "n": 2,
        "reasoning_effort": "low",
    }


def test_the_limit_goes_by_the_name_that_the_server_knows() -> None:
    body = encode(ask("Hello", max_tokens=7), max_tokens_field="max_completion_tokens")
    assert body["max_completion_tokens"] == 7
    assert "max_tokens" not in body


def test_texts_alone_are_one_string() -> None:
    """Some servers read nothing else."""
    turn = Message(role="user", content=[TextPart(text="Hel"), TextPart(text="lo")])
    assert encode(ask(turn, system="Be brief."))["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]


def test_images_make_the_content_a_list() -> None:
    turn = Message(
        role="user",
        content=[
            TextPart(text="This?"),
            ImagePart(url="https://e.org/a.png"),
            ImagePart(data="aGk=", media_type="image/gif"),
        ],
    )
    assert encode(ask(turn))["messages"][0]["content"] == [
        {"type": "text", "text": "This?"},
        {"type": "image_url", "image_url": {"url": "https://e.org/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/gif;base64,aGk="}},
    ]


def test_calls_and_results_go_as_messages_of_their_own() -> None:
    assert encode(ask(*CALLS))["messages"][1:] == [
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}},
                {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "tool", "tool_call_id": "c2", "content": "no such city"},
        {"role": "user", "content": "And?"},
    ]


def test_results_come_before_what_else_the_turn_says() -> None:
    turn = Message(role="user", content=[TextPart(text="And?"), ToolResult(id="c1", content="sun")])
    assert [message["role"] for message in encode(ask(turn))["messages"]] == ["tool", "user"]


def test_calls_without_arguments_and_of_custom_tools() -> None:
    turn = said(ToolCall(id="1", name="now"), ToolCall(id="2", name="shell", arguments="ls", kind="custom"))
    message = encode(ask("Hello", turn))["messages"][1]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}},
        {"id": "2", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
    ]


def test_a_refusal_is_sent_back_as_one() -> None:
    message = encode(ask("Hello", said(RefusalPart(text="I will not."))))["messages"][1]
    assert message == {"role": "assistant", "content": None, "refusal": "I will not."}


def test_thinking_goes_back_only_where_the_server_wants_it() -> None:
    request = ask("Hello", said(ThinkingPart(text="hm"), TextPart(text="So.")))
    assert encode(request)["messages"][1] == {"role": "assistant", "content": "So."}
    assert encode(request, thinking_field="reasoning_content")["messages"][1] == {
        "role": "assistant",
        "content": "So.",
        "reasoning_content": "hm",
    }


def test_an_answer_of_nothing_but_thinking_is_still_a_turn() -> None:
    request = ask("Hello", said(ThinkingPart(text="hm")), "Well?")
    assert encode(request)["messages"][1] == {"role": "assistant", "content": ""}


def test_an_opaque_part_goes_back_to_its_own_provider_alone() -> None:
    """In the assistant's turn its fields are the message's, elsewhere it is a part of the content."""
    foreign = OpaquePart(provider="anthropic", payload={"type": "compaction"})
    audio = OpaquePart(provider="openrouter", payload={"audio": {"id": "a"}})
    video = OpaquePart(provider="openrouter", payload={"type": "video_url", "video_url": {"url": "u"}})
    request = ask(
        Message(role="user", content=[video, foreign, TextPart(text="This?")]),
        said(foreign, audio),
        provider="openrouter",
    )
    assert encode(request)["messages"] == [
        {"role": "user", "content": [video.payload, {"type": "text", "text": "This?"}]},
        {"role": "assistant", "content": "", "audio": {"id": "a"}},
    ]


def test_tools_are_described_in_its_shape() -> None:
    native = {"type": "custom", "custom": {"name": "shell"}, "name": "shell"}
    body = encode(ask("Hello", tools=[WEATHER | {"strict": True}, {"name": "now"}, native]))
    assert body["tools"] == [
        {"type": "function", "function": WEATHER | {"strict": True}},
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
        native,
    ]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("weather", {"type": "function", "function": {"name": "weather"}}),
    ],
)
def test_tool_choice_in_its_words(wanted: str | None, expected: object) -> None:
    assert encode(ask("Hello", tools=[WEATHER], tool_choice=wanted)).get("tool_choice") == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("json", {"type": "json_object"}),
        (SCHEMA, {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        ),
    ],
)
def test_response_formats_in_its_words(wanted: Any, expected: object) -> None:
    assert encode(ask("Hello", response_format=wanted))["response_format"] == expected


def test_extra_fields_win() -> None:
    body = encode(ask("Hello", temperature=0.1, extra={"temperature": 0.9, "min_p": 0.1}))
    assert (body["temperature"], body["min_p"]) == (0.9, 0.1)


def test_the_body_is_what_the_sdk_declares() -> None:
    body = encode(
        ask(
            *CALLS,
            said(RefusalPart(text="No."), ToolCall(id="x", name="shell", arguments="ls", kind="custom")),
            Message(role="user", content=[TextPart(text="This?"), ImagePart(data="aGk=")]),
            system="Be brief.",
            tools=[WEATHER],
            tool_choice="weather",
            parallel_tool_calls=False,
            max_tokens=5,
            temperature=1,
            top_p=1,
            stop=["END"],
            seed=1,
            n=1,
            response_format=SCHEMA,
            reasoning="xhigh",
        )
    )
    assert complaint(body, CompletionCreateParamsStreaming) is None


@given(requests)
def test_any_conversation_is_said_whole(request: Request) -> None:
    """No text is lost, and nothing is raised."""
    body = encode(request)
    everything = strings(body)
    assert all(text in everything for text in texts(request))
    assert complaint(body, CompletionCreateParamsStreaming) is None


@each_recording("chat")
def test_a_recorded_answer_can_be_sent_back(recording: Recording) -> None:
    """As a turn of the next request: declared by the SDK, and nothing that was said is lost."""
    events, error = feed_all(decoder_for("compatible"), recording.body)
    turn = aggregate(events).message()
    if error is not None or not turn.content:
        pytest.skip("the recording holds no whole answer")
    body = encode(ask("Hello", turn, "And?", provider="compatible"))
    assert all(text in strings(body) for text in texts(ask(turn)))
    assert complaint(body, CompletionCreateParamsStreaming) is None


@pytest.mark.local
def test_a_server_that_is_not_ours_reads_it(local_server: LocalServer) -> None:
    """llama.cpp takes tools, calls and results, and calls the tool when asked to."""
    question = "What is the weather in Paris?"
    body = encode(ask(question, system="Be brief.", tools=[WEATHER], tool_choice="auto", max_tokens=40, temperature=0))
    first = answer(local_server, "/v1/chat/completions", body, provider="llamacpp")
    assert [call.name for call in first.tool_calls] == ["weather"]
    results = [ToolResult(id=call.id, content="21 degrees, sunny") for call in first.tool_calls]
    turns: list[Message | str] = [question, first.message(), Message(role="tool", content=results), "And?"]
    second = answer(
        local_server, "/v1/chat/completions", encode(ask(*turns, tools=[WEATHER], max_tokens=4)), provider="llamacpp"
    )
    assert second.usage.input_tokens is not None
    assert first.usage.input_tokens is not None
    assert second.usage.input_tokens > first.usage.input_tokens
