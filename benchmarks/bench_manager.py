"""What a `StreamManager` costs: an event, a handler, a stream, a first token, a core.

One process, one asyncio loop; the source gives 64 events, gives way to the loop, and goes on. CPU time, the median of the rounds,
where it says µs; a collection of garbage before each.

    python benchmarks/bench_manager.py [--smoke] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from reactivex import Observable, Observer, abc
from reactivex.disposable import Disposable

import rxstream
from rxstream.events import Event, Finished, TextDelta
from rxstream.loop import LoopScheduler
from rxstream.session import StreamSession

BURST = 64


def source(items: Sequence[Event]) -> Observable[Event]:
    """Emits `items` on the subscriber's loop, in bursts, and obeys the gate."""

    def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        on = LoopScheduler.of(scheduler)

        async def emit() -> None:
            for start in range(0, len(items), BURST):
                await on.gate.wait()
                for item in items[start : start + BURST]:
                    observer.on_next(item)
                await asyncio.sleep(0)
            observer.on_completed()

        task = on.loop.create_task(emit())

        def stop() -> None:
            task.cancel()

        return Disposable(stop)

    return Observable(subscribe)


def answer(count: int) -> list[Event]:
    """Deltas as a model sends them, and the end."""
    return [*(TextDelta(text=f"word{n % 7} ", seq=n, at=1.0) for n in range(count)), Finished(reason="stop")]


class Counter(rxstream.StreamHandler):
    """Counts tokens."""

    def __init__(self) -> None:
        self.count = 0

    def on_token_received(self, token: str, index: int) -> None:
        """One more."""
        self.count = index + bool(token)


