"""The local engine in a process of its own: run as a script by `rxstream.sources.local`, imported by nobody.

It reads one line of JSON with its options from stdin and answers with one line on stdout: ``{"url": …}`` or
``{"error": …, "kind": …}``. Then it serves until stdin ends, which happens when the parent stops it, and when it dies.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
from typing import Any

__all__: list[str] = []


def _serve(options: dict[str, Any]) -> Any:
    """Load the model and listen on a free port of this machine; the server runs as long as the object is kept."""
    engine = importlib.import_module("xllamacpp")
    params = engine.CommonParams()
    params.model.path = options["weights"]
    params.model_alias = {options["model"]}
    params.n_ctx = options["n_ctx"]
    params.n_parallel = options["n_parallel"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options["n_threads"]
    if options["chat_template"]:
        params.chat_template = options["chat_template"]
    params.enable_reasoning = 0  # by default a template that can think always thinks, and the answer stays empty
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [options["api_key"]]
    params.cors_origins = "http://127.0.0.1"  # by default any page in a browser may use the server
    params.cors_origins_explicit = True
    params.cors_credentials = False
    params.sse_ping_interval = 1  # while a request waits for its turn it learns only by a ping that the client has left
    params.cache_ram_mib = 128  # prompts kept to be used again, in MiB; 8192 by default
    params.ui = False
    params.offline = True
    params.verbosity = 0
    return engine.Server(params)


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it stops us when it has dealt with it
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the engine may print must not be taken for our answer
    options = json.loads(sys.stdin.readline())
    sys.path[:] = options["path"]
    server: Any = None
    try:
        server = _serve(options)
        answer = {"url": server.listening_address}
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
        answer = {"error": str(error), "kind": type(error).__name__}
    with contextlib.suppress(OSError):  # the parent is gone already
        print(json.dumps(answer), file=answers, flush=True)
        if server is not None:
            sys.stdin.read()
    os._exit(0)  # destroying the server would wait for every request that it still answers


if __name__ == "__main__":
    _main()
