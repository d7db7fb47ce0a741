"""Pause: it takes hold at once, what is read ahead is bounded, and resuming loses and repeats nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rxstream import errors
from rxstream.events import Event, TextDelta
from rxstream.session import StreamSession
from tests.support.asking import DIALECTS, GOOD, until
from tests.support.live import TRANSPORTS, Outcome, Transport, everywhere, no_task_left, stream_from
from tests.support.server import (
    CLOSE,
    END,
    HANG,
    RESET,
    Exchange,
    Head,
    ScriptedServer,
    Signal,
    Step,
    Wait,
)

WORDS: Final = [f"word{number} " for number in range(200)]
TEXT: Final = "".join(WORDS)

each_dialect = pytest.mark.parametrize("name", DIALECTS)
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)


@pytest.fixture(autouse=True)
async def _nothing_goes_on() -> AsyncIterator[None]:
    yield
    await no_task_left()


class Track:
    """A session, and what its observer was told."""

    def __init__(
        self, server: ScriptedServer, name: str = "compatible", transport: Transport = "auto", **options: object
    ):
        self.told = Outcome()
        self.ended = asyncio.Event()
        self._stream = stream_from(server, name, transport=transport, **options)
        self.session: StreamSession

    def start(self) -> StreamSession:
        self.session = self._stream.start(self.note, self.end, self.end)
        return self.session

    def note(self, event: Event) -> None:
        self.told.events.append(event)

    def end(self, error: Exception | None = None) -> None:
        self.told.ends.append(error)
        self.ended.set()

    @property
    def count(self) -> int:
        return len(self.told.events)

    async def over(self) -> Outcome:
        async with asyncio.timeout(10):
            await self.ended.wait()
        return self.told


async def rounds(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- it takes hold ------------------------------------------------------------------------------------------------------


@each_transport
@each_dialect
async def test_nothing_comes_once_pause_has_returned(name: str, transport: Transport) -> None:
    """Called on the stream's own loop: not one event more, however many have been read and decoded by then."""
    with ScriptedServer([b"".join(GOOD[name](*WORDS))]) as server:
        track = Track(server, name, transport)
        session = track.start()
        await until(lambda: track.count > 10)
        session.pause()
        count = track.count
        assert session.status == "paused"
        await rounds(100)
        assert track.count == count
        session.resume()
        outcome = await track.over()
    outcome.assert_complete()
    assert outcome.text == TEXT


async def test_pause_in_the_handler() -> None:
    """The event in hand is the last, although the others of its piece are decoded already."""
    with ScriptedServer([b"".join(GOOD["compatible"](*WORDS))]) as server:
        track = Track(server)
        pauses = 0

        def note(event: Event) -> None:
            nonlocal pauses
            assert session.status == "active"
            track.note(event)
            if isinstance(event, TextDelta) and event.text.endswith("0 "):
                session.pause()
                pauses += 1
                asyncio.get_running_loop().call_later(0.001, session.resume)

        session = stream_from(server, "compatible").start(note, track.end, track.end)
        outcome = await track.over()
        assert session.statistics.pauses == pauses == 20
    outcome.assert_complete()
    assert outcome.text == TEXT


