"""Whatever goes wrong on the wire: the right error, with exactly what arrived; and no error where nothing is wrong.

Every row is played to each of the three protocols over both transports. Rows that tell the client nothing any more end
with `HANG`: there it is the client that has to close the connection, and the server waits to see it.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import pytest

from rxstream import errors
from rxstream.errors import StreamError
from rxstream.events import Event, Phase, Raw, TextDelta, ToolCallDelta
from tests.support.asking import DIALECTS, GOOD
from tests.support.live import (
    TRANSPORTS,
    Outcome,
    Transport,
    assert_tells_no_secret,
    everywhere,
    no_task_left,
    stream_from,
    watch,
)
from tests.support.server import (
    CLOSE,
    END,
    HANG,
    RESET,
    Exchange,
    Head,
    Script,
    ScriptedServer,
    Signal,
    Step,
    Wait,
    Wire,
    closed_port,
    page,
    sse,
)

each_dialect = pytest.mark.parametrize("name", DIALECTS)
BLINK: Final = 0.06
"""Seconds of a clock that is to run out while nothing is to happen."""
MOMENT: Final = 0.4
"""Seconds of a clock that is to run out, but not before the first piece has come."""
CALL: Final = ("call_1", "weather", ['{"city": "Par'])


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


@pytest.fixture(autouse=True)
async def _nothing_goes_on() -> AsyncIterator[None]:
    yield
    await no_task_left()


def begun(name: str) -> list[bytes]:
    """An answer that has said ``Hel`` and goes on."""
    return GOOD[name]("Hel", terminal=False)


def next_text(name: str, text: str) -> bytes:
    """The event with the text that follows ``Hel``."""
    return GOOD[name]("Hel", text, terminal=False)[-1]


def cut_before(frame: bytes, mark: bytes, *, plus: int = 0) -> bytes:
    return frame[: frame.index(mark) + plus]


@dataclass(frozen=True)
class Fault:
    """A row: what the server does once ``Hel`` has been delivered, and what must come of it."""

    kind: type[StreamError]
    then: Callable[[str], Sequence[Step]]
    """What follows, for each dialect."""
    text: str = "Hel"
    phase: Phase = "output"
    chunked: bool = True
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


async def play(fault: Fault, name: str, transport: Transport) -> tuple[Outcome, ScriptedServer]:
    delivered = Signal()
    script = [Head(chunked=fault.chunked), *begun(name), Wait(delivered), *fault.then(name)]

    def note(event: Event) -> None:
        if isinstance(event, TextDelta):
            delivered.set()

    with ScriptedServer(script) as server:
        outcome = await watch(stream_from(server, name, transport=transport, **fault.options), on_next=note)
        if script[-1] is HANG:
            await server.requests[0].left.wait_async()
    return outcome, server


async def run_out(
    script: Script, name: str, transport: Transport, clock: str, *, far: Callable[[Outcome, ScriptedServer], bool]
) -> Outcome:
    """Watch until the clock runs out: after a moment, or later, where a busy machine had not come so `far` by then."""
    for seconds in (MOMENT, 4 * MOMENT, 16 * MOMENT):
        with ScriptedServer(script) as server:
            stream = stream_from(server, name, transport=transport, timeouts={clock: seconds})
            outcome = await watch(stream, patience=20)
            if server.requests:
                await server.requests[0].left.wait_async()
        error = outcome.error
        assert isinstance(error, errors.TimedOut)
        assert (error.clock, error.seconds, error.retryable) == (clock, seconds, True)
        assert len(server.requests) <= 1
        outcome.assert_cut()
        assert_tells_no_secret(error)
        if far(outcome, server):
            return outcome
    pytest.fail(f"it never came so far, but to {outcome.error.phase!r} with {outcome.text!r}")


def tool_call(name: str) -> list[bytes]:
    """A call of a tool that begins after ``Hel``, and stops in the middle of its arguments."""
    whole = GOOD[name]("Hel", tools=[CALL], terminal=False)
    return whole[len(begun(name)) :]


CUTS: Final[dict[str, Fault]] = {
    "a clean end": Fault(errors.StreamIncomplete, lambda _: [END]),
    "the end of the connection": Fault(errors.StreamIncomplete, lambda _: [CLOSE], chunked=False),
    "inside an event's line": Fault(errors.StreamIncomplete, lambda name: [next_text(name, "lo")[:9], END]),
    "inside JSON": Fault(errors.StreamIncomplete, lambda name: [next_text(name, "lo")[:-9], END]),
    "inside a text": Fault(errors.StreamIncomplete, lambda name: [cut_before(next_text(name, "lo"), b'lo"', plus=1)]),
    "inside a character": Fault(
        errors.StreamIncomplete, lambda name: [cut_before(next_text(name, "☃"), "☃".encode(), plus=1)]
    ),
    "before the blank line": Fault(errors.StreamIncomplete, lambda name: [next_text(name, "lo")[:-2]], text="Hello"),
    "inside the arguments of a tool": Fault(errors.ToolCallIncomplete, tool_call, phase="tool_call"),
    "RST": Fault(errors.Disconnected, lambda _: [RESET]),
    "RST in an event": Fault(errors.Disconnected, lambda name: [next_text(name, "lo")[:-9], RESET]),
    "FIN without the last chunk": Fault(errors.Disconnected, lambda _: [CLOSE]),
    "FIN inside a chunk": Fault(errors.Disconnected, lambda _: [Wire(b"ff\r\nhalf"), CLOSE]),
    "FIN in the arguments of a tool": Fault(
        errors.Disconnected, lambda name: [*tool_call(name), CLOSE], phase="tool_call"
    ),
}

GARBAGE: Final[dict[str, Fault]] = {
    "malformed JSON": Fault(errors.ProtocolError, lambda _: [b"data: {'type': oops}\n\n", HANG]),
    "bad UTF-8": Fault(
        errors.ProtocolError, lambda name: [next_text(name, "lo").replace(b'"lo"', b'"\xff\xfe"'), HANG]
    ),
    "an event without end": Fault(
        errors.LimitExceeded,
        lambda _: [b"data: ", *[b"x" * 1000] * 30, HANG],
        options={"limits": {"event_bytes": 20_000}},
    ),
    "an event too large": Fault(
        errors.LimitExceeded,
        lambda name: [next_text(name, "x" * 50_000), HANG],
        options={"limits": {"event_bytes": 20_000}},
    ),
    "more bytes than allowed": Fault(
        errors.LimitExceeded,
        lambda _: [*[b": " + b"x" * 998] * 30, HANG],
        options={"limits": {"stream_bytes": 20_000}},
    ),
}

SILENCE: Final[dict[str, Fault]] = {
    "idle": Fault(errors.TimedOut, lambda _: [HANG], options={"timeouts": {"idle": BLINK}}),
    "idle in a tool": Fault(
        errors.TimedOut,
        lambda name: [*tool_call(name), HANG],
        phase="tool_call",
        options={"timeouts": {"idle": BLINK}},
    ),
}


@pytest.mark.parametrize("row", CUTS | GARBAGE)
@each_dialect
async def test_a_stream_that_breaks(name: str, row: str, transport: Transport) -> None:
    """One error of the right class, with what arrived and nothing else; one request; no connection left."""
    fault = (CUTS | GARBAGE)[row]
    outcome, server = await play(fault, name, transport)
    error = outcome.error
    assert type(error) is fault.kind, f"{error}"
    assert outcome.text == fault.text
    outcome.assert_cut()
    assert error.phase == fault.phase
    assert (error.provider, error.model) == (name, "scripted-1")
    assert len(server.requests) == 1
    assert_tells_no_secret(error)


@each_dialect
async def test_a_tool_call_that_was_cut_is_never_whole(name: str, transport: Transport) -> None:
    """Its arguments are kept as far as they came, marked as incomplete, and are no part of the next turn."""
    outcome, _ = await play(CUTS["inside the arguments of a tool"], name, transport)
    assert outcome.error.partial is not None
    [call] = outcome.error.partial.tool_calls
    assert (call.name, call.arguments, call.complete) == ("weather", '{"city": "Par', False)
    assert "weather" not in outcome.error.partial.message().model_dump_json()


@pytest.mark.parametrize("clock", SILENCE)
async def test_a_stream_that_falls_silent(clock: str) -> None:
    """The clock runs out; the error says which, and the connection is closed."""
    fault = SILENCE[clock]

    async def check(name: str, transport: Transport) -> None:
        outcome, server = await play(fault, name, transport)
        error = outcome.error
        assert isinstance(error, errors.TimedOut)
        assert {error.clock: error.seconds} == fault.options["timeouts"]
        assert error.phase == fault.phase
        assert error.retryable
        outcome.assert_cut()
        assert outcome.text == "Hel"
        assert len(server.requests) == 1
        assert_tells_no_secret(error)

    await everywhere(check)


@pytest.mark.parametrize("clock", ["step", "total"])
async def test_an_answer_that_is_not_complete_in_time(clock: str) -> None:
    """It has begun, and falls silent."""

    async def check(name: str, transport: Transport) -> None:
        script: Script = [Head(), *begun(name), HANG]
        outcome = await run_out(script, name, transport, clock, far=lambda outcome, _: outcome.text == "Hel")
        assert outcome.error.phase == "output"

    await everywhere(check)


@pytest.mark.parametrize(
    ("clock", "phase", "script"),
    [
        ("connect", "connect", [HANG]),
        ("first_event", "first_event", [Head(), HANG]),
        ("first_output", "first_event", [Head(), HANG]),
        ("step", "connect", [HANG]),
        ("total", "connect", [HANG]),
    ],
)
async def test_an_answer_that_does_not_begin(clock: str, phase: Phase, script: Script) -> None:
    """Each clock before the first content tells how far it came."""

    async def check(name: str, transport: Transport) -> None:
        def far(outcome: Outcome, server: ScriptedServer) -> bool:
            return bool(server.requests) and outcome.error.phase == phase

        outcome = await run_out(script, name, transport, clock, far=far)
        assert outcome.events == []

    await everywhere(check)


PINGS: Final = {
    "comments": b": ping\n\n",
    "ping events": sse({"type": "ping"}, "ping"),
    "keepalive events": sse({"type": "keepalive"}, "keepalive"),
}


@pytest.mark.parametrize("ping", PINGS)
@pytest.mark.parametrize("clock", ["first_output", "idle"])
async def test_pings_are_no_progress(clock: str, ping: str) -> None:
    """Pings, as fast as they come, keep no clock of content from running out, nor the loop from looking at it."""

    async def check(name: str, transport: Transport) -> None:
        async def flood(exchange: Exchange) -> None:
            await exchange.head()
            for frame in begun(name)[: 1 if clock == "first_output" else None]:
                await exchange.send(frame)
            while True:
                await exchange.send(PINGS[ping] * 20)

        await run_out(flood, name, transport, clock, far=lambda outcome, _: len(outcome.events) > 5)

    await everywhere(check)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"limits": {"events": 500}}, errors.LimitExceeded),
        ({"limits": {"stream_bytes": 50_000}}, errors.LimitExceeded),
        ({}, errors.TimedOut),
    ],
)
async def test_an_answer_without_end(options: dict[str, Any], kind: type[StreamError]) -> None:
    """Whoever sets a limit gets it: events, bytes or seconds."""

    async def check(name: str, transport: Transport) -> None:
        *opening, text = begun(name)

        async def talk(exchange: Exchange) -> None:
            await exchange.head()
            for frame in opening:
                await exchange.send(frame)
            for number in itertools.count(3):
                await exchange.send(text.replace(b'"sequence_number":3', b'"sequence_number":%d' % number))

        if not options:
            outcome = await run_out(talk, name, transport, "total", far=lambda outcome, _: outcome.text != "")
        else:
            with ScriptedServer(talk) as server:
                outcome = await watch(stream_from(server, name, transport=transport, **options))
                await server.requests[0].left.wait_async()
        assert type(outcome.error) is kind
        outcome.assert_cut()
        assert outcome.text.startswith("HelHel")
        assert outcome.text.replace("Hel", "") == ""

    await everywhere(check)


# --- before the stream --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["closed", "reset", "no HTTP"])
@each_dialect
async def test_no_answer(name: str, what: str, transport: Transport) -> None:
    """A connection that ends before the headers."""
    scripts: dict[str, Script] = {"closed": [CLOSE], "reset": [RESET], "no HTTP": [Wire(b"SSH-2.0\r\n\r\n"), CLOSE]}
    with ScriptedServer(scripts[what]) as server:
        outcome = await watch(stream_from(server, name, transport=transport))
    assert type(outcome.error) is errors.ConnectError
    assert (outcome.error.phase, outcome.events) == ("connect", [])
    assert len(server.requests) == 1
    outcome.assert_cut()
    assert_tells_no_secret(outcome.error)


@each_dialect
async def test_nobody_listens(name: str, transport: Transport) -> None:
    with ScriptedServer([HANG]) as server:
        server.port = closed_port()
        outcome = await watch(stream_from(server, name, transport=transport))
    assert type(outcome.error) is errors.ConnectError
    assert "127.0.0.1" in str(outcome.error)
    assert_tells_no_secret(outcome.error)


def error_body(name: str, kind: str, message: str) -> str:
    if name == "anthropic":
        said: Any = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    else:
        said = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    return json.dumps(said)


STATUSES: Final[list[tuple[int, str, type[StreamError], bool]]] = [
    (400, "invalid_request_error", errors.BadRequest, False),
    (401, "authentication_error", errors.AuthError, False),
    (403, "permission_error", errors.AuthError, False),
    (404, "not_found_error", errors.BadRequest, False),
    (413, "request_too_large", errors.BadRequest, False),
    (422, "invalid_request_error", errors.BadRequest, False),
    (429, "rate_limit_error", errors.RateLimited, True),
    (500, "api_error", errors.ServerFault, True),
    (502, "", errors.ServerFault, True),
    (503, "", errors.Overloaded, True),
    (504, "timeout_error", errors.ServerFault, True),
    (529, "overloaded_error", errors.Overloaded, True),
]


@pytest.mark.parametrize(("status", "word", "kind", "retryable"), STATUSES, ids=[str(row[0]) for row in STATUSES])
@each_dialect
async def test_an_error_status(
    name: str, status: int, word: str, kind: type[StreamError], transport: Transport, *, retryable: bool
) -> None:
    """The provider's own error, asked for once, with the time to wait and the id to quote."""
    body = error_body(name, word, "not today") if word else "<html>Bad Gateway</html>"
    headers = {"retry_after": "2", "request_id": "req_1", "x_request_id": "req_1"}
    with ScriptedServer(page(status, body, content_type="application/json", **headers)) as server:
        outcome = await watch(stream_from(server, name, transport=transport))
    error = outcome.error
    assert type(error) is kind
    assert (error.status, error.retry_after, error.request_id) == (status, 2.0, "req_1")
    assert (error.retryable, error.code, error.phase) == (retryable, word, "connect")
    assert outcome.events == []
    assert ("not today" in str(error)) == bool(word)
    assert len(server.requests) == 1, "an SDK has asked again"
    outcome.assert_cut()
    assert_tells_no_secret(error)


