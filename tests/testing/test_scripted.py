"""A script is followed to the letter, and what was done with it is written down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import reactivex as rx

from rxstream.config import Timeouts
from rxstream.errors import ConfigurationError, Disconnected, ProtocolError, ServerFault, StreamIncomplete, TimedOut
from rxstream.events import Finished, TextDelta
from rxstream.loop import LoopScheduler
from rxstream.testing.scripted import DONE, HANG, Recorder, Scripted, Step, numbered, raising, words
from rxstream.testing.virtual import virtual_time


def following(script: Scripted, **options: Any) -> Recorder:
    recorder = Recorder()
    script.events(**options).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler()
    )
    return recorder


@virtual_time
async def test_waits_texts_events_and_pieces_come_as_they_stand() -> None:
    script = Scripted([1.5, "a", 2, ("b", TextDelta(text="c")), DONE])
    recorder = following(script)
    await asyncio.sleep(10)
    assert list(zip(recorder.items, recorder.times, strict=True)) == [
        (TextDelta(text="a", at=1.5), 1.5),
        (TextDelta(text="b", seq=1, at=3.5), 3.5),
        (TextDelta(text="c", seq=2, at=3.5), 3.5),
        (Finished(reason="stop", seq=3, at=3.5), 3.5),
    ]
    assert recorder.texts == ["a", "b", "c"]
    assert (recorder.completed, recorder.error, recorder.ended_at) == (True, None, 3.5)
    assert (script.opened, script.closed, script.running, script.given) == (1, 1, 0, 3)


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        (["a"], StreamIncomplete),
        (["a", ProtocolError("no")], ProtocolError),
        ([("a", ProtocolError("no"), "never")], ProtocolError),
        (["a", raising(Disconnected("gone"))], Disconnected),
        (["a", OSError("gone")], ServerFault),
    ],
    ids=["no end", "of the decoder", "in a piece", "raising", "an exception"],
)
@virtual_time
async def test_it_fails_as_it_says(steps: list[Step], error: type[Exception]) -> None:
    recorder = following(Scripted(steps))
    await asyncio.sleep(1)
    assert recorder.texts == ["a"]
    assert type(recorder.error) is error


@virtual_time
async def test_what_hangs_hangs_until_it_is_closed_or_a_clock_ends_it() -> None:
    script = Scripted(["a", HANG])
    recorder = following(script, timeouts=Timeouts(idle=30.0))
    await asyncio.sleep(20)
    assert script.running == 1
    await asyncio.sleep(20)
    assert isinstance(recorder.error, TimedOut)
    assert recorder.ended_at == 30
    assert script.running == 0


@virtual_time
async def test_before_the_response_and_after_the_end_it_follows_steps_too() -> None:
    script = Scripted(["a", lambda: "called", DONE], connect=[4.0], drain=0.05)
    closed: list[float] = []
    script.on_close = lambda: closed.append(asyncio.get_running_loop().time())
    recorder = following(script)
    await asyncio.sleep(10)
    assert recorder.times == [4, 4]
    assert script.seen == ["called"]
    assert script.drained == 1
    assert closed == pytest.approx([4.05])


@virtual_time
async def test_words_and_numbers_are_scripts() -> None:
    assert words("a", "b", every=0.5) == [0.5, "a", 0.5, "b", DONE]
    recorder = following(Scripted(numbered(3)))
    await asyncio.sleep(1)
    assert recorder.texts == ["0 ", "1 ", "2 "]


@virtual_time
async def test_after_the_end_a_recorder_takes_nothing() -> None:
    recorder = Recorder()
    seen: list[object] = []
    recorder.and_then = seen.append
    recorder.on_next(1)
    recorder.on_completed()
    assert seen == [1]
    calls: list[Callable[[], None]] = [
        lambda: recorder.on_next(2),
        lambda: recorder.on_error(ValueError()),
        recorder.on_completed,
    ]
    for late in calls:
        with pytest.raises(AssertionError, match="after the end"):
            late()


def test_where_no_loop_runs_a_recorder_writes_down_the_machines_time() -> None:
    recorder, began = Recorder(), time.monotonic()
    rx.of(1, 2).subscribe(recorder)
    assert (recorder.items, recorder.completed) == ([1, 2], True)
    assert began <= recorder.times[0] <= recorder.times[1] <= time.monotonic()


@virtual_time
async def test_what_is_no_step_is_refused() -> None:
    recorder = following(Scripted([b"bytes"]))  # type: ignore[list-item]
    await asyncio.sleep(1)
    assert isinstance(recorder.error, ConfigurationError)
    assert str(recorder.error).startswith("steps: a bytes is none")


def test_steps_show_what_they_are() -> None:
    assert repr([HANG, raising(ValueError("no"))]) == "[HANG, raising(ValueError('no'))]"
