"""Where the time of a stream went: exactly, and all of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Subject, abc
from reactivex import operators as ops

import rxstream
from rxstream import operators as rxo
from rxstream.errors import ConfigurationError, Overloaded
from rxstream.events import Event, TextDelta
from rxstream.explanation import Explained, Explanation, explain
from rxstream.guards import Ticket, acquired
from rxstream.limiter import TokenBucket
from rxstream.loop import LoopScheduler
from rxstream.testing.chaos import ChaosServer
from rxstream.testing.virtual import VirtualLoop, virtual_time
from tests.support.contests import Field, Told, started, watchers
from tests.support.scripted import DONE, HANG, Step

PLACES = ("queue", "setup", "network", "provider", "decoding", "operators", "consumer")


def places(explained: Explained[Any]) -> dict[str, float]:
    """The places where any time went; all of them add up."""
    told = explained.explanation
    assert told is not None
    spent = {place: getattr(told, place) for place in PLACES}
    assert sum(spent.values()) == pytest.approx(told.total)
    return {place: seconds for place, seconds in spent.items() if seconds}


def loop() -> VirtualLoop:
    return cast("VirtualLoop", asyncio.get_running_loop())


@virtual_time
async def test_each_place_has_its_own() -> None:
    bucket = TokenBucket(1, per=4, clock=loop().time)
    await bucket.acquire(1)
    source = Field().track("a", 2, "a", 3, "b", DONE, connect=[1.5]).pipe(rxo.guard(acquired(bucket)))
    explained = explain(source.pipe(ops.do_action(lambda _: loop().advance(0.25))))
    told = Told(explained.pipe(ops.do_action(lambda _: loop().advance(0.5))))
    await asyncio.sleep(50)
    assert told.completed
    assert places(explained) == {"queue": 4, "network": 1.5, "provider": 5, "operators": 0.75, "consumer": 1.5}
    assert explained.explanation is not None
    assert (explained.explanation.first_output, explained.explanation.events) == (7.75, 3)


@virtual_time
async def test_a_pause_is_the_consumers_and_what_the_model_does_in_it() -> None:
    on = LoopScheduler()
    explained = explain(Field().track("a", 1, "a", 4, "b", DONE))
    told = Told(explained, scheduler=on)
    loop().call_later(2, on.gate.hold, "user")
    loop().call_later(12, on.gate.release, "user")
    await asyncio.sleep(50)
    assert told.completed
    assert places(explained) == {"provider": 2, "consumer": 10}
    assert await watchers(on.gate) == 0


@virtual_time
async def test_what_waits_for_no_source_is_an_operators() -> None:
    explained = explain(Field().track("a", *["x"] * 5, DONE).pipe(rxo.rate_limit(1)))
    Told(explained)
    await asyncio.sleep(50)
    assert places(explained) == {"operators": 5}


@virtual_time
async def test_the_delay_before_a_retry_is_no_models() -> None:
    field, tries = Field(), [1]

    def attempt(_: object) -> rx.Observable[Event]:
        steps: list[Step] = [1, Overloaded("busy", retry_after=7)] if tries else [2, "a", DONE]
        tries.clear()
        return field.track("a", *steps)

    explained = explain(rx.defer(attempt).pipe(rxo.retry_stream()))
    Told(explained)
    await asyncio.sleep(50)
    found = places(explained)
    assert found["provider"] == 3
    assert found["operators"] >= 7


@virtual_time
async def test_of_several_tracks_it_waits_for_any() -> None:
    field = Field()
    slow, quick = field.track("slow", 5, "a", DONE, connect=[2]), field.track("quick", 1, "a", DONE)
    explained = explain(rxstream.tracks.merge(slow, quick))
    Told(explained)
    await asyncio.sleep(50)
    assert places(explained) == {"provider": 6, "network": 1}


@pytest.mark.parametrize("steps", [[1, "a", Overloaded("busy")], [1, "a", HANG], [1, "a"]])
@virtual_time
async def test_it_is_known_however_it_ends(steps: list[Step]) -> None:
    explained = explain(Field().track("a", *steps))
    told = Told(explained)
    await asyncio.sleep(3)
    told.subscription.dispose()
    assert places(explained) == {"provider": 1 if told.error else 3}


@virtual_time
async def test_a_source_that_tells_nothing_is_all_there_is() -> None:
    explained = explain(rx.timer(3).pipe(ops.map(lambda _: TextDelta(text="a"))))
    assert explained.explanation is None
    Told(explained)
    await asyncio.sleep(5)
    assert places(explained) == {"provider": 3}


@virtual_time
async def test_a_stream_begun_in_a_callback_is_not_part_of_it() -> None:
    field = Field()
    explained = explain(field.track("a", 1, "a", 1, DONE))
    inner = field.track("b", 1, "b", DONE, connect=[30])

    def begin(_: Event) -> None:
        Told(inner)

    Told(explained.pipe(ops.do_action(begin)))
    await asyncio.sleep(100)
    assert places(explained) == {"provider": 2}


@virtual_time
async def test_what_a_callback_makes_the_source_say_is_the_consumers_time_too() -> None:
    source: Subject[Event] = Subject()
    explained = explain(source)

    def told(event: Event) -> None:
        if isinstance(event, TextDelta) and event.text == "a":
            source.on_next(TextDelta(text="b"))
        loop().advance(1)

    explained.subscribe(told)
    source.on_next(TextDelta(text="a"))
    source.on_completed()
    assert places(explained) == {"consumer": 2}


@pytest.mark.parametrize("closed", [True, False])
def test_who_leaves_when_the_loop_has_gone_is_told_too(closed: bool) -> None:
    gone = asyncio.new_event_loop()
    on, explained = LoopScheduler(gone), explain(rx.never())

    async def begin() -> abc.DisposableBase:
        return explained.subscribe(print, scheduler=on)

    subscription = gone.run_until_complete(begin())
    if closed:
        gone.close()
    subscription.dispose()
    gone.close()
    assert explained.explanation is not None
    assert not on.gate.watched


TIMES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=10)


@given(TIMES)
def test_all_of_the_time_is_somewhere(times: list[tuple[int, int, int]]) -> None:
    async def run() -> None:
        steps: list[Step] = []
        for model, _, _ in times:
            steps += [float(model), "x"]
        work, handle = iter([b for _, b, _ in times]), iter([c for _, _, c in times])
        source = Field().track("a", *steps, DONE).pipe(ops.do_action(lambda _: loop().advance(next(work, 0))))
        explained = explain(source)
        Told(explained.pipe(ops.do_action(lambda _: loop().advance(next(handle, 0)))))
        await asyncio.sleep(1000)
        found = places(explained)
        assert found.get("operators", 0) == sum(b for _, b, _ in times)
        assert found.get("consumer", 0) == sum(c for _, _, c in times)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


class Slow:
    """A guard that lets each request wait."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def enter(self, _: Ticket) -> None:
        await asyncio.sleep(self._seconds)

    def leave(self, _: Ticket) -> None: ...


