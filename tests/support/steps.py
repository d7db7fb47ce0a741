"""The steps of a scripted answer and the `Signal`, where most tests look for them."""

from __future__ import annotations

from rxstream.testing.chaos import CLOSE, END, HALF_CLOSE, HANG, RESET, Ending, Head, Signal, Step, Tell, Wait, Wire
from rxstream.testing.chaos._steps import PATIENCE

__all__ = [
    "CLOSE",
    "END",
    "HALF_CLOSE",
    "HANG",
    "PATIENCE",
    "RESET",
    "Ending",
    "Head",
    "Signal",
    "Step",
    "Tell",
    "Wait",
    "Wire",
]
