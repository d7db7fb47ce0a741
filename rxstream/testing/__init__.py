"""Tools for tests of what streams: time that costs nothing, sources by script, and rules to hold one's own parts against."""

from __future__ import annotations

from rxstream.testing.assertions import assert_stream
from rxstream.testing.decoders import verify_decoder
from rxstream.testing.marbles import draw, from_marbles
from rxstream.testing.misbehaviours import MISBEHAVIOURS, Misbehaviour, misbehaving
from rxstream.testing.operators import verify_operator
from rxstream.testing.scripted import DONE, HANG, Recorder, Scripted, numbered, raising, words
from rxstream.testing.verify import (
    Check,
    CheckResult,
    ContractViolation,
    Verification,
    publisher_checks,
    source_checks,
    verify_publisher,
    verify_source,
)
from rxstream.testing.virtual import VirtualLoop, run_virtual, settle, virtual_time

__all__ = [
    "DONE",
    "HANG",
    "MISBEHAVIOURS",
    "Check",
    "CheckResult",
    "ContractViolation",
    "Misbehaviour",
    "Recorder",
    "Scripted",
    "Verification",
    "VirtualLoop",
    "assert_stream",
    "draw",
    "from_marbles",
    "misbehaving",
    "numbered",
    "publisher_checks",
    "raising",
    "run_virtual",
    "settle",
    "source_checks",
    "verify_decoder",
    "verify_operator",
    "verify_publisher",
    "verify_source",
    "virtual_time",
    "words",
]
