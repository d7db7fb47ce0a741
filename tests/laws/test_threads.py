"""Threads that pause, resume, cancel, dispose, look and subscribe at random moments, four at one session.

Whatever they do: items come one at a time, in order, none lost and none twice; there is one end, and it is the right one; the
status goes no forbidden way; nobody waits for ever; and no task, thread, socket or session is left.

A thousand cases; with RXSTREAM_LONG twenty thousand.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from rxstream import tracks
from rxstream.errors import Disconnected, Overloaded
from rxstream.events import Event
from rxstream.loop import shared_loop
from rxstream.observable import Stream
from rxstream.session import StreamSession
from rxstream.sources._clients import load
from rxstream.sources._pump import pump
from rxstream.sources.sdk import close_clients
from tests.support.asking import GOOD
from tests.support.leaks import needs_proc, sockets, threads
from tests.support.live import TRANSPORTS, stream_from
from tests.support.mob import WORDS, Case, Mob, Operator, impatient_switches, operators
from tests.support.scripted import DONE, HANG, Scripted, Step, raising
from tests.support.server import CLOSE, END, Exchange, ScriptedServer

LONG: Final = bool(os.environ.get("RXSTREAM_LONG"))
CASES: Final = 3_400 if LONG else 170
"""Of each of six kinds."""
Make = Callable[[random.Random], Stream[Event]]


def script(chance: random.Random, label: str, *, sound: bool = False) -> Stream[Event]:
    """The words in pieces, with and without waits, and mostly a good end."""
    steps: list[Step] = []
    left = list(WORDS)
    while left:
        size = chance.randrange(1, 5)
        steps += [tuple(left[:size]), chance.choice([0, 0, 0, 0.0003])]
        del left[:size]
    if not sound and chance.random() < 0.2:
        del steps[chance.randrange(len(steps)) :]
        steps.append(raising(Disconnected("cut")))
    else:
        steps.append(DONE)
    return Stream.of(pump(Scripted(steps).source(label=label, read_ahead=chance.choice([0, 3, 1000]))), label=label)


def endless(chance: random.Random) -> Stream[Event]:
    """The words, through some operators, and then nothing more, for ever."""
    stream = Stream.of(pump(Scripted([*WORDS, HANG]).source(label="endless")), label="endless")
    return through(stream, [operator() for operator in chance.sample(list(operators().values()), chance.randrange(4))])


def failing(label: str) -> Stream[Event]:
    return Stream.of(pump(Scripted([raising(Overloaded("later"))]).source(label=label)), label=label)


def through(stream: Stream[Event], chosen: list[Operator]) -> Stream[Event]:
    for operator in chosen:
        stream = stream.pipe(operator)
    return stream


def alone(chance: random.Random) -> Stream[Event]:
    """A track through some operators."""
    chosen = chance.sample(list(operators().values()), chance.randrange(4))
    return through(script(chance, "alone"), [operator() for operator in chosen])


def together(chance: random.Random) -> Stream[Event]:
    """A combination."""
    a, b = script(chance, "a"), script(chance, "b", sound=True)
    match chance.randrange(6):
        case 0:
            return tracks.merge(a, b, script(chance, "c"))
        case 1:
            return tracks.failover(failing("x"), b)
        case 2:
            return tracks.hedge(b, script(chance, "c", sound=True), after=chance.choice([0.0, 0.001, 1.0]))
        case 3:
            return tracks.interleave(a, b)
        case 4:
            return tracks.race(b, script(chance, "c", sound=True))
        case _:
            return tracks.prioritize(a, b)


async def answer(exchange: Exchange) -> None:
    """The words over a socket; cut if it is asked to."""
    frames = GOOD["compatible"](*WORDS)
    await exchange.head()
    for frame in frames[:20] if b"cut" in exchange.request.body else frames:
        await exchange.send(frame)
    await exchange.finish(CLOSE if b"cut" in exchange.request.body else END)


def wired(server: ScriptedServer) -> Make:
    """A track over a socket."""

    def make(chance: random.Random) -> Stream[Event]:
        prompt = chance.choice(["whole", "whole", "cut"])
        stream = stream_from(server, "compatible", transport=chance.choice(TRANSPORTS), prompt=prompt)
        chosen = chance.sample(list(operators().values()), chance.randrange(2))
        return through(stream, [operator() for operator in chosen])

    return make


@pytest.fixture(scope="module", autouse=True)
def _sdks() -> None:
    load("openai")


def settled(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return not asyncio.all_tasks(loop)
    except RuntimeError:  # it changed while it was read
        return False


def none_left(references: list[weakref.ref[StreamSession]]) -> bool:
    gc.collect()
    return not any(reference() for reference in references)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.001)


@contextmanager
def own_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def on(loop: asyncio.AbstractEventLoop | None, work: Callable[[], None]) -> None:
    """Do it on the loop, and wait; here, if there is none."""
    if loop is None:
        work()
        return

    async def doing() -> None:
        work()

    asyncio.run_coroutine_threadsafe(doing(), loop).result(20)


def run_cases(make: Make, loop: asyncio.AbstractEventLoop | None) -> None:
    """All cases, and what is left of them."""
    sessions: list[weakref.ref[StreamSession]] = []
    with Mob() as mob, impatient_switches():
        before = threads()
        for seed in range(CASES):
            case = Case(seed, make, endless=make is endless)
            try:
                on(loop, case.start)
                mob.all(case.disturb)
                case.verify()
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise
            sessions.append(weakref.ref(case.session))
        del case
        wait_until(lambda: settled(loop or shared_loop()))
        assert threads() == before
    wait_until(lambda: none_left(sessions))  # the loop's thread may be about to let go of the last


@pytest.mark.parametrize("make", [alone, together])
def test_on_the_shared_loop(make: Make) -> None:
    shared_loop()
    run_cases(make, None)


@pytest.mark.parametrize("make", [alone, together])
def test_on_a_loop_of_its_own(make: Make) -> None:
    with own_loop() as loop:
        run_cases(make, loop)


def test_what_never_ends_is_closed() -> None:
    """By who cancels or disposes, whoever it is."""
    shared_loop()
    run_cases(endless, None)


@needs_proc
def test_over_sockets() -> None:
    before = sockets()
    with ScriptedServer(answer) as server, own_loop() as loop:
        run_cases(wired(server), loop)
        asyncio.run_coroutine_threadsafe(close_clients(), loop).result(20)
        wait_until(lambda: not server.open_connections)
    assert sockets() == before


def test_what_is_wrong_is_found() -> None:
    """A stream whose text is not in order does not pass."""

    def wrong(_: random.Random) -> Stream[Event]:
        return Stream.of(pump(Scripted([WORDS[1], WORDS[0], DONE]).source()))

    with pytest.raises(AssertionError, match="1 "):
        run_cases(wrong, None)
