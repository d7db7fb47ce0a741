"""How a model is asked again: what is known of it, and answers that are taken up where they were cut."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import anthropic
import openai
import pytest
import reactivex
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import Observable
from reactivex import operators as ops

import rxstream
from rxstream import errors
from rxstream._asking import ModelKey, asking_of
from rxstream.aggregate import aggregate
from rxstream.events import Event, TextDelta
from rxstream.loop import LoopScheduler
from rxstream.sources import _farewell
from tests.support.asking import KEY, until
from tests.support.live import TRANSPORTS, Transport, assert_tells_no_secret, no_task_left
from tests.support.resuming import KEPT, Keeper, Told, asking, bare, from_memory, listen, take_up
from tests.support.server import (
    HANG,
    Exchange,
    Head,
    ScriptedServer,
    Signal,
    chat,
    closed_port,
    page,
    responses,
    sse,
)

each_kind = pytest.mark.parametrize("name", KEPT)
NOWHERE: Final = "http://127.0.0.1:9"
TOOLS: Final = [("c1", "weather", ['{"ci', 'ty": "Pa', 'ris ☃"}'])]
LONG: Final = bool(os.environ.get("RXSTREAM_LONG"))


def answer(name: str) -> list[bytes]:
    """A whole answer: text of more than one byte a character, and a call of a tool."""
    return KEPT[name]("Hel", "lo ☃", " — ", "wörld", tools=TOOLS)


async def listen_to(name: str, frames: list[bytes]) -> Told:
    """What comes of a kept answer that comes from memory, in one piece."""
    with pytest.MonkeyPatch.context() as patch:
        from_memory(patch, frames, [])
        return await listen(asking(name, NOWHERE).conversation(resumable=True).ask())


def left_after(count: int, events: Observable[Event]) -> Observable[Event]:
    """As an operator with a clock does it: leave in the midst of a burst, with an error."""
    return events.pipe(ops.take(count), ops.concat(reactivex.throw(errors.Disconnected("left"))))


async def uninterrupted(name: str, frames: list[bytes]) -> list[Event]:
    """What comes of an answer that nobody cuts."""
    told = await listen_to(name, frames)
    assert told.error is None
    return bare(told.events)


@pytest.fixture(autouse=True)
async def _nothing_goes_on() -> AsyncIterator[None]:
    yield
    await no_task_left()


# --- what is known ------------------------------------------------------------------------------------------------------


def test_the_key_is_what_the_environment_says_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Provider, model and address; the address is looked up each time."""
    found = asking_of(rxstream.stream("openai:gpt-9", "hi"))
    assert found is not None
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert found.key == ModelKey("openai", "gpt-9", "https://api.openai.com/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1/")
    assert found.key == ModelKey("openai", "gpt-9", "http://127.0.0.1:1/v1")


