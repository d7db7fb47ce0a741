"""Measurements as records of the standard library's ``logging``: figures, never a prompt, an answer or a key."""

from __future__ import annotations

import logging
from typing import Any

from rxstream._check import count, instance
from rxstream._shown import shown
from rxstream.metrics import Measurement, StreamMetrics, StreamOpened

__all__ = ["LoggingSink", "figures"]


class LoggingSink:
    """Writes a line for each stream that is over, with its figures as the record's ``rxstream``.

    A stream that failed is a warning.

    Example:
        >>> import logging, rxstream
        >>> from rxstream import operators as rxo
        >>> sink = LoggingSink(logging.getLogger("my.streams"))
        >>> rxstream.from_iterable(["to ", "be"]).pipe(rxo.meter(sink)).run().text
        'to be'

    Args:
        logger: Where to; ``rxstream.metrics`` if not given.
        level: Of streams that completed or were cancelled.
        failed: Of those that failed.

    Raises:
        ConfigurationError: `logger` is no logger, or a level no number of one.
    """

    def __init__(
        self, logger: logging.Logger | None = None, *, level: int = logging.INFO, failed: int = logging.WARNING
    ) -> None:
        instance("logger", logger, logging.Logger)
        self._logger = logger or logging.getLogger("rxstream.metrics")
        self._level = count("level", level, least=0)
        self._failed = count("failed", failed, least=0)

    def record(self, measurement: Measurement, /) -> None:
        """Write it down, if it is the end of a stream."""
        if isinstance(measurement, StreamOpened):
            return
        level = self._failed if measurement.outcome == "failed" else self._level
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", _line(measurement), extra={"rxstream": figures(measurement)})


def figures(told: StreamMetrics) -> dict[str, Any]:
    """What was measured as plain values, those that nobody knows left out; nothing of what was said."""
    usage = told.usage
    found: dict[str, Any] = {
        "stream": told.opened.id,
        "label": told.opened.label or None,
        "provider": told.provider or None,
        "model": told.model or None,
        "response_id": told.response_id or None,
        "outcome": told.outcome,
        "error": None if told.error is None else told.error.kind,
        "phase": None if told.error is None else told.error.phase,
        "status": None if told.error is None else told.error.status,
        "finish_reason": told.finish_reason,
        "duration": told.duration,
        "speaking": told.speaking,
        "first_event": told.first_event,
        "first_chunk": told.first_chunk,
        "first_output": told.first_output,
        "gap_p50": told.gaps.quantile(0.5),
        "gap_p95": told.gaps.quantile(0.95),
        "gap_p99": told.gaps.quantile(0.99),
        "rate": told.rate,
        "events": told.events,
        "outputs": told.outputs,
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "cost": None if usage is None else usage.cost,
        "queue": told.queue,
        "pauses": told.pauses,
        "paused": told.paused,
        "stalls": told.stalls,
        "stalled": told.stalled,
        "retries": told.retries,
        "retracted": told.retracted,
    }
    return {name: value for name, value in found.items() if value is not None}


def _line(told: StreamMetrics) -> str:
    who = shown(told.provider, told.model or told.opened.label) or "a stream"
    error = f" with {told.error.kind}" if told.outcome == "failed" and told.error is not None else ""
    first = "" if told.first_output is None else f", first output after {told.first_output:.3f} s"
    rate = "" if told.rate is None else f", {told.rate:.1f} tokens/s"
    return f"{who} {told.outcome}{error} after {told.duration:.3f} s: {told.outputs} outputs{first}{rate}"
