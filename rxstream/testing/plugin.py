"""The plugin of pytest, which finds it by itself where rxstream is installed.

================== =================================================================================================
fixture            what it is
================== =================================================================================================
``recorded``       a `rxstream.testing.Cassette`: what the test asks of models is answered from files
``chaos_server``   makes servers that fail on demand: ``chaos_server("Why not?", faults="reset:content=2")``
``virtual_loop``   a `rxstream.testing.VirtualLoop`; the test fails if a task is left on it
``recorder``       a `rxstream.testing.Recorder`
================== =================================================================================================

``--rxstream-record DIR`` asks the models, and writes what ``recorded`` tests are answered into DIR; without it they are
answered from the folder that the option ``rxstream_recordings`` of pytest's configuration says, ``tests/recordings`` by default.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from rxstream import testing  # which loads a name when it is used: this module is loaded by every run of pytest

__all__ = ["chaos_server", "pytest_addoption", "recorded", "recorder", "virtual_loop"]

_NAMES: Final = pytest.StashKey[dict[str, str]]()
"""Whose recordings have a name, in small letters, as some file systems know it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("rxstream")
    group.addoption(
        "--rxstream-record",
        metavar="DIR",
        default=None,
        help="ask the models, and write their answers into DIR, for tests with the fixture 'recorded'",
    )
    parser.addini(
        "rxstream_recordings",
        "where answers of models are that were recorded",
        default="tests/recordings",
        type="string",
    )


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> Iterator[testing.Cassette]:
    """What the test asks of models is answered from files; with ``--rxstream-record`` these are written."""
    folder: str | None = request.config.getoption("rxstream_record")
    where = request.config.rootpath / (folder or str(request.config.getini("rxstream_recordings")))
    classes = [node.name for node in request.node.listchain() if isinstance(node, pytest.Class)]
    name = ".".join([Path(request.node.path).stem, *classes, request.node.name])
    cassette = testing.Cassette(where, name=name, recording=folder is not None)
    whose = request.config.stash.setdefault(_NAMES, {}).setdefault(cassette.name.lower(), request.node.nodeid)
    if whose != request.node.nodeid:  # the one would get the other's answers
        pytest.fail(f"the recordings of this test would be called as those of {whose} are: {cassette.name}")
    with cassette:
        yield cassette


@pytest.fixture
def chaos_server() -> Iterator[Callable[..., testing.ChaosServer]]:
    """Makes a running `rxstream.testing.ChaosServer` of its arguments; it is closed when the test is over."""
    with ExitStack() as stack:

        def serve(*args: Any, **options: Any) -> testing.ChaosServer:
            return stack.enter_context(testing.ChaosServer(*args, **options))

        yield serve


@pytest.fixture
def virtual_loop() -> Iterator[testing.VirtualLoop]:
    """A loop in virtual time, on which no task may be left."""
    loop = testing.VirtualLoop()
    yield loop
    left = asyncio.all_tasks(loop)
    told = f"tasks are left behind: {left}"
    loop.run_until_complete(_closed(left))
    loop.close()
    if left:
        pytest.fail(told, pytrace=False)


@pytest.fixture
def recorder() -> testing.Recorder:
    """An observer that writes down what comes."""
    return testing.Recorder()


async def _closed(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
