"""Iterators as streams: pulled when wanted, in one thread, closed in it; never lost, never read twice."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest

from rxstream.errors import ConfigurationError, ProtocolError, RateLimited, ServerFault
from rxstream.events import Event, Finished, Started, TextDelta, ThinkingDelta, UsageReported
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.sources._pump import pump
from rxstream.sources._source import Feed, Source
from rxstream.sources._worker import Worker
from rxstream.sources.iterable import Item, ItemsDecoder, from_iterable
from rxstream.usage import Usage
from tests.support.steps import Signal
from tests.support.until import until
from tests.support.virtual_loop import virtual_time

WORDS = ["The ", "sky ", "is ", "blue."]


def stream(source: Source[Any]) -> Stream[Event]:
    return Stream.of(pump(source))


async def texts(source: Source[Any]) -> list[str]:
    return [event.text async for event in stream(source) if isinstance(event, TextDelta)]


# --- the decoder --------------------------------------------------------------------------------------------------------------


def test_text_becomes_a_whole_stream() -> None:
    """A beginning with the names given, the text, the end."""
    decoder: Feed[Item] = ItemsDecoder(model="m", provider="p", id="1")
    assert decoder.feed("Hi") == [Started(id="1", model="m", provider="p"), TextDelta(text="Hi")]
    assert decoder.feed("!") == [TextDelta(text="!")]
    before = decoder.finished
    assert decoder.close() == [Finished(reason="stop")]
    assert (before, decoder.finished, decoder.failure) == (False, True, None)


def test_nothing_is_a_whole_stream_too() -> None:
    """Without any item there are still a beginning and an end."""
    assert [type(event) for event in ItemsDecoder().close()] == [Started, Finished]


def test_empty_text_is_left_out() -> None:
    """It is no event, and does not begin the stream."""
    decoder = ItemsDecoder()
    assert decoder.feed("") == []
    assert len(decoder.feed("a")) == 2
    assert decoder.feed("") == []


def test_events_pass_as_they_are() -> None:
    """An own beginning and an own end replace ours; nothing follows the end."""
    decoder = ItemsDecoder(model="unused")
    own, thought, end = Started(model="mine"), ThinkingDelta(text="hm"), Finished(reason="length")
    assert decoder.feed(own) == [own]
    assert decoder.feed(thought) == [thought]
    assert decoder.feed(end) == [end]
    assert decoder.feed("more") == decoder.close() == []


@pytest.mark.parametrize("usage", [Usage(output_tokens=3), lambda: Usage(output_tokens=3)])
def test_usage_comes_before_the_end(usage: Any) -> None:
    """Known from the start, or only at the end."""
    assert ItemsDecoder(usage=usage).close()[1:] == [
        UsageReported(usage=Usage(output_tokens=3)),
        Finished(reason="stop"),
    ]


def test_usage_may_turn_out_unknown() -> None:
    """Then nothing is reported."""
    assert len(ItemsDecoder(usage=lambda: None).close()) == 2


def test_an_item_of_another_kind() -> None:
    """The message says what came and what to do."""
    decoder: Any = ItemsDecoder()
    with pytest.raises(ProtocolError, match=r"gave a dict, .* text="):
        decoder.feed({"text": "a"})


# --- what may be given ------------------------------------------------------------------------------------------------------------


def generator() -> Iterator[str]:
    yield from WORDS


async def async_generator() -> AsyncIterator[str]:
    for word in WORDS:
        yield word


async def coroutine() -> AsyncIterator[str]:
    return async_generator()


def disguised() -> object:
    return coroutine()


class Walked:
    """An iterable that is no sequence and no iterator."""

    def __iter__(self) -> Iterator[str]:
        return generator()


@pytest.mark.parametrize(
    "source",
    [WORDS, tuple(WORDS), Walked(), generator, async_generator, coroutine, lambda: WORDS, disguised, Walked],
    ids=["list", "tuple", "iterable", "function", "asynchronous", "coroutine", "of-a-list", "of-a-coroutine", "class"],
)
async def test_whatever_can_be_read_twice(source: Any) -> None:
    """All kinds give the same stream, to each subscription anew."""
    events = from_iterable(source)
    assert await texts(events) == WORDS
    assert await texts(events) == WORDS


@pytest.mark.parametrize("make", [generator, async_generator])
async def test_an_iterator_can_be_read_once(make: Callable[[], Any]) -> None:
    """The second subscription is told so, and what to give instead."""
    events = from_iterable(make())
    assert await texts(events) == WORDS
    with pytest.raises(ConfigurationError, match="give a function that makes a new one"):
        await texts(events)


@pytest.mark.parametrize(("wrong", "words"), [("The sky", r"use emulate\(\)"), (7, "an int"), (None, "a NoneType")])
async def test_what_cannot_be_read(wrong: Any, words: str) -> None:
    """Refused at once where it is given, and to the subscriber where a function gave it."""
    with pytest.raises(ConfigurationError, match=words):
        from_iterable(wrong)
    with pytest.raises(ConfigurationError, match=words):
        await texts(from_iterable(lambda: wrong))


async def test_items_of_any_kind() -> None:
    """`text` makes text or events of them, and leaves out what gives None or nothing."""
    items: list[dict[str, Any]] = [{"t": "a"}, {}, {"t": ""}, {"t": ThinkingDelta(text="b")}]
    response = await stream(from_iterable(items, text=lambda item: item.get("t")))
    assert (response.text, response.thinking) == ("a", "b")


async def test_names() -> None:
    """What was given is on the first event, and on the track."""
    source = from_iterable(WORDS, model="m", provider="p", id="7", label="mine", usage=Usage(output_tokens=4))
    response = await stream(source)
    assert (response.model, response.provider, response.id, response.usage.output_tokens) == ("m", "p", "7", 4)
    assert (source.label, source.model, source.provider) == ("mine", "m", "p")


# --- threads ------------------------------------------------------------------------------------------------------------------------


async def test_one_thread_for_all_steps() -> None:
    """The function, each step and the closing run in one thread, which is not the loop's."""
    seen: list[int] = []
    closed = Signal()

    def words() -> Iterator[str]:
        seen.append(threading.get_ident())
        try:
            for word in WORDS:
                seen.append(threading.get_ident())
                yield word
        finally:
            seen.append(threading.get_ident())
            closed.set()

    def make() -> Iterator[str]:
        seen.append(threading.get_ident())
        return words()

    async for event in stream(from_iterable(make)):
        if isinstance(event, TextDelta):
            break
    await closed.wait_async()
    assert len(seen) >= 4
    assert len(set(seen)) == 1
    assert threading.get_ident() not in seen


