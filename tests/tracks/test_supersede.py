"""``supersede``: the draft speaks at once, the final answer has the last word, and its text comes once."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxstream import events as ev
from rxstream.errors import ConfigurationError, Disconnected, Overloaded, TracksFailed
from rxstream.events import Event, Retracted, TextDelta
from rxstream.segment import characters
from rxstream.tracks import failover, supersede
from tests.support.contests import Field, Told, reported, started, watchers
from tests.support.scripted import DONE, HANG, Step, words
from tests.support.virtual_loop import settle, virtual_time

At = Literal["first_output", "first_sentence", "end"]
EVERY: tuple[At, ...] = ("first_output", "first_sentence", "end")
DRAFT: list[Step] = [started("small"), 1, "Paris, ", 1, "I think.", 20, DONE]
FINAL: list[Step] = [started("large"), 2.5, "It is ", 1, "Paris. ", 1, "Truly.", reported(5), DONE]


async def told_of(
    draft: list[Step], final: list[Step], *, at: At = "first_sentence", edits: Literal["retract", "minimal"] = "retract"
) -> tuple[Told, Field]:
    field = Field()
    told = Told(supersede(field.track("d", *draft), field.track("f", *final), at=at, edits=edits))
    await asyncio.sleep(100)
    assert field.running == []
    assert await watchers(told.gate) == 0
    return told, field


@pytest.mark.parametrize(("at", "when"), [("first_output", 2.5), ("first_sentence", 4.5), ("end", 4.5)])
@virtual_time
async def test_the_final_answer_takes_over_at_its_moment(at: At, when: float) -> None:
    told, field = await told_of(DRAFT, FINAL, at=at)
    assert told.story[:6] == [
        (1, "d1 Started"),
        (1, "d1 'Paris, '"),
        (2, "d1 'I think.'"),
        (when, "d1 Usage 2 estimated"),
        (when, "d1 Cancelled"),
        (when, "d1 Retracted 0"),
    ]
    assert told.story[6:8] == [(when, "f2 Started"), (when, "f2 'It is '")]
    assert told.said[6:] == [
        "f2 Started",
        "f2 'It is '",
        "f2 'Paris. '",
        "f2 'Truly.'",
        "f2 Usage 5 reported",
        "f2 Finished",
    ]
    assert (field.closed_at["d"], told.ended_at, told.completed) == ([when], 4.5, True)
    assert (told.response.text, told.response.model) == ("It is Paris. Truly.", "large")
    assert told.response.usage.output_tokens == 7


@virtual_time
async def test_a_first_sentence_may_be_long_but_not_for_ever() -> None:
    told, _ = await told_of([1, "d", HANG], [2, "no end " * 100, 1, "no end " * 200, 1, "x", DONE])
    assert told.times[told.said.index("d1 Retracted 0")] == 3


@virtual_time
async def test_a_final_answer_without_a_sentence_takes_over_at_its_end() -> None:
    told, _ = await told_of([1, "d", HANG], [2, ev.ToolCallStart(name="f"), 1, DONE])
    assert told.times[told.said.index("d1 Retracted 0")] == 3
    assert [call.name for call in told.response.tool_calls] == ["f"]


@pytest.mark.parametrize("at", EVERY)
@virtual_time
async def test_a_final_answer_that_is_first_is_the_answer(at: At) -> None:
    told, field = await told_of([started(), 50, "late"], words("It is. ", "So."), at=at)
    assert told.said[:2] == ["d1 Usage 0 estimated", "d1 Cancelled"]
    assert told.said[2:] == ["f2 'It is. '", "f2 'So.'", "f2 Finished"]
    assert not any(isinstance(event, Retracted) for event in told.items)
    assert field.closed_at["d"] == [{"first_output": 1, "first_sentence": 2, "end": 2}[at]]


@pytest.mark.parametrize("at", EVERY)
@pytest.mark.parametrize("when", [0.5, 1.5, 5], ids=["before it", "in it", "after it"])
@virtual_time
async def test_if_the_final_answer_fails_the_draft_is_the_answer(at: At, when: float) -> None:
    told, _ = await told_of([1, "Pa", 1, "ris", DONE], [when, Overloaded("busy")], at=at)
    assert ("f2 Failed Overloaded" in told.said, told.completed) == (True, True)
    assert told.times[told.said.index("f2 Failed Overloaded")] == when
    assert [word for word in told.said if "Failed" not in word] == ["d1 'Pa'", "d1 'ris'", "d1 Finished"]
    assert told.response.text == "Paris"
    assert told.ended_at == max(2, when)


@virtual_time
async def test_a_final_answer_that_fails_while_it_is_kept_back_leaves_its_usage_only() -> None:
    told, _ = await told_of([1, "d", DONE], [2, "half a sentence", 1, Disconnected("gone")])
    assert told.said == ["d1 'd'", "f2 Failed Disconnected", "f2 Usage 1 estimated", "d1 Finished"]
    assert told.response.text == "d"


@virtual_time
async def test_after_it_has_taken_over_its_failure_is_the_end() -> None:
    told, _ = await told_of([1, "d", HANG], [2, "It. Is", 1, Disconnected("gone")])
    assert isinstance(told.error, Disconnected)
    assert told.error.partial is not None
    assert told.error.partial.text == told.response.text == "It. Is"
    assert told.ended_at == 3


@pytest.mark.parametrize("at", EVERY)
@virtual_time
async def test_if_the_draft_fails_the_final_answer_speaks_as_it_comes(at: At) -> None:
    told, _ = await told_of([1, "d", 1, Disconnected("gone")], [3, "no sentence", 1, " yet", 1, DONE], at=at)
    assert told.story == [
        (1, "d1 'd'"),
        (2, "d1 Failed Disconnected"),
        (2, "d1 Usage 1 estimated"),
        (3, "d1 Retracted 0"),
        (3, "f2 'no sentence'"),
        (4, "f2 ' yet'"),
        (5, "f2 Finished"),
    ]


@virtual_time
async def test_what_is_kept_back_comes_when_the_draft_fails() -> None:
    told, _ = await told_of([1, "d", 2, Disconnected("gone")], [2, "no sentence", 3, DONE], at="end")
    assert told.times[told.said.index("f2 'no sentence'")] == 3


@virtual_time
async def test_a_silent_draft_is_nothing_to_wait_for() -> None:
    told, _ = await told_of([1, started(), DONE], [2, "no sentence", 3, DONE], at="end")
    assert told.story == [(2, "d1 Usage 0 estimated"), (2, "f2 'no sentence'"), (5, "f2 Finished")]


@virtual_time
async def test_a_final_answer_without_content_does_not_take_over() -> None:
    told, _ = await told_of([1, "Pa", 2, "ris", DONE], [2, started(), DONE], at="end")
    assert told.story == [(1, "d1 'Pa'"), (3, "d1 'ris'"), (3, "f2 Usage 0 estimated"), (3, "d1 Finished")]


@pytest.mark.parametrize("draft", [[1, DONE], [1, "x", Overloaded("busy")]], ids=["silent", "failed"])
@virtual_time
async def test_it_does_if_there_is_nothing_else(draft: list[Step]) -> None:
    told, _ = await told_of(draft, [2, started("large"), DONE], at="end")
    assert (told.response.text, told.response.model, told.completed, told.ended_at) == ("", "large", True, 2)
    assert told.said[-2:] == ["f2 Started", "f2 Finished"]


@virtual_time
async def test_both_silent_or_failed_in_the_other_order() -> None:
    told, _ = await told_of([3, DONE], [2, DONE], at="end")
    assert (told.said, told.completed, told.ended_at) == (["d1 Usage 0 estimated", "f2 Finished"], True, 3)
    told, _ = await told_of([3, DONE], [2, Overloaded("busy")], at="end")
    assert (told.said, told.completed) == (["f2 Failed Overloaded", "d1 Finished"], True)


@virtual_time
async def test_if_both_fail_the_error_has_both_and_what_the_draft_said() -> None:
    told, _ = await told_of([1, "Pa", 2, Disconnected("gone")], [2, Overloaded("busy")])
    assert isinstance(told.error, TracksFailed)
    assert {label: type(error) for label, error in told.error.errors.items()} == {"d": Disconnected, "f": Overloaded}
    assert told.error.partial is not None
    assert told.error.partial.text == told.response.text == "Pa"


@virtual_time
async def test_a_draft_that_was_complete_is_retracted_too() -> None:
    told, _ = await told_of([1, "Pa", reported(2), DONE], [2, "It. Is.", DONE])
    assert told.said == [
        *("d1 'Pa'", "d1 Usage 2 reported", "d1 Usage 2 reported", "d1 Retracted 0", "f2 'It. Is.'", "f2 Finished"),
    ]
    assert (told.response.text, told.response.finish_reason) == ("It. Is.", "stop")


# --- edits="minimal" ------------------------------------------------------------------------------------------------------


@virtual_time
async def test_what_both_texts_begin_with_stays() -> None:
    told, _ = await told_of(
        [1, "The capital", 1, " is Lyon.", HANG],
        [3, "The cap", "ital is Par", "is.", 1, DONE],
        at="end",
        edits="minimal",
    )
    assert told.story == [
        (1, "d1 'The capital'"),
        (2, "d1 ' is Lyon.'"),
        (4, "d1 Usage 2 estimated"),
        (4, "d1 Cancelled"),
        (4, "d1 Retracted 15"),
        (4, "f2 'Par'"),
        (4, "f2 'is.'"),
        (4, "f2 Finished"),
    ]
    assert told.response.text == "The capital is Paris."
    assert [event.seq for event in told.items[5:]] == [0, 1, 2]


@virtual_time
async def test_a_draft_that_was_right_stays_whole() -> None:
    told, _ = await told_of([1, "Paris", HANG], [3, "Paris", " it is.", DONE], at="end", edits="minimal")
    assert not any(isinstance(event, Retracted) for event in told.items)
    assert told.said[3:] == ["f2 ' it is.'", "f2 Finished"]
    assert told.response.text == "Paris it is."


@virtual_time
async def test_an_answer_that_goes_on_may_change_its_last_character() -> None:
    """An accent may come for the letter that both end with so far: the letter is not kept."""
    told, _ = await told_of(
        [1, "caf", "e", HANG], [3, "caf", "e", 1, "\u0301!", DONE], at="first_output", edits="minimal"
    )
    assert told.said[4:] == ["d1 Retracted 2", "f2 'f'", "f2 'e'", "f2 '\u0301!'", "f2 Finished"]
    assert told.response.text == "cafe\u0301!"


@pytest.mark.parametrize(
    "extra",
    [ev.ThinkingDelta(part=1, text="hm"), ev.ToolCallStart(part=1, name="f"), TextDelta(text="other", choice=1)],
    ids=lambda event: type(event).__name__,
)
@virtual_time
async def test_a_draft_that_was_more_than_text_is_not_kept(extra: Event) -> None:
    told, _ = await told_of([1, "Paris", extra, HANG], [3, "Paris", DONE], at="end", edits="minimal")
    assert "d1 Retracted 0" in told.said
    assert (told.response.text, told.response.thinking, told.response.tool_calls) == ("Paris", "", [])


@virtual_time
async def test_the_final_answers_thinking_and_calls_stay() -> None:
    final: list[Step] = [
        3,
        ev.ThinkingDelta(text="hm"),
        TextDelta(part=1, text="Paris!"),
        TextDelta(part=2, text="Paris"),
        DONE,
    ]
    told, _ = await told_of([1, "Paris", HANG], final, at="end", edits="minimal")
    assert (told.response.text, told.response.thinking) == ("Paris!Paris", "hm")
    assert [event.seq for event in told.items if event.source == "f"] == [0, 1, 2, 3]


@pytest.mark.parametrize(("said", "kept"), [("Paris it is", 5), ("Parma", 3), ("Lyon", 0)])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@virtual_time
async def test_a_part_that_is_said_anew_at_its_end_is_cut_too(said: str, kept: int, late: bool) -> None:
    end: list[Step] = [ev.PartEnd(kind="text", text=said), DONE]
    final: list[Step] = [3, "Paris. is", 1, *end] if late else [3, "Paris. ", *end]
    told, _ = await told_of([1, "Paris", HANG], final, at="first_output" if late else "end", edits="minimal")
    assert told.response.text == said
    retracted = [event.to_offset for event in told.items if isinstance(event, Retracted)]
    assert retracted == ([kept] if kept < 5 else [])


@pytest.mark.parametrize("offset", [0, 3, 5, 7])
@virtual_time
async def test_what_the_final_answer_takes_back_is_taken_back(offset: int) -> None:
    """A nested combination: an offset into its text may lie in what is kept of the draft."""
    final: list[Step] = [3, "Paris, so", 1, Retracted(to_offset=offset), TextDelta(attempt=2, text="X"), DONE]
    told, _ = await told_of([1, "Paris", HANG], final, at="first_output", edits="minimal")
    assert told.response.text == "Paris, so"[:offset] + "X"


@pytest.mark.parametrize("offset", [0, 2, 3])
@virtual_time
async def test_what_it_took_back_before_it_took_over_is_said_as_it_stands(offset: int) -> None:
    final: list[Step] = [3, "Par", Retracted(to_offset=offset), "Paris!"[offset:], 1, DONE]
    told, _ = await told_of([1, "Paris, I think", HANG], final, at="end", edits="minimal")
    assert told.response.text == "Paris!"


@virtual_time
async def test_a_draft_of_several_attempts_is_compared_as_it_stands() -> None:
    field = Field()
    draft = failover(
        field.track("a", "Lyon", Disconnected("x")), field.track("b", 1, "Paris, ", HANG), after_output="restart"
    )
    told = Told(supersede(draft, field.track("f", 3, "Paris.", DONE), at="end", edits="minimal"))
    await asyncio.sleep(20)
    assert told.response.text == "Paris."
    assert [event.to_offset for event in told.items if isinstance(event, Retracted)] == [0, 5]


# --- the whole ------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_reader_that_pauses_after_each_event_gets_the_same() -> None:
    field = Field()
    told = Told(supersede(field.track("d", *DRAFT), field.track("f", *FINAL), at="end"), pauses=True)
    await asyncio.sleep(200)
    assert told.response.text == "It is Paris. Truly."
    assert told.completed


@pytest.mark.parametrize("at", [0, 1, 1.5, 2, 2.5, 3, 4.5])
@virtual_time
async def test_disposed_at_any_moment_it_leaves_nothing(at: float) -> None:
    field = Field()
    told = Told(supersede(field.track("d", *DRAFT), field.track("f", *FINAL)))
    await asyncio.sleep(at)
    told.subscription.dispose()
    heard, over = len(told.items), told.ended_at
    await settle()
    assert field.running == []
    await asyncio.sleep(20)
    assert (len(told.items), told.ended_at) == (heard, over)
    assert await watchers(told.gate) == 0


LETTERS = st.text(st.sampled_from(list("ab\r\n e\u0301\U0001f469\u200d\U0001f4bb\U0001f1e9")), max_size=3)
PIECES = st.lists(st.tuples(st.integers(0, 3), LETTERS), max_size=6)


@given(PIECES, PIECES, st.sampled_from(EVERY), st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), max_size=2))
def test_minimal_edits_give_exactly_the_final_text(
    draft: list[tuple[int, str]], final: list[tuple[int, str]], at: At, pauses: list[tuple[int, int]]
) -> None:
    """Law: whatever both say, and whenever; and no character that a reader sees is cut in two."""

    @virtual_time
    async def main() -> None:
        field = Field()
        sides = [[*(step for piece in pieces for step in piece), DONE] for pieces in (draft, final)]
        tracks = (field.track("d", *sides[0]), field.track("f", *sides[1]))
        told = Told(supersede(*tracks, at=at, edits="minimal"))
        loop = asyncio.get_running_loop()
        for number, (start, length) in enumerate(pauses):
            loop.call_at(start, told.gate.hold, f"pause-{number}")
            loop.call_at(start + length, told.gate.release, f"pause-{number}")
        await asyncio.sleep(200)
        said, wanted = ("".join(text for _, text in side) for side in (draft, final))
        assert told.completed
        assert told.response.text == (wanted or said)
        for event in told.items:
            if isinstance(event, Retracted) and event.to_offset:
                before = "".join(item.text for item in told.items if isinstance(item, TextDelta) and item.source == "d")
                kept = before[: event.to_offset]
                assert characters(before)[: len(characters(kept))] == characters(kept)
                assert characters(wanted)[: len(characters(kept))] == characters(kept)

    main()


@pytest.mark.parametrize(("name", "options"), [("at", {"at": "soon"}), ("edits", {"edits": "some"})])
def test_another_word_is_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=name):
        supersede(rx.never(), rx.never(), **options)
    with pytest.raises(ConfigurationError, match="track 2"):
        supersede(rx.never(), "final")  # type: ignore[arg-type]
