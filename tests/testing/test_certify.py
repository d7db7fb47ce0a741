"""The certifier finds what is wrong with a client, and nothing else."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rxstream.errors import ConfigurationError
from rxstream.testing.certify import ROWS, Certificate, Question, _bench, _speed, certify
from tests.support.clients import Client, endless, faulty, refusing, wordy

ALL_BUT_SPEED = [row.name for row in ROWS if row.name != "speed"]
QUICK = ("text", "truncation")


def tried(client: Callable[[Question], Any] | str, *only: str, **options: Any) -> Certificate:
    options = {"dialects": ["openai-chat"], "timeout": 0.2, **options}
    return certify(client, only=only or ALL_BUT_SPEED, **options)


def verdicts(certificate: Certificate) -> dict[str, str]:
    return {result.row: result.verdict for result in certificate.results}


def wrong(certificate: Certificate) -> dict[str, str]:
    return {result.row: result.verdict for result in certificate.results if not result.passed}


# --- clients ------------------------------------------------------------------------------------------------------------------


def test_a_client_that_does_everything_right_is_certified() -> None:
    """Few lines over a bare socket suffice: the matrix asks for nothing that only we have."""
    certificate = certify(Client().answer, timeout=0.2)
    assert not certificate.notes
    assert certificate.passed
    assert certificate.columns == ["openai-chat"]  # the one dialect that it speaks
    assert verdicts(certificate) == {row.name: "pass" for row in ROWS}


@pytest.mark.parametrize("client", faulty(), ids=lambda client: client.__name__)
def test_a_planted_fault_fails_its_row(client: type[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    """… and no other."""
    monkeypatch.setattr(_bench, "LEAVE", 0.5)  # what leaks, leaks for ever: it is seen sooner, too
    monkeypatch.setattr(_bench, "_LATE", 1.5)
    certificate = tried(client().answer)
    assert wrong(certificate) == dict.fromkeys(client.breaks, client.verdict), str(certificate)
    assert not certificate.passed


def test_rxstream_is_certified() -> None:
    """In each dialect over each transport; the whole matrix is a step of its own in CI."""
    certificate = tried("rxstream", "tools", "usage", "truncation", "error", "refused", dialects=[])
    assert certificate.passed, str(certificate)
    assert len(certificate.columns) == 6
    assert certificate.summary == "rxstream is certified: 30 of 30 passed"


def test_an_iterator_that_blocks_can_be_certified() -> None:
    """It hears nothing while it waits, which is no fault; all else is required of it."""
    certificate = tried(wordy)
    assert certificate.passed, str(certificate)
    unheard = [row for row, verdict in verdicts(certificate).items() if verdict == "n/a"]
    assert unheard == ["cancel-before-headers", "cancel-before-event"]


def test_a_client_that_keeps_the_loop_hangs_and_is_left_behind() -> None:
    """The certifier goes on: what it is asked next runs on another loop."""
    questions: list[Question] = []

    async def later(question: Question) -> AsyncIterator[Any]:
        questions.append(question)
        async for piece in endless(question) if len(questions) > 1 else Client().answer(question):
            yield piece

    certificate = tried(later, "text", patience=0.3)
    assert len(questions) == 3
    assert verdicts(certificate) == {"text": "hangs"}
    assert "goes on waiting" in certificate.notes[0]


async def _slow_to_start(question: Question) -> AsyncIterator[Any]:
    await asyncio.sleep(0.5)
    async for piece in Client().answer(question):
        yield piece


def test_the_time_that_a_client_takes_to_ask_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command starts an interpreter and loads an SDK first: that may take longer than all its patience afterwards."""
    monkeypatch.setattr(_bench, "_LATE", 0.3)
    certificate = tried(_slow_to_start, "silence", timeout=0.05)
    assert certificate.passed, str(certificate)
    [silence] = certificate.results
    assert float(silence.figure.split()[0]) < silence.seconds - 0.4  # of which half a second was the start


def test_what_a_client_cannot_do_is_not_counted() -> None:
    """A dialect that it does not speak is no column; nothing that was tried is no certificate."""
    certificate = tried(refusing, *QUICK, dialects=[])
    assert certificate.results == ()
    assert not certificate.passed
    assert certificate.summary == "nothing was tried"


async def _number(_: Question) -> AsyncIterator[int]:
    yield 3


async def _unknown(_: Question) -> AsyncIterator[dict[str, str]]:
    yield {"txt": "Hello"}


async def _no_call(_: Question) -> AsyncIterator[Any]:
    yield {"tool_call": 5}


async def _no_usage(_: Question) -> AsyncIterator[Any]:
    yield {"usage": 5}


def _none(_: Question) -> None:
    return None


