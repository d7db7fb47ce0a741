"""What a model, or whoever plays one, writes to take over a terminal or a page: shown, never obeyed.

Payloads are made at random, cut at random places, and put wherever somebody else's words come through: text, refusals, names and
arguments of tools, errors, labels, names of models. ``RXSTREAM_LONG=1`` makes ten times as many.
"""

from __future__ import annotations

import io
import os
import random
import re
import secrets
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Final

import pytest
from rich.console import Console

from rxstream import compare_responses
from rxstream.aggregate import aggregate
from rxstream.cli._events import JSONLines
from rxstream.cli._plain import Plain
from rxstream.cli._show import Live
from rxstream.cli._track import Track, explain
from rxstream.comparison import Comparison
from rxstream.errors import ServerFault, TracksFailed
from rxstream.events import (
    ErrorInfo,
    Event,
    Finished,
    RefusalDelta,
    Retracted,
    Retrying,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    decode,
)
from rxstream.observable import Stream
from rxstream.sinks.console import printable
from rxstream.sources._pump import pump
from tests.support.scripted import DONE, Scripted, Step
from tests.support.terminal import Screen
from tests.support.virtual_loop import virtual_time

COUNT: Final = 10_000 if os.environ.get("RXSTREAM_LONG") == "1" else 1_000
TRACKS: Final = COUNT // 100

ATTACKS: Final = (
    "\x1b[1337m", "\x1b[2J", "\x1b[1337;1337H", "\x1b[?1049l", "\x1b[6n", "\x1b[c", "\x1b[1337A", "\x1bc", "\x1b7", "\x1b(0",
    "\x1b]0;owned\x07", "\x1b]52;c;b3duZWQ=\x1b\\", "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\", "\x1b]1337;File=:\x07",
    "\x1bP+q544e\x1b\\", "\x1bP1337|owned\x9c", "\x1b_Gowned\x1b\\", "\x1b^owned\x1b\\", "\x1bXowned\x1b\\", "\x1b#8",
    "\x9b1337m", "\x9d0;owned\x9c", "\x90owned\x9c", "\x9fowned\x9c", "\x85", "\x84", "\x8d", "\x1b",
    "\x07", "\x08\x08\x08", "\r", "\x0b", "\x0c", "\x0e", "\x0f", "\x7f", "\x00", "\x05", "\x18", "\x1a",
    "\u202e", "\u202d", "\u202a", "\u2066", "\u2067", "\u2069", "\u200b", "\u200d", "\ufeff", "\u2028", "\u2029", "\u00ad",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</td></table><h1>", "<a href='javascript:alert(1)'>x</a>",
    '"><svg onload=alert(1)>', "' onmouseover='alert(1)", "<!--", "]]>", "&lt;script&gt;", "&#60;b&#62;", "<style>*{}</style>",
    "![x](http://evil.example/?q=1)", "[x](javascript:alert(1))", "$\\href{javascript:alert(1)}{x}$", "<iframe srcdoc=x>",
    "[red]", "[/]", "[link=http://evil.example]x[/link]", "[bold]", "[@click=app.bell]", ":skull:", "%s%n", "{0}", "{__class__}",
)  # fmt: skip
PLAIN: Final = ("a word ", "two words. ", "\n", "\t", "日本", "👩\u200d🚀", "e\u0301", " ")
RICH_OWN: Final = re.compile(r"\x1b\[(?:\?25[hl]|\?1049[hl]|H|\d*[ABCDGK]|2K|1A|[0-9;]*m)|\r")
"""How rich draws."""
TURNS: Final = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def payload(dice: random.Random) -> str:
    return "".join(dice.choice(ATTACKS if dice.random() < 0.6 else PLAIN) for _ in range(dice.randint(1, 8)))


def cut(text: str, dice: random.Random) -> Iterator[str]:
    """The text in pieces, cut anywhere."""
    start = 0
    while start < len(text):
        end = start + dice.randint(1, 6)
        yield text[start:end]
        start = end


