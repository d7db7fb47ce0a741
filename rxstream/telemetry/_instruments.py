"""The instruments of OpenTelemetry that streams are counted with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rxstream.metrics import StreamMetrics
from rxstream.telemetry import _names as names
from rxstream.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, Meter

    from rxstream.sketch import Sketch

__all__ = ["Instruments"]

_RATES: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
_SAMPLES: Final = 100
"""Gaps of a stream that are told: one costs some microseconds, on the loop."""


class Instruments:
    """All of them, of one meter, by the names of one state of the conventions."""

    def __init__(self, meter: Meter, called: names.Names) -> None:
        def seconds(name: str, what: str) -> Histogram:
            bounds = list(names.SECONDS)
            return meter.create_histogram(name, unit="s", description=what, explicit_bucket_boundaries_advisory=bounds)

        def tokens(name: str, what: str) -> Histogram:
            bounds = list(names.TOKENS)
            return meter.create_histogram(name, "{token}", what, explicit_bucket_boundaries_advisory=bounds)

        self._duration = seconds(called.duration, "From the subscription to the end of the stream.")
        self._first_chunk = seconds(called.first_chunk, "From the request to the first event of the stream.")
        self._per_chunk = seconds(called.per_chunk, "From a chunk of output to the next.")
        self._tokens: dict[str, tuple[Histogram, dict[str, str]]]
        if called.token_usage is not None:
            both = tokens(called.token_usage, "Tokens of input and output.")
            self._tokens = {
                "input": (both, {names.TOKEN_TYPE: "input"}),
                "output": (both, {names.TOKEN_TYPE: "output"}),
            }
        else:
            self._tokens = {
                "input": (tokens(called.input_tokens, "Tokens of input."), {}),
                "output": (tokens(called.output_tokens, "Tokens of output."), {}),
            }
        self._used = {field: meter.create_counter(name, "{token}") for field, name in called.used.items()}
        self._kind = {called.modality: "unknown"}  # providers do not tell
        self._first_output = seconds(names.STREAM_FIRST_OUTPUT, "From the subscription to the first output.")
        self._rate = meter.create_histogram(
            names.STREAM_RATE,
            unit="{token}/s",
            description="Tokens a second, from the first output to the last.",
            explicit_bucket_boundaries_advisory=list(_RATES),
        )
        self._queue = seconds(names.STREAM_QUEUE, "Time that guards, or a manager, let the stream wait.")
        self._paused = seconds(names.STREAM_PAUSED, "Time that the subscriber's gate was closed.")
        self._active = meter.create_up_down_counter(names.ACTIVE, "{stream}", "Streams that are not over.")
        self._ended = meter.create_counter(names.ENDED, "{stream}", "Streams that are over.")
        self._stalls = meter.create_counter(names.STREAM_STALLS, "{stall}", "Silences that were too long.")
        self._stalled = meter.create_counter(names.STREAM_STALLED, "s", "Time of those silences.")
        self._retries = meter.create_counter(
            names.STREAM_RETRIES, "{retry}", "Attempts that failed and were made again."
        )
        self._events = meter.create_counter(names.STREAM_EVENTS, "{event}", "Events of all kinds.")
        self._outputs = meter.create_counter(names.STREAM_OUTPUTS, "{output}", "Pieces of output.")
        self._cost = meter.create_counter(names.STREAM_COST, "USD", "What providers say that they charge.")

    def opened(self, who: dict[str, Any]) -> None:
        """A stream of `who`."""
        self._active.add(1, _few(who))

    def ended(self, told: StreamMetrics, who: dict[str, Any], context: Context | None) -> None:
        """… is over; what is counted can be found by its span, in `context`."""
        self._active.add(-1, _few(who), context)
        labels = dict(who)
        if told.response_model:
            labels[names.RESPONSE_MODEL] = told.response_model
        failed = {names.ERROR_TYPE: told.error.kind} if told.outcome == "failed" and told.error is not None else {}
        self._duration.record(told.duration, labels | failed, context)
        self._ended.add(1, _few(who) | failed | {names.OUTCOME: told.outcome}, context)
        if told.first_chunk is not None:
            self._first_chunk.record(told.first_chunk, labels, context)
        for gap in _samples(told.gaps):
            self._per_chunk.record(gap, labels, context)
        self._use(told, labels, failed, context)
        self._own(told, _few(who), context)

    def _use(
        self, told: StreamMetrics, labels: dict[str, Any], failed: dict[str, str], context: Context | None
    ) -> None:
        usage = told.usage
        if usage is None and not (self._used and told.model):
            return
        usage = usage or Usage()
        for field, counter in self._used.items():
            counter.add(getattr(usage, field) or 0, labels | self._kind, context)
        for direction, used in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            histogram, kind = self._tokens[direction]
            if self._used:
                histogram.record(used or 0, labels | failed, context)
            elif used is not None:
                histogram.record(used, labels | kind, context)
        if usage.cost is not None:
            self._cost.add(usage.cost, _few(labels), context)

    def _own(self, told: StreamMetrics, few: dict[str, Any], context: Context | None) -> None:
        if told.first_output is not None:
            self._first_output.record(told.first_output, few, context)
        if told.rate is not None:
            self._rate.record(told.rate, few, context)
        self._queue.record(told.queue, few, context)
        self._paused.record(told.paused, few, context)
        self._stalls.add(told.stalls, few, context)
        self._stalled.add(told.stalled, few, context)
        self._events.add(told.events, few, context)
        self._outputs.add(told.outputs, few, context)
        for one in told.retried:
            self._retries.add(1, few | {names.ERROR_TYPE: one.error.kind}, context)
        others = told.retries - len(told.retried)  # of which no error is kept
        if others or not told.retried:
            self._retries.add(others, few, context)


def _few(who: dict[str, Any]) -> dict[str, Any]:
    """Provider and model alone."""
    return {name: who[name] for name in (names.PROVIDER, names.REQUEST_MODEL) if name in who}


def _samples(gaps: Sketch) -> Iterator[float]:
    """The gaps between chunks: what came in one read is one. Of more than a hundred, a hundred quantiles stand for them."""
    total = sum(many for _, many in gaps.values())
    step = max(1.0, total / _SAMPLES)
    passed, wanted = 0, step / 2
    for value, many in gaps.values():
        passed += many
        while wanted <= passed:
            yield value
            wanted += step
