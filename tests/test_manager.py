"""Many streams in one hand: states, queue, control from any thread, results, figures, handlers, the end."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import reactivex as rx
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import rxstream
from rxstream._managed import LEGAL
from rxstream.errors import (
    BulkheadFull,
    Cancelled,
    ConfigurationError,
    Disconnected,
    LoopShutDown,
    UnknownHandler,
    UnknownStream,
)
from rxstream.events import Event, Retrying, TextDelta
from rxstream.manager import StreamManager
from rxstream.manager_events import StreamEvent
from rxstream.observable import Stream
from rxstream.response import Response
from rxstream.sinks.handler import StreamHandler, StreamMetadata
from tests.support.scripted import DONE, HANG, Scripted, Step, numbered, raising, words
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time


class Diary(StreamHandler):
    """Writes down what it is told, of each stream."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def on_stream_start(self, metadata: StreamMetadata) -> None:
        self.told.append(("start", metadata.stream_id))

    def on_token_received(self, token: str, index: int) -> None:
        self.told.append((token, index))

    def on_stream_complete(self, full_response: Response) -> None:
        self.told.append(("complete", full_response.text))

    def on_stream_error(self, error: Exception) -> None:
        self.told.append(("error", type(error).__name__))

    def on_pause(self) -> None:
        self.told.append(("pause",))

    def on_resume(self) -> None:
        self.told.append(("resume",))

    def on_cancel(self, reason: str) -> None:
        self.told.append(("cancel", reason))


def handler(**methods: Any) -> SimpleNamespace:
    """An object that has these methods of a handler."""
    return SimpleNamespace(**methods)


def scripted(*texts: str, every: float = 1.0) -> Stream[Event]:
    return Stream.of(Scripted(words(*texts, every=every)).events())


# --- a stream's life ------------------------------------------------------------------------------------------------------


@virtual_time
async def test_runs_a_stream_and_tells_its_handlers() -> None:
    async with StreamManager() as manager:
        diary, own = Diary(), Diary()
        manager.register_handler(diary)
        name = manager.start_stream(scripted("a", "b"), handlers=[own])
        assert (name, manager.get_stream_status(name)) == ("stream-1", "active")
        response = await manager.wait(name)
        assert (response.text, manager.get_stream_status(name)) == ("ab", "completed")
        assert manager.get_result(name) is response
        assert diary.told == own.told == [("start", name), ("a", 0), ("b", 1), ("complete", "ab")]


@virtual_time
async def test_pause_resume_and_cancel_do_what_is_legal_and_say_whether_they_did() -> None:
    async with StreamManager() as manager:
        diary = Diary()
        name = manager.start_stream(scripted("a", "b", "c"), handlers=[diary])
        await asyncio.sleep(1.5)
        assert (manager.resume_stream(name), manager.pause_stream(name), manager.pause_stream(name)) == (
            False, True, False,
        )  # fmt: skip
        await asyncio.sleep(10)
        assert manager.get_stream_status(name) == "paused"
        assert (manager.resume_stream(name), manager.resume_stream(name)) == (True, False)
        await asyncio.sleep(0.5)
        assert (manager.cancel_stream(name, "enough"), manager.cancel_stream(name)) == (True, False)
        assert (manager.pause_stream(name), manager.resume_stream(name)) == (False, False)
        with pytest.raises(Cancelled, match="enough") as caught:
            await manager.wait(name)
        assert caught.value.partial is not None
        told = [
            ("start", name),
            ("a", 0),
            ("pause",),
            ("resume",),
            ("b", 1),
            ("cancel", "enough"),
            ("error", "Cancelled"),
        ]
        assert (diary.told, caught.value.partial.text) == (told, "ab")


@virtual_time
async def test_a_failure_is_the_stream_s_own() -> None:
    async with StreamManager() as manager:
        bad = manager.start_stream(Stream.of(Scripted([1, "a", raising(Disconnected("gone"))]).events()))
        good = manager.start_stream(scripted("x", "y"))
        assert (await manager.wait(good)).text == "y" or (await manager.wait(good)).text == "xy"
        with pytest.raises(Disconnected):
            manager.get_result(bad)
        assert manager.streams() == {bad: "error", good: "completed"}
        assert manager.get_statistics(bad).errors == 1
        assert isinstance(manager.session(bad).error, Disconnected)


