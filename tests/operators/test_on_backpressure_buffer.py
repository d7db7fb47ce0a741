"""``on_backpressure_buffer``: the source runs ahead of a consumer that is paused, as far as the buffer reaches."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, abc
from reactivex import operators as ops

from rxstream import events as ev
from rxstream.errors import Cancelled, ConfigurationError, Disconnected, LimitExceeded
from rxstream.gate import Gate
from rxstream.observable import Stream
from rxstream.operators import BufferStatistics, on_backpressure_buffer
from rxstream.session import StreamSession
from rxstream.sinks.iterator import to_async_iterable
from tests.support.flow import Flow, acts
from tests.support.scripted import DONE, HANG, Scripted, Step, numbered, raising, words
from tests.support.until import until
from tests.support.virtual_loop import settle, virtual_time


def endless() -> list[Step]:
    return numbered(100_000)


@virtual_time
async def test_a_consumer_that_keeps_up_gets_each_item_at_once() -> None:
    figures = BufferStatistics()
    flow = Flow(on_backpressure_buffer(statistics=figures), Scripted(words("a", "b", "c")).events())
    await asyncio.sleep(10)
    assert flow.recorder.times == [1, 2, 3, 3]
    assert flow.recorder.completed
    assert (figures.capacity, figures.used, figures.peak, figures.waiting) == (1024, 0, 0, False)


@virtual_time
async def test_the_source_runs_on_in_a_pause_until_the_buffer_is_full() -> None:
    script, figures = Scripted(numbered(50)), BufferStatistics()
    flow = Flow(on_backpressure_buffer(10, low=4, statistics=figures), script.events())
    flow.hold()
    await settle()
    assert script.given == 10
    assert (figures.used, figures.peak, figures.bytes, figures.waiting) == (10, 10, 20, True)
    assert "waiting=True" in repr(figures)
    await flow.release()
    assert flow.recorder.texts == [f"{number} " for number in range(50)]
    assert flow.recorder.completed
    assert (figures.used, figures.bytes, figures.waiting, figures.dropped) == (0, 0, False, 0)
    assert script.running == 0


@virtual_time
async def test_without_a_buffer_a_pause_stops_the_source_at_once() -> None:
    """The test above would say nothing if the source ran on anyway."""
    script = Scripted(numbered(50))
    flow = Flow(ops.map(lambda item: item), script.events())
    flow.hold()
    await settle()
    assert script.given == 0
    flow.subscription.dispose()
    await settle()


@virtual_time
async def test_the_source_goes_on_at_the_low_mark() -> None:
    script = Scripted(endless())
    flow = Flow(on_backpressure_buffer(10, high=8, low=3), script.events())
    flow.hold()
    await settle()
    assert script.given == 8
    left: list[int] = []

    def stop_after_five(_: Any) -> None:
        if len(flow.items) in (4, 5):
            flow.hold()
            left.append(script.given)

    flow.recorder.and_then = stop_after_five
    await flow.release()
    assert (len(flow.items), script.given) == (4, 8)  # 4 are left: more than the low mark
    await flow.release()
    assert (len(flow.items), script.given) == (5, 13)  # 3 are left: the source fills it up again
    flow.subscription.dispose()
    await settle()
    assert script.running == 0


@virtual_time
async def test_what_waits_comes_at_the_moment_of_opening() -> None:
    flow = Flow(on_backpressure_buffer(), Scripted(words("a", "b", "c", "d")).events())
    asyncio.get_running_loop().call_at(1.5, flow.hold)
    asyncio.get_running_loop().call_at(3.5, flow.gate.release, "consumer")
    await asyncio.sleep(10)
    assert flow.recorder.texts == ["a", "b", "c", "d"]
    assert flow.recorder.times == [1, 3.5, 3.5, 4, 4]


@virtual_time
async def test_a_sessions_pause_reaches_the_source_through_the_full_buffer() -> None:
    script = Scripted([*numbered(20)])
    session = Stream.of(script.events()).pipe(on_backpressure_buffer(6)).start()
    session.pause()
    await settle()
    assert script.given == 6
    session.resume()
    assert (await session).text == "".join(f"{number} " for number in range(20))


@virtual_time
async def test_what_the_source_has_read_ahead_of_the_full_buffer_counts_as_the_sessions() -> None:
    session = Stream.of(Scripted(endless()).events(read_ahead=7)).pipe(on_backpressure_buffer(5)).start()
    session.pause()
    await asyncio.sleep(1)
    assert session.statistics.read_ahead == 7
    session.cancel()
    await settle()
    assert session.statistics.read_ahead == 0


@virtual_time
async def test_a_slow_consumer_does_not_keep_the_connection_open() -> None:
    script = Scripted(words(*"abcdefgh"))
    async with to_async_iterable(script.events().pipe(on_backpressure_buffer(100)), high=1) as items:
        got: list[Any] = []
        async for item in items:
            got.append(item)
            assert script.closed or asyncio.get_running_loop().time() < 9
            await asyncio.sleep(10)
    assert [event.text for event in got[:-1]] == [*"abcdefgh"]


@pytest.mark.parametrize("script", [endless(), words("a", every=0.0), ["a", raising(Disconnected("gone"))]])
def test_a_paused_session_is_told_that_its_loop_goes_down(script: list[Step]) -> None:
    """Or its result would be waited for for ever; also where the whole answer waits in the buffer."""

    async def main() -> StreamSession:
        session = Stream.of(Scripted(script).events()).pipe(on_backpressure_buffer(5)).start()
        session.pause()
        await settle()
        return session

    session = asyncio.run(main())
    with pytest.raises(Cancelled):
        session.result(0)


@virtual_time
async def test_an_endless_source_and_a_consumer_that_stopped_keep_bounded_memory() -> None:
    script, figures = Scripted(endless()), BufferStatistics()
    flow = Flow(on_backpressure_buffer(100, statistics=figures), script.events())
    flow.recorder.and_then = lambda _: flow.hold() if len(flow.items) == 7 else None
    await asyncio.sleep(100)
    assert (len(flow.items), script.given, figures.used) == (7, 107, 100)
    flow.subscription.dispose()
    await settle()
    assert script.running == 0
    assert (figures.used, figures.bytes, figures.waiting) == (0, 0, False)
    await flow.release()
    assert len(flow.items) == 7


def spelled(source: Observable[Any]) -> Observable[str]:
    """An operator that makes many items of one, whatever the gate says."""

    def subscribe(observer: abc.ObserverBase[str], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        def on_next(event: Any) -> None:
            for character in getattr(event, "text", ""):
                observer.on_next(character)

        return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

    return Observable(subscribe)


@virtual_time
async def test_what_is_in_flight_when_the_source_is_held_is_kept() -> None:
    script = Scripted(["x" * 100, "y" * 100, DONE])
    figures = BufferStatistics()
    buffer = on_backpressure_buffer(10, statistics=figures)
    flow = Flow(lambda source: source.pipe(spelled, buffer), script.events())
    flow.hold()
    await settle()
    assert (script.given, figures.used) == (1, 100)
    await flow.release()
    assert "".join(flow.items) == "x" * 100 + "y" * 100
    assert flow.recorder.completed


@virtual_time
async def test_the_end_comes_after_what_waits() -> None:
    flow = Flow(on_backpressure_buffer())
    flow.hold()
    flow.send(1, 2)
    flow.subject.on_completed()
    await settle()
    assert flow.items == []
    await flow.release()
    assert flow.items == [1, 2]
    assert flow.recorder.completed


@virtual_time
async def test_an_error_comes_after_what_waits() -> None:
    error = Disconnected("gone")
    flow = Flow(on_backpressure_buffer(), Scripted(["a", "b", raising(error)]).events())
    flow.hold()
    await settle()
    assert flow.recorder.ended_at is None
    await flow.release()
    assert flow.recorder.texts == ["a", "b"]
    assert flow.recorder.error is error


@virtual_time
async def test_a_source_that_obeys_no_gate_ends_in_an_error_after_all_that_was_kept() -> None:
    figures = BufferStatistics()
    flow = Flow(on_backpressure_buffer(4, statistics=figures))
    flow.hold()
    flow.send(*range(70_000))
    assert (figures.used, figures.waiting) == (4 + 65_536, True)
    assert not flow.subject.observers
    flow.gate.release("consumer")
    await until(lambda: flow.recorder.ended_at is not None)
    assert flow.items == list(range(4 + 65_536))
    assert isinstance(flow.recorder.error, LimitExceeded)
    assert "although the source is held" in str(flow.recorder.error)


@virtual_time
async def test_error_ends_in_an_error_after_what_was_kept() -> None:
    figures = BufferStatistics()
    flow = Flow(on_backpressure_buffer(2, overflow="error", statistics=figures))
    flow.hold()
    flow.send(1, 2)
    assert figures.waiting is False
    flow.send(3, 4)
    assert not flow.subject.observers
    await flow.release()
    assert flow.items == [1, 2]
    assert isinstance(flow.recorder.error, LimitExceeded)
    assert "paused or slow, 2 items of about 128 bytes" in str(flow.recorder.error)
    assert figures.used == 0


@virtual_time
async def test_a_policy_that_drops_lets_the_source_run() -> None:
    script = Scripted(numbered(50))
    figures = BufferStatistics()
    flow = Flow(on_backpressure_buffer(3, overflow="drop_newest", statistics=figures), script.events())
    flow.hold()
    await settle()
    assert script.given == 51
    assert (figures.dropped, figures.used, figures.waiting) == (47, 4, False)
    await flow.release()
    assert flow.items[-1].seq == 50  # the gap shows
    assert flow.recorder.texts == ["0 ", "1 ", "2 "]
    assert flow.recorder.completed


@virtual_time
async def test_drop_oldest_keeps_the_last() -> None:
    flow = Flow(on_backpressure_buffer(3, overflow="drop_oldest"))
    flow.hold()
    flow.send(*range(10))
    await flow.release()
    flow.send(10)
    assert flow.items == [7, 8, 9, 10]


def delta(number: int) -> ev.Event:
    return ev.TextDelta(text=str(number), seq=number)


@pytest.mark.parametrize(("overflow", "kept"), [("drop_newest", [1, 2, 4, 7]), ("drop_oldest", [2, 4, 7, 9, 10])])
@virtual_time
async def test_events_whose_loss_would_make_the_answer_wrong_are_kept(overflow: Any, kept: list[int]) -> None:
    """They keep their places, and count for nothing."""
    calls = {2, 4, 7}
    figures = BufferStatistics()
    capacity = 1 if overflow == "drop_newest" else 2
    flow = Flow(on_backpressure_buffer(capacity, overflow=overflow, statistics=figures))
    flow.hold()
    flow.send(*(ev.ToolCallDelta(arguments="{", seq=n) if n in calls else delta(n) for n in range(1, 11)))
    assert (figures.used, figures.dropped) == (len(kept), 10 - len(kept))
    await flow.release()
    assert [item.seq for item in flow.items] == kept
    assert figures.used == figures.bytes == 0


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
@virtual_time
async def test_even_what_is_never_dropped_has_a_limit(overflow: Any) -> None:
    flow = Flow(on_backpressure_buffer(1, overflow=overflow))
    flow.hold()
    flow.send(*(ev.ToolCallDelta(arguments="{", seq=number) for number in range(65_540)))
    assert not flow.subject.observers
    flow.gate.release("consumer")
    await until(lambda: flow.recorder.ended_at is not None)
    assert len(flow.items) == 65_537
    assert isinstance(flow.recorder.error, LimitExceeded)


@pytest.mark.parametrize("overflow", ["hold", "error"])
@virtual_time
async def test_where_nothing_is_dropped_all_events_count_alike(overflow: Any) -> None:
    figures = BufferStatistics()
    flow = Flow(on_backpressure_buffer(2, overflow=overflow, statistics=figures))
    flow.hold()
    flow.send(ev.ToolCallStart(), ev.ToolCallDelta(arguments="{"))
    assert figures.waiting == (overflow == "hold")
    flow.send(ev.ToolCallDelta(arguments="}"))
    assert bool(flow.subject.observers) == (overflow == "hold")
    flow.subscription.dispose()


@virtual_time
async def test_what_comes_right_after_the_gate_has_opened_is_let_through_with_what_waits() -> None:
    """Without waiting for the loop's next round: no policy has anything to say, however much it is."""
    flow = Flow(on_backpressure_buffer(1, overflow="drop_newest"))
    flow.hold()
    flow.send(0, 1)
    flow.gate.release("consumer")
    flow.send(*range(2, 70_000))
    assert flow.items == [0, *range(2, 70_000)]


