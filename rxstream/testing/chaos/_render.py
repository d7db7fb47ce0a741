"""Scripts as the server-sent events of the three dialects: what a provider sends when nothing goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest
from typing import Any, Final, NamedTuple

from rxstream.providers.compatible import Dialect
from rxstream.testing.chaos._script import Block, Call, Script, Thought

__all__ = ["ToolSpec", "chat", "messages", "render", "responses", "sse"]

ToolSpec = tuple[str, str, Sequence[str]]
"""A call: its id, its name, the pieces of its arguments."""

_Events = list[tuple[str, Any]]
"""Names of events and their payloads."""

_STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "pause": "pause_turn",
}
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


def sse(data: Any, event: str = "") -> bytes:
    """One event; `data` is a string as it is, or becomes JSON."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {text}\n\n".encode()


class _Told(NamedTuple):
    """A block in three acts."""

    opened: _Events
    said: _Events
    closed: _Events


class _Writer:
    """How a dialect tells a script: `begin`, each block, `end`."""

    def __init__(self, script: Script, *, model: str, number: int, finish: str) -> None:
        self.script = script
        self.model = script.model or model
        self.number = number
        calls = bool(script.parts) and isinstance(script.parts[-1], Call)
        self.reason = script.finish or ("tool_calls" if calls else "stop")
        self.word = finish  # the provider's own, as it is

    def begin(self) -> _Events:
        raise NotImplementedError

    def tell(self, index: int, block: Block) -> _Told:
        raise NotImplementedError

    def end(self) -> _Events:
        raise NotImplementedError

    def encode(self, events: _Events) -> list[bytes]:
        return [sse(payload, name) for name, payload in events]


class _Chat(_Writer):
    """OpenAI Chat Completions: a role chunk, the content, the finish, the usage, ``[DONE]``."""

    calls = 0

    def chunk(self, delta: dict[str, Any], reason: str | None = None) -> tuple[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return "", {**self.envelope, "choices": [choice]}

    def begin(self) -> _Events:
        self.envelope = {"id": f"chatcmpl-{self.number}", "object": "chat.completion.chunk", "created": 1}
        self.envelope["model"] = self.model
        return [self.chunk({"role": "assistant", "content": ""})]

    def tell(self, index: int, block: Block) -> _Told:
        if block.kind != "tool":
            name = "content" if block.kind == "text" else "reasoning_content"
            return _Told([], [self.chunk({name: piece}) for piece in block.pieces], [])
        place, self.calls = self.calls, self.calls + 1
        function = {"name": block.name, "arguments": ""}
        head = {"index": place, "id": block.id or f"call_{index}", "type": "function", "function": function}
        pieces = [{"index": place, "function": {"arguments": piece}} for piece in block.pieces]
        opened, *said = [self.chunk({"tool_calls": [piece]}) for piece in (head, *pieces)]
        return _Told([opened], said, [])

    def end(self) -> _Events:
        events = [self.chunk({}, self.word or self.reason)]
        if self.script.usage is not None:
            given, made = self.script.usage
            counts = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
            events.append(("", {**self.envelope, "choices": [], "usage": counts}))
        return [*events, ("", "[DONE]")]


class _Messages(_Writer):
    """Anthropic Messages: ``message_start``, the blocks, ``message_delta``, ``message_stop``."""

    def event(self, kind: str, **fields: Any) -> tuple[str, Any]:
        return kind, {"type": kind, **fields}

    def begin(self) -> _Events:
        message: dict[str, Any] = {"id": f"msg_{self.number}", "type": "message", "role": "assistant"}
        message |= {"model": self.model, "content": [], "stop_reason": None, "stop_sequence": None}
        if self.script.usage is not None:
            message["usage"] = {"input_tokens": self.script.usage[0], "output_tokens": 1}
        return [self.event("message_start", message=message)]

    def tell(self, index: int, block: Block) -> _Told:
        start: dict[str, Any]
        match block.kind:
            case "thinking":
                start = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in block.pieces]
                deltas.append({"type": "signature_delta", "signature": "c2lnbmF0dXJl"})
            case "text":
                start = {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": piece} for piece in block.pieces]
            case "tool":
                start = {"type": "tool_use", "id": block.id or f"toolu_{index}", "name": block.name, "input": {}}
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in block.pieces]
        opened = [self.event("content_block_start", index=index, content_block=start)]
        if index == 0 and self.script.lifecycle:
            opened.append(self.event("ping"))
        said = [self.event("content_block_delta", index=index, delta=delta) for delta in deltas]
        return _Told(opened, said, [self.event("content_block_stop", index=index)])

    def end(self) -> _Events:
        delta = {"stop_reason": self.word or _STOP_REASONS.get(self.reason, self.reason), "stop_sequence": None}
        usage = {} if self.script.usage is None else {"usage": {"output_tokens": self.script.usage[1]}}
        return [self.event("message_delta", delta=delta, **usage), self.event("message_stop")]


