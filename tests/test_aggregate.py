"""The fold from events to a response."""

from __future__ import annotations

import base64
import tracemalloc
from collections.abc import Iterable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream import events as ev
from rxstream.aggregate import Aggregator, Answers, aggregate
from rxstream.errors import ConfigurationError
from rxstream.events import (
    Citation,
    ErrorInfo,
    Event,
    Finished,
    Logprobs,
    Media,
    PartEnd,
    RefusalDelta,
    Retracted,
    Seam,
    ServerTool,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingSignature,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UsageReported,
)
from rxstream.messages import OpaquePart, RefusalPart, TextPart, ThinkingPart
from rxstream.messages import ToolCall as ToolCallPart
from rxstream.response import Response
from rxstream.usage import Provenance, Usage

FINISHED = Finished(reason="stop", raw_reason="end_turn")


def text(said: str, *, attempt: int = 1, part: int = 0, choice: int = 0) -> TextDelta:
    return TextDelta(text=said, attempt=attempt, part=part, choice=choice)


def usage(output: int | None, provenance: Provenance = "reported", attempt: int = 1) -> UsageReported:
    return UsageReported(usage=Usage(provenance=provenance, output_tokens=output), attempt=attempt)


# What an answer is made of.


def test_nothing_comes_to_nothing() -> None:
    """No events: an empty answer that did not end."""
    assert aggregate([]) == Response()
    assert aggregate([]).choices == []


def test_a_whole_answer() -> None:
    """Who answered, what was said, why it ended, what it cost."""
    events: list[Event] = [
        Started(id="msg_1", model="claude", provider="anthropic"),
        text("Hel"),
        text("lo"),
        PartEnd(kind="text"),
        usage(2),
        Finished(reason="stop", raw_reason="stop_sequence", stop_sequence="###"),
    ]
    response = aggregate(events)
    assert (response.id, response.model, response.provider) == ("msg_1", "claude", "anthropic")
    assert (response.text, response.parts) == ("Hello", [TextPart(text="Hello")])
    assert (response.finish_reason, response.raw_finish_reason) == ("stop", "stop_sequence")
    assert response.choices[0].raw_finish_reason == "stop_sequence"
    assert (response.stop_sequence, response.usage.output_tokens, response.attempts) == ("###", 2, 1)


def test_an_answer_without_content_has_its_choice() -> None:
    """A stream that ended properly with nothing said is not a stream of which nothing came."""
    response = aggregate([FINISHED])
    assert (len(response.choices), response.text, response.finish_reason) == (1, "", "stop")


def test_parts_stand_in_order_of_their_numbers() -> None:
    """Not of arrival; of one number: thinking, text, refusal, call."""
    events: list[Event] = [
        ToolCall(id="c", name="look", arguments="{}", part=3),
        text("b", part=1),
        ThinkingDelta(text="t"),
        text("c", part=1),
        text("a"),
        RefusalDelta(text="no", part=2),
    ]
    assert aggregate(events).parts == [
        ThinkingPart(text="t"),
        TextPart(text="a"),
        TextPart(text="bc"),
        RefusalPart(text="no"),
        ToolCallPart(id="c", name="look", arguments="{}"),
    ]


def test_parts_in_which_nothing_was_said_are_left_out() -> None:
    """A provider would refuse an empty text that is sent back."""
    assert aggregate([text(""), RefusalDelta(text=""), ThinkingDelta(text=""), PartEnd(id="x")]).parts == []


def test_thinking_has_its_blobs_and_its_id() -> None:
    """Each blob in its own field; the last one of a kind rules."""
    events: list[Event] = [
        ThinkingDelta(text="Hm"),
        ThinkingSignature(data="s1"),
        ThinkingSignature(data="s2"),
        PartEnd(kind="thinking", id="rs_1"),
        PartEnd(kind="thinking"),
        ThinkingSignature(data="r", kind="redacted", part=1),
        ThinkingSignature(data="e", kind="encrypted", part=2),
    ]
    assert aggregate(events).parts == [
        ThinkingPart(text="Hm", signature="s2", id="rs_1"),
        ThinkingPart(redacted="r"),
        ThinkingPart(encrypted="e"),
    ]


