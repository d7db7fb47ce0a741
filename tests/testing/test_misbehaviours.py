"""Each misbehaviour is caught by the rule that it names, and breaks no other without need."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from reactivex import operators as ops

from rxstream import operators as rxo
from rxstream.errors import ConfigurationError, Disconnected, TimedOut
from rxstream.events import Finished, TextDelta
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.testing import MISBEHAVIOURS, CheckResult, Misbehaviour, Recorder, misbehaving, source_checks
from rxstream.testing import misbehaviours as module
from rxstream.testing.virtual import settle, virtual_time
from tests.support.faults import ALSO_BROKEN

PATIENCE = 0.15
"""Seconds: what is faulty may be found so by its slowness, too."""


def results(made: Misbehaviour, rule: str = "", *, patience: float = PATIENCE) -> list[CheckResult]:
    checks = source_checks(
        made, fails=made.failing, endless=made.endless, opens=lambda: made.open, many=200, patience=patience
    )
    return [check.result() for check in checks if rule in ("", check.rule.number)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("name", "rule"),
    [(name, rule) for name in MISBEHAVIOURS for rule in (MISBEHAVIOURS[name], *ALSO_BROKEN.get(name, ()))],
)
def test_it_is_caught_by_the_rules_that_it_breaks(name: str, rule: str) -> None:
    assert "failed" in [result.outcome for result in results(misbehaving(name), rule)]


def test_without_its_fault_it_would_keep_every_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is the fault that is caught."""
    monkeypatch.setitem(module._RUNS, "behaves", module._Run)
    found = results(Misbehaviour("behaves", ""), patience=10.0)
    assert [result for result in found if result.outcome == "failed"] == []


def test_there_is_one_line_a_name_in_the_table() -> None:
    told = [line.split("``")[1] for line in (module.__doc__ or "").splitlines() if line.startswith("``")]
    assert told == list(MISBEHAVIOURS)


def test_there_are_no_others() -> None:
    with pytest.raises(ConfigurationError, match="ignores_dispose"):
        misbehaving("ignores_disposal")


@virtual_time
async def test_it_says_what_it_is_to_say_and_is_cold() -> None:
    made = misbehaving("leaves_it_open")
    source = made(3)
    for _ in range(2):
        recorder = Recorder()
        source.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler())
        await settle()
        assert recorder.texts == ["0 ", "1 ", "2 "]
        assert isinstance(recorder.items[-1], Finished)
        assert recorder.completed
    assert made.open == 2
    failing = Recorder()
    made.failing().subscribe(failing.on_next, failing.on_error, scheduler=LoopScheduler())
    await settle()
    assert (len(failing.items), type(failing.error)) == (5, Disconnected)
    endless = Recorder()
    subscription = made.endless().subscribe(on_next=endless.on_next, scheduler=LoopScheduler())
    await asyncio.sleep(10)
    assert (len(endless.items), endless.ended_at) == (300, None)
    subscription.dispose()


@virtual_time
async def test_bare_functions_see_what_a_guard_would_silence() -> None:
    recorder = Recorder()
    raised: list[AssertionError] = []

    def late(item: Any) -> None:
        try:
            recorder.on_next(item)
        except AssertionError as error:
            raised.append(error)

    made = misbehaving("emits_after_the_end")
    made(1).subscribe(late, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler())
    await settle()
    assert len(raised) == 1
    seen: list[Any] = []
    made(1).pipe(ops.map(lambda item: item)).subscribe(seen.append, scheduler=LoopScheduler())
    await settle()
    assert [type(item) for item in seen] == [TextDelta, Finished]


async def test_an_operator_of_ours_brings_it_back_to_the_loop() -> None:
    threads: set[int] = set()
    done = asyncio.Event()
    misbehaving("emits_in_a_thread")(20).pipe(rxo.observe_on_loop()).subscribe(
        lambda _: threads.add(threading.get_ident()), on_completed=done.set, scheduler=LoopScheduler()
    )
    await asyncio.wait_for(done.wait(), 10)
    assert threads == {threading.get_ident()}


@virtual_time
async def test_operators_of_ours_stand_what_never_ends_and_what_hears_no_gate() -> None:
    ended, held = Recorder(), Recorder()
    misbehaving("never_ends")(2).pipe(rxo.timeouts(idle=30)).subscribe(
        ended.on_next, ended.on_error, ended.on_completed, scheduler=LoopScheduler()
    )
    scheduler = LoopScheduler(gate=Gate())
    scheduler.gate.hold("test")
    misbehaving("ignores_its_gate")(5).pipe(rxo.on_backpressure_buffer(2)).subscribe(
        held.on_next, held.on_error, held.on_completed, scheduler=scheduler
    )
    await asyncio.sleep(100)
    assert isinstance(ended.error, TimedOut)
    assert held.items == []
    scheduler.gate.release("test")
    await settle()
    assert held.completed or held.error is not None
