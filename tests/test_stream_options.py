"""The streams that a configuration makes, and the options that they are made with."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import rxstream
from rxstream import StreamConfig
from rxstream._stream_options import ConfigFields, StreamOptions
from rxstream.bulkhead import Bulkhead
from rxstream.errors import BulkheadFull, ConfigurationError, LimitExceeded
from rxstream.guards import acquired
from rxstream.limiter import TokenBucket
from rxstream.profiles import PROFILES
from rxstream.quota import RateLimiter
from tests.support.asking import KEY
from tests.support.configs import again
from tests.support.server import CLOSE, HANG, ScriptedServer, chat, messages, page
from tests.support.until import until

# --- the streams it makes --------------------------------------------------------------------------------------------


def test_the_options_are_those_of_stream() -> None:
    """All, and no others."""
    parameters = inspect.signature(rxstream.stream).parameters
    assert set(StreamOptions.__annotations__) == set(parameters) - {"target", "prompt"}
    assert set(ConfigFields.__annotations__) == set(StreamConfig.model_fields)


def test_everything_is_applied() -> None:
    """To what is asked, with which key, and how long."""
    config = StreamConfig(
        default_target="openai-chat:m",
        provider_options={"openai-chat": {"user": "me", "verbosity": "low"}, "anthropic": {"speed": "fast"}},
        api_keys={"openai": KEY},
        limits={"characters": 8},
        max_concurrent=1,
    )
    with ScriptedServer(chat("Hello, world")) as server:
        stream = config.stream(None, "hi", base_url=f"{server.url}/v1", extra={"verbosity": "high"}, temperature=0.5)
        with pytest.raises(LimitExceeded):
            stream.run()
        asked = server.requests[0].json
    assert (asked["user"], asked["verbosity"], asked["temperature"]) == ("me", "high", 0.5)
    assert "speed" not in asked
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert stream.label == "openai-chat:m"


def test_each_model_has_its_own_options_and_key_also_when_another_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is one provider's is not sent to the next."""
    config = StreamConfig(
        on_error={"action": "failover", "to": ["anthropic:m"]},
        provider_options={"openai-chat": {"user": "me"}, "anthropic": {"service_tier": "standard_only"}},
        api_keys={"openai-chat": KEY, "anthropic": f"{KEY}-2"},
    )
    with ScriptedServer(page(400, "no")) as first, ScriptedServer(messages("Hello")) as second:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", second.url)
        stream = config.stream("openai-chat:m", "hi", base_url=f"{first.url}/v1", label="mine")
        assert stream.run().text == "Hello"
    assert (first.requests[0].json["user"], second.requests[0].json["service_tier"]) == ("me", "standard_only")
    assert "user" not in second.requests[0].json
    assert second.requests[0].headers["authorization"] == f"Bearer {KEY}-2"
    assert stream.label == "mine"


def test_when_all_fail_what_arrived_is_the_answer_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = {"action": "complete_partial", "to": ["anthropic:m"], "retry": {"attempts": 1}}
    config = StreamConfig(on_error=policy, api_keys={"anthropic": KEY, "openai": KEY})
    with ScriptedServer([*chat("Hello")[:2], CLOSE]) as first, ScriptedServer(page(400, "no")) as second:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", second.url)
        answer = config.stream("openai-chat:m", "hi", base_url=f"{first.url}/v1").run()
    assert (answer.text, len(first.requests)) == ("Hello", 1)


def test_options_go_over_the_configuration_value_by_value() -> None:
    config = StreamConfig(timeouts={"idle": 5}, limits={"events": 2}, on_error="retry", max_concurrent=1)
    extra = acquired(TokenBucket(5))
    with ScriptedServer(chat("Hello", ", ", "world")) as server:
        options: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": KEY, "guards": [extra]}
        with pytest.raises(LimitExceeded):
            config.stream("openai-chat:m", "hi", **options, limits={"characters": 1000}).run()
        more = config.stream(
            "openai-chat:m", "hi", **options, limits={"events": 99}, timeouts={"total": 9}, on_error="fail"
        )
        assert more.run().text == "Hello, world"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temprature": 1}, "unknown option 'temprature' of a stream; did you mean 'temperature'?"),
        ({"timeouts": {"idel": 1}}, "idle"),
        ({"timeouts": True}, "total"),
        ({"limits": {"events": 0}}, "events"),
        ({"on_error": "explode"}, "action"),
        ({"guards": [5]}, "guard 1"),
        ({"guards": 5}, "guards"),
        ({"extra": 5}, "extra"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        StreamConfig().stream("openai:m", "hi", **options)


def test_a_target_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="default_target"):
        StreamConfig().stream(None, "hi")


def test_what_streams_share_is_made_once() -> None:
    """By one configuration, and those derived from it, as long as they say the same of it."""
    config = StreamConfig(max_concurrent=2, rate_limits={"requests_per_minute": 5, "max_wait": 1})
    bulkhead, limiter = config.guards
    assert isinstance(bulkhead, Bulkhead)
    assert isinstance(limiter, RateLimiter)
    assert (bulkhead.max_concurrent, bulkhead.max_waiting) == (2, 1024)
    assert (limiter.requests_per_minute, limiter.tokens_per_minute, limiter.max_wait) == (5, None, 1)
    assert config.guards == (bulkhead, limiter)
    assert config.replace(mode="word").guards == (bulkhead, limiter)
    assert config.replace(max_concurrent=3).guards[0] is not bulkhead
    assert config.replace(max_concurrent=3).guards[1] is limiter
    assert StreamConfig(**config.model_dump()).guards[0] is not bulkhead
    assert again(config).guards[0] is not bulkhead
    assert StreamConfig().guards == ()


async def test_a_bulkhead_is_shared_by_the_streams() -> None:
    """There is one place, and nobody may wait for it."""
    config = StreamConfig(max_concurrent=1, max_waiting=0, default_target="openai-chat:m")
    with ScriptedServer([*chat("Hello")[:1], HANG]) as server:
        options: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": KEY}
        with config.stream(None, "hi", **options).start():
            await until(lambda: bool(server.requests))
            with pytest.raises(BulkheadFull):
                await config.replace(mode="word").stream(None, "hi", **options)
    assert len(server.requests) == 1


# --- the whole of it -------------------------------------------------------------------------------------------------


@pytest.mark.local
@pytest.mark.usefixtures("local_server")
def test_the_local_model_by_a_profile() -> None:
    """Asked and spoken in sentences."""
    config = StreamConfig.from_profile(
        "voice", default_target="local:smollm2", timeouts={"first_output": 60, "connect": 60, "idle": 60}
    )
    sentences = list(config.apply(config.stream(None, "Say two short sentences.", max_tokens=30, seed=1)))
    assert sentences
    assert all(sentences)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_makes_streams(name: str) -> None:
    config = StreamConfig.from_profile(name)
    with ScriptedServer(chat("Hello. ", "World")) as server:
        stream = config.stream("openai-chat:m", "hi", base_url=f"{server.url}/v1", api_key=KEY)
        items: list[Any] = list(config.apply(stream))
    pieces = items if config.mode != "event" else [getattr(event, "text", "") for event in items]
    assert "".join(pieces) == "Hello. World"
