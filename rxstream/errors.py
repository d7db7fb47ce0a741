"""What can go wrong with a stream: one tree, every error of it a `StreamError`.

::

    RxstreamError
    ├── ConfigurationError       what you asked for cannot be asked: nothing was sent
    │   ├── MissingDependency    an optional package is not installed; the message has the command
    │   ├── UnknownHandler       a manager has no handler of that id; the message has the nearest
    │   └── UnknownStream        a manager has no stream of that id; the message has the nearest
    ├── HandlerDetached          a handler failed too often, or was too slow, and serves its stream no longer
    └── StreamError              a stream ended without its proper end; `partial` holds what arrived
        ├── ConnectError         no connection, or it broke before the response headers
        ├── AuthError            the key is missing, wrong, or may not do this
        ├── BadRequest           the provider refuses the request as it is
        ├── RateLimited          too many requests or tokens; `retry_after`
        ├── Overloaded           the provider has no capacity just now
        ├── ServerFault          the provider failed
        ├── Disconnected         the connection broke in mid-stream
        ├── StreamIncomplete     the body ended cleanly, but without the mark that ends an answer
        │   └── ToolCallIncomplete   … in the middle of a tool call
        ├── SequenceGap          the provider's own numbering shows that events are missing
        ├── ProtocolError        bytes that are not the protocol
        ├── UnexpectedContentType    not an event stream at all (a proxy's HTML, a JSON body)
        ├── LimitExceeded        a limit of ours on bytes, events or characters
        ├── TimedOut             one of the six clocks ran out; `clock`
        ├── ContentFiltered      the provider withheld the answer
        ├── BudgetExceeded       a limit of ours on tokens
        ├── CircuitOpen          this model failed too often of late; not asked
        ├── BulkheadFull         too many streams run and wait already; not asked
        ├── RecordingFailed      a tape that was said to be required cannot be written
        ├── TracksFailed         every track of a combination failed; `errors` has each one's own
        └── Cancelled            somebody cancelled the stream; `reason`
            └── LoopShutDown     the event loop that it ran on was shut down

Errors are classified by the type and code in the provider's body, and by the HTTP status only where there are none. An
error holds no request and no response object, and no key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast

from rxstream.events import ErrorInfo, Phase

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = [
    "AuthError",
    "BadRequest",
    "BudgetExceeded",
    "BulkheadFull",
    "Cancelled",
    "CircuitOpen",
    "Clock",
    "ConfigurationError",
    "ConnectError",
    "ContentFiltered",
    "Disconnected",
    "HandlerDetached",
    "LimitExceeded",
    "LoopShutDown",
    "MissingDependency",
    "Overloaded",
    "ProtocolError",
    "RateLimited",
    "RecordingFailed",
    "RxstreamError",
    "SequenceGap",
    "ServerFault",
    "StreamError",
    "StreamIncomplete",
    "TimedOut",
    "ToolCallIncomplete",
    "TracksFailed",
    "UnexpectedContentType",
    "UnknownHandler",
    "UnknownStream",
    "error_info",
    "error_of",
    "plain_error",
    "raisable",
]

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys; an error is often read in one."""

Clock = Literal["connect", "first_event", "first_output", "idle", "step", "total"]
"""Which of the six clocks: ``connect`` to the response headers; ``first_event`` from there to any event;
``first_output`` from the request to the first content; ``idle`` between two pieces of content; ``step`` one attempt;
``total`` all of it."""


class RxstreamError(Exception):
    """Base of every error that rxstream raises on its own account."""


class ConfigurationError(RxstreamError, ValueError):
    """The request cannot be made as it was put. Nothing was sent. The message says what is wrong and what to do."""


class MissingDependency(ConfigurationError, ImportError):
    """An optional package is not installed. The message names the exact command."""


class UnknownHandler(ConfigurationError, LookupError):
    """A manager has never given this id to a handler. The message names the nearest."""


