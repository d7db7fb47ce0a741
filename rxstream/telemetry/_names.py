"""What OpenTelemetry calls things: the one place where its names stand.

The conventions for generative models are in development, and their names change. By default those that the released packages have
are used (opentelemetry-semantic-conventions 0.66b2), which official instrumentations emit; with ``gen_ai_latest_experimental`` in
the variable ``OTEL_SEMCONV_STABILITY_OPT_IN``, those of the conventions' own repository (semantic-conventions-genai, 024a4f9).
What the conventions have no name for begins with ``rxstream.``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = [
    "LATEST",
    "PROVIDERS",
    "RELEASED",
    "SECONDS",
    "TOKENS",
    "Names",
    "chosen",
    "content_wanted",
]

OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
CONTENT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_STOP: Final = "gen_ai.request.stop_sequences"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_CHOICES: Final = "gen_ai.request.choice.count"
REQUEST_EXTRA: Final = MappingProxyType(
    {name: f"gen_ai.request.{name}" for name in ("top_k", "frequency_penalty", "presence_penalty")}
)
"""Options of providers that the conventions know."""
OUTPUT_TYPE: Final = "gen_ai.output.type"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - no token of that kind
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
HTTP_STATUS: Final = "http.response.status_code"

OUTCOME: Final = "rxstream.outcome"
LABEL: Final = "rxstream.label"
FIRST_OUTPUT: Final = "rxstream.time_to_first_output"
QUEUE: Final = "rxstream.queue"
PAUSES: Final = "rxstream.pauses"
PAUSED: Final = "rxstream.paused"
STALLS: Final = "rxstream.stalls"
RETRIES: Final = "rxstream.retries"
RETRY: Final = "rxstream.retry"
DELAY: Final = "rxstream.retry.delay"
HOW: Final = "rxstream.retry.how"

ACTIVE: Final = "rxstream.streams.active"
ENDED: Final = "rxstream.streams.ended"
STREAM_FIRST_OUTPUT: Final = "rxstream.stream.time_to_first_output"
STREAM_RATE: Final = "rxstream.stream.output_rate"
STREAM_QUEUE: Final = "rxstream.stream.queue"
STREAM_PAUSED: Final = "rxstream.stream.paused"
STREAM_STALLS: Final = "rxstream.stream.stalls"
STREAM_STALLED: Final = "rxstream.stream.stalled"
STREAM_RETRIES: Final = "rxstream.stream.retries"
STREAM_EVENTS: Final = "rxstream.stream.events"
STREAM_OUTPUTS: Final = "rxstream.stream.outputs"
STREAM_COST: Final = "rxstream.stream.cost"

SECONDS: Final = tuple(0.01 * 2**step for step in range(14))
"""Bounds of the buckets of times, as the conventions have them: 0.01 to 81.92 s."""
TOKENS: Final = tuple(4.0**step for step in range(14))
"""… of numbers of tokens: 1 to 67,108,864."""

PROVIDERS: Final = {
    "openai-chat": "openai",
    "xai": "x_ai",
    "xai-responses": "x_ai",
    "mistral": "mistral_ai",
    "gemini": "gcp.gemini",
    "azure": "azure.ai.openai",
}
"""Providers that the conventions call otherwise than we do."""


class Names(NamedTuple):
    """What the two states of the conventions name differently."""

    duration: str
    first_chunk: str
    per_chunk: str
    cache_write_tokens: str
    token_usage: str | None
    """One histogram for both directions, told apart by `TOKEN_TYPE`; None where there is one for each."""
    input_tokens: str = ""
    output_tokens: str = ""
    used: Mapping[str, str] = MappingProxyType({})
    """Counters of tokens, by the fields of `Usage`; with them every stream of a model is told of, be it with 0."""
    modality: str = ""
    """Of those, what kind of tokens."""
    reasoning_level: str = ""
    """How hard the model is asked to think; empty where there is no name for it."""
    previous_response: str = ""
    """The answer that is gone on from; likewise."""
    error_reason: bool = False
    """Whether a stream without a proper end has the finish reason ``error``."""


RELEASED: Final = Names(
    duration="gen_ai.client.operation.duration",
    first_chunk="gen_ai.client.operation.time_to_first_chunk",
    per_chunk="gen_ai.client.operation.time_per_output_chunk",
    cache_write_tokens="gen_ai.usage.cache_creation.input_tokens",
    token_usage="gen_ai.client.token.usage",  # noqa: S106 - no token of that kind
)
LATEST: Final = Names(
    duration="gen_ai.client.inference.duration",
    first_chunk="gen_ai.client.inference.time_to_first_chunk",
    per_chunk="gen_ai.client.inference.time_per_output_chunk",
    cache_write_tokens="gen_ai.usage.cache_write.input_tokens",
    token_usage=None,
    input_tokens="gen_ai.client.inference.operation.input_tokens",
    output_tokens="gen_ai.client.inference.operation.output_tokens",
    used=MappingProxyType(
        {
            field: f"gen_ai.client.inference.usage.{name}"
            for field, name in (
                ("input_tokens", "input_tokens"),
                ("output_tokens", "output_tokens"),
                ("cache_read_tokens", "cache_read.input_tokens"),
                ("cache_write_tokens", "cache_write.input_tokens"),
                ("reasoning_tokens", "reasoning.output_tokens"),
            )
        }
    ),
    modality="gen_ai.token.modality",
    reasoning_level="gen_ai.request.reasoning.level",
    previous_response="gen_ai.request.previous_response.id",
    error_reason=True,
)


def chosen() -> Names:
    """The names that the environment asks for."""
    words = {word.strip() for word in os.environ.get(OPT_IN, "").split(",")}
    return LATEST if "gen_ai_latest_experimental" in words else RELEASED


def content_wanted() -> bool:
    """Whether the environment asks for prompts and answers on spans."""
    return os.environ.get(CONTENT, "").strip().lower() in ("true", "span_only", "span_and_event")
