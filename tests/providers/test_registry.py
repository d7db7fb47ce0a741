"""The registry: every name in use leads to a provider, and each provider to the decoder of its dialect."""

from __future__ import annotations

import pytest

from rxstream.errors import ConfigurationError, LimitExceeded
from rxstream.events import Started
from rxstream.providers import PROVIDERS, decoder_for, provider
from rxstream.providers.anthropic.decode import AnthropicDecoder
from rxstream.providers.openai_chat.decode import ChatDecoder
from rxstream.providers.openai_responses.decode import ResponsesDecoder
from rxstream.typing import Decoder
from tests.support.recordings import Recording, each_recording, feed_all

DECODERS: dict[str, type[Decoder]] = {
    "anthropic": AnthropicDecoder,
    "openai-chat": ChatDecoder,
    "openai-responses": ResponsesDecoder,
}


@pytest.mark.parametrize(
    ("name", "canonical", "dialect"),
    [
        ("anthropic", "anthropic", "anthropic"),
        ("openai", "openai", "openai-responses"),
        ("openai-responses", "openai", "openai-responses"),
        ("openai-chat", "openai-chat", "openai-chat"),
        ("OpenRouter", "openrouter", "openai-chat"),
        ("xai", "xai", "openai-chat"),
        ("xai-responses", "xai-responses", "openai-responses"),
        ("azure", "azure", "openai-chat"),
        ("compatible", "compatible", "openai-chat"),
        ("openai-compatible", "compatible", "openai-chat"),
        ("local", "local", "openai-chat"),
        ("llamacpp", "llamacpp", "openai-chat"),
        ("llama.cpp", "llamacpp", "openai-chat"),
        ("lm-studio", "lmstudio", "openai-chat"),
        ("vllm", "vllm", "openai-chat"),
        ("ollama", "ollama", "openai-chat"),
        ("groq", "groq", "openai-chat"),
        ("deepseek", "deepseek", "openai-chat"),
        ("mistral", "mistral", "openai-chat"),
        ("together", "together", "openai-chat"),
        ("perplexity", "perplexity", "openai-chat"),
    ],
)
def test_names(name: str, canonical: str, dialect: str) -> None:
    """Every spelling finds its provider, in any case."""
    assert (provider(name).name, provider(name).dialect) == (canonical, dialect)


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_has_a_decoder(name: str) -> None:
    """Of its dialect, with the same options."""
    decoder = decoder_for(name, keep_raw=False, max_event_bytes=20)
    assert isinstance(decoder, Decoder)
    assert type(decoder) is DECODERS[provider(name).dialect]
    with pytest.raises(LimitExceeded):
        decoder.feed(b"data: 012345678901234567890")


def test_each_stream_has_a_decoder_of_its_own() -> None:
    """State is not shared."""
    assert decoder_for("openai-chat") is not decoder_for("openai-chat")


@pytest.mark.parametrize("name", ["openai", "llama.cpp", "xai"])
def test_an_answer_says_who_gave_it(name: str) -> None:
    """By the provider's own name, however it was spelt."""
    body = (
        b'data: {"type":"response.created","response":{"id":"r","model":"m"}}\n\n'
        if name == "openai"
        else b'data: {"id":"r","model":"m","choices":[]}\n\n'
    )
    (started,) = decoder_for(name, keep_raw=False).feed(body)
    assert started == Started(id="r", model="m", provider=provider(name).name)


@pytest.mark.parametrize("option", [True, False])
@each_recording("chat", "anthropic", "responses")
def test_every_dialect_keeps_raw_bytes_or_drops_them(recording: Recording, *, option: bool) -> None:
    """As it is told."""
    name = {"chat": "compatible", "anthropic": "anthropic", "responses": "openai"}[recording.meta["protocol"]]
    events, _ = feed_all(decoder_for(name, keep_raw=option), recording.body)
    assert any(event.raw is not None for event in events) == option


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("anthropc", "did you mean anthropic"),
        ("open-router", "openrouter"),
        ("zzz", "known are alibaba, anthropic"),
        ("", "known are"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, words: str) -> None:
    """Or with all, where none is near."""
    for ask in (provider, decoder_for):
        with pytest.raises(ConfigurationError, match=words):
            ask(name)


def test_the_registry_cannot_be_changed() -> None:
    """It is a view."""
    with pytest.raises(TypeError):
        PROVIDERS["x"] = PROVIDERS["xai"]  # type: ignore[index]  # that is the point


def test_keys_and_addresses_of_the_two_big_ones() -> None:
    """In the variables of their own SDKs."""
    for name, prefix in (("anthropic", "ANTHROPIC"), ("openai", "OPENAI"), ("openai-chat", "OPENAI")):
        row = provider(name)
        assert (row.api_key_env, row.base_url_env) == ((f"{prefix}_API_KEY",), (f"{prefix}_BASE_URL",))