async def test_pause_from_another_thread() -> None:
    """At most the one event that is on its way comes after it."""
    frames = GOOD["compatible"]("word ", terminal=False)

    async def talk(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(frames[0])
        while True:
            await exchange.send(frames[1])

    with ScriptedServer(talk) as server:
        track = Track(server)
        session = track.start()
        for _ in range(20):
            before = track.count
            await until(lambda before=before: track.count > before)  # type: ignore[misc]  # mypy cannot infer a default

            def pause() -> int:
                session.pause()
                return track.count

            at = await asyncio.to_thread(pause)
            await rounds(20)
            assert track.count <= at + 1
            await asyncio.to_thread(session.resume)
        session.cancel()
        await server.requests[0].left.wait_async()


async def test_pause_before_anything_has_come() -> None:
    """A session that is paused at once asks, and delivers nothing until it is resumed."""
    with ScriptedServer(GOOD["compatible"]("Hel", "lo")) as server:
        track = Track(server)
        session = track.start()
        session.pause()
        await until(lambda: session.statistics.read_ahead > 0)
        assert track.count == 0
        session.resume()
        outcome = await track.over()
    assert outcome.text == "Hello"
    outcome.assert_complete()


# --- what is read ahead -------------------------------------------------------------------------------------------------


async def test_reading_ahead_is_bounded() -> None:
    """While it is paused, reading goes on to the limit and no further; the statistics show how far."""
    limit = 20_000

    async def check(name: str, transport: Transport) -> None:
        *opening, text = GOOD[name]("x" * 200, terminal=False)

        async def talk(exchange: Exchange) -> None:
            await exchange.head()
            for frame in opening:
                await exchange.send(frame)
            for number in itertools.count(3):
                await exchange.send(text.replace(b'"sequence_number":3', b'"sequence_number":%d' % number) * 10)

        with ScriptedServer(talk) as server:
            track = Track(server, name, transport, limits={"read_ahead_bytes": limit})
            session = track.start()
            await until(lambda: track.count > 5)
            session.pause()
            assert session.statistics.holds == ("pause",)
            await until(lambda: session.statistics.read_ahead >= limit)
            await rounds(100)
            assert session.statistics.read_ahead < limit + 300_000, "one piece may go over it, and no second one"
            held = session.statistics.read_ahead
            await rounds(100)
            assert session.statistics.read_ahead == held
            session.cancel()
            await server.requests[0].left.wait_async()
            await until(lambda: session.statistics.read_ahead == 0)

    await everywhere(check)


async def test_the_server_is_slowed_down_in_the_end() -> None:
    """When all buffers are full, the system's too, the server cannot send any more; and goes on when we do."""
    frames = GOOD["compatible"]("x" * 60_000, terminal=False)
    sent = 0

    async def talk(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.head()
        await exchange.send(frames[0])
        while True:
            await exchange.send(frames[1])
            sent += 1

    with ScriptedServer(talk) as server:
        track = Track(server, limits={"read_ahead_bytes": 100_000})
        session = track.start()
        await until(lambda: track.count > 2)
        session.pause()
        stuck, quiet = -1, 0
        while quiet < 10:  # nothing was taken for a tenth of a second
            await asyncio.sleep(0.01)
            stuck, quiet = (stuck, quiet + 1) if stuck == sent else (sent, 0)
        assert stuck < 1000, "60 MB were sent to somebody who does not read"
        session.resume()
        await until(lambda: sent > stuck + 100)
        session.cancel()
        await server.requests[0].left.wait_async()


# --- resume -------------------------------------------------------------------------------------------------------------


@given(
    stops=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 12)), max_size=12),
    cuts=st.lists(st.integers(1, 4000), max_size=12),
    name=st.sampled_from(list(DIALECTS)),
    transport=st.sampled_from(TRANSPORTS),
    read_ahead=st.sampled_from([1, 500, 1_000_000]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_resume_loses_and_repeats_nothing(
    stops: list[tuple[int, int]], cuts: list[int], name: str, transport: Transport, read_ahead: int
) -> None:
    """Wherever it is paused, for however long, and however the answer is cut into pieces: the text is the script's."""
    body = b"".join(GOOD[name](*WORDS))
    marks = sorted({cut % len(body) for cut in cuts} | {0, len(body)})
    pieces: list[Step] = [body[start:stop] for start, stop in itertools.pairwise(marks)]

    async def play() -> None:
        with ScriptedServer(pieces) as server:
            track = Track(server, name, transport, limits={"read_ahead_bytes": read_ahead})
            session = track.start()
            for more, pause in stops:
                target = track.count + more
                await until(lambda target=target: track.count >= target or track.ended.is_set())  # type: ignore[misc]
                session.pause()
                count, over = track.count, track.ended.is_set()
                await rounds(pause)
                assert (track.count, track.ended.is_set()) == (count, over)
                session.resume()
            outcome = await track.over()
            outcome.assert_complete()
            assert outcome.text == TEXT
            assert session.statistics.read_ahead == 0
            assert session.statistics.characters == len(TEXT)

    asyncio.run(play())


# --- what happens meanwhile ---------------------------------------------------------------------------------------------


ENDS: Final[dict[str, tuple[Step, type[errors.StreamError]]]] = {
    "reset": (RESET, errors.Disconnected),
    "cut": (CLOSE, errors.Disconnected),
    "ended": (END, errors.StreamIncomplete),
}


@pytest.mark.parametrize("way", ENDS)
async def test_the_server_leaves_during_a_pause(way: str) -> None:
    """What was read ahead is delivered first, when it is resumed; then comes the error, with all of it."""
    step, kind = ENDS[way]

    async def check(name: str, transport: Transport) -> None:
        paused, read = Signal(), Signal()
        first, *rest = GOOD[name](*WORDS, terminal=False)
        with ScriptedServer([Head(), first, Wait(paused), *rest, Wait(read), step]) as server:
            track = Track(server, name, transport)
            session = track.start()
            await until(lambda: track.count > 0)
            session.pause()
            count = track.count
            paused.set()
            size = sum(map(len, rest))
            await until(lambda: session.statistics.read_ahead == size)
            read.set()
            await until(lambda: not server.open_connections or way == "ended")
            await rounds(50)
            assert (track.count, track.told.ends, session.status) == (count, [], "paused")
            session.resume()
            outcome = await track.over()
        assert type(outcome.error) is kind
        assert outcome.text == TEXT
        outcome.assert_cut()

    await everywhere(check)


async def test_a_pause_at_the_end() -> None:
    """The end waits, too: a paused session is not completed until it is resumed."""
    with ScriptedServer([b"".join(GOOD["compatible"]("Hel", "lo"))]) as server:
        told = Outcome()
        ended = asyncio.Event()

        def note(event: Event) -> None:
            told.events.append(event)
            if len(told.events) == 2:
                session.pause()

        session = stream_from(server, "compatible").start(note, None, ended.set)
        await until(lambda: len(told.events) == 2)
        await rounds(100)
        assert (session.status, len(told.events)) == ("paused", 2)
        session.resume()
        await ended.wait()
        assert session.status == "completed"
    assert told.text == "Hello"


async def test_cancel_during_a_pause() -> None:
    """What was read ahead is dropped, and the connection closed at once."""

    async def check(name: str, transport: Transport) -> None:
        with ScriptedServer([Head(), *GOOD[name](*WORDS, terminal=False), HANG]) as server:
            track = Track(server, name, transport)
            session = track.start()
            await until(lambda: track.count > 2)
            session.pause()
            count = track.count
            await until(lambda: session.statistics.read_ahead > 1000 or count > 190)
            session.cancel()
            assert isinstance(track.told.error, errors.Cancelled)
            assert track.told.error.partial == track.told.response
            await server.requests[0].left.wait_async()
            assert track.count == count

    await everywhere(check)


async def test_tracks_are_paused_one_by_one() -> None:
    """Pausing one of two streams leaves the other alone."""
    with ScriptedServer(GOOD["compatible"](*WORDS)) as server:
        one, other = Track(server), Track(server)
        held = one.start()
        held.pause()
        other.start()
        outcome = await other.over()
        outcome.assert_complete()
        assert one.count == 0
        held.resume()
        assert (await one.over()).text == TEXT
