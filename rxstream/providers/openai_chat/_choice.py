"""One choice of Chat Completions: what each field of its deltas means."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from rxstream.events import (
    Citation,
    Event,
    FinishReason,
    Logprobs,
    Media,
    Raw,
    RefusalDelta,
    ServerTool,
    Status,
    TextDelta,
    ThinkingDelta,
    ThinkingSignature,
)
from rxstream.providers._shared import PartNumbers, is_list, is_object
from rxstream.providers.openai_chat._payload import Choice, Delta
from rxstream.providers.openai_chat._tools import ToolCalls

__all__ = ["ChoiceDecoder", "finish_reason"]

_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "completed": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "recitation": "content_filter",
    "refusal": "refusal",
    "pause": "pause",
    "pause_turn": "pause",
    "error": "error",
    "network_error": "error",
    "insufficient_system_resource": "error",
}


def finish_reason(word: str) -> FinishReason:
    """The provider's word in our vocabulary."""
    return _REASONS.get(word.lower(), "other")


class ChoiceDecoder:
    """Turns the deltas of one choice into events.

    Args:
        index: The choice's number.
        unfinished: The choices that have no ``finish_reason`` yet; this one is among them until it has.
    """

    def __init__(self, index: int, unfinished: set[int]) -> None:
        self.index = index
        self._unfinished = unfinished
        unfinished.add(index)
        self.finish = ""
        """The provider's word for why it ended; empty while it has not."""
        self.parts = PartNumbers()
        self.calls = ToolCalls(index, self.parts)
        self._text_part = -1
        self._has_deltas = False
        self._legacy = False  # the calls come as ``function_call``
        self._images = 0
        self._filter: Any = None
        self._executed: set[object] = set()

    def add(self, choice: Choice, raw: bytes | None, out: list[Event]) -> None:
        """Takes what one chunk says of the choice."""
        delta = choice.delta
        if isinstance(delta, Delta):
            self._has_deltas = True
            self._delta(delta, raw, out)
        elif not self._has_deltas:
            self._whole(choice, raw, out)
        if choice.logprobs is not None:
            self._logprobs(choice.logprobs, raw, out)
        if choice.content_filter_results and choice.content_filter_results != self._filter:  # it comes with every chunk
            self._filter = choice.content_filter_results
            out.append(Status(status="content_filter_results", payload=self._filter, raw=raw))
        word = choice.finish_reason
        if word and isinstance(word, str):
            self.finish = word
            self._unfinished.discard(self.index)
            self.calls.settle(raw, out)

    def end(self, raw: bytes | None, out: list[Event]) -> None:
        """The stream ended: seals the tool calls, unless they may have been cut."""
        self.calls.end(raw, out, sure=finish_reason(self.finish) in ("stop", "tool_calls"))

    def text_part(self) -> int:
        """The part that the text is."""
        if self._text_part < 0:
            self._text_part = self.parts.number("text")
        return self._text_part

    def _whole(self, choice: Choice, raw: bytes | None, out: list[Event]) -> None:
        """A choice without a delta: servers that send the message in one piece, or text alone."""
        if isinstance(choice.message, Delta):
            self._delta(choice.message, raw, out)
        else:
            self._content(choice.message or choice.delta or choice.text or [], raw, out)

    def _delta(self, delta: Delta, raw: bytes | None, out: list[Event]) -> None:
        if (
            delta.reasoning_content
            or delta.reasoning
            or delta.reasoning_details
            or delta.reasoning_text
            or delta.reasoning_opaque
            or delta.thinking
            or delta.thinking_blocks
        ):
            self._reasoning(delta, raw, out)
        text = delta.content
        if text:
            if isinstance(text, str):
                part = self._text_part if self._text_part >= 0 else self.text_part()
                out.append(TextDelta(choice=self.index, part=part, text=text, raw=raw))
            else:
                self._content(text, raw, out)
        if delta.tool_calls:
            entries: Any = delta.tool_calls
            for entry in entries if is_list(entries) else [entries]:
                self.calls.add(entry, raw, out)
        if (
            delta.refusal
            or delta.function_call
            or delta.audio
            or delta.images
            or delta.annotations
            or delta.executed_tools
        ):
            self._rare(delta, raw, out)

    def _rare(self, delta: Delta, raw: bytes | None, out: list[Event]) -> None:
        if delta.refusal:
            self._refusal(delta.refusal, raw, out)
        if delta.function_call and not (delta.tool_calls or (self.calls.begun and not self._legacy)):
            self._legacy = True
            self.calls.add(delta.function_call, raw, out)
        if is_object(delta.audio):
            self._audio(delta.audio, raw, out)
        if is_list(delta.images):
            for image in delta.images:
                self._image(image, raw, out)
        if is_list(delta.annotations):
            for annotation in delta.annotations:
                self._annotation(annotation, raw, out)
        if is_list(delta.executed_tools):
            for number, tool in enumerate(delta.executed_tools):
                self._executed_tool(number, tool, raw, out)

    def _refusal(self, text: Any, raw: bytes | None, out: list[Event]) -> None:
        if isinstance(text, str):
            out.append(RefusalDelta(choice=self.index, part=self.parts.number("refusal"), text=text, raw=raw))
        else:
            out.append(Raw(name="refusal", payload=text, raw=raw))

    def _content(self, content: Any, raw: bytes | None, out: list[Event]) -> None:
        """Content as a list of typed parts (Mistral, Databricks), or of another shape than text."""
        for item in content if is_list(content) else [content]:
            kind: Any = item.get("type") if is_object(item) else None
            if isinstance(item, str):
                if item:
                    out.append(TextDelta(choice=self.index, part=self.text_part(), text=item, raw=raw))
            elif kind in ("text", "output_text") and isinstance(item.get("text"), str):
                self._content(item["text"], raw, out)
            elif kind in ("thinking", "reasoning"):
                self._thinking_part(item, raw, out)
            elif kind == "refusal":
                self._refusal(item.get("refusal"), raw, out)
            elif kind == "reference":
                self._cite(kind, {}, item, raw, out)
            elif kind == "image_url":
                self._image(item, raw, out)
            else:
                out.append(Raw(name=kind if isinstance(kind, str) else "content", payload=item, raw=raw))

    def _thinking_part(self, item: dict[str, Any], raw: bytes | None, out: list[Event]) -> None:
        for name in ("thinking", "text", "reasoning", "summary"):
            value = item.get(name)
            for piece in value if is_list(value) else [value]:
                text = piece.get("text") if is_object(piece) else piece
                self._think(text, 0, raw, out, summary=name == "summary")
                if is_object(piece):
                    self._sign(piece.get("signature"), 0, raw, out)
        self._sign(item.get("signature"), 0, raw, out)

    def _reasoning(self, delta: Delta, raw: bytes | None, out: list[Event]) -> None:
        """Reasoning, whichever fields it comes in; servers send the same text in two or three of them."""
        said = self._reasoning_details(delta.reasoning_details, raw, out)
        for text in (delta.reasoning_content, delta.reasoning, delta.reasoning_text, delta.thinking):
            if isinstance(text, str):
                if text not in said:
                    said.add(text)
                    self._think(text, 0, raw, out)
            elif text:
                out.append(Raw(name="reasoning", payload=text, raw=raw))
        if delta.thinking_blocks:
            self._thinking_blocks(delta.thinking_blocks, said, raw, out)
        if isinstance(delta.reasoning_opaque, str):  # Copilot's seal of all of it
            self._sign(delta.reasoning_opaque, 0, raw, out, kind="encrypted")

    def _thinking_blocks(self, blocks: Any, said: set[str], raw: bytes | None, out: list[Event]) -> None:
        """LiteLLM's copy of Anthropic's blocks: mostly it is the signature that is new in it."""
        for block in blocks if is_list(blocks) else [blocks]:
            if not is_object(block):
                out.append(Raw(name="thinking_blocks", payload=block, raw=raw))
                continue
            if (text := block.get("thinking")) not in said:
                self._think(text, 0, raw, out)
            self._sign(block.get("signature"), 0, raw, out)
            self._sign(block.get("data"), 0, raw, out, kind="redacted")

    def _reasoning_details(self, details: Any, raw: bytes | None, out: list[Event]) -> set[str]:
        """OpenRouter's list of typed entries. Returns the texts that it held, each and in one."""
        texts: list[str] = []
        for detail in details if is_list(details) else [details] if details else []:
            kind = detail.get("type") if is_object(detail) else None
            if kind not in ("reasoning.text", "reasoning.summary", "reasoning.encrypted"):
                out.append(Raw(name=kind if isinstance(kind, str) else "reasoning_details", payload=detail, raw=raw))
                continue
            index = detail.get("index")
            number = index if isinstance(index, int) else 0
            text = detail.get("summary" if kind == "reasoning.summary" else "text")
            if isinstance(text, str):
                texts.append(text)
                self._think(text, number, raw, out, summary=kind == "reasoning.summary")
            self._sign(detail.get("signature"), number, raw, out)
            if isinstance(data := detail.get("data"), str) and data:
                part = self.parts.number(("encrypted", number, str(detail.get("id"))))
                out.append(ThinkingSignature(choice=self.index, part=part, data=data, kind="encrypted", raw=raw))
        return {*texts, "".join(texts)}

    def _think(self, text: Any, number: int, raw: bytes | None, out: list[Event], *, summary: bool = False) -> None:
        if isinstance(text, str) and text:
            part = self.parts.number(("thinking", number))
            kind: Any = "summary" if summary else "full"
            out.append(ThinkingDelta(choice=self.index, part=part, text=text, kind=kind, raw=raw))

    def _sign(
        self,
        data: Any,
        number: int,
        raw: bytes | None,
        out: list[Event],
        *,
        kind: Literal["signature", "redacted", "encrypted"] = "signature",
    ) -> None:
        if isinstance(data, str) and data:
            part = self.parts.number(("thinking", number))
            out.append(ThinkingSignature(choice=self.index, part=part, data=data, kind=kind, raw=raw))

    def _audio(self, audio: dict[str, Any], raw: bytes | None, out: list[Event]) -> None:
        part = self.parts.number("audio")
        audio_id = audio.get("id")
        name = audio_id if isinstance(audio_id, str) else ""
        if isinstance(data := audio.get("data"), str) and data:
            out.append(Media(choice=self.index, part=part, kind="audio", data=data, id=name, raw=raw))
        if isinstance(transcript := audio.get("transcript"), str) and transcript:
            out.append(Media(choice=self.index, part=part, kind="transcript", data=transcript, id=name, raw=raw))

    def _image(self, image: Any, raw: bytes | None, out: list[Event]) -> None:
        source = image.get("image_url") if is_object(image) else None
        url = source.get("url") if is_object(source) else source
        if isinstance(url, str) and url.startswith("data:") and ";base64," in url:
            media_type, _, data = url.removeprefix("data:").partition(";base64,")
            part = self.parts.number(("image", self._images))
            self._images += 1
            out.append(Media(choice=self.index, part=part, kind="image", data=data, media_type=media_type, raw=raw))
        else:
            out.append(Raw(name="image", payload=image, raw=raw))

    def _annotation(self, annotation: Any, raw: bytes | None, out: list[Event]) -> None:
        kind = annotation.get("type") if is_object(annotation) else None
        if not isinstance(kind, str):
            out.append(Raw(name="annotations", payload=annotation, raw=raw))
            return
        inner = annotation.get(kind)
        self._cite(kind, inner if is_object(inner) else annotation, annotation, raw, out)

    def cite(self, url: str, result: dict[str, Any] | None, raw: bytes | None, out: list[Event]) -> None:
        """A source named beside the choices, with what is known of it."""
        self._cite("citation" if result is None else "search_result", {"url": url, **(result or {})}, result, raw, out)

    def _cite(self, kind: str, about: dict[str, Any], payload: Any, raw: bytes | None, out: list[Event]) -> None:
        words = {name: value for name, value in about.items() if isinstance(value, str)}
        places = {name: value for name, value in about.items() if isinstance(value, int)}
        out.append(
            Citation(
                choice=self.index,
                part=self.text_part(),
                kind=kind,
                url=words.get("url", ""),
                title=words.get("title", ""),
                cited_text=words.get("content") or words.get("snippet", ""),
                start=places.get("start_index"),
                end=places.get("end_index"),
                payload=payload,
                raw=raw,
            )
        )

    def _executed_tool(self, number: int, tool: Any, raw: bytes | None, out: list[Event]) -> None:
        """Groq's own tools: first with their arguments, then once more with what came out."""
        if not is_object(tool):
            out.append(Raw(name="executed_tools", payload=tool, raw=raw))
            return
        index = tool.get("index")
        key = ("executed", index if isinstance(index, int) else number)
        part, name, arguments = self.parts.number(key), tool.get("type"), tool.get("arguments")
        name = name if isinstance(name, str) else ""
        arguments = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
        if key not in self._executed:
            self._executed.add(key)
            out.append(ServerTool(choice=self.index, part=part, name=name, step="call", arguments=arguments, raw=raw))
        if tool.keys() - {"index", "type", "name", "arguments"}:
            out.append(ServerTool(choice=self.index, part=part, name=name, step="result", payload=tool, raw=raw))

    def _logprobs(self, logprobs: Any, raw: bytes | None, out: list[Event]) -> None:
        if not is_object(logprobs) or not logprobs.keys() <= {"content", "refusal"}:
            out.append(Raw(name="logprobs", payload=logprobs, raw=raw))
            return
        if is_list(content := logprobs.get("content")) and content:
            out.append(Logprobs(choice=self.index, part=self.text_part(), content=content, raw=raw))
        if is_list(refusal := logprobs.get("refusal")) and refusal:
            part = self.parts.number("refusal")
            out.append(Logprobs(choice=self.index, part=part, content=refusal, refusal=True, raw=raw))