@pytest.mark.parametrize("url", ["https://me:planted@example.com/v1", "https://example.com/v1?key=planted#planted"])
def test_the_key_tells_no_secret(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of such a URL, which the request will refuse, no more is told than where it goes."""
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    found = asking_of(rxstream.stream("openai:m", "hi"))
    assert found is not None
    assert found.key == ModelKey("openai", "m", "https://example.com/v1")


async def test_the_key_of_a_client_is_the_clients_address() -> None:
    client = openai.AsyncOpenAI(base_url="http://127.0.0.1:7/v1", api_key="k")
    found = asking_of(rxstream.stream("openai-chat:m", "hi", client=client))
    assert found is not None
    assert found.key.base_url == "http://127.0.0.1:7/v1"
    await client.close()


@pytest.mark.parametrize("target", ["local:smollm2", "compatible:m"])
def test_the_key_where_there_is_no_address(target: str) -> None:
    """The server of this process is not started to be asked; a missing address is for the request to complain of."""
    found = asking_of(rxstream.stream(target, "hi"))
    assert found is not None
    assert ":".join(found.key[:2]) == target
    assert found.key.base_url == ""


@pytest.mark.parametrize(
    ("target", "extra", "expected"),
    [
        ("openai:m", {}, True),
        ("openai:m", {"store": False}, False),
        ("openai:m", {"background": False}, False),
        ("llamacpp:m", {}, True),
        ("local:m", {"store": False}, True),
        ("openai-chat:m", {}, False),
        ("xai-responses:m", {}, False),
        ("anthropic:m", {}, False),
    ],
)
def test_who_keeps_answers(target: str, extra: dict[str, Any], expected: bool) -> None:
    """Only who documents it, and unless the request forbids it."""
    found = asking_of(rxstream.stream(target, "hi", extra=extra))
    assert found is not None
    assert found.resumable is expected


def test_tokens_and_total() -> None:
    """The most that the request may use, from the prompt and the limit; and the clock for all attempts."""
    found = asking_of(rxstream.stream("compatible:m", "x" * 3000, max_tokens=50, timeouts=7))
    assert found is not None
    assert 1050 <= found.tokens < 1100
    assert found.total == 7.0
    other = asking_of(rxstream.stream("compatible:m", "hi"))
    assert other is not None
    assert other.total is None


async def test_the_total_clock_is_left_to_who_asks_again() -> None:
    """A conversation's request goes on when it has run out; the other clocks still run."""
    with ScriptedServer([Head(), *chat("Hel", terminal=False), HANG]) as server:
        clocks = {"total": 0.05, "idle": 0.3}
        told = await listen(asking("compatible", server.url, timeouts=clocks).conversation(resumable=False).ask())
        assert isinstance(told.error, errors.TimedOut)
        assert told.error.clock == "idle"
        stream = rxstream.stream("compatible:m", "hi", base_url=f"{server.url}/v1", api_key=KEY, timeouts=clocks)
        with pytest.raises(errors.TimedOut, match="total"):
            await stream


async def test_asked_anew_it_is_another_request() -> None:
    """A conversation with a provider that keeps nothing asks again from the start."""
    with ScriptedServer(chat("one"), chat("two")) as server:
        conversation = asking("compatible", server.url).conversation(resumable=True)
        for text in ("one", "two"):
            assert aggregate((await listen(conversation.ask())).events).text == text
        assert conversation.resume() is None
        conversation.close()
        assert len(server.requests) == 2


# --- cut, and taken up --------------------------------------------------------------------------------------------------


@each_kind
async def test_every_byte(name: str) -> None:
    """Cut anywhere, and taken up: the same events as if nobody had cut it."""
    frames = answer(name)
    whole = await uninterrupted(name, frames)
    step = 1 if LONG else 3
    for cut in range(0, len(b"".join(frames)), step):
        with pytest.MonkeyPatch.context() as patch:
            from_memory(patch, frames, [cut])
            conversation = asking(name, NOWHERE).conversation(resumable=True)
            told = await listen(conversation.ask())
            if told.error is None:  # after the terminal mark
                assert bare(told.events) == whole
                continue
            rest = conversation.resume()
            if rest is None:  # before there was an id, and a second number
                assert cut < len(frames[0] + frames[1])
                continue
            assert bare([*told.events, *(await listen(rest)).events]) == whole, cut


@each_kind
@given(data=st.data())
@settings(max_examples=400 if LONG else 40, deadline=None)
def test_many_cuts(name: str, data: st.DataObject) -> None:
    """Of the resumed requests, too, in the middle of anything, read in pieces of any size; some with a clean end."""
    frames = answer(name)
    size = len(b"".join(frames))
    finish = (
        next(index for index, frame in enumerate(frames) if b'finish_reason":"' in frame) if name == "llamacpp" else 99
    )
    evidence = len(b"".join(frames[:finish]))  # from here on a clean end is an end
    first = data.draw(st.integers(len(frames[0] + frames[1]), size), label="first")
    cuts = [first, *data.draw(st.lists(st.integers(0, size), max_size=8), label="cuts")]
    if first < evidence and data.draw(st.booleans(), label="clean"):
        cuts[0] = ~first

    async def run() -> None:
        whole = await uninterrupted(name, frames)
        with pytest.MonkeyPatch.context() as patch:
            from_memory(patch, frames, cuts, size=data.draw(st.integers(1, size), label="size"))
            events, error = await take_up(asking(name, NOWHERE).conversation(resumable=True))
        assert error is None
        assert bare(events) == whole

    asyncio.run(run())


@pytest.mark.parametrize("transport", TRANSPORTS)
@each_kind
async def test_over_sockets(name: str, transport: Transport) -> None:
    """The requests are as each provider wants them, with the key, and the answer is whole."""
    frames = answer(name)
    whole = await uninterrupted(name, frames)
    ends = [len(b"".join(frames[:count])) for count in range(1, len(frames))]
    for end in ends[2::3]:
        for clean in (False, True):
            keeper = Keeper(frames, cuts=[end - 2, 5], clean=clean and end < ends[-3])
            with ScriptedServer(keeper) as server:
                conversation = asking(name, server.url, transport=transport).conversation(resumable=True)
                events, error = await take_up(conversation)
                conversation.close()
            assert error is None
            assert bare(events) == whole
            assert len(server.requests) == 3
            assert keeper.left == []
            assert all(request.headers["authorization"] == f"Bearer {KEY}" for request in server.requests)
            assert all(request.headers["accept-encoding"] == "identity" for request in server.requests)


async def test_the_requests_of_llamacpp() -> None:
    """The answer has a name of 128 random bits, another each time; one of the caller's own is not used."""
    frames = answer("llamacpp")
    names: list[str] = []
    for _ in range(2):
        with ScriptedServer(Keeper(frames, cuts=[500])) as server:
            headers = {"x-conversation-ID": "mine", "x-mine": "yes"}
            await take_up(asking("llamacpp", server.url, extra_headers=headers).conversation(resumable=True))
            post, get = server.requests
        names.append(post.headers["x-conversation-id"])
        assert get.path == f"/v1/stream?conv_id={names[-1]}&from=500"
        assert post.headers["x-mine"] == get.headers["x-mine"] == "yes"
        assert len(names[-1]) == 32
    assert names[0] != names[1]


async def test_llamacpp_without_its_v1() -> None:
    """It answers at its root, too; the kept answer is below ``/v1`` all the same."""
    with ScriptedServer(Keeper(answer("llamacpp"), cuts=[500])) as server:
        stream = rxstream.stream("llamacpp:m", "hi", base_url=server.url, api_key=KEY)
        found = asking_of(stream)
        assert found is not None
        await take_up(found.conversation(resumable=True))
        assert [request.path.partition("?")[0] for request in server.requests] == ["/chat/completions", "/v1/stream"]


async def test_the_requests_of_openai() -> None:
    """The response is made in the background and stored; without a conversation it is neither."""
    frames = answer("openai")
    with ScriptedServer(Keeper(frames, cuts=[len(b"".join(frames[:4])) + 7])) as server:
        await take_up(asking("openai", server.url, extra={"user": "u"}).conversation(resumable=True))
        post, get = server.requests
        await listen(asking("openai", server.url).conversation(resumable=False).ask())
        plain = server.requests[-1]
    assert (post.json["background"], post.json["store"], post.json["user"]) == (True, True, "u")
    assert get.path == "/v1/responses/resp_1?stream=true&starting_after=3"
    assert ("background" in plain.json, plain.json["store"]) == (False, False)


async def test_with_a_client_of_the_callers_own() -> None:
    """Its address and its key are used for the rest and for the farewell as well."""
    frames = answer("openai")
    keeper = Keeper(frames, cuts=[len(b"".join(frames[:4]))] * 2)
    with ScriptedServer(keeper) as server:
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY)
        found = asking_of(rxstream.stream("openai:m", "hi", client=client))
        assert found is not None
        conversation = found.conversation(resumable=True)
        await listen(conversation.ask())
        rest = conversation.resume()
        assert rest is not None
        await listen(rest)
        conversation.close()
        await until(lambda: bool(keeper.left))
        await no_task_left()
        assert all(request.headers["authorization"] == f"Bearer {KEY}" for request in server.requests)
        await client.close()


