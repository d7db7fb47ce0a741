"""The chaos server: its plan, its records, going on, and threads."""

from __future__ import annotations

import re
import socket
import threading
import time
from typing import Any

import pytest

import rxstream
from rxstream.errors import ConfigurationError
from rxstream.testing.chaos import (
    DIALECTS,
    Call,
    ChaosServer,
    Fault,
    Script,
    ScriptedServer,
    Served,
    Thought,
    closed_port,
)
from tests.support.chaos import body_of
from tests.support.raw import PATHS, ask, request

each_dialect = pytest.mark.parametrize("dialect", DIALECTS)
TEXT = "Why is the sky blue?"


def how(server: ChaosServer, count: int, dialect: str = "anthropic") -> list[str]:
    """How so many answers ended, one after the other."""
    for _ in range(count):
        ask(server, dialect)
    return [served.ended for served in server.requests]


# --- the plan -------------------------------------------------------------------------------------------------------------


def test_one_fault_befalls_every_answer() -> None:
    for plan in ("529", Fault("529")):
        with ChaosServer(TEXT, faults=plan) as server:
            assert how(server, 3) == ["refused"] * 3


def test_a_list_says_what_befalls_the_nth_answer() -> None:
    """All further ones are good; several faults may befall one."""
    with ChaosServer(TEXT, faults=["529", None, ["gzip", Fault("end", at=50)], ()]) as server:
        assert how(server, 5) == ["refused", "complete", "end", "complete", "complete"]
        assert [served.faults for served in server.requests[:3]] == [("529",), (), ("gzip", "end:at=50")]


def test_a_function_says_what_befalls_each() -> None:
    def plan(served: Served) -> str | None:
        return "529" if served.dialect == "anthropic" and served.json.get("bad") else None

    with ChaosServer(TEXT, faults=plan) as server:
        ask(server, "anthropic", bad=True)
        ask(server, "openai-chat", bad=True)
        assert [served.ended for served in server.requests] == ["refused", "complete"]


def test_what_a_plan_raises_is_raised_in_the_end() -> None:
    with pytest.raises(ZeroDivisionError), ChaosServer(TEXT, faults=lambda _: str(1 / 0)) as server:
        ask(server, "anthropic")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"faults": ["reset", "resett"]}, "resett"),
        ({"rate": 0}, "rate=0"),
        ({"remember": 0}, "remember=0"),
        ({"faults": 5}, "faults=5"),
        ({"faults": [5]}, "faults=5"),
        ({"faults": [["reset", 5]]}, "unknown fault '5'"),
        ({"faults": {"reset"}}, "faults="),
        ({"port": 70_000}, "port=70000: must be at most 65535"),
        ({"port": "80"}, "port='80'"),
        ({"tell": 5}, "tell=5"),
        ({"script": 5}, "script=5"),
        ({"script": ["a"]}, "script="),
    ],
)
def test_a_wrong_option_is_refused_at_once(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        ChaosServer(**{"script": TEXT, **options})


def test_a_server_that_cannot_start_says_so() -> None:
    with pytest.raises(OverflowError), ScriptedServer([], port=70_000):
        pass


# --- what is answered -----------------------------------------------------------------------------------------------------


@each_dialect
def test_the_model_that_was_asked_answers(dialect: Any) -> None:
    """Unless the script names one; answers have ids of their own."""
    with ChaosServer(Script("a")) as server:
        assert b'"model":"asked"' in ask(server, dialect, model="asked").body
        ids = {re.findall(rb'"id":"([^"]+)"', ask(server, dialect).body)[0] for _ in range(3)}
    assert len(ids) == 3
    with ChaosServer(Script("a", model="own")) as server:
        assert b'"model":"own"' in ask(server, dialect, model="asked").body


def test_a_chat_reports_usage_if_it_is_asked_to() -> None:
    with ChaosServer(TEXT) as server:
        assert b'"usage"' in ask(server, "openai-chat").body
        assert b'"usage"' not in ask(server, "openai-chat", stream_options=None).body


def test_a_function_may_say_what_the_model_says() -> None:
    with ChaosServer(lambda served: Script(served.json["messages"][-1]["content"].upper())) as server:
        ask(server, "anthropic", messages=[{"role": "user", "content": "echo"}])
        assert server.requests[0].text_sent == "ECHO"
    with ChaosServer(lambda served: f"number {served.number}") as server:
        ask(server, "anthropic")
        assert server.requests[0].text_sent == "number 0"


@each_dialect
def test_a_tape_is_sent_byte_for_byte(dialect: Any) -> None:
    """In its own dialect; the others get its text."""
    tape = b": recorded\n\n" + body_of(Script("Hel", "lo", lifecycle=False), dialect)
    with ChaosServer(Script.of_tape(tape)) as server:
        assert ask(server, dialect).body == tape
        for other in DIALECTS:
            ask(server, other)
        assert {served.text_sent for served in server.requests} == {"Hello"}


def test_headers_come_with_good_answers() -> None:
    with ChaosServer(TEXT, headers={"x-ratelimit-limit-requests": "60"}, faults=["", "429"][1:]) as server:
        assert "x-ratelimit-limit-requests" not in ask(server, "openai-chat").headers
        good = ask(server, "openai-chat")
    assert good.headers["x-ratelimit-limit-requests"] == "60"
    assert good.headers["x-request-id"] == "req_2"


@each_dialect
def test_a_request_for_no_stream_is_refused(dialect: Any) -> None:
    with ChaosServer(TEXT) as server:
        raw = ask(server, dialect, stream=False)
        assert (raw.status, "streams only" in raw.json["error"]["message"]) == (400, True)
        raw = request(server.url + PATHS[dialect], body=[1])
        assert (raw.status, "no JSON object" in raw.json["error"]["message"]) == (400, True)
        assert (server.requests, len(server.others)) == ([], 2)


def test_other_addresses() -> None:
    with ChaosServer(TEXT) as server:
        assert request(f"{server.url}/v1/models", "GET").json["data"][0]["object"] == "model"
        assert request(f"{server.url}/health", "GET").json == {"status": "ok"}
        assert request(f"{server.url}/v1/nothing", "GET").status == 404
        assert request(f"{server.url}/chat/completions", body={"stream": True}).status == 200
        assert server.base_url("anthropic") == server.url
        assert server.base_url("openai-chat") == server.base_url("openai-responses") == f"{server.url}/v1"
        with pytest.raises(ConfigurationError, match="dialect='klingon'"):
            server.base_url("klingon")  # type: ignore[arg-type]  # what a user may write


# --- going on -------------------------------------------------------------------------------------------------------------


@each_dialect
def test_it_goes_on_after_what_was_said(dialect: Any) -> None:
    """A beginning of the text in the assistant's last turn, or the one before the user's; from every character."""
    turns = "input" if dialect == "openai-responses" else "messages"
    asked = {"role": "user", "content": "Why?"}
    again = {"role": "user", "content": [{"type": "text", "text": "Go on."}]}
    script = Script(Thought("hm"), *Script.of_text(TEXT).parts, Call("end"))
    with ChaosServer(script) as server:
        for cut in range(1, len(TEXT) + 1):
            said = {"role": "assistant", "content": [{"type": "output_text", "text": TEXT[:cut]}]}
            body: dict[str, Any] = {turns: [asked, said] if cut % 2 else [asked, said, again]}
            ask(server, dialect, **body)
            served = server.requests[-1]
            assert (served.text_sent, served.continued) == (TEXT[cut:], cut)


@each_dialect
def test_it_begins_anew_where_nothing_of_its_own_was_said(dialect: Any) -> None:
    user, other = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}
    whole = {"role": "assistant", "content": TEXT[:3]}
    for turns in ([], [user], [user, other], [user, other, user], [whole, user, user], "Why?", [None], None):
        with ChaosServer(TEXT) as server:
            ask(server, dialect, messages=turns)
            assert (server.requests[0].text_sent, server.requests[0].continued) == (TEXT, 0)


