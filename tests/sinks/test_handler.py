"""What a handler is, and what passes for one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx
from reactivex.subject import Subject

from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import Event, Finished, TextDelta
from rxstream.response import Response
from rxstream.sinks._hooks import HOOKS, hooks_of
from rxstream.sinks.handler import StreamHandler, StreamMetadata, as_handler
from tests.support.virtual_loop import settle, virtual_time

EVENTS: list[Event] = [TextDelta(text="to "), TextDelta(text="be"), Finished(reason="stop")]


class Written(StreamHandler):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def on_stream_start(self, metadata: StreamMetadata) -> None:
        self.said.append("start")

    def on_token_received(self, token: str, index: int) -> None:
        self.said.append((index, token))

    def on_stream_complete(self, full_response: Response) -> None:
        self.said.append(full_response.text)

    def on_stream_error(self, error: Exception) -> None:
        self.said.append(error)


ALL = ["start", (0, "to "), (1, "be"), "to be"]


def test_a_handler_observes_any_observable() -> None:
    handler = Written()
    rx.of(*EVENTS).subscribe(handler)
    assert handler.said == ALL


def test_a_handler_may_observe_again_after_the_end() -> None:
    handler = Written()
    for _ in range(2):
        rx.of(*EVENTS).subscribe(handler)
    rx.throw(Disconnected("gone")).subscribe(handler)
    assert handler.said[:8] == ALL * 2
    assert handler.said[8] == "start"
    assert isinstance(handler.said[9], Disconnected)


def test_a_handler_that_raises_breaks_no_subject() -> None:
    """Others of the same Subject miss nothing, and it is told the rest itself."""

    class Raises(Written):
        def on_token_received(self, token: str, index: int) -> None:
            raise ValueError(token)

    subject: Subject[Event] = Subject()
    raises, other = Raises(), Written()
    subject.subscribe(raises)
    subject.subscribe(other)
    for event in EVENTS:
        subject.on_next(event)
    subject.on_completed()
    assert other.said == ALL
    assert raises.said == ["start", "to be"]


@virtual_time
async def test_coroutine_functions_observe_too() -> None:
    class Slow(Written):
        async def on_token_received(self, token: str, index: int) -> None:  # type: ignore[override]
            await asyncio.sleep(1)
            self.said.append((index, token))

    handler = Slow()
    rx.of(*EVENTS).subscribe(handler)
    assert handler.said == []
    await asyncio.sleep(2)
    await settle()
    assert handler.said == ALL


# --- what passes for one --------------------------------------------------------------------------------------------------


def test_a_handler_is_itself() -> None:
    handler = Written()
    assert as_handler(handler) is handler


def test_a_function_is_told_of_events() -> None:
    said: list[Event] = []
    assert hooks_of(as_handler(said.append)) == {"on_event": said.append}
    assert repr(as_handler(print)) == f"as_handler({print!r})"


def test_an_observer_of_rx_is_a_handler() -> None:
    subject: Subject[Event] = Subject()
    said: list[Any] = []
    subject.subscribe(said.append, said.append, lambda: said.append("end"))
    rx.of(*EVENTS).subscribe(as_handler(subject))
    assert said == [*EVENTS, "end"]


def test_some_of_the_methods_are_enough() -> None:
    class Duck:
        def __init__(self) -> None:
            self.said: list[str] = []

        def on_token_received(self, token: str, index: int) -> None:
            self.said.append(token)

    duck = Duck()
    handler = as_handler(duck)
    assert list(hooks_of(handler)) == ["on_token_received"]
    rx.of(*EVENTS).subscribe(handler)
    assert duck.said == ["to ", "be"]


@pytest.mark.parametrize("told", [None, 3, "print", object(), Written, [print]])
def test_anything_else_is_refused(told: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^handler="):
        as_handler(told)


def test_the_base_has_nothing_to_say() -> None:
    assert hooks_of(StreamHandler()) == {}
    for name in HOOKS:
        arguments = {"on_token_received": ("a", 0), "on_pause": (), "on_resume": ()}.get(name, (None,))
        assert getattr(StreamHandler(), name)(*arguments) is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("on_tokn_received", "on_token_received"),
        ("on_stream_completed", "on_stream_complete"),
        ("on_tool_calls", "on_tool_call"),
        ("on_paused", "on_pause"),
        ("on_token", "on_token_received"),
        ("on_complete", "on_stream_complete"),
    ],
)
def test_a_method_that_is_misspelt_is_refused(name: str, meant: str) -> None:
    """It would never be called."""
    with pytest.raises(ConfigurationError, match=rf"^Mine\.{name}: .* mean {meant}\?"):
        type("Mine", (StreamHandler,), {name: print})


def test_other_methods_are_ones_own() -> None:
    names = ("on_click", "on_next", "on_error", "on_completed", "on_stream_end", "on_reset", "text", "token")
    assert issubclass(type("Mine", (StreamHandler,), dict.fromkeys(names, print)), StreamHandler)
    assert type("Mine", (StreamHandler,), {"_on_event": print, "on_events": 0, "on_paused": False})
