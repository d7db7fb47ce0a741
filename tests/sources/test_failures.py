"""No key leaves with an error."""

from __future__ import annotations

import gc
import json
import pickle
import traceback
from collections.abc import Iterator

import httpx2
import openai
import pytest

from rxstream._secrets import Secrets
from rxstream.errors import RateLimited, RxstreamError
from rxstream.providers import provider
from rxstream.sources._failures import TransportError
from rxstream.sources._response import Origin
from rxstream.sources.sdk import Connection, open_stream
from tests.support.asking import DIALECTS, KEY, Wire, ask, error_of, link
from tests.support.server import CLOSE, RESET, Head, Script, ScriptedServer, page

ECHO = json.dumps({"error": {"message": f"wrong key: {KEY}", "type": "invalid_request_error", "code": KEY}})
FAILURES: dict[str, Script] = {
    "no response": [CLOSE],
    "reset": [RESET],
    "in mid-body": [Head(), b"data: 1\n\n", CLOSE],
    "an HTTP error that quotes the key": page(401, ECHO, content_type="application/json"),
    "a good status and an error": page(200, ECHO, content_type="application/json"),
    "a page that quotes the key": page(200, f"<html>{KEY}</html>"),
    "a broken error body": page(500, f"{{{KEY}"),
}


def reachable(error: BaseException) -> Iterator[str]:
    """Everything that can be read off an error without its tracebacks: attributes, arguments, causes and contexts."""
    pending: list[object] = [error]
    seen: set[int] = set()
    while pending:
        thing = pending.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        yield repr(thing)
        yield str(thing)
        if isinstance(thing, BaseException):
            pending += [thing.__cause__, thing.__context__, *thing.args, *getattr(thing, "__notes__", ())]
        pending += vars(thing).values() if hasattr(thing, "__dict__") else []
        if isinstance(thing, (dict, list, tuple, set, frozenset)):
            pending += gc.get_referents(thing)


@pytest.mark.parametrize("transport", ["httpx2", "aiohttp"])
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", DIALECTS)
async def test_no_key_in_an_error(name: str, failure: str, transport: Wire) -> None:
    """Not in its texts, not in what it was caused by, not in its pickle, not in the traceback as Python prints it."""
    with ScriptedServer(FAILURES[failure]) as server:
        _, error = await error_of(open_stream(ask(name), link(server, name, transport=transport)))
    assert not [text for text in reachable(error) if KEY in text]
    assert KEY.encode() not in pickle.dumps(error)
    assert KEY not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("transport", ["httpx2", "aiohttp"])
async def test_no_key_of_a_header_in_an_error(transport: Wire) -> None:
    """A key that came as an extra header is a key, too."""
    request = ask(extra_headers={"X-Gateway-Token": "Bearer hidden-gateway-word"})
    with ScriptedServer(page(400, "<p>hidden-gateway-word is not known</p>")) as server:
        _, error = await error_of(open_stream(request, link(server, transport=transport)))
    assert not [text for text in reachable(error) if "hidden-gateway-word" in text]


async def test_the_cause_tells_the_whole_chain() -> None:
    """What the libraries raised is there to read, outermost first, as text."""
    with ScriptedServer([RESET]) as server:
        _, error = await error_of(open_stream(ask(), link(server, transport="httpx2")))
    assert isinstance(error.__cause__, TransportError)
    text = str(error.__cause__)
    assert text.index("openai.APIConnectionError") < text.index("httpx2.ReadError") < text.index("ConnectionResetError")
    assert error.__context__ is None


def test_a_secret_error_is_still_an_error_of_ours() -> None:
    assert not issubclass(TransportError, RxstreamError)


async def test_no_key_of_a_users_client_in_an_error() -> None:
    """Its key, and the keys among its own headers."""
    headers = {"x-gateway-key": "hidden-gateway-word"}
    with ScriptedServer(page(400, f"<p>{KEY} hidden-gateway-word</p>")) as server:
        async with openai.AsyncOpenAI(base_url=server.url, api_key=KEY, default_headers=headers) as client:
            connection = Connection.to(provider("openai-chat"), client=client)
            _, error = await error_of(open_stream(ask(), connection))
    assert not [text for text in reachable(error) if KEY in text or "hidden-gateway-word" in text]


async def test_a_connection_that_breaks_is_told_in_one_line_without_a_status() -> None:
    """For aiohttp says "400, message:", a line break and two blanks of a body that is not whole."""
    with ScriptedServer([Head(), b"data: 1\n\n", CLOSE]) as server:
        _, error = await error_of(open_stream(ask(), link(server, transport="aiohttp")))
    assert "broke the connection: TransferEncodingError: Not enough data" in str(error)
    assert "400" not in str(error).replace(str(server.port), "")
    assert "\n" not in str(error)


def test_an_error_whose_body_was_not_read() -> None:
    """Its status is all there is to go by."""
    origin = Origin(host="x", dialect="openai-chat", secrets=Secrets([]), max_bytes=None)
    request = httpx2.Request("POST", "http://x")
    response = httpx2.Response(429, request=request, stream=httpx2.ByteStream(b"{}"))
    error = origin.not_connected(openai.APIStatusError("slow down", response=response, body=None))
    assert isinstance(error, RateLimited)
