"""What a manager tells of its streams: every event of every stream, and what becomes of the streams themselves.

Rules of this module:

* Everything is a frozen ``msgspec.Struct`` and data alone: a list of these is plain JSON Lines (`msgspec.json.encode`).
* `StreamEvent.number` counts per stream, from 0, without gaps.
* The grammar of one stream is ``StreamStarted (event | StreamPaused | StreamResumed)* StreamEnded``. One that is cancelled while it
  waits for its turn has a `StreamEnded` alone.
"""

from __future__ import annotations

import msgspec

from rxstream.events import ErrorInfo, Event
from rxstream.session import SessionStatus
from rxstream.sinks.handler import StreamMetadata

__all__ = ["Lifecycle", "StreamEnded", "StreamEvent", "StreamPaused", "StreamResumed", "StreamStarted"]


class _Lifecycle(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    at: float = 0.0
    """When, in seconds of the event loop's clock, which events have, too."""


class StreamStarted(_Lifecycle, frozen=True, kw_only=True, tag="stream-started"):
    """The stream is asked for."""

    metadata: StreamMetadata
    queue_time: float = 0.0
    """Seconds that it waited for its turn."""


class StreamPaused(_Lifecycle, frozen=True, kw_only=True, tag="stream-paused"):
    """Somebody has paused it."""


class StreamResumed(_Lifecycle, frozen=True, kw_only=True, tag="stream-resumed"):
    """… and let it go on."""


class StreamEnded(_Lifecycle, frozen=True, kw_only=True, tag="stream-ended"):
    """It is over; nothing more comes of it."""

    status: SessionStatus
    """``completed``, ``cancelled`` or ``error``."""
    error: ErrorInfo | None = None
    """Why, if it did not complete."""


Lifecycle = StreamStarted | StreamPaused | StreamResumed | StreamEnded
"""What becomes of a stream."""


class StreamEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event, and whose it is."""

    stream_id: str
    number: int
    """Counts what is told of this stream, from 0, without gaps."""
    event: Event | Lifecycle
    request_id: str = ""
    """As the metadata has it; else the provider's id of the answer, from its `rxstream.events.Started` on. Of a combination,
    that of the track that the event is of."""
    parent_id: str = ""
    trace_id: str = ""