async def _not_iterable(_: Question) -> int:
    return 3


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (_number, "it gave 3: allowed are text and dicts with the keys text, tool_call"),
        (_unknown, "it gave {'txt': 'Hello'}"),
        (_no_call, "it gave {'tool_call': 5}, which is not as it should be: TypeError"),
        (_no_usage, "it gave {'usage': 5}, which is not as it should be: AttributeError"),
        (_none, "it gave None, which is no iterator"),
        (_not_iterable, "it gave 3, which is no async iterator"),
    ],
)
def test_a_client_that_breaks_the_protocol_passes_nothing(client: Callable[[Question], Any], said: str) -> None:
    """Its exception is not taken for the failure that a row asks for."""
    certificate = tried(client, "text", "truncation", "error")
    assert wrong(certificate) == dict.fromkeys(("text", "truncation", "error"), "fail")
    assert all(said in result.detail for result in certificate.results)


async def _hasty(question: Question) -> AsyncIterator[Any]:
    async for piece in Client().answer(replace(question, timeout=question.timeout / 10)):
        yield piece


def test_a_client_that_does_not_wait_as_long_as_it_is_told_fails() -> None:
    """So does one that just fails."""
    certificate = tried(_hasty, "silence", "pings", timeout=0.5)
    assert wrong(certificate) == {"silence": "fail", "pings": "fail"}
    assert "which is not its timeout" in certificate.notes[0]


class _Asked:
    async def __call__(self, question: Question) -> AsyncIterator[Any]:
        async for piece in Client().answer(question):
            yield piece


def test_an_object_that_is_called_is_a_function() -> None:
    certificate = tried(_Asked(), *QUICK)
    assert certificate.passed, str(certificate)


def _buffering(question: Question) -> Iterator[str]:
    yield "".join(piece for piece in wordy(question) if isinstance(piece, str))


def test_a_client_that_shows_nothing_before_the_end_cannot_be_stopped_in_it() -> None:
    """Its text does not come."""
    certificate = tried(_buffering, "cancel-between-tokens", patience=0.3)
    assert "its text does not come" in certificate.notes[0]


async def _retracts(question: Question) -> AsyncIterator[Any]:
    yield "Hallo"
    yield {"retract": 1}
    async for piece in Client().answer(question):
        if isinstance(piece, str):
            yield {"text": piece.removeprefix("H")}


def test_text_that_is_taken_back_does_not_count() -> None:
    """Of a text that begins with H, all but that is taken back and said anew."""
    assert tried(_retracts, "splits").passed


# --- commands -----------------------------------------------------------------------------------------------------------------

COMMAND = """
import json, os, sys, urllib.request

as_json = sys.argv[1] == "json"
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
key, model = os.environ["OPENAI_API_KEY"], os.environ["RXSTREAM_CERTIFY_MODEL"]
assert len(json.loads(os.environ["RXSTREAM_CERTIFY_TOOLS"])) in (0, 2)
request = urllib.request.Request(url, json.dumps({"model": model}).encode(), {"Authorization": "Bearer " + key})
calls = {}

def tell(**piece):
    if as_json:
        print(json.dumps(piece), flush=True)
    elif "text" in piece:
        print(piece["text"], end="", flush=True)

with urllib.request.urlopen(request, timeout=float(os.environ["RXSTREAM_CERTIFY_TIMEOUT"])) as body:
    for line in body:
        if line.strip() == b"data: [DONE]":
            break
        if not line.startswith(b"data: "):
            continue
        chunk = json.loads(line[6:])
        if chunk.get("usage"):
            tell(usage={"input_tokens": chunk["usage"]["prompt_tokens"], "output_tokens": chunk["usage"]["completion_tokens"]})
        for choice in chunk["choices"]:
            if choice["delta"].get("content"):
                tell(text=choice["delta"]["content"])
            for part in choice["delta"].get("tool_calls", ()):
                call = calls.setdefault(part["index"], {"name": "", "arguments": ""})
                for name, value in part["function"].items():
                    call[name] += value
    else:
        sys.exit("the answer was cut")
for call in calls.values():
    tell(tool_call=call)
if not as_json:
    print()
"""


@pytest.fixture
def command(tmp_path: Path) -> str:
    (tmp_path / "client.py").write_text(COMMAND, encoding="utf-8")
    return f"{sys.executable} -I {tmp_path / 'client.py'}"


def test_a_command_is_certified_by_what_it_writes(command: str) -> None:
    """JSON Lines of pieces; an interrupt stops it; its exit status is its word for the end."""
    rows = ("cancel-before-headers", "cancel-between-tokens", "text", "tools", "usage", "truncation", "refused")
    certificate = tried(f"{command} json", *rows)
    assert wrong(certificate) == {}, str(certificate)
    assert set(verdicts(certificate).values()) == {"pass"}
    assert certificate.target.endswith("json")


def test_a_command_may_write_plain_text(command: str) -> None:
    """What tells of nothing but text is not asked for more; a newline at the end is not the model's."""
    certificate = tried(f"{command} text", "text", "utf8", "tools", "usage", "truncation")
    assert verdicts(certificate) == {
        "text": "pass",
        "utf8": "pass",
        "tools": "n/a",
        "usage": "n/a",
        "truncation": "pass",
    }
    assert certificate.passed


