"""What events add up to, kept compactly; `rxstream.aggregate` makes the answer of it.

Rules of this module:

* Pure: no clock, no I/O, no provider, and no pydantic: it is loaded with every stream.
* A part is known by ``(attempt, choice, part)``.
* What the provider says last and in whole (`ToolCall`, `PartEnd.text`) rules over the sum of its deltas.
* Memory is what was said, not how many pieces it came in.
"""

from __future__ import annotations

import binascii
import operator
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import reduce
from io import StringIO
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from rxstream import events as ev
from rxstream.events import Event, EventBase
from rxstream.usage import Usage

__all__ = ["CallSaid", "Fold", "Key", "MediaSaid", "ServerToolSaid", "ThinkingSaid"]

Key: TypeAlias = tuple[int, int, int]
"""Attempt, choice, part."""


class Fold:
    """What the events so far have said."""

    def __init__(self) -> None:
        self.id = self.model = self.provider = ""
        self.finished: ev.Finished | None = None
        self.attempt = 1
        self.usage: dict[int, Usage] = {}
        self.texts: defaultdict[Key, StringIO] = defaultdict(StringIO)
        self.refusals: defaultdict[Key, StringIO] = defaultdict(StringIO)
        self.thinking: defaultdict[Key, ThinkingSaid] = defaultdict(ThinkingSaid)
        self.calls: defaultdict[Key, CallSaid] = defaultdict(CallSaid)
        self.opaque: dict[Key, tuple[str, dict[str, Any]]] = {}
        self.server_tools: defaultdict[Key, ServerToolSaid] = defaultdict(ServerToolSaid)
        self.server_tool_ids: dict[tuple[int, int, str], Key] = {}
        self.media: defaultdict[Key, dict[str, MediaSaid]] = defaultdict(dict)
        self.citations: defaultdict[Key, list[ev.Citation]] = defaultdict(list)
        self.logprobs: defaultdict[Key, list[Any]] = defaultdict(list)
        self.stores: tuple[dict[Key, Any], ...] = (
            *(self.texts, self.refusals, self.thinking, self.calls, self.opaque),
            *(self.server_tools, self.media, self.citations, self.logprobs),
        )

    def add(self, event: Event) -> None:
        """Takes the next event.

        Raises:
            TypeError: it is not an event.
        """
        try:
            fold = self._folds[type(event)]
        except KeyError:
            raise TypeError(f"not an event: {event!r}") from None
        fold(self, event)

    # One method an event; `_folds` says which. The deltas of text are the hot path: look-up and write, nothing else.

    def _add_text(self, event: ev.TextDelta) -> None:
        self.texts[event.attempt, event.choice, event.part].write(event.text)

    def _add_refusal(self, event: ev.RefusalDelta) -> None:
        self.refusals[event.attempt, event.choice, event.part].write(event.text)

    def _add_thinking(self, event: ev.ThinkingDelta) -> None:
        self.thinking[event.attempt, event.choice, event.part].text.write(event.text)

    def _add_signature(self, event: ev.ThinkingSignature) -> None:
        self.thinking[event.attempt, event.choice, event.part].blobs[event.kind] = event.data

    def _add_call_start(self, event: ev.ToolCallStart) -> None:
        call = self.calls[event.attempt, event.choice, event.part]
        call.id = event.id or call.id
        call.name = event.name or call.name

    def _add_call_delta(self, event: ev.ToolCallDelta) -> None:
        call = self.calls[event.attempt, event.choice, event.part]
        if not call.complete:
            call.arguments.write(event.arguments)

    def _add_call(self, event: ev.ToolCall) -> None:
        call = self.calls[event.attempt, event.choice, event.part]
        call.id = event.id or call.id
        call.name = event.name or call.name
        call.arguments = _written(event.arguments)
        call.kind, call.complete = event.kind, True

    def _add_server_tool(self, event: ev.ServerTool) -> None:
        key = (event.attempt, event.choice, event.part)
        if event.id:  # a result may come as a part of its own: the id says whose it is
            key = self.server_tool_ids.setdefault((event.attempt, event.choice, event.id), key)
        tool = self.server_tools[key]
        tool.id = tool.id or event.id
        tool.name = tool.name or event.name
        tool.status = event.status or tool.status
        if event.step == "delta":
            tool.arguments.write(event.arguments)
        elif event.step == "call":
            tool.arguments = _written(event.arguments)
        elif event.step == "result":
            tool.result = event.payload

    def _add_citation(self, event: ev.Citation) -> None:
        self.citations[event.attempt, event.choice, event.part].append(event)

    def _add_media(self, event: ev.Media) -> None:
        of_part = self.media[event.attempt, event.choice, event.part]
        media = of_part.setdefault(f"image {event.id}" if event.kind == "image" else "audio", MediaSaid())
        media.id = event.id or media.id
        if event.kind == "transcript":
            media.transcript.write(event.data)
            return
        media.media_type = event.media_type or media.media_type
        if event.kind == "image":
            media.kind, media.image = "image", event.data
        else:
            media.add_audio(event.data)

    def _add_logprobs(self, event: ev.Logprobs) -> None:
        self.logprobs[event.attempt, event.choice, event.part].extend(event.content)

    def _add_part_end(self, event: ev.PartEnd) -> None:
        key = (event.attempt, event.choice, event.part)
        if event.payload is not None:
            self.opaque[key] = (self.provider, event.payload)
        if key in self.thinking:
            self.thinking[key].id = event.id or self.thinking[key].id
        if event.text is None:
            return
        if event.kind == "thinking":
            self.thinking[key].text = _written(event.text)
        elif event.kind == "refusal":
            self.refusals[key] = _written(event.text)
        elif event.kind in ("text", ""):
            self.texts[key] = _written(event.text)

    def _add_usage(self, event: ev.UsageReported) -> None:
        self.usage[event.attempt] = event.usage

    def _add_started(self, event: ev.Started) -> None:
        self.id = event.id or self.id
        self.model = event.model or self.model
        self.provider = event.provider or self.provider
        self.attempt = max(self.attempt, event.attempt)

    def _add_finished(self, event: ev.Finished) -> None:
        self.finished = event
        self.attempt = max(self.attempt, event.attempt)

    def _add_retracted(self, event: ev.Retracted) -> None:
        last = self._shorten(event.attempt, event.to_offset)
        self.usage.setdefault(event.attempt, Usage())  # it was paid for, whether or not we were told how much
        if self.finished is not None and self.finished.attempt == event.attempt:
            self.finished = None
        for store in self.stores:
            for key in [key for key in store if key[0] == event.attempt and (key[1] or key[2] > last)]:
                del store[key]

    def _shorten(self, attempt: int, length: int) -> int:
        """Keeps the first `length` characters of an attempt's text; the number of its last part that stays."""
        if length <= 0:
            return -1
        for key in sorted(key for key in self.texts if key[:2] == (attempt, 0)):
            text = self.texts[key].getvalue()
            if len(text) >= length:
                self.texts[key] = _written(text[:length])
                return key[2]
            length -= len(text)
        return sys.maxsize

    def _add_nothing(self, event: Event) -> None:
        """It says nothing of the answer."""
        self.attempt = max(self.attempt, event.attempt)

    _folds: ClassVar[dict[type[EventBase], Callable[[Fold, Any], None]]] = {
        ev.Started: _add_started,
        ev.TextDelta: _add_text,
        ev.ThinkingDelta: _add_thinking,
        ev.ThinkingSignature: _add_signature,
        ev.RefusalDelta: _add_refusal,
        ev.ToolCallStart: _add_call_start,
        ev.ToolCallDelta: _add_call_delta,
        ev.ToolCall: _add_call,
        ev.ServerTool: _add_server_tool,
        ev.Citation: _add_citation,
        ev.Media: _add_media,
        ev.Logprobs: _add_logprobs,
        ev.PartEnd: _add_part_end,
        ev.UsageReported: _add_usage,
        ev.Finished: _add_finished,
        ev.Retracted: _add_retracted,
        **dict.fromkeys((ev.Status, ev.Heartbeat, ev.Seam, ev.Failed, ev.Retrying, ev.Cancelled, ev.Raw), _add_nothing),
    }

    def total_usage(self) -> Usage:
        """Of all attempts; final only if all is known."""
        total = reduce(operator.add, self.usage.values(), Usage())
        silent = {key[0] for store in self.stores for key in store} - self.usage.keys()
        silent |= {attempt for attempt, usage in self.usage.items() if usage.provenance == "absent"}
        if total.provenance == "reported" and (self.finished is None or silent):
            return msgspec.structs.replace(total, provenance="partial")
        return total


