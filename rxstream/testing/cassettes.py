"""The answers of models, written down in one run of a test and read again in all others: without a network, without a key.

Rules of this module:

* A body is a file, byte for byte as it came: server-sent events that ``rxstream chaos-server --tape`` serves, too. The question
  and the headers are not written down. What is or looks like a key is struck out of the answer, and so is what says the question
  back.
* So is a refusal, such as of a wrong key, with its body: as the error that it was. One after which the same was asked again is
  not: nobody wants to wait for that once more. Whether a model can be reached at all is not recorded.
* Recorded is what rxstream asks of a provider itself; a stream that somebody's SDK has opened is not, nor is a tape.
* A body is known by the model that it is of, and by its number among those, in the order in which they were asked; where a model
  was asked different things in one test by a digest of the question, too: so several may be asked at once.
* What was recorded before goes when there is an answer in its place: a run in which nobody answers loses none.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from rxstream._check import flag
from rxstream.config import Request
from rxstream.errors import ConfigurationError, StreamError, error_of
from rxstream.events import ErrorInfo
from rxstream.sources._source import Source
from rxstream.sources._tapped import shapes
from rxstream.tapes.redact import Redactor

__all__ = ["Cassette"]

_ODD: Final = re.compile(r"[^A-Za-z0-9._]+")
_REST: Final = r"\.([A-Za-z0-9_]+-.+)\.([0-9]+)(?:-([0-9a-f]{8}))?\.(?:sse|json)"
"""What comes behind a name in that of a file: provider, model, number, and a digest. No name has a "-" in it."""
_PIECE: Final = re.compile(rb".+?\n\n|.+", re.DOTALL)


class Cassette:
    """Within it, every request to a model is recorded, or answered from what was recorded. A context manager.

    Args:
        folder: Where the files are.
        name: What their names begin with: that of the test.
        recording: Whether to record. The files are there when it is left, in place of what was recorded under this name before.
            That stays if nothing was asked, and, where it has answers, if all that was asked failed.

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
        self._heard: list[_Answer] = []
        self._recorded: dict[str, list[_File]] = {}
        self._redactor = Redactor(("keys", "prompts"))

    def __enter__(self) -> Self:
        for noted in (self._counts, self._heard, self._recorded, self.files):
            noted.clear()
        if self.recording:
            self.folder.mkdir(parents=True, exist_ok=True)
        for file in () if self.recording else self._own():
            self._recorded.setdefault(file.model, []).append(file)
        shapes.append(self._shape)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shapes.remove(self._shape)
        if self.recording:
            self._write()

    def _own(self) -> list[_File]:
        """The files under this name."""
        pattern = re.compile(re.escape(self.name) + _REST)
        paths = self.folder.iterdir() if self.folder.is_dir() else ()
        found = [
            _File(path, match[1], int(match[2]), match[3]) for path in paths if (match := pattern.fullmatch(path.name))
        ]
        return sorted(found, key=lambda file: file.number)

    def _write(self) -> None:
        heard = [answer for at, answer in enumerate(self._heard) if answer.stands(self._heard[at + 1 :])]
        old = self._own()
        answered = any(answer.pieces for answer in heard) or all(file.path.suffix == ".json" for file in old)
        if not heard or not answered:
            return
        for file in old:
            file.path.unlink()
        several = {
            one.model for one in heard for other in heard if one.model == other.model and one.digest != other.digest
        }
        counts: Counter[str] = Counter()
        for answer in heard:
            counts[answer.model] += 1
            digest = f"-{answer.digest}" if answer.model in several else ""
            data, suffix = answer.written(self._redactor)
            path = self.folder / f"{self.name}.{answer.model}.{counts[answer.model]}{digest}.{suffix}"
            path.write_bytes(data)
            self.files.append(path)

    def _shape(self, source: Source[Any]) -> Source[Any]:
        """`source`, recorded or played, if it asks a model."""
        if source.asks is None:
            return source
        model, digest = f"{_plain(source.provider)}-{_plain(source.model)}", _digest(source.asks)
        if self.recording:
            answer = _Answer(model, digest)
            self._heard.append(answer)
            return replace(source, open=partial(self._record, source, answer))
        return replace(source, open=partial(self._play, self._next(model, digest)), prepare=None)

    def _next(self, model: str, digest: str) -> Path:
        """The file with the answer to this question, or where it should be."""
        self._counts[model] += 1
        all_of_it = self._recorded.get(model, [])
        fitting = [file for file in all_of_it if file.digest == digest] or all_of_it
        left = [file for file in fitting if file.path not in self.files]
        if not left and fitting and fitting[-1].path.suffix == ".json":  # who is refused may ask as often as they like
            left = fitting[-1:]
        path = left[0].path if left else self.folder / f"{self.name}.{model}.{self._counts[model]}.sse"
        self.files.append(path)
        return path

    @asynccontextmanager
    async def _record(self, source: Source[Any], answer: _Answer) -> AsyncGenerator[AsyncIterator[Any]]:
        opened = False
        try:
            async with source.open() as body:
                opened = True
                self._redactor.refresh()  # the connection is there, and so is its key: it is gone when the file is written
                yield _Heard(body, answer.pieces)
        except StreamError as error:
            if not opened and (error.status is not None or error.code):  # else nobody has answered
                self._redactor.refresh()
                answer.refusal = error
            raise

    @asynccontextmanager
    async def _play(self, path: Path) -> AsyncGenerator[AsyncIterator[bytes]]:
        yield _played(_said(path))


@dataclass(frozen=True)
class _File:
    """An answer that was recorded."""

    path: Path
    model: str
    number: int
    digest: str | None


@dataclass
class _Answer:
    """What came of one request."""

    model: str
    digest: str
    pieces: list[bytes] = field(default_factory=list[bytes])
    refusal: StreamError | None = None

    def stands(self, later: Iterable[_Answer]) -> bool:
        """Whether there is something to be written down."""
        if self.refusal is None:
            return any(self.pieces)
        same = (other for other in later if (other.model, other.digest) == (self.model, self.digest))
        return not any(other.pieces or other.refusal for other in same)

    def written(self, redactor: Redactor) -> tuple[bytes, str]:
        """What stands in its file, and how the file's name ends."""
        if self.refusal is None:
            return redactor.body(b"".join(self.pieces)), "sse"
        error = self.refusal
        told = _Refusal(error=error.info(), request_id=error.request_id, body=error.body)
        return redactor.json(msgspec.json.encode(told)) + b"\n", "json"


class _Refusal(msgspec.Struct, omit_defaults=True):
    """What stands in the file of one."""

    error: ErrorInfo
    request_id: str = ""
    body: str = ""


def _said(path: Path) -> bytes:
    """The body in a file; what is in that of a refusal is raised."""
    try:
        data = path.read_bytes()
        if path.suffix != ".json":
            return data
        told = msgspec.json.decode(data, type=_Refusal)
    except OSError:
        raise ConfigurationError(
            f"nothing was recorded of {path.name} in {path.parent}: ask the models once, "
            "with recording=True or pytest's --rxstream-record"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is no refusal: {error}") from None
    refusal = error_of(told.error)
    refusal.request_id, refusal.body = told.request_id, told.body
    raise refusal


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


def _digest(asks: Request) -> str:
    """By which a question is known again. It is too short to say what was asked."""
    asked = asks.model_dump(exclude={"provider", "model", "extra_headers"})
    return hashlib.sha256(repr(asked).encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _plain(name: str) -> str:
    return _ODD.sub("_", name).strip("_") or "_"