# --- where there is no cursor -------------------------------------------------------------------------------------------


@each_kind
async def test_nothing_to_resume(name: str) -> None:
    """Before anything was asked; where it was not to be kept; where there was no answer; and when it is closed."""
    known = asking(name, f"http://127.0.0.1:{closed_port()}")
    conversation = known.conversation(resumable=True)
    assert conversation.resume() is None
    assert isinstance((await listen(conversation.ask())).error, errors.ConnectError)
    assert conversation.resume() is None
    conversation.close()
    assert conversation.resume() is None
    assert known.conversation(resumable=False).resume() is None


async def test_an_answer_that_has_not_told_its_id() -> None:
    with ScriptedServer(Keeper(answer("openai"), cuts=[3])) as server:
        conversation = asking("openai", server.url).conversation(resumable=True)
        await listen(conversation.ask())
        assert conversation.resume() is None


@pytest.mark.parametrize("number", [{}, {"sequence_number": 0}])
async def test_an_answer_without_numbers(number: dict[str, int]) -> None:
    """Servers that speak the dialect but do not count have no cursor."""
    created = {"type": "response.created", "response": {"id": "resp_1"}, **number}
    frames = [sse(created), *[sse({"type": "response.output_text.delta", "delta": "x", **number})] * 3]
    with ScriptedServer(Keeper(frames, cuts=[len(b"".join(frames))])) as server:
        conversation = asking("openai", server.url).conversation(resumable=True)
        told = await listen(conversation.ask())
        assert len(told.events) == 4
        assert conversation.resume() is None
        conversation.close()


