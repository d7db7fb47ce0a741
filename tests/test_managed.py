"""One stream of a manager: who is told what, in which order."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
import reactivex as rx
from reactivex.disposable import Disposable

import rxstream
from rxstream.errors import Cancelled, Disconnected
from rxstream.events import Event, Retrying, TextDelta
from rxstream.manager import StreamManager
from rxstream.observable import Stream
from rxstream.sinks.handler import StreamHandler, StreamMetadata
from tests.support.managing import Diary, handler, scripted
from tests.support.scripted import DONE, HANG, Scripted, Step, raising
from tests.support.virtual_loop import settle, virtual_time


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
        assert (await manager.wait(good)).text == "xy"
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
async def test_progress_is_told() -> None:
    values: list[Any] = []
    async with StreamManager() as manager:
        name = manager.start_stream(scripted("a", "b"), handlers=[handler(on_progress=values.append)])
        await manager.wait(name)
    assert values[-1].done


@virtual_time
async def test_failed_attempts_are_errors_of_a_stream_that_completes() -> None:
    asked = rxstream.errors.Overloaded("busy").info()
    async with StreamManager() as manager:
        script: list[Step] = [1, (Retrying(error=asked),), "a", DONE]
        name = manager.start_stream(Stream.of(Scripted(script).events()))
        await manager.wait(name)
        figures = manager.get_statistics(name)
        assert (figures.status, figures.errors, figures.time_to_first_output) == ("completed", 1, 1)


def test_a_cancellation_that_a_handler_raises_is_no_end_of_the_stream() -> None:
    def raises(_event: Event) -> None:
        raise asyncio.CancelledError

    with StreamManager() as manager:
        manager.register_handler(raises)
        stream_id = manager.start_stream(["a"])
        assert manager.get_result(stream_id, timeout=5).text == "a"
        assert manager.statistics.handler_failures == 3


@pytest.mark.parametrize("kind", [SystemExit, asyncio.CancelledError, ValueError])
def test_a_source_that_raises_anything_when_it_is_asked_has_failed(kind: type[BaseException]) -> None:
    def subscribe(_observer: object, _scheduler: object = None) -> Any:
        raise kind("mine")

    with StreamManager(max_streams=1) as manager:
        bad, good = manager.start_stream(rx.create(subscribe)), manager.start_stream(["a"])
        with pytest.raises((RuntimeError, ValueError), match="mine"):
            manager.get_result(bad, timeout=30)
        assert manager.get_result(good, timeout=30).text == "a"


def test_one_that_fails_at_its_start_is_not_asked_for() -> None:
    asked: list[object] = []

    def subscribe(observer: Any, _scheduler: object = None) -> Any:
        asked.append(observer)
        return Disposable()

    with StreamManager() as manager:
        manager.register_handler(handler(on_stream_start=lambda _: 1 / 0), on_failure="raise")
        with pytest.raises(ZeroDivisionError):
            manager.get_result(manager.start_stream(rx.create(subscribe)), timeout=30)
    assert asked == []


@virtual_time
async def test_who_keeps_a_stream_that_is_over_does_not_keep_its_handlers() -> None:
    class Held(StreamHandler):
        def on_token_received(self, token: str, index: int) -> None:
            pass

    held = Held()
    gone = weakref.ref(held)
    async with StreamManager() as manager:
        stream_id = manager.start_stream(["a"], handlers=[held])
        await manager.wait(stream_id)
        await settle()
        del held
        gc.collect()
        assert gone() is None
        assert manager.get_statistics(stream_id).handlers[f"{stream_id}/1"].delivered == 1


@virtual_time
async def test_cancelled_by_one_handler_while_another_raises_it_ends_all_the_same() -> None:
    class Cancels(StreamHandler):
        def on_token_received(self, token: str, index: int) -> None:
            manager.cancel_stream("s", "enough")

    class Raises(StreamHandler):
        def on_token_received(self, token: str, index: int) -> None:
            raise ValueError(token)

    for handlers in ([Cancels(), Raises()], [Raises(), Cancels()]):
        async with StreamManager() as manager:
            said: list[Any] = []
            for one in handlers:
                manager.register_handler(one, on_failure="raise")
            manager.register_handler(rxstream.CallbackStreamHandler(on_error=said.append))
            manager.start_stream(Stream.of(Scripted(["a", HANG]).events()), stream_id="s")
            with pytest.raises(Cancelled, match="enough"):
                async with asyncio.timeout(5):
                    await manager.wait("s")
            assert [type(error) for error in said] == [Cancelled]


@pytest.mark.parametrize("how", ["session", "handler", "session's handler", "manager"])
@virtual_time
async def test_whatever_becomes_of_the_answer_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """As where a process has no file left for what is imported only then."""

    def fails(_answers: object) -> object:
        raise OSError("too many open files")

    for module in ("session", "sinks._observing"):
        monkeypatch.setattr(f"rxstream.{module}.Answers.response", fails)
    diary, stream = Diary(), scripted("a")
    async with StreamManager() as manager, asyncio.timeout(60):
        match how:
            case "session":
                with pytest.raises(OSError, match="too many"):
                    await stream.start()
            case "handler":
                stream.subscribe(diary)
                await asyncio.sleep(9)
            case "session's handler":
                with pytest.raises(OSError, match="too many"):
                    await stream.start(diary)
            case _:
                with pytest.raises(OSError, match="too many"):
                    await manager.wait(manager.start_stream(stream, handlers=[diary]))
    assert how == "session" or diary.told[-1] == ("error", "OSError")
