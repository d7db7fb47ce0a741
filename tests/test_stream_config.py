"""How streams are made and handled, as one object."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import rxstream
from rxstream import StreamConfig
from rxstream._relief import Backpressure, BufferUnit
from rxstream._settings import Layer, merged, to_toml
from rxstream._stream_options import ConfigFields, StreamOptions
from rxstream.bulkhead import Bulkhead
from rxstream.errors import BulkheadFull, ConfigurationError, LimitExceeded, MissingDependency
from rxstream.guards import acquired
from rxstream.limiter import TokenBucket
from rxstream.observable import Stream
from rxstream.policy import Retry
from rxstream.profiles import PROFILES
from rxstream.quota import RateLimiter
from rxstream.stream_config import Mode, RateLimit
from tests.support.asking import KEY
from tests.support.flow import Flow
from tests.support.scripted import Scripted, numbered
from tests.support.server import CLOSE, HANG, ScriptedServer, chat, messages, page
from tests.support.until import until
from tests.support.virtual_loop import settle, virtual_time

PLANTED = "sk-planted-in-a-config-0123456789"


def again(config: StreamConfig) -> StreamConfig:
    """As another process gets it."""
    loaded: StreamConfig = pickle.loads(pickle.dumps(config))  # noqa: S301 - our own
    return loaded


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


def test_who_tries_to_change_it_is_not_shown_the_key_that_he_gave() -> None:
    config = StreamConfig()
    with pytest.raises(ValidationError) as caught:
        setattr(config, "api_keys", {"openai": PLANTED})  # noqa: B010 - what a type checker forbids
    assert "api_keys" in str(caught.value)
    assert PLANTED not in f"{caught.value} {caught.value!r} {caught.value.errors()}"


# --- which file, and what is in it -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "env", "said"),
    [
        ("profile = 'voce'", {}, "rxstream.toml: profile='voce': there is none of this name; did you mean 'voice'?"),
        ("", {"RXSTREAM_PROFILE": "voce"}, "environment: profile='voce'"),
        ("a = " + "[" * 5000 + "]" * 5000, {}, "rxstream.toml: cannot be read: it is nested too deeply"),
        ("", {"RXSTREAM_BUFFER": "[" * 100_000}, "environment: a value is nested too deeply"),
        ("handlers = 5", {}, "rxstream.toml: handlers: must be a list, not 5"),
        ("mode = 'word'\n\nmode = = 5", {}, "rxstream.toml: cannot be read: Invalid value (at line 3, column 8)"),
    ],
)
def test_what_is_wrong_says_where_it_is(tmp_path: Path, text: str, env: dict[str, str], said: str) -> None:
    file = tmp_path / "rxstream.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        StreamConfig.load(path=file, env=env)
    assert said in str(caught.value)


def test_a_none_among_the_words_of_a_provider_is_not_written_as_another_word() -> None:
    config = StreamConfig(provider_options={"compatible": {"stops": [{"word": None}]}})
    with pytest.raises(ConfigurationError, match="provider_options: TOML has no word"):
        config.to_toml()
    assert StreamConfig.checked(json.loads(config.model_dump_json())) == config


def test_a_profile_can_be_taken_back() -> None:
    assert StreamConfig.load(env={"RXSTREAM_PROFILE": "voice"}).mode == "sentence"
    assert StreamConfig.load(profile="off", env={"RXSTREAM_PROFILE": "voice"}).mode == "event"
    assert StreamConfig.load(env={"RXSTREAM_PROFILE": "off"}).mode == "event"


def test_the_environment_takes_back_the_profile_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("profile = 'voice'")
    assert StreamConfig.load(path=file, env={}).mode == "sentence"
    assert StreamConfig.load(path=file, env={"RXSTREAM_PROFILE": "off"}).mode == "event"


def test_a_folder_is_no_file_and_what_is_no_path_and_no_dict_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="path: there is no file"):
        StreamConfig.load(path=tmp_path, env={})  # which would have been read as nothing
    with pytest.raises(ConfigurationError, match="path=5: "):
        StreamConfig.load(path=5, env={})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="env=a list: "):
        StreamConfig.load(env=["a"])  # type: ignore[arg-type]


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"timeout": 3}, "unknown key 'timeout' in streamconfig; did you mean 'timeouts'?"),
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
        ({"on_error": "explode"}, "on_error"),
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
    assert StreamConfig(buffer=9).replace(backpressure="buffer").buffer == 9  # nothing was said of another policy
    assert "buffer" not in {path for path, origin in voice.origins.items() if origin != "default"}


# --- where it comes from ---------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(
        'profile = "voice"\nmax_concurrent = 3\n[timeouts]\nidle = 7\nfirst_output = 9\nconnect = "off"\n'
        '[provider_options.local]\ntop_k = 4\n[api_keys]\nopenai = "from-the-file"\n'
    )
    return path


def test_the_later_goes_over_the_earlier(file: Path) -> None:
    """Defaults, profile, file, environment, arguments; and it is known which it was."""
    env = {"RXSTREAM_TIMEOUTS__FIRST_OUTPUT": "11", "RXSTREAM_TIMEOUTS__TOTAL": "99", "RXSTREAM_LOCAL_MODEL": "x"}
    config = StreamConfig.load(path=file, env=env, timeouts={"total": 100})
    clocks = config.timeouts
    assert (clocks.connect, clocks.first_event, clocks.first_output, clocks.idle, clocks.total) == (
        None,
        120,
        11,
        7,
        100,
    )
    assert {path: config.origins[path] for path in ("mode", "timeouts.first_event", "timeouts.connect")} == {
        "mode": "profile voice",
        "timeouts.first_event": "default",
        "timeouts.connect": "mine.toml",
    }
    assert config.origins["timeouts.first_output"] == "environment"
    assert config.origins["timeouts.total"] == "argument"
    assert config.origins["provider_options.local.top_k"] == "mine.toml"


@pytest.mark.parametrize(
    ("argument", "variable", "mode", "action"),
    [
        (None, None, "sentence", "retry"),
        (None, "reliable", "event", "retry"),
        ("notebook", "reliable", "event", "retry"),
    ],
)
def test_the_profile_can_be_named_in_each(
    file: Path, argument: str | None, variable: str | None, mode: str, action: str
) -> None:
    env = {} if variable is None else {"RXSTREAM_PROFILE": variable}
    config = StreamConfig.load(profile=argument, path=file, env=env)
    assert (config.mode, config.on_error.action) == (mode, action)
    assert config.origins["on_error.action"] == f"profile {argument or variable or 'voice'}"


@pytest.mark.parametrize(
    ("env", "values"),
    [
        ({"RXSTREAM_TIMEOUTS": "30", "RXSTREAM_TIMEOUTS__IDLE": "5"}, {"timeouts": {"total": 30, "idle": 5}}),
        ({"rxstream_mode": "word"}, {"mode": "word"}),
        ({"RXSTREAM_TIMEOUTS": '{"idle": 5}'}, {"timeouts": {"idle": 5}}),
        ({"RXSTREAM_TIMEOUTS__IDLE": "off"}, {"timeouts": {"idle": None}}),
        ({"RXSTREAM_TIMEOUTS__IDLE": "null"}, {"timeouts": {"idle": None}}),
        ({"RXSTREAM_ON_ERROR": "retry", "RXSTREAM_ON_ERROR__RETRY__ATTEMPTS": "9"}, {"on_error": Retry(attempts=9)}),
        (
            {"RXSTREAM_ON_ERROR": "failover", "RXSTREAM_ON_ERROR__TO": '["local:smollm2"]'},
            {"on_error": {"action": "failover", "to": ["local:smollm2"]}},
        ),
        ({"RXSTREAM_DEFAULT_TARGET": "ollama:llama3.2:1b"}, {"default_target": "ollama:llama3.2:1b"}),
        (
            {"RXSTREAM_PROVIDER_OPTIONS__OPENAI_CHAT__METADATA": '{"A": "b"}'},
            {"provider_options": {"openai-chat": {"metadata": {"A": "b"}}}},
        ),
        ({"RXSTREAM_API_KEYS__XAI": "123"}, {"api_keys": {"xai": "123"}}),
        ({"RXSTREAM_MODE": "", "RXSTREAM_RECORDINGS": "somewhere", "HOME": "x"}, {}),
    ],
)
def test_variables_of_the_environment(env: dict[str, str], values: dict[str, Any]) -> None:
    assert StreamConfig.load(env=env) == StreamConfig(**values)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"env": {"RXSTREAM_TIMEOUT__IDLE": "5"}}, "RXSTREAM_TIMEOUT__IDLE: there is no such variable; did you mean RXSTREAM_TIMEOUTS__IDLE?"),
        ({"env": {"RXSTREAM_TIMEOUTS__IDEL": "5"}}, "environment: timeouts: unknown key 'idel'"),
        ({"env": {"RXSTREAM_PROFILE": "voise"}}, "did you mean 'voice'?"),
        ({"timeouts": {"idle": 0}, "env": {}}, "argument: timeouts.idle: "),
        ({"path": "nowhere/other.toml", "env": {}}, "path: there is no file 'other.toml' where it says"),
    ],
)  # fmt: skip
def test_who_said_what_does_not_fit_is_told(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        StreamConfig.load(**options)
    assert said in str(caught.value)


def test_only_the_whole_need_fit_together(tmp_path: Path) -> None:
    """A file may say how often, and the environment whether."""
    path = tmp_path / "mine.toml"
    path.write_text("buffer = 9\n[on_error.retry]\nattempts = 4")
    env = {"RXSTREAM_ON_ERROR": "retry", "RXSTREAM_BACKPRESSURE": "buffer"}
    config = StreamConfig.load(path=path, env=env)
    assert (config.on_error.retries, config.buffer) == (Retry(attempts=4), 9)
    with pytest.raises(ConfigurationError, match=r"mine\.toml: on_error: retry: is given, but the action is fail"):
        StreamConfig.load(path=path, env={})


@pytest.mark.parametrize(
    ("text", "said"),
    [("mode = ", "mine.toml: cannot be read"), ("[timeouts]\nidel = 3", "mine.toml: timeouts: unknown key 'idel'")],
)
def test_a_file_that_is_wrong_is_told_by_its_name(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        StreamConfig.load(path=path, env={})
    assert said in str(caught.value)


def test_the_file_in_the_current_folder_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert StreamConfig.load(env={}) == StreamConfig()
    file.rename(file.with_name("rxstream.toml"))
    monkeypatch.setenv("RXSTREAM_MAX_CONCURRENT", "5")
    assert StreamConfig.load().max_concurrent == 5
    assert StreamConfig.load(env={}).max_concurrent == 3


def test_without_pydantic_settings_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile needs it not."""
    monkeypatch.setitem(sys.modules, "pydantic_settings", None)
    with pytest.raises(MissingDependency, match=r"pip install 'rxstream\[settings\]'"):
        StreamConfig.load(env={})
    assert StreamConfig.from_profile("voice").mode == "sentence"


