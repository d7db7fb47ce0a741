"""Whoever taps a source sees its bytes, its headers and its end, and the stream is none the different."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import reactivex
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import Observable

import rxstream
from rxstream import operators as rxo
from rxstream.errors import ConfigurationError, ConnectError, Disconnected
from rxstream.events import Event, TextDelta
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.providers import decoder_for
from rxstream.sources._pump import pump
from rxstream.sources._source import Source
from rxstream.tapes.read import load
from rxstream.testing import Recorder, settle, virtual_time
from tests.support.recordings import Recording, each_recording, splits
from tests.support.server import chat, messages, responses

DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def source(*steps: float | bytes | Exception, connect: Exception | None = None, read_ahead: int = 0) -> Source[bytes]:
    """A body of these pieces, with waits between them."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        await asyncio.sleep(1)
        if connect is not None:
            raise connect
        yield pieces()

    async def pieces() -> AsyncIterator[bytes]:
        for step in steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                yield step
            else:
                await asyncio.sleep(step)

    return Source(
        open=opened,
        decoder=lambda: decoder_for("openai-chat"),
        provider="openai-chat",
        model="m",
        label="s",
        read_ahead=read_ahead,
    )


async def played(source: Observable[Event], gate: Gate | None = None, *, seconds: float = 100.0) -> Recorder:
    recorder = Recorder()
    subscription = source.subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler(gate=gate)
    )
    await asyncio.sleep(seconds)
    subscription.dispose()
    await settle()
    return recorder


def since(recorder: Recorder, start: float) -> list[float]:
    return [at - start for at in recorder.times]


@virtual_time
async def test_a_tape_of_bytes_plays_as_the_stream_was() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        body = pump(source(1, DELTA % b"Hel", 2, DELTA % b"lo", 0.5, END))
        first = await played(body.pipe(rxo.record(path, kind="bytes")))
        assert (first.texts, first.completed) == (["Hel", "lo"], True)
        again = await played(rxstream.tape(path))
        assert again.texts == ["Hel", "lo"]
        assert since(again, 100) == since(first, 0)
        assert [line.t for line in load(path).lines] == [0, 1, 2, 4, 4.5, 4.5]
        assert [event.raw for event in again.items] == [event.raw for event in first.items]


