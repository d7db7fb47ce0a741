"""A scripted HTTP server: full control over every byte of an answer, and a record of what the client did.

Rules of this module:

* `ScriptedServer(first, second, …)` gives the n-th request the n-th script; the last one is used again for all further.
* A script is a list of steps or an async function that takes an `Exchange`. In a list, ``bytes`` are a piece of the body
  (one HTTP chunk), everything else is a step. A list that opens with a piece gets the head of an event stream before it; one
  that does not end the answer itself gets a proper end after it.
* The server runs in a thread of its own and nothing in it sleeps unless told to: tests and scripts meet at a `Signal`.
* When the client leaves, the time is noted and its script is cancelled.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, cast

from rxstream.testing.chaos._exchange import Exchange, Headers, Play, Recorded
from rxstream.testing.chaos._steps import END, PATIENCE, Ending, Head, Signal, Step, Wire

__all__ = ["ScriptedServer", "closed_port", "page"]


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
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)  # so that a write returns when the kernel has the bytes
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

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
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
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        pairs = (line.split(":", 1) for line in lines)
        headers = Headers((name.strip().lower(), value.strip()) for name, value in pairs)
        self._buffer[:] = rest
        if "chunked" in headers.get("transfer-encoding", ""):
            body = await self._chunks()
        else:
            body = await self._take(int(headers.get("content-length", "0")))
        return Recorded(method, path, headers, body, self._number)

    async def _take(self, size: int) -> bytes:
        await self._read_until(lambda: len(self._buffer) >= size)
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def _chunks(self) -> bytes:
        """The body of a request whose length its client did not know."""
        body = b""
        while True:
            await self._read_until(lambda: b"\r\n" in self._buffer)
            line = await self._take(self._buffer.index(b"\r\n") + 2)
            size = int(line.partition(b";")[0], 16)
            piece = await self._take(size + 2)
            if size == 0:
                return body
            body += piece[:size]

    async def _serve(self) -> None:
        while not self._transport.is_closing():
            try:
                request = await self._request()
            except ValueError:  # not HTTP: a stranger has come
                self.abort()
                return
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

    Args:
        *scripts: What the first request is answered, the second, and so on.
        host: The address that it listens on.
        port: The port; 0 takes a free one.

    Raises:
        OSError: on entering, where the port cannot be had.
        OverflowError: on entering, where there is no such port.
    """

    def __init__(self, *scripts: Play, host: str = "127.0.0.1", port: int = 0) -> None:
        self._scripts = scripts
        self._host = host
        self.port = port
        """The port that it listens on."""
        self.requests: list[Recorded] = []
        """All requests, in the order in which they came."""
        self.connections = 0
        """TCP connections accepted so far."""
        self.failures: list[Exception] = []
        """What scripts raised."""
        self._live: dict[_Connection, asyncio.Task[None]] = {}
        self._started = Signal()
        self._refused: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="scripted-server", daemon=True)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``"""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    @property
    def open_connections(self) -> int:
        """TCP connections that neither side has closed."""
        return len(self._live)

    def wait_closed(self, *, since: float, request: int = -1, timeout: float = PATIENCE) -> float:
        """Seconds from `since` (`time.monotonic`) until the client was seen to leave.

        Raises:
            TimeoutError: it was not, for `timeout` seconds.
        """
        recorded = self.requests[request]
        recorded.left.wait(timeout)
        return (recorded.left_at or since) - since

    def down(self) -> None:
        """Refuse connections from now on, and drop those that are open; from any thread."""
        self._call(self._go_down())

    def up(self) -> None:
        """Listen again, on the same port; from any thread."""
        self._call(self._listen())

    def script_for(self, request: Recorded) -> Play:
        """What a request that has just been read is answered."""
        self.requests.append(request)
        return self._scripts[min(len(self.requests), len(self._scripts)) - 1]

    def track(self, connection: _Connection, task: asyncio.Task[None]) -> None:
        """A connection was accepted."""
        self._live[connection] = task

    def forget(self, connection: _Connection) -> None:
        """A connection is closed."""
        self._live.pop(connection, None)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        if self._refused is not None:
            raise self._refused
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        if self.failures:
            raise self.failures[0]

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _listen(self) -> None:
        self._listener = await self._loop.create_server(
            lambda: _Connection(self), self._host, self.port, backlog=1024, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _go_down(self) -> None:
        self._listener.close()
        for connection in list(self._live):
            connection.abort()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            await self._listen()
        except Exception as error:  # noqa: BLE001 - handed to whoever enters
            self._refused = error
            return
        finally:
            self._started.set()
        await self._stop.wait()
        for _ in range(5):  # a connection that is just being accepted comes up before the listener goes
            await asyncio.sleep(0)
        self._listener.close()
        live = dict(self._live)
        for connection in live:
            connection.abort()
        await asyncio.gather(*live.values(), *(connection.gone.wait() for connection in live), return_exceptions=True)


def page(
    status: int, body: bytes | str, *, content_type: str = "text/html", headers: Mapping[str, str] | None = None
) -> list[Step]:
    """A whole answer that is no stream."""
    raw = body.encode() if isinstance(body, str) else body
    return [Head(status, content_type, headers or {}), raw, END]


def closed_port() -> int:
    """A port of the loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
