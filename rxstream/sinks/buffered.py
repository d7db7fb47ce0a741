"""A handler that keeps the answer, for who wants it whole and waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Final, Self

from rxstream._check import finite
from rxstream.aggregate import Answers
from rxstream.errors import Cancelled, ConfigurationError, LoopShutDown, StreamError, raisable
from rxstream.events import Event
from rxstream.loop import refuse_to_block, running_loop
from rxstream.sinks.handler import StreamHandler, StreamMetadata

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["BufferedStreamHandler"]

_LOOK: Final = 1.0
"""Seconds between two looks at whether the loop is still there."""


class BufferedStreamHandler(StreamHandler):
    """Keeps what it is told, what is retracted left out. It serves one stream at a time, and may serve another after it.

    Everything may be asked from any thread.

    Example:
        >>> import rxstream
        >>> handler = rxstream.BufferedStreamHandler()
        >>> _ = rxstream.from_iterable(["to ", "be"]).subscribe(handler)
        >>> handler.get_response(timeout=5)
        'to be'

    Raises:
        ConfigurationError: it is to serve a second stream while the first one runs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answers = Answers()
        self._outcome: Future[Response] = Future()
        self._last: Response | None = None
        self._serving = False

    # --- what it has --------------------------------------------------------------------------------------------------

    def get_response(self, timeout: float | None = None) -> str:
        """Wait, at most `timeout` seconds, for the end, and give the text of the answer.

        Raises:
            StreamError: the stream failed or was cancelled; ``partial`` holds what arrived.
            Cancelled: it was removed before the end, or the subscription was disposed; `rxstream.errors.LoopShutDown` if the
                loop was closed under the stream.
            TimeoutError: it has not ended yet; it goes on.
            ConfigurationError: called on the stream's own loop, where waiting would never end, or on any before it has begun;
                or `timeout` is no number.
        """
        here = running_loop()
        if not self._outcome.done() and here is not None and self._loop in (None, here):
            refuse_to_block(here, "use `response` once it has ended, or `text`")
        until = None if timeout is None else time.monotonic() + finite("timeout", timeout)
        outcome = self._outcome
        while not outcome.done():
            left = _LOOK if until is None else until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the stream has not ended within {timeout} s; it goes on")
            wait([outcome], min(left, _LOOK))
            if self._loop is not None and self._loop.is_closed():
                self._give_up(LoopShutDown())
        return outcome.result().text

    @property
    def response(self) -> Response | None:
        """The answer; of a stream that failed what arrived. None as long as it runs."""
        return self._last

    @property
    def text(self) -> str:
        """The text so far.

        Raises:
            ConfigurationError: the stream holds the answers of several tracks.
        """
        with self._lock:
            return self._answers.response().text

    # --- what it is told ----------------------------------------------------------------------------------------------

    def for_stream(self, metadata: StreamMetadata) -> Self:  # noqa: ARG002 - whichever it is
        """Itself, if it is free.

        Raises:
            ConfigurationError: it is not.
        """
        with self._lock:
            if self._serving:
                raise ConfigurationError("a BufferedStreamHandler serves one stream at a time: give each its own")
            self._serving = True
            self._loop = running_loop()
        return self

    def dismissed(self) -> None:
        """It is free; who waits for the answer learns that it will not come."""
        self._give_up(Cancelled("its handler was removed, or the subscription disposed"))

    def on_stream_start(self, metadata: StreamMetadata) -> None:  # noqa: ARG002 - of any stream
        """Begin anew."""
        with self._lock:
            self._answers = Answers()
            self._last = None
            if self._outcome.done():
                self._outcome = Future()

    def on_event(self, event: Event) -> None:
        """Keep it."""
        self._loop = self._loop or running_loop()
        with self._lock:
            self._answers.add(event)

    def on_stream_complete(self, full_response: Response) -> None:
        """There it is."""
        self._last = full_response
        self._serving = False
        self._outcome.set_result(full_response)

    def on_stream_error(self, error: Exception) -> None:
        """Keep what arrived, and the error for who waits."""
        self._last = error.partial if isinstance(error, StreamError) else None
        self._serving = False
        self._outcome.set_exception(raisable(error))

    def _give_up(self, error: Cancelled) -> None:
        """There will be no end, unless it has been told; from any thread."""
        with self._lock:
            self._serving = False
            if not self._outcome.done():
                with contextlib.suppress(ConfigurationError):
                    error.partial = self._answers.response()
                self._last = error.partial
                self._outcome.set_exception(error)
