"""What each fault does to an answer, and where."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

from rxstream._input import is_mapping
from rxstream.testing.chaos._answer import Answer, Halt
from rxstream.testing.chaos._errors import error_body, error_event, kind_of
from rxstream.testing.chaos._frames import Frame, more, rewrite
from rxstream.testing.chaos._render import sse
from rxstream.testing.chaos._steps import CLOSE, END, HALF_CLOSE, HANG, RESET, Ending, Head, Signal

__all__ = ["ENDINGS", "Options"]

ENDINGS: Final[dict[str, Ending]] = {"end": END, "close": CLOSE, "reset": RESET, "half_close": HALF_CLOSE, "hang": HANG}
_LAST: Final = datetime(9999, 12, 31, tzinfo=UTC)
_HTML: Final = (
    b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n"
    b"<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></body></html>\n"
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of faults; which fault takes which is said in `rxstream.testing.chaos.FAULTS`."""

    at: int | None = None
    """Place: bytes of the body, before any compression."""
    event: int | None = None
    """Place: after so many events; 0 is before the first."""
    content: int | None = None
    """Place: after so many events of content."""
    fraction: float | None = None
    """Place: a part of the body, from 0 to 1."""
    seconds: float | None = None
    """For how long; by default until the client leaves."""
    until: Signal | None = None
    """Until it is set; if that takes longer than 30 s, the server fails."""
    pings: float | None = None
    """Seconds from one ping to the next; 0 for a flood of them; by default there are none."""
    every: float | None = None
    """Seconds from one piece to the next."""
    size: int | None = None
    """Bytes."""
    retry_after: float | None = None
    """Seconds that the client is told to wait."""
    date: bool = False
    """Tell it as a date."""
    kind: str | None = None
    """Kind of the error."""
    form: str | None = None
    """How the error looks: ``event``, ``failed`` (Responses) or ``bare`` (llama.cpp)."""
    how: str | None = None
    """What follows a cut: ``end``, ``close``, ``reset``, ``half_close`` or ``hang``."""
    type: str | None = None
    """The content type."""

    def offset(self, answer: Answer) -> int:
        """The place, in bytes of the body."""
        ends = answer.ends or [0]
        if self.at is not None:
            return min(self.at, ends[-1])
        if self.fraction is not None:
            return int(ends[-1] * self.fraction)
        if self.event is not None:
            return [0, *ends][min(self.event, len(answer.frames))]
        places = answer.content or range(len(answer.frames))
        wanted = min(1 if self.content is None else self.content, len(places))
        return ends[places[wanted - 1]] if wanted else 0

    def place(self, answer: Answer) -> int:
        """The place, in events that are sent whole before it."""
        return bisect_right(answer.ends, self.offset(answer))

    @property
    def halt(self) -> Halt:
        """The pause that these options describe."""
        return Halt(self.seconds, self.until, self.pings)


# --- in place of an answer, or before it ----------------------------------------------------------------------------------


def refuse(answer: Answer, _: Options) -> None:
    answer.instead = RESET


def hang(answer: Answer, options: Options) -> None:
    answer.late = options.halt


def status(answer: Answer, options: Options, code: int) -> None:
    body = json.dumps(error_body(answer.dialect, options.kind or kind_of(code))).encode()
    kind = "application/json"
    if code == 502:
        body, kind = _HTML, "text/html"
    headers: dict[str, str] = {}
    if options.retry_after is not None:
        headers["Retry-After"] = _later(options.retry_after) if options.date else _seconds(options.retry_after)
    _page(answer, Head(code, kind, headers), body)


def _later(seconds: float) -> str:
    """As a date, at most the last that can be written."""
    now = datetime.now(UTC)
    return format_datetime(now + timedelta(seconds=min(seconds, (_LAST - now).total_seconds())), usegmt=True)


