"""What is measured of a stream: the nouns that ``meter`` makes and that sinks take.

Rules of this module:

* Seconds of a stream are the loop's, from its subscription; `StreamOpened.started_at` alone says when that was for the world.
* A piece of output is timed by when its bytes were read, not by when somebody got round to it. A pause is nobody's latency.
* What nobody said is None, never 0.
* Nothing here holds what was said, but `StreamMetrics.response`, and that only where a sink asked for it; what was asked is in
  `StreamOpened.request`. Neither is in a repr.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

from rxstream._shown import shown
from rxstream.events import ErrorInfo, FinishReason
from rxstream.sketch import Sketch
from rxstream.usage import Usage

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["Measurement", "MetricsSink", "Retried", "StreamMetrics", "StreamOpened", "StreamOutcome", "TracingSink"]

StreamOutcome: TypeAlias = Literal["completed", "failed", "cancelled"]
"""How a stream ended: ``cancelled`` by whoever wanted it, which is no fault."""


class StreamOpened(msgspec.Struct, frozen=True, kw_only=True):
    """A stream was subscribed. The sink is told in the subscriber's own thread and context, before anything is sent."""

    id: int
    """Of this subscription, unique in the process."""
    label: str = ""
    provider: str = ""
    model: str = ""
    """The one that is asked; empty, as the provider is, where the stream's model is not known."""
    base_url: str = ""
    started_at: float = 0.0
    """Seconds since 1970."""
    request: Any = None
    """The `rxstream.Request`, where there is one. It holds the prompt: whoever writes it down says so."""

    def __repr__(self) -> str:
        """Which stream, and of what model; no prompt."""
        return f"<StreamOpened {self.id} {shown(self.label or self.model) or 'a stream'}>"


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt failed, and another one was made."""

    at: float
    """Seconds since the subscription."""
    error: ErrorInfo
    delay: float
    how: str


class StreamMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured of one stream, told once, when it is over, in whatever way it ended."""

    opened: StreamOpened
    outcome: StreamOutcome
    duration: float
    """Seconds from the subscription to the end, all included."""
    error: ErrorInfo | None = None
    """Why it failed: an error of the stream's own, or one that its subscriber raised. Of a cancellation that came as an error, that one."""
    finish_reason: FinishReason | None = None
    response_id: str = ""
    response_model: str = ""
    provider: str = ""
    """Who answered; where the provider's events do not say, who was asked."""
    first_event: float | None = None
    """Seconds from the subscription to the first event of any kind; None if there was none."""
    first_chunk: float | None = None
    """… to the first event that is a model's, the queue before it left out; a failed attempt has none where it is made again."""
    first_output: float | None = None
    """… to the first content: text, thinking, refusal, a tool call, media."""
    gaps: Sketch
    """Seconds from each piece of output to the next: the inter-token latency. What came in one read came at once."""
    speaking: float = 0.0
    """Seconds from the first piece of output to the last, pauses left out."""
    events: int = 0
    outputs: int = 0
    """Pieces of output. With most providers one is about a token."""
    thought: bool = False
    """Whether thinking was among them."""
    usage: Usage | None = None
    """Of all attempts; None where nothing was reported."""
    queue: float = 0.0
    """Seconds in which guards, or the manager that runs the stream, let it wait before a request was made."""
    pauses: int = 0
    paused: float = 0.0
    """Seconds in which the subscriber's gate was closed: a pause, or a consumer that could not keep up."""
    stalls: int = 0
    """Gaps longer than meter's ``stall``."""
    stalled: float = 0.0
    """Seconds of those gaps."""
    retries: int = 0
    retried: tuple[Retried, ...] = ()
    """The first hundred of them."""
    retracted: int = 0
    """How often text was taken back."""
    response: Response | None = msgspec.field(default=None)
    """The answer, where a sink wants it."""

    def __repr__(self) -> str:
        """How it went; no answer."""
        name = shown(self.opened.label or self.model) or "a stream"
        return f"<StreamMetrics {self.opened.id} {name} {self.outcome}, {self.duration:.3f} s>"

    @property
    def model(self) -> str:
        """The model that answered, or else the one that was asked."""
        return self.response_model or self.opened.model

    @property
    def output_tokens(self) -> int:
        """As reported; where that is not all, because the stream was cut short, or nothing was, at least the pieces of output."""
        return self._tokens(0)

    @property
    def rate(self) -> float | None:
        """Output tokens a second, from the first to the last; None where there was no time between them.

        Reasoning that was not streamed was done before: its tokens are left out.
        """
        hidden = 0 if self.thought or self.usage is None else self.usage.reasoning_tokens or 0
        tokens = self._tokens(hidden)
        return (tokens - 1) / self.speaking if self.speaking > 0 and tokens > 1 else None

    def _tokens(self, hidden: int) -> int:
        usage = self.usage
        if usage is None or usage.output_tokens is None:
            return self.outputs
        known = usage.output_tokens - hidden
        return known if usage.provenance == "reported" else max(known, self.outputs)


Measurement: TypeAlias = StreamOpened | StreamMetrics
"""What a sink is told."""


class MetricsSink(Protocol):
    """Somebody who is told what was measured."""

    def record(self, measurement: Measurement, /) -> None:
        """A stream was opened, or is over. Be quick; what this raises goes to the loop's exception handler.

        Sinks are shared by streams on several loops and threads: one that keeps something must lock it.
        """
        ...


@runtime_checkable
class TracingSink(MetricsSink, Protocol):
    """A sink whose context is to be current while the request is set up, and which may want to know what was said."""

    @property
    def wants_response(self) -> bool:
        """Whether `StreamMetrics.response` is to be filled; it costs what keeping the answer costs."""
        ...

    def around(self, opened: StreamOpened) -> AbstractContextManager[object]:
        """Entered for the time of the subscribing call alone, after `record`; never across events."""
        ...
