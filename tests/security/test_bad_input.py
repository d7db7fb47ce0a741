"""What is wrong with what a user typed: told at once, by the name of the argument, with what is allowed or nearest.

The tables say the messages as they are, for a person has to understand them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import openai
import pytest

import rxstream
from rxstream import Limits, Message, Stream, Timeouts, Tool, operators, tracks
from rxstream.cli import main
from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.policy import Retry

CLAUDE = "anthropic:claude-haiku-4-5"
NO_STREAM = "is not a stream of the openai or the anthropic SDK"
NO_JSON = "has what JSON cannot say, such as half a surrogate pair in a text"
CYCLE: dict[str, Any] = {}
CYCLE["a"] = CYCLE
PARTS = "'text', 'image', 'thinking', 'refusal', 'tool_call', 'tool_result', 'opaque'"
ROLES = "'system', 'user', 'assistant' or 'tool'"


def refused(attempt: Callable[[], object]) -> str:
    """What is said; the refusal comes alone, without another library's exception behind it."""
    with pytest.raises(ConfigurationError) as found:
        attempt()
    assert found.value.__cause__ is None
    assert found.value.__suppress_context__ or found.value.__context__ is None
    return str(found.value)


TARGETS: list[tuple[Any, str]] = [
    ("gpt-5", "'gpt-5' names no provider: write openai:gpt-5"),
    ("claude-haiku-4-5", f"'claude-haiku-4-5' names no provider: write {CLAUDE}"),
    ("opnai:gpt-5", "unknown provider 'opnai' in 'opnai:gpt-5'; did you mean 'openai:'?"),
    ("anthropc/claude", "unknown provider 'anthropc' in 'anthropc/claude'; did you mean 'anthropic:'?"),
    ("nobody:x", "unknown provider 'nobody' in 'nobody:x'; allowed: alibaba:, anthropic:, "),
    ("openai", "'openai' names no model: write openai:<model>"),
    ("openai:", "'openai:' names no model: write openai:<model>"),
    ("", "'' names no provider: write provider:model; allowed: "),
    ("http://x/v1", "target: 'http://x/v1' is a URL: give it as base_url=, and compatible:<model> as the target"),
    (None, f"NoneType {NO_STREAM}"),
    (
        b"openai:m",
        f"such as '{CLAUDE}', or a stream that the openai or the anthropic SDK has opened: bytes {NO_STREAM}",
    ),
]


@pytest.mark.parametrize(("target", "said"), TARGETS, ids=repr)
def test_a_target(target: Any, said: str) -> None:
    assert said in refused(lambda: rxstream.stream(target, "hi"))


PROMPTS: list[tuple[Any, str]] = [
    (None, "there is no prompt: stream(target, prompt)"),
    (5, "messages: must be a string, a Message, a dict or a list of these, not 5"),
    (Message, "messages: must be a string, a Message, a dict or a list of these, not the class Message"),
    ([], "messages: must have at least 1 item"),
    ([7], "messages[0]: must be a dict or a Message, not 7"),
    ({"role": "user"}, "messages[0].content: is missing"),
    ({"content": "x"}, "messages[0].role: is missing"),
    ({"role": "usr", "content": "x"}, f"messages[0].role: must be {ROLES}, not 'usr'"),
    ({"role": "user", "contents": "x"}, "messages[0]: unknown key 'contents' in message; did you mean 'content'?"),
    (
        {"role": "user", "content": [{"text": "x"}]},
        "messages[0].content[0]: type is missing: it says what kind of part it is",
    ),
    ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text: is missing"),
    (
        {"role": "user", "content": [{"type": "image_url"}]},
        f"messages[0].content[0]: type: must be one of {PARTS}, not 'image_url'; did you mean 'image'?",
    ),
    ({"role": "tool", "content": "x"}, "messages[0]: a tool message holds tool_result, not text"),
    (
        {"role": "user", "content": "\ud800"},
        "messages[0]: has what JSON cannot say, such as half a surrogate pair in a text",
    ),
]


@pytest.mark.parametrize(("prompt", "said"), PROMPTS, ids=ascii)
def test_a_prompt(prompt: Any, said: str) -> None:
    assert refused(lambda: rxstream.stream("openai:m", prompt)) == said


