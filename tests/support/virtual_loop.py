"""Virtual time, where most tests look for it."""

from __future__ import annotations

from rxstream.testing.virtual import VirtualLoop, settle, virtual_time

__all__ = ["VirtualLoop", "settle", "virtual_time"]
