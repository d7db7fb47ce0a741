"""The events that a model's stream is made of.

Rules of this module:

* An event is a frozen, keyword-only ``msgspec.Struct``. Nobody subclasses one, nobody changes one.
* ``Event`` is their tagged union; ``type`` is the tag on the wire, so a list of events is plain JSON Lines
  (`encode`, `decode`).
* An event says what the provider said. What it means for the answer as a whole is `rxstream.aggregate`'s business.
* What we do not know becomes `Raw`. Nothing received is dropped, nothing is given a type that it does not have.

The grammar of one stream is ``Started? event* Finished``, then ``on_completed``; or ``on_error`` with a
`rxstream.errors.StreamError` that holds all that arrived.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from rxstream.usage import Usage

__all__ = [
    "CONTENT_EVENTS",
    "Cancelled",
    "Citation",
    "ErrorInfo",
    "Event",
    "EventBase",
    "Failed",
    "FinishReason",
    "Finished",
    "Heartbeat",
    "Logprobs",
    "Media",
    "PartEnd",
    "Phase",
    "RateLimits",
    "Raw",
    "RefusalDelta",
    "Retracted",
    "Retrying",
    "Seam",
    "ServerTool",
    "Started",
    "Status",
    "TextDelta",
    "ThinkingDelta",
    "ThinkingSignature",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallStart",
    "UsageReported",
    "decode",
    "encode",
    "is_content",
]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "error", "other"]
"""Why the model stopped, in one vocabulary for all providers; their own word is kept beside it as ``raw_reason``."""

Phase = Literal["request", "connect", "first_event", "first_output", "output", "tool_call", "finish"]
"""How far a stream had come: ``request`` nothing sent yet; ``connect`` sent, no response headers; ``first_event``
headers, no event; ``first_output`` events, no content; ``output`` content flows; ``tool_call`` a tool call is open;
``finish`` the model said that it is done."""


class EventBase(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """What every event carries. Filled in by the source that emits it, not by the decoder that made it."""

    source: str = ""
    """Label of the track that the event belongs to."""
    attempt: int = 1
    """Which try of the request it came from, counted from 1."""
    seq: int = 0
    """Our own number of the event, without gaps within a subscription, from 0."""
    at: float = 0.0
    """When its bytes were read, in seconds of the event loop's clock."""
    raw: bytes | None = None
    """The provider's bytes behind the event (one payload may be behind several), or None where they were not kept."""


class RateLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the provider's response headers say of its limits; None where they do not."""

    requests_limit: int | None = None
    """Requests that are allowed in the provider's period, mostly a minute."""
    requests_remaining: int | None = None
    requests_reset: float | None = None
    """Seconds until all requests are there again."""
    tokens_limit: int | None = None
    """Tokens, of input and output together; where the provider counts them apart, the scarcer of the two."""
    tokens_remaining: int | None = None
    tokens_reset: float | None = None
    """Seconds until all tokens are there again."""


class Started(EventBase, frozen=True, kw_only=True, tag="started"):
    """The provider took the request and names the answer."""

    id: str = ""
    model: str = ""
    provider: str = ""
    rate_limits: RateLimits | None = None
    """Its limits, where its response headers tell them."""


class _Part(EventBase, frozen=True, kw_only=True):
    """An event of one part of one choice. `part` is ours: numbered within a choice in order of first appearance."""

    choice: int = 0
    part: int = 0


class TextDelta(_Part, frozen=True, kw_only=True, tag="text-delta"):
    """More of the answer's text."""

    text: str


class ThinkingDelta(_Part, frozen=True, kw_only=True, tag="thinking-delta"):
    """More of the model's reasoning: in ``full``, or the ``summary`` that the provider shows in its place."""

    text: str
    kind: Literal["full", "summary"] = "full"


class ThinkingSignature(_Part, frozen=True, kw_only=True, tag="thinking-signature"):
    """An opaque blob that must go back with the reasoning in the next turn.

    ``signature`` seals visible thinking, ``redacted`` and ``encrypted`` stand in its place.
    """

    data: str
    kind: Literal["signature", "redacted", "encrypted"] = "signature"


