"""rxstream: language models' streams as Observables of typed events, on RxPY.

::

    import rxstream

    for event in rxstream.stream("local:smollm2", "Why is the sky blue?"):
        print(event)

Every name here is loaded when it is first used: ``import rxstream`` costs nothing, and no provider's SDK is loaded before
a request needs it. Events are in `rxstream.events`, errors in `rxstream.errors`, operators in `rxstream.operators`, and what
makes one stream of several in `rxstream.tracks`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rxstream import errors, events, operators, tracks
    from rxstream.breaker import CircuitBreaker, CircuitChange
    from rxstream.budget import RetryBudget
    from rxstream.bulkhead import Bulkhead, BulkheadStatistics
    from rxstream.chunk import MessageChunk
    from rxstream.comparison import Comparison, compare_responses
    from rxstream.config import Limits, Request, Timeouts
    from rxstream.conversion import emulate, from_callback, from_iterable, replay, tape
    from rxstream.creation import from_sdk, stream
    from rxstream.dual import DualTrack
    from rxstream.explanation import Explained, Explanation, explain
    from rxstream.gate import Gate
    from rxstream.latency import LatencyQuantile
    from rxstream.limiter import TokenBucket
    from rxstream.loop import LoopScheduler
    from rxstream.manager import StreamManager
    from rxstream.manager_events import StreamEnded, StreamEvent, StreamPaused, StreamResumed, StreamStarted
    from rxstream.manager_statistics import ManagerStatistics, StreamStatistics
    from rxstream.messages import Message, Tool
    from rxstream.metrics import MetricsSink, StreamMetrics, StreamOpened
    from rxstream.model_manager import APIModelManager
    from rxstream.observable import Stream
    from rxstream.policy import ErrorPolicy, Retry
    from rxstream.quota import RateLimiter
    from rxstream.response import Response
    from rxstream.session import Statistics, StreamSession
    from rxstream.sinks.buffered import BufferedStreamHandler
    from rxstream.sinks.callbacks import CallbackStreamHandler
    from rxstream.sinks.file import FileStreamHandler
    from rxstream.sinks.handler import HandlerFigures, HandlerPolicy, StreamHandler, StreamMetadata, as_handler
    from rxstream.sinks.iterator import to_async_iterable, to_iterable
    from rxstream.sinks.log import LoggingStreamHandler
    from rxstream.sinks.publisher import Publisher
    from rxstream.sinks.queue import QueueStreamHandler
    from rxstream.sinks.sender import SenderStreamHandler
    from rxstream.sinks.terminal import ConsoleStreamHandler
    from rxstream.sketch import Sketch
    from rxstream.snapshot import Snapshot
    from rxstream.sources.local import LocalServer
    from rxstream.sources.sdk import close_clients
    from rxstream.stream_config import StreamConfig
    from rxstream.telemetry.logs import LoggingSink
    from rxstream.telemetry.memory import MemorySink
    from rxstream.telemetry.otel import OpenTelemetrySink
    from rxstream.usage import Usage

__all__ = [
    "APIModelManager",
    "BufferedStreamHandler",
    "Bulkhead",
    "BulkheadStatistics",
    "CallbackStreamHandler",
    "CircuitBreaker",
    "CircuitChange",
    "Comparison",
    "ConsoleStreamHandler",
    "DualTrack",
    "ErrorPolicy",
    "Explained",
    "Explanation",
    "FileStreamHandler",
    "Gate",
    "HandlerFigures",
    "HandlerPolicy",
    "LatencyQuantile",
    "Limits",
    "LocalServer",
    "LoggingSink",
    "LoggingStreamHandler",
    "LoopScheduler",
    "ManagerStatistics",
    "MemorySink",
    "Message",
    "MessageChunk",
    "MetricsSink",
    "OpenTelemetrySink",
    "Publisher",
    "QueueStreamHandler",
    "RateLimiter",
    "Request",
    "Response",
    "Retry",
    "RetryBudget",
    "SenderStreamHandler",
    "Sketch",
    "Snapshot",
    "Statistics",
    "Stream",
    "StreamConfig",
    "StreamEnded",
    "StreamEvent",
    "StreamHandler",
    "StreamManager",
    "StreamMetadata",
    "StreamMetrics",
    "StreamOpened",
    "StreamPaused",
    "StreamResumed",
    "StreamSession",
    "StreamStarted",
    "StreamStatistics",
    "Timeouts",
    "TokenBucket",
    "Tool",
    "Usage",
    "as_handler",
    "close_clients",
    "compare_responses",
    "emulate",
    "errors",
    "events",
    "explain",
    "from_callback",
    "from_iterable",
    "from_sdk",
    "operators",
    "replay",
    "stream",
    "tape",
    "to_async_iterable",
    "to_iterable",
    "tracks",
]

_HOMES = {
    "CircuitBreaker": "breaker",
    "CircuitChange": "breaker",
    "RetryBudget": "budget",
    "Bulkhead": "bulkhead",
    "BulkheadStatistics": "bulkhead",
    "MessageChunk": "chunk",
    "Comparison": "comparison",
    "compare_responses": "comparison",
    "Limits": "config",
    "Request": "config",
    "Timeouts": "config",
    "emulate": "conversion",
    "from_callback": "conversion",
    "from_iterable": "conversion",
    "replay": "conversion",
    "tape": "conversion",
    "from_sdk": "creation",
    "stream": "creation",
    "DualTrack": "dual",
    "Explained": "explanation",
    "Explanation": "explanation",
    "explain": "explanation",
    "Gate": "gate",
    "LatencyQuantile": "latency",
    "TokenBucket": "limiter",
    "LoopScheduler": "loop",
    "StreamManager": "manager",
    "StreamEnded": "manager_events",
    "StreamEvent": "manager_events",
    "StreamPaused": "manager_events",
    "StreamResumed": "manager_events",
    "StreamStarted": "manager_events",
    "ManagerStatistics": "manager_statistics",
    "StreamStatistics": "manager_statistics",
    "Message": "messages",
    "Tool": "messages",
    "MetricsSink": "metrics",
    "StreamMetrics": "metrics",
    "StreamOpened": "metrics",
    "APIModelManager": "model_manager",
    "Stream": "observable",
    "ErrorPolicy": "policy",
    "Retry": "policy",
    "RateLimiter": "quota",
    "Response": "response",
    "Statistics": "session",
    "StreamSession": "session",
    "BufferedStreamHandler": "sinks.buffered",
    "CallbackStreamHandler": "sinks.callbacks",
    "FileStreamHandler": "sinks.file",
    "HandlerFigures": "sinks.handler",
    "HandlerPolicy": "sinks.handler",
    "StreamHandler": "sinks.handler",
    "StreamMetadata": "sinks.handler",
    "as_handler": "sinks.handler",
    "to_async_iterable": "sinks.iterator",
    "to_iterable": "sinks.iterator",
    "LoggingStreamHandler": "sinks.log",
    "Publisher": "sinks.publisher",
    "QueueStreamHandler": "sinks.queue",
    "SenderStreamHandler": "sinks.sender",
    "ConsoleStreamHandler": "sinks.terminal",
    "Sketch": "sketch",
    "Snapshot": "snapshot",
    "LocalServer": "sources.local",
    "close_clients": "sources.sdk",
    "StreamConfig": "stream_config",
    "LoggingSink": "telemetry.logs",
    "MemorySink": "telemetry.memory",
    "OpenTelemetrySink": "telemetry.otel",
    "Usage": "usage",
}


_MODULES = ("errors", "events", "operators", "tracks")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"rxstream.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'rxstream' has no attribute {name!r}")
    value = getattr(import_module(f"rxstream.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
