"""What is left of a stream when it is over: nothing. No task, no thread, no socket, no memory.

Sockets are counted by the operating system. The connections that a client keeps for the next request are closed first:
what is open then, has leaked.
"""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from reactivex import operators as ops

from rxstream import errors
from rxstream import operators as rxo
from rxstream.events import Event, TextDelta
from rxstream.loop import shared_loop
from rxstream.observable import Stream
from rxstream.sources.sdk import close_clients
from tests.support import leaks
from tests.support.asking import DIALECTS, GOOD, until
from tests.support.live import TRANSPORTS, Transport, no_task_left, stream_from
from tests.support.server import CLOSE, HANG, RESET, Exchange, Head, Script, ScriptedServer, Signal, Step, page

each_transport = pytest.mark.parametrize("transport", TRANSPORTS)


def open_now() -> tuple[int, int]:
    """Sockets and threads of this process."""
    return leaks.sockets(), leaks.threads()


def endings(name: str) -> dict[str, Script]:
    """Every way in which an answer can end."""
    said: list[Step] = [Head(), *GOOD[name]("Hel", terminal=False)]
    return {
        "complete": GOOD[name]("Hel"),
        "complete, and the connection lingers": [*GOOD[name]("Hel"), HANG],
        "cut": [*said],
        "broken": [*said, CLOSE],
        "reset": [*said, RESET],
        "no stream": page(200, "<html>"),
        "refused": page(429, "{}", content_type="application/json"),
        "garbage": [*said, b"data: {]\n\n", HANG],
    }


async def ended(stream: Stream[Event]) -> Exception | None:
    try:
        await stream
    except errors.StreamError as error:
        return error
    return None


@leaks.needs_proc
@each_transport
@pytest.mark.parametrize("name", DIALECTS)
async def test_no_ending_leaves_anything(name: str, transport: Transport) -> None:
    """After each way to end, three times over, there are as many tasks, threads and sockets as before."""
    with ExitStack() as stack:
        servers = {kind: stack.enter_context(ScriptedServer(script)) for kind, script in endings(name).items()}
        before = open_now()
        for kind, server in servers.items():
            for _ in range(3):
                error = await ended(stream_from(server, name, transport=transport))
                assert (error is None) == kind.startswith("complete"), kind
                await no_task_left()
        await close_clients()
        await until(lambda: not any(server.open_connections for server in servers.values()))
        await until(lambda: open_now() == before)


async def talk(exchange: Exchange) -> None:
    """An answer that comes slowly enough to be cancelled in its midst, and quickly enough to come to its end."""
    frames = GOOD["compatible"](*["word "] * 50)
    await exchange.head()
    for frame in frames:
        await exchange.send(frame)
        await asyncio.sleep(0)
    await exchange.end()


