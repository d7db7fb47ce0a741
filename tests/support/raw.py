"""A client of a socket, that sees every byte of an answer and how it ended."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rxstream.testing.chaos import ChaosServer

__all__ = ["PATHS", "Raw", "ask", "request"]

PATHS = {
    "anthropic": "/v1/messages",
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
}
_PATIENCE = 20.0


@dataclass
class Raw:
    """An answer, byte by byte."""

    status: int
    """0 where no head came."""
    headers: dict[str, str]
    body: bytes
    """As it came, without HTTP's own frames."""
    chunks: list[bytes]
    how: str
    """``end`` properly; ``eof`` FIN before that; ``reset`` RST; ``left`` we went."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(server: ChaosServer, dialect: str, *, until: Callable[[bytes], bool] | None = None, **more: Any) -> Raw:
    """Ask for a stream, with `more` in the request, and read it to its end, or until the body is so."""
    headers = more.pop("headers", {})
    body = {"stream": True, "stream_options": {"include_usage": True}, **more}
    return request(server.url + PATHS[dialect], body=body, headers=headers, until=until)


def request(
    url: str,
    method: str = "POST",
    *,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    until: Callable[[bytes], bool] | None = None,
) -> Raw:
    """One request over a connection of its own."""
    parts = urlsplit(url)
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {parts.path}{'?' + parts.query if parts.query else ''} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    head = "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""])
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=_PATIENCE) as sock:
        sock.sendall(head.encode() + data)
        seen = bytearray()
        while True:
            raw = _parsed(bytes(seen))
            if raw.how == "end":
                return raw
            if until is not None and until(raw.body):
                raw.how = "left"
                return raw
            try:
                piece = sock.recv(65_536)
            except ConnectionResetError:
                raw.how = "reset"
                return raw
            if not piece:
                raw.how = "eof"
                return raw
            seen += piece


def _parsed(seen: bytes) -> Raw:
    head, found, rest = seen.partition(b"\r\n\r\n")
    if not found:
        return Raw(0, {}, b"", [], "")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    status = int(first.split()[1])
    if status == 204:
        return Raw(status, headers, b"", [], "end")
    chunks: list[bytes] = []
    while True:
        size, found, after = rest.partition(b"\r\n")
        if not found or len(after) < int(size, 16):
            return Raw(status, headers, b"".join(chunks), chunks, "")
        if size == b"0":
            return Raw(status, headers, b"".join(chunks), chunks, "end")
        chunks.append(after[: int(size, 16)])
        rest = after[int(size, 16) + 2 :]
