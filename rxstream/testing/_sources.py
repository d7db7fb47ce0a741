"""The rules of a source's signals: what comes, in which order, and how it ends. Those of control are in `_control`."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

from reactivex import operators as ops

from rxstream.events import EventBase
from rxstream.loop import LoopScheduler
from rxstream.sinks.iterator import AsyncItems
from rxstream.testing._lab import Broken, Lab, NotApplicable, Planted, Probe
from rxstream.testing._rules import Rule, rules_of

__all__ = ["SIGNALS"]

SIGNALS: list[Rule] = []
_rule = rules_of(SIGNALS)


@_rule("1.3", "signals come one at a time")
async def _serial(lab: Lab) -> None:
    probe = await lab.whole(await lab.make(), lab.probe(slow=0.0002))
    lab.must(not probe.overlaps, f"{probe.overlaps} signals came in the midst of another")


@_rule("1.4", "a failure is told by on_error, once", "fails")
async def _failure(lab: Lab) -> None:
    probe = await lab.whole(await lab.failing())
    await lab.calm()
    lab.one_end(probe)
    lab.must(isinstance(probe.ends[0], Exception), "it completed, as if nothing had failed")


@_rule("1.5", "the proper end is told by on_completed, once; also where nothing came before it")
async def _completion(lab: Lab) -> None:
    told = {count: lab.subscribe(await lab.make(count), lab.probe()) for count in (0, 1, lab.specimen.many)}
    await lab.ended(*told.values())
    await lab.calm()
    for count, probe in told.items():
        lab.one_end(probe)
        lab.must(probe.ends[0] is None, f"of {count} items it failed: {probe.ends[0]!r}")
        lab.must(len(probe.items) >= count, f"of {count} items it gave {len(probe.items)}")


@_rule("1.6", "what ends counts as cancelled: all is closed, although nobody has disposed", "opens")
async def _closed_at_the_end(lab: Lab) -> None:
    await lab.each_ending()
    await lab.connections_closed()


@_rule("1.7", "nothing comes after the end")
async def _nothing_after_the_end(lab: Lab) -> None:
    probes = await lab.each_ending()
    await lab.calm()
    late = sum(probe.late for probe in probes)
    lab.must(not late, f"{late} signals came after the end")


@_rule("1.9", "subscribing returns normally, whatever is wrong; failures are told by on_error")
async def _subscribing_returns(lab: Lab) -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    for make in lab.endings():
        source = await make()
        try:
            probe = lab.subscribe(source, lab.probe())
        except Exception as error:
            raise Broken(f"subscribing raised {error!r}") from error
        await lab.ended(probe)
    late = lab.probe()
    try:
        lab.subscribe(await lab.make(1), late, loop=closed).disposable.dispose()
    except Exception as error:
        raise Broken(f"subscribing on a loop that is closed raised {error!r}") from error
    lab.must(not late.items, "it emitted on a loop that is closed")


@_rule("1.10", "subscribed again, it gives the same again", "cold")
async def _again(lab: Lab) -> None:
    source = await lab.make()
    first = await lab.whole(source)
    second = await lab.whole(source)
    lab.same(second, first, whose="the second subscriber's items")
    lab.must(second.ends == [None], f"the second subscription failed: {second.ends}")


@_rule("1.10", "subscribed again, it refuses by on_error", "once")
async def _refused(lab: Lab) -> None:
    source = await lab.make(1)
    await lab.whole(source)
    try:
        second = await lab.whole(source)
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"it raised {error!r} instead") from error
    lab.must(second.ends[0] is not None and not second.items, "it gave something again, or completed")


@_rule("1.11", "two subscribers at once get the same, in the same order", "cold")
async def _two_at_once(lab: Lab) -> None:
    source = await lab.make()
    expected = await lab.whole(source)
    one, two = (lab.subscribe(source, lab.probe()) for _ in range(2))
    await lab.ended(one, two)
    lab.same(one, expected, whose="the first subscriber's items")
    lab.same(two, expected, whose="the second subscriber's items")


@_rule("2.2", "a slow observer does not obstruct others: the loop has its turns between items")
async def _gives_way(lab: Lab) -> None:
    turns, at = 0, dict[int, int]()

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticking = asyncio.ensure_future(tick())
    try:
        probe = await lab.whole(
            await lab.make(), lab.probe(slow=0.0005, react=lambda number: at.update({number: turns}))
        )
    finally:
        ticking.cancel()
    items = len(probe.items)
    if items > 1:
        lab.must(
            at[items - 1] > at[0], f"the loop had no turn in all of the {items} items, though they took their time"
        )


@_rule("2.6", "who wants no more of it closes it: take(1)")
async def _take_one(lab: Lab) -> None:
    source = await lab.endless()
    probe = lab.probe()
    source.pipe(ops.take(1)).subscribe(probe, scheduler=LoopScheduler(lab.loop, gate=lab.gate))
    await lab.ended(probe)
    await lab.nothing_left()
    lab.must(len(probe.items) == 1 and probe.ends == [None], f"take(1) gave {len(probe.items)} items, {probe.ends}")


@_rule("2.11", "all signals come on the loop of the subscriber's scheduler")
async def _on_the_loop(lab: Lab) -> None:
    probe = await lab.whole(await lab.make())
    lab.must(not probe.foreign, f"{probe.foreign} of {probe.signals} signals came in another thread")


@_rule("2.13", "an observer that raises hurts itself alone")
async def _raising(lab: Lab) -> None:
    def fail(number: int) -> None:
        if number == 0:
            raise Planted

    again = lab.specimen.cold
    first = await lab.make()
    second = first if again else await lab.make()
    raising, other = lab.probe(react=fail), lab.probe()
    for source, probe in ((first, raising), (second, other)):
        source.subscribe(probe, scheduler=LoopScheduler(lab.loop, gate=lab.gate))
    await lab.ended(other)
    lab.must(other.ends == [None], f"its neighbour failed: {other.ends}")
    await lab.calm()
    lab.must(len(raising.items) == 1, f"it was told of {len(raising.items) - 1} items more")
    lab.must(len(raising.ends) <= 1 and None not in raising.ends, f"it was told of its end so: {raising.ends}")
    await lab.nothing_left()
    expected = await lab.whole(first if again else await lab.make())
    lab.same(other, expected, whose="its neighbour's items")


@_rule("3.3", "many items are told in a loop, not in a recursion")
async def _flat(lab: Lab) -> None:
    def press(_number: int) -> None:
        lab.gate.hold("recursion")
        lab.gate.release("recursion")

    lab.gate.hold("recursion")
    probe = lab.subscribe(await lab.make(), lab.probe(react=press))
    await lab.calm()
    lab.gate.release("recursion")
    await lab.ended(probe)
    low, high = probe.depths
    lab.must(high - low < 50, f"the stack grew by {high - low} calls over {len(probe.items)} items")


@_rule("3.13", "whoever has left, or was told of the end, is held by nobody")
async def _forgets(lab: Lab) -> None:
    for make, leaves in ((lab.endless, True), (lab.make, False)):
        gone = await _observed(lab, await make(), leaves=leaves)
        for generation in (1, 2, 2, 2, 2):  # of what is old there is much
            await lab.calm()
            gc.collect(generation)
            if gone() is None:
                break
        lab.must(
            gone() is None, f"it still holds its observer, which has {'left' if leaves else 'been told of the end'}"
        )


async def _observed(lab: Lab, source: Any, *, leaves: bool) -> weakref.ref[Probe]:
    probe = lab.subscribe(source, lab.probe())
    await (lab.begun(probe) if leaves else lab.ended(probe))
    if leaves:
        probe.disposable.dispose()
    return weakref.ref(probe)


@_rule("G.3", "a filter behind it does not stall it, though its consumer asks item by item")
async def _filtered(lab: Lab) -> None:
    source = await lab.make()
    expected = await lab.whole(source if lab.specimen.cold else await lab.make())
    rare = source.pipe(ops.map_indexed(_numbered), ops.filter(_tenth))
    items = AsyncItems(rare, gate=lab.gate, high=1, low=0)
    found: list[Any] = []
    collecting = asyncio.ensure_future(_collect(items, found))
    await lab.until(collecting.done, "it stalled")
    await collecting
    lab.equal(found, expected.items[::10], whose="what passed the filter")


def _numbered(item: Any, number: int) -> tuple[int, Any]:
    return number, item


def _tenth(pair: tuple[int, Any]) -> bool:
    return pair[0] % 10 == 0


async def _collect(items: AsyncItems[tuple[int, Any]], found: list[Any]) -> None:
    async for _, item in items:
        found.append(item)
        await asyncio.sleep(0)


@_rule("G.4", "events are numbered from 0, without a gap")
async def _numbers(lab: Lab) -> None:
    probe = await lab.whole(await lab.make())
    events = [item for item in probe.items if isinstance(item, EventBase)]
    if not events:
        raise NotApplicable("its items are no events")
    numbers = [event.seq for event in events]
    lab.must(numbers == list(range(len(events))), f"they are numbered {str(numbers)[:60]}")


@_rule("G.5", "however it ends, no task, no async generator and no watch of the gate is left")
async def _leaves_nothing(lab: Lab) -> None:
    await lab.each_ending()
    await lab.nothing_left()
    for items in (0, 1):
        probe = lab.subscribe(await lab.endless(), lab.probe())
        await (lab.begun(probe, items) if items else lab.calm())
        probe.disposable.dispose()
        await lab.nothing_left()
