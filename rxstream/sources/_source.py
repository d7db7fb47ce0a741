"""What a source is to the pump: how to open it, how to decode it, and what to call it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from rxstream.errors import StreamError
from rxstream.events import Event

if TYPE_CHECKING:
    from rxstream.config import Request, Timeouts

__all__ = ["Feed", "Source"]

D = TypeVar("D")
D_contra = TypeVar("D_contra", contravariant=True)


class Feed(Protocol[D_contra]):
    """A `rxstream.typing.Decoder` of any kind of data."""

    @property
    def finished(self) -> bool: ...
    @property
    def failure(self) -> StreamError | None: ...
    def feed(self, data: D_contra, /) -> list[Event]: ...
    def close(self) -> list[Event]: ...


@dataclass(frozen=True, kw_only=True)
class Source(Generic[D]):
    """Where events come from: how to open it, how to decode it, and what to call it."""

    open: Callable[[], AbstractAsyncContextManager[AsyncIterator[D]]] = field(repr=False)
    """Entered once a subscription: sends the request, gives the data, closes the connection."""
    decoder: Callable[[], Feed[D]]
    prepare: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)
    """Awaited before the clocks start: for what the process does once (loading an SDK, starting a server)."""
    label: str = ""
    keep_labels: bool = False
    """Whether events keep the label that they come with."""
    provider: str = ""
    model: str = ""
    asks: Request | None = field(default=None, repr=False)
    """The question that it asks a model; None where it asks none."""
    timeouts: Timeouts | None = None
    """The six clocks; None is none."""
    read_ahead: int = 0
    """How much to read while the gate is closed, in bytes (``len`` of the data); 0 for what is made on demand."""
    max_events: int | None = None
    """How many events one subscription may have, or None for no limit."""
    keep_partial: bool = True
    """Whether errors hold the answer so far; without it memory stays constant however long the stream."""