@virtual_time
async def test_what_a_handler_does_to_its_stream_is_told_when_all_have_heard() -> None:
    """Nothing is told within something else's telling: every handler sees the same order."""
    async with StreamManager() as manager:
        diary = Diary()

        class Impatient(StreamHandler):
            def on_token_received(self, token: str, index: int) -> None:
                if index == 0:
                    assert manager.pause_stream("s")
                    assert manager.resume_stream("s")
                else:
                    assert manager.cancel_stream("s", token)

        manager.register_handler(Impatient())
        manager.register_handler(diary)
        name = manager.start_stream(scripted("a", "b", "c"), stream_id="s")
        with pytest.raises(Cancelled):
            await manager.wait(name)
        told = [("start", "s"), ("a", 0), ("pause",), ("resume",), ("b", 1), ("cancel", "b"), ("error", "Cancelled")]
        assert diary.told == told


@virtual_time
async def test_cancelled_by_a_handler_at_its_start_nothing_more_is_told() -> None:
    async with StreamManager() as manager:

        class No(Diary):
            def on_stream_start(self, metadata: StreamMetadata) -> None:
                super().on_stream_start(metadata)
                manager.cancel_stream(metadata.stream_id)

        for source in (scripted("a"), rx.of(TextDelta(text="a"))):
            diary = No()
            name = manager.start_stream(source, handlers=[diary])
            with pytest.raises(Cancelled):
                await manager.wait(name)
            assert diary.told == [("start", name), ("cancel", ""), ("error", "Cancelled")]


@virtual_time
async def test_what_a_handler_makes_its_source_emit_is_told_when_all_have_heard() -> None:
    source: rx.Subject[Event] = rx.Subject()

    class Eager(StreamHandler):
        def on_stream_start(self, metadata: StreamMetadata) -> None:
            source.on_next(TextDelta(text="a"))

        def on_token_received(self, token: str, index: int) -> None:
            if index == 0:
                source.on_next(TextDelta(text="b"))

        def on_pause(self) -> None:
            assert manager.resume_stream("s")

        def on_resume(self) -> None:
            source.on_next(TextDelta(text="c"))
            source.on_completed()

    async with StreamManager() as manager:
        diary = Diary()
        for each in (Eager(), diary):
            manager.register_handler(each)
        manager.start_stream(source, stream_id="s")
        await settle()
        manager.pause_stream("s")
        assert (await manager.wait("s")).text == "abc"
        told = [("start", "s"), ("a", 0), ("b", 1), ("pause",), ("resume",), ("c", 2), ("complete", "abc")]
        assert diary.told == told
        failing = handler(on_event=lambda _: 1 / 0, on_stream_start=lambda _: other.on_next(TextDelta(text="a")))
        manager.register_handler(failing, on_failure="raise", streams=lambda metadata: metadata.stream_id == "t")
        other: rx.Subject[Event] = rx.Subject()
        manager.start_stream(other, stream_id="t")
        with pytest.raises(ZeroDivisionError):
            await manager.wait("t")


# --- the queue ------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_with_a_maximum_the_others_wait_in_order_and_their_queue_time_is_known() -> None:
    async with StreamManager(max_streams=2, max_waiting=3) as manager:
        names = [manager.start_stream(scripted("a", every=float(seconds))) for seconds in (1, 3, 1, 1)]
        assert list(manager.streams().values()) == ["active", "active", "inactive", "inactive"]
        assert (manager.pause_stream(names[2]), manager.resume_stream(names[2])) == (False, False)
        await asyncio.sleep(1.5)
        assert list(manager.streams().values()) == ["completed", "active", "active", "inactive"]
        assert manager.get_statistics(names[3]).queue_time == 1.5
        assert manager.get_statistics(names[3]).started_at is None
        await manager.wait(names[3])
        assert [manager.get_statistics(name).queue_time for name in names] == [0, 0, 1, 2]
        assert [manager.get_statistics(name).elapsed for name in names] == [1, 3, 1, 1]
        assert manager.statistics.queue_time == 3


