"""``rxstream demo``: the local model beside another, which is what it says it is."""

from __future__ import annotations

import pytest

from rxstream.cli import main
from rxstream.cli._demo import CLOUD, demo_tracks
from rxstream.config import Target
from rxstream.providers import PROVIDERS
from tests.support.server import ScriptedServer, messages

pytestmark = [pytest.mark.local, pytest.mark.usefixtures("local_server")]


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in PROVIDERS.values():
        for name in (*row.api_key_env, *row.base_url_env):
            monkeypatch.delenv(name, raising=False)


def test_every_model_of_the_list_can_be_asked() -> None:
    """Each belongs to a provider that has a key of its own."""
    for provider, target in CLOUD.items():
        assert Target.parse(target, known=PROVIDERS).provider == provider
        assert PROVIDERS[provider].api_key_env


def test_without_a_key_the_second_track_is_a_stand_in_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Why, and which variables make it a real one."""
    assert main(["demo", "--plain", "Say hi."]) == 0
    shown = capsys.readouterr()
    assert "## local · smollm2\n" in shown.out
    assert "## stand-in · smollm2\n" in shown.out
    assert "no key is set" in shown.err
    assert all(name in shown.err for provider in CLOUD for name in PROVIDERS[provider].api_key_env)
    assert shown.err.count("$0\n") == 2


def test_with_a_key_the_second_track_is_in_the_cloud(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That provider's model, with its key."""
    with ScriptedServer(messages("From the ", "cloud.")) as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-planted")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        assert main(["demo", "--plain", "Say hi."]) == 0
        headers = server.requests[0].headers
        assert "sk-ant-planted" in headers.get("authorization", "") + headers.get("x-api-key", "")
    shown = capsys.readouterr()
    assert "## cloud · claude-haiku-4-5\n\nFrom the cloud.\n" in shown.out
    assert "stand-in" not in shown.err


def test_the_other_track_can_be_named() -> None:
    """One on this machine is not called a cloud."""
    assert [track.label for track in demo_tracks("hi", "ollama:llama3")] == ["local · smollm2", "here · llama3"]
    assert [track.label for track in demo_tracks("hi", "xai:grok")] == ["local · smollm2", "cloud · grok"]