FEW = st.integers(0, 5)
TRACK = st.tuples(FEW, FEW, st.lists(st.tuples(FEW, FEW), max_size=5), st.booleans())


@given(
    tracks=st.lists(TRACK, min_size=1, max_size=3),
    pauses=st.lists(st.tuples(st.integers(0, 20), FEW), max_size=3),
    handling=st.lists(FEW, max_size=10),
    leaves=st.none() | st.integers(0, 30),
)
def test_whatever_happens_the_places_add_up(
    tracks: list[tuple[int, int, list[tuple[int, int]], bool]],
    pauses: list[tuple[int, int]],
    handling: list[int],
    leaves: int | None,
) -> None:
    """Guards, slow headers, slow models, operators and callbacks that block, failures that are made again, pauses, and who leaves."""

    async def run() -> None:
        field, made = Field(), []
        for number, (queue, network, steps, fails) in enumerate(tracks):
            script: list[Step] = [step for seconds, _ in steps for step in (float(seconds), "x")]
            works = iter([work for _, work in steps])
            track = field.track(f"{number}", *script, Overloaded("busy") if fails else DONE, connect=[float(network)])
            busy = ops.do_action(lambda _, works=works: loop().advance(next(works, 0)))  # type: ignore[misc]
            made.append(track.pipe(rxo.guard(Slow(queue)), rxo.retry_stream(attempts=2, after_output="restart"), busy))
        explained, handle = explain(rxstream.tracks.merge(*made)), iter(handling)
        began, ended, on = loop().time(), 0.0, LoopScheduler()

        def end(*_: object) -> None:
            nonlocal ended
            ended = loop().time()

        taken = explained.pipe(ops.do_action(lambda _: loop().advance(next(handle, 0))))
        subscription = taken.pipe(ops.finally_action(end)).subscribe(lambda _: None, lambda _: None, scheduler=on)
        for number, (at, lasts) in enumerate(pauses):
            loop().call_later(at, on.gate.hold, f"{number}")
            loop().call_later(at + lasts + 0.5, on.gate.release, f"{number}")
        if leaves is not None:
            loop().call_later(leaves, subscription.dispose)
        await asyncio.sleep(1000)
        found = places(explained)
        assert min(found.values(), default=0) >= 0
        assert explained.explanation is not None
        assert explained.explanation.total == pytest.approx(ended - began)
        if not pauses and leaves is None and len(tracks) == 1 and not tracks[0][3]:
            assert (found.get("queue", 0), found.get("network", 0)) == tracks[0][:2]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


