"""Tapes play: at their pace, faster, and at once; what the reader holds up comes later; and each ends as its stream did."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import rxstream
from rxstream.errors import ConfigurationError, Disconnected, StreamIncomplete
from rxstream.events import ErrorInfo, Event, Finished, RateLimits, Started, TextDelta
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.sources.tape import tape
from rxstream.tapes.format import FORMAT, Answered, Asked, Header, Kind, Line, encode_line
from rxstream.tapes.read import Tape, parse
from rxstream.testing import Recorder, settle, virtual_time

DELTA = 'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
END = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def made(*lines: Line, kind: Kind = "events", part: int = 1, dialect: str = "") -> Tape:
    header = Header(tape=FORMAT, version=1, kind=kind, part=part, dialect=dialect)
    return parse(encode_line(header) + b"".join(map(encode_line, lines)))


def told(*texts: tuple[float, str], end: float | None = None) -> Tape:
    lines = [Line(t=at, e=TextDelta(text=text)) for at, text in texts]
    last = [] if end is None else [Line(t=end, e=Finished(reason="stop")), Line(t=end, end="completed")]
    return made(*lines, *last)


def body(*pieces: tuple[float, str], last: Line | None = None, asked: Asked | None = None, rest: Any = ()) -> Tape:
    limits = RateLimits(requests_limit=7)
    return made(
        Line(t=1.0, r=1, asked=asked or Asked(provider="openai-chat", model="m", source="s", dialect="openai-chat")),
        Line(t=2.0, r=1, answered=Answered(rate_limits=limits)),
        *(Line(t=at, r=1, b=text) for at, text in pieces),
        *([] if last is None else [last]),
        *rest,
        kind="bytes",
    )


def listen(played: Tape, gate: Gate | None = None, **options: Any) -> Recorder:
    recorder = Recorder()
    rxstream.tape(played, **options).subscribe(
        recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=LoopScheduler(gate=gate)
    )
    return recorder


@pytest.mark.parametrize(("speed", "times"), [(1, [2, 3, 3, 7]), (2, [1, 1.5, 1.5, 3.5]), ("max", [0, 0, 0, 0])])
@virtual_time
async def test_at_its_pace_from_the_request_on(speed: float, times: list[float]) -> None:
    recorder = listen(told((2, "a"), (3, "b"), (3, "c"), end=7), speed=speed)
    await asyncio.sleep(20)
    assert recorder.times == times
    assert [event.at for event in recorder.items] == times
    assert [event.seq for event in recorder.items] == [0, 1, 2, 3]
    assert recorder.completed


@virtual_time
async def test_what_is_held_up_is_not_made_up_for() -> None:
    gate = Gate()
    recorder = listen(told((1, "a"), (2, "b"), (3, "c"), end=4), gate)
    await asyncio.sleep(1.5)
    gate.hold("test")
    await asyncio.sleep(8.5)
    gate.release("test")
    await asyncio.sleep(10)
    assert recorder.texts == ["a", "b", "c"]
    assert recorder.times == [1, 10, 10, 11]


@virtual_time
async def test_late_timers_are_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand words a second come in a second, though no timer is as fine as that."""
    late = SimpleNamespace(
        sleep=lambda seconds: asyncio.sleep(seconds + 0.004), get_running_loop=asyncio.get_running_loop
    )
    monkeypatch.setattr("rxstream.sources.tape.asyncio", late)
    recorder = listen(told(*((number / 1000, "a") for number in range(1000)), end=1))
    await asyncio.sleep(1.005)
    assert recorder.completed
    assert recorder.times == pytest.approx([*(number / 1000 for number in range(1000)), 1], abs=0.005)


@virtual_time
async def test_each_subscription_plays_from_the_start() -> None:
    played = told((1, "a"), end=2)
    first = listen(played)
    await asyncio.sleep(5)
    second = listen(played)
    await asyncio.sleep(5)
    assert (first.times, second.times) == ([1, 2], [6, 7])


@virtual_time
async def test_several_tracks_keep_their_labels() -> None:
    events: list[Event] = [TextDelta(text="a", source="x"), TextDelta(text="b", source="y", attempt=2)]
    recorder = listen(made(*(Line(t=0.0, e=event) for event in events), Line(t=0.0, end="completed")))
    await settle()
    assert [(event.source, event.attempt) for event in recorder.items] == [("x", 1), ("y", 2)]
    assert recorder.completed
    assert rxstream.tape(told((1, "a"), end=1)).label == ""


@virtual_time
async def test_errors_of_all_kinds() -> None:
    for line, kind, said in (
        (Line(t=3.0, end="error", error=ErrorInfo(kind="Disconnected", message="gone")), Disconnected, "gone"),
        (
            Line(t=3.0, end="error", error=ErrorInfo(kind="ConfigurationError", message="no key")),
            ConfigurationError,
            "no",
        ),
        (Line(t=3.0, end="error"), StreamIncomplete, "does not say"),
        (Line(t=3.0, end="cancelled"), StreamIncomplete, "was cancelled"),
        (Line(t=3.0, end="cut", error=ErrorInfo(kind="RecordingFailed", message="full")), StreamIncomplete, "full"),
        (Line(t=3.0), StreamIncomplete, "has no end"),
    ):
        recorder = listen(made(Line(t=1.0, e=TextDelta(text="a")), line))
        await asyncio.sleep(4)
        assert recorder.texts == ["a"]
        assert type(recorder.error) is kind
        assert said in str(recorder.error)


