"""Comparisons: figures of tracks and pairs, and how a person reads them."""

# ruff: noqa: RUF001 - the dashes of the report

from __future__ import annotations

import html.parser
import json
import time
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream import _report, comparison
from rxstream.comparison import Comparer, Comparison, PairReport, TrackReport, compare_responses
from rxstream.errors import ConfigurationError
from rxstream.events import ErrorInfo
from rxstream.messages import TextPart
from rxstream.response import Choice, Response
from rxstream.snapshot import Said, Snapshot
from rxstream.usage import Usage

USED = Usage(provenance="reported", input_tokens=1000, output_tokens=2000)


def state(label: str, text: str = "", **fields: Any) -> Snapshot:
    return Snapshot(label=label, said=Said.of(text), **{"status": "completed", **fields})


def compared(*states: Snapshot, **options: Any) -> Comparison:
    return Comparer(**options).compare({one.label: one for one in states})


def pair(first: str, second: str, **options: Any) -> PairReport:
    return compared(state("a", first), state("b", second), **options).pairs[0]


def response(text: str, **fields: Any) -> Response:
    return Response(choices=[Choice(parts=[TextPart(text=text)])], **{"finish_reason": "stop", **fields})


# --- tracks -------------------------------------------------------------------------------------------------------------------


def test_a_track_in_figures() -> None:
    (track,) = compared(
        state("a", "One two. Three!", outputs=9, first_output=1.0, last_output=4.0, ended=5.0, finish_reason="stop", usage=USED)
    ).tracks  # fmt: skip
    assert (track.label, track.status, track.finish_reason, track.error) == ("a", "completed", "stop", None)
    assert (track.first_output, track.behind, track.ended) == (1, 0, 5)
    assert (track.outputs, track.outputs_per_second) == (9, 3)
    assert (track.characters, track.characters_per_second, track.words, track.sentences) == (15, 5, 3, 2)
    assert (track.input_tokens, track.output_tokens, track.usage_provenance) == (1000, 2000, "reported")


def test_what_is_not_known_is_none() -> None:
    (track,) = compared(state("a", status="waiting")).tracks
    figures = track.model_dump(exclude={"label", "status", "model", "provider", "usage_provenance"})
    assert {name: value for name, value in figures.items() if value is not None} == {
        "outputs": 0,
        "characters": 0,
        "words": 0,
        "sentences": 0,
    }


def test_one_output_has_no_rate() -> None:
    (track,) = compared(state("a", "x", outputs=1, first_output=2.0, last_output=2.0)).tracks
    assert (track.outputs_per_second, track.characters_per_second) == (None, None)


def test_an_error_is_said() -> None:
    (track,) = compared(state("a", status="failed", error=ErrorInfo(kind="Overloaded", message="busy"))).tracks
    assert track.error == "Overloaded: busy"


def test_who_spoke_first_and_by_how_much() -> None:
    found = compared(
        state("a", first_output=2.0), state("b"), state("c", first_output=0.5), state("d", first_output=2.5)
    )
    assert (found.first_to_speak, found.lead) == ("c", 1.5)
    assert [track.behind for track in found.tracks] == [1.5, None, 0, 2]
    alone = compared(state("a", first_output=2.0), state("b"))
    assert (alone.first_to_speak, alone.lead) == ("a", None)
    nobody = compared(state("a"), state("b"))
    assert (nobody.first_to_speak, nobody.lead) == (None, None)
    together = compared(state("b", first_output=1.0), state("a", first_output=1.0))
    assert (together.first_to_speak, together.lead) == ("b", 0)  # the order given


def test_what_it_cost_is_looked_up_when_all_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def price(usage: Usage, *, provider: str, model: str) -> float | None:
        asked.append(f"{provider}:{model}")
        return 0.25

    monkeypatch.setattr(comparison, "price", price)
    cloud = state("a", provider="p", model="m", usage=USED)
    told = state("b", status="active", usage=Usage(provenance="reported", cost=0.5))
    found = compared(cloud, told)
    assert ([track.cost for track in found.tracks], found.done, asked) == ([None, 0.5], False, [])
    found = compared(cloud)
    assert ([track.cost for track in found.tracks], found.done, asked) == ([0.25], True, ["p:m"])