async def test_over_a_socket_each_delay_is_where_it_was_made() -> None:
    """A server that refuses, then stalls; a retry that waits; a consumer that takes its time."""
    with ChaosServer("one two three four", faults=["429:retry_after=0.2", "stall:content=2,seconds=0.3"]) as server:
        stream = rxstream.stream("compatible:m-1", "hi", base_url=server.base_url("openai-chat"), api_key="k")
        explained = explain(stream.pipe(rxo.retry_stream()))
        await explained.start(lambda event: time.sleep(0.1 if "four" in getattr(event, "text", "") else 0))
    found = places(explained)
    assert {"network", "decoding"} <= found.keys()
    assert found["provider"] >= 0.28  # the server's clock, not ours
    assert found["operators"] >= 0.2
    assert found["consumer"] >= 0.1


@virtual_time
async def test_what_operators_make_of_events_is_output_too() -> None:
    class Array:
        def __ne__(self, other: object) -> Any:
            raise ValueError("the truth value of an array is ambiguous")

    ways: list[tuple[Any, float | None]] = [
        (rxo.text(), 3),
        (rxo.chunks(), 3),
        (ops.map(lambda _: 7), 1),
        (ops.map(lambda _: Array()), 1),
        (ops.map(lambda _: ""), None),
    ]
    for op, first in ways:
        explained: Explained[Any] = explain(Field().track("a", 1, started(), 1, "", 1, "a", 1, DONE).pipe(op))
        Told(explained)
        await asyncio.sleep(5)
        assert explained.explanation is not None
        assert explained.explanation.first_output == first


@pytest.mark.local
def test_of_a_real_model() -> None:
    explained = explain(rxstream.stream("local:smollm2", "Say hello.", max_tokens=8))
    explained.run(timeout=60)
    assert places(explained)["provider"] > 0


def test_it_is_a_table() -> None:
    told = Explanation(total=2.0, network=0.5, provider=1.0, consumer=0.5, first_output=0.75, events=9)
    head, *rows = str(told).splitlines()
    assert head == "2.000 s, 9 events, first output after 0.750 s"
    assert [row.split()[0] for row in rows] == list(PLACES)
    assert rows[3].split()[1:5] == ["1.000", "s", "50%", "█" * 15]
    assert str(Explanation(total=0.0)).startswith("0.000 s, 0 events, no output")


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="stream"):
        explain("a stream")  # type: ignore[arg-type]
