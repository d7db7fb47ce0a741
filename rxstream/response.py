"""The answer as a whole: what a user keeps of a stream."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from rxstream.events import FinishReason
from rxstream.messages import Message, Part, RefusalPart, TextPart, ThinkingPart, ToolCall
from rxstream.usage import Usage

__all__ = ["Choice", "CitationRecord", "MediaRecord", "Response", "ServerToolCall"]


def _usage(value: Any) -> Any:
    return msgspec.convert(value, Usage) if isinstance(value, dict) else value


def _plain(usage: Usage) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(usage).items() if value is not None}


_UsageField = Annotated[
    Usage, BeforeValidator(_usage), PlainSerializer(_plain)
]  # so that a response can be kept as JSON


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, defer_build=True)


class CitationRecord(_Record):
    """A source that the model named."""

    kind: str = ""
    url: str = ""
    title: str = ""
    cited_text: str = ""
    start: int | None = None
    end: int | None = None
    payload: Any = None


class ServerToolCall(_Record):
    """A tool that the provider ran itself."""

    id: str = ""
    name: str = ""
    arguments: str = ""
    status: str = ""
    result: Any = None


class MediaRecord(_Record):
    """Audio or an image, whole: base64 `data`, and the `transcript` of audio."""

    kind: str
    data: str = ""
    media_type: str = ""
    transcript: str = ""
    id: str = ""


class Choice(_Record):
    """One of the answers, where several were asked for; the fields of `Response` are those of the first."""

    index: int = 0
    parts: list[Part] = Field(default_factory=list[Part])
    """Everything said, in order of first appearance."""
    citations: list[CitationRecord] = Field(default_factory=list[CitationRecord])
    server_tools: list[ServerToolCall] = Field(default_factory=list[ServerToolCall])
    media: list[MediaRecord] = Field(default_factory=list[MediaRecord])
    logprobs: list[Any] = Field(default_factory=list[Any])
    raw_finish_reason: str | None = None

    @property
    def text(self) -> str:
        """The text of the answer."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def thinking(self) -> str:
        """The reasoning, in full or in summary, as the provider shows it."""
        return "".join(part.text for part in self.parts if isinstance(part, ThinkingPart))

    @property
    def refusal(self) -> str | None:
        """The text with which the model declined, or None."""
        said = [part.text for part in self.parts if isinstance(part, RefusalPart)]
        return "".join(said) if said else None

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Calls of your tools, in order; one that was cut has ``complete=False``."""
        return [part for part in self.parts if isinstance(part, ToolCall)]


class Response(_Record):
    """What a stream came to; partial if it is found on an error."""

    id: str = ""
    model: str = ""
    provider: str = ""
    choices: list[Choice] = Field(default_factory=list[Choice])
    finish_reason: FinishReason | None = None
    """Why it ended, in our words; None if it did not end."""
    raw_finish_reason: str | None = None
    """… in the provider's."""
    stop_sequence: str | None = None
    usage: _UsageField = Usage()
    attempts: int = 1
    """How many requests it took."""

    @property
    def _first(self) -> Choice:
        return self.choices[0] if self.choices else Choice()

    @property
    def text(self) -> str:
        """The text of the answer."""
        return self._first.text

    @property
    def thinking(self) -> str:
        """The reasoning, in full or in summary, as the provider shows it."""
        return self._first.thinking

    @property
    def refusal(self) -> str | None:
        """The text with which the model declined, or None."""
        return self._first.refusal

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Calls of your tools, in order; one that was cut has ``complete=False``."""
        return self._first.tool_calls

    @property
    def citations(self) -> list[CitationRecord]:
        """Sources that the model named."""
        return self._first.citations

    @property
    def server_tools(self) -> list[ServerToolCall]:
        """Tools that the provider ran itself."""
        return self._first.server_tools

    @property
    def media(self) -> list[MediaRecord]:
        """Audio and images."""
        return self._first.media

    @property
    def parts(self) -> list[Part]:
        """Everything said, in order of first appearance."""
        return self._first.parts

    def message(self) -> Message:
        """The answer as the assistant's turn, to send back with the next question; calls that were cut are left out."""
        kept: list[Part] = [part for part in self.parts if not (isinstance(part, ToolCall) and not part.complete)]
        return Message(role="assistant", content=kept)

    def __str__(self) -> str:
        """The text."""
        return self.text
