"""The live picture, in virtual time and through a terminal's emulator: what a person sees at each moment."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from rxstream.cli._show import Live
from rxstream.cli._track import Track
from rxstream.errors import ServerFault
from rxstream.events import Finished, Retracted, TextDelta, ThinkingDelta
from rxstream.observable import Stream
from rxstream.sources._pump import pump
from tests.support.scripted import DONE, Scripted, Step, words
from tests.support.terminal import Screen
from tests.support.virtual_loop import virtual_time


class Stage:
    """A live display on a screen that a test can look at."""

    def __init__(self, columns: int = 60, lines: int = 16) -> None:
        self._file = io.StringIO()
        self._read = 0
        self.screen = Screen(columns, lines)
        self.console = Console(
            file=self._file, force_terminal=True, width=columns, height=lines, highlight=False, color_system="truecolor"
        )
        self.display = Live(self.console)

    def look(self) -> Screen:
        written = self._file.getvalue()
        self.screen.feed(written[self._read :].replace("\n", "\r\n").encode())  # as a terminal's driver does
        self._read = len(written)
        return self.screen

    def resize(self, columns: int, lines: int) -> None:
        self.console.size = (columns, lines)
        self.look().resize(columns, lines)

    async def run(self, *tracks: Track) -> str:
        await self.display.follow(tracks)
        return self.look().text


def track(*steps: Step, label: str = "here", note: str = "") -> Track:
    source = Scripted(steps).source(label=label, provider="compatible", model="m")
    return Track(Stream.of(pump(source), label=label), target="compatible:m", base_url="http://x", note=note)


@virtual_time
async def test_one_track_shows_its_text_and_then_its_figures() -> None:
    """While it runs the status line is below the words; at the end all of it stays."""
    stage = Stage()
    running = asyncio.ensure_future(stage.run(track(*words("Hello ", "world.", every=1.0))))
    await asyncio.sleep(0.5)
    assert stage.look().text == "here · waiting 0.4 s"
    await asyncio.sleep(1.0)
    assert stage.look().text == "Hello\nhere · first token 1.00 s · ≈1 tokens"
    assert await running == "Hello world.\nhere · first token 1.00 s · ≈2 tok/s · ≈2 tokens"
    assert not stage.screen.cursor_hidden


@virtual_time
async def test_one_track_longer_than_the_screen_goes_up() -> None:
    """Nothing of a long answer is lost or doubled."""
    text = "".join(f"line {number} of many\n" for number in range(50))
    stage = Stage(lines=6)
    shown = await stage.run(track(*words(text, "end", every=0.3)))
    assert shown.splitlines()[:-1] == [*text.splitlines(), "end"]


@virtual_time
async def test_one_track_in_a_window_that_changes() -> None:
    """Rows that come after the change have the new width."""
    stage = Stage(columns=40)
    running = asyncio.ensure_future(
        stage.run(track("one two three four five six\n", 1.0, "seven eight nine ten", DONE))
    )
    await asyncio.sleep(0.5)
    stage.resize(12, 16)
    shown = await running
    assert "\nseven eight\nnine ten\nhere\nfirst token\n0.00 s\n" in shown


@virtual_time
async def test_tracks_stand_beside_each_other() -> None:
    """On a screen of their own while they run, then on the usual one."""
    stage = Stage()
    quick, slow = track(*words("quick"), label="a"), track(*words("slow", "er", every=1.5), label="b", note="a note")
    running = asyncio.ensure_future(stage.run(quick, slow))
    await asyncio.sleep(2.0)
    screen = stage.look()
    assert (screen.on_second, screen.text) == (True, "")
    rows = screen.picture.splitlines()
    assert len(rows) == 16
    assert rows[0].count("╭") == 2
    assert rows[1].split() == ["│", "quick", "││", "slow", "│"]
    assert "││ first token 1.50 s " in rows[12]
    assert rows[15] == "first to speak: a, by 0.50 s · first to finish: a, in 1.00 s"
    shown = await running
    assert not screen.on_second
    assert not screen.cursor_hidden
    assert "│ quick" in shown
    assert "slower" in shown
    assert shown.endswith("first to speak: a, by 0.50 s · first to finish: a, in 1.00 s\na note")


@virtual_time
async def test_who_is_ahead_is_said_while_they_run() -> None:
    """Of tracks that have spoken and are not done; a tie in speaking first is none."""
    stage = Stage()
    running = asyncio.ensure_future(stage.run(track("ab", 9.0, DONE, label="a"), track("abc", 9.0, DONE, label="b")))
    await asyncio.sleep(1.0)
    assert stage.look().picture.splitlines()[-1] == "ahead: b"
    await running


@pytest.mark.parametrize(("columns", "bands"), [(100, 1), (70, 2), (40, 3), (12, 3)])
def test_columns_that_have_no_room_stand_below(columns: int, bands: int) -> None:
    """At least 30 cells each; in the final picture nothing of a text is cut."""

    @virtual_time
    async def at_width() -> None:
        text = "the quick brown fox jumps over the lazy dog " * 3
        stage = Stage(columns=columns, lines=10)
        shown = await stage.run(*(track(text, DONE, label=label) for label in "abc"))
        assert sum("╭" in line for line in shown.splitlines()) == bands
        assert shown.count("fox") == 9
        assert max(len(line) for line in shown.splitlines()) <= columns

    at_width()


@pytest.mark.parametrize("lines", [2, 4, 6, 10])
def test_a_tiny_window_shows_the_end_of_each_text(lines: int) -> None:
    """As far as there is room; it never draws more rows than there are."""

    @virtual_time
    async def at_height() -> None:
        stage = Stage(columns=30, lines=lines)
        text = "".join(f"row {number}\n" for number in range(20))
        running = asyncio.ensure_future(stage.run(track(text, 5.0, DONE), track(text, 5.0, DONE)))
        await asyncio.sleep(1.0)
        picture = stage.look().picture.splitlines()
        assert len(picture) <= lines
        assert ("row 19" in stage.screen.picture) == (lines >= 10)
        await running

    at_height()


@virtual_time
async def test_panels_fit_the_window_when_it_changes() -> None:
    """The text is wrapped anew."""
    stage = Stage(columns=80, lines=12)
    both = (track("one two three four five six seven", 5.0, DONE, label=label) for label in "ab")
    running = asyncio.ensure_future(stage.run(*both))
    await asyncio.sleep(1.0)
    assert "│ one two three four five six seven" in stage.look().picture
    stage.resize(60, 12)
    await asyncio.sleep(1.0)
    assert "│ one two three four five    ││ one two three four five    │" in stage.look().picture
    await running


@virtual_time
async def test_a_failure_is_explained_and_the_others_go_on() -> None:
    """With what is kept of it."""
    stage = Stage()
    broken = track("half of ", ServerFault("the provider \x1b[31mfailed"), label="bad")
    shown = await stage.run(broken, track(*words("whole"), label="good"))
    assert "half of" in shown
    assert "whole" in shown
    assert "ServerFault" in shown
    assert r"bad: ServerFault: the provider \x1b[31mfailed" in shown
    assert "(kept: 8 characters" in shown


@virtual_time
async def test_what_is_cancelled_is_no_failure() -> None:
    """It is said in the figures, and nothing is explained."""
    stage = Stage()
    tracks = [track("some", 9.0, DONE, label="a"), track("more", 9.0, DONE, label="b")]
    running = asyncio.ensure_future(stage.run(*tracks))
    await asyncio.sleep(1.0)
    for one in tracks:
        one.cancel("enough")
    shown = await running
    assert shown.count("cancelled") == 2
    assert "Cancelled" not in shown
    assert "ahead" not in shown


@virtual_time
async def test_thinking_is_shown_until_words_come() -> None:
    """A model that reasons for a minute is not silent."""
    stage = Stage()
    running = asyncio.ensure_future(
        stage.run(track(ThinkingDelta(text="hm"), 2.0, "So.", 2.0, Finished(reason="length")))
    )
    await asyncio.sleep(1.0)
    assert "thinking …" in stage.look().text
    await asyncio.sleep(2.0)
    assert "thinking …" not in stage.look().text
    assert (await running).endswith("length")


def test_waiting_is_said_and_taken_back() -> None:
    """The words go when it is over, whatever ends it."""
    stage = Stage()
    with pytest.raises(KeyboardInterrupt), stage.display.waiting("getting ready …"):  # noqa: PT012
        assert stage.look().text == "getting ready …"
        raise KeyboardInterrupt
    assert stage.look().text == ""
    assert not stage.screen.cursor_hidden


@virtual_time
async def test_the_one_answer_of_several_tracks_is_drawn_anew_when_a_draft_is_taken_back() -> None:
    """What was withdrawn is gone from the screen; a summary of one track is not made."""
    stage = Stage()
    steps: list[Step] = [
        1.0,
        "A draft.",
        2.0,
        Retracted(to_offset=0),
        TextDelta(text="The answer.", attempt=2),
        1.0,
        DONE,
    ]
    one = track(*steps, label="draft")
    one.combined = True
    running = asyncio.ensure_future(stage.run(one))
    await asyncio.sleep(1.5)
    assert "A draft." in stage.look().picture
    await asyncio.sleep(2.0)
    assert "A draft." not in stage.look().picture
    assert "The answer." in stage.look().picture
    whole = await running
    assert "The answer." in whole
    assert "A draft." not in whole
    assert "first to finish" not in whole
