"""The command as a person meets it: what it understands, what it prints where, and its exit codes."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import sys

import pytest

import rxstream.cli._command as command
from rxstream.cli import main
from rxstream.cli._plain import Plain
from rxstream.cli._track import Track
from rxstream.events import Finished, TextDelta, decode
from rxstream.observable import Stream
from rxstream.sources._pump import pump
from tests.support.scripted import HANG as HANG_FOR_EVER
from tests.support.scripted import Scripted
from tests.support.server import HANG, Head, Script, ScriptedServer, Signal, Tell, Wait, chat, closed_port, page
from tests.support.terminal import COMMAND, Screen, Terminal, environment
from tests.support.virtual_loop import settle, virtual_time

CANARY = "red \x1b[31m title \x1b]0;owned\x07 c1 \x9b31m"
HARMLESS = "red ␛[31m title ␛]0;owned␇ c1 �31m"


def ask(server: ScriptedServer, *more: str) -> list[str]:
    """Arguments that ask the scripted server."""
    return ["-m", "compatible:m", "--base-url", f"{server.url}/v1", *more]


def pieces(text: str) -> list[bytes]:
    """An answer in which every character is a delta."""
    return chat(*text, usage=None)


# --- what it prints ---------------------------------------------------------------------------------------------------------


def test_an_answer_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """And its figures to standard error; the options go to the model."""
    with ScriptedServer(chat("Hello ", "world")) as server:
        assert main(ask(server, "-s", "be brief", "-t", "0.5", "--max-tokens", "9", "two", "words")) == 0
        sent = server.requests[0].json
    assert sent["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "two words"}]
    assert (sent["temperature"], sent["max_tokens"]) == (0.5, 9)
    shown = capsys.readouterr()
    assert shown.out == "Hello world\n"
    assert shown.err.startswith("compatible:m · first token 0.")


def test_it_asks_again_if_it_is_told_to(capsys: pytest.CaptureFixture[str]) -> None:
    """That it did is said on standard error; without the option it fails."""
    with ScriptedServer(page(503, ""), chat("Hello")) as server:
        assert main(ask(server, "--retries", "1", "hi")) == 0
    shown = capsys.readouterr()
    assert shown.out == "Hello\n"
    assert shown.err.startswith("compatible:m: Overloaded, asking again")
    with ScriptedServer(page(503, "")) as server:
        assert main(ask(server, "hi")) == 1
    for wrong in ("-1", "some"):
        with pytest.raises(SystemExit, match="2"):
            main(ask(server, "--retries", wrong, "hi"))
        assert f"--retries: {wrong!r}: must be a whole number of at least 0" in capsys.readouterr().err


def test_two_models_are_asked_at_the_same_time(capsys: pytest.CaptureFixture[str]) -> None:
    """The first answers only when the second was asked; the same model twice has numbers."""
    both = Signal()
    with ScriptedServer([*chat("one")[:1], Wait(both), *chat("one")[1:]], [Tell(both), Head(), *chat("two")]) as server:
        assert main(ask(server, "-m", "compatible:m", "-q", "hi")) == 0
    shown = capsys.readouterr()
    assert "## compatible:m #1\n\n" in shown.out
    assert "## compatible:m #2\n\n" in shown.out
    assert shown.err == ""


def test_events_are_printed_as_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing else on standard output."""
    with ScriptedServer(chat("a", CANARY)) as server:
        assert main(ask(server, "--events", "hi")) == 0
    lines = capsys.readouterr().out.splitlines()
    events = [decode(line) for line in lines]
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["a", CANARY]
    assert isinstance(events[-1], Finished)
    assert all(char.isprintable() for line in lines for char in line)


