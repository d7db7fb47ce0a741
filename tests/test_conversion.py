"""What a user has, as a Stream: the sources themselves are tested in `tests/sources`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable

import pytest
from reactivex import operators as ops

import rxstream
from rxstream.errors import Cancelled, ConfigurationError, ServerFault
from rxstream.events import Finished, Started, TextDelta
from rxstream.sources import callback, emulate, iterable, replay
from rxstream.sources.callback import Push


async def test_an_iterable_is_a_stream_of_its_text() -> None:
    """A list can be subscribed again and again; its label is the events' source."""
    stream = rxstream.from_iterable(["a", "b"], label="mine", model="m")
    assert (await stream).text == "ab"
    events = [event async for event in stream]
    assert [type(event) for event in events] == [Started, TextDelta, TextDelta, Finished]
    assert {event.source for event in events} == {"mine"}


async def test_operators_of_rx_follow() -> None:
    """What comes out of stock operators is a Stream that can be awaited."""

    async def words() -> AsyncIterator[str]:
        for word in ("one ", "two ", "three"):
            yield word

    stream = rxstream.from_iterable(words)
    assert await stream.text().pipe(ops.map(str.upper), ops.reduce(lambda a, b: a + b)) == "ONE TWO THREE"


async def test_a_callback_is_a_stream_of_what_it_pushes() -> None:
    """The function runs once a subscription."""

    def start(push: Push[str]) -> None:
        push("x")
        push("y")

    assert (await rxstream.from_callback(start)).text == "xy"


async def test_a_complete_answer_is_a_stream_of_its_words() -> None:
    """Cut and joined, the text is the same."""
    text = "A complete  answer,\nall of it."
    stream = rxstream.emulate(text, by="word")
    pieces = [piece async for piece in stream.text()]
    assert "".join(pieces) == text
    assert len(pieces) > 3


async def test_an_error_of_the_source_reaches_the_subscriber_with_what_came_before() -> None:
    """What the iterator raises is the cause."""

    def broken() -> AsyncIterator[str]:
        async def items() -> AsyncIterator[str]:
            yield "half"
            raise RuntimeError("power cut")

        return items()

    with pytest.raises(ServerFault, match="power cut") as caught:
        await rxstream.from_iterable(broken)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "half"


def test_wrong_arguments_are_refused_at_once() -> None:
    """A string is no iterable of pieces."""
    with pytest.raises(ConfigurationError, match="emulate"):
        rxstream.from_iterable("text")


@pytest.mark.parametrize(
    ("ours", "source"),
    [
        (rxstream.from_iterable, iterable.from_iterable),
        (rxstream.from_callback, callback.from_callback),
        (rxstream.emulate, emulate.emulate),
        (rxstream.replay, replay.replay),
    ],
)
def test_signature_and_documentation_are_those_of_the_source(
    ours: Callable[..., object], source: Callable[..., object]
) -> None:
    """An editor shows the options."""
    assert inspect.signature(ours).parameters == inspect.signature(source).parameters
    assert ours.__doc__ == source.__doc__


async def test_an_iterator_that_cancels_its_own_stream_is_closed() -> None:
    """Even if it then waits for ever."""
    closed = asyncio.Event()

    async def words() -> AsyncIterator[str]:
        try:
            yield "one"
            session.cancel("enough of myself")
            await asyncio.Event().wait()
        finally:
            closed.set()

    session = rxstream.from_iterable(words).start()
    with pytest.raises(Cancelled, match="enough"):
        await session
    async with asyncio.timeout(10):
        await closed.wait()
