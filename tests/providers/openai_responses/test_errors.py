"""What the Responses API's errors mean: every code that its SDK knows, and the forms in which they come."""

from __future__ import annotations

import json
import typing
from typing import Any

import pytest
from openai.types.responses import ResponseError

from rxstream.errors import AuthError, BadRequest, ContentFiltered, Overloaded, RateLimited, ServerFault, StreamError
from rxstream.providers.openai_responses.errors import classify

CODES: dict[str, type[StreamError]] = {
    "server_error": ServerFault,
    "rate_limit_exceeded": RateLimited,
    "invalid_prompt": BadRequest,
    "data_residency_mismatch": BadRequest,
    "bio_policy": ContentFiltered,
    "misalignment_policy_violation": ContentFiltered,
    "vector_store_timeout": ServerFault,
    "invalid_image": BadRequest,
    "invalid_image_format": BadRequest,
    "invalid_base64_image": BadRequest,
    "invalid_image_url": BadRequest,
    "image_too_large": BadRequest,
    "image_too_small": BadRequest,
    "image_parse_error": BadRequest,
    "image_content_policy_violation": ContentFiltered,
    "invalid_image_mode": BadRequest,
    "image_file_too_large": BadRequest,
    "unsupported_image_media_type": BadRequest,
    "empty_image_file": BadRequest,
    "failed_to_download_image": BadRequest,
    "image_file_not_found": BadRequest,
}


def of(payload: Any, *, status: int | None = None, headers: dict[str, str] | None = None) -> StreamError:
    return classify(status=status, body=json.dumps(payload).encode(), headers=headers)


def test_every_code_of_the_official_sdk_is_known() -> None:
    assert set(CODES) == set(typing.get_args(ResponseError.model_fields["code"].annotation))


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("nested", [True, False])
def test_the_code_decides_inside_a_stream(code: str, *, nested: bool) -> None:
    error = {"code": code, "message": "words"}
    got = of({"type": "error", "error": error} if nested else {"type": "error", "param": None, **error})
    assert (type(got), got.message, got.code, got.status) == (CODES[code], "words", code, None)
    assert got.retryable == CODES[code].retryable


@pytest.mark.parametrize(
    ("payload", "status", "error", "retryable"),
    [
        ({"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "m"}}, 429, RateLimited, False),
        ({"error": {"type": "invalid_request_error", "code": "invalid_api_key", "message": "m"}}, 401, AuthError, False),
        ({"error": {"type": "invalid_request_error", "code": None, "message": "m"}}, 400, BadRequest, False),
        ({"error": {"type": "exceed_context_size_error", "code": 400, "message": "m"}}, None, BadRequest, False),
        ({"error": {"type": "server_error", "code": 500, "message": "m"}}, None, ServerFault, True),
        ({"error": None}, None, ServerFault, True),
        ({}, 429, RateLimited, True),
        ("<html>", 503, Overloaded, True),
        ([], 404, BadRequest, False),
    ],
)  # fmt: skip
def test_the_body_decides_before_the_status(
    payload: Any, status: int | None, error: type[StreamError], *, retryable: bool
) -> None:
    got = of(payload, status=status)
    assert (type(got), got.retryable, got.status) == (error, retryable, status)


def test_the_request_and_the_time_to_wait_are_told() -> None:
    got = of({"error": {"message": "m"}}, status=429, headers={"X-Request-Id": "req_1", "Retry-After": "2"})
    assert (got.request_id, got.retry_after) == ("req_1", 2.0)


def test_a_key_that_the_provider_quotes_is_not_repeated() -> None:
    key = "sk-proj-abcdefghijklmnopqrstuvwxyz123456"
    got = of({"error": {"message": f"Incorrect API key provided: {key}.", "code": "invalid_api_key"}}, status=401)
    assert key not in str(got) + got.body + repr(got)
    assert isinstance(got, AuthError)
