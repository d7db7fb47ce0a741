"""The answers of models, written down in one run of a test and read again in all others: without a network, without a key.

Rules of this module:

* A body is a file, byte for byte as it came: server-sent events that ``rxstream chaos-server --tape`` serves, too. The question
  and the headers are not written down. What is or looks like a key is struck out of the answer.
* Recorded is what rxstream asks of a provider itself; a stream that somebody's SDK has opened is not, nor a refusal.
* A body is known by the model that it is of, and by its number among those: so several models may be asked at once.
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
from rxstream._secrets import Secrets, keys_in_use
from rxstream.errors import ConfigurationError
from rxstream.providers import PROVIDERS
from rxstream.sources._source import Source
from rxstream.sources._tapped import shapes

__all__ = ["Cassette"]

_ODD: Final = re.compile(r"[^A-Za-z0-9._]+")
_PIECE: Final = re.compile(rb".+?\n\n|.+", re.DOTALL)


class Cassette:
    """Within it, every request to a model is recorded, or answered from what was recorded. A context manager.

    Args:
        folder: Where the files are.
        name: What their names begin with: that of the test.
        recording: Whether to record. What was recorded under this name before is deleted; the files are there when it is left.

    Raises:
        ConfigurationError: an option is not as described. A stream of which nothing was recorded gets it, too.

    Example:
        >>> from rxstream import stream
        >>> from rxstream.testing import Cassette
        >>> with Cassette("tests/recordings", name="test_weather"):
        ...     stream("openai:gpt-5", "What is the weather?").run()
        Traceback (most recent call last):
        rxstream.errors.ConfigurationError: nothing was recorded of test_weather.openai-gpt_5.1.sse in tests/recordings
    """

    def __init__(self, folder: str | Path, *, name: str, recording: bool = False) -> None:
        flag("recording", recording)
        if not name:
            raise ConfigurationError("name: must not be empty")
        self.folder = Path(folder)
        self.name = _plain(name)
        self.recording = recording
        self.files: list[Path] = []
        """What was recorded, or read, in the order of the requests."""
        self._counts: Counter[str] = Counter()
        self._heard: dict[Path, list[bytes]] = {}

    def __enter__(self) -> Self:
        if self.recording:
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in self.folder.glob(f"{self.name}.*.sse"):
                old.unlink()
        shapes.append(self._shape)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shapes.remove(self._shape)
        for path, pieces in self._heard.items():
            if pieces:
                path.write_bytes(_without_keys(b"".join(pieces)))

    def _shape(self, source: Source[Any]) -> Source[Any]:
        """`source`, recorded or played, if it asks a model."""
        if source.provider in PROVIDERS and not source.keep_labels:
            if self.recording:
                return replace(source, open=partial(self._record, source))
            return replace(source, open=partial(self._play, source), prepare=None)
        return source

    def _next(self, source: Source[Any]) -> Path:
        model = f"{_plain(source.provider)}-{_plain(source.model)}"
        self._counts[model] += 1
        path = self.folder / f"{self.name}.{model}.{self._counts[model]}.sse"
        self.files.append(path)
        return path

    @asynccontextmanager
    async def _record(self, source: Source[Any]) -> AsyncGenerator[AsyncIterator[Any]]:
        pieces = self._heard[self._next(source)] = []
        opened: AbstractAsyncContextManager[AsyncIterator[Any]] = source.open()
        async with opened as body:
            yield _Heard(body, pieces)

    @asynccontextmanager
    async def _play(self, source: Source[Any]) -> AsyncGenerator[AsyncIterator[bytes]]:
        path = self._next(source)
        try:
            body = path.read_bytes()
        except OSError:
            raise ConfigurationError(f"nothing was recorded of {path.name} in {self.folder}") from None
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


def _without_keys(body: bytes) -> bytes:
    text = body.decode("utf-8", "surrogateescape")
    return Secrets(keys_in_use()).strike(text).encode("utf-8", "surrogateescape")


def _plain(name: str) -> str:
    return _ODD.sub("_", name).strip("_") or "_"
