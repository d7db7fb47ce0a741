"""``align``: several tracks at the pace of the slowest."""

from __future__ import annotations

import asyncio
import itertools
from bisect import bisect_right
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import ConfigurationError, TracksFailed
from rxstream.events import Event, Failed, Finished, Retracted, Seam, TextDelta, ThinkingDelta
from rxstream.observable import Stream
from rxstream.segment import split
from rxstream.tracks import _align, align
from tests.support.scripted import DONE, HANG, Step, words
from tests.support.tracks import BROKEN, Combination, Play, Plot, law, plots
from tests.support.virtual_loop import settle, virtual_time


def having(**options: Any) -> Combination:
    def combination(*tracks: Stream[Event]) -> Stream[Event]:
        return align(*tracks, **options)

    return combination


@virtual_time
async def test_nobody_goes_on_to_a_sentence_that_another_has_not_reached() -> None:
    play = Play(align, words("One. ", "Two. ", "Three. "), [10.0, "Eins. ", 1.0, "Zwei. ", 1.0, "Drei.", DONE]).start()
    await asyncio.sleep(20)
    assert play.timed == [
        (1, "aOne. "),
        (10, "bEins. "),
        (11, "bZwei. "),
        (11, "aTwo. "),
        (12, "bDrei."),
        (12, "aThree. "),
        (12, "a."),
        (12, "b."),
    ]
    assert (play.heard.completed, play.heard.ended_at) == (True, 12)
    play.assert_released()


@virtual_time
async def test_within_a_sentence_nobody_waits() -> None:
    play = Play(align, words("I", " am", " here", "."), [2.5, "Ich", 5.0, " bin.", DONE]).start()
    await asyncio.sleep(20)
    assert play.timed[:4] == [(1, "aI"), (2, "a am"), (2.5, "bIch"), (3, "a here")]
    assert play.timed[4:6] == [(4, "a."), (4, "a.")]  # its text, and its end


@virtual_time
async def test_a_delta_in_which_sentences_end_is_cut_there() -> None:
    play = Play(align, ["One. Two. Th", "ree.", DONE], [5.0, "Eins. Z", 5.0, "wei. D", DONE]).start()
    await asyncio.sleep(20)
    assert play.timed == [
        (0, "aOne. "),
        (5, "bEins. "),
        (5, "bZ"),
        (5, "aTwo. "),
        (10, "bwei. "),
        (10, "bD"),
        (10, "aTh"),
        (10, "aree."),
        (10, "a."),
        (10, "b."),
    ]
    pieces = [event for event in play.heard.items if event.source == "a" and isinstance(event, TextDelta)]
    assert [event.seq for event in pieces] == [0, 0, 0, 1]
    assert {event.at for event in pieces[:3]} == {0}


@virtual_time
async def test_an_end_of_a_sentence_that_is_known_a_little_later() -> None:
    """Whether Corp. ends one is told by the next word, whose beginning is out by then."""
    play = Play(align, ["By Acme Corp. T", "he end. More", DONE], [1.0, "Eins. Zwei. Drei.", HANG]).start()
    await asyncio.sleep(0.5)
    assert play.said == ["aBy Acme Corp. T"]
    await asyncio.sleep(1)
    assert play.said == ["aBy Acme Corp. T", "bEins. ", "bZwei. ", "ahe end. ", "aMore", "a.", "bDrei."]
    play.leave()


@virtual_time
async def test_more_than_one_sentence_may_be_allowed() -> None:
    play = Play(having(within=2), words("One. ", "Two. ", "Three. ", "Four."), [10.0, "Eins. ", HANG]).start()
    await asyncio.sleep(9)
    assert play.said == ["aOne. ", "aTwo. "]
    await asyncio.sleep(9)
    assert play.said == ["aOne. ", "aTwo. ", "bEins. "]
    play.leave()


@pytest.mark.parametrize("end", [DONE, BROKEN], ids=["ended", "failed"])
@virtual_time
async def test_who_has_ended_holds_up_nobody(end: Step) -> None:
    play = Play(align, words("One. ", "Two. ", "Three."), [5.0, "Eins. ", 2.0, end], words("Un. ", "Deux. ")).start()
    await asyncio.sleep(20)
    last = "b!" if end is BROKEN else "b."
    assert play.timed == [
        (1, "aOne. "),
        (1, "cUn. "),
        (5, "bEins. "),
        (7, last),
        (7, "aTwo. "),
        (7, "cDeux. "),
        (7, "c."),
        (7, "aThree."),
        (7, "a."),
    ]
    assert play.heard.completed


