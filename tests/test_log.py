"""What rxstream says through `logging`: quiet, structured, and nothing of what was said."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import reactivex

import rxstream
from rxstream import CircuitBreaker
from rxstream import operators as rxo
from rxstream._log import facts, log, trace, words
from rxstream.errors import (
    BadRequest,
    Cancelled,
    Disconnected,
    Overloaded,
    RateLimited,
    ServerFault,
    StreamError,
    TracksFailed,
    error_of,
)
from rxstream.events import TextDelta
from rxstream.observable import Stream
from rxstream.providers._openai_errors import classify
from rxstream.providers.anthropic.errors import classify as anthropic_classify
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


def test_no_record_has_a_traceback_that_was_not_looked_at() -> None:
    """A provider may speak in it."""
    said = {place: ast.unparse(call) for place, call in calls()}
    assert not [
        place
        for place, call in said.items()
        if "log.exception(" in call or ("exc_info" in call and "exc_info=trace(" not in call)
    ]


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


# --- not a word of the prompt -----------------------------------------------------------------------------------------------

PROMPT = "why does my neighbour hate me?"
QUOTES: list[StreamError] = [
    classify(status=400, body=b'{"error": {"message": "bad prompt: %s", "type": "invalid"}}' % PROMPT.encode()),
    classify(status=None, body=b'{"error": {"message": "%s"}}' % PROMPT.encode()),
    anthropic_classify(status=None, body=b'{"type": "error", "error": {"message": "%s"}}' % PROMPT.encode()),
    TracksFailed({"a": BadRequest(PROMPT, status=400)}),
    Cancelled(PROMPT),
    ServerFault(f"the source raised ValueError: {PROMPT}"),
    error_of(BadRequest(PROMPT, status=400).info()),
]
"""What says the prompt, or may."""


class Again(rxstream.StreamHandler):
    """Raises the stream's error once more, as many do."""

    def on_stream_error(self, error: Exception) -> None:
        raise RuntimeError("my stream failed") from error


class AgainLater(rxstream.StreamHandler):
    """… in a coroutine function."""

    async def on_stream_error(self, error: Exception) -> None:
        raise error


def again(error: Exception) -> None:
    raise error


async def again_later(error: Exception) -> None:
    raise error


async def later(_event: object) -> None:
    return None


WAYS: dict[str, Callable[[Stream[Any]], object]] = {
    "nobody takes it": lambda source: source.subscribe(list[object]().append),
    "nobody takes it from a coroutine function": lambda source: source.subscribe(later),
    "on_error raises it again": lambda source: source.subscribe(list[object]().append, again),
    "a coroutine function raises it again": lambda source: source.subscribe(later, again_later),
    "of a session": lambda source: source.start(list[object]().append, again),
    "a handler raises it again": lambda source: source.subscribe(Again()),
    "a handler raises it again later": lambda source: source.start(AgainLater()),
    "a handler that is detached": lambda source: rxstream.StreamManager().start_stream(
        source, handlers=[Again(), rxstream.LoggingStreamHandler()]
    ),
    "asked again": lambda source: source.pipe(rxo.retry_stream(attempts=2, when=lambda _: True, budget=None)).subscribe(
        list[object]().append
    ),
    "measured": lambda source: source.pipe(rxo.meter(rxstream.LoggingSink())).subscribe(list[object]().append),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", QUOTES, ids=lambda error: type(error).__name__)
@virtual_time
async def test_what_a_provider_says_is_not_in_the_log(
    way: str, error: StreamError, caplog: pytest.LogCaptureFixture
) -> None:
    """He may repeat the prompt; neither sentence nor traceback nor facts have it, only what kind of error it is."""
    caplog.set_level(logging.DEBUG)
    WAYS[way](Stream.of(Scripted([TextDelta(text=PROMPT), error]).events()))
    await asyncio.sleep(100)
    ours = [record for record in caplog.records if record.name.startswith("rxstream")]
    assert ours
    for record in ours:
        assert PROMPT not in logging.Formatter().format(record)
        assert PROMPT not in str(vars(record))


class OfAnSDK(Exception):
    """Has what theirs have."""

    body: object = None


def test_what_a_function_of_the_program_raises_is_logged_whole(caplog: pytest.LogCaptureFixture) -> None:
    error = KeyError("mine")
    assert (trace(error), words(error)) == (error, "KeyError: 'mine'")
    source = ServerFault("the source raised KeyError: 'mine'")
    source.__cause__ = error
    assert (trace(source), words(source)) == (source, "ServerFault: the source raised KeyError: 'mine'")
    source.__cause__ = OfAnSDK(PROMPT)
    assert (trace(source), words(source)) == (None, "ServerFault")
    source.__cause__ = source  # as ``raise source from source`` has it
    assert (trace(source), words(source)) == (None, "ServerFault")
    assert trace(ExceptionGroup("some", [error])) is not None
    assert trace(ExceptionGroup("some", [error, QUOTES[0]])) is None
