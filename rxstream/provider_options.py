"""What a provider can be asked that `rxstream.stream` has no argument for: typed, for each provider whose fields are known.

Rules of this module:

* A field has the provider's own name and meaning, and goes into the body of the request as it is; what is not set, or None, is not sent.
* What `rxstream.stream` has an argument for is refused here, with that argument's name: two ways to say one thing would contradict
  each other.
* An unknown key is refused with the nearest name. Only a provider whose fields we do not know takes any.

The fields are those of the official SDKs' request types (a test compares them), and for servers without an SDK of their own
those of their documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from rxstream._check import show
from rxstream._fixed import fixed, plain
from rxstream._input import Input, check_json, hint, is_mapping
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

_Flag: TypeAlias = Annotated[bool, Field(strict=True)] | None
_Number: TypeAlias = Annotated[float, Field(strict=True)] | None
_Positive: TypeAlias = Annotated[float, Field(gt=0, strict=True)] | None
_Share: TypeAlias = Annotated[float, Field(ge=0, le=1, strict=True)] | None
_Penalty: TypeAlias = Annotated[float, Field(ge=-2, le=2, strict=True)] | None
_Count: TypeAlias = Annotated[int, Field(ge=0, strict=True)] | None
_Whole: TypeAlias = Annotated[int, Field(strict=True)] | None
_Text: TypeAlias = str | None
_Object: TypeAlias = dict[str, Any] | None
_Words: TypeAlias = list[str] | None
_Few: TypeAlias = Annotated[int, Field(ge=0, le=20, strict=True)] | None

_OURS: Final = {
    "max_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "stop": "stop",
    "stop_sequences": "stop",
    "seed": "seed",
    "random_seed": "seed",
    "n": "n",
    "system": "system",
    "instructions": "system",
    "tools": "tools",
    "functions": "tools",
    "tool_choice": "tool_choice",
    "function_call": "tool_choice",
    "parallel_tool_calls": "parallel_tool_calls",
    "reasoning_effort": "reasoning",
    "response_format": "response_format",
    "model": "target",
    "messages": "prompt",
    "input": "prompt",
}
"""A provider's word for what `rxstream.stream` has an argument for."""


class ProviderOptions(Input):
    """Base of the options: fields of one provider's request body."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        for name in data if is_mapping(data) else ():
            if name == "stream":
                raise ValueError("stream: is always true here")
            if name in cls.model_fields:
                continue
            if name in _OURS:
                raise ValueError(f"{name}: is the argument {_OURS[name]}= of stream()")
            if cls.model_config.get("extra") != "allow":
                raise ValueError(f"unknown option {show(name)}{hint(str(name), cls.model_fields)}")
        return {name: value for name, value in data.items() if value is not None} if is_mapping(data) else data

    @model_validator(mode="after")
    def _is_json(self) -> ProviderOptions:
        held: Any
        for held in (self.__dict__, self.__pydantic_extra__ or {}):
            held.update({name: fixed(value) for name, value in held.items()})
        check_json(self.body(), type(self).__name__)
        return self

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if name in self.model_fields_set}

    def body(self) -> dict[str, Any]:
        """What goes into the body of the request: the fields that were set, in a dict of your own."""
        return {name: plain(getattr(self, name)) for name in sorted(self.model_fields_set)}

    def __repr_args__(self) -> Iterable[tuple[str, Any]]:
        return self.body().items()


class AnthropicOptions(ProviderOptions):
    """Anthropic's Messages API."""

    cache_control: _Object = None
    container: str | dict[str, Any] | None = None
    diagnostics: _Object = None
    inference_geo: _Text = None
    metadata: _Object = None
    output_config: _Object = None
    service_tier: Literal["auto", "standard_only"] | None = None
    speed: Literal["standard", "fast"] | None = None
    thinking: _Object = None
    top_k: _Count = None
    """Of models before 4.6; the SDK has it no more."""
    user_profile_id: _Text = None
    workspace_id: _Text = None


class OpenAIOptions(ProviderOptions):
    """OpenAI's Responses API."""

    access_programs: Any = None
    background: _Flag = None
    context_management: list[dict[str, Any]] | None = None
    conversation: str | dict[str, Any] | None = None
    image: Any = None
    include: _Words = None
    max_tool_calls: _Count = None
    metadata: dict[str, str] | None = None
    moderation: _Object = None
    previous_response_id: _Text = None
    prompt: _Object = None
    prompt_cache_key: _Text = None
    prompt_cache_options: _Object = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    reasoning: _Object = None
    safety_identifier: _Text = None
    service_tier: _Text = None
    store: _Flag = None
    stream_options: _Object = None
    text: _Object = None
    top_logprobs: _Few = None
    truncation: Literal["auto", "disabled"] | None = None
    user: _Text = None


