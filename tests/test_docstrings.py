"""The examples in docstrings: each is run, and gives what it says."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

import rxstream
from rxstream.sources.local import missing

MODULES = [
    found.name
    for found in pkgutil.walk_packages([str(Path(rxstream.__file__).parent)], "rxstream.")
    if not found.name.endswith("__main__")
]


def examples() -> list[ParameterSet]:
    """Those that ask the local model are marked so."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    return [pytest.param(test, id=test.name, marks=[pytest.mark.local] if _is_local(test) else []) for test in tests]


def _is_local(test: doctest.DocTest) -> bool:
    return any('"local' in example.source for example in test.examples)


@pytest.mark.parametrize("example", examples())
def test_an_example_gives_what_it_says(example: doctest.DocTest) -> None:
    """A reader can type it in."""
    if _is_local(example) and (lacking := missing()) is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacking)
    told: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append)
    assert not told, "".join(told)
