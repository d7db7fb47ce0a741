"""A handler that writes a stream's events into a file, one line of JSON each."""

from __future__ import annotations

import copy
import os
import re
import threading
from pathlib import Path
from typing import IO

from rxstream._check import count
from rxstream.errors import ConfigurationError, error_info
from rxstream.events import Event, Failed, encode
from rxstream.sinks.handler import StreamHandler, StreamMetadata

__all__ = ["FileStreamHandler"]

_UNSAFE = re.compile(r"[^\w.-]|^\.+")
_FIELDS = ("stream_id", "label", "provider", "model", "request_id", "trace_id")


class FileStreamHandler(StreamHandler):
    """Appends each event as a line of JSON, as `rxstream.events.encode` writes it and `rxstream.events.decode` reads it.

    A stream that fails has a ``failed`` event for its last line. What a crash leaves is readable up to its last whole line. The
    disk may be slow: register it with ``thread=True`` where that matters.

    Args:
        path: Where to; fields of `StreamMetadata` in braces, ``"{stream_id}.jsonl"``, give each stream a file of its own. In
            them, whatever is no letter, digit, ``-`` or ``.`` becomes ``_``, and so does one that is empty. Folders are made.
        flush: Bytes that may wait to be written; 0: every event is written at once.

    Raises:
        ConfigurationError: `path` names a field that there is not; `flush` is no whole number.
    """

    def __init__(self, path: str | os.PathLike[str], *, flush: int = 0) -> None:
        self._template = os.fspath(path)
        self._flush = count("flush", flush, least=0)
        self._lock = threading.Lock()  # for who is dismissed while a thread of his writes
        self._file: IO[bytes] | None = None
        self._waiting = 0
        self.path: Path | None = None
        """Where the stream at hand is written."""
        _fill(self._template, StreamMetadata())

    def for_stream(self, metadata: StreamMetadata) -> FileStreamHandler:
        """A copy with a file of its own, or that appends to the same."""
        self.path = _fill(self._template, metadata)
        served = copy.copy(self)
        served._lock, served._file = threading.Lock(), None
        return served

    def on_stream_start(self, metadata: StreamMetadata) -> None:
        """Open the file."""
        self.path = self.path or _fill(self._template, metadata)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        self._waiting = 0

    def on_event(self, event: Event) -> None:
        """Write it."""
        line = encode(event) + b"\n"
        with self._lock:
            if self._file is not None:
                self._waiting += self._file.write(line)
                if self._waiting >= self._flush:
                    self._file.flush()
                    self._waiting = 0

    def on_stream_complete(self, full_response: object) -> None:  # noqa: ARG002 - it is in the events
        """Close the file."""
        self._close()

    def on_stream_error(self, error: Exception) -> None:
        """Write why, and close the file."""
        try:
            self.on_event(Failed(error=error_info(error)))
        finally:
            self._close()

    def dismissed(self) -> None:
        """Close the file: the end will not be told."""
        self._close()

    def _close(self) -> None:
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.close()


def _fill(template: str, metadata: StreamMetadata) -> Path:
    fields = {name: _UNSAFE.sub("_", getattr(metadata, name)) or "_" for name in _FIELDS}
    try:
        return Path(template.format(**fields))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"path: {error!r} is no field; there are {', '.join(_FIELDS)}") from None
