"""Measurements kept in memory, as a report of text and as a picture.

What is kept does not grow: a `Totals` for each model, and the last `keep` streams one by one.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from html import escape
from operator import attrgetter
from typing import Final, NamedTuple

from msgspec import structs

from rxstream._check import count
from rxstream._shown import shown
from rxstream.metrics import Measurement, StreamMetrics, StreamOpened, StreamOutcome
from rxstream.sketch import Sketch
from rxstream.usage import Usage

__all__ = ["MemorySink", "Totals"]

_OTHERS: Final = ("", "others")
_COLOURS: Final = ("#0a62a9", "#c4500c", "#2e7d32", "#7b1fa2", "#5d4037", "#00838f")


class Totals:
    """All streams of one model, or of all: counts, sums, and how their figures are distributed."""

    def __init__(self) -> None:
        self.outcomes: Counter[StreamOutcome] = Counter()
        self.errors: Counter[str] = Counter()
        """Failures, by the names of their classes."""
        self.events = self.outputs = self.tokens = 0
        self.retries = self.stalls = self.pauses = self.retracted = 0
        self.stalled = self.paused = self.queued = 0.0
        self.usage = Usage()
        self.first_event, self.first_output = Sketch(), Sketch()
        self.gaps, self.duration, self.rate, self.queue = Sketch(), Sketch(), Sketch(), Sketch()

    @property
    def streams(self) -> int:
        """How many are over."""
        return self.outcomes.total()

    def __repr__(self) -> str:
        """How many, and how they ended."""
        return f"<Totals of {_summary(self, 0).splitlines()[0]}>"

    def copy(self) -> Totals:
        """Those that go their own way from here."""
        twin = Totals()
        for name, value in vars(self).items():
            setattr(twin, name, value.copy() if isinstance(value, Counter | Sketch) else value)
        return twin

    def add(self, told: StreamMetrics) -> None:
        """One more."""
        self.outcomes[told.outcome] += 1
        if told.outcome == "failed" and told.error is not None:
            self.errors[told.error.kind] += 1
        self.events += told.events
        self.outputs += told.outputs
        self.tokens += told.output_tokens
        self.retries += told.retries
        self.stalls += told.stalls
        self.pauses += told.pauses
        self.retracted += told.retracted
        self.stalled += told.stalled
        self.paused += told.paused
        self.queued += told.queue
        if told.usage is not None:
            self.usage += structs.replace(told.usage, raw=None)
        self.gaps.merge(told.gaps)
        self.duration.add(told.duration)
        self.queue.add(told.queue)
        for sketch, value in (
            (self.first_event, told.first_event),
            (self.first_output, told.first_output),
            (self.rate, told.rate),
        ):
            if value is not None:
                sketch.add(value)


_PANELS: Final[tuple[tuple[str, Callable[[Totals], Sketch]], ...]] = (
    ("first output, s", attrgetter("first_output")),
    ("between outputs, s", attrgetter("gaps")),
    ("duration, s", attrgetter("duration")),
    ("tokens a second", attrgetter("rate")),
)


class _Row(NamedTuple):
    name: str
    cells: tuple[str, ...]


class MemorySink:
    """Keeps what ``meter`` measured, for a look at it: a test, a notebook, a page of one's own.

    Any thread may ask. What it gives is a copy or does not change. Neither prompts nor answers are kept.

    Example:
        >>> import rxstream
        >>> from rxstream import operators as rxo
        >>> sink = MemorySink()
        >>> for _ in range(3):
        ...     answer = rxstream.from_iterable(["to ", "be"], label="poet").pipe(rxo.meter(sink)).run()
        >>> sink.totals.streams, sink.totals.outputs
        (3, 6)
        >>> print(sink.report().splitlines()[0])
        3 streams: 3 completed

    Args:
        keep: How many streams are kept one by one, the last ones.
        models: How many models have totals of their own; further ones count as one, ``others``.

    Raises:
        ConfigurationError: an option is out of its range.
    """

    def __init__(self, *, keep: int = 1000, models: int = 100) -> None:
        self._lock = threading.Lock()
        self._last: deque[StreamMetrics] = deque(maxlen=count("keep", keep, least=0))
        self._models = count("models", models)
        self._by_model: dict[tuple[str, str], Totals] = {}
        self._all = Totals()
        self._open: set[int] = set()

    def record(self, measurement: Measurement, /) -> None:
        """Count it."""
        with self._lock:
            if isinstance(measurement, StreamOpened):
                self._open.add(measurement.id)
                return
            self._open.discard(measurement.opened.id)
            opened = structs.replace(measurement.opened, request=None)  # what was asked may be very long
            self._last.append(structs.replace(measurement, opened=opened, response=None))
            self._all.add(measurement)
            key = (measurement.provider, measurement.model or measurement.opened.label)
            if key not in self._by_model and len(self._by_model) >= self._models:
                key = _OTHERS
            self._by_model.setdefault(key, Totals()).add(measurement)

    def __repr__(self) -> str:
        """How many, and how they ended."""
        with self._lock:
            return f"<MemorySink of {_summary(self._all, len(self._open)).splitlines()[0]}>"

    @property
    def open(self) -> int:
        """Streams that are not over."""
        return len(self._open)

    @property
    def streams(self) -> tuple[StreamMetrics, ...]:
        """The last ones that are over, oldest first."""
        with self._lock:
            return tuple(self._last)

    @property
    def totals(self) -> Totals:
        """Of all streams since the start, as of now."""
        with self._lock:
            return self._all.copy()

    @property
    def by_model(self) -> dict[tuple[str, str], Totals]:
        """… of each provider and model; of a stream whose model is not known, of its label."""
        with self._lock:
            return {key: totals.copy() for key, totals in self._by_model.items()}

    def report(self) -> str:
        """A table, for people."""
        with self._lock:
            rows = [_Row(shown(*key) or "unknown", _cells(totals)) for key, totals in self._by_model.items()]
            summary = _summary(self._all, len(self._open))
        if not rows:
            return summary
        head = _Row(
            "model",
            (
                "streams",
                "failed",
                "first output p50/p95",
                "gap p50/p95/p99",
                "tokens/s",
                "retries",
                "stalls",
                "queue",
                "paused",
            ),
        )
        return "\n".join([summary, *_table([head, *rows])])

    def plot(self) -> str:
        """How the latencies and rates of the six models with the most streams are distributed, as an SVG picture.

        Write it to a file, or show it; in a notebook ``IPython.display.SVG(sink.plot())`` does.
        """
        with self._lock:
            models = sorted(self._by_model.items(), key=lambda item: -item[1].streams)
            named = [(shown(*key) or "unknown", totals) for key, totals in models]
            return _svg(named[: len(_COLOURS)], more=len(named[len(_COLOURS) :]))


def _summary(totals: Totals, still_open: int) -> str:
    said = [f"{many} {outcome}" for outcome, many in totals.outcomes.most_common()]
    if still_open:
        said.append(f"{still_open} open")
    lines = [f"{totals.streams} streams: {', '.join(said) or 'none yet'}"]
    if totals.errors:
        lines.append("failed with " + ", ".join(f"{kind} ({many})" for kind, many in totals.errors.most_common()))
    if totals.usage.provenance != "absent":
        used = totals.usage
        lines.append(f"tokens ({used.provenance}): {_count(used.input_tokens)} in, {_count(used.output_tokens)} out")
    return "\n".join(lines)


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _cells(totals: Totals) -> tuple[str, ...]:
    rate = totals.rate.quantile(0.5)
    return (
        str(totals.streams),
        str(totals.outcomes["failed"]),
        _seconds(totals.first_output, 0.5, 0.95),
        _seconds(totals.gaps, 0.5, 0.95, 0.99),
        "-" if rate is None else f"{rate:.1f}",
        str(totals.retries),
        str(totals.stalls),
        _second(totals.queued),
        _second(totals.paused),
    )


def _seconds(sketch: Sketch, *shares: float) -> str:
    values = [sketch.quantile(share) for share in shares]
    return " / ".join("-" if value is None else _second(value) for value in values)


def _second(value: float) -> str:
    return (
        f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms" if value >= 0.00995 else f"{value * 1000:.1f} ms"
    )


def _table(rows: Sequence[_Row]) -> list[str]:
    cells = [(row.name, *row.cells) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]


def _svg(named: Sequence[tuple[str, Totals]], *, more: int) -> str:
    """A panel for each figure: its quantiles from the least to the most, a line for each model; of `more` that they are left out."""
    width, height, left = 620, 110, 80
    rows = len(_PANELS) * (height + 34) + 40
    size = f'width="{left + width + 20}" height="{rows + 18 * (len(named) + 1)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for row, (title, sketch_of) in enumerate(_PANELS):
        top = 24 + row * (height + 34)
        lines = [[sketch_of(totals).quantile(step / 50) for step in range(51)] for _, totals in named]
        most = max((value for line in lines for value in line if value is not None), default=0.0) or 1.0
        parts += [
            f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#bbb"/>',
            f'<text x="{left}" y="{top - 6}" font-weight="bold">{title}</text>',
            f'<text x="{left - 6}" y="{top + 12}" text-anchor="end">{most:.3g}</text>',
            f'<text x="{left - 6}" y="{top + height}" text-anchor="end">0</text>',
            f'<text x="{left}" y="{top + height + 14}">least</text>',
            f'<text x="{left + width / 2}" y="{top + height + 14}" text-anchor="middle">median</text>',
            f'<text x="{left + width}" y="{top + height + 14}" text-anchor="end">most</text>',
        ]
        for number, line in enumerate(lines):
            points = " ".join(
                f"{left + step / 50 * width:.1f},{top + height - value / most * height:.1f}"
                for step, value in enumerate(line)
                if value is not None
            )
            if points:
                parts.append(
                    f'<polyline points="{points}" fill="none" stroke="{_COLOURS[number]}" stroke-width="1.5"/>'
                )
    for number, (name, totals) in enumerate(named):
        text = escape(f"{name} ({totals.streams} streams)")
        parts.append(f'<text x="{left}" y="{rows + 14 * number}" fill="{_COLOURS[number]}">{text}</text>')
    if more:
        parts.append(f'<text x="{left}" y="{rows + 14 * len(named)}">and {more} more, with fewer streams</text>')
    return "\n".join([*parts, "</svg>"])
