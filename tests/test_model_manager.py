"""Asking models by their names: what is sent, to whom, who is told; over real sockets, and with a real model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import anthropic
import openai
import pytest

from rxstream import StreamConfig
from rxstream.errors import Cancelled, ConfigurationError
from rxstream.events import Started
from rxstream.manager import StreamManager
from rxstream.manager_events import StreamEvent, StreamStarted
from rxstream.model_manager import APIModelManager
from rxstream.response import Response
from tests.support.server import Exchange, ScriptedServer, chat, messages, responses
from tests.support.until import until

asked: list[tuple[str, dict[str, Any]]] = []


async def answer(exchange: Exchange) -> None:
    """Something true, in the dialect that the path asks for; who asks to wait gets its first word alone."""
    path, body = exchange.request.path, exchange.request.json
    asked.append((path, body))
    dialect = messages if path.endswith("/messages") else responses if path.endswith("/responses") else chat
    await exchange.head()
    for piece in dialect("Hello ", "there."):
        await exchange.send(piece)
        if "wait" in str(body):
            await asyncio.Event().wait()
    await exchange.end()


@pytest.fixture(autouse=True)
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """OpenAI and Anthropic, on the loopback."""
    asked.clear()
    with ScriptedServer(answer) as server:
        for vendor, base_url in (("OPENAI", f"{server.url}/v1"), ("ANTHROPIC", server.url)):
            monkeypatch.setenv(f"{vendor}_BASE_URL", base_url)
            monkeypatch.setenv(f"{vendor}_API_KEY", "scripted")
        yield server


def test_asks_the_model_that_is_named_and_tells_the_handlers() -> None:
    tokens: list[str] = []
    complete: list[Response] = []
    told: list[StreamEvent] = []
    with APIModelManager() as models:
        models.events.subscribe(told.append)
        models.register_handler(SimpleNamespace(on_stream_complete=complete.append))
        name = models.generate_stream_with_handlers(
            "hello",
            "openai-chat:gpt-x",
            params={"max_tokens": 5, "temperature": 0},
            handlers=[SimpleNamespace(on_token_received=lambda token, _: tokens.append(token))],
            metadata={"user": 7},
            stream_id="question",
        )
        response = models.get_result(name, timeout=30)
        assert (name, response.text, tokens, complete) == ("question", "Hello there.", ["Hello ", "there."], [response])
    begun, started = told[0].event, told[1].event
    assert isinstance(begun, StreamStarted)
    assert isinstance(started, Started)
    assert (begun.metadata.provider, begun.metadata.model, begun.metadata.extra) == (
        "openai-chat",
        "gpt-x",
        {"user": 7},
    )
    assert (started.provider, started.id) == ("openai-chat", response.id)
    assert [one.request_id for one in told] == ["", *[response.id] * (len(told) - 1)]
    [(path, body)] = asked
    assert path.endswith("/chat/completions")
    assert (body["model"], body["temperature"]) == ("gpt-x", 0)


def test_a_default_provider_and_a_default_target() -> None:
    """A slash is part of a model's name there: nobody else is asked for what stands before it."""
    with APIModelManager(StreamConfig(default_target="openai:gpt-y"), default_provider="Anthropic") as models:
        for model in ("claude-x", "openai-chat:gpt-x", "openai-chat/gpt-z", "odd:1b", None):
            assert models.generate("hello", model, timeout=30).text == "Hello there."
    assert [body["model"] for _, body in asked] == ["claude-x", "gpt-x", "openai-chat/gpt-z", "odd:1b", "gpt-y"]
    assert [path.rpartition("/")[2] for path, _ in asked] == [
        "messages", "completions", "messages", "messages", "responses",
    ]  # fmt: skip


def test_the_default_provider_is_that_of_the_configuration_s_default_target() -> None:
    with APIModelManager(StreamConfig(default_target="anthropic:claude-y")) as models:
        assert models.default_provider == "anthropic"
        for model in ("claude-x", "openai-chat:gpt-x", None):
            assert models.generate("hello", model, timeout=30).text == "Hello there."
    assert [body["model"] for _, body in asked] == ["claude-x", "gpt-x", "claude-y"]


def test_a_whole_answer_is_there_though_nothing_is_kept() -> None:
    with APIModelManager(default_provider="openai", keep=0) as models:
        assert models.generate("hello", "x", timeout=30).text == "Hello there."
        assert models.streams() == {}


