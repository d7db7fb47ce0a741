"""Each fault in each dialect: what goes over the wire is what its name says, and what our own streams make of it."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import rxstream
from rxstream import errors
from rxstream.errors import ConfigurationError, StreamError
from rxstream.events import TextDelta
from rxstream.providers import decoder_for
from rxstream.response import Response
from rxstream.testing.chaos import (
    DIALECTS,
    ERRORS,
    FAULTS,
    Call,
    ChaosServer,
    Fault,
    RandomFaults,
    Script,
    Signal,
    Thought,
)
from rxstream.testing.chaos._errors import FORMS
from rxstream.testing.chaos._faults import befall, several
from tests.support.chaos import answer_of, body_of
from tests.support.raw import Raw, ask
from tests.support.recordings import feed_all

TEXT: Final = "Why is the sky blue, and snow white?"
SCRIPT: Final = Script.of_text(TEXT)
FIRST: Final = "Why"
TOOLED: Final = Script("On it. ☃", Call("weather", ['{"city": "Par', 'is"}']))
PLACED: Final = [name for name in FAULTS if "at" in Fault.options(name)]

each_dialect = pytest.mark.parametrize("dialect", DIALECTS)
each_fault = pytest.mark.parametrize("name", FAULTS)


MEANT: Final = {
    "overloaded": errors.Overloaded,
    "rate_limit": errors.RateLimited,
    "server": errors.ServerFault,
    "timeout": errors.ServerFault,
    "request": errors.BadRequest,
    "auth": errors.AuthError,
    "permission": errors.AuthError,
    "not_found": errors.BadRequest,
    "too_large": errors.BadRequest,
    "context": errors.BadRequest,
    "filter": errors.ContentFiltered,
    "quota": errors.RateLimited,
}
VAGUE: Final = {("filter", "bare"), ("too_large", "event"), ("too_large", "failed")}
"""Where nothing but prose says what they are."""

# --- on the wire ----------------------------------------------------------------------------------------------------------


def wire(
    fault: Fault | str, dialect: Any, script: Script = SCRIPT, until: Callable[[bytes], bool] | None = None
) -> Raw:
    """What a client of the socket sees."""
    with ChaosServer(script, faults=fault) as server:
        return ask(server, dialect, until=until)


@each_dialect
def test_nothing_goes_wrong_without_a_fault(dialect: Any) -> None:
    """An event is a chunk of HTTP; the answer ends properly."""
    with ChaosServer(SCRIPT) as server:
        raw = ask(server, dialect)
    assert (raw.status, raw.how, raw.body) == (200, "end", body_of(SCRIPT, dialect))
    assert all(chunk.endswith(b"\n\n") and chunk.count(b"\n\n") == 1 for chunk in raw.chunks)


@each_dialect
@pytest.mark.parametrize(("name", "how"), [("reset", "reset"), ("close", "eof"), ("end", "end")])
def test_a_cut_at_any_byte(dialect: Any, name: str, how: str) -> None:
    """Exactly so many bytes come, and then the end that was asked for."""
    whole = body_of(SCRIPT, dialect)
    for cut in (0, 1, 137, len(whole) - 1, len(whole)):
        with ChaosServer(SCRIPT, faults=Fault(name, at=cut)) as server:
            raw = ask(server, dialect)
            [served] = server.requests
        assert raw.how == how
        # what is in the client's buffer when RST comes may be lost: that is what RST does
        assert raw.body == whole[:cut] if name != "reset" else whole[:cut].startswith(raw.body)
        assert (served.body_sent, served.ended) == (cut, name)


@each_dialect
@pytest.mark.parametrize(
    ("place", "events"), [({"event": 0}, 0), ({"event": 2}, 2), ({"content": 2}, None), ({"fraction": 1.0}, None)]
)
def test_a_place_can_be_told_in_four_ways(dialect: Any, place: dict[str, Any], events: int | None) -> None:
    with ChaosServer(SCRIPT, faults=Fault("end", **place)) as server:
        raw = ask(server, dialect)
        [served] = server.requests
    if events is not None:
        assert raw.body.count(b"\n\n") == served.events_sent == events
    elif "content" in place:
        assert served.text_sent == "Why is"
    else:
        assert raw.body == body_of(SCRIPT, dialect)


@each_dialect
def test_half_close_waits_for_the_client(dialect: Any) -> None:
    """FIN in one direction: the server's record says that the client left, later."""
    with ChaosServer(SCRIPT, faults="half_close") as server:
        assert ask(server, dialect).how == "eof"
        served = server.wait_left()
    assert (served.ended, served.left_phase) == ("half-close", "output")


