"""``rxstream chaos-server`` as a person meets it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rxstream.cli import main
from rxstream.testing.chaos import FAULTS, ChaosServer, Script, closed_port, render
from tests.support.raw import PATHS, Raw, request
from tests.support.terminal import COMMAND, environment

ASK = {"stream": True}


class Running:
    """The command, while it serves."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self._out = process.stdout
        self.greeting = ""
        while "Ctrl-C" not in self.greeting:
            line = self._out.readline()
            assert line, f"it did not start: {self.greeting}"
            self.greeting += line
        found = re.search(r"http://[\d.:]+", self.greeting)
        assert found is not None
        self.url = found[0]

    def ask(self, dialect: str = "anthropic") -> Raw:
        return request(self.url + PATHS[dialect], body=ASK)

    def line(self) -> str:
        """The next line, without the time of day."""
        return re.sub(r"^\d\d:\d\d:\d\d ", "", self._out.readline().rstrip("\n"))

    def end(self) -> tuple[int, str]:
        """Ctrl-C: the exit code, and what it says last."""
        self._process.send_signal(signal.SIGINT)
        rest = self._out.read()
        return self._process.wait(30), rest


@contextmanager
def serving(*arguments: str) -> Iterator[Running]:
    with subprocess.Popen(
        [*COMMAND, "chaos-server", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    ) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


def test_it_serves_says_what_was_asked_and_ends_with_ctrl_c() -> None:
    """Addresses to copy; a line for each request; faults in turn, several in one answer."""
    with serving("--text", "Hello world", "--fault", "none", "--fault", "429", "--fault", "gzip+end:at=20") as server:
        assert f"export ANTHROPIC_BASE_URL={server.url} " in server.greeting
        assert f"export OPENAI_BASE_URL={server.url}/v1 " in server.greeting
        assert [server.ask().status for _ in range(4)] == [200, 429, 200, 200]
        request(f"{server.url}/v1/models?key=sk-secret\x1b[31m", "GET")
        lines = [server.line() for _ in range(5)]
        assert re.match(r"POST /v1/messages · no fault · complete · 8 events, \d+ bytes$", lines[0])
        assert re.match(r"POST /v1/messages · 429 · refused · 0 events, \d+ bytes$", lines[1])
        assert re.match(r"POST /v1/messages · gzip \+ end:at=20 · end · 0 events, \d+ bytes$", lines[2])
        assert lines[3].startswith("POST /v1/messages · no fault · complete")
        assert lines[4] == "GET /v1/models?key=…"
        assert server.end() == (0, "\n5 requests\n")


def test_it_says_when_the_client_left() -> None:
    with serving("--fault", "stall:content=1") as server:
        request(server.url + PATHS["openai-chat"], body=ASK, until=lambda body: b"The" in body)
        told = r"POST /v1/chat/completions · stall:content=1 · left · 2 events, \d+ bytes; the client left in output "
        assert re.match(told + r"after \d+\.\d{3} s$", server.line())
        assert server.end()[0] == 0


def test_ctrl_c_in_the_midst_of_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """It is broken off; the other faults take turns."""
    port = closed_port()

    def client() -> None:
        url = f"http://127.0.0.1:{port}{PATHS['anthropic']}"
        answered: list[int] = []
        while not answered:
            with contextlib.suppress(ConnectionRefusedError):
                answered.append(request(url, body=ASK).status)
        request(url, body=ASK, until=lambda body: b"The" in body)
        os.kill(os.getpid(), signal.SIGINT)

    asking = threading.Thread(target=client)
    asking.start()
    assert main(["chaos-server", "--port", str(port), "--fault", "529", "--fault", "stall"]) == 0
    asking.join()
    shown = capsys.readouterr().out
    assert re.search(r"POST /v1/messages · 529 · refused · 0 events, \d+ bytes\n", shown)
    assert re.search(r"\n[12] requests\n$", shown)


def test_scripts_and_tapes_from_files(tmp_path: Path) -> None:
    script, tape = tmp_path / "script.json", tmp_path / "tape.sse"
    script.write_text('{"parts": ["from a file"]}')
    tape.write_bytes(body := b": mine\n\n" + b"".join(render(Script("from a tape"), "openai-chat")))
    with serving("--script", str(script), "--rate", "500") as server:
        assert b"from a file" in server.ask("openai-responses").body
    with serving("--tape", str(tape), "--dialect", "openai-chat") as server:
        assert server.ask("openai-chat").body == body
        assert b"from a tape" in server.ask().body


def test_faults_by_chance() -> None:
    """The same seed, the same faults."""

    def told() -> list[str]:
        with serving("--seed", "3", "--probability", "0.5", "--fault", "429", "--fault", "529") as server:
            for _ in range(12):
                server.ask()
            return [server.line().split(" · ")[1] for _ in range(12)]

    first = told()
    assert first == told()
    assert set(first) == {"no fault", "429", "529"}


def test_what_can_go_wrong_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chaos-server", "--list-faults"]) == 0
    shown = capsys.readouterr().out
    for name, words in FAULTS.items():
        assert re.search(rf"^{name} +{re.escape(words)}", shown, re.MULTILINE)
    assert "(place, seconds, pings)" in shown
    assert "overloaded, rate_limit" in shown


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--fault", "restet"], "unknown fault 'restet'; did you mean 'reset'?"),
        (["--fault", "gzip+reset:att=1"], "did you mean 'at'?"),
        (["--port", "70000"], "port=70000: must be at most 65535"),
        (["--host", "nowhere.invalid"], "--host nowhere.invalid --port 0: "),
        (["--fault", "429:date=maybe"], "date=maybe is no yes or no"),
        (["--rate", "0"], "rate=0.0: must be greater than 0"),
        (["--probability", "2"], "probability=2.0: must be at most 1"),
        (["--script", "nowhere.json"], "nowhere.json: No such file or directory"),
        (["--dialect", "anthropic"], "--dialect: is that of a --tape"),
        (["--tape", "nowhere.sse"], "--tape nowhere.sse: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chaos-server", *arguments]) == 2
    assert why in capsys.readouterr().err


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with ChaosServer("") as server:
        assert main(["chaos-server", "--port", str(server.port)]) == 2
    assert f"--port {server.port}: " in capsys.readouterr().err


def test_output_that_cannot_be_written() -> None:
    """Has nothing to do with the port."""
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [*COMMAND, "chaos-server"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert (done.returncode, done.stderr) == (1, "rxstream: the output cannot be written: No space left on device\n")
