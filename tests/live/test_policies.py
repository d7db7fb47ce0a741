"""`rxstream.stream` with a policy and guards, over real sockets: how often a server is asked, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import rxstream
from rxstream.errors import BudgetExceeded, Disconnected, LimitExceeded, Overloaded, TimedOut, TracksFailed
from rxstream.events import Failed, Finished, Retracted, Retrying, Seam
from rxstream.guards import Ticket
from rxstream.policy import ErrorPolicy, Retry
from tests.support.asking import DIALECTS, GOOD, KEY
from tests.support.live import Outcome, no_task_left, stream_from, watch
from tests.support.server import CLOSE, HANG, Head, ScriptedServer, Step, chat, page

QUICK = Retry(delay=0.0)
BUSY = page(503, "")


@pytest.fixture(autouse=True)
async def _nothing_goes_on() -> AsyncIterator[None]:
    yield
    await no_task_left()


class Counting:
    """A guard that lets all pass, and counts."""

    def __init__(self) -> None:
        self.entered: list[Ticket] = []
        self.left: list[Ticket] = []

    async def enter(self, ticket: Ticket) -> None:
        self.entered.append(ticket)

    def leave(self, ticket: Ticket) -> None:
        self.left.append(ticket)


def cut(name: str, *texts: str) -> list[Any]:
    return [Head(), *GOOD[name](*texts, terminal=False), CLOSE]


def types(outcome: Outcome) -> list[type]:
    return [type(event) for event in outcome.events if isinstance(event, (Retrying, Retracted, Seam, Failed, Finished))]


@pytest.mark.parametrize("name", DIALECTS)
async def test_retry_asks_again_and_leaves_no_trace_in_the_text(name: str) -> None:
    with ScriptedServer(BUSY, cut(name), GOOD[name]("Hel", "lo")) as server:
        outcome = await watch(stream_from(server, name, on_error=QUICK, label="mine"))
    assert (outcome.text, outcome.ends, types(outcome)) == ("Hello", [None], [Retrying, Retrying, Finished])
    assert (len(server.requests), outcome.response.attempts) == (3, 3)
    assert {event.source for event in outcome.events} == {"mine"}


@pytest.mark.parametrize("policy", ["fail", "complete_partial"])
async def test_what_is_not_to_be_retried_is_asked_once(policy: Any) -> None:
    with ScriptedServer(cut("anthropic", "Hel"), GOOD["anthropic"]("no")) as server:
        outcome = await watch(stream_from(server, "anthropic", on_error=policy))
    assert (outcome.text, len(server.requests)) == ("Hel", 1)
    assert outcome.response.finish_reason is None
    if policy == "fail":
        assert type(outcome.error) is Disconnected
    else:
        assert (outcome.ends, types(outcome)) == ([None], [Failed])
        assert outcome.response.usage.input_tokens == 7


async def test_a_partial_answer_is_what_retrying_did_not_mend() -> None:
    policy = {"action": "complete_partial", "retry": {"attempts": 2, "delay": 0, "after_output": "restart"}}
    with ScriptedServer(cut("compatible", "one"), cut("compatible", "two"), chat("three")) as server:
        stream = stream_from(server, "compatible", on_error=policy)
        outcome = await watch(stream)
    assert types(outcome) == [Retrying, Retracted, Failed]
    assert (outcome.response.text, outcome.response.finish_reason, len(server.requests)) == ("two", None, 2)


async def test_other_models_are_asked_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(BUSY, BUSY, GOOD["anthropic"]("Hel", "lo")) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-another")
        policy = ErrorPolicy(action="failover", retry=Retry(attempts=2, delay=0.0), to=["anthropic:other-1"])
        guard = Counting()
        stream = stream_from(
            server, "compatible", on_error=policy, guards=[guard], label="mine", system="Be brief.", max_tokens=7
        )
        outcome = await watch(stream)
    assert stream.label == "mine"
    assert (outcome.text, outcome.ends, types(outcome)) == ("Hello", [None], [Retrying, Failed, Finished])
    first, _, last = [request.json for request in server.requests]
    assert (first["model"], last["model"]) == ("scripted-1", "other-1")
    assert (first["max_tokens"], last["max_tokens"], "Be brief." in str(last["system"])) == (7, 7, True)
    assert [ticket.key.model for ticket in guard.entered] == ["scripted-1", "scripted-1", "other-1"]
    assert guard.left == guard.entered
    assert [ticket.outcome for ticket in guard.left] == ["failed", "failed", "completed"]


async def test_the_other_model_goes_on_with_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retried itself, if it fails before its first word."""
    with ScriptedServer(cut("compatible", "Hel"), BUSY, GOOD["anthropic"]("lo")) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        policy = ErrorPolicy(action="failover", retry=QUICK, to=["anthropic:claude-3-haiku"], after_output="continue_")
        outcome = await watch(stream_from(server, "compatible", on_error=policy))
    assert outcome.text == outcome.response.text == "Hello"
    assert types(outcome) == [Failed, Retrying, Seam, Finished]
    [seam] = [event for event in outcome.events if isinstance(event, Seam)]
    assert (seam.kind, seam.offset) == ("prefill", 3)
    last = server.requests[2].json["messages"][-1]
    assert (last["role"], "Hel" in str(last["content"])) == ("assistant", True)


