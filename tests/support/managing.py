"""For tests of managers: a handler that writes down what it is told, and the law of the events of many streams."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from rxstream._managed import LEGAL
from rxstream.events import Event
from rxstream.manager_events import StreamEvent
from rxstream.observable import Stream
from rxstream.response import Response
from rxstream.sinks.handler import StreamHandler, StreamMetadata
from tests.support.scripted import Scripted, words

__all__ = ["Diary", "check_order", "handler", "scripted"]


class Diary(StreamHandler):
    """Writes down what it is told, of each stream."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def on_stream_start(self, metadata: StreamMetadata) -> None:
        self.told.append(("start", metadata.stream_id))

    def on_token_received(self, token: str, index: int) -> None:
        self.told.append((token, index))

    def on_stream_complete(self, full_response: Response) -> None:
        self.told.append(("complete", full_response.text))

    def on_stream_error(self, error: Exception) -> None:
        self.told.append(("error", type(error).__name__))

    def on_pause(self) -> None:
        self.told.append(("pause",))

    def on_resume(self) -> None:
        self.told.append(("resume",))

    def on_cancel(self, reason: str) -> None:
        self.told.append(("cancel", reason))


def handler(**methods: Any) -> SimpleNamespace:
    """An object that has these methods of a handler."""
    return SimpleNamespace(**methods)


def scripted(*texts: str, every: float = 1.0) -> Stream[Event]:
    return Stream.of(Scripted(words(*texts, every=every)).events())


def check_order(told: list[StreamEvent], streams: int) -> None:
    """Of each stream every event, once, in order; legal transitions; one end."""
    step = {"stream-started": "active", "stream-paused": "paused", "stream-resumed": "active"}
    status: dict[str, Any] = {}
    numbers: dict[str, int] = {}
    for one in told:
        assert one.number == numbers.get(one.stream_id, 0)
        numbers[one.stream_id] = one.number + 1
        before = status.setdefault(one.stream_id, "inactive")
        tag: Any = type(one.event).__struct_config__.tag
        after = step.get(tag, before) if tag != "stream-ended" else one.event.status  # type: ignore[union-attr]
        assert after == before or after in LEGAL[before]
        status[one.stream_id] = after
    assert len(status) == streams
    assert not [one for one, last in status.items() if LEGAL[last]]