class UnknownStream(ConfigurationError, LookupError):
    """A manager has no stream of this id, or keeps it no more. The message names the nearest."""


class HandlerDetached(RxstreamError):
    """A handler raised too often, or was too slow, and serves its stream no longer. Only it is told; the stream goes on."""

    def __init__(self, message: str, *, handler_id: str = "") -> None:
        super().__init__(message)
        self.handler_id = handler_id
        """Which one."""


class StreamError(RxstreamError):
    """A stream ended without its proper end.

    `partial`, `phase`, `provider` and `model` are filled in by the source through which the error passes.
    """

    retryable: bool = False
    """Whether the same request may succeed if it is made again."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        request_id: str = "",
        retry_after: float | None = None,
        retryable: bool | None = None,
        body: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        """HTTP status, where the provider answered with an error status."""
        self.code = code
        """The provider's own type or code for the error."""
        self.request_id = request_id
        """The provider's id of the request, to quote to its support."""
        self.retry_after = retry_after
        """Seconds that the provider, or a guard, asks us to wait, or None."""
        self.body = body
        """Head of the body that came in place of a stream, at most 2048 characters."""
        if retryable is not None:
            self.retryable = retryable
        self.phase: Phase = "request"
        """How far the stream had come."""
        self.provider = ""
        self.model = ""
        self.partial: Response | None = None
        """All that arrived before the failure, or None if the failure came from outside a stream."""

    def __str__(self) -> str:
        """The message, then what is known of the where; control characters, which are a provider's, as Python writes them."""
        where = [word for word in (self.provider, self.model) if word]
        if self.status is not None:
            where.append(f"HTTP {self.status}")
        if self.code:
            where.append(self.code)
        if self.request_id:
            where.append(f"request {self.request_id}")
        said = f"{self.message} [{', '.join(where)}]" if where else self.message
        return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], said)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles whole: an error crosses a process boundary with its partial answer."""
        return _rebuild, (type(self), self.message, dict(self.__dict__))

    def info(self) -> ErrorInfo:
        """The error as data, for a `rxstream.events.Failed` event or a log."""
        return ErrorInfo(
            kind=type(self).__name__,
            message=self.message,
            phase=self.phase,
            provider=self.provider,
            model=self.model,
            status=self.status,
            code=self.code,
            retryable=self.retryable,
            retry_after=self.retry_after,
            clock=getattr(self, "clock", ""),
        )


def error_info(error: Exception) -> ErrorInfo:
    """Any error as data; of one that is not ours, its class and what it says."""
    return error.info() if isinstance(error, StreamError) else ErrorInfo(kind=type(error).__name__, message=str(error))


def error_of(info: ErrorInfo) -> StreamError:
    """The error that `info` tells of: what it says, without its partial answer; of a kind that is not ours, a `ServerFault`."""
    kind = _kinds().get(info.kind)
    cls = kind or ServerFault
    error = cls.__new__(cls)
    StreamError.__init__(
        error,
        info.message if kind else f"{info.kind}: {info.message}",
        status=info.status,
        code=info.code,
        retry_after=info.retry_after,
        retryable=info.retryable,
    )
    error.phase, error.provider, error.model = info.phase, info.provider, info.model
    if isinstance(error, TimedOut):
        error.clock = cast("Clock", info.clock)
    return error


def raisable(error: Exception) -> Exception:
    """`error`; but a StopIteration, or its like, as the cause of a RuntimeError: raised, it would pass for the proper end."""
    if not isinstance(error, (StopIteration, StopAsyncIteration)):
        return error
    told = RuntimeError(f"the stream failed with {type(error).__name__}")
    told.__cause__ = error
    return told


def plain_error(error: BaseException) -> Exception:
    """`error`, in a form that a coroutine can raise and that means neither cancellation nor the end of the program."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    plain = RuntimeError(f"{type(error).__name__} was raised: {error}")
    plain.__cause__ = error
    return plain


