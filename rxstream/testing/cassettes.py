"""The answers of models, written down in one run of a test and read again in all others: without a network, without a key.

Rules of this module:

* A body is a file, byte for byte as it came: server-sent events that ``rxstream chaos-server --tape`` serves, too. The question
  and the headers are not written down. What is or looks like a key is struck out of the answer, and so is what says the question
  back.
* Recorded is what rxstream asks of a provider itself; a stream that somebody's SDK has opened is not, nor a refusal.
* A body is known by the model that it is of, and by its number among those: so several models may be asked at once. Numbers are
  given in the order of the requests when the recording is over: one that was refused has none, and is not asked again.
* What was recorded before goes when there is something in its place: a failed run loses nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rxstream._check import flag
from rxstream.errors import ConfigurationError
from rxstream.providers import PROVIDERS
from rxstream.sources._source import Source
from rxstream.sources._tapped import shapes
from rxstream.tapes.redact import Redactor

__all__ = ["Cassette"]

_ODD: Final = re.compile(r"[^A-Za-z0-9._]+")
_REST: Final = r"\.[A-Za-z0-9_]+-.+\.[0-9]+\.sse"
"""What comes behind a name in that of a file: provider, model and number. No name has a "-" in it."""
_PIECE: Final = re.compile(rb".+?\n\n|.+", re.DOTALL)


class Cassette:
    """Within it, every request to a model is recorded, or answered from what was recorded. A context manager.

    Args:
        folder: Where the files are.
        name: What their names begin with: that of the test.
        recording: Whether to record. The files are there when it is left, in place of what was recorded under this name before,
            which stays if all that was asked failed.

    Raises:
        ConfigurationError: an option is not as described. A stream of which nothing was recorded gets it, too.

    Example:
        >>> from rxstream import stream
        >>> from rxstream.testing import Cassette
        >>> with Cassette("tests/recordings", name="test_weather"):  # doctest: +ELLIPSIS
        ...     stream("openai:gpt-5", "What is the weather?").run()
        Traceback (most recent call last):
        rxstream.errors.ConfigurationError: nothing was recorded of test_weather.openai-gpt_5.1.sse in tests/recordings: ...
    """

    def __init__(self, folder: str | Path, *, name: str, recording: bool = False) -> None:
        flag("recording", recording)
        if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError("name: must be a string, and not empty")
        self.folder = Path(folder)
        self.name = _plain(name)
        self.recording = recording
        self.files: list[Path] = []
        """What was recorded, or read, in the order of the requests."""
        self._counts: Counter[str] = Counter()
        self._heard: list[tuple[str, list[bytes]]] = []
        self._redactor = Redactor(("keys", "prompts"))

    def __enter__(self) -> Self:
        for noted in (self._counts, self._heard, self.files):
            noted.clear()
        if self.recording:
            self.folder.mkdir(parents=True, exist_ok=True)
        shapes.append(self._shape)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shapes.remove(self._shape)
        bodies = [(model, body) for model, pieces in self._heard if (body := b"".join(pieces))]
        if self.recording and (bodies or not self._heard):
            own = re.compile(re.escape(self.name) + _REST)
            for old in self.folder.iterdir():
                if own.fullmatch(old.name):
                    old.unlink()
        for model, body in bodies:
            self._next(model).write_bytes(self._redactor.body(body))

    def _shape(self, source: Source[Any]) -> Source[Any]:
        """`source`, recorded or played, if it asks a model."""
        if source.provider in PROVIDERS and not source.keep_labels:
            if self.recording:
                return replace(source, open=partial(self._record, source))
            return replace(source, open=partial(self._play, source), prepare=None)
        return source

    def _next(self, model: str) -> Path:
        self._counts[model] += 1
        path = self.folder / f"{self.name}.{model}.{self._counts[model]}.sse"
        self.files.append(path)
        return path

    @asynccontextmanager
    async def _record(self, source: Source[Any]) -> AsyncGenerator[AsyncIterator[Any]]:
        pieces: list[bytes] = []
        self._heard.append((_model(source), pieces))
        opened: AbstractAsyncContextManager[AsyncIterator[Any]] = source.open()
        async with opened as body:
            self._redactor.refresh()  # the connection is there, and so is its key: it is gone when the file is written
            yield _Heard(body, pieces)

    @asynccontextmanager
    async def _play(self, source: Source[Any]) -> AsyncGenerator[AsyncIterator[bytes]]:
        path = self._next(_model(source))
        try:
            body = path.read_bytes()
        except OSError:
            raise ConfigurationError(
                f"nothing was recorded of {path.name} in {self.folder}: ask the models once, "
                "with recording=True or pytest's --rxstream-record"
            ) from None
        yield _played(body)


class _Heard:
    """A body, and what came of it."""

    def __init__(self, body: AsyncIterator[Any], pieces: list[bytes]) -> None:
        self.rate_limits = getattr(body, "rate_limits", None)
        self.drain = getattr(body, "drain", None)
        self._body = body
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        data = await self._body.__anext__()
        if isinstance(data, bytes):
            self._pieces.append(data)
        return data


async def _played(body: bytes) -> AsyncGenerator[bytes]:
    """An event at a time, as it would come."""
    for piece in _PIECE.findall(body):
        await asyncio.sleep(0)
        yield piece


def _model(source: Source[Any]) -> str:
    return f"{_plain(source.provider)}-{_plain(source.model)}"


def _plain(name: str) -> str:
    return _ODD.sub("_", name).strip("_") or "_"
