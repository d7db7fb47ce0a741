"""``valve``: what is above it waits, gives way or fails while it is closed."""

from __future__ import annotations

import asyncio
import sys
import types
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, Subject, abc
from reactivex.disposable import Disposable

from rxstream import events as ev
from rxstream.errors import ConfigurationError, Disconnected, LimitExceeded
from rxstream.gate import Gate
from rxstream.observable import Stream
from rxstream.operators import BufferStatistics, valve
from tests.support.flow import Flow, acts
from tests.support.scripted import DONE, HANG, Scripted, numbered, words
from tests.support.until import until
from tests.support.virtual_loop import settle, virtual_time


@virtual_time
async def test_open_it_lets_each_item_through_at_once() -> None:
    flow = Flow(valve(Gate()), Scripted(words("a", "b")).events())
    await asyncio.sleep(10)
    assert flow.recorder.times == [1, 2, 2]
    assert flow.recorder.completed


@virtual_time
async def test_closed_it_keeps_what_comes_until_it_opens() -> None:
    gate = Gate()
    flow = Flow(valve(gate), Scripted(words("a", "b", "c", "d")).events())
    asyncio.get_running_loop().call_at(1.5, gate.hold, "test")
    asyncio.get_running_loop().call_at(3.5, gate.release, "test")
    await asyncio.sleep(10)
    assert flow.recorder.texts == ["a", "b", "c", "d"]
    assert flow.recorder.times == [1, 3.5, 3.5, 4, 4]


@virtual_time
async def test_the_source_is_held_when_it_has_read_ahead_and_goes_on_when_little_is_left() -> None:
    script, gate, figures = Scripted(numbered(20)), Gate(), BufferStatistics()
    gate.hold("test")
    flow = Flow(valve(gate, read_ahead=8, statistics=figures), script.events())
    await settle()
    assert (script.given, figures.used, figures.waiting) == (8, 8, True)
    assert not flow.gate.closed  # only what is above the valve is held
    flow.recorder.and_then = lambda _: gate.hold("test") if len(flow.items) in (5, 6) else None
    gate.release("test")
    await settle()
    assert (len(flow.items), script.given) == (5, 8)
    gate.release("test")
    await settle()
    assert (len(flow.items), script.given) == (6, 14)
    gate.release("test")
    await settle()
    assert flow.recorder.texts == [f"{number} " for number in range(20)]
    assert flow.recorder.completed
    assert figures.used == 0


@virtual_time
async def test_the_subscribers_gate_reaches_the_source_through_an_open_valve() -> None:
    script = Scripted(numbered(20))
    flow = Flow(valve(Gate()), script.events())
    flow.hold()
    await settle()
    assert script.given == 0
    await flow.release()
    assert flow.recorder.completed


@virtual_time
async def test_both_gates_must_be_open() -> None:
    gate = Gate()
    flow = Flow(valve(gate))
    flow.hold()
    gate.hold("test")
    flow.send(1)
    gate.release("test")
    await settle()
    assert flow.items == []
    gate.hold("test")
    await flow.release()
    assert flow.items == []
    gate.release("test")
    await settle()
    assert flow.items == [1]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"closed": "hold", "read_ahead": 2}, [0, 1, 2, 3, 4]),
        ({"closed": "drop_newest", "read_ahead": 2}, [0, 1]),
        ({"closed": "drop_newest", "read_ahead": 0}, []),
        ({"closed": "drop_oldest", "read_ahead": 2}, [3, 4]),
        ({"closed": "drop_oldest", "read_ahead": 0}, []),
        ({"closed": "latest"}, [4]),
    ],
)
@virtual_time
async def test_what_is_kept_while_it_is_closed(options: dict[str, Any], kept: list[int]) -> None:
    gate, figures = Gate(), BufferStatistics()
    flow = Flow(valve(gate, statistics=figures, **options))
    gate.hold("test")
    flow.send(*range(5))
    await settle()
    assert flow.items == []
    assert (figures.used, figures.dropped) == (len(kept), 5 - len(kept))
    gate.release("test")
    await settle()
    flow.send(5)
    assert flow.items == [*kept, 5]