WHOLE: Final = {
    "compatible": {"id": "c", "object": "chat.completion", "choices": [{"message": {"content": "whole"}}]},
    "anthropic": {"id": "m", "type": "message", "content": [{"type": "text", "text": "whole"}]},
    "openai": {"id": "r", "object": "response", "status": "completed", "error": None, "output": []},
}


@pytest.mark.parametrize("what", ["HTML", "a whole answer", "an error", "nothing", "an empty stream"])
@each_dialect
async def test_a_good_status_that_is_no_stream(name: str, what: str, transport: Transport) -> None:
    """200 promises nothing, and no such answer is an empty success."""
    overloaded = error_body(name, "overloaded_error", "later")
    rows: dict[str, tuple[Script, type[StreamError], Phase]] = {
        "HTML": (page(200, "<html>Sign in"), errors.UnexpectedContentType, "connect"),
        "a whole answer": (
            page(200, json.dumps(WHOLE[name]), content_type="application/json"),
            errors.UnexpectedContentType,
            "connect",
        ),
        "an error": (page(200, overloaded, content_type="application/json"), errors.Overloaded, "connect"),
        "nothing": ([Head(200, None), END], errors.UnexpectedContentType, "connect"),
        "an empty stream": ([Head(), END], errors.StreamIncomplete, "first_event"),
    }
    script, kind, phase = rows[what]
    with ScriptedServer(script) as server:
        outcome = await watch(stream_from(server, name, transport=transport))
    assert type(outcome.error) is kind
    assert (outcome.error.phase, outcome.events) == (phase, [])
    assert len(server.requests) == 1
    outcome.assert_cut()
    assert_tells_no_secret(outcome.error)


