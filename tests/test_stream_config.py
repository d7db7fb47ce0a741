"""How streams are made and handled, as one object: its values, and that nobody changes them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from pydantic import ValidationError

from rxstream import StreamConfig
from rxstream.errors import ConfigurationError
from rxstream.policy import Retry
from tests.support.configs import PLANTED, again

# --- nobody changes it ------------------------------------------------------------------------------------------------


def test_what_it_holds_by_provider_or_in_lists_cannot_be_changed_either() -> None:
    config = StreamConfig(
        api_keys={"openai": PLANTED},
        provider_options={"anthropic": {"top_k": 3}},
        on_error={"action": "failover", "to": ["openai:gpt-5"], "on_finish": ["length"]},
    )
    bare = StreamConfig()
    for each in (config, bare, copy.deepcopy(config), again(config), config.replace(mode="word")):
        held: Any
        for held in (each.api_keys, each.provider_options):
            with pytest.raises(TypeError, match="replace"):
                held["opneai"] = "x"
            with pytest.raises(TypeError, match="replace"):
                held.clear()
    assert (config.on_error.to, config.on_error.on_finish) == (("openai:gpt-5",), ("length",))
    assert again(config).api_keys == config.api_keys == {"openai": config.api_keys["openai"]}
    assert again(config) == copy.deepcopy(config) == config


def test_equal_ones_are_found_in_a_dict() -> None:
    values: Any = {"provider_options": {"openrouter": {"plugins": [{"id": "web"}]}}, "api_keys": {"openai": PLANTED}}
    made, other = StreamConfig(**values), StreamConfig(**values)
    assert {made: 1}[other] == 1
    assert {made: 1, StreamConfig(): 2, made.replace(mode="word"): 3, copy.deepcopy(made): 4} == {
        other: 4,
        StreamConfig(): 2,
        again(made).replace(mode="word"): 3,
    }


def test_nor_can_what_is_within() -> None:
    """Neither by him who gave it."""
    given: Any = {"a": [{"b": 1}, (2, 3)]}
    made = StreamConfig(provider_options={"anthropic": {"metadata": given}, "groq": {"x": given, "y": [1]}})
    given["a"].append("later")
    changes: list[Callable[[Any], object]] = [
        lambda held: held.update(x=1),
        lambda held: held["a"].append(1),
        lambda held: held["a"][0].clear(),
        lambda held: held["a"][1].sort(),
        lambda held: held["a"].__setitem__(0, 5),
        lambda held: held.__ior__({"a": 1}),
        lambda held: held["a"].__iadd__([1]),
    ]
    for config in (made, copy.deepcopy(made), again(made), made.replace(mode="word")):
        options = config.provider_options
        for held in (options["anthropic"].body()["metadata"], getattr(options["groq"], "x")):  # noqa: B009
            assert held == {"a": [{"b": 1}, [2, 3]]}
        for change in changes:
            with pytest.raises(TypeError, match="a configuration cannot be changed; replace"):
                change(getattr(options["anthropic"], "metadata"))  # noqa: B009
            with pytest.raises(TypeError, match="a configuration cannot be changed; replace"):
                change(getattr(options["groq"], "x"))  # noqa: B009
        options["groq"].body()["x"]["a"].clear()  # that is his own
        assert options["groq"].body()["x"]["a"]
        assert config == made.replace(mode=config.mode)


@pytest.mark.parametrize("depth", [101, 400, 700, 5_000])
@pytest.mark.parametrize("load", [StreamConfig, StreamConfig().replace, partial(StreamConfig.load, env={})])
def test_what_is_nested_too_deeply_is_refused(load: Callable[..., StreamConfig], depth: int) -> None:
    in_lists: Any = 1
    in_dicts: Any = 1
    for _ in range(depth):
        in_lists, in_dicts = [in_lists], {"a": in_dicts}
    for value in (in_lists, in_dicts):
        with pytest.raises(ConfigurationError, match=r"provider_options: (groq: )?is nested too deeply"):
            load(provider_options={"groq": {"x": value}})


def test_who_tries_to_change_it_is_not_shown_the_key_that_he_gave() -> None:
    config = StreamConfig()
    with pytest.raises(ValidationError) as caught:
        setattr(config, "api_keys", {"openai": PLANTED})  # noqa: B010 - what a type checker forbids
    assert "api_keys" in str(caught.value)
    assert PLANTED not in f"{caught.value} {caught.value!r} {caught.value.errors()}"


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"timeout": 3}, "unknown key 'timeout' in stream config; did you mean 'timeouts'?"),
        ({"timeouts": {"idel": 3}}, "timeouts: unknown key 'idel' in timeouts; did you mean 'idle'?"),
        ({"timeouts": {"idle": -3}}, "timeouts.idle: "),
        ({"timeouts": "soon"}, "timeouts.total: must be a number, not 'soon'"),
        ({"limits": {"event": 1}}, "did you mean 'events'"),
        ({"mode": "words"}, "mode: "),
        ({"backpressure": "drop"}, "backpressure: "),
        ({"buffer": 0}, "buffer: "),
        ({"buffer": 2.5}, "buffer: "),
        ({"buffer_unit": "lines"}, "buffer_unit: "),
        ({"backpressure": "coalesce", "buffer": 10}, "buffer_unit: what coalesce holds is counted in bytes"),
        ({"backpressure": "coalesce", "buffer_unit": "tokens"}, "buffer_unit: what coalesce holds is counted in bytes"),
        ({"buffer": 9}, "buffer: backpressure='hold' has none; 'buffer' and others have"),
        ({"backpressure": "latest", "buffer_unit": "bytes"}, "buffer: backpressure='latest' has none"),
        ({"on_error": "explode"}, "on_error"),
        ({"retry": {"attempts": 2}}, "retry: is part of on_error: {'action': 'retry', 'retry': {…}}"),
        ({"on_error": {"acton": "retry"}}, "did you mean 'action'"),
        ({"on_error": {"action": "retry", "attempts": 2}}, "attempts is for retry"),
        ({"on_error": {"action": "failover", "to": ["antropic:claude"]}}, "anthropic"),
        ({"rate_limits": {"request_per_minute": 5}}, "did you mean 'requests_per_minute'"),
        ({"rate_limits": {"requests_per_minute": 0}}, "rate_limits.requests_per_minute: "),
        ({"max_concurrent": 0}, "max_concurrent: "),
        ({"max_waiting": -1}, "max_waiting: "),
        ({"handlers": "print"}, "handlers: "),
        ({"handlers": [5]}, "handlers: handler=5: must be a StreamHandler"),
        ({"default_target": "gpt-5"}, "write openai:gpt-5"),
        ({"provider_options": {"anthropic": {"sped": "fast"}}}, "did you mean 'speed'"),
        ({"provider_options": {"antropic": {}}}, "unknown provider 'antropic'; did you mean 'anthropic'?"),
        ({"provider_options": 5}, "provider_options: "),
        ({"api_keys": {"opneai": "x"}}, "unknown provider 'opneai'; did you mean 'openai'?"),
        ({"api_keys": {"openai": 5}}, "api_keys.openai: must be a string"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(given: dict[str, Any], said: str) -> None:
    """Wherever it is said."""
    with pytest.raises(ConfigurationError) as made:
        StreamConfig(**given)
    with pytest.raises(ConfigurationError) as changed:
        StreamConfig().replace(**given)
    assert said in str(made.value)
    assert said in str(changed.value)


def test_what_is_no_dict_of_fields_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        StreamConfig.checked("voice")


def test_shorthands() -> None:
    """A number is the total, a word an action, and None in a dict of providers takes one out."""
    assert StreamConfig(timeouts=30).timeouts.total == 30
    assert StreamConfig(on_error="retry").on_error.action == "retry"
    assert StreamConfig(on_error=Retry(attempts=7)).on_error.retries == Retry(attempts=7)
    assert StreamConfig(handlers=[print]).handlers == (print,)
    both = StreamConfig(api_keys={"openai": "a", "xai": "b"}, provider_options={"local": {"top_k": 4}})
    assert set(both.replace(api_keys={"openai": None}).api_keys) == {"xai"}
    assert both.replace(provider_options=None, api_keys=None) == StreamConfig()
    assert StreamConfig(timeouts={"idle": "off"}).timeouts.idle is None


def test_it_cannot_be_changed() -> None:
    config = StreamConfig()
    with pytest.raises(ValidationError):
        config.mode = "word"
    assert config.replace(mode="word").mode == "word"
    assert config.mode == "event"


def test_replacing_goes_value_by_value() -> None:
    config = StreamConfig(timeouts={"idle": 5, "total": 50}, provider_options={"local": {"top_k": 4}}, handlers=[print])
    other = config.replace(timeouts={"idle": 6}, provider_options={"local": {"min_p": 0.1}}, limits={"events": 3})
    assert (other.timeouts.idle, other.timeouts.total, other.limits.events) == (6, 50, 3)
    assert other.provider_options["local"].body() == {"min_p": 0.1, "top_k": 4}
    assert other.handlers == (print,)
    assert other.origins["timeouts.idle"] == other.origins["limits.events"] == "replaced"
    assert other.origins["timeouts.total"] == "argument"


def test_what_belongs_together_is_replaced_together() -> None:
    """Another action is not hindered by what the profile says of its own, nor another policy by its buffer."""
    reliable = StreamConfig.from_profile("reliable")
    assert reliable.replace(on_error="fail").on_error == StreamConfig().on_error
    kept = reliable.replace(on_error={"retry": {"attempts": 2}}).on_error.retries
    assert kept is not None
    assert (kept.attempts, kept.after_output) == (2, "restart")
    voice = StreamConfig.from_profile("voice", backpressure="coalesce")
    assert voice.buffer is None
    assert StreamConfig.from_profile("voice", backpressure="buffer").buffer == 64
    assert voice.replace(backpressure="hold").backpressure == "hold"
    assert "buffer" not in {path for path, origin in voice.origins.items() if origin != "default"}


def test_a_key_is_shown_nowhere() -> None:
    config = StreamConfig(api_keys={"openai": PLANTED}, handlers=[print])
    shown = [
        repr(config),
        str(config),
        config.explain(),
        config.to_toml(),
        config.model_dump_json(),
        str(config.model_dump()),
    ]
    assert not [text for text in shown if PLANTED in text]
    assert not [text for text in shown[3:] if "openai" in text or "handlers" in text]
    assert "api_keys.openai" in config.explain()
    with pytest.raises(ConfigurationError) as caught:
        StreamConfig.checked({"api_keys": {"openai": [PLANTED]}})
    assert PLANTED not in str(caught.value)
