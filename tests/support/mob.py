"""Many threads at one session: who does what, at random moments, and what must hold all the same.

A `Case` is one session; all about it is drawn from its seed: what the stream is made of, how it ends, and what each thread
does to it. A `Mob` is the threads. What a case finds is raised by `Case.verify`, with the seed.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Final, Self

from reactivex import Observable

from rxstream import operators as rxo
from rxstream.breaker import CircuitBreaker
from rxstream.bulkhead import Bulkhead
from rxstream.errors import Cancelled, ConfigurationError, StreamError
from rxstream.events import Event, Failed, Finished, TextDelta, UsageReported
from rxstream.gate import Gate
from rxstream.limiter import TokenBucket
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.session import StreamSession

__all__ = ["FINAL", "TEXT", "WORDS", "Case", "Mob", "Operator", "impatient_switches", "operators"]

Operator = Callable[[Observable[Event]], Observable[Event]]
FINAL: Final = ("completed", "cancelled", "error")
WORDS: Final = [f"{number} " for number in range(40)]
TEXT: Final = "".join(WORDS)
_PATIENCE: Final = 20.0
_LEGAL: Final = {
    "inactive": ("inactive", "active", "paused", *FINAL),
    "active": ("active", "paused", *FINAL),
    "paused": ("paused", "active", *FINAL),
    **{final: (final,) for final in FINAL},
}


@contextmanager
def impatient_switches() -> Iterator[None]:
    """The interpreter changes threads as often as it can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


async def _same(event: Event) -> Event:
    await asyncio.sleep(0)
    return event


_bulkhead = Bulkhead(3)
_breaker = CircuitBreaker(failures=1, of=10_000, at_least=10_000)


def operators() -> dict[str, Callable[[], Operator]]:
    """Those that neither lose text nor change its order, most of them with timers, tasks or gates of their own."""
    return {
        "coalesce": rxo.coalesce,
        "pace": lambda: rxo.pace(100_000),
        "rate_limit": lambda: rxo.rate_limit(TokenBucket(100_000, burst=4)),
        "map_async": lambda: rxo.map_async(_same, max_concurrency=3),
        "observe_on_loop": lambda: rxo.observe_on_loop(capacity=4),
        "buffer": lambda: rxo.on_backpressure_buffer(100),
        "share": rxo.share,
        "synchronize": rxo.synchronize,
        "segments": lambda: rxo.segments("word"),
        "timeouts": lambda: rxo.timeouts(total=60.0),
        "guard": lambda: rxo.guard(_breaker, _bulkhead),
        "retry_stream": lambda: rxo.retry_stream(delay=0.001, budget=None),
    }


class Witness:
    """An observer that sees who calls it, and whether two do at once."""

    def __init__(self) -> None:
        self.entered = 0
        """How many items came."""
        self.texts: dict[str, list[str]] = defaultdict(list)
        """Of each track."""
        self.finished: set[str] = set()
        """The tracks that said so."""
        self.failed: set[str] = set()
        self.ends: list[Exception | None] = []
        self.wrong: list[str] = []
        self._last: dict[tuple[str, int], Event] = {}
        self._inside = 0
        self._threads: set[int] = set()

    def on_next(self, event: Event) -> None:
        self.entered += 1
        self._inside += 1
        self._threads.add(threading.get_ident())
        if self._inside != 1:
            self.wrong.append("two calls at once")
        if self.ends:
            self.wrong.append(f"{event!r} came after the end")
        if isinstance(event, TextDelta):
            self.texts[event.source].append(event.text)
        elif isinstance(event, Finished):
            self.finished.add(event.source)
        elif isinstance(event, Failed):
            self.failed.add(event.source)
        before = self._last.get((event.source, event.attempt))
        if before is not None and (event == before or event.seq < before.seq):
            self.wrong.append(f"{event!r} came twice, or late")
        if not isinstance(event, UsageReported):  # it passes text that is held
            self._last[event.source, event.attempt] = event
        self._inside -= 1

    def end(self, error: Exception | None = None) -> None:
        self._threads.add(threading.get_ident())
        if self._inside:
            self.wrong.append("the end came in the midst of an item")
        self.ends.append(error)

    def verify(self, *, late: bool = False) -> None:
        """One call at a time, of one thread; the words in order, from the first, unless it came `late` to a shared stream."""
        assert not self.wrong, self.wrong
        assert len(self._threads) <= 1, "several threads called it"
        assert len(self.ends) <= 1, self.ends
        for track, texts in self.texts.items():
            text = "".join(texts)
            assert text in TEXT if late else TEXT.startswith(text), f"{track}: {texts}"
            assert late or track not in self.finished or text == TEXT, f"{track}: {texts}"