@virtual_time
async def test_the_queue_has_a_bound() -> None:
    async with StreamManager(max_streams=1, max_waiting=1) as manager:
        first, _second = manager.start_stream(scripted("a")), manager.start_stream(scripted("b"))
        with pytest.raises(BulkheadFull, match="1 streams run already, and 1 more wait"):
            manager.start_stream(scripted("c"))
        assert len(manager.streams()) == 2
        await manager.wait(first)
        await settle()
        manager.start_stream(scripted("d"))
        assert list(manager.streams().values()) == ["completed", "active", "inactive"]


@virtual_time
async def test_one_that_waits_can_be_cancelled_and_is_never_asked_for() -> None:
    async with StreamManager(max_streams=1) as manager:
        diary, script = Diary(), Scripted(words("b"))
        first = manager.start_stream(scripted("a"))
        second = manager.start_stream(Stream.of(script.events()), handlers=[diary])
        third = manager.start_stream(scripted("c"))
        assert manager.cancel_stream(second, "not needed")
        with pytest.raises(Cancelled):
            await manager.wait(second)
        assert diary.told == [("start", second), ("cancel", "not needed"), ("error", "Cancelled")]
        assert [(await manager.wait(name)).text for name in (first, third)] == ["a", "c"]
        assert script.opened == 0


@virtual_time
async def test_a_long_row_of_streams_that_end_at_once() -> None:
    """They do not pile up on the stack."""
    async with StreamManager(max_streams=1, max_waiting=5_000, keep=5_000) as manager:
        names = [manager.start_stream(rx.of(TextDelta(text=str(number)))) for number in range(800)]
        assert (await manager.wait(names[-1])).text == "799"
        assert set(manager.streams().values()) == {"completed"}


# --- what can be started ----------------------------------------------------------------------------------------------------


@virtual_time
async def test_anything_that_gives_events_is_a_stream() -> None:
    async def pieces() -> Any:
        for text in ("to ", "be"):
            yield text

    events = [TextDelta(text="to "), TextDelta(text="be"), DONE]
    async with StreamManager() as manager:
        sources: list[Any] = [
            scripted("to ", "be"),
            rx.from_iterable(events),
            ["to ", "be"],
            events,
            pieces(),
            pieces,
            lambda: ["to ", "be"],
        ]
        for source in sources:
            assert (await manager.wait(manager.start_stream(source))).text == "to be"
        iterated: Iterator[str] = iter(["to ", "be"])
        assert (await manager.wait(manager.start_stream(iterated))).text == "to be"


@virtual_time
async def test_what_gives_none_is_refused() -> None:
    async with StreamManager() as manager:
        for source in ("a whole answer", 3, None):
            with pytest.raises(ConfigurationError):
                manager.start_stream(source)
        assert manager.streams() == {}
        name = manager.start_stream(rx.of("text", "without events"))
        with pytest.raises(ConfigurationError, match="not an event"):
            await manager.wait(name)
        assert manager.get_stream_status(name) == "error"


@virtual_time
async def test_a_combination_of_tracks_has_a_choice_for_each() -> None:
    async with StreamManager() as manager:
        diary = Diary()
        both = rxstream.tracks.merge(rxstream.from_iterable(["a", "b"]), rxstream.from_iterable(["c"]))
        response = await manager.wait(manager.start_stream(both, handlers=[diary]))
        assert sorted(choice.text for choice in response.choices) == ["ab", "c"]
        assert [choice.index for choice in response.choices] == [0, 1]
        assert diary.told[-1] == ("complete", response.text)


@virtual_time
async def test_metadata_is_what_was_given_and_what_is_known() -> None:
    known: list[StreamMetadata] = []

    class Known(StreamHandler):
        def on_stream_start(self, metadata: StreamMetadata) -> None:
            known.append(metadata)

    async with StreamManager() as manager:
        manager.register_handler(Known())
        question = manager.start_stream(rxstream.from_iterable(["a"], label="left"), {"user": 7, "request_id": "r"})
        child = manager.start_stream(["a"], StreamMetadata(parent_id=question, stream_id="mine", extra={"n": 1}))
        other = manager.start_stream(["a"], {"trace_id": "t", "extra": {"a": 1}, "b": 2}, stream_id="given")
        for name in (question, child, other):
            await manager.wait(name)
    first, second, third = known
    assert (first.label, first.request_id, first.extra, len(first.trace_id)) == ("left", "r", {"user": 7}, 32)
    assert (second.stream_id, second.label, second.extra) == ("mine", "mine", {"n": 1})
    assert second.trace_id == first.trace_id
    assert (third.stream_id, third.trace_id, third.extra) == ("given", "t", {"a": 1, "b": 2})
    assert abs(first.started_at - time.time()) < 3600


