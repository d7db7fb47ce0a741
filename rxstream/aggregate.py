"""The fold from events to the answer as a whole.

Rules of this module:

* Pure: no clock, no I/O, no provider. `Aggregator.add` never fails on an event, `Aggregator.response` may be asked at any time.
* A part is known by ``(attempt, choice, part)``; within a choice, parts stand in that order.
* What the provider says last and in whole (`ToolCall`, `PartEnd.text`) rules over the sum of its deltas.
* `Retracted` is obeyed, and the text of an attempt that goes on where another was cut is joined to it.
* Memory is what was said, not how many pieces it came in.

The events are those of one stream; of a combined one, take one `source` at a time.
"""

from __future__ import annotations

import binascii
import operator
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import reduce
from io import StringIO
from typing import Any, ClassVar, Literal, TypeVar

import msgspec

from rxstream import events as ev
from rxstream.events import Event, EventBase
from rxstream.messages import OpaquePart, Part, RefusalPart, TextPart, ThinkingPart, ToolCall
from rxstream.response import Choice, CitationRecord, MediaRecord, Response, ServerToolCall
from rxstream.usage import Usage

__all__ = ["Aggregator", "aggregate"]

_Key = tuple[int, int, int]  # attempt, choice, part
_T = TypeVar("_T")


def aggregate(events: Iterable[Event]) -> Response:
    """The answer that `events` come to; partial if they do not reach their `Finished`.

    Raises:
        TypeError: one of `events` is not an event.
    """
    aggregator = Aggregator()
    for event in events:
        aggregator.add(event)
    return aggregator.response()


