"""What providers say when they refuse or fail, in the words of each dialect."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from rxstream.providers.compatible import Dialect
from rxstream.testing.chaos._render import sse

__all__ = ["ERRORS", "FORMS", "error_body", "error_event", "kind_of"]


class _Words(NamedTuple):
    status: int
    anthropic: str
    openai: str
    code: str | None
    message: str


ERRORS: Final[Mapping[str, _Words]] = MappingProxyType(
    {
        "overloaded": _Words(529, "overloaded_error", "server_error", "overloaded", "Overloaded"),
        "rate_limit": _Words(429, "rate_limit_error", "requests", "rate_limit_exceeded", "Rate limit reached"),
        "server": _Words(500, "api_error", "server_error", "server_error", "The server had an error"),
        "timeout": _Words(504, "timeout_error", "server_error", "timeout", "The request timed out"),
        "request": _Words(400, "invalid_request_error", "invalid_request_error", None, "The request is not valid"),
        "auth": _Words(401, "authentication_error", "invalid_request_error", "invalid_api_key", "The key is not valid"),
        "permission": _Words(403, "permission_error", "permission_error", "permission_denied", "You may not use this"),
        "not_found": _Words(404, "not_found_error", "invalid_request_error", "model_not_found", "No such model"),
        "too_large": _Words(413, "request_too_large", "invalid_request_error", "request_too_large", "Too large"),
        "context": _Words(
            400,
            "invalid_request_error",
            "invalid_request_error",
            "context_length_exceeded",
            "prompt is too long: it exceeds the maximum context length",
        ),
        "filter": _Words(
            400,
            "invalid_request_error",
            "invalid_request_error",
            "content_filter",
            "Output blocked by content filtering policy",
        ),
        "quota": _Words(
            429, "billing_error", "insufficient_quota", "insufficient_quota", "You exceeded your current quota"
        ),
    }
)
"""Kinds of errors: their HTTP status, and their words."""

FORMS: Final = ("event", "failed", "bare")
"""How an error in the midst of an answer looks: ``event`` as the provider's documents have it; ``failed`` the Responses API's
``response.failed``; ``bare`` without the event's name and type, as llama.cpp sends it."""

_BY_STATUS: Final = {
    400: "request",
    401: "auth",
    403: "permission",
    404: "not_found",
    413: "too_large",
    429: "rate_limit",
    503: "overloaded",
    529: "overloaded",
}


def kind_of(status: int) -> str:
    """The kind of error that goes with an HTTP status."""
    return _BY_STATUS.get(status, "request" if status < 500 else "server")


def error_body(dialect: Dialect, kind: str, message: str = "") -> dict[str, Any]:
    """The body of a refusal; by default with the kind's message."""
    words = ERRORS[kind]
    words = words._replace(message=message or words.message)
    if dialect == "anthropic":
        return {"type": "error", "error": {"type": words.anthropic, "message": words.message}, "request_id": "req_1"}
    return {"error": {"message": words.message, "type": words.openai, "param": None, "code": words.code}}


def error_event(dialect: Dialect, kind: str, *, form: str, number: int) -> bytes:
    """The event by which an answer fails that has begun; `number` is its sequence number, where the dialect has one."""
    words = ERRORS[kind]
    if form == "bare":
        flat = {"code": words.status, "message": words.message, "type": words.openai}
        return sse({**flat, "type": words.anthropic}, "error") if dialect == "anthropic" else sse({"error": flat})
    if dialect != "openai-responses":
        return sse(error_body(dialect, kind), "error" if dialect == "anthropic" else "")
    code = words.code or words.openai
    fields: dict[str, Any] = {"code": code, "message": words.message, "param": None}
    if form == "failed":
        error = {"code": code, "message": words.message}
        fields = {"response": {"id": "resp_1", "object": "response", "status": "failed", "error": error, "output": []}}
    name = "response.failed" if form == "failed" else "error"
    return sse({"type": name, "sequence_number": number, **fields}, name)