def _seconds(seconds: float) -> str:
    """In digits, to the thousandth."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def html(answer: Answer, _: Options) -> None:
    _page(answer, Head(content_type="text/html"), _HTML)


def json_error(answer: Answer, options: Options) -> None:
    body = json.dumps(error_body(answer.dialect, options.kind or "overloaded")).encode()
    _page(answer, Head(content_type="application/json"), body)


def nothing(answer: Answer, _: Options) -> None:
    answer.page = True
    answer.frames.clear()


def _page(answer: Answer, head: Head, body: bytes) -> None:
    answer.page = True
    answer.head = head
    answer.frames[:] = [Frame(body)]


# --- the head -------------------------------------------------------------------------------------------------------------


def content_type(answer: Answer, options: Options) -> None:
    answer.head = replace(answer.head, content_type=options.type or "application/json")


def gzip(answer: Answer, _: Options) -> None:
    _encode(answer, "gzip")


def deflate(answer: Answer, _: Options) -> None:
    _encode(answer, "deflate")


def _encode(answer: Answer, encoding: str) -> None:
    answer.encoding = encoding
    answer.head = replace(answer.head, headers={**answer.head.headers, "Content-Encoding": encoding})


# --- cuts -----------------------------------------------------------------------------------------------------------------


def cut(answer: Answer, options: Options, ending: Ending) -> None:
    _stop(answer, options.offset(answer), ending)


def cut_event(answer: Answer, options: Options) -> None:
    _cut_in(answer, options, lambda data: min(9, len(data) // 2))


def cut_json(answer: Answer, options: Options) -> None:
    _cut_in(answer, options, lambda data: len(data) * 2 // 3)


def cut_utf8(answer: Answer, options: Options) -> None:
    """In the first character of more than one byte after the place; where there is none, one more comes, or the cut is in JSON."""
    after = options.place(answer)
    found = next((place for place in range(after, len(answer.frames)) if not answer.frames[place].data.isascii()), None)
    if found is None and answer.lasting:
        cut_json(answer, options)
        return
    if found is None:
        found = min(max(after, (answer.content or [after])[-1] + 1), len(answer.frames))
        answer.frames.insert(found, more(answer.dialect, "☃", like=answer.text_before(found)))
    data = answer.frames[found].data
    inside = next(place for place, byte in enumerate(data) if byte > 0x7F) + 1
    _stop(answer, ([0, *answer.ends])[found] + inside, ENDINGS[options.how or "end"])


def cut_tool(answer: Answer, options: Options) -> None:
    """After the first piece of arguments; a script without a call gets one, or is cut in JSON."""
    pieces = [place for place, frame in enumerate(answer.frames) if frame.kind == "tool"]
    if len(pieces) < 2 and answer.lasting:
        cut_json(answer, options)
        return
    if len(pieces) < 2:
        place = (answer.content or [len(answer.frames) - 1])[-1] + 1
        answer.frames[place:] = _half_call(answer, place)
        pieces = [place, place + 1]
    _stop(answer, answer.ends[pieces[1]], ENDINGS[options.how or "end"])


def _cut_in(answer: Answer, options: Options, inside: Callable[[bytes], int]) -> None:
    """In the event after the place, or in the last; where there is no event, nothing comes."""
    place = max(0, min(options.place(answer), len(answer.frames) - 1))
    start = ([0, *answer.ends])[place]
    data = answer.frames[place].data if answer.frames else b""
    _stop(answer, start + inside(data), ENDINGS[options.how or "end"])


def _stop(answer: Answer, offset: int, ending: Ending) -> None:
    answer.stops, answer.ending = offset, ending


def _half_call(answer: Answer, place: int) -> list[Frame]:
    """The beginning of a call of a tool."""
    due = answer.frames[place - 1].due if place else 0
    dialect = answer.dialect
    if dialect == "openai-chat":
        function = {"name": "weather", "arguments": ""}
        heads: list[Any] = [
            {"index": 0, "id": "call_1", "type": "function", "function": function},
            {"index": 0, "function": {"arguments": '{"city": "Par'}},
        ]
        choices = [{"index": 0, "delta": {"tool_calls": [head]}, "finish_reason": None} for head in heads]
        frames = [sse({"object": "chat.completion.chunk", "choices": [choice]}) for choice in choices]
    elif dialect == "anthropic":
        block: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
        delta = {"type": "input_json_delta", "partial_json": '{"city": "Par'}
        frames = [
            sse({"type": "content_block_start", "index": 99, "content_block": block}, "content_block_start"),
            sse({"type": "content_block_delta", "index": 99, "delta": delta}, "content_block_delta"),
        ]
    else:
        item = {"id": "fc_99", "type": "function_call", "call_id": "call_1", "name": "weather", "arguments": ""}
        added = {"type": "response.output_item.added", "output_index": 99, "item": item}
        where = {"item_id": "fc_99", "output_index": 99, "delta": '{"city": "Par'}
        said = {"type": "response.function_call_arguments.delta", **where}
        frames = [sse(payload, str(payload["type"])) for payload in (added, said)]
    return [Frame(data, "tool", due=due) for data in frames]


# --- time -----------------------------------------------------------------------------------------------------------------


def stall(answer: Answer, options: Options) -> None:
    answer.halts.append((options.offset(answer), options.halt))


def drip(answer: Answer, options: Options) -> None:
    answer.drip = (options.size or 1, 0.01 if options.every is None else options.every)


def split(answer: Answer, options: Options) -> None:
    answer.splits.append(options.offset(answer))


def buffer(answer: Answer, options: Options) -> None:
    answer.hoards = options.size or 16_384


def endless(answer: Answer, options: Options) -> None:
    answer.endless = _after_text(answer, options)


def linger(answer: Answer, options: Options) -> None:
    """The answer is complete, its body does not end."""
    end = (answer.ends or [0])[-1]
    answer.halts.append((end, options.halt))


# --- events ---------------------------------------------------------------------------------------------------------------


def error(answer: Answer, options: Options) -> None:
    place = options.place(answer)
    event = error_event(answer.dialect, options.kind or "overloaded", form=options.form or "event", number=place)
    due = answer.frames[place - 1].due if place else 0
    answer.frames[place:] = [Frame(event, due=due)]


def duplicate(answer: Answer, options: Options) -> None:
    place = max(options.place(answer), 1)
    answer.frames[place:place] = answer.frames[place - 1 : place]


def reorder(answer: Answer, options: Options) -> None:
    """The event before the place changes places with the one after it."""
    place = max(min(options.place(answer), len(answer.frames) - 1), 1)
    answer.frames[place - 1 : place + 1] = reversed(answer.frames[place - 1 : place + 1])


def null(answer: Answer, options: Options) -> None:
    _insert_text(answer, options, None)


def empty(answer: Answer, options: Options) -> None:
    place = _insert_text(answer, options, "")
    _insert(answer, place + 1, b"data:\n\n")


def unknown(answer: Answer, options: Options) -> None:
    _insert(answer, options.place(answer), _unknown(answer, {"flavour": "strange"}))


def oversized(answer: Answer, options: Options) -> None:
    _insert(answer, options.place(answer), _unknown(answer, {"padding": "x" * (options.size or 16 * 1024 * 1024)}))


def bad_json(answer: Answer, options: Options) -> None:
    _insert(answer, options.place(answer), b"data: {'type': oops}\n\n")


def bad_utf8(answer: Answer, options: Options) -> None:
    place = _insert_text(answer, options, "??")
    event = answer.frames[place]
    answer.frames[place] = _with(event, event.data.replace(b'"??"', b'"\xff\xfe"'))


def bom(answer: Answer, _: Options) -> None:
    if answer.frames:
        answer.frames[0] = _with(answer.frames[0], b"\xef\xbb\xbf" + answer.frames[0].data)


def crlf(answer: Answer, _: Options) -> None:
    answer.frames[:] = [_with(frame, frame.data.replace(b"\n", b"\r\n")) for frame in answer.frames]


def missing_finish(answer: Answer, _: Options) -> None:
    """Nothing says why the answer ended; in Responses the event that does is also the end."""
    if answer.dialect == "openai-chat":
        answer.frames[:] = [_without_reason(frame) for frame in answer.frames]
    kind = {"anthropic": "finish", "openai-responses": "end"}.get(answer.dialect)
    answer.frames[:] = [frame for frame in answer.frames if frame.kind != kind]


def missing_end(answer: Answer, _: Options) -> None:
    answer.frames[:] = [frame for frame in answer.frames if frame.kind != "end"]


def missing_usage(answer: Answer, _: Options) -> None:
    answer.frames[:] = [_without_usage(frame) for frame in answer.frames if frame.kind != "usage"]


def _after_text(answer: Answer, options: Options) -> int:
    """The place for more text: not before the first, for it goes into the same block."""
    first = next((number for number, frame in enumerate(answer.frames, 1) if frame.kind == "text"), 0)
    return max(options.place(answer), first)


def _insert_text(answer: Answer, options: Options, text: str | None) -> int:
    """One more event of text, and where it is."""
    place = _after_text(answer, options)
    _insert(answer, place, more(answer.dialect, text, like=answer.text_before(place)).data)
    return place


def _insert(answer: Answer, place: int, *events: bytes) -> None:
    due = answer.frames[place - 1].due if place else 0
    answer.frames[place:place] = [Frame(event, due=due) for event in events]


def _unknown(answer: Answer, fields: dict[str, Any]) -> bytes:
    if answer.dialect == "openai-chat":
        return sse({"object": "chat.completion.novelty", "choices": [], **fields})
    name = "novelty" if answer.dialect == "anthropic" else "response.novelty"
    return sse({"type": name, **fields}, name)


def _with(frame: Frame, data: bytes) -> Frame:
    return frame._replace(data=data)


def _without_reason(frame: Frame) -> Frame:
    payload = frame.payload
    choices: list[dict[str, Any]] = payload.get("choices") or []
    if not any(choice.get("finish_reason") for choice in choices):
        return frame
    return rewrite(frame, {**payload, "choices": [{**choice, "finish_reason": None} for choice in choices]})


def _without_usage(frame: Frame) -> Frame:
    payload = frame.payload
    bare: dict[str, Any] = {name: value for name, value in payload.items() if name != "usage"}
    for name in ("message", "response"):
        if is_mapping(inner := bare.get(name)):
            bare[name] = {key: value for key, value in inner.items() if key != "usage"}
    return frame if bare == payload else rewrite(frame, bare)