def ways(generator: random.Random) -> Callable[[Stream[Event]], Any]:
    """A way to run a stream and cancel it at some moment, or not at all."""

    async def by_task(stream: Stream[Event]) -> None:
        task = asyncio.ensure_future(ended(stream))
        for _ in range(generator.randrange(60)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    async def by_dispose(stream: Stream[Event]) -> None:
        subscription = stream.subscribe(on_error=lambda error: None)
        for _ in range(generator.randrange(60)):
            await asyncio.sleep(0)
        subscription.dispose()

    async def by_session(stream: Stream[Event]) -> None:
        session = stream.start()
        for _ in range(generator.randrange(60)):
            await asyncio.sleep(0)
        session.pause()
        await asyncio.sleep(0)
        session.cancel()

    async def by_break(stream: Stream[Event]) -> None:
        left = generator.randrange(40)
        async for _ in stream:
            left -= 1
            if left < 0:
                break

    async def by_take(stream: Stream[Event]) -> None:
        await stream.pipe(ops.take(generator.randrange(1, 40)))

    return generator.choice([by_task, by_dispose, by_session, by_break, by_take])


@leaks.needs_proc
@each_transport
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_hundred_streams_cancelled_at_random(seed: int, transport: Transport) -> None:
    """All at the same time, each in its own way and at its own moment."""
    generator = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
    with ScriptedServer(talk) as server:
        await stream_from(server, "compatible", transport=transport)
        await close_clients()
        await until(lambda: not server.open_connections)
        before = open_now()
        await asyncio.gather(
            *[ways(generator)(stream_from(server, "compatible", transport=transport)) for _ in range(100)]
        )
        await no_task_left()
        await close_clients()
        await until(lambda: not server.open_connections)
        await until(lambda: open_now() == before)


@leaks.needs_proc
def test_a_hundred_streams_cancelled_on_the_shared_loop() -> None:
    """From plain threads, through the loop that all of them share: it stays as it was."""
    generator = random.Random(3)  # noqa: S311  # to be repeated, not to be secret
    loop = shared_loop()

    def settled() -> bool:
        return not asyncio.all_tasks(loop)

    with ScriptedServer(talk) as server:
        stream_from(server, "compatible").run()
        wait_until(settled)
        before = leaks.threads()

        def use(number: int) -> None:
            stream = stream_from(server, "compatible")
            if number % 3 == 0:
                for count, _ in enumerate(stream):
                    if count >= number % 40:
                        break
            elif number % 3 == 1:
                session = stream.start()
                if generator.random() < 0.5:
                    session.pause()
                session.cancel()
            else:
                stream.subscribe(on_error=lambda error: None).dispose()

        threads = [threading.Thread(target=use, args=(number,)) for number in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        wait_until(settled)
        assert leaks.threads() == before
        asyncio.run_coroutine_threadsafe(close_clients(), loop).result(10)
        wait_until(lambda: not server.open_connections)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """For threads without a loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        threading.Event().wait(0.005)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@each_transport
async def test_closing_needs_no_garbage_collector(transport: Transport) -> None:
    """Leaving a loop closes the connection by itself: nothing waits for a cycle to be found."""
    with no_garbage_collection(), ScriptedServer([Head(), *GOOD["compatible"]("Hel"), HANG]) as server:
        async for event in stream_from(server, "compatible", transport=transport):
            if isinstance(event, TextDelta):
                break
        await server.requests[0].left.wait_async()
        await no_task_left()


class Listener:
    """An observer that can be waited for."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.first = asyncio.Event()

    def on_next(self, _: Event) -> None:
        self.first.set()

    def on_error(self, _: Exception) -> None:
        self.ended.set()

    def on_completed(self) -> None:
        self.ended.set()


async def listened(stream: Stream[Event], *, cancel: bool) -> Callable[[], bool]:
    """Listen to the end, or cancel at the first event; whether the listener is gone."""
    listener = Listener()
    subscription = stream.subscribe(listener.on_next, listener.on_error, listener.on_completed)
    if cancel:
        await listener.first.wait()
        subscription.dispose()
    else:
        await listener.ended.wait()
    await no_task_left()
    kept = weakref.ref(listener)
    return lambda: kept() is None


@each_transport
async def test_the_observer_is_let_go(transport: Transport) -> None:
    """A stream that is over, or was cancelled, keeps nothing of its subscriber alive; no cycle waits to be found."""
    scripts: list[tuple[Script, bool]] = [
        (GOOD["compatible"]("Hel"), False),
        ([Head(), *GOOD["compatible"]("x", terminal=False), HANG], True),
    ]
    for script, cancel in scripts:
        with ScriptedServer(script) as server:
            stream = stream_from(server, "compatible", transport=transport)
            await listened(stream, cancel=cancel)
            with no_garbage_collection():
                await until(await listened(stream, cancel=cancel))


@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize("policy", ["fail", "restart", "continue_", "buffer"])
async def test_the_observer_of_a_retried_stream_is_let_go(policy: Any, cancel: bool) -> None:
    """After its end, and in the wait for the next attempt."""
    cut: Script = [Head(), *GOOD["compatible"]("x", terminal=False), CLOSE]
    refused = page(529, "{}", content_type="application/json")
    with ScriptedServer(refused, cut if policy != "fail" else refused, GOOD["compatible"]("Hel")) as server:
        again = rxo.retry_stream(after_output=policy, delay=60.0 if cancel else 0.0, budget=None)
        gone = await listened(stream_from(server, "compatible").pipe(again), cancel=cancel)
        await until(lambda: gc.collect() >= 0 and gone())
        assert len(server.requests) == (1 if cancel else 3)


async def test_memory_does_not_grow_with_the_stream() -> None:
    """Without the partial answer and the raw bytes, a long stream costs no more than a short one.

    Over httpx2, which buffers less than 100 KiB; aiohttp's buffer, up to 640 KiB, would hide what is measured.
    """
    frames = GOOD["compatible"]("word " * 20, terminal=False)

    async def peak(pieces: int) -> int:
        script: Script = [Head(), frames[0], *[frames[1] * 10] * (pieces // 10)]
        with ScriptedServer(script) as server:
            stream = stream_from(server, "compatible", transport="httpx2", keep_partial=False, keep_raw=False)
            counted = 0

            def count(_: Event) -> None:
                nonlocal counted
                counted += 1

            done = asyncio.Event()
            gc.collect()
            tracemalloc.start()
            stream.subscribe(count, lambda error: done.set(), done.set)
            await done.wait()
            _, highest = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert counted > pieces
        return highest

    with ScriptedServer(GOOD["compatible"]("x")) as server:
        await stream_from(server, "compatible", transport="httpx2")  # loads what is loaded once
    short, long = await peak(500), await peak(5000)
    assert long < short + 500_000, f"{long - short} bytes more for 4500 pieces more"


def test_a_stream_in_a_loop_that_is_closed_under_it() -> None:
    """`asyncio.run` ends, with streams still running: they are closed with it, without a word on stderr."""
    sent = Signal()
    script: Script = [Head(), *GOOD["compatible"]("Hel", terminal=False), HANG]
    told: list[Exception] = []

    async def leave() -> None:
        stream_from(server, "compatible").subscribe(lambda event: sent.set(), told.append)
        await sent.wait_async()

    with ScriptedServer(script) as server:
        asyncio.run(leave())
        server.requests[0].left.wait()
    assert [type(error) for error in told] == [errors.LoopShutDown]
