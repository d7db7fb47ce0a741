"""Anthropic's Messages stream, as events.

Rules of this module:

* The payload's ``type`` decides, never the name of the server-sent event, which some servers leave out.
* A block of theirs is a part of ours. It is known by its index while it is open; blocks may overlap, close out of order or
  never, and an index that is used again is a new part. A text or thinking delta without its block opens one.
* A tool call is sealed when its block closes, if its input is whole JSON. Where it is not (a tool without arguments sends
  none, and a cut call looks the same) the next block or the stop reason tells: a model that went on, or stopped of its own
  accord, had written all of it; one that was stopped had not.
* ``message_stop`` alone ends an answer, whatever was said before. Counts of usage are totals: they overwrite.
* What we have no event for becomes `Raw`, and a block that the next turn must send back is in its `PartEnd.payload`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal

import msgspec

from rxstream.errors import StreamIncomplete, ToolCallIncomplete
from rxstream.events import (
    Citation,
    Event,
    Finished,
    FinishReason,
    Heartbeat,
    PartEnd,
    Raw,
    ServerTool,
    Started,
    Status,
    TextDelta,
    ThinkingDelta,
    ThinkingSignature,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UsageReported,
)
from rxstream.providers._shared import SSEDialect
from rxstream.providers.anthropic import _payloads as payloads
from rxstream.providers.anthropic.errors import classify
from rxstream.wire.sse import DEFAULT_MAX_EVENT_BYTES

__all__ = ["AnthropicDecoder"]

_FINISH: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
}
_STOP: Final = (
    *("stop_reason", "stop_sequence", "stop_details", "container"),
    *("context_management", "diagnostics", "input_transformations"),
)
"""What a message says beside its content. The end may say it anew."""
_OF_ITS_OWN_ACCORD: Final = ("end_turn", "tool_use", "pause_turn")


class _Block:
    """An open block: its part, what kind of part that is, and its input so far."""

    __slots__ = ("given", "id", "input", "kind", "name", "part", "payload")

    def __init__(self, part: int, kind: str, payload: dict[str, Any]) -> None:
        self.part = part
        self.kind = kind
        """As in `PartEnd.kind`."""
        self.payload: dict[str, Any] | None = payload
        """The block as it started, with what was added since; None once something came that we cannot add."""
        self.id, self.name = payloads.text(payload.get("id")), payloads.text(payload.get("name"))
        self.input: list[str] = []
        self.given = False
        """The input came with the start of the block."""


class AnthropicDecoder(SSEDialect):
    """Decodes a stream of the Messages API. See `rxstream.typing.Decoder`.

    Args:
        keep_raw: keep each payload's bytes on the events made from it, as ``raw``.
        max_event_bytes: limit on one server-sent event.
    """

    def __init__(self, *, keep_raw: bool = True, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        super().__init__(keep_raw=keep_raw, max_event_bytes=max_event_bytes)
        self._started = False
        self._parts = 0
        self._blocks: dict[int, _Block] = {}  # open, by index
        self._unsealed: list[_Block] = []  # closed, but whether their input is whole is not known yet
        self._server_tools: dict[str, str] = {}  # id: name
        self._usage: dict[str, Any] = {}
        self._recount = False  # counts came that may be the last ones: the end will tell
        self._stop: dict[str, Any] = {}  # what the message_deltas said of the end

    def _payload(self, event: str, data: bytes, raw: bytes | None, out: list[Event]) -> None:
        try:
            item = payloads.decode(data)
        except msgspec.DecodeError:
            if data:
                self._unknown(event, data, raw, out)
            return
        if type(item) is payloads.BlockDelta:
            self._on_delta[type(item.delta)](self, item.index, item.delta, raw, out)
        else:
            self._on_payload[type(item)](self, item, raw, out)

    def _end(self, out: list[Event]) -> None:
        del out  # a cut stream has nothing more to say
        if any(block.kind == "tool_call" for block in (*self._blocks.values(), *self._unsealed)):
            raise ToolCallIncomplete("the body ended in the middle of a tool call")
        raise StreamIncomplete("the body ended without message_stop")

    def _unknown(self, event: str, data: bytes, raw: bytes | None, out: list[Event]) -> None:
        if data.strip() == b"[DONE]":  # gateways add it in the manner of another dialect
            out.append(Raw(name="[DONE]", raw=raw))
            return
        decoded = msgspec.json.decode(data)
        payload = payloads.object_of(decoded)
        name = payloads.text(payload.get("type")) or event
        if "error" in (event, name) or (not name and payload.get("error")) or {"code", "message"} <= payload.keys():
            raise classify(status=None, body=data)
        out.append(Raw(name=name, payload=decoded, raw=raw))
        index = payload.get("index")
        if name == "content_block_delta" and isinstance(index, int) and index in self._blocks:
            self._blocks[index].payload = None

    # Deltas of a block.

    def _text(self, index: int, delta: payloads.Text, raw: bytes | None, out: list[Event]) -> None:
        block = self._blocks.get(index)
        if block is None or block.kind != "text":
            block = self._block_for(index, "text", delta, raw, out)
        if block is not None and delta.text:
            out.append(TextDelta(text=delta.text, part=block.part, raw=raw))

    def _thinking(self, index: int, delta: payloads.ThinkingText, raw: bytes | None, out: list[Event]) -> None:
        block = self._block_for(index, "thinking", delta, raw, out)
        if block is not None and delta.thinking:
            out.append(ThinkingDelta(text=delta.thinking, part=block.part, raw=raw))
        if delta.estimated_tokens:  # of thinking that is not shown
            out.append(Status(status="thinking", payload={"estimated_tokens": delta.estimated_tokens}, raw=raw))

    def _signature(self, index: int, delta: payloads.Signature, raw: bytes | None, out: list[Event]) -> None:
        block = self._block_for(index, "thinking", delta, raw, out)
        if block is not None and delta.signature:
            out.append(ThinkingSignature(data=delta.signature, part=block.part, raw=raw))

    def _citation(self, index: int, delta: payloads.Citations, raw: bytes | None, out: list[Event]) -> None:
        block = self._block_for(index, "text", delta, raw, out)
        if block is not None:
            out.append(_cited(delta.citation, block.part, raw))

    def _input(self, index: int, delta: payloads.InputJson, raw: bytes | None, out: list[Event]) -> None:
        block = self._blocks.get(index)
        if block is None or block.kind not in ("tool_call", "server_tool"):
            self._misfit(index, delta, raw, out)
        elif delta.partial_json:
            if block.given:  # what is streamed rules
                block.given = False
                block.input.clear()
            _add_input(block, delta.partial_json, raw, out)

    def _compaction(self, index: int, delta: payloads.Compaction, raw: bytes | None, out: list[Event]) -> None:
        block = self._blocks.get(index)
        added = {key: value for key, value in msgspec.structs.asdict(delta).items() if value is not None}
        if block is not None and block.kind == "compaction" and block.payload is not None:
            block.payload = {**block.payload, **added}
        out.append(Raw(name="compaction_delta", payload=added, raw=raw))

    def _block_for(
        self, index: int, kind: str, delta: payloads.Payload, raw: bytes | None, out: list[Event]
    ) -> _Block | None:
        """The open block of this kind; a new one where there is none. None, and the delta as `Raw`, where it cannot be."""
        block = self._blocks.get(index)
        if block is not None and block.kind == kind:
            return block
        if block is not None and block.kind not in ("text", "thinking"):
            self._misfit(index, delta, raw, out)
            return None
        if block is not None:  # some gateways stream text and thinking under one index
            self._close(block, raw, out)
        block = self._blocks[index] = self._open({"type": kind}, raw, out)
        return block

    def _misfit(self, index: int, delta: payloads.Payload, raw: bytes | None, out: list[Event]) -> None:
        fields = msgspec.to_builtins(delta)
        out.append(Raw(name=fields["type"], payload={"index": index, "delta": fields}, raw=raw))
        if index in self._blocks:
            self._blocks[index].payload = None

    # Blocks.

    def _block_start(self, item: payloads.BlockStart, raw: bytes | None, out: list[Event]) -> None:
        refused = item.content_block.get("type") == "fallback"  # another model takes over where this one was stopped
        self._settle(raw, out, whole=not refused)
        if item.index in self._blocks:  # never closed, and its index is used again
            self._close(self._blocks.pop(item.index), raw, out)
        self._blocks[item.index] = self._open(item.content_block, raw, out)

    def _block_stop(self, item: payloads.BlockStop, raw: bytes | None, out: list[Event]) -> None:
        block = self._blocks.pop(item.index, None)
        if block is not None:
            self._close(block, raw, out)

    def _open(self, payload: dict[str, Any], raw: bytes | None, out: list[Event]) -> _Block:
        """A new part, with what the start of its block already says."""
        kind = payloads.text(payload.get("type"))
        block = _Block(self._parts, kind, payload)
        self._parts += 1
        if kind == "text":
            _open_text(block, payload, raw, out)
        elif kind in ("thinking", "redacted_thinking"):
            block.kind = "thinking"
            _open_thinking(block, payload, raw, out)
        elif kind == "tool_use":
            block.kind = "tool_call"
            out.append(ToolCallStart(id=block.id, name=block.name, part=block.part, raw=raw))
            _give_input(block, raw, out)
        elif kind.endswith("_tool_use"):
            block.kind = "server_tool"
            self._server_tools[block.id] = block.name
            out.append(_server_tool(block, "start", raw, payload=payload))
            _give_input(block, raw, out)
        elif kind.endswith("_tool_result"):
            of = payloads.text(payload.get("tool_use_id"))
            name = self._server_tools.get(of) or kind.removesuffix("_tool_result")
            out.append(ServerTool(id=of, name=name, step="result", payload=payload, part=block.part, raw=raw))
        else:
            out.append(Raw(name=kind, payload=payload, raw=raw))
        return block

    def _close(self, block: _Block, raw: bytes | None, out: list[Event]) -> None:
        if block.kind not in ("tool_call", "server_tool"):
            payload = None if block.kind in ("text", "thinking") else block.payload
            out.append(PartEnd(kind=block.kind, payload=payload, part=block.part, raw=raw))
        elif payloads.is_object("".join(block.input)):
            _seal(block, raw, out, whole=True)
        else:
            self._unsealed.append(block)

    def _settle(self, raw: bytes | None, out: list[Event], *, whole: bool) -> None:
        """It is known now whether the input of closed calls is whole."""
        for block in self._unsealed:
            _seal(block, raw, out, whole=whole)
        self._unsealed.clear()

    # The message.

    def _message_start(self, item: payloads.MessageStart, raw: bytes | None, out: list[Event]) -> None:
        message = item.message
        if self._started:
            out.append(Raw(name="message_start", payload=msgspec.to_builtins(item), raw=raw))
            return
        self._started = True
        out.append(Started(id=message.id or "", model=message.model or "", provider="anthropic", raw=raw))
        for payload in message.content or ():  # calls that a program of the model's makes come whole
            self._close(self._open(payload, raw, out), raw, out)
        self._settle(raw, out, whole=True)
        self._stop = {name: value for name in _STOP if (value := getattr(message, name))}
        if message.usage:
            self._usage = payloads.known(message.usage)
            out.append(UsageReported(usage=payloads.usage(self._usage, "partial"), raw=raw))

    def _message_delta(self, item: payloads.MessageDelta, raw: bytes | None, out: list[Event]) -> None:
        self._stop |= payloads.known(item.delta or {})
        for name in ("context_management", "input_transformations"):
            if getattr(item, name) is not None:
                self._stop[name] = getattr(item, name)
        stopped = "stop_reason" in self._stop
        if stopped:
            self._settle(raw, out, whole=self._stop["stop_reason"] in _OF_ITS_OWN_ACCORD)
        if item.usage:
            self._usage |= payloads.known(item.usage)
        if item.usage or (stopped and self._recount):
            out.append(UsageReported(usage=payloads.usage(self._usage, "reported" if stopped else "partial"), raw=raw))
            self._recount = not stopped

    def _message_stop(self, _: payloads.MessageStop, raw: bytes | None, out: list[Event]) -> None:
        raw_reason = payloads.text(self._stop.pop("stop_reason", None))
        stop_sequence = self._stop.pop("stop_sequence", None)
        for block in self._blocks.values():
            self._close(block, raw, out)
        self._blocks.clear()
        self._settle(raw, out, whole=raw_reason in _OF_ITS_OWN_ACCORD)
        if self._recount:
            out.append(UsageReported(usage=payloads.usage(self._usage, "reported"), raw=raw))
        finished = Finished(
            reason=_FINISH.get(raw_reason, "other"),
            raw_reason=raw_reason,
            stop_sequence=stop_sequence if isinstance(stop_sequence, str) else None,
            details=self._stop or None,
            raw=raw,
        )
        out.append(finished)
        self.finished = True

    def _ping(self, _: payloads.Ping, raw: bytes | None, out: list[Event]) -> None:
        out.append(Heartbeat(comment="ping", raw=raw))

    _on_delta: ClassVar[
        dict[type[payloads.Payload], Callable[[AnthropicDecoder, int, Any, bytes | None, list[Event]], None]]
    ] = {
        payloads.Text: _text,
        payloads.ThinkingText: _thinking,
        payloads.InputJson: _input,
        payloads.Signature: _signature,
        payloads.Citations: _citation,
        payloads.Compaction: _compaction,
    }
    _on_payload: ClassVar[
        dict[type[payloads.Payload], Callable[[AnthropicDecoder, Any, bytes | None, list[Event]], None]]
    ] = {
        payloads.BlockStart: _block_start,
        payloads.BlockStop: _block_stop,
        payloads.MessageStart: _message_start,
        payloads.MessageDelta: _message_delta,
        payloads.MessageStop: _message_stop,
        payloads.Ping: _ping,
    }


def _open_text(block: _Block, payload: dict[str, Any], raw: bytes | None, out: list[Event]) -> None:
    if text := payloads.text(payload.get("text")):
        out.append(TextDelta(text=text, part=block.part, raw=raw))
    if payloads.is_list(citations := payload.get("citations")):
        out += [_cited(payloads.object_of(citation), block.part, raw) for citation in citations]


def _open_thinking(block: _Block, payload: dict[str, Any], raw: bytes | None, out: list[Event]) -> None:
    if text := payloads.text(payload.get("thinking")):
        out.append(ThinkingDelta(text=text, part=block.part, raw=raw))
    if signature := payloads.text(payload.get("signature")):
        out.append(ThinkingSignature(data=signature, part=block.part, raw=raw))
    if data := payloads.text(payload.get("data")):
        out.append(ThinkingSignature(data=data, kind="redacted", part=block.part, raw=raw))


def _give_input(block: _Block, raw: bytes | None, out: list[Event]) -> None:
    """The input that the start of the block has already: mostly none, rarely all."""
    given = (block.payload or {}).get("input")
    if given:
        block.given = True
        _add_input(block, given if isinstance(given, str) else msgspec.json.encode(given).decode(), raw, out)


def _add_input(block: _Block, piece: str, raw: bytes | None, out: list[Event]) -> None:
    block.input.append(piece)
    if block.kind == "tool_call":
        out.append(ToolCallDelta(arguments=piece, part=block.part, raw=raw))
    else:
        out.append(_server_tool(block, "delta", raw, arguments=piece))


def _server_tool(
    block: _Block,
    step: Literal["start", "delta", "call"],
    raw: bytes | None,
    *,
    arguments: str = "",
    payload: Any = None,
) -> ServerTool:
    return ServerTool(
        id=block.id, name=block.name, step=step, arguments=arguments, payload=payload, part=block.part, raw=raw
    )


def _seal(block: _Block, raw: bytes | None, out: list[Event], *, whole: bool) -> None:
    """Ends a call, with its seal if its input is `whole`."""
    arguments = "".join(block.input) or "{}"
    item = None
    if whole and block.kind == "tool_call":
        out.append(ToolCall(id=block.id, name=block.name, arguments=arguments, part=block.part, raw=raw))
    elif whole:
        out.append(_server_tool(block, "call", raw, arguments=arguments))
        if block.payload is not None and payloads.is_object(arguments):
            item = {**block.payload, "input": msgspec.json.decode(arguments)}
    out.append(PartEnd(kind=block.kind, payload=item, part=block.part, raw=raw))


def _cited(citation: dict[str, Any], part: int, raw: bytes | None) -> Citation:
    """Their positions are those in the source, not in the answer: they stay in the payload."""
    return Citation(
        kind=payloads.text(citation.get("type")),
        url=payloads.text(citation.get("url")),
        title=payloads.text(citation.get("title")) or payloads.text(citation.get("document_title")),
        cited_text=payloads.text(citation.get("cited_text")),
        payload=citation,
        part=part,
        raw=raw,
    )
