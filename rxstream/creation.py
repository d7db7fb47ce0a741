"""Streams of models: a request to any provider, or a stream that an SDK has opened.

Rules of this module:

* What it gives is cold: nothing is sent before it is subscribed, awaited, iterated or run.
* What is wrong with the arguments is said at once; what only the environment can tell (a missing key) to the subscriber.
* The functions load what they need when they are called: pydantic, the SDKs and what checks a request cost more than all
  the rest, and ``from rxstream import stream`` is to cost no more than three times ``import reactivex``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rxstream._check import kind_of
from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.observable import Stream
from rxstream.operators import guard, limit, on_error_complete, retry_stream
from rxstream.sources._pump import pump
from rxstream.sources._source import Source

if TYPE_CHECKING:
    import anthropic
    import openai
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

    from rxstream.config import Effort, Limits, Prompt, Request, ResponseFormat, Target, Timeouts
    from rxstream.guards import Guard
    from rxstream.messages import ToolLike
    from rxstream.policy import ErrorPolicy, OnError
    from rxstream.sources._conversation import ModelAsking

    OpenedStream: TypeAlias = (
        openai.Stream[Any] | openai.AsyncStream[Any] | anthropic.Stream[Any] | anthropic.AsyncStream[Any]
    )

__all__ = ["from_sdk", "stream"]


def stream(
    target: str | OpenedStream,
    prompt: Prompt | None = None,
    *,
    system: str | None = None,
    tools: Iterable[ToolLike] = (),
    tool_choice: str | None = None,
    parallel_tool_calls: bool | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    stop: str | Sequence[str] = (),
    seed: int | None = None,
    n: int | None = None,
    response_format: ResponseFormat | None = None,
    reasoning: Effort | None = None,
    include_usage: bool = True,
    extra: Mapping[str, Any] | None = None,
    extra_headers: Mapping[str, str] | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    client: AsyncOpenAI | AsyncAnthropic | None = None,
    transport: Literal["auto", "httpx2", "aiohttp"] = "auto",
    timeouts: Timeouts | Mapping[str, float | None] | float | None = None,
    limits: Limits | Mapping[str, int | None] | None = None,
    on_error: OnError = "fail",
    guards: Sequence[Guard] = (),
    label: str | None = None,
    keep_raw: bool = True,
    keep_partial: bool = True,
) -> Stream[Event]:
    """The answer of a model, as a stream of events.

    Example:
        >>> import rxstream
        >>> answer = rxstream.stream("local:smollm2", "What is the capital of France?", max_tokens=20).run()

    Args:
        target: ``provider:model``: ``anthropic:``, ``openai:`` (Responses), ``openai-chat:`` (Chat Completions), ``xai:``,
            ``ollama:`` and the other rows of `rxstream.providers`, ``compatible:`` with `base_url`, ``local:smollm2``. Or
            a stream that an SDK has opened: then it is `from_sdk`, and nothing but `timeouts`, `limits` and `label` applies.
        prompt: A string, a message, or a conversation; see `rxstream.messages`.
        system: Instructions, put before the conversation.
        tools: Tools that the model may call: functions, pydantic models, or any provider's dicts.
        tool_choice: ``"auto"``, ``"none"``, ``"required"`` or the name of a tool.
        parallel_tool_calls: Whether the model may call several tools at once.
        max_tokens: Most tokens that the model may write.
        temperature: How freely it chooses, from 0.
        top_p: Share of the probability that is sampled from, 0 to 1.
        stop: Strings at which the model is to stop.
        seed: For answers that repeat, as far as the provider can.
        n: How many answers.
        response_format: ``"json"``, a JSON schema or a pydantic model class.
        reasoning: How hard the model is to reason.
        include_usage: Ask for token counts where a provider sends them only if asked.
        extra: More fields of the provider's own request body; they win over ours.
        extra_headers: More HTTP headers.
        base_url: Another server that speaks the provider's dialect.
        api_key: The key; else it comes from the provider's environment variable when the stream is subscribed.
        client: An async SDK client of your own, with its own URL, key and transport. It is used as it is: an error's body,
            of which otherwise no more than 64 KiB are read and unpacked, is read whole, and redirects are followed.
        transport: ``auto`` is aiohttp where it is installed (half the cost an event), else httpx2.
        timeouts: Six clocks in seconds, or one number for the total; see `Timeouts`.
        limits: Bounds on what one stream may hold; see `Limits`.
        on_error: What is done when it fails: ``"fail"``, ``"retry"``, ``"complete_partial"``, a `Retry`, or a whole
            `ErrorPolicy`, by which other models are asked the same; `base_url`, `api_key` and `client` are not for them.
        guards: Who is asked before each request; see `rxstream.operators.guard`.
        label: What to call the track; by default the target.
        keep_raw: Keep the provider's bytes on each event.
        keep_partial: Keep the answer so far, for errors to hold; without it memory is constant however long the stream.

    Raises:
        ConfigurationError: an argument is not as described. What only the environment can tell (a missing key) is told to
            the subscriber.
    """
    from rxstream.config import Limits, Request, Target  # noqa: PLC0415 - see the rules above
    from rxstream.policy import ErrorPolicy  # noqa: PLC0415
    from rxstream.providers import PROVIDERS  # noqa: PLC0415
    from rxstream.sources.model import model_asking  # noqa: PLC0415

    policy = ErrorPolicy.of(on_error)
    if not isinstance(target, str):
        if policy != ErrorPolicy() or guards:
            raise ConfigurationError("on_error=, guards=: a stream that an SDK has opened is asked once; use pipe()")
        return from_sdk(target, timeouts=timeouts, limits=limits, label=label or "")
    if prompt is None:
        raise ConfigurationError("there is no prompt: stream(target, prompt)")
    request = partial(
        Request.build,
        messages=prompt,
        system=system,
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=parallel_tool_calls,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        stop=stop,
        seed=seed,
        n=n,
        response_format=response_format,
        reasoning=reasoning,
        include_usage=include_usage,
        extra=extra,
        extra_headers=extra_headers,
    )
    asking = partial(model_asking, transport=transport, timeouts=timeouts, limits=limits)
    asking = partial(asking, keep_raw=keep_raw, keep_partial=keep_partial)
    first, *others = [Target.parse(name, known=PROVIDERS) for name in (target, *policy.to)]
    named = str(first) if label is None else label
    askings = [asking(_ask(request, first), base_url=base_url, api_key=api_key, client=client, label=named)]
    askings += [asking(_ask(request, other), label=str(other)) for other in others]
    answer, *fallbacks = [_answer(each, Limits.of(limits), guards, policy) for each in askings]
    if fallbacks:
        from rxstream.tracks import failover  # noqa: PLC0415

        answer = failover(answer, *fallbacks, after_output=policy.after_output, on_finish=policy.on_finish)
        answer.label = named
    return answer.pipe(on_error_complete()) if policy.action == "complete_partial" else answer


def _ask(request: Callable[..., Request], target: Target) -> Request:
    return request(provider=target.provider, model=target.model)


def _answer(asking: ModelAsking, limits: Limits, guards: Sequence[Guard], policy: ErrorPolicy) -> Stream[Event]:
    """The answer of one model: limited, guarded and asked for again."""
    answer = Stream.of(pump(asking.source), label=asking.source.label)
    answer.asking = asking
    answer = _limited(answer, limits)
    if not isinstance(guards, (list, tuple)):
        raise ConfigurationError(f"guards: must be a list of guards, not {kind_of(guards)}")
    if guards:
        answer = answer.pipe(guard(*guards))
    if policy.retries is not None:
        answer = answer.pipe(retry_stream(**policy.retries.model_dump()))
    return answer


def _limited(answer: Stream[Event], limits: Limits) -> Stream[Event]:
    """`answer` with those limits that its source does not keep itself."""
    if limits.tokens is None and limits.characters is None:
        return answer
    return answer.pipe(limit(tokens=limits.tokens, characters=limits.characters))


def from_sdk(
    opened: OpenedStream,
    *,
    timeouts: Timeouts | Mapping[str, float | None] | float | None = None,
    limits: Limits | Mapping[str, int | None] | None = None,
    label: str = "",
) -> Stream[Event]:
    """A stream that you have opened with an official SDK: a ``Stream`` or ``AsyncStream`` of openai or anthropic.

    Its bytes are read and decoded here, so a stream that is cut is an error, as it should be. It can be subscribed once.

    Args:
        opened: What ``create(stream=True)`` gave.
        timeouts: As for `stream`.
        limits: As for `stream`.
        label: What to call the track.

    Raises:
        ConfigurationError: `opened` is no such stream.
    """
    from rxstream.config import Limits, Timeouts  # noqa: PLC0415 - see the rules above
    from rxstream.sources.adopt import adopt  # noqa: PLC0415

    bounds = Limits.of(limits)
    adopted = adopt(opened, limits=bounds)
    source = Source(
        open=adopted.open,
        decoder=adopted.decoder,
        label=label,
        provider=adopted.provider,
        timeouts=Timeouts.of(timeouts),
        read_ahead=bounds.read_ahead_bytes,
        max_events=bounds.events,
    )
    return _limited(Stream.of(pump(source), label=label), bounds)
