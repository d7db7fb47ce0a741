"""A handler with coroutine functions, or with a thread: its own queue, its own speed, and what happens when it is full."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from rxstream.errors import HandlerDetached, LimitExceeded, LoopShutDown
from rxstream.events import ToolCall, UsageReported
from rxstream.gate import Gate
from rxstream.observable import Stream
from rxstream.sinks.callbacks import CallbackStreamHandler
from rxstream.sinks.handler import HandlerPolicy, StreamHandler, as_handler
from rxstream.usage import Usage
from tests.support.handlers import DONE, Says, Slow, dispatch, text
from tests.support.scripted import HANG, Scripted
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_a_slow_one_delays_nobody_and_loses_nothing() -> None:
    slow, quick, stream = Slow(), Says(), dispatch()
    stream.add("slow", slow)
    stream.add("quick", quick)
    for word in "abc":
        stream.on_next(text(word))
    stream.on_completed(DONE)
    assert quick.said == [("start", "s1"), (0, "a"), (1, "b"), (2, "c"), ("complete", "whole")]
    assert stream.figures()["slow"].waiting == 5
    await stream.settled()
    assert slow.said == [("start", "s1"), (0, "a", 1.0), (1, "b", 2.0), (2, "c", 3.0), ("complete", "whole")]
    assert asyncio.get_running_loop().time() == 3.0


@virtual_time
async def test_one_in_a_thread_may_block() -> None:
    go, threads = threading.Event(), set[str]()

    class Blocks(Says):
        def on_token_received(self, token: str, index: int) -> None:
            assert go.wait(20)
            threads.add(threading.current_thread().name)
            super().on_token_received(token, index)

    blocks, quick, stream = Blocks(), Says(), dispatch()
    stream.add("b", blocks, HandlerPolicy(thread=True))
    stream.add("q", quick)
    for word in "abc":
        stream.on_next(text(word))
    stream.on_completed(DONE)
    assert len(quick.said) == 5
    assert blocks.said == []
    go.set()
    await stream.settled()
    assert blocks.said == quick.said
    assert threads == {"rxstream-handler-b"}


@virtual_time
async def test_coroutines_that_never_wait_let_the_loop_breathe() -> None:
    loop: Any = asyncio.get_running_loop()

    class Busy(StreamHandler):
        async def on_token_received(self, token: str, index: int) -> None:
            loop.advance(0.001)

    stream, woken = dispatch(), list[float]()
    stream.add("busy", Busy())
    for _ in range(100):
        stream.on_next(text("x"))
    loop.call_soon(lambda: loop.call_soon(lambda: woken.append(loop.time())))
    await stream.settled()
    assert woken[0] <= 0.02


@virtual_time
async def test_a_plain_function_that_returns_a_coroutine_has_it_awaited() -> None:
    """… also if nothing says so before it is called, in order, and without delaying anybody."""
    said: list[object] = []

    async def later(word: object) -> None:
        await asyncio.sleep(1)
        said.append(word)

    class Returns(StreamHandler):
        def on_token_received(self, token: str, index: int) -> Any:
            return later(token)

        def on_usage(self, usage: Usage) -> Any:
            said.append("usage")

        def on_stream_complete(self, full_response: Any) -> Any:
            return later("complete")

    stream = dispatch()
    quick = Says()
    stream.add("h", Returns())
    stream.add("q", quick)
    for event in (text("a"), text("b"), UsageReported(usage=Usage(output_tokens=1)), text("c")):
        stream.on_next(event)
    stream.on_completed(DONE)
    assert quick.said[-1] == ("complete", "whole")
    assert said == []
    assert stream.figures()["h"].waiting == 5
    await stream.settled()
    assert said == ["a", "b", "usage", "c", "complete"]
    assert (stream.figures()["h"].delivered, stream.figures()["h"].waiting) == (5, 0)


@virtual_time
async def test_a_coroutine_of_the_last_call_alone_is_awaited_too() -> None:
    said: list[object] = []

    async def later() -> None:
        await asyncio.sleep(1)
        said.append("complete")

    stream = dispatch()
    stream.add("h", as_handler(CallbackStreamHandler(on_complete=lambda _response: later())))
    stream.on_completed(DONE)
    await stream.settled()
    assert said == ["complete"]


@virtual_time
async def test_functions_that_return_something_to_await() -> None:
    """A plain function whose class has a coroutine function is awaited where it returns something to await."""
    said: list[object] = []

    async def later(token: str) -> None:
        await asyncio.sleep(1)
        said.append(token)

    class Both(StreamHandler):
        def on_token_received(self, token: str, index: int) -> Any:
            return later(token)

        async def on_stream_complete(self, full_response: Any) -> None:
            said.append("complete")

    stream = dispatch()
    stream.add("h", Both())
    stream.on_next(text("a"))
    stream.on_completed(DONE)
    await stream.settled()
    assert said == ["a", "complete"]


@virtual_time
async def test_hold_holds_the_gate_until_it_has_caught_up() -> None:
    gate, slow = Gate(), Slow()
    stream = dispatch(gate)
    stream.add("slow", slow, HandlerPolicy(slow="hold", capacity=4))
    for word in "abc":
        stream.on_next(text(word))
    assert [hold.startswith("handler slow") for hold in gate.holds] == [True]  # the start waits, too
    await asyncio.sleep(2.5)
    assert gate.holds == ()
    stream.on_next(text("d"))
    await stream.settled()
    assert [said[1] for said in slow.said[1:]] == ["a", "b", "c", "d"]


@virtual_time
async def test_a_hold_ends_with_who_held() -> None:
    for end in ("remove", "dispose", "complete"):
        gate = Gate()
        stream = dispatch(gate)
        stream.add("slow", Slow(), HandlerPolicy(slow="hold", capacity=1))
        stream.on_next(text("a"))
        assert gate.holds
        if end == "remove":
            stream.remove("slow")
        elif end == "dispose":
            stream.dispose()
        else:
            stream.on_completed(DONE)
            await stream.settled()
        assert not gate.holds, end


@virtual_time
async def test_a_held_source_that_goes_on_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not obey its gate: at some point that is enough."""
    monkeypatch.setattr("rxstream.sinks._lane.MOST", 5)
    stream = dispatch()
    stream.add("slow", Slow(), HandlerPolicy(slow="hold", capacity=2))
    for _ in range(6):
        stream.on_next(text("x"))
    with pytest.raises(LimitExceeded):
        stream.on_next(text("x"))
    stream.dispose()


