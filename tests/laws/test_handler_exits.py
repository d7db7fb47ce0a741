"""What a handler does that would end the program, and what a loop that goes down does to handlers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest
from reactivex import operators as ops

import rxstream
from rxstream.errors import Cancelled, LoopShutDown
from rxstream.observable import Stream
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks.handler import HandlerPolicy, StreamMetadata
from tests.support.handlers import DONE, META, Says, Slow, dispatch, text
from tests.support.scripted import DONE as FINISHED
from tests.support.scripted import HANG, Scripted
from tests.support.virtual_loop import virtual_time

EXITS = [SystemExit, KeyboardInterrupt, GeneratorExit]


class Leaves(Says):
    """Ends the program at the second token; or at the end, if it is to."""

    def __init__(self, kind: type[BaseException], *, at_end: bool = False) -> None:
        super().__init__()
        self.kind, self.at_end = kind, at_end

    def on_token_received(self, token: str, index: int) -> Any:
        super().on_token_received(token, index)
        if index == 1 and not self.at_end:
            raise self.kind(3)

    def on_stream_complete(self, full_response: Any) -> Any:
        super().on_stream_complete(full_response)
        if self.at_end:
            raise self.kind(3)

    def dismissed(self) -> None:
        self.say("dismissed")


class LeavesLater(Leaves):
    """… in coroutine functions."""

    async def on_token_received(self, token: str, index: int) -> Any:
        await asyncio.sleep(0)
        super().on_token_received(token, index)


HOW: dict[str, tuple[Callable[..., Leaves], bool]] = {
    "function": (Leaves, False),
    "coroutine function": (LeavesLater, False),
    "thread": (Leaves, True),
}


async def pieces() -> AsyncIterator[str]:
    for piece in "abc":
        await asyncio.sleep(0)
        yield piece


def is_called(name: str, known: StreamMetadata) -> bool:
    return known.stream_id == name


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", EXITS)
def test_on_the_shared_loop_it_is_its_own_failure(
    kind: type[BaseException], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits for its turn gets it; and the end of its stream says what happened."""
    make, thread = HOW[how]
    with rxstream.StreamManager(max_streams=1) as manager:
        isolated, raises = make(kind), make(kind)
        for handler, on_failure, name in ((isolated, "isolate", "first"), (raises, "raise", "second")):
            of: Any = on_failure
            manager.register_handler(handler, on_failure=of, thread=thread, streams=partial(is_called, name))
        for name in ("first", "second", "third"):
            last = HANG if name == "second" else FINISHED
            manager.start_stream(Stream.of(Scripted(["a", "b", "c", last]).events()), stream_id=name)
        assert manager.get_result("first", 20).text == "abc"
        with pytest.raises(RuntimeError, match=f"{kind.__name__} was raised: 3") as raised:
            manager.get_result("second", 20)
        assert isinstance(raised.value.__cause__, kind)
        assert manager.get_result("third", 20).text == "abc"
    assert isolated.said[-1] == ("complete", "abc")
    assert raises.said[-1] == ("error", RuntimeError)
    assert manager.get_statistics("first").handlers["handler-1"].failures == 1
    assert {record.getMessage() for record in caplog.records} == {
        "handler handler-1 raised RuntimeError; further failures of it are only counted",
        "handler handler-2 raised RuntimeError; its stream ends",
    }


@pytest.mark.parametrize("kind", [*EXITS, asyncio.CancelledError])
def test_so_it_is_with_a_plain_callback(kind: type[BaseException]) -> None:
    def leave(event: object) -> None:
        raise kind(3)

    ended: Future[Exception] = Future()
    rxstream.from_iterable(pieces()).subscribe(leave, ended.set_result)
    assert str(ended.result(20)) == f"{kind.__name__} was raised: 3"


@pytest.mark.parametrize("kind", [*EXITS, asyncio.CancelledError])
def test_also_where_a_timer_calls_it(kind: type[BaseException]) -> None:
    """What no source is there to catch."""

    def leave(event: object) -> None:
        raise kind(3)

    ended: Future[Exception] = Future()
    later = rxstream.from_iterable(pieces).pipe(ops.delay(0.001))
    later.subscribe(leave, ended.set_result)
    assert str(ended.result(20)) == f"{kind.__name__} was raised: 3"
    with pytest.raises(RuntimeError, match=f"{kind.__name__} was raised: 3"):
        later.start(leave).result(20)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("kind", [SystemExit, asyncio.CancelledError])
