"""``rxstream models``: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import json
import time

import pytest

from rxstream.cli import main
from rxstream.cli._models import cloud_keys, local_target
from rxstream.errors import ConfigurationError
from rxstream.providers import PROVIDERS
from tests.support.server import HANG, Script, ScriptedServer, closed_port, page

MODELS = json.dumps({"data": [{"id": f"model-{number}"} for number in range(8)]})


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in PROVIDERS.values():
        for name in (*row.api_key_env, *row.base_url_env):
            monkeypatch.delenv(name, raising=False)


def said_of(name: str, capsys: pytest.CaptureFixture[str]) -> tuple[bool, str]:
    """Whether the provider can be used, and what is said of it."""
    assert main(["models"]) == 0
    usable, missing = capsys.readouterr().out.split("Missing something:")
    for part, answer in ((usable, True), (missing, False)):
        for line in part.splitlines():
            if line.split()[:1] == [name]:
                return answer, line.split(maxsplit=1)[1].strip()
    raise AssertionError(f"nothing is said of {name}")


def test_every_provider_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Once, under its own name."""
    main(["models"])
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ") and line != "  nothing"]
    assert sorted(names) == sorted({row.name for row in PROVIDERS.values()})


def test_what_is_missing_is_a_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """To be copied and run."""
    assert said_of("anthropic", capsys) == (False, "needs a key: export ANTHROPIC_API_KEY=KEY")
    assert said_of("gemini", capsys) == (False, "needs a key: export GEMINI_API_KEY=KEY (or GOOGLE_API_KEY)")
    assert said_of("compatible", capsys) == (False, "needs an address: --base-url URL")
    assert said_of("azure", capsys) == (
        False,
        "needs an address: export AZURE_OPENAI_BASE_URL=URL, and a key: export AZURE_OPENAI_API_KEY=KEY",
    )
    monkeypatch.setenv("OLLAMA_BASE_URL", f"http://127.0.0.1:{closed_port()}/v1")
    usable, words = said_of("ollama", capsys)
    assert not usable
    assert words.endswith("; start it: ollama serve")


def test_every_local_server_has_a_command() -> None:
    """A new one is not forgotten."""
    from rxstream.cli._models import _START  # noqa: PLC0415

    assert set(_START) == {row.name for row in PROVIDERS.values() if row.local} - {"local"}


