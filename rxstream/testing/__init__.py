"""Tools for tests of what streams: does a source keep the rules? See `rxstream.testing.verify`."""

from __future__ import annotations

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

__all__ = [
    "Check",
    "CheckResult",
    "ContractViolation",
    "Verification",
    "publisher_checks",
    "source_checks",
    "verify_publisher",
    "verify_source",
]
