"""Answers that outlive their connection: from every event, from every byte."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rxstream.testing.chaos import DIALECTS, Call, ChaosServer, Kept, Script
from tests.support.chaos import answer_of, body_of
from tests.support.raw import PATHS, ask, request

TEXT = "Why is the sky blue? ☃"
SCRIPT = Script(*Script.of_text(TEXT).parts, Call("weather", ['{"a"', ":1}"]))


def numbers(body: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb'"sequence_number":(\d+)', body)]


def background(server: ChaosServer, **more: Any) -> bytes:
    return ask(server, "openai-responses", background=True, **more).body


# --- responses in the background ------------------------------------------------------------------------------------------


def test_the_events_after_every_number() -> None:
    """Exactly those, byte for byte; after the last there are none."""
    with ChaosServer(SCRIPT) as server:
        whole = background(server)
        events = [event + b"\n\n" for event in whole.split(b"\n\n") if event]
        for number in range(-1, len(events) + 1):
            rest = request(f"{server.url}/v1/responses/resp_1?stream=true&starting_after={number}", "GET")
            assert rest.body == b"".join(events[max(number, -1) + 1 :])
        whole_again = request(f"{server.url}/v1/responses/resp_1?stream=true", "GET")
        assert whole_again.body == whole
        assert server.requests[-1].dialect == "openai-responses"


def test_a_cut_answer_is_resumed_however_often_it_is_cut() -> None:
    """The faults befall the requests for the rest, too."""
    plan = ["reset:event=3", "close:event=2", "529", "cut_utf8:how=close", "cut_tool", None]
    with ChaosServer(SCRIPT, faults=plan) as server:
        seen = b"".join(event + b"\n\n" for event in background(server).split(b"\n\n")[:-1])
        while b"response.completed" not in seen:
            last = numbers(seen)[-1] if numbers(seen) else -1
            rest = request(f"{server.url}/v1/responses/resp_1?stream=true&starting_after={last}", "GET")
            if rest.status == 200:
                seen += b"".join(event + b"\n\n" for event in rest.body.split(b"\n\n")[:-1])
        assert numbers(seen) == list(range(len(numbers(seen))))
        assert "".join(re.findall(r'output_text.delta".*?"delta":"([^"]*)"', seen.decode())) == TEXT
        assert len(server.requests) == len(plan)


def test_how_far_a_response_is() -> None:
    """It goes on without a listener, until it is cancelled; who listens is told no end."""
    with ChaosServer(SCRIPT, rate=20) as server:
        ask(server, "openai-responses", background=True, until=lambda body: b"created" in body)
        address = f"{server.url}/v1/responses/resp_1"
        assert request(address, "GET").json["status"] == "in_progress"
        told = request(f"{address}/cancel").json
        assert (told["id"], told["status"], told["background"]) == ("resp_1", "cancelled", True)
        assert request(f"{address}/cancel").json["status"] == "cancelled"
        rest = request(f"{address}?stream=true&starting_after=-1", "GET")
        assert rest.how == "end"
        assert b"response.completed" not in rest.body
        assert server.cancelled == ["resp_1", "resp_1"]
        assert server.requests[-1].ended == "cancelled"


def test_a_listener_of_a_cancelled_response_is_let_go() -> None:
    """At once, though the next event would be long in coming."""
    with ChaosServer(SCRIPT, rate=5) as server:

        def cancel(body: bytes) -> bool:
            if body and not server.cancelled:
                request(f"{server.url}/v1/responses/resp_1/cancel")
            return False

        raw = ask(server, "openai-responses", background=True, until=cancel)
        assert raw.how == "end"
        assert len(numbers(raw.body)) < 5


def test_a_complete_response_cannot_be_cancelled() -> None:
    with ChaosServer(SCRIPT) as server:
        background(server)
        assert request(f"{server.url}/v1/responses/resp_1/cancel").json["status"] == "completed"
        told = request(f"{server.url}/v1/responses/resp_1", "GET").json
        assert told["output"][0]["content"][0]["text"] == TEXT


def test_only_what_runs_in_the_background_is_kept() -> None:
    """And nothing that was refused."""
    with ChaosServer(SCRIPT, faults=[None, "529"]) as server:
        ask(server, "openai-responses")
        background(server)
        for name in ("resp_1", "resp_2"):
            assert server.kept(name) is None
            address = f"{server.url}/v1/responses/{name}"
            assert request(address, "GET").status == request(f"{address}/cancel").status == 404
            assert request(f"{address}?stream=true&starting_after=1", "GET").status == 404
        assert [served.ended for served in server.requests[2:]] == ["refused", "refused"]


# --- conversations of llama.cpp -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_kept_body_has_a_rest_from_every_byte(dialect: Any) -> None:
    answer, whole = answer_of(SCRIPT, dialect), body_of(SCRIPT, dialect)
    kept = Kept("c1", dialect, answer.generation, answer.frames)
    for start in range(len(whole) + 2):
        assert b"".join(frame.data for frame in kept.since(start)) == whole[start:]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_body_from_any_byte(dialect: Any) -> None:
    """In the midst of an event, of a character, of the last byte."""
    with ChaosServer(Script("a ☃", lifecycle=False), faults=["close:at=300"]) as server:
        begun = ask(server, dialect, headers={"X-Conversation-Id": "c1"}).body
        address = f"{server.url}/v1/stream?conv_id=c1"
        whole = request(f"{address}&from=0", "GET").body
        assert whole[:300] == begun
        snow = whole.index("☃".encode())
        for start in (1, 299, 300, snow, snow + 1, snow + 2, len(whole) - 1, len(whole), len(whole) + 1):
            assert request(f"{address}&from={start}", "GET").body == whole[start:]


def test_how_far_a_conversation_is() -> None:
    with ChaosServer(SCRIPT, rate=20) as server:
        ask(server, "openai-chat", headers={"X-Conversation-Id": "c1"}, until=lambda body: b"Why" in body)
        found = request(f"{server.url}/v1/streams/lookup", body={"conversation_ids": ["c1", "c2"]}).json
        [session] = found
        assert (session["conversation_id"], session["is_done"]) == ("c1", False)
        assert session["total_bytes"] > 0
        assert request(f"{server.url}/v1/stream?conv_id=c1", "DELETE").status == 204
        assert request(f"{server.url}/v1/stream?conv_id=c2", "DELETE").status == 404
        [session] = request(f"{server.url}/v1/streams/lookup", body={"conversation_ids": ["c1"]}).json
        assert session["is_done"]
        rest = request(f"{server.url}/v1/stream?conv_id=c1&from=0", "GET")
        assert len(rest.body) == session["total_bytes"]
        assert b"[DONE]" not in rest.body
        assert server.cancelled == ["c1"]


def test_an_unknown_conversation() -> None:
    with ChaosServer(SCRIPT) as server:
        assert request(f"{server.url}/v1/stream?conv_id=c1&from=0", "GET").status == 404
        assert request(f"{server.url}/v1/stream", "GET").status == 404


def test_the_faults_of_its_events_are_kept_those_of_the_connection_are_not() -> None:
    """What was sent twice is there twice: bytes stay what they are."""
    with ChaosServer(SCRIPT, faults=[["duplicate", "cut_utf8"]]) as server:
        cut = ask(server, "anthropic", headers={"X-Conversation-Id": "c1"}).body
        whole = cut + request(f"{server.url}/v1/stream?conv_id=c1&from={len(cut)}", "GET").body
    assert whole.count(b'"text":"Why"') == 2
    assert whole.endswith(b'message_stop"}\n\n')
    assert "☃" in whole.decode()


@pytest.mark.parametrize("name", ["cut_utf8", "cut_tool"])
def test_what_is_kept_is_cut_where_it_can_be_resumed(name: str) -> None:
    """A script without such a place is cut in an event: its bytes stay what they are."""
    with ChaosServer(Script("plain"), faults=[name]) as server:
        cut = ask(server, "anthropic", headers={"X-Conversation-Id": "c1"}).body
        whole = cut + request(f"{server.url}/v1/stream?conv_id=c1&from={len(cut)}", "GET").body
    assert whole.endswith(b'message_stop"}\n\n')
    assert PATHS["anthropic"] == server.requests[0].path
