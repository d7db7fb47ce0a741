"""One track: what it shows of a stream, and its figures."""

from __future__ import annotations

import asyncio

import pytest

from rxstream.cli._track import Track, explain
from rxstream.errors import Overloaded
from rxstream.events import Event, RefusalDelta, Retracted, Retrying, Seam, TextDelta, ToolCall, UsageReported
from rxstream.observable import Stream
from rxstream.operators import on_error_complete
from rxstream.sources._pump import pump
from rxstream.usage import Usage
from tests.support.scripted import DONE, HANG, Scripted, Step
from tests.support.virtual_loop import settle, virtual_time


def track(*steps: Step, target: str = "compatible:m", base_url: str | None = "http://x", label: str = "t") -> Track:
    return Track(Stream.of(pump(Scripted(steps).source()), label=label), target=target, base_url=base_url)


async def run(one: Track) -> Track:
    one.start()
    await asyncio.sleep(1.0)
    assert one.over
    return one


@virtual_time
async def test_what_is_said_is_shown_and_harmless() -> None:
    """Text, refusals and tool calls; escapes are made visible, in arguments and names too."""
    call = ToolCall(id="1", name="look\x1b[2J", arguments='{"at":"\x1b]0;x\x07"}')
    one = await run(track("a\x1b", "[31mb", RefusalDelta(text="no\x9b"), call, call, DONE))
    line = '→ look␛[2J({"at":"␛]0;x␇"})\n'
    assert one.text == f"a␛[31mbno�\n{line}{line}"


@virtual_time
async def test_what_is_taken_back_is_said() -> None:
    """What was written cannot be unwritten in a pipe: the reader is told."""
    one = await run(track("half", Retracted(to_offset=0), "whole", Seam(kind="prefill", offset=5), " more", DONE))
    assert (
        one.text
        == "half\n[taken back: all after the first 0 characters; once more:]\nwhole\n[cut here, and gone on:]\n more"
    )


@virtual_time
async def test_an_exact_seam_is_not_seen() -> None:
    """Where the provider itself goes on there is nothing to say in the midst of a word."""
    one = await run(track("wh", Seam(kind="resume", offset=2, verified=True), "ole", DONE))
    assert one.text == "whole"


@virtual_time
async def test_that_it_is_asked_again_is_in_the_figures_and_never_in_the_text() -> None:
    failed = Overloaded("busy \x1b[2J").info()
    one = track(Retrying(error=failed, delay=2.0), 2, Retrying(error=failed), 1, "a", 1, DONE)
    one.start()
    await settle()
    assert one.figures()[-1] == "Overloaded, asking again in 2.0 s"
    await asyncio.sleep(2.5)
    assert one.figures()[-1] == "Overloaded, asking again"
    await asyncio.sleep(3)
    assert (one.text, "asking" in " ".join(one.figures()), len(one.notices)) == ("a", False, 2)


@virtual_time
async def test_an_answer_that_is_not_whole_is_said_to_be_cut() -> None:
    cut = Stream.of(pump(Scripted(["a", Overloaded("busy")]).source()), label="t").pipe(on_error_complete())
    one = await run(Track(cut, target="compatible:m", base_url="http://x"))
    assert (one.failed, one.figures()[-1]) == (False, "cut short")


def test_a_label_is_harmless() -> None:
    """It may come from a file's name."""
    assert track(DONE, label="a\x1b[31m").label == "a␛[31m"


@virtual_time
async def test_events_are_told_as_they_come() -> None:
    """To whoever wants them."""
    told: list[Event] = []
    one = track("a", DONE)
    one.start(tell=told.append)
    await settle()
    assert [type(event) for event in told] == [TextDelta, type(DONE)]


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ((HANG,), ["waiting 2.0 s"]),
        ((1.0, "a", HANG), ["first token 1.00 s", "≈1 tokens"]),
        ((1.0, "a", 0.5, "b", HANG), ["first token 1.00 s", "≈4 tok/s", "≈2 tokens"]),
        ((1.0, "a", 0.5, "b", UsageReported(usage=Usage(output_tokens=5)), DONE), ["first token 1.00 s", "10 tok/s", "5 tokens"]),
        # A count below the pieces that came was taken at the start: it is not the answer's.
        ((1.0, "a", 0.5, "b", UsageReported(usage=Usage(output_tokens=1)), HANG), ["first token 1.00 s", "≈4 tok/s", "≈2 tokens"]),
        ((DONE,), ["no output"]),
    ],
)  # fmt: skip
def test_figures(steps: tuple[Step, ...], wanted: list[str]) -> None:
    """Nothing is said that is not known, and what is counted by us is marked."""

    @virtual_time
    async def after_two_seconds() -> None:
        one = track(*steps)
        one.start()
        await asyncio.sleep(2.0)
        assert one.figures() == wanted
        one.cancel("enough")
        await settle()

    after_two_seconds()


@virtual_time
async def test_a_price_is_the_providers_own_only() -> None:
    """Another server's prices are unknown; a model in this process costs nothing; the price does not change afterwards."""
    usage = UsageReported(usage=Usage(input_tokens=1000, output_tokens=1000))
    assert not [piece for piece in (await run(track("a", usage, DONE))).figures() if "$" in piece]
    here = await run(track("a", usage, DONE, target="local:smollm2", base_url=None))
    assert here.figures()[-1] == here.figures()[-1] == "$0"
    pytest.importorskip("genai_prices")
    cloud = await run(track("a", usage, DONE, target="openai:gpt-4o", base_url=None))
    assert cloud.figures()[-1] == "$0.0125"


def test_cancelling_what_was_not_started_changes_nothing() -> None:
    """Ctrl-C may come early."""
    track(DONE).cancel("early")


def test_an_error_is_explained_in_a_line() -> None:
    """With its kind, and its notes below; escapes in it are harmless."""
    assert explain(ValueError("bad \x1b[31m")) == "ValueError: bad ␛[31m"
    refused = Overloaded("slow down")
    refused.add_note("It was not retried \x1b[31m.")
    assert explain(refused) == "Overloaded: slow down\nIt was not retried ␛[31m."


@virtual_time
async def test_what_is_taken_back_goes_from_a_screen_that_can_be_redrawn() -> None:
    """Only what stays is left, and what shows it is told."""
    one = track("half \x1b[1m", Retracted(to_offset=2), TextDelta(text="whole", attempt=2), DONE)
    one.rewrites = True
    await run(one)
    assert one.text == "hawhole"
    assert one.rewritten == 1
