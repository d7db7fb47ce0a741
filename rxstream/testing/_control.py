"""The rules of a source's control: dispose, hold and release, from the loop, from its own signals, and from threads."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from rxstream.testing._lab import Lab, Probe
from rxstream.testing._rules import Rule, rules_of

__all__ = ["CONTROL"]

CONTROL: list[Rule] = []
_rule = rules_of(CONTROL)
_AT = 3
"""The number of the item at which it is held or left."""


async def _silent(lab: Lab, probe: Probe, *, most: int) -> None:
    """After this moment at most so many signals come."""
    at = probe.signals
    await lab.calm()
    late = probe.signals - at
    lab.must(late <= most, f"{late} signals came after it")


@_rule("1.8", "disposed on its loop, it is silent at once")
async def _disposed(lab: Lab) -> None:
    at: list[int] = []

    def dispose() -> None:
        probe.disposable.dispose()
        at.append(probe.signals)

    def react(number: int) -> None:
        if number == _AT:
            lab.loop.call_soon(dispose)

    probe = lab.probe(slow=0.0005, react=react)
    lab.subscribe(await lab.endless(), probe)
    await lab.until(lambda: at or probe.ends, "nothing came")
    await lab.calm()
    lab.must(not at or probe.signals == at[0], f"{probe.signals - sum(at)} signals came after dispose() had returned")


@_rule("2.3", "dispose in the midst of on_completed or on_error is harmless")
async def _disposed_at_the_end(lab: Lab) -> None:
    probes = await lab.each_ending(last=lambda probe: probe.disposable.dispose())
    await lab.calm()
    for probe in probes:
        lab.must(not probe.raised, f"it raised {probe.raised}")
        lab.one_end(probe)
    await lab.nothing_left()


@_rule("2.4", "after the end, hold, release and dispose change nothing")
async def _after_the_end(lab: Lab) -> None:
    probe = await lab.whole(await lab.make())
    at = probe.signals
    lab.gate.hold("late")
    await lab.calm()
    lab.gate.release("late")
    probe.disposable.dispose()
    await lab.calm()
    lab.must(probe.signals == at, f"{probe.signals - at} signals came")
    await lab.nothing_left()


@_rule("2.7", "held, released and disposed by several threads at once, it loses and repeats nothing", "gate")
async def _threads(lab: Lab) -> None:
    expected = await lab.whole(await lab.make())
    probe = lab.subscribe(await lab.make(), lab.probe(slow=0.0002))
    await lab.joined([lab.thread(_presser(lab, seed)) for seed in range(3)])
    await lab.ended(probe)
    lab.same(probe, expected, whose="the items that came through the pauses")
    lab.must(probe.ends == [None], f"it ended so: {probe.ends}")
    left = lab.subscribe(await lab.endless(), lab.probe(slow=0.0002))
    await lab.begun(left)
    await lab.joined([lab.thread(_presser(lab, 4)), lab.thread(left.disposable.dispose), lab.thread(_presser(lab, 5))])
    await _silent(lab, left, most=1)
    await lab.nothing_left()


def _presser(lab: Lab, seed: int) -> Callable[[], None]:
    chance = random.Random(seed)  # noqa: S311 - not for secrets

    def press() -> None:
        for _ in range(20):
            lab.gate.hold(f"thread-{seed}")
            time.sleep(chance.random() / 2000)
            lab.gate.release(f"thread-{seed}")
            time.sleep(chance.random() / 2000)

    return press


async def _at_rest(lab: Lab, probe: Probe) -> None:
    """Wait until it is held, and what is on its way has come."""
    await lab.until(lambda: lab.gate.closed or probe.ends, "nothing came")
    await lab.calm()


async def _released(lab: Lab, probe: Probe, *, expected: Probe) -> None:
    """Release it, wait for its end, and compare."""
    lab.gate.release("pause")
    await lab.ended(probe)
    await lab.calm()
    lab.one_end(probe)
    lab.same(probe, expected, whose="the items before the end")
    lab.must(type(probe.ends[0]) is type(expected.ends[0]), f"it ended with {probe.ends[0]!r}")


def _holding(lab: Lab, at: int = _AT) -> Callable[[int], None]:
    def react(number: int) -> None:
        if number == at:
            lab.gate.hold("pause")

    return react


@_rule("2.9", "completed while it is held, it tells what was held first", "gate")
async def _completed_while_held(lab: Lab) -> None:
    expected = await lab.whole(await lab.make())
    for at in (0, len(expected.items) - 1):
        probe = lab.subscribe(await lab.make(), lab.probe(react=_holding(lab, at)))
        await _at_rest(lab, probe)
        await _released(lab, probe, expected=expected)


@_rule("2.10", "failed while it is held, it tells what was held first", "gate", "fails")
async def _failed_while_held(lab: Lab) -> None:
    expected = await lab.whole(await lab.failing())
    probe = lab.subscribe(await lab.failing(), lab.probe(react=_holding(lab, 0)))
    await _at_rest(lab, probe)
    await _released(lab, probe, expected=expected)


@_rule("3.2", "hold, release and dispose may be called in the midst of a signal")
async def _in_the_midst(lab: Lab) -> None:
    def press(number: int) -> None:
        for name in ("one", "two"):
            lab.gate.hold(name)
        for name in ("one", "two"):
            lab.gate.release(name)
        if number == _AT:
            left.subscription.dispose()

    expected = await lab.whole(await lab.make())
    probe = await lab.whole(await lab.make(), lab.probe(react=lambda number: press(number + _AT + 1)))
    lab.same(probe, expected, whose="the items that came while it was pressed")
    lab.must(not probe.overlaps, f"{probe.overlaps} signals came in the midst of the one that asked for them")
    left = lab.probe(react=press)
    lab.subscribe(await lab.endless(), left)
    await lab.until(lambda: len(left.items) > _AT or left.ends, "nothing came")
    await lab.calm()
    lab.must(len(left.items) <= _AT + 1, f"{len(left.items) - _AT - 1} items came after the one that disposed of it")
    await lab.nothing_left()


@_rule("3.4", "dispose never waits: in a thread it returns while the loop is busy")
async def _never_waits(lab: Lab) -> None:
    probe = lab.subscribe(await lab.endless(), lab.probe())
    await lab.begun(probe)
    disposing = lab.thread(probe.disposable.dispose)
    disposing.join(lab.specimen.patience / 2)  # on the loop's own thread, which does nothing else meanwhile
    lab.must(not disposing.is_alive(), "dispose() waits for the event loop")
    await lab.joined([disposing])


@_rule("3.5", "dispose a thousand times, from four threads at once, is dispose once")
async def _a_thousand_times(lab: Lab) -> None:
    probe = lab.subscribe(await lab.endless(), lab.probe())
    await lab.begun(probe)
    together = threading.Barrier(4)

    def dispose() -> None:
        together.wait(lab.specimen.patience)
        for _ in range(250):
            probe.disposable.dispose()

    await lab.joined([lab.thread(dispose) for _ in range(4)])
    await _silent(lab, probe, most=1)
    await lab.nothing_left()


@_rule("3.6", "after dispose, hold and release change nothing")
async def _hold_after_dispose(lab: Lab) -> None:
    probe = lab.subscribe(await lab.endless(), lab.probe())
    await lab.begun(probe)
    probe.disposable.dispose()
    at = probe.signals
    lab.gate.hold("late")
    await lab.calm()
    lab.gate.release("late")
    await lab.calm()
    lab.must(probe.signals == at, f"{probe.signals - at} signals came")
    await lab.nothing_left()


@_rule("3.7", "after dispose, dispose changes nothing, not even when held")
async def _dispose_after_dispose(lab: Lab) -> None:
    probe = lab.probe(react=_holding(lab, 0))
    lab.subscribe(await lab.endless(), probe)
    await lab.begun(probe)
    await lab.calm()
    at = probe.signals
    for _ in range(2):
        probe.disposable.dispose()
    await lab.calm()
    lab.must(probe.signals == at, f"{probe.signals - at} signals came")
    await lab.nothing_left()
    lab.gate.release("pause")


@_rule("3.12", "disposed from another thread, at most the signal on its way comes; and it closes")
async def _disposed_from_a_thread(lab: Lab) -> None:
    at = await _from_a_thread(lab, lambda probe: probe.disposable.dispose())
    if at is not None:
        probe, signals = at
        await lab.calm()
        lab.must(probe.signals <= signals + 1, f"{probe.signals - signals} signals came after dispose() had returned")
    await lab.nothing_left()


async def _from_a_thread(lab: Lab, control: Callable[[Probe], object]) -> tuple[Probe, int] | None:
    """What was controlled from a thread while items came, and its signals by then; None if it had ended before."""
    reached, signals = threading.Event(), list[int]()

    def work() -> None:
        reached.wait(lab.specimen.patience)
        control(probe)
        signals.append(probe.signals)

    def react(number: int) -> None:
        if number == _AT:
            reached.set()

    worker = lab.thread(work)
    probe = lab.probe(slow=0.001, react=react)
    lab.subscribe(await lab.endless(), probe)
    await lab.until(lambda: signals or probe.ends, "nothing came")
    reached.set()
    await lab.joined([worker])
    return (probe, signals[0]) if signals and not probe.ends else None


@_rule("3.14", "the last to leave closes it, and none before", "cold")
async def _last_to_leave(lab: Lab) -> None:
    source = await lab.make()
    expected = await lab.whole(source)
    first, second = (lab.subscribe(source, lab.probe()) for _ in range(2))
    first.disposable.dispose()
    await lab.ended(second)
    lab.same(second, expected, whose="the items of the one who stayed")
    lab.must(not first.ends, "the one who left was told of an end")
    endless = await lab.endless()
    both = [lab.subscribe(endless, lab.probe()) for _ in range(2)]
    for probe in both:
        await lab.begun(probe)
        probe.disposable.dispose()
    await lab.nothing_left()


@_rule("G.1", "held, it tells at most one item more; released, it goes on where it was", "gate")
async def _held(lab: Lab) -> None:
    expected = await lab.whole(await lab.make())
    probe = lab.subscribe(await lab.make(), lab.probe(react=_holding(lab)))
    await _at_rest(lab, probe)
    over = len(probe.items) - _AT - 1
    lab.must(over <= 1, f"{over} items came after it was held in the midst of one")
    await _released(lab, probe, expected=expected)
    at = await _from_a_thread(lab, lambda _probe: lab.gate.hold("thread"))
    if at is not None:
        held, signals = at
        await lab.calm()
        late = held.signals - signals
        lab.must(late <= 1, f"{late} items came after it was held from a thread")
        held.disposable.dispose()
    lab.gate.release("thread")


@_rule("G.2", "held and released at random, it loses and repeats nothing", "gate")
async def _held_at_random(lab: Lab) -> None:
    expected = await lab.whole(await lab.make())
    for seed in range(3):
        chance = random.Random(seed)  # noqa: S311 - not for secrets

        def react(_number: int, chance: random.Random = chance) -> None:
            if chance.random() < 0.1:
                lab.gate.hold("random")
                lab.loop.call_later(chance.random() / 1000, lab.gate.release, "random")

        probe = await lab.whole(await lab.make(), lab.probe(react=react))
        lab.same(probe, expected, whose="the items that came through the pauses")
        lab.must(probe.ends == [None], f"it ended so: {probe.ends}")
