"""``vote``: most votes win, ties are decided the same way each time, and nobody is asked longer than it takes."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import ConfigurationError, Overloaded, TracksFailed
from rxstream.events import TextDelta
from rxstream.tracks import merge, vote
from tests.support.contests import Field, Told, reported, watchers
from tests.support.scripted import DONE, HANG, Step, numbered
from tests.support.virtual_loop import settle, virtual_time


def said(field: Field, *answers: tuple[float, str]) -> list[Any]:
    """A track for each: when it answers, and what."""
    return [field.track(f"t{number}", when, text, DONE) for number, (when, text) in enumerate(answers, 1)]


@virtual_time
async def test_the_majority_wins_and_the_rest_is_closed() -> None:
    field = Field()
    told = Told(vote(*said(field, (1, "4"), (2, "5"), (3, " 4\n"), (9, "5"), (2, "4"))))
    await asyncio.sleep(20)
    assert told.story == [
        (3, "t11 '4'"),
        (3, "t22 Usage 1 estimated"),
        (3, "t33 Usage 1 estimated"),
        (3, "t44 Usage 0 estimated"),
        (3, "t44 Cancelled"),
        (3, "t55 Usage 1 estimated"),
        (3, "t11 Finished"),
    ]
    assert field.closed_at["t4"] == [3]
    assert (told.response.text, told.response.attempts, told.completed) == ("4", 5, True)


@virtual_time
async def test_a_smaller_quorum_is_sooner_enough() -> None:
    field = Field()
    told = Told(vote(*said(field, (9, "a"), (9, "a"), (9, "a"), (1, "b"), (2, "b")), quorum=2))
    await asyncio.sleep(20)
    assert (told.response.text, told.ended_at) == ("b", 2)


@virtual_time
async def test_a_quorum_that_cannot_be_reached_leaves_it_to_the_most_votes() -> None:
    field = Field()
    told = Told(vote(*said(field, (1, "a"), (2, "b"), (3, "b")), quorum=5))
    await asyncio.sleep(20)
    assert (told.response.text, told.ended_at) == ("b", 3)


@virtual_time
async def test_it_is_decided_when_no_other_can_catch_up() -> None:
    """Two of four tracks agree, one has failed, and one is open: it can make no tie."""
    field = Field()
    tracks = [*said(field, (1, "a"), (2, "a")), field.track("x", 3, Overloaded("busy")), field.track("y", HANG)]
    told = Told(vote(*tracks, quorum=4))
    await asyncio.sleep(20)
    assert (told.response.text, told.ended_at, field.running) == ("a", 3, [])


@virtual_time
async def test_of_answers_with_as_many_votes_the_earliest_tracks_counts() -> None:
    field = Field()
    told = Told(vote(*said(field, (4, "a"), (1, "b"), (2, "b"), (3, "a"))))
    await asyncio.sleep(20)
    assert (told.response.text, told.items[0].source, told.ended_at) == ("a", "t1", 4)


@virtual_time
async def test_the_key_says_what_is_equal() -> None:
    field = Field()
    tracks = said(field, (1, "It is 4."), (2, "five"), (3, "4, I think"))
    told = Told(vote(*tracks, key=lambda answer: "4" in answer.text))
    await asyncio.sleep(20)
    assert told.response.text == "It is 4."


@pytest.mark.parametrize("key", [lambda _: 1 / 0, lambda answer: [answer.text]], ids=["raises", "no key"])
@virtual_time
async def test_what_the_callers_function_raises_is_the_error(key: Any) -> None:
    field = Field()
    told = Told(vote(*said(field, (1, "a")), field.track("b", HANG), key=key))
    await asyncio.sleep(20)
    assert isinstance(told.error, (ZeroDivisionError, TypeError))
    assert (told.ended_at, field.closed_at["b"]) == (1, [1])


@virtual_time
async def test_a_track_that_fails_has_no_vote() -> None:
    field = Field()
    a = field.track("a", reported(0, input_tokens=4), 1, "x", Overloaded("busy"))
    told = Told(vote(a, *said(field, (2, "b"))))
    await asyncio.sleep(20)
    assert told.said[:2] == ["a1 Failed Overloaded", "a1 Usage 1 estimated"]
    assert (told.response.text, told.response.usage.input_tokens) == ("b", 4)


@virtual_time
async def test_when_all_fail_it_fails() -> None:
    field = Field()
    told = Told(vote(field.track("a", Overloaded("x")), field.track("b", *numbered(5)), max_events=3))
    await asyncio.sleep(20)
    assert isinstance(told.error, TracksFailed)
    assert list(told.error.errors) == ["a", "b"]


@pytest.mark.parametrize("at", [0, 1, 2, 3])
@virtual_time
async def test_disposed_at_any_moment_it_leaves_nothing(at: float) -> None:
    field = Field()
    told = Told(vote(*said(field, (1, "a"), (2, "b"), (9, "c"))))
    await asyncio.sleep(at)
    told.subscription.dispose()
    await settle()
    assert field.running == []
    await asyncio.sleep(20)
    assert (told.items, told.ended_at, await watchers(told.gate)) == ([], None, 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a", "b", "c", None])), min_size=1, max_size=6))
def test_the_winner_is_one_that_nobody_has_more_votes_than(ballots: list[tuple[int, str | None]]) -> None:
    """Law: closing the rest early changes nothing."""

    @virtual_time
    async def main() -> None:
        field = Field()
        steps: list[list[Step]] = [[when, *((text, DONE) if text else (Overloaded("x"),))] for when, text in ballots]
        told = Told(vote(*(field.track(f"t{number}", *each) for number, each in enumerate(steps))))
        await asyncio.sleep(20)
        votes = Counter(text for _, text in ballots if text)
        if not votes:
            assert isinstance(told.error, TracksFailed)
            return
        most = [text for text, count in votes.items() if count == max(votes.values())]
        first = next(text for _, text in ballots if text in most)
        assert told.response.text == first
        assert len([item for item in told.items if isinstance(item, TextDelta)]) == 1
        assert field.running == []

    main()


@pytest.mark.parametrize("options", [{"quorum": 0}, {"quorum": 1.5}, {"max_events": 0}, {"key": 0}])
def test_an_option_out_of_its_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        vote(rx.never(), **options)


def test_there_must_be_a_track() -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        vote()


@virtual_time
async def test_a_track_of_several_answers_has_no_vote() -> None:
    """Its texts are not mixed into one that nobody gave."""
    field = Field()
    told = Told(vote(merge(field.track("a", "A", DONE), field.track("b", "B", DONE)), field.track("c", 9, "AB", DONE)))
    await asyncio.sleep(1)
    assert isinstance(told.error, ConfigurationError)
    assert "several tracks (a, b)" in str(told.error)
    assert (told.items, field.running) == ([], [])