class ThinkingSaid:
    """Reasoning, and the blobs that go with it."""

    __slots__ = ("blobs", "id", "text")

    def __init__(self) -> None:
        self.id = ""
        self.text = StringIO()
        self.blobs: dict[str, str] = {}

    def empty(self) -> bool:
        return not (self.blobs or self.text.getvalue())


class CallSaid:
    """A call of one of our tools."""

    __slots__ = ("arguments", "complete", "id", "kind", "name")

    def __init__(self) -> None:
        self.id = self.name = ""
        self.arguments = StringIO()
        self.kind: Literal["function", "custom"] = "function"
        self.complete = False


class ServerToolSaid:
    """A tool that the provider runs."""

    __slots__ = ("arguments", "id", "name", "result", "status")

    def __init__(self) -> None:
        self.id = self.name = self.status = ""
        self.arguments = StringIO()
        self.result: Any = None


class MediaSaid:
    """An image, the last of its versions; or audio, whose base64 pieces are joined as bytes: each may have its own padding."""

    __slots__ = ("audio", "id", "image", "kind", "media_type", "rest", "transcript")

    def __init__(self) -> None:
        self.kind = "audio"
        self.id = self.media_type = self.image = self.rest = ""
        self.audio = bytearray()
        self.transcript = StringIO()

    def add_audio(self, data: str) -> None:
        data = self.rest + data
        whole = len(data) - len(data) % 4  # a piece may end within a group of four: the next one has the rest
        self.audio += _bytes(data[:whole])
        self.rest = data[whole:]

    def base64(self) -> str:
        """The image, or all of the audio."""
        audio = self.audio + _bytes(self.rest + "=" * (-len(self.rest) % 4))
        return self.image or binascii.b2a_base64(audio, newline=False).decode()


def _written(text: str) -> StringIO:
    """A buffer that holds `text` and can be written on."""
    buffer = StringIO()
    buffer.write(text)
    return buffer


def _bytes(base64: str) -> bytes:
    """What the text encodes; nothing where it is not base64."""
    try:
        return binascii.a2b_base64(base64)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return b""