@each_kind
@pytest.mark.parametrize("cut", [False, True])
async def test_the_provider_has_failed(name: str, cut: bool) -> None:
    """It said so itself, at once or with the rest: there is no more to be had."""
    frames = KEPT[name]("Hel", terminal=False)
    cuts = [len(b"".join(frames))] if cut else []
    frames.append(sse({"type": "error", "error": {"type": "server_error", "message": "sorry"}}))
    with ScriptedServer(Keeper(frames, cuts=cuts)) as server:
        conversation = asking(name, server.url).conversation(resumable=True)
        _, error = await take_up(conversation)
        assert isinstance(error, errors.ServerFault)
        assert conversation.resume() is None
        assert len(server.requests) == 1 + cut


async def test_a_clean_end_behind_the_reason_to_finish() -> None:
    """It is an end, as it is of an answer that nobody keeps."""
    frames = chat("Hel", "lo")
    with ScriptedServer(Keeper(frames, cuts=[len(b"".join(frames[:4]))], clean=True)) as server:
        events, error = await take_up(asking("llamacpp", server.url).conversation(resumable=True))
        assert len(server.requests) == 1
    assert error is None
    assert aggregate(events).finish_reason == "stop"


@each_kind
async def test_the_rest_is_refused(name: str) -> None:
    """404 is what a provider says that keeps it no longer; after 500 it can be asked for again. No key is told."""
    frames = answer(name)
    keeper = Keeper(frames, cuts=[len(b"".join(frames[:4])) + 1])
    keeper.statuses = [500, 404]
    with ScriptedServer(keeper) as server:
        conversation = asking(name, server.url).conversation(resumable=True)
        first = await listen(conversation.ask())
        for kind in (errors.ServerFault, errors.BadRequest):
            rest = conversation.resume()
            assert rest is not None
            told = await listen(rest)
            assert isinstance(told.error, kind)
            assert told.error.retryable is (kind is errors.ServerFault)
            assert_tells_no_secret(told.error)
            assert told.events == []
        rest = conversation.resume()
        assert rest is not None
        told = await listen(rest)
    assert told.error is None
    assert bare([*first.events, *told.events]) == await uninterrupted(name, frames)


