"""One track as the terminal shows it: the stream, its session, and what it has said so far."""

from __future__ import annotations

from rxstream.errors import Cancelled, StreamError
from rxstream.events import Event, RefusalDelta, Started, TextDelta, ThinkingDelta, ToolCall
from rxstream.observable import Stream
from rxstream.prices import price
from rxstream.session import Statistics, StreamSession
from rxstream.sinks.console import printable

__all__ = ["Track", "explain"]


class Track:
    """A stream that runs, and the words to show."""

    def __init__(self, stream: Stream[Event], *, provider: str = "", model: str = "") -> None:
        self.label = stream.label
        self.text = ""
        """What was said, fit for a terminal: text, refusals and tool calls."""
        self.thinking = 0
        """Characters of reasoning so far."""
        self.error: Exception | None = None
        self._stream = stream
        self._provider = provider
        self._model = model
        self._session: StreamSession | None = None

    def start(self) -> None:
        """Make the request."""
        self._session = self._stream.start(self.see, self._fail)

    def see(self, event: Event) -> None:
        """Note what `event` adds to the picture."""
        match event:
            case TextDelta() | RefusalDelta():
                self.text += printable(event.text)
            case ThinkingDelta():
                self.thinking += len(event.text)
            case ToolCall():
                lead = "\n" if self.text and not self.text.endswith("\n") else ""
                self.text += f"{lead}→ {printable(event.name)}({printable(event.arguments)})\n"
            case Started():
                self._model = self._model or event.model
            case _:
                pass

    def _fail(self, error: Exception) -> None:
        self.error = error

    @property
    def session(self) -> StreamSession:
        """The running stream."""
        assert self._session is not None, "start() comes first"  # noqa: S101
        return self._session

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.session.status in ("completed", "cancelled", "error")

    @property
    def failed(self) -> bool:
        """Whether it ended for a reason of its own; being cancelled is none."""
        return self.error is not None and not isinstance(self.error, Cancelled)

    def figures(self) -> list[str]:
        """The status line, piece by piece: time to the first token, rate, tokens, cost."""
        stats = self.session.statistics
        pieces = [_first(stats, over=self.over), *_rate(stats), *_tokens(stats)]
        if self.thinking and not self.text:
            pieces.append("thinking …")
        if (cost := self._cost()) is not None:
            pieces.append(f"${cost:.6f}".rstrip("0").rstrip("."))
        return [*pieces, *self._ending()]

    def _cost(self) -> float | None:
        if not self.over:
            return None
        response = self.session.partial
        return price(response.usage, provider=self._provider, model=self._model or response.model)

    def _ending(self) -> list[str]:
        match self.error:
            case None:
                reason = self.session.partial.finish_reason if self.over else None
                return [reason] if reason not in (None, "stop") else []
            case Cancelled():
                return ["cancelled"]
            case _:
                return [type(self.error).__name__]


def _first(stats: Statistics, *, over: bool) -> str:
    if stats.time_to_first_output is not None:
        return f"first token {stats.time_to_first_output:.2f} s"
    return "no output" if over else f"waiting {stats.elapsed:.1f} s"


def _rate(stats: Statistics) -> list[str]:
    if stats.tokens_per_second is not None:
        return [f"{stats.tokens_per_second:.0f} tok/s"]
    return [f"≈{stats.outputs_per_second:.0f} tok/s"] if stats.outputs_per_second is not None else []


def _tokens(stats: Statistics) -> list[str]:
    if stats.output_tokens is not None and stats.output_tokens >= stats.outputs:  # else it is an early report
        return [f"{stats.output_tokens} tokens"]
    return [f"≈{stats.outputs} tokens"] if stats.outputs else []


def explain(error: Exception | None) -> str:
    """`error` in a line or two: what happened, and what is kept."""
    kept = error.partial.text if isinstance(error, StreamError) and error.partial is not None else ""
    tail = f" (kept: {len(kept)} characters that arrived)" if kept else ""
    return printable(f"{type(error).__name__}: {error}{tail}")