OPTIONS: list[tuple[str, Any, str]] = [
    ("system", 5, "system: must be a string, not 5"),
    ("tools", "x", "tools: must be a list of tools, not 'x'"),
    ("tools", [5], "tools: a tool is a Tool, a dict, a function or a model class, not 5"),
    ("tools", [{"nam": "x"}], "tools: unknown key 'nam' in tool; did you mean 'name'?"),
    ("tools", [{"name": "x", "parameters": 5}], "tools: parameters: must be a dict, not 5"),
    ("tool_choice", "x", "tool_choice: there are no tools to choose from"),
    ("max_tokens", 0, "max_tokens: must be greater than or equal to 1, not 0"),
    ("max_tokens", "10", "max_tokens: must be a whole number, not '10'"),
    ("max_tokens", True, "max_tokens: must be a whole number, not True"),
    ("temperature", "hot", "temperature: must be a number, not 'hot'"),
    ("temperature", math.nan, "temperature: must be a finite number, not nan"),
    ("top_p", 2, "top_p: must be less than or equal to 1, not 2"),
    ("stop", [5], "stop[0]: must be a string, not 5"),
    ("seed", 1.5, "seed: must be a whole number, not 1.5"),
    (
        "response_format",
        "jsn",
        "response_format: a response format is 'json', a JSON schema or a model class, not 'jsn'",
    ),
    (
        "response_format",
        {"type": "strin"},
        "response_format: a JSON schema has no type 'strin'; did you mean 'string'?; for any JSON give 'json'",
    ),
    (
        "reasoning",
        "hard",
        "reasoning: must be 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max', not 'hard'",
    ),
    ("include_usage", "maybe", "include_usage: must be True or False, not 'maybe'"),
    ("extra", {"stream": False}, "extra: stream is always true here"),
    ("extra", {"a": object()}, f"extra: {NO_JSON}"),
    ("extra", {"a": {("b", 1)}}, f"extra: {NO_JSON}"),
    ("extra", {"a": math.nan}, f"extra: {NO_JSON}"),
    ("extra", CYCLE, f"extra: {NO_JSON}"),
    ("response_format", {"type": "object", "a": object()}, f"response_format: {NO_JSON}"),
    ("tools", [{"type": "native", "a": math.inf}], f"tools: {NO_JSON}"),
    ("extra_headers", ["x"], "extra_headers: must be a dict"),
    ("extra_headers", {"X": 5}, "extra_headers.X: must be a string"),
    ("client", 5, "client: openai needs an AsyncOpenAI, not int"),
    ("transport", "http", "transport='http': must be one of auto, httpx2, aiohttp"),
    ("parallel_tool_calls", "yes", "parallel_tool_calls: must be True or False, not 'yes'"),
    ("temperature", True, "temperature: must be a number, not True"),
    ("seed", True, "seed: must be a whole number, not True"),
    ("timeouts", {"idle": True}, "timeouts.idle: must be a number, not True"),
    ("timeouts", 1 << 20_000, "timeouts.total: must be a number, not a number of 20001 bits"),
    ("timeouts", -1, "timeouts.total: must be greater than 0, not -1"),
    ("timeouts", True, "timeouts: must be a dict or a Timeouts, not True"),
    ("timeouts", {"idel": 5}, "timeouts: unknown key 'idel' in timeouts; did you mean 'idle'?"),
    ("timeouts", {"idle": "x"}, "timeouts.idle: must be a number, not 'x'"),
    ("limits", {"event": 5}, "limits: unknown key 'event' in limits; did you mean 'events'?"),
    ("limits", {"events": 0}, "limits.events: must be greater than or equal to 1, not 0"),
    ("label", 5, "label=5: must be a str"),
    ("label", b"x", "label=a bytes: must be a str"),
    ("keep_raw", "no", "keep_raw='no': must be True or False"),
    ("keep_partial", 5, "keep_partial=5: must be True or False"),
    ("on_error", {"attempts": 3}, "on_error: attempts is for retry: {'action': 'retry', 'retry': {…}}"),
    ("on_error", 5, "on_error: must be an action, a Retry, an ErrorPolicy or a dict, not 5"),
    ("on_error", "retri", "on_error.action: must be 'fail', 'retry', 'failover' or 'complete_partial', not 'retri'"),
    ("guards", 5, "guards: must be a list of guards, not an int"),
    ("guards", [5], "guard 1 is an int: must have the methods enter and leave"),
]


