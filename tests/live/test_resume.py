"""Answers that are cut and resumed, as a user has it: exactly the text that was said, whatever breaks."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest

import rxstream
from rxstream import errors
from rxstream import operators as rxo
from rxstream.aggregate import aggregate
from rxstream.events import Event, Retrying, Seam, TextDelta
from rxstream.observable import Stream
from rxstream.sources.local import LocalServer
from tests.support.asking import KEY, until
from tests.support.cutting import Cutter
from tests.support.live import TRANSPORTS, Transport, no_task_left, watch
from tests.support.resuming import KEPT, Keeper
from tests.support.server import ScriptedServer

STORY = "Write a story about the sea."


@pytest.fixture(autouse=True)
async def _nothing_goes_on() -> AsyncIterator[None]:
    yield
    await no_task_left()


def resumed(stream: Stream[Event], *, attempts: int = 30) -> Stream[Event]:
    """The stream, resumed at once as often as it must be."""
    return stream.pipe(rxo.retry_stream(after_output="resume", attempts=attempts, delay=0, budget=None))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", KEPT)
async def test_a_story_in_many_connections(name: str, transport: Transport) -> None:
    """Cut again and again: one attempt, numbered without a gap, with all of the text once."""
    texts = [f"{number} ☃ " for number in range(60)]
    frames = KEPT[name](*texts, tools=[("c1", "f", ['{"a"', ": 1}"])])
    size = len(b"".join(frames))
    with ScriptedServer(Keeper(frames, cuts=[size // 9 + 13 * count for count in range(8)])) as server:
        stream = rxstream.stream(
            f"{name}:scripted-1", "hello", base_url=f"{server.url}/v1", api_key=KEY, transport=transport
        )
        outcome = await watch(resumed(stream))
    outcome.assert_complete()
    assert outcome.text == "".join(texts)
    assert [(call.name, call.arguments) for call in outcome.response.tool_calls] == [("f", '{"a": 1}')]
    retries = [event for event in outcome.events if isinstance(event, Retrying)]
    assert len(retries) == len(server.requests) - 1
    assert {event.how for event in retries} == {"resume"}
    assert {event.attempt for event in outcome.events} == {1}
    assert outcome.response.usage.output_tokens == 3
    seams = [event for event in outcome.events if isinstance(event, Seam)]
    assert seams
    assert all(seam.verified for seam in seams)


@pytest.mark.parametrize("name", KEPT)
async def test_it_is_kept_no_longer(name: str) -> None:
    """What arrived, and the provider's refusal; and it is told that nobody waits."""
    frames = KEPT[name]("Hel", "lo")
    keeper = Keeper(frames, cuts=[len(b"".join(frames[:4]))])
    keeper.statuses = [404]
    with ScriptedServer(keeper) as server:
        stream = rxstream.stream(f"{name}:scripted-1", "hello", base_url=f"{server.url}/v1", api_key=KEY)
        outcome = await watch(resumed(stream))
        assert isinstance(outcome.error, errors.BadRequest)
        outcome.assert_cut()
        await until(lambda: len(keeper.left) == 1)


@pytest.mark.parametrize("target", ["compatible:m", "anthropic:m", "xai:m"])
async def test_who_keeps_nothing(target: str) -> None:
    """It is refused before anything is sent."""
    stream = rxstream.stream(target, "hello", base_url="http://127.0.0.1:9", api_key=KEY)
    with pytest.raises(errors.ConfigurationError, match="resume"):
        await resumed(stream)


# --- the real thing -----------------------------------------------------------------------------------------------------


def tell(server: LocalServer, url: str, **options: Any) -> Stream[Event]:
    """A story of the local model, always the same."""
    wanted = {"temperature": 0, "max_tokens": 80, **options}
    return rxstream.stream(f"local:{server.model}", STORY, base_url=f"{url}/v1", api_key=server.api_key, **wanted)


def busy(server: LocalServer) -> int:
    """Answers that the server is at work on."""
    headers = {"Authorization": f"Bearer {server.api_key}"}
    request = urllib.request.Request(f"{server.url}/slots", headers=headers)  # noqa: S310  # http, ours
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
        return sum(slot["is_processing"] for slot in json.loads(reply.read()))


@pytest.mark.local
async def test_the_local_model_in_many_connections(local_server: LocalServer) -> None:
    """llama.cpp's own server: the text is that of a run that nobody cut."""
    whole = await tell(local_server, local_server.url)
    async with Cutter(local_server.url, [400, 1500, 3000, 333, 2500, 4000, 300, 1111]) as cutter:
        outcome = await watch(resumed(tell(local_server, cutter.url)), patience=60)
    outcome.assert_complete()
    assert outcome.text == whole.text
    assert outcome.response.finish_reason == whole.finish_reason
    assert outcome.response.usage.output_tokens == whole.usage.output_tokens
    assert len(cutter.requests) == 9
    assert all(line.startswith("GET /v1/stream?conv_id=") for line in cutter.requests[1:])


@pytest.mark.local
async def test_the_local_model_does_not_run_on(local_server: LocalServer) -> None:
    """An answer that is kept is written to its end, unless the server is told that nobody wants it."""
    arrived = asyncio.Event()
    endless = tell(local_server, local_server.url, max_tokens=4000, extra={"ignore_eos": True})
    subscription = resumed(endless).subscribe(
        lambda event: arrived.set() if isinstance(event, TextDelta) else None, lambda _: None
    )
    await arrived.wait()
    assert await asyncio.to_thread(busy, local_server) == 1
    subscription.dispose()
    await until(lambda: busy(local_server) == 0)


@pytest.mark.local
async def test_the_local_model_forgets(local_server: LocalServer) -> None:
    """An answer that was called off is there no more."""
    async with Cutter(local_server.url, [2000]) as cutter:
        conversation = tell(local_server, cutter.url).asking
        assert conversation is not None
        first = conversation.conversation(resumable=True)
        events: list[Event] = []
        ended = asyncio.Event()
        first.ask().subscribe(events.append, lambda _: ended.set())
        await ended.wait()
        rest = first.resume()
        assert rest is not None
        first.close()
        await until(lambda: any(line.startswith("DELETE") for line in cutter.requests))
        await no_task_left()
        with pytest.raises(errors.BadRequest):
            await Stream.of(rest)
    assert aggregate(events).text
