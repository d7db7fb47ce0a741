"""Settings in layers, from files and the environment, and written down."""

from __future__ import annotations

import copy
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxstream
from rxstream import StreamConfig
from rxstream._request_fields import OURS
from rxstream._settings import to_toml
from rxstream.errors import ConfigurationError, MissingDependency
from rxstream.policy import Retry
from rxstream.profiles import PROFILES
from rxstream.stream_config import Mode, RateLimit
from tests.support.configs import PLANTED, again

# --- which file, and what is in it -------------------------------------------------------------------------------------


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
        ({"RXSTREAM_PROVIDER_OPTIONS": '{"groq": {"a": "\\u0000b"}}'}, {"provider_options": {"groq": {"a": "\0b"}}}),
        ({"RXSTREAM_API_KEYS": '{"xai": "123"}'}, {"api_keys": {"xai": "123"}}),
        (
            {
                "RXSTREAM_PROVIDER_OPTIONS": '{"groq": {"a": "1", "b": "true"}}',
                "RXSTREAM_PROVIDER_OPTIONS__GROQ__C": '"2"',
            },
            {"provider_options": {"groq": {"a": "1", "b": "true", "c": "2"}}},
        ),
        (
            {
                "RXSTREAM_PROVIDER_OPTIONS__LOCAL": '{"grammar": "null"}',
                "RXSTREAM_PROVIDER_OPTIONS__GROQ__D__E": '["1", {"f": "2"}]',
            },
            {"provider_options": {"local": {"grammar": "null"}, "groq": {"d": {"e": ["1", {"f": "2"}]}}}},
        ),
        (
            {"RXSTREAM_TIMEOUTS": '{"idle": 5, "total": 3}', "RXSTREAM_TIMEOUTS__IDLE": "6"},
            {"timeouts": {"idle": 6, "total": 3}},
        ),
        ({"RXSTREAM_TIMEOUTS": '{"total": 3}', "RXSTREAM_TIMEOUTS__TOTAL": "6"}, {"timeouts": {"total": 6}}),
        ({"RXSTREAM_ON_ERROR__RETRY": '{"delay": 2}', "RXSTREAM_ON_ERROR": "retry"}, {"on_error": Retry(delay=2)}),
        ({"RXSTREAM_MODE": "", "RXSTREAM_RECORDINGS": "somewhere", "HOME": "x"}, {}),
    ],
)
def test_variables_of_the_environment(env: dict[str, str], values: dict[str, Any]) -> None:
    assert StreamConfig.load(env=env) == StreamConfig(**values)


