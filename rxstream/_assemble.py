"""The answer as a whole, made of what the events add up to: the half of `rxstream.aggregate` that needs pydantic."""

from __future__ import annotations

import operator
from typing import TypeVar

from rxstream._fold import CallSaid, Fold, Key, MediaSaid, ServerToolSaid, ThinkingSaid
from rxstream.events import Citation
from rxstream.messages import OpaquePart, Part, RefusalPart, TextPart, ThinkingPart, ToolCall
from rxstream.response import Choice, CitationRecord, MediaRecord, Response, ServerToolCall

__all__ = ["assemble"]

T = TypeVar("T")


def assemble(fold: Fold) -> Response:
    """The answer so far."""
    finished = fold.finished
    attempts = {key[0] for store in fold.stores for key in store} | fold.usage.keys() | {fold.attempt}
    return Response(
        id=fold.id,
        model=fold.model,
        provider=fold.provider,
        choices=_choices(fold),
        finish_reason=finished.reason if finished else None,
        raw_finish_reason=finished.raw_reason if finished else None,
        stop_sequence=finished.stop_sequence if finished else None,
        usage=fold.total_usage(),
        attempts=max(attempts),
    )


def _choices(fold: Fold) -> list[Choice]:
    found = {key[1] for store in fold.stores for key in store}
    if fold.finished is not None:
        found |= {0, *fold.finished.raw_reasons}
    return [_choice(fold, index) for index in sorted(found | {0})] if found else []


def _choice(fold: Fold, index: int) -> Choice:
    finished = fold.finished
    reasons = finished.raw_reasons or {0: finished.raw_reason} if finished else {}
    return Choice(
        index=index,
        parts=_parts(fold, index),
        citations=[_citation(said) for _, all_said in _of(fold.citations, index) for said in all_said],
        server_tools=[_server_tool(said) for _, said in _of(fold.server_tools, index)],
        media=[_media(said) for _, of_part in _of(fold.media, index) for said in of_part.values()],
        logprobs=[entry for _, entries in _of(fold.logprobs, index) for entry in entries],
        raw_finish_reason=reasons.get(index),
    )


def _parts(fold: Fold, index: int) -> list[Part]:
    found: list[tuple[Key, Part]] = [
        *((key, _thinking(said)) for key, said in _of(fold.thinking, index) if not said.empty()),
        *((key, TextPart(text=said)) for key, text in _of(fold.texts, index) if (said := text.getvalue())),
        *((key, RefusalPart(text=said)) for key, text in _of(fold.refusals, index) if (said := text.getvalue())),
        *((key, _call(said)) for key, said in _of(fold.calls, index)),
        *((key, OpaquePart(provider=who, payload=what)) for key, (who, what) in _of(fold.opaque, index)),
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


def _thinking(said: ThinkingSaid) -> ThinkingPart:
    return ThinkingPart(
        id=said.id,
        text=said.text.getvalue(),
        signature=said.blobs.get("signature"),
        redacted=said.blobs.get("redacted"),
        encrypted=said.blobs.get("encrypted"),
    )


def _call(said: CallSaid) -> ToolCall:
    return ToolCall(
        id=said.id, name=said.name, arguments=said.arguments.getvalue(), kind=said.kind, complete=said.complete
    )


def _server_tool(said: ServerToolSaid) -> ServerToolCall:
    return ServerToolCall(
        id=said.id, name=said.name, arguments=said.arguments.getvalue(), status=said.status, result=said.result
    )


def _media(said: MediaSaid) -> MediaRecord:
    return MediaRecord(
        kind=said.kind,
        data=said.base64(),
        media_type=said.media_type,
        transcript=said.transcript.getvalue(),
        id=said.id,
    )


def _citation(said: Citation) -> CitationRecord:
    return CitationRecord(
        kind=said.kind,
        url=said.url,
        title=said.title,
        cited_text=said.cited_text,
        start=said.start,
        end=said.end,
        payload=said.payload,
    )


def _of(store: dict[Key, T], index: int) -> list[tuple[Key, T]]:
    """What `store` has for a choice, in order of its parts."""
    return [(key, store[key]) for key in sorted(store) if key[1] == index]
