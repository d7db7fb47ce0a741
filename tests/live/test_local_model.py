"""The whole library with a real model: llama.cpp's server with SmolLM2, on this machine."""

from __future__ import annotations

import asyncio
import itertools
import json
import operator
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest
import reactivex
from reactivex import operators as ops

import rxstream
from rxstream import errors
from rxstream.aggregate import aggregate
from rxstream.events import Event, Finished, Started, TextDelta
from rxstream.messages import Message, ToolResult
from rxstream.observable import Stream
from rxstream.sources.local import LocalServer
from tests.support.asking import until
from tests.support.live import no_task_left

pytestmark = pytest.mark.local

FRANCE: Final = "What is the capital of France? Answer in one short sentence."
PROTOCOLS: Final = {"local": "/v1", "llamacpp": "/v1", "openai": "/v1", "anthropic": ""}
SCHEMA: Final = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "large": {"type": "boolean"}},
    "required": ["city", "large"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
async def _nothing_goes_on(local_server: LocalServer) -> AsyncIterator[None]:
    yield
    await no_task_left()
    await until(lambda: busy(local_server) == 0)


def ask(server: LocalServer, prompt: Any = FRANCE, *, by: str = "local", **options: Any) -> Stream[Event]:
    """The answer of the model, in one of the protocols that its server speaks."""
    # This server closes kept connections in the moment of the next request; what is known of it says so only by its own name.
    once = {} if by in ("local", "llamacpp") else {"Connection": "close"}
    wanted = {"temperature": 0, "max_tokens": 48, "extra_headers": once, **options}
    url = server.url + PROTOCOLS[by]
    return rxstream.stream(f"{by}:{server.model}", prompt, base_url=url, api_key=server.api_key, **wanted)


def busy(server: LocalServer) -> int:
    """Answers that the server is at work on."""
    headers = {"Authorization": f"Bearer {server.api_key}"}
    request = urllib.request.Request(f"{server.url}/slots", headers=headers)  # noqa: S310  # http, ours
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
        return sum(slot["is_processing"] for slot in json.loads(reply.read()))


def endless(server: LocalServer, **options: Any) -> Stream[Event]:
    """An answer that takes minutes."""
    return ask(server, "Count from one to ten thousand.", max_tokens=4000, extra={"ignore_eos": True}, **options)


# --- answers ------------------------------------------------------------------------------------------------------------


def test_the_shared_server() -> None:
    """``local:smollm2`` needs nothing else: the server of this process is started, and answers."""
    response = rxstream.stream("local:smollm2", FRANCE, temperature=0, max_tokens=32).run()
    assert "Paris" in response.text
    assert response.finish_reason == "stop"


@pytest.mark.parametrize("by", PROTOCOLS)
async def test_an_answer(local_server: LocalServer, by: str) -> None:
    """In each protocol: pieces in order, a reason to finish, counts, and an end that is the last event."""
    events = [event async for event in ask(local_server, by=by)]
    response = aggregate(events)
    assert "Paris" in response.text
    assert response.text == "".join(event.text for event in events if isinstance(event, TextDelta))
    assert [event.seq for event in events] == list(range(len(events)))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert response.finish_reason == "stop"
    assert response.usage.output_tokens
    assert response.usage.provenance == "reported"


@pytest.mark.parametrize("by", ["local", "anthropic"])
async def test_the_limit_on_tokens(local_server: LocalServer, by: str) -> None:
    """An answer that reaches it is complete, and says why it ended."""
    response = await ask(local_server, "Write a long story about the sea.", by=by, max_tokens=8)
    assert response.finish_reason == "length"
    assert response.usage.output_tokens == 8


async def test_a_conversation(local_server: LocalServer) -> None:
    """The answer goes back as a message, and the model knows what was said."""
    said = [Message(role="user", content=FRANCE)]
    first = await ask(local_server, said)
    then = Message(role="user", content="Say that again, exactly.")
    second = await ask(local_server, [*said, first.message(), then])
    assert second.text.strip() == first.text.strip()


def weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: Its name.
    """
    return f"It is 7 degrees in {city}."


@pytest.mark.parametrize("by", ["local", "openai", "anthropic"])
async def test_a_tool_from_the_call_to_the_answer(local_server: LocalServer, by: str) -> None:
    """The model calls a function, its result goes back, and the answer has it."""
    said: list[Any] = [Message(role="user", content="What is the weather in Paris? Use the tool.")]
    first = await ask(local_server, said, by=by, tools=[weather], tool_choice="required")
    [call] = first.tool_calls
    assert (call.name, call.complete, first.finish_reason) == ("weather", True, "tool_calls")
    result = ToolResult(id=call.id, content=weather(**json.loads(call.arguments)))
    second = await ask(
        local_server, [*said, first.message(), Message(role="tool", content=[result])], by=by, tools=[weather]
    )
    assert second.finish_reason == "stop"
    assert "7 degrees" in second.text


async def test_an_answer_in_a_shape(local_server: LocalServer) -> None:
    """The model is held to a schema; what comes is JSON of that shape."""
    response = await ask(local_server, "Is Paris a large city? Answer in JSON.", response_format=SCHEMA)
    answer = json.loads(response.text)
    assert answer.keys() == {"city", "large"}
    assert isinstance(answer["large"], bool)


# --- tracks -------------------------------------------------------------------------------------------------------------


async def test_two_tracks_merged(local_server: LocalServer) -> None:
    """RxPY's own ``merge``: both run at the same time, each event says whose it is, and no track disturbs the other."""
    tracks = [ask(local_server, by=by, label=by) for by in ("local", "anthropic")]
    events: list[Event] = [event async for event in Stream.of(reactivex.merge(*tracks))]
    sources = [event.source for event in events]
    assert len(list(itertools.groupby(sources))) > 2, "one came after the other"
    for by in ("local", "anthropic"):
        mine = [event for event in events if event.source == by]
        assert [event.seq for event in mine] == list(range(len(mine)))
        assert "Paris" in aggregate(mine).text


async def test_two_tracks_side_by_side(local_server: LocalServer) -> None:
    """``combine_latest`` of two growing texts: the last pair is both answers, whole."""

    def text(by: str) -> Stream[str]:
        growing: Stream[str] = ask(local_server, by=by).text().pipe(ops.scan(operator.add, ""))
        return growing

    pairs: Stream[tuple[str, str]] = Stream.of(reactivex.combine_latest(text("local"), text("openai")))
    seen = [pair async for pair in pairs]
    left, right = seen[-1]
    assert "Paris" in left
    assert "Paris" in right
    assert all(left.startswith(one) and right.startswith(other) for one, other in seen)


# --- control ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["local", "openai", "anthropic"])
async def test_cancel_frees_the_model(local_server: LocalServer, by: str) -> None:
    """A cancelled answer is not written to its end: the server's slot is free, with what arrived in our hands."""
    session = endless(local_server, by=by).start()
    await until(lambda: session.statistics.characters > 20)
    assert await asyncio.to_thread(busy, local_server) == 1
    session.cancel("enough")
    with pytest.raises(errors.Cancelled) as told:
        await session
    assert told.value.partial is not None
    assert len(told.value.partial.text) > 20
    assert told.value.partial.finish_reason is None
    await until(lambda: busy(local_server) == 0)


async def test_break_frees_the_model(local_server: LocalServer) -> None:
    async for event in endless(local_server):
        if isinstance(event, TextDelta):
            break
    await until(lambda: busy(local_server) == 0)


def test_break_in_a_plain_for_frees_the_model(local_server: LocalServer) -> None:
    pieces = list(itertools.islice(endless(local_server).text(), 5))
    assert len(pieces) == 5


async def test_pause_and_resume(local_server: LocalServer) -> None:
    """While it is paused nothing is delivered; the whole is what it is without a pause."""
    prompt = "Name the days of the week, in order."
    whole = await ask(local_server, prompt, seed=1)
    pieces: list[str] = []
    session = ask(local_server, prompt, seed=1).start(
        lambda event: pieces.append(event.text) if isinstance(event, TextDelta) else None
    )
    await until(lambda: len(pieces) >= 3)
    session.pause()
    count = len(pieces)
    await until(lambda: session.statistics.read_ahead > 0)
    assert len(pieces) == count
    session.resume()
    response = await session
    assert response.text == whole.text == "".join(pieces)


# --- failure ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["local", "openai", "anthropic"])
async def test_what_the_server_refuses(local_server: LocalServer, by: str) -> None:
    """A conversation that is too long, and a wrong key, in each protocol: our errors."""
    with pytest.raises(errors.BadRequest):
        await ask(local_server, "word " * 20_000, by=by)
    url = local_server.url + PROTOCOLS[by]
    with pytest.raises(errors.AuthError):
        await rxstream.stream(f"{by}:{local_server.model}", "hello", base_url=url, api_key="wrong")


@pytest.fixture
def mortal() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


async def test_the_server_dies(local_server: LocalServer, mortal: LocalServer) -> None:
    """In the midst of an answer: what arrived, and one error."""
    session = endless(mortal).start()
    await until(lambda: session.statistics.characters > 20)
    await asyncio.to_thread(mortal.stop)
    with pytest.raises(errors.Disconnected) as told:
        await session
    assert told.value.partial is not None
    assert told.value.partial == session.partial
    assert told.value.phase == "output"
