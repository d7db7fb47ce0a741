"""Complete answers as streams: all of it, once, at its pace."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.aggregate import aggregate
from rxstream.errors import ConfigurationError, ServerFault, StreamIncomplete
from rxstream.events import Event, Finished, Raw, Started, TextDelta
from rxstream.loop import LoopScheduler
from rxstream.messages import (
    ImagePart,
    OpaquePart,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCall,
)
from rxstream.observable import Stream
from rxstream.response import Choice, CitationRecord, MediaRecord, Response, ServerToolCall
from rxstream.sources._pump import pump
from rxstream.sources._source import Source
from rxstream.sources.emulate import emulate
from rxstream.usage import Usage
from tests.support.scripted import Recorder
from tests.support.steps import Signal
from tests.support.virtual_loop import VirtualLoop, virtual_time

TEXT = "The sky is blue. It was so yesterday, too.\n"


def stream(source: Source[Any]) -> Stream[Event]:
    return Stream.of(pump(source))


async def events(source: Source[Any]) -> list[Event]:
    return [event async for event in stream(source)]


async def texts(source: Source[Any]) -> list[str]:
    return [event.text for event in await events(source) if isinstance(event, TextDelta)]


# --- text ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({}, "The "),
        ({"by": "character"}, "T"),
        ({"by": "sentence"}, "The sky is blue. "),
        ({"by": "line"}, TEXT),
        ({"by": "size", "size": 5}, "The s"),
        ({"by": "size", "size": 5, "overlap": 2}, "The s"),
        ({"by": "delimiter", "delimiter": "is"}, "The sky is"),
    ],
)
async def test_every_way_to_cut(options: dict[str, Any], first: str) -> None:
    """The first piece is of the kind asked for, and the pieces are the text, once."""
    pieces = await texts(emulate(TEXT, **options))
    assert pieces[0] == first
    assert "".join(pieces) == TEXT


async def test_text_is_a_whole_stream() -> None:
    """With a beginning, an end and what was given of the model."""
    source = emulate("Hi", model="m", provider="p", id="1", usage=Usage(output_tokens=1), label="track")
    first, *_, last = await events(source)
    assert isinstance(first, Started)
    assert (first.id, first.model, first.provider, first.source) == ("1", "m", "p", "track")
    assert isinstance(last, Finished)
    assert last.reason == "stop"
    assert (await stream(source)).usage.output_tokens == 1


async def test_no_text_at_all() -> None:
    """An empty answer is an answer."""
    assert [type(event) for event in await events(emulate(""))] == [Started, Finished]


# --- functions that answer --------------------------------------------------------------------------------------------------------


async def test_a_function_that_blocks() -> None:
    """It runs in a thread, once a subscription, while the loop goes on."""
    began, go = Signal(), Signal()
    threads: list[int] = []

    def answer() -> str:
        threads.append(threading.get_ident())
        began.set()
        go.wait()
        return TEXT

    source = emulate(answer)
    assert not threads
    reading = asyncio.ensure_future(texts(source))
    await began.wait_async()
    assert not reading.done()
    go.set()
    assert "".join(await reading) == TEXT
    assert "".join(await texts(source)) == TEXT
    assert len(threads) == 2
    assert threading.get_ident() not in threads


async def coroutine() -> str:
    return TEXT


def disguised() -> object:
    return coroutine()


@pytest.mark.parametrize("answer", [coroutine, disguised, lambda: Response(finish_reason="stop")])
async def test_functions_of_other_kinds(answer: Callable[[], Any]) -> None:
    """A coroutine function, a function that gives a coroutine, and one that gives a `Response`."""
    response = await stream(emulate(answer))
    assert response.text in (TEXT, "")
    assert response.finish_reason == "stop"


async def test_a_function_that_raises() -> None:
    """Its error is the cause of the stream's."""

    def answer() -> str:
        raise LookupError("no such model")

    with pytest.raises(ServerFault, match="LookupError: no such model"):
        await stream(emulate(answer))


async def test_cancelled_while_it_is_asked() -> None:
    """The stream ends at once, whatever the function still does."""
    began, go, over = Signal(), Signal(), Signal()

    def answer() -> str:
        began.set()
        go.wait()
        over.set()
        return TEXT

    reading = asyncio.ensure_future(texts(emulate(answer)))
    await began.wait_async()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not over.is_set
    go.set()
    await over.wait_async()


# --- pace -------------------------------------------------------------------------------------------------------------------------


async def times(source: Source[Any]) -> list[float]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    return [event.at - began for event in await events(source) if isinstance(event, TextDelta)]


@virtual_time
async def test_a_delay() -> None:
    """The first piece comes at once, each other so many seconds after the one before; the end waits for nothing."""
    assert await times(emulate("a b c", delay=0.25)) == pytest.approx([0, 0.25, 0.5])


@virtual_time
async def test_tokens_a_second() -> None:
    """A piece takes its length's time, four characters being a token."""
    assert await times(emulate("aaaa|bbbbbbbb|cc", by="delimiter", delimiter="|", tokens_per_second=10)) == (
        pytest.approx([0, 9 / 40, 11 / 40])
    )


@virtual_time
async def test_without_a_pace() -> None:
    """All comes at once."""
    assert set(await times(emulate(TEXT))) == {0}
    assert set(await times(emulate(TEXT, delay=0))) == {0}


