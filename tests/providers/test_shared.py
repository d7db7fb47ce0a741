"""What the dialects share: numbers of parts, waiting times, heads of bodies, and the promises of a decoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import LimitExceeded, ProtocolError, StreamError, StreamIncomplete
from rxstream.events import Event, Finished, Heartbeat, TextDelta
from rxstream.providers._shared import PartNumbers, SSEDialect, head, mask, retry_after
from rxstream.typing import Decoder


def test_parts_are_numbered_as_they_appear() -> None:
    """A key keeps its number until it ends; then the same key is a new part."""
    parts = PartNumbers()
    assert [parts.number(key) for key in ("text", ("tool", 3), "text", ("tool", 0))] == [0, 1, 0, 2]
    parts.end(("tool", 3))
    parts.end("never begun")
    assert parts.number(("tool", 3)) == 3
    assert parts.number("text") == 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30 GMT", "Date": "Sat, 21 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 09:00:00 GMT", "date": "Sat, 21 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30 GMT"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30 GMT", "date": "yesterday"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30 -0000", "date": "Sat, 21 Nov 2026 10:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds, seconds, or a date against the response's own; never negative, None where it says nothing."""
    assert retry_after(headers) == seconds


@given(st.text(), st.text())
def test_retry_after_takes_any_words(wait: str, date: str) -> None:
    """No header breaks it."""
    seconds = retry_after({"retry-after": wait, "date": date})
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcDEF0123456789",
        "sk-ant-api03-abcdefghij",
        "xai-ABCDEFGH12345678",
        "gsk_abcdefghijklmnop",
        "hf_abcdefghijklmnop",
        "pplx-0123456789abcdef",
        "AIzaSyA0123456789abcdef",
        "eyJhbGciOi.eyJzdWIiOi.SflKxwRJSM",
    ],
)
def test_keys_are_masked(key: str) -> None:
    """A key that a provider quotes back does not come out; the words around it do."""
    assert mask(f"Incorrect API key provided: {key}. See the docs.").endswith("See the docs.")
    for text in (
        f"Incorrect API key provided: {key}",
        f"Authorization: Bearer {key}",
        f'{{"key":"{key}"}}',
        f"({key})",
    ):
        assert key not in mask(text)
        assert key[-8:] not in mask(text)


def test_a_key_without_a_shape_is_masked_where_it_is_named() -> None:
    """Some keys look like any word; what stands before them tells."""
    assert mask("Incorrect API key provided: hunter2. Try again.") == "Incorrect API key provided: ***. Try again."
    assert mask("Bearer 0123456789abcdef0123") == "Bearer ***"
    for words in ("task-manager, risk-free, key_error", "tokens per min: 10_000", "sk-learn"):
        assert mask(words) == words


def test_the_head_of_a_body_is_short_and_without_keys() -> None:
    """Whatever the bytes."""
    assert head(b"\xffsk-abcdefghijkl " + b"y" * 5000, 20) == "\ufffd*** " + "y" * 15


class Lines(SSEDialect):
    """A dialect of one word a payload."""

    def _payload(self, event: str, data: bytes, raw: bytes | None, out: list[Event]) -> None:
        for word in data.decode().split():
            if word == "end":
                out.append(Finished(reason="stop"))
                self.finished = True
                return
            if word == "fault":
                raise StreamError("said so")
            out.append(TextDelta(text=word, raw=raw))

    def _end(self, out: list[Event]) -> None:
        if not self._keep_raw:
            raise StreamIncomplete("no end")
        out.append(Finished(reason="other"))


def test_it_is_a_decoder() -> None:
    """The frame has the shape of the protocol."""
    assert isinstance(Lines(), Decoder)


def test_events_before_a_fault_are_delivered_first() -> None:
    """`feed` returns what it has and shows the error; then every call raises it."""
    decoder = Lines()
    assert decoder.feed(b"data: a fault b\n\n") == [TextDelta(text="a", raw=b"a fault b")]
    assert str(decoder.failure) == "said so"
    for _ in range(2):
        with pytest.raises(StreamError, match="said so"):
            decoder.feed(b"data: c\n\n")
        with pytest.raises(StreamError, match="said so"):
            decoder.close()


def test_a_fault_without_events_is_raised_at_once() -> None:
    """There is nothing to hand over first."""
    with pytest.raises(StreamError, match="said so"):
        Lines().feed(b"data: fault\n\n")


def test_what_comes_after_the_end_is_ignored() -> None:
    """Also in the same read, and a limit that is exceeded there."""
    decoder = Lines(max_event_bytes=20)
    assert decoder.feed(b"data: end a fault\n\ndata: fault\n\n" + b"x" * 100) == [Finished(reason="stop")]
    assert (decoder.finished, decoder.failure) == (True, None)
    assert decoder.feed(b"data: fault\n\n") == []
    assert decoder.close() == []


def test_close_ends_once() -> None:
    """A second close says nothing, and bytes after it are ignored."""
    decoder = Lines()
    assert decoder.close() == [Finished(reason="other")]
    assert decoder.close() == []
    assert decoder.feed(b"data: a\n\n") == []


def test_close_reads_the_block_without_a_blank_line() -> None:
    """What came in the last block is delivered, then the error of the end."""
    decoder = Lines(keep_raw=False)
    decoder.feed(b"data: a")
    assert decoder.close() == [TextDelta(text="a")]
    with pytest.raises(StreamIncomplete):
        decoder.close()


def test_a_last_block_that_was_cut_is_not_a_wrong_protocol() -> None:
    """Half a character at the end of the body is a cut stream."""
    decoder = Lines(keep_raw=False)
    decoder.feed("data: é".encode()[:-1])
    with pytest.raises(StreamIncomplete):
        decoder.close()


def test_bytes_that_are_not_text_are_a_wrong_protocol() -> None:
    """The message says what was wrong, and the body has the payload's head."""
    with pytest.raises(ProtocolError, match="utf-8") as caught:
        Lines().feed(b"data: \xff\n\n")
    assert caught.value.body == "\ufffd"


def test_comments_are_heartbeats() -> None:
    """With their text."""
    assert Lines().feed(b": busy\n\n:\n\n") == [Heartbeat(comment="busy"), Heartbeat()]


def test_an_event_over_the_limit() -> None:
    """The events before it are delivered first."""
    decoder = Lines(max_event_bytes=20)
    assert decoder.feed(b"data: a\n\ndata: " + b"x" * 30) == [TextDelta(text="a", raw=b"a")]
    with pytest.raises(LimitExceeded):
        decoder.feed(b"")
