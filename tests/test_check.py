"""What an operator is built with is refused by its name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from rxstream import _check as check
from rxstream.errors import ConfigurationError


@pytest.mark.parametrize(
    ("good", "same"),
    [
        (lambda: check.count("n", 1), 1),
        (lambda: check.count("n", 0, least=0), 0),
        (lambda: check.finite("x", -2.5), -2.5),
        (lambda: check.at_least("x", 0), 0),
        (lambda: check.at_least("x", 2, 2), 2),
        (lambda: check.positive("x", 0.001), 0.001),
        (lambda: check.one_of("how", "a", ("a", "b")), "a"),
        (lambda: check.at_most_one(a=None, b=0), None),
        (lambda: check.instance("n", 1, int), None),
        (lambda: check.instance("n", None, int), None),
        (lambda: check.at_most_one(a=None, b=None), None),
        (lambda: check.at_least_one(a=None, b=0), None),
        (lambda: check.exactly_one(a=None, b=0), None),
        (lambda: check.function("fn", len), None),
    ],
)
def test_what_is_right_passes_as_it_is(good: Callable[[], Any], same: object) -> None:
    assert good() == same


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: check.count("size", 0), "size=0: must be a whole number of at least 1"),
        (lambda: check.count("size", -1, least=0), "size=-1: must be a whole number of at least 0"),
        (lambda: check.count("size", 1.5), "size=1.5"),  # type: ignore[arg-type]
        (lambda: check.count("size", True), "size=True"),
        (lambda: check.function("fn", None), "fn=None: must be a function"),
        (lambda: check.count("size", None), "size=None"),  # type: ignore[arg-type]
        (lambda: check.finite("rate", math.nan), "rate=nan: must be a finite number"),
        (lambda: check.finite("rate", math.inf), "rate=inf"),
        (lambda: check.finite("rate", "2"), "rate='2'"),  # type: ignore[arg-type]
        (lambda: check.at_least("seconds", -0.5), "seconds=-0.5: must be at least 0"),
        (lambda: check.at_least("seconds", 1, 2.5), "seconds=1: must be at least 2.5"),
        (lambda: check.positive("seconds", 0), "seconds=0: must be greater than 0"),
        (lambda: check.positive("seconds", False), "seconds=False"),
        (lambda: check.one_of("policy", "c", ("a", "b")), "policy='c': must be one of a, b"),
        (lambda: check.at_most_one(count=1, seconds=2), "give count= or seconds=, not both"),
        (lambda: check.instance("statistics", 5, dict), "statistics=5: must be a dict"),
        (lambda: check.at_least_one(count=None, seconds=None), "give one at least of count=, seconds="),
        (lambda: check.exactly_one(count=1, seconds=2), "give count= or seconds=, not both"),
        (lambda: check.exactly_one(count=None, seconds=None), "give one of count=, seconds="),
    ],
)
def test_what_is_wrong_is_named(bad: Callable[[], Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        bad()
    assert words in str(refused.value)
