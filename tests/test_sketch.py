"""The laws of a sketch: its error, its size, merging."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import ConfigurationError
from rxstream.sketch import LARGEST, SMALLEST, Sketch

LEAST, GROWTH = math.nextafter(SMALLEST, 1), Sketch()._growth
EDGES = st.integers(0, 1726).map(lambda bucket: min(max(SMALLEST * GROWTH**bucket, LEAST), LARGEST))
"""Between two buckets, where rounding decides."""
NUMBERS = st.lists(st.floats(LEAST, LARGEST) | EDGES, min_size=1, max_size=200)
SHARES = st.floats(min_value=0, max_value=1) | st.integers(0, 200).map(lambda part: part / 200)


def filled(numbers: list[float], error: float = 0.01) -> Sketch:
    sketch = Sketch(error)
    for number in numbers:
        sketch.add(number)
    return sketch


@given(NUMBERS, SHARES, st.sampled_from([0.001, 0.01, 0.1]))
def test_a_quantile_is_within_its_error(numbers: list[float], share: float, error: float) -> None:
    many = len(numbers)
    exact = next(one for rank, one in enumerate(sorted(numbers), 1) if rank / many >= share)
    found = filled(numbers, error).quantile(share)
    assert found is not None
    assert abs(found - exact) <= error * exact * (1 + 1e-6)


@given(NUMBERS, NUMBERS)
def test_merging_is_counting_both(left: list[float], right: list[float]) -> None:
    merged = filled(left)
    merged.merge(filled(right))
    assert merged == filled(left + right) == filled(right + left)
    assert merged.count == len(left) + len(right)


@given(NUMBERS)
def test_its_mean_is_within_its_error_too(numbers: list[float]) -> None:
    exact = sum(numbers) / len(numbers)
    mean = filled(numbers).mean
    assert mean is not None
    assert abs(mean - exact) <= 0.01 * exact * (1 + 1e-6)


@given(NUMBERS)
def test_its_values_stand_for_all_of_them_in_order(numbers: list[float]) -> None:
    told = [value for value, many in filled(numbers).values() for _ in range(many)]
    assert told == sorted(told)
    assert told == pytest.approx(sorted(numbers), rel=0.0101)


def test_its_size_is_bounded() -> None:
    sketch = Sketch()
    number = SMALLEST / 10
    while number < LARGEST * 1e6:
        sketch.add(number)
        number *= 1.003
    assert len(sketch.buckets) <= 1727
    assert max(sketch.buckets) == 1726
    assert sketch.quantile(1.0) == pytest.approx(LARGEST, rel=0.011)


def test_zero_is_zero_and_what_is_no_time_is_left_out() -> None:
    sketch = filled([0.0, 0.0, 1e-9, 5.0])
    assert (sketch.count, sketch.quantile(0.75)) == (4, 0.0)
    for strange in (-1.0, math.nan, math.inf):
        sketch.add(strange)
    assert sketch.count == 4


def test_every_percent_of_a_hundred_is_one_more() -> None:
    sketch = filled([float(number) for number in range(1, 101)], error=0.001)
    assert [round(sketch.quantile(part / 100) or 0) for part in range(1, 101)] == list(range(1, 101))


def test_nothing_is_known_of_none() -> None:
    assert (Sketch().quantile(0.5), Sketch().mean, Sketch().count) == (None, None, 0)


def test_a_copy_goes_its_own_way() -> None:
    sketch = filled([1.0])
    twin = sketch.copy()
    twin.add(2.0, times=3)
    assert (sketch.count, twin.count) == (1, 4)
    assert sketch != twin
    assert pickle.loads(pickle.dumps(sketch)) == sketch  # noqa: S301 - our own
    assert sketch != 1


def test_what_makes_no_sense_is_refused() -> None:
    for error in (0.0, 0.6, math.nan):
        with pytest.raises(ConfigurationError, match="error"):
            Sketch(error)
    with pytest.raises(ConfigurationError, match="share"):
        Sketch().quantile(1.1)
    with pytest.raises(ConfigurationError, match="cannot be merged"):
        Sketch(0.1).merge(Sketch())
    with pytest.raises(ConfigurationError, match="must be a Sketch"):
        Sketch().merge([1.0])  # type: ignore[arg-type]
    assert repr(filled([1.0])).startswith("<Sketch of 1, median 0.99")