async def test_the_rest_is_no_stream() -> None:
    keeper = Keeper(answer("llamacpp"), cuts=[500])
    keeper.statuses = [200]
    with ScriptedServer(keeper) as server:
        conversation = asking("llamacpp", server.url).conversation(resumable=True)
        _, error = await take_up(conversation, most=1)
        conversation.close()
        await until(lambda: bool(keeper.left))
    assert isinstance(error, errors.StreamError)
    assert_tells_no_secret(error)


# --- exactly ------------------------------------------------------------------------------------------------------------


async def test_a_gap_is_asked_for() -> None:
    """An event is missing: nothing behind it is given before it came."""
    frames = responses("a", "b", "c", "d")
    whole = await uninterrupted("openai", frames)
    seen = 0

    async def script(exchange: Exchange) -> None:
        nonlocal seen
        seen += 1
        await exchange.head()
        if seen == 1:
            await exchange.send(b"".join([*frames[:4], *frames[6:]]))
        else:
            assert exchange.request.path.endswith("starting_after=3")
            await exchange.send(b"".join(frames[4:]))
        await exchange.end()

    with ScriptedServer(script) as server:
        conversation = asking("openai", server.url).conversation(resumable=True)
        told = await listen(conversation.ask())
        assert isinstance(told.error, errors.SequenceGap)
        assert bare(told.events) == whole[: len(told.events)]
        rest = conversation.resume()
        assert rest is not None
        assert bare([*told.events, *(await listen(rest)).events]) == whole


async def test_what_was_there_before_is_dropped() -> None:
    """A server that begins too early with the rest tells nothing twice."""
    frames = responses("a", "b", "c", "d")

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        if exchange.request.method == "POST":
            await exchange.send(b"".join(frames[:5]))
            exchange.close()
        else:
            await exchange.send(b"".join(frames[2:]))
            await exchange.end()

    with ScriptedServer(script) as server:
        events, error = await take_up(asking("openai", server.url).conversation(resumable=True))
    assert error is None
    assert bare(events) == await uninterrupted("openai", frames)


@each_kind
async def test_decoded_but_not_given(name: str) -> None:
    """A clock runs out while a long burst is handed on: what is left of it comes first with the rest."""
    texts = [f"{number} " for number in range(200)]
    frames = KEPT[name](*texts)
    whole = await uninterrupted(name, frames)
    half = len(b"".join(frames[:150]))

    with pytest.MonkeyPatch.context() as patch:
        from_memory(patch, frames, [half])
        conversation = asking(name, NOWHERE).conversation(resumable=True)
        told = await listen(left_after(70, conversation.ask()))
        rest = conversation.resume()
        assert rest is not None
        events = told.events + (await listen(rest)).events
    assert bare(events) == whole


@each_kind
@pytest.mark.parametrize("then", ["nothing", "the provider fails"])
async def test_decoded_but_not_given_and_then(name: str, then: str) -> None:
    """It is given first, whatever comes of the next connection."""
    texts = [f"{number} " for number in range(200)]
    frames = KEPT[name](*texts, terminal=False)
    whole = bare((await listen_to(name, frames)).events)
    cuts = [len(b"".join(frames))]
    if then == "nothing":
        cuts.append(~0)
    else:
        frames.append(sse({"type": "error", "error": {"type": "server_error", "message": "sorry"}}))
    with pytest.MonkeyPatch.context() as patch:
        from_memory(patch, frames, cuts)
        conversation = asking(name, NOWHERE).conversation(resumable=True)
        told = await listen(left_after(70, conversation.ask()))
        rest = conversation.resume()
        assert rest is not None
        then_told = await listen(rest)
    assert isinstance(then_told.error, errors.StreamIncomplete if then == "nothing" else errors.ServerFault)
    assert bare(told.events + then_told.events) == whole


