"""`RetryBudget`: what is earned, what is in reserve, and that neither is spent twice."""

from __future__ import annotations

from rxstream.budget import RetryBudget


def test_calls_earn_a_share() -> None:
    budget = RetryBudget(0.1, reserve=0, clock=lambda: 0.0)
    for _ in range(10):
        assert not budget.take()
        budget.earn()
    assert [budget.take(), budget.take()] == [True, False]