# --- writing it down -------------------------------------------------------------------------------------------------

clocks = st.dictionaries(
    st.sampled_from(["connect", "first_event", "first_output", "idle", "step", "total"]),
    st.none() | st.floats(1e-3, 1e9),
)
options = st.dictionaries(
    st.text(min_size=1).filter(lambda name: name not in rxstream.provider_options._OURS and name != "stream"),
    st.recursive(st.booleans() | st.integers(-(2**53), 2**53) | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=5),
    max_size=4,
)  # fmt: skip
configs = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(get_args(Mode)),
        "timeouts": clocks,
        "max_concurrent": st.none() | st.integers(1, 99),
        "on_error": st.sampled_from(["fail", "retry", {"action": "failover", "to": ["local:smollm2", "openai:m"]}]),
        "rate_limits": st.none() | st.builds(RateLimit, requests_per_minute=st.none() | st.floats(1, 1e6)),
        "provider_options": st.builds(lambda body: {"groq": body, "local": {"top_k": 4}}, options),
        "default_target": st.none() | st.just("local:smollm2"),
        "api_keys": st.just({"openai": PLANTED}),
    },
)


@given(configs)
def test_what_is_written_down_is_read_again(values: dict[str, Any]) -> None:
    """As JSON and as TOML, all but the keys."""
    config = StreamConfig(**values)
    public = config.replace(api_keys=None)
    assert StreamConfig.checked(json.loads(config.model_dump_json())) == public
    assert StreamConfig.checked(tomllib.loads(config.to_toml())) == public
    assert again(config) == config == copy.deepcopy(config)


