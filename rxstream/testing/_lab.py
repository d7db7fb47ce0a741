"""Where one experiment is made: the thing that is tried, an observer that misses nothing, and waiting with a limit.

Waits for what should happen at once have a limit that a busy machine keeps. That nothing happens is seen after a few rounds of
the loop and a moment for other threads.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec.structs import replace
from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._check import count, function, positive
from rxstream.events import EventBase
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler

__all__ = [
    "Broken",
    "Lab",
    "NotApplicable",
    "Planted",
    "Probe",
    "Specimen",
    "Unmade",
    "WatchedGate",
    "depth",
    "essence",
    "must",
]


class Broken(Exception):
    """The rule is broken, and how."""


class NotApplicable(Exception):
    """The rule says nothing about this thing, and why."""


class Unmade(Exception):
    """There is nothing to try: making it failed, with the cause of this."""


class Planted(Exception):
    """Raised by an observer, to see what comes of it."""


def must(condition: object, complaint: str) -> None:
    """The rule is broken if `condition` does not hold."""
    if not condition:
        raise Broken(complaint)


def essence(item: Any) -> object:
    """What two runs have in common: an event without the time at which it came."""
    return replace(item, at=0.0) if isinstance(item, EventBase) else item


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """What is tried, and what it can do; see `rxstream.testing.source_checks`."""

    factory: Callable[[int], Any]
    fails: Callable[[], Any] | None = None
    endless: Callable[[], Any] | None = None
    opens: Callable[[], int] | None = None
    cleanup: Callable[[], Awaitable[object]] | None = None
    key: Callable[[Any], object] = essence
    obeys_gate: bool = True
    cold: bool = True
    guarded: bool = False
    many: int = 300
    patience: float = 10.0
    calm: float = 0.01
    exempt: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        function("factory", self.factory)
        function("key", self.key)
        for name in ("fails", "endless", "opens", "cleanup"):
            if (option := getattr(self, name)) is not None:
                function(name, option)
        count("many", self.many, least=10)
        positive("patience", self.patience)


class Probe(abc.ObserverBase[Any]):
    """An observer that writes down all that is done to it, and how.

    Args:
        thread: Where it is to be told.
        slow: Seconds that it takes over each of its first hundred items.
        react: Called with the number of each item, from 0, in its midst.
        last: Called with this probe in the midst of its end.
    """

    def __init__(
        self,
        thread: int,
        *,
        slow: float = 0.0,
        react: Callable[[int], object] | None = None,
        last: Callable[[Probe], object] | None = None,
    ) -> None:
        self.items: list[Any] = []
        self.ends: list[Exception | None] = []
        """Its errors, and None for each completion: one, or something is wrong."""
        self.raised: list[Exception] = []
        """What `last` raised."""
        self.overlaps = 0
        self.foreign = 0
        self.late = 0
        """Signals after the end."""
        self.depths = (sys.maxsize, 0)
        self.subscription = SingleAssignmentDisposable()
        self.disposable: abc.DisposableBase = self.subscription
        """What subscribing gave, bare."""
        self._thread = thread
        self._slow = slow
        self._react = react
        self._last = last
        self._inside: list[None] = []

    @property
    def signals(self) -> int:
        """How many signals there were."""
        return len(self.items) + len(self.ends)

    def on_next(self, value: Any) -> None:
        """An item."""
        self._begin()
        number = len(self.items)
        self.items.append(value)
        try:
            now = depth()
            self.depths = (min(self.depths[0], now), max(self.depths[1], now))
            if self._slow and number < 100:
                time.sleep(self._slow)
            if self._react is not None:
                self._react(number)
        finally:
            self._inside.pop()

    def on_error(self, error: Exception) -> None:
        """The end."""
        self._end(error)

    def on_completed(self) -> None:
        """The end."""
        self._end(None)

    def _begin(self) -> None:
        self.overlaps += bool(self._inside)
        self.late += bool(self.ends)
        self._inside.append(None)
        self.foreign += threading.get_ident() != self._thread

    def _end(self, error: Exception | None) -> None:
        self._begin()
        self.ends.append(error)
        try:
            if self._last is not None:
                self._last(self)
        except Exception as raised:  # noqa: BLE001 - by what it called
            self.raised.append(raised)
        finally:
            self._inside.pop()


def depth() -> int:
    """How many calls deep the caller is."""
    frame, deep = inspect.currentframe(), 0
    while frame is not None:
        frame, deep = frame.f_back, deep + 1
    return deep


class WatchedGate(Gate):
    """A gate that knows who watches it."""

    def __init__(self) -> None:
        super().__init__()
        self.watching: set[Callable[[], object]] = set()

    def watch(self, changed: Callable[[], object]) -> None:
        self.watching.add(changed)
        super().watch(changed)

    def unwatch(self, changed: Callable[[], object]) -> None:
        self.watching.discard(changed)
        super().unwatch(changed)


class Lab:
    """One experiment's room, on its own loop."""

    def __init__(self, specimen: Specimen) -> None:
        self.specimen = specimen
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(self._note)
        self.gate = WatchedGate()
        self.raised: list[str] = []
        """What the loop was told that nobody took."""
        self._thread = threading.get_ident()
        self._opened = 0 if specimen.opens is None else specimen.opens()
        self._generators: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._see)

    def leave(self) -> None:
        """As it was found."""
        sys.set_asyncgen_hooks(*self._hooks)

    def _see(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators.add(generator)
        if self._hooks.firstiter is not None:
            self._hooks.firstiter(generator)

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Planted):
            self.raised.append(str(error or context.get("message")))

    # --- making -----------------------------------------------------------------------------------------------------------

    async def make(self, count: int | None = None) -> Any:
        """A fresh one of `count` items, by default many."""
        return await _made(partial(self.specimen.factory, self.specimen.many if count is None else count))

    async def failing(self) -> Any:
        """A fresh one that fails, for rules that need it."""
        assert self.specimen.fails is not None  # noqa: S101 - asked for only where the rule needs it
        return await _made(self.specimen.fails)

    def endings(self) -> list[Callable[[], Awaitable[Any]]]:
        """What makes one of each ending: after nothing, after many items, and by a failure, if there is such a one."""
        made: list[Callable[[], Awaitable[Any]]] = [partial(self.make, 0), self.make]
        return made if self.specimen.fails is None else [*made, self.failing]

    async def endless(self) -> Any:
        """A fresh one that does not end, or has many items at least."""
        return await (self.make() if self.specimen.endless is None else _made(self.specimen.endless))

    def probe(
        self,
        *,
        slow: float = 0.0,
        react: Callable[[int], object] | None = None,
        last: Callable[[Probe], object] | None = None,
    ) -> Probe:
        """An observer that is to be told in this thread."""
        return Probe(self._thread, slow=slow, react=react, last=last)

    def subscribe(
        self, source: Observable[Any], probe: Probe, *, loop: asyncio.AbstractEventLoop | None = None
    ) -> Probe:
        """Subscribe `probe` to the bare source: what RxPY's guard before every observer would hide is seen."""
        scheduler = LoopScheduler(loop or self.loop, gate=self.gate)
        core = None if self.specimen.guarded else getattr(source, "_subscribe_core", None)
        given: Any = source.subscribe(probe, scheduler=scheduler) if core is None else core(probe, scheduler)
        probe.disposable = given if hasattr(given, "dispose") else Disposable(given)
        probe.subscription.disposable = probe.disposable
        return probe

    async def whole(self, source: Observable[Any], probe: Probe | None = None) -> Probe:
        """Subscribe to `source` and wait for its end."""
        subscribed = self.subscribe(source, probe if probe is not None else self.probe())
        await self.ended(subscribed)
        return subscribed

    async def each_ending(self, last: Callable[[Probe], object] | None = None) -> list[Probe]:
        """Subscribe to one of each ending, and wait for the ends."""
        probes = [self.subscribe(await make(), self.probe(last=last)) for make in self.endings()]
        await self.ended(*probes)
        return probes

    # --- waiting ----------------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], object], complaint: str) -> None:
        """Wait until `condition` holds; the rule is broken if it does not come to hold."""
        limit, turns = time.monotonic() + self.specimen.patience, 0
        while not condition():
            if time.monotonic() > limit:
                raise Broken(f"{complaint}, in {self.specimen.patience:g} s")
            turns += 1
            await asyncio.sleep(0 if turns < 100 else 0.001)

    async def calm(self) -> None:
        """Let all happen that is about to happen."""
        for _ in range(20):
            await asyncio.sleep(0)
        await asyncio.sleep(self.specimen.calm)

    async def ended(self, *probes: Probe) -> None:
        """Wait for the ends."""
        await self.until(lambda: all(probe.ends for probe in probes), "its end did not come")

    async def begun(self, probe: Probe, items: int = 1) -> None:
        """Wait for the first items."""
        await self.until(lambda: len(probe.items) >= items or probe.ends, "nothing came")

    async def joined(self, threads: Iterable[_Worker]) -> None:
        """Wait for threads; what they raised breaks the rule."""
        for thread in threads:
            await self.until(thread.over, "a thread that controls it does not come back")
            self.must(thread.error is None, f"it raised in the thread that controls it: {thread.error!r}")

    async def connections_closed(self) -> None:
        """Wait until it has no more open than there was at the start."""
        opens = self.specimen.opens
        if opens is not None:
            await self.until(lambda: opens() <= self._opened, "what it had opened was not closed")

    async def nothing_left(self) -> None:
        """Wait until it has closed all that can be seen: connections, tasks, generators, watches of the gate."""
        await self.connections_closed()
        us = {asyncio.current_task()}
        await self.until(lambda: asyncio.all_tasks() == us, "a task of its own goes on")
        if self.specimen.cleanup is not None:
            await self.specimen.cleanup()
        await self.until(lambda: not self._open_generators(), "an async generator of its own is still open")
        await self.until(lambda: not self.gate.watching, "it still watches the gate")

    def _open_generators(self) -> list[AsyncGenerator[Any, Any]]:
        return [generator for generator in self._generators if getattr(generator, "ag_frame", None) is not None]

    # --- judging ----------------------------------------------------------------------------------------------------------

    def must(self, condition: object, complaint: str) -> None:
        """The rule is broken if `condition` does not hold."""
        must(condition, complaint)

    def same(self, probe: Probe, expected: Probe, *, whose: str) -> None:
        """The rule is broken unless both were told of the same items in the same order."""
        failed = "".join(f"; it failed: {end!r}" for end in probe.ends if end is not None)
        self.equal(probe.items, expected.items, whose=whose, more=failed)

    def equal(self, items: Sequence[Any], expected: Sequence[Any], *, whose: str, more: str = "") -> None:
        """The rule is broken unless these are the same items in the same order."""
        ours, theirs = ([self.specimen.key(item) for item in some] for some in (items, expected))
        if ours != theirs:
            differ = (at for at, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other)
            at = next(differ, min(len(ours), len(theirs)))
            counts = f"{len(ours)} items where {len(theirs)} were due"
            raise Broken(f"{whose} differ: {counts}, the first that differs is number {at}{more}")

    def one_end(self, probe: Probe) -> None:
        """The rule is broken unless it has ended once."""
        self.must(len(probe.ends) == 1, f"it ended {len(probe.ends)} times")

    def thread(self, work: Callable[[], object]) -> _Worker:
        """Run `work` in a thread, now."""
        worker = _Worker(work)
        worker.start()
        return worker


class _Worker(threading.Thread):
    """A thread that keeps what it raises."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(name="rxstream-experiment", daemon=True)
        self.error: BaseException | None = None
        self._work = work

    def over(self) -> bool:
        """Whether it has come back."""
        return not self.is_alive()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - for who joins it
            self.error = error


async def _made(make: Callable[[], Any]) -> Any:
    try:
        made = make()
        if inspect.isawaitable(made) and not isinstance(made, Observable):
            made = await made
    except Exception as error:
        raise Unmade from error
    if not hasattr(made, "subscribe"):
        raise Unmade from TypeError(f"a factory gave {made!r}, which has no subscribe()")
    return made
