"""Cancel: however it is done and however far the stream has come, the server sees the connection close at once.

The server does the measuring. A busy machine may delay a close: the best of a few tries has to be quick, and every
single one has to close.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast

import pytest
from reactivex import abc
from reactivex import operators as ops

from rxstream import errors
from rxstream.events import Event, Finished, TextDelta, ToolCallDelta
from tests.support.asking import DIALECTS, GOOD
from tests.support.live import TRANSPORTS, Transport, no_task_left, stream_from
from tests.support.server import HANG, Head, ScriptedServer, Signal, Step, Tell

CLOSED_WITHIN: Final = 0.05
"""Seconds from the cancel to the close that the server sees."""
TRIES: Final = 5
PROJECT: Final = Path(__file__).parents[2]

Phase = Literal["headers", "first event", "text", "tool"]
"""What the stream is waiting for, or in the midst of, when it is cancelled."""

each_dialect = pytest.mark.parametrize("name", DIALECTS)
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)
each_phase = pytest.mark.parametrize("phase", ["headers", "first event", "text", "tool"])
each_said = pytest.mark.parametrize("phase", ["text", "tool"])


@pytest.fixture(autouse=True)
async def _nothing_goes_on() -> AsyncIterator[None]:
    yield
    await no_task_left()


def script_of(name: str, phase: Phase, sent: Signal) -> Sequence[Step]:
    """An answer that comes as far as `phase` and no further."""
    call = ("call_1", "weather", ['{"city": ', '"Par'])
    frames: dict[Phase, Sequence[Step]] = {
        "headers": [],
        "first event": [Head()],
        "text": [Head(), *GOOD[name]("Hel", "lo", terminal=False)],
        "tool": [Head(), *GOOD[name]("Hel", tools=[call], terminal=False)],
    }
    return [*frames[phase], Tell(sent), HANG]


def is_last(event: Event) -> bool:
    """Whether it is the last that comes before the server falls silent."""
    if isinstance(event, ToolCallDelta):
        return event.arguments == '"Par'
    return isinstance(event, TextDelta) and event.text == "lo"


class Run:
    """One stream that is to be cancelled."""

    def __init__(self, server: ScriptedServer, name: str, transport: Transport, phase: Phase, sent: Signal) -> None:
        self.stream = stream_from(server, name, transport=transport)
        self.events: list[Event] = []
        self.errors: list[Exception] = []
        self._said = phase in ("text", "tool")
        self._sent = sent
        self._arrived = Signal()

    def note(self, event: Event) -> None:
        self.events.append(event)
        if is_last(event):
            self._arrived.set()

    def complete(self) -> None:
        raise AssertionError("it completed")

    async def far_enough(self) -> float:
        """Wait until it has come as far as its phase, on both sides; the time at which it had."""
        await self._sent.wait_async()
        if self._said:
            await self._arrived.wait_async()
        return time.monotonic()

    def far_enough_for_threads(self) -> float:
        self._sent.wait()
        if self._said:
            self._arrived.wait()
        return time.monotonic()

    def subscribe(self) -> abc.DisposableBase:
        return self.stream.subscribe(self.note, self.errors.append, self.complete)


Way = Callable[[Run], Awaitable[float]]
"""Starts the stream, cancels it when it has come so far, and gives the time at which it did."""


async def by_dispose(run: Run) -> float:
    subscription = run.subscribe()
    at = await run.far_enough()
    subscription.dispose()
    return at


async def by_dispose_in_a_thread(run: Run) -> float:
    subscription = run.subscribe()

    def dispose() -> float:
        at = run.far_enough_for_threads()
        subscription.dispose()
        return at

    return await asyncio.to_thread(dispose)


async def by_session(run: Run) -> float:
    session = run.stream.start(run.note, run.errors.append, run.complete)
    at = await run.far_enough()
    session.cancel("enough")
    error = run.errors.pop()
    assert isinstance(error, errors.Cancelled)
    assert (error.reason, session.status, error.partial) == ("enough", "cancelled", session.partial)
    return at


async def by_session_in_a_thread(run: Run) -> float:
    session = run.stream.start(run.note, None, run.complete)

    def cancel() -> float:
        at = run.far_enough_for_threads()
        session.cancel()
        return at

    at = await asyncio.to_thread(cancel)
    with pytest.raises(errors.Cancelled):
        await session
    return at


async def by_the_end_of_a_block(run: Run) -> float:
    with run.stream.start(run.note, None, run.complete):
        return await run.far_enough()


async def by_cancelling_an_await(run: Run) -> float:
    async def wait() -> Any:
        return await run.stream.pipe(ops.do_action(run.note))

    return await cancel_a_task(run, wait())


async def by_cancelling_an_async_for(run: Run) -> float:
    async def iterate() -> None:
        async for event in run.stream:
            run.note(event)

    return await cancel_a_task(run, iterate())


async def cancel_a_task(run: Run, work: Any) -> float:
    task = asyncio.ensure_future(work)
    at = await run.far_enough()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return at


async def by_timeout(run: Run) -> float:
    """``asyncio.timeout`` around an await."""
    limit = asyncio.timeout(None)

    async def wait() -> None:
        async with limit:
            await run.stream.pipe(ops.do_action(run.note))

    task = asyncio.ensure_future(wait())
    at = await run.far_enough()
    limit.reschedule(asyncio.get_running_loop().time())
    with pytest.raises(TimeoutError):
        await task
    return at


WAYS: Final[dict[str, Way]] = {
    name.removeprefix("by_"): way for name, way in list(globals().items()) if name.startswith("by_")
}


async def closes_at_once(way: Way, name: str, transport: Transport, phase: Phase) -> None:
    """The best try is quick, each try closes, and nobody is told anything after a cancel."""
    took: list[float] = []
    while not took or took[-1] > CLOSED_WITHIN:
        assert len(took) < TRIES, f"the server saw the connection close after {took} s"
        sent = Signal()
        with ScriptedServer(script_of(name, phase, sent)) as server:
            run = Run(server, name, transport, phase, sent)
            at = await way(run)
            told = len(run.events)
            await server.requests[0].left.wait_async()
            took.append(server.wait_closed(since=at))
            await no_task_left()
        assert len(run.events) == told
        assert not any(isinstance(event, Finished) for event in run.events)
        assert run.errors == []
        assert len(server.requests) == 1


@pytest.mark.parametrize("way", WAYS)
@each_phase
@each_transport
@each_dialect
async def test_cancel(way: str, name: str, transport: Transport, phase: Phase) -> None:
    """Dispose, a session, a task and a timeout, in every phase."""
    await closes_at_once(WAYS[way], name, transport, phase)


async def by_take(run: Run) -> float:
    """An operator that has enough."""
    ended, at = asyncio.Event(), 0.0

    def end() -> None:
        nonlocal at
        at = time.monotonic()
        ended.set()

    enough = ops.take_while(lambda event: not is_last(cast("Event", event)), inclusive=True)
    run.stream.pipe(enough).subscribe(run.note, run.errors.append, end)
    await ended.wait()
    return at


async def by_break(run: Run) -> float:
    async for event in run.stream:
        run.note(event)
        if is_last(event):
            break
    return time.monotonic()


async def by_an_exception(run: Run) -> float:
    """One that leaves the body of ``async for``."""

    async def iterate() -> None:
        async for event in run.stream:
            run.note(event)
            if is_last(event):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await iterate()
    return time.monotonic()


async def by_aclose(run: Run) -> float:
    items = aiter(run.stream)
    while True:
        event = await anext(items)
        run.note(event)
        if is_last(event):
            break
    at = time.monotonic()
    await items.aclose()  # type: ignore[attr-defined]  # the iterator of a Stream has it, as an async generator has
    return at


async def by_a_handler_that_raises(run: Run) -> float:
    at = 0.0

    def note(event: Event) -> None:
        nonlocal at
        run.note(event)
        if is_last(event):
            at = time.monotonic()
            raise ZeroDivisionError

    ended: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    run.stream.subscribe(note, ended.set_result)
    assert isinstance(await ended, ZeroDivisionError)
    return at


async def by_disposing_in_the_handler(run: Run) -> float:
    at, done = 0.0, asyncio.Event()

    def note(event: Event) -> None:
        nonlocal at
        run.note(event)
        if is_last(event):
            at = time.monotonic()
            subscription.dispose()
            done.set()

    subscription = run.stream.subscribe(note, run.errors.append, run.complete)
    await done.wait()
    return at


async def by_break_in_a_plain_for(run: Run) -> float:
    """In a thread without a loop, as in a script."""

    def iterate() -> float:
        for event in run.stream:
            run.note(event)
            if is_last(event):
                break
        return time.monotonic()

    return await asyncio.to_thread(iterate)


LEAVING: Final[dict[str, Way]] = {
    way.__name__.removeprefix("by_"): way
    for way in (
        by_take,
        by_break,
        by_an_exception,
        by_aclose,
        by_a_handler_that_raises,
        by_disposing_in_the_handler,
        by_break_in_a_plain_for,
    )
}


@pytest.mark.parametrize("way", LEAVING)
@each_said
@each_transport
@each_dialect
async def test_leave(way: str, name: str, transport: Transport, phase: Phase) -> None:
    """Whoever has heard enough leaves, and the connection closes, without any collection of garbage."""
    await closes_at_once(LEAVING[way], name, transport, phase)


@each_transport
async def test_take_one(transport: Transport) -> None:
    """``take(1)``: the first event is delivered and the request closed."""
    with ScriptedServer([Head(), *GOOD["compatible"]("Hel", terminal=False), HANG]) as server:
        response = await stream_from(server, "compatible", transport=transport).take(1)
        assert (response.id, response.text) == ("chatcmpl-1", "")
        await server.requests[0].left.wait_async()


@each_transport
async def test_cancelled_before_it_is_sent(transport: Transport) -> None:
    """A subscription that is disposed in the same breath asks nobody."""
    with ScriptedServer([HANG]) as server:
        stream_from(server, "compatible", transport=transport).subscribe().dispose()
        stream_from(server, "compatible", transport=transport).start().cancel()
        await asyncio.sleep(0)
        await no_task_left()
    assert server.requests == []
    assert server.connections == 0


async def test_a_cancelled_session_tells_once() -> None:
    """From many threads at the same time, the observer is told of one end."""
    sent = Signal()
    told: list[Exception] = []
    with ScriptedServer(script_of("compatible", "text", sent)) as server:
        session = stream_from(server, "compatible").start(None, told.append)
        await sent.wait_async()
        threads = [threading.Thread(target=session.cancel, args=(f"thread {number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        with pytest.raises(errors.Cancelled):
            await session
        await server.requests[0].left.wait_async()
        for thread in threads:
            thread.join()
    assert [type(error) for error in told] == [errors.Cancelled]


# --- Ctrl-C -------------------------------------------------------------------------------------------------------------

SCRIPTS: Final[dict[str, Phase]] = {
    "stream.run()": "headers",
    "for event in stream: pass": "text",
    "asyncio.run(iterate())": "text",
    "manage()": "text",
    "asyncio.run(amanage())": "text",
}
"""What a script does, and how far it comes before it is interrupted."""

PREAMBLE: Final = """
import asyncio, sys
import rxstream