@each_dialect
def test_refused_means_not_a_byte(dialect: Any) -> None:
    raw = wire("refuse", dialect)
    assert (raw.how, raw.status, raw.body) == ("reset", 0, b"")


@each_dialect
@pytest.mark.parametrize("name", [name for name in FAULTS if name.isdecimal()])
def test_http_errors_have_the_bodies_of_the_dialect(dialect: Any, name: str) -> None:
    raw = wire(name, dialect)
    assert (raw.status, raw.how) == (int(name), "end")
    if name == "502":
        assert raw.headers["content-type"] == "text/html"
        return
    error = raw.json["error"]
    assert error["message"]
    assert error["type"]
    assert ("code" in error) == (dialect != "anthropic")


def test_how_long_to_wait_is_told_in_seconds_or_as_a_date() -> None:
    def header(fault: Fault) -> str:
        return wire(fault, "anthropic").headers["retry-after"]

    assert header(Fault("429", retry_after=2)) == "2"
    assert header(Fault("503", retry_after=0.5)) == "0.5"
    assert header(Fault("429", retry_after=1e7)) == "10000000"
    assert header(Fault("429", retry_after=1234567.25)) == "1234567.25"
    assert parsedate_to_datetime(header(Fault("429", retry_after=60, date=True))).year >= 2024
    assert parsedate_to_datetime(header(Fault("429", retry_after=1e15, date=True))).year == 9999
    assert "retry-after" not in wire("429", "anthropic").headers


@each_dialect
def test_compressed_bodies(dialect: Any) -> None:
    """Each event can be read when it comes; cut, they lack their end."""
    whole = body_of(SCRIPT, dialect)
    zipped = wire("gzip", dialect)
    assert zipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(zipped.body) == whole
    assert zlib.decompress(wire("deflate", dialect).body) == whole
    with ChaosServer(SCRIPT, faults=[("gzip", "end:at=100")]) as server:
        cut = ask(server, dialect)
    reader = zlib.decompressobj(wbits=31)
    assert reader.decompress(cut.body) == whole[:100]
    assert not reader.eof


@each_dialect
def test_a_wrong_content_type(dialect: Any) -> None:
    assert wire(Fault("content_type", type="text/plain"), dialect).headers["content-type"] == "text/plain"
    assert wire("content_type", dialect).body == body_of(SCRIPT, dialect)


@each_dialect
def test_slow_pieces_are_the_whole_body(dialect: Any) -> None:
    """A drip of one byte, a split, a proxy's lumps: the same bytes in other pieces."""
    whole = body_of(SCRIPT, dialect)
    drip = wire(Fault("drip", size=7, every=0), dialect)
    assert drip.body == whole
    assert max(map(len, drip.chunks)) == 7
    split = wire(Fault("split", at=137), dialect)
    assert split.body == whole
    edges = {len(b"".join(split.chunks[:count])) for count in range(len(split.chunks) + 1)}
    assert 137 in edges
    lumps = wire(Fault("buffer", size=500), dialect)
    assert lumps.body == whole
    assert all(len(chunk) >= 500 for chunk in lumps.chunks[:-1])
    assert wire("buffer", dialect).chunks == [whole]