@virtual_time
async def test_what_was_kept_is_let_go_with_the_subscription() -> None:
    call = ev.ToolCallDelta(arguments="{")
    before = sys.getrefcount(call)
    flow = Flow(on_backpressure_buffer(1, overflow="drop_oldest"))
    flow.hold()
    flow.send(call, 1, 2, call)
    assert sys.getrefcount(call) > before
    flow.subscription.dispose()
    assert sys.getrefcount(call) == before


@virtual_time
async def test_what_comes_while_the_consumer_is_busy_only_waits() -> None:
    """Its gate is open: no policy has anything to say."""
    flow = Flow(on_backpressure_buffer(1, overflow="drop_newest"))
    flow.recorder.and_then = lambda item: flow.send(2, 3, 4) if item == 1 else None
    flow.send(1)
    assert flow.items == [1, 2, 3, 4]


@virtual_time
async def test_the_consumer_may_pause_in_the_middle_of_what_waits() -> None:
    flow = Flow(on_backpressure_buffer())
    flow.hold()
    flow.send(*range(6))
    flow.recorder.and_then = lambda item: flow.hold() if item in (1, 3) else None
    await flow.release()
    assert flow.items == [0, 1]
    flow.send(6)
    await flow.release()
    assert flow.items == [0, 1, 2, 3]
    await flow.release()
    assert flow.items == [*range(7)]