def test_a_key_that_is_set_is_named_and_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its variable; one of white space is none."""
    monkeypatch.setenv("GOOGLE_API_KEY", "sk-planted-canary")
    monkeypatch.setenv("GROQ_API_KEY", "  ")
    assert said_of("gemini", capsys) == (True, "key from GOOGLE_API_KEY")
    assert said_of("groq", capsys)[0] is False
    assert cloud_keys() == {"gemini": "GOOGLE_API_KEY"}


@pytest.mark.parametrize(
    ("script", "usable", "words"),
    [
        (page(200, MODELS), True, "model-0, model-1, model-2, model-3, model-4, model-5 and 2 more"),
        (page(200, '{"data":[]}'), True, "no model loaded"),
        (page(200, '{"data":[{"id":"a\\u001b[31m"}]}'), True, "a␛[31m"),
        (page(401, "{}"), False, "wants a key: export OLLAMA_API_KEY=KEY"),
        (page(200, "<html>"), False, "(HTTP 200) has no list of models: another program's server?"),
        (page(404, '{"error":"no"}'), False, "(HTTP 404) has no list of models: another program's server?"),
        ([HANG], False, "no server answers"),
    ],
)
def test_a_server_on_this_machine_is_asked(
    script: Script, usable: bool, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it answers is data: it may hold anything."""
    with ScriptedServer(script) as server:
        monkeypatch.setenv("OLLAMA_BASE_URL", f"{server.url}/v1/")
        monkeypatch.setenv("OLLAMA_API_KEY", "secret")
        found, said = said_of("ollama", capsys)
        assert server.requests[0].path == "/v1/models"
        assert server.requests[0].headers["authorization"] == "Bearer secret"
    assert found is usable
    assert words in said


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:99999/v1", "http://[::bad", "ftp://x/v1"])
def test_an_address_that_is_none_is_said(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other providers are listed all the same."""
    monkeypatch.setenv("OLLAMA_BASE_URL", address)
    usable, words = said_of("ollama", capsys)
    assert not usable
    assert words.startswith("OLLAMA_BASE_URL: must begin with http:// or https:// and a host, such as ")


def test_servers_are_asked_at_the_same_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the slowest, not as all together: ten that never answer take a second, not five."""
    monkeypatch.setattr("rxstream.cli._models._PATIENCE", 1.0)
    with ScriptedServer([HANG]) as server:
        slow = PROVIDERS["ollama"]
        rows = {f"slow-{n}": type(slow)(name=f"slow-{n}", base_url=f"{server.url}/v1", local=True) for n in range(10)}
        monkeypatch.setattr("rxstream.cli._models.PROVIDERS", rows)
        monkeypatch.setattr("rxstream.cli._models._START", dict.fromkeys(rows, "start"))
        began = time.monotonic()
        main(["models"])
        assert time.monotonic() - began < 5.0
        assert len(server.requests) == 10
    assert "Can be used here:\n  nothing\n" in capsys.readouterr().out


def test_the_local_model_is_named_by_its_file(
    tmp_path: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it lacks is said."""
    monkeypatch.setenv("RXSTREAM_LOCAL_MODEL", f"{tmp_path}/none.gguf")
    usable, words = said_of("local", capsys)
    assert not usable
    assert "RXSTREAM_LOCAL_MODEL" in words
    with pytest.raises(ConfigurationError):
        local_target()


@pytest.mark.local
@pytest.mark.usefixtures("local_server")
def test_the_local_model_can_be_used_where_it_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    """It is not started to find out."""
    assert said_of("local", capsys) == (True, "local:smollm2, started in this process when it is asked")


@pytest.mark.parametrize(
    "address", ["http://me:hidden-word@127.0.0.1:1/v1", "http://127.0.0.1:1/v1?key=hidden-word", "http://h/hidden word"]
)
def test_a_key_in_an_address_is_not_shown(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not belong there, which is said without it."""
    monkeypatch.setenv("OLLAMA_BASE_URL", address)
    usable, words = said_of("ollama", capsys)
    assert not usable
    assert words.startswith("OLLAMA_BASE_URL: ")
    assert "hidden" not in words


@pytest.mark.parametrize(
    ("address", "key", "said"),
    [
        ("http://elsewhere.example/v1", "hidden-word", "base_url: the key would go to elsewhere.example in the clear"),
        ("http://127.0.0.1:1/v1", "hidden\u2028word", "OLLAMA_API_KEY: is no key: "),
    ],
)
def test_a_key_is_not_sent_where_others_can_read_it(
    address: str, key: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that no header can carry."""
    monkeypatch.setenv("OLLAMA_BASE_URL", address)
    monkeypatch.setenv("OLLAMA_API_KEY", key)
    usable, words = said_of("ollama", capsys)
    assert not usable
    assert words.startswith(said)
    assert "hidden" not in words


def test_names_of_models_are_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They make no lines of their own, and are cut where they are long."""
    names = ["a\n  openai  key from nowhere", "\x1b]0;owned\x07", "x" * 10_000]
    with ScriptedServer(page(200, json.dumps({"data": [{"id": name} for name in names]}))) as server:
        monkeypatch.setenv("OLLAMA_BASE_URL", f"{server.url}/v1")
        usable, words = said_of("ollama", capsys)
    assert usable
    assert words.endswith(f": a openai key from nowhere, ␛]0;owned␇, {'x' * 80}")


def test_a_list_of_models_that_is_nested_too_deep(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no list of models."""
    with ScriptedServer(page(200, "[" * 100_000)) as server:
        monkeypatch.setenv("OLLAMA_BASE_URL", f"{server.url}/v1")
        usable, words = said_of("ollama", capsys)
    assert not usable
    assert "has no list of models" in words
