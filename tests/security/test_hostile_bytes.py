"""Payloads that are made to break a decoder: an event, an error of ours, and never anything else; in linear time.

``RXSTREAM_LONG=1`` plays all of them; else a sample, another one in each run.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from rxstream._secrets import Secrets
from rxstream.aggregate import aggregate
from rxstream.errors import ProtocolError, StreamError
from rxstream.events import Event, decode, encode
from rxstream.messages import ToolCall
from rxstream.providers import decoder_for
from rxstream.providers.anthropic import errors as anthropic
from rxstream.providers.openai_chat import errors as openai
from tests.support.asking import DIALECTS, GOOD

LONG: Final = os.environ.get("RXSTREAM_LONG") == "1"
SAMPLE: Final = 300
MEBIBYTE: Final = 1024 * 1024

VALUES: Final = [
    *(b"[" * depth + b"]" * depth for depth in (100, 127, 500, 990, 1100, 100_000)),
    *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (100, 127, 500, 990, 1100, 50_000)),
    b"[" * 5000,
    *(b"9" * digits for digits in (30, 400, 5000)),
    b"-" + b"9" * 5000,
    b"18446744073709551616",
    b"-9223372036854775809",
    *(b"1e400 -1e400 1e-400 NaN Infinity -Infinity -0 1.0 0.1 1e5 00 1. .5".split()),
    *(b"null true false {} [] [null] [1] [[],{}]".split()),
    *(rb'"" "x" "\ud800" "\udc00\ud800" "\u0000" "\u0085" "\ud83d\ude00" "\x"'.split()),
    b'"\x00"',
    b'"\xed\xa0\x80"',
    b'"\xc0\x80"',
    b'"\xf5\x80\x80\x80"',
    b'{"a":1,"a":2}',
    b'{"type":"text_delta","type":"error"}',
    b'"' + b"x" * 100_000 + b'"',
    b"",
]
"""What may stand in the place of any value of any payload."""


def answer(name: str) -> list[bytes]:
    return GOOD[name]("Hel", "lo", tools=[("call_1", "weather", ['{"city": "Par', '"}'])])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value in a JSON value."""
    yield path
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def with_value(frame: bytes, path: tuple[Any, ...], value: bytes) -> bytes:
    """The event, with `value` at the end of the path."""
    head, _, data = frame.partition(b"data: ")
    top = {"": json.loads(data)}
    inner: Any = top
    for step in ("", *path)[:-1]:
        inner = inner[step]
    inner[("", *path)[-1]] = "@here@"
    return head + b"data: " + json.dumps(top[""]).encode().replace(b'"@here@"', value) + b"\n\n"


def all_of(name: str) -> list[tuple[int, tuple[Any, ...], bytes]]:
    frames = [frame for frame in answer(name) if frame.partition(b"data: ")[2].startswith(b"{")]
    return [
        (number, path, value)
        for number, frame in enumerate(frames)
        for path in places(json.loads(frame.partition(b"data: ")[2]))
        for value in VALUES
    ]


def sample(name: str) -> list[tuple[int, tuple[Any, ...], bytes]]:
    rows = all_of(name)
    return rows if LONG else random.sample(rows, SAMPLE)


def read(name: str, frames: list[bytes]) -> tuple[list[Event], StreamError | None]:
    """The events, and the error if there is one."""
    decoder, events = decoder_for(name), list[Event]()
    try:
        for frame in frames:
            events += decoder.feed(frame)
        events += decoder.close()
    except StreamError as error:
        return events, error
    return events, decoder.failure


@pytest.mark.parametrize("name", DIALECTS)
def test_any_value_anywhere(name: str) -> None:
    """What is decoded can be shown, kept, copied and added up; what is not is an error that can be sent elsewhere."""
    frames = answer(name)
    for number, path, value in sample(name):
        hostile = [*frames[:number], with_value(frames[number], path, value), *frames[number + 1 :]]
        start = time.process_time()
        try:
            events, error = read(name, hostile)
            for event in events:
                assert decode(encode(event)) == event
                assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301 - written here
                assert copy.deepcopy(event) == event
            response = aggregate(events)
            assert repr(response)
            assert response.model_dump_json()
            assert response.message() is not None
            if error is not None:
                assert len(str(error)) < 1000
                assert pickle.loads(pickle.dumps(error)).body == error.body  # noqa: S301 - written here
        except BaseException as fault:
            fault.add_note(f"{name}: payload {number}, {path}: {value[:60]!r} ({len(value)} bytes)")
            raise
        assert time.process_time() - start < 5, (number, path, value[:60])


