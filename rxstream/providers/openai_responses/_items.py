"""The items of a Responses answer, and the parts that we make of them.

Rules of this module:

* An item has one part for each piece of content: a text, a refusal, a section of reasoning, a call. A part ends with its item.
* An event belongs to the item with its ``item_id``. Where that is unknown, for some servers change the ids from event to event,
  it belongs to the last item of its type, at its ``output_index`` if it has one.
* Text comes as deltas and is restated whole, up to four times. The restatement counts: where the deltas brought nothing it is
  delivered as one delta, and where they brought something else it goes out as ``PartEnd.text``. An empty one is ignored.
* A ``function_call`` and a ``custom_tool_call`` are tool calls of ours, sealed when their item is done and not ``incomplete``.
  Every other kind of call is a `ServerTool`, those too whose action the client carries out (``computer_call``,
  ``local_shell_call``, ``shell_call``, ``apply_patch_call`` …): they are no functions of ours, and are answered by an item of
  their own kind. What must go back with the next turn is the ``payload`` of their `PartEnd`.
"""

from __future__ import annotations

from io import StringIO
from typing import Any, Final, Literal, TypeAlias

import msgspec

from rxstream.events import (
    Citation,
    Event,
    Logprobs,
    Media,
    PartEnd,
    Raw,
    RefusalDelta,
    ServerTool,
    TextDelta,
    ThinkingDelta,
    ThinkingSignature,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
)
from rxstream.providers._shared import is_list, is_object

__all__ = ["CALLS", "Item", "Items", "Kind", "Part", "as_dict", "as_integer", "as_list", "as_text", "is_server_tool"]

Kind: TypeAlias = Literal["text", "refusal", "summary", "full", "call", "server", "media", "other"]

_ENDS: Final[dict[Kind, str]] = {  # what the end of a part calls it
    "summary": "thinking",
    "full": "thinking",
    "call": "tool_call",
    "server": "server_tool",
}
_CONTENT: Final[dict[str, tuple[Kind, str]]] = {
    "output_text": ("text", "text"),
    "text": ("text", "text"),
    "refusal": ("refusal", "refusal"),
    "reasoning_text": ("full", "text"),
    "summary_text": ("summary", "text"),
}
_INPUTS: Final = ("arguments", "code", "action", "actions", "operation", "queries", "prompt")
CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}
"""The types of items that call a tool of ours, and where they have what the model wrote."""
_CLIENT_RUN: Final = ("computer_call", "local_shell_call", "shell_call", "apply_patch_call")


def as_text(value: Any) -> str:
    """A string as it is, nothing as nothing, and any other JSON as its text."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def as_integer(value: Any) -> int | None:
    """An integer, or None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_dict(value: Any) -> dict[str, Any]:
    """An object, or an empty one for anything else."""
    return value if is_object(value) else {}


def as_list(value: Any) -> list[Any]:
    """An array, or an empty one for anything else."""
    return value if is_list(value) else []


def is_server_tool(kind: str) -> bool:
    """Whether an item of this type is something that the provider's own tools did, or want done."""
    return kind not in CALLS and (kind.endswith(("_call", "_output")) or kind.startswith("mcp_") or kind == "program")


class Part:
    """What was delivered of one part."""

    __slots__ = ("citations", "final", "kind", "logprobs", "number", "said")

    def __init__(self, kind: Kind, number: int) -> None:
        self.kind: Kind = kind
        self.number = number
        self.said = StringIO()
        self.final: str | None = None
        self.citations = 0
        self.logprobs = False


class Item:
    """One item of the answer's output."""

    __slots__ = ("called", "done", "id", "index", "name", "parts", "reply_to", "type")

    def __init__(self, kind: str, index: int | None, item_id: str) -> None:
        self.type = kind
        self.index = index
        self.id = item_id
        self.name = ""
        self.reply_to = ""
        """The ``call_id``: what an answer to the call must quote."""
        self.parts: dict[tuple[Kind, int], Part] = {}
        self.called = False
        self.done = False


