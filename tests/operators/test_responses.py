"""``responses``: the answers of a combination."""

from __future__ import annotations

import pytest
import reactivex as rx
from reactivex import operators as ops

from rxstream.errors import ConfigurationError, ConnectError, TracksFailed
from rxstream.events import Event, Failed, Finished, TextDelta
from rxstream.observable import Stream
from rxstream.operators import responses
from rxstream.tracks import merge

MERGED: tuple[Event, ...] = (
    TextDelta(source="a", text="Hel"),
    TextDelta(source="b", text="Bon"),
    TextDelta(source="a", text="lo"),
    Finished(source="a", reason="stop"),
    Failed(source="b", error=ConnectError("gone").info()),
)


def test_each_track_has_its_answer_at_the_end() -> None:
    answers = rx.of(*MERGED).pipe(responses()).run()
    assert {label: (answer.text, answer.finish_reason) for label, answer in answers.items()} == {
        "a": ("Hello", "stop"),
        "b": ("Bon", None),
    }


def test_nothing_comes_of_nothing() -> None:
    assert rx.empty().pipe(responses()).run() == {}


def test_an_error_passes() -> None:
    failing: rx.Observable[Event] = rx.throw(ConnectError("no server"))
    with pytest.raises(ConnectError):
        failing.pipe(responses()).run()


def test_a_stream_of_several_answers_has_no_one_answer() -> None:
    """It says so at the first event that shows it, and what to do."""
    taken: list[Event] = []
    stream = Stream.of(rx.concat(rx.of(*MERGED[:2]), rx.never())).pipe(ops.do_action(taken.append))
    with pytest.raises(ConfigurationError, match=r"\(a, b\).*responses\(\).*of_track\(label\)"):
        stream.run(timeout=10)
    assert taken == list(MERGED[:2])


async def test_which_can_be_awaited_as_several() -> None:
    answers = await Stream.of(rx.of(*MERGED)).pipe(responses())
    assert list(answers) == ["a", "b"]


def test_an_item_that_is_no_event_ends_in_an_error() -> None:
    with pytest.raises(TypeError, match="not an event"):
        Stream.of(rx.of("text")).pipe(responses()).run()


def test_if_all_tracks_fail_that_is_what_is_told() -> None:
    """And not that there would have been several answers."""
    with pytest.raises(TracksFailed, match="all 2 tracks failed: track-1: ConnectError"):
        merge(rx.throw(ConnectError("no server")), rx.throw(ConnectError("no network"))).run(timeout=10)


def test_a_combination_that_ends_without_one_answer_says_so() -> None:
    failures = [Failed(source=label, error=ConnectError("gone").info()) for label in ("a", "b")]
    with pytest.raises(ConfigurationError, match="several tracks"):
        Stream.of(rx.of(*failures)).run(timeout=10)
