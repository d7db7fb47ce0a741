"""What a recording costs the stream, and how fast a tape plays.

CPU time in µs an event of the thread that records: the loop's part, without the thread that writes the file. Beside it, what the
plainest log would take: `json.dumps` of the event as a dict, and a line written, nothing struck out. Playing is measured whole.

    python benchmarks/bench_tapes.py [--smoke] [--rounds N]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

import rxstream
from rxstream.events import TextDelta
from rxstream.tapes import flush
from rxstream.tapes.format import Kind
from rxstream.tapes.record import Settings, TapeRecorder

T = TypeVar("T")
WORDS = ["the", " quick", " brown", " fox,", " jumps", " over", " the", " lazy-ish", " dog", "."]
CHAT = (
    'data: {"id":"chatcmpl-ELl0i53PreJGi4vSxNV76CXtMrhd0v","object":"chat.completion.chunk","created":1750000000,'
    '"model":"gpt-4o-2024-08-06","system_fingerprint":"fp_49c5f0a323","choices":[{"index":0,"delta":{"content":%s},'
    '"finish_reason":null}]}\n\n'
)
RESPONSES = (
    'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":'
    '"msg_0dcf1a118189f28100691daa5a28488194","output_index":0,"content_index":0,"delta":%s,"sequence_number":7}\n\n'
)
END = 'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
SECRET = "sk-proj-" + "0123456789abcdef" * 3


def words(count: int) -> list[str]:
    """Pieces of text as a model sends them."""
    return [WORDS[number % len(WORDS)] for number in range(count)]


def bodies(pattern: str, count: int) -> list[bytes]:
    """Frames of a body."""
    return [(pattern % json.dumps(word)).encode() for word in words(count)]


def recorder(path: Path, kind: Kind) -> TapeRecorder:
    """A recording as `rxo.record` makes it, of a program that has a key to look for."""
    settings = Settings(
        path,
        kind=kind,
        redact=("keys", "prompts"),
        secrets=(SECRET,),
        keep_raw=False,
        max_bytes=1 << 30,
        files=1,
        required=True,
        metadata=None,
    )
    return TapeRecorder(settings, time.monotonic, print)


def events_recorded(folder: Path, count: int) -> float:
    """Seconds of the loop's thread."""
    events = [TextDelta(text=word, source="a", seq=number, at=1.0) for number, word in enumerate(words(count))]
    tape = recorder(folder / "events.tape", "events")
    taken = spent(tape.event, events)
    tape.end("completed")
    flush()
    return taken


def events_logged(folder: Path, count: int) -> float:
    """The plainest log there is."""
    events = [TextDelta(text=word, source="a", seq=number, at=1.0) for number, word in enumerate(words(count))]
    with (folder / "plain.jsonl").open("w", encoding="utf-8") as file:
        return spent(lambda event: file.write(json.dumps(msgspec.to_builtins(event)) + "\n"), events)


def bytes_recorded(pattern: str) -> Callable[[Path, int], float]:
    """The same of a body, a frame a piece."""

    def run(folder: Path, count: int) -> float:
        pieces = bodies(pattern, count)
        tape = recorder(folder / "bytes.tape", "bytes")
        request = tape.request(provider="openai-chat", model="m", source="s")
        taken = spent(request.data, pieces)
        request.end("end")
        tape.end("completed")
        flush()
        return taken

    return run


def played(folder: Path, count: int) -> float:
    """Seconds of the process, from a tape of bytes to the answer."""
    path = folder / "play.tape"
    tape = recorder(path, "bytes")
    request = tape.request(provider="openai-chat", model="m", source="s")
    request.answered(None)
    for piece in [*bodies(CHAT, count), END.encode()]:
        request.data(piece)
    request.end("end")
    tape.end("completed")
    flush()
    before = time.process_time()
    text = rxstream.tape(path, speed="max").run().text
    taken = time.process_time() - before
    assert text == "".join(words(count))
    return taken


def spent(work: Callable[[T], object], items: Iterable[T]) -> float:
    """CPU time of this thread."""
    gc.collect()
    before = time.thread_time()
    for item in items:
        work(item)
    return time.thread_time() - before


ROWS: dict[str, Callable[[Path, int], float]] = {
    "record an event": events_recorded,
    "  json.dumps and write": events_logged,
    "record a frame of Chat": bytes_recorded(CHAT),
    "record a frame of Responses": bytes_recorded(RESPONSES),
    "play a frame of Chat": played,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run that only shows that it works")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    count, rounds = (500, 1) if options.smoke else (20_000, options.rounds)
    os.environ.setdefault("OPENAI_API_KEY", SECRET)
    for name, run in ROWS.items():
        with tempfile.TemporaryDirectory() as folder:
            least = min(run(Path(folder), count) for _ in range(rounds))
        print(f"{name:<32} {least / count * 1e6:>6.2f} µs", flush=True)


if __name__ == "__main__":
    main()