def test_a_command_that_fails_says_why() -> None:
    """With its exit status, and the last line of its standard error."""
    code = "import sys; print('hm', file=sys.stderr); sys.exit(\"no model of that name\")"
    certificate = tried(f"{sys.executable} -c '{code}'".replace("'hm'", '"hm"'), "splits")
    assert "exit status 1: no model of that name" in certificate.notes[0]


def test_a_command_that_never_ends_is_killed() -> None:
    """And has hung."""
    certificate = tried(f"{sys.executable} -c 'import time; time.sleep(60)'", patience=0.1)
    assert set(verdicts(certificate).values()) == {"hangs"}
    assert certificate.notes[0].endswith("HANGS, its first answer goes on waiting, for 0.6 s and more")


@pytest.mark.parametrize(
    ("line", "said"),
    [("{oops", "neither text nor JSON Lines"), ('{"usage": 5}', "not as it should be: AttributeError")],
)
def test_output_that_is_no_piece_is_a_breach(line: str, said: str) -> None:
    """A line that begins as JSON and is none, or is not as pieces are."""
    certificate = tried(shlex.join([sys.executable, "-c", f"print({line!r})"]), "truncation")
    assert said in certificate.notes[0]
    assert wrong(certificate) == {"truncation": "fail"}


# --- what is asked for ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("tests.support.clients:nobody", "cannot be loaded"),
        ("no_such_module:client", "cannot be loaded"),
        ("tests.support.clients:__name__", "is no function"),
        ("no-such-command --at-all", "neither 'module:function' nor a command"),
        ("'unbalanced", "is no command line"),
        ("", "neither"),
    ],
)
def test_a_target_that_is_not_there_is_refused(target: str, said: str) -> None:
    """Before anything is tried."""
    with pytest.raises(ConfigurationError, match=said):
        certify(target)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"only": ["truncaton"]}, "did you mean 'truncation'"),
        ({"dialects": ["openai"]}, "dialects='openai'"),
        ({"timeout": 0}, "timeout=0"),
        ({"patience": -1}, "patience=-1"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    """By its name."""
    with pytest.raises(ConfigurationError, match=said):
        certify(Client().answer, **options)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def client(:", "SyntaxError"),
        ("raise RuntimeError('not today')", "not today"),
        ("raise SystemExit(4)", "SystemExit"),
    ],
)
def test_a_module_that_cannot_be_imported_is_no_target(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_target.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match=f"'broken_target:client' cannot be loaded: .*{said}"):
        certify("broken_target:client")


def test_a_file_that_is_no_program_is_no_target(tmp_path: Path) -> None:
    file = tmp_path / "prose"
    file.write_text("no program", encoding="utf-8")
    file.chmod(0o755)
    with pytest.raises(ConfigurationError, match="cannot be run: Exec format error"):
        certify(str(file))


def test_a_function_is_found_by_its_name() -> None:
    """``module:function``."""
    certificate = tried("tests.support.clients:answer", "text")
    assert certificate.passed
    assert certificate.target == "tests.support.clients:answer"


# --- the certificate --------------------------------------------------------------------------------------------------------------


def test_the_certificate_says_what_is_wrong() -> None:
    """A table, a line for what is wrong, a line for all of it; the same as data."""
    seen: list[str] = []
    [client] = [client for client in faulty() if client.__name__ == "SwallowsTruncation"]
    certificate = tried(client().answer, *QUICK, on_result=lambda result: seen.append(result.row))
    assert str(certificate).splitlines() == [
        "                                       openai-",
        "                                       chat",
        "the text, once and in order            pass",
        "a clean end in the midst is a failure  SILENT",
        "",
        "truncation (openai-chat): SILENT, between two words, inside JSON, inside a character, inside a tool",
        "    call, the connection's end: passed for a whole answer of 3 characters",
        "",
        "Client.answer is not certified: 1 of 2 are wrong, 1 of them in silence",
    ]
    assert seen == list(QUICK)
    data = certificate.to_dict()
    assert data["passed"] is False
    assert [result["verdict"] for result in data["results"]] == ["pass", "silent"]


def test_figures_stand_in_the_cells() -> None:
    """The time to the close, and the cost of an event as a multiple of a bare reader's."""
    certificate = tried(Client().answer, "cancel-between-tokens", "speed")
    assert certificate.passed, str(certificate)
    close, cost = (result.word for result in certificate.results)
    assert close.endswith(" ms")
    assert float(close.split()[0]) < 1000
    assert " x (" in cost


def test_a_cost_that_is_lost_in_that_of_the_start_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a command's may be."""
    monkeypatch.setattr(_speed, "_cost", lambda reader, clock: -1e-6)
    assert verdicts(tried(Client().answer, "speed")) == {"speed": "n/a"}


async def _half(question: Question) -> AsyncIterator[Any]:
    said = 0
    async for piece in Client().answer(question):
        said += len(piece) if isinstance(piece, str) else 0
        if said < 500:
            yield piece


def test_a_client_that_is_fast_for_it_leaves_things_out_is_not_fast() -> None:
    """The whole text is asked for."""
    certificate = tried(_half, "speed")
    assert wrong(certificate) == {"speed": "fail"}
    assert "characters" in certificate.notes[0]
