"""What error bodies of OpenAI and its many compatible servers mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import AuthError, BadRequest, ContentFiltered, Overloaded, RateLimited, ServerFault, StreamError
from rxstream.providers.openai_chat.errors import classify


def of(payload: Any, status: int | None = None, **headers: str) -> StreamError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(status=status, body=json.dumps(payload).encode(), headers=named)


def error(message: str = "m", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


@pytest.mark.parametrize(
    ("payload", "status", "kind", "retryable"),
    [
        # OpenAI
        (error(type="invalid_request_error", code="invalid_api_key"), 401, AuthError, False),
        (error("You didn't provide an API key.", type="invalid_request_error", code=None), 401, AuthError, False),
        (error("You exceeded your current quota", type="insufficient_quota", code="insufficient_quota"), 429, RateLimited, False),
        (error("Rate limit reached for gpt", type="tokens", code="rate_limit_exceeded"), 429, RateLimited, True),
        (error("Request too large for gpt", type="tokens", code="rate_limit_exceeded"), 429, RateLimited, False),
        (error(type="invalid_request_error", code="context_length_exceeded"), 400, BadRequest, False),
        (error(type="invalid_request_error", code="model_not_found"), 404, BadRequest, False),
        (error("The server had an error", type="server_error", code=None), 500, ServerFault, True),
        (error("The engine is currently overloaded", type="server_error"), 503, Overloaded, True),
        (error("Country not supported", type="request_forbidden", code="unsupported_country_region_territory"), 403, AuthError, False),
        # Azure
        (error(code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}), 400, ContentFiltered, False),
        (error(code="DeploymentNotFound"), 404, BadRequest, False),
        ({"statusCode": 401, "message": "Access denied due to invalid subscription key"}, 401, AuthError, False),
        # vendors
        ({"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***"}, 400, AuthError, False),
        (error("Provider returned error", code=429, metadata={"raw": "x"}), 429, RateLimited, True),
        (error("Insufficient credits", code=402), 402, RateLimited, False),
        (error("Insufficient Balance", type="unknown_error", code="invalid_request_error"), 402, RateLimited, False),
        (error("Tool choice is required", type="invalid_request_error", code="tool_use_failed", status_code=400), None, BadRequest, False),
        (error("capacity exceeded", type="internal_server_error", code="498"), 498, Overloaded, True),
        ({"object": "error", "message": "Service tier capacity exceeded", "type": "service_tier_capacity_exceeded"}, 429, Overloaded, True),
        ({"object": "error", "message": "This model's maximum context length is 10", "type": "BadRequestError", "code": 400}, 400, BadRequest, False),
        ({"object": "error", "message": "x", "type": "InternalServerError", "code": 500}, 500, ServerFault, True),
        ({"detail": [{"loc": ["body", "model"], "msg": "field required"}]}, 422, BadRequest, False),
        ({"message": "Unauthorized"}, 401, AuthError, False),
        ([{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}], 400, AuthError, False),
        ([{"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED"}}], 429, RateLimited, True),
        (error("request (5031 tokens) exceeds", code=400, type="exceed_context_size_error"), 400, BadRequest, False),
        (error("Loading model", code=503, type="unavailable_error"), 503, Overloaded, True),
        (error("model 'x' not found", type="api_error"), 404, ServerFault, True),
        # without a word
        ({}, 400, BadRequest, False),
        ({}, 403, AuthError, False),
        ({}, 408, ServerFault, True),
        ({}, 409, ServerFault, True),
        ({}, 413, BadRequest, False),
        ({}, 429, RateLimited, True),
        ({}, 500, ServerFault, True),
        ({}, 502, ServerFault, True),
        ({}, 529, Overloaded, True),
        ([], None, ServerFault, True),
        ("words", None, ServerFault, True),
        # inside a stream, where the body's number stands for the status
        (error(code=400), None, BadRequest, False),
        (error(code=401), None, AuthError, False),
        (error(status_code=503), None, Overloaded, True),
        (error(code=500, type="server_error"), None, ServerFault, True),
        (error(), None, ServerFault, True),
    ],
)  # fmt: skip
def test_kinds(payload: Any, status: int | None, kind: type[StreamError], *, retryable: bool) -> None:
    """The body's word decides, then its prose, then the number."""
    got = of(payload, status)
    assert (type(got), got.retryable, got.status) == (kind, retryable, status)


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"error":{"message":"m","type":"t","code":"c"}}', "m", "c"),
        (b'{"error":{"message":"m","type":"t","code":null}}', "m", "t"),
        (b'{"error":{"message":"m","code":429}}', "m", "429"),
        (b'{"error":"m"}', "m", ""),
        (b'{"message":"m"}', "m", ""),
        (b'{"detail":"m"}', "m", ""),
        (b'{"detail":[{"msg":"m"}]}', '[{"msg":"m"}]', ""),
        (b"upstream connect error", "upstream connect error", ""),
        (b"<html>Bad gateway</html>", "the provider answered with HTTP 502", ""),
        (b"", "the provider answered with HTTP 502", ""),
        (b"\xff" * 9000, "\ufffd" * 500, ""),
        (b"[" * 9000, "[" * 500, ""),
    ],
)
def test_what_it_says(body: bytes, message: str, code: str) -> None:
    """The provider's own message and its most exact word; the head of the body is kept."""
    got = classify(status=502, body=body)
    assert (got.message, got.code) == (message, code)
    assert len(got.body) == min(2048, len(body))


