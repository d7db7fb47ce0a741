"""A handler that writes an answer where a person reads it."""

from __future__ import annotations

import importlib
import sys
from typing import IO, Any

from rxstream.events import Event, Retracted, TextDelta
from rxstream.sinks.console import printable
from rxstream.sinks.handler import StreamHandler, StreamMetadata

__all__ = ["ConsoleStreamHandler"]


class ConsoleStreamHandler(StreamHandler):
    """Writes the answer's text as it comes, nothing in which moves a terminal (`rxstream.sinks.console`).

    What is retracted cannot be unsaid: it says so on a line of its own, and what stands follows. Of several streams each begins
    with its prefix; where they run at once, ``by="line"`` of their `HandlerPolicy` keeps lines whole.

    Args:
        prefix: What stands before the answer.
        file: Where to write; by default what is standard output when the stream starts. In a terminal, where rich is
            installed, the prefix is bold and an error red.
    """

    def __init__(self, prefix: str = "", *, file: IO[str] | None = None) -> None:
        self._prefix = prefix
        self._given = file
        self._file: IO[str] = file or sys.stdout
        self._said: list[str] = []
        self._pending = 0  # characters of it that no token has brought yet
        self._attempt = 1
        self._rich: Any = None

    def for_stream(self, metadata: StreamMetadata) -> ConsoleStreamHandler:  # noqa: ARG002 - whichever it is
        """One of its own: streams do not mix."""
        return type(self)(self._prefix, file=self._given)

    def on_stream_start(self, metadata: StreamMetadata) -> None:  # noqa: ARG002 - not needed
        """Write the prefix."""
        self._file = self._given or sys.stdout
        self._rich = _rich(self._file)
        self._write(self._prefix, style="bold")

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
            self._write("\n(taken back; this stands:)\n", style="dim")
            self._write(self._prefix, style="bold")
            self._write(kept)

    def on_token_received(self, token: str, index: int) -> None:  # noqa: ARG002 - in order they come
        """Write it."""
        self._pending -= len(token)
        self._write(token)

    def on_stream_complete(self, full_response: object) -> None:  # noqa: ARG002 - not needed
        """End the line."""
        self._write("\n")

    def on_stream_error(self, error: Exception) -> None:
        """Say what happened."""
        self._write(f"\n{type(error).__name__}: {error}\n", style="red")

    def _write(self, text: str, *, style: str = "") -> None:
        said = printable(text)
        encoding = getattr(self._file, "encoding", None)
        if encoding:
            said = said.encode(encoding, "replace").decode(encoding)
        if style and self._rich is not None:
            self._rich.print(said, style=style, end="", markup=False, highlight=False, soft_wrap=True)
        else:
            self._file.write(said)
            self._file.flush()


def _rich(file: IO[str]) -> Any:
    """A console of rich, if `file` is a terminal and rich is installed."""
    if not file.isatty():
        return None
    try:
        return importlib.import_module("rich.console").Console(file=file)
    except ImportError:
        return None