def test_a_tool_call_is_complete_once_sealed() -> None:
    """Sealed arguments rule over their pieces, and over pieces that come too late."""
    start, piece = ToolCallStart(id="c", name="look"), ToolCallDelta(arguments='{"a":')
    assert aggregate([start, piece]).tool_calls == [
        ToolCallPart(id="c", name="look", arguments='{"a":', complete=False)
    ]
    sealed = ToolCall(id="c", name="look", arguments='{"a": 1}', kind="custom")
    assert aggregate([start, piece, sealed, piece]).tool_calls == [
        ToolCallPart(id="c", name="look", arguments='{"a": 1}', kind="custom")
    ]
    assert aggregate([sealed]).tool_calls == aggregate([start, piece, sealed]).tool_calls


def test_a_tool_call_is_named_when_its_name_comes() -> None:
    """A late, repeated or empty id or name does not take back what is known."""
    events: list[Event] = [
        ToolCallDelta(arguments="{}"),
        ToolCallStart(id="c"),
        ToolCallStart(name="look"),
        ToolCallStart(),
        ToolCall(id="", name="", arguments="{}"),
    ]
    assert aggregate(events).tool_calls == [ToolCallPart(id="c", name="look", arguments="{}")]


def test_interleaved_tool_calls() -> None:
    """Pieces find their call by its part; calls come in the order in which they began."""
    events: list[Event] = [ToolCallStart(id=str(part), name="f", part=part) for part in (0, 1)]
    events += [ToolCallDelta(arguments=piece, part=part) for piece in ("[", "]") for part in (1, 0)]
    assert [(call.id, call.arguments) for call in aggregate(events).tool_calls] == [("0", "[]"), ("1", "[]")]


@pytest.mark.parametrize(
    ("kind", "piece", "part"),
    [
        ("text", TextDelta(text="ab"), TextPart(text="final")),
        ("", TextDelta(text="ab"), TextPart(text="final")),
        ("refusal", RefusalDelta(text="ab"), RefusalPart(text="final")),
        ("thinking", ThinkingDelta(text="ab"), ThinkingPart(text="final")),
    ],
)
def test_the_final_text_of_a_part_rules(kind: str, piece: Event, part: Any) -> None:
    """Over its deltas, and where there were none."""
    end = PartEnd(kind=kind, text="final")
    assert aggregate([piece, end]).parts == aggregate([end]).parts == [part]


def test_the_end_of_another_kind_of_part_is_no_text() -> None:
    """Text stated at the end of a call is not an answer's."""
    assert aggregate([PartEnd(kind="tool_call", text="{}")]).text == ""


def test_what_must_go_back_is_an_opaque_part() -> None:
    """In its place among the parts, and under the name of the provider that it goes back to."""
    item = {"type": "compaction", "content": "gist"}
    events: list[Event] = [Started(provider="anthropic"), PartEnd(kind="compaction", payload=item), text("Hi", part=1)]
    assert aggregate(events).message().content == [
        OpaquePart(provider="anthropic", payload=item),
        TextPart(text="Hi"),
    ]


def test_a_server_tool_is_one_record() -> None:
    """From its parts, also where the result comes as a part of its own with the same id."""
    events: list[Event] = [
        ServerTool(id="s", name="search", step="start"),
        ServerTool(id="s", step="delta", arguments='{"q":'),
        ServerTool(id="s", step="delta", arguments="1"),
        ServerTool(id="s", step="call", arguments='{"q": 1}'),
        ServerTool(id="s", step="status", status="searching"),
        ServerTool(id="s", name="other", step="result", payload=["hit"], part=1),
        ServerTool(step="status", status="running", part=2),
        ServerTool(step="result", payload=0, part=2),
    ]
    assert [tool.model_dump() for tool in aggregate(events).server_tools] == [
        {"id": "s", "name": "search", "arguments": '{"q": 1}', "status": "searching", "result": ["hit"]},
        {"id": "", "name": "", "arguments": "", "status": "running", "result": 0},
    ]
    assert aggregate(events[:3]).server_tools[0].arguments == '{"q":1'


