"""Reading a tape: all that stands on it, and what became of its end.

Rules of this module:

* A torn last line is no fault of the tape's: it is left out, and told (`Tape.torn`). So is a torn header, behind which is nothing.
* A line that is not one, and is not the last, is a fault.
* The files of one recording are read as one tape, as far as they follow each other; also while it is written, and goes on to a new file.
"""

from __future__ import annotations

import io
import itertools
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import msgspec

from rxstream._check import kind_of
from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.providers import PROVIDERS
from rxstream.tapes._writer import flush
from rxstream.tapes.format import FORMAT, HEAD, VERSION, Asked, Header, Line, is_tape, may_be_tape

__all__ = ["Reading", "Recorded", "Tape", "is_tape", "load", "opened", "parse"]

_SPOKEN: Final[Mapping[str, str]] = {
    "anthropic": "anthropic",
    "openai-chat": "compatible",
    "openai-responses": "openai",
}
"""A provider of ours for each dialect."""
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What is raised by what is no line: also by one that is nested too deeply."""
_TRIES: Final = 100
"""How often the files of a recording are looked for that goes on to a new file just then."""
_TAIL: Final = 64 * 1024
"""Bytes in which the last line of a file stands, where it says how the stream ended."""
_TORN: Final = Header(tape=FORMAT, version=VERSION, kind="events")
"""Of a tape whose own header is torn."""


class _Version(msgspec.Struct):
    """What the header of every version has."""

    version: int


_version = msgspec.json.Decoder(_Version)
_header = msgspec.json.Decoder(Header)
_line = msgspec.json.Decoder(Line)


@dataclass(frozen=True)
class Recorded:
    """One request on a tape of bytes."""

    number: int
    asked: Asked
    lines: Sequence[Line] = field(repr=False)
    """What became of it, in order."""

    @property
    def data(self) -> bytes:
        """All of its body that was read."""
        return b"".join(line.data or b"" for line in self.lines)


@dataclass(frozen=True)
class Tape:
    """What stands on a tape."""

    header: Header
    lines: Sequence[Line] = field(repr=False)
    torn: bool = False
    """Whether half a line stood at its end: the recording was cut in the midst of a word."""

    @property
    def events(self) -> list[Event]:
        """Its events, as they were recorded; none on a tape of bytes."""
        return [line.e for line in self.lines if line.e is not None]

    @property
    def end(self) -> Line | None:
        """Its last line, which says how the stream ended; None where the recording was cut."""
        return self.lines[-1] if self.lines and self.lines[-1].end is not None else None

    @cached_property
    def requests(self) -> list[Recorded]:
        """The requests on a tape of bytes."""
        found: dict[int, tuple[Asked, list[Line]]] = {}
        for line in self.lines:
            if line.asked is not None:
                found[line.r] = (line.asked, [line])
            elif line.r in found:
                found[line.r][1].append(line)
        return [Recorded(number, asked, lines) for number, (asked, lines) in found.items()]

    def request(self, number: int | None = None) -> Recorded:
        """The request of this number; without one, the only one.

        Raises:
            ConfigurationError: there is none such, there are several, or the tape's beginning is gone.
        """
        requests = {recorded.number: recorded for recorded in self.requests}
        if self.header.part > 1:
            raise ConfigurationError("the beginning of the tape is gone: it was on a file that rotated away")
        if not requests:
            raise ConfigurationError("there is no request on the tape")
        if number is None and len(requests) > 1:
            raise ConfigurationError(
                f"there are {len(requests)} requests on the tape: say which, by its number as request"
            )
        chosen = next(iter(requests)) if number is None else number
        if chosen not in requests:
            raise ConfigurationError(f"request={chosen}: on the tape are {', '.join(map(str, requests))}")
        return requests[chosen]

    def spoken(self, recorded: Recorded) -> str:
        """The provider of ours whose decoder reads what was `recorded`.

        Raises:
            ConfigurationError: the tape does not say.
        """
        if recorded.asked.provider in PROVIDERS:
            return recorded.asked.provider
        name = _SPOKEN.get(recorded.asked.dialect or self.header.dialect)
        if name is None:
            raise ConfigurationError("the tape does not say in which dialect its bytes are")
        return name

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.lines[-1].t if self.lines else 0.0


class Reading:
    """A tape that is being read: its header, and its lines, one after another. A context manager, which closes its files.

    Args:
        parts: Its files, behind their headers, oldest first.
        torn: Whether there is half a header behind them.
        name: What errors call it.
        files: What is to be closed.
    """

    def __init__(
        self, parts: Sequence[tuple[Header, BinaryIO]], *, torn: bool, name: str = "", files: ExitStack | None = None
    ) -> None:
        self.header = parts[0][0]
        self.torn = torn
        """Whether half a line stood at its end: known when all lines were read."""
        self._name = name and f"{name}: "
        self._parts = [file for _, file in parts]
        self._files = files or ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._files.close()

    def __iter__(self) -> Iterator[Line]:
        for file in self._parts:
            for number, data in enumerate(file, 2):
                line, why = None, "it is torn"
                try:
                    line = _line.decode(data)
                except _UNREADABLE as error:
                    why = str(error)
                if line is None or not data.endswith(b"\n"):
                    if file is not self._parts[-1] or file.read(1):
                        raise ConfigurationError(f"{self._name}line {number} of the tape cannot be read: {why}")
                    self.torn = True
                    return
                yield line

    def tape(self) -> Tape:
        """All of it."""
        lines = list(self)
        return Tape(self.header, lines, self.torn)


def load(path: str | os.PathLike[str]) -> Tape:
    """The tape in the file `path`, with those of its recording's files before it that are still there.

    What this process is about to write is awaited. All of the tape is kept, some four times the size of its files.

    Raises:
        ConfigurationError: it cannot be read, or is no tape.
    """
    with opened(path) as reading:
        return reading.tape()


def opened(path: str | os.PathLike[str]) -> Reading:
    """As `load`, but to be read a line at a time.

    Raises:
        ConfigurationError: it cannot be read, or is no tape. So do the lines.
    """
    try:
        newest = Path(path)
    except TypeError:
        raise ConfigurationError(f"path: must be a path, not {kind_of(path)}") from None
    flush()
    try:
        for _ in range(_TRIES):
            with ExitStack() as files, suppress(FileNotFoundError):  # it is just being moved
                at = _standing(newest)
                parts = _parts(newest, at, files)
                if os.path.samestat(os.fstat(parts[-1][1].fileno()), at.stat()):
                    return _reading(parts, str(path), files.pop_all())
        newest.stat()  # raises where it is not there at all
    except (OSError, ValueError) as error:  # of which a ConfigurationError is one
        raise ConfigurationError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    raise ConfigurationError(f"{path}: its recording goes on to a new file faster than it can be read")


def parse(data: bytes) -> Tape:
    """The tape that `data` is.

    Raises:
        ConfigurationError: it is none, is of a version that we do not know, or has a line that is none.
    """
    file: BinaryIO = io.BytesIO(data)
    return _reading([(_begin(file), file)]).tape()


def _reading(parts: list[tuple[Header, BinaryIO]], name: str = "", files: ExitStack | None = None) -> Reading:
    torn = parts[-1][0] is _TORN
    return Reading(parts[:-1] if torn and len(parts) > 1 else parts, torn=torn, name=name, files=files)


def _standing(path: Path) -> Path:
    """Where the newest file of a recording is that has something on it: until the next has, the one before it."""
    with suppress(FileNotFoundError):
        found = path.stat()
        if found.st_size or not stat.S_ISREG(found.st_mode):
            return path
    before = _older(path, 1)
    return before if before.exists() else path


def _parts(path: Path, at: Path, files: ExitStack) -> list[tuple[Header, BinaryIO]]:
    """The files of one recording, behind their headers, oldest first; the newest is `at`."""
    header, parts = _TORN, list[tuple[Header, BinaryIO]]()
    if at == path:
        parts.append(_entered(path, files))
        header = parts[0][0]
    moving = False
    for number in itertools.count(1):
        if header is not _TORN and header.part == 1:
            break
        part = _part(_older(path, number), files)
        before = part and part[0]
        if before in (None, header) and header.part > 1 and not moving:
            moving = True  # the oldest are moved first: from here on each is one further
            continue
        if part is None or before is _TORN or not _follows(header, *part):
            break
        parts.insert(0, part)
        header = part[0]
    return parts or [_entered(path, files)]  # which raises: what is before it has its end


def _entered(path: Path, files: ExitStack) -> tuple[Header, BinaryIO]:
    file = files.enter_context(path.open("rb"))
    return _begin(file), file


def _part(path: Path, files: ExitStack) -> tuple[Header, BinaryIO] | None:
    """A file of a recording, behind its header; None where there is none, or something else."""
    with suppress(OSError, ConfigurationError):
        return _entered(path, files)
    return None


def _follows(header: Header, before: Header, file: BinaryIO) -> bool:
    """Whether the recording in `file`, whose header is `before`, goes on behind `header`."""
    return _is_open(file) if header is _TORN else (before.id, before.part) == (header.id, header.part - 1)


def _older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _begin(file: BinaryIO) -> Header:
    """The header of the tape in `file`, which is read."""
    line = file.readline(HEAD)
    if not line:
        raise ConfigurationError("is no tape: it is empty, as a full disk may leave one")
    if not may_be_tape(line):  # then it may be of any size
        raise ConfigurationError("is no tape: it does not begin with the header of one")
    if not line.endswith(b"\n"):
        line += file.readline()
    try:
        version = _version.decode(line).version
        if version == VERSION:
            return _header.decode(line)
    except _UNREADABLE:
        if line.endswith(b"\n"):
            raise ConfigurationError("the header of the tape cannot be read") from None
        return _TORN
    raise ConfigurationError(f"the tape is of version {version}; this rxstream reads version {VERSION}")


def _is_open(file: BinaryIO) -> bool:
    """Whether the tape that `file` is does not say how its stream ended."""
    at = file.tell()
    file.seek(max(at, file.seek(0, os.SEEK_END) - _TAIL))
    last = file.read().splitlines()[-1:]
    file.seek(at)
    with suppress(*_UNREADABLE):
        return not last or _line.decode(last[0]).end is None
    return True