class RefusalDelta(_Part, frozen=True, kw_only=True, tag="refusal-delta"):
    """More of the text with which the model declines to answer."""

    text: str


class ToolCallStart(_Part, frozen=True, kw_only=True, tag="tool-call-start"):
    """The model begins to call a tool of ours. `id` and `name` may be empty where the provider sends them late."""

    id: str = ""
    name: str = ""


class ToolCallDelta(_Part, frozen=True, kw_only=True, tag="tool-call-delta"):
    """More of the JSON text of the arguments."""

    arguments: str


class ToolCall(_Part, frozen=True, kw_only=True, tag="tool-call"):
    """A tool call that the provider has sealed: it is whole.

    `arguments` is the text that the model wrote, JSON for a ``function``, free text for a ``custom`` tool.
    """

    id: str
    name: str
    arguments: str
    kind: Literal["function", "custom"] = "function"


class ServerTool(_Part, frozen=True, kw_only=True, tag="server-tool"):
    """A tool that the provider runs itself (web search, code execution, MCP …) starts, writes, reports or answers."""

    id: str = ""
    name: str = ""
    step: Literal["start", "delta", "call", "status", "result"]
    """``start`` it is named; ``delta`` more of its input; ``call`` its input is whole; ``status`` progress;
    ``result`` what came out, in `payload`."""
    arguments: str = ""
    """The input: the new piece for ``delta``, all of it for ``call``."""
    status: str = ""
    """The provider's word for how far it is."""
    payload: Any = None
    """The provider's JSON, as Python values."""


class Citation(_Part, frozen=True, kw_only=True, tag="citation"):
    """A source that the model names for its text."""

    kind: str = ""
    """The provider's word, such as ``url_citation`` or ``web_search_result_location``."""
    url: str = ""
    title: str = ""
    cited_text: str = ""
    start: int | None = None
    """First character of the answer's text that it stands for, where the provider says so."""
    end: int | None = None
    payload: Any = None


class Media(_Part, frozen=True, kw_only=True, tag="media"):
    """A piece of audio, of its transcript, or an image, which may be a partial one."""

    kind: Literal["audio", "transcript", "image"]
    data: str = ""
    """Base64 for audio and images, text for a transcript."""
    media_type: str = ""
    id: str = ""


class Logprobs(_Part, frozen=True, kw_only=True, tag="logprobs"):
    """Log probabilities of tokens just sent: the provider's own entries (``token``, ``logprob``, ``top_logprobs``)."""

    content: list[Any]
    refusal: bool = False


class PartEnd(_Part, frozen=True, kw_only=True, tag="part-end"):
    """The provider closed a part; nothing more comes for it."""

    kind: str = ""
    """What it was: ``text``, ``thinking``, ``refusal``, ``tool_call``, ``server_tool``, ``media``, or the provider's word."""
    text: str | None = None
    """The provider's final text of the part where it restates it *and* it differs from the sum of the deltas."""
    id: str = ""
    """The provider's id of the item, where it has one."""
    payload: dict[str, Any] | None = None
    """The provider's whole item, where the next turn must send it back and no other event can say it (a server tool's
    call and result, a compaction …). None for an item that was cut."""


class UsageReported(EventBase, frozen=True, kw_only=True, tag="usage"):
    """Token counts so far. Each report replaces the one before; they are never added up within an attempt."""

    usage: Usage


class Finished(EventBase, frozen=True, kw_only=True, tag="finished"):
    """The model is done and the provider has said so. Always the last event of a stream that completes."""

    reason: FinishReason
    raw_reason: str = ""
    """The provider's own word; empty where it ended the stream properly but gave none."""
    stop_sequence: str | None = None
    """The stop sequence that was hit, where the provider tells."""
    raw_reasons: dict[int, str] = {}
    """The provider's word for each choice, where more than one was asked for."""
    details: Any = None
    """What else the provider says of the end (``stop_details``, ``incomplete_details``)."""


