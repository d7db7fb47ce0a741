"""``chunks``: events as `MessageChunk`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import msgspec
from reactivex import Observable, abc

from rxstream._check import count
from rxstream.chunk import ChunkMetadata, MessageChunk, ToolCallChunk
from rxstream.events import (
    Event,
    Finished,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReported,
)
from rxstream.loop import LoopScheduler

__all__ = ["chunks"]

_UNKNOWN: Final = Started()


def chunks(*, choice: int = 0) -> Callable[[Observable[Event]], Observable[MessageChunk]]:
    """Turn the events that carry text, thinking, tool calls, usage or the finish into message chunks; drop the others.

    ::

        source:  --Started--TextDelta("Hel")--TextDelta("lo")--Finished(stop)--|
             chunks()
        result:  -----------("Hel")-----------("lo")-----------(finish=stop)---|

    Example:
        >>> import rxstream
        >>> answer = rxstream.from_iterable(["Hel", "lo"])
        >>> [(chunk.content, chunk.finish_reason) for chunk in answer.pipe(chunks())]
        [('Hel', None), ('lo', None), ('', 'stop')]

    Args:
        choice: Which answer, where several were asked for.

    Raises:
        ConfigurationError: `choice` is no whole number of at least 0.
    """
    count("choice", choice, least=0)

    def chunked(source: Observable[Event]) -> Observable[MessageChunk]:
        def subscribe(
            observer: abc.ObserverBase[MessageChunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            clock = LoopScheduler.of(scheduler)
            maker = _Maker(clock, choice)

            def on_next(event: Event) -> None:
                chunk = maker.chunk(event)
                if chunk is not None:
                    observer.on_next(chunk)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return chunked


class _Maker:
    """Chunks of one subscription."""

    def __init__(self, scheduler: LoopScheduler, choice: int) -> None:
        self._choice = choice
        self._start = scheduler.loop.time()
        self._epoch = (scheduler.now - timedelta(seconds=self._start)).timestamp()
        self._started: dict[str, Started] = {}

    def chunk(self, event: Event) -> MessageChunk | None:
        if isinstance(event, Started):
            self._started[event.source] = event
            return None
        content = self._content(event)
        return None if content is None else self._make(event, content)

    def _content(self, event: Event) -> dict[str, Any] | None:
        if isinstance(event, UsageReported):
            return {"usage": event.usage}
        if isinstance(event, Finished):
            return {"finish_reason": event.reason}
        if getattr(event, "choice", None) != self._choice:
            return None
        match event:
            case TextDelta():
                return {"content": event.text}
            case ThinkingDelta():
                return {"thinking": event.text}
            case RefusalDelta():
                return {"refusal": event.text}
            case ToolCallStart():
                return {"tool_calls": (ToolCallChunk(part=event.part, id=event.id, name=event.name),)}
            case ToolCallDelta():
                return {"tool_calls": (ToolCallChunk(part=event.part, arguments=event.arguments),)}
            case _:
                return None

    def _make(self, event: Event, content: dict[str, Any]) -> MessageChunk:
        started = self._started.get(event.source, _UNKNOWN)
        metadata = ChunkMetadata(
            model=started.model,
            provider=started.provider,
            timestamp=self._epoch + event.at,
            latency=event.at - self._start,
            source=event.source,
            attempt=event.attempt,
            seq=event.seq,
        )
        return msgspec.structs.replace(MessageChunk(id=started.id, metadata=metadata), **content)
