"""A tape is plain JSON Lines that any program can read."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from rxstream.events import ErrorInfo, TextDelta
from rxstream.tapes.format import FORMAT, Header, Line, encode_line


def test_a_line_is_one_line_of_json_and_says_no_more_than_it_has() -> None:
    written = encode_line(Line(t=1.5, e=TextDelta(text="a\nb")))
    assert written == b'{"t":1.5,"e":{"type":"text-delta","text":"a\\nb"}}\n'
    last = Line(t=2.0, end="error", error=ErrorInfo(kind="Disconnected", message="gone"))
    assert json.loads(encode_line(last)) == {
        "t": 2.0,
        "end": "error",
        "error": {"kind": "Disconnected", "message": "gone"},
    }


def test_the_header_names_the_format_first() -> None:
    written = encode_line(Header(tape=FORMAT, version=1, kind="events", started=3.0, metadata={"who": "me"}))
    assert written == b'{"tape":"rxstream-tape","version":1,"kind":"events","started":3.0,"metadata":{"who":"me"}}\n'


@given(st.binary() | st.text().map(str.encode))
def test_bytes_are_text_where_they_can_be(data: bytes) -> None:
    try:
        line = Line(t=0.0, b=data.decode())
    except UnicodeDecodeError:
        line = Line(t=0.0, x=data)
    assert line.data == data