@virtual_time
async def test_a_model_s_stream_tells_its_provider_and_model() -> None:
    async with StreamManager() as manager:
        diary: list[StreamMetadata] = []
        answer = rxstream.stream("openai:gpt-x", "hello", api_key="k", base_url="http://127.0.0.1:1/v1")
        name = manager.start_stream(answer, handlers=[handler(on_stream_start=diary.append)])
        await settle()
        manager.cancel_stream(name)
        await settle()
        assert [(each.provider, each.model, each.label) for each in diary] == [("openai", "gpt-x", "openai:gpt-x")]


@virtual_time
async def test_ids_and_options_are_checked() -> None:
    for options in ({"max_streams": 0}, {"max_waiting": -1}, {"keep": 1.5}, {"replay": -1}):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            StreamManager(**options)
    async with StreamManager() as manager:
        name = manager.start_stream(["a"], stream_id="question")
        with pytest.raises(ConfigurationError, match="there is a stream of this id"):
            manager.start_stream(["a"], stream_id="question")
        with pytest.raises(UnknownStream, match="did you mean 'question'"):
            manager.get_stream_status("qestion")
        with pytest.raises(UnknownStream, match=r"no stream has the id 'x'$"):
            manager.pause_stream("x")
        with pytest.raises(ConfigurationError, match="label"):
            manager.start_stream(["a"], {"label": 3})
        with pytest.raises(ConfigurationError, match="metadata"):
            manager.start_stream(["a"], 3)  # type: ignore[arg-type]
        await manager.wait(name)


# --- handlers -------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_handlers_come_and_go_in_mid_stream() -> None:
    async with StreamManager() as manager:
        first, second = Diary(), Diary()
        one = manager.register_handler(first)
        name = manager.start_stream(scripted("a", "b", "c"))
        await asyncio.sleep(1.5)
        two = manager.register_handler(second)
        await asyncio.sleep(1)
        assert manager.unregister_handler(one) is True
        assert manager.unregister_handler(one) is False
        await manager.wait(name)
        assert first.told == [("start", name), ("a", 0), ("b", 1)]
        assert [what for what, *_ in second.told] == ["start", "b", "c", "complete"]
        assert set(manager.get_statistics(name).handlers) == {two}
        with pytest.raises(UnknownHandler, match="did you mean 'handler-2'"):
            manager.unregister_handler("handler-3")


@virtual_time
async def test_a_handler_may_be_for_some_streams() -> None:
    async with StreamManager() as manager:
        one = manager.start_stream(scripted("a"))
        two = manager.start_stream(scripted("b"), {"user": 7})
        await settle()
        by_id, by_user, broken = Diary(), Diary(), Diary()
        manager.register_handler(by_id, streams=[one])
        manager.register_handler(by_user, streams=lambda metadata: metadata.extra.get("user") == 7)
        manager.register_handler(broken, streams=lambda metadata: 1 / 0)  # type: ignore[arg-type, return-value]
        with pytest.raises(UnknownStream):
            manager.register_handler(Diary(), streams=["stream-9"])
        assert [(await manager.wait(name)).text for name in (one, two)] == ["a", "b"]
        assert (by_id.told[-1], by_user.told[-1], broken.told) == (("complete", "a"), ("complete", "b"), [])


