"""How long a model usually takes to its first output: learned from its own answers, in constant memory.

Rules of this module:

* A quantile is estimated by the P² algorithm: five numbers, whatever the number of samples (R. Jain and I. Chlamtac, "The
  P² algorithm for dynamic calculation of quantiles and histograms without storing observations", CACM 28, 1985).
* Old samples are forgotten: two estimates run half a window apart, and the older one is asked until its window is full.
* Nothing is said before there are enough samples. Any thread may observe and ask.
"""

from __future__ import annotations

import math
import threading
from typing import Final

from rxstream._check import at_least, count, finite
from rxstream.errors import ConfigurationError

__all__ = ["LatencyQuantile"]

_MARKERS: Final = 5


class LatencyQuantile:
    """A quantile of times, learned from samples of them; one object for all calls of one model.

    Example:
        >>> times = LatencyQuantile(0.9, min_samples=10)
        >>> times.observe(1.0)
        >>> print(times.value)
        None
        >>> for hundredths in range(100):
        ...     times.observe(hundredths / 100)
        >>> 0.85 < times.value < 0.95
        True

    Args:
        quantile: Which one, between 0 and 1: 0.95 is the time that 19 of 20 calls stay under.
        min_samples: How many samples it takes before the estimate counts, at least 5.
        fallback: Seconds to give before that; None for no answer.
        window: How many samples are remembered: the estimate is of the last half window at least, of a window at most.

    Raises:
        ConfigurationError: an option is out of its range.
    """

    def __init__(
        self, quantile: float = 0.95, *, min_samples: int = 20, fallback: float | None = None, window: int = 1000
    ) -> None:
        if not 0 < finite("quantile", quantile) < 1:
            raise ConfigurationError(f"quantile={quantile!r}: must be between 0 and 1")
        self.quantile = quantile
        self.min_samples = count("min_samples", min_samples, least=_MARKERS)
        self.window = count("window", window, least=2 * min_samples)
        self.fallback = None if fallback is None else at_least("fallback", fallback)
        self._lock = threading.Lock()
        self._older, self._newer = _Estimate(quantile), _Estimate(quantile)
        self._samples = 0

    def observe(self, seconds: float) -> None:
        """Learn from one more time; what is no finite number is left out."""
        if not math.isfinite(seconds):
            return
        with self._lock:
            self._samples += 1
            self._older.add(seconds)
            if self._older.samples > self.window // 2:
                self._newer.add(seconds)
            if self._older.samples >= self.window:
                self._older, self._newer = self._newer, _Estimate(self.quantile)

    @property
    def samples(self) -> int:
        """How many were observed."""
        return self._samples

    @property
    def value(self) -> float | None:
        """Seconds, or None while too little is known and there is no fallback."""
        with self._lock:
            if self._samples < self.min_samples:
                return self.fallback
            return self._older.value

    def __repr__(self) -> str:
        """What it knows."""
        return f"<LatencyQuantile {self.quantile:g} of {self._samples} samples: {self.value}>"


class _Estimate:
    """The P² algorithm: the heights of five markers, which move with the samples."""

    def __init__(self, quantile: float) -> None:
        self.samples = 0
        self._quantile = quantile
        self._heights: list[float] = []
        self._places = [0.0, 1.0, 2.0, 3.0, 4.0]
        self._wanted = [0.0, 2 * quantile, 4 * quantile, 2 + 2 * quantile, 4.0]
        self._steps = (0.0, quantile / 2, quantile, (1 + quantile) / 2, 1.0)

    @property
    def value(self) -> float:
        """The estimate; asked for only if there are five samples at least."""
        return self._heights[2]

    def add(self, sample: float) -> None:
        self.samples += 1
        heights = self._heights
        if len(heights) < _MARKERS:
            heights.append(sample)
            heights.sort()
            return
        heights[0], heights[4] = min(heights[0], sample), max(heights[4], sample)
        for index in range(1, _MARKERS):
            if sample < heights[index] or index == 4:
                self._places[index] += 1
            self._wanted[index] += self._steps[index]
        for index in (1, 2, 3):
            self._adjust(index)

    def _adjust(self, index: int) -> None:
        """Move a marker by one place towards where it should stand, if there is room."""
        below, here, above = self._places[index - 1 : index + 2]
        gap = self._wanted[index] - here
        if not ((gap >= 1 and above - here > 1) or (gap <= -1 and here - below > 1)):
            return
        step = math.copysign(1.0, gap)
        low, height, high = self._heights[index - 1 : index + 2]
        moved = height + step / (above - below) * (
            (here - below + step) * (high - height) / (above - here)
            + (above - here - step) * (height - low) / (here - below)
        )
        if not low < moved < high:
            to, place = (high, above) if step > 0 else (low, below)
            moved = height + step * (to - height) / (place - here)
        self._heights[index] = moved
        self._places[index] = here + step
