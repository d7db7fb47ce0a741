"""What an error of the Messages API means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import (
    AuthError,
    BadRequest,
    ContentFiltered,
    Overloaded,
    RateLimited,
    ServerFault,
    StreamError,
)
from rxstream.providers.anthropic.errors import classify


def error(kind: str, message: str = "no", **fields: Any) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message, **fields}}).encode()


@pytest.mark.parametrize(
    ("kind", "ours", "retryable"),
    [
        ("invalid_request_error", BadRequest, False),
        ("authentication_error", AuthError, False),
        ("billing_error", RateLimited, False),
        ("permission_error", AuthError, False),
        ("not_found_error", BadRequest, False),
        ("conflict_error", BadRequest, False),
        ("request_too_large", BadRequest, False),
        ("rate_limit_error", RateLimited, True),
        ("timeout_error", ServerFault, True),
        ("api_error", ServerFault, True),
        ("overloaded_error", Overloaded, True),
        ("exceed_context_size_error", BadRequest, False),
        ("unavailable_error", Overloaded, True),
        ("not_supported_error", BadRequest, False),
        ("server_error", ServerFault, True),
    ],
)
@pytest.mark.parametrize("status", [None, 200, 418, 500])
def test_the_type_decides(kind: str, ours: type[StreamError], retryable: bool, status: int | None) -> None:
    """Whatever the status says: an error in the stream comes under 200."""
    found = classify(status=status, body=error(kind))
    assert (type(found), found.code, found.retryable, found.status) == (ours, kind, retryable, status)


@pytest.mark.parametrize(
    ("status", "ours", "retryable"),
    [
        (None, ServerFault, True),
        (400, BadRequest, False),
        (401, AuthError, False),
        (402, RateLimited, False),
        (403, AuthError, False),
        (404, BadRequest, False),
        (408, ServerFault, True),
        (413, BadRequest, False),
        (422, BadRequest, False),
        (429, RateLimited, True),
        (500, ServerFault, True),
        (502, ServerFault, True),
        (503, Overloaded, True),
        (529, Overloaded, True),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>bad gateway</html>", b"[1]", b"[" * 100_000, error("brand_new_error")])
def test_the_status_decides_where_no_type_is_known(
    status: int | None, ours: type[StreamError], retryable: bool, body: bytes
) -> None:
    """A proxy's page, an empty body, a type from the future."""
    found = classify(status=status, body=body)
    assert (type(found), found.retryable) == (ours, retryable)
    assert found.body == body.decode()[:2048]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (error("overloaded_error", "Overloaded"), "Overloaded [HTTP 529, overloaded_error]"),
        (b"<html>", "the provider answered HTTP 529 [HTTP 529]"),
        (b'{"type": "error"}', "the provider answered HTTP 529 [HTTP 529]"),
        (b'{"error": "no model loaded"}', "no model loaded [HTTP 529]"),
        (b'{"code": 500, "message": "peg", "type": "server_error"}', "peg [HTTP 529, server_error]"),
    ],
)
def test_what_it_says(body: bytes, text: str) -> None:
    """The provider's own words where there are any; flat and nested errors are read alike."""
    assert str(classify(status=529, body=body)) == text


def test_what_it_says_without_a_status() -> None:
    """An error event without a message."""
    assert str(classify(status=None, body=b"{}")) == "the provider failed"


def test_an_error_event_of_llama_cpp_is_classified_by_its_code() -> None:
    """Where its type is unknown, the code that it has in place of a status decides."""
    assert type(classify(status=None, body=b'{"code": 401, "message": "no", "type": "new"}')) is AuthError
    assert type(classify(status=None, body=b'{"error": {"code": "401", "message": "no"}}')) is ServerFault


def test_a_filtered_answer() -> None:
    """It comes as an invalid request, and is none."""
    message = "Output blocked by content filtering policy"
    assert type(classify(status=400, body=error("invalid_request_error", message))) is ContentFiltered


def test_a_spend_limit_is_not_retryable() -> None:
    """It is a rate limit that waiting does not lift."""
    cause = {"error_code": "enforced_spend_limit_reached"}
    assert classify(status=429, body=error("rate_limit_error", details=cause)).retryable is False


@pytest.mark.parametrize(("advice", "retryable"), [("true", True), ("false", False), ("perhaps", True)])
def test_the_providers_advice_on_retrying_rules(advice: str, retryable: bool) -> None:
    """``x-should-retry`` is heard, whatever the kind of error."""
    found = classify(status=500, body=error("api_error"), headers={"X-Should-Retry": advice})
    assert found.retryable is retryable


def test_headers() -> None:
    """How long to wait and the request's id, whatever the case of the names; the body's id where the header has none."""
    body = b'{"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}, "request_id": "req_body"}'
    found = classify(status=429, body=body, headers={"Retry-After": "7", "Request-Id": "req_head"})
    assert (found.retry_after, found.request_id) == (7.0, "req_head")
    found = classify(status=429, body=body)
    assert (found.retry_after, found.request_id) == (None, "req_body")


def test_no_key_is_quoted() -> None:
    """Not in the message, not in the head of the body."""
    key = "sk-ant-api03-abcdefghijklmnop_123"
    found = classify(status=401, body=error("authentication_error", f"invalid x-api-key: {key}"))
    assert key not in str(found) + found.body + repr(found) + repr(found.info())
    assert "invalid x-api-key" in str(found)


@given(
    st.binary(max_size=100)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "error", "message", "code", "request_id", "details"]), inner, max_size=4
            )
        ),
    ).map(lambda value: json.dumps(value).encode()),
    st.none() | st.integers(),
)
def test_any_body_is_an_error(body: bytes, status: int | None) -> None:
    """Whatever its shape."""
    found = classify(status=status, body=body)
    assert str(found)
