"""What goes out: the requests that a server gets, the keys that nobody else gets, and streams that somebody else opened."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pickle
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Final

import anthropic
import openai
import pytest

import rxstream
from rxstream import errors
from rxstream.events import encode
from rxstream.observable import Stream
from rxstream.providers import PROVIDERS
from rxstream.session import StreamSession
from rxstream.sources.sdk import Connection
from tests.support.asking import DIALECTS, GOOD, KEY, until
from tests.support.live import TRANSPORTS, Transport, assert_tells_no_secret, no_task_left, stream_from, watch
from tests.support.server import CLOSE, HANG, Head, Recorded, Script, ScriptedServer, Step, page, sse

each_dialect = pytest.mark.parametrize("name", DIALECTS)
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)
PATHS: Final = {"compatible": "/v1/chat/completions", "anthropic": "/v1/messages", "openai": "/v1/responses"}


@pytest.fixture(autouse=True)
async def _nothing_goes_on() -> AsyncIterator[None]:
    yield
    await no_task_left()


def key_of(request: Recorded) -> str:
    """The key that came with it, wherever its protocol has it."""
    return request.headers.get("x-api-key") or request.headers["authorization"].removeprefix("Bearer ")


# --- the request --------------------------------------------------------------------------------------------------------


@each_transport
@each_dialect
async def test_the_request(name: str, transport: Transport) -> None:
    """The method, the path, the headers and the body of each protocol."""
    with ScriptedServer(GOOD[name]("Hello")) as server:
        response = await stream_from(
            server, name, transport=transport, prompt="Hi ☃", system="Be brief.", max_tokens=9, temperature=0.5
        )
    assert response.text == "Hello"
    [request] = server.requests
    assert (request.method, request.path) == ("POST", PATHS[name])
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-type"] == "application/json"
    assert key_of(request) == KEY
    assert ("anthropic-version" in request.headers) == (name == "anthropic")
    body = request.json
    common = {"model": body.pop("model"), "stream": body.pop("stream"), "temperature": body.pop("temperature")}
    assert common == {"model": "scripted-1", "stream": True, "temperature": 0.5}
    assert "Hi ☃" in json.dumps(body, ensure_ascii=False)
    match name:
        case "compatible":
            assert [message["role"] for message in body["messages"]] == ["system", "user"]
            assert body["max_tokens"] == 9
            assert body["stream_options"] == {"include_usage": True}
        case "anthropic":
            assert [message["role"] for message in body["messages"]] == ["user"]
            assert "Be brief." in json.dumps(body["system"])
            assert body["max_tokens"] == 9
            assert "stream_options" not in body
        case _:
            assert body["max_output_tokens"] == 9
            assert "Be brief." in json.dumps(body)


@each_transport
@each_dialect
async def test_what_is_extra_goes_along(name: str, transport: Transport) -> None:
    """More fields and headers, which win over ours."""
    with ScriptedServer(GOOD[name]("x")) as server:
        await stream_from(
            server, name, transport=transport, temperature=0.5, extra={"temperature": 1, "mine": [1]},
            extra_headers={"x-mine": "yes"},
        )  # fmt: skip
    [request] = server.requests
    assert (request.json["temperature"], request.json["mine"], request.headers["x-mine"]) == (1, [1], "yes")


@each_dialect
async def test_nothing_is_sent_before_it_is_subscribed(name: str) -> None:
    """A stream is cold: made, labelled, piped and shown, it asks nobody; each subscription asks once."""
    with ScriptedServer(GOOD[name]("x")) as server:
        stream = stream_from(server, name)
        assert f"{name}:scripted-1" in repr(stream)
        texts = stream.text()
        assert server.connections == 0
        assert await texts == "x"
        assert await texts == "x"
        assert len(server.requests) == 2


@each_transport
@each_dialect
async def test_connections_are_used_again(name: str, transport: Transport) -> None:
    """One after the other, streams of the same server share a connection: the little that follows the end is read."""
    with ScriptedServer(GOOD[name]("x")) as server:
        for _ in range(4):
            await stream_from(server, name, transport=transport)
            await no_task_left()
        assert (len(server.requests), server.connections) == (4, 1)


# --- the option that not every server knows -----------------------------------------------------------------------------

UNKNOWN: Final = page(
    400, '{"error": {"message": "Unrecognized field: stream_options"}}', content_type="application/json"
)


@each_transport
async def test_a_server_that_does_not_know_the_usage_option(transport: Transport) -> None:
    """It is asked once more without it, and from then on without it at once; another server is asked with it again."""
    good = GOOD["compatible"]("x")
    with ScriptedServer(UNKNOWN, good) as server, ScriptedServer(good) as other:
        for target in (server, server, other):
            outcome = await watch(stream_from(target, "compatible", transport=transport))
            outcome.assert_complete()
        assert ["stream_options" in request.json for request in server.requests] == [True, False, False]
        assert ["stream_options" in request.json for request in other.requests] == [True]


async def test_a_server_that_refuses_in_any_case() -> None:
    """It is asked twice, no more; and only where it is about this option."""
    refusal = page(400, '{"error": {"message": "no such model"}}', content_type="application/json")
    for script, asked in (([UNKNOWN, refusal], 2), ([refusal], 1)):
        with ScriptedServer(*script) as server:
            outcome = await watch(stream_from(server, "compatible"))
        assert type(outcome.error) is errors.BadRequest
        assert "no such model" in str(outcome.error)
        assert len(server.requests) == asked


async def test_usage_is_not_asked_for_where_nobody_wants_it() -> None:
    with ScriptedServer(GOOD["compatible"]("x", usage=None)) as server:
        response = await stream_from(server, "compatible", include_usage=False)
    assert "stream_options" not in server.requests[0].json
    assert response.usage.provenance == "absent"


# --- keys ---------------------------------------------------------------------------------------------------------------

HOSTED: Final = [row.name for row in PROVIDERS.values() if row.api_key_env]


@pytest.mark.parametrize("row", HOSTED)
async def test_keys_come_from_the_environment(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From each variable that a provider has, when the stream is subscribed, not before."""
    dialect = PROVIDERS[row].dialect
    good = {"openai-chat": "compatible", "anthropic": "anthropic", "openai-responses": "openai"}[dialect]
    for variable in PROVIDERS[row].api_key_env:
        for other in PROVIDERS[row].api_key_env:
            monkeypatch.delenv(other, raising=False)
        with ScriptedServer(GOOD[good]("x")) as server:
            stream = rxstream.stream(f"{row}:m", "hello", base_url=server.url + DIALECTS[good])
            monkeypatch.setenv(variable, KEY)
            await stream
        assert key_of(server.requests[0]) == KEY


