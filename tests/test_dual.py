"""`DualTrack`: each strategy is what it says, and the status is that of the tracks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from reactivex import Observable

from rxstream.dual import DualTrack, Strategy
from rxstream.errors import ConfigurationError, ConnectError, Disconnected, TracksFailed
from rxstream.events import Event
from rxstream.observable import Stream
from rxstream.operators import responses
from rxstream.sources._pump import pump
from tests.support.scripted import DONE, HANG, Recorder, Scripted, Step, raising, words
from tests.support.virtual_loop import settle, virtual_time


def track(script: Scripted, label: str) -> Stream[Event]:
    return Stream.of(pump(script.source(label=label)), label=label)


def pair(local: list[Step], cloud: list[Step]) -> tuple[Scripted, Scripted]:
    return Scripted(local), Scripted(cloud)


def dual(local: Scripted, cloud: Scripted, strategy: Strategy, **options: Any) -> DualTrack:
    return DualTrack(track(local, "local"), track(cloud, "cloud"), strategy=strategy, **options)


HERE = words("I ", "am ", "here.", every=1.0)
THERE = words("I ", "am ", "there.", every=2.0)


@virtual_time
async def test_local_first_asks_the_cloud_only_if_the_local_model_fails() -> None:
    local, cloud = pair(HERE, THERE)
    one = dual(local, cloud, "local_first")
    assert (await one).text == "I am here."
    assert (local.opened, cloud.opened) == (1, 0)
    assert (one.local.status, one.cloud.status) == ("completed", "waiting")


@virtual_time
async def test_local_first_goes_to_the_cloud_when_the_local_model_fails() -> None:
    local, cloud = pair([1.0, raising(ConnectError("no server"))], THERE)
    one = dual(local, cloud, "local_first")
    assert (await one).text == "I am there."
    assert (one.local.status, one.cloud.status) == ("failed", "completed")
    assert one.local.error is not None
    assert one.local.error.kind == "ConnectError"


@virtual_time
async def test_cloud_first_is_the_other_way_round() -> None:
    local, cloud = pair(HERE, THERE)
    assert (await dual(local, cloud, "cloud_first")).text == "I am there."
    assert (local.opened, cloud.opened) == (0, 1)


@pytest.mark.parametrize("strategy", ["local_first", "cloud_first", "hedge"])
@virtual_time
async def test_a_first_track_that_is_late_is_joined_by_the_other(strategy: Strategy) -> None:
    silent, speaking = Scripted([HANG]), Scripted(HERE)
    first, other = (silent, speaking) if strategy == "local_first" else (speaking, silent)
    one = dual(first, other, strategy, after=3.0)
    recorder = Recorder()
    one.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed)
    await asyncio.sleep(2.9)
    assert speaking.opened == 0
    await asyncio.sleep(100)
    assert "".join(recorder.texts) == "I am here."
    assert recorder.ended_at == 6.0
    assert silent.running == 0


@virtual_time
async def test_hedge_waits_a_second_if_nothing_else_is_said() -> None:
    local, cloud = pair(HERE, [HANG])
    started = dual(local, cloud, "hedge").start()
    await asyncio.sleep(0.9)
    assert local.opened == 0
    await asyncio.sleep(0.2)
    assert local.opened == 1
    await started


@virtual_time
async def test_race_is_won_by_the_first_to_speak() -> None:
    local, cloud = pair(HERE, THERE)
    one = dual(local, cloud, "race")
    assert (await one).text == "I am here."
    assert (one.local.status, one.cloud.status) == ("completed", "cancelled")
    assert cloud.running == 0


@virtual_time
async def test_draft_is_superseded_by_the_cloud() -> None:
    local, cloud = pair(words("One. ", "Two. ", "Three.", every=1.0), words("Uno. ", "Dos.", every=2.5))
    one = dual(local, cloud, "draft")
    recorder = Recorder()
    one.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed)
    await asyncio.sleep(1.5)
    assert recorder.texts == ["One. "]  # nobody waits for the cloud
    await asyncio.sleep(100)
    assert local.running == cloud.running == 0
    assert (await dual(*pair(HERE, THERE), "draft", takeover="end")).text == "I am there."


@virtual_time
async def test_side_by_side_gives_both_answers() -> None:
    local, cloud = pair(HERE, THERE)
    answers = await dual(local, cloud, "side_by_side").pipe(responses())
    assert {label: answer.text for label, answer in answers.items()} == {"local": "I am here.", "cloud": "I am there."}


@virtual_time
async def test_failover_begins_anew_with_the_local_model() -> None:
    local, cloud = pair(HERE, [1.0, "I ", 1.0, raising(Disconnected("cut"))])
    one = dual(local, cloud, "failover")
    assert (await one).text == "I am here."
    assert (one.local.status, one.cloud.status) == ("completed", "failed")


@pytest.mark.parametrize("strategy", ["local_first", "cloud_first", "race", "hedge", "draft", "failover"])
@virtual_time
async def test_when_both_fail_each_ones_error_is_told(strategy: Strategy) -> None:
    local, cloud = pair([raising(ConnectError("no server"))], [raising(ConnectError("no network"))])
    with pytest.raises(TracksFailed) as failed:
        await dual(local, cloud, strategy)
    assert {label: str(error) for label, error in failed.value.errors.items()} == {
        "local": "no server",
        "cloud": "no network",
    }


@virtual_time
async def test_the_status_is_that_of_the_tracks_at_any_moment() -> None:
    local, cloud = pair(HERE, THERE)
    one = dual(local, cloud, "side_by_side")
    assert (one.local.status, one.local.label, one.cloud.status) == ("waiting", "local", "waiting")
    session = one.start()
    await asyncio.sleep(2.5)
    here, there = one.local, one.cloud
    assert (here.status, here.outputs, here.text, here.first_output) == ("active", 2, "I am ", 1.0)
    assert (there.status, there.outputs, there.first_output, there.ended) == ("active", 1, 2.0, None)
    session.cancel()
    await settle()
    assert (one.local.status, one.local.ended, one.cloud.status) == ("cancelled", 2.5, "cancelled")
    assert local.running == cloud.running == 0


@virtual_time
async def test_the_status_is_that_of_the_latest_subscription() -> None:
    """The one before goes on uncounted."""
    local, cloud = pair(HERE, THERE)
    one = dual(local, cloud, "side_by_side")
    first = one.start()
    await asyncio.sleep(2.5)
    second = one.start()
    await asyncio.sleep(1.2)
    assert (one.local.outputs, one.local.first_output) == (1, 1.0)
    first.cancel()
    await asyncio.sleep(100)
    assert one.local.status == "completed"
    assert second.status == "completed"


@virtual_time
async def test_tracks_without_labels_are_local_and_cloud() -> None:
    """Also plain Observables."""
    plain: Observable[Event] = Scripted(HERE).events()
    one = DualTrack(plain, Scripted(THERE).events(), strategy="side_by_side")
    answers = await one.pipe(responses())
    assert list(answers) == ["local", "cloud"]
    assert (one.label, DualTrack(plain, plain).label) == ("", "local | cloud")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strategy": "both"}, "strategy='both': must be one of local_first"),
        ({"strategy": "race", "after": 1.0}, "after= is for"),
        ({"strategy": "race", "takeover": "end"}, "takeover= is for"),
        ({"strategy": "draft", "takeover": "soon"}, "soon"),
        ({"strategy": "hedge", "after": -1.0}, "after=-1.0"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        DualTrack(Scripted([DONE]).events(), Scripted([DONE]).events(), **options)
    assert words in str(refused.value)


def test_a_track_is_a_stream_and_not_its_name() -> None:
    with pytest.raises(ConfigurationError, match="track 2 is a str"):
        DualTrack(Scripted([DONE]).events(), "openai:gpt-5-mini")  # type: ignore[arg-type]
