"""The request by which a model is asked to go on, and what requests may cost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rxstream.config import Request
from rxstream.messages import Message, TextPart
from rxstream.providers import PROVIDERS, provider
from rxstream.sources._continuation import GO_ON, continued, tokens_of
from rxstream.sources.sdk import encode_for


def ask(target: str = "compatible:m", **more: Any) -> Request:
    name, _, model = target.partition(":")
    return Request.build(provider=name, model=model, messages=more.pop("messages", "hello"), **more)


def go_on(request: Request, text: str = "Hel lo") -> tuple[Request, str]:
    """What it is continued with, which must be possible."""
    found = continued(request, provider(request.provider), text)
    assert not isinstance(found, str), found
    return found


def sent(request: Request) -> dict[str, Any]:
    """The body of the request."""
    return encode_for(request, provider(request.provider))


# --- the bodies ---------------------------------------------------------------------------------------------------------


def test_words_for_chat_completions() -> None:
    """The text as the model's turn, as it is, and the instruction as ours."""
    request, kind = go_on(ask(max_tokens=9), "Hel lo \n")
    assert kind == "user_message"
    assert sent(request)["messages"] == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "Hel lo \n"},
        {"role": "user", "content": GO_ON},
    ]
    assert sent(request)["max_tokens"] == 9


def test_words_for_responses() -> None:
    request, kind = go_on(ask("openai:gpt-9", system="Be brief."))
    assert kind == "user_message"
    assert [(item["role"], item["content"]) for item in sent(request)["input"]] == [
        ("system", "Be brief."),
        ("user", "hello"),
        ("assistant", "Hel lo"),
        ("user", GO_ON),
    ]


def test_words_for_anthropic() -> None:
    request, kind = go_on(ask("anthropic:claude-opus-4-6"))
    assert kind == "user_message"
    assert [(turn["role"], turn["content"][0]["text"]) for turn in sent(request)["messages"]] == [
        ("user", "hello"),
        ("assistant", "Hel lo"),
        ("user", GO_ON),
    ]


def test_prefill_for_anthropic() -> None:
    request, kind = go_on(ask("anthropic:claude-haiku-4-5"))
    assert kind == "prefill"
    assert sent(request)["messages"][1:] == [{"role": "assistant", "content": [{"type": "text", "text": "Hel lo"}]}]


@pytest.mark.parametrize("target", ["llamacpp:m", "local:smollm2"])
def test_prefill_for_llamacpp(target: str) -> None:
    request, kind = go_on(ask(target), "Hel lo ")
    assert kind == "prefill"
    assert sent(request)["messages"][1:] == [{"role": "assistant", "content": "Hel lo "}]


def test_prefill_for_vllm() -> None:
    request, kind = go_on(ask("vllm:m", extra={"top_k": 3}))
    assert kind == "prefill"
    body = sent(request)
    assert body["messages"][1:] == [{"role": "assistant", "content": "Hel lo"}]
    assert (body["continue_final_message"], body["add_generation_prompt"], body["top_k"]) == (True, False, 3)


@pytest.mark.parametrize("target", ["moonshot:kimi-k2.5", "alibaba:qwen-max"])
def test_prefill_where_the_message_is_marked(target: str) -> None:
    request, kind = go_on(ask(target))
    assert kind == "prefill"
    assert sent(request)["messages"][1:] == [{"role": "assistant", "content": "Hel lo", "partial": True}]


# --- who takes prefill --------------------------------------------------------------------------------------------------

PREFILL = [
    "claude-instant-1.2",
    "claude-2.1",
    "claude-3-haiku-20240307",
    "claude-3-5-sonnet-latest",
    "claude-3-7-sonnet-20250219",
    "claude-sonnet-4-20250514",
    "claude-opus-4-0",
    "claude-opus-4-1-20250805",
    "claude-haiku-4-5",
    "claude-sonnet-4-5-20250929",
    "claude-sonnet-4@20250514",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
]
NO_PREFILL = [
    "claude-opus-4-6",
    "claude-sonnet-4-6-20260301",
    "claude-opus-4-7",
    "claude-sonnet-4-10",
    "claude-opus-5",
    "claude-sonnet-5-0",
    "claude-fable-5",
    "claude-mythos-5-1",
    "us.anthropic.claude-opus-4-6-v1",
]


@pytest.mark.parametrize(
    ("model", "kind"), [(m, "prefill") for m in PREFILL] + [(m, "user_message") for m in NO_PREFILL]
)
def test_anthropics_models(model: str, kind: str) -> None:
    """Those before 4.6, and none that we do not know."""
    assert go_on(ask(f"anthropic:{model}"))[1] == kind


@pytest.mark.parametrize(
    "target", ["moonshot:deepseek-v3", "alibaba:deepseek-r1", "mistral:m", "deepseek:m", "ollama:m"]
)
def test_who_is_asked_in_words(target: str) -> None:
    """Where prefill is not documented for the model, needs another address, or is said again in the answer."""
    assert go_on(ask(target))[1] == "user_message"


@pytest.mark.parametrize(
    ("target", "more"),
    [
        ("anthropic:claude-haiku-4-5", {"reasoning": "high"}),
        ("anthropic:claude-haiku-4-5", {"extra": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}),
        ("llamacpp:m", {"reasoning": "low"}),
        ("llamacpp:m", {"extra": {"chat_template_kwargs": {"enable_thinking": True}}}),
    ],
)
def test_no_prefill_where_the_model_reasons(target: str, more: dict[str, Any]) -> None:
    assert go_on(ask(target, **more))[1] == "user_message"