@virtual_time
async def test_it_fails_when_all_have_failed_after_what_waits() -> None:
    play = Play(align, ["One. Two.", BROKEN], [2.0, BROKEN]).start()
    await asyncio.sleep(5)
    assert play.timed == [(0, "aOne. "), (2, "b!"), (2, "aTwo."), (2, "a!")]
    assert isinstance(play.heard.error, TracksFailed)


@virtual_time
async def test_by_the_share_that_is_done() -> None:
    ten = words(*["x" * 10] * 10, every=0.1)
    play = Play(having(by="share", within=0.2, expected=(100, 50)), ten, words(*["y" * 10] * 5, every=2.0)).start()
    await asyncio.sleep(1.9)
    assert play.said == ["a" + "x" * 10] * 3  # 0.0, 0.1 and 0.2 are no more than 0.2 ahead; 0.3 is
    await asyncio.sleep(2)
    assert [text[0] for text in play.said] == [*"aaabaa"]
    await asyncio.sleep(20)
    assert "".join(text[0] for text in play.said) == "aaabaabaabaabaabb"


@virtual_time
async def test_who_is_last_goes_on_however_large_its_piece_and_a_longer_text_is_done_at_its_expected_length() -> None:
    play = Play(
        having(by="share", within=0, expected=10), ["x" * 500, "z", DONE], [1.0, "y" * 5, 1.0, "y" * 5, 1.0, "y", DONE]
    ).start()
    await asyncio.sleep(20)
    assert [(at, text[:2]) for at, text in play.timed] == [
        (0, "ax"), (1, "by"), (2, "by"), (2, "az"), (2, "a."), (3, "by"), (3, "b."),
    ]  # fmt: skip


@virtual_time
async def test_what_is_no_text_of_the_first_choice_goes_with_it() -> None:
    other = TextDelta(text="Not. Measured. At all.", choice=1)
    play = Play(align, [ThinkingDelta(text="Hm. Hm. Hm."), other, "One. T", other, DONE], [5.0, "Eins.", HANG]).start()
    await asyncio.sleep(1)
    assert play.said == ["a?ThinkingDelta", "aNot. Measured. At all.", "aOne. "]
    await asyncio.sleep(9)
    assert play.said[3:] == ["bEins."]
    play.leave()


@virtual_time
async def test_after_a_retraction_the_others_wait_for_its_new_text() -> None:
    again: list[Step] = [
        Retracted(to_offset=0),
        5.0,
        TextDelta(text="Neu. ", attempt=2),
        5.0,
        TextDelta(text="Und.", attempt=2),
    ]
    play = Play(align, words(*[f"Number {number}. " for number in range(5)]), ["Eins. Zwei. Drei. ", 3.5, *again, DONE])
    play.start()
    await asyncio.sleep(100)
    assert play.timed[6:] == [
        (3.5, "b?Retracted"),
        (8.5, "bNeu. "),
        (13.5, "bUnd."),
        (13.5, "b."),
        (13.5, "aNumber 3. "),
        (13.5, "aNumber 4. "),
        (13.5, "a."),
    ]


@virtual_time
async def test_a_retraction_to_the_middle_and_a_seam() -> None:
    """It stands where it stood there; a seam begins no new sentence, and what is not there is not taken back."""
    back = Retracted(to_offset=len("Eins. Zw"))
    seam: list[Step] = [Seam(kind="prefill", offset=8, attempt=2), TextDelta(text="ei. Drei", attempt=2)]
    play = Play(
        align,
        ["One. Two. Three.", 5.0, " Four. Five.", DONE],
        ["Eins. Zwei. Drei.", 2.0, back, Retracted(to_offset=99), Retracted(attempt=7), *seam, HANG],
    ).start()
    await asyncio.sleep(9)
    assert [text for text in play.said if text[0] == "a"] == ["aOne. ", "aTwo. ", "aThree.", "a "]
    play.leave()


