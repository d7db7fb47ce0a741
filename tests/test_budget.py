"""`RetryBudget`: what is earned, what is in reserve, and that neither is spent twice."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxstream.budget import RetryBudget, shared_budget
from rxstream.errors import ConfigurationError


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def spend(budget: RetryBudget) -> int:
    """All of it; how much that was."""
    taken = 0
    while budget.take():
        taken += 1
    return taken


def test_calls_earn_a_share() -> None:
    budget = RetryBudget(0.1, reserve=0, clock=Hand())
    for _ in range(10):
        assert not budget.take()
        budget.earn()
    assert [budget.take(), budget.take()] == [True, False]


def test_a_reserve_need_not_be_earned_and_fills_up_again() -> None:
    clock = Hand()
    budget = RetryBudget(0.1, reserve=10, refill=60, clock=clock)
    assert (budget.available, spend(budget)) == (10, 10)
    clock.now = 5.9
    assert not budget.take()
    clock.now = 6.0
    assert spend(budget) == 1
    clock.now = 1000.0
    assert (budget.available, spend(budget)) == (10, 10)


def test_what_was_earned_is_spent_first_and_fades() -> None:
    clock = Hand()
    budget = RetryBudget(0.5, reserve=2, refill=10, clock=clock)
    for _ in range(8):
        budget.earn()
    assert budget.take()
    assert budget.available == 5
    clock.now = 10.0
    assert budget.available == pytest.approx(2 + 3 / math.e)


def test_a_half_of_each_is_one() -> None:
    budget = RetryBudget(0.5, reserve=1.5, clock=Hand())
    budget.earn()
    assert spend(budget) == 2


def test_a_clock_that_is_set_back_gives_nothing_away() -> None:
    clock = Hand()
    budget = RetryBudget(0.5, reserve=1, refill=10, clock=clock)
    clock.now = 100.0
    assert spend(budget) == 1
    budget.earn()
    for clock.now in (0.0, 100.0, 50.0, 100.0):
        assert budget.available == 0.5


steps = st.lists(st.one_of(st.just("earn"), st.just("take"), st.floats(0.0, 30.0)), max_size=300)


@given(st.floats(0, 1), st.floats(0, 20), st.floats(1, 100), steps)
def test_the_bound_holds(share: float, reserve: float, refill: float, script: list[str | float]) -> None:
    clock, calls, taken = Hand(), 0, 0
    budget = RetryBudget(share, reserve=reserve, refill=refill, clock=clock)
    for step in script:
        if isinstance(step, float):
            clock.now += step
        elif step == "earn":
            calls += 1
            budget.earn()
        else:
            taken += budget.take()
        assert taken <= share * calls + reserve * (1 + clock.now / refill) + 1e-6
        assert budget.available >= 0


@settings(max_examples=20)
@given(st.integers(2, 8), st.integers(1, 200), st.sampled_from([0.1, 0.25, 1.0]))
def test_it_holds_for_many_threads(threads: int, calls: int, share: float) -> None:
    budget = RetryBudget(share, reserve=3, clock=lambda: 0.0)
    start, taken = threading.Barrier(threads), [0] * threads

    def work(number: int) -> None:
        start.wait()
        for _ in range(calls):
            budget.earn()
            taken[number] += budget.take()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(taken) + spend(budget) == math.floor(share * threads * calls + 3 + 1e-6)


def test_each_model_has_its_own_for_the_whole_process() -> None:
    found: list[RetryBudget] = []
    threads = [threading.Thread(target=lambda: found.append(shared_budget("test-budget a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert shared_budget("test-budget b") not in found


@pytest.mark.parametrize(
    "options",
    [{"share": -0.1}, {"share": math.nan}, {"reserve": -1}, {"reserve": math.inf}, {"refill": 0}, {"clock": 5}],
)
def test_a_budget_out_of_its_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        RetryBudget(**options)