@pytest.mark.parametrize(
    ("target", "more"),
    [
        ("anthropic:claude-haiku-4-5", {"reasoning": "none"}),
        ("anthropic:claude-haiku-4-5", {"extra": {"thinking": {"type": "disabled"}}}),
        ("llamacpp:m", {"extra": {"chat_template_kwargs": {"enable_thinking": False}}}),
    ],
)
def test_prefill_where_it_does_not(target: str, more: dict[str, Any]) -> None:
    assert go_on(ask(target, **more))[1] == "prefill"


def test_anthropic_takes_no_space_at_the_end() -> None:
    """It refuses one; and the text is not trimmed."""
    request, kind = go_on(ask("anthropic:claude-haiku-4-5"), "Hel lo\n")
    assert kind == "user_message"
    assert request.messages[1].text == "Hel lo\n"


# --- what cannot be continued -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "text", "why"),
    [
        (ask(), "", "nothing was said"),
        (ask("anthropic:claude-opus-4-6"), " \n", "blanks"),
        (ask(response_format="json"), "{", "response_format"),
        (ask(extra={"response_format": {"type": "json_object"}}), "{", "response_format"),
        (ask("openai:m", extra={"text": {"format": {"type": "json_object"}}}), "{", "response_format"),
        (ask("llamacpp:m", extra={"grammar": "root ::= x"}), "x", "response_format"),
        (ask(n=2), "x", "more than one"),
        (ask(extra={"n": 2}), "x", "more than one"),
    ],
)
def test_why_not(request_: Request, text: str, why: str) -> None:
    """It is said in words."""
    found = continued(request_, provider(request_.provider), text)
    assert isinstance(found, str)
    assert why in found


@pytest.mark.parametrize("more", [{"n": 1}, {"extra": {"n": 1}}, {"extra": {"text": {"verbosity": "low"}}}])
def test_why_so(more: dict[str, Any]) -> None:
    """What is no reason against it."""
    assert go_on(ask(**more))


# --- laws ---------------------------------------------------------------------------------------------------------------


@given(
    text=st.text(st.characters(codec="utf-8"), min_size=1),
    name=st.sampled_from(sorted({row.name for row in PROVIDERS.values()})),
    model=st.sampled_from(["qwen-max", "kimi-k2", "claude-haiku-4-5", "claude-opus-4-6", "m"]),
    begun=st.booleans(),
)
def test_the_text_is_never_changed(text: str, name: str, model: str, begun: bool) -> None:
    """Whoever is asked, and also where the caller has begun the answer himself; what came before stays as it was."""
    asked = ask(f"{name}:{model}", messages=["hello", {"role": "assistant", "content": "So: "}] if begun else "hello")
    assume(begun or name != "anthropic" or not text.isspace())
    request, kind = go_on(asked, text)
    turns = request.messages
    assert turns[0] == asked.messages[0]
    assert (turns[1].role, turns[1].text) == ("assistant", f"So: {text}" if begun else text)
    assert [turn.text for turn in turns[2:]] == ([] if kind == "prefill" else [GO_ON])
    assert any(text in said for said in _strings(sent(request)))


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for child in children for text in _strings(child)]


def test_an_answer_begun_by_the_caller_that_does_not_end_with_text() -> None:
    """The text is a part of its own behind it."""
    call = {"type": "tool_call", "id": "c", "name": "f", "arguments": {}}
    begun = Message(role="assistant", content=[call])
    request, _ = go_on(ask(messages=[Message(role="user", content="hello"), begun]))
    assert request.messages[1].content == [*begun.content, TextPart(text="Hel lo")]


# --- tokens -------------------------------------------------------------------------------------------------------------


def test_what_is_counted() -> None:
    """More text, tools, images, turns, answers and a schema: each makes it more."""
    bare = tokens_of(ask(), provider("compatible"))
    image = {"role": "user", "content": [{"type": "image", "data": "A" * 90_000}]}
    more: list[dict[str, Any]] = [
        {"messages": "hello " * 100},
        {"messages": ["hello", "hello"]},
        {"system": "Be brief."},
        {"tools": [{"name": "f", "description": "d" * 100}]},
        {"response_format": {"type": "object", "properties": {"a": {"type": "string"}}}},
        {"max_tokens": 2000},
        {"extra": {"max_completion_tokens": 2000}},
        {"n": 2},
        {"messages": ["hello", image]},
    ]
    for change in more:
        assert tokens_of(ask(**change), provider("compatible")) > bare, change
    assert tokens_of(ask(messages=[image]), provider("compatible")) < 3000  # its bytes are not text


def test_what_is_written_where_no_limit_is_given() -> None:
    """Ours, or what Anthropic is asked for then."""
    assert 1024 <= tokens_of(ask(), provider("compatible")) < 1100
    assert 4096 <= tokens_of(ask("anthropic:m"), provider("anthropic")) < 4200


@pytest.mark.parametrize(
    "text", ["The quick brown fox jumps. " * 40, "天地玄黃宇宙洪荒" * 40, "def f(x):\n    return x\n" * 40]
)
def test_the_estimate_is_from_above(text: str) -> None:
    """A token is seldom less than three bytes: English has four letters in it, Chinese one sign."""
    given = tokens_of(ask(messages=text, max_tokens=1), provider("compatible"))
    assert given > len(text) / (1 if ord(text[0]) > 255 else 4)