@pytest.mark.parametrize(
    ("steps", "connect", "ends"),
    [
        ((1, DELTA % b"a", 1, Disconnected("gone")), None, [("error", "Disconnected")]),
        ((1, DELTA % b"a", 1), None, [("end", "")]),
        ((1, DELTA % b"a", 1000), None, []),
        ((1, DELTA % b"a", b'data: {"error":{"message":"no","type":"server_error"}}\n\n', 1), None, [("left", "")]),
        ((), ConnectError("nobody there"), [("error", "ConnectError")]),
    ],
    ids=["torn", "ended early", "cancelled", "an error in the body", "no connection"],
)
@virtual_time
async def test_each_end_is_on_the_tape_and_comes_again(
    steps: tuple[Any, ...], connect: Exception | None, ends: list[tuple[str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        first = await played(pump(source(*steps, connect=connect)).pipe(rxo.record(path, kind="bytes")))
        found = [(line.body, "" if line.error is None else line.error.kind) for line in load(path).lines if line.body]
        assert found == ends
        again = await played(rxstream.tape(path))
        assert again.texts == first.texts
        if first.error is None:
            assert "was cancelled" in str(again.error)
        else:
            assert (type(again.error), str(again.error)) == (type(first.error), str(first.error))
            assert again.ended_at is not None
            assert again.ended_at - 100 == first.ended_at


@virtual_time
async def test_bytes_are_seen_when_they_come_also_in_a_pause() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        gate = Gate()
        gate.hold("test")
        body = pump(source(1, DELTA % b"a", 1, DELTA % b"b", 1, END, read_ahead=1000))
        asyncio.get_running_loop().call_later(50, gate.release, "test")
        recorder = await played(body.pipe(rxo.record(path, kind="bytes")), gate)
        assert recorder.times[0] == 50
        assert [line.t for line in load(path).lines if line.data] == [2, 3, 4]


@virtual_time
async def test_each_request_of_a_stream_that_asks_again_is_on_its_tape() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        bodies = iter([source(Disconnected("gone")), source(DELTA % b"a" + END)])
        body = reactivex.defer(lambda _: pump(next(bodies)))
        recorder = await played(body.pipe(rxo.retry_stream(), rxo.record(path, kind="bytes")))
        assert recorder.texts == ["a"]
        assert [request.lines[-1].body for request in load(path).requests] == ["error", None]
        assert (await played(rxstream.tape(path, request=2))).texts == ["a"]
        assert isinstance((await played(rxstream.tape(path, request=1))).error, Disconnected)


@virtual_time
async def test_two_taps_see_the_same() -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "1", Path(folder) / "2"
        await played(pump(source(DELTA % b"a", END)).pipe(rxo.record(one, kind="bytes"), rxo.record(two, kind="bytes")))
        assert load(one).lines == load(two).lines


@virtual_time
async def test_what_has_no_bytes_says_so() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        recorder = await played(rxstream.from_iterable(["a"]).pipe(rxo.record(path, kind="bytes")))
        assert isinstance(recorder.error, ConfigurationError)
        assert "not bytes: record its events instead" in str(recorder.error)
        recorder = await played(Observable[Event](_one).pipe(rxo.record(path, kind="bytes")))
        assert recorder.completed
        end = load(path).end
        assert end is not None
        assert end.error is not None
        assert "no request came by" in end.error.message


def _one(observer: Any, scheduler: Any = None) -> Any:
    observer.on_next(TextDelta(text="a"))
    observer.on_completed()


TOOLS = [("c1", "weather", ['{"city": ', '"Paris"}'])]
SPOKEN = {
    "anthropic": messages("Hel", "lo ☃", thinking=["hm"], tools=TOOLS),
    "openai": responses("Hel", "lo ☃", thinking=["hm"], tools=TOOLS),
    "openai-chat": chat("Hel", "lo ☃", tools=TOOLS),
    "compatible": chat("Hel", "lo ☃", thinking=["hm"], tools=TOOLS),
}


@pytest.mark.parametrize("provider", SPOKEN)
@settings(max_examples=15)
@given(data=st.data())
def test_a_tape_plays_at_its_pace_or_faster_however_its_bytes_came(provider: str, data: st.DataObject) -> None:
    """Both kinds of tapes, through the decoder of each dialect, in virtual time: each event at its own time."""
    ending = data.draw(st.sampled_from([b"\n", b"\r\n"]))
    body = b": ping\n\n".join(SPOKEN[provider]).replace(b"\n", ending)
    cuts = data.draw(splits(body))
    gaps = data.draw(st.lists(st.integers(0, 8), min_size=len(cuts) + 1, max_size=len(cuts) + 1))
    steps: list[float | bytes | Exception] = []
    for start, stop, gap in zip([0, *cuts], [*cuts, len(body)], gaps, strict=True):
        steps += [gap / 4, body[start:stop]]
    speed: float | Literal["max"] = data.draw(st.sampled_from([0.5, 1, 8, "max"]))

    @virtual_time
    async def trial() -> None:
        with tempfile.TemporaryDirectory() as folder:
            events, raw = Path(folder) / "events.tape", Path(folder) / "bytes.tape"
            live = replace(source(*steps), decoder=lambda: decoder_for(provider), provider=provider)
            first = await played(pump(live).pipe(rxo.record(events), rxo.record(raw, kind="bytes")), seconds=1000)
            assert first.completed
            for path in (events, raw):
                begun = asyncio.get_running_loop().time()
                again = await played(rxstream.tape(path, speed=speed, keep_raw=False), seconds=1000)
                assert again.completed
                assert list(map(_said, again.items)) == list(map(_said, first.items))
                expected = [0.0 if speed == "max" else at / speed for at in first.times]
                assert since(again, begun) == pytest.approx(expected, abs=1e-5)

    trial()


def _said(event: Event) -> Any:
    return msgspec.structs.replace(event, at=0.0, raw=None)


@each_recording("chat", "responses", "anthropic")
@virtual_time
async def test_recordings_of_providers_play_to_the_same_events(recording: Recording) -> None:
    """Their bodies, tapped and played, give what the decoder gives of them, with the same end."""
    name = {"chat": "compatible", "responses": "openai", "anthropic": "anthropic"}[recording.meta["protocol"]]

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        yield pieces()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(recording.body), 997):
            yield recording.body[start : start + 997]
            await asyncio.sleep(0.5)

    body = pump(Source(open=opened, decoder=lambda: decoder_for(name), provider=name))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        first = await played(body.pipe(rxo.record(path, kind="bytes", redact=())), seconds=1e6)
        again = await played(rxstream.tape(path), seconds=1e6)
        assert [event.raw for event in again.items] == [event.raw for event in first.items]
        assert list(map(_bare, again.items)) == list(map(_bare, first.items))
        assert (again.completed, str(again.error)) == (first.completed, str(first.error))
        assert recording.body.startswith(load(path).requests[0].data)


def _bare(event: Event) -> Any:
    return msgspec.structs.replace(event, at=0.0)


@virtual_time
async def test_who_leaves_while_it_connects_leaves_a_tape_that_says_so() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tape"
        await played(pump(source(DELTA % b"a")).pipe(rxo.record(path, kind="bytes")), seconds=0.5)
        assert [line.asked is not None for line in load(path).lines] == [True, False]
        again = await played(rxstream.tape(path))
        assert "was cancelled" in str(again.error)
