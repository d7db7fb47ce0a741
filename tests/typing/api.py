"""The types of the public API. Checked by mypy and pyright, never run.

What is written here must keep its type: a change that a user's type checker would notice is noticed here first.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any, assert_never, assert_type

from pydantic import BaseModel
from reactivex import Observable, abc
from reactivex import operators as ops

import rxstream
from rxstream import operators as rxo
from rxstream import tracks
from rxstream.aggregate import aggregate
from rxstream.comparison import Comparison
from rxstream.errors import RateLimited, StreamError, TimedOut
from rxstream.events import (
    Cancelled,
    Citation,
    ErrorInfo,
    Event,
    Failed,
    Finished,
    FinishReason,
    Heartbeat,
    Logprobs,
    Media,
    PartEnd,
    Raw,
    RefusalDelta,
    Retracted,
    Retrying,
    Seam,
    ServerTool,
    Started,
    Status,
    TextDelta,
    ThinkingDelta,
    ThinkingSignature,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UsageReported,
    decode,
    encode,
)
from rxstream.session import SessionStatus
from rxstream.sinks.queue import Queued
from rxstream.snapshot import Snapshot


class City(BaseModel):
    """An answer with a schema."""

    name: str
    people: int


def weather(city: str, days: int = 1) -> str:
    """A tool."""
    return f"{city}: {days}"


stream = rxstream.stream("openai:gpt-5", "Hello", system="Be brief.", tools=[weather], timeouts={"idle": 30})
assert_type(stream, rxstream.Stream[Event])
observable: Observable[Event] = stream

rxstream.stream(
    "anthropic:claude", ["Hello", {"role": "assistant", "content": "Hi"}], response_format=City, timeouts=60
)
rxstream.stream("ollama:llama3.2:1b", rxstream.Message(role="user", content=[]), limits={"event_bytes": 1000})


def asked_plainly() -> None:
    """In plain code."""
    assert_type(stream.run(timeout=10), rxstream.Response)
    assert_type(stream.run().text, str)
    for event in stream:
        assert_type(event, Event)
    for piece in stream.text("word"):
        assert_type(piece, str)


async def asked_on_a_loop() -> None:
    """In async code."""
    assert_type(await stream, rxstream.Response)
    async for event in stream:
        assert_type(event, Event)
    async for chunk in stream.chunks():
        assert_type(chunk, rxstream.MessageChunk)


def operators_keep_types() -> None:
    """Stock operators and ours, in one pipe."""
    assert_type(stream.text(), rxstream.Stream[str])
    assert_type(stream.of_type(TextDelta), rxstream.Stream[TextDelta])
    lengths = stream.pipe(rxo.of_type(TextDelta), ops.map(length))
    assert_type(lengths, rxstream.Stream[int])
    plain: Callable[[Observable[Event]], Observable[str]] = rxo.text("word")
    assert_type(observable.pipe(plain), Observable[str])


def length(delta: TextDelta) -> int:
    """Of the text."""
    return len(delta.text)


async def upper(event: Event) -> str:
    """Some work for each item."""
    return str(event).upper()


def flow_keeps_types() -> None:
    """Operators of flow take any item and give it back, or say what they make of it."""
    assert_type(stream.pipe(rxo.segments("sentence"), rxo.pace(), rxo.coalesce()), rxstream.Stream[Event])
    assert_type(stream.text().pipe(rxo.debounce(0.1), rxo.sample(0.1)), rxstream.Stream[str])
    assert_type(stream.text().pipe(rxo.valve(rxstream.Gate())), rxstream.Stream[str])
    assert_type(stream.text().pipe(rxo.on_backpressure_buffer(10, low=2)), rxstream.Stream[str])
    assert_type(stream.text().pipe(rxo.observe_on_loop(), rxo.synchronize()), rxstream.Stream[str])
    assert_type(stream.text().pipe(rxo.share(), rxo.share_replay()), rxstream.Stream[str])
    assert_type(stream.text().pipe(rxo.buffer_tokens(10)), rxstream.Stream[list[str]])
    assert_type(stream.pipe(rxo.map_async(upper, max_concurrency=2)), rxstream.Stream[str])
    assert_type(stream.pipe(rxo.rate_limit(rxstream.TokenBucket(10))), rxstream.Stream[Event])


def tracks_have_types() -> None:
    """Combinations are streams of events, or of what they say of them."""
    assert_type(tracks.merge(stream, observable), rxstream.Stream[Event])
    assert_type(tracks.race(stream, stream).run(), rxstream.Response)
    assert_type(tracks.merge(stream, stream).pipe(rxo.responses()).run(), dict[str, rxstream.Response])
    assert_type(tracks.combine_tracks(stream, stream), rxstream.Stream[dict[str, Snapshot]])
    assert_type(tracks.compare(stream, stream).run(), Comparison)
    assert_type(tracks.best_of(stream, stream, score=lambda response: len(response.text)), rxstream.Stream[Event])
    assert_type(
        tracks.switch_latest(stream.text(), lambda prompt: rxstream.stream("a:b", prompt)), rxstream.Stream[Event]
    )
    duo = rxstream.DualTrack(stream, observable, strategy="hedge", after=rxstream.LatencyQuantile())
    assert_type(duo.run(), rxstream.Response)
    assert_type(duo.local, Snapshot)
    assert_type(rxstream.replay([Finished(reason="stop")], speed=2.0), rxstream.Stream[Event])


async def edges_have_types() -> None:
    """Where a stream leaves Rx."""
    async for event in rxstream.to_async_iterable(observable, high=10, low=2):
        assert_type(event, Event)
    for event in rxstream.to_iterable(observable):
        assert_type(event, Event)
    assert_type(rxstream.Publisher(stream.text()), rxstream.Publisher[str])


def subscriptions() -> None:
    """Callbacks, plain and coroutine, and the handle."""

    async def later(event: Event) -> None:
        raise NotImplementedError(event)

    assert_type(stream.subscribe(print), abc.DisposableBase)
    assert_type(stream.subscribe(later, on_error=print), abc.DisposableBase)
    with stream.start(print) as session:
        assert_type(session, rxstream.StreamSession)
        session.pause()
        session.resume()
        assert_type(session.partial, rxstream.Response)
        assert_type(session.statistics, rxstream.Statistics)
        assert_type(session.result(timeout=5.0), rxstream.Response)


class Sparing(rxstream.StreamHandler):
    """A handler may have any of the methods, and say more exactly what they return."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def for_stream(self, metadata: rxstream.StreamMetadata) -> Sparing:
        assert_type(metadata.stream_id, str)
        return Sparing()

    async def on_stream_start(self, metadata: rxstream.StreamMetadata) -> None:
        await asyncio.sleep(metadata.started_at)

    def on_token_received(self, token: str, index: int) -> None:
        self.tokens[index] = token

    async def on_stream_complete(self, full_response: rxstream.Response) -> None:
        assert_type(full_response.text, str)

    def on_stream_error(self, error: Exception) -> None:
        raise error

    def on_usage(self, usage: rxstream.Usage) -> None:
        assert_type(usage.output_tokens, int | None)

    def on_tool_call(self, call: ToolCall) -> None:
        assert_type(call.arguments, str)

    def on_progress(self, progress: rxo.Progress) -> None:
        assert_type(progress.tokens, int)

    def dismissed(self) -> None:
        self.tokens.clear()