@virtual_time
async def test_the_policy_of_a_handler_holds() -> None:
    async with StreamManager() as manager:
        diary = Diary()

        def fail(_token: str, _index: int) -> None:
            raise ValueError("mine")

        isolated = manager.register_handler(handler(on_token_received=fail))
        manager.register_handler(diary, by="word")
        name = manager.start_stream(["to b", "e or"])
        assert (await manager.wait(name)).text == "to be or"
        assert diary.told[1:-1] == [("to ", 0), ("be ", 1), ("or", 2)]
        figures = manager.get_statistics(name)
        assert (figures.handler_failures, figures.handlers[isolated].failures, figures.errors) == (2, 2, 0)
        manager.unregister_handler(isolated)
        manager.register_handler(handler(on_token_received=fail), on_failure="raise")
        name = manager.start_stream(["a", "b"])
        with pytest.raises(ValueError, match="mine"):
            await manager.wait(name)
        assert manager.get_stream_status(name) == "error"
        assert diary.told[-1] == ("error", "ValueError")

        async def later(token: str, index: int) -> None:
            await asyncio.sleep(0.5)
            raise ValueError("later")

        script = Scripted(words("a", "b", "c"))
        name = manager.start_stream(Stream.of(script.events()), stream_id="slow")
        manager.register_handler(handler(on_token_received=later), on_failure="raise", streams=["slow"])
        with pytest.raises(ValueError, match=r"mine|later"):
            await manager.wait(name)


@virtual_time
async def test_a_slow_handler_delays_nobody_and_close_waits_for_it() -> None:
    heard: list[str] = []

    async def slow(token: str, _index: int) -> None:
        await asyncio.sleep(2)
        heard.append(token)

    loop = asyncio.get_running_loop()
    async with StreamManager() as manager:
        manager.register_handler(handler(on_token_received=slow))
        await manager.wait(manager.start_stream(["a", "b", "c"]))
        assert (loop.time(), heard) == (0, [])
    assert (loop.time(), heard) == (6, ["a", "b", "c"])
    manager = StreamManager()
    manager.register_handler(handler(on_token_received=slow))
    await manager.wait(manager.start_stream(["d", "e", "f"]))
    await manager.aclose(timeout=3)
    assert (loop.time(), heard) == (9, ["a", "b", "c", "d"])


@virtual_time
async def test_progress_is_told() -> None:
    values: list[Any] = []
    async with StreamManager() as manager:
        name = manager.start_stream(scripted("a", "b"), handlers=[handler(on_progress=values.append)])
        await manager.wait(name)
    assert values[-1].done


# --- results and figures ------------------------------------------------------------------------------------------------------


@virtual_time
async def test_finished_streams_are_kept_up_to_a_number() -> None:
    async with StreamManager(keep=2) as manager:
        names = [manager.start_stream(["ab"]) for _ in range(3)]
        await asyncio.sleep(1)
        assert list(manager.streams()) == names[1:]
        with pytest.raises(UnknownStream):
            manager.get_result(names[0])
        running = manager.start_stream(scripted("a"))
        assert (manager.forget(names[1]), manager.forget(running)) == (True, False)
        with pytest.raises(UnknownStream):
            manager.forget(names[1])
        await manager.wait(running)
        figures = manager.statistics
        assert (figures.streams, figures.characters, figures.outputs) == ({"completed": 4}, 7, 4)
        assert repr(manager) == "<StreamManager 0 running, 0 waiting, 2 over>"


@virtual_time
async def test_failed_attempts_are_errors_of_a_stream_that_completes() -> None:
    asked = rxstream.errors.Overloaded("busy").info()
    async with StreamManager() as manager:
        script: list[Step] = [1, (Retrying(error=asked),), "a", DONE]
        name = manager.start_stream(Stream.of(Scripted(script).events()))
        await manager.wait(name)
        figures = manager.get_statistics(name)
        assert (figures.status, figures.errors, figures.time_to_first_output) == ("completed", 1, 1)


@virtual_time
async def test_the_wait_for_a_result_can_be_given_up() -> None:
    async with StreamManager() as manager:
        name = manager.start_stream(scripted("a", every=10))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await manager.wait(name)
        assert manager.get_stream_status(name) == "active"
        with pytest.raises(ConfigurationError, match=r"await manager\.wait"):
            manager.get_result(name)
        assert (await manager.wait(name)).text == "a"