class Case:
    """One session and what is done to it.

    Args:
        seed: Of all that is random.
        stream: Makes the stream, of texts that are `WORDS` on each track.
        endless: Whether it never ends of itself: it is cancelled when the threads are done.
    """

    def __init__(self, seed: int, stream: Callable[[random.Random], Stream[Event]], *, endless: bool = False) -> None:
        self.seed = seed
        self._endless = endless
        self._random = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self._stream = stream(self._random)
        self._seeds = [self._random.random() for _ in range(8)]
        self._pauser = self._random.randrange(4) if self._random.random() < 0.3 else None
        self._witness = Witness()
        self._others: list[Witness] = []
        self._gates: list[Gate] = []
        self._found: list[str] = []
        self._asks = 1
        self.session: StreamSession

    def start(self) -> None:
        """On the loop that the stream shall run on, or in a thread without one."""
        witness = self._witness
        self.session = self._stream.start(witness.on_next, witness.end, witness.end)

    def disturb(self, thread: int) -> None:
        """What one thread does."""
        chance = random.Random(self._seeds[thread])  # noqa: S311
        last = "inactive"
        for _ in range(chance.randrange(1, 12)):
            _linger(chance)
            try:
                self._act(chance, thread)
            except Exception as error:  # noqa: BLE001 - told by `verify`
                self._found.append(f"{type(error).__name__}: {error}")
            status = self.session.status
            if status not in _LEGAL[last]:
                self._found.append(f"{status} after {last}")
            last = status

    def _act(self, chance: random.Random, thread: int) -> None:
        session = self.session
        acts = ["pause", "resume", "look", "look", "result", "subscribe", "cancel"]
        match chance.choices(acts, [4, 4, 2, 1, 1, 0.5, 0.3])[0]:
            case "pause" if self._pauser in (None, thread):
                session.pause()
                if self._pauser is not None and session.status == "paused":
                    self._stands_still(chance)
            case "resume" if self._pauser in (None, thread):
                session.resume()
            case "look":
                self._look()
            case "result":
                with suppress(TimeoutError, StreamError, ConfigurationError):
                    session.result(chance.choice([0, 0.001]))
            case "subscribe":
                self._subscribe(chance)
            case "cancel":
                session.cancel("by the mob")
                self._silent(self._witness)
            case _:
                pass

    def _look(self) -> None:
        statistics = self.session.statistics
        if statistics.outputs > statistics.events or statistics.read_ahead < 0 or statistics.elapsed < 0:
            self._found.append(f"{statistics}")
        for response in self.session.responses.values():
            if not TEXT.startswith(response.text):
                self._found.append(f"a partial answer is {response.text!r}")

    def _stands_still(self, chance: random.Random) -> None:
        """Nobody else resumes: at most the one that is on its way comes."""
        before = self._witness.entered
        _linger(chance)
        if self._witness.entered > before + 1:
            self._found.append(f"{self._witness.entered - before} items came through a closed gate")

    def _subscribe(self, chance: random.Random) -> None:
        """Once more, and dispose, as somebody who is on no loop, or on that one."""
        witness = Witness()
        scheduler = LoopScheduler(self.session.loop)
        self._gates.append(scheduler.gate)
        subscription = self._stream.subscribe(witness.on_next, witness.end, witness.end, scheduler=scheduler)
        _linger(chance)
        subscription.dispose()
        self._silent(witness)
        self._others.append(witness)

    def _silent(self, witness: Witness) -> None:
        """From now on at most one item, which is on its way, comes."""
        before = witness.entered
        time.sleep(0)
        if witness.entered > before + 1:
            self._found.append(f"{witness.entered - before} items came after it was over")

    def verify(self) -> None:
        """When the threads are done: it comes to its end, which is right."""
        self.session.resume()
        if self._endless:
            self.session.cancel("enough")
        with suppress(StreamError, ConfigurationError):  # the latter of a stream that holds several answers
            self.session.result(_PATIENCE)
        gates = [self.session.gate, *self._gates]
        deadline = time.monotonic() + _PATIENCE
        while not self._witness.ends or any(gate._watchers for gate in gates):
            assert time.monotonic() < deadline, f"{self._witness.ends}, {[gate._watchers for gate in gates]}"
            time.sleep(0)
        assert not self._found, self._found
        self._witness.verify()
        for witness in self._others:
            witness.verify(late=True)
        self._verify_end()

    def _verify_end(self) -> None:
        [end] = self._witness.ends
        assert end is self.session.error
        status = "completed" if end is None else "cancelled" if type(end) is Cancelled else "error"
        assert self.session.status == status
        told = {track: "".join(texts) for track, texts in self._witness.texts.items()}
        kept = {track: response.text for track, response in self.session.responses.items() if response.text}
        assert set(told.values()) == set(kept.values())
        if isinstance(end, StreamError) and len(self.session.responses) < 2:  # a combination has no one answer
            assert end.partial is not None
            assert [end.partial.text] == (list(told.values()) or [""])
        assert end is not None or set(told) <= self._witness.finished | self._witness.failed
        assert end is not None or self._witness.finished
        assert self.session.statistics.events == self._witness.entered
        assert self.session.statistics.holds == ()


def _linger(chance: random.Random) -> None:
    """Some moments."""
    match chance.randrange(4):
        case 0:
            time.sleep(0)
        case 1:
            time.sleep(chance.random() * 0.001)
        case 2:
            for _ in range(chance.randrange(300)):
                pass
        case _:
            pass


class Mob:
    """Some threads that do what they are given, all at once."""

    def __init__(self, size: int = 4) -> None:
        self._given: list[SimpleQueue[Callable[[int], object] | None]] = [SimpleQueue() for _ in range(size)]
        self._done: SimpleQueue[None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, args=(number,), daemon=True) for number in range(size)]

    def all(self, work: Callable[[int], object]) -> None:
        """Let each of them do it, with its number, and wait for all."""
        for queue in self._given:
            queue.put(work)
        for _ in self._given:
            self._done.get(timeout=_PATIENCE)

    def _serve(self, number: int) -> None:
        while (work := self._given[number].get()) is not None:
            work(number)
            self._done.put(None)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for queue in self._given:
            queue.put(None)
        for thread in self._threads:
            thread.join(_PATIENCE)