def handlers() -> None:
    """What takes a handler, and what passes for one."""

    async def told(token: str, index: int) -> None:
        raise NotImplementedError(token, index)

    async def ended(response: rxstream.Response) -> None:
        raise NotImplementedError(response.text)

    assert_type(stream.subscribe(Sparing()), abc.DisposableBase)
    assert_type(stream.start(Sparing()), rxstream.StreamSession)
    assert_type(observable.subscribe(Sparing()), abc.DisposableBase)  # of Rx: a handler is an observer
    assert_type(rxstream.as_handler(Sparing()), rxstream.StreamHandler)
    assert_type(rxstream.as_handler(print), rxstream.StreamHandler)
    rxstream.CallbackStreamHandler(on_token=told, on_complete=ended, on_error=print, on_pause=lambda: None)
    rxstream.CallbackStreamHandler(
        on_token=lambda token, index: assert_type(token[index:], str),
        on_start=lambda metadata: assert_type(metadata.model, str),
        on_tool_call=lambda call: assert_type(call, ToolCall),
        on_progress=lambda progress: assert_type(progress, rxo.Progress),
        on_cancel=lambda reason: assert_type(reason, str),
    )
    rxstream.CallbackStreamHandler(on_token=length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rxstream.HandlerPolicy(on_failure="detach", failures=2, slow="latest", capacity=10, thread=True, by="word")
    rxstream.HandlerPolicy(slow="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    buffered = rxstream.BufferedStreamHandler()
    assert_type(buffered.get_response(timeout=5), str)
    assert_type(buffered.response, rxstream.Response | None)
    assert_type(buffered.text, str)
    rxstream.ConsoleStreamHandler("it: ", file=sys.stderr)
    rxstream.QueueStreamHandler(asyncio.Queue[Queued]())
    rxstream.SenderStreamHandler(print, what="events")
    with rxstream.StreamManager() as manager:
        assert_type(manager.register_handler(Sparing(), slow="hold", by="sentence"), str)
        assert_type(manager.start_stream(stream, handlers=[Sparing(), print]), str)
        assert_type(manager.unregister_handler("handler-1"), bool)
        assert_type(manager.get_statistics("stream-1").handlers, Mapping[str, rxstream.HandlerFigures])


async def managers() -> None:
    """Many streams in one hand."""
    with rxstream.StreamManager(max_streams=3, replay=10) as manager:
        assert_type(manager, rxstream.StreamManager)
        assert_type(manager.start_stream(["a"], {"user": 7}, stream_id="s"), str)
        assert_type(manager.pause_stream("s"), bool)
        assert_type(manager.cancel_stream("s", "enough"), bool)
        assert_type(manager.get_stream_status("s"), SessionStatus)
        assert_type(manager.streams(), dict[str, SessionStatus])
        assert_type(manager.session("s"), rxstream.StreamSession)
        assert_type(manager.get_result("s", timeout=5), rxstream.Response)
        assert_type(manager.get_statistics("s").queue_time, float)
        assert_type(manager.statistics, rxstream.ManagerStatistics)
        manager.register_handler(print, streams=lambda metadata: assert_type(metadata.extra, Mapping[str, Any]) == {})
        manager.register_handler(print, slow="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert_type(manager.events, rxstream.Stream[rxstream.StreamEvent])
    async with rxstream.APIModelManager(default_provider="local") as models:
        assert_type(models, rxstream.APIModelManager)
        assert_type(models.generate_stream_with_handlers("Hello", "smollm2", params={}, handlers=[print]), str)
        assert_type(models.generate("Hello"), rxstream.Response)
        assert_type(await models.agenerate("Hello"), rxstream.Response)
        assert_type(await models.wait("s"), rxstream.Response)


def lifecycle(told: rxstream.StreamEvent) -> str:
    """What becomes of a managed stream is told apart from what it says."""
    match told.event:
        case rxstream.StreamStarted():
            return told.event.metadata.provider
        case rxstream.StreamPaused() | rxstream.StreamResumed():
            return f"{told.event.at}"
        case rxstream.StreamEnded():
            return told.event.status
        case _:
            return every_event(told.event)


def failures(error: StreamError) -> None:
    """What an error tells."""
    assert_type(error.partial, rxstream.Response | None)
    assert_type(error.retry_after, float | None)
    assert_type(error.info(), ErrorInfo)
    match error:
        case RateLimited(retry_after=seconds):
            assert_type(seconds, float | None)
        case TimedOut():
            assert_type(error.seconds, float | None)
        case _:
            pass


def responses(response: rxstream.Response) -> None:
    """What a user keeps."""
    assert_type(aggregate([Finished(reason="stop")]), rxstream.Response)
    assert_type(response.message(), rxstream.Message)
    assert_type(response.usage.input_tokens, int | None)
    assert_type(response.usage + response.usage, rxstream.Usage)
    assert_type(response.finish_reason, FinishReason | None)


def tapes(event: Event) -> None:
    """There and back."""
    assert_type(encode(event), bytes)
    assert_type(decode(b"{}"), Event)


def every_event(event: Event) -> str:
    """A `match` over all of them is complete; a new event makes this fail."""
    match event:
        case TextDelta() | ThinkingDelta() | RefusalDelta():
            return event.text
        case ToolCallStart() | ToolCallDelta() | ToolCall() | ServerTool():
            return f"{event.choice}.{event.part}"
        case ThinkingSignature() | Citation() | Media() | Logprobs() | PartEnd():
            return f"{event.choice}.{event.part}"
        case Started():
            return event.model
        case Finished():
            return event.reason
        case UsageReported():
            return event.usage.provenance
        case Failed() | Retrying():
            return event.error.message
        case Status() | Heartbeat() | Retracted() | Seam() | Cancelled() | Raw():
            return event.source
        case _:
            assert_never(event)


def configurations() -> None:
    """A configuration takes what `stream` takes, by value, and gives what it gives."""
    config = rxstream.StreamConfig(timeouts=30, on_error="retry", provider_options={"local": {"top_k": 4}}, mode="word")
    assert_type(config, rxstream.StreamConfig)
    assert_type(config.replace(api_keys={"openai": "key"}, timeouts={"idle": None}), rxstream.StreamConfig)
    assert_type(rxstream.StreamConfig.from_profile("voice", limits={"events": 5}), rxstream.StreamConfig)
    assert_type(config.stream("local:smollm2", "Hello", temperature=0.5), rxstream.Stream[Event])
    assert_type(config.explain(), str)
