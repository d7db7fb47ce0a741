"""A proxy on the loopback that cuts connections: each response after as many bytes of its body, give or take its frames."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Self
from urllib.parse import urlsplit

__all__ = ["Cutter"]


class Cutter:
    """Stands before the server at `url`; an asynchronous context manager.

    The n-th request that asks for a stream is cut after as many bytes as the n-th of `cuts` says; all others are whole.
    """

    def __init__(self, url: str, cuts: Sequence[int]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._cuts = list(cuts)
        self.requests: list[str] = []
        """Method and path of each."""

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            size = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(size[1])) if size else b""
            method, path, _ = head.partition(b"\r\n")[0].decode().split(" ")
            self.requests.append(f"{method} {path}")
            left = self._cuts.pop(0) if self._cuts and method != "DELETE" else None
            above, to = await asyncio.open_connection(self._host, self._port)
            to.write(head + body)
            while data := await above.read(512):
                writer.write(data[:left])
                await writer.drain()
                if left is not None and (left := left - len(data)) <= 0:
                    break
            to.close()
        finally:
            writer.close()
