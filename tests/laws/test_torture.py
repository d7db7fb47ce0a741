"""Torture: every await and every socket operation of a good stream fails once, in every way that it may fail.

Whatever fails, and wherever: one end is told, and it is a completion with all of the text, or an error of ours that holds
exactly what was delivered; no task and no socket is left; and the next request through the same client is answered. The
same where nothing fails and somebody acts: disposes, pauses, or shuts the loop down.

The server sends a piece of the answer only when the loop has nothing left to do, so that each piece is awaited, and the stream is
paused in its midst. A round is over when three runs have ended without having come to the point at which something was to
happen.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Literal

import pytest
from reactivex import Observable

from rxstream.errors import ConfigurationError, LoopShutDown
from rxstream.events import Event, Finished
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.operators import retry_stream
from rxstream.sources._clients import load
from rxstream.sources.sdk import close_clients
from tests.support.asking import DIALECTS, GOOD, until
from tests.support.leaks import needs_proc, sockets
from tests.support.live import TRANSPORTS, Outcome, Transport, no_task_left, stream_from
from tests.support.server import Exchange, Head, ScriptedServer, Signal
from tests.support.torture import AWAITS, BREAKS, Plan, TorturedSocket, TortureLoop, Where, fault
from tests.support.virtual_loop import settle

WORDS: Final = ("Hel", "lo ", "you")
TEXT: Final = "".join(WORDS)
PATIENCE: Final = 10.0
LONG: Final = bool(os.environ.get("RXSTREAM_LONG"))
"""Whether there is time for what finds less than it takes."""

pytestmark = needs_proc
each_dialect = pytest.mark.parametrize("name", DIALECTS)
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)


@pytest.fixture(scope="module", autouse=True)
def _sdks() -> None:
    """Loaded before, so that it is no part of a run."""
    load("openai")
    load("anthropic")


class Run:
    """One stream, its subscriber, and who acts upon it."""

    def __init__(self, loop: TortureLoop) -> None:
        self.outcome = Outcome()
        self.disposed = False
        self._ended_before = False
        self._loop = loop
        self._gate = Gate()
        self._main = asyncio.current_task()
        self._over = asyncio.Event()

    async def of(self, stream: Stream[Event]) -> None:
        """Subscribe, pause after two events until three pieces more have come, and wait for the end."""
        scheduler = LoopScheduler(gate=self._gate)
        self._subscription = stream.subscribe(self._on_next, self._end, self._end, scheduler=scheduler)
        async with asyncio.timeout(PATIENCE):
            await self._over.wait()

    def _on_next(self, event: Event) -> None:
        assert not self._gate.closed
        assert not self.disposed
        self.outcome.events.append(event)
        if len(self.outcome.events) == 2:
            self._gate.hold("pause")
            self._wait_for_idle(3)

    def _wait_for_idle(self, times: int) -> None:
        if times:
            self._loop.when_idle(partial(self._wait_for_idle, times - 1))
        else:
            self._gate.release("pause")

    def _end(self, error: Exception | None = None) -> None:
        assert not self.disposed
        assert isinstance(error, LoopShutDown) or not self._gate.closed
        self.outcome.ends.append(error)
        self._over.set()

    # --- what may happen at a point -----------------------------------------------------------------------------------

    def dispose(self) -> None:
        self.disposed = True
        self._ended_before = bool(self.outcome.ends)
        self._subscription.dispose()
        self._over.set()

    def shut_down(self) -> None:
        """As `asyncio.run` does at its end."""
        for task in asyncio.all_tasks(self._loop) - {self._main}:
            task.cancel()

    def pause(self) -> None:
        self._gate.hold("at a point")
        self._loop.when_idle(partial(self._gate.release, "at a point"))

    # --- what must hold -----------------------------------------------------------------------------------------------

    def assert_one_end(self) -> None:
        """The whole text and its end, or an error of ours that holds what was delivered."""
        assert TEXT.startswith(self.outcome.text)
        assert [event.seq for event in self.outcome.events] == list(range(len(self.outcome.events)))
        if self.outcome.ends == [None]:
            self.outcome.assert_complete()
            assert self.outcome.text == TEXT
        else:
            self._assert_exact()

    def _assert_exact(self) -> None:
        [error] = self.outcome.ends
        if isinstance(error, ConfigurationError):
            assert self.outcome.events == []
        else:
            assert self.outcome.error.partial == self.outcome.response

    def assert_whole(self) -> None:
        assert self.outcome.ends == [None]
        self.assert_one_end()

    def assert_shut_down(self) -> None:
        assert self.outcome.ends == [None] or isinstance(self.outcome.error, LoopShutDown)
        self.assert_one_end()

    def assert_silent(self) -> None:
        """Nothing came once it was disposed; that, `_on_next` and `_end` have seen."""
        assert len(self.outcome.ends) == (self._ended_before or not self.disposed)
        assert TEXT.startswith(self.outcome.text)

    def assert_left(self) -> None:
        """Silent, if it was left before it failed."""
        if self.disposed:
            self.assert_silent()
        else:
            self.assert_one_end()

    def assert_asked_again(self, *, after_output: str) -> None:
        """The whole text, once; or an error after which nobody asks again, or after content, if none is to be risked."""
        assert TEXT.startswith(self.outcome.response.text)
        assert after_output == "restart" or TEXT.startswith(self.outcome.text)
        if self.outcome.ends == [None]:
            assert self.outcome.response.text == TEXT
            assert isinstance(self.outcome.events[-1], Finished)
            return
        self._assert_exact()
        [error] = self.outcome.ends
        assert not getattr(error, "retryable", False) or (after_output == "fail" and self.outcome.text)


class LeftInAPause(Run):
    """So that what comes of a disposal may fail, too."""

    def _wait_for_idle(self, times: int) -> None:
        if times == 1:
            self.dispose()
        super()._wait_for_idle(times)


class LeftInACallback(Run):
    """By the observer, as it is called."""

    def _on_next(self, event: Event) -> None:
        super()._on_next(event)
        if len(self.outcome.events) == 3:
            self.dispose()


class ShutDownInAPause(Run):
    """The loop goes down, and nobody will open the gate any more."""

    def _wait_for_idle(self, times: int) -> None:
        if times == 1:
            self.shut_down()
        else:
            super()._wait_for_idle(times)


Act = Callable[[str], object]
Operator = Callable[[Observable[Event]], Observable[Event]]
Deed = Callable[[Run], Act]
Check = Callable[[Run], None]


class Rack:
    """A server, a loop, and one stream after the other through the same client.

    Args:
        name: The provider.
        transport: What carries the bytes.
        operators: What stands behind the stream.
        keep: Whether each run finds the connection of the one before, or has to make one.
    """

    def __init__(self, name: str, transport: Transport, *operators: Operator, keep: bool = False) -> None:
        self._ask = partial(stream_from, name=name, transport=transport)
        self._operators = operators
        self._keep = keep
        self._frames = GOOD[name](*WORDS)
        self.points: list[str] = []
        """At which points something happened, and how it ended."""
        self.reports: list[str] = []
        """What the loop's exception handler was told."""

    def torture(self, where: Where, deed: Deed, check: Check, make: Callable[[TortureLoop], Run] = Run) -> None:
        """A run, made by `make`, for each point of the kind `where`, in which the deed is done there."""
        with (
            pytest.MonkeyPatch.context() as patch,
            ScriptedServer(self._answer) as server,
            asyncio.Runner(loop_factory=TortureLoop) as runner,
        ):
            patch.setattr(socket, "socket", TorturedSocket)
            loop = runner.get_loop()
            assert isinstance(loop, TortureLoop)
            self._server, self._loop, self.reports = server, loop, loop.reports
            runner.run(self._rounds(where, deed, check, make))

    async def _rounds(self, where: Where, deed: Deed, check: Check, make: Callable[[TortureLoop], Run]) -> None:
        before = sockets()
        await self._good()
        before += 2 * self._keep  # our end and the server's
        missed = 0
        while missed < 3:  # whether a new connection is waited for may differ
            plan = Plan(where, len(self.points))
            try:
                run = make(self._loop)
                plan.act = deed(run)
                await self._tortured(plan, run)
                check(run)
                await self._good()
                await until(lambda: sockets() == before)
            except (Exception, AssertionError) as error:
                error.add_note(f"at {plan.struck}")
                raise
            if plan.struck:
                self.points.append(f"{plan.struck}: {run.outcome.ends}")
            missed = 0 if plan.struck else missed + 1
        await close_clients()

    async def _tortured(self, plan: Plan, run: Run) -> None:
        self._loop.plan = plan
        try:
            await run.of(self._ask(self._server, prompt="tortured").pipe(*self._operators))
            async with asyncio.timeout(PATIENCE):
                while others := asyncio.all_tasks() - {asyncio.current_task()}:
                    await asyncio.wait(others)  # and no busy loop: the server ends its answer when this one is idle
            await settle()  # who acts soon has done so
        finally:
            self._loop.plan = None

    async def _good(self) -> None:
        async with asyncio.timeout(PATIENCE):
            answer = await self._ask(self._server, prompt="good")
        assert answer.text == TEXT
        await no_task_left()
        await until(lambda: self._server.open_connections == self._keep)

    async def _answer(self, exchange: Exchange) -> None:
        """One piece after the other as the client waits for it; or, to a good request, at once, and closed."""
        if b"tortured" not in exchange.request.body:
            await exchange.head(Head(chunked=self._keep))
            await exchange.send(b"".join(self._frames))
            await exchange.end()
            return
        self._at_work(1)
        try:
            await exchange.head(Head(chunked=True))
            for frame in self._frames:
                await self._idle()
                await exchange.send(frame)
            await self._idle()
            await exchange.end()
        finally:
            self._at_work(-1)

    async def _idle(self) -> None:
        idle = Signal()
        with suppress(RuntimeError):
            self._loop.when_idle(partial(self._go_on, idle))
            self._at_work(-1)
            await idle.wait_async()

    def _go_on(self, idle: Signal) -> None:
        self._at_work(1)
        idle.set()

    def _at_work(self, more: int) -> None:
        with suppress(RuntimeError):  # the loop is closed: the client is about to leave
            self._loop.at_work(more)