def test_what_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError, match="antropic"):
        APIModelManager(default_provider="antropic")
    with pytest.raises(ConfigurationError, match="default_provider=5: must be a str"):
        APIModelManager(default_provider=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="config"):
        APIModelManager({"mode": "word"})  # type: ignore[arg-type]
    with APIModelManager() as models:
        with pytest.raises(ConfigurationError, match="default_target"):
            models.generate("hello")
        with pytest.raises(ConfigurationError, match="did you mean 'max_tokens'"):
            models.generate("hello", "openai:x", params={"max_token": 3})
        for wrong in ([1], "ab", 0):
            with pytest.raises(ConfigurationError, match="params="):
                models.generate("hello", "openai:x", params=wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="model_id=5: must be a str"):
            models.generate("hello", 5)  # type: ignore[arg-type]
        assert repr(models) == "<APIModelManager 0 running, 0 waiting, 0 over>"
        assert models.streams() == {}
    assert asked == []


def test_the_configuration_s_handlers_mode_and_bound() -> None:
    words, looked = list[str](), threading.Event()

    def told(token: str, _index: int) -> None:
        looked.wait(10)  # it holds the loop: nothing is over before the test has looked
        words.append(token)

    handler = SimpleNamespace(on_token_received=told)
    config = StreamConfig(handlers=[handler], mode="character", max_concurrent=1, default_target="openai:x")
    with APIModelManager(config) as models:
        names = [models.generate_stream_with_handlers("hello") for _ in range(2)]
        assert list(models.streams().values()) == ["active", "inactive"]
        looked.set()
        for name in names:
            models.get_result(name, timeout=30)
    assert words == list("Hello there." * 2)
    with StreamManager(config) as manager:
        manager.get_result(manager.start_stream(["to be"]), timeout=5)
    assert words[-5:] == list("to be")


def test_who_gives_up_waiting_for_a_whole_answer_closes_its_request(cloud: ScriptedServer) -> None:
    with APIModelManager(default_provider="openai") as models:
        with pytest.raises(TimeoutError, match=r"'stream-1' has not ended after 0\.3 s"):
            models.generate("wait", "x", timeout=0.3)
        assert set(models.streams().values()) == {"cancelled"}
        with pytest.raises(ConfigurationError, match="timeout=-1"):
            models.generate("wait", "x", timeout=-1)
        assert len(models.streams()) == 1, "it was asked"

    async def main() -> None:
        async with APIModelManager(default_provider="openai") as models:
            with pytest.raises(ConfigurationError, match="agenerate"):
                models.generate("hello", "x")
            assert (await models.agenerate("hello", "x")).text == "Hello there."
            waiting = asyncio.create_task(models.agenerate("wait", "x"))
            await until(lambda: "active" in models.streams().values())
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert list(models.streams().values()) == ["completed", "cancelled"]
            name = models.generate_stream_with_handlers("wait", "x")
        with pytest.raises(Cancelled):
            models.get_result(name)

    asyncio.run(main())


def test_streams_that_an_sdk_has_opened(cloud: ScriptedServer) -> None:
    async def main() -> None:
        client = openai.AsyncOpenAI(api_key="k", base_url=f"{cloud.url}/v1")
        async with client, StreamManager() as manager:
            opened: Any = await client.chat.completions.create(
                model="x", messages=[{"role": "user", "content": "hello"}], stream=True
            )
            name = manager.start_stream(opened, {"label": "theirs"})
            assert (await manager.wait(name)).text == "Hello there."
        with anthropic.Anthropic(api_key="k", base_url=cloud.url) as plain:
            other: Any = plain.messages.create(
                model="x", max_tokens=9, messages=[{"role": "user", "content": "hello"}], stream=True
            )
            async with StreamManager() as manager:
                assert (await manager.wait(manager.start_stream(other))).text == "Hello there."

    asyncio.run(main())


@pytest.mark.local
@pytest.mark.usefixtures("local_server")
def test_a_real_model() -> None:
    tokens: list[str] = []
    told = SimpleNamespace(on_token_received=lambda token, _: tokens.append(token))
    with APIModelManager(default_provider="local") as models:
        params = {"max_tokens": 12, "seed": 1}
        response = models.generate("Say hello.", "smollm2", params=params, handlers=[told], timeout=120)
        assert response.text == "".join(tokens)
        assert models.get_statistics("stream-1").output_tokens == response.usage.output_tokens
