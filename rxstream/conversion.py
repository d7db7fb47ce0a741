"""Streams made of what you have: an iterator, a callback, a complete answer, a recording.

Each is the source of the same name in `rxstream.sources`, as a cold `Stream`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from rxstream.events import Event
from rxstream.observable import Stream
from rxstream.sources._pump import pump
from rxstream.sources._source import Source
from rxstream.sources.callback import from_callback as _from_callback
from rxstream.sources.emulate import emulate as _emulate
from rxstream.sources.iterable import from_iterable as _from_iterable
from rxstream.sources.replay import replay as _replay
from rxstream.sources.tape import tape as _tape

__all__ = ["emulate", "from_callback", "from_iterable", "replay", "tape"]

P = ParamSpec("P")


def _streamed(make: Callable[P, Source[Any]]) -> Callable[P, Stream[Event]]:
    """`make`, giving a Stream."""

    @wraps(make)
    def streamed(*args: P.args, **kwargs: P.kwargs) -> Stream[Event]:
        source = make(*args, **kwargs)
        return Stream.of(pump(source), label=source.label)

    return streamed


from_iterable = _streamed(_from_iterable)
from_callback = _streamed(_from_callback)
emulate = _streamed(_emulate)
replay = _streamed(_replay)
tape = _streamed(_tape)