def test_a_score_is_asked_again_when_the_track_has_changed() -> None:
    asked: list[str] = []

    def score(one: Snapshot) -> float:
        asked.append(one.text)
        return len(one.text)

    comparer = Comparer(score=score)
    first, second = state("a", "x"), state("b", "yy")
    assert [track.score for track in comparer.compare({"a": first, "b": second}).tracks] == [1, 2]
    changed = state("b", "zzz")
    assert [track.score for track in comparer.compare({"a": first, "b": changed}).tracks] == [1, 3]
    assert asked == ["x", "yy", "zzz"]


def test_the_figures_of_a_track_by_its_label() -> None:
    found = compared(state("a", "x"), state("b", "yy"))
    assert found.track("b").characters == 2
    with pytest.raises(ConfigurationError, match="no track 'c', only a, b"):
        found.track("c")


# --- pairs --------------------------------------------------------------------------------------------------------------------


def test_each_with_each_in_the_order_given() -> None:
    found = compared(*(state(label, label) for label in "cab"))
    assert [(one.first, one.second) for one in found.pairs] == [("c", "a"), ("c", "b"), ("a", "b")]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("The sky is blue.", "The sky is grey.", (11, "The sky is ", "blue.", "grey.")),
        ("The sky is blue.", "The sky is black.", (13, "The sky is ", "blue.", "black.")),
        ("Yes", "No", (0, "", "Yes", "No")),
        ("Yes", "Yesterday", (3, "", "Yes", "Yesterday")),
        ("Yes.", "Yes. No", (4, "", "Yes.", "Yes. No")),
        ("", "Yes", (0, "", "", "Yes")),
        ("x" * 90 + "a", "x" * 90 + "b", (90, "x" * 50, "a", "b")),
        ("a b " * 20 + "c", "a b " * 20 + "d", (80, (("a b " * 20)[30:]), "c", "d")),
    ],
)
def test_where_two_texts_part(first: str, second: str, expected: tuple[int, str, str, str]) -> None:
    parted = pair(first, second).divergence
    assert parted is not None
    assert (parted.offset, parted.before, parted.first, parted.second) == expected
    mirrored = pair(second, first).divergence
    assert mirrored is not None
    assert (mirrored.first, mirrored.second) == (parted.second, parted.first)


def test_texts_that_may_go_on_have_not_parted() -> None:
    def parted(first: str, second: str) -> bool:
        found = compared(state("a", first, status="active"), state("b", second)).pairs[0]
        return found.divergence is not None

    assert not parted("The", "The sky")  # the first may go on
    assert parted("The sky", "The")  # the second has ended
    assert parted("This", "The")
    assert not parted("The", "The")
    assert pair("The", "The").divergence is None


def test_similarity_of_words_and_how_much_of_the_shorter_one() -> None:
    found = pair("one two three four", "two four")
    assert (found.similarity, found.overlap) == (2 / 3, 1)
    assert (pair("", "one").similarity, pair("", "one").overlap) == (0, None)


def test_answers_without_words_are_not_alike_for_that() -> None:
    """Two calls of tools, two refusals, two failures."""
    assert pair("", "").similarity is None
    assert "no words to compare" in compared(state("a"), state("b")).report()


def test_an_accent_is_the_same_however_it_is_written() -> None:
    found = pair("Un cafe\u0301 noir.", "Un caf\u00e9 noir.")
    assert (found.similarity, found.agreement, found.common_prefix) == (1, 1, 6)


def test_similarity_is_not_known_before_both_have_a_word() -> None:
    comparer = Comparer()
    active = {label: state(label, text, status="active") for label, text in (("a", "one two "), ("b", "o"))}
    assert comparer.compare(active).pairs[0].similarity is None
    over = {**active, "b": state("b", "o")}
    assert comparer.compare(over).pairs[0].similarity == 0


