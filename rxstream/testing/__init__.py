"""Tools for tests of what streams: time that costs nothing, sources by script, and rules to hold one's own parts against.

A name is loaded when it is first used, so that the plugin of pytest costs nothing where it is not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rxstream.testing.assertions import assert_stream
    from rxstream.testing.cassettes import Cassette
    from rxstream.testing.chaos import ChaosServer
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
    "Cassette",
    "ChaosServer",
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

_HOMES = {
    "DONE": "scripted",
    "HANG": "scripted",
    "MISBEHAVIOURS": "misbehaviours",
    "Cassette": "cassettes",
    "ChaosServer": "chaos",
    "Check": "verify",
    "CheckResult": "verify",
    "ContractViolation": "verify",
    "Misbehaviour": "misbehaviours",
    "Recorder": "scripted",
    "Scripted": "scripted",
    "Verification": "verify",
    "VirtualLoop": "virtual",
    "assert_stream": "assertions",
    "draw": "marbles",
    "from_marbles": "marbles",
    "misbehaving": "misbehaviours",
    "numbered": "scripted",
    "publisher_checks": "verify",
    "raising": "scripted",
    "run_virtual": "virtual",
    "settle": "virtual",
    "source_checks": "verify",
    "verify_decoder": "decoders",
    "verify_operator": "operators",
    "verify_publisher": "verify",
    "verify_source": "verify",
    "virtual_time": "virtual",
    "words": "scripted",
}
"""In which module of this package a name is."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
