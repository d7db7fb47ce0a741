"""A scripted HTTP server on the loopback: full control over every byte of an answer, and a record of what the client did.

Rules of this module:

* `ScriptedServer(first, second, …)` gives the n-th request the n-th script; the last one is used again for all further.
* A script is a list of steps or an async function that takes an `Exchange`. In a list, ``bytes`` are a piece of the body
  (one HTTP chunk), everything else is a step below. A list that opens with a piece gets the head of an event stream
  before it; one that does not end the answer itself gets a proper end after it.
* The server runs in a thread of its own and nothing in it sleeps: tests and scripts meet at a `Signal`.
* When the client leaves, the time is noted and its script is cancelled.
* The builders `chat`, `messages` and `responses` give the pieces of a good answer, one event each.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.answers import chat, messages, responses, sse
from tests.support.steps import (
    CLOSE,
    END,
    HALF_CLOSE,
    HANG,
    PATIENCE,
    RESET,
    Ending,
    Head,
    Signal,
    Step,
    Tell,
    Wait,
    Wire,
)

__all__ = [
    "CLOSE",
    "END",
    "HALF_CLOSE",
    "HANG",
    "RESET",
    "Exchange",
    "Head",
    "Recorded",
    "Script",
    "ScriptedServer",
    "Signal",
    "Step",
    "Tell",
    "Wait",
    "Wire",
    "chat",
    "closed_port",
    "messages",
    "page",
    "responses",
    "sse",
]


@dataclass
class Recorded:
    """One request, and how its answer went."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    connection: int
    """Number of the TCP connection it came on, from 0."""
    written: int = 0
    """Bytes of the answer that the kernel took."""
    left_at: float | None = None
    """`time.monotonic` when the client was seen to leave before the answer's end, or on the idle connection after it."""
    left: Signal = field(default_factory=Signal)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Exchange:
    """One request being answered: what an async script works with."""

    def __init__(self, request: Recorded, connection: _Connection) -> None:
        self.request = request
        self._connection = connection
        self._chunked = False

    async def wire(self, data: bytes) -> None:
        """Send bytes as they are; returns when the kernel has taken them."""
        await self._connection.write(data)
        self.request.written += len(data)

    async def head(self, head: Head | None = None) -> None:
        head = head or Head()
        self._chunked = head.chunked
        lines = [f"HTTP/1.1 {head.status} Scripted"]
        if head.content_type is not None:
            lines.append(f"Content-Type: {head.content_type}")
        lines.append("Transfer-Encoding: chunked" if head.chunked else "Connection: close")
        lines += [f"{name}: {value}" for name, value in head.headers.items()]
        await self.wire("\r\n".join([*lines, "", ""]).encode())

    async def send(self, data: bytes) -> None:
        """A piece of the body: one HTTP chunk if the head said so; an empty one, which would be the end, is not sent."""
        if data:
            await self.wire(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """The body's proper end."""
        if self._chunked:
            await self.wire(b"0\r\n\r\n")
        else:
            self._connection.close()

    def close(self) -> None:
        """FIN, both directions."""
        self._connection.close()

    def reset(self) -> None:
        """RST."""
        self._connection.reset()

    def half_close(self) -> None:
        """FIN in our direction."""
        self._connection.half_close()

    async def hang(self) -> None:
        """Wait until the client leaves (which cancels the script)."""
        await asyncio.Event().wait()

    async def play(self, steps: Sequence[Step]) -> None:
        """The steps of a list, as they are: no head and no end are added."""
        for step in steps:
            match step:
                case bytes():
                    await self.send(step)
                case Head():
                    await self.head(step)
                case Wire():
                    await self.wire(step.data)
                case Wait():
                    await step.signal.wait_async()
                case Tell():
                    step.signal.set()
                case Ending():
                    await self._finish(step)

    async def _finish(self, ending: Ending) -> None:
        if ending is END:
            await self.end()
        elif ending is CLOSE:
            self.close()
        elif ending is RESET:
            self.reset()
        else:
            if ending is HALF_CLOSE:
                self.half_close()
            await self.hang()


Script = Sequence[Step] | Callable[[Exchange], Awaitable[None]]


class _Connection(asyncio.Protocol):
    """One TCP connection: reads requests one after the other, plays their scripts, sees the client leave."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._more = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._current: Recorded | None = None
        self._ours = False
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)  # so that a write returns when the kernel has the bytes
        self._number = self._server.connections
        self._server.connections += 1
        self._task = asyncio.get_running_loop().create_task(self._serve())
        self._server.track(self, self._task)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._more.set()

    def eof_received(self) -> bool:
        self._client_left()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ours:
            self._client_left()
        self._task.cancel()
        self._server.forget(self)
        self.gone.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _client_left(self) -> None:
        if self._current is not None and self._current.left_at is None:
            self._current.left_at = time.monotonic()
            self._current.left.set()
        self._task.cancel()

    async def write(self, data: bytes) -> None:
        if self._ours:
            raise RuntimeError("the script writes after it has closed the connection")
        self._transport.write(data)
        await asyncio.sleep(0)  # a client that leaves is seen, even by a script that never waits
        await self._writable.wait()

    def close(self) -> None:
        self._ours = True
        self._transport.close()

    def abort(self) -> None:
        self._ours = True
        self._task.cancel()  # its script has not done this, and is not to blame for writing on
        self._transport.abort()

    def half_close(self) -> None:
        self._transport.write_eof()

    def reset(self) -> None:
        self._ours = True
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    async def _read_until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._more.clear()
            await self._more.wait()

    async def _request(self) -> Recorded:
        await self._read_until(lambda: b"\r\n\r\n" in self._buffer)
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, path, _ = first.split(" ")
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        size = int(headers.get("content-length", "0"))
        await self._read_until(lambda: len(self._buffer) >= len(head) + 4 + size)
        rest = bytes(self._buffer[len(head) + 4 :])
        self._buffer[:] = rest[size:]
        return Recorded(method, path, headers, rest[:size], self._number)

    async def _serve(self) -> None:
        while not self._transport.is_closing():
            request = await self._request()
            script = self._server.script_for(request)
            self._current = request
            exchange = Exchange(request, self)
            try:
                await (script(exchange) if callable(script) else exchange.play(_completed(script)))
            except Exception as exc:  # noqa: BLE001 - handed to the test when the server is left
                self._server.failures.append(exc)
                self._transport.abort()


def _completed(steps: Sequence[Step]) -> list[Step]:
    """The list with the head and the end that it leaves out."""
    whole = list(steps)
    if not any(isinstance(step, (Head, Wire)) for step in whole) and any(isinstance(step, bytes) for step in whole):
        whole.insert(0, Head())
    if not whole or not isinstance(whole[-1], Ending):
        whole.append(END)
    return whole


class ScriptedServer:
    """The server: a context manager, from any thread or coroutine.

    An exception in a script is raised when the context is left.
    """

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self.requests: list[Recorded] = []
        self.connections = 0
        """TCP connections accepted so far."""
        self.failures: list[Exception] = []
        self._live: dict[_Connection, asyncio.Task[None]] = {}
        self._started = Signal()
        self._thread = threading.Thread(target=self._run, name="scripted-server", daemon=True)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``"""
        return f"http://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """TCP connections that neither side has closed."""
        return len(self._live)

    def wait_closed(self, *, since: float, request: int = -1, timeout: float = PATIENCE) -> float:
        """Seconds from `since` (`time.monotonic`) until the client was seen to leave; TimeoutError if it does not."""
        recorded = self.requests[request]
        recorded.left.wait(timeout)
        assert recorded.left_at is not None
        return recorded.left_at - since

    def script_for(self, request: Recorded) -> Script:
        self.requests.append(request)
        return self._scripts[min(len(self.requests), len(self._scripts)) - 1]

    def track(self, connection: _Connection, task: asyncio.Task[None]) -> None:
        self._live[connection] = task

    def forget(self, connection: _Connection) -> None:
        self._live.pop(connection, None)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        if self.failures:
            raise self.failures[0]

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        listener = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1024)
        self.port: int = listener.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        for _ in range(5):  # a connection that is just being accepted comes up before the listener goes
            await asyncio.sleep(0)
        listener.close()
        live = dict(self._live)
        for connection in live:
            connection.abort()
        await asyncio.gather(*live.values(), *(connection.gone.wait() for connection in live), return_exceptions=True)


def page(status: int, body: bytes | str, *, content_type: str = "text/html", **headers: str) -> list[Step]:
    """A whole answer that is no stream; `headers` with underscores for dashes."""
    raw = body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [Head(status, content_type, named), raw, END]


def closed_port() -> int:
    """A port of the loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