def test_agreement_by_sentence() -> None:
    found = pair("The sky is blue. I like it.", "It rains. The sky is grey.", threshold=0.75)
    assert found.agreement == 2 / 4
    assert [one.model_dump() for one in found.matches] == [
        {"first": "The sky is blue.", "second": "The sky is grey.", "similarity": 0.75}
    ]
    assert pair("The sky is blue.", "The sky is grey.", threshold=0.8).matches == ()
    assert pair("", "The sky is grey.").agreement is None


def test_json_by_field() -> None:
    fields = pair(
        '{"a": 1, "b": [1, 2], "c": "x", "d": true}', '{"a": 1.0, "b": [1, 3], "c": "x", "d": 1, "e": 0}'
    ).json_fields
    assert fields is not None
    assert fields.same == ("a", "b[0]", "c")
    assert [(one.path, one.first, one.second) for one in fields.different] == [("b[1]", 2, 3), ("d", True, 1)]
    assert (fields.only_first, fields.only_second, fields.complete) == ((), ("e",), True)


def test_json_by_field_as_far_as_it_has_come() -> None:
    fields = pair('{"a": 1, "b": 2}', '{"c": 3, "a": 1, "b": 2').json_fields
    assert fields is not None
    assert (fields.same, fields.only_first, fields.only_second, fields.complete) == (("a",), (), ("c",), False)
    assert pair("{}", "none").json_fields is None
    assert pair("none", "{}").json_fields is None


@pytest.mark.parametrize("threshold", [0, -0.1, 1.1, float("nan")])
def test_a_threshold_out_of_its_range(threshold: float) -> None:
    with pytest.raises(ConfigurationError, match="threshold="):
        Comparer(threshold=threshold)


# --- again and again ----------------------------------------------------------------------------------------------------------

pieces = st.lists(
    st.sampled_from(["The ", "sky", " is", " blue", ". ", "!\n", '{"a": ', "1", ", ", '"b"', "}"]), max_size=12
)


@given(st.lists(pieces, min_size=2, max_size=3), st.data())
def test_however_often_one_looks_the_last_comparison_is_the_same(tracks: list[list[str]], data: st.DataObject) -> None:
    comparer = Comparer()
    buffers = [StringIO() for _ in tracks]
    lengths = [0] * len(tracks)
    for _ in range(data.draw(st.integers(0, 6))):
        for number, buffer in enumerate(buffers):
            for _ in range(data.draw(st.integers(0, 3))):
                if tracks[number]:
                    lengths[number] += buffer.write(tracks[number].pop(0))
        said = [Said(buffer, length) for buffer, length in zip(buffers, lengths, strict=True)]
        comparer.compare({str(n): Snapshot(label=str(n), status="active", said=one) for n, one in enumerate(said)})
    last = {str(n): state(str(n), buffer.getvalue()) for n, buffer in enumerate(buffers)}
    grown = {
        label: Snapshot(label=label, status="completed", said=Said(buffer, length))
        for (label, buffer, length) in zip(last, buffers, lengths, strict=True)
    }
    assert comparer.compare(grown) == Comparer().compare(last)


@given(pieces, pieces)
def test_a_pair_is_symmetric_and_a_text_is_like_itself(first: list[str], second: list[str]) -> None:
    one, other = pair("".join(first), "".join(second)), pair("".join(second), "".join(first))
    assert (one.similarity, one.overlap, one.agreement) == (other.similarity, other.overlap, other.agreement)
    assert one.common_prefix == other.common_prefix
    itself = pair("".join(first), "".join(first))
    alike = 1 if "".join(first).strip() else None
    assert (itself.similarity, itself.common_prefix, itself.divergence) == (alike, len("".join(first)), None)


def test_text_that_was_taken_back_is_forgotten() -> None:
    comparer = Comparer()
    other = state("b", "The sky is blue.")
    assert comparer.compare({"a": state("a", "The sky is blue."), "b": other}).pairs[0].similarity == 1
    found = comparer.compare({"a": state("a", "Nothing."), "b": other}).pairs[0]
    assert found == pair("Nothing.", "The sky is blue.")


