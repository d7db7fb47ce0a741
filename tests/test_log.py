"""What rxstream says through `logging`: quiet, structured, and nothing of what was said."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reactivex

import rxstream
from rxstream import CircuitBreaker
from rxstream import operators as rxo
from rxstream._log import facts, log
from rxstream.errors import Disconnected, Overloaded, RateLimited, StreamError
from rxstream.observable import Stream
from tests.support.scripted import DONE, Scripted
from tests.support.virtual_loop import settle, virtual_time

PACKAGE = Path(rxstream.__file__).parent
PLANTED = "sk-planted-in-a-prompt-0123456789"


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call of a logger of ours, wherever it is made."""
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if "log." in source else ():
            if isinstance(node, ast.Call) and re.fullmatch(
                r"_?log\.(debug|info|warning|error|exception|log)", ast.unparse(node.func)
            ):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def test_every_record_has_its_facts() -> None:
    """Or what reads the log would have to take sentences apart."""
    found = dict(calls())
    assert found
    assert not [place for place, call in found.items() if "facts(" not in ast.unparse(call) and not named(call)]


def named(call: ast.Call) -> bool:
    return any(word.arg == "extra" and isinstance(word.value, ast.Name) for word in call.keywords)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, {}),
        ({"attempt": 2, "delay": 0.5, "how": "again", "model": None}, {"attempt": 2, "delay": 0.5, "how": "again"}),
        ({"error": ValueError(PLANTED)}, {"error": "ValueError"}),
        ({"value": [PLANTED]}, {"value": "list"}),
        (
            {"error": RateLimited(PLANTED, status=429, code="tokens", request_id="req_1")},
            {"error": "RateLimited", "status": 429, "code": "tokens", "request_id": "req_1"},
        ),
    ],
)
def test_facts_are_plain_values_and_no_text_of_an_error(values: dict[str, Any], told: dict[str, Any]) -> None:
    assert facts("something", **values) == {"rxstream": {"what": "something", **told}}


FAILS = """
import asyncio, logging, rxstream, reactivex
from rxstream.errors import Disconnected
{set_up}
async def main():
    rxstream.Stream.of(reactivex.throw(Disconnected("gone"))).subscribe(print)
    await asyncio.sleep(0.01)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("set_up", "said"),
    [
        ("", "a stream failed and nobody took the error: Disconnected: gone\n"),
        ("logging.basicConfig(format='%(levelname)s', level=logging.DEBUG)", "ERROR\n"),
        ("logging.getLogger('rxstream').addHandler(logging.NullHandler())", ""),
    ],
)
def test_an_error_that_nobody_takes_does_not_vanish(set_up: str, said: str) -> None:
    """Not even where no logging is set up; there Python prints what is a warning or worse, and nothing else is."""
    script = "import asyncio, logging\nlogging.getLogger('asyncio').setLevel('ERROR')\n" + FAILS.format(set_up=set_up)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == said


def test_its_handlers_are_those_of_the_program() -> None:
    assert (log.name, log.handlers) == ("rxstream", [])


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    """Level and facts of each record."""
    return [(record.levelname, vars(record)["rxstream"]) for record in caplog.records]


@virtual_time
async def test_an_error_that_nobody_takes(caplog: pytest.LogCaptureFixture) -> None:
    error = Disconnected("gone", status=502, request_id="req_1")
    Stream.of(reactivex.throw(error)).subscribe(print)
    await settle()
    expected = {"what": "error-unhandled", "error": "Disconnected", "status": 502, "request_id": "req_1"}
    assert told(caplog) == [("ERROR", expected)]


@pytest.mark.parametrize("raised", [Overloaded(PLANTED), Disconnected(PLANTED)])
@virtual_time
async def test_a_request_that_is_made_again(raised: StreamError, caplog: pytest.LogCaptureFixture) -> None:
    """Once for each, with how long it waits; the provider's words are not told."""
    requests = iter([Scripted([raised]).events(), Scripted(["Hello", DONE]).events()])
    source = Stream.of(reactivex.defer(lambda _: next(requests)), label="mine")
    with caplog.at_level(logging.INFO, "rxstream"):
        answer = await source.pipe(rxo.retry_stream(jitter=lambda most: most))
    assert answer.text == "Hello"
    ((level, record),) = told(caplog)
    assert level == "INFO"
    assert record == {
        "what": "retrying",
        "error": type(raised).__name__,
        "how": "again",
        "delay": 0.5,
        "attempt": 1,
    } | {name: record[name] for name in ("label", "provider", "model") if name in record}
    assert PLANTED not in caplog.text


@virtual_time
async def test_a_circuit_that_changes(caplog: pytest.LogCaptureFixture) -> None:
    now = asyncio.get_running_loop().time
    breaker = CircuitBreaker(at_least=1, of=1, open_for=10, clock=now)
    scripts = [Scripted([Overloaded("busy")]), Scripted(["Hello", DONE])]
    with caplog.at_level(logging.INFO, "rxstream"):
        for script in scripts:
            await asyncio.sleep(11)
            with pytest.raises(Overloaded) if script is scripts[0] else pytest.MonkeyPatch.context():
                await Stream.of(script.events(), label="mine").pipe(rxo.guard(breaker))
    assert [(level, record["before"], record["after"]) for level, record in told(caplog)] == [
        ("INFO", "closed", "open"),
        ("INFO", "open", "half_open"),
        ("INFO", "half_open", "closed"),
    ]
    assert {record["model"] for _, record in told(caplog)} == {"mine"}
