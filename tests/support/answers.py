"""Good answers of the three protocols, as lists of SSE events: what a provider sends when nothing goes wrong.

`texts` are the pieces of text, `tools` the calls ``(id, name, pieces of arguments)`` that follow it. ``terminal=False``
leaves out everything that ends an answer: the stop reason, the usage and the terminal mark.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["ToolSpec", "chat", "messages", "responses", "sse"]

ToolSpec = tuple[str, str, Sequence[str]]


def sse(data: Any, event: str = "") -> bytes:
    """One event; `data` is a string as it is, or becomes JSON."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {text}\n\n".encode()


def chat(
    *texts: str,
    thinking: Sequence[str] = (),
    tools: Sequence[ToolSpec] = (),
    model: str = "scripted-1",
    finish: str = "",
    usage: tuple[int, int] | None = (7, 3),
    terminal: bool = True,
) -> list[bytes]:
    """OpenAI Chat Completions: a role chunk, the content, the finish, the usage, ``[DONE]``."""

    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return sse({**envelope, "choices": [choice]})

    envelope = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    frames = [chunk({"role": "assistant", "content": ""})]
    frames += [chunk({"reasoning_content": piece}) for piece in thinking]
    frames += [chunk({"content": text}) for text in texts]
    for index, (call_id, name, pieces) in enumerate(tools):
        head = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
        frames.append(chunk({"tool_calls": [head]}))
        frames += [chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}) for piece in pieces]
    if terminal:
        frames.append(chunk({}, finish or ("tool_calls" if tools else "stop")))
        if usage is not None:
            counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
            frames.append(sse({**envelope, "choices": [], "usage": counts}))
        frames.append(sse("[DONE]"))
    return frames


def messages(
    *texts: str,
    thinking: Sequence[str] = (),
    tools: Sequence[ToolSpec] = (),
    model: str = "scripted-1",
    finish: str = "",
    usage: tuple[int, int] = (7, 3),
    terminal: bool = True,
) -> list[bytes]:
    """Anthropic Messages: ``message_start``, the blocks, ``message_delta``, ``message_stop``."""
    index = 0

    def event(kind: str, **fields: Any) -> bytes:
        return sse({"type": kind, **fields}, kind)

    def block(start: dict[str, Any], deltas: list[dict[str, Any]]) -> None:
        nonlocal index
        frames.append(event("content_block_start", index=index, content_block=start))
        frames.extend(event("content_block_delta", index=index, delta=delta) for delta in deltas)
        if terminal:
            frames.append(event("content_block_stop", index=index))
        index += 1

    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": []}
    stop = {"stop_reason": None, "stop_sequence": None}
    counts = {"input_tokens": usage[0], "output_tokens": 1}
    frames = [event("message_start", message={**message, **stop, "usage": counts})]
    if thinking:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in thinking]
        signature = {"type": "signature_delta", "signature": "c2lnbmF0dXJl"}
        block({"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signature])
    if texts:
        block({"type": "text", "text": ""}, [{"type": "text_delta", "text": text} for text in texts])
    for call_id, name, pieces in tools:
        start = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
        block(start, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces])
    if terminal:
        reason = finish or ("tool_use" if tools else "end_turn")
        delta = {"stop_reason": reason, "stop_sequence": None}
        frames.append(event("message_delta", delta=delta, usage={"output_tokens": usage[1]}))
        frames.append(event("message_stop"))
    return frames


def responses(
    *texts: str,
    tools: Sequence[ToolSpec] = (),
    model: str = "scripted-1",
    usage: tuple[int, int] = (7, 3),
    terminal: bool = True,
) -> list[bytes]:
    """OpenAI Responses: ``response.created``, the items, ``response.completed``; every event numbered."""

    def event(kind: str, **fields: Any) -> None:
        frames.append(sse({"type": kind, "sequence_number": len(frames), **fields}, kind))

    frames: list[bytes] = []
    output: list[dict[str, Any]] = []
    response: dict[str, Any] = {"id": "resp_1", "object": "response", "model": model, "output": []}
    event("response.created", response={**response, "status": "in_progress"})
    if texts:
        item: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
        where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        whole = {"type": "output_text", "text": "".join(texts), "annotations": []}
        event("response.output_item.added", output_index=0, item={**item, "status": "in_progress"})
        event("response.content_part.added", **where, part={"type": "output_text", "text": "", "annotations": []})
        for text in texts:
            event("response.output_text.delta", **where, delta=text, logprobs=[])
        if terminal:
            event("response.output_text.done", **where, text=whole["text"], logprobs=[])
            event("response.content_part.done", **where, part=whole)
            output.append({**item, "status": "completed", "content": [whole]})
            event("response.output_item.done", output_index=0, item=output[-1])
    for index, (call_id, name, pieces) in enumerate(tools, start=1 if texts else 0):
        call = {"id": f"fc_{index}", "type": "function_call", "call_id": call_id, "name": name, "arguments": ""}
        where = {"item_id": f"fc_{index}", "output_index": index}
        event("response.output_item.added", output_index=index, item={**call, "status": "in_progress"})
        for piece in pieces:
            event("response.function_call_arguments.delta", **where, delta=piece)
        if terminal:
            event("response.function_call_arguments.done", **where, name=name, arguments="".join(pieces))
            output.append({**call, "status": "completed", "arguments": "".join(pieces)})
            event("response.output_item.done", output_index=index, item=output[-1])
    if terminal:
        counts = {"input_tokens": usage[0], "output_tokens": usage[1], "total_tokens": sum(usage)}
        event("response.completed", response={**response, "status": "completed", "output": output, "usage": counts})
    return frames
