"""Reading a tape: all that stands on it, and what became of its end.

Rules of this module:

* A torn last line is no fault of the tape's: it is left out, and told (`Tape.torn`).
* A line that is not one, and is not the last, is a fault.
* The files of one recording are read as one tape, as far as they follow each other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.providers import PROVIDERS
from rxstream.tapes._writer import flush
from rxstream.tapes.format import HEAD, VERSION, Asked, Header, Line, is_tape

__all__ = ["Recorded", "Tape", "is_tape", "load", "parse"]

_SPOKEN: Final[Mapping[str, str]] = {
    "anthropic": "anthropic",
    "openai-chat": "compatible",
    "openai-responses": "openai",
}
"""A provider of ours for each dialect."""
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What is raised by what is no line: also by one that is nested too deeply."""
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
            raise ConfigurationError(f"there are {len(requests)} requests on the tape: say which, by request=")
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


def load(path: str | os.PathLike[str]) -> Tape:
    """The tape in the file `path`, with those of its recording's files before it that are still there.

    What this process is about to write is awaited.

    Raises:
        ConfigurationError: it cannot be read, or is no tape.
    """
    flush()
    newest = _read(Path(path))
    tapes = [newest]
    for number in range(1, newest.header.part):
        older = Path(path).with_name(f"{Path(path).name}.{number}")
        try:
            before = _read(older)
        except ConfigurationError:  # it is gone, or something else stands there by now
            break
        if (before.header.id, before.header.part) != (newest.header.id, newest.header.part - number):
            break
        tapes.insert(0, before)
    return Tape(tapes[0].header, [line for tape in tapes for line in tape.lines], newest.torn)


def _read(path: Path) -> Tape:
    try:
        with path.open("rb") as file:
            data = file.read(HEAD)
            if is_tape(data):  # else it may be of any size
                data += file.read()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        return parse(data)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def parse(data: bytes) -> Tape:
    """The tape that `data` is.

    Raises:
        ConfigurationError: it is none, is of a version that we do not know, or has a line that is none.
    """
    first, *rest = data.split(b"\n")
    if not is_tape(first):
        raise ConfigurationError("is no tape: it does not begin with the header of one")
    try:
        header = _header.decode(first)
    except _UNREADABLE:
        raise ConfigurationError("the header of the tape cannot be read") from None
    if header.version != VERSION:
        raise ConfigurationError(f"the tape is of version {header.version}; this rxstream reads version {VERSION}")
    torn = bool(rest and rest.pop())
    lines: list[Line] = []
    for number, line in enumerate(rest, 2):
        try:
            lines.append(_line.decode(line))
        except _UNREADABLE as error:
            if number == len(rest) + 1 and not torn:
                torn = True
                break
            raise ConfigurationError(f"line {number} of the tape cannot be read: {error}") from None
    return Tape(header, lines, torn)
