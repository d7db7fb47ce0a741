"""Streams made of complete answers: a model that cannot stream looks like one that can.

Rules of this module:

* Joined, the deltas are the answer, once (`rxstream.segment` has the law). Nothing that a `Response` holds is left out.
* The pace is kept by the loop's clock, between pieces: the first one comes at once. A stream that was paused goes on at
  its pace and makes up for nothing.
* A function that blocks runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from rxstream._check import kind_of
from rxstream.errors import ConfigurationError, StreamIncomplete
from rxstream.events import (
    Citation,
    Event,
    Finished,
    Logprobs,
    Media,
    PartEnd,
    Raw,
    RefusalDelta,
    ServerTool,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingSignature,
    ToolCallDelta,
    ToolCallStart,
    UsageReported,
)
from rxstream.events import ToolCall as ToolCallSealed
from rxstream.messages import OpaquePart, Part, RefusalPart, TextPart, ThinkingPart, ToolCall
from rxstream.response import Choice, MediaRecord, Response, ServerToolCall
from rxstream.segment import By, split
from rxstream.sources._source import Source
from rxstream.sources._worker import Worker
from rxstream.sources.iterable import END, Item, ItemsDecoder, Steps
from rxstream.usage import Usage

__all__ = ["Answer", "emulate"]

_Whole: TypeAlias = str | Response
Answer: TypeAlias = _Whole | Callable[[], _Whole | Awaitable[_Whole]]
"""A complete answer, or a function, coroutine or not, that gives one."""

_CHARACTERS_PER_TOKEN: Final = 4


def emulate(
    answer: Answer,
    *,
    by: By = "word",
    size: int | None = None,
    overlap: int = 0,
    delimiter: str | None = None,
    delay: float | None = None,
    tokens_per_second: float | None = None,
    model: str = "",
    provider: str = "emulated",
    id: str = "",  # noqa: A002 - the field's name
    usage: Usage | Callable[[], Usage | None] | None = None,
    label: str = "",
) -> Source[Any]:
    """A source that gives a complete answer piece by piece. A function is called anew for every subscription.

    Args:
        answer: Text, or a `Response` with all that it holds, or a function that gives one of these.
        by: How to cut; see `rxstream.segment.split`, for `size`, `overlap` and `delimiter`, too.
        size: Characters a piece, for ``by="size"``.
        overlap: Characters that its windows share.
        delimiter: What ends a piece, for ``by="delimiter"``.
        delay: Seconds between pieces.
        tokens_per_second: Or a pace; a token is taken for four characters. Without either, pieces come at once.
        model: Name of the model, for `Started`; a `Response` brings its own.
        provider: … of who provides it.
        id: … of the answer.
        usage: Token counts, or a function that knows them at the end; a `Response` brings its own.
        label: Name of the track.

    Raises:
        ConfigurationError: an option is missing, does not belong to `by`, or is out of its range; `answer` is none of
            these.
    """
    if not (isinstance(answer, (str, Response)) or callable(answer)):
        raise ConfigurationError(f"emulate takes text, a Response, or a function that gives one: not {kind_of(answer)}")
    cut = partial(split, by=by, size=size, overlap=overlap, delimiter=delimiter)
    cut("")  # what is wrong with the options is told now
    pause = _pace(delay, tokens_per_second)
    return Source(
        open=lambda: _answering(answer, cut, pause),
        decoder=lambda: ItemsDecoder(model=model, provider=provider, id=id, usage=usage),
        label=label,
        provider=provider,
        model=model,
    )


def _pace(delay: float | None, tokens_per_second: float | None) -> Callable[[int], float]:
    """Seconds to wait before a piece of so many characters."""
    if delay is not None and tokens_per_second is not None:
        raise ConfigurationError("give delay= or tokens_per_second=, not both")
    if delay is not None and not delay >= 0:
        raise ConfigurationError(f"delay={delay} must not be negative, in seconds")
    if tokens_per_second is not None:
        if not tokens_per_second > 0:
            raise ConfigurationError(f"tokens_per_second={tokens_per_second} must be more than 0")
        rate = tokens_per_second * _CHARACTERS_PER_TOKEN
        return lambda length: length / rate
    return lambda _length: delay or 0.0


@asynccontextmanager
async def _answering(
    answer: Answer, cut: Callable[[str], list[str]], pause: Callable[[int], float]
) -> AsyncGenerator[Steps]:
    """One subscription's answer; it is asked for with the first piece."""
    worker = Worker("rxstream-answer")
    pieces: Iterator[Item] | None = None
    speaking = False

    async def step() -> Any:
        nonlocal pieces, speaking
        if pieces is None:
            whole = await _ask(answer, worker)
            pieces = iter(cut(whole)) if isinstance(whole, str) else _events(whole, cut)
        piece: Any = next(pieces, END)
        length = _length(piece)
        if length and speaking and (seconds := pause(length)) > 0:
            await asyncio.sleep(seconds)
        speaking = speaking or bool(length)
        return piece

    try:
        yield Steps(step)
    finally:
        await worker.close(_nothing)


