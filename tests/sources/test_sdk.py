"""Requests through the official SDKs over real sockets, on both transports."""

from __future__ import annotations

import asyncio
import json
import pickle
import time

import anthropic
import openai
import pytest

from rxstream import errors
from rxstream.aggregate import aggregate
from rxstream.config import Timeouts
from rxstream.providers import decoder_for, provider
from rxstream.sources import sdk
from rxstream.sources.sdk import Connection, close_clients, open_stream
from tests.support.asking import DIALECTS, GOOD, KEY, Wire, ask, error_of, link, read
from tests.support.server import (
    CLOSE,
    END,
    HANG,
    RESET,
    Head,
    Script,
    ScriptedServer,
    Signal,
    Step,
    Tell,
    Wait,
    chat,
    closed_port,
    page,
)
from tests.support.server import (
    Wire as Bytes,
)

each_dialect = pytest.mark.parametrize("name", DIALECTS)


@pytest.fixture(params=["httpx2", "aiohttp"])
def transport(request: pytest.FixtureRequest) -> Wire:
    chosen: Wire = request.param
    return chosen


# --- good streams -------------------------------------------------------------------------------------------------------


@each_dialect
async def test_the_bytes_come_as_they_were_sent(name: str, transport: Wire) -> None:
    """The body is byte-exact, and our decoder makes the answer of it."""
    frames = GOOD[name]("Hel", "lo ☃", tools=[("c1", "f", ['{"a"', ": 1}"])])
    with ScriptedServer(frames) as server:
        body = await read(ask(name), link(server, name, transport=transport))
    assert body == b"".join(frames)
    decoder = decoder_for(name)
    response = aggregate([*decoder.feed(body), *([] if decoder.finished else decoder.close())])
    assert response.text == "Hello ☃"
    assert [(call.name, call.arguments) for call in response.tool_calls] == [("f", '{"a": 1}')]
    assert response.usage.output_tokens == 3


@each_dialect
async def test_what_is_sent(name: str, transport: Wire) -> None:
    """The encoded request goes out with the key, asks for plain bytes, and takes the caller's headers along."""
    request = ask(name, max_tokens=9, extra={"vendor_field": [1]}, extra_headers={"x-mine": "yes"})
    with ScriptedServer(GOOD[name]("x")) as server:
        await read(request, link(server, name, transport=transport))
    sent = server.requests[0]
    assert (
        sent.path
        == {"compatible": "/v1/chat/completions", "anthropic": "/v1/messages", "openai": "/v1/responses"}[name]
    )
    assert sent.json["stream"] is True
    assert sent.json["model"] == "scripted-1"
    assert sent.json["vendor_field"] == [1]
    assert sent.headers["accept-encoding"] == "identity"
    assert sent.headers["x-mine"] == "yes"
    assert KEY in sent.headers.get("authorization", "") + sent.headers.get("x-api-key", "")


async def test_pieces_come_when_they_are_sent(transport: Wire) -> None:
    """Nothing is held back until more comes."""
    first, second = Signal(), Signal()
    with ScriptedServer([b"one", Wait(first), b"two", Wait(second)]) as server:
        async with open_stream(ask(), link(server, transport=transport)) as body:
            assert await anext(body) == b"one"
            first.set()
            assert await anext(body) == b"two"
            second.set()
            with pytest.raises(StopAsyncIteration):
                await anext(body)


async def test_a_body_that_ends_with_the_connection(transport: Wire) -> None:
    """No chunks, no length: the end of the connection is the end of the body."""
    with ScriptedServer([Head(chunked=False), *chat("x"), CLOSE]) as server:
        assert await read(ask(), link(server, transport=transport)) == b"".join(chat("x"))


# --- instead of a stream ------------------------------------------------------------------------------------------------

RATE_LIMIT = json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}})
OVERLOADED = json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "later"}})


@each_dialect
async def test_an_http_error_is_the_providers_own(name: str, transport: Wire) -> None:
    """Classified by its body, with the time to wait and the id to quote; and asked once, not three times."""
    headers = {"retry_after": "7", "x_request_id": "req_1", "request_id": "req_1"}
    with ScriptedServer(page(429, RATE_LIMIT, content_type="application/json", **headers)) as server:
        _, error = await error_of(open_stream(ask(name), link(server, name, transport=transport)))
    assert isinstance(error, errors.RateLimited)
    assert (error.status, error.retry_after, error.request_id) == (429, 7.0, "req_1")
    assert "slow down" in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, errors.AuthError), (400, errors.BadRequest), (404, errors.BadRequest), (500, errors.ServerFault)],
)
@each_dialect
async def test_an_http_error_without_a_body(name: str, status: int, kind: type[Exception], transport: Wire) -> None:
    """Its status is all there is to go by."""
    with ScriptedServer(page(status, b"", content_type="text/plain")) as server:
        _, error = await error_of(open_stream(ask(name), link(server, name, transport=transport)))
    assert type(error) is kind


