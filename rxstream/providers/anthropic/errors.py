"""What an error of the Messages API means.

The ``error.type`` of the body decides, because an error in the middle of a stream comes under HTTP 200; the status decides
only where there is no type that we know. llama.cpp's flat errors (``{"code", "message", "type"}``) are read as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from rxstream.errors import (
    AuthError,
    BadRequest,
    ContentFiltered,
    Overloaded,
    RateLimited,
    ServerFault,
    StreamError,
)
from rxstream.providers._shared import head, mask, retry_after
from rxstream.providers.anthropic import _payloads as payloads

__all__ = ["classify"]

_BY_TYPE: Final[dict[str, type[StreamError]]] = {
    "invalid_request_error": BadRequest,
    "authentication_error": AuthError,
    "billing_error": RateLimited,
    "permission_error": AuthError,
    "not_found_error": BadRequest,
    "conflict_error": BadRequest,
    "request_too_large": BadRequest,
    "rate_limit_error": RateLimited,
    "timeout_error": ServerFault,
    "api_error": ServerFault,
    "overloaded_error": Overloaded,
    # llama.cpp
    "exceed_context_size_error": BadRequest,
    "not_supported_error": BadRequest,
    "server_error": ServerFault,
    "unavailable_error": Overloaded,
}
_BY_STATUS: Final[dict[int, type[StreamError]]] = {
    401: AuthError,
    402: RateLimited,
    403: AuthError,
    408: ServerFault,
    429: RateLimited,
    503: Overloaded,
    529: Overloaded,
}


def classify(*, status: int | None, body: bytes, headers: Mapping[str, str] | None = None) -> StreamError:
    """The error that a body stands for.

    Args:
        status: the HTTP status, or None for an error inside a stream.
        body: the response body, or the payload of the error event.
        headers: the response's headers, for the time to wait and the request's id.
    """
    fields = {name.lower(): value for name, value in (headers or {}).items()}
    payload = _object(body)
    error = payload.get("error", {} if payload.get("type") == "error" else payload)
    detail = {"message": error} if isinstance(error, str) else payloads.object_of(error)
    code = payloads.text(detail.get("type"))
    message = payloads.text(detail.get("message"))
    kind = _kind(code, message, status if status is not None else detail.get("code"))
    return kind(
        mask(message[:2000])[:500]
        or (f"the provider answered HTTP {status}" if status is not None else "the provider failed"),
        status=status,
        code=code[:100],
        request_id=fields.get("request-id", "") or payloads.text(payload.get("request_id")),
        retry_after=retry_after(fields),
        retryable=_retryable(kind, status, detail, fields.get("x-should-retry")),
        body=head(body),
    )


def _kind(code: str, message: str, status: Any) -> type[StreamError]:
    if "content filtering policy" in message:  # comes as an invalid_request_error, before or within the answer
        return ContentFiltered
    if code in _BY_TYPE:
        return _BY_TYPE[code]
    if not isinstance(status, int):
        return ServerFault
    return _BY_STATUS.get(status, BadRequest if 400 <= status < 500 else ServerFault)


def _retryable(kind: type[StreamError], status: int | None, detail: dict[str, Any], advice: str | None) -> bool:
    if advice in ("true", "false"):
        return advice == "true"
    cause = payloads.text(payloads.object_of(detail.get("details")).get("error_code"))
    if status == 402 or detail.get("type") == "billing_error" or "spend_limit" in cause:
        return False  # no money: waiting does not help
    return kind.retryable


def _object(body: bytes) -> dict[str, Any]:
    try:
        return payloads.object_of(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
