"""The one registry: the names of providers, and the decoder of each."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from rxstream.errors import ConfigurationError
from rxstream.providers._shared import SSEDialect
from rxstream.providers.anthropic.decode import AnthropicDecoder
from rxstream.providers.compatible import COMPATIBLE, Provider, Quirks
from rxstream.providers.openai_chat.decode import ChatDecoder
from rxstream.providers.openai_responses.decode import ResponsesDecoder
from rxstream.typing import Decoder
from rxstream.wire.sse import DEFAULT_MAX_EVENT_BYTES

__all__ = ["PROVIDERS", "decoder_for", "provider"]

_OPENAI: Final = Provider(
    name="openai",
    dialect="openai-responses",
    base_url="https://api.openai.com/v1",
    base_url_env=("OPENAI_BASE_URL",),
    api_key_env=("OPENAI_API_KEY",),
    cursor="events",
)
_OPENAI_CHAT: Final = Provider(
    name="openai-chat",
    base_url="https://api.openai.com/v1",
    base_url_env=("OPENAI_BASE_URL",),
    api_key_env=("OPENAI_API_KEY",),
    quirks=Quirks(max_tokens="max_completion_tokens"),
)
_ANTHROPIC: Final = Provider(
    name="anthropic",
    dialect="anthropic",
    base_url="https://api.anthropic.com",
    base_url_env=("ANTHROPIC_BASE_URL",),
    api_key_env=("ANTHROPIC_API_KEY",),
    prefill="last",
    # Those before 4.6; all later ones refuse a conversation that does not end with a turn of the user.
    prefill_models=r"claude-(?:instant|2|3|(?:opus|sonnet|haiku)-4(?:-[0-5])?(?:$|[-@:]\d{8}|-latest|@))",
)
_XAI_RESPONSES: Final = Provider(
    name="xai-responses", dialect="openai-responses", base_url="https://api.x.ai/v1", api_key_env=("XAI_API_KEY",)
)

_ALIASES: Final = {
    "openai-responses": "openai",
    "openai-compatible": "compatible",
    "llama.cpp": "llamacpp",
    "llama-cpp": "llamacpp",
    "lm-studio": "lmstudio",
    "azure-openai": "azure",
    "grok": "xai",
    "hf": "huggingface",
    "vercel-gateway": "vercel",
    "z.ai": "zai",
}

_ROWS: Final = {row.name: row for row in (_ANTHROPIC, _OPENAI, _OPENAI_CHAT, _XAI_RESPONSES, *COMPATIBLE)}

PROVIDERS: Final[Mapping[str, Provider]] = MappingProxyType(
    _ROWS | {alias: _ROWS[name] for alias, name in _ALIASES.items()}
)
"""Every name that a provider goes by, other spellings included."""


def provider(name: str) -> Provider:
    """The provider of this name, in any case.

    Raises:
        ConfigurationError: there is none; the message has the nearest names.
    """
    row = PROVIDERS.get(name.lower())
    if row is None:
        near = get_close_matches(name.lower(), PROVIDERS, cutoff=0.5)
        known = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(_ROWS))}"
        raise ConfigurationError(f"unknown provider {name!r}: {known}")
    return row


def decoder_for(name: str, *, keep_raw: bool = True, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> Decoder:
    """A new decoder for the streams of the provider of this name.

    Args:
        name: As for `provider`.
        keep_raw: Keep the provider's bytes on each event, as ``raw``.
        max_event_bytes: Limit on one server-sent event, in bytes.

    Raises:
        ConfigurationError: there is no such provider.
    """
    row = provider(name)
    decoder: SSEDialect
    match row.dialect:
        case "anthropic":
            decoder = AnthropicDecoder(keep_raw=keep_raw, max_event_bytes=max_event_bytes)
        case "openai-responses":
            decoder = ResponsesDecoder(keep_raw=keep_raw, max_event_bytes=max_event_bytes)
        case "openai-chat":
            decoder = ChatDecoder(keep_raw=keep_raw, max_event_bytes=max_event_bytes, quirks=row.quirks)
    decoder.provider = row.name
    return decoder
