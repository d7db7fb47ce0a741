"""The source of a model: the environment is read when the request is made, the local server is started on demand."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rxstream
from rxstream.config import Request
from rxstream.errors import ConfigurationError
from rxstream.sources.model import model_asking, preload
from tests.support.asking import KEY
from tests.support.server import ScriptedServer, chat


async def test_key_and_address_are_read_when_the_request_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the stream is described."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    stream = rxstream.stream("openai-chat:m", "hi")
    with ScriptedServer(chat("Hello")) as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        assert (await stream).text == "Hello"
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_source_says_what_it_is() -> None:
    """For errors and labels."""
    request = Request.build(provider="xai", model="grok", messages="hi")
    source = model_asking(request, label="mine", limits={"read_ahead_bytes": 10, "events": 5}, timeouts=3).source
    assert (source.label, source.provider, source.model) == ("mine", "xai", "grok")
    assert (source.read_ahead, source.max_events) == (10, 5)
    assert source.timeouts is not None
    assert source.timeouts.total == 3


@pytest.mark.local
@pytest.mark.usefixtures("local_server")
async def test_the_local_server_has_one_model() -> None:
    """Another name is an error that says which to ask for, not an answer of the wrong model."""
    with pytest.raises(ConfigurationError, match="local:smollm2"):
        await rxstream.stream("local:llama", "hi")


@pytest.mark.local
@pytest.mark.usefixtures("local_server")
async def test_local_goes_elsewhere_with_an_address() -> None:
    """``base_url`` is obeyed: no server of ours is asked."""
    with ScriptedServer(chat("Hello")) as server:
        assert (await rxstream.stream("local:any", "hi", base_url=f"{server.url}/v1")).text == "Hello"


def test_preload_refuses_what_the_request_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key is said before anything is loaded."""
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="GROQ_API_KEY"):
        preload("groq:m")


def test_preload_loads_the_sdk() -> None:
    """So the first request does not."""
    preload("compatible:m", base_url="http://127.0.0.1:9/v1")


def test_no_clock_counts_the_loading_of_the_sdk() -> None:
    """In a fresh process it takes far longer than these clocks allow."""
    code = """
import rxstream
with ScriptedServer(chat("Hello")) as server:
    options = {"base_url": f"{server.url}/v1", "timeouts": {"connect": 0.3, "first_output": 0.4}}
    print(rxstream.stream("compatible:m", "hi", **options).run())
"""
    out = subprocess.run(
        [sys.executable, "-c", "from tests.support.server import ScriptedServer, chat\n" + code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout == "Hello\n"
