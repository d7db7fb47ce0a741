"""``of_track``: the events of one track."""

from __future__ import annotations

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as ops

from rxstream.errors import ConfigurationError, ConnectError
from rxstream.events import Failed, TextDelta
from rxstream.operators import of_track


@given(sources=st.lists(st.sampled_from(["a", "b", ""])))
def test_the_events_of_the_track_pass_in_their_order(sources: list[str]) -> None:
    events = [TextDelta(source=source, text=str(number)) for number, source in enumerate(sources)]
    passed = rx.from_iterable(events).pipe(of_track("a"), ops.to_list()).run()
    assert passed == [event for event in events if event.source == "a"]


def test_its_failure_passes_too() -> None:
    failure = Failed(source="a", error=ConnectError("no server").info())
    assert rx.of(failure).pipe(of_track("a")).run() is failure


def test_a_label_is_a_string() -> None:
    with pytest.raises(ConfigurationError, match="label=3"):
        of_track(3)  # type: ignore[arg-type]