async def test_no_key_is_told_to_the_subscriber(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the name of the variable; nothing is sent."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ScriptedServer([HANG]) as server:
        stream = rxstream.stream("openai:m", "hello", base_url=server.url)
        with pytest.raises(errors.ConfigurationError, match="OPENAI_API_KEY"):
            await stream
        told: list[Exception] = []
        stream.subscribe(on_error=told.append)
        await until(lambda: bool(told))
    assert server.connections == 0


def scripts_with(key: str, name: str) -> list[Script]:
    """Answers in which a server tells the key to everybody."""
    said: list[Step] = [Head(), *GOOD[name]("Hel", terminal=False)]
    quoted = json.dumps({"error": {"message": f"Incorrect API key provided: {key}", "type": "invalid_request_error"}})
    return [
        GOOD[name]("Hello"),
        page(401, quoted, content_type="application/json"),
        page(200, quoted, content_type="application/json"),
        page(200, f"<html>{key}</html>"),
        page(500, f"<html>{key}</html>"),
        [*said, b"data: " + quoted.encode() + b"\n\n"],
        [*said, b"event: error\ndata: " + quoted.encode() + b"\n\n"],
        [*said, b"data: {" + key.encode() + b"\n\n"],
        [*said, CLOSE],
        [CLOSE],
    ]


@each_transport
@each_dialect
async def test_no_key_is_seen_anywhere(name: str, transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    """In no error, log, event, response, ``repr`` or pickle, however the answer goes, and with every log turned on."""
    caplog.set_level(logging.DEBUG)
    scripts = scripts_with(KEY, name)
    with ScriptedServer(*scripts) as server:
        stream = stream_from(server, name, transport=transport)
        for _ in scripts:
            assert_shown_nowhere(KEY, stream, await ended(stream))
        assert len(server.requests) == len(scripts)
    assert not [record for record in caplog.records if KEY in f"{record.getMessage()} {vars(record)}"]


@each_transport
@each_dialect
async def test_a_secret_header_is_a_key(name: str, transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    """Headers whose name speaks of keys or tokens are as secret; what the SDKs log for debugging is their own affair."""
    caplog.set_level(logging.DEBUG, "rxstream")
    secret = "tenant-secret-31415926"  # noqa: S105  # planted
    scripts = scripts_with(secret, name)
    with ScriptedServer(*scripts) as server:
        stream = stream_from(server, name, transport=transport, extra_headers={"x-tenant-token": secret})
        for _ in scripts:
            assert_shown_nowhere(secret, stream, await ended(stream))
        assert {request.headers["x-tenant-token"] for request in server.requests} == {secret}
    assert secret not in caplog.text


async def ended(stream: Stream[Any]) -> StreamSession:
    session = stream.start()
    with contextlib.suppress(errors.StreamError):
        await session
    return session


def assert_shown_nowhere(secret: str, stream: Stream[Any], session: StreamSession) -> None:
    seen: list[Any] = [stream, session, session.partial, session.statistics, session.partial.model_dump_json()]
    if isinstance(session.error, errors.StreamError):
        assert_tells_no_secret(session.error, secret)
        seen += [session.error.info(), session.error.body, session.error.partial]
    for thing in seen:
        assert secret not in f"{thing} {thing!r}"
    assert secret.encode() not in pickle.dumps(session.partial)


def test_a_stream_takes_no_key_along_in_a_pickle() -> None:
    """What holds a key cannot be pickled at all."""
    connection = Connection.to(PROVIDERS["openai"], base_url="http://127.0.0.1:9", api_key=KEY)
    stream = rxstream.stream("openai:m", "hello", base_url="http://127.0.0.1:9", api_key=KEY)
    for thing in (connection, stream):
        assert KEY not in repr(thing)
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            pickle.dumps(thing)


async def test_events_hold_no_request() -> None:
    """An event is data: it goes through JSON and pickle, and holds what the provider sent, no more."""
    with ScriptedServer(GOOD["compatible"]("x")) as server:
        outcome = await watch(stream_from(server, "compatible"))
    for event in outcome.events:
        assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301  # ours
        assert KEY.encode() not in encode(event)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@each_transport
@each_dialect
async def test_no_redirect_is_followed(name: str, transport: Transport, status: int) -> None:
    """Another server gets neither the prompt nor a key, and its answer is not taken for the model's."""
    with ScriptedServer(GOOD[name]("stolen")) as thief:
        location = f"http://localhost:{thief.port}{PATHS[name]}?key={KEY}"
        with ScriptedServer(page(status, "", location=location)) as server:
            outcome = await watch(stream_from(server, name, transport=transport, extra_headers={"x-token": KEY}))
        assert thief.connections == 0
    error = outcome.error
    assert type(error) is errors.BadRequest
    assert (error.status, len(server.requests)) == (status, 1)
    assert f"http://localhost:{thief.port}{PATHS[name]}" in str(error)
    assert_tells_no_secret(error)


# --- clients and streams of the SDKs ------------------------------------------------------------------------------------


def client_of(name: str, server: ScriptedServer, *, blocking: bool = False) -> Any:
    """A client such as a user makes, with retries."""
    kinds: dict[tuple[bool, bool], Any] = {
        (True, False): anthropic.AsyncAnthropic,
        (True, True): anthropic.Anthropic,
        (False, False): openai.AsyncOpenAI,
        (False, True): openai.OpenAI,
    }
    kind = kinds[name == "anthropic", blocking]
    return kind(base_url=server.url + DIALECTS[name], api_key=KEY, default_headers={"x-tenant": "blue"})


@each_dialect
async def test_a_client_of_your_own(name: str) -> None:
    """Its URL, its key and its headers are used, its retries are not, and it stays open."""
    busy = page(529, "{}", content_type="application/json")
    with ScriptedServer(GOOD[name]("x"), busy, GOOD[name]("y")) as server:
        async with client_of(name, server) as client:
            stream = rxstream.stream(f"{name}:m", "hello", client=client)
            assert (await stream).text == "x"
            with pytest.raises(errors.Overloaded):
                await stream
            assert (await stream).text == "y"
            assert not client.is_closed()
        assert len(server.requests) == 3
        assert {request.headers["x-tenant"] for request in server.requests} == {"blue"}
        assert {key_of(request) for request in server.requests} == {KEY}


async def test_a_client_that_does_not_fit() -> None:
    """A blocking one, or one of the other SDK, is refused with the name of the right one; nothing is sent."""
    with ScriptedServer([HANG]) as server:
        for target, kind, blocking in (("openai:m", "openai", True), ("anthropic:m", "openai", False)):
            client = client_of(kind, server, blocking=blocking)
            with pytest.raises(errors.ConfigurationError, match="Async"):
                await rxstream.stream(target, "hello", client=client)
            await client.close() if not blocking else client.close()
    assert server.connections == 0


async def open_with_sdk(name: str, client: Any, *, blocking: bool) -> Any:
    """What ``create(stream=True)`` gives."""
    user = {"role": "user", "content": "hello"}
    arguments: dict[str, Any] = {"messages": [user]}
    match name:
        case "compatible":
            create = client.chat.completions.create
        case "anthropic":
            create, arguments = client.messages.create, {"messages": [user], "max_tokens": 9}
        case _:
            create, arguments = client.responses.create, {"input": "hello"}
    if blocking:
        return await asyncio.to_thread(create, model="m", stream=True, **arguments)
    return await create(model="m", stream=True, **arguments)


@pytest.mark.parametrize("blocking", [False, True], ids=["async", "sync"])
@each_dialect
async def test_a_stream_of_an_sdk(name: str, *, blocking: bool) -> None:
    """Handed to `stream` or to `from_sdk`: read once, whole if it is whole, an error if it was cut."""
    whole, cut = GOOD[name]("Hel", "lo"), GOOD[name]("Hel", terminal=False)
    async with AsyncExitStack() as stack:
        server = stack.enter_context(ScriptedServer(whole, whole, cut))
        client = client_of(name, server, blocking=blocking)
        await stack.enter_async_context(client) if not blocking else stack.enter_context(client)
        opened = [await open_with_sdk(name, client, blocking=blocking) for _ in range(3)]
        stream: Stream[Any] = rxstream.stream(opened[0], label="mine")
        outcome = await watch(stream)
        outcome.assert_complete()
        assert outcome.text == "Hello"
        assert {event.source for event in outcome.events} == {"mine"}
        assert (await rxstream.from_sdk(opened[1])).text == "Hello"
        with pytest.raises(errors.ConfigurationError, match="once"):
            await stream
        outcome = await watch(rxstream.from_sdk(opened[2]))
        assert type(outcome.error) is errors.StreamIncomplete
        assert outcome.text == "Hel"
        outcome.assert_cut()
        assert_tells_no_secret(outcome.error)
        assert len(server.requests) == 3


async def test_a_stream_of_an_sdk_tells_no_key() -> None:
    """Nor does one whose key has no shape by which it would be known."""
    secret = "tenant-secret-31415926"  # noqa: S105  # planted
    said = {"error": {"message": f"no such tenant: {secret}", "type": secret}}
    with ScriptedServer([*GOOD["compatible"]("Hel", terminal=False), sse(said), HANG]) as server:
        async with openai.AsyncOpenAI(base_url=server.url, api_key=secret) as client:
            stream = rxstream.from_sdk(await open_with_sdk("compatible", client, blocking=False))
            outcome = await watch(stream)
    assert "no such tenant" in str(outcome.error)
    assert_tells_no_secret(outcome.error, secret)


@pytest.mark.parametrize("blocking", [False, True], ids=["async", "sync"])
@each_dialect
async def test_cancelling_a_stream_of_an_sdk(name: str, *, blocking: bool) -> None:
    """The connection is closed, also that of a client that sits in a blocking read."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(ScriptedServer([Head(), *GOOD[name]("Hel", terminal=False), HANG]))
        client = client_of(name, server, blocking=blocking)
        await stack.enter_async_context(client) if not blocking else stack.enter_context(client)
        session = rxstream.from_sdk(await open_with_sdk(name, client, blocking=blocking)).start()
        await until(lambda: session.partial.text == "Hel")
        session.cancel()
        await server.requests[0].left.wait_async()
