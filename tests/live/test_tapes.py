"""Tapes of real requests: what came over a socket plays again, and what must be on no tape is on none."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

import rxstream
from rxstream import operators as rxo
from rxstream.errors import Disconnected, StreamError
from rxstream.events import TextDelta
from rxstream.sources.local import LocalServer
from rxstream.tapes._writer import flush
from rxstream.tapes.diff import differences
from rxstream.tapes.read import load
from rxstream.testing.chaos import ChaosServer, Fault, Script
from tests.support.canary import FORMS, HEADER, KEY, PROMPT, told
from tests.support.server import END, Head, ScriptedServer, sse

BOTH = pytest.mark.parametrize("kind", ["events", "bytes"])


def said_back(form: str) -> list[bytes]:
    """An answer of a server that says all of its request back."""
    said = FORMS[form](KEY)
    asked = {
        "instructions": PROMPT,
        "tools": [{"type": "function", "name": "f", "description": PROMPT, "parameters": {"description": PROMPT}}],
        "text": {"format": {"type": "json_schema", "schema": {"description": PROMPT}}},
        "metadata": {"who": PROMPT},
        "prompt_cache_key": PROMPT,
    }
    payload = {"type": "response.created", "response": {"id": said, "model": "m", **asked}}
    return [
        sse(payload),
        f": {said}\n\n".encode(),
        sse(
            {
                "type": "response.output_text.delta",
                "item_id": "i",
                "output_index": 0,
                "content_index": 0,
                "delta": f"You said {said}!",
            }
        ),
        sse({"type": "response.new_thing", "authorization": f"Bearer {KEY}", "prompt": PROMPT}),
        sse(
            {
                "type": "response.completed",
                "response": {"id": "r", "status": "completed", "output": [], **asked},
            }
        ),
    ]


@BOTH
@pytest.mark.parametrize("form", ["as it is", "in JSON", "in base64", "percent-encoded", "in HTML"])
def test_neither_key_nor_prompt_is_on_a_tape(kind: Literal["events", "bytes"], form: str, tmp_path: Path) -> None:
    """The key was given to the request alone: nobody told the recorder."""
    path = tmp_path / "a.tape"
    with ScriptedServer([Head(), *said_back(form), END]) as server:
        answer = rxstream.stream(
            "openai:m",
            PROMPT,
            system=PROMPT,
            api_key=KEY,
            extra_headers={"X-Secret": HEADER},
            base_url=f"{server.url}/v1",
        )
        events = list(answer.pipe(rxo.record(path, kind=kind, keep_raw=True)))
    assert any(isinstance(event, TextDelta) for event in events)
    flush()
    written = path.read_text()
    raws = b"".join(event.raw or b"" for event in load(path).events).decode("latin-1")
    for secret in (KEY, HEADER):
        assert not told(written + raws, secret)
    assert PROMPT not in written + raws
    assert "You said" in rxstream.tape(path, speed="max").run().text


@BOTH
def test_without_rules_they_would_be_found(kind: Literal["events", "bytes"], tmp_path: Path) -> None:
    """The test before this one can see."""
    path = tmp_path / "a.tape"
    with ScriptedServer([Head(), *said_back("as it is"), END]) as server:
        answer = rxstream.stream("openai:m", PROMPT, api_key=KEY, base_url=f"{server.url}/v1", keep_raw=False)
        answer.pipe(rxo.record(path, kind=kind, redact=())).run()
    flush()
    assert told(path.read_text(), KEY)
    if kind == "bytes":
        assert PROMPT in path.read_text()


@BOTH
@pytest.mark.parametrize("dialect", ["anthropic", "openai", "openai-chat"])
def test_an_answer_that_was_cut_is_cut_again(kind: Literal["events", "bytes"], dialect: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    with ChaosServer(Script.of_text("The sky is blue."), faults=Fault("close", content=2)) as server:
        base = server.url if dialect == "anthropic" else f"{server.url}/v1"
        source = rxstream.stream(f"{dialect}:m", "Why?", api_key="no-key-at-all", base_url=base)
        with pytest.raises(StreamError) as first:
            source.pipe(rxo.record(path, kind=kind)).run()
    with pytest.raises(type(first.value)) as again:
        rxstream.tape(path).run()
    assert again.value.partial is not None
    assert first.value.partial is not None
    assert again.value.partial.text == first.value.partial.text
    assert isinstance(again.value, Disconnected)


@pytest.mark.local
def test_an_answer_of_the_local_model(local_server: LocalServer, tmp_path: Path) -> None:
    """Recorded both ways at once, the tapes say the same, which is what was said."""
    events, body = tmp_path / "events.tape", tmp_path / "bytes.tape"
    answer = (
        rxstream.stream(
            f"openai-chat:{local_server.model}",
            "Say hello.",
            max_tokens=12,
            temperature=0,
            api_key=local_server.api_key,
            base_url=f"{local_server.url}/v1",
        )
        .pipe(rxo.record(events), rxo.record(body, kind="bytes"))
        .run()
    )
    assert answer.text
    assert rxstream.tape(events, speed=50).run().text == rxstream.tape(body, speed=50).run().text == answer.text
    assert differences(load(events), load(body)) == []
    flush()
    assert local_server.api_key not in events.read_text() + body.read_text()
    assert "Say hello" not in events.read_text() + body.read_text()
    assert load(body).seconds > 0
