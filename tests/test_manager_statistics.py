"""The figures of a manager's streams, exact in virtual time."""

from __future__ import annotations

import asyncio
import time

import reactivex as rx

import rxstream
from rxstream import operators as rxo
from rxstream.errors import Disconnected
from rxstream.events import TextDelta, UsageReported
from rxstream.manager import StreamManager
from rxstream.manager_statistics import ManagerStatistics, Totals
from rxstream.observable import Stream
from rxstream.telemetry.memory import MemorySink
from rxstream.usage import Usage
from tests.support.scripted import DONE, Scripted, Step, raising
from tests.support.virtual_loop import virtual_time

ANSWER: list[Step] = [
    2,
    "ab",
    1,
    "c",
    1,
    ("d", UsageReported(usage=Usage(output_tokens=8, provenance="reported")), DONE),
]


@virtual_time
async def test_of_one_stream() -> None:
    async with StreamManager() as manager:
        name = manager.start_stream(Stream.of(Scripted(ANSWER).events()))
        await asyncio.sleep(2.5)
        early = manager.get_statistics(name)
        assert (early.status, early.outputs, early.characters, early.elapsed) == ("active", 1, 2, 2.5)
        manager.pause_stream(name)
        manager.resume_stream(name)
        await manager.wait(name)
        figures = manager.get_statistics(name)
        assert (figures.status, figures.elapsed, figures.time_to_first_output, figures.pauses) == ("completed", 4, 2, 1)
        assert (figures.outputs, figures.characters, figures.output_tokens) == (3, 4, 8)
        assert (figures.tokens_per_second, figures.outputs_per_second) == (4, 1.5)
        assert (figures.errors, figures.handler_failures, figures.dropped, figures.waiting) == (0, 0, 0, 0)


@virtual_time
async def test_of_all() -> None:
    async with StreamManager(keep=1, max_streams=2) as manager:
        manager.start_stream(Stream.of(Scripted(ANSWER).events()))
        manager.start_stream(Stream.of(Scripted([1, "x", raising(Disconnected("gone"))]).events()))
        manager.start_stream(Stream.of(Scripted(ANSWER).events()))
        await asyncio.sleep(1.5)
        assert manager.statistics.streams == {"active": 2, "error": 1}
        await asyncio.sleep(8.5)
        assert manager.statistics == ManagerStatistics(
            streams={"completed": 2, "error": 1},
            events=11,
            outputs=7,
            characters=9,
            output_tokens=16,
            errors=1,
            handler_failures=0,
            dropped=0,
            queue_time=1,
        )


@virtual_time
async def test_a_sum_is_not_its_copy() -> None:
    async with StreamManager() as manager:
        name = manager.start_stream([TextDelta(text="a")])
        await manager.wait(name)
        totals = Totals()
        totals.add(manager.get_statistics(name))
        copy = totals.copy()
        copy.add(manager.get_statistics(name))
        assert (totals.value().streams, copy.value().streams) == ({"completed": 1}, {"completed": 2})
        assert (totals.value().characters, copy.value().characters) == (1, 2)


@virtual_time
async def test_the_queue_is_in_what_meter_and_explain_say_of_a_stream_once() -> None:
    """Of the attempt, and the tracks, that its turn began; not of one that is made later."""
    sinks = {name: MemorySink() for name in ("whole", "attempt", "track")}
    scripts = iter([Scripted([1, raising(Disconnected("gone"))]), Scripted([2, "ab", DONE])])
    source = rx.defer(lambda _on: next(scripts).events()).pipe(rxo.meter(sinks["attempt"]))
    attempts = Stream.of(source.pipe(rxo.retry_stream(delay=4, jitter=lambda seconds: seconds)))
    track = Stream.of(Scripted([1, "c", DONE]).events(), label="track").pipe(rxo.meter(sinks["track"]))
    explained = rxstream.explain(rxstream.tracks.merge(attempts, track).pipe(rxo.meter(sinks["whole"])))
    async with StreamManager(max_streams=1) as manager:
        manager.start_stream(Stream.of(Scripted([3, "x", DONE]).events()))
        began = time.time()
        await manager.wait(manager.start_stream(explained))
        direct = Stream.of(Scripted([1, "c", DONE]).events()).pipe(rxo.meter(sinks["whole"]))
        await manager.wait(manager.start_stream(direct))
    whole, alone = sinks["whole"].streams
    assert (whole.queue, whole.first_event, whole.first_chunk, whole.first_output, whole.duration) == (3, 4, 1, 4, 10)
    assert whole.opened.started_at < began
    first, second = sinks["attempt"].streams
    assert [(each.queue, each.duration) for each in (first, second, *sinks["track"].streams)] == [
        (3, 4),
        (0, 2),
        (3, 4),
    ]
    assert (alone.queue, alone.duration) == (0, 1)
    assert explained.explanation is not None
    assert (explained.explanation.queue, explained.explanation.total) == (3, 10)
