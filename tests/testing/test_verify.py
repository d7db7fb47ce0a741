"""The kit finds each fault by its rule, and none where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import subprocess
import sys
import threading
import unittest
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.subject import Subject

from rxstream.errors import ConfigurationError
from rxstream.testing import (
    MISBEHAVIOURS,
    Check,
    CheckResult,
    ContractViolation,
    Verification,
    publisher_checks,
    source_checks,
    verify_publisher,
    verify_source,
)
from tests.support.faults import ALSO_BROKEN, GivesItemsOnce, Numbers, Run, faults_of
from tests.support.faulty_publishers import MANY, FaultyPublisher

PATIENCE = 0.15
"""Seconds: what is faulty may be found so by its slowness, too."""


def checks_of(run: type[Run], **options: Any) -> list[Check]:
    numbers = Numbers(run)
    return source_checks(
        numbers,
        fails=numbers.failing,
        endless=numbers.endless,
        opens=lambda: numbers.open,
        **{"many": MANY, "patience": PATIENCE, **options},
    )


def publishers(kind: type[FaultyPublisher], *, patience: float = PATIENCE) -> list[Check]:
    numbers = kind.numbers = Numbers(Run)
    return publisher_checks(
        lambda count: kind(numbers(count)),  # type: ignore[arg-type, return-value]
        fails=lambda: kind(numbers.failing()),  # type: ignore[arg-type, return-value]
        endless=lambda: kind(numbers.endless()),  # type: ignore[arg-type, return-value]
        opens=lambda: numbers.open,
        many=MANY,
        patience=patience,
    )


def results(checks: list[Check], rule: str) -> list[CheckResult]:
    return [check.result() for check in checks if check.rule.number == rule]


def detail(checks: list[Check], rule: str) -> str:
    """How the rule is broken; fails if it is not."""
    [found] = [result for result in results(checks, rule) if result.outcome != "not applicable"]
    assert found.outcome == "failed", f"{rule} was not found broken"
    return found.detail


# --- sources --------------------------------------------------------------------------------------------------------------


def test_a_source_that_keeps_all_rules_passes() -> None:
    found = [check.result() for check in checks_of(Run, patience=10.0)]
    assert [result for result in found if result.outcome == "failed"] == []
    assert [(result.rule, result.detail) for result in found if result.outcome == "not applicable"] == [
        ("1.10", "it can be subscribed to again"),
        ("G.4", "its items are no events"),
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(("rule", "fault"), faults_of(Run), ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_is_found_by_its_rule(rule: str, fault: type[Run]) -> None:
    assert detail(checks_of(fault), rule)


def test_every_rule_finds_a_fault() -> None:
    """A rule that nothing can break is not tested."""
    broken = {rule for rule, _ in faults_of(Run)} | set(MISBEHAVIOURS.values()) | set(chain(*ALSO_BROKEN.values()))
    assert {check.rule.number for check in checks_of(Run)} == broken


def test_a_source_that_blocks_the_loop_is_found_out() -> None:
    """And the kit comes back, although the source never does."""
    released = threading.Event()

    class Blocking(Run):
        async def body(self) -> None:
            released.wait(20)

    try:
        assert "blocked" in detail(checks_of(Blocking, patience=0.05), "1.3")
    finally:
        released.set()


def test_of_a_source_that_can_be_subscribed_once_the_refusal_is_asked_for() -> None:
    class Single(Run):
        def start(self) -> abc.DisposableBase:
            if self.shared.setdefault("used", False):
                self.end, self.count = "fail", 0
            self.shared["used"] = True
            return super().start()

    class Raising(Single):
        def start(self) -> abc.DisposableBase:
            if self.shared.get("used"):
                raise RuntimeError("used")
            return super().start()

    assert [result.outcome for result in results(checks_of(Single, cold=False), "1.10")] == ["not applicable", "passed"]
    assert "gave something again" in detail(checks_of(Run, cold=False), "1.10")
    assert "raised" in detail(checks_of(Raising, cold=False), "1.10")


# --- of RxPY --------------------------------------------------------------------------------------------------------------


def pushed_by_threads(count: int) -> Observable[int]:
    """A Subject that two threads push into."""
    subject: Subject[int] = Subject()

    def subscribe(observer: abc.ObserverBase[int], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        subscription = subject.subscribe(observer, scheduler=scheduler)

        def push() -> None:
            for number in range(count):
                subject.on_next(number)

        def run() -> None:
            threads = [threading.Thread(target=push, daemon=True) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            subject.on_completed()

        threading.Thread(target=run, daemon=True).start()
        return subscription

    return Observable(subscribe)


STOCK: list[tuple[str, str, Callable[[int], Observable[Any]]]] = [
    ("a Subject that threads push into is not serial", "1.3", pushed_by_threads),
    (
        "a timer without a scheduler comes in a thread of its own",
        "2.11",
        lambda count: rx.timer(0.001).pipe(ops.repeat(count or 1)),
    ),
    ("from_iterable gives all in one turn of the loop", "2.2", lambda count: rx.from_iterable(range(count))),
    ("from_iterable cannot be held", "G.1", lambda count: rx.from_iterable(range(count))),
    ("share hands the fault of one to the others", "2.13", lambda count: Numbers(Run)(count).pipe(ops.share())),
]


@pytest.mark.parametrize(("rule", "make"), [pytest.param(*case, id=said) for said, *case in STOCK])
def test_what_rxpy_does_not_promise_is_found(rule: str, make: Callable[[int], Observable[Any]]) -> None:
    def with_its_own_scheduler(count: int) -> Observable[Any]:
        inner = make(count)

        def subscribe(observer: abc.ObserverBase[Any], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            return inner.subscribe(observer)

        return Observable(subscribe)

    factory = with_its_own_scheduler if rule == "2.11" else make
    assert detail(source_checks(factory, many=50, patience=2.0, guarded=True), rule)


def test_behind_rxpys_guard_what_it_silences_is_not_seen() -> None:
    for rule in ("1.4", "1.7"):
        assert all(result.outcome != "failed" for result in results(checks_of(FailsTwice, guarded=True), rule))


class FailsTwice(Run):
    """After the end it fails, too."""

    def finish(self) -> None:
        super().finish()
        self.observer.on_error(ValueError("again"))


# --- publishers -----------------------------------------------------------------------------------------------------------


def test_a_publisher_that_keeps_all_rules_passes() -> None:
    found = [check.result() for check in publishers(FaultyPublisher, patience=10.0)]
    assert [result for result in found if result.outcome != "passed"] == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("rule", "fault"), faults_of(FaultyPublisher), ids=lambda value: getattr(value, "__name__", value)
)
def test_a_publishers_fault_is_found_by_its_rule(rule: str, fault: type[FaultyPublisher]) -> None:
    assert detail(publishers(fault), rule)


def test_every_rule_of_publishers_finds_a_fault() -> None:
    broken = {rule for rule, _ in faults_of(FaultyPublisher)}
    assert {check.rule.number for check in publishers(FaultyPublisher)} == broken


# --- what it tells --------------------------------------------------------------------------------------------------------


def test_all_that_is_broken_is_told_at_once_with_numbers_and_reasons() -> None:
    numbers = Numbers(GivesItemsOnce)
    with pytest.raises(ContractViolation) as caught:
        verify_source(numbers, many=MANY, patience=0.5)
    told = str(caught.value)
    verification = caught.value.verification
    assert isinstance(caught.value, AssertionError)
    assert not verification.passed
    assert told.startswith(f"{len(verification.broken)} rules broken, ")
    assert str(Verification(verification.broken[:1])).startswith("1 rule broken, ")
    lines = told.splitlines()[1:]
    assert len(lines) == len(verification.results)
    for line, result in zip(lines, verification.broken, strict=False):
        assert line.split()[:2] == [result.rule, "FAILED"]
        assert result.means in line
        assert result.detail in line


def test_what_is_kept_is_told_too() -> None:
    verification = Verification(
        (CheckResult("1.3", "one at a time", "passed"), CheckResult("1.6", "x", "not applicable", "why"))
    )
    assert verification.passed
    assert str(verification).splitlines() == [
        "0 rules broken, 1 kept, 1 not applicable",
        "  1.3   PASSED          one at a time",
        "  1.6   NOT APPLICABLE  x -- why",
    ]


def test_a_check_is_a_test_of_its_own() -> None:
    kept, lacking = (
        next(c for c in source_checks(Numbers(Run), many=10) if c.rule.number == n) for n in ("1.9", "1.4")
    )
    kept()
    assert str(kept) == "1.9 subscribing returns normally, whatever"
    with pytest.raises(unittest.SkipTest, match="no fails= was given"):
        lacking()
    broken = next(check for check in checks_of(FailsTwice) if check.rule.number == "1.4")
    with pytest.raises(ContractViolation, match="it ended 2 times"):
        broken()


def test_a_rule_that_need_not_be_kept_is_not_tried() -> None:
    checks = checks_of(FailsTwice, exempt={"1.4": "it is known to fail twice"})
    assert [(result.outcome, result.detail) for result in results(checks, "1.4")] == [
        ("not applicable", "it is known to fail twice")
    ]


@pytest.mark.parametrize("verify", [verify_source, verify_publisher])
def test_who_makes_all_checks_is_called_so(verify: Callable[..., Verification]) -> None:
    assert verify.__name__.startswith("verify_")
    assert "Make every check" in (verify.__doc__ or "")


def test_rules_stand_in_their_order() -> None:
    numbers = [check.rule.number for check in checks_of(Run)]
    assert numbers == sorted(numbers, key=lambda number: (number.split(".")[0], int(number.split(".")[1])))
    assert numbers[0] == "1.3"
    assert numbers[-1] == "G.5"


@pytest.mark.parametrize(
    ("options", "named"),
    [({"many": 9}, "many=9"), ({"patience": 0}, "patience=0"), ({"opens": 7}, "opens=7"), ({"key": None}, "key=None")],
)
@pytest.mark.parametrize("make", [source_checks, publisher_checks, verify_source, verify_publisher])
def test_bad_options_are_refused_by_name(make: Callable[..., Any], options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make(lambda _count: rx.never(), **options)


@pytest.mark.parametrize("make", [source_checks, publisher_checks])
def test_a_source_is_no_factory(make: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"factory=an? .*: must be a function"):
        make(rx.never())


@pytest.mark.parametrize("make", [source_checks, publisher_checks])
def test_only_rules_that_there_are_can_be_exempt(make: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"exempt='9\.9'"):
        make(lambda _count: rx.never(), exempt={"9.9": "a slip"})
    with pytest.raises(ConfigurationError, match="exempt: must be a dict"):
        make(lambda _count: rx.never(), exempt=["1.3"])


def test_a_rule_may_be_exempt_without_a_reason() -> None:
    [result] = results(checks_of(FailsTwice, exempt={"1.4": ""}), "1.4")
    assert result.outcome == "not applicable"


@pytest.mark.parametrize(
    ("factory", "error"), [(lambda count: str(count)[9], IndexError), (lambda _count: None, TypeError)]
)
@pytest.mark.parametrize("verify", [verify_source, verify_publisher])
def test_what_cannot_be_made_is_told_as_it_is(
    verify: Callable[..., Any], factory: Callable[[int], Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        verify(factory)


def test_what_makes_all_checks_gives_a_verification() -> None:
    assert inspect.signature(verify_source).return_annotation == "Verification"
    assert list(inspect.signature(verify_source).parameters) == list(inspect.signature(source_checks).parameters)


def test_a_task_that_cannot_be_cancelled_is_found_out() -> None:
    released = threading.Event()

    class Stubborn(Run):
        def close(self) -> None:
            super().close()
            self.numbers.kept.append(self.loop.create_task(self.stay()))

        async def stay(self) -> None:
            while not released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)

    try:
        assert "cannot be cancelled" in detail(checks_of(Stubborn, patience=0.1), "1.3")
        assert "a task of its own goes on" in detail(checks_of(Stubborn, patience=0.1), "G.5")
    finally:
        released.set()


def test_a_whole_experiment_has_a_limit() -> None:
    """Though no single wait in it is too long."""

    async def make(count: int) -> Observable[Any]:
        await asyncio.sleep(0.1)
        return Numbers(Run)(count)

    [check] = [check for check in source_checks(make, patience=0.05) if check.rule.number == "1.5"]
    assert check.result().detail == "all in all it took more than 0.2 s"


# --- how it works ---------------------------------------------------------------------------------------------------------


async def test_it_works_while_a_loop_is_running_and_with_coroutine_factories() -> None:
    async def make(count: int) -> Observable[Any]:
        await asyncio.sleep(0)
        return Numbers(Run)(count)

    cleaned: list[object] = []

    async def cleanup() -> None:
        cleaned.append(asyncio.get_running_loop())

    [check] = [check for check in source_checks(make, cleanup=cleanup, many=10) if check.rule.number == "1.5"]
    await asyncio.to_thread(check)
    check()
    assert len({id(loop) for loop in cleaned}) == 2


def test_pytest_is_not_needed() -> None:
    code = "import sys; sys.modules['pytest'] = None; import rxstream.testing; print(rxstream.testing.__all__[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("DONE\n", "")


def test_whoever_gives_no_disposable_gives_a_function() -> None:
    """As RxPY has it."""
    closed: list[int] = []

    def subscribe(observer: abc.ObserverBase[int], _: abc.SchedulerBase | None = None) -> Any:
        observer.on_next(1)
        return lambda: closed.append(1)

    [result] = results(source_checks(lambda _count: Observable(subscribe), many=10), "3.4")
    assert (result.outcome, closed) == ("passed", [1])
