"""What an event costs from the socket to the observer: the official SDKs' iteration against rxstream, in one run.

CPU time of this process per event (the server is another process), median of interleaved rounds; the ratio is SDK ÷
rxstream, over the same transport unless the line says otherwise.

    python benchmarks/bench_stream.py [--smoke] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from server import server

import rxstream

APIS = {"chat": "openai-chat", "responses": "openai", "anthropic": "anthropic"}
Run = Callable[[str], Awaitable[int]]
OPENED: list[Any] = []
"""The SDKs' clients, to be closed at the end."""


def _clients(address: str, transport: str) -> tuple[Any, Any]:
    import anthropic
    import openai

    if transport == "aiohttp":
        return (
            openai.AsyncOpenAI(
                base_url=f"{address}/v1", api_key="-", max_retries=0, http_client=openai.DefaultAioHttpClient()
            ),
            anthropic.AsyncAnthropic(
                base_url=address, api_key="-", max_retries=0, http_client=anthropic.DefaultAioHttpClient()
            ),
        )
    return (
        openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0),
        anthropic.AsyncAnthropic(base_url=address, api_key="-", max_retries=0),
    )


def sdk(address: str, api: str, transport: str) -> Run:
    """Iterate the SDK's own typed stream."""
    oai, ant = _clients(address, transport)
    OPENED.extend((oai, ant))

    async def run(model: str) -> int:
        if api == "chat":
            stream = await oai.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "x"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        elif api == "responses":
            stream = await oai.responses.create(model=model, input="x", stream=True)
        else:
            stream = await ant.messages.create(
                model=model, max_tokens=9, messages=[{"role": "user", "content": "x"}], stream=True
            )
        events = 0
        async with stream:
            async for _ in stream:
                events += 1
        return events

    return run


def ours(address: str, api: str, transport: Any) -> Run:
    """Subscribe an observer to rxstream."""

    async def run(model: str) -> int:
        stream = rxstream.stream(
            f"{APIS[api]}:{model}",
            "x",
            base_url=address if api == "anthropic" else f"{address}/v1",
            api_key="-",
            transport=transport,
        )
        done = asyncio.get_running_loop().create_future()
        events = 0

        def count(_event: object) -> None:
            nonlocal events
            events += 1

        stream.subscribe(count, done.set_exception, lambda: done.set_result(None))
        await done
        return events

    return run


async def _cost(run: Run, model: str) -> float:
    """Microseconds of CPU per event."""
    gc.collect()
    gc.disable()
    try:
        before = time.process_time()
        events = await run(model)
        return (time.process_time() - before) / events * 1e6
    finally:
        gc.enable()


async def compare(address: str, *, rounds: int, burst: int, paced: int) -> None:
    """Print the table."""
    print(f"{'api':<10} {'how':<6} {'SDK httpx2':>10} {'ours httpx2':>11} {'ratio':>6} ", end="")
    print(f"{'SDK aiohttp':>11} {'ours aiohttp':>12} {'ratio':>6} {'SDK httpx2 ÷ ours aiohttp':>26}")
    for how, count in (("burst", burst), ("paced", paced)):
        for api in APIS:
            runs = {
                (who, transport): make(address, api, transport)
                for transport in ("httpx2", "aiohttp")
                for who, make in (("sdk", sdk), ("ours", ours))
            }
            costs: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
            for run in runs.values():
                await run("burst-50")  # imports, connections, caches
            for _ in range(rounds):
                for key, run in runs.items():
                    costs[key].append(await _cost(run, f"{how}-{count}"))
            median = {key: statistics.median(values) for key, values in costs.items()}
            print(f"{api:<10} {how:<6}", end="")
            for transport in ("httpx2", "aiohttp"):
                theirs, mine = median["sdk", transport], median["ours", transport]
                print(f" {theirs:>10.1f} {mine:>11.2f} {theirs / mine:>5.1f}×", end=" ")
            print(f"{median['sdk', 'httpx2'] / median['ours', 'aiohttp']:>25.1f}×")
    for client in OPENED:
        await client.close()
    await rxstream.close_clients()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run that only shows that it works")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with server() as address:
        if options.smoke:
            asyncio.run(compare(address, rounds=1, burst=200, paced=20))
        else:
            asyncio.run(compare(address, rounds=options.rounds, burst=20_000, paced=2_000))


if __name__ == "__main__":
    main()