def _kinds() -> dict[str, type[StreamError]]:
    """All of the tree, by their names."""
    found: dict[str, type[StreamError]] = {}
    pending = [StreamError]
    while pending:
        kind = pending.pop()
        found[kind.__name__] = kind
        pending += kind.__subclasses__()
    return found


def _rebuild(cls: type[StreamError], message: str, state: dict[str, Any]) -> StreamError:
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class ConnectError(StreamError):
    """No connection could be made, or it broke before the response headers came."""

    retryable = True


class AuthError(StreamError):
    """The key is missing or wrong, or may not use this model."""


class BadRequest(StreamError):
    """The provider refuses the request as it is: asking again changes nothing."""


class RateLimited(StreamError):
    """Too many requests or tokens. `retry_after` says how long to wait, where the provider does."""

    retryable = True


class Overloaded(StreamError):
    """The provider has no capacity just now."""

    retryable = True


class ServerFault(StreamError):
    """The provider failed."""

    retryable = True


class Disconnected(StreamError):
    """The connection broke in mid-stream."""

    retryable = True


class StreamIncomplete(StreamError):
    """The body ended cleanly, but without the mark that ends an answer: it was cut."""

    retryable = True


class ToolCallIncomplete(StreamIncomplete):
    """The body ended in the middle of a tool call. The call is in `partial`, marked as not complete."""


class SequenceGap(StreamError):
    """The provider numbers its events and one or more are missing."""

    retryable = True


class ProtocolError(StreamError):
    """The provider sent bytes that its own protocol does not allow."""


class UnexpectedContentType(StreamError):
    """The answer is not an event stream; `body` has its head. Often a proxy's page, or a wrong ``base_url``."""


class LimitExceeded(StreamError):
    """The stream went over a limit of ours; or, where that is to be a failure, the answer reached the model's."""


class TimedOut(StreamError):
    """One of the six clocks ran out."""

    retryable = True
    clock: Clock
    """Which one."""
    seconds: float | None = None
    """What it was set to, in seconds, where that is known."""

    def __init__(self, message: str, *, clock: Clock, seconds: float) -> None:
        super().__init__(message)
        self.clock = clock
        self.seconds = seconds


class ContentFiltered(StreamError):
    """The provider withheld the answer."""


class BudgetExceeded(StreamError):
    """The stream went over a limit of yours on tokens: nobody shall be asked any more."""


class CircuitOpen(StreamError):
    """The model failed too often of late and was not asked."""

    retryable = True


class BulkheadFull(StreamError):
    """As many streams run, and wait, as are allowed at a time: the model was not asked."""

    retryable = True


class RecordingFailed(StreamError):
    """The tape on which the stream was to be recorded cannot be written, and it was said to be required."""


class TracksFailed(StreamError):
    """Every track of a combination failed, so that there is nothing left to deliver."""

    errors: Mapping[str, Exception] = MappingProxyType({})
    """What each track failed of, by its label; a `StreamError` holds in `partial` what arrived on it."""

    def __init__(self, errors: Mapping[str, Exception]) -> None:
        said = "; ".join(f"{label}: {type(error).__name__}: {error}" for label, error in errors.items())
        super().__init__(f"all {len(errors)} tracks failed: {said}")
        self.errors = dict(errors)
        self.retryable = any(isinstance(error, StreamError) and error.retryable for error in errors.values())


class Cancelled(StreamError):
    """Somebody cancelled the stream."""

    reason: str = ""
    """What was given to `cancel`."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(f"the stream was cancelled: {reason}" if reason else "the stream was cancelled")
        self.reason = reason


class LoopShutDown(Cancelled):
    """The event loop that the stream ran on was shut down: it is told at once, for no gate will open any more."""

    def __init__(self, reason: str = "the event loop that it ran on was shut down") -> None:
        super().__init__(reason)
