"""Two tapes that say the same differ in nothing, however it came; and what differs is shown."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import ConfigurationError
from rxstream.events import ErrorInfo, Event, Finished, Heartbeat, TextDelta, ToolCallDelta
from rxstream.tapes.convert import of_body, of_events
from rxstream.tapes.diff import differences
from rxstream.tapes.format import Line
from rxstream.tapes.read import Tape

DONE = Finished(reason="stop")


def cut(text: str, cuts: list[int], at: float = 0.0) -> list[Event]:
    places = [0, *sorted(min(place, len(text)) for place in cuts), len(text)]
    pieces = (text[start:stop] for start, stop in pairwise(places))
    return [*(TextDelta(text=piece, at=at) for piece in pieces), DONE]


@given(st.text(), st.lists(st.integers(0, 20), max_size=4), st.lists(st.integers(0, 20), max_size=4))
def test_how_a_text_was_cut_is_no_difference(text: str, one: list[int], other: list[int]) -> None:
    before, after = of_events(cut(text, one)), of_events([Heartbeat(), *cut(text, other, at=7.0)])
    assert differences(before, after) == []
    assert bool(differences(before, after, exact=True))


def test_what_differs_is_shown_as_a_diff() -> None:
    one = of_events([TextDelta(text="The sky"), TextDelta(text=" is blue."), ToolCallDelta(arguments="{"), DONE])
    other = of_events([TextDelta(text="The sky is red."), ToolCallDelta(arguments="{"), DONE])
    assert differences(one, other) == [
        "--- one",
        "+++ other",
        "@@ -1,3 +1,3 @@",
        '-{"type":"text-delta","text":"The sky is blue."}',
        '+{"type":"text-delta","text":"The sky is red."}',
        ' {"type":"tool-call-delta","arguments":"{"}',
        ' {"type":"finished","reason":"stop"}',
    ]


def test_other_parts_and_tracks_are_others() -> None:
    one = of_events([TextDelta(text="a"), TextDelta(text="b", part=1), DONE])
    other = of_events([TextDelta(text="ab"), DONE])
    assert differences(one, other)


def test_ends_are_compared() -> None:
    whole = of_events([TextDelta(text="a"), DONE])
    torn = Tape(whole.header, whole.lines[:-1])
    assert differences(whole, torn)[-2:] == ["-completed", "+cut: no end"]
    failed = Tape(whole.header, [*torn.lines, Line(t=1.0, end="error", error=ErrorInfo(kind="TimedOut", message="x"))])
    assert differences(torn, failed)[-1] == "+error: TimedOut: x"


def test_bytes_are_compared_with_events() -> None:
    body = b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    tape = of_body(body)
    assert differences(tape, tape) == []
    assert differences(tape, of_events([TextDelta(text="b"), DONE]))


def test_of_several_requests_one_is_compared() -> None:
    body = b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    tape = of_body(body)
    twice = Tape(tape.header, [*tape.lines, *(msgspec.structs.replace(line, r=2) for line in tape.lines)])
    assert differences(tape, twice, request=2) == []
    with pytest.raises(ConfigurationError, match="2 requests on the tape: say which, by its number as request"):
        differences(tape, twice)
