"""The law of failure: whatever goes wrong, on whichever attempt, the text comes exactly once, or an error holds what came.

Conversations, faults and places are drawn at random and played over real sockets, in every dialect. Of each run the same
is asked: no character doubled or missing, no end invented, no error outside the tree, no request too many, none left open.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import rxstream
from rxstream import operators as rxo
from rxstream.aggregate import aggregate
from rxstream.errors import StreamError
from rxstream.events import (
    Event,
    Finished,
    Retracted,
    Retrying,
    Seam,
    Started,
    TextDelta,
    ToolCall,
    is_content,
)
from rxstream.observable import Stream
from rxstream.testing.chaos import Call, ChaosServer, Fault, Script, Served
from tests.support.until import until

EXAMPLES: Final = int(os.environ.get("RXSTREAM_LAW_EXAMPLES", "60"))
"""Cases for each policy; the long run has thousands."""
TARGETS: Final = ("anthropic:claude-haiku-4-5", "compatible:model", "openai:gpt-5-mini", "llamacpp:model")
RESUMABLE: Final = ("openai:gpt-5-mini", "llamacpp:model")
DIALECT: Final[dict[str, Any]] = {
    "anthropic": "anthropic",
    "compatible": "openai-chat",
    "openai": "openai-responses",
    "llamacpp": "openai-chat",
}


class World:
    """One server and one loop for all cases: clients and connections are used again, as in a program that goes on."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.server = ChaosServer(lambda _: self.script, faults=lambda _: self.next_fault())
        self.script = Script()
        self.faults: list[Fault | None] = []

    def next_fault(self) -> Fault | None:
        return self.faults.pop(0) if self.faults else None


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World()
    with world.server, world.runner:
        yield world


@dataclass
class Case:
    """What was asked, and what goes wrong."""

    target: str
    script: Script
    attempts: int
    faults: list[Fault | None]
    transport: Any


@dataclass
class Outcome:
    """What came of it."""

    events: list[Event] = field(default_factory=list[Event])
    error: Exception | None = None
    completed: bool = False
    served: list[Served] = field(default_factory=list[Served])

    @property
    def text(self) -> str:
        return aggregate(self.events).text

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


# --- drawing ----------------------------------------------------------------------------------------------------------------

PIECES: Final = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=12)
CUTS: Final = ("reset", "close", "end", "cut_event", "cut_json", "cut_utf8")
ERRORS: Final = ("429", "500", "502", "503", "529", "html", "json", "nothing", "refuse")


def faults() -> st.SearchStrategy[Fault | None]:
    place = st.integers(0, 4000)
    cut = st.builds(lambda name, at: Fault(name, at=at), st.sampled_from(("reset", "close", "end")), place)
    within = st.builds(lambda name, n: Fault(name, content=n), st.sampled_from(CUTS[3:]), st.integers(0, 5))
    in_band = st.builds(lambda n: Fault("error", event=n), st.integers(0, 8))
    refused = st.sampled_from(ERRORS).map(Fault)
    unharmed = st.sampled_from(("gzip", "deflate", "crlf", "bom")).map(Fault)
    return st.one_of(cut, cut, within, in_band, refused, unharmed, st.none())


@st.composite
def cases(draw: st.DrawFn, targets: tuple[str, ...] = TARGETS) -> Case:
    return Case(
        target=draw(st.sampled_from(targets)),
        script=Script(*draw(st.lists(PIECES, min_size=1, max_size=6))),
        attempts=draw(st.integers(1, 4)),
        faults=draw(st.lists(faults(), max_size=5)),
        transport=draw(st.sampled_from(("aiohttp", "httpx2"))),
    )


# --- playing ----------------------------------------------------------------------------------------------------------------


def play(world: World, case: Case, after_output: Any) -> Outcome:
    world.script, world.faults = case.script, list(case.faults)
    return world.runner.run(_play(world, case, after_output))


async def _play(world: World, case: Case, after_output: Any) -> Outcome:
    before = len(world.server.requests)
    outcome, ended = Outcome(), asyncio.Event()
    retry = rxo.retry_stream(
        attempts=case.attempts, after_output=after_output, when=_retried, delay=0, max_delay=0, budget=None
    )

    def fail(error: Exception) -> None:
        outcome.error = error
        ended.set()

    def complete() -> None:
        outcome.completed = True
        ended.set()

    _stream(world, case).pipe(retry).subscribe(outcome.events.append, fail, complete)
    async with asyncio.timeout(20):
        await ended.wait()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:  # what is closed, and told, when all is said
            await asyncio.wait(tasks)
    outcome.served = world.server.requests[before:]
    await until(lambda: all(served.ended or served.left_at is not None for served in outcome.served))  # none is open
    return outcome


def _stream(world: World, case: Case) -> Stream[Event]:
    return rxstream.stream(
        case.target,
        "Say it.",
        base_url=world.server.base_url(DIALECT[case.target.partition(":")[0]]),
        api_key="test-key",
        transport=case.transport,
    )


def _retried(error: Exception) -> bool:
    """Also what by default is not: a page of HTML, a body that is none of the protocol."""
    return True


# --- what is asked of every run -----------------------------------------------------------------------------------------------


