"""What the server says instead of an answer, or in the midst of one: the right error, with exactly what arrived."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from rxstream import errors
from rxstream.errors import StreamError
from rxstream.events import Phase
from tests.support.asking import GOOD
from tests.support.begun import Fault, each_dialect, play
from tests.support.live import (
    Transport,
    assert_tells_no_secret,
    stream_from,
    watch,
)
from tests.support.server import (
    CLOSE,
    END,
    HANG,
    RESET,
    Head,
    Script,
    ScriptedServer,
    Wire,
    closed_port,
    page,
    sse,
)

pytestmark = pytest.mark.usefixtures("nothing_goes_on")


# --- before the stream --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["closed", "reset", "no HTTP"])
@each_dialect
async def test_no_answer(name: str, what: str, transport: Transport) -> None:
    """A connection that ends before the headers."""
    scripts: dict[str, Script] = {"closed": [CLOSE], "reset": [RESET], "no HTTP": [Wire(b"SSH-2.0\r\n\r\n"), CLOSE]}
    with ScriptedServer(scripts[what]) as server:
        outcome = await watch(stream_from(server, name, transport=transport))
    assert type(outcome.error) is errors.ConnectError
    assert (outcome.error.phase, outcome.events) == ("connect", [])
    assert len(server.requests) == 1
    outcome.assert_cut()
    assert_tells_no_secret(outcome.error)


@each_dialect
async def test_nobody_listens(name: str, transport: Transport) -> None:
    with ScriptedServer([HANG]) as server:
        server.port = closed_port()
        outcome = await watch(stream_from(server, name, transport=transport))
    assert type(outcome.error) is errors.ConnectError
    assert "127.0.0.1" in str(outcome.error)
    assert_tells_no_secret(outcome.error)


def error_body(name: str, kind: str, message: str) -> str:
    if name == "anthropic":
        said: Any = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    else:
        said = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    return json.dumps(said)


STATUSES: Final[list[tuple[int, str, type[StreamError], bool]]] = [
    (400, "invalid_request_error", errors.BadRequest, False),
    (401, "authentication_error", errors.AuthError, False),
    (403, "permission_error", errors.AuthError, False),
    (404, "not_found_error", errors.BadRequest, False),
    (413, "request_too_large", errors.BadRequest, False),
    (422, "invalid_request_error", errors.BadRequest, False),
    (429, "rate_limit_error", errors.RateLimited, True),
    (500, "api_error", errors.ServerFault, True),
    (502, "", errors.ServerFault, True),
    (503, "", errors.Overloaded, True),
    (504, "timeout_error", errors.ServerFault, True),
    (529, "overloaded_error", errors.Overloaded, True),
]


@pytest.mark.parametrize(("status", "word", "kind", "retryable"), STATUSES, ids=[str(row[0]) for row in STATUSES])
@each_dialect
async def test_an_error_status(
    name: str, status: int, word: str, kind: type[StreamError], transport: Transport, *, retryable: bool
) -> None:
    """The provider's own error, asked for once, with the time to wait and the id to quote."""
    body = error_body(name, word, "not today") if word else "<html>Bad Gateway</html>"
    headers = {"retry_after": "2", "request_id": "req_1", "x_request_id": "req_1"}
    with ScriptedServer(page(status, body, content_type="application/json", **headers)) as server:
        outcome = await watch(stream_from(server, name, transport=transport))
    error = outcome.error
    assert type(error) is kind
    assert (error.status, error.retry_after, error.request_id) == (status, 2.0, "req_1")
    assert (error.retryable, error.code, error.phase) == (retryable, word, "connect")
    assert outcome.events == []
    assert ("not today" in str(error)) == bool(word)
    assert len(server.requests) == 1, "an SDK has asked again"
    outcome.assert_cut()
    assert_tells_no_secret(error)


WHOLE: Final = {
    "compatible": {"id": "c", "object": "chat.completion", "choices": [{"message": {"content": "whole"}}]},
    "anthropic": {"id": "m", "type": "message", "content": [{"type": "text", "text": "whole"}]},
    "openai": {"id": "r", "object": "response", "status": "completed", "error": None, "output": []},
}


@pytest.mark.parametrize("what", ["HTML", "a whole answer", "an error", "nothing", "an empty stream"])
@each_dialect
async def test_a_good_status_that_is_no_stream(name: str, what: str, transport: Transport) -> None:
    """200 promises nothing, and no such answer is an empty success."""
    overloaded = error_body(name, "overloaded_error", "later")
    rows: dict[str, tuple[Script, type[StreamError], Phase]] = {
        "HTML": (page(200, "<html>Sign in"), errors.UnexpectedContentType, "connect"),
        "a whole answer": (
            page(200, json.dumps(WHOLE[name]), content_type="application/json"),
            errors.UnexpectedContentType,
            "connect",
        ),
        "an error": (page(200, overloaded, content_type="application/json"), errors.Overloaded, "connect"),
        "nothing": ([Head(200, None), END], errors.UnexpectedContentType, "connect"),
        "an empty stream": ([Head(), END], errors.StreamIncomplete, "first_event"),
    }
    script, kind, phase = rows[what]
    with ScriptedServer(script) as server:
        outcome = await watch(stream_from(server, name, transport=transport))
    assert type(outcome.error) is kind
    assert (outcome.error.phase, outcome.events) == (phase, [])
    assert len(server.requests) == 1
    outcome.assert_cut()
    assert_tells_no_secret(outcome.error)