# --- errors inside the stream -------------------------------------------------------------------------------------------

LLAMA: Final = {"code": 500, "message": "later", "type": "server_error"}


def failed(code: str) -> bytes:
    said = {"id": "resp_1", "status": "failed", "error": {"code": code, "message": "later"}, "output": []}
    return sse({"type": "response.failed", "sequence_number": 4, "response": said}, "response.failed")


INSIDE: Final[dict[str, tuple[str, bytes, type[StreamError]]]] = {
    "chat, overloaded": (
        "compatible",
        sse({"error": {"message": "later", "type": "overloaded_error", "code": 529}}),
        errors.Overloaded,
    ),
    "chat, rate limited": (
        "compatible",
        sse({"error": {"message": "later", "code": "rate_limit_exceeded"}}),
        errors.RateLimited,
    ),
    "chat, OpenRouter": (
        "compatible",
        sse(
            {
                "id": "c",
                "error": {"code": 502, "message": "later"},
                "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
            }
        ),
        errors.ServerFault,
    ),
    "chat, an error event": ("compatible", sse({"message": "later"}, "error"), errors.ServerFault),
    "chat, llama.cpp": ("compatible", sse({"error": LLAMA}), errors.ServerFault),
    "messages, overloaded": (
        "anthropic",
        sse({"type": "error", "error": {"type": "overloaded_error", "message": "later"}}, "error"),
        errors.Overloaded,
    ),
    "messages, api_error": (
        "anthropic",
        sse({"type": "error", "error": {"type": "api_error", "message": "later"}}, "error"),
        errors.ServerFault,
    ),
    "messages, rate limited": (
        "anthropic",
        sse({"type": "error", "error": {"type": "rate_limit_error", "message": "later"}}, "error"),
        errors.RateLimited,
    ),
    "messages, a type of tomorrow": (
        "anthropic",
        sse({"type": "error", "error": {"type": "brand_new_error", "message": "later"}}, "error"),
        errors.ServerFault,
    ),
    "messages, llama.cpp": ("anthropic", sse(LLAMA, "error"), errors.ServerFault),
    "responses, flat": (
        "openai",
        sse(
            {"type": "error", "sequence_number": 4, "code": "server_error", "message": "later", "param": None}, "error"
        ),
        errors.ServerFault,
    ),
    "responses, nested": (
        "openai",
        sse(
            {"type": "error", "sequence_number": 4, "error": {"type": "overloaded_error", "message": "later"}}, "error"
        ),
        errors.Overloaded,
    ),
    "responses, failed": ("openai", failed("server_error"), errors.ServerFault),
    "responses, failed by a rate": ("openai", failed("rate_limit_exceeded"), errors.RateLimited),
    "responses, llama.cpp": ("openai", sse({"error": LLAMA}), errors.ServerFault),
}


