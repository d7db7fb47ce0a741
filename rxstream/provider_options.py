"""What a provider can be asked that `rxstream.stream` has no argument for: typed, for each provider whose fields are known.

Rules of this module:

* A field has the provider's own name and meaning, and goes into the body of the request as it is; what is not set, or None, is not sent.
* What `rxstream.stream` has an argument for is refused here, with that argument's name: two ways to say one thing would contradict
  each other.
* An unknown key is refused with the nearest name. Only a provider whose fields we do not know takes any. What is too new to be
  known, or needs a header besides (Anthropic's betas), is said for a stream: ``extra=`` takes anything.

The fields are those of the official SDKs' request types (a test compares them and their types), and for servers without an SDK of
their own those of their documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import ConfigDict

from rxstream._check import show
from rxstream._input import hint
from rxstream._request_fields import (
    Count,
    Few,
    Flag,
    Number,
    Object,
    Penalty,
    Positive,
    ProviderOptions,
    Sampling,
    Share,
    Text,
    Whole,
    Words,
)
from rxstream.errors import ConfigurationError
from rxstream.providers import PROVIDERS

__all__ = [
    "AnthropicOptions",
    "AnyOptions",
    "ChatOptions",
    "DeepSeekOptions",
    "LlamaCppOptions",
    "MistralOptions",
    "OllamaOptions",
    "OpenAIOptions",
    "OpenRouterOptions",
    "ProviderOptions",
    "VLLMOptions",
    "XAIOptions",
    "XAIResponsesOptions",
    "options_of",
    "provider_name",
]


class AnthropicOptions(ProviderOptions):
    """Anthropic's Messages API."""

    cache_control: Object = None
    container: str | dict[str, Any] | None = None
    diagnostics: Object = None
    inference_geo: Text = None
    metadata: Object = None
    output_config: Object = None
    service_tier: Literal["auto", "standard_only"] | None = None
    speed: Literal["standard", "fast"] | None = None
    thinking: Object = None
    top_k: Count = None
    """Of models before 4.6; the SDK has it no more."""
    user_profile_id: Text = None
    workspace_id: Text = None


class OpenAIOptions(ProviderOptions):
    """OpenAI's Responses API."""

    access_programs: Object = None
    background: Flag = None
    context_management: list[dict[str, Any]] | None = None
    conversation: str | dict[str, Any] | None = None
    image: Object = None
    include: Words = None
    max_tool_calls: Count = None
    metadata: dict[str, str] | None = None
    moderation: Object = None
    previous_response_id: Text = None
    prompt: Object = None
    prompt_cache_key: Text = None
    prompt_cache_options: Object = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    reasoning: Object = None
    safety_identifier: Text = None
    service_tier: Text = None
    store: Flag = None
    stream_options: Object = None
    text: Object = None
    top_logprobs: Few = None
    truncation: Literal["auto", "disabled"] | None = None
    user: Text = None


class ChatOptions(Sampling):
    """OpenAI's Chat Completions API, at OpenAI and in Azure."""

    audio: Object = None
    metadata: dict[str, str] | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    moderation: Object = None
    prediction: Object = None
    prompt_cache_key: Text = None
    prompt_cache_options: Object = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    safety_identifier: Text = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    store: Flag = None
    verbosity: Literal["low", "medium", "high"] | None = None
    web_search_options: Object = None


class XAIOptions(Sampling):
    """xAI's Chat Completions."""

    search_parameters: Object = None
    service_tier: Text = None
    web_search_options: Object = None


class XAIResponsesOptions(OpenAIOptions):
    """xAI's Responses API."""

    logprobs: Flag = None
    max_turns: Count = None
    search_parameters: Object = None


class LlamaCppOptions(Sampling):
    """llama.cpp's server, which is also that of the local model."""

    adaptive_decay: Number = None
    adaptive_target: Number = None
    cache_prompt: Flag = None
    chat_template_kwargs: Object = None
    dry_allowed_length: Whole = None
    dry_base: Number = None
    dry_multiplier: Number = None
    dry_penalty_last_n: Whole = None
    dry_sequence_breakers: Words = None
    dynatemp_exponent: Number = None
    dynatemp_range: Number = None
    grammar: Text = None
    id_slot: Whole = None
    ignore_eos: Flag = None
    json_schema: Object = None
    logit_bias: dict[str, float] | list[Any] | None = None  # type: ignore[assignment]  # more than the others take
    lora: list[dict[str, Any]] | None = None
    min_keep: Count = None
    min_p: Share = None
    mirostat: Literal[0, 1, 2] | None = None
    mirostat_eta: Number = None
    mirostat_tau: Number = None
    n_cache_reuse: Count = None
    n_discard: Whole = None
    n_keep: Whole = None
    n_probs: Count = None
    post_sampling_probs: Flag = None
    reasoning_format: Text = None
    repeat_last_n: Whole = None
    repeat_penalty: Positive = None
    return_progress: Flag = None
    return_tokens: Flag = None
    samplers: Words = None
    sse_ping_interval: Whole = None
    t_max_predict_ms: Whole = None
    thinking_budget_tokens: Whole = None
    timings_per_token: Flag = None
    top_k: Whole = None
    top_n_sigma: Number = None
    typical_p: Share = None
    xtc_probability: Share = None
    xtc_threshold: Share = None