def soon(act: Callable[[], None]) -> None:
    """Not now, while the await returns, but when whoever awaited waits again."""
    asyncio.get_running_loop().call_soon(act)


def failing(error: Callable[[], Exception]) -> Deed:
    return lambda _: fault(error)


def breaking(act: Act) -> Deed:
    return lambda _: act


AWAIT_DEEDS: Final[dict[str, tuple[Deed, Check]]] = {
    **{kind: (failing(error), Run.assert_one_end) for kind, error in AWAITS.items()},
    "dispose": (lambda run: lambda _: run.dispose(), Run.assert_silent),
    "dispose, soon": (lambda run: lambda _: soon(run.dispose), Run.assert_silent),
    "shut down": (lambda run: lambda _: run.shut_down(), Run.assert_shut_down),
    "shut down, soon": (lambda run: lambda _: soon(run.shut_down), Run.assert_shut_down),
    "pause": (lambda run: lambda _: run.pause(), Run.assert_whole),
}
SOCKET_DEEDS: Final[dict[str, tuple[Deed, Check]]] = {
    kind: (breaking(act), Run.assert_one_end) for kind, act in BREAKS.items()
}
AGAIN: Final[list[tuple[Where, Deed]]] = [
    *(("await", failing(error)) for error in AWAITS.values()),
    *(("socket", breaking(act)) for act in BREAKS.values()),
]
OF_A_SOCKET: Final = ("socket", "connect", "getsockopt", "send", "recv")
"""Operations that every new connection comes to."""


