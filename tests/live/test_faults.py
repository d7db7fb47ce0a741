"""Whatever goes wrong on the wire: the right error, with exactly what arrived.

Every row is played to each of the three protocols over both transports. Rows that tell the client nothing any more end
with `HANG`: there it is the client that has to close the connection, and the server waits to see it.
"""

from __future__ import annotations

import gzip
import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

import pytest

from rxstream import errors
from rxstream.errors import StreamError
from rxstream.events import Phase, ToolCallDelta
from tests.support.asking import DIALECTS, GOOD
from tests.support.begun import Fault, begun, each_dialect, next_text, play
from tests.support.live import (
    Outcome,
    Transport,
    assert_tells_no_secret,
    everywhere,
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
    Wire,
    sse,
)

pytestmark = pytest.mark.usefixtures("nothing_goes_on")
BLINK: Final = 0.06
"""Seconds of a clock that is to run out while nothing is to happen."""
MOMENT: Final = 0.4
"""Seconds of a clock that is to run out, but not before the first piece has come."""
CALL: Final = ("call_1", "weather", ['{"city": "Par'])


def cut_before(frame: bytes, mark: bytes, *, plus: int = 0) -> bytes:
    return frame[: frame.index(mark) + plus]


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