@each_dialect
def test_a_stall_is_silent_or_pings(dialect: Any) -> None:
    """Until the client leaves, or for some seconds, or until the test says so."""
    pings = wire(Fault("stall", pings=0), dialect, until=lambda body: body.count(b"\n\n") > 30)
    assert pings.how == "left"
    with ChaosServer(
        SCRIPT, faults=["stall", "stall:seconds=0.01", "stall:content=2,seconds=0.02,pings=0.005"]
    ) as server:
        ask(server, dialect, until=lambda body: FIRST.encode() in body)
        served = server.wait_left()
        assert (served.ended, served.text_sent, served.left_phase) == ("left", FIRST, "output")
        assert len(ask(server, dialect).body) == len(body_of(SCRIPT, dialect))
        assert len(ask(server, dialect).body) > len(body_of(SCRIPT, dialect))
    signal = Signal()

    def go_on(_body: bytes) -> bool:
        signal.set()
        return False

    with ChaosServer(SCRIPT, faults=Fault("stall", until=signal)) as server:
        assert ask(server, dialect, until=go_on).how == "end"


@each_dialect
def test_a_hang_before_the_head(dialect: Any) -> None:
    raw = wire(Fault("hang", seconds=0.01), dialect)
    assert (raw.how, raw.body) == ("end", body_of(SCRIPT, dialect))


@each_dialect
def test_a_complete_answer_whose_body_lingers(dialect: Any) -> None:
    whole = body_of(SCRIPT, dialect)
    assert wire("linger", dialect, until=lambda body: body == whole).how == "left"


@each_dialect
def test_endless_text_is_bounded_at_the_server(dialect: Any) -> None:
    """It goes on for ever, and the record does not grow with it."""
    with ChaosServer(SCRIPT, faults="endless") as server:
        raw = ask(server, dialect, until=lambda body: body.count(FIRST.encode()) > 500)
        served = server.wait_left()
    assert raw.how == "left"
    assert served.text_sent == FIRST
    assert served.events_sent > 500


@each_dialect
def test_a_cut_inside_a_character(dialect: Any) -> None:
    """The body ends with the first byte of one."""
    for script in (SCRIPT, Script("So ☃ ends it.")):
        with pytest.raises(UnicodeDecodeError, match="unexpected end of data"):
            wire("cut_utf8", dialect, script).body.decode()


@each_dialect
@pytest.mark.parametrize("how", ["end", "close", "half_close"])
def test_a_cut_inside_an_event(dialect: Any, how: str) -> None:
    """In its line, in its JSON, in the arguments of a tool, with any end."""
    line = wire(Fault("cut_event", how=how), dialect).body
    assert not line.endswith(b"\n")
    assert b"}" not in line.rpartition(b"\n")[2]
    data = wire(Fault("cut_json", how=how), dialect).body.rpartition(b"data: ")[2]
    assert data.startswith(b"{")
    for script in (SCRIPT, TOOLED):
        last = wire(Fault("cut_tool", how=how), dialect, script)
        assert last.body.rstrip().rpartition(b"\n")[2].count(b"Par") == 1
        assert b'is\\"}' not in last.body
        assert last.how == ("end" if how == "end" else "eof")


@each_dialect
async def test_an_error_in_the_midst_of_an_answer(dialect: Any) -> None:
    """It is the last event, after what was said, and our decoder takes it for an error of that kind, in every form."""
    faults = [Fault("error", kind=kind, form=form) for kind in ERRORS for form in FORMS]
    with ChaosServer(SCRIPT, faults=faults) as server:
        for fault in faults:
            kind = fault.kind or ""
            events, error = feed_all(decoder_for(DIALECTS[dialect]), ask(server, dialect).body)
            assert [event.text for event in events if isinstance(event, TextDelta)] == [FIRST]
            assert ERRORS[kind].message in str(error)
            assert type(error) is MEANT[kind] or (kind, fault.form) in VAGUE, fault
    assert {served.text_sent for served in server.requests} == {FIRST}


def test_events_that_change() -> None:
    """Doubled, exchanged, null, empty, unknown, oversized, broken: one more event or the same, at its place."""
    whole = [frame for frame in body_of(SCRIPT, "openai-chat").split(b"\n\n") if frame]

    def events(fault: Fault | str) -> list[bytes]:
        return [frame for frame in wire(fault, "openai-chat").body.split(b"\n\n") if frame]

    assert events(Fault("duplicate", content=2)) == [*whole[:3], whole[2], *whole[3:]]
    assert events(Fault("reorder", content=2)) == [*whole[:2], whole[3], whole[2], *whole[4:]]
    assert b'"content":null' in events("null")[2]
    assert (b'"content":""' in events("empty")[2], events("empty")[3]) == (True, b"data:")
    assert b"novelty" in events("unknown")[2]
    assert len(events(Fault("oversized", size=50_000))[2]) > 50_000
    assert events("bad_json")[2] == b"data: {'type': oops}"
    assert b'"\xff\xfe"' in events("bad_utf8")[2]
    for name in ("null", "empty", "unknown", "bad_json", "bad_utf8"):
        left = events(name)
        assert [*left[:2], *left[len(left) - len(whole) + 2 :]] == whole


