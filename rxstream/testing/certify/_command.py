"""Commands that are certified: a process for each question, and how what it writes is understood."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import shlex
import signal
import subprocess
import threading
from typing import Final

from rxstream.errors import ConfigurationError
from rxstream.testing.certify._client import Question, Told
from rxstream.testing.certify._target import Run

__all__ = ["CommandTarget"]

_GRACE: Final = 1.0
"""Seconds for what was killed to end."""


class CommandTarget:
    """A command. It finds the question in its environment, and tells the answer on its standard output.

    Args:
        words: The command and its arguments.
    """

    def __init__(self, words: list[str]) -> None:
        self.name = shlex.join(words)
        self._words = words

    def start(self, question: Question, told: Told) -> Run:
        """Ask it.

        Raises:
            ConfigurationError: it cannot be run.
        """
        try:
            return _ProcessRun(self._words, question, told)
        except OSError as error:
            raise ConfigurationError(f"target: {self.name!r} cannot be run: {error.strerror or error}") from error

    def close(self) -> None:
        """Nothing is left of it."""


def _environment(question: Question) -> dict[str, str]:
    own = {
        "BASE_URL": question.base_url,
        "DIALECT": question.dialect,
        "MODEL": question.model,
        "PROMPT": question.prompt,
        "API_KEY": question.api_key,
        "TIMEOUT": f"{question.timeout:g}",
        "TOOLS": json.dumps(list(question.tools)),
    }
    vendor = "ANTHROPIC" if question.dialect == "anthropic" else "OPENAI"
    theirs = {f"{vendor}_BASE_URL": question.base_url, f"{vendor}_API_KEY": question.api_key}
    return {**os.environ, **theirs, **{f"RXSTREAM_CERTIFY_{name}": value for name, value in own.items()}}


class _ProcessRun:
    """A process: told to stop, it is interrupted as by Ctrl-C."""

    early = True

    def __init__(self, words: list[str], question: Question, told: Told) -> None:
        self._told = told
        self._process = subprocess.Popen(  # noqa: S603 - what the user asked us to run
            words,
            env=_environment(question),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._said = threading.Thread(target=self._listen, daemon=True)
        self._said.start()
        threading.Thread(target=self._read, daemon=True).start()

    def stop(self) -> None:
        self._told.stop()
        self._signal(signal.SIGINT)

    def abandon(self) -> None:
        if not self._told.over.is_set():
            self._signal(signal.SIGKILL)
            self._told.over.wait(_GRACE)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _read(self) -> None:
        told, output = self._told, self._process.stdout
        assert output is not None  # noqa: S101 - it was asked for above
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        hear = _Hearing(told)
        try:
            while piece := os.read(output.fileno(), 65536):
                hear(decode(piece))
            hear(decode(b"", final=True), last=True)
        except (ValueError, TypeError, KeyError) as error:
            told.misuse = told.misuse or f"its output is neither text nor JSON Lines of pieces: {error!r}"
        output.close()
        status = self._process.wait()
        self._said.join(_GRACE)
        if status:
            told.error = f"exit status {status}{self._last_words}"
        told.over.set()

    def _listen(self) -> None:
        errors = self._process.stderr
        assert errors is not None  # noqa: S101 - it was asked for above
        with errors:
            last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
        self._last_words = f": {last[0]}" if last else ""


class _Hearing:
    """What a command writes, told as it comes: JSON Lines if it begins with a brace, else plain text without its last newline."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._rest = ""
        told.text_only = True

    def __call__(self, said: str, *, last: bool = False) -> None:
        self._rest += said
        if not self._told.text_only or self._rest.startswith("{"):
            self._told.text_only = False
            *lines, self._rest = f"{self._rest}\n".split("\n") if last else self._rest.split("\n")
            for line in filter(str.strip, lines):
                self._told.add(json.loads(line))
        else:
            text = self._rest.rstrip("\n")  # whether a newline is the last is not known yet
            kept = self._rest[:-1] if last and self._rest.endswith("\n") else self._rest if last else text
            self._rest = self._rest[len(kept) :]
            self._told.add(kept)
