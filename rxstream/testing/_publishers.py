"""The rules of a publisher: a source whose subscribers ask for what they get."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from collections.abc import Callable
from typing import Any

from rxstream.testing._lab import Broken, Lab, Planted, Probe
from rxstream.testing._rules import Rule, rules_of

__all__ = ["PUBLISHER"]

PUBLISHER: list[Rule] = []
_rule = rules_of(PUBLISHER)
_ALL = math.inf
_AT = 3


class _Taker:
    """A subscriber: what it is told goes into its `probe`.

    Args:
        probe: Who writes it down.
        ask: How much it asks for at the start.
    """

    def __init__(self, probe: Probe, ask: float | None = 0) -> None:
        self.probe = probe
        self.ask = ask
        self.subscriptions: list[Any] = []
        self.early = False
        """Whether anything came before on_subscribe."""

    @property
    def subscription(self) -> Any:
        return self.subscriptions[0]

    def on_subscribe(self, subscription: Any) -> None:
        self.early = self.early or bool(self.probe.signals)
        self.subscriptions.append(subscription)
        if self.ask != 0:
            subscription.request(self.ask)

    def on_next(self, item: Any) -> None:
        self.early = self.early or not self.subscriptions
        self.probe.on_next(item)

    def on_error(self, error: Exception) -> None:
        self.early = self.early or not self.subscriptions
        self.probe.on_error(error)

    def on_complete(self) -> None:
        self.early = self.early or not self.subscriptions
        self.probe.on_completed()


async def _taking(
    lab: Lab,
    publisher: Any,
    ask: float | None = 0,
    *,
    react: Callable[[int], object] | None = None,
    last: Callable[[Probe], object] | None = None,
    slow: float = 0.0,
) -> _Taker:
    """A new subscriber of `publisher`, which knows that it is subscribed."""
    taker = _Taker(lab.probe(react=react, last=last, slow=slow), ask)
    publisher.subscribe(taker)
    await lab.until(lambda: taker.subscriptions, "on_subscribe was not called")
    return taker


async def _whole(lab: Lab, publisher: Any) -> _Taker:
    taker = await _taking(lab, publisher, _ALL)
    await lab.ended(taker.probe)
    return taker


async def _got(lab: Lab, taker: _Taker, items: int) -> None:
    """It gets so many, and then no more."""
    probe = taker.probe
    await lab.until(
        lambda: len(probe.items) >= items or probe.ends, f"of {items} items asked for {len(probe.items)} came"
    )
    await lab.calm()
    lab.must(len(probe.items) <= items, f"{len(probe.items)} items came where {items} were asked for")
    lab.must(len(probe.items) == items, f"{len(probe.items)} items came where {items} were asked for and are there")


@_rule("1.1", "no more comes than was asked for")
async def _demand(lab: Lab) -> None:
    taker = await _taking(lab, await lab.make(), 1)
    await _got(lab, taker, 1)
    taker.subscription.request(2)
    await _got(lab, taker, 3)
    taker.subscription.cancel()


@_rule("1.2", "less may come than was asked for: it ends")
async def _less(lab: Lab) -> None:
    taker = await _taking(lab, await lab.make(2), lab.specimen.many + 1000)
    await lab.ended(taker.probe)
    lab.must(taker.probe.ends == [None], f"it ended so: {taker.probe.ends}")


@_rule("1.3", "signals come one at a time")
async def _serial(lab: Lab) -> None:
    taker = await _taking(lab, await lab.make(), 1, slow=0.0002, react=lambda _number: taker.subscription.request(1))
    ask = [lab.thread(lambda: [taker.subscription.request(1) for _ in range(100)]) for _ in range(3)]
    await lab.joined(ask)
    await lab.ended(taker.probe)
    lab.must(not taker.probe.overlaps, f"{taker.probe.overlaps} signals came in the midst of another")


@_rule("1.4", "a failure is told by on_error, once", "fails")
async def _failure(lab: Lab) -> None:
    taker = await _whole(lab, await lab.failing())
    await lab.calm()
    lab.one_end(taker.probe)
    lab.must(isinstance(taker.probe.ends[0], Exception), "it completed, as if nothing had failed")


@_rule("1.5", "the proper end is told by on_complete, once; also where nothing came before it")
async def _completion(lab: Lab) -> None:
    for count in (0, 1, lab.specimen.many):
        probe = (await _whole(lab, await lab.make(count))).probe
        await lab.calm()
        lab.one_end(probe)
        lab.must(probe.ends[0] is None, f"of {count} items it failed: {probe.ends[0]!r}")
        lab.must(len(probe.items) >= count, f"of {count} items it gave {len(probe.items)}")


@_rule("1.6", "what ends counts as cancelled: all is closed", "opens")
async def _closed_at_the_end(lab: Lab) -> None:
    for make in lab.endings():
        await _whole(lab, await make())
        await lab.nothing_left()


@_rule("1.7", "nothing comes after the end")
async def _nothing_after_the_end(lab: Lab) -> None:
    takers = [await _whole(lab, await make()) for make in lab.endings()]
    for taker in takers:
        taker.subscription.request(1)
    await lab.calm()
    late = sum(taker.probe.late for taker in takers)
    lab.must(not late, f"{late} signals came after the end")


@_rule("1.8", "cancelled on its loop, it is silent at once")
async def _cancelled(lab: Lab) -> None:
    taker = await _taking(lab, await lab.endless(), _AT)
    await lab.begun(taker.probe, _AT)
    taker.subscription.cancel()
    at = taker.probe.signals
    taker.subscription.request(1)
    await lab.calm()
    lab.must(taker.probe.signals == at, f"{taker.probe.signals - at} signals came after cancel() had returned")


@_rule("1.9", "subscribing calls on_subscribe first, and returns normally; who is no subscriber is a TypeError")
async def _subscribing(lab: Lab) -> None:
    for make in lab.endings():
        taker = await _whole(lab, await make())
        lab.must(not taker.early, "a signal came before on_subscribe")
    publisher = await lab.make(1)
    try:
        publisher.subscribe(None)
    except TypeError:
        return
    raise Broken("subscribe(None) raised no TypeError")


@_rule("1.11", "two subscribers get the same, in the same order, each at its own pace", "cold")
async def _two(lab: Lab) -> None:
    publisher = await lab.make()
    fast, slow = await _taking(lab, publisher, _ALL), await _taking(lab, publisher, 1)
    await lab.ended(fast.probe)
    await _got(lab, slow, 1)
    slow.subscription.request(_ALL)
    await lab.ended(slow.probe)
    lab.same(slow.probe, fast.probe, whose="the second subscriber's items")


@_rule("2.1", "without demand nothing comes")
async def _nothing_unasked(lab: Lab) -> None:
    taker = await _taking(lab, await lab.make())
    await lab.calm()
    lab.must(not taker.probe.signals, f"{taker.probe.signals} signals came where none was asked for")
    taker.subscription.cancel()


@_rule("2.3", "cancel and request in the midst of the end are harmless")
async def _control_at_the_end(lab: Lab) -> None:
    for make in lab.endings():
        await _pressed_at_the_end(lab, await make())


async def _pressed_at_the_end(lab: Lab, publisher: Any) -> None:
    def last(_probe: Probe) -> None:
        taker.subscription.request(1)
        taker.subscription.cancel()

    taker = await _taking(lab, publisher, last=last)
    taker.subscription.request(_ALL)
    await lab.ended(taker.probe)
    await lab.calm()
    lab.must(not taker.probe.raised, f"it raised {taker.probe.raised}")
    lab.one_end(taker.probe)


@_rule("2.5", "a subscriber that cancels its second subscription keeps its first", "cold")
async def _second(lab: Lab) -> None:
    publisher = await lab.make()
    taker = await _taking(lab, publisher, 1)
    await _got(lab, taker, 1)
    taker.ask = 0
    publisher.subscribe(taker)
    await lab.until(lambda: len(taker.subscriptions) == 2, "on_subscribe was not called")
    taker.subscriptions[1].cancel()
    taker.subscription.request(1)
    await _got(lab, taker, 2)
    taker.subscription.cancel()


@_rule("2.9", "completion needs no demand of its own, and comes after all that was asked for")
async def _completed_unasked(lab: Lab) -> None:
    expected = (await _whole(lab, await lab.make())).probe
    taker = await _taking(lab, await lab.make(), len(expected.items))
    await lab.ended(taker.probe)
    lab.same(taker.probe, expected, whose="the items before the end")
    lab.must(taker.probe.ends == [None], f"it ended so: {taker.probe.ends}")


@_rule("2.10", "a failure needs no demand of its own, and comes after all that was asked for", "fails")
async def _failed_unasked(lab: Lab) -> None:
    expected = (await _whole(lab, await lab.failing())).probe
    taker = await _taking(lab, await lab.failing(), len(expected.items))
    await lab.ended(taker.probe)
    lab.same(taker.probe, expected, whose="the items before the failure")


@_rule("2.12", "on_subscribe is called once")
async def _once(lab: Lab) -> None:
    taker = await _whole(lab, await lab.make())
    await lab.calm()
    lab.must(len(taker.subscriptions) == 1, f"it was called {len(taker.subscriptions)} times")


@_rule("2.13", "a subscriber that raises hurts itself alone", "cold")
async def _raising(lab: Lab) -> None:
    def fail(_number: int) -> None:
        raise Planted

    publisher = await lab.make()
    raising, other = await _taking(lab, publisher, react=fail), await _taking(lab, publisher)
    raising.subscription.request(_ALL)
    other.subscription.request(_ALL)
    await lab.ended(other.probe)
    lab.must(other.probe.ends == [None], f"its neighbour failed: {other.probe.ends}")
    await lab.calm()
    lab.must(len(raising.probe.items) == 1, f"it was told of {len(raising.probe.items) - 1} items more")
    await lab.nothing_left()


@_rule("3.2", "request may be called in the midst of on_subscribe and on_next")
async def _asked_in_the_midst(lab: Lab) -> None:
    expected = (await _whole(lab, await lab.make())).probe
    taker = await _taking(lab, await lab.make(), 1, react=lambda _number: taker.subscription.request(1))
    await lab.ended(taker.probe)
    lab.same(taker.probe, expected, whose="the items asked for one by one")


@_rule("3.3", "what is asked for in the midst of an item is told in a loop, not in a recursion")
async def _flat(lab: Lab) -> None:
    taker = await _taking(lab, await lab.make(), react=lambda _number: taker.subscription.request(1))
    await lab.calm()
    taker.subscription.request(1)
    await lab.ended(taker.probe)
    low, high = taker.probe.depths
    lab.must(high - low < 50, f"the stack grew by {high - low} calls over {len(taker.probe.items)} items")


@_rule("3.4", "request and cancel never wait: in a thread they return while the loop is busy")
async def _never_waits(lab: Lab) -> None:
    taker = await _taking(lab, await lab.endless(), 1)
    for control in (lambda: taker.subscription.request(1), taker.subscription.cancel):
        worker = lab.thread(control)
        worker.join(lab.specimen.patience / 2)  # on the loop's own thread, which does nothing else meanwhile
        lab.must(not worker.is_alive(), "it waits for the event loop")
        await lab.joined([worker])


@_rule("3.5", "cancel a thousand times, from four threads at once, is cancel once")
async def _a_thousand_times(lab: Lab) -> None:
    taker = await _taking(lab, await lab.endless(), 1)
    await lab.begun(taker.probe)
    together = threading.Barrier(4)

    def cancel() -> None:
        together.wait(lab.specimen.patience)
        for _ in range(250):
            taker.subscription.cancel()

    await lab.joined([lab.thread(cancel) for _ in range(4)])
    at = taker.probe.signals
    await lab.calm()
    lab.must(taker.probe.signals == at, f"{taker.probe.signals - at} signals came")
    await lab.nothing_left()


@_rule("3.6", "after cancel, request changes nothing, not even one that is no demand")
async def _request_after_cancel(lab: Lab) -> None:
    taker = await _taking(lab, await lab.endless(), 1)
    await lab.begun(taker.probe)
    taker.subscription.cancel()
    at = taker.probe.signals
    for demand in (1, _ALL, 0, -1):
        taker.subscription.request(demand)
    await lab.calm()
    lab.must(taker.probe.signals == at, f"{taker.probe.signals - at} signals came")


@_rule("3.7", "after cancel, cancel changes nothing")
async def _cancel_after_cancel(lab: Lab) -> None:
    taker = await _taking(lab, await lab.endless(), 1)
    await lab.begun(taker.probe)
    at = taker.probe.signals
    for _ in range(2):
        taker.subscription.cancel()
    await lab.calm()
    lab.must(taker.probe.signals == at, f"{taker.probe.signals - at} signals came")


@_rule("3.8", "demand adds up, from whichever thread it comes")
async def _additive(lab: Lab) -> None:
    taker = await _taking(lab, await lab.make())
    for _ in range(2):
        taker.subscription.request(1)
    asking = [lab.thread(lambda: [taker.subscription.request(1) for _ in range(4)]) for _ in range(2)]
    await lab.joined(asking)
    await _got(lab, taker, 10)
    taker.subscription.cancel()


@_rule("3.9", "what is no demand, 0 or less, is told by on_error")
async def _no_demand(lab: Lab) -> None:
    for demand in (0, -1):
        taker = await _taking(lab, await lab.endless())
        try:
            taker.subscription.request(demand)
        except Exception as error:
            raise Broken(f"request({demand}) raised {error!r} instead") from error
        await lab.ended(taker.probe)
        lab.must(isinstance(taker.probe.ends[0], ValueError), f"it ended with {taker.probe.ends[0]!r}, no ValueError")
        await lab.nothing_left()


@_rule("3.12", "cancelled, it closes what it had opened")
async def _closes(lab: Lab) -> None:
    for ask in (0, 1):
        taker = await _taking(lab, await lab.endless(), ask)
        await (lab.begun(taker.probe) if ask else lab.calm())
        taker.subscription.cancel()
        await lab.nothing_left()


@_rule("3.13", "who has cancelled is held by nobody, although its subscription is kept")
async def _forgets(lab: Lab) -> None:
    gone, _kept = await _cancelled_one(lab, await lab.endless())
    for generation in (1, 2, 2, 2, 2):  # of what is old there is much
        await lab.calm()
        gc.collect(generation)
        if gone() is None:
            return
    raise Broken("it still holds its subscriber")


async def _cancelled_one(lab: Lab, publisher: Any) -> tuple[weakref.ref[_Taker], Any]:
    taker = await _taking(lab, publisher, 1)
    await lab.begun(taker.probe)
    taker.subscription.cancel()
    return weakref.ref(taker), taker.subscription


@_rule("3.17", "all there is may be asked for: math.inf, None, and more than once")
async def _unbounded(lab: Lab) -> None:
    expected = (await _whole(lab, await lab.make())).probe
    for demand in (None, 2**63 - 1):
        taker = await _taking(lab, await lab.make(), demand)
        taker.subscription.request(demand)
        await lab.ended(taker.probe)
        lab.same(taker.probe, expected, whose=f"the items that request({demand}) gave")