class Clock(rxstream.StreamHandler):
    """Takes the time of each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_token_received(self, token: str, index: int) -> None:  # noqa: ARG002 - the base's
        """One more."""
        self.times.append(time.perf_counter())


def cpu(run: Callable[[], object], rounds: int) -> float:
    """Seconds of CPU, the median."""
    times: list[float] = []
    for _ in range(rounds):
        gc.collect()
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return statistics.median(times)


# --- the events -----------------------------------------------------------------------------------------------------------


async def session_alone(count: int) -> None:
    """What a stream costs without a manager."""
    await StreamSession(source(answer(count)), Observer()).start()


async def managed(count: int, handlers: int) -> None:
    """One stream and its handlers."""
    async with rxstream.StreamManager() as manager:
        counters = [Counter() for _ in range(handlers)]
        for counter in counters:
            manager.register_handler(counter)
        await manager.wait(manager.start_stream(source(answer(count))))
        assert all(counter.count == count for counter in counters)


async def board(count: int, streams: int, subscribers: int) -> None:
    """Many streams, whose events some listen to."""
    async with rxstream.StreamManager() as manager:
        seen: list[list[rxstream.StreamEvent]] = [[] for _ in range(subscribers)]
        for told in seen:
            manager.events.subscribe(told.append)
        names = [manager.start_stream(source(answer(count // streams))) for _ in range(streams)]
        for name in names:
            await manager.wait(name)
        await asyncio.sleep(0)
        for told in seen:
            assert len(told) == streams * (count // streams + 3)
            assert len({(one.stream_id, one.number) for one in told}) == len(told)


def print_events(count: int, rounds: int) -> None:
    """An event with 0 to 100 handlers, and on the board."""
    alone = cpu(lambda: asyncio.run(session_alone(count)), rounds) / count * 1e6
    print(f"session alone, no manager        {alone:8.2f} µs an event")
    cost: dict[int, float] = {}
    for handlers in (0, 1, 10, 100):
        events = max(BURST, count // max(1, handlers // 4))
        cost[handlers] = cpu(lambda n=handlers, e=events: asyncio.run(managed(e, n)), rounds) / events * 1e6  # type: ignore[misc]
        each = f", {(cost[handlers] - cost[0]) / handlers:.2f} µs a handler" if handlers else ""
        print(f"managed, {handlers:3} handlers            {cost[handlers]:8.2f} µs an event{each}")
    for subscribers in (1, 10):
        seconds = cpu(lambda n=subscribers: asyncio.run(board(count, 100, n)), rounds)  # type: ignore[misc]
        print(
            f"manager.events, {subscribers:3} subscribers  {count / seconds:11,.0f} events/s of 100 streams, {seconds / count * 1e6:.2f} µs"
        )


# --- the time -------------------------------------------------------------------------------------------------------------


async def dispatch(count: int, handlers: int) -> tuple[float, float]:
    """Seconds from the event to the last of the handlers: the median, and of one in a hundred."""
    async with rxstream.StreamManager() as manager:
        for _ in range(handlers - 1):
            manager.register_handler(Counter())
        clock = Clock()
        manager.register_handler(clock)
        sent: list[float] = []

        async def pieces() -> object:
            for number in range(count):
                await asyncio.sleep(0.001)
                sent.append(time.perf_counter())
                yield f"word{number}"

        await manager.wait(manager.start_stream(pieces()))
        late = sorted(heard - at for at, heard in zip(sent, clock.times, strict=True))
        return statistics.median(late), late[int(len(late) * 0.99)]


async def first_token() -> float:
    """Seconds from `start_stream` to the first token of a source that has it at hand."""
    async with rxstream.StreamManager() as manager:
        clock = Clock()
        manager.register_handler(clock)
        began = time.perf_counter()
        await manager.wait(manager.start_stream(["a"]))
        return clock.times[0] - began


async def fast_model(seconds: float, rate: float) -> float:
    """Share of a core at `rate` tokens a second, a token of four characters each."""
    async with rxstream.StreamManager() as manager:
        manager.register_handler(Counter())
        manager.events.subscribe(lambda _: None)
        text = "abc " * int(rate * seconds)
        began, used = time.perf_counter(), time.process_time()
        await manager.wait(manager.start_stream(rxstream.emulate(text, by="word", tokens_per_second=rate)))
        return (time.process_time() - used) / (time.perf_counter() - began)


async def fastest(count: int) -> float:
    """Tokens a second from an iterator to a handler."""
    async with rxstream.StreamManager() as manager:
        manager.register_handler(Counter())
        began = time.perf_counter()
        await manager.wait(manager.start_stream([f"word{number}" for number in range(count)]))
        return count / (time.perf_counter() - began)


# --- many -----------------------------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of memory that the process has."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


async def many(streams: int, events: int) -> tuple[float, float]:
    """Streams at the same time, all paused in their midst and then let go: KiB each, and seconds of it all."""
    items = answer(events)
    async with rxstream.StreamManager() as manager:
        manager.register_handler(Counter())
        gc.collect()
        before, began = resident(), time.perf_counter()
        names = [manager.start_stream(source(items)) for _ in range(streams)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert all(manager.pause_stream(name) for name in names)
        assert len(manager.streams()) == streams
        gc.collect()
        memory = (resident() - before) / streams / 1024
        assert all(manager.resume_stream(name) for name in names)
        for name in names:
            await manager.wait(name)
        return memory, time.perf_counter() - began


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="show only that it runs")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds, count = (1, 640) if options.smoke else (options.rounds, 128_000)
    memory, seconds = asyncio.run(many(10 if options.smoke else 1000, 1000))
    print(f"1,000 streams of 1,000 events    {seconds:8.2f} s, {memory:.1f} KiB each while paused")
    print_events(count, rounds)
    median, slow = asyncio.run(dispatch(20 if options.smoke else 2000, 10))
    print(f"event to the tenth handler       {median * 1e3:8.3f} ms, of one in a hundred {slow * 1e3:.3f} ms")
    first = statistics.median(asyncio.run(first_token()) for _ in range(1 if options.smoke else 50))
    print(f"start_stream to the first token  {first * 1e3:8.3f} ms")
    print(f"iterator to a handler          {asyncio.run(fastest(count)):10,.0f} tokens/s")
    share = asyncio.run(fast_model(0.1 if options.smoke else 5, 200))
    print(f"at 200 tokens/s                  {share * 100:8.2f} % of a core, with a handler and a subscriber")


if __name__ == "__main__":
    main()