def hostile(text: str) -> list[str]:
    """The signs in `text` that a terminal obeys."""
    return [
        char for char in text if char in TURNS or (unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t")
    ]


@pytest.fixture
def dice() -> random.Random:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown where a test fails
    return random.Random(seed)  # noqa: S311 - a game


def track(dice: random.Random, *, count: int = 20, fails: bool = False) -> tuple[Track, str]:
    """A track in which all words are hostile, and the text that it says."""
    texts = [payload(dice) for _ in range(count)]
    steps: list[Step] = [
        Started(id=payload(dice), model=payload(dice), provider=payload(dice)),
        *(ThinkingDelta(text=piece) for piece in cut(payload(dice), dice)),
        *(TextDelta(text=piece) for text in texts for piece in cut(text, dice)),
        *(RefusalDelta(text=piece) for piece in cut(payload(dice), dice)),
        ToolCall(id=payload(dice), name=payload(dice), arguments=payload(dice)),
        Retrying(error=ErrorInfo(kind=payload(dice), message=payload(dice), model=payload(dice)), delay=0.5),
        Retracted(to_offset=3),
        0.5,
    ]
    broken = ServerFault(payload(dice), code=payload(dice), request_id=payload(dice), body=payload(dice))
    steps.append(broken if fails else Finished(reason="stop", raw_reason=payload(dice)))
    label = payload(dice)
    source = Scripted(steps).source(label=label, provider=payload(dice), model=payload(dice))
    shown = Track(
        Stream.of(pump(source), label=label), target="compatible:m", base_url="http://x", note=printable(payload(dice))
    )
    return shown, "".join(texts)


def test_nothing_hostile_is_printable(dice: random.Random) -> None:
    """However it is cut; and what is not hostile stays."""
    for _ in range(COUNT):
        text = payload(dice)
        assert not hostile(printable(text))
        assert "".join(map(printable, cut(text, dice))) == printable(text)
        if not hostile(text):
            assert printable(text) == text


@virtual_time
async def test_plain_text_obeys_nothing(dice: random.Random) -> None:
    """Neither standard output nor standard error."""
    for number in range(TRACKS):
        out, err = io.StringIO(), io.StringIO()
        tracks = [track(dice, fails=number % 2 == 1) for _ in range(1 + number % 3)]
        await Plain(out, err).follow([shown for shown, _ in tracks])
        assert not hostile(out.getvalue())
        assert not hostile(err.getvalue())
        for _, said in tracks:
            assert printable(said) in out.getvalue()


@virtual_time
async def test_json_lines_obey_nothing(dice: random.Random) -> None:
    """And are read as the very events that came."""
    for number in range(TRACKS):
        out, err = io.StringIO(), io.StringIO()
        shown, said = track(dice, fails=number % 2 == 1)
        await JSONLines(out, err).follow([shown])
        assert not hostile(out.getvalue() + err.getvalue())
        events = [decode(line) for line in out.getvalue().splitlines()]
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == said


@virtual_time
async def test_the_live_picture_obeys_nothing(dice: random.Random) -> None:
    """Behind rich's own strokes there is nothing; markup is text; a terminal's emulator sees none of it done."""
    for number in range(TRACKS):
        file = io.StringIO()
        console = Console(file=file, force_terminal=True, width=70, height=12, color_system="truecolor")
        tracks = [track(dice, fails=number % 2 == 1)[0] for _ in range(1 + number % 3)]
        display = Live(console) if number % 2 else Live()
        if not number % 2:
            display._console.file = file
        await display.follow(tracks)
        drawn = file.getvalue()
        assert not re.search("\x1b\\[[0-9;?]*1337", drawn)
        assert "\x1b]" not in drawn, "a link or a title"
        assert not hostile(RICH_OWN.sub("", drawn))
        screen = Screen(70, 12)
        screen.feed(drawn.replace("\n", "\r\n").encode())
        assert screen.text
        assert not screen.on_second
        assert not screen.cursor_hidden


@virtual_time
async def test_markup_is_text() -> None:
    """Rich's, wherever it stands."""
    file = io.StringIO()
    words = "[red]warm[/red] [link=http://x]y[/link] [/] :skull:"
    source = Scripted([words, ServerFault(words)]).source(label=words)
    shown = Track(Stream.of(pump(source), label=words), target="compatible:m", base_url="http://x", note=words)
    await Live(Console(file=file, force_terminal=True, width=200, height=12)).follow([shown])
    screen = Screen(200, 12)
    screen.feed(file.getvalue().replace("\n", "\r\n").encode())
    assert (
        screen.text.count(words) == 5
    )  # the text, the label of the figures, the label and the words of the error, the note


def test_an_error_obeys_nothing(dice: random.Random) -> None:
    """As it is printed by the command, by Python, and inside another one."""
    for _ in range(COUNT):
        error = ServerFault(payload(dice), code=payload(dice), request_id=payload(dice))
        error.model, error.provider = payload(dice), payload(dice)
        error.partial = aggregate([TextDelta(text=payload(dice)), DONE])
        both = TracksFailed({"one": error, "other": ValueError("no")})
        for text in (str(error), explain(error), repr(error), str(both), explain(both)):
            assert not hostile(text), ascii(text)
    assert not hostile(explain(ValueError("\x1b]0;owned\x07\u202e")))


class Page(HTMLParser):
    """What a browser makes of it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.strange: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_comment(self, data: str) -> None:
        self.strange.append(data)

    def handle_decl(self, decl: str) -> None:
        self.strange.append(decl)

    def handle_pi(self, data: str) -> None:
        self.strange.append(data)

    def unknown_decl(self, data: str) -> None:
        self.strange.append(data)


def comparison(dice: random.Random) -> Comparison:
    """Of two hostile answers."""

    def answer() -> list[Event]:
        text = payload(dice) * 3
        return [Started(model=payload(dice), provider=payload(dice)), TextDelta(text=text), DONE]

    if dice.random() < 0.3:  # fields of JSON are shown, too
        key, one, other = (payload(dice).replace("\\", "").replace('"', "") for _ in range(3))
        texts = [f'{{"{key}": "{value}", "n": {number}}}' for number, value in enumerate((one, other))]
        return compare_responses({payload(dice): aggregate([TextDelta(text=text), DONE]) for text in texts})
    return compare_responses({f"{payload(dice)}{number}": aggregate(answer()) for number in range(2)})


def test_a_page_obeys_nothing(dice: random.Random) -> None:
    """The comparison in a notebook has our tags and no other; as text it has no control characters."""
    for _ in range(COUNT // 10):
        try:
            report = comparison(dice)
        except ValueError:
            continue  # both have one label
        page = Page()
        page.feed(report._repr_html_())
        page.close()
        assert page.tags <= {"div", "p", "table", "tr", "th", "td", "br"}
        assert page.attributes <= {"style", "class"}
        assert not page.strange
        assert not hostile(report._repr_html_())
        assert not hostile(str(report))


def test_the_dice_are_loaded() -> None:
    """The tests above are not blind: nearly all that they throw is hostile."""
    dice = random.Random(1)  # noqa: S311 - a game
    thrown = [payload(dice) for _ in range(200)]
    assert sum(bool(hostile(text)) for text in thrown) > 80
    assert sum("<" in text for text in thrown) > 15