@pytest.mark.parametrize("deed", AWAIT_DEEDS if LONG else ["reset", *list(AWAIT_DEEDS)[len(AWAITS) :]])
@each_transport
@each_dialect
def test_every_await(name: str, transport: Transport, deed: str) -> None:
    rack = Rack(name, transport)
    rack.torture("await", *AWAIT_DEEDS[deed])
    assert len(rack.points) > 10
    assert rack.reports == []


@pytest.mark.parametrize("deed", AWAITS if LONG else ["reset"])
@pytest.mark.parametrize("left", [LeftInAPause, LeftInACallback, ShutDownInAPause])
@each_transport
@each_dialect
def test_every_await_of_one_that_is_left(name: str, transport: Transport, left: type[Run], deed: str) -> None:
    """Also those of cancelling it and of closing its connection."""
    rack = Rack(name, transport)
    rack.torture("await", AWAIT_DEEDS[deed][0], Run.assert_left, left)
    assert len(rack.points) > 8
    assert not [report for report in rack.reports if "gate.py" not in report]  # a wait that is given up cannot fail


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("deed", SOCKET_DEEDS if LONG else ["reset"])
@each_transport
@each_dialect
def test_every_socket_operation(name: str, transport: Transport, deed: str, *, keep: bool) -> None:
    """Of a connection that is made for it, or was kept from the run before."""
    rack = Rack(name, transport, keep=keep)
    rack.torture("socket", *SOCKET_DEEDS[deed])
    assert len(rack.points) > 8
    assert keep or not [what for what in OF_A_SOCKET if f" {what}: " not in f"{rack.points}"]
    if deed != "no memory":  # of which asyncio itself tells the loop
        assert rack.reports == []


@pytest.mark.parametrize("after_output", ["fail", "restart", "buffer"])
@each_transport
@each_dialect
def test_asked_again_the_text_is_whole(
    name: str, transport: Transport, after_output: Literal["fail", "restart", "buffer"]
) -> None:
    """With `retry_stream` behind it a fault costs a request, and no text."""
    again = retry_stream(after_output=after_output, delay=0, budget=None)
    for where, deed in AGAIN if LONG else AGAIN[len(AWAITS) :][:1]:
        rack = Rack(name, transport, again)
        rack.torture(where, deed, partial(Run.assert_asked_again, after_output=after_output))
        assert len(rack.points) > 8


def test_a_fault_is_noticed() -> None:
    """A run that is spoilt is not passed: the torture can fail."""

    def spoil(run: Run) -> Act:
        return lambda _: run.outcome.events.clear()

    with pytest.raises(AssertionError):
        Rack("compatible", "httpx2").torture("await", spoil, Run.assert_one_end)