async def test_a_blocked_iterator_does_not_block_the_loop() -> None:
    """The loop goes on while a step takes its time."""
    go, began = Signal(), Signal()

    def words() -> Iterator[str]:
        began.set()
        go.wait()
        yield "late"

    reading = asyncio.ensure_future(texts(from_iterable(words)))
    await began.wait_async()
    assert not reading.done()
    go.set()
    assert await reading == ["late"]


async def test_context_variables_reach_the_thread() -> None:
    """The iterator sees what the subscriber saw."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("seen")
    assert await texts(from_iterable(lambda: iter([variable.get()]))) == ["seen"]


async def test_threads_end() -> None:
    """Nothing is left running after the end."""
    await texts(from_iterable(generator))
    await until(lambda: not any(thread.name == "rxstream-iterator" for thread in threading.enumerate()))


# --- demand -------------------------------------------------------------------------------------------------------------------------


class Counted:
    """Endless items, counted as they are pulled, with a note of the closing."""

    def __init__(self) -> None:
        self.pulled = 0
        self.closed = Signal()

    def sync(self) -> Iterator[str]:
        try:
            while True:
                self.pulled += 1
                yield f"{self.pulled} "
        finally:
            self.closed.set()

    async def asynchronous(self) -> AsyncIterator[str]:
        try:
            while True:
                self.pulled += 1
                yield f"{self.pulled} "
        finally:
            self.closed.set()


@pytest.mark.parametrize("kind", ["sync", "asynchronous"])
async def test_a_closed_gate_stops_the_pulling(kind: str) -> None:
    """While anyone holds the gate not one more item is asked for; then it goes on where it was. Disposing closes."""
    counted, scheduler = Counted(), LoopScheduler()
    got: list[str] = []

    def on_next(event: Event) -> None:
        if isinstance(event, TextDelta):
            got.append(event.text)
            if len(got) in (3, 6):
                scheduler.gate.hold("user")

    subscription = stream(from_iterable(getattr(counted, kind))).subscribe(on_next, scheduler=scheduler)
    await until(lambda: len(got) == 3)
    for _ in range(50):
        await asyncio.sleep(0)
    assert counted.pulled == 3
    scheduler.gate.release("user")
    await until(lambda: len(got) == 6)
    assert got == [f"{n} " for n in range(1, 7)]
    subscription.dispose()
    await counted.closed.wait_async()
    assert counted.pulled == 6


async def test_cancelled_in_the_middle_of_a_step() -> None:
    """The stream ends at once; the iterator is closed when its step is done, and not stepped again."""
    began, go, closed = Signal(), Signal(), Signal()

    def words() -> Iterator[str]:
        try:
            began.set()
            go.wait()
            yield "unwanted"
            raise AssertionError("stepped again")
        finally:
            closed.set()

    reading = asyncio.ensure_future(texts(from_iterable(words)))
    await began.wait_async()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not closed.is_set
    go.set()
    await closed.wait_async()


async def test_cancelled_while_it_is_made() -> None:
    """What a function makes after that is closed all the same."""
    began, go, closed = Signal(), Signal(), Signal()

    class Opened:
        def __iter__(self) -> Iterator[str]:
            raise AssertionError("nobody reads it")

        def close(self) -> None:
            closed.set()

    def make() -> Iterable[str]:
        began.set()
        go.wait()
        return Opened()

    reading = asyncio.ensure_future(texts(from_iterable(make)))
    await began.wait_async()
    reading.cancel()
    await asyncio.wait([reading])
    go.set()
    await closed.wait_async()


async def test_what_a_function_made_is_closed() -> None:
    """An SDK's stream, synchronous or not, is closed, not only the iterator over it; one that was given is not."""

    class Opened:
        def __init__(self) -> None:
            self.closed = Signal()

        def __iter__(self) -> Iterator[str]:
            return generator()

        def close(self) -> None:
            self.closed.set()

    class AsyncOpened:
        def __init__(self) -> None:
            self.closed = Signal()

        def __aiter__(self) -> AsyncIterator[str]:
            return async_generator()

        async def close(self) -> None:
            self.closed.set()

    given, made, made_async = Opened(), Opened(), AsyncOpened()
    for source in (from_iterable(given), from_iterable(lambda: made), from_iterable(lambda: made_async)):
        assert await texts(source) == WORDS
    await made.closed.wait_async()
    await made_async.closed.wait_async()
    assert not given.closed.is_set


