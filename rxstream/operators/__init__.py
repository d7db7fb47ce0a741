"""Operators on events. Each works on any Observable; Rx's own stand beside them, never behind.

::

    from reactivex import operators as ops
    from rxstream import operators as rxo

An operator emits nothing while its subscriber's gate is closed (see `rxstream.Gate`). Those that wait, keep or count do so on
the subscriber's loop: a source that calls from another thread goes through ``observe_on_loop`` first.
"""

from rxstream._backlog import BufferStatistics
from rxstream.operators._buffer_tokens import buffer_tokens
from rxstream.operators._chunks import chunks
from rxstream.operators._coalesce import coalesce
from rxstream.operators._debounce import debounce
from rxstream.operators._guard import guard
from rxstream.operators._limit import limit
from rxstream.operators._map_async import map_async
from rxstream.operators._meter import meter
from rxstream.operators._observe_on_loop import observe_on_loop
from rxstream.operators._of_track import of_track
from rxstream.operators._of_type import of_type
from rxstream.operators._on_backpressure_buffer import on_backpressure_buffer
from rxstream.operators._on_backpressure_coalesce import on_backpressure_coalesce
from rxstream.operators._on_backpressure_drop import on_backpressure_drop
from rxstream.operators._on_backpressure_error import on_backpressure_error
from rxstream.operators._on_backpressure_latest import on_backpressure_latest
from rxstream.operators._on_error_complete import on_error_complete
from rxstream.operators._pace import pace
from rxstream.operators._progress import Progress, progress
from rxstream.operators._rate_limit import rate_limit
from rxstream.operators._record import record
from rxstream.operators._responses import responses
from rxstream.operators._retry_stream import retry_stream
from rxstream.operators._sample import sample
from rxstream.operators._segments import segments
from rxstream.operators._share import share
from rxstream.operators._share_replay import share_replay
from rxstream.operators._synchronize import synchronize
from rxstream.operators._text import text
from rxstream.operators._timeouts import timeouts
from rxstream.operators._valve import valve

__all__ = [
    "BufferStatistics",
    "Progress",
    "buffer_tokens",
    "chunks",
    "coalesce",
    "debounce",
    "guard",
    "limit",
    "map_async",
    "meter",
    "observe_on_loop",
    "of_track",
    "of_type",
    "on_backpressure_buffer",
    "on_backpressure_coalesce",
    "on_backpressure_drop",
    "on_backpressure_error",
    "on_backpressure_latest",
    "on_error_complete",
    "pace",
    "progress",
    "rate_limit",
    "record",
    "responses",
    "retry_stream",
    "sample",
    "segments",
    "share",
    "share_replay",
    "synchronize",
    "text",
    "timeouts",
    "valve",
]
