"""Settings in layers: the later over the earlier, and where what does not fit stands."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rxstream import StreamConfig
from rxstream._layers import Layer, merged
from rxstream.errors import ConfigurationError
from tests.support.configs import PLANTED

clocks = st.dictionaries(
    st.sampled_from(["connect", "first_event", "first_output", "idle", "step", "total"]),
    st.none() | st.floats(1e-3, 1e9),
)


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


def refused(**options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        StreamConfig.load(**options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("profile = 'voce'", "line 1: profile='voce': there is none of this name; did you mean 'voice'?"),
        ("handlers = 5", "line 1: handlers: must be a list, not 5"),
        ("# mine\n\nmode = 'word'\nmax_concurrent = 0\n", "line 4: max_concurrent: "),
        ("[timeouts]\ntotal = 5\nidel = 3", "line 3: timeouts: unknown key 'idel' in timeouts; did you mean 'idle'?"),
        ("timeouts = 'soon'\n", "line 1: timeouts.total: must be a number, not 'soon'"),
        ("timeouts.idle = 5\ntimeouts.total = -1\n", "line 2: timeouts.total: "),
        ("[timeouts] # all\n\n  idle = -1", "line 3: timeouts.idle: "),
        ("[on_error.retry]\ndelay = 1\nattempts = 0", "line 3: on_error.retry.attempts: "),
        ("timeouts = {idle = 3, total = 0}", "line 1: timeouts.total: "),
        ("on_error = 'failover'\n", "line 1: on_error: to: name the models that are asked when this one fails"),
        ('[on_error]\naction = "failover"\nto = [\n  "local:smollm2",\n  "",\n]\n', "line 3: on_error.to[1]: "),
        (
            "[provider_options.openai_chat]\nuser = 'me'\nverbositi = 'low'",
            "line 3: provider_options: openai-chat: unknown",
        ),
        ("[provider_options.openai_chat]\n[provider_options.antropic]", "line 2: unknown provider 'antropic'"),
        ("[[provider_options.openrouter.plugins]]\nid = 'web'\n[timeouts]\nidle = 0", "line 4: timeouts.idle: "),
        ("api_keys = 5", "line 1: api_keys: must be a dict"),
        ('mode = """\n' + "x\n" * 200 + '"""', "mine.toml: mode: "),
        ("[retry]\nattempts = 2", "line 2: retry: is part of on_error: {'action': 'retry', 'retry': {…}}"),
        (
            "\ufeffmode = 'word'",
            "mine.toml: cannot be read: it begins with a byte order mark; save it as UTF-8 without one",
        ),
        ("mode = 'word'\n\nmode = = 5", "mine.toml: cannot be read: Invalid value (at line 3, column 8)"),
        ("a = " + "[" * 5000 + "]" * 5000, "mine.toml: cannot be read: it is nested too deeply"),
        ("mode = ", "mine.toml: cannot be read: "),
    ],
)
def test_what_is_wrong_in_a_file_is_told_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    assert refused(path=file, env={}).startswith(said if said.startswith("mine") else f"mine.toml, {said}")


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"PROFILE": "voise"}, "PROFILE: profile='voise': there is none of this name; did you mean 'voice'?"),
        ({"TIMEOUTS__IDEL": "5"}, "TIMEOUTS__IDEL: timeouts: unknown key 'idel' in timeouts; did you mean 'idle'?"),
        ({"TIMEOUTS": "soon"}, "TIMEOUTS: timeouts.total: must be a number, not 'soon'"),
        ({"TIMEOUTS": '{"idle": -1}'}, "TIMEOUTS: timeouts.idle: "),
        ({"MODE": "word", "ON_ERROR__RETRY__ATTEMPTS": "two"}, "ON_ERROR__RETRY__ATTEMPTS: on_error.retry.attempts: "),
        ({"PROVIDER_OPTIONS__OPENAI_CHAT__USER": "5"}, "PROVIDER_OPTIONS__OPENAI_CHAT__USER: provider_options: openai-chat: user: "),
        ({"API_KEYS__OPNEAI": PLANTED}, "API_KEYS__OPNEAI: unknown provider 'opneai'; did you mean 'openai'?"),
        ({"API_KEYS": PLANTED}, "API_KEYS: api_keys: must be a dict"),
        ({"ON_ERROR__RETRY": '{"delay": 1}', "ON_ERROR__RETRY__ATTEMPTS": "2"}, "ON_ERROR__RETRY__ATTEMPTS: RXSTREAM_ON_ERROR__RETRY says it, too; take"),
        ({"TIMEOUTS": "3", "TIMEOUTS__TOTAL": "3"}, "TIMEOUTS__TOTAL: RXSTREAM_TIMEOUTS says it, too"),
        ({"MODE": "word", "mode": "sentence"}, "MODE: is said twice, in capitals and otherwise; take one of them out"),
        ({"LIMITS": "3"}, "LIMITS: limits: must be a dict"),
        ({"LIMITS": "3", "LIMITS__EVENTS": "3"}, "LIMITS__EVENTS: RXSTREAM_LIMITS says it, too"),
        ({"RATE_LIMITS": "off", "RATE_LIMITS__MAX_WAIT": "3"}, "RATE_LIMITS__MAX_WAIT: RXSTREAM_RATE_LIMITS says it, too"),
        ({"PROVIDER_OPTIONS": "null", "PROVIDER_OPTIONS__LOCAL__TOP_K": "3"}, "PROVIDER_OPTIONS__LOCAL__TOP_K: RXSTREAM_PROVIDER_OPTIONS says"),
        ({"LIMITS": "{bad", "LIMITS__EVENTS": "3"}, "LIMITS: limits: must be a dict"),
        ({"BUFFER": "[" * 100_000}, "BUFFER: is nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_environment_is_told_by_the_variable(env: dict[str, str], said: str) -> None:
    fault = refused(env={f"RXSTREAM_{name}": value for name, value in env.items()})
    assert fault.startswith(f"RXSTREAM_{said}")
    assert PLANTED not in fault


def test_of_several_faults_each_is_told_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("max_waiting = -1\n[timeouts]\nidle = 'soon'\n")
    fault = refused(path=file, env={"RXSTREAM_MODE": "words"}, buffer=0)
    assert sorted(line.partition(": ")[::2][0] + ": " + line.split(": ")[1] for line in fault.split("\n")) == [
        "RXSTREAM_MODE: mode",
        "argument: buffer",
        "mine.toml, line 1: max_waiting",
        "mine.toml, line 3: timeouts.idle",
    ]


def test_what_was_right_until_an_argument_came_is_told_as_the_arguments_fault() -> None:
    assert refused(env={"RXSTREAM_BUFFER": "9"}, backpressure="latest") == (
        "argument: buffer: backpressure='latest' has none; 'buffer' and others have"
    )
    assert refused(profile="voice", env={}, timeouts={"idle": 0}).startswith("argument: timeouts.idle: ")


def test_what_nobody_has_said_has_no_place() -> None:
    class Mine(StreamConfig):
        team: str

    for env in ({}, {"RXSTREAM_MODE": "word"}):
        with pytest.raises(ConfigurationError, match=r"^team: is missing$"):
            Mine.load(env=env)
    with pytest.raises(ConfigurationError) as caught:
        Mine.load(env={"RXSTREAM_MODE": "words"})
    assert sorted(line.partition(": ")[0] for line in str(caught.value).split("\n")) == ["RXSTREAM_MODE", "team"]
    assert Mine.load(env={"RXSTREAM_TEAM": "a"}).team == "a"


def test_a_file_that_is_gone_by_then_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("max_waiting = -1")

    def gone(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", gone)
    assert refused(path=file, env={}).startswith("mine.toml: max_waiting: ")


def test_a_large_file_with_many_faults_is_told_in_good_time(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        "[provider_options.groq]\n"
        + "".join(f"field{number} = {number}\n" for number in range(300))
        + "[timeouts]\nidle = 0"
    )
    assert refused(path=file, env={}).startswith("mine.toml, line 303: timeouts.idle: ")


RIGHT = (
    "mode = 'word'",
    "backpressure = 'buffer'",
    "max_concurrent = 3",
    "default_target = '''\\\n  openai:gpt-5'''",
    "# mode = 'words'",
    "",
    "timeouts.idle = 3",
    "on_error.action = 'failover'\non_error.to = [\n  'openai:m', # the first\n  'local:smollm2',\n]",
    "provider_options.groq.text = '''\n[timeouts]\ntotal = -1\n'''",
    "[limits]\nevents = 5",
    "[rate_limits]\n\nrequests_per_minute = 5",
)
WRONG = (
    "buffer = 0",
    "limits.tokens = 'many'",
    "timeouts.total = -1",
    "on_error.after_output = 'x'",
    "[provider_options.xai]\nx = 5",
)


@example([RIGHT[0], RIGHT[7], RIGHT[1]], WRONG[0], 0)  # half a failover hides what else is wrong
@given(st.lists(st.sampled_from(RIGHT), unique=True), st.sampled_from(WRONG), st.integers(0, 20))
def test_whatever_stands_around_it_the_line_is_that_of_what_is_wrong(right: list[str], wrong: str, place: int) -> None:
    tables = [each for each in right if each.startswith("[")]
    plain = [each for each in right if each not in tables and each.partition(".")[0] != wrong.partition(".")[0]]
    if wrong.startswith("["):
        tables.insert(place, wrong)
    else:
        plain.insert(place, wrong)
        tables = [each for each in tables if not wrong.startswith(each[1:4])]
    text = "\n".join([*plain, *tables])
    line = text[: text.index(wrong)].count("\n") + 1 + wrong.count("\n")
    with TemporaryDirectory() as folder:
        file = Path(folder, "mine.toml")
        file.write_text(text)
        assert refused(path=file, env={}).startswith(f"mine.toml, line {line}: ")
