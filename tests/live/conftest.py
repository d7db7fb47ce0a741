"""Before the first test of this folder the SDKs are loaded, which takes seconds on a busy machine: no clock counts them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from rxstream.sources._clients import load
from tests.support.live import TRANSPORTS, Transport, no_task_left


@pytest.fixture(scope="session", autouse=True)
def _sdks() -> None:
    load("openai")
    load("anthropic")


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    """Each of them."""
    chosen: Transport = request.param
    return chosen


@pytest.fixture
async def nothing_goes_on() -> AsyncIterator[None]:
    """When the test is over, no task is left."""
    yield
    await no_task_left()