class Status(EventBase, frozen=True, kw_only=True, tag="status"):
    """Progress that carries no content: ``queued``, ``in_progress``, a prompt's progress, a moderation result …"""

    status: str
    payload: Any = None


class Heartbeat(EventBase, frozen=True, kw_only=True, tag="heartbeat"):
    """A ping or a comment line: the connection lives. It is not progress and re-arms no output clock."""

    comment: str = ""


class Retracted(EventBase, frozen=True, kw_only=True, tag="retracted"):
    """Text already delivered is withdrawn: keep the first `to_offset` characters of attempt `attempt`, no more."""

    to_offset: int = 0


class Seam(EventBase, frozen=True, kw_only=True, tag="seam"):
    """From here on the text comes from another attempt that was asked to go on where the last one was cut."""

    kind: Literal["prefill", "user_message", "resume"]
    offset: int
    """Characters of text before the seam."""
    verified: bool = False
    """True only where the provider guarantees that nothing is missing or doubled at the seam."""


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A `rxstream.errors.StreamError` as data: what it says, without its traceback and its partial answer."""

    kind: str
    """Name of the error class."""
    message: str
    phase: Phase = "request"
    provider: str = ""
    model: str = ""
    status: int | None = None
    code: str = ""
    retryable: bool = False
    retry_after: float | None = None
    clock: str = ""


class Failed(EventBase, frozen=True, kw_only=True, tag="failed"):
    """A track of a combined stream has failed; the others go on."""

    error: ErrorInfo


class Retrying(EventBase, frozen=True, kw_only=True, tag="retrying"):
    """An attempt, that of this event, has failed; another one will be made."""

    error: ErrorInfo
    delay: float = 0.0
    """Seconds until it is made."""
    how: Literal["again", "resume", "restart", "continue"] = "again"
    """``again`` before any content was delivered; ``resume`` exactly where it was cut; ``restart`` from the start, so that
    what was said will be retracted; ``continue`` the model is asked to go on."""


class Cancelled(EventBase, frozen=True, kw_only=True, tag="cancelled"):
    """A track of a combined stream was cancelled; the others go on."""

    reason: str = ""


class Raw(EventBase, frozen=True, kw_only=True, tag="raw"):
    """Something that the provider sent and that we have no type for."""

    name: str = ""
    """The provider's name for it, where there is one."""
    payload: Any = None
    """Its JSON as Python values, or its text where it is not JSON."""


Event = (
    Started
    | TextDelta
    | ThinkingDelta
    | ThinkingSignature
    | RefusalDelta
    | ToolCallStart
    | ToolCallDelta
    | ToolCall
    | ServerTool
    | Citation
    | Media
    | Logprobs
    | PartEnd
    | UsageReported
    | Finished
    | Status
    | Heartbeat
    | Retracted
    | Seam
    | Failed
    | Retrying
    | Cancelled
    | Raw
)
"""Any event. `match` on it and end with ``assert_never``."""

CONTENT_EVENTS: Final = (
    TextDelta,
    ThinkingDelta,
    RefusalDelta,
    ToolCallStart,
    ToolCallDelta,
    ToolCall,
    ServerTool,
    Media,
)
"""The events that are output: they end the wait for a first output, re-arm the idle clock, and are the commit point."""

_CONTENT: Final = frozenset(CONTENT_EVENTS)


def is_content(event: Event) -> bool:
    """Whether the event is content, and so the commit point of an answer that had none: an empty text is none."""
    return type(event) in _CONTENT and getattr(event, "text", None) != ""


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """One event as one line of JSON, without the newline."""
    return _encoder.encode(event)


def decode(line: bytes | str) -> Event:
    """The event that `encode` wrote.

    Raises:
        msgspec.ValidationError: the JSON is not one of our events.
        msgspec.DecodeError: the line is not JSON.
    """
    return _decoder.decode(line)
