"""A handler that writes an answer where a person reads it."""

from __future__ import annotations

import copy
import importlib
import sys
import threading
import weakref
from typing import IO, Any, ClassVar

from rxstream._check import instance, show
from rxstream.errors import ConfigurationError
from rxstream.events import Event, Retracted, TextDelta
from rxstream.sinks.console import printable
from rxstream.sinks.handler import StreamHandler, StreamMetadata

__all__ = ["ConsoleStreamHandler"]


class ConsoleStreamHandler(StreamHandler):
    """Writes the answer's text as it comes, nothing in which moves a terminal (`rxstream.sinks.console`).

    What is retracted cannot be unsaid: it says so on a line of its own, and what stands follows. Streams that are written at once
    never share a line: whoever goes on begins a new one, with its prefix; ``by="line"`` of their `HandlerPolicy` keeps lines whole.

    Args:
        prefix: What stands before the answer.
        file: Where to write; by default what is standard output when the stream starts. In a terminal, where rich is
            installed, the prefix is bold and an error red (no color with ``NO_COLOR``).

    Raises:
        ConfigurationError: `prefix` is no string, or `file` none to write into.
    """

    def __init__(self, prefix: str = "", *, file: IO[str] | None = None) -> None:
        if not (file is None or callable(getattr(file, "write", None))):
            raise ConfigurationError(f"file={show(file)}: must be a file to write text into, as sys.stderr is")
        instance("prefix", prefix, str)
        self._prefix = prefix or ""
        self._given = file
        self._file: IO[str] = file or sys.stdout
        self._line = _Line()
        self._me: object = None  # to the line, which must not keep us and our file
        self._said: list[str] = []
        self._pending = 0  # characters of it that no token has brought yet
        self._attempt = 1
        self._rich: Any = None

    def for_stream(self, metadata: StreamMetadata) -> ConsoleStreamHandler:  # noqa: ARG002 - whichever it is
        """A copy: streams do not mix."""
        return copy.copy(self)

    def on_stream_start(self, metadata: StreamMetadata) -> None:  # noqa: ARG002 - not needed
        """Write the prefix; in the midst of another stream's line, with the first piece of text."""
        self._file = self._given or sys.stdout
        self._line, self._me = _Line.of(self._file), object()
        self._said, self._pending, self._attempt = [], 0, 1
        self._rich = _rich(self._file)
        with self._line.lock:
            if not self._line.open:
                self._begin()

    def on_event(self, event: Event) -> None:
        """Keep up with what is said, and say what is taken back."""
        if isinstance(event, TextDelta):
            if event.choice == 0:
                if event.attempt != self._attempt:
                    self._attempt = event.attempt
                    self._said.clear()
                self._said.append(event.text)
                self._pending += len(event.text)
        elif isinstance(event, Retracted) and event.attempt == self._attempt and self._said:
            said = "".join(self._said)
            kept = said[: event.to_offset]
            shown = len(said) - self._pending
            self._said[:] = [kept]
            self._pending = max(0, self._pending - (len(said) - len(kept)))
            if shown <= len(kept):
                return  # nothing that was to be seen
            with self._line.lock:
                self._end_line()
                self._write("(taken back; this stands:)\n", style="dim")
                self._begin()
                self._write(kept)

    def on_token_received(self, token: str, index: int) -> None:  # noqa: ARG002 - in order they come
        """Write it."""
        self._pending -= len(token)
        with self._line.lock:
            self._take_line()
            self._write(token)

    def on_stream_complete(self, full_response: object) -> None:  # noqa: ARG002 - not needed
        """End the line."""
        self._leave()

    def on_stream_error(self, error: Exception) -> None:
        """Say what happened."""
        with self._line.lock:
            if self._line.writer is self._me and self._said:
                self._end_line()
            self._take_line()
            self._write(f"{type(error).__name__}: {error}\n", style="red")
        self._leave()

    def dismissed(self) -> None:
        """End the line: nothing more will be said on it."""
        self._leave()

    def _take_line(self) -> None:
        """Write on a line of ours."""
        if self._line.writer is not self._me:
            self._end_line()
            self._begin()

    def _begin(self) -> None:
        self._line.writer = self._me
        self._write(self._prefix, style="bold")

    def _end_line(self) -> None:
        if self._line.open:
            self._write("\n")

    def _leave(self) -> None:
        with self._line.lock:
            if self._line.writer is self._me:
                self._end_line()
                self._line.writer = None

    def _write(self, what: str, *, style: str = "") -> None:
        said = printable(what)
        if not said:
            return
        self._line.open = not said.endswith("\n")
        encoding = getattr(self._file, "encoding", None)
        if encoding:
            said = said.encode(encoding, "replace").decode(encoding)
        if style and self._rich is not None:
            self._rich.print(said, style=style, end="", markup=False, emoji=False, highlight=False, soft_wrap=True)
        else:
            self._file.write(said)
            self._file.flush()


class _Line:
    """The last line of a file: whose it is, and whether it has begun."""

    _all: ClassVar[weakref.WeakKeyDictionary[IO[str], _Line]] = weakref.WeakKeyDictionary()

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.writer: object = None
        self.open = False

    @classmethod
    def of(cls, file: IO[str]) -> _Line:
        """That of this file."""
        try:
            return cls._all.setdefault(file, cls())
        except TypeError:  # one that cannot be told from others
            return cls()


def _rich(file: IO[str]) -> Any:
    """A console of rich, if `file` is a terminal and rich is installed."""
    if not file.isatty():
        return None
    try:
        return importlib.import_module("rich.console").Console(file=file)
    except ImportError:
        return None