# --- the end ----------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_closing_cancels_all_and_leaves_nothing() -> None:
    script = Scripted([1, "a", HANG])
    diary = Diary()
    async with StreamManager(max_streams=2) as manager:
        names = [manager.start_stream(Stream.of(script.events()), handlers=[diary]) for _ in range(4)]
        await asyncio.sleep(1.5)
    assert set(manager.streams().values()) == {"cancelled"}
    assert (script.opened, script.closed, len(asyncio.all_tasks())) == (2, 2, 1)
    assert diary.told.count(("cancel", "its manager was closed")) == 4
    assert set(manager.streams()) == set(names)
    with pytest.raises(ConfigurationError, match="closed"):
        manager.start_stream(["a"])
    await manager.aclose()
    manager.close()


def test_from_plain_code_with_the_shared_loop() -> None:
    threads = threading.active_count()
    with StreamManager() as manager:
        places: list[str] = []
        manager.register_handler(handler(on_token_received=lambda *_: places.append(threading.current_thread().name)))
        name = manager.start_stream(["to ", "be"])
        assert manager.get_result(name, timeout=5).text == "to be"
        assert set(places) == {"rxstream-loop"}
        with pytest.raises(TimeoutError):
            manager.get_result(manager.start_stream(Stream.of(Scripted([HANG]).events())), timeout=0.01)
    assert set(manager.streams().values()) == {"completed", "cancelled"}
    assert threading.active_count() <= threads + 1  # the shared loop's own


def test_a_loop_that_goes_down_ends_its_streams_and_nobody_waits_for_it() -> None:
    diary = Diary()

    async def main() -> tuple[StreamManager, list[str]]:
        manager = StreamManager(max_streams=2)
        names = [manager.start_stream(Stream.of(Scripted([HANG]).events()), handlers=[diary]) for _ in range(2)]
        await settle()
        manager.pause_stream(names[0])
        return manager, names

    manager, names = asyncio.run(main())
    for name in names:
        with pytest.raises(LoopShutDown):
            manager.get_result(name, timeout=5)
    assert set(manager.streams().values()) == {"error"}
    manager.close()


def test_who_waits_for_a_turn_on_a_loop_that_goes_down_fails_too() -> None:
    async def main() -> tuple[StreamManager, list[str]]:
        manager = StreamManager(max_streams=1)
        names = [manager.start_stream(Stream.of(Scripted([HANG]).events())) for _ in range(3)]
        await settle()
        return manager, names

    manager, names = asyncio.run(main())
    for name in names:
        with pytest.raises(LoopShutDown):
            manager.get_result(name, timeout=5)
    assert list(manager.streams().values()) == ["error"] * 3


def test_on_a_loop_that_is_closed_nothing_starts() -> None:
    async def main() -> StreamManager:
        return StreamManager()

    manager = asyncio.run(main())
    with pytest.raises(LoopShutDown):
        manager.start_stream(["a"])
    assert manager.streams() == {}
    manager.close()


@virtual_time
async def test_nobody_overtakes_who_waits() -> None:
    """Neither between an end and the start of who is next, which are not in one round of the loop."""
    async with StreamManager(max_streams=1) as manager:
        first, second = (manager.start_stream(scripted("a")) for _ in range(2))
        late: list[str] = []
        manager.session(first)  # known
        manager._roster.find(first).result.add_done_callback(lambda _done: late.append(manager.start_stream(["c"])))
        await manager.wait(first)
        await manager.wait(second)
        await manager.wait(late[0])
        begun = [manager.get_statistics(name).started_at or 0.0 for name in (first, second, late[0])]
        assert begun == sorted(begun)
        assert list(manager.streams().values()) == ["completed"] * 3


@pytest.mark.parametrize("thread", [False, True])
def test_a_slow_handler_may_close_its_manager(thread: bool) -> None:
    """It does not wait for itself, and is told the end when it has returned."""
    manager = StreamManager()
    told: list[object] = []
    closed = threading.Event()

    class Closes(StreamHandler):
        def on_token_received(self, token: str, index: int) -> Any:
            return self.close_there() if thread else self.close()

        def close_there(self) -> None:
            manager.close(60)
            told.append("closed")

        async def close(self) -> None:
            await manager.aclose(60)
            told.append("closed")

        def on_stream_error(self, error: Exception) -> None:
            told.append(type(error))
            closed.set()

    manager.register_handler(Closes(), thread=thread)
    stream_id = manager.start_stream(Stream.of(Scripted(["a", HANG]).events()))
    assert closed.wait(30)
    assert told == ["closed", Cancelled]
    assert manager.get_stream_status(stream_id) == "cancelled"
    manager.close()


