"""What the model says, whatever the dialect: pieces of text, of thinking, and calls of tools.

Rules of this module:

* A script is plain data. How it looks on the wire is `rxstream.testing.chaos._render`'s business.
* A piece of a script is one event on the wire.
* What was recorded of a provider is sent byte for byte in its own dialect; in the others it is said anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from rxstream._check import one_of
from rxstream.errors import ConfigurationError, StreamError
from rxstream.events import (
    Event,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReported,
    decode,
)
from rxstream.providers import PROVIDERS, decoder_for
from rxstream.providers.compatible import Dialect
from rxstream.tapes.read import is_tape, parse

__all__ = ["DIALECTS", "Block", "Call", "Script", "Thought"]

DIALECTS: Final[Mapping[Dialect, str]] = {
    "anthropic": "anthropic",
    "openai-chat": "compatible",
    "openai-responses": "openai",
}
"""The dialects that the server speaks, and a provider of ours for each."""


@dataclass(frozen=True)
class Thought:
    """A piece of thinking."""

    text: str


@dataclass(frozen=True)
class Call:
    """A tool call: its name, and its arguments, whole or in the pieces in which they come."""

    name: str
    arguments: str | Sequence[str] = ("{}",)
    id: str = ""
    """By default one is made up."""


@dataclass(frozen=True)
class Block:
    """Neighbouring pieces of one kind: what a dialect opens and closes."""

    kind: Literal["text", "thinking", "tool"]
    pieces: Sequence[str]
    name: str = ""
    id: str = ""


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    """A script as a JSON file has it."""

    parts: list[str | dict[str, Any]]
    finish: FinishReason | Literal[""] = ""
    usage: tuple[int, int] | None = (7, 3)
    model: str = ""
    interleaved: bool = False


class _WrittenCall(msgspec.Struct, forbid_unknown_fields=True):
    """A call as a JSON file has it."""

    call: str
    arguments: str | list[str] = "{}"
    id: str = ""


@dataclass(frozen=True, init=False)
class Script:
    """What the model answers.

    Args:
        *parts: A string is a piece of text, `Thought` one of thinking, `Call` the call of a tool.
        finish: Why it ends, in our words; by default ``tool_calls`` where the last part is a call, else ``stop``.
        usage: Tokens of input and of output that are reported; None for no report.
        model: The model's name; by default the one that was asked for.
        interleaved: Calls that stand next to each other come at once, their arguments in turns.
        lifecycle: Also what providers send around the content: a ping, ``response.in_progress``.

    Raises:
        ConfigurationError: a part is none of these.
    """

    parts: tuple[str | Thought | Call, ...]
    finish: FinishReason | Literal[""] = ""
    usage: tuple[int, int] | None = (7, 3)
    model: str = ""
    interleaved: bool = False
    lifecycle: bool = True
    tape: tuple[Dialect, bytes] | None = field(default=None, repr=False)
    """A body as it was recorded, and the dialect it is in."""

    def __init__(
        self,
        *parts: str | Thought | Call,
        finish: FinishReason | Literal[""] = "",
        usage: tuple[int, int] | None = (7, 3),
        model: str = "",
        interleaved: bool = False,
        lifecycle: bool = True,
    ) -> None:
        for part in parts:
            _check(part)
        given = {"parts": parts, "finish": finish, "usage": usage, "model": model, "interleaved": interleaved}
        for name, value in (given | {"lifecycle": lifecycle, "tape": None}).items():
            object.__setattr__(self, name, value)

    @property
    def text(self) -> str:
        """All the text."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def blocks(self) -> list[Block]:
        """The parts, neighbours of one kind together; a call is a block of its own."""
        found: list[Block] = []
        for kind, run in groupby(self.parts, type):
            parts = list(run)
            groups = [[part] for part in parts] if kind is Call else [parts]
            found.extend(_block(group) for group in groups)
        return found

    def rest(self, said: str) -> Script:
        """What follows `said`, a beginning of the text: what was thought is left out."""
        left, parts = len(said), list[str | Thought | Call]()
        for part in self.parts:
            if isinstance(part, Thought):
                continue
            if isinstance(part, str):
                left, part = max(0, left - len(part)), part[left:]  # noqa: PLW2901 - the piece, cut
            if part:
                parts.append(part)
        return self._with(parts=tuple(parts))

    def without_usage(self) -> Script:
        """The script that reports no usage; a tape stays what it is."""
        return self if self.usage is None or self.tape else self._with(usage=None)

    def _with(self, **changes: Any) -> Script:
        changed = copy(self)
        for name, value in (changes | {"tape": None}).items():
            object.__setattr__(changed, name, value)
        return changed

    @classmethod
    def of_text(cls, text: str) -> Script:
        """A text that comes word by word."""
        return cls(*re.findall(r"\s*\S+|\s+", text))

    @classmethod
    def of_events(cls, events: Iterable[Event]) -> Script:
        """What events of ours say: text, thinking, calls of tools, the model, the reason of the end and the usage."""
        parts: list[str | Thought | Call] = []
        calls: dict[tuple[int, int], list[str]] = {}
        finish: FinishReason | Literal[""] = ""
        usage: tuple[int, int] | None = None
        model = ""
        for event in events:
            match event:
                case Started():
                    model = event.model
                case TextDelta():
                    parts.append(event.text)
                case ThinkingDelta():
                    parts.append(Thought(event.text))
                case ToolCallStart():
                    pieces = calls[event.choice, event.part] = []
                    parts.append(Call(event.name, pieces, event.id))
                case ToolCallDelta() if (event.choice, event.part) in calls:
                    calls[event.choice, event.part].append(event.arguments)
                case UsageReported():
                    usage = (event.usage.input_tokens or 0, event.usage.output_tokens or 0)
                case Finished():
                    finish = event.reason
                case _:
                    pass
        return cls(*(part for part in parts if part), finish=finish, usage=usage, model=model)

    @classmethod
    def of_tape(cls, body: bytes, *, dialect: Dialect | None = None) -> Script:
        """What a recorded body of server-sent events says, or a tape (`rxstream.operators.record`) of a single request.

        Args:
            body: The bytes, which are sent as they are to those who speak the dialect; or the file of a tape. One of events
                has no bytes: it is said anew.
            dialect: By default what the body looks like, or what the tape says.

        Raises:
            ConfigurationError: it looks like none of the dialects, or `dialect` is none; or the tape has several requests.
        """
        if dialect is not None:
            one_of("dialect", dialect, DIALECTS)
        if is_tape(body):
            tape = parse(body)
            if tape.header.kind == "events":
                return cls.of_events(tape.events)
            recorded = tape.request()
            body, dialect = recorded.data, dialect or PROVIDERS[tape.spoken(recorded)].dialect
        spoken = dialect or _spoken(body)
        decoder = decoder_for(DIALECTS[spoken], keep_raw=False)
        events: list[Event] = []
        try:
            events += decoder.feed(body)
            events += decoder.close()
        except StreamError:
            pass  # the recording of a failure: what it says is what came before
        script = cls.of_events(events)
        object.__setattr__(script, "tape", (spoken, body))
        return script

    @classmethod
    def load(cls, path: str | Path) -> Script:
        """The script in a file: JSON ``{"parts": ["text", {"thought": …}, {"call": …, "arguments": […]}], …}`` with the other
        arguments of `Script`; JSON Lines of our events; a tape; or a recorded body of server-sent events.

        Raises:
            ConfigurationError: it cannot be read, or is none of these.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from None
        lines = data.strip().splitlines()
        try:
            if is_tape(data) or not data.lstrip().startswith(b"{"):
                return cls.of_tape(data)
            if len(lines) > 1 and _is_json(lines[0]):
                return cls.of_events([decode(line) for line in lines])
            return cls._read(msgspec.json.decode(data, type=_Written))
        except (msgspec.MsgspecError, ConfigurationError) as error:
            raise ConfigurationError(f"{path}: {error}") from None

    @classmethod
    def _read(cls, written: _Written) -> Script:
        parts = [part if isinstance(part, str) else _part(part) for part in written.parts]
        return cls(
            *parts,
            finish=written.finish,
            usage=written.usage,
            model=written.model,
            interleaved=written.interleaved,
        )


def _check(part: object) -> None:
    if not isinstance(part, (str, Thought, Call)):
        raise ConfigurationError(f"{part!r} is no part of a script: it must be a text, a Thought or a Call")


def _block(group: Sequence[str | Thought | Call]) -> Block:
    first = group[0]
    if isinstance(first, Call):
        pieces = [first.arguments] if isinstance(first.arguments, str) else list(first.arguments)
        return Block("tool", pieces, first.name, first.id)
    kind: Literal["text", "thinking"] = "thinking" if isinstance(first, Thought) else "text"
    return Block(kind, [part.text if isinstance(part, Thought) else str(part) for part in group])


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except msgspec.MsgspecError:
        return False
    return True


def _part(written: dict[str, Any]) -> Thought | Call:
    if written.keys() == {"thought"}:
        return Thought(msgspec.convert(written["thought"], str))
    if "call" in written:
        call = msgspec.convert(written, _WrittenCall)
        return Call(call.call, [call.arguments] if isinstance(call.arguments, str) else call.arguments, call.id)
    raise ConfigurationError(f'parts: {written!r} is no part: allowed are "text", {{"thought": …}} and {{"call": …}}')


def _spoken(body: bytes) -> Dialect:
    if b"message_start" in body:
        return "anthropic"
    if b'"response.' in body or b"event: response." in body:
        return "openai-responses"
    if b'"choices"' in body:
        return "openai-chat"
    raise ConfigurationError("the tape is in none of the dialects anthropic, openai-chat and openai-responses")
