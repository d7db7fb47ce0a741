"""Streams opened with the official SDKs, synchronous and asynchronous, read as our own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from rxstream import errors
from rxstream.aggregate import aggregate
from rxstream.config import Limits
from rxstream.response import Response
from rxstream.sources.adopt import Adopted, adopt, is_sdk_stream
from tests.support.asking import GOOD, KEY, error_of
from tests.support.server import CLOSE, HANG, RESET, Head, Script, ScriptedServer, chat, messages, page, responses, sse

every_stream = pytest.mark.parametrize("blocking", [False, True], ids=["async", "sync"])
every_dialect = pytest.mark.parametrize("name", GOOD)
USER = {"role": "user", "content": "hello"}


class Sdk:
    """Clients of both SDKs, made when first used, closed together."""

    def __init__(self, server: ScriptedServer) -> None:
        self._options: dict[str, Any] = {"base_url": server.url, "api_key": KEY, "max_retries": 0}

    @cached_property
    def sync(self) -> openai.OpenAI:
        return openai.OpenAI(**self._options)

    @cached_property
    def plain(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(**self._options)

    @cached_property
    def claude_sync(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(**self._options)

    @cached_property
    def claude(self) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(**self._options)

    async def open(self, name: str, *, blocking: bool) -> Any:
        """What ``create(stream=True)`` gives."""
        kind = ("claude_sync" if blocking else "claude") if name == "anthropic" else "sync" if blocking else "plain"
        client: Any = getattr(self, kind)
        calls: dict[str, Callable[[], Any]] = {
            "compatible": lambda: client.chat.completions.create(model="m", messages=[USER], stream=True),
            "anthropic": lambda: client.messages.create(model="m", messages=[USER], max_tokens=9, stream=True),
            "openai": lambda: client.responses.create(model="m", input="hello", stream=True),
        }
        return await asyncio.to_thread(calls[name]) if blocking else await calls[name]()

    async def close(self) -> None:
        for client in [value for value in vars(self).values() if hasattr(value, "close")]:
            closing: Any = client.close()
            if closing is not None:
                await closing


async def using(script: Script, use: Callable[[Sdk, ScriptedServer], Awaitable[None]]) -> None:
    with ScriptedServer(script) as server:
        sdk = Sdk(server)
        try:
            async with asyncio.timeout(10):
                await use(sdk, server)
        finally:
            await sdk.close()


async def answer(adopted: Adopted) -> Response:
    """Read and decode it as a subscription does."""
    decoder, events = adopted.decoder(), []
    async with adopted.open() as body:
        async for piece in body:
            events += decoder.feed(piece)
            if decoder.finished:
                await body.drain()  # type: ignore[attr-defined]  # a Body has it
                break
        else:
            events += decoder.close()
    return aggregate(events)


# --- good streams -------------------------------------------------------------------------------------------------------


@every_stream
@every_dialect
async def test_a_stream_is_read_to_its_end(name: str, *, blocking: bool) -> None:
    async def use(sdk: Sdk, _: ScriptedServer) -> None:
        adopted = adopt(await sdk.open(name, blocking=blocking))
        response = await answer(adopted)
        assert adopted.provider == name
        assert response.text == "Hello ☃"
        assert response.usage.output_tokens == 3

    await using(GOOD[name]("Hel", "lo ☃"), use)


@every_stream
@every_dialect
async def test_its_connection_is_used_again(name: str, *, blocking: bool) -> None:
    async def use(sdk: Sdk, server: ScriptedServer) -> None:
        for _ in range(3):
            await answer(adopt(await sdk.open(name, blocking=blocking)))
        assert server.connections == 1

    await using(GOOD[name]("x"), use)


async def test_the_helpers_of_the_sdks() -> None:
    """What ``.stream()`` gives, entered or not."""

    async def use(sdk: Sdk, server: ScriptedServer) -> None:
        for manager in (
            sdk.plain.chat.completions.stream(model="m", messages=[{"role": "user", "content": "hello"}]),
            sdk.claude.messages.stream(model="m", messages=[{"role": "user", "content": "hello"}], max_tokens=9),
            sdk.plain.responses.stream(model="m", input="hello"),
        ):
            before = len(server.requests)
            adopted = adopt(manager)
            assert len(server.requests) == before
            assert (await answer(adopted)).text == "Hello"
        async with sdk.claude.messages.stream(
            model="m", messages=[{"role": "user", "content": "hello"}], max_tokens=9
        ) as helper:
            assert (await answer(adopt(helper))).text == "Hello"

    with ScriptedServer(chat("Hello"), messages("Hello"), responses("Hello"), messages("Hello")) as server:
        sdk = Sdk(server)
        await use(sdk, server)
        await sdk.close()


def test_a_blocking_helper_is_to_be_entered() -> None:
    with ScriptedServer(messages("Hello")) as server, anthropic.Anthropic(base_url=server.url, api_key=KEY) as client:
        manager = client.messages.stream(model="m", messages=[{"role": "user", "content": "hello"}], max_tokens=9)
        with pytest.raises(errors.ConfigurationError, match="enter"):
            adopt(manager)
        with manager as helper:
            assert asyncio.run(answer(adopt(helper))).text == "Hello"


async def test_the_row_of_a_known_server() -> None:
    """A server of the registry is read by the rules of its row."""
    request = httpx2.Request("POST", "https://api.x.ai/v1/chat/completions")
    async with openai.AsyncOpenAI(api_key=KEY) as client:
        response = httpx2.Response(200, request=request, stream=httpx2.ByteStream(b""))
        stream = openai.AsyncStream[Any](cast_to=object, response=response, client=client)
        assert adopt(stream).provider == "xai"


# --- failures -----------------------------------------------------------------------------------------------------------


@every_stream
@every_dialect
async def test_what_the_sdks_hide(name: str, *, blocking: bool) -> None:
    """A clean end in the middle of an answer is an error here."""

    async def use(sdk: Sdk, _: ScriptedServer) -> None:
        with pytest.raises(errors.StreamIncomplete):
            await answer(adopt(await sdk.open(name, blocking=blocking)))

    await using(GOOD[name]("Hel", terminal=False), use)


@pytest.mark.parametrize("cut", [RESET, CLOSE], ids=["reset", "cut"])
@every_stream
async def test_a_connection_that_breaks(cut: Any, *, blocking: bool) -> None:
    async def use(sdk: Sdk, _: ScriptedServer) -> None:
        _data, error = await error_of(adopt(await sdk.open("anthropic", blocking=blocking)).open())
        assert isinstance(error, errors.Disconnected)
        assert KEY not in f"{error} {error.__cause__} {error.__context__}"

    await using([Head(), *messages("Hel", terminal=False), cut], use)


@every_stream
async def test_a_page_in_place_of_a_stream(*, blocking: bool) -> None:
    async def use(sdk: Sdk, _: ScriptedServer) -> None:
        _data, error = await error_of(adopt(await sdk.open("openai", blocking=blocking)).open())
        assert isinstance(error, errors.UnexpectedContentType)

    await using(page(200, "<html>"), use)


async def test_a_helper_whose_request_fails() -> None:
    """It is asked when it is subscribed, so its error comes then, and holds no key."""

    async def use(sdk: Sdk, _: ScriptedServer) -> None:
        manager = sdk.plain.responses.stream(model="m", input="hello")
        _data, error = await error_of(adopt(manager).open())
        assert isinstance(error, errors.RateLimited)
        assert KEY not in f"{error} {error.__cause__} {error.__context__}"

    await using(page(429, f'{{"error": {{"message": "slow down, {KEY}"}}}}', content_type="application/json"), use)


@every_stream
async def test_the_bytes_are_limited(*, blocking: bool) -> None:
    async def use(sdk: Sdk, _: ScriptedServer) -> None:
        stream = await sdk.open("compatible", blocking=blocking)
        _data, error = await error_of(adopt(stream, limits=Limits(stream_bytes=100)).open())
        assert isinstance(error, errors.LimitExceeded)

    await using(chat("x"), use)


@every_stream
async def test_a_stream_can_be_read_once(*, blocking: bool) -> None:
    """The second subscription is told, and so is one after somebody else has read."""

    async def use(sdk: Sdk, _: ScriptedServer) -> None:
        adopted = adopt(await sdk.open("compatible", blocking=blocking))
        await answer(adopted)
        with pytest.raises(errors.ConfigurationError, match="once"):
            await answer(adopted)
        other: Any = await sdk.open("compatible", blocking=blocking)
        if blocking:
            list(other)
        else:
            [event async for event in other]
        with pytest.raises(errors.ConfigurationError, match="read or closed before"):
            await answer(adopt(other))

    await using(chat("x"), use)


async def test_streams_of_other_apis() -> None:
    async def use(sdk: Sdk, _: ScriptedServer) -> None:
        stream = await sdk.plain.completions.create(model="m", prompt="hello", stream=True)
        with pytest.raises(errors.ConfigurationError, match="/completions"):
            adopt(stream)
        await stream.close()

    await using(chat("x"), use)


@pytest.mark.parametrize("thing", [None, "text", object(), [], iter(())])
def test_what_is_no_stream(thing: object) -> None:
    assert not is_sdk_stream(thing)
    with pytest.raises(errors.ConfigurationError, match="is not a stream"):
        adopt(thing)


def test_looking_loads_no_sdk() -> None:
    script = (
        "import sys; from rxstream.sources.adopt import is_sdk_stream; is_sdk_stream(1); print('openai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- closing ------------------------------------------------------------------------------------------------------------


@contextmanager
def no_more_threads() -> Iterator[None]:
    yield
    for thread in [thread for thread in threading.enumerate() if thread.name.startswith("rxstream-adopt")]:
        thread.join(2)
        assert not thread.is_alive()


@every_stream
async def test_cancel_while_it_waits_for_bytes(*, blocking: bool) -> None:
    """The connection is closed at once, also when a thread sits in a blocking read."""

    async def use(sdk: Sdk, server: ScriptedServer) -> None:
        adopted, reading = adopt(await sdk.open("compatible", blocking=blocking)), asyncio.Event()

        async def wait() -> None:
            async with adopted.open() as body:
                reading.set()
                await anext(body)

        task = asyncio.ensure_future(wait())
        await reading.wait()
        await asyncio.sleep(0)
        since = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - since < 0.5
        await server.requests[0].left.wait_async()
        assert server.wait_closed(since=since) < 0.05

    with no_more_threads():
        await using([Head(), HANG], use)


@every_stream
async def test_leave_in_mid_body(*, blocking: bool) -> None:
    async def use(sdk: Sdk, server: ScriptedServer) -> None:
        async with adopt(await sdk.open("compatible", blocking=blocking)).open() as body:
            await anext(body)
            since = time.monotonic()
        await server.requests[0].left.wait_async()
        assert server.wait_closed(since=since) < 0.05

    with no_more_threads():
        await using([Head(), *chat("x", terminal=False), HANG], use)


# --- frames that are not text -------------------------------------------------------------------------------------------


class Frames:
    """Stands for Bedrock's decoder, which needs botocore: it gives the SDK the same events out of other frames."""

    def iter_bytes(self, pieces: Iterator[bytes]) -> Iterator[Any]:
        for piece in pieces:
            yield from anthropic._streaming.SSEDecoder().iter_bytes(iter([piece.removeprefix(b"frame ")]))

    async def aiter_bytes(self, pieces: Any) -> Any:
        async for piece in pieces:
            for event in self.iter_bytes(iter([piece])):
                yield event


@every_stream
async def test_binary_frames_are_left_to_the_sdk(*, blocking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its events are written out and decoded again; its error for an error event is classified."""
    monkeypatch.setattr(anthropic.Anthropic, "_make_sse_decoder", lambda _self: Frames())
    monkeypatch.setattr(anthropic.AsyncAnthropic, "_make_sse_decoder", lambda _self: Frames())
    head = Head(content_type="application/vnd.amazon.eventstream", chunked=False)

    async def use(sdk: Sdk, _: ScriptedServer) -> None:
        stream = await sdk.open("anthropic", blocking=blocking)
        assert (await answer(adopt(stream))).text == "Hello"

    async def use_failing(sdk: Sdk, _: ScriptedServer) -> None:
        stream = await sdk.open("anthropic", blocking=blocking)
        with pytest.raises(errors.Overloaded, match="later"):
            await answer(adopt(stream))

    await using([head, b"frame " + b"".join(messages("Hello")), CLOSE], use)
    fault = sse({"type": "error", "error": {"type": "overloaded_error", "message": "later"}}, "error")
    await using([head, b"frame " + messages("Hello")[0] + fault, CLOSE], use_failing)
