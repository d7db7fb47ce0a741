"""Before the first test of this folder the SDKs are loaded, which takes seconds on a busy machine: no clock counts them."""

from __future__ import annotations

import pytest

from rxstream.sources._clients import load


@pytest.fixture(scope="session", autouse=True)
def _sdks() -> None:
    load("openai")
    load("anthropic")