def test_what_the_last_callback_raises_is_logged_whatever_it_is(
    kind: type[BaseException], later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    over: Future[None] = Future()

    def leave() -> None:
        asyncio.get_running_loop().call_later(0.01, over.set_result, None)
        raise kind(3)

    async def leave_later() -> None:
        leave()

    rxstream.from_iterable(pieces).subscribe(None, None, leave_later if later else leave)
    over.result(20)
    assert [record.getMessage() for record in caplog.records] == ["an observer's last callback raised RuntimeError"]
    assert f"{kind.__name__} was raised: 3" in caplog.text


def test_a_coroutine_function_that_awaits_what_was_cancelled_ends_its_own_subscription() -> None:
    async def gives_up(event: object) -> None:
        gone = asyncio.get_running_loop().create_future()
        gone.cancel()
        await gone

    ended: Future[Exception] = Future()
    rxstream.from_iterable(pieces()).subscribe(gives_up, ended.set_result)
    assert isinstance(ended.result(20).__cause__, asyncio.CancelledError)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_and_with_one_that_is_a_coroutine_function(kind: type[BaseException]) -> None:
    async def leave(event: object) -> None:
        await asyncio.sleep(0)
        raise kind(3)

    ended: Future[Exception] = Future()
    rxstream.from_iterable(pieces()).subscribe(leave, ended.set_result)
    assert str(ended.result(20)) == f"{kind.__name__} was raised: 3"

    async def main() -> None:
        rxstream.from_iterable(pieces()).subscribe(leave)
        await asyncio.sleep(20)

    with pytest.raises(kind):
        asyncio.run(main())


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("how", ["function", "coroutine function"])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_on_a_loop_of_the_program_it_ends_the_program(
    kind: type[BaseException], how: str, at_end: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """And all learn the end of the stream, who waits in another thread, too."""
    caplog.set_level(logging.DEBUG)
    leaves, other, slow = HOW[how][0](kind, at_end=at_end), Says(), LeavesLater(ValueError, at_end=True)
    buffered, waited = rxstream.BufferedStreamHandler(), list[object]()

    def wait() -> None:
        try:
            waited.append(buffered.get_response(20))
        except LoopShutDown as error:
            waited.append(error)

    async def main() -> None:
        manager = rxstream.StreamManager()
        source = Stream.of(Scripted(["a", "b", "c", FINISHED if at_end else HANG]).events())
        stream_id = manager.start_stream(source, handlers=[leaves, other, slow, buffered])
        waiting = threading.Thread(target=lambda: results.append(_outcome(lambda: manager.get_result(stream_id, 20))))
        waiting.start()
        threads.append(waiting)
        await asyncio.sleep(20)

    results, threads = list[object](), [threading.Thread(target=wait)]
    threads[0].start()
    with pytest.raises(kind):
        asyncio.run(main())
    for thread in threads:
        thread.join(20)
    if at_end:
        assert other.said[-1] == ("complete", "abc")
        assert waited == ["abc"]
    else:
        assert other.said[-1] == ("error", LoopShutDown)
        assert [type(each) for each in waited] == [LoopShutDown]
    assert [each is not None for each in results] == [True]
    assert slow.said[-1] == ("dismissed",) or (at_end and how != "function")
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


def _outcome(get: Callable[[], object]) -> object:
    try:
        return get()
    except LoopShutDown as error:
        return error


@pytest.mark.parametrize(
    "name", ["on_stream_start", "on_event", "on_token_received", "on_pause", "on_cancel", "on_stream_error"]
)
@virtual_time
async def test_others_are_told_the_end_whenever_one_leaves(name: str) -> None:
    """Here the loop goes on: it is somebody else's."""

    def leave(*_what: object) -> None:
        raise SystemExit

    leaves, other, stream = Says(), Says(), dispatch()
    setattr(leaves, name, leave)
    other.on_pause = lambda: other.say("pause")  # type: ignore[method-assign]
    other.on_cancel = lambda _reason: other.say("cancel")  # type: ignore[method-assign, assignment]
    stream.add("leaves", leaves, HandlerPolicy(by="word"))
    stream.add("other", other, HandlerPolicy(by="word"))
    with contextlib.suppress(SystemExit):
        stream.start()
    with contextlib.suppress(SystemExit):
        stream.on_next(text("a"))
    with contextlib.suppress(SystemExit):
        stream.paused()
    with contextlib.suppress(SystemExit):
        stream.on_error(Cancelled())
    assert other.said == [("start", "s1"), ("pause",), ("cancel",), (0, "a"), ("error", Cancelled)]


@virtual_time
async def test_a_coroutine_function_that_leaves_is_told_nothing_more() -> None:
    """Its queue is given up: nothing waits for ever."""
    loop: Any = asyncio.get_running_loop()
    raised: list[Any] = []
    loop.set_exception_handler(lambda _loop, context: raised.append(context["exception"]))

    class Cancels(Slow):
        async def on_token_received(self, token: str, index: int) -> Any:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)

        def dismissed(self) -> None:
            self.say("dismissed")

    handler, stream = Cancels(), dispatch()
    stream.add("h", handler)
    for word in "abc":
        stream.on_next(text(word))
    await stream.settled()
    stream.on_completed(DONE)
    await stream.settled()
    assert handler.said == [("start", "s1"), ("dismissed",)]
    figures = stream.figures()["h"]
    assert (figures.waiting, figures.dropped) == (0, 2)


@pytest.mark.parametrize("thread", [False, True])
def test_when_the_loop_goes_down_who_cannot_be_told_is_dismissed(thread: bool) -> None:
    """Neither a task that nobody awaited nor a warning; who is told at once is told of the end."""

    class Held(Says):
        def dismissed(self) -> None:
            self.say("dismissed")

    class HeldSlow(Slow):
        def dismissed(self) -> None:
            self.say("dismissed")

    held, quick = Held() if thread else HeldSlow(), Says()

    async def run() -> None:
        manager = rxstream.StreamManager()
        manager.register_handler(held, thread=thread)
        manager.register_handler(quick)
        manager.start_stream(Stream.of(Scripted(["a", HANG]).events()))
        await asyncio.sleep(0.02)

    asyncio.run(run())
    assert quick.said[-1] == ("error", LoopShutDown)
    assert held.said[-1] == ("dismissed",)
    assert held.said.count(("dismissed",)) == 1


def test_calls_that_wait_when_the_loop_goes_down_are_given_up() -> None:
    """The stream is over, but its end waits behind a slow call."""
    handler = LeavesLater(ValueError, at_end=True)
    handler.on_event = lambda _event: asyncio.sleep(20)  # type: ignore[method-assign, assignment]
    streams: list[Dispatch] = []

    async def run() -> None:
        stream = Dispatch(META, rxstream.LoopScheduler())
        streams.append(stream)
        stream.add("h", handler)
        stream.on_next(text("a"))
        stream.on_completed(DONE)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert handler.said == [("start", "s1"), ("dismissed",)]
    assert streams[0].figures()["h"].waiting == 0


@virtual_time
async def test_what_a_dismissed_one_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Held(Says):
        def dismissed(self) -> None:
            super().say("dismissed")
            raise ValueError("no")

    handlers, stream = [Held(), Held()], dispatch()
    for number, handler in enumerate(handlers):
        stream.add(str(number), handler)
    stream.start()
    stream.dispose()
    assert [handler.said[-1] for handler in handlers] == [("dismissed",), ("dismissed",)]
    assert len(caplog.records) == 2


@pytest.mark.parametrize("how", ["the loop goes down", "dispose"])
@virtual_time
async def test_one_that_removes_itself_when_it_is_dismissed_harms_nobody(how: str) -> None:
    class Removes(Slow):
        def dismissed(self) -> None:
            stream.remove(self.name)

    stream, other = dispatch(), Says()
    for name in "ab":
        stream.add(name, Removes(name))
    stream.add("other", other)
    stream.on_next(text("a"))
    stream.on_error(LoopShutDown()) if how == "the loop goes down" else stream.dispose()
    assert list(stream.figures()) == ["other"]
    assert other.said[-1] == (("error", LoopShutDown) if how == "the loop goes down" else (0, "a"))