def test_without_a_word_or_a_status() -> None:
    """It failed, and that is all that is known."""
    assert classify(status=None, body=b"{}").message == "the provider failed"


def test_headers() -> None:
    """The request's id, the time to wait, and whether to ask again; in any case."""
    got = of(error(type="server_error"), 500, X_Request_Id="r1", Retry_After="3", x_should_retry="false")
    assert (got.request_id, got.retry_after, got.retryable) == ("r1", 3.0, False)
    assert of(error(), 400, apim_request_id="r2", x_should_retry="true").retryable
    assert of(error(), 400, apim_request_id="r2").request_id == "r2"


def test_no_header_makes_an_empty_purse_worth_asking_again() -> None:
    """What the body says is more exact."""
    assert not of(error(code="insufficient_quota"), 429, x_should_retry="true").retryable


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please try again in 1.5s.", 1.5),
        ("Please try again in 20ms. Visit", 0.02),
        ("Please try again in 6m0s.", 360.0),
        ("try again in 2m59.56s", 179.56),
        ("try again in 1.2.3s", None),
        ("try again in a while", None),
    ],
)
def test_the_time_to_wait_may_stand_in_the_message(message: str, seconds: float | None) -> None:
    """Where no header says it, as inside a stream."""
    assert of(error(message, code="rate_limit_exceeded")).retry_after == seconds
    assert of(error(message, code="rate_limit_exceeded"), 429, retry_after="9").retry_after == 9
    assert of(error(message, type="server_error")).retry_after is None


KEY = "sk-proj-PLANTED0123456789abcdef"


@pytest.mark.parametrize(
    "payload",
    [
        error(f"Incorrect API key provided: {KEY}. You can find your key at …", code="invalid_api_key"),
        error("m", code=KEY, type=KEY, param=KEY),
        {"error": f"key {KEY} is wrong"},
        {"detail": [{"input": KEY}]},
        KEY,
    ],
)
def test_a_key_that_is_quoted_back_is_masked(payload: Any) -> None:
    """It is found in no field of the error, nor in its text."""
    got = of(payload, 401)
    assert "PLANTED" not in repr((str(got), repr(got), got.args, vars(got), got.info()))


@given(st.none() | st.integers(400, 599), st.binary(), st.dictionaries(st.text(), st.text()))
def test_any_response_is_an_error_of_ours(status: int | None, body: bytes, headers: dict[str, str]) -> None:
    """Whatever it says."""
    got = classify(status=status, body=body, headers=headers)
    assert isinstance(got, StreamError)
    assert got.message
    assert len(got.body) <= 2048
