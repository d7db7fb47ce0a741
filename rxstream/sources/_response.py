"""From response headers to a body that is an event stream, or to the error that the response really is.

A good status promises nothing: a proxy's page, a JSON error and a whole JSON answer all come under 200. Only
``text/event-stream`` is read as a stream.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from rxstream._input import is_mapping
from rxstream._secrets import Secrets
from rxstream.errors import BadRequest, RxstreamError, StreamError, UnexpectedContentType
from rxstream.providers._rate_limits import rate_limits
from rxstream.providers.anthropic import errors as anthropic
from rxstream.providers.compatible import Dialect
from rxstream.providers.openai_chat import errors as openai_chat
from rxstream.providers.openai_responses import errors as openai_responses
from rxstream.sources._body import Body
from rxstream.sources._failures import not_connected, torn

__all__ = ["Origin", "ResponseLike", "event_stream", "secret_headers"]

_CLASSIFY: Final = {
    "anthropic": anthropic.classify,
    "openai-chat": openai_chat.classify,
    "openai-responses": openai_responses.classify,
}
_USER: Final = re.compile(r"//[^/]*@")
"""What stands before a host, a password perhaps."""
_HEAD_BYTES: Final = 64 * 1024
_SECRET_WORDS: Final = ("auth", "key", "token", "secret", "cookie")


class ResponseLike(Protocol):
    """What we use of a response of httpx2 (or of httpx, which the openai SDK takes as well)."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a response comes from, as far as its errors need to know."""

    host: str
    dialect: Dialect
    secrets: Secrets
    max_bytes: int | None

    def not_connected(self, exc: Exception) -> RxstreamError:
        """The error for what an SDK raised instead of giving a response: the provider's own, if it answered."""
        response: Any = getattr(exc, "response", None)
        if response is None:
            return not_connected(exc, host=self.host, secrets=self.secrets)
        return self.classify(_content(response), status=response.status_code, headers=response.headers)

    def classify(self, body: bytes, *, status: int | None, headers: Mapping[str, str]) -> StreamError:
        """The provider's error that `body` is."""
        if status is not None and 300 <= status < 400:
            to = _USER.sub("//", headers.get("location", "").partition("?")[0])
            where = self.secrets.strike(to)[:200] or "nowhere"
            error: StreamError = BadRequest(f"{self.host} redirects to {where}; set base_url to it", status=status)
        else:
            error = _CLASSIFY[self.dialect](status=status, body=body, headers=headers)
        self.secrets.clean(error)
        error.request_id = error.request_id or _request_id(headers)
        return error

    def torn(self, exc: Exception, headers: Mapping[str, str]) -> StreamError:
        """The error for what a transport raised in the middle of a body."""
        said: Any = getattr(exc, "body", None)  # the SDKs' own error for an error event
        if said is not None:
            return self.classify(msgspec.json.encode(said), status=None, headers=headers)
        error = torn(exc, host=self.host, secrets=self.secrets)
        error.request_id = _request_id(headers)
        return error


async def event_stream(
    response: ResponseLike,
    origin: Origin,
    *,
    pieces: AsyncIterator[bytes],
    close: Callable[[], Awaitable[None]],
    decoded: bool = False,
) -> Body:
    """The body of `response`, which is `pieces` and ends with `close`.

    `decoded` says that the pieces are an event stream already, whatever came over the wire.

    Raises:
        UnexpectedContentType: it is not an event stream.
        StreamError: it is an error of the provider, in spite of its status.
    """
    body = Body(
        pieces,
        encoding="" if decoded else response.headers.get("content-encoding", ""),
        max_bytes=origin.max_bytes,
        torn=lambda exc: origin.torn(exc, response.headers),
        close=close,
        rate_limits=rate_limits(response.headers),
    )
    if decoded or _media_type(response.headers) == "text/event-stream":
        return body
    try:
        head = await body.head(_HEAD_BYTES)
    finally:
        await body.aclose()
    raise _no_stream(head, response, origin)


def _no_stream(head: bytes, response: ResponseLike, origin: Origin) -> StreamError:
    if _is_error(head):
        return origin.classify(head, status=None, headers=response.headers)
    kind = _media_type(response.headers)
    hint = "; does the server stream, and is base_url right?" if kind in ("text/html", "application/json") else ""
    said = origin.secrets.strike(response.headers.get("content-type", "").partition(";")[0].strip())[:80]
    error = UnexpectedContentType(
        f"{origin.host} answered with {said or 'no content type'} in place of text/event-stream{hint}",
        status=response.status_code,
        request_id=_request_id(response.headers),
        body=origin.secrets.strike(head.decode("utf-8", "replace"))[:2048],
    )
    origin.secrets.clean(error)
    return error


def _is_error(head: bytes) -> bool:
    try:
        payload: Any = msgspec.json.decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return is_mapping(payload) and (bool(payload.get("error")) or payload.get("type") == "error")


def _content(response: Any) -> bytes:
    try:
        content: bytes = response.content
    except Exception:  # noqa: BLE001 - the body of the error was not read: its status has to do
        return b""
    return content


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _request_id(headers: Mapping[str, str]) -> str:
    return headers.get("x-request-id") or headers.get("request-id") or ""


def secret_headers(headers: Mapping[str, Any]) -> Iterable[str]:
    """The values in `headers` that may be keys."""
    for name, value in headers.items():
        if isinstance(value, str) and any(word in name.lower() for word in _SECRET_WORDS):  # the SDKs' may be "omitted"
            yield value
            yield value.rpartition(" ")[2]  # "Bearer …"