class Aggregator:
    """Folds events, one at a time, into a `Response`."""

    def __init__(self) -> None:
        self._id = self._model = self._provider = ""
        self._finished: ev.Finished | None = None
        self._attempt = 1
        self._usage: dict[int, Usage] = {}
        self._texts: defaultdict[_Key, StringIO] = defaultdict(StringIO)
        self._refusals: defaultdict[_Key, StringIO] = defaultdict(StringIO)
        self._thinking: defaultdict[_Key, _Thinking] = defaultdict(_Thinking)
        self._calls: defaultdict[_Key, _Call] = defaultdict(_Call)
        self._opaque: dict[_Key, OpaquePart] = {}
        self._server_tools: defaultdict[_Key, _ServerTool] = defaultdict(_ServerTool)
        self._server_tool_ids: dict[tuple[int, int, str], _Key] = {}
        self._media: defaultdict[_Key, dict[str, _Media]] = defaultdict(dict)
        self._citations: defaultdict[_Key, list[CitationRecord]] = defaultdict(list)
        self._logprobs: defaultdict[_Key, list[Any]] = defaultdict(list)
        self._stores: tuple[dict[_Key, Any], ...] = (
            *(self._texts, self._refusals, self._thinking, self._calls, self._opaque),
            *(self._server_tools, self._media, self._citations, self._logprobs),
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

    def response(self) -> Response:
        """The answer so far."""
        finished = self._finished
        attempts = {key[0] for store in self._stores for key in store} | self._usage.keys() | {self._attempt}
        return Response(
            id=self._id,
            model=self._model,
            provider=self._provider,
            choices=self._choices(),
            finish_reason=finished.reason if finished else None,
            raw_finish_reason=finished.raw_reason if finished else None,
            stop_sequence=finished.stop_sequence if finished else None,
            usage=self._total(),
            attempts=max(attempts),
        )

    # One method an event; `_folds` says which. The deltas of text are the hot path: look-up and write, nothing else.

    def _add_text(self, event: ev.TextDelta) -> None:
        self._texts[event.attempt, event.choice, event.part].write(event.text)

    def _add_refusal(self, event: ev.RefusalDelta) -> None:
        self._refusals[event.attempt, event.choice, event.part].write(event.text)

    def _add_thinking(self, event: ev.ThinkingDelta) -> None:
        self._thinking[event.attempt, event.choice, event.part].text.write(event.text)

    def _add_signature(self, event: ev.ThinkingSignature) -> None:
        self._thinking[event.attempt, event.choice, event.part].blobs[event.kind] = event.data

    def _add_call_start(self, event: ev.ToolCallStart) -> None:
        call = self._calls[event.attempt, event.choice, event.part]
        call.id = event.id or call.id
        call.name = event.name or call.name

    def _add_call_delta(self, event: ev.ToolCallDelta) -> None:
        call = self._calls[event.attempt, event.choice, event.part]
        if not call.complete:
            call.arguments.write(event.arguments)

    def _add_call(self, event: ev.ToolCall) -> None:
        call = self._calls[event.attempt, event.choice, event.part]
        call.id = event.id or call.id
        call.name = event.name or call.name
        call.arguments = _written(event.arguments)
        call.kind, call.complete = event.kind, True

    def _add_server_tool(self, event: ev.ServerTool) -> None:
        key = (event.attempt, event.choice, event.part)
        if event.id:  # a result may come as a part of its own: the id says whose it is
            key = self._server_tool_ids.setdefault((event.attempt, event.choice, event.id), key)
        tool = self._server_tools[key]
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
        record = CitationRecord(
            kind=event.kind,
            url=event.url,
            title=event.title,
            cited_text=event.cited_text,
            start=event.start,
            end=event.end,
            payload=event.payload,
        )
        self._citations[event.attempt, event.choice, event.part].append(record)

    def _add_media(self, event: ev.Media) -> None:
        of_part = self._media[event.attempt, event.choice, event.part]
        media = of_part.setdefault(f"image {event.id}" if event.kind == "image" else "audio", _Media())
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
        self._logprobs[event.attempt, event.choice, event.part].extend(event.content)

    def _add_part_end(self, event: ev.PartEnd) -> None:
        key = (event.attempt, event.choice, event.part)
        if event.payload is not None:
            self._opaque[key] = OpaquePart(provider=self._provider, payload=event.payload)
        if key in self._thinking:
            self._thinking[key].id = event.id or self._thinking[key].id
        if event.text is None:
            return
        if event.kind == "thinking":
            self._thinking[key].text = _written(event.text)
        elif event.kind == "refusal":
            self._refusals[key] = _written(event.text)
        elif event.kind in ("text", ""):
            self._texts[key] = _written(event.text)

    def _add_usage(self, event: ev.UsageReported) -> None:
        self._usage[event.attempt] = event.usage

    def _add_started(self, event: ev.Started) -> None:
        self._id = event.id or self._id
        self._model = event.model or self._model
        self._provider = event.provider or self._provider
        self._attempt = max(self._attempt, event.attempt)

    def _add_finished(self, event: ev.Finished) -> None:
        self._finished = event
        self._attempt = max(self._attempt, event.attempt)

    def _add_retracted(self, event: ev.Retracted) -> None:
        last = self._shorten(event.attempt, event.to_offset)
        self._usage.setdefault(event.attempt, Usage())  # it was paid for, whether or not we were told how much
        if self._finished is not None and self._finished.attempt == event.attempt:
            self._finished = None
        for store in self._stores:
            for key in [key for key in store if key[0] == event.attempt and (key[1] or key[2] > last)]:
                del store[key]

    def _shorten(self, attempt: int, length: int) -> int:
        """Keeps the first `length` characters of an attempt's text; the number of its last part that stays."""
        if length <= 0:
            return -1
        for key in sorted(key for key in self._texts if key[:2] == (attempt, 0)):
            text = self._texts[key].getvalue()
            if len(text) >= length:
                self._texts[key] = _written(text[:length])
                return key[2]
            length -= len(text)
        return sys.maxsize

    def _add_nothing(self, event: Event) -> None:
        """It says nothing of the answer."""
        self._attempt = max(self._attempt, event.attempt)

    _folds: ClassVar[dict[type[EventBase], Callable[[Aggregator, Any], None]]] = {
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
        **dict.fromkeys((ev.Status, ev.Heartbeat, ev.Seam, ev.Failed, ev.Cancelled, ev.Raw), _add_nothing),
    }

    def _choices(self) -> list[Choice]:
        found = {key[1] for store in self._stores for key in store}
        if self._finished is not None:
            found |= {0, *self._finished.raw_reasons}
        return [self._choice(index) for index in sorted(found | {0})] if found else []

    def _choice(self, index: int) -> Choice:
        finished = self._finished
        reasons = finished.raw_reasons or {0: finished.raw_reason} if finished else {}
        return Choice(
            index=index,
            parts=self._parts(index),
            citations=[record for _, records in _of(self._citations, index) for record in records],
            server_tools=[tool.record() for _, tool in _of(self._server_tools, index)],
            media=[media.record() for _, of_part in _of(self._media, index) for media in of_part.values()],
            logprobs=[entry for _, entries in _of(self._logprobs, index) for entry in entries],
            raw_finish_reason=reasons.get(index),
        )

    def _parts(self, index: int) -> list[Part]:
        found: list[tuple[_Key, Part]] = [
            *((key, thinking.record()) for key, thinking in _of(self._thinking, index) if thinking.said()),
            *((key, TextPart(text=said)) for key, text in _of(self._texts, index) if (said := text.getvalue())),
            *((key, RefusalPart(text=said)) for key, text in _of(self._refusals, index) if (said := text.getvalue())),
            *((key, call.record()) for key, call in _of(self._calls, index)),
            *_of(self._opaque, index),
        ]
        found.sort(key=operator.itemgetter(0))  # stable: of one part number, in the order above
        parts: list[Part] = []
        attempt = 0
        for key, part in found:
            before = parts[-1] if parts and attempt != key[0] else None
            if isinstance(before, TextPart) and isinstance(part, TextPart):  # it goes on where the last attempt was cut
                parts[-1] = TextPart(text=before.text + part.text)
            else:
                parts.append(part)
            attempt = key[0]
        return parts

    def _total(self) -> Usage:
        total = reduce(operator.add, self._usage.values(), Usage())
        silent = {key[0] for store in self._stores for key in store} - self._usage.keys()
        silent |= {attempt for attempt, usage in self._usage.items() if usage.provenance == "absent"}
        if total.provenance == "reported" and (self._finished is None or silent):
            return msgspec.structs.replace(total, provenance="partial")
        return total


class _Thinking:
    __slots__ = ("blobs", "id", "text")

    def __init__(self) -> None:
        self.id = ""
        self.text = StringIO()
        self.blobs: dict[str, str] = {}

    def said(self) -> bool:
        return bool(self.blobs or self.text.getvalue())

    def record(self) -> ThinkingPart:
        return ThinkingPart(
            id=self.id,
            text=self.text.getvalue(),
            signature=self.blobs.get("signature"),
            redacted=self.blobs.get("redacted"),
            encrypted=self.blobs.get("encrypted"),
        )


class _Call:
    __slots__ = ("arguments", "complete", "id", "kind", "name")

    def __init__(self) -> None:
        self.id = self.name = ""
        self.arguments = StringIO()
        self.kind: Literal["function", "custom"] = "function"
        self.complete = False

    def record(self) -> ToolCall:
        return ToolCall(
            id=self.id, name=self.name, arguments=self.arguments.getvalue(), kind=self.kind, complete=self.complete
        )


class _ServerTool:
    __slots__ = ("arguments", "id", "name", "result", "status")

    def __init__(self) -> None:
        self.id = self.name = self.status = ""
        self.arguments = StringIO()
        self.result: Any = None

    def record(self) -> ServerToolCall:
        return ServerToolCall(
            id=self.id, name=self.name, arguments=self.arguments.getvalue(), status=self.status, result=self.result
        )


class _Media:
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

    def record(self) -> MediaRecord:
        audio = self.audio + _bytes(self.rest + "=" * (-len(self.rest) % 4))
        return MediaRecord(
            kind=self.kind,
            data=self.image or binascii.b2a_base64(audio, newline=False).decode(),
            media_type=self.media_type,
            transcript=self.transcript.getvalue(),
            id=self.id,
        )


def _of(store: dict[_Key, _T], index: int) -> list[tuple[_Key, _T]]:
    """What `store` has for a choice, in order of its parts."""
    return [(key, store[key]) for key in sorted(store) if key[1] == index]


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