def test_citations_and_logprobs() -> None:
    """In order of their parts, then of arrival, with all that is known of them."""
    full: dict[str, Any] = {
        "kind": "k",
        "url": "u",
        "title": "t",
        "cited_text": "c",
        "start": 1,
        "end": 2,
        "payload": {"a": 1},
    }
    events: list[Event] = [
        Citation(url="b", part=1),
        Citation(**full),
        Logprobs(content=[3], part=1),
        Logprobs(content=[1, 2]),
    ]
    response = aggregate(events)
    assert [citation.url for citation in response.citations] == ["u", "b"]
    assert response.citations[0].model_dump() == full
    assert response.choices[0].logprobs == [1, 2, 3]


@given(st.lists(st.binary(max_size=10)), st.data())
def test_audio_is_joined_as_bytes(pieces: list[bytes], data: st.DataObject) -> None:
    """Whether each piece is base64 with its own padding, or the whole was cut anywhere."""
    whole = b"".join(pieces)
    padded = [base64.b64encode(piece).decode() for piece in pieces]
    once = base64.b64encode(whole).decode()
    cut = data.draw(st.integers(0, len(once)))
    for encoded in (padded, [once[:cut], once[cut:]], [once.rstrip("=")]):
        (media,) = aggregate([Media(kind="audio", data=piece) for piece in ("", *encoded)]).media
        assert base64.b64decode(media.data) == whole


def test_audio_has_its_transcript() -> None:
    """One record a part; id and type are those that came."""
    events: list[Event] = [
        Media(kind="audio", data="AAA=", media_type="audio/wav", id="a"),
        Media(kind="transcript", data="Hel"),
        Media(kind="transcript", data="lo"),
        Media(kind="audio", data="no base64 é"),
    ]
    assert [media.model_dump() for media in aggregate(events).media] == [
        {"kind": "audio", "data": "AAA=", "media_type": "audio/wav", "transcript": "Hello", "id": "a"}
    ]


def test_the_last_version_of_an_image_rules() -> None:
    """Partial images of one id are one image."""
    events: list[Event] = [
        Media(kind="image", data="v1", id="i", media_type="image/png"),
        Media(kind="image", data="other", id="j"),
        Media(kind="image", data="v2", id="i"),
    ]
    assert [(media.kind, media.id, media.data, media.media_type) for media in aggregate(events).media] == [
        ("image", "i", "v2", "image/png"),
        ("image", "j", "other", ""),
    ]


def test_choices() -> None:
    """Each has its own parts and reason; those of the response are the first one's."""
    events: list[Event] = [
        text("b", choice=2),
        Citation(url="u", choice=2),
        text("a"),
        Finished(reason="stop", raw_reason="stop", raw_reasons={0: "stop", 2: "length", 3: "stop"}),
    ]
    response = aggregate(events)
    assert [(choice.index, choice.text, choice.raw_finish_reason) for choice in response.choices] == [
        (0, "a", "stop"),
        (2, "b", "length"),
        (3, "", "stop"),
    ]
    assert (response.text, response.citations) == ("a", [])


def test_the_first_choice_is_the_first_though_nothing_came_of_it_yet() -> None:
    """The response's own fields never show another choice's answer."""
    assert aggregate([text("b", choice=1)]).text == ""


def test_events_that_say_nothing_of_the_answer() -> None:
    """Are taken and leave it as it was, but for the number of attempts."""
    nothing: list[Event] = [
        ev.Status(status="queued"),
        ev.Heartbeat(),
        ev.Raw(),
        ev.Failed(error=ErrorInfo(kind="ServerFault", message="no")),
        ev.Cancelled(),
    ]
    assert aggregate(nothing) == Response()
    assert aggregate([ev.Heartbeat(attempt=3)]).attempts == 3


def test_what_is_no_event_is_refused() -> None:
    """By name."""
    with pytest.raises(TypeError, match="not an event: 'text'"):
        Aggregator().add("text")  # type: ignore[arg-type]  # what it is for


