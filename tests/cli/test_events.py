"""The events as JSON Lines."""

from __future__ import annotations

import asyncio
import io
import json

import msgspec
import pytest

from rxstream.cli._events import JSONLines
from rxstream.cli._track import Track
from rxstream.errors import ConfigurationError, ServerFault
from rxstream.events import Cancelled, Failed, Finished, TextDelta, decode
from rxstream.observable import Stream
from rxstream.sources._pump import pump
from tests.support.scripted import HANG, Scripted, Step, words
from tests.support.virtual_loop import settle, virtual_time


def track(*steps: Step, label: str) -> Track:
    return Track(
        Stream.of(pump(Scripted(steps).source(label=label)), label=label), target="compatible:m", base_url="http://x"
    )


async def lines_of(*tracks: Track) -> tuple[list[str], str]:
    out, err = io.StringIO(), io.StringIO()
    display = JSONLines(out, err)
    with display.waiting("getting ready …"):
        pass
    await display.follow(tracks)
    return out.getvalue().splitlines(), err.getvalue()


@virtual_time
async def test_every_event_is_a_line() -> None:
    """In the order in which they come, each with its track; `decode` reads them back."""
    lines, err = await lines_of(track(*words("a", "b"), label="x"), track(*words("c", every=1.5), label="y"))
    events = [decode(line) for line in lines]
    texts = [(event.source, event.text) for event in events if isinstance(event, TextDelta)]
    assert texts == [("x", "a"), ("y", "c"), ("x", "b")]
    assert sum(isinstance(event, Finished) for event in events) == 2
    assert err == ""


@virtual_time
async def test_a_failure_is_the_last_line_of_its_track() -> None:
    """Of every kind of failure; in words it is on standard error."""
    lines, err = await lines_of(
        track("a", ServerFault("broke"), label="x"), track(ConfigurationError("no \x1bkey"), label="y")
    )
    failed = [event for event in map(decode, lines) if isinstance(event, Failed)]
    assert [(event.source, event.error.kind) for event in failed] == [("x", "ServerFault"), ("y", "ConfigurationError")]
    assert "x: ServerFault: broke" in err
    assert "y: ConfigurationError: no ␛key" in err


@virtual_time
async def test_a_cancelled_track_ends_with_a_line() -> None:
    """It is no failure."""
    one = track("a", HANG, label="x")
    asyncio.get_running_loop().call_later(1.0, one.cancel, "enough")
    lines, err = await lines_of(one)
    assert isinstance(decode(lines[-1]), Cancelled)
    assert err == ""
    await settle()


@virtual_time
async def test_no_line_holds_what_a_terminal_obeys() -> None:
    """All controls are written as JSON escapes, and mean the same."""
    text = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029])) + "é日"
    lines, _ = await lines_of(track(*words(text), label="x"))
    assert all(char.isprintable() for line in lines for char in line)
    assert json.loads(lines[0])["text"] == text


def test_a_line_that_is_no_event_is_refused() -> None:
    """So the tests above can fail."""
    with pytest.raises(msgspec.ValidationError):
        decode('{"type":"nothing"}')
