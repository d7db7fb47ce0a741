"""The scripted server under it: what its other users do not try."""

from __future__ import annotations

import socket

import pytest

from rxstream.testing.chaos import END, Head, Pause, ScriptedServer, chat, closed_port, page
from tests.support.raw import request


def test_a_stranger_is_sent_away() -> None:
    """What is not HTTP gets no answer, and does no harm."""
    with ScriptedServer(chat("hi")) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            sock.sendall(b"hello\r\n\r\n")
            assert sock.recv(10) == b""
        assert request(server.url, body={}).how == "end"
        assert len(server.requests) == 1


def test_a_page_has_headers() -> None:
    with ScriptedServer(page(418, "short", headers={"X-Kind": "teapot"})) as server:
        raw = request(server.url, body={})
    assert (raw.status, raw.body, raw.headers["x-kind"]) == (418, b"short", "teapot")


def test_a_script_may_pause() -> None:
    with ScriptedServer([Head(), b"a", Pause(0.01), b"b", END]) as server:
        assert request(server.url, body={}).chunks == [b"a", b"b"]


def test_nobody_listens_on_a_closed_port() -> None:
    with pytest.raises(ConnectionRefusedError):
        request(f"http://127.0.0.1:{closed_port()}", body={})


def test_how_long_the_client_took_to_leave() -> None:
    with ScriptedServer(chat("hi")) as server:
        assert request(server.url, body={}).how == "end"
        assert server.wait_closed(since=server.requests[0].came_at) >= 0
        assert server.requests[0].json == {}


def test_a_request_may_come_in_chunks() -> None:
    """Of a client that does not know its length; wherever the bytes are split, and another request after it."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent = head + b"4;note=x\r\n[1,2\r\n1\r\n]\r\n0\r\n\r\n" + b"POST /next HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    for split in range(len(head) - 2, len(sent)):
        with ScriptedServer(page(200, "yes"), page(200, "no")) as server:
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
                sock.sendall(sent[:split])
                sock.sendall(sent[split:])
                answered = b""
                while not answered.endswith(b"no\r\n0\r\n\r\n"):
                    answered += sock.recv(65_536)
            assert [request.json for request in server.requests] == [[1, 2], {}]
