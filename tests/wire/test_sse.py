"""Server-sent events: the WHATWG rules, our three differences, and the laws of splitting, rebuilding and bounds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxstream.errors import LimitExceeded
from rxstream.wire.sse import ServerSentEvent, SSEDecoder, encode
from tests.support.recordings import Recording, each_recording, splits


def decode(body: bytes, cuts: Iterable[int] = (), **options: int) -> list[ServerSentEvent]:
    decoder = SSEDecoder(**options)
    found: list[ServerSentEvent] = []
    for start, stop in pairwise((0, *cuts, len(body))):
        found += decoder.feed(body[start:stop])
    return found + decoder.close()


def outcome(body: bytes, cuts: Iterable[int], limit: int) -> tuple[list[ServerSentEvent], bool]:
    """What comes out before the limit is hit, and whether it is."""
    decoder = SSEDecoder(max_event_bytes=limit)
    found: list[ServerSentEvent] = []
    try:
        for start, stop in pairwise((0, *cuts, len(body))):
            found += decoder.feed(body[start:stop])
        found += decoder.close()
    except LimitExceeded:
        return found, True
    return found, False


def event(data: bytes = b"x", name: str = "", **fields: object) -> ServerSentEvent:
    return ServerSentEvent(event=name, data=data, **fields)  # type: ignore[arg-type]  # names of fields, checked by the struct


def comment(text: str) -> ServerSentEvent:
    return ServerSentEvent(comment=text)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: x\n\n", [event()]),
        (b"data: x\r\n\r\n", [event()]),
        (b"data: x\r\r", [event()]),
        (b"data: x\r\n\n", [event()]),
        (b"data:x\n\n", [event()]),
        (b"data:  x\n\n", [event(b" x")]),
        (b"data: a\ndata: b\n\n", [event(b"a\nb")]),
        (b"data:\ndata:\n\n", [event(b"\n")]),
        (b"data\n\n", [event(b"")]),
        (b"data: \n\n", [event(b"")]),
        (b"\xef\xbb\xbfdata: x\n\n", [event()]),
        (b"data: \xef\xbb\xbf\n\n", [event(b"\xef\xbb\xbf")]),
        (b"event: done\ndata: x\n\n", [event(name="done")]),
        (b"data: x\nevent: done\n\n", [event(name="done")]),
        (b"event: a\nevent: b\ndata: x\n\n", [event(name="b")]),
        (b"event: a\n\ndata: x\n\n", [event()]),
        (b"id: 7\ndata: x\n\ndata: y\n\n", [event(id="7"), event(b"y")]),
        (b"id: a\0b\ndata: x\n\n", [event()]),
        (b"retry: 250\ndata: x\n\n", [event(retry=250)]),
        (b"retry: 2.5\ndata: x\n\n", [event()]),
        (b"retry: " + b"9" * 5000 + b"\ndata: x\n\n", [event()]),
        (b"colour: red\ndata: x\n\n", [event()]),
        (b"Data: y\ndata: x\n\n", [event()]),
        (b"\n\n\ndata: x\n\n\n\n", [event()]),
        (b": hello\n\n", [comment("hello")]),
        (b":\n\n", [comment("")]),
        (b":  two\n\n", [comment(" two")]),
        (b"data: x\n: in it\ndata: y\n\n", [comment("in it"), event(b"x\ny")]),
        (b"event: \xff\ndata: \xff\n\n", [event(b"\xff", "\ufffd")]),
        (b"data: x", [event()]),
        (b"data: x\n", [event()]),
        (b"data: x\r", [event()]),
        (b"", []),
        (b"\xef\xbb", []),
        (b"event: x\nid: 1\nretry: 1\n\n", []),
    ],
)
def test_rules(body: bytes, expected: list[ServerSentEvent]) -> None:
    """Each rule of the format, with the body whole and byte by byte."""
    assert decode(body) == expected
    assert decode(body, range(1, len(body))) == expected


def test_a_comment_is_delivered_when_its_line_is_whole() -> None:
    """A heartbeat does not wait for a blank line, which some servers never send."""
    assert SSEDecoder().feed(b": ping\n") == [comment("ping")]


def test_the_last_event_needs_no_blank_line() -> None:
    """`close` delivers it, once."""
    decoder = SSEDecoder()
    assert decoder.feed(b"event: end\ndata: x") == []
    assert decoder.close() == [event(name="end")]
    assert decoder.close() == []


def test_a_cr_ends_its_line_at_once_and_owns_the_lf_that_follows() -> None:
    """CRLF split over two reads is one line end, and nobody waits for the second half."""
    decoder = SSEDecoder()
    assert decoder.feed(b"data: x\r\n\r") == [event()]
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"data: y\r\n\r\n") == [event(b"y")]


@each_recording()
def test_recordings(recording: Recording) -> None:
    """Every recorded body gives the events that httpx-sse finds in it, in one read and in reads of 7 bytes."""
    found = decode(recording.body)
    assert decode(recording.body, range(7, len(recording.body), 7)) == found
    events = [item for item in found if item.comment is None]
    if not recording.body.endswith((b"\n\n", b"\r\n\r\n")):
        assert len(events) == recording.meta["sse"]["events"] + 1  # ours: the last event, which has no blank line
        events.pop()
    if recording.id == "other-replicate/openllmetry-replicate-llama-stream-legacy-i1":
        assert len(events) == recording.meta["sse"]["events"] - 1  # theirs: a comment after an id counts as an event
        return
    text = json.dumps([[item.event or "message", item.data.decode()] for item in events], ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == recording.meta["sse"]["sha256"]


LINES = st.sampled_from(
    [
        b"data: x",
        b"data: ",
        b"data",
        b": c",
        b"event: e",
        b"id: 1",
        b"retry: 3",
        b"",
        b"",
        b"\xef\xbb\xbf",
        b"z",
        b"data: \xc3\xa9",
    ]
)
BODIES = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r", b"\r\n"]))).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@given(st.data(), BODIES | st.binary(max_size=200))
def test_any_split_gives_the_same_events(data: st.DataObject, body: bytes) -> None:
    """Where the bytes are cut makes no difference."""
    assert decode(body, data.draw(splits(body))) == decode(body)


@given(st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\n\n"]), st.booleans())))
def test_reads_that_end_with_lines_give_the_same_events(lines: list[tuple[bytes, bytes, bool]]) -> None:
    """Most reads are exactly one event: the short way for them is no other way."""
    body = b"".join(line + end for line, end, _ in lines)
    places = accumulate(len(line + end) for line, end, _ in lines)
    cuts = [place for place, (_, _, is_cut) in zip(places, lines, strict=True) if is_cut]
    assert decode(body, cuts) == decode(body)
    for limit in (8, 16):
        assert outcome(body, cuts, limit) == outcome(body, (), limit)


def test_a_read_that_looks_like_an_event_may_be_the_rest_of_a_line() -> None:
    """What was held back goes first."""
    assert decode(b"data: adata: b\n\n", [7]) == [event(b"adata: b")]


@given(st.data(), BODIES, st.integers(1, 40))
def test_any_split_hits_the_limit_alike(data: st.DataObject, body: bytes, limit: int) -> None:
    """The limit cuts a stream at the same event however it is read; what came before is delivered."""
    assert outcome(body, data.draw(splits(body)), limit) == outcome(body, (), limit)


WORDS = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))
EVENTS = st.builds(
    ServerSentEvent,
    event=WORDS,
    data=st.binary().map(lambda data: data.replace(b"\r", b"")),
    id=WORDS,
    retry=st.none() | st.integers(0, 10**15 - 1),
)


@given(st.lists(EVENTS | st.builds(comment, WORDS)))
def test_what_is_encoded_is_decoded(events: list[ServerSentEvent]) -> None:
    """`encode` is the inverse of the decoder."""
    assert decode(b"".join(encode(item) for item in events)) == events


def test_a_cr_in_the_data_becomes_an_lf() -> None:
    """The format cannot say CR; it says line end."""
    assert decode(encode(event(b"a\r\nb\rc"))) == [event(b"a\nb\nc")]


@pytest.mark.parametrize(
    "item",
    [event(name="a\nb"), event(id="a\rb"), event(id="a\0b"), comment("a\nb")],
)
def test_what_cannot_be_written_is_refused(item: ServerSentEvent) -> None:
    """A line break in a name would forge fields."""
    with pytest.raises(ValueError, match=r"line break|NUL"):
        encode(item)


def test_the_limit_is_on_one_event_with_its_line_ends() -> None:
    """Exactly the limit is allowed, one byte more is not; comments count, blank lines do not."""
    body = b"data: 1234\n\n"
    assert len(decode(body * 9, max_event_bytes=11)) == 9
    with pytest.raises(LimitExceeded, match="longer than 10 bytes"):
        decode(body, max_event_bytes=10)
    with pytest.raises(LimitExceeded):
        decode(b": 12\n: 45\ndata: 1\n\n", max_event_bytes=11)
    with pytest.raises(LimitExceeded):
        decode(b"data: 123456", max_event_bytes=11)


def test_events_before_the_limit_are_delivered_and_the_error_stays() -> None:
    """`feed` does not raise while it has events in hand; after that every call raises."""
    decoder = SSEDecoder(max_event_bytes=10)
    assert decoder.feed(b"data: x\n\ndata: 0123456789\n\n") == [event()]
    assert isinstance(decoder.failure, LimitExceeded)
    for _ in range(2):
        with pytest.raises(LimitExceeded):
            decoder.feed(b"data: x\n\n")
        with pytest.raises(LimitExceeded):
            decoder.close()


@settings(max_examples=5)
@given(st.sampled_from([1, 7, 1024]))
def test_a_long_event_is_held_in_pieces(size: int) -> None:
    """An unfinished line is a list of the pieces that were read: each byte is copied once, when the line is whole."""
    decoder = SSEDecoder()
    line = b"data: " + b"x" * (64 * size)
    for start in range(0, len(line), size):
        assert decoder.feed(line[start : start + size]) == []
        assert sum(map(len, decoder._tail)) == min(start + size, len(line))
        assert max(map(len, decoder._tail)) <= max(size, 3)  # 3: what may be a byte order mark is held back
    assert decoder.feed(b"\n\n") == [event(b"x" * (64 * size))]
    assert decoder._tail == []