def test_what_toml_says() -> None:
    assert to_toml({}) == ""
    config = StreamConfig(
        mode="word", timeouts={"idle": None, "total": 5}, provider_options={"openai": {"store": True}}
    )
    assert config.to_toml() == (
        'mode = "word"\n\n[timeouts]\nidle = "off"\ntotal = 5.0\n\n[provider_options.openai]\nstore = true\n'
    )


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


def test_a_table_of_where_each_value_came_from() -> None:
    lines = StreamConfig.from_profile("voice", timeouts={"idle": 4}).explain().splitlines()
    assert lines[0].split() == ["setting", "value", "from"]
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines[1:]}
    assert rows["mode"] == ["'sentence'", "profile voice"]
    assert rows["timeouts.idle"] == ["4.0", "argument"]
    assert rows["limits.events"] == ["None", "default"]
    assert rows["handlers"] == ["0", "default"]
    assert len({line.rindex(line.split(maxsplit=2)[2]) for line in lines}) == 1  # a column


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


# --- what the consumer gets ------------------------------------------------------------------------------------------

SAID = "One two. Three!\n\nFour"


@pytest.mark.parametrize(
    ("mode", "items"),
    [
        ("token", ["One two. Th", "ree!\n\nFour"]),
        ("character", list("One two. Three!")),
        ("word", ["One ", "two. ", "Three!\n\n", "Four"]),
        ("sentence", ["One two. ", "Three!\n\n", "Four"]),
        ("segment", ["One two. Three!\n\n", "Four"]),
    ],
)
@virtual_time
async def test_modes(mode: Mode, items: list[str]) -> None:
    source = Stream.of(Scripted(["One two. Th", "ree!\n\nFour", rxstream.events.Finished(reason="stop")]).events())
    got = [item async for item in StreamConfig(mode=mode).apply(source)]
    assert got[: len(items)] == items
    assert "".join(got) == SAID