def test_a_cancellation_that_a_handler_raises_is_no_end_of_the_stream() -> None:
    def raises(_event: Event) -> None:
        raise asyncio.CancelledError

    with StreamManager() as manager:
        manager.register_handler(raises)
        stream_id = manager.start_stream(["a"])
        assert manager.get_result(stream_id, timeout=5).text == "a"
        assert manager.statistics.handler_failures == 3


def test_what_is_no_list_is_refused_by_name() -> None:
    with StreamManager() as manager:
        one: Any = StreamHandler()
        with pytest.raises(ConfigurationError, match="handlers="):
            manager.start_stream(["a"], handlers=one)
        with pytest.raises(ConfigurationError, match="extra=5"):
            manager.start_stream(["a"], {"extra": 5})
        with pytest.raises(ConfigurationError, match="metadata=0"):
            manager.start_stream(["a"], 0)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="stream_id=5"):
            manager.start_stream(["a"], stream_id=5)  # type: ignore[arg-type]
        stream_id = manager.start_stream(["a"])
        for wrong in (stream_id, 7):
            with pytest.raises(ConfigurationError, match="streams="):
                manager.register_handler(one, streams=wrong)  # type: ignore[arg-type]


def test_one_that_is_unregistered_on_its_way_to_the_loop_does_not_serve() -> None:
    """Called on the loop, to unregister is done at once, though to register, in another thread, is still on its way."""
    told: list[object] = []

    async def main() -> None:
        manager = StreamManager()
        stream_id = manager.start_stream(Stream.of(Scripted(["a", 0.01, "b", DONE]).events()))
        await settle()
        registered: list[str] = []
        thread = threading.Thread(target=lambda: registered.append(manager.register_handler(told.append)))
        thread.start()
        thread.join()  # the loop stands still
        manager.unregister_handler(registered[0])
        await manager.wait(stream_id)
        await manager.aclose()

    asyncio.run(main())
    assert told == []


def test_all_can_be_done_in_any_thread() -> None:
    """Law: whatever many threads do at once, each stream keeps to the legal transitions, and its events to their order."""
    with StreamManager(max_streams=5, max_waiting=1_000) as manager:
        told: list[StreamEvent] = []
        manager.events.subscribe(told.append)

        def work(number: int) -> None:
            for turn in range(8):
                name = manager.start_stream(["a", "b", "c"] * 5, stream_id=f"{number}-{turn}")
                handler = manager.register_handler(Diary())
                for action in (manager.pause_stream, manager.resume_stream) * 3:
                    action(name)
                if turn % 3 == 0:
                    manager.cancel_stream(name)
                manager.unregister_handler(handler)
                manager.resume_stream(name)
                _ = manager.statistics, manager.streams(), manager.get_statistics(name)
                if turn % 3:
                    assert manager.get_result(name, timeout=30).text == "abc" * 5

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    assert set(manager.streams().values()) == {"completed", "cancelled"}
    assert len(manager.streams()) == 48
    check_order(told, 48)


def check_order(told: list[StreamEvent], streams: int) -> None:
    """Of each stream every event, once, in order; legal transitions; one end."""
    step = {"stream-started": "active", "stream-paused": "paused", "stream-resumed": "active"}
    status: dict[str, Any] = {}
    numbers: dict[str, int] = {}
    for one in told:
        assert one.number == numbers.get(one.stream_id, 0)
        numbers[one.stream_id] = one.number + 1
        before = status.setdefault(one.stream_id, "inactive")
        tag: Any = type(one.event).__struct_config__.tag
        after = step.get(tag, before) if tag != "stream-ended" else one.event.status  # type: ignore[union-attr]
        assert after == before or after in LEGAL[before]
        status[one.stream_id] = after
    assert len(status) == streams
    assert not [one for one, last in status.items() if LEGAL[last]]


