"""The handler that writes for a person."""

from __future__ import annotations

import io
import sys

import pytest

import rxstream
from rxstream.aggregate import aggregate
from rxstream.errors import Disconnected
from rxstream.events import Finished, Retracted, TextDelta
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


@virtual_time
async def test_in_a_terminal_the_prefix_and_an_error_are_styled() -> None:
    file = Terminal()
    stream = run(ConsoleStreamHandler("it: ", file=file))
    stream.on_next(TextDelta(text="[bold]to be[/]"))
    stream.on_error(Disconnected("cut"))
    said = file.getvalue()
    assert "[bold]to be[/]" in said
    assert "Disconnected: cut" in said


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
    assert file.getvalue() == "> one> \n"


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