@virtual_time
async def test_shares_are_taken_back_too() -> None:
    play = Play(
        having(by="share", within=0, expected=10),
        ["xx", 1.0, "xx", "xx", HANG],
        ["yyyy", 0.5, Retracted(to_offset=0), 5.0, "yyyyyyyyyy", HANG],
    ).start()
    await asyncio.sleep(20)
    assert [(at, text[:2]) for at, text in play.timed] == [
        (0, "ax"), (0, "by"), (0.5, "b?"), (5.5, "by"), (5.5, "ax"), (5.5, "ax"),
    ]  # fmt: skip
    play.leave()


@virtual_time
async def test_a_track_that_is_far_ahead_waits_at_its_source() -> None:
    endless: list[Step] = ["One. ", *[f"Number {number}. " for number in range(10_000)]]
    play = Play(having(ahead=10), endless, [1.0, "Eins. ", 1.0, "Zwei. ", *["Viele. "] * 20, HANG]).start()
    await asyncio.sleep(0.5)
    assert 11 <= play.scripts[0].given <= 12
    await asyncio.sleep(1)
    assert play.said == ["aOne. ", "bEins. "]
    await asyncio.sleep(5)
    assert 20 <= len([text for text in play.said if text[0] == "a"]) <= play.scripts[0].given <= 36
    play.leave()
    await settle()
    play.assert_released()


@virtual_time
async def test_a_source_that_does_not_stop_fails_alone() -> None:
    subject = rx.subject.Subject[Event]()
    play = Play(lambda other: align(subject, other, ahead=10), [5.0, "Eins. ", "Zwei. ", "Drei. ", HANG]).start()
    await settle()
    for _ in range(66_000):
        subject.on_next(TextDelta(source="s", text="More. "))
    await asyncio.sleep(1)
    assert len(play.said) == 1
    await asyncio.sleep(9)
    assert len(play.said) == 6
    assert not subject.observers
    play.leave()


@virtual_time
async def test_a_pause_lets_nothing_out_and_loses_nothing() -> None:
    play = Play(align, words("One. ", "Two. ", "Three."), words("Eins. ", "Zwei. ", "Drei.")).start()
    await asyncio.sleep(1.5)
    play.gate.hold("pause")
    await asyncio.sleep(10)
    assert play.said == ["aOne. ", "bEins. "]
    play.gate.release("pause")
    await asyncio.sleep(10)
    assert [text for text in play.said if text[0] == "a"] == ["aOne. ", "aTwo. ", "aThree.", "a."]
    assert not play.heard.intruders
    play.assert_released()


@virtual_time
async def test_a_source_that_does_not_obey_the_gate_is_heard_when_it_opens_and_in_order() -> None:
    subject = rx.subject.Subject[Event]()
    play = Play(lambda other: align(subject, other), [HANG]).start()
    await settle()
    play.gate.hold("pause")
    for text in ("1", "2"):
        subject.on_next(TextDelta(source="s", text=text))
    assert play.said == []
    play.gate.release("pause")
    subject.on_next(TextDelta(source="s", text="3"))
    await settle()
    assert play.said == ["s1", "s2", "s3"]
    play.leave()


@virtual_time
async def test_what_a_handler_brings_about_comes_after_it() -> None:
    subject = rx.subject.Subject[Event]()
    heard: list[str] = []

    def hear(event: Event) -> None:
        assert isinstance(event, TextDelta)
        if event.text == "1":
            subject.on_next(TextDelta(text="2"))
            subject.on_completed()
        heard.append(event.text)

    align(subject).subscribe(hear, None, lambda: heard.append("end"))
    subject.on_next(TextDelta(text="1"))
    await settle()
    assert heard == ["1", "2", "end"]


@pytest.mark.parametrize("when", [0.0, 0.5, 1.0, 2.5])
@virtual_time
async def test_leaving_closes_all(when: float) -> None:
    play = Play(having(ahead=1), words("One. ", "Two. ", "Three.", every=0.25), [2.0, "Eins. ", HANG]).start()
    await asyncio.sleep(when)
    lanes = list(play.gate._children)
    play.leave()
    assert [lane.holds for lane in lanes] == [(), ()]
    count = len(play.said)
    await asyncio.sleep(10)
    assert (len(play.said), play.heard.ended_at) == (count, None)
    play.assert_released()


