"""Answers that are cut and gone on with by the model itself: what each provider is asked, and what comes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import rxstream
from rxstream import errors
from rxstream import operators as rxo
from rxstream.events import Event, Retrying, Seam, TextDelta
from rxstream.observable import Stream
from rxstream.sources._continuation import GO_ON
from rxstream.sources.local import LocalServer
from tests.support.asking import DIALECTS, GOOD, KEY
from tests.support.cutting import Cutter
from tests.support.live import TRANSPORTS, Transport, assert_tells_no_secret, no_task_left, watch
from tests.support.server import ScriptedServer

TARGETS = {
    "compatible:m": "user_message",
    "llamacpp:m": "prefill",
    "vllm:m": "prefill",
    "moonshot:kimi-k2.5": "prefill",
    "anthropic:claude-haiku-4-5": "prefill",
    "anthropic:claude-opus-4-6": "user_message",
    "openai:gpt-9": "user_message",
}


@pytest.fixture(autouse=True)
async def _nothing_goes_on() -> AsyncIterator[None]:
    yield
    await no_task_left()


def continued(stream: Stream[Event], *, attempts: int = 5) -> Stream[Event]:
    """The stream, gone on with at once."""
    return stream.pipe(rxo.retry_stream(after_output="continue_", attempts=attempts, delay=0, budget=None))


def dialect(target: str) -> str:
    """The provider of that dialect in the tables of the tests."""
    name = target.partition(":")[0]
    return name if name in DIALECTS else "compatible"


def turns(body: dict[str, Any]) -> list[tuple[str, str]]:
    """Roles and texts of the conversation that was sent."""
    said = [(turn["role"], turn["content"]) for turn in body.get("messages") or body["input"]]
    return [(role, text if isinstance(text, str) else text[0]["text"]) for role, text in said]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("target", TARGETS)
async def test_cut_twice(target: str, transport: Transport) -> None:
    """All of the text goes back each time, and what the model then says is joined to it at a seam."""
    build = GOOD[dialect(target)]
    with ScriptedServer(build("Hel", terminal=False), build("lo", terminal=False), build("!")) as server:
        url = server.url + DIALECTS[dialect(target)]
        outcome = await watch(
            continued(rxstream.stream(target, "hello", base_url=url, api_key=KEY, transport=transport))
        )
        bodies = [request.json for request in server.requests]
    assert outcome.ends == [None]
    for number in (1, 2, 3):
        seqs = [event.seq for event in outcome.events if event.attempt == number]
        assert seqs == list(range(len(seqs)))
    assert outcome.text == outcome.response.text == "Hello!"
    rest = [] if TARGETS[target] == "prefill" else [("user", GO_ON)]
    assert [turns(body) for body in bodies] == [
        [("user", "hello")],
        [("user", "hello"), ("assistant", "Hel"), *rest],
        [("user", "hello"), ("assistant", "Hello"), *rest],
    ]
    seams = [event for event in outcome.events if isinstance(event, Seam)]
    assert [(seam.kind, seam.offset, seam.verified) for seam in seams] == [
        (TARGETS[target], 3, False),
        (TARGETS[target], 5, False),
    ]
    assert [event.how for event in outcome.events if isinstance(event, Retrying)] == ["continue"] * 2


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("what", ["tool", "shape"])
async def test_what_is_not_gone_on_with(name: str, what: str) -> None:
    """Half a call, or half of something in a shape: the error says why, and nothing more is asked."""
    frames = GOOD[name]("Hel", tools=[("c", "f", ['{"a'])] if what == "tool" else [], terminal=False)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    with ScriptedServer(frames) as server:
        url = server.url + DIALECTS[name]
        wanted: dict[str, Any] = {"response_format": schema} if what == "shape" else {}
        outcome = await watch(continued(rxstream.stream(f"{name}:m", "hello", base_url=url, api_key=KEY, **wanted)))
        assert len(server.requests) == 1
    assert isinstance(outcome.error, errors.StreamIncomplete)
    assert any("not continued" in note for note in outcome.error.__notes__)
    outcome.assert_cut()
    assert_tells_no_secret(outcome.error)


@pytest.mark.local
@pytest.mark.parametrize(("by", "path"), [("local", "/v1"), ("openai", "/v1"), ("anthropic", "")])
async def test_the_local_model_goes_on(local_server: LocalServer, by: str, path: str) -> None:
    """Cut in mid-answer: it goes on, by itself where it takes prefill, as it is told to elsewhere."""
    async with Cutter(local_server.url, [3000]) as cutter:
        stream = rxstream.stream(
            f"{by}:{local_server.model}",
            "Name the days of the week, in order.",
            base_url=cutter.url + path,
            api_key=local_server.api_key,
            temperature=0,
            max_tokens=60,
        )
        outcome = await watch(continued(stream), patience=60)
        assert len(cutter.requests) == 2
    [seam] = [event for event in outcome.events if isinstance(event, Seam)]
    assert seam.kind == ("prefill" if by == "local" else "user_message")
    first = "".join(event.text for event in outcome.events if isinstance(event, TextDelta) and event.attempt == 1)
    assert len(first) == seam.offset > 0
    assert outcome.response.text == outcome.text
    assert outcome.text.startswith(first)
    assert len(outcome.text) > seam.offset
    assert outcome.response.finish_reason in ("stop", "length")
