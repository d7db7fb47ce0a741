"""`LatencyQuantile`: near the true quantile, in constant memory, and it forgets."""

from __future__ import annotations

import math
import random
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import ConfigurationError
from rxstream.latency import LatencyQuantile

SHAPES = {
    "uniform": lambda dice: dice.uniform(0.2, 3.0),
    "exponential": lambda dice: dice.expovariate(2.0),
    "log-normal": lambda dice: dice.lognormvariate(-0.5, 0.6),
    "two humps": lambda dice: dice.gauss(0.5, 0.05) if dice.random() < 0.7 else dice.gauss(4.0, 0.5),
}


def share_below(samples: list[float], value: float) -> float:
    return sum(sample < value for sample in samples) / len(samples)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_near_the_true_quantile(shape: str, quantile: float) -> None:
    """So many of the samples are below it, give or take 2 in 100."""
    dice = random.Random(7)  # noqa: S311 - no secret
    samples = [SHAPES[shape](dice) for _ in range(4000)]
    times = LatencyQuantile(quantile, window=100_000)
    for sample in samples:
        times.observe(sample)
    assert times.value is not None
    assert share_below(samples, times.value) == pytest.approx(quantile, abs=0.02)


def test_the_worked_example_of_the_paper() -> None:
    """The 20 observations of Jain and Chlamtac's table, median."""
    observations = [
        *(0.02, 0.15, 0.74, 3.39, 0.83, 22.37, 10.15, 15.43, 38.62, 15.92),
        *(34.60, 10.28, 1.47, 0.40, 0.05, 11.39, 0.27, 0.42, 0.09, 11.37),
    ]
    times = LatencyQuantile(0.5, min_samples=20)
    for seconds in observations:
        times.observe(seconds)
    assert times.value == pytest.approx(4.44, abs=0.005)


@given(
    st.lists(st.floats(0, 1e6), min_size=5, max_size=200),
    st.floats(0.01, 0.99),
    st.integers(10, 40),
)
def test_it_stays_among_the_samples(samples: list[float], quantile: float, window: int) -> None:
    times = LatencyQuantile(quantile, min_samples=5, window=window)
    for seen, sample in enumerate(samples, 1):
        times.observe(sample)
        value = times.value
        assert (value is None) == (seen < 5)
        if value is not None:
            remembered = samples[max(0, seen - window) : seen]
            assert min(remembered) <= value <= max(remembered)


def test_before_there_are_enough_samples_it_gives_the_fallback() -> None:
    times = LatencyQuantile(min_samples=6, fallback=2.5)
    for _ in range(5):
        times.observe(1.0)
        assert times.value == 2.5
    times.observe(1.0)
    assert (times.value, times.samples) == (1.0, 6)


def test_what_is_no_number_teaches_nothing() -> None:
    times = LatencyQuantile()
    times.observe(math.nan)
    times.observe(math.inf)
    assert times.samples == 0


def test_it_forgets() -> None:
    """After a window of other times nothing is left of those before."""
    times = LatencyQuantile(0.5, min_samples=10, window=100)
    for _ in range(1000):
        times.observe(1.0)
    for _ in range(100):
        times.observe(9.0)
    assert times.value == 9.0


def test_its_memory_is_constant() -> None:
    def size(thing: object) -> int:
        parts = (
            vars(thing).values() if hasattr(thing, "__dict__") else thing if isinstance(thing, (list, tuple)) else ()
        )
        return sys.getsizeof(thing) + sum(size(part) for part in parts)

    times = LatencyQuantile(window=64)
    for number in range(64):
        times.observe(number / 10)
    before = size(times)
    for number in range(6400):
        times.observe(number % 97 / 10)
    assert size(times) < before + 500


def test_many_threads_may_observe() -> None:
    times = LatencyQuantile(0.5, window=100_000)

    def observe() -> None:
        for _ in range(500):
            times.observe(1.0)

    threads = [threading.Thread(target=observe) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (times.samples, times.value) == (4000, 1.0)


def test_it_says_what_it_knows() -> None:
    assert repr(LatencyQuantile(0.9, fallback=1.5)) == "<LatencyQuantile 0.9 of 0 samples: 1.5>"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quantile", 0),
        ("quantile", 1),
        ("quantile", math.nan),
        ("quantile", "0.9"),
        ("min_samples", 4),
        ("window", 39),
        ("fallback", -1),
    ],
)
def test_an_option_out_of_its_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=name):
        LatencyQuantile(**{name: value})  # type: ignore[arg-type]