# --- bytes ------------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_bytes_go_through_their_decoder() -> None:
    whole = body(
        (3, DELTA % "a" + (DELTA % "b")[:20]), (4, (DELTA % "b")[20:]), (5, END), last=Line(t=6.0, r=1, body="end")
    )
    recorder = listen(whole)
    await asyncio.sleep(10)
    assert recorder.texts == ["a", "b"]
    assert recorder.completed
    texts = [at for at, event in zip(recorder.times, recorder.items, strict=True) if isinstance(event, TextDelta)]
    assert texts == [2, 3]  # from the request on, which was made at 1
    started = recorder.items[0]
    assert isinstance(started, Started)
    assert started.rate_limits == RateLimits(requests_limit=7)
    assert {event.source for event in recorder.items} == {"s"}
    assert all(event.raw for event in recorder.items if isinstance(event, TextDelta))
    assert not [event for event in listen(whole, keep_raw=False, speed="max").items if event.raw]


@virtual_time
async def test_a_body_ends_as_it_did() -> None:
    gone = ErrorInfo(kind="Disconnected", message="gone")
    late = Line(t=9.0, end="error", error=ErrorInfo(kind="TimedOut", message="late", clock="idle"))
    for last, rest, error, at in (
        (Line(t=6.0, r=1, body="end"), (), "StreamIncomplete", 5),
        (Line(t=6.0, r=1, body="error", error=gone), (late,), "Disconnected", 5),
        (Line(t=6.0, r=1, body="left"), (late,), "TimedOut", 8),
        (Line(t=6.0, r=1, body="left"), (Line(t=6.0, end="cancelled"),), "StreamIncomplete", 2),
        (Line(t=6.0, r=1, body="left"), (Line(t=6.0, end="completed"),), "StreamIncomplete", 2),
        (None, (), "StreamIncomplete", 2),
    ):
        begin = asyncio.get_running_loop().time()
        recorder = listen(body((3, DELTA % "a"), last=last, rest=rest))
        await asyncio.sleep(20)
        assert recorder.texts == ["a"]
        assert type(recorder.error).__name__ == error
        assert recorder.ended_at == begin + at


@virtual_time
async def test_a_request_without_an_answer() -> None:
    refused = ErrorInfo(kind="AuthError", message="no", status=401)
    played = made(
        Line(t=0.0, r=1, asked=Asked(provider="anthropic")), Line(t=2.0, r=1, body="error", error=refused), kind="bytes"
    )
    recorder = listen(played)
    await asyncio.sleep(5)
    assert (type(recorder.error).__name__, recorder.ended_at) == ("AuthError", 2)


@virtual_time
async def test_without_a_line_of_the_headers_the_body_is_whole() -> None:
    asked = Line(t=0.0, r=1, asked=Asked(provider="openai-chat", model="m", source="s", dialect="openai-chat"))
    recorder = listen(made(asked, Line(t=1.0, r=1, b=DELTA % "a"), Line(t=2.0, r=1, b=END), kind="bytes"))
    await asyncio.sleep(5)
    assert recorder.texts == ["a"]
    assert recorder.completed


@virtual_time
async def test_a_provider_that_is_not_known_speaks_its_dialect() -> None:
    asked = Asked(provider="my-own", dialect="openai-chat")
    recorder = listen(body((1, DELTA % "a" + END), asked=asked, last=Line(t=1.0, r=1, body="end")), speed="max")
    await settle()
    assert (recorder.texts, recorder.completed) == (["a"], True)


def test_what_cannot_be_played_is_refused(tmp_path: Path) -> None:
    two = body(rest=[Line(t=3.0, r=2, asked=Asked(provider="openai-chat"))])
    with pytest.raises(ConfigurationError, match="2 requests on the tape: say which, by its number as request"):
        tape(two)
    assert tape(two, request=2).provider == "openai-chat"
    with pytest.raises(ConfigurationError, match="request=3: on the tape are 1, 2"):
        tape(two, request=3)
    with pytest.raises(ConfigurationError, match="no request on the tape"):
        tape(made(kind="bytes"))
    with pytest.raises(ConfigurationError, match="in which dialect"):
        tape(body(asked=Asked(provider="my-own")))
    with pytest.raises(ConfigurationError, match="rotated away"):
        tape(made(kind="bytes", part=2))
    with pytest.raises(ConfigurationError, match="as a whole"):
        tape(told(end=1), request=1)
    with pytest.raises(ConfigurationError, match="No such file"):
        tape(tmp_path / "none.tape")
    with pytest.raises(ConfigurationError, match="speed='fast': must be a number, or 'max'"):
        tape(told(end=1), speed="fast")  # type: ignore[arg-type]  # what it is for
    options: list[dict[str, Any]] = [{"speed": 0}, {"request": 0}]
    for option in options:
        with pytest.raises(ConfigurationError, match=next(iter(option))):
            tape(told(end=1), **option)