@pytest.mark.parametrize("row", INSIDE)
async def test_an_error_inside_the_stream(row: str, transport: Transport) -> None:
    """Classified by what it says; the HTTP status, which was 200, is not mentioned."""
    name, frame, kind = INSIDE[row]
    outcome, server = await play(Fault(kind, lambda _: [frame, HANG]), name, transport)
    error = outcome.error
    assert type(error) is kind
    assert (error.status, error.phase, outcome.text) == (None, "output", "Hel")
    assert "later" in str(error)
    assert error.retryable
    assert len(server.requests) == 1
    outcome.assert_cut()
    assert_tells_no_secret(error)


@pytest.mark.parametrize("restated", [True, False])
async def test_a_gap_in_the_numbers(transport: Transport, *, restated: bool) -> None:
    """Responses numbers its events. What is missing is noticed: where the end restates the answer, the response is whole;
    where it does not, what is left is not taken for the answer.
    """
    frames = GOOD["openai"]("Hel", "lo", " you")
    del frames[4]
    if not restated:
        del frames[-4:-1]
        frames[-1] = sse(
            {"type": "response.completed", "sequence_number": 10, "response": {"status": "completed", "output": []}}
        )
    with ScriptedServer(frames) as server:
        outcome = await watch(stream_from(server, "openai", transport=transport))
    if restated:
        outcome.assert_complete()
        assert outcome.response.text == "Hello you"
    else:
        assert type(outcome.error) is errors.SequenceGap
        outcome.assert_cut()
        assert_tells_no_secret(outcome.error)