@virtual_time
async def test_a_paused_subscriber_behind_an_open_valve_loses_nothing() -> None:
    """The policy is for a closed valve."""
    gate = Gate()
    flow = Flow(valve(gate, closed="drop_newest", read_ahead=0))
    flow.hold()
    flow.send(1, 2)
    gate.hold("test")
    flow.send(3)
    gate.release("test")
    flow.send(4)
    await flow.release()
    assert flow.items == [1, 2, 4]


@pytest.mark.parametrize("closed", ["drop_newest", "drop_oldest", "latest"])
@virtual_time
async def test_events_whose_loss_would_make_the_answer_wrong_are_kept(closed: Any) -> None:
    gate = Gate()
    script = Scripted([ev.Started(id="1"), "a", ev.ToolCall(id="c", name="f", arguments="{}"), "b", DONE])
    gate.hold("test")
    flow = Flow(valve(gate, closed=closed), script.events())
    await settle()
    gate.release("test")
    await settle()
    assert {type(event) for event in flow.items} >= {ev.Started, ev.ToolCall, ev.Finished}
    assert [event.seq for event in flow.items] == sorted(event.seq for event in flow.items)


@virtual_time
async def test_error_ends_the_stream_at_the_first_item_though_the_valve_is_closed() -> None:
    gate = Gate()
    script = Scripted(words("a", "b"))
    flow = Flow(valve(gate, closed="error"), script.events())
    asyncio.get_running_loop().call_at(1.5, gate.hold, "test")
    await asyncio.sleep(10)
    assert flow.recorder.texts == ["a"]
    assert isinstance(flow.recorder.error, LimitExceeded)
    assert "the valve is closed" in str(flow.recorder.error)
    assert flow.recorder.ended_at == 2
    assert script.running == 0
    assert not gate._watchers


@virtual_time
async def test_even_that_error_waits_for_a_paused_subscriber() -> None:
    gate = Gate()
    flow = Flow(valve(gate, closed="error"))
    flow.hold()
    gate.hold("test")
    flow.send(1)
    await settle()
    assert flow.recorder.ended_at is None
    assert not flow.subject.observers
    await flow.release()
    assert isinstance(flow.recorder.error, LimitExceeded)


@pytest.mark.parametrize("error", [None, Disconnected("gone")])
@virtual_time
async def test_an_end_comes_after_what_waits_when_it_opens(error: Exception | None) -> None:
    gate = Gate()
    flow = Flow(valve(gate))
    gate.hold("test")
    flow.send(1, 2)
    if error is None:
        flow.subject.on_completed()
    else:
        flow.subject.on_error(error)
    await settle()
    assert flow.recorder.ended_at is None
    gate.release("test")
    await settle()
    assert flow.items == [1, 2]
    assert (flow.recorder.completed, flow.recorder.error) == (error is None, error)


@pytest.mark.parametrize("closes", ["valve", "consumer"])
@virtual_time
async def test_the_error_of_a_full_valve_says_who_did_not_take(closes: str) -> None:
    gate = Gate()
    flow = Flow(valve(gate, read_ahead=4))
    (gate if closes == "valve" else flow.gate).hold("test")
    flow.send(*range(70_000))
    gate.release("test")
    flow.gate.release("test")
    await until(lambda: flow.recorder.ended_at is not None)
    assert ("the valve is closed" in str(flow.recorder.error)) == (closes == "valve")


@virtual_time
async def test_a_source_that_obeys_no_gate_has_a_limit_behind_a_closed_valve() -> None:
    gate = Gate()
    flow = Flow(valve(gate, read_ahead=4))
    gate.hold("test")
    flow.send(*range(70_000))
    assert not flow.subject.observers
    await settle()
    assert flow.recorder.ended_at is None  # the error keeps its place, and the valve is closed
    gate.release("test")
    await until(lambda: flow.recorder.ended_at is not None)
    assert flow.items == list(range(4 + 65_536))
    assert isinstance(flow.recorder.error, LimitExceeded)


def depth() -> int:
    frame: types.FrameType | None = sys._getframe()
    found = 0
    while frame is not None:
        frame, found = frame.f_back, found + 1
    return found