@each_dialect
async def test_an_error_under_a_good_status(name: str, transport: Wire) -> None:
    """200 and a JSON error: the dialect's error, not an empty stream."""
    with ScriptedServer(page(200, OVERLOADED, content_type="application/json")) as server:
        _, error = await error_of(open_stream(ask(name), link(server, name, transport=transport)))
    assert isinstance(error, errors.Overloaded)
    assert error.status is None


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("text/html", b"<html>Sign in " + b"." * 5000),
        ("text/html", b"<html>" + b"." * 200_000),
        ("application/json", b'{"choices": [{"message": {"content": "whole"}}], "error": null}'),
        ("text/plain", b""),
        (None, b"data: {}\n\n"),
    ],
)
async def test_a_page_under_a_good_status(content_type: str | None, content: bytes, transport: Wire) -> None:
    """200 and no event stream: an error that shows the head of the body; the connection is closed."""
    with ScriptedServer([Head(200, content_type), content, END]) as server:
        _, error = await error_of(open_stream(ask(), link(server, transport=transport)))
    assert isinstance(error, errors.UnexpectedContentType)
    assert error.body == content.decode()[:2048]
    assert (content_type or "no content type") in str(error)


async def test_a_page_that_never_ends(transport: Wire) -> None:
    """Its head is shown after a second, without the rest."""
    with ScriptedServer([Head(200, "text/html"), b"<html>", HANG]) as server:
        _, error = await error_of(open_stream(ask(), link(server, transport=transport)))
    assert isinstance(error, errors.UnexpectedContentType)
    assert error.body == "<html>"


