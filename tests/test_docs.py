"""The documents: every Python block of README and docs/ is run, each page in one namespace, from top to bottom.

A block may use ``await``. Models of the cloud are played by a scripted server on the loopback, the local one is real.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from reactivex import operators as ops
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser

import rxstream
from rxstream import errors, events, operators, tracks
from rxstream.sources.local import missing
from tests.support.server import Exchange, ScriptedServer, chat, messages, responses

PROJECT = Path(__file__).parent.parent
WHICH = PROJECT / "docs" / "which_operator.md"
needs_docs = pytest.mark.skipif(not WHICH.exists(), reason="the documents are not beside the tests")
PAGES = [page for page in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))) if page.exists()]


def run(example: Example) -> None:
    """Run a block in its page's namespace."""
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    code = compile(source, example.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    running = types.FunctionType(code, example.namespace)()
    if inspect.iscoroutine(running):
        asyncio.run(running)


def blocks() -> Iterator[Example]:
    for page in PAGES:
        yield from Document.parse(str(page), CodeBlockParser(language="python", evaluator=run))


def name(example: Example) -> str:
    return f"{Path(example.path).name}:{example.line}"


async def answer(exchange: Exchange) -> None:
    """Something true, in the dialect that the path asks for."""
    path = exchange.request.path
    dialect = messages if path.endswith("/messages") else responses if path.endswith("/responses") else chat
    await exchange.head()
    for piece in dialect("Air scatters blue light ", "more than red."):
        await exchange.send(piece)
    await exchange.end()


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """OpenAI and Anthropic, on the loopback."""
    with ScriptedServer(answer) as server:
        for vendor, base_url in (("OPENAI", f"{server.url}/v1"), ("ANTHROPIC", server.url)):
            monkeypatch.setenv(f"{vendor}_BASE_URL", base_url)
            monkeypatch.setenv(f"{vendor}_API_KEY", "scripted")
        yield


def need_local_model() -> None:
    """Skip without the local model; with CI=true its absence is a failure."""
    if (lacking := missing()) is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacking)


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("example", list(blocks()), ids=name)
def test_code_in_the_documents_runs(example: Example) -> None:
    """A reader can copy any block, after those before it on its page."""
    if '"local:' in example.document.text[: example.region.end]:
        need_local_model()
    example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link names a file that exists, and a heading that is in it."""
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8")):
        linked = page.parent / target if target else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            known = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in known, f"{page.name} links to {target}#{anchor}"


def test_the_runner_reports_what_fails(tmp_path: Path) -> None:
    """A block that fails fails at its own line, and an awaiting one is awaited."""
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n```python\nimport asyncio\nawait asyncio.sleep(0)\nx = 1\n```\n\n```python\nassert x == 2\n```\n"
    )
    first, second = Document.parse(str(page), CodeBlockParser(language="python", evaluator=run))
    first.evaluate()
    with pytest.raises(AssertionError) as caught:
        second.evaluate()
    assert caught.traceback[-1].lineno == 9


@needs_docs
def test_every_operator_is_on_its_page() -> None:
    """Who looks for what he wants finds the name of it."""
    page = WHICH.read_text(encoding="utf-8")
    names = [f"rxo.{name}" for name in operators.__all__ if name[0].islower()]
    names += [f"tracks.{name}" for name in tracks.__all__ if name[0].islower()]
    missing = [name for name in names if not re.search(rf"{re.escape(name)}\b", page)]
    assert not missing


@needs_docs
def test_and_no_other_is() -> None:
    """Nor one that has gone, in Rx or here."""
    page = WHICH.read_text(encoding="utf-8")
    homes = {"rxo": operators, "tracks": tracks, "ops": ops, "rxstream": rxstream}
    found = re.findall(r"`[^`]*?\b(rxo|tracks|ops|rxstream)\.(\w+)", page)
    assert found
    assert not [
        f"{home}.{name}"
        for home, name in found
        if name not in ("operators", "testing") and not hasattr(homes[home], name)
    ]


@needs_docs
def test_every_error_and_every_event_is_on_its_page() -> None:
    """Who meets one finds what it means."""
    page = (PROJECT / "docs" / "errors.md").read_text(encoding="utf-8")
    kinds = [
        name for name in errors.__all__ if name[0].isupper() and name not in ("Clock", "RxstreamError", "StreamError")
    ]
    assert not [name for name in kinds if f"\n| `{name}` |" not in page]
    page = (PROJECT / "docs" / "concepts.md").read_text(encoding="utf-8")
    assert not [
        kind
        for kind in get_args(events.Event)
        if f"\n| `{kind.__name__}` | `{kind.__struct_config__.tag}` |" not in page
    ]


@needs_docs
def test_the_design_names_every_module() -> None:
    """Of the root, and no other: who looks for a thing finds where it is."""
    page = (PROJECT / "docs" / "design.md").read_text(encoding="utf-8")
    picture = page[page.index("## 2. ") : page.index("## 3. ")]
    root = Path(rxstream.__file__).parent
    named = set(re.findall(r"`(\w+(?:\.py|/))`", picture))
    there = {path.name + "/" * path.is_dir() for path in root.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not there - named - {"__init__.py", "__main__.py", "__pycache__/"}
    assert not [name for name in named if not any(root.rglob(name.rstrip("/"))) and name != "_name.py"]
