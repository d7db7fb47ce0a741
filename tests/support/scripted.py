"""Scripted sources, where most tests look for them."""

from __future__ import annotations

from rxstream.testing.scripted import DONE, HANG, Piece, Recorder, Scripted, Step, numbered, raising, words

__all__ = ["DONE", "HANG", "Piece", "Recorder", "Scripted", "Step", "numbered", "raising", "words"]
