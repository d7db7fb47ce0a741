"""``chunks``: events as message chunks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as ops

from rxstream import events as ev
from rxstream.chunk import MessageChunk, ToolCallChunk
from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from rxstream.operators import chunks
from rxstream.sources._pump import pump
from rxstream.usage import Usage
from tests.support.scripted import DONE, Recorder, Scripted, Step, raising
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

STARTED = ev.Started(id="msg_1", model="some-1", provider="someone")


async def made_of(steps: list[Step], *, choice: int = 0) -> tuple[Recorder, Scripted]:
    script, recorder = Scripted(steps), Recorder()
    script.events().pipe(chunks(choice=choice)).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler()
    )
    await asyncio.sleep(1000)
    return recorder, script


@pytest.mark.parametrize(
    ("event", "field", "value"),
    [
        (ev.TextDelta(text="a"), "content", "a"),
        (ev.ThinkingDelta(text="hm"), "thinking", "hm"),
        (ev.RefusalDelta(text="no"), "refusal", "no"),
        (ev.ToolCallStart(part=2, id="c", name="f"), "tool_calls", (ToolCallChunk(part=2, id="c", name="f"),)),
        (ev.ToolCallDelta(part=2, arguments="{"), "tool_calls", (ToolCallChunk(part=2, arguments="{"),)),
        (ev.UsageReported(usage=Usage(output_tokens=3)), "usage", Usage(output_tokens=3)),
        (ev.Finished(reason="length"), "finish_reason", "length"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ev.EventBase) else "",
)
@virtual_time
async def test_what_an_event_says_is_in_its_chunk_and_nothing_else_is(event: Event, field: str, value: object) -> None:
    recorder, _ = await made_of([STARTED, event])
    (chunk,) = recorder.items
    said = {"content": "", "thinking": "", "refusal": "", "tool_calls": (), "usage": None, "finish_reason": None}
    assert {name: getattr(chunk, name) for name in said} == {**said, field: value}
    assert chunk.id == "msg_1"


@pytest.mark.parametrize(
    "event",
    [
        ev.Heartbeat(),
        ev.Status(status="queued"),
        ev.PartEnd(kind="text"),
        ev.Raw(name="x"),
        ev.ToolCall(id="c", name="f", arguments="{}"),
        ev.ThinkingSignature(data="x"),
        ev.TextDelta(text="of another answer", choice=1),
    ],
    ids=lambda event: type(event).__name__,
)
@virtual_time
async def test_other_events_make_no_chunk(event: Event) -> None:
    recorder, _ = await made_of([STARTED, event, DONE])
    assert [chunk.finish_reason for chunk in recorder.items] == ["stop"]


@virtual_time
async def test_another_answer_may_be_chosen() -> None:
    recorder, _ = await made_of([ev.TextDelta(text="a"), ev.TextDelta(text="b", choice=1), DONE], choice=1)
    assert [chunk.content for chunk in recorder.items] == ["b", ""]


@virtual_time
async def test_a_chunk_says_whence_and_when() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    before = datetime.now(UTC).timestamp()
    loop.advance(100)
    script, recorder = Scripted([1.5, STARTED, 0.5, "a", DONE]), Recorder()
    source = script.source(label="left")
    pump(source).pipe(chunks()).subscribe(recorder.on_next, scheduler=LoopScheduler())
    await asyncio.sleep(10)
    metadata = recorder.items[0].metadata
    assert (metadata.model, metadata.provider, metadata.source) == ("some-1", "someone", "left")
    assert (metadata.seq, metadata.attempt, metadata.latency) == (1, 1, 2)
    assert before <= metadata.timestamp - 2 <= datetime.now(UTC).timestamp()
    assert recorder.items[1].metadata.seq == 2


@virtual_time
async def test_without_a_loop_scheduler_it_takes_the_running_loop() -> None:
    heard: list[MessageChunk] = []
    rx.of(ev.TextDelta(text="a")).pipe(chunks()).subscribe(heard.append)
    await settle()
    assert [chunk.content for chunk in heard] == ["a"]
    assert heard[0].id == ""


@virtual_time
async def test_an_error_passes_and_disposing_closes() -> None:
    error = Disconnected("gone")
    recorder, script = await made_of(["a", raising(error)])
    assert (len(recorder.items), recorder.error, script.closed) == (1, error, 1)


@given(st.lists(st.text(max_size=5), max_size=10))
def test_joined_the_contents_are_the_text(texts: list[str]) -> None:
    @virtual_time
    async def main() -> None:
        recorder, _ = await made_of([STARTED, *texts, DONE])
        assert "".join(chunk.content for chunk in recorder.items) == "".join(texts)
        assert recorder.completed
        assert recorder.items[-1].finish_reason == "stop"

    main()


def test_the_chunks_of_each_track_say_which_message_they_are_of() -> None:
    """Of a combination, too: the track that began last does not name them all."""
    events: list[Event] = [ev.Started(source=track, id=f"of {track}", model=f"model {track}") for track in "ab"]
    events += [ev.TextDelta(source=track, text="x") for track in "abc"]
    found = rx.from_iterable(events).pipe(chunks(), ops.to_list()).run()
    assert [(chunk.id, chunk.metadata.model) for chunk in found] == [("of a", "model a"), ("of b", "model b"), ("", "")]


@pytest.mark.parametrize("choice", [-1, "0", True])
def test_a_choice_that_is_none_is_refused(choice: Any) -> None:
    with pytest.raises(ConfigurationError, match="choice="):
        chunks(choice=choice)