def test_a_forgotten_stream_is_garbage() -> None:
    async def main() -> None:
        async with StreamManager(keep=0) as manager:
            stream = Stream.of(Scripted(numbered(3)).events())
            there = weakref.ref(stream)
            name = manager.start_stream(stream)
            del stream
            result = await manager.wait(name)
            await settle()
            gc.collect()
            assert (result.text, there()) == ("0 1 2 ", None)

    asyncio.run(main())


# --- a model of it ------------------------------------------------------------------------------------------------------------


class Streams(RuleBasedStateMachine):
    """The manager against a model: who runs, who waits, and every status, after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.model: dict[str, str] = {}
        self.sources: dict[str, rx.Subject[Event]] = {}
        self.ending: dict[str, str] = {}
        self.length: dict[str, int] = {}
        self.queue: list[str] = []
        self.told: list[StreamEvent] = []

    def do(self, method: str, *arguments: Any, **options: Any) -> Any:
        async def call() -> Any:
            result = getattr(self.manager, method)(*arguments, **options)
            await settle()
            return result

        return self.loop.run_until_complete(call())

    @initialize(places=st.integers(1, 3))
    def begin(self, places: int) -> None:
        self.places = places

        async def make() -> None:
            self.manager = StreamManager(max_streams=places, max_waiting=4)
            self.manager.events.subscribe(self.told.append)

        self.loop.run_until_complete(make())

    def promote(self) -> None:
        while self.queue and sum(status in ("active", "paused") for status in self.model.values()) < self.places:
            self.model[self.queue.pop(0)] = "active"

    @rule()
    def start(self) -> None:
        name = f"s{len(self.model)}"
        if len(self.queue) == 4:
            with pytest.raises(BulkheadFull):
                self.do("start_stream", rx.never(), stream_id=name)
            return
        self.sources[name] = rx.Subject()
        assert self.do("start_stream", self.sources[name], stream_id=name) == name
        self.model[name] = "inactive"
        self.queue.append(name)
        self.promote()

    @precondition(lambda self: self.model)
    @rule(data=st.data(), what=st.sampled_from(("next", "next", "next", "completed", "error")))
    def emit(self, data: st.DataObject, what: str) -> None:
        """What comes in a pause is told when it is over, the end too."""
        name = data.draw(st.sampled_from(sorted(self.model)))

        async def push() -> None:
            source = self.sources[name]
            if what == "next":
                source.on_next(TextDelta(text="a"))
            elif what == "completed":
                source.on_completed()
            else:
                source.on_error(Disconnected("gone"))
            await settle()

        if self.model[name] in ("active", "paused") and name not in self.ending:
            self.loop.run_until_complete(push())
            if what == "next":
                self.length[name] = self.length.get(name, 0) + 1
            else:
                self.ending[name] = what
            self.end(name)

    def end(self, name: str) -> None:
        if self.model[name] == "active":
            self.model[name] = self.ending.get(name, "active")
            self.promote()

    @precondition(lambda self: self.model)
    @rule(data=st.data(), action=st.sampled_from(("pause", "resume", "cancel")))
    def act(self, data: st.DataObject, action: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        new = {
            ("active", "pause"): "paused",
            ("paused", "resume"): "active",
            ("inactive", "cancel"): "cancelled",
            ("active", "cancel"): "cancelled",
            ("paused", "cancel"): "cancelled",
        }.get((self.model[name], action))
        assert self.do(f"{action}_stream", name) is (new is not None)
        if new is not None:
            self.model[name] = new
            if new == "cancelled" and name in self.queue:
                self.queue.remove(name)
            self.end(name)
            self.promote()

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "manager"):
            assert self.manager.streams() == self.model
            for name, status in self.model.items():
                if status in ("completed", "error"):
                    assert len(self.manager.session(name).partial.text) == self.length.get(name, 0)

    def teardown(self) -> None:
        if hasattr(self, "manager"):
            self.loop.run_until_complete(self.manager.aclose())
            self.loop.run_until_complete(settle())
            check_order(self.told, len(self.model))
            assert not asyncio.all_tasks(self.loop)
        self.loop.close()


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