@pytest.mark.parametrize(("name", "value", "said"), OPTIONS, ids=lambda value: value if isinstance(value, str) else "")
def test_an_option_of_a_stream(name: str, value: Any, said: str) -> None:
    assert refused(lambda: rxstream.stream("openai:m", "hi", **{name: value})) == said


made: Any = partial
"""What is called with what does not fit its signature: that is the mistake."""

MADE: list[tuple[Callable[[], object], str]] = [
    (made(Timeouts, idel=3), "unknown key 'idel' in timeouts; did you mean 'idle'?"),
    (made(Timeouts, idle=0), "idle: must be greater than 0, not 0"),
    (made(Limits, event=3), "unknown key 'event' in limits; did you mean 'events'?"),
    (made(Message, role="x", content="y"), f"role: must be {ROLES}, not 'x'"),
    (made(Tool, nam="x"), "unknown key 'nam' in tool; did you mean 'name'?"),
    (made(Retry, attempts=0), "attempts: must be greater than or equal to 1, not 0"),
    (made(Retry, attempts="3"), "attempts: must be a whole number, not '3'"),
    (made(Retry, delay=True), "delay: must be a number, not True"),
    (made(rxstream.from_sdk, 5), f"int {NO_STREAM}"),
    (
        made(rxstream.from_iterable, 5),
        "cannot make a stream of an int: give an iterable, or a function that makes one",
    ),
    (made(rxstream.from_iterable, "x"), "a string is a complete answer, not an iterable of pieces: use emulate()"),
    (made(rxstream.from_iterable, ["x"], text=5), "text=5: must be a function"),
    (made(rxstream.from_iterable, ["x"], usage=5), "usage=5: must be a function"),
    (made(rxstream.from_iterable, ["x"], label=5), "label=5: must be a str"),
    (made(rxstream.from_callback, 5), "from_callback takes a function that is given a callback, not an int"),
    (made(rxstream.from_callback, print, buffer="x"), "buffer='x': must be a whole number of at least 1"),
    (made(rxstream.from_callback, print, text=5), "text=5: must be a function"),
    (made(rxstream.emulate, 5), "emulate takes text, a Response, or a function that gives one: not an int"),
    (made(rxstream.replay, 5), "replay takes recorded events, not an int"),
    (made(rxstream.replay, [5]), "events[0] is an int, not an event of rxstream"),
    (made(rxstream.replay, [], speed="x"), "speed='x': must be a finite number"),
    (made(rxstream.TokenBucket, "x"), "rate='x': must be a finite number"),
    (made(rxstream.LocalServer, n_ctx="x"), "n_ctx='x': must be a whole number of at least 1"),
    (made(rxstream.LocalServer, timeout=-1), "timeout=-1: must be greater than 0"),
    (made(tracks.failover, rxstream.from_iterable([]), on_finish=5), "on_finish=5: must be a list of reasons, of "),
]


@pytest.mark.parametrize(("attempt", "said"), MADE, ids=lambda value: value if isinstance(value, str) else "")
def test_whatever_is_made(attempt: Callable[[], object], said: str) -> None:
    assert said in refused(attempt)


@pytest.mark.parametrize("name", ["temprature", "max_token", "modle"])
def test_a_misspelt_argument_is_one_of_python(name: str) -> None:
    """No function swallows it."""
    misspelt: dict[str, Any] = {name: 1}
    with pytest.raises(TypeError, match=name):
        rxstream.stream("openai:m", "hi", **misspelt)


def test_a_long_value_is_not_repeated() -> None:
    """It may be a prompt, or a key in the wrong place."""
    key = "sk-" + "k" * 40
    for attempt in (
        lambda: rxstream.stream(key, "hi"),
        lambda: rxstream.stream("openai:m", "hi", reasoning=key),  # type: ignore[arg-type]  # that is the mistake
        lambda: rxstream.stream("openai:m", "hi", base_url=key),
        lambda: rxstream.stream("openai:m", "hi", tool_choice=key),
        lambda: rxstream.stream("openai:m", "hi", transport=key),  # type: ignore[arg-type]  # as well
        lambda: operators.on_backpressure_buffer(10, overflow=key),  # type: ignore[arg-type]  # as well
    ):
        assert key not in refused(attempt)


