"""What looks wrong and is whole: no error where nothing is wrong."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import pytest

from rxstream import errors
from rxstream.events import Raw
from tests.support.asking import DIALECTS, GOOD
from tests.support.begun import each_dialect, next_text
from tests.support.live import (
    Outcome,
    Transport,
    stream_from,
    watch,
)
from tests.support.server import (
    CLOSE,
    HANG,
    RESET,
    Head,
    ScriptedServer,
    Step,
    sse,
)

pytestmark = pytest.mark.usefixtures("nothing_goes_on")


def odd_forms(name: str) -> dict[str, list[Step]]:
    """Answers that look wrong and are whole."""
    good = GOOD[name]("Hel", "lo")
    body = b"".join(good)
    forms: dict[str, list[Step]] = {
        "byte by byte": [bytes([byte]) for byte in body],
        "in one piece": [body],
        "a byte order mark": [b"\xef\xbb\xbf", *good],
        "CRLF": [body.replace(b"\n", b"\r\n")],
        "CR": [body.replace(b"\n", b"\r")],
        "comments and pings between": [step for frame in good for step in (frame, b": ping\n\n", b":\n")],
        "a connection that lingers": [*good, HANG],
        "an end that ends the connection": [Head(chunked=False), *good, CLOSE],
        "a connection that breaks afterwards": [Head(), *good, RESET],
        "the end comes twice": [*good, good[-1]],
        "more text after the end": [*good, next_text(name, "!!")],
        "an error after the end": [*good, sse({"error": {"message": "too late"}}, "error")],
        "no blank line after the end": [body.rstrip(b"\n")],
        "an event of tomorrow": [*good[:-2], sse({"type": "brand_new", "index": 0, "delta": "?"}), *good[-2:]],
        "no space after the colon": [body.replace(b"data: ", b"data:").replace(b"event: ", b"event:")],
        "id and retry lines": [frame.replace(b"data:", b"id: 1\nretry: 10\ndata:", 1) for frame in good],
    }
    if name == "compatible":
        nulls: list[Step] = [sse({"id": None, "choices": None}), good[0]]
        nulls.append(sse({"choices": [{"index": 0, "delta": None, "finish_reason": None}], "usage": None}))
        forms["null fields"] = [*nulls, *good[1:]]
        forms["no [DONE]"] = list(good[:-1])
        forms["no finish reason"] = [frame.replace(b'"stop"', b"null") for frame in good]
        forms["two finish reasons"] = [*good[:-2], *good[-3:]]
    else:
        forms["no event lines"] = [frame[frame.index(b"data:") :] for frame in good]
    if name == "anthropic":
        nulls = [sse({"type": "content_block_delta", "index": 0, "delta": None}, "content_block_delta")]
        nulls.append(sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": None}}))
        forms["null fields"] = [*good[:-3], *nulls, *good[-3:]]
    if name == "openai":
        null = {"type": "response.output_text.delta", "item_id": None, "delta": None, "sequence_number": None}
        forms["null fields"] = [*good[:5], sse(null), *good[5:]]
    return forms


ODD: Final = [(name, form) for name in DIALECTS for form in odd_forms(name)]


@pytest.mark.parametrize(("name", "form"), ODD, ids=[" - ".join(row) for row in ODD])
async def test_an_odd_answer_is_an_answer(name: str, form: str, transport: Transport) -> None:
    """Completed, once, with the text that was sent and the usage, without waiting for the connection to end."""
    with ScriptedServer(odd_forms(name)[form]) as server:
        outcome = await watch(stream_from(server, name, transport=transport, timeouts=5.0))
    outcome.assert_complete()
    assert outcome.text == "Hello"
    assert outcome.response.finish_reason == ("other" if form == "no finish reason" else "stop")
    assert outcome.response.usage.output_tokens == 3
    assert len(server.requests) == 1


async def test_what_is_unknown_is_kept(transport: Transport) -> None:
    """An event of tomorrow is handed on as it is."""
    for name in DIALECTS:
        with ScriptedServer(odd_forms(name)["an event of tomorrow"]) as server:
            outcome = await watch(stream_from(server, name, transport=transport))
        [raw] = [event for event in outcome.events if isinstance(event, Raw)]
        assert raw.payload["type"] == "brand_new"


@each_dialect
async def test_pieces_that_are_alike_are_all_text(name: str, transport: Transport) -> None:
    """Text is never judged by its content: "no no no" is three words, and an event that comes again is one only if the
    provider's own number says so.
    """
    good = GOOD[name]("no ", "no ", "no ")
    second = next(index for index, frame in enumerate(good) if b'"no "' in frame) + 1
    with ScriptedServer([*good[: second + 1], *good[second:]]) as server:
        outcome = await watch(stream_from(server, name, transport=transport))
    outcome.assert_complete()
    assert outcome.text == "no " * (3 if name == "openai" else 4)


async def test_faulty_streams_beside_each_other() -> None:
    """Many at once: each has its own text, its own error and its own label."""

    def end(outcome: Outcome, left: list[int], done: asyncio.Event, error: Exception | None = None) -> None:
        outcome.ends.append(error)
        left.pop()
        if not left:
            done.set()

    outcomes, left, done = [Outcome() for _ in range(20)], list(range(20)), asyncio.Event()
    with ScriptedServer(GOOD["compatible"]("Hel", terminal=False)) as server:
        for number, outcome in enumerate(outcomes):
            ended = partial(end, outcome, left, done)
            stream_from(server, "compatible", label=f"track {number}").subscribe(outcome.events.append, ended, ended)
        async with asyncio.timeout(10):
            await done.wait()
    for number, outcome in enumerate(outcomes):
        assert type(outcome.error) is errors.StreamIncomplete
        assert outcome.text == "Hel"
        assert {event.source for event in outcome.events} == {f"track {number}"}
    assert len(server.requests) == 20
