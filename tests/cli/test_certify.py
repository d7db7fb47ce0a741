"""``rxstream certify``: what it prints, and its exit code."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from rxstream.cli import main
from rxstream.cli._certify import _paper
from rxstream.cli._diploma import Drawn
from rxstream.testing.certify import ROWS, certify
from tests.support.clients import Client, faulty
from tests.support.terminal import Screen

TARGET = "tests.support.clients:answer"


def test_a_client_that_is_certified(capsys: pytest.CaptureFixture[str]) -> None:
    """Its table on standard output, and exit code 0."""
    assert main(["certify", TARGET, "--only", "text", "--only", "usage", "--dialect", "openai-chat"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "                                    openai-",
        "                                    chat",
        "the text, once and in order         pass",
        "usage: the last count, not the sum  pass",
        "",
        f"{TARGET} is certified: 2 of 2 passed",
    ]


def test_a_client_that_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, also as data."""
    assert main(["certify", "tests.support.clients:silent", "--only", "truncation", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["target"], told["passed"]) == ("tests.support.clients:silent", False)
    [result] = told["results"]
    assert (result["row"], result["column"], result["verdict"]) == ("truncation", "openai-chat", "silent")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-command"], "neither 'module:function' nor a command"),
        ([TARGET, "--only", "txet"], "did you mean 'text'?"),
        ([TARGET, "--timeout", "0"], "timeout=0.0: must be greater than 0"),
    ],
)
def test_what_cannot_be_tried(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and a line that says why."""
    assert main(["certify", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_rows_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Their names, for ``--only``, and what they mean."""
    assert main(["certify", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [row.name for row in ROWS]
    assert all(line.endswith(row.means) for line, row in zip(lines, ROWS, strict=True))


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_terminal_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rich is installed, and the terminal can."""
    monkeypatch.setattr("sys.stdout", _Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(_paper(as_json=False), Drawn)
    monkeypatch.setenv("TERM", "dumb")
    assert not isinstance(_paper(as_json=False), Drawn)


def test_without_rich_it_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same table."""
    monkeypatch.setattr("sys.stdout", _Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(__import__("sys").modules, "rxstream.cli._diploma", None)
    assert not isinstance(_paper(as_json=False), Drawn)


def test_what_a_person_sees() -> None:
    """What is being tried, meanwhile; then the table, what is wrong, and the whole in a line."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, height=40, color_system="truecolor", highlight=False)
    [client] = [client for client in faulty() if client.__name__ == "SwallowsErrors"]
    drawn = Drawn(console)
    with drawn.progress() as show:
        certificate = certify(client().answer, only=["text", "error"], on_result=show)
    drawn.write(certificate)
    screen = Screen(80, 40)
    screen.feed(file.getvalue().replace("\n", "\r\n").encode())
    seen = screen.text
    assert "the text, once and in order" in seen
    assert "SILENT" in seen
    assert "error (openai-chat): SILENT, error, error, then [DONE]: passed for a whole answer" in seen.replace(
        "\n", " "
    )
    assert f"{certificate.target} is not certified: 1 of 2 are wrong, 1 of them in silence" in seen
    drawn.write(certify(Client().answer, only=["text"]))
    assert "is certified: 1 of 1 passed" in file.getvalue()
