"""A scripted stream whose model can be asked again: anew, from where it was cut, or to go on."""

from __future__ import annotations

from typing import Literal

from reactivex import Observable

from rxstream._asking import Continuation, Conversation, ModelKey
from rxstream.events import Event
from rxstream.observable import Stream
from rxstream.sources._pump import pump
from tests.support.scripted import Scripted

__all__ = ["Knowing"]


class Knowing:
    """What is known of a model that plays `answer` first, then `again` when asked anew, and `further` when it is to go on.

    It is the `Asking` and its own `Conversation`.

    Args:
        answer: The first answer.
        again: What comes when it is asked once more.
        further: What comes when it goes on; a string is why it cannot.
    """

    def __init__(self, answer: Scripted, again: Scripted | None = None, further: Scripted | str = "it cannot") -> None:
        self.key = ModelKey("scripted", "scripted-1", "http://127.0.0.1")
        self.tokens = 100
        self.total: float | None = None
        self.resumable = False
        self.texts: list[str] = []
        """After what it was asked to go on."""
        self.closed = 0
        self.kind: Literal["prefill", "user_message"] = "prefill"
        self._label = ""
        self._answer = answer
        self._again = again or answer
        self._further = further

    def stream(self, label: str = "") -> Stream[Event]:
        self._label = label
        made = Stream.of(pump(self._answer.source(label=label)), label=label)
        made.asking = self
        return made

    def conversation(self, *, resumable: bool) -> Conversation:
        assert not resumable
        return self

    def ask(self) -> Observable[Event]:
        return pump(self._again.source())

    def resume(self) -> Observable[Event] | None:
        return None

    def go_on(self, text: str) -> Continuation | str:
        self.texts.append(text)
        if isinstance(self._further, str):
            return self._further
        return Continuation(pump(self._further.source(label=self._label)), self.kind)

    def close(self) -> None:
        self.closed += 1
