"""The notebooks: each runs from its first cell to its last, and is committed as it ran."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rxstream.sources.local import missing

PROJECT = Path(__file__).parents[1]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
JUPYTER = all(importlib.util.find_spec(name) for name in ("nbclient", "nbformat", "ipykernel"))

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    if not JUPYTER:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("nbclient and ipykernel are not installed")
    notebook = importlib.import_module("nbformat").read(path, as_version=4)
    importlib.import_module("nbformat").validate(notebook)
    return notebook


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


async def executed(path: Path, turn: asyncio.Semaphore) -> Any:
    """The notebook as it runs now, in a kernel of its own."""
    notebook = read(path)
    make = importlib.import_module("nbclient").NotebookClient
    async with turn:
        await make(notebook, timeout=120, kernel_name="python3", shutdown_kernel="immediate").async_execute()
    return notebook


@pytest.fixture(scope="module")
def ran() -> Mapping[Path, Any]:
    """What came of each notebook. Much of their time is waiting: two run at once."""
    if (lacking := missing()) is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacking)

    async def main() -> list[Any]:
        turn = asyncio.Semaphore(2)
        return await asyncio.gather(*(executed(path, turn) for path in NOTEBOOKS), return_exceptions=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(PROJECT))
        return dict(zip(NOTEBOOKS, asyncio.run(main()), strict=True))


@pytest.mark.local
def test_it_runs(path: Path, ran: Mapping[Path, Any]) -> None:
    """From its first cell to its last, without an error, and each cell prints what it printed when it was committed, or as much."""
    printed = [bool(cell.outputs) for cell in code_cells(read(path))]
    found = ran[path]
    if isinstance(found, BaseException):
        raise found
    assert [bool(cell.outputs) for cell in code_cells(found)] == printed
    assert "stderr" not in {output.get("name") for cell in code_cells(found) for output in cell.outputs}


def test_it_is_committed_as_it_ran(path: Path) -> None:
    """In order, from the top, without an error and without anything of the machine that it ran on."""
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert not re.search(r"/(?:home|root|work|Users|tmp)/", path.read_text(encoding="utf-8"))


def test_its_links_lead_somewhere(path: Path) -> None:
    """Those to pages of the project."""
    words = "".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    assert not [link for link in re.findall(r"\]\((?!https?:)([^)#]+)", words) if not (path.parent / link).exists()]
