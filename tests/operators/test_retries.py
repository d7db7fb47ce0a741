"""The law of ``retry_stream``: text exactly once, whatever fails and however often.

``HYPOTHESIS_PROFILE=long`` tries many more answers, faults and pauses.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, NamedTuple

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from rxstream import operators as rxo
from rxstream.aggregate import aggregate
from rxstream.errors import (
    BadRequest,
    Disconnected,
    Overloaded,
    RateLimited,
    StreamError,
    StreamIncomplete,
)
from rxstream.events import (
    Citation,
    Event,
    Finished,
    Heartbeat,
    PartEnd,
    Retracted,
    Retrying,
    Seam,
    Started,
    Status,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReported,
    is_content,
)
from rxstream.usage import Usage
from tests.support.contests import Told, watchers
from tests.support.retried import Model, most
from tests.support.scripted import DONE
from tests.support.virtual_loop import settle, virtual_time

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
EXAMPLES = 10_000 if LONG else 120
WORDS = (Retrying, Retracted, Seam)
FAULTS = (Overloaded, Disconnected, StreamIncomplete, RateLimited, BadRequest)


class Case(NamedTuple):
    answer: list[Event]
    faults: list[tuple[int, StreamError]]
    policy: str
    attempts: int
    pauses: list[float]
    total: float | None


def usage_of(tokens: int) -> UsageReported:
    return UsageReported(usage=Usage(provenance="reported", input_tokens=10, output_tokens=tokens))


TEXTS: st.SearchStrategy[Event] = st.text("ab é🙂", max_size=4).map(lambda text: TextDelta(text=text))
PLAIN: st.SearchStrategy[Event] = st.one_of(
    TEXTS,
    TEXTS,
    TEXTS,
    st.sampled_from([Heartbeat(), Status(status="on"), Citation(url="u"), PartEnd(kind="text")]),
    st.integers(0, 9).map(usage_of),
)
RICH: st.SearchStrategy[Event] = st.one_of(
    PLAIN,
    st.sampled_from(
        [
            ThinkingDelta(text="hm", part=1),
            ToolCallStart(part=2, id="c", name="f"),
            ToolCallDelta(part=2, arguments="{"),
            TextDelta(text="other", choice=1),
        ]
    ),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from([PLAIN, PLAIN, RICH]))
    answer: list[Event] = [Started(id="r", model="m"), *draw(st.lists(kind, max_size=8)), DONE]
    fault = st.tuples(st.integers(0, len(answer) - 1), st.sampled_from(FAULTS).map(lambda kind: kind("it failed")))
    return Case(
        answer=answer,
        faults=draw(st.lists(fault, max_size=5)),
        policy=draw(st.sampled_from(["fail", "resume", "restart", "continue_", "buffer"])),
        attempts=draw(st.integers(1, 5)),
        pauses=draw(st.lists(st.floats(0.0, 9.0).map(lambda at: round(at, 1)), max_size=3)),
        total=draw(st.sampled_from([None, None, 4.5, 20.0])),
    )


async def play(case: Case, *, pauses: bool = False) -> tuple[Model, Told]:
    """Subscribe, pause a few times for a second, and wait for the end."""
    model = Model(*case.answer, faults=case.faults, total=case.total)
    retried = rxo.retry_stream(attempts=case.attempts, after_output=case.policy, jitter=most, budget=None)  # type: ignore[arg-type]
    told = Told(model.stream.pipe(retried), pauses=pauses)
    for pause in case.pauses:
        await asyncio.sleep(pause)
        told.gate.hold("user")
        await asyncio.sleep(1)
        told.gate.release("user")
    await asyncio.sleep(500)
    return model, told


def said_last(told: Told) -> list[Event]:
    """What stands of the text: the content of the attempts that were not retracted."""
    gone = {event.attempt for event in told.items if isinstance(event, Retracted)}
    return [event for event in told.items if is_content(event) and event.attempt not in gone]


def check_numbers(told: Told) -> None:
    """Within an attempt `seq` has no gaps; attempts begin in order."""
    seqs: dict[int, list[int]] = {}
    for event in told.items:
        seqs.setdefault(event.attempt, []).append(event.seq)
    for given_seqs in seqs.values():
        assert given_seqs == list(range(len(given_seqs)))
    assert list(seqs) == sorted(seqs)


def check_retries(case: Case, model: Model, told: Told, *, steady: bool) -> None:
    """No more requests than allowed; each failure but the last is told, with what comes next, at its time."""
    assert 1 <= len(model.asked) <= case.attempts
    told_of = [event for event in told.items if isinstance(event, Retrying)]
    assert len(told_of) in ({len(model.asked) - 1, len(model.asked)} if case.total else {len(model.asked) - 1})
    failures = [error for _, error in case.faults]
    assert [event.error.kind for event in told_of] == [type(error).__name__ for error in failures[: len(told_of)]]
    for event, (asked_at, how) in zip(told_of, model.asked[1:], strict=False):
        assert asked_at >= event.at + event.delay - 1e-6  # a loop rounds
        assert asked_at == event.at + event.delay or not steady
        words = {"ask": {"again", "restart"}, "resume": {"resume"}}
        assert event.how in words.get(how, {"continue"})


def check_end(case: Case, model: Model, told: Told) -> None:
    """Whole or failed, and the error holds exactly what was delivered."""
    told_of = aggregate(told.items)
    if told.completed:
        stands = "".join(event.text for event in said_last(told) if isinstance(event, TextDelta) and not event.choice)
        whole = [event for event in case.answer if isinstance(event, TextDelta) and not event.choice]
        assert stands == told_of.text == "".join(event.text for event in whole)
        assert isinstance(told.items[-1], Finished)
    else:
        assert isinstance(told.error, StreamError)
        assert told.failure.partial is not None
        attempts = told.failure.partial.attempts
        assert told.failure.partial == told_of.model_copy(update={"attempts": attempts})
        assert told_of.attempts <= attempts <= len(model.asked)
        assert told_of.finish_reason is None or case.total is not None
        assert case.policy != "buffer" or told_of.text == ""


def check_usage(told: Told) -> None:
    """What was told last of each attempt, added up."""
    last: dict[int, Usage] = {}
    for event in told.items:
        if isinstance(event, UsageReported):
            last[event.attempt] = event.usage
    total = sum((usage.output_tokens or 0) for usage in last.values())
    response = told.failure.partial if told.error else aggregate(told.items)
    assert response is not None
    assert (response.usage.output_tokens or 0) == total


def checked(case: Case, *, pauses: bool = False) -> None:
    @virtual_time
    async def run() -> None:
        model, told = await play(case, pauses=pauses)
        assert told.completed or told.error
        check_numbers(told)
        check_retries(case, model, told, steady=not (pauses or case.pauses))
        check_end(case, model, told)
        check_usage(told)
        assert (model.running, model.closed) == (0, 1)
        assert await watchers(told.gate) == 0

    run()


@settings(max_examples=EXAMPLES)
@given(cases())
def test_text_comes_exactly_once(case: Case) -> None:
    checked(case)


@settings(max_examples=EXAMPLES // 3)
@given(cases())
def test_also_for_a_consumer_that_pauses_at_every_event(case: Case) -> None:
    checked(case._replace(pauses=[], total=None), pauses=True)


@settings(max_examples=EXAMPLES // 3)
@given(cases())
def test_resuming_gives_the_very_events_of_an_answer_that_was_never_cut(case: Case) -> None:
    @virtual_time
    async def run() -> None:
        faults: list[tuple[int, StreamError]] = [(given + 1, Disconnected("lost")) for given, _ in case.faults]
        _, told = await play(case._replace(policy="resume", faults=faults, attempts=9, total=None))
        whole = Told(Model(*case.answer).conversation(resumable=True).ask())
        await asyncio.sleep(100)
        events = [event for event in told.items if not isinstance(event, WORDS)]
        assert [bare(event) for event in events] == [bare(event) for event in whole.items]
        assert {event.attempt for event in told.items} == {1}

    run()


def bare(event: Event) -> Any:
    """An event without when it came, and which number it got."""
    return msgspec.structs.replace(event, seq=0, at=0.0)


@settings(max_examples=EXAMPLES // 3)
@given(cases(), st.integers(0, 400))
def test_disposed_at_any_moment_it_closes_all_and_is_silent(case: Case, tenths: int) -> None:
    @virtual_time
    async def run() -> None:
        model = Model(*case.answer, faults=case.faults, total=case.total)
        retried = rxo.retry_stream(attempts=case.attempts, after_output=case.policy, jitter=most, budget=None)  # type: ignore[arg-type]
        told = Told(model.stream.pipe(retried))
        await asyncio.sleep(tenths / 20)
        told.subscription.dispose()
        before = (list(told.items), told.ended_at)
        await settle()
        assert (model.running, model.closed, await watchers(told.gate)) == (0, 1, 0)
        await asyncio.sleep(100)
        assert (told.items, told.ended_at) == before

    run()