# --- failures -----------------------------------------------------------------------------------------------------------------------


def failing(error: BaseException, *, asynchronous: bool) -> Callable[[], Any]:
    def sync() -> Iterator[str]:
        yield "so far"
        raise error

    async def not_sync() -> AsyncIterator[str]:
        yield "so far"
        raise error

    return not_sync if asynchronous else sync


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_iterator_that_raises(asynchronous: bool) -> None:
    """Its error is the cause of ours, which holds what came before, and does not ask for a retry."""
    cause = LookupError("no such model")
    with pytest.raises(ServerFault, match="LookupError: no such model") as caught:
        await stream(from_iterable(failing(cause, asynchronous=asynchronous), model="m"))
    assert caught.value.__cause__ is cause
    assert not caught.value.retryable
    assert caught.value.partial is not None
    assert caught.value.partial.text == "so far"
    assert caught.value.model == "m"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_iterator_that_raises_our_errors(asynchronous: bool) -> None:
    """They mean what they say."""
    with pytest.raises(RateLimited, match="slow down"):
        await stream(from_iterable(failing(RateLimited("slow down"), asynchronous=asynchronous)))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_an_iterator_cannot_end_the_program(error: BaseException) -> None:
    """What is no plain error fails the stream, not the loop."""
    with pytest.raises(ServerFault, match=type(error).__name__):
        await stream(from_iterable(failing(error, asynchronous=False)))