@virtual_time
async def test_however_much_waits_it_drains_without_recursion() -> None:
    gate, depths = Gate(), set[int]()
    flow = Flow(valve(gate, read_ahead=100_000))
    flow.recorder.and_then = lambda _: depths.add(depth())
    gate.hold("test")
    flow.send(*range(100_000))
    here = depth()
    gate.release("test")
    await until(lambda: len(flow.items) == 100_000)
    assert flow.items == list(range(100_000))
    assert len(depths) == 1
    assert max(depths) - here < 50


@virtual_time
async def test_what_an_item_causes_comes_after_it() -> None:
    """A gate that is closed and opened by the consumer, a source that answers it: order stays."""
    gate = Gate()
    flow = Flow(valve(gate))

    def react(item: int) -> None:
        if item < 5:
            gate.hold("test")
            flow.send(item + 1)
            gate.release("test")

    flow.recorder.and_then = react
    flow.send(0)
    await settle()
    assert flow.items == [0, 1, 2, 3, 4, 5]


# --- a gate that is an Observable -------------------------------------------------------------------------------------------


@virtual_time
async def test_an_observable_opens_and_closes_it() -> None:
    control: Subject[bool] = Subject()
    flow = Flow(valve(control))
    flow.send(1)
    control.on_next(False)
    control.on_next(False)
    flow.send(2)
    control.on_next(True)
    await settle()
    flow.send(3)
    assert flow.items == [1, 2, 3]
    control.on_next(False)
    control.on_completed()
    flow.send(4)
    await settle()
    assert flow.items == [1, 2, 3]  # the end of the control leaves it as it is
    flow.subscription.dispose()
    assert not flow.gate._watchers


@virtual_time
async def test_it_may_be_closed_at_first() -> None:
    control: Subject[bool] = Subject()
    flow = Flow(valve(control, initially_open=False))
    flow.send(1)
    assert flow.items == []
    control.on_next(True)
    await settle()
    assert flow.items == [1]


@virtual_time
async def test_a_control_that_speaks_at_once_is_heard_before_the_source() -> None:
    flow = Flow(valve(rx.timer(0.0).pipe(rx.operators.map(lambda _: False))), Scripted(words("a")).events())
    await asyncio.sleep(10)
    assert flow.items == []
    flow.subscription.dispose()
    await settle()


@virtual_time
async def test_a_control_is_heard_while_the_subscriber_is_paused() -> None:
    flow = Flow(valve(Scripted([1.0, "closed", HANG]).events().pipe(rx.operators.map(lambda event: False))))
    flow.hold()
    await asyncio.sleep(2)
    await flow.release()
    flow.send(1)
    assert flow.items == []
    flow.subscription.dispose()
    await settle()


@virtual_time
async def test_the_error_of_its_control_ends_the_stream_after_what_waits() -> None:
    """Nobody is left to open it."""
    control: Subject[bool] = Subject()
    flow = Flow(valve(control))
    control.on_next(False)
    flow.send(1, 2)
    control.on_error(error := ValueError("no more"))
    assert flow.items == [1, 2]
    assert flow.recorder.error is error
    assert not flow.subject.observers


@virtual_time
async def test_a_control_may_be_in_another_thread() -> None:
    """What it does is told on the stream's loop."""
    control: Subject[bool] = Subject()
    flow = Flow(valve(control, initially_open=False))
    flow.send(1)
    flow.recorder.and_then = lambda _: asyncio.get_running_loop()
    await asyncio.to_thread(control.on_next, True)
    await until(lambda: flow.items == [1])
    control.on_next(False)
    flow.send(2)
    await asyncio.to_thread(control.on_error, error := ValueError("no more"))  # the recorder fails off a loop
    await until(lambda: flow.recorder.error is error)
    assert flow.items == [1, 2]


