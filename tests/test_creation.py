"""`rxstream.stream` and `rxstream.from_sdk`: what is said at once, what to the subscriber, and what is sent."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import reactivex
from reactivex import operators as ops

import rxstream
from rxstream.errors import ConfigurationError, LimitExceeded
from tests.support.asking import KEY
from tests.support.server import ScriptedServer, chat


def test_nothing_is_sent_before_the_subscription() -> None:
    """A stream is a description."""
    with ScriptedServer(chat("Hello")) as server:
        stream = rxstream.stream("openai-chat:m", "hi", base_url=f"{server.url}/v1", api_key=KEY)
        assert not server.requests
        assert stream.run().text == "Hello"
        assert stream.run().text == "Hello"
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("gpt-9", {}, "openai:gpt-9"),
        ("antropic:claude", {}, "anthropic"),
        ("anthropic:", {}, "model"),
        ("openai:m", {"temperature": -1}, "temperature"),
        ("openai:m", {"timeouts": 0}, "total"),
        ("openai:m", {"timeouts": {"idel": 3}}, "idle"),
        ("openai:m", {"limits": {"events": 0}}, "events"),
        ("openai:m", {"tool_choice": "auto"}, "tools"),
        ("openai:m", {"limits": {"characters": 0}}, "characters"),
        ("openai:m", {"on_error": "explode"}, "action"),
        ("openai:m", {"on_error": {"action": "failover", "to": ["antropic:claude"]}}, "anthropic"),
        ("openai:m", {"guards": [5]}, "guard 1"),
    ],
)
def test_wrong_arguments_are_refused_at_once(target: str, options: dict[str, Any], words: str) -> None:
    """The message names the argument or the nearest right word."""
    with pytest.raises(ConfigurationError, match=words):
        rxstream.stream(target, "hi", **options)


def test_a_prompt_is_needed() -> None:
    """And the message shows where it goes."""
    with pytest.raises(ConfigurationError, match=r"stream\(target, prompt\)"):
        rxstream.stream("openai:m")


async def test_a_missing_key_is_told_to_the_subscriber(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be set between the description and the subscription."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    stream = rxstream.stream("anthropic:m", "hi")
    told: list[Exception] = []
    stream.subscribe(on_error=told.append)
    with pytest.raises(ConfigurationError, match="ANTHROPIC_API_KEY"):
        await stream
    assert isinstance(told[0], ConfigurationError)


async def test_the_label_is_the_target_unless_it_is_given() -> None:
    """It is the ``source`` of the events and the name of the stream, whatever operators follow."""
    with ScriptedServer(chat("a")) as server:
        options: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": KEY}
        plain = rxstream.stream("openai-chat/m", "hi", **options)
        named = rxstream.stream("openai-chat:m", "hi", label="mine", **options)
        assert {event.source async for event in plain} == {"openai-chat:m"}
        assert {event.source async for event in named} == {"mine"}
        assert named.text().label == "mine"


async def test_the_limit_on_events_ends_a_stream() -> None:
    """What came before is kept."""
    with ScriptedServer(chat(*"abcdefgh")) as server:
        stream = rxstream.stream("openai-chat:m", "hi", base_url=f"{server.url}/v1", api_key=KEY, limits={"events": 4})
        with pytest.raises(LimitExceeded, match="4 events") as caught:
            await stream
    assert caught.value.partial is not None
    assert caught.value.partial.text == "abc"  # the first event was Started


async def test_bytes_and_partial_answers_are_kept_unless_told_otherwise() -> None:
    """``keep_raw`` and ``keep_partial`` bound the memory."""
    with ScriptedServer(chat("Hello")[:1]) as server:
        options: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": KEY}
        events = [event async for event in rxstream.stream("openai-chat:m", "hi", **options).pipe(ops.catch(_nothing))]
        assert all(event.raw for event in events)
        events = [
            event
            async for event in rxstream.stream("openai-chat:m", "hi", keep_raw=False, **options).pipe(
                ops.catch(_nothing)
            )
        ]
        assert not any(event.raw for event in events)
        with pytest.raises(rxstream.errors.StreamIncomplete) as caught:
            await rxstream.stream("openai-chat:m", "hi", keep_partial=False, **options)
    assert caught.value.partial is None


def _nothing(_error: Exception, _source: object) -> Any:
    return reactivex.empty()


async def test_an_sdk_stream_can_be_handed_in() -> None:
    """To `stream` or to `from_sdk`; anything else is refused."""
    openai = pytest.importorskip("openai")
    with ScriptedServer(chat("Hello")) as server:
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
        async with client:
            for hand_in in (rxstream.stream, rxstream.from_sdk):
                opened = await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "hi"}], stream=True
                )
                assert (await hand_in(opened, label="handed")).text == "Hello"
            for options in ({"on_error": "retry"}, {"guards": [object()]}):
                wrong: Any = options
                with pytest.raises(ConfigurationError, match="is asked once"):
                    rxstream.stream(opened, **wrong)
            opened = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            with pytest.raises(LimitExceeded, match="4 characters"):
                await rxstream.from_sdk(opened, limits={"characters": 4})
    with pytest.raises(ConfigurationError, match="list"):
        rxstream.from_sdk(["no", "stream"])  # type: ignore[arg-type]


def test_importing_stream_loads_neither_sdk_nor_pydantic() -> None:
    """What checks a request is loaded by the first call."""
    code = "import sys; from rxstream import stream; print(*(name for name in ('openai', 'anthropic', 'httpx2', 'aiohttp', 'pydantic') if name in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []


def test_the_sdk_is_loaded_in_a_thread_of_its_own() -> None:
    """It takes a second or two, in which the loop would stand still."""
    code = """
import asyncio, sys, threading, rxstream

class Watch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "openai":
            print(threading.current_thread() is threading.main_thread())

async def main():
    sys.meta_path.insert(0, Watch)
    try:
        await rxstream.stream("compatible:m", "hi", base_url="http://127.0.0.1:9/v1")
    except rxstream.errors.ConnectError:
        pass

asyncio.run(main())
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False"]
