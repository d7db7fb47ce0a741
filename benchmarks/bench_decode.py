"""What decoding costs in memory, without a transport: bytes to events, and events to a response.

CPU time per event, best of several rounds, beside ``json.loads`` of the same payloads: the least that anybody can do who
decodes JSON in Python. ``16 KiB``: reads as a fast socket gives them; ``single``: each event in a read of its own.

    python benchmarks/bench_decode.py [--smoke] [--rounds N]
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterable

from server import ANSWERS

from rxstream.aggregate import Aggregator
from rxstream.events import Event
from rxstream.providers import decoder_for

NAMES = {"/v1/chat/completions": "openai-chat", "/v1/responses": "openai", "/v1/messages": "anthropic"}


def decode(name: str, pieces: Iterable[bytes]) -> list[Event]:
    decoder = decoder_for(name)
    events: list[Event] = []
    for piece in pieces:
        events += decoder.feed(piece)
    return events + decoder.close()


def best(work: Callable[[], object], rounds: int) -> float:
    """Seconds of CPU."""
    times: list[float] = []
    for _ in range(rounds):
        gc.collect()
        gc.disable()
        before = time.process_time()
        work()
        times.append(time.process_time() - before)
        gc.enable()
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run that only shows that it works")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    count, rounds = (100, 1) if options.smoke else (20_000, options.rounds)
    print(f"{'µs an event':<13} {'json.loads':>10} {'16 KiB':>8} {'single':>8} {'÷ json.loads':>13} {'aggregate':>10}")
    for path, name in NAMES.items():
        frames = ANSWERS[path](count)
        body = b"".join(frames)
        reads = [body[at : at + 16384] for at in range(0, len(body), 16384)]
        payloads = [frame.rpartition(b"data: ")[2] for frame in frames if b"[DONE]" not in frame]
        events = decode(name, reads)

        def fold(events: list[Event] = events) -> object:
            aggregator = Aggregator()
            for event in events:
                aggregator.add(event)
            return aggregator.response()

        floor = best(lambda payloads=payloads: [json.loads(payload) for payload in payloads], rounds)
        many = best(lambda name=name, reads=reads: decode(name, reads), rounds)
        single = best(lambda name=name, frames=frames: decode(name, frames), rounds)
        folded = best(fold, rounds)
        scale = 1e6 / len(frames)
        print(f"{name:<13} {floor * scale:>10.2f} {many * scale:>8.2f} {single * scale:>8.2f}", end="")
        print(f" {many / floor:>13.2f} {folded * scale:>10.2f}")


if __name__ == "__main__":
    main()
