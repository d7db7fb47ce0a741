"""Writing a tape: what is written down of one subscription, on its loop.

Rules of this module:

* A line is made, and secrets are struck out of it, before it leaves the loop; the file is written elsewhere.
* A stream does not fail because its tape does: that is logged, once, unless the tape was said to be required.
* Bytes are written in whole events of the body, when the last byte of the event has come: no secret is cut in two, and no event
  is decoded earlier or later than it was.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata as packages
from pathlib import Path
from typing import Any, Final

import msgspec

from rxstream._check import count, flag, kind_of, one_of
from rxstream._log import facts, log
from rxstream.errors import ConfigurationError, RecordingFailed, error_info
from rxstream.events import (
    ErrorInfo,
    Event,
    Failed,
    RateLimits,
    RefusalDelta,
    Retrying,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    encode,
)
from rxstream.providers import PROVIDERS
from rxstream.tapes._writer import TapeFile
from rxstream.tapes.format import (
    FORMAT,
    HEAD,
    VERSION,
    Answered,
    Asked,
    BodyEnd,
    End,
    Header,
    Kind,
    Line,
    encode_line,
    may_be_tape,
)
from rxstream.tapes.redact import Redactor, Rule

__all__ = ["RequestTape", "Settings", "TapeRecorder"]

_LONGEST: Final = 8 * 1024 * 1024
"""Bytes of an event without its end that are kept back. Then the tape ends, unless nothing is to be struck out."""
_BLANK: Final = (b"\n\n", b"\n\r\n", b"\n\r", b"\r\r")
_PAYLOAD: Final = re.compile(rb"(?:^|[\r\n])(?:\xef\xbb\xbf)?data")
_event: Final = msgspec.json.Decoder(Event)
_line: Final = msgspec.json.Decoder(Line)
_DELTAS: Final[dict[type, str]] = {
    TextDelta: "text",
    ThinkingDelta: "text",
    RefusalDelta: "text",
    ToolCallDelta: "arguments",
}
"""Events that come by the thousand, and the one field in which they say something."""
_SPARE: Final = 2048
"""Bytes of `max_bytes` that are kept for the last line."""


class Settings:
    """How to record, checked.

    Raises:
        ConfigurationError: an option is not as `rxstream.operators.record` describes it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        kind: Kind,
        redact: Sequence[Rule],
        secrets: Sequence[str],
        keep_raw: bool,
        max_bytes: int,
        files: int,
        required: bool,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        one_of("kind", kind, ("events", "bytes"))
        flag("keep_raw", keep_raw)
        flag("required", required)
        self.path = _checked(path)
        self.kind: Kind = kind
        self.keep_raw = keep_raw
        self.max_bytes = count("max_bytes", max_bytes, least=2 * _SPARE)
        self.files = count("files", files)
        self.required = required
        self._rules, self._secrets = redact, secrets
        self.redactor()  # raises where a rule is none
        try:
            given = msgspec.json.encode(dict(metadata or {}))
        except (TypeError, ValueError, msgspec.MsgspecError):
            raise ConfigurationError("metadata: must be a dict of what JSON can say") from None
        for_ours: list[Rule] = [rule for rule in redact if callable(rule) or rule == "keys"]  # no provider says it
        said = msgspec.json.decode(Redactor(for_ours, secrets).json(given))
        if len(msgspec.json.encode(said)) > self.max_bytes // 2:
            raise ConfigurationError("metadata: is longer than half of max_bytes")
        self.metadata: dict[str, Any] = said

    def redactor(self) -> Redactor:
        """A new one: it remembers which keys there are."""
        return Redactor(self._rules, self._secrets)


def _checked(path: str | os.PathLike[str]) -> Path:
    """`path`, where a tape can be written, and nothing but a tape is written over."""
    try:
        checked = Path(path)
    except TypeError:
        raise ConfigurationError(f"path: must be a path, not {kind_of(path)}") from None
    if "\0" in str(checked):
        raise ConfigurationError("path: a path has no NUL")
    try:
        if not checked.parent.is_dir():
            raise ConfigurationError(f"{checked}: there is no such folder")
        if checked.exists():
            if not checked.is_file():
                raise ConfigurationError(f"{checked}: is no file")
            with checked.open("rb") as file:
                if not may_be_tape(file.read(HEAD)):
                    raise ConfigurationError(f"{checked}: exists, and is no tape: it is not written over")
    except OSError as error:
        raise ConfigurationError(f"path: {checked}: {error.strerror}") from None
    return checked


