"""What all operators of flow control have in common: laws under any order of emissions, pauses, ends and disposals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxstream._backlog import BufferStatistics
from rxstream.errors import ConfigurationError, Disconnected
from rxstream.gate import Gate
from rxstream.operators import (
    coalesce,
    on_backpressure_buffer,
    on_backpressure_coalesce,
    on_backpressure_drop,
    on_backpressure_error,
    on_backpressure_latest,
    valve,
)
from tests.support.flow import Flow, Operator, acts
from tests.support.scripted import DONE, HANG, Scripted, Step, raising
from tests.support.virtual_loop import settle, virtual_time

ENDLESS: list[Step] = [*(f"{number} " for number in range(200)), HANG]
Make = Callable[[Gate, BufferStatistics], Operator]

LOSSLESS: dict[str, Make] = {
    "valve": lambda gate, figures: valve(gate, read_ahead=2, statistics=figures),
    "buffer": lambda _, figures: on_backpressure_buffer(3, statistics=figures),
    "coalesce": lambda _, figures: coalesce(8, statistics=figures),
    "on_backpressure_coalesce": lambda _, figures: on_backpressure_coalesce(statistics=figures),
}
ALL: dict[str, Make] = {
    **LOSSLESS,
    "valve, drop_newest": lambda gate, figures: valve(gate, closed="drop_newest", read_ahead=1, statistics=figures),
    "valve, drop_oldest": lambda gate, figures: valve(gate, closed="drop_oldest", read_ahead=1, statistics=figures),
    "valve, latest": lambda gate, figures: valve(gate, closed="latest", statistics=figures),
    "valve, error": lambda gate, figures: valve(gate, closed="error", statistics=figures),
    "drop": lambda _, figures: on_backpressure_drop(1, statistics=figures),
    "latest": lambda _, figures: on_backpressure_latest(statistics=figures),
    "error": lambda _, figures: on_backpressure_error(1, statistics=figures),
}


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
@given(steps=acts)
def test_disposed_at_any_moment_it_says_nothing_more_and_leaves_nothing(make: Make, steps: list[str]) -> None:
    @virtual_time
    async def main() -> None:
        gate, figures = Gate(), BufferStatistics()
        script = Scripted(ENDLESS)
        pumped, pushed = Flow(make(gate, figures), script.events()), Flow(make(gate, figures))
        sent = 0
        for step in steps:
            pumped.turn(step, gate)
            pushed.turn(step, gate)
            if step == "send":
                pushed.send(sent)
                sent += 1
            elif step == "wait":
                await asyncio.sleep(0)
        told = len(pumped.items), len(pushed.items)
        pumped.subscription.dispose()
        pushed.subscription.dispose()
        pushed.send(-1)
        gate.release("test")
        await pumped.release()
        await pushed.release()
        assert (len(pumped.items), len(pushed.items)) == told
        assert (figures.used, figures.bytes, figures.held) == (0, 0, 0)
        assert (script.running, pushed.subject.observers) == (0, [])
        assert not gate._watchers
        assert not pumped.gate._watchers
        assert not pushed.gate._watchers

    main()


@pytest.mark.parametrize("make", LOSSLESS.values(), ids=LOSSLESS)
@given(steps=acts, pauses=st.lists(st.sampled_from([0.0, 0.0, 0.5]), max_size=30), fails=st.booleans())
def test_nothing_of_a_pump_is_lost_and_its_end_comes_last(
    make: Make, steps: list[str], pauses: list[float], fails: bool
) -> None:
    @virtual_time
    async def main() -> None:
        gate, figures, error = Gate(), BufferStatistics(), Disconnected("gone")
        script_steps: list[Step] = []
        for number, pause in enumerate(pauses):
            script_steps += [pause, f"{number} "]
        script = Scripted([*script_steps, raising(error) if fails else DONE])
        flow = Flow(make(gate, figures), script.events())
        for step in steps:
            flow.turn(step, gate)
            await (asyncio.sleep(0.75) if step == "wait" else settle())
        gate.release("test")
        await flow.release()
        await asyncio.sleep(100)
        assert "".join(flow.recorder.texts) == "".join(f"{number} " for number in range(len(pauses)))
        assert (flow.recorder.completed, flow.recorder.error) == (not fails, error if fails else None)
        assert (figures.used, figures.dropped, figures.held, script.running) == (0, 0, 0, 0)

    main()


@given(names=st.lists(st.sampled_from(sorted(LOSSLESS)), min_size=2, max_size=4), steps=acts, fails=st.booleans())
def test_nor_is_it_by_several_in_a_row(names: list[str], steps: list[str], fails: bool) -> None:
    @virtual_time
    async def main() -> None:
        gates, error = [Gate() for _ in names], Disconnected("gone")
        script = Scripted([*(f"{number} " for number in range(60)), raising(error) if fails else DONE])
        operators = [LOSSLESS[name](gate, BufferStatistics()) for name, gate in zip(names, gates, strict=True)]
        flow = Flow(lambda source: source.pipe(*operators), script.events())
        for number, step in enumerate(steps):
            flow.turn(step, gates[number % len(gates)])
            await asyncio.sleep(0)
        for gate in gates:
            gate.release("test")
        await flow.release()
        await asyncio.sleep(100)
        assert "".join(flow.recorder.texts) == "".join(f"{number} " for number in range(60))
        assert not flow.out_of_turn
        assert (flow.recorder.completed, flow.recorder.error) == (not fails, error if fails else None)
        assert script.running == 0
        assert not any(gate._watchers for gate in [*gates, flow.gate])

    main()


@pytest.mark.parametrize("name", ["valve", "buffer", "coalesce"])
@virtual_time
async def test_an_endless_source_and_a_consumer_that_stopped_keep_bounded_memory(name: str) -> None:
    gate, figures = Gate(), BufferStatistics()
    script = Scripted(ENDLESS)
    flow = Flow(LOSSLESS[name](gate, figures), script.events())
    flow.recorder.and_then = lambda _: flow.hold() if len(flow.items) == 10 else None
    await asyncio.sleep(100)
    assert (len(flow.items), figures.waiting) == (10, name != "valve")
    assert script.given <= 10 + 8
    flow.subscription.dispose()
    await settle()
    assert script.running == 0


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
@virtual_time
async def test_a_source_that_has_ended_before_subscribe_returns_is_heard_and_left(make: Make) -> None:
    def at_once(observer: abc.ObserverBase[int], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        observer.on_next(1)
        observer.on_completed()
        return Disposable(lambda: left.append(True))

    gate, left = Gate(), list[bool]()
    flow = Flow(make(gate, BufferStatistics()), Observable(at_once))
    assert flow.items == [1]
    assert flow.recorder.completed
    assert left == [True]
    assert not gate._watchers
    assert not flow.gate._watchers


@pytest.mark.parametrize(
    "operator",
    [
        on_backpressure_buffer,
        on_backpressure_drop,
        on_backpressure_latest,
        on_backpressure_error,
        on_backpressure_coalesce,
        coalesce,
        partial(valve, Gate()),
    ],
)
def test_statistics_are_statistics(operator: Callable[..., object]) -> None:
    with pytest.raises(ConfigurationError, match="statistics=a dict"):
        operator(statistics={})
