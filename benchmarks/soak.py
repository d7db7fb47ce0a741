"""Soak: streams that fail, are asked again, paused, cancelled and left, for any time; what the process holds meanwhile.

A chaos server in a process of its own spoils every third answer. Here so many streams at a time, each through a pipeline as
users write them, check every answer; once a second memory, files, sockets, tasks, threads and objects are counted. At the
end, or at Ctrl-C: a plot, the slope of each figure, and a verdict. Slopes are those of the second half: the heap takes
some ten thousand streams to find its size.

    python benchmarks/soak.py [--minutes 10] [--streams 50] [--out soak.svg]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import multiprocessing
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import rxstream
from rxstream import operators as rxo
from rxstream import tracks
from rxstream.errors import StreamError
from rxstream.events import Event
from rxstream.testing.chaos import ChaosServer, RandomFaults, Script

WORDS = [f"word{number} " for number in range(100)]
TEXT = "".join(WORDS)
RATE = 100.0
"""Events a second of one answer: it takes about a second."""
FAULTS = (
    *(
        "refuse",
        "429",
        "500",
        "503",
        "529",
        "502",
        "json",
        "nothing",
        "gzip",
        "deflate",
        "split",
        "buffer",
        "reset",
        "close",
    ),
    *(
        "end",
        "cut_event",
        "cut_json",
        "error",
        "bom",
        "crlf",
        "missing_end",
        "missing_usage",
        "unknown",
        "reset:fraction=0.9",
    ),
    *("hang", "stall", "stall:pings=0.1", "half_close", "linger", "close:fraction=0.5"),
)
"""What befalls answers; nothing that changes the text of one that looks complete."""
TARGETS = {"openai-chat": "openai-chat", "anthropic": "anthropic", "openai-responses": "openai"}
CLOCKS = {"connect": 2.0, "first_event": 2.0, "first_output": 3.0, "idle": 1.0, "total": 60.0}
FIGURES = ("resident MiB", "files", "sockets", "tasks", "threads", "objects")
"""Objects are those that the last full collection of the garbage collector has left."""


# --- the server -----------------------------------------------------------------------------------------------------------


def _serve(pipe: Connection) -> None:
    plan = RandomFaults(FAULTS, probability=0.33, seed=1)
    with (
        contextlib.suppress(KeyboardInterrupt),
        ChaosServer(Script(*WORDS), faults=plan, rate=RATE, remember=100) as server,
    ):
        pipe.send({dialect: server.base_url(dialect) for dialect in TARGETS})
        pipe.recv()


@contextlib.contextmanager
def chaos() -> Iterator[dict[str, str]]:
    """The base URLs of a running server, by dialect."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        with contextlib.suppress(BrokenPipeError):
            ours.send(None)
        process.join(5)
        process.terminate()


# --- the streams ----------------------------------------------------------------------------------------------------------


