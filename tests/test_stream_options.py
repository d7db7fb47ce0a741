"""The streams that a configuration makes, and the options that they are made with."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import reactivex

import rxstream
from rxstream import StreamConfig, manager, stream_config
from rxstream._relief import Backpressure
from rxstream._roster import Roster
from rxstream._stream_options import ConfigFields, StreamOptions
from rxstream.bulkhead import Bulkhead
from rxstream.config import Limits, Timeouts
from rxstream.errors import BulkheadFull, ConfigurationError, LimitExceeded
from rxstream.guards import acquired
from rxstream.limiter import TokenBucket
from rxstream.observable import Stream
from rxstream.profiles import PROFILES
from rxstream.quota import RateLimiter
from rxstream.stream_config import Mode
from tests.support.asking import KEY
from tests.support.configs import PLANTED, again
from tests.support.flow import Flow
from tests.support.scripted import Scripted, numbered
from tests.support.server import CLOSE, HANG, ScriptedServer, chat, messages, page
from tests.support.until import until
from tests.support.virtual_loop import settle, virtual_time

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


# --- nothing in it is without effect -----------------------------------------------------------------------------------

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
needs_page = pytest.mark.skipif(not PAGE.exists(), reason="the documents are not beside the tests")
FAILOVER: Any = {"action": "failover", "to": ["local:a", "local:b"], "retry": {}}
RATES: Any = {"requests_per_minute": 5}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default_target": ({}, {"default_target": "local:other"}),
    "mode": ({"handlers": [print]}, {"mode": "word"}),
    "backpressure": ({}, {"backpressure": "buffer"}),
    "buffer": ({"backpressure": "buffer"}, {"buffer": 2}),
    "buffer_unit": ({"backpressure": "buffer", "buffer": 5}, {"buffer_unit": "bytes"}),
    **{f"timeouts.{name}": ({}, {"timeouts": {name: 5}}) for name in Timeouts.model_fields},
    **{f"limits.{name}": ({}, {"limits": {name: 5}}) for name in Limits.model_fields},
    "on_error.action": ({"on_error": FAILOVER}, {"on_error": {**FAILOVER, "action": "complete_partial"}}),
    "on_error.to": ({"on_error": FAILOVER}, {"on_error": {"to": ["local:b", "local:a"]}}),
    "on_error.after_output": ({"on_error": FAILOVER}, {"on_error": {"after_output": "restart"}}),
    "on_error.on_finish": ({"on_error": FAILOVER}, {"on_error": {"on_finish": ["length"]}}),
    **{
        f"on_error.retry.{name}": ({"on_error": FAILOVER}, {"on_error": {"retry": {name: value}}})
        for name, value in {"attempts": 9, "after_output": "restart", "delay": 9, "max_delay": 9, "max_retry_after": 9}.items()
    },
    "rate_limits.requests_per_minute": ({}, {"rate_limits": {"requests_per_minute": 5}}),
    "rate_limits.tokens_per_minute": ({}, {"rate_limits": {"tokens_per_minute": 5}}),
    "rate_limits.max_wait": ({"rate_limits": RATES}, {"rate_limits": {"max_wait": 5}}),
    "max_concurrent": ({}, {"max_concurrent": 2}),
    "max_waiting": ({"max_concurrent": 2}, {"max_waiting": 5}),
    "handlers": ({}, {"handlers": [print, repr]}),
    "provider_options.local.top_k": ({}, {"provider_options": {"local": {"top_k": 5}}}),
    "api_keys.local": ({}, {"api_keys": {"local": PLANTED}}),
}  # fmt: skip
"""Of each value: what is said besides, and what it is changed to."""


def documented() -> dict[str, set[str]]:
    """Who applies which field, as the page says it."""
    table = PAGE.read_text(encoding="utf-8").partition("| given to |")[2].partition("\n\n")[0]
    return {row.split("`")[1]: set(re.findall(r"`(\w+)`", row.split("|")[2])) for row in table.splitlines()[2:5]}


def asked(config: StreamConfig, monkeypatch: pytest.MonkeyPatch) -> object:
    """What `config.stream` makes a stream of."""
    told: list[object] = []

    def record(name: str, made: Any) -> None:
        def recording(*given: Any, **options: Any) -> Any:
            guards = [{n: v for n, v in vars(guard).items() if n[0] != "_"} for guard in options.pop("guards", ())]
            told.append((name, [each for each in given if isinstance(each, str)], options, guards))
            return made

        monkeypatch.setattr(stream_config, name, recording)

    record("stream", Stream.of(reactivex.never()))
    record("failover", Stream.of(reactivex.never()))
    record("on_error_complete", lambda source: source)
    config.stream(None, "hi")
    return told


def consumed(config: StreamConfig, _: object) -> object:
    """What a consumer of `config.apply` gets, and how far the source runs on while he is paused."""
    told: list[object] = []

    @virtual_time
    async def run() -> None:
        script = Scripted(numbered(9))
        flow = Flow(config.apply, script.events())
        flow.hold()
        await settle()
        told.append(script.given)
        await flow.release()
        told.extend(str(item) for item in flow.items)

    run()
    return told


def managed(config: StreamConfig, monkeypatch: pytest.MonkeyPatch) -> object:
    """What a `StreamManager` is made of."""
    told: list[object] = []

    class Recording(Roster):
        def __init__(self, **options: Any) -> None:
            told.append(options)
            super().__init__(**options)

    monkeypatch.setattr(manager, "Roster", Recording)
    monkeypatch.setattr(
        manager.StreamManager, "register_handler", lambda *given, **policy: told.append((given[1:], policy))
    )
    manager.StreamManager(config)
    return told


EFFECTS: dict[str, Callable[[StreamConfig, pytest.MonkeyPatch], object]] = {
    "config.stream": asked,
    "config.apply": consumed,
    "StreamManager": managed,
}


@needs_page
@pytest.mark.parametrize("path", CHANGES)
def test_each_value_has_the_effect_that_the_page_says(path: str) -> None:
    """On what is asked, on what is consumed, or on a manager; and on nothing else."""
    besides, change = CHANGES[path]
    before = StreamConfig(**{"default_target": "local:smollm2", **besides})
    after = before.replace(**change)
    changed: set[str] = set()
    for name, effect in EFFECTS.items():
        with pytest.MonkeyPatch.context() as monkeypatch:
            changed |= {name} if effect(before, monkeypatch) != effect(after, monkeypatch) else set()
    assert changed == {name for name, fields in documented().items() if path.partition(".")[0] in fields}


@needs_page
def test_all_values_are_tried() -> None:
    """And the page names all fields."""
    full = StreamConfig(
        on_error=FAILOVER, rate_limits=RATES, provider_options={"local": {"top_k": 5}}, api_keys={"local": PLANTED}
    )
    assert set(full.origins) == set(CHANGES)
    assert set.union(*documented().values()) == set(StreamConfig.model_fields)


@pytest.mark.parametrize("mode", get_args(Mode))
def test_every_mode_with_every_backpressure(mode: Mode) -> None:
    """A consumer that keeps up gets everything, in pieces that make up the answer, whatever would be done about a slow one."""
    with ScriptedServer(*[chat("One two. ", "Three!\n\nFo", "ur.")] * len(get_args(Backpressure))) as server:
        for backpressure in get_args(Backpressure):
            config = StreamConfig(mode=mode, backpressure=backpressure)
            source = config.stream("openai-chat:m", "hi", base_url=f"{server.url}/v1", api_key=KEY)
            items: list[Any] = list(config.apply(source))
            assert "".join(item if isinstance(item, str) else getattr(item, "text", "") for item in items) == (
                "One two. Three!\n\nFour."
            )
            assert all(isinstance(item, str) for item in items) == (mode != "event")


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
