"""Who wants to see the bytes that sources read, told by the sources.

Rules of this module:

* Taps travel upstream with the scheduler, like the gate: whoever subscribes with one sees every request above, whatever operators
  stand between, on the stream's loop.
* A tap sees what comes; it changes nothing. Where there is none it costs nothing.
"""

from __future__ import annotations

from typing import Literal, Protocol

from rxstream.events import RateLimits

__all__ = ["Tap", "TappedRequest"]


class TappedRequest(Protocol):
    """Is told of one request."""

    def answered(self, rate_limits: RateLimits | None) -> None:
        """The response's headers have come."""
        ...

    def data(self, data: bytes) -> None:
        """A piece of the body has come."""
        ...

    def end(self, body: Literal["end", "left", "error"], error: Exception | None = None) -> None:
        """The body has ended, was left, or failed; the first time counts."""
        ...


class Tap(Protocol):
    """Is told of requests."""

    def request(self, *, provider: str, model: str, source: str) -> TappedRequest:
        """A request is about to be made."""
        ...