@each_kind
async def test_all_was_decoded_but_not_given(name: str) -> None:
    """Then nothing is asked for any more."""
    frames = KEPT[name](*[f"{number} " for number in range(200)])
    whole = await uninterrupted(name, frames)

    with ScriptedServer() as server, pytest.MonkeyPatch.context() as patch:
        from_memory(patch, frames, [])
        conversation = asking(name, server.url).conversation(resumable=True)
        told = await listen(left_after(70, conversation.ask()))
        patch.undo()
        rest = conversation.resume()
        assert rest is not None
        assert bare(told.events + (await listen(rest)).events) == whole
        assert server.requests == []


async def test_the_limits_are_for_the_whole_answer() -> None:
    """Bytes and events of all connections are counted together."""
    frames = chat(*["word "] * 30)
    cut = len(b"".join(frames[:20]))
    for limits in ({"stream_bytes": cut + 100}, {"events": 25}):
        with ScriptedServer(Keeper(frames, cuts=[cut])) as server:
            conversation = asking("llamacpp", server.url, limits=limits).conversation(resumable=True)
            events, error = await take_up(conversation, most=1)
            conversation.close()
        assert isinstance(error, errors.LimitExceeded)
        assert 19 <= len(events) <= 25


# --- farewells ----------------------------------------------------------------------------------------------------------

GONE: Final = {"llamacpp": "DELETE /v1/stream?conv_id={}", "openai": "POST /v1/responses/resp_1/cancel"}


def farewell(name: str, server: ScriptedServer, request: int = 0) -> str:
    """What the server of `name` is to be told of a request."""
    return GONE[name].format(server.requests[request].headers.get("x-conversation-id"))


@each_kind
async def test_left_in_the_midst(name: str) -> None:
    """Whoever disposes of it and closes: the provider is told to stop, once."""
    frames = KEPT[name]("Hel", terminal=False)
    arrived = asyncio.Event()
    keeper = Keeper(frames)

    async def script(exchange: Exchange) -> None:
        if len(server.requests) > 1:
            await keeper(exchange)
            return
        await exchange.head()
        await exchange.send(keeper.body)
        await exchange.hang()

    with ScriptedServer(script) as server:
        conversation = asking(name, server.url).conversation(resumable=True)
        subscription = conversation.ask().subscribe(
            lambda event: arrived.set() if isinstance(event, TextDelta) else None, scheduler=LoopScheduler()
        )
        await arrived.wait()
        subscription.dispose()
        conversation.close()
        conversation.close()
        await until(lambda: bool(keeper.left))
        await no_task_left()
        assert keeper.left == [farewell(name, server)]


@each_kind
async def test_asked_anew_the_answer_before_is_left(name: str) -> None:
    frames = answer(name)
    keeper = Keeper(frames, cuts=[len(b"".join(frames[:4]))])
    with ScriptedServer(keeper) as server:
        conversation = asking(name, server.url).conversation(resumable=True)
        await listen(conversation.ask())
        assert (await listen(conversation.ask())).error is None
        conversation.close()
        await until(lambda: bool(keeper.left))
        await no_task_left()
        assert keeper.left == [farewell(name, server)]


@each_kind
async def test_no_farewell_without_an_answer(name: str) -> None:
    """The request was refused; or it was never made; or the answer is complete."""
    with ScriptedServer(page(401, "{}", content_type="application/json"), answer(name)) as server:
        conversation = asking(name, server.url).conversation(resumable=True)
        conversation.close()
        assert isinstance((await listen(conversation.ask())).error, errors.AuthError)
        conversation.close()
        assert (await listen(conversation.ask())).error is None
        conversation.close()
        await no_task_left()
        assert len(server.requests) == 2