@pytest.mark.parametrize("more", [["--plain"], ["--quiet"]])
def test_no_escape_of_a_model_gets_out(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Not in one piece, and not split over deltas."""
    with ScriptedServer(pieces(CANARY)) as server:
        assert main(ask(server, *more, "hi")) == 0
    assert capsys.readouterr().out == HARMLESS + "\n"


# --- what it asks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["-"], []])
def test_the_prompt_may_come_from_standard_input(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for, or because nothing else was given."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe\n"))
    with ScriptedServer(chat("ok")) as server:
        assert main(ask(server, *arguments)) == 0
        assert server.requests[0].json["messages"][0]["content"] == "from a pipe\n"


def test_a_word_of_the_command_may_be_a_prompt() -> None:
    """Behind ``--``."""
    with ScriptedServer(chat("ok")) as server:
        assert main(ask(server, "--", "demo")) == 0
        assert server.requests[0].json["messages"][0]["content"] == "demo"


class AtTheKeyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stdin", "prompt", "words"),
    [
        (AtTheKeyboard(), [], 'there is no prompt; try: rxstream "Why is the sky blue?"'),
        (None, [], "there is no prompt"),
        (io.StringIO(" \n"), ["-"], "the prompt is empty"),
        (io.StringIO(), [""], "the prompt is empty"),
        (io.TextIOWrapper(io.BytesIO(b"caf\xe9"), "utf-8"), ["-"], "the prompt is not utf-8 text"),
        (io.StringIO(), ["caf\udce9"], "the prompt is not utf-8 text"),
    ],
)
def test_a_prompt_that_is_none_is_refused(
    stdin: object, prompt: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is asked or loaded."""
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["-m", "compatible:m", "--base-url", "http://127.0.0.1:1/v1", *prompt]) == 2
    assert capsys.readouterr().err.startswith(f"rxstream: {words}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "opnai:gpt", "hi"], "unknown provider 'opnai'"),
        (["-m", "gpt-5", "hi"], "write openai:gpt-5"),
        (["-m", "openai:", "hi"], "names no model"),
        (["-m", "anthropic:claude", "hi"], "set ANTHROPIC_API_KEY"),
        (["-m", "compatible:m", "--base-url", "nonsense", "hi"], "base_url"),
        (["-m", "compatible:m", "--base-url", "http://x", "--max-tokens", "0", "hi"], "max_tokens"),
        (["-m", "compatible:m", "--base-url", "http://x", "--timeout", "-1", "hi"], "total: must be greater than 0"),
        (["demo", "-m", "nobody:x", "hi"], "unknown provider 'nobody'"),
        (["-m", "nobody:\x1b[31m", "hi"], "unknown provider 'nobody'"),
    ],
)
def test_what_cannot_be_asked_is_said(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line that says what to do; the exit code is 2 and nothing was sent."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("rxstream: ")
    assert words in shown.err
    assert shown.err.count("\n") == 1
    assert "\x1b" not in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    "arguments", [["-t", "hot", "x"], ["--nonsense"], ["--plain", "--events", "x"], ["models", "x"]]
)
def test_arguments_that_are_none_are_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """By the usage; the exit code is 2."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: rxstream" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["models", "--help"], ["--version"]])
def test_help_and_version_are_there(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """They say the name and end well."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0
    assert "rxstream" in capsys.readouterr().out


# --- what goes wrong --------------------------------------------------------------------------------------------------------

REFUSED = '{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key \\u001b[31m"}}'