async def test_a_client_comes_alone() -> None:
    """With its own URL and key; and it is of the right SDK, and does not block."""
    alone = "give either client= or base_url= and api_key=: a client has its own"
    async with openai.AsyncOpenAI(base_url="http://127.0.0.1:1", api_key="x") as client:
        assert refused(lambda: rxstream.stream("openai:m", "hi", client=client, api_key="y")) == alone
        assert refused(lambda: rxstream.stream("openai:m", "hi", client=client, base_url="http://127.0.0.1:2")) == alone
        said = refused(lambda: rxstream.stream("anthropic:m", "hi", client=client))
    assert said == "client: anthropic needs an AsyncAnthropic, not AsyncOpenAI"
    blocking: Any = openai.OpenAI(api_key="x")
    said = refused(lambda: rxstream.stream("openai:m", "hi", client=blocking))
    assert said == "client: OpenAI blocks; give AsyncOpenAI with the same arguments"


# --- operators and combinations -------------------------------------------------------------------------------------------


class Odd:
    """A value that fits nowhere."""

    def __repr__(self) -> str:
        return "<odd>"


ANYTHING = {"of_track.label", "of_type.kinds"}
"""Parameters that take any value."""


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for home in (operators, tracks):
        for name in home.__all__:
            if inspect.isfunction(function := getattr(home, name)):
                yield name, function


def filled(function: Callable[..., Any], wrong: str, value: object) -> tuple[list[Any], dict[str, Any]]:
    """Arguments that are right but for one."""
    two: list[Stream[Event]] = [rxstream.from_iterable(["a"]), rxstream.from_iterable(["b"])]
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional = (
                [value, value]
                if parameter.name == wrong
                else two
                if function.__module__.startswith("rxstream.tracks")
                else []
            )
        elif parameter.name == wrong:
            named[wrong] = value
        elif parameter.default is parameter.empty:
            kind = str(parameter.annotation)
            numbers = "int" in kind or "float" in kind
            named[parameter.name] = print if "Callable" in kind else 1 if numbers else "x" if "str" in kind else two[0]
    return positional, named


WHERE = [(name, parameter) for name, function in functions() for parameter in inspect.signature(function).parameters]


@pytest.mark.parametrize(("name", "parameter"), WHERE, ids=lambda word: word)
def test_an_option_of_an_operator(name: str, parameter: str) -> None:
    """What fits nowhere is refused when the operator is built; other nonsense is taken or refused, never raised of."""
    function = dict(functions())[name]
    value: Any
    for value in (Odd(), "x\x1b", -1, math.nan, math.inf, True, b"x", [], None, 10**400):
        positional, named = filled(function, parameter, value)
        try:
            function(*positional, **named)
        except ConfigurationError as error:
            said = str(error)
        else:
            said = ""
        if isinstance(value, Odd):
            assert said or f"{name}.{parameter}" in ANYTHING, "it was taken"
            singular = parameter.removesuffix("s")
            assert parameter in said or singular in said or "track" in said or "give " in said or not said


# --- the command ----------------------------------------------------------------------------------------------------------

COMMANDS: list[tuple[list[str], str]] = [
    (["-m", "opnai:m", "hi"], "did you mean 'openai:'?"),
    (["-m", "compatible:m", "hi"], "compatible has no URL of its own: give base_url="),
    (["-m", "compatible:m", "--base-url", "ftp://x", "hi"], "base_url: must begin with http:// or https:// and a host"),
    (["-m", "openai:m", "--timeout", "-1", "hi"], "timeouts.total: must be greater than 0"),
    (["-m", "openai:m", "--max-tokens", "0", "hi"], "max_tokens: must be greater than or equal to 1"),
    (["-m", "openai:m", "-t", "nan", "hi"], "temperature: must be a finite number"),
    (["-m", "openai:m", "\udcff"], "the prompt is not"),
    (["-m", "openai:m", "  "], "the prompt is empty"),
    (["demo", "-m", "opnai:m"], "did you mean 'openai:'?"),
]


@pytest.mark.parametrize(("arguments", "said"), COMMANDS, ids=ascii)
def test_an_argument_of_the_command(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, one line on standard error, no traceback."""
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("rxstream: ")
    assert said in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--frobnicate"], ["-t", "x", "hi"], ["duo", "--strategy", "best"], ["models", "x"]]
)
def test_an_argument_that_there_is_not(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: rxstream" in capsys.readouterr().err