async def test_a_request_that_waits_for_its_turn_is_called_off() -> None:
    """llama.cpp gives no headers while it is busy, and would begin later: we know the name, so it can be told."""
    asked, left = Signal(), Signal()

    async def script(exchange: Exchange) -> None:
        if exchange.request.method == "DELETE":
            left.set()
            await exchange.wire(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
            return
        asked.set()
        await exchange.hang()

    with ScriptedServer(script) as server:
        conversation = asking("llamacpp", server.url).conversation(resumable=True)
        subscription = conversation.ask().subscribe(scheduler=LoopScheduler())
        await asked.wait_async()
        assert conversation.resume() is None
        subscription.dispose()
        conversation.close()
        await left.wait_async()
        await no_task_left()


@each_kind
def test_the_loop_ends_with_the_program(name: str) -> None:
    """``asyncio.run`` cancels every task that is left, and the provider is told all the same."""
    frames = KEPT[name]("Hel", terminal=False)
    keeper = Keeper(frames)

    async def script(exchange: Exchange) -> None:
        if len(server.requests) > 1:
            await keeper(exchange)
            return
        await exchange.head()
        await exchange.send(keeper.body)
        await exchange.hang()

    async def main(*, dispose: bool) -> None:
        arrived = asyncio.Event()
        conversation = asking(name, server.url).conversation(resumable=True)

        def end(_: Exception | None = None) -> None:
            conversation.close()

        subscription = conversation.ask().subscribe(
            lambda event: arrived.set() if isinstance(event, TextDelta) else None, end, end, scheduler=LoopScheduler()
        )
        await arrived.wait()
        if dispose:
            subscription.dispose()
            conversation.close()

    for dispose in (True, False):
        keeper.left.clear()
        with ScriptedServer(script) as server:
            asyncio.run(main(dispose=dispose))
            assert keeper.left == [farewell(name, server)]


async def test_a_farewell_that_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up, and nobody hears of it."""
    monkeypatch.setattr(_farewell, "_SECONDS", 0.05)
    frames = KEPT["openai"]("Hel", terminal=False)
    with ScriptedServer([*frames], [HANG]) as server:
        conversation = asking("openai", server.url).conversation(resumable=True)
        await listen(conversation.ask())
        conversation.close()
        await until(lambda: len(server.requests) == 2)
        await no_task_left()


def test_a_farewell_that_nobody_answers_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_farewell, "_AT_SHUTDOWN", 0.05)
    frames = KEPT["openai"]("Hel", terminal=False)

    async def main() -> None:
        conversation = asking("openai", server.url).conversation(resumable=True)
        await listen(conversation.ask())
        conversation.close()

    with ScriptedServer([*frames], [HANG]) as server:
        start = time.monotonic()
        asyncio.run(main())
        assert time.monotonic() - start < 3


def test_a_farewell_that_is_said_when_the_loop_is_shut_down(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream learns of the end by it, and nobody answers: it is given up in good order."""
    monkeypatch.setattr(_farewell, "_AT_SHUTDOWN", 0.05)

    async def main() -> None:
        arrived = asyncio.Event()
        conversation = asking("openai", server.url).conversation(resumable=True)
        conversation.ask().subscribe(lambda _: arrived.set(), lambda _: conversation.close(), scheduler=LoopScheduler())
        await arrived.wait()

    with ScriptedServer([*KEPT["openai"]("Hel", terminal=False), HANG], [HANG]) as server:
        asyncio.run(main())
        assert [request.path for request in server.requests] == ["/v1/responses", "/v1/responses/resp_1/cancel"]
    assert not caplog.records


def test_a_farewell_on_a_loop_that_is_closed() -> None:
    """There is nobody left to say it."""
    loop = asyncio.new_event_loop()
    loop.close()

    async def call() -> None:
        raise AssertionError

    _farewell.say(loop, call)


async def test_an_anthropic_client_is_nothing_to_resume_with() -> None:
    """The dialect has no cursor, whatever is asked for."""
    client = anthropic.AsyncAnthropic(base_url=NOWHERE, api_key="k")
    found = asking_of(rxstream.stream("anthropic:m", "hi", client=client))
    assert found is not None
    assert found.conversation(resumable=True).resume() is None
    await client.close()
