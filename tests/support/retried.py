"""A model that can be asked again and again, each time with another fault; and what `retry_stream` is to be told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal

import reactivex as rx
from reactivex import Observable, abc

from rxstream import operators as rxo
from rxstream._asking import Asked, Continuation, Conversation, ModelKey
from rxstream.errors import Disconnected, Overloaded, StreamError
from rxstream.events import Event, Finished, Retracted, Retrying, Seam, TextDelta, UsageReported
from rxstream.sources._pump import pump
from tests.support.contests import Told, started
from tests.support.scripted import DONE, Scripted, Step

__all__ = ["HELLO", "Fickle", "Model", "busy", "lost", "most", "retry", "steps", "story"]

HELLO = (started(), "Hel", "lo", DONE)


def most(seconds: float) -> float:
    """No jitter: the longest delay."""
    return seconds


def retry(source: Observable[Event], **options: Any) -> Told:
    """A subscriber of it, without jitter and without a budget where nothing else is said."""
    return Told(source.pipe(rxo.retry_stream(**{"jitter": most, "budget": None, **options})))


def busy(retry_after: float | None = None) -> Overloaded:
    return Overloaded("busy", retry_after=retry_after)


def lost() -> Disconnected:
    return Disconnected("lost")


def steps(*items: Step, every: float = 1.0) -> list[Step]:
    """The items, one every so many seconds."""
    return [step for item in items for step in (every, item)]


def story(told: Told) -> list[tuple[float, str]]:
    """What was told, in short words: when, by which attempt, with which number, and what."""
    return [
        (at, f"{event.attempt}.{event.seq} {_word(event)}") for at, event in zip(told.times, told.items, strict=True)
    ]


def _word(event: Event) -> str:
    match event:
        case TextDelta():
            return event.text
        case Retrying():
            return f"Retrying {event.error.kind} {event.delay:g} {event.how}"
        case Retracted():
            return f"Retracted {event.to_offset}"
        case Seam():
            return f"Seam {event.kind} {event.offset} {event.verified}"
        case UsageReported():
            return f"Usage {event.usage.output_tokens} {event.usage.provenance}"
        case _:
            return type(event).__name__


class Fickle:
    """A source that follows another script each time that it is subscribed; the last of them ever after."""

    def __init__(self, *scripts: Sequence[Step], label: str = "m", keep_partial: bool = True) -> None:
        self.scripts = [Scripted(script) for script in scripts]
        self.asked_at: list[float] = []
        self._label = label
        self._keep_partial = keep_partial

    def request(self) -> Observable[Event]:
        script = self.scripts[min(len(self.asked_at), len(self.scripts) - 1)]
        self.asked_at.append(asyncio.get_running_loop().time())
        return pump(script.source(label=self._label, keep_partial=self._keep_partial))

    @property
    def stream(self) -> Observable[Event]:
        return rx.defer(lambda _: self.request())

    @property
    def running(self) -> int:
        return sum(script.running for script in self.scripts)


class Model:
    """A model that has one answer, and how it can be asked for it: an `Asking` and its own `Conversation`.

    Args:
        answer: Its events, the last of them `Finished`.
        faults: For each request, how many events it gives before it fails, and of what; the requests after these are good.
        total: The clock for all attempts.
        resumable: Whether it gives the rest of an answer.
        refuses: Why it does not go on after a text.
        every: Seconds between events.
        name: What it is called.
    """

    def __init__(
        self,
        *answer: Event | str,
        faults: Sequence[tuple[int, StreamError]] = (),
        total: float | None = None,
        resumable: bool = True,
        refuses: str = "",
        every: float = 1.0,
        name: str = "scripted-1",
    ) -> None:
        self.key = ModelKey("scripted", name, "http://127.0.0.1")
        self.tokens = 100
        self.total = total
        self.resumable = resumable
        self.asked: list[tuple[float, str]] = []
        """When it was asked, and how."""
        self.closed = 0
        self.conversations: list[bool] = []
        self.scripts: list[Scripted] = []
        self.kind: Literal["prefill", "user_message"] = "prefill"
        self.on_ask: Callable[[], object] = lambda: None
        self._answer = [TextDelta(text=item) if isinstance(item, str) else item for item in answer]
        self._faults = list(faults)
        self._refuses = refuses
        self._every = every
        self._cursor: int | None = None

    @property
    def text(self) -> str:
        """All of its answer, which is its first."""
        return "".join(event.text for event in self._answer if isinstance(event, TextDelta) and not event.choice)

    @property
    def stream(self) -> Asked:
        """What is asked of it, as one of its streams."""

        def subscribe(
            observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            raise AssertionError("it has to be asked by its conversation")

        return Asked(subscribe, self)

    @property
    def running(self) -> int:
        return sum(script.running for script in self.scripts)

    def conversation(self, *, resumable: bool) -> Conversation:
        self.conversations.append(resumable)
        return self

    def ask(self) -> Observable[Event]:
        return rx.defer(lambda _: self._request("ask", self._answer, 0))

    def resume(self) -> Observable[Event] | None:
        if self._cursor is None:
            return None
        return rx.defer(lambda _: self._request("resume", self._answer[self._cursor :], self._cursor or 0))

    def go_on(self, text: str) -> Continuation | str:
        if self._refuses:
            return self._refuses
        assert self.text.startswith(text), f"{text!r} was never said"
        left = self.text[len(text) :]
        pieces: list[Event] = [TextDelta(text=left[index : index + 2]) for index in range(0, len(left), 2)]
        return Continuation(
            rx.defer(lambda _: self._request(text, [*pieces, Finished(reason="stop")], None)), self.kind
        )

    def close(self) -> None:
        assert not self.running or self.running == 1
        self.closed += 1

    def _request(self, how: str, events: Sequence[Event], cursor: int | None) -> Observable[Event]:
        self.on_ask()
        assert not self.closed, "it is asked after its conversation was closed"
        self.asked.append((asyncio.get_running_loop().time(), how))
        given, error = self._faults.pop(0) if self._faults else (len(events), None)
        script = Scripted(steps(*events[:given], *([error] if error else []), every=self._every))
        self.scripts.append(script)
        self._cursor = None if cursor is None or cursor + given == 0 else cursor + given
        return pump(script.source(label="m"))
