"""The handler that writes for a person."""

from __future__ import annotations

import gc
import io
import sys
import weakref
from typing import Any

import pytest

import rxstream
from rxstream.aggregate import aggregate
from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import Finished, Retracted, TextDelta, ToolCall
from rxstream.loop import LoopScheduler
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks.handler import HandlerPolicy, StreamMetadata
from rxstream.sinks.terminal import ConsoleStreamHandler
from tests.support.virtual_loop import virtual_time


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(handler: ConsoleStreamHandler) -> Dispatch:
    made = Dispatch(StreamMetadata(), rxstream.LoopScheduler())
    made.add("h", handler, HandlerPolicy(on_failure="raise"))
    return made


def test_the_answer_is_written_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    rxstream.from_iterable(["to ", "be"]).start(ConsoleStreamHandler("it: ")).result(20)
    assert capsys.readouterr().out == "it: to be\n"


@virtual_time
async def test_nothing_in_it_moves_a_terminal() -> None:
    file = io.StringIO()
    stream = run(ConsoleStreamHandler(file=file))
    stream.on_next(TextDelta(text="red \x1b[31m"))
    stream.on_error(Disconnected("cut \x1b[2J"))
    assert "\x1b" not in file.getvalue()
    assert file.getvalue().startswith("red ␛[31m\nDisconnected: cut ")


@virtual_time
async def test_what_is_taken_back_is_said() -> None:
    file = io.StringIO()
    stream = run(ConsoleStreamHandler("it: ", file=file))
    stream.on_next(TextDelta(text="to be"))
    stream.on_next(Retracted(to_offset=3))
    stream.on_next(TextDelta(text="see"))
    stream.on_next(TextDelta(text="again", attempt=2))
    stream.on_next(Retracted(attempt=1))  # of another attempt than what is on the screen
    assert file.getvalue() == "it: to be\n(taken back; this stands:)\nit: to seeagain"


@pytest.mark.parametrize(("no_color", "red", "plain"), [("", "\x1b[31m", "\x1b[0m"), ("1", "", "")])
@virtual_time
async def test_in_a_terminal_the_prefix_and_an_error_are_styled(
    no_color: str, red: str, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    file = Terminal()
    stream = run(ConsoleStreamHandler("[it] :x: ", file=file))
    stream.on_next(TextDelta(text="[bold]to be[/]"))
    stream.on_error(Disconnected("cut"))
    assert file.getvalue() == f"\x1b[1m[it] :x: \x1b[0m[bold]to be[/]\n{red}Disconnected: cut{plain}\n"


@virtual_time
async def test_a_terminal_without_rich_is_written_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    file = Terminal()
    stream = run(ConsoleStreamHandler("it: ", file=file))
    stream.on_next(TextDelta(text="to be"))
    assert file.getvalue() == "it: to be"


@virtual_time
async def test_a_file_that_knows_few_letters_gets_those() -> None:
    raw = io.BytesIO()
    stream = run(ConsoleStreamHandler(file=io.TextIOWrapper(raw, encoding="ascii")))
    stream.on_next(TextDelta(text="caf\u00e9"))
    assert raw.getvalue() == b"caf?"


@virtual_time
async def test_several_streams_do_not_mix() -> None:
    file = io.StringIO()
    handler = ConsoleStreamHandler("> ", file=file)
    first, second = run(handler), run(handler)
    first.on_next(TextDelta(text="one"))
    second.on_next(Retracted(to_offset=0))  # it has said nothing
    first.on_completed(rxstream.Response())
    assert file.getvalue() == "> one\n"


@virtual_time
async def test_streams_that_are_written_at_once_share_no_line() -> None:
    file = io.StringIO()
    left, right = (run(ConsoleStreamHandler(f"{name}: ", file=file)) for name in ("left", "right"))
    left.start()
    right.start()
    for stream, word in ((left, "to "), (left, "be"), (right, "or\n"), (right, "not "), (left, "\n"), (left, "to be")):
        stream.on_next(TextDelta(text=word))
    right.on_error(Disconnected("cut"))
    left.on_completed(rxstream.Response())
    right.dispose()
    assert file.getvalue().splitlines() == [
        "left: to be",
        "right: or",
        "not ",
        "left: ",
        "to be",
        "right: Disconnected: cut",
    ]
    assert file.getvalue().endswith("\n")


@pytest.mark.parametrize(("said", "shown"), [("to be", "it: to be\n"), ("to be\n", "it: to be\n"), ("", "it: \n")])
@pytest.mark.parametrize("end", ["complete", "dismissed"])
@virtual_time
async def test_a_line_that_was_begun_is_ended_once(said: str, shown: str, end: str) -> None:
    """So that whatever the program prints next begins a line of its own."""
    file = io.StringIO()
    stream = run(ConsoleStreamHandler("it: ", file=file))
    stream.start()
    stream.on_next(TextDelta(text=said))
    stream.dispose() if end == "dismissed" else stream.on_completed(rxstream.Response())
    assert file.getvalue() == shown


@virtual_time
async def test_an_error_before_the_first_word_is_behind_the_prefix() -> None:
    file = io.StringIO()
    run(ConsoleStreamHandler("it: ", file=file)).on_error(Disconnected("gone"))
    assert file.getvalue() == "it: Disconnected: gone\n"


@virtual_time
async def test_a_class_made_of_it_serves_streams_too() -> None:
    class Mine(ConsoleStreamHandler):
        def __init__(self, file: io.StringIO) -> None:
            super().__init__("mine: ", file=file)

        def on_tool_call(self, call: ToolCall) -> None:
            self.on_token_received(f"[{call.name}]", 0)

    file = io.StringIO()
    run(Mine(file)).on_next(ToolCall(id="1", name="weather", arguments="{}"))
    assert file.getvalue() == "mine: [weather]"


def test_a_file_is_not_kept_by_its_last_line() -> None:
    file = io.StringIO()
    gone = weakref.ref(file)
    stream = run(ConsoleStreamHandler("it: ", file=file))
    stream.start()
    del stream, file
    gc.collect()
    assert gone() is None


@virtual_time
async def test_a_file_that_cannot_be_told_from_others_is_written_too() -> None:
    class Equal(io.StringIO):
        __hash__ = None  # type: ignore[assignment]

    file = Equal()
    stream = run(ConsoleStreamHandler("it: ", file=file))
    stream.on_next(TextDelta(text="to be"))
    assert file.getvalue() == "it: to be"


@pytest.mark.parametrize(("options", "name"), [({"prefix": 3}, "prefix"), ({"file": "log.txt"}, "file")])
def test_what_cannot_be_written_is_refused(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}="):
        ConsoleStreamHandler(**options)


WORDS = [(5, " or", "> to be or"), (3, "or", "> to or"), (2, " or", "> to \n(taken back; this stands:)\n> to or")]


@pytest.mark.parametrize(("offset", "then", "shown"), WORDS)
async def test_word_by_word_only_what_was_shown_is_taken_back(offset: int, then: str, shown: str) -> None:
    """A word that is not whole yet is not on the screen: it is neither taken back nor written twice."""
    file = io.StringIO()
    stream = Dispatch(StreamMetadata(), LoopScheduler())
    stream.add("h", ConsoleStreamHandler("> ", file=file), HandlerPolicy(by="word"))
    for event in (TextDelta(text="to be"), Retracted(to_offset=offset), TextDelta(text=then)):
        stream.on_next(event)
    stream.on_completed(aggregate([Finished(reason="stop")]))
    assert file.getvalue() == f"{shown}\n"