def test_every_type_of_event_is_folded() -> None:
    """A new type of event cannot be forgotten here."""
    assert set(Aggregator._folds) == set(get_args(ev.Event))


# Attempts.


def test_restart() -> None:
    """All of the attempt is withdrawn, whatever it was; the next one counts."""
    first: list[Event] = [
        Started(id="1", model="m"),
        ThinkingDelta(text="Hm"),
        text("The ca", part=1),
        RefusalDelta(text="no"),
        ToolCallStart(id="c", name="f", part=2),
        ServerTool(id="s", step="start"),
        Citation(url="u"),
        Logprobs(content=[1]),
        Media(kind="image", data="v"),
        PartEnd(payload={"a": 1}),
        text("other", choice=1),
        Finished(reason="stop"),
    ]
    response = aggregate([*first, Retracted()])
    assert (response.choices, response.finish_reason) == ([], None)
    response = aggregate([*first, Retracted(), Started(id="2", attempt=2), text("A dog", attempt=2), FINISHED])
    assert (response.parts, response.id, response.model, response.attempts) == ([TextPart(text="A dog")], "2", "m", 2)
    assert aggregate([*first, Retracted(attempt=2)]) == aggregate([*first, ev.Status(status="", attempt=2)])


@pytest.mark.parametrize(
    ("offset", "kept"),
    [
        (1, ["t", "T"]),
        (3, ["t", "The"]),
        (4, ["t", "The", " "]),
        (7, ["t", "The", " cat"]),
        (8, ["t", "The", " cat", "call"]),
    ],
)
def test_text_is_withdrawn_from_an_offset(offset: int, kept: list[str]) -> None:
    """The first characters of the attempt's text stay, with what came before them; later parts and choices do not."""
    events: list[Event] = [
        ThinkingDelta(text="t"),
        text("The", part=1),
        text(" c", part=2),
        text("at", part=2),
        ToolCallStart(name="call", part=3),
    ]
    parts = aggregate([*events, Retracted(to_offset=offset)]).parts
    assert [part.name if isinstance(part, ToolCallPart) else getattr(part, "text", "") for part in parts] == kept
    assert len(aggregate([*events, text("x", choice=1), Retracted(to_offset=offset)]).choices) == 1


def test_text_goes_on_where_it_was_withdrawn() -> None:
    """A guard may take back the last words and let the stream go on."""
    assert aggregate([text("The cat"), Retracted(to_offset=4), text("dog")]).text == "The dog"


def test_a_tool_of_a_withdrawn_attempt_leaves_no_trace() -> None:
    """The same id in the next attempt is a new record."""
    tool = ServerTool(id="s", name="search", step="call", arguments="{}")
    again = ServerTool(id="s", name="search", step="start")
    (record,) = aggregate([tool, Retracted(), again]).server_tools
    assert record.arguments == ""


def test_a_seam() -> None:
    """The text goes on, and is one part, for a word may be cut in two; nothing is trimmed."""
    events: list[Event] = [
        ThinkingDelta(text="Hm"),
        text("the mat", part=1),
        Seam(kind="prefill", offset=7, attempt=2),
        text("the matador", attempt=2),
        text("!", part=1, attempt=2),
        FINISHED,
    ]
    assert aggregate(events).parts == [
        ThinkingPart(text="Hm"),
        TextPart(text="the matthe matador"),
        TextPart(text="!"),
    ]
    assert aggregate(events).attempts == 2


def test_a_seam_after_other_parts_joins_nothing() -> None:
    """Text is joined to text only."""
    events: list[Event] = [text("a"), ThinkingDelta(text="Hm", attempt=2), text("b", part=1, attempt=2)]
    assert [part.type for part in aggregate(events).parts] == ["text", "thinking", "text"]


# Usage.


def test_the_last_usage_of_an_attempt_counts() -> None:
    """Reports are never added up within an attempt; the provider's own object stays."""
    last = Usage(provenance="reported", output_tokens=9, raw={"output": 9})
    assert aggregate([usage(5, "partial"), UsageReported(usage=last), FINISHED]).usage is last


