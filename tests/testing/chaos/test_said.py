"""How the server tells a request to go on from the next question of a chat."""

from __future__ import annotations

from typing import Any

import pytest

import rxstream
from rxstream import operators as rxo
from rxstream.testing.chaos import ChaosServer
from rxstream.testing.chaos._said import said_before

TEXT = "Air scatters blue light."


def turns(*said: str) -> list[dict[str, Any]]:
    """A conversation in which user and assistant take turns."""
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)]


@pytest.mark.parametrize("key", ["messages", "input"])
@pytest.mark.parametrize(
    ("said", "before"),
    [
        (["Why?"], ""),
        (["Why?", "Air"], "Air"),
        (["Why?", "Air", "Go on."], "Air"),
        (["Why?", TEXT, "It was cut off. Continue it."], TEXT),
        (["Why?", TEXT, "And at sunset?"], ""),
        (["Why?", "Air", "What?"], ""),
        (["Why?", TEXT, "And at sunset?", "Air", "Go on."], "Air"),
    ],
)
def test_only_who_asks_to_go_on_is_given_the_rest(key: str, said: list[str], before: str) -> None:
    assert said_before({key: turns(*said)}, TEXT) == before


@pytest.mark.parametrize(
    ("target", "dialect"),
    [("openai-chat:m", "openai-chat"), ("openai:m", "openai-responses"), ("anthropic:m", "anthropic")],
)
def test_a_chat_of_several_turns_is_answered_in_each(target: str, dialect: Any) -> None:
    faults = ["close:content=2", None, "close:content=4", None]  # of the second, all the text had come
    with ChaosServer(TEXT, faults=faults) as server:
        chat = [*turns("Why?")]
        for _ in range(3):
            asked = rxstream.stream(target, chat, base_url=server.base_url(dialect), api_key="k")
            answer = asked.pipe(rxo.retry_stream(after_output="continue_", delay=0, budget=None)).run()
            assert answer.text == TEXT
            chat += [{"role": "assistant", "content": answer.text}, {"role": "user", "content": "And at sunset?"}]