def test_a_variable_takes_back_what_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        "default_target = 'openai:m'\nmax_concurrent = 2\nprovider_options.local.top_k = 3\napi_keys.openai = 'k'\n"
    )
    each = {"RXSTREAM_PROVIDER_OPTIONS__LOCAL": "off", "RXSTREAM_API_KEYS__OPENAI": "off"}
    assert StreamConfig.load(path=file, env=each) == StreamConfig(default_target="openai:m", max_concurrent=2)
    for word in ("null", "off"):
        names = ("DEFAULT_TARGET", "MAX_CONCURRENT", "PROVIDER_OPTIONS", "API_KEYS")
        env = {f"RXSTREAM_{name}": word for name in names}
        assert StreamConfig.load(path=file, env=env) == StreamConfig()


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("MDOE", "MODE"),
        ("TIMEOUT__IDLE", "TIMEOUTS__IDLE"),
        ("TIMEOUTS_IDLE", "TIMEOUTS__IDLE"),
        ("ON_ERROR_RETRY__ATTEMPTS", "ON_ERROR__RETRY__ATTEMPTS"),
        ("ONERROR", "ON_ERROR"),
        ("RETRY__ATTEMPTS", "ON_ERROR__RETRY__ATTEMPTS"),
        ("PROVIDER_OPTIONS_LOCAL__TOP_K", "PROVIDER_OPTIONS__LOCAL__TOP_K"),
        ("API_KEY__OPENAI", "API_KEYS__OPENAI"),
        ("MAX_CONCURENT", "MAX_CONCURRENT"),
        ("PROFIL", "PROFILE"),
    ],
)
def test_a_variable_that_looks_like_a_setting_is_refused_with_the_right_name(name: str, right: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        StreamConfig.load(env={f"RXSTREAM_{name}": PLANTED})
    assert str(caught.value) == f"RXSTREAM_{name}: there is no such variable; did you mean RXSTREAM_{right}?"


def test_another_variable_with_our_prefix_is_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """It is no reason to stop: a service that is called rxstream gives its neighbours such, in Kubernetes."""
    env = {
        "SERVICE_HOST": "10.0.0.1",
        "PORT": "tcp://10.0.0.1:80",
        "PORT_80_TCP_ADDR": "10.0.0.1",
        "MY_OWN": PLANTED,
    }
    assert StreamConfig.load(env={f"RXSTREAM_{name}": value for name, value in env.items()}) == StreamConfig()
    (record,) = caplog.records
    names = "RXSTREAM_MY_OWN, RXSTREAM_PORT, RXSTREAM_PORT_80_TCP_ADDR, RXSTREAM_SERVICE_HOST"
    assert record.getMessage() == f"no setting is called {names}"
    assert vars(record)["rxstream"] == {"what": "variables-unknown", "variables": names}


def test_no_variable_of_the_project_is_taken_for_a_setting(caplog: pytest.LogCaptureFixture) -> None:
    """Those that it names in its code, but where it is about settings."""
    files = [path for here in (rxstream.__file__, __file__) for path in Path(here).parent.rglob("*.py")]
    texts = [text for text in (path.read_text(encoding="utf-8") for path in files) if "StreamConfig" not in text]
    names = {name for text in texts for name in re.findall(r"\"(RXSTREAM_[A-Z_]+)\"", text)}
    assert {"RXSTREAM_LOCAL_MODEL", "RXSTREAM_RECORDINGS", "RXSTREAM_LONG"} <= names
    names |= {"RXSTREAM_CERTIFY_API_KEY", "RXSTREAM_CERTIFY_MODEL"}
    assert StreamConfig.load(env=dict.fromkeys(names, "1")) == StreamConfig()
    assert not caplog.records


def test_only_the_whole_need_fit_together(tmp_path: Path) -> None:
    """A file may say how often, and the environment whether."""
    path = tmp_path / "mine.toml"
    path.write_text("buffer = 9\n[on_error.retry]\nattempts = 4")
    env = {"RXSTREAM_ON_ERROR": "retry", "RXSTREAM_BACKPRESSURE": "buffer"}
    config = StreamConfig.load(path=path, env=env)
    assert (config.on_error.retries, config.buffer) == (Retry(attempts=4), 9)
    with pytest.raises(
        ConfigurationError, match=r"mine\.toml, line 3: on_error: retry: is given, but the action is fail"
    ):
        StreamConfig.load(path=path, env={})


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
    st.text(min_size=1).filter(lambda name: name not in OURS and name != "stream"),
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


def test_a_table_of_where_each_value_came_from() -> None:
    lines = StreamConfig.from_profile("voice", timeouts={"idle": 4}).explain().splitlines()
    assert lines[0].split() == ["setting", "value", "from"]
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines[1:]}
    assert rows["mode"] == ["'sentence'", "profile voice"]
    assert rows["timeouts.idle"] == ["4.0", "argument"]
    assert rows["limits.events"] == ["None", "default"]
    assert rows["handlers"] == ["0", "default"]
    assert len({line.rindex(line.split(maxsplit=2)[2]) for line in lines}) == 1  # a column


@pytest.mark.parametrize("name", PROFILES)
def test_the_table_fits_into_a_terminal(tmp_path: Path, name: str) -> None:
    """All but the lines of values that are long themselves."""
    file = tmp_path / "rxstream.toml"
    long = "a-model-whose-name-does-not-fit-into-a-column-of-any-table"
    file.write_text(
        f"default_target = 'openai:{long}'\n[provider_options.anthropic]\ncache_control = {{type = 'ephemeral'}}\n"
    )
    env = {"RXSTREAM_API_KEYS__ANTHROPIC": PLANTED, "RXSTREAM_LIMITS__STREAM_BYTES": str(2**40)}
    lines = StreamConfig.load(profile=name, path=file, env=env, handlers=[print]).explain().splitlines()
    assert [line.split()[0] for line in lines if len(line) > 80] == ["default_target"]
    assert lines[1].split() == ["default_target", f"'openai:{long}'", "rxstream.toml"]