# --- records --------------------------------------------------------------------------------------------------------------


@each_dialect
@pytest.mark.parametrize(
    ("fault", "phase"),
    [
        ("hang", "connect"),
        ("stall:at=0", "first_event"),
        ("stall:event=1", "first_output"),
        ("stall:content=2", "output"),
        ("stall:content=4", "tool_call"),
        ("linger", "finish"),
    ],
)
def test_the_client_is_seen_to_leave_in_every_phase(dialect: Any, fault: str, phase: str) -> None:
    """When, how far it was, and what had been sent."""
    script = Script("Hel", "lo", Call("weather", ['{"a"', ":1}"]))
    with ChaosServer(script, faults=fault) as server:
        waiting = threading.Event()
        client = threading.Thread(target=_leave, args=(server, dialect, waiting))
        client.start()
        while not server.requests or server.requests[0].phase != phase:
            pass
        assert server.requests[0].left_phase is None
        waiting.set()
        client.join()
        served = server.wait_left()
        assert (served.left_phase, served.ended) == (phase, "left")
        assert 0 <= served.lasted < 30
        assert served.text_sent == {"output": "Hello", "tool_call": "Hello", "finish": "Hello"}.get(phase, "")


def _leave(server: ChaosServer, dialect: str, when: threading.Event) -> None:
    """Ask, read nothing, and go."""
    body = b'{"stream": true}'
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(f"POST {PATHS[dialect]} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        when.wait(30)


def test_a_record_of_a_good_answer() -> None:
    with ChaosServer(TEXT) as server:
        raw = ask(
            server, "anthropic", model="m", headers={"X-Api-Key": "sk-secret", "Authorization": "Bearer sk-secret"}
        )
        [served] = server.requests
        assert (served.dialect, served.path, served.json["model"]) == ("anthropic", "/v1/messages", "m")
        assert (served.events_sent, served.body_sent) == (raw.body.count(b"\n\n"), len(raw.body))
        assert served.bytes_sent > served.body_sent
        assert (served.text_sent, served.phase, served.ended) == (TEXT, "finish", "complete")
        assert served.headers["x-api-key"] == "sk-secret"
        assert server.connections == 1
    assert "sk-secret" not in f"{served} {served.request} {served.headers}"


@pytest.mark.parametrize("name", ["429", "502", "html", "json"])
def test_a_page_is_no_event(name: str) -> None:
    """Its client still waits for the first."""
    with ChaosServer(TEXT, faults=name) as server:
        raw = ask(server, "anthropic")
        [served] = server.requests
        assert (served.events_sent, served.body_sent) == (0, len(raw.body))
        assert served.phase == ("first_event" if raw.status == 200 else "connect")


def test_what_the_kernel_took_of_a_large_event_is_counted() -> None:
    with ChaosServer(TEXT, faults=["oversized"]) as server:
        body = b'{"stream": true}'
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(f"POST /v1/messages HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            sock.recv(1_000_000, socket.MSG_WAITALL)
        served = server.wait_left()
        assert 1_000_000 <= served.bytes_sent < 16 * 1024 * 1024


def test_a_key_in_the_address_is_not_shown() -> None:
    with ChaosServer(TEXT) as server:
        request(f"{server.url}/v1/messages?key=sk-secret&beta=true", body={"stream": True})
        [served] = server.requests
    assert served.request.address == "/v1/messages?key=…&beta=true"
    assert "sk-secret" not in repr(served)


def test_records_are_bounded() -> None:
    with ChaosServer(TEXT, remember=3) as server:
        for number in range(5):
            ask(server, "openai-chat", headers={"X-Conversation-Id": f"c{number}"})
        assert [served.number for served in server.requests] == [2, 3, 4]
        assert [server.kept(f"c{number}") is not None for number in range(5)] == [False, False, True, True, True]


def test_each_answer_is_told_when_it_has_ended() -> None:
    told: list[Served] = []
    with ChaosServer(TEXT, faults=["reset", None, "stall"], tell=told.append) as server:
        for _ in range(2):
            ask(server, "anthropic")
        request(f"{server.url}/health", "GET")
        ask(server, "anthropic", until=bool)
        server.wait_left()
    assert [served.ended for served in told] == ["reset", "complete", "complete", "left"]


def test_an_answer_that_the_server_breaks_off() -> None:
    """When its context is left."""
    with ChaosServer(TEXT, faults="stall") as server:
        sock = socket.create_connection(("127.0.0.1", server.port))
        body = b'{"stream": true}'
        sock.sendall(f"POST /v1/messages HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        sock.recv(10)
    sock.close()
    assert server.requests[0].ended == "stopped"


def test_going_down_and_up() -> None:
    """Down, connections are refused, and open ones drop; up, the port is the same."""
    with ChaosServer(TEXT) as server:
        port = server.port
        ask(server, "anthropic")
        server.down()
        with pytest.raises(ConnectionRefusedError):
            ask(server, "anthropic")
        server.up()
        assert (ask(server, "anthropic").how, server.port) == ("end", port)


def test_a_port_that_is_taken() -> None:
    with ChaosServer(TEXT) as server, pytest.raises(OSError, match="in use"), ChaosServer(TEXT, port=server.port):
        pass


def test_a_port_of_ones_own() -> None:
    port = closed_port()
    with ChaosServer(TEXT, port=port) as server:
        assert server.url == f"http://127.0.0.1:{port}"


def test_many_threads_ask_at_once() -> None:
    """Each gets its whole answer, and has a record with a number of its own."""
    with ChaosServer(TEXT, faults=lambda served: "reset" if served.number % 3 == 0 else None) as server:
        how: list[str] = []

        def client(dialect: str) -> None:
            for _ in range(10):
                how.append(ask(server, dialect).how)  # noqa: PERF401 - from many threads

        threads = [threading.Thread(target=client, args=(dialect,)) for dialect in (*DIALECTS, *DIALECTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (how.count("end"), how.count("reset")) == (40, 20)
        assert sorted(served.number for served in server.requests) == list(range(60))


def test_events_come_at_a_rate() -> None:
    """So many a second, no faster; what comes first does not wait for what comes last."""
    with ChaosServer(Script(*"abcdefgh"), rate=200) as server:
        assert len(ask(server, "openai-chat").chunks) == 12
        served = server.requests[0]
        assert served.lasted >= 11 / 200


def test_a_client_that_keeps_its_connection_has_not_left() -> None:
    """The error says how far its answer is."""
    with ChaosServer(TEXT) as server:
        rxstream.stream("compatible:m", "hi", base_url=server.base_url("openai-chat")).run()
        with pytest.raises(TimeoutError, match=r"has not left within 0\.01 s; its answer: complete"):
            server.wait_left(timeout=0.01)
    with ChaosServer(TEXT, faults="hang") as server:
        session = rxstream.stream("compatible:m", "hi", base_url=server.base_url("openai-chat")).start(
            lambda _: None, lambda _: None
        )
        while not server.requests:
            time.sleep(0.001)
        with pytest.raises(TimeoutError, match="its answer: goes on, phase"):
            server.wait_left(timeout=0.01)
        session.cancel()
        assert server.wait_left().left.is_set