@virtual_time
async def test_drop_oldest_drops_text_counts_it_and_keeps_what_matters() -> None:
    class Sees(Slow):
        def on_tool_call(self, call: ToolCall) -> None:
            self.say("call", call.id)

    slow, stream = Sees(), dispatch()
    stream.add("slow", slow, HandlerPolicy(slow="drop_oldest", capacity=3))
    stream.start()
    await settle()
    stream.on_next(ToolCall(id="1", name="f", arguments=""))
    for word in "abcdef":
        stream.on_next(text(word))
    stream.on_completed(DONE)
    await stream.settled()
    assert slow.said == [("start", "s1"), ("call", "1"), (4, "e", 1.0), (5, "f", 2.0), ("complete", "whole")]
    assert stream.figures()["slow"].dropped == 4


@virtual_time
async def test_latest_keeps_but_the_last() -> None:
    slow, stream = Slow(), dispatch()
    stream.add("slow", slow, HandlerPolicy(slow="latest"))
    stream.start()
    await settle()
    stream.on_next(text("a"))
    await settle()
    for word in "bcd":
        stream.on_next(text(word))
    stream.on_completed(DONE)
    await stream.settled()
    assert slow.said == [("start", "s1"), (0, "a", 1.0), (3, "d", 2.0), ("complete", "whole")]
    assert stream.figures()["slow"].dropped == 2


@virtual_time
async def test_where_nothing_may_be_dropped_it_is_detached() -> None:
    class Acts(StreamHandler):
        async def on_tool_call(self, call: ToolCall) -> None:
            await asyncio.sleep(1)

    for slow in ("drop_oldest", "latest"):
        stream = dispatch()
        stream.add("h", Acts(), HandlerPolicy(slow=slow, capacity=2))
        for number in range(4):
            stream.on_next(ToolCall(id=str(number), name="f", arguments=""))
        assert stream.figures()["h"].detached, slow
        stream.dispose()


@virtual_time
async def test_one_for_which_too_much_waits_is_detached() -> None:
    slow, quick, stream = Slow(), Says(), dispatch()
    stream.add("slow", slow, HandlerPolicy(capacity=3))
    stream.add("quick", quick)
    stream.start()
    for word in "abc":
        stream.on_next(text(word))
    stream.on_completed(DONE)
    await stream.settled()
    assert slow.said == [("error", HandlerDetached)]
    assert quick.said[-1] == ("complete", "whole")
    assert (stream.figures()["slow"].dropped, stream.figures()["slow"].waiting) == (4, 0)


