"""How the handlers of one stream are told: order, policies, queues, ends."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxstream.aggregate import aggregate
from rxstream.errors import Cancelled, ConfigurationError, Disconnected, HandlerDetached, LimitExceeded, LoopShutDown
from rxstream.events import Event, Finished, Retracted, TextDelta, ToolCall, UsageReported
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks.callbacks import CallbackStreamHandler
from rxstream.sinks.handler import HandlerPolicy, StreamHandler, StreamMetadata, as_handler
from rxstream.usage import Usage
from tests.support.scripted import HANG, Scripted
from tests.support.virtual_loop import settle, virtual_time

META = StreamMetadata(stream_id="s1")
DONE = aggregate([TextDelta(text="whole"), Finished(reason="stop")])


def text(word: str) -> Event:
    return TextDelta(text=word)


def dispatch(gate: Gate | None = None, fail: Callable[[Exception], object] | None = None) -> Dispatch:
    return Dispatch(META, LoopScheduler(asyncio.get_running_loop(), gate=gate), fail=fail)


class Says(StreamHandler):
    """Writes into a list what it is told."""

    def __init__(self, name: str = "", said: list[Any] | None = None) -> None:
        self.name = name
        self.said: list[Any] = [] if said is None else said

    def say(self, *what: Any) -> None:
        self.said.append((self.name, *what) if self.name else what)

    def on_stream_start(self, metadata: StreamMetadata) -> Any:
        self.say("start", metadata.stream_id)

    def on_token_received(self, token: str, index: int) -> Any:
        self.say(index, token)

    def on_stream_complete(self, full_response: Any) -> Any:
        self.say("complete", full_response.text)

    def on_stream_error(self, error: Exception) -> Any:
        self.say("error", type(error))


class Slow(Says):
    """Takes a second for a token."""

    async def on_token_received(self, token: str, index: int) -> Any:
        await asyncio.sleep(1)
        self.say(index, token, asyncio.get_running_loop().time())


class Fails(Says):
    """Raises at each token."""

    def on_token_received(self, token: str, index: int) -> Any:
        self.say(index, token)
        raise ValueError(token)


# --- what is told ---------------------------------------------------------------------------------------------------------


@virtual_time
async def test_everything_is_told_in_order() -> None:
    told = Says()
    hooks = ("on_event", "on_usage", "on_tool_call", "on_pause", "on_resume", "on_cancel", "on_progress")
    for name in hooks:
        setattr(told, name, lambda *what, name=name: told.say(name, *what))
    usage, call = Usage(output_tokens=3), ToolCall(id="1", name="f", arguments="{}")
    reported = UsageReported(usage=usage)
    stream = dispatch()
    stream.add("h", told)
    stream.on_next(text("a"))
    stream.on_next(reported)
    stream.on_next(call)
    stream.paused()
    stream.paused()
    stream.resumed()
    stream.resumed()
    stream.progress("half")
    stream.on_error(Cancelled("enough"))
    assert told.said == [
        ("start", "s1"),
        ("on_event", text("a")),
        (0, "a"),
        ("on_event", reported),
        ("on_usage", usage),
        ("on_event", call),
        ("on_tool_call", call),
        ("on_pause",),
        ("on_resume",),
        ("on_progress", "half"),
        ("on_cancel", "enough"),
        ("error", Cancelled),
    ]
    assert stream.figures()["h"].delivered == 12


@virtual_time
async def test_handlers_are_told_in_the_order_in_which_they_came() -> None:
    said: list[Any] = []
    stream = dispatch()
    for name in "abc":
        stream.add(name, Says(name, said))
    stream.start()
    stream.on_next(text("x"))
    stream.on_completed(DONE)
    assert said == [
        *((name, "start", "s1") for name in "abc"),
        *((name, 0, "x") for name in "abc"),
        *((name, "complete", "whole") for name in "abc"),
    ]


@virtual_time
async def test_the_end_is_told_once_and_nothing_after_it() -> None:
    told, stream = Says(), dispatch()
    stream.add("h", told)
    stream.on_completed(DONE)
    stream.on_completed(DONE)
    stream.on_error(Disconnected("late"))
    stream.on_next(text("late"))
    stream.paused()
    stream.progress("late")
    stream.start()
    assert told.said == [("start", "s1"), ("complete", "whole")]
    assert not stream.add("late", told)


@virtual_time
async def test_only_methods_of_its_own_are_called() -> None:
    stream = dispatch()
    stream.add("h", StreamHandler())
    stream.on_next(text("x"))
    stream.on_completed(DONE)
    assert stream.figures()["h"].delivered == 0
    assert not stream.wants("on_progress")


@virtual_time
async def test_an_empty_piece_and_another_choice_are_no_tokens() -> None:
    told, stream = Says(), dispatch()
    stream.add("h", told)
    for event in (text("a"), text(""), TextDelta(text="b", choice=1), text("c")):
        stream.on_next(event)
    assert told.said[1:] == [(0, "a"), (1, "c")]


@virtual_time
async def test_tokens_may_be_words_or_sentences() -> None:
    words, sentences, stream = Says(), Says(), dispatch()
    stream.add("w", words, HandlerPolicy(by="word"))
    stream.add("s", sentences, HandlerPolicy(by="sentence"))
    for piece in ("Hel", "lo there. It ", "is ", "late"):
        stream.on_next(text(piece))
    stream.on_error(Disconnected("cut"))
    assert words.said[1:-1] == [(0, "Hello "), (1, "there. "), (2, "It "), (3, "is "), (4, "late")]
    assert sentences.said[1:-1] == [(0, "Hello there. "), (1, "It is late")]


@virtual_time
async def test_what_is_retracted_before_its_word_is_whole_is_no_token() -> None:
    told, stream = Says(), dispatch()
    stream.add("h", told, HandlerPolicy(by="word"))
    for event in (text("one tw"), Retracted(to_offset=0), TextDelta(text="uno ", attempt=2), Finished(reason="stop")):
        stream.on_next(event)
    assert told.said[1:] == [(0, "one "), (1, "uno ")]


@given(
    st.lists(st.text(alphabet="ab .\n", max_size=6), max_size=8), st.sampled_from(["delta", "word", "sentence", "line"])
)
def test_tokens_joined_are_the_text(pieces: list[str], by: Any) -> None:
    async def run() -> None:
        told, stream = Says(), dispatch()
        stream.add("h", told, HandlerPolicy(by=by))
        for piece in pieces:
            stream.on_next(text(piece))
        stream.on_completed(DONE)
        tokens = told.said[1:-1]
        assert "".join(token for _, token in tokens) == "".join(pieces)
        assert [index for index, _ in tokens] == list(range(len(tokens)))

    virtual_time(run)()


# --- coming and going -----------------------------------------------------------------------------------------------------


@virtual_time
async def test_one_that_comes_late_is_told_the_start_and_the_rest() -> None:
    late, stream = Says(), dispatch()
    stream.add("early", Says())
    stream.on_next(text("a"))
    assert stream.add("late", late)
    stream.on_next(text("b"))
    assert late.said == [("start", "s1"), (1, "b")]


@virtual_time
async def test_after_remove_nothing_is_told() -> None:
    plain, slow, stream = Says(), Slow(), dispatch()
    stream.add("plain", plain)
    stream.add("slow", slow)
    stream.on_next(text("a"))
    await asyncio.sleep(0.5)  # it is at work
    assert stream.remove("plain")
    assert stream.remove("slow")
    assert not stream.remove("slow")
    stream.on_next(text("b"))
    stream.on_completed(DONE)
    await asyncio.sleep(5)
    assert plain.said == [("start", "s1"), (0, "a")]
    assert slow.said == [("start", "s1")]
    assert stream.figures() == {}


@virtual_time
async def test_one_may_go_and_another_come_from_within_a_callback() -> None:
    """The one that goes hears no more of this very event; the one that comes begins with the next."""
    said: list[Any] = []
    stream = dispatch()

    class Changes(Says):
        def on_token_received(self, token: str, index: int) -> None:
            super().on_token_received(token, index)
            if index == 0:
                stream.remove("b")
                stream.add("d", Says("d", said))

    stream.add("a", Changes("a", said))
    stream.add("b", Says("b", said))
    stream.add("c", Says("c", said))
    stream.start()
    said.clear()
    stream.on_next(text("x"))
    stream.on_next(text("y"))
    assert said == [("a", 0, "x"), ("d", "start", "s1"), ("c", 0, "x"), ("a", 1, "y"), ("c", 1, "y"), ("d", 1, "y")]


@virtual_time
async def test_one_may_take_itself_away() -> None:
    stream = dispatch()

    class Once(Says):
        def on_event(self, event: Event) -> None:
            stream.remove("h")

    class OnceSlowly(Says):
        async def on_event(self, event: Event) -> None:
            stream.remove("slow")
            await asyncio.sleep(1)
            self.say("to the end")

    once, slowly = Once(), OnceSlowly()
    stream.add("h", once)
    stream.add("slow", slowly)
    stream.on_next(text("x"))
    stream.on_next(text("y"))
    await asyncio.sleep(2)
    assert once.said == [("start", "s1")]
    assert slowly.said == [("start", "s1"), ("to the end",)]


@virtual_time
async def test_an_id_serves_once() -> None:
    stream = dispatch()
    stream.add("h", Says())
    with pytest.raises(ConfigurationError, match="'h'"):
        stream.add("h", Says())


@virtual_time
async def test_after_dispose_nothing_is_told() -> None:
    plain, slow, stream = Says(), Slow(), dispatch()
    stream.add("plain", plain)
    stream.add("slow", slow)
    stream.on_next(text("a"))
    stream.dispose()
    stream.on_next(text("b"))
    stream.on_error(Disconnected("late"))
    await asyncio.sleep(5)
    assert plain.said == [("start", "s1"), (0, "a")]
    assert slow.said == []


@virtual_time
async def test_one_handler_keeps_several_streams_apart() -> None:
    class Each(StreamHandler):
        def __init__(self) -> None:
            self.of: dict[str, Says] = {}

        def for_stream(self, metadata: StreamMetadata) -> StreamHandler:
            return self.of.setdefault(metadata.stream_id, Says())

    each = Each()
    for name in ("s1", "s2"):
        stream = Dispatch(StreamMetadata(), LoopScheduler())
        stream.add("h", each)
        stream.start(StreamMetadata(stream_id=name))
        stream.on_next(text(name))
    assert {name: told.said for name, told in each.of.items()} == {
        name: [("start", name), (0, name)] for name in ("s1", "s2")
    }


# --- failures -------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_isolated_it_is_logged_once_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    bad, good, stream = Fails(), Says(), dispatch()
    stream.add("bad", bad)
    stream.add("good", good)
    for word in "abc":
        stream.on_next(text(word))
    stream.on_completed(DONE)
    assert good.said == [("start", "s1"), (0, "a"), (1, "b"), (2, "c"), ("complete", "whole")]
    assert bad.said == good.said
    figures = stream.figures()["bad"]
    assert (figures.failures, figures.delivered, figures.detached) == (3, 2, False)
    assert [record.getMessage() for record in caplog.records] == [
        "handler bad raised; further failures of it are only counted"
    ]


@virtual_time
async def test_raising_ends_the_stream_and_all_are_told() -> None:
    bad, good, stream = Fails(), Says(), dispatch()
    stream.add("bad", bad, HandlerPolicy(on_failure="raise"))
    stream.add("good", good)
    with pytest.raises(ValueError, match="a") as raised:
        stream.on_next(text("a"))
    stream.on_error(raised.value)  # as who owns the stream does
    assert good.said == [("start", "s1"), (0, "a"), ("error", ValueError)]
    assert bad.said == good.said


@pytest.mark.parametrize("thread", [False, True])
@virtual_time
async def test_a_slow_one_that_raises_ends_the_stream_too(thread: bool) -> None:
    class Late(Says):
        async def on_event(self, event: Event) -> None:
            await asyncio.sleep(1)
            raise ValueError("late")

    class InThread(Says):
        def on_event(self, event: Event) -> None:
            raise ValueError("late")

    ended: list[Exception] = []
    for fail in (ended.append, None):
        stream = dispatch(fail=fail)
        stream.add("bad", InThread() if thread else Late(), HandlerPolicy(on_failure="raise", thread=thread))
        stream.on_next(text("a"))
        await stream.settled()
        if fail is None:
            with pytest.raises(ValueError, match="late"):
                stream.on_next(text("b"))
        stream.dispose()
    assert [str(error) for error in ended] == ["late"]


@virtual_time
async def test_without_a_next_event_the_failure_is_the_end() -> None:
    told = Says()

    class Late(StreamHandler):
        async def on_event(self, event: Event) -> None:
            raise ValueError("late")

    stream = dispatch()
    stream.add("bad", Late(), HandlerPolicy(on_failure="raise"))
    stream.add("told", told)
    stream.on_next(text("a"))
    await stream.settled()
    stream.on_completed(DONE)
    assert told.said[-1] == ("error", ValueError)


@virtual_time
async def test_detached_after_so_many_failures_it_is_told_so() -> None:
    bad, good, stream = Fails(), Says(), dispatch()
    stream.add("bad", bad, HandlerPolicy(on_failure="detach", failures=2))
    stream.add("good", good)
    for word in "abc":
        stream.on_next(text(word))
    stream.on_completed(DONE)
    assert bad.said == [("start", "s1"), (0, "a"), (1, "b"), ("error", HandlerDetached)]
    assert good.said[-1] == ("complete", "whole")
    assert stream.figures()["bad"].detached
    assert stream.remove("bad")


@virtual_time
async def test_a_slow_one_is_detached_with_what_waits_for_it() -> None:
    class Bad(Slow):
        async def on_token_received(self, token: str, index: int) -> None:
            await super().on_token_received(token, index)
            raise ValueError(token)

    bad, stream = Bad(), dispatch()
    stream.add("bad", bad, HandlerPolicy(on_failure="detach", failures=2))
    for word in "abcd":
        stream.on_next(text(word))
    stream.on_completed(DONE)
    await stream.settled()
    assert bad.said == [("start", "s1"), (0, "a", 1.0), (1, "b", 2.0), ("error", HandlerDetached)]
    figures = stream.figures()["bad"]
    assert (figures.delivered, figures.failures, figures.dropped, figures.waiting) == (2, 2, 3, 0)


@virtual_time
async def test_what_the_last_call_raises_is_counted_and_no_more() -> None:
    class Bad(Says):
        def on_stream_complete(self, full_response: Any) -> None:
            raise ValueError("at the end")

    for policy in (HandlerPolicy(on_failure="raise"), HandlerPolicy(on_failure="detach", failures=1)):
        bad, good, stream = Bad(), Says(), dispatch()
        stream.add("bad", bad, policy)
        stream.add("good", good)
        stream.on_completed(DONE)
        assert good.said[-1] == ("complete", "whole")
        assert bad.said == [("start", "s1")]
        assert stream.figures()["bad"].failures == 1


@virtual_time
async def test_one_that_cannot_say_who_serves_a_stream_serves_it_not() -> None:
    class Cannot(Says):
        def for_stream(self, metadata: StreamMetadata) -> StreamHandler:
            raise KeyError(metadata.stream_id)

    bad, good, stream = Cannot(), Says(), dispatch()
    stream.add("bad", bad)
    stream.add("good", good)
    stream.on_next(text("a"))
    stream.on_completed(DONE)
    assert bad.said == []
    assert good.said[-1] == ("complete", "whole")
    assert (stream.figures()["bad"].failures, stream.figures()["bad"].detached) == (1, True)


# --- slow ones ------------------------------------------------------------------------------------------------------------


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
async def test_coroutine_functions_have_no_place_in_a_thread() -> None:
    stream = dispatch()
    stream.add("h", Slow(), HandlerPolicy(thread=True))
    stream.on_next(text("a"))
    assert stream.figures()["h"].detached


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
async def test_a_handler_that_is_cancelled_from_within_has_failed() -> None:
    class Gives(Says):
        async def on_token_received(self, token: str, index: int) -> None:
            raise asyncio.CancelledError

    told, stream = Gives(), dispatch()
    stream.add("h", told)
    stream.on_next(text("a"))
    stream.on_completed(DONE)
    await stream.settled()
    assert told.said == [("start", "s1"), ("complete", "whole")]
    assert stream.figures()["h"].failures == 1


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


async def test_what_a_returned_coroutine_raises_is_the_handler_s_failure() -> None:
    async def later() -> None:
        raise ValueError("no")

    stream = dispatch()
    stream.add("h", as_handler(lambda _event: later()), HandlerPolicy(on_failure="detach", failures=2))
    for _ in range(4):
        stream.on_next(text("a"))
    await stream.settled()
    figures = stream.figures()["h"]
    assert (figures.failures, figures.dropped, figures.detached) == (2, 2, True)


async def test_a_coroutine_that_comes_out_of_a_thread_is_a_failure() -> None:
    async def later() -> None:
        pass

    stream = dispatch()
    stream.add("h", as_handler(lambda _event: later()), HandlerPolicy(thread=True))
    stream.on_next(text("a"))
    stream.on_completed(DONE)
    await stream.settled()
    assert stream.figures()["h"].failures == 1


@pytest.mark.parametrize("thread", [False, True])
async def test_a_cancellation_that_a_plain_function_raises_is_its_failure(thread: bool) -> None:
    """As the result of a task that was cancelled does: it is no cancellation of whoever reads the stream."""

    class Raises(Says):
        def on_token_received(self, token: str, index: int) -> Any:
            raise asyncio.CancelledError(token)

    handler, other = Raises(), Says()
    stream = dispatch()
    stream.add("h", handler, HandlerPolicy(thread=thread))
    stream.add("o", other)
    stream.on_next(text("a"))
    stream.on_completed(DONE)
    await stream.settled()
    assert other.said == [("start", "s1"), (0, "a"), ("complete", "whole")]
    assert handler.said == [("start", "s1"), ("complete", "whole")]
    assert stream.figures()["h"].failures == 1


async def test_who_serves_a_stream_may_be_any_object_with_some_of_the_methods(caplog: pytest.LogCaptureFixture) -> None:
    tokens: list[str] = []

    class Part:
        def on_token_received(self, token: str, index: int) -> None:
            tokens.append(token)

    class Whole:
        def for_stream(self, metadata: StreamMetadata) -> Any:
            return Part() if metadata.stream_id == "s1" else None

    stream = dispatch()
    stream.add("h", as_handler(Whole()))
    stream.on_next(text("a"))
    assert tokens == ["a"]
    other = Dispatch(StreamMetadata(stream_id="s2"), LoopScheduler())
    other.add("h", as_handler(Whole()))
    other.on_next(text("a"))
    assert other.figures()["h"].detached
    assert "for_stream returned None" in caplog.text


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
async def test_what_a_pause_raises_ends_the_stream_too() -> None:
    class Refuses(StreamHandler):
        def on_pause(self) -> None:
            raise ValueError("never")

    ended: list[Exception] = []
    stream = dispatch(fail=ended.append)
    stream.add("h", Refuses(), HandlerPolicy(on_failure="raise"))
    stream.start()
    stream.paused()
    assert [str(error) for error in ended] == ["never"]


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


# --- any of it ------------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.integers(0, 3)),
        st.tuples(st.just("add"), st.sampled_from(["plain", "slow", "fails", "thread"])),
        st.tuples(st.just("remove"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 10.0])),
    ),
    max_size=30,
)


@settings(max_examples=30, deadline=None)
@given(STEPS, st.booleans())
def test_whoever_comes_and_goes_is_told_all_between_in_order(steps: list[tuple[str, Any]], failed: bool) -> None:
    """From when it is added to the end, or to when it is removed: the start, every piece, and the end, once."""

    async def run() -> None:
        stream, handlers, since, until = dispatch(), dict[str, Says](), dict[str, int](), dict[str, int]()
        stream.start()
        count = 0
        for what, value in steps:
            if what == "event":
                for _ in range(value):
                    stream.on_next(text("x"))
                count += value
            elif what == "add":
                name = str(len(handlers))
                handlers[name] = {"slow": Slow, "fails": Fails}.get(value, Says)()
                since[name] = count
                threaded.update([handlers[name]] if value == "thread" else [])
                stream.add(name, handlers[name], HandlerPolicy(thread=value == "thread"))
            elif what == "remove" and stream.remove(str(value)):
                until[str(value)] = count
            elif what == "wait":
                await asyncio.sleep(value)
        stream.on_error(Disconnected("cut")) if failed else stream.on_completed(DONE)
        await stream.settled()
        await asyncio.sleep(100)
        end = ("error", Disconnected) if failed else ("complete", "whole")
        for name, handler in handlers.items():
            last = until.get(name, count)
            whole = [("start", "s1"), *((index, "x") for index in range(since[name], last)), end]
            told = [said[:2] for said in handler.said]
            if name not in until:
                assert told == whole
            else:
                assert told == whole[: len(told)]  # what waited for a slow one is forgotten
                if not isinstance(handler, Slow) and handler not in threaded:
                    assert told == whole[:-1]

    threaded: set[Says] = set()
    virtual_time(run)()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"on_failure": "ignore"}, "on_failure"),
        ({"failures": 0}, "failures"),
        ({"slow": "drop"}, "slow"),
        ({"capacity": 0}, "capacity"),
        ({"thread": 1}, "thread"),
        ({"by": "page"}, "by"),
    ],
)
def test_a_policy_that_is_none_is_refused(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name}="):
        HandlerPolicy(**options)


@virtual_time
async def test_a_function_of_events_is_told_too() -> None:
    said: list[Event] = []
    stream = dispatch()
    stream.add("f", as_handler(said.append))
    stream.on_next(text("a"))
    assert said == [text("a")]
