"""The plugin at work: in a run of pytest of its own, as somebody has it who installs rxstream."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rxstream
from rxstream.testing.chaos import ChaosServer

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
TESTS = """
import asyncio, os
import rxstream
from rxstream.testing import assert_stream, from_marbles


def test_recorded(recorded):
    options = {"base_url": os.environ["MODEL_URL"], "api_key": "sk-none"} if "MODEL_URL" in os.environ else {}
    assert rxstream.stream("openai:gpt-5", "Why?", **options).run().text == "Why not?"


def test_never(recorded):
    rxstream.stream("openai:gpt-5", "Why?").run()


def test_never_as_drawn():
    assert_stream(from_marbles("a-b|"), "a--b|")


def test_chaos_server(chaos_server):
    one, other = chaos_server("Yes."), chaos_server("No.", faults="reset:content=1")
    url = one.base_url("openai-chat")
    assert rxstream.stream("compatible:m", "Why?", base_url=url).run().text == "Yes."
    assert one.url != other.url


def test_virtual_loop_and_recorder(virtual_loop, recorder):
    async def main():
        from_marbles("a-b|").subscribe(recorder.on_next, recorder.on_error, recorder.on_completed)
        await asyncio.sleep(3600)
    virtual_loop.run_until_complete(main())
    assert recorder.texts == ["a", "b"]
    assert recorder.times == [0, 2, 3]


def test_a_task_is_left(virtual_loop):
    async def main():
        asyncio.ensure_future(asyncio.sleep(1))
    virtual_loop.run_until_complete(main())
"""


def run(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    home = str(Path(rxstream.__file__).parent.parent)
    known = {name: value for name, value in os.environ.items() if name not in ("OPENAI_API_KEY", "PYTEST_ADDOPTS")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "rxstream.testing.plugin", "-p", "no:cacheprovider", "-q", *options],
        cwd=folder,
        env={**known, "PYTHONPATH": home, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "test_mine.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nrxstream_recordings = kept\n")
    return tmp_path


def test_recorded_once_it_needs_no_model_any_more(project: Path) -> None:
    with ChaosServer("Why not?") as server:
        done = run(
            project, "-k", "not never", "--rxstream-record", "kept", MODEL_URL=server.base_url("openai-responses")
        )
    assert "4 passed, 2 deselected, 1 error" in done.stdout, done.stdout + done.stderr
    assert "tasks are left behind: {<Task pending" in done.stdout
    assert len(server.requests) == 1
    assert [path.name for path in (project / "kept").iterdir()] == ["test_mine.test_recorded.openai-gpt_5.1.sse"]
    again = run(project, "-k", "recorded or never")
    assert "2 failed, 1 passed" in again.stdout, again.stdout + again.stderr
    assert "nothing was recorded of test_mine.test_never.openai-gpt_5.1.sse" in again.stdout
    assert "the stream is not as drawn" in again.stdout
    assert "def assert_stream" not in again.stdout, "the failure is shown where the test is, and not in the kit"


def test_each_test_has_recordings_of_its_own(project: Path) -> None:
    """Whatever its class and its parameters are called; where two would have the same, the second is told."""
    (project / "test_mine.py").write_text(
        """
import pytest
import rxstream


class Asks:
    def test_it(self, recorded, chaos_server):
        name = type(self).__name__
        url = chaos_server(name).base_url("openai-chat")
        assert rxstream.stream("compatible:any", "Who?", base_url=url).run().text == name

class TestOne(Asks): pass
class TestTwo(Asks): pass


@pytest.mark.parametrize("name", ["1.5", "1", "a/b", "a_b"])
def test_named(name, recorded, chaos_server):
    url = chaos_server(name).base_url("openai-chat")
    assert rxstream.stream("compatible:any", "Who?", base_url=url).run().text == name
"""
    )
    for options in (["--rxstream-record", "kept"], []):
        done = run(project, *options)
        assert "5 passed, 1 error" in done.stdout, done.stdout + done.stderr
        assert "as those of test_mine.py::test_named[a/b] are: test_mine.test_named_a_b" in done.stdout
    assert sorted(path.name for path in (project / "kept").iterdir()) == [
        "test_mine.TestOne.test_it.compatible-any.1.sse",
        "test_mine.TestTwo.test_it.compatible-any.1.sse",
        "test_mine.test_named_1.5.compatible-any.1.sse",
        "test_mine.test_named_1.compatible-any.1.sse",
        "test_mine.test_named_a_b.compatible-any.1.sse",
    ]


def test_its_options_are_told(project: Path) -> None:
    told = run(project, "--help").stdout
    assert "--rxstream-record=DIR" in told
    assert "rxstream_recordings" in told


@pytest.mark.skipif(not PROJECT.exists(), reason="the project is not beside the tests")
def test_pytest_finds_it_where_rxstream_is_installed() -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"rxstream": "rxstream.testing.plugin"}