# --- broken connections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["refused", "unknown host", "not TLS", "closed", "reset", "garbage"])
async def test_no_response(where: str, transport: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails before the headers is a ConnectError that names the host and what happened."""
    scripts: dict[str, Script] = {
        "closed": [CLOSE],
        "reset": [RESET],
        "garbage": [Bytes(b"SSH-2.0-OpenSSH\r\n\r\n"), CLOSE],
    }
    monkeypatch.setattr(sdk, "_CONNECT_SECONDS", 0.3)  # a plain server never answers a TLS greeting
    with ScriptedServer(scripts.get(where, [HANG])) as server:
        urls = {
            "refused": f"http://127.0.0.1:{closed_port()}",
            "unknown host": "http://nowhere.invalid",
            "not TLS": server.url.replace("http:", "https:"),
        }
        url = urls.get(where, server.url)
        connection = Connection.to(provider("compatible"), base_url=url, api_key=KEY, transport=transport)
        _, error = await error_of(open_stream(ask(), connection))
    assert isinstance(error, errors.ConnectError)
    assert error.retryable
    assert "127.0.0.1" in str(error) or "nowhere.invalid" in str(error)
    assert error.__cause__ is not None


CUTS: dict[str, tuple[Step, ...]] = {
    "reset": (RESET,),
    "no last chunk": (CLOSE,),
    "inside a chunk": (Bytes(b"ff\r\nhalf"), CLOSE),
}


@pytest.mark.parametrize("cut", CUTS)
@each_dialect
async def test_a_connection_that_breaks(name: str, cut: str, transport: Wire) -> None:
    """What came before is delivered, then it is Disconnected."""
    frames, arrived = GOOD[name]("Hel", terminal=False), Signal()
    with ScriptedServer([Head(), *frames, Wait(arrived), *CUTS[cut]]) as server:
        opened = open_stream(ask(name), link(server, name, transport=transport))
        whole = b"".join(frames)
        data, error = await error_of(opened, lambda data: arrived.set() if data == whole else None)
    assert isinstance(error, errors.Disconnected)
    assert "127.0.0.1" in str(error)
    assert data.startswith(whole)


async def test_what_is_no_chunk() -> None:
    """Bytes that are no HTTP. On httpx2 only: aiohttp 3.14 never tells its reader, and our idle clock has to."""
    with ScriptedServer([Head(), b"data: 1\n\n", Bytes(b"zz\r\n"), HANG]) as server:
        data, error = await error_of(open_stream(ask(), link(server, transport="httpx2")))
    assert data == b"data: 1\n\n"
    assert isinstance(error, errors.Disconnected)


async def test_a_clean_end_is_the_decoders_business(transport: Wire) -> None:
    """A body that ends properly but too early ends properly here, and is cut for the decoder."""
    with ScriptedServer(chat("Hel", terminal=False)) as server:
        body = await read(ask(), link(server, transport=transport))
    decoder = decoder_for("compatible")
    decoder.feed(body)
    with pytest.raises(errors.StreamIncomplete):
        decoder.close()


# --- closing ------------------------------------------------------------------------------------------------------------


async def test_cancel_before_the_headers(transport: Wire) -> None:
    """Cancelling the task closes the connection at once."""
    asked = Signal()
    with ScriptedServer([Tell(asked), HANG]) as server:
        task = asyncio.ensure_future(read(ask(), link(server, transport=transport)))
        await asked.wait_async()
        since = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.requests[0].left.wait_async()
        assert server.wait_closed(since=since) < 0.05


async def test_cancel_before_the_first_byte(transport: Wire) -> None:
    with ScriptedServer([Head(), HANG]) as server:
        entered = asyncio.Event()

        async def wait_for_a_byte() -> None:
            async with open_stream(ask(), link(server, transport=transport)) as body:
                entered.set()
                await anext(body)

        task = asyncio.ensure_future(wait_for_a_byte())
        await entered.wait()
        since = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.requests[0].left.wait_async()
        assert server.wait_closed(since=since) < 0.05


async def test_leave_in_mid_body(transport: Wire) -> None:
    """Leaving the context with bytes unread closes the connection at once."""
    with ScriptedServer([Head(), *chat("x", terminal=False), HANG]) as server:
        async with open_stream(ask(), link(server, transport=transport)) as body:
            await anext(body)
            since = time.monotonic()
        await server.requests[0].left.wait_async()
        assert server.wait_closed(since=since) < 0.05


async def test_the_callers_own_exception_passes_through(transport: Wire) -> None:
    with ScriptedServer([Head(), *chat("x", terminal=False), HANG]) as server:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - it is raised where the stream is read
            async with open_stream(ask(), link(server, transport=transport)) as body:
                await anext(body)
                raise ZeroDivisionError
        await server.requests[0].left.wait_async()


@pytest.mark.parametrize("name", ["local", "llamacpp"])
async def test_a_server_that_may_close_a_connection_at_any_moment_is_told_to_close_it(
    name: str, transport: Wire
) -> None:
    """And says so itself, as servers do."""
    with ScriptedServer([Head(headers={"connection": "close"}), *chat("Hel")]) as server:
        connection = Connection.to(provider(name), base_url=f"{server.url}/v1", api_key=KEY, transport=transport)
        for _ in range(3):
            await read(ask(name), connection)
        assert [request.headers["connection"] for request in server.requests] == ["close"] * 3
        assert server.connections == 3


@each_dialect
async def test_a_drained_connection_is_used_again(name: str, transport: Wire) -> None:
    """Four streams one after the other, each left after the provider's mark and a drain, need one connection."""
    with ScriptedServer(GOOD[name]("x")) as server:
        for _ in range(4):
            decoder = decoder_for(name)
            async with open_stream(ask(name), link(server, name, transport=transport)) as body:
                while not decoder.finished:
                    decoder.feed(await anext(body))
                await body.drain()
        assert server.connections == 1


# --- stream_options -----------------------------------------------------------------------------------------------------


async def test_a_server_without_stream_options(transport: Wire) -> None:
    """It is asked once more without them, and from then on at once."""
    refusal = page(400, '{"error": {"message": "Unknown field: stream_options"}}', content_type="application/json")
    with ScriptedServer(refusal, chat("x")) as server:
        connection = link(server, transport=transport)
        for _ in range(2):
            assert await read(ask(), connection) == b"".join(chat("x"))
    assert ["stream_options" in request.json for request in server.requests] == [True, False, False]


async def test_another_bad_request_is_not_repeated(transport: Wire) -> None:
    with ScriptedServer(
        page(400, '{"error": {"message": "no such model"}}', content_type="application/json")
    ) as server:
        _, error = await error_of(open_stream(ask(), link(server, transport=transport)))
    assert isinstance(error, errors.BadRequest)
    assert len(server.requests) == 1


# --- connections --------------------------------------------------------------------------------------------------------


def test_a_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first variable that is set; blanks around a key are not part of it."""
    monkeypatch.delenv("PERPLEXITY_API_KEY", raising=False)
    monkeypatch.setenv("PPLX_API_KEY", f" {KEY}\n")
    assert KEY in list(Connection.to(provider("perplexity")).secrets())
    assert KEY not in list(Connection.to(provider("perplexity"), api_key="another-key").secrets())


@pytest.mark.parametrize("name", ["anthropic", "openai", "openai-chat", "xai", "openrouter"])
def test_no_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable and the argument."""
    row = provider(name)
    for variable in row.api_key_env:
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(errors.ConfigurationError, match=rf"{row.api_key_env[0]}.*api_key="):
        Connection.to(row)


@pytest.mark.parametrize("name", ["local", "ollama", "vllm", "llamacpp"])
async def test_local_servers_need_no_key(name: str, transport: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*provider(name).api_key_env, "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    with ScriptedServer(chat("x")) as server:
        connection = Connection.to(provider(name), base_url=server.url, transport=transport)
        assert await read(ask(name), connection) == b"".join(chat("x"))


def test_a_url_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://proxy.example:1")
    assert Connection.to(provider("anthropic"), api_key=KEY).base_url == "https://proxy.example:1"
    assert Connection.to(provider("anthropic"), api_key=KEY, base_url="http://other").base_url == "http://other"


@pytest.mark.parametrize("url", ["ftp://x", "localhost:8080", "http://", "http://[bad", "http://x:port"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="base_url"):
        Connection.to(provider("compatible"), base_url=url)


def test_a_provider_without_a_url() -> None:
    with pytest.raises(errors.ConfigurationError, match="base_url="):
        Connection.to(provider("compatible"))


def test_the_connect_clock_shortens_the_making_of_a_connection() -> None:
    row = provider("local")
    assert Connection.to(row).connect_seconds == 10
    assert Connection.to(row, timeouts=Timeouts(connect=2)).connect_seconds == 2
    assert Connection.to(row, timeouts=Timeouts(connect=None)).connect_seconds == 10


def test_a_connection_shows_and_pickles_no_key() -> None:
    connection = Connection.to(provider("anthropic"), api_key=KEY)
    assert KEY not in repr(connection)
    with pytest.raises(TypeError, match="key"):
        pickle.dumps(connection)


async def test_a_client_of_ones_own(transport: Wire) -> None:
    """It keeps its key, URL and headers, is asked once, and is still open afterwards."""
    http = openai.DefaultAioHttpClient() if transport == "aiohttp" else openai.DefaultAsyncHttpxClient()
    refusal = page(500, "{}", content_type="application/json")
    with ScriptedServer(chat("x"), refusal, chat("y")) as server:
        client = openai.AsyncOpenAI(
            base_url=server.url, api_key="my-own-key", default_headers={"x-team": "blue"}, http_client=http
        )
        connection = Connection.to(provider("openai-chat"), client=client)
        assert await read(ask(), connection) == b"".join(chat("x"))
        _, error = await error_of(open_stream(ask(), connection))
        assert isinstance(error, errors.ServerFault)
        await close_clients()
        assert await read(ask(), connection) == b"".join(chat("y"))
        await client.close()
    assert len(server.requests) == 3
    assert server.requests[0].headers["authorization"] == "Bearer my-own-key"
    assert server.requests[0].headers["x-team"] == "blue"


def test_a_client_that_cannot_be_used() -> None:
    """One that blocks, one of the other SDK, something else, and one beside a key."""
    row = provider("anthropic")
    with anthropic.Anthropic(api_key=KEY) as blocking, pytest.raises(errors.ConfigurationError, match="AsyncAnthropic"):
        Connection.to(row, client=blocking)  # type: ignore[arg-type]  # what is being tested
    other = openai.AsyncOpenAI(api_key=KEY)
    for client in (other, object()):
        with pytest.raises(errors.ConfigurationError, match="AsyncAnthropic"):
            Connection.to(row, client=client)  # type: ignore[arg-type]  # what is being tested
    with pytest.raises(errors.ConfigurationError, match="either client="):
        Connection.to(provider("openai"), client=other, api_key=KEY)
