"""The gate: named holds, children, waiting, threads."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.gate import Gate
from tests.support.virtual_loop import settle, virtual_time


def test_is_open_at_first() -> None:
    gate = Gate()
    assert not gate.closed
    assert gate.holds == ()
    assert repr(gate) == "<Gate open>"


def test_opens_when_the_last_hold_is_released() -> None:
    gate = Gate()
    gate.hold("user")
    gate.hold("buffer")
    assert gate.holds == ("user", "buffer")
    assert repr(gate) == "<Gate held by user, buffer>"
    gate.release("user")
    assert gate.closed
    gate.release("buffer")
    assert not gate.closed


def test_a_second_hold_of_a_name_changes_nothing() -> None:
    gate = Gate()
    gate.hold("user")
    gate.hold("user")
    gate.release("user")
    assert not gate.closed


def test_releasing_what_is_not_held_changes_nothing() -> None:
    gate = Gate()
    gate.hold("user")
    gate.release("nobody")
    assert gate.holds == ("user",)


def test_children_are_opened_in_turns() -> None:
    """Who is woken first may take all that there is room for: next time it is another."""
    gate, woken, order = Gate(), list[str](), list[str]()
    children = {name: gate.child() for name in "abc"}
    for name, child in children.items():
        child.watch(partial(woken.append, name))
    for _ in range(4):
        gate.hold("consumer")
        woken.clear()
        gate.release("consumer")
        order.append("".join(woken))
    assert order == ["bca", "cab", "abc", "bca"]


def test_a_gate_beside_another_is_not_held_with_it_but_counts() -> None:
    gate = Gate()
    gate.hold("user")
    beside = gate.beside()
    track = beside.child()
    assert (beside.closed, track.closed, track.holds) == (False, False, ())
    beside.hold("all")
    assert (beside.holds, track.holds) == (("all",), ("all",))
    track.ahead = 5
    assert gate.read_ahead == 5


def test_a_gate_beside_another_changes_in_one_thread_at_a_time() -> None:
    """When the other one changes it is asked as well: were it released in that moment, it could stay closed for ever."""
    gate = Gate()
    beside, done = gate.beside(), threading.Event()

    class Holds(dict[str, None]):
        def __bool__(self) -> bool:
            held = len(self) > 0
            if held and threading.current_thread() is asking:
                done.wait(0.2)
            return held

    asking = threading.Thread(target=gate.hold, args=("user",))
    beside._holds = Holds()
    beside.hold("all")
    asking.start()
    beside.release("all")
    done.set()
    asking.join()
    assert not beside.closed


def test_a_child_is_closed_with_what_is_above_it_or_alone() -> None:
    gate = Gate()
    child, other = gate.child(), gate.child()
    grandchild = child.child()
    child.hold("track")
    assert (gate.closed, child.closed, grandchild.closed, other.closed) == (False, True, True, False)
    gate.hold("all")
    assert (gate.closed, child.closed, grandchild.closed, other.closed) == (True, True, True, True)
    assert grandchild.holds == ("all", "track")
    child.release("track")
    assert grandchild.closed
    gate.release("all")
    assert not any(one.closed for one in (gate, child, grandchild, other))


def test_a_child_of_a_held_gate_is_born_closed() -> None:
    gate = Gate()
    gate.hold("all")
    child = gate.child()
    assert child.closed
    gate.release("all")
    assert not child.closed


def test_a_child_keeps_its_own_hold_when_the_parent_opens() -> None:
    gate = Gate()
    child = gate.child()
    gate.hold("all")
    child.hold("track")
    gate.release("all")
    assert child.holds == ("track",)
    assert child.closed


def test_read_ahead_is_that_of_all_tracks() -> None:
    gate = Gate()
    child, other = gate.child(), gate.child()
    gate.ahead, child.ahead, other.ahead = 1, 20, 300
    assert (gate.read_ahead, child.read_ahead) == (321, 20)


def test_a_forgotten_child_is_forgotten() -> None:
    gate = Gate()
    child = gate.child()
    child.ahead = 5
    del child
    gc.collect()
    assert gate.read_ahead == 0


operations = st.lists(
    st.tuples(st.sampled_from(("hold", "release")), st.integers(0, 3), st.sampled_from("abc")), max_size=60
)


@given(operations)
def test_a_gate_is_closed_exactly_if_it_or_one_above_it_is_held(steps: list[tuple[str, int, str]]) -> None:
    """Law: any sequence of holds and releases on a tree of gates agrees with sets of names; watchers see each change."""
    gates = [Gate()]
    gates += [gates[0].child(), gates[0].child()]
    gates.append(gates[1].child())
    above = {0: (0,), 1: (0, 1), 2: (0, 2), 3: (0, 1, 3)}
    held: list[set[str]] = [set(), set(), set(), set()]
    changes: list[tuple[int, bool]] = []

    def note(index: int) -> Callable[[], None]:
        return lambda: changes.append((index, gates[index].closed))

    for index, gate in enumerate(gates):
        gate.watch(note(index))
    for what, index, name in steps:
        before = [gate.closed for gate in gates]
        changes.clear()
        if what == "hold":
            gates[index].hold(name)
            held[index].add(name)
        else:
            gates[index].release(name)
            held[index].discard(name)
        expected = [any(held[one] for one in above[index]) for index in range(4)]
        assert [gate.closed for gate in gates] == expected
        assert [sorted(gate.holds) for gate in gates] == [
            sorted(name for one in above[index] for name in held[one]) for index in range(4)
        ]
        assert sorted(changes) == [
            (index, now) for index, (was, now) in enumerate(zip(before, expected, strict=True)) if was != now
        ]


def test_unwatch_ends_the_calls() -> None:
    gate, calls = Gate(), list[bool]()

    def changed() -> None:
        calls.append(gate.closed)

    gate.watch(changed)
    gate.hold("user")
    gate.unwatch(changed)
    gate.release("user")
    assert calls == [True]


@virtual_time
async def test_wait_returns_at_once_when_open() -> None:
    gate = Gate()
    waiting = gate.wait()
    with pytest.raises(StopIteration):
        waiting.send(None)


@virtual_time
async def test_wait_returns_when_the_gate_opens() -> None:
    loop, gate = asyncio.get_running_loop(), Gate()
    gate.hold("user")
    loop.call_later(3, gate.release, "user")
    await gate.wait()
    assert loop.time() == 3


@virtual_time
async def test_wait_goes_on_when_the_gate_closes_again_before_it_wakes() -> None:
    gate = Gate()
    gate.hold("user")
    waiting = asyncio.ensure_future(gate.wait())
    await settle()
    gate.release("user")
    gate.hold("other")
    await settle()
    assert not waiting.done()
    gate.release("other")
    await waiting


@virtual_time
async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    gate = Gate()
    gate.hold("user")
    waiting = asyncio.ensure_future(gate.wait())
    await settle()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not gate._watchers
    gate.release("user")


def test_opening_a_gate_that_a_dead_loop_waited_for_is_no_error() -> None:
    gate = Gate()
    gate.hold("user")
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(gate.wait())
    loop.run_until_complete(asyncio.sleep(0))
    watchers = set(gate._watchers)
    waiting.cancel()
    loop.run_until_complete(asyncio.wait([waiting]))
    loop.close()
    for watcher in watchers:
        gate.watch(watcher)
    gate.release("user")
    assert not gate.closed


def test_loops_in_several_threads_wait_for_one_gate() -> None:
    """One release wakes every waiter, on its own loop, in every round."""
    gate, rounds, loops = Gate(), 50, 4
    barrier = threading.Barrier(loops + 1, timeout=10)

    async def waiter() -> int:
        woken = 0
        for _ in range(rounds):
            barrier.wait()  # the gate is held
            waiting = asyncio.ensure_future(gate.wait())
            await asyncio.sleep(0)
            await asyncio.wait_for(waiting, 10)
            woken += 1
            barrier.wait()  # everyone is through
        return woken

    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(waiter()))) for _ in range(loops)]
    for thread in threads:
        thread.start()
    for _ in range(rounds):
        gate.hold("user")
        barrier.wait()
        gate.release("user")
        barrier.wait()
    for thread in threads:
        thread.join(10)
    assert results == [rounds] * loops


@pytest.mark.parametrize("names", [("a", "b", "c", "d"), ("a", "a", "a", "a")])
def test_threads_that_hold_and_release_at_once_leave_it_open(names: tuple[str, ...]) -> None:
    """Thousands of holds and releases from four threads on parent and child: open at the end, and never out of step."""
    gate = Gate()
    child = gate.child()
    barrier = threading.Barrier(len(names), timeout=10)
    wrong: list[str] = []

    def hammer(name: str, mine: Gate) -> None:
        barrier.wait()
        for _ in range(2000):
            mine.hold(name)
            if len(set(names)) == len(names) and not (mine.closed and child.closed):
                wrong.append(name)
            mine.release(name)

    threads = [threading.Thread(target=hammer, args=(name, (gate, child)[i % 2])) for i, name in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert (gate.closed, child.closed, child.holds) == (False, False, ())


def test_whether_anybody_obeys_it() -> None:
    gate = Gate()
    below = gate.child().child()
    seen = [gate.watched]
    below.watch(print)
    seen.append(gate.watched)
    below.unwatch(print)
    assert [*seen, gate.watched] == [False, True, False]