def test_a_wrong_key_is_an_error_that_holds_no_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the provider's words, made harmless."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-wrong")
    with ScriptedServer(page(401, REFUSED, content_type="application/json")) as server:
        assert main(["-m", "anthropic:claude", "--base-url", server.url, "hi"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert r"anthropic:claude: AuthError: invalid x-api-key \x1b[31m" in shown.err
    assert "sk-ant-wrong" not in shown.err


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (chat("half of it", terminal=False), "StreamIncomplete"),
        (page(200, "<html>\x1b[31m"), "UnexpectedContentType"),
        (page(500, "{}", content_type="application/json"), "ServerFault"),
        ([Head(), HANG], "TimedOut"),
    ],
)
def test_a_stream_that_fails_is_exit_code_1(script: Script, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What arrived is printed all the same."""
    with ScriptedServer(script) as server:
        assert main(ask(server, "--timeout", "0.5" if words == "TimedOut" else "30", "hi")) == 1
    shown = capsys.readouterr()
    assert words in shown.err
    assert "\x1b" not in shown.err
    assert shown.out == ("half of it\n" if words == "StreamIncomplete" else "")


def test_no_server_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens there."""
    assert main(["-m", "compatible:m", "--base-url", f"http://127.0.0.1:{closed_port()}/v1", "hi"]) == 1
    assert "ConnectError" in capsys.readouterr().err


def test_what_is_found_wrong_only_later_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that goes between the check and the request."""

    def gone(_track: object) -> None:
        monkeypatch.delenv("ANTHROPIC_API_KEY")

    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant")
    monkeypatch.setattr("rxstream.cli._track.Track.preload", gone)
    assert main(["-m", "anthropic:claude", "hi"]) == 2
    assert "set ANTHROPIC_API_KEY" in capsys.readouterr().err


def test_outputs_that_are_closed_are_no_crash(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python has None in their place."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", None)
        assert main(["-m", "compatible:m", "hi"]) == 1
    assert "it is closed" in capsys.readouterr().err
    with ScriptedServer(chat("ok")) as server, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", None)
        assert main(ask(server, "hi")) == 0
    assert capsys.readouterr().out == "ok\n"


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/full")
def test_an_output_that_breaks_is_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full one is explained, a reader that went is not; nothing is tried again when the interpreter ends."""
    reader, writer = os.pipe()
    os.close(reader)
    with ScriptedServer(chat("ok")) as server:
        for output, words in ((open("/dev/full", "w"), "No space left on device"), (open(writer, "w"), "")):  # noqa: PTH123, SIM115
            with output, monkeypatch.context() as patched:
                patched.setattr(sys, "stdout", output)
                assert main(ask(server, "-q", "hi")) == 1
            assert words in capsys.readouterr().err


@virtual_time
async def test_ctrl_c_cancels_every_track_and_shows_what_they_said() -> None:
    """The loop cancels the command; the command closes the requests and finishes its output."""
    scripted = Scripted(["kept", HANG_FOR_EVER])
    track = Track(Stream.of(pump(scripted.source()), label="x"), target="compatible:m", base_url="http://x")
    out = io.StringIO()
    running = asyncio.ensure_future(command._stream([track], Plain(out, io.StringIO())))
    await asyncio.sleep(1.0)
    running.cancel()
    assert await running == 130
    await settle()
    assert (scripted.running, out.getvalue(), track.session.status) == (0, "kept\n", "cancelled")


def test_without_rich_the_text_is_plain(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And how to get the picture is said."""
    monkeypatch.setitem(sys.modules, "rich", None)
    for name in [name for name in sys.modules if name in ("rxstream.cli._show", "rxstream.cli._rows")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with ScriptedServer(chat("ok")) as server:
        assert main(ask(server, "-q", "hi")) == 0
    shown = capsys.readouterr()
    assert shown.out == "ok\n"
    assert shown.err == "rxstream: for the live picture: pip install 'rxstream[cli]'\n"


def test_ctrl_c_while_it_loads_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """At any moment from the start."""

    def interrupted(_arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupted)
    assert main(["hi"]) == 130


# --- processes of their own ---------------------------------------------------------------------------------------------------


def start(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, env=environment()
    )


def end(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    out, err = process.communicate(timeout=60)
    return (out or b"").decode(), err.decode()


def test_ctrl_c_closes_the_request_and_keeps_the_answer() -> None:
    """The exit code is 130, the server sees the close, and nothing but the figures is on standard error."""
    with ScriptedServer([Head(), *chat("kept so far", terminal=False), HANG]) as server:
        process = start(*ask(server, "hi"))
        assert process.stdout is not None
        assert process.stdout.read(11) == b"kept so far"
        process.send_signal(2)
        out, err = end(process)
        server.requests[0].left.wait()
    assert process.returncode == 130
    assert out == "\n"
    assert err.startswith("compatible:m · first token")
    assert err.endswith("cancelled\n")
    assert err.count("\n") == 1


def test_a_reader_that_goes_ends_it_quietly() -> None:
    """As with ``| head``: the request is closed, and nothing is said."""
    go_on = Signal()
    script: Script = [Head(), *chat("first", terminal=False), Wait(go_on), *chat(*["more "] * 50, terminal=False), HANG]
    with ScriptedServer(script) as server:
        process = start(*ask(server, "hi"))
        assert process.stdout is not None
        assert process.stdout.read(5) == b"first"
        process.stdout.close()
        go_on.set()
        assert process.stderr is not None
        err = process.stderr.read()
        process.stderr.close()
        assert process.wait(60) == 1
        server.requests[0].left.wait()
    assert err == b""


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/full")
def test_an_output_that_is_full_is_said() -> None:
    """Once, without a traceback."""
    with ScriptedServer(chat("much")) as server, open("/dev/full", "wb") as full:  # noqa: PTH123 - a file for a process
        process = start(*ask(server, "hi"), stdout=full.fileno())
        _, err = end(process)
    assert process.returncode == 1
    assert err == "rxstream: the output cannot be written: No space left on device\n"


# --- in a terminal ------------------------------------------------------------------------------------------------------------


def two(server: ScriptedServer) -> Terminal:
    """A terminal in which two models are asked."""
    return Terminal(*ask(server, "-m", "compatible:n", "hi"), columns=90)


def test_in_a_terminal_the_answer_stays_with_its_figures() -> None:
    """And "getting ready" does not."""
    with ScriptedServer(chat("Hello ", "world.\n", "Bye.")) as server, Terminal(*ask(server, "hi")) as terminal:
        assert terminal.finish() == 0
    first, second, figures = terminal.screen.text.splitlines()
    assert (first, second) == ("Hello world.", "Bye.")
    assert figures.startswith("compatible:m · first token 0.")
    assert not terminal.screen.cursor_hidden


def test_in_a_terminal_two_stand_beside_each_other() -> None:
    """While they run on a screen of their own, at the end on the usual one."""
    with ScriptedServer(chat("alpha"), chat("beta")) as server, two(server) as terminal:
        assert terminal.finish() == 0
    rows = terminal.screen.text.splitlines()
    assert rows[0].count("╭") == 2
    assert "compatible:m" in rows[0]
    assert "compatible:n" in rows[0]
    assert sorted(rows[1].replace("│", " ").split()) == ["alpha", "beta"]
    assert "first to finish" in rows[-1]
    assert not terminal.screen.on_second
    assert not terminal.screen.cursor_hidden


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_in_a_terminal_leaves_it_in_order(number: int, code: int) -> None:
    """And so does what else would end it: the second screen is left, the cursor is there, the words are kept, no traceback."""
    with ScriptedServer([Head(), *chat("kept so far", terminal=False), HANG]) as server:
        with two(server) as terminal:
            terminal.read_until("││ kept so far")
            assert b"\x1b[?1049h" in terminal.received
            terminal.interrupt(number)
            assert terminal.finish() == code
        for request in server.requests:
            request.left.wait()
    text = terminal.screen.text
    assert not terminal.screen.on_second
    assert not terminal.screen.cursor_hidden
    assert text.count("kept so far") == 2
    assert text.count("cancelled") == 2
    assert "Traceback" not in text


@pytest.mark.parametrize("ignored", [None, signal.SIGINT, signal.SIGTERM])
def test_what_ends_it_is_left_to_those_who_ignore_it(monkeypatch: pytest.MonkeyPatch, ignored: int | None) -> None:
    """A script's background job hears no SIGINT, so SIGTERM must end it; afterwards all is as it was."""
    during: list[object] = []

    def run(_: object) -> int:
        during.append(signal.getsignal(signal.SIGTERM))
        return 0

    monkeypatch.setattr(command, "run", run)
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if ignored is not None:
            signal.signal(ignored, signal.SIG_IGN)
        assert main([]) == 0
        after = signal.getsignal(signal.SIGTERM)
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
    expected = signal.SIG_IGN if ignored == signal.SIGTERM else signal.SIG_DFL
    assert after == expected
    assert (during == [expected]) is (ignored is not None)


def test_a_window_that_changes_is_drawn_anew() -> None:
    """Two columns become one."""
    go_on = Signal()
    slow: Script = [Head(), *chat("word " * 8, terminal=False), Wait(go_on), *chat("end")[1:]]
    with ScriptedServer(slow) as server, two(server) as terminal:
        terminal.read_until("││ word")
        terminal.resize(columns=40, lines=20)
        terminal.read_until("╯\n╭")
        go_on.set()
        assert terminal.finish() == 0
    assert sum("╭" in row for row in terminal.screen.text.splitlines()) == 2


def test_a_window_without_skills_gets_plain_text() -> None:
    """``TERM=dumb`` is no place for a picture."""
    with ScriptedServer(chat("plain")) as server, Terminal(*ask(server, "hi"), env={"TERM": "dumb"}) as terminal:
        assert terminal.finish() == 0
    assert b"\x1b" not in terminal.received
    assert terminal.screen.text.startswith("plain\n")


@pytest.mark.parametrize("more", [[], ["-m", "compatible:n"]])
def test_no_escape_of_a_model_reaches_the_terminal(more: list[str]) -> None:
    """Every escape that is received is one that an answer without any has, too: rich's own."""

    def escapes(text: str) -> set[bytes]:
        drawn = Signal()  # so that both answers are seen running, and then done
        whole = pieces(text)
        script: Script = [Head(), *whole[:-2], Wait(drawn), *whole[-2:]]
        with ScriptedServer(script) as server, Terminal(*ask(server, *more, "hi"), columns=120) as terminal:
            terminal.read_until("title")
            drawn.set()
            assert terminal.finish() == 0
        assert not {"\x9b", "\x07"} & set(terminal.received.decode())
        return {found[0] for found in re.finditer(rb"\x1b[^a-zA-Z]*[a-zA-Z]", terminal.received)}

    harmful, plain = escapes(CANARY), escapes("a plain title")
    assert plain
    assert harmful <= plain


def test_the_emulator_obeys_what_gets_out() -> None:
    """So the test above can fail."""
    screen = Screen(20, 3)
    screen.feed(b"was here\x1b[2J\x1b[Hgone\x1b[?25l\x1b[?10")
    screen.feed(b"49hpicture")
    assert (screen.text, screen.picture, screen.cursor_hidden) == ("gone", "picture", True)