async def test_a_cancellation_of_an_asynchronous_iterator_s_own_is_its_failure() -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "a"
        lost = asyncio.ensure_future(asyncio.sleep(60))
        lost.cancel()
        await lost

    with pytest.raises(ServerFault, match="CancelledError") as caught:
        await stream(from_iterable(pieces))
    assert caught.value.partial is not None
    assert caught.value.partial.text == "a"
    assert caught.value.__cause__ is not None
    assert isinstance(caught.value.__cause__.__cause__, asyncio.CancelledError)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
def test_nor_can_an_asynchronous_one_on_the_shared_loop(error: BaseException) -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "a"
        raise error

    with pytest.raises(ServerFault, match=type(error).__name__):
        stream(from_iterable(pieces)).run()


async def test_a_function_that_raises() -> None:
    """The one that makes the iterator, and `text`: `StopIteration` out of it is not taken for the end."""

    def raises(*_: object) -> Any:
        raise StopIteration("wrong place")

    with pytest.raises(ServerFault, match="StopIteration"):
        await stream(from_iterable(raises))
    for source in (WORDS, generator, async_generator):
        with pytest.raises(ServerFault, match="StopIteration"):
            await stream(from_iterable(source, text=raises))


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_close_that_raises(asynchronous: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The stream has its answer already: the error is logged, and hides nothing."""
    logged = Signal()

    class Opened:
        def close(self) -> None:
            logged.set()
            raise OSError("already gone")

    class Sync(Opened):
        def __iter__(self) -> Iterator[str]:
            return generator()

    class NotSync(Opened):
        def __aiter__(self) -> AsyncIterator[str]:
            return async_generator()

    with caplog.at_level(logging.WARNING, "rxstream"):
        assert await texts(from_iterable(NotSync if asynchronous else Sync)) == WORDS
        await logged.wait_async()
        await until(lambda: "already gone" in caplog.text)


async def test_an_asynchronous_iterator_without_a_close() -> None:
    """Nothing is asked of it but to be iterated."""

    class Bare:
        def __init__(self) -> None:
            self._left = iter(WORDS)

        def __aiter__(self) -> AsyncIterator[str]:
            return self

        async def __anext__(self) -> str:
            try:
                return next(self._left)
            except StopIteration:
                raise StopAsyncIteration from None

    assert await texts(from_iterable(Bare())) == WORDS


# --- the worker ------------------------------------------------------------------------------------------------------------------------


async def test_a_call_that_nobody_waits_for_any_more() -> None:
    """Is not begun; the last one is, and what follows it is not."""
    worker, go = Worker("worker"), Signal()
    done: list[str] = []
    first = asyncio.ensure_future(worker.run(go.wait))
    second = asyncio.ensure_future(worker.run(lambda: done.append("second")))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    closing = asyncio.ensure_future(worker.close(lambda: done.append("last")))
    go.set()
    await first
    await closing
    assert done == ["last"]


async def test_a_worker_that_was_never_used() -> None:
    """Has no thread to end, and nothing to close."""
    await Worker("unused").close(lambda: pytest.fail("nothing was begun"))
    assert not any(thread.name == "unused" for thread in threading.enumerate())


@virtual_time
async def test_in_virtual_time() -> None:
    """An asynchronous iterator may wait by the loop's clock: it passes for it as for all."""

    async def slow() -> AsyncIterator[str]:
        for word in WORDS:
            await asyncio.sleep(10)
            yield word

    began = asyncio.get_running_loop().time()
    assert await texts(from_iterable(slow)) == WORDS
    assert asyncio.get_running_loop().time() - began == pytest.approx(40)