def test_usage_of_all_attempts_is_summed() -> None:
    """Those withdrawn were paid for, too; what was cut makes the sum partial."""
    events: list[Event] = [
        text("a"),
        usage(5, "partial"),
        Retracted(),
        text("b", attempt=2),
        usage(7, attempt=2),
        FINISHED,
    ]
    assert aggregate(events).usage == Usage(provenance="partial", output_tokens=12)


@pytest.mark.parametrize("withdrawn", [[], [Retracted()]])
def test_an_attempt_that_did_not_say_makes_the_sum_partial(withdrawn: list[Event]) -> None:
    """Tokens were used and nobody told how many."""
    events: list[Event] = [text("a"), *withdrawn, text("b", attempt=2), usage(7, attempt=2), FINISHED]
    assert aggregate(events).usage == Usage(provenance="partial", output_tokens=7)


@pytest.mark.parametrize(
    ("said", "end", "provenance"),
    [
        ("reported", [FINISHED], "reported"),
        ("reported", [], "partial"),
        ("partial", [FINISHED], "partial"),
        ("estimated", [], "estimated"),
        ("absent", [FINISHED], "absent"),
    ],
)
def test_usage_is_final_only_if_the_stream_is(said: Provenance, end: list[Event], provenance: Provenance) -> None:
    """A stream that was cut cannot have a final count."""
    assert aggregate([text("a"), usage(1, said), *end]).usage.provenance == provenance


# Laws.

_parts = st.integers(0, 2)
_texts = st.text(max_size=4)
_attempts = st.integers(1, 2)
_some_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(TextDelta, text=_texts, part=_parts, attempt=_attempts, choice=st.integers(0, 1)),
    st.builds(ThinkingDelta, text=_texts, part=_parts, attempt=_attempts),
    st.builds(ThinkingSignature, data=_texts, part=_parts),
    st.builds(RefusalDelta, text=_texts, part=_parts),
    st.builds(ToolCallStart, id=_texts, name=_texts, part=_parts, attempt=_attempts),
    st.builds(ToolCallDelta, arguments=_texts, part=_parts, attempt=_attempts),
    st.builds(ToolCall, id=_texts, name=_texts, arguments=_texts, part=_parts),
    st.builds(PartEnd, text=st.none() | _texts, part=_parts, kind=st.sampled_from(["text", "thinking", "other"])),
    st.builds(ServerTool, id=_texts, step=st.sampled_from(["start", "delta", "result"]), part=_parts),
    st.builds(Retracted, to_offset=st.integers(0, 6), attempt=_attempts),
    st.builds(usage, st.none() | st.integers(0, 9), attempt=_attempts),
    st.just(FINISHED),
)


def fold(aggregator: Aggregator, events: Iterable[Event]) -> Response:
    for event in events:
        aggregator.add(event)
    return aggregator.response()


@given(st.lists(_some_events), st.data())
def test_asking_changes_nothing(events: list[Event], data: st.DataObject) -> None:
    """The answer may be asked for at any time: asked on the way or not, it is the same in the end."""
    aggregator = Aggregator()
    cut = data.draw(st.integers(0, len(events)))
    early = fold(aggregator, events[:cut])
    assert early == aggregate(events[:cut]) == aggregator.response()
    assert fold(aggregator, events[cut:]) == aggregate(events)


@given(st.lists(_some_events))
def test_what_was_given_is_not_changed(events: list[Event]) -> None:
    """An answer already handed out stays as it was while more comes."""
    aggregator = Aggregator()
    answers = [(response := fold(aggregator, [event]), response.model_dump_json()) for event in events]
    assert [dumped for _, dumped in answers] == [response.model_dump_json() for response, _ in answers]


@given(st.lists(st.tuples(_parts, _texts)), st.data())
def test_pieces_may_be_of_any_size(said: list[tuple[int, str]], data: st.DataObject) -> None:
    """Text in one delta or in many is the same text."""
    whole: list[Event] = [text(piece, part=part) for part, piece in said]
    pieces: list[Event] = []
    for part, piece in said:
        cut = data.draw(st.integers(0, len(piece)))
        pieces += [text(piece[:cut], part=part), text(piece[cut:], part=part)]
    assert aggregate(pieces) == aggregate(whole)


