"""Tapes: streams written down as JSON Lines, and read again. See `rxstream.tape` and `rxstream.operators.record`."""

from rxstream.tapes._writer import flush
from rxstream.tapes.read import Tape, load

__all__ = ["Tape", "flush", "load"]
