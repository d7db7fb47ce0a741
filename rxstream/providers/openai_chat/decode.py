"""Chat Completions: bytes to events.

Rules of this module:

* ``finish_reason`` is evidence, not an end: it comes twice, and usage or an error may follow it. The answer ends at
  ``[DONE]``, or with the body if the evidence is enough (`rxstream.providers.Quirks.terminal`).
* Usage is taken wherever it comes; the last one that is not null counts, and nothing is added up.
* What else stands in a payload that holds an error is delivered before the error.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from rxstream.errors import StreamIncomplete, ToolCallIncomplete
from rxstream.events import Event, Finished, Raw, Started, Status, UsageReported
from rxstream.providers._shared import SSEDialect, is_list, is_object
from rxstream.providers.compatible import Evidence, Quirks
from rxstream.providers.openai_chat._choice import ChoiceDecoder, finish_reason
from rxstream.providers.openai_chat._payload import Choice, Chunk, Delta
from rxstream.providers.openai_chat._usage import read_usage
from rxstream.providers.openai_chat.errors import classify
from rxstream.wire.sse import DEFAULT_MAX_EVENT_BYTES

__all__ = ["ChatDecoder"]

_TOLERANT: Final = Quirks()
_READ: Final = frozenset({*Delta.__struct_fields__, "role", "name", "channel"})
"""The fields of a delta that are read, and those that say nothing of the answer."""
_decode: Final = msgspec.json.Decoder(Chunk).decode


class ChatDecoder(SSEDialect):
    """Decodes one stream of Chat Completions. See `rxstream.typing.Decoder` for what it promises.

    Args:
        keep_raw: Keep each payload's bytes on the events made from it, as ``raw``.
        max_event_bytes: Limit on one server-sent event, in bytes.
        quirks: How the server differs from the rest.
    """

    def __init__(
        self,
        *,
        keep_raw: bool = True,
        max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
        quirks: Quirks = _TOLERANT,
    ) -> None:
        super().__init__(keep_raw=keep_raw, max_event_bytes=max_event_bytes)
        self._quirks = quirks
        self._started = False
        self._choices: dict[float | str | None, ChoiceDecoder] = {}
        self._unfinished: set[int] = set()  # choices without their finish_reason
        self._usage: dict[str, Any] | None = None
        self._usage_is_final = True
        self._cited: set[str] = set()

    def _payload(self, event: str, data: bytes, raw: bytes | None, out: list[Event]) -> None:
        if event == "error":
            raise classify(status=None, body=data)
        try:
            chunk = _decode(data)
        except msgspec.DecodeError:
            self._other(event, data, raw, out)
            return
        choices = chunk.choices
        if not self._started and (chunk.id or chunk.model or choices):
            self._started = True
            out.append(Started(id=_text(chunk.id), model=_text(chunk.model), provider=self.provider, raw=raw))
        before = len(out)
        if isinstance(choices, list):
            for choice in choices:
                state = self._choices.get(choice.index)
                if state is None:
                    state = self._new_choice(choice.index)
                state.add(choice, raw, out)
                if choice.usage or choice.error:
                    self._of_choice(choice, raw, out)
        if (
            chunk.usage
            or chunk.error
            or chunk.x_groq
            or chunk.citations
            or chunk.search_results
            or chunk.timings
            or chunk.prompt_progress
            or chunk.moderation
            or chunk.prompt_filter_results
        ):
            self._aside(chunk, data, raw, out)
        elif not isinstance(choices, list):
            self._other(event, data, raw, out)
        elif len(out) == before:
            self._unread(data, raw, out)

    def _end(self, out: list[Event]) -> None:
        self._finish(None, None, out)

    def _new_choice(self, index: float | str | None) -> ChoiceDecoder:
        number = index if isinstance(index, int) else 0
        if number not in self._choices:
            self._choices[number] = ChoiceDecoder(number, self._unfinished)
        return self._choices[number]

    def _aside(self, chunk: Chunk, data: bytes, raw: bytes | None, out: list[Event]) -> None:
        """What stands beside the choices."""
        for name in ("prompt_filter_results", "prompt_progress", "timings", "moderation"):
            payload = getattr(chunk, name)
            if payload:
                out.append(Status(status=name, payload=payload, raw=raw))
        self._cite(chunk, raw, out)
        groq: dict[str, Any] = chunk.x_groq if is_object(chunk.x_groq) else {}
        self._report(chunk.usage or groq.get("usage"), raw, out)
        if chunk.error:
            raise classify(status=None, body=data)
        if groq.get("error"):  # why it stopped early
            raise classify(status=None, body=msgspec.json.encode({"error": groq["error"]}))

    def _of_choice(self, choice: Choice, raw: bytes | None, out: list[Event]) -> None:
        """What some servers put inside a choice."""
        self._report(choice.usage, raw, out)
        if choice.error:
            raise classify(status=None, body=msgspec.json.encode({"error": choice.error}))

    def _report(self, usage: Any, raw: bytes | None, out: list[Event]) -> None:
        """A usage report, unless it says the same as the last."""
        if not usage or usage == self._usage:
            return
        if not is_object(usage):
            out.append(Raw(name="usage", payload=usage, raw=raw))
            return
        self._usage = usage
        self._usage_is_final = self._has_finished()
        out.append(self._usage_event(usage, raw))

    def _usage_event(self, usage: dict[str, Any], raw: bytes | None) -> UsageReported:
        read = read_usage(
            usage,
            provenance="reported" if self._usage_is_final else "partial",
            reasoning_in_output=self._quirks.reasoning_in_output,
        )
        return UsageReported(usage=read, raw=raw)

    def _cite(self, chunk: Chunk, raw: bytes | None, out: list[Event]) -> None:
        """Sources named beside the choices (Perplexity, xAI), which are repeated with every chunk."""
        results: list[Any] = chunk.search_results if is_list(chunk.search_results) else []
        by_url = {_text(result.get("url")): result for result in results if is_object(result)}
        urls: list[Any] = chunk.citations if is_list(chunk.citations) else []
        for url in [*urls, *by_url]:
            if isinstance(url, str) and url and url not in self._cited:
                self._cited.add(url)
                self._new_choice(0).cite(url, by_url.get(url), raw, out)

    def _unread(self, data: bytes, raw: bytes | None, out: list[Event]) -> None:
        """A chunk that said nothing that we know: what else is in its deltas is kept."""
        for choice in msgspec.json.decode(data)["choices"]:
            delta = choice.get("delta")
            for name, value in delta.items() if is_object(delta) else ():
                if name not in _READ and _says_something(value):
                    out.append(Raw(name=name, payload=value, raw=raw))

    def _other(self, event: str, data: bytes, raw: bytes | None, out: list[Event]) -> None:
        """A payload without choices, or of another shape."""
        words = data.strip()
        if words == b"[DONE]":
            self._finish("done", raw, out)
            return
        if not words:
            return
        payload: Any = msgspec.json.decode(data)
        name = event
        if is_object(payload):
            kind = _text(payload.get("type")) or _text(payload.get("object"))
            if payload.get("error") or "error" in (payload.get("type"), payload.get("object")):
                raise classify(status=None, body=data)
            name = event or kind
        out.append(Raw(name=name, payload=payload, raw=raw))

    def _has_finished(self) -> bool:
        """Whether each choice has its ``finish_reason``."""
        return bool(self._choices) and not self._unfinished

    def _finish(self, mark: Evidence | None, raw: bytes | None, out: list[Event]) -> None:
        """The answer ends here: at the mark, or with the body."""
        choices = [choice for _, choice in sorted(self._choices.items())]
        evidence = {mark}
        if self._has_finished():
            evidence.add("finish")
        elif self._usage is not None and not any(choice.calls.cut for choice in choices):
            evidence.add("usage")
        if evidence.isdisjoint(self._quirks.terminal):
            if any(choice.calls.open for choice in choices):
                raise ToolCallIncomplete("the stream ended in the middle of a tool call")
            raise StreamIncomplete("the stream ended without a finish_reason" + (" or [DONE]" if mark is None else ""))
        for choice in choices:
            choice.end(raw, out)
        if self._usage is not None and not self._usage_is_final:
            self._usage_is_final = True
            out.append(self._usage_event(self._usage, raw))
        words = {choice.index: choice.finish for choice in choices if choice.finish}
        word = next(iter(words.values()), "")
        out.append(
            Finished(
                reason=finish_reason(word),
                raw_reason=word,
                raw_reasons=words if len(choices) > 1 else {},
                raw=raw,
            )
        )
        self.finished = True


def _says_something(value: Any) -> bool:
    """Whether it is text, or an array or object with something in it: vendors number and annotate their empty deltas."""
    return any(value.values()) if is_object(value) else (is_list(value) or isinstance(value, str)) and len(value) > 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