class _Responses(_Writer):
    """OpenAI Responses: ``response.created``, the items, ``response.completed``; every event numbered."""

    def encode(self, events: _Events) -> list[bytes]:
        numbered = ((kind, {"type": kind, "sequence_number": n, **fields}) for n, (kind, fields) in enumerate(events))
        return [sse(payload, kind) for kind, payload in numbered]

    def begin(self) -> _Events:
        self.output: list[dict[str, Any]] = []
        self.response: dict[str, Any] = {"id": f"resp_{self.number}", "object": "response"}
        self.response |= {"model": self.model, "output": []}
        fields = {"response": {**self.response, "status": "in_progress"}}
        progress = [("response.in_progress", fields)] if self.script.lifecycle else []
        return [("response.created", fields), *progress]

    def tell(self, index: int, block: Block) -> _Told:
        item = {"text": self._message, "thinking": self._reasoning, "tool": self._call}[block.kind](index, block)
        done = {"output_index": index, "item": self.output[-1]}
        return _Told(item.opened, item.said, [*item.closed, ("response.output_item.done", done)])

    def _message(self, index: int, block: Block) -> _Told:
        name = f"msg_{index + 1}"
        item: dict[str, Any] = {"id": name, "type": "message", "role": "assistant", "content": []}
        where = {"item_id": name, "output_index": index, "content_index": 0}
        whole: dict[str, Any] = {"type": "output_text", "text": "".join(block.pieces), "annotations": []}
        self.output.append({**item, "status": "completed", "content": [whole]})
        empty: dict[str, Any] = {**whole, "text": ""}
        return _Told(
            [
                ("response.output_item.added", {"output_index": index, "item": {**item, "status": "in_progress"}}),
                ("response.content_part.added", {**where, "part": empty}),
            ],
            [("response.output_text.delta", {**where, "delta": piece, "logprobs": []}) for piece in block.pieces],
            [
                ("response.output_text.done", {**where, "text": whole["text"], "logprobs": []}),
                ("response.content_part.done", {**where, "part": whole}),
            ],
        )

    def _reasoning(self, index: int, block: Block) -> _Told:
        name = f"rs_{index}"
        item: dict[str, Any] = {"id": name, "type": "reasoning", "summary": []}
        where = {"item_id": name, "output_index": index, "summary_index": 0}
        whole = {"type": "summary_text", "text": "".join(block.pieces)}
        self.output.append({**item, "summary": [whole]})
        kind = "response.reasoning_summary"
        return _Told(
            [
                ("response.output_item.added", {"output_index": index, "item": item}),
                (f"{kind}_part.added", {**where, "part": {"type": "summary_text", "text": ""}}),
            ],
            [(f"{kind}_text.delta", {**where, "delta": piece}) for piece in block.pieces],
            [(f"{kind}_text.done", {**where, "text": whole["text"]}), (f"{kind}_part.done", {**where, "part": whole})],
        )

    def _call(self, index: int, block: Block) -> _Told:
        call: dict[str, Any] = {"id": f"fc_{index}", "type": "function_call", "call_id": block.id or f"call_{index}"}
        call |= {"name": block.name, "arguments": ""}
        where = {"item_id": f"fc_{index}", "output_index": index}
        arguments = "".join(block.pieces)
        self.output.append({**call, "status": "completed", "arguments": arguments})
        kind = "response.function_call_arguments"
        return _Told(
            [("response.output_item.added", {"output_index": index, "item": {**call, "status": "in_progress"}})],
            [(f"{kind}.delta", {**where, "delta": piece}) for piece in block.pieces],
            [(f"{kind}.done", {**where, "arguments": arguments})],
        )

    def end(self) -> _Events:
        why = _INCOMPLETE.get(self.reason)
        status = "incomplete" if why else "completed"
        response = {**self.response, "status": status, "output": self.output}
        if why:
            response["incomplete_details"] = {"reason": why}
        if self.script.usage is not None:
            given, made = self.script.usage
            response["usage"] = {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}
        return [(f"response.{status}", {"response": response})]