@given(st.lists(_texts), st.integers(0, 12))
def test_retracted_keeps_exactly_the_first_characters(said: list[str], offset: int) -> None:
    """However the text was divided into parts."""
    events: list[Event] = [text(piece, part=part) for part, piece in enumerate(said)]
    assert aggregate([*events, Retracted(to_offset=offset)]).text == "".join(said)[:offset]


@given(st.lists(_some_events))
def test_source_number_and_time_of_events_do_not_matter(events: list[Event]) -> None:
    """Only what was said does."""
    stamped = [msgspec.structs.replace(event, seq=n, at=float(n), raw=b"{}") for n, event in enumerate(events)]
    assert aggregate(stamped) == aggregate(events)


def test_memory_is_what_was_said() -> None:
    """Not a string a delta: 200 000 of those would be 12 MB."""
    aggregator = Aggregator()
    tracemalloc.start()
    for number in range(200_000):
        aggregator.add(text(f"{number:06}"))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(aggregator.response().text) == 1_200_000
    assert held < 8_000_000


# --- the answers of several tracks ------------------------------------------------------------------------------------------


def answers(*events: Event) -> Answers:
    folded = Answers()
    for event in events:
        folded.add(event)
    return folded


def test_nothing_has_one_empty_answer() -> None:
    assert answers().response() == aggregate([])
    assert answers().responses() == {}
    assert answers().total_usage() == Usage()


def test_a_plain_stream_has_one_answer() -> None:
    events: list[Event] = [
        TextDelta(source="a", text="Hel"),
        TextDelta(source="a", text="lo"),
        Finished(source="a", reason="stop"),
    ]
    folded = answers(*events)
    assert folded.response() == aggregate(events)
    assert folded.responses() == {"a": aggregate(events)}
    assert folded.count == 1


def test_tracks_that_share_an_attempt_have_an_answer_each() -> None:
    folded = answers(
        TextDelta(source="a", text="Hel"),
        TextDelta(source="b", text="Bon"),
        TextDelta(source="a", text="lo"),
        UsageReported(source="a", usage=Usage(output_tokens=2, provenance="reported")),
        TextDelta(source="b", attempt=2, text="jour"),
        UsageReported(source="b", attempt=2, usage=Usage(output_tokens=3, provenance="reported")),
        Finished(source="a", reason="stop"),
    )
    assert {label: answer.text for label, answer in folded.responses().items()} == {"a": "Hello", "b": "Bonjour"}
    assert folded.total_usage().output_tokens == 5
    assert folded.count == 2
    with pytest.raises(ConfigurationError, match=r"\(a, b\)"):
        folded.response()


def test_tracks_whose_attempts_differ_make_one_answer() -> None:
    """As in a race: it is called after the track that finished it, and counts what all used."""
    folded = answers(
        UsageReported(source="local", attempt=1, usage=Usage(output_tokens=1, provenance="estimated")),
        ev.Cancelled(source="local", attempt=1, reason="lost"),
        TextDelta(source="cloud", attempt=2, text="Hello"),
        UsageReported(source="cloud", attempt=2, usage=Usage(output_tokens=2, provenance="reported")),
        Finished(source="cloud", attempt=2, reason="stop"),
    )
    response = folded.response()
    assert (response.text, response.finish_reason) == ("Hello", "stop")
    assert (response.usage.output_tokens, response.usage.provenance) == (3, "estimated")
    assert list(folded.responses()) == ["cloud"]


@given(texts=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 2), st.text(max_size=3)), max_size=12))
def test_answers_do_not_mix(texts: list[tuple[str, int, str]]) -> None:
    """Each track's own text is what it would be alone, wherever two tracks share an attempt."""
    shared: list[Event] = [TextDelta(source=source, text="") for source in ("a", "b", "c")]
    events = [TextDelta(source=source, attempt=attempt, text=text) for source, attempt, text in texts]
    folded = answers(*shared, *events)
    for source in ("a", "b", "c"):
        own = [event for event in (*shared, *events) if event.source == source]
        assert folded.responses()[source].text == aggregate(own).text