stream = rxstream.stream("compatible:m", "hello", base_url=sys.argv[1], api_key="k")

async def iterate():
    async for event in stream:
        pass

class Slow(rxstream.StreamHandler):
    async def on_token_received(self, token, index):
        await asyncio.sleep(0.01)

def handlers():
    return rxstream.ConsoleStreamHandler(file=sys.stderr), rxstream.BufferedStreamHandler(), Slow()

def manage():
    with rxstream.StreamManager() as manager:
        manager.get_result(manager.start_stream(stream, handlers=handlers()))

async def amanage():
    async with rxstream.StreamManager() as manager:
        await manager.wait(manager.start_stream(stream, handlers=handlers()))

"""


@contextlib.contextmanager
def interrupted(script: str, phase: Phase) -> Iterator[Callable[[], tuple[float, str]]]:
    """A script that streams; what is given sends it a SIGINT, and tells when it had closed and what it said."""
    sent = Signal()
    with ScriptedServer(script_of("compatible", phase, sent)) as server:
        command = [sys.executable, "-c", PREAMBLE + script, f"{server.url}/v1"]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:

            def interrupt() -> tuple[float, str]:
                sent.wait(60)
                at = time.monotonic()
                process.send_signal(signal.SIGINT)
                closed = server.wait_closed(since=at)
                return closed, process.communicate(timeout=30)[1]

            try:
                yield interrupt
            finally:
                process.kill()


def interrupt_all() -> dict[str, tuple[float, str]]:
    with contextlib.ExitStack() as stack:
        running = {script: stack.enter_context(interrupted(script, phase)) for script, phase in SCRIPTS.items()}
        return {script: interrupt() for script, interrupt in running.items()}


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
def test_ctrl_c() -> None:
    """Closes the connection and ends the script with nothing but its own KeyboardInterrupt.

    Python loses an interrupt that falls into a finalizer, as it would in any script: that is tried once more.
    """
    try:
        ends = interrupt_all()
    except TimeoutError:
        ends = interrupt_all()
    for script, (_, said) in ends.items():
        assert said.splitlines()[-1] == "KeyboardInterrupt", f"{script}: {said}"
        assert not any(word in said for word in ("never", "destroyed", "ignored", "Warning")), f"{script}: {said}"
    assert all("its manager was closed" in said for script, (_, said) in ends.items() if "manage" in script), ends
    assert min(seconds for seconds, _ in ends.values()) < CLOSED_WITHIN, ends
