"""``of_type``."""

from __future__ import annotations

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex.scheduler import ImmediateScheduler

from rxstream.errors import ConfigurationError
from rxstream.events import EventBase, Finished, TextDelta
from rxstream.operators import of_type


def through(items: list[Any], kind: type[Any]) -> list[Any]:
    heard: list[Any] = []
    rx.from_iterable(items).pipe(of_type(kind)).subscribe(heard.append, scheduler=ImmediateScheduler())
    return heard


@given(st.lists(st.one_of(st.integers(), st.text(max_size=3), st.booleans(), st.none())))
@pytest.mark.parametrize("kind", [int, str, bool, object, float])
def test_lets_pass_exactly_the_instances_in_order(kind: type[Any], items: list[Any]) -> None:
    assert through(items, kind) == [item for item in items if isinstance(item, kind)]


def test_knows_subclasses() -> None:
    events = [TextDelta(text="a"), Finished(reason="stop")]
    assert through(events, EventBase) == events
    assert through([*events, "no event"], TextDelta) == events[:1]


def test_errors_and_the_end_pass() -> None:
    said: list[object] = []
    rx.empty().pipe(of_type(int)).subscribe(said.append, said.append, lambda: said.append("end"))
    error = ValueError("mine")
    rx.throw(error).pipe(of_type(int)).subscribe(said.append, said.append)
    assert said == ["end", error]


def test_a_kind_is_a_class() -> None:
    with pytest.raises(ConfigurationError, match="kind='TextDelta'"):
        of_type("TextDelta")  # type: ignore[arg-type]