def _nothing() -> None:
    """A function that gave an answer holds nothing that must be closed."""


async def _ask(answer: Answer, worker: Worker) -> _Whole:
    whole: Any = answer
    if not isinstance(answer, (str, Response)):
        whole = answer() if inspect.iscoroutinefunction(answer) else await worker.run(answer)
        if inspect.isawaitable(whole):
            whole = await whole
    if not isinstance(whole, (str, Response)):
        raise ConfigurationError(f"the function must give text or a Response: not {kind_of(whole)}")
    return whole


def _length(piece: object) -> int:
    """Characters that a reader, or a tool, gets to see with this piece."""
    match piece:
        case str():
            return len(piece)
        case TextDelta() | ThinkingDelta() | RefusalDelta():
            return len(piece.text)
        case ToolCallDelta():
            return len(piece.arguments)
        case _:
            return 0


# --- a Response as the events that it could have come from ------------------------------------------------------------------


def _events(response: Response, cut: Callable[[str], list[str]]) -> Iterator[Event]:
    yield Started(id=response.id, model=response.model, provider=response.provider)
    for choice in response.choices:
        for number, part in enumerate(choice.parts):
            yield from _part(part, choice.index, number, cut)
        yield from _attachments(choice, len(choice.parts))
    if response.usage.provenance != "absent":
        yield UsageReported(usage=response.usage)
    if response.finish_reason is None:
        raise StreamIncomplete("the answer to emulate has no end: its own stream was cut")
    reasons = {choice.index: choice.raw_finish_reason for choice in response.choices}
    several = {index: reason for index, reason in reasons.items() if reason is not None}
    yield Finished(
        reason=response.finish_reason,
        raw_reason=response.raw_finish_reason or "",
        stop_sequence=response.stop_sequence,
        raw_reasons=several if len(several) > 1 else {},
    )


def _part(part: Part, choice: int, number: int, cut: Callable[[str], list[str]]) -> Iterator[Event]:
    match part:
        case TextPart():
            yield from (TextDelta(choice=choice, part=number, text=piece) for piece in cut(part.text))
        case RefusalPart():
            yield from (RefusalDelta(choice=choice, part=number, text=piece) for piece in cut(part.text))
        case ThinkingPart():
            yield from (ThinkingDelta(choice=choice, part=number, text=piece) for piece in cut(part.text))
            for kind in ("signature", "redacted", "encrypted"):
                if (blob := getattr(part, kind)) is not None:
                    yield ThinkingSignature(choice=choice, part=number, data=blob, kind=kind)
            yield PartEnd(choice=choice, part=number, kind="thinking", id=part.id)
        case ToolCall():
            yield ToolCallStart(choice=choice, part=number, id=part.id, name=part.name)
            yield from (ToolCallDelta(choice=choice, part=number, arguments=piece) for piece in cut(part.arguments))
            if part.complete:
                yield ToolCallSealed(
                    choice=choice, part=number, id=part.id, name=part.name, arguments=part.arguments, kind=part.kind
                )
        case OpaquePart():
            yield PartEnd(choice=choice, part=number, payload=part.payload)
        case _:  # an image or a tool's result: a user's part, which no model gives
            yield Raw(name=part.type, payload=part.model_dump())


def _attachments(choice: Choice, number: int) -> Iterator[Event]:
    """What stands beside the parts, numbered after them."""
    for record in choice.citations:
        yield Citation(choice=choice.index, part=number, **record.model_dump())
    for offset, tool in enumerate(choice.server_tools):
        yield from _server_tool(tool, choice.index, number + 1 + offset)
    for offset, media in enumerate(choice.media):
        yield from _media(media, choice.index, number + 1 + len(choice.server_tools) + offset)
    if choice.logprobs:
        yield Logprobs(choice=choice.index, part=number, content=choice.logprobs)


def _server_tool(tool: ServerToolCall, choice: int, number: int) -> Iterator[Event]:
    bare = ServerTool(choice=choice, part=number, id=tool.id, name=tool.name, step="start")
    yield bare
    if tool.arguments:
        yield replace(bare, step="call", arguments=tool.arguments)
    if tool.status:
        yield replace(bare, step="status", status=tool.status)
    if tool.result is not None:
        yield replace(bare, step="result", payload=tool.result)


def _media(media: MediaRecord, choice: int, number: int) -> Iterator[Event]:
    bare = Media(choice=choice, part=number, kind="image" if media.kind == "image" else "audio", id=media.id)
    if media.data:
        yield replace(bare, data=media.data, media_type=media.media_type)
    if media.transcript:
        yield replace(bare, kind="transcript", data=media.transcript)