class Soak:
    """So many workers, each one stream after the other."""

    def __init__(self, urls: dict[str, str], streams: int) -> None:
        self.told: Counter[str] = Counter()
        """How streams went; ``wrong`` is what must never be."""
        self._urls = urls
        self._streams = streams
        self._chance = random.Random(2)  # noqa: S311 - to be repeated, not to be secret
        self._places = rxstream.Bulkhead(max(1, streams * 4 // 5))

    def model(self) -> rxstream.Stream[Event]:
        """One of the models."""
        dialect = self._chance.choice(list(TARGETS))
        return rxstream.stream(
            f"{TARGETS[dialect]}:soak-1",
            "Say a hundred words.",
            base_url=self._urls[dialect],
            api_key="-",
            transport=self._chance.choice(["httpx2", "aiohttp"]),
            timeouts=CLOCKS,
        )

    def stream(self) -> rxstream.Stream[Event]:
        """One through a pipeline: model, guard, retries, two operators at most; or one of two models."""
        chance = self._chance
        if chance.random() < 0.1:
            return tracks.failover(self.model(), self.model())
        if chance.random() < 0.1:
            return tracks.hedge(self.model(), self.model(), after=0.1)
        after: Any = chance.choice(["fail", "restart", "buffer"])
        again = rxo.retry_stream(attempts=4, after_output=after, delay=0.01, max_retry_after=0.5, budget=None)
        operators: list[Callable[[], Any]] = [
            rxo.coalesce,
            rxo.share,
            lambda: rxo.segments("word"),
            lambda: rxo.pace(1000),
        ]
        return self.model().pipe(
            rxo.guard(self._places), again, *(make() for make in chance.sample(operators, chance.randrange(3)))
        )

    async def run(self, seconds: float) -> None:
        """All workers, until the time is over; then what still runs is cancelled."""
        workers = [asyncio.create_task(self._work()) for _ in range(self._streams)]
        try:
            done, _ = await asyncio.wait(workers, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
            for worker in done:
                worker.result()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)

    async def _work(self) -> None:
        ways = [self._to_the_end, self._with_pauses, self._cancelled, self._left, self._disposed]
        while True:
            way = self._chance.choices(ways, [4, 3, 1, 1, 1])[0]
            try:
                self._check(await way(), whole=way in (self._to_the_end, self._with_pauses))
            except StreamError as error:
                self._check(error.partial.text if error.partial else "", whole=False)
                self.told[type(error).__name__] += 1

    def _check(self, text: str, *, whole: bool) -> None:
        right = text == TEXT if whole else TEXT.startswith(text)
        self.told["wrong" if not right else "complete" if whole else "cut"] += 1

    async def _to_the_end(self) -> str:
        return (await self.stream()).text

    async def _with_pauses(self) -> str:
        session = self.stream().start()
        try:
            for _ in range(self._chance.randrange(1, 4)):
                await asyncio.sleep(self._chance.random() * 0.5)
                session.pause()
                await asyncio.sleep(self._chance.random() * 0.2)
                session.resume()
            return (await session).text
        finally:
            session.cancel()

    async def _cancelled(self) -> str:
        session = self.stream().start()
        try:
            await asyncio.sleep(self._chance.random())
        finally:
            session.cancel("soak")
        return session.partial.text

    async def _left(self) -> str:
        left = self._chance.randrange(1, 80)
        async for _ in self.stream():
            left -= 1
            if not left:
                break
        return ""

    async def _disposed(self) -> str:
        subscription = self.stream().subscribe(on_error=lambda _: None)
        try:
            await asyncio.sleep(self._chance.random())
        finally:
            subscription.dispose()
        return ""


# --- the figures ----------------------------------------------------------------------------------------------------------


class Survivors:
    """Counts the objects that full collections leave: what is garbage is no leak."""

    def __init__(self) -> None:
        self.count = 0
        gc.callbacks.append(self._collected)
        gc.collect()

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2:
            self.count = len(gc.get_objects())


def sample(survivors: Survivors) -> tuple[float, ...]:
    """The figures, now; on the loop."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    files = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one by which we read the directory
            files.append(str(entry.readlink()))
    return (
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        len(files),
        sum(name.startswith("socket:") for name in files),
        len(asyncio.all_tasks()),
        threading.active_count(),
        survivors.count,
    )


async def watch(times: list[float], samples: list[tuple[float, ...]], soak: Soak, survivors: Survivors) -> None:
    start = time.monotonic()
    while True:
        times.append(time.monotonic() - start)
        samples.append(sample(survivors))
        if len(times) % 60 == 0:
            print(f"{times[-1] / 60:6.1f} min  {soak.told.total():>8} streams  {samples[-1]}", flush=True)
        await asyncio.sleep(1.0)


def verdict(times: list[float], values: list[float]) -> tuple[float, float, bool]:
    """Slope an hour, growth over the time observed, and whether that is no more than the figure's own unrest."""
    slope, intercept = statistics.linear_regression(times, values)
    rest = [value - slope * at - intercept for at, value in zip(times, values, strict=True)]
    growth = slope * (times[-1] - times[0])
    return slope * 3600, growth, growth <= max(statistics.pstdev(rest), 0.02 * statistics.mean(values))


def plot(times: list[float], samples: list[tuple[float, ...]], title: str) -> str:
    """A panel for each figure, as SVG."""
    width, height, left = 760, 110, 90
    size = f'width="{left + width + 30}" height="{len(FIGURES) * (height + 30) + 60}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="22" font-size="15">{title}</text>',
    ]
    span = max(times[-1], 1.0)
    for row, name in enumerate(FIGURES):
        values = [one[row] for one in samples]
        top, most = 40 + row * (height + 30), max(*values, 1.0) * 1.1
        points = " ".join(
            f"{left + at / span * width:.1f},{top + height - value / most * height:.1f}"
            for at, value in zip(times, values, strict=True)
        )
        parts += [
            f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#bbb"/>',
            f'<polyline points="{points}" fill="none" stroke="#0a62a9" stroke-width="1"/>',
            f'<text x="{left - 6}" y="{top + 12}" text-anchor="end">{most:,.0f}</text>',
            f'<text x="{left - 6}" y="{top + height}" text-anchor="end">0</text>',
            f'<text x="{left + 6}" y="{top + height - 6}" font-weight="bold">{name}</text>',
        ]
    parts.append(
        f'<text x="{left + width}" y="{top + height + 18}" text-anchor="end">{span / 60:.1f} minutes</text></svg>'
    )
    return "\n".join(parts)


def report(times: list[float], samples: list[tuple[float, ...]], soak: Soak, out: Path) -> bool:
    """Print the figures, write the plot; whether all is well."""
    print("streams:", ", ".join(f"{count} {how}" for how, count in soak.told.most_common()))
    good = not soak.told["wrong"]
    begun = len(times) // 2
    if len(times) - begun >= 10:
        print(f"{'':14}{'least':>12}{'most':>12}{'last':>12}{'an hour':>12}{'grown':>12}   (in the second half)")
        for column, name in enumerate(FIGURES):
            values = [one[column] for one in samples[begun:]]
            slope, growth, steady = verdict(times[begun:], values)
            row = (min(values), max(values), values[-1], slope, growth)
            print(f"{name:14}" + "".join(f"{value:12,.1f}" for value in row), "  steady" if steady else "  GROWS")
            good &= steady
    title = f"{soak.told.total():,} streams in {times[-1] / 60:.1f} minutes"
    out.write_text(plot(times, samples, title), encoding="utf-8")
    print(f"{title}: {'all is well' if good else 'SOMETHING IS NOT'}; {out}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--streams", type=int, default=50, help="at a time")
    parser.add_argument("--out", type=Path, default=Path("soak.svg"))
    options = parser.parse_args()
    times: list[float] = []
    samples: list[tuple[float, ...]] = []

    async def run(soak: Soak) -> None:
        survivors = Survivors()
        watching = asyncio.create_task(watch(times, samples, soak, survivors))
        try:
            await soak.run(options.minutes * 60)
        finally:
            watching.cancel()
            await asyncio.sleep(0.5)
            await rxstream.close_clients()
            gc.collect()
            print("at the end, all closed:", dict(zip(FIGURES, sample(survivors), strict=True)))

    with chaos() as urls:
        soak = Soak(urls, options.streams)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run(soak))
    return 0 if report(times, samples, soak, options.out) else 1


if __name__ == "__main__":
    sys.exit(main())