@virtual_time
async def test_the_default_leaves_a_stream_as_it_is() -> None:
    stream = Stream.of(Scripted(numbered(2)).events(), label="mine")
    assert StreamConfig().apply(stream).label == "mine"
    assert (await StreamConfig().apply(stream)).text == "0 1 "


RUNS_TO: dict[tuple[str, str], int] = {
    ("buffer", "events"): 10,
    ("buffer", "tokens"): 10,
    ("buffer", "characters"): 5,
    ("buffer", "bytes"): 5,
    ("hold", "events"): 0,
}
"""How far a source runs on, of "0 ", "1 " …, with a buffer of ten."""


@pytest.mark.parametrize(("policy", "unit"), RUNS_TO)
@virtual_time
async def test_how_far_the_source_runs_on(policy: Backpressure, unit: BufferUnit) -> None:
    script = Scripted(numbered(50))
    config = StreamConfig(backpressure=policy, buffer=10, buffer_unit=unit)
    flow = Flow(config.apply, script.events())
    flow.hold()
    await settle()
    assert script.given == RUNS_TO[policy, unit]
    await flow.release()
    assert flow.recorder.texts == [f"{number} " for number in range(50)]
    assert flow.recorder.completed


@pytest.mark.parametrize("unit", ["events", "tokens", "characters", "bytes"])
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
@virtual_time
async def test_what_is_kept_of_what_is_too_much(policy: Backpressure, unit: BufferUnit) -> None:
    """As many as fit, the oldest or the newest; and all that may not be dropped."""
    flow = Flow(StreamConfig(backpressure=policy, buffer=4, buffer_unit=unit, mode="token").apply)
    flow.hold()
    flow.send(*map(text, ("aa", "bb", "cc", "dddd", "e", "f")))
    flow.send(rxstream.events.Finished(reason="stop"))
    flow.subject.on_completed()
    await flow.release()
    few = unit in ("characters", "bytes")
    kept = {
        ("drop_newest", True): ["aa", "bb"],
        ("drop_newest", False): ["aa", "bb", "cc", "dddd"],
        ("drop_oldest", True): ["e", "f"],
        ("drop_oldest", False): ["cc", "dddd", "e", "f"],
    }
    assert flow.items == kept[policy, few]


