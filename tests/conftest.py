"""Fixtures of the whole suite."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from rxstream import budget
from rxstream.sources.local import LocalServer, missing

# A busy machine is not a fault of the example. Each run tries others: what one does not find the next may.
settings.register_profile("suite", deadline=None, max_examples=60)
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests are here to stay: a collection of garbage, of which some tests make many, need not look at them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_runtest_setup() -> None:
    """What one test has spent of the process's own budgets for further requests, the next has still."""
    budget._shared.clear()


@pytest.fixture(scope="session")
def local_server() -> Iterator[LocalServer]:
    """The local model, started once for all tests; they are skipped where it is not installed, but fail in CI."""
    if (lacking := missing()) is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacking)
    with LocalServer() as server:
        yield server