@virtual_time
async def test_leaving_from_within_a_handler() -> None:
    play = Play(align, words("One. ", "Two. "), words("Eins. ", "Zwei. "))
    play.stream.pipe(rx.operators.take(2)).subscribe(play.heard.on_next, scheduler=play.scheduler)
    await asyncio.sleep(9)
    assert play.said == ["aOne. ", "bEins. "]
    play.assert_released()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": "word"}, "by='word': must be one of sentence, share"),
        ({"within": 0}, "within=0"),
        ({"within": 0.5}, "within=0.5: must be a whole number"),
        ({"expected": 100}, "expected= is for"),
        ({"by": "share"}, "needs expected="),
        ({"by": "share", "expected": (1, 2)}, r"expected=\(1, 2\): .* each of the 1 tracks"),
        ({"by": "share", "expected": 0}, "expected=0"),
        ({"by": "share", "expected": 1.5}, "expected=1.5"),
        ({"by": "share", "expected": 9, "within": -0.1}, "within=-0.1"),
        ({"ahead": 0}, "ahead=0"),
    ],
)
def test_what_is_wrong_is_said_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        align(rx.empty(), **options)
    with pytest.raises(ConfigurationError, match="0 tracks"):
        align()


@given(plots, st.integers(1, 5), st.sampled_from([{}, {"by": "share", "expected": 5}]))
def test_nothing_is_lost_doubled_or_left_open(plot: Plot, ahead: int, options: dict[str, Any]) -> None:
    law(having(ahead=ahead, **options), plot)


_texts = st.lists(
    st.sampled_from(
        [
            "One",
            " two",
            ".",
            ". ",
            " ",
            "\n\n",
            "! ",
            "Mr. ",
            "1. ",
            "Acme Corp. ",
            "The",
            "そう。",
            "? A",
            ".\n- b",
            "He. She. It.",
        ]
    ),
    max_size=15,
)
_waits = st.sampled_from([0.0, 0.0, 0.25, 1.0, 3.0])


@given(
    st.lists(st.tuples(_texts, st.lists(_waits, min_size=16, max_size=16), st.booleans()), min_size=2, max_size=3),
    st.integers(1, 3),
    st.integers(1, 4),
    st.lists(st.tuples(_waits, st.sampled_from([0.5, 2.0])), max_size=2),
)
def test_nobody_is_ever_further_ahead(
    tracks: list[tuple[list[str], list[float], bool]], within: int, ahead: int, pauses: list[tuple[float, float]]
) -> None:
    """In whole sentences, of tracks that have not come to their end."""

    @virtual_time
    async def main() -> None:
        scripts: list[list[Step]] = []
        for texts, waits, fails in tracks:
            steps: list[Step] = []
            for wait, text in zip(waits, texts, strict=False):
                steps += [wait, text]
            scripts.append([*steps, BROKEN if fails else DONE])
        play = Play(having(within=within, ahead=ahead), *scripts)
        loop = asyncio.get_running_loop()
        for at, length in pauses:
            loop.call_at(at, play.gate.hold, f"pause{at}")
            loop.call_at(at + length, play.gate.release, f"pause{at}")
        play.start()
        await asyncio.sleep(300)
        whole = {name: "".join(texts) for name, (texts, _, _) in zip("abc", tracks, strict=False)}
        ends = {name: list(itertools.accumulate(map(len, split(text, "sentence")))) for name, text in whole.items()}
        said = dict.fromkeys(whole, "")
        running = set(whole)
        for event in play.heard.items:
            if isinstance(event, TextDelta):
                said[event.source] += event.text
            elif isinstance(event, (Finished, Failed)):
                running.discard(event.source)
            done = {name: bisect_right(ends[name], len(said[name])) for name in whole}
            if isinstance(event, TextDelta) and running:
                assert done[event.source] - min(done[name] for name in running) <= within
        assert said == whole
        assert not play.heard.intruders
        play.assert_released()

    main()


@virtual_time
async def test_a_gate_that_another_thread_closes_at_the_last_moment_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play = Play(align, words("One ", "two. ", "Three."))
    least = _align._Aligned._least

    def slow(aligned: _align._Aligned) -> float:
        play.gate.hold("another thread's")  # when the first piece was found to be next
        return least(aligned)

    monkeypatch.setattr(_align._Aligned, "_least", slow)
    play.start()
    await asyncio.sleep(1.5)
    monkeypatch.undo()
    assert play.said == []
    play.gate.release("another thread's")
    await asyncio.sleep(10)
    assert play.said == ["aOne ", "atwo. ", "aThree.", "a."]
    play.assert_released()