class TapeRecorder:
    """One recording.

    Args:
        settings: How to record.
        clock: The loop's time.
        fail: Called, in any thread, with the error when the tape is required and cannot be written.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float], fail: Callable[[RecordingFailed], None]) -> None:
        self._settings = settings
        self._redactor = settings.redactor()
        self._clock = clock
        self._start = clock()
        self._fail = fail
        self._id = secrets.token_hex(8)
        self._began = time.time()
        self._part = 0
        self._size = 0
        self._most = settings.max_bytes - _SPARE
        self._requests = 0
        self._over = False
        self._fresh = True
        self._file = TapeFile(settings.path, files=settings.files, failed=self._cannot)
        self._next_part()

    def event(self, event: Event) -> None:
        """Write an event down."""
        if self._over:
            return
        try:
            line = self._encoded(event)
        except Exception as error:  # noqa: BLE001 - a rule's own; or a payload that JSON cannot say
            self._cut_by(error)
        else:
            self._write(b'{"t":%.6f,"e":%b}\n' % (self._clock() - self._start, line))

    def _encoded(self, event: Event) -> bytes:
        said = _DELTAS.get(type(event))
        if self._fresh or (said is None and isinstance(event, (Started, Retrying, Failed))):
            self._fresh = False
            self._redactor.refresh()  # a connection was made: with its own key
        if event.raw is not None:
            raw = self._redactor.payload(event.raw) if self._settings.keep_raw else None
            event = msgspec.structs.replace(event, raw=raw)
        line = encode(event)
        return line if said is not None and self._redactor.passes(getattr(event, said)) else self._struck(line, _event)

    def request(self, *, provider: str, model: str, source: str) -> RequestTape:
        """A request is made: what is written down of it."""
        self._requests += 1
        self._redactor.refresh()
        row = PROVIDERS.get(provider)
        asked = Asked(provider=provider, model=model, source=source, dialect=row.dialect if row else "")
        self.line(Line(t=self.now(), r=self._requests, asked=asked))
        return RequestTape(self, self._requests)

    def now(self) -> float:
        """Seconds since the recording began."""
        return round(self._clock() - self._start, 6)

    def line(self, line: Line) -> None:
        """Write any line."""
        if self._over:
            return
        try:
            written = self._redacted(line)
        except Exception as error:  # noqa: BLE001 - a rule's own
            self._cut_by(error)
        else:
            self._write(written)

    def piece(self, number: int, data: bytes) -> None:
        """Write a piece of a body, which is whole events of it."""
        if self._over:
            return
        try:
            data = self._redactor.body(data)
        except Exception as error:  # noqa: BLE001 - a rule's own
            self._cut_by(error)
            return
        try:
            line = Line(t=self.now(), r=number, b=data.decode())
        except UnicodeDecodeError:
            line = Line(t=self.now(), r=number, x=data)
        self._write(encode_line(line))

    def too_long(self) -> None:
        """An event of a body is so long that its beginning must be written before its end has come."""
        if not self._redactor.idle:
            self._cut(f"an event is longer than {_LONGEST} bytes, and nothing can be struck out of half of one")

    def end(self, end: End, error: Exception | None = None, *, then: Callable[[], None] | None = None) -> None:
        """The stream is over: the last line. `then` is called, in any thread, when all is written."""
        if end == "completed" and self._settings.kind == "bytes" and not self._requests:
            self._cut(
                "no request came by: only those are seen that are made above, on the same loop, for this subscription"
            )
        if not self._over:
            self._over = True
            info = None if error is None else error_info(error)
            try:
                line = self._redacted(Line(t=self.now(), end=end, error=info))
            except Exception:  # noqa: BLE001 - a rule's own: then the end is told without a word
                line = encode_line(Line(t=self.now(), end=end, error=info and ErrorInfo(kind=info.kind, message="")))
            self._file.close(line, then)

    def _redacted(self, line: Line) -> bytes:
        self._redactor.refresh()  # a connection may have been made since: with its own key
        return self._struck(encode_line(line).rstrip(), _line) + b"\n"

    def _struck(self, line: bytes, decoder: msgspec.json.Decoder[Any]) -> bytes:
        struck = self._redactor.json(line)
        if struck is not line:
            decoder.decode(struck)  # raises where a rule has left what nobody could read
        return struck

    def _write(self, line: bytes) -> None:
        if self._over:
            return
        if self._size + len(line) > self._most and self._settings.files > 1:
            self._next_part()
        if self._size + len(line) > self._most:
            self._cut(f"it has the {self._settings.max_bytes} bytes that max_bytes allows")
            return
        self._size += len(line)
        if not self._file.write(line):
            self._cut("the disk is slower than the stream")

    def _next_part(self) -> None:
        self._part += 1
        header = Header(
            tape=FORMAT,
            version=VERSION,
            rxstream=_version(),
            kind=self._settings.kind,
            started=round(self._began, 6),
            id=self._id,
            part=self._part,
            metadata=self._settings.metadata,
        )
        line = encode_line(header)
        self._size = len(line)
        self._file.begin(line)

    def _cut(self, why: str) -> None:
        """The recording ends, and the stream goes on."""
        if not self._over:
            error = self._failure(why)
            self.end("cut", error)
            self._tell(error)

    def _cut_by(self, error: Exception) -> None:
        # what it says may hold what is to be struck out
        self._cut(f"something cannot be written ({type(error).__name__})")

    def _cannot(self, error: Exception) -> None:
        """The thread cannot write the file."""
        self._over = True
        self._tell(self._failure(getattr(error, "strerror", None) or type(error).__name__))

    def _failure(self, why: str) -> RecordingFailed:
        return RecordingFailed(f"the tape {self._settings.path} ends here: {why}")

    def _tell(self, error: RecordingFailed) -> None:
        if self._settings.required:
            self._fail(error)
        else:
            told = facts("recording-failed", error=error, tape=str(self._settings.path))
            log.warning("%s; the stream goes on", error.message, extra=told)


class RequestTape:
    """What is written down of one request. Made by `TapeRecorder.request`."""

    def __init__(self, tape: TapeRecorder, number: int) -> None:
        self._tape = tape
        self._number = number
        self._lines: list[bytes] = []  # of an event whose payload has begun
        self._rest: list[bytes] = []  # the beginning of a line
        self._halved = False  # whether a CR was the last byte: it ends a line, and an LF that follows belongs to it
        self._size = 0
        self._over = False

    def answered(self, rate_limits: RateLimits | None) -> None:
        """The response's headers have come."""
        self._tape.line(Line(t=self._tape.now(), r=self._number, answered=Answered(rate_limits=rate_limits)))

    def data(self, data: bytes) -> None:
        """A piece of the body has come."""
        if not data:
            return
        self._size += len(data)
        if self._halved and data[:1] == b"\n":
            self._lines.append(b"\n")
            if len(self._lines) == 1:
                self._write(self._lines)
            data = data[1:]
        self._halved = data.endswith(b"\r")
        stop = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if stop:
            lines = b"".join((*self._rest, data[:stop]))
            self._rest.clear()
            whole = _whole(lines)
            if whole:
                self._lines.append(lines[:whole])
                self._write(self._lines)
                lines = lines[whole:]
            if lines:
                self._lines.append(lines)
                if len(self._lines) == 1 and not _PAYLOAD.search(lines):  # a comment need not wait for a blank line
                    self._write(self._lines)
        if stop < len(data):
            self._rest.append(data[stop:])
        if self._size > _LONGEST:
            self._tape.too_long()
            self._write_held()

    def end(self, body: BodyEnd, error: Exception | None = None) -> None:
        """The body has ended; only the first end counts."""
        if not self._over:
            self._over = True
            self._write_held()
            info = None if error is None else error_info(error)
            self._tape.line(Line(t=self._tape.now(), r=self._number, body=body, error=info))

    def _write_held(self) -> None:
        self._lines += self._rest
        self._rest.clear()
        self._write(self._lines)

    def _write(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        pieces.clear()
        if data:
            self._size -= len(data)
            self._tape.piece(self._number, data)


def _whole(lines: bytes) -> int:
    """How many bytes of these lines are of whole events."""
    ends = (lines.rfind(blank) + len(blank) for blank in _BLANK if blank in lines)
    return max(ends, default=len(lines) - len(lines.lstrip(b"\r\n")))


def _version() -> str:
    try:
        return packages.version("rxstream")
    except packages.PackageNotFoundError:
        return ""