@virtual_time
async def test_or_the_stream_ends() -> None:
    stream = dispatch()
    stream.add("slow", Slow(), HandlerPolicy(slow="error", capacity=2))
    stream.on_next(text("a"))
    with pytest.raises(LimitExceeded, match="more than 2"):
        stream.on_next(text("b"))
    stream.dispose()


@virtual_time
async def test_when_the_loop_goes_down_nothing_is_begun() -> None:
    slow, quick, stream = Slow(), Says(), dispatch()
    stream.add("slow", slow)
    stream.add("quick", quick)
    stream.on_next(text("a"))
    stream.on_error(LoopShutDown())
    await asyncio.sleep(3)
    assert quick.said[-1] == ("error", LoopShutDown)
    assert slow.said == []


def test_a_loop_that_ends_leaves_no_handler_half_told() -> None:
    """Neither a task that nobody awaited nor a warning; who is told at once is told of the end."""
    slow, quick = Slow(), Says()

    async def run() -> None:
        source = Stream.of(Scripted(["a", HANG]).events())
        source.subscribe(quick)
        source.subscribe(slow)
        await asyncio.sleep(0.01)

    asyncio.run(run())
    gc.collect()
    assert [said[0] for said in quick.said] == ["start", 0, "error"]
    assert quick.said[-1] == ("error", LoopShutDown)
    assert slow.said[1:] == []


@pytest.mark.filterwarnings("error")
async def test_a_coroutine_that_will_not_be_awaited_is_closed() -> None:
    """It was made when its handler was told; asyncio says nothing of it."""

    async def later() -> None:
        raise NotImplementedError

    stream = dispatch()
    stream.add("h", as_handler(lambda _event: later()))
    stream.on_next(text("a"))
    stream.dispose()
    gc.collect()
    assert stream.figures()["h"].dropped == 1


@pytest.mark.filterwarnings("error")
async def test_so_is_one_for_which_there_is_no_room() -> None:
    async def later() -> None:
        raise NotImplementedError

    told, stream = CallbackStreamHandler(on_token=lambda _token, _index: later()), dispatch()
    stream.add("h", told, HandlerPolicy(by="character", capacity=2))
    stream.on_next(text("abcd"))
    gc.collect()
    assert stream.figures()["h"].detached
    stream.dispose()


async def test_where_no_thread_can_be_started_the_calls_have_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of that handler: counted, and told to nobody else."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    told, other, stream = Says(), Says(), dispatch()
    stream.add("h", told, HandlerPolicy(thread=True))
    stream.add("other", other)
    stream.on_next(text("a"))
    stream.on_completed(DONE)
    await stream.settled()
    assert (told.said, other.said[-1]) == ([], ("complete", "whole"))
    figures = stream.figures()["h"]
    assert (figures.failures, figures.delivered, figures.waiting) == (3, 0, 0)


@virtual_time
async def test_who_is_removed_by_another_thread_while_its_batch_runs_is_told_no_more() -> None:
    loop = asyncio.get_running_loop()

    async def remove() -> None:
        stream.remove("h")

    class InThread(Says):
        def on_token_received(self, token: str, index: int) -> None:
            super().on_token_received(token, index)
            asyncio.run_coroutine_threadsafe(remove(), loop).result(20)

    told, stream = InThread(), dispatch()
    stream.add("h", told, HandlerPolicy(thread=True))
    for word in "abc":
        stream.on_next(text(word))
    await stream.settled()
    assert told.said == [("start", "s1"), (0, "a")]


async def test_what_another_thread_tells_last_is_told_before_the_handler_s_thread_ends() -> None:
    """An Observable that knows no loop: what it tells is still on its way to the loop when the stream is over."""
    told, stream = Says(), dispatch()
    stream.add("h", told, HandlerPolicy(thread=True))
    stream.on_next(text("a"))
    await stream.settled()

    def tell() -> None:
        stream.on_next(text("b"))
        stream.on_completed(DONE)

    other = threading.Thread(target=tell)
    other.start()
    other.join()  # the loop stands still
    await settle()
    await asyncio.wait_for(stream.settled(), 20)
    assert told.said == [("start", "s1"), (0, "a"), (1, "b"), ("complete", "whole")]