class Items:
    """The items of one answer. Its methods append events to `out`, which the decoder sets for each payload."""

    def __init__(self) -> None:
        self.out: list[Event] = []
        self.raw: bytes | None = None
        self.awaited: set[str] = set()
        """The ``call_id`` of each call that the client has to answer."""
        self._all: list[Item] = []
        self._by_id: dict[str, Item] = {}
        self._last: dict[tuple[int | None, str], Item] = {}  # by place and type, of which either may be any
        self._parts = 0
        self._spoken: set[Kind] = set()

    @property
    def refused(self) -> bool:
        """Whether the model declined and said nothing else."""
        return "refusal" in self._spoken and "text" not in self._spoken

    def open_call(self) -> Item | None:
        """A tool call of ours that is not whole, if there is one."""
        return next((item for item in self._all if item.type in CALLS and not item.done), None)

    def begin(self, kind: str, index: int | None, item_id: str) -> Item:
        """A new item, whatever came before under the same index or id."""
        item = Item(kind, index, item_id)
        self._all.append(item)
        if item_id:
            self._by_id[item_id] = item
        for place in (index, None):
            self._last[place, kind] = self._last[place, ""] = item
        return item

    def find(self, index: int | None, item_id: str, kind: str = "") -> Item | None:
        """The item of type `kind`, or of any, that an event means; None if it was never announced."""
        item = self._by_id.get(item_id)
        if item is not None and (index is None or item.index in (index, None)):
            return item
        return self._last.get((index, kind))

    def part(self, item: Item, kind: Kind, position: int = 0) -> Part:
        """The part of an item for one piece of its content. All text of a reasoning item is reasoning."""
        if kind == "text" and item.type == "reasoning":
            kind = "full"
        part = item.parts.get((kind, position))
        if part is None:
            part = item.parts[kind, position] = Part(kind, self._parts)
            self._parts += 1
        return part

    def announce(self, item: Item, payload: dict[str, Any]) -> None:
        """The provider names a new item."""
        self._identify(item, payload)
        if item.type in CALLS:
            self.call(item)
        elif is_server_tool(item.type):
            self.server(item, "start", status=as_text(payload.get("status")))

    def deliver(self, part: Part, text: str) -> None:
        """More of a part."""
        if not text:
            return
        number, raw = part.number, self.raw
        self._spoken.add(part.kind)
        part.said.write(text)
        match part.kind:
            case "text":
                self.out.append(TextDelta(part=number, text=text, raw=raw))
            case "refusal":
                self.out.append(RefusalDelta(part=number, text=text, raw=raw))
            case "summary":
                self.out.append(ThinkingDelta(part=number, text=text, kind="summary", raw=raw))
            case "full":
                self.out.append(ThinkingDelta(part=number, text=text, raw=raw))
            case _:
                self.out.append(ToolCallDelta(part=number, arguments=text, raw=raw))

    def call(self, item: Item) -> Part:
        """The part of a tool call of ours."""
        announced = ("call", 0) in item.parts
        part = self.part(item, "call")
        if not announced:
            self.out.append(ToolCallStart(part=part.number, id=item.reply_to, name=item.name, raw=self.raw))
        return part

    def server(
        self,
        item: Item,
        step: Literal["start", "delta", "call", "status", "result"],
        *,
        arguments: str = "",
        status: str = "",
        payload: Any = None,
    ) -> None:
        """A step of a tool that the provider runs."""
        item.called = item.called or step == "call"
        self.out.append(
            ServerTool(
                part=self.part(item, "server").number,
                id=item.reply_to or item.id,
                name=item.name or item.type.removesuffix("_call"),
                step=step,
                arguments=arguments,
                status=status,
                payload=payload,
                raw=self.raw,
            )
        )

    def image(self, item: Item, data: Any, output_format: Any) -> None:
        """An image, which may be a partial one."""
        if data and isinstance(data, str):
            number = self.part(item, "media").number
            media_type = f"image/{as_text(output_format) or 'png'}"
            self.out.append(
                Media(part=number, kind="image", data=data, media_type=media_type, id=item.id, raw=self.raw)
            )

    def cite(self, part: Part, annotation: Any) -> None:
        """A source of the part's text."""
        fields = as_dict(annotation)
        part.citations += 1
        self.out.append(
            Citation(
                part=part.number,
                kind=as_text(fields.get("type")),
                url=as_text(fields.get("url")),
                title=as_text(fields.get("title") or fields.get("filename")),
                start=as_integer(fields.get("start_index")),
                end=as_integer(fields.get("end_index")),
                payload=annotation,
                raw=self.raw,
            )
        )

    def weigh(self, part: Part, logprobs: list[Any]) -> None:
        """Log probabilities of the part's tokens."""
        part.logprobs = True
        self.out.append(Logprobs(part=part.number, content=logprobs, refusal=part.kind == "refusal", raw=self.raw))

    def restate(self, part: Part, text: Any) -> None:
        """All of a part, as the provider has it in the end."""
        if not text or not isinstance(text, str):
            return
        length = part.said.tell()
        if length:
            part.final = None if len(text) == length and text == part.said.getvalue() else text
        else:
            self.deliver(part, text)

    def restate_content(self, item: Item, position: int, content: dict[str, Any]) -> None:
        """One piece of content, whole, of a message or a reasoning item."""
        name = as_text(content.get("type"))
        if name not in _CONTENT:
            if item.done:
                self.out.append(Raw(name=name, payload=content, raw=self.raw))
            return
        kind, field = _CONTENT[name]
        part = self.part(item, kind, position)
        self.restate(part, content.get(field))
        logprobs = as_list(content.get("logprobs"))
        if logprobs and not part.logprobs:
            self.weigh(part, logprobs)
        for annotation in as_list(content.get("annotations"))[part.citations :]:
            self.cite(part, annotation)

    def finish(self, item: Item, payload: dict[str, Any]) -> None:
        """The provider closes an item and restates it."""
        item.done = True
        cut = payload.get("status") == "incomplete"
        self._identify(item, payload)
        if item.type in ("message", "reasoning"):
            for position, content in enumerate(as_list(payload.get("content"))):
                self.restate_content(item, position, as_dict(content))
            if item.type == "reasoning":
                self._reason(item, payload)
        elif item.type in CALLS:
            part = self.call(item)
            self.restate(part, as_text(payload.get(CALLS[item.type])))
            if not cut:
                self._seal(item, part)
        elif is_server_tool(item.type):
            self._result(item, payload)
        elif payload:
            self.part(item, "other")
        self._end(item, as_text(payload.get("id")), None if cut else payload)

    def finish_all(self, output: list[Any], *, complete: bool, missing: bool) -> None:
        """The answer is over, and restated in `output`: what is still open ends, what never came is delivered.

        An item whose id is not known is the one at its place, if that is of its type; a new one if there was none of its type,
        or if events are `missing` and other ids are known. Better one item too few than one twice.
        """
        restated = [as_dict(payload) for payload in output]
        missing = missing and any(as_text(payload.get("id")) in self._by_id for payload in restated)
        seen = {item.type for item in self._all}
        for position, payload in enumerate(restated):
            kind, item_id = as_text(payload.get("type")), as_text(payload.get("id"))
            item = self._by_id.get(item_id)
            if item is None and not missing:
                item = self.find(position, "", kind)
            if item is None and (missing or kind not in seen):
                item = self.begin(kind, None, item_id)
            if item is not None and not item.done:
                self.finish(item, payload)
        for item in self._all:
            if not item.done:
                item.done = True
                if complete and item.type in CALLS:
                    self._seal(item, self.call(item))
                self._end(item, item.id, None)

    def _identify(self, item: Item, payload: dict[str, Any]) -> None:
        item.type = item.type or as_text(payload.get("type"))
        item.name = as_text(payload.get("name")) or item.name
        item.reply_to = as_text(payload.get("call_id")) or item.reply_to
        if item.type.endswith("_output"):
            self.awaited.discard(item.reply_to)

    def _seal(self, item: Item, part: Part) -> None:
        self.awaited.add(item.reply_to)
        self.out.append(
            ToolCall(
                part=part.number,
                id=item.reply_to,
                name=item.name,
                arguments=part.said.getvalue() if part.final is None else part.final,
                kind="custom" if item.type == "custom_tool_call" else "function",
                raw=self.raw,
            )
        )

    def _reason(self, item: Item, payload: dict[str, Any]) -> None:
        for position, section in enumerate(as_list(payload.get("summary"))):
            self.restate_content(item, position, as_dict(section))
        encrypted = payload.get("encrypted_content")
        part = next(reversed(item.parts.values()), None) or self.part(item, "full")
        if encrypted and isinstance(encrypted, str):
            self.out.append(ThinkingSignature(part=part.number, data=encrypted, kind="encrypted", raw=self.raw))

    def _result(self, item: Item, payload: dict[str, Any]) -> None:
        if item.type == "image_generation_call":
            self.image(item, payload.get("result"), payload.get("output_format"))
            # The image itself is the Media: it is not kept twice.
            payload = {name: value for name, value in payload.items() if name != "result"}
        arguments = next((as_text(payload[name]) for name in _INPUTS if payload.get(name)), "")
        status = as_text(payload.get("status"))
        if item.type in _CLIENT_RUN or payload.get("execution") == "client":
            self.awaited.add(item.reply_to)
            self.server(item, "call", arguments=arguments, status=status, payload=payload)
            return
        if arguments and not item.called:
            self.server(item, "call", arguments=arguments)
        self.server(item, "result", status=status, payload=payload)

    def _end(self, item: Item, item_id: str, payload: dict[str, Any] | None) -> None:
        for part in item.parts.values():
            self.out.append(
                PartEnd(
                    part=part.number,
                    kind=item.type if part.kind == "other" else _ENDS.get(part.kind, part.kind),
                    text=part.final,
                    id=item_id or item.id,
                    payload=payload if part.kind in ("server", "other") else None,
                    raw=self.raw,
                )
            )
            part.said = StringIO()
