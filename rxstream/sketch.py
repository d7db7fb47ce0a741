"""Quantiles of very many numbers, in a size that does not grow with them.

Rules of this module:

* Any quantile is within `Sketch.error` of the true one, relative to it, whatever the numbers are: a sketch counts them in buckets whose
  bounds grow by a constant factor (C. Masson, J. Rim and H. Lee, "DDSketch", PVLDB 12, 2019).
* It has at most as many buckets as there are between `SMALLEST` and `LARGEST`: 1,727 at one percent. What is smaller counts as
  0, what is larger as the largest.
* Merging loses nothing: the sketch of two streams is that of all their numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Final

from rxstream._check import finite, kind_of
from rxstream.errors import ConfigurationError

__all__ = ["LARGEST", "SMALLEST", "Sketch"]

SMALLEST: Final = 1e-6
LARGEST: Final = 1e9


class Sketch:
    """How some numbers of at least 0 are distributed. It belongs to one thread at a time.

    Example:
        >>> sketch = Sketch()
        >>> for number in range(1, 1001):
        ...     sketch.add(number / 1000)
        >>> sketch.count, f"{sketch.quantile(0.5):.2f}", f"{sketch.quantile(0.99):.2f}"
        (1000, '0.50', '0.99')

    Args:
        error: How far a quantile may be from the true one, relative to it.

    Raises:
        ConfigurationError: `error` is not between 0.0001 and 0.5.
    """

    __slots__ = ("_growth", "buckets", "error", "scale", "shift", "zeros")

    def __init__(self, error: float = 0.01) -> None:
        if not 0.0001 <= finite("error", error) <= 0.5:
            raise ConfigurationError(f"error={error!r}: must be between 0.0001 and 0.5")
        self.error = error
        self._growth = (1 + error) / (1 - error)
        self.scale = 1 / math.log(self._growth)
        """A number's bucket is ``int(log(number) * scale + shift)``: who counts on a hot path does so himself."""
        self.shift = -math.log(SMALLEST) * self.scale
        self.buckets: dict[int, int] = {}
        """How many numbers are in each bucket."""
        self.zeros = 0
        """How many are no larger than `SMALLEST`."""

    @property
    def count(self) -> int:
        """How many numbers there were."""
        return self.zeros + sum(self.buckets.values())

    @property
    def mean(self) -> float | None:
        """Their mean, within `error`; None of none."""
        total = self.count
        return sum(self.value_of(bucket) * many for bucket, many in self.buckets.items()) / total if total else None

    def add(self, number: float, times: int = 1) -> None:
        """Count `number`, as often as it came; what is below 0, or no finite number, is left out."""
        if SMALLEST < number < math.inf:
            bucket = int(math.log(min(number, LARGEST)) * self.scale + self.shift)
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        elif 0 <= number <= SMALLEST:
            self.zeros += times

    def merge(self, other: Sketch) -> None:
        """Count all that `other` has counted.

        Raises:
            ConfigurationError: it is no sketch, or of another `error`.
        """
        if not isinstance(other, Sketch):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"merge() gets {kind_of(other)}: must be a Sketch")
        if other.error != self.error:
            raise ConfigurationError(f"a sketch of error {other.error:g} cannot be merged into one of {self.error:g}")
        self.zeros += other.zeros
        for bucket, many in tuple(other.buckets.items()):
            self.buckets[bucket] = self.buckets.get(bucket, 0) + many

    def copy(self) -> Sketch:
        """One that goes its own way from here."""
        twin = Sketch(self.error)
        twin.merge(self)
        return twin

    def value_of(self, bucket: int) -> float:
        """The number that stands for those of `bucket`."""
        return math.exp((bucket + 1 - self.shift) / self.scale) * 2 / (self._growth + 1)

    def quantile(self, share: float) -> float | None:
        """The number that `share` of all are no larger than; None of none.

        Raises:
            ConfigurationError: `share` is not between 0 and 1.
        """
        if not 0 <= finite("share", share) <= 1:
            raise ConfigurationError(f"share={share!r}: must be between 0 and 1")
        total = self.count
        if not total:
            return None
        rank = max(1, math.ceil(share * total))
        if (rank - 1) / total >= share > 0:  # 0.07 of a hundred are seven, though a float makes it a little more
            rank -= 1
        rank -= self.zeros
        if rank <= 0:
            return 0.0
        counted = itertools.accumulate(many for _, many in self.values())
        return next(value for (value, _), most in zip(self.values(), counted, strict=True) if most >= rank)

    def values(self) -> Iterator[tuple[float, int]]:
        """The numbers greater than 0, ascending, each as the one that stands for its bucket, and how often it came."""
        return ((self.value_of(bucket), self.buckets[bucket]) for bucket in sorted(self.buckets))

    def __eq__(self, other: object) -> bool:
        """Whether both have counted the same."""
        if not isinstance(other, Sketch):
            return NotImplemented
        return (self.error, self.zeros, self.buckets) == (other.error, other.zeros, other.buckets)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        """How many, and the middle."""
        return f"<Sketch of {self.count}, median {self.quantile(0.5)}>"
