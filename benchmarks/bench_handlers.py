"""What it costs to tell handlers of an event: 1, 10 and 100 of them, called at once, in words, or through a queue of their own.

CPU time in µs, the least of some rounds, of `Dispatch` alone: what makes the events, and what handlers do with them, is not in
it. A handler of events has ``on_event``, one of tokens ``on_token_received``; a slow one has a coroutine function, whose queue is
emptied after each burst, which is in the figure.

    python benchmarks/bench_handlers.py [--smoke] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any

from rxstream.events import TextDelta
from rxstream.loop import LoopScheduler
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks.handler import HandlerPolicy, StreamHandler, StreamMetadata

BURST = 64
"""Events that come at once; then the loop goes round."""
CALLS = 200_000
"""About as many calls of handlers a round."""
TARGET_FIRST, TARGET_EACH = 5.0, 1.0
"""µs an event: at most so much, and so much for each handler."""


class OfTokens(StreamHandler):
    """Told of pieces of text."""

    def on_token_received(self, token: str, index: int) -> Any:
        """Do nothing."""


class OfEvents(StreamHandler):
    """Told of events."""

    def on_event(self, event: object) -> Any:
        """Do nothing."""


class Slow(StreamHandler):
    """Told of pieces of text, by a coroutine function."""

    async def on_token_received(self, token: str, index: int) -> Any:
        """Do nothing."""


KINDS: dict[str, tuple[Callable[[], StreamHandler], HandlerPolicy]] = {
    "tokens": (OfTokens, HandlerPolicy()),
    "events": (OfEvents, HandlerPolicy()),
    "words": (OfTokens, HandlerPolicy(by="word")),
    "coroutines": (Slow, HandlerPolicy()),
}


async def measure(kind: str, handlers: int, calls: int) -> float:
    """µs an event."""
    make, policy = KINDS[kind]
    events = [TextDelta(text=f"word{n % 7} ", seq=n, at=1.0) for n in range(max(20, calls // max(handlers, 10)))]
    stream = Dispatch(StreamMetadata(), LoopScheduler())
    for number in range(handlers):
        stream.add(str(number), make(), policy)
    stream.start()
    gc.collect()
    began = time.process_time()
    for start in range(0, len(events), BURST):
        for event in events[start : start + BURST]:
            stream.on_next(event)
        await stream.settled()
    return (time.process_time() - began) / len(events) * 1e6


def main() -> None:
    """Print a table, a row a kind of handler."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="only show that it runs")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rounds, calls = (1, 2_000) if options.smoke else (options.rounds, CALLS)
    print("| handlers of | 1 | 10 | 100 | each of 100 |\n| --- | --- | --- | --- | --- |")
    for kind in KINDS:
        found = [min(asyncio.run(measure(kind, handlers, calls)) for _ in range(rounds)) for handlers in (1, 10, 100)]
        print(f"| {kind} | {' | '.join(f'{value:.2f}' for value in found)} | {found[-1] / 100:.2f} |", flush=True)
        for handlers, value in zip((1, 10, 100), found, strict=True):
            if kind in ("tokens", "events") and value > TARGET_FIRST + TARGET_EACH * handlers and not options.smoke:
                print(f"over the target: {handlers} handlers of {kind}")


if __name__ == "__main__":
    main()
