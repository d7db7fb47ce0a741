"""Plain text: the words on standard output, all about them on standard error."""

from __future__ import annotations

import asyncio
import io

import pytest

from rxstream.cli._plain import Plain
from rxstream.cli._track import Track
from rxstream.errors import ServerFault
from rxstream.events import Retrying
from rxstream.observable import Stream
from rxstream.sources._pump import pump
from tests.support.scripted import Scripted, Step, words
from tests.support.virtual_loop import virtual_time


def track(*steps: Step, label: str = "x", note: str = "") -> Track:
    stream = Stream.of(pump(Scripted(steps).source(label=label)), label=label)
    return Track(stream, target="compatible:m", base_url="http://x", note=note)


class Written:
    def __init__(self, *, quiet: bool = False) -> None:
        self._out, self._err = io.StringIO(), io.StringIO()
        self.display = Plain(self._out, self._err, quiet=quiet)

    @property
    def out(self) -> str:
        return self._out.getvalue()

    @property
    def err(self) -> str:
        return self._err.getvalue()


@virtual_time
async def test_an_answer_is_written_as_it_comes() -> None:
    """And ends with a newline, once."""
    written = Written()
    with written.display.waiting("getting ready …"):
        assert written.out == ""
    running = asyncio.ensure_future(written.display.follow([track(*words("one ", "two"))]))
    await asyncio.sleep(1.5)
    assert written.out == "one "
    await running
    assert written.out == "one two\n"
    assert written.err == "x · first token 1.00 s · ≈2 tok/s · ≈2 tokens\n"


@virtual_time
async def test_that_it_is_asked_again_is_a_line_beside_the_answer() -> None:
    steps: list[Step] = [Retrying(error=ServerFault("no").info(), delay=1.5), *words("one")]
    for quiet, line in ((False, "x: ServerFault, asking again in 1.5 s\n"), (True, "")):
        written = Written(quiet=quiet)
        await written.display.follow([track(*steps)])
        assert written.out == "one\n"
        assert written.err.startswith(line)
        assert written.err.count("asking again") == (0 if quiet else 1)


@pytest.mark.parametrize("text", ["one\n", "one"])
def test_there_is_one_newline_at_the_end(text: str) -> None:
    """Whether the model wrote one or not."""

    @virtual_time
    async def run() -> None:
        written = Written(quiet=True)
        await written.display.follow([track(*words(text))])
        assert (written.out, written.err) == ("one\n", "")

    run()


@virtual_time
async def test_several_come_one_after_the_other() -> None:
    """Under their names, in the order asked for, whichever is quicker; with their notes."""
    written = Written()
    await written.display.follow(
        [track(*words("slow", every=5.0), label="a"), track(*words("quick"), label="b", note="why")]
    )
    assert written.out == "## a\n\nslow\n\n## b\n\nquick\n"
    assert [line.split(" · ")[0] for line in written.err.splitlines()] == ["a", "b", "why"]


@virtual_time
async def test_a_failure_keeps_what_arrived() -> None:
    """The words on standard output, the reason on standard error, also where figures are not wanted."""
    written = Written(quiet=True)
    await written.display.follow([track("half", ServerFault("broke"))])
    assert written.out == "half\n"
    assert written.err.startswith("x: ServerFault: broke")
    assert "(kept: 4 characters that arrived)" in written.err
