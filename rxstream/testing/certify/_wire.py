"""The answers that clients are tried with, in each dialect, and the faults that befall them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

from rxstream.providers.compatible import Dialect
from rxstream.testing.chaos import Call, Exchange, Head, Pause, Play, Script, Step, page, render, sse

__all__ = [
    "CALLS", "REPEATING", "SAID", "TOOLS", "USED", "WHOLE",
    "begun", "counted", "cut_in_character", "cut_in_json", "cut_in_tool", "errors", "flood", "not_a_stream", "pings",
    "refused", "spellings", "split_characters", "tool_calls", "whole",
]  # fmt: skip

SAID: Final = "Hel"
"""What an answer says before it goes wrong."""
WHOLE: Final = "Hello, world."
USED: Final = (7, 12)
"""Tokens of input and of output."""
REPEATING: Final = ("Ha", "ha", "ha", "! [0, ", "0, ", "0, ", "0]", "\n", "\n", "  the cat", " the cat", " \t. .", ".")
"""Pieces that are the same, and nothing but blanks: all of them are text."""
TOOLS: Final = (
    {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
    {
        "name": "clock",
        "description": "The time in a zone.",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
    },
)
CALLS: Final = [("weather", {"city": "Paris"}), ("clock", {"zone": "CET"}), ("weather", {"city": "Rome"})]
_PIECES: Final = (['{"city": ', '"Par', 'is"}'], ['{"zo', 'ne": "C', 'ET"}'], ['{"city"', ': "Ro', 'me"}'])
_PING_EVERY: Final = 0.02
_FLOOD: Final = [f"word{number} " for number in range(50)]
_UNCUT: Final = "Käse ☃ 😀 œuf."


def begun(dialect: Dialect, *pieces: str) -> list[bytes]:
    """An answer that has said `pieces`, by default `SAID`, and goes on."""
    return render(Script(*(pieces or (SAID,)), lifecycle=False), dialect, terminal=False)


@cache
def _whole(dialect: Dialect, pieces: tuple[str, ...]) -> list[bytes]:
    return render(Script(*pieces, usage=USED), dialect)


def whole(dialect: Dialect, *pieces: str) -> list[bytes]:
    """An answer with its end; it says `pieces`, by default `WHOLE`."""
    return list(_whole(dialect, pieces or (SAID, WHOLE[len(SAID) :])))


def tool_calls(dialect: Dialect, *, interleaved: bool) -> list[bytes]:
    """`CALLS`, one after the other or their arguments in turns."""
    parts = [Call(name, pieces, f"call_{n}") for n, ((name, _), pieces) in enumerate(zip(CALLS, _PIECES, strict=True))]
    return render(Script(*parts, interleaved=interleaved, usage=USED), dialect)


# --- cut in the midst ---------------------------------------------------------------------------------------------------------


def _next(dialect: Dialect, text: str) -> bytes:
    """The event with the text that follows `SAID`."""
    return begun(dialect, SAID, text)[-1]


def cut_in_json(dialect: Dialect) -> list[bytes]:
    """It ends inside the JSON of an event."""
    frame = _next(dialect, "lo")
    return [*begun(dialect), frame[: frame.index(b'lo"') + 1]]


def cut_in_character(dialect: Dialect) -> list[bytes]:
    """It ends inside a character."""
    frame = _next(dialect, "☃")
    return [*begun(dialect), frame[: frame.index("☃".encode()) + 1]]


def cut_in_tool(dialect: Dialect) -> list[bytes]:
    """It ends inside the arguments of a tool call."""
    return render(Script(SAID, Call("weather", ['{"city": "Par'], "call_0"), lifecycle=False), dialect, terminal=False)


# --- errors -------------------------------------------------------------------------------------------------------------------


def errors(dialect: Dialect) -> dict[str, list[bytes]]:
    """What a provider says in the midst of an answer that it cannot finish."""
    message = "The server is overloaded."
    number = len(begun(dialect))
    match dialect:
        case "anthropic":
            error: dict[str, Any] = {"type": "overloaded_error", "message": message}
            return {"error event": [sse({"type": "error", "error": error}, "error")]}
        case "openai-chat":
            error = {"message": message, "type": "server_error", "param": None, "code": None}
            return {"error": [sse({"error": error})], "error, then [DONE]": [sse({"error": error}), sse("[DONE]")]}
        case "openai-responses":
            numbered = {"sequence_number": number}
            told = {"type": "error", "code": "server_error", "message": message, "param": None, **numbered}
            failed: dict[str, Any] = {"id": "resp_1", "object": "response", "status": "failed", "output": []}
            failed |= {"error": {"code": "server_error", "message": message}, "model": "certify-1"}
            end = {"type": "response.failed", **numbered, "response": failed}
            return {"error event": [sse(told, "error")], "response.failed": [sse(end, "response.failed")]}


def refused(dialect: Dialect) -> Play:
    """HTTP 401."""
    kind, message = "authentication_error", "invalid x-api-key"
    if dialect == "anthropic":
        body: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": message}}
    else:
        body = {"error": {"message": message, "type": kind, "param": None, "code": "invalid_api_key"}}
    return page(401, json.dumps(body), content_type="application/json")


def not_a_stream() -> dict[str, Play]:
    """What comes under HTTP 200 and is no event stream."""
    error = json.dumps({"error": {"message": "no capacity", "type": "server_error"}})
    return {
        "HTML": page(200, "<html><body>Sign in to the hotel's network</body></html>"),
        "a JSON error": page(200, error, content_type="application/json"),
        "nothing": [Head()],
    }


# --- answers that come in odd ways ----------------------------------------------------------------------------------------------


def spellings(dialect: Dialect) -> dict[str, bytes]:
    """One answer in the ways in which server-sent events may be written."""
    body = b"".join(whole(dialect))
    return {
        "CRLF": body.replace(b"\n", b"\r\n"),
        "CR": body.replace(b"\n", b"\r"),
        "a byte order mark": b"\xef\xbb\xbf" + body,
        "comments": b": hello\n\n" + body.replace(b"\n\n", b"\n\n: still here\n\n"),
        "no blank after the colon": body.replace(b"\ndata: ", b"\ndata:").replace(b"event: ", b"event:"),
        "data in several lines": body.replace(b'data: {"', b'data: {\ndata: "'),
        "retry and id": b"retry: 3000\nid: 1\n" + body,
    }


def split_characters(dialect: Dialect) -> tuple[list[Step], str]:
    """An answer whose every character of several bytes comes in as many reads, and what it says."""
    steps: list[Step] = [Head()]
    body = b"".join(whole(dialect, _UNCUT)).decode()
    plain = ""
    for char in body:
        raw = char.encode()
        if len(raw) == 1:
            plain += char
            continue
        steps.append(plain.encode() + raw[:1])
        plain = ""
        for at in range(1, len(raw)):
            steps += [Pause(0.004), raw[at : at + 1]]
        steps.append(Pause(0.004))
    return [*steps, plain.encode()], _UNCUT


def counted(dialect: Dialect) -> list[bytes]:
    """An answer that counts its tokens as it goes: each count stands for all before it, and the last is `USED`."""
    frames = whole(dialect, "a", "b", "c", "d")
    if dialect == "openai-chat":
        return list(_counting_chat(frames))
    if dialect == "anthropic":
        delta = {"stop_reason": None, "stop_sequence": None}
        soon = sse({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}}, "message_delta")
        return [*frames[:-2], soon, *frames[-2:]]
    return frames


def _counting_chat(frames: list[bytes]) -> Iterator[bytes]:
    """As vLLM does with ``continuous_usage_stats``."""
    for count, frame in enumerate(frames):
        if b'"choices":[{' in frame:
            usage = {"prompt_tokens": USED[0], "completion_tokens": count, "total_tokens": USED[0] + count}
            yield sse({**json.loads(frame[len(b"data: ") :]), "usage": usage})
        else:
            yield frame


# --- answers that do not end ------------------------------------------------------------------------------------------------------


def flood(dialect: Dialect) -> Callable[[Exchange], Any]:
    """Words without end, as fast as they are read."""
    frames = begun(dialect, *_FLOOD)
    opening, words = frames[: -len(_FLOOD)], frames[-len(_FLOOD) :]

    async def play(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(b"".join(opening))
        number = len(opening)
        while True:
            turn = number - len(opening)
            await exchange.send(b"".join(_renumbered(word, turn) for word in words) if turn else b"".join(words))
            number += len(words)

    return play


def _renumbered(frame: bytes, more: int) -> bytes:
    """The event with a higher sequence number, where it has one."""
    return re.sub(rb'"sequence_number":(\d+)', lambda found: b'"sequence_number":%d' % (int(found[1]) + more), frame)


def pings(dialect: Dialect, *, before: bool) -> Callable[[Exchange], Any]:
    """Signs of life without end, and no word: from the start, or after `SAID`."""
    ping = sse({"type": "ping"}, "ping") if dialect == "anthropic" else b": keep-alive\n\n"
    frames = begun(dialect)[:-1] if before else begun(dialect)

    async def play(exchange: Exchange) -> None:
        await exchange.head()
        for frame in frames:
            await exchange.send(frame)
        while True:
            await exchange.send(ping)
            await asyncio.sleep(_PING_EVERY)

    return play
