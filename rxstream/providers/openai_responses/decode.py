"""The stream of the Responses API, as events.

Rules of this module:

* The payload's ``type`` says what it is, the SSE event's name where there is none. What we do not know becomes `Raw`.
* ``response.completed`` and ``response.incomplete`` end the answer; ``response.failed``, an ``error`` event and a bare
  ``{"error": …}`` are failures, and the first one decides. What comes after is ignored, ``[DONE]`` always.
* Deltas are typed and decoded once. All else is rare: it is decoded again, as plain JSON, in which a field of the wrong type
  is as good as absent.
* Where ``sequence_number`` counts upwards, an event whose number is not above the last is a repeat and dropped. A number left
  out is no fault by itself, for gateways swallow events: it becomes a `SequenceGap` where nothing restates the answer, and
  at once where the answer is to be exact (`strict`): then the events that are missing can be asked for (`cursor`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal

import msgspec

from rxstream.errors import SequenceGap, StreamIncomplete, ToolCallIncomplete
from rxstream.events import Event, Heartbeat, Media, Raw, Started, Status, TextDelta, UsageReported
from rxstream.providers._shared import SSEDialect
from rxstream.providers.openai_responses._ending import finished, usage
from rxstream.providers.openai_responses._items import (
    Item,
    Items,
    Kind,
    Part,
    as_dict,
    as_list,
    as_text,
    is_server_tool,
)
from rxstream.providers.openai_responses.errors import classify
from rxstream.wire.sse import DEFAULT_MAX_EVENT_BYTES

__all__ = ["ResponsesDecoder"]

_CONTENT: Final[dict[str, tuple[Kind, str]]] = {  # the kind of part, and of the item that it is in
    "response.output_text": ("text", "message"),
    "response.refusal": ("refusal", "message"),
    "response.reasoning_text": ("full", "reasoning"),
    "response.reasoning_summary_text": ("summary", "reasoning"),
    "response.function_call_arguments": ("call", "function_call"),
    "response.custom_tool_call_input": ("call", "custom_tool_call"),
}
_TEXT: Final = "response.output_text.delta"
_DELTAS: Final = {f"{name}.delta": what for name, what in _CONTENT.items()}
_WHOLE: Final = ("text", "refusal", "arguments", "input")
_SERVER_DELTAS: Final = (
    "response.mcp_call_arguments.delta",
    "response.code_interpreter_call_code.delta",
    "response.shell_call_command.delta",
    "response.apply_patch_call_operation_diff.delta",
)
_SERVER_INPUTS: Final = {
    "response.mcp_call_arguments.done": "arguments",
    "response.code_interpreter_call_code.done": "code",
}
_ENDINGS: Final = (
    "response.completed",
    "response.incomplete",
    "response.failed",
    "response.cancelled",
    "response.done",
)
_ERRORS: Final = ("error", "response.error")
_FRAME: Final = ("type", "sequence_number", "item_id", "output_index", "obfuscation")


class _Wire(msgspec.Struct, gc=False):
    """A delta; of every other event, where it belongs."""

    type: str = ""
    sequence_number: int | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    item_id: str | None = None
    delta: str = ""
    logprobs: list[Any] | None = None


_decode: Final = msgspec.json.Decoder(_Wire).decode


def _lenient(data: bytes) -> _Wire:
    """What is right of a payload in which something is not of the type that it should be."""
    wire = _Wire()
    payload = as_dict(msgspec.json.decode(data))
    for field in msgspec.structs.fields(_Wire):
        try:
            setattr(wire, field.name, msgspec.convert(payload[field.name], field.type))
        except (KeyError, msgspec.ValidationError):
            continue
    return wire


class ResponsesDecoder(SSEDialect):
    """Decodes the stream of ``/v1/responses``, OpenAI's own and that of every server that speaks it.

    Args:
        keep_raw: keep each payload's bytes on the events made from it, as ``raw``.
        max_event_bytes: limit on one server-sent event.
    """

    def __init__(self, *, keep_raw: bool = True, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        super().__init__(keep_raw=keep_raw, max_event_bytes=max_event_bytes)
        self.strict = False
        """Whether no event may be missing, whatever follows."""
        self._items = Items()
        self._audio: Item | None = None
        self._hot: Part | None = None  # where the last piece of text went, and what its event said of that
        self._hot_at: tuple[int | None, int | None, str | None] = (None, None, None)
        self._started = False
        self._first: int | None = None  # sequence number
        self._due = -1
        self._gap: SequenceGap | None = None

    @property
    def cursor(self) -> int | None:
        """The number of the last event that was read, or None as long as they are not seen to count upwards."""
        return self._due - 1 if self._first is not None and self._due > self._first + 1 else None

    def _payload(self, event: str, data: bytes, raw: bytes | None, out: list[Event]) -> None:
        try:
            wire = _decode(data)
        except msgspec.DecodeError:
            if data.strip() in (b"", b"[DONE]"):
                return
            wire = _lenient(data)
        name = wire.type or event
        if wire.sequence_number == self._due:
            self._due += 1
        elif wire.sequence_number is not None and self._repeated(wire.sequence_number, name):
            return
        where = (wire.output_index, wire.content_index, wire.item_id)
        if self._hot is not None and name == _TEXT and where == self._hot_at and wire.delta and not wire.logprobs:
            self._hot.said.write(wire.delta)
            out.append(TextDelta(part=self._hot.number, text=wire.delta, raw=raw))
            return
        self._items.out, self._items.raw = out, raw
        if name in _DELTAS:
            self._delta(name, wire)
        else:
            self._hot = None
            self._rare(name, event, wire, msgspec.json.decode(data))

    def _end(self, out: list[Event]) -> None:
        del out  # a stream that was cut has nothing more to say
        if self._gap is not None:
            raise self._gap
        call = self._items.open_call()
        if call is not None:
            raise ToolCallIncomplete(f"the stream ended inside the call of {call.name or 'a tool'}")
        raise StreamIncomplete("the stream ended without response.completed")

    def _repeated(self, number: int, name: str) -> bool:
        """Whether an event whose number is not the one that is due was there before."""
        if self._first is None:
            self._first = number
        elif number > self._due:
            gap = SequenceGap(f"events {self._due} to {number - 1} of the stream are missing")
            if self.strict:
                raise gap
            self._gap = self._gap or gap
        elif self._due > self._first + 1:  # it does count upwards
            return name not in _ENDINGS and name not in _ERRORS
        self._due = number + 1
        return False

    def _delta(self, name: str, wire: _Wire) -> None:
        part = self._part(name, wire)
        self._items.deliver(part, wire.delta)
        if wire.logprobs:
            self._items.weigh(part, wire.logprobs)
        if part.kind == "text" and wire.delta:
            self._hot, self._hot_at = part, (wire.output_index, wire.content_index, wire.item_id)

    def _part(self, name: str, wire: _Wire) -> Part:
        kind, item_type = _DELTAS[name]
        item = self._item(wire, item_type)
        if kind == "call":
            return self._items.call(item)
        position = wire.summary_index if kind == "summary" else wire.content_index
        return self._items.part(item, kind, position or 0)

    def _item(self, wire: _Wire, item_type: str) -> Item:
        """The open item that an event means, begun here if it was not announced."""
        item = self._items.find(wire.output_index, wire.item_id or "", item_type)
        if item is None or item.done:
            item = self._items.begin(item_type, wire.output_index, wire.item_id or "")
        return item

    def _is_over(self, wire: _Wire, item_type: str) -> bool:
        item = self._items.find(wire.output_index, wire.item_id or "", item_type)
        return item is not None and item.done

    def _rare(self, name: str, event: str, wire: _Wire, payload: Any) -> None:
        fields = as_dict(payload)
        handler = self._handlers.get(name) if fields else None
        if handler is not None:
            handler(self, name, wire, fields)
        elif name in _ERRORS or event in _ERRORS or (not wire.type and fields.get("error")):
            raise classify(status=None, body=msgspec.json.encode(payload))
        else:
            self._other(name, wire, fields, payload)

    def _begun(self, name: str, _: _Wire, payload: dict[str, Any]) -> None:
        self._start(as_dict(payload.get("response")))
        if name != "response.created":
            self._items.out.append(Status(status=name.removeprefix("response."), raw=self._items.raw))

    def _added(self, _: str, wire: _Wire, payload: dict[str, Any]) -> None:
        fields = as_dict(payload.get("item"))
        item = self._items.begin(as_text(fields.get("type")), wire.output_index, as_text(fields.get("id")))
        self._items.announce(item, fields)

    def _done(self, _: str, wire: _Wire, payload: dict[str, Any]) -> None:
        fields = as_dict(payload.get("item"))
        kind, item_id = as_text(fields.get("type")), as_text(fields.get("id"))
        item = self._items.find(wire.output_index, item_id, kind)
        if item is None or (item.done and item.id != item_id):  # never announced
            item = self._items.begin(kind, wire.output_index, item_id)
        if not item.done:
            self._items.finish(item, fields)

    def _restated(self, name: str, wire: _Wire, payload: dict[str, Any]) -> None:
        name = name.removesuffix("done") + "delta"
        if not self._is_over(wire, _DELTAS[name][1]):
            text = next((payload[field] for field in _WHOLE if payload.get(field)), None)
            self._items.restate(self._part(name, wire), text)

    def _part_restated(self, _: str, wire: _Wire, payload: dict[str, Any]) -> None:
        content = as_dict(payload.get("part"))
        item_type = "reasoning" if content.get("type") in ("summary_text", "reasoning_text") else "message"
        if not self._is_over(wire, item_type):
            position = wire.content_index if wire.summary_index is None else wire.summary_index
            self._items.restate_content(self._item(wire, item_type), position or 0, content)

    def _cited(self, _: str, wire: _Wire, payload: dict[str, Any]) -> None:
        part = self._items.part(self._item(wire, "message"), "text", wire.content_index or 0)
        self._items.cite(part, payload.get("annotation"))

    def _heard(self, name: str, wire: _Wire, _: dict[str, Any]) -> None:
        if self._audio is None:
            self._audio = self._items.begin("audio", None, "")
        if wire.delta:
            number = self._items.part(self._audio, "media").number
            kind: Literal["audio", "transcript"] = "audio" if name == "response.audio.delta" else "transcript"
            self._items.out.append(Media(part=number, kind=kind, data=wire.delta, raw=self._items.raw))

    def _pinged(self, name: str, _: _Wire, __: dict[str, Any]) -> None:
        self._items.out.append(Heartbeat(comment=name, raw=self._items.raw))

    def _nothing(self, _: str, __: _Wire, ___: dict[str, Any]) -> None:
        """What it announces comes with its first delta."""

    def _other(self, name: str, wire: _Wire, fields: dict[str, Any], payload: Any) -> None:
        """Progress of a provider's tool: ``response.<type of the item>….<step>``; or what we do not know."""
        items = self._items
        item = items.find(wire.output_index, wire.item_id or "")
        what, _, step = name.removeprefix("response.").rpartition(".")
        if item is None or item.done or not is_server_tool(item.type) or not what.startswith(item.type):
            items.out.append(Raw(name=name, payload=payload, raw=items.raw))
        elif name in _SERVER_DELTAS:
            items.server(item, "delta", arguments=wire.delta)
        elif name in _SERVER_INPUTS:
            items.server(item, "call", arguments=as_text(fields.get(_SERVER_INPUTS[name])))
        elif step == "partial_image":
            items.image(item, fields.get("partial_image_b64"), fields.get("output_format"))
        else:
            rest = {name: value for name, value in fields.items() if name not in _FRAME}
            items.server(item, "status", status=step, payload=rest or None)

    def _start(self, response: dict[str, Any]) -> None:
        if response and not self._started:
            self._started = True
            started = Started(
                id=as_text(response.get("id")),
                model=as_text(response.get("model")),
                provider=self.provider,
                raw=self._items.raw,
            )
            self._items.out.append(started)

    def _over(self, name: str, _: _Wire, payload: dict[str, Any]) -> None:
        items, response = self._items, as_dict(payload.get("response"))
        self._start(response)
        word = name.removeprefix("response.")
        status = word if word != "done" else as_text(response.get("status")) or "completed"
        output = as_list(response.get("output"))
        if status != "failed":
            missing = self._gap is not None and not self._first  # what a resumed stream lacks was delivered before
            items.finish_all(output, complete=status == "completed", missing=missing)
        counts = as_dict(response.get("usage"))
        if counts:
            items.out.append(UsageReported(usage=usage(counts), raw=items.raw))
        if status == "failed":
            raise classify(status=None, body=msgspec.json.encode({"error": response.get("error")}))
        if self._gap is not None and not output:
            raise self._gap
        details = response.get("incomplete_details")
        items.out.append(finished(status, details, awaited=bool(items.awaited), refused=items.refused, raw=items.raw))
        self.finished = True

    _handlers: ClassVar[dict[str, Callable[[ResponsesDecoder, str, _Wire, dict[str, Any]], None]]] = {
        "response.created": _begun,
        "response.queued": _begun,
        "response.in_progress": _begun,
        "response.compaction.compacting": _begun,
        "response.output_item.added": _added,
        "response.output_item.done": _done,
        "response.output_text.annotation.added": _cited,
        "response.content_part.done": _part_restated,
        "response.reasoning_summary_part.done": _part_restated,
        "response.reasoning_part.done": _part_restated,
        **dict.fromkeys((f"{name}.done" for name in _CONTENT), _restated),
        **dict.fromkeys(("response.audio.delta", "response.audio.transcript.delta"), _heard),
        **dict.fromkeys(("response.audio.done", "response.audio.transcript.done"), _nothing),
        **dict.fromkeys(("response.content_part.added", "response.reasoning_part.added"), _nothing),
        "response.reasoning_summary_part.added": _nothing,
        **dict.fromkeys(("keepalive", "ping"), _pinged),
        **dict.fromkeys(_ENDINGS, _over),
    }