@virtual_time
async def test_a_pause_is_not_made_up_for() -> None:
    """After a pause it goes on at its pace."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    scheduler, recorder = LoopScheduler(), Recorder()
    stream(emulate("a b c d", delay=1)).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler
    )
    await asyncio.sleep(1.5)
    scheduler.gate.hold("user")
    await asyncio.sleep(10)
    scheduler.gate.release("user")
    await asyncio.sleep(10)
    at = [time for item, time in zip(recorder.items, recorder.times, strict=True) if isinstance(item, TextDelta)]
    assert at == pytest.approx([0, 1, 11.5, 12.5])
    assert recorder.completed


# --- responses ----------------------------------------------------------------------------------------------------------------------

RICH = Response(
    id="r1",
    model="m",
    provider="p",
    choices=[
        Choice(
            index=0,
            parts=[
                ThinkingPart(text="Let me think of it.", signature="sig", id="t1"),
                ThinkingPart(redacted="blob"),
                TextPart(text=TEXT),
                OpaquePart(provider="p", payload={"type": "compaction"}),
                ToolCall(id="c1", name="weather", arguments='{"city": "Paris and Rome"}'),
                ToolCall(id="c2", name="code", arguments="print(1)", kind="custom"),
                ToolCall(id="c3", name="cut", arguments='{"ci', complete=False),
                RefusalPart(text="I will not say more."),
            ],
            citations=[CitationRecord(kind="url", url="http://example.org", title="T", start=1, end=2)],
            server_tools=[
                ServerToolCall(id="s1", name="search", arguments="{}", status="completed", result={"hits": 1}),
                ServerToolCall(id="s2", name="search"),
            ],
            media=[
                MediaRecord(kind="image", data="AAAA", media_type="image/png", id="i1"),
                MediaRecord(kind="audio", data="AAAA", media_type="audio/wav", transcript="hello", id="a1"),
            ],
            logprobs=[{"token": "The", "logprob": -0.1}],
            raw_finish_reason="end",
        ),
        Choice(index=1, parts=[TextPart(text="Another answer.")], raw_finish_reason="max"),
    ],
    finish_reason="stop",
    raw_finish_reason="end",
    stop_sequence="\n",
    usage=Usage(provenance="reported", input_tokens=3, output_tokens=9),
)


@pytest.mark.parametrize("by", ["character", "word", "sentence"])
async def test_a_response_comes_back_whole(by: Any) -> None:
    """The events of an emulated `Response` add up to it: every part, attachment, name and count."""
    assert await stream(emulate(RICH, by=by)) == RICH
    assert len(await texts(emulate(RICH, by=by))) > 2


words = st.text(max_size=30)


@given(
    st.lists(
        st.builds(TextPart, text=st.text(min_size=1, max_size=30))
        | st.builds(ThinkingPart, text=st.text(min_size=1), signature=words | st.none(), id=words)
        | st.builds(ToolCall, id=words, name=words, arguments=words, complete=st.booleans())
    )
)
def test_any_parts_come_back(parts: list[Any]) -> None:
    """Whatever parts a response has, in whatever order."""
    response = Response(choices=[Choice(index=0, parts=parts)], finish_reason="stop", raw_finish_reason="")
    response = response.model_copy(update={"choices": [Choice(index=0, parts=parts, raw_finish_reason="")]})
    assert aggregate(asyncio.run(events(emulate(response)))) == response


async def test_an_answer_that_was_cut() -> None:
    """It is emulated as what it is: all that arrived, then the error of a stream without its end."""
    cut = Response(choices=[Choice(parts=[TextPart(text="half a")])])
    with pytest.raises(StreamIncomplete, match="its own stream was cut") as caught:
        await stream(emulate(cut))
    assert caught.value.partial is not None
    assert caught.value.partial.text == "half a"


async def test_a_part_that_no_model_gives() -> None:
    """It is not lost: it comes as it is."""
    odd = Response(choices=[Choice(parts=[ImagePart(url="http://example.org/a.png")])], finish_reason="stop")
    raw = [event for event in await events(emulate(odd)) if isinstance(event, Raw)]
    assert [event.name for event in raw] == ["image"]
    assert raw[0].payload["url"] == "http://example.org/a.png"


@virtual_time
async def test_the_pace_of_a_response() -> None:
    """Thinking, text and arguments have their pace; what a reader does not see takes no time."""
    response = Response(
        choices=[
            Choice(
                parts=[ThinkingPart(text="a b", signature="s"), TextPart(text="c"), ToolCall(name="f", arguments="1")]
            )
        ],
        finish_reason="tool_calls",
    )
    began = asyncio.get_running_loop().time()
    seen = [(event.at - began, type(event).__name__) for event in await events(emulate(response, delay=1))]
    assert seen == [
        (0, "Started"),
        (0, "ThinkingDelta"),
        (1, "ThinkingDelta"),
        (1, "ThinkingSignature"),
        (1, "PartEnd"),
        (2, "TextDelta"),
        (2, "ToolCallStart"),
        (3, "ToolCallDelta"),
        (3, "ToolCall"),
        (3, "Finished"),
    ]


# --- what cannot be -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay": 1, "tokens_per_second": 2}, "not both"),
        ({"delay": -1}, "must not be negative"),
        ({"tokens_per_second": 0}, "more than 0"),
        ({"by": "size"}, "size="),
        ({"delimiter": "x"}, "delimiter="),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    """Refused where they are given, not when the answer is there."""
    with pytest.raises(ConfigurationError, match=message):
        emulate(TEXT, **options)


async def test_answers_that_cannot_be() -> None:
    """Refused at once, and to the subscriber where a function gave it."""
    wrong: Any = 7
    with pytest.raises(ConfigurationError, match="not an int"):
        emulate(wrong)
    with pytest.raises(ConfigurationError, match="must give text or a Response: not an int"):
        await stream(emulate(lambda: wrong))
