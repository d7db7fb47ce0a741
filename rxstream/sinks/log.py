"""A handler that writes into a log that streams begin and end, and how."""

from __future__ import annotations

import copy
import logging
import time
from typing import TYPE_CHECKING, Any

from rxstream._check import count, instance
from rxstream.errors import Cancelled, error_info
from rxstream.sinks.handler import StreamHandler, StreamMetadata

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["LoggingStreamHandler"]


class LoggingStreamHandler(StreamHandler):
    """Logs the start, pauses and the end of each stream, with figures as ``record.rxstream``; never a word of the answer.

    Args:
        logger: Where to; by default ``rxstream.streams``.
        level: Of all but failures, which are errors; a cancellation is none.

    Raises:
        ConfigurationError: `logger` is none, or `level` no number.
    """

    def __init__(self, logger: logging.Logger | None = None, *, level: int = logging.INFO) -> None:
        instance("logger", logger, logging.Logger)
        self._logger = logger or logging.getLogger("rxstream.streams")
        self._level = count("level", level, least=0)
        self._metadata = StreamMetadata()
        self._began = 0.0
        self._tokens = 0

    def for_stream(self, metadata: StreamMetadata) -> LoggingStreamHandler:  # noqa: ARG002 - whichever it is
        """A copy: streams do not mix."""
        return copy.copy(self)

    def on_stream_start(self, metadata: StreamMetadata) -> None:
        """Log it."""
        self._metadata = metadata
        self._began, self._tokens = time.monotonic(), 0
        self._log(self._level, "started")

    def on_token_received(self, token: str, index: int) -> None:  # noqa: ARG002 - never what it says
        """Count it."""
        self._tokens = index + 1

    def on_pause(self) -> None:
        """Log it."""
        self._log(self._level, "paused")

    def on_resume(self) -> None:
        """Log it."""
        self._log(self._level, "resumed")

    def on_stream_complete(self, full_response: Response) -> None:
        """Log it, with what it came to."""
        usage = full_response.usage
        self._log(
            self._level,
            "completed",
            finish_reason=full_response.finish_reason,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            **self._figures(),
        )

    def on_stream_error(self, error: Exception) -> None:
        """Log it, with the kind of the error; not with what it says, which may be anybody's words."""
        level = self._level if isinstance(error, Cancelled) else logging.ERROR
        info = error_info(error)
        self._log(level, "failed", error=info.kind, phase=info.phase, status=info.status, **self._figures())

    def _figures(self) -> dict[str, Any]:
        return {"seconds": round(time.monotonic() - self._began, 3), "pieces": self._tokens}

    def _log(self, level: int, what: str, **figures: Any) -> None:
        of = self._metadata
        whose = {name: getattr(of, name) or None for name in ("stream_id", "label", "provider", "model", "trace_id")}
        known = {name: value for name, value in {**whose, **figures}.items() if value is not None}
        said = " ".join(f"{name}={value}" for name, value in known.items() if name in figures)
        name = of.label or of.stream_id or "a stream"
        told = {"what": f"stream-{what}", **known}
        self._logger.log(level, "%s %s %s", name, what, said, extra={"rxstream": told})
