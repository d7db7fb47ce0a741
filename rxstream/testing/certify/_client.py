"""What a client is asked, and what it tells: the two halves of the protocol that is described in `rxstream.testing.certify`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from rxstream.providers.compatible import Dialect

__all__ = ["Piece", "Question", "Told"]

Piece: TypeAlias = str | Mapping[str, Any]
"""What a client yields: a piece of text, or a dict with one or more of the keys that `Told` knows."""

_KEYS: Final = ("text", "tool_call", "usage", "finish", "retract")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a client is asked for: one streamed answer."""

    base_url: str
    """As the official SDKs want it: with ``/v1`` for OpenAI's dialects, without for Anthropic's."""
    dialect: Dialect
    model: str
    prompt: str
    api_key: str
    """A dummy."""
    timeout: float
    """Seconds without any progress after which the client is to give up."""
    tools: Sequence[Mapping[str, Any]] = ()
    """Tools to offer the model, each with a name, a description and a JSON schema of its parameters."""


class Told:
    """What a client has told so far, and how it ended. Written by the client's thread, read by others.

    Args:
        stop_at: Characters of text at which the client is to stop.
    """

    def __init__(self, *, stop_at: int | None = None) -> None:
        self.tool_calls: list[tuple[str, Any]] = []
        """Names, and arguments as Python objects; arguments that are no JSON stay text."""
        self.usage: tuple[int | None, int | None] | None = None
        self.finish: str | None = None
        self.error = ""
        """Why it failed; empty if it says that the answer is complete."""
        self.misuse = ""
        """How it broke the protocol."""
        self.unsupported = False
        """It says that it cannot do this at all."""
        self.text_only = False
        """It tells of nothing but text."""
        self.stopped_at: float | None = None
        """`time.monotonic` when it was told to stop."""
        self.reached = threading.Event()
        """It has told so much that it is to stop."""
        self.over = threading.Event()
        self._stop_at = stop_at
        self._length = 0
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """The text so far, without what was taken back."""
        return "".join(self._pieces)

    def add(self, piece: object) -> None:
        """Take what the client yields.

        Raises:
            TypeError: it is nothing that a client may yield.
        """
        if isinstance(piece, str):
            self._add_text(piece)
            return
        if not isinstance(piece, Mapping) or not (said := cast("Mapping[str, Any]", piece)) or set(said) - {*_KEYS}:
            self.misuse = f"it gave {piece!r:.80}: allowed are text and dicts with the keys {', '.join(_KEYS)}"
            raise TypeError(self.misuse)
        try:
            self._take(said)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self.misuse = f"it gave {piece!r:.80}, which is not as it should be: {error!r}"
            raise TypeError(self.misuse) from error

    def _take(self, said: Mapping[str, Any]) -> None:
        if "retract" in said:
            self._pieces = [self.text[: int(said["retract"])]]
        if said.get("text"):
            self._add_text(str(said["text"]))
        if "tool_call" in said:
            call = said["tool_call"]
            self.tool_calls.append((str(call["name"]), _arguments(call["arguments"])))
        if usage := said.get("usage"):
            self.usage = usage.get("input_tokens"), usage.get("output_tokens")
        if "finish" in said:
            self.finish = said["finish"]

    def fail(self, error: BaseException) -> None:
        """The client raised."""
        self.unsupported = isinstance(error, NotImplementedError)
        self.error = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")

    def stop(self) -> None:
        """The client is told to stop, now."""
        if self.stopped_at is None:
            self.stopped_at = time.monotonic()

    def _add_text(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)
        if self._stop_at is not None and self._length >= self._stop_at:
            self.reached.set()


def _arguments(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except ValueError:
        return given
