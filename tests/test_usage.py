"""Usage adds up, and never makes a number of what is unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.usage import Provenance, Usage, cut_short

_counts = st.none() | st.integers(0, 10**9)
_provenances: st.SearchStrategy[Provenance] = st.sampled_from(["reported", "partial", "estimated"])
_present = st.builds(
    Usage,
    provenance=_provenances,
    input_tokens=_counts,
    output_tokens=_counts,
    total_tokens=_counts,
    cache_read_tokens=_counts,
    cache_write_tokens=_counts,
    reasoning_tokens=_counts,
    cost=st.none() | st.integers(0, 1000).map(float),
)
_usages = st.just(Usage()) | _present


def test_a_sum() -> None:
    """Field by field; the providers' own objects cannot be added and are left out."""
    first = Usage(provenance="reported", input_tokens=1, output_tokens=2, total_tokens=3, cost=0.5, raw={"a": 1})
    second = Usage(
        provenance="reported", input_tokens=10, cache_read_tokens=5, cache_write_tokens=6, reasoning_tokens=7, raw={}
    )
    assert first + second == Usage(
        provenance="reported",
        input_tokens=11,
        output_tokens=2,
        total_tokens=3,
        cache_read_tokens=5,
        cache_write_tokens=6,
        reasoning_tokens=7,
        cost=0.5,
    )


def test_the_absence_of_usage_is_neutral() -> None:
    """It is the other's usage, its raw object included."""
    usage = Usage(provenance="reported", output_tokens=1, raw={"a": 1})
    assert usage + Usage() is usage
    assert Usage() + usage is usage


def test_unknown_is_not_zero() -> None:
    """A count that nobody reported stays None."""
    assert (Usage(provenance="reported") + Usage(provenance="reported")).output_tokens is None
    assert (Usage(provenance="reported", output_tokens=0) + Usage(provenance="reported")).output_tokens == 0


@pytest.mark.parametrize(
    ("first", "second", "weaker"),
    [
        ("reported", "reported", "reported"),
        ("reported", "partial", "partial"),
        ("reported", "estimated", "estimated"),
        ("partial", "estimated", "estimated"),
    ],
)
def test_the_weaker_provenance_wins(first: Provenance, second: Provenance, weaker: Provenance) -> None:
    """In either order."""
    assert (Usage(provenance=first) + Usage(provenance=second)).provenance == weaker
    assert (Usage(provenance=second) + Usage(provenance=first)).provenance == weaker


def test_only_usage_is_added() -> None:
    """A number is not usage."""
    with pytest.raises(TypeError):
        Usage() + 1  # type: ignore[operator]  # what it is for


@given(_usages, _usages, _usages)
def test_order_and_grouping_do_not_matter(a: Usage, b: Usage, c: Usage) -> None:
    """Addition is commutative and associative."""
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)


def test_what_was_cut_short_is_estimated_where_less_was_reported_than_came() -> None:
    estimated = Usage(provenance="estimated", output_tokens=3)
    assert cut_short(None, 3) == estimated
    begun = Usage(provenance="reported", input_tokens=9, output_tokens=1, total_tokens=10)
    assert cut_short(begun, 3) == Usage(provenance="estimated", input_tokens=9, output_tokens=3)
    assert cut_short(Usage(provenance="reported", input_tokens=9), 0).output_tokens == 0


def test_what_was_cut_short_after_it_was_reported_is_so_in_part() -> None:
    told = Usage(provenance="reported", input_tokens=9, output_tokens=5)
    assert cut_short(told, 3) == Usage(provenance="partial", input_tokens=9, output_tokens=5)
    assert cut_short(Usage(provenance="partial", output_tokens=5), 5) == Usage(provenance="partial", output_tokens=5)
