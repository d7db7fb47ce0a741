"""``progress``: how far, how fast, how long still; told when there is news, and not more often than asked."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxstream import events as ev
from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import Event, TextDelta
from rxstream.loop import LoopScheduler
from rxstream.operators import Progress, progress
from rxstream.usage import Usage
from tests.support.scripted import DONE, HANG, Recorder, Scripted, Step, numbered, raising, words
from tests.support.virtual_loop import VirtualLoop, settle, timers, virtual_time


async def told(steps: list[Step], **options: Any) -> Recorder:
    """What was told of the script, to its end."""
    recorder = Recorder()
    Scripted(steps).events().pipe(progress(**options)).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler()
    )
    await asyncio.sleep(1000)
    return recorder


def last(events: list[Event], **options: Any) -> Progress:
    """The last value, of events that come all at once."""
    recorder = Recorder()

    @virtual_time
    async def main() -> None:
        rx.from_iterable(events).pipe(progress(**options)).subscribe(recorder.on_next, scheduler=LoopScheduler())
        await settle()

    main()
    value = recorder.items[-1]
    assert isinstance(value, Progress)
    return value


def reported(tokens: int | None, **fields: Any) -> ev.UsageReported:
    return ev.UsageReported(usage=Usage(output_tokens=tokens, provenance="partial"), **fields)


@virtual_time
async def test_it_tells_of_the_first_output_then_every_so_often_and_of_the_end() -> None:
    recorder = await told([ev.Started(), 1, "a", 0.5, "b", 0.5, "c", 0.5, "d", 4, "e", "f", 0.25, DONE], every=1.25)
    assert [(at, value.tokens) for at, value in zip(recorder.times, recorder.items, strict=True)] == [
        (1, 1),  # the first output
        (2.25, 3),  # when it is time
        (3.5, 4),
        (6.5, 5),  # at once: the last one was long ago
        (6.75, 6),  # the end
    ]
    assert [value.done for value in recorder.items] == [False] * 4 + [True]
    assert recorder.completed


@virtual_time
async def test_a_silent_model_sets_no_timer() -> None:
    scheduler, recorder = LoopScheduler(), Recorder()
    script = Scripted([1, "a", 0.1, "b", 5, ev.Heartbeat(), ev.Status(status="x"), HANG])
    subscription = script.events().pipe(progress()).subscribe(recorder.on_next, scheduler=scheduler)
    await asyncio.sleep(100)
    assert recorder.times == [1, 1.25]
    assert timers() == []
    subscription.dispose()
    await settle()


@virtual_time
async def test_rates_and_what_is_left() -> None:
    """One token a second, then four; the window is two seconds."""
    steps: list[Step] = [10.0, "ab", 1.0, "cd", 1.0, "ef", 1.0, "gh"]
    steps += [step for text in "abcdefgh" for step in (0.25, text)]
    recorder = await told([*steps, DONE], every=1, limit=20, window=2)
    assert [
        (value.elapsed, value.tokens, value.rate, value.mean, value.share, value.remaining) for value in recorder.items
    ] == [
        (10, 1, None, None, 0.05, None),
        (11, 2, 1, 1, 0.1, 18),
        (12, 3, 1, 1, 0.15, 17),
        (13, 4, 1, 1, 0.2, 16),
        (14, 7, 2, 6 / 4, 0.35, 13 / 2),
        (15, 11, 3.5, 10 / 5, 0.55, 9 / 3.5),
        (15, 12, 4, 11 / 5, 0.6, 0),
    ]


@virtual_time
async def test_in_characters() -> None:
    recorder = await told([1, "abcd", 2, "efgh", 2, "ij", DONE], every=1, limit=16, unit="characters")
    assert [(value.characters, value.rate, value.share, value.remaining) for value in recorder.items] == [
        (4, None, 0.25, None),
        (8, 2, 0.5, 4),
        (10, 1.5, 0.625, 4),
        (10, 1.5, 0.625, 0),
    ]


@virtual_time
async def test_without_a_limit_there_is_no_share() -> None:
    recorder = await told(words("a", "b"), every=1)
    assert {(value.share, value.remaining if not value.done else None) for value in recorder.items} == {(None, None)}


def test_all_output_is_counted_and_nothing_else() -> None:
    events: list[Event] = [
        ev.Started(),
        ev.ThinkingDelta(text="hm"),
        TextDelta(text="abc"),
        TextDelta(text="\U0001f600", choice=1),
        ev.RefusalDelta(text="no"),
        ev.Heartbeat(),
        ev.ToolCallStart(part=1),
        ev.ToolCallDelta(part=1, arguments="{}"),
        ev.ToolCall(part=1, id="", name="", arguments="{}"),
        ev.ToolCall(part=2, id="", name="", arguments="[1]"),
        ev.ServerTool(step="start"),
        ev.ServerTool(step="delta", arguments="x"),
        ev.Media(kind="transcript", data="hi"),
        ev.Media(kind="audio", data="AAAA"),
        DONE,
    ]
    value = last(events)
    assert (value.events, value.tokens, value.characters) == (15, 11, 2 + 3 + 1 + 2 + 2 + 3 + 1 + 2)


def test_what_the_provider_reports_counts_where_it_is_more() -> None:
    texts: list[Event] = [TextDelta(text="a"), TextDelta(text="b")]
    assert (last(texts, limit=10).reported, last(texts, limit=10).share) == (None, 0.2)
    assert (last([*texts, reported(None)], limit=10).reported, last(texts, limit=10).share) == (None, 0.2)
    value = last([reported(1), *texts], limit=10)
    assert (value.reported, value.tokens, value.share) == (1, 2, 0.2)
    value = last([*texts, reported(3), reported(5)], limit=10)
    assert (value.reported, value.tokens, value.share) == (5, 2, 0.5)
    assert last([*texts, reported(50)], limit=10).share == 1
    assert last([*texts, reported(9)], limit=10, unit="characters").share == 0.2


@virtual_time
async def test_the_mean_is_of_the_reported_tokens_in_the_end() -> None:
    recorder = await told([1, "a", 2, "b", 2, reported(41), DONE], every=1)
    assert [(value.mean, value.rate) for value in recorder.items][-1] == (10, 0.25)


@pytest.mark.parametrize(
    ("to_offset", "tokens", "characters"), [(0, 1, 1), (1, 3, 4), (4, 4, 7), (6, 5, 9), (7, 5, 9), (99, 5, 9)]
)
def test_what_is_retracted_does_not_count(to_offset: int, tokens: int, characters: int) -> None:
    """The pieces of text that are left are taken to be as long as they all were."""
    events: list[Event] = [
        ev.ThinkingDelta(text="hm"),
        TextDelta(text="abc"),
        TextDelta(text="de"),
        TextDelta(text="f"),
        reported(40),
        ev.Retracted(to_offset=to_offset),
        TextDelta(text="x", attempt=2),
    ]
    value = last(events, limit=10)
    assert (value.tokens, value.characters, value.reported) == (tokens, characters, None)
    assert value.share == tokens / 10


def test_thinking_goes_only_with_all_of_the_text() -> None:
    thinking: list[Event] = [ev.ThinkingDelta(text="hm"), ev.ToolCallDelta(arguments="{}")]
    assert last([*thinking, ev.Retracted(to_offset=1)]).characters == 4
    assert last([*thinking, TextDelta(text=""), ev.Retracted(to_offset=0)]).characters == 0


@virtual_time
async def test_a_retraction_is_news_and_no_rate() -> None:
    recorder = await told(
        [1, "ab", 1, "cd", 1, ev.Retracted(to_offset=0), 1, TextDelta(text="x"), DONE], every=0.5, unit="characters"
    )
    assert [(value.characters, value.rate) for value in recorder.items] == [
        (2, None),
        (4, 2),
        (0, 1),
        (1, 1),
        (1, 1),
    ]


@virtual_time
async def test_attempts_of_one_answer_add_up() -> None:
    recorder = await told(
        ["a", reported(7), 1, ev.Seam(kind="prefill", offset=1), TextDelta(text="b"), reported(2), DONE], every=0.5
    )
    assert recorder.items[-1].tokens == 2


@virtual_time
async def test_each_track_is_told_of_by_itself() -> None:
    recorder, scheduler = Recorder(), LoopScheduler()
    steps: list[Step] = [
        *(1, TextDelta(text="a", source="left")),
        *(0.5, TextDelta(text="b", source="right"), TextDelta(text="b", source="left")),
        *(0.25, TextDelta(text="c", source="right")),
        *(5, ev.Cancelled(source="left"), 1, ev.Started(source="late"), DONE),
    ]
    events = [step for step in steps if isinstance(step, ev.EventBase)]
    source = rx.Subject[Event]()
    source.pipe(progress(every=1)).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler
    )
    for step in steps:
        if isinstance(step, (int, float)):
            await asyncio.sleep(step)
        else:
            assert step in events
            source.on_next(step)
    source.on_completed()
    assert [
        (at, value.source, value.tokens, value.done) for at, value in zip(recorder.times, recorder.items, strict=True)
    ] == [
        (1, "left", 1, False),
        (1.5, "right", 1, False),
        (2, "left", 2, False),
        (2.5, "right", 2, False),
        (6.75, "left", 2, True),
        (7.75, "", 0, True),
        (7.75, "right", 2, True),
        (7.75, "late", 0, True),
    ]
    assert recorder.completed


@virtual_time
async def test_the_end_is_told_once() -> None:
    """Also if there was news that waited for its time."""
    recorder, source = Recorder(), rx.Subject[Event]()
    source.pipe(progress(every=1)).subscribe(recorder.on_next, scheduler=LoopScheduler())
    for event in (TextDelta(text="a"), TextDelta(text="b"), DONE):
        source.on_next(event)
    await asyncio.sleep(5)
    assert [(value.tokens, value.done) for value in recorder.items] == [(1, False), (2, True)]


@virtual_time
async def test_disposed_it_leaves_no_timer() -> None:
    source, scheduler = rx.Subject[Event](), LoopScheduler()
    subscription = source.pipe(progress()).subscribe(scheduler=scheduler)
    for text in "ab":
        source.on_next(TextDelta(text=text))
    subscription.dispose()
    assert timers() == []


@virtual_time
async def test_a_track_that_goes_on_is_not_done() -> None:
    recorder = await told(["a", ev.Cancelled(), 1, "b", DONE])
    assert [value.done for value in recorder.items] == [False, True, False, True]


@virtual_time
async def test_the_end_is_told_before_the_error() -> None:
    error = Disconnected("gone")
    recorder = await told([1, "a", 0.1, "b", raising(error)])
    assert [(value.tokens, value.done) for value in recorder.items] == [(1, False), (2, True)]
    assert (recorder.error, recorder.ended_at) == (error, 1.1)


@virtual_time
async def test_of_nothing_nothing_is_told() -> None:
    recorder = Recorder()
    nothing: rx.Observable[Event] = rx.empty()
    nothing.pipe(progress()).subscribe(recorder.on_next, on_completed=recorder.on_completed, scheduler=LoopScheduler())
    await settle()
    assert (recorder.items, recorder.completed) == ([], True)


@virtual_time
async def test_at_a_closed_gate_the_latest_waits() -> None:
    """One of each track, also if the source does not stop."""
    scheduler, recorder, source = LoopScheduler(), Recorder(), rx.Subject[Event]()
    source.pipe(progress(every=1)).subscribe(recorder.on_next, scheduler=scheduler)
    scheduler.gate.hold("test")
    for _ in range(50):
        source.on_next(TextDelta(text="a", source="left"))
        source.on_next(TextDelta(text="a", source="right"))
        await asyncio.sleep(0.5)
    await asyncio.sleep(5)
    assert recorder.items == []
    scheduler.gate.release("test")
    await settle()
    assert sorted((value.source, value.tokens) for value in recorder.items) == [("left", 50), ("right", 50)]


@virtual_time
async def test_a_busy_loop_does_not_make_it_later_than_the_next_news() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    recorder, source = Recorder(), rx.Subject[Event]()
    source.pipe(progress(every=1)).subscribe(recorder.on_next, scheduler=LoopScheduler())
    for _ in range(4):
        source.on_next(TextDelta(text="a"))
        loop.advance(2)
    await settle()
    assert [(value.tokens, value.elapsed) for value in recorder.items] == [(1, 0), (2, 2), (3, 4), (4, 6)]


@given(
    steps=st.lists(
        st.sampled_from([0.1, 0.3, 1.0, "a", "bc", ev.Heartbeat(), reported(3), ev.Retracted(to_offset=1)]), max_size=25
    ),
    closed=st.lists(st.sampled_from([0.2, 0.7]), max_size=3),
    dispose=st.none() | st.integers(0, 8),
)
def test_it_counts_right_and_not_too_often(steps: list[Any], closed: list[float], dispose: int | None) -> None:
    """Law: the last value is of all that came; two are apart; nothing at a closed gate or after the end; all is released."""

    @virtual_time
    async def main() -> None:
        scheduler, recorder = LoopScheduler(), Recorder()
        script = Scripted([*steps, DONE])

        def on_next(value: Progress) -> None:
            assert not scheduler.gate.closed
            recorder.on_next(value)

        subscription = (
            script.events()
            .pipe(progress(every=0.5, limit=9))
            .subscribe(on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler)
        )
        for pause in closed:
            await asyncio.sleep(pause)
            scheduler.gate.hold("test")
            await asyncio.sleep(pause)
            scheduler.gate.release("test")
        await asyncio.sleep(100 if dispose is None else dispose / 4)
        subscription.dispose()
        await settle()
        assert timers() == []
        heard = len(recorder.items)
        await asyncio.sleep(100)
        assert (len(recorder.items), script.running) == (heard, 0)
        assert (scheduler.gate.holds, vars(scheduler.gate)["_watchers"]) == ((), set())
        assert timers() == []
        if dispose is None:
            assert [value.done for value in recorder.items] == [False] * (heard - 1) + [True]
            value = recorder.items[-1]
            assert value.events == script.given
            if not any(isinstance(step, ev.Retracted) for step in steps):
                assert value.characters == len("".join(step for step in steps if isinstance(step, str)))
        told_at = [value.elapsed for value in recorder.items if not value.done]
        assert all(after - before >= 0.5 - 1e-9 for before, after in pairwise(told_at))
        assert all(0 <= value.share <= 1 and (value.remaining or 0) >= 0 for value in recorder.items)

    main()


@virtual_time
async def test_an_endless_source_waits_for_a_consumer_that_stands_still() -> None:
    scheduler, recorder, script = LoopScheduler(), Recorder(), Scripted(numbered(10_000))

    def on_next(value: Progress) -> None:
        recorder.on_next(value)
        scheduler.gate.hold("test")

    subscription = script.events().pipe(progress()).subscribe(on_next, scheduler=scheduler)
    await settle()
    assert (len(recorder.items), script.given) == (1, 1)
    subscription.dispose()
    await settle()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"every": 0}, "every=0"),
        ({"limit": 0}, "limit=0"),
        ({"unit": "words"}, "unit='words'"),
        ({"window": -1}, "window=-1"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        progress(**options)