async def test_an_answer_that_is_too_long_for_one_model_is_asked_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(chat("Hel", finish="length"), GOOD["openai"]("Hello")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        policy = {"action": "failover", "to": ["openai:big"], "on_finish": ["length"], "after_output": "restart"}
        outcome = await watch(stream_from(server, "compatible", on_error=policy))
    assert (outcome.response.text, types(outcome)) == ("Hello", [Failed, Retracted, Finished])


async def test_when_nothing_helps_all_errors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(BUSY, BUSY) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        policy = ErrorPolicy(action="failover", to=["anthropic:other-1"])
        outcome = await watch(stream_from(server, "compatible", on_error=policy))
    assert isinstance(outcome.error, TracksFailed)
    assert [type(error) for error in outcome.error.errors.values()] == [Overloaded, Overloaded]


@pytest.mark.parametrize(
    ("limits", "kind"), [({"characters": 5}, LimitExceeded), ({"tokens": 2}, BudgetExceeded)], ids=str
)
@pytest.mark.parametrize("name", DIALECTS)
async def test_limits_close_the_request(name: str, limits: Any, kind: type[Exception]) -> None:
    """Also behind a policy: what went over a limit of ours would go over it again."""
    with ScriptedServer([Head(), *GOOD[name]("Hel", "lo", "!", terminal=False), HANG]) as server:
        outcome = await watch(stream_from(server, name, limits=limits, on_error=QUICK))
        await server.requests[0].left.wait_async()
    assert type(outcome.error) is kind
    assert (outcome.text, len(server.requests)) == ("Hello", 1)
    assert outcome.error.partial is not None
    assert outcome.error.partial.text == "Hello"


async def test_the_total_is_for_all_attempts_and_the_others_for_each() -> None:
    hanging: list[Step] = [Head(), HANG]
    with ScriptedServer(hanging, hanging, chat("Hello")) as server:
        stream = stream_from(server, "compatible", on_error=QUICK, timeouts={"first_event": 0.2, "total": 30})
        outcome = await watch(stream)
        assert (outcome.text, len(server.requests)) == ("Hello", 3)
    with ScriptedServer(hanging) as server:
        outcome = await watch(stream_from(server, "compatible", on_error=QUICK, timeouts=0.3))
        assert isinstance(outcome.error, TimedOut)
        assert (outcome.error.clock, len(server.requests)) == ("total", 1)


async def test_a_session_of_such_a_stream_is_a_session() -> None:
    with ScriptedServer(BUSY, chat("Hel", "lo")) as server:
        session = stream_from(server, "compatible", on_error=QUICK).start()
        response = await session
    assert (response.text, response.attempts, session.status) == ("Hello", 2, "completed")


async def test_cancelled_while_it_waits_to_ask_again_it_asks_no_more() -> None:
    with ScriptedServer(page(503, "", retry_after="60"), chat("no")) as server:
        waiting = asyncio.Event()
        stream = stream_from(server, "compatible", on_error="retry")
        session = stream.start(lambda event: waiting.set() if isinstance(event, Retrying) else None)
        async with asyncio.timeout(10):
            await waiting.wait()
        session.cancel("enough")
        with pytest.raises(rxstream.errors.Cancelled):
            await session
        assert len(server.requests) == 1


async def test_the_body_that_ends_properly_is_not_retried_though_it_is_empty() -> None:
    with ScriptedServer(chat(), chat("no")) as server:
        outcome = await watch(stream_from(server, "compatible", on_error=QUICK))
    assert (outcome.text, outcome.ends, len(server.requests)) == ("", [None], 1)