# --- compression --------------------------------------------------------------------------------------------------------

PACKED: Final = Head(headers={"content-encoding": "gzip"})


@each_dialect
async def test_gzip(name: str, transport: Transport) -> None:
    """We ask for plain bytes; a proxy that packs them all the same is understood."""
    packed = gzip.compress(b"".join(GOOD[name]("Hel", "lo")))
    with ScriptedServer([PACKED, *[packed[at : at + 50] for at in range(0, len(packed), 50)]]) as server:
        outcome = await watch(stream_from(server, name, transport=transport))
    outcome.assert_complete()
    assert outcome.text == "Hello"


@each_dialect
async def test_gzip_that_was_cut(name: str, transport: Transport) -> None:
    packed = gzip.compress(b"".join(GOOD[name]("Hel", "lo")), 0)
    with ScriptedServer([PACKED, packed[:-200]]) as server:
        outcome = await watch(stream_from(server, name, transport=transport))
    assert type(outcome.error) is errors.StreamIncomplete
    outcome.assert_cut()


@each_dialect
async def test_a_gzip_bomb(name: str, transport: Transport) -> None:
    """It is stopped at the limit, and costs no more memory than the limit on one event."""
    bomb = gzip.compress(b"data: " + bytes(60_000_000))
    with ScriptedServer([PACKED, bomb, HANG]) as server:
        tracemalloc.start()
        outcome = await watch(
            stream_from(server, name, transport=transport, limits={"event_bytes": 1_000_000}), patience=30
        )
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await server.requests[0].left.wait_async()
    assert type(outcome.error) is errors.LimitExceeded
    assert peak < 12_000_000


# --- odd, and yet complete ----------------------------------------------------------------------------------------------


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


async def test_a_cut_answer_has_the_counts_that_came(transport: Transport) -> None:
    """Messages counts at the beginning: the counts are in the partial answer, marked as not final."""
    outcome, _ = await play(CUTS["a clean end"], "anthropic", transport)
    assert outcome.error.partial is not None
    assert outcome.error.partial.usage.input_tokens == 7
    assert outcome.error.partial.usage.provenance == "partial"


async def test_arguments_are_delivered_as_they_come(transport: Transport) -> None:
    """The pieces of a call that was cut were delivered before the error."""
    for name in DIALECTS:
        outcome, _ = await play(CUTS["FIN in the arguments of a tool"], name, transport)
        assert [event.arguments for event in outcome.events if isinstance(event, ToolCallDelta)] == ['{"city": "Par']


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
