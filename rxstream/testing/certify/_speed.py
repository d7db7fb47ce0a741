"""What an event costs a client, against a reader that does the least: a raw socket, lines, and json."""

from __future__ import annotations

import json
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from rxstream.providers.compatible import Dialect
from rxstream.testing.certify import _burst
from rxstream.testing.certify._bench import Bench, Finding
from rxstream.testing.certify._client import Told
from rxstream.testing.chaos import Script, render

__all__ = ["speed"]

_FEW: Final = 200
_MANY: Final = 2700
_ROUNDS: Final = 3
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
_PATH: Final[dict[Dialect, str]] = {
    "anthropic": "/v1/messages",
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
}


def speed(bench: Bench) -> str:
    """CPU time of an event as a multiple of the raw reader's, and in microseconds.

    Raises:
        Finding: it does not give the whole text.
    """
    with _server(bench.dialect) as url:
        ask = partial(_ask, bench, url)
        raw = partial(_read, url, bench.dialect)
        for reader in (ask, raw):
            reader(_FEW)  # imports, connections, caches
        costs = [(_cost(ask, _cpu), _cost(raw, time.thread_time)) for _ in range(_ROUNDS)]
    theirs, least = (statistics.median(column) for column in zip(*costs, strict=True))
    if theirs <= 0:
        raise Finding("n/a", "its events cost less than what its start does by chance")
    return f"{theirs / least:.1f} x ({theirs * 1e6:.0f} µs)"


def _cost(reader: Callable[[int], None], clock: Callable[[], float]) -> float:
    """Seconds of CPU an event: what many cost more than few, so that all that is not an event falls out."""
    marks = [clock()]
    for count in (_FEW, _MANY):
        reader(count)
        marks.append(clock())
    few, many = marks[1] - marks[0], marks[2] - marks[1]
    return (many - few) / (_MANY - _FEW)


def _cpu() -> float:
    """Of this process and of those it waited for, in seconds."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _ask(bench: Bench, url: str, count: int) -> None:
    told = Told()
    question = bench.question(url, timeout=bench.patience, model=f"burst-{count}")
    run = bench.target.start(question, told)
    if not told.over.wait(6 * bench.patience):
        run.abandon()
        raise Finding("hangs", f"goes on, for {6 * bench.patience:g} s and more")
    if told.unsupported:
        raise Finding("n/a", told.error)
    text = "".join(_words(count))
    if told.error or told.text.rstrip() != text.rstrip():
        raise Finding("fail", f"said {len(told.text)} of {len(text)} characters {told.error}".rstrip())


def _read(url: str, dialect: Dialect, count: int) -> None:
    """All that nobody can do without."""
    where = urlsplit(url)
    body = b'{"model":"burst-%d"}' % count
    head = f"POST {_PATH[dialect]} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((where.hostname or "", where.port or 0)) as connection:
        connection.sendall(head.encode() + body)
        for line in connection.makefile("rb"):
            if line.startswith(b"data: {"):
                json.loads(line[6:])


@contextmanager
def _server(dialect: Dialect) -> Generator[str]:
    answers = {f"burst-{count}": _answer(dialect, count) for count in (_FEW, _MANY)}
    sizes = json.dumps({name: len(answer) for name, answer in answers.items()})
    command = [sys.executable, "-I", _burst.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - ourselves
        given, output = process.stdin, process.stdout
        assert given is not None  # noqa: S101 - both were asked for
        assert output is not None  # noqa: S101
        try:
            given.write(b"".join([sizes.encode(), b"\n", *answers.values()]))
            given.flush()
            yield f"http://127.0.0.1:{int(output.readline())}"
        finally:
            process.communicate()


def _answer(dialect: Dialect, count: int) -> bytes:
    """The bytes of an answer of so many pieces of text, each event an HTTP chunk of its own."""
    frames = render(Script(*_words(count)), dialect)
    return b"".join([_HEAD, *(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames), b"0\r\n\r\n"])


def _words(count: int) -> list[str]:
    """So many pieces of text; no two neighbours are alike, which some clients take for a fault of the model."""
    return [f"word{number % 100} " for number in range(count)]