class OllamaOptions(Sampling):
    """Ollama's own endpoint for Chat Completions, which knows few of them; the rest is set in the model's file."""


class VLLMOptions(Sampling):
    """vLLM's server."""

    add_generation_prompt: Flag = None
    add_special_tokens: Flag = None
    allowed_token_ids: list[int] | None = None
    bad_words: Words = None
    cache_salt: Text = None
    chat_template: Text = None
    chat_template_kwargs: Object = None
    continue_final_message: Flag = None
    documents: list[dict[str, str]] | None = None
    echo: Flag = None
    ignore_eos: Flag = None
    include_reasoning: Flag = None
    include_stop_str_in_output: Flag = None
    kv_transfer_params: Object = None
    length_penalty: Number = None
    logprob_token_ids: list[int] | None = None
    media_io_kwargs: Object = None
    min_p: Share = None
    min_tokens: Count = None
    mm_processor_kwargs: Object = None
    priority: Whole = None
    prompt_logprobs: Whole = None
    repetition_detection: Object = None
    repetition_penalty: Positive = None
    request_id: Text = None
    return_token_ids: Flag = None
    return_tokens_as_token_ids: Flag = None
    session_id: Text = None
    skip_special_tokens: Flag = None
    spaces_between_special_tokens: Flag = None
    stop_token_ids: list[int] | None = None
    stream_interval: Count = None
    structured_outputs: Object = None
    thinking_token_budget: Whole = None
    top_k: Whole = None
    top_logprobs: Whole = None
    truncate_prompt_tokens: Whole = None
    truncation_side: Literal["left", "right"] | None = None
    use_beam_search: Flag = None
    vllm_xargs: Object = None


class OpenRouterOptions(Sampling):
    """OpenRouter."""

    cache_control: Object = None
    debug: Object = None
    image_config: Object = None
    max_price: Object = None
    metadata: dict[str, str] | None = None
    min_p: Share = None
    modalities: Words = None
    models: Words = None
    plugins: list[dict[str, Any]] | None = None
    prediction: Object = None
    prompt_cache_key: Text = None
    prompt_cache_options: Object = None
    provider: Object = None
    reasoning: Object = None
    repetition_penalty: Positive = None
    route: Text = None
    service_tier: Text = None
    session_id: Text = None
    stop_server_tools_when: list[dict[str, Any]] | None = None
    top_a: Share = None
    top_k: Count = None
    trace: Object = None
    transforms: Words = None
    usage: Object = None
    verbosity: Literal["low", "medium", "high"] | None = None
    web_search_options: Object = None


class DeepSeekOptions(Sampling):
    """DeepSeek."""

    thinking: Object = None
    user_id: Text = None


class MistralOptions(ProviderOptions):
    """Mistral, which refuses fields that it does not know."""

    frequency_penalty: Penalty = None
    guardrails: list[dict[str, Any]] | None = None
    metadata: Object = None
    prediction: Object = None
    presence_penalty: Penalty = None
    prompt_cache_key: Text = None
    prompt_mode: Literal["reasoning"] | None = None
    safe_prompt: Flag = None
    service_tier: Text = None


class AnyOptions(ProviderOptions):
    """A provider of whose fields we know nothing: any that JSON can say, but what `rxstream.stream` has an argument for."""

    model_config = ConfigDict(extra="allow")


_OPTIONS: Final[Mapping[str, type[ProviderOptions]]] = {
    "anthropic": AnthropicOptions,
    "openai": OpenAIOptions,
    "openai-chat": ChatOptions,
    "azure": ChatOptions,
    "xai": XAIOptions,
    "xai-responses": XAIResponsesOptions,
    "local": LlamaCppOptions,
    "llamacpp": LlamaCppOptions,
    "ollama": OllamaOptions,
    "vllm": VLLMOptions,
    "openrouter": OpenRouterOptions,
    "deepseek": DeepSeekOptions,
    "mistral": MistralOptions,
}


def provider_name(given: str) -> str:
    """The name under which a provider is known, whatever it was called: any case, any alias, ``_`` for ``-``.

    Raises:
        ConfigurationError: there is no such provider; the message has the nearest name.
    """
    for name in (given.lower(), given.lower().replace("_", "-")):
        if name in PROVIDERS:
            return PROVIDERS[name].name
    raise ConfigurationError(f"unknown provider {show(given)}{hint(given.lower(), PROVIDERS)}")


def options_of(provider: str, given: ProviderOptions | Mapping[str, Any] | None = None) -> ProviderOptions:
    """The options of the provider of this name, checked.

    Example:
        >>> options_of("anthropic", {"service_tier": "standard_only"}).body()
        {'service_tier': 'standard_only'}

    Raises:
        ConfigurationError: there is no such provider, or it has no such option; the message has the nearest name.
    """
    name = provider_name(provider)
    kind = _OPTIONS.get(name, AnyOptions)
    if isinstance(given, ProviderOptions) and not isinstance(given, kind):
        raise ConfigurationError(f"{name}: takes {kind.__name__}, not {show(given)}")
    try:
        return kind.checked({} if given is None else given)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None
