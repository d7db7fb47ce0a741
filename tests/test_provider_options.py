"""What a provider can be asked besides: its own words, and no others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import version
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import pytest

from rxstream._request_fields import OURS
from rxstream.errors import ConfigurationError
from rxstream.provider_options import (
    AnthropicOptions,
    AnyOptions,
    ChatOptions,
    LlamaCppOptions,
    OpenAIOptions,
    ProviderOptions,
    options_of,
    provider_name,
)
from rxstream.providers import PROVIDERS

OLDER = {"top_k"}
"""Of Anthropic's older models: the SDK has it no more."""
NOT_STREAMED = {"background_options"}
"""For requests that are not streamed."""
TRIED = {"openai": ("3.52.0", "3.54.0"), "anthropic": ("2.11.0",)}
"""Of later SDKs what is new has not been looked at; until then ``extra=`` takes it."""


SDKS = pytest.mark.parametrize(
    ("kind", "module", "name"),
    [
        (AnthropicOptions, "anthropic.types.message_create_params", "MessageCreateParamsBase"),
        (OpenAIOptions, "openai.types.responses.response_create_params", "ResponseCreateParamsBase"),
        (ChatOptions, "openai.types.chat.completion_create_params", "CompletionCreateParamsBase"),
    ],
)


def later(module: str) -> bool:
    sdk = module.partition(".")[0]
    return version(sdk) not in TRIED[sdk]


@SDKS
def test_the_fields_are_those_of_the_sdk(kind: type[ProviderOptions], module: str, name: str) -> None:
    """Each is an option, or is said by an argument of `stream`."""
    fields = set(getattr(pytest.importorskip(module), name).__annotations__)
    ours = set(OURS)
    assert set(kind.model_fields) - fields <= OLDER
    assert not set(kind.model_fields) & ours
    new = fields - set(kind.model_fields) - ours - NOT_STREAMED
    if new and later(module):
        pytest.skip(f"{version(module.partition('.')[0])} has new fields: {', '.join(sorted(new))}")
    assert not new


@SDKS
def test_what_the_sdk_takes_is_taken(kind: type[ProviderOptions], module: str, name: str) -> None:
    """Each word of a list of words, and a value of each type."""
    hints = get_type_hints(getattr(pytest.importorskip(module), name))
    refused: list[str] = []
    for field in kind.model_fields.keys() & hints.keys():
        for value in samples(hints[field]):
            try:
                assert kind.checked({field: value}).body() == ({} if value is None else {field: value})
            except ConfigurationError as error:
                refused.append(str(error))
    if refused and later(module):
        pytest.skip(f"{version(module.partition('.')[0])} takes more: {refused}")
    assert not refused


def samples(kind: Any) -> list[Any]:
    """Values of a type of the SDK."""
    origin, within = get_origin(kind), get_args(kind)
    if origin in (Required, NotRequired, Annotated):
        return samples(within[0])
    if origin is Literal:
        return list(within)
    if origin in (Union, UnionType):
        return [value for each in within for value in samples(each)]
    if origin in (list, Iterable):
        return [[], samples(within[0])]
    if origin is dict:
        return [{}, {"a": samples(within[1])[0]}]
    plain: dict[Any, Any] = {str: "a", bool: True, int: 1, float: 0.5, NoneType: None}
    return [plain[kind]] if kind in plain else [{}]


def test_what_no_option_is_like_is_for_extra() -> None:
    with pytest.raises(ConfigurationError, match=r"allowed: cache_control, .*; extra= of stream\(\) takes any$"):
        options_of("anthropic", {"betas": []})


@pytest.mark.parametrize(
    ("provider", "given", "said"),
    [
        (
            "anthropic",
            {"service_teir": "auto"},
            "anthropic: unknown option 'service_teir'; did you mean 'service_tier'?",
        ),
        ("anthropic", {"service_tier": "fast"}, "anthropic: service_tier: "),
        ("anthropic", {"verbosity": "low"}, "unknown option 'verbosity'; allowed: cache_control"),
        ("openai", {"max_output_tokens": 5}, "openai: max_output_tokens: is the argument max_tokens= of stream()"),
        ("openai", {"store": "yes"}, "openai: store: must be True or False"),
        ("openai-chat", {"frequency_penalty": 3}, "openai-chat: frequency_penalty: "),
        ("local", {"top_k": "40"}, "local: top_k: must be a whole number, not '40'"),
        ("groq", {"temperature": 1.0}, "groq: temperature: is the argument temperature= of stream()"),
        ("groq", {"citations": object()}, "groq: AnyOptions: has what JSON cannot say"),
        ("mistral", {"stream": False}, "mistral: stream: is always true here"),
        ("antropic", {}, "unknown provider 'antropic'; did you mean 'anthropic'?"),
        ("anthropic", 5, "anthropic: "),
        ("anthropic", LlamaCppOptions(top_k=4), "anthropic: takes AnthropicOptions, not a LlamaCppOptions"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(provider: str, given: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        options_of(provider, given)
    assert said in str(caught.value)


def test_only_what_is_set_is_sent() -> None:
    """None is not set."""
    options = options_of("local", {"top_k": 40, "min_p": None})
    assert options.body() == {"top_k": 40}
    assert options == LlamaCppOptions(top_k=40)
    assert repr(options) == "LlamaCppOptions(top_k=40)"
    assert options_of("local").body() == {}


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_every_provider_has_options(provider: str) -> None:
    """And they survive being written down."""
    options = options_of(provider, {"metadata": {"user": "me"}} if provider in ("anthropic", "openai") else {})
    assert options_of(provider, json.loads(options.model_dump_json())) == options


def test_a_provider_of_whom_nothing_is_known_takes_any() -> None:
    options = options_of("groq", {"citation_options": "enabled", "depth": [1, {"deep": None}]})
    assert isinstance(options, AnyOptions)
    assert options.body() == {"citation_options": "enabled", "depth": [1, {"deep": None}]}
    assert json.loads(options.model_dump_json()) == options.body()


@pytest.mark.parametrize("name", ["body", "copy", "json", "model_fields", "schema"])
def test_an_option_may_have_the_name_of_something_of_ours(name: str) -> None:
    options = options_of("groq", {name: 5})
    assert options.body() == json.loads(options.model_dump_json()) == {name: 5}
    assert repr(options) == f"AnyOptions({name}=5)"


@pytest.mark.parametrize(
    ("given", "name"),
    [("Grok", "xai"), ("openai_chat", "openai-chat"), ("openai-responses", "openai"), ("llama_cpp", "llamacpp")],
)
def test_a_provider_goes_by_its_other_names(given: str, name: str) -> None:
    assert provider_name(given) == name
