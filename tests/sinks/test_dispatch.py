"""What the handlers of one stream are told, in which order, and who comes and goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxstream.errors import Cancelled, ConfigurationError, Disconnected
from rxstream.events import Event, Finished, Retracted, TextDelta, ToolCall, UsageReported
from rxstream.loop import LoopScheduler
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks.handler import HandlerPolicy, StreamHandler, StreamMetadata, as_handler
from rxstream.usage import Usage
from tests.support.handlers import DONE, Fails, Says, Slow, dispatch, text
from tests.support.virtual_loop import virtual_time


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


@virtual_time
async def test_a_function_of_events_is_told_too() -> None:
    said: list[Event] = []
    stream = dispatch()
    stream.add("f", as_handler(said.append))
    stream.on_next(text("a"))
    assert said == [text("a")]
