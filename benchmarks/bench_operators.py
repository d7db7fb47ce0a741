"""What each operator costs an event, beside RxPY's own or the nearest one, aiostream's, and a plain async generator.

CPU time, in ns an event, net of the same run without the operator; the median of interleaved rounds. All run on one asyncio
loop: a source emits 64 events, gives way to the loop, and goes on; it stops while its gate is held. RxPY's time operators are
given the loop's scheduler: with their default, a thread an item, they cost twenty times as much. aiostream is not installed
with the project (GPL): where it is missing its column is empty.

    python benchmarks/bench_operators.py [--smoke] [--rounds N] [--only WORD]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable

from rxstream import Bulkhead, CircuitBreaker, MemorySink, RateLimiter, tracks
from rxstream import operators as rxo
from rxstream.events import Event, Finished, TextDelta
from rxstream.gate import Gate
from rxstream.limiter import TokenBucket
from rxstream.loop import LoopScheduler

BURST = 64
Operator = Callable[[Observable[Any]], Observable[Any]]
Run = Callable[[int], Awaitable[object]]


def events(count: int, label: str = "") -> list[Event]:
    """Deltas as a model sends them, and the end."""
    return [
        *(TextDelta(source=label, text=f"word{n % 7} ", seq=n, at=1.0) for n in range(count)),
        Finished(source=label, reason="stop"),
    ]


def source(items: Sequence[Any]) -> Observable[Any]:
    """Emits `items` on the subscriber's loop, in bursts, and obeys the gate."""

    def subscribe(observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        on = LoopScheduler.of(scheduler)
        gate, on_next = on.gate, observer.on_next

        async def emit() -> None:
            for start in range(0, len(items), BURST):
                for item in items[start : start + BURST]:
                    if gate.closed:
                        await gate.wait()
                    on_next(item)
                await asyncio.sleep(0)
            observer.on_completed()

        task = asyncio.ensure_future(emit())
        return Disposable(lambda: task.cancel() and None)

    return Observable(subscribe)


async def consume(observable: Observable[Any]) -> None:
    """Until its end, without doing anything with what comes."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    observable.subscribe(lambda _: None, done.set_exception, lambda: done.set_result(None), scheduler=LoopScheduler())
    await done


def rx_run(*operators: Operator, label: str = "") -> Run:
    """The source through operators."""
    return lambda count: consume(source(events(count, label)).pipe(*operators))


def combined(combine: Callable[..., Observable[Any]], width: int) -> Run:
    """So many sources through a function that makes one of them; `count` events in all."""

    def run(count: int) -> Awaitable[object]:
        return consume(combine(*(source(events(count // width, f"t{n}")) for n in range(width))))

    return run


async def generated(items: Sequence[Any]) -> AsyncIterator[Any]:
    """The source as an async generator."""
    for start in range(0, len(items), BURST):
        for item in items[start : start + BURST]:
            yield item
        await asyncio.sleep(0)


def plain(*stages: Callable[[AsyncIterator[Any]], AsyncIterator[Any]]) -> Run:
    """The source as an async generator through others."""

    async def run(count: int) -> None:
        items = generated(events(count))
        for stage in stages:
            items = stage(items)
        async for _ in items:
            pass

    return run


def flowing(operator: Callable[..., Any], *arguments: Any) -> Run:
    """The source as an async generator through an operator of aiostream."""

    async def run(count: int) -> None:
        async with operator(generated(events(count)), *arguments).stream() as items:
            async for _ in items:
                pass

    return run


# --- plain async generators: what a person would write -------------------------------------------------------------------------


async def chunked(items: AsyncIterator[Any], size: int = 10) -> AsyncIterator[list[Any]]:
    held: list[Any] = []
    async for item in items:
        held.append(item)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


async def mapped(items: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for item in items:
        yield await nothing(item)


async def filtered(items: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for item in items:
        if item.source == "":
            yield item


async def queued(items: AsyncIterator[Any], size: int = 1024) -> AsyncIterator[Any]:
    queue: asyncio.Queue[Any] = asyncio.Queue(size)
    end = object()

    async def fill() -> None:
        async for item in items:
            await queue.put(item)
        await queue.put(end)

    task = asyncio.ensure_future(fill())
    while (item := await queue.get()) is not end:
        yield item
    await task


async def merged(*sources: AsyncIterator[Any]) -> AsyncIterator[Any]:
    queue: asyncio.Queue[Any] = asyncio.Queue(64)

    async def fill(items: AsyncIterator[Any]) -> None:
        async for item in items:
            await queue.put(item)

    async def all_of_them() -> None:
        await asyncio.gather(*map(fill, sources))
        await queue.put(None)

    task = asyncio.ensure_future(all_of_them())
    while (item := await queue.get()) is not None:
        yield item
    await task


def merging(width: int) -> Run:
    async def run(count: int) -> None:
        async for _ in merged(*(generated(events(count // width)) for _ in range(width))):
            pass

    return run


async def nothing(item: Any) -> Any:
    return item


def flowing_merge(width: int) -> Run:
    async def run(count: int) -> None:
        aio = aiostream()
        async with aio.merge(*(generated(events(count // width)) for _ in range(width))).stream() as items:
            async for _ in items:
                pass

    return run


async def observed(count: int) -> None:
    await consume(source(events(count)).pipe(ops.observe_on(LoopScheduler())))


# --- the table -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """Ours, and what it stands beside."""

    name: str
    ours: Run
    nearest: str = ""
    stock: Run | None = None
    aio: Run | None = None
    plain: Run | None = None
    width: int = 0
    """Of a combination: how many tracks; what is subtracted is the sources' own cost."""


def aiostream() -> Any:
    """The operators of aiostream, or None."""
    try:
        return importlib.import_module("aiostream.stream")
    except ImportError:
        return None


def rows() -> list[Row]:
    aio = aiostream()
    return [
        Row("of_type", rx_run(rxo.of_type(TextDelta)), "filter", rx_run(ops.filter(lambda e: type(e) is TextDelta))),
        Row(
            "of_track",
            rx_run(rxo.of_track("")),
            "filter",
            rx_run(ops.filter(lambda e: e.source == "")),
            aio and flowing(aio.filter, lambda e: e.source == ""),
            plain(filtered),
        ),
        Row("text", rx_run(rxo.text()), "map", rx_run(ops.map(lambda e: getattr(e, "text", "")))),
        Row("text(by='word')", rx_run(rxo.text("word"))),
        Row("segments('sentence')", rx_run(rxo.segments("sentence"))),
        Row("chunks", rx_run(rxo.chunks())),
        Row("responses", rx_run(rxo.responses()), "to_list", rx_run(ops.to_list())),
        Row(
            "buffer_tokens(10)",
            rx_run(rxo.buffer_tokens(10)),
            "buffer_with_count",
            rx_run(ops.buffer_with_count(10)),
            aio and flowing(aio.chunks, 10),
            plain(chunked),
        ),
        Row(
            "buffer_tokens(10, seconds=1)",
            rx_run(rxo.buffer_tokens(10, seconds=1.0)),
            "buffer_with_time_or_count",
            rx_run(ops.buffer_with_time_or_count(1.0, 10)),
        ),
        Row("coalesce", rx_run(rxo.coalesce())),
        Row("pace", rx_run(rxo.pace(lag=0.01))),
        Row("pace(rate=10**9)", rx_run(rxo.pace(10**9))),
        Row("rate_limit", rx_run(rxo.rate_limit(TokenBucket(10**12))), aio=aio and flowing(aio.spaceout, 0.0)),
        Row("debounce", rx_run(rxo.debounce(1.0)), "debounce", rx_run(ops.debounce(1.0))),
        Row("sample", rx_run(rxo.sample(1.0)), "sample", rx_run(ops.sample(1.0))),
        Row("progress", rx_run(rxo.progress())),
        Row("meter", rx_run(rxo.meter(MemorySink()))),
        Row("valve", rx_run(rxo.valve(Gate()))),
        Row("on_backpressure_buffer", rx_run(rxo.on_backpressure_buffer()), plain=plain(queued)),
        Row("on_backpressure_drop", rx_run(rxo.on_backpressure_drop())),
        Row("on_backpressure_latest", rx_run(rxo.on_backpressure_latest())),
        Row("on_backpressure_coalesce", rx_run(rxo.on_backpressure_coalesce())),
        Row("on_backpressure_error", rx_run(rxo.on_backpressure_error())),
        Row(
            "observe_on_loop",
            rx_run(rxo.observe_on_loop()),
            "observe_on",
            observed,
            plain=plain(queued),
        ),
        Row(
            "map_async",
            rx_run(rxo.map_async(nothing, max_concurrency=8)),
            "flat_map(create_task)",
            rx_run(ops.flat_map(lambda e: asyncio.ensure_future(nothing(e)))),
            aio and flowing(partial(aio.map, task_limit=8), nothing),
            plain(mapped),
        ),
        Row("synchronize", rx_run(rxo.synchronize())),
        Row("retry_stream", rx_run(rxo.retry_stream(budget=None)), "retry", rx_run(ops.retry(3))),
        Row("guard, 3", rx_run(rxo.guard(Bulkhead(10), RateLimiter(requests_per_minute=10**6), CircuitBreaker()))),
        Row("timeouts", rx_run(rxo.timeouts(idle=60, total=600)), "timeout", rx_run(ops.timeout(60.0))),
        Row("limit", rx_run(rxo.limit(events=10**9, characters=10**9, tokens=10**9))),
        Row("on_error_complete", rx_run(rxo.on_error_complete()), "catch", rx_run(ops.catch(rx.empty()))),
        Row("share", rx_run(rxo.share()), "share", rx_run(ops.share())),
        Row("share_replay", rx_run(rxo.share_replay()), "replay().ref_count()", rx_run(ops.replay(), ops.ref_count())),
        Row(
            "merge, 2",
            combined(tracks.merge, 2),
            "merge",
            combined(rx.merge, 2),
            aio and flowing_merge(2),
            merging(2),
            2,
        ),
        Row(
            "merge, 100",
            combined(tracks.merge, 100),
            "merge",
            combined(rx.merge, 100),
            aio and flowing_merge(100),
            merging(100),
            100,
        ),
        Row("interleave, 2", combined(tracks.interleave, 2), "merge", combined(rx.merge, 2), width=2),
        Row("interleave, 100", combined(tracks.interleave, 100), "merge", combined(rx.merge, 100), width=100),
        Row("prioritize, 2", combined(tracks.prioritize, 2), "merge", combined(rx.merge, 2), width=2),
        Row("concat_ordered, 2", combined(tracks.concat_ordered, 2), "concat", combined(rx.concat, 2), width=2),
        Row("concat_unordered, 2", combined(tracks.concat_unordered, 2), width=2),
        Row("align, 2", combined(tracks.align, 2), width=2),
        Row("race, 2", combined(tracks.race, 2), "amb", combined(rx.amb, 2), width=2),
        Row("supersede, 2", combined(tracks.supersede, 2), width=2),
        Row("hedge, 2", combined(partial(tracks.hedge, after=1.0), 2), width=2),
        Row("failover, 2", combined(tracks.failover, 2), width=2),
        Row("best_of, 2", combined(partial(tracks.best_of, score=lambda answer: len(answer.text)), 2), width=2),
        Row("vote, 2", combined(tracks.vote, 2), width=2),
        Row("compare, 2", combined(tracks.compare, 2), width=2),
        Row(
            "combine_tracks, 2",
            combined(tracks.combine_tracks, 2),
            "combine_latest",
            combined(rx.combine_latest, 2),
            width=2,
        ),
        Row(
            "five of ours",
            rx_run(
                rxo.valve(Gate()), rxo.coalesce(), rxo.rate_limit(TokenBucket(10**12)), rxo.share(), rxo.of_track("")
            ),
            "five maps",
            rx_run(*(ops.map(lambda e: e) for _ in range(5))),
        ),
    ]


def once(run: Run, count: int) -> float:
    """Nanoseconds of CPU an event."""
    gc.collect()
    gc.disable()
    before = time.process_time()
    asyncio.run(_awaited(run(count)))
    taken = time.process_time() - before
    gc.enable()
    return taken / count * 1e9


async def _awaited(run: Awaitable[object]) -> None:
    await run


def measured(row: Row, count: int, rounds: int) -> list[float | None]:
    """Ours, stock, aiostream's and the plain one, each net of its own source."""
    runs = [row.ours, row.stock, row.aio, row.plain]
    sources = [_sources(row.width), _sources(row.width), plain(), plain()]
    nets: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for net, run, alone in zip(nets, runs, sources, strict=True):
            if run is not None:
                net.append(once(run, count) - once(alone, count))
    return [statistics.median(net) if net else None for net in nets]


def _sources(width: int) -> Run:
    """What is there without the operator: the source, or all of them side by side."""
    if not width:
        return rx_run()

    async def run(count: int) -> None:
        await asyncio.gather(*(consume(source(events(count // width))) for _ in range(width)))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run that only shows that it works")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", metavar="WORD", help="rows whose name has it")
    options = parser.parse_args()
    count, rounds = (200, 1) if options.smoke else (20_000, options.rounds)
    print(f"{'ns an event':<30} {'ours':>8} {'stock':>8}  {'':<26} {'aiostream':>9} {'generator':>9}")
    for row in rows():
        if options.only in row.name:
            ours, stock, aio, generator = (
                "" if value is None else f"{value:.0f}" for value in measured(row, count, rounds)
            )
            print(f"{row.name:<30} {ours:>8} {stock:>8}  {row.nearest:<26} {aio:>9} {generator:>9}", flush=True)


if __name__ == "__main__":
    main()