@virtual_time
async def test_the_consumer_may_leave_in_the_middle_of_what_waits() -> None:
    figures = BufferStatistics()
    flow = Flow(on_backpressure_buffer(statistics=figures))
    flow.hold()
    flow.send(*range(6))
    flow.recorder.and_then = lambda item: flow.subscription.dispose() if item == 2 else None
    await flow.release()
    assert flow.items == [0, 1, 2]
    assert figures.used == 0
    assert not flow.subject.observers
    assert not flow.gate._watchers


@virtual_time
async def test_statistics_count_all_subscriptions() -> None:
    figures = BufferStatistics()
    operator = on_backpressure_buffer(2, overflow="drop_newest", statistics=figures)
    one, two = Flow(operator), Flow(operator)
    for flow in (one, two):
        flow.hold()
        flow.send("ab", "c", "d")
    assert (figures.used, figures.peak, figures.bytes, figures.dropped) == (4, 4, 6, 2)
    await one.release()
    assert (figures.used, figures.peak, figures.bytes) == (2, 4, 3)
    two.subscription.dispose()
    assert (figures.used, figures.bytes) == (0, 0)


@virtual_time
async def test_they_tell_whether_any_source_is_held() -> None:
    figures = BufferStatistics()
    operator = on_backpressure_buffer(1, statistics=figures)
    one, two = Flow(operator), Flow(operator)
    for flow in (one, two):
        flow.hold()
        flow.send(1)
    assert figures.held == 2
    await one.release()
    assert figures.waiting
    two.subscription.dispose()
    assert not figures.waiting