@virtual_time
async def test_a_control_that_fails_at_once_asks_for_nothing() -> None:
    def fail(observer: abc.ObserverBase[bool], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        observer.on_error(ValueError("no"))
        return Disposable()

    asked: list[bool] = []

    def ask(_: abc.SchedulerBase) -> Observable[int]:
        asked.append(True)
        return rx.never()

    flow = Flow(valve(Observable(fail)), rx.defer(ask))
    await settle()
    assert isinstance(flow.recorder.error, ValueError)
    assert asked == []


@pytest.mark.parametrize("how", ["complete", "dispose"])
@virtual_time
async def test_the_control_is_left_at_the_end(how: str) -> None:
    control: Subject[bool] = Subject()
    flow = Flow(valve(control))
    assert control.observers
    if how == "complete":
        flow.subject.on_completed()
    else:
        flow.subscription.dispose()
    assert not control.observers
    assert not flow.gate._watchers


# --- the rest ---------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_disposing_a_closed_valve_releases_everything() -> None:
    script, gate, figures = Scripted(numbered(100)), Gate(), BufferStatistics()
    gate.hold("test")
    flow = Flow(valve(gate, read_ahead=3, statistics=figures), script.events())
    await settle()
    assert figures.waiting
    flow.subscription.dispose()
    await settle()
    assert script.running == 0
    assert not gate._watchers
    assert not flow.gate._watchers
    assert (figures.used, figures.waiting) == (0, False)
    gate.release("test")
    await settle()
    assert flow.items == []


@virtual_time
async def test_several_subscriptions_share_the_gate_and_nothing_else() -> None:
    gate = Gate()
    operator = valve(gate)
    one, two = Flow(operator), Flow(operator)
    gate.hold("test")
    one.send(1)
    two.send(2)
    gate.release("test")
    await settle()
    assert (one.items, two.items) == ([1], [2])


@virtual_time
async def test_in_a_session() -> None:
    gate = Gate()
    session = Stream.of(Scripted(numbered(10)).events()).pipe(valve(gate)).start()
    gate.hold("test")
    await settle()
    session.pause()
    gate.release("test")
    await settle()
    assert session.statistics.events == 0
    session.resume()
    assert (await session).text == "".join(f"{number} " for number in range(10))


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"gate": True}, "gate"),
        ({"gate": Gate(), "closed": "drop"}, "closed"),
        ({"gate": Gate(), "read_ahead": 0}, "read_ahead"),
        ({"gate": Gate(), "closed": "drop_newest", "read_ahead": -1}, "read_ahead"),
        ({"gate": Gate(), "closed": "latest", "read_ahead": 3}, "read_ahead"),
        ({"gate": Gate(), "closed": "error", "read_ahead": 0}, "read_ahead"),
        ({"gate": Gate(), "initially_open": False}, "initially_open"),
    ],
)
def test_a_bad_option_is_refused_by_its_name(options: dict[str, Any], parameter: str) -> None:
    with pytest.raises(ConfigurationError, match=parameter):
        valve(**options)


@given(acts, st.integers(1, 4))
def test_hold_loses_doubles_and_reorders_nothing(steps: list[str], read_ahead: int) -> None:
    @virtual_time
    async def main() -> None:
        gate, figures = Gate(), BufferStatistics()
        flow = Flow(valve(gate, read_ahead=read_ahead, statistics=figures))
        through_a_closed_one: list[Any] = []
        flow.recorder.and_then = lambda item: through_a_closed_one.append(item) if gate.closed else None
        sent = await flow.follow(steps, gate)
        assert flow.items == sent
        assert not through_a_closed_one
        assert flow.recorder.completed
        assert (figures.used, figures.waiting) == (0, False)

    main()


@given(acts, st.integers(0, 4), st.sampled_from(["drop_newest", "drop_oldest"]))
def test_what_is_kept_and_what_is_dropped_are_what_was_sent(steps: list[str], read_ahead: int, closed: Any) -> None:
    @virtual_time
    async def main() -> None:
        gate, figures = Gate(), BufferStatistics()
        flow = Flow(valve(gate, closed=closed, read_ahead=read_ahead, statistics=figures))
        sent = await flow.follow(steps, gate)
        assert flow.items == sorted(set(flow.items))
        assert len(flow.items) + figures.dropped == len(sent)
        assert flow.items == sent or "close" in steps

    main()
