"""Tapes: streams written down as JSON Lines, and read again. See `rxstream.tape` and `rxstream.operators.record`."""
