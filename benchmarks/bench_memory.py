"""Memory: of an open stream, and of a stream of a million events.

Resident memory of a fresh process for each figure; the server is another. ``open``: many streams that have begun and are held by their
gate. ``long``: one stream, its resident memory at ten points on the way, with and without the partial answer kept.

    python benchmarks/bench_memory.py [--smoke]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from server import server

import rxstream
from rxstream.events import Event

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE


def chat(address: str, model: str, transport: str, *, keep_partial: bool = True) -> rxstream.Stream[Event]:
    return rxstream.stream(
        f"openai-chat:{model}",
        "x",
        base_url=f"{address}/v1",
        api_key="-",
        transport=transport,
        keep_partial=keep_partial,
        limits={"stream_bytes": None},
    )


async def open_streams(address: str, transport: str, count: int) -> float:
    """KiB of resident memory for each of `count` streams that have begun and are paused."""
    await chat(address, "burst-10", transport)
    gc.collect()
    before = resident()
    begun: list[asyncio.Future[None]] = []
    sessions = []
    for _ in range(count):
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        begun.append(first)
        session = chat(address, "paced-500", transport).start(
            lambda _event, first=first: None if first.done() else first.set_result(None)
        )
        sessions.append(session)
    for session, first in zip(sessions, begun, strict=True):
        await first
        session.pause()
    gc.collect()
    used = (resident() - before) / count / 1024
    for session in sessions:
        session.cancel()
    await asyncio.sleep(0.1)
    await rxstream.close_clients()
    return used


async def long_stream(address: str, events: int, *, keep_partial: bool) -> list[float]:
    """MiB of resident memory at ten points of one stream."""
    points: list[float] = []
    seen = 0

    def look(_event: Event) -> None:
        nonlocal seen
        seen += 1
        if seen % (events // 10) == 0:
            points.append(resident() / 2**20)

    done = asyncio.get_running_loop().create_future()
    stream = chat(address, f"burst-{events}", "aiohttp", keep_partial=keep_partial)
    stream.subscribe(look, done.set_exception, lambda: done.set_result(None))
    await done
    await rxstream.close_clients()
    return points


def run_open(address: str, transport: str, count: int) -> float:
    return asyncio.run(open_streams(address, transport, count))


def run_long(address: str, events: int, keep: bool) -> list[float]:
    return asyncio.run(long_stream(address, events, keep_partial=keep))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run that only shows that it works")
    options = parser.parse_args()
    count, events = (5, 1_000) if options.smoke else (400, 1_000_000)
    fresh = ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1)  # what one frees, the next would use
    with server() as address, fresh:
        for transport in ("httpx2", "aiohttp"):
            used = fresh.submit(run_open, address, transport, count).result()
            print(f"open   {transport:<8} {used:.1f} KiB a stream ({count})", flush=True)
        for keep in (True, False):
            points = fresh.submit(run_long, address, events, keep).result()
            print(f"long   keep_partial={keep!s:<5} MiB at each tenth of {events:,} events: ", end="")
            print(" ".join(f"{point:.1f}" for point in points), flush=True)


if __name__ == "__main__":
    main()
