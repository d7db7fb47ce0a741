"""``rxstream duo``: one answer of two tracks, by every strategy."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from rxstream.cli import main
from rxstream.dual import Strategy
from rxstream.providers import PROVIDERS
from tests.support.server import HANG, Head, ScriptedServer, chat, messages, page


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in PROVIDERS.values():
        for name in (*row.api_key_env, *row.base_url_env):
            monkeypatch.delenv(name, raising=False)


def ask(monkeypatch: pytest.MonkeyPatch, here: ScriptedServer, there: ScriptedServer, strategy: str, *more: str) -> int:
    monkeypatch.setenv("OLLAMA_BASE_URL", f"{here.url}/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", there.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-planted")
    return main(["duo", "--strategy", strategy, "--local", "ollama:m", "-m", "anthropic:m", *more, "hi"])


@pytest.mark.local
@pytest.mark.usefixtures("local_server")
@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_every_strategy_runs_with_the_local_model_as_both_tracks(
    strategy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["duo", "--strategy", strategy, "--plain", "Say hi."]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.strip()) > 2
    assert "no key is set" in shown.err
    assert "local · smollm2" in shown.err
    assert "stand-in · smollm2" in shown.err


def test_the_answer_goes_to_standard_output_and_what_each_track_did_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer(chat("From ", "here.")) as here, ScriptedServer(messages("From there.")) as there:
        assert ask(monkeypatch, here, there, "local_first") == 0
        assert len(there.requests) == 0
    shown = capsys.readouterr()
    assert shown.out == "From here.\n"
    assert "local_first · first token 0." in shown.err
    assert "[local · m: completed, first token 0." in shown.err
    assert "[cloud · m: not asked]" in shown.err


def test_a_race_closes_its_loser(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer([Head(), HANG]) as here, ScriptedServer(messages("From there.")) as there:
        assert ask(monkeypatch, here, there, "race") == 0
    shown = capsys.readouterr()
    assert shown.out == "From there.\n"
    assert "[local · m: cancelled]" in shown.err


def test_what_a_track_failed_of_is_said_when_the_other_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer(page(401, "{}")) as here, ScriptedServer(messages("From there.")) as there:
        assert ask(monkeypatch, here, there, "local_first") == 0
    shown = capsys.readouterr()
    assert shown.out == "From there.\n"
    assert "[local · m: failed, AuthError]" in shown.err


def test_when_both_fail_it_fails_and_says_what_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer(page(401, "{}")) as here, ScriptedServer(page(403, "{}")) as there:
        assert ask(monkeypatch, here, there, "race") == 1
    shown = capsys.readouterr()
    assert "all 2 tracks failed: local · m: AuthError" in shown.err
    assert "planted" not in shown.err


def test_side_by_side_shows_both_and_the_failure_of_one_does_not_end_the_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer(page(401, "{}")) as here, ScriptedServer(messages("From there.")) as there:
        assert ask(monkeypatch, here, there, "side_by_side") == 1
    shown = capsys.readouterr()
    assert "## cloud · m\n\nFrom there.\n" in shown.out
    assert "local · m: AuthError: " in shown.err


def test_a_draft_that_is_taken_back_is_said_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draft = chat("A draft. ")[:2]
    with ScriptedServer([*draft, HANG]) as here, ScriptedServer(messages("Final. ", "Whole.")) as there:
        assert ask(monkeypatch, here, there, "draft", "--takeover", "end") == 0
    shown = capsys.readouterr()
    assert shown.out.endswith("Final. Whole.\n")


def test_its_events_are_json_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(chat("From here.")) as here, ScriptedServer(messages("From there.")) as there:
        assert ask(monkeypatch, here, there, "cloud_first", "--events") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["source"] for line in lines} == {"cloud · m"}
    assert [line["text"] for line in lines if line["type"] == "text-delta"] == ["From there."]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--strategy", "race", "--after", "1"], "after= is for"),
        (["--strategy", "hedge", "--after", "-1"], "after=-1"),
        (["--strategy", "race", "--takeover", "end"], "takeover= is for"),
        (["--local", "nobody:m"], "nobody"),
    ],
)
def test_what_does_not_fit_is_refused(more: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["duo", "-m", "xai:m", "--local", "ollama:m", *more, "hi"]) == 2
    assert words in capsys.readouterr().err


def test_an_unknown_strategy_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["duo", "--strategy", "both", "hi"])
    assert "local_first" in capsys.readouterr().err
