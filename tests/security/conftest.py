"""Before the first test of this folder the SDKs are loaded: neither clocks nor counts of memory are to include that."""

from __future__ import annotations

import pytest

from rxstream.sources._clients import load


@pytest.fixture(scope="session", autouse=True)
def _sdks() -> None:
    load("openai")
    load("anthropic")
