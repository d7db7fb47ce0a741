"""The options of `rxstream.stream` and of a configuration, for type checkers and for those who hand them on."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from rxstream._check import show
from rxstream._input import hint
from rxstream.creation import stream
from rxstream.errors import ConfigurationError

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI
    from pydantic import SecretStr

    from rxstream._relief import Backpressure, BufferUnit
    from rxstream.config import Effort, Limits, ResponseFormat, Timeouts
    from rxstream.guards import Guard
    from rxstream.messages import ToolLike
    from rxstream.policy import OnError
    from rxstream.provider_options import ProviderOptions
    from rxstream.stream_config import Mode, RateLimit

__all__ = ["ConfigFields", "StreamOptions", "check_options"]


class StreamOptions(TypedDict, total=False):
    """The keyword arguments of `rxstream.stream`; a test holds the two equal."""

    system: str | None
    tools: Iterable[ToolLike]
    tool_choice: str | None
    parallel_tool_calls: bool | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: str | Sequence[str]
    seed: int | None
    n: int | None
    response_format: ResponseFormat | None
    reasoning: Effort | None
    include_usage: bool
    extra: Mapping[str, Any] | None
    extra_headers: Mapping[str, str] | None
    base_url: str | None
    api_key: str | None
    client: AsyncOpenAI | AsyncAnthropic | None
    transport: Literal["auto", "httpx2", "aiohttp"]
    timeouts: Timeouts | Mapping[str, float | None] | float | None
    limits: Limits | Mapping[str, int | None] | None
    on_error: OnError
    guards: Sequence[Guard]
    label: str | None
    keep_raw: bool
    keep_partial: bool


class ConfigFields(TypedDict, total=False):
    """What the fields of a `rxstream.StreamConfig` are made of; a test holds their names equal."""

    default_target: str | None
    mode: Mode
    backpressure: Backpressure
    buffer: int | None
    buffer_unit: BufferUnit
    timeouts: Timeouts | Mapping[str, Any] | float
    limits: Limits | Mapping[str, Any]
    on_error: OnError
    rate_limits: RateLimit | Mapping[str, float | None] | None
    max_concurrent: int | None
    max_waiting: int
    handlers: Sequence[Any]
    provider_options: Mapping[str, ProviderOptions | Mapping[str, Any] | None] | None
    api_keys: Mapping[str, str | SecretStr | None] | None


@cache
def _known() -> frozenset[str]:
    options = inspect.signature(stream).parameters.values()
    return frozenset(option.name for option in options if option.kind is option.KEYWORD_ONLY)


def check_options(given: Mapping[str, Any]) -> None:
    """All of `given` are options of `rxstream.stream`.

    Raises:
        ConfigurationError: one is not; the message has the nearest name.
    """
    for name in given:
        if name not in _known():
            raise ConfigurationError(f"unknown option {show(name)} of a stream{hint(name, _known())}")