@each_dialect
@pytest.mark.parametrize("name", ["null", "empty", "bad_utf8", "endless"])
def test_more_text_goes_into_a_block_of_text(dialect: Any, name: str) -> None:
    """Where the place is in the thinking before it, it comes after the first text."""
    where = re.compile(rb'"(?:index|output_index|item_id)":[^,}]+')
    raw = wire(name, dialect, Script(Thought("hm"), "Hi", " you"), until=lambda body: body.count(b"\n\n") > 30)
    events = raw.body.split(b"\n\n")
    place = next(place for place, event in enumerate(events) if b'"Hi"' in event)
    assert where.findall(events[place + 1]) == where.findall(events[place])
    extra = {"null": b"null", "empty": b'""', "bad_utf8": b'"\xff\xfe"', "endless": b'"Hi"'}[name]
    assert extra in events[place + 1]


@each_dialect
def test_what_may_be_missing(dialect: Any) -> None:
    whole = body_of(SCRIPT, dialect)
    assert b'"usage"' in whole
    assert b'"usage"' not in wire("missing_usage", dialect).body
    marks = {"anthropic": b"message_stop", "openai-chat": b"[DONE]", "openai-responses": b"response.completed"}
    assert marks[dialect] in whole
    assert marks[dialect] not in wire("missing_end", dialect).body
    reasons = {"anthropic": b"end_turn", "openai-chat": b'"stop"', "openai-responses": b"response.completed"}
    assert reasons[dialect] in whole
    assert reasons[dialect] not in wire("missing_finish", dialect).body
    assert wire("bom", dialect).body == b"\xef\xbb\xbf" + whole
    assert wire("crlf", dialect).body == whole.replace(b"\n", b"\r\n")


# --- through our own streams ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What comes of a fault."""

    kind: type[StreamError] | None = None
    text: str = TEXT
    fault: str = ""
    but: dict[str, Any] = field(default_factory=dict[str, Any])
    """What is different in a dialect."""


HTTP: Final = {
    "400": errors.BadRequest,
    "401": errors.AuthError,
    "403": errors.AuthError,
    "404": errors.BadRequest,
    "413": errors.BadRequest,
    "429": errors.RateLimited,
    "500": errors.ServerFault,
    "502": errors.ServerFault,
    "503": errors.Overloaded,
    "529": errors.Overloaded,
}
CUT: Final = Row(errors.StreamIncomplete, FIRST)
DOUBLED: Final = FIRST + TEXT
ROWS: Final[dict[str, Row]] = {
    "refuse": Row(errors.ConnectError, ""),
    "hang": Row(errors.TimedOut, ""),
    **{name: Row(kind, "") for name, kind in HTTP.items()},
    "html": Row(errors.UnexpectedContentType, ""),
    "json": Row(errors.Overloaded, ""),
    "nothing": Row(errors.StreamIncomplete, ""),
    "content_type": Row(errors.UnexpectedContentType, ""),
    "gzip": Row(),
    "deflate": Row(),
    "stall": Row(errors.TimedOut, FIRST, "stall:pings=0.01"),
    "drip": Row(fault="drip:every=0"),
    "split": Row(fault="split:at=200"),
    "buffer": Row(),
    "reset": Row(errors.Disconnected, FIRST),
    "close": Row(errors.Disconnected, FIRST),
    "half_close": Row(errors.Disconnected, FIRST),
    "end": CUT,
    "cut_event": CUT,
    "cut_json": CUT,
    "cut_utf8": Row(errors.StreamIncomplete),
    "cut_tool": Row(errors.ToolCallIncomplete),
    "endless": Row(errors.LimitExceeded, "…"),
    "linger": Row(),
    "error": Row(errors.Overloaded, FIRST),
    "duplicate": Row(text=DOUBLED, but={"openai-responses": TEXT}),
    "reorder": Row(text=f" is{FIRST}{TEXT[6:]}", but={"openai-responses": None}),
    "null": Row(),
    "empty": Row(),
    "unknown": Row(),
    "oversized": Row(errors.LimitExceeded, FIRST, "oversized:size=200000"),
    "bad_json": Row(errors.ProtocolError, FIRST),
    "bad_utf8": Row(errors.ProtocolError, FIRST),
    "bom": Row(),
    "crlf": Row(),
    "missing_finish": Row(but={"openai-responses": errors.StreamIncomplete}),
    "missing_end": Row(errors.StreamIncomplete, but={"openai-chat": None}),
    "missing_usage": Row(),
}