def text(said: str) -> rxstream.events.Event:
    return rxstream.events.TextDelta(text=said)


@virtual_time
async def test_the_newest_the_joined_and_the_error() -> None:
    for config, items in (
        (StreamConfig(backpressure="latest", mode="token"), ["c"]),
        (StreamConfig(backpressure="coalesce", mode="token"), ["abc"]),
        (StreamConfig(backpressure="coalesce", buffer=3, buffer_unit="bytes", mode="token"), ["abc"]),
        (StreamConfig(backpressure="error", buffer=2, buffer_unit="characters", mode="token"), ["a", "b"]),
    ):
        flow = Flow(config.apply)
        flow.hold()
        flow.send(*map(text, "abc"))
        flow.subject.on_completed()
        await flow.release()
        assert flow.items == items
        assert isinstance(flow.recorder.error, LimitExceeded) == (config.backpressure == "error")


@given(
    st.lists(st.text("abc", min_size=1, max_size=9), max_size=20),
    st.integers(1, 12),
    st.sampled_from(["characters", "bytes"]),
)
def test_dropping_the_oldest_keeps_the_newest(pieces: list[str], buffer: int, unit: BufferUnit) -> None:
    """What is kept is the end of what was sent, without gaps; without its last piece there would be room."""

    @virtual_time
    async def run() -> None:
        flow = Flow(StreamConfig(backpressure="drop_oldest", buffer=buffer, buffer_unit=unit, mode="token").apply)
        flow.hold()
        flow.send(*map(text, pieces))
        await flow.release()
        assert flow.items == pieces[len(pieces) - len(flow.items) :]
        assert sum(map(len, flow.items[:-1])) < buffer
        if len(flow.items) < len(pieces):
            assert sum(map(len, pieces[len(pieces) - len(flow.items) - 1 : -1])) >= buffer

    run()


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


@virtual_time
async def test_what_may_not_be_dropped_is_kept_in_its_place() -> None:
    """A tool call among deltas, with a buffer that is counted in characters."""
    flow = Flow(StreamConfig(backpressure="drop_oldest", buffer=2, buffer_unit="characters").apply)
    call = rxstream.events.ToolCall(id="1", name="look", arguments="{}")
    flow.hold()
    flow.send(call, text("a"), text("bb"), call, text("c"), text("dd"))
    await flow.release()
    assert flow.items == [call, call, text("c"), text("dd")]


@given(st.lists(clocks, max_size=4))
def test_layers_lie_over_each_other_value_by_value(layers: list[dict[str, float | None]]) -> None:
    """Each value is the last that was said, and its origin is who said it."""
    said = [Layer(f"layer {number}", {"timeouts": layer}) for number, layer in enumerate(layers)]
    values, origins = merged(said)
    assert values.get("timeouts", {}) == {name: value for layer in layers for name, value in layer.items()}
    last = {name: f"layer {number}" for number, layer in enumerate(layers) for name in layer}
    assert {path: origin for path, origin in origins.items() if "." in path} == {
        f"timeouts.{name}": origin for name, origin in last.items()
    }