_WRITERS: Final[dict[Dialect, type[_Writer]]] = {
    "anthropic": _Messages,
    "openai-chat": _Chat,
    "openai-responses": _Responses,
}


def render(
    script: Script,
    dialect: Dialect,
    *,
    model: str = "scripted-1",
    number: int = 1,
    finish: str = "",
    terminal: bool = True,
) -> list[bytes]:
    """The script's events on the wire, one each.

    Args:
        script: What is said.
        dialect: How.
        model: Its name, where the script has none.
        number: Which answer it is, from 1: its ids are made of it.
        finish: The provider's own word for the end.
        terminal: Also what ends an answer: the ends of its blocks, the stop reason, the usage, the terminal mark.
    """
    writer = _WRITERS[dialect](script, model=model, number=number, finish=finish)
    events = writer.begin()
    told = [(block, writer.tell(index, block)) for index, block in enumerate(script.blocks)]
    for together, run in groupby(told, lambda pair: script.interleaved and pair[0].kind == "tool"):
        acts = [act for _, act in run]
        for group in [acts] if together else [[act] for act in acts]:
            events += _woven(group, terminal=terminal)
    return writer.encode([*events, *writer.end()] if terminal else events)


def _woven(acts: Sequence[_Told], *, terminal: bool) -> Iterator[tuple[str, Any]]:
    for act in acts:
        yield from act.opened
    for turn in zip_longest(*(act.said for act in acts)):
        yield from (event for event in turn if event is not None)
    for act in acts if terminal else ():
        yield from act.closed


def chat(
    *texts: str,
    thinking: Sequence[str] = (),
    tools: Sequence[ToolSpec] = (),
    model: str = "scripted-1",
    finish: str = "",
    usage: tuple[int, int] | None = (7, 3),
    terminal: bool = True,
) -> list[bytes]:
    """The events of a small answer in Chat Completions; `finish` is the provider's own word."""
    script = _script(texts, thinking, tools, usage)
    return render(script, "openai-chat", model=model, finish=finish, terminal=terminal)


def messages(
    *texts: str,
    thinking: Sequence[str] = (),
    tools: Sequence[ToolSpec] = (),
    model: str = "scripted-1",
    finish: str = "",
    usage: tuple[int, int] | None = (7, 3),
    terminal: bool = True,
) -> list[bytes]:
    """The events of a small answer in Anthropic's Messages; `finish` is the provider's own word."""
    script = _script(texts, thinking, tools, usage)
    return render(script, "anthropic", model=model, finish=finish, terminal=terminal)


def responses(
    *texts: str,
    thinking: Sequence[str] = (),
    tools: Sequence[ToolSpec] = (),
    model: str = "scripted-1",
    usage: tuple[int, int] | None = (7, 3),
    terminal: bool = True,
) -> list[bytes]:
    """The events of a small answer in OpenAI's Responses."""
    script = _script(texts, thinking, tools, usage)
    return render(script, "openai-responses", model=model, terminal=terminal)


def _script(
    texts: Sequence[str], thinking: Sequence[str], tools: Sequence[ToolSpec], usage: tuple[int, int] | None
) -> Script:
    calls = [Call(name, pieces, call_id) for call_id, name, pieces in tools]
    return Script(*map(Thought, thinking), *texts, *calls, usage=usage, lifecycle=False)
