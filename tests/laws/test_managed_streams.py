"""A manager against a model of it: whatever is done in whatever order, the model knows every status, who waits, who is kept, and
what each handler was told.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import reactivex as rx
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rxstream.errors import BulkheadFull, Cancelled, ConfigurationError, Disconnected, UnknownStream
from rxstream.events import Event, TextDelta
from rxstream.manager import StreamManager
from rxstream.manager_events import StreamEvent
from rxstream.sinks.handler import StreamHandler, StreamMetadata
from tests.support.managing import Diary, check_order
from tests.support.virtual_loop import VirtualLoop, settle

EXAMPLES: Final = int(os.environ.get("RXSTREAM_LAW_EXAMPLES", "40"))
FINAL: Final = ("completed", "cancelled", "error")
WAITING: Final = 3
"""How many may wait."""


class Witness(StreamHandler):
    """Keeps a diary of each stream."""

    def __init__(self) -> None:
        self.diaries: dict[str, Diary] = {}

    def for_stream(self, metadata: StreamMetadata) -> StreamHandler:
        return self.diaries.setdefault(metadata.stream_id, Diary())


@dataclass
class Modelled:
    """A stream, as it should be."""

    name: str
    source: rx.Subject[Event] = field(default_factory=rx.Subject)
    status: str = "inactive"
    told: int = 0
    """Pieces of text that were told."""
    held: int = 0
    """… and that came in a pause."""
    end: str = ""
    """How its source has ended."""

    @property
    def over(self) -> bool:
        return self.status in FINAL


@dataclass
class Audience:
    """A handler, and what it should have been told."""

    witness: Witness
    only: str | None
    expected: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    leaves: bool = False

    def hear(self, name: str, *what: Any) -> None:
        if not self.leaves and name in self.expected:
            self.expected[name].append(what)

    def begin(self, name: str) -> None:
        if not self.leaves and self.only in (None, name):
            self.expected[name] = [("start", name)]


class Streams(RuleBasedStateMachine):
    """What is done, to both."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.number = 0
        self.known: dict[str, Modelled] = {}
        self.queue: list[Modelled] = []
        self.over: list[Modelled] = []
        self.ended: dict[str, int] = {}
        self.audiences: dict[str, Audience] = {}
        self.seen: list[StreamEvent] = []
        self.closed = False

    def do(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self.at_once((method, arguments, options))[0]

    def at_once(self, *calls: tuple[str, tuple[Any, ...], dict[str, Any]]) -> list[Any]:
        """Call these methods of the manager in one round of the loop."""

        async def call() -> list[Any]:
            results = [getattr(self.manager, method)(*arguments, **options) for method, arguments, options in calls]
            await settle()
            return results

        return self.loop.run_until_complete(call())

    def pick(self, data: st.DataObject) -> Modelled:
        return self.known[data.draw(st.sampled_from(sorted(self.known)))]

    # --- the model ----------------------------------------------------------------------------------------------------------

    def tell(self, stream: Modelled, *what: Any) -> None:
        for audience in self.audiences.values():
            audience.hear(stream.name, *what)

    def begin(self, stream: Modelled) -> None:
        for audience in self.audiences.values():
            audience.begin(stream.name)

    def promote(self) -> None:
        while self.queue and sum(each.status in ("active", "paused") for each in self.known.values()) < self.places:
            stream = self.queue.pop(0)
            stream.status = "active"
            self.begin(stream)

    def flow(self, stream: Modelled) -> None:
        """What a pause holds back no longer."""
        for _ in range(stream.held):
            self.tell(stream, "a", stream.told)
            stream.told += 1
        stream.held = 0
        if stream.end == "completed":
            self.finish(stream, "completed", ("complete", "a" * stream.told))
        elif stream.end:
            self.finish(stream, "error", ("error", "Disconnected"))

    def finish(self, stream: Modelled, status: str, *what: tuple[Any, ...]) -> None:
        if stream.status == "inactive":
            self.queue.remove(stream)
            self.begin(stream)
        stream.status = status
        for each in what:
            self.tell(stream, *each)
        self.ended[status] = self.ended.get(status, 0) + 1
        self.over.append(stream)
        while len(self.over) > self.keep:
            del self.known[self.over.pop(0).name]

    # --- what is done ---------------------------------------------------------------------------------------------------------

    @initialize(places=st.integers(1, 3), keep=st.integers(0, 4))
    def make(self, places: int, keep: int) -> None:
        self.places, self.keep = places, keep

        async def make() -> None:
            self.manager = StreamManager(max_streams=places, max_waiting=WAITING, keep=keep)
            self.manager.events.subscribe(self.seen.append)

        self.loop.run_until_complete(make())
        self.enter(None)
        for _ in range(2):
            self.start()

    @rule()
    def start(self) -> None:
        stream = Modelled(f"s{self.number}")
        if self.closed or len(self.queue) == WAITING:
            with pytest.raises(ConfigurationError if self.closed else BulkheadFull):
                self.do("start_stream", stream.source, stream_id=stream.name)
            return
        self.number += 1
        assert self.do("start_stream", stream.source, stream_id=stream.name) == stream.name
        self.known[stream.name] = stream
        self.queue.append(stream)
        self.promote()

    @precondition(lambda self: self.known)
    @rule(data=st.data(), what=st.sampled_from(("next", "next", "next", "completed", "error")))
    def emit(self, data: st.DataObject, what: str) -> None:
        """What comes in a pause is told when it is over, the end too; what comes before the start or after the end, never."""
        stream = self.pick(data)

        async def push() -> None:
            if what == "next":
                stream.source.on_next(TextDelta(text="a"))
            elif what == "completed":
                stream.source.on_completed()
            else:
                stream.source.on_error(Disconnected("gone"))
            await settle()

        if stream.end or (stream.status == "inactive" and what != "next"):
            return
        self.loop.run_until_complete(push())
        if stream.status not in ("active", "paused"):
            return
        if what == "next":
            stream.held += 1
        else:
            stream.end = what
        if stream.status == "active":
            self.flow(stream)
            self.promote()

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        stream = self.pick(data)
        assert self.do("pause_stream", stream.name) is (stream.status == "active")
        if stream.status == "active":
            stream.status = "paused"
            self.tell(stream, "pause")

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        stream = self.pick(data)
        assert self.do("resume_stream", stream.name) is (stream.status == "paused")
        if stream.status == "paused":
            stream.status = "active"
            self.tell(stream, "resume")
            self.flow(stream)
            self.promote()

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        stream = self.pick(data)
        assert self.do("cancel_stream", stream.name, "enough") is not stream.over
        if not stream.over:
            self.leave(stream)
            self.promote()

    def leave(self, stream: Modelled) -> None:
        self.finish(stream, "cancelled", ("cancel", "enough"), ("error", "Cancelled"))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), doings=st.lists(st.sampled_from(("pause", "resume")), min_size=2, max_size=4))
    def hurry(self, data: st.DataObject, doings: list[str]) -> None:
        """All in one round of the loop: it is told as it was done, and the end last."""
        stream = self.pick(data)
        if stream.held or stream.end or stream.over:
            return
        legal = {("active", "pause"): "paused", ("paused", "resume"): "active"}
        expected: list[bool] = []
        for doing in doings:
            before = stream.status
            stream.status = legal.get((before, doing), before)
            expected.append(stream.status != before)
            if expected[-1]:
                self.tell(stream, doing)
        calls: list[Any] = [(f"{doing}_stream", (stream.name,), {}) for doing in doings]
        self.leave(stream)
        assert self.at_once(*calls, ("cancel_stream", (stream.name, "enough"), {})) == [*expected, True]
        self.promote()

    @precondition(lambda self: self.known and len(self.queue) < WAITING and not self.closed)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        """Who comes when another leaves does not overtake who waits."""
        stream, new = self.pick(data), Modelled(f"s{self.number}")
        if stream.over:
            return
        self.number += 1
        self.leave(stream)
        start: Any = ("start_stream", (new.source,), {"stream_id": new.name})
        assert self.at_once(("cancel_stream", (stream.name, "enough"), {}), start) == [True, new.name]
        self.known[new.name] = new
        self.queue.append(new)
        self.promote()

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        stream = self.pick(data)
        assert self.do("forget", stream.name) is stream.over
        if stream.over:
            self.over.remove(stream)
            del self.known[stream.name]
            with pytest.raises(UnknownStream):
                self.do("get_stream_status", stream.name)

    @rule(data=st.data(), some=st.booleans())
    def register(self, data: st.DataObject, some: bool) -> None:
        only = self.pick(data).name if some and self.known else None
        self.enter(only)

    def enter(self, only: str | None) -> None:
        witness = Witness()
        name = self.do("register_handler", witness, streams=None if only is None else [only])
        audience = self.audiences[name] = Audience(witness, only)
        for stream in self.known.values():
            if stream.status in ("active", "paused"):
                audience.begin(stream.name)
            if stream.status == "paused":
                audience.hear(stream.name, "pause")

    @precondition(lambda self: self.audiences)
    @rule(data=st.data())
    def unregister(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.audiences)))
        assert self.do("unregister_handler", name) is not self.audiences[name].leaves
        self.audiences[name].leaves = True

    @precondition(lambda self: self.number > 4)
    @rule()
    def close(self) -> None:
        self.do("close")
        self.closed = True
        running = [stream for stream in self.known.values() if not stream.over and stream not in self.queue]
        for stream in [*reversed(self.queue), *running]:
            self.finish(stream, "cancelled", ("cancel", "its manager was closed"), ("error", "Cancelled"))

    # --- what holds -----------------------------------------------------------------------------------------------------------

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "manager"):
            return
        assert self.manager.streams() == {name: stream.status for name, stream in self.known.items()}
        for name, stream in self.known.items():
            assert len(self.manager.session(name).partial.text) == stream.told
            self.agrees_on_the_result(stream)
        for audience in self.audiences.values():
            assert {name: diary.told for name, diary in audience.witness.diaries.items()} == audience.expected
        counted = self.manager.statistics.streams
        assert {status: number for status, number in counted.items() if status in FINAL} == self.ended

    def agrees_on_the_result(self, stream: Modelled) -> None:
        if stream.status == "completed":
            assert self.manager.get_result(stream.name).text == "a" * stream.told
        elif stream.over:
            with pytest.raises(Cancelled if stream.status == "cancelled" else Disconnected):
                self.manager.get_result(stream.name)
        else:
            with pytest.raises(TimeoutError):
                self.manager.get_result(stream.name, timeout=0)

    def teardown(self) -> None:
        if hasattr(self, "manager"):
            self.loop.run_until_complete(self.manager.aclose())
            self.loop.run_until_complete(settle())
            check_order(self.seen, self.number)
            assert not asyncio.all_tasks(self.loop)
            assert not self.manager._roster.running
        self.loop.close()


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None)