async def test_another_thread_may_read_the_statistics_and_dispose() -> None:
    figures = BufferStatistics()
    flow = Flow(on_backpressure_buffer(statistics=figures))
    flow.hold()
    flow.send(1, 2)
    seen: list[int] = []

    def elsewhere() -> None:
        seen.append(figures.used)
        flow.subscription.dispose()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    await settle()
    assert seen == [2]
    assert figures.used == 0
    assert not flow.subject.observers


@virtual_time
async def test_disposing_closes_the_request() -> None:
    script = Scripted(["a", HANG])
    flow = Flow(on_backpressure_buffer(), script.events())
    await settle()
    flow.subscription.dispose()
    await settle()
    assert (script.opened, script.running) == (1, 0)


@virtual_time
async def test_each_subscription_has_its_own_buffer() -> None:
    operator = on_backpressure_buffer()
    one, two = Flow(operator), Flow(operator)
    one.hold()
    one.send(1)
    two.send(2)
    await one.release()
    assert (one.items, two.items) == ([1], [2])


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"capacity": 0}, "capacity"),
        ({"capacity": 1.5}, "capacity"),
        ({"high": 0}, "high"),
        ({"capacity": 5, "high": 6}, "high"),
        ({"low": -1}, "low"),
        ({"capacity": 5, "low": 5}, "low"),
        ({"overflow": "wait"}, "overflow"),
        ({"overflow": "error", "low": 3}, "low="),
        ({"overflow": "drop_oldest", "high": 3}, "high="),
    ],
)
def test_a_bad_option_is_refused_by_its_name(options: dict[str, Any], parameter: str) -> None:
    with pytest.raises(ConfigurationError, match=parameter):
        on_backpressure_buffer(**options)


