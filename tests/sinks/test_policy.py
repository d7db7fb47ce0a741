"""What becomes of a handler that fails: the policies, and what counts as a failure."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rxstream.errors import ConfigurationError, HandlerDetached
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks.handler import HandlerPolicy, StreamHandler, StreamMetadata, as_handler
from tests.support.handlers import DONE, Fails, Says, Slow, dispatch, text
from tests.support.virtual_loop import virtual_time


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
        "handler bad raised ValueError; further failures of it are only counted"
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


@virtual_time
async def test_coroutine_functions_have_no_place_in_a_thread() -> None:
    stream = dispatch()
    stream.add("h", Slow(), HandlerPolicy(thread=True))
    stream.on_next(text("a"))
    assert stream.figures()["h"].detached


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