class _Sampling(ProviderOptions):
    """What all who speak Chat Completions know."""

    frequency_penalty: _Penalty = None
    logit_bias: dict[str, float] | None = None
    logprobs: _Flag = None
    presence_penalty: _Penalty = None
    stream_options: _Object = None
    top_logprobs: _Few = None
    user: _Text = None


class ChatOptions(_Sampling):
    """OpenAI's Chat Completions API, at OpenAI and in Azure."""

    audio: _Object = None
    metadata: dict[str, str] | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    moderation: _Object = None
    prediction: _Object = None
    prompt_cache_key: _Text = None
    prompt_cache_options: _Object = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    safety_identifier: _Text = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    store: _Flag = None
    verbosity: Literal["low", "medium", "high"] | None = None
    web_search_options: _Object = None


class XAIOptions(_Sampling):
    """xAI's Chat Completions."""

    search_parameters: _Object = None
    service_tier: _Text = None


class XAIResponsesOptions(OpenAIOptions):
    """xAI's Responses API."""

    search_parameters: _Object = None


class LlamaCppOptions(_Sampling):
    """llama.cpp's server, which is also that of the local model."""

    cache_prompt: _Flag = None
    chat_template_kwargs: _Object = None
    dry_allowed_length: _Whole = None
    dry_base: _Number = None
    dry_multiplier: _Number = None
    dry_penalty_last_n: _Whole = None
    dry_sequence_breakers: _Words = None
    dynatemp_exponent: _Number = None
    dynatemp_range: _Number = None
    grammar: _Text = None
    id_slot: _Whole = None
    ignore_eos: _Flag = None
    json_schema: _Object = None
    min_p: _Share = None
    mirostat: Literal[0, 1, 2] | None = None
    mirostat_eta: _Number = None
    mirostat_tau: _Number = None
    n_keep: _Whole = None
    n_probs: _Count = None
    reasoning_format: _Text = None
    repeat_last_n: _Whole = None
    repeat_penalty: _Positive = None
    return_progress: _Flag = None
    samplers: _Words = None
    t_max_predict_ms: _Whole = None
    timings_per_token: _Flag = None
    top_k: _Whole = None
    typical_p: _Share = None
    xtc_probability: _Share = None
    xtc_threshold: _Share = None


class OllamaOptions(_Sampling):
    """Ollama's own endpoint for Chat Completions, which knows few of them; the rest is set in the model's file."""


class VLLMOptions(_Sampling):
    """vLLM's server."""

    add_generation_prompt: _Flag = None
    allowed_token_ids: list[int] | None = None
    bad_words: _Words = None
    cache_salt: _Text = None
    chat_template: _Text = None
    chat_template_kwargs: _Object = None
    continue_final_message: _Flag = None
    documents: list[dict[str, str]] | None = None
    echo: _Flag = None
    ignore_eos: _Flag = None
    include_stop_str_in_output: _Flag = None
    length_penalty: _Number = None
    min_p: _Share = None
    min_tokens: _Count = None
    priority: _Whole = None
    prompt_logprobs: _Count = None
    repetition_penalty: _Positive = None
    request_id: _Text = None
    skip_special_tokens: _Flag = None
    spaces_between_special_tokens: _Flag = None
    stop_token_ids: list[int] | None = None
    structured_outputs: _Object = None
    top_k: _Whole = None
    truncate_prompt_tokens: _Whole = None
    use_beam_search: _Flag = None


class OpenRouterOptions(_Sampling):
    """OpenRouter."""

    max_price: _Object = None
    min_p: _Share = None
    models: _Words = None
    plugins: list[dict[str, Any]] | None = None
    prediction: _Object = None
    provider: _Object = None
    reasoning: _Object = None
    repetition_penalty: _Positive = None
    route: _Text = None
    top_a: _Share = None
    top_k: _Count = None
    transforms: _Words = None
    usage: _Object = None
    verbosity: Literal["low", "medium", "high"] | None = None
    web_search_options: _Object = None


class DeepSeekOptions(_Sampling):
    """DeepSeek."""

    thinking: _Object = None


class MistralOptions(ProviderOptions):
    """Mistral, which refuses fields that it does not know."""

    frequency_penalty: _Penalty = None
    metadata: _Object = None
    prediction: _Object = None
    presence_penalty: _Penalty = None
    prompt_mode: Literal["reasoning"] | None = None
    safe_prompt: _Flag = None


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