# --- errors inside the stream -------------------------------------------------------------------------------------------

LLAMA: Final = {"code": 500, "message": "later", "type": "server_error"}


def failed(code: str) -> bytes:
    said = {"id": "resp_1", "status": "failed", "error": {"code": code, "message": "later"}, "output": []}
    return sse({"type": "response.failed", "sequence_number": 4, "response": said}, "response.failed")


INSIDE: Final[dict[str, tuple[str, bytes, type[StreamError]]]] = {
    "chat, overloaded": (
        "compatible",
        sse({"error": {"message": "later", "type": "overloaded_error", "code": 529}}),
        errors.Overloaded,
    ),
    "chat, rate limited": (
        "compatible",
        sse({"error": {"message": "later", "code": "rate_limit_exceeded"}}),
        errors.RateLimited,
    ),
    "chat, OpenRouter": (
        "compatible",
        sse(
            {
                "id": "c",
                "error": {"code": 502, "message": "later"},
                "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
            }
        ),
        errors.ServerFault,
    ),
    "chat, an error event": ("compatible", sse({"message": "later"}, "error"), errors.ServerFault),
    "chat, llama.cpp": ("compatible", sse({"error": LLAMA}), errors.ServerFault),
    "messages, overloaded": (
        "anthropic",
        sse({"type": "error", "error": {"type": "overloaded_error", "message": "later"}}, "error"),
        errors.Overloaded,
    ),
    "messages, api_error": (
        "anthropic",
        sse({"type": "error", "error": {"type": "api_error", "message": "later"}}, "error"),
        errors.ServerFault,
    ),
    "messages, rate limited": (
        "anthropic",
        sse({"type": "error", "error": {"type": "rate_limit_error", "message": "later"}}, "error"),
        errors.RateLimited,
    ),
    "messages, a type of tomorrow": (
        "anthropic",
        sse({"type": "error", "error": {"type": "brand_new_error", "message": "later"}}, "error"),
        errors.ServerFault,
    ),
    "messages, llama.cpp": ("anthropic", sse(LLAMA, "error"), errors.ServerFault),
    "responses, flat": (
        "openai",
        sse(
            {"type": "error", "sequence_number": 4, "code": "server_error", "message": "later", "param": None}, "error"
        ),
        errors.ServerFault,
    ),
    "responses, nested": (
        "openai",
        sse(
            {"type": "error", "sequence_number": 4, "error": {"type": "overloaded_error", "message": "later"}}, "error"
        ),
        errors.Overloaded,
    ),
    "responses, failed": ("openai", failed("server_error"), errors.ServerFault),
    "responses, failed by a rate": ("openai", failed("rate_limit_exceeded"), errors.RateLimited),
    "responses, llama.cpp": ("openai", sse({"error": LLAMA}), errors.ServerFault),
}


@pytest.mark.parametrize("row", INSIDE)
async def test_an_error_inside_the_stream(row: str, transport: Transport) -> None:
    """Classified by what it says; the HTTP status, which was 200, is not mentioned."""
    name, frame, kind = INSIDE[row]
    outcome, server = await play(Fault(kind, lambda _: [frame, HANG]), name, transport)
    error = outcome.error
    assert type(error) is kind
    assert (error.status, error.phase, outcome.text) == (None, "output", "Hel")
    assert "later" in str(error)
    assert error.retryable
    assert len(server.requests) == 1
    outcome.assert_cut()
    assert_tells_no_secret(error)


@pytest.mark.parametrize("restated", [True, False])
async def test_a_gap_in_the_numbers(transport: Transport, *, restated: bool) -> None:
    """Responses numbers its events. What is missing is noticed: where the end restates the answer, the response is whole;
    where it does not, what is left is not taken for the answer.
    """
    frames = GOOD["openai"]("Hel", "lo", " you")
    del frames[4]
    if not restated:
        del frames[-4:-1]
        frames[-1] = sse(
            {"type": "response.completed", "sequence_number": 10, "response": {"status": "completed", "output": []}}
        )
    with ScriptedServer(frames) as server:
        outcome = await watch(stream_from(server, "openai", transport=transport))
    if restated:
        outcome.assert_complete()
        assert outcome.response.text == "Hello you"
    else:
        assert type(outcome.error) is errors.SequenceGap
        outcome.assert_cut()
        assert_tells_no_secret(outcome.error)
