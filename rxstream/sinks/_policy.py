"""How a handler is to be treated: what becomes of its failures, and of its slowness."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from rxstream._check import count, flag, one_of
from rxstream.segment import TextUnit

__all__ = ["HandlerFigures", "HandlerPolicy", "OnFailure", "Slow"]

OnFailure: TypeAlias = Literal["isolate", "raise", "detach"]
"""What a handler's exception does: no more than to be logged and counted; it ends the stream; so many of them end the handler."""
Slow: TypeAlias = Literal["buffer", "hold", "drop_oldest", "latest", "error"]
"""What a slow handler's full queue does: ends its service; holds the stream; drops what has waited longest, or all but the last;
ends the stream."""

_FAILURES: Final = ("isolate", "raise", "detach")
_SLOW: Final = ("buffer", "hold", "drop_oldest", "latest", "error")
_BY: Final = ("delta", "character", "word", "sentence", "line", "paragraph", "code_fence")


class HandlerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How a handler is treated.

    Raises:
        ConfigurationError: an option is not as described.
    """

    on_failure: OnFailure = "isolate"
    """What it raises is logged, once, and counted (``isolate``); ends the stream, which all are told (``raise``); or is
    that for `failures` times, and then it is told no more of this stream (``detach``)."""
    failures: int = 3
    """After how many failures it is detached."""
    slow: Slow = "buffer"
    """Of a handler with coroutine functions, or with a thread of its own: what happens when `capacity` calls wait for it.
    ``buffer``: it is detached, and loses nothing before. ``hold``: the stream waits for it. ``drop_oldest``: pieces of text,
    of thinking and such are dropped, the oldest first, and counted; never what a program acts on. ``latest``: of those only
    the last one waits, full or not. ``error``: the stream ends with `rxstream.errors.LimitExceeded`."""
    capacity: int = 100_000
    """Calls that may wait."""
    thread: bool = False
    """Whether its plain functions run in a thread of its own, because they block."""
    by: Literal["delta"] | TextUnit = "delta"
    """What a token is: a piece as the provider sends it, or a unit of text, with the white space after it. They are counted
    from the start of the stream; units, where the first handler that wants them comes later, from there."""

    def __post_init__(self) -> None:
        one_of("on_failure", self.on_failure, _FAILURES)
        count("failures", self.failures)
        one_of("slow", self.slow, _SLOW)
        count("capacity", self.capacity)
        flag("thread", self.thread)
        one_of("by", self.by, _BY)


class HandlerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler has been told of one stream, in calls of its methods."""

    delivered: int
    """Calls that it has returned from."""
    failures: int
    """Calls that raised."""
    dropped: int
    """Calls that were not made because it is too slow, or was detached while they waited."""
    waiting: int
    """Calls that wait, the one at work among them."""
    detached: bool
    """Whether it was detached."""
