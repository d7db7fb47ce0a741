"""Code that calls back: bounded, from any thread, told when to stop, undone at the end."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rxstream.errors import ConfigurationError, LimitExceeded, ServerFault
from rxstream.events import Event, Finished, Started, TextDelta
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.sources._pump import pump
from rxstream.sources._source import Source
from rxstream.sources.callback import Push, from_callback
from rxstream.sources.local import LocalServer, find_weights
from tests.support.steps import Signal
from tests.support.until import until


def stream(source: Source[Any]) -> Stream[Event]:
    return Stream.of(pump(source))


async def test_a_function_that_blocks() -> None:
    """It runs in a thread; what it pushes is the stream, and its return the end."""
    thread: list[int] = []

    def start(push: Push[str]) -> None:
        thread.append(threading.get_ident())
        for word in ("a", "", "b"):
            assert push(word) is False

    events = [event async for event in stream(from_callback(start, model="m"))]
    assert [type(event) for event in events] == [Started, TextDelta, TextDelta, Finished]
    assert thread != [threading.get_ident()]


async def test_a_coroutine_function() -> None:
    """It runs on the loop and waits for room without blocking it."""

    async def start(push: Push[int]) -> None:
        assert asyncio.get_running_loop() is loop
        for number in range(100):
            assert not await push.send(number)

    loop = asyncio.get_running_loop()
    response = await stream(from_callback(start, text=str, buffer=2))
    assert response.text == "".join(map(str, range(100)))


async def test_each_subscription_calls_anew() -> None:
    """The source is cold."""
    calls: list[object] = []

    def start(push: Push[str]) -> None:
        calls.append(push("x"))

    source = from_callback(start)
    assert not calls
    assert (await stream(source)).text == (await stream(source)).text == "x"
    assert len(calls) == 2


async def test_done_says_why() -> None:
    """The reason is the stream's; what is pushed later is dropped, and says stop."""
    later: list[bool] = []

    def start(push: Push[str]) -> None:
        push("cut")
        push.done("length")
        later.append(push("dropped"))
        push.done("stop")
        push.error(ValueError("too late"))

    response = await stream(from_callback(start))
    await until(lambda: bool(later))  # the answer is there before its thread goes on
    assert (response.text, response.finish_reason, later) == ("cut", "length", [True])


async def test_an_error_that_is_pushed() -> None:
    """What was pushed before is delivered before."""

    def start(push: Push[str]) -> None:
        push("so far")
        push.error(LookupError("gone"))

    with pytest.raises(ServerFault, match="LookupError: gone") as caught:
        await stream(from_callback(start))
    assert caught.value.partial is not None
    assert caught.value.partial.text == "so far"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_error_that_is_raised(asynchronous: bool) -> None:
    """The same as one that is pushed."""

    def start(push: Push[str]) -> None:
        push("so far")
        raise LookupError("gone")

    async def start_async(push: Push[str]) -> None:
        start(push)

    with pytest.raises(ServerFault, match="LookupError: gone"):
        await stream(from_callback(start_async if asynchronous else start))


async def test_text_that_raises() -> None:
    """The engine never sees it: it is told to stop, and the stream fails."""
    told: list[bool] = []

    def start(push: Push[dict[str, str]]) -> None:
        told.append(push({}))

    with pytest.raises(ServerFault, match="KeyError: 'text'"):
        await stream(from_callback(start, text=lambda item: item["text"]))
    assert told == [True]


# --- bounds, and stopping ---------------------------------------------------------------------------------------------------


async def test_a_full_buffer_holds_the_thread() -> None:
    """With the gate closed the thread gets no further than the buffer; then all comes, in order."""
    pushed: list[int] = []
    got: list[str] = []
    scheduler = LoopScheduler()
    scheduler.gate.hold("user")

    def start(push: Push[int]) -> None:
        for number in range(20):
            push(number)
            pushed.append(number)

    stream(from_callback(start, text=lambda number: f"{number} ", buffer=5)).subscribe(
        lambda event: got.append(event.text) if isinstance(event, TextDelta) else None, scheduler=scheduler
    )
    await until(lambda: len(pushed) == 5)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(pushed) == 5
    scheduler.gate.release("user")
    await until(lambda: len(got) == 20)
    assert got == [f"{number} " for number in range(20)]


async def test_a_thread_that_is_held_is_let_go() -> None:
    """Cancelling wakes a thread that waits for room, and tells it to stop."""
    told: list[bool] = []
    over = Signal()
    scheduler = LoopScheduler()
    scheduler.gate.hold("user")

    def start(push: Push[str]) -> None:
        while not told or not told[-1]:
            told.append(push("x"))
        over.set()

    subscription = stream(from_callback(start, buffer=3)).subscribe(scheduler=scheduler)
    await until(lambda: len(told) == 3)
    subscription.dispose()
    await over.wait_async()
    assert told == [False, False, False, True]


