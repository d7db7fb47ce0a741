"""The error tree: what each error says, and how it travels."""

from __future__ import annotations

import inspect
import pickle
import re
from typing import Any

import pytest

from rxstream import errors
from rxstream.errors import (
    AuthError,
    Cancelled,
    ConfigurationError,
    ConnectError,
    MissingDependency,
    RateLimited,
    RxstreamError,
    ServerFault,
    StreamError,
    StreamIncomplete,
    TimedOut,
    ToolCallIncomplete,
    TracksFailed,
    UnknownHandler,
    UnknownStream,
    error_info,
    error_of,
)
from rxstream.events import ErrorInfo
from rxstream.messages import TextPart
from rxstream.response import Choice, Response

CLASSES = {
    name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, RxstreamError)
}
STREAM_ERRORS = [kind for kind in CLASSES.values() if issubclass(kind, StreamError)]


def located(error: StreamError, *, provider: str = "", model: str = "") -> StreamError:
    """As a source leaves it behind."""
    error.provider, error.model = provider, model
    return error


def example(kind: type[StreamError]) -> StreamError:
    if kind is TimedOut:
        return TimedOut("no output for 5 s", clock="idle", seconds=5.0)
    if kind is TracksFailed:
        return TracksFailed({"local": ConnectError("no server"), "cloud": AuthError("no key")})
    return Cancelled("enough") if kind is Cancelled else kind("it failed")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RxstreamError("no"), "no"),
        (ConfigurationError("max_tokens must be positive"), "max_tokens must be positive"),
        (MissingDependency("pip install rxstream[cli]"), "pip install rxstream[cli]"),
        (StreamError("no"), "no"),
        (ServerFault("no", status=500), "no [HTTP 500]"),
        (ServerFault("no", status=0), "no [HTTP 0]"),
        (ServerFault("no", code="api_error"), "no [api_error]"),
        (RateLimited("slow", status=429, code="rate", request_id="r1"), "slow [HTTP 429, rate, request r1]"),
        (located(AuthError("no", status=401), provider="openai", model="gpt"), "no [openai, gpt, HTTP 401]"),
        (located(StreamIncomplete("cut"), model="gpt"), "cut [gpt]"),
        (ServerFault("no", body="<html>", retry_after=3.0), "no"),
        (TimedOut("no output for 5 s", clock="idle", seconds=5), "no output for 5 s"),
        (Cancelled(), "the stream was cancelled"),
        (Cancelled("enough"), "the stream was cancelled: enough"),
        (
            TracksFailed({"local": ConnectError("no server"), "cloud": AuthError("no key", status=401)}),
            "all 2 tracks failed: local: ConnectError: no server; cloud: AuthError: no key [HTTP 401]",
        ),
    ],
)
def test_what_an_error_says(error: RxstreamError, text: str) -> None:
    """The message, then what is known of the where; never the body."""
    assert str(error) == text


def tree_in_docstring() -> dict[str, str]:
    """Child → parent, as drawn."""
    parents: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        if found := re.match(r"( +[│├└─ ]*)([A-Z]\w+)(?:  |$)", line):
            depth, name = len(found[1]), found[2]
            while path and path[-1][0] >= depth:
                path.pop()
            parents[name] = path[-1][1] if path else "Exception"
            path.append((depth, name))
    return parents


def test_the_tree_is_as_drawn() -> None:
    """The module's docstring shows every error, each under its base."""
    assert tree_in_docstring() == {name: kind.__mro__[1].__name__ for name, kind in CLASSES.items()}


def test_configuration_errors_are_what_python_calls_them() -> None:
    """A wrong value is a `ValueError`, a missing package an `ImportError`."""
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(MissingDependency, ImportError)
    assert issubclass(UnknownStream, LookupError)
    assert issubclass(UnknownHandler, LookupError)
    assert not issubclass(ConfigurationError, StreamError)


def test_which_errors_are_retryable() -> None:
    """Those after which the same request may succeed."""
    assert {kind.__name__ for kind in STREAM_ERRORS if kind.retryable} == {
        "ConnectError", "RateLimited", "Overloaded", "ServerFault", "Disconnected", "StreamIncomplete",
        "ToolCallIncomplete", "SequenceGap", "TimedOut", "CircuitOpen", "BulkheadFull",
    }  # fmt: skip


