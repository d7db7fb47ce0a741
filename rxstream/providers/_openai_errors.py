"""Error bodies of OpenAI, in both its dialects, and of the servers compatible with it, as errors of ours.

Rules of this module:

* What the body says in a word of its own (``type``, ``code``) rules; then what it says in prose, where vendors have no
  word for it; then the HTTP status, or the number that stands in its place in the body.
* The provider's message is kept, without keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

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
from rxstream.providers._shared import head, is_list, is_object, mask, retry_after

__all__ = ["classify"]


class _Kind(NamedTuple):
    error: type[StreamError]
    retryable: bool | None = None  # None: as the class has it


_AUTH: Final = _Kind(AuthError)
_BAD: Final = _Kind(BadRequest)
_FILTERED: Final = _Kind(ContentFiltered)
_LIMITED: Final = _Kind(RateLimited)
_NO_MONEY: Final = _Kind(RateLimited, retryable=False)
_OVERLOADED: Final = _Kind(Overloaded)
_FAULT: Final = _Kind(ServerFault)

_EXACT: Final = {
    "insufficient_quota": _NO_MONEY,
    "billing_hard_limit_reached": _NO_MONEY,
    "billing_not_active": _NO_MONEY,
    "insufficient_balance": _NO_MONEY,
    "insufficient_credits": _NO_MONEY,
    "payment_required": _NO_MONEY,
    "quota_exceeded": _NO_MONEY,
    "rate_limit_exceeded": _LIMITED,
    "rate_limit_error": _LIMITED,
    "rate_limit_reached": _LIMITED,
    "rate_limited": _LIMITED,
    "ratelimitreached": _LIMITED,
    "ratelimiterror": _LIMITED,
    "too_many_requests": _LIMITED,
    "resource_exhausted": _LIMITED,
    "throttling": _LIMITED,
    "content_filter": _FILTERED,
    "content_policy_violation": _FILTERED,
    "responsibleaipolicyviolation": _FILTERED,
    "data_inspection_failed": _FILTERED,
    "moderation_blocked": _FILTERED,
    "image_content_policy_violation": _FILTERED,
    "bio_policy": _FILTERED,
    "misalignment_policy_violation": _FILTERED,
    "invalid_api_key": _AUTH,
    "authentication_error": _AUTH,
    "authenticationerror": _AUTH,
    "invalid_authentication": _AUTH,
    "invalid_authentication_error": _AUTH,
    "unauthorized": _AUTH,
    "unauthenticated": _AUTH,
    "permission_error": _AUTH,
    "permission_denied": _AUTH,
    "permissiondeniederror": _AUTH,
    "account_deactivated": _AUTH,
    "context_length_exceeded": _BAD,
    "exceed_context_size_error": _BAD,
    "overloaded_error": _OVERLOADED,
    "overloaded": _OVERLOADED,
    "engine_overloaded": _OVERLOADED,
    "engine_overloaded_error": _OVERLOADED,
    "service_unavailable": _OVERLOADED,
    "service_unavailable_error": _OVERLOADED,
    "unavailable": _OVERLOADED,
    "unavailable_error": _OVERLOADED,
    "capacity_exceeded": _OVERLOADED,
    "service_tier_capacity_exceeded": _OVERLOADED,
}
"""Words that mean one thing whatever the status."""

_PROSE: Final = (
    (
        re.compile(
            r"(incorrect|invalid|missing|no|provide an) api[ _-]?key|api[ _-]?key (is )?(not valid|invalid|missing)"
        ),
        _AUTH,
    ),
    (re.compile(r"exceeded your current quota|insufficient (balance|credits|funds|quota)|out of credits"), _NO_MONEY),
    (re.compile(r"rate.?limit(ed| (was )?(exceeded|reached))|too many requests"), _LIMITED),
    (re.compile(r"maximum context length|context (length|window|size)|prompt is too long"), _BAD),
    (re.compile(r"\boverloaded|(over|at|exceeded) capacity|no capacity"), _OVERLOADED),
)
"""What vendors say without a word for it."""

_GENERIC: Final = {
    "invalid_request_error": _BAD,
    "invalid_request": _BAD,
    "invalid_argument": _BAD,
    "bad_request": _BAD,
    "badrequesterror": _BAD,
    "bad_request_error": _BAD,
    "not_found": _BAD,
    "not_found_error": _BAD,
    "notfounderror": _BAD,
    "model_not_found": _BAD,
    "unprocessable_entity": _BAD,
    "validation_error": _BAD,
    "tool_use_failed": _BAD,
    "json_validate_failed": _BAD,
    "invalid_prompt": _BAD,
    "data_residency_mismatch": _BAD,
    "invalid_image": _BAD,
    "invalid_image_format": _BAD,
    "invalid_base64_image": _BAD,
    "invalid_image_url": _BAD,
    "invalid_image_mode": _BAD,
    "image_too_large": _BAD,
    "image_too_small": _BAD,
    "image_parse_error": _BAD,
    "image_file_too_large": _BAD,
    "image_file_not_found": _BAD,
    "unsupported_image_media_type": _BAD,
    "empty_image_file": _BAD,
    "failed_to_download_image": _BAD,
    "not_supported_error": _BAD,
    "server_error": _FAULT,
    "internal_server_error": _FAULT,
    "internalservererror": _FAULT,
    "internal_error": _FAULT,
    "api_error": _FAULT,
    "upstream_error": _FAULT,
    "vector_store_timeout": _FAULT,
    "timeout": _FAULT,
    "timeout_error": _FAULT,
}
"""Words that stand for a whole family: a status that is more exact goes before them."""

_EXACT_STATUS: Final = {
    401: _AUTH,
    403: _AUTH,
    402: _NO_MONEY,
    429: _LIMITED,
    498: _OVERLOADED,
    503: _OVERLOADED,
    529: _OVERLOADED,
}
_FAMILY_STATUS: Final = {408: _FAULT, 409: _FAULT, 425: _FAULT}

_WAIT: Final = re.compile(r"try again in (?:(\d{1,6})m(?!s))? ?(?:([\d.]{1,12}) ?(ms|s)\b)?")


def classify(*, status: int | None, body: bytes, headers: Mapping[str, str] | None = None) -> StreamError:
    """The error that a provider reports.

    Args:
        status: HTTP status of the response; None for an error inside a stream, whose status says nothing.
        body: The response's body, or the payload that holds the error.
        headers: The response's headers, for the request's id and the time to wait.
    """
    fields = {name.lower(): value for name, value in (headers or {}).items()}
    said = _read(body)
    kind = _kind(said, status)
    too_large = said.message.lower().startswith("request too large")  # it will be just as large the next time
    retryable = False if kind is _LIMITED and too_large else kind.retryable
    if (wish := fields.get("x-should-retry")) in ("true", "false") and retryable is None:
        retryable = wish == "true"
    wait = retry_after(fields)
    if wait is None and kind is _LIMITED:
        wait = _wait(said.message)
    return kind.error(
        mask(said.message[:2000])[:500]
        or (f"the provider answered with HTTP {status}" if status else "the provider failed"),
        status=status,
        code=said.code,
        request_id=next(
            (fields[name] for name in ("x-request-id", "request-id", "apim-request-id") if name in fields), ""
        ),
        retry_after=wait,
        retryable=retryable,
        body=head(body),
    )


class _Said(NamedTuple):
    message: str = ""
    code: str = ""  # the most exact word
    words: tuple[str, ...] = ()  # all of them, in lower case
    number: int | None = None  # a status in the body


def _read(body: bytes) -> _Said:
    try:
        payload: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = head(body, 500).strip()
        return _Said("" if text.startswith("<") else text)  # a page of HTML says nothing in one line
    if is_list(payload) and payload:
        payload = payload[0]
    layers = list(_layers(payload))
    message = next((text for layer in layers for text in _messages(layer)), "")
    words = [layer[name] for layer in layers for name in ("code", "type", "status") if isinstance(layer.get(name), str)]
    numbers = [layer.get(name) for layer in layers for name in ("status_code", "code", "status")]
    number = next((n for n in numbers if isinstance(n, int) and 400 <= n < 600), None)
    code = words[0] if words else "" if number is None else str(number)
    return _Said(message, mask(code)[:100], tuple(word.lower().replace(" ", "_") for word in words), number)


def _layers(payload: Any) -> Iterator[dict[str, Any]]:
    """The objects in which an error may stand, the innermost first."""
    if not is_object(payload):
        return
    error = payload.get("error")
    if is_object(error):
        inner = error.get("innererror")
        if is_object(inner):
            yield inner
        yield error
    elif isinstance(error, str):
        yield {"message": error}
    yield payload


def _messages(layer: dict[str, Any]) -> Iterator[str]:
    for name in ("message", "detail", "error_msg", "msg"):
        value = layer.get(name)
        if isinstance(value, str) and value:
            yield value
        elif isinstance(value, (list, dict)) and value:
            yield msgspec.json.encode(value).decode()


def _kind(said: _Said, status: int | None) -> _Kind:
    number = said.number if status is None else status
    prose = said.message.lower()
    return (
        next((_EXACT[word] for word in said.words if word in _EXACT), None)
        or next((kind for pattern, kind in _PROSE if pattern.search(prose)), None)
        or _EXACT_STATUS.get(number or 0)
        or next((_GENERIC[word] for word in said.words if word in _GENERIC), None)
        or _FAMILY_STATUS.get(number or 0)
        or (_BAD if number is not None and number < 500 else _FAULT)
    )


def _wait(message: str) -> float | None:
    """Seconds, from ``Please try again in 1m2.5s``."""
    found = _WAIT.search(message)
    if found is None or found.lastindex is None:
        return None
    try:
        seconds = float(found[2] or 0) / (1000 if found[3] == "ms" else 1)
    except ValueError:
        return None
    return int(found[1] or 0) * 60 + seconds