def check(case: Case, outcome: Outcome) -> None:
    text, whole = outcome.text, case.script.text
    assert outcome.completed is (outcome.error is None)
    asked = len(outcome.served)
    assert asked <= case.attempts
    assert bool(outcome.of(Finished)) is outcome.completed, "an end was invented, or lost"
    if outcome.error is not None:
        assert isinstance(outcome.error, StreamError), repr(outcome.error)
        assert outcome.error.partial is not None
        assert outcome.error.partial.text == text, "the error holds something else than what was delivered"
        assert whole.startswith(text), "a character is doubled, missing or made up"
    else:
        assert text == whole, "a character is doubled, missing or made up"
    assert len(outcome.of(Retrying)) == asked - 1, "a request of which nothing was told"
    for attempt in {event.attempt for event in outcome.events}:
        numbers = [event.seq for event in outcome.events if event.attempt == attempt and isinstance(event, TextDelta)]
        assert all(one < other for one, other in pairwise(numbers)), "events of an attempt out of order"


def check_shown(outcome: Outcome) -> None:
    """What a reader who obeys `Retracted` has on the screen is the text, at every moment a beginning of one attempt's."""
    shown: dict[int, str] = {}
    for event in outcome.events:
        if isinstance(event, TextDelta):
            shown[event.attempt] = shown.get(event.attempt, "") + event.text
        elif isinstance(event, Retracted):
            shown[event.attempt] = shown.get(event.attempt, "")[: event.to_offset]
    assert "".join(shown[attempt] for attempt in sorted(shown)) == outcome.text


@settings(max_examples=EXAMPLES)
@given(cases())
def test_fail(world: World, case: Case) -> None:
    """Before the first content another attempt is made unseen; after it none is."""
    outcome = play(world, case, "fail")
    check(case, outcome)
    assert len({event.attempt for event in outcome.events if is_content(event)}) <= 1
    assert not outcome.of(Retracted)
    assert not outcome.of(Seam)


@settings(max_examples=EXAMPLES)
@given(cases())
def test_restart(world: World, case: Case) -> None:
    """What was said is taken back, and said anew."""
    outcome = play(world, case, "restart")
    check(case, outcome)
    check_shown(outcome)
    if len(case.faults) < case.attempts:
        assert outcome.completed, "attempts were left, and not made"


@settings(max_examples=EXAMPLES)
@given(cases())
def test_buffer(world: World, case: Case) -> None:
    """Nothing is shown that does not stand."""
    outcome = play(world, case, "buffer")
    check(case, outcome)
    assert not outcome.of(Retracted)
    assert len({event.attempt for event in outcome.events if is_content(event)}) <= 1
    assert outcome.completed or not outcome.text


REFUSED_WHEN_RESUMED: Final = Case(
    target="openai:gpt-5-mini",
    script=Script("0"),
    attempts=2,
    faults=[Fault("cut_event", content=1), Fault("refuse")],
    transport="aiohttp",
)


@settings(max_examples=EXAMPLES)
@given(cases(RESUMABLE))
@example(REFUSED_WHEN_RESUMED)
def test_resume(world: World, case: Case) -> None:
    """The rest comes where the text was cut: one attempt, nothing taken back."""
    outcome = play(world, case, "resume")
    check(case, outcome)
    assert not outcome.of(Retracted)
    assert len({event.attempt for event in outcome.events if is_content(event)}) <= 1
    assert all(seam.verified and whole_so_far(outcome, seam) == seam.offset for seam in outcome.of(Seam))


@settings(max_examples=EXAMPLES)
@given(cases())
def test_continue(world: World, case: Case) -> None:
    """The part that came, and what the model says further, with the seam between them at the right place."""
    outcome = play(world, case, "continue_")
    check(case, outcome)
    assert not outcome.of(Retracted)
    for seam in outcome.of(Seam):
        assert not seam.verified
        assert whole_so_far(outcome, seam) == seam.offset
    continued = {served.number for served in outcome.served if served.continued}
    assert len(outcome.of(Seam)) <= len(continued)


def whole_so_far(outcome: Outcome, seam: Seam) -> int:
    """Characters of text that were delivered before `seam`."""
    return len(aggregate(outcome.events[: outcome.events.index(seam)]).text)


@settings(max_examples=EXAMPLES)
@given(cases(), st.lists(st.text('abc{}":, ', min_size=1, max_size=6), min_size=1, max_size=4))
def test_calls_are_whole_or_none(world: World, case: Case, fragments: list[str]) -> None:
    """A tool call that was cut is never taken for a whole one, and none is made of two attempts."""
    case.script = Script(*case.script.parts, Call("look_up", ("{", *fragments, "}"), id="call_1"))
    outcome = play(world, case, "restart")
    check(case, outcome)
    answer = aggregate(outcome.events)
    assert all(call.arguments == "".join(("{", *fragments, "}")) for call in answer.tool_calls if call.complete)
    if outcome.completed:
        assert [call.name for call in answer.tool_calls] == ["look_up"]
        assert [call.name for call in outcome.of(ToolCall)][-1:] == ["look_up"]


@settings(max_examples=EXAMPLES)
@given(cases())
def test_nothing_is_shown_of_an_attempt_before_its_content(world: World, case: Case) -> None:
    """Of an attempt that failed without a word nothing is seen but that it failed."""
    outcome = play(world, case, "fail")
    spoken = {event.attempt for event in outcome.events if is_content(event)}
    begun = {event.attempt for event in outcome.of(Started)}
    last = max((event.attempt for event in outcome.events), default=1)
    assert begun <= spoken | {last}
