"""A server in a process of its own that answers in one burst: what a client costs is not mixed with what its server costs.

It is run as a file, and imports nothing of ours, so it starts at once. Its standard input gives it a line with the answers' names
and sizes, as JSON, and then the answers; it prints its port, and serves until its standard input is closed. A request gets the
answer whose name it holds.
"""

from __future__ import annotations

import json
import os
import socketserver
import sys
import threading

__all__ = ["serve"]

_TOGETHER = 65536
"""Bytes that are written at once."""


def serve() -> None:
    """Read the answers, print the port, serve."""
    given = sys.stdin.buffer
    answers = {name.encode(): given.read(size) for name, size in json.loads(given.readline()).items()}

    class Handler(socketserver.StreamRequestHandler):
        """One request."""

        def handle(self) -> None:
            """Read it, and answer."""
            size = 0
            while line := self.rfile.readline().strip():
                name, _, value = line.partition(b":")
                size = int(value) if name.lower() == b"content-length" else size
            body = self.rfile.read(size)
            answer = next(answer for name, answer in answers.items() if name in body)
            for at in range(0, len(answer), _TOGETHER):
                self.wfile.write(answer[at : at + _TOGETHER])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)  # noqa: T201 - whoever started it reads it
        os.read(0, 1)


if __name__ == "__main__":
    serve()
