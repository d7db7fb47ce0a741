"""What a consumer gets of a stream: pieces, and what waits for him."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxstream
from rxstream import StreamConfig
from rxstream._relief import Backpressure, BufferUnit
from rxstream.errors import LimitExceeded
from rxstream.observable import Stream
from rxstream.profiles import PROFILES
from rxstream.stream_config import Mode
from tests.support.flow import Flow
from tests.support.scripted import Scripted, numbered
from tests.support.virtual_loop import settle, virtual_time

# --- what the consumer gets ------------------------------------------------------------------------------------------

SAID = "One two. Three!\n\nFour"


@pytest.mark.parametrize(
    ("mode", "items"),
    [
        ("token", ["One two. Th", "ree!\n\nFour"]),
        ("character", list("One two. Three!")),
        ("word", ["One ", "two. ", "Three!\n\n", "Four"]),
        ("sentence", ["One two. ", "Three!\n\n", "Four"]),
        ("segment", ["One two. Three!\n\n", "Four"]),
    ],
)
@virtual_time
async def test_modes(mode: Mode, items: list[str]) -> None:
    source = Stream.of(Scripted(["One two. Th", "ree!\n\nFour", rxstream.events.Finished(reason="stop")]).events())
    got = [item async for item in StreamConfig(mode=mode).apply(source)]
    assert got[: len(items)] == items
    assert "".join(got) == SAID


@virtual_time
async def test_the_default_leaves_a_stream_as_it_is() -> None:
    stream = Stream.of(Scripted(numbered(2)).events(), label="mine")
    assert StreamConfig().apply(stream).label == "mine"
    assert (await StreamConfig().apply(stream)).text == "0 1 "


RUNS_TO: dict[tuple[str, str], int] = {
    ("buffer", "events"): 10,
    ("buffer", "tokens"): 10,
    ("buffer", "characters"): 5,
    ("buffer", "bytes"): 5,
    ("coalesce", "bytes"): 5,
}
"""How far a source runs on, of "0 ", "1 " …, with a buffer of ten."""


@pytest.mark.parametrize(("policy", "unit"), RUNS_TO)
@virtual_time
async def test_how_far_the_source_runs_on(policy: Backpressure, unit: BufferUnit) -> None:
    script = Scripted(numbered(50))
    config = StreamConfig(backpressure=policy, buffer=10, buffer_unit=unit)
    flow = Flow(config.apply, script.events())
    flow.hold()
    await settle()
    assert script.given == RUNS_TO[policy, unit]
    await flow.release()
    assert "".join(flow.recorder.texts) == "".join(f"{number} " for number in range(50))
    assert flow.recorder.completed


@virtual_time
async def test_without_a_buffer_the_source_is_held_at_once() -> None:
    script = Scripted(numbered(50))
    flow = Flow(StreamConfig().apply, script.events())
    flow.hold()
    await settle()
    assert script.given == 0
    await flow.release()
    assert flow.recorder.texts == [f"{number} " for number in range(50)]


@pytest.mark.parametrize("name", PROFILES)
@virtual_time
async def test_no_profile_loses_anything_or_ends_a_stream_however_long_it_is_paused(name: str) -> None:
    """Of four megabytes, in large and small pieces."""
    pieces = [f"{number} is a sentence. ".ljust(1 + number % 7 * 20_000) for number in range(70)]
    script = Scripted([*map(text, pieces), rxstream.events.Finished(reason="stop")])
    flow = Flow(StreamConfig.from_profile(name).apply, script.events())
    flow.hold()
    await settle()
    await flow.release()
    assert flow.recorder.completed
    got = [item if isinstance(item, str) else getattr(item, "text", "") for item in flow.items]
    assert "".join(got) == "".join(pieces)


@pytest.mark.parametrize("unit", ["events", "tokens", "characters", "bytes"])
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
@virtual_time
async def test_what_is_kept_of_what_is_too_much(policy: Backpressure, unit: BufferUnit) -> None:
    """As many as fit, the oldest or the newest; and all that may not be dropped."""
    flow = Flow(StreamConfig(backpressure=policy, buffer=4, buffer_unit=unit, mode="token").apply)
    flow.hold()
    flow.send(*map(text, ("aa", "bb", "cc", "dddd", "e", "f")))
    flow.send(rxstream.events.Finished(reason="stop"))
    flow.subject.on_completed()
    await flow.release()
    few = unit in ("characters", "bytes")
    kept = {
        ("drop_newest", True): ["aa", "bb"],
        ("drop_newest", False): ["aa", "bb", "cc", "dddd"],
        ("drop_oldest", True): ["e", "f"],
        ("drop_oldest", False): ["cc", "dddd", "e", "f"],
    }
    assert flow.items == kept[policy, few]


def text(said: str) -> rxstream.events.Event:
    return rxstream.events.TextDelta(text=said)


@virtual_time
async def test_the_newest_the_joined_and_the_error() -> None:
    for config, items in (
        (StreamConfig(backpressure="latest", mode="token"), ["c"]),
        (StreamConfig(backpressure="coalesce", mode="token"), ["abc"]),
        (StreamConfig(backpressure="coalesce", buffer=3, buffer_unit="bytes", mode="token"), ["abc"]),
        (StreamConfig(backpressure="error", buffer=2, buffer_unit="characters", mode="token"), ["a", "b"]),
    ):
        flow = Flow(config.apply)
        flow.hold()
        flow.send(*map(text, "abc"))
        flow.subject.on_completed()
        await flow.release()
        assert flow.items == items
        assert isinstance(flow.recorder.error, LimitExceeded) == (config.backpressure == "error")


@given(
    st.lists(st.text("abc", min_size=1, max_size=9), max_size=20),
    st.integers(1, 12),
    st.sampled_from(["characters", "bytes"]),
)
def test_dropping_the_oldest_keeps_the_newest(pieces: list[str], buffer: int, unit: BufferUnit) -> None:
    """What is kept is the end of what was sent, without gaps; without its last piece there would be room."""

    @virtual_time
    async def run() -> None:
        flow = Flow(StreamConfig(backpressure="drop_oldest", buffer=buffer, buffer_unit=unit, mode="token").apply)
        flow.hold()
        flow.send(*map(text, pieces))
        await flow.release()
        assert flow.items == pieces[len(pieces) - len(flow.items) :]
        assert sum(map(len, flow.items[:-1])) < buffer
        if len(flow.items) < len(pieces):
            assert sum(map(len, pieces[len(pieces) - len(flow.items) - 1 : -1])) >= buffer

    run()


@virtual_time
async def test_what_may_not_be_dropped_is_kept_in_its_place() -> None:
    """A tool call among deltas, with a buffer that is counted in characters."""
    flow = Flow(StreamConfig(backpressure="drop_oldest", buffer=2, buffer_unit="characters").apply)
    call = rxstream.events.ToolCall(id="1", name="look", arguments="{}")
    flow.hold()
    flow.send(call, text("a"), text("bb"), call, text("c"), text("dd"))
    await flow.release()
    assert flow.items == [call, call, text("c"), text("dd")]