def test_two_long_answers_compared_a_hundred_times_cost_little() -> None:
    texts = [
        " ".join(f"w{number * step % 901}{'.' if number % 14 == 0 else ''}" for number in range(4000))
        for step in (1, 7)
    ]
    comparer = Comparer()
    buffers = [StringIO(text) for text in texts]
    before = time.process_time()
    for part in range(1, 101):
        said = [Said(buffer, len(text) * part // 100) for buffer, text in zip(buffers, texts, strict=True)]
        comparer.compare({str(n): Snapshot(label=str(n), status="active", said=one) for n, one in enumerate(said)})
    assert time.process_time() - before < 2


# --- finished answers ---------------------------------------------------------------------------------------------------------


def test_finished_answers() -> None:
    found = compare_responses(
        {
            "local": response("The sky is blue.", provider="local", usage=USED),
            "cloud": response("The sky", finish_reason=None),
        },
        score=lambda one: len(one.text),
    )
    assert found.done
    assert found.elapsed is None
    assert found.pairs[0].overlap == 1
    local, cloud = found.tracks
    assert (local.status, local.outputs, local.first_output, local.cost, local.score) == (
        "completed",
        None,
        None,
        0,
        16,
    )
    assert (cloud.status, cloud.finish_reason, cloud.cost) == ("failed", None, None)


def test_one_answer_is_nothing_to_compare() -> None:
    with pytest.raises(ConfigurationError, match="1 responses were given; at least 2"):
        compare_responses({"a": response("x")})


def test_what_no_encoding_takes_does_not_break_it() -> None:
    found = compared(state("a", '{"\\ud800": "\\udfff"}'), state("b", '{"\\ud800": 1}'))
    assert Comparison.model_validate_json(found.model_dump_json()) == found
    assert found.report().encode()
    assert found._repr_html_().encode()


def test_it_is_plain_json_and_does_not_change() -> None:
    found = compare_responses({"a": response('{"x": 1}'), "b": response('{"x": [2]}')})
    read = Comparison.model_validate_json(found.model_dump_json())
    assert read == found
    assert json.loads(found.model_dump_json())["pairs"][0]["json_fields"]["only_second"] == ["x[0]"]
    with pytest.raises(ValueError, match="frozen"):
        found.done = False


# --- as a person reads it -----------------------------------------------------------------------------------------------------

FULL = Comparison(
    elapsed=12.34,
    tracks=(
        TrackReport(
            label="local", status="completed", model="m", first_output=0.5, behind=0, ended=9.0, outputs=1234, words=1, sentences=1,
            outputs_per_second=20.4, characters=5000, characters_per_second=1234.5, input_tokens=7, output_tokens=8,
            usage_provenance="reported", cost=0, finish_reason="stop", score=0.5,
        ),
        TrackReport(
            label="クラウド", status="active", first_output=0.75, behind=0.25, outputs=1, words=2, output_tokens=9,
            usage_provenance="partial", cost=0.0012, error="Bad: \x1b[31mred\nline",
        ),
    ),
    pairs=(pair("The sky is blue. " * 7, "The sky is grey. " * 7),),
    first_to_speak="local",
    lead=0.25,
)  # fmt: skip


def test_the_report() -> None:
    assert FULL.report() == str(FULL)
    headline, table, error, *_ = FULL.report().split("\n\n")
    assert error == "クラウド  Bad: [31mred line"
    assert headline == "2 tracks after 12.3 s, 1 still running; local spoke first, 0.25 s before the next"
    assert table.splitlines() == [
        "              local             クラウド",
        "model         m                 –",
        "status        completed (stop)  active",
        "first output  0.50 s            0.75 s (+0.25 s)",
        "ended         9.00 s            –",
        "outputs       1,234 (20/s)      1",
        "characters    5,000 (1,234/s)   0",
        "words         1                 2",
        "sentences     1                 0",
        "tokens        7 in, 8 out       about ? in, 9 out",
        "cost          $0                about $0.001200",
        "score         0.5               –",
    ]


def test_the_report_of_a_pair() -> None:
    blue, grey = (
        "blue. The sky is blue. The sky is blue. The sky …",
        "grey. The sky is grey. The sky is grey. The sky …",
    )
    assert FULL.report().split("\n\n")[3].splitlines() == [
        "a / b",
        "  similar      80% of the words, 80% of the shorter one's",
        "  begin alike  the first 11 characters",
        "               after “The sky is”:",
        f"               “{blue}”",
        f"               or “{grey}”",
        "  agree        100% of the sentences",
        *["               75%: “The sky is blue.” – “The sky is grey.”"] * 5,
        "               … and 2 more",
    ]


@pytest.mark.parametrize(
    ("first", "second", "lines"),
    [
        ("", "", ["similar  no words to compare"]),
        ("a\r\nb", "a\nb", ["100% of the words", "after “a”: '\\r\\nb' or '\\nb'"]),
        ("a b.", "a b.\n", ["after “a b.”: its end or '\\n'"]),
        ("a cafe\u0301", "a caf\u00e9", ["after “a caf”: 'e\\u0301' or '\\xe9'"]),
        ("a", "a b", ["“a” or “a b”"]),
        ("", "a", ["begin alike  no character", "its end or “a”"]),
        ('{"a": 1, "b": "x"', '{"a": 2}', ["0 fields the same, 1 different, so far", "a: 1 or 2"]),
        (
            '{"a": 1, "b": "x"}',
            '{"a": 1, "c": 0}',
            ["1 field the same, 0 different", "only in the first: b", "second: c"],
        ),
    ],
)
def test_what_there_is_to_say_of_a_pair(first: str, second: str, lines: list[str]) -> None:
    said = compared(state("a", first), state("b", second)).report()
    for line in lines:
        assert line in said


@pytest.mark.parametrize("word", ["word ", "日本語", "e" + "\u0301" * 20, '"a": [1, "b"], '])
def test_two_tracks_fit_into_80_columns(word: str) -> None:
    texts = [f"{word * 30}. {word * 40}!", f"{word * 20}? {word * 41}!"]
    objects = [json.dumps({text: text, "x": number}) for number, text in enumerate(texts)]
    failed = {"status": "failed", "error": ErrorInfo(kind="StreamIncomplete", message="the body ended " * 9)}
    for first, second in (texts, objects):
        lines = compared(state("local", first, model="m" * 20, **failed), state("cloud", second)).report().splitlines()
        assert max(map(_report._width, lines)) <= 80


def test_before_anything_has_come() -> None:
    report = compared(state("a", status="waiting"), state("b", status="waiting")).report()
    assert report.startswith("2 tracks, 2 still running\n")
    assert "similar  no words to compare" in report
    assert "begin alike" not in report


class Read(html.parser.HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert [name for name, _ in attrs] in ([], ["style"], ["class"])
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@given(st.text(alphabet="<>&\"'/ab script=.\u202e\x1b\n", max_size=60), st.text(alphabet="<b>&;x. ", max_size=30))
def test_what_a_model_wrote_is_shown_and_never_run(text: str, label: str) -> None:
    hostile = f"<script>alert(1)</script> {text}<img src=x onerror=alert(1)>"
    found = compared(
        state(f"a{label}", hostile, model=hostile, status="failed", error=ErrorInfo(kind="E", message=hostile)),
        state(f"b{label}", f'{{"{hostile}": 1', model=hostile),
        state("c", json.dumps({hostile: hostile})),
        state("d", json.dumps({hostile: text})),
    )
    read = Read(found._repr_html_())
    assert read.tags <= {"div", "p", "table", "tr", "th", "td", "br"}
    assert not read.open
    assert any("<script>alert(1)</script>" in one for one in read.texts)
    for shown in (found.report(), *read.texts):
        assert all(char.isprintable() or char == "\n" for char in shown)


def test_html_says_what_the_report_says() -> None:
    texts = " ".join(Read(FULL._repr_html_()).texts)
    for line in FULL.report().splitlines():
        for part in line.strip().split("  "):
            assert part.strip() in texts


def test_a_long_label_keeps_its_place() -> None:
    assert _report._line("x" * 100) == "x" * 48 + "…"
    assert _report._line("x" * 100, end=True) == "…" + "x" * 48
