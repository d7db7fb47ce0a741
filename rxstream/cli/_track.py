"""One track as the terminal shows it: the stream, its session, and what it has said so far."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rxstream.config import Target
from rxstream.errors import Cancelled, StreamError
from rxstream.events import (
    Event,
    RefusalDelta,
    Retracted,
    Retrying,
    Seam,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    is_content,
)
from rxstream.observable import Stream
from rxstream.prices import price
from rxstream.providers import PROVIDERS
from rxstream.session import Statistics, StreamSession
from rxstream.sinks.console import printable
from rxstream.sources.model import preload
from rxstream.usage import Usage

__all__ = ["Track", "explain"]


class Track:
    """A stream that runs, and the words to show.

    Args:
        stream: The stream.
        target: Who is asked.
        base_url: Where, if not at the provider's own address.
        api_key: With which key, if not that of the environment.
        priced_as: The provider whose prices hold; by default the target's, and nobody's where `base_url` is given.
        note: What a person should know of it.
    """

    def __init__(
        self,
        stream: Stream[Event],
        *,
        target: str,
        base_url: str | None = None,
        api_key: str | None = None,
        priced_as: str | None = None,
        note: str = "",
    ) -> None:
        self.label = printable(stream.label)
        self.error: Exception | None = None
        self.note = note
        self.stream = stream
        self.notices: list[str] = []
        """What a person may want to know while nothing comes: that it failed, and is asked again."""
        self.rewrites = False
        """Whether what is taken back can be taken from the screen; else it is said."""
        self.rewritten = 0
        """How often it was."""
        self._where = Target.parse(target, known=PROVIDERS)
        self._preload = partial(preload, target, base_url=base_url, api_key=api_key)
        self._priced_as = priced_as or ("" if base_url else self._where.provider)
        self._cost: float | None = None
        self._pieces: list[str] = []
        self._thinks = self._waits = False
        self._tell: Callable[[Event], None] | None = None
        self._session: StreamSession | None = None

    combined = False
    """Whether it is the one answer of several tracks."""

    def preload(self) -> None:
        """Do what the request would wait for; see `rxstream.sources.model.preload`."""
        self._preload()
        self.price(Usage(input_tokens=0, output_tokens=0))  # the table takes half a second to load

    def start(self, *, tell: Callable[[Event], None] | None = None) -> None:
        """Make the request; `tell` is called with each event."""
        self._tell = tell
        self._session = self.stream.start(self._see, self._fail)

    def cancel(self, reason: str) -> None:
        """Close the request, if it was made and is not over."""
        if self._session is not None:
            self._session.cancel(reason)

    def _see(self, event: Event) -> None:
        if self._tell is not None:
            self._tell(event)
        if self._waits and is_content(event):
            self._waits = False
        match event:
            case TextDelta() | RefusalDelta():
                self._pieces.append(printable(event.text))
            case ThinkingDelta():
                self._thinks = True
            case ToolCall():
                self._line(f"→ {event.name}({event.arguments})")
            case Retracted() if self.rewrites:
                self._pieces = [printable(self.session.partial.text)]
                self.rewritten += 1
            case Retracted():  # what is written stays written: a pipe and a scroll-back take nothing back
                self._line(f"[taken back: all after the first {event.to_offset} characters; once more:]")
            case Seam() if not event.verified:  # else nothing is missing and nothing doubled: there is nothing to see
                self._line("[cut here, and gone on:]")
            case Retrying():
                self._waits = True
                wait = f" in {event.delay:.1f} s" if event.delay >= 0.1 else ""
                self.notices.append(printable(f"{event.error.kind}, asking again{wait}"))
            case _:
                pass

    def _line(self, words: str) -> None:
        lead = "\n" if self.text and not self.text.endswith("\n") else ""
        self._pieces.append(f"{lead}{printable(words)}\n")

    def _fail(self, error: Exception) -> None:
        self.error = error

    @property
    def text(self) -> str:
        """What was said, fit for a terminal: text, refusals and tool calls."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

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
        if self._thinks and not self._pieces and not self.over:
            pieces.append("thinking …")
        if self.over and self._cost is None:
            self._cost = self.price(self.session.partial.usage)
        if self._waits and not self.over:
            pieces.append(self.notices[-1])
        if self._cost is not None:
            pieces.append(f"${self._cost:.6f}".rstrip("0").rstrip("."))
        return [*pieces, *self._ending()]

    def price(self, usage: Usage) -> float | None:
        """What `usage` costs, in US dollars; None where that is not known."""
        return price(usage, provider=self._priced_as, model=self._where.model) if self._priced_as else None

    def _ending(self) -> list[str]:
        match self.error:
            case None:
                reason = (self.session.partial.finish_reason or "cut short") if self.over else None
                return [reason] if reason not in (None, "stop") else []
            case Cancelled():
                return ["cancelled"]
            case _:
                return [type(self.error).__name__]


def _first(stats: Statistics, *, over: bool) -> str:
    if stats.time_to_first_output is not None:
        return f"first token {stats.time_to_first_output:.2f} s"
    return "no output" if over else f"waiting {stats.elapsed:.1f} s"


def _reported(stats: Statistics) -> bool:
    """Whether the provider's count is that of the whole answer; fewer tokens than pieces is an early report."""
    return stats.output_tokens is not None and stats.output_tokens >= stats.outputs


def _rate(stats: Statistics) -> list[str]:
    if stats.tokens_per_second is not None and _reported(stats):
        return [f"{stats.tokens_per_second:.0f} tok/s"]
    return [f"≈{stats.outputs_per_second:.0f} tok/s"] if stats.outputs_per_second is not None else []


def _tokens(stats: Statistics) -> list[str]:
    if _reported(stats):
        return [f"{stats.output_tokens} tokens"]
    return [f"≈{stats.outputs} tokens"] if stats.outputs else []


def explain(error: Exception | None) -> str:
    """`error` in a line or two: what happened, what is kept, and why no more was done about it."""
    kept = error.partial.text if isinstance(error, StreamError) and error.partial is not None else ""
    tail = f" (kept: {len(kept)} characters that arrived)" if kept else ""
    notes: list[str] = getattr(error, "__notes__", [])
    return printable("\n".join([f"{type(error).__name__}: {error}{tail}", *notes]))