async def test_a_coroutine_that_is_held_is_cancelled() -> None:
    """Cancelling the stream cancels it where it waits."""
    sent: list[bool] = []
    over = Signal()
    scheduler = LoopScheduler()
    scheduler.gate.hold("user")

    async def start(push: Push[str]) -> None:
        try:
            while True:
                sent.append(await push.send("x"))
        finally:
            over.set()

    subscription = stream(from_callback(start, buffer=3)).subscribe(scheduler=scheduler)
    await until(lambda: len(sent) == 3)
    for _ in range(50):
        await asyncio.sleep(0)
    assert sent == [False] * 3
    subscription.dispose()
    await over.wait_async()
    assert len(sent) == 3


async def test_too_much_at_once_on_the_loop() -> None:
    """A plain call on the loop can neither wait nor be dropped in silence: the stream fails, after what had room."""
    told: list[bool] = []

    async def start(push: Push[str]) -> None:
        told.extend(push(str(number)) for number in range(5))

    with pytest.raises(LimitExceeded, match=r"more than 3 items .* push\.send") as caught:
        await stream(from_callback(start, buffer=3))
    assert told == [False, False, False, True, True]
    assert caught.value.partial is not None
    assert caught.value.partial.text == "012"


# --- registering --------------------------------------------------------------------------------------------------------------


class Bus:
    """Calls back whoever is registered."""

    def __init__(self) -> None:
        self.listeners: list[Push[str]] = []
        self.threads: list[int] = []

    def on(self, push: Push[str]) -> Callable[[], None]:
        self.listeners.append(push)

        def off() -> None:
            self.threads.append(threading.get_ident())
            self.listeners.remove(push)

        return off

    async def on_async(self, push: Push[str]) -> Callable[[], object]:
        off = self.on(push)

        async def off_async() -> None:
            off()

        return off_async


@pytest.mark.parametrize("register", [Bus.on, Bus.on_async])
async def test_a_function_that_registers(register: Callable[[Bus, Push[str]], Any]) -> None:
    """It returns at once with what undoes it; the stream goes on until it is said to be done."""
    bus = Bus()
    reading = asyncio.ensure_future(stream(from_callback(functools.partial(register, bus)))._collect())
    await until(lambda: bool(bus.listeners))
    for word in ("a", "b"):
        assert not bus.listeners[0](word)
    assert not reading.done()
    bus.listeners[0].done("tool_calls")
    response = await reading
    assert (response.text, response.finish_reason) == ("ab", "tool_calls")
    await until(lambda: not bus.listeners)
    assert len(bus.threads) == 1


@pytest.mark.parametrize("register", [Bus.on, Bus.on_async])
async def test_cancelling_undoes_the_registration(register: Callable[[Bus, Push[str]], Any]) -> None:
    """Who goes, is off the list."""
    bus = Bus()
    subscription = stream(from_callback(functools.partial(register, bus))).subscribe()
    await until(lambda: bool(bus.listeners))
    push = bus.listeners[0]
    subscription.dispose()
    await until(lambda: not bus.listeners)
    assert push("late") is True


async def test_an_undoing_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """Is logged, and hides nothing."""

    def start(push: Push[str]) -> Callable[[], object]:
        push("a")
        push.done()
        return functools.partial(int, "not a number")

    with caplog.at_level(logging.WARNING, "rxstream"):
        assert (await stream(from_callback(start))).text == "a"
        await until(lambda: "not a number" in caplog.text)


# --- what cannot be ----------------------------------------------------------------------------------------------------------------


def test_options_that_cannot_be() -> None:
    """Refused at once."""
    wrong: Any = ["a"]
    with pytest.raises(ConfigurationError, match="not a list"):
        from_callback(wrong)
    with pytest.raises(ConfigurationError, match="at least 1"):
        from_callback(print, buffer=0)


async def test_a_coroutine_in_disguise() -> None:
    """A plain function that gives a coroutine would never run it: told to the subscriber."""

    async def start(push: Push[str]) -> None:
        push("never")

    def disguised(push: Push[str]) -> object:
        return start(push)

    with pytest.raises(ConfigurationError, match="give the coroutine function itself"):
        await stream(from_callback(disguised))


# --- an engine in this process ------------------------------------------------------------------------------------------------------------


def delta(chunk: bytes) -> str | Event | None:
    """The text of one chunk of llama.cpp's."""
    choices: list[dict[str, Any]] = json.loads(chunk)["choices"]
    return choices[0]["delta"].get("content") if choices else None


@pytest.mark.local
async def test_an_engine_in_this_process(local_server: LocalServer) -> None:
    """llama.cpp calls back with the bytes of each chunk: all that it takes is `push` and four lines."""
    xllamacpp: Any = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.verbosity, params.ui = str(find_weights()), 512, 0, False
    params.api_keys = ["unused"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    engine = await asyncio.to_thread(xllamacpp.Server, params)
    question = "What is the capital of France? Answer in one short sentence."
    request = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 40, "stream": True}

    source = from_callback(lambda push: engine.handle_chat_completions(json.dumps(request).encode(), push), text=delta)
    response = await stream(source)
    assert "Paris" in response.text

    request["max_tokens"] = 400
    async for event in stream(source):  # leaving tells the engine to stop: it is free for the next request
        if isinstance(event, TextDelta):
            break
    request["max_tokens"] = 1
    assert (await stream(source)).text
