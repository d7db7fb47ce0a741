"""``switch_latest``: a new prompt closes the request of the one before, and answers never mix."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable
from reactivex.subject import Subject

from rxstream.aggregate import Answers
from rxstream.errors import ConfigurationError, Overloaded
from rxstream.events import Cancelled, Event, Failed, Finished, TextDelta
from rxstream.observable import Stream
from rxstream.operators import responses
from rxstream.tracks import race, switch_latest
from tests.support.contests import Field, Told, watchers
from tests.support.scripted import DONE, Step
from tests.support.virtual_loop import settle, virtual_time


class Model:
    """Answers a prompt of n words with n pieces, one a second."""

    def __init__(self) -> None:
        self.field = Field()
        self.asked: list[str] = []

    def __call__(self, prompt: str) -> Stream[Event]:
        self.asked.append(prompt)
        steps: list[Step] = []
        for word in prompt.split():
            steps += [1, word.upper()]
        script = self.field.track("m", *steps, DONE)
        self.field.scripts[f"{len(self.asked)}"] = self.field.scripts["m"]
        return script


def _second(text: str, _: object) -> str:
    return text


def prompts_at(*pairs: tuple[float, str]) -> Observable[str]:
    """Prompts at their times, and then no more."""
    return rx.merge(*(rx.timer(at).pipe(rx.operators.map(partial(_second, text))) for at, text in pairs))


@virtual_time
async def test_a_new_prompt_ends_the_answer_to_the_one_before() -> None:
    model = Model()
    told = Told(switch_latest(prompts_at((1, "a b c d"), (3.5, "e f")), model))
    await asyncio.sleep(3.5)
    await settle()
    assert model.field.scripts["1"].running == 0
    await asyncio.sleep(20)
    assert told.story == [
        (2, "m#11 'A'"),
        (3, "m#11 'B'"),
        (3.5, "m#11 Usage 2 estimated"),
        (3.5, "m#11 Cancelled"),
        (4.5, "m#21 'E'"),
        (5.5, "m#21 'F'"),
        (5.5, "m#21 Finished"),
    ]
    assert told.items[3].reason == "a newer prompt came"
    assert (told.completed, told.ended_at) == (True, 5.5)


@virtual_time
async def test_an_answer_that_has_ended_is_left_as_it_is() -> None:
    model = Model()
    told = Told(switch_latest(prompts_at((1, "a"), (5, "b")), model))
    await asyncio.sleep(20)
    assert told.said == ["m#11 'A'", "m#11 Finished", "m#21 'B'", "m#21 Finished"]


@virtual_time
async def test_the_answers_can_be_taken_apart() -> None:
    model = Model()
    taken: list[Any] = []
    answers = switch_latest(prompts_at((1, "a b c"), (2.5, "d e")), model)
    answers.pipe(responses()).subscribe(taken.append)
    await asyncio.sleep(20)
    assert {label: answer.text for label, answer in taken[0].items()} == {"m#1": "A", "m#2": "DE"}
    assert taken[0]["m#1"].finish_reason is None


@virtual_time
async def test_a_failure_is_an_event_and_the_next_prompt_is_answered() -> None:
    field = Field()
    tracks = iter([field.track("a", 1, "x", Overloaded("busy")), field.track("b", "b", DONE)])
    told = Told(switch_latest(prompts_at((0, "1"), (5, "2")), lambda _: next(tracks)))
    await asyncio.sleep(20)
    assert told.story == [(1, "a#11 'x'"), (1, "a#11 Failed Overloaded"), (5, "b#21 'b'"), (5, "b#21 Finished")]
    assert told.completed


@virtual_time
async def test_a_combination_may_answer() -> None:
    field = Field()

    def ask(prompt: str) -> Stream[Event]:
        return race(field.track("a", 2, prompt, DONE), field.track("b", 1, prompt, 5, DONE))

    told = Told(switch_latest(prompts_at((0, "x"), (3, "y")), ask))
    await asyncio.sleep(20)
    answers = Answers()
    for event in told.items:
        answers.add(event)
    assert {label: answer.text for label, answer in answers.responses().items()} == {"a | b#1": "x", "a | b#2": "y"}


@virtual_time
async def test_several_answers_to_one_prompt_stay_several() -> None:
    """Here two tracks are at the same attempt."""
    field = Field()
    both = rx.merge(field.track("a", 1, "x", 2, "y", DONE), field.track("b", 2, "u", 2, "v", DONE))
    told = Told(switch_latest(prompts_at((0, "x"), (9, "y")), lambda _: both))
    await asyncio.sleep(20)
    answers = Answers()
    for event in told.items:
        answers.add(event)
    assert {label: answer.text for label, answer in answers.responses().items()} == {
        "answer#1": "xy",
        "b#1": "uv",
        "answer#2": "xy",
        "b#2": "uv",
    }


@virtual_time
async def test_without_a_prompt_there_is_nothing() -> None:
    told = Told(switch_latest(rx.empty(), Model()))
    await settle()
    assert (told.items, told.completed) == ([], True)


@pytest.mark.parametrize("leaves", [False, True])
@virtual_time
async def test_a_prompt_that_is_outdated_by_the_time_it_could_be_asked_is_not(leaves: bool) -> None:
    model, asked, prompts = Model(), list[str](), Subject[str]()

    def ask(prompt: str) -> Stream[Event]:
        asked.append(prompt)
        return model(prompt)

    told = Told(switch_latest(prompts, ask))

    def react(event: Event) -> None:
        if isinstance(event, Cancelled) and len(asked) == 1:
            if leaves:
                told.subscription.dispose()
            else:
                prompts.on_next("c")

    told.and_then = react
    prompts.on_next("a a")
    await asyncio.sleep(1.5)
    prompts.on_next("b")
    await asyncio.sleep(10)
    assert asked == (["a a"] if leaves else ["a a", "c"])
    told.subscription.dispose()
    await settle()


@virtual_time
async def test_when_the_prompts_fail_all_ends() -> None:
    model = Model()
    prompts: Subject[str] = Subject()
    told = Told(switch_latest(prompts, model))
    prompts.on_next("a b c")
    await asyncio.sleep(1.5)
    error = ValueError("mine")
    prompts.on_error(error)
    await settle()
    assert (told.said, told.error) == (["m#11 'A'"], error)
    assert model.field.scripts["1"].running == 0


@pytest.mark.parametrize("ask", [lambda _: 1 / 0, lambda _: "text"], ids=["raises", "no Observable"])
@virtual_time
async def test_what_ask_does_wrong_is_the_error(ask: Any) -> None:
    prompts: Subject[str] = Subject()
    told = Told(switch_latest(prompts, ask))
    prompts.on_next("a")
    prompts.on_next("b")
    assert isinstance(told.error, (ZeroDivisionError, ConfigurationError))
    assert prompts.observers == []


@virtual_time
async def test_a_prompt_that_comes_from_within_is_the_newer_one() -> None:
    """A subscriber that prompts again when it hears that its prompt was given up."""
    model = Model()
    prompts: Subject[str] = Subject()
    heard: list[Event] = []

    def hear(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Cancelled) and len(model.asked) == 1:
            prompts.on_next("third")

    switch_latest(prompts, model).subscribe(hear)
    prompts.on_next("first prompt")
    await asyncio.sleep(1.5)
    prompts.on_next("second")
    await asyncio.sleep(20)
    assert "".join(event.text for event in heard if isinstance(event, TextDelta)) == "FIRSTTHIRD"
    assert [event.source for event in heard if isinstance(event, Finished)] == ["m#3"]


@virtual_time
async def test_prompts_may_come_from_another_thread() -> None:
    model = Model()
    prompts: Subject[str] = Subject()
    told = Told(switch_latest(prompts, model))

    def prompt() -> None:
        for text in ("a", "b", "c"):
            prompts.on_next(text)
        prompts.on_completed()

    thread = threading.Thread(target=prompt)
    thread.start()
    thread.join()
    await asyncio.sleep(20)
    assert model.asked == ["a", "b", "c"]
    assert told.said[-2:] == ["m#31 'C'", "m#31 Finished"]
    assert told.completed


@virtual_time
async def test_what_another_thread_has_sent_before_the_end_is_not_asked_after_it() -> None:
    asked: list[str] = []

    def ask(prompt: str) -> Stream[Event]:
        asked.append(prompt)
        raise ZeroDivisionError

    prompts: Subject[str] = Subject()
    told = Told(switch_latest(prompts, ask))

    def prompt() -> None:
        for text in ("a", "b"):
            prompts.on_next(text)

    thread = threading.Thread(target=prompt)
    thread.start()
    thread.join()
    await settle()
    assert (asked, type(told.error)) == (["a"], ZeroDivisionError)


@virtual_time
async def test_while_it_is_paused_a_prompt_still_closes_the_request_and_the_words_wait() -> None:
    model = Model()
    prompts: Subject[str] = Subject()
    told = Told(switch_latest(prompts, model))
    prompts.on_next("a b c")
    await asyncio.sleep(1.5)
    told.gate.hold("test")
    prompts.on_next("d")
    await settle()
    assert (model.field.scripts["1"].running, told.said) == (0, ["m#11 'A'"])
    await asyncio.sleep(5)
    told.gate.release("test")
    await asyncio.sleep(5)
    assert told.said[1:] == ["m#11 Usage 1 estimated", "m#11 Cancelled", "m#21 'D'", "m#21 Finished"]
    prompts.on_completed()
    assert told.completed


@pytest.mark.parametrize("at", [0, 1, 2, 3.5, 4, 5])
@virtual_time
async def test_disposed_at_any_moment_it_leaves_nothing(at: float) -> None:
    model = Model()
    prompts: Subject[str] = Subject()
    told = Told(switch_latest(prompts, model))
    timers = prompts_at((1, "a b c"), (3.5, "d e")).subscribe(prompts.on_next)
    await asyncio.sleep(at)
    told.subscription.dispose()
    heard = len(told.items)
    await settle()
    assert model.field.running == []
    await asyncio.sleep(20)
    assert (len(told.items), told.ended_at, prompts.observers) == (heard, None, [])
    assert await watchers(told.gate) == 0
    timers.dispose()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), max_size=6))
def test_each_answer_is_a_beginning_of_its_own_and_ends_once(gaps: list[tuple[int, int]]) -> None:
    """Law: nothing mixes, nothing is open at the end, only the last need be whole."""

    @virtual_time
    async def main() -> None:
        model, at = Model(), 0.25  # between the pieces
        pairs: list[tuple[float, str]] = []
        for number, (gap, size) in enumerate(gaps):
            at += gap
            pairs.append((at, " ".join(f"p{number}w{index}" for index in range(size))))
        told = Told(switch_latest(rx.concat(*(prompts_at(pair) for pair in _relative(pairs))), model))
        await asyncio.sleep(100)
        assert told.completed
        for number, (_, prompt) in enumerate(pairs, 1):
            mine = [event for event in told.items if event.source == f"m#{number}"]
            text = "".join(event.text for event in mine if isinstance(event, TextDelta))
            assert prompt.replace(" ", "").upper().startswith(text)
            assert [isinstance(event, (Finished, Cancelled, Failed)) for event in mine] == [False] * (len(mine) - 1) + [
                True
            ]
            assert isinstance(mine[-1], Finished) == (text == prompt.replace(" ", "").upper())
        assert all(script.running == 0 for script in model.field.scripts.values())

    main()


def _relative(pairs: list[tuple[float, str]]) -> list[tuple[float, str]]:
    befores = [0.0, *(at for at, _ in pairs)]
    return [(at - before, text) for (at, text), before in zip(pairs, befores, strict=False)]


def test_prompts_must_be_an_observable() -> None:
    with pytest.raises(ConfigurationError, match="prompts is a list"):
        switch_latest(["a"], lambda _: rx.never())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="ask='a'"):
        switch_latest(rx.never(), "a")  # type: ignore[arg-type]