def test_one_error_may_differ_from_its_kind() -> None:
    """A rate limit that waiting does not lift; nothing else changes with it."""
    assert RateLimited("no quota", retryable=False).retryable is False
    assert RateLimited("slow").retryable is True
    assert AuthError("no", retryable=True).retryable is True


@pytest.mark.parametrize("kind", STREAM_ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_starts_without_its_place(kind: type[StreamError]) -> None:
    """Phase, provider, model and partial answer are the source's to fill in."""
    error = example(kind)
    assert (error.phase, error.provider, error.model, error.partial) == ("request", "", "", None)
    assert (error.status, error.code, error.request_id, error.retry_after, error.body) == (None, "", "", None, "")


@pytest.mark.parametrize("kind", STREAM_ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_crosses_a_process_boundary(kind: type[StreamError]) -> None:
    """Whole: its class, what it knows, its partial answer."""
    error = located(example(kind), provider="openai", model="gpt")
    error.phase, error.partial = "output", Response(choices=[Choice(parts=[TextPart(text="Hel")])])
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(again) is kind
    assert (again.args, str(again)) == (error.args, str(error))
    assert {**vars(again), "errors": None} == {**vars(error), "errors": None}
    assert again.partial == error.partial


def test_errors_of_tracks_are_kept_and_pickled() -> None:
    """Each by its label; asking again makes sense if it does for one of them."""
    error = TracksFailed({"local": ConnectError("no server"), "cloud": AuthError("no key")})
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert {label: (type(one), str(one)) for label, one in again.errors.items()} == {
        "local": (ConnectError, "no server"),
        "cloud": (AuthError, "no key"),
    }
    assert error.retryable
    assert not TracksFailed({"cloud": AuthError("no key"), "mine": ValueError("no")}).retryable


@pytest.mark.parametrize("kind", STREAM_ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_from_its_data(kind: type[StreamError]) -> None:
    """Of the same class, saying the same."""
    error = located(example(kind), provider="openai", model="gpt")
    error.phase, error.status = "output", 500
    again = error_of(error.info())
    assert (type(again), str(again), again.info()) == (kind, str(error), error.info())


def test_a_stranger_comes_back_as_a_fault() -> None:
    """It says what it was."""
    again = error_of(error_info(ValueError("no")))
    assert (type(again), str(again)) == (ServerFault, "ValueError: no")


def test_an_error_that_is_not_ours_as_data() -> None:
    """Its class and what it says."""
    assert error_info(ValueError("no")) == ErrorInfo(kind="ValueError", message="no")
    assert error_info(AuthError("no")) == AuthError("no").info()


def test_configuration_errors_are_pickled() -> None:
    """As any error is."""
    again = pickle.loads(pickle.dumps(MissingDependency("pip install x")))  # noqa: S301  # our own bytes
    assert (type(again), str(again)) == (MissingDependency, "pip install x")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ToolCallIncomplete("cut"), {"kind": "ToolCallIncomplete", "message": "cut", "retryable": True}),
        (
            RateLimited("slow", status=429, code="rate", retry_after=2.0, retryable=False),
            {"kind": "RateLimited", "message": "slow", "status": 429, "code": "rate", "retry_after": 2.0},
        ),
        (
            TimedOut("late", clock="idle", seconds=5),
            {"kind": "TimedOut", "message": "late", "retryable": True, "clock": "idle"},
        ),
        (Cancelled("enough"), {"kind": "Cancelled", "message": "the stream was cancelled: enough"}),
    ],
)
def test_an_error_as_data(error: StreamError, expected: dict[str, Any]) -> None:
    """What a log or a `Failed` event carries."""
    assert error.info() == ErrorInfo(**expected)
    located(error, provider="openai", model="gpt").phase = "tool_call"
    assert error.info() == ErrorInfo(**expected, provider="openai", model="gpt", phase="tool_call")


def test_an_error_is_shown_and_not_obeyed() -> None:
    """A traceback in a terminal prints what a provider wrote; as data the message stays what it was."""
    said = "red: \x1b[31m\x9b1m\r\x07 \u202ekey\nnext\tline ünd 日本 👩\u200d🚀"
    error = located(ServerFault(said, code="\x1b]0;title\x07", request_id="\x85"), model="\x00")
    shown = "red: \\x1b[31m\\x9b1m\\r\\x07 \\u202ekey\nnext\tline ünd 日本 👩\u200d🚀"
    assert str(error) == f"{shown} [\\x00, \\x1b]0;title\\x07, request \\x85]"
    assert error.message == said
    assert error.info().message == said