@pytest.mark.parametrize("name", DIALECTS)
def test_a_payload_that_is_nested_too_deep(name: str) -> None:
    """It is an error of the protocol, with what came before it; brackets in a text are no nesting."""
    frames = answer(name)
    deep = with_value(frames[2], (), b'{"type": "new", "a": ' + b"[" * 130 + b"]" * 130 + b"}")
    events, error = read(name, [*frames[:2], deep])
    assert type(error) is ProtocolError
    assert events == read(name, frames[:2])[0]
    text = json.dumps("[{" * 5000 + '\\"')[1:-1].encode()
    events, error = read(name, [frame.replace(b'"Hel', b'"' + text) for frame in frames])
    assert error is None
    assert "[{" * 5000 in aggregate(events).text


def test_arguments_that_are_nested_too_deep() -> None:
    """A model wrote them: to read them fails as it does with any other text that is no JSON."""
    with pytest.raises(ValueError, match="too deep"):
        ToolCall(name="weather", arguments="[" * 100_000 + "]" * 100_000).parse()


@pytest.mark.parametrize("classify", [anthropic.classify, openai.classify])
@pytest.mark.parametrize("status", [None, 400, 429, 500])
def test_any_body_is_an_error(classify: Callable[..., StreamError], status: int | None) -> None:
    """Whatever a provider answers in place of a stream."""
    words = b'{"type": "error", "error": {"type": %b, "message": %b, "code": %b}, "message": %b, "detail": %b, "status": %b}'
    texts = [b'"try again in ' + b"9" * 5000 + b'm"', b'"try again in 1.2.3s"', b'"rate limit exceeded"']
    bodies = [words % ((value,) * 6) for value in [*VALUES, *texts]]
    for body in [*bodies, *VALUES, b"\xff\xfe", b"\x00" * 100]:
        error = classify(status=status, body=body, headers={"retry-after": "9" * 400, "x-should-retry": "maybe"})
        assert len(error.message) <= 500
        assert len(error.code) <= 500
        assert pickle.loads(pickle.dumps(error)).message == error.message  # noqa: S301 - written here


# --- time -----------------------------------------------------------------------------------------------------------------


def _decoded(name: str, made: Callable[[int], bytes]) -> Callable[[int], object]:
    frames = answer(name)
    return lambda size: read(name, [*frames[:3], b"data: " + made(size) + b"\n\n"])


PAYLOADS: Final[dict[str, Callable[[int], bytes]]] = {
    "an open text": lambda size: b'"' + b'\\"[' * (size // 3),
    "half characters": lambda size: b'{"type": "' + rb"\ud800" * (size // 6) + b'"}',
    "names": lambda size: b"{" + b'"type":"x",' * (size // 11) + b'"a":1}',
    "what looks like a key": lambda size: b'{"error": "' + b"eyJ-" * (size // 4) + b'"}',
    "backslashes": lambda size: b'{"error": "' + b"\\\\" * (size // 2) + b'"}',
    "flat brackets": lambda size: b"[" + b"[],{}," * (size // 6) + b"1]",
}
LINEAR: Final[dict[str, Callable[[int], object]]] = {
    **{f"{name}: {row}": _decoded(name, made) for name in DIALECTS for row, made in PAYLOADS.items()},
    "lines without end": lambda size: decoder_for("openai").feed(b"data:x\n" * (size // 7)),
    "byte line ends": lambda size: decoder_for("openai").feed(b"\r" * size),
    "comments": lambda size: decoder_for("openai").feed(b":\n" * (size // 32)),
    "secrets": lambda size: Secrets(["abcdefghijklmnopqrstuvwxyz"]).strike("abcdefghijkl\\\\%&amp;" * (size // 320)),
}


@pytest.mark.parametrize("row", LINEAR)
def test_twice_as_much_takes_twice_as_long(row: str) -> None:
    """Not four times; the best of three, for the machine may be busy."""
    largest = (8 if LONG else 1) * MEBIBYTE

    def best(size: int) -> float:
        times: list[float] = []
        gc.disable()  # what else lives in this process is not what is measured
        try:
            for _ in range(3):
                start = time.process_time()
                LINEAR[row](size)
                times.append(time.process_time() - start)
        finally:
            gc.enable()
        return min(times)

    once = best(largest // 4)
    assert best(largest) < 4 * 2.5 * max(once, 0.002)