async def told(
    server: ChaosServer, dialect: Any, *, idle: float = 20.0, connect: float = 20.0
) -> Response | StreamError:
    """The answer, or the error, that a user of rxstream gets."""
    stream = rxstream.stream(
        f"{DIALECTS[dialect]}:any",
        "Why?",
        base_url=server.base_url(dialect),
        api_key="-",
        timeouts={"idle": idle, "connect": connect},
        limits={"event_bytes": 100_000, "stream_bytes": 400_000},
    )
    try:
        return await stream
    except StreamError as error:
        return error


def test_every_fault_has_its_row() -> None:
    assert list(ROWS) == list(FAULTS)


@each_dialect
@each_fault
async def test_what_our_streams_make_of_it(name: str, dialect: Any) -> None:
    """The right error with what arrived, or the whole text."""
    row = ROWS[name]
    kind, text = row.kind, row.text
    if dialect in row.but:
        other = row.but[dialect]
        kind, text = (kind, other) if isinstance(other, str) else (other, text)
    idle = 0.3 if name == "stall" else 20.0
    with ChaosServer(SCRIPT, faults=row.fault or name) as server:
        outcome = await told(server, dialect, idle=idle, connect=0.3 if name == "hang" else 20.0)
        assert len(server.requests) == 1
    if (
        name == "reorder" and dialect == "openai-responses"
    ):  # numbers out of order: it may be seen, and repaired by the end
        return
    if kind is None:
        assert isinstance(outcome, Response), outcome
        assert outcome.text == text
    else:
        assert type(outcome) is kind, outcome
        assert isinstance(outcome, StreamError)
        assert outcome.partial is not None
        assert text in ("…", outcome.partial.text)