@given(acts, st.integers(1, 5))
def test_hold_loses_doubles_and_reorders_nothing(steps: list[str], capacity: int) -> None:
    @virtual_time
    async def main() -> None:
        figures = BufferStatistics()
        flow = Flow(on_backpressure_buffer(capacity, statistics=figures))
        sent = await flow.follow(steps, Gate())
        assert flow.items == sent
        assert flow.recorder.completed
        assert (figures.used, figures.bytes, figures.dropped, figures.waiting) == (0, 0, 0, False)

    main()


@given(acts, st.integers(1, 5), st.sampled_from(["drop_newest", "drop_oldest"]))
def test_what_is_kept_and_what_is_dropped_are_what_was_sent(steps: list[str], capacity: int, overflow: Any) -> None:
    @virtual_time
    async def main() -> None:
        figures = BufferStatistics()
        flow = Flow(on_backpressure_buffer(capacity, overflow=overflow, statistics=figures))
        sent = await flow.follow(steps, Gate())
        assert flow.items == sorted(set(flow.items))
        assert len(flow.items) + figures.dropped == len(sent)
        assert figures.peak <= capacity or "release" in steps  # opened but not drained yet, more may wait
        assert (figures.used, figures.bytes) == (0, 0)

    main()


@given(st.lists(st.sampled_from(["hold", "release", "wait", "sleep"]), max_size=30), st.integers(1, 6))
def test_a_paused_pump_loses_nothing_and_overshoots_nothing(steps: list[str], capacity: int) -> None:
    @virtual_time
    async def main() -> None:
        figures = BufferStatistics()
        script = Scripted([step for number in range(20) for step in (0.5, f"{number} ")] + [DONE])
        flow = Flow(on_backpressure_buffer(capacity, statistics=figures), script.events())
        for step in steps:
            match step:
                case "hold":
                    flow.hold()
                case "release":
                    flow.gate.release("consumer")
                case "sleep":
                    await asyncio.sleep(0.75)
                case _:
                    await settle()
        await flow.release()
        await asyncio.sleep(100)
        assert flow.recorder.texts == [f"{number} " for number in range(20)]
        assert flow.recorder.completed
        assert figures.peak <= capacity

    main()