# --- as data --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("restet", r"unknown fault 'restet'; did you mean 'reset'\?"),
        ("reset:att=1", "did you mean 'at'"),
        ("reset:at", "is no option=value"),
        ("reset:at=x", "at=x is no number"),
        ("reset:at=-1", "at=-1: must be a whole number of at least 0"),
        ("reset:fraction=1.5", "fraction=1.5: must be at most 1"),
        ("reset:fraction=nan", "fraction=nan: must be a finite number"),
        ("reset:seconds=1", "seconds: the fault 'reset' takes at, event, content, fraction"),
        ("bom:at=1", "at: the fault 'bom' takes nothing"),
        ("reset:at=1,event=2", "not both"),
        ("drip:size=0", "size=0"),
        ("429:date=maybe", "date=maybe is no yes or no"),
        ("error:kind=bad", "kind='bad': must be one of overloaded"),
        ("error:form=bad", "form='bad'"),
        ("cut_json:how=bad", "how='bad'"),
    ],
)
def test_a_wrong_fault_is_refused_by_name(words: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Fault.parse(words)


def test_a_fault_is_made_in_two_ways() -> None:
    assert Fault.parse("429:retry_after=2,date=yes") == Fault("429", retry_after=2, date=True)
    assert Fault.parse("stall") == Fault("stall")
    assert str(Fault("cut_json", at=3, how="reset")) == "cut_json:at=3,how=reset"
    assert str(Fault("stall")) == "stall"
    assert Fault.parse("429:retry_after=2,date=no") == Fault("429", retry_after=2)
    mistaken: list[tuple[Any, dict[str, Any]]] = [
        ("stall", {"until": "now"}), ("429", {"date": "no"}), ("content_type", {"type": 5}), (5, {}), (None, {}),
    ]  # fmt: skip
    for name, options in mistaken:
        with pytest.raises(ConfigurationError, match="|".join(options) or "unknown fault"):
            Fault(name, **options)
    with pytest.raises(ConfigurationError, match="not both"):
        Fault("stall", until=Signal(), seconds=1)


@given(st.sampled_from([name for name in FAULTS if "at" in Fault.options(name)]), st.integers(0, 10_000))
def test_a_fault_is_read_as_it_is_written(name: str, at: int) -> None:
    assert Fault.parse(str(Fault(name, at=at))) == Fault(name, at=at)


@given(
    names=st.lists(st.sampled_from([name for name in FAULTS if name not in ("endless", "oversized")]), max_size=4),
    places=st.lists(st.integers(0, 4_000), min_size=4, max_size=4),
    dialect=st.sampled_from(list(DIALECTS)),
    script=st.sampled_from([SCRIPT, TOOLED, Script()]),
    rest=st.sampled_from([None, 0, 1, 2]),
    lasting=st.booleans(),
)
@example(names=["nothing", "cut_event"], places=[0] * 4, dialect="anthropic", script=SCRIPT, rest=None, lasting=False)
@example(names=["duplicate", "reorder"], places=[0] * 4, dialect="openai-chat", script=SCRIPT, rest=0, lasting=True)
@example(names=["cut_event", "empty"], places=[9999] * 4, dialect="anthropic", script=SCRIPT, rest=None, lasting=True)
async def test_any_faults_may_befall_one_answer(
    *, names: list[str], places: list[int], dialect: Any, script: Script, rest: int | None, lasting: bool
) -> None:
    """In any combination, at any place, also the rest of an answer, or nothing of it: the pieces are the body, up to where it
    stops.
    """
    answer = answer_of(script, dialect)
    answer.lasting = lasting
    if rest is not None:  # so many events are left of it
        del answer.frames[: len(answer.frames) - rest]
    befall(
        answer,
        [Fault(name, at=at) if name in PLACED else Fault(name) for name, at in zip(names, places, strict=False)],
        stages=(0, 1, 2),
    )
    body = b"".join(frame.data for frame in answer.frames)
    stop = len(body) if answer.stops is None else answer.stops
    assert 0 <= stop <= len(body)
    assert b"".join(piece[1] for piece in answer.pieces() if isinstance(piece, tuple)) == body[:stop]


# --- by chance ------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_faults() -> None:
    def faults(seed: int) -> list[str]:
        chance = RandomFaults(seed=seed, probability=0.5)
        return [str(chance(None)) for _ in range(200)]

    assert faults(1) == faults(1) != faults(2)
    assert 60 < faults(1).count("None") < 140
    assert not {"hang", "stall", "endless"} & set(faults(1))


def test_chance_among_given_faults() -> None:
    chance = RandomFaults(["reset:at=3", Fault("529")], probability=1)
    assert {str(chance(None)) for _ in range(50)} == {"reset:at=3", "529"}
    assert str(RandomFaults("reset:at=3", probability=1)(None)) == "reset:at=3"
    assert RandomFaults(probability=0)(None) is None
    with pytest.raises(ConfigurationError, match="no fault"):
        RandomFaults([])
    with pytest.raises(ConfigurationError, match="probability=2"):
        RandomFaults(probability=2)


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("none", []),
        ("gzip+reset:at=200", ["gzip", "reset:at=200"]),
        (["gzip+none+split", "crlf"], ["gzip", "split", "crlf"]),
        ("content_type:type=application/problem+json", ["content_type:type=application/problem+json"]),
        ("gzip+content_type:type=text/x+y", ["gzip", "content_type:type=text/x+y"]),
    ],
)
def test_several_faults_of_one_answer_are_written_with_a_plus(written: Any, names: list[str]) -> None:
    """As on the command line."""
    assert [str(fault) for fault in several(written)] == names
    for empty in ("", "gzip+nope"):
        with pytest.raises(ConfigurationError, match="unknown fault"):
            several(empty)
